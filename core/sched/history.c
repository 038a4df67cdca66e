/* Run times of tasks by kind: the median of the last few, robust against outliers; from flops and
 * bytes until there is one. A kind is an operation, a dtype and the size of the work. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/sched/state.h"

#define SAMPLES (sizeof((struct history_entry *)0)->samples / sizeof(double))

static struct tessi_map_key kind_of(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_cost cost = tessi_task_cost(layer, index);
    uint64_t bits[2];
    memcpy(&bits[0], &cost.flops, sizeof bits[0]);
    memcpy(&bits[1], &cost.bytes, sizeof bits[1]);
    uint64_t high = (uint64_t)layer->op << 8 | (uint64_t)layer->dtype;
    if (layer->op == TESSI_OP_OPAQUE) {
        bits[1] ^= layer->as.opaque.nanoseconds;
    }
    /* Exponent and the top of the mantissa: sizes within some percent are one kind. */
    return (struct tessi_map_key){high, (bits[0] >> 48) << 32 | bits[1] >> 48};
}

static double guess_ns(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_cost cost = tessi_task_cost(layer, index);
    double flops_per_ns = layer->op == TESSI_OP_MATMUL ? 40 : 1;
    double time = 2000 + cost.flops / flops_per_ns + cost.bytes / 4;
    return layer->op == TESSI_OP_OPAQUE ? time + (double)layer->as.opaque.nanoseconds : time;
}

static double median(const struct history_entry *entry)
{
    double sorted[SAMPLES];
    for (uint32_t i = 0; i < entry->count; i++) { /* a few numbers: by insertion */
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > entry->samples[i]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = entry->samples[i];
    }
    return sorted[entry->count / 2];
}

double history_estimate(struct tessi_sched *sched, const struct tessi_layer *layer, uint64_t index)
{
    uint32_t handle = tessi_map_get(&sched->history_by_kind, kind_of(layer, index));
    return handle == TESSI_MAP_NONE ? guess_ns(layer, index) : median(&sched->history[handle]);
}

/* The estimate of a layer is one number for all its tasks; queues are kept in step with it. */
static void set_estimate(struct tessi_sched *sched, struct sched_layer *layer, double estimate_ns)
{
    double change = estimate_ns - layer->estimate_ns;
    layer->estimate_ns = estimate_ns;
    for (size_t w = 0; w < layer->on_capacity && w < sched->worker_count; w++) {
        sched->workers[w]->queue_ns += change * (double)layer->on[w].assigned;
        sched->workers[w]->backlog_ns += change * (double)layer->on[w].backlog;
    }
}

void history_record(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, double mean_ns)
{
    struct tessi_map_key kind = kind_of(layer->layer, index);
    uint32_t handle = tessi_map_get(&sched->history_by_kind, kind);
    if (handle == TESSI_MAP_NONE) {
        handle = (uint32_t)sched->history_count++;
        tessi_grow(&sched->history, &sched->history_capacity, sched->history_count, sizeof *sched->history);
        sched->history[handle] = (struct history_entry){0};
        tessi_map_put(&sched->history_by_kind, kind, handle);
    }
    struct history_entry *entry = &sched->history[handle];
    entry->samples[entry->next] = mean_ns;
    entry->next = (entry->next + 1) % (uint32_t)SAMPLES;
    entry->count += entry->count < SAMPLES;
    double estimate = median(entry) + 500; /* what a task costs besides its kernel */
    if (estimate > 1.1 * layer->estimate_ns || estimate < 0.9 * layer->estimate_ns) {
        set_estimate(sched, layer, estimate);
    }
}
