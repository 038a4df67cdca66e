/* recovery: who owns a block when its owner cannot.
 *
 * A worker is lost (loss.c): a copy becomes the block, or the task runs again. One leaves in good order (leave.c) or is
 * full (relief.c): others take its blocks over (hand_over.c). A layer with a long past gets a second owner for each block
 * and forgets the past (keep.c). receiver.c says whom to ask. The room calls lineage, placement, workers and state. */
#ifndef TESSI_SCHED_RECOVERY_RECOVERY_H
#define TESSI_SCHED_RECOVERY_RECOVERY_H

#include "core/sched/state/state.h"

/* loss.c */
void tessi_loss_of_worker(struct tessi_sched *sched, struct worker *worker);
/* Its owner has it no more. */
void tessi_loss_of_block(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);

/* leave.c */
void tessi_leave_begin(struct tessi_sched *sched, struct worker *worker, int64_t wait_ns);
void tessi_leave_continue(struct tessi_sched *sched); /* those that have nothing left, or no time */
/* When tessi_leave_continue has something to do; INT64_MAX: never. */
int64_t tessi_leave_next_ns(const struct tessi_sched *sched);

/* hand_over.c */
#define HAND_OVER_LEAVING UINT64_MAX /* the order of one that no task waits for */
/* A HELD block, if its owner leaves. */
void tessi_hand_over(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* A HELD block, for the task of this order, which has no room where the block is; nothing if nobody may take it. */
void tessi_hand_over_for(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint64_t order);
/* A report of a block taken over, or not; false: it is not about that. */
bool tessi_hand_over_take(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                          const struct tessi_span *span, bool adopted);
void tessi_hand_over_elsewhere(struct tessi_sched *sched, struct worker *worker); /* what `worker` was to take over */

/* keep.c: layers whose past is forgotten, since each of their blocks has two owners. */
void tessi_keep_consider(struct tessi_sched *sched, struct sched_layer *layer); /* wanted, and complete now */
void tessi_keep_ask_detach(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count);
void tessi_keep_continue(struct tessi_sched *sched); /* before layers are swept */
/* The block's owner is gone, or goes: the second one owns it now. False: there is none. */
bool tessi_keep_takes_over(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* Somebody has been asked to own it too, and has not said so: he is asked to be its only owner, in the same words. */
bool tessi_keep_hand_on(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t *to,
                        uint32_t *epoch);
void tessi_keep_make_room(struct tessi_sched *sched);                              /* somebody starves */
void tessi_keep_forget_worker(struct tessi_sched *sched, struct worker *worker); /* lost, or about to leave */
/* A report of a block taken over, or not, or lost by its second owner; false: it is not about that. */
bool tessi_keep_take_second(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                            const struct tessi_span *span, bool adopted);
void tessi_keep_lose_for_good(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_keep_verify(const struct tessi_sched *sched);
void tessi_keep_verify_layer(const struct tessi_sched *sched, const struct sched_layer *layer);

/* relief.c: workers that are full. */
void tessi_relief_take_starving(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report);
void tessi_relief_end_starving(struct tessi_sched *sched, struct worker *worker);
void tessi_relief_give(struct tessi_sched *sched);
void tessi_relief_again(struct tessi_sched *sched); /* now and then: who had no room may have some, or nobody ever will */

/* receiver.c: a worker that is to own a block which others have: one with a copy, else the one with most room of a few, in
 * turns. NO_WORKER: none may. */
typedef bool may_receive_fn(const struct tessi_sched *sched, const struct worker *worker, const void *what);
uint32_t tessi_receiver_choose(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                               may_receive_fn *may, const void *what);

#endif
