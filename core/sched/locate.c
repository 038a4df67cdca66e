/* Who holds a task, or will: answered at once, or when it is given to a worker. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

static void send_location(struct tessi_sched *sched, uint32_t peer, struct tessi_span span)
{
    struct worker *worker = worker_find(sched, peer);
    if (worker != NULL) {
        tessi_spans_push(&worker->out_location, span);
        mark_dirty(worker);
    } else if (session_find(sched, peer) != NULL) {
        tessi_grow(&sched->client_locations, &sched->client_location_capacity, sched->client_location_count + 1,
                   sizeof *sched->client_locations);
        sched->client_locations[sched->client_location_count++] = (struct client_location){peer, span};
    }
}

static void park(struct tessi_sched *sched, uint32_t peer, struct tessi_map_key key)
{
    uint32_t handle = tessi_map_get(&sched->parked_by_task, key);
    if (handle == TESSI_MAP_NONE) {
        if (sched->parked_free_count > 0) {
            handle = sched->parked_free[--sched->parked_free_count];
        } else {
            tessi_grow(&sched->parked, &sched->parked_capacity, sched->parked_count + 1, sizeof *sched->parked);
            handle = (uint32_t)sched->parked_count++;
        }
        sched->parked[handle] = (struct parked){0};
        tessi_map_put(&sched->parked_by_task, key, handle);
    }
    struct parked *parked = &sched->parked[handle];
    for (size_t i = 0; i < parked->count; i++) {
        if (parked->peers[i] == peer) {
            return;
        }
    }
    tessi_grow(&parked->peers, &parked->capacity, parked->count + 1, sizeof *parked->peers);
    parked->peers[parked->count++] = peer;
}

static void unpark(struct tessi_sched *sched, struct tessi_map_key key, uint32_t handle)
{
    tessi_free(sched->parked[handle].peers);
    sched->parked[handle] = (struct parked){0};
    (void)tessi_map_remove(&sched->parked_by_task, key);
    tessi_grow(&sched->parked_free, &sched->parked_free_capacity, sched->parked_free_count + 1,
               sizeof *sched->parked_free);
    sched->parked_free[sched->parked_free_count++] = handle;
}

void answer_parked(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t owner, uint32_t epoch)
{
    if (sched->blocked_by_task.count > 0) {
        wake_blocked(sched, layer, index);
    }
    if (sched->parked_by_task.count == 0) {
        return;
    }
    struct tessi_map_key key = tessi_task_key(layer->session->id, layer->layer->id, index);
    uint32_t handle = tessi_map_get(&sched->parked_by_task, key);
    if (handle == TESSI_MAP_NONE) {
        return;
    }
    struct tessi_span span = {.session = layer->session->id, .layer = layer->layer->id, .first = index, .count = 1};
    span.worker = owner == NO_WORKER ? 0 : sched->workers[owner]->id;
    span.epoch = epoch;
    for (size_t i = 0; i < sched->parked[handle].count; i++) {
        send_location(sched, sched->parked[handle].peers[i], span);
    }
    unpark(sched, key, handle);
}

void parked_forget_peer(struct tessi_sched *sched, uint32_t peer)
{
    for (size_t p = 0; p < sched->parked_count; p++) {
        struct parked *parked = &sched->parked[p];
        size_t kept = 0;
        for (size_t i = 0; i < parked->count; i++) {
            if (parked->peers[i] != peer) {
                parked->peers[kept++] = parked->peers[i];
            }
        }
        parked->count = kept;
    }
}

static void locate_one(struct tessi_sched *sched, uint32_t peer, struct sched_layer *layer, uint64_t index)
{
    struct tessi_span span = {.session = layer->session->id, .layer = layer->layer->id, .first = index, .count = 1};
    const struct task_record *task = record_peek(layer, index);
    enum task_state state = state_of(layer, index);
    if (state == TASK_UNASSIGNED) {
        park(sched, peer, tessi_task_key(span.session, span.layer, index));
        return;
    }
    if (state == TASK_ASSIGNED || state == TASK_HELD) {
        span.worker = sched->workers[task->owner]->id;
        span.epoch = task->epoch;
    }
    send_location(sched, peer, span);
}

void locate(struct tessi_sched *sched, uint32_t peer, const struct tessi_span *spans, size_t count)
{
    for (size_t s = 0; s < count; s++) {
        struct sched_layer *layer = layer_named(sched, spans[s].session, spans[s].layer);
        if (layer == NULL || spans[s].first >= layer->tasks || spans[s].count > layer->tasks - spans[s].first) {
            sched->stale_reports++; /* it is gone: the asker has been or will be told to drop it */
            continue;
        }
        for (uint64_t i = 0; i < spans[s].count; i++) {
            locate_one(sched, peer, layer, spans[s].first + i);
        }
    }
}
