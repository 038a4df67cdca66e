/* Blocks that come from nothing: constants, ranges, diagonals, random numbers with the processor's bits. */
#include "worker/device/cuda/internal.h"

#include <cstring>

#include "worker/device/cuda/element.h" /* before the processor's, which would take half.h for itself */

extern "C" {
#include "worker/kernel/convert.h"
}
#include "worker/kernel/random.h"

struct pattern { /* one element, 16 bytes at most */
    unsigned long long bits[2];
};

/* Which element of the whole array is element e of the block? */
struct place {
    unsigned int ndim;
    long long dim[TESSI_NDIM_MAX];   /* of the block */
    long long whole[TESSI_NDIM_MAX]; /* strides of the whole array, row-major */
    long long first;                 /* of the block's first element */
};

static place place_of(const tessi_cuda_step *step)
{
    struct tessi_shape whole;
    place p = {};
    int64_t stride = 1;
    tessi_grid_shape(&step->layer->grid, &whole);
    p.ndim = whole.ndim;
    for (uint32_t d = whole.ndim; d-- > 0;) {
        p.dim[d] = step->step.shape.dim[d];
        p.whole[d] = stride;
        p.first += step->step.lo[d] * stride;
        stride *= whole.dim[d];
    }
    return p;
}

static __device__ unsigned long long place_index(const place &p, long long e)
{
    long long index = p.first;
    for (unsigned int d = p.ndim; d-- > 0;) {
        long long next = e / p.dim[d];
        index += (e - next * p.dim[d]) * p.whole[d];
        e = next;
    }
    return (unsigned long long)index;
}

#define EACH(e, count)                                                                                   \
    for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x, step_ = (long long)gridDim.x * blockDim.x; \
         e < (count); e += step_)

template <typename T>
static __global__ void fill(T *out, long long count, pattern value)
{
    T x;
    memcpy(&x, &value, sizeof x);
    EACH (e, count) {
        out[e] = x;
    }
}

/* start + position · stride in the widest type of the kind. */
template <typename T>
static __global__ void range(T *out, long long count, long long first, int kind, pattern start, pattern stride)
{
    double start_f[2];
    double stride_f[2];
    memcpy(start_f, &start, sizeof start_f);
    memcpy(stride_f, &stride, sizeof stride_f);
    EACH (e, count) {
        double position = (double)(first + e);
        tessi_value v;
        v.kind = kind;
        v.i = start.bits[0] + (unsigned long long)(first + e) * stride.bits[0];
        v.re = start_f[0] + position * stride_f[0];
        v.im = start_f[1] + position * stride_f[1];
        out[e] = tessi_cast(tessi_tag<T>(), v);
    }
}

template <typename T>
static __global__ void diagonal(T *out, long long rows, long long columns, long long offset, pattern one)
{
    T x;
    memcpy(&x, &one, sizeof x);
    EACH (i, rows) {
        if (i + offset >= 0 && i + offset < columns) {
            out[i * columns + i + offset] = x;
        }
    }
}

template <template <typename> class F, typename... A>
static cudaError_t by_size(size_t size, A... arguments)
{
    switch (size) {
    case 1:
        return F<unsigned char>::run(arguments...);
    case 2:
        return F<unsigned short>::run(arguments...);
    case 4:
        return F<unsigned int>::run(arguments...);
    case 8:
        return F<unsigned long long>::run(arguments...);
    default:
        return F<pattern>::run(arguments...);
    }
}

template <typename T>
struct run_fill {
    static cudaError_t run(const tessi_cuda_step *step, pattern value)
    {
        int64_t count = step->step.elements;
        return tessi_cuda_run(step->stream->stream, tessi_cuda_blocks(count, 1024), TESSI_CUDA_THREADS, fill<T>,
                              (T *)step->call->out, count, value);
    }
};
template <typename T>
struct run_diagonal {
    static cudaError_t run(const tessi_cuda_step *step, long long offset, pattern one)
    {
        int64_t rows = step->step.shape.dim[0];
        return tessi_cuda_run(step->stream->stream, tessi_cuda_blocks(rows, TESSI_CUDA_THREADS), TESSI_CUDA_THREADS,
                              diagonal<T>, (T *)step->call->out, rows, step->step.shape.dim[1], offset, one);
    }
};

static cudaError_t run_range(const tessi_cuda_step *step)
{
    enum tessi_kind of = tessi_dtype_kind(step->layer->dtype);
    enum tessi_dtype wide = of == TESSI_KIND_COMPLEX  ? TESSI_C128
                            : of == TESSI_KIND_FLOAT  ? TESSI_F64
                            : of == TESSI_KIND_SIGNED ? TESSI_I64
                                                      : TESSI_U64;
    int kind = of == TESSI_KIND_COMPLEX  ? TESSI_VALUE_COMPLEX
               : of == TESSI_KIND_FLOAT  ? TESSI_VALUE_FLOAT
               : of == TESSI_KIND_SIGNED ? TESSI_VALUE_SIGNED
                                         : TESSI_VALUE_UNSIGNED;
    pattern start = {};
    pattern stride = {};
    int64_t count = step->step.elements;
    unsigned blocks = tessi_cuda_blocks(count, 1024);
    cudaStream_t stream = step->stream->stream;
    tessi_convert_scalar(wide, &start, &step->layer->as.arange.start);
    tessi_convert_scalar(wide, &stride, &step->layer->as.arange.step);
    switch (step->layer->dtype) {
#define ROW(code, T)                                                                                                   \
    case code:                                                                                                         \
        return tessi_cuda_run(stream, blocks, TESSI_CUDA_THREADS, range<T>, (T *)step->call->out, count, step->step.lo[0], \
                              kind, start, stride);
        ROW(TESSI_BOOL, tessi_bool)
        ROW(TESSI_I8, signed char)
        ROW(TESSI_I16, short)
        ROW(TESSI_I32, int)
        ROW(TESSI_I64, long long)
        ROW(TESSI_U8, unsigned char)
        ROW(TESSI_U16, unsigned short)
        ROW(TESSI_U32, unsigned int)
        ROW(TESSI_U64, unsigned long long)
        ROW(TESSI_F16, tessi_f16)
        ROW(TESSI_BF16, tessi_bf16)
        ROW(TESSI_F32, float)
        ROW(TESSI_F64, double)
        ROW(TESSI_C64, tessi_complex32)
        ROW(TESSI_C128, tessi_complex64)
#undef ROW
    }
    return cudaErrorNotSupported;
}

cudaError_t tessi_cuda_generate(tessi_cuda_step *step)
{
    const struct tessi_layer *layer = step->layer;
    size_t size = tessi_dtype_size(layer->dtype);
    pattern value = {};
    if (layer->op == TESSI_OP_FULL) {
        tessi_convert_scalar(layer->dtype, &value, &layer->as.full);
        return by_size<run_fill>(size, (const tessi_cuda_step *)step, value);
    }
    if (layer->op == TESSI_OP_ARANGE) {
        return run_range(step);
    }
    struct tessi_scalar one = {};
    one.dtype = TESSI_I64;
    one.as.i = 1;
    tessi_convert_scalar(layer->dtype, &value, &one);
    TESSI_CUDA_TRY(cudaMemsetAsync(step->call->out, 0, (size_t)step->step.elements * size, step->stream->stream));
    int64_t offset;
    if (__builtin_add_overflow(step->step.lo[0] - step->step.lo[1], layer->as.eye.diagonal, &offset)) {
        return cudaSuccess;
    }
    return by_size<run_diagonal>(size, (const tessi_cuda_step *)step, (long long)offset, value);
}

/* ——— random numbers ——— */

/* Philox 4×32-10, as core/base/philox.c: the 128 bits of element `index`, in two halves. */
static __device__ void philox(unsigned int key0, unsigned int key1, unsigned long long index, unsigned int stream,
                              unsigned long long *low, unsigned long long *high)
{
    unsigned int c0 = (unsigned int)index;
    unsigned int c1 = (unsigned int)(index >> 32);
    unsigned int c2 = stream;
    unsigned int c3 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned long long p = (unsigned long long)c0 * 0xd2511f53u;
        unsigned long long q = (unsigned long long)c2 * 0xcd9e8d57u;
        c0 = (unsigned int)(q >> 32) ^ c1 ^ key0;
        c1 = (unsigned int)q;
        c2 = (unsigned int)(p >> 32) ^ c3 ^ key1;
        c3 = (unsigned int)p;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
    *low = (unsigned long long)c1 << 32 | c0;
    *high = (unsigned long long)c3 << 32 | c2;
}

struct draw {
    unsigned int key0, key1;
    bool uniform;
    double a, b, last;
};

template <typename T>
static __device__ T draw_uniform(const draw &d, unsigned long long bits, tessi_tag<T>)
{
    float x = (float)d.a + (float)d.b * ((float)(int)((unsigned int)bits >> 8) * 5.9604644775390625e-08f);
    return tessi_as<T, float>(x > (float)d.last ? (float)d.last : x);
}
static __device__ double draw_uniform(const draw &d, unsigned long long bits, tessi_tag<double>)
{
    double x = d.a + d.b * tessi_random_unit(bits);
    return x > d.last ? d.last : x;
}

template <typename T>
static __global__ void random_numbers(T *out, long long count, place p, draw d)
{
    EACH (e, count) {
        unsigned long long low;
        unsigned long long high;
        philox(d.key0, d.key1, place_index(p, e), d.uniform ? TESSI_STREAM_UNIFORM : TESSI_STREAM_NORMAL, &low, &high);
        out[e] = d.uniform ? draw_uniform(d, low, tessi_tag<T>())
                           : tessi_as<T, double>(d.a + d.b * tessi_random_normal(low, high));
    }
}

template <typename T>
static cudaError_t run_random(const tessi_cuda_step *step, const place &p, const draw &d)
{
    int64_t count = step->step.elements;
    return tessi_cuda_run(step->stream->stream, tessi_cuda_blocks(count, 1024), TESSI_CUDA_THREADS, random_numbers<T>,
                          (T *)step->call->out, count, p, d);
}

cudaError_t tessi_cuda_random(tessi_cuda_step *step)
{
    const struct tessi_layer *layer = step->layer;
    struct tessi_random_range range_of;
    draw d = {};
    place p = place_of(step);
    tessi_random_range_of(layer, &range_of);
    d.key0 = (unsigned int)layer->as.random.seed;
    d.key1 = (unsigned int)(layer->as.random.seed >> 32);
    d.uniform = layer->op == TESSI_OP_UNIFORM;
    d.a = range_of.a;
    d.b = range_of.b;
    d.last = range_of.last;
    return layer->dtype == TESSI_F64   ? run_random<double>(step, p, d)
           : layer->dtype == TESSI_F32 ? run_random<float>(step, p, d)
           : layer->dtype == TESSI_F16 ? run_random<tessi_f16>(step, p, d)
                                       : run_random<tessi_bf16>(step, p, d);
}
