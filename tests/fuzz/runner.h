/* What runs a stateful fuzzer: each is one function that takes an input and does all that it says, with the machine's
 * invariants checked after every step; a finding ends the program.
 *
 *     fuzz_X [FOLDER]                     every input of the corpus, then some random ones, the same in each run
 *     fuzz_X --messages N [FOLDER]        random ones until the machine has taken N messages or events
 *     fuzz_X --seed S                     other ones
 *     fuzz_X FILE                         this input only: a finding, or for afl-fuzz (`fuzz_X @@`)
 *     fuzz_X --show FILE                  prints what is said and done
 *
 * Half of the random ones are inputs of the corpus that were damaged or spliced. The input of a finding is kept in a
 * file whose name is printed. Built by `scons mode=fuzz` the programs are libFuzzer's, which searches by coverage:
 *
 *     scons mode=fuzz build/fuzz/tests/fuzz/fuzz_sched
 *     build/fuzz/tests/fuzz/fuzz_sched -max_len=2048 SCRATCH tests/fuzz/corpus/sched
 *     build/fuzz/tests/fuzz/fuzz_sched -merge=1 tests/fuzz/corpus/sched SCRATCH        keeps what is new and small */
#ifndef TESTS_FUZZ_RUNNER_H
#define TESTS_FUZZ_RUNNER_H

#include <stddef.h>
#include <stdint.h>

/* Of each fuzzer. 0: always. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One more message or event has been taken. */
void fuzz_count(void);
/* With --show: a line on standard error. */
void fuzz_show(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The program's main. `messages`: of random inputs in an ordinary run. */
int fuzz_main(int argc, char **argv, const char *name, uint64_t messages);

#endif
