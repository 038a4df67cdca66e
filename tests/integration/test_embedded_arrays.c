/* Arrays that are made, computed element by element, reduced and cut, against naive loops. */
#include "tests/integration/embedded.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"

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

/* Whole numbers keep arrays of integers what they are, exact and wrapping around. */
static void test_integers_with_numbers(void **state)
{
    tess_session *s = *state;
    uint8_t bytes[3] = {0, 100, 250}, wrapped[3];
    tess_array *u8 = tess_from_memory(s, bytes, TESS_SHAPE(3), TESS_U8, TESS_CHUNKS(2));
    tess_array *result = tess_subtract_scalar(tess_add_scalar(tess_multiply_scalar(u8, 3), 7), 8);
    assert_int_equal(tess_array_dtype(result), TESS_U8);
    ok(s, tess_read(result, wrapped, sizeof wrapped));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(wrapped[i], (uint8_t)(bytes[i] * 3 - 1));
    }
    int64_t wide[2] = {(INT64_C(1) << 53) + 1, -(INT64_C(1) << 62) - 1}, sums[2];
    tess_array *i64 = tess_from_memory(s, wide, TESS_SHAPE(2), TESS_I64, TESS_AUTO);
    ok(s, tess_read(tess_subtract_scalar(tess_multiply_scalar(i64, -1), 0x1p62), sums, sizeof sums));
    assert_true(sums[0] == -wide[0] - (INT64_C(1) << 62) && sums[1] == 1);
    uint64_t most[1] = {UINT64_MAX}, half[1];
    tess_array *u64 = tess_from_memory(s, most, TESS_SHAPE(1), TESS_U64, TESS_AUTO);
    ok(s, tess_read(tess_subtract_scalar(u64, 0x1p63), half, sizeof half));
    assert_true(half[0] == INT64_MAX);
    double quotient;
    ok(s, tess_read_scalar(tess_sum(tess_divide_scalar(u8, 4), TESS_ALL, false), &quotient));
    assert_true(quotient == 87.5);
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
            check(s, tess_sum(a, axes, false), shape, sum, dtypes[d] == TESS_F16 ? 0x1p-11 : tolerance);
        }
    }
    double *nan = malloc(sizeof *nan);
    data[17] = NAN;
    nan[0] = NAN;
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(A * B * C), TESS_F64, TESS_CHUNKS(50));
    check(s, tess_min(a, TESS_ALL, false), TESS_SHAPE_0D, nan, 0);
    free(data);
}

/* A sum is rounded once, however its chunks are cut: 65,519 ones are the largest f16 and not infinite, and 257 ones of bf16
 * in which each level would stand still. */
static void test_narrow_sums(void **state)
{
    tess_session *s = *state;
    static const int64_t chunks[] = {65519, 1000, 100, 7};
    for (int i = 0; i < 4; i++) {
        tess_array *ones = tess_ones(s, TESS_SHAPE(65519), TESS_F16, TESS_CHUNKS(chunks[i]));
        tess_array *minus = tess_full(s, TESS_SHAPE(65519), TESS_F16, -4, TESS_CHUNKS(chunks[i]));
        double value;
        ok(s, tess_read_scalar(tess_sum(ones, TESS_ALL, false), &value));
        assert_true(value == 65504);
        ok(s, tess_read_scalar(tess_mean(minus, TESS_ALL, false), &value));
        assert_true(value == -4);
        assert_int_equal(tess_array_dtype(tess_sum(ones, TESS_ALL, true)), TESS_F16);
        tess_array *short_ones = tess_ones(s, TESS_SHAPE(3, 65519), TESS_BF16, TESS_CHUNKS(2, chunks[i]));
        double *sums = malloc(3 * sizeof *sums);
        for (int j = 0; j < 3; j++) {
            sums[j] = 65536;
        }
        check(s, tess_sum(short_ones, TESS_AXIS(1), false), TESS_SHAPE(3), sums, 0);
    }
}

/* The mean is 2049 + 1/8193, a little more than the middle of two f16; as an f32 it would be the middle, which goes down. */
static void test_narrow_mean_rounded_once(void **state)
{
    tess_session *s = *state;
    enum { N = 8193, SMALL = 4096 };
    uint16_t *data = malloc(N * sizeof *data);
    double value;
    for (int i = 0; i < N; i++) {
        data[i] = i < SMALL ? 0x6800 : 0x6801; /* 2048, 2050 */
    }
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(N), TESS_F16, TESS_CHUNKS(1000));
    ok(s, tess_read_scalar(tess_mean(a, TESS_ALL, false), &value));
    assert_true(value == 2050);
    free(data);
}

/* A mask of 0 and 255, as image programs write it, is a mask. */
static void test_truth_values_from_memory(void **state)
{
    tess_session *s = *state;
    const uint8_t mask[6] = {0, 255, 2, 1, 0, 128};
    const uint8_t both[6] = {1, 1, 1, 2, 255, 64};
    uint8_t back[6];
    double value;
    tess_array *a = tess_from_memory(s, mask, TESS_SHAPE(6), TESS_BOOL, TESS_CHUNKS(4));
    tess_array *b = tess_from_memory(s, both, TESS_SHAPE(6), TESS_BOOL, TESS_CHUNKS(4));
    ok(s, tess_read_scalar(tess_sum(a, TESS_ALL, false), &value));
    assert_true(value == 4);
    ok(s, tess_read(tess_multiply(a, b), back, sizeof back));
    assert_memory_equal(back, ((uint8_t[6]){0, 1, 1, 1, 0, 1}), 6);
    ok(s, tess_read(a, back, sizeof back));
    assert_memory_equal(back, ((uint8_t[6]){0, 1, 1, 1, 0, 1}), 6);
    ok(s, tess_read_scalar(tess_max(a, TESS_ALL, false), &value));
    assert_true(value == 1);
}

/* ——— structure ——— */

/* Blocks large enough that the layers which cut them anew read pieces of some. */
static void test_neighbours(void **state)
{
    tess_session *s = *state;
    enum { R = 600, C = 500 };
    double *data = samples(R * C), *same = malloc(R * C * sizeof *same);
    double *change = malloc((R - 1) * (C - 1) * sizeof *change);
    memcpy(same, data, R * C * sizeof *same);
    for (int i = 0; i < R - 1; i++) {
        for (int j = 0; j < C - 1; j++) {
            change[i * (C - 1) + j] = data[(i + 1) * C + j + 1] - data[i * C + j];
        }
    }
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(R, C), TESS_F64, TESS_CHUNKS(150, 140));
    tess_range later = TESS_RANGE(1, TESS_END), earlier = TESS_RANGE(0, -1);
    tess_array *moved = tess_slice(a, TESS_SLICES(later, later)), *still = tess_slice(a, TESS_SLICES(earlier, earlier));
    check(s, tess_subtract(moved, still), TESS_SHAPE(R - 1, C - 1), change, 0);
    check(s, tess_rechunk(a, TESS_CHUNKS(140, 150)), TESS_SHAPE(R, C), same, 0);
    free(data);
}

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

int main(void)
{
    const struct CMUnitTest shared[] = {
        TEST(test_generators),
        TEST(test_random),
        TEST(test_memory_round_trip),
        TEST(test_large_blocks_travel),
        TEST(test_binary_operations),
        TEST(test_functions_and_scalars),
        TEST(test_integers_with_numbers),
        TEST(test_fusion_keeps_the_bits),
        TEST(test_reductions),
        TEST(test_narrow_sums),
        TEST(test_narrow_mean_rounded_once),
        TEST(test_truth_values_from_memory),
        TEST(test_structure),
        TEST(test_neighbours),
    };
    return cmocka_run_group_tests_name("arrays", shared, open_group, close_group);
}
