/* A block as runs of elements that follow each other in the whole array, in the block's order. */
#ifndef TESSI_KERNEL_RUNS_H
#define TESSI_KERNEL_RUNS_H

#include "worker/kernel/operations.h"

struct tessi_runs {
    struct tessi_shape whole, block;
    int64_t lo[TESSI_NDIM_MAX]; /* the block's first element */
    int64_t elements;           /* of the block */
    uint32_t outer; /* dimensions that are walked along; the others lie in the run */
    int64_t run;    /* elements of each */
    int64_t done;   /* elements of the runs before the next */
    int64_t coords[TESSI_NDIM_MAX];
};

static inline void tessi_runs_init(struct tessi_runs *runs, const struct tessi_grid *grid, uint64_t index)
{
    *runs = (struct tessi_runs){.run = 1, .elements = 1};
    tessi_grid_shape(grid, &runs->whole);
    tessi_kernel_block(grid, index, &runs->block, runs->lo);
    runs->outer = runs->whole.ndim;
    bool joins = true; /* trailing dimensions that the block has whole join the run */
    while (runs->outer > 0 && joins) {
        uint32_t d = --runs->outer;
        runs->run *= runs->block.dim[d];
        joins = runs->block.dim[d] == runs->whole.dim[d];
    }
    for (uint32_t d = 0; d < runs->whole.ndim; d++) {
        runs->elements *= runs->block.dim[d];
    }
}

/* The place of the next run's first element in the whole array; false: there is none. */
static inline bool tessi_runs_next(struct tessi_runs *runs, uint64_t *first)
{
    if (runs->done >= runs->elements) {
        return false;
    }
    *first = 0;
    for (uint32_t d = 0; d < runs->whole.ndim; d++) {
        int64_t at = runs->lo[d] + (d < runs->outer ? runs->coords[d] : 0);
        *first = *first * (uint64_t)runs->whole.dim[d] + (uint64_t)at;
    }
    runs->done += runs->run;
    for (uint32_t d = runs->outer; d-- > 0 && ++runs->coords[d] == runs->block.dim[d];) {
        runs->coords[d] = 0;
    }
    return true;
}

#endif
