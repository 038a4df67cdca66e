/* What the files of worker/gpu share.
 *
 *   find.c   which devices there are
 *   lane.c   a thread with a queue of jobs
 *   jobs.c   what the lanes do: copies and launches, pinned host memory
 *   gauges.c what the devices do, for people
 *   open.c   devices opened, stopped and closed
 *   gpus.c   the owner's side: names, machines, outcomes */
#ifndef TESSI_GPU_INTERNAL_H
#define TESSI_GPU_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/map.h"
#include "worker/gpu/find.h"
#include "worker/gpu/gpus.h"
#include "worker/gpu/lane.h"
#include "worker/residency/residency.h"

#define NONE UINT32_MAX
#define PIN_GRANULE ((uint64_t)16 << 20)
#define STREAM_DEPTH 8192
#define REFUSED_MAX 16 /* launches, and no block completed meanwhile: the device is given up */
#define PROBES_MAX 10  /* seconds that a step waits for memory that the device had */
#define LAUNCH_DEPTH 8 /* steps at a device at a time, at least */

enum { STREAM_IN, STREAM_COMPUTE, STREAM_OUT, STREAMS };

enum job_kind { JOB_COPY_IN, JOB_COPY_OUT, JOB_LAUNCH, JOB_NONE }; /* NONE: only its end counts */
enum pinning { UNPINNED, PINNED, REFUSED };

struct gpu {
    struct tessi_gpus *all;
    uint32_t number; /* of the kind */
    struct tessi_device *device;
    struct tessi_device_info info;
    uint64_t memory_bytes; /* at most so much is taken */
    struct tessi_stream *streams[STREAMS];
    struct tessi_lane *front, *back; /* copies in and launches; copies out */
    struct tessi_trace_ring *rings[STREAMS]; /* each written by the thread that tells its stream's ends */
    int64_t traced_ns[STREAMS];              /* likewise: when the last entry ended */
    int64_t begun_ns[STREAMS]; /* likewise: when the first of a copy's pieces began; 0: it has only one */
    struct tessi_device_gauges gauges;       /* under gauge_lock */
    uint64_t total_bytes;
    atomic_bool failed; /* nothing is submitted any more */
    /* The owner's: */
    struct tessi_residency *residency;
    struct tessi_residency_actions actions;
    bool acting;
    bool alive;
    uint64_t outstanding; /* jobs whose end has not been taken */
    void **memory;                /* by the machine's numbers */
    struct tessi_event **arrival; /* recorded after a copy in that has not been told to have ended; else NULL */
    size_t memory_capacity, arrival_capacity, block_count;
    struct tessi_event **spare; /* events */
    size_t spare_count, spare_capacity;
    uint32_t steps;  /* given to it and not ended */
    double step_ns;  /* what one takes, smoothed */
    uint64_t steps_run;
    uint32_t refused; /* launches since a block was completed */
    bool short_told;  /* that its memory is refused */
};

struct job {
    struct tessi_lane_job link;
    enum job_kind kind;
    struct gpu *gpu;
    uint32_t block; /* the machine's number */
    uint32_t step;
    void *memory;              /* device */
    struct tessi_block *host;  /* a reference */
    uint64_t bytes;
    struct tessi_event *event; /* recorded after it */
    struct tessi_event *waits[TESSI_STEP_REFS_MAX + 1];
    uint32_t wait_count;
    struct tessi_launch launch;
    struct tessi_task task; /* for the trace, as what follows */
    int64_t assigned_ns;
    /* its end */
    enum tessi_status status;
    char *text; /* owned */
    int64_t ran_ns;
};

struct name { /* a block as the machines call it */
    uint32_t handle; /* NONE: gone */
    uint32_t home;   /* the device whose machine may say that it alone has it; NONE */
    uint32_t task_at; /* the device of the task that makes it; NONE: not placed */
    bool live;
    struct tessi_task task; /* session 0: not known */
    bool lost;       /* its only bytes are, and the owner has yet to take the outcome that says so */
    uint64_t ticket; /* it has been asked for; 0: no */
};

struct run { /* a step at a device, by the machine's name of it */
    uint32_t slot, out;
    uint64_t run;
    const struct tessi_layer *layer;
    uint64_t index;
    uint32_t step, steps;
    int64_t assigned_ns;
    enum tessi_status status;
    char *text;
    int64_t ran_ns;
};

struct outcome { /* that has not been taken */
    struct tessi_gpus_outcome it;
    uint32_t name; /* LOST: whose */
};

struct tessi_gpus {
    struct tessi_gpus_config config;
    struct tessi_gpus_found found;
    struct tessi_store *store;
    struct gpu *all;
    uint32_t count;
    pthread_mutex_t lock;
    struct tessi_lane_job *ended, **ended_last; /* under the lock */
    struct tessi_lane_job *taken;               /* the owner's: jobs taken from there all at once */
    atomic_bool woken;
    struct outcome *outcomes;
    size_t outcome_first, outcome_count, outcome_capacity;
    uint32_t *name_of; /* by handle */
    size_t handle_count, handle_capacity;
    struct name *names;
    size_t name_count, name_capacity;
    uint32_t *free_names;
    size_t free_name_count, free_name_capacity;
    struct run *runs;
    size_t run_count, run_capacity;
    uint32_t *free_runs;
    size_t free_run_count, free_run_capacity;
    uint64_t tickets, given_back;
    uint64_t small_layer; /* the last one that people were told of */
    struct tessi_lane *side; /* for gauges */
    pthread_mutex_t gauge_lock;
    atomic_bool measuring;
    /* Pinned host memory: granules of the store's arena. */
    pthread_mutex_t pin_lock;
    unsigned char *base;
    uint64_t arena_bytes;
    unsigned char *pinned; /* enum pinning of each granule */
    bool pin_refused;
    uint64_t pinned_bytes;
    int64_t pinning_ns; /* that took */
};

/* jobs.c */
tessi_lane_fn tessi_gpus_job_run;
tessi_lane_idle_fn tessi_gpus_jobs_given; /* the front lane has handed over all that there is */
void tessi_gpus_job_end(struct job *job, enum tessi_status status, const char *text, int64_t ran_ns); /* any thread */
void tessi_gpus_unpin_all(struct tessi_gpus *gpus);

/* gpus.c */
void tessi_gpus_drop_ended(struct tessi_gpus *gpus); /* jobs that nobody will be told of */

/* gauges.c */
TESSI_MUST_USE enum tessi_status tessi_gpus_gauges_open(struct tessi_gpus *gpus, struct tessi_error *error);
void tessi_gpus_gauges_close(struct tessi_gpus *gpus); /* also when it was never opened */

#endif
