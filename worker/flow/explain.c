/* Why a task waits, in words. */
#include <inttypes.h>

#include "core/base/text.h"
#include "worker/flow/internal.h"

#define INPUTS_TOLD 8

/* What stands between the block and its being readable here. */
static const char *block_state(const struct flow_block *block)
{
    switch (block->state) {
    case FLOW_ABSENT:
    case FLOW_LOCATING:
        return "is being looked for: the scheduler has been asked where it is";
    case FLOW_AWAITED:
        return "is to be made here, and its assignment is on its way";
    case FLOW_NOWHERE:
        return "will not come: what makes it has failed or was cancelled";
    case FLOW_UNASKED:
        return block->asks_later ? "is asked for when earlier questions are answered by"
                                 : "is at a worker that cannot be reached yet:";
    case FLOW_ASKED:
        return "has been asked for and is not made yet, or its answer is on its way:";
    case FLOW_OFFERED:
        return "waits for room here, or for earlier transfers; it is made:";
    case FLOW_PULLING:
        return "is being fetched:";
    case FLOW_MAPPED:
        return "is read in place, and is wanted back:";
    case FLOW_UNMADE:
        return "waits here too";
    case FLOW_MAKING:
        return "is being made here";
    case FLOW_LOCAL:
    case FLOW_SPILLING:
        return "is here";
    case FLOW_SPILLED:
        return "is in its spill file and waits for room";
    case FLOW_LOADING:
        return "is being read back from its spill file";
    case FLOW_ABANDONED:
        return "is being given up";
    case FLOW_STATES:
        break;
    }
    return "";
}

static void tell_inputs(const struct tessi_flow *flow, const struct flow_task *task, struct tessi_lines *lines)
{
    uint32_t told = 0;
    for (uint32_t i = task->demand_at; i < task->link_count && task->links[i].step == task->next_step; i++) {
        const struct flow_block *block = flow_block(flow, task->links[i].block);
        if (block->readable) {
            continue;
        }
        if (told++ == INPUTS_TOLD) {
            tessi_lines_say(lines, "and more inputs are not here");
            return;
        }
        const struct tessi_task name = tessi_flow_block_name(flow, block);
        char source[32] = "";
        if (block->source != 0) {
            (void)tessi_text_format(source, sizeof source, " worker %" PRIu32, block->source);
        }
        tessi_lines_say(lines, "its input %" PRIu32 ":%" PRIu64 " (%" PRIu64 " bytes) %s%s", name.layer, name.index,
                        block->bytes, block_state(block), source);
    }
}

/* Tasks here that come before it in the global order. */
static uint64_t older(const struct tessi_flow *flow, const struct flow_task *task)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < flow->tasks.count; i++) {
        const struct flow_task *other = flow_task(flow, i);
        count += other->live && (other->order < task->order || (other->order == task->order && other->seq < task->seq));
    }
    return count;
}

/* Steps at its slot that run before the first of the task's own. */
static uint64_t steps_before(const struct tessi_flow *flow, uint32_t task)
{
    const struct flow_slot *slot = &flow->slots[flow_task(flow, task)->slot];
    uint64_t run = slot->first;
    while (run < slot->next && flow_run(flow, slot, run)->task != task) {
        run++;
    }
    return run - slot->first;
}

/* Tasks here whose inputs are there as well and that start before it whatever their age. */
static uint64_t more_urgent(const struct tessi_flow *flow, const struct flow_task *task)
{
    uint64_t count = 0;
    for (uint32_t i = 0; flow->priorities && i < flow->tasks.count; i++) {
        const struct flow_task *other = flow_task(flow, i);
        count += other->live && !other->started && !other->receive && other->missing == 0 &&
                 tessi_flow_task_options(flow, other)->priority > tessi_flow_task_options(flow, task)->priority;
    }
    return count;
}

static void tell_lacking(const struct tessi_flow *flow, const struct flow_task *task, struct tessi_lines *lines)
{
    struct tessi_resources held = flow->config.resources;
    char demand[TESSI_RESOURCES_TEXT_MAX], used[TESSI_RESOURCES_TEXT_MAX], has[TESSI_RESOURCES_TEXT_MAX];
    for (uint32_t r = 0; r < held.count; r++) {
        held.item[r].amount = (uint32_t)flow->resources_used[r];
    }
    tessi_lines_say(lines, "its inputs are here; it waits for a resource: it demands %s, tasks here hold %s of %s%s",
                    tessi_resources_text(&tessi_flow_task_options(flow, task)->demand, demand, sizeof demand),
                    tessi_resources_text(&held, used, sizeof used),
                    tessi_resources_text(&flow->config.resources, has, sizeof has),
                    flow->reserved_for != FLOW_NONE ? ", and the oldest task gets them first" : "");
}

static void tell_ready(const struct tessi_flow *flow, const struct flow_task *task, struct tessi_lines *lines)
{
    bool device = flow_task_kind(flow, task) == FLOW_DEVICE;
    uint32_t first = device ? flow->config.slots : 0, count = device ? flow->config.device_slots : flow->config.slots;
    uint32_t busy = 0;
    for (uint32_t i = first; i < first + count; i++) {
        busy += flow_slot_count(&flow->slots[i]) > 0;
    }
    const struct flow_block *block = flow_block(flow, task->block);
    uint64_t room = flow->config.memory_bytes - flow->used_bytes, urgent = more_urgent(flow, task);
    if (busy < count && (flow->blocked || flow_charge(flow, block) > room)) {
        tessi_lines_say(lines,
                        "its inputs are here; it waits for memory: its block has %" PRIu64 " bytes, %" PRIu64
                        " of %" PRIu64 " are in use%s",
                        block->bytes, flow->used_bytes, flow->config.memory_bytes,
                        flow->blocked ? ", and the oldest task gets room first" : "");
        if (flow->spill_error != NULL) {
            tessi_lines_say(lines, "spill files cannot be written: %s", flow->spill_error);
        }
        return;
    }
    tessi_lines_say(lines, "its inputs are here; it waits for a %s: %" PRIu32 " of %" PRIu32 " are busy",
                    device ? "place at a device" : "slot", busy, count);
    if (urgent > 0) {
        tessi_lines_say(lines, "%" PRIu64 " tasks of higher priority are ready too and go first", urgent);
    }
}

const char *tessi_flow_explain(const struct tessi_flow *flow, struct tessi_task name, char *text, size_t size)
{
    struct tessi_lines lines = tessi_lines_over(text, size);
    uint32_t handle = tessi_flow_block_find(flow, name);
    const struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    if (block == NULL || block->task == FLOW_NONE) {
        tessi_lines_say(&lines, block != NULL && flow_block_servable(block)
                                    ? "it is done here"
                                    : "it has not arrived at the worker yet, or has left it");
        return text;
    }
    const struct flow_task *task = flow_task(flow, block->task);
    if (task->queued > 0) {
        tessi_lines_say(&lines,
                        "it is at slot %" PRIu32 ", step %" PRIu32 " of %" PRIu32 ", with %" PRIu64 " steps before it",
                        task->slot, task->done_steps + 1, task->steps, steps_before(flow, block->task));
        return text;
    }
    tessi_lines_say(&lines, "it came to the worker %.3f s before its last event; %" PRIu64 " older tasks are there",
                    (double)(flow->now_ns - task->assigned_ns) / 1e9, older(flow, task));
    if (task->receive) {
        tessi_lines_say(&lines, "its block %s the client", block_state(block));
    } else if (task->missing > 0) {
        if (task->started) {
            tessi_lines_say(&lines, "it has made %" PRIu32 " of %" PRIu32 " steps", task->done_steps, task->steps);
        }
        tell_inputs(flow, task, &lines);
    } else if (block->state == FLOW_ABANDONED) {
        tessi_lines_say(&lines, "the memory of an earlier copy of its block is still in use");
    } else if (tessi_heap_contains(&flow->lacking, block->task)) {
        tell_lacking(flow, task, &lines);
    } else {
        tell_ready(flow, task, &lines);
    }
    return text;
}
