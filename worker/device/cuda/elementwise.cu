/* Elementwise programs: arguments, the compiled kernel where there is one, else the interpreter. */
#include "worker/device/cuda/internal.h"

#include <cstring>

#include "worker/device/cuda/element.h" /* before the processor's, which would take half.h for itself */

extern "C" {
#include "worker/kernel/convert.h"
}

static_assert(TESSI_PROGRAM_INPUTS == TESSI_INPUTS_MAX && TESSI_PROGRAM_CONSTANTS == TESSI_CONSTANTS_MAX &&
                  TESSI_PROGRAM_NDIM == TESSI_NDIM_MAX,
              "kernels take what programs have");

/* ——— the interpreter ——— */

struct interpreter_code {
    unsigned int ninputs, nconstants, count;
    unsigned char dtype[TESSI_INPUTS_MAX + TESSI_CONSTANTS_MAX];
    struct {
        unsigned char op, dtype, result, operand[TESSI_OPERANDS_MAX];
    } code[TESSI_PROGRAM_MAX];
};

#define FOR_TYPES(ROW)                            \
    ROW(TESSI_BOOL, tessi_bool, truth)            \
    ROW(TESSI_I8, signed char, integer)           \
    ROW(TESSI_I16, short, integer)                \
    ROW(TESSI_I32, int, integer)                  \
    ROW(TESSI_I64, long long, integer)            \
    ROW(TESSI_U8, unsigned char, integer)         \
    ROW(TESSI_U16, unsigned short, integer)       \
    ROW(TESSI_U32, unsigned int, integer)         \
    ROW(TESSI_U64, unsigned long long, integer)   \
    ROW(TESSI_F16, tessi_f16, floating)           \
    ROW(TESSI_BF16, tessi_bf16, floating)         \
    ROW(TESSI_F32, float, floating)               \
    ROW(TESSI_F64, double, floating)              \
    ROW(TESSI_C64, tessi_complex32, complex)       \
    ROW(TESSI_C128, tessi_complex64, complex)

static __device__ tessi_value load_value(unsigned char dtype, const void *data, long long at)
{
    switch (dtype) {
#define ROW(code, T, CLASS) \
    case code:            \
        return tessi_value_of(static_cast<const T *>(data)[at]);
        FOR_TYPES(ROW)
#undef ROW
    }
    return tessi_value_of(0.0);
}

static __device__ void store_value(unsigned char dtype, void *data, long long at, const tessi_value &value)
{
    switch (dtype) {
#define ROW(code, T, CLASS)                                               \
    case code:                                                          \
        static_cast<T *>(data)[at] = tessi_cast(tessi_tag<T>(), value); \
        return;
        FOR_TYPES(ROW)
#undef ROW
    }
}

/* The operations of a type, by its column in the rows. A type's program has no others. */
#define OPERAND(T, number) tessi_cast(tessi_tag<T>(), v[number])
#define OPERANDS_X OPERAND(T, 0)
#define OPERANDS_XX OPERAND(T, 0), OPERAND(T, 1)
#define OPERANDS_CXX OPERAND(tessi_bool, 0), OPERAND(T, 1), OPERAND(T, 2)
#define CASE_NO(NAME, op, operands)
#define CASE_F64 CASE_NO
#define CASE_TRUTH CASE_NO
#define CASE_OWN(NAME, op, operands) \
    case TESSI_EWISE_##NAME:         \
        return tessi_value_of(tessi_scalar_##op(OPERANDS_##operands));
#define CASE_MOVE CASE_OWN
#define CASE_WIDE CASE_OWN
#define COMPUTE(class, ROWS)                                                        \
    template <typename T>                                                           \
    static __device__ tessi_value compute_##class(unsigned char op, const tessi_value *v) \
    {                                                                               \
        switch (op) {                                                               \
            TESSI_EWISE_TABLE(ROWS)                                                 \
        }                                                                           \
        return v[0];                                                                \
    }
#define ROW(NAME, op, code, operands, bool_, integer, float_, complex, ...) CASE_##bool_(NAME, op, operands)
COMPUTE(truth, ROW)
#undef ROW
#define ROW(NAME, op, code, operands, bool_, integer, float_, complex, ...) CASE_##integer(NAME, op, operands)
COMPUTE(integer, ROW)
#undef ROW
#define ROW(NAME, op, code, operands, bool_, integer, float_, complex, ...) CASE_##float_(NAME, op, operands)
COMPUTE(floating, ROW)
#undef ROW
/* Complex functions are the processor's only: tessi_cuda_elementwise_supports. */
#undef CASE_WIDE
#define CASE_WIDE CASE_NO
#define ROW(NAME, op, code, operands, bool_, integer, float_, complex, ...) CASE_##complex(NAME, op, operands)
COMPUTE(complex, ROW)
#undef ROW

static __device__ tessi_value run_instruction(unsigned char op, unsigned char dtype, const tessi_value *v)
{
    switch (dtype) {
#define ROW(code, T, CLASS) \
    case code:              \
        return compute_##CLASS<T>(op, v);
        FOR_TYPES(ROW)
#undef ROW
    }
    return v[0];
}

static __global__ void interpret(const tessi_program_arguments a, const interpreter_code code)
{
    tessi_value values[TESSI_INPUTS_MAX + TESSI_CONSTANTS_MAX + TESSI_PROGRAM_MAX];
    unsigned int results = code.ninputs + code.nconstants;
    for (unsigned int i = 0; i < code.nconstants; i++) {
        values[code.ninputs + i] = load_value(code.dtype[code.ninputs + i], a.constants[i], 0);
    }
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < a.count; e += step) {
        long long at[TESSI_PROGRAM_INPUTS];
        tessi_program_offsets(a, e, at);
        for (unsigned int i = 0; i < code.ninputs; i++) {
            values[i] = load_value(code.dtype[i], a.in[i], at[i]);
        }
        for (unsigned int k = 0; k < code.count; k++) {
            tessi_value operands[TESSI_OPERANDS_MAX];
            for (int o = 0; o < TESSI_OPERANDS_MAX; o++) {
                operands[o] = values[code.code[k].operand[o]];
            }
            values[results + k] = run_instruction(code.code[k].op, code.code[k].dtype, operands);
        }
        store_value(code.code[code.count - 1].result, a.out, e, values[results + code.count - 1]);
    }
}

/* ——— arguments ——— */

/* Strides of the inputs along the block's dimensions, neighbours joined where every input steps through them evenly. */
static void arguments_init(tessi_program_arguments *a, const tessi_cuda_step *step)
{
    const struct tessi_layer *layer = step->layer;
    const struct tessi_shape *shape = &step->step.shape;
    int64_t strides[TESSI_INPUTS_MAX][TESSI_NDIM_MAX] = {};
    *a = {};
    a->out = step->call->out;
    a->count = step->step.elements;
    for (uint32_t r = 0; r < step->step.step.count; r++) {
        const struct tessi_block_ref *ref = &step->step.step.ref[r];
        const struct tessi_input *input = &layer->input[ref->input];
        struct tessi_shape own;
        int64_t stride = 1;
        tessi_grid_block_shape(&input->grid, ref->index, &own);
        a->in[ref->input] = step->call->in[r];
        for (uint32_t d = own.ndim; d-- > 0;) {
            if (own.dim[d] != 1 && input->rules.rule[d].kind == TESSI_RULE_SAME) {
                strides[ref->input][input->rules.rule[d].dim] = stride;
            }
            stride *= own.dim[d];
        }
    }
    uint32_t n = 0;
    for (uint32_t d = 0; d < shape->ndim; d++) {
        if (shape->dim[d] == 1) {
            continue;
        }
        bool merges = n > 0;
        for (uint32_t i = 0; i < layer->ninputs && merges; i++) {
            merges = a->stride[i][n - 1] == strides[i][d] * shape->dim[d];
        }
        n += merges ? 0 : 1;
        a->dim[n - 1] = merges ? a->dim[n - 1] * shape->dim[d] : shape->dim[d];
        for (uint32_t i = 0; i < layer->ninputs; i++) {
            a->stride[i][n - 1] = strides[i][d];
        }
    }
    if (n == 0) {
        a->dim[n++] = 1;
    }
    a->ndim = n;
    for (uint32_t i = 0; i < layer->as.program.nconstants; i++) {
        const struct tessi_scalar *constant = &layer->as.program.constants[i];
        tessi_convert_scalar(constant->dtype, a->constants[i], constant);
    }
}

bool tessi_cuda_elementwise_supports(const struct tessi_layer *layer)
{
    for (uint32_t k = 0; k < layer->as.program.count; k++) {
        const struct tessi_instruction *code = &layer->as.program.code[k];
        if (tessi_dtype_kind(code->dtype) == TESSI_KIND_COMPLEX &&
            tessi_ewise_computed(code->op, code->dtype) == TESSI_COMPUTED_WIDE) {
            return false;
        }
    }
    return true;
}

cudaError_t tessi_cuda_elementwise(tessi_cuda_step *step)
{
    const struct tessi_program *program = &step->layer->as.program;
    tessi_program_arguments arguments;
    tessi_cuda_source source = {};
    arguments_init(&arguments, step);
    source.ninputs = step->layer->ninputs;
    source.nconstants = program->nconstants;
    source.count = program->count;
    source.code = program->code;
    source.flat = arguments.ndim == 1;
    for (uint32_t i = 0; i < source.ninputs; i++) {
        source.flat = source.flat && (arguments.stride[i][0] == 0 || arguments.stride[i][0] == 1);
    }
    for (uint32_t i = 0; i < source.ninputs; i++) {
        source.dtype[i] = step->layer->input[i].dtype;
    }
    for (uint32_t i = 0; i < source.nconstants; i++) {
        source.dtype[source.ninputs + i] = program->constants[i].dtype;
    }
    /* Enough blocks to fill the device some times over; each thread then walks. */
    unsigned most = (unsigned)step->stream->device->properties.multiProcessorCount * 64;
    unsigned blocks = tessi_cuda_blocks(arguments.count, TESSI_CUDA_THREADS * 4);
    blocks = blocks < most ? blocks : most;
    cudaKernel_t compiled = tessi_cuda_program(step->stream->device, &source);
    if (compiled != nullptr) {
        void *parameters[] = {&arguments};
        (void)cudaGetLastError();
        return tessi_cuda_persist([&] {
            return cudaLaunchKernel((const void *)compiled, blocks, TESSI_CUDA_THREADS, parameters, 0, step->stream->stream);
        });
    }
    interpreter_code code = {};
    code.ninputs = source.ninputs;
    code.nconstants = source.nconstants;
    code.count = source.count;
    for (uint32_t i = 0; i < source.ninputs + source.nconstants; i++) {
        code.dtype[i] = (unsigned char)source.dtype[i];
    }
    for (uint32_t k = 0; k < source.count; k++) {
        const struct tessi_instruction *from = &program->code[k];
        code.code[k].op = (unsigned char)from->op;
        code.code[k].dtype = (unsigned char)from->dtype;
        code.code[k].result = (unsigned char)tessi_instruction_result(from);
        for (uint32_t o = 0; o < tessi_ewise_arity(from->op); o++) {
            code.code[k].operand[o] = (unsigned char)tessi_instruction_operand(from, o);
        }
    }
    return tessi_cuda_run(step->stream->stream, blocks, TESSI_CUDA_THREADS, interpret, arguments, code);
}
