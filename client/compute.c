/* What materialises: submit, wait, fetch. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/array.h"
#include "client/link.h"
#include "client/npy_io.h"
#include "client/region.h"
#include "client/submit.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"

/* Note a failure in the session, under the name of the function that the user called. */
static tess_status failed(struct tess_session *session, const char *operation, struct tessi_error *error)
{
    tessi_error_prefix(error, "%s", operation);
    return tessi_session_fail(session, error);
}

/* Whether something can be computed of the array. */
static enum tessi_status check_array(const struct tess_array *array, struct tessi_error *error)
{
    if (array == NULL || array->session == NULL) {
        return tessi_fail(error, array == NULL ? TESSI_INVALID : array->status, "%s", tess_array_error(array));
    }
    if (array->node == NULL) {
        return tessi_fail(error, array->status, "%s", array->text);
    }
    if (!tessi_memory_ready(0)) {
        return tessi_plan_starved(error);
    }
    return tessi_session_check(array->session, error);
}

/* As check_array; errors are noted under the operation's name unless they are the array's own poison. */
static tess_status begin(const char *operation, const struct tess_array *array, struct tessi_error *error)
{
    enum tessi_status status = check_array(array, error);
    if (status == TESSI_OK) {
        return TESS_OK;
    }
    if (array == NULL || array->node == NULL) {
        return tessi_session_fail(array != NULL ? array->session : NULL, error);
    }
    return failed(array->session, operation, error);
}

/* As begin, for what is only done with an array that was persisted. */
static tess_status begin_persisted(const char *operation, const struct tess_array *array, struct tessi_error *error)
{
    tess_status status = begin(operation, array, error);
    if (status == TESS_OK && array->node->held == 0) {
        tessi_fail(error, TESSI_INVALID, "the array is not being computed: call tess_persist first");
        status = failed(array->session, operation, error);
    }
    return status;
}

static void set_pending(struct tessi_node *node, uint32_t id)
{
    pthread_mutex_lock(&node->session->lock);
    node->pending = id;
    pthread_mutex_unlock(&node->session->lock);
}

/* A hold that has failed is given up, so that the array can be computed again. */
static void drop_failed_hold(struct tessi_node *node)
{
    struct tessi_link *link = node->session->link;
    if (node->held != 0 && !node->detached && tessi_link_layer_status(link, node->held) != TESSI_OK) {
        uint32_t id = node->held;
        tessi_node_hold(node, 0);
        tessi_link_release(link, &id, 1);
    }
}

/* ——— persisting ——— */

tess_status tess_persist_all(tess_array *const *arrays, size_t count)
{
    struct tessi_error error = {0};
    for (size_t i = 0; i < count; i++) {
        tess_status status = begin(__func__, arrays[i], &error);
        if (status != TESS_OK) {
            return status;
        }
        if (arrays[i]->session != arrays[0]->session) {
            tessi_fail(&error, TESSI_INVALID,
                       "the arrays belong to different sessions: persist those of one at a time");
            return failed(arrays[0]->session, __func__, &error);
        }
    }
    if (count == 0) {
        return TESS_OK;
    }
    struct tess_session *session = arrays[0]->session;
    struct tessi_node **nodes =
        count > SIZE_MAX / sizeof *nodes ? NULL : tessi_try_alloc(count * sizeof(struct tessi_node *));
    if (nodes == NULL) {
        (void)tessi_plan_starved(&error);
        return failed(session, __func__, &error);
    }
    for (size_t i = 0; i < count; i++) {
        nodes[i] = arrays[i]->node;
        drop_failed_hold(nodes[i]);
    }
    struct tessi_plan plan;
    enum tessi_status status = tessi_plan_make(session, nodes, count, &plan, &error);
    status = status == TESSI_OK ? tessi_plan_submit(session, &plan, &error) : status;
    for (size_t i = 0; i < count && status == TESSI_OK; i++) {
        tessi_node_hold(nodes[i], tessi_plan_id(&plan, nodes[i]));
    }
    tessi_plan_fini(&plan);
    tessi_free(nodes);
    return status == TESSI_OK ? TESS_OK : failed(session, __func__, &error);
}

tess_status tess_persist(tess_array *array)
{
    return tess_persist_all(&array, 1);
}

tess_status tess_detach(tess_array *array)
{
    struct tessi_error error = {0};
    tess_status status = begin_persisted(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    if (!array->node->detached) {
        tessi_link_detach(array->session->link, array->node->held);
    }
    return TESS_OK;
}

/* ——— waiting ——— */

struct progress_context {
    struct tess_session *session;
    int64_t start_ns;
};

static void tell_progress(void *context, uint64_t done, uint64_t total, bool finished)
{
    struct progress_context *progress = context;
    tess_progress now = {.done = done,
                         .total = total,
                         .seconds = (double)(tessi_clock_now() - progress->start_ns) / 1e9,
                         .finished = finished};
    progress->session->progress(&now, progress->session->progress_context);
}

static enum tessi_status wait_for(struct tess_session *session, uint32_t id, int64_t timeout_ns,
                                  struct tessi_error *error)
{
    struct progress_context progress = {session, tessi_clock_now()};
    int64_t elapsed_ns = 0;
    enum tessi_status status = tessi_link_wait(
        session->link, id, timeout_ns, session->progress != NULL ? tell_progress : NULL, &progress, &elapsed_ns, error);
    if (status == TESSI_OK) {
        session->seconds = (double)elapsed_ns / 1e9;
    }
    return status;
}

tess_status tess_wait(tess_array *array, uint64_t timeout_ms)
{
    struct tessi_error error = {0};
    tess_status status = begin_persisted(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    bool forever = timeout_ms == 0 || timeout_ms > (uint64_t)(INT64_MAX / TESSI_NS_PER_MS);
    int64_t timeout_ns = forever ? INT64_MAX : (int64_t)timeout_ms * TESSI_NS_PER_MS;
    enum tessi_status waited = wait_for(array->session, array->node->held, timeout_ns, &error);
    if (waited == TESSI_TIMEOUT) {
        return TESS_TIMEOUT; /* an answer, not an error */
    }
    return waited == TESSI_OK ? TESS_OK : failed(array->session, __func__, &error);
}

/* ——— fetching ——— */

#define AT_ONCE_BYTES 65536 /* results that are sent without being asked for */
#define AT_ONCE_BLOCKS 16

static bool is_small(const struct tessi_node *node)
{
    return node->session->progress == NULL && tessi_layer_bytes(node->layer) <= AT_ONCE_BYTES &&
           tessi_layer_tasks(node->layer) <= AT_ONCE_BLOCKS;
}

/* The blocks of a small result are sent by the workers as soon as they have them. The scheduler hears that they are done
 * later than the program. */
static enum tessi_status fetch_at_once(struct tessi_node *node, uint32_t id, tessi_piece_fn *piece, void *context,
                                       struct tessi_error *error)
{
    struct tess_session *session = node->session;
    struct tessi_error why = {0};
    enum tessi_status fetched = tessi_link_fetch_pushed(session->link, id, &node->layer->grid,
                                                        tessi_dtype_size(node->layer->dtype), piece, context, &why);
    if (fetched == TESSI_OK) {
        session->seconds = SECONDS_UNKNOWN;
        return TESSI_OK;
    }
    enum tessi_status status = wait_for(session, id, INT64_MAX, error); /* how it failed, if it did, is said better here */
    return status == TESSI_OK ? tessi_fail(error, fetched, "%s", why.text) : status;
}

/* Compute the node unless it is held, then hand its blocks to `piece`. Who cancels `named` meanwhile cancels it. */
static enum tessi_status materialise(struct tessi_node *node, struct tessi_node *named, tessi_piece_fn *piece,
                                     void *context, struct tessi_error *error)
{
    struct tess_session *session = node->session;
    enum tessi_status status = TESSI_OK;
    drop_failed_hold(node);
    uint32_t id = node->held;
    bool transient = id == 0;
    bool pushed = transient && is_small(node);
    if (transient) {
        struct tessi_plan plan;
        TESSI_TRY(tessi_plan_make(session, &node, 1, &plan, error));
        plan.entries[node->position].layer->push = pushed;
        if (pushed) {
            tessi_link_hold(session->link, true);
        }
        status = tessi_plan_submit(session, &plan, error);
        id = tessi_plan_id(&plan, node);
        tessi_plan_fini(&plan);
        if (status != TESSI_OK) {
            tessi_link_hold(session->link, false);
            return status;
        }
        set_pending(named, id);
    }
    if (pushed) {
        status = fetch_at_once(node, id, piece, context, error);
    } else {
        status = wait_for(session, id, INT64_MAX, error);
        if (status == TESSI_OK) {
            status = tessi_link_fetch(session->link, id, &node->layer->grid, tessi_dtype_size(node->layer->dtype),
                                      piece, context, error);
        }
    }
    if (transient) {
        set_pending(named, 0);
        tessi_link_release_when_done(session->link, id);
    }
cleanup:
    return status;
}

/* Walk over the runs of a piece of a block that are contiguous in the whole array. */
struct scatter {
    const struct tessi_grid *grid; /* of the whole array */
    const struct tessi_grid *part; /* of the box of its blocks that are fetched; the first of them: */
    uint64_t lo[TESSI_NDIM_MAX];
    size_t element_bytes;
    uint64_t index; /* the block that `region` describes, UINT64_MAX: none */
    struct tessi_region region;
    uint8_t *memory; /* NULL: into the file */
    struct tessi_npy_writer *writer;
};

static enum tessi_status scatter_piece(void *context, uint64_t index, uint64_t offset, const void *data, uint64_t size,
                                       struct tessi_error *error)
{
    struct scatter *scatter = context;
    const uint8_t *bytes = data;
    if (scatter->index != index) {
        uint64_t coords[TESSI_NDIM_MAX];
        tessi_grid_coords(scatter->part, index, coords);
        for (uint32_t d = 0; d < scatter->grid->ndim; d++) {
            coords[d] += scatter->lo[d];
        }
        tessi_region_init(&scatter->region, scatter->grid, tessi_grid_index(scatter->grid, coords),
                          scatter->element_bytes);
        scatter->index = index;
    }
    for (uint64_t done = 0; done < size;) {
        uint64_t contiguous;
        uint64_t position = tessi_region_locate(&scatter->region, offset + done, &contiguous);
        uint64_t part = contiguous < size - done ? contiguous : size - done;
        if (scatter->memory != NULL) {
            memcpy(scatter->memory + position, bytes + done, (size_t)part);
        } else {
            enum tessi_status status = tessi_npy_writer_put(scatter->writer, position, bytes + done, part, error);
            if (status != TESSI_OK) {
                return status;
            }
        }
        done += part;
    }
    return TESSI_OK;
}

static struct scatter scatter_to(const struct tessi_node *node)
{
    return (struct scatter){.grid = &node->layer->grid,
                            .part = &node->layer->grid,
                            .element_bytes = tessi_dtype_size(node->layer->dtype),
                            .index = UINT64_MAX};
}

static enum tessi_status read_into(struct tessi_node *node, void *data, struct tessi_error *error)
{
    if (tessi_layer_bytes(node->layer) == 0) {
        return TESSI_OK;
    }
    struct scatter scatter = scatter_to(node);
    scatter.memory = data;
    return materialise(node, node, scatter_piece, &scatter, error);
}

tess_status tess_read(tess_array *array, void *data, uint64_t bytes)
{
    struct tessi_error error = {0};
    tess_status status = begin(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    uint64_t needed = tess_array_bytes(array);
    if (bytes != needed || (data == NULL && needed > 0)) {
        tessi_fail(&error, TESSI_INVALID,
                   "the buffer has %" PRIu64 " bytes and the array %" PRIu64 ": give "
                   "tess_array_bytes(array)",
                   data == NULL ? 0 : bytes, needed);
        return failed(array->session, __func__, &error);
    }
    if (read_into(array->node, data, &error) != TESSI_OK) {
        return failed(array->session, __func__, &error);
    }
    return TESS_OK;
}

tess_status tess_read_scalar(tess_array *array, double *value)
{
    struct tessi_error error = {0};
    double number[2] = {NAN, 0.0};
    if (value != NULL) {
        *value = NAN;
    }
    tess_status status = begin(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    if (value == NULL) {
        tessi_fail(&error, TESSI_INVALID, "value is NULL: give a place for the number");
        return failed(array->session, __func__, &error);
    }
    if (tessi_node_elements(array->node) != 1) {
        tessi_fail(&error, TESSI_INVALID, "the array has %" PRId64 " elements: reduce it to one, or use tess_read",
                   tessi_node_elements(array->node));
        return failed(array->session, __func__, &error);
    }
    bool complex = tessi_dtype_kind(array->node->layer->dtype) == TESSI_KIND_COMPLEX;
    struct tessi_node *converted = tessi_node_astype(array->node, complex ? TESSI_C128 : TESSI_F64, &error);
    enum tessi_status read = converted == NULL ? error.status : read_into(converted, number, &error);
    tessi_node_unref(converted);
    if (read != TESSI_OK) {
        return failed(array->session, __func__, &error);
    }
    *value = number[0];
    return TESS_OK;
}

/* A result that is written to a file need not be held as a whole. Where the workers have no room for that, its halves are
 * computed, written and let go one after the other, and so on down to single blocks. What they share is computed for each. */
struct parts {
    struct tessi_node *node;
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
    struct scatter scatter = scatter_to(node);
    bool whole = tessi_box_volume(box) == tessi_grid_blocks(&node->layer->grid);
    struct tessi_node *part = whole ? tessi_node_ref(node) : tessi_node_box(node, box, error);
    if (part == NULL) {
        return error->status;
    }
    scatter.writer = parts->writer;
    scatter.part = &part->layer->grid;
    memcpy(scatter.lo, box->lo, sizeof scatter.lo);
    enum tessi_status status = materialise(part, node, scatter_piece, &scatter, error);
    tessi_node_unref(part);
    return status;
}

static enum tessi_status write_parts(struct parts *parts, const struct tessi_box *box, struct tessi_error *error)
{
    uint64_t bytes = box_bytes(parts->node, box);
    bool single = tessi_box_volume(box) == 1;
    if (single || bytes < parts->refused_bytes) {
        pthread_mutex_lock(&parts->node->session->lock);
        bool cancelled = parts->node->cancelled;
        pthread_mutex_unlock(&parts->node->session->lock);
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

static void set_in_parts(struct tessi_node *node, bool in_parts)
{
    pthread_mutex_lock(&node->session->lock);
    node->in_parts = in_parts;
    node->cancelled = false;
    pthread_mutex_unlock(&node->session->lock);
}

static enum tessi_status write_elements(struct tessi_node *node, struct tessi_npy_writer *writer,
                                        struct tessi_error *error)
{
    struct parts parts = {.node = node, .writer = writer, .refused_bytes = UINT64_MAX};
    struct tessi_box box = {.ndim = node->layer->grid.ndim};
    for (uint32_t d = 0; d < box.ndim; d++) {
        box.hi[d] = node->layer->grid.axis[d].count;
    }
    set_in_parts(node, true);
    enum tessi_status status = write_parts(&parts, &box, error);
    set_in_parts(node, false);
    return status;
}

static enum tessi_status write_file(struct tessi_node *node, const char *path, struct tessi_error *error)
{
    struct tessi_npy_header header = {.dtype = node->layer->dtype};
    struct tessi_npy_writer *writer = NULL;
    enum tessi_status status;
    tessi_node_shape(node, &header.shape);
    TESSI_TRY(tessi_npy_writer_open(path, &header, &writer, error));
    if (tessi_layer_bytes(node->layer) > 0) {
        TESSI_TRY(write_elements(node, writer, error));
    }
    TESSI_TRY(tessi_npy_writer_commit(writer, error));
cleanup:
    tessi_npy_writer_close(writer);
    return status;
}

tess_status tess_write_npy(tess_array *array, const char *path)
{
    struct tessi_error error = {0};
    tess_status status = begin(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    if (path == NULL || path[0] == 0) {
        tessi_fail(&error, TESSI_INVALID, "the path is empty: name the file to write");
        return failed(array->session, __func__, &error);
    }
    return write_file(array->node, path, &error) == TESSI_OK ? TESS_OK : failed(array->session, __func__, &error);
}

void tess_cancel(tess_array *array)
{
    if (array == NULL || array->node == NULL || array->session->link == NULL) {
        return;
    }
    pthread_mutex_lock(&array->session->lock);
    uint32_t held = array->node->held;
    uint32_t pending = array->node->pending;
    array->node->cancelled = array->node->in_parts;
    pthread_mutex_unlock(&array->session->lock);
    if (held != 0) {
        tessi_link_cancel(array->session->link, held);
    }
    if (pending != 0) {
        tessi_link_cancel(array->session->link, pending);
    }
}
