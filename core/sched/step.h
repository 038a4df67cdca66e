/* The parts of a step that stand on all rooms: events that come in (arrive.c, report.c, locate.c) and what goes out
 * (flush.c). Nobody but sched.c calls them. */
#ifndef TESSI_SCHED_STEP_H
#define TESSI_SCHED_STEP_H

#include "core/sched/state/state.h"

/* arrive.c */
void tessi_arrive_worker(struct tessi_sched *sched, const struct tessi_sched_event *event);
void tessi_arrive_client(struct tessi_sched *sched, uint32_t peer);
void tessi_arrive_fini_worker(struct worker *worker); /* what its record owns */

/* report.c */
void tessi_take_report(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report);

/* locate.c */
void tessi_locate(struct tessi_sched *sched, uint32_t peer, const struct tessi_span *spans, size_t count);
/* No worker is there, for so long that the session is told. */
bool tessi_locate_starves(struct tessi_sched *sched, struct session *session);
/* Of blocks that are held and were lost with the last worker. */
void tessi_locate_starve_reads(struct tessi_sched *sched);

/* flush.c: what was gathered during the step becomes actions. */
void tessi_flush(struct tessi_sched *sched);

#endif
