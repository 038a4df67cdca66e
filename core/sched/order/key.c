/* The place of a task in the global order, computed from what order.c has found out about its layer. */
#include <string.h>

#include "core/base/assert.h"
#include "core/sched/order/order.h"

/* Of the block in the widest layer that is the last one that a task of the stem needs. */
static uint64_t corner_index(const struct sched_layer *stem, const uint64_t coords[TESSI_NDIM_MAX])
{
    uint64_t index = 0;
    for (uint32_t d = 0; d < stem->order_corner_count; d++) {
        const struct order_corner *corner = &stem->order_corners[d];
        uint64_t end = corner->whole ? corner->count : (coords[corner->dim] + 1) * corner->times;
        end = end < corner->count ? end : corner->count;
        index = index * corner->count + (end > 0 ? end - 1 : 0);
    }
    return index;
}

/* After the pieces of all earlier blocks of the input. */
static uint64_t split_place(const struct sched_layer *layer, const uint64_t coords[TESSI_NDIM_MAX])
{
    const struct tessi_input *input = &layer->layer->input[0];
    uint64_t block = 0, within = 0;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        const struct tessi_axis *in = &input->grid.axis[d], *out = &layer->layer->grid.axis[d];
        const struct tessi_rule *rule = &input->rules.rule[d];
        uint64_t from = tessi_axis_find(in, rule->start + rule->step * tessi_axis_lo(out, coords[d]));
        int64_t beyond = tessi_axis_lo(in, from) - rule->start;
        uint64_t first = beyond <= 0 ? 0 : tessi_axis_find(out, (beyond - 1) / rule->step + 1);
        TESS_ASSERT(coords[d] - first < layer->order_split->most[d]);
        block = block * in->count + from;
        within = within * layer->order_split->most[d] + coords[d] - first;
    }
    return block * layer->order_split->each + within;
}

/* From coordinates to those on the stem; false: nobody there needs the block. */
bool tessi_order_jump(const struct sched_layer *layer, const uint64_t coords[TESSI_NDIM_MAX],
                      uint64_t to[TESSI_NDIM_MAX])
{
    const struct order_jump *jump = layer->order_jump;
    for (uint32_t d = 0; d < jump->to->layer->grid.ndim; d++) {
        to[d] = jump->least[d];
    }
    for (uint32_t d = 0; jump->any && d < layer->layer->grid.ndim; d++) {
        uint32_t place = jump->place[d][coords[d]];
        if (place == ORDER_NOBODY) {
            return false;
        }
        if (jump->dim[d] < TESSI_NDIM_MAX && place > to[jump->dim[d]]) {
            to[jump->dim[d]] = place;
        }
    }
    return jump->any;
}

uint64_t tessi_order_of(const struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(index < layer->tasks);
    uint64_t coords[TESSI_NDIM_MAX] = {0}, reader[TESSI_NDIM_MAX] = {0};
    const struct sched_layer *at = layer->order_at;
    uint64_t place = index;
    if (!at->order_stem || at->order_corners != NULL || at->order_split != NULL) {
        bool any = true;
        tessi_grid_coords(&at->layer->grid, index, coords);
        while (any && !at->order_stem) {
            if (at->order_jump != NULL) {
                any = tessi_order_jump(at, coords, reader);
                at = at->order_jump->to;
            } else {
                const struct tessi_input *input = &at->order_via->layer->input[at->order_input];
                at = at->order_via;
                any = tessi_rules_first_output(&input->rules, &input->grid, &at->layer->grid, coords, reader);
            }
            memcpy(coords, reader, sizeof coords);
        }
        place = !any                         ? layer->order_end
                : at->order_split != NULL   ? split_place(at, coords)
                : at->order_corners != NULL ? corner_index(at, coords)
                                             : tessi_grid_index(&at->layer->grid, coords);
    }
    return layer->order_base + place * layer->order_levels + (layer->order_levels - 1 - layer->order_depth);
}
