/* What the files of worker/flow share: the records, where they live, and who may change what.
 *
 * A block record stands for a name: its users, where its bytes are, who reads it. Its handle is the
 * one that the shell sees. A task record stands for an assignment that is not done; its output block
 * points to it. Handlers change the plain fields of a block and then call `tessi_flow_block_update`, which
 * brings everything derived from them in line: who is woken, the ledger, the queues. Whatever may
 * destroy a record or needs the whole event to be known first goes through `tessi_flow_check` and is
 * settled at the end of the event, so no handler sees a record vanish.
 *
 *   flow.c    events to handlers, layers, reports, figures
 *   blocks.c  block records and their derived state, peers and the ties between them
 *   users.c   which task needs which block at which step
 *   tasks.c   assignment, steal, start, restart, end
 *   slots.c   steps to slots, and the order in which room is granted
 *   mixed.c   tasks that may run at a device or at a CPU slot
 *   ends.c    steps that end
 *   resources.c  what started tasks hold
 *   memory.c  the ledger, and taking room back
 *   fetch.c   asking peers and bringing blocks in
 *   serve.c   answering peers
 *   explain.c why a task waits, in words
 *   hand_over.c  taking over the blocks of a worker that leaves, or is full
 *   shortage.c   when this one is full
 *   verify.c  the invariants */
#ifndef TESSI_FLOW_INTERNAL_H
#define TESSI_FLOW_INTERNAL_H

#include "core/base/assert.h"
#include "core/base/heap.h"
#include "core/base/map.h"
#include "core/base/queue.h"
#include "worker/flow/flow.h"
#include "worker/flow/mixed.h"

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


struct tessi_flow {
    struct tessi_flow_config config;
    struct tessi_flow_actions *actions; /* of the step under way */
    struct flow_pool blocks, tasks, ties, peers, layers;
    struct flow_pool pages;
    struct tessi_map page_of, tie_of, peer_of, layer_of;
    struct tessi_map_key page_key; /* of the page that was written last */
    uint32_t page, block_count;
    uint32_t recent[FLOW_RECENT]; /* layers looked for lately, by id; NONE */
    struct tessi_queue all;    /* every task */
    struct tessi_queue startable[FLOW_KINDS]; /* waiting for a slot of their kind */
    struct tessi_queue runnable; /* started, and the next step has its inputs and a place */
    struct tessi_heap lacking; /* as startable, but for a resource that is not free */
    struct flow_handles set_aside; /* startable, but without room in the round under way */
    bool priorities; /* tasks of different priority have been here: the startable ones are not in task order */
    struct flow_handles holders; /* started tasks that hold resources */
    uint32_t reserved_for; /* the oldest task, which waits for a resource; NONE: it does not */
    uint64_t resources_used[TESSI_RESOURCES_MAX]; /* as in the configuration */
    struct tessi_heap fetch[FLOW_CLASSES];     /* blocks */
    struct tessi_heap reclaim[FLOW_RECLAIMS];  /* blocks; exact once the dirty list is empty */
    struct tessi_heap idle[FLOW_KINDS]; /* slots by queue length */
    struct tessi_heap idle_leases;      /* mapped blocks that nobody here uses, by last use */
    uint64_t idle_lease_bytes;
    struct flow_slot *slots;
    struct flow_handles checks, copies, failed_spills;
    struct flow_handles forgotten; /* blocks of the event under way */
    struct tessi_heap shelved;     /* blocks that are, by the place of the task that wanted them first */
    uint32_t unshelved;            /* the one that was taken from there last; NONE: none, or it has come */
    struct flow_handles answering; /* peers that may be asked for more */
    struct tessi_span *where;  /* of the assignment under way, sorted */
    size_t where_count, where_capacity;
    struct flow_ref *refs;     /* of the task under construction */
    size_t ref_count, ref_capacity;
    struct tessi_report report;
    bool begins_unknown;       /* since the last report, something of which the worker may die */
    uint32_t dirty;            /* head of the list of blocks whose reclaim class is to be worked out */
    uint32_t at_hand;          /* block whose bytes the event under way brought and that is not in memory yet */
    uint64_t asks_put_off;     /* so far */
    uint32_t seq, started, spilling, spill_generation;
    uint32_t streams[FLOW_KINDS]; /* started tasks of several steps, at slots of the kind */
    int64_t now_ns;            /* of the event under way */
    int64_t device_queued_ns;  /* estimated time of what is in the queues of all device slots */
    int64_t device_end_ns;     /* when the last step at a device ended */
    int64_t home_free_ns;      /* when what is on its way from devices to CPU slots will have come, */
    int64_t in_free_ns;        /* and what is on its way to devices */
    double scale[FLOW_KINDS];  /* what tasks take, over their layers' guess_ns; 0: not known */
    uint64_t acted;            /* actions, ever */
    uint64_t clock;            /* counts uses, for the order of cached copies */
    uint64_t used_bytes, peak_bytes, sticky_bytes, owned_sticky_bytes, tiny_sticky_bytes, going_bytes, incoming_bytes, spilled_bytes;
    uint64_t largest_bytes;    /* largest block that was ever owned here */
    uint64_t largest_footprint, heir_bytes;
    uint64_t residue_bytes;
    uint64_t spilling_bytes;  /* on their way to files */
    struct flow_handles relief; /* heirs that a task elsewhere waits for; those that came or went stay for a while */
    uint64_t short_bytes, short_order; /* what the oldest task lacks when nothing here will make room; 0: nothing */
    uint64_t told_short_bytes, told_short_order;
    char *spill_error;         /* owned; NULL: the last spill did not fail */
    bool blocked;              /* the oldest task waits for room: nobody else gets any */
    bool blocked_by_heir;      /* what waits is an heir whose room is owed to an older task elsewhere */
    bool spill_broken;         /* the last spill failed */
    bool spill_rests;          /* and none is tried before the shell says so, or a file has gone */
    bool no_devices;           /* device slots take nothing any more */
    uint64_t leases, parked, spilled_blocks, stale_events, restarted_tasks, evicted_copies;
    uint64_t fetched_bytes, served_bytes, mapped_bytes;
    uint64_t mapped_blocks;    /* lent to us at present */
    uint32_t pulls;            /* under way */
    int64_t pulls_since_ns;    /* there have been some */
    uint64_t pulled_bytes, pulling_ns;
};

static inline void *tessi_flow_pool_at(const struct flow_pool *pool, uint32_t handle)
{
    return pool->chunks[handle / FLOW_CHUNK] + (size_t)(handle % FLOW_CHUNK) * pool->element_size;
}
static inline struct flow_page *flow_page(const struct tessi_flow *flow, uint32_t handle)
{
    return tessi_flow_pool_at(&flow->pages, handle);
}
static inline struct flow_block *flow_block(const struct tessi_flow *flow, uint32_t handle)
{
    return tessi_flow_pool_at(&flow->blocks, handle);
}
static inline struct flow_task *flow_task(const struct tessi_flow *flow, uint32_t handle)
{
    return tessi_flow_pool_at(&flow->tasks, handle);
}
static inline struct flow_tie *flow_tie(const struct tessi_flow *flow, uint32_t handle)
{
    return tessi_flow_pool_at(&flow->ties, handle);
}
static inline struct flow_peer *flow_peer(const struct tessi_flow *flow, uint32_t handle)
{
    return tessi_flow_pool_at(&flow->peers, handle);
}
static inline struct flow_layer *flow_layer(const struct tessi_flow *flow, uint32_t handle)
{
    return tessi_flow_pool_at(&flow->layers, handle);
}
/* What it takes of the budget while its bytes are here. */
static inline uint64_t flow_charge(const struct tessi_flow *flow, const struct flow_block *block)
{
    return tessi_block_charge(block->bytes, flow->config.block_cost);
}
static inline bool flow_block_tiny(const struct tessi_flow *flow, const struct flow_block *block)
{
    return block->bytes < flow->config.block_cost;
}
static inline struct flow_run *flow_run(const struct tessi_flow *flow, const struct flow_slot *slot, uint64_t run)
{
    (void)flow;
    return &slot->ring[run % slot->depth];
}
static inline uint32_t flow_slots_all(const struct tessi_flow *flow)
{
    return flow->config.slots + flow->config.device_slots;
}
static inline uint32_t flow_slot_count(const struct flow_slot *slot)
{
    return (uint32_t)(slot->next - slot->first);
}
/* Its bytes are not there yet, but a step may queue up for them. */
static inline bool flow_block_promised(const struct tessi_flow *flow, const struct flow_block *block)
{
    return block->state == FLOW_MAKING && block->task != FLOW_NONE && flow_task(flow, block->task)->promises;
}
/* The kind of slots that the task is for, or is at once it has started: a task of a layer that may run on either counts as
 * one for devices until then. */
static inline enum flow_kind flow_task_kind(const struct tessi_flow *flow, const struct flow_task *task)
{
    bool device = task->started ? task->at_device : flow_layer(flow, flow_block(flow, task->block)->layer)->device;
    return device ? FLOW_DEVICE : FLOW_CPU;
}
/* It has no more to answer than it may. */
static inline bool flow_peer_answers_more(const struct tessi_flow *flow, const struct flow_peer *peer)
{
    return peer->asked < flow->config.asks_max && peer->asked_bytes < FLOW_ASKED_BYTES_MAX;
}
static inline bool flow_after(struct flow_position a, struct flow_position b)
{
    return a.order != b.order ? a.order > b.order : a.second > b.second;
}
static inline struct flow_position flow_task_position(const struct flow_task *task, uint32_t step)
{
    return (struct flow_position){task->order, (uint64_t)task->seq << 32 | step};
}
/* The block's bytes are complete here, in memory or in a file. */
static inline bool flow_block_servable(const struct flow_block *block)
{
    return block->state == FLOW_LOCAL || block->state == FLOW_SPILLING || block->state == FLOW_SPILLED;
}
static inline bool flow_block_bringable(const struct flow_block *block)
{
    return block->state == FLOW_OFFERED || block->state == FLOW_SPILLED;
}

/* flow.c */
struct tessi_flow_action *tessi_flow_act(struct tessi_flow *flow, enum tessi_flow_action_kind kind, uint32_t block);
uint32_t tessi_flow_layer_find(const struct tessi_flow *flow, uint32_t session, uint32_t id);
uint32_t tessi_flow_layer_get(struct tessi_flow *flow, uint32_t session, uint32_t id); /* found or made */
void tessi_flow_layer_release(struct tessi_flow *flow, uint32_t layer); /* destroyed if nothing holds it */
/* Visit the block records among a span's names, whichever is shorter to walk. */
typedef void tessi_flow_visit_fn(struct tessi_flow *flow, uint32_t block, const struct tessi_span *span);
void tessi_flow_span_blocks(struct tessi_flow *flow, const struct tessi_span *span, tessi_flow_visit_fn *visit);

/* blocks.c */
/* Records come zeroed up to `zeroed` bytes. */
void tessi_flow_pool_init(struct flow_pool *pool, size_t element_size, size_t zeroed);
void tessi_flow_pool_fini(struct flow_pool *pool);
uint32_t tessi_flow_pool_take(struct flow_pool *pool); /* zeroed */
void tessi_flow_pool_give(struct flow_pool *pool, uint32_t handle);
void tessi_flow_handles_push(struct flow_handles *handles, uint32_t handle);
uint32_t tessi_flow_block_find(const struct tessi_flow *flow, struct tessi_task name);
uint32_t tessi_flow_block_create(struct tessi_flow *flow, uint32_t layer, uint64_t index, uint64_t bytes);
struct tessi_task tessi_flow_block_name(const struct tessi_flow *flow, const struct flow_block *block);
struct tessi_span tessi_flow_block_span(const struct tessi_flow *flow, const struct flow_block *block);
void tessi_flow_block_move(struct tessi_flow *flow, uint32_t block, enum flow_state state); /* and update */
void tessi_flow_block_update(struct tessi_flow *flow, uint32_t block);
void tessi_flow_block_file(struct tessi_flow *flow, uint32_t block);   /* its place in the fetch queues */
void tessi_flow_block_touch(struct tessi_flow *flow, uint32_t block);  /* its reclaim class may have changed */
void tessi_flow_block_copy_changed(struct tessi_flow *flow, uint32_t block);
void tessi_flow_block_abandon(struct tessi_flow *flow, uint32_t block); /* its bytes go as soon as nothing holds them */
void tessi_flow_check(struct tessi_flow *flow, uint32_t block);
void tessi_flow_settle(struct tessi_flow *flow); /* all that was checked */
uint32_t tessi_flow_peer_get(struct tessi_flow *flow, uint32_t id);
uint32_t tessi_flow_tie_find(const struct tessi_flow *flow, uint32_t peer_id, uint32_t block);
uint32_t tessi_flow_tie_add(struct tessi_flow *flow, uint32_t peer_id, uint32_t block, uint32_t flags);
void tessi_flow_tie_clear(struct tessi_flow *flow, uint32_t tie, uint32_t flags);
void tessi_flow_block_change_source(struct tessi_flow *flow, uint32_t block, uint32_t peer_id); /* it is another one */
static inline void tessi_flow_block_set_source(struct tessi_flow *flow, uint32_t block, uint32_t peer_id) /* 0: none */
{
    if (flow_block(flow, block)->source != peer_id) {
        tessi_flow_block_change_source(flow, block, peer_id);
    }
}
void tessi_flow_lease_wake(struct tessi_flow *flow, uint32_t block); /* it is used again, or goes; nothing if not idle */

/* users.c */
void tessi_flow_link_set(struct tessi_flow *flow, struct flow_link *link, enum flow_class class);
bool tessi_flow_block_next_use(const struct flow_block *block, struct flow_position *at); /* within a window */
void tessi_flow_users_wake(struct tessi_flow *flow, uint32_t block);   /* it can be read now */
void tessi_flow_users_unwake(struct tessi_flow *flow, uint32_t block); /* it no longer can */
void tessi_flow_task_aim(struct tessi_flow *flow, uint32_t task); /* classes of its links for next_step */
void tessi_flow_link_walk(const struct flow_link *root, void (*visit)(void *context, const struct flow_link *link),
                          void *context);

/* tasks.c */
void tessi_flow_own(struct tessi_flow *flow, uint32_t block, uint32_t epoch); /* a copy becomes the block itself */
void tessi_flow_on_assign(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_steal(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_adopt(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_forget(struct tessi_flow *flow, const struct tessi_span *spans, size_t count);
void tessi_flow_task_ready(struct tessi_flow *flow, uint32_t task);  /* queue it if it can go on */
void tessi_flow_task_unready(struct tessi_flow *flow, uint32_t task);
void tessi_flow_task_unmade(struct tessi_flow *flow, uint32_t task); /* its block may be made now */
void tessi_flow_task_restart(struct tessi_flow *flow, uint32_t task);
void tessi_flow_task_finish(struct tessi_flow *flow, uint32_t task);
void tessi_flow_task_drop(struct tessi_flow *flow, uint32_t task);   /* parked readers stay */

/* slots.c */
void tessi_flow_advance(struct tessi_flow *flow);
uint32_t tessi_flow_oldest(const struct tessi_flow *flow); /* NONE: no task */
void tessi_flow_startable_add(struct tessi_flow *flow, uint32_t task);
void tessi_flow_slot_recount(struct tessi_flow *flow, uint32_t slot); /* its queue has changed */
void tessi_flow_release_held_back(struct tessi_flow *flow, struct flow_slot *slot);

/* mixed.c */
void tessi_flow_mixed_layer(struct flow_layer *layer); /* it may run on either */
double tessi_flow_device_step_ns(const struct tessi_flow *flow, const struct flow_layer *layer, uint32_t steps);
/* Where the task of such a layer starts; the slot is the one that would take it. */
enum tessi_flow_place tessi_flow_place_mixed(const struct tessi_flow *flow, const struct flow_task *task,
                                             int64_t slot_queue_ns, bool slot_open);
/* A step has been handed to a slot, or has ended there: of any layer. */
void tessi_flow_mixed_enqueued(struct tessi_flow *flow, const struct flow_run *run, bool device);
void tessi_flow_mixed_ended(struct tessi_flow *flow, struct flow_layer *layer, const struct flow_run *run, bool device);

/* ends.c */
void tessi_flow_on_step_done(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_no_devices(struct tessi_flow *flow);
void tessi_flow_stream_ended(struct tessi_flow *flow, struct flow_task *task); /* not counted any more */
void tessi_flow_report_started(struct tessi_flow *flow);
void tessi_flow_slots_forget(struct tessi_flow *flow, uint32_t task); /* its steps at slots end unheeded */

/* resources.c */
bool tessi_flow_resources_take(struct tessi_flow *flow, uint32_t task); /* false: not enough is free */
/* Others take nothing of what the oldest task waits for: else two that start over in turns would keep it from it for
 * ever. NONE: nobody waits. */
void tessi_flow_resources_reserve(struct tessi_flow *flow, uint32_t oldest);
void tessi_flow_resources_give(struct tessi_flow *flow, uint32_t task); /* nothing, if it holds none */
void tessi_flow_resources_linger(struct tessi_flow *flow, uint32_t task, struct flow_run *run); /* given with the run */
void tessi_flow_resources_end(struct tessi_flow *flow, const struct flow_run *run);
void tessi_flow_resources_reclaim(struct tessi_flow *flow, uint32_t task); /* for the oldest: others start over */
const struct tessi_wishes *tessi_flow_task_wishes(const struct tessi_flow *flow, const struct flow_task *task);

/* memory.c */
void tessi_flow_hold(struct tessi_flow *flow, uint32_t block);
void tessi_flow_block_empty(struct tessi_flow *flow, uint32_t block); /* FREE_BLOCK and all that goes with it */
bool tessi_flow_room(struct tessi_flow *flow, const struct flow_request *request);
/* An output of `block`, not the oldest task's, may be taken: the oldest task still fits beside what cannot go. */
bool tessi_flow_reserve_kept(const struct tessi_flow *flow, uint32_t block);
/* What of so many sticky bytes the spill budget surely cannot take. */
uint64_t tessi_flow_unspillable_bytes(const struct tessi_flow *flow, uint64_t sticky_bytes);
/* Owned blocks that leave memory only through a spill file: also those on their way to a disk that took nothing lately. */
uint64_t tessi_flow_kept_bytes(const struct tessi_flow *flow);
/* What may be taken back from where, and the key in that heap: the smallest goes first. */
enum flow_reclaim tessi_flow_classify(const struct tessi_flow *flow, const struct flow_block *block,
                                      struct flow_position *key);
void tessi_flow_revoke(struct tessi_flow *flow, uint32_t block);
void tessi_flow_load(struct tessi_flow *flow, uint32_t block);
void tessi_flow_on_spilled(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_spill_again(struct tessi_flow *flow);
void tessi_flow_on_damaged(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_loaded(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_lost(struct tessi_flow *flow, const struct tessi_flow_event *event);

/* fetch.c */
void tessi_flow_shelve(struct tessi_flow *flow, uint32_t block);
void tessi_flow_unshelve(struct tessi_flow *flow, uint32_t block); /* nothing, if it is not */
void tessi_flow_ask(struct tessi_flow *flow, uint32_t block, uint32_t peer_id, uint32_t epoch);
void tessi_flow_ask_now(struct tessi_flow *flow, uint32_t block); /* it is one to be asked for later: it is not any more */
void tessi_flow_ask_no_more(struct tessi_flow *flow, uint32_t block); /* likewise, since nobody will ask */
void tessi_flow_ask_next(struct tessi_flow *flow); /* of peers that have answered */
void tessi_flow_await_client(struct tessi_flow *flow, uint32_t block); /* a RECEIVE block may be pulled */
enum flow_grant tessi_flow_bring(struct tessi_flow *flow, uint32_t block, bool oldest);
void tessi_flow_on_location(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_answer(struct tessi_flow *flow, const struct tessi_flow_event *event); /* READY_…, MOVED, ASK */
void tessi_flow_on_revoke(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_data(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_peer_up(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_peer_lost(struct tessi_flow *flow, const struct tessi_flow_event *event);

/* hand_over.c */
void tessi_flow_on_take_over(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_heir_arrived(struct tessi_flow *flow, uint32_t block); /* its bytes are complete in memory */
void tessi_flow_heir_freed(struct tessi_flow *flow, uint32_t block);   /* what held its old bytes has let them go */
void tessi_flow_heir_refuse(struct tessi_flow *flow, uint32_t block);  /* it will not come: reported as missing */
void tessi_flow_heir_forget(struct tessi_flow *flow, uint32_t block);  /* nobody waits for a report */

bool tessi_flow_heir_first(const struct tessi_flow *flow, const struct flow_block *block); /* before all tasks here */
/* An heir for which there is no room, though it was accepted, and though nothing here will make any: others may have it.
 * False: there was none. */
bool tessi_flow_heirs_refuse_hopeless(struct tessi_flow *flow);

/* shortage.c */
void tessi_flow_notice_short(struct tessi_flow *flow);
bool tessi_flow_short_untold(const struct tessi_flow *flow); /* other than in the last report */
void tessi_flow_report_short(struct tessi_flow *flow);

/* serve.c */
void tessi_flow_on_read(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_pull(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_release(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_serve_parked(struct tessi_flow *flow, uint32_t block);
void tessi_flow_push(struct tessi_flow *flow, uint32_t block); /* to its client, if that waits for it and it is small */
/* Parked readers are sent to `worker`, or back to the scheduler when it is 0. */
void tessi_flow_turn_away(struct tessi_flow *flow, uint32_t block, uint32_t worker, uint32_t epoch);
void tessi_flow_lease_end(struct tessi_flow *flow, uint32_t block); /* one lease fewer */

#endif
