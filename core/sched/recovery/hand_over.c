/* Handing blocks over: a worker that stays is told to fetch a block and to own it under a new epoch, and until it says
 * that it does, the block counts as held by its owner. A receiver knows best what it has room for and may refuse; then
 * the next one is asked. */
#include "core/base/assert.h"
#include "core/sched/recovery/recovery.h"

/* The task that waits for it is the first of all that have no room. */
static bool is_for_first(const struct tessi_sched *sched, const struct hand_over *one)
{
    return one->order != HAND_OVER_LEAVING && one->order <= sched->starving_order;
}

static bool may_receive(const struct tessi_sched *sched, const struct worker *worker, const void *what)
{
    const struct hand_over *one = what;
    uint64_t least = is_for_first(sched, one) ? worker->refused_first_bytes : worker->refused_bytes;
    bool refused = least > 0 && one->bytes >= least;
    /* One that is full itself makes room for the task that comes first of all, and for no other. */
    bool full = worker->starving && (!is_for_first(sched, one) || worker->short_order <= one->order);
    return stays(worker) && !refused && !full && one->bytes <= worker->info.memory_bytes &&
           record_peek(one->layer, one->index)->owner != worker->index;
}

/* Tell the next receiver; with none left, the record goes and the block stays where it is until its worker goes,
 * under the epoch that it has there. Whoever is asked later is asked under another one than who has refused now, whose
 * answer may come twice. */
static void offer(struct tessi_sched *sched, struct hand_over *one)
{
    struct sched_layer *layer = one->layer;
    const struct task_record *task = record(layer, one->index);
    if (one->to != NO_WORKER) {
        TESS_ASSERT(sched->workers[one->to]->promised_bytes >= one->bytes);
        sched->workers[one->to]->promised_bytes -= one->bytes;
    }
    one->to = tessi_receiver_choose(sched, one->layer, one->index, may_receive, one);
    if (one->to == NO_WORKER) {
        layer->keep_epoch = one->epoch > layer->keep_epoch ? one->epoch : layer->keep_epoch;
        tessi_hand_over_destroy(sched, one);
        return;
    }
    struct worker *to = sched->workers[one->to];
    one->epoch++;
    to->promised_bytes += one->bytes;
    tessi_copies_add(sched, layer, one->index, to->index); /* so that it hears when the block is not wanted any more */
    tessi_out_tell_layer(to, layer);
    tessi_spans_push(&tessi_out_box(to)->take_over,
                     (struct tessi_span){.session = layer->session->id,
                                         .layer = layer->layer->id,
                                         .first = one->index,
                                         .count = 1,
                                         .epoch = one->epoch,
                                         .order = one->order == HAND_OVER_LEAVING ? 0 : one->order,
                                         .worker = sched->workers[task->owner]->id});
}

/* Whoever has been asked to own the block too, or does already, is the one to have it. */
static void begin(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint64_t order)
{
    uint32_t to, epoch;
    struct worker *owner = sched->workers[record(layer, index)->owner];
    if (tessi_hand_over_find(sched, layer, index) != NULL) {
        return;
    }
    if (tessi_keep_hand_on(sched, layer, index, &to, &epoch)) {
        struct hand_over *one = tessi_hand_over_create(sched, layer, index, order);
        one->to = to;
        one->epoch = epoch;
        sched->workers[to]->promised_bytes += one->bytes;
    } else if (tessi_keep_takes_over(sched, layer, index)) {
        if (order == HAND_OVER_LEAVING) {
            owner->leave.handed_blocks++;
            owner->leave.handed_bytes += tessi_layer_block_bytes(layer->layer, index);
            sched->blocks_handed++;
        }
        tessi_out_free(sched, owner->index, layer, index);
    } else {
        offer(sched, tessi_hand_over_create(sched, layer, index, order));
    }
}

void tessi_hand_over_for(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint64_t order)
{
    begin(sched, layer, index, order);
}

void tessi_hand_over(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    TESS_ASSERT(task != NULL && task->state == TASK_HELD);
    struct worker *owner = sched->workers[task->owner];
    if (owner->leaving && !owner->left && !tessi_layer_regenerable(layer->layer)) {
        begin(sched, layer, index, HAND_OVER_LEAVING);
    }
}

bool tessi_hand_over_take(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                          const struct tessi_span *span, bool adopted)
{
    struct hand_over *one = tessi_hand_over_find(sched, layer, index);
    if (one == NULL || one->to != worker->index || one->epoch != span->epoch) {
        return false;
    }
    tessi_copies_remove(sched, layer, index, worker->index);
    if (!adopted) {
        uint64_t *first = is_for_first(sched, one) ? &worker->refused_first_bytes : &worker->refused_bytes;
        *first = *first == 0 || one->bytes < *first ? one->bytes : *first;
        bool less = worker->refused_bytes == 0 || one->bytes < worker->refused_bytes;
        worker->refused_bytes = less ? one->bytes : worker->refused_bytes;
        bool lower = worker->refused_used == 0 || worker->memory_used_bytes < worker->refused_used;
        worker->refused_used = lower ? worker->memory_used_bytes : worker->refused_used;
        sched->relief_due = sched->relief_due || one->order != HAND_OVER_LEAVING; /* another block may be smaller */
        offer(sched, one);
        return true;
    }
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_HELD && task->owner != worker->index);
    struct worker *from = sched->workers[task->owner];
    uint32_t epoch = one->epoch;
    if (one->order == HAND_OVER_LEAVING) {
        from->leave.handed_blocks++;
        from->leave.handed_bytes += one->bytes;
        sched->blocks_handed++;
    }
    tessi_hand_over_destroy(sched, one);
    tessi_out_free(sched, from->index, layer, index);
    task->owner = worker->index;
    task->epoch = epoch;
    tessi_keep_due(sched, layer);
    return true;
}

void tessi_hand_over_elsewhere(struct tessi_sched *sched, struct worker *worker)
{
    for (size_t h = 0; h < sched->hand_over_count && worker->promised_bytes > 0; h++) {
        struct hand_over *one = &sched->hand_overs[h];
        if (one->layer == NULL || one->to != worker->index) {
            continue;
        }
        tessi_copies_remove(sched, one->layer, one->index, worker->index);
        if (worker->alive) {
            tessi_out_free(sched, worker->index, one->layer, one->index);
        }
        offer(sched, one);
    }
}
