/* explain: what the scheduler knows, for people and for tests.
 *
 * Figures for `tessera status` (status.c), why a task waits in words (explain.c), and the invariants (verify.c).
 * The room reads everything and changes nothing. */
#ifndef TESSI_SCHED_EXPLAIN_EXPLAIN_H
#define TESSI_SCHED_EXPLAIN_EXPLAIN_H

#include "core/sched/sched.h"

/* Invariants, for the simulator after every step; asserts. */
void tessi_sched_verify(const struct tessi_sched *sched);

/* --- status --- */

struct tessi_sched_worker_status {
    uint32_t id;
    const struct tessi_worker_info *info;
    uint64_t tasks_assigned, tasks_done;
    double queue_seconds;            /* estimated work assigned and not done */
    bool leaving;
    int64_t heard_ns;
    uint64_t memory_used_bytes, memory_peak_bytes, spilled_bytes;
    uint64_t fetched_bytes, served_bytes, mapped_bytes, dropped_messages;
    char resources_used[TESSI_RESOURCES_TEXT_MAX]; /* demanded by what is assigned: "license=0,ssd=1" */
    double bytes_per_second;         /* at which blocks reach it from other hosts; 0: not measured */
};
struct tessi_sched_status {
    size_t workers, sessions, layers;
    uint64_t tasks_total, tasks_done, tasks_rerun, tasks_failed, tasks_waiting; /* waiting: not done, of live layers */
    uint64_t steals, workers_joined, workers_lost, stale_reports;
    uint64_t workers_left;  /* in good order, after all that they had was looked after */
    uint64_t blocks_handed; /* by them */
    uint64_t bytes_moved; /* fetched between workers, since the start; workers that left are counted */
    uint64_t memory_used_bytes, memory_bytes; /* what is known of graphs takes, and may take; 0: no limit */
    uint64_t steals_refused[TESSI_TRACE_WHY_END]; /* tasks asked back that stayed, by reason */
};
void tessi_sched_status(const struct tessi_sched *sched, struct tessi_sched_status *status);
/* Worker number `position`, 0 … workers − 1 in order of joining. */
void tessi_sched_worker_status(const struct tessi_sched *sched, size_t position,
                               struct tessi_sched_worker_status *status);
/* The worker with that id; false when it is not there, or no longer. */
bool tessi_sched_worker_find(const struct tessi_sched *sched, uint32_t id, struct tessi_sched_worker_status *status);

struct tessi_sched_array { /* that has a name */
    uint32_t session;
    const struct tessi_layer *layer;
    uint64_t tasks, done;
};
/* Those that clients hold or wait for, newest first, `most` at most; returns how many. */
size_t tessi_sched_arrays(const struct tessi_sched *sched, struct tessi_sched_array *arrays, size_t most);

/* Why a task waits, in words, as far as the scheduler knows. */
struct tessi_sched_why {
    struct tessi_task task;
    const char *operation;
    const char *name;  /* that the user gave the array, of the layer; "": none */
    const char *state; /* "unassigned", "assigned", "running", "done", "failed" */
    uint32_t worker;   /* who knows more: to whom it was given; 0: nobody */
    char text[2048];   /* reasons, a line each */
};
/* False: there is no such task. Session 0: the first that has such a layer. */
bool tessi_sched_explain(const struct tessi_sched *sched, struct tessi_task task, struct tessi_sched_why *why);
/* The first task of the session at `position` (0, 1, …) that is needed and neither done nor running, or, where there is
 * none, that has begun and is not done: it may wait between two steps. Of several layers the one that comes first in the
 * global order. `*any`: there is such a task. `*position` moves on. False:
 * no session is there or further on. */
bool tessi_sched_first_waiting(const struct tessi_sched *sched, size_t *position, struct tessi_task *task, bool *any);

#endif
