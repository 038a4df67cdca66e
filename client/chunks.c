/* What the user says about shapes and chunks, checked and completed. */
#include <inttypes.h>
#include <math.h>

#include "client/array.h"

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
