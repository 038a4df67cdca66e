/* Who is to own a block that another has: of a worker that leaves or is full, or a second time. */
#include "core/base/assert.h"
#include "core/sched/recovery/recovery.h"

#define CANDIDATES 16 /* looked at for each block: what a choice costs must not grow with the cluster */

/* Room by its last report: a guess, since cached copies make way and spilled blocks do not count. */
static double room_of(const struct worker *worker)
{
    return (double)worker->info.memory_bytes - (double)worker->memory_used_bytes - (double)worker->promised_bytes;
}

uint32_t tessi_receiver_choose(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                               may_receive_fn *may, const void *what)
{
    TESS_ASSERT(index < layer->tasks);
    uint32_t best = tessi_copies_pick(sched, layer, index);
    if (best != NO_WORKER && may(sched, sched->workers[best], what)) {
        return best;
    }
    best = NO_WORKER;
    size_t seen = 0;
    for (size_t i = 0; i < sched->worker_count && seen < CANDIDATES; i++) {
        sched->next_receiver = (uint32_t)((sched->next_receiver + 1) % sched->worker_count);
        const struct worker *worker = sched->workers[sched->next_receiver];
        if (may(sched, worker, what)) {
            seen++;
            if (best == NO_WORKER || room_of(worker) > room_of(sched->workers[best])) {
                best = worker->index;
            }
        }
    }
    return best;
}
