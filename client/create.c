/* Arrays out of nothing, memory and files. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "client/array.h"
#include "client/link.h"
#include "client/npy_io.h"
#include "core/base/alloc.h"

#define ARANGE_MOST 0x1p53 /* elements of an arange: their numbers are f64 */

/* The layer of a generator with its grid; NULL with `error` for arguments that cannot be. */
static struct tessi_layer *generator(const struct tess_session *session, enum tessi_op op, const tess_shape *shape,
                                     tess_dtype dtype, const tess_shape *chunks, struct tessi_error *error)
{
    struct tessi_shape checked;
    enum tessi_dtype type;
    int64_t chunk[TESSI_NDIM_MAX];
    if (tessi_shape_from_user(shape, &checked, error) != TESSI_OK ||
        tessi_dtype_from_user(dtype, &type, error) != TESSI_OK ||
        tessi_chunks_choose(session, &checked, type, chunks, chunk, error) != TESSI_OK) {
        return NULL;
    }
    struct tessi_layer *layer = tessi_layer_create(0, 0, op, type);
    tessi_grid_regular(&layer->grid, &checked, chunk);
    return layer;
}

static bool is_integer(enum tessi_dtype dtype)
{
    return tessi_dtype_kind(dtype) == TESSI_KIND_SIGNED || tessi_dtype_kind(dtype) == TESSI_KIND_UNSIGNED;
}

/* 2^(bits) as the first value that is too large for the dtype. */
static double integer_limit(enum tessi_dtype dtype)
{
    int bits = (int)tessi_dtype_size(dtype) * 8 - (tessi_dtype_kind(dtype) == TESSI_KIND_SIGNED ? 1 : 0);
    return ldexp(1.0, bits);
}

bool tessi_scalar_is_integer(enum tessi_dtype dtype, double value)
{
    if (!is_integer(dtype)) {
        return false;
    }
    double limit = integer_limit(dtype);
    bool is_signed = tessi_dtype_kind(dtype) == TESSI_KIND_SIGNED;
    return value < limit && value >= (is_signed ? -limit : 0.0) && value == floor(value);
}

struct tessi_scalar tessi_scalar_of(enum tessi_dtype dtype, double value)
{
    switch (tessi_dtype_kind(dtype)) {
    case TESSI_KIND_BOOLEAN:
        return (struct tessi_scalar){.dtype = TESSI_BOOL, .as.u = value != 0.0 ? 1 : 0};
    case TESSI_KIND_SIGNED:
        return (struct tessi_scalar){.dtype = TESSI_I64, .as.i = (int64_t)value};
    case TESSI_KIND_UNSIGNED:
        return (struct tessi_scalar){.dtype = TESSI_U64, .as.u = (uint64_t)value};
    case TESSI_KIND_FLOAT:
    case TESSI_KIND_COMPLEX:
        break;
    }
    return (struct tessi_scalar){.dtype = TESSI_F64, .as.f = value};
}

static enum tessi_status scalar_for(enum tessi_dtype dtype, double value, const char *what, struct tessi_scalar *scalar,
                                    struct tessi_error *error)
{
    if (is_integer(dtype) && !tessi_scalar_is_integer(dtype, value)) {
        return tessi_fail(error, TESSI_INVALID, "%s %g is not a number of dtype %s: choose a float dtype", what, value,
                          tessi_dtype_name(dtype));
    }
    *scalar = tessi_scalar_of(dtype, value);
    return TESSI_OK;
}

static struct tess_array *finish_generator(struct tess_session *session, const char *operation,
                                           struct tessi_layer *layer, const tess_shape *chunks, struct tessi_error *error)
{
    struct tessi_node *node = layer == NULL ? NULL : tessi_node_build(session, layer, NULL, error);
    tessi_chunks_mark(node, chunks);
    return tessi_array_finish(session, operation, node, error);
}

static struct tess_array *full(tess_session *session, const char *operation, tess_shape shape, tess_dtype dtype,
                               double value, tess_shape chunks)
{
    struct tess_array *refused = tessi_session_refuse(session, operation);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_layer *layer = generator(session, TESSI_OP_FULL, &shape, dtype, &chunks, &error);
    if (layer != NULL && scalar_for(layer->dtype, value, "the value", &layer->as.full, &error) != TESSI_OK) {
        tessi_layer_destroy(layer);
        layer = NULL;
    }
    return finish_generator(session, operation, layer, &chunks, &error);
}

struct tessi_node *tessi_node_full_on(struct tess_session *session, const struct tessi_grid *grid,
                                      enum tessi_dtype dtype, double value, struct tessi_error *error)
{
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_FULL, dtype);
    tessi_grid_copy(&layer->grid, grid);
    if (scalar_for(dtype, value, "the value", &layer->as.full, error) != TESSI_OK) {
        tessi_layer_destroy(layer);
        return NULL;
    }
    struct tessi_node *node = tessi_node_build(session, layer, NULL, error);
    tessi_chunks_mark(node, &(tess_shape){0});
    return node;
}

tess_array *tess_zeros(tess_session *session, tess_shape shape, tess_dtype dtype, tess_shape chunks)
{
    return full(session, __func__, shape, dtype, 0.0, chunks);
}

tess_array *tess_ones(tess_session *session, tess_shape shape, tess_dtype dtype, tess_shape chunks)
{
    return full(session, __func__, shape, dtype, 1.0, chunks);
}

tess_array *tess_full(tess_session *session, tess_shape shape, tess_dtype dtype, double value, tess_shape chunks)
{
    return full(session, __func__, shape, dtype, value, chunks);
}

tess_array *tess_scalar(tess_session *session, double value, tess_dtype dtype)
{
    return full(session, __func__, TESS_SHAPE_0D, dtype, value, TESS_AUTO);
}

tess_array *tess_arange(tess_session *session, double start, double stop, double step, tess_dtype dtype,
                        tess_shape chunks)
{
    struct tess_array *refused = tessi_session_refuse(session, __func__);
    if (refused != NULL) {
        return refused;
    }
    double length = ceil((stop - start) / step);
    if (isfinite(length) && length > ARANGE_MOST) {
        return tessi_array_poison(session, __func__, TESSI_TOO_BIG,
                                  "%g to %g by %g has %g elements: at most %g can be told apart by their numbers", start,
                                  stop, step, length, ARANGE_MOST);
    }
    if (!isfinite(length)) {
        return tessi_array_poison(session, __func__, TESSI_INVALID,
                                  "%g to %g by %g has no length: give finite limits and a step that is not 0", start,
                                  stop, step);
    }
    tess_shape shape = TESS_SHAPE(length > 0 ? (int64_t)length : 0);
    struct tessi_error error = {0};
    struct tessi_layer *layer = generator(session, TESSI_OP_ARANGE, &shape, dtype, &chunks, &error);
    if (layer != NULL) {
        enum tessi_dtype type = layer->dtype;
        /* A step may be negative where no element is: an unsigned array counts down too. */
        enum tessi_dtype step_type = is_integer(type) ? TESSI_I64 : type;
        double last = start + (length > 1 ? length - 1 : 0) * step;
        struct tessi_scalar unused;
        if (scalar_for(type, start, "the start", &unused, &error) != TESSI_OK ||
            scalar_for(type, is_integer(type) ? last : 0.0, "the last element", &unused, &error) != TESSI_OK ||
            scalar_for(step_type, start, "the start", &layer->as.arange.start, &error) != TESSI_OK ||
            scalar_for(step_type, step, "the step", &layer->as.arange.step, &error) != TESSI_OK) {
            tessi_layer_destroy(layer);
            layer = NULL;
        }
    }
    return finish_generator(session, __func__, layer, &chunks, &error);
}

tess_array *tess_eye(tess_session *session, int64_t rows, int64_t columns, int64_t diagonal, tess_dtype dtype,
                     tess_shape chunks)
{
    struct tess_array *refused = tessi_session_refuse(session, __func__);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_layer *layer = generator(session, TESSI_OP_EYE, &TESS_SHAPE(rows, columns), dtype, &chunks, &error);
    if (layer != NULL) {
        layer->as.eye.diagonal = diagonal;
    }
    return finish_generator(session, __func__, layer, &chunks, &error);
}

static struct tess_array *random_array(tess_session *session, const char *operation, enum tessi_op op, tess_shape shape,
                                       tess_dtype dtype, double low, double high, uint64_t seed, tess_shape chunks)
{
    struct tess_array *refused = tessi_session_refuse(session, operation);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_layer *layer = generator(session, op, &shape, dtype, &chunks, &error);
    if (layer != NULL) {
        layer->as.random.seed = seed;
        layer->as.random.low = low;
        layer->as.random.high = high;
    }
    return finish_generator(session, operation, layer, &chunks, &error);
}

tess_array *tess_random_uniform(tess_session *session, tess_shape shape, tess_dtype dtype, double low, double high,
                                uint64_t seed, tess_shape chunks)
{
    return random_array(session, __func__, TESSI_OP_UNIFORM, shape, dtype, low, high, seed, chunks);
}

tess_array *tess_random_normal(tess_session *session, tess_shape shape, tess_dtype dtype, double mean, double deviation,
                               uint64_t seed, tess_shape chunks)
{
    return random_array(session, __func__, TESSI_OP_NORMAL, shape, dtype, mean, deviation, seed, chunks);
}

tess_array *tess_from_memory(tess_session *session, const void *data, tess_shape shape, tess_dtype dtype,
                             tess_shape chunks)
{
    struct tess_array *refused = tessi_session_refuse(session, __func__);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_layer *layer = generator(session, TESSI_OP_RECEIVE, &shape, dtype, &chunks, &error);
    struct tessi_node *node = layer == NULL ? NULL : tessi_node_build(session, layer, NULL, &error);
    uint64_t bytes = node == NULL ? 0 : tessi_layer_bytes(node->layer);
    if (bytes > 0 && data == NULL) {
        tessi_fail(&error, TESSI_INVALID, "data is NULL: pass the array's elements");
        tessi_node_unref(node);
        node = NULL;
    } else if (bytes > 0) {
        node->data = tessi_blob_create(node->layer->dtype, data, bytes);
        if (node->data == NULL) {
            tessi_fail(&error, TESSI_NOMEM,
                       "no memory for a copy of %" PRIu64 " bytes: write them to a .npy file and "
                       "use tess_from_npy",
                       bytes);
            tessi_node_unref(node);
            node = NULL;
        }
    }
    tessi_chunks_mark(node, &chunks);
    return tessi_array_finish(session, __func__, node, &error);
}

tess_array *tess_from_npy(tess_session *session, const char *path, tess_shape chunks)
{
    struct tess_array *refused = tessi_session_refuse(session, __func__);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_node *node = tessi_npy_node(session, path, &chunks, &error);
    tessi_chunks_mark(node, &chunks);
    return tessi_array_finish(session, __func__, node, &error);
}
