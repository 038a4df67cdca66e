#include "worker/flow/mixed.h"

#include "worker/flow/internal.h"

#define MARGIN 1.1           /* estimates may be wrong by so much */
#define DEVICE_AHEAD_STEPS 16 /* tasks that a device always has, so that it copies and launches ahead */
#define DEVICE_AHEAD_NS 4e6  /* likewise */
#define UNKNOWN_NS 1e6       /* a task at a device, until one of any kind has been measured */
#define HOME_NS 5e4          /* a copy from a device is asked for and told of, whatever its length */
#define GUESS_DOUBT 4.0      /* by so much a task may take longer on a processor than its flops and bytes say */
#define SCALE_DOUBT 2.0      /* … and less at a device, once other layers have been measured there */
#define MEMORY_STEPS 32.0    /* at a device, over which the time between two ends is averaged */

enum tessi_flow_place tessi_flow_choose_place(const struct tessi_flow_mixed *task)
{
    /* A device that would make the block before it could be copied there would wait for the copies. */
    if (task->slots_busy || task->copy_back_ns > task->device_ns) {
        return TESSI_FLOW_AT_DEVICE;
    }
    double device_ns = task->device_queue_ns > task->copy_in_ns ? task->device_queue_ns : task->copy_in_ns;
    double slot_ns = task->slot_queue_ns > task->copy_home_ns ? task->slot_queue_ns : task->copy_home_ns;
    device_ns += task->device_ns;
    slot_ns += task->slot_ns + task->copy_back_ns;
    if (task->slot_open && MARGIN * slot_ns < device_ns) {
        return TESSI_FLOW_AT_SLOT;
    }
    /* With that much ahead the next open slot is sure to end before the device does. */
    double ahead_ns = MARGIN * MARGIN * (task->copy_home_ns + task->slot_ns + task->copy_back_ns);
    ahead_ns = DEVICE_AHEAD_STEPS * task->device_ns > ahead_ns ? DEVICE_AHEAD_STEPS * task->device_ns : ahead_ns;
    ahead_ns = DEVICE_AHEAD_NS > ahead_ns ? DEVICE_AHEAD_NS : ahead_ns;
    return task->device_queue_ns < ahead_ns ? TESSI_FLOW_AT_DEVICE : TESSI_FLOW_LATER;
}

/* ——— what the flow knows ——— */

void tessi_flow_mixed_layer(struct flow_layer *layer)
{
    struct tessi_cost cost = tessi_task_cost(layer->layer, 0);
    layer->guess_ns = 2000 + cost.flops + cost.bytes / 4;
}

double tessi_flow_device_step_ns(const struct tessi_flow *flow, const struct flow_layer *layer, uint32_t steps)
{
    if (layer->device_ends > 0) {
        return layer->device_busy_ns / layer->device_ends;
    }
    double scale = flow->scale[FLOW_DEVICE];
    return (scale > 0 ? scale / SCALE_DOUBT * layer->guess_ns : UNKNOWN_NS) / steps;
}

static double slot_step_ns(const struct tessi_flow *flow, const struct flow_layer *layer, uint32_t steps)
{
    if (layer->step_ns[FLOW_CPU] > 0) {
        return (double)layer->step_ns[FLOW_CPU];
    }
    double factor = flow->scale[FLOW_CPU] > 0 ? SCALE_DOUBT * flow->scale[FLOW_CPU] : GUESS_DOUBT;
    return factor * layer->guess_ns / steps;
}

static double queue_ns(const struct tessi_flow *flow, int64_t free_ns)
{
    return free_ns > flow->now_ns ? (double)(free_ns - flow->now_ns) : 0;
}

enum tessi_flow_place tessi_flow_place_mixed(const struct tessi_flow *flow, const struct flow_task *task,
                                             int64_t slot_queue_ns, bool slot_open)
{
    const struct flow_block *out = flow_block(flow, task->block);
    const struct flow_layer *layer = flow_layer(flow, out->layer);
    double per_byte_ns = flow->config.copy_ns_per_byte;
    bool device_known = layer->device_ends > 0 || flow->scale[FLOW_DEVICE] > 0;
    bool known = layer->step_ns[FLOW_CPU] > 0 || flow->scale[FLOW_CPU] > 0;
    bool trial = !known && layer->trials > 0; /* one tells what the others would take */
    double home_bytes = 0, in_bytes = 0;
    struct tessi_flow_mixed mixed = {
        .device_queue_ns = (double)flow->device_queued_ns,
        .device_ns = tessi_flow_device_step_ns(flow, layer, task->steps) * task->steps,
        .slot_queue_ns = (double)slot_queue_ns,
        .slot_ns = slot_step_ns(flow, layer, task->steps) * task->steps,
        .copy_back_ns = out->users > 0 ? (double)out->bytes * per_byte_ns : 0,
        .slot_open = slot_open && device_known && !trial,
        .slots_busy = tessi_queue_peek(&flow->startable[FLOW_CPU]) != NULL,
    };
    for (uint32_t i = 0; i < task->link_count; i++) {
        const struct flow_block *block = flow_block(flow, task->links[i].block);
        in_bytes += block->resident ? 0 : (double)block->bytes;
        home_bytes += block->away ? (double)block->bytes : 0;
    }
    if (home_bytes > 0) {
        mixed.copy_home_ns = HOME_NS + queue_ns(flow, flow->home_free_ns) + home_bytes * per_byte_ns;
    }
    if (in_bytes > 0) {
        mixed.copy_in_ns = queue_ns(flow, flow->in_free_ns) + in_bytes * per_byte_ns;
    }
    return tessi_flow_choose_place(&mixed);
}

static void measure_scale(struct tessi_flow *flow, enum flow_kind kind, const struct flow_layer *layer, double task_ns)
{
    double scale = task_ns / layer->guess_ns;
    flow->scale[kind] += flow->scale[kind] > 0 ? (scale - flow->scale[kind]) / 8 : scale;
}

/* The device's queue is as long as its steps take by what is known now, not when they were handed over. */
static void recount(struct tessi_flow *flow, struct flow_layer *layer, int64_t each_ns)
{
    flow->device_queued_ns += (each_ns - layer->device_each_ns) * layer->device_queued;
    layer->device_each_ns = each_ns;
}

void tessi_flow_mixed_enqueued(struct tessi_flow *flow, const struct flow_run *run, bool device)
{
    struct flow_layer *layer = flow_layer(flow, flow_block(flow, run->out)->layer);
    for (uint32_t k = 0; k < run->in_count; k++) {
        struct flow_block *block = flow_block(flow, run->in[k]);
        if (device ? !block->resident : block->away) {
            int64_t *free_ns = device ? &flow->in_free_ns : &flow->home_free_ns;
            int64_t begin_ns = *free_ns > flow->now_ns ? *free_ns : flow->now_ns;
            *free_ns = begin_ns + (int64_t)((double)block->bytes * flow->config.copy_ns_per_byte);
        }
        block->away = block->away && device;
        block->resident = block->resident || device;
    }
    flow_block(flow, run->out)->away = flow_block(flow, run->out)->resident = device;
    if (device) {
        layer->device_queued++;
        flow->device_queued_ns += layer->device_each_ns;
        recount(flow, layer, run->estimate_ns);
    }
    layer->trials += layer->either && !device && layer->step_ns[FLOW_CPU] == 0 ? 1 : 0;
}

/* What a step takes a device is the time from one end to the next, since copies and launches run beside the work: how
 * long the work itself took does not tell when the next one ends. */
void tessi_flow_mixed_ended(struct tessi_flow *flow, struct flow_layer *layer, const struct flow_run *run, bool device)
{
    uint32_t steps = run->task != FLOW_NONE ? flow_task(flow, run->task)->steps : 1;
    if (!device) {
        layer->trials = 0;
        if (layer->either && layer->step_ns[FLOW_CPU] > 0) {
            measure_scale(flow, FLOW_CPU, layer, (double)layer->step_ns[FLOW_CPU] * steps);
        }
        return;
    }
    layer->device_queued--;
    flow->device_queued_ns -= layer->device_each_ns;
    int64_t begun_ns = run->given_ns > flow->device_end_ns ? run->given_ns : flow->device_end_ns;
    flow->device_end_ns = flow->now_ns;
    if (layer->either) {
        layer->device_busy_ns += (double)(flow->now_ns - begun_ns);
        layer->device_ends += 1;
        if (layer->device_ends > MEMORY_STEPS) {
            layer->device_busy_ns /= 2;
            layer->device_ends /= 2;
        }
        measure_scale(flow, FLOW_DEVICE, layer, layer->device_busy_ns / layer->device_ends * steps);
        recount(flow, layer, (int64_t)tessi_flow_device_step_ns(flow, layer, steps) + 1);
    } else if (layer->step_ns[FLOW_DEVICE] > 0) {
        recount(flow, layer, layer->step_ns[FLOW_DEVICE]);
    }
}
