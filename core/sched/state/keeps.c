/* Second owners: the records. recovery/keep.c says what they are for. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state/state.h"

static struct tessi_map_key key_of(const struct sched_layer *layer, uint64_t index)
{
    return tessi_task_key(layer->session->id, layer->layer->id, index);
}

struct keep *tessi_keep_find(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index)
{
    if (!layer->kept || sched->keep_of.count == 0) {
        return NULL;
    }
    uint32_t handle = tessi_map_get(&sched->keep_of, key_of(layer, index));
    return handle == TESSI_MAP_NONE ? NULL : &sched->keeps[handle];
}

struct keep *tessi_keep_create(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(layer->kept && index < layer->tasks);
    uint32_t handle = sched->keep_free;
    if (handle > 0) {
        sched->keep_free = sched->keeps[--handle].to;
    } else {
        tessi_grow(&sched->keeps, &sched->keep_capacity, sched->keep_count + 1, sizeof *sched->keeps);
        handle = (uint32_t)sched->keep_count++;
    }
    struct keep *one = &sched->keeps[handle];
    *one = (struct keep){.layer = layer, .index = index, .bytes = tessi_layer_block_bytes(layer->layer, index)};
    tessi_map_put(&sched->keep_of, key_of(layer, index), handle);
    sched->keep_pending++;
    sched->keep_pending_bytes += one->bytes;
    return one;
}

void tessi_keep_settle(struct tessi_sched *sched, const struct keep *one)
{
    TESS_ASSERT(sched->keep_pending > 0 && sched->keep_pending_bytes >= one->bytes);
    sched->keep_pending--;
    sched->keep_pending_bytes -= one->bytes;
}

void tessi_keep_destroy(struct tessi_sched *sched, struct keep *one)
{
    TESS_ASSERT(one->layer != NULL && (!one->arrived || one->layer->keeps > 0));
    one->layer->keeps -= one->arrived;
    if (!one->arrived) {
        tessi_keep_settle(sched, one);
    }
    (void)tessi_map_remove(&sched->keep_of, key_of(one->layer, one->index));
    *one = (struct keep){.to = sched->keep_free};
    sched->keep_free = (uint32_t)(one - sched->keeps) + 1;
}

/* What was said to a second owner under an epoch must not be said under it again. */
static void raise_epoch(struct sched_layer *layer, struct task_record *task)
{
    task->epoch = layer->keep_epoch > task->epoch ? layer->keep_epoch : task->epoch;
}

void tessi_keep_due(struct tessi_sched *sched, struct sched_layer *layer)
{
    layer->keep_next = 0;
    if (layer->kept && !layer->keep_listed && !(layer->detached && sched->config.workers_last)) {
        layer->keep_listed = true;
        tessi_grow(&sched->keeping, &sched->keeping_capacity, sched->keeping_count + 1, sizeof *sched->keeping);
        sched->keeping[sched->keeping_count++] = layer;
    }
}

void tessi_keep_unlist(struct tessi_sched *sched, struct sched_layer *layer)
{
    size_t kept = 0;
    for (size_t i = 0; layer->keep_listed && i < sched->keeping_count; i++) {
        if (sched->keeping[i] != layer) {
            sched->keeping[kept++] = sched->keeping[i];
        }
    }
    sched->keeping_count = layer->keep_listed ? kept : sched->keeping_count;
    layer->keep_listed = false;
}

void tessi_keep_forget(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct keep *one = tessi_keep_find(sched, layer, index);
    if (one != NULL) {
        tessi_keep_destroy(sched, one);
    }
    if (layer->kept) {
        raise_epoch(layer, record(layer, index));
    }
}

bool tessi_keep_at(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index, uint32_t worker,
                   uint32_t *epoch)
{
    const struct keep *one = tessi_keep_find(sched, layer, index);
    if (one == NULL || one->to != worker) {
        return false;
    }
    *epoch = one->epoch;
    return true;
}

void tessi_keep_end(struct tessi_sched *sched, struct sched_layer *layer)
{
    for (uint64_t i = 0; layer->kept && i < layer->tasks; i++) {
        struct keep *one = tessi_keep_find(sched, layer, i);
        if (one != NULL) {
            uint32_t to = one->to;
            tessi_copies_remove(sched, layer, i, to);
            tessi_out_free(sched, to, layer, i);
            tessi_keep_destroy(sched, one);
        }
    }
    tessi_keep_unlist(sched, layer);
    layer->kept = false;
}
