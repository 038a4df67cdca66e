/* Seeded random samples for property tests: numbers, axes and grids small enough for brute force. */
#ifndef TESTS_UNIT_SAMPLE_H
#define TESTS_UNIT_SAMPLE_H

#include <stdint.h>
#include <stdlib.h>

#include "core/array/shape.h"

struct sample {
    uint64_t state;
};

/* SplitMix64 by Sebastiano Vigna, public domain. */
static inline uint64_t sample_next(struct sample *sample)
{
    uint64_t z = (sample->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* lo ≤ value ≤ hi */
static inline int64_t sample_between(struct sample *sample, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(sample_next(sample) % (uint64_t)(hi - lo + 1));
}

/* A partition of `extent` elements: regular or by boundaries. */
static inline struct tessi_axis sample_axis_of(struct sample *sample, int64_t extent)
{
    int64_t bounds[65] = {0};
    uint64_t count = 0;
    if (extent == 0 || extent > 64 || sample_next(sample) % 2 == 0) {
        return tessi_axis_regular(extent, sample_between(sample, 1, extent + 2));
    }
    while (bounds[count] < extent) {
        bounds[count + 1] = bounds[count] + sample_between(sample, 1, extent - bounds[count]);
        count++;
    }
    return tessi_axis_explicit(bounds, count);
}

static inline struct tessi_axis sample_axis(struct sample *sample, int64_t extent_max)
{
    /* Empty axes are rare in nature and are wanted often here. */
    int64_t extent = sample_next(sample) % 8 == 0 ? 0 : sample_between(sample, 1, extent_max);
    return sample_axis_of(sample, extent);
}

static inline void sample_grid(struct sample *sample, uint32_t ndim, int64_t extent_max, struct tessi_grid *grid)
{
    *grid = (struct tessi_grid){.ndim = ndim};
    for (uint32_t d = 0; d < ndim; d++) {
        grid->axis[d] = sample_axis(sample, extent_max);
    }
}

#endif
