/* workers: what each worker can do, has to do, and waits for.
 *
 * The books of the workers: who has been given a task and takes it back (assign.c, ask.c), how long each has to work
 * (loads.c, from the run times that history.c learns), what of its resources is free (supply.c), how fast blocks reach it
 * (network.c), who is to be looked at again (hungry.c, blocked.c), and who wants to be told where a task goes (parked.c).
 * This room keeps the books right whatever happens; whom to give what is decided above, in placement and balance. It
 * calls state and nothing else. */
#ifndef TESSI_SCHED_WORKERS_WORKERS_H
#define TESSI_SCHED_WORKERS_WORKERS_H

#include "core/sched/state/state.h"

/* assign.c: UNASSIGNED → ASSIGNED, and from there to whatever comes then, without an owner. */
void tessi_assign_task(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                       uint64_t order);
/* The copy that it has is to be the block. */
void tessi_assign_adopter(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index);
void tessi_assign_end(struct tessi_sched *sched, struct sched_layer *layer, struct task_record *task,
                      enum task_state to);

void tessi_assign_forget(struct worker *worker); /* what it has ever been given */

/* hungry.c: workers that something has changed for. */
void tessi_hungry_mark(struct tessi_sched *sched, struct worker *worker);
void tessi_hungry_room_made(struct tessi_sched *sched, struct worker *worker); /* hungry if there is enough of it */
/* `share` of the worker's window is not full. */
bool tessi_hungry_below(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind, double share);

/* loads.c: the longest queue and the shortest. */
static inline double load_units(const struct worker *worker, uint32_t kind)
{
    return worker->load[kind].units > 0 ? worker->load[kind].units : 1e-3;
}
double tessi_load_of(const struct worker *worker, uint32_t kind); /* ns until it has done all that is kept for it */
bool tessi_load_runs_dry(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind);
/* Or what it may run, or whether it is there. */
void tessi_load_changed(struct tessi_sched *sched, struct worker *worker);
/* NULL: nobody has work to give. */
struct worker *tessi_load_most(struct tessi_sched *sched, uint32_t kind, bool backlog_only);
struct worker *tessi_load_driest(struct tessi_sched *sched, uint32_t kind); /* NULL: nobody runs dry */
void tessi_load_verify(const struct tessi_sched *sched);                    /* asserts that every change has been told */
void tessi_load_fini(struct loads *loads);

/* history.c: run times. Of a task on a processor, or (kind 1) at a device. */
uint32_t tessi_history_processor(struct tessi_sched *sched, const char *name); /* found or made */
void tessi_history_record(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t processor,
                          double mean_ns);
double tessi_history_estimate(struct tessi_sched *sched, const struct tessi_layer *layer, uint64_t index,
                              uint32_t kind);
double tessi_history_guess(const struct tessi_layer *layer, uint64_t index); /* from flops and bytes alone */
/* How far the run times of the layer's tasks lie apart, those in the middle, as a part of their median; 1: not
 * known. */
double tessi_history_scatter(const struct tessi_sched *sched, const struct sched_layer *layer);
/* Such tasks have run there. */
bool tessi_history_knows(const struct tessi_sched *sched, const struct tessi_layer *layer, uint32_t kind);
/* And queues with it. */
void tessi_history_set_estimate(struct tessi_sched *sched, struct sched_layer *layer, double estimate_ns);
#define HISTORY_DEVICE "device " /* before its name, among the kinds of processor */

/* supply.c: resources that workers have and tasks demand. */
bool tessi_supply_can_run(const struct worker *worker, const struct tessi_resources *demand); /* it has all of it */
bool tessi_supply_fits(const struct worker *worker, const struct tessi_resources *demand);    /* so much is free */
/* Enough of what the layer's tasks demand is free. A task that was taken from its owner (`again`) may pass younger ones
 * that hold it: they may be waiting for it, and the worker lets the older one go first. */
bool tessi_supply_is_free(const struct worker *worker, const struct sched_layer *layer, bool again, uint64_t order);
static inline bool resources_free(const struct worker *worker, const struct sched_layer *layer, bool again,
                                  uint64_t order)
{
    return layer->lane->demand.count == 0 || tessi_supply_is_free(worker, layer, again, order);
}
void tessi_supply_take(struct worker *worker, const struct sched_layer *layer, uint64_t order);
void tessi_supply_give(struct worker *worker, const struct sched_layer *layer);

/* network.c: what moving bytes takes. */
void tessi_network_measure(struct worker *worker, const struct tessi_report *report);
double tessi_network_ns(const struct tessi_sched *sched, uint32_t from, uint32_t to, uint64_t bytes);

/* ask.c: tasks that a worker has been given and is asked to give up. */
bool tessi_ask_may(const struct sched_layer *layer, const struct worker *victim, uint64_t index);
bool tessi_ask_fits(const struct worker *thief, const struct worker *victim, const struct sched_layer *layer,
                    uint64_t index);
/* Its run time; 0: it has been asked for before. */
double tessi_ask_back(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct task_ref ref);
void tessi_ask_mark(struct worker *worker, const struct sched_layer *layer, struct task_record *task);
void tessi_ask_end(struct worker *worker, const struct sched_layer *layer, struct task_record *task); /* if it was asked */
void tessi_ask_answered(struct worker *thief); /* all that it has asked for, or it never will be */
/* For the trace. */
uint8_t tessi_ask_reason(const struct worker *thief, uint32_t kind);
void tessi_ask_note(struct tessi_sched *sched, const struct worker *thief, const struct worker *victim,
                    const struct sched_layer *layer, uint64_t index);
void tessi_ask_note_steal(struct tessi_sched *sched, enum tessi_trace_kind kind, uint32_t thief,
                          const struct worker *victim, const struct sched_layer *layer, uint64_t first, uint64_t count,
                          uint8_t why);

/* blocked.c: workers whose next task waits for an input's owner. */
bool tessi_blocked_wait(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer,
                        uint64_t index);
void tessi_blocked_end_waits(struct tessi_sched *sched, struct worker *worker);
void tessi_blocked_wake(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index);

/* parked.c: peers that want to know where a task goes. */
void tessi_parked_answer(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t owner,
                         uint32_t epoch);
/* How many tasks the peer waits to be told of; NULL: it is not known. */
uint32_t *tessi_parked_of(struct tessi_sched *sched, uint32_t peer);
void tessi_parked_remove(struct tessi_sched *sched, uint32_t peer); /* it waits for one less */
void tessi_parked_send(struct tessi_sched *sched, uint32_t peer, struct tessi_span span);
/* To a client that reads blocks of the layer, before the answer that nobody will have one. */
void tessi_parked_tell_why(struct tessi_sched *sched, uint32_t peer, const struct sched_layer *layer,
                           enum tessi_status status, const char *text);
void tessi_parked_forget_peer(struct tessi_sched *sched, uint32_t peer);
void tessi_parked_verify(const struct tessi_sched *sched);

/* expect.c: the worker's next report will need the task's record. */
void tessi_expect_task(struct worker *worker, const struct sched_layer *layer, uint64_t index,
                       const struct task_record *task);

#endif
