/* Asking peers for blocks: at once, or when they have answered for others. */
#include "worker/flow/internal.h"

static void ask_peer(struct tessi_flow *flow, uint32_t handle, const struct flow_peer *peer)
{
    const struct flow_block *block = flow_block(flow, handle);
    struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_SEND_READ, handle);
    action->peer = peer->id;
    /* What is to be owned must be ours. */
    action->lease = peer->shares_memory && !block->heir && flow->mapped_blocks < FLOW_LEASES_MAX;
    (void)tessi_flow_tie_add(flow, peer->id, handle, FLOW_TIE_ASKED);
    tessi_flow_block_move(flow, handle, FLOW_ASKED);
}

/* Behind what it has to answer already. Blocks that no task is waiting for within its window come in the order in which
 * they were named, which is nearly that of the tasks. */
static void ask_later(struct tessi_flow *flow, uint32_t handle, struct flow_peer *peer)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_block_move(flow, handle, FLOW_UNASKED);
    if (!block->asks_later) {
        block->asks_later = true;
        tessi_queue_push(&peer->later, flow->asks_put_off++, 0, handle);
    }
}

void tessi_flow_ask_now(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_peer *peer = flow_peer(flow, tessi_flow_peer_get(flow, flow_block(flow, handle)->source));
    tessi_flow_ask_no_more(flow, handle);
    ask_peer(flow, handle, peer);
}

void tessi_flow_ask_next(struct tessi_flow *flow)
{
    for (size_t i = 0; i < flow->answering.count; i++) {
        struct flow_peer *peer = flow_peer(flow, flow->answering.items[i]);
        const struct tessi_heap_entry *top;
        peer->answers = false;
        while (peer->up && flow_peer_answers_more(flow, peer) && (top = tessi_queue_peek(&peer->later)) != NULL) {
            tessi_flow_ask_now(flow, top->value);
        }
    }
    flow->answering.count = 0;
}

void tessi_flow_ask(struct tessi_flow *flow, uint32_t handle, uint32_t peer_id, uint32_t epoch)
{
    struct flow_block *block = flow_block(flow, handle);
    if (peer_id == 0 || peer_id == flow->config.self) {
        tessi_flow_block_set_source(flow, handle, 0);
        tessi_flow_block_move(flow, handle, FLOW_ABSENT);
        tessi_flow_check(flow, handle);
        return;
    }
    block->epoch = epoch;
    tessi_flow_block_set_source(flow, handle, peer_id);
    struct flow_peer *peer = flow_peer(flow, tessi_flow_peer_get(flow, peer_id));
    if (!peer->up) {
        tessi_flow_block_move(flow, handle, FLOW_UNASKED);
    } else if ((flow_tie(flow, tessi_flow_tie_find(flow, peer_id, handle))->flags & FLOW_TIE_ASKED) != 0) {
        tessi_flow_block_move(flow, handle, FLOW_ASKED); /* a second READ would make the answers ambiguous */
    } else if (!flow_peer_answers_more(flow, peer) && !(block->heir && block->heir_order != UINT64_MAX)) {
        ask_later(flow, handle, peer);
    } else {
        ask_peer(flow, handle, peer);
    }
}

/* A client is the peer of its own session. It counts as reachable until it is lost. */
void tessi_flow_await_client(struct tessi_flow *flow, uint32_t handle)
{
    uint32_t client = flow_layer(flow, flow_block(flow, handle)->layer)->session;
    bool lost = flow_peer(flow, tessi_flow_peer_get(flow, client))->lost;
    tessi_flow_block_set_source(flow, handle, client);
    tessi_flow_block_move(flow, handle, lost ? FLOW_UNASKED : FLOW_OFFERED);
}
