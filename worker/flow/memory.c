/* The ledger, and taking room back: copies, spills, revoked leases, restarts. */
#include "core/base/alloc.h"
#include "worker/flow/internal.h"

/* --- what can be taken back, and in which order --- */

enum flow_reclaim tessi_flow_classify(const struct tessi_flow *flow, const struct flow_block *block,
                                      struct flow_position *key)
{
    struct flow_position at = {UINT64_MAX, UINT64_MAX};
    if (!block->held || block->busy || block->pins > 0) {
        return FLOW_KEPT;
    }
    if (block->state == FLOW_MAKING) {
        at = flow_task_position(flow_task(flow, block->task), 0);
        *key = (struct flow_position){~at.order, ~at.second};
        return FLOW_RESTARTABLE;
    }
    if (block->state != FLOW_LOCAL) {
        return FLOW_KEPT;
    }
    (void)tessi_flow_block_next_use(block, &at);
    *key = (struct flow_position){~at.order, ~at.second};
    if (block->owned) {
        bool stays = block->revoking || flow_block_tiny(flow, block) || (block->spill_failed == flow->spill_generation);
        return stays ? FLOW_KEPT : block->file || block->regenerable ? FLOW_REMADE : FLOW_OWNED;
    }
    if (block->users == 0) {
        *key = (struct flow_position){block->last_use, 0};
        return FLOW_UNNEEDED;
    }
    return FLOW_NEEDED;
}

/* Bring the heaps up to date. Blocks are only marked as they change, so that a worker with room to
 * spare pays nothing for the order of eviction. */
static void sort_dirty(struct tessi_flow *flow)
{
    while (flow->dirty != FLOW_NONE) {
        uint32_t handle = flow->dirty;
        struct flow_block *block = flow_block(flow, handle);
        flow->dirty = block->dirty_next;
        if (flow->dirty != FLOW_NONE) {
            flow_block(flow, flow->dirty)->dirty_prev = FLOW_NONE;
        }
        block->dirty = false;
        if (block->reclaim != FLOW_KEPT) {
            (void)tessi_heap_remove(&flow->reclaim[block->reclaim], handle);
        }
        struct flow_position key = {0, 0};
        block->reclaim = tessi_flow_classify(flow, block, &key);
        if (block->reclaim != FLOW_KEPT) {
            tessi_heap_push(&flow->reclaim[block->reclaim], key.order, key.second, handle);
        }
    }
}

/* The first of a class that is needed only after `at`. */
static uint32_t candidate(struct tessi_flow *flow, enum flow_reclaim class, struct flow_position at)
{
    sort_dirty(flow);
    const struct tessi_heap_entry *top = tessi_heap_peek(&flow->reclaim[class]);
    if (top == NULL) {
        return FLOW_NONE;
    }
    struct flow_position next_use = {~top->first, ~top->second};
    return class == FLOW_UNNEEDED || flow_after(next_use, at) ? top->value : FLOW_NONE;
}

static void evict(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->fresh && block->users > 0) {
        tessi_flow_shelve(flow, handle); /* else it would come and go for as long as older tasks want room */
    }
    tessi_flow_block_empty(flow, handle);
    flow->evicted_copies++;
    tessi_flow_block_copy_changed(flow, handle);
    tessi_flow_block_move(flow, handle, block->source != 0 && block->users > 0 ? FLOW_OFFERED : FLOW_ABSENT);
    tessi_flow_check(flow, handle);
}

static bool can_spill(const struct tessi_flow *flow, const struct flow_block *block)
{
    return block->file || block->regenerable ||
           (!flow->spill_rests && flow->spilled_bytes <= flow->config.spill_bytes &&
            block->bytes <= flow->config.spill_bytes - flow->spilled_bytes && flow->config.spill_bytes > 0);
}

static void spill(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_SPILL, handle);
    action->layer = flow_layer(flow, block->layer)->layer;
    block->file = true;
    block->busy = true;
    flow->spilled_bytes += block->regenerable ? 0 : block->bytes;
    flow->spilling++;
    flow->spilling_bytes += block->regenerable ? 0 : flow_charge(flow, block);
    tessi_flow_block_move(flow, handle, FLOW_SPILLING);
}

static void unalloc(struct tessi_flow *flow, uint32_t handle)
{
    (void)tessi_flow_act(flow, TESSI_FLOW_UNALLOC, handle);
    flow_block(flow, handle)->resident = false;
    tessi_flow_unhold(flow, flow_block(flow, handle));
    tessi_flow_set_residue(flow, flow_block(flow, handle), true);
    tessi_flow_block_move(flow, handle, FLOW_SPILLED);
}

/* Even when all that is on its way out is gone, there is too little room. */
static bool still_short(const struct tessi_flow *flow, const struct flow_request *request)
{
    return flow->used_bytes - flow->going_bytes + request->bytes > flow->config.memory_bytes;
}

/* Of what can leave memory, the block that is needed last. */
static uint32_t owned_candidate(struct tessi_flow *flow, struct flow_position at)
{
    uint32_t spilled = candidate(flow, FLOW_OWNED, at), remade = candidate(flow, FLOW_REMADE, at);
    if (spilled == FLOW_NONE || !can_spill(flow, flow_block(flow, spilled))) {
        return remade;
    }
    if (remade == FLOW_NONE) {
        return spilled;
    }
    const struct tessi_heap_entry *a = tessi_heap_peek(&flow->reclaim[FLOW_OWNED]);
    const struct tessi_heap_entry *b = tessi_heap_peek(&flow->reclaim[FLOW_REMADE]);
    return a->first < b->first || (a->first == b->first && a->second < b->second) ? spilled : remade;
}

static void take_owned(struct tessi_flow *flow, const struct flow_request *request)
{
    while (still_short(flow, request)) {
        uint32_t handle = owned_candidate(flow, request->at);
        if (handle == FLOW_NONE) {
            return;
        }
        const struct flow_block *block = flow_block(flow, handle);
        if (block->leases > 0) {
            tessi_flow_revoke(flow, handle);
        } else if (block->file) {
            unalloc(flow, handle);
        } else if (flow->spilling < FLOW_SPILLS_MAX) {
            spill(flow, handle);
        } else {
            return;
        }
    }
}

/* Drop copies that are needed later than the request. One that does not wait in line gives the room that
 * it cannot use back to others, so it must not drop anything unless that is enough. */
static void take_copies(struct tessi_flow *flow, const struct flow_request *request, uint64_t limit)
{
    uint32_t victims[FLOW_VICTIMS_MAX];
    uint32_t count = 0, handle;
    uint64_t freed = 0;
    while (flow->used_bytes - freed > limit - request->bytes && count < FLOW_VICTIMS_MAX &&
           (handle = candidate(flow, FLOW_NEEDED, request->at)) != FLOW_NONE) {
        if (request->in_line) {
            evict(flow, handle);
            continue;
        }
        struct flow_block *block = flow_block(flow, handle);
        (void)tessi_heap_remove(&flow->reclaim[FLOW_NEEDED], handle);
        block->reclaim = FLOW_KEPT;
        freed += flow_charge(flow, block);
        victims[count++] = handle;
    }
    bool enough = flow->used_bytes - freed <= limit - request->bytes;
    for (uint32_t i = 0; i < count; i++) {
        if (enough) {
            evict(flow, victims[i]);
        } else {
            tessi_flow_block_touch(flow, victims[i]);
        }
    }
}

bool tessi_flow_room(struct tessi_flow *flow, const struct flow_request *request)
{
    uint64_t limit = flow->config.memory_bytes;
    if (!request->urgent && !request->oldest) {
        limit -= limit / 8;
    }
    if (request->bytes > limit) {
        return false;
    }
    if (flow->used_bytes <= limit - request->bytes) {
        return true;
    }
    uint32_t handle;
    while (flow->used_bytes > limit - request->bytes &&
           (handle = candidate(flow, FLOW_UNNEEDED, request->at)) != FLOW_NONE) {
        evict(flow, handle);
    }
    take_copies(flow, request, limit);
    if (flow->used_bytes > limit - request->bytes && (request->urgent || request->oldest)) {
        take_owned(flow, request);
        while (request->oldest && still_short(flow, request) &&
               (handle = candidate(flow, FLOW_RESTARTABLE, request->at)) != FLOW_NONE) {
            tessi_flow_task_restart(flow, flow_block(flow, handle)->task);
        }
    }
    return flow->used_bytes <= limit - request->bytes;
}

uint64_t tessi_flow_unspillable_bytes(const struct tessi_flow *flow, uint64_t sticky_bytes)
{
    uint64_t tiny = flow->tiny_sticky_bytes < sticky_bytes ? flow->tiny_sticky_bytes : sticky_bytes;
    uint64_t left = flow->spill_broken || flow->spilled_bytes > flow->config.spill_bytes
                        ? 0
                        : flow->config.spill_bytes - flow->spilled_bytes;
    /* The last bytes of the budget may be too few for any block that is left. */
    uint64_t surely = left > flow->largest_bytes ? left - flow->largest_bytes : 0;
    sticky_bytes -= tiny;
    return flow->residue_bytes + tiny + (sticky_bytes > surely ? sticky_bytes - surely : 0);
}

uint64_t tessi_flow_kept_bytes(const struct tessi_flow *flow)
{
    return flow->owned_sticky_bytes + (flow->spill_broken ? flow->spilling_bytes : 0);
}

bool tessi_flow_reserve_kept(const struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_block *block = flow_block(flow, handle);
    const struct flow_task *oldest = flow_task(flow, tessi_flow_oldest(flow));
    const struct flow_block *oldest_block = flow_block(flow, oldest->block);
    uint64_t sticky = flow->sticky_bytes - (oldest_block->sticky ? flow_charge(flow, oldest_block) : 0);
    bool spillable = block->regenerable && !flow_block_tiny(flow, block);
    sticky += (spillable ? 0 : flow_charge(flow, block)) + flow->heir_bytes;
    uint64_t stays = tessi_flow_unspillable_bytes(flow, sticky);
    return stays == 0 || (oldest->footprint <= flow->config.memory_bytes &&
                          stays <= flow->config.memory_bytes - oldest->footprint);
}

/* --- spill files --- */

void tessi_flow_load(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    struct tessi_flow_action *action = tessi_flow_act(flow, TESSI_FLOW_LOAD, handle);
    action->layer = flow_layer(flow, block->layer)->layer;
    tessi_flow_set_residue(flow, block, false);
    tessi_flow_hold(flow, handle);
    block->busy = true;
    flow->incoming_bytes += block->bytes;
    tessi_flow_block_move(flow, handle, FLOW_LOADING);
}

static struct flow_block *io_block(struct tessi_flow *flow, const struct tessi_flow_event *event,
                                   enum flow_state state)
{
    struct flow_block *block = event->block < flow->blocks.count ? flow_block(flow, event->block) : NULL;
    if (block == NULL || !block->live || !block->busy || !block->file ||
        (block->state != state && block->state != FLOW_ABANDONED)) {
        flow->stale_events++;
        return NULL;
    }
    block->busy = false;
    return block;
}

void tessi_flow_on_spilled(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    struct flow_block *block = io_block(flow, event, FLOW_SPILLING);
    if (block == NULL) {
        return;
    }
    bool gone = event->status == TESSI_LOST; /* there was nothing to write, which says nothing about the disk */
    flow->spilling--;
    flow->spilling_bytes -= block->regenerable ? 0 : flow_charge(flow, block);
    bool file = !gone && !block->regenerable;
    flow->spill_broken = file ? event->status != TESSI_OK : flow->spill_broken;
    if (gone) {
        TESS_ASSERT(block->state == FLOW_ABANDONED);
    } else if (event->status != TESSI_OK && !file) {
        tessi_flow_drop_file(flow, block); /* what is made again needs no disk */
    } else if (event->status != TESSI_OK) {
        tessi_flow_drop_file(flow, block);
        block->spill_failed = flow->spill_generation;
        tessi_flow_handles_push(&flow->failed_spills, event->block);
        flow->spill_rests = true;
        tessi_free(flow->spill_error);
        flow->spill_error = tessi_strdup(event->text != NULL ? event->text : tessi_status_text(event->status));
    }
    if (event->status == TESSI_OK && file) {
        tessi_free(flow->spill_error);
        flow->spill_error = NULL;
        tessi_flow_retry_failed_spills(flow);
    }
    if (block->state == FLOW_ABANDONED) {
        tessi_flow_block_update(flow, event->block);
        tessi_flow_check(flow, event->block);
    } else if (event->status == TESSI_OK && block->pins == 0 && block->leases == 0) {
        unalloc(flow, event->block);
    } else {
        tessi_flow_block_move(flow, event->block, FLOW_LOCAL);
    }
}

void tessi_flow_on_spill_again(struct tessi_flow *flow)
{
    tessi_flow_retry_failed_spills(flow);
}

/* A block that was read back or made again meanwhile is whole. */
void tessi_flow_on_damaged(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t handle = tessi_flow_block_find(flow, event->task);
    const struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    if (block == NULL || block->state != FLOW_SPILLED || !block->owned) {
        flow->stale_events++;
        return;
    }
    tessi_spans_push(&flow->report.missing, tessi_flow_block_span(flow, block));
    tessi_flow_block_abandon(flow, handle);
    tessi_flow_turn_away(flow, handle, 0, 0);
}

void tessi_flow_on_loaded(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    struct flow_block *block = io_block(flow, event, FLOW_LOADING);
    if (block == NULL) {
        return;
    }
    flow->incoming_bytes -= block->bytes;
    tessi_flow_drop_file(flow, block);
    if (block->state == FLOW_ABANDONED) {
        tessi_flow_block_update(flow, event->block);
        tessi_flow_check(flow, event->block);
    } else if (event->status == TESSI_OK) {
        block->last_use = ++flow->clock;
        tessi_flow_block_move(flow, event->block, FLOW_LOCAL);
        tessi_flow_serve_parked(flow, event->block);
    } else {
        tessi_spans_push(&flow->report.missing, tessi_flow_block_span(flow, block));
        tessi_flow_block_abandon(flow, event->block);
        tessi_flow_turn_away(flow, event->block, 0, 0);
    }
}

void tessi_flow_on_lost(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    struct flow_block *block = event->block < flow->blocks.count ? flow_block(flow, event->block) : NULL;
    bool here = block != NULL && block->live && (block->state == FLOW_LOCAL || block->state == FLOW_SPILLING);
    if (!here || !block->owned) {
        flow->stale_events++;
        return;
    }
    block->lost = block->pins > 0; /* steps that read it have read nothing */
    tessi_spans_push(&flow->report.missing, tessi_flow_block_span(flow, block));
    tessi_flow_block_abandon(flow, event->block);
    tessi_flow_turn_away(flow, event->block, 0, 0);
}
