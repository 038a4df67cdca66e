/* What the program's thread says to the I/O thread, and waits for. */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "client/link.h"
#include "client/link_io.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"

#define STATUS_TIMEOUT_NS (10 * TESSI_NS_PER_S)
#define PEERS_TIMEOUT_NS TESSI_NS_PER_S

uint64_t tessi_link_least_memory(const struct tessi_link *link)
{
    return link->least_memory_bytes;
}

uint32_t tessi_link_id(const struct tessi_link *link)
{
    return link->id;
}

/* The lock is held. */
static enum tessi_status check_fatal(const struct tessi_link *link, struct tessi_error *error)
{
    return link->fatal.status == TESSI_OK ? TESSI_OK : tessi_fail(error, link->fatal.status, "%s", link->fatal.text);
}

enum tessi_status tessi_link_check(struct tessi_link *link, struct tessi_error *error)
{
    pthread_mutex_lock(&link->lock);
    enum tessi_status status = check_fatal(link, error);
    pthread_mutex_unlock(&link->lock);
    return status;
}

static void queue_message(struct tessi_link *link, const struct tessi_message *message)
{
    pthread_mutex_lock(&link->lock);
    tessi_outbound_add(&link->queued, message, NULL);
    pthread_mutex_unlock(&link->lock);
    tessi_poller_wake(link->poller);
}

uint32_t tessi_link_requests(struct tessi_link *link, uint32_t parts)
{
    pthread_mutex_lock(&link->lock);
    uint32_t first = link->next_request + 1;
    link->next_request += parts;
    pthread_mutex_unlock(&link->lock);
    return first;
}

/* The lock is held. */
static void add_wanted(struct tessi_link *link, uint32_t id, uint32_t first, uint32_t request)
{
    tessi_grow(&link->wanted, &link->wanted_capacity, link->wanted_count + 1, sizeof *link->wanted);
    tessi_map_put(&link->wanted_by_id, tessi_link_key(id), (uint32_t)link->wanted_count);
    struct tessi_wanted *wanted = &link->wanted[link->wanted_count++];
    *wanted = (struct tessi_wanted){.id = id, .first = first, .request = request};
    if (first <= link->refused_request && link->refused_request <= request) { /* an earlier part, meanwhile */
        tessi_wanted_fail(wanted, link->refusal.status, link->refusal.text);
    }
}

enum tessi_status tessi_link_submit_part(struct tessi_link *link, const struct tessi_link_part *part,
                                         struct tessi_error *error)
{
    struct tessi_message message = {.type = TESSI_MSG_SUBMIT, .run_id = link->run_id};
    uint32_t request = part->first + part->part;
    message.as.submit.request = request;
    message.as.submit.layers =
        (struct tessi_layer_list){(struct tessi_layer **)(uintptr_t)part->layers, part->layer_count};
    message.as.submit.wanted = (struct tessi_id_list){part->wanted, part->wanted_count};
    struct tessi_buffer probe = {0};
    pthread_mutex_lock(&link->lock);
    enum tessi_status status = check_fatal(link, error);
    if (status == TESSI_OK) {
        status = tessi_message_pack(&probe, &message, error);
    }
    if (status == TESSI_OK) {
        tessi_send_queue_add(&link->queued, probe.data, probe.size, NULL, 0);
        for (size_t i = 0; i < part->wanted_count; i++) {
            add_wanted(link, part->wanted[i], part->first, request);
        }
        for (size_t i = 0; i < part->layer_count; i++) {
            uint32_t served = part->layers[i]->op == TESSI_OP_RECEIVE
                                  ? tessi_map_get(&link->served_by_id, tessi_link_key(part->layers[i]->id))
                                  : TESSI_MAP_NONE;
            if (served != TESSI_MAP_NONE) {
                link->served[served].request = request;
            }
        }
    }
    pthread_mutex_unlock(&link->lock);
    tessi_buffer_fini(&probe);
    tessi_poller_wake(link->poller);
    return status;
}

enum tessi_status tessi_link_submit(struct tessi_link *link, struct tessi_layer *const *layers, size_t layer_count,
                                    const uint32_t *wanted, size_t wanted_count, struct tessi_error *error)
{
    struct tessi_link_part part = {tessi_link_requests(link, 1), 0, layers, layer_count, wanted, wanted_count};
    return tessi_link_submit_part(link, &part, error);
}

void tessi_link_release(struct tessi_link *link, const uint32_t *ids, size_t count)
{
    if (link == NULL || count == 0) {
        return;
    }
    pthread_mutex_lock(&link->lock);
    for (size_t i = 0; i < count; i++) {
        struct tessi_wanted *wanted = tessi_wanted_find(link, ids[i]);
        if (wanted != NULL) {
            tessi_wanted_forget(link, wanted);
        }
    }
    pthread_mutex_unlock(&link->lock);
    struct tessi_message message = {.type = TESSI_MSG_RELEASE, .run_id = link->run_id};
    message.as.release.ids = (struct tessi_id_list){ids, count};
    queue_message(link, &message);
}

bool tessi_link_let_go(struct tessi_link *link, uint32_t id)
{
    if (link == NULL) {
        return true;
    }
    pthread_mutex_lock(&link->lock);
    struct tessi_wanted *wanted = tessi_wanted_find(link, id);
    bool stays = wanted != NULL && wanted->detached;
    if (wanted != NULL && !stays) {
        tessi_wanted_forget(link, wanted);
    }
    pthread_mutex_unlock(&link->lock);
    if (!stays) {
        struct tessi_message message = {.type = TESSI_MSG_RELEASE, .run_id = link->run_id};
        message.as.release.ids = (struct tessi_id_list){&id, 1};
        queue_message(link, &message);
    }
    return !stays;
}

void tessi_link_hold(struct tessi_link *link, bool held)
{
    pthread_mutex_lock(&link->lock);
    link->held = held;
    pthread_mutex_unlock(&link->lock);
    if (!held) {
        tessi_poller_wake(link->poller);
    }
}

void tessi_link_release_when_done(struct tessi_link *link, uint32_t id)
{
    pthread_mutex_lock(&link->lock);
    struct tessi_wanted *wanted = tessi_wanted_find(link, id);
    bool under_way = wanted != NULL && wanted->state == TESSI_LAYER_COMPUTING;
    if (under_way) {
        link->released_count += !wanted->released;
        wanted->released = true; /* the news that it is done wakes the I/O thread anyway */
    } else if (wanted != NULL) {
        link->elapsed_ns = wanted->elapsed_ns;
    }
    pthread_mutex_unlock(&link->lock);
    if (!under_way) {
        tessi_link_release(link, &id, 1);
    }
}

void tessi_link_cancel(struct tessi_link *link, uint32_t id)
{
    pthread_mutex_lock(&link->lock);
    struct tessi_wanted *wanted = tessi_wanted_find(link, id);
    bool running = wanted != NULL && wanted->state == TESSI_LAYER_COMPUTING;
    if (running) {
        tessi_wanted_fail(wanted, TESSI_CANCELLED, "cancelled by the program");
        pthread_cond_broadcast(&link->changed);
    }
    pthread_mutex_unlock(&link->lock);
    if (running) {
        struct tessi_message message = {.type = TESSI_MSG_CANCEL, .run_id = link->run_id};
        message.as.cancel.ids = (struct tessi_id_list){&id, 1};
        queue_message(link, &message);
    }
}

void tessi_link_detach(struct tessi_link *link, uint32_t id)
{
    struct tessi_message message = {.type = TESSI_MSG_DETACH, .run_id = link->run_id};
    message.as.detach.ids = (struct tessi_id_list){&id, 1};
    queue_message(link, &message);
}

uint32_t tessi_link_next_detached(struct tessi_link *link)
{
    uint32_t id = 0;
    pthread_mutex_lock(&link->lock);
    while (link->detached_count > 0 && id == 0) {
        const struct tessi_wanted *wanted = tessi_wanted_find(link, link->detached[--link->detached_count]);
        /* One that is released when it is complete has been given its release already. */
        id = wanted != NULL && !wanted->released ? wanted->id : 0;
    }
    pthread_mutex_unlock(&link->lock);
    return id;
}

enum tessi_status tessi_link_layer_status(struct tessi_link *link, uint32_t id)
{
    struct tessi_error ignored;
    return tessi_link_layer_failure(link, id, &ignored);
}

/* Sleep until something changes or the moment has come; the lock is held. False: it has come. */
static bool sleep_until(struct tessi_link *link, int64_t deadline_ns)
{
    if (deadline_ns == INT64_MAX) {
        pthread_cond_wait(&link->changed, &link->lock);
        return true;
    }
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / TESSI_NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % TESSI_NS_PER_S)};
    return pthread_cond_timedwait(&link->changed, &link->lock, &until) != ETIMEDOUT;
}

static int64_t deadline_after(int64_t timeout_ns)
{
    int64_t now_ns = tessi_clock_now();
    return timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + timeout_ns;
}

/* Of all that was submitted together; the lock is held. */
static struct tessi_progress progress_of(const struct tessi_link *link, const struct tessi_wanted *wanted)
{
    struct tessi_progress progress = link->progress[wanted->request % TESSI_PROGRESSES];
    return progress.request == wanted->request ? progress : (struct tessi_progress){0};
}

enum tessi_status tessi_link_wait(struct tessi_link *link, uint32_t id, int64_t timeout_ns,
                                  tessi_link_progress_fn *progress, void *context, int64_t *elapsed_ns,
                                  struct tessi_error *error)
{
    int64_t deadline_ns = deadline_after(timeout_ns);
    uint64_t told = UINT64_MAX;
    uint64_t done = 0;
    uint64_t total = 0;
    enum tessi_status status;
    pthread_mutex_lock(&link->lock);
    link->watchers += progress != NULL ? 1 : 0;
    for (;;) {
        struct tessi_wanted *wanted = tessi_wanted_find(link, id);
        status = tessi_wanted_failure(wanted, error);
        if (status == TESSI_OK && wanted == NULL) {
            status = tessi_fail(error, TESSI_INVALID, "the array is not being computed: persist it first");
        }
        if (status == TESSI_OK && wanted->state == TESSI_LAYER_COMPLETE) {
            *elapsed_ns = wanted->elapsed_ns;
            done = total = progress_of(link, wanted).total;
            break;
        }
        if (status == TESSI_OK) {
            status = check_fatal(link, error);
        }
        if (status != TESSI_OK) {
            break;
        }
        done = progress_of(link, wanted).done;
        total = progress_of(link, wanted).total;
        if (progress != NULL && total > 0 && done != told) {
            told = done;
            pthread_mutex_unlock(&link->lock);
            progress(context, done, total, false);
            pthread_mutex_lock(&link->lock);
            continue; /* it may have changed meanwhile */
        }
        if (!sleep_until(link, deadline_ns)) {
            status = tessi_fail(error, TESSI_TIMEOUT,
                                "%" PRIu64 " of %" PRIu64 " blocks are ready: it goes on computing", done, total);
            break;
        }
    }
    link->watchers -= progress != NULL ? 1 : 0;
    pthread_mutex_unlock(&link->lock);
    if (progress != NULL && status != TESSI_TIMEOUT) {
        progress(context, done, total, true);
    }
    return status;
}

static enum tessi_status run_transfer(struct tessi_link *link, struct tessi_transfer *transfer,
                                      struct tessi_error *error)
{
    pthread_mutex_lock(&link->lock);
    TESS_ASSERT(link->asked == NULL); /* a session is used by one thread at a time */
    link->asked = transfer;
    link->held = false;
    tessi_poller_wake(link->poller);
    while (link->asked == transfer) {
        pthread_cond_wait(&link->changed, &link->lock);
    }
    pthread_mutex_unlock(&link->lock);
    struct tessi_error outcome = {0};
    TESS_ASSERT(tessi_transfer_finished(transfer, &outcome));
    tessi_transfer_destroy(transfer);
    return outcome.status == TESSI_OK ? TESSI_OK : tessi_fail(error, outcome.status, "%s", outcome.text);
}

static bool is_settled(const struct tessi_link *link)
{
    return link->released_count == 0 || link->fatal.status != TESSI_OK;
}

int64_t tessi_link_settle(struct tessi_link *link)
{
    pthread_mutex_lock(&link->lock);
    link->settlers++;
    while (!is_settled(link)) {
        pthread_cond_wait(&link->changed, &link->lock);
    }
    link->settlers--;
    int64_t elapsed_ns = link->elapsed_ns;
    pthread_mutex_unlock(&link->lock);
    return elapsed_ns;
}

enum tessi_status tessi_link_fetch(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid,
                                   size_t element_bytes, tessi_piece_fn *piece, void *context,
                                   struct tessi_error *error)
{
    return run_transfer(link, tessi_transfer_create(link->id, id, grid, element_bytes, false, piece, context), error);
}

enum tessi_status tessi_link_fetch_pushed(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid,
                                          size_t element_bytes, tessi_piece_fn *piece, void *context,
                                          struct tessi_error *error)
{
    return run_transfer(link, tessi_transfer_create(link->id, id, grid, element_bytes, true, piece, context), error);
}

void tessi_link_counts(struct tessi_link *link, struct tessi_session_counts *counts, uint32_t *workers)
{
    pthread_mutex_lock(&link->lock);
    *counts = link->counts;
    *workers = link->workers;
    pthread_mutex_unlock(&link->lock);
}

bool tessi_link_workers_write(struct tessi_link *link)
{
    int64_t deadline_ns = deadline_after(PEERS_TIMEOUT_NS);
    pthread_mutex_lock(&link->lock);
    /* A session that has just been opened is about to hear of the workers that are there. */
    while (link->workers == 0 && link->least_memory_bytes > 0 && link->fatal.status == TESSI_OK &&
           sleep_until(link, deadline_ns)) {
    }
    bool all = link->workers > 0 && link->writers == link->workers;
    pthread_mutex_unlock(&link->lock);
    return all;
}

enum tessi_status tessi_link_status_document(struct tessi_link *link, char **json, struct tessi_error *error)
{
    struct tessi_message message = {.type = TESSI_MSG_STATUS_REQUEST, .run_id = link->run_id};
    int64_t deadline_ns = deadline_after(STATUS_TIMEOUT_NS);
    enum tessi_status status = TESSI_OK;
    pthread_mutex_lock(&link->lock);
    tessi_free(link->document);
    link->document = NULL;
    pthread_mutex_unlock(&link->lock);
    queue_message(link, &message);
    pthread_mutex_lock(&link->lock);
    while (link->document == NULL && status == TESSI_OK) {
        status = check_fatal(link, error);
        if (status == TESSI_OK && !sleep_until(link, deadline_ns) && link->document == NULL) {
            status = tessi_fail(error, TESSI_TIMEOUT,
                                "the scheduler does not answer a question about its status: see "
                                "whether it is overloaded");
        }
    }
    *json = link->document;
    link->document = NULL;
    pthread_mutex_unlock(&link->lock);
    return status;
}
