/* Independent tasks that sleep, and what the best schedule of them would take.
 *
 * tests/bench/balance starts the workers: one that sleeps four times as long as it should, or one that joins half way.
 * Prints `submitted TIME` (seconds on the monotonic clock) when the graph has gone out, for the script to act on; the
 * last line tells when it began and ended, the sum of the durations and the longest. */
#include <stdio.h>

#include "client/session.h"
#include "tests/bench/graph.h"
#include "tests/bench/options.h"

int main(int argc, char **argv)
{
    const char *scheduler = NULL;
    int64_t tasks = 2000, nanoseconds = 2000000, spread_percent = 0, workers = 2;
    bool even = false;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (2)"},
        {"--tasks", BENCH_NUMBER, &tasks, "(2000)"},
        {"--nanoseconds", BENCH_NUMBER, &nanoseconds, "each task sleeps, in the mean (2000000)"},
        {"--spread", BENCH_NUMBER, &spread_percent, "of the logarithm of the durations, percent (none: all are equal)"},
        {"--known", BENCH_FLAG, &even, "run one such task for each worker before, so that its time is known"},
    };
    bench_options_parse(argc, argv, "Times independent tasks that sleep.", options, sizeof options / sizeof options[0]);
    tess_session *session = bench_session_open(scheduler, workers, (uint32_t)workers);
    struct tessi_layer *layer = NULL;
    for (int pass = even ? 0 : 1; pass < 2; pass++) {
        layer = bench_layer(session, TESSI_OP_SYNTHETIC, 1, pass == 0 ? &workers : &tasks);
        layer->as.synthetic.nanoseconds = (uint64_t)nanoseconds;
        layer->as.synthetic.spread = (double)spread_percent / 100.0;
        if (pass == 0) {
            (void)bench_run(session, &layer, 1, 1);
            bench_release(session, &layer, 1);
        }
    }
    double sum = 0.0, longest = 0.0;
    for (uint64_t i = 0; i < (uint64_t)tasks; i++) {
        double seconds = (double)tessi_synthetic_nanoseconds(layer, i) / 1e9;
        sum += seconds;
        longest = seconds > longest ? seconds : longest;
    }
    double started = bench_seconds_now();
    printf("submitted %.6f\n", started);
    (void)fflush(stdout);
    double seconds = bench_run_checked(session, layer);
    tess_stats stats;
    if (tess_session_stats(session, &stats) != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
    printf("{\"bench\": \"balance\", \"tasks\": %lld, \"started\": %.6f, \"seconds\": %.6f, \"work_seconds\": %.6f, "
           "\"longest_seconds\": %.6f, \"steals\": %llu}\n",
           (long long)tasks, started, seconds, sum, longest, (unsigned long long)stats.steals);
    (void)fflush(stdout);
    tess_session_close(session);
    return 0;
}
