/* Regions of a layer's grid, one for each worker.
 *
 * A grid is cut in two again and again, across its longest side and in proportion to the speed
 * of the workers on either side, so that regions are near-square and the words that a product
 * moves stay near the 2D bound; of a product whose k is split they are near-cubic, which moves fewer still
 * and needs room for partial results.
 *
 * Tasks are handed out in runs that follow each other in the grid, and a region of many short rows is as many runs. A
 * grid whose regions would be more of them than one step may look up is cut across its first side only. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/placement/placement.h"
#include "core/sched/workers/workers.h"

#define ALIKE 1.34 /* slower by less than this */

static uint32_t add_node(struct sched_layer *layer)
{
    tessi_grow(&layer->regions, &layer->region_capacity, layer->region_count + 1, sizeof *layer->regions);
    return (uint32_t)layer->region_count++;
}

/* Tasks along this dimension follow each other: cutting it would have one worker wait for the other. */
static bool is_sequence(const struct tessi_layer *layer, uint32_t dim)
{
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        const struct tessi_map_rules *rules = &layer->input[i].rules;
        bool itself = layer->reads[i] == layer->id;
        uint32_t first = 0;
        while (itself && rules->table == NULL &&
               (rules->rule[first].kind == TESSI_RULE_SAME || rules->rule[first].value == 0)) {
            first++;
        }
        if (itself && first == dim) {
            return true;
        }
    }
    return false;
}

/* `coarse`: the first that can be cut, so that regions consist of few runs of tasks. */
static uint32_t side_to_cut(const struct tessi_layer *layer, const struct tessi_box *box, bool coarse)
{
    const struct tessi_grid *grid = &layer->grid;
    uint32_t longest = grid->ndim;
    int64_t most = 0;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        if (box->hi[d] - box->lo[d] < 2 || is_sequence(layer, d)) {
            continue;
        }
        int64_t side = tessi_axis_hi(&grid->axis[d], box->hi[d] - 1) - tessi_axis_lo(&grid->axis[d], box->lo[d]);
        side *= tessi_layer_work_along(layer, d);
        if (longest == grid->ndim || side > most) {
            longest = d;
            most = side;
        }
        if (coarse) {
            break;
        }
    }
    return longest;
}

/* Of the processors, or of the devices, whichever run the layer's tasks there. */
static double speed_of(const struct sched_layer *layer, struct worker *const *workers, size_t count, bool alike)
{
    double speed = 0;
    for (size_t i = 0; i < count; i++) {
        const struct load *load = &workers[i]->load[kind_at(workers[i], layer->lane)];
        speed += load->units / (alike ? 1 : load->pace);
    }
    return speed;
}

/* Small differences are left to stealing, so that regions of one layer lie where those of its inputs lie. */
static bool alike_in_speed(const struct sched_layer *layer, struct worker *const *workers, size_t count)
{
    double least = 0, most = 0;
    for (size_t i = 0; i < count; i++) {
        double pace = workers[i]->load[kind_at(workers[i], layer->lane)].pace;
        least = i == 0 || pace < least ? pace : least;
        most = pace > most ? pace : most;
    }
    return most < ALIKE * least;
}

enum cut { CUT_BY_SPEED = 0, CUT_ALIKE = 1, CUT_COARSE = 2 };

static uint32_t cut_regions(struct sched_layer *layer, const struct tessi_box *box, struct worker *const *workers,
                            size_t count, enum cut cut)
{
    bool alike = (cut & CUT_ALIKE) != 0;
    uint32_t node = add_node(layer);
    uint32_t dim = count > 1 ? side_to_cut(layer->layer, box, (cut & CUT_COARSE) != 0) : layer->layer->grid.ndim;
    if (dim == layer->layer->grid.ndim) {
        uint32_t worker = workers[layer->layer->id % count]->index;
        layer->regions[node] = (struct region_node){.left = node, .right = node, .worker = worker};
        return node;
    }
    size_t half = count / 2;
    uint64_t length = box->hi[dim] - box->lo[dim];
    double part = speed_of(layer, workers, half, alike) / speed_of(layer, workers, count, alike);
    uint64_t share = (uint64_t)((double)length * part + 0.5);
    struct tessi_box low = *box, high = *box;
    low.hi[dim] = high.lo[dim] = box->lo[dim] + share;
    if (share == 0 || share == length) { /* too few chunks for both halves */
        uint32_t only = share == 0 ? cut_regions(layer, &high, workers + half, count - half, cut)
                                   : cut_regions(layer, &low, workers, half, cut);
        layer->regions[node] = (struct region_node){.dim = dim, .cut = low.hi[dim], .left = only, .right = only};
        return node;
    }
    uint32_t left = cut_regions(layer, &low, workers, half, cut);
    uint32_t right = cut_regions(layer, &high, workers + half, count - half, cut);
    layer->regions[node] = (struct region_node){.dim = dim, .cut = low.hi[dim], .left = left, .right = right};
    return node;
}

static struct tessi_box whole(const struct tessi_grid *grid)
{
    struct tessi_box box = {.ndim = grid->ndim};
    for (uint32_t d = 0; d < box.ndim; d++) {
        box.hi[d] = grid->axis[d].count;
    }
    return box;
}

/* Tasks from these coordinates on that follow each other in the grid and lie in the box. */
static uint64_t run_in_box(const struct tessi_grid *grid, const struct tessi_box *box, const uint64_t *coords)
{
    uint64_t stride = 1, within = 0, run = 1;
    for (uint32_t d = grid->ndim; d-- > 0;) {
        run = (box->hi[d] - coords[d]) * stride - within;
        if (box->lo[d] > 0 || box->hi[d] < grid->axis[d].count) {
            break;
        }
        within += coords[d] * stride;
        stride *= grid->axis[d].count;
    }
    return run;
}

static uint64_t runs_below(const struct sched_layer *layer, uint32_t node, const struct tessi_box *box)
{
    const struct region_node *cut = &layer->regions[node];
    uint64_t volume = tessi_box_volume(box);
    if (volume == 0 || cut->left == node) {
        return volume == 0 ? 0 : volume / run_in_box(&layer->layer->grid, box, box->lo);
    }
    struct tessi_box low = *box, high = *box;
    low.hi[cut->dim] = cut->cut < box->hi[cut->dim] ? cut->cut : box->hi[cut->dim];
    high.lo[cut->dim] = cut->cut > box->lo[cut->dim] ? cut->cut : box->lo[cut->dim];
    return runs_below(layer, cut->left, &low) + runs_below(layer, cut->right, &high);
}

uint64_t tessi_regions_runs(const struct sched_layer *layer)
{
    struct tessi_box box = whole(&layer->layer->grid);
    return layer->region_count == 0 ? 1 : runs_below(layer, 0, &box);
}

void tessi_regions_make(struct tessi_sched *sched, struct sched_layer *layer)
{
    layer->placement = PLACE_REGIONS;
    layer->place_depth = 0;
    if (sched->alive_count == 0) {
        return;
    }
    struct worker **alive = tessi_alloc(sched->alive_count * sizeof *alive);
    size_t count = 0;
    for (size_t i = 0; i < sched->worker_count; i++) {
        if (tessi_supply_can_run(sched->workers[i], &layer->lane->demand)) {
            alive[count++] = sched->workers[i];
        }
    }
    if (count == 0) {
        tessi_free(alive);
        return;
    }
    struct tessi_box box = whole(&layer->layer->grid);
    enum cut cut = alike_in_speed(layer, alive, count) ? CUT_ALIKE : CUT_BY_SPEED;
    (void)cut_regions(layer, &box, alive, count, cut);
    uint64_t runs = tessi_regions_runs(layer);
    if (runs > sched->lookups) {
        layer->region_count = 0;
        (void)cut_regions(layer, &box, alive, count, cut | CUT_COARSE);
        runs = tessi_regions_runs(layer);
    }
    sched->lookups -= runs < sched->lookups ? runs : sched->lookups;
    tessi_free(alive);
}

uint32_t tessi_regions_of(const struct sched_layer *layer, uint64_t index)
{
    if (layer->region_count == 0) {
        return NO_WORKER;
    }
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    tessi_grid_coords(&layer->layer->grid, index, coords);
    uint32_t node = 0;
    while (layer->regions[node].left != node) {
        const struct region_node *cut = &layer->regions[node];
        node = coords[cut->dim] < cut->cut ? cut->left : cut->right;
    }
    TESS_ASSERT(node < layer->region_count);
    return layer->regions[node].worker;
}

uint64_t tessi_regions_run(const struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(index < layer->tasks);
    const struct tessi_grid *grid = &layer->layer->grid;
    if (layer->region_count == 0) {
        return layer->tasks - index;
    }
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    uint32_t node = 0;
    struct tessi_box box = whole(grid);
    tessi_grid_coords(grid, index, coords);
    while (layer->regions[node].left != node) {
        const struct region_node *cut = &layer->regions[node];
        bool left = coords[cut->dim] < cut->cut;
        if (left && cut->cut < box.hi[cut->dim]) {
            box.hi[cut->dim] = cut->cut;
        } else if (!left && cut->cut > box.lo[cut->dim]) {
            box.lo[cut->dim] = cut->cut;
        }
        node = left ? cut->left : cut->right;
    }
    return run_in_box(grid, &box, coords);
}

/* ——— regions where those of an input lie ——— */

struct following {
    const struct sched_layer *from; /* whose regions they are */
    struct sched_layer *layer;
    const struct tessi_input *input;
};

/* Along one dimension: the middle of the chunks that a task at `at` reads. */
static uint64_t middle_along(const struct following *follow, uint32_t dim, uint64_t at)
{
    const struct tessi_rule *rule = &follow->input->rules.rule[dim];
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    struct tessi_box box;
    coords[rule->dim] = at;
    tessi_rules_inputs(&follow->input->rules, &follow->input->grid, &follow->layer->layer->grid, coords, &box);
    return box.lo[dim] < box.hi[dim] ? box.lo[dim] + (box.hi[dim] - box.lo[dim] - 1) / 2 : 0;
}

/* The first place along the rule's dimension whose middle is not below the cut: rules are monotone. */
static uint64_t cut_along(const struct following *follow, uint32_t dim, uint64_t cut)
{
    uint64_t lo = 0, hi = follow->layer->layer->grid.axis[follow->input->rules.rule[dim].dim].count;
    while (lo < hi) {
        uint64_t middle = lo + (hi - lo) / 2;
        if (middle_along(follow, dim, middle) < cut) {
            lo = middle + 1;
        } else {
            hi = middle;
        }
    }
    return lo;
}

static uint32_t follow_node(const struct following *follow, uint32_t node)
{
    const struct region_node *from = &follow->from->regions[node];
    uint32_t made = add_node(follow->layer);
    if (from->left == node) {
        follow->layer->regions[made] = (struct region_node){.left = made, .right = made, .worker = from->worker};
        return made;
    }
    const struct tessi_rule *rule = &follow->input->rules.rule[from->dim];
    bool fixed = rule->kind == TESSI_RULE_FIXED || rule->kind == TESSI_RULE_ALL; /* all tasks are on one side */
    bool below = fixed && middle_along(follow, from->dim, 0) < from->cut;
    uint64_t cut = fixed ? 0 : cut_along(follow, from->dim, from->cut);
    uint32_t left = fixed && !below ? made : follow_node(follow, from->left);
    uint32_t right = fixed && below ? left : follow_node(follow, from->right);
    left = fixed ? right : left;
    follow->layer->regions[made] =
        (struct region_node){.dim = fixed ? 0 : rule->dim, .cut = cut, .left = left, .right = right};
    return made;
}

bool tessi_regions_follow(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number,
                          const struct sched_layer *from)
{
    const struct tessi_input *input = &layer->layer->input[number];
    bool can = input->rules.table == NULL && from->region_count > 0 && layer->layer->grid.ndim > 0 &&
               tessi_grid_equal(&from->layer->grid, &input->grid);
    for (uint32_t d = 0; can && d < input->rules.ndim; d++) {
        enum tessi_rule_kind kind = input->rules.rule[d].kind;
        can = kind != TESSI_RULE_OFFSET && (layer->layer->op != TESSI_OP_REDUCE || kind != TESSI_RULE_ALL);
    }
    if (!can) {
        return false;
    }
    struct following follow = {from, layer, input};
    (void)follow_node(&follow, 0);
    uint64_t runs = tessi_regions_runs(layer);
    if (runs > sched->lookups) {
        layer->region_count = 0;
        return false;
    }
    sched->lookups -= runs;
    layer->placement = PLACE_REGIONS;
    layer->place_depth = 0;
    return true;
}
