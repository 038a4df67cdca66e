/* Very many arrays, held at once, or in one expression. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/graph.h"
#include "tests/bench/options.h"

static void check(tess_session *session, tess_status status)
{
    if (status != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
}

struct seconds {
    double build, run, release;
};

/* Each of one block, all of them held at once. */
static struct seconds held(tess_session *s, int64_t count)
{
    tess_array **arrays = calloc((size_t)count, sizeof(tess_array *));
    if (arrays == NULL) {
        bench_die("no memory for %lld arrays", (long long)count);
    }
    double started = bench_seconds_now(), value = 0;
    for (int64_t i = 0; i < count; i++) {
        arrays[i] = tess_multiply_scalar(tess_ones(s, TESS_SHAPE(10, 10), TESS_F64, TESS_CHUNKS(10, 10)), (double)i);
    }
    double built = bench_seconds_now();
    check(s, tess_persist_all(arrays, (size_t)count));
    for (int64_t i = 0; i < count; i++) {
        check(s, tess_wait(arrays[i], 0));
    }
    double done = bench_seconds_now();
    check(s, tess_read_scalar(tess_slice(arrays[count - 1], TESS_SLICES(TESS_RANGE(3, 4), TESS_RANGE(3, 4))), &value));
    if (value != (double)(count - 1)) {
        bench_die("the last array holds %g", value);
    }
    double released = bench_seconds_now();
    for (int64_t i = 0; i < count; i++) {
        tess_release(arrays[i]);
    }
    check(s, tess_read_scalar(tess_ones(s, TESS_SHAPE(1), TESS_F64, TESS_AUTO), &value));
    free(arrays);
    return (struct seconds){built - started, done - built, bench_seconds_now() - released};
}

static tess_array *product(tess_array *m, tess_array *x)
{
    return tess_matmul(m, x);
}

static tess_array *turned(tess_array *m, tess_array *x)
{
    return tess_transpose(tess_matmul(m, x));
}

/* One expression of so many products. */
static struct seconds lazy(tess_session *s, int64_t count, tess_array *(*next)(tess_array *, tess_array *))
{
    double started = bench_seconds_now(), value = 0;
    tess_array *m = tess_eye(s, 4, 4, 0, TESS_F64, TESS_AUTO);
    tess_array *x = tess_ones(s, TESS_SHAPE(4, 4), TESS_F64, TESS_AUTO);
    for (int64_t i = 0; i < count; i++) {
        tess_array *after = next(m, x);
        tess_release(x);
        x = after;
    }
    double built = bench_seconds_now();
    check(s, tess_read_scalar(tess_sum(x, TESS_ALL, false), &value));
    if (value != 16) {
        bench_die("the sum is %g", value);
    }
    double done = bench_seconds_now();
    tess_release(x);
    check(s, tess_read_scalar(tess_ones(s, TESS_SHAPE(1), TESS_F64, TESS_AUTO), &value));
    return (struct seconds){built - started, done - built, bench_seconds_now() - done};
}

/* A typo: as many blocks as elements. Right is that it is refused, at once. */
static struct seconds typo(tess_session *s, int64_t count)
{
    double started = bench_seconds_now();
    tess_array *x = tess_random_uniform(s, TESS_SHAPE(count), TESS_F64, 0, 1, 1, TESS_CHUNKS(1));
    tess_status status = tess_persist(x);
    status = status == TESS_OK ? tess_wait(x, 0) : status;
    if (status != TESS_TOO_BIG) {
        bench_die("%s: %s", tess_status_text(status), tess_session_error(s));
    }
    fprintf(stderr, "%s\n", tess_session_error(s));
    return (struct seconds){.run = bench_seconds_now() - started};
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL, *kind = "held";
    int64_t workers = 2, count = 10000;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (2)"},
        {"--count", BENCH_NUMBER, &count, "of arrays, or of operations (10000)"},
        {"--kind", BENCH_TEXT, &kind, "held: arrays of one block; lazy: products in one expression; turned: with a "
                                      "transposition after each; typo: blocks of one element, to be refused (held)"},
    };
    bench_options_parse(argc, argv, "Times very many arrays.", options, sizeof options / sizeof options[0]);
    tess_session *s = bench_session_open(scheduler, workers, (uint32_t)workers);
    struct seconds seconds = {0};
    if (strcmp(kind, "held") == 0) {
        seconds = held(s, count);
    } else if (strcmp(kind, "lazy") == 0 || strcmp(kind, "turned") == 0) {
        seconds = lazy(s, count, kind[0] == 'l' ? product : turned);
    } else if (strcmp(kind, "typo") == 0) {
        seconds = typo(s, count);
    } else {
        bench_die("--kind %s: there are held, lazy, turned and typo", kind);
    }
    double closing = bench_seconds_now();
    tess_session_close(s);
    printf("{\"bench\": \"many\", \"kind\": \"%s\", \"count\": %lld, \"embedded\": %s, \"build_seconds\": %.6f, "
           "\"seconds\": %.6f, \"release_seconds\": %.6f, \"close_seconds\": %.6f}\n",
           kind, (long long)count, scheduler == NULL ? "true" : "false", seconds.build, seconds.run, seconds.release,
           bench_seconds_now() - closing);
    return 0;
}
