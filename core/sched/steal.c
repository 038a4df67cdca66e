/* Stealing: an idle worker takes a run of tasks from the end of the longest queue.
 *
 * Work that was never handed out moves at once. Work that its worker has been given is asked back
 * first, and moves when that worker confirms that it has not started: never two runs of one task
 * on purpose. A thief asks one victim at a time and takes at most half the difference, so that
 * the same work does not travel to and fro.
 *
 * Tasks whose data take long to move beside their run time go only when that is worth it, those first of which the
 * thief has most. At the end of a product no worker fetches a row of blocks for a few per cent of the time. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

#define STEAL_GAIN_NS 2e6 /* several times what the messages of a steal take */
#define TRIES 4           /* thieves that find nothing, in one step */
#define MOVING_PRICE 2    /* so many times what moving data takes must be saved: it keeps both ends from other things */
#define SOON_NS 1e7       /* before it has nothing to do a thief looks for tasks whose data have to move */
#define EVEN 32           /* and this part of the time since the work was submitted, */
#define EVEN_SOURCE 8     /* or this one for what is made from nothing, */
#define WORTH_BYTES_PER_NS 0.15 /* or time enough to move the data over a slow network */

static double units_of(const struct worker *worker, uint32_t kind)
{
    return worker->load[kind].units > 0 ? worker->load[kind].units : 1e-3;
}

double load_of(const struct worker *worker, uint32_t kind)
{
    const struct load *load = &worker->load[kind];
    /* What demands a resource runs beside the rest when its turn comes. */
    double left_ns = load->queue_ns + load->backlog_ns - load->demanding_ns - load->asked_ns;
    return left_ns * load->slowness / units_of(worker, kind);
}

/* What it has may end before stolen work would arrive. */
bool runs_dry(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind)
{
    const struct load *load = &worker->load[kind];
    return stays(worker) && load->units > 0 && load->backlog == load->demanding_backlog && worker->stealing == 0 &&
           (load->assigned < load->units || load_of(worker, kind) < 0.25 * (double)sched->config.window_ns);
}

/* Queues that differ by less than a factor of two are in balance: evening them out costs more than
 * it gains, and would go on for ever. */
static bool worth_it(const struct worker *thief, const struct worker *victim, uint32_t kind)
{
    double gain_ns = load_of(victim, kind) - load_of(thief, kind);
    return load_of(thief, kind) < 0.499 * load_of(victim, kind) &&
           (gain_ns > STEAL_GAIN_NS || thief->load[kind].assigned == 0);
}

static double time_at(const struct worker *worker, uint32_t kind, double run_ns)
{
    return run_ns * worker->load[kind].slowness / units_of(worker, kind);
}

/* How many of `most` tasks of the layer may go when the first of them moves so many bytes, and each further one so
 * many: as many as let both workers end soonest, and none when that saves too little for what moves. What runs at the
 * victim is half done, as likely as not. */
static uint64_t worth_moving(const struct tessi_sched *sched, const struct sched_layer *layer,
                             const struct worker *thief, const struct worker *victim, uint64_t first, uint64_t next,
                             uint64_t most)
{
    double next_ns = moving_ns(sched, thief, victim, (double)next);
    uint32_t kind = kind_at(victim, layer->lane);
    bool idle = thief->load[kind].assigned == 0;
    double gives_ns = time_at(victim, kind, layer->estimate_ns);
    double takes_ns = time_at(thief, kind, layer->estimate_ns) + next_ns;
    double first_ns = moving_ns(sched, thief, victim, (double)first);
    double soon_ns = 2 * time_at(thief, kind, layer->estimate_ns);
    soon_ns = soon_ns > SOON_NS ? soon_ns : SOON_NS;
    double ahead_ns = load_of(victim, kind) - load_of(thief, kind) - (idle ? 0.5 * gives_ns : 0);
    ahead_ns -= first_ns - next_ns;
    double even = ahead_ns / (gives_ns + takes_ns);
    uint64_t count = even < 0 ? 0 : even < (double)most ? (uint64_t)even : most;
    double saved_ns = (double)count * gives_ns, more_ns = ahead_ns - (double)(count + 1) * takes_ns;
    if (count < most && more_ns > saved_ns) {
        saved_ns = more_ns;
        count++;
    }
    double bytes = (double)first + (double)(count > 0 ? count - 1 : 0) * (double)next;
    double even_ns = (double)(sched->now_ns - layer->submitted_ns) / (is_source(layer) ? EVEN_SOURCE : EVEN);
    double worth_ns = bytes / WORTH_BYTES_PER_NS;
    double least_ns = even_ns < worth_ns ? even_ns : worth_ns;
    double messages_ns = idle ? 0.1 * STEAL_GAIN_NS : STEAL_GAIN_NS;
    least_ns = least_ns > messages_ns ? least_ns : messages_ns;
    bool soon = load_of(thief, kind) < soon_ns + first_ns; /* the later, the less has to be guessed */
    bool pays = soon && saved_ns > least_ns && saved_ns > MOVING_PRICE * moving_ns(sched, thief, victim, bytes);
    return pays ? count : 0;
}

/* Estimated run time that has to move for both to end at once: what leaves the victim shortens its queue by
 * the victim's time for it, and lengthens the thief's by the thief's. */
static double fair_ns(const struct worker *thief, const struct worker *victim, uint32_t kind)
{
    return (load_of(victim, kind) - load_of(thief, kind)) / (time_at(victim, kind, 1) + time_at(thief, kind, 1));
}

static uint8_t reason(const struct worker *thief, uint32_t kind)
{
    return thief->load[kind].assigned < thief->load[kind].units ? TESSI_TRACE_WHY_IDLE_SLOTS : TESSI_TRACE_WHY_SHORT_QUEUE;
}

/* A steal for the trace; one that goes on where the last note stopped lengthens that. */
static void note_steal(struct tessi_sched *sched, enum tessi_trace_kind kind, uint32_t thief,
                       const struct worker *victim, const struct sched_layer *layer, uint64_t first, uint64_t count,
                       uint8_t why)
{
    struct tessi_trace_record record = {.index = first,
                                        .giver = victim->id,
                                        .amount = count,
                                        .session = layer->session->id,
                                        .layer = layer->layer->id,
                                        .peer = thief,
                                        .kind = (uint8_t)kind,
                                        .why = why};
    struct tessi_trace_record *last = sched->note_count > 0 ? &sched->notes[sched->note_count - 1] : NULL;
    if (last != NULL && last->kind == kind && last->peer == thief && last->giver == victim->id &&
        last->session == record.session && last->layer == record.layer && last->why == why &&
        (last->index + last->amount == first || first + count == last->index)) {
        last->index = first < last->index ? first : last->index;
        last->amount += count;
        return;
    }
    note(sched, record);
}

static uint32_t largest_span(const struct backlog *backlog, const struct sched_layer *but)
{
    uint32_t best = TESSI_MAP_NONE;
    size_t look = backlog->heap.count < 64 ? backlog->heap.count : 64;
    for (size_t i = backlog->heap.count - look; i < backlog->heap.count; i++) {
        uint32_t handle = backlog->heap.entries[i].value;
        if (is_pinned(backlog->spans[handle].layer) || backlog->spans[handle].layer == but) {
            continue;
        }
        if (best == TESSI_MAP_NONE || backlog->spans[handle].count > backlog->spans[best].count) {
            best = handle;
        }
    }
    return best;
}

/* Of the layer's spans the one whose last task is moved fastest. */
static uint32_t nearest_span(struct tessi_sched *sched, const struct backlog *backlog, const struct worker *thief,
                             const struct sched_layer *layer, const struct company *along, uint64_t *least)
{
    uint32_t best = TESSI_MAP_NONE, looks = 0;
    for (size_t i = backlog->heap.count; i-- > 0 && looks < LOOKS;) {
        const struct backlog_span *span = &backlog->spans[backlog->heap.entries[i].value];
        if (span->layer != layer) {
            continue;
        }
        uint64_t last = span->first + span->count - 1;
        bool goes = along->count > 0 && along->tasks[along->count - 1] == last;
        uint64_t here = moving_bytes(sched, span->layer, goes && span->count > 1 ? last - 1 : last, thief, along);
        looks++;
        if (best == TESSI_MAP_NONE || here < *least) {
            best = backlog->heap.entries[i].value;
            *least = here;
        }
    }
    return best;
}

/* A worker that is too small would refuse the task, and steal it again at once. */
static bool fits(const struct worker *thief, const struct worker *victim, const struct sched_layer *layer,
                 uint64_t index)
{
    return thief->info.memory_bytes >= victim->info.memory_bytes ||
           thief->info.memory_bytes >= tessi_task_footprint(layer->layer, index);
}

/* The last tasks of a span. */
static void take_last(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct backlog *backlog,
                      uint32_t handle, uint64_t count)
{
    struct backlog_span span = backlog_take(sched, backlog, victim->index, handle);
    if (count < span.count) {
        backlog_put(sched, victim->index,
                    (struct backlog_span){span.layer, span.first, span.count - count, span.again});
    } else {
        make_hungry(sched, victim); /* what stood behind it may be next */
    }
    uint64_t first = span.first + span.count - count;
    backlog_put(sched, thief->index, (struct backlog_span){span.layer, first, count, span.again});
    note_steal(sched, TESSI_TRACE_TAKE, thief->id, victim, span.layer, first, count,
               reason(thief, kind_at(thief, span.layer->lane)));
    sched->steals += count;
    span.layer->session->stats.steals += count;
}

/* Tasks of a layer whose data take long to move: one at a time, so that those are together which read the same, unless
 * there are many. */
static uint64_t take_nearest(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct lane *lane,
                             struct sched_layer *layer)
{
    struct company along = {.count = 0};
    uint64_t wanted = 0, taken = 0;
    uint64_t out = tessi_layer_block_bytes(layer->layer, 0);
    if (worth_moving(sched, layer, thief, victim, out, out, victim->load[kind_at(victim, lane)].backlog) == 0) {
        return 0; /* whatever it has */
    }
    do {
        struct backlog *backlog = &lane->backlogs[victim->index]; /* what the thief gets may have moved it */
        uint64_t first = 0;
        uint32_t handle = nearest_span(sched, backlog, thief, layer, &along, &first);
        if (handle == TESSI_MAP_NONE) {
            break;
        }
        struct backlog_span span = backlog->spans[handle];
        if (along.count < LOOKS) {
            along.tasks[along.count++] = span.first + span.count - 1;
        }
        if (taken == 0) {
            uint64_t next = first;
            (void)nearest_span(sched, backlog, thief, layer, &along, &next);
            wanted = worth_moving(sched, layer, thief, victim, first, next,
                                  victim->load[kind_at(victim, lane)].backlog);
        }
        if (wanted == 0 || !fits(thief, victim, layer, span.first)) {
            break;
        }
        uint64_t count = wanted <= LOOKS ? 1 : wanted - taken < span.count ? wanted - taken : span.count;
        take_last(sched, thief, victim, backlog, handle, count);
        taken += count;
    } while (taken < wanted);
    return taken;
}

/* Move unassigned tasks worth `wanted_ns` off the ends of the largest spans of a lane; returns what is still wanted. */
double take_from_lane(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct lane *lane,
                      double wanted_ns)
{
    const struct sched_layer *stays_there = NULL; /* what is not worth moving; others may be */
    while (wanted_ns > 0 && victim->index < lane->capacity && lane->backlogs[victim->index].heap.count > 0) {
        struct backlog *backlog = &lane->backlogs[victim->index];
        uint32_t handle = largest_span(backlog, stays_there);
        if (handle == TESSI_MAP_NONE ||
            !fits(thief, victim, backlog->spans[handle].layer, backlog->spans[handle].first)) {
            break;
        }
        struct sched_layer *layer = backlog->spans[handle].layer;
        if (lane->demand.count == 0 && moving_matters(layer, backlog->spans[handle].first)) {
            if (take_nearest(sched, thief, victim, lane, layer) > 0 || stays_there != NULL) {
                return 0;
            }
            stays_there = layer;
            continue;
        }
        uint64_t most = backlog->spans[handle].count;
        double each_ns = layer->estimate_ns > 1 ? layer->estimate_ns : 1;
        double affordable = wanted_ns / each_ns;
        uint64_t count = affordable >= (double)most ? most : (uint64_t)affordable;
        if (count > 0) {
            take_last(sched, thief, victim, backlog, handle, count);
        }
        wanted_ns = count < most ? 0 : wanted_ns - (double)count * each_ns;
    }
    return wanted_ns;
}

/* Move unassigned tasks worth up to half the difference. */
static void take_backlog(struct tessi_sched *sched, struct worker *thief, struct worker *victim, uint32_t kind)
{
    double wanted_ns = fair_ns(thief, victim, kind);
    for (size_t s = 0; s < sched->session_count && wanted_ns > 0; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count && wanted_ns > 0; l++) {
            if (session->lanes[l]->demand.count == 0 && kind_at(victim, session->lanes[l]) == kind) {
                wanted_ns = take_from_lane(sched, thief, victim, session->lanes[l], wanted_ns);
            }
        }
    }
}

static bool may_steal(const struct sched_layer *layer, const struct worker *victim, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    return task != NULL && task->state == TASK_ASSIGNED && task->owner == victim->index &&
           (task->flags & (TASK_STARTED | TASK_STEALING | TASK_ADOPTING)) == 0 &&
           layer->layer->op != TESSI_OP_RECEIVE && !is_pinned(layer);
}

static void ask(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct sched_layer *layer,
                uint64_t index)
{
    struct task_record *task = record(layer, index);
    task->flags |= TASK_STEALING;
    struct tessi_span span = {.session = layer->session->id,
                              .layer = layer->layer->id,
                              .first = index,
                              .count = 1,
                              .epoch = task->epoch,
                              .worker = thief->id};
    tessi_spans_push(&victim->out_steal, span);
    note_steal(sched, TESSI_TRACE_ASK, thief->id, victim, layer, index, 1, reason(thief, kind_at(thief, layer->lane)));
    mark_dirty(victim);
    struct load *load = &victim->load[kind_at(victim, layer->lane)];
    load->asked++;
    load->asked_ns += layer->estimate_ns;
    load_changed(sched, victim);
    thief->stealing++;
    thief->stealing_from = victim->index;
    load_changed(sched, thief);
}

static bool may_ask(const struct worker *thief, const struct worker *victim, const struct sched_layer *layer,
                    uint64_t index)
{
    return can_run(thief, &layer->lane->demand) && may_steal(layer, victim, index) && fits(thief, victim, layer, index);
}

/* Of the last of the layer's tasks that were given, as many as may be asked for. */
static void find_given(const struct worker *thief, const struct worker *victim, const struct sched_layer *layer,
                       struct company *found)
{
    found->count = 0;
    for (size_t g = victim->given_count; g-- > 0 && found->count < LOOKS;) {
        struct given given = victim->given[g];
        bool alike = given.session == layer->session->id && given.layer == layer->layer->id;
        for (uint64_t i = given.count; alike && i-- > 0 && found->count < LOOKS;) {
            found->tasks[found->count] = given.first + i;
            found->count += may_ask(thief, victim, layer, given.first + i) ? 1 : 0;
        }
    }
}

/* Of these the one that is moved fastest; of equal ones that which was given last. */
static uint32_t nearest_given(struct tessi_sched *sched, const struct worker *thief, struct sched_layer *layer,
                              const struct company *found, const struct company *along, uint64_t *least)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < found->count; i++) {
        uint64_t here = moving_bytes(sched, layer, found->tasks[i], thief, along);
        if (i == 0 || here < *least) {
            best = i;
            *least = here;
        }
    }
    return best;
}

static bool ask_for_nearest(struct tessi_sched *sched, struct worker *thief, struct worker *victim,
                            struct sched_layer *layer, uint64_t left)
{
    struct company found, along = {.count = 0};
    uint64_t first = 0, out = tessi_layer_block_bytes(layer->layer, 0);
    if (worth_moving(sched, layer, thief, victim, out, out, left) == 0) {
        return false; /* whatever it has */
    }
    find_given(thief, victim, layer, &found);
    uint64_t most = left < found.count ? left : found.count;
    if (most == 0) {
        return false;
    }
    uint32_t best = nearest_given(sched, thief, layer, &found, &along, &first);
    uint64_t task = found.tasks[best], next = first;
    found.tasks[best] = found.tasks[--found.count];
    along.tasks[along.count++] = task;
    best = nearest_given(sched, thief, layer, &found, &along, &next);
    uint64_t wanted = worth_moving(sched, layer, thief, victim, first, next, most);
    for (uint64_t asked = 0; asked < wanted; asked++) {
        ask(sched, thief, victim, layer, task);
        if (asked + 1 < wanted) {
            task = found.tasks[best];
            found.tasks[best] = found.tasks[--found.count];
            along.tasks[along.count++] = task;
            best = nearest_given(sched, thief, layer, &found, &along, &next);
        }
    }
    return wanted > 0;
}

/* Ask for assigned tasks, the last given first. */
static void ask_back(struct tessi_sched *sched, struct worker *thief, struct worker *victim, uint32_t kind)
{
    const struct load *load = &victim->load[kind];
    double wanted_ns = fair_ns(thief, victim, kind);
    uint64_t keep = load->units + load->asked;
    uint64_t left = load->assigned > keep ? load->assigned - keep : 0;
    const struct sched_layer *stays_there = NULL; /* what is not worth moving; others may be */
    for (size_t g = victim->given_count; g-- > 0 && left > 0 && wanted_ns > 0;) {
        struct given given = victim->given[g];
        struct sched_layer *layer = layer_named(sched, given.session, given.layer);
        bool asked = layer != NULL && layer != stays_there && kind_at(victim, layer->lane) == kind;
        for (uint64_t i = given.count; asked && i-- > 0 && left > 0;) {
            if (!may_ask(thief, victim, layer, given.first + i)) {
                continue;
            }
            if (moving_matters(layer, given.first + i)) {
                if (ask_for_nearest(sched, thief, victim, layer, left) || stays_there != NULL) {
                    return;
                }
                stays_there = layer;
                break;
            }
            if (wanted_ns < 0.5 * layer->estimate_ns) {
                return;
            }
            ask(sched, thief, victim, layer, given.first + i);
            wanted_ns -= layer->estimate_ns;
            left--;
        }
    }
}

/* Whether moving what the worker would give takes long, as far as one look tells. */
static bool gives_data(struct tessi_sched *sched, const struct worker *victim, uint32_t kind, bool backlog_only)
{
    for (size_t g = backlog_only ? 0 : victim->given_count; g-- > 0;) {
        struct given given = victim->given[g];
        const struct sched_layer *layer = layer_named(sched, given.session, given.layer);
        if (layer != NULL && kind_at(victim, layer->lane) == kind) {
            return moving_matters(layer, given.first);
        }
    }
    for (size_t s = 0; backlog_only && s < sched->session_count; s++) {
        const struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            const struct lane *lane = session->lanes[l];
            if (kind_at(victim, lane) == kind && victim->index < lane->capacity &&
                lane->backlogs[victim->index].heap.count > 0) {
                const struct backlog *backlog = &lane->backlogs[victim->index];
                const struct backlog_span *span = &backlog->spans[tessi_heap_peek(&backlog->heap)->value];
                return moving_matters(span->layer, span->first);
            }
        }
    }
    return false;
}

/* Grids are cut in two again and again, so workers whose numbers differ in one bit have regions that read a row or a
 * column alike. Where data move, the most loaded of those goes before the most loaded of all unless that has twice as
 * much to give. */
static struct worker *neighbour_of(struct tessi_sched *sched, const struct worker *thief, struct worker *most,
                                   uint32_t kind, bool backlog_only)
{
    struct worker *best = most;
    double least_ns = 0.5 * (load_of(most, kind) + load_of(thief, kind));
    if (!gives_data(sched, most, kind, backlog_only)) {
        return most;
    }
    for (uint32_t bit = 1; bit < sched->worker_count && bit != 0; bit <<= 1) {
        struct worker *worker = (thief->index ^ bit) < sched->worker_count ? sched->workers[thief->index ^ bit] : most;
        const struct load *load = &worker->load[kind];
        bool has = backlog_only ? load->backlog > load->demanding_backlog : load->assigned > load->units;
        if (stays(worker) && has && worth_it(thief, worker, kind) && load_of(worker, kind) > least_ns) {
            best = worker;
            least_ns = load_of(worker, kind);
        }
    }
    return best;
}

enum find { FIND_WORK, FIND_NOTHING_FOR_IT, FIND_NOTHING };

static enum find steal_for(struct tessi_sched *sched, struct worker *thief, uint32_t kind)
{
    uint64_t backlog = thief->load[kind].backlog, stealing = thief->stealing;
    struct worker *victim = most_loaded(sched, kind, true);
    if (victim != NULL && worth_it(thief, victim, kind)) {
        take_backlog(sched, thief, neighbour_of(sched, thief, victim, kind, true), kind);
        return thief->load[kind].backlog > backlog ? FIND_WORK : FIND_NOTHING_FOR_IT;
    }
    victim = most_loaded(sched, kind, false);
    if (victim == NULL || !worth_it(thief, victim, kind)) {
        return FIND_NOTHING;
    }
    ask_back(sched, thief, neighbour_of(sched, thief, victim, kind, false), kind);
    return thief->stealing > stealing ? FIND_WORK : FIND_NOTHING_FOR_IT;
}

/* The driest first: where no queue is long enough for it, none is for the others. What one may not run another may, so a
 * few are tried, however many there are. */
static void balance_kind(struct tessi_sched *sched, uint32_t kind)
{
    struct worker *aside[TRIES], *thief;
    uint32_t misses = 0;
    enum find found = FIND_WORK;
    while (found != FIND_NOTHING && misses < TRIES && (thief = driest(sched, kind)) != NULL) {
        found = steal_for(sched, thief, kind);
        if (found == FIND_NOTHING_FOR_IT) {
            set_aside(sched, thief, kind);
            aside[misses++] = thief;
        }
    }
    while (misses > 0) {
        load_changed(sched, aside[--misses]);
    }
}

void balance(struct tessi_sched *sched)
{
    for (size_t w = 0; sched->demanding_backlog > 0 && w < sched->worker_count; w++) {
        balance_demanding(sched, sched->workers[w]);
    }
    balance_kind(sched, 0);
    if (sched->device_workers > 0) {
        balance_kind(sched, 1);
    }
}

/* So many tasks that the worker was asked for need not be expected to go any more. */
static void end_asked(struct load *load, uint64_t *count, double each_ns)
{
    uint64_t ended = *count < load->asked ? *count : load->asked;
    double asked_ns = load->asked_ns - (double)ended * each_ns;
    load->asked -= ended;
    load->asked_ns = load->asked == 0 || asked_ns < 0 ? 0 : asked_ns;
    *count -= ended;
}

static void count_answer(struct tessi_sched *sched, struct worker *victim, const struct tessi_span *span,
                         const struct sched_layer *layer)
{
    if (span->worker != 0) { /* else it was the one that leaves who was asked */
        uint32_t kind = layer != NULL ? kind_at(victim, layer->lane) : 0;
        uint64_t count = span->count;
        end_asked(&victim->load[kind], &count, layer != NULL ? layer->estimate_ns : 0);
        end_asked(&victim->load[1 - kind], &count, 0); /* what they are for may have changed since */
        load_changed(sched, victim);
    }
    struct worker *thief = worker_find(sched, span->worker);
    if (thief != NULL && thief->stealing_from == victim->index) {
        thief->stealing -= span->count < thief->stealing ? span->count : thief->stealing;
        if (thief->stealing == 0) {
            thief->stealing_from = NO_WORKER;
            make_hungry(sched, thief);
        }
    }
}

/* Why the worker has kept it, as far as it has told: reports of what started and ended come before this answer. */
static void refused(struct tessi_sched *sched, const struct worker *victim, const struct tessi_span *span,
                    const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    enum task_state state = state_of(layer, index);
    uint8_t why = TESSI_TRACE_WHY_ELSEWHERE;
    if (state == TASK_HELD || state == TASK_RELEASED) {
        why = TESSI_TRACE_WHY_DONE;
    } else if (state == TASK_ASSIGNED && task->owner == victim->index && task->epoch == span->epoch) {
        why = (task->flags & TASK_STARTED) != 0 ? TESSI_TRACE_WHY_STARTED : TESSI_TRACE_WHY_BUSY;
    }
    sched->steals_refused[why]++;
    note_steal(sched, TESSI_TRACE_REFUSE, span->worker, victim, layer, index, 1, why);
}

static void end_ask(struct tessi_sched *sched, struct worker *victim, const struct tessi_span *span, bool given)
{
    struct sched_layer *layer = layer_named(sched, span->session, span->layer);
    count_answer(sched, victim, span, layer);
    if (layer == NULL || span->first >= layer->tasks || span->count > layer->tasks - span->first) {
        sched->stale_reports++;
        return;
    }
    struct worker *thief = worker_find(sched, span->worker);
    for (uint64_t i = span->first; i < span->first + span->count; i++) {
        struct task_record *task = record_peek(layer, i);
        if (task == NULL || task->state != TASK_ASSIGNED || task->owner != victim->index ||
            task->epoch != span->epoch || (task->flags & TASK_STEALING) == 0) {
            sched->stale_reports++;
            if (!given) {
                refused(sched, victim, span, layer, i);
            }
        } else if (!given) {
            task->flags &= (uint8_t)~TASK_STEALING;
            refused(sched, victim, span, layer, i);
        } else {
            note_steal(sched, TESSI_TRACE_CONFIRM, span->worker, victim, layer, i, 1, TESSI_TRACE_WHY_NOTHING);
            unassign(sched, layer, task);
            if (span->worker != 0) { /* else it was given back by one that leaves */
                sched->steals++;
                layer->session->stats.steals++;
            }
            if (thief != NULL && stays(thief)) {
                backlog_put(sched, thief->index, (struct backlog_span){layer, i, 1, true});
            } else {
                place_task(sched, layer, i);
            }
        }
    }
}

void take_stolen(struct tessi_sched *sched, struct worker *victim, const struct tessi_report *report)
{
    for (size_t s = 0; s < report->stolen.count; s++) {
        end_ask(sched, victim, &report->stolen.items[s], true);
    }
    for (size_t s = 0; s < report->kept.count; s++) {
        end_ask(sched, victim, &report->kept.items[s], false);
    }
}
