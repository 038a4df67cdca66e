#include "worker/residency/residency.h"

#include <stdlib.h>
#include <string.h>

#include "worker/residency/internal.h"

/* ——— helpers ——— */

struct tessi_residency_action *tessi_residency_act(struct tessi_residency *r, enum tessi_residency_action_kind kind)
{
    struct tessi_residency_actions *actions = r->actions;
    tessi_grow(&actions->items, &actions->capacity, actions->count + 1, sizeof *actions->items);
    struct tessi_residency_action *action = &actions->items[actions->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    action->block = action->handle = action->step = NONE;
    return action;
}

uint32_t tessi_residency_pool_take(struct pool *pool, size_t size)
{
    uint32_t id;
    if (pool->free_count > 0) {
        id = pool->free[--pool->free_count];
    } else {
        id = (uint32_t)pool->count;
        tessi_grow(&pool->items, &pool->capacity, ++pool->count, size);
    }
    memset((char *)pool->items + id * size, 0, size);
    return id;
}

void tessi_residency_pool_give(struct pool *pool, uint32_t id)
{
    tessi_grow(&pool->free, &pool->free_capacity, pool->free_count + 1, sizeof *pool->free);
    pool->free[pool->free_count++] = id;
}

static struct tessi_map_key step_key(uint32_t name)
{
    return (struct tessi_map_key){0, name};
}

static void act_on_handle(struct tessi_residency *r, enum tessi_residency_action_kind kind, uint32_t handle)
{
    tessi_residency_act(r, kind)->handle = handle;
}

/* ——— outputs with waiting steps ——— */

static void head_append(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    record->head_prev = r->heads.last;
    record->head_next = NONE;
    if (r->heads.last != NONE) {
        record_at(r, r->heads.last)->head_next = id;
    } else {
        r->heads.first = id;
    }
    r->heads.last = id;
}

static void head_remove(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    if (record->head_prev != NONE) {
        record_at(r, record->head_prev)->head_next = record->head_next;
    } else {
        r->heads.first = record->head_next;
    }
    if (record->head_next != NONE) {
        record_at(r, record->head_next)->head_prev = record->head_prev;
    } else {
        r->heads.last = record->head_prev;
    }
}

static void need(struct tessi_residency *r, uint32_t id)
{
    record_at(r, id)->needed++;
    tessi_residency_settle(r, id);
}

/* The step's references become pins. */
static void pin_all(struct tessi_residency *r, const struct step *step)
{
    for (uint32_t i = 0; i <= step->in_count; i++) {
        uint32_t id = i < step->in_count ? step->in[i] : step->out;
        record_at(r, id)->needed--;
        record_at(r, id)->pins++;
        tessi_residency_settle(r, id);
    }
}

static void unpin_all(struct tessi_residency *r, const struct step *step)
{
    for (uint32_t i = 0; i <= step->in_count; i++) {
        uint32_t id = i < step->in_count ? step->in[i] : step->out;
        record_at(r, id)->pins--;
        tessi_residency_settle(r, id);
    }
}

static void step_enqueue(struct tessi_residency *r, uint32_t id)
{
    struct step *step = step_at(r, id);
    struct record *out = record_at(r, step->out);
    step->state = STEP_WAITING;
    step->next = NONE;
    r->waiting++;
    if (out->step_last != NONE) {
        step_at(r, out->step_last)->next = id;
    } else {
        out->step_first = id;
        head_append(r, step->out);
    }
    out->step_last = id;
    for (uint32_t i = 0; i < step->in_count; i++) {
        need(r, step->in[i]);
    }
    need(r, step->out);
}

/* Take the first waiting step of its output out of the queue. */
static void step_dequeue(struct tessi_residency *r, uint32_t id)
{
    struct step *step = step_at(r, id);
    struct record *out = record_at(r, step->out);
    TESS_ASSERT(out->step_first == id && step->state == STEP_WAITING);
    out->step_first = step->next;
    if (step->next == NONE) {
        out->step_last = NONE;
        head_remove(r, step->out);
    }
    r->waiting--;
}

static void step_destroy(struct tessi_residency *r, uint32_t id)
{
    struct step *step = step_at(r, id);
    (void)tessi_map_remove(&r->step_of, step_key(step->name));
    step->state = STEP_FREE;
    tessi_residency_pool_give(&r->steps, id);
}

static void done(struct tessi_residency *r, uint32_t name, enum tessi_status status, bool elsewhere)
{
    struct tessi_residency_action *action = tessi_residency_act(r, TESSI_RESIDENCY_DONE);
    action->step = name;
    action->status = status;
    action->elsewhere = elsewhere;
    r->stats.given_back += elsewhere ? 1 : 0;
}

/* ——— choosing ——— */

static bool may_run(const struct tessi_residency *r, const struct step *step, bool idle)
{
    const struct record *out = record_at(r, step->out);
    bool behind_claim = r->claim != NONE && step_at(r, r->claim)->out == step->out;
    if (out->state == LEAVING || behind_claim) {
        return false;
    }
    bool begins = step->first && !step->last && !out->accumulating;
    return !begins || idle || r->accumulating_bytes == 0 ||
           r->accumulating_bytes + out->charge <= TESSI_RESIDENCY_ACCUMULATORS(r->capacity_bytes);
}

/* Bytes to be copied before the step can run; `whole`: all its blocks have memory. */
static uint64_t missing_bytes(const struct tessi_residency *r, const struct step *step, bool *whole)
{
    uint64_t missing = 0;
    *whole = true;
    for (uint32_t i = 0; i < step->in_count; i++) {
        const struct record *in = record_at(r, step->in[i]);
        if (!record_here(in)) {
            missing += in->charge;
            *whole = false;
        }
    }
    const struct record *out = record_at(r, step->out);
    if (!record_here(out)) {
        missing += step->first ? 0 : out->charge;
        *whole = false;
    }
    return missing;
}

/* The waiting step with the fewest bytes to be copied, among equals the one that came first. Only steps whose
 * blocks are all here when `whole_only`; more accumulators than there should be when `idle`. */
static uint32_t choose(const struct tessi_residency *r, bool whole_only, bool *chosen_whole, bool idle)
{
    uint32_t chosen = NONE;
    uint64_t chosen_missing = 0;
    for (uint32_t head = r->heads.first; head != NONE; head = record_at(r, head)->head_next) {
        uint32_t id = record_at(r, head)->step_first;
        const struct step *step = step_at(r, id);
        bool whole;
        uint64_t missing = missing_bytes(r, step, &whole);
        if ((whole_only && !whole) || !may_run(r, step, idle)) {
            continue;
        }
        bool better = chosen == NONE || missing < chosen_missing ||
                      (missing == chosen_missing && step->arrival < step_at(r, chosen)->arrival);
        if (better) {
            chosen = id;
            chosen_missing = missing;
            *chosen_whole = whole;
        }
    }
    return chosen;
}

/* ——— launching ——— */

/* All blocks of the step are here and pinned. */
static void launch(struct tessi_residency *r, uint32_t id)
{
    struct step *step = step_at(r, id);
    struct record *out = record_at(r, step->out);
    struct tessi_residency_action *action = tessi_residency_act(r, TESSI_RESIDENCY_LAUNCH);
    action->step = step->name;
    action->out = step->out;
    action->in_count = step->in_count;
    memcpy(action->in, step->in, step->in_count * sizeof step->in[0]);
    if (!out->accumulating && !step->last) {
        out->accumulating = true;
        r->accumulating_bytes += out->charge;
    }
    out->state = DIRTY; /* of what a copy in that is under way brings, too: the launch comes after it */
    step->state = STEP_LAUNCHED;
    step->launch = r->launches++;
    r->launched++;
}

static void copy_in(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    struct tessi_residency_action *action = tessi_residency_act(r, TESSI_RESIDENCY_COPY_IN);
    action->block = id;
    action->handle = record->handle;
    action->bytes = record->bytes;
    r->stats.copied_in_bytes += record->bytes;
    record->state = COMING;
    record->copying = true;
    r->coming++;
}

/* Every block of the claim has memory. */
static void claim_complete(struct tessi_residency *r)
{
    uint32_t id = r->claim;
    struct step *step = step_at(r, id);
    for (uint32_t i = 0; i < step->in_count; i++) {
        if (record_at(r, step->in[i])->state == CLAIMED) {
            copy_in(r, step->in[i]);
        }
    }
    struct record *out = record_at(r, step->out);
    if (out->state == CLAIMED && !step->first) {
        copy_in(r, step->out);
    }
    r->claim = NONE;
    launch(r, id);
}

/* The step and the others of its output cannot run here. */
static void give_back(struct tessi_residency *r, uint32_t id)
{
    struct step *step = step_at(r, id);
    uint32_t out_id = step->out;
    struct record *out = record_at(r, out_id);
    uint32_t next = out->step_first;
    out->needed++; /* it stays until all of them are gone */
    done(r, step->name, TESSI_NOMEM, true);
    unpin_all(r, step);
    step_destroy(r, id);
    for (id = next; id != NONE; id = next) {
        step = step_at(r, id);
        next = step->next;
        done(r, step->name, TESSI_NOMEM, true);
        step_dequeue(r, id);
        pin_all(r, step);
        unpin_all(r, step);
        step_destroy(r, id);
    }
    tessi_residency_end_accumulating(r, out);
    out->needed--;
    /* What it holds is worth nothing now. */
    if ((out->state == CLEAN || out->state == DIRTY) && out->pins == 0 && !out->copying) {
        tessi_residency_release(r, out_id);
    } else {
        tessi_residency_settle(r, out_id);
    }
}

#define ALONE_TRIES 3 /* before it waits for a probe: an allocation may be refused by chance */

/* Ask for what the claim lacks, as soon as the ledger has room; false: it must wait. */
static bool claim_ask(struct tessi_residency *r)
{
    struct step *step = step_at(r, r->claim);
    uint64_t bytes = 0;
    r->mark++;
    for (uint32_t i = 0; i <= step->in_count; i++) {
        struct record *record = record_at(r, i < step->in_count ? step->in[i] : step->out);
        if (record->state == ABSENT && record->mark != r->mark) {
            record->mark = r->mark;
            bytes += record->charge;
        }
    }
    enum room room = tessi_residency_make_room(r, bytes + r->claim_squeeze);
    if (room == ROOM_LATER) {
        return false;
    }
    if (room == ROOM_NEVER && r->claim_squeeze > 0 && r->config.patience > 0) {
        /* Nothing is left to take back, and yet it refused: there is less than the ledger thinks. */
        r->claim_squeeze = 0;
        r->capacity_bytes = r->used_bytes;
        r->stats.shrinks++;
    }
    bool fitted = r->capacity_bytes < r->config.memory_bytes && r->used_bytes + bytes <= r->config.memory_bytes;
    if (room == ROOM_NEVER && fitted && r->probes < r->config.patience && r->starved < r->config.patience) {
        if (r->claim_alone == ALONE_TRIES) {
            return false; /* until a probe has brought capacity back */
        }
        r->claim_alone++; /* nothing else is there: just what it needs may be had at once */
        r->capacity_bytes = r->used_bytes + bytes;
        room = ROOM;
    }
    if (room == ROOM_NEVER) {
        uint32_t id = r->claim;
        r->claim = NONE;
        give_back(r, id);
        return true;
    }
    r->claim_squeeze = 0;
    r->claim_short = 0;
    for (uint32_t i = 0; i <= step->in_count; i++) {
        uint32_t id = i < step->in_count ? step->in[i] : step->out;
        struct record *record = record_at(r, id);
        if (record->state == ABSENT) {
            struct tessi_residency_action *action = tessi_residency_act(r, TESSI_RESIDENCY_ALLOC);
            action->block = id;
            action->bytes = record->charge;
            record->state = CLAIMED;
            r->used_bytes += record->charge;
            r->claim_asked++;
        }
    }
    r->peak_bytes = r->used_bytes > r->peak_bytes ? r->used_bytes : r->peak_bytes;
    if (r->claim_asked == 0) {
        claim_complete(r);
    }
    return true;
}

static void claim_begin(struct tessi_residency *r, uint32_t id)
{
    struct step *step = step_at(r, id);
    step_dequeue(r, id);
    step->state = STEP_CLAIMING;
    for (uint32_t i = 0; i < step->in_count; i++) {
        bool here = record_here(record_at(r, step->in[i]));
        r->stats.hits += here ? 1 : 0;
        r->stats.misses += here ? 0 : 1;
    }
    pin_all(r, step);
    r->claim = id;
    r->claim_refused = 0;
    r->claim_alone = 0;
    r->claim_squeeze = 0;
}

static void advance(struct tessi_residency *r)
{
    bool waits = false; /* the claim waits for room: only steps that need none go before it */
    while (!r->broken && r->launched < r->depth && r->claim_asked == 0) {
        if (r->claim != NONE && !waits) {
            waits = !claim_ask(r);
            continue;
        }
        bool whole = false;
        uint32_t id = choose(r, waits, &whole, false);
        if (id == NONE && r->launched == 0 && r->leaving == 0 && r->claim == NONE) {
            /* Those that have begun may wait for what these make. */
            id = choose(r, false, &whole, true);
        }
        if (id == NONE) {
            break;
        }
        if (!waits) {
            claim_begin(r, id);
            continue;
        }
        struct step *step = step_at(r, id);
        step_dequeue(r, id);
        r->stats.hits += step->in_count;
        pin_all(r, step);
        launch(r, id);
    }
    if (!r->broken && r->leaving == 0 && r->used_bytes > TESSI_RESIDENCY_WRITE_AHEAD(r->capacity_bytes) &&
        r->lists[DIRTY_IDLE].first != NONE) {
        tessi_residency_write_back(r, r->lists[DIRTY_IDLE].first, false);
    }
}

/* ——— events ——— */

static void on_step(struct tessi_residency *r, const struct tessi_residency_event *event)
{
    if (r->broken) {
        done(r, event->step, TESSI_LOST, true);
        return;
    }
    TESS_ASSERT(event->in_count <= TESSI_STEP_REFS_MAX);
    uint32_t id = tessi_residency_pool_take(&r->steps, sizeof(struct step));
    uint32_t out = tessi_residency_record(r, event->out, event->out_bytes);
    struct step *step = step_at(r, id);
    record_at(r, out)->spoiled = record_at(r, out)->spoiled && !event->first;
    step->name = event->step;
    step->arrival = r->clock++;
    step->out = out;
    step->first = event->first;
    step->last = event->last;
    step->in_count = event->in_count;
    for (uint32_t i = 0; i < event->in_count; i++) {
        step->in[i] = tessi_residency_record(r, event->in[i], event->in_bytes[i]);
        TESS_ASSERT(step->in[i] != out && !record_at(r, step->in[i])->accumulating);
    }
    TESS_ASSERT(tessi_map_get(&r->step_of, step_key(event->step)) == TESSI_MAP_NONE);
    tessi_map_put(&r->step_of, step_key(event->step), id);
    step_enqueue(r, id);
}

/* Less is taken from now on, by an eighth and what the step's output needs; once for all launches that were under way. */
static void shrink_for(struct tessi_residency *r, const struct step *step)
{
    if (step->launch < r->shrunk_at) {
        return;
    }
    uint64_t capacity = r->used_bytes < r->capacity_bytes ? r->used_bytes : r->capacity_bytes;
    uint64_t less = capacity / 8 + record_at(r, step->out)->charge;
    r->capacity_bytes = capacity > less ? capacity - less : 0;
    r->shrunk_at = r->launches;
    r->stats.shrinks++;
}

/* Steps of the output that are not at the device are given back now; those that are, when they have ended. */
static void spoil(struct tessi_residency *r, uint32_t out_id)
{
    struct record *out = record_at(r, out_id);
    out->spoiled = true;
    if (r->claim != NONE && step_at(r, r->claim)->out == out_id) {
        struct step *step = step_at(r, r->claim);
        TESS_ASSERT(r->claim_asked == 0);
        done(r, step->name, TESSI_CANCELLED, true);
        unpin_all(r, step);
        step_destroy(r, r->claim);
        r->claim = NONE;
    }
    while (out->step_first != NONE) {
        uint32_t id = out->step_first;
        struct step *step = step_at(r, id);
        done(r, step->name, TESSI_CANCELLED, true);
        step_dequeue(r, id);
        pin_all(r, step);
        unpin_all(r, step);
        step_destroy(r, id);
    }
}

static void on_ran(struct tessi_residency *r, const struct tessi_residency_event *event)
{
    uint32_t id = tessi_map_get(&r->step_of, step_key(event->step));
    TESS_ASSERT(id != TESSI_MAP_NONE && step_at(r, id)->state == STEP_LAUNCHED);
    struct step *step = step_at(r, id);
    uint32_t out_id = step->out;
    struct record *out = record_at(r, out_id);
    if (event->status == TESSI_NOMEM) {
        shrink_for(r, step); /* while its output is pinned, so that it stays */
        r->starved++;
    }
    if (event->status == TESSI_NOMEM || event->status == TESSI_BUSY) {
        spoil(r, out_id);
    }
    bool spoiled = out->spoiled;
    r->starved = step->last && !spoiled ? 0 : r->starved;
    r->launched--;
    if (step->last || spoiled) {
        tessi_residency_end_accumulating(r, out);
    }
    out->needed++; /* it stays until it has been looked at */
    unpin_all(r, step);
    step_destroy(r, id);
    done(r, event->step, spoiled ? TESSI_CANCELLED : event->status, spoiled);
    out->needed--;
    if (spoiled && out->pins == 0 && (out->state == CLEAN || out->state == DIRTY) && !out->copying) {
        tessi_residency_release(r, out_id); /* what it holds is worth nothing */
    } else {
        tessi_residency_settle(r, out_id);
    }
}

static void on_memory(struct tessi_residency *r, uint32_t id, bool got)
{
    struct record *record = record_at(r, id);
    TESS_ASSERT(record->state == CLAIMED && r->claim != NONE && r->claim_asked > 0);
    if (!got) {
        record->state = ABSENT;
        r->used_bytes -= record->charge;
        r->claim_short += record->charge;
    }
    if (--r->claim_asked > 0) {
        return;
    }
    struct step *step = step_at(r, r->claim);
    if (r->claim_short == 0) {
        r->probes = 0;
        claim_complete(r);
        return;
    }
    /* What was got is given back until all of it can be had, so that `make_room` sees one request. */
    for (uint32_t i = 0; i <= step->in_count; i++) {
        uint32_t other = i < step->in_count ? step->in[i] : step->out;
        struct record *block = record_at(r, other);
        if (block->state == CLAIMED) {
            struct tessi_residency_action *action = tessi_residency_act(r, TESSI_RESIDENCY_FREE);
            action->block = other;
            action->bytes = block->charge;
            r->used_bytes -= block->charge;
            block->state = ABSENT;
        }
    }
    if (r->claim_refused++ > 0) {
        /* Taking back as much as was missing did not help: there is less than the ledger thinks. */
        r->capacity_bytes = r->used_bytes;
        r->stats.shrinks++;
    } else {
        r->claim_squeeze = r->capacity_bytes - r->used_bytes;
    }
}

static void on_copied_in(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    TESS_ASSERT(record->live && record->copying);
    record->copying = false;
    r->coming--;
    if (record->state == COMING) {
        record->state = CLEAN;
    }
    tessi_residency_settle(r, id);
}

static void on_copied_out(struct tessi_residency *r, uint32_t id)
{
    struct record *record = record_at(r, id);
    TESS_ASSERT(record->live && record->state == LEAVING);
    record->state = CLEAN;
    r->leaving--;
    r->leaving_bytes -= record->evict ? record->charge : 0;
    bool evict = record->evict && record->pins == 0 && record->needed == 0 && !record->copying && !record->doomed;
    record->evict = false;
    if (record->wanted) {
        record->wanted = false;
        act_on_handle(r, TESSI_RESIDENCY_HOST_READY, record->handle);
    }
    if (evict) {
        r->stats.evictions++;
        tessi_residency_release(r, id);
    } else {
        tessi_residency_settle(r, id);
    }
}

static void on_wanted(struct tessi_residency *r, uint32_t handle)
{
    uint32_t id = tessi_residency_find(r, handle);
    struct record *record = id == NONE ? NULL : record_at(r, id);
    if (record == NULL || (record->state != DIRTY && record->state != LEAVING)) {
        act_on_handle(r, TESSI_RESIDENCY_HOST_READY, handle);
        return;
    }
    TESS_ASSERT(!record->accumulating);
    record->wanted = true;
    if (record->state == DIRTY) {
        tessi_residency_write_back(r, id, false);
    }
}

static void on_forget(struct tessi_residency *r, uint32_t handle)
{
    uint32_t id = tessi_residency_find(r, handle);
    if (id == NONE) {
        return;
    }
    struct record *record = record_at(r, id);
    TESS_ASSERT(record->pins == 0 && record->needed == 0);
    tessi_residency_end_accumulating(r, record);
    r->by_handle[handle] = NONE;
    record->doomed = true;
    record->wanted = false;
    tessi_residency_settle(r, id);
}

/* The next refusal shrinks the capacity again; asking costs little. */
static void on_probe(struct tessi_residency *r)
{
    uint64_t whole = r->config.memory_bytes;
    if (r->broken || r->capacity_bytes == whole) {
        return;
    }
    uint64_t more = r->capacity_bytes > whole / 8 ? r->capacity_bytes * 2 : whole / 4;
    r->capacity_bytes = more < whole ? more : whole;
    r->probes += r->claim != NONE ? 1 : 0;
    r->claim_refused = 0;
    r->claim_alone = 0;
}

static int by_arrival(const void *a, const void *b)
{
    const struct step *x = *(struct step *const *)a;
    const struct step *y = *(struct step *const *)b;
    return x->arrival < y->arrival ? -1 : 1;
}

static void on_broken(struct tessi_residency *r)
{
    struct step **steps = tessi_alloc((r->steps.count + 1) * sizeof *steps);
    size_t count = 0;
    for (uint32_t i = 0; i < r->steps.count; i++) {
        if (step_at(r, i)->state != STEP_FREE) {
            steps[count++] = step_at(r, i);
        }
    }
    qsort(steps, count, sizeof *steps, by_arrival);
    for (size_t i = 0; i < count; i++) {
        done(r, steps[i]->name, TESSI_LOST, true);
    }
    tessi_free(steps);
    for (uint32_t i = 0; i < r->records.count; i++) {
        const struct record *record = record_at(r, i);
        bool only = record->live && !record->doomed && !record->accumulating;
        if (only && (record->state == DIRTY || record->state == LEAVING)) {
            act_on_handle(r, TESSI_RESIDENCY_LOST, record->handle);
        }
    }
    r->records.count = r->records.free_count = r->steps.count = r->steps.free_count = 0;
    r->handle_count = 0;
    tessi_map_clear(&r->step_of);
    for (int list = 0; list < LISTS; list++) {
        r->lists[list] = (struct ends){NONE, NONE};
    }
    r->heads = (struct ends){NONE, NONE};
    r->used_bytes = r->accumulating_bytes = r->leaving_bytes = 0;
    r->launched = r->waiting = r->coming = r->leaving = r->claim_asked = 0;
    r->claim = NONE;
    r->stats.blocks = 0;
    r->broken = true;
}

void tessi_residency_step(struct tessi_residency *r, const struct tessi_residency_event *event,
                          struct tessi_residency_actions *actions)
{
    r->actions = actions;
    bool answer = event->kind == TESSI_RESIDENCY_RAN || event->kind == TESSI_RESIDENCY_ALLOCATED ||
                  event->kind == TESSI_RESIDENCY_NO_MEMORY || event->kind == TESSI_RESIDENCY_COPIED_IN ||
                  event->kind == TESSI_RESIDENCY_COPIED_OUT;
    if (r->broken && answer) {
        return;
    }
    switch (event->kind) {
    case TESSI_RESIDENCY_STEP:
        on_step(r, event);
        break;
    case TESSI_RESIDENCY_RAN:
        on_ran(r, event);
        break;
    case TESSI_RESIDENCY_ALLOCATED:
        on_memory(r, event->block, true);
        break;
    case TESSI_RESIDENCY_NO_MEMORY:
        on_memory(r, event->block, false);
        break;
    case TESSI_RESIDENCY_COPIED_IN:
        on_copied_in(r, event->block);
        break;
    case TESSI_RESIDENCY_COPIED_OUT:
        on_copied_out(r, event->block);
        break;
    case TESSI_RESIDENCY_WANTED:
        on_wanted(r, event->handle);
        break;
    case TESSI_RESIDENCY_FORGET:
        on_forget(r, event->handle);
        break;
    case TESSI_RESIDENCY_PROBE:
        on_probe(r);
        break;
    case TESSI_RESIDENCY_BROKEN:
        on_broken(r);
        break;
    }
    advance(r);
    r->actions = NULL;
}

/* ——— outside ——— */

struct tessi_residency *tessi_residency_create(const struct tessi_residency_config *config)
{
    struct tessi_residency *r = tessi_zalloc(sizeof *r);
    r->config = *config;
    tessi_residency_set_depth(r, config->depth);
    r->capacity_bytes = config->memory_bytes;
    r->claim = NONE;
    r->heads = (struct ends){NONE, NONE};
    for (int list = 0; list < LISTS; list++) {
        r->lists[list] = (struct ends){NONE, NONE};
    }
    tessi_map_init(&r->step_of);
    return r;
}

void tessi_residency_destroy(struct tessi_residency *r)
{
    if (r == NULL) {
        return;
    }
    tessi_map_fini(&r->step_of);
    tessi_free(r->records.items);
    tessi_free(r->records.free);
    tessi_free(r->steps.items);
    tessi_free(r->steps.free);
    tessi_free(r->by_handle);
    tessi_free(r);
}

void tessi_residency_set_depth(struct tessi_residency *r, uint32_t depth)
{
    TESS_ASSERT(depth > 0);
    r->depth = depth;
    r->depth_peak = depth > r->depth_peak ? depth : r->depth_peak;
}

bool tessi_residency_dirty(const struct tessi_residency *r, uint32_t handle)
{
    uint32_t id = tessi_residency_find(r, handle);
    return id != NONE && (record_at(r, id)->state == DIRTY || record_at(r, id)->state == LEAVING);
}

void tessi_residency_stats(const struct tessi_residency *r, struct tessi_residency_stats *stats)
{
    *stats = r->stats;
    stats->capacity_bytes = r->capacity_bytes;
    stats->used_bytes = r->used_bytes;
    stats->peak_bytes = r->peak_bytes;
    stats->waiting = r->waiting;
    stats->launched = r->launched;
}
