/* The scheduler as a pure state machine: `tessi_sched_step(sched, event, actions)`.
 *
 * It knows no socket, thread, clock, file, log or random number: every event carries its time,
 * every action says what to send to whom. So the same object runs in the server, in the
 * embedded cluster, in the simulator and in a replay, and equal events give equal actions.
 *
 * A worker that wants to leave gets no new work (core/sched/recovery/leave.c): what it has not started goes elsewhere,
 * what runs ends, and others take over the blocks that nobody else has and that cannot be generated or read again.
 *
 * Peers are named by ids that the caller hands out, never twice: a worker that comes back is a
 * new worker. A session is named by its client's id.
 *
 * A task is UNASSIGNED until it is given to a worker, ASSIGNED until that worker reports it
 * done, then HELD by its owner while a dependent or a handle needs it, then RELEASED:
 *
 *      UNASSIGNED ──assign──▶ ASSIGNED ──done──▶ HELD ──last reader, no handle──▶ RELEASED
 *          ▲                     │                │                                  │
 *          ├── owner lost, steal ┘   owner lost ──┤ (a copy is adopted, or)          │
 *          └─────────────────── recomputed ───────┴──── a dependent must run again ──┘
 *
 * FAILED and POISONED (a dependency failed) end it as well. Every assignment bumps the task's
 * epoch; a report under another epoch is stale and dropped. Work is assigned to each worker for a
 * window of estimated time, in one global topological order, and only when all inputs have been
 * assigned somewhere, so every assignment names the owners of its inputs. */
#ifndef TESSI_SCHED_SCHED_H
#define TESSI_SCHED_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/graph/layer.h"
#include "core/graph/report.h"
#include "core/graph/span.h"
#include "core/graph/trace.h"

#define TESSI_NAME_MAX 64     /* bytes with the final 0: worker and host names, families */
#define TESSI_ADDRESS_MAX 256 /* bytes with the final 0 */

struct tessi_sched_config {
    int64_t window_ns;            /* work assigned ahead for each worker (default 500 ms) */
    int64_t worker_silence_ns;    /* a worker not heard for so long is lost (default 10 s) */
    int64_t client_silence_ns;    /* a client not heard for so long loses its arrays (default 60 s) */
    int64_t wait_workers_ns;      /* work that waits so long with no worker at all fails (default 5 s) */
    uint32_t assigned_per_step;   /* tasks assigned at most in one step (default 65536): the first workers need not wait
                                     for the last one's share */
    uint32_t assigned_per_slot;   /* tasks assigned ahead at most, for each slot (default 4096) */
    uint64_t lookups_per_step;    /* tasks that one step looks at one by one for what can be told of many at once, if less
                                     well (default 2 million): no step may take long */
    uint64_t memory_bytes;        /* for what is known of graphs; what would need more is refused; 0: no limit */
    uint32_t block_cost;          /* memory of a small block beside its data (default TESSI_BLOCK_COST) */
    uint32_t exchange_room;       /* memory of all workers over what surely stays in it while blocks exchange their elements
                                     (default 8): see order/order.c */
    uint32_t lineage_max;         /* a held layer that is made from so many, one after the other, is detached from them
                                     when a second copy is cheap (default 64); see core/sched/recovery/keep.c */
    uint32_t workers_last;        /* not 0: workers are lost with the scheduler only, as inside a program */
    uint32_t max_deaths;          /* a task that was running in so many deaths fails (default 3) */
    char family[TESSI_NAME_MAX];  /* numerics family of the cluster; "": the first worker's best */
};
struct tessi_sched_config tessi_sched_config_default(void);

struct tessi_worker_info {
    char name[TESSI_NAME_MAX];
    char host[TESSI_NAME_MAX];       /* host id: equal ids share memory */
    char address[TESSI_ADDRESS_MAX]; /* where its peers reach it */
    uint32_t slots;
    uint64_t memory_bytes;
    uint64_t spill_bytes;
    char family[TESSI_NAME_MAX];     /* numerics families it can run, comma-separated, best first */
    char resources[TESSI_RESOURCES_TEXT_MAX]; /* what tasks may demand of it: "ssd=2,license=1" */
    char processor[TESSI_NAME_MAX];  /* its kind: run times are remembered for each */
    bool writes;                     /* files that clients name, in some folder */
    uint32_t devices;                /* it has; they are of one kind, and what follows is said of each */
    char device[TESSI_NAME_MAX];     /* the kind */
    uint64_t device_memory_bytes;    /* that it may take */
    double device_gflops;            /* nominal, of f64 products; 0: not known */
    /* A task with less, of a product or of anything else, runs on processors. */
    double device_flops_min, device_bytes_min;
};

enum tessi_sched_event_kind {
    TESSI_SCHED_TICK = 0,
    TESSI_SCHED_WORKER_JOIN = 1,
    TESSI_SCHED_WORKER_LEAVE = 2,  /* said goodbye, or its connection is known to be gone */
    TESSI_SCHED_WORKER_HEARD = 3,  /* a heartbeat with nothing in it */
    TESSI_SCHED_REPORT = 4,
    TESSI_SCHED_LOCATE = 5,        /* from a worker or a client */
    TESSI_SCHED_CLIENT_JOIN = 6,
    TESSI_SCHED_CLIENT_LEAVE = 7,
    TESSI_SCHED_CLIENT_HEARD = 8,
    TESSI_SCHED_SUBMIT = 9,        /* layers in topological order; wanted: those to be computed and held */
    TESSI_SCHED_RELEASE = 10,      /* the client drops its handles of these layers */
    TESSI_SCHED_CANCEL = 11,       /* stop computing these; their handles stay, poisoned */
    TESSI_SCHED_DETACH = 13,       /* the client does not mind if these are not computed again should they be lost */
    TESSI_SCHED_WORKER_LEAVING = 12, /* wants to leave within wait_ns and hand its blocks over before */
};

struct tessi_sched_event {
    enum tessi_sched_event_kind kind;
    int64_t now_ns;              /* monotonic, never smaller than in the event before */
    uint32_t peer;               /* who sent it; 0 for TICK */
    struct tessi_worker_info worker;     /* WORKER_JOIN */
    const struct tessi_report *report;   /* REPORT; borrowed */
    const struct tessi_span *spans;      /* LOCATE; borrowed */
    size_t span_count;
    struct tessi_layer **layers;         /* SUBMIT: checked by tessi_layer_check, session == peer; each is taken */
    size_t layer_count;
    const uint32_t *ids;                 /* SUBMIT: wanted; RELEASE, CANCEL, DETACH: layers */
    size_t id_count;
    uint32_t request;                    /* SUBMIT: echoed in ACCEPTED or REFUSED */
    int64_t wait_ns;                     /* WORKER_LEAVING */
};

enum tessi_sched_action_kind {
    TESSI_SCHED_WELCOME = 0,     /* to a worker or client that has joined: the numerics family to load (text); to a client:
                                    bytes of memory of the smallest worker (total), 0: there is none */
    TESSI_SCHED_REJECT = 1,      /* to a worker that cannot take part (text) */
    TESSI_SCHED_PEER_UP = 2,     /* to a worker or client: `worker` has joined; `info` says how to reach it */
    TESSI_SCHED_PEER_LOST = 3,   /* to a worker or client: `worker` is gone; to a worker: or the client of that id */
    TESSI_SCHED_LAYERS = 4,      /* to a worker: descriptions, before the first span that names them */
    TESSI_SCHED_DROP_LAYERS = 5, /* to a worker: ids of `session`; to a client: layers of its data, now and then */
    TESSI_SCHED_ASSIGN = 6,      /* to a worker: spans, where */
    TESSI_SCHED_STEAL = 7,       /* to a worker: give up spans for span.worker */
    TESSI_SCHED_FREE = 8,        /* to a worker: forget spans */
    TESSI_SCHED_ADOPT = 9,       /* to a worker */
    TESSI_SCHED_LOCATION = 10,   /* to a worker or client: spans with worker and epoch */
    TESSI_SCHED_PUSH = 11,       /* to a client: `worker` will pull these RECEIVE blocks from you */
    TESSI_SCHED_ACCEPTED = 12,   /* to a client: request; unless blocks of it are pushed, which says more */
    TESSI_SCHED_REFUSED = 13,    /* to a client: request, status, text; nothing of it was kept */
    TESSI_SCHED_PROGRESS = 14,   /* to a client: request, done, total (of a submission some layer of which is waited for,
                                    now and then when it changed, unless its blocks are pushed) */
    TESSI_SCHED_DONE = 15,       /* to a client: wanted layer_id is complete; elapsed_ns since its submission; stats */
    TESSI_SCHED_FAILED = 16,     /* to a client: wanted layer_id cannot complete: status, text */
    TESSI_SCHED_BYE = 17,        /* to any peer: it is no longer known (silent too long); text */
    TESSI_SCHED_TAKE_OVER = 18,  /* to a worker: fetch the blocks from span.worker and own them under the span's epoch */
    TESSI_SCHED_DETACHED = 20,   /* to a client: ids, which it holds from now on, once more if it does already; what they
                                    were made from is forgotten */
    TESSI_SCHED_LEFT = 19,       /* to a worker that wanted to leave: nothing is left for it to do; leave */
};

struct tessi_sched_leave_counts { /* what became of the blocks of a worker that has left */
    uint64_t handed_blocks, handed_bytes; /* others own them now */
    uint64_t remade_blocks;               /* generated or read from their file again, when they are needed */
    uint64_t lost_blocks;                 /* to be computed again: nobody had room, or the time was over */
};

struct tessi_sched_session_stats { /* counters of one session */
    uint64_t tasks_done, tasks_rerun, steals, workers_lost, bytes_moved;
};

struct tessi_sched_action {
    enum tessi_sched_action_kind kind;
    uint32_t peer;              /* to whom */
    uint32_t worker;
    const struct tessi_worker_info *info;
    uint32_t session;
    uint32_t layer_id;
    uint32_t request;
    enum tessi_status status;
    const char *text;           /* "" when there is none */
    const struct tessi_layer *const *layers;
    size_t layer_count;
    const uint32_t *ids;
    size_t id_count;
    const struct tessi_span *spans;
    size_t span_count;
    const struct tessi_span *where;
    size_t where_count;
    uint64_t done, total;
    int64_t elapsed_ns;
    struct tessi_sched_session_stats stats;
    struct tessi_sched_leave_counts leave; /* LEFT */
};

/* What one step asks for. Everything an action points to lives until the next step. */
struct tessi_sched_actions {
    const struct tessi_sched_action *items;
    size_t count;
    int64_t wake_ns; /* send a TICK at this time at the latest; INT64_MAX: nothing is armed */
    const struct tessi_trace_record *notes; /* for the trace: what the step did and why, kinds from JOIN on */
    size_t note_count;
};

struct tessi_sched;

struct tessi_sched *tessi_sched_create(const struct tessi_sched_config *config);
void tessi_sched_destroy(struct tessi_sched *sched);
/* A hint: an event of this peer is among the next eight or so. Whoever has several at hand says so for each of them, in
 * their order, before he steps the first; then what they need is fetched from memory while others are worked on, and
 * with thousands of workers a step takes half as long. Nothing else changes. */
void tessi_sched_expect(struct tessi_sched *sched, uint32_t peer);

void tessi_sched_step(struct tessi_sched *sched, const struct tessi_sched_event *event,
                      struct tessi_sched_actions *actions);

/* The run times learnt so far as bytes, freed by the caller with tessi_free; `size` is set. */
void *tessi_sched_history_save(const struct tessi_sched *sched, size_t *size);
/* Begin with what an earlier scheduler learnt; before the first event. FORMAT: damaged or something else; nothing of
 * it was taken. */
TESSI_MUST_USE enum tessi_status tessi_sched_history_load(struct tessi_sched *sched, const void *bytes, size_t size,
                                                          struct tessi_error *error);

#endif
