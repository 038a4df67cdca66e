/* Stealing: a worker that runs dry takes from the longest queue, so that both end at once.
 *
 * Work that was never handed out moves at once, the same share of each layer. Work that its worker has been given is
 * asked back first, and moves when that worker confirms that it has not started: never two runs of one task on purpose.
 * surplus.c says what is worth asking back. A worker that has work but can begin with none of it is a thief as well, of
 * what it can begin.
 *
 * The same work does not travel to and fro: a thief asks one victim at a time and takes at most half the difference,
 * what is asked for counts as the thief's already, and who finds nothing rests.
 *
 * Tasks whose data take long to move beside their run time go only when that is worth it, those first of which the
 * thief has most. At the end of a product no worker fetches a row of blocks for a few per cent of the time. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/balance/balance.h"
#include "core/sched/order/order.h"
#include "core/sched/placement/placement.h"
#include "core/sched/workers/workers.h"

#define STEAL_GAIN_NS 2e6 /* several times what the messages of a steal take */
#define TRIES 4           /* thieves that find nothing, in one step */
#define REST_NS INT64_C(1000000) /* of one that has found nothing, doubled each time */
#define VAIN 4            /* for each task that moved so many did not */
#define MISSES_MAX 6             /* times */
#define TAKE_AGAIN_NS INT64_C(200000000) /* of one whose own backlog cannot begin: until it takes part of another's */
#define SPANS_MAX 4096 /* of a victim's lane, shared in one step */
#define MOVING_PRICE 2    /* so many times what moving data takes must be saved: it keeps both ends from other things */
#define SOON_NS 1e7       /* before it has nothing to do a thief looks for tasks whose data have to move */
#define EVEN 0.03         /* and this part of the time since the work was submitted, */
#define EVEN_SCATTERED 0.1 /* at most this one where run times scatter, */
#define EVEN_SOURCE 0.5   /* or this one for what is made from nothing, */
#define WORTH_BYTES_PER_NS 0.1 /* or time enough to move the data over a network of a gigabit a second */

/* Queues that differ by less than a factor of two are in balance: evening them out costs more than
 * it gains, and would go on for ever. */
static bool worth_it(const struct worker *thief, const struct worker *victim, uint32_t kind)
{
    double gain_ns = tessi_load_of(victim, kind) - tessi_load_of(thief, kind);
    return tessi_load_of(thief, kind) < 0.499 * tessi_load_of(victim, kind) &&
           (gain_ns > STEAL_GAIN_NS || thief->load[kind].assigned == 0);
}

static double time_at(const struct worker *worker, uint32_t kind, double run_ns)
{
    return run_ns * worker->load[kind].slowness / load_units(worker, kind);
}

/* The least part of the time so far that has to be saved. Of workers whose run times scatter one is always late by a
 * task or so, and on a shared machine who ends early leaves its processor to who is late. */
static double even_part(const struct tessi_sched *sched, const struct sched_layer *layer)
{
    double part = EVEN + tessi_history_scatter(sched, layer);
    return is_source(layer) ? EVEN_SOURCE : part < EVEN_SCATTERED ? part : EVEN_SCATTERED;
}

/* What it has takes so much longer than as many tasks of the layer would: these may have to wait for something long. */
static double others_ns(const struct worker *worker, uint32_t kind, double each_ns)
{
    const struct load *load = &worker->load[kind];
    double more_ns = tessi_load_of(worker, kind) - (double)(load->assigned - load->asked + load->backlog) * each_ns;
    return more_ns > 0 ? more_ns : 0;
}

/* How many of `most` tasks of the layer may go when the first of them moves so many bytes, and each further one so
 * many: as many as let both workers end soonest, and none when that saves too little for what moves. What runs at the
 * victim is half done, as likely as not. Where all of them go, none waits for what else the victim has. */
static uint64_t worth_moving(const struct tessi_sched *sched, const struct sched_layer *layer,
                             const struct worker *thief, const struct worker *victim, uint64_t first, uint64_t next,
                             uint64_t most)
{
    double next_ns = tessi_moving_ns(sched, thief, victim, (double)next);
    uint32_t kind = kind_at(victim, layer->lane);
    bool idle = thief->load[kind].assigned == 0;
    double gives_ns = time_at(victim, kind, layer->estimate_ns);
    double takes_ns = time_at(thief, kind, layer->estimate_ns) + next_ns;
    double first_ns = tessi_moving_ns(sched, thief, victim, (double)first);
    double soon_ns = 2 * time_at(thief, kind, layer->estimate_ns);
    soon_ns = soon_ns > SOON_NS ? soon_ns : SOON_NS;
    double ahead_ns = tessi_load_of(victim, kind) - tessi_load_of(thief, kind) - (idle ? 0.5 * gives_ns : 0);
    ahead_ns -= first_ns - next_ns;
    double even = ahead_ns / (gives_ns + takes_ns);
    uint64_t count = even < 0 ? 0 : even < (double)most ? (uint64_t)even : most;
    double saved_ns = (double)count * gives_ns, more_ns = ahead_ns - (double)(count + 1) * takes_ns;
    if (count < most && more_ns > saved_ns) {
        saved_ns = more_ns;
        count++;
    } else if (count == most) {
        saved_ns += others_ns(victim, kind, gives_ns);
        more_ns = ahead_ns - (double)count * takes_ns;
        saved_ns = saved_ns < more_ns ? saved_ns : more_ns;
    }
    double bytes = (double)first + (double)(count > 0 ? count - 1 : 0) * (double)next;
    double even_ns = (double)(sched->now_ns - layer->submitted_ns) * even_part(sched, layer);
    double worth_ns = bytes / WORTH_BYTES_PER_NS;
    double least_ns = even_ns < worth_ns ? even_ns : worth_ns;
    double messages_ns = idle ? 0.1 * STEAL_GAIN_NS : STEAL_GAIN_NS;
    least_ns = least_ns > messages_ns ? least_ns : messages_ns;
    bool soon = tessi_load_of(thief, kind) < soon_ns + first_ns; /* the later, the less has to be guessed */
    bool pays = soon && saved_ns > least_ns && saved_ns > MOVING_PRICE * tessi_moving_ns(sched, thief, victim, bytes);
    return pays ? count : 0;
}

/* Estimated run time that has to move for both to end at once: what leaves the victim shortens its queue by
 * the victim's time for it, and lengthens the thief's by the thief's. */
static double fair_ns(const struct worker *thief, const struct worker *victim, uint32_t kind)
{
    return (tessi_load_of(victim, kind) - tessi_load_of(thief, kind)) /
           (time_at(victim, kind, 1) + time_at(thief, kind, 1));
}

static uint32_t largest_span(const struct backlog *backlog, const struct sched_layer *but)
{
    uint32_t best = TESSI_MAP_NONE;
    size_t look = backlog->count < 64 ? backlog->count : 64;
    for (size_t i = backlog->count - look; i < backlog->count; i++) {
        uint32_t handle = backlog->entries[i].handle;
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
    for (size_t i = backlog->count; i-- > 0 && looks < LOOKS;) {
        const struct kept_span *span = &backlog->spans[backlog->entries[i].handle];
        if (span->layer != layer) {
            continue;
        }
        uint64_t last = span->first + span->count - 1;
        bool goes = along->count > 0 && along->tasks[along->count - 1] == last;
        uint64_t here = tessi_moving_bytes(sched, span->layer, goes && span->count > 1 ? last - 1 : last, thief, along);
        looks++;
        if (best == TESSI_MAP_NONE || here < *least) {
            best = backlog->entries[i].handle;
            *least = here;
        }
    }
    return best;
}

/* The last tasks of a span. */
static void take_last(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct backlog *backlog,
                      uint32_t handle, uint64_t count)
{
    struct backlog_span span = tessi_backlog_take(sched, backlog, victim->index, handle);
    TESS_ASSERT(thief != victim && count > 0 && count <= span.count);
    if (count < span.count) {
        tessi_backlog_put(sched, victim->index,
                          (struct backlog_span){span.layer, span.first, span.count - count, span.again});
    } else {
        tessi_hungry_mark(sched, victim); /* what stood behind it may be next */
    }
    uint64_t first = span.first + span.count - count;
    tessi_backlog_put(sched, thief->index, (struct backlog_span){span.layer, first, count, span.again});
    tessi_ask_note_steal(sched, TESSI_TRACE_TAKE, thief->id, victim, span.layer, first, count,
                         tessi_ask_reason(thief, kind_at(thief, span.layer->lane)));
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
        struct backlog_span span = backlog_span(backlog, handle);
        if (along.count < LOOKS) {
            along.tasks[along.count++] = span.first + span.count - 1;
        }
        if (taken == 0) {
            uint64_t next = first;
            (void)nearest_span(sched, backlog, thief, layer, &along, &next);
            wanted = worth_moving(sched, layer, thief, victim, first, next,
                                  victim->load[kind_at(victim, lane)].backlog);
        }
        if (wanted == 0 || !tessi_ask_fits(thief, victim, layer, span.first)) {
            break;
        }
        uint64_t count = wanted <= LOOKS ? 1 : wanted - taken < span.count ? wanted - taken : span.count;
        take_last(sched, thief, victim, backlog, handle, count);
        taken += count;
    } while (taken < wanted);
    return taken;
}

/* Move unassigned tasks worth `wanted_ns` off the ends of the largest spans of a lane; returns what is still wanted. */
double tessi_steal_from_lane(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct lane *lane,
                             double wanted_ns)
{
    TESS_ASSERT(thief != victim);
    const struct sched_layer *stays_there = NULL; /* what is not worth moving; others may be */
    while (wanted_ns > 0 && victim->index < lane->capacity && lane->backlogs[victim->index].count > 0) {
        struct backlog *backlog = &lane->backlogs[victim->index];
        uint32_t handle = largest_span(backlog, stays_there);
        if (handle == TESSI_MAP_NONE ||
            !tessi_ask_fits(thief, victim, backlog->spans[handle].layer, backlog->spans[handle].first)) {
            break;
        }
        struct sched_layer *layer = backlog->spans[handle].layer;
        if (lane->demand.count == 0 && tessi_moving_matters(layer, backlog->spans[handle].first)) {
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

/* The same share of each span of a lane, off their ends: what reads what follows it to the same worker, and of layers
 * that come one after the other each is shared. Of single tasks, which wait for each other in no such pattern, every
 * second one or so goes to a thief that has none; they would not let one begin that has some. */
static void take_share(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct lane *lane,
                       double share)
{
    struct backlog *backlog = backlog_of(lane, victim->index);
    size_t count = backlog->count < SPANS_MAX ? backlog->count : SPANS_MAX;
    uint32_t *handles = tessi_alloc((count + 1) * sizeof *handles);
    const struct load *load = &thief->load[kind_at(thief, lane)];
    bool blocked = load->backlog > load->demanding_backlog;
    double due = 0;
    uint64_t end = 0, like = 0, cut = 0;
    for (size_t i = 0; i < count; i++) { /* what is taken is moved in the heap */
        handles[i] = backlog->entries[i].handle;
    }
    for (size_t i = 0; i < count; i++) {
        backlog = backlog_of(lane, victim->index); /* the thief's may be new, and all have moved */
        struct backlog_span span = backlog_span(backlog, handles[i]);
        if (is_pinned(span.layer) || tessi_place_begins_together(span.layer) ||
            tessi_moving_matters(span.layer, span.first) || !tessi_ask_fits(thief, victim, span.layer, span.first)) {
            continue;
        }
        uint64_t part;
        if (span.count == 1) {
            due += blocked ? 0 : share;
            part = due < 1 ? 0 : 1;
            due -= (double)part;
        } else if (span.first + span.count == end && cut > span.first && 8 * span.count < 9 * like &&
                   8 * like < 9 * span.count) { /* another layer's tasks, of which some have been handed out meanwhile */
            part = end - cut;
        } else {
            part = (uint64_t)(share * (double)span.count);
            end = span.first + span.count;
            like = span.count;
            cut = end - part;
        }
        if (part > 0) {
            take_last(sched, thief, victim, backlog, handles[i], part);
        }
    }
    tessi_hungry_mark(sched, victim); /* what stood before what was taken may be next */
    tessi_free(handles);
}

/* Move unassigned tasks, so that both would end at once. */
static void take_backlog(struct tessi_sched *sched, struct worker *thief, struct worker *victim, uint32_t kind)
{
    const struct load *load = &victim->load[kind];
    double share = fair_ns(thief, victim, kind) / (load->backlog_ns - load->demanding_ns);
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            struct lane *lane = session->lanes[l];
            if (lane->demand.count > 0 || kind_at(victim, lane) != kind || victim->index >= lane->capacity) {
                continue;
            }
            uint32_t largest = largest_span(&lane->backlogs[victim->index], NULL);
            const struct kept_span *span =
                largest == TESSI_MAP_NONE ? NULL : &lane->backlogs[victim->index].spans[largest];
            if (span != NULL && tessi_moving_matters(span->layer, span->first)) {
                (void)tessi_steal_from_lane(sched, thief, victim, lane, fair_ns(thief, victim, kind));
            } else if (span != NULL) {
                take_share(sched, thief, victim, lane, share < 1 ? share : 1);
            }
        }
    }
}

static bool may_ask(const struct worker *thief, const struct worker *victim, const struct sched_layer *layer,
                    uint64_t index)
{
    return tessi_supply_can_run(thief, &layer->lane->demand) && tessi_ask_may(layer, victim, index) &&
           tessi_ask_fits(thief, victim, layer, index);
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
        uint64_t here = tessi_moving_bytes(sched, layer, found->tasks[i], thief, along);
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
        (void)tessi_ask_back(sched, thief, victim, (struct task_ref){layer, task});
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
        struct sched_layer *layer = tessi_find_named(sched, given.session, given.layer);
        bool asked = layer != NULL && layer != stays_there && kind_at(victim, layer->lane) == kind;
        for (uint64_t i = given.count; asked && i-- > 0 && left > 0;) {
            if (!may_ask(thief, victim, layer, given.first + i)) {
                continue;
            }
            if (tessi_moving_matters(layer, given.first + i)) {
                if (ask_for_nearest(sched, thief, victim, layer, left) || stays_there != NULL) {
                    return;
                }
                stays_there = layer;
                break;
            }
            if (wanted_ns < 0.5 * layer->estimate_ns) {
                return;
            }
            (void)tessi_ask_back(sched, thief, victim, (struct task_ref){layer, given.first + i});
            wanted_ns -= layer->estimate_ns;
            left--;
        }
    }
}

/* What it would give first is of a layer whose data take long to move. */
static bool gives_heavy(struct tessi_sched *sched, const struct worker *victim, uint32_t kind)
{
    uint32_t looks = 0;
    for (size_t g = victim->given_count; g-- > 0;) {
        struct given given = victim->given[g];
        struct sched_layer *layer = tessi_find_named(sched, given.session, given.layer);
        bool alike = layer != NULL && kind_at(victim, layer->lane) == kind;
        for (uint64_t i = given.count; alike && i-- > 0;) {
            if (tessi_ask_may(layer, victim, given.first + i) || ++looks == LOOKS) {
                return tessi_moving_matters(layer, given.first + i);
            }
        }
    }
    return false;
}

/* The same of what it has not been given, as far as one look tells. */
static bool keeps_heavy(const struct tessi_sched *sched, const struct worker *victim, uint32_t kind)
{
    for (size_t s = 0; s < sched->session_count; s++) {
        const struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            const struct lane *lane = session->lanes[l];
            if (kind_at(victim, lane) == kind && victim->index < lane->capacity &&
                lane->backlogs[victim->index].count > 0) {
                const struct backlog *backlog = &lane->backlogs[victim->index];
                const struct kept_span *span = &backlog->spans[backlog_first(backlog)->handle];
                return tessi_moving_matters(span->layer, span->first);
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
    double least_ns = 0.5 * (tessi_load_of(most, kind) + tessi_load_of(thief, kind));
    for (uint32_t bit = 1; bit < sched->worker_count && bit != 0; bit <<= 1) {
        struct worker *worker = (thief->index ^ bit) < sched->worker_count ? sched->workers[thief->index ^ bit] : most;
        const struct load *load = &worker->load[kind];
        bool has = backlog_only ? load->backlog > load->demanding_backlog
                                : load->assigned - load->asked > load->units && !load->bare;
        if (stays(worker) && has && worth_it(thief, worker, kind) && tessi_load_of(worker, kind) > least_ns) {
            best = worker;
            least_ns = tessi_load_of(worker, kind);
        }
    }
    return best;
}

enum find { FIND_WORK, FIND_NOTHING_FOR_IT, FIND_NOTHING };

/* Work that was never handed out moves at once. Of a thief that has work but cannot begin with it, loads say less:
 * there has to be more in it, and it lasts for longer. */
static bool take_kept(struct tessi_sched *sched, struct worker *thief, uint32_t kind)
{
    struct load *load = &thief->load[kind];
    uint64_t backlog = load->backlog;
    struct worker *victim = tessi_load_most(sched, kind, true);
    bool blocked = load->backlog > load->demanding_backlog;
    if (victim == NULL || victim == thief || !worth_it(thief, victim, kind) ||
        (blocked &&
         (sched->now_ns < load->take_ns || tessi_load_of(thief, kind) > 0.4 * tessi_load_of(victim, kind)))) {
        return false;
    }
    if (!blocked && keeps_heavy(sched, victim, kind)) {
        victim = neighbour_of(sched, thief, victim, kind, true);
    }
    load->take_ns = sched->now_ns + TAKE_AGAIN_NS;
    take_backlog(sched, thief, victim, kind);
    return load->backlog > backlog;
}

static enum find steal_for(struct tessi_sched *sched, struct worker *thief, uint32_t kind)
{
    struct load *load = &thief->load[kind];
    if (load->idle && tessi_surplus_only_fetches(sched, thief, kind)) {
        load->idle = false;
        return FIND_NOTHING_FOR_IT;
    }
    if (take_kept(sched, thief, kind)) {
        return FIND_WORK;
    }
    struct worker *victim = tessi_load_most(sched, kind, false);
    if (victim == NULL || (!worth_it(thief, victim, kind) && !load->idle)) {
        return FIND_NOTHING;
    }
    uint64_t before = thief->stealing;
    if (victim != thief && gives_heavy(sched, victim, kind)) {
        if (worth_it(thief, victim, kind)) {
            victim = neighbour_of(sched, thief, victim, kind, false);
            ask_back(sched, thief, victim, kind);
        }
    } else if (victim != thief) {
        (void)tessi_surplus_ask(sched, thief, victim, kind, fair_ns(thief, victim, kind));
    }
    if (thief->stealing == before) {
        victim->load[kind].bare = true; /* until it reports again */
        tessi_load_changed(sched, victim);
        return FIND_NOTHING_FOR_IT;
    }
    return FIND_WORK;
}

static void rest(struct tessi_sched *sched, struct worker *worker, uint32_t kind, int64_t for_ns)
{
    uint32_t load = 2 * worker->index + kind;
    worker->load[kind].resting = true;
    tessi_load_changed(sched, worker);
    (void)tessi_heap_remove(&sched->resting, load);
    tessi_heap_push(&sched->resting, (uint64_t)(sched->now_ns + for_ns), load, load);
}

/* It has found nothing, or most of what it asked for had ended or begun before the victim heard of it. */
static void rest_longer(struct tessi_sched *sched, struct worker *worker, uint32_t kind)
{
    TESS_ASSERT(kind < 2);
    struct load *load = &worker->load[kind];
    rest(sched, worker, kind, REST_NS << load->misses);
    load->misses = (uint8_t)(load->misses + (load->misses < MISSES_MAX));
}

static bool nothing_runs(const struct load *load)
{
    return load->started == 0 && load->assigned > 0;
}

void tessi_steal_watch_idle(struct tessi_sched *sched, struct worker *worker)
{
    for (uint32_t kind = 0; kind < 2; kind++) {
        const struct load *load = &worker->load[kind];
        if (nothing_runs(load) && !load->resting && !load->idle) {
            rest(sched, worker, kind, REST_NS);
        }
    }
}

static void end_rests(struct tessi_sched *sched)
{
    const struct tessi_heap_entry *first;
    while ((first = tessi_heap_peek(&sched->resting)) != NULL && first->first <= (uint64_t)sched->now_ns) {
        uint32_t which = tessi_heap_pop(&sched->resting).value;
        struct worker *worker = sched->workers[which / 2];
        struct load *load = &worker->load[which % 2];
        load->resting = false;
        load->idle = nothing_runs(load);
        tessi_load_changed(sched, worker);
    }
}

/* The driest first: where no queue is long enough for it, none is for the others. What one may not run another may, so
 * a few are tried, however many there are. Who finds nothing rests, the longer the more often. */
static void balance_kind(struct tessi_sched *sched, uint32_t kind)
{
    struct worker *thief;
    uint32_t misses = 0;
    enum find found = FIND_WORK;
    while (found != FIND_NOTHING && sched->now_ns >= sched->search_ns[kind] &&
           (thief = tessi_load_driest(sched, kind)) != NULL) {
        struct load *load = &thief->load[kind];
        found = steal_for(sched, thief, kind);
        if (found == FIND_NOTHING_FOR_IT) {
            rest_longer(sched, thief, kind);
            sched->search_ns[kind] = ++misses < TRIES ? sched->search_ns[kind] : sched->now_ns + REST_NS;
        } else if (found == FIND_WORK) {
            load->misses = thief->stealing > 0 ? load->misses : 0; /* else the answers tell */
            if (load->idle) {
                rest(sched, thief, kind, REST_NS);
            }
        }
    }
}

void tessi_steal_balance(struct tessi_sched *sched)
{
    end_rests(sched);
    for (size_t w = 0; sched->demanding_backlog > 0 && w < sched->worker_count; w++) {
        tessi_steal_demanding(sched, sched->workers[w]);
    }
    balance_kind(sched, 0);
    if (sched->device_workers > 0) {
        balance_kind(sched, 1);
    }
}

static void count_answer(struct tessi_sched *sched, const struct worker *victim, const struct tessi_span *span,
                         const struct sched_layer *layer, bool given)
{
    struct worker *thief = tessi_find_worker(sched, span->worker);
    if (thief == NULL || thief->stealing_from != victim->index) {
        return;
    }
    tessi_load_changed(sched, thief);
    thief->stealing -= span->count < thief->stealing ? span->count : thief->stealing;
    if (layer != NULL) {
        struct load *load = &thief->load[kind_at(thief, layer->lane)]; /* what it is for may have changed since */
        double coming_ns = load->coming_ns - (double)span->count * layer->estimate_ns;
        load->coming_ns = coming_ns > 0 ? coming_ns : 0;
    }
    thief->stole += given ? span->count : 0;
    thief->missed += given ? 0 : span->count;
    if (thief->stealing == 0) {
        if (layer != NULL && thief->stole < thief->missed / VAIN) {
            rest_longer(sched, thief, kind_at(thief, layer->lane));
        } else if (layer != NULL) {
            thief->load[kind_at(thief, layer->lane)].misses = 0;
        }
        tessi_ask_answered(thief);
        tessi_hungry_mark(sched, thief);
    }
}

/* Why the worker has kept it, as far as it has told: reports of what started and ended come before this answer. */
static void refused(struct tessi_sched *sched, const struct worker *victim, const struct tessi_span *span,
                    const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    enum task_state state = tessi_table_state(layer, index);
    uint8_t why = TESSI_TRACE_WHY_ELSEWHERE;
    if (state == TASK_HELD || state == TASK_RELEASED) {
        why = TESSI_TRACE_WHY_DONE;
    } else if (state == TASK_ASSIGNED && task->owner == victim->index && task->epoch == span->epoch) {
        why = (task->flags & TASK_STARTED) != 0 ? TESSI_TRACE_WHY_STARTED : TESSI_TRACE_WHY_BUSY;
    }
    sched->steals_refused[why] += span->worker != 0; /* else a worker that leaves has kept it */
    tessi_ask_note_steal(sched, TESSI_TRACE_REFUSE, span->worker, victim, layer, index, 1, why);
}

static void end_ask(struct tessi_sched *sched, struct worker *victim, const struct tessi_span *span, bool given)
{
    struct sched_layer *layer = tessi_find_named(sched, span->session, span->layer);
    count_answer(sched, victim, span, layer, given);
    if (layer == NULL || span->first >= layer->tasks || span->count > layer->tasks - span->first) {
        sched->stale_reports++;
        return;
    }
    struct worker *thief = tessi_find_worker(sched, span->worker);
    for (uint64_t i = span->first; i < span->first + span->count; i++) {
        struct task_record *task = record_peek(layer, i);
        if (task == NULL || task->state != TASK_ASSIGNED || task->owner != victim->index ||
            task->epoch != span->epoch || (task->flags & TASK_STEALING) == 0) {
            sched->stale_reports++;
            if (!given) {
                refused(sched, victim, span, layer, i);
            }
        } else if (!given) {
            tessi_ask_end(victim, layer, task);
            tessi_load_changed(sched, victim);
            refused(sched, victim, span, layer, i);
        } else {
            tessi_ask_note_steal(sched, TESSI_TRACE_CONFIRM, span->worker, victim, layer, i, 1,
                                 span->worker != 0 ? TESSI_TRACE_WHY_NOTHING : TESSI_TRACE_WHY_LEAVING);
            tessi_assign_end(sched, layer, task, TASK_UNASSIGNED);
            if (span->worker != 0) { /* else it was given back by one that leaves */
                sched->steals++;
                layer->session->stats.steals++;
            }
            if (thief != NULL && stays(thief)) {
                tessi_backlog_put(sched, thief->index, (struct backlog_span){layer, i, 1, true});
            } else {
                tessi_place_task(sched, layer, i);
            }
        }
    }
}

void tessi_steal_take_answer(struct tessi_sched *sched, struct worker *victim, const struct tessi_report *report)
{
    for (size_t s = 0; s < report->stolen.count; s++) {
        end_ask(sched, victim, &report->stolen.items[s], true);
    }
    for (size_t s = 0; s < report->kept.count; s++) {
        end_ask(sched, victim, &report->kept.items[s], false);
    }
}
