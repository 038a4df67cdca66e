#include "client/session.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/array.h"
#include "client/embedded/embedded.h"
#include "client/link.h"
#include "client/trace.h"
#include "core/base/alloc.h"
#include "core/base/descriptors.h"
#include "core/base/version.h"
#include "core/net/context.h"

#define TIMEOUT_MS 5000
#define DESCRIPTORS 32 /* its own, and connections to some workers */
#define CHUNKS_IN_MEMORY 16 /* blocks whose chunks we choose, in the smallest worker's: a product has five at a time */
#define CHUNK_LEAST 65536

const char *tess_version(void)
{
    return TESSI_VERSION;
}

struct tess_session *tessi_session_create(void)
{
    struct tess_session *session = tessi_zalloc(sizeof *session);
    session->chunk_bytes = TESSI_CHUNK_BYTES;
    session->owner = getpid();
    session->root.session = session;
    session->innermost = &session->root;
    pthread_mutex_init(&session->lock, NULL);
    return session;
}

void tessi_session_note(struct tess_session *session, const struct tessi_error *error)
{
    if (session->kept.status == TESSI_OK) {
        session->kept = *error;
    }
}

tess_status tessi_session_fail(struct tess_session *session, const struct tessi_error *error)
{
    if (session != NULL) {
        session->kept = *error;
    }
    return (tess_status)error->status;
}

enum tessi_status tessi_session_check(const struct tess_session *session, struct tessi_error *error)
{
    if (session->owner != getpid()) {
        return tessi_fail(error, TESSI_INVALID,
                          "the session is of the process that this one was forked from: open one of its own here");
    }
    if (session->fatal.status != TESSI_OK) {
        return tessi_fail(error, session->fatal.status, "%s", session->fatal.text);
    }
    if (session->link == NULL) {
        return tessi_fail(error, TESSI_UNREACHABLE, "the session has no cluster: open it with tess_session_open");
    }
    return tessi_link_check(session->link, error);
}

static enum tessi_status open_embedded(struct tess_session *session, const tess_session_options *options,
                                       const char **address, struct tessi_error *error)
{
    if (options->keys_dir != NULL) {
        return tessi_fail(error, TESSI_INVALID,
                          "keys_dir without an address: a cluster inside the process needs no "
                          "keys, or give the scheduler's address");
    }
    struct tessi_embedded_config config = {
        .net = session->net,
        .threads = options->workers,
        .memory_bytes = options->memory_bytes,
        .spill_dir = options->spill_dir,
        .spill_bytes = options->spill_bytes == UINT64_MAX ? 0 : options->spill_bytes,
        .no_spill = options->spill_bytes == UINT64_MAX,
        .gpus = options->gpus,
        .gpu_memory = options->gpu_memory,
        .resources = options->resources,
        .trace_events = options->trace_events,
    };
    enum tessi_status status = tessi_embedded_open(&config, &session->embedded, error);
    if (status == TESSI_OK) {
        *address = tessi_embedded_address(session->embedded);
    }
    return status;
}

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != 0 ? value : NULL;
}

static enum tessi_status connect_session(struct tess_session *session, const char *address,
                                         const tess_session_options *options, struct tessi_error *error)
{
    enum tessi_status status;
    address = address != NULL ? address : from_environment("TESSERA_SCHEDULER");
    address = address != NULL && strcmp(address, TESS_EMBEDDED) == 0 ? NULL : address;
    const char *keys_dir = options->keys_dir;
    if (address != NULL && keys_dir == NULL) {
        keys_dir = from_environment("TESSERA_KEYS");
    }
    char name[64];
    snprintf(name, sizeof name, "%.40s-%ld", program_invocation_short_name, (long)getpid());
    if (options->chunk_bytes != 0) {
        session->chunk_bytes = options->chunk_bytes;
    }
    TESSI_TRY(tessi_memory_ready(0) ? TESSI_OK : tessi_fail(error, TESSI_NOMEM, "out of memory"));
    TESSI_TRY(tessi_descriptors_require("a session", DESCRIPTORS, error));
    TESSI_TRY(tessi_net_create(keys_dir, &session->net, error));
    if (address == NULL) {
        TESSI_TRY(open_embedded(session, options, &address, error));
    }
    struct tessi_link_config config = {
        .net = session->net,
        .address = address,
        .name = name,
        .timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : TIMEOUT_MS,
    };
    session->address = tessi_strdup(address);
    TESSI_TRY(tessi_link_open(&config, &session->link, error));
    uint64_t share = tessi_link_least_memory(session->link) / CHUNKS_IN_MEMORY;
    if (options->chunk_bytes == 0 && share > 0 && share < session->chunk_bytes) {
        session->chunk_bytes = share > CHUNK_LEAST ? share : CHUNK_LEAST;
    }
cleanup:
    return status;
}

static void disconnect_session(struct tess_session *session)
{
    tessi_link_close(session->link);
    session->link = NULL;
    tessi_embedded_close(session->embedded);
    session->embedded = NULL;
    tessi_net_destroy(session->net);
    session->net = NULL;
    tessi_free(session->address);
    session->address = NULL;
}

tess_session *tess_session_open(const char *address, const tess_session_options *options)
{
    struct tess_session *session = tessi_session_create();
    struct tessi_error error = {0};
    tess_session_options defaults = {0};
    if (connect_session(session, address, options != NULL ? options : &defaults, &error) != TESSI_OK) {
        tessi_error_prefix(&error, "tess_session_open");
        session->fatal = error;
        tessi_session_note(session, &error);
        disconnect_session(session);
    }
    return session;
}

void tess_session_close(tess_session *session)
{
    if (session == NULL || session->owner != getpid()) {
        return; /* what a child of fork has of it is a copy that nobody can take apart: the threads are not there */
    }
    tess_scope_close(session->root.inner);
    tessi_scope_clear(&session->root);
    disconnect_session(session);
    tessi_free(session->named);
    tessi_map_fini(&session->named_by_id);
    pthread_mutex_destroy(&session->lock);
    tessi_free(session);
}

uint32_t tess_session_id(const tess_session *session)
{
    return session == NULL || session->link == NULL ? 0 : tessi_link_id(session->link);
}

tess_status tess_session_status(const tess_session *session)
{
    return session == NULL ? TESS_INVALID : (tess_status)session->kept.status;
}

const char *tess_session_error(const tess_session *session)
{
    return session == NULL ? "there is no session: open one with tess_session_open" : session->kept.text;
}

void tess_session_clear_error(tess_session *session)
{
    if (session == NULL) {
        return;
    }
    struct tessi_error lasting = {0};
    if (session->fatal.status != TESSI_OK || session->link != NULL) {
        (void)tessi_session_check(session, &lasting);
    }
    session->kept = lasting;
}

void tess_session_on_progress(tess_session *session, tess_progress_fn *progress, void *context)
{
    if (session != NULL) {
        session->progress = progress;
        session->progress_context = context;
    }
}

tess_status tess_session_trace(tess_session *session, const char *path)
{
    struct tessi_error error = {0};
    const struct tessi_trace_options options = {0};
    struct tessi_trace_counts counts;
    if (session == NULL) {
        return TESS_INVALID;
    }
    enum tessi_status status = tessi_session_check(session, &error);
    if (status == TESSI_OK && (path == NULL || path[0] == 0)) {
        status = tessi_fail(&error, TESSI_INVALID, "give the path of the file to write");
    }
    if (status == TESSI_OK) {
        status = tessi_trace_write(session->net, session->address, path, &options, &counts, &error);
    }
    if (status != TESSI_OK) {
        tessi_error_prefix(&error, "%s", __func__);
        return tessi_session_fail(session, &error);
    }
    return TESS_OK;
}

/* The largest number of that name among the workers of a status document; 0 when it is not there. */
static uint64_t largest_of_workers(const char *json, const char *name)
{
    uint64_t largest = 0;
    cJSON *document = cJSON_Parse(json);
    const cJSON *worker;
    cJSON_ArrayForEach(worker, cJSON_GetObjectItemCaseSensitive(document, "workers"))
    {
        double value = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(worker, name));
        if (value > (double)largest && value < 1e18) {
            largest = (uint64_t)value;
        }
    }
    cJSON_Delete(document);
    return largest;
}

tess_status tess_session_stats(tess_session *session, tess_stats *stats)
{
    struct tessi_error error = {0};
    if (session == NULL) {
        return TESS_INVALID;
    }
    if (stats == NULL) {
        tessi_fail(&error, TESSI_INVALID, "%s: stats is NULL: give a place for the numbers", __func__);
        return tessi_session_fail(session, &error);
    }
    *stats = (tess_stats){0};
    char *document = NULL;
    enum tessi_status status = tessi_session_check(session, &error);
    if (status == TESSI_OK) {
        int64_t elapsed_ns = tessi_link_settle(session->link);
        session->seconds = session->seconds == SECONDS_UNKNOWN ? (double)elapsed_ns / 1e9 : session->seconds;
        status = tessi_link_status_document(session->link, &document, &error);
    }
    if (status != TESSI_OK) {
        tessi_error_prefix(&error, "%s", __func__);
        return tessi_session_fail(session, &error);
    }
    struct tessi_session_counts counts;
    tessi_link_counts(session->link, &counts, &stats->workers);
    stats->tasks = counts.tasks_done;
    stats->tasks_rerun = counts.tasks_rerun;
    stats->bytes_moved = counts.bytes_moved;
    stats->steals = counts.steals;
    stats->workers_lost = counts.workers_lost;
    stats->peak_worker_bytes = largest_of_workers(document, "memory_peak_bytes");
    stats->seconds = session->seconds;
    tessi_free(document);
    return TESS_OK;
}
