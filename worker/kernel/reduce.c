/* Reductions: fold axes of a block, then fold the blocks of a group in step order.
 *
 * The order of the additions follows from the block's shape alone. A dense run is folded by
 * leaves of LEAF components with LANES running folds, and the leaves in halves; along other
 * axes LEAF_ROWS rows are folded one after the other, and these groups in halves. So the error
 * of a sum grows with the logarithm of its length. */
#include "worker/kernel/geometry.h"
#include "worker/kernel/operations.h"

#include <string.h>

#include "core/base/assert.h"
#include "worker/kernel/convert.h"
#include "worker/kernel/reduce.h"

#define LEAF TESSI_FOLD_LEAF
#define LEAF_ROWS TESSI_FOLD_LEAF_ROWS
#define TILE 1024 /* components of the output that are folded at a time */

struct fold {
    enum tessi_fold kind;
    struct tessi_number_loops numbers;
    struct tessi_record_loops records; /* size 0: the state is a number */
    enum tessi_dtype in_dtype;
    enum tessi_dtype compute; /* what elements are converted to first: states, or what is lifted to them */
    size_t in_size;
    size_t size;     /* of a state */
    int64_t leaf;    /* elements of a dense run that are folded without halving it */
    int64_t widest;  /* states of a tile */
    const unsigned char *in; /* the block: positions of its elements are counted from here */
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

static int64_t position(const struct fold *fold, const unsigned char *in)
{
    return (int64_t)((size_t)(in - fold->in) / fold->in_size);
}

/* `count` neighbouring elements, each into a state of its own. */
static void lift(const struct fold *fold, const unsigned char *in, size_t count, void *out)
{
    if (fold->records.size == 0) {
        tessi_convert(fold->compute, out, fold->in_dtype, in, count);
        return;
    }
    _Alignas(64) unsigned char buffer[TILE * 8];
    fold->records.lift(load(fold, in, count, buffer), count, position(fold, in), out);
}

static void join(const struct fold *fold, void *acc, const void *states, size_t count)
{
    if (fold->records.size == 0) {
        fold->numbers.join(fold->kind, acc, states, count * fold->numbers.width);
    } else {
        fold->records.join(acc, states, count);
    }
}

/* `count` neighbouring elements join a state each. */
static void add(const struct fold *fold, void *acc, const unsigned char *in, size_t count, void *buffer)
{
    const void *data = load(fold, in, count, buffer);
    if (fold->records.size == 0) {
        fold->numbers.join(fold->kind, acc, data, count * fold->numbers.width);
    } else {
        fold->records.add(acc, data, count, position(fold, in));
    }
}

/* A leaf into one record: the tree of row_fold in reduce_type.h. */
static void record_leaf(const struct fold *fold, const unsigned char *data, size_t count, int64_t at, void *out)
{
    _Alignas(64) unsigned char lane[TESSI_FOLD_LANES * TESSI_FOLD_RECORD_MAX];
    size_t size = tessi_dtype_size(fold->compute);
    size_t whole = count / TESSI_FOLD_LANES * TESSI_FOLD_LANES;
    size_t begun = whole == 0 ? 1 : whole;
    if (whole == 0) {
        fold->records.lift(data, 1, at, lane);
    } else {
        fold->records.lift(data, TESSI_FOLD_LANES, at, lane);
    }
    for (size_t i = TESSI_FOLD_LANES; i < whole; i += TESSI_FOLD_LANES) {
        fold->records.add(lane, data + i * size, TESSI_FOLD_LANES, at + (int64_t)i);
    }
    for (size_t half = TESSI_FOLD_LANES / 2; half >= 1 && whole > 0; half /= 2) {
        fold->records.join(lane, lane + half * fold->size, half);
    }
    for (size_t i = begun; i < count; i++) {
        fold->records.add(lane, data + i * size, 1, at + (int64_t)i);
    }
    memcpy(out, lane, fold->size);
}

/* A dense run into one state. */
static void run_fold(const struct fold *fold, const unsigned char *in, int64_t count, void *out)
{
    if (count <= fold->leaf) {
        _Alignas(64) unsigned char buffer[LEAF * 8];
        const void *data = load(fold, in, (size_t)count, buffer);
        if (fold->records.size == 0) {
            fold->numbers.row(fold->kind, data, (size_t)count * fold->numbers.width, fold->numbers.width, out);
        } else {
            record_leaf(fold, data, (size_t)count, position(fold, in), out);
        }
        return;
    }
    _Alignas(16) unsigned char right[TESSI_FOLD_RECORD_MAX];
    int64_t left = (count / 2 + fold->leaf - 1) / fold->leaf * fold->leaf;
    run_fold(fold, in, left, out);
    run_fold(fold, in + (size_t)left * fold->in_size, count - left, right);
    join(fold, out, right, 1);
}

static void level_fold(const struct fold *fold, uint32_t level, const unsigned char *in, int64_t tile, void *out);

/* Rows [0, count) of a folded dimension into one row of `tile` elements. */
static void rows_fold(const struct fold *fold, uint32_t level, const unsigned char *in, int64_t count, int64_t tile,
                      void *out)
{
    _Alignas(64) unsigned char right[TILE * 8];
    size_t stride = (size_t)fold->at.folded[level].stride * fold->in_size;
    if (count <= LEAF_ROWS) {
        bool plain = level + 1 == fold->at.nfolded && fold->at.run == 0;
        level_fold(fold, level + 1, in, tile, out);
        for (int64_t i = 1; i < count; i++) {
            if (plain) {
                add(fold, out, in + (size_t)i * stride, (size_t)tile, right);
            } else {
                level_fold(fold, level + 1, in + (size_t)i * stride, tile, right);
                join(fold, out, right, (size_t)tile);
            }
        }
        return;
    }
    int64_t left = (count / 2 + LEAF_ROWS - 1) / LEAF_ROWS * LEAF_ROWS;
    rows_fold(fold, level, in, left, tile, out);
    rows_fold(fold, level, in + (size_t)left * stride, count - left, tile, right);
    join(fold, out, right, (size_t)tile);
}

/* Everything folded from dimension `level` inwards, for `tile` neighbouring output elements. */
static void level_fold(const struct fold *fold, uint32_t level, const unsigned char *in, int64_t tile, void *out)
{
    if (level < fold->at.nfolded) {
        rows_fold(fold, level, in, fold->at.folded[level].count, tile, out);
    } else if (fold->at.run > 0) {
        run_fold(fold, in, fold->at.run, out);
    } else {
        lift(fold, in, (size_t)tile, out);
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

static void fold_init(struct fold *fold, const struct tessi_kernel_step *step, const struct tessi_shape *in)
{
    const struct tessi_layer *layer = step->layer;
    enum tessi_dtype from = layer->input[0].dtype;
    *fold = (struct fold){
        .kind = layer->as.reduce.fold,
        .in_dtype = from,
        .in_size = tessi_dtype_size(from),
        .in = step->call->in[0],
    };
    if (tessi_fold_row(fold->kind)->state == TESSI_STATE_RECORD) {
        fold->compute = tessi_widest(from);
        fold->records = tessi_record_loops(fold->kind, from);
        fold->size = fold->records.size;
    } else {
        fold->compute = compute_dtype(layer->dtype);
        fold->numbers = tessi_number_loops(fold->kind, fold->compute);
        fold->size = tessi_dtype_size(fold->compute);
    }
    int64_t parts = tessi_dtype_kind(fold->compute) == TESSI_KIND_COMPLEX ? 2 : 1;
    fold->leaf = LEAF / parts;
    fold->widest = fold->records.size == 0 ? TILE / parts : TILE * 8 / TESSI_FOLD_RECORD_MAX;
    tessi_reduce_levels(&fold->at, layer, in);
}

/* ——— numbers ——— */

/* The first block sets the output, the others join it. */
static void store_numbers(const struct tessi_kernel_step *step, const struct fold *fold, int64_t at, const void *values,
                          int64_t count)
{
    enum tessi_dtype dtype = step->layer->dtype;
    unsigned char *out = (unsigned char *)step->call->out + (size_t)at * tessi_dtype_size(dtype);
    if (step->call->step == 0) {
        tessi_convert(dtype, out, fold->compute, values, (size_t)count);
    } else if (dtype == fold->compute) {
        join(fold, out, values, (size_t)count);
    } else {
        _Alignas(64) unsigned char acc[TILE * 8];
        tessi_convert(fold->compute, acc, dtype, out, (size_t)count);
        join(fold, acc, values, (size_t)count);
        tessi_convert(dtype, out, fold->compute, acc, (size_t)count);
    }
}

/* Only an axis without elements has an empty chunk, and then there is no other. */
static enum tessi_status fold_nothing(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const char *name = tessi_fold_row(step->layer->as.reduce.fold)->name;
    struct tessi_scalar scalar = {.dtype = TESSI_F64};
    if (!tessi_fold_of_nothing(step->layer->as.reduce.fold, &scalar.as.f)) {
        return tessi_fail(error, TESSI_UNSUPPORTED, "no elements have no %s", name);
    }
    size_t size = tessi_dtype_size(step->layer->dtype);
    for (int64_t i = 0; i < step->elements; i++) {
        tessi_convert_scalar(step->layer->dtype, (unsigned char *)step->call->out + (size_t)i * size, &scalar);
    }
    return TESSI_OK;
}

/* ——— records ——— */

/* Places in a block become those among all elements that are reduced to one. */
static void settle_positions(const struct tessi_kernel_step *step, const struct fold *fold, unsigned char *records,
                             int64_t count)
{
    const struct tessi_grid *grid = &step->layer->input[0].grid;
    struct tessi_shape in;
    int64_t lo[TESSI_NDIM_MAX];
    tessi_kernel_block(grid, step->step.ref[0].index, &in, lo);
    for (int64_t i = 0; i < count; i++) {
        unsigned char *field = records + (size_t)(i + 1) * fold->size - sizeof(int64_t);
        int64_t place, all = 0, extent = 1;
        memcpy(&place, field, sizeof place);
        for (uint32_t d = in.ndim; d-- > 0; place /= in.dim[d]) {
            if ((step->layer->as.reduce.axes >> d & 1u) != 0) {
                all += (lo[d] + place % in.dim[d]) * extent;
                extent *= grid->axis[d].extent;
            }
        }
        memcpy(field, &all, sizeof all);
    }
}

static void finish(const struct tessi_layer *layer, const struct tessi_record_loops *loops, const void *records,
                   int64_t count, int64_t at, void *block)
{
    _Alignas(64) unsigned char wide[TILE * 8];
    TESS_ASSERT(count <= TILE);
    loops->finish(records, (size_t)count, layer->as.reduce.parameter, wide);
    tessi_convert(layer->dtype, (unsigned char *)block + (size_t)at * tessi_dtype_size(layer->dtype),
                  tessi_widest(layer->dtype), wide, (size_t)count);
}

static void store_records(const struct tessi_kernel_step *step, const struct fold *fold, int64_t at,
                          unsigned char *records, int64_t count)
{
    unsigned char *out = (unsigned char *)step->call->out + (size_t)at * fold->size;
    if (tessi_fold_row(fold->kind)->position) {
        settle_positions(step, fold, records, count);
    }
    if (step->layer->as.reduce.finishes) {
        finish(step->layer, &fold->records, records, count, at, step->call->out);
    } else if (step->call->step == 0) {
        memcpy(out, records, (size_t)count * fold->size);
    } else {
        fold->records.join(out, records, (size_t)count);
    }
}

/* A block of records, which are joined already inside each block. */
static void join_records(const struct tessi_kernel_step *step, int64_t count)
{
    const struct tessi_layer *layer = step->layer;
    struct tessi_record_loops loops = tessi_record_loops(layer->as.reduce.fold, layer->as.reduce.from);
    const unsigned char *in = step->call->in[0];
    if (layer->as.reduce.finishes) {
        for (int64_t at = 0; at < count; at += TILE) {
            finish(layer, &loops, in + (size_t)at * loops.size, count - at < TILE ? count - at : TILE, at,
                   step->call->out);
        }
    } else if (step->call->step == 0) {
        memcpy(step->call->out, in, (size_t)count * loops.size);
    } else {
        loops.join(step->call->out, in, (size_t)count);
    }
}

/* ——— both ——— */

/* Output elements that lie side by side in the input are folded in tiles, others one by one. */
static void block_fold(const struct tessi_kernel_step *step, const struct fold *fold, int64_t outputs)
{
    _Alignas(64) unsigned char tile[TILE * 8];
    const unsigned char *in = step->call->in[0];
    uint32_t outer = fold->at.run == 0 && fold->at.nkept > 0 ? fold->at.nkept - 1 : fold->at.nkept;
    int64_t row = outer < fold->at.nkept ? fold->at.kept[outer].count : 1;
    int64_t coords[TESSI_NDIM_MAX] = {0};
    for (int64_t at = 0; at < outputs; at += row) {
        int64_t offset = 0;
        for (uint32_t d = 0; d < outer; d++) {
            offset += coords[d] * fold->at.kept[d].stride;
        }
        for (int64_t j = 0; j < row; j += fold->widest) {
            int64_t count = row - j < fold->widest ? row - j : fold->widest;
            level_fold(fold, 0, in + (size_t)(offset + j) * fold->in_size, count, tile);
            if (fold->records.size == 0) {
                store_numbers(step, fold, at + j, tile, count);
            } else {
                store_records(step, fold, at + j, tile, count);
            }
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
    tessi_grid_block_shape(&layer->input[0].grid, step->step.ref[0].index, &in);
    int64_t elements = 0;
    (void)tessi_shape_elements(&in, &elements);
    if (elements == 0) {
        return fold_nothing(step, error);
    }
    int64_t outputs = step->elements;
    if (tessi_reduce_makes_records(layer)) {
        outputs /= tessi_fold_record_bytes(layer->as.reduce.fold);
    }
    if (tessi_reduce_reads_records(layer)) {
        join_records(step, outputs);
        return TESSI_OK;
    }
    fold_init(&fold, step, &in);
    block_fold(step, &fold, outputs);
    return TESSI_OK;
}
