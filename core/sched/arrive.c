/* Workers and clients that come. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/placement/placement.h"
#include "core/sched/step.h"
#include "core/sched/workers/workers.h"

#define WORKERS_SIDE_BY_SIDE 8u

void tessi_arrive_fini_worker(struct worker *worker)
{
    if (worker->out != NULL) { /* sessions that end now have blocks freed that nobody will be told of */
        tessi_out_destroy(worker->out);
    }
    tessi_free(worker->given);
    tessi_spans_fini(&worker->shed);
    tessi_free(worker->spill_error);
}

/* True when `family` is one of the comma-separated names. */
static bool names_family(const char *names, const char *family)
{
    size_t length = strlen(family);
    for (const char *at = names; at != NULL && *at != 0;) {
        const char *end = strchr(at, ',');
        size_t n = end != NULL ? (size_t)(end - at) : strlen(at);
        if (n == length && memcmp(at, family, n) == 0) {
            return true;
        }
        at = end != NULL ? end + 1 : NULL;
    }
    return false;
}

static bool agree_on_family(struct tessi_sched *sched, const struct tessi_worker_info *info, uint32_t peer)
{
    if (sched->family[0] == 0) {
        (void)tessi_text_format(sched->family, sizeof sched->family, "%.*s", (int)strcspn(info->family, ","),
                                info->family);
    }
    if (names_family(info->family, sched->family)) {
        return true;
    }
    char text[512];
    (void)tessi_text_format(text, sizeof text,
                   "this cluster computes with the '%s' kernels and this worker can run only '%s': start the scheduler "
                   "with a family that every worker has (--blas-core)",
                   sched->family, info->family);
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_REJECT, peer);
    action->status = TESSI_UNSUPPORTED;
    action->text = tessi_out_text(sched, text);
    return false;
}

static void announce_peer(struct tessi_sched *sched, uint32_t to, const struct worker *worker)
{
    TESS_ASSERT(worker->alive);
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_PEER_UP, to);
    action->worker = worker->id;
    action->info = &worker->info;
}

static bool read_resources(struct tessi_sched *sched, const struct tessi_sched_event *event,
                           struct tessi_resources *resources)
{
    struct tessi_error error;
    if (tessi_resources_parse(event->worker.resources, resources, &error) == TESSI_OK) {
        return true;
    }
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_REJECT, event->peer);
    action->status = TESSI_INVALID;
    action->text = tessi_out_text(sched, error.text);
    return false;
}

/* A few lie side by side, each from the start of a cache line. */
static struct worker *worker_room(struct tessi_sched *sched)
{
    size_t at = sched->worker_count % WORKERS_SIDE_BY_SIDE, align = _Alignof(struct worker);
    if (at == 0) {
        tessi_grow(&sched->worker_rooms, &sched->worker_room_capacity, sched->worker_room_count + 1,
                   sizeof *sched->worker_rooms);
        sched->worker_rooms[sched->worker_room_count++] =
            tessi_zalloc(WORKERS_SIDE_BY_SIDE * sizeof(struct worker) + align);
    }
    uintptr_t room = (uintptr_t)sched->worker_rooms[sched->worker_room_count - 1];
    return (struct worker *)((room + align - 1) / align * align) + at;
}

/* In the place of one that has gone, so that neither walks over all workers nor tables of them grow with those that
 * have been here. Lists that it may still stand in, for its place, go on to hold it. */
static struct worker *worker_made(struct tessi_sched *sched)
{
    if (sched->vacant.count == 0) {
        struct worker *worker = worker_room(sched);
        worker->index = (uint32_t)sched->worker_count;
        tessi_grow(&sched->workers, &sched->worker_capacity, sched->worker_count + 1, sizeof *sched->workers);
        return sched->workers[sched->worker_count++] = worker;
    }
    struct worker *worker = sched->workers[sched->vacant.items[--sched->vacant.count]];
    TESS_ASSERT(!worker->alive && worker->out == NULL && !worker->dirty);
    tessi_arrive_fini_worker(worker);
    *worker = (struct worker){.index = worker->index,
                              .hungry = worker->hungry,
                              .load_changed = worker->load_changed,
                              .load_stale = worker->load_stale};
    return worker;
}

void tessi_arrive_worker(struct tessi_sched *sched, const struct tessi_sched_event *event)
{
    if (tessi_find_worker(sched, event->peer) != NULL || tessi_find_session(sched, event->peer) != NULL) {
        sched->stale_reports++;
        return;
    }
    if (!agree_on_family(sched, &event->worker, event->peer)) {
        return;
    }
    struct tessi_resources resources;
    if (!read_resources(sched, event, &resources)) {
        return;
    }
    struct worker *worker = worker_made(sched);
    worker->resources = resources;
    worker->id = event->peer;
    worker->alive = true;
    worker->info = event->worker;
    worker->slots = worker->info.slots;
    worker->heard_ns = sched->attended_ns;
    worker->stealing_from = NO_WORKER;
    worker->sched = sched;
    tessi_worker_list_push(&sched->joined, worker->index);
    sched->alive_count++;
    sched->workers_joined++;
    tessi_map_put(&sched->worker_by_id, id_key(worker->id), worker->index);
    TESS_ASSERT(sched->alive_count == sched->joined.count);
    tessi_kinds_join(sched, worker);
    tessi_place_scatter_long(sched);
    tessi_out_emit(sched, TESSI_SCHED_WELCOME, worker->id)->text = sched->family;
    tessi_out_note(
        sched, (struct tessi_trace_record){.kind = TESSI_TRACE_JOIN, .peer = worker->id, .amount = worker->info.slots});
    for (size_t w = 0; w + 1 < sched->joined.count; w++) {
        const struct worker *other = sched->workers[sched->joined.items[w]];
        announce_peer(sched, worker->id, other);
        announce_peer(sched, other->id, worker);
    }
    for (size_t s = 0; s < sched->session_count; s++) {
        if (sched->sessions[s] != NULL) {
            announce_peer(sched, sched->sessions[s]->id, worker);
            sched->sessions[s]->starving_since_ns = -1;
        }
    }
    tessi_hungry_mark(sched, worker);
    tessi_place_orphans(sched);
    sched->relief_due = true;
}

void tessi_arrive_client(struct tessi_sched *sched, uint32_t peer)
{
    if (tessi_find_worker(sched, peer) != NULL || tessi_find_session(sched, peer) != NULL) {
        sched->stale_reports++;
        return;
    }
    struct session *session = tessi_zalloc(sizeof *session);
    session->id = peer;
    session->heard_ns = sched->attended_ns;
    session->starving_since_ns = -1;
    tessi_grow(&sched->sessions, &sched->session_capacity, sched->session_count + 1, sizeof *sched->sessions);
    tessi_map_put(&sched->session_by_id, id_key(peer), (uint32_t)sched->session_count);
    sched->sessions[sched->session_count++] = session;
    uint64_t least = UINT64_MAX;
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        least = worker->alive && worker->info.memory_bytes < least ? worker->info.memory_bytes : least;
    }
    struct tessi_sched_action *welcome = tessi_out_emit(sched, TESSI_SCHED_WELCOME, peer);
    welcome->text = sched->family;
    welcome->total = least == UINT64_MAX ? 0 : least;
    for (size_t w = 0; w < sched->worker_count; w++) {
        if (sched->workers[w]->alive) {
            announce_peer(sched, peer, sched->workers[w]);
        }
    }
}
