/* Blocks that others have been told to take over: the records. recovery/hand_over.c says what they are for. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state/state.h"

static struct tessi_map_key key_of(const struct sched_layer *layer, uint64_t index)
{
    return tessi_task_key(layer->session->id, layer->layer->id, index);
}

struct hand_over *tessi_hand_over_find(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index)
{
    if (sched->hand_over_of.count == 0) {
        return NULL;
    }
    uint32_t handle = tessi_map_get(&sched->hand_over_of, key_of(layer, index));
    return handle == TESSI_MAP_NONE ? NULL : &sched->hand_overs[handle];
}

struct hand_over *tessi_hand_over_create(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                                         uint64_t order)
{
    uint32_t handle;
    if (sched->hand_overs_free_count > 0) {
        handle = sched->hand_overs_free[--sched->hand_overs_free_count];
    } else {
        tessi_grow(&sched->hand_overs, &sched->hand_over_capacity, sched->hand_over_count + 1,
                   sizeof *sched->hand_overs);
        handle = (uint32_t)sched->hand_over_count++;
    }
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_HELD);
    struct hand_over *one = &sched->hand_overs[handle];
    uint64_t bytes = tessi_layer_block_bytes(layer->layer, index);
    *one = (struct hand_over){.layer = layer,
                              .index = index,
                              .bytes = bytes > 0 ? bytes : 1, /* so that what was refused can be told from nothing */
                              .order = order,
                              .to = NO_WORKER,
                              .epoch = layer->keep_epoch > task->epoch ? layer->keep_epoch : task->epoch};
    tessi_map_put(&sched->hand_over_of, key_of(layer, index), handle);
    sched->workers[task->owner]->handing++;
    sched->workers[task->owner]->handing_bytes += one->bytes;
    return one;
}

void tessi_hand_over_destroy(struct tessi_sched *sched, struct hand_over *one)
{
    struct worker *from = sched->workers[record(one->layer, one->index)->owner];
    TESS_ASSERT(from->handing > 0);
    TESS_ASSERT(from->handing_bytes >= one->bytes);
    from->handing--;
    from->handing_bytes -= one->bytes;
    if (one->to != NO_WORKER) {
        TESS_ASSERT(sched->workers[one->to]->promised_bytes >= one->bytes);
        sched->workers[one->to]->promised_bytes -= one->bytes;
    }
    (void)tessi_map_remove(&sched->hand_over_of, key_of(one->layer, one->index));
    tessi_grow(&sched->hand_overs_free, &sched->hand_overs_free_capacity, sched->hand_overs_free_count + 1,
               sizeof *sched->hand_overs_free);
    sched->hand_overs_free[sched->hand_overs_free_count++] = (uint32_t)(one - sched->hand_overs);
    *one = (struct hand_over){.to = NO_WORKER};
}

bool tessi_hand_over_is_to(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    const struct hand_over *one = tessi_hand_over_find(sched, layer, index);
    return one != NULL && (worker == NO_WORKER || one->to == worker);
}

void tessi_hand_over_forget(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct hand_over *one = tessi_hand_over_find(sched, layer, index);
    if (one != NULL) {
        /* Whoever took it over meanwhile says so under an epoch that is not to come again. */
        record(layer, index)->epoch = one->epoch;
        tessi_hand_over_destroy(sched, one);
    }
}
