/* A client, what it has submitted, and the lanes in which its work waits for workers. */
#ifndef TESSI_SCHED_STATE_SESSION_H
#define TESSI_SCHED_STATE_SESSION_H

#include "core/base/map.h"
#include "core/graph/task_options.h"
#include "core/sched/sched.h"
#include "core/sched/state/layer.h"

#define CLIENT_DROPS 64u

struct backlog_span {
    struct sched_layer *layer;
    uint64_t first, count;
    bool again; /* taken from an owner, or lost by one: tasks that have been assigned may be waiting for it */
};

/* Of tasks that wait one by one there is a span and an entry for each, 32 bytes with its place, so both are packed. */
struct kept_span {
    struct sched_layer *layer;
    uint64_t first : 40, count : 23, again : 1;
};

#define SPAN_FIRST_MAX (UINT64_C(1) << 40)
#define SPAN_COUNT_MAX ((UINT64_C(1) << 23) - 1) /* longer ones are kept in parts */

struct backlog_entry {
    uint32_t key_low, key_high; /* of 64 bits: the order of the first task, and BACKLOG_FRESH */
    uint32_t handle;
};

/* Work of one session kept for one worker but not assigned yet: what had an owner before what never had one, each
 * lowest order first. What had an owner reads only what had one, so it never waits for the rest, which may well wait
 * for room or resources that readers of the former hold. */
struct backlog {
    /* --- written by order --- */
    struct backlog_entry *entries; /* a binary heap, owned */
    struct kept_span *spans;       /* by handle, owned */
    uint32_t *places;              /* handle → place in entries + 1, owned; 0: free */
    size_t count;                  /* of the entries */
    size_t begun;                  /* the first so many handles have been in use */
    size_t capacity;               /* of all three */
    uint32_t free;                 /* the handle that was given back last + 1, whose span knows the next; 0: none */
    /* --- written by balance --- */
    uint32_t cut_turn; /* of the session, in which a step was cut short before anything here was looked at; 0: none */
};

/* Work of one session that is handed out in the global order: see order/policy.h. */
struct lane {
    /* --- written by order --- */
    uint64_t rank;                 /* lower ones are tried first */
    uint32_t kind;                 /* of its layers: what waits for a device holds up nothing that is for processors */
    struct tessi_resources demand; /* of each of its tasks */
    struct backlog *backlogs;      /* by worker index, owned */
    size_t capacity;
    struct backlog orphans; /* waits for any worker that may run it */
    /* --- written by order, balance --- */
    int64_t starving_since_ns; /* some could join and run it, and none has; −1: not so */
    /* --- written by balance --- */
    uint32_t turn;     /* last turn of the session in which it was tried */
};

struct submission {
    /* --- written by submission, lineage --- */
    uint64_t total;
    /* --- written by state --- */
    uint64_t done;
    /* --- written by step --- */
    uint64_t told;   /* what PROGRESS said last, */
    int64_t told_ns; /* and when; 0: never */
    /* --- written by submission --- */
    uint32_t request; /* of the client */
    /* --- written by state --- */
    uint32_t watched; /* layers whose progress is told */
    /* --- written by submission --- */
    uint32_t serial; /* of all that have had this place */
    /* --- written by state, step --- */
    bool moved; /* listed: there is progress to tell */
    /* --- written by submission, lineage --- */
    uint32_t layers; /* that are left of it; 0: its place is free */
    uint32_t next;   /* the next free place + 1 */
};

struct session {
    /* --- written by step --- */
    uint32_t id;
    int64_t heard_ns;
    /* --- written by lineage --- */
    bool closing; /* nothing more is said to it */
    /* --- written by submission, lineage --- */
    struct tessi_map layers_by_id; /* → position in layers */
    struct sched_layer *
        *layers; /* owned array, in order of submission, with NULL holes, of which there are fewer than layers */
    size_t layer_count, layer_capacity, layer_holes;
    /* --- written by order --- */
    struct lane **lanes; /* lowest rank first, owned */
    size_t lane_count, lane_capacity;
    /* --- written by balance --- */
    uint32_t turn;
    /* --- written by submission, lineage --- */
    struct submission *submissions;
    size_t submission_count, submission_capacity;
    uint32_t submission_free; /* the first free place + 1; 0: none */
    uint64_t wanted_bytes;
    /* --- written by workers --- */
    uint64_t told_tasks; /* done when layers of one kind were last told of their run time */
    /* --- written by lineage --- */
    uint32_t dropped[CLIENT_DROPS]; /* layers of its data that have gone, and that it has not been told of */
    uint32_t dropped_count;
    /* --- written by workers, step --- */
    uint32_t parked; /* tasks that it asks for and has not been answered about */
    /* --- written by state --- */
    uint64_t small_blocks; /* of wanted layers: they cost memory beside their data, wherever that is */
    uint64_t solid_bytes;  /* of wanted layers whose blocks cannot be generated or read again */
    double solid_weight;   /* of these, bytes times those of the largest block, summed */
    /* --- written by step --- */
    int64_t starving_since_ns; /* has work and no worker is there; −1: not so */
    struct tessi_sched_session_stats stats;
};

#endif
