/* Tasks: assigned, given up, started over, finished. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "worker/flow/internal.h"

/* --- where the inputs are --- */

static int compare_spans(const void *left, const void *right)
{
    const struct tessi_span *a = left, *b = right;
    if (a->session != b->session) {
        return a->session < b->session ? -1 : 1;
    }
    if (a->layer != b->layer) {
        return a->layer < b->layer ? -1 : 1;
    }
    return a->first < b->first ? -1 : a->first > b->first;
}

static void where_set(struct tessi_flow *flow, const struct tessi_span *where, size_t count)
{
    tessi_grow(&flow->where, &flow->where_capacity, count, sizeof *flow->where);
    bool sorted = true;
    for (size_t i = 0; i < count; i++) {
        flow->where[i] = where[i];
        sorted = sorted && (i == 0 || compare_spans(&where[i - 1], &where[i]) <= 0);
    }
    if (!sorted) {
        qsort(flow->where, count, sizeof *flow->where, compare_spans);
    }
    flow->where_count = count;
}

static const struct tessi_span *where_find(const struct tessi_flow *flow, struct tessi_task name)
{
    struct tessi_span key = {.session = name.session, .layer = name.layer, .first = name.index};
    size_t lo = 0, hi = flow->where_count; /* the last span that does not start after the name */
    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;
        if (compare_spans(&flow->where[middle], &key) <= 0) {
            lo = middle + 1;
        } else {
            hi = middle;
        }
    }
    if (lo == 0) {
        return NULL;
    }
    const struct tessi_span *span = &flow->where[lo - 1];
    bool inside = span->session == name.session && span->layer == name.layer && name.index - span->first < span->count;
    return inside ? span : NULL;
}

/* --- inputs --- */

static uint64_t block_bytes(const struct flow_layer *layer, uint64_t index)
{
    return layer->block_bytes > 0 ? layer->block_bytes : tessi_layer_block_bytes(layer->layer, index);
}

/* Collect the refs of all steps; returns output plus the largest window of two consecutive steps. */
static uint64_t collect_refs(struct tessi_flow *flow, const struct flow_layer *of, uint64_t index, uint32_t steps)
{
    const struct tessi_layer *layer = of->layer;
    uint64_t before = 0, largest = 0;
    flow->ref_count = 0;
    for (uint32_t s = 0; s < steps; s++) {
        struct tessi_step step;
        uint64_t bytes = 0;
        tessi_task_step(layer, index, s, &step);
        tessi_grow(&flow->refs, &flow->ref_capacity, flow->ref_count + step.count, sizeof *flow->refs);
        for (uint32_t i = 0; i < step.count; i++) {
            const struct tessi_input *input = &layer->input[step.ref[i].input];
            uint64_t size = of->input_bytes[step.ref[i].input];
            size = size > 0 ? size : tessi_input_block_bytes(input, step.ref[i].index);
            flow->refs[flow->ref_count++] = (struct flow_ref){
                .index = step.ref[i].index, .bytes = size, .layer = layer->reads[step.ref[i].input], .step = s};
            bytes += tessi_block_charge(size, flow->config.block_cost);
        }
        largest = before + bytes > largest ? before + bytes : largest;
        before = bytes;
    }
    return largest + tessi_block_charge(block_bytes(of, index), flow->config.block_cost);
}

static uint32_t input_block(struct tessi_flow *flow, uint32_t session, const struct flow_ref *ref)
{
    struct tessi_task name = {session, ref->layer, ref->index};
    uint32_t handle = tessi_flow_block_find(flow, name);
    if (handle == FLOW_NONE) {
        uint32_t layer = tessi_flow_layer_get(flow, session, ref->layer);
        handle = tessi_flow_block_create(flow, layer, ref->index, ref->bytes);
    }
    struct flow_block *block = flow_block(flow, handle);
    block->discard = block->discard && flow->where_count == 0; /* a restart tells nothing new */
    if (block->state <= FLOW_NOWHERE) {
        const struct tessi_span *where = where_find(flow, name);
        if (where != NULL && where->worker != 0 && where->worker != flow->config.self) {
            tessi_flow_ask(flow, handle, where->worker, where->epoch);
        } else {
            tessi_flow_check(flow, handle);
        }
    }
    return handle;
}

static void link_inputs(struct tessi_flow *flow, uint32_t handle, uint32_t session)
{
    struct flow_task *task = flow_task(flow, handle);
    task->link_count = (uint32_t)flow->ref_count;
    task->links = flow->ref_count <= FLOW_LINKS_FEW ? task->few : tessi_alloc(flow->ref_count * sizeof *task->links);
    for (uint32_t i = 0; i < task->link_count; i++) {
        const struct flow_ref *ref = &flow->refs[i];
        task->links[i] = (struct flow_link){.at = flow_task_position(task, ref->step), .task = handle,
                                            .block = input_block(flow, session, ref), .step = ref->step,
                                            .class = FLOW_GONE};
        tessi_flow_link_set(flow, &task->links[i], FLOW_FUTURE);
    }
}

static void unlink_inputs(struct tessi_flow *flow, struct flow_task *task)
{
    for (uint32_t i = 0; i < task->link_count; i++) {
        tessi_flow_link_set(flow, &task->links[i], FLOW_GONE);
    }
    if (task->links != task->few) {
        tessi_free(task->links);
    }
    task->links = NULL;
    task->link_count = 0;
}

/* --- assignment --- */

static void report_done(struct tessi_flow *flow, const struct flow_block *block, int64_t time_ns, bool device)
{
    struct tessi_span span = tessi_flow_block_span(flow, block);
    span.time_ns = time_ns;
    span.device = device ? 1 : 0;
    tessi_spans_push(&flow->report.done, span);
}

void tessi_flow_own(struct tessi_flow *flow, uint32_t handle, uint32_t epoch)
{
    struct flow_block *block = flow_block(flow, handle);
    const struct flow_layer *layer = flow_layer(flow, block->layer);
    block->owned = true;
    block->copy_known = false;
    block->epoch = epoch;
    if (!block->file) {
        block->regenerable = layer->layer != NULL && layer->regenerable;
    }
    flow->largest_bytes = flow_charge(flow, block) > flow->largest_bytes ? flow_charge(flow, block) : flow->largest_bytes;
    tessi_flow_block_set_source(flow, handle, 0);
    tessi_flow_block_update(flow, handle);
}

/* The block is complete here: it answers the assignment at once. */
static void assign_complete(struct tessi_flow *flow, uint32_t handle, uint32_t epoch)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->owned && epoch <= block->epoch) {
        flow->stale_events++;
        return;
    }
    tessi_flow_own(flow, handle, epoch);
    report_done(flow, block, 0, false);
}

static void assign_again(struct tessi_flow *flow, const struct flow_block *block, uint32_t epoch)
{
    struct flow_task *task = flow_task(flow, block->task);
    if (epoch > task->epoch) {
        task->epoch = epoch;
        flow_block(flow, task->block)->epoch = epoch;
    } else {
        flow->stale_events++;
    }
}

/* Turn whatever was known of the block from elsewhere into one that is made here. */
static void claim(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_heir_forget(flow, handle);
    if (block->state == FLOW_PULLING || block->state == FLOW_MAPPED) {
        tessi_flow_block_abandon(flow, handle);
    } else if (block->state != FLOW_ABANDONED) {
        tessi_flow_block_set_source(flow, handle, 0);
        tessi_flow_block_move(flow, handle, FLOW_UNMADE);
    }
}

static void assign_one(struct tessi_flow *flow, uint32_t layer_handle, struct tessi_span span)
{
    const struct tessi_layer *layer = flow_layer(flow, layer_handle)->layer;
    uint32_t handle = tessi_flow_block_find(flow, (struct tessi_task){span.session, span.layer, span.first});
    if (handle != FLOW_NONE) {
        const struct flow_block *known = flow_block(flow, handle);
        if (known->task != FLOW_NONE) {
            assign_again(flow, known, span.epoch);
            return;
        }
        if (flow_block_servable(known) || known->state == FLOW_LOADING) {
            assign_complete(flow, handle, span.epoch);
            return;
        }
    }
    uint32_t steps = tessi_task_steps(layer, span.first);
    uint64_t footprint = collect_refs(flow, flow_layer(flow, layer_handle), span.first, steps);
    if (footprint > flow->config.memory_bytes &&
        tessi_task_footprint(layer, span.first) > flow->config.memory_bytes) {
        tessi_spans_push(&flow->report.refused, span);
        return;
    }
    uint64_t bytes = block_bytes(flow_layer(flow, layer_handle), span.first);
    if (handle == FLOW_NONE) {
        handle = tessi_flow_block_create(flow, layer_handle, span.first, bytes);
    }
    struct flow_block *block = flow_block(flow, handle);
    uint32_t task_handle = tessi_flow_pool_take(&flow->tasks);
    struct flow_task *task = flow_task(flow, task_handle);
    task->live = true;
    task->receive = layer->op == TESSI_OP_RECEIVE;
    task->block = handle;
    task->epoch = span.epoch;
    task->alone = span.deaths > 0;
    task->order = span.order;
    task->assigned_ns = flow->now_ns;
    task->seq = flow->seq++;
    task->steps = steps;
    task->footprint = footprint;
    claim(flow, handle);
    TESS_ASSERT(!block->held || block->bytes == bytes);
    block->bytes = bytes;
    block->regenerable = flow_layer(flow, layer_handle)->regenerable;
    block->epoch = span.epoch;
    block->task = task_handle;
    flow->largest_footprint = footprint > flow->largest_footprint ? footprint : flow->largest_footprint;
    tessi_queue_push(&flow->all, task->order, task->seq, task_handle);
    link_inputs(flow, task_handle, span.session);
    tessi_flow_task_aim(flow, task_handle);
    if (block->state == FLOW_UNMADE) {
        tessi_flow_task_unmade(flow, task_handle);
    }
}

void tessi_flow_on_assign(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    where_set(flow, event->where, event->where_count);
    for (size_t i = 0; i < event->span_count; i++) {
        struct tessi_span span = event->spans[i];
        uint32_t layer = tessi_flow_layer_find(flow, span.session, span.layer);
        if (layer == FLOW_NONE || flow_layer(flow, layer)->layer == NULL || flow_layer(flow, layer)->dropped) {
            flow->stale_events++;
            continue;
        }
        uint64_t total = tessi_layer_tasks(flow_layer(flow, layer)->layer);
        uint64_t count = span.first >= total ? 0 : span.count < total - span.first ? span.count : total - span.first;
        flow->stale_events += count == span.count ? 0 : 1;
        span.count = 1;
        for (uint64_t k = 0; k < count; k++) {
            assign_one(flow, layer, span);
            span.first++;
            span.order += span.order_step;
        }
    }
    flow->where_count = 0;
}

/* --- going on --- */

void tessi_flow_task_unmade(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_task *task = flow_task(flow, handle);
    if (task->receive) {
        tessi_flow_await_client(flow, task->block);
    } else {
        tessi_flow_task_ready(flow, handle);
    }
}

void tessi_flow_stream_ended(struct tessi_flow *flow, struct flow_task *task)
{
    flow->streams[task->at_device ? FLOW_DEVICE : FLOW_CPU] -= task->stream ? 1 : 0;
    task->stream = false;
}

void tessi_flow_slots_forget(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_slot *slot = &flow->slots[flow_task(flow, handle)->slot];
    struct flow_run *last = NULL;
    for (uint64_t n = slot->first; n < slot->next; n++) {
        struct flow_run *run = flow_run(flow, slot, n);
        if (run->task == handle) {
            run->task = FLOW_NONE;
            last = run;
        }
    }
    if (last != NULL) {
        tessi_flow_resources_linger(flow, handle, last);
    }
}

void tessi_flow_task_restart(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_task *task = flow_task(flow, handle);
    struct flow_block *block = flow_block(flow, task->block);
    const struct flow_layer *layer = flow_layer(flow, block->layer);
    TESS_ASSERT(task->started && task->queued == 0 && block->state == FLOW_MAKING && block->pins == 0);
    tessi_flow_task_unready(flow, handle);
    task->promises = false;
    tessi_flow_resources_give(flow, handle);
    tessi_flow_block_empty(flow, task->block);
    tessi_flow_block_move(flow, task->block, FLOW_UNMADE);
    unlink_inputs(flow, task);
    flow->started--;
    tessi_flow_stream_ended(flow, task);
    flow->restarted_tasks++;
    task->started = task->suspect = false;
    task->next_step = task->done_steps = task->demand_at = task->ahead_at = 0;
    task->ran_ns = 0;
    (void)collect_refs(flow, layer, block->index, task->steps);
    link_inputs(flow, handle, layer->session);
    tessi_flow_task_aim(flow, handle);
    tessi_flow_task_ready(flow, handle);
}

/* The record goes; its steps at the slot, if any, end unheeded. */
static void task_destroy(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_task *task = flow_task(flow, handle);
    if (task->queued > 0) {
        tessi_flow_slots_forget(flow, handle);
    }
    tessi_flow_task_unready(flow, handle);
    if (task->started) {
        tessi_flow_resources_give(flow, handle);
    }
    if (flow->reserved_for == handle) {
        tessi_flow_resources_reserve(flow, FLOW_NONE);
    }
    (void)tessi_queue_remove(&flow->all, handle);
    unlink_inputs(flow, task);
    flow->started -= task->started ? 1 : 0;
    tessi_flow_stream_ended(flow, task);
    flow_block(flow, task->block)->task = FLOW_NONE;
    tessi_flow_pool_give(&flow->tasks, handle);
}

void tessi_flow_task_finish(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_task *task = flow_task(flow, handle);
    uint32_t block_handle = task->block;
    struct flow_block *block = flow_block(flow, block_handle);
    report_done(flow, block, task->ran_ns, task->at_device);
    task_destroy(flow, handle);
    block->owned = true;
    flow->largest_bytes = flow_charge(flow, block) > flow->largest_bytes ? flow_charge(flow, block) : flow->largest_bytes;
    tessi_flow_block_set_source(flow, block_handle, 0);
    tessi_flow_block_move(flow, block_handle, FLOW_LOCAL);
    tessi_flow_push(flow, block_handle);
    tessi_flow_serve_parked(flow, block_handle);
}

void tessi_flow_task_drop(struct tessi_flow *flow, uint32_t handle)
{
    uint32_t block_handle = flow_task(flow, handle)->block;
    struct flow_block *block = flow_block(flow, block_handle);
    task_destroy(flow, handle);
    if (block->state == FLOW_MAKING || block->state == FLOW_PULLING) {
        tessi_flow_block_abandon(flow, block_handle);
    } else if (block->state != FLOW_ABANDONED) {
        tessi_flow_block_set_source(flow, block_handle, 0);
        tessi_flow_block_move(flow, block_handle, FLOW_ABSENT);
    }
    tessi_flow_check(flow, block_handle);
}

/* --- giving up --- */

/* Call `one` for each name of each span that can exist; names of layers that are not described go to `unknown` whole:
 * nothing was made here of these, and nothing says how many there are. */
static void each_name(struct tessi_flow *flow, const struct tessi_flow_event *event, struct tessi_spans *unknown,
                      void (*one)(struct tessi_flow *flow, struct tessi_span span))
{
    for (size_t i = 0; i < event->span_count; i++) {
        struct tessi_span span = event->spans[i];
        uint32_t layer = tessi_flow_layer_find(flow, span.session, span.layer);
        const struct tessi_layer *described = layer == FLOW_NONE ? NULL : flow_layer(flow, layer)->layer;
        if (described == NULL) {
            tessi_spans_push(unknown, span);
            continue;
        }
        uint64_t total = tessi_layer_tasks(described);
        uint64_t count = span.first >= total ? 0 : span.count < total - span.first ? span.count : total - span.first;
        span.count = 1;
        for (uint64_t k = 0; k < count; k++) {
            one(flow, span);
            span.first++;
            span.order += span.order_step;
        }
    }
}

static void steal_one(struct tessi_flow *flow, struct tessi_span span)
{
    uint32_t handle = tessi_flow_block_find(flow, (struct tessi_task){span.session, span.layer, span.first});
    struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    struct flow_task *task = block == NULL || block->task == FLOW_NONE ? NULL : flow_task(flow, block->task);
    bool idle = task != NULL && !task->started && !task->told && block->state != FLOW_PULLING;
    if (!idle || span.worker == flow->config.self) {
        tessi_spans_push(&flow->report.kept, span);
        return;
    }
    span.epoch = task->epoch;
    tessi_spans_push(&flow->report.stolen, span);
    tessi_flow_turn_away(flow, handle, span.worker, span.epoch + 1);
    tessi_flow_task_drop(flow, block->task);
    if (block->users > 0 && block->state == FLOW_ABSENT) {
        tessi_flow_ask(flow, handle, span.worker, span.epoch + 1);
    }
}

void tessi_flow_on_steal(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    each_name(flow, event, &flow->report.kept, steal_one);
}

static void adopt_one(struct tessi_flow *flow, struct tessi_span span)
{
    uint32_t handle = tessi_flow_block_find(flow, (struct tessi_task){span.session, span.layer, span.first});
    struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    if (block == NULL || !(flow_block_servable(block) || block->state == FLOW_LOADING)) {
        if (block != NULL) {
            tessi_flow_heir_forget(flow, handle);
        }
        tessi_spans_push(&flow->report.missing, span);
        return;
    }
    tessi_flow_own(flow, handle, span.epoch);
    tessi_spans_push(&flow->report.adopted, span);
}

void tessi_flow_on_adopt(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    each_name(flow, event, &flow->report.missing, adopt_one);
}

static void forget_task(struct tessi_flow *flow, uint32_t handle)
{
    uint32_t task = flow_block(flow, handle)->task;
    if (task != FLOW_NONE) {
        tessi_flow_task_drop(flow, task);
        tessi_flow_turn_away(flow, handle, 0, 0);
    }
}

static void forget_block(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    block->copy_known = false;
    tessi_flow_heir_forget(flow, handle);
    if (flow_block_servable(block) || block->state == FLOW_LOADING || block->state == FLOW_MAPPED ||
        (block->state == FLOW_PULLING && block->users == 0)) {
        tessi_flow_block_abandon(flow, handle);
        tessi_flow_turn_away(flow, handle, 0, 0);
    } else {
        block->discard = true;
    }
    tessi_flow_check(flow, handle);
}

/* Their records are far apart in memory, and they are on their way while others are looked up. */
static void name_forgotten(struct tessi_flow *flow, uint32_t handle, const struct tessi_span *span)
{
    (void)span;
    tessi_flow_handles_push(&flow->forgotten, handle);
    __builtin_prefetch(flow_block(flow, handle));
    __builtin_prefetch(&flow_block(flow, handle)->state);
}

/* Tasks first, so that inputs freed in the same event are not looked for again. No record goes before that is settled. */
void tessi_flow_forget(struct tessi_flow *flow, const struct tessi_span *spans, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tessi_flow_span_blocks(flow, &spans[i], name_forgotten);
    }
    for (size_t i = 0; i < flow->forgotten.count; i++) {
        forget_task(flow, flow->forgotten.items[i]);
    }
    for (size_t i = 0; i < flow->forgotten.count; i++) {
        forget_block(flow, flow->forgotten.items[i]);
    }
    flow->forgotten.count = 0;
}
