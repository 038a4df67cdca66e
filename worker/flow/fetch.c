/* Blocks from elsewhere: whom to ask, what comes back, and bringing the bytes in. */
#include "worker/flow/internal.h"

/* --- bringing in --- */

static struct flow_request request_for(const struct tessi_flow *flow, const struct flow_block *block, bool oldest)
{
    struct flow_request request = {.bytes = flow_charge(flow, block), .at = {UINT64_MAX, UINT64_MAX}};
    const struct tessi_heap_entry *device = tessi_heap_peek(&flow->idle[FLOW_DEVICE]);
    bool idle = tessi_heap_peek(&flow->idle[FLOW_CPU])->first == 0 || (device != NULL && device->first == 0);
    idle = idle && flow->started < FLOW_STREAMS_PER_SLOT * flow_slots_all(flow); /* else those come first */
    if (oldest) {
        const struct flow_task *task = flow_task(flow, tessi_flow_oldest(flow));
        request.at = flow_task_position(task, task->next_step);
        request.urgent = request.in_line = true;
        request.oldest = task->queued == 0; /* a step of its own that runs will give room back */
    } else if (block->task != FLOW_NONE) {
        request.at = flow_task_position(flow_task(flow, block->task), 0);
        request.urgent = idle;
        request.in_line = true;
    } else if (block->heir && (!tessi_flow_block_next_use(block, &request.at) || request.at.order > block->heir_order)) {
        request.at = (struct flow_position){block->heir_order, 0}; /* leaving: after every task, before what is unneeded */
        request.urgent = true;
        request.oldest = request.in_line = tessi_flow_heir_first(flow, block);
    } else {
        for (enum flow_class class = FLOW_STARTED; class < FLOW_CLASSES; class++) {
            if (block->root[class] != NULL) {
                request.at = block->root[class]->at;
                request.in_line = class != FLOW_AHEAD;
                request.urgent = class == FLOW_STARTED || (class == FLOW_WAITING && idle);
                break;
            }
        }
    }
    return request;
}

static void arrive(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    flow->fetched_bytes += block->bytes;
    block->last_use = ++flow->clock;
    block->fresh = true;
    tessi_flow_unshelve(flow, handle);
    tessi_flow_block_copy_changed(flow, handle);
    tessi_flow_block_move(flow, handle, FLOW_LOCAL);
    if (block->heir) {
        tessi_flow_heir_arrived(flow, handle);
    }
    if (block->discard) {
        tessi_flow_check(flow, handle);
    }
}

/* The time during which something was on its way, whatever number of blocks it was. */
static void pull_ends(struct tessi_flow *flow, uint64_t bytes)
{
    TESS_ASSERT(flow->pulls > 0);
    flow->pulled_bytes += bytes;
    if (--flow->pulls == 0 && flow->now_ns > flow->pulls_since_ns) {
        flow->pulling_ns += (uint64_t)(flow->now_ns - flow->pulls_since_ns);
    }
}

static void pull(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_hold(flow, handle);
    (void)tessi_flow_act(flow, TESSI_FLOW_ALLOC, handle);
    if (flow->at_hand == handle) {
        flow->at_hand = FLOW_NONE;
        arrive(flow, handle);
        return;
    }
    tessi_flow_act(flow, TESSI_FLOW_SEND_PULL, handle)->peer = block->source;
    flow->pulls_since_ns = flow->pulls++ == 0 ? flow->now_ns : flow->pulls_since_ns;
    block->busy = true;
    flow->incoming_bytes += block->bytes;
    tessi_flow_block_move(flow, handle, FLOW_PULLING);
}

enum flow_grant tessi_flow_bring(struct tessi_flow *flow, uint32_t handle, bool oldest)
{
    const struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(flow_block_bringable(block));
    if (flow->incoming_bytes > 0 && (flow->incoming_bytes >= flow->config.pull_bytes ||
                                     block->bytes > flow->config.pull_bytes - flow->incoming_bytes)) {
        return FLOW_NO_CREDIT;
    }
    if (block->state != FLOW_SPILLED && flow->pulls >= flow->config.asks_max) {
        return FLOW_NO_CREDIT;
    }
    if (block->task != FLOW_NONE && !oldest && !tessi_flow_reserve_kept(flow, handle)) {
        return FLOW_NO_ROOM;
    }
    struct flow_request request = request_for(flow, block, oldest);
    if (!tessi_flow_room(flow, &request)) {
        return FLOW_NO_ROOM;
    }
    if (block->state == FLOW_SPILLED) {
        tessi_flow_load(flow, handle);
    } else {
        pull(flow, handle);
    }
    return FLOW_GRANTED;
}

void tessi_flow_on_data(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t handle = tessi_flow_block_find(flow, event->task);
    struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    if (block == NULL || !block->busy || block->source != event->peer ||
        (block->state != FLOW_PULLING && block->state != FLOW_ABANDONED)) {
        flow->stale_events++;
        return;
    }
    block->busy = false;
    flow->incoming_bytes -= block->bytes;
    pull_ends(flow, block->bytes);
    if (block->state == FLOW_ABANDONED) {
        flow->fetched_bytes += block->bytes;
        tessi_flow_check(flow, handle);
    } else if (block->task != FLOW_NONE) {
        flow->fetched_bytes += block->bytes;
        tessi_flow_task_finish(flow, block->task);
    } else {
        arrive(flow, handle);
    }
}

/* The peer has nothing to send, or is gone: the room goes back. */
static void pull_failed(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    block->busy = false;
    flow->incoming_bytes -= block->bytes;
    pull_ends(flow, 0);
    if (block->state == FLOW_ABANDONED) {
        tessi_flow_check(flow, handle);
        return;
    }
    tessi_flow_block_empty(flow, handle);
    if (block->task != FLOW_NONE) {
        tessi_flow_block_move(flow, handle, FLOW_UNASKED);
    } else {
        tessi_flow_ask(flow, handle, 0, 0);
    }
}

/* --- answers --- */

static void release_unwanted(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    if (event->kind == TESSI_FLOW_READY_LEASE) {
        struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_SEND_RELEASE, FLOW_NONE);
        action->task = event->task;
        action->peer = event->peer;
    }
}

static void take_inline(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    struct flow_request request = request_for(flow, block, false);
    request.in_line = false;
    uint32_t oldest = tessi_flow_oldest(flow);
    TESS_ASSERT(oldest != FLOW_NONE || block->heir);
    struct flow_position at;
    if (tessi_flow_block_next_use(block, &at) &&
        !flow_after(at, flow_task_position(flow_task(flow, oldest), flow_task(flow, oldest)->next_step))) {
        request = request_for(flow, block, true);
    }
    flow->at_hand = handle;
    tessi_flow_block_move(flow, handle, FLOW_OFFERED);
    if ((!flow->blocked || request.oldest) && tessi_flow_room(flow, &request)) {
        pull(flow, handle);
    }
}

static void take_lease(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_act(flow, TESSI_FLOW_MAP, handle)->peer = block->source;
    block->mapped = true;
    flow->mapped_blocks++;
    flow->mapped_bytes += block->bytes;
    block->revoked = block->heir; /* lent before it was to be taken over: given back, and pulled */
    tessi_flow_block_move(flow, handle, FLOW_MAPPED);
    if (block->heir) {
        tessi_flow_check(flow, handle);
    }
}

/* A peer may not know yet that the worker it names is gone, perhaps before we came; the scheduler knows who took over. */
static uint32_t moved_to(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t peer = TESSI_MAP_NONE;
    if (event->kind == TESSI_FLOW_MOVED) { /* no record of whomever it names */
        peer = tessi_map_get(&flow->peer_of, (struct tessi_map_key){0, event->worker});
    }
    return peer != TESSI_MAP_NONE && flow_peer(flow, peer)->up ? event->worker : 0;
}

static void answer_read(struct tessi_flow *flow, uint32_t handle, const struct tessi_flow_event *event)
{
    if (event->kind == TESSI_FLOW_MOVED || event->kind == TESSI_FLOW_ASK) {
        tessi_flow_heir_refuse(flow, handle);
    }
    if (flow_block(flow, handle)->users == 0 && !flow_block(flow, handle)->heir) {
        release_unwanted(flow, event);
        tessi_flow_ask(flow, handle, 0, 0);
    } else if (event->kind == TESSI_FLOW_READY_INLINE) {
        take_inline(flow, handle);
    } else if (event->kind == TESSI_FLOW_READY_LEASE) {
        take_lease(flow, handle);
    } else if (event->kind == TESSI_FLOW_READY_OFFER) {
        tessi_flow_block_move(flow, handle, FLOW_OFFERED);
    } else {
        tessi_flow_ask(flow, handle, moved_to(flow, event), event->epoch);
    }
}

/* Each READ and each PULL gets one answer. The one to a READ counts even if the block's story has gone
 * on meanwhile; it is only then not used. */
void tessi_flow_on_answer(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t handle = tessi_flow_block_find(flow, event->task);
    struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    uint32_t tie = block == NULL ? FLOW_NONE : tessi_flow_tie_find(flow, event->peer, handle);
    if (tie == FLOW_NONE || (flow_tie(flow, tie)->flags & FLOW_TIE_ASKED) == 0) {
        bool pulling = block != NULL && block->busy && block->source == event->peer &&
                       (block->state == FLOW_PULLING || block->state == FLOW_ABANDONED);
        if (pulling && (event->kind == TESSI_FLOW_ASK || event->kind == TESSI_FLOW_MOVED)) {
            tessi_flow_heir_refuse(flow, handle);
        }
        if (pulling && event->kind == TESSI_FLOW_ASK) {
            pull_failed(flow, handle);
        } else if (pulling && event->kind == TESSI_FLOW_MOVED) {
            pull_failed(flow, handle);
            if (block->state == FLOW_ABSENT && block->users > 0) {
                tessi_flow_ask(flow, handle, moved_to(flow, event), event->epoch);
            }
        } else {
            flow->stale_events++;
            if (block == NULL || !block->mapped || block->source != event->peer) {
                release_unwanted(flow, event);
            }
        }
        return;
    }
    bool waiting = block->state == FLOW_ASKED && block->source == event->peer;
    tessi_flow_tie_clear(flow, tie, FLOW_TIE_ASKED);
    if (waiting) {
        answer_read(flow, handle, event);
    } else {
        release_unwanted(flow, event);
        tessi_flow_check(flow, handle);
    }
}

void tessi_flow_on_revoke(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t handle = tessi_flow_block_find(flow, event->task);
    struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    if (block == NULL || block->state != FLOW_MAPPED || block->source != event->peer) {
        flow->stale_events++; /* it crossed our RELEASE */
        return;
    }
    block->revoked = true;
    tessi_flow_block_update(flow, handle);
    tessi_flow_check(flow, handle);
}

/* --- the scheduler's word --- */

static void locate_one(struct tessi_flow *flow, uint32_t handle, const struct tessi_span *span)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->state > FLOW_UNASKED || block->task != FLOW_NONE || block->users == 0) {
        return;
    }
    if (span->worker != 0 && span->worker != flow->config.self) {
        tessi_flow_ask(flow, handle, span->worker, span->epoch);
        return;
    }
    tessi_flow_heir_refuse(flow, handle);
    tessi_flow_block_set_source(flow, handle, 0);
    tessi_flow_block_move(flow, handle, FLOW_ABSENT);
    if (span->worker == 0) {
        tessi_flow_block_move(flow, handle, FLOW_NOWHERE);
    } else {
        /* Its assignment is on the way, or the answer crossed a report of ours, or the plan will change. */
        (void)tessi_flow_act(flow, TESSI_FLOW_LOCATE, handle);
        tessi_flow_block_move(flow, handle, FLOW_AWAITED);
    }
}

void tessi_flow_on_location(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    for (size_t i = 0; i < event->span_count; i++) {
        tessi_flow_span_blocks(flow, &event->spans[i], locate_one);
    }
}

/* --- peers come and go --- */

void tessi_flow_on_peer_up(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    struct flow_peer *peer = flow_peer(flow, tessi_flow_peer_get(flow, event->peer));
    peer->up = true;
    peer->lost = false;
    peer->shares_memory = event->shares_memory;
    uint32_t next;
    for (uint32_t tie = peer->ties; tie != FLOW_NONE; tie = next) {
        uint32_t handle = flow_tie(flow, tie)->block;
        const struct flow_block *block = flow_block(flow, handle);
        next = flow_tie(flow, tie)->peer_next;
        if (block->state != FLOW_UNASKED || block->source != event->peer) {
            continue;
        }
        if (block->task != FLOW_NONE) {
            tessi_flow_block_move(flow, handle, FLOW_OFFERED);
        } else if (block->users > 0 || block->heir) {
            tessi_flow_ask(flow, handle, event->peer, block->epoch);
        }
    }
}

static void source_lost(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    tessi_flow_heir_refuse(flow, handle);
    if (block->busy && (block->state == FLOW_PULLING || block->state == FLOW_ABANDONED)) {
        pull_failed(flow, handle);
    }
    if (block->task != FLOW_NONE && (block->state == FLOW_OFFERED || block->state == FLOW_UNASKED)) {
        tessi_flow_block_move(flow, handle, FLOW_UNASKED); /* its client may come back */
        return;
    }
    tessi_flow_block_set_source(flow, handle, 0);
    if (block->mapped) {
        block->revoked = block->lost = true;
        tessi_flow_block_update(flow, handle);
    } else if (block->state == FLOW_UNASKED || block->state == FLOW_ASKED || block->state == FLOW_OFFERED) {
        tessi_flow_block_move(flow, handle, FLOW_ABSENT);
    }
    tessi_flow_check(flow, handle);
}

/* Steps that read its memory run on, but what they computed is thrown away: a peer that was lost to
 * us only may have given the memory to something else. */
void tessi_flow_on_peer_lost(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t peer_handle = tessi_flow_peer_get(flow, event->peer);
    struct flow_peer *peer = flow_peer(flow, peer_handle);
    peer->up = peer->shares_memory = false;
    peer->lost = true;
    uint32_t next;
    for (uint32_t tie = peer->ties; tie != FLOW_NONE; tie = next) {
        uint32_t handle = flow_tie(flow, tie)->block;
        uint32_t flags = flow_tie(flow, tie)->flags;
        next = flow_tie(flow, tie)->peer_next;
        /* SOURCE, when set, keeps the tie alive through this. */
        tessi_flow_tie_clear(flow, tie, flags & ~(uint32_t)FLOW_TIE_SOURCE);
        if ((flags & FLOW_TIE_LEASED) != 0) {
            tessi_flow_lease_end(flow, handle);
        }
        if ((flags & FLOW_TIE_SOURCE) != 0) {
            source_lost(flow, handle);
        }
        tessi_flow_check(flow, handle);
    }
}
