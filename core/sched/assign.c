/* Feeding workers: each gets work for a window of time, in global order, ahead of its inputs. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

#define GIVEN_SPANS 64
#define DEVICE_AHEAD 64   /* tasks */
#define DEVICE_WINDOWS 4
#define WHERE_MAX 65536 /* owners named to one worker in one step: a message is bounded */

void tessi_hungry_mark(struct tessi_sched *sched, struct worker *worker)
{
    if (!worker->hungry && worker->alive) {
        worker->hungry = true;
        tessi_grow(&sched->hungry, &sched->hungry_capacity, sched->hungry_count + 1, sizeof *sched->hungry);
        sched->hungry[sched->hungry_count++] = worker->index;
    }
    tessi_load_changed(sched, worker);
}

/* `share` of the window is not full. A device wants many tasks to choose from, so that what it has copied serves
 * many. */
static bool below(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind, double share)
{
    const struct load *load = &worker->load[kind];
    double units = load->units, ahead = kind > 0 ? DEVICE_AHEAD : 2, windows = kind > 0 ? DEVICE_WINDOWS : 1;
    return load->units > 0 && ((double)load->assigned < ahead * units ||
                               (load->queue_ns < share * windows * (double)sched->config.window_ns * units &&
                                (double)load->assigned < share * (double)sched->config.assigned_per_slot * units));
}

/* Its window is filled again when a quarter of it is free: a few messages with many tasks cost less than many with one.
 * Whatever else may let it go on (new work, an input that has found an owner, a resource) makes it hungry at once. */
void tessi_hungry_room_made(struct tessi_sched *sched, struct worker *worker)
{
    /* Then those for which nothing waits are always low. */
    bool both = sched->device_workers > 0 && worker->load[1].units > 0;
    bool low = ((!both || worker->load[0].backlog > 0) && below(sched, worker, 0, 0.75)) ||
               (both && worker->load[1].backlog > 0 && below(sched, worker, 1, 0.75));
    tessi_load_changed(sched, worker);
    if (low || sched->demands) {
        tessi_hungry_mark(sched, worker);
    }
}

/* A full window never holds back a task that was taken from its owner and is older than one that is in it: recovered or
 * stolen work may be what those wait for. One that nobody has had yet is not: its readers are still to be assigned. */
static bool may_take(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind, bool again,
                     uint64_t order)
{
    bool sendable = where_count(worker) < WHERE_MAX && sched->step_assigned < sched->config.assigned_per_step;
    if (!sendable || below(sched, worker, kind, 1)) {
        return sendable;
    }
    return again && order < worker->youngest;
}

struct input_walk {
    struct tessi_sched *sched;
    struct worker *worker;
    struct sched_layer *layer; /* of the input */
    uint64_t missing; /* the first that is not assigned */
    bool assigned;
    bool failed; /* the missing one: its readers are about to be told */
};

static void name_owner(void *context, uint64_t index)
{
    struct input_walk *walk = context;
    const struct task_record *task = walk->assigned ? record_peek(walk->layer, index) : NULL;
    if (!walk->assigned) {
        return;
    }
    walk->sched->lookups -= walk->sched->lookups > 0;
    if (task == NULL || (task->state != TASK_ASSIGNED && task->state != TASK_HELD)) {
        walk->assigned = false;
        walk->missing = index;
        touch(walk->layer, index); /* who waits for it is told when its layer goes */
        walk->failed = task != NULL && (task->state == TASK_FAILED || task->state == TASK_POISONED);
    } else if (task->owner != walk->worker->index) {
        tessi_spans_push(&tessi_out_box(walk->worker)->where,
                         (struct tessi_span){.session = walk->layer->session->id,
                                             .layer = walk->layer->layer->id,
                                             .first = index,
                                             .count = 1,
                                             .epoch = task->epoch,
                                             .worker = walk->sched->workers[task->owner]->id});
    }
}

/* Name the owners of the task's inputs to the worker. When one of them has none yet, nothing is named, and the worker
 * is looked at again as soon as it has. */
static bool name_inputs(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer,
                        uint64_t index)
{
    struct input_walk walk = {.sched = sched, .worker = worker, .assigned = true};
    struct tessi_spans *where = &tessi_out_box(worker)->where;
    size_t before = where->count;
    struct tessi_span last = before > 0 ? where->items[before - 1] : (struct tessi_span){0};
    for (uint32_t i = 0; i < layer->ninputs && walk.assigned; i++) {
        walk.layer = layer->inputs[i];
        tessi_task_inputs(layer->layer, i, index, name_owner, &walk);
    }
    if (!walk.assigned) {
        where->count = before;
        if (before > 0) {
            where->items[before - 1] = last; /* it may have been made longer */
        }
        worker->look_again =
            walk.failed || !tessi_blocked_wait(sched, worker, walk.layer, walk.missing) || worker->look_again;
    }
    return walk.assigned;
}

void tessi_out_tell_layer(struct worker *worker, struct sched_layer *layer)
{
    struct layer_on_worker *on = on_worker(layer, worker->index);
    if (!on->told) {
        on->told = true;
        struct outbox *out = tessi_out_box(worker);
        tessi_grow(&out->layers, &out->layer_capacity, out->layer_count + 1, sizeof *out->layers);
        out->layers[out->layer_count++] = layer->layer;
    }
}

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

static void assign_task(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                        uint64_t order)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_UNASSIGNED && worker->alive);
    task->state = TASK_ASSIGNED;
    task->epoch++;
    task->owner = worker->index;
    task->flags &= TASK_DONE_ONCE | TASK_BEGUN;
    on_worker(layer, worker->index)->assigned++;
    worker->assigned++;
    sched->step_assigned++;
    worker->load[kind_at(worker, layer->lane)].assigned++;
    worker->load[kind_at(worker, layer->lane)].queue_ns += layer->estimate_ns;
    tessi_load_changed(sched, worker);
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

void tessi_assign_undo(struct tessi_sched *sched, struct sched_layer *layer, struct task_record *task)
{
    struct worker *worker = sched->workers[task->owner];
    struct layer_on_worker *on = on_worker(layer, worker->index);
    struct load *load = &worker->load[kind_at(worker, layer->lane)];
    TESS_ASSERT(task->state == TASK_ASSIGNED && on->assigned > 0 && worker->assigned > 0 && load->assigned > 0);
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
    task->state = TASK_UNASSIGNED;
    tessi_hungry_room_made(sched, worker);
}

/* The key of the span that comes after the one at the head; UINT64_MAX: there is none. */
static uint64_t next_key(const struct backlog *backlog)
{
    uint64_t next = backlog->count > 1 ? backlog_key(&backlog->entries[1]) : UINT64_MAX;
    uint64_t other = backlog->count > 2 ? backlog_key(&backlog->entries[2]) : UINT64_MAX;
    return other < next ? other : next;
}

/* Assign from the lowest span of one lane until the window is full, the span is used up or a task's inputs
 * have no owner yet. True when something was assigned or found unnecessary. */
static bool feed_lane(struct tessi_sched *sched, struct worker *worker, struct lane *lane)
{
    struct backlog *backlog = backlog_of(lane, worker->index);
    const struct backlog_entry *head = backlog_first(backlog);
    if (head == NULL) {
        return false;
    }
    uint32_t handle = head->handle;
    struct backlog_span span = backlog_span(backlog, handle);
    uint64_t key = backlog_key(head), fresh = key & BACKLOG_FRESH, order = key & ~BACKLOG_FRESH;
    uint64_t next = next_key(backlog), done = 0;
    uint32_t kind = kind_at(worker, lane);
    for (; done < span.count; done++) {
        uint64_t index = span.first + done;
        if (sched->lookups == 0) {
            sched->cut_short = true;
            order = done > 0 ? tessi_order_of(span.layer, index) : order;
            break;
        }
        if (tessi_table_state(span.layer, index) != TASK_UNASSIGNED) {
            sched->lookups--;
            continue; /* before a page is opened for it, which nobody would close */
        }
        const struct task_record *task = record(span.layer, index);
        if (task->refs == 0 && !span.layer->wanted) {
            tessi_refs_consider_idle(sched, span.layer, index);
            sched->lookups--;
            continue;
        }
        order = done > 0 ? tessi_order_of(span.layer, index) : order;
        if (!may_take(sched, worker, kind, span.again, order) || (done > 0 && next < (order | fresh)) ||
            !resources_free(worker, span.layer, span.again, order) ||
            !name_inputs(sched, worker, span.layer, index)) {
            break;
        }
        assign_task(sched, worker, span.layer, index, order);
    }
    tessi_backlog_advance(sched, backlog, worker->index, handle, done, order);
    return done > 0;
}

/* Of the lanes of one rank that have not been tried in this turn, the one whose first task is the oldest. */
static struct lane *next_lane(const struct session *session, uint32_t worker, size_t first, size_t end)
{
    struct lane *best = NULL;
    uint64_t oldest = 0;
    for (size_t l = first; l < end; l++) {
        struct lane *lane = session->lanes[l];
        const struct backlog_entry *head =
            worker < lane->capacity ? backlog_first(&lane->backlogs[worker]) : NULL;
        if (head != NULL && lane->turn != session->turn && (best == NULL || backlog_key(head) < oldest)) {
            best = lane;
            oldest = backlog_key(head);
        }
    }
    return best;
}

/* One span of the first lane that has something to give. */
static bool feed_from(struct tessi_sched *sched, struct worker *worker, struct session *session)
{
    if (session->lane_count == 1) {
        return feed_lane(sched, worker, session->lanes[0]);
    }
    session->turn++;
    for (size_t first = 0, end; first < session->lane_count; first = end) {
        struct lane *lane;
        end = first + 1;
        while (end < session->lane_count && session->lanes[end]->rank == session->lanes[first]->rank) {
            end++;
        }
        while ((lane = next_lane(session, worker->index, first, end)) != NULL) {
            lane->turn = session->turn;
            if (feed_lane(sched, worker, lane)) {
                return true;
            }
        }
    }
    return false;
}

/* Sessions take turns at each worker, one span a turn. */
static bool feed(struct tessi_sched *sched, struct worker *worker)
{
    bool any = false;
    size_t misses = 0;
    while (worker->backlog > 0 && misses < sched->session_count) {
        struct session *session = sched->sessions[worker->next_session % sched->session_count];
        worker->next_session++;
        if (session != NULL && feed_from(sched, worker, session)) {
            any = true;
            misses = 0;
        } else {
            misses++;
        }
    }
    return any;
}

static void reverse(uint32_t *items, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        uint32_t other = items[count - 1 - i];
        items[count - 1 - i] = items[i];
        items[i] = other;
    }
}

static void rotate(uint32_t *items, size_t count, size_t first) /* which becomes item 0 */
{
    if (first > 0) {
        reverse(items, first);
        reverse(items + first, count - first);
        reverse(items, count);
    }
}

/* What one worker was given may be an input that another's next task waits for: that one is then hungry too. */
void tessi_feed_workers(struct tessi_sched *sched)
{
    size_t at = 0, kept = 0, reached = SIZE_MAX;
    do {
        for (; at < sched->hungry_count; at++) {
            struct worker *worker = sched->workers[sched->hungry[at]];
            sched->cut_short = sched->lookups == 0;
            reached = sched->cut_short && reached == SIZE_MAX ? at : reached;
            if (worker->alive && worker->backlog > 0) {
                (void)feed(sched, worker);
                if (where_count(worker) >= WHERE_MAX || sched->step_assigned >= sched->config.assigned_per_step ||
                    sched->cut_short) {
                    worker->look_again = true;
                    sched->more = true;
                }
            }
            worker->hungry = false; /* not before: what it puts back does not make it hungry again */
        }
        tessi_refs_settle(sched);
    } while (at < sched->hungry_count);
    reached = reached < sched->hungry_count ? reached : 0;
    rotate(sched->hungry, sched->hungry_count, reached); /* those that were not reached come first in the next step */
    for (size_t i = 0; i < sched->hungry_count; i++) {
        struct worker *worker = sched->workers[sched->hungry[i]];
        if (worker->look_again && worker->alive) { /* in the next step */
            worker->look_again = false;
            worker->hungry = true;
            sched->hungry[kept++] = worker->index;
        }
    }
    sched->hungry_count = kept;
}
