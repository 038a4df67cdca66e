/* Where the bytes of a block lie in the whole array: blocks are dense, the array is in C order. */
#ifndef TESSI_CLIENT_REGION_H
#define TESSI_CLIENT_REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/array/shape.h"

struct tessi_region {                /* of one block */
    uint64_t bytes;                  /* of the block */
    uint64_t run;                    /* bytes that are contiguous in both */
    uint64_t first;                  /* offset of the block's first byte in the array */
    uint32_t ndim;                   /* outer dimensions, those not inside a run */
    uint64_t count[TESSI_NDIM_MAX];  /* their extents */
    uint64_t stride[TESSI_NDIM_MAX]; /* and strides in the array, bytes */
};

void tessi_region_init(struct tessi_region *region, const struct tessi_grid *grid, uint64_t index,
                       size_t element_bytes);

/* The array's offset of the block's byte `offset` < bytes, and how many bytes follow it there. */
uint64_t tessi_region_locate(const struct tessi_region *region, uint64_t offset, uint64_t *contiguous);

#endif
