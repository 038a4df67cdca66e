/* Who holds a task, or will: answered at once, or when it is given to a worker. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

/* A client reads some thousand blocks at a time, of one layer. A worker has as many questions as its tasks have inputs
 * that were lost; should it ever have more than that it is taken for ill: it joins again, and what it had runs again. */
#define CLIENT_PARKED_MAX 16384u
#define WORKER_PARKED_MAX (1u << 20)

/* How many tasks it waits to be told of; NULL: it is not known. */
static uint32_t *parked_of(struct tessi_sched *sched, uint32_t peer)
{
    struct worker *worker = tessi_find_worker(sched, peer);
    struct session *session = worker == NULL ? tessi_find_session(sched, peer) : NULL;
    return worker != NULL ? &worker->parked : session != NULL ? &session->parked : NULL;
}

static void unpark(struct tessi_sched *sched, uint32_t peer)
{
    uint32_t *parked = parked_of(sched, peer);
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

static void send_location(struct tessi_sched *sched, uint32_t peer, struct tessi_span span)
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
static void tell_why(struct tessi_sched *sched, uint32_t peer, const struct sched_layer *layer,
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
            tell_why(sched, task_list_items(asking)[i], layer, layer->failure, layer->failure_text);
        }
        unpark(sched, task_list_items(asking)[i]);
        send_location(sched, task_list_items(asking)[i], span);
    }
    tessi_task_lists_end(&sched->parked, asking);
}

/* Nothing is known to be wrong with the blocks: whoever reads them when there is a worker again will have them. */
void tessi_locate_starve_reads(struct tessi_sched *sched)
{
    struct task_list *asking;
    for (size_t position = 0; (asking = tessi_task_lists_next(&sched->parked, &position)) != NULL;) {
        struct tessi_map_key task = asking->task;
        struct sched_layer *layer = tessi_find_named(sched, (uint32_t)(task.high >> 32), (uint32_t)task.high);
        for (size_t i = asking->count; i-- > 0;) {
            uint32_t peer = task_list_items(asking)[i];
            struct session *session = tessi_find_session(sched, peer);
            if (session == NULL || layer == NULL || !tessi_locate_starves(sched, session)) {
                continue;
            }
            unpark(sched, peer);
            tell_why(sched, peer, layer, TESSI_NO_WORKERS, NO_WORKERS_TEXT);
            send_location(sched, peer, (struct tessi_span){.session = layer->session->id,
                                                           .layer = layer->layer->id,
                                                           .first = task.low,
                                                           .count = 1});
            tessi_task_lists_remove(&sched->parked, asking, peer);
        }
    }
}

void tessi_parked_forget_peer(struct tessi_sched *sched, uint32_t peer)
{
    uint32_t *parked = parked_of(sched, peer);
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

/* Remember that it is to be told. A client that would have too much remembered is told so instead, and its session goes
 * on; false: a worker was given up. */
static bool park(struct tessi_sched *sched, uint32_t peer, struct sched_layer *layer, struct tessi_span span)
{
    struct worker *worker = tessi_find_worker(sched, peer);
    uint32_t *parked = parked_of(sched, peer);
    if (parked != NULL && *parked < (worker != NULL ? WORKER_PARKED_MAX : CLIENT_PARKED_MAX)) {
        touch(layer, span.first); /* whoever asks is told when the layer goes */
        *parked +=
            tessi_task_lists_put_once(&sched->parked, tessi_task_key(span.session, span.layer, span.first), peer);
    } else if (worker != NULL) {
        tessi_out_emit(sched, TESSI_SCHED_BYE, peer)->text = "it waits to be told of too many blocks: join again";
        tessi_loss_of_worker(sched, worker);
        return false;
    } else if (parked != NULL) {
        tell_why(sched, peer, layer, TESSI_TOO_BIG,
                 "too many blocks are waited for at a time: read some of them when they are computed, then the others");
        send_location(sched, peer, span);
    }
    return true;
}

/* False: the asker was given up. */
static bool locate_one(struct tessi_sched *sched, uint32_t peer, struct sched_layer *layer, uint64_t index)
{
    struct tessi_span span = {.session = layer->session->id, .layer = layer->layer->id, .first = index, .count = 1};
    const struct task_record *task = record_peek(layer, index);
    enum task_state state = tessi_table_state(layer, index);
    if (state == TASK_UNASSIGNED || tessi_spread_is_needed(layer, index)) {
        return park(sched, peer, layer, span);
    }
    if (state == TASK_ASSIGNED || state == TASK_HELD) {
        span.worker = sched->workers[task->owner]->id;
        span.epoch = task->epoch;
    } else {
        tell_why(sched, peer, layer, layer->failure, layer->failure_text);
    }
    send_location(sched, peer, span);
    return true;
}

void tessi_locate(struct tessi_sched *sched, uint32_t peer, const struct tessi_span *spans, size_t count)
{
    for (size_t s = 0; s < count; s++) {
        struct sched_layer *layer = tessi_find_named(sched, spans[s].session, spans[s].layer);
        if (layer == NULL || spans[s].first >= layer->tasks || spans[s].count > layer->tasks - spans[s].first) {
            sched->stale_reports++; /* it is gone: the asker has been or will be told to drop it */
            continue;
        }
        for (uint64_t i = 0; i < spans[s].count; i++) {
            if (!locate_one(sched, peer, layer, spans[s].first + i)) {
                return;
            }
        }
    }
}
