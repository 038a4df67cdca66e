/* A thread that hands jobs to a device one after the other, so that the worker's loop waits neither for pages to be
 * made and pinned nor for a driver. A queue without bound: what is in it is bounded by who fills it. */
#ifndef TESSI_GPU_LANE_H
#define TESSI_GPU_LANE_H

#include "core/base/status.h"

struct tessi_lane;

struct tessi_lane_job { /* the first member of each job */
    struct tessi_lane_job *next;
};

/* Run on the lane's thread; the job is the callee's from then on. */
typedef void tessi_lane_fn(void *context, struct tessi_lane_job *job);
/* Run there when there are no more jobs for now; may be NULL. */
typedef void tessi_lane_idle_fn(void *context);

TESSI_MUST_USE enum tessi_status tessi_lane_create(tessi_lane_fn *run, tessi_lane_idle_fn *idle, void *context,
                                                   struct tessi_lane **lane, struct tessi_error *error);
/* One thread pushes. What it has pushed may wait for its next kick, so that many jobs wake the lane once. */
void tessi_lane_push(struct tessi_lane *lane, struct tessi_lane_job *job);
void tessi_lane_kick(struct tessi_lane *lane);
/* Runs everything that was pushed, then ends. NULL is allowed. */
void tessi_lane_destroy(struct tessi_lane *lane);

#endif
