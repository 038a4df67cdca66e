/* Taking over the blocks of a worker that leaves, or that is so full that its oldest task cannot go on. Such a block is
 * an heir until its bytes are here: it is asked for and brought in like any other input, and then owned. That of a
 * leaving worker gets room after all that tasks here need, the other in the order of the task that waits for its room.
 * Whatever keeps it from coming is reported as missing, so that the scheduler can ask somebody else. */
#include "worker/flow/internal.h"

void tessi_flow_heir_refuse(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->heir) {
        struct tessi_span span = tessi_flow_block_span(flow, block);
        span.epoch = block->heir_epoch;
        tessi_spans_push(&flow->report.missing, span);
        tessi_flow_heir_forget(flow, handle);
    }
}

static void adopt(struct tessi_flow *flow, uint32_t handle, uint32_t epoch)
{
    tessi_flow_own(flow, handle, epoch);
    tessi_spans_push(&flow->report.adopted, tessi_flow_block_span(flow, flow_block(flow, handle)));
}

void tessi_flow_heir_arrived(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_heir_forget(flow, handle);
    adopt(flow, handle, block->heir_epoch);
}

/* What is being made here by tasks that come before one of this order, beside what the oldest task is making: no room is
 * to be made by giving it up. */
static uint64_t making_before(const struct tessi_flow *flow, uint64_t order)
{
    uint32_t oldest = tessi_flow_oldest(flow);
    uint64_t bytes = 0;
    for (uint32_t handle = 0; handle < flow->tasks.count && flow->started > 0; handle++) {
        const struct flow_task *task = flow_task(flow, handle);
        if (task->live && task->order < order && handle != oldest) {
            const struct flow_block *block = flow_block(flow, task->block);
            bytes += block->sticky ? flow_charge(flow, block) : 0;
        }
    }
    return bytes;
}

/* A task elsewhere waits for the block to go: tasks here that come before it keep what they need, and the others have to
 * wait. */
static bool has_room_before(const struct tessi_flow *flow, uint64_t bytes, uint64_t order)
{
    uint64_t memory = flow->config.memory_bytes, kept = 0;
    uint32_t oldest = tessi_flow_oldest(flow);
    if (oldest != FLOW_NONE && flow_task(flow, oldest)->order < order) {
        kept = flow_task(flow, oldest)->footprint;
    }
    uint64_t sticky = tessi_flow_kept_bytes(flow) + making_before(flow, order) + flow->heir_bytes + bytes;
    return kept <= memory && tessi_flow_unspillable_bytes(flow, sticky) <= memory - kept;
}

/* The largest task must keep its room beside all that cannot be spilled; until one has been seen, a quarter does. */
static bool has_room(const struct tessi_flow *flow, uint64_t bytes)
{
    uint64_t memory = flow->config.memory_bytes;
    uint64_t kept = flow->largest_footprint > memory / 4 ? flow->largest_footprint : memory / 4;
    uint64_t stays = tessi_flow_unspillable_bytes(flow, flow->sticky_bytes + flow->heir_bytes + bytes);
    return bytes <= memory && kept <= memory && stays <= memory - kept;
}

static void refuse(struct tessi_flow *flow, struct tessi_span span)
{
    tessi_spans_push(&flow->report.missing, span);
}

static void fetch(struct tessi_flow *flow, uint32_t handle, struct tessi_span span)
{
    struct flow_block *block = flow_block(flow, handle);
    block->heir = true;
    block->heir_order = span.order > 0 ? span.order : UINT64_MAX;
    if (span.order > 0) {
        tessi_flow_handles_push(&flow->relief, handle);
    }
    block->heir_epoch = span.epoch;
    block->heir_source = span.worker;
    block->discard = false;
    flow->heir_bytes += flow_charge(flow, block);
    if (block->state == FLOW_MAPPED) {
        block->revoked = true; /* only borrowed: given back when the steps that read it have ended, and pulled */
        tessi_flow_block_update(flow, handle);
        tessi_flow_check(flow, handle);
    } else if (block->state == FLOW_ABANDONED || block->state == FLOW_PULLING) {
        return; /* asked for when it is free again; on its way already */
    } else if (block->state <= FLOW_NOWHERE || block->source != span.worker) {
        tessi_flow_ask(flow, handle, span.worker, 0);
    } else if (block->asks_later && span.order > 0) {
        tessi_flow_ask_now(flow, handle); /* what it is behind may wait for the task that waits for its room */
    } else {
        tessi_flow_block_file(flow, handle); /* asked for or offered already */
    }
}

void tessi_flow_heir_freed(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_block *block = flow_block(flow, handle);
    if (!block->heir) {
        return;
    }
    if (flow_peer(flow, tessi_flow_peer_get(flow, block->heir_source))->lost) {
        tessi_flow_heir_refuse(flow, handle);
    } else {
        tessi_flow_ask(flow, handle, block->heir_source, 0);
    }
}

static void take_over(struct tessi_flow *flow, uint32_t layer_handle, struct tessi_span span)
{
    struct tessi_task name = {span.session, span.layer, span.first};
    uint32_t handle = tessi_flow_block_find(flow, name);
    struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    const struct tessi_layer *layer = flow_layer(flow, layer_handle)->layer;
    uint64_t bytes = tessi_layer_block_bytes(layer, span.first);
    bool known = block != NULL && (block->owned || block->heir || block->task != FLOW_NONE);
    bool gone = flow_peer(flow, tessi_flow_peer_get(flow, span.worker))->lost || span.worker == flow->config.self;
    bool here = block != NULL && block->state == FLOW_LOCAL;
    uint64_t charge = tessi_block_charge(bytes, flow->config.block_cost);
    bool room = span.order > 0 ? has_room_before(flow, charge, span.order) : has_room(flow, charge);
    if (known || (gone && !here) || !room) {
        refuse(flow, span);
        return;
    }
    if (here) {
        block->discard = false;
        adopt(flow, handle, span.epoch);
        return;
    }
    if (block == NULL) {
        handle = tessi_flow_block_create(flow, layer_handle, span.first, bytes);
    }
    fetch(flow, handle, span);
}

void tessi_flow_on_take_over(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    for (size_t i = 0; i < event->span_count; i++) {
        struct tessi_span span = event->spans[i];
        uint32_t layer = tessi_flow_layer_find(flow, span.session, span.layer);
        bool described = layer != FLOW_NONE && flow_layer(flow, layer)->layer != NULL && !flow_layer(flow, layer)->dropped;
        if (!described || span.worker == 0) {
            refuse(flow, span);
            continue;
        }
        uint64_t total = tessi_layer_tasks(flow_layer(flow, layer)->layer);
        uint64_t count = span.first >= total ? 0 : span.count < total - span.first ? span.count : total - span.first;
        span.count = 1;
        for (uint64_t k = 0; k < count; k++) {
            take_over(flow, layer, span);
            span.first++;
            span.order += span.order_step;
        }
    }
}

bool tessi_flow_heir_first(const struct tessi_flow *flow, const struct flow_block *block)
{
    uint32_t oldest = tessi_flow_oldest(flow);
    return block->heir && block->heir_order != UINT64_MAX &&
           (oldest == FLOW_NONE || block->heir_order < flow_task(flow, oldest)->order);
}

bool tessi_flow_heirs_refuse_hopeless(struct tessi_flow *flow)
{
    bool refused = false;
    size_t kept = 0;
    if (flow->relief.count == 0 || tessi_flow_busy(flow)) {
        return false;
    }
    for (size_t i = 0; i < flow->relief.count; i++) {
        uint32_t handle = flow->relief.items[i];
        const struct flow_block *block = flow_block(flow, handle);
        if (!block->live || !block->heir || block->heir_order == UINT64_MAX) {
            continue;
        }
        if (block->state == FLOW_OFFERED) {
            tessi_flow_heir_refuse(flow, handle);
            refused = true;
        } else {
            flow->relief.items[kept++] = handle;
        }
    }
    flow->relief.count = kept;
    return refused;
}
