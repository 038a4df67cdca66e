/* Reductions: every row of the table × dtype × set of axes against the reference, in one block and in many; what NaN does;
 * accuracy of sums, and a tree that follows from the shape alone.
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

/* Whether a reduction's result does not depend on the order in which states are joined. */
static bool is_exact(enum tessi_fold fold)
{
    const struct tessi_fold_row *row = tessi_fold_row(fold);
    return row->result == TESSI_RESULT_SAME || row->result == TESSI_RESULT_TRUTH || row->result == TESSI_RESULT_INDEX;
}

/* Rounded differently, or both beyond all numbers: what is multiplied may become that sooner or later. */
static void assert_alike(enum tessi_fold fold, enum tessi_dtype dtype, double scale, const void *a, const void *b,
                         int64_t count)
{
    size_t size = tessi_dtype_size(dtype);
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *x = (const unsigned char *)a + (size_t)i * size;
        const unsigned char *y = (const unsigned char *)b + (size_t)i * size;
        double u[2], v[2];
        tessi_convert(TESSI_C128, u, dtype, x, 1);
        tessi_convert(TESSI_C128, v, dtype, y, 1);
        bool beyond = !isfinite(u[0] + u[1]) && !isfinite(v[0] + v[1]);
        if (is_exact(fold)) {
            whole_assert_equal(dtype, x, y, 1);
        } else if (!beyond && hypot(u[0] - v[0], u[1] - v[1]) > scale * tolerance_of(dtype) * (1 + hypot(v[0], v[1]))) {
            fail_msg("%s of %s, element %lld: %.17g + %.17gi is too far from %.17g + %.17gi", tessi_fold_row(fold)->name,
                     tessi_dtype_name(dtype), (long long)i, u[0], u[1], v[0], v[1]);
        }
    }
}

/* A layer of a reduction whose states are records, reading what is cut as `from`; `to` becomes how its result is cut.
 * `group`: blocks that become one along the folded axes; 0: it finishes. */
static struct tessi_layer *record_layer(const struct cut *from, enum tessi_fold fold, enum tessi_dtype dtype,
                                        uint32_t axes, bool lifts, int64_t group, bool keepdims, struct cut *to)
{
    int64_t unit = group > 0 ? tessi_fold_record_bytes(fold) : 1;
    *to = (struct cut){0};
    struct tessi_rule rules[TESSI_NDIM_MAX] = {{0}};
    for (uint32_t d = 0; d < from->shape.ndim; d++) {
        uint32_t o = to->shape.ndim;
        bool folded = (axes >> d & 1) != 0;
        int64_t blocks = (from->shape.dim[d] - 1) / from->chunk[d] + 1;
        rules[d] = !folded     ? (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = o}
                   : group > 0 ? (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = o, .value = group}
                               : (struct tessi_rule){.kind = TESSI_RULE_ALL};
        if (!folded || group > 0 || keepdims) {
            to->chunk[o] = folded ? unit : from->chunk[d];
            to->shape.dim[o] = !folded ? from->shape.dim[d] : group > 0 ? ((blocks - 1) / group + 1) * unit : 1;
            to->shape.ndim++;
        }
        unit = folded ? 1 : unit; /* records lie in the first */
    }
    enum tessi_dtype out = group > 0 ? TESSI_U8 : tessi_fold_result(fold, dtype);
    struct tessi_layer *layer = whole_layer(TESSI_OP_REDUCE, out, &to->shape, to->chunk);
    struct tessi_input *input = whole_input(layer, lifts ? dtype : TESSI_U8, &from->shape, from->chunk);
    memcpy(input->rules.rule, rules, sizeof rules);
    layer->as.reduce.fold = fold;
    layer->as.reduce.axes = axes;
    layer->as.reduce.keepdims = group > 0 || keepdims;
    layer->as.reduce.from = dtype;
    layer->as.reduce.lifts = lifts;
    layer->as.reduce.finishes = group == 0;
    return layer;
}

/* All its layers: each block, groups of two, all others, the result; in one layer if it is one block. */
static void *record_run(const struct cut *cut, enum tessi_dtype dtype, enum tessi_fold fold, uint32_t axes,
                        const void *data, enum whole_with with, int64_t *count)
{
    static const int64_t groups[] = {1, 2, INT32_MAX};
    struct cut now = *cut, next;
    void *current = NULL;
    bool one = true;
    for (uint32_t d = 0; d < cut->shape.ndim; d++) {
        one = one && ((axes >> d & 1) == 0 || cut->chunk[d] >= cut->shape.dim[d]);
    }
    for (size_t i = one ? 3 : 0; i < 4; i++) {
        struct tessi_layer *layer = record_layer(&now, fold, dtype, axes, current == NULL, i < 3 ? groups[i] : 0,
                                                 axes % 3 == 1, &next);
        void *result = whole_run(layer, (const void *const[]){current != NULL ? current : data}, with);
        *count = (int64_t)(tessi_layer_bytes(layer) / tessi_dtype_size(layer->dtype));
        tessi_layer_destroy(layer);
        free(current);
        current = result;
        now = next;
    }
    return current;
}

static void compare_records(const struct cut *cut, enum tessi_dtype in, enum tessi_fold fold, uint32_t axes,
                            bool special)
{
    struct cut whole = {.shape = cut->shape};
    memcpy(whole.chunk, cut->shape.dim, sizeof whole.chunk);
    enum tessi_dtype out = tessi_fold_result(fold, in);
    void *data = whole_random(in, whole_elements(&cut->shape), axes, special);
    int64_t count, same;
    void *fast = record_run(cut, in, fold, axes, data, WHOLE_KERNEL, &count);
    void *plain = record_run(cut, in, fold, axes, data, WHOLE_REFERENCE, &same);
    void *block = record_run(&whole, in, fold, axes, data, WHOLE_REFERENCE, &same);
    assert_int_equal(count, same);
    /* Far from zero, as unsigned numbers below it are, distances from a mean have few digits. */
    double scale = tessi_dtype_kind(in) != TESSI_KIND_UNSIGNED ? 1 : pow(2, 8.0 * (double)tessi_dtype_size(in));
    assert_alike(fold, out, scale, fast, plain, count);
    assert_alike(fold, out, scale, fast, block, count);
    free(data);
    free(fast);
    free(plain);
    free(block);
}

static void compare_numbers(const struct cut *cut, enum tessi_dtype in, enum tessi_dtype out, enum tessi_fold fold,
                            uint32_t axes, bool special)
{
    struct tessi_layer *layer = reduce_layer(cut, in, out, fold, axes, axes % 3 == 1);
    void *data = whole_random(in, whole_elements(&cut->shape), axes, special);
    const void *inputs[1] = {data};
    void *fast = whole_run(layer, inputs, WHOLE_KERNEL);
    void *plain = whole_run(layer, inputs, WHOLE_REFERENCE);
    assert_alike(fold, out, 1, fast, plain, (int64_t)(tessi_layer_bytes(layer) / tessi_dtype_size(out)));
    free(data);
    free(fast);
    free(plain);
    tessi_layer_destroy(layer);
}

static void compare(const struct cut *cut, enum tessi_fold fold, enum tessi_dtype in, uint32_t axes, bool special)
{
    if (tessi_fold_row(fold)->state == TESSI_STATE_RECORD) {
        compare_records(cut, in, fold, axes, special);
    } else {
        compare_numbers(cut, in, tessi_fold_number(fold, in), fold, axes, special);
    }
}

static void test_every_fold(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < TESSI_FOLD_COUNT; code++) {
        enum tessi_fold fold = (enum tessi_fold)code;
        for (uint32_t dtype = 0; dtype < TESSI_DTYPE_COUNT; dtype++) {
            for (size_t c = 0; c < sizeof cuts / sizeof cuts[0] && tessi_fold_takes(fold, dtype); c++) {
                for (uint32_t axes = 0; axes < 1u << cuts[c].shape.ndim; axes++) {
                    compare(&cuts[c], fold, dtype, axes, false);
                    if (is_exact(fold)) {
                        compare(&cuts[c], fold, dtype, axes, true);
                    }
                }
            }
        }
    }
}

/* Sums in a wider type than their input's or NumPy's. */
static void test_sum_types(void **state)
{
    (void)state;
    compare_numbers(&cuts[2], TESSI_I8, TESSI_F64, TESSI_FOLD_SUM, 1, false);
    compare_numbers(&cuts[3], TESSI_F32, TESSI_F64, TESSI_FOLD_SUM, 3, false);
    compare_numbers(&cuts[6], TESSI_F16, TESSI_C128, TESSI_FOLD_SUM, 5, false);
    compare_numbers(&cuts[6], TESSI_BOOL, TESSI_F32, TESSI_FOLD_SUM, 2, false);
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

/* What the row says of a NaN in one of two rows of a block, wherever it is; infinities beside it are numbers. */
static void check_nan(enum tessi_fold fold, enum tessi_dtype dtype, const double *result, int64_t place)
{
    const struct tessi_fold_row *row = tessi_fold_row(fold);
    if (row->nan == TESSI_NAN_IS_TRUE) {
        assert_true(result[0] == 1.0);
    } else if (row->result == TESSI_RESULT_INDEX) {
        assert_true(result[0] == (double)place);
    } else if (!isnan(result[0])) {
        fail_msg("%s of %s loses the NaN at %lld", row->name, tessi_dtype_name(dtype), (long long)place);
    }
    assert_true(row->result == TESSI_RESULT_REAL || !isnan(result[1])); /* an infinite distance is none */
}

static void test_nan(void **state)
{
    enum { N = 1100 };
    const struct cut cut = {{2, {2, N}}, {2, 300}};
    double data[2 * N];
    (void)state;
    for (uint32_t code = 0; code < TESSI_FOLD_COUNT * TESSI_DTYPE_COUNT; code++) {
        enum tessi_fold fold = (enum tessi_fold)(code % TESSI_FOLD_COUNT);
        enum tessi_dtype dtype = (enum tessi_dtype)(code / TESSI_FOLD_COUNT);
        bool floats = tessi_dtype_kind(dtype) == TESSI_KIND_FLOAT;
        bool records = tessi_fold_row(fold)->state == TESSI_STATE_RECORD;
        enum tessi_dtype out = records ? tessi_fold_result(fold, dtype) : tessi_fold_number(fold, dtype);
        for (int64_t place = 0; place < N && floats; place += 37) {
            double result[2] = {0, 0};
            _Alignas(16) unsigned char in[2 * N * 8];
            for (int64_t i = 0; i < 2 * N; i++) {
                data[i] = i == place || i == N - 1 ? (double)NAN : i == N + 5 ? (double)-INFINITY : 1.0 + (double)(i % 3);
            }
            tessi_convert(dtype, in, TESSI_F64, data, 2 * N);
            int64_t count;
            struct tessi_layer *layer = records ? NULL : reduce_layer(&cut, dtype, out, fold, 2, false);
            void *got = records ? record_run(&cut, dtype, fold, 2, in, WHOLE_KERNEL, &count)
                                : whole_run(layer, (const void *const[]){in}, WHOLE_KERNEL);
            tessi_convert(TESSI_F64, result, out, got, 2);
            check_nan(fold, dtype, result, place);
            free(got);
            tessi_layer_destroy(layer);
        }
    }
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
