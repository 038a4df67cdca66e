/* Leaving in good order. A worker that wants to go gets nothing new. What waits for it goes elsewhere,
 * what it was given and has not started is asked back, what runs there ends. The blocks that only it has
 * are handed over (hand_over.c). Blocks that can be generated or read from their file again are not worth
 * the way.
 *
 *     staying ──WORKER_LEAVING──▶ leaving ──nothing runs, nothing is being handed over; or time is over──▶ left
 *
 * One that has left owns nothing any more and has been told so (LEFT). It stays known until it goes, since
 * neighbours may still read what it lent them.
 *
 * Blocks of a worker that is full are handed over in the same way: see relief.c. */
#include "core/base/assert.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/placement/placement.h"
#include "core/sched/recovery/recovery.h"
#include "core/sched/workers/workers.h"

typedef void owned_fn(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index);

static void each_owned(struct tessi_sched *sched, struct worker *worker, owned_fn *visit)
{
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            struct sched_layer *layer = session->layers[l];
            for (uint64_t i = layer == NULL ? 0 : next_live(layer, 0); layer != NULL && i < layer->tasks;
                 i = next_live(layer, i + 1)) {
                if (record(layer, i)->owner == worker->index) {
                    visit(sched, worker, layer, i);
                }
            }
        }
    }
}

/* What the client is sending there stays: it would have to begin anew elsewhere. */
static void ask_back(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    if (task->state == TASK_HELD) {
        tessi_hand_over(sched, layer, index);
    } else if ((task->flags & (TASK_STARTED | TASK_STEALING | TASK_ADOPTING)) == 0 &&
               layer->layer->op != TESSI_OP_RECEIVE) {
        tessi_ask_mark(worker, layer, task);
        tessi_ask_note(sched, NULL, worker, layer, index);
        tessi_spans_push(&tessi_out_box(worker)->steal, (struct tessi_span){.session = layer->session->id,
                                                                            .layer = layer->layer->id,
                                                                            .first = index,
                                                                            .count = 1,
                                                                            .epoch = task->epoch});
    }
}

void tessi_leave_begin(struct tessi_sched *sched, struct worker *worker, int64_t wait_ns)
{
    TESS_ASSERT(worker->alive);
    if (worker->leaving) {
        sched->stale_reports++;
        return;
    }
    worker->leaving = true;
    tessi_load_changed(sched, worker);
    sched->leaving_count++;
    worker->leave_limit_ns =
        wait_ns < INT64_MAX - sched->attended_ns ? sched->attended_ns + (wait_ns > 0 ? wait_ns : 0) : INT64_MAX;
    for (size_t w = 0; w < sched->worker_count; w++) {
        sched->workers[w]->refused_bytes = sched->workers[w]->refused_first_bytes = 0; /* there may be room by now */
    }
    tessi_hand_over_elsewhere(sched, worker);
    tessi_keep_forget_worker(sched, worker);
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            tessi_place_hand_on(sched, session->lanes[l], worker->index);
        }
    }
    each_owned(sched, worker, ask_back);
    tessi_out_mark_dirty(worker);
}

/* What it still has goes elsewhere without it: from a copy, or it is made again. Nobody is blamed. */
static void take_away(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    tessi_out_free(sched, worker->index, layer, index);
    if (task->state == TASK_HELD) {
        bool handing =
            tessi_hand_over_find(sched, layer, index) != NULL; /* whether it has arrived there is not known */
        bool copied = !handing && tessi_copies_pick(sched, layer, index) != NO_WORKER;
        bool remade = !copied && tessi_layer_regenerable(layer->layer);
        worker->leave.remade_blocks += remade;
        worker->leave.lost_blocks += !copied && !remade;
        tessi_loss_of_block(sched, layer, index);
    } else if ((task->flags & TASK_ADOPTING) != 0) {
        tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
        task->flags = TASK_DONE_ONCE;
        tessi_loss_of_block(sched, layer, index);
    } else {
        uint8_t begun = (task->flags & TASK_STARTED) != 0 ? TASK_BEGUN : 0;
        tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
        task->flags = (uint8_t)((task->flags & (TASK_DONE_ONCE | TASK_BEGUN)) | begun);
        tessi_place_task(sched, layer, index);
    }
}

static bool leave_is_over(const struct tessi_sched *sched, const struct worker *worker)
{
    bool done = worker->assigned == 0 && worker->handing == 0;
    return done || sched->attended_ns >= worker->leave_limit_ns;
}

void tessi_leave_continue(struct tessi_sched *sched)
{
    for (size_t w = 0; w < sched->worker_count && sched->leaving_count > 0; w++) {
        struct worker *worker = sched->workers[w];
        if (!worker->alive || !worker->leaving || worker->left || !leave_is_over(sched, worker)) {
            continue;
        }
        worker->left = true;
        sched->leaving_count--;
        tessi_copies_forget_worker(sched, worker->index);
        each_owned(sched, worker, take_away);
        tessi_spread_finish(sched);
        TESS_ASSERT(worker->assigned == 0 && worker->handing == 0);
        tessi_out_mark_dirty(worker);
    }
}

int64_t tessi_leave_next_ns(const struct tessi_sched *sched)
{
    int64_t next_ns = INT64_MAX;
    for (size_t w = 0; w < sched->worker_count && sched->leaving_count > 0; w++) {
        const struct worker *worker = sched->workers[w];
        if (worker->alive && worker->leaving && !worker->left) {
            int64_t left_ns = leave_is_over(sched, worker) ? 0 : worker->leave_limit_ns - sched->attended_ns;
            int64_t at_ns = left_ns < INT64_MAX - sched->now_ns ? sched->now_ns + left_ns : INT64_MAX;
            next_ns = at_ns < next_ns ? at_ns : next_ns;
        }
    }
    return next_ns;
}
