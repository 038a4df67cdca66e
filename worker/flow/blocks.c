/* Block records: made for a name that somebody here mentions, gone when nobody does. Peers, and the
 * ties between a peer and a block, by which the loss of a peer finds everything that it touches. */
#include <string.h>

#include "core/base/alloc.h"
#include "worker/flow/internal.h"

/* --- pools --- */

void tessi_flow_pool_init(struct flow_pool *pool, size_t element_size, size_t zeroed)
{
    *pool = (struct flow_pool){.element_size = (element_size + 7) / 8 * 8, .zeroed = zeroed};
}

void tessi_flow_pool_fini(struct flow_pool *pool)
{
    for (size_t i = 0; i < pool->chunk_count; i++) {
        tessi_free(pool->chunks[i]);
    }
    tessi_free(pool->chunks);
    tessi_free(pool->free);
    *pool = (struct flow_pool){0};
}

uint32_t tessi_flow_pool_take(struct flow_pool *pool)
{
    uint32_t handle;
    if (pool->free_count > 0) {
        handle = pool->free[--pool->free_count];
    } else {
        handle = pool->count++;
        TESS_ASSERT(handle != FLOW_NONE);
        if (handle / FLOW_CHUNK == pool->chunk_count) {
            tessi_grow(&pool->chunks, &pool->chunk_capacity, pool->chunk_count + 1, sizeof *pool->chunks);
            pool->chunks[pool->chunk_count++] = tessi_zalloc(FLOW_CHUNK * pool->element_size);
        }
    }
    return handle;
}

void tessi_flow_pool_give(struct flow_pool *pool, uint32_t handle)
{
    memset(tessi_flow_pool_at(pool, handle), 0, pool->zeroed);
    tessi_grow(&pool->free, &pool->free_capacity, pool->free_count + 1, sizeof *pool->free);
    pool->free[pool->free_count++] = handle;
}

void tessi_flow_handles_push(struct flow_handles *handles, uint32_t handle)
{
    tessi_grow(&handles->items, &handles->capacity, handles->count + 1, sizeof *handles->items);
    handles->items[handles->count++] = handle;
}

/* --- records --- */

static uint32_t page_find(const struct tessi_flow *flow, struct tessi_map_key key)
{
    if (flow->page != FLOW_NONE && key.high == flow->page_key.high && key.low == flow->page_key.low) {
        return flow->page;
    }
    return tessi_map_get(&flow->page_of, key);
}

uint32_t tessi_flow_block_find(const struct tessi_flow *flow, struct tessi_task name)
{
    uint32_t page = page_find(flow, tessi_task_key(name.session, name.layer, name.index / FLOW_PAGE));
    return page == FLOW_NONE ? FLOW_NONE : flow_page(flow, page)->handles[name.index % FLOW_PAGE];
}

static void name_block(struct tessi_flow *flow, const struct flow_layer *layer, uint64_t index, uint32_t handle)
{
    struct tessi_map_key key = tessi_task_key(layer->session, layer->id, index / FLOW_PAGE);
    uint32_t page = page_find(flow, key);
    if (page == FLOW_NONE) {
        page = tessi_flow_pool_take(&flow->pages);
        memset(flow_page(flow, page)->handles, 0xff, sizeof flow_page(flow, page)->handles);
        tessi_map_put(&flow->page_of, key, page);
    }
    struct flow_page *at = flow_page(flow, page);
    TESS_ASSERT(at->handles[index % FLOW_PAGE] == FLOW_NONE);
    at->handles[index % FLOW_PAGE] = handle;
    at->count++;
    flow_block(flow, handle)->page = page;
    flow->page = page;
    flow->page_key = key;
    flow->block_count++;
}

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

uint32_t tessi_flow_block_create(struct tessi_flow *flow, uint32_t layer, uint64_t index, uint64_t bytes)
{
    struct flow_layer *owner = flow_layer(flow, layer);
    uint32_t handle = tessi_flow_pool_take(&flow->blocks);
    struct flow_block *block = flow_block(flow, handle);
    block->live = true;
    block->layer = layer;
    block->index = index;
    block->bytes = bytes;
    block->state = FLOW_ABSENT;
    block->fetch = FLOW_FUTURE;
    block->reclaim = FLOW_KEPT;
    block->task = FLOW_NONE;
    block->ties = FLOW_NONE;
    block->dirty_next = block->dirty_prev = FLOW_NONE;
    block->layer_prev = FLOW_NONE;
    block->layer_next = owner->blocks;
    if (owner->blocks != FLOW_NONE) {
        flow_block(flow, owner->blocks)->layer_prev = handle;
    }
    owner->blocks = handle;
    owner->block_count++;
    name_block(flow, owner, index, handle);
    return handle;
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

struct tessi_task tessi_flow_block_name(const struct tessi_flow *flow, const struct flow_block *block)
{
    const struct flow_layer *layer = flow_layer(flow, block->layer);
    return (struct tessi_task){layer->session, layer->id, block->index};
}

struct tessi_span tessi_flow_block_span(const struct tessi_flow *flow, const struct flow_block *block)
{
    const struct flow_layer *layer = flow_layer(flow, block->layer);
    return (struct tessi_span){.session = layer->session, .layer = layer->id, .first = block->index, .count = 1,
                               .epoch = block->epoch, .worker = flow->config.self};
}

/* --- derived state --- */

#define TO(state) (1u << FLOW_##state)

static const uint32_t allowed[FLOW_STATES] = {
    [FLOW_ABSENT] = TO(LOCATING) | TO(AWAITED) | TO(NOWHERE) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_LOCATING] = TO(ABSENT) | TO(AWAITED) | TO(NOWHERE) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_AWAITED] = TO(ABSENT) | TO(NOWHERE) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_NOWHERE] = TO(ABSENT) | TO(AWAITED) | TO(UNASKED) | TO(ASKED) | TO(UNMADE),
    [FLOW_UNASKED] = TO(ABSENT) | TO(AWAITED) | TO(NOWHERE) | TO(ASKED) | TO(OFFERED) | TO(UNMADE),
    [FLOW_ASKED] = TO(ABSENT) | TO(UNASKED) | TO(OFFERED) | TO(MAPPED) | TO(LOCAL) | TO(UNMADE),
    [FLOW_OFFERED] = TO(ABSENT) | TO(UNASKED) | TO(PULLING) | TO(LOCAL) | TO(UNMADE) | TO(ASKED),
    [FLOW_PULLING] = TO(ABSENT) | TO(UNASKED) | TO(ASKED) | TO(LOCAL) | TO(ABANDONED),
    [FLOW_MAPPED] = TO(ABSENT) | TO(OFFERED) | TO(ABANDONED),
    [FLOW_UNMADE] = TO(ABSENT) | TO(MAKING) | TO(UNASKED) | TO(OFFERED),
    [FLOW_MAKING] = TO(UNMADE) | TO(LOCAL) | TO(ABANDONED),
    [FLOW_LOCAL] = TO(ABSENT) | TO(OFFERED) | TO(SPILLING) | TO(SPILLED) | TO(ABANDONED),
    [FLOW_SPILLING] = TO(LOCAL) | TO(SPILLED) | TO(ABANDONED),
    [FLOW_SPILLED] = TO(LOADING) | TO(ABANDONED),
    [FLOW_LOADING] = TO(LOCAL) | TO(ABANDONED),
    [FLOW_ABANDONED] = TO(ABSENT) | TO(UNMADE),
};

void tessi_flow_block_move(struct tessi_flow *flow, uint32_t handle, enum flow_state state)
{
    struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(block->state == state || (allowed[block->state] & (1u << state)) != 0);
    flow->spilled_blocks -= block->state == FLOW_SPILLED ? 1 : 0;
    flow->spilled_blocks += state == FLOW_SPILLED ? 1 : 0;
    if (block->asks_later && state != FLOW_UNASKED) {
        tessi_flow_ask_no_more(flow, handle);
    }
    block->state = state;
    tessi_flow_block_update(flow, handle);
}

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

/* Sticky bytes can leave memory only through a spill file; going ones leave it without further ado. */
static void adjust(uint64_t *sum, uint64_t bytes, bool *was, bool is)
{
    if (is && !*was) {
        *sum += bytes;
    } else if (!is && *was) {
        *sum -= bytes;
    }
    *was = is;
}

/* A name without bytes, and none on their way: nothing is derived from it, and nothing was. */
static bool plain(const struct flow_block *block)
{
    bool named_only = block->state <= FLOW_ASKED || block->state == FLOW_UNMADE;
    return named_only && !block->held && !block->readable && !block->sticky && !block->going &&
           block->fetch == FLOW_FUTURE && block->reclaim == FLOW_KEPT;
}

void tessi_flow_block_update(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (plain(block)) {
        return;
    }
    bool made_here = block->owned || block->state == FLOW_MAKING ||
                     (block->state == FLOW_PULLING && block->task != FLOW_NONE);
    bool tiny = flow_block_tiny(flow, block);
    bool sticky = block->held && made_here && (tiny || (!block->regenerable && !block->file)) &&
                  block->state != FLOW_ABANDONED;
    bool going = block->held &&
                 (block->state == FLOW_SPILLING || block->state == FLOW_ABANDONED || block->revoking);
    bool readable = block->state == FLOW_LOCAL || block->state == FLOW_SPILLING ||
                    (block->state == FLOW_MAPPED && !block->revoked) || flow_block_promised(flow, block);
    bool owned_sticky = sticky && block->owned, tiny_sticky = sticky && tiny;
    if (sticky != block->sticky || owned_sticky != block->owned_sticky || tiny_sticky != block->tiny_sticky ||
        going != block->going) {
        uint64_t charge = flow_charge(flow, block);
        adjust(&flow->sticky_bytes, charge, &block->sticky, sticky);
        adjust(&flow->owned_sticky_bytes, charge, &block->owned_sticky, owned_sticky);
        adjust(&flow->tiny_sticky_bytes, charge, &block->tiny_sticky, tiny_sticky);
        adjust(&flow->going_bytes, charge, &block->going, going);
    }
    if (block->fetch != FLOW_FUTURE || flow_block_bringable(block)) {
        tessi_flow_block_file(flow, handle);
    }
    tessi_flow_block_touch(flow, handle);
    if (readable != block->readable) {
        block->readable = readable;
        if (readable) {
            tessi_flow_users_wake(flow, handle);
        } else {
            tessi_flow_users_unwake(flow, handle);
        }
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

void tessi_flow_block_abandon(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (block->leases > 0) {
        tessi_flow_revoke(flow, handle);
    }
    tessi_flow_lease_wake(flow, handle);
    block->owned = false;
    block->copy_known = false;
    tessi_flow_block_move(flow, handle, FLOW_ABANDONED);
    tessi_flow_check(flow, handle);
}

/* --- settling --- */

void tessi_flow_check(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    if (!block->checking) {
        block->checking = true;
        tessi_flow_handles_push(&flow->checks, handle);
    }
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

void tessi_flow_lease_wake(struct tessi_flow *flow, uint32_t handle)
{
    if (tessi_heap_remove(&flow->idle_leases, handle)) {
        flow->idle_lease_bytes -= flow_block(flow, handle)->bytes;
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

/* --- peers and ties --- */

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
