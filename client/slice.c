/* Transposition, slices, other chunks: where elements are, not what they are. */
#include <inttypes.h>

#include "client/array.h"
#include "core/base/alloc.h"
#include "core/graph/join.h"
#include "core/graph/rechunk.h"

#define BOUNDS_COPIES 6 /* of the boundaries of chunks, until the array is there */

struct tessi_node *tessi_node_permute(struct tessi_node *a, const uint32_t *axes, struct tessi_error *error)
{
    uint32_t ndim = a->layer->grid.ndim;
    uint32_t axis[TESSI_NDIM_MAX];
    struct tessi_node *base = a;
    bool identity = true;
    /* Two permutations are one: x.T.T is x. A held array is read as it is. */
    bool through = a->layer->op == TESSI_OP_TRANSPOSE && a->held == 0;
    if (through) {
        base = a->input[0];
    }
    for (uint32_t d = 0; d < ndim; d++) {
        axis[d] = through ? a->layer->as.transpose.axis[axes[d]] : axes[d];
        identity = identity && axis[d] == d;
    }
    if (identity) {
        return tessi_node_ref(base);
    }
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_TRANSPOSE, base->layer->dtype);
    tessi_layer_set_input(layer, 0, base);
    layer->grid.ndim = ndim;
    for (uint32_t d = 0; d < ndim; d++) {
        layer->as.transpose.axis[d] = axis[d];
        layer->grid.axis[d] = tessi_axis_copy(&base->layer->grid.axis[axis[d]]);
        layer->input[0].rules.rule[axis[d]] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    return tessi_node_build(a->session, layer, &base, error);
}

tess_array *tess_transpose(tess_array *a)
{
    struct tess_array *refused = tessi_array_refuse(__func__, a, a);
    if (refused != NULL) {
        return refused;
    }
    uint32_t axes[TESSI_NDIM_MAX];
    uint32_t ndim = a->node->layer->grid.ndim;
    for (uint32_t d = 0; d < ndim; d++) {
        axes[d] = ndim - 1 - d;
    }
    struct tessi_error error = {0};
    return tessi_array_finish(a->session, __func__, tessi_node_permute(a->node, axes, &error), &error);
}

tess_array *tess_permute(tess_array *a, const uint32_t *axes, uint32_t count)
{
    struct tess_array *refused = tessi_array_refuse(__func__, a, a);
    if (refused != NULL) {
        return refused;
    }
    uint32_t seen = 0;
    uint32_t ndim = a->node->layer->grid.ndim;
    bool valid = count == ndim && (axes != NULL || count == 0);
    for (uint32_t d = 0; valid && d < count; d++) {
        valid = axes[d] < ndim && (seen >> axes[d] & 1u) == 0;
        seen |= valid ? 1u << axes[d] : 0;
    }
    if (!valid) {
        return tessi_array_poison(a->session, __func__, TESSI_INVALID,
                                  "the axes are not a permutation of %u dimensions: name each axis once", ndim);
    }
    struct tessi_error error = {0};
    return tessi_array_finish(a->session, __func__, tessi_node_permute(a->node, axes, &error), &error);
}

static const int64_t from_first[TESSI_NDIM_MAX] = {0};
static const int64_t each[TESSI_NDIM_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};

static void set_slice(struct tessi_input *input, const int64_t *start, const int64_t *step)
{
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        input->rules.rule[d] =
            (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .start = start[d], .step = step[d]};
    }
}

static struct tessi_layer *regrid_layer(const struct tessi_node *a, const struct tessi_grid *grid, const int64_t *start,
                                        const int64_t *step)
{
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_REGRID, a->layer->dtype);
    tessi_layer_set_input(layer, 0, a);
    tessi_grid_copy(&layer->grid, grid);
    set_slice(&layer->input[0], start, step);
    for (uint32_t d = 0; d < grid->ndim; d++) {
        layer->as.regrid.start[d] = start[d];
        layer->as.regrid.step[d] = step[d];
    }
    return layer;
}

static struct tessi_node *regrid(struct tessi_node *a, const struct tessi_grid *grid, const int64_t *start,
                                 const int64_t *step, struct tessi_error *error)
{
    return tessi_node_build(a->session, regrid_layer(a, grid, start, step), &a, error);
}

/* From whole blocks, and from pieces of those of which it takes little. */
static struct tessi_node *join(struct tessi_node *a, const struct tessi_grid *pieces, const struct tessi_grid *grid,
                               struct tessi_error *error)
{
    struct tessi_node *inputs[2] = {a, regrid(a, pieces, from_first, each, error)};
    if (inputs[TESSI_JOIN_PIECES] == NULL) {
        return NULL;
    }
    struct tessi_layer *layer = regrid_layer(a, grid, from_first, each);
    tessi_layer_set_input(layer, TESSI_JOIN_PIECES, inputs[TESSI_JOIN_PIECES]);
    set_slice(&layer->input[TESSI_JOIN_PIECES], from_first, each);
    struct tessi_node *node = tessi_node_build(a->session, layer, inputs, error);
    tessi_node_unref(inputs[TESSI_JOIN_PIECES]);
    return node;
}

static struct tessi_node *regrid_once(struct tessi_node *a, const struct tessi_grid *grid, struct tessi_error *error)
{
    struct tessi_grid pieces;
    if (!tessi_join_pays(&a->layer->grid, grid, tessi_dtype_size(a->layer->dtype), &pieces)) {
        return regrid(a, grid, from_first, each, error);
    }
    struct tessi_node *node = join(a, &pieces, grid, error);
    tessi_grid_fini(&pieces);
    return node;
}

struct tessi_node *tessi_node_regrid(struct tessi_node *a, const struct tessi_grid *grid, struct tessi_error *error)
{
    if (tessi_grid_equal(&a->layer->grid, grid)) {
        return tessi_node_ref(a);
    }
    struct tessi_rechunk plan;
    struct tessi_node *node = tessi_node_ref(a);
    tessi_rechunk_plan(&a->layer->grid, grid, tessi_dtype_size(a->layer->dtype), &plan);
    for (uint32_t i = 0; i < plan.count && node != NULL; i++) {
        struct tessi_node *before = node;
        node = regrid_once(before, &plan.grid[i], error);
        tessi_node_unref(before);
    }
    tessi_rechunk_fini(&plan);
    return node;
}

tess_array *tess_rechunk(tess_array *a, tess_shape chunks)
{
    struct tess_array *refused = tessi_array_refuse(__func__, a, a);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_node *node = NULL;
    struct tessi_shape shape;
    int64_t chunk[TESSI_NDIM_MAX];
    tessi_node_shape(a->node, &shape);
    if (tessi_chunks_choose(a->session, &shape, a->node->layer->dtype, &chunks, chunk, &error) == TESSI_OK) {
        struct tessi_grid grid;
        tessi_grid_regular(&grid, &shape, chunk);
        node = tessi_node_regrid(a->node, &grid, &error);
        tessi_grid_fini(&grid);
    }
    tessi_chunks_mark(node, &chunks);
    return tessi_array_finish(a->session, __func__, node, &error);
}

/* A position as in NumPy: negative ones count from the end, all are clipped to the axis. */
static int64_t clip(int64_t position, int64_t extent)
{
    if (position < 0) {
        position += extent;
        return position < 0 ? 0 : position;
    }
    return position > extent ? extent : position;
}

/* Each has an element at least. */
static uint64_t slice_count(const struct tessi_axis *in, int64_t extent)
{
    return in->count < (uint64_t)extent ? in->count : (uint64_t)extent;
}

/* The chunks of a sliced axis end where those of the axis end, so that most blocks come from one block. */
static struct tessi_axis slice_axis(const struct tessi_axis *in, int64_t start, int64_t extent, int64_t step)
{
    if (extent == 0) {
        return tessi_axis_regular(0, 1);
    }
    int64_t *bounds = tessi_alloc((size_t)(slice_count(in, extent) + 1) * sizeof *bounds);
    uint64_t count = 0;
    bounds[0] = 0;
    for (uint64_t c = tessi_axis_find(in, start); c < in->count && bounds[count] < extent; c++) {
        int64_t end = (tessi_axis_hi(in, c) - start - 1) / step + 1;
        end = end < extent ? end : extent;
        if (end > bounds[count]) {
            bounds[++count] = end;
        }
    }
    struct tessi_axis axis = tessi_axis_explicit(bounds, count);
    tessi_free(bounds);
    return axis;
}

struct tessi_node *tessi_node_box(struct tessi_node *a, const struct tessi_box *box, struct tessi_error *error)
{
    const struct tessi_grid *in = &a->layer->grid;
    struct tessi_grid grid = {.ndim = in->ndim};
    int64_t start[TESSI_NDIM_MAX];
    for (uint32_t d = 0; d < in->ndim; d++) {
        start[d] = tessi_axis_lo(&in->axis[d], box->lo[d]);
        grid.axis[d] = slice_axis(&in->axis[d], start[d], tessi_axis_hi(&in->axis[d], box->hi[d] - 1) - start[d], 1);
    }
    struct tessi_node *node = regrid(a, &grid, start, each, error);
    tessi_grid_fini(&grid);
    return node;
}

static struct tessi_node *slice_node(struct tessi_node *a, const tess_ranges *ranges, struct tessi_error *error)
{
    const struct tessi_grid *in = &a->layer->grid;
    struct tessi_grid grid = {.ndim = in->ndim};
    int64_t start[TESSI_NDIM_MAX];
    int64_t step[TESSI_NDIM_MAX];
    bool whole = true;
    if (ranges->count > in->ndim) {
        tessi_fail(error, TESSI_INVALID, "%u ranges for %u dimensions: give at most one for each", ranges->count,
                   in->ndim);
        return NULL;
    }
    for (uint32_t d = 0; d < in->ndim; d++) {
        tess_range range = d < ranges->count ? ranges->range[d] : (tess_range){0};
        if (range.step < 0) {
            tessi_fail(error, TESSI_UNSUPPORTED, "step %" PRId64 " along dimension %u: steps are positive", range.step,
                       d);
            tessi_grid_fini(&grid);
            return NULL;
        }
        int64_t extent = in->axis[d].extent;
        bool all = range.step == 0;
        int64_t stop = all ? extent : clip(range.stop, extent);
        start[d] = all ? 0 : clip(range.start, extent);
        step[d] = all ? 1 : range.step;
        int64_t length = stop > start[d] ? (stop - start[d] - 1) / step[d] + 1 : 0;
        step[d] = length <= 1 ? 1 : step[d];
        whole = whole && length == extent;
        uint64_t chunks = slice_count(&in->axis[d], length);
        if (length != extent && !tessi_memory_ready(BOUNDS_COPIES * sizeof(int64_t) * (size_t)chunks)) {
            tessi_fail(error, TESSI_NOMEM, "out of memory: a slice through %" PRIu64 " chunks; use larger ones", chunks);
            tessi_grid_fini(&grid);
            return NULL;
        }
        grid.axis[d] =
            length == extent ? tessi_axis_copy(&in->axis[d]) : slice_axis(&in->axis[d], start[d], length, step[d]);
    }
    struct tessi_node *node = whole ? tessi_node_ref(a) : regrid(a, &grid, start, step, error);
    tessi_grid_fini(&grid);
    return node;
}

tess_array *tess_slice(tess_array *a, tess_ranges ranges)
{
    struct tess_array *refused = tessi_array_refuse(__func__, a, a);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    return tessi_array_finish(a->session, __func__, slice_node(a->node, &ranges, &error), &error);
}
