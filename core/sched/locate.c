/* Who holds a task, or will: answered at once, or when it is given to a worker. */
#include "core/sched/lineage/lineage.h"
#include "core/sched/recovery/recovery.h"
#include "core/sched/step.h"
#include "core/sched/workers/workers.h"

/* A client reads some thousand blocks at a time, of one layer. A worker has as many questions as its tasks have inputs
 * that were lost; should it ever have more than that it is taken for ill: it joins again, and what it had runs again. */
#define CLIENT_PARKED_MAX 16384u
#define WORKER_PARKED_MAX (1u << 20)

bool tessi_locate_starves(struct tessi_sched *sched, struct session *session)
{
    if (session->starving_since_ns < 0) {
        session->starving_since_ns = sched->attended_ns;
    }
    return sched->attended_ns - session->starving_since_ns >= sched->config.wait_workers_ns;
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
            tessi_parked_remove(sched, peer);
            tessi_parked_tell_why(sched, peer, layer, TESSI_NO_WORKERS, NO_WORKERS_TEXT);
            tessi_parked_send(
                sched, peer,
                (struct tessi_span){
                    .session = layer->session->id, .layer = layer->layer->id, .first = task.low, .count = 1});
            tessi_task_lists_remove(&sched->parked, asking, peer);
        }
    }
}

/* Remember that it is to be told. A client that would have too much remembered is told so instead, and its session goes
 * on; false: a worker was given up. */
static bool park(struct tessi_sched *sched, uint32_t peer, struct sched_layer *layer, struct tessi_span span)
{
    struct worker *worker = tessi_find_worker(sched, peer);
    uint32_t *parked = tessi_parked_of(sched, peer);
    if (parked != NULL && *parked < (worker != NULL ? WORKER_PARKED_MAX : CLIENT_PARKED_MAX)) {
        touch(layer, span.first); /* whoever asks is told when the layer goes */
        *parked +=
            tessi_task_lists_put_once(&sched->parked, tessi_task_key(span.session, span.layer, span.first), peer);
    } else if (worker != NULL) {
        tessi_out_emit(sched, TESSI_SCHED_BYE, peer)->text = "it waits to be told of too many blocks: join again";
        tessi_loss_of_worker(sched, worker);
        return false;
    } else if (parked != NULL) {
        tessi_parked_tell_why(
            sched, peer, layer, TESSI_TOO_BIG,
            "too many blocks are waited for at a time: read some of them when they are computed, then the others");
        tessi_parked_send(sched, peer, span);
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
        tessi_parked_tell_why(sched, peer, layer, layer->failure, layer->failure_text);
    }
    tessi_parked_send(sched, peer, span);
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
