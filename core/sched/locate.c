/* Who holds a task, or will: answered at once, or when it is given to a worker. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

static void send_location(struct tessi_sched *sched, uint32_t peer, struct tessi_span span)
{
    struct worker *worker = worker_find(sched, peer);
    if (worker != NULL) {
        tessi_spans_push(&outbox_of(worker)->location, span);
    } else if (session_find(sched, peer) != NULL) {
        tessi_grow(&sched->client_locations, &sched->client_location_capacity, sched->client_location_count + 1,
                   sizeof *sched->client_locations);
        sched->client_locations[sched->client_location_count++] = (struct client_location){peer, span};
    }
}

void answer_parked(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t owner, uint32_t epoch)
{
    if (sched->blocked.used > 0) {
        wake_blocked(sched, layer, index);
    }
    struct tessi_map_key task = tessi_task_key(layer->session->id, layer->layer->id, index);
    struct task_list *asking = task_lists_find(&sched->parked, task);
    if (asking == NULL) {
        return;
    }
    struct tessi_span span = {.session = layer->session->id, .layer = layer->layer->id, .first = index, .count = 1};
    span.worker = owner == NO_WORKER ? 0 : sched->workers[owner]->id;
    span.epoch = epoch;
    for (size_t i = 0; i < asking->count; i++) {
        send_location(sched, task_list_items(asking)[i], span);
    }
    task_lists_end(&sched->parked, asking);
}

void parked_forget_peer(struct tessi_sched *sched, uint32_t peer)
{
    task_lists_remove_everywhere(&sched->parked, peer);
}

static void locate_one(struct tessi_sched *sched, uint32_t peer, struct sched_layer *layer, uint64_t index)
{
    struct tessi_span span = {.session = layer->session->id, .layer = layer->layer->id, .first = index, .count = 1};
    const struct task_record *task = record_peek(layer, index);
    enum task_state state = state_of(layer, index);
    if (state == TASK_UNASSIGNED) {
        task_lists_put_once(&sched->parked, tessi_task_key(span.session, span.layer, index), peer);
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
