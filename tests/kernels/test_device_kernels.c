/* Every kernel of every device against the processor's, task by task: the same bytes, but for products, which are near. The
 * emulated device is always there; CUDA when a plugin, a driver and a device are (what is missing is said).
 * TESSERA_TEST_DEVICE=cuda or emulated: only that; TESSERA_TEST_SHORT: fewer and smaller ones, for a device's checkers. */
#include "tests/kernels/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "tests/kernels/whole.h"
#include "worker/device/emulated/emulated.h"
#include "worker/device/plugin.h"

static bool is_short(void)
{
    return getenv("TESSERA_TEST_SHORT") != NULL;
}

static void compare_generators(struct compare_bench *bench, enum tessi_dtype dtype)
{
    struct tessi_layer *layer = whole_layer(TESSI_OP_FULL, dtype, &SHAPE(37, 50), (int64_t[]){16, 33});
    layer->as.full = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 3};
    compare_layer(bench, layer, 0);
    layer = whole_layer(TESSI_OP_EYE, dtype, &SHAPE(37, 50), (int64_t[]){16, 33});
    layer->as.eye.diagonal = 3;
    compare_layer(bench, layer, 0);
    layer = whole_layer(TESSI_OP_ARANGE, dtype, &SHAPE(3001), (int64_t[]){1300});
    bool inexact = tessi_dtype_kind(dtype) >= TESSI_KIND_FLOAT;
    struct tessi_scalar one = inexact ? (struct tessi_scalar){.dtype = TESSI_F64, .as.f = 0.37}
                                      : (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 1};
    layer->as.arange.start = layer->as.arange.step = one;
    if (dtype != TESSI_BOOL) {
        compare_layer(bench, layer, 0);
    } else {
        tessi_layer_destroy(layer);
    }
    for (int normal = 0; normal < 2 && tessi_dtype_kind(dtype) == TESSI_KIND_FLOAT; normal++) {
        layer = whole_layer(normal != 0 ? TESSI_OP_NORMAL : TESSI_OP_UNIFORM, dtype, &SHAPE(41, 7, 30),
                            (int64_t[]){20, 7, 19});
        layer->as.random.seed = 99;
        layer->as.random.low = normal != 0 ? 1.5 : -2;
        layer->as.random.high = 3;
        compare_layer(bench, layer, 0);
    }
}

/* (a ∘ row) ∘ (column ∘ constant), with every instruction that the type has, from another type. */
static void compare_program(struct compare_bench *bench, enum tessi_dtype dtype, enum tessi_dtype other)
{
    struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &SHAPE(30, 70), (int64_t[]){13, 40});
    struct tessi_instruction *code = tessi_zalloc(TESSI_PROGRAM_MAX * sizeof *code);
    struct tessi_scalar *constants = tessi_zalloc(sizeof *constants);
    uint32_t n = 0;
    (void)whole_input(layer, dtype, &SHAPE(30, 70), (int64_t[]){13, 40});
    struct tessi_input *row = whole_input(layer, other, &SHAPE(1, 70), (int64_t[]){1, 40});
    row->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_FIXED};
    struct tessi_input *column = whole_input(layer, dtype, &SHAPE(30, 1), (int64_t[]){13, 1});
    column->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_FIXED};
    constants[0] = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 1};
    for (uint32_t op = 0; op < TESSI_EWISE_COUNT; op++) {
        if (whole_device_computes((enum tessi_ewise)op, dtype)) {
            code[n] = (struct tessi_instruction){.op = (enum tessi_ewise)op, .dtype = dtype};
            code[n].a = n == 0 ? 0 : 3 + n;
            code[n].b = 1 + n % 3;
            code[n].c = n % 3;
            n++;
        }
    }
    layer->as.program = (struct tessi_program){.count = n, .nconstants = 1, .code = code, .constants = constants};
    compare_layer(bench, layer, 0);
}

static void compare_flat(struct compare_bench *bench, enum tessi_dtype dtype, int64_t count, int64_t chunk)
{
    struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &SHAPE(count), (int64_t[]){chunk});
    struct tessi_instruction *code = tessi_zalloc(2 * sizeof *code);
    (void)whole_input(layer, dtype, &SHAPE(count), (int64_t[]){chunk});
    (void)whole_input(layer, dtype, &SHAPE(count), (int64_t[]){chunk});
    code[0] = (struct tessi_instruction){.op = TESSI_EWISE_ADD, .dtype = dtype, .a = 0, .b = 1};
    code[1] = (struct tessi_instruction){.op = TESSI_EWISE_MULTIPLY, .dtype = dtype, .a = 2, .b = 0};
    layer->as.program = (struct tessi_program){.count = 2, .code = code};
    compare_layer(bench, layer, 0);
}

static void compare_layouts(struct compare_bench *bench, enum tessi_dtype dtype)
{
    static const uint32_t orders[][3] = {{2, 1, 0}, {1, 0, 2}, {0, 2, 1}, {2, 0, 1}};
    int64_t dims[3] = {11, 40, 35};
    int64_t chunks[3] = {11, 33, 20};
    for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
        struct tessi_shape shape = {.ndim = 3};
        int64_t chunk[3];
        for (uint32_t d = 0; d < 3; d++) {
            shape.dim[d] = dims[orders[o][d]];
            chunk[d] = chunks[orders[o][d]];
        }
        struct tessi_layer *layer = whole_layer(TESSI_OP_TRANSPOSE, dtype, &shape, chunk);
        struct tessi_input *input = whole_input(layer, dtype, &SHAPE(11, 40, 35), chunks);
        for (uint32_t d = 0; d < 3; d++) {
            layer->as.transpose.axis[d] = orders[o][d];
            input->rules.rule[orders[o][d]].dim = d;
        }
        compare_layer(bench, layer, 0);
    }
    for (int64_t stride = 1; stride <= 3; stride++) {
        struct tessi_layer *layer = whole_layer(TESSI_OP_REGRID, dtype, &SHAPE(20, 15), (int64_t[]){7, 15});
        struct tessi_input *input = whole_input(layer, dtype, &SHAPE(70, 50), (int64_t[]){30, 11});
        for (uint32_t d = 0; d < 2; d++) {
            layer->as.regrid.start[d] = 3;
            layer->as.regrid.step[d] = stride;
            input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .start = 3, .step = stride};
        }
        compare_layer(bench, layer, 0);
    }
}

struct extent {
    int64_t rows, columns, row_chunk, column_chunk;
};

static void compare_folds_of(struct compare_bench *bench, enum tessi_dtype from, enum tessi_dtype to, enum tessi_fold fold,
                             const struct extent *of)
{
    int64_t chunk[2] = {of->row_chunk, of->column_chunk};
    for (uint32_t axes = 1; axes < 4; axes++) {
        struct tessi_shape shape = {.ndim = axes == 3 ? 0 : 1, .dim = {axes == 1 ? of->columns : of->rows}};
        struct tessi_layer *layer = whole_layer(TESSI_OP_REDUCE, to, &shape, axes == 1 ? &chunk[1] : &chunk[0]);
        struct tessi_input *input = whole_input(layer, from, &SHAPE(of->rows, of->columns), chunk);
        for (uint32_t d = 0; d < 2; d++) {
            input->rules.rule[d] = (axes >> d & 1) != 0 ? (struct tessi_rule){.kind = TESSI_RULE_ALL}
                                                        : (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0};
        }
        layer->as.reduce.fold = fold;
        layer->as.reduce.axes = axes;
        compare_layer(bench, layer, 0);
    }
}

static void compare_folds(struct compare_bench *bench, enum tessi_dtype from, enum tessi_dtype to, enum tessi_fold fold)
{
    static const struct extent extents[] = {
        {70, 2600, 45, 1500}, {1, 1, 1, 1}, {3, 100003, 3, 70001}, {40009, 5, 40009, 3}, {513, 33, 100, 32}};
    for (size_t i = 0; i < (is_short() ? 1 : sizeof extents / sizeof extents[0]); i++) {
        compare_folds_of(bench, from, to, fold, &extents[i]);
    }
}

struct sizes {
    int64_t m, n, k, m_chunk, n_chunk, k_chunk_a, k_chunk_b;
};

static void compare_product_of(struct compare_bench *bench, enum tessi_dtype from, enum tessi_dtype to, enum tessi_compute compute,
                               double tolerance, const struct sizes *of)
{
    tolerance *= of->k > 90 ? sqrt((double)of->k / 90) : 1;
    for (int flags = 0; flags < 4; flags++) {
        bool ta = (flags & 1) != 0;
        bool tb = (flags & 2) != 0;
        struct tessi_layer *layer =
            whole_layer(TESSI_OP_MATMUL, to, &SHAPE(of->m, of->n), (int64_t[]){of->m_chunk, of->n_chunk});
        struct tessi_shape a = {2, {ta ? of->k : of->m, ta ? of->m : of->k}};
        struct tessi_shape b = {2, {tb ? of->n : of->k, tb ? of->k : of->n}};
        int64_t a_chunk[2] = {ta ? of->k_chunk_a : of->m_chunk, ta ? of->m_chunk : of->k_chunk_a};
        int64_t b_chunk[2] = {tb ? of->n_chunk : of->k_chunk_b, tb ? of->k_chunk_b : of->n_chunk};
        struct tessi_input *left = whole_input(layer, from, &a, a_chunk);
        left->rules.rule[ta ? 1 : 0] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0};
        left->rules.rule[ta ? 0 : 1] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
        struct tessi_input *right = whole_input(layer, from, &b, b_chunk);
        right->rules.rule[tb ? 0 : 1] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1};
        right->rules.rule[tb ? 1 : 0] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
        layer->as.matmul.transpose_a = ta;
        layer->as.matmul.transpose_b = tb;
        layer->as.matmul.segment = of->k;
        layer->as.matmul.compute = compute;
        compare_layer(bench, layer, tolerance);
    }
}

static void compare_product(struct compare_bench *bench, enum tessi_dtype from, enum tessi_dtype to, enum tessi_compute compute,
                            double tolerance)
{
    static const struct sizes sizes[] = {
        {50, 44, 90, 32, 30, 40, 28},     {64, 32, 128, 64, 32, 128, 128}, {1, 1, 1, 1, 1, 1, 1},
        {1, 300, 7, 1, 211, 7, 5},        {257, 1, 129, 200, 1, 65, 129},  {130, 71, 2100, 130, 71, 2100, 2100},
        {96, 200, 1500, 96, 128, 1500, 700}};
    for (size_t i = 0; i < (is_short() ? 2 : sizeof sizes / sizeof sizes[0]); i++) {
        compare_product_of(bench, from, to, compute, tolerance, &sizes[i]);
    }
}

/* Shapes at which a grid of threads ends otherwise than it began. */
static void compare_large(struct compare_bench *bench, enum tessi_dtype dtype)
{
    static const int64_t rows[] = {1000, 70001, 3};
    static const int64_t columns[] = {777, 3, 70001};
    for (size_t i = 0; i < 3; i++) {
        int64_t chunk[2] = {rows[i], columns[i]};
        struct tessi_layer *layer = whole_layer(TESSI_OP_TRANSPOSE, dtype, &SHAPE(rows[i], columns[i]), chunk);
        struct tessi_input *input =
            whole_input(layer, dtype, &SHAPE(columns[i], rows[i]), (int64_t[]){columns[i], rows[i]});
        for (uint32_t d = 0; d < 2; d++) {
            layer->as.transpose.axis[d] = 1 - d;
            input->rules.rule[d].dim = 1 - d;
        }
        compare_layer(bench, layer, 0);
    }
    compare_flat(bench, dtype, 1, 1);
    compare_flat(bench, dtype, 1000003, 1000003);
    struct tessi_layer *layer = whole_layer(TESSI_OP_FULL, dtype, &SHAPE(400009), (int64_t[]){400009});
    layer->as.full = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 1};
    compare_layer(bench, layer, 0);
    for (int normal = 0; normal < 2 && tessi_dtype_kind(dtype) == TESSI_KIND_FLOAT; normal++) {
        layer = whole_layer(normal != 0 ? TESSI_OP_NORMAL : TESSI_OP_UNIFORM, dtype, &SHAPE(300007), (int64_t[]){300007});
        layer->as.random.seed = UINT64_C(0x123456789abcdef);
        layer->as.random.high = 1;
        compare_layer(bench, layer, 0);
    }
}

static void compare_everything(const struct tessi_device_kind *kind, uint32_t ordinal)
{
    struct compare_bench bench;
    compare_open(&bench, kind, ordinal);
    for (uint32_t d = 0; d < TESSI_DTYPE_COUNT; d++) {
        enum tessi_dtype dtype = (enum tessi_dtype)d;
        bool complex = tessi_dtype_kind(dtype) == TESSI_KIND_COMPLEX;
        compare_generators(&bench, dtype);
        compare_flat(&bench, dtype, 5000, 2100);
        if (!is_short()) {
            compare_large(&bench, dtype);
        }
        for (uint32_t other = is_short() ? TESSI_F32 : 0; other < TESSI_DTYPE_COUNT; other++) {
            if (complex || tessi_dtype_kind((enum tessi_dtype)other) != TESSI_KIND_COMPLEX) {
                compare_program(&bench, dtype, (enum tessi_dtype)other);
            }
        }
        compare_layouts(&bench, dtype);
        compare_folds(&bench, dtype, tessi_dtype_sum(dtype), TESSI_FOLD_SUM);
        if (!complex) {
            compare_folds(&bench, dtype, dtype, TESSI_FOLD_MIN);
            compare_folds(&bench, dtype, dtype, TESSI_FOLD_MAX);
        }
    }
    compare_folds(&bench, TESSI_F16, TESSI_F32, TESSI_FOLD_SUM);
    compare_folds(&bench, TESSI_I32, TESSI_F64, TESSI_FOLD_SUM);
    compare_product(&bench, TESSI_F64, TESSI_F64, TESSI_COMPUTE_NATIVE, 1e-12);
    compare_product(&bench, TESSI_F32, TESSI_F32, TESSI_COMPUTE_NATIVE, 2e-4);
    compare_product(&bench, TESSI_F32, TESSI_F32, TESSI_COMPUTE_TF32, 0.1);
    compare_product(&bench, TESSI_F32, TESSI_F32, TESSI_COMPUTE_TF32X3, 4e-4);
    compare_product(&bench, TESSI_F16, TESSI_F32, TESSI_COMPUTE_NATIVE, 2e-3);
    compare_product(&bench, TESSI_BF16, TESSI_F32, TESSI_COMPUTE_NATIVE, 2e-3);
    compare_product(&bench, TESSI_I8, TESSI_I32, TESSI_COMPUTE_NATIVE, 0);
    compare_product(&bench, TESSI_C64, TESSI_C64, TESSI_COMPUTE_NATIVE, 4e-4);
    compare_product(&bench, TESSI_C128, TESSI_C128, TESSI_COMPUTE_NATIVE, 1e-12);
    compare_product(&bench, TESSI_F32, TESSI_F32, TESSI_COMPUTE_NATIVE, 2e-4); /* and so after TF32 was used */
    print_message("%s %u: %u layers, of which processors would take %u\n", kind->name, ordinal, bench.layers,
                  bench.unsupported);
    assert_true(bench.unsupported * 2 < bench.layers);
    compare_close(&bench);
}

static bool is_wanted(const char *name)
{
    const char *only = getenv("TESSERA_TEST_DEVICE");
    if (only != NULL && strcmp(only, name) != 0) {
        print_message("# only %s was asked for\n", only);
        return false;
    }
    return true;
}

static void test_emulated(void **state)
{
    (void)state;
    if (!is_wanted("emulated")) {
        skip();
    }
    compare_everything(&tessi_device_emulated, 0);
}

static void test_cuda(void **state)
{
    struct tessi_error error = {0};
    (void)state;
    if (!is_wanted("cuda")) {
        skip();
    }
    const struct tessi_device_kind *kind = tessi_device_cuda(&error);
    uint32_t count = kind == NULL ? 0 : kind->count(&(struct tessi_device_options){0}, &error);
    if (count == 0) {
        print_message("# skip: CUDA kernels were not run: %s\n", error.text);
        skip();
    }
    for (uint32_t ordinal = 0; ordinal < count; ordinal++) {
        compare_everything(kind, ordinal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emulated),
        cmocka_unit_test(test_cuda),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
