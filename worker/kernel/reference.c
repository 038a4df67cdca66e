/* The plain references: one element at a time, in the widest type of its kind, then stored in
 * its dtype. Slow and short, so that it can be read against the definitions. */
#include <math.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/philox.h"
#include "worker/kernel/complex.h"
#include "worker/kernel/convert.h"
#include "worker/kernel/elementary.h"
#include "worker/kernel/operations.h"
#include "worker/kernel/reduce.h"
#include "worker/kernel/scalar.h"

/* One element: `i` for bool, signed and unsigned (modulo 2^64), `z` for floats and complex. */
struct value {
    enum tessi_kind kind;
    uint64_t i;
    struct tessi_c128 z;
};

static bool is_float(enum tessi_kind kind)
{
    return kind == TESSI_KIND_FLOAT || kind == TESSI_KIND_COMPLEX;
}

static struct value load(enum tessi_dtype dtype, const void *data, int64_t at)
{
    struct value value = {.kind = tessi_dtype_kind(dtype)};
    const unsigned char *from = (const unsigned char *)data + (size_t)at * tessi_dtype_size(dtype);
    if (value.kind == TESSI_KIND_COMPLEX) {
        tessi_convert(TESSI_C128, &value.z, dtype, from, 1);
    } else if (value.kind == TESSI_KIND_FLOAT) {
        tessi_convert(TESSI_F64, &value.z.re, dtype, from, 1);
    } else {
        tessi_convert(value.kind == TESSI_KIND_SIGNED ? TESSI_I64 : TESSI_U64, &value.i, dtype, from, 1);
    }
    return value;
}

static void store(enum tessi_dtype dtype, void *data, int64_t at, struct value value)
{
    unsigned char *to = (unsigned char *)data + (size_t)at * tessi_dtype_size(dtype);
    if (value.kind == TESSI_KIND_COMPLEX) {
        tessi_convert(dtype, to, TESSI_C128, &value.z, 1);
    } else if (value.kind == TESSI_KIND_FLOAT) {
        tessi_convert(dtype, to, TESSI_F64, &value.z.re, 1);
    } else {
        tessi_convert(dtype, to, value.kind == TESSI_KIND_SIGNED ? TESSI_I64 : TESSI_U64, &value.i, 1);
    }
}

/* The value rounded to a dtype and read back. */
static struct value as_dtype(enum tessi_dtype dtype, struct value value)
{
    _Alignas(16) unsigned char buffer[16];
    store(dtype, buffer, 0, value);
    return load(dtype, buffer, 0);
}

static struct value of_scalar(const struct tessi_scalar *scalar)
{
    _Alignas(16) unsigned char buffer[16];
    tessi_convert_scalar(scalar->dtype, buffer, scalar);
    return load(scalar->dtype, buffer, 0);
}

/* Row-major position to coordinates. */
static void coords_of(const struct tessi_shape *shape, int64_t at, int64_t *coords)
{
    for (uint32_t d = shape->ndim; d-- > 0;) {
        coords[d] = at % shape->dim[d];
        at /= shape->dim[d];
    }
}

static int64_t position_of(const struct tessi_shape *shape, const int64_t *coords)
{
    int64_t at = 0;
    for (uint32_t d = 0; d < shape->ndim; d++) {
        at = at * shape->dim[d] + coords[d];
    }
    return at;
}

enum tessi_status tessi_reference_generate(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    int64_t coords[TESSI_NDIM_MAX];
    (void)error;
    for (int64_t at = 0; at < step->elements; at++) {
        struct value value = {.kind = TESSI_KIND_SIGNED};
        coords_of(&step->shape, at, coords);
        if (layer->op == TESSI_OP_FULL) {
            value = of_scalar(&layer->as.full);
        } else if (layer->op == TESSI_OP_EYE) {
            value.i = step->lo[1] + coords[1] - (step->lo[0] + coords[0]) == layer->as.eye.diagonal ? 1 : 0;
        } else {
            struct value start = of_scalar(&layer->as.arange.start);
            struct value stride = of_scalar(&layer->as.arange.step);
            enum tessi_kind kind = tessi_dtype_kind(layer->dtype);
            enum tessi_dtype wide = kind == TESSI_KIND_COMPLEX ? TESSI_C128
                                    : kind == TESSI_KIND_FLOAT ? TESSI_F64
                                                               : TESSI_I64;
            start = as_dtype(wide, start);
            stride = as_dtype(wide, stride);
            uint64_t e = (uint64_t)(step->lo[0] + at);
            value = start;
            value.i = start.i + e * stride.i;
            value.z.re = start.z.re + (double)e * stride.z.re;
            value.z.im = start.z.im + (double)e * stride.z.im;
        }
        store(layer->dtype, step->call->out, at, value);
    }
    return TESSI_OK;
}

/* Uniform numbers of the shorter types are drawn as f32; see worker/kernel/random.h. */
static double draw(const struct tessi_layer *layer, uint64_t e)
{
    double low = layer->as.random.low;
    double high = layer->as.random.high;
    uint32_t words[4];
    if (layer->op == TESSI_OP_UNIFORM && layer->dtype == TESSI_F64) {
        double x = low + (high - low) * tessi_philox_uniform_f64(layer->as.random.seed, e);
        return x >= high && high > low ? nextafter(high, low) : x;
    }
    if (layer->op == TESSI_OP_UNIFORM) {
        float low32 = (float)low;
        float x = low32 + ((float)high - low32) * tessi_philox_uniform_f32(layer->as.random.seed, e);
        return x >= (float)high && (float)high > low32 ? (double)nextafterf((float)high, low32) : (double)x;
    }
    double sine;
    double cosine;
    tessi_philox_element(layer->as.random.seed, e, 1, words);
    tessi_sincos_turns(tessi_philox_to_f64(words[2], words[3]), &sine, &cosine);
    double radius = sqrt(-2.0 * tessi_log(1.0 - tessi_philox_to_f64(words[0], words[1])));
    return low + high * (radius * cosine);
}

/* An f16 or bf16 that was rounded up to the end of the range becomes the number before it. */
static void below_open_end(const struct tessi_layer *layer, uint16_t *bits)
{
    double x = load(layer->dtype, bits, 0).z.re;
    if (x >= (double)(float)layer->as.random.high && layer->as.random.high > layer->as.random.low) {
        *bits = (*bits & 0x7fff) == 0 ? 0x8001 : (uint16_t)((*bits & 0x8000) != 0 ? *bits + 1 : *bits - 1);
    }
}

enum tessi_status tessi_reference_random(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    struct tessi_shape whole;
    int64_t coords[TESSI_NDIM_MAX];
    (void)error;
    tessi_grid_shape(&step->layer->grid, &whole);
    for (int64_t at = 0; at < step->elements; at++) {
        struct value value = {.kind = TESSI_KIND_FLOAT};
        coords_of(&step->shape, at, coords);
        for (uint32_t d = 0; d < whole.ndim; d++) {
            coords[d] += step->lo[d];
        }
        value.z.re = draw(step->layer, (uint64_t)position_of(&whole, coords));
        store(step->layer->dtype, step->call->out, at, value);
        if (step->layer->op == TESSI_OP_UNIFORM && tessi_dtype_size(step->layer->dtype) == sizeof(uint16_t)) {
            below_open_end(step->layer, (uint16_t *)step->call->out + at);
        }
    }
    return TESSI_OK;
}

/* What an operation makes of values of one type, in the widest types of their kinds. OF_… reads one, AS_… makes one. */
#define OF_truth(value) ((unsigned char)(value).i)
#define OF_i64(value) ((long long)(value).i)
#define OF_u64(value) ((unsigned long long)(value).i)
#define OF_f64(value) ((value).z.re)
#define OF_c64(value) ((struct tessi_c64){(float)(value).z.re, (float)(value).z.im})
#define OF_c128(value) ((value).z)
#define AS_truth(x) ((struct value){.kind = TESSI_KIND_BOOLEAN, .i = (x)})
#define AS_i64(x) ((struct value){.kind = TESSI_KIND_SIGNED, .i = (uint64_t)(x)})
#define AS_u64(x) ((struct value){.kind = TESSI_KIND_UNSIGNED, .i = (x)})
#define AS_f64(x) ((struct value){.kind = TESSI_KIND_FLOAT, .z.re = (x)})
#define AS_c64(x) of_c64(x)
#define AS_c128(x) ((struct value){.kind = TESSI_KIND_COMPLEX, .z = (x)})
#define AS_OWN(type, x) AS_##type(x)
#define AS_TRUTH(type, x) AS_truth(x)
#define AS_REAL(type, x) REAL_##type(x)
#define REAL_truth AS_truth
#define REAL_i64 AS_i64
#define REAL_u64 AS_u64
#define REAL_f64 AS_f64
#define REAL_c64 AS_f64
#define REAL_c128 AS_f64
#define WIDE_f64(op) tessi_##op
#define WIDE_c64(op) tessi_complex_##op
#define WIDE_c128 WIDE_c64

#define OPERANDS_X(OF) OF(v[0])
#define OPERANDS_XX(OF) OF(v[0]), OF(v[1])
#define OPERANDS_CXX(OF) OF_truth(v[0]), OF(v[1]), OF(v[2])

#define CASE_NO(type, wider, NAME, op, operands, result) case TESSI_EWISE_##NAME: break;
#define CASE_F64 CASE_NO
#define CASE_TRUTH CASE_NO
#define CASE_OWN(type, wider, NAME, op, operands, result) \
    case TESSI_EWISE_##NAME:                              \
        return AS_##result(type, tessi_scalar_##op##_##type(OPERANDS_##operands(OF_##type)));
#define CASE_MOVE CASE_OWN
#define CASE_WIDE(type, wider, NAME, op, operands, result) \
    case TESSI_EWISE_##NAME:                               \
        return AS_##result(wider, WIDE_##type(op)(OPERANDS_##operands(OF_##wider)));

#define COMPUTE(type, wider, ROWS)                                             \
    static struct value compute_##type(enum tessi_ewise op, const struct value *v) \
    {                                                                          \
        switch (op) {                                                          \
            TESSI_EWISE_TABLE(ROWS)                                            \
        }                                                                      \
        TESS_ASSERT(false); /* refused by tessi_layer_check */                 \
        return v[0];                                                           \
    }
#define ROW_BOOL(NAME, op, code, operands, bool_, integer, float_, complex, result, ...) \
    CASE_##bool_(truth, truth, NAME, op, operands, result)
#define ROW_SIGNED(NAME, op, code, operands, bool_, integer, float_, complex, result, ...) \
    CASE_##integer(i64, i64, NAME, op, operands, result)
#define ROW_UNSIGNED(NAME, op, code, operands, bool_, integer, float_, complex, result, ...) \
    CASE_##integer(u64, u64, NAME, op, operands, result)
#define ROW_FLOAT(NAME, op, code, operands, bool_, integer, float_, complex, result, ...) \
    CASE_##float_(f64, f64, NAME, op, operands, result)
#define ROW_C64(NAME, op, code, operands, bool_, integer, float_, complex, result, ...) \
    CASE_##complex(c64, c128, NAME, op, operands, result)
#define ROW_C128(NAME, op, code, operands, bool_, integer, float_, complex, result, ...) \
    CASE_##complex(c128, c128, NAME, op, operands, result)

static struct value of_c64(struct tessi_c64 z)
{
    return (struct value){.kind = TESSI_KIND_COMPLEX, .z = {(double)z.re, (double)z.im}};
}

COMPUTE(truth, truth, ROW_BOOL)
COMPUTE(i64, i64, ROW_SIGNED)
COMPUTE(u64, u64, ROW_UNSIGNED)
COMPUTE(f64, f64, ROW_FLOAT)
COMPUTE(c64, c128, ROW_C64)
COMPUTE(c128, c128, ROW_C128)

/* The types below f64 are computed in f64 and rounded once: the same as computing in them, since f64 has
 * more than twice their bits. c64 products and their sums are rounded one by one. */
static struct value compute(const struct tessi_instruction *code, const struct value *operands)
{
    struct value v[TESSI_OPERANDS_MAX];
    struct value x = operands[0];
    for (uint32_t i = 0; i < tessi_ewise_arity(code->op); i++) {
        v[i] = as_dtype(tessi_ewise_operand(code->op, i, code->dtype), operands[i]);
    }
    switch (tessi_dtype_kind(code->dtype)) {
    case TESSI_KIND_BOOLEAN:
        x = compute_truth(code->op, v);
        break;
    case TESSI_KIND_SIGNED:
        x = compute_i64(code->op, v);
        break;
    case TESSI_KIND_UNSIGNED:
        x = compute_u64(code->op, v);
        break;
    case TESSI_KIND_FLOAT:
        x = compute_f64(code->op, v);
        break;
    case TESSI_KIND_COMPLEX:
        x = code->dtype == TESSI_C64 ? compute_c64(code->op, v) : compute_c128(code->op, v);
        break;
    }
    return as_dtype(tessi_instruction_result(code), x);
}

static struct value input_at(const struct tessi_kernel_step *step, uint32_t r, const int64_t *coords)
{
    const struct tessi_block_ref *ref = &step->step.ref[r];
    const struct tessi_input *input = &step->layer->input[ref->input];
    struct tessi_shape shape;
    int64_t own[TESSI_NDIM_MAX];
    tessi_grid_block_shape(&input->grid, ref->index, &shape);
    for (uint32_t d = 0; d < shape.ndim; d++) {
        own[d] = shape.dim[d] == 1 ? 0 : coords[d + step->shape.ndim - shape.ndim];
    }
    return load(input->dtype, step->call->in[r], position_of(&shape, own));
}

enum tessi_status tessi_reference_elementwise(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_program *program = &step->layer->as.program;
    struct value operand[TESSI_INPUTS_MAX + TESSI_CONSTANTS_MAX + TESSI_PROGRAM_MAX];
    int64_t coords[TESSI_NDIM_MAX];
    (void)error;
    for (int64_t at = 0; at < step->elements; at++) {
        uint32_t n = 0;
        coords_of(&step->shape, at, coords);
        for (; n < step->layer->ninputs; n++) {
            operand[n] = input_at(step, n, coords);
        }
        for (uint32_t i = 0; i < program->nconstants; i++) {
            operand[n++] = of_scalar(&program->constants[i]);
        }
        for (uint32_t i = 0; i < program->count; i++) {
            const struct tessi_instruction *code = &program->code[i];
            struct value of[TESSI_OPERANDS_MAX];
            for (uint32_t o = 0; o < tessi_ewise_arity(code->op); o++) {
                of[o] = operand[tessi_instruction_operand(code, o)];
            }
            operand[n++] = compute(code, of);
        }
        store(step->layer->dtype, step->call->out, at, operand[n - 1]);
    }
    return TESSI_OK;
}

/* The bodies of reductions, in the widest type of each kind. */
#define WHOLE
#define T int64_t
#define W uint64_t
#define NAME(f) f##_i64
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T uint64_t
#define W uint64_t
#define NAME(f) f##_u64
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define FLOATING
#define T double
#define NAME(f) f##_f64
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define COMPLEX
#define T struct tessi_c128
#define NAME(f) f##_c128
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define TRUTH
#define T uint8_t
#define NAME(f) f##_bool
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"

static struct value fold_two(enum tessi_fold fold, struct value acc, struct value x)
{
    switch (acc.kind) {
    case TESSI_KIND_BOOLEAN:
        acc.i = tessi_join_bool(fold, (uint8_t)x.i, (uint8_t)acc.i);
        break;
    case TESSI_KIND_SIGNED:
        acc.i = (uint64_t)tessi_join_i64(fold, (int64_t)x.i, (int64_t)acc.i);
        break;
    case TESSI_KIND_UNSIGNED:
        acc.i = tessi_join_u64(fold, x.i, acc.i);
        break;
    case TESSI_KIND_FLOAT:
        acc.z.re = tessi_join_f64(fold, x.z.re, acc.z.re);
        break;
    case TESSI_KIND_COMPLEX:
        acc.z = tessi_join_c128(fold, x.z, acc.z);
        break;
    }
    return acc;
}

/* Where an element goes: the place of its result in the block, and its position among those that become one. */
static int64_t result_of(const struct tessi_kernel_step *step, const struct tessi_shape *in, const int64_t *lo,
                         int64_t at, int64_t *position)
{
    const struct tessi_grid *grid = &step->layer->input[0].grid;
    int64_t coords[TESSI_NDIM_MAX], to = 0;
    *position = 0;
    coords_of(in, at, coords);
    for (uint32_t d = 0; d < in->ndim; d++) {
        if ((step->layer->as.reduce.axes >> d & 1u) == 0) {
            to = to * in->dim[d] + coords[d];
        } else {
            *position = *position * grid->axis[d].extent + lo[d] + coords[d];
        }
    }
    return to;
}

/* Numbers: in row-major order, wide, and rounded at the end of the step. */
static void fold_numbers(const struct tessi_kernel_step *step, const struct tessi_shape *in, int64_t elements,
                         struct value *acc, bool *begun)
{
    const struct tessi_layer *layer = step->layer;
    const int64_t lo[TESSI_NDIM_MAX] = {0};
    for (int64_t at = 0; at < step->elements; at++) {
        begun[at] = step->call->step > 0;
        acc[at] = begun[at] ? load(layer->dtype, step->call->out, at)
                            : (struct value){.kind = tessi_dtype_kind(layer->dtype)};
    }
    for (int64_t at = 0; at < elements; at++) {
        int64_t position, to = result_of(step, in, lo, at, &position);
        struct value value = as_dtype(layer->dtype, load(layer->input[0].dtype, step->call->in[0], at));
        acc[to] = begun[to] ? fold_two(layer->as.reduce.fold, acc[to], value) : value;
        begun[to] = true;
    }
    for (int64_t at = 0; at < step->elements; at++) {
        store(layer->dtype, step->call->out, at, acc[at]);
    }
}

/* Records: one element after the other joins that of its result. */
static void fold_records(const struct tessi_kernel_step *step, int64_t elements, unsigned char *acc, bool *begun,
                         int64_t outputs)
{
    const struct tessi_layer *layer = step->layer;
    struct tessi_record_loops loops = tessi_record_loops(layer->as.reduce.fold, layer->as.reduce.from);
    bool records = tessi_reduce_reads_records(layer);
    bool finishes = layer->as.reduce.finishes;
    struct tessi_shape in;
    int64_t lo[TESSI_NDIM_MAX];
    tessi_kernel_block(&layer->input[0].grid, step->step.ref[0].index, &in, lo);
    memset(begun, step->call->step > 0 ? 1 : 0, (size_t)outputs);
    if (step->call->step > 0) {
        memcpy(acc, step->call->out, (size_t)outputs * loops.size);
    }
    for (int64_t at = 0; at < (records ? outputs : elements); at++) {
        int64_t position = 0, to = records ? at : result_of(step, &in, lo, at, &position);
        const unsigned char *record = (const unsigned char *)step->call->in[0] + (size_t)at * loops.size;
        _Alignas(16) unsigned char lifted[TESSI_FOLD_RECORD_MAX];
        if (!records) {
            struct value value = load(layer->input[0].dtype, step->call->in[0], at);
            loops.lift(is_float(value.kind) ? (const void *)&value.z : (const void *)&value.i, 1, position, lifted);
            record = lifted;
        }
        if (begun[to]) {
            loops.join(acc + (size_t)to * loops.size, record, 1);
        } else {
            memcpy(acc + (size_t)to * loops.size, record, loops.size);
        }
        begun[to] = true;
    }
    for (int64_t at = 0; at < outputs && finishes; at++) {
        _Alignas(16) unsigned char wide[16];
        loops.finish(acc + (size_t)at * loops.size, 1, layer->as.reduce.parameter, wide);
        store(layer->dtype, step->call->out, at, load(tessi_widest(layer->dtype), wide, 0));
    }
    if (!finishes) {
        memcpy(step->call->out, acc, (size_t)outputs * loops.size);
    }
}

enum tessi_status tessi_reference_reduce(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    struct tessi_shape in;
    int64_t elements = 0, record = tessi_fold_record_bytes(layer->as.reduce.fold);
    tessi_grid_block_shape(&layer->input[0].grid, step->step.ref[0].index, &in);
    (void)tessi_shape_elements(&in, &elements);
    int64_t outputs = tessi_reduce_makes_records(layer) ? step->elements / record : step->elements;
    size_t each = record > 0 ? (size_t)record : sizeof(struct value);
    void *acc = tessi_try_alloc((size_t)(outputs + 1) * each);
    bool *begun = tessi_try_alloc((size_t)outputs + 1);
    enum tessi_status status = TESSI_OK;
    if (acc == NULL || begun == NULL) {
        status = tessi_fail(error, TESSI_NOMEM, "no memory for the reference's accumulators");
    } else if (record > 0) {
        fold_records(step, elements, acc, begun, outputs);
    } else {
        fold_numbers(step, &in, elements, acc, begun);
    }
    tessi_free(acc);
    tessi_free(begun);
    return status;
}

enum tessi_status tessi_reference_transpose(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    size_t size = tessi_dtype_size(step->layer->dtype);
    struct tessi_shape in;
    int64_t coords[TESSI_NDIM_MAX];
    int64_t own[TESSI_NDIM_MAX];
    (void)error;
    tessi_grid_block_shape(&step->layer->input[0].grid, step->step.ref[0].index, &in);
    for (int64_t at = 0; at < step->elements; at++) {
        coords_of(&step->shape, at, coords);
        for (uint32_t d = 0; d < in.ndim; d++) {
            own[step->layer->as.transpose.axis[d]] = coords[d];
        }
        memcpy((unsigned char *)step->call->out + (size_t)at * size,
               (const unsigned char *)step->call->in[0] + (size_t)position_of(&in, own) * size, size);
    }
    return TESSI_OK;
}

enum tessi_status tessi_reference_regrid(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_input *input = &step->layer->input[step->step.ref[0].input];
    size_t size = tessi_dtype_size(step->layer->dtype);
    struct tessi_shape in;
    int64_t lo[TESSI_NDIM_MAX];
    int64_t coords[TESSI_NDIM_MAX];
    int64_t own[TESSI_NDIM_MAX];
    (void)error;
    if (step->step.count == 0) {
        return TESSI_OK;
    }
    tessi_kernel_block(&input->grid, step->step.ref[0].index, &in, lo);
    for (int64_t at = 0; at < step->elements; at++) {
        bool inside = true;
        coords_of(&step->shape, at, coords);
        for (uint32_t d = 0; d < in.ndim; d++) {
            own[d] = input->rules.rule[d].start + (step->lo[d] + coords[d]) * input->rules.rule[d].step - lo[d];
            inside = inside && own[d] >= 0 && own[d] < in.dim[d];
        }
        if (inside) {
            memcpy((unsigned char *)step->call->out + (size_t)at * size,
                   (const unsigned char *)step->call->in[0] + (size_t)position_of(&in, own) * size, size);
        }
    }
    return TESSI_OK;
}

/* Element of an operand's block: row is the kept index, k counts in the whole array. */
static struct value matmul_at(const struct tessi_kernel_step *step, uint32_t i, int64_t kept, int64_t k)
{
    const struct tessi_input *input = &step->layer->input[i];
    bool k_first = i == 0 ? step->layer->as.matmul.transpose_a : !step->layer->as.matmul.transpose_b;
    struct tessi_shape shape;
    int64_t lo[TESSI_NDIM_MAX];
    tessi_kernel_block(&input->grid, step->step.ref[i].index, &shape, lo);
    int64_t coords[2] = {k_first ? k - lo[0] : kept, k_first ? kept : k - lo[1]};
    return load(input->dtype, step->call->in[i], position_of(&shape, coords));
}

enum tessi_status tessi_reference_matmul(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    enum tessi_dtype dtype = step->layer->dtype;
    enum tessi_dtype accumulate = dtype == TESSI_F16 || dtype == TESSI_BF16 ? TESSI_F32 : dtype;
    const struct tessi_instruction multiply = {.op = TESSI_EWISE_MULTIPLY, .dtype = accumulate};
    const struct tessi_instruction add = {.op = TESSI_EWISE_ADD, .dtype = accumulate};
    (void)error;
    for (int64_t at = 0; at < step->elements; at++) {
        int64_t row = at / step->shape.dim[1];
        int64_t column = at % step->shape.dim[1];
        struct value sum = {.kind = tessi_dtype_kind(dtype)};
        if (step->call->step > 0) {
            sum = load(dtype, step->call->out, at);
        }
        for (int64_t k = step->step.k_lo; k < step->step.k_hi; k++) {
            struct value factors[2] = {matmul_at(step, 0, row, k), matmul_at(step, 1, column, k)};
            struct value terms[2] = {sum, compute(&multiply, factors)};
            sum = compute(&add, terms);
        }
        store(dtype, step->call->out, at, sum);
    }
    return TESSI_OK;
}
