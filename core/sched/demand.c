/* Who needs a block: references of unfinished readers, release when the last one has gone,
 * and re-runs when a released block is needed again. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

void work_push(struct work_list *list, struct sched_layer *layer, uint64_t index)
{
    tessi_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items);
    list->items[list->count++] = (struct task_ref){layer, index};
}

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

void consider_idle(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    work_push(&sched->idle, layer, index);
}

void drop_ref(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->refs > 0);
    task->refs--;
    if (task->refs == 0 && !layer->wanted) {
        consider_idle(sched, layer, index);
    }
}

static void drop_one(void *context, uint64_t index)
{
    struct input_walk *walk = context;
    drop_ref(walk->sched, walk->layer, index);
}

void drop_input_refs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    walk_inputs(sched, layer, index, drop_one);
}

void free_at(struct tessi_sched *sched, uint32_t worker, struct sched_layer *layer, uint64_t index)
{
    struct worker *holder = sched->workers[worker];
    if (holder->alive) {
        /* A FREE that went before the ASSIGN of the same task would leave it running. */
        struct outbox *out = outbox_of(holder);
        struct tessi_spans *spans = out->assign.count > 0 ? &out->unassign : &out->free;
        tessi_spans_push(spans, (struct tessi_span){.session = layer->session->id,
                                                    .layer = layer->layer->id,
                                                    .first = index,
                                                    .count = 1});
    }
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
        layer->held--;
        hand_over_forget(sched, layer, index);
        keep_forget(sched, layer, index);
        free_at(sched, task->owner, layer, index);
        break;
    case TASK_ASSIGNED:
        unfinished = (task->flags & TASK_ADOPTING) == 0;
        free_at(sched, task->owner, layer, index);
        unassign(sched, layer, task);
        break;
    case TASK_UNASSIGNED:
        unfinished = true;
        break;
    case TASK_RELEASED:
    case TASK_FAILED:
    case TASK_POISONED:
        return;
    }
    copies_free(sched, layer, index);
    answer_parked(sched, layer, index, NO_WORKER, 0);
    if (unfinished && (task->flags & TASK_DONE_ONCE) == 0) {
        count_first_done(sched, layer);
    }
    set_released(sched, layer, index, task);
    if (unfinished && !layer->session->closing) { /* else nothing of what it reads counts its readers any more */
        drop_input_refs(sched, layer, index);
    }
}

void settle(struct tessi_sched *sched)
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
    task->refs++;
    if (task->state == TASK_RELEASED) {
        need_again(walk->sched, walk->layer, index);
    } else if (task->state == TASK_FAILED || task->state == TASK_POISONED) {
        spread_failure(walk->sched, walk->layer, index);
    }
}

void require_inputs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    walk_inputs(sched, layer, index, require_one);
}

void run_again(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(!layer->detached);
    if (task->state == TASK_HELD) {
        layer->held--;
        task->state = TASK_UNASSIGNED;
    } else if (task->state == TASK_RELEASED) {
        set_needed(index, task);
    } else {
        TESS_ASSERT(task->state == TASK_UNASSIGNED);
    }
    task->owner = NO_WORKER;
    require_inputs(sched, layer, index);
    place_task(sched, layer, index);
}
