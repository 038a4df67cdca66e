/* What is held, in whole blocks, and how large those are. */
#include "core/base/assert.h"
#include "core/sched/state/state.h"

uint64_t tessi_held_largest_block(const struct tessi_layer *layer)
{
    uint64_t bytes = tessi_dtype_size(layer->dtype);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        bytes *= (uint64_t)tessi_axis_longest(&layer->grid.axis[d]);
    }
    return bytes;
}

uint64_t tessi_held_solid_bytes(const struct tessi_layer *layer)
{
    return tessi_layer_regenerable(layer) ? 0 : tessi_layer_bytes(layer);
}

uint64_t tessi_held_small_blocks(const struct tessi_layer *layer)
{
    return tessi_held_largest_block(layer) < TESSI_BLOCK_SMALL ? tessi_layer_tasks(layer) : 0;
}

void tessi_held_add(struct session *session, const struct tessi_layer *layer)
{
    session->small_blocks += tessi_held_small_blocks(layer);
    session->solid_bytes += tessi_held_solid_bytes(layer);
    session->solid_weight += (double)tessi_held_solid_bytes(layer) * (double)tessi_held_largest_block(layer);
}

void tessi_held_remove(struct session *session, const struct tessi_layer *layer)
{
    TESS_ASSERT(session->small_blocks >= tessi_held_small_blocks(layer));
    TESS_ASSERT(session->solid_bytes >= tessi_held_solid_bytes(layer));
    session->small_blocks -= tessi_held_small_blocks(layer);
    session->solid_bytes -= tessi_held_solid_bytes(layer);
    session->solid_weight -= (double)tessi_held_solid_bytes(layer) * (double)tessi_held_largest_block(layer);
    if (session->solid_bytes == 0 || session->solid_weight < 0) {
        session->solid_weight = 0; /* sums and differences of large numbers are not exact */
    }
}

uint64_t tessi_held_largest_task(const struct tessi_layer *layer)
{
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        const struct tessi_axis *axis = &layer->grid.axis[d];
        int64_t longest = axis->chunk == 0 ? tessi_axis_longest(axis) : 0;
        for (uint64_t c = 0; axis->chunk == 0 && c < axis->count; c++) {
            if (tessi_axis_hi(axis, c) - tessi_axis_lo(axis, c) == longest) {
                coords[d] = c;
                break;
            }
        }
    }
    return tessi_grid_index(&layer->grid, coords);
}
