/* balance: who works on what next.
 *
 * Each worker is given work for a window of time from what waits for it (feed.c). One that runs dry takes from the
 * longest queue: what was never handed out (steal.c), what demands resources that lie idle (demanding.c), and what its
 * worker confirms that it has not begun (surplus.c), if moving it is worth that (moving.c). What nobody can run for too
 * long fails (unmet.c). The room calls lineage, placement, order, workers and state. */
#ifndef TESSI_SCHED_BALANCE_BALANCE_H
#define TESSI_SCHED_BALANCE_BALANCE_H

#include "core/sched/state/state.h"

/* feed.c */
void tessi_feed_workers(struct tessi_sched *sched);

/* steal.c */
void tessi_steal_balance(struct tessi_sched *sched);
void tessi_steal_take_answer(struct tessi_sched *sched, struct worker *victim, const struct tessi_report *report);
/* Nothing runs there: it may be waiting for others. */
void tessi_steal_watch_idle(struct tessi_sched *sched, struct worker *worker);
double tessi_steal_from_lane(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct lane *lane,
                             double wanted_ns);

/* demanding.c: work that demands resources. */
void tessi_steal_demanding(struct tessi_sched *sched, struct worker *thief);

/* unmet.c: fail what has waited too long for a worker that may run it. */
void tessi_unmet_check(struct tessi_sched *sched);

/* surplus.c */
/* It could begin, were its inputs not on the way. */
bool tessi_surplus_only_fetches(struct tessi_sched *sched, struct worker *worker, uint32_t kind);
/* Ask the victim for tasks worth `wanted_ns` that the thief can begin; false: it has none to spare. */
bool tessi_surplus_ask(struct tessi_sched *sched, struct worker *thief, struct worker *victim, uint32_t kind,
                       double wanted_ns);

/* moving.c: what moving a task takes. */
#define LOOKS 32 /* tasks, or runs of them, that are compared by that */
struct company { /* tasks of the same layer that go along */
    uint64_t tasks[LOOKS];
    uint32_t count;
};
/* What the task reads and is not at the thief yet, and what it makes. */
uint64_t tessi_moving_bytes(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                            const struct worker *thief, const struct company *along);
double tessi_moving_ns(const struct tessi_sched *sched, const struct worker *thief, const struct worker *victim,
                       double bytes);
/* A generator, a file or a client: all that comes later expects its blocks where they were to be. */
static inline bool is_source(const struct sched_layer *layer)
{
    return layer->layer->ninputs == 0;
}
bool tessi_moving_matters(const struct sched_layer *layer, uint64_t index); /* beside the task's run time, at the best */

#endif
