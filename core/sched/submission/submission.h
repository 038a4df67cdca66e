/* submission: whether what a client asks for is taken in, and what becomes of it then.
 *
 * A submission is checked as a whole, before anything of it is kept: against what is there and the scheduler's memory
 * (admit.c), and against the workers' room (fit.c). What is taken in gets its records, its lane, its order and its
 * place (submit.c). The room calls lineage, placement, order, workers and state. */
#ifndef TESSI_SCHED_SUBMISSION_SUBMISSION_H
#define TESSI_SCHED_SUBMISSION_SUBMISSION_H

#include "core/sched/state/state.h"

/* submit.c: owns the event's layers from then on. */
void tessi_submit(struct tessi_sched *sched, const struct tessi_sched_event *event);

/* admit.c */
enum tessi_status tessi_admit(struct tessi_sched *sched, struct session *session, const struct tessi_sched_event *event,
                              struct tessi_error *error);

/* fit.c: results and the tasks that make them, in whole blocks; `wanted`: by layer of the event. */
enum tessi_status tessi_fit_check_small_blocks(const struct tessi_sched *sched, const struct session *session,
                                               const struct tessi_sched_event *event, const bool *wanted,
                                               struct tessi_error *error);
enum tessi_status tessi_fit_check_places(const struct tessi_sched *sched, const struct session *session,
                                         const struct tessi_sched_event *event, struct tessi_error *error);

#endif
