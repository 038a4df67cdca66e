/* The blocks that a virtual worker knows, its memory, and what it has to report. */
#include "core/base/assert.h"
#include "tests/sim/tool/worker.h"

static struct tessi_map_key key_of(uint32_t layer, uint64_t index)
{
    return (struct tessi_map_key){layer, index};
}

uint32_t tool_find(const struct tool_worker *worker, uint32_t layer, uint64_t index)
{
    return tessi_map_get(&worker->blocks, key_of(layer, index));
}

struct tessi_span tool_span_of(const struct tool_block *block, uint32_t epoch)
{
    return (struct tessi_span){
        .session = TOOL_SESSION, .layer = block->layer + 1, .first = block->index, .count = 1, .epoch = epoch};
}

void tool_has_news(struct tool_cluster *cluster, struct tool_worker *worker)
{
    if (!worker->report_pending) {
        int64_t at_ns = worker->report_free_ns > cluster->now_ns ? worker->report_free_ns : cluster->now_ns;
        worker->report_pending = true;
        tool_schedule(cluster, at_ns, TOOL_REPORT_DUE, worker->number, 0, 0);
    }
}

/* The old arrays of the message serve the next report. */
void tool_send_report(struct tool_cluster *cluster, struct tool_worker *worker)
{
    uint32_t number = tool_pool_take(&cluster->messages);
    struct tool_message *message = &((struct tool_message *)cluster->messages.items)[number];
    struct tessi_report report = message->report;
    struct tessi_spans locates = message->locates;
    worker->report.memory_used_bytes = worker->used_bytes;
    worker->report.memory_peak_bytes = worker->peak_bytes;
    worker->report.fetched_bytes = worker->fetched_bytes;
    worker->report.served_bytes = worker->served_bytes;
    *message = (struct tool_message){worker->number, worker->report, worker->locates};
    worker->report = report;
    worker->locates = locates;
    worker->report_pending = false;
    worker->told_ns = cluster->now_ns;
    worker->report_free_ns = cluster->now_ns + cluster->options.loop_ns;
    tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_MESSAGE, worker->number, number, 0);
}

/* --- memory and copies --- */

void tool_take_bytes(struct tool_cluster *cluster, struct tool_worker *worker, uint64_t bytes)
{
    worker->used_bytes += bytes;
    if (worker->used_bytes > worker->peak_bytes) {
        worker->peak_bytes = worker->used_bytes;
        uint64_t memory = cluster->options.memory_bytes;
        worker->beyond_bytes = worker->peak_bytes > memory ? worker->peak_bytes - memory : 0;
    }
}

static void list_remove(struct tool_cluster *cluster, struct tool_copies *list, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    uint32_t before = block->before, after = block->after;
    if (before != TOOL_NONE) {
        tool_block_at(cluster, before)->after = after;
    } else {
        list->first = after;
    }
    if (after != TOOL_NONE) {
        tool_block_at(cluster, after)->before = before;
    } else {
        list->last = before;
    }
}

static void list_append(struct tool_cluster *cluster, struct tool_copies *list, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    block->before = list->last;
    block->after = TOOL_NONE;
    if (list->last != TOOL_NONE) {
        tool_block_at(cluster, list->last)->after = number;
    } else {
        list->first = number;
    }
    list->last = number;
}

static struct tool_copies *list_of(struct tool_worker *worker, const struct tool_block *block)
{
    if (block->state != TOOL_COPY || block->pins > 0) {
        return NULL;
    }
    return block->uses > 0 ? &worker->needed : &worker->idle;
}

void tool_block_free(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    TESS_ASSERT(block->uses == 0 && block->pins == 0 && block->waiters == TOOL_NONE && block->readers == TOOL_NONE);
    (void)tessi_map_remove(&worker->blocks, key_of(block->layer, block->index));
    block->ticket++;
    tool_pool_give(&cluster->blocks, number);
}

void tool_unlist(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_copies *list = list_of(worker, tool_block_at(cluster, number));
    if (list != NULL) {
        list_remove(cluster, list, number);
    }
}

void tool_enlist(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_copies *list = list_of(worker, tool_block_at(cluster, number));
    if (list != NULL) {
        list_append(cluster, list, number);
    }
}

void tool_use(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    if (list_of(worker, block) == &worker->idle) {
        list_remove(cluster, &worker->idle, number);
        list_append(cluster, &worker->needed, number);
    }
    block->uses++;
}

static void drop_copy(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    tool_unlist(cluster, worker, number);
    worker->used_bytes -= block->bytes;
    tessi_spans_push(&worker->report.dropped, tool_span_of(block, 0));
    tool_has_news(cluster, worker);
    block->state = TOOL_ABSENT;
    if (block->uses == 0) {
        tool_block_free(cluster, worker, number);
    }
}

bool tool_room(struct tool_cluster *cluster, struct tool_worker *worker, uint64_t bytes)
{
    while (worker->used_bytes + bytes > cluster->options.memory_bytes) {
        uint32_t victim = worker->idle.first != TOOL_NONE ? worker->idle.first : worker->needed.first;
        if (victim == TOOL_NONE) {
            return false;
        }
        drop_copy(cluster, worker, victim);
    }
    return true;
}

void tool_own(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    block->state = TOOL_OWNED;
    worker->owned_bytes += block->bytes;
    cluster->live++;
}

uint32_t tool_block_get(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t layer, uint64_t index)
{
    uint32_t number = tool_find(worker, layer, index);
    if (number != TESSI_MAP_NONE) {
        return number;
    }
    number = tool_pool_take(&cluster->blocks);
    struct tool_block *block = tool_block_at(cluster, number);
    const struct tool_layer *of = &cluster->layers[layer];
    *block = (struct tool_block){
        .index = index,
        .bytes = of->uniform ? of->block_bytes : tessi_layer_block_bytes(of->layer, index),
        .want = UINT64_MAX,
        .layer = layer,
        .worker = worker->number,
        .owner = TOOL_NONE,
        .ticket = block->ticket + 1,
        .task = TOOL_NONE,
        .waiters = TOOL_NONE,
        .readers = TOOL_NONE,
        .state = TOOL_ABSENT,
    };
    tessi_map_put(&worker->blocks, key_of(layer, index), number);
    return number;
}
