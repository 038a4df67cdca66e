/* Feeding workers: each gets work for a window of time, in global order, ahead of its inputs. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

#define GIVEN_SPANS 64

static void push_source(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer,
                        struct tessi_span span)
{
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_PUSH, layer->session->id);
    struct tessi_span *copy = tessi_out_memory(sched, sizeof *copy);
    *copy = span;
    action->worker = worker->id;
    action->spans = copy;
    action->span_count = 1;
}

static bool still_given(struct tessi_sched *sched, const struct worker *worker, struct given given)
{
    struct sched_layer *layer = tessi_find_named(sched, given.session, given.layer);
    for (uint64_t i = 0; layer != NULL && i < given.count; i++) {
        const struct task_record *task = record_peek(layer, given.first + i);
        if (task != NULL && task->state == TASK_ASSIGNED && task->owner == worker->index) {
            return true;
        }
    }
    return false;
}

/* A worker that always has work would otherwise have all that it ever had remembered. */
static void remember_given(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer,
                           uint64_t index)
{
    struct given *last = worker->given_count > 0 ? &worker->given[worker->given_count - 1] : NULL;
    TESS_ASSERT(index < GIVEN_FIRST_MAX);
    if (last != NULL && last->session == layer->session->id && last->layer == layer->layer->id &&
        last->first + last->count == index && (uint64_t)last->count + 1 < GIVEN_COUNT_MAX) {
        last->count++;
        return;
    }
    if (worker->given_count >= worker->given_limit) {
        size_t kept = 0;
        for (size_t g = 0; g < worker->given_count; g++) {
            if (still_given(sched, worker, worker->given[g])) {
                worker->given[kept++] = worker->given[g];
            }
        }
        worker->given_count = kept;
        worker->given_next = 0;
        worker->given_limit = kept + kept / 2 + GIVEN_SPANS;
    }
    tessi_grow(&worker->given, &worker->given_capacity, worker->given_count + 1, sizeof *worker->given);
    worker->given[worker->given_count++] =
        (struct given){.session = layer->session->id,
                       .layer = layer->layer->id,
                       .first = index & (GIVEN_FIRST_MAX - 1),
                       .count = 1};
}

static void count_assigned(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer)
{
    struct load *load = &worker->load[kind_at(worker, layer->lane)];
    on_worker(layer, worker->index)->assigned++;
    worker->assigned++;
    load->assigned++;
    load->queue_ns += layer->estimate_ns;
    tessi_load_changed(sched, worker);
}

void tessi_assign_task(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                       uint64_t order)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_UNASSIGNED && worker->alive);
    TESS_ASSERT(task->refs > 0 || layer->wanted);
    tessi_table_move(task, TASK_ASSIGNED);
    task->epoch++;
    task->owner = worker->index;
    task->flags &= TASK_DONE_ONCE | TASK_BEGUN;
    sched->step_assigned++;
    count_assigned(sched, worker, layer);
    tessi_supply_take(worker, layer, order);
    if (task->flags != 0) {
        sched->tasks_rerun++;
        layer->session->stats.tasks_rerun++;
    }
    tessi_out_tell_layer(worker, layer);
    struct tessi_span span = {.session = layer->session->id,
                              .layer = layer->layer->id,
                              .first = index,
                              .count = 1,
                              .epoch = task->epoch,
                              .worker = worker->id,
                              .order = order,
                              .deaths = task->deaths};
    worker->youngest = order > worker->youngest ? order : worker->youngest;
    tessi_spans_push(&tessi_out_box(worker)->assign, span);
    remember_given(sched, worker, layer, index);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        on_worker(layer->inputs[i], worker->index)->reads = true;
    }
    if (layer->layer->op == TESSI_OP_RECEIVE) {
        push_source(sched, worker, layer, span);
    }
    tessi_parked_answer(sched, layer, index, worker->index, task->epoch);
}

/* It does nothing there, so it takes no resources and has no place in the worker's order. */
void tessi_assign_adopter(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(worker->alive);
    tessi_table_move(task, TASK_ASSIGNED);
    task->owner = worker->index;
    task->epoch++;
    task->flags = TASK_DONE_ONCE | TASK_ADOPTING;
    count_assigned(sched, worker, layer);
    tessi_out_tell_layer(worker, layer); /* an owner may have to make the block again rather than write it to a file */
    tessi_spans_push(&tessi_out_box(worker)->adopt, (struct tessi_span){.session = layer->session->id,
                                                                        .layer = layer->layer->id,
                                                                        .first = index,
                                                                        .count = 1,
                                                                        .epoch = task->epoch});
    tessi_parked_answer(sched, layer, index, worker->index, task->epoch);
}

void tessi_assign_end(struct tessi_sched *sched, struct sched_layer *layer, struct task_record *task,
                      enum task_state to)
{
    TESS_ASSERT(task->owner < sched->worker_count);
    struct worker *worker = sched->workers[task->owner];
    struct layer_on_worker *on = on_worker(layer, worker->index);
    struct load *load = &worker->load[kind_at(worker, layer->lane)];
    TESS_ASSERT(task->state == TASK_ASSIGNED && on->assigned > 0 && worker->assigned > 0 && load->assigned > 0);
    TESS_ASSERT((task->flags & TASK_STARTED) == 0 || load->started > 0);
    on->assigned--;
    worker->assigned--;
    load->assigned--;
    load->started -= (task->flags & TASK_STARTED) != 0;
    load->queue_ns = load->assigned == 0 ? 0 : load->queue_ns - layer->estimate_ns;
    if ((task->flags & TASK_ADOPTING) == 0) {
        tessi_supply_give(worker, layer);
    }
    if (worker->assigned == 0) {
        worker->youngest = 0;
        worker->given_count = 0;
        worker->given_next = 0;
    }
    tessi_ask_end(worker, layer, task);
    task->owner = NO_WORKER;
    tessi_table_move(task, to);
    tessi_hungry_room_made(sched, worker);
}

void tessi_assign_forget(struct worker *worker)
{
    TESS_ASSERT(worker->assigned == 0);
    tessi_free(worker->given);
    worker->given = NULL;
    worker->given_count = worker->given_capacity = 0;
    worker->given_next = 0;
}
