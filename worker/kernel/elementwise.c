/* Elementwise programs.
 *
 * The block is walked in strips of STRIP elements, and the whole program runs over one strip
 * before the next, so that intermediates stay in the first cache. An instruction's result has
 * its dtype's precision whether it goes to a strip or to a block, so fusing changes no bits. */
#include "worker/kernel/simd.h"

#include "worker/kernel/operations.h"

#include <math.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "worker/kernel/complex.h"
#include "worker/kernel/convert.h"
#include "worker/kernel/elementary.h"

#define STRIP 512
#define SLOT_BYTES (STRIP * 16)

#define STRIP_PARAMETERS \
    enum tessi_ewise op, size_t n, const void *a, size_t sa, const void *b, size_t sb, void *out
typedef void strip_fn(STRIP_PARAMETERS);

#define SIGNED_INTEGER
#define W uint32_t
#define T int8_t
#define NAME(x) x##_i8
#include "worker/kernel/elementwise_type.h"
#define T int16_t
#define NAME(x) x##_i16
#include "worker/kernel/elementwise_type.h"
#define T int32_t
#define NAME(x) x##_i32
#include "worker/kernel/elementwise_type.h"
#undef W
#define W uint64_t
#define T int64_t
#define NAME(x) x##_i64
#include "worker/kernel/elementwise_type.h"
#undef SIGNED_INTEGER

#define UNSIGNED_INTEGER
#define T uint64_t
#define NAME(x) x##_u64
#include "worker/kernel/elementwise_type.h"
#undef W
#define W uint32_t
#define T uint8_t
#define NAME(x) x##_u8
#include "worker/kernel/elementwise_type.h"
#define T uint16_t
#define NAME(x) x##_u16
#include "worker/kernel/elementwise_type.h"
#define T uint32_t
#define NAME(x) x##_u32
#include "worker/kernel/elementwise_type.h"
#undef W
#undef UNSIGNED_INTEGER

/* Of truth values, as NumPy: a sum is "or", a product "and". */
#define T uint8_t
#define NAME(x) x##_bool
#define ADD(x, y) ((x) | (y))
#define MULTIPLY(x, y) ((x) & (y))
#define ABS(x) (x)
#include "worker/kernel/elementwise_type.h"

#define T double
#define NAME(x) x##_f64
#define ADD(x, y) ((x) + (y))
#define SUBTRACT(x, y) ((x) - (y))
#define MULTIPLY(x, y) ((x) * (y))
#define DIVIDE(x, y) ((x) / (y))
#define NEGATIVE(x) (-(x))
#define ABS(x) fabs(x)
#define SQRT(x) sqrt(x)
#define EXP(x) tessi_exp(x)
#define LOG(x) tessi_log(x)
#include "worker/kernel/elementwise_type.h"

#define T float
#define NAME(x) x##_f32
#define ADD(x, y) ((x) + (y))
#define SUBTRACT(x, y) ((x) - (y))
#define MULTIPLY(x, y) ((x) * (y))
#define DIVIDE(x, y) ((x) / (y))
#define NEGATIVE(x) (-(x))
#define ABS(x) fabsf(x)
#define SQRT(x) sqrtf(x)
#define EXP(x) tessi_exp((double)(x))
#define LOG(x) tessi_log((double)(x))
#include "worker/kernel/elementwise_type.h"

/* f16 and bf16 are computed in f32 and rounded after each instruction. For + − · / √ the second rounding is innocent,
 * since 24 ≥ 2·11 + 2 (Figueroa, "When is double rounding innocuous?", 1995); what was computed in f64 becomes an f32
 * by rounding to odd, so that the rounding after it is the only one. */
#define T float
#define NAME(x) x##_half
#define ADD(x, y) ((x) + (y))
#define SUBTRACT(x, y) ((x) - (y))
#define MULTIPLY(x, y) ((x) * (y))
#define DIVIDE(x, y) ((x) / (y))
#define NEGATIVE(x) (-(x))
#define ABS(x) fabsf(x)
#define SQRT(x) sqrtf(x)
#define EXP(x) tessi_f64_to_f32_odd(tessi_exp((double)(x)))
#define LOG(x) tessi_f64_to_f32_odd(tessi_log((double)(x)))
#include "worker/kernel/elementwise_type.h"

#define COMPLEX
#define T struct tessi_c64
#define NAME(x) x##_c64
#define NARROW(z) narrow(z)
#define WIDEN(z) ((struct tessi_c128){(double)(z).re, (double)(z).im})
static inline struct tessi_c64 narrow(struct tessi_c128 z)
{
    return (struct tessi_c64){(float)z.re, (float)z.im};
}
#include "worker/kernel/elementwise_type.h"
#undef NARROW
#undef WIDEN
#define T struct tessi_c128
#define NAME(x) x##_c128
#define NARROW(z) (z)
#define WIDEN(z) (z)
#include "worker/kernel/elementwise_type.h"
#undef NARROW
#undef WIDEN
#undef COMPLEX

static strip_fn *strip_choose(enum tessi_dtype dtype)
{
    switch (dtype) {
    case TESSI_BOOL:
        return strip_choose_bool();
    case TESSI_I8:
        return strip_choose_i8();
    case TESSI_I16:
        return strip_choose_i16();
    case TESSI_I32:
        return strip_choose_i32();
    case TESSI_I64:
        return strip_choose_i64();
    case TESSI_U8:
        return strip_choose_u8();
    case TESSI_U16:
        return strip_choose_u16();
    case TESSI_U32:
        return strip_choose_u32();
    case TESSI_U64:
        return strip_choose_u64();
    case TESSI_F16:
    case TESSI_BF16:
        return strip_choose_half();
    case TESSI_F32:
        return strip_choose_f32();
    case TESSI_F64:
        return strip_choose_f64();
    case TESSI_C64:
        return strip_choose_c64();
    case TESSI_C128:
        return strip_choose_c128();
    }
    return NULL;
}

static enum tessi_dtype compute_dtype(enum tessi_dtype dtype)
{
    return dtype == TESSI_F16 || dtype == TESSI_BF16 ? TESSI_F32 : dtype;
}

enum tessi_status tessi_kernel_instruction_check(const struct tessi_instruction *code, struct tessi_error *error)
{
    enum tessi_kind kind = tessi_dtype_kind(code->dtype);
    bool inexact = kind == TESSI_KIND_FLOAT || kind == TESSI_KIND_COMPLEX;
    bool fits = true;
    switch (code->op) {
    case TESSI_EWISE_COPY:
    case TESSI_EWISE_ADD:
    case TESSI_EWISE_MULTIPLY:
    case TESSI_EWISE_ABS:
        break;
    case TESSI_EWISE_SUBTRACT:
    case TESSI_EWISE_DIVIDE:
    case TESSI_EWISE_NEGATIVE:
        fits = kind != TESSI_KIND_BOOLEAN;
        break;
    case TESSI_EWISE_SQRT:
    case TESSI_EWISE_EXP:
    case TESSI_EWISE_LOG:
        fits = inexact;
        break;
    }
    return fits ? TESSI_OK
                : tessi_fail(error, TESSI_UNSUPPORTED, "%s is not defined for %s: convert to a %s type first",
                             tessi_ewise_name(code->op), tessi_dtype_name(code->dtype),
                             kind == TESSI_KIND_BOOLEAN ? "number" : "floating-point");
}

/* How an input's elements follow from the block's position. */
struct view {
    const unsigned char *data;
    enum tessi_dtype dtype;
    size_t size;
    int64_t stride[TESSI_NDIM_MAX]; /* elements, by collapsed dimension; 0: broadcast */
    void *expanded;                 /* room for one strip; NULL when never needed */
};

struct operand {
    const void *data;
    enum tessi_dtype dtype;
    bool scalar;
};

struct state {
    const struct tessi_kernel_step *step;
    const struct tessi_program *program;
    uint32_t ndim; /* of the collapsed block */
    int64_t dim[TESSI_NDIM_MAX];
    struct view view[TESSI_INPUTS_MAX];
    struct operand operand[TESSI_INPUTS_MAX + TESSI_CONSTANTS_MAX + TESSI_PROGRAM_MAX];
    uint32_t slot[TESSI_PROGRAM_MAX]; /* buffer of each instruction's result */
    uint32_t slots;
    strip_fn *run[TESSI_PROGRAM_MAX];
    unsigned char *buffers; /* slots, then scratch for two operands, then one for each broadcast input */
};

/* Strides of the inputs along the block's dimensions, before collapsing. */
static void views_init(struct state *state)
{
    const struct tessi_layer *layer = state->step->layer;
    for (uint32_t r = 0; r < state->step->step.count; r++) {
        const struct tessi_block_ref *ref = &state->step->step.ref[r];
        const struct tessi_input *input = &layer->input[ref->input];
        struct view *view = &state->view[ref->input];
        struct tessi_shape shape;
        tessi_grid_block_shape(&input->grid, ref->index, &shape);
        view->data = state->step->call->in[r];
        view->dtype = input->dtype;
        view->size = tessi_dtype_size(input->dtype);
        int64_t stride = 1;
        for (uint32_t d = shape.ndim; d-- > 0;) {
            if (shape.dim[d] != 1 && input->rules.rule[d].kind == TESSI_RULE_SAME) {
                view->stride[input->rules.rule[d].dim] = stride;
            }
            stride *= shape.dim[d];
        }
    }
}

/* Two neighbouring dimensions are one when every input steps through them evenly. */
static void collapse(struct state *state)
{
    const struct tessi_shape *shape = &state->step->shape;
    uint32_t ninputs = state->step->layer->ninputs;
    uint32_t n = 0;
    for (uint32_t d = 0; d < shape->ndim; d++) {
        if (shape->dim[d] == 1) {
            continue;
        }
        bool merges = n > 0;
        for (uint32_t i = 0; i < ninputs && merges; i++) {
            merges = state->view[i].stride[n - 1] == state->view[i].stride[d] * shape->dim[d];
        }
        n += merges ? 0 : 1;
        state->dim[n - 1] = merges ? state->dim[n - 1] * shape->dim[d] : shape->dim[d];
        for (uint32_t i = 0; i < ninputs; i++) {
            state->view[i].stride[n - 1] = state->view[i].stride[d];
        }
    }
    if (n == 0) {
        state->dim[n++] = 1;
        for (uint32_t i = 0; i < ninputs; i++) {
            state->view[i].stride[0] = 0;
        }
    }
    state->ndim = n;
}

static void copy_run(unsigned char *to, const unsigned char *from, size_t size, int64_t stride, int64_t count)
{
    if (stride == 1) {
        memcpy(to, from, (size_t)count * size);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        memcpy(to + (size_t)i * size, from + (size_t)(i * stride) * size, size);
    }
}

/* The strip [first, first + n) of an input, broadcast. */
static struct operand view_strip(const struct state *state, const struct view *view, int64_t first, int64_t n)
{
    uint32_t inner = state->ndim - 1;
    int64_t coords[TESSI_NDIM_MAX];
    int64_t rest = first;
    int64_t offset = 0;
    for (uint32_t d = state->ndim; d-- > 0;) {
        coords[d] = rest % state->dim[d];
        rest /= state->dim[d];
        offset += coords[d] * view->stride[d];
    }
    struct operand operand = {.data = view->data + (size_t)offset * view->size, .dtype = view->dtype};
    if (coords[inner] + n <= state->dim[inner] && view->stride[inner] <= 1) {
        operand.scalar = view->stride[inner] == 0;
        return operand;
    }
    unsigned char *to = view->expanded;
    operand.data = to;
    while (n > 0) {
        int64_t run = state->dim[inner] - coords[inner] < n ? state->dim[inner] - coords[inner] : n;
        copy_run(to, view->data + (size_t)offset * view->size, view->size, view->stride[inner], run);
        to += (size_t)run * view->size;
        n -= run;
        offset -= coords[inner] * view->stride[inner];
        coords[inner] = 0;
        for (uint32_t d = inner; d-- > 0;) {
            offset += view->stride[d];
            if (++coords[d] < state->dim[d]) {
                break;
            }
            offset -= coords[d] * view->stride[d];
            coords[d] = 0;
        }
    }
    return operand;
}

/* Give each result the lowest buffer whose last reader has run; the last result goes to the block. */
static void slots_assign(struct state *state)
{
    const struct tessi_program *program = state->program;
    uint32_t first_result = state->step->layer->ninputs + program->nconstants;
    uint32_t last_use[TESSI_PROGRAM_MAX] = {0};
    bool used[TESSI_PROGRAM_MAX] = {false};
    for (uint32_t i = 0; i < program->count; i++) {
        const struct tessi_instruction *code = &program->code[i];
        if (code->a >= first_result) {
            last_use[code->a - first_result] = i;
        }
        if (tessi_ewise_arity(code->op) == 2 && code->b >= first_result) {
            last_use[code->b - first_result] = i;
        }
    }
    for (uint32_t i = 0; i < program->count; i++) {
        uint32_t slot = 0;
        while (used[slot]) {
            slot++;
        }
        state->slot[i] = slot;
        state->slots = slot + 1 > state->slots ? slot + 1 : state->slots;
        used[slot] = last_use[i] > i;
        for (uint32_t j = 0; j < i; j++) {
            if (last_use[j] == i) {
                used[state->slot[j]] = false;
            }
        }
    }
}

static enum tessi_status prepare(struct state *state, struct tessi_error *error)
{
    const struct tessi_layer *layer = state->step->layer;
    const struct tessi_program *program = state->program;
    views_init(state);
    collapse(state);
    slots_assign(state);
    for (uint32_t i = 0; i < program->count; i++) {
        enum tessi_status status = tessi_kernel_instruction_check(&program->code[i], error);
        if (status != TESSI_OK) {
            return status;
        }
        state->run[i] = strip_choose(program->code[i].dtype);
    }
    size_t room = (state->slots + 4 + layer->ninputs) * (size_t)SLOT_BYTES + program->nconstants * sizeof(struct tessi_c128);
    state->buffers = tessi_try_alloc(room + 64);
    if (state->buffers == NULL) {
        return tessi_fail(error, TESSI_NOMEM, "no memory for %zu bytes of elementwise strips", room);
    }
    unsigned char *aligned = state->buffers + (64 - (uintptr_t)state->buffers % 64);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        state->view[i].expanded = aligned + (state->slots + 4 + i) * (size_t)SLOT_BYTES;
    }
    unsigned char *constants = aligned + (state->slots + 4 + layer->ninputs) * (size_t)SLOT_BYTES;
    for (uint32_t i = 0; i < program->nconstants; i++) {
        const struct tessi_scalar *constant = &program->constants[i];
        tessi_convert_scalar(constant->dtype, constants + 16 * i, constant);
        state->operand[layer->ninputs + i] = (struct operand){constants + 16 * i, constant->dtype, true};
    }
    return TESSI_OK;
}

/* The operand in the instruction's dtype, then in the one that it is computed in. */
static const void *operand_as(const struct operand *operand, enum tessi_dtype dtype, size_t n, unsigned char *scratch)
{
    enum tessi_dtype compute = compute_dtype(dtype);
    size_t count = operand->scalar ? 1 : n;
    const void *data = operand->data;
    if (operand->dtype != dtype) {
        unsigned char *to = compute == dtype ? scratch : scratch + SLOT_BYTES;
        tessi_convert(dtype, to, operand->dtype, data, count);
        data = to;
    }
    if (compute != dtype) {
        tessi_convert(compute, scratch, dtype, data, count);
        data = scratch;
    }
    return data;
}

static void strip_run(struct state *state, int64_t first, size_t n)
{
    const struct tessi_layer *layer = state->step->layer;
    const struct tessi_program *program = state->program;
    unsigned char *slots = state->buffers + (64 - (uintptr_t)state->buffers % 64);
    unsigned char *scratch = slots + state->slots * (size_t)SLOT_BYTES;
    unsigned char *block = (unsigned char *)state->step->call->out + (size_t)first * tessi_dtype_size(layer->dtype);
    struct operand *results = state->operand + layer->ninputs + program->nconstants;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        state->operand[i] = view_strip(state, &state->view[i], first, (int64_t)n);
    }
    for (uint32_t i = 0; i < program->count; i++) {
        const struct tessi_instruction *code = &program->code[i];
        const struct operand *a = &state->operand[code->a];
        const struct operand *b = tessi_ewise_arity(code->op) == 2 ? &state->operand[code->b] : a;
        enum tessi_dtype compute = compute_dtype(code->dtype);
        bool last = i + 1 == program->count;
        const void *x = operand_as(a, code->dtype, n, scratch);
        const void *y = b == a ? x : operand_as(b, code->dtype, n, scratch + 2 * (size_t)SLOT_BYTES);
        void *result = last && code->dtype == layer->dtype ? block : slots + state->slot[i] * (size_t)SLOT_BYTES;
        void *out = compute == code->dtype ? result : scratch + 3 * (size_t)SLOT_BYTES;
        state->run[i](code->op, n, x, a->scalar ? 0 : 1, y, b->scalar ? 0 : 1, out);
        if (out != result) {
            tessi_convert(code->dtype, result, compute, out, n);
        }
        results[i] = (struct operand){result, code->dtype, false};
        if (last && result != (void *)block) {
            tessi_convert(layer->dtype, block, code->dtype, result, n);
        }
    }
}

enum tessi_status tessi_kernel_elementwise(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    struct state state = {.step = step, .program = &step->layer->as.program};
    TESS_ASSERT(state.program->count >= 1 && state.program->count <= TESSI_PROGRAM_MAX);
    if (step->elements == 0) {
        return TESSI_OK;
    }
    enum tessi_status status = prepare(&state, error);
    if (status != TESSI_OK) {
        return status;
    }
    /* Long rows are cut so that no strip leaves its row, and broadcast inputs need no copy. */
    int64_t row = state.dim[state.ndim - 1] >= STRIP / 4 ? state.dim[state.ndim - 1] : step->elements;
    for (int64_t start = 0; start < step->elements; start += row) {
        for (int64_t i = 0; i < row; i += STRIP) {
            strip_run(&state, start + i, (size_t)(row - i < STRIP ? row - i : STRIP));
        }
    }
    tessi_free(state.buffers);
    return TESSI_OK;
}
