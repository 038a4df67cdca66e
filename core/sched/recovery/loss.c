/* A worker is gone: its unfinished tasks go elsewhere, its blocks are adopted from a copy or made again. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/placement/placement.h"
#include "core/sched/recovery/recovery.h"
#include "core/sched/workers/workers.h"

/* The block of an UNASSIGNED or HELD record that was done before has no owner any more. */
void tessi_loss_of_block(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_HELD || task->state == TASK_UNASSIGNED);
    tessi_hand_over_forget(sched, layer, index);
    if (tessi_keep_takes_over(sched, layer, index)) {
        return;
    }
    tessi_keep_forget(sched, layer, index);
    uint32_t holder = tessi_copies_pick(sched, layer, index);
    if (holder == NO_WORKER && layer->detached) {
        tessi_keep_lose_for_good(sched, layer, index);
        return;
    }
    if (holder == NO_WORKER) {
        tessi_refs_run_again(sched, layer, index);
        return;
    }
    if (task->state == TASK_HELD) {
        layer->held--;
    }
    tessi_copies_remove(sched, layer, index, holder);
    tessi_assign_adopter(sched, sched->workers[holder], layer, index);
}

static void lose_assigned(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                          struct task_record *task)
{
    bool adopting = (task->flags & TASK_ADOPTING) != 0;
    bool blamed = (task->flags & TASK_STARTED) != 0;
    if (adopting) {
        tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
        task->flags = TASK_DONE_ONCE;
        tessi_loss_of_block(sched, layer, index);
        return;
    }
    task->deaths = (uint8_t)(task->deaths + (blamed && task->deaths < UINT8_MAX));
    if (task->deaths >= sched->config.max_deaths) {
        char text[256], label[TESSI_LAYER_LABEL_MAX];
        (void)tessi_text_format(text, sizeof text,
                       "task %u:%llu (%s) was running in %u workers when they died: it may be what kills them",
                       layer->layer->id, (unsigned long long)index, tessi_layer_label(layer->layer, label, sizeof label),
                       (unsigned)task->deaths);
        tessi_spread_fail_task(sched, layer, index, TESSI_LOST, text);
        return;
    }
    tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
    task->flags = (uint8_t)((task->flags & (TASK_DONE_ONCE | TASK_BEGUN)) | (blamed ? TASK_BEGUN : 0));
    tessi_place_task(sched, layer, index);
}

static void lose_from_layer(struct tessi_sched *sched, struct sched_layer *layer, uint32_t worker)
{
    for (uint64_t i = next_live(layer, 0); i < layer->tasks; i = next_live(layer, i + 1)) {
        struct task_record *task = record(layer, i);
        if (task->owner != worker) {
            continue;
        }
        if (task->state == TASK_ASSIGNED) {
            lose_assigned(sched, layer, i, task);
        } else if (task->state == TASK_HELD) {
            tessi_loss_of_block(sched, layer, i);
        }
    }
}

/* `in_order`: it has left, and nothing was lost with it. */
static void tell_everyone(struct tessi_sched *sched, uint32_t lost, bool in_order)
{
    for (size_t w = 0; w < sched->worker_count; w++) {
        if (sched->workers[w]->alive) {
            tessi_out_emit(sched, TESSI_SCHED_PEER_LOST, sched->workers[w]->id)->worker = lost;
        }
    }
    for (size_t s = 0; s < sched->session_count; s++) {
        if (sched->sessions[s] != NULL) {
            tessi_out_emit(sched, TESSI_SCHED_PEER_LOST, sched->sessions[s]->id)->worker = lost;
            sched->sessions[s]->stats.workers_lost += !in_order;
        }
    }
}

/* Whoever comes to have its place later is to find nothing there that was its. */
static void leave_place(struct tessi_sched *sched, struct worker *worker)
{
    tessi_blocked_end_waits(sched, worker);
    for (uint32_t kind = 0; kind < 2; kind++) {
        (void)tessi_heap_remove(&sched->resting, 2 * worker->index + kind);
    }
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; l < session->layer_count; l++) {
            struct sched_layer *layer = session->layers[l];
            if (layer != NULL && worker->index < layer->on_capacity) {
                TESS_ASSERT(layer->on[worker->index].assigned + layer->on[worker->index].backlog == 0);
                layer->on[worker->index] = (struct layer_on_worker){0};
            }
        }
    }
    size_t at = 0;
    while (sched->joined.items[at] != worker->index) {
        at++;
        TESS_ASSERT(at < sched->joined.count);
    }
    memmove(&sched->joined.items[at], &sched->joined.items[at + 1],
            (--sched->joined.count - at) * sizeof *sched->joined.items);
}

void tessi_loss_of_worker(struct tessi_sched *sched, struct worker *worker)
{
    TESS_ASSERT(worker->alive);
    tessi_out_note(sched, (struct tessi_trace_record){.kind = TESSI_TRACE_LEAVE,
                                                      .peer = worker->id,
                                                      .amount = worker->assigned,
                                                      .index = worker->memory_used_bytes});
    TESS_ASSERT(sched->alive_count == sched->joined.count && sched->alive_count > 0);
    worker->alive = false;
    sched->alive_count--;
    sched->workers_lost += !worker->left;
    sched->workers_left += worker->left;
    sched->leaving_count -= worker->leaving && !worker->left;
    tessi_kinds_leave(sched, worker);
    tessi_relief_end_starving(sched, worker);
    (void)tessi_map_remove(&sched->worker_by_id, (struct tessi_map_key){0, worker->id});
    tell_everyone(sched, worker->id, worker->left);
    tessi_copies_forget_worker(sched, worker->index);
    tessi_keep_forget_worker(sched, worker);
    tessi_parked_forget_peer(sched, worker->id);
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            if (session->layers[l] != NULL) {
                lose_from_layer(sched, session->layers[l], worker->index);
            }
        }
    }
    tessi_hand_over_elsewhere(sched, worker);
    tessi_spread_finish(sched);
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            tessi_place_hand_on(sched, session->lanes[l], worker->index);
        }
    }
    TESS_ASSERT(worker->assigned == 0 && worker->backlog == 0);
    leave_place(sched, worker);
    tessi_assign_forget(worker);
    tessi_out_mark_dirty(worker); /* what was gathered for it goes */
    for (size_t w = 0; w < sched->worker_count; w++) {
        struct worker *thief = sched->workers[w];
        if (thief == worker || thief->stealing_from == worker->index) {
            tessi_ask_answered(thief); /* the dead answer no more */
            tessi_load_changed(sched, thief);
            tessi_hungry_mark(sched, thief);
        }
    }
}
