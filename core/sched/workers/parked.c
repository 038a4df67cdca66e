/* Peers that want to know where a task goes: answered when it is given to a worker, or when nobody will have it. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

/* How many tasks it waits to be told of; NULL: it is not known. */
uint32_t *tessi_parked_of(struct tessi_sched *sched, uint32_t peer)
{
    struct worker *worker = tessi_find_worker(sched, peer);
    struct session *session = worker == NULL ? tessi_find_session(sched, peer) : NULL;
    return worker != NULL ? &worker->parked : session != NULL ? &session->parked : NULL;
}

void tessi_parked_remove(struct tessi_sched *sched, uint32_t peer)
{
    uint32_t *parked = tessi_parked_of(sched, peer);
    if (parked != NULL) {
        TESS_ASSERT(*parked > 0);
        --*parked;
    }
}

static bool goes_on(const struct client_location *last, uint32_t peer, const struct tessi_span *span)
{
    return last->peer == peer && last->span.session == span->session && last->span.layer == span->layer &&
           last->span.first + last->span.count == span->first && last->span.worker == span->worker &&
           last->span.epoch == span->epoch;
}

void tessi_parked_send(struct tessi_sched *sched, uint32_t peer, struct tessi_span span)
{
    struct worker *worker = tessi_find_worker(sched, peer);
    size_t count = sched->client_location_count;
    if (worker != NULL) {
        tessi_spans_push(&tessi_out_box(worker)->location, span);
    } else if (count > 0 && goes_on(&sched->client_locations[count - 1], peer, &span)) {
        sched->client_locations[count - 1].span.count += span.count;
    } else if (tessi_find_session(sched, peer) != NULL) {
        tessi_grow(&sched->client_locations, &sched->client_location_capacity, sched->client_location_count + 1,
                   sizeof *sched->client_locations);
        sched->client_locations[sched->client_location_count++] = (struct client_location){peer, span};
    }
}

/* To a client that reads blocks of the layer, before the answer that nobody will have one. */
void tessi_parked_tell_why(struct tessi_sched *sched, uint32_t peer, const struct sched_layer *layer,
                           enum tessi_status status, const char *text)
{
    if (status != TESSI_OK && sched->why_told != layer && peer == layer->session->id) {
        sched->why_told = layer;
        struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_FAILED, peer);
        action->layer_id = layer->layer->id;
        action->status = status;
        action->text = tessi_out_text(sched, text);
    }
}

void tessi_parked_answer(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t owner,
                         uint32_t epoch)
{
    TESS_ASSERT(owner == NO_WORKER || owner < sched->worker_count);
    if (sched->blocked.used > 0) {
        tessi_blocked_wake(sched, layer, index);
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
        if (owner == NO_WORKER) {
            tessi_parked_tell_why(sched, task_list_items(asking)[i], layer, layer->failure, layer->failure_text);
        }
        tessi_parked_remove(sched, task_list_items(asking)[i]);
        tessi_parked_send(sched, task_list_items(asking)[i], span);
    }
    tessi_task_lists_end(&sched->parked, asking);
}

void tessi_parked_forget_peer(struct tessi_sched *sched, uint32_t peer)
{
    uint32_t *parked = tessi_parked_of(sched, peer);
    tessi_task_lists_remove_everywhere(&sched->parked, peer);
    if (parked != NULL) {
        *parked = 0;
    }
}

void tessi_parked_verify(const struct tessi_sched *sched)
{
    uint64_t listed = 0, counted = 0;
    for (size_t i = 0; i < sched->parked.count; i++) {
        listed += sched->parked.lists[i].count;
    }
    for (size_t w = 0; w < sched->worker_count; w++) {
        counted += sched->workers[w]->alive ? sched->workers[w]->parked : 0;
    }
    for (size_t s = 0; s < sched->session_count; s++) {
        counted += sched->sessions[s] == NULL ? 0 : sched->sessions[s]->parked;
    }
    TESS_ASSERT(listed == counted);
}
