/* The planner's records: blocks, tasks, what stands between them, peers, slots. A block record stands for a name: its users,
 * where its bytes are, who reads it. Its handle is the one that the shell sees. A task record stands for an assignment that
 * is not done; its output block points to it. */
#ifndef TESSI_FLOW_RECORDS_H
#define TESSI_FLOW_RECORDS_H

#include "core/base/queue.h"
#include "worker/flow/flow.h"

#define FLOW_NONE UINT32_MAX
#define FLOW_DEVICE_DEPTH 3          /* steps of one task at a device slot: it knows the next before the first ends */
#define FLOW_STREAMS_PER_SLOT 2 /* started tasks of several steps: more of their accumulators would fill the memory */
#define FLOW_SPILLS_MAX 4            /* files written at a time */
#define FLOW_VICTIMS_MAX 64          /* copies dropped for a request that does not wait in line */
#define FLOW_PARKED_MAX (1u << 20)   /* reads that wait here, for each peer */
#define FLOW_ASKED_BYTES_MAX (UINT64_C(64) << 20) /* that one peer may have to put into answers */
#define FLOW_LEASES_MAX 32768u       /* blocks read in place at a time: each is a word to its owner when it ends */
#define FLOW_IDLE_LEASES_MAX 4096u   /* kept though no task here needs the block; their bytes stay within the budget */

/*   ABSENT ─→ LOCATING ─→ UNASKED ─→ ASKED ─→ OFFERED ⇄ PULLING ─→ LOCAL ─→ (evicted) OFFERED
 *                │            └─────────┴─→ MAPPED ─→ (revoked) OFFERED
 *                └→ AWAITED, NOWHERE
 *   UNMADE ⇄ MAKING ─→ LOCAL ─→ SPILLING ─→ SPILLED ─→ LOADING ─→ LOCAL
 *   anything that holds bytes ─→ ABANDONED ─→ ABSENT, or UNMADE when the task has been assigned again */
enum flow_state {
    FLOW_ABSENT,    /* nothing known; looked up at the end of the event if anybody needs it */
    FLOW_LOCATING,  /* the scheduler has been asked */
    FLOW_AWAITED,   /* the scheduler said that it is ours, which it is not (yet, or any more): asked again */
    FLOW_NOWHERE,   /* the scheduler says that it will not come */
    FLOW_UNASKED,   /* `source` has or will have it, but cannot be reached yet */
    FLOW_ASKED,     /* READ sent to `source` */
    FLOW_OFFERED,   /* `source` has it */
    FLOW_PULLING,   /* room taken, PULL sent to `source` */
    FLOW_MAPPED,    /* read in place from `source`'s memory under a lease, or lent for the next task that does */
    FLOW_UNMADE,    /* assigned here, not started */
    FLOW_MAKING,    /* the accumulator of a started task */
    FLOW_LOCAL,
    FLOW_SPILLING,  /* in memory and being written */
    FLOW_SPILLED,
    FLOW_LOADING,
    FLOW_ABANDONED, /* bytes that a step, a transfer or a lease still holds; then they go */
    FLOW_STATES
};

/* How much a task wants a block: three queues, and two states outside them. */
enum flow_class {
    FLOW_STARTED, /* for the next step of a started task */
    FLOW_WAITING, /* for the first step of a waiting task */
    FLOW_AHEAD,   /* for a later step within the window; to be taken over */
    FLOW_FUTURE,  /* beyond the window */
    FLOW_GONE     /* its step has been handed to a slot */
};
#define FLOW_CLASSES 3

/* REMADE: owned, and in a file or to be made again, so that no room on the disk is needed. */
enum flow_reclaim { FLOW_UNNEEDED, FLOW_NEEDED, FLOW_OWNED, FLOW_REMADE, FLOW_RESTARTABLE, FLOW_KEPT };
#define FLOW_RECLAIMS 5

enum flow_grant { FLOW_GRANTED, FLOW_NO_ROOM, FLOW_NO_CREDIT, FLOW_NO_SLOT, FLOW_NO_RESOURCE };

/* Where in the global order something is needed: task order, then assignment and step. Unique. */
struct flow_position {
    uint64_t order;
    uint64_t second;
};

struct flow_link { /* one input of one step; a node of the block's pairing heap of its class */
    struct flow_position at;
    struct flow_link *child, *next, *prev; /* prev: left sibling, or the parent of a first child */
    uint32_t block, task, step;
    enum flow_class class;
};

struct flow_ref { /* an input of a step before it is linked */
    uint64_t index, bytes;
    uint32_t layer, step;
};

enum flow_kind { FLOW_CPU, FLOW_DEVICE, FLOW_KINDS }; /* of slots, and of the tasks that are for them */

struct flow_layer {
    struct tessi_layer *layer; /* NULL: only its name is known */
    uint32_t session, id;
    uint32_t blocks;      /* head of the list of its block records */
    uint32_t block_count;
    uint64_t block_bytes; /* of each block, when all are equal; 0: they are not */
    uint64_t input_bytes[TESSI_INPUTS_MAX]; /* likewise of the inputs' */
    int64_t step_ns[FLOW_KINDS]; /* what a step of it takes, smoothed; 0: not known yet */
    double guess_ns;      /* of a task, from flops and bytes; only with `either`, as what follows */
    int64_t device_queued, device_each_ns; /* steps in the queues of device slots, and what each is taken to take */
    uint32_t trials;      /* steps at CPU slots before the first has been measured */
    double device_busy_ns, device_ends; /* time from one end at a device to the next, and how many: both fade */
    bool regenerable, dropped, live;
    bool device; /* its tasks go to device slots */
    bool either; /* with `device`: or to CPU slots, whichever ends first */
};

struct flow_block {
    uint64_t index, bytes;
    struct flow_link *root[FLOW_CLASSES];
    struct flow_position filed_at; /* key in the fetch queue */
    uint64_t last_use;
    uint32_t layer;       /* of its name, */
    uint32_t page;        /* and where that is listed */
    uint32_t layer_next, layer_prev;
    uint32_t dirty_next, dirty_prev;
    uint32_t ties;        /* head of the list */
    uint32_t task;        /* assigned here and not done, or NONE */
    uint32_t source;      /* peer, 0: none; also of a copy, to ask again when it was evicted */
    uint32_t epoch;
    uint32_t users;       /* links that are not GONE */
    uint32_t pins;        /* references by steps at slots */
    uint32_t leases;      /* peers that map it */
    uint32_t asks;        /* READs not answered */
    uint32_t parked;      /* reads of peers that wait for it */
    uint64_t heir_order;  /* of the task elsewhere that waits for its room; UINT64_MAX: its owner leaves */
    uint32_t heir_epoch, heir_source; /* under which it will be owned, and who has it; see hand_over.c */
    uint32_t spill_failed; /* generation in which its spill failed; 0: it did not */
    enum flow_state state;
    enum flow_class fetch;     /* queue it is in; FUTURE: none */
    enum flow_reclaim reclaim; /* heap it is in; KEPT: none */
    bool live;
    bool owned;
    bool held;         /* its bytes are in the ledger */
    bool file;         /* a spill file exists or is being written; `file_bytes` are charged */
    bool regenerable;
    bool busy;         /* a PULL, SPILL or LOAD is under way */
    bool mapped;       /* its bytes are a neighbour's */
    bool revoked;      /* the neighbour wants its lease back, or is gone */
    bool lost;         /* the neighbour is gone: what steps read meanwhile is not to be trusted */
    bool revoking;     /* we want our leases back */
    bool heir;         /* to be owned as soon as it is here: wanted though no task here may need it */
    bool discard;      /* freed by the scheduler while tasks here still waited for it: not to be kept as a cache */
    bool copy_known;   /* the scheduler has been told of this copy */
    bool copy_changed; /* listed for the next report */
    bool checking, dirty;
    bool fresh;   /* it has come, and no step has read it since */
    bool shelved; /* it was dropped while fresh: not fetched again for tasks that have not begun, while others can begin */
    bool asks_later; /* UNASKED: its source has enough to answer, and it is in that peer's queue */
    bool away;     /* for estimates: a device has its newest bytes and the host has not, */
    bool resident; /* and a device probably has them */
    bool readable, sticky, owned_sticky, tiny_sticky, going; /* derived; see tessi_flow_block_update */
    bool residue;      /* its bytes have left memory, and what it costs beside them has not */
};

#define FLOW_LINKS_FEW 3

struct flow_task {
    uint64_t order;
    uint64_t footprint;
    struct flow_link *links; /* of all steps, in their order */
    int64_t ran_ns;
    int64_t assigned_ns;
    uint32_t block, epoch, seq;
    uint32_t steps, next_step, done_steps;
    uint32_t link_count, demand_at, ahead_at; /* first link of next_step; first link beyond the window */
    uint32_t missing; /* inputs of next_step that cannot be read here */
    uint32_t slot, queued; /* bound to the slot while queued > 0 */
    uint64_t last_run; /* of its steps at the slot */
    bool live, started, receive;
    bool told;        /* report.started has named it */
    bool suspect;     /* a step read what is not to be trusted, or was not run: restart */
    bool promises;    /* its last step is at a slot and short: its readers may queue up behind it */
    bool alone;       /* workers died while it ran: no other step waits behind it */
    bool held_back;   /* its next step waits for room in its slot's queue */
    bool stream;      /* counted in `streams`, at a device slot if `at_device` */
    bool at_device;
    struct flow_link few[FLOW_LINKS_FEW]; /* what `links` points to when there are no more; not zeroed */
};

enum { FLOW_TIE_SOURCE = 1, FLOW_TIE_ASKED = 2, FLOW_TIE_READ = 4, FLOW_TIE_PULL = 8, FLOW_TIE_LEASED = 16 };

struct flow_tie { /* all that stands between one peer and one block; exists while flags ≠ 0 */
    uint32_t block, peer; /* handles */
    uint32_t block_next, block_prev, peer_next, peer_prev;
    uint32_t flags;
    bool lease; /* READ: the peer can map our memory */
    bool live;
};

struct flow_peer {
    uint32_t id, ties, parked;
    uint32_t asked; /* READs that it has not answered, */
    uint64_t asked_bytes; /* and what may come with the answers */
    bool up, lost, shares_memory, live;
    bool answers;   /* listed in `answering` */
    struct tessi_queue later; /* blocks that are to be asked of it when it has answered others */
};

struct flow_handles { /* a growing array */
    uint32_t *items;
    size_t count, capacity;
};

struct flow_run {
    uint32_t task, out, in_count; /* task: NONE when it has been forgotten */
    enum tessi_status status;     /* once ended */
    bool ended, alone;
    int64_t estimate_ns, ran_ns, given_ns;
    int64_t until_ns; /* estimated time of all steps ever queued here, up to this one */
    char *text;       /* owned; of a failure */
    uint32_t in[TESSI_STEP_REFS_MAX];
    bool lingers; /* the last step of a forgotten task: until it ends, what the task held is not free */
    uint32_t held[TESSI_RESOURCES_MAX];
};

/* Steps at a slot: a ring of `depth` runs, those from `first` up to `next`. */
struct flow_slot {
    struct flow_run *ring;
    uint32_t depth;       /* of the ring */
    uint64_t first, next; /* numbers of runs, from 1 */
    uint64_t told;        /* runs before this one have been looked at for report.started */
    int64_t queued_ns;    /* estimated time of what is in the queue */
    int64_t until_ns;     /* of the last run */
    struct flow_handles held_back; /* tasks */
};

#define FLOW_RECENT 16
#define FLOW_PAGE 64
struct flow_page { /* blocks of consecutive names: tasks come in runs, and a run finds its page once */
    uint32_t handles[FLOW_PAGE]; /* NONE: no record */
    uint32_t count;
};

struct flow_pool { /* records with stable addresses, named by small handles */
    char **chunks;
    size_t chunk_count, chunk_capacity, element_size, zeroed;
    uint32_t *free;
    size_t free_count, free_capacity;
    uint32_t count; /* handles ever given out */
};
#define FLOW_CHUNK 256

struct flow_request {
    uint64_t bytes;
    struct flow_position at;
    bool oldest; /* may restart younger tasks */
    bool urgent; /* may spill, and use the last eighth of the budget */
    bool in_line; /* if there is no room, younger requests wait for this one */
};

#endif
