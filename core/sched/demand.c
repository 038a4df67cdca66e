/* Who needs a block: references of unfinished readers, release when the last one has gone,
 * re-runs when a released block is needed again, and the spread of failures. */
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
        work_push(&walk->sched->rerun, walk->layer, index);
    } else if (task->state == TASK_FAILED || task->state == TASK_POISONED) {
        work_push(&walk->sched->poison, walk->layer, index);
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

/* A layer that was cancelled, or that no worker was there for, may still see a task of its own fail;
 * that is what its readers must be told. */
static bool task_failed(const struct sched_layer *layer)
{
    return layer->failure != TESSI_OK && layer->failure != TESSI_CANCELLED && layer->failure != TESSI_NO_WORKERS;
}

/* The text may be the layer's own, of an earlier failure. */
static void set_failure(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, enum tessi_status status,
                        const char *text)
{
    TESS_ASSERT(status != TESSI_OK);
    char *copy = tessi_strdup(text);
    tessi_free(layer->failure_text);
    layer->failure = status;
    layer->failure_index = index;
    layer->failure_text = copy;
    note_news(sched, layer);
}

struct spread {
    struct tessi_sched *sched;
    struct sched_layer *from, *layer;
};

static void poison_one(void *context, uint64_t index)
{
    struct spread *spread = context;
    struct sched_layer *layer = spread->layer;
    struct task_record *task = record(layer, index);
    bool waiting = task->state == TASK_UNASSIGNED ||
                   (task->state == TASK_ASSIGNED && (task->flags & TASK_ADOPTING) == 0);
    if (!waiting) {
        return;
    }
    if (task->state == TASK_ASSIGNED) {
        free_at(spread->sched, task->owner, layer, index);
        unassign(spread->sched, layer, task);
    }
    task->state = TASK_POISONED;
    if (!task_failed(layer)) {
        set_failure(spread->sched, layer, index, spread->from->failure, spread->from->failure_text);
    }
    answer_parked(spread->sched, layer, index, NO_WORKER, 0);
    drop_input_refs(spread->sched, layer, index);
    work_push(&spread->sched->poison, layer, index);
}

void fail_task(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, enum tessi_status status,
               const char *text)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_UNASSIGNED || task->state == TASK_ASSIGNED);
    TESS_ASSERT((task->flags & TASK_ADOPTING) == 0); /* it runs nothing, and counts as no reader of its inputs */
    if (task->state == TASK_ASSIGNED) {
        unassign(sched, layer, task);
    }
    task->state = TASK_FAILED;
    sched->tasks_failed++;
    if (!task_failed(layer) || index < layer->failure_index) {
        set_failure(sched, layer, index, status, text);
    }
    answer_parked(sched, layer, index, NO_WORKER, 0);
    drop_input_refs(sched, layer, index);
    work_push(&sched->poison, layer, index);
}

void finish_reruns(struct tessi_sched *sched)
{
    while (sched->rerun.count > 0 || sched->poison.count > 0) {
        if (sched->rerun.count > 0) {
            struct task_ref ref = sched->rerun.items[--sched->rerun.count];
            if (record(ref.layer, ref.index)->state == TASK_RELEASED) {
                run_again(sched, ref.layer, ref.index);
            }
            continue;
        }
        struct task_ref ref = sched->poison.items[--sched->poison.count];
        for (size_t c = 0; c < ref.layer->consumer_count; c++) {
            struct spread spread = {sched, ref.layer, ref.layer->consumers[c].layer};
            tessi_block_dependents(spread.layer->layer, ref.layer->consumers[c].input, ref.index, poison_one, &spread);
        }
    }
}
