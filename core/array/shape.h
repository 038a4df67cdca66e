/* Shapes and chunk grids: arithmetic on metadata, no data.
 *
 * An array of `ndim` dimensions is cut along each axis into chunks; one block is the
 * product of one chunk of each axis. Blocks are numbered in row-major order of their chunk
 * coordinates. An axis is regular (every chunk `chunk` long, the last one shorter) or has
 * explicit boundaries, after slicing or concatenation. */
#ifndef TESSI_ARRAY_SHAPE_H
#define TESSI_ARRAY_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/array/dtype.h"
#include "core/base/status.h"

#define TESSI_NDIM_MAX 8
#define TESSI_CHUNK_MAX INT32_MAX /* LP64 BLAS takes 32-bit dimensions. */

struct tessi_shape {
    uint32_t ndim;
    int64_t dim[TESSI_NDIM_MAX];
};

struct tessi_axis {
    int64_t extent; /* ≥ 0 elements */
    int64_t chunk;  /* > 0: regular; 0: explicit boundaries */
    uint64_t count; /* chunks; an axis of extent 0 has one empty chunk */
    int64_t *bounds; /* explicit: count + 1 ascending offsets from 0 to extent, owned; else NULL */
};

struct tessi_grid {
    uint32_t ndim;
    struct tessi_axis axis[TESSI_NDIM_MAX];
};

/* A box of chunk coordinates: lo ≤ c < hi on each axis. */
struct tessi_box {
    uint32_t ndim;
    uint64_t lo[TESSI_NDIM_MAX];
    uint64_t hi[TESSI_NDIM_MAX];
};

/* Product of the dims. False when a dim is negative or the product exceeds INT64_MAX. */
bool tessi_shape_elements(const struct tessi_shape *shape, int64_t *elements);
bool tessi_shape_equal(const struct tessi_shape *a, const struct tessi_shape *b);
/* "(20000, 512)" into text; returns text. */
const char *tessi_shape_format(const struct tessi_shape *shape, char *text, size_t size);
/* NumPy broadcasting; false when the shapes do not broadcast. */
bool tessi_shape_broadcast(const struct tessi_shape *a, const struct tessi_shape *b, struct tessi_shape *out);

/* Axes: valid input only (extent ≥ 0, chunk > 0, bounds ascending from 0); callers check first. */
struct tessi_axis tessi_axis_regular(int64_t extent, int64_t chunk);
struct tessi_axis tessi_axis_explicit(const int64_t *bounds, uint64_t count); /* copies; becomes regular if it is */
struct tessi_axis tessi_axis_copy(const struct tessi_axis *axis);
void tessi_axis_fini(struct tessi_axis *axis);
int64_t tessi_axis_lo(const struct tessi_axis *axis, uint64_t c);  /* first element of chunk c */
int64_t tessi_axis_hi(const struct tessi_axis *axis, uint64_t c);  /* one past its last */
uint64_t tessi_axis_find(const struct tessi_axis *axis, int64_t position); /* chunk that holds the element */
bool tessi_axis_equal(const struct tessi_axis *a, const struct tessi_axis *b);
int64_t tessi_axis_longest(const struct tessi_axis *axis); /* longest chunk */

/* Grids own their axes' bounds. */
void tessi_grid_regular(struct tessi_grid *grid, const struct tessi_shape *shape, const int64_t *chunk);
void tessi_grid_copy(struct tessi_grid *to, const struct tessi_grid *from);
void tessi_grid_fini(struct tessi_grid *grid);
bool tessi_grid_equal(const struct tessi_grid *a, const struct tessi_grid *b);
void tessi_grid_shape(const struct tessi_grid *grid, struct tessi_shape *shape);
uint64_t tessi_grid_blocks(const struct tessi_grid *grid); /* ndim 0: one block */
void tessi_grid_coords(const struct tessi_grid *grid, uint64_t index, uint64_t *coords);
uint64_t tessi_grid_index(const struct tessi_grid *grid, const uint64_t *coords);
void tessi_grid_block_shape(const struct tessi_grid *grid, uint64_t index, struct tessi_shape *shape);
uint64_t tessi_grid_block_elements(const struct tessi_grid *grid, uint64_t index);
/* Elements of every block when they all have as many; 0: they have not. */
uint64_t tessi_grid_uniform_elements(const struct tessi_grid *grid);
/* Bytes of the largest block of elements of `size` bytes. */
uint64_t tessi_grid_largest_block(const struct tessi_grid *grid, size_t size);

/* "(20000, 512) in chunks of (5000, 512)" into text; returns text. */
const char *tessi_grid_format(const struct tessi_grid *grid, char *text, size_t size);

#define TESSI_BLOCKS_MAX UINT32_MAX /* of one array */

/* Check a grid that came from outside: ndim, extents, chunk limits, products, boundaries. */
enum tessi_status tessi_grid_check(const struct tessi_grid *grid, struct tessi_error *error);

uint64_t tessi_box_volume(const struct tessi_box *box);
/* Walk a box in row-major order: coords starts at lo; false after the last. */
bool tessi_box_next(const struct tessi_box *box, uint64_t *coords);

#endif
