/* Elementwise operations and reductions of an array that is held, each beside a copy of as many bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/graph.h"
#include "tests/bench/options.h"

#define REPEATS_MAX 1000

struct operands {
    tess_array *a, *b, *c;
};

static tess_array *chain(const struct operands *x)
{
    return tess_subtract_scalar(tess_multiply(tess_add(x->a, x->b), x->c), 1);
}

static tess_array *add(const struct operands *x)
{
    return tess_add(x->a, x->b);
}

static tess_array *divide(const struct operands *x)
{
    return tess_divide(x->a, x->b);
}

static tess_array *square_root(const struct operands *x)
{
    return tess_sqrt(x->a);
}

static tess_array *exponential(const struct operands *x)
{
    return tess_exp(x->a);
}

static tess_array *sum(const struct operands *x)
{
    return tess_sum(x->a, TESS_ALL, false);
}

static tess_array *sum_of_rows(const struct operands *x)
{
    return tess_sum(x->a, TESS_AXIS(1), false);
}

static tess_array *sum_of_columns(const struct operands *x)
{
    return tess_sum(x->a, TESS_AXIS(0), false);
}

static tess_array *minimum(const struct operands *x)
{
    return tess_min(x->a, TESS_ALL, false);
}

static tess_array *maximum_of_rows(const struct operands *x)
{
    return tess_max(x->a, TESS_AXIS(1), false);
}

static const struct operation {
    const char *name;
    tess_array *(*apply)(const struct operands *operands);
    int passes; /* over the array: what is read and written */
} operations[] = {
    {"add", add, 3},
    {"chain", chain, 4},
    {"divide", divide, 3},
    {"sqrt", square_root, 2},
    {"exp", exponential, 2},
    {"sum", sum, 1},
    {"sum_rows", sum_of_rows, 1},
    {"sum_columns", sum_of_columns, 1},
    {"min", minimum, 1},
    {"max_rows", maximum_of_rows, 1},
};

static double time_once(tess_session *session, const struct operation *operation, const struct operands *operands)
{
    double started = bench_seconds_now();
    tess_array *result = operation->apply(operands);
    if (tess_persist(result) != TESS_OK || tess_wait(result, 0) != TESS_OK) {
        bench_die("%s: %s", operation->name, tess_session_error(session));
    }
    double seconds = bench_seconds_now() - started;
    tess_release(result);
    return seconds;
}

/* Of one thread, a block at a time. */
static double time_copy(const char *from, char *to, size_t bytes, size_t block)
{
    double started = bench_seconds_now();
    for (size_t at = 0; at < bytes; at += block) {
        memcpy(to + at, from + at, bytes - at < block ? bytes - at : block);
    }
    return bench_seconds_now() - started;
}

static tess_array *held(tess_session *session, int64_t side, int64_t chunk, tess_dtype dtype, uint64_t seed)
{
    tess_array *array =
        tess_random_uniform(session, TESS_SHAPE(side, side), dtype, 1, 2, seed, TESS_CHUNKS(chunk, chunk));
    if (tess_persist(array) != TESS_OK || tess_wait(array, 0) != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
    return array;
}

int main(int argc, char **argv)
{
    const char *type = "f64", *only = "";
    int64_t side = 2048, chunk = 512, slots = 1, repeats = 21;
    const struct bench_option options[] = {
        {"--n", BENCH_NUMBER, &side, "rows and columns (2048)"},
        {"--chunk", BENCH_NUMBER, &chunk, "rows and columns of a block (512)"},
        {"--dtype", BENCH_TEXT, &type, "f64 or f32 (f64)"},
        {"--slots", BENCH_NUMBER, &slots, "of the embedded cluster (1)"},
        {"--repeats", BENCH_NUMBER, &repeats, "of each; the median counts (21)"},
        {"--only", BENCH_TEXT, &only, "those with this in their names"},
    };
    bench_options_parse(argc, argv, "Times elementwise operations and reductions of an array that is held.", options,
                        sizeof options / sizeof options[0]);
    if ((strcmp(type, "f64") != 0 && strcmp(type, "f32") != 0) || repeats > REPEATS_MAX) {
        bench_die("--dtype is f64 or f32, --repeats at most %d", REPEATS_MAX);
    }
    tess_dtype dtype = strcmp(type, "f64") == 0 ? TESS_F64 : TESS_F32;
    size_t item = dtype == TESS_F64 ? 8 : 4, bytes = (size_t)(side * side) * item;
    double seconds[REPEATS_MAX];
    char *from = calloc(bytes, 1), *to = malloc(bytes);
    if (from == NULL || to == NULL) {
        bench_die("no memory for %zu bytes", 2 * bytes);
    }
    (void)time_copy(from, to, bytes, bytes);
    for (int64_t r = 0; r < repeats; r++) {
        seconds[r] = time_copy(from, to, bytes, (size_t)(chunk * chunk) * item);
    }
    printf("{\"bench\": \"operations\", \"n\": %lld, \"chunk\": %lld, \"dtype\": \"%s\", \"gigabytes_per_second\": "
           "{\"copy\": %.3f",
           (long long)side, (long long)chunk, type,
           2e-9 * (double)bytes / bench_quantile(seconds, (size_t)repeats, 0.5));
    free(from);
    free(to);
    tess_session *session = bench_session_open(NULL, slots, (uint32_t)slots);
    struct operands operands = {held(session, side, chunk, dtype, 1), held(session, side, chunk, dtype, 2),
                                held(session, side, chunk, dtype, 3)};
    for (size_t o = 0; o < sizeof operations / sizeof operations[0]; o++) {
        const struct operation *operation = &operations[o];
        if (strstr(operation->name, only) == NULL) {
            continue;
        }
        (void)time_once(session, operation, &operands);
        for (int64_t r = 0; r < repeats; r++) {
            seconds[r] = time_once(session, operation, &operands);
        }
        printf(", \"%s\": %.3f", operation->name,
               1e-9 * operation->passes * (double)bytes / bench_quantile(seconds, (size_t)repeats, 0.5));
    }
    printf("}}\n");
    tess_session_close(session);
    return 0;
}
