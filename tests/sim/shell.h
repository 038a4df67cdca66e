/* What the files of a simulated worker's shell share: worker.c steps the planner, memory.c, slots.c, peers.c and
 * devices.c do what it decides. */
#ifndef TESTS_SIM_SHELL_H
#define TESTS_SIM_SHELL_H

#include "tests/sim/world.h"
#include "worker/deferred.h"

struct place { /* where the bytes of one handle are */
    bool used, mapped;
    bool busy; /* being written to a file, or read back */
    bool to_file; /* it is spilled to one, not made again */
    bool file, damaged;
    struct tessi_task task;
    const struct tessi_layer *layer;
    struct sim_region *memory; /* NULL: only in a file, or to be made again */
    uint64_t bytes, stored;
    uint32_t task_at; /* device of the task that makes it, from 1; 0: none has been chosen */
    uint64_t ticket;  /* its bytes have been asked of a device; 0: no */
};

struct run {
    struct tessi_flow_action action;
    int64_t started_ns;
    bool started;
    bool given_back; /* it is not run: what it reads is lost, or its device cannot */
    bool elsewhere;  /* and the layer's tasks are no longer for devices */
};

struct slot {
    struct run *runs; /* oldest first, owned; the first one may be running */
    size_t count, capacity;
    uint64_t ended, failed; /* numbers of runs: the last that has ended, the last that has not ended well */
    struct tessi_flow_outcome *outcomes; /* not told yet, owned */
    size_t outcome_count, outcome_capacity;
    bool telling;
    uint32_t round; /* of a device slot: losses of its device; ends of steps of earlier rounds mean nothing */
};

struct transfer { /* a PULL that has not been answered */
    uint32_t peer, block;
    struct tessi_task task;
    bool unsent; /* the client it goes to has not connected yet */
};

struct unreadable { /* a send whose file is damaged */
    uint32_t peer;
    struct tessi_task task;
};

struct sim_worker {
    struct tessi_flow *flow;
    struct tessi_gpus *devices; /* NULL: none */
    struct tessi_deferred *deferred; /* with devices */
    struct tessi_flow_config config;
    struct place *places;
    size_t place_count, place_capacity;
    struct slot *slots;
    struct transfer *transfers;
    size_t transfer_count, transfer_capacity;
    uint64_t used_bytes, file_bytes;
    bool flushing, beating;
    bool spill_rests; /* SPILL_AGAIN is on its way */
    bool told_busy;   /* in the last report */
    struct unreadable *unreadable; /* sends that fail, owned */
    size_t unreadable_count, unreadable_capacity;
    /* of the event under way */
    const struct sim_message *message;
    struct tessi_spans locates;
};

static inline bool sim_same_task(struct tessi_task a, struct tessi_task b)
{
    return a.session == b.session && a.layer == b.layer && a.index == b.index;
}

/* worker.c */
void sim_worker_step(struct sim_world *world, struct sim_node *node, struct tessi_flow_event *event,
                     const struct sim_message *message);
/* It joins again as a new worker with nothing, unless it wanted to leave anyway. */
void sim_worker_begin_anew(struct sim_world *world, struct sim_node *node);

/* memory.c: the planner's actions and the ends of what they begin */
struct place *sim_place(struct sim_world *world, struct sim_node *node, uint32_t block);
void sim_memory_alloc(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action);
void sim_memory_map(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action);
void sim_memory_free(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action);
void sim_memory_unalloc(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action);
void sim_memory_load(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action);
void sim_memory_loaded(struct sim_world *world, struct sim_node *node, const struct sim_event *event);
void sim_worker_spill(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action);
void sim_memory_spill_again(struct sim_world *world, struct sim_node *node);
void sim_memory_spilled(struct sim_world *world, struct sim_node *node, const struct sim_event *event);
void sim_check_value(struct sim_world *world, const struct sim_node *node, struct tessi_task task, uint64_t value,
                     const char *use);
/* What the block holds, which must be right: it is about to be believed. */
uint64_t sim_good_value(struct sim_world *world, struct sim_node *node, const struct place *place, const char *use);
/* Likewise, and in host memory. */
uint64_t sim_host_value(struct sim_world *world, struct sim_node *node, const struct place *place, const char *use);

/* slots.c */
uint32_t sim_slots_all(const struct sim_worker *worker);
/* The step is given to the slot, or waits for what it reads. */
void sim_slots_note(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action);
void sim_worker_run(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action, bool lost);
/* The first of the slot's queue. */
void sim_worker_run_ended(struct sim_world *world, struct sim_node *node, uint32_t slot, bool skipped);
void sim_worker_start_steps(struct sim_world *world, struct sim_node *node); /* those whose time has come */
void sim_slots_step_end(struct sim_world *world, struct sim_node *node, const struct sim_event *event);
void sim_slots_step_told(struct sim_world *world, struct sim_node *node, uint32_t number);

/* peers.c */
/* `kept`: what a send that had to wait reads; NULL: what its block holds now. */
void sim_worker_send(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action,
                     struct sim_region *kept);
void sim_peers_unreadable(struct sim_world *world, struct sim_node *node, uint32_t number);
void sim_peers_hello(struct sim_world *world, struct sim_node *node, uint32_t from);
void sim_peers_message(struct sim_world *world, struct sim_node *node, const struct sim_message *message);
void sim_peers_forget(struct sim_worker *worker, uint32_t peer); /* what was pulled from it */

/* devices.c */
void sim_devices_create(struct sim_world *world, struct sim_node *node);
void sim_devices_destroy(struct sim_worker *worker);
bool sim_devices_take(const struct sim_world *world, const struct sim_worker *worker, const struct tessi_layer *layer);
bool sim_devices_either(const struct sim_world *world, const struct tessi_layer *layer); /* CPU slots take them too */
void sim_devices_say(const struct sim_world *world, struct sim_node *node); /* what it joins with */
uint64_t sim_devices_lost_count(const struct sim_worker *worker);
void sim_devices_place(struct sim_worker *worker, const struct tessi_flow_action *action);
/* How a step at a device slot begins: false when it does not come to an end, since its device is broken. */
bool sim_devices_begin(struct sim_world *world, struct sim_node *node, struct slot *slot);
void sim_devices_ended(struct sim_world *world, struct sim_node *node, uint32_t block); /* a step that wrote it */
/* Tells the planner of steps that have ended. */
void sim_devices_tell(struct sim_world *world, struct sim_node *node, struct slot *slot);
void sim_devices_forget(struct sim_worker *worker, uint32_t block);
/* What was held back and need not wait any more. */
void sim_devices_go_on(struct sim_world *world, struct sim_node *node);
/* A block that was asked for has come. */
void sim_devices_home(struct sim_world *world, struct sim_node *node, uint32_t ticket);
void sim_devices_break(struct sim_world *world, struct sim_node *node, uint32_t device);
void sim_devices_lost(struct sim_world *world, struct sim_node *node, uint32_t device); /* the worker notices */
/* What a step at the slot finds in the block. */
uint64_t sim_devices_read(struct sim_world *world, const struct sim_worker *worker, const struct sim_region *region,
                          uint32_t device);

#endif
