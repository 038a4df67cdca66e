/* Events to handlers; reports and figures. */
#include "worker/flow/flow.h"

#include <stddef.h>
#include <string.h>

#include "core/base/alloc.h"
#include "worker/flow/internal.h"

struct tessi_flow *tessi_flow_create(const struct tessi_flow_config *config)
{
    TESS_ASSERT(config->slots >= 1 && config->slot_depth >= 1 && config->window >= 2);
    struct tessi_flow *flow = tessi_zalloc(sizeof *flow);
    flow->config = *config;
    flow->config.asks_max = config->asks_max > 0 ? config->asks_max : UINT32_MAX;
    flow->dirty = FLOW_NONE;
    flow->at_hand = FLOW_NONE;
    flow->unshelved = FLOW_NONE;
    flow->page = FLOW_NONE;
    memset(flow->recent, 0xff, sizeof flow->recent);
    flow->spill_generation = 1;
    tessi_flow_pool_init(&flow->pages, sizeof(struct flow_page), sizeof(struct flow_page));
    tessi_flow_pool_init(&flow->blocks, sizeof(struct flow_block), sizeof(struct flow_block));
    tessi_flow_pool_init(&flow->tasks, sizeof(struct flow_task), offsetof(struct flow_task, few));
    tessi_flow_pool_init(&flow->ties, sizeof(struct flow_tie), sizeof(struct flow_tie));
    tessi_flow_pool_init(&flow->peers, sizeof(struct flow_peer), sizeof(struct flow_peer));
    tessi_flow_pool_init(&flow->layers, sizeof(struct flow_layer), sizeof(struct flow_layer));
    flow->slots = tessi_zalloc(flow_slots_all(flow) * sizeof *flow->slots);
    for (uint32_t i = 0; i < flow_slots_all(flow); i++) {
        enum flow_kind kind = i < config->slots ? FLOW_CPU : FLOW_DEVICE;
        flow->slots[i].depth = kind == FLOW_CPU ? config->slot_depth : FLOW_DEVICE_DEPTH;
        flow->slots[i].ring = tessi_zalloc(flow->slots[i].depth * sizeof *flow->slots[i].ring);
        flow->slots[i].first = flow->slots[i].next = 1;
        tessi_heap_push(&flow->idle[kind], 0, i, i);
    }
    flow->reserved_for = FLOW_NONE;
    return flow;
}

void tessi_flow_destroy(struct tessi_flow *flow)
{
    if (flow == NULL) {
        return;
    }
    for (uint32_t i = 0; i < flow->tasks.count; i++) {
        const struct flow_task *task = flow_task(flow, i);
        if (task->links != task->few) {
            tessi_free(task->links);
        }
    }
    for (uint32_t i = 0; i < flow->layers.count; i++) {
        tessi_layer_destroy(flow_layer(flow, i)->layer);
    }
    for (uint32_t i = 0; i < flow_slots_all(flow); i++) {
        struct flow_slot *slot = &flow->slots[i];
        for (uint64_t n = slot->first; n < slot->next; n++) {
            tessi_free(flow_run(flow, slot, n)->text);
        }
        tessi_free(slot->ring);
        tessi_free(slot->held_back.items);
    }
    tessi_free(flow->slots);
    tessi_flow_pool_fini(&flow->blocks);
    tessi_flow_pool_fini(&flow->tasks);
    tessi_flow_pool_fini(&flow->ties);
    for (uint32_t i = 0; i < flow->peers.count; i++) {
        tessi_queue_fini(&flow_peer(flow, i)->later);
    }
    tessi_flow_pool_fini(&flow->peers);
    tessi_flow_pool_fini(&flow->layers);
    tessi_flow_pool_fini(&flow->pages);
    tessi_map_fini(&flow->page_of);
    tessi_map_fini(&flow->tie_of);
    tessi_map_fini(&flow->peer_of);
    tessi_map_fini(&flow->layer_of);
    tessi_queue_fini(&flow->all);
    for (enum flow_kind kind = FLOW_CPU; kind < FLOW_KINDS; kind++) {
        tessi_queue_fini(&flow->startable[kind]);
        tessi_heap_fini(&flow->idle[kind]);
    }
    tessi_heap_fini(&flow->lacking);
    tessi_free(flow->holders.items);
    tessi_free(flow->set_aside.items);
    tessi_queue_fini(&flow->runnable);
    tessi_heap_fini(&flow->idle_leases);
    for (int i = 0; i < FLOW_CLASSES; i++) {
        tessi_heap_fini(&flow->fetch[i]);
    }
    for (int i = 0; i < FLOW_RECLAIMS; i++) {
        tessi_heap_fini(&flow->reclaim[i]);
    }
    tessi_free(flow->checks.items);
    tessi_free(flow->forgotten.items);
    tessi_free(flow->copies.items);
    tessi_free(flow->failed_spills.items);
    tessi_free(flow->answering.items);
    tessi_free(flow->relief.items);
    tessi_free(flow->spill_error);
    tessi_heap_fini(&flow->shelved);
    tessi_free(flow->where);
    tessi_free(flow->refs);
    tessi_report_fini(&flow->report);
    tessi_free(flow);
}

static void on_layer(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    struct flow_layer *layer =
        flow_layer(flow, tessi_flow_layer_get(flow, event->layer->session, event->layer->id));
    layer->dropped = false;
    flow->recent[event->layer->id % FLOW_RECENT] = tessi_flow_layer_get(flow, event->layer->session, event->layer->id);
    if (layer->layer != NULL) {
        tessi_layer_destroy(event->layer); /* an id always stands for the same layer */
        flow->stale_events++;
        return;
    }
    layer->layer = event->layer;
    layer->regenerable = tessi_layer_regenerable(event->layer);
    layer->device = event->device && flow->config.device_slots > 0 && !flow->no_devices;
    layer->either = layer->device && event->either && tessi_layer_tasks(event->layer) > 0;
    if (layer->either) {
        tessi_flow_mixed_layer(layer);
    }
    layer->block_bytes = tessi_grid_uniform_elements(&event->layer->grid) * tessi_dtype_size(event->layer->dtype);
    for (uint32_t i = 0; i < event->layer->ninputs; i++) {
        const struct tessi_input *input = &event->layer->input[i];
        layer->input_bytes[i] = tessi_grid_uniform_elements(&input->grid) * tessi_dtype_size(input->dtype);
    }
}

static void on_drop_layer(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    uint32_t handle = tessi_flow_layer_find(flow, event->session, event->layer_id);
    if (handle == FLOW_NONE) {
        flow->stale_events++;
        return;
    }
    struct tessi_span all = {.session = event->session, .layer = event->layer_id, .first = 0, .count = UINT64_MAX};
    flow_layer(flow, handle)->dropped = true;
    tessi_flow_forget(flow, &all, 1);
    tessi_flow_layer_release(flow, handle);
}

/* --- the step --- */

static void handle_event(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    switch (event->kind) {
    case TESSI_FLOW_LAYER:
        on_layer(flow, event);
        break;
    case TESSI_FLOW_DROP_LAYER:
        on_drop_layer(flow, event);
        break;
    case TESSI_FLOW_ASSIGN:
        tessi_flow_on_assign(flow, event);
        break;
    case TESSI_FLOW_FREE:
        tessi_flow_forget(flow, event->spans, event->span_count);
        break;
    case TESSI_FLOW_STEAL:
        tessi_flow_on_steal(flow, event);
        break;
    case TESSI_FLOW_ADOPT:
        tessi_flow_on_adopt(flow, event);
        break;
    case TESSI_FLOW_TAKE_OVER:
        tessi_flow_on_take_over(flow, event);
        break;
    case TESSI_FLOW_LOCATION:
        tessi_flow_on_location(flow, event);
        break;
    case TESSI_FLOW_PEER_UP:
        tessi_flow_on_peer_up(flow, event);
        break;
    case TESSI_FLOW_PEER_LOST:
        tessi_flow_on_peer_lost(flow, event);
        break;
    case TESSI_FLOW_STEP_DONE:
        tessi_flow_on_step_done(flow, event);
        break;
    case TESSI_FLOW_READ:
        tessi_flow_on_read(flow, event);
        break;
    case TESSI_FLOW_PULL:
        tessi_flow_on_pull(flow, event);
        break;
    case TESSI_FLOW_RELEASE:
        tessi_flow_on_release(flow, event);
        break;
    case TESSI_FLOW_READY_INLINE:
    case TESSI_FLOW_READY_LEASE:
    case TESSI_FLOW_READY_OFFER:
    case TESSI_FLOW_MOVED:
    case TESSI_FLOW_ASK:
        tessi_flow_on_answer(flow, event);
        break;
    case TESSI_FLOW_REVOKE:
        tessi_flow_on_revoke(flow, event);
        break;
    case TESSI_FLOW_DATA:
        tessi_flow_on_data(flow, event);
        break;
    case TESSI_FLOW_SPILLED:
        tessi_flow_on_spilled(flow, event);
        break;
    case TESSI_FLOW_SPILL_AGAIN:
        tessi_flow_on_spill_again(flow);
        break;
    case TESSI_FLOW_DAMAGED:
        tessi_flow_on_damaged(flow, event);
        break;
    case TESSI_FLOW_LOST:
        tessi_flow_on_lost(flow, event);
        break;
    case TESSI_FLOW_NO_DEVICES:
        tessi_flow_on_no_devices(flow);
        break;
    case TESSI_FLOW_LOADED:
        tessi_flow_on_loaded(flow, event);
        break;
    }
}

void tessi_flow_step(struct tessi_flow *flow, const struct tessi_flow_event *event, struct tessi_flow_actions *actions)
{
    flow->actions = actions;
    flow->now_ns = event->now_ns;
    handle_event(flow, event);
    tessi_flow_settle(flow);
    tessi_flow_advance(flow);
    flow->at_hand = FLOW_NONE;
    flow->actions = NULL;
}

/* --- reports --- */

/* Copies that came and went within one report are not mentioned. */
static void report_copies(struct tessi_flow *flow)
{
    for (size_t i = 0; i < flow->copies.count; i++) {
        struct flow_block *block = flow_block(flow, flow->copies.items[i]);
        if (!block->live || !block->copy_changed) {
            continue;
        }
        bool held = block->state == FLOW_LOCAL && !block->owned;
        block->copy_changed = false;
        if (held != block->copy_known) {
            tessi_spans_push(held ? &flow->report.copied : &flow->report.dropped, tessi_flow_block_span(flow, block));
        }
        block->copy_known = held;
    }
    flow->copies.count = 0;
}

void tessi_flow_report(struct tessi_flow *flow, struct tessi_report *report)
{
    report_copies(flow);
    tessi_flow_report_started(flow);
    tessi_flow_report_short(flow);
    *report = flow->report;
    report->memory_used_bytes = flow->used_bytes;
    report->memory_peak_bytes = flow->peak_bytes;
    report->spilled_bytes = flow->spilled_bytes;
    report->fetched_bytes = flow->fetched_bytes;
    report->served_bytes = flow->served_bytes;
    report->mapped_bytes = flow->mapped_bytes;
    report->dropped_messages = flow->stale_events;
    report->pulled_bytes = flow->pulled_bytes;
    report->pulling_ns = flow->pulling_ns;
    flow->report = (struct tessi_report){0};
    flow->begins_unknown = false;
}

bool tessi_flow_has_report(const struct tessi_flow *flow)
{
    for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
        const struct flow_slot *slot = &flow->slots[s];
        if ((slot->told > slot->first ? slot->told : slot->first) < slot->next) {
            return true; /* steps that have not been told of */
        }
    }
    return flow->copies.count > 0 || !tessi_report_empty(&flow->report) || tessi_flow_short_untold(flow);
}

bool tessi_flow_report_presses(const struct tessi_flow *flow)
{
    const struct tessi_report *report = &flow->report;
    bool answers = report->adopted.count + report->missing.count + report->stolen.count + report->kept.count +
                       report->refused.count + report->failure_count > 0;
    return answers || flow->blocked || flow->begins_unknown || flow->all.count <= 2 * (size_t)flow_slots_all(flow);
}

static void trim_handles(struct flow_handles *handles)
{
    if (handles->count == 0) {
        tessi_free(handles->items);
        *handles = (struct flow_handles){0};
    }
}

/* Handles begin anew: nothing has one any more. */
static void trim_pool(struct flow_pool *pool)
{
    if (pool->free_count == pool->count) {
        size_t element_size = pool->element_size, zeroed = pool->zeroed;
        tessi_flow_pool_fini(pool);
        tessi_flow_pool_init(pool, element_size, zeroed);
    }
}

static void trim_map(struct tessi_map *map)
{
    if (map->count == 0) {
        tessi_map_fini(map);
    }
}

static void trim_heap(struct tessi_heap *heap)
{
    if (heap->count == 0) {
        tessi_heap_fini(heap);
        tessi_heap_init(heap);
    }
}

void tessi_flow_trim(struct tessi_flow *flow)
{
    for (int i = 0; i < FLOW_CLASSES; i++) {
        trim_heap(&flow->fetch[i]);
    }
    for (int i = 0; i < FLOW_RECLAIMS; i++) {
        trim_heap(&flow->reclaim[i]);
    }
    trim_heap(&flow->idle_leases);
    struct flow_handles *all[] = {&flow->checks, &flow->forgotten, &flow->copies, &flow->failed_spills, &flow->relief,
                                  &flow->answering};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        trim_handles(all[i]);
    }
    /* These may still name what has gone. */
    size_t named = flow->failed_spills.count + flow->relief.count + flow->copies.count + flow->holders.count;
    for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
        named += flow_slot_count(&flow->slots[s]) + flow->slots[s].held_back.count;
    }
    if (flow->block_count == 0 && flow->all.count == 0 && named == 0) {
        trim_pool(&flow->blocks);
        trim_pool(&flow->pages);
        trim_pool(&flow->ties);
        trim_pool(&flow->tasks);
        flow->page = FLOW_NONE;
        trim_map(&flow->page_of);
        trim_map(&flow->tie_of);
    }
    if (flow->layer_of.count == 0) {
        trim_pool(&flow->layers);
        trim_map(&flow->layer_of);
    }
}

bool tessi_flow_awaited(const struct tessi_flow *flow)
{
    return flow->parked > 0;
}

void tessi_flow_stats(const struct tessi_flow *flow, struct tessi_flow_stats *stats)
{
    *stats = (struct tessi_flow_stats){
        .tasks_waiting = flow->all.count - flow->started,
        .tasks_started = flow->started,
        .blocks = flow->block_count,
        .blocks_spilled = flow->spilled_blocks,
        .leases = flow->leases,
        .memory_used_bytes = flow->used_bytes,
        .memory_peak_bytes = flow->peak_bytes,
        .spilled_bytes = flow->spilled_bytes,
        .stale_events = flow->stale_events,
        .restarted_tasks = flow->restarted_tasks,
        .evicted_copies = flow->evicted_copies,
        .parked_reads = flow->parked,
    };
}
