/* What the user says about shapes and chunks, checked and completed. */
#include <inttypes.h>
#include <math.h>

#include "client/array.h"
#include "core/base/alloc.h"

#define PARTS_TRIED 1000

enum tessi_status tessi_dtype_from_user(tess_dtype dtype, enum tessi_dtype *out, struct tessi_error *error)
{
    if (!tessi_dtype_valid((uint32_t)dtype)) {
        return tessi_fail(error, TESSI_INVALID, "there is no dtype %u: use one of TESS_BOOL to TESS_C128",
                          (uint32_t)dtype);
    }
    *out = (enum tessi_dtype)dtype;
    return TESSI_OK;
}

enum tessi_status tessi_shape_from_user(const tess_shape *shape, struct tessi_shape *out, struct tessi_error *error)
{
    if (shape->ndim > TESSI_NDIM_MAX) {
        return tessi_fail(error, TESSI_INVALID, "%u dimensions: at most %d are supported", shape->ndim, TESSI_NDIM_MAX);
    }
    *out = (struct tessi_shape){.ndim = shape->ndim};
    for (uint32_t d = 0; d < shape->ndim; d++) {
        out->dim[d] = shape->dim[d];
        if (shape->dim[d] < 0) {
            return tessi_fail(error, TESSI_INVALID, "dimension %u is %" PRId64 ": give 0 or more", d, shape->dim[d]);
        }
    }
    int64_t elements;
    if (!tessi_shape_elements(out, &elements) || elements > INT64_MAX / 16) {
        return tessi_fail(error, TESSI_TOO_BIG,
                          "an array of this shape has more elements than the %" PRId64 " that an array may have",
                          INT64_MAX / 16);
    }
    return TESSI_OK;
}

/* Lengths of the axes left to us: near a cube of at most `budget` elements, short axes whole, and the
 * chunks of an axis as equal as they can be. */
static void complete(const struct tessi_shape *shape, uint32_t open_axes, double budget, int64_t *chunk)
{
    while (open_axes != 0) {
        uint32_t shortest = 0;
        bool found = false;
        for (uint32_t d = 0; d < shape->ndim; d++) {
            if ((open_axes >> d & 1u) != 0 && (!found || shape->dim[d] < shape->dim[shortest])) {
                shortest = d;
                found = true;
            }
        }
        double side = pow(budget, 1.0 / __builtin_popcount(open_axes));
        int64_t extent = shape->dim[shortest] > 0 ? shape->dim[shortest] : 1;
        int64_t longest = side < 1.0 ? 1 : side >= (double)TESSI_CHUNK_MAX ? TESSI_CHUNK_MAX : (int64_t)(side + 1e-6);
        int64_t count = (extent - 1) / longest + 1;
        chunk[shortest] = (extent - 1) / count + 1;
        budget /= (double)chunk[shortest];
        open_axes &= ~(1u << shortest);
    }
}

enum tessi_status tessi_chunks_choose(const struct tess_session *session, const struct tessi_shape *shape,
                                      enum tessi_dtype dtype, const tess_shape *chunks, int64_t *chunk,
                                      struct tessi_error *error)
{
    if (chunks->ndim != 0 && chunks->ndim != shape->ndim) {
        return tessi_fail(error, TESSI_INVALID,
                          "chunks for %u dimensions of an array of %u: give one for each, or "
                          "TESS_AUTO",
                          chunks->ndim, shape->ndim);
    }
    uint32_t open_axes = 0;
    double budget = (double)session->chunk_bytes / (double)tessi_dtype_size(dtype);
    for (uint32_t d = 0; d < shape->ndim; d++) {
        int64_t wanted = chunks->ndim == 0 ? 0 : chunks->dim[d];
        int64_t extent = shape->dim[d] > 0 ? shape->dim[d] : 1;
        if (wanted < -1) {
            return tessi_fail(error, TESSI_INVALID,
                              "chunk %" PRId64 " along dimension %u: give a positive length, 0 to "
                              "have it chosen, or -1 for the whole axis",
                              wanted, d);
        }
        if (wanted == 0) {
            open_axes |= 1u << d;
            continue;
        }
        chunk[d] = wanted == -1 || wanted > extent ? extent : wanted;
        if (chunk[d] > TESSI_CHUNK_MAX) {
            return tessi_fail(error, TESSI_TOO_BIG,
                              "a chunk of %" PRId64 " along dimension %u: at most %d, choose "
                              "smaller chunks",
                              chunk[d], d, TESSI_CHUNK_MAX);
        }
        budget /= (double)chunk[d];
    }
    complete(shape, open_axes, budget, chunk);
    return TESSI_OK;
}

void tessi_chunks_mark(struct tessi_node *node, const tess_shape *chunks)
{
    bool chosen = chunks->ndim == 0;
    for (uint32_t d = 0; d < chunks->ndim && d < TESSI_NDIM_MAX; d++) {
        chosen = chosen || chunks->dim[d] == 0;
    }
    if (node != NULL) {
        node->chosen = chosen;
    }
}

/* As a double: it need not fit an integer. */
static double largest_block(const struct tessi_grid *grid)
{
    double elements = 1.0;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        elements *= (double)tessi_axis_longest(&grid->axis[d]);
    }
    return elements;
}

bool tessi_chunks_outgrow(const struct tess_session *session, const struct tessi_grid *grid, size_t size,
                          const struct tessi_grid *a, const struct tessi_grid *b)
{
    double block = largest_block(grid);
    return block * (double)size > (double)session->chunk_bytes && block > largest_block(a) &&
           (b == NULL || block > largest_block(b));
}

/* So many parts of a chunk that none is longer than `most`; if there is such a number near, one that divides it, so that
 * the ends of the old chunks are ends of new ones. */
static int64_t parts_of(int64_t length, int64_t most)
{
    int64_t least = (length - 1) / most + 1;
    for (int64_t parts = least; parts < least + least / 2 + 2; parts++) {
        if (length % parts == 0) {
            return parts;
        }
        if (parts - least == PARTS_TRIED) {
            break;
        }
    }
    return least;
}

static struct tessi_axis split(const struct tessi_axis *axis, int64_t most)
{
    if (axis->bounds == NULL) {
        int64_t longest = tessi_axis_longest(axis);
        return tessi_axis_regular(axis->extent, (longest - 1) / parts_of(longest, most) + 1);
    }
    uint64_t count = 0;
    for (uint64_t c = 0; c < axis->count; c++) {
        count += (uint64_t)((tessi_axis_hi(axis, c) - tessi_axis_lo(axis, c) - 1) / most + 1);
    }
    int64_t *bounds = tessi_alloc((size_t)(count + 1) * sizeof *bounds);
    uint64_t at = 0;
    bounds[0] = 0;
    for (uint64_t c = 0; c < axis->count; c++) {
        int64_t lo = tessi_axis_lo(axis, c), length = tessi_axis_hi(axis, c) - lo, parts = (length - 1) / most + 1;
        for (int64_t p = 1; p <= parts; p++) {
            bounds[++at] = lo + length / parts * p + (length % parts < p ? length % parts : p);
        }
    }
    struct tessi_axis result = tessi_axis_explicit(bounds, count);
    tessi_free(bounds);
    return result;
}

bool tessi_chunks_bound(const struct tess_session *session, struct tessi_grid *grid, size_t size)
{
    struct tessi_shape longest = {.ndim = grid->ndim};
    int64_t chunk[TESSI_NDIM_MAX];
    double budget = (double)session->chunk_bytes / (double)size;
    if (largest_block(grid) <= budget) {
        return false;
    }
    for (uint32_t d = 0; d < grid->ndim; d++) {
        longest.dim[d] = tessi_axis_longest(&grid->axis[d]);
    }
    complete(&longest, (1u << grid->ndim) - 1, budget, chunk);
    for (uint32_t d = 0; d < grid->ndim; d++) {
        if (chunk[d] < longest.dim[d]) {
            struct tessi_axis finer = split(&grid->axis[d], chunk[d]);
            tessi_axis_fini(&grid->axis[d]);
            grid->axis[d] = finer;
        }
    }
    return true;
}
