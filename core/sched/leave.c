/* Leaving in good order. A worker that wants to go gets nothing new. What waits for it goes elsewhere,
 * what it was given and has not started is asked back, what runs there ends. The blocks that only it has
 * are handed over: a worker that stays is told to fetch such a block and to own it under a new epoch, and
 * until it says that it does, the block counts as held by the one that leaves. A receiver knows best
 * what it has room for and may refuse; then the next one is asked. Blocks that can be generated or read
 * from their file again are not worth the way.
 *
 *     staying ──WORKER_LEAVING──▶ leaving ──nothing runs, nothing is being handed over; or time is over──▶ left
 *
 * One that has left owns nothing any more and has been told so (LEFT). It stays known until it goes, since
 * neighbours may still read what it lent them.
 *
 * Blocks of a worker that is full are handed over in the same way: see relief.c. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

#define LEAVING UINT64_MAX /* the order of a hand-over that no task waits for */

static struct tessi_map_key key_of(const struct sched_layer *layer, uint64_t index)
{
    return tessi_task_key(layer->session->id, layer->layer->id, index);
}

/* --- records --- */

static struct hand_over *find(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index)
{
    if (sched->hand_over_of.count == 0) {
        return NULL;
    }
    uint32_t handle = tessi_map_get(&sched->hand_over_of, key_of(layer, index));
    return handle == TESSI_MAP_NONE ? NULL : &sched->hand_overs[handle];
}

static struct hand_over *create(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint64_t order)
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

static void destroy(struct tessi_sched *sched, struct hand_over *one)
{
    struct worker *from = sched->workers[record(one->layer, one->index)->owner];
    TESS_ASSERT(from->handing > 0);
    from->handing--;
    from->handing_bytes -= one->bytes;
    if (one->to != NO_WORKER) {
        sched->workers[one->to]->promised_bytes -= one->bytes;
    }
    (void)tessi_map_remove(&sched->hand_over_of, key_of(one->layer, one->index));
    tessi_grow(&sched->hand_overs_free, &sched->hand_overs_free_capacity, sched->hand_overs_free_count + 1,
               sizeof *sched->hand_overs_free);
    sched->hand_overs_free[sched->hand_overs_free_count++] = (uint32_t)(one - sched->hand_overs);
    *one = (struct hand_over){.to = NO_WORKER};
}

/* --- who takes a block --- */

/* The task that waits for it is the first of all that have no room. */
static bool is_for_first(const struct tessi_sched *sched, const struct hand_over *one)
{
    return one->order != LEAVING && one->order <= sched->starving_order;
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
        sched->workers[one->to]->promised_bytes -= one->bytes;
    }
    one->to = tessi_receiver_choose(sched, one->layer, one->index, may_receive, one);
    if (one->to == NO_WORKER) {
        layer->keep_epoch = one->epoch > layer->keep_epoch ? one->epoch : layer->keep_epoch;
        destroy(sched, one);
        return;
    }
    struct worker *to = sched->workers[one->to];
    one->epoch++;
    to->promised_bytes += one->bytes;
    tessi_copies_add(sched, layer, one->index, to->index); /* so that it hears when the block is not wanted any more */
    tessi_out_tell_layer(to, layer);
    tessi_spans_push(&tessi_out_box(to)->take_over, (struct tessi_span){.session = layer->session->id,
                                                                        .layer = layer->layer->id,
                                                                        .first = one->index,
                                                                        .count = 1,
                                                                        .epoch = one->epoch,
                                                                        .order = one->order == LEAVING ? 0 : one->order,
                                                                        .worker = sched->workers[task->owner]->id});
}

/* Whoever has been asked to own the block too, or does already, is the one to have it. */
static void begin(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint64_t order)
{
    uint32_t to, epoch;
    struct worker *owner = sched->workers[record(layer, index)->owner];
    if (find(sched, layer, index) != NULL) {
        return;
    }
    if (tessi_keep_hand_on(sched, layer, index, &to, &epoch)) {
        struct hand_over *one = create(sched, layer, index, order);
        one->to = to;
        one->epoch = epoch;
        sched->workers[to]->promised_bytes += one->bytes;
    } else if (tessi_keep_takes_over(sched, layer, index)) {
        if (order == LEAVING) {
            owner->leave.handed_blocks++;
            owner->leave.handed_bytes += tessi_layer_block_bytes(layer->layer, index);
            sched->blocks_handed++;
        }
        tessi_out_free(sched, owner->index, layer, index);
    } else {
        offer(sched, create(sched, layer, index, order));
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
        begin(sched, layer, index, LEAVING);
    }
}

bool tessi_hand_over_is_to(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    const struct hand_over *one = find(sched, layer, index);
    return one != NULL && (worker == NO_WORKER || one->to == worker);
}

void tessi_hand_over_forget(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    struct hand_over *one = find(sched, layer, index);
    if (one != NULL) {
        /* Whoever took it over meanwhile says so under an epoch that is not to come again. */
        record(layer, index)->epoch = one->epoch;
        destroy(sched, one);
    }
}

bool tessi_hand_over_take(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                          const struct tessi_span *span, bool adopted)
{
    struct hand_over *one = find(sched, layer, index);
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
        sched->relief_due = sched->relief_due || one->order != LEAVING; /* another block may be smaller */
        offer(sched, one);
        return true;
    }
    struct task_record *task = record(layer, index);
    struct worker *from = sched->workers[task->owner];
    uint32_t epoch = one->epoch;
    if (one->order == LEAVING) {
        from->leave.handed_blocks++;
        from->leave.handed_bytes += one->bytes;
        sched->blocks_handed++;
    }
    destroy(sched, one);
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

/* --- from start to end --- */

typedef void owned_fn(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index);

static void each_owned(struct tessi_sched *sched, struct worker *worker, owned_fn *visit)
{
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            struct sched_layer *layer = session->layers[l];
            for (uint64_t i = layer == NULL ? 0 : next_live(layer, 0); layer != NULL && i < layer->tasks;
                 i = next_live(layer, i + 1)) {
                if (record(layer, i)->owner == worker->index) {
                    visit(sched, worker, layer, i);
                }
            }
        }
    }
}

/* What the client is sending there stays: it would have to begin anew elsewhere. */
static void ask_back(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    if (task->state == TASK_HELD) {
        tessi_hand_over(sched, layer, index);
    } else if ((task->flags & (TASK_STARTED | TASK_STEALING | TASK_ADOPTING)) == 0 &&
               layer->layer->op != TESSI_OP_RECEIVE) {
        tessi_ask_mark(worker, layer, task);
        tessi_ask_note(sched, NULL, worker, layer, index);
        tessi_spans_push(&tessi_out_box(worker)->steal, (struct tessi_span){.session = layer->session->id,
                                                                            .layer = layer->layer->id,
                                                                            .first = index,
                                                                            .count = 1,
                                                                            .epoch = task->epoch});
    }
}

void tessi_leave_begin(struct tessi_sched *sched, struct worker *worker, int64_t wait_ns)
{
    if (worker->leaving) {
        sched->stale_reports++;
        return;
    }
    worker->leaving = true;
    tessi_load_changed(sched, worker);
    sched->leaving_count++;
    worker->leave_limit_ns =
        wait_ns < INT64_MAX - sched->attended_ns ? sched->attended_ns + (wait_ns > 0 ? wait_ns : 0) : INT64_MAX;
    for (size_t w = 0; w < sched->worker_count; w++) {
        sched->workers[w]->refused_bytes = sched->workers[w]->refused_first_bytes = 0; /* there may be room by now */
    }
    tessi_hand_over_elsewhere(sched, worker);
    tessi_keep_forget_worker(sched, worker);
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            tessi_place_hand_on(sched, session->lanes[l], worker->index);
        }
    }
    each_owned(sched, worker, ask_back);
    tessi_out_mark_dirty(worker);
}

/* What it still has goes elsewhere without it: from a copy, or it is made again. Nobody is blamed. */
static void take_away(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index)
{
    struct task_record *task = record(layer, index);
    tessi_out_free(sched, worker->index, layer, index);
    if (task->state == TASK_HELD) {
        bool handing = find(sched, layer, index) != NULL; /* whether it has arrived there is not known */
        bool copied = !handing && tessi_copies_pick(sched, layer, index) != NO_WORKER;
        bool remade = !copied && tessi_layer_regenerable(layer->layer);
        worker->leave.remade_blocks += remade;
        worker->leave.lost_blocks += !copied && !remade;
        tessi_loss_of_block(sched, layer, index);
    } else if ((task->flags & TASK_ADOPTING) != 0) {
        tessi_assign_undo(sched, layer, task);
        task->flags = TASK_DONE_ONCE;
        tessi_loss_of_block(sched, layer, index);
    } else {
        uint8_t begun = (task->flags & TASK_STARTED) != 0 ? TASK_BEGUN : 0;
        tessi_assign_undo(sched, layer, task);
        task->flags = (uint8_t)((task->flags & (TASK_DONE_ONCE | TASK_BEGUN)) | begun);
        tessi_place_task(sched, layer, index);
    }
}

static bool leave_is_over(const struct tessi_sched *sched, const struct worker *worker)
{
    bool done = worker->assigned == 0 && worker->handing == 0;
    return done || sched->attended_ns >= worker->leave_limit_ns;
}

void tessi_leave_continue(struct tessi_sched *sched)
{
    for (size_t w = 0; w < sched->worker_count && sched->leaving_count > 0; w++) {
        struct worker *worker = sched->workers[w];
        if (!worker->alive || !worker->leaving || worker->left || !leave_is_over(sched, worker)) {
            continue;
        }
        worker->left = true;
        sched->leaving_count--;
        tessi_copies_forget_worker(sched, worker->index);
        each_owned(sched, worker, take_away);
        tessi_spread_finish(sched);
        TESS_ASSERT(worker->assigned == 0 && worker->handing == 0);
        tessi_out_mark_dirty(worker);
    }
}

int64_t tessi_leave_next_ns(const struct tessi_sched *sched)
{
    int64_t next_ns = INT64_MAX;
    for (size_t w = 0; w < sched->worker_count && sched->leaving_count > 0; w++) {
        const struct worker *worker = sched->workers[w];
        if (worker->alive && worker->leaving && !worker->left) {
            int64_t left_ns = leave_is_over(sched, worker) ? 0 : worker->leave_limit_ns - sched->attended_ns;
            int64_t at_ns = left_ns < INT64_MAX - sched->now_ns ? sched->now_ns + left_ns : INT64_MAX;
            next_ns = at_ns < next_ns ? at_ns : next_ns;
        }
    }
    return next_ns;
}
