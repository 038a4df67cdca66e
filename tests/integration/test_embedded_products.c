/* Products of every shape, chunking, transposition and narrow type, against naive loops. */
#include "tests/integration/embedded.h"

#include <stdlib.h>

static double *naive_product(const double *a, const double *b, int64_t m, int64_t k, int64_t n)
{
    double *c = calloc((size_t)(m * n + 1), sizeof *c);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < k; l++) {
            for (int64_t j = 0; j < n; j++) {
                c[i * n + j] += a[i * k + l] * b[l * n + j];
            }
        }
    }
    return c;
}

/* The transpose of a, put there with chunks and turned back: an operand that is read where it lies. */
static tess_array *put_transposed(tess_session *s, const double *a, int64_t rows, int64_t columns, tess_dtype dtype,
                                  int64_t chunk)
{
    double *turned = malloc((size_t)(rows * columns + 1) * sizeof *turned);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            turned[j * rows + i] = a[i * columns + j];
        }
    }
    tess_array *array = put(s, turned, TESS_SHAPE(columns, rows), dtype, TESS_CHUNKS(chunk, chunk + 1));
    free(turned);
    return tess_transpose(array);
}

static void test_products(void **state)
{
    tess_session *s = *state;
    const struct {
        int64_t m, k, n, chunk;
    } jobs[] = {{1, 1, 1, 1}, {7, 5, 3, 2}, {31, 29, 37, 8}, {64, 64, 64, 16}, {3, 200, 2, 7}, {50, 1, 40, 9}};
    const tess_dtype dtypes[] = {TESS_F64, TESS_F32};
    for (size_t j = 0; j < sizeof jobs / sizeof jobs[0]; j++) {
        int64_t m = jobs[j].m;
        int64_t k = jobs[j].k;
        int64_t n = jobs[j].n;
        int64_t chunk = jobs[j].chunk;
        double *a = samples(m * k);
        double *b = samples(k * n);
        for (size_t d = 0; d < 2; d++) {
            double tolerance = dtypes[d] == TESS_F32 ? 1e-5 : 1e-13;
            for (int way = 0; way < 4; way++) {
                tess_array *left = (way & 1) != 0
                                       ? put_transposed(s, a, m, k, dtypes[d], chunk)
                                       : put(s, a, TESS_SHAPE(m, k), dtypes[d], TESS_CHUNKS(chunk, chunk + 2));
                tess_array *right = (way & 2) != 0 ? put_transposed(s, b, k, n, dtypes[d], chunk)
                                                   : put(s, b, TESS_SHAPE(k, n), dtypes[d], TESS_CHUNKS(chunk, chunk));
                check(s, tess_matmul(left, right), TESS_SHAPE(m, n), naive_product(a, b, m, k, n), tolerance);
                check(s, tess_matmul_with(left, right, &(tess_matmul_options){.segments = 3}), TESS_SHAPE(m, n),
                      naive_product(a, b, m, k, n), tolerance);
                check(s, tess_matmul_with(left, right, &(tess_matmul_options){.chunks = TESS_CHUNKS(5, 4)}),
                      TESS_SHAPE(m, n), naive_product(a, b, m, k, n), tolerance);
            }
        }
        free(a);
        free(b);
    }
    double *nothing = calloc(6, sizeof *nothing);
    check(s,
          tess_matmul(tess_ones(s, TESS_SHAPE(2, 0), TESS_F64, TESS_AUTO),
                      tess_ones(s, TESS_SHAPE(0, 3), TESS_F64, TESS_AUTO)),
          TESS_SHAPE(2, 3), nothing, 0);
}

static double *constant(int64_t count, double value)
{
    double *all = malloc((size_t)count * sizeof *all);
    assert_non_null(all);
    for (int64_t i = 0; i < count; i++) {
        all[i] = value;
    }
    return all;
}

/* f16 and bf16 would stand still at 2048 and 256 if every step were rounded; i8 would wrap at 127. */
static void test_narrow_products(void **state)
{
    tess_session *s = *state;
    const tess_dtype dtypes[] = {TESS_F16, TESS_BF16, TESS_I8, TESS_U8};
    const tess_matmul_options ways[] = {{.segments = 1}, {.segments = 3}, {.wide = true}, {.segments = 3, .wide = true}};
    for (size_t d = 0; d < 4; d++) {
        bool integers = d >= 2;
        for (size_t w = 0; w < 4; w++) {
            double value = integers && ways[w].wide ? 10 : 1;
            int64_t k = integers && !ways[w].wide ? 120 : 4096;
            tess_array *a = tess_full(s, TESS_SHAPE(3, k), dtypes[d], value, TESS_CHUNKS(2, 16));
            tess_array *b = tess_full(s, TESS_SHAPE(k, 5), dtypes[d], value, TESS_CHUNKS(24, 5));
            tess_array *c = tess_matmul_with(a, b, &ways[w]);
            tess_dtype sums = d == 2 ? TESS_I32 : d == 3 ? TESS_U32 : TESS_F32;
            assert_int_equal(tess_array_dtype(c), ways[w].wide ? sums : dtypes[d]);
            check(s, c, TESS_SHAPE(3, 5), constant(15, (double)k * value * value), 0);
        }
    }
    tess_array *x = tess_ones(s, TESS_SHAPE(4, 4), TESS_F32, TESS_AUTO);
    for (int compute = TESS_COMPUTE_NATIVE; compute <= TESS_COMPUTE_TF32X3; compute++) {
        tess_matmul_options options = {.compute = (tess_compute)compute};
        check(s, tess_matmul_with(x, x, &options), TESS_SHAPE(4, 4), constant(16, 4), 0);
    }
    tess_array *y = tess_astype(x, TESS_F64);
    assert_int_equal(tess_array_status(tess_matmul_with(y, y, &(tess_matmul_options){.compute = TESS_COMPUTE_TF32})),
                     TESS_INVALID);
    tess_session_clear_error(s);
}

/* Any extent may be 0: the result has two dimensions and the chunks that it would have, whatever the options. */
static void test_products_of_nothing(void **state)
{
    tess_session *s = *state;
    static const int64_t extents[][3] = {{0, 7, 4}, {5, 0, 4}, {5, 7, 0}, {0, 0, 4}, {0, 0, 0}, {0, 7, 0}};
    const tess_matmul_options ways[] = {
        {.segments = 0}, {.segments = 1}, {.segments = 3}, {.segments = 3, .wide = true}, {.chunks = TESS_CHUNKS(4, 3)}};
    for (size_t e = 0; e < sizeof extents / sizeof extents[0]; e++) {
        int64_t m = extents[e][0], k = extents[e][1], n = extents[e][2];
        for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
            tess_array *a = tess_ones(s, TESS_SHAPE(m, k), TESS_BF16, TESS_CHUNKS(2, 2));
            tess_array *b = tess_ones(s, TESS_SHAPE(n, k), TESS_BF16, TESS_CHUNKS(3, 2));
            tess_array *c = tess_matmul_with(a, tess_transpose(b), &ways[w]);
            bool own = ways[w].chunks.ndim != 0;
            assert_int_equal(tess_array_dtype(c), ways[w].wide ? TESS_F32 : TESS_BF16);
            assert_int_equal(tess_array_chunks(c, 0), m == 0 ? 1 : own ? 2 : 3);
            assert_int_equal(tess_array_chunk(c, 0, 0), m == 0 ? 0 : own ? 4 : 2);
            assert_int_equal(tess_array_chunks(c, 1), n == 0 ? 1 : 2);
            check(s, c, TESS_SHAPE(m, n), constant(m * n, 0), 0);
        }
    }
    /* A sum over nothing, too, has the chunks of what is left. */
    tess_array *none = tess_ones(s, TESS_SHAPE(9, 0), TESS_F64, TESS_CHUNKS(2, 1));
    assert_int_equal(tess_array_chunks(tess_sum(none, TESS_AXIS(1), false), 0), 5);
    assert_int_equal(tess_array_chunks(tess_mean(none, TESS_AXIS(1), true), 0), 5);
    check(s, tess_sum(none, TESS_AXIS(1), false), TESS_SHAPE(9), constant(9, 0), 0);
}

static void test_same_bits_with_other_workers(void **state)
{
    (void)state;
    enum { N = 150 };
    double *results[2];
    for (uint32_t w = 0; w < 2; w++) {
        tess_session *s = open_cluster(w == 0 ? 1 : 4, 64 * MIB);
        results[w] = malloc(N * N * sizeof(double));
        tess_array *x = tess_random_normal(s, TESS_SHAPE(2000, N), TESS_F64, 0, 1, 9, TESS_CHUNKS(100, 40));
        tess_array *c = tess_matmul(tess_transpose(x), tess_subtract(x, tess_mean(x, TESS_AXIS(0), true)));
        ok(s, tess_read(c, results[w], N * N * 8));
        tess_session_close(s);
    }
    assert_memory_equal(results[0], results[1], N * N * 8);
    free(results[0]);
    free(results[1]);
}

int main(void)
{
    const struct CMUnitTest shared[] = {
        TEST(test_products),
        TEST(test_narrow_products),
        TEST(test_products_of_nothing),
    };
    const struct CMUnitTest own[] = {
        cmocka_unit_test(test_same_bits_with_other_workers),
    };
    int failures = cmocka_run_group_tests_name("one cluster", shared, open_group, close_group);
    return failures + cmocka_run_group_tests_name("clusters of their own", own, NULL, NULL);
}
