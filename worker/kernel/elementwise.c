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
#include "worker/kernel/convert.h"
#include "worker/kernel/half.h"
#include "worker/kernel/scalar.h"

#define STRIP 512
#define SLOT_BYTES (STRIP * 16)
#define SCRATCH_SLOTS (2 * TESSI_OPERANDS_MAX + 1) /* two conversions of each operand, one of the result */

#define STRIP_PARAMETERS enum tessi_ewise op, size_t n, const void *const *in, const size_t *stride, void *out
typedef void strip_fn(STRIP_PARAMETERS);

#define CLASS(bool_, integer, float_, complex) bool_
#define R T
#define T unsigned char
#define NAME(x) x##_bool
#define SCALAR(op) tessi_scalar_##op##_truth
#include "worker/kernel/elementwise_type.h"
#undef CLASS

#define CLASS(bool_, integer, float_, complex) integer
#define T signed char
#define NAME(x) x##_i8
#define SCALAR(op) tessi_scalar_##op##_i8
#include "worker/kernel/elementwise_type.h"
#define T short
#define NAME(x) x##_i16
#define SCALAR(op) tessi_scalar_##op##_i16
#include "worker/kernel/elementwise_type.h"
#define T int
#define NAME(x) x##_i32
#define SCALAR(op) tessi_scalar_##op##_i32
#include "worker/kernel/elementwise_type.h"
#define T long long
#define NAME(x) x##_i64
#define SCALAR(op) tessi_scalar_##op##_i64
#include "worker/kernel/elementwise_type.h"
#define T unsigned char
#define NAME(x) x##_u8
#define SCALAR(op) tessi_scalar_##op##_u8
#include "worker/kernel/elementwise_type.h"
#define T unsigned short
#define NAME(x) x##_u16
#define SCALAR(op) tessi_scalar_##op##_u16
#include "worker/kernel/elementwise_type.h"
#define T unsigned int
#define NAME(x) x##_u32
#define SCALAR(op) tessi_scalar_##op##_u32
#include "worker/kernel/elementwise_type.h"
#define T unsigned long long
#define NAME(x) x##_u64
#define SCALAR(op) tessi_scalar_##op##_u64
#include "worker/kernel/elementwise_type.h"
#undef CLASS

#define CLASS(bool_, integer, float_, complex) float_
#define WIDE(op) tessi_##op
#define WIDEN(x) ((double)(x))
#define T double
#define NAME(x) x##_f64
#define SCALAR(op) tessi_scalar_##op##_f64
#define NARROW(x) (x)
#include "worker/kernel/elementwise_type.h"
#undef NARROW
#define T float
#define NAME(x) x##_f32
#define SCALAR(op) tessi_scalar_##op##_f32
#define NARROW(x) ((float)(x))
#include "worker/kernel/elementwise_type.h"
#undef NARROW
/* f16 and bf16 are computed in f32 and rounded after each instruction. For + − · / √ the second rounding is innocent,
 * since 24 ≥ 2·11 + 2 (Figueroa, "When is double rounding innocuous?", 1995); what was computed in f64 becomes an f32
 * by rounding to odd, so that the rounding after it is the only one. */
#define T float
#define NAME(x) x##_half
#define SCALAR(op) tessi_scalar_##op##_f32
#define NARROW(x) tessi_f64_to_f32_odd(x)
#include "worker/kernel/elementwise_type.h"
#undef NARROW
#undef WIDE
#undef WIDEN
#undef CLASS
#undef R

#define CLASS(bool_, integer, float_, complex) complex
#define COMPLEX
#define WIDE(op) tessi_complex_##op
#define T struct tessi_c64
#define R float
#define NAME(x) x##_c64
#define SCALAR(op) tessi_scalar_##op##_c64
#define WIDEN(z) ((struct tessi_c128){(double)(z).re, (double)(z).im})
#define NARROW(z) narrow(z)
static inline struct tessi_c64 narrow(struct tessi_c128 z)
{
    return (struct tessi_c64){(float)z.re, (float)z.im};
}
#include "worker/kernel/elementwise_type.h"
#undef R
#undef WIDEN
#undef NARROW
#define T struct tessi_c128
#define R double
#define NAME(x) x##_c128
#define SCALAR(op) tessi_scalar_##op##_c128
#define WIDEN(z) (z)
#define NARROW(z) (z)
#include "worker/kernel/elementwise_type.h"

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

/* An instruction, ready to run on strips. */
struct instruction {
    strip_fn *run;
    uint32_t arity;
    struct {
        uint32_t operand;
        enum tessi_dtype dtype;  /* that it is converted to, */
        enum tessi_dtype loaded; /* and what the loop reads: f32 for short floats that are computed */
    } in[TESSI_OPERANDS_MAX];
    enum tessi_dtype result;
    enum tessi_dtype stored; /* what the loop writes */
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
    struct instruction instruction[TESSI_PROGRAM_MAX];
    unsigned char *buffers; /* slots, then scratch, then one for each broadcast input */
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
        for (uint32_t o = 0; o < tessi_ewise_arity(code->op); o++) {
            uint32_t operand = tessi_instruction_operand(code, o);
            if (operand >= first_result) {
                last_use[operand - first_result] = i;
            }
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

/* What loops read and write for a type: f16 and bf16 are computed in f32. */
static enum tessi_dtype loop_dtype(enum tessi_dtype dtype)
{
    return dtype == TESSI_F16 || dtype == TESSI_BF16 ? TESSI_F32 : dtype;
}

static void instruction_init(struct instruction *instruction, const struct tessi_instruction *code)
{
    bool moves = tessi_ewise_computed(code->op, code->dtype) == TESSI_COMPUTED_MOVE;
    bool bits = moves && loop_dtype(code->dtype) != code->dtype; /* short floats that are not computed */
    instruction->run = strip_choose(bits ? TESSI_U16 : code->dtype);
    instruction->arity = tessi_ewise_arity(code->op);
    for (uint32_t o = 0; o < instruction->arity; o++) {
        enum tessi_dtype dtype = tessi_ewise_operand(code->op, o, code->dtype);
        instruction->in[o].operand = tessi_instruction_operand(code, o);
        instruction->in[o].dtype = dtype;
        instruction->in[o].loaded = moves ? dtype : loop_dtype(dtype);
    }
    instruction->result = tessi_instruction_result(code);
    instruction->stored = moves ? instruction->result : loop_dtype(instruction->result);
}

static enum tessi_status prepare(struct state *state, struct tessi_error *error)
{
    const struct tessi_layer *layer = state->step->layer;
    const struct tessi_program *program = state->program;
    views_init(state);
    collapse(state);
    slots_assign(state);
    for (uint32_t i = 0; i < program->count; i++) {
        instruction_init(&state->instruction[i], &program->code[i]);
    }
    size_t room = (state->slots + SCRATCH_SLOTS + layer->ninputs) * (size_t)SLOT_BYTES + program->nconstants * sizeof(struct tessi_c128);
    state->buffers = tessi_try_alloc(room + 64);
    if (state->buffers == NULL) {
        return tessi_fail(error, TESSI_NOMEM, "no memory for %zu bytes of elementwise strips", room);
    }
    unsigned char *aligned = state->buffers + (64 - (uintptr_t)state->buffers % 64);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        state->view[i].expanded = aligned + (state->slots + SCRATCH_SLOTS + i) * (size_t)SLOT_BYTES;
    }
    unsigned char *constants = aligned + (state->slots + SCRATCH_SLOTS + layer->ninputs) * (size_t)SLOT_BYTES;
    for (uint32_t i = 0; i < program->nconstants; i++) {
        const struct tessi_scalar *constant = &program->constants[i];
        tessi_convert_scalar(constant->dtype, constants + 16 * i, constant);
        state->operand[layer->ninputs + i] = (struct operand){constants + 16 * i, constant->dtype, true};
    }
    return TESSI_OK;
}

/* The operand in the dtype that the instruction takes it in, then in the one that the loop reads. */
static const void *operand_as(const struct operand *operand, enum tessi_dtype dtype, enum tessi_dtype loaded, size_t n,
                              unsigned char *scratch)
{
    size_t count = operand->scalar ? 1 : n;
    const void *data = operand->data;
    if (operand->dtype != dtype) {
        unsigned char *to = loaded == dtype ? scratch : scratch + SLOT_BYTES;
        tessi_convert(dtype, to, operand->dtype, data, count);
        data = to;
    }
    if (loaded != dtype) {
        tessi_convert(loaded, scratch, dtype, data, count);
        data = scratch;
    }
    return data;
}

/* Run an instruction on a strip: the operands' results are there already. */
static void instruction_run(struct state *state, uint32_t number, size_t n, unsigned char *scratch, void *result)
{
    const struct instruction *instruction = &state->instruction[number];
    const void *in[TESSI_OPERANDS_MAX];
    size_t stride[TESSI_OPERANDS_MAX];
    for (uint32_t o = 0; o < instruction->arity; o++) {
        const struct operand *operand = &state->operand[instruction->in[o].operand];
        bool again = o > 0 && instruction->in[o].operand == instruction->in[o - 1].operand &&
                     instruction->in[o].dtype == instruction->in[o - 1].dtype;
        in[o] = again ? in[o - 1]
                      : operand_as(operand, instruction->in[o].dtype, instruction->in[o].loaded, n,
                                   scratch + 2 * o * (size_t)SLOT_BYTES);
        stride[o] = operand->scalar ? 0 : 1;
    }
    void *out = instruction->stored == instruction->result ? result
                                                           : scratch + 2 * TESSI_OPERANDS_MAX * (size_t)SLOT_BYTES;
    instruction->run(state->program->code[number].op, n, in, stride, out);
    if (out != result) {
        tessi_convert(instruction->result, result, instruction->stored, out, n);
    }
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
        enum tessi_dtype dtype = state->instruction[i].result;
        void *result = i + 1 == program->count ? block : slots + state->slot[i] * (size_t)SLOT_BYTES;
        instruction_run(state, i, n, scratch, result);
        results[i] = (struct operand){result, dtype, false};
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
