/* A worker that is full of what it has to keep. When its oldest task waits for room and nothing under way here will make
 * any, it says so: what it lacks, and the held blocks without which it would have it. The scheduler has others take
 * these over, which they do when the task comes before all of theirs, or beside the room that theirs need. */
#include "core/base/alloc.h"
#include "worker/flow/internal.h"

#define SHED_MAX 256 /* blocks named at a time */

bool tessi_flow_busy(const struct tessi_flow *flow)
{
    /* What is written again to a disk that took nothing the last time does not count on its way out. */
    uint64_t doubtful = flow->spill_broken ? flow->spilling_bytes : 0;
    bool busy = flow->incoming_bytes > 0 || flow->going_bytes > doubtful || (flow->spilling > 0 && !flow->spill_broken);
    for (uint32_t s = 0; s < flow_slots_all(flow) && !busy; s++) {
        busy = flow_slot_count(&flow->slots[s]) > 0;
    }
    return busy;
}

static bool reads_next(const struct flow_task *task, uint32_t block)
{
    for (uint32_t i = task->demand_at; i < task->link_count && task->links[i].step == task->next_step; i++) {
        if (task->links[i].block == block) {
            return true;
        }
    }
    return false;
}

/* Beside what is in memory now, all of which has to stay, as far as it can be told here. */
static uint64_t needed_bytes(const struct tessi_flow *flow, const struct flow_task *task)
{
    const struct flow_block *out = flow_block(flow, task->block);
    uint64_t bytes = task->started || out->held ? 0 : flow_charge(flow, out);
    for (uint32_t i = task->demand_at; i < task->link_count && task->links[i].step == task->next_step; i++) {
        const struct flow_block *block = flow_block(flow, task->links[i].block);
        bool twice = i > task->demand_at && task->links[i].block == task->links[i - 1].block;
        bytes += block->held || block->state == FLOW_MAPPED || twice ? 0 : flow_charge(flow, block);
    }
    return bytes;
}

void tessi_flow_notice_short(struct tessi_flow *flow)
{
    uint32_t oldest = flow->blocked && !flow->blocked_by_heir ? tessi_flow_oldest(flow) : FLOW_NONE;
    flow->short_bytes = 0;
    if (oldest == FLOW_NONE || tessi_flow_busy(flow)) {
        return;
    }
    const struct flow_task *task = flow_task(flow, oldest);
    uint64_t need = flow->used_bytes + needed_bytes(flow, task);
    flow->short_bytes = need > flow->config.memory_bytes ? need - flow->config.memory_bytes : 0;
    flow->short_order = task->order;
}

bool tessi_flow_short_untold(const struct tessi_flow *flow)
{
    return flow->short_bytes != flow->told_short_bytes ||
           (flow->short_bytes > 0 && flow->short_order != flow->told_short_order);
}

/* What would be had if the block went: all of it where it stays in memory. Where it is in a file, or has no data, it is what it
 * costs beside them, which is worth a thought only when nothing else is left. */
static uint64_t shed_bytes(const struct tessi_flow *flow, const struct flow_block *block, bool in_memory)
{
    bool doubtful = block->state == FLOW_SPILLING && !block->regenerable;
    bool sticks = (block->owned_sticky && block->state == FLOW_LOCAL) || doubtful;
    if (!block->live || block->pins > 0 || block->revoking || in_memory != (sticks && block->bytes > 0)) {
        return 0;
    }
    bool in_file = block->owned && block->residue && !block->regenerable;
    return sticks ? flow_charge(flow, block) : in_file ? flow_charge(flow, block) - block->bytes : 0;
}

/* Those of the held blocks, in memory or not, that are needed last, if ever; those of the heap's top are needed first
 * among them. Returns what would be had if they went. */
static uint64_t find_shed(const struct tessi_flow *flow, const struct flow_task *oldest, bool in_memory,
                          struct tessi_heap *found)
{
    uint64_t had = 0;
    for (uint32_t handle = 0; handle < flow->blocks.count; handle++) {
        const struct flow_block *block = flow_block(flow, handle);
        uint64_t bytes = shed_bytes(flow, block, in_memory);
        if (bytes == 0 || reads_next(oldest, handle)) {
            continue;
        }
        struct flow_position at = {UINT64_MAX, UINT64_MAX};
        (void)tessi_flow_block_next_use(block, &at);
        tessi_heap_push(found, at.order, at.second, handle);
        had += bytes;
        if (found->count > SHED_MAX) {
            (void)tessi_heap_pop(found);
        }
    }
    return had;
}

void tessi_flow_report_short(struct tessi_flow *flow)
{
    struct tessi_report *report = &flow->report;
    flow->told_short_bytes = report->short_bytes = flow->short_bytes;
    flow->told_short_order = flow->short_order;
    report->busy = tessi_flow_busy(flow) ? 1 : 0;
    if (flow->spill_error != NULL && flow->short_bytes > 0) {
        report->spill_error = tessi_strdup(flow->spill_error);
    }
    if (flow->short_bytes == 0) {
        return;
    }
    const struct flow_task *oldest = flow_task(flow, tessi_flow_oldest(flow));
    struct tessi_span starved = tessi_flow_block_span(flow, flow_block(flow, oldest->block));
    starved.epoch = oldest->epoch;
    starved.order = oldest->order;
    tessi_spans_push(&report->starved, starved);
    uint32_t handles[SHED_MAX];
    size_t count = 0;
    struct tessi_heap found;
    tessi_heap_init(&found);
    if (find_shed(flow, oldest, true, &found) < flow->short_bytes) {
        (void)find_shed(flow, oldest, false, &found);
    }
    while (found.count > 0) {
        handles[count++] = tessi_heap_pop(&found).value;
    }
    tessi_heap_fini(&found);
    while (count > 0) { /* more than would do: others may have room for small ones only */
        tessi_spans_push(&report->shed, tessi_flow_block_span(flow, flow_block(flow, handles[--count])));
    }
}
