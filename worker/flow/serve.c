/* Answers to peers. Serving never takes room: what is not here yet makes the reader wait, what is
 * in a file is sent from the file. */
#include "worker/flow/internal.h"

static struct tessi_flow_action *answer(struct tessi_flow *flow, enum tessi_flow_action_kind kind, uint32_t handle,
                                        uint32_t peer_id)
{
    struct tessi_flow_action *action = tessi_flow_act(flow, kind, handle);
    const struct flow_block *block = flow_block(flow, handle);
    action->peer = peer_id;
    action->spilled = block->state == FLOW_SPILLED;
    action->layer = flow_layer(flow, block->layer)->layer;
    return action;
}

static void ask_scheduler(struct tessi_flow *flow, struct tessi_task name, uint32_t peer_id)
{
    struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_SEND_ASK, FLOW_NONE);
    action->task = name;
    action->peer = peer_id;
}

static bool lent_to(const struct tessi_flow *flow, uint32_t handle, uint32_t peer_id)
{
    uint32_t tie = flow_block(flow, handle)->leases == 0 ? FLOW_NONE : tessi_flow_tie_find(flow, peer_id, handle);
    return tie != FLOW_NONE && (flow_tie(flow, tie)->flags & FLOW_TIE_LEASED) != 0;
}

/* A peer has one lease of a block at most, since one RELEASE ends it: where a READ comes twice, a second lease that is
 * still on its way when the first is given back would be of memory that nothing keeps. */
static void serve_read(struct tessi_flow *flow, uint32_t handle, uint32_t peer_id, bool lease)
{
    const struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(flow_block_servable(block));
    if (block->bytes <= TESSI_INLINE_BYTES) {
        flow->served_bytes += block->bytes;
        (void)answer(flow, TESSI_FLOW_SEND_INLINE, handle, peer_id);
    } else if (lease && block->owned && block->state != FLOW_SPILLED && !block->revoking &&
               !lent_to(flow, handle, peer_id)) {
        (void)tessi_flow_tie_add(flow, peer_id, handle, FLOW_TIE_LEASED);
        (void)answer(flow, TESSI_FLOW_SEND_LEASE, handle, peer_id);
        tessi_flow_block_touch(flow, handle);
    } else {
        (void)answer(flow, TESSI_FLOW_SEND_OFFER, handle, peer_id);
    }
}

static void serve_pull(struct tessi_flow *flow, uint32_t handle, uint32_t peer_id)
{
    flow->served_bytes += flow_block(flow, handle)->bytes;
    (void)answer(flow, TESSI_FLOW_SEND_BLOCK, handle, peer_id);
}

void tessi_flow_serve_parked(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_block *block = flow_block(flow, handle);
    uint32_t next;
    for (uint32_t tie = block->parked == 0 ? FLOW_NONE : block->ties; tie != FLOW_NONE; tie = next) {
        struct flow_tie record = *flow_tie(flow, tie);
        uint32_t peer_id = flow_peer(flow, record.peer)->id;
        next = record.block_next;
        tessi_flow_tie_clear(flow, tie, FLOW_TIE_READ | FLOW_TIE_PULL);
        if ((record.flags & FLOW_TIE_READ) != 0) {
            serve_read(flow, handle, peer_id, record.lease);
        }
        if ((record.flags & FLOW_TIE_PULL) != 0) {
            serve_pull(flow, handle, peer_id);
        }
    }
}

void tessi_flow_push(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_block *block = flow_block(flow, handle);
    const struct flow_layer *layer = flow_layer(flow, block->layer);
    if (!layer->layer->push || block->bytes > TESSI_INLINE_BYTES) {
        return;
    }
    uint32_t peer = tessi_map_get(&flow->peer_of, (struct tessi_map_key){0, layer->session});
    if (peer == TESSI_MAP_NONE || !flow_peer(flow, peer)->lost) {
        flow->served_bytes += block->bytes;
        (void)answer(flow, TESSI_FLOW_SEND_INLINE, handle, layer->session);
    }
}

void tessi_flow_turn_away(struct tessi_flow *flow, uint32_t handle, uint32_t worker, uint32_t epoch)
{
    const struct flow_block *block = flow_block(flow, handle);
    struct tessi_task name = tessi_flow_block_name(flow, block);
    uint32_t next;
    for (uint32_t tie = block->parked == 0 ? FLOW_NONE : block->ties; tie != FLOW_NONE; tie = next) {
        struct flow_tie record = *flow_tie(flow, tie);
        uint32_t peer_id = flow_peer(flow, record.peer)->id;
        next = record.block_next;
        if ((record.flags & (FLOW_TIE_READ | FLOW_TIE_PULL)) == 0) {
            continue;
        }
        tessi_flow_tie_clear(flow, tie, FLOW_TIE_READ | FLOW_TIE_PULL);
        if (worker == 0) {
            ask_scheduler(flow, name, peer_id);
        } else {
            struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_SEND_MOVED, FLOW_NONE);
            action->task = name;
            action->peer = peer_id;
            action->worker = worker;
            action->epoch = epoch;
        }
    }
    tessi_flow_check(flow, handle);
}

void tessi_flow_lease_end(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->leases == 0) {
        block->revoking = false;
        tessi_flow_block_update(flow, handle);
        tessi_flow_check(flow, handle);
    }
}

/* --- events --- */

static void park(struct tessi_flow *flow, uint32_t handle, const struct tessi_flow_event *event, uint32_t flag)
{
    const struct flow_peer *peer = flow_peer(flow, tessi_flow_peer_get(flow, event->peer));
    if (peer->parked >= FLOW_PARKED_MAX) {
        ask_scheduler(flow, event->task, event->peer);
        return;
    }
    uint32_t tie = tessi_flow_tie_add(flow, event->peer, handle, flag);
    flow_tie(flow, tie)->lease = event->lease;
}

/* A peer that is known to be gone would never give back what it got. */
static bool from_lost_peer(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    bool lost = flow_peer(flow, tessi_flow_peer_get(flow, event->peer))->lost;
    flow->stale_events += lost ? 1 : 0;
    return lost;
}

void tessi_flow_on_read(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    if (from_lost_peer(flow, event)) {
        return;
    }
    uint32_t handle = tessi_flow_block_find(flow, event->task);
    const struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    if (block != NULL && flow_block_servable(block)) {
        serve_read(flow, handle, event->peer, event->lease);
    } else if (block != NULL && (block->task != FLOW_NONE || block->state == FLOW_LOADING)) {
        park(flow, handle, event, FLOW_TIE_READ);
    } else {
        ask_scheduler(flow, event->task, event->peer);
    }
}

void tessi_flow_on_pull(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    if (from_lost_peer(flow, event)) {
        return;
    }
    uint32_t handle = tessi_flow_block_find(flow, event->task);
    const struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    if (block != NULL && flow_block_servable(block)) {
        serve_pull(flow, handle, event->peer);
    } else if (block != NULL && block->state == FLOW_LOADING) {
        park(flow, handle, event, FLOW_TIE_PULL);
    } else {
        ask_scheduler(flow, event->task, event->peer);
    }
}

void tessi_flow_on_release(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t handle = tessi_flow_block_find(flow, event->task);
    uint32_t tie = handle == FLOW_NONE ? FLOW_NONE : tessi_flow_tie_find(flow, event->peer, handle);
    uint32_t flags = tie == FLOW_NONE ? 0 : flow_tie(flow, tie)->flags & (FLOW_TIE_LEASED | FLOW_TIE_READ);
    if (flags == 0) {
        flow->stale_events++;
        return;
    }
    tessi_flow_tie_clear(flow, tie, flags);
    tessi_flow_lease_end(flow, handle);
    tessi_flow_block_touch(flow, handle);
    tessi_flow_check(flow, handle);
}
