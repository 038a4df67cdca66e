/* The worker's planner as a pure state machine: which step may start, what to fetch from whom, what to drop or spill.
 * It knows no socket, thread, clock or file: `tessi_flow_step` takes one event and appends actions, which the worker's
 * shell (or the simulator) carries out.
 *
 * Names. A block is named by its task. The flow gives each block that it knows of a small handle; the shell keeps the
 * bytes of handle h wherever it likes. A handle lives from an ALLOC or MAP action until FREE_BLOCK, and may be used
 * again after that, for the same block or another. Actions about no block held here (SEND_READ, LOCATE, …) are told by
 * `task`; their `block` means nothing to the shell.
 *
 * Where a block is. The scheduler names an owner or owner-to-be for every input with the assignment (`where`). The flow
 * asks that peer at once with READ (once for each block, however many tasks need it); the peer answers when it has the
 * block: READY with the bytes inside (INLINE, small ones), READY with a lease on its shared memory (LEASE), or READY as
 * an offer (OFFER), upon which the reader reserves room and sends PULL; or MOVED to another worker; or ASK, upon which
 * the reader sends LOCATE to the scheduler, as it does when a peer is lost. A peer has so many READs to answer at most
 * (`asks_max`): what is wanted of it beyond these is asked for as its answers come, in the order of the tasks that want
 * it, and for the oldest task at once. So no queue of messages between two workers grows without bound, however many
 * blocks a task reads.
 *
 * Memory. The flow is the authority on the worker's budget: every ALLOC is covered by it. Leases cost the owner, not
 * the reader. Room goes to tasks in their global order. A younger task may take room only when the footprint of the
 * oldest task still fits beside all that cannot be taken back. Taken back, in this order: cached copies nobody here
 * needs, copies that only younger tasks need (asked for again later), owned blocks (spilled, the one needed last
 * first), and, for the oldest task only, accumulators of younger tasks that have no step at a slot (they restart from
 * their first step). A copy that is taken back before any step has read it was fetched too early: tasks that have not
 * begun get it again one after the other, when a slot would do nothing else. A lease is given back on REVOKE as soon as
 * no step that runs reads it; one that no task here needs is kept for the next that does, within bounds. Reads of a
 * spilled block by a peer are served from its file (SEND_BLOCK with `spilled`), so serving never waits for room. Small
 * blocks of a layer whose client waits for them are sent there without being asked for (`push`): it knows what to do
 * when they do not come. Hence the globally oldest task can always run: nothing waits for ever.
 *
 * Order. Room is granted in the global order. Of the tasks that have their inputs here those of higher priority start
 * first, then older ones; a task that demands a resource starts when enough of it is free, and holds it until it is
 * done. The oldest task may take a resource from younger ones that wait for data, which then start over.
 *
 * A block that is taken over from a worker that leaves is refused unless the largest task that was ever here, or a
 * quarter of the budget, still fits beside all that cannot be spilled. Accepted, it gets room after everything else.
 * One that a full worker has to be rid of comes with the order of the task that waits there: it gets room before all
 * younger tasks here, and is refused only when what is held here and the oldest task that is older leave none.
 *
 * What the shell owes the flow. It sends what tessi_flow_report gives before the LOCATEs of the same step, so that the
 * scheduler answers them with that knowledge. It passes PEER_LOST on whenever the scheduler says so, even if it has
 * done so before on its own account; after it no bytes land in that peer's PULLs any more. It answers each RUN, SPILL,
 * LOAD once, also for tasks that have been freed meanwhile. After a SPILL that failed it says SPILL_AGAIN, after a
 * pause; until then the flow writes no file. When what it was to send cannot be read from its file it answers the peer
 * with ASK, and says DAMAGED.
 *
 * What the scheduler owes it. It answers LOCATE with this worker's own id only when the ASSIGN has been sent before:
 * the flow asks again until the assignment is there or the answer is another, which would otherwise be a busy exchange.
 * It reads `dropped` before `copied` in a report. `missing` may also name a block that this worker owned and whose
 * spill file is damaged. */
#ifndef TESSI_FLOW_FLOW_H
#define TESSI_FLOW_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/graph/layer.h"
#include "core/graph/report.h"
#include "core/graph/span.h"

#define TESSI_INLINE_BYTES 65536 /* a block up to this size travels inside READY */

struct tessi_flow_config {
    uint32_t self;          /* this worker's id */
    uint32_t slots;         /* ≥ 1 */
    uint32_t device_slots;  /* places for tasks at devices; their numbers follow those of the slots */
    double copy_ns_per_byte; /* between host and device, for estimates */
    uint32_t slot_depth;    /* steps handed to a slot ahead of time at most, ≥ 1: short ones only, see slots.c */
    uint32_t window;        /* stream steps whose inputs are brought in ahead, ≥ 2 */
    uint64_t memory_bytes;  /* budget for blocks */
    uint64_t block_cost;    /* counted for each small block here beside its data (TESSI_BLOCK_COST); blocks of less data
                               than that never leave memory for a file or to be made again: it would make no room */
    uint64_t spill_bytes;   /* 0: no spill files; regenerable blocks, which need none, are spilled all the same */
    uint64_t pull_bytes;    /* bound on bytes asked for with PULL and not yet here (at least one block) */
    uint32_t asks_max;      /* READs that one peer may have to answer, and PULLs that all of them may; 0: without bound */
    struct tessi_resources resources; /* what started tasks may hold at a time; what a layer demands beyond these names
                                         is the scheduler's affair */
};

enum tessi_flow_event_kind {
    TESSI_FLOW_LAYER,       /* a layer's description; the flow takes ownership */
    TESSI_FLOW_DROP_LAYER,  /* forget the layer, its tasks and blocks */
    TESSI_FLOW_ASSIGN,      /* spans with epoch and order; where: owners of their inputs */
    TESSI_FLOW_FREE,        /* forget these tasks and blocks (owned or copies) */
    TESSI_FLOW_STEAL,       /* give these up for `worker` unless started */
    TESSI_FLOW_ADOPT,       /* become owner of these copies under the span's epoch */
    TESSI_FLOW_TAKE_OVER,   /* fetch these from `worker`, which leaves, or (order > 0) is full and holds up the task of
                               that order, and own them under the span's epoch: reported as adopted, or as missing
                               when there is no room or the worker has gone */
    TESSI_FLOW_LOCATION,    /* answer to LOCATE: owner and epoch; worker 0: it will not come (poisoned or cancelled) */
    TESSI_FLOW_PEER_UP,     /* peer is reachable; shares_memory: its memory can be mapped */
    TESSI_FLOW_PEER_LOST,   /* its reads and leases are gone; reads asked of it go to the scheduler */
    TESSI_FLOW_STEP_DONE,   /* from slots: outcomes, those of one slot in the order of its queue */
    TESSI_FLOW_READ,        /* from a peer, as described above */
    TESSI_FLOW_PULL,
    TESSI_FLOW_RELEASE,     /* a peer gives back its lease (or withdraws its READ) */
    TESSI_FLOW_READY_INLINE,/* from a peer: bytes are at hand; the shell stores them on this step's first ALLOC for
                               the block, or forgets them when there is none (it is then pulled later) */
    TESSI_FLOW_READY_LEASE,
    TESSI_FLOW_READY_OFFER,
    TESSI_FLOW_MOVED,
    TESSI_FLOW_ASK,
    TESSI_FLOW_REVOKE,      /* the owner wants its lease back */
    TESSI_FLOW_DATA,        /* the bytes pulled from `peer` are complete in the block's memory */
    TESSI_FLOW_SPILLED,     /* spill file written (status ≠ OK: could not be; LOST: its bytes are, which comes first) */
    TESSI_FLOW_SPILL_AGAIN, /* the pause after a spill that failed is over */
    TESSI_FLOW_DAMAGED,     /* a peer was to be sent a spilled block, and its file cannot be read: the block is lost */
    TESSI_FLOW_LOST,        /* a complete block that was made here is gone with the device that had it */
    TESSI_FLOW_NO_DEVICES,  /* device slots take nothing any more */
    TESSI_FLOW_LOADED,      /* block is back in memory (status ≠ OK: its file is damaged: the block is lost) */
};

struct tessi_flow_outcome {
    uint32_t slot;             /* echo of the RUN action */
    uint64_t run;
    int64_t ran_ns;
    enum tessi_status status;  /* CANCELLED: not run, since a step that it comes after has failed, or given back */
    const char *text;          /* message of a failure, or NULL; borrowed */
    bool elsewhere;            /* with CANCELLED: the layer's tasks are no longer for devices */
};

struct tessi_flow_event {
    enum tessi_flow_event_kind kind;
    int64_t now_ns;
    uint32_t peer; /* worker id; a client's session id may be a peer too (readers, and sources of RECEIVE layers) */
    struct tessi_layer *layer;          /* LAYER */
    bool device;                        /* LAYER: its tasks run at device slots */
    bool either;                        /* LAYER: … or at CPU slots, with the same bits: see mixed.h */
    uint32_t session, layer_id;         /* DROP_LAYER */
    const struct tessi_span *spans;     /* ASSIGN, FREE, STEAL, ADOPT, TAKE_OVER, LOCATION; borrowed */
    size_t span_count;
    const struct tessi_span *where;     /* ASSIGN */
    size_t where_count;
    struct tessi_task task;             /* READ … DATA, DAMAGED */
    uint32_t epoch;                     /* READ, MOVED */
    uint32_t worker;                    /* MOVED: the new owner */
    bool lease;                         /* READ: the reader can map our memory */
    bool shares_memory;                 /* PEER_UP */
    uint32_t block;                     /* SPILLED, LOADED, LOST: handle */
    enum tessi_status status;           /* SPILLED, LOADED */
    const char *text;                   /* SPILLED, of a failure; borrowed */
    const struct tessi_flow_outcome *outcomes; /* STEP_DONE; borrowed */
    size_t outcome_count;
};

#define TESSI_FLOW_AFTER_MAX 4 /* slots that one step may come after */

struct tessi_flow_after { /* steps at this slot or another that make inputs */
    uint32_t slot;
    uint64_t first, last; /* the numbers of their runs lie between these */
};

enum tessi_flow_action_kind {
    TESSI_FLOW_ALLOC,       /* memory for `block` of `bytes`; always carried out before later actions use it */
    TESSI_FLOW_MAP,         /* `block` is the peer's memory under the lease of the READY_LEASE event of this step */
    TESSI_FLOW_FREE_BLOCK,  /* forget the contents of the handle: its memory, mapping or spill file; no step and no
                               send uses it (a send in progress holds its own reference in the shell) */
    TESSI_FLOW_RUN,         /* hand the step to the slot's FIFO queue; it runs when the last runs of `after` have
                               ended, and is not run (CANCELLED) if any since the first ones has not ended well */
    TESSI_FLOW_SPILL,       /* write to disk, then SPILLED; memory is released by the UNALLOC that follows it */
    TESSI_FLOW_UNALLOC,     /* release the memory of a spilled block; the handle and file stay */
    TESSI_FLOW_LOAD,        /* memory again and read back, then LOADED; the file is forgotten */
    TESSI_FLOW_SEND_READ,   /* to peer: task, epoch, lease wanted */
    TESSI_FLOW_SEND_PULL,   /* to peer; bytes go into `block`, which has been ALLOCed; DATA when complete */
    TESSI_FLOW_SEND_RELEASE,
    TESSI_FLOW_SEND_REVOKE,
    TESSI_FLOW_SEND_INLINE, /* to peer: READY with the bytes of `block` */
    TESSI_FLOW_SEND_LEASE,  /* to peer: READY with where `block` lies in our shared memory */
    TESSI_FLOW_SEND_OFFER,
    TESSI_FLOW_SEND_BLOCK,  /* answer to PULL: the bytes of `block`, from memory or (spilled) from its file */
    TESSI_FLOW_SEND_MOVED,
    TESSI_FLOW_SEND_ASK,
    TESSI_FLOW_LOCATE,      /* to the scheduler: where is `task`? (the shell batches them) */
};

struct tessi_flow_action {
    enum tessi_flow_action_kind kind;
    uint32_t block;
    uint64_t bytes;                   /* of the block */
    uint32_t peer;
    struct tessi_task task;
    uint32_t epoch;
    uint32_t worker;                  /* SEND_MOVED */
    bool lease;                       /* SEND_READ */
    bool spilled;                     /* SEND_BLOCK, SEND_INLINE: memory is gone, read the file */
    /* RUN */
    uint32_t slot;
    uint64_t run;                     /* number of the step at this slot, from 1. A device slot has steps of one task
                                         at a time, which come after each other and after nothing else */
    uint32_t after_count;
    struct tessi_flow_after after[TESSI_FLOW_AFTER_MAX];
    int64_t assigned_ns;              /* when the task came here, for the trace */
    int64_t step_ns;                  /* what a step of the layer has taken here; 0: not known yet */
    const struct tessi_layer *layer;  /* also SPILL, LOAD and spilled sends: how to make a regenerable block again
                                         (NULL: unknown, so it is not). Valid until the RUN, SPILL or LOAD has been
                                         answered; of sends, until the next step */
    uint32_t step, steps;
    uint32_t out;                     /* handle of the output block; = block */
    uint32_t in_count;
    uint32_t in[TESSI_STEP_REFS_MAX]; /* handles in the order of tessi_task_step */
};

#define TESSI_FLOW_ACTIONS_MAX 4096 /* as many are at hand at a time, where they can be carried out within a step */

struct tessi_flow_actions { /* reused from step to step; the caller empties it (count = 0) */
    struct tessi_flow_action *items;
    size_t count;
    size_t capacity;
    void (*carry_out)(void *context); /* … those at hand, and empty it; nothing is to be told to the flow meanwhile. NULL:
                                         the step ends first, however many there are */
    void *context;
};

struct tessi_flow;

struct tessi_flow *tessi_flow_create(const struct tessi_flow_config *config);
void tessi_flow_destroy(struct tessi_flow *flow);

/* Take one event; append what is to be done. Unknown or stale events from peers change nothing but a counter. */
void tessi_flow_step(struct tessi_flow *flow, const struct tessi_flow_event *event, struct tessi_flow_actions *actions);

/* Move what is to be reported into `report` (gauges filled) and start a new one. The caller frees it. */
void tessi_flow_report(struct tessi_flow *flow, struct tessi_report *report);
bool tessi_flow_has_report(const struct tessi_flow *flow);
/* Somebody may wait for it: it answers a question, the worker runs dry or waits for room, or something begins of which
 * the worker may die. Else it may be gathered for a short while: a message for every short task costs more than the
 * task. */
bool tessi_flow_report_presses(const struct tessi_flow *flow);
bool tessi_flow_busy(const struct tessi_flow *flow); /* something is under way that ends by itself and may make room */
bool tessi_flow_awaited(const struct tessi_flow *flow); /* reads of peers wait for what is made here */

/* Give back the memory of records and queues that are empty; when nothing has happened for a while. */
void tessi_flow_trim(struct tessi_flow *flow);

/* Invariants, for the simulator after every step: ledger = sum of blocks, ≤ budget; pins, users and
 * leases agree; every waiting task has a reason that can end. Asserts. */
void tessi_flow_verify(const struct tessi_flow *flow);

struct tessi_flow_stats {
    uint64_t tasks_waiting, tasks_started, blocks, blocks_spilled, leases;
    uint64_t memory_used_bytes, memory_peak_bytes, spilled_bytes;
    uint64_t stale_events, restarted_tasks, evicted_copies;
    uint64_t parked_reads; /* of peers, waiting for a task here */
};
void tessi_flow_stats(const struct tessi_flow *flow, struct tessi_flow_stats *stats);

/* Why a task that was assigned here has not run yet, in words, a line each; cut to fit. Returns text. */
const char *tessi_flow_explain(const struct tessi_flow *flow, struct tessi_task task, char *text, size_t size);

#endif
