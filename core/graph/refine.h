/* The steps of a contraction along k: the common refinement of the chunk boundaries of both
 * operands within a segment of k. Two regular axes need no walk; explicit boundaries do. */
#ifndef TESSI_GRAPH_REFINE_H
#define TESSI_GRAPH_REFINE_H

#include "core/array/shape.h"

struct tessi_piece {
    int64_t lo, hi;   /* elements of k */
    uint64_t a, b;    /* the chunk of either axis that holds them */
};

/* Pieces of [lo, hi), which lies inside both axes of one extent; at least 1, even when lo == hi. */
uint64_t tessi_refine_count(const struct tessi_axis *a, const struct tessi_axis *b, int64_t lo, int64_t hi);
struct tessi_piece tessi_refine_piece(const struct tessi_axis *a, const struct tessi_axis *b, int64_t lo, int64_t hi,
                                      uint64_t n);

#endif
