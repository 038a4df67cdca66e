/* A worker, what it has been given, and what a step has for it. */
#ifndef TESSI_SCHED_STATE_WORKER_H
#define TESSI_SCHED_STATE_WORKER_H

#include "core/base/map.h"
#include "core/sched/sched.h"
#include "core/sched/state/session.h"

struct given { /* 16 bytes, since there is one for each live task where tasks of several layers take turns */
    uint32_t session, layer;
    uint64_t first : 40, count : 24;
};

#define GIVEN_FIRST_MAX (UINT64_C(1) << 40)
#define GIVEN_COUNT_MAX (UINT64_C(1) << 24)
#define WAITS_MAX 4

struct load { /* of a worker's processors, or of its devices: they work side by side */
    /* --- written by placement --- */
    uint32_t units;     /* slots, devices; 0: what is for devices is for processors here */
    /* --- written by balance, placement, step --- */
    bool idle;          /* it has been given tasks, and for some time none of them has begun */
    bool resting;       /* no thief for a while: it has found nothing, or has just become idle */
    bool bare;          /* nothing that was given to it is worth asking back, as far as it has reported */
    /* --- written by balance --- */
    uint8_t misses;     /* how often it has found nothing, or got nothing */
    /* --- written by workers, placement --- */
    double queue_ns;    /* estimated run time of what is assigned */
    /* --- written by order, workers, placement --- */
    double backlog_ns;
    double demanding_ns; /* of backlog_ns, what demands a resource */
    /* --- written by placement --- */
    double promised_ns; /* run time of tasks placed in this step by earliest finish, not yet in its backlog */
    /* --- written by placement, step --- */
    double slowness;    /* its run times over the estimates, smoothed; 1: as estimated */
    double pace;        /* the same, smoothed over some seconds: regions last longer than what disturbs it for a moment */
    /* --- written by workers, placement, order --- */
    uint64_t assigned, backlog, demanding_backlog; /* tasks */
    /* --- written by workers, placement --- */
    uint64_t asked;   /* tasks that it has been asked to give up and has not answered for */
    double asked_ns;  /* their estimated run time */
    /* --- written by workers, balance, placement --- */
    double coming_ns; /* of what it has asked others for */
    /* --- written by workers, placement, step --- */
    uint64_t started; /* tasks that have begun and not ended */
    /* --- written by balance --- */
    int64_t take_ns;  /* not before this does it take from others' backlogs while it has one itself */
    uint64_t spare;   /* two cache lines */
};

struct drop_notice {
    uint32_t session, layer;
};

/* What a step has for a worker. Few workers have one at a time, so they pass on the same few. */
struct outbox {
    const struct tessi_layer **layers; /* owned array */
    size_t layer_count, layer_capacity;
    struct tessi_spans assign, where, free, steal, adopt, location, take_over;
    struct tessi_spans unassign; /* FREE of what was, or may have been, assigned earlier in this step */
    struct drop_notice *drops; /* owned */
    size_t drop_count, drop_capacity;
};

/* What every report reads and writes comes first, up to the load of the processors, a few lines of the processor's
 * caches: with thousands of workers they come from memory each time; see workers/expect.c. */
struct worker {
    /* --- written by step --- */
    _Alignas(64) uint32_t id;
    uint32_t index;
    /* --- written by step, recovery --- */
    bool alive;
    /* --- written by step --- */
    bool vacant;           /* its place is free for another one */
    /* --- written by state, step --- */
    bool dirty;
    /* --- written by workers, balance --- */
    bool hungry;           /* in the hungry list */
    /* --- written by recovery --- */
    bool leaving;          /* gets no work any more; see recovery/leave.c */
    bool left;             /* while leaving: all is looked after, it only has to go */
    /* --- written by step --- */
    bool left_told;
    /* --- written by balance --- */
    bool look_again;       /* in the next step, whatever happens */
    /* --- written by workers --- */
    bool load_changed;     /* this and the next: in the lists of those whose matches are to be played again */
    bool load_stale;
    /* --- written by step --- */
    uint32_t slots; /* as info says */
    int64_t heard_ns; /* of attended_ns, like that of a session and all limits of waiting */
    /* --- written by workers, order --- */
    uint64_t assigned, backlog; /* tasks, of both loads */
    /* --- written by step --- */
    struct tessi_sched *sched;
    /* --- written by state, step --- */
    struct outbox *out; /* NULL: nothing yet in this step */
    /* Assigned tasks, oldest first; checked against the records when they are looked at. */
    /* --- written by workers, balance --- */
    struct given *given; /* owned */
    size_t given_count, given_capacity;
    uint32_t given_next; /* where what comes after the last task that began is looked for */
    /* --- written by workers --- */
    const void *soon[5]; /* what its next report will need, as like as not: see workers/expect.c */
    uint64_t youngest;  /* highest order given since it last had nothing */
    /* --- written by step --- */
    uint64_t done;
    /* --- written by placement --- */
    uint32_t processor, device; /* their kinds: indices into processors */
    /* --- written by balance --- */
    uint32_t next_session; /* where its round-robin over sessions stands */
    /* --- written by workers, balance, step --- */
    uint32_t stealing_from; /* worker index; NO_WORKER */
    uint64_t stealing;      /* tasks asked for and not answered */
    /* gauges of its last report */
    /* --- written by step --- */
    uint64_t memory_used_bytes, memory_peak_bytes, spilled_bytes;
    uint64_t fetched_bytes, served_bytes, mapped_bytes, dropped_messages;
    /* --- written by workers --- */
    uint64_t pulled_bytes;
    uint64_t pulling_ns;
    size_t given_limit;  /* `given` is looked through for finished ones when it has grown to this */
    /* --- written by workers, placement --- */
    struct load load[2]; /* processors, devices */
    /* What follows is seldom looked at. */
    /* --- written by workers --- */
    double bytes_per_ns; /* at which blocks reach it over the network, smoothed; 0: not measured */
    uint64_t demanding;          /* tasks assigned that demand a resource */
    uint64_t demanding_youngest; /* highest order given to one since there was none */
    /* --- written by order --- */
    uint64_t demanding_backlog;  /* tasks of `backlog` that demand a resource */
    /* --- written by recovery --- */
    int64_t leave_limit_ns;
    /* --- written by state --- */
    uint64_t handing;        /* blocks of its own that others have been told to take over */
    uint64_t handing_bytes;
    /* --- written by state, recovery --- */
    uint64_t promised_bytes; /* blocks of others that it has been told to take over */
    /* --- written by recovery --- */
    uint64_t refused_bytes;  /* it had no room for a block of so many; larger ones are not offered; 0: none refused */
    uint64_t refused_first_bytes; /* likewise for the first of the tasks that starve, for which it would do more */
    uint64_t refused_used;   /* the least that it had in use when it refused one lately; 0: it has not */
    bool starving;           /* its oldest task waits for room, and nothing there will make any: see recovery/relief.c */
    /* --- written by step --- */
    bool busy;               /* when it last reported, something was under way there that might make room */
    /* --- written by workers, step --- */
    uint32_t parked;         /* tasks that it asks for and has not been answered about */
    /* --- written by recovery --- */
    uint64_t short_bytes, short_order; /* what that task lacks, and the task */
    int64_t short_ns;        /* since then */
    struct tessi_task short_task;
    struct tessi_spans shed; /* its blocks without which it would have that, owned */
    char *spill_error;       /* why it writes no spill files, owned; NULL: it can, or need not */
    /* --- written by recovery --- */
    struct tessi_sched_leave_counts leave;
    /* --- written by workers --- */
    uint32_t waits_count;
    /* --- written by workers, balance --- */
    uint64_t stole, missed;  /* tasks that were asked for with those of `stealing`, and have been answered for */
    /* --- written by workers --- */
    struct tessi_map_key waits[WAITS_MAX]; /* tasks whose assignment its next ones wait for: see workers/blocked.c */
    /* --- written by step --- */
    struct tessi_worker_info info;
    struct tessi_resources resources;
    /* --- written by workers --- */
    uint64_t resources_used[TESSI_RESOURCES_MAX]; /* demanded by what is assigned */
};

/* Alive, and not about to leave: may be given work and blocks. */
static inline bool stays(const struct worker *worker)
{
    return worker->alive && !worker->leaving;
}

/* Which of the worker's loads what waits in the lane adds to. */
static inline uint32_t kind_at(const struct worker *worker, const struct lane *lane)
{
    return lane->kind > 0 && worker->load[1].units > 0 ? 1 : 0;
}

static inline size_t where_count(const struct worker *worker)
{
    return worker->out != NULL ? worker->out->where.count : 0;
}

#endif
