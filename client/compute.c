/* What materialises: submit, wait, fetch. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/compute.h"
#include "client/link.h"
#include "client/submit.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"

tess_status tessi_compute_failed(struct tess_session *session, const char *operation, struct tessi_error *error)
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

tess_status tessi_compute_begin(const char *operation, const struct tess_array *array, struct tessi_error *error)
{
    enum tessi_status status = check_array(array, error);
    if (status == TESSI_OK) {
        return TESS_OK;
    }
    if (array == NULL || array->node == NULL) {
        return tessi_session_fail(array != NULL ? array->session : NULL, error);
    }
    return tessi_compute_failed(array->session, operation, error);
}

/* As begin, for what is only done with an array that was persisted. */
static tess_status begin_persisted(const char *operation, const struct tess_array *array, struct tessi_error *error)
{
    tess_status status = tessi_compute_begin(operation, array, error);
    if (status == TESS_OK && array->node->held == 0) {
        tessi_fail(error, TESSI_INVALID, "the array is not being computed: call tess_persist first");
        status = tessi_compute_failed(array->session, operation, error);
    }
    return status;
}

/* From now on tess_cancel knows what is computed; what it was told before is done now. */
static void set_pending(struct tessi_node *node, uint32_t id)
{
    pthread_mutex_lock(&node->session->lock);
    node->pending = id;
    bool cancelled = node->in_parts && node->cancelled;
    pthread_mutex_unlock(&node->session->lock);
    if (id != 0 && cancelled) {
        tessi_link_cancel(node->session->link, id);
    }
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
        tess_status status = tessi_compute_begin(__func__, arrays[i], &error);
        if (status != TESS_OK) {
            return status;
        }
        if (arrays[i]->session != arrays[0]->session) {
            tessi_fail(&error, TESSI_INVALID,
                       "the arrays belong to different sessions: persist those of one at a time");
            return tessi_compute_failed(arrays[0]->session, __func__, &error);
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
        return tessi_compute_failed(session, __func__, &error);
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
    return status == TESSI_OK ? TESS_OK : tessi_compute_failed(session, __func__, &error);
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
    return waited == TESSI_OK ? TESS_OK : tessi_compute_failed(array->session, __func__, &error);
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

/* Blocks are fetched while others are being made. */
static enum tessi_status fetch_as_made(struct tessi_node *node, uint32_t id, tessi_piece_fn *piece, void *context,
                                       struct tessi_error *error)
{
    struct tess_session *session = node->session;
    struct tessi_error why = {0};
    enum tessi_status fetched = tessi_link_fetch(session->link, id, &node->layer->grid,
                                                 tessi_dtype_size(node->layer->dtype), piece, context, &why);
    if (fetched == TESSI_OK) {
        return wait_for(session, id, INT64_MAX, error); /* the scheduler is about to say so */
    }
    enum tessi_status status = tessi_link_layer_failure(session->link, id, error);
    return status != TESSI_OK ? status : tessi_fail(error, fetched, "%s", why.text);
}

enum tessi_status tessi_materialise(struct tessi_node *node, struct tessi_node *named, bool as_made,
                                    tessi_piece_fn *piece, void *context, struct tessi_error *error)
{
    struct tess_session *session = node->session;
    enum tessi_status status = TESSI_OK;
    drop_failed_hold(named);
    uint32_t id = node->held;
    bool transient = id == 0;
    bool pushed = transient && piece != NULL && is_small(node);
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
    } else if (as_made && session->progress == NULL) {
        status = fetch_as_made(node, id, piece, context, error);
    } else {
        status = wait_for(session, id, INT64_MAX, error);
        if (status == TESSI_OK && piece != NULL) {
            status = tessi_link_fetch(session->link, id, &node->layer->grid, tessi_dtype_size(node->layer->dtype),
                                      piece, context, error);
        }
    }
    if (transient) {
        set_pending(named, 0);
        if (status == TESSI_OK) {
            tessi_link_release_when_done(session->link, id);
        } else {
            tessi_link_release(session->link, &id, 1); /* it may be under way, and nobody will take what is left */
        }
    }
cleanup:
    return status;
}

enum tessi_status tessi_scatter_piece(void *context, uint64_t index, uint64_t offset, const void *data, uint64_t size,
                                      struct tessi_error *error)
{
    struct tessi_scatter *scatter = context;
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

struct tessi_scatter tessi_scatter_of(const struct tessi_node *node)
{
    return (struct tessi_scatter){.grid = &node->layer->grid,
                                  .part = &node->layer->grid,
                                  .element_bytes = tessi_dtype_size(node->layer->dtype),
                                  .index = UINT64_MAX};
}

static enum tessi_status read_into(struct tessi_node *node, void *data, struct tessi_error *error)
{
    if (tessi_layer_bytes(node->layer) == 0) {
        return TESSI_OK;
    }
    struct tessi_scatter scatter = tessi_scatter_of(node);
    scatter.memory = data;
    return tessi_materialise(node, node, false, tessi_scatter_piece, &scatter, error);
}

tess_status tess_read(tess_array *array, void *data, uint64_t bytes)
{
    struct tessi_error error = {0};
    tess_status status = tessi_compute_begin(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    uint64_t needed = tess_array_bytes(array);
    if (bytes != needed || (data == NULL && needed > 0)) {
        tessi_fail(&error, TESSI_INVALID,
                   "the buffer has %" PRIu64 " bytes and the array %" PRIu64 ": give "
                   "tess_array_bytes(array)",
                   data == NULL ? 0 : bytes, needed);
        return tessi_compute_failed(array->session, __func__, &error);
    }
    if (read_into(array->node, data, &error) != TESSI_OK) {
        return tessi_compute_failed(array->session, __func__, &error);
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
    tess_status status = tessi_compute_begin(__func__, array, &error);
    if (status != TESS_OK) {
        return status;
    }
    if (value == NULL) {
        tessi_fail(&error, TESSI_INVALID, "value is NULL: give a place for the number");
        return tessi_compute_failed(array->session, __func__, &error);
    }
    if (tessi_node_elements(array->node) != 1) {
        tessi_fail(&error, TESSI_INVALID, "the array has %" PRId64 " elements: reduce it to one, or use tess_read",
                   tessi_node_elements(array->node));
        return tessi_compute_failed(array->session, __func__, &error);
    }
    bool complex = tessi_dtype_kind(array->node->layer->dtype) == TESSI_KIND_COMPLEX;
    struct tessi_node *converted = tessi_node_astype(array->node, complex ? TESSI_C128 : TESSI_F64, &error);
    enum tessi_status read = converted == NULL ? error.status : read_into(converted, number, &error);
    tessi_node_unref(converted);
    if (read != TESSI_OK) {
        return tessi_compute_failed(array->session, __func__, &error);
    }
    *value = number[0];
    return TESS_OK;
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
