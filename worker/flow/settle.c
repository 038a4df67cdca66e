/* The end of an event: what was checked becomes what it has to be, and records that nobody needs go. */
#include "worker/flow/internal.h"

static void unname_block(struct tessi_flow *flow, const struct flow_layer *layer, uint64_t index, uint32_t page)
{
    struct flow_page *at = flow_page(flow, page);
    at->handles[index % FLOW_PAGE] = FLOW_NONE;
    flow->block_count--;
    if (--at->count == 0) {
        (void)tessi_map_remove(&flow->page_of, tessi_task_key(layer->session, layer->id, index / FLOW_PAGE));
        tessi_flow_pool_give(&flow->pages, page);
        flow->page = FLOW_NONE;
    }
}

static void unlink_dirty(struct tessi_flow *flow, struct flow_block *block)
{
    if (!block->dirty) {
        return;
    }
    block->dirty = false;
    if (block->dirty_prev != FLOW_NONE) {
        flow_block(flow, block->dirty_prev)->dirty_next = block->dirty_next;
    } else {
        flow->dirty = block->dirty_next;
    }
    if (block->dirty_next != FLOW_NONE) {
        flow_block(flow, block->dirty_next)->dirty_prev = block->dirty_prev;
    }
}

static void destroy(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    struct flow_layer *owner = flow_layer(flow, block->layer);
    uint32_t layer = block->layer;
    TESS_ASSERT(block->ties == FLOW_NONE && block->users == 0 && block->pins == 0 && !block->held && !block->busy);
    if (block->copy_known) {
        tessi_spans_push(&flow->report.dropped, tessi_flow_block_span(flow, block));
    }
    unlink_dirty(flow, block);
    tessi_flow_unshelve(flow, handle);
    if (block->reclaim != FLOW_KEPT) {
        (void)tessi_heap_remove(&flow->reclaim[block->reclaim], handle);
    }
    if (block->fetch < FLOW_CLASSES) {
        (void)tessi_heap_remove(&flow->fetch[block->fetch], handle);
    }
    if (block->layer_prev != FLOW_NONE) {
        flow_block(flow, block->layer_prev)->layer_next = block->layer_next;
    } else {
        owner->blocks = block->layer_next;
    }
    if (block->layer_next != FLOW_NONE) {
        flow_block(flow, block->layer_next)->layer_prev = block->layer_prev;
    }
    owner->block_count--;
    unname_block(flow, owner, block->index, block->page);
    tessi_flow_pool_give(&flow->blocks, handle);
    tessi_flow_layer_release(flow, layer);
}

static void send_release(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->source != 0) {
        struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_SEND_RELEASE, handle);
        action->peer = block->source;
    }
}

static void settle_abandoned(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->busy || block->pins > 0 || block->leases > 0) {
        return;
    }
    if (block->mapped) {
        send_release(flow, handle);
    }
    tessi_flow_block_empty(flow, handle);
    tessi_flow_block_set_source(flow, handle, 0);
    if (block->task != FLOW_NONE) {
        tessi_flow_block_move(flow, handle, FLOW_UNMADE);
        tessi_flow_task_unmade(flow, block->task);
    } else {
        tessi_flow_block_move(flow, handle, FLOW_ABSENT);
        tessi_flow_heir_freed(flow, handle);
    }
}

static void end_lease(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_block *block = flow_block(flow, handle);
    tessi_flow_lease_wake(flow, handle);
    send_release(flow, handle);
    tessi_flow_block_empty(flow, handle);
    if (block->source != 0 && (block->users > 0 || block->heir)) {
        tessi_flow_block_move(flow, handle, FLOW_OFFERED);
    } else {
        tessi_flow_block_set_source(flow, handle, 0);
        tessi_flow_block_move(flow, handle, FLOW_ABSENT);
        tessi_flow_heir_freed(flow, handle); /* lent by one that is lost: another one has it */
    }
}

/* The next task that reads the block finds it lent already. The owner asks for what it needs back; what was used
 * longest ago is given back when there is too much. */
static void keep_lease(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (tessi_heap_contains(&flow->idle_leases, handle)) {
        return;
    }
    block->last_use = ++flow->clock;
    tessi_heap_push(&flow->idle_leases, block->last_use, 0, handle);
    flow->idle_lease_bytes += block->bytes;
    while (flow->idle_leases.count > FLOW_IDLE_LEASES_MAX || flow->idle_lease_bytes > flow->config.memory_bytes) {
        uint32_t oldest = tessi_heap_peek(&flow->idle_leases)->value;
        end_lease(flow, oldest);
        tessi_flow_check(flow, oldest);
    }
}

static void settle_mapped(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_block *block = flow_block(flow, handle);
    if (block->pins > 0 || (block->users > 0 && !block->revoked)) {
        return;
    }
    if (block->revoked) {
        end_lease(flow, handle);
    } else {
        keep_lease(flow, handle);
    }
}

static void settle_block(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->discard && block->users == 0 && block->pins == 0 && block->state == FLOW_LOCAL && !block->owned) {
        tessi_flow_block_empty(flow, handle);
        tessi_flow_block_move(flow, handle, FLOW_ABSENT);
    }
    if (block->state == FLOW_ABANDONED) {
        settle_abandoned(flow, handle);
    } else if (block->state == FLOW_MAPPED) {
        settle_mapped(flow, handle);
    } else if (block->state == FLOW_MAKING && block->pins == 0 && flow_task(flow, block->task)->suspect) {
        tessi_flow_task_restart(flow, block->task);
    }
    bool nameless = block->state <= FLOW_UNASKED || block->state == FLOW_OFFERED;
    if (!nameless || block->task != FLOW_NONE || block->pins > 0) {
        return;
    }
    if (block->users > 0 || block->heir) {
        TESS_ASSERT(!block->heir || block->state >= FLOW_UNASKED);
        if (block->state == FLOW_ABSENT) {
            (void)tessi_flow_act(flow, TESSI_FLOW_LOCATE, handle);
            tessi_flow_block_move(flow, handle, FLOW_LOCATING);
        }
        return;
    }
    tessi_flow_block_set_source(flow, handle, 0);
    if (block->state != FLOW_ABSENT) {
        tessi_flow_block_move(flow, handle, FLOW_ABSENT);
    }
    if (block->asks == 0 && block->parked == 0 && block->leases == 0) {
        destroy(flow, handle);
    }
}

void tessi_flow_settle(struct tessi_flow *flow)
{
    for (size_t i = 0; i < flow->checks.count; i++) {
        uint32_t handle = flow->checks.items[i];
        struct flow_block *block = flow_block(flow, handle);
        if (block->checking) {
            block->checking = false;
            settle_block(flow, handle);
        }
    }
    flow->checks.count = 0;
}
