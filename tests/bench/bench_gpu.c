/* What a session's devices do: products, elementwise expressions, random bits, the error of f32 by TF32. The client of
 * tests/bench/gpu; one case a run, on a cluster inside this process or on one elsewhere.
 *
 * Every repeat is timed from the submission to the last block. Operands are made and held before. With --host they come from
 * this program's memory anew for each repeat, so that they lie in the worker's host memory and nowhere else, and every
 * block of the result is brought home, since a processor takes one element out of each. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/tessera.h"
#include "tests/bench/options.h"

#define REPEATS_MAX 100
#define BITS 4000000

struct bench {
    tess_session *session;
    int64_t n, chunk, k_chunk, repeats;
    tess_dtype dtype;
    tess_matmul_options product;
    bool host;
    unsigned char *data; /* of one operand, with --host */
    double seconds[REPEATS_MAX];
};

static void check_status(const struct bench *bench, tess_status status)
{
    if (status != TESS_OK) {
        bench_die("%s", tess_session_error(bench->session));
    }
}

static void compute(const struct bench *bench, tess_array *array)
{
    check_status(bench, tess_persist(array));
    check_status(bench, tess_wait(array, 0));
}

static double scalar(const struct bench *bench, tess_array *array)
{
    double value = 0;
    check_status(bench, tess_read_scalar(array, &value));
    return value;
}

/* ——— products ——— */

static void fill(unsigned char *data, uint64_t bytes, tess_dtype dtype)
{
    uint64_t state = 1;
    for (uint64_t at = 0; at + 8 <= bytes; at += 8) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double x = (double)(state >> 11) * 0x1p-52 - 1.0;
        float pair[2] = {(float)x, (float)-x};
        memcpy(data + at, dtype == TESS_F64 ? (const void *)&x : (const void *)pair, 8);
    }
}

static tess_array *operand(struct bench *bench, uint64_t seed, bool k_first)
{
    tess_shape shape = TESS_SHAPE(bench->n, bench->n);
    tess_shape chunks = k_first ? TESS_CHUNKS(bench->k_chunk, bench->chunk) : TESS_CHUNKS(bench->chunk, bench->k_chunk);
    tess_array *array;
    if (bench->host) {
        uint64_t bytes = (uint64_t)bench->n * (uint64_t)bench->n * (bench->dtype == TESS_F64 ? 8 : 4);
        if (bench->data == NULL) {
            bench->data = malloc(bytes);
            if (bench->data == NULL) {
                bench_die("no memory for %" PRIu64 " bytes", bytes);
            }
            fill(bench->data, bytes, bench->dtype);
        }
        array = tess_from_memory(bench->session, bench->data, shape, bench->dtype, chunks);
    } else if (bench->dtype == TESS_I8) {
        array = tess_astype(tess_random_uniform(bench->session, shape, TESS_F32, -9, 9, seed, chunks), TESS_I8);
    } else {
        array = tess_random_uniform(bench->session, shape, bench->dtype, -1, 1, seed, chunks);
    }
    compute(bench, array);
    return array;
}

/* One element of each block, which a processor takes. */
static tess_array *taken(const struct bench *bench, tess_array *array)
{
    tess_range first = TESS_STEP(0, TESS_END, bench->chunk);
    return bench->host ? tess_slice(array, TESS_SLICES(first, first)) : array;
}

static void run_products(struct bench *bench)
{
    tess_array *a = NULL, *b = NULL;
    for (int64_t r = -1; r < bench->repeats; r++) { /* the first is not counted: it loads kernels and pins memory */
        if (a == NULL || bench->host) {
            a = operand(bench, 1, false);
            b = operand(bench, 2, true);
        }
        double started = bench_seconds_now();
        tess_array *product = tess_matmul_with(a, b, &bench->product);
        tess_array *result = taken(bench, product);
        compute(bench, result);
        bench->seconds[r < 0 ? 0 : r] = bench_seconds_now() - started;
        if (result != product) {
            tess_release(result);
        }
        tess_release(product);
        if (bench->host) {
            tess_release(a);
            tess_release(b);
        }
    }
}

/* ——— elementwise ——— */

static void run_elementwise(struct bench *bench)
{
    tess_shape shape = TESS_SHAPE(bench->n);
    tess_shape chunks = TESS_CHUNKS(bench->chunk);
    tess_array *in[3];
    for (uint64_t i = 0; i < 3; i++) {
        in[i] = tess_random_uniform(bench->session, shape, bench->dtype, -1, 1, i, chunks);
        compute(bench, in[i]);
    }
    for (int64_t r = -1; r < bench->repeats; r++) {
        double started = bench_seconds_now();
        tess_array *result = tess_subtract_scalar(tess_multiply(tess_add(in[0], in[1]), in[2]), 1);
        compute(bench, result);
        bench->seconds[r < 0 ? 0 : r] = bench_seconds_now() - started;
        tess_release(result);
    }
}

/* ——— the error of products ——— */

static double frobenius(const struct bench *bench, tess_array *array)
{
    return sqrt(scalar(bench, tess_sum(tess_multiply(array, array), TESS_ALL, false)));
}

static void print_errors(struct bench *bench)
{
    static const char *const names[] = {"native", "tf32", "tf32x3"};
    tess_array *a = operand(bench, 1, false);
    tess_array *b = operand(bench, 2, true);
    tess_array *exact = tess_matmul(tess_astype(a, TESS_F64), tess_astype(b, TESS_F64));
    compute(bench, exact);
    double whole = frobenius(bench, exact);
    printf("\"k_chunk\": %" PRId64 ", \"errors\": {", bench->k_chunk);
    for (int c = TESS_COMPUTE_NATIVE; c <= TESS_COMPUTE_TF32X3; c++) {
        tess_array *product = tess_matmul_with(a, b, &(tess_matmul_options){.compute = (tess_compute)c});
        compute(bench, product);
        double error = frobenius(bench, tess_subtract(tess_astype(product, TESS_F64), exact)) / whole;
        printf("%s\"%s\": %.6g", c > 0 ? ", " : "", names[c], error);
        tess_release(product);
    }
    printf("}, ");
}

/* ——— random bits ——— */

static uint64_t digest(const unsigned char *bytes, uint64_t count)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (uint64_t i = 0; i < count; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    }
    return hash;
}

static void print_bits(struct bench *bench)
{
    static const tess_dtype dtypes[] = {TESS_F64, TESS_F32, TESS_F16, TESS_BF16};
    unsigned char *data = malloc(BITS * 8);
    if (data == NULL) {
        bench_die("no memory");
    }
    printf("\"digests\": [");
    for (size_t i = 0; i < 8; i++) {
        tess_shape shape = TESS_SHAPE(BITS / 1000, 1000);
        tess_shape chunks = TESS_CHUNKS(1300, 700);
        tess_dtype dtype = dtypes[i / 2];
        tess_array *numbers = i % 2 == 0 ? tess_random_uniform(bench->session, shape, dtype, -3, 5, 11, chunks)
                                         : tess_random_normal(bench->session, shape, dtype, 1, 2, 12, chunks);
        uint64_t bytes = tess_array_bytes(numbers);
        check_status(bench, tess_read(numbers, data, bytes));
        printf("%s\"%016" PRIx64 "\"", i > 0 ? ", " : "", digest(data, bytes));
        tess_release(numbers);
    }
    printf("], ");
    free(data);
}

/* ——— */

static tess_compute compute_of(const char *text)
{
    static const char *const names[] = {"native", "tf32", "tf32x3"};
    for (int c = 0; c < 3; c++) {
        if (strcmp(text, names[c]) == 0) {
            return (tess_compute)c;
        }
    }
    bench_die("--compute %s: give native, tf32 or tf32x3", text);
}

static void print_figures(struct bench *bench, const char *which, double work)
{
    printf("\"program\": \"bench_gpu\", \"case\": \"%s\", \"n\": %" PRId64 ", \"chunk\": %" PRId64 ", \"dtype\": \"%s\", "
           "\"work\": %.6g, \"seconds\": [",
           which, bench->n, bench->chunk, tess_dtype_name(bench->dtype), work);
    for (int64_t r = 0; r < bench->repeats; r++) {
        printf("%s%.6f", r > 0 ? ", " : "", bench->seconds[r]);
    }
    printf("]");
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL, *gpus = NULL, *gpu_memory = NULL, *which = "product", *dtype = "f64", *how = "native";
    int64_t workers = 1, memory = 0;
    struct bench bench = {.n = 4096, .repeats = 3};
    const struct bench_option options[] = {
        {"--case", BENCH_TEXT, &which, "product, elementwise, errors or bits (product)"},
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--gpus", BENCH_TEXT, &gpus, "of the embedded cluster (auto)"},
        {"--gpu-memory", BENCH_TEXT, &gpu_memory, "of each (90%)"},
        {"--workers", BENCH_NUMBER, &workers, "slots of the embedded cluster (1)"},
        {"--memory", BENCH_BYTES, &memory, "of the embedded cluster (60 % of the machine)"},
        {"--n", BENCH_NUMBER, &bench.n, "side of the matrices, or elements (4096)"},
        {"--chunk", BENCH_NUMBER, &bench.chunk, "side of the blocks (a quarter)"},
        {"--k-chunk", BENCH_NUMBER, &bench.k_chunk, "of operands along k (as --chunk)"},
        {"--dtype", BENCH_TEXT, &dtype, "(f64)"},
        {"--compute", BENCH_TEXT, &how, "of f32: native, tf32, tf32x3 (native)"},
        {"--host", BENCH_FLAG, &bench.host, "operands and result in host memory"},
        {"--repeats", BENCH_NUMBER, &bench.repeats, "(3)"},
    };
    bench_options_parse(argc, argv, "Times what a session's devices compute; tests/bench/gpu runs it.", options,
                        sizeof options / sizeof options[0]);
    if (bench.repeats > REPEATS_MAX || tess_dtype_parse(dtype, &bench.dtype) != TESS_OK) {
        bench_die("--repeats may be at most %d, --dtype is one such as f64", REPEATS_MAX);
    }
    if (bench.host && bench.dtype != TESS_F64 && bench.dtype != TESS_F32) {
        bench_die("--host is for f64 and f32");
    }
    bench.chunk = bench.chunk > 0 ? bench.chunk : (bench.n + 3) / 4;
    bench.k_chunk = bench.k_chunk > 0 ? bench.k_chunk : bench.chunk;
    bench.product.compute = compute_of(how);
    bench.product.segments = 1;
    bench.product.wide = bench.dtype == TESS_F16 || bench.dtype == TESS_BF16 || bench.dtype == TESS_I8;
    tess_session_options session = {
        .workers = (uint32_t)workers, .memory_bytes = (uint64_t)memory, .gpus = gpus, .gpu_memory = gpu_memory};
    bench.session = tess_session_open(scheduler, scheduler == NULL ? &session : NULL);
    check_status(&bench, tess_session_status(bench.session));
    printf("{");
    double work = 2.0 * (double)bench.n * (double)bench.n * (double)bench.n;
    if (strcmp(which, "product") == 0) {
        run_products(&bench);
    } else if (strcmp(which, "elementwise") == 0) {
        run_elementwise(&bench);
        work = 4.0 * (double)bench.n * (bench.dtype == TESS_F64 ? 8 : 4); /* bytes */
    } else {
        bench.repeats = 0;
        if (strcmp(which, "errors") == 0) {
            print_errors(&bench);
        } else if (strcmp(which, "bits") == 0) {
            print_bits(&bench);
        } else {
            bench_die("--case %s: give product, elementwise, errors or bits", which);
        }
    }
    print_figures(&bench, which, work);
    printf("}\n");
    tess_session_close(bench.session);
    free(bench.data);
    return 0;
}
