/* tess_write_npy. */
#include <string.h>

#include "client/compute.h"

/* A result that is written to a file need not be held as a whole. Where the workers have no room for that, its halves are
 * computed, written and let go one after the other, and so on down to single blocks. What they share is computed for each. */
struct parts {
    struct tessi_node *node;
    struct tessi_node *named; /* whom tess_cancel is told of */
    struct tessi_npy_writer *writer;
    uint64_t refused_bytes; /* the least that was too big */
};

static uint64_t box_bytes(const struct tessi_node *node, const struct tessi_box *box)
{
    uint64_t bytes = tessi_dtype_size(node->layer->dtype);
    for (uint32_t d = 0; d < box->ndim; d++) {
        const struct tessi_axis *axis = &node->layer->grid.axis[d];
        bytes *= (uint64_t)(tessi_axis_hi(axis, box->hi[d] - 1) - tessi_axis_lo(axis, box->lo[d]));
    }
    return bytes;
}

static enum tessi_status write_part(const struct parts *parts, const struct tessi_box *box, struct tessi_error *error)
{
    struct tessi_node *node = parts->node;
    struct tessi_scatter scatter = tessi_scatter_of(node);
    bool whole = tessi_box_volume(box) == tessi_grid_blocks(&node->layer->grid);
    struct tessi_node *part = whole ? tessi_node_ref(node) : tessi_node_box(node, box, error);
    if (part == NULL) {
        return error->status;
    }
    scatter.writer = parts->writer;
    scatter.part = &part->layer->grid;
    memcpy(scatter.lo, box->lo, sizeof scatter.lo);
    enum tessi_status status = tessi_materialise(part, parts->named, true, tessi_scatter_piece, &scatter, error);
    tessi_node_unref(part);
    return status;
}

static enum tessi_status write_parts(struct parts *parts, const struct tessi_box *box, struct tessi_error *error)
{
    uint64_t bytes = box_bytes(parts->node, box);
    bool single = tessi_box_volume(box) == 1;
    if (single || bytes < parts->refused_bytes) {
        pthread_mutex_lock(&parts->named->session->lock);
        bool cancelled = parts->named->cancelled;
        pthread_mutex_unlock(&parts->named->session->lock);
        enum tessi_status status = cancelled ? tessi_fail(error, TESSI_CANCELLED, "cancelled by the program")
                                             : write_part(parts, box, error);
        if (status != TESSI_TOO_BIG || single) {
            return status;
        }
        parts->refused_bytes = bytes;
    }
    struct tessi_box half[2] = {*box, *box};
    uint32_t d = 0;
    while (box->hi[d] - box->lo[d] == 1) {
        d++;
    }
    half[0].hi[d] = half[1].lo[d] = box->lo[d] + (box->hi[d] - box->lo[d]) / 2;
    enum tessi_status status = write_parts(parts, &half[0], error);
    return status == TESSI_OK ? write_parts(parts, &half[1], error) : status;
}

/* ——— by the workers ———
 *
 * Who makes a block writes it, in a task that reads it and that nobody waits for but us. So blocks go to the file as they
 * are made, wherever that is, and nothing of the result is held or sent. */

/* Whether workers can find the file is known when they look for it: then UNREACHABLE, and the client writes. */
static enum tessi_status write_by_workers(struct tessi_node *node, struct tessi_node *named,
                                          const struct tessi_npy_writer *writer, struct tessi_error *error)
{
    struct tess_session *session = node->session;
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_WRITE_NPY, TESSI_BOOL);
    tessi_layer_set_input(layer, 0, node);
    tessi_layer_follow_blocks(layer);
    if (!tessi_npy_writer_share(writer, session->embedded != NULL, layer)) {
        tessi_layer_destroy(layer);
        return TESSI_UNREACHABLE;
    }
    struct tessi_node *written = tessi_node_build(session, layer, &node, error);
    if (written == NULL) {
        return error->status;
    }
    enum tessi_status status = tessi_materialise(written, named, false, NULL, NULL, error);
    tessi_node_unref(written);
    return status == TESSI_AUTH || status == TESSI_NOT_FOUND ? TESSI_UNREACHABLE : status;
}

static void set_in_parts(struct tessi_node *node, bool in_parts)
{
    pthread_mutex_lock(&node->session->lock);
    node->in_parts = in_parts;
    node->cancelled = false;
    pthread_mutex_unlock(&node->session->lock);
}

static struct tessi_box whole_box(const struct tessi_node *node)
{
    struct tessi_box box = {.ndim = node->layer->grid.ndim};
    for (uint32_t d = 0; d < box.ndim; d++) {
        box.hi[d] = node->layer->grid.axis[d].count;
    }
    return box;
}

/* ——— blocks of short rows ———
 *
 * Of a few columns each row is a run of its own in the file, and a call for each takes longer than bringing whole rows
 * together first, in blocks of the same size. */

#define SHORT_RUN_BYTES 4096

static int64_t chunk_of(const struct tessi_axis *axis)
{
    return axis->count == 0 ? 0 : tessi_axis_hi(axis, 0) - tessi_axis_lo(axis, 0);
}

static bool has_short_runs(const struct tessi_node *node)
{
    const struct tessi_grid *grid = &node->layer->grid;
    uint64_t bytes = tessi_dtype_size(node->layer->dtype);
    bool joins = true;
    for (uint32_t d = grid->ndim; joins && d-- > 0;) {
        bytes *= (uint64_t)chunk_of(&grid->axis[d]);
        joins = grid->axis[d].count == 1;
    }
    return !joins && bytes < SHORT_RUN_BYTES;
}

/* A new reference. */
static struct tessi_node *in_long_runs(struct tessi_node *node, struct tessi_error *error)
{
    struct tessi_shape shape;
    struct tessi_grid grid = {0};
    int64_t chunk[TESSI_NDIM_MAX], elements = 1;
    if (!has_short_runs(node)) {
        return tessi_node_ref(node);
    }
    tessi_node_shape(node, &shape);
    for (uint32_t d = 0; d < shape.ndim; d++) {
        elements *= chunk_of(&node->layer->grid.axis[d]);
    }
    for (uint32_t d = shape.ndim; d-- > 0;) {
        chunk[d] = elements < shape.dim[d] ? elements : shape.dim[d];
        elements = elements / chunk[d] > 1 ? elements / chunk[d] : 1;
    }
    tessi_grid_regular(&grid, &shape, chunk);
    struct tessi_node *result = tessi_node_regrid(node, &grid, error);
    tessi_grid_fini(&grid);
    return result;
}

static enum tessi_status write_by_client(struct tessi_node *node, struct tessi_node *rows, struct tessi_npy_writer *writer,
                                         struct tessi_error *error)
{
    struct parts parts = {.node = rows, .named = node, .writer = writer, .refused_bytes = UINT64_MAX};
    struct tessi_box box = whole_box(rows);
    if (rows != node) { /* whole or not at all: a part of it would read nearly all blocks */
        enum tessi_status status = write_part(&parts, &box, error);
        if (status != TESSI_TOO_BIG) {
            return status;
        }
        parts.node = node;
        box = whole_box(node);
    }
    return write_parts(&parts, &box, error);
}

static enum tessi_status write_elements(struct tessi_node *node, struct tessi_npy_writer *writer, bool by_workers,
                                        struct tessi_error *error)
{
    struct tessi_node *rows = in_long_runs(node, error);
    if (rows == NULL) {
        return error->status;
    }
    set_in_parts(node, true);
    enum tessi_status status = by_workers ? write_by_workers(rows, node, writer, error) : TESSI_UNREACHABLE;
    if (status == TESSI_TOO_BIG && rows != node) {
        status = write_by_workers(node, node, writer, error);
    }
    if (status == TESSI_UNREACHABLE || status == TESSI_TOO_BIG) {
        status = write_by_client(node, rows, writer, error);
    }
    set_in_parts(node, false);
    tessi_node_unref(rows);
    return status;
}

static enum tessi_status write_file(struct tessi_node *node, const char *path, struct tessi_error *error)
{
    struct tessi_npy_header header = {.dtype = node->layer->dtype};
    struct tessi_npy_writer *writer = NULL;
    enum tessi_status status;
    bool by_workers = tessi_link_workers_write(node->session->link);
    bool named = by_workers && node->session->embedded == NULL;
    tessi_node_shape(node, &header.shape);
    TESSI_TRY(tessi_npy_writer_open(path, &header, named, &writer, error));
    if (tessi_layer_bytes(node->layer) > 0) {
        TESSI_TRY(write_elements(node, writer, by_workers, error));
    }
    TESSI_TRY(tessi_npy_writer_commit(writer, error));
cleanup:
    tessi_npy_writer_close(writer);
    return status;
}

tess_status tess_write_npy(tess_array *array, const char *path)
{
    struct tessi_error error = {0};
    tess_status status = tessi_compute_begin(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    if (path == NULL || path[0] == 0) {
        tessi_fail(&error, TESSI_INVALID, "the path is empty: name the file to write");
        return tessi_compute_failed(array->session, __func__, &error);
    }
    return write_file(array->node, path, &error) == TESSI_OK ? TESS_OK
                                                             : tessi_compute_failed(array->session, __func__, &error);
}

