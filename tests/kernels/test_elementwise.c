/* Elementwise programs: every instruction × dtype × layout against the reference and plain C,
 * fused against unfused, broadcasting, conversions. */
#include "tests/kernels/whole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "worker/kernel/convert.h"
#include "worker/kernel/kernel.h"
#include "worker/kernel/scalar.h"

static void program_set(struct tessi_layer *layer, const struct tessi_instruction *code, uint32_t count,
                        const struct tessi_scalar *constants, uint32_t nconstants)
{
    layer->as.program.count = count;
    layer->as.program.nconstants = nconstants;
    layer->as.program.code = tessi_memdup(code, count * sizeof *code);
    layer->as.program.constants = tessi_memdup(constants, nconstants * sizeof *constants);
}

/* Kernel and reference on an operation of inputs that are set, which are freed with the layer. */
static void compare(struct tessi_layer *layer, enum tessi_ewise op, enum tessi_dtype dtype, void *const *in)
{
    struct tessi_instruction code = {.op = op, .dtype = dtype, .a = 0, .b = 1, .c = 2};
    struct tessi_shape shape;
    program_set(layer, &code, 1, NULL, 0);
    tessi_grid_shape(&layer->grid, &shape);
    const void *inputs[TESSI_OPERANDS_MAX] = {in[0], in[1], in[2]};
    void *fast = whole_run(layer, inputs, WHOLE_KERNEL);
    void *plain = whole_run(layer, inputs, WHOLE_REFERENCE);
    whole_assert_equal(layer->dtype, fast, plain, whole_elements(&shape));
    free(fast);
    free(plain);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        free(in[i]);
    }
    tessi_layer_destroy(layer);
}

/* Every row in every type that it is computed in, on every combination of special values. */
static void test_rows_on_special_values(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < TESSI_EWISE_COUNT * TESSI_DTYPE_COUNT; i++) {
        enum tessi_ewise op = (enum tessi_ewise)(i / TESSI_DTYPE_COUNT);
        enum tessi_dtype dtype = (enum tessi_dtype)(i % TESSI_DTYPE_COUNT);
        if (!whole_computes(op, dtype)) {
            continue;
        }
        void *in[TESSI_OPERANDS_MAX] = {NULL};
        int64_t count = 0;
        for (uint32_t o = 0; o < tessi_ewise_arity(op); o++) {
            in[o] = whole_specials(tessi_ewise_operand(op, o, dtype), o, tessi_ewise_arity(op), &count);
        }
        struct tessi_layer *layer =
            whole_layer(TESSI_OP_ELEMENTWISE, tessi_ewise_result(op, dtype), &SHAPE(count), NULL);
        for (uint32_t o = 0; o < tessi_ewise_arity(op); o++) {
            (void)whole_input(layer, tessi_ewise_operand(op, o, dtype), &SHAPE(count), NULL);
        }
        compare(layer, op, dtype, in);
    }
}

/* e ∘ x is x for the identity that the row names. */
static void test_rows_identities(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < TESSI_EWISE_COUNT * TESSI_DTYPE_COUNT; i++) {
        enum tessi_ewise op = (enum tessi_ewise)(i / TESSI_DTYPE_COUNT);
        enum tessi_dtype dtype = (enum tessi_dtype)(i % TESSI_DTYPE_COUNT);
        enum tessi_identity identity = tessi_ewise_row(op)->identity;
        if (identity == TESSI_IDENTITY_NONE || !whole_computes(op, dtype)) {
            continue;
        }
        enum { N = 900 };
        struct tessi_instruction code = {.op = op, .dtype = dtype, .a = 1, .b = 0};
        struct tessi_scalar constant = {.dtype = TESSI_U64, .as.u = identity == TESSI_IDENTITY_ONE ? 1 : 0};
        struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &SHAPE(N), NULL);
        (void)whole_input(layer, dtype, &SHAPE(N), NULL);
        program_set(layer, &code, 1, &constant, 1);
        void *in = whole_random(dtype, N, 7, false);
        void *out = whole_run(layer, (const void *const[]){in}, WHOLE_KERNEL);
        whole_assert_equal(dtype, out, in, N);
        free(in);
        free(out);
        tessi_layer_destroy(layer);
    }
}

static void test_refused(void **state)
{
    struct tessi_error error;
    enum tessi_dtype computed_in;
    (void)state;
    assert_int_equal(tessi_ewise_choose(TESSI_EWISE_SUBTRACT, TESSI_BOOL, &computed_in, &error), TESSI_UNSUPPORTED);
    assert_string_equal(error.text,
                        "subtract is not defined for bool: convert to integer, float or complex first");
    assert_int_equal(tessi_ewise_choose(TESSI_EWISE_EXP, TESSI_I8, &computed_in, &error), TESSI_OK);
    assert_int_equal(computed_in, TESSI_F64);
}

/* Against plain C, independent of both kernels. */
static void test_arithmetic(void **state)
{
    enum { N = 1500 };
    struct tessi_shape shape = SHAPE(N);
    (void)state;
    for (uint32_t op = TESSI_EWISE_ADD; op <= TESSI_EWISE_DIVIDE; op++) {
        struct tessi_instruction code = {.op = op, .dtype = TESSI_F64, .a = 0, .b = 1};
        struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, TESSI_F64, &shape, NULL);
        (void)whole_input(layer, TESSI_F64, &shape, NULL);
        (void)whole_input(layer, TESSI_F64, &shape, NULL);
        program_set(layer, &code, 1, NULL, 0);
        double *a = whole_random(TESSI_F64, N, 1, true);
        double *b = whole_random(TESSI_F64, N, 2, true);
        double *out = whole_run(layer, (const void *const[]){a, b}, WHOLE_KERNEL);
        for (int i = 0; i < N; i++) {
            double want = op == TESSI_EWISE_ADD        ? a[i] + b[i]
                          : op == TESSI_EWISE_SUBTRACT ? a[i] - b[i]
                          : op == TESSI_EWISE_MULTIPLY ? a[i] * b[i]
                                                       : a[i] / b[i];
            assert_true(memcmp(&want, &out[i], 8) == 0 || (isnan(want) && isnan(out[i])));
        }
        free(a);
        free(b);
        free(out);
        tessi_layer_destroy(layer);
    }
}

static void test_integers_wrap(void **state)
{
    struct tessi_shape shape = SHAPE(4);
    const int32_t a[4] = {INT32_MAX, INT32_MIN, 7, INT32_MIN};
    const int32_t b[4] = {1, -1, 0, -1};
    const int32_t sum[4] = {INT32_MIN, INT32_MAX, 7, INT32_MAX};
    struct tessi_instruction code = {.op = TESSI_EWISE_ADD, .dtype = TESSI_I32, .b = 1};
    struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, TESSI_I32, &shape, NULL);
    (void)state;
    (void)whole_input(layer, TESSI_I32, &shape, NULL);
    (void)whole_input(layer, TESSI_I32, &shape, NULL);
    program_set(layer, &code, 1, NULL, 0);
    int32_t *out = whole_run(layer, (const void *const[]){a, b}, WHOLE_KERNEL);
    assert_memory_equal(out, sum, sizeof sum);
    free(out);
    tessi_layer_destroy(layer);
}

/* Shapes and chunks with which the inputs broadcast; dim 0 in an input: it has not this dimension. */
struct layout {
    struct tessi_shape shape;
    int64_t chunk[TESSI_NDIM_MAX];
    struct tessi_shape input[3];
};

static const struct layout layouts[] = {
    {{1, {2000}}, {700}, {{1, {2000}}, {1, {1}}, {0, {0}}}},
    {{2, {5, 3000}}, {2, 1700}, {{2, {5, 3000}}, {1, {3000}}, {2, {5, 1}}}},
    {{2, {900, 3}}, {400, 3}, {{2, {900, 3}}, {1, {3}}, {2, {900, 1}}}},
    {{2, {900, 3}}, {400, 2}, {{2, {900, 1}}, {2, {1, 3}}, {2, {1, 1}}}},
    {{3, {4, 5, 300}}, {3, 2, 290}, {{3, {4, 1, 300}}, {2, {5, 1}}, {3, {4, 5, 300}}}},
    {{3, {7, 6, 5}}, {7, 6, 5}, {{3, {7, 1, 5}}, {3, {1, 6, 1}}, {1, {5}}}},
    {{4, {3, 4, 5, 6}}, {2, 4, 3, 6}, {{4, {3, 4, 5, 6}}, {4, {1, 4, 1, 6}}, {3, {4, 1, 1}}}},
    {{0, {0}}, {0}, {{0, {0}}, {0, {0}}, {0, {0}}}},
    {{2, {0, 3}}, {1, 3}, {{2, {0, 3}}, {1, {3}}, {0, {0}}}},
};

static void broadcast_input(struct tessi_layer *layer, enum tessi_dtype dtype, const struct layout *layout,
                            const struct tessi_shape *shape)
{
    int64_t chunk[TESSI_NDIM_MAX];
    uint32_t missing = layout->shape.ndim - shape->ndim;
    for (uint32_t d = 0; d < shape->ndim; d++) {
        bool same = shape->dim[d] == layout->shape.dim[d + missing];
        chunk[d] = same ? layout->chunk[d + missing] : 1;
    }
    struct tessi_input *input = whole_input(layer, dtype, shape, chunk);
    for (uint32_t d = 0; d < shape->ndim; d++) {
        bool same = shape->dim[d] == layout->shape.dim[d + missing];
        input->rules.rule[d] = same ? (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d + missing}
                                    : (struct tessi_rule){.kind = TESSI_RULE_FIXED};
    }
}

/* Every row in every type that it is computed in, in every layout, with values of any kind. */
static void test_rows_in_layouts(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < TESSI_EWISE_COUNT * TESSI_DTYPE_COUNT; i++) {
        enum tessi_ewise op = (enum tessi_ewise)(i / TESSI_DTYPE_COUNT);
        enum tessi_dtype dtype = (enum tessi_dtype)(i % TESSI_DTYPE_COUNT);
        uint32_t arity = tessi_ewise_arity(op);
        if (!whole_computes(op, dtype)) {
            continue;
        }
        for (uint32_t trial = 0; trial < 3 * sizeof layouts / sizeof layouts[0]; trial++) {
            const struct layout *layout = &layouts[trial / 3];
            void *in[TESSI_OPERANDS_MAX] = {NULL};
            struct tessi_layer *layer =
                whole_layer(TESSI_OP_ELEMENTWISE, tessi_ewise_result(op, dtype), &layout->shape, layout->chunk);
            for (uint32_t o = 0; o < arity; o++) {
                const struct tessi_shape *shape = &layout->input[(o + trial) % 3];
                enum tessi_dtype own = tessi_ewise_operand(op, o, dtype);
                broadcast_input(layer, own, layout, shape);
                in[o] = whole_random(own, whole_elements(shape), 10 * i + o, true);
            }
            compare(layer, op, dtype, in);
        }
    }
}

/* out = (a + b) · c − 2.5, with inputs of different types, fused and against the reference. */
static void test_broadcast(void **state)
{
    static const enum tessi_dtype types[][4] = {
        {TESSI_F64, TESSI_F64, TESSI_F64, TESSI_F64},   {TESSI_F32, TESSI_I32, TESSI_F32, TESSI_F32},
        {TESSI_C128, TESSI_F32, TESSI_BOOL, TESSI_C64}, {TESSI_F16, TESSI_F16, TESSI_I8, TESSI_F64},
        {TESSI_BF16, TESSI_U16, TESSI_F16, TESSI_BF16}, {TESSI_I64, TESSI_I8, TESSI_U32, TESSI_I64},
    };
    const struct tessi_scalar constant = {.dtype = TESSI_F64, .as.f = 2.5};
    (void)state;
    for (size_t l = 0; l < sizeof layouts / sizeof layouts[0]; l++) {
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            enum tessi_dtype dtype = types[t][0];
            struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &layouts[l].shape, layouts[l].chunk);
            void *in[3];
            for (uint32_t i = 0; i < 3; i++) {
                broadcast_input(layer, types[t][i + 1], &layouts[l], &layouts[l].input[i]);
                in[i] = whole_random(types[t][i + 1], whole_elements(&layouts[l].input[i]), i, true);
            }
            program_set(layer,
                        (struct tessi_instruction[]){{.op = TESSI_EWISE_ADD, .dtype = dtype, .a = 0, .b = 1},
                                                     {.op = TESSI_EWISE_MULTIPLY, .dtype = dtype, .a = 4, .b = 2},
                                                     {.op = TESSI_EWISE_SUBTRACT, .dtype = dtype, .a = 5, .b = 3}},
                        3, &constant, 1);
            const void *inputs[3] = {in[0], in[1], in[2]};
            void *fast = whole_run(layer, inputs, WHOLE_KERNEL);
            void *plain = whole_run(layer, inputs, WHOLE_REFERENCE);
            whole_assert_equal(dtype, fast, plain, whole_elements(&layouts[l].shape));
            free(fast);
            free(plain);
            for (uint32_t i = 0; i < 3; i++) {
                free(in[i]);
            }
            tessi_layer_destroy(layer);
        }
    }
}

/* A chain in one layer and one layer for each instruction: the same bits. */
static void test_fused_equals_unfused(void **state)
{
    static const enum tessi_dtype types[] = {TESSI_F64, TESSI_F32, TESSI_F16, TESSI_BF16, TESSI_C64};
    static const enum tessi_ewise chain[] = {TESSI_EWISE_MULTIPLY, TESSI_EWISE_ADD, TESSI_EWISE_EXP,
                                             TESSI_EWISE_DIVIDE, TESSI_EWISE_LOG, TESSI_EWISE_SQRT};
    enum { N = 3000, LENGTH = sizeof chain / sizeof chain[0] };
    struct tessi_shape shape = SHAPE(N);
    int64_t chunk[1] = {1300};
    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        enum tessi_dtype dtype = types[t];
        struct tessi_instruction code[LENGTH];
        void *a = whole_random(dtype, N, 5, true);
        void *b = whole_random(dtype, N, 6, false);
        void *unfused = whole_random(dtype, N, 5, true);
        for (uint32_t i = 0; i < LENGTH; i++) {
            code[i] = (struct tessi_instruction){.op = chain[i], .dtype = dtype, .a = i == 0 ? 0 : i + 1, .b = 1};
            struct tessi_instruction alone = {.op = chain[i], .dtype = dtype, .a = 0, .b = 1};
            struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &shape, NULL);
            (void)whole_input(layer, dtype, &shape, NULL);
            (void)whole_input(layer, dtype, &shape, NULL);
            program_set(layer, &alone, 1, NULL, 0);
            void *next = whole_run(layer, (const void *const[]){unfused, b}, WHOLE_KERNEL);
            free(unfused);
            unfused = next;
            tessi_layer_destroy(layer);
        }
        struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &shape, chunk);
        (void)whole_input(layer, dtype, &shape, chunk);
        (void)whole_input(layer, dtype, &shape, chunk);
        program_set(layer, code, LENGTH, NULL, 0);
        void *fused = whole_run(layer, (const void *const[]){a, b}, WHOLE_KERNEL);
        whole_assert_equal(dtype, fused, unfused, N);
        free(a);
        free(b);
        free(fused);
        free(unfused);
        tessi_layer_destroy(layer);
    }
}

/* A program of the greatest length, in which every result is read once, much later. */
static void test_long_program(void **state)
{
    enum { N = 1100 };
    struct tessi_shape shape = SHAPE(N);
    struct tessi_instruction code[TESSI_PROGRAM_MAX];
    struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, TESSI_I64, &shape, NULL);
    (void)state;
    (void)whole_input(layer, TESSI_I64, &shape, NULL);
    for (uint32_t i = 0; i < TESSI_PROGRAM_MAX; i++) {
        code[i] = i < 32 ? (struct tessi_instruction){.op = TESSI_EWISE_ADD, .dtype = TESSI_I64, .a = i, .b = i / 2}
                         : (struct tessi_instruction){.op = TESSI_EWISE_MULTIPLY, .dtype = TESSI_I64, .a = i, .b = i - 31};
    }
    program_set(layer, code, TESSI_PROGRAM_MAX, NULL, 0);
    void *in = whole_random(TESSI_I64, N, 3, true);
    void *fast = whole_run(layer, (const void *const[]){in}, WHOLE_KERNEL);
    void *plain = whole_run(layer, (const void *const[]){in}, WHOLE_REFERENCE);
    whole_assert_equal(TESSI_I64, fast, plain, N);
    free(in);
    free(fast);
    free(plain);
    tessi_layer_destroy(layer);
}

/* Every conversion through a COPY. */
static void test_conversions(void **state)
{
    enum { N = 1300 };
    struct tessi_shape shape = SHAPE(N);
    (void)state;
    for (uint32_t from = 0; from < TESSI_DTYPE_COUNT; from++) {
        for (uint32_t to = 0; to < TESSI_DTYPE_COUNT; to++) {
            if (tessi_dtype_kind(from) == TESSI_KIND_COMPLEX && tessi_dtype_kind(to) != TESSI_KIND_COMPLEX) {
                continue; /* refused by the layer check */
            }
            struct tessi_instruction code = {.op = TESSI_EWISE_COPY, .dtype = to};
            struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, to, &shape, NULL);
            (void)whole_input(layer, from, &shape, NULL);
            program_set(layer, &code, 1, NULL, 0);
            void *in = whole_random(from, N, to, true);
            void *fast = whole_run(layer, (const void *const[]){in}, WHOLE_KERNEL);
            /* One element at a time takes other paths through the loops. */
            size_t from_size = tessi_dtype_size(from);
            size_t to_size = tessi_dtype_size(to);
            unsigned char *single = malloc(N * to_size);
            for (size_t i = 0; i < N; i++) {
                tessi_convert(to, single + i * to_size, from, (unsigned char *)in + i * from_size, 1);
            }
            whole_assert_equal(to, fast, single, N);
            free(single);
            free(in);
            free(fast);
            tessi_layer_destroy(layer);
        }
    }
}

static void test_conversion_values(void **state)
{
    const double in[8] = {1e30, -1e30, NAN, -1.9, 255.5, 65520.0, 65519.999, 0x1p-25};
    int8_t i8[8];
    uint64_t u64[8];
    int64_t i64[8];
    uint16_t f16[8];
    uint8_t truth[8];
    (void)state;
    tessi_convert(TESSI_I8, i8, TESSI_F64, in, 8);
    assert_int_equal(i8[0], INT8_MAX);
    assert_int_equal(i8[1], INT8_MIN);
    assert_int_equal(i8[2], 0);
    assert_int_equal(i8[3], -1);
    assert_int_equal(i8[4], 127);
    tessi_convert(TESSI_U64, u64, TESSI_F64, in, 8);
    assert_true(u64[0] == UINT64_MAX && u64[1] == 0 && u64[2] == 0 && u64[3] == 0 && u64[4] == 255);
    tessi_convert(TESSI_I64, i64, TESSI_F64, in, 8);
    assert_true(i64[0] == INT64_MAX && i64[1] == INT64_MIN && i64[2] == 0);
    tessi_convert(TESSI_F16, f16, TESSI_F64, in, 8);
    assert_int_equal(f16[0], 0x7c00);
    assert_int_equal(f16[2] & 0x7c00, 0x7c00);
    assert_int_not_equal(f16[2] & 0x3ff, 0);
    assert_int_equal(f16[5], 0x7c00); /* half way to the next power rounds to infinity */
    assert_int_equal(f16[6], 0x7bff); /* and less does not, though f32 would round it there first */
    assert_int_equal(f16[7], 0);      /* half of the smallest, to even */
    tessi_convert(TESSI_BOOL, truth, TESSI_F64, in, 8);
    assert_int_equal(truth[2], 1);
}

/* Whether `got` is the number of the type nearest to x, ties to even: neither neighbour is nearer. x and all of these are
 * exact in long double. */
static bool is_nearest(enum tessi_dtype dtype, const void *got, long double x)
{
    size_t size = tessi_dtype_size(dtype);
    uint64_t bits = 0;
    memcpy(&bits, got, size);
    double at[3]; /* the number, and its neighbours by their bits */
    for (int i = 0; i < 3; i++) {
        uint64_t other = bits + (i == 1 ? 1 : i == 2 ? UINT64_MAX : 0);
        tessi_convert(TESSI_F64, &at[i], dtype, &other, 1);
    }
    long double beyond = dtype == TESSI_F16 ? 65536.0L : 0x1p128L; /* infinity stands for the next power of two */
    long double error = fabsl((isinf(at[0]) ? copysignl(beyond, (long double)at[0]) : (long double)at[0]) - x);
    for (int i = 1; i < 3; i++) {
        long double other = fabsl((isinf(at[i]) ? copysignl(beyond, (long double)at[i]) : (long double)at[i]) - x);
        bool whole = at[0] == 0 || isnan(at[i]) || isinf(at[0]); /* no neighbour on that side */
        if (!whole && (other < error || (other == error && (bits & 1) != 0))) {
            return false;
        }
    }
    return true;
}

/* 64 bits: single ones and their neighbours, and two ones with something far below or nothing. */
static uint64_t hard_integer(int i)
{
    int high = i / 512;
    int low = i / 8 % 64;
    uint64_t x = (UINT64_C(1) << high) + (UINT64_C(1) << low);
    return i % 8 < 3 ? x + (uint64_t)(i % 8) - 1 : i % 8 < 6 ? x | x >> 8 | x >> 9 | (uint64_t)(i % 2) : x * 3 - 1;
}

/* Integers, and f64 above and below the middle of two short floats: all are rounded once. */
static void test_rounded_once(void **state)
{
    static const enum tessi_dtype from[] = {TESSI_I16, TESSI_I32, TESSI_I64, TESSI_U16, TESSI_U32, TESSI_U64, TESSI_F64};
    static const enum tessi_dtype to[] = {TESSI_F16, TESSI_BF16, TESSI_F32, TESSI_F64};
    enum { N = 64 * 64 * 8 };
    uint64_t *wide = malloc(N * sizeof *wide);
    (void)state;
    for (int f = 0; f < 7; f++) {
        for (int i = 0; i < N; i++) {
            uint64_t x = hard_integer(i);
            double real = (double)(int64_t)x; /* an f64 of its own, once shifted to where f16 and subnormals are */
            real = i % 3 == 0 ? ldexp(real, -40) : i % 3 == 1 ? ldexp(real, -170) : real;
            wide[i] = x;
            if (from[f] == TESSI_F64) {
                memcpy(&wide[i], &real, sizeof real);
            }
        }
        for (int t = 0; t < 4; t++) {
            for (int i = 0; i < N; i++) {
                _Alignas(8) unsigned char x[8], got[8] = {0}, complex[16] = {0};
                uint64_t u;
                int64_t s;
                double real;
                tessi_convert(from[f], x, from[f] == TESSI_F64 ? TESSI_F64 : TESSI_U64, &wide[i], 1);
                tessi_convert(to[t], got, from[f], x, 1);
                tessi_convert(TESSI_U64, &u, from[f], x, 1);
                tessi_convert(TESSI_I64, &s, from[f], x, 1);
                tessi_convert(TESSI_F64, &real, from[f], x, 1);
                long double exact = from[f] == TESSI_F64                                  ? (long double)real
                                    : tessi_dtype_kind(from[f]) == TESSI_KIND_SIGNED ? (long double)s
                                                                                      : (long double)u;
                assert_true(is_nearest(to[t], got, exact));
                if (to[t] >= TESSI_F32) { /* a complex number's real part is rounded as the real number */
                    tessi_convert(to[t] == TESSI_F32 ? TESSI_C64 : TESSI_C128, complex, from[f], x, 1);
                    assert_memory_equal(complex, got, tessi_dtype_size(to[t]));
                }
            }
        }
    }
    free(wide);
}

/* All f16 and bf16 there are survive the way through f32 and f64. */
static void test_short_floats(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t h = (uint16_t)bits;
        for (int b = 0; b < 2; b++) {
            enum tessi_dtype dtype = b != 0 ? TESSI_BF16 : TESSI_F16;
            double wide;
            uint16_t back;
            tessi_convert(TESSI_F64, &wide, dtype, &h, 1);
            tessi_convert(dtype, &back, TESSI_F64, &wide, 1);
            if (isnan(wide)) {
                assert_true((back & 0x7fff) > (b != 0 ? 0x7f80 : 0x7c00));
                continue;
            }
            assert_int_equal(back, h);
            int exponent = b != 0 ? (h >> 7) & 0xff : (h >> 10) & 0x1f;
            int mantissa = b != 0 ? h & 0x7f : h & 0x3ff;
            int places = b != 0 ? 7 : 10;
            int bias = b != 0 ? 127 : 15;
            double want = exponent == 0 ? ldexp(mantissa, 1 - bias - places)
                          : isinf(wide) ? (double)INFINITY
                                        : ldexp(mantissa + (1 << places), exponent - bias - places);
            assert_true(fabs(wide) == want && signbit(wide) == (h >> 15));
        }
    }
}

/* What an operation is, in long double: its body there, or the C library's function of its name. */
#define NAME(op) exactly_##op
#define T long double
#define FLOATING
#define ROOT sqrtl
#define MAGNITUDE fabsl
#include "worker/kernel/bodies.h"

#define EXACTLY_X(function) function(x)
#define EXACTLY_XX(function) function(x, y)
#define EXACTLY_CXX(function) x
#define EXACTLY_NO(operands, op) x
#define EXACTLY_TRUTH(operands, op) x
#define EXACTLY_MOVE(operands, op) x
#define EXACTLY_OWN(operands, op) EXACTLY_##operands(exactly_##op)
#define EXACTLY_WIDE(operands, op) EXACTLY_##operands(op##l)

static long double exactly(enum tessi_ewise op, long double x, long double y)
{
    switch (op) {
#define TESSI_ROW(NAME_, op, code, operands, bool_, integer, float_, ...) \
    case TESSI_EWISE_##NAME_:                                            \
        return EXACTLY_##float_(operands, op);
        TESSI_EWISE_TABLE(TESSI_ROW)
#undef TESSI_ROW
    }
    return x;
}

/* A short float is what it should be: rounded once. */
static bool is_short_float(enum tessi_dtype dtype, uint16_t got, long double exact)
{
    double value;
    double smallest;
    const uint16_t one = 1;
    tessi_convert(TESSI_F64, &value, dtype, &got, 1);
    tessi_convert(TESSI_F64, &smallest, dtype, &one, 1);
    if (isnan(exact) || isnan(value)) {
        return isnan(exact) && isnan(value);
    }
    if (isinf(exact) || value == 0) {
        return value == 0 ? fabsl(exact) <= (long double)smallest / 2 : (long double)value == exact;
    }
    return is_nearest(dtype, &got, exact);
}

/* What becomes of a result that goes from f64 to f32 and then to the short type, to nearest each time. */
static uint16_t rounded_twice(enum tessi_dtype dtype, double x)
{
    float single = (float)x;
    uint16_t got;
    tessi_convert(dtype, &got, TESSI_F32, &single, 1);
    return got;
}

/* Every instruction of f16 and bf16 on all 65,536 of them, with second operands that are near the middle of something:
 * rounded once by the kernel and by the reference. Some results would be others if they were rounded on their way too. */
static void test_short_floats_rounded_once(void **state)
{
    enum { N = 65536 };
    enum { SECONDS = 4 };
    static const double seconds[SECONDS] = {3.0, 0x1.554p-2, 0x1.004p-14, -1023.5};
    struct tessi_shape shape = SHAPE(N);
    uint16_t *in = malloc(N * sizeof *in), *second = malloc(N * sizeof *second);
    uint32_t differ[2][TESSI_EWISE_COUNT] = {{0}};
    (void)state;
    for (uint32_t trial = 0; trial < 2 * TESSI_EWISE_COUNT * SECONDS; trial++) {
        enum tessi_dtype dtype = trial % 2 == 0 ? TESSI_F16 : TESSI_BF16;
        struct tessi_instruction code = {.op = trial / 2 % TESSI_EWISE_COUNT, .dtype = dtype, .a = 0, .b = 1};
        bool again = tessi_ewise_arity(code.op) == 1 && trial >= 2 * TESSI_EWISE_COUNT;
        if (again || tessi_ewise_arity(code.op) > 2 || !whole_computes(code.op, dtype) ||
            tessi_instruction_result(&code) != dtype) {
            continue;
        }
        struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &shape, NULL);
        (void)whole_input(layer, dtype, &shape, NULL);
        (void)whole_input(layer, dtype, &shape, NULL);
        program_set(layer, &code, 1, NULL, 0);
        for (uint32_t bits = 0; bits < N; bits++) {
            in[bits] = (uint16_t)bits;
            tessi_convert(dtype, &second[bits], TESSI_F64, &seconds[trial / 2 / TESSI_EWISE_COUNT], 1);
        }
        uint16_t *fast = whole_run(layer, (const void *const[]){in, second}, WHOLE_KERNEL);
        uint16_t *plain = whole_run(layer, (const void *const[]){in, second}, WHOLE_REFERENCE);
        whole_assert_equal(dtype, fast, plain, N);
        for (uint32_t i = 0; i < N; i++) {
            double x;
            double y;
            tessi_convert(TESSI_F64, &x, dtype, &in[i], 1);
            tessi_convert(TESSI_F64, &y, dtype, &second[i], 1);
            long double exact = exactly(code.op, (long double)x, (long double)y);
            assert_true(is_short_float(dtype, fast[i], exact));
            differ[trial % 2][code.op] += !isnan(exact) && rounded_twice(dtype, (double)exact) != fast[i];
        }
        free(fast);
        free(plain);
        tessi_layer_destroy(layer);
    }
    print_message("rounded otherwise by way of f32: %u exponentials and %u logarithms of f16, %u and %u of bf16\n",
                  differ[0][TESSI_EWISE_EXP], differ[0][TESSI_EWISE_LOG], differ[1][TESSI_EWISE_EXP],
                  differ[1][TESSI_EWISE_LOG]);
    assert_true(differ[0][TESSI_EWISE_EXP] > 0 && differ[0][TESSI_EWISE_LOG] > 0);
    assert_true(differ[0][TESSI_EWISE_SQRT] == 0 && differ[0][TESSI_EWISE_DIVIDE] == 0);
    free(in);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_on_special_values),
        cmocka_unit_test(test_rows_in_layouts),
        cmocka_unit_test(test_rows_identities),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_integers_wrap),
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_fused_equals_unfused),
        cmocka_unit_test(test_long_program),
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_conversion_values),
        cmocka_unit_test(test_rounded_once),
        cmocka_unit_test(test_short_floats),
        cmocka_unit_test(test_short_floats_rounded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
