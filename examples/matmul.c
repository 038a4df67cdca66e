/* Multiplies two matrices, random ones or files, times it and checks it. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tessera.h"

static const char help[] =
    "Examples:\n"
    "  matmul --n 8192 --check                     random matrices on a cluster inside this program\n"
    "  matmul --a a.npy --b b.npy --out c.npy      files; c.npy is written when it is complete\n"
    "  matmul --scheduler tcp://node1:8786 --keys keys --n 32768 --chunk 2048 --json\n"
    "\n"
    "Usage: matmul [options] (--n N | --a A.npy --b B.npy)\n"
    "\n"
    "  --n N                multiply two random N x N matrices (standard normal)\n"
    "  --a FILE --b FILE    multiply these; workers read them from the same paths\n"
    "  --dtype f64|f32      of the product (f64; for files: as they are)\n"
    "  --chunk C            side of the blocks (a quarter of the matrix, 256 to 2048)\n"
    "  --segments S         cut k into so many: on many workers with memory to spare fewer words move (2.5D)\n"
    "  --seed S             of the random matrices (1)\n"
    "  --out FILE           write the product as a NumPy file\n"
    "  --check              compare with the factors in f64: a random projection and some rows\n"
    "  --json               the last line on standard output is one JSON object\n"
    "  --scheduler ADDRESS  use the cluster there; default: $TESSERA_SCHEDULER, else one inside\n"
    "  --keys DIR           keys of that cluster\n"
    "  --workers W          slots of the cluster inside this program (one for each processor)\n"
    "  --help               this text\n";

#define ROWS_CHECKED 3
#define SLAB_BYTES (INT64_C(32) << 20) /* of a matrix that is being checked, at a time */

struct options {
    const char *scheduler, *keys, *a, *b, *out;
    int64_t n, chunk, segments, seed, workers;
    tess_dtype dtype;
    bool has_dtype, has_chunk, check, json;
};

struct job {
    tess_session *session;
    tess_array *a, *b, *c;
    int64_t m, n, k, chunk;
    tess_stats before, after;
    double seconds;
};

/* ——— options ——— */

static int usage_error(const char *option, const char *value, const char *problem)
{
    fprintf(stderr, "matmul: %s%s%s: %s; see matmul --help\n", option, value != NULL ? " " : "",
            value != NULL ? value : "", problem);
    return 2;
}

static bool parse_number(const char *text, int64_t least, int64_t *number)
{
    char *end;
    long long value = strtoll(text, &end, 10);
    *number = value;
    return *text != 0 && *end == 0 && value >= least && value < INT64_MAX;
}

/* An option with a value. −1: taken. */
static int take_value(struct options *options, const char *option, const char *value)
{
    const struct {
        const char *name;
        const char **text;
        int64_t *number;
        int64_t least;
    } known[] = {
        {"--scheduler", &options->scheduler, NULL, 0},
        {"--keys", &options->keys, NULL, 0},
        {"--a", &options->a, NULL, 0},
        {"--b", &options->b, NULL, 0},
        {"--out", &options->out, NULL, 0},
        {"--n", NULL, &options->n, 1},
        {"--chunk", NULL, &options->chunk, 1},
        {"--segments", NULL, &options->segments, 1},
        {"--seed", NULL, &options->seed, 0},
        {"--workers", NULL, &options->workers, 1},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(option, known[i].name) != 0) {
            continue;
        }
        if (value == NULL) {
            return usage_error(option, NULL, "its value is missing");
        }
        if (known[i].text != NULL) {
            *known[i].text = value;
            return -1;
        }
        options->has_chunk = options->has_chunk || known[i].number == &options->chunk;
        return parse_number(value, known[i].least, known[i].number)
                   ? -1
                   : usage_error(option, value,
                                 known[i].least == 0 ? "give a whole number from 0 on"
                                                     : "give a whole number from 1 on");
    }
    if (strcmp(option, "--dtype") != 0) {
        return usage_error(option, NULL, "unknown option");
    }
    options->has_dtype = true;
    bool known_dtype = value != NULL && tess_dtype_parse(value, &options->dtype) == TESS_OK &&
                       (options->dtype == TESS_F64 || options->dtype == TESS_F32);
    return known_dtype ? -1 : usage_error(option, value, "give f64 or f32");
}

/* −1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--check") == 0) {
            options->check = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            options->json = true;
        } else {
            int code = take_value(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
            if (code >= 0) {
                return code;
            }
            i++;
        }
    }
    bool files = options->a != NULL || options->b != NULL;
    if (files ? options->a == NULL || options->b == NULL : options->n == 0) {
        return usage_error(files ? "--a and --b" : "--n", NULL,
                           files ? "give both" : "give the size of random matrices, or files with --a and --b");
    }
    if (files && options->n != 0) {
        return usage_error("--n", NULL, "random matrices or files, not both");
    }
    if (options->scheduler != NULL && options->workers != 0) {
        return usage_error("--workers", NULL, "a cluster elsewhere has its own workers: leave it out");
    }
    return -1;
}

/* Better to hear it before the product is computed than after. */
static int check_output(const struct options *options)
{
    if (options->out == NULL) {
        return -1;
    }
    const char *slash = strrchr(options->out, '/');
    int length = slash == NULL ? 1 : slash == options->out ? 1 : (int)(slash - options->out);
    char folder[4096];
    snprintf(folder, sizeof folder, "%.*s", length, slash == NULL ? "." : options->out);
    if (access(folder, W_OK | X_OK) == 0) {
        return -1;
    }
    fprintf(stderr, "matmul: --out %s: nothing can be written to %s: %s\n", options->out, folder, strerror(errno));
    return 1;
}

/* ——— the product ——— */

static int failure(const struct job *job)
{
    fprintf(stderr, "matmul: %s\n", tess_session_error(job->session));
    return 1;
}

static int64_t chunk_for(const struct options *options, int64_t longest)
{
    int64_t quarter = (longest + 3) / 4;
    int64_t chunk = quarter < 256 ? 256 : quarter > 2048 ? 2048 : quarter;
    return options->has_chunk ? options->chunk : chunk;
}

static void make_operands(const struct options *options, struct job *job)
{
    tess_session *session = job->session;
    if (options->a == NULL) {
        job->chunk = chunk_for(options, options->n);
        tess_shape shape = TESS_SHAPE(options->n, options->n);
        tess_shape chunks = TESS_CHUNKS(job->chunk, job->chunk);
        tess_dtype dtype = options->has_dtype ? options->dtype : TESS_F64;
        uint64_t seed = (uint64_t)options->seed;
        job->a = tess_random_normal(session, shape, dtype, 0, 1, 2 * seed, chunks);
        job->b = tess_random_normal(session, shape, dtype, 0, 1, 2 * seed + 1, chunks);
        return;
    }
    /* The chunk is chosen after the headers have been read. */
    job->a = tess_name(tess_from_npy(session, options->a, TESS_AUTO), "a");
    job->b = tess_name(tess_from_npy(session, options->b, TESS_AUTO), "b");
    tess_shape shapes[2] = {tess_array_shape(job->a), tess_array_shape(job->b)};
    int64_t longest = 1;
    for (uint32_t i = 0; i < 4; i++) {
        longest = shapes[i / 2].dim[i % 2] > longest ? shapes[i / 2].dim[i % 2] : longest;
    }
    job->chunk = chunk_for(options, longest);
    if (shapes[0].ndim == 2 && shapes[1].ndim == 2) {
        tess_shape chunks = TESS_CHUNKS(job->chunk, job->chunk);
        job->a = tess_name(tess_from_npy(session, options->a, chunks), "a");
        job->b = tess_name(tess_from_npy(session, options->b, chunks), "b");
    }
    if (options->has_dtype) {
        job->a = tess_name(tess_astype(job->a, options->dtype), "a");
        job->b = tess_name(tess_astype(job->b, options->dtype), "b");
    }
}

/* Operands first, so that the time is that of the product alone. */
static int multiply(const struct options *options, struct job *job)
{
    make_operands(options, job);
    job->c = tess_matmul_with(job->a, job->b, &(tess_matmul_options){.segments = options->segments});
    if (tess_array_status(job->c) != TESS_OK) {
        return failure(job);
    }
    job->m = tess_array_shape(job->c).dim[0];
    job->n = tess_array_shape(job->c).dim[1];
    job->k = tess_array_shape(job->a).dim[1];
    tess_array *operands[] = {job->a, job->b};
    if (tess_persist_all(operands, 2) != TESS_OK || tess_wait(job->a, 0) != TESS_OK ||
        tess_wait(job->b, 0) != TESS_OK || tess_session_stats(job->session, &job->before) != TESS_OK) {
        return failure(job);
    }
    tess_session_on_progress(job->session, tess_progress_bar, NULL);
    if (tess_persist(job->c) != TESS_OK || tess_wait(job->c, 0) != TESS_OK ||
        tess_session_stats(job->session, &job->after) != TESS_OK) {
        return failure(job);
    }
    tess_session_on_progress(job->session, NULL, NULL);
    job->seconds = job->after.seconds;
    return 0;
}

/* ——— the check: everything in f64, from the blocks that the cluster holds ——— */

static double *allocate(int64_t count)
{
    double *numbers = calloc((size_t)(count > 0 ? count : 1), sizeof *numbers);
    if (numbers == NULL) {
        fprintf(stderr, "matmul: no memory for the check: leave --check out\n");
        exit(1);
    }
    return numbers;
}

/* Rows [row, row + count) of a matrix, converted to f64. */
static tess_status read_rows(tess_session *session, tess_array *matrix, int64_t row, int64_t count, double *rows)
{
    tess_scope *scope = tess_scope_open(session);
    tess_array *part = tess_astype(tess_slice(matrix, TESS_SLICES(TESS_RANGE(row, row + count))), TESS_F64);
    tess_status status = tess_read(part, rows, tess_array_bytes(part));
    tess_scope_close(scope);
    return status;
}

/* y = M x, and for the sampled rows: out[s] += coefficients[s] · M, where coefficients are rows over M's rows. */
static tess_status project(tess_session *session, tess_array *matrix, const double *x, double *y,
                           const double *coefficients, double *out)
{
    tess_shape shape = tess_array_shape(matrix);
    int64_t rows = shape.dim[0];
    int64_t columns = shape.dim[1];
    int64_t slab = SLAB_BYTES / 8 / (columns > 0 ? columns : 1);
    slab = slab < 1 ? 1 : slab > rows ? rows : slab;
    double *part = allocate(slab * columns);
    tess_status status = TESS_OK;
    for (int64_t row = 0; row < rows && status == TESS_OK; row += slab) {
        int64_t count = rows - row < slab ? rows - row : slab;
        status = read_rows(session, matrix, row, count, part);
        for (int64_t r = 0; r < count && status == TESS_OK; r++) {
            double sum = 0;
            for (int64_t c = 0; c < columns; c++) {
                sum += part[r * columns + c] * x[c];
            }
            y[row + r] = sum;
            for (int64_t s = 0; s < ROWS_CHECKED && out != NULL; s++) {
                for (int64_t c = 0; c < columns; c++) {
                    out[s * columns + c] += coefficients[s * rows + row + r] * part[r * columns + c];
                }
            }
        }
    }
    free(part);
    return status;
}

static double relative(const double *a, const double *exact, int64_t count)
{
    double difference = 0;
    double size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += (a[i] - exact[i]) * (a[i] - exact[i]);
        size += exact[i] * exact[i];
    }
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

struct check {
    double *x; /* ±1, for C x = A (B x): Freivalds, "Fast probabilistic algorithms", 1979 */
    double *bx, *abx, *cx;
    double *a_rows, *exact_rows, *c_rows;
};

static tess_status compare(const struct job *job, const struct check *check, double *error)
{
    tess_session *session = job->session;
    int64_t rows = job->m < ROWS_CHECKED ? job->m : ROWS_CHECKED;
    uint64_t random = 88172645463325252u;
    for (int64_t i = 0; i < job->n; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        check->x[i] = (random >> 40 & 1) != 0 ? 1.0 : -1.0;
    }
    tess_status status = TESS_OK;
    for (int64_t s = 0; s < rows && status == TESS_OK; s++) {
        int64_t row = s * (job->m - 1) / (ROWS_CHECKED - 1);
        status = read_rows(session, job->a, row, 1, check->a_rows + s * job->k);
        if (status == TESS_OK) {
            status = read_rows(session, job->c, row, 1, check->c_rows + s * job->n);
        }
    }
    if (status == TESS_OK) {
        status = project(session, job->b, check->x, check->bx, check->a_rows, check->exact_rows);
    }
    if (status == TESS_OK) {
        status = project(session, job->a, check->bx, check->abx, NULL, NULL);
    }
    if (status == TESS_OK) {
        status = project(session, job->c, check->x, check->cx, NULL, NULL);
    }
    double projected = relative(check->cx, check->abx, job->m);
    double sampled = relative(check->c_rows, check->exact_rows, rows * job->n);
    *error = projected > sampled || isnan(projected) ? projected : sampled;
    return status;
}

/* Rounding errors of a sum of k products grow like √k; a wrong block is far outside. */
static int check_product(const struct job *job, double *error)
{
    struct check check = {
        .x = allocate(job->n),
        .bx = allocate(job->k),
        .abx = allocate(job->m),
        .cx = allocate(job->m),
        .a_rows = allocate(ROWS_CHECKED * job->k),
        .exact_rows = allocate(ROWS_CHECKED * job->n),
        .c_rows = allocate(ROWS_CHECKED * job->n),
    };
    tess_status status = compare(job, &check, error);
    free(check.x);
    free(check.bx);
    free(check.abx);
    free(check.cx);
    free(check.a_rows);
    free(check.exact_rows);
    free(check.c_rows);
    if (status != TESS_OK) {
        return failure(job);
    }
    double epsilon = tess_array_dtype(job->c) == TESS_F64   ? 2.2e-16
                     : tess_array_dtype(job->c) == TESS_F32 ? 1.2e-7
                                                            : 1e-3;
    double bound = 16 * epsilon * sqrt((double)(job->k > 1 ? job->k : 1));
    fprintf(stderr, "relative error %.2e (bound %.2e)\n", *error, bound);
    if (!(*error <= bound)) {
        fprintf(stderr, "matmul: the product is wrong: relative error %g is above %g; please report it\n", *error,
                bound);
        return 1;
    }
    return 0;
}

/* ——— the report ——— */

static void report(const struct options *options, const struct job *job, double error)
{
    double flops = 2.0 * (double)job->m * (double)job->n * (double)job->k;
    double gflops = job->seconds > 0 ? flops / job->seconds / 1e9 : 0;
    const char *dtype = tess_dtype_name(tess_array_dtype(job->c));
    printf("%" PRId64 " x %" PRId64 " by %" PRId64 " x %" PRId64 ", %s, chunk %" PRId64 ": %.3f s, %.1f GF/s\n", job->m,
           job->k, job->k, job->n, dtype, job->chunk, job->seconds, gflops);
    if (!options->json) {
        return;
    }
    printf("{\"m\": %" PRId64 ", \"n\": %" PRId64 ", \"k\": %" PRId64 ", \"chunk\": %" PRId64 ", \"dtype\": \"%s\", ",
           job->m, job->n, job->k, job->chunk, dtype);
    printf("\"seconds\": %.9f, \"gflops\": %.3f, \"tasks\": %" PRIu64 ", \"tasks_rerun\": %" PRIu64
           ", \"bytes_moved\": %" PRIu64 ", \"steals\": %" PRIu64 ", \"workers\": %" PRIu32
           ", \"peak_worker_bytes\": %" PRIu64,
           job->seconds, gflops, job->after.tasks - job->before.tasks, job->after.tasks_rerun - job->before.tasks_rerun,
           job->after.bytes_moved - job->before.bytes_moved, job->after.steals - job->before.steals, job->after.workers,
           job->after.peak_worker_bytes);
    if (options->check) {
        printf(", \"relative_error\": %.3e", error);
    }
    printf("}\n");
}

int main(int argc, char **argv)
{
    struct options options = {.seed = 1};
    struct job job = {0};
    double error = 0;
    int code = parse(argc, argv, &options);
    code = code >= 0 ? code : check_output(&options);
    if (code >= 0) {
        return code;
    }
    tess_session_options session_options = {.keys_dir = options.keys, .workers = (uint32_t)options.workers};
    const char *address = options.scheduler == NULL && options.workers != 0 ? TESS_EMBEDDED : options.scheduler;
    job.session = tess_session_open(address, &session_options);
    code = multiply(&options, &job);
    if (code == 0 && options.check) {
        code = check_product(&job, &error);
    }
    if (code == 0 && options.out != NULL && tess_write_npy(job.c, options.out) != TESS_OK) {
        code = failure(&job);
    }
    if (code == 0) {
        report(&options, &job, error);
    }
    tess_session_close(job.session);
    return code;
}
