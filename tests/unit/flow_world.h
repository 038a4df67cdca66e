/* Several planners wired together in memory, for seeded runs: a small scheduler that knows everything, queues that
 * deliver in any order between pairs, slots and disks that take any time, and tiny budgets.
 *
 * A block's content is a hash of all that went into it, so a step that runs too early, twice, or on memory that has
 * been given away changes the result. */
#ifndef TESTS_UNIT_FLOW_WORLD_H
#define TESTS_UNIT_FLOW_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/graph/report.h"
#include "tests/unit/sample.h"
#include "worker/flow/flow.h"

#define WORKERS_MAX 4
#define SLOTS_MAX 8 /* with those of devices */
#define LAYERS_MAX 14
#define SESSION 100u
#define SCHEDULER 0u /* queue ends: 0 scheduler, 1 … W workers, W + 1 the client */
#define ENDS (WORKERS_MAX + 2)

struct message {
    struct tessi_flow_event event;
    struct tessi_spans spans, where;
    struct tessi_report report; /* worker → scheduler */
    bool is_locate;
    uint64_t value;
};

struct queue {
    struct message *items;
    size_t head, count, capacity;
};

struct cell { /* what the shell keeps for a handle */
    bool memory, mapped, file, complete;
    uint64_t value, bytes, generation;
    uint32_t owner, owner_block; /* mapped */
    uint64_t owner_generation;
    struct tessi_task task;
};

struct run {
    struct tessi_flow_action action;
};

struct io {
    bool spill;
    uint32_t block;
};

struct worker {
    struct tessi_flow *flow;
    struct tessi_flow_config config;
    bool alive;
    struct cell *cells;
    size_t cell_capacity;
    struct run *slots[SLOTS_MAX];
    size_t slot_count[SLOTS_MAX];
    uint64_t slot_ended[SLOTS_MAX]; /* number of the last run that has */
    bool slot_cancelled[SLOTS_MAX]; /* the device has given the task's step back, and so those after it */
    struct io *io;
    size_t io_count, io_capacity;
    uint64_t memory_bytes;
};

struct task {
    uint32_t owner, epoch, remaining, holders; /* holders: bit w */
    bool done, freed, stealing, result;
    uint64_t value;
};

struct world {
    struct sample chance;
    uint32_t workers;
    uint32_t host[WORKERS_MAX + 1];
    struct worker worker[WORKERS_MAX + 1];
    struct tessi_layer *layer[LAYERS_MAX];
    size_t layers;
    struct task *tasks[LAYERS_MAX];
    uint64_t base[LAYERS_MAX]; /* order of its first task */
    uint64_t left;
    struct queue queue[ENDS][ENDS];
    struct tessi_flow_actions actions;
    uint64_t generation, restarts, steals, deaths, spills, leases, evictions;
};

static inline uint32_t world_below(struct world *world, uint64_t limit)
{
    return (uint32_t)(sample_next(&world->chance) % limit);
}

/* --- flow_world_graph.c: layers, and what every block must hold --- */

/* Layers, their tasks' owners and values. */
void world_make_graph(struct world *world);

struct task *world_task(struct world *world, uint32_t layer, uint64_t index);

typedef void world_input_fn(struct world *world, uint32_t layer, uint64_t index, void *context);

/* Visits the blocks that a task reads, step by step. */
void world_each_input(struct world *world, uint32_t layer, uint64_t index, world_input_fn *visit, void *context);

/* What a block holds after a step, by what it held before and what the step reads. */
uint64_t world_step_value(const struct tessi_layer *layer, uint64_t index, uint32_t step, uint64_t before,
                          const uint64_t *inputs, uint32_t count);

/* --- flow_world_queues.c: messages on their way --- */

/* A message of nothing at the end of a queue, to be filled at once: the next one may move it. */
struct message *world_post(struct world *world, uint32_t from, uint32_t to);
struct message *world_post_event(struct world *world, uint32_t from, uint32_t to, enum tessi_flow_event_kind kind);
void world_message_fini(struct message *message);
void world_clear_queue(struct queue *queue);

/* --- flow_world_scheduler.c --- */

/* Into an open message of assignments, or one of its own where `message` is NULL. */
void world_assign(struct world *world, uint32_t layer, uint64_t index, struct message *message);
uint32_t world_live_worker(struct world *world);
void world_scheduler_receive(struct world *world, uint32_t from, const struct message *message);
void world_steal_something(struct world *world);

/* Kills a worker; its tasks and blocks go to others. */
void world_kill(struct world *world, uint32_t dead);

/* --- flow_world_shells.c: what a worker does for its planner --- */

void world_create_worker(struct world *world, uint32_t w, uint64_t memory_bytes, uint64_t spill_bytes);
void world_worker_fini(struct worker *worker);

/* Feeds a message to a worker's planner and does what it says. */
void world_step(struct world *world, uint32_t self, struct message *message);

/* Tells the scheduler what the planner has to report, if anything; says whether there was something. */
bool world_report(struct world *world, uint32_t self);

/* Whether the first step in the slot's queue has what it comes after; world_run_slot runs it. */
bool world_may_run(const struct worker *worker, uint32_t slot);
void world_run_slot(struct world *world, uint32_t self, uint32_t slot);

/* Ends one of the worker's reads and writes of files. */
void world_finish_io(struct world *world, uint32_t self);

#endif
