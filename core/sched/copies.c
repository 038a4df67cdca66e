/* Copies of held blocks on other workers: a hint, until one is asked to adopt its copy. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

static struct tessi_map_key key_of(const struct sched_layer *layer, uint64_t index)
{
    return tessi_task_key(layer->session->id, layer->layer->id, index);
}

void copies_add(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    struct tessi_map_key key = key_of(layer, index);
    uint32_t handle = tessi_map_get(&sched->copies_by_task, key);
    if (handle == TESSI_MAP_NONE) {
        if (sched->copies_free_count > 0) {
            handle = sched->copies_free[--sched->copies_free_count];
        } else {
            tessi_grow(&sched->copies, &sched->copies_capacity, sched->copies_count + 1, sizeof *sched->copies);
            handle = (uint32_t)sched->copies_count++;
        }
        sched->copies[handle] = (struct copies){.layer = layer, .index = index};
        tessi_map_put(&sched->copies_by_task, key, handle);
    }
    struct copies *copies = &sched->copies[handle];
    for (size_t i = 0; i < copies->count; i++) {
        if (copies->workers[i] == worker) {
            return;
        }
    }
    tessi_grow(&copies->workers, &copies->capacity, copies->count + 1, sizeof *copies->workers);
    copies->workers[copies->count++] = worker;
}

static void forget(struct tessi_sched *sched, uint32_t handle)
{
    struct copies *copies = &sched->copies[handle];
    (void)tessi_map_remove(&sched->copies_by_task, key_of(copies->layer, copies->index));
    tessi_free(copies->workers);
    *copies = (struct copies){0};
    tessi_grow(&sched->copies_free, &sched->copies_free_capacity, sched->copies_free_count + 1,
               sizeof *sched->copies_free);
    sched->copies_free[sched->copies_free_count++] = handle;
}

static void remove_worker(struct tessi_sched *sched, uint32_t handle, uint32_t worker)
{
    struct copies *copies = &sched->copies[handle];
    for (size_t i = 0; i < copies->count; i++) {
        if (copies->workers[i] == worker) {
            copies->workers[i] = copies->workers[--copies->count];
            break;
        }
    }
    if (copies->count == 0) {
        forget(sched, handle);
    }
}

void copies_remove(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    uint32_t handle = tessi_map_get(&sched->copies_by_task, key_of(layer, index));
    if (handle != TESSI_MAP_NONE) {
        remove_worker(sched, handle, worker);
    }
}

bool copies_has(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    uint32_t handle = tessi_map_get(&sched->copies_by_task, key_of(layer, index));
    bool found = false;
    for (size_t i = 0; handle != TESSI_MAP_NONE && i < sched->copies[handle].count; i++) {
        found = found || sched->copies[handle].workers[i] == worker;
    }
    return found;
}

uint32_t copies_pick(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    uint32_t handle = tessi_map_get(&sched->copies_by_task, key_of(layer, index));
    if (handle == TESSI_MAP_NONE) {
        return NO_WORKER;
    }
    const struct copies *copies = &sched->copies[handle];
    uint32_t best = NO_WORKER;
    for (size_t i = 0; i < copies->count && (best == NO_WORKER || !stays(sched->workers[best])); i++) {
        const struct worker *worker = sched->workers[copies->workers[i]];
        best = worker->left ? best : worker->index;
    }
    return best;
}

void copies_free(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    if (sched->copies_by_task.count == 0) {
        return;
    }
    uint32_t handle = tessi_map_get(&sched->copies_by_task, key_of(layer, index));
    if (handle == TESSI_MAP_NONE) {
        return;
    }
    for (size_t i = 0; i < sched->copies[handle].count; i++) {
        struct worker *worker = sched->workers[sched->copies[handle].workers[i]];
        tessi_spans_push(&worker->out_free, (struct tessi_span){.session = layer->session->id,
                                                                .layer = layer->layer->id,
                                                                .first = index,
                                                                .count = 1});
        mark_dirty(worker);
    }
    forget(sched, handle);
}

void copies_forget_worker(struct tessi_sched *sched, uint32_t worker)
{
    for (uint32_t handle = 0; handle < sched->copies_count; handle++) {
        if (sched->copies[handle].layer != NULL) {
            remove_worker(sched, handle, worker);
        }
    }
}
