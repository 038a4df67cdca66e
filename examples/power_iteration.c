/* The largest eigenvalue of a symmetric matrix by power iteration: scopes and persisted arrays in a loop. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera.h"

static const char help[] =
    "Examples:\n"
    "  power_iteration                              a 2000 x 2000 matrix on a cluster inside this program\n"
    "  power_iteration --n 20000 --scheduler tcp://node1:8786\n"
    "\n"
    "Usage: power_iteration [options]\n"
    "Finds the largest eigenvalue of a random symmetric N x N matrix and checks |A x - l x| / l.\n"
    "\n"
    "  --n N                rows of the matrix (2000)\n"
    "  --iterations I       steps (12)\n"
    "  --scheduler ADDRESS  use the cluster there; default: one inside this program\n"
    "  --keys DIR           keys of that cluster\n"
    "  --help               this text\n";

struct options {
    int64_t n;
    int64_t iterations;
    const char *scheduler;
    const char *keys;
};

/* 0 when the text is no number from 1 on. */
static int64_t positive(const char *text)
{
    char *end;
    long long value = strtoll(text, &end, 10);
    return *text != 0 && *end == 0 && value > 0 ? value : 0;
}

/* −1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        bool number = strcmp(argv[i], "--n") == 0 || strcmp(argv[i], "--iterations") == 0;
        bool text = strcmp(argv[i], "--scheduler") == 0 || strcmp(argv[i], "--keys") == 0;
        if ((!number && !text) || value == NULL || (number && positive(value) == 0)) {
            fprintf(stderr, "power_iteration: %s%s%s: %s; see power_iteration --help\n", argv[i],
                    value != NULL ? " " : "", value != NULL ? value : "",
                    number ? "give a whole number from 1 on"
                    : text ? "give a value"
                           : "unknown option");
            return 2;
        }
        if (number) {
            *(strcmp(argv[i], "--n") == 0 ? &options->n : &options->iterations) = positive(value);
        } else {
            *(strcmp(argv[i], "--keys") == 0 ? &options->keys : &options->scheduler) = value;
        }
    }
    return -1;
}

static tess_array *norm(tess_array *x)
{
    return tess_sqrt(tess_sum(tess_multiply(x, x), TESS_ALL, false));
}

/* Each step's temporaries belong to a scope of their own; only the next vector is lifted out of it. */
static tess_array *iterate(tess_session *session, tess_array *a, tess_array *x, int64_t iterations)
{
    for (int64_t i = 0; i < iterations; i++) {
        tess_scope *scope = tess_scope_open(session);
        tess_array *y = tess_matmul(a, x);
        tess_array *next = tess_keep(tess_divide(y, norm(y)));
        tess_persist(next);
        tess_release(x);
        tess_scope_close(scope);
        x = next;
    }
    return x;
}

static tess_status run(tess_session *session, const struct options *options, double *eigenvalue, double *residual)
{
    int64_t n = options->n;
    int64_t chunk = n > 4 ? (n + 3) / 4 : n;
    tess_array *r = tess_random_uniform(session, TESS_SHAPE(n, n), TESS_F64, 0, 1, 7, TESS_CHUNKS(chunk, chunk));
    tess_array *a = tess_multiply_scalar(tess_add(r, tess_transpose(r)), 0.5);
    tess_array *x = tess_ones(session, TESS_SHAPE(n, 1), TESS_F64, TESS_CHUNKS(chunk, 1));
    tess_persist(a);
    x = iterate(session, a, x, options->iterations);
    tess_array *ax = tess_matmul(a, x);
    tess_array *lambda = tess_sum(tess_multiply(x, ax), TESS_ALL, false);
    tess_array *error = tess_divide(norm(tess_subtract(ax, tess_multiply(x, lambda))), lambda);
    tess_status status = tess_read_scalar(lambda, eigenvalue);
    return status != TESS_OK ? status : tess_read_scalar(error, residual);
}

int main(int argc, char **argv)
{
    struct options options = {.n = 2000, .iterations = 12};
    int code = parse(argc, argv, &options);
    if (code >= 0) {
        return code;
    }
    tess_session *session = tess_session_open(options.scheduler, &(tess_session_options){.keys_dir = options.keys});
    double eigenvalue;
    double residual = INFINITY;
    if (run(session, &options, &eigenvalue, &residual) != TESS_OK) {
        fprintf(stderr, "power_iteration: %s\n", tess_session_error(session));
    } else {
        printf("largest eigenvalue %.6f (n/2 = %.1f), |A x - l x| / l = %.2e\n", eigenvalue, (double)options.n / 2,
               residual);
    }
    tess_session_close(session);
    return residual < 1e-6 ? 0 : 1;
}
