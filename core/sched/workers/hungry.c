/* Workers that something has changed for: they are looked at before the step ends. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

#define DEVICE_AHEAD 64 /* tasks */
#define DEVICE_WINDOWS 4

void tessi_hungry_mark(struct tessi_sched *sched, struct worker *worker)
{
    TESS_ASSERT(worker->index < sched->worker_count);
    if (!worker->hungry && worker->alive) {
        worker->hungry = true;
        tessi_grow(&sched->hungry, &sched->hungry_capacity, sched->hungry_count + 1, sizeof *sched->hungry);
        sched->hungry[sched->hungry_count++] = worker->index;
    }
    tessi_load_changed(sched, worker);
}

/* `share` of the window is not full. A device wants many tasks to choose from, so that what it has copied serves
 * many. */
bool tessi_hungry_below(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind, double share)
{
    TESS_ASSERT(kind < 2);
    const struct load *load = &worker->load[kind];
    double units = load->units, ahead = kind > 0 ? DEVICE_AHEAD : 2, windows = kind > 0 ? DEVICE_WINDOWS : 1;
    return load->units > 0 && ((double)load->assigned < ahead * units ||
                               (load->queue_ns < share * windows * (double)sched->config.window_ns * units &&
                                (double)load->assigned < share * (double)sched->config.assigned_per_slot * units));
}

/* Its window is filled again when a quarter of it is free: a few messages with many tasks cost less than many with one.
 * Whatever else may let it go on (new work, an input that has found an owner, a resource) makes it hungry at once. */
void tessi_hungry_room_made(struct tessi_sched *sched, struct worker *worker)
{
    /* Then those for which nothing waits are always low. */
    bool both = sched->device_workers > 0 && worker->load[1].units > 0;
    bool low = ((!both || worker->load[0].backlog > 0) && tessi_hungry_below(sched, worker, 0, 0.75)) ||
               (both && worker->load[1].backlog > 0 && tessi_hungry_below(sched, worker, 1, 0.75));
    tessi_load_changed(sched, worker);
    if (low || sched->demands) {
        tessi_hungry_mark(sched, worker);
    }
}
