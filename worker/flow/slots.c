/* Steps to slots, and the order in which tasks get room: first whatever the oldest task needs; if it
 * must wait for room, nobody else gets any. Then inputs of started tasks, then starts and first inputs
 * in task order, and what later steps need with the room that is left. */
#include "core/base/alloc.h"
#include "worker/flow/internal.h"

uint32_t tessi_flow_oldest(const struct tessi_flow *flow)
{
    const struct tessi_heap_entry *top = tessi_heap_peek(&flow->all);
    return top == NULL ? FLOW_NONE : top->value;
}

static void slot_recount(struct tessi_flow *flow, uint32_t slot)
{
    (void)tessi_heap_remove(&flow->idle, slot);
    tessi_heap_push(&flow->idle, flow->slots[slot].count, slot, slot);
}

static bool slot_full(const struct tessi_flow *flow, uint32_t slot)
{
    return flow->slots[slot].count >= flow->config.slot_depth;
}

/* Hand the task's next step to the slot. The step's pins take the place of its links. */
static void dispatch(struct tessi_flow *flow, uint32_t handle, uint32_t slot_index)
{
    struct flow_task *task = flow_task(flow, handle);
    struct flow_block *out = flow_block(flow, task->block);
    struct flow_slot *slot = &flow->slots[slot_index];
    struct flow_run *run = &slot->queue[slot->count++];
    TESS_ASSERT(task->started && task->missing == 0 && task->next_step < task->steps);
    TESS_ASSERT(task->queued == 0 || task->slot == slot_index);
    slot_recount(flow, slot_index);
    tessi_flow_task_unready(flow, handle);

    struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_RUN, task->block);
    action->slot = slot_index;
    action->run = run->id = flow->next_run++;
    action->layer = flow_layer(flow, out->layer)->layer;
    action->step = task->next_step;
    action->steps = task->steps;
    action->out = run->out = task->block;
    run->task = handle;
    run->in_count = 0;
    uint32_t i = task->demand_at;
    for (; i < task->link_count && task->links[i].step == task->next_step; i++) {
        uint32_t in = task->links[i].block;
        TESS_ASSERT(run->in_count < TESSI_STEP_REFS_MAX && flow_block(flow, in)->readable);
        action->in[run->in_count] = run->in[run->in_count] = in;
        run->in_count++;
        flow_block(flow, in)->pins++;
        tessi_flow_link_set(flow, &task->links[i], FLOW_GONE);
    }
    action->in_count = run->in_count;
    out->pins++;
    tessi_flow_block_touch(flow, task->block);

    if (!task->told) {
        task->told = true;
        tessi_spans_push(&flow->report.started, tessi_flow_block_span(flow, out));
    }
    task->slot = slot_index;
    task->queued++;
    task->next_step++;
    task->demand_at = i;
    tessi_flow_task_aim(flow, handle);
    tessi_flow_task_ready(flow, handle);
}

static void run_started(struct tessi_flow *flow)
{
    const struct tessi_heap_entry *top;
    while ((top = tessi_heap_peek(&flow->runnable)) != NULL) {
        uint32_t handle = top->value;
        const struct flow_task *task = flow_task(flow, handle);
        uint32_t slot = task->queued > 0 ? task->slot : tessi_heap_peek(&flow->idle)->value;
        if (!slot_full(flow, slot)) {
            dispatch(flow, handle, slot);
        } else if (task->queued > 0) {
            (void)tessi_heap_remove(&flow->runnable, handle); /* back when a step of that slot ends */
        } else {
            return;
        }
    }
}

static enum flow_grant start(struct tessi_flow *flow, uint32_t handle, bool oldest)
{
    struct flow_task *task = flow_task(flow, handle);
    struct flow_block *block = flow_block(flow, task->block);
    uint32_t slot = tessi_heap_peek(&flow->idle)->value;
    uint32_t depth = flow->config.slot_depth > 2 ? flow->config.slot_depth : 2;
    /* Without a bound on started tasks, accumulators would fill the memory. */
    if (slot_full(flow, slot) || (!oldest && flow->started / depth >= flow->config.slots)) {
        return FLOW_NO_SLOT;
    }
    if (!oldest && !tessi_flow_reserve_kept(flow, task->block)) {
        return FLOW_NO_ROOM;
    }
    struct flow_request request = {block->bytes, flow_task_position(task, 0), oldest, true, true};
    if (!tessi_flow_room(flow, &request)) {
        return FLOW_NO_ROOM;
    }
    tessi_flow_hold(flow, task->block);
    (void)tessi_flow_act(flow, TESSI_FLOW_ALLOC, task->block);
    task->started = true;
    flow->started++;
    tessi_flow_block_move(flow, task->block, FLOW_MAKING);
    dispatch(flow, handle, slot);
    return FLOW_GRANTED;
}

static enum flow_grant serve_oldest(struct tessi_flow *flow)
{
    uint32_t handle = tessi_flow_oldest(flow);
    if (handle == FLOW_NONE) {
        return FLOW_GRANTED;
    }
    const struct flow_task *task = flow_task(flow, handle);
    if (task->receive) {
        return flow_block_bringable(flow_block(flow, task->block)) ? tessi_flow_bring(flow, task->block, true)
                                                                   : FLOW_GRANTED;
    }
    if (task->missing == 0) {
        return tessi_heap_contains(&flow->startable, handle) ? start(flow, handle, true) : FLOW_GRANTED;
    }
    for (uint32_t i = task->demand_at; i < task->link_count && task->links[i].step == task->next_step; i++) {
        if (flow_block_bringable(flow_block(flow, task->links[i].block))) {
            enum flow_grant grant = tessi_flow_bring(flow, task->links[i].block, true);
            if (grant != FLOW_GRANTED) {
                return grant;
            }
        }
    }
    return FLOW_GRANTED;
}

/* The lowest position among the sources still open: 0 starts, 1 first inputs, 2 later inputs. */
static int next_source(const struct tessi_flow *flow, const bool open[3])
{
    const struct tessi_heap *heaps[3] = {&flow->startable, &flow->fetch[FLOW_WAITING], &flow->fetch[FLOW_AHEAD]};
    struct flow_position best = {0, 0};
    int chosen = -1;
    for (int i = 0; i < 3; i++) {
        const struct tessi_heap_entry *top = open[i] ? tessi_heap_peek(heaps[i]) : NULL;
        if (top == NULL) {
            continue;
        }
        struct flow_position at = {top->first, i == 0 ? top->second << 32 : top->second};
        if (chosen < 0 || flow_after(best, at)) {
            best = at;
            chosen = i;
        }
    }
    return chosen;
}

static void grant_room(struct tessi_flow *flow)
{
    bool open[3] = {true, true, true};
    const struct tessi_heap_entry *top;
    while ((top = tessi_heap_peek(&flow->fetch[FLOW_STARTED])) != NULL) {
        enum flow_grant grant = tessi_flow_bring(flow, top->value, false);
        if (grant == FLOW_NO_ROOM) {
            return;
        }
        if (grant == FLOW_NO_CREDIT) {
            open[1] = open[2] = false;
            break;
        }
    }
    int source;
    while ((source = next_source(flow, open)) >= 0) {
        enum flow_grant grant;
        if (source == 0) {
            grant = start(flow, tessi_heap_peek(&flow->startable)->value, false);
            run_started(flow); /* a slot goes on with its task rather than take turns between two: they would end late */
        } else {
            enum flow_class class = source == 1 ? FLOW_WAITING : FLOW_AHEAD;
            grant = tessi_flow_bring(flow, tessi_heap_peek(&flow->fetch[class])->value, false);
        }
        switch (grant) {
        case FLOW_GRANTED:
            break;
        case FLOW_NO_SLOT:
            open[0] = false;
            break;
        case FLOW_NO_CREDIT:
            open[1] = open[2] = false;
            break;
        case FLOW_NO_ROOM:
            if (source != 2) {
                return;
            }
            open[2] = false;
            break;
        }
    }
}

void tessi_flow_advance(struct tessi_flow *flow)
{
    size_t before;
    do {
        before = flow->actions->count;
        flow->blocked = serve_oldest(flow) == FLOW_NO_ROOM;
        run_started(flow);
        if (!flow->blocked) {
            grant_room(flow);
        }
        tessi_flow_settle(flow);
    } while (flow->actions->count > before);
}

/* --- steps that end --- */

static void unpin(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(block->pins > 0);
    if (--block->pins > 0) {
        return;
    }
    block->last_use = ++flow->clock;
    tessi_flow_block_touch(flow, handle);
    if (block->state == FLOW_ABANDONED || block->state == FLOW_MAPPED || block->discard) {
        tessi_flow_check(flow, handle);
    }
}

static void fail(struct tessi_flow *flow, uint32_t handle, const struct tessi_flow_event *event)
{
    uint32_t block_handle = flow_task(flow, handle)->block;
    const struct flow_block *block = flow_block(flow, block_handle);
    struct tessi_report *report = &flow->report;
    tessi_grow(&report->failures, &report->failure_capacity, report->failure_count + 1, sizeof *report->failures);
    report->failures[report->failure_count++] =
        (struct tessi_failure){.task = tessi_flow_block_name(flow, block), .epoch = flow_task(flow, handle)->epoch,
                               .status = event->status, .text = tessi_strdup(event->text == NULL ? "" : event->text)};
    tessi_flow_task_drop(flow, handle);
    tessi_flow_turn_away(flow, block_handle, 0, 0);
}

static void task_step_done(struct tessi_flow *flow, uint32_t handle, const struct tessi_flow_event *event, bool lost)
{
    struct flow_task *task = flow_task(flow, handle);
    task->queued--;
    task->ran_ns += event->ran_ns;
    task->suspect = task->suspect || lost;
    if (task->suspect) {
        tessi_flow_task_unready(flow, handle);
        if (task->queued == 0) {
            tessi_flow_task_restart(flow, handle);
        }
    } else if (event->status != TESSI_OK) {
        fail(flow, handle, event);
    } else if (++task->done_steps == task->steps) {
        tessi_flow_task_finish(flow, handle);
    } else {
        tessi_flow_task_ready(flow, handle);
    }
}

void tessi_flow_on_step_done(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    struct flow_slot *slot = event->slot < flow->config.slots ? &flow->slots[event->slot] : NULL;
    uint32_t i = 0;
    while (slot != NULL && i < slot->count && slot->queue[i].id != event->run) {
        i++;
    }
    if (slot == NULL || i == slot->count) {
        flow->stale_events++;
        return;
    }
    struct flow_run run = slot->queue[i];
    slot->count--;
    for (; i < slot->count; i++) {
        slot->queue[i] = slot->queue[i + 1];
    }
    slot_recount(flow, event->slot);
    bool lost = false;
    unpin(flow, run.out);
    for (uint32_t k = 0; k < run.in_count; k++) {
        lost = lost || flow_block(flow, run.in[k])->lost;
        unpin(flow, run.in[k]);
    }
    if (run.task != FLOW_NONE) {
        task_step_done(flow, run.task, event, lost);
    }
    for (uint32_t k = 0; k < slot->count; k++) {
        if (slot->queue[k].task != FLOW_NONE) {
            tessi_flow_task_ready(flow, slot->queue[k].task);
        }
    }
}
