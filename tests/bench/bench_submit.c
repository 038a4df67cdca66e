/* Submit and read one small array: what a program waits for that asks for little, again and again. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/graph.h"
#include "tests/bench/options.h"

#define ELEMENTS 16

static double run_once(tess_session *session, double value)
{
    double values[ELEMENTS];
    double started = bench_seconds_now();
    tess_array *array = tess_full(session, TESS_SHAPE(ELEMENTS), TESS_F64, value, TESS_AUTO);
    if (tess_read(array, values, sizeof values) != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
    double seconds = bench_seconds_now() - started;
    if (values[0] != value || values[ELEMENTS - 1] != value) {
        bench_die("read %g, not %g", values[0], value);
    }
    tess_release(array);
    return seconds;
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL;
    int64_t repeats = 1000, workers = 2;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (2)"},
        {"--repeats", BENCH_NUMBER, &repeats, "(1000)"},
    };
    bench_options_parse(argc, argv, "Times the submission and the reading of one small array.", options,
                        sizeof options / sizeof options[0]);
    tess_session *session = bench_session_open(scheduler, workers, (uint32_t)workers);
    double *seconds = calloc((size_t)repeats, sizeof *seconds);
    if (seconds == NULL) {
        bench_die("no memory for %lld figures", (long long)repeats);
    }
    for (int64_t r = -repeats / 10; r < repeats; r++) {
        double each = run_once(session, (double)r + 0.5);
        seconds[r < 0 ? 0 : r] = each;
    }
    printf("{\"bench\": \"submit\", \"times\": %lld, \"embedded\": %s, \"seconds\": %.9f, \"p90\": %.9f, \"p99\": %.9f}\n",
           (long long)repeats, scheduler == NULL ? "true" : "false",
           bench_quantile(seconds, (size_t)repeats, 0.5), bench_quantile(seconds, (size_t)repeats, 0.9),
           bench_quantile(seconds, (size_t)repeats, 0.99));
    free(seconds);
    tess_session_close(session);
    return 0;
}
