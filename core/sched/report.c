/* What a worker reports: taken when it is about the present assignment, dropped and counted when stale. */
#include <string.h>

#include "core/base/assert.h"
#include "core/sched/balance/balance.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/order/order.h"
#include "core/sched/placement/placement.h"
#include "core/sched/recovery/recovery.h"
#include "core/sched/step.h"
#include "core/sched/workers/workers.h"

#define SLOWNESS_MEMORY_NS 2e8 /* run time over which a worker's slowness is smoothed */
#define PACE_MEMORY_NS 5e9
#define TASK_NS_MAX 1e15 /* a run time of more than days is nonsense: it must not drown all others in sums */

typedef void report_fn(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                       const struct tessi_span *span);

static struct sched_layer *layer_of(struct tessi_sched *sched, const struct tessi_span *span)
{
    struct sched_layer *layer = tessi_find_named(sched, span->session, span->layer);
    bool fits = layer != NULL && span->first < layer->tasks && span->count <= layer->tasks - span->first;
    return fits ? layer : NULL;
}

/* The record, if this worker was last asked under this epoch to run the task, or (TASK_ADOPTING) to own its copy. */
static struct task_record *asked(struct tessi_sched *sched, const struct worker *worker, struct sched_layer *layer,
                                 uint64_t index, uint32_t epoch, uint32_t adopting)
{
    struct task_record *task = record_peek(layer, index);
    if (task != NULL && task->state == TASK_ASSIGNED && task->owner == worker->index && task->epoch == epoch &&
        (task->flags & TASK_ADOPTING) == adopting) {
        return task;
    }
    sched->stale_reports++;
    return NULL;
}

static struct task_record *current(struct tessi_sched *sched, const struct worker *worker, struct sched_layer *layer,
                                   uint64_t index, uint32_t epoch)
{
    return asked(sched, worker, layer, index, epoch, 0);
}

/* A worker holds something that it should not: tell it, unless it is about to be asked for it anyway. */
static void free_stale(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    uint32_t epoch;
    bool asked = tessi_hand_over_is_to(sched, layer, index, worker->index) ||
                 tessi_keep_at(sched, layer, index, worker->index, &epoch);
    if (!asked && (task == NULL || task->owner != worker->index)) {
        tessi_spans_push(
            &tessi_out_box(worker)->free,
            (struct tessi_span){.session = layer->session->id, .layer = layer->layer->id, .first = index, .count = 1});
    }
}

static void take_started(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                         const struct tessi_span *span)
{
    struct task_record *task = current(sched, worker, layer, index, span->epoch);
    if (task != NULL && (task->flags & TASK_STARTED) == 0) {
        task->flags |= TASK_STARTED;
        struct load *load = &worker->load[kind_at(worker, layer->lane)];
        load->started++;
        load->idle = false;
        tessi_expect_task(worker, layer, index, task);
    }
}

static void take_done(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                      const struct tessi_span *span)
{
    struct task_record *task = current(sched, worker, layer, index, span->epoch);
    if (task == NULL) {
        free_stale(sched, worker, layer, index);
        return;
    }
    tessi_assign_end(sched, layer, task, TASK_HELD);
    task->owner = worker->index;
    layer->held++;
    TESS_ASSERT(layer->held <= layer->tasks);
    if (layer->held == layer->tasks) {
        tessi_news_note(sched, layer);
    }
    worker->done++;
    sched->tasks_done++;
    layer->session->stats.tasks_done++;
    if ((task->flags & TASK_DONE_ONCE) == 0) {
        tessi_news_count_done(sched, layer);
    }
    task->flags = TASK_DONE_ONCE;
    tessi_copies_remove(sched, layer, index, worker->index);
    tessi_refs_drop_inputs(sched, layer, index);
    if (layer->kept) {
        tessi_keep_due(sched, layer);
    }
    if (task->refs == 0 && !layer->wanted) {
        tessi_refs_consider_idle(sched, layer, index);
    } else if (worker->leaving) {
        tessi_hand_over(sched, layer, index);
    }
}

static void take_copied(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                        const struct tessi_span *span)
{
    (void)span;
    const struct task_record *task = record_peek(layer, index);
    if (task != NULL && (task->state == TASK_HELD || task->state == TASK_ASSIGNED)) {
        if (task->owner != worker->index) {
            tessi_copies_add(sched, layer, index, worker->index);
        }
    } else if (tessi_table_state(layer, index) != TASK_UNASSIGNED) {
        free_stale(sched, worker, layer, index);
    } else {
        tessi_copies_add(sched, layer, index, worker->index);
    }
}

static void take_dropped(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                         const struct tessi_span *span)
{
    (void)span;
    tessi_copies_remove(sched, layer, index, worker->index);
}

static void take_adopted(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                         const struct tessi_span *span)
{
    if (tessi_hand_over_take(sched, worker, layer, index, span, true) ||
        tessi_keep_take_second(sched, worker, layer, index, span, true)) {
        return;
    }
    struct task_record *task = asked(sched, worker, layer, index, span->epoch, TASK_ADOPTING);
    if (task == NULL) {
        free_stale(sched, worker, layer, index);
        return;
    }
    tessi_assign_end(sched, layer, task, TASK_HELD);
    task->owner = worker->index;
    task->flags = TASK_DONE_ONCE;
    layer->held++;
    TESS_ASSERT(layer->held <= layer->tasks);
    if (layer->held == layer->tasks) {
        tessi_news_note(sched, layer);
    }
    tessi_keep_due(sched, layer);
    if (task->refs == 0 && !layer->wanted) {
        tessi_refs_consider_idle(sched, layer, index);
    } else if (worker->leaving) {
        tessi_hand_over(sched, layer, index);
    }
}

/* It had no copy to adopt, or a block that it owned was lost with its spill file. */
static void take_missing(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                         const struct tessi_span *span)
{
    struct task_record *task = record_peek(layer, index);
    if (tessi_hand_over_take(sched, worker, layer, index, span, false) ||
        tessi_keep_take_second(sched, worker, layer, index, span, false)) {
        return;
    }
    if (task == NULL || task->owner != worker->index || task->epoch != span->epoch) {
        sched->stale_reports++;
    } else if (task->state == TASK_HELD) {
        tessi_loss_of_block(sched, layer, index);
    } else if (task->flags & TASK_ADOPTING) {
        tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
        task->flags = TASK_DONE_ONCE;
        tessi_loss_of_block(sched, layer, index);
    }
}

/* The footprint exceeds this worker's budget: another one may be larger. */
static void take_refused(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                         const struct tessi_span *span)
{
    struct task_record *task = current(sched, worker, layer, index, span->epoch);
    if (task == NULL) {
        return;
    }
    uint64_t need = tessi_task_footprint(layer->layer, index);
    struct worker *larger = NULL;
    for (size_t w = 0; w < sched->worker_count; w++) {
        struct worker *other = sched->workers[w];
        if (other != worker && tessi_supply_can_run(other, &layer->lane->demand) && other->info.memory_bytes >= need &&
            (larger == NULL ||
             other->load[kind_at(other, layer->lane)].queue_ns < larger->load[kind_at(larger, layer->lane)].queue_ns)) {
            larger = other;
        }
    }
    if (larger == NULL) {
        tessi_spread_fail_task(
            sched, layer, index, TESSI_TOO_BIG,
            "a task needs more memory at once than any worker has: use smaller chunks or give a worker more memory "
            "(tessera worker --memory, or memory_bytes of tess_session_options)");
        return;
    }
    tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
    tessi_backlog_put(sched, larger->index, (struct backlog_span){layer, index, 1, true});
}

/* A worker speaks of what its tasks came to: that nothing failed, a code that nobody knows, and what the scheduler
 * alone decides (nobody is there, it was cancelled) is not for it to say. */
static enum tessi_status failure_status(enum tessi_status told)
{
    bool its_own = tessi_status_known((uint32_t)told) && told != TESSI_OK && told != TESSI_CANCELLED &&
                   told != TESSI_NO_WORKERS;
    return its_own ? told : TESSI_FAILED;
}

static void take_failures(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report)
{
    for (size_t f = 0; f < report->failure_count; f++) {
        const struct tessi_failure *failure = &report->failures[f];
        struct tessi_span span = {.session = failure->task.session,
                                  .layer = failure->task.layer,
                                  .first = failure->task.index,
                                  .count = 1};
        struct sched_layer *layer = layer_of(sched, &span);
        if (layer == NULL) {
            sched->stale_reports++;
            continue;
        }
        struct task_record *task = current(sched, worker, layer, failure->task.index, failure->epoch);
        if (task != NULL) {
            tessi_spread_fail_task(sched, layer, failure->task.index, failure_status(failure->status), failure->text);
        }
    }
}

struct time_sum {
    struct sched_layer *layer;
    const struct tessi_span *span; /* the first */
    uint64_t count;
    double time_ns; /* whatever times are told, their sum is a number */
};

/* Times of one layer's tasks that stand together in a report count as one sample. */
static void take_time(struct tessi_sched *sched, struct worker *worker, const struct time_sum *sum)
{
    struct sched_layer *layer = sum->layer;
    double time_ns = sum->time_ns;
    if (time_ns <= 0 || sum->count == 0) {
        return;
    }
    double mean_ns = time_ns / (double)sum->count;
    mean_ns = mean_ns < TASK_NS_MAX ? mean_ns : TASK_NS_MAX;
    bool device = sum->span->device > 0 && worker->load[1].units > 0;
    tessi_kinds_note_ran(sched, worker, layer, sum->count, device);
    tessi_history_record(sched, layer, sum->span->first, device ? worker->device : worker->processor, mean_ns);
    struct load *load = &worker->load[device ? 1 : 0];
    if (load != &worker->load[kind_at(worker, layer->lane)]) {
        return; /* the estimate is not for those */
    }
    /* Short tasks say little about a worker: they weigh as much as they took. */
    double ratio = mean_ns / layer->estimate_ns;
    double weight = time_ns / SLOWNESS_MEMORY_NS;
    ratio = ratio > 100 ? 100 : ratio < 0.01 ? 0.01 : ratio;
    double lasting = time_ns / PACE_MEMORY_NS;
    load->slowness += (weight < 0.2 ? weight : 0.2) * (ratio - load->slowness);
    load->pace += (lasting < 0.2 ? lasting : 0.2) * (ratio - load->pace);
}

#define LAYERS_AT_ONCE 4 /* whose tasks may take turns in a report */

static void take_times(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report)
{
    struct time_sum sums[LAYERS_AT_ONCE];
    size_t used = 0;
    for (size_t s = 0; s < report->done.count; s++) {
        const struct tessi_span *span = &report->done.items[s];
        struct sched_layer *layer = layer_of(sched, span);
        size_t k = 0;
        if (layer == NULL) {
            continue;
        }
        while (k < used && (sums[k].layer != layer || sums[k].span->device != span->device)) {
            k++;
        }
        if (k == used && used == LAYERS_AT_ONCE) {
            k = 0;
            take_time(sched, worker, &sums[k]);
            memmove(sums, sums + 1, (LAYERS_AT_ONCE - 1) * sizeof *sums);
            k = --used;
        }
        if (k == used) {
            sums[used++] = (struct time_sum){.layer = layer, .span = span};
        }
        sums[k].count += span->count;
        sums[k].time_ns += (double)span->time_ns;
    }
    for (size_t k = 0; k < used; k++) {
        take_time(sched, worker, &sums[k]);
    }
}

static void take_gauges(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report)
{
    uint64_t moved = report->fetched_bytes > worker->fetched_bytes ? report->fetched_bytes - worker->fetched_bytes : 0;
    sched->bytes_moved += moved;
    for (size_t s = 0; s < sched->session_count; s++) {
        if (sched->sessions[s] != NULL) {
            sched->sessions[s]->stats.bytes_moved += moved;
        }
    }
    worker->memory_used_bytes = report->memory_used_bytes;
    worker->memory_peak_bytes = report->memory_peak_bytes;
    worker->spilled_bytes = report->spilled_bytes;
    worker->fetched_bytes = report->fetched_bytes;
    worker->served_bytes = report->served_bytes;
    worker->mapped_bytes = report->mapped_bytes;
    worker->dropped_messages = report->dropped_messages;
    worker->busy = report->busy > 0;
    tessi_kinds_lose_devices(sched, worker, report->devices_lost);
    tessi_network_measure(worker, report);
}

/* Tasks without a record: all that can be said of them is past, or was never so, however many they are. */
static void pass_over(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer,
                      struct tessi_span span, bool holds, bool copies)
{
    sched->stale_reports += copies ? 0 : span.count;
    if (holds) {
        span.session = layer->session->id;
        span.layer = layer->layer->id;
        tessi_spans_push(&tessi_out_box(worker)->free, span);
    }
}

/* `holds`: the worker says that it holds the blocks. */
static void each(struct tessi_sched *sched, struct worker *worker, const struct tessi_spans *spans, bool holds,
                 report_fn *take)
{
    for (size_t s = 0; s < spans->count; s++) {
        const struct tessi_span *span = &spans->items[s];
        struct sched_layer *layer = layer_of(sched, span);
        if (layer == NULL) {
            sched->stale_reports++;
            if (holds) { /* a copy that was under way when the layer went: the worker may never have known the layer */
                tessi_spans_push(&tessi_out_box(worker)->free, (struct tessi_span){.session = span->session,
                                                                                   .layer = span->layer,
                                                                                   .first = span->first,
                                                                                   .count = span->count});
            }
            continue;
        }
        for (uint64_t i = span->first, end = span->first + span->count; i < end; i++) {
            if (page_of(layer, i) >= PAGE_LIVE) {
                take(sched, worker, layer, i, span);
                continue;
            }
            uint64_t next = next_live(layer, i);
            next = next < end ? next : end;
            pass_over(sched, worker, layer, (struct tessi_span){.first = i, .count = next - i}, holds,
                      take == take_copied || take == take_dropped);
            i = next - 1;
        }
    }
}

void tessi_take_report(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report)
{
    TESS_ASSERT(worker->alive && !worker->vacant);
    worker->load[0].bare = false;
    if (sched->device_workers > 0) {
        worker->load[1].bare = false;
    }
    if (sched->starving_count + report->starved.count > 0) {
        tessi_relief_take_starving(sched, worker, report);
    }
    take_gauges(sched, worker, report);
    take_times(sched, worker, report);
    each(sched, worker, &report->started, false, take_started);
    each(sched, worker, &report->dropped, false, take_dropped);
    each(sched, worker, &report->copied, true, take_copied);
    each(sched, worker, &report->done, true, take_done);
    each(sched, worker, &report->adopted, true, take_adopted);
    each(sched, worker, &report->missing, false, take_missing);
    tessi_steal_take_answer(sched, worker, report);
    each(sched, worker, &report->refused, false, take_refused);
    take_failures(sched, worker, report);
    tessi_spread_finish(sched);
    tessi_place_scatter_long(sched);
    tessi_hungry_room_made(sched, worker);
    tessi_steal_watch_idle(sched, worker);
}
