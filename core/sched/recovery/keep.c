/* Forgetting the past. A held, complete layer needs what it was made from only while it may be lost. So a layer at the end
 * of a long lineage is kept: each of its blocks gets a second owner, a worker that is told TAKE_OVER and says that it owns
 * the block too, under an epoch of its own; it neither evicts it nor lets it go before it is told to. When all have
 * one, the layer is detached: it reads nothing any more, its client forgets too what it was made from (DETACHED), and all
 * that nobody else needs goes.
 *
 *     complete ──long lineage, or DETACH──▶ kept ──each block has two owners──▶ detached
 *                                            └──nobody has room──▶ as before
 *
 * From then on its blocks are what later layers are made again from, so they stay while somebody reads the layer, whoever
 * has its name. When an owner goes the other one is the owner at once, and a new second one is looked for. When
 * both are gone, and nobody has a copy, the block has failed for good and so have those that wait for it.
 *
 * Where workers live as long as the scheduler (workers_last: inside a program) nothing is copied, and where there is but
 * one worker a layer is detached only at its client's wish. All of this is done beside the work, a little at a time. */
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/recovery/recovery.h"

#define TASKS_MAX 4096           /* of a layer that is kept without being asked for */
#define MEMORY_SHARE 16          /* of the smallest worker's memory that such a layer may take for each `lineage_max` of its past */
#define MEMORY_SHARE_MOST 2      /* and never more than this share */
#define PENDING_BYTES (64 << 20) /* that are being copied at a time */
#define PENDING_MAX 256          /* blocks, likewise */
#define REFUSALS 3               /* in a row: then it is tried again later, or not at all */
#define RETRY_NS INT64_C(1000000000)

/* --- what is to be done --- */

static bool is_failed(const struct sched_layer *layer)
{
    return layer->failure != TESSI_OK;
}

static uint64_t smallest_memory(const struct tessi_sched *sched, size_t *staying)
{
    uint64_t least = UINT64_MAX;
    *staying = 0;
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        if (stays(worker)) {
            ++*staying;
            least = worker->info.memory_bytes < least ? worker->info.memory_bytes : least;
        }
    }
    return least;
}

/* Nobody has asked for it: its past is long, and a second copy cheap beside it. So a larger array waits for a longer past,
 * and what is copied for a step is bounded. */
static bool is_worth_it(const struct tessi_sched *sched, const struct sched_layer *layer)
{
    size_t staying;
    if (layer->lineage < sched->config.lineage_max || layer->layer->push || !layer->handle) {
        return false;
    }
    if (sched->config.workers_last) {
        return layer->kind == 0; /* a device may be lost, and its blocks with it */
    }
    uint64_t memory = smallest_memory(sched, &staying), shares = layer->lineage / sched->config.lineage_max;
    shares = shares < MEMORY_SHARE / MEMORY_SHARE_MOST ? shares : MEMORY_SHARE / MEMORY_SHARE_MOST;
    return staying > 1 && layer->tasks <= TASKS_MAX &&
           tessi_layer_bytes(layer->layer) <= memory / MEMORY_SHARE * shares;
}

void tessi_keep_consider(struct tessi_sched *sched, struct sched_layer *layer)
{
    bool done = layer->kept || tessi_layer_regenerable(layer->layer); /* those have no past */
    if (!done && (layer->detach_asked || is_worth_it(sched, layer))) {
        layer->kept = true;
        tessi_keep_due(sched, layer);
    }
}

void tessi_keep_ask_detach(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sched_layer *layer = tessi_find_layer(session, ids[i]);
        if (layer == NULL || !layer->wanted) {
            sched->stale_reports++;
            continue;
        }
        layer->detach_asked = true;
        if (layer->held == layer->tasks) {
            tessi_keep_consider(sched, layer);
        }
    }
}

/* --- second owners --- */

struct second { /* what is to have one */
    const struct sched_layer *layer;
    uint32_t owner;
    uint64_t bytes;
};

static bool may_receive(const struct tessi_sched *sched, const struct worker *worker, const void *what)
{
    const struct second *second = what;
    bool refused = second->layer->keep_refused == worker->index + 1;
    (void)sched;
    return stays(worker) && !worker->starving && worker->index != second->owner && !refused &&
           second->bytes <= worker->info.memory_bytes;
}

/* False: nobody can take the block now. */
static bool offer(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_HELD);
    bool handed = sched->workers[task->owner]->leaving || tessi_hand_over_is_to(sched, layer, index, NO_WORKER);
    struct second second = {layer, task->owner, tessi_layer_block_bytes(layer->layer, index)};
    uint32_t to = handed ? NO_WORKER : tessi_receiver_choose(sched, layer, index, may_receive, &second);
    if (to == NO_WORKER) {
        return false;
    }
    struct keep *one = tessi_keep_create(sched, layer, index);
    one->to = to;
    layer->keep_epoch = (layer->keep_epoch > task->epoch ? layer->keep_epoch : task->epoch) + 1;
    one->epoch = layer->keep_epoch;
    tessi_copies_add(sched, layer, index, to); /* so that it hears when the block is not wanted any more */
    tessi_out_tell_layer(sched->workers[to], layer);
    tessi_spans_push(&tessi_out_box(sched->workers[to])->take_over,
                     (struct tessi_span){.session = layer->session->id,
                                         .layer = layer->layer->id,
                                         .first = index,
                                         .count = 1,
                                         .epoch = one->epoch,
                                         .worker = sched->workers[task->owner]->id});
    return true;
}

bool tessi_keep_take_second(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                            const struct tessi_span *span, bool adopted)
{
    struct keep *one = tessi_keep_find(sched, layer, index);
    if (one == NULL || one->to != worker->index || one->epoch != span->epoch) {
        return false;
    }
    if (!adopted) { /* it has no room, or has lost the block */
        layer->keep_refused = worker->index + 1;
        layer->keep_refusals++;
        tessi_copies_remove(sched, layer, index, worker->index);
        tessi_out_free(sched, worker->index, layer,
                       index); /* it may own the block under the epoch of an earlier order */
        tessi_keep_destroy(sched, one);
        tessi_keep_due(sched, layer);
    } else if (!one->arrived) {
        one->arrived = true;
        tessi_keep_settle(sched, one);
        layer->keep_refused = layer->keep_refusals = 0;
        if (++layer->keeps == layer->tasks) {
            tessi_keep_due(sched, layer);
        }
    }
    return true;
}

bool tessi_keep_takes_over(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct keep *one = tessi_keep_find(sched, layer, index);
    struct task_record *task = one == NULL ? NULL : record(layer, index);
    if (one == NULL) {
        return false;
    }
    struct worker *worker = sched->workers[one->to];
    bool owns = one->arrived && task->state == TASK_HELD && worker->alive && !worker->left;
    uint32_t epoch = one->epoch;
    tessi_keep_destroy(sched, one);
    tessi_keep_due(sched, layer);
    if (!owns) {
        return false; /* it counts as one that has a copy, perhaps */
    }
    tessi_copies_remove(sched, layer, index, worker->index);
    task->owner = worker->index;
    task->epoch = epoch;
    if (worker->leaving) {
        tessi_hand_over(sched, layer, index);
    }
    return true;
}

bool tessi_keep_hand_on(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t *to,
                        uint32_t *epoch)
{
    struct keep *one = tessi_keep_find(sched, layer, index);
    if (one == NULL || one->arrived) {
        return false;
    }
    TESS_ASSERT(record_peek(layer, index)->state == TASK_HELD);
    *to = one->to;
    *epoch = one->epoch;
    tessi_keep_destroy(sched, one);
    tessi_keep_due(sched, layer);
    return true;
}

/* Of that worker, or (NULL) of all. */
static void forget_seconds(struct tessi_sched *sched, const struct worker *worker)
{
    for (size_t k = 0; k < sched->keep_count && sched->keep_of.count > 0; k++) {
        struct keep *one = &sched->keeps[k];
        struct sched_layer *layer = one->layer;
        uint64_t index = one->index;
        uint32_t to = one->to;
        if (layer == NULL || (worker != NULL && to != worker->index)) {
            continue;
        }
        if (sched->workers[to]->alive) {
            tessi_copies_remove(sched, layer, index, to);
            tessi_out_free(sched, to, layer, index);
        }
        tessi_keep_destroy(sched, one);
        tessi_keep_due(sched, layer);
    }
}

void tessi_keep_forget_worker(struct tessi_sched *sched, struct worker *worker)
{
    forget_seconds(sched, worker);
}

/* --- a little at each step --- */

static void detach(struct tessi_sched *sched, struct sched_layer *layer)
{
    TESS_ASSERT(layer->wanted && layer->held == layer->tasks && !layer->detached);
    layer->detached = true;
    layer->lineage = 0;
    tessi_life_cut_inputs(sched, layer);
    /* Its name is given to the client once more, which may have released it meanwhile. */
    layer->grants += layer->handle;
    layer->handle = true;
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_DETACHED, layer->session->id);
    uint32_t *id = tessi_out_memory(sched, sizeof *id);
    *id = layer->layer->id;
    action->ids = id;
    action->id_count = 1;
}

/* Not to be had: it goes on as it was. */
static void give_up_keeping(struct tessi_sched *sched, struct sched_layer *layer)
{
    tessi_keep_end(sched, layer);
    if (!layer->handle) { /* it was only held for this */
        tessi_life_unwant(sched, layer);
        tessi_life_note_loose(sched, layer);
    }
}

void tessi_keep_make_room(struct tessi_sched *sched)
{
    forget_seconds(sched, NULL);
    for (size_t i = 0; i < sched->keeping_count;) {
        struct sched_layer *layer = sched->keeping[i];
        if (!layer->detached && !layer->detach_asked) {
            give_up_keeping(sched, layer);
        }
        i += layer->keep_listed;
    }
}

/* True: nothing is left to do for now, and what changes that says so (tessi_keep_due). */
static bool go_on(struct tessi_sched *sched, struct sched_layer *layer)
{
    size_t staying;
    if (is_failed(layer) || layer->held < layer->tasks) {
        return true;
    }
    (void)smallest_memory(sched, &staying);
    if (!layer->detached && (sched->config.workers_last || layer->keeps == layer->tasks ||
                             (staying < 2 && layer->detach_asked))) {
        detach(sched, layer);
        return sched->config.workers_last || layer->keeps == layer->tasks;
    }
    if (sched->now_ns < layer->keep_retry_ns || sched->starving_count > 0) {
        return false;
    }
    bool stuck = layer->keep_refusals >= REFUSALS;
    for (uint64_t i = layer->keep_next; i < layer->tasks && !stuck; i++) {
        bool full = sched->keep_pending > 0 &&
                    (sched->keep_pending >= PENDING_MAX || sched->keep_pending_bytes >= PENDING_BYTES);
        if (tessi_keep_find(sched, layer, i) == NULL && full) {
            return false;
        }
        stuck = tessi_keep_find(sched, layer, i) == NULL && !offer(sched, layer, i);
        layer->keep_next = stuck ? i : i + 1;
    }
    if (stuck && !layer->detached && !layer->detach_asked) {
        give_up_keeping(sched, layer);
    } else if (stuck) {
        layer->keep_refusals = layer->keep_refused = 0;
        layer->keep_retry_ns = sched->now_ns + RETRY_NS;
    }
    return !stuck;
}

void tessi_keep_continue(struct tessi_sched *sched)
{
    for (size_t i = 0; i < sched->keeping_count;) {
        struct sched_layer *layer = sched->keeping[i];
        if (go_on(sched, layer)) {
            tessi_keep_unlist(sched, layer);
        } else {
            i += layer->keep_listed;
        }
    }
}

/* The last of its owners is gone, and nothing says how it was made. */
void tessi_keep_lose_for_good(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    char text[512];
    struct task_record *task = record(layer, index);
    if (task->state == TASK_HELD) {
        layer->held--;
        tessi_table_move(task, TASK_UNASSIGNED);
    }
    task->owner = NO_WORKER;
    (void)tessi_text_format(text, sizeof text,
                            "block %llu of layer %u (%s) is lost with the workers that had it, and cannot be computed again, "
                            "since the layer was detached from what it was made of: compute it anew from arrays that are "
                            "left, and have two workers or more",
                            (unsigned long long)index, layer->layer->id, tessi_op_row(layer->layer->op)->name);
    tessi_spread_fail_task(sched, layer, index, TESSI_LOST, text);
    if (layer->handle) {
        tessi_news_watch(sched, layer);
    }
}

void tessi_keep_verify(const struct tessi_sched *sched)
{
    size_t records = 0, pending = 0;
    uint64_t bytes = 0;
    for (size_t k = 0; k < sched->keep_count; k++) {
        const struct keep *one = &sched->keeps[k];
        if (one->layer == NULL) {
            continue;
        }
        const struct task_record *task = record_peek(one->layer, one->index);
        TESS_ASSERT(one->layer->kept && task != NULL && task->state == TASK_HELD && task->epoch < one->epoch);
        TESS_ASSERT(one->epoch <= one->layer->keep_epoch && task->owner != one->to && stays(sched->workers[one->to]));
        records++;
        pending += !one->arrived;
        bytes += one->arrived ? 0 : one->bytes;
    }
    TESS_ASSERT(records == sched->keep_of.count && pending == sched->keep_pending && bytes == sched->keep_pending_bytes);
}

/* A block that cannot be made again has a second owner, or one is being looked for. */
void tessi_keep_verify_layer(const struct tessi_sched *sched, const struct sched_layer *layer)
{
    bool known = layer->wanted || layer->loose; /* released, it goes in a later step at the latest */
    TESS_ASSERT(!layer->detached || (layer->kept && known && layer->ninputs == 0));
    uint64_t missing = 0, arrived = 0;
    for (uint64_t i = 0; layer->kept && i < layer->tasks; i++) {
        const struct keep *one = tessi_keep_find((struct tessi_sched *)(uintptr_t)sched, layer, i);
        missing += one == NULL;
        arrived += one != NULL && one->arrived;
    }
    TESS_ASSERT(arrived == layer->keeps);
    TESS_ASSERT(missing == 0 || layer->keep_listed || sched->config.workers_last || is_failed(layer) ||
                layer->held < layer->tasks);
}
