/* Through which grids an array goes from one grid to another.
 *
 * A block of the new grid that is read from whole blocks of the old one makes each old block travel, or come back from
 * disk, once for every new block that takes a part of it. Where many take a part of many, as from whole rows to whole
 * columns, the array goes through pieces: the common refinement of both grids. A piece lies in one old and in one new
 * block, so it is made where the old block is, and moves once. Pieces that would be tiny are avoided by joining
 * neighbouring blocks on one side or both before the cut and cutting them after it, which moves nothing, and
 * where that does not suffice by going through a grid half way. All of it follows from shapes. */
#ifndef TESSI_GRAPH_RECHUNK_H
#define TESSI_GRAPH_RECHUNK_H

#include "core/array/shape.h"

#define TESSI_RECHUNK_GRIDS_MAX 16

struct tessi_rechunk {
    uint32_t count; /* ≥ 1 */
    struct tessi_grid grid[TESSI_RECHUNK_GRIDS_MAX]; /* owned; each is read from the one before; the last is the new one */
};

/* Both grids are of one shape. */
void tessi_rechunk_plan(const struct tessi_grid *from, const struct tessi_grid *to, size_t element_bytes,
                        struct tessi_rechunk *plan);
void tessi_rechunk_fini(struct tessi_rechunk *plan);

/* Blocks that exchange elements with each other and with no others, if all boundaries were even. */
struct tessi_exchange {
    double groups;
    double bytes; /* of the elements of one */
};
struct tessi_exchange tessi_rechunk_exchange(const struct tessi_grid *from, const struct tessi_grid *to,
                                             size_t element_bytes);

/* The grid with the boundaries of both. */
void tessi_grid_refine(const struct tessi_grid *a, const struct tessi_grid *b, struct tessi_grid *out);

/* Most output chunks of each dimension that one chunk of the input is cut into, when a slice of one input has at least
 * two for some and each of its blocks reads one block: then true. Else false. */
struct tessi_layer;
bool tessi_layer_splits(const struct tessi_layer *layer, uint64_t most[TESSI_NDIM_MAX]);

#endif
