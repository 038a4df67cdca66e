#include "core/array/shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

/* So many elements of the widest type still have a number of bytes that fits an int64_t. */
#define ELEMENTS_MAX (INT64_MAX / 16)

bool tessi_shape_elements(const struct tessi_shape *shape, int64_t *elements)
{
    int64_t product = 1;
    bool empty = false;
    bool overflow = false;
    for (uint32_t d = 0; d < shape->ndim; d++) {
        if (shape->dim[d] < 0) {
            return false;
        }
        empty = empty || shape->dim[d] == 0;
        overflow = overflow || __builtin_mul_overflow(product, shape->dim[d], &product);
    }
    *elements = empty ? 0 : product;
    return empty || !overflow;
}

bool tessi_shape_equal(const struct tessi_shape *a, const struct tessi_shape *b)
{
    return a->ndim == b->ndim && (a->ndim == 0 || memcmp(a->dim, b->dim, a->ndim * sizeof a->dim[0]) == 0);
}

const char *tessi_shape_format(const struct tessi_shape *shape, char *text, size_t size)
{
    /* Eight dimensions of at most 20 characters and their separators always fit. */
    char full[8 + TESSI_NDIM_MAX * 24];
    size_t used = 1;
    full[0] = '(';
    for (uint32_t d = 0; d < shape->ndim; d++) {
        used += (size_t)snprintf(full + used, sizeof full - used, "%s%" PRId64, d > 0 ? ", " : "", shape->dim[d]);
    }
    (void)snprintf(full + used, sizeof full - used, "%s", shape->ndim == 1 ? ",)" : ")");
    (void)snprintf(text, size, "%s", full);
    return text;
}

bool tessi_shape_broadcast(const struct tessi_shape *a, const struct tessi_shape *b, struct tessi_shape *out)
{
    struct tessi_shape result = {.ndim = a->ndim > b->ndim ? a->ndim : b->ndim};
    for (uint32_t d = 0; d < result.ndim; d++) {
        uint32_t missing_a = result.ndim - a->ndim;
        uint32_t missing_b = result.ndim - b->ndim;
        int64_t dim_a = d < missing_a ? 1 : a->dim[d - missing_a];
        int64_t dim_b = d < missing_b ? 1 : b->dim[d - missing_b];
        if (dim_a != dim_b && dim_a != 1 && dim_b != 1) {
            return false;
        }
        result.dim[d] = dim_a == 1 ? dim_b : dim_a;
    }
    *out = result;
    return true;
}

static uint64_t regular_count(int64_t extent, int64_t chunk)
{
    return extent == 0 ? 1 : (uint64_t)((extent - 1) / chunk) + 1;
}

struct tessi_axis tessi_axis_regular(int64_t extent, int64_t chunk)
{
    TESS_ASSERT(extent >= 0 && chunk > 0);
    return (struct tessi_axis){.extent = extent, .chunk = chunk, .count = regular_count(extent, chunk)};
}

static bool bounds_are_regular(const int64_t *bounds, uint64_t count)
{
    int64_t chunk = bounds[1];
    for (uint64_t c = 1; c + 1 < count; c++) {
        if (bounds[c + 1] - bounds[c] != chunk) {
            return false;
        }
    }
    return bounds[count] - bounds[count - 1] <= chunk;
}

struct tessi_axis tessi_axis_explicit(const int64_t *bounds, uint64_t count)
{
    TESS_ASSERT(count >= 1 && bounds[0] == 0);
    if (bounds_are_regular(bounds, count)) {
        return tessi_axis_regular(bounds[count], bounds[1] > 0 ? bounds[1] : 1);
    }
    return (struct tessi_axis){
        .extent = bounds[count],
        .count = count,
        .bounds = tessi_memdup(bounds, (size_t)(count + 1) * sizeof *bounds),
    };
}

struct tessi_axis tessi_axis_copy(const struct tessi_axis *axis)
{
    struct tessi_axis copy = *axis;
    if (axis->bounds != NULL) {
        copy.bounds = tessi_memdup(axis->bounds, (size_t)(axis->count + 1) * sizeof *axis->bounds);
    }
    return copy;
}

void tessi_axis_fini(struct tessi_axis *axis)
{
    tessi_free(axis->bounds);
    axis->bounds = NULL;
}

int64_t tessi_axis_lo(const struct tessi_axis *axis, uint64_t c)
{
    TESS_ASSERT(c < axis->count);
    return axis->bounds != NULL ? axis->bounds[c] : (int64_t)c * axis->chunk;
}

int64_t tessi_axis_hi(const struct tessi_axis *axis, uint64_t c)
{
    TESS_ASSERT(c < axis->count);
    if (axis->bounds != NULL) {
        return axis->bounds[c + 1];
    }
    return c + 1 == axis->count ? axis->extent : (int64_t)(c + 1) * axis->chunk;
}

uint64_t tessi_axis_find(const struct tessi_axis *axis, int64_t position)
{
    TESS_ASSERT(position >= 0 && (position < axis->extent || (position == 0 && axis->extent == 0)));
    if (axis->bounds == NULL) {
        return (uint64_t)(position / axis->chunk);
    }
    uint64_t lo = 0;
    uint64_t hi = axis->count;
    while (hi - lo > 1) {
        uint64_t middle = lo + (hi - lo) / 2;
        if (axis->bounds[middle] <= position) {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    return lo;
}

bool tessi_axis_equal(const struct tessi_axis *a, const struct tessi_axis *b)
{
    if (a->extent != b->extent || a->count != b->count) {
        return false;
    }
    if (a->bounds == NULL && b->bounds == NULL) {
        return a->chunk == b->chunk || a->count == 1;
    }
    for (uint64_t c = 1; c < a->count; c++) {
        if (tessi_axis_lo(a, c) != tessi_axis_lo(b, c)) {
            return false;
        }
    }
    return true;
}

int64_t tessi_axis_longest(const struct tessi_axis *axis)
{
    if (axis->bounds == NULL) {
        return axis->extent < axis->chunk ? axis->extent : axis->chunk;
    }
    int64_t longest = 0;
    for (uint64_t c = 0; c < axis->count; c++) {
        int64_t length = axis->bounds[c + 1] - axis->bounds[c];
        longest = length > longest ? length : longest;
    }
    return longest;
}

void tessi_grid_regular(struct tessi_grid *grid, const struct tessi_shape *shape, const int64_t *chunk)
{
    TESS_ASSERT(shape->ndim <= TESSI_NDIM_MAX);
    *grid = (struct tessi_grid){.ndim = shape->ndim};
    for (uint32_t d = 0; d < shape->ndim; d++) {
        grid->axis[d] = tessi_axis_regular(shape->dim[d], chunk[d]);
    }
}

void tessi_grid_copy(struct tessi_grid *to, const struct tessi_grid *from)
{
    *to = (struct tessi_grid){.ndim = from->ndim};
    for (uint32_t d = 0; d < from->ndim; d++) {
        to->axis[d] = tessi_axis_copy(&from->axis[d]);
    }
}

void tessi_grid_fini(struct tessi_grid *grid)
{
    /* Every axis, not the first ndim ones: a decoder may have filled some before it failed. */
    for (uint32_t d = 0; d < TESSI_NDIM_MAX; d++) {
        tessi_axis_fini(&grid->axis[d]);
    }
    *grid = (struct tessi_grid){0};
}

bool tessi_grid_equal(const struct tessi_grid *a, const struct tessi_grid *b)
{
    if (a->ndim != b->ndim) {
        return false;
    }
    for (uint32_t d = 0; d < a->ndim; d++) {
        if (!tessi_axis_equal(&a->axis[d], &b->axis[d])) {
            return false;
        }
    }
    return true;
}

void tessi_grid_shape(const struct tessi_grid *grid, struct tessi_shape *shape)
{
    *shape = (struct tessi_shape){.ndim = grid->ndim};
    for (uint32_t d = 0; d < grid->ndim; d++) {
        shape->dim[d] = grid->axis[d].extent;
    }
}

uint64_t tessi_grid_blocks(const struct tessi_grid *grid)
{
    uint64_t blocks = 1;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        blocks *= grid->axis[d].count;
    }
    return blocks;
}

void tessi_grid_coords(const struct tessi_grid *grid, uint64_t index, uint64_t *coords)
{
    for (uint32_t d = grid->ndim; d-- > 1;) { /* divisions are most of what a short task's arithmetic costs */
        coords[d] = index % grid->axis[d].count;
        index /= grid->axis[d].count;
    }
    if (grid->ndim > 0) {
        coords[0] = index;
        TESS_ASSERT(index < grid->axis[0].count);
    } else {
        TESS_ASSERT(index == 0);
    }
}

uint64_t tessi_grid_index(const struct tessi_grid *grid, const uint64_t *coords)
{
    uint64_t index = 0;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        TESS_ASSERT(coords[d] < grid->axis[d].count);
        index = index * grid->axis[d].count + coords[d];
    }
    return index;
}

void tessi_grid_block_shape(const struct tessi_grid *grid, uint64_t index, struct tessi_shape *shape)
{
    uint64_t coords[TESSI_NDIM_MAX];
    tessi_grid_coords(grid, index, coords);
    *shape = (struct tessi_shape){.ndim = grid->ndim};
    for (uint32_t d = 0; d < grid->ndim; d++) {
        shape->dim[d] = tessi_axis_hi(&grid->axis[d], coords[d]) - tessi_axis_lo(&grid->axis[d], coords[d]);
    }
}

uint64_t tessi_grid_block_elements(const struct tessi_grid *grid, uint64_t index)
{
    struct tessi_shape shape;
    tessi_grid_block_shape(grid, index, &shape);
    uint64_t elements = 1;
    for (uint32_t d = 0; d < shape.ndim; d++) {
        elements *= (uint64_t)shape.dim[d];
    }
    return elements;
}

uint64_t tessi_grid_uniform_elements(const struct tessi_grid *grid)
{
    uint64_t elements = 1;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        const struct tessi_axis *axis = &grid->axis[d];
        if (axis->chunk == 0 || (axis->count > 1 && axis->extent % axis->chunk != 0)) {
            return 0;
        }
        elements *= (uint64_t)(axis->count > 1 ? axis->chunk : axis->extent);
    }
    return elements;
}

uint64_t tessi_grid_largest_block(const struct tessi_grid *grid, size_t size)
{
    uint64_t bytes = size;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        bytes *= (uint64_t)tessi_axis_longest(&grid->axis[d]);
    }
    return bytes;
}

const char *tessi_grid_format(const struct tessi_grid *grid, char *text, size_t size)
{
    struct tessi_shape shape, chunks;
    char whole[8 + TESSI_NDIM_MAX * 24], parts[sizeof whole];
    tessi_grid_shape(grid, &shape);
    chunks = shape;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        chunks.dim[d] = tessi_axis_longest(&grid->axis[d]);
    }
    (void)snprintf(text, size, "%s in chunks of %s", tessi_shape_format(&shape, whole, sizeof whole),
                   tessi_shape_format(&chunks, parts, sizeof parts));
    return text;
}

static enum tessi_status check_regular(const struct tessi_axis *axis, uint32_t d, struct tessi_error *error)
{
    if (axis->bounds != NULL) {
        return tessi_fail(error, TESSI_INVALID, "axis %u has both a chunk length and boundaries: give one of them", d);
    }
    if (axis->chunk < 0 || axis->chunk > TESSI_CHUNK_MAX) {
        return tessi_fail(error, TESSI_INVALID,
                          "axis %u: chunk length %" PRId64 " is not within 1 and %d: choose smaller chunks", d,
                          axis->chunk, TESSI_CHUNK_MAX);
    }
    if (axis->count != regular_count(axis->extent, axis->chunk)) {
        return tessi_fail(error, TESSI_INVALID,
                          "axis %u: %" PRIu64 " chunks of %" PRId64 " do not make an extent of %" PRId64
                          ": count them again",
                          d, axis->count, axis->chunk, axis->extent);
    }
    return TESSI_OK;
}

static enum tessi_status check_explicit(const struct tessi_axis *axis, uint32_t d, struct tessi_error *error)
{
    if (axis->bounds == NULL || axis->count == 0) {
        return tessi_fail(error, TESSI_INVALID,
                          "axis %u has neither a chunk length nor boundaries: give one of them", d);
    }
    if (axis->bounds[0] != 0 || axis->bounds[axis->count] != axis->extent) {
        return tessi_fail(error, TESSI_INVALID,
                          "axis %u: the boundaries do not run from 0 to the extent %" PRId64
                          ": give the first and the last one too",
                          d, axis->extent);
    }
    if (axis->extent == 0 && axis->count == 1) {
        return TESSI_OK;
    }
    for (uint64_t c = 0; c < axis->count; c++) {
        int64_t lo = axis->bounds[c];
        int64_t hi = axis->bounds[c + 1];
        if (lo < 0 || hi <= lo || hi - lo > TESSI_CHUNK_MAX) {
            return tessi_fail(error, TESSI_INVALID,
                              "axis %u: chunk %" PRIu64 " from %" PRId64 " to %" PRId64
                              " is empty, reversed or longer than %d: give ascending boundaries",
                              d, c, lo, hi, TESSI_CHUNK_MAX);
        }
    }
    return TESSI_OK;
}

enum tessi_status tessi_grid_check(const struct tessi_grid *grid, struct tessi_error *error)
{
    if (grid->ndim > TESSI_NDIM_MAX) {
        return tessi_fail(error, TESSI_INVALID, "grid of %u dimensions: at most %d are supported, reshape the array",
                          grid->ndim, TESSI_NDIM_MAX);
    }
    int64_t product = 1;
    uint64_t blocks = 1;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        const struct tessi_axis *axis = &grid->axis[d];
        if (axis->extent < 0) {
            return tessi_fail(error, TESSI_INVALID, "axis %u has the negative extent %" PRId64 ": give 0 or more", d,
                              axis->extent);
        }
        enum tessi_status status =
            axis->chunk != 0 ? check_regular(axis, d, error) : check_explicit(axis, d, error);
        if (status != TESSI_OK) {
            return status;
        }
        /* Empty axes count as one here, so that no partial product of the others can overflow either. */
        int64_t extent = axis->extent > 0 ? axis->extent : 1;
        if (product > ELEMENTS_MAX / extent) {
            return tessi_fail(error, TESSI_TOO_BIG,
                              "grid has more than %" PRId64 " elements at axis %u: use a smaller array",
                              (int64_t)ELEMENTS_MAX, d);
        }
        product *= extent;
        blocks = axis->count > TESSI_BLOCKS_MAX / blocks ? TESSI_BLOCKS_MAX + UINT64_C(1) : blocks * axis->count;
        if (blocks > TESSI_BLOCKS_MAX) {
            break;
        }
    }
    if (blocks > TESSI_BLOCKS_MAX) {
        char text[512];
        return tessi_fail(error, TESSI_TOO_BIG, "%s would be more than %" PRIu32 " blocks: use larger chunks",
                          tessi_grid_format(grid, text, sizeof text), (uint32_t)TESSI_BLOCKS_MAX);
    }
    return TESSI_OK;
}

uint64_t tessi_box_volume(const struct tessi_box *box)
{
    uint64_t volume = 1;
    for (uint32_t d = 0; d < box->ndim; d++) {
        volume *= box->hi[d] > box->lo[d] ? box->hi[d] - box->lo[d] : 0;
    }
    return volume;
}

bool tessi_box_next(const struct tessi_box *box, uint64_t *coords)
{
    for (uint32_t d = box->ndim; d-- > 0;) {
        if (++coords[d] < box->hi[d]) {
            return true;
        }
        coords[d] = box->lo[d];
    }
    return false;
}
