/* Workers whose next task waits for an input that nobody has been given yet: looked at again when
 * somebody is, or when it turns out that nobody ever will. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

static bool same_key(struct tessi_map_key a, struct tessi_map_key b)
{
    return a.high == b.high && a.low == b.low;
}

/* False when the worker waits for too many things to keep account of: it has to be looked at in each step. */
bool wait_for(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer, uint64_t index)
{
    struct tessi_map_key key = tessi_task_key(layer->session->id, layer->layer->id, index);
    for (uint32_t i = 0; i < worker->waits_count; i++) {
        if (same_key(worker->waits[i], key)) {
            return true;
        }
    }
    if (worker->waits_count == WAITS_MAX) {
        return false;
    }
    worker->waits[worker->waits_count++] = key;
    uint32_t handle = tessi_map_get(&sched->blocked_by_task, key);
    if (handle == TESSI_MAP_NONE) {
        if (sched->blocked_free_count > 0) {
            handle = sched->blocked_free[--sched->blocked_free_count];
        } else {
            tessi_grow(&sched->blocked, &sched->blocked_capacity, sched->blocked_count + 1, sizeof *sched->blocked);
            handle = (uint32_t)sched->blocked_count++;
            sched->blocked[handle] = (struct blocked){0};
        }
        tessi_map_put(&sched->blocked_by_task, key, handle);
    }
    struct blocked *blocked = &sched->blocked[handle];
    tessi_grow(&blocked->workers, &blocked->capacity, blocked->count + 1, sizeof *blocked->workers);
    blocked->workers[blocked->count++] = worker->index;
    return true;
}

void wake_blocked(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index)
{
    struct tessi_map_key key = tessi_task_key(layer->session->id, layer->layer->id, index);
    uint32_t handle = tessi_map_get(&sched->blocked_by_task, key);
    if (handle == TESSI_MAP_NONE) {
        return;
    }
    struct blocked *blocked = &sched->blocked[handle];
    for (size_t i = 0; i < blocked->count; i++) {
        struct worker *worker = sched->workers[blocked->workers[i]];
        for (uint32_t k = 0; k < worker->waits_count; k++) {
            if (same_key(worker->waits[k], key)) {
                worker->waits[k] = worker->waits[--worker->waits_count];
                break;
            }
        }
        make_hungry(sched, worker);
    }
    blocked->count = 0; /* its array serves the next one */
    (void)tessi_map_remove(&sched->blocked_by_task, key);
    tessi_grow(&sched->blocked_free, &sched->blocked_free_capacity, sched->blocked_free_count + 1,
               sizeof *sched->blocked_free);
    sched->blocked_free[sched->blocked_free_count++] = handle;
}

void blocked_fini(struct tessi_sched *sched)
{
    for (size_t i = 0; i < sched->blocked_count; i++) {
        tessi_free(sched->blocked[i].workers);
    }
    tessi_free(sched->blocked);
    tessi_free(sched->blocked_free);
    tessi_map_fini(&sched->blocked_by_task);
}
