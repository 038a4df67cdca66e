/* Reductions: every fold × dtype × set of axes against the reference, in one block and in many;
 * NaN, accuracy of sums, and a tree that follows from the shape alone.
 *
 * tests/run: one thread */
#include "tests/kernels/whole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/kernel/convert.h"

struct cut {
    struct tessi_shape shape;
    int64_t chunk[TESSI_NDIM_MAX];
};

static const struct cut cuts[] = {
    {{1, {1}}, {1}},
    {{1, {33}}, {33}},
    {{1, {5000}}, {1700}},
    {{2, {70, 600}}, {70, 600}},
    {{2, {41, 9}}, {10, 4}},
    {{2, {3, 2000}}, {2, 900}},
    {{3, {6, 7, 50}}, {4, 7, 20}},
    {{4, {3, 20, 5, 6}}, {3, 11, 5, 4}},
    {{3, {1, 40, 1}}, {1, 9, 1}},
};

static struct tessi_layer *reduce_layer(const struct cut *cut, enum tessi_dtype in, enum tessi_dtype out,
                                        enum tessi_fold fold, uint32_t axes, bool keepdims)
{
    struct tessi_shape shape = {0};
    int64_t chunk[TESSI_NDIM_MAX];
    for (uint32_t d = 0; d < cut->shape.ndim; d++) {
        bool folded = (axes >> d & 1) != 0;
        if (!folded || keepdims) {
            chunk[shape.ndim] = folded ? 1 : cut->chunk[d];
            shape.dim[shape.ndim++] = folded ? 1 : cut->shape.dim[d];
        }
    }
    struct tessi_layer *layer = whole_layer(TESSI_OP_REDUCE, out, &shape, chunk);
    struct tessi_input *input = whole_input(layer, in, &cut->shape, cut->chunk);
    uint32_t n = 0;
    for (uint32_t d = 0; d < cut->shape.ndim; d++) {
        bool folded = (axes >> d & 1) != 0;
        if (folded) {
            input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
        } else {
            input->rules.rule[d].dim = n;
        }
        n += !folded || keepdims ? 1 : 0;
    }
    layer->as.reduce.fold = fold;
    layer->as.reduce.axes = axes;
    layer->as.reduce.keepdims = keepdims;
    return layer;
}

static double tolerance_of(enum tessi_dtype dtype)
{
    if (tessi_dtype_kind(dtype) < TESSI_KIND_FLOAT) {
        return 0;
    }
    bool wide = dtype == TESSI_F64 || dtype == TESSI_C128;
    return wide ? 1e-12 : dtype == TESSI_F16 ? 0.05 : dtype == TESSI_BF16 ? 0.3 : 2e-4;
}

static void compare(const struct cut *cut, enum tessi_dtype in, enum tessi_dtype out, enum tessi_fold fold, uint32_t axes)
{
    struct tessi_layer *layer = reduce_layer(cut, in, out, fold, axes, axes % 3 == 1);
    void *data = whole_random(in, whole_elements(&cut->shape), axes, false);
    const void *inputs[1] = {data};
    void *fast = whole_run(layer, inputs, WHOLE_KERNEL);
    void *plain = whole_run(layer, inputs, WHOLE_REFERENCE);
    int64_t count = (int64_t)(tessi_layer_bytes(layer) / tessi_dtype_size(out));
    whole_assert_near(out, fast, plain, count, fold == TESSI_FOLD_SUM ? tolerance_of(out) : 0);
    free(data);
    free(fast);
    free(plain);
    tessi_layer_destroy(layer);
}

static void test_every_fold(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        for (uint32_t dtype = 0; dtype < TESSI_DTYPE_COUNT; dtype++) {
            for (uint32_t axes = 0; axes < 1u << cuts[c].shape.ndim; axes++) {
                compare(&cuts[c], dtype, tessi_dtype_sum(dtype), TESSI_FOLD_SUM, axes);
                if (tessi_dtype_kind(dtype) != TESSI_KIND_COMPLEX) {
                    compare(&cuts[c], dtype, dtype, TESSI_FOLD_MIN, axes);
                    compare(&cuts[c], dtype, dtype, TESSI_FOLD_MAX, axes);
                }
            }
        }
    }
}

/* Sums in a wider type than their input's or NumPy's. */
static void test_sum_types(void **state)
{
    (void)state;
    compare(&cuts[2], TESSI_I8, TESSI_F64, TESSI_FOLD_SUM, 1);
    compare(&cuts[3], TESSI_F32, TESSI_F64, TESSI_FOLD_SUM, 3);
    compare(&cuts[6], TESSI_F16, TESSI_C128, TESSI_FOLD_SUM, 5);
    compare(&cuts[6], TESSI_BOOL, TESSI_F32, TESSI_FOLD_SUM, 2);
}

/* Against long double, independent of the reference: the error of a pairwise sum stays small. */
static void test_accuracy(void **state)
{
    enum { N = 1000003 };
    const struct cut cut = {{1, {N}}, {N}};
    struct tessi_layer *layer = reduce_layer(&cut, TESSI_F32, TESSI_F32, TESSI_FOLD_SUM, 1, false);
    float *data = whole_random(TESSI_F32, N, 4, false);
    long double exact = 0;
    long double size = 0;
    (void)state;
    for (int i = 0; i < N; i++) {
        exact += (long double)data[i];
        size += fabsl((long double)data[i]);
    }
    float *sum = whole_run(layer, (const void *const[]){data}, WHOLE_KERNEL);
    /* Higham, "Accuracy and Stability of Numerical Algorithms", 4.2: u · (16 + 5 + 11 levels). */
    assert_true(fabsl((long double)*sum - exact) <= 40 * 0x1p-24L * size);
    assert_true(fabsl((long double)*sum - exact) <= 1e-6L * size);
    free(sum);
    free(data);
    tessi_layer_destroy(layer);
}

/* A NaN anywhere is the minimum and the maximum, and the sum; infinities order as numbers. */
static void test_nan(void **state)
{
    enum { N = 1100 };
    const struct cut cut = {{2, {2, N}}, {2, 300}};
    double *data = whole_random(TESSI_F64, 2 * N, 8, false);
    (void)state;
    for (int64_t place = 0; place < N; place += 37) {
        double kept = data[place];
        data[place] = NAN;
        data[N + 5] = -INFINITY;
        for (int fold = 0; fold < TESSI_FOLD_COUNT; fold++) {
            struct tessi_layer *layer = reduce_layer(&cut, TESSI_F64, TESSI_F64, (enum tessi_fold)fold, 2, false);
            double *out = whole_run(layer, (const void *const[]){data}, WHOLE_KERNEL);
            assert_true(isnan(out[0]));
            assert_true(!isnan(out[1]));
            bool extreme = fold == TESSI_FOLD_MAX ? out[1] > 3 && out[1] < 4 : out[1] < -1e300;
            assert_true(extreme);
            free(out);
            tessi_layer_destroy(layer);
        }
        data[place] = kept;
    }
    free(data);
}

/* Equal columns have equal sums wherever they lie in a tile, for narrow and for wide blocks. */
static void test_tree_follows_shape(void **state)
{
    enum { ROWS = 777, WIDE = 2500, NARROW = 3 };
    const struct cut wide = {{2, {ROWS, WIDE}}, {ROWS, WIDE}};
    const struct cut narrow = {{2, {ROWS, NARROW}}, {ROWS, NARROW}};
    double *column = whole_random(TESSI_F64, ROWS, 3, false);
    double *data = malloc(sizeof *data * ROWS * WIDE);
    (void)state;
    for (int i = 0; i < ROWS * WIDE; i++) {
        data[i] = column[i / WIDE];
    }
    struct tessi_layer *layer = reduce_layer(&wide, TESSI_F64, TESSI_F64, TESSI_FOLD_SUM, 1, false);
    double *sums = whole_run(layer, (const void *const[]){data}, WHOLE_KERNEL);
    tessi_layer_destroy(layer);
    for (int i = 0; i < ROWS * NARROW; i++) {
        data[i] = column[i / NARROW];
    }
    layer = reduce_layer(&narrow, TESSI_F64, TESSI_F64, TESSI_FOLD_SUM, 1, false);
    double *few = whole_run(layer, (const void *const[]){data}, WHOLE_KERNEL);
    tessi_layer_destroy(layer);
    for (int j = 0; j < WIDE; j++) {
        assert_memory_equal(&sums[j], &few[j % NARROW], sizeof sums[j]);
    }
    free(column);
    free(data);
    free(sums);
    free(few);
}

/* One level of a tree: groups of blocks, one element of the folded dimension each. */
static void test_groups(void **state)
{
    struct tessi_shape in = SHAPE(100, 6);
    struct tessi_shape out = SHAPE(4, 6);
    int64_t in_chunk[2] = {10, 4};
    int64_t out_chunk[2] = {1, 4};
    struct tessi_layer *layer = whole_layer(TESSI_OP_REDUCE, TESSI_I64, &out, out_chunk);
    struct tessi_input *input = whole_input(layer, TESSI_I32, &in, in_chunk);
    int32_t *data = whole_random(TESSI_I32, 600, 1, false);
    (void)state;
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = 0, .value = 3};
    layer->as.reduce.axes = 1;
    layer->as.reduce.keepdims = true;
    int64_t *sums = whole_run(layer, (const void *const[]){data}, WHOLE_KERNEL);
    for (int g = 0; g < 4; g++) {
        for (int j = 0; j < 6; j++) {
            int64_t want = 0;
            for (int i = g * 30; i < 100 && i < g * 30 + 30; i++) {
                want += data[i * 6 + j];
            }
            assert_int_equal(sums[g * 6 + j], want);
        }
    }
    free(data);
    free(sums);
    tessi_layer_destroy(layer);
}

static void test_empty(void **state)
{
    const struct cut cut = {{2, {0, 5}}, {1, 3}};
    struct tessi_layer *layer = reduce_layer(&cut, TESSI_F32, TESSI_F32, TESSI_FOLD_SUM, 1, false);
    const float none = 0;
    (void)state;
    float *sums = whole_run(layer, (const void *const[]){&none}, WHOLE_KERNEL);
    for (int j = 0; j < 5; j++) {
        assert_true(sums[j] == 0);
    }
    free(sums);
    tessi_layer_destroy(layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fold), cmocka_unit_test(test_sum_types), cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_nan),        cmocka_unit_test(test_tree_follows_shape),
        cmocka_unit_test(test_groups),     cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
