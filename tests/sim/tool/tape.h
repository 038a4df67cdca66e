/* What the scheduler machine was told, in order, to be told again to another one.
 *
 * In a run the models of the workers use the processor between the scheduler's steps, and with thousands of workers
 * they leave little of the scheduler's memory in its caches; in a cluster the workers have processors of their own.
 * Played again, the steps have nothing between them but the unpacking of the next message, as in the server. The
 * machine is a function of its events, so it does the same work again. */
#ifndef TESTS_SIM_TOOL_TAPE_H
#define TESTS_SIM_TOOL_TAPE_H

#include "core/sched/sched.h"
#include "tests/sim/tool/graphs.h"

struct tool_tape { /* zeroed, it is empty */
    uint8_t *bytes; /* owned */
    size_t size, capacity;
};

struct tool_tape_times { /* processor time of the steps */
    double join_seconds, accept_seconds, scheduler_seconds; /* as in tool_result */
};

void tool_tape_write(struct tool_tape *tape, const struct tessi_sched_event *event);
/* `first_measured`: only what comes after the submission of that layer counts. */
void tool_tape_play(const struct tool_tape *tape, const struct tool_graph *graph,
                    const struct tessi_sched_config *config, size_t first_measured, struct tool_tape_times *times);
void tool_tape_fini(struct tool_tape *tape);

#endif
