#include "core/graph/rechunk.h"

#include <math.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/graph/layer.h"

#define FEW_STEPS 256.0
#define FEW_BYTES ((double)(UINT64_C(1) << 20)) /* not worth a layer more */
#define NEAR_BYTES ((double)(UINT64_C(64) << 20)) /* what is so close together is on one worker, and in its memory */
#define NEAR_GROUPS 4.0
#define PIECE_BYTES ((double)(UINT64_C(128) << 10)) /* smaller ones cost more in messages than in bytes */
#define TINY_BYTES ((double)(UINT64_C(16) << 10))  /* so small that moving everything twice costs less */
#define JOINED_BYTES ((double)(UINT64_C(32) << 20))
#define AXIS_CHUNKS_MAX (UINT64_C(1) << 20) /* boundaries that we write down, and look at for a split */
#define HALVINGS_MAX 2

/* ——— axes ——— */

static struct tessi_axis refine_axis(const struct tessi_axis *a, const struct tessi_axis *b)
{
    if (tessi_axis_equal(a, b) || a->extent == 0) {
        return tessi_axis_copy(a);
    }
    int64_t *bounds = tessi_alloc((size_t)(a->count + b->count + 1) * sizeof *bounds);
    uint64_t count = 0, i = 0, j = 0;
    bounds[0] = 0;
    while (bounds[count] < a->extent) {
        int64_t next_a = tessi_axis_hi(a, i), next_b = tessi_axis_hi(b, j);
        bounds[++count] = next_a < next_b ? next_a : next_b;
        i += next_a == bounds[count];
        j += next_b == bounds[count];
    }
    struct tessi_axis axis = tessi_axis_explicit(bounds, count);
    tessi_free(bounds);
    return axis;
}

void tessi_grid_refine(const struct tessi_grid *a, const struct tessi_grid *b, struct tessi_grid *out)
{
    *out = (struct tessi_grid){.ndim = a->ndim};
    for (uint32_t d = 0; d < a->ndim; d++) {
        out->axis[d] = refine_axis(&a->axis[d], &b->axis[d]);
    }
}

/* Every `each` chunks in one. */
static struct tessi_axis join_axis(const struct tessi_axis *axis, uint64_t each)
{
    if (axis->bounds == NULL) {
        return tessi_axis_regular(axis->extent, axis->chunk * (int64_t)each);
    }
    int64_t *bounds = tessi_alloc((size_t)(axis->count + 1) * sizeof *bounds);
    uint64_t count = 0;
    bounds[0] = 0;
    for (uint64_t c = each - 1; c < axis->count; c += each) {
        bounds[++count] = tessi_axis_hi(axis, c);
    }
    if (bounds[count] < axis->extent) {
        bounds[++count] = axis->extent;
    }
    struct tessi_axis joined = tessi_axis_explicit(bounds, count);
    tessi_free(bounds);
    return joined;
}

/* ——— what a rechunk is like ——— */

struct nature {
    double bytes;  /* of the array */
    double steps;  /* blocks read when it is done at once */
    double merges; /* old blocks that a new one spans, and parts that an old one is cut into, but for uneven ends */
    double cuts;
};

static struct nature nature_of(const struct tessi_grid *from, const struct tessi_grid *to, size_t element_bytes)
{
    struct nature nature = {(double)element_bytes, 1, 1, 1};
    for (uint32_t d = 0; d < from->ndim; d++) {
        double old = (double)from->axis[d].count, new = (double)to->axis[d].count;
        nature.bytes *= (double)from->axis[d].extent;
        nature.steps *= tessi_axis_equal(&from->axis[d], &to->axis[d]) ? old : old + new - 1;
        nature.merges *= old > new ? old / new : 1;
        nature.cuts *= new > old ? new / old : 1;
    }
    return nature;
}

struct tessi_exchange tessi_rechunk_exchange(const struct tessi_grid *from, const struct tessi_grid *to,
                                             size_t element_bytes)
{
    struct tessi_exchange exchange = {1, (double)element_bytes};
    for (uint32_t d = 0; d < from->ndim; d++) {
        double old = (double)from->axis[d].count, new = (double)to->axis[d].count;
        exchange.groups *= old < new ? old : new;
        exchange.bytes *= (double)from->axis[d].extent;
    }
    exchange.bytes /= exchange.groups;
    return exchange;
}

/* Whether whole blocks will do: what one gives to many comes from few, or they are all near each other. */
static bool is_direct(const struct nature *nature, struct tessi_exchange exchange)
{
    bool near = exchange.groups > NEAR_GROUPS && exchange.bytes <= NEAR_BYTES;
    bool few = nature->steps <= FEW_STEPS && nature->bytes <= FEW_BYTES;
    return nature->merges < 2 || nature->cuts < 2 || nature->merges * nature->cuts <= 4 || few || near;
}

static bool is_writable(const struct tessi_grid *from, const struct tessi_grid *to)
{
    bool writable = true;
    for (uint32_t d = 0; d < from->ndim; d++) {
        writable = writable && from->axis[d].count <= AXIS_CHUNKS_MAX && to->axis[d].count <= AXIS_CHUNKS_MAX;
    }
    return writable;
}

/* ——— the plan ——— */

static void add_grid(struct tessi_rechunk *plan, const struct tessi_grid *from, struct tessi_grid grid)
{
    const struct tessi_grid *last = plan->count == 0 ? from : &plan->grid[plan->count - 1];
    if (tessi_grid_equal(last, &grid)) {
        tessi_grid_fini(&grid);
        return;
    }
    TESS_ASSERT(plan->count < TESSI_RECHUNK_GRIDS_MAX);
    plan->grid[plan->count++] = grid;
}

/* Blocks of `grid` joined along the dimensions in which `other` has longer chunks, up to `wanted` of them in one. */
static double join(const struct tessi_grid *grid, const struct tessi_grid *other, size_t element_bytes, double wanted,
                   struct tessi_grid *out)
{
    double most = JOINED_BYTES / (double)(tessi_grid_largest_block(grid, element_bytes) + 1), joined = 1;
    wanted = wanted < most ? wanted : most;
    *out = (struct tessi_grid){.ndim = grid->ndim};
    for (uint32_t d = 0; d < grid->ndim; d++) {
        const struct tessi_axis *axis = &grid->axis[d];
        double each = floor(wanted / joined), span = floor((double)axis->count / (double)other->axis[d].count);
        double longest = floor((double)TESSI_CHUNK_MAX / (double)(tessi_axis_longest(axis) + 1));
        each = each < span ? each : span;
        each = each < longest ? each : longest;
        out->axis[d] = each >= 2 ? join_axis(axis, (uint64_t)each) : tessi_axis_copy(axis);
        joined *= each >= 2 ? each : 1;
    }
    return joined;
}

/* Chunks half way between those of both, by ratio. */
static void grid_between(const struct tessi_grid *from, const struct tessi_grid *to, struct tessi_grid *out)
{
    *out = (struct tessi_grid){.ndim = from->ndim};
    for (uint32_t d = 0; d < from->ndim; d++) {
        const struct tessi_axis *a = &from->axis[d];
        double count = sqrt((double)a->count * (double)to->axis[d].count);
        int64_t chunk = (int64_t)ceil((double)a->extent / count);
        out->axis[d] = tessi_axis_equal(a, &to->axis[d]) ? tessi_axis_copy(a)
                                                         : tessi_axis_regular(a->extent, chunk > 0 ? chunk : 1);
    }
}

static void add_way(struct tessi_rechunk *plan, const struct tessi_grid *from, const struct tessi_grid *to,
                    size_t element_bytes, uint32_t halvings)
{
    struct nature nature = nature_of(from, to, element_bytes);
    struct tessi_grid target;
    tessi_grid_copy(&target, to);
    if (is_direct(&nature, tessi_rechunk_exchange(from, to, element_bytes)) || !is_writable(from, to)) {
        add_grid(plan, from, target);
        return;
    }
    struct tessi_grid joined_from, joined_to, pieces;
    double piece_bytes = nature.bytes / nature.steps, wanted = PIECE_BYTES / piece_bytes;
    double joined = join(from, to, element_bytes, wanted, &joined_from);
    joined *= join(to, from, element_bytes, wanted / joined, &joined_to);
    if (piece_bytes * joined < TINY_BYTES && halvings < HALVINGS_MAX) {
        struct tessi_grid between;
        tessi_grid_fini(&joined_from);
        tessi_grid_fini(&joined_to);
        tessi_grid_fini(&target);
        grid_between(from, to, &between);
        add_way(plan, from, &between, element_bytes, halvings + 1);
        add_way(plan, &between, to, element_bytes, halvings + 1);
        tessi_grid_fini(&between);
        return;
    }
    tessi_grid_refine(&joined_from, &joined_to, &pieces);
    add_grid(plan, from, joined_from);
    add_grid(plan, from, pieces);
    add_grid(plan, from, joined_to);
    add_grid(plan, from, target);
}

void tessi_rechunk_plan(const struct tessi_grid *from, const struct tessi_grid *to, size_t element_bytes,
                        struct tessi_rechunk *plan)
{
    TESS_ASSERT(from->ndim == to->ndim);
    plan->count = 0;
    add_way(plan, from, to, element_bytes, 0);
    if (plan->count == 0) {
        tessi_grid_copy(&plan->grid[plan->count++], to);
    }
}

void tessi_rechunk_fini(struct tessi_rechunk *plan)
{
    for (uint32_t i = 0; i < plan->count; i++) {
        tessi_grid_fini(&plan->grid[i]);
    }
    plan->count = 0;
}

/* ——— splits ——— */

/* Whether each chunk of the output lies in one of the input; the most in any. */
static bool axis_splits(const struct tessi_rule *rule, const struct tessi_axis *in, const struct tessi_axis *out,
                        uint64_t *most)
{
    uint64_t last = UINT64_MAX, count = 0;
    *most = 0;
    if (in->bounds == NULL && out->bounds == NULL) { /* nothing to walk, however many chunks a peer names */
        *most = (uint64_t)((in->chunk - 1) / out->chunk) + 1;
        bool nested = in->chunk % out->chunk == 0 && rule->step == 1 && rule->start % out->chunk == 0;
        return out->extent > 0 && (nested || in->count == 1);
    }
    if (in->count > AXIS_CHUNKS_MAX || out->count > AXIS_CHUNKS_MAX || out->extent == 0) {
        return false;
    }
    for (uint64_t c = 0; c < out->count; c++) {
        uint64_t from = tessi_axis_find(in, rule->start + rule->step * tessi_axis_lo(out, c));
        if (rule->start + rule->step * (tessi_axis_hi(out, c) - 1) >= tessi_axis_hi(in, from)) {
            return false;
        }
        count = from == last ? count + 1 : 1;
        *most = count > *most ? count : *most;
        last = from;
    }
    return true;
}

bool tessi_layer_splits(const struct tessi_layer *layer, uint64_t most[TESSI_NDIM_MAX])
{
    const struct tessi_input *input = &layer->input[0];
    bool splits = layer->op == TESSI_OP_REGRID && tessi_layer_tasks(layer) >= 2 * tessi_grid_blocks(&input->grid);
    for (uint32_t d = 0; splits && d < layer->grid.ndim; d++) {
        const struct tessi_rule *rule = &input->rules.rule[d];
        splits = rule->kind == TESSI_RULE_SLICE && rule->dim == d &&
                 axis_splits(rule, &input->grid.axis[d], &layer->grid.axis[d], &most[d]);
    }
    return splits;
}
