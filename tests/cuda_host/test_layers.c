/* Random layers of every operation against the processor's kernels: dimensions of 1 and odd ones, up to four at a time, chunks
 * that do not divide, broadcasts. TESSERA_TEST_SEED and TESSERA_TEST_LAYERS: from which seed, and how many (1, 300). */
#include "tests/kernels/compare.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "tests/kernels/whole.h"
#include "worker/device/plugin.h"

#define ELEMENTS_MAX 3000

static uint64_t state;

static uint64_t roll(uint64_t below)
{
    state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % below;
}

static int64_t random_side(int64_t most)
{
    static const int64_t sides[] = {1, 2, 3, 4, 5, 7, 8, 16, 17, 31, 32, 33, 64, 65, 100, 255, 257, 513, 1025};
    int64_t side = sides[roll(sizeof sides / sizeof sides[0])];
    return side <= most ? side : 1 + (int64_t)roll((uint64_t)most);
}

/* Whole, or in up to four pieces. */
static int64_t random_chunk(int64_t side)
{
    int64_t least = (side + 3) / 4;
    return roll(2) == 0 ? side : least + (int64_t)roll((uint64_t)(side - least + 1));
}

static struct tessi_shape random_shape(uint32_t ndim, int64_t *chunk)
{
    struct tessi_shape shape = {.ndim = ndim};
    int64_t left = ELEMENTS_MAX;
    for (uint32_t d = 0; d < ndim; d++) {
        shape.dim[d] = random_side(left);
        left /= shape.dim[d];
    }
    for (uint32_t d = ndim; d > 1; d--) { /* the long ones anywhere */
        uint32_t other = (uint32_t)roll(d);
        int64_t side = shape.dim[d - 1];
        shape.dim[d - 1] = shape.dim[other];
        shape.dim[other] = side;
    }
    for (uint32_t d = 0; d < ndim; d++) {
        chunk[d] = random_chunk(shape.dim[d]);
    }
    return shape;
}

static enum tessi_dtype random_dtype(void)
{
    return (enum tessi_dtype)roll(TESSI_DTYPE_COUNT);
}

static struct tessi_layer *random_generator(double *tolerance)
{
    static const enum tessi_op ops[] = {TESSI_OP_FULL, TESSI_OP_EYE, TESSI_OP_UNIFORM, TESSI_OP_NORMAL};
    enum tessi_op op = ops[roll(4)];
    enum tessi_dtype dtype = random_dtype();
    int64_t chunk[TESSI_NDIM_MAX];
    (void)tolerance;
    if ((op == TESSI_OP_UNIFORM || op == TESSI_OP_NORMAL) && tessi_dtype_kind(dtype) != TESSI_KIND_FLOAT) {
        dtype = TESSI_F32;
    }
    struct tessi_shape shape = random_shape(op == TESSI_OP_EYE ? 2 : 1 + (uint32_t)roll(4), chunk);
    struct tessi_layer *layer = whole_layer(op, dtype, &shape, chunk);
    if (op == TESSI_OP_FULL) {
        layer->as.full = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 1};
    } else if (op == TESSI_OP_EYE) {
        layer->as.eye.diagonal = (int64_t)roll(9) - 4;
    } else {
        layer->as.random.seed = roll(UINT64_MAX);
        layer->as.random.low = -2;
        layer->as.random.high = 3;
    }
    return layer;
}

/* Up to six instructions that the type has, of up to three inputs, of which one may be broadcast. */
static struct tessi_layer *random_program(double *tolerance)
{
    enum tessi_dtype dtype = random_dtype();
    int64_t chunk[TESSI_NDIM_MAX];
    struct tessi_shape shape = random_shape(1 + (uint32_t)roll(4), chunk);
    struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &shape, chunk);
    struct tessi_instruction *code = tessi_zalloc(8 * sizeof *code);
    uint32_t inputs = 1 + (uint32_t)roll(3);
    uint32_t count = 1 + (uint32_t)roll(6);
    (void)tolerance;
    for (uint32_t i = 0; i < inputs; i++) {
        bool broadcast = i > 0 && roll(2) == 0;
        uint32_t d = (uint32_t)roll(shape.ndim);
        struct tessi_shape own = shape;
        int64_t own_chunk[TESSI_NDIM_MAX];
        for (uint32_t e = 0; e < shape.ndim; e++) {
            own_chunk[e] = broadcast && e == d ? 1 : chunk[e];
        }
        own.dim[d] = broadcast ? 1 : own.dim[d];
        struct tessi_input *input = whole_input(layer, dtype, &own, own_chunk);
        if (broadcast) {
            input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_FIXED};
        }
    }
    for (uint32_t k = 0; k < count; k++) {
        enum tessi_ewise op = (enum tessi_ewise)roll(TESSI_EWISE_COUNT);
        op = whole_device_computes(op, dtype) && tessi_ewise_result(op, dtype) == dtype ? op : TESSI_EWISE_ADD;
        code[k] = (struct tessi_instruction){.op = op, .dtype = dtype};
        code[k].a = (uint32_t)roll(inputs + k);
        code[k].b = (uint32_t)roll(inputs + k);
        code[k].c = (uint32_t)roll(inputs + k);
    }
    layer->as.program = (struct tessi_program){.count = count, .code = code};
    return layer;
}

static struct tessi_layer *random_fold(double *tolerance)
{
    enum tessi_dtype dtype = random_dtype();
    int64_t chunk[TESSI_NDIM_MAX], out_chunk[TESSI_NDIM_MAX];
    struct tessi_shape shape = random_shape(1 + (uint32_t)roll(3), chunk);
    uint32_t axes = 1 + (uint32_t)roll((UINT64_C(1) << shape.ndim) - 1);
    enum tessi_fold fold = tessi_dtype_kind(dtype) == TESSI_KIND_COMPLEX ? TESSI_FOLD_SUM : (enum tessi_fold)roll(3);
    struct tessi_shape out = {0};
    (void)tolerance;
    for (uint32_t d = 0; d < shape.ndim; d++) {
        if ((axes >> d & 1) == 0) {
            out_chunk[out.ndim] = chunk[d];
            out.dim[out.ndim++] = shape.dim[d];
        }
    }
    enum tessi_dtype to = fold == TESSI_FOLD_SUM ? tessi_dtype_sum(dtype) : dtype;
    struct tessi_layer *layer = whole_layer(TESSI_OP_REDUCE, to, &out, out_chunk);
    struct tessi_input *input = whole_input(layer, dtype, &shape, chunk);
    uint32_t kept = 0;
    for (uint32_t d = 0; d < shape.ndim; d++) {
        input->rules.rule[d] = (axes >> d & 1) != 0 ? (struct tessi_rule){.kind = TESSI_RULE_ALL}
                                                    : (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = kept++};
    }
    layer->as.reduce.fold = fold;
    layer->as.reduce.axes = axes;
    return layer;
}

static struct tessi_layer *random_transpose(double *tolerance)
{
    enum tessi_dtype dtype = random_dtype();
    int64_t chunk[TESSI_NDIM_MAX], in_chunk[TESSI_NDIM_MAX];
    struct tessi_shape in = random_shape(2 + (uint32_t)roll(3), in_chunk);
    struct tessi_shape out = in;
    uint32_t order[TESSI_NDIM_MAX];
    (void)tolerance;
    for (uint32_t d = 0; d < in.ndim; d++) {
        uint32_t at = (uint32_t)roll(d + 1);
        order[d] = order[at];
        order[at] = d;
    }
    for (uint32_t d = 0; d < in.ndim; d++) {
        out.dim[d] = in.dim[order[d]];
        chunk[d] = in_chunk[order[d]];
    }
    struct tessi_layer *layer = whole_layer(TESSI_OP_TRANSPOSE, dtype, &out, chunk);
    struct tessi_input *input = whole_input(layer, dtype, &in, in_chunk);
    for (uint32_t d = 0; d < in.ndim; d++) {
        layer->as.transpose.axis[d] = order[d];
        input->rules.rule[order[d]].dim = d;
    }
    return layer;
}

static struct tessi_layer *random_slice(double *tolerance)
{
    enum tessi_dtype dtype = random_dtype();
    int64_t chunk[TESSI_NDIM_MAX], in_chunk[TESSI_NDIM_MAX];
    struct tessi_shape in = random_shape(1 + (uint32_t)roll(3), in_chunk);
    struct tessi_shape out = in;
    int64_t start[TESSI_NDIM_MAX], step[TESSI_NDIM_MAX];
    (void)tolerance;
    for (uint32_t d = 0; d < in.ndim; d++) {
        start[d] = (int64_t)roll((uint64_t)in.dim[d]);
        step[d] = 1 + (int64_t)roll(3);
        out.dim[d] = 1 + (int64_t)roll((uint64_t)((in.dim[d] - 1 - start[d]) / step[d] + 1));
        chunk[d] = random_chunk(out.dim[d]);
    }
    struct tessi_layer *layer = whole_layer(TESSI_OP_REGRID, dtype, &out, chunk);
    struct tessi_input *input = whole_input(layer, dtype, &in, in_chunk);
    for (uint32_t d = 0; d < in.ndim; d++) {
        layer->as.regrid.start[d] = start[d];
        layer->as.regrid.step[d] = step[d];
        input->rules.rule[d] =
            (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .start = start[d], .step = step[d]};
    }
    return layer;
}

static struct tessi_layer *random_product(double *tolerance)
{
    static const struct {
        enum tessi_dtype from, to;
        enum tessi_compute compute;
        double tolerance;
    } types[] = {
        {TESSI_F64, TESSI_F64, TESSI_COMPUTE_NATIVE, 1e-11}, {TESSI_F32, TESSI_F32, TESSI_COMPUTE_NATIVE, 1e-3},
        {TESSI_F32, TESSI_F32, TESSI_COMPUTE_TF32X3, 2e-3},  {TESSI_F16, TESSI_F32, TESSI_COMPUTE_NATIVE, 1e-2},
        {TESSI_I8, TESSI_I32, TESSI_COMPUTE_NATIVE, 0},      {TESSI_C64, TESSI_C64, TESSI_COMPUTE_NATIVE, 2e-3}};
    uint64_t t = roll(sizeof types / sizeof types[0]);
    int64_t m = random_side(70), n = random_side(70), k = random_side(300);
    int64_t m_chunk = random_chunk(m), n_chunk = random_chunk(n), a_chunk = random_chunk(k), b_chunk = random_chunk(k);
    bool ta = roll(2) == 0, tb = roll(2) == 0;
    struct tessi_layer *layer = whole_layer(TESSI_OP_MATMUL, types[t].to, &SHAPE(m, n), (int64_t[]){m_chunk, n_chunk});
    struct tessi_input *left = whole_input(layer, types[t].from, &SHAPE(ta ? k : m, ta ? m : k),
                                           (int64_t[]){ta ? a_chunk : m_chunk, ta ? m_chunk : a_chunk});
    left->rules.rule[ta ? 1 : 0] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0};
    left->rules.rule[ta ? 0 : 1] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    struct tessi_input *right = whole_input(layer, types[t].from, &SHAPE(tb ? n : k, tb ? k : n),
                                            (int64_t[]){tb ? n_chunk : b_chunk, tb ? b_chunk : n_chunk});
    right->rules.rule[tb ? 0 : 1] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1};
    right->rules.rule[tb ? 1 : 0] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    layer->as.matmul.transpose_a = ta;
    layer->as.matmul.transpose_b = tb;
    layer->as.matmul.segment = k;
    layer->as.matmul.compute = types[t].compute;
    *tolerance = types[t].tolerance;
    return layer;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void test_random_layers(void **unused)
{
    static struct tessi_layer *(*const makers[])(double *) = {random_generator, random_program, random_fold,
                                                              random_transpose, random_slice,   random_product};
    struct tessi_error error = {0};
    (void)unused;
    const struct tessi_device_kind *kind = tessi_device_cuda(&error);
    if (kind == NULL || kind->count(&(struct tessi_device_options){0}, &error) == 0) {
        print_message("# skip: there is no device: %s\n", error.text);
        skip();
    }
    struct compare_bench bench;
    compare_open(&bench, kind, 0);
    uint64_t seed = number_of("TESSERA_TEST_SEED", 1);
    uint64_t count = number_of("TESSERA_TEST_LAYERS", 300);
    for (uint64_t i = 0; i < count; i++) {
        double tolerance = 0;
        state = (seed + i) * UINT64_C(0x2545f4914f6cdd1d);
        if (getenv("TESSERA_TEST_VERBOSE") != NULL) {
            print_message("# seed %llu\n", (unsigned long long)(seed + i));
        }
        struct tessi_layer *layer = makers[roll(sizeof makers / sizeof makers[0])](&tolerance);
        compare_layer(&bench, layer, tolerance);
    }
    print_message("# %u layers, of which processors would take %u\n", bench.layers, bench.unsupported);
    compare_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
