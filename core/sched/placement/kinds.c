/* Processors and devices: which of them a layer's tasks are for, and what each worker has.
 *
 * Workers decide that by the layer alone, and say with each task that is done where it ran. Until the first has, a
 * guess stands in: what such tasks did before, or their size. A layer for devices waits in lanes of its own and counts
 * as a load of their devices, so that neither the processors nor the devices of a worker are idle for the other's
 * queue. At a worker without devices (it has lost them) the same layer counts as a load of its processors. */
#include <string.h>

#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/order/order.h"
#include "core/sched/order/policy.h"
#include "core/sched/placement/placement.h"
#include "core/sched/workers/workers.h"

#define DEVICES_MAX 64
#define DOUBT_TASKS 16     /* on processors before any has run at a device: the guess was wrong */
#define GIVEN_UP_TASKS 1024 /* on processors since the last one at a device: they have been given up for it */

uint32_t tessi_kinds_guess(const struct tessi_sched *sched, const struct tessi_layer *layer)
{
    if (sched->device_workers == 0 || tessi_op_row(layer->op)->devices == TESSI_DEVICES_NONE ||
        tessi_layer_tasks(layer) == 0) {
        return 0;
    }
    if (tessi_history_knows(sched, layer, 1)) {
        return 1;
    }
    return tessi_layer_suits_devices(layer, sched->device_flops_min, sched->device_bytes_min) ? 1 : 0;
}

static void move(struct load *from, struct load *to, uint64_t tasks, double estimate_ns)
{
    TESS_ASSERT(from->assigned >= tasks);
    from->assigned -= tasks;
    from->queue_ns = from->assigned == 0 ? 0 : from->queue_ns - (double)tasks * estimate_ns;
    to->assigned += tasks;
    to->queue_ns += (double)tasks * estimate_ns;
}

static void move_asked(struct load *from, struct load *to, double estimate_ns)
{
    double asked_ns = from->asked_ns - estimate_ns;
    TESS_ASSERT(from->asked > 0);
    from->asked--;
    from->asked_ns = from->asked == 0 || asked_ns < 0 ? 0 : asked_ns;
    to->asked++;
    to->asked_ns += estimate_ns;
}

/* What has started, and what somebody has asked for, goes with the rest. */
static void move_marks(struct tessi_sched *sched, const struct sched_layer *layer, const struct lane *lane)
{
    for (uint64_t i = next_live(layer, 0); i < layer->tasks; i = next_live(layer, i + 1)) {
        const struct task_record *task = record_peek(layer, i);
        struct worker *owner = task->state == TASK_ASSIGNED ? sched->workers[task->owner] : NULL;
        if (owner == NULL || kind_at(owner, lane) == kind_at(owner, layer->lane)) {
            continue;
        }
        struct load *from = &owner->load[kind_at(owner, layer->lane)], *to = &owner->load[kind_at(owner, lane)];
        if ((task->flags & TASK_STARTED) != 0) {
            TESS_ASSERT(from->started > 0);
            from->started--;
            to->started++;
            to->idle = false;
        }
        if ((task->flags & TASK_STEALING) != 0) {
            move_asked(from, to, layer->estimate_ns);
        }
    }
}

static void set_kind(struct tessi_sched *sched, struct sched_layer *layer, uint32_t kind)
{
    TESS_ASSERT(kind < 2 && kind != layer->kind);
    struct lane *lane = tessi_policy_lane(layer->session, layer->lane->rank, kind, &layer->lane->demand);
    move_marks(sched, layer, lane);
    for (size_t w = 0; w < layer->on_capacity && w < sched->worker_count; w++) {
        struct worker *worker = sched->workers[w];
        if (layer->on[w].assigned > 0) {
            move(&worker->load[kind_at(worker, layer->lane)], &worker->load[kind_at(worker, lane)], layer->on[w].assigned,
                 layer->estimate_ns);
            tessi_hungry_mark(sched, worker);
            tessi_load_changed(sched, worker);
        }
    }
    tessi_backlog_move(sched, layer, lane);
    layer->kind = kind;
    tessi_history_set_estimate(sched, layer, tessi_history_estimate(sched, layer->layer, 0, kind));
}

void tessi_kinds_note_ran(struct tessi_sched *sched, const struct worker *worker, struct sched_layer *layer,
                          uint64_t tasks, bool device)
{
    if (sched->device_workers == 0 || worker->load[1].units == 0) {
        return;
    }
    layer->ran[device ? 1 : 0] += tasks;
    layer->ran[0] = device ? 0 : layer->ran[0];
    if (device && layer->kind == 0) {
        set_kind(sched, layer, 1);
    } else if (layer->kind == 1 && layer->ran[0] >= (layer->ran[1] == 0 ? DOUBT_TASKS : GIVEN_UP_TASKS)) {
        set_kind(sched, layer, 0);
    }
}

/* Layers that were submitted before there were devices. */
static void guess_again(struct tessi_sched *sched)
{
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            struct sched_layer *layer = session->layers[l];
            if (layer != NULL && layer->kind == 0 && layer->first_done == 0 &&
                tessi_kinds_guess(sched, layer->layer) == 1) {
                set_kind(sched, layer, 1);
            }
        }
    }
}

/* The names of devices, among those of processors. */
static uint32_t device_kind(struct tessi_sched *sched, const char *name)
{
    char full[TESSI_NAME_MAX];
    (void)tessi_text_format(full, sizeof full, HISTORY_DEVICE "%.50s", name);
    return tessi_history_processor(sched, full);
}

void tessi_kinds_join(struct tessi_sched *sched, struct worker *worker)
{
    const struct tessi_worker_info *info = &worker->info;
    worker->processor = tessi_history_processor(sched, info->processor);
    TESS_ASSERT(worker->alive && worker->processor < sched->processor_count);
    sched->processors[worker->processor].workers++;
    worker->load[0].units = info->slots;
    worker->load[0].slowness = worker->load[1].slowness = worker->load[0].pace = worker->load[1].pace = 1;
    /* Without theirs in the cluster's numerics, devices stay unused: see worker/README.md. */
    if (strchr(sched->family, '+') == NULL) {
        worker->info.devices = 0;
    }
    if (info->devices == 0) {
        return;
    }
    worker->device = device_kind(sched, info->device);
    sched->processors[worker->device].workers++;
    worker->load[1].units = info->devices < DEVICES_MAX ? info->devices : DEVICES_MAX;
    if (sched->device_gflops <= 0) {
        sched->device_gflops = info->device_gflops;
    }
    if (sched->device_gflops > 0 && info->device_gflops > 0) {
        double slowness = sched->device_gflops / info->device_gflops;
        worker->load[1].slowness = slowness > 100 ? 100 : slowness < 0.01 ? 0.01 : slowness;
        worker->load[1].pace = worker->load[1].slowness;
    }
    if (sched->device_workers++ == 0) {
        sched->device_flops_min = info->device_flops_min;
        sched->device_bytes_min = info->device_bytes_min;
        guess_again(sched);
    }
}

void tessi_kinds_lose_devices(struct tessi_sched *sched, struct worker *worker, uint64_t lost)
{
    struct load *load = &worker->load[0], *devices = &worker->load[1];
    if (sched->device_workers == 0) {
        return; /* neither its devices nor its description are looked at */
    }
    uint64_t left = lost < worker->info.devices ? worker->info.devices - lost : 0;
    if (left >= devices->units) {
        return;
    }
    devices->units = (uint32_t)left;
    if (left == 0) {
        sched->device_workers--;
        load->assigned += devices->assigned;
        load->queue_ns += devices->queue_ns;
        load->backlog += devices->backlog;
        load->backlog_ns += devices->backlog_ns;
        load->demanding_backlog += devices->demanding_backlog;
        load->demanding_ns += devices->demanding_ns;
        load->asked += devices->asked;
        load->asked_ns += devices->asked_ns;
        load->coming_ns += devices->coming_ns;
        load->started += devices->started;
        load->idle = load->idle && devices->started == 0;
        *devices = (struct load){.slowness = 1, .pace = 1};
    }
    tessi_hungry_mark(sched, worker);
    tessi_load_changed(sched, worker);
}

void tessi_kinds_leave(struct tessi_sched *sched, struct worker *worker)
{
    sched->processors[worker->processor].workers--;
    if (worker->info.devices > 0) {
        sched->processors[worker->device].workers--;
    }
    sched->device_workers -= worker->load[1].units > 0 ? 1 : 0;
}
