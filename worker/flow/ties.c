/* Peers, and the ties between a peer and a block, by which the loss of a peer finds everything that it touches. */
#include "worker/flow/internal.h"

uint32_t tessi_flow_peer_get(struct tessi_flow *flow, uint32_t id)
{
    uint32_t handle = tessi_map_get(&flow->peer_of, (struct tessi_map_key){0, id});
    if (handle == TESSI_MAP_NONE) {
        handle = tessi_flow_pool_take(&flow->peers);
        *flow_peer(flow, handle) = (struct flow_peer){.id = id, .ties = FLOW_NONE, .live = true};
        tessi_map_put(&flow->peer_of, (struct tessi_map_key){0, id}, handle);
    }
    return handle;
}

uint32_t tessi_flow_tie_find(const struct tessi_flow *flow, uint32_t peer_id, uint32_t block)
{
    uint32_t peer = tessi_map_get(&flow->peer_of, (struct tessi_map_key){0, peer_id});
    return peer == TESSI_MAP_NONE ? FLOW_NONE : tessi_map_get(&flow->tie_of, (struct tessi_map_key){peer, block});
}

static uint32_t tie_create(struct tessi_flow *flow, uint32_t peer_id, uint32_t block_handle)
{
    uint32_t peer_handle = tessi_flow_peer_get(flow, peer_id);
    struct flow_peer *peer = flow_peer(flow, peer_handle);
    struct flow_block *block = flow_block(flow, block_handle);
    uint32_t handle = tessi_flow_pool_take(&flow->ties);
    struct flow_tie *tie = flow_tie(flow, handle);
    *tie = (struct flow_tie){.block = block_handle, .peer = peer_handle, .block_next = block->ties,
                             .block_prev = FLOW_NONE, .peer_next = peer->ties, .peer_prev = FLOW_NONE, .live = true};
    if (block->ties != FLOW_NONE) {
        flow_tie(flow, block->ties)->block_prev = handle;
    }
    if (peer->ties != FLOW_NONE) {
        flow_tie(flow, peer->ties)->peer_prev = handle;
    }
    block->ties = handle;
    peer->ties = handle;
    tessi_map_put(&flow->tie_of, (struct tessi_map_key){peer_handle, block_handle}, handle);
    return handle;
}

static void tie_destroy(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_tie *tie = flow_tie(flow, handle);
    if (tie->block_prev != FLOW_NONE) {
        flow_tie(flow, tie->block_prev)->block_next = tie->block_next;
    } else {
        flow_block(flow, tie->block)->ties = tie->block_next;
    }
    if (tie->block_next != FLOW_NONE) {
        flow_tie(flow, tie->block_next)->block_prev = tie->block_prev;
    }
    if (tie->peer_prev != FLOW_NONE) {
        flow_tie(flow, tie->peer_prev)->peer_next = tie->peer_next;
    } else {
        flow_peer(flow, tie->peer)->ties = tie->peer_next;
    }
    if (tie->peer_next != FLOW_NONE) {
        flow_tie(flow, tie->peer_next)->peer_prev = tie->peer_prev;
    }
    (void)tessi_map_remove(&flow->tie_of, (struct tessi_map_key){tie->peer, tie->block});
    tessi_flow_pool_give(&flow->ties, handle);
}

/* The counts that a change of `flags` bits moves by one, up or down. */
static void tie_count(struct tessi_flow *flow, const struct flow_tie *tie, uint32_t changed, bool up)
{
    struct flow_block *block = flow_block(flow, tie->block);
    struct flow_peer *peer = flow_peer(flow, tie->peer);
    uint32_t one = up ? 1 : UINT32_MAX;
    uint64_t wide_one = up ? 1 : UINT64_MAX;
    if ((changed & FLOW_TIE_ASKED) != 0) {
        block->asks += one;
        peer->asked += one;
        peer->asked_bytes += block->bytes <= TESSI_INLINE_BYTES ? wide_one * block->bytes : 0;
        if (!up && peer->later.count > 0 && !peer->answers) {
            peer->answers = true;
            tessi_flow_handles_push(&flow->answering, tie->peer);
        }
    }
    for (uint32_t flag = FLOW_TIE_READ; flag <= FLOW_TIE_PULL; flag <<= 1) {
        if ((changed & flag) != 0) {
            block->parked += one;
            peer->parked += one;
            flow->parked += wide_one;
        }
    }
    if ((changed & FLOW_TIE_LEASED) != 0) {
        block->leases += one;
        flow->leases += wide_one;
    }
}

uint32_t tessi_flow_tie_add(struct tessi_flow *flow, uint32_t peer_id, uint32_t block, uint32_t flags)
{
    uint32_t handle = tessi_flow_tie_find(flow, peer_id, block);
    if (handle == FLOW_NONE) {
        handle = tie_create(flow, peer_id, block);
    }
    struct flow_tie *tie = flow_tie(flow, handle);
    tie_count(flow, tie, flags & ~tie->flags, true);
    tie->flags |= flags;
    return handle;
}

void tessi_flow_tie_clear(struct tessi_flow *flow, uint32_t handle, uint32_t flags)
{
    struct flow_tie *tie = flow_tie(flow, handle);
    tie_count(flow, tie, flags & tie->flags, false);
    tie->flags &= ~flags;
    if (tie->flags == 0) {
        tie_destroy(flow, handle);
    }
}

void tessi_flow_ask_no_more(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(block->asks_later && block->source != 0);
    (void)tessi_queue_remove(&flow_peer(flow, tessi_flow_peer_get(flow, block->source))->later, handle);
    block->asks_later = false;
}

void tessi_flow_block_change_source(struct tessi_flow *flow, uint32_t handle, uint32_t peer_id)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->asks_later) {
        tessi_flow_ask_no_more(flow, handle);
    }
    if (block->source != 0) {
        uint32_t tie = tessi_flow_tie_find(flow, block->source, handle);
        TESS_ASSERT(tie != FLOW_NONE);
        tessi_flow_tie_clear(flow, tie, FLOW_TIE_SOURCE);
    }
    block->source = peer_id;
    if (peer_id != 0) {
        (void)tessi_flow_tie_add(flow, peer_id, handle, FLOW_TIE_SOURCE);
    }
}
