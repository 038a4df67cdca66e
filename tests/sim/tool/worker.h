/* What the rooms of a virtual worker share: blocks.c keeps its blocks and memory, peers.c asks other workers and
 * answers them, tasks.c runs tasks, orders.c takes what the scheduler says. Blocks, tasks and links go by number; a
 * pointer to one is good until the next of its kind is taken. */
#ifndef TESTS_SIM_TOOL_WORKER_H
#define TESTS_SIM_TOOL_WORKER_H

#include "tests/sim/tool/cluster.h"

static inline struct tool_block *tool_block_at(const struct tool_cluster *cluster, uint32_t number)
{
    return &((struct tool_block *)cluster->blocks.items)[number];
}

static inline struct tool_task *tool_task_at(const struct tool_cluster *cluster, uint32_t number)
{
    return &((struct tool_task *)cluster->tasks.items)[number];
}

static inline struct tool_link *tool_link_at(const struct tool_cluster *cluster, uint32_t number)
{
    return &((struct tool_link *)cluster->links.items)[number];
}

/* The block's bytes are at its worker. */
static inline bool tool_is_here(const struct tool_block *block)
{
    return block->state == TOOL_COPY || block->state == TOOL_OWNED;
}

/* --- blocks.c --- */

/* TESSI_MAP_NONE when the worker knows nothing of the block; `get` makes a record then. */
uint32_t tool_find(const struct tool_worker *worker, uint32_t layer, uint64_t index);
uint32_t tool_block_get(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t layer, uint64_t index);

/* Forgets a block that nothing here uses. */
void tool_block_free(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);

struct tessi_span tool_span_of(const struct tool_block *block, uint32_t epoch);

/* Something has been added to the report: it will be sent. */
void tool_has_news(struct tool_cluster *cluster, struct tool_worker *worker);
void tool_send_report(struct tool_cluster *cluster, struct tool_worker *worker);

/* Counts bytes as used; `room` drops copies until so many fit, or says that they do not. */
void tool_take_bytes(struct tool_cluster *cluster, struct tool_worker *worker, uint64_t bytes);
bool tool_room(struct tool_cluster *cluster, struct tool_worker *worker, uint64_t bytes);

/* A copy stands in a list as long as no open step needs it: out of it before anything that decides it changes, into
 * the right one afterwards. */
void tool_unlist(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);
void tool_enlist(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);

/* One more step of an assigned task will read the block. */
void tool_use(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);

/* The block is this worker's from now on. */
void tool_own(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);

/* --- peers.c --- */

/* Asks the block's owner for it, or the scheduler where the owner is not known; `locate` asks the scheduler. */
void tool_request(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);
void tool_locate(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);

/* An open step waits for the block; `place` says how early it comes. */
void tool_want(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint64_t place);

/* Readers that were parked here: they get the block, or have to ask the scheduler. */
void tool_end_readers(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, bool here);

/* --- tasks.c --- */

/* Do what can be done. When nothing moves for want of room alone, the first in order goes beyond it. */
void tool_advance(struct tool_cluster *cluster, struct tool_worker *worker);

/* The block is here: tasks whose steps waited for it may go on. */
void tool_wake(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);

/* The step has read its inputs, or never will. */
void tool_close_step(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint32_t s);
void tool_step_ended(struct tool_cluster *cluster, struct tool_worker *worker, const struct tool_event *event);

/* A task ends here: done, given up or forgotten. Its block stays. */
void tool_task_free(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number);

#endif
