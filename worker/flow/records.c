/* Records: made, found by handle and by name, given back; and what the planner says to its shell. */
#include <stddef.h>
#include <string.h>

#include "core/base/alloc.h"
#include "worker/flow/internal.h"

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

struct tessi_task tessi_flow_block_name(const struct tessi_flow *flow, const struct flow_block *block)
{
    const struct flow_layer *layer = flow_layer(flow, block->layer);
    return (struct tessi_task){layer->session, layer->id, block->index};
}

struct tessi_span tessi_flow_block_span(const struct tessi_flow *flow, const struct flow_block *block)
{
    const struct flow_layer *layer = flow_layer(flow, block->layer);
    return (struct tessi_span){.session = layer->session,
                               .layer = layer->id,
                               .first = block->index,
                               .count = 1,
                               .epoch = block->epoch,
                               .worker = flow->config.self};
}

static bool reads_bytes(enum tessi_flow_action_kind kind)
{
    return kind == TESSI_FLOW_SEND_INLINE || kind == TESSI_FLOW_SEND_LEASE || kind == TESSI_FLOW_SEND_BLOCK ||
           kind == TESSI_FLOW_SPILL;
}

struct tessi_flow_action *tessi_flow_act(struct tessi_flow *flow, enum tessi_flow_action_kind kind, uint32_t handle)
{
    struct tessi_flow_actions *actions = flow->actions;
    if (actions->count >= TESSI_FLOW_ACTIONS_MAX && actions->carry_out != NULL) {
        actions->carry_out(actions->context); /* a layer of a million blocks that goes would take 400 MB of them */
        TESS_ASSERT(actions->count == 0);
    }
    flow->acted++;
    tessi_grow(&actions->items, &actions->capacity, actions->count + 1, sizeof *actions->items);
    struct tessi_flow_action *action = &actions->items[actions->count++];
    memset(action, 0, offsetof(struct tessi_flow_action, after)); /* the rest is counted */
    action->kind = kind;
    action->block = handle;
    if (handle != FLOW_NONE) {
        const struct flow_block *block = flow_block(flow, handle);
        action->bytes = block->bytes;
        action->task = tessi_flow_block_name(flow, block);
        action->epoch = block->epoch;
        if (reads_bytes(kind)) {
            flow_block(flow, handle)->away = false; /* it comes home for that */
        }
    }
    return action;
}

static struct tessi_map_key layer_key(uint32_t session, uint32_t id)
{
    return (struct tessi_map_key){session, id};
}

uint32_t tessi_flow_layer_find(const struct tessi_flow *flow, uint32_t session, uint32_t id)
{
    uint32_t recent = flow->recent[id % FLOW_RECENT];
    if (recent != FLOW_NONE && flow_layer(flow, recent)->id == id && flow_layer(flow, recent)->session == session) {
        return recent;
    }
    return tessi_map_get(&flow->layer_of, layer_key(session, id));
}

uint32_t tessi_flow_layer_get(struct tessi_flow *flow, uint32_t session, uint32_t id)
{
    uint32_t handle = tessi_flow_layer_find(flow, session, id);
    if (handle == FLOW_NONE) {
        handle = tessi_flow_pool_take(&flow->layers);
        *flow_layer(flow, handle) =
            (struct flow_layer){.session = session, .id = id, .blocks = FLOW_NONE, .live = true};
        tessi_map_put(&flow->layer_of, layer_key(session, id), handle);
    }
    return handle;
}

void tessi_flow_layer_release(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_layer *layer = flow_layer(flow, handle);
    if (layer->block_count > 0 || (layer->layer != NULL && !layer->dropped)) {
        return;
    }
    (void)tessi_map_remove(&flow->layer_of, layer_key(layer->session, layer->id));
    memset(flow->recent, 0xff, sizeof flow->recent);
    tessi_layer_destroy(layer->layer);
    tessi_flow_pool_give(&flow->layers, handle);
}

void tessi_flow_span_blocks(struct tessi_flow *flow, const struct tessi_span *span, tessi_flow_visit_fn *visit)
{
    uint32_t layer = tessi_flow_layer_find(flow, span->session, span->layer);
    if (layer == FLOW_NONE) {
        return;
    }
    if (span->count <= flow_layer(flow, layer)->block_count) {
        for (uint64_t i = 0; i < span->count; i++) {
            uint32_t handle =
                tessi_flow_block_find(flow, (struct tessi_task){span->session, span->layer, span->first + i});
            if (handle != FLOW_NONE) {
                visit(flow, handle, span);
            }
        }
        return;
    }
    uint32_t next;
    for (uint32_t handle = flow_layer(flow, layer)->blocks; handle != FLOW_NONE; handle = next) {
        const struct flow_block *block = flow_block(flow, handle);
        next = block->layer_next;
        if (block->index >= span->first && block->index - span->first < span->count) {
            visit(flow, handle, span);
        }
    }
}

uint32_t tessi_flow_oldest(const struct tessi_flow *flow)
{
    const struct tessi_heap_entry *top = tessi_queue_peek(&flow->all);
    return top == NULL ? FLOW_NONE : top->value;
}

const struct tessi_task_options *tessi_flow_task_options(const struct tessi_flow *flow, const struct flow_task *task)
{
    return flow_layer(flow, flow_block(flow, task->block)->layer)->layer->task_options;
}
