/* Command lines of the bench programs: a table of options, sizes with units, times on the monotonic clock. */
#ifndef TESTS_BENCH_OPTIONS_H
#define TESTS_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_kind {
    BENCH_NUMBER, /* int64_t, positive */
    BENCH_BYTES,  /* int64_t, positive: 4096, 64KiB, 1MiB, 1GiB */
    BENCH_TEXT,   /* const char *, borrowed from argv */
    BENCH_FLAG,   /* bool, without a value */
};

struct bench_option {
    const char *name; /* "--n" */
    enum bench_kind kind;
    void *value;
    const char *help;
};

/* Fill the values from the command line. Prints `purpose` and the table and exits for --help (0) and for
 * anything that it does not understand (2). */
void bench_options_parse(int argc, char **argv, const char *purpose, const struct bench_option *options,
                         size_t option_count);

/* "error: …" on standard error, then exit 1. */
void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

double bench_seconds_now(void);

#endif
