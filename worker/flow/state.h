/* All that one planner knows, and the short ways to it. */
#ifndef TESSI_FLOW_STATE_H
#define TESSI_FLOW_STATE_H

#include "core/base/assert.h"
#include "core/base/heap.h"
#include "core/base/map.h"
#include "worker/flow/records.h"

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

#endif
