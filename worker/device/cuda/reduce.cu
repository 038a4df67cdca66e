/* Folds of one block, in the order of worker/kernel/reduce.c, so that sums have the processor's bits.
 *
 * A dense run: each warp folds a leaf, one lane for each of the processor's running folds, and a thread joins the leaves
 * of an output in halves. Along another axis: a thread for each output, rows in groups and the groups in halves. What
 * folds axes on both sides of a kept one, and states that are records, stay with the processors. */
#include "worker/device/cuda/internal.h"

#include "worker/device/cuda/element.h"

#define TESSI_MONOID static __device__ __forceinline__

#define LANES TESSI_FOLD_LANES
#define LEAF TESSI_FOLD_LEAF
#define LEAF_ROWS TESSI_FOLD_LEAF_ROWS
#define STACK_MAX 64 /* halvings of a 63-bit count */

static_assert(LANES == 32, "a warp has as many lanes as the processor's running folds");

struct geometry {
    int fold;
    bool first;          /* the block sets the output, else joins it */
    long long outputs;
    long long run;       /* dense run; 0: rows */
    long long rows, row_stride;
    unsigned int nkept;
    long long kept[TESSI_NDIM_MAX], stride[TESSI_NDIM_MAX];
};

static __device__ long long output_offset(const geometry &g, long long at)
{
    long long offset = 0;
    for (unsigned int d = g.nkept; d-- > 0;) {
        long long next = at / g.kept[d];
        offset += (at - next * g.kept[d]) * g.stride[d];
        at = next;
    }
    return offset;
}

/* The bodies of the table, x joins y, for each type that is computed in. */
#define WHOLE
#define T signed char
#define W unsigned int
#define NAME(f) f##_i8
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T short
#define W unsigned int
#define NAME(f) f##_i16
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T int
#define W unsigned int
#define NAME(f) f##_i32
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T long long
#define W unsigned long long
#define NAME(f) f##_i64
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T unsigned char
#define W unsigned int
#define NAME(f) f##_u8
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T unsigned short
#define W unsigned int
#define NAME(f) f##_u16
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T unsigned int
#define W unsigned int
#define NAME(f) f##_u32
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define WHOLE
#define T unsigned long long
#define W unsigned long long
#define NAME(f) f##_u64
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define FLOATING
#define T float
#define NAME(f) f##_f32
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define FLOATING
#define T double
#define NAME(f) f##_f64
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"
#define TRUTH
#define T unsigned char
#define NAME(f) f##_bool
#include "worker/kernel/monoid_number.h"
#include "worker/kernel/monoid_end.h"

#define PICK(T, suffix)                                                                \
    static __device__ T pick(int fold, T x, T y)                                       \
    {                                                                                  \
        return tessi_join_##suffix(fold, x, y);                                        \
    }
PICK(signed char, i8)
PICK(short, i16)
PICK(int, i32)
PICK(long long, i64)
PICK(unsigned char, u8)
PICK(unsigned short, u16)
PICK(unsigned int, u32)
PICK(unsigned long long, u64)
PICK(float, f32)
PICK(double, f64)
#undef PICK
static __device__ tessi_bool pick(int fold, tessi_bool x, tessi_bool y)
{
    x.bits = tessi_join_bool(fold, x.bits, y.bits);
    return x;
}

template <typename T>
static __device__ T from_lane(T x, int lane)
{
    return __shfl_sync(0xffffffffu, x, lane);
}
static __device__ tessi_bool from_lane(tessi_bool x, int lane)
{
    x.bits = (unsigned char)__shfl_sync(0xffffffffu, (int)x.bits, lane);
    return x;
}

/* Split as the processor does: `left` of a count above the leaf. */
static __device__ long long left_of(long long count, long long leaf)
{
    return (count / 2 + leaf - 1) / leaf * leaf;
}

/* Where a leaf begins, given its number. All leaves but the last of each half are whole, so they lie side by side. */
template <typename C, typename I>
static __global__ void fold_leaves(const I *in, C *leaves, long long leaves_each, geometry g)
{
    long long warp = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    int lane = (int)threadIdx.x % LANES;
    long long warps = (long long)gridDim.x * blockDim.x / LANES;
    for (long long l = warp; l < g.outputs * leaves_each; l += warps) {
        long long at = l / leaves_each;
        long long begin = (l - at * leaves_each) * LEAF;
        const I *data = in + output_offset(g, at) + begin;
        int n = (int)(g.run - begin < LEAF ? g.run - begin : LEAF);
        int whole = n / LANES * LANES;
        C mine;
        if (whole == 0) {
            mine = tessi_as<C, I>(data[0]);
            for (int i = 1; i < n; i++) {
                mine = pick(g.fold, tessi_as<C, I>(data[i]), mine);
            }
        } else {
            mine = tessi_as<C, I>(data[lane]);
            for (int i = LANES; i < whole; i += LANES) {
                mine = pick(g.fold, tessi_as<C, I>(data[i + lane]), mine);
            }
            for (int half = LANES / 2; half >= 1; half /= 2) {
                C other = from_lane(mine, (lane + half) % LANES);
                mine = pick(g.fold, other, mine); /* lanes below `half` hold what counts */
            }
            mine = from_lane(mine, 0);
            for (int i = whole; i < n; i++) {
                mine = pick(g.fold, tessi_as<C, I>(data[i]), mine);
            }
        }
        if (lane == 0) {
            leaves[l] = mine;
        }
    }
}

template <typename O, typename C>
static __device__ void put(O *out, long long at, C value, const geometry &g)
{
    out[at] = g.first ? tessi_as<O, C>(value) : tessi_as<O, C>(pick(g.fold, value, tessi_as<C, O>(out[at])));
}

/* A fold in halves over `count` items of `leaf` each, without recursion: a stack of spans whose left part is done. */
template <typename C, typename F>
static __device__ C fold_halves(int fold, long long count, long long leaf, F leaf_value)
{
    struct {
        long long begin, count;
    } right[STACK_MAX];
    C left[STACK_MAX];
    bool has_left[STACK_MAX];
    int depth = 0;
    long long begin = 0;
    for (;;) {
        while (count > leaf) { /* down the left side */
            long long half = left_of(count, leaf);
            right[depth].begin = begin + half;
            right[depth].count = count - half;
            has_left[depth++] = false;
            count = half;
        }
        C value = leaf_value(begin, count);
        while (depth > 0 && has_left[depth - 1]) {
            value = pick(fold, value, left[--depth]);
        }
        if (depth == 0) {
            return value;
        }
        left[depth - 1] = value;
        has_left[depth - 1] = true;
        begin = right[depth - 1].begin;
        count = right[depth - 1].count;
    }
}

template <typename C, typename O>
static __global__ void join_leaves(const C *leaves, long long leaves_each, O *out, geometry g)
{
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < g.outputs; at += step) {
        const C *mine = leaves + at * leaves_each;
        C value = fold_halves<C>(g.fold, g.run, LEAF, [mine](long long begin, long long) { return mine[begin / LEAF]; });
        put(out, at, value, g);
    }
}

template <typename C, typename I, typename O>
static __global__ void fold_rows(const I *in, O *out, geometry g)
{
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < g.outputs; at += step) {
        const I *data = in + output_offset(g, at);
        long long stride = g.row_stride;
        int fold = g.fold;
        C value = fold_halves<C>(fold, g.rows, LEAF_ROWS, [data, stride, fold](long long begin, long long count) {
            C sum = tessi_as<C, I>(data[begin * stride]);
            for (long long i = 1; i < count; i++) {
                sum = pick(fold, tessi_as<C, I>(data[(begin + i) * stride]), sum);
            }
            return sum;
        });
        put(out, at, value, g);
    }
}

/* C: what is computed in; I, O: the input's and the output's type. */
template <typename C, typename I, typename O>
static cudaError_t run(tessi_cuda_step *step, const geometry &g)
{
    cudaStream_t stream = step->stream->stream;
    const I *in = (const I *)step->call->in[0];
    O *out = (O *)step->call->out;
    unsigned blocks = tessi_cuda_blocks(g.outputs, TESSI_CUDA_THREADS);
    if (g.run == 0) {
        return tessi_cuda_run(stream, blocks, TESSI_CUDA_THREADS, fold_rows<C, I, O>, in, out, g);
    }
    long long leaves_each = (g.run + LEAF - 1) / LEAF;
    void *leaves = nullptr;
    TESSI_CUDA_TRY(tessi_cuda_scratch(step->stream, (size_t)(g.outputs * leaves_each) * sizeof(C), &leaves));
    unsigned warps = tessi_cuda_blocks(g.outputs * leaves_each, TESSI_CUDA_THREADS / LANES);
    cudaError_t code = tessi_cuda_run(stream, warps, TESSI_CUDA_THREADS, fold_leaves<C, I>, in, (C *)leaves, leaves_each, g);
    code = code != cudaSuccess ? code
                               : tessi_cuda_run(stream, blocks, TESSI_CUDA_THREADS, join_leaves<C, O>, (const C *)leaves,
                                                leaves_each, out, g);
    tessi_cuda_scratch_free(step->stream, leaves);
    return code;
}

static cudaError_t run_same(tessi_cuda_step *step, const geometry &g)
{
    switch (step->layer->dtype) {
#define ROW(code, T, C) \
    case code:          \
        return run<C, T, T>(step, g);
        ROW(TESSI_BOOL, tessi_bool, tessi_bool)
        ROW(TESSI_I8, signed char, signed char)
        ROW(TESSI_I16, short, short)
        ROW(TESSI_I32, int, int)
        ROW(TESSI_I64, long long, long long)
        ROW(TESSI_U8, unsigned char, unsigned char)
        ROW(TESSI_U16, unsigned short, unsigned short)
        ROW(TESSI_U32, unsigned int, unsigned int)
        ROW(TESSI_U64, unsigned long long, unsigned long long)
        ROW(TESSI_F16, tessi_f16, float)
        ROW(TESSI_BF16, tessi_bf16, float)
        ROW(TESSI_F32, float, float)
        ROW(TESSI_F64, double, double)
#undef ROW
    case TESSI_C64:
    case TESSI_C128:
        break;
    }
    return cudaErrorNotSupported;
}

/* Sums widen: bool and integers in 64 bits or, for a mean, f64; f16 and bf16 in f32. FROM, TO, their types. */
#define FOR_WIDENING(ROW)                                                  \
    ROW(TESSI_BOOL, TESSI_I64, tessi_bool, long long)                      \
    ROW(TESSI_I8, TESSI_I64, signed char, long long)                       \
    ROW(TESSI_I16, TESSI_I64, short, long long)                            \
    ROW(TESSI_I32, TESSI_I64, int, long long)                              \
    ROW(TESSI_U8, TESSI_U64, unsigned char, unsigned long long)            \
    ROW(TESSI_U16, TESSI_U64, unsigned short, unsigned long long)          \
    ROW(TESSI_U32, TESSI_U64, unsigned int, unsigned long long)            \
    ROW(TESSI_F16, TESSI_F32, tessi_f16, float)                            \
    ROW(TESSI_BF16, TESSI_F32, tessi_bf16, float)                          \
    ROW(TESSI_F32, TESSI_F64, float, double)                               \
    ROW(TESSI_I32, TESSI_F64, int, double)                                 \
    ROW(TESSI_I64, TESSI_F64, long long, double)

static cudaError_t run_any(tessi_cuda_step *step, const geometry &g)
{
    enum tessi_dtype from = step->layer->input[0].dtype;
    enum tessi_dtype to = step->layer->dtype;
    if (from == to) {
        return run_same(step, g);
    }
#define ROW(FROM, TO, I, O)           \
    if (from == FROM && to == TO) {   \
        return run<O, I, O>(step, g); \
    }
    FOR_WIDENING(ROW)
#undef ROW
    return cudaErrorNotSupported;
}

static bool widens(enum tessi_dtype from, enum tessi_dtype to)
{
#define ROW(FROM, TO, I, O) (from == FROM && to == TO) ||
    return FOR_WIDENING(ROW) false;
#undef ROW
}

bool tessi_cuda_reduce_supports(const struct tessi_layer *layer)
{
    enum tessi_dtype to = layer->dtype;
    enum tessi_dtype from = layer->input[0].dtype;
    uint32_t axes = layer->as.reduce.axes;
    bool one_axis = axes != 0 && (axes & (axes - 1)) == 0;
    bool types = from == to || widens(from, to);
    bool numbers = tessi_fold_row(layer->as.reduce.fold)->state != TESSI_STATE_RECORD;
    bool real = tessi_dtype_kind(to) != TESSI_KIND_COMPLEX && tessi_dtype_kind(from) != TESSI_KIND_COMPLEX;
    return numbers && real && types && tessi_input_bytes(&layer->input[0]) > 0 && (layer->input[0].grid.ndim <= 2 || one_axis);
}

cudaError_t tessi_cuda_reduce(tessi_cuda_step *step)
{
    struct tessi_shape in;
    struct tessi_fold_levels levels;
    tessi_grid_block_shape(&step->layer->input[0].grid, step->step.step.ref[0].index, &in);
    tessi_reduce_levels(&levels, step->layer, &in);
    if (levels.nfolded > 1 || (levels.nfolded == 1 && levels.run > 0)) {
        step->text = "a fold on both sides of a kept axis";
        return cudaErrorNotSupported;
    }
    geometry g = {};
    g.fold = (int)step->layer->as.reduce.fold;
    g.first = step->call->step == 0;
    g.outputs = step->step.elements;
    g.run = levels.run;
    g.rows = levels.nfolded == 1 ? levels.folded[0].count : 1;
    g.row_stride = levels.nfolded == 1 ? levels.folded[0].stride : 0;
    g.nkept = levels.nkept;
    for (uint32_t d = 0; d < levels.nkept; d++) {
        g.kept[d] = levels.kept[d].count;
        g.stride[d] = levels.kept[d].stride;
    }
    return run_any(step, g);
}
