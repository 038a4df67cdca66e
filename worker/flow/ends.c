/* Steps that end: in the order of each slot's queue, and no step before those that made its inputs. What read memory
 * that is not to be trusted, or was not run, starts over. */
#include "core/base/alloc.h"
#include "worker/flow/internal.h"

#define STEP_NOISE_NS INT64_C(10000) /* by which any step may be late */

static void unpin(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(block->pins > 0);
    if (--block->pins > 0) {
        return;
    }
    block->last_use = ++flow->clock;
    tessi_flow_block_touch(flow, handle);
    bool restarts = block->state == FLOW_MAKING && flow_task(flow, block->task)->suspect;
    if (block->state == FLOW_ABANDONED || block->state == FLOW_MAPPED || block->discard || restarts) {
        tessi_flow_check(flow, handle);
    }
}

static void fail(struct tessi_flow *flow, uint32_t handle, const struct flow_run *run)
{
    uint32_t block_handle = flow_task(flow, handle)->block;
    const struct flow_block *block = flow_block(flow, block_handle);
    struct tessi_report *report = &flow->report;
    tessi_grow(&report->failures, &report->failure_capacity, report->failure_count + 1, sizeof *report->failures);
    report->failures[report->failure_count++] =
        (struct tessi_failure){.task = tessi_flow_block_name(flow, block), .epoch = flow_task(flow, handle)->epoch,
                               .status = run->status, .text = tessi_strdup(run->text == NULL ? "" : run->text)};
    tessi_flow_task_drop(flow, handle);
    tessi_flow_turn_away(flow, block_handle, 0, 0);
}

static void suspect(struct tessi_flow *flow, uint32_t handle);

/* Steps at slots that read `block` read what is not to be trusted. */
static void distrust(struct tessi_flow *flow, uint32_t block)
{
    for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
        const struct flow_slot *slot = &flow->slots[s];
        for (uint64_t n = slot->first; n < slot->next; n++) {
            const struct flow_run *run = flow_run(flow, slot, n);
            for (uint32_t k = 0; k < run->in_count && run->task != FLOW_NONE; k++) {
                if (run->in[k] == block && !flow_task(flow, run->task)->suspect) {
                    suspect(flow, run->task);
                }
            }
        }
    }
}

/* Nobody may see what the task has made: it starts over once nothing at the slots has to do with it. */
static void suspect(struct tessi_flow *flow, uint32_t handle)
{
    struct flow_task *task = flow_task(flow, handle);
    task->suspect = true;
    tessi_flow_task_unready(flow, handle);
    if (task->promises) { /* others may have queued up behind it */
        distrust(flow, task->block);
        task->promises = false;
        tessi_flow_block_update(flow, task->block);
    }
    tessi_flow_check(flow, task->block);
}

/* Tasks of the layer that wait for a device slot wait for a CPU slot from now on; those that have begun start over. */
static void leave_devices(struct tessi_flow *flow, struct flow_layer *layer)
{
    layer->device = false;
    for (uint32_t handle = 0; handle < flow->tasks.count; handle++) {
        const struct flow_task *task = flow_task(flow, handle);
        if (!task->live || flow_layer(flow, flow_block(flow, task->block)->layer) != layer) {
            continue;
        }
        if (task->started && task->at_device && !task->suspect) {
            suspect(flow, handle);
        } else if (tessi_queue_contains(&flow->startable[FLOW_DEVICE], handle)) {
            tessi_flow_task_unready(flow, handle);
            tessi_flow_task_ready(flow, handle);
        }
    }
}

void tessi_flow_on_no_devices(struct tessi_flow *flow)
{
    flow->no_devices = true;
    for (uint32_t i = 0; i < flow->layers.count; i++) {
        struct flow_layer *layer = flow_layer(flow, i);
        if (layer->live && layer->device) {
            leave_devices(flow, layer);
        }
    }
}

static void measure(struct tessi_flow *flow, const struct flow_run *run, bool device)
{
    struct flow_layer *layer = flow_layer(flow, flow_block(flow, run->out)->layer);
    int64_t ran_ns = run->ran_ns > 0 ? run->ran_ns : 1;
    int64_t *step_ns = &layer->step_ns[device ? FLOW_DEVICE : FLOW_CPU];
    int64_t most_ns = 2 * *step_ns + STEP_NOISE_NS;
    if (run->status == TESSI_OK && *step_ns == 0) {
        *step_ns = ran_ns;
    } else if (run->status == TESSI_OK) { /* one step that was kept from its processor says little about the next */
        *step_ns += ((ran_ns < most_ns ? ran_ns : most_ns) - *step_ns) / 8;
    }
    if (flow->config.device_slots > 0) {
        tessi_flow_mixed_ended(flow, layer, run, device);
    }
}

static void task_step_done(struct tessi_flow *flow, const struct flow_run *run, bool lost)
{
    uint32_t handle = run->task;
    struct flow_task *task = flow_task(flow, handle);
    task->queued--;
    task->ran_ns += run->ran_ns;
    if ((lost || run->status == TESSI_CANCELLED) && !task->suspect) {
        suspect(flow, handle);
    }
    if (task->suspect) {
        tessi_flow_check(flow, task->block);
    } else if (run->status != TESSI_OK) {
        fail(flow, handle, run);
    } else if (++task->done_steps == task->steps) {
        tessi_flow_task_finish(flow, handle);
    } else if (task->next_step < task->steps) {
        tessi_flow_task_ready(flow, handle);
    }
}

/* An input is still being made, as far as is known here: its maker's end comes first. */
static bool comes_early(const struct tessi_flow *flow, const struct flow_run *run)
{
    for (uint32_t k = 0; k < run->in_count; k++) {
        const struct flow_block *block = flow_block(flow, run->in[k]);
        if (block->state == FLOW_MAKING && flow_task(flow, block->task)->queued > 0) {
            return true;
        }
    }
    return false;
}

static bool input_lost(const struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_block *block = flow_block(flow, handle);
    return block->lost || block->state == FLOW_MAKING;
}

/* Take the oldest step of the queue out of it. */
static void retire(struct tessi_flow *flow, uint32_t slot_index)
{
    struct flow_slot *slot = &flow->slots[slot_index];
    struct flow_run *run = flow_run(flow, slot, slot->first++);
    bool lost = false;
    slot->queued_ns -= run->estimate_ns;
    measure(flow, run, slot_index >= flow->config.slots);
    tessi_flow_resources_end(flow, run);
    unpin(flow, run->out);
    for (uint32_t k = 0; k < run->in_count; k++) {
        lost = lost || input_lost(flow, run->in[k]);
        unpin(flow, run->in[k]);
    }
    if (run->task != FLOW_NONE) {
        task_step_done(flow, run, lost);
    }
    tessi_free(run->text);
}

static bool retire_ended(struct tessi_flow *flow, uint32_t slot_index)
{
    struct flow_slot *slot = &flow->slots[slot_index];
    uint64_t before = slot->first;
    while (slot->first < slot->next) {
        const struct flow_run *run = flow_run(flow, slot, slot->first);
        if (!run->ended || comes_early(flow, run)) {
            break;
        }
        retire(flow, slot_index);
    }
    if (slot->first == before) {
        return false;
    }
    tessi_flow_slot_recount(flow, slot_index);
    tessi_flow_release_held_back(flow, slot);
    return true;
}

static void take_outcome(struct tessi_flow *flow, const struct tessi_flow_outcome *outcome)
{
    struct flow_slot *slot = outcome->slot < flow_slots_all(flow) ? &flow->slots[outcome->slot] : NULL;
    if (slot == NULL || outcome->run < slot->first || outcome->run >= slot->next ||
        flow_run(flow, slot, outcome->run)->ended) {
        flow->stale_events++;
        return;
    }
    struct flow_run *run = flow_run(flow, slot, outcome->run);
    run->ended = true;
    run->status = outcome->status;
    run->ran_ns = outcome->ran_ns;
    run->text = outcome->status == TESSI_OK ? NULL : tessi_strdup(outcome->text);
    struct flow_layer *layer = flow_layer(flow, flow_block(flow, run->out)->layer);
    if (outcome->elsewhere && layer->device) {
        leave_devices(flow, layer);
    }
}

void tessi_flow_on_step_done(struct tessi_flow *flow, const struct tessi_flow_event *event)
{
    for (size_t i = 0; i < event->outcome_count; i++) {
        take_outcome(flow, &event->outcomes[i]);
    }
    bool progress = true;
    while (progress) {
        progress = false;
        for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
            progress = retire_ended(flow, s) || progress;
        }
    }
}

/* What is at a slot now may run before the next report: the worker's death would be blamed on it. */
void tessi_flow_report_started(struct tessi_flow *flow)
{
    for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
        struct flow_slot *slot = &flow->slots[s];
        for (uint64_t n = slot->told > slot->first ? slot->told : slot->first; n < slot->next; n++) {
            const struct flow_run *run = flow_run(flow, slot, n);
            if (run->task != FLOW_NONE && !flow_task(flow, run->task)->told) {
                flow_task(flow, run->task)->told = true;
                tessi_spans_push(&flow->report.started, tessi_flow_block_span(flow, flow_block(flow, run->out)));
            }
        }
        slot->told = slot->next;
    }
}
