/* Where the elements of a step lie, and constants of its kernels: what the processor's kernels and a device's have in
 * common, so that both walk in the same order to the same bits. */
#ifndef TESSI_KERNEL_GEOMETRY_H
#define TESSI_KERNEL_GEOMETRY_H

#include "worker/kernel/operations.h"

/* Slice and rechunk: the part of one input block that lies in the output block. Strides and offsets in elements. */
struct tessi_piece {
    uint32_t ndim;
    int64_t count[TESSI_NDIM_MAX];
    int64_t from[TESSI_NDIM_MAX];
    int64_t to[TESSI_NDIM_MAX];
    int64_t from_offset;
    int64_t to_offset;
};
/* The output elements e of the block with start + e·step in the input block; false if there are none. */
bool tessi_regrid_piece(struct tessi_piece *piece, const struct tessi_kernel_step *step);

/* A permuted block: the output's dimensions after joining those that are neighbours on both sides. */
struct tessi_view {
    uint32_t ndim;
    int64_t dim[TESSI_NDIM_MAX];
    int64_t from[TESSI_NDIM_MAX]; /* stride in the input, elements */
    int64_t to[TESSI_NDIM_MAX];   /* stride in the output, elements */
};
void tessi_transpose_view(struct tessi_view *view, const struct tessi_kernel_step *step, const struct tessi_shape *in);

/* The tree of a fold: see worker/kernel/reduce.c. */
#define TESSI_FOLD_LANES 32
#define TESSI_FOLD_LEAF 512
#define TESSI_FOLD_LEAF_ROWS 16
struct tessi_fold_level { /* a dimension of the block after joining neighbours of one sort */
    int64_t count;
    int64_t stride; /* elements of the input */
};
struct tessi_fold_levels {
    uint32_t nfolded;
    struct tessi_fold_level folded[TESSI_NDIM_MAX]; /* outermost first, without a dense run */
    int64_t run;                                    /* elements of the dense run that is folded first; 0: none */
    uint32_t nkept;
    struct tessi_fold_level kept[TESSI_NDIM_MAX];
};
void tessi_reduce_levels(struct tessi_fold_levels *levels, const struct tessi_layer *layer, const struct tessi_shape *in);

/* Random numbers: x = a + b·u, at most `last`: the low end and the width, or mean and standard deviation. */
struct tessi_random_range {
    double a, b, last;
};
void tessi_random_range_of(const struct tessi_layer *layer, struct tessi_random_range *range);

#endif
