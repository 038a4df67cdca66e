/* The simulator: the scheduler's and the workers' machines against a serial oracle under seeded faults.
 *
 *     test_sim                      2,500 seeds, one test for each kind of world; fewer under a sanitizer
 *     test_sim --seeds A..B         these seeds, on --jobs N processes (all processors), up to the first that fails
 *                                   on each, or --all
 *     test_sim --seed N [--verbose] one seed again, with a trace of all that happens
 *
 * tests/run: one thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/world.h"

/* Of an ordinary run, for each kind of world. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS_EACH 40
#else
#define SEEDS_EACH 250
#endif
#define SEED_LIMIT_S 30 /* processor time of one seed: beyond it a machine is taken to loop */

static void say_replay(enum sim_profile profile, uint64_t seed)
{
    (void)fprintf(stderr, "sim: seed %" PRIu64 " fails; once more with: test_sim --seed %" PRIu64 "%s%s --verbose\n", seed,
                  seed, profile == SIM_ANY ? "" : " --profile ", profile == SIM_ANY ? "" : sim_profile_names[profile]);
}

static bool find_profile(const char *name, enum sim_profile *profile)
{
    for (*profile = SIM_CALM; *profile < SIM_ANY; (*profile)++) {
        if (strcmp(name, sim_profile_names[*profile]) == 0) {
            return true;
        }
    }
    return false;
}

/* Run seeds first, first + step, … below end in a process of its own, which a failed assertion ends.
 * The pipe tells which seed is under way. */
static pid_t start(enum sim_profile profile, uint64_t first, uint64_t end, uint64_t step, int *report)
{
    int ends[2];
    (void)fflush(stdout);
    (void)fflush(stderr);
    if (pipe(ends) != 0) {
        return -1;
    }
    pid_t child = fork();
    if (child != 0) {
        (void)close(ends[1]);
        *report = ends[0];
        return child;
    }
    (void)close(ends[0]);
    for (uint64_t seed = first; seed < end; seed += step) {
        (void)setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = SEED_LIMIT_S}, NULL);
        if (write(ends[1], &seed, sizeof seed) != (ssize_t)sizeof seed) {
            _exit(2);
        }
        sim_run(seed, profile, false, NULL);
    }
    (void)close(ends[1]);
    exit(0);
}

/* True when all went well; else *failed is the seed that did not. */
static bool finish(pid_t child, int report, uint64_t *failed)
{
    uint64_t seed = 0;
    int status = 0;
    while (read(report, &seed, sizeof seed) == (ssize_t)sizeof seed) {
        *failed = seed;
    }
    (void)close(report);
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* With `all`, the seeds that come after one that fails are run as well. */
static int run_seeds(enum sim_profile profile, uint64_t first, uint64_t end, uint64_t jobs, bool all)
{
    pid_t children[64];
    int reports[64];
    uint64_t lowest = UINT64_MAX;
    jobs = jobs > 64 ? 64 : jobs;
    for (uint64_t j = 0; j < jobs; j++) {
        children[j] = start(profile, first + j, end, jobs, &reports[j]);
    }
    for (uint64_t j = 0; j < jobs; j++) {
        uint64_t failed = end;
        while (!finish(children[j], reports[j], &failed)) {
            say_replay(profile, failed);
            lowest = failed < lowest ? failed : lowest;
            if (!all || failed + jobs >= end) {
                break;
            }
            children[j] = start(profile, failed + jobs, end, jobs, &reports[j]);
        }
    }
    if (lowest != UINT64_MAX) {
        (void)printf("failed at seed %" PRIu64 "\n", lowest);
        return 1;
    }
    (void)printf("seeds %" PRIu64 "..%" PRIu64 ": all passed\n", first, end - 1);
    return 0;
}

static void run_profile(void **state)
{
    uint64_t profile = *(const uint64_t *)*state, failed = 0;
    int report = -1;
    pid_t child = start(SIM_ANY, profile, profile + (uint64_t)SIM_PROFILES * SEEDS_EACH, SIM_PROFILES, &report);
    bool good = child > 0 && finish(child, report, &failed);
    if (!good) {
        say_replay(SIM_ANY, failed);
    }
    assert_true(good);
}

static void run_own(enum sim_profile profile)
{
    uint64_t failed = 0;
    int report = -1;
    pid_t child = start(profile, 0, SEEDS_EACH, 1, &report);
    bool good = child > 0 && finish(child, report, &failed);
    if (!good) {
        say_replay(profile, failed);
    }
    assert_true(good);
}

static void run_tight(void **state)
{
    (void)state;
    run_own(SIM_TIGHT);
}

static void run_full(void **state)
{
    (void)state;
    run_own(SIM_FULL);
}

static void run_devices(void **state)
{
    (void)state;
    run_own(SIM_DEVICES);
}

static void run_twice(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 2 * SIM_PROFILES; seed++) {
        uint64_t first = 0, second = 1;
        sim_run(seed, SIM_ANY, false, &first);
        sim_run(seed, SIM_ANY, false, &second);
        assert_int_equal(first, second);
    }
}

static int run_ordinary(void)
{
    static uint64_t numbers[SIM_PROFILES];
    struct CMUnitTest tests[SIM_PROFILES + 4];
    for (uint64_t p = 0; p < SIM_PROFILES; p++) {
        numbers[p] = p;
        tests[p] = (struct CMUnitTest){.name = sim_profile_names[p], .test_func = run_profile,
                                       .initial_state = &numbers[p]};
    }
    tests[SIM_PROFILES] = (struct CMUnitTest)cmocka_unit_test(run_tight);
    tests[SIM_PROFILES + 1] = (struct CMUnitTest)cmocka_unit_test(run_devices);
    tests[SIM_PROFILES + 2] = (struct CMUnitTest)cmocka_unit_test(run_full);
    tests[SIM_PROFILES + 3] = (struct CMUnitTest)cmocka_unit_test(run_twice);
    return cmocka_run_group_tests_name("sim", tests, NULL, NULL);
}

static int usage(void)
{
    (void)fprintf(stderr, "Usage: test_sim [--seeds A..B [--jobs N] [--all] | --seed N [--verbose]] "
                          "[--profile NAME]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t first = 0, last = 0, jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    enum sim_profile profile = SIM_ANY;
    bool range = false, one = false, verbose = false, all = false;
    for (int a = 1; a < argc; a++) {
        if (strcmp(argv[a], "--seeds") == 0 && a + 1 < argc) {
            range = sscanf(argv[++a], "%" SCNu64 "..%" SCNu64, &first, &last) == 2 && first <= last;
        } else if (strcmp(argv[a], "--seed") == 0 && a + 1 < argc) {
            one = sscanf(argv[++a], "%" SCNu64, &first) == 1;
        } else if (strcmp(argv[a], "--jobs") == 0 && a + 1 < argc) {
            jobs = strtoull(argv[++a], NULL, 10);
        } else if (strcmp(argv[a], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[a], "--all") == 0) {
            all = true;
        } else if (strcmp(argv[a], "--profile") == 0 && a + 1 < argc) {
            if (!find_profile(argv[++a], &profile)) {
                return usage();
            }
        } else {
            return usage();
        }
    }
    if (one) {
        sim_run(first, profile, verbose, NULL);
        (void)printf("seed %" PRIu64 " passed\n", first);
        return 0;
    }
    return range ? run_seeds(profile, first, last + 1, jobs > 0 ? jobs : 1, all) : argc == 1 ? run_ordinary() : usage();
}
