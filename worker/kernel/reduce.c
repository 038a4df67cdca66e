/* Reductions: fold axes of a block, then fold the blocks of a group in step order.
 *
 * The order of the additions follows from the block's shape alone. A dense run is folded by
 * leaves of LEAF components with LANES running folds, and the leaves in halves; along other
 * axes LEAF_ROWS rows are folded one after the other, and these groups in halves. So the error
 * of a sum grows with the logarithm of its length. */
#include "worker/kernel/simd.h"

#include "worker/kernel/geometry.h"
#include "worker/kernel/operations.h"

#include <math.h>
#include <string.h>

#include "core/base/assert.h"
#include "worker/kernel/convert.h"

#define LANES TESSI_FOLD_LANES
#define LEAF TESSI_FOLD_LEAF
#define LEAF_ROWS TESSI_FOLD_LEAF_ROWS
#define TILE 1024 /* components of the output that are folded at a time */

#define ROW_PARAMETERS enum tessi_fold fold, const void *in, size_t n, size_t width, void *out
#define JOIN_PARAMETERS enum tessi_fold fold, void *acc, const void *in, size_t n
typedef void row_fn(ROW_PARAMETERS);
typedef void join_fn(JOIN_PARAMETERS);

#define SUM(x, y) ((x) + (y))
#define LESS(x, y) ((x) < (y))
#define MORE(x, y) ((x) > (y))
#define T int8_t
#define NAME(x) x##_i8
#include "worker/kernel/reduce_type.h"
#define T int16_t
#define NAME(x) x##_i16
#include "worker/kernel/reduce_type.h"
#define T uint8_t
#define NAME(x) x##_u8
#include "worker/kernel/reduce_type.h"
#define T uint16_t
#define NAME(x) x##_u16
#include "worker/kernel/reduce_type.h"
#define T uint32_t
#define NAME(x) x##_u32
#include "worker/kernel/reduce_type.h"
#define T uint64_t
#define NAME(x) x##_u64
#include "worker/kernel/reduce_type.h"
#undef SUM
#define SUM(x, y) ((uint32_t)(x) + (uint32_t)(y)) /* wraps, as the others */
#define T int32_t
#define NAME(x) x##_i32
#include "worker/kernel/reduce_type.h"
#undef SUM
#define SUM(x, y) ((uint64_t)(x) + (uint64_t)(y))
#define T int64_t
#define NAME(x) x##_i64
#include "worker/kernel/reduce_type.h"
#undef SUM
#undef LESS
#undef MORE

/* A NaN wins, and stays: NumPy's minimum and maximum. */
#define SUM(x, y) ((x) + (y))
#define LESS(x, y) ((x) < (y) || (x) != (x))
#define MORE(x, y) ((x) > (y) || (x) != (x))
#define T float
#define NAME(x) x##_f32
#include "worker/kernel/reduce_type.h"
#define T double
#define NAME(x) x##_f64
#include "worker/kernel/reduce_type.h"
#undef SUM
#undef LESS
#undef MORE

/* Truth values: a sum is "or", as the elementwise one. */
#define SUM(x, y) ((x) | (y))
#define LESS(x, y) ((x) < (y))
#define MORE(x, y) ((x) > (y))
#define T uint8_t
#define NAME(x) x##_bool
#include "worker/kernel/reduce_type.h"

struct loops {
    row_fn *row;
    join_fn *join;
};

static struct loops loops_choose(enum tessi_dtype compute)
{
    switch (compute) {
    case TESSI_BOOL:
        return (struct loops){row_bool, join_bool};
    case TESSI_I8:
        return (struct loops){row_i8, join_i8};
    case TESSI_I16:
        return (struct loops){row_i16, join_i16};
    case TESSI_I32:
        return (struct loops){row_i32, join_i32};
    case TESSI_I64:
        return (struct loops){row_i64, join_i64};
    case TESSI_U8:
        return (struct loops){row_u8, join_u8};
    case TESSI_U16:
        return (struct loops){row_u16, join_u16};
    case TESSI_U32:
        return (struct loops){row_u32, join_u32};
    case TESSI_U64:
        return (struct loops){row_u64, join_u64};
    case TESSI_F16:
    case TESSI_BF16:
    case TESSI_F32:
    case TESSI_C64:
        return (struct loops){row_f32, join_f32};
    case TESSI_F64:
    case TESSI_C128:
        return (struct loops){row_f64, join_f64};
    }
    return (struct loops){NULL, NULL};
}

struct fold {
    enum tessi_fold kind;
    struct loops loops;
    enum tessi_dtype in_dtype;
    enum tessi_dtype compute;
    size_t in_size;
    size_t size;   /* of an element in the compute type */
    size_t width;  /* components of an element: 2 when complex */
    struct tessi_fold_levels at;
};

/* Elements in the compute type: where they lie, or converted into `buffer`. */
static const void *load(const struct fold *fold, const unsigned char *in, size_t count, void *buffer)
{
    if (fold->in_dtype == fold->compute) {
        return in;
    }
    tessi_convert(fold->compute, buffer, fold->in_dtype, in, count);
    return buffer;
}

/* A dense run into one element. */
static void run_fold(const struct fold *fold, const unsigned char *in, int64_t count, void *out)
{
    int64_t leaf = LEAF / (int64_t)fold->width;
    if (count <= leaf) {
        _Alignas(64) unsigned char buffer[LEAF * 8];
        const void *data = load(fold, in, (size_t)count, buffer);
        fold->loops.row(fold->kind, data, (size_t)count * fold->width, fold->width, out);
        return;
    }
    _Alignas(16) unsigned char right[16];
    int64_t left = (count / 2 + leaf - 1) / leaf * leaf;
    run_fold(fold, in, left, out);
    run_fold(fold, in + (size_t)left * fold->in_size, count - left, right);
    fold->loops.join(fold->kind, out, right, fold->width);
}

static void level_fold(const struct fold *fold, uint32_t level, const unsigned char *in, int64_t tile, void *out);

/* Rows [0, count) of a folded dimension into one row of `tile` elements. */
static void rows_fold(const struct fold *fold, uint32_t level, const unsigned char *in, int64_t count, int64_t tile,
                      void *out)
{
    _Alignas(64) unsigned char right[TILE * 8];
    size_t stride = (size_t)fold->at.folded[level].stride * fold->in_size;
    size_t components = (size_t)tile * fold->width;
    if (count <= LEAF_ROWS) {
        bool plain = level + 1 == fold->at.nfolded && fold->at.run == 0;
        level_fold(fold, level + 1, in, tile, out);
        for (int64_t i = 1; i < count; i++) {
            const void *row = right;
            if (plain) {
                row = load(fold, in + (size_t)i * stride, (size_t)tile, right);
            } else {
                level_fold(fold, level + 1, in + (size_t)i * stride, tile, right);
            }
            fold->loops.join(fold->kind, out, row, components);
        }
        return;
    }
    int64_t left = (count / 2 + LEAF_ROWS - 1) / LEAF_ROWS * LEAF_ROWS;
    rows_fold(fold, level, in, left, tile, out);
    rows_fold(fold, level, in + (size_t)left * stride, count - left, tile, right);
    fold->loops.join(fold->kind, out, right, components);
}

/* Everything folded from dimension `level` inwards, for `tile` neighbouring output elements. */
static void level_fold(const struct fold *fold, uint32_t level, const unsigned char *in, int64_t tile, void *out)
{
    if (level < fold->at.nfolded) {
        rows_fold(fold, level, in, fold->at.folded[level].count, tile, out);
    } else if (fold->at.run > 0) {
        run_fold(fold, in, fold->at.run, out);
    } else {
        tessi_convert(fold->compute, out, fold->in_dtype, in, (size_t)tile);
    }
}

static enum tessi_dtype compute_dtype(enum tessi_dtype dtype)
{
    return dtype == TESSI_F16 || dtype == TESSI_BF16 ? TESSI_F32 : dtype;
}

void tessi_reduce_levels(struct tessi_fold_levels *at, const struct tessi_layer *layer, const struct tessi_shape *in)
{
    bool inner_folded = false;
    int64_t stride = 1;
    struct tessi_fold_level folded[TESSI_NDIM_MAX];
    struct tessi_fold_level kept[TESSI_NDIM_MAX];
    int last = -1; /* sort of the dimension inside this one: 1 folded, 0 kept */
    *at = (struct tessi_fold_levels){0};
    for (uint32_t d = in->ndim; d-- > 0; stride *= in->dim[d]) {
        if (in->dim[d] == 1) {
            continue;
        }
        int sort = (layer->as.reduce.axes >> d & 1u) != 0 ? 1 : 0;
        struct tessi_fold_level *levels = sort == 1 ? folded : kept;
        uint32_t *count = sort == 1 ? &at->nfolded : &at->nkept;
        inner_folded = last < 0 ? sort == 1 : inner_folded;
        if (sort == last) {
            levels[*count - 1].count *= in->dim[d];
        } else {
            levels[(*count)++] = (struct tessi_fold_level){in->dim[d], stride};
        }
        last = sort;
    }
    /* Gathered from the inside out. */
    uint32_t skip = inner_folded ? 1 : 0;
    at->run = inner_folded ? folded[0].count : 0;
    at->nfolded -= skip;
    for (uint32_t i = 0; i < at->nfolded; i++) {
        at->folded[i] = folded[skip + at->nfolded - 1 - i];
    }
    for (uint32_t i = 0; i < at->nkept; i++) {
        at->kept[i] = kept[at->nkept - 1 - i];
    }
}

static void fold_init(struct fold *fold, const struct tessi_layer *layer, const struct tessi_shape *in)
{
    *fold = (struct fold){
        .kind = layer->as.reduce.fold,
        .compute = compute_dtype(layer->dtype),
        .in_dtype = layer->input[0].dtype,
        .in_size = tessi_dtype_size(layer->input[0].dtype),
        .width = tessi_dtype_kind(layer->dtype) == TESSI_KIND_COMPLEX ? 2 : 1,
    };
    fold->loops = loops_choose(fold->compute);
    fold->size = tessi_dtype_size(fold->compute);
    tessi_reduce_levels(&fold->at, layer, in);
}

/* The first block sets the output, the others join it. */
static void store(const struct tessi_kernel_step *step, const struct fold *fold, int64_t at, const void *values,
                  int64_t count)
{
    enum tessi_dtype dtype = step->layer->dtype;
    unsigned char *out = (unsigned char *)step->call->out + (size_t)at * tessi_dtype_size(dtype);
    if (step->call->step == 0) {
        tessi_convert(dtype, out, fold->compute, values, (size_t)count);
    } else if (dtype == fold->compute) {
        fold->loops.join(fold->kind, out, values, (size_t)count * fold->width);
    } else {
        _Alignas(64) unsigned char acc[TILE * 8];
        tessi_convert(fold->compute, acc, dtype, out, (size_t)count);
        fold->loops.join(fold->kind, acc, values, (size_t)count * fold->width);
        tessi_convert(dtype, out, fold->compute, acc, (size_t)count);
    }
}

/* Output elements that lie side by side in the input are folded in tiles, others one by one. */
static void block_fold(const struct tessi_kernel_step *step, const struct fold *fold)
{
    _Alignas(64) unsigned char tile[TILE * 8];
    const unsigned char *in = step->call->in[0];
    uint32_t outer = fold->at.run == 0 && fold->at.nkept > 0 ? fold->at.nkept - 1 : fold->at.nkept;
    int64_t row = outer < fold->at.nkept ? fold->at.kept[outer].count : 1;
    int64_t widest = TILE / (int64_t)fold->width;
    int64_t coords[TESSI_NDIM_MAX] = {0};
    for (int64_t at = 0; at < step->elements; at += row) {
        int64_t offset = 0;
        for (uint32_t d = 0; d < outer; d++) {
            offset += coords[d] * fold->at.kept[d].stride;
        }
        for (int64_t j = 0; j < row; j += widest) {
            int64_t count = row - j < widest ? row - j : widest;
            level_fold(fold, 0, in + (size_t)(offset + j) * fold->in_size, count, tile);
            store(step, fold, at + j, tile, count);
        }
        for (uint32_t d = outer; d-- > 0 && ++coords[d] == fold->at.kept[d].count;) {
            coords[d] = 0;
        }
    }
}

enum tessi_status tessi_kernel_reduce(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    struct tessi_shape in;
    struct fold fold;
    if (step->elements == 0) {
        return TESSI_OK;
    }
    TESS_ASSERT(step->step.count == 1);
    if (layer->as.reduce.fold != TESSI_FOLD_SUM && tessi_dtype_kind(layer->dtype) == TESSI_KIND_COMPLEX) {
        return tessi_fail(error, TESSI_UNSUPPORTED, "complex numbers have no order: take min or max of a real part");
    }
    tessi_grid_block_shape(&layer->input[0].grid, step->step.ref[0].index, &in);
    int64_t elements = 0;
    (void)tessi_shape_elements(&in, &elements);
    if (elements == 0) {
        /* Only an axis without elements has an empty chunk, and then there is no other. */
        if (layer->as.reduce.fold != TESSI_FOLD_SUM) {
            return tessi_fail(error, TESSI_UNSUPPORTED, "min and max of no elements have no value");
        }
        memset(step->call->out, 0, (size_t)step->elements * tessi_dtype_size(layer->dtype));
        return TESSI_OK;
    }
    fold_init(&fold, layer, &in);
    block_fold(step, &fold);
    return TESSI_OK;
}
