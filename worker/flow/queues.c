/* The queues in which a block has its place: to be brought in, to be taken back, to be settled, to be told of. */
#include "worker/flow/internal.h"

void tessi_flow_block_touch(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->dirty || (!block->held && block->reclaim == FLOW_KEPT)) {
        return;
    }
    block->dirty = true;
    block->dirty_prev = FLOW_NONE;
    block->dirty_next = flow->dirty;
    if (flow->dirty != FLOW_NONE) {
        flow_block(flow, flow->dirty)->dirty_prev = handle;
    }
    flow->dirty = handle;
}

/* A RECEIVE task's own block waits in the queue at its task's place; any other at its first user's. */
static enum flow_class fetch_class(const struct tessi_flow *flow, const struct flow_block *block,
                                   struct flow_position *at)
{
    if (!flow_block_bringable(block)) {
        return FLOW_FUTURE;
    }
    if (block->task != FLOW_NONE) {
        *at = flow_task_position(flow_task(flow, block->task), 0);
        return FLOW_WAITING;
    }
    for (enum flow_class class = FLOW_STARTED; class < FLOW_CLASSES; class++) {
        if (block->root[class] != NULL && (class == FLOW_STARTED || !block->shelved)) {
            *at = block->root[class]->at;
            return class;
        }
    }
    return FLOW_FUTURE;
}

/* An heir comes after its users here, or before them: in the order of the task elsewhere that waits for its room. */
static enum flow_class heir_class(const struct flow_block *block, enum flow_class class, struct flow_position *at)
{
    struct flow_position own = {block->heir_order, block->index & UINT32_MAX};
    if (!block->heir || !flow_block_bringable(block) || (class < FLOW_CLASSES && !flow_after(*at, own))) {
        return class;
    }
    *at = own;
    return FLOW_AHEAD;
}

void tessi_flow_block_file(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    struct flow_position at = {0, 0};
    enum flow_class class = heir_class(block, fetch_class(flow, block, &at), &at);
    if (class == block->fetch && at.order == block->filed_at.order && at.second == block->filed_at.second) {
        return;
    }
    if (block->fetch < FLOW_CLASSES) {
        (void)tessi_heap_remove(&flow->fetch[block->fetch], handle);
    }
    if (class < FLOW_CLASSES) {
        tessi_heap_push(&flow->fetch[class], at.order, at.second, handle);
    }
    block->fetch = class;
    block->filed_at = at;
}

void tessi_flow_check(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (!block->checking) {
        block->checking = true;
        tessi_flow_handles_push(&flow->checks, handle);
    }
}

void tessi_flow_block_copy_changed(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (!block->copy_changed) {
        block->copy_changed = true;
        tessi_flow_handles_push(&flow->copies, handle);
    }
}

void tessi_flow_lease_wake(struct tessi_flow *flow, uint32_t handle)
{
    if (tessi_heap_remove(&flow->idle_leases, handle)) {
        flow->idle_lease_bytes -= flow_block(flow, handle)->bytes;
    }
}

bool tessi_flow_block_next_use(const struct flow_block *block, struct flow_position *at)
{
    bool found = false;
    for (int class = 0; class < FLOW_CLASSES; class++) {
        const struct flow_link *root = block->root[class];
        if (root != NULL && (!found || flow_after(*at, root->at))) {
            *at = root->at;
            found = true;
        }
    }
    return found;
}

void tessi_flow_shelve(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    struct flow_position at = {UINT64_MAX, UINT64_MAX};
    (void)tessi_flow_block_next_use(block, &at);
    if (!block->shelved) {
        block->shelved = true;
        tessi_heap_push(&flow->shelved, at.order, at.second, handle);
    }
}

void tessi_flow_unshelve(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->shelved) {
        block->shelved = false;
        (void)tessi_heap_remove(&flow->shelved, handle);
    }
    flow->unshelved = flow->unshelved == handle ? FLOW_NONE : flow->unshelved;
}

void tessi_flow_heir_forget(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->heir) {
        block->heir = false;
        flow->heir_bytes -= flow_charge(flow, block);
        tessi_flow_block_file(flow, handle);
        tessi_flow_check(flow, handle);
    }
}
