/* The global topological order, computed and never stored.
 *
 * The layers of a submission fall into groups: trees of layers with one consumer each, down to a
 * root that has none or several. Groups follow each other; within a group a task comes right
 * before the first root task that needs it, so that work proceeds depth first and inputs do not
 * pile up. Rules are monotone in each coordinate, so following the lowest corner of the
 * dependents' box gives a lower bound of every dependent's place. A layer that reads itself is a root:
 * its tasks read lower indices, so its own order will do. A task that no root task needs may be
 * wanted itself: it comes before the next one that is needed, or at the end. */
#include <string.h>

#include "core/base/assert.h"
#include "core/sched/state.h"

uint64_t order_of(const struct sched_layer *layer, uint64_t index)
{
    uint64_t coords[TESSI_NDIM_MAX] = {0}, reader[TESSI_NDIM_MAX] = {0};
    const struct sched_layer *at = layer;
    uint64_t place = index;
    if (at->order_via != NULL) {
        bool any = true;
        tessi_grid_coords(&at->layer->grid, index, coords);
        while (any && at->order_via != NULL) {
            const struct tessi_input *input = &at->order_via->layer->input[at->order_input];
            at = at->order_via;
            any = tessi_rules_first_output(&input->rules, &input->grid, &at->layer->grid, coords, reader);
            memcpy(coords, reader, sizeof coords);
        }
        place = any ? tessi_grid_index(&at->layer->grid, coords) : layer->order_end;
    }
    return layer->order_base + place * layer->order_levels + (layer->order_levels - 1 - layer->order_depth);
}

static bool single_consumer(const struct sched_layer *layer, uint32_t submission)
{
    return layer->consumer_count == 1 && layer->consumers[0].layer != layer &&
           layer->consumers[0].layer->submission == submission &&
           layer->consumers[0].layer->layer->input[layer->consumers[0].input].rules.table == NULL;
}

void order_layers(struct tessi_sched *sched, struct sched_layer **layers, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        struct sched_layer *layer = layers[i];
        layer->order_levels = 1;
        if (single_consumer(layer, layer->submission)) {
            layer->order_via = layer->consumers[0].layer;
            layer->order_input = layer->consumers[0].input;
            layer->order_via->order_users++;
            layer->order_depth = layer->order_via->order_depth + 1;
        }
    }
    for (size_t r = 0; r < count; r++) {
        struct sched_layer *root = layers[r];
        if (root->order_via != NULL) {
            continue;
        }
        uint64_t levels = 1, widest = root->tasks;
        for (int pass = 0; pass < 2; pass++) {
            for (size_t i = 0; i <= r; i++) {
                const struct sched_layer *end = layers[i];
                while (end->order_via != NULL) {
                    end = end->order_via;
                }
                if (end != root) {
                    continue;
                }
                if (pass == 0) {
                    levels = layers[i]->order_depth + 1 > levels ? layers[i]->order_depth + 1 : levels;
                    widest = layers[i]->tasks > widest ? layers[i]->tasks : widest;
                } else {
                    layers[i]->order_levels = levels;
                    layers[i]->order_base = sched->order_next;
                    layers[i]->order_end = widest;
                }
            }
        }
        sched->order_next += (widest + 1) * levels;
    }
}
