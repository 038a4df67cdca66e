/* What a worker has been given, has not begun, and another one could begin at once.
 *
 * A queue is no reason to take from it: of a worker whose tasks wait for each other, or for blocks that are still being
 * made elsewhere, nobody can do any part sooner. So a task is asked back only when all that it reads is there, or when
 * it follows a short chain of such tasks at the same worker, which then moves with it. And the worker keeps as many as
 * its slots will take next. Of a worker with devices the same holds for either kind of work by itself. */
#include <string.h>

#include "core/base/assert.h"
#include "core/sched/balance/balance.h"
#include "core/sched/workers/workers.h"

#define CHAIN_MAX 16     /* tasks that move together */
#define MISSES_MAX 16    /* of the youngest tasks, looked at for chains that end with them */
#define LOOKED_AT_MAX 256 /* of the oldest ones, for what is ready */
#define READY_MAX 256

struct chain {
    const struct worker *thief, *victim;
    uint32_t kind; /* of the load that it is part of at the victim */
    struct sched_layer *layer; /* of the input that is walked */
    struct task_ref items[CHAIN_MAX];
    uint32_t count, most;
    uint64_t bytes; /* that would have to follow it */
    bool good;
};

static bool may_move(const struct chain *chain, const struct sched_layer *layer, uint64_t index)
{
    return kind_at(chain->victim, layer->lane) == chain->kind && !tessi_moving_matters(layer, index) &&
           tessi_ask_may(layer, chain->victim, index) && tessi_supply_can_run(chain->thief, &layer->lane->demand) &&
           tessi_ask_fits(chain->thief, chain->victim, layer, index);
}

static void look_at_input(void *context, uint64_t index)
{
    struct chain *chain = context;
    const struct task_record *task = chain->good ? record_peek(chain->layer, index) : NULL;
    if (task == NULL || (task->state != TASK_ASSIGNED && task->state != TASK_HELD)) {
        chain->good = false;
        return;
    }
    bool asked = task->owner == chain->victim->index && (task->flags & TASK_STEALING) != 0;
    bool there = task->owner == chain->thief->index && chain->thief != chain->victim;
    if (there || asked) {
        return;
    }
    if (task->state == TASK_HELD) {
        chain->bytes += tessi_layer_block_bytes(chain->layer->layer, index);
        return;
    }
    for (uint32_t i = 0; i < chain->count; i++) {
        if (chain->items[i].layer == chain->layer && chain->items[i].index == index) {
            return;
        }
    }
    chain->good = chain->count < chain->most && may_move(chain, chain->layer, index);
    if (chain->good) {
        chain->items[chain->count++] = (struct task_ref){chain->layer, index};
    }
}

/* The task and what has to move with it; false: the thief could not begin, or it may not move. */
static bool find_chain(struct chain *chain, struct sched_layer *layer, uint64_t index)
{
    chain->count = 0;
    chain->bytes = 0;
    chain->good = may_move(chain, layer, index);
    if (chain->good) {
        chain->items[chain->count++] = (struct task_ref){layer, index};
    }
    for (uint32_t at = 0; at < chain->count && chain->good; at++) {
        const struct sched_layer *of = chain->items[at].layer;
        uint64_t which = chain->items[at].index;
        for (uint32_t i = 0; i < of->ninputs && chain->good; i++) {
            chain->layer = of->inputs[i];
            tessi_task_inputs(of->layer, i, which, look_at_input, chain);
        }
    }
    return chain->good;
}

/* What it reads gets there before the victim would come to it. */
static bool pays(const struct tessi_sched *sched, const struct chain *chain)
{
    return tessi_network_ns(sched, chain->victim->index, chain->thief->index, chain->bytes) <
           tessi_load_of(chain->victim, chain->kind);
}

/* Depth first, the last given go together with all that they wait for. */
static double ask_for_chains(struct tessi_sched *sched, struct chain *chain, struct worker *thief, struct worker *victim,
                             double wanted_ns, uint64_t left)
{
    uint32_t misses = 0;
    for (size_t g = victim->given_count; g-- > 0 && left > 0 && misses < MISSES_MAX;) {
        struct given given = victim->given[g];
        struct sched_layer *layer = tessi_find_named(sched, given.session, given.layer);
        bool alike = layer != NULL && kind_at(victim, layer->lane) == chain->kind;
        for (uint64_t i = given.count; alike && i-- > 0 && left > 0 && misses < MISSES_MAX;) {
            if (wanted_ns < 0.5 * layer->estimate_ns) {
                return wanted_ns;
            }
            if (!tessi_ask_may(layer, victim, given.first + i)) {
                continue;
            }
            if (!find_chain(chain, layer, given.first + i) || chain->count > left || !pays(sched, chain)) {
                misses++;
                continue;
            }
            for (uint32_t c = 0; c < chain->count; c++) {
                wanted_ns -= tessi_ask_back(sched, thief, victim, chain->items[c]);
            }
            left -= chain->count;
            misses = 0;
        }
    }
    return wanted_ns;
}

static bool with(const struct sched_layer *layer, const struct worker *worker, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    return task != NULL && task->state == TASK_ASSIGNED && task->owner == worker->index;
}

/* The front of the list, as far as it has ended, is not gone through again. */
static void trim(struct tessi_sched *sched, struct worker *worker)
{
    size_t gone = 0;
    while (gone < worker->given_count) {
        struct given *given = &worker->given[gone];
        const struct sched_layer *layer = tessi_find_named(sched, given->session, given->layer);
        uint64_t first = given->first, count = layer == NULL ? 0 : given->count;
        while (count > 0 && !with(layer, worker, first)) {
            first++;
            count--;
        }
        if (count > 0) {
            given->first = first & (GIVEN_FIRST_MAX - 1);
            given->count = count & (GIVEN_COUNT_MAX - 1);
            break;
        }
        gone++;
    }
    worker->given_count -= gone;
    if (gone > 0 && worker->given_count > 0) {
        memmove(worker->given, worker->given + gone, worker->given_count * sizeof *worker->given);
    }
}

/* What could begin now, oldest first. */
static uint32_t find_ready(struct tessi_sched *sched, struct chain *chain, struct worker *victim,
                           struct task_ref *ready, uint32_t most)
{
    uint32_t count = 0, looked_at = 0;
    trim(sched, victim);
    chain->most = 1;
    for (size_t g = 0; g < victim->given_count && looked_at < LOOKED_AT_MAX; g++) {
        struct given given = victim->given[g];
        struct sched_layer *layer = tessi_find_named(sched, given.session, given.layer);
        bool alike = layer != NULL && kind_at(victim, layer->lane) == chain->kind;
        for (uint64_t i = 0; alike && i < given.count && looked_at < LOOKED_AT_MAX && count < most; i++) {
            looked_at++;
            if (find_chain(chain, layer, given.first + i) && (chain->thief == victim || pays(sched, chain))) {
                ready[count++] = chain->items[0];
            }
        }
    }
    return count;
}

bool tessi_surplus_only_fetches(struct tessi_sched *sched, struct worker *worker, uint32_t kind)
{
    struct chain chain = {.thief = worker, .victim = worker, .kind = kind};
    struct task_ref ready[1];
    return find_ready(sched, &chain, worker, ready, 1) > 0;
}

bool tessi_surplus_ask(struct tessi_sched *sched, struct worker *thief, struct worker *victim, uint32_t kind,
                       double wanted_ns)
{
    TESS_ASSERT(thief != victim && kind < 2);
    const struct load *load = &victim->load[kind];
    struct chain chain = {.thief = thief, .victim = victim, .kind = kind, .most = CHAIN_MAX};
    struct task_ref ready[READY_MAX];
    uint64_t before = thief->stealing, units = load->units;
    uint64_t has = load->assigned - load->asked;
    if (has > units && wanted_ns > 0) {
        wanted_ns = ask_for_chains(sched, &chain, thief, victim, wanted_ns, has - units);
    }
    if (has <= units || thief->stealing > before) {
        return thief->stealing > before;
    }
    uint32_t count = find_ready(sched, &chain, victim, ready, READY_MAX);
    uint64_t keep = units > load->started ? units - load->started : 0;
    uint64_t surplus = count > keep ? count - keep : 0;
    if (thief->load[kind].idle && surplus > 0 && wanted_ns < ready[count - 1].layer->estimate_ns) {
        wanted_ns = ready[count - 1].layer->estimate_ns * (double)((surplus + 1) / 2);
    }
    for (; surplus > 0; surplus--) {
        struct task_ref ref = ready[--count];
        if (wanted_ns < 0.5 * ref.layer->estimate_ns) {
            break;
        }
        wanted_ns -= tessi_ask_back(sched, thief, victim, ref);
    }
    return thief->stealing > before;
}
