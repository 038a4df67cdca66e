/* Steps to slots, and the order in which tasks get room: first whatever the oldest task needs; if it
 * must wait for room, nobody else gets any. Then inputs of started tasks, then starts and first inputs
 * in task order, and what later steps need with the room that is left.
 *
 * A slot is a queue. Short steps queue up for about half a millisecond, so that handing them over costs
 * little a step; behind a long step nothing waits that another worker could have begun. A step may queue up
 * for inputs that do not exist yet when short steps that make them are in the queues already: a dependent chain
 * runs through a slot without a word from here, and at another slot it waits there for the end of
 * those steps (`after`). Steps come after earlier ones only, so queues never wait for each other in a ring. */
#include "worker/flow/internal.h"

#define AHEAD_NS INT64_C(500000)      /* steps queue up for so long */
#define HANDOVER_NS INT64_C(10000000) /* another may wait behind one step that takes less: it hides the hand-over */
#define SHORT_NS INT64_C(200000)      /* steps that others may queue up behind */
#define CROSS_NS INT64_C(1500)        /* until one slot knows that another's step has ended */
#define UNKNOWN_NS INT64_C(1000000)   /* of a step, until one of its layer has been measured */

static int64_t step_estimate(const struct tessi_flow *flow, const struct flow_task *task)
{
    const struct flow_layer *layer = flow_layer(flow, flow_block(flow, task->block)->layer);
    enum flow_kind kind = flow_task_kind(flow, task);
    if (kind == FLOW_DEVICE && layer->either) {
        return (int64_t)tessi_flow_device_step_ns(flow, layer, task->steps) + 1;
    }
    return layer->step_ns[kind] > 0 ? layer->step_ns[kind] : UNKNOWN_NS;
}

void tessi_flow_slot_recount(struct tessi_flow *flow, uint32_t slot)
{
    struct tessi_heap *idle = &flow->idle[slot < flow->config.slots ? FLOW_CPU : FLOW_DEVICE];
    tessi_heap_update(idle, (uint64_t)flow->slots[slot].queued_ns, slot, slot);
}

static bool slot_open(const struct tessi_flow *flow, const struct flow_task *task, uint32_t slot_index)
{
    const struct flow_slot *slot = &flow->slots[slot_index];
    uint32_t count = flow_slot_count(slot);
    if (count == 0) {
        return true;
    }
    if (count >= slot->depth) {
        return false;
    }
    if (slot_index >= flow->config.slots) {
        return task->queued > 0; /* of one task at a time */
    }
    if (task->queued > 0) {
        return count == 1 || slot->queued_ns < AHEAD_NS;
    }
    if (task->alone || flow_run(flow, slot, slot->next - 1)->alone) {
        return false;
    }
    return slot->queued_ns < (count == 1 ? HANDOVER_NS : AHEAD_NS);
}

/* The task waits until a step of that slot ends. */
static void hold_back(struct tessi_flow *flow, uint32_t handle, uint32_t slot)
{
    tessi_flow_task_unready(flow, handle);
    flow_task(flow, handle)->held_back = true;
    tessi_flow_handles_push(&flow->slots[slot].held_back, handle);
}

void tessi_flow_release_held_back(struct tessi_flow *flow, struct flow_slot *slot)
{
    for (size_t i = 0; i < slot->held_back.count; i++) {
        struct flow_task *task = flow_task(flow, slot->held_back.items[i]);
        if (task->live && task->held_back) {
            task->held_back = false;
            tessi_flow_task_ready(flow, slot->held_back.items[i]);
        }
    }
    slot->held_back.count = 0;
}

/* --- where a step goes --- */

/* Estimated time until the last step of the task that makes `block` ends. */
static int64_t promised_in_ns(const struct tessi_flow *flow, const struct flow_block *block)
{
    const struct flow_task *maker = flow_task(flow, block->task);
    const struct flow_slot *slot = &flow->slots[maker->slot];
    int64_t behind_ns = slot->until_ns - flow_run(flow, slot, maker->last_run)->until_ns;
    return slot->queued_ns > behind_ns ? slot->queued_ns - behind_ns : 0;
}

static bool next_input(const struct flow_task *task, uint32_t i)
{
    return i < task->link_count && task->links[i].step == task->next_step;
}

/* When the task's next step could begin at the slot. */
static int64_t begin_ns(const struct tessi_flow *flow, const struct flow_task *task, uint32_t slot)
{
    int64_t begin = flow->slots[slot].queued_ns;
    for (uint32_t i = task->demand_at; next_input(task, i); i++) {
        const struct flow_block *block = flow_block(flow, task->links[i].block);
        if (block->state == FLOW_MAKING) {
            int64_t there = promised_in_ns(flow, block);
            there += flow_task(flow, block->task)->slot == slot ? 0 : CROSS_NS;
            begin = there > begin ? there : begin;
        }
    }
    return begin;
}

/* With its inputs where they are being made, or at the slot with the least to do. */
static uint32_t choose_slot(const struct tessi_flow *flow, const struct flow_task *task, enum flow_kind kind)
{
    uint32_t idle = tessi_heap_peek(&flow->idle[kind])->value, best = FLOW_NONE;
    int64_t best_ns = 0;
    if (kind == FLOW_DEVICE) {
        return idle; /* its device is not chosen here */
    }
    for (uint32_t i = task->demand_at; next_input(task, i); i++) {
        const struct flow_block *block = flow_block(flow, task->links[i].block);
        uint32_t slot = block->state == FLOW_MAKING ? flow_task(flow, block->task)->slot : best;
        if (slot != best) {
            int64_t begin = begin_ns(flow, task, slot);
            if (best == FLOW_NONE || begin < best_ns) {
                best = slot;
                best_ns = begin;
            }
        }
    }
    return best == FLOW_NONE || (idle != best && begin_ns(flow, task, idle) < best_ns) ? idle : best;
}

static bool add_after(struct tessi_flow_action *action, const struct flow_task *maker)
{
    for (uint32_t k = 0; k < action->after_count; k++) {
        if (action->after[k].slot == maker->slot) {
            struct tessi_flow_after *after = &action->after[k];
            after->first = maker->last_run < after->first ? maker->last_run : after->first;
            after->last = maker->last_run > after->last ? maker->last_run : after->last;
            return true;
        }
    }
    if (action->after_count == TESSI_FLOW_AFTER_MAX) {
        return false;
    }
    action->after[action->after_count++] = (struct tessi_flow_after){maker->slot, maker->last_run, maker->last_run};
    return true;
}

/* What the step comes after: the task's last one, and those that make its inputs. False when that is more than an
 * action can say. */
static bool name_after(const struct tessi_flow *flow, const struct flow_task *task, struct tessi_flow_action *action)
{
    action->after_count = 0;
    if (task->queued > 0) {
        (void)add_after(action, task);
    }
    for (uint32_t i = task->demand_at; next_input(task, i); i++) {
        const struct flow_block *block = flow_block(flow, task->links[i].block);
        if (block->state == FLOW_MAKING && !add_after(action, flow_task(flow, block->task))) {
            return false;
        }
    }
    return true;
}

/* Put the run into the slot's queue, with what the step reads pinned; the pins take the place of its links. */
static void enqueue(struct tessi_flow *flow, uint32_t handle, uint32_t slot_index, struct tessi_flow_action *action)
{
    struct flow_task *task = flow_task(flow, handle);
    struct flow_slot *slot = &flow->slots[slot_index];
    struct flow_run *run = flow_run(flow, slot, slot->next);
    run->task = handle;
    run->out = task->block;
    run->ended = false;
    run->text = NULL;
    run->alone = task->alone;
    enum flow_kind kind = slot_index < flow->config.slots ? FLOW_CPU : FLOW_DEVICE;
    flow->begins_unknown = flow->begins_unknown || run->alone ||
                           flow_layer(flow, flow_block(flow, task->block)->layer)->step_ns[kind] == 0;
    run->estimate_ns = step_estimate(flow, task);
    run->given_ns = flow->now_ns;
    run->lingers = false;
    run->in_count = 0;
    slot->queued_ns += run->estimate_ns;
    run->until_ns = slot->until_ns += run->estimate_ns;
    task->last_run = action->run = slot->next++;
    tessi_flow_slot_recount(flow, slot_index);
    uint32_t i = task->demand_at;
    for (; next_input(task, i); i++) {
        uint32_t in = task->links[i].block;
        TESS_ASSERT(run->in_count < TESSI_STEP_REFS_MAX && flow_block(flow, in)->readable);
        action->in[run->in_count] = run->in[run->in_count] = in;
        run->in_count++;
        flow_block(flow, in)->pins++;
        flow_block(flow, in)->fresh = false;
        tessi_flow_link_set(flow, &task->links[i], FLOW_GONE);
    }
    action->in_count = run->in_count;
    flow_block(flow, task->block)->pins++;
    if (flow->config.device_slots > 0) {
        tessi_flow_mixed_enqueued(flow, run, kind == FLOW_DEVICE);
    }
    task->slot = slot_index;
    task->queued++;
    task->next_step++;
    task->demand_at = i;
}

/* Hand the task's next step to the slot. False when it comes after too many others to say. */
static bool dispatch(struct tessi_flow *flow, uint32_t handle, uint32_t slot_index)
{
    struct flow_task *task = flow_task(flow, handle);
    struct flow_block *out = flow_block(flow, task->block);
    TESS_ASSERT(task->started && task->missing == 0 && task->next_step < task->steps);
    TESS_ASSERT(task->queued == 0 || task->slot == slot_index);
    struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_RUN, task->block);
    if (!name_after(flow, task, action)) {
        flow->actions->count--;
        flow->acted--;
        return false;
    }
    tessi_flow_task_unready(flow, handle);
    action->slot = slot_index;
    action->layer = flow_layer(flow, out->layer)->layer;
    action->step = task->next_step;
    action->steps = task->steps;
    action->assigned_ns = task->assigned_ns;
    action->step_ns = flow_layer(flow, out->layer)->step_ns[flow_task_kind(flow, task)];
    action->out = task->block;
    enqueue(flow, handle, slot_index, action);
    tessi_flow_block_touch(flow, task->block);
    if (task->next_step == task->steps) {
        bool device = slot_index >= flow->config.slots;
        task->promises = !task->alone && !device && step_estimate(flow, task) < SHORT_NS;
        if (task->promises) {
            tessi_flow_block_update(flow, task->block);
        }
    } else {
        tessi_flow_task_aim(flow, handle);
        tessi_flow_task_ready(flow, handle);
    }
    return true;
}

/* A device slot waits for no other slot: the task is held back until the step that makes its input has ended. */
static bool hold_back_for_maker(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_task *task = flow_task(flow, handle);
    bool device = flow->config.device_slots > 0 && flow_task_kind(flow, task) == FLOW_DEVICE;
    for (uint32_t i = task->demand_at; device && next_input(task, i); i++) {
        const struct flow_block *block = flow_block(flow, task->links[i].block);
        if (block->state == FLOW_MAKING) {
            hold_back(flow, handle, flow_task(flow, block->task)->slot);
            return true;
        }
    }
    return false;
}

static void run_started(struct tessi_flow *flow)
{
    const struct tessi_heap_entry *top;
    while ((top = tessi_queue_peek(&flow->runnable)) != NULL) {
        uint32_t handle = top->value;
        const struct flow_task *task = flow_task(flow, handle);
        if (hold_back_for_maker(flow, handle)) {
            continue;
        }
        uint32_t slot = task->queued > 0 ? task->slot : choose_slot(flow, task, flow_task_kind(flow, task));
        if (!slot_open(flow, task, slot)) {
            hold_back(flow, handle, slot);
        } else if (!dispatch(flow, handle, slot)) {
            return;
        }
    }
}

/* It waits aside until something is given back. */
static void put_by(struct tessi_flow *flow, uint32_t handle)
{
    (void)tessi_queue_remove(&flow->startable[flow_task_kind(flow, flow_task(flow, handle))], handle);
    if (!tessi_heap_contains(&flow->lacking, handle)) {
        tessi_heap_push(&flow->lacking, flow_task(flow, handle)->order, handle, handle);
    }
}

/* The kind of slots that the task starts at. FLOW_KINDS: that is still open, and steps at devices are under way. */
static enum flow_kind place(const struct tessi_flow *flow, const struct flow_task *task)
{
    enum flow_kind kind = flow_task_kind(flow, task);
    if (kind == FLOW_CPU || !flow_layer(flow, flow_block(flow, task->block)->layer)->either) {
        return kind;
    }
    uint32_t slot = choose_slot(flow, task, FLOW_CPU);
    bool streams = task->steps > 1 && flow->streams[FLOW_CPU] >= FLOW_STREAMS_PER_SLOT * flow->config.slots;
    bool takes = slot_open(flow, task, slot) && !streams;
    switch (tessi_flow_place_mixed(flow, task, begin_ns(flow, task, slot), takes)) {
    case TESSI_FLOW_AT_DEVICE:
        return FLOW_DEVICE;
    case TESSI_FLOW_AT_SLOT:
        return FLOW_CPU;
    case TESSI_FLOW_LATER:
        break;
    }
    return FLOW_KINDS;
}

/* What younger tasks wait for may be the oldest one's work: they would hold what it needs for ever. */
static void reclaim_resources(struct tessi_flow *flow, uint32_t handle)
{
    const struct tessi_resources *demand = &tessi_flow_task_options(flow, flow_task(flow, handle))->demand;
    for (size_t i = 0; i < flow->holders.count && !tessi_flow_resources_are_free(flow, demand);) {
        uint32_t holder = flow->holders.items[i];
        const struct flow_task *task = flow_task(flow, holder);
        if (task->queued == 0 && task->missing > 0 && !task->suspect && flow_block(flow, task->block)->pins == 0) {
            tessi_flow_task_restart(flow, holder); /* it gives back what it holds: another one stands here now */
        } else {
            i++;
        }
    }
}

static enum flow_grant start(struct tessi_flow *flow, uint32_t handle, bool oldest)
{
    struct flow_task *task = flow_task(flow, handle);
    struct flow_block *block = flow_block(flow, task->block);
    if (hold_back_for_maker(flow, handle)) {
        return FLOW_GRANTED;
    }
    enum flow_kind kind = place(flow, task);
    if (kind == FLOW_KINDS) {
        return FLOW_NO_SLOT;
    }
    uint32_t slot = choose_slot(flow, task, kind), idle = tessi_heap_peek(&flow->idle[kind])->value;
    struct tessi_flow_action after;
    uint32_t streams_max = kind == FLOW_CPU ? FLOW_STREAMS_PER_SLOT * flow->config.slots : flow->config.device_slots;
    bool streams = task->steps > 1 && flow->streams[kind] >= streams_max;
    bool sayable = task->link_count <= TESSI_FLOW_AFTER_MAX || name_after(flow, task, &after);
    if ((!oldest && streams) || !sayable) {
        return FLOW_NO_SLOT;
    }
    if (!slot_open(flow, task, slot)) {
        if (slot == idle || !slot_open(flow, task, idle)) {
            return FLOW_NO_SLOT;
        }
        hold_back(flow, handle, slot); /* others may start at the idle one meanwhile */
        return FLOW_GRANTED;
    }
    if (!oldest && !tessi_flow_reserve_kept(flow, task->block)) {
        return FLOW_NO_ROOM;
    }
    if (oldest) {
        reclaim_resources(flow, handle);
    }
    if (!tessi_flow_resources_take(flow, handle)) {
        if (oldest) {
            tessi_flow_resources_reserve(flow, handle);
        }
        put_by(flow, handle);
        return FLOW_NO_RESOURCE;
    }
    struct flow_request request = {flow_charge(flow, block), flow_task_position(task, 0), oldest, true, true};
    if (!tessi_flow_room(flow, &request)) {
        tessi_flow_resources_give(flow, handle);
        return FLOW_NO_ROOM;
    }
    tessi_flow_hold(flow, task->block);
    (void)tessi_flow_act(flow, TESSI_FLOW_ALLOC, task->block);
    task->started = true;
    flow->started++;
    task->stream = task->steps > 1;
    task->at_device = kind == FLOW_DEVICE;
    flow->streams[kind] += task->stream ? 1 : 0;
    tessi_flow_block_move(flow, task->block, FLOW_MAKING);
    bool handed = dispatch(flow, handle, slot);
    TESS_ASSERT(handed);
    return FLOW_GRANTED;
}

static enum flow_grant serve_oldest(struct tessi_flow *flow)
{
    uint32_t handle = tessi_flow_oldest(flow);
    if (flow->reserved_for != handle) {
        tessi_flow_resources_reserve(flow, FLOW_NONE);
    }
    if (handle == FLOW_NONE) {
        return FLOW_GRANTED;
    }
    const struct flow_task *task = flow_task(flow, handle);
    if (task->receive) {
        return flow_block_bringable(flow_block(flow, task->block)) ? tessi_flow_bring(flow, task->block, true)
                                                                   : FLOW_GRANTED;
    }
    if (task->missing == 0) {
        bool ready = tessi_queue_contains(&flow->startable[flow_task_kind(flow, task)], handle) ||
                     tessi_heap_contains(&flow->lacking, handle);
        return ready ? start(flow, handle, true) : FLOW_GRANTED;
    }
    for (uint32_t i = task->demand_at; next_input(task, i); i++) {
        if (flow_block(flow, task->links[i].block)->asks_later) {
            tessi_flow_ask_now(flow, task->links[i].block); /* what it waits behind may wait for this task */
        }
        if (flow_block_bringable(flow_block(flow, task->links[i].block))) {
            enum flow_grant grant = tessi_flow_bring(flow, task->links[i].block, true);
            if (grant != FLOW_GRANTED) {
                return grant;
            }
        }
    }
    return FLOW_GRANTED;
}

/* Heirs whose room is owed to a task elsewhere that comes before all that are here. */
static enum flow_grant serve_heirs(struct tessi_flow *flow)
{
    const struct tessi_heap_entry *top;
    while (flow->heir_bytes > 0 && (top = tessi_heap_peek(&flow->fetch[FLOW_AHEAD])) != NULL &&
           tessi_flow_heir_first(flow, flow_block(flow, top->value))) {
        enum flow_grant grant = tessi_flow_bring(flow, top->value, false);
        if (grant != FLOW_GRANTED) {
            return grant;
        }
    }
    return FLOW_GRANTED;
}

/* Who wants room: tasks that could start, at CPU slots and at device slots; first inputs; later inputs. */
enum source { START, START_AT_DEVICE, FIRST_INPUT, LATER_INPUT, SOURCES };

/* The lowest position among the sources still open; −1: there is none. */
static int next_source(const struct tessi_flow *flow, const bool open[SOURCES])
{
    const struct tessi_heap_entry *tops[SOURCES] = {
        tessi_queue_peek(&flow->startable[FLOW_CPU]), tessi_queue_peek(&flow->startable[FLOW_DEVICE]),
        tessi_heap_peek(&flow->fetch[FLOW_WAITING]), tessi_heap_peek(&flow->fetch[FLOW_AHEAD])};
    struct flow_position best = {0, 0};
    int chosen = -1;
    for (int i = 0; i < SOURCES; i++) {
        const struct tessi_heap_entry *top = open[i] ? tops[i] : NULL;
        if (top == NULL) {
            continue;
        }
        struct flow_position at = {top->first, top->second};
        if (i <= START_AT_DEVICE) {
            at = flow_task_position(flow_task(flow, top->value), 0);
        }
        if (chosen < 0 || flow_after(best, at)) {
            best = at;
            chosen = i;
        }
    }
    return chosen;
}

/* Start the first startable task. When there is no room for it, older ones of lower priority may still be given what
 * there is, and younger ones of any kind may not. */
static enum flow_grant start_next(struct tessi_flow *flow, enum flow_kind kind, uint64_t *limit)
{
    uint32_t handle = tessi_queue_peek(&flow->startable[kind])->value;
    uint64_t order = flow_task(flow, handle)->order;
    enum flow_grant grant = order > *limit ? FLOW_NO_ROOM : start(flow, handle, false);
    if (grant == FLOW_NO_ROOM && flow->priorities) {
        (void)tessi_queue_remove(&flow->startable[kind], handle);
        tessi_flow_handles_push(&flow->set_aside, handle);
        *limit = order < *limit ? order : *limit;
    }
    return grant;
}

static void put_back(struct tessi_flow *flow)
{
    while (flow->set_aside.count > 0) {
        uint32_t handle = flow->set_aside.items[--flow->set_aside.count];
        const struct flow_task *task = flow_task(flow, handle);
        if (task->live && !task->started) {
            tessi_flow_task_ready(flow, handle);
        }
    }
}

static void grant_room(struct tessi_flow *flow)
{
    bool open[SOURCES] = {true, true, true, true};
    const struct tessi_heap_entry *top;
    while ((top = tessi_heap_peek(&flow->fetch[FLOW_STARTED])) != NULL) {
        enum flow_grant grant = tessi_flow_bring(flow, top->value, false);
        if (grant == FLOW_NO_ROOM) {
            return;
        }
        if (grant == FLOW_NO_CREDIT) {
            open[FIRST_INPUT] = open[LATER_INPUT] = false;
            break;
        }
    }
    int source;
    uint64_t limit = UINT64_MAX;
    while ((source = next_source(flow, open)) >= 0) {
        enum flow_grant grant;
        if (source <= START_AT_DEVICE) {
            grant = start_next(flow, source == START ? FLOW_CPU : FLOW_DEVICE, &limit);
            run_started(
                flow); /* a slot goes on with its task rather than take turns between two: they would end late */
        } else {
            enum flow_class class = source == FIRST_INPUT ? FLOW_WAITING : FLOW_AHEAD;
            grant = tessi_flow_bring(flow, tessi_heap_peek(&flow->fetch[class])->value, false);
        }
        switch (grant) {
        case FLOW_GRANTED:
            break;
        case FLOW_NO_RESOURCE:
            break;
        case FLOW_NO_SLOT:
            open[source] = false;
            break;
        case FLOW_NO_CREDIT:
            open[FIRST_INPUT] = open[LATER_INPUT] = false;
            break;
        case FLOW_NO_ROOM:
            open[LATER_INPUT] = false;
            open[FIRST_INPUT] = open[FIRST_INPUT] && source == LATER_INPUT;
            for (int start = START; start <= START_AT_DEVICE; start++) {
                bool others = source == LATER_INPUT || (source <= START_AT_DEVICE && flow->priorities);
                open[start] = open[start] && others;
            }
            break;
        }
    }
    put_back(flow);
}

static bool has_nothing_to_begin(const struct tessi_flow *flow, enum flow_kind kind)
{
    const struct tessi_heap_entry *idle = tessi_heap_peek(&flow->idle[kind]);
    return idle != NULL && idle->first == 0 && flow->startable[kind].count == 0 && flow->runnable.count == 0;
}

/* What was fetched too early is fetched again, for one task after the other, when a slot would do nothing else: not while
 * tasks that have begun wait for what is on its way. */
static void unshelve(struct tessi_flow *flow)
{
    const struct tessi_heap_entry *top = tessi_heap_peek(&flow->shelved);
    if (top == NULL) {
        return;
    }
    if (flow->unshelved != FLOW_NONE) {
        const struct flow_block *last = flow_block(flow, flow->unshelved);
        bool coming = last->live && (last->fetch < FLOW_CLASSES || last->state == FLOW_PULLING);
        flow->unshelved = coming ? flow->unshelved : FLOW_NONE;
    }
    bool idle = has_nothing_to_begin(flow, FLOW_CPU) || has_nothing_to_begin(flow, FLOW_DEVICE);
    if (!idle || flow->unshelved != FLOW_NONE || (flow->incoming_bytes > 0 && flow->started >= flow_slots_all(flow))) {
        return;
    }
    uint64_t order = top->first;
    uint32_t last = FLOW_NONE;
    while ((top = tessi_heap_peek(&flow->shelved)) != NULL && top->first == order) {
        uint32_t handle = top->value;
        tessi_flow_unshelve(flow, handle);
        tessi_flow_block_update(flow, handle);
        last = flow_block(flow, handle)->fetch < FLOW_CLASSES ? handle : last;
    }
    flow->unshelved = last;
}

void tessi_flow_advance(struct tessi_flow *flow)
{
    uint64_t before;
    do {
        before = flow->acted;
        tessi_flow_ask_next(flow);
        unshelve(flow);
        flow->blocked_by_heir = serve_heirs(flow) == FLOW_NO_ROOM;
        flow->blocked = flow->blocked_by_heir || serve_oldest(flow) == FLOW_NO_ROOM;
        run_started(flow);
        if (!flow->blocked) {
            grant_room(flow);
        }
        tessi_flow_settle(flow);
    } while (flow->acted > before || tessi_flow_heirs_refuse_hopeless(flow));
    tessi_flow_notice_short(flow);
}
