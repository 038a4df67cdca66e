/* Feeding workers: each gets work for a window of time, in global order, ahead of its inputs. */
#include "core/base/assert.h"
#include "core/sched/balance/balance.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/order/order.h"
#include "core/sched/workers/workers.h"

#define WHERE_MAX 65536 /* owners named to one worker in one step: a message is bounded */

/* A full window never holds back a task that was taken from its owner and is older than one that is in it: recovered or
 * stolen work may be what those wait for. One that nobody has had yet is not: its readers are still to be assigned. */
static bool may_take(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind, bool again,
                     uint64_t order)
{
    bool sendable = where_count(worker) < WHERE_MAX && sched->step_assigned < sched->config.assigned_per_step;
    if (!sendable || tessi_hungry_below(sched, worker, kind, 1)) {
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
    TESS_ASSERT(span.count > 0 && span.layer->lane == lane);
    uint64_t key = backlog_key(head), fresh = key & BACKLOG_FRESH, order = key & ~BACKLOG_FRESH;
    uint64_t next = next_key(backlog), done = 0;
    uint32_t kind = kind_at(worker, lane);
    for (; done < span.count; done++) {
        uint64_t index = span.first + done;
        if (sched->lookups == 0) {
            sched->cut_short = true;
            backlog->cut_turn = done == 0 && backlog->cut_turn == 0 ? lane->turn : backlog->cut_turn;
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
        tessi_assign_task(sched, worker, span.layer, index, order);
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

/* The lane that has waited longest for its turn since a step was cut short before it, or NULL. Without it a lane whose first
 * task reads more than a step may look at, and waits, would keep all lanes after it from ever being looked at. */
static struct lane *cut_lane(const struct session *session, uint32_t worker)
{
    struct lane *first = NULL;
    for (size_t l = 0; l < session->lane_count; l++) {
        struct lane *lane = session->lanes[l];
        uint32_t turn = worker < lane->capacity ? lane->backlogs[worker].cut_turn : 0;
        if (turn > 0 && (first == NULL || turn < first->backlogs[worker].cut_turn)) {
            first = lane;
        }
    }
    return first;
}

/* One span of the first lane that has something to give. */
static bool feed_from(struct tessi_sched *sched, struct worker *worker, struct session *session)
{
    if (session->lane_count == 1) {
        return feed_lane(sched, worker, session->lanes[0]);
    }
    session->turn++;
    struct lane *cut = cut_lane(session, worker->index);
    if (cut != NULL && sched->lookups > 0) {
        cut->backlogs[worker->index].cut_turn = 0;
        cut->turn = session->turn;
        if (feed_lane(sched, worker, cut)) {
            return true;
        }
    }
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

/* Sessions take turns at each worker, one span a turn; when a step is cut short, the next begins with the one at hand. */
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
        } else if (sched->cut_short) {
            worker->next_session--;
            break;
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
            TESS_ASSERT(worker->hungry);
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
