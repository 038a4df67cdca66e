/* The whole library against naive loops, on clusters inside this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "client/link.h"
#include "client/session.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"

#define MIB (UINT64_C(1) << 20)
#define DEADLINE_NS (60 * TESSI_NS_PER_S)

/* With the devices that TESSERA_TEST_GPUS names, the same tests run there (tests/integration/test_gpus.py, tests/gpu). */
static tess_session *open_cluster(uint32_t workers, uint64_t memory_bytes)
{
    tess_session *session = tess_session_open(NULL, &(tess_session_options){.workers = workers,
                                                                            .memory_bytes = memory_bytes,
                                                                            .gpus = getenv("TESSERA_TEST_GPUS"),
                                                                            .gpu_memory = getenv("TESSERA_TEST_GPU_MEMORY")});
    if (tess_session_status(session) != TESS_OK) {
        fail_msg("%s", tess_session_error(session));
    }
    return session;
}

static int open_group(void **state)
{
    *state = open_cluster(2, 256 * MIB);
    return 0;
}

static int close_group(void **state)
{
    tess_session_close(*state);
    return 0;
}

/* Every test has a scope and a clean error of its own. */
static tess_scope *scope_of_test;

static int open_scope(void **state)
{
    tess_session_clear_error(*state);
    scope_of_test = tess_scope_open(*state);
    return 0;
}

static int close_scope(void **state)
{
    (void)state;
    tess_scope_close(scope_of_test);
    return 0;
}

static void ok(tess_session *session, tess_status status)
{
    if (status != TESS_OK) {
        fail_msg("%s: %s", tess_status_text(status), tess_session_error(session));
    }
}

static int64_t elements_of(tess_shape shape)
{
    int64_t elements = 1;
    for (uint32_t d = 0; d < shape.ndim; d++) {
        elements *= shape.dim[d];
    }
    return elements;
}

/* Numbers that are exact in every dtype that holds them. */
static double sample(int64_t i)
{
    return (double)((i * 37 + 11) % 101);
}

static double *samples(int64_t count)
{
    double *data = malloc((size_t)(count + 1) * sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) {
        data[i] = sample(i);
    }
    return data;
}

static tess_array *put(tess_session *s, const double *data, tess_shape shape, tess_dtype dtype, tess_shape chunks)
{
    return tess_astype(tess_from_memory(s, data, shape, TESS_F64, chunks), dtype);
}

/* Compare with what naive loops gave; takes the expected numbers. */
static void check(tess_session *s, tess_array *array, tess_shape shape, double *expected, double tolerance)
{
    if (tess_array_status(array) != TESS_OK) {
        fail_msg("%s", tess_array_error(array));
    }
    tess_shape got = tess_array_shape(array);
    assert_int_equal(got.ndim, shape.ndim);
    for (uint32_t d = 0; d < shape.ndim; d++) {
        assert_int_equal(got.dim[d], shape.dim[d]);
    }
    int64_t count = elements_of(shape);
    double *data = malloc((size_t)(count + 1) * sizeof *data);
    assert_non_null(data);
    memset(data, 0xff, (size_t)(count + 1) * sizeof *data);
    tess_array *as_f64 = tess_astype(array, TESS_F64);
    ok(s, tess_read(as_f64, data, (uint64_t)count * sizeof *data));
    for (int64_t i = 0; i < count; i++) {
        bool same =
            isnan(expected[i]) ? isnan(data[i]) : fabs(data[i] - expected[i]) <= tolerance * (1 + fabs(expected[i]));
        if (!same) {
            fail_msg("element %lld is %.17g, expected %.17g", (long long)i, data[i], expected[i]);
        }
    }
    free(data);
    free(expected);
}

/* ——— making arrays ——— */

static void test_generators(void **state)
{
    tess_session *s = *state;
    tess_shape shape = TESS_SHAPE(7, 5);
    double *expected = malloc(35 * sizeof *expected);
    for (int i = 0; i < 35; i++) {
        expected[i] = -3;
    }
    check(s, tess_full(s, shape, TESS_I16, -3, TESS_CHUNKS(3, 2)), shape, expected, 0);
    expected = calloc(35, sizeof *expected);
    check(s, tess_zeros(s, shape, TESS_BOOL, TESS_CHUNKS(2, 5)), shape, expected, 0);
    expected = calloc(35, sizeof *expected);
    for (int row = 0; row < 7; row++) {
        if (row >= 1 && row - 1 < 5) {
            expected[row * 5 + row - 1] = 1;
        }
    }
    check(s, tess_eye(s, 7, 5, -1, TESS_F32, TESS_CHUNKS(3, 3)), shape, expected, 0);
    expected = malloc(10 * sizeof *expected);
    for (int i = 0; i < 10; i++) {
        expected[i] = 5 + i * -0.5;
    }
    check(s, tess_arange(s, 5, 0, -0.5, TESS_F64, TESS_CHUNKS(3)), TESS_SHAPE(10), expected, 0);
    expected = malloc(4 * sizeof *expected);
    for (int i = 0; i < 4; i++) {
        expected[i] = 9 - 3 * i;
    }
    check(s, tess_arange(s, 9, -2, -3, TESS_U8, TESS_CHUNKS(3)), TESS_SHAPE(4), expected, 0);
    expected = malloc(sizeof *expected);
    expected[0] = 2.5;
    check(s, tess_scalar(s, 2.5, TESS_F64), TESS_SHAPE_0D, expected, 0);
}

static void test_random(void **state)
{
    tess_session *s = *state;
    enum { COUNT = 40000 };
    double *first = malloc(COUNT * sizeof *first);
    double *second = malloc(COUNT * sizeof *second);
    tess_shape shape = TESS_SHAPE(200, 200);
    ok(s, tess_read(tess_random_normal(s, shape, TESS_F64, 3, 2, 5, TESS_CHUNKS(200, 200)), first, COUNT * 8));
    ok(s, tess_read(tess_random_normal(s, shape, TESS_F64, 3, 2, 5, TESS_CHUNKS(33, 61)), second, COUNT * 8));
    assert_memory_equal(first, second, COUNT * 8); /* whatever the chunks */
    ok(s, tess_read(tess_random_normal(s, shape, TESS_F64, 3, 2, 6, TESS_CHUNKS(33, 61)), second, COUNT * 8));
    assert_memory_not_equal(first, second, COUNT * 8);
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < COUNT; i++) {
        sum += first[i];
        squares += (first[i] - 3) * (first[i] - 3);
    }
    assert_true(fabs(sum / COUNT - 3) < 0.05);
    assert_true(fabs(squares / COUNT - 4) < 0.15);
    ok(s, tess_read(tess_random_uniform(s, shape, TESS_F64, -1, 2, 5, TESS_AUTO), first, COUNT * 8));
    sum = 0;
    for (int i = 0; i < COUNT; i++) {
        assert_true(first[i] >= -1 && first[i] < 2);
        sum += first[i];
    }
    assert_true(fabs(sum / COUNT - 0.5) < 0.03);
    free(first);
    free(second);
}

static void test_memory_round_trip(void **state)
{
    tess_session *s = *state;
    const tess_shape shapes[] = {TESS_SHAPE_0D,      TESS_SHAPE(1),          TESS_SHAPE(97),
                                 TESS_SHAPE(13, 29), TESS_SHAPE(5, 1, 7, 3), TESS_SHAPE(2, 3, 1, 2, 2, 3, 1, 2),
                                 TESS_SHAPE(0, 4)};
    const tess_shape chunks[] = {TESS_AUTO,
                                 TESS_AUTO,
                                 TESS_CHUNKS(10),
                                 TESS_CHUNKS(4, 6),
                                 TESS_CHUNKS(2, 1, 3, 2),
                                 TESS_CHUNKS(1, 2, 1, 1, 2, 2, 1, 1),
                                 TESS_AUTO};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (uint32_t dtype = TESS_BOOL; dtype <= TESS_C128; dtype++) {
            uint64_t bytes = (uint64_t)elements_of(shapes[i]) * tess_dtype_size((tess_dtype)dtype);
            uint8_t *data = malloc(bytes + 1);
            uint8_t *back = calloc(1, bytes + 1);
            for (uint64_t b = 0; b < bytes; b++) {
                data[b] = dtype == TESS_BOOL ? b % 3 == 0 : (uint8_t)(b * 7 + 3);
            }
            tess_array *a = tess_from_memory(s, data, shapes[i], (tess_dtype)dtype, chunks[i]);
            uint8_t *kept = tessi_memdup(data, bytes);
            memset(data, 0xee, bytes); /* the library has its own copy */
            ok(s, tess_read(a, back, bytes));
            assert_memory_equal(back, kept, bytes);
            tessi_free(kept);
            free(data);
            free(back);
        }
    }
}

static void test_large_blocks_travel(void **state)
{
    tess_session *s = *state;
    enum { ROWS = 1501, COLUMNS = 1203 };
    double *data = samples((int64_t)ROWS * COLUMNS);
    double *back = malloc((size_t)ROWS * COLUMNS * 8);
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(ROWS, COLUMNS), TESS_F64, TESS_CHUNKS(700, 500));
    tess_array *b = tess_from_memory(s, data, TESS_SHAPE(ROWS, COLUMNS), TESS_F64, TESS_CHUNKS(-1, -1));
    ok(s, tess_read(a, back, (uint64_t)ROWS * COLUMNS * 8));
    assert_memory_equal(back, data, (size_t)ROWS * COLUMNS * 8);
    memset(back, 0, (size_t)ROWS * COLUMNS * 8);
    ok(s, tess_read(tess_rechunk(b, TESS_CHUNKS(100, -1)), back, (uint64_t)ROWS * COLUMNS * 8));
    assert_memory_equal(back, data, (size_t)ROWS * COLUMNS * 8);
    free(data);
    free(back);
}

/* ——— element by element ——— */

static double apply(int op, double x, double y)
{
    switch (op) {
    case 0:
        return x + y;
    case 1:
        return x - y;
    case 2:
        return x * y;
    default:
        return x / y;
    }
}

static void test_binary_operations(void **state)
{
    tess_session *s = *state;
    tess_array *(*const operations[])(tess_array *, tess_array *) = {tess_add, tess_subtract, tess_multiply,
                                                                     tess_divide};
    const tess_dtype dtypes[] = {TESS_F64, TESS_F32, TESS_I64, TESS_I32, TESS_C128};
    tess_shape shape = TESS_SHAPE(11, 13);
    double *data = samples(11 * 13);
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        for (int op = 0; op < 4; op++) {
            tess_array *a = put(s, data, shape, dtypes[d], TESS_CHUNKS(4, 5));
            tess_array *b = put(s, data + 1, TESS_SHAPE(13), dtypes[d], TESS_CHUNKS(6)); /* other chunks, a row */
            tess_array *c = put(s, data + 2, TESS_SHAPE(11, 1), dtypes[d], TESS_CHUNKS(3, 1));
            double *with_row = malloc(11 * 13 * sizeof *with_row);
            double *outer = malloc(11 * 13 * sizeof *outer);
            for (int i = 0; i < 11; i++) {
                for (int j = 0; j < 13; j++) {
                    double x = data[i * 13 + j];
                    double y = data[1 + j] + 1;
                    with_row[i * 13 + j] = apply(op, x, y);
                    outer[i * 13 + j] = apply(op, data[2 + i], y);
                }
            }
            tess_array *one = tess_ones(s, TESS_SHAPE_0D, dtypes[d], TESS_AUTO);
            tess_array *row = tess_add(b, one);
            double tolerance = dtypes[d] == TESS_F32 ? 1e-6 : 1e-15;
            if (dtypes[d] == TESS_C128) { /* its real part, as the only thing that can be read as a number */
                tess_array *element =
                    tess_slice(operations[op](a, row), TESS_SLICES(TESS_RANGE(3, 4), TESS_RANGE(6, 7)));
                double value;
                ok(s, tess_read_scalar(element, &value));
                assert_true(fabs(value - with_row[3 * 13 + 6]) <= 1e-14 * (1 + fabs(value)));
                free(with_row);
                free(outer);
            } else {
                check(s, operations[op](a, row), shape, with_row, tolerance);
                check(s, operations[op](c, row), shape, outer, tolerance);
            }
        }
    }
    free(data);
}

static void test_functions_and_scalars(void **state)
{
    tess_session *s = *state;
    tess_shape shape = TESS_SHAPE(9, 8);
    double *data = samples(72);
    tess_array *a = put(s, data, shape, TESS_F64, TESS_CHUNKS(4, 3));
    double *expected[8];
    for (int k = 0; k < 8; k++) {
        expected[k] = malloc(72 * sizeof(double));
    }
    for (int i = 0; i < 72; i++) {
        double x = data[i];
        expected[0][i] = -x;
        expected[1][i] = fabs(x - 50);
        expected[2][i] = sqrt(x);
        expected[3][i] = exp(x / 50);
        expected[4][i] = log(x + 1);
        expected[5][i] = (x + 2) * 3 - 4;
        expected[6][i] = trunc(x / 2);
        expected[7][i] = x != 0;
    }
    check(s, tess_negative(a), shape, expected[0], 0);
    check(s, tess_abs(tess_subtract_scalar(a, 50)), shape, expected[1], 0);
    check(s, tess_sqrt(put(s, data, shape, TESS_U8, TESS_CHUNKS(4, 3))), shape, expected[2], 1e-15);
    check(s, tess_exp(tess_divide_scalar(a, 50)), shape, expected[3], 1e-14);
    check(s, tess_log(tess_add_scalar(a, 1)), shape, expected[4], 1e-14);
    check(s, tess_subtract_scalar(tess_multiply_scalar(tess_add_scalar(a, 2), 3), 4), shape, expected[5], 1e-15);
    check(s, tess_astype(tess_divide_scalar(a, 2), TESS_I32), shape, expected[6], 0);
    check(s, tess_astype(a, TESS_BOOL), shape, expected[7], 0);
    free(data);
}

/* The same expression in one task a block, and with every intermediate held. */
static void test_fusion_keeps_the_bits(void **state)
{
    tess_session *s = *state;
    enum { COUNT = 3000 };
    const tess_dtype dtypes[] = {TESS_F64, TESS_F32, TESS_F16, TESS_BF16};
    for (size_t d = 0; d < 4; d++) {
        uint8_t fused[COUNT * 8];
        uint8_t unfused[COUNT * 8];
        for (int hold = 0; hold < 2; hold++) {
            tess_array *x = tess_random_uniform(s, TESS_SHAPE(COUNT), dtypes[d], 1, 2, 3, TESS_CHUNKS(700));
            tess_array *steps[6] = {tess_log(x)};
            steps[1] = tess_multiply(steps[0], x);
            steps[2] = tess_add_scalar(steps[1], 0.3);
            steps[3] = tess_exp(steps[2]);
            steps[4] = tess_divide(steps[3], x);
            steps[5] = tess_sqrt(steps[4]);
            if (hold != 0) {
                ok(s, tess_persist_all(steps, 6));
            }
            ok(s, tess_read(steps[5], hold != 0 ? unfused : fused, COUNT * tess_dtype_size(dtypes[d])));
        }
        assert_memory_equal(fused, unfused, COUNT * tess_dtype_size(dtypes[d]));
    }
}

/* ——— reductions ——— */

static void test_reductions(void **state)
{
    tess_session *s = *state;
    enum { A = 9, B = 10, C = 11 };
    const tess_dtype dtypes[] = {TESS_F64, TESS_F32, TESS_I32, TESS_U8, TESS_F16};
    double *data = samples(A * B * C);
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        tess_array *a = put(s, data, TESS_SHAPE(A, B, C), dtypes[d], TESS_CHUNKS(2, 3, 4));
        for (uint32_t axes = 1; axes < 8; axes++) {
            tess_shape shape = {0};
            tess_shape kept = {.ndim = 3};
            int64_t extent[3] = {A, B, C};
            for (uint32_t axis = 0; axis < 3; axis++) {
                kept.dim[axis] = (axes >> axis & 1u) != 0 ? 1 : extent[axis];
                if ((axes >> axis & 1u) == 0) {
                    shape.dim[shape.ndim++] = extent[axis];
                }
            }
            int64_t count = elements_of(shape);
            double *sum = calloc((size_t)count, sizeof *sum);
            double *mean = calloc((size_t)count, sizeof *mean);
            double *least = malloc((size_t)count * sizeof *least);
            double *most = malloc((size_t)count * sizeof *most);
            for (int64_t i = 0; i < count; i++) {
                least[i] = INFINITY;
                most[i] = -INFINITY;
            }
            for (int64_t i = 0; i < A * B * C; i++) {
                int64_t at[3] = {i / (B * C), i / C % B, i % C};
                int64_t o = 0;
                for (uint32_t axis = 0; axis < 3; axis++) {
                    o = kept.dim[axis] == 1 ? o : o * extent[axis] + at[axis];
                }
                sum[o] += data[i];
                mean[o] += data[i] / (double)(A * B * C / count);
                least[o] = fmin(least[o], data[i]);
                most[o] = fmax(most[o], data[i]);
            }
            double tolerance = dtypes[d] == TESS_F16 ? 2e-2 : dtypes[d] == TESS_F32 ? 1e-5 : 1e-13;
            check(s, tess_mean(a, axes, true), kept, mean, tolerance);
            check(s, tess_min(a, axes, false), shape, least, 0);
            check(s, tess_max(a, axes, true), kept, most, 0);
            if (dtypes[d] == TESS_F16) {
                free(sum); /* sums above 2048 are not exact there, above 65504 not finite */
            } else {
                check(s, tess_sum(a, axes, false), shape, sum, tolerance);
            }
        }
    }
    double *nan = malloc(sizeof *nan);
    data[17] = NAN;
    nan[0] = NAN;
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(A * B * C), TESS_F64, TESS_CHUNKS(50));
    check(s, tess_min(a, TESS_ALL, false), TESS_SHAPE_0D, nan, 0);
    free(data);
}

/* ——— structure ——— */

static void test_structure(void **state)
{
    tess_session *s = *state;
    enum { R = 23, C = 17 };
    double *data = samples(R * C);
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(R, C), TESS_F64, TESS_CHUNKS(5, 7));
    double *transposed = malloc(R * C * sizeof *transposed);
    double *part = malloc(9 * 6 * sizeof *part);
    double *same = malloc(R * C * sizeof *same);
    memcpy(same, data, R * C * sizeof *same);
    for (int i = 0; i < R; i++) {
        for (int j = 0; j < C; j++) {
            transposed[j * R + i] = data[i * C + j];
        }
    }
    for (int i = 0; i < 9; i++) {
        for (int j = 0; j < 6; j++) {
            part[i * 6 + j] = data[(3 + 2 * i) * C + 1 + 3 * j];
        }
    }
    check(s, tess_transpose(a), TESS_SHAPE(C, R), transposed, 0);
    check(s, tess_rechunk(a, TESS_CHUNKS(4, 11)), TESS_SHAPE(R, C), same, 0);
    tess_array *sliced = tess_slice(a, TESS_SLICES(TESS_STEP(3, 21, 2), TESS_STEP(1, TESS_END, 3)));
    check(s, sliced, TESS_SHAPE(9, 6), part, 0);
    double *again = malloc(2 * 6 * sizeof *again);
    for (int j = 0; j < 6; j++) {
        again[j] = data[19 * C + 1 + 3 * j];
        again[6 + j] = data[7 * C + 1 + 3 * j];
    }
    double *swapped = malloc(2 * 6 * sizeof *swapped);
    memcpy(swapped, again + 6, 6 * sizeof *swapped);
    memcpy(swapped + 6, again, 6 * sizeof *swapped);
    free(again);
    check(s, tess_rechunk(tess_slice(sliced, TESS_SLICES(TESS_STEP(2, TESS_END, 6))), TESS_CHUNKS(1, -1)),
          TESS_SHAPE(2, 6), swapped, 0);

    tess_array *cube = tess_from_memory(s, data, TESS_SHAPE(3, 4, 5), TESS_F64, TESS_CHUNKS(2, 3, 2));
    double *turned = malloc(60 * sizeof *turned);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 4; j++) {
            for (int k = 0; k < 5; k++) {
                turned[(j * 5 + k) * 3 + i] = data[(i * 4 + j) * 5 + k];
            }
        }
    }
    check(s, tess_permute(cube, (const uint32_t[]){1, 2, 0}, 3), TESS_SHAPE(4, 5, 3), turned, 0);
    free(data);
}

/* ——— products ——— */

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

/* ——— files ——— */

static void make_folder(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/tessera-embedded.XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int count_and_remove(const char *folder)
{
    int count = 0;
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] != '.') {
            char path[512];
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            assert_int_equal(unlink(path), 0);
            count++;
        }
    }
    closedir(directory);
    assert_int_equal(rmdir(folder), 0);
    return count;
}

/* A file of version 1.0 with that dict and the elements. */
static void write_npy(const char *path, const char *dict, const void *data, size_t bytes)
{
    char head[512];
    int length = snprintf(head + 10, sizeof head - 10, "%s\n", dict);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(length & 0xff);
    head[9] = (char)(length >> 8);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(head, 1, (size_t)length + 10, file), (size_t)length + 10);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void test_npy_round_trip(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/a.npy", folder);
    enum { R = 301, C = 203 };
    double *data = samples(R * C);
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(R, C), TESS_F64, TESS_CHUNKS(64, 100));
    ok(s, tess_write_npy(a, path));
    tess_array *back = tess_from_npy(s, path, TESS_CHUNKS(50, 30));
    double *same = malloc(R * C * sizeof *same);
    memcpy(same, data, R * C * sizeof *same);
    check(s, back, TESS_SHAPE(R, C), same, 0);

    /* In place of an older file; a scalar; nothing at all; half precision. */
    ok(s, tess_write_npy(tess_sum(a, TESS_ALL, false), path));
    double total = 0;
    for (int i = 0; i < R * C; i++) {
        total += data[i];
    }
    double value;
    ok(s, tess_read_scalar(tess_from_npy(s, path, TESS_AUTO), &value));
    assert_true(value == total);
    ok(s, tess_write_npy(tess_zeros(s, TESS_SHAPE(0, 3), TESS_I32, TESS_AUTO), path));
    assert_int_equal(tess_array_shape(tess_from_npy(s, path, TESS_AUTO)).dim[1], 3);
    ok(s, tess_write_npy(tess_astype(a, TESS_F16), path));
    assert_int_equal(tess_array_dtype(tess_from_npy(s, path, TESS_AUTO)), TESS_F16);
    assert_int_equal(tess_write_npy(tess_astype(a, TESS_BF16), path), TESS_UNSUPPORTED);
    tess_session_clear_error(s);

    /* Fortran order: the file holds the columns one after the other. */
    write_npy(path, "{'descr': '<f8', 'fortran_order': True, 'shape': (203, 301), }", data, R * C * sizeof *data);
    double *turned = malloc(R * C * sizeof *turned);
    for (int i = 0; i < C; i++) {
        for (int j = 0; j < R; j++) {
            turned[i * R + j] = data[j * C + i];
        }
    }
    tess_array *fortran = tess_from_npy(s, path, TESS_CHUNKS(40, 70));
    assert_int_equal(tess_array_chunk(fortran, 0, 0), 40);
    check(s, fortran, TESS_SHAPE(C, R), turned, 0);
    free(data);
    assert_int_equal(count_and_remove(folder), 1);
}

static void test_hostile_npy_files(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/bad.npy", folder);
    const double body[16] = {0};
    const char *dicts[] = {
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-4, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4, 5), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4, 4), }",
        "{'descr': '>f8', 'fortran_order': False, 'shape': (4, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }",
        "{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (4, 4), }",
        "{'descr': '<f8', 'shape': (4, 4), }",
        "",
    };
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        write_npy(path, dicts[i], body, sizeof body);
        tess_array *a = tess_from_npy(s, path, TESS_AUTO);
        assert_int_not_equal(tess_array_status(a), TESS_OK);
        assert_non_null(strstr(tess_array_error(a), "bad.npy"));
    }
    write_bytes(path, "", 0);
    assert_int_equal(tess_array_status(tess_from_npy(s, path, TESS_AUTO)), TESS_FORMAT);
    write_bytes(path, "\x93NUMPY\x02\x00\xff\xff\xff\x7f{", 13);
    assert_int_equal(tess_array_status(tess_from_npy(s, path, TESS_AUTO)), TESS_FORMAT);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(tess_array_status(tess_from_npy(s, path, TESS_AUTO)), TESS_IO);
    unlink(path);

    /* A file that is gone or cut short when the workers come to read it: the task fails and says which. */
    write_npy(path, "{'descr': '<f8', 'fortran_order': False, 'shape': (4, 4), }", body, sizeof body);
    tess_array *cut = tess_from_npy(s, path, TESS_AUTO);
    tess_session_clear_error(s);
    assert_int_equal(truncate(path, 100), 0);
    double back[16];
    assert_int_not_equal(tess_read(tess_add_scalar(cut, 1), back, sizeof back), TESS_OK);
    assert_non_null(strstr(tess_session_error(s), "bad.npy"));
    assert_int_equal(count_and_remove(folder), 1);
}

static void test_failed_write_leaves_nothing(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    char missing[400];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/out.npy", folder);
    snprintf(missing, sizeof missing, "%s/no/such/out.npy", folder);
    assert_int_equal(tess_write_npy(tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO), missing), TESS_IO);
    assert_non_null(strstr(tess_session_error(s), missing));
    tess_session_clear_error(s);
    write_bytes(path, "before", 6);
    char source[300];
    snprintf(source, sizeof source, "%s/source.npy", folder);
    ok(s, tess_write_npy(tess_ones(s, TESS_SHAPE(40), TESS_F64, TESS_AUTO), source));
    tess_array *a = tess_from_npy(s, source, TESS_CHUNKS(10));
    assert_int_equal(unlink(source), 0);
    assert_int_not_equal(tess_write_npy(a, path), TESS_OK);
    char content[6];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(content, 1, 6, file), 6);
    fclose(file);
    assert_memory_equal(content, "before", 6);
    assert_int_equal(count_and_remove(folder), 1);
}

/* ——— computing ——— */

/* Sum of a field over the cluster's workers, as its status tells it. */
static double cluster_sum(tess_session *s, const char *field)
{
    struct tessi_error error;
    char *json;
    assert_int_equal(tessi_link_status_document(s->link, &json, &error), TESSI_OK);
    cJSON *document = cJSON_Parse(json);
    double sum = 0;
    const cJSON *worker;
    cJSON_ArrayForEach(worker, cJSON_GetObjectItem(document, "workers"))
    {
        const cJSON *value = cJSON_GetObjectItem(worker, field);
        assert_non_null(value);
        sum += cJSON_GetNumberValue(value);
    }
    cJSON_Delete(document);
    tessi_free(json);
    return sum;
}

/* Ask until the workers' memory is as wanted. A worker tells its gauges with the tasks that it has done, and seldom
 * otherwise: each question follows a small task, whose block may still be counted. */
static void await_memory(tess_session *s, double least, double most)
{
    int64_t end = tessi_clock_now() + DEADLINE_NS;
    double used;
    do {
        double ignored;
        ok(s, tess_read_scalar(tess_scalar(s, 1, TESS_F64), &ignored));
        used = cluster_sum(s, "memory_used_bytes");
        if (used >= least && used <= most + 256) {
            return;
        }
    } while (tessi_clock_now() < end);
    fail_msg("the workers use %.0f bytes, expected %.0f to %.0f", used, least, most);
}

static void test_scopes_free_the_cluster(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 128 * MIB);
    tess_array *kept = NULL;
    tess_scope *scope = tess_scope_open(s);
    tess_array *big = tess_random_uniform(s, TESS_SHAPE(1024, 1024), TESS_F64, 0, 1, 1, TESS_CHUNKS(256, 256));
    kept = tess_keep(tess_sum(big, TESS_AXIS(0), false));
    ok(s, tess_persist_all((tess_array *[]){big, kept}, 2));
    ok(s, tess_wait(big, 0));
    ok(s, tess_wait(kept, 0));
    await_memory(s, 8 * MIB, 9 * MIB);
    tess_scope_close(scope);
    await_memory(s, 1024 * 8, 1024 * 8); /* the sum alone */
    double first;
    ok(s, tess_read_scalar(tess_slice(kept, TESS_SLICES(TESS_RANGE(0, 1))), &first));
    assert_true(first > 400 && first < 624);
    tess_release(kept);
    await_memory(s, 0, 0);
    tess_session_close(s);
}

static void test_iteration_with_persisted_arrays(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 64 * MIB);
    tess_array *x = tess_ones(s, TESS_SHAPE(300, 300), TESS_F64, TESS_CHUNKS(100, 100));
    for (int i = 0; i < 40; i++) {
        tess_array *next = tess_add_scalar(tess_multiply_scalar(x, 0.5), 1);
        ok(s, tess_persist(next));
        tess_release(x);
        x = next;
    }
    double value;
    ok(s, tess_read_scalar(tess_mean(x, TESS_ALL, false), &value));
    assert_true(fabs(value - 2) < 1e-11);
    ok(s, tess_wait(x, 0));
    await_memory(s, 300 * 300 * 8, 300 * 300 * 8); /* the last one only */
    tess_stats stats;
    ok(s, tess_session_stats(s, &stats));
    assert_int_equal(stats.workers, 1);
    assert_int_equal(stats.tasks_rerun, 0);
    assert_true(stats.tasks >= 40 * 9);
    assert_true(stats.peak_worker_bytes >= 300 * 300 * 8 && stats.peak_worker_bytes <= 64 * MIB);
    assert_true(stats.seconds > 0);
    tess_session_close(s);
}

static void test_wrong_uses(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO);
    double data[8];
    double value = 0;
    assert_int_equal(tess_wait(a, 0), TESS_INVALID);
    assert_non_null(strstr(tess_session_error(s), "tess_persist"));
    assert_int_equal(tess_read(a, data, sizeof data), TESS_INVALID);
    assert_int_equal(tess_read(a, NULL, 32), TESS_INVALID);
    assert_int_equal(tess_read_scalar(a, &value), TESS_INVALID);
    assert_true(isnan(value));
    assert_int_equal(tess_read(NULL, data, 32), TESS_INVALID);
    assert_int_equal(tess_persist(NULL), TESS_INVALID);
    assert_int_equal(tess_write_npy(a, ""), TESS_INVALID);
    tess_cancel(a);
    tess_cancel(NULL);
    ok(s, tess_read(a, data, 32));
    assert_true(data[3] == 1.0);
}

static void test_too_big(void **state)
{
    (void)state;
    tess_session *s = tess_session_open(
        NULL, &(tess_session_options){.workers = 1, .memory_bytes = 8 * MIB, .spill_bytes = UINT64_MAX});
    ok(s, tess_session_status(s));
    tess_array *block = tess_ones(s, TESS_SHAPE(2048, 2048), TESS_F64, TESS_CHUNKS(2048, 2048));
    ok(s, tess_persist(block));
    assert_int_equal(tess_wait(block, 0), TESS_TOO_BIG);
    assert_non_null(strstr(tess_session_error(s), "chunk"));
    tess_session_clear_error(s);
    double value;
    ok(s, tess_read_scalar(
              tess_sum(tess_ones(s, TESS_SHAPE(2048, 2048), TESS_F64, TESS_CHUNKS(128, 128)), TESS_ALL, false),
              &value)); /* 32 MiB through 8 */
    assert_true(value == 2048.0 * 2048.0);
    tess_session_close(s);
}

static void test_more_than_memory(void **state)
{
    (void)state;
    tess_session *s = open_cluster(2, 16 * MIB);
    enum { N = 2048 };
    tess_array *r = tess_random_uniform(s, TESS_SHAPE(N, N), TESS_F64, 0, 1, 4, TESS_CHUNKS(256, 256));
    tess_array *squares = tess_multiply(r, r);
    ok(s, tess_persist(squares)); /* 32 MiB: half of it goes to disk */
    ok(s, tess_wait(squares, 0));
    double *data = malloc((size_t)N * N * 8);
    double *again = malloc((size_t)N * N * 8);
    ok(s, tess_read(squares, data, (uint64_t)N * N * 8));
    ok(s, tess_read(tess_multiply(r, r), again, (uint64_t)N * N * 8));
    assert_memory_equal(data, again, (size_t)N * N * 8);
    free(data);
    free(again);
    tess_session_close(s);
}

struct canceller {
    tess_array *array;
    int calls;
};

static void cancel_at_once(const tess_progress *progress, void *context)
{
    struct canceller *canceller = context;
    canceller->calls++;
    if (!progress->finished) {
        tess_cancel(canceller->array);
    }
}

static void *cancel_from_thread(void *argument)
{
    tess_cancel(argument);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    tess_session *s = open_cluster(1, 128 * MIB);
    /* Thousands of blocks: it cannot be complete when the first news of it arrives. */
    tess_array *r = tess_random_normal(s, TESS_SHAPE(4096, 1024), TESS_F64, 0, 1, 4, TESS_CHUNKS(16, 64));
    tess_array *work = tess_exp(tess_sqrt(tess_abs(r)));
    struct canceller canceller = {work, 0};
    tess_session_on_progress(s, cancel_at_once, &canceller);
    ok(s, tess_persist(work));
    assert_int_equal(tess_wait(work, 0), TESS_CANCELLED);
    assert_true(canceller.calls >= 2);
    tess_session_on_progress(s, NULL, NULL);
    assert_int_equal(tess_wait(work, 0), TESS_CANCELLED);
    tess_session_clear_error(s);

    ok(s, tess_persist(work)); /* anew */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_from_thread, work), 0);
    tess_status status = tess_wait(work, 0);
    assert_true(status == TESS_CANCELLED || status == TESS_OK); /* who is first decides */
    pthread_join(thread, NULL);
    tess_session_clear_error(s);
    tess_release(work);
    await_memory(s, 0, 0);
    double value;
    ok(s, tess_read_scalar(tess_sum(tess_ones(s, TESS_SHAPE(100), TESS_F64, TESS_CHUNKS(7)), TESS_ALL, false), &value));
    assert_true(value == 100);
    tess_session_close(s);
}

static void test_wait_with_a_limit(void **state)
{
    (void)state;
    tess_session *s = open_cluster(1, 64 * MIB);
    tess_array *r = tess_random_normal(s, TESS_SHAPE(4096, 1024), TESS_F64, 0, 1, 4, TESS_CHUNKS(64, 64));
    tess_array *total = tess_sum(tess_exp(r), TESS_ALL, false);
    ok(s, tess_persist(total));
    tess_status status = tess_wait(total, 1);
    assert_true(status == TESS_TIMEOUT || status == TESS_OK);
    assert_int_equal(tess_session_status(s), TESS_OK);
    ok(s, tess_wait(total, 0));
    ok(s, tess_wait(total, 1));
    tess_session_close(s);
}

static void test_sessions_side_by_side(void **state)
{
    (void)state;
    tess_session *sessions[3];
    double value;
    for (int i = 0; i < 3; i++) {
        sessions[i] = open_cluster(1, 32 * MIB);
    }
    for (int i = 0; i < 3; i++) {
        ok(sessions[i], tess_read_scalar(tess_full(sessions[i], TESS_SHAPE_0D, TESS_F64, i, TESS_AUTO), &value));
        assert_true(value == i);
    }
    for (int i = 0; i < 3; i++) {
        tess_session_close(sessions[i]);
    }
}

/* ——— clusters that cannot be reached ——— */

static void test_unreachable(void **state)
{
    (void)state;
    int64_t begin = tessi_clock_now();
    tess_session *s = tess_session_open("tcp://127.0.0.1:1", NULL);
    assert_int_equal(tess_session_status(s), TESS_UNREACHABLE);
    assert_non_null(strstr(tess_session_error(s), "127.0.0.1:1"));
    assert_true(tessi_clock_now() - begin < 10 * TESSI_NS_PER_S);
    tess_session_close(s);
    s = tess_session_open(NULL, &(tess_session_options){.spill_dir = "/no/such/folder", .workers = 1});
    assert_int_not_equal(tess_session_status(s), TESS_OK);
    assert_non_null(strstr(tess_session_error(s), "/no/such/folder"));
    tess_session_close(s);
    s = tess_session_open("tcp://127.0.0.1:1", &(tess_session_options){.keys_dir = "/no/such/keys"});
    assert_int_equal(tess_session_status(s), TESS_NOT_FOUND);
    tess_session_close(s);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_scope, close_scope)

int main(void)
{
    const struct CMUnitTest shared[] = {
        TEST(test_generators),
        TEST(test_random),
        TEST(test_memory_round_trip),
        TEST(test_large_blocks_travel),
        TEST(test_binary_operations),
        TEST(test_functions_and_scalars),
        TEST(test_fusion_keeps_the_bits),
        TEST(test_reductions),
        TEST(test_structure),
        TEST(test_products),
        TEST(test_narrow_products),
        TEST(test_npy_round_trip),
        TEST(test_hostile_npy_files),
        TEST(test_failed_write_leaves_nothing),
        TEST(test_wrong_uses),
    };
    const struct CMUnitTest own[] = {
        cmocka_unit_test(test_same_bits_with_other_workers),
        cmocka_unit_test(test_scopes_free_the_cluster),
        cmocka_unit_test(test_iteration_with_persisted_arrays),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_more_than_memory),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_wait_with_a_limit),
        cmocka_unit_test(test_sessions_side_by_side),
        cmocka_unit_test(test_unreachable),
    };
    int failures = cmocka_run_group_tests_name("one cluster", shared, open_group, close_group);
    return failures + cmocka_run_group_tests_name("clusters of their own", own, NULL, NULL);
}
