/* The global topological order, computed and never stored.
 *
 * The layers of a submission fall into groups: trees of layers with one consumer each, down to a
 * root that has none or several. Groups follow each other; within a group a task comes right
 * before the first root task that needs it, so that work proceeds depth first and inputs do not
 * pile up.
 *
 * Where the root folds a wider layer, and that perhaps a still wider one, everything would come before the root's few
 * tasks. So the widest of them gives the places: the folds between it and the root, the stem, come right after the last
 * block that they need, and all else comes right before the first task of the stem that needs it.
 *
 * A layer that cuts each block of its input into pieces, which another one joins across more blocks than the workers'
 * memory surely holds, ends its group, and its tasks have the order of its input's blocks: a block is made and cut before
 * the next one is made, whoever will read the pieces first. Else all these blocks would be made, and kept whole, before
 * the first task that joins pieces.
 *
 * The policy chooses which of the groups that could come next does (policy.h). Rules are monotone in
 * each coordinate, so following the lowest corner of the dependents' box gives a lower bound of every
 * dependent's place. A layer that reads itself is a root: its tasks read lower indices, so its own order will
 * do. A task that no root task needs may be
 * wanted itself: it comes before the next one that is needed, or at the end. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/graph/join.h"
#include "core/graph/rechunk.h"
#include "core/sched/order/order.h"
#include "core/sched/order/policy.h"

#define SPLIT_PLACES_MAX (UINT64_C(1) << 40) /* so that the orders of a session never run out */

bool tessi_order_reads_alike(const struct sched_layer *layer, uint32_t number)
{
    const struct tessi_input *input = &layer->layer->input[number];
    bool alike = input->rules.table == NULL && tessi_grid_equal(&input->grid, &layer->layer->grid);
    for (uint32_t d = 0; alike && d < input->grid.ndim; d++) {
        alike = input->rules.rule[d].kind == TESSI_RULE_SAME && input->rules.rule[d].dim == d;
    }
    return alike;
}

bool tessi_order_exchange_fits(const struct tessi_sched *sched, const struct tessi_layer *cuts,
                               const struct tessi_layer *joins)
{
    double bytes = tessi_rechunk_exchange(&cuts->input[0].grid, &joins->grid, tessi_dtype_size(cuts->dtype)).bytes;
    double room = 0, needed = bytes * (double)sched->config.exchange_room;
    for (size_t w = 0; w < sched->worker_count && room < needed; w++) {
        room += sched->workers[w]->alive ? (double)sched->workers[w]->info.memory_bytes : 0;
    }
    return room >= needed;
}

/* Whether the layer ends its group as one that cuts blocks into pieces: for a layer that joins them, or for several. */
static struct order_split *make_split(const struct tessi_sched *sched, const struct sched_layer *layer)
{
    struct order_split split = {.each = 1};
    const struct tessi_layer *joins = layer->consumer_count == 1 ? layer->consumers[0].layer->layer : NULL;
    bool others = joins != NULL && (joins->op != TESSI_OP_REGRID || tessi_layer_joins(joins));
    if (others || !tessi_layer_splits(layer->layer, split.most) ||
        (joins != NULL && tessi_order_exchange_fits(sched, layer->layer, joins))) {
        return NULL;
    }
    for (uint32_t d = 0; d < layer->layer->grid.ndim; d++) {
        if (split.most[d] > SPLIT_PLACES_MAX / split.each) {
            return NULL;
        }
        split.each *= split.most[d];
    }
    uint64_t blocks = tessi_grid_blocks(&layer->layer->input[0].grid);
    return blocks > SPLIT_PLACES_MAX / split.each ? NULL : tessi_memdup(&split, sizeof split);
}

/* NULL: there is none, or it reads by a table. What is joined from blocks and pieces of them has these pieces as its only
 * consumer: what needs a block needs the piece too, in the order of which blocks come. */
static const struct consumer *single_consumer(const struct sched_layer *layer)
{
    const struct consumer *consumer = layer->consumer_count > 0 ? &layer->consumers[0] : NULL;
    for (size_t c = 0; layer->consumer_count == 2 && c < 2; c++) {
        const struct sched_layer *pieces = layer->consumers[c].layer, *joins = layer->consumers[1 - c].layer;
        if (tessi_layer_joins(joins->layer) && joins->inputs[TESSI_JOIN_BLOCKS] == layer &&
            joins->inputs[TESSI_JOIN_PIECES] == pieces && tessi_join_agrees(joins->layer, pieces->layer) &&
            pieces->consumer_count == 1 && pieces->submission == layer->submission &&
            joins->submission == layer->submission) {
            return &layer->consumers[c];
        }
    }
    bool single = layer->consumer_count == 1 && consumer->layer != layer &&
                  consumer->layer->submission == layer->submission &&
                  consumer->layer->layer->input[consumer->input].rules.table == NULL;
    return single ? consumer : NULL;
}

/* How sure it is that a layer's tasks follow each other in the global order as they do in the grid. */
enum in_order { SCATTERED, AS_STEM, ON_STEM };

/* A tree of layers down to its root, while a submission is taken in. */
struct tree {
    uint64_t levels, widest, placed_at;
    uint32_t waits;    /* edges from trees that have no place yet */
    uint32_t readers;  /* head of the list of edges to trees that read this one */
};

struct tree_edge {
    uint32_t reader, next;
};

struct trees {
    struct sched_layer **layers;
    uint32_t count;
    uint32_t *root_of; /* by position, owned */
    enum in_order *in_order; /* by position, owned */
    struct tree *tree; /* by position of the root, owned */
    struct tree_edge *edges; /* owned */
    size_t edge_count, edge_capacity;
    bool irregular;
};

#define NO_EDGE UINT32_MAX

/* The consumer that leads to a layer of pieces which comes before all other consumers: blocks are cut when they are made,
 * not read back for it, whoever needs them later. NULL: there is none. */
static const struct consumer *cutting_consumer(const struct trees *trees, const struct sched_layer *layer)
{
    const struct consumer *cutting = NULL;
    uint32_t last = 0;
    for (size_t c = 0; c < layer->consumer_count; c++) {
        const struct consumer *consumer = &layer->consumers[c];
        uint32_t root = trees->root_of[consumer->layer->order_position];
        bool cuts = consumer->layer != layer && trees->layers[root]->order_split != NULL &&
                    consumer->layer->layer->input[consumer->input].rules.table == NULL;
        if (cuts && (cutting == NULL || root < last)) {
            cutting = consumer;
            last = root;
        }
    }
    for (size_t c = 0; cutting != NULL && c < layer->consumer_count; c++) {
        const struct consumer *consumer = &layer->consumers[c];
        if (consumer != cutting && consumer->layer->order_position <= last) {
            cutting = NULL; /* the pieces may be made of what it makes */
        }
    }
    return cutting;
}

static bool folds(const struct sched_layer *layer, uint32_t number);

/* Of a layer that is derived from this consumer of it. */
static enum in_order in_order(const struct trees *trees, const struct sched_layer *via, uint32_t number)
{
    enum in_order order = trees->in_order[via->order_position];
    if (order == ON_STEM && via->layer->ninputs == 1 && folds(via, number)) {
        return ON_STEM;
    }
    return order != SCATTERED && tessi_order_reads_alike(via, number) ? AS_STEM : SCATTERED;
}

/* Where rows may be scattered over the global order, each is looked at and kept by itself. A layer of too many rows for
 * that is a root: its tasks come before all of their readers. */
static bool rows_are_few(struct tessi_sched *sched, const struct sched_layer *layer)
{
    const struct tessi_grid *grid = &layer->layer->grid;
    uint64_t rows = grid->ndim == 0 ? 1 : layer->tasks / grid->axis[grid->ndim - 1].count;
    if (rows > sched->lookups) {
        return false;
    }
    sched->lookups -= rows > 1 ? rows : 0;
    return true;
}

static void link_layers(struct tessi_sched *sched, struct trees *trees)
{
    for (uint32_t i = trees->count; i-- > 0;) {
        struct sched_layer *layer = trees->layers[i];
        layer->order_levels = 1;
        layer->order_position = i;
        trees->root_of[i] = i;
        layer->order_split = make_split(sched, layer);
        if (layer->order_split != NULL && !rows_are_few(sched, layer)) {
            tessi_free(layer->order_split);
            layer->order_split = NULL;
        }
        const struct consumer *via = layer->order_split == NULL ? single_consumer(layer) : NULL;
        if (via == NULL && layer->order_split == NULL) {
            via = cutting_consumer(trees, layer);
        }
        trees->in_order[i] = via != NULL                  ? in_order(trees, via->layer, via->input)
                             : layer->order_split != NULL ? SCATTERED
                                                          : ON_STEM;
        if (via != NULL && trees->in_order[i] == SCATTERED && !rows_are_few(sched, layer)) {
            trees->in_order[i] = ON_STEM;
            via = NULL;
        }
        if (via != NULL) {
            layer->order_via = via->layer;
            layer->order_input = via->input;
            layer->order_via->order_users++;
            layer->order_depth = layer->order_via->order_depth + 1;
            trees->root_of[i] = trees->root_of[layer->order_via->order_position];
        }
        struct tree *tree = &trees->tree[trees->root_of[i]];
        tree->levels = layer->order_depth + 1 > tree->levels ? layer->order_depth + 1 : tree->levels;
        uint64_t places = layer->tasks;
        if (layer->order_split != NULL) {
            places = tessi_grid_blocks(&layer->layer->input[0].grid) * layer->order_split->each;
        }
        tree->widest = places > tree->widest ? places : tree->widest;
    }
}

/* Of each layer: the most tasks of those that are derived from it, itself included. */
static uint64_t *widths(const struct trees *trees)
{
    uint64_t *width = tessi_zalloc((trees->count + 1) * sizeof *width);
    for (uint32_t i = 0; i < trees->count; i++) { /* what is read stands before its reader */
        const struct sched_layer *layer = trees->layers[i];
        width[i] = layer->tasks > width[i] ? layer->tasks : width[i];
        if (layer->order_via != NULL) {
            uint64_t *reader = &width[layer->order_via->order_position];
            *reader = width[i] > *reader ? width[i] : *reader;
        }
    }
    return width;
}

/* Each task reads a box of the input, and a later task a later one: its last corner is the last of its inputs. */
static bool folds(const struct sched_layer *layer, uint32_t number)
{
    const struct tessi_map_rules *rules = &layer->layer->input[number].rules;
    bool simple = layer->layer->op == TESSI_OP_REDUCE && rules->table == NULL;
    for (uint32_t d = 0; simple && d < rules->ndim; d++) {
        enum tessi_rule_kind kind = rules->rule[d].kind;
        simple = kind == TESSI_RULE_SAME || kind == TESSI_RULE_ALL || kind == TESSI_RULE_GROUP;
    }
    return simple || (layer->layer->op == TESSI_OP_ELEMENTWISE && tessi_order_reads_alike(layer, number));
}

/* The layer that the stem goes on to, the one above which most work lies; NULL: it ends here. */
static struct sched_layer *stem_next(const struct sched_layer *layer, const uint64_t *width)
{
    struct sched_layer *next = NULL;
    for (uint32_t n = 0; n < layer->layer->ninputs; n++) {
        struct sched_layer *input = layer->inputs[n];
        if (input->order_via == layer && folds(layer, input->order_input) &&
            (next == NULL || width[input->order_position] > width[next->order_position])) {
            next = input;
        }
    }
    return next;
}

/* The corners of `layer`, from those of its input on the stem. */
static void make_corners(struct sched_layer *layer, const struct sched_layer *input)
{
    const struct tessi_map_rules *rules = &layer->layer->input[input->order_input].rules;
    const struct tessi_grid *grid = &input->layer->grid;
    uint32_t count = input->order_corners != NULL ? input->order_corner_count : grid->ndim;
    layer->order_corners = tessi_zalloc((count + 1) * sizeof *layer->order_corners);
    layer->order_corner_count = count;
    for (uint32_t d = 0; d < count; d++) {
        struct order_corner corner = {.dim = d, .times = 1};
        if (input->order_corners != NULL) {
            corner = input->order_corners[d];
        } else {
            corner.count = grid->axis[d].count;
        }
        if (!corner.whole) {
            const struct tessi_rule *rule = &rules->rule[corner.dim];
            corner.whole = rule->kind == TESSI_RULE_ALL;
            uint64_t group = rule->kind == TESSI_RULE_GROUP ? (uint64_t)rule->value : 1;
            corner.times = group > corner.count / corner.times ? corner.count + 1 : corner.times * group;
            corner.dim = rule->dim;
        }
        layer->order_corners[d] = corner;
    }
}

/* The stem of a tree: the root, and what it folds down to the widest layer. */
static void grow_stem(struct sched_layer *root, const uint64_t *width)
{
    struct sched_layer *widest = root;
    for (struct sched_layer *at = root; at != NULL; at = stem_next(at, width)) {
        widest = at->tasks > widest->tasks ? at : widest;
    }
    widest->order_stem = true;
    for (struct sched_layer *at = widest; at != root; at = at->order_via) {
        at->order_via->order_stem = true;
        make_corners(at->order_via, at);
    }
}

#define WAY_MAX 32u /* maps on the way to the stem, until there is a jump */
#define JUMP_CHUNKS_MAX 1048576u

/* What comes of chunk `at` of dimension `*dim`, alone, at the layer's next jump or on the stem. */
static uint32_t place_of(const struct sched_layer *layer, uint32_t *dim, uint64_t at)
{
    const struct sched_layer *from = layer;
    while (at != UINT64_MAX && *dim < TESSI_NDIM_MAX && !from->order_stem) {
        if (from != layer && from->order_jump != NULL) {
            uint32_t place = from->order_jump->any ? from->order_jump->place[*dim][at] : ORDER_NOBODY;
            *dim = from->order_jump->dim[*dim];
            return place;
        }
        const struct tessi_input *input = &from->order_via->layer->input[from->order_input];
        from = from->order_via;
        at = tessi_rules_first_along(&input->rules, &input->grid, &from->layer->grid, *dim, at);
        *dim = tessi_rules_follow(&input->rules, *dim) ? input->rules.rule[*dim].dim : TESSI_NDIM_MAX;
    }
    return at < ORDER_NOBODY ? (uint32_t)at : ORDER_NOBODY;
}

/* Rules are monotone in each coordinate, and what several of them lead to is the largest of what each leads to. */
static void make_jump(struct tessi_sched *sched, struct sched_layer *layer)
{
    const struct tessi_grid *grid = &layer->layer->grid;
    uint64_t chunks = 0, coords[TESSI_NDIM_MAX] = {0}, reader[TESSI_NDIM_MAX] = {0};
    for (uint32_t d = 0; d < grid->ndim; d++) {
        chunks += grid->axis[d].count;
    }
    if (chunks > JUMP_CHUNKS_MAX || chunks * WAY_MAX > sched->lookups) {
        return;
    }
    sched->lookups -= chunks > grid->ndim ? chunks * WAY_MAX : 0;
    struct order_jump *made = tessi_zalloc(sizeof *made + chunks * sizeof(uint32_t));
    uint32_t *places = (uint32_t *)(made + 1);
    made->any = true;
    made->to = layer;
    while (!made->to->order_stem) {
        if (made->to->order_jump != NULL) {
            made->any = made->any && tessi_order_jump(made->to, coords, reader);
            made->to = made->to->order_jump->to;
        } else {
            const struct tessi_input *input = &made->to->order_via->layer->input[made->to->order_input];
            made->to = made->to->order_via;
            made->any = made->any && tessi_rules_first_output(&input->rules, &input->grid, &made->to->layer->grid,
                                                              coords, reader);
        }
        memcpy(coords, reader, sizeof coords);
    }
    for (uint32_t d = 0; d < made->to->layer->grid.ndim && made->any; d++) {
        made->any = coords[d] < ORDER_NOBODY;
        made->least[d] = (uint32_t)coords[d];
    }
    for (uint32_t d = 0; d < grid->ndim; d++) {
        made->place[d] = places;
        for (uint64_t c = 0; c < grid->axis[d].count; c++) {
            made->dim[d] = d;
            *places++ = place_of(layer, &made->dim[d], c);
        }
    }
    layer->order_jump = made;
    layer->order_way = 1;
}

static void grow_stems(struct tessi_sched *sched, const struct trees *trees)
{
    uint64_t *width = widths(trees);
    for (uint32_t i = trees->count; i-- > 0;) {
        struct sched_layer *layer = trees->layers[i];
        if (layer->order_via == NULL) {
            grow_stem(layer, width);
        }
        bool alike = !layer->order_stem && tessi_order_reads_alike(layer->order_via, layer->order_input);
        layer->order_at = alike ? layer->order_via->order_at : layer;
        if (layer->order_at == layer && !layer->order_stem) {
            layer->order_way = layer->order_via->order_at->order_way + 1;
            if (layer->order_way > WAY_MAX) {
                make_jump(sched, layer);
            }
        }
    }
    tessi_free(width);
}

/* Which tree reads which other one. */
static void find_edges(struct trees *trees)
{
    for (uint32_t i = 0; i < trees->count; i++) {
        const struct sched_layer *layer = trees->layers[i];
        for (uint32_t n = 0; n < layer->layer->ninputs; n++) {
            const struct sched_layer *input = layer->inputs[n];
            trees->irregular = trees->irregular || layer->layer->input[n].rules.table != NULL;
            if (input->submission != layer->submission) {
                continue;
            }
            uint32_t from = trees->root_of[input->order_position], to = trees->root_of[i];
            if (from != to) {
                tessi_grow(&trees->edges, &trees->edge_capacity, trees->edge_count + 1, sizeof *trees->edges);
                trees->edges[trees->edge_count] = (struct tree_edge){to, trees->tree[from].readers};
                trees->tree[from].readers = (uint32_t)trees->edge_count++;
                trees->tree[to].waits++;
            }
        }
    }
}

/* Trees whose inputs have their place come next, the policy's choice first. All trees of a submission are compared by one
 * policy, that of its last layer. */
static void lay_out(struct tessi_sched *sched, struct trees *trees)
{
    const struct policy *policy = tessi_policy_of(trees->layers[trees->count - 1]);
    struct tessi_heap ready;
    tessi_heap_init(&ready);
    for (uint32_t r = 0; r < trees->count; r++) {
        if (trees->root_of[r] == r && trees->tree[r].waits == 0) {
            tessi_heap_push(&ready, policy->tree_key(trees->layers[r], trees->irregular), r, r);
        }
    }
    while (ready.count > 0) {
        struct tree *tree = &trees->tree[tessi_heap_pop(&ready).value];
        tree->placed_at = sched->order_next;
        sched->order_next += (tree->widest + 1) * tree->levels;
        for (uint32_t e = tree->readers; e != NO_EDGE; e = trees->edges[e].next) {
            uint32_t r = trees->edges[e].reader;
            if (--trees->tree[r].waits == 0) {
                tessi_heap_push(&ready, policy->tree_key(trees->layers[r], trees->irregular), r, r);
            }
        }
    }
    tessi_heap_fini(&ready);
}

void tessi_order_layers(struct tessi_sched *sched, struct sched_layer **layers, size_t count)
{
    if (count == 0) {
        return;
    }
    struct trees trees = {.layers = layers, .count = (uint32_t)count};
    trees.root_of = tessi_alloc(count * sizeof *trees.root_of);
    trees.tree = tessi_alloc(count * sizeof *trees.tree);
    for (size_t i = 0; i < count; i++) {
        trees.tree[i] = (struct tree){.levels = 1, .readers = NO_EDGE};
    }
    trees.in_order = tessi_alloc(count * sizeof *trees.in_order);
    link_layers(sched, &trees);
    grow_stems(sched, &trees);
    find_edges(&trees);
    lay_out(sched, &trees);
    for (size_t i = 0; i < count; i++) {
        const struct tree *tree = &trees.tree[trees.root_of[i]];
        TESS_ASSERT(tree->waits == 0);
        layers[i]->order_levels = tree->levels;
        layers[i]->order_base = tree->placed_at;
        layers[i]->order_end = tree->widest;
        TESS_ASSERT(layers[i]->order_levels > 0 && layers[i]->order_at != NULL);
    }
    tessi_free(trees.root_of);
    tessi_free(trees.in_order);
    tessi_free(trees.tree);
    tessi_free(trees.edges);
}
