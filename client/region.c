#include "client/region.h"

void tessi_region_init(struct tessi_region *region, const struct tessi_grid *grid, uint64_t index, size_t element_bytes)
{
    uint64_t coords[TESSI_NDIM_MAX];
    uint64_t length[TESSI_NDIM_MAX];
    uint64_t stride[TESSI_NDIM_MAX];
    *region = (struct tessi_region){.bytes = element_bytes};
    tessi_grid_coords(grid, index, coords);
    uint64_t along = element_bytes;
    for (uint32_t d = grid->ndim; d-- > 0;) {
        const struct tessi_axis *axis = &grid->axis[d];
        length[d] = (uint64_t)(tessi_axis_hi(axis, coords[d]) - tessi_axis_lo(axis, coords[d]));
        stride[d] = along;
        region->first += (uint64_t)tessi_axis_lo(axis, coords[d]) * along;
        region->bytes *= length[d];
        along *= (uint64_t)axis->extent;
    }
    /* A dimension joins the run as long as the run spans all of the array inside it. */
    uint32_t d = grid->ndim;
    region->run = element_bytes;
    while (d > 0 && stride[d - 1] == region->run) {
        region->run *= length[d - 1];
        d--;
    }
    region->ndim = d;
    for (uint32_t o = 0; o < d; o++) {
        region->count[o] = length[o];
        region->stride[o] = stride[o];
    }
}

uint64_t tessi_region_locate(const struct tessi_region *region, uint64_t offset, uint64_t *contiguous)
{
    uint64_t row = offset / region->run;
    uint64_t within = offset % region->run;
    uint64_t position = region->first + within;
    for (uint32_t d = region->ndim; d-- > 0;) {
        position += row % region->count[d] * region->stride[d];
        row /= region->count[d];
    }
    *contiguous = region->run - within;
    return position;
}
