/* Workers whose next task waits for an input that nobody has been given yet: looked at again when
 * somebody is, or when it turns out that nobody ever will. */
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

/* False when the worker waits for too many things to keep account of: it has to be looked at in each step. */
bool tessi_blocked_wait(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer,
                        uint64_t index)
{
    TESS_ASSERT(worker->alive && index < layer->tasks);
    struct tessi_map_key key = tessi_task_key(layer->session->id, layer->layer->id, index);
    for (uint32_t i = 0; i < worker->waits_count; i++) {
        if (tessi_map_keys_equal(worker->waits[i], key)) {
            return true;
        }
    }
    if (worker->waits_count == WAITS_MAX) {
        return false;
    }
    worker->waits[worker->waits_count++] = key;
    tessi_task_lists_put(&sched->blocked, key, worker->index);
    return true;
}

void tessi_blocked_end_waits(struct tessi_sched *sched, struct worker *worker)
{
    TESS_ASSERT(worker->waits_count <= WAITS_MAX);
    while (worker->waits_count > 0) {
        struct task_list *waiting = task_lists_find(&sched->blocked, worker->waits[--worker->waits_count]);
        if (waiting != NULL) {
            tessi_task_lists_remove(&sched->blocked, waiting, worker->index);
        }
    }
}

void tessi_blocked_wake(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index)
{
    struct tessi_map_key key = tessi_task_key(layer->session->id, layer->layer->id, index);
    struct task_list *waiting = task_lists_find(&sched->blocked, key);
    if (waiting == NULL) {
        return;
    }
    for (size_t i = 0; i < waiting->count; i++) {
        struct worker *worker = sched->workers[task_list_items(waiting)[i]];
        for (uint32_t k = 0; k < worker->waits_count; k++) {
            if (tessi_map_keys_equal(worker->waits[k], key)) {
                worker->waits[k] = worker->waits[--worker->waits_count];
                break;
            }
        }
        tessi_hungry_mark(sched, worker);
    }
    tessi_task_lists_end(&sched->blocked, waiting);
}
