/* Who needs a block: references of unfinished readers, release when the last one has gone,
 * and re-runs when a released block is needed again. */
#include "core/base/assert.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/placement/placement.h"
#include "core/sched/workers/workers.h"

struct input_walk {
    struct tessi_sched *sched;
    struct sched_layer *layer; /* of the input */
};

static void walk_inputs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, tessi_visit_fn *visit)
{
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        struct input_walk walk = {sched, layer->inputs[i]};
        tessi_task_inputs(layer->layer, i, index, visit, &walk);
    }
}

void tessi_refs_consider_idle(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    tessi_work_push(&sched->idle, layer, index);
}

void tessi_refs_drop(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->refs > 0);
    task->refs--;
    if (task->refs == 0 && !layer->wanted) {
        tessi_refs_consider_idle(sched, layer, index);
    }
}

static void drop_one(void *context, uint64_t index)
{
    struct input_walk *walk = context;
    tessi_refs_drop(walk->sched, walk->layer, index);
}

void tessi_refs_drop_inputs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    walk_inputs(sched, layer, index, drop_one);
}

/* Nobody needs this block: forget it, and, when it was never made, let go of what it would have read. */
static void release(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    if (task->refs > 0 || layer->wanted) {
        return;
    }
    bool unfinished = false;
    switch ((enum task_state)task->state) {
    case TASK_HELD:
        TESS_ASSERT(layer->held > 0);
        layer->held--;
        tessi_hand_over_forget(sched, layer, index);
        tessi_keep_forget(sched, layer, index);
        tessi_out_free(sched, task->owner, layer, index);
        break;
    case TASK_ASSIGNED:
        unfinished = (task->flags & TASK_ADOPTING) == 0;
        tessi_out_free(sched, task->owner, layer, index);
        tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
        break;
    case TASK_UNASSIGNED:
        unfinished = true;
        break;
    case TASK_RELEASED:
    case TASK_FAILED:
    case TASK_POISONED:
        return;
    }
    tessi_copies_free(sched, layer, index);
    tessi_parked_answer(sched, layer, index, NO_WORKER, 0);
    if (unfinished && (task->flags & TASK_DONE_ONCE) == 0) {
        tessi_news_count_done(sched, layer);
    }
    tessi_table_set_released(sched, layer, index, task);
    if (unfinished && !layer->session->closing) { /* else nothing of what it reads counts its readers any more */
        tessi_refs_drop_inputs(sched, layer, index);
    }
}

void tessi_refs_settle(struct tessi_sched *sched)
{
    while (sched->idle.count > 0) {
        struct task_ref ref = sched->idle.items[--sched->idle.count];
        release(sched, ref.layer, ref.index);
    }
}

static void require_one(void *context, uint64_t index)
{
    struct input_walk *walk = context;
    struct task_record *task = record(walk->layer, index);
    TESS_ASSERT(task->refs < UINT32_MAX);
    task->refs++;
    if (task->state == TASK_RELEASED) {
        tessi_spread_need(walk->sched, walk->layer, index);
    } else if (task->state == TASK_FAILED || task->state == TASK_POISONED) {
        tessi_spread_failure(walk->sched, walk->layer, index);
    }
}

void tessi_refs_require_inputs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    walk_inputs(sched, layer, index, require_one);
}

void tessi_refs_run_again(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(!layer->detached);
    if (task->state == TASK_HELD) {
        TESS_ASSERT(layer->held > 0);
        layer->held--;
        tessi_table_move(task, TASK_UNASSIGNED);
    } else if (task->state == TASK_RELEASED) {
        tessi_table_set_needed(index, task);
    } else {
        TESS_ASSERT(task->state == TASK_UNASSIGNED);
    }
    task->owner = NO_WORKER;
    tessi_refs_require_inputs(sched, layer, index);
    tessi_place_task(sched, layer, index);
}
