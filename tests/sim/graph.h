/* Random graphs of every operation, and the serial oracle: what each block must hold.
 *
 * A block's content is one 64-bit value, a hash of its layer, its index, and, step by step, of
 * the values that it reads; so a wrong block, a block read too early or a step left out changes
 * every result behind it. */
#ifndef TESTS_SIM_GRAPH_H
#define TESTS_SIM_GRAPH_H

#include "core/graph/layer.h"
#include "core/graph/span.h"
#include "tests/sim/random.h"

#define SIM_PINS_MAX 3

struct sim_completion {
    uint32_t worker, epoch;
};

/* What really happened to a task, as nobody inside the world can know it. */
struct sim_task {
    uint64_t value;
    bool computed; /* value and `broken` are known */
    bool broken;   /* it, or something it reads, is scripted to fail */
    bool fails;    /* scripted: its kernel fails */
    uint32_t run_epoch, run_worker;
    uint32_t settled_epoch; /* the scheduler has been told that this run, or an earlier one, is done */
    uint32_t deaths; /* workers that died while it ran there */
    bool needed;     /* somebody waits for it now, or will need it for what he waits for */
    bool needed_once;
    bool held;       /* as the scheduler last saw it, where nothing may be lost */
    struct sim_completion *done; /* owned */
    size_t done_count, done_capacity;
};

struct sim_layer {
    struct tessi_layer *layer; /* owned */
    struct sim_task *tasks;    /* owned */
    uint64_t task_count;
    int64_t step_ns; /* run time of a step on an ordinary worker */
    uint32_t workers; /* that were there when it was submitted */
    uint32_t pinned_to[SIM_PINS_MAX]; /* worker of the tasks with one place; 0: none has run */
    bool given_up;   /* for want of room: its client has been told, or will be */
    bool detached;   /* the scheduler has forgotten what it was made from */
    bool released;   /* while the script is written: the client has let go of it by now */
};

struct sim_graph {
    uint32_t session;
    struct sim_layer *layers; /* layer id i + 1 is layers[i], owned */
    size_t count, capacity;
    uint64_t tasks;
    bool detached; /* some layer is: when all who have one of its blocks go, it is lost */
};

struct sim_graph_options {
    int64_t scale;      /* elements in the unit of length: decides how large blocks are */
    uint64_t tasks_max; /* of the whole graph */
    int64_t step_max_ns;
    uint32_t fail_percent; /* chance that a layer has a failing task */
    uint32_t fail_more_percent; /* of the other tasks of such a layer */
    uint32_t pairs_percent; /* of what is appended: tasks that read nothing, each two of which are read together */
};

/* Append a few layers that read what is there and not released. */
void sim_graph_extend(struct sim_graph *graph, struct random *random, const struct sim_graph_options *options,
                      uint32_t layers);
void sim_graph_fini(struct sim_graph *graph);

struct sim_layer *sim_graph_layer(const struct sim_graph *graph, uint32_t id);
struct sim_task *sim_graph_task(const struct sim_graph *graph, struct tessi_task task); /* asserts that it exists */

/* False when the block cannot come to be, since a kernel is scripted to fail. */
bool sim_oracle(const struct sim_graph *graph, uint32_t layer, uint64_t index, uint64_t *value);

/* The accumulator after one more step that read `values`. */
uint64_t sim_step_value(const struct tessi_layer *layer, uint64_t index, uint32_t step, uint64_t before,
                        const uint64_t *values, uint32_t count);

uint64_t sim_graph_largest_footprint(const struct sim_graph *graph);
uint64_t sim_graph_bytes(const struct sim_graph *graph);

#endif
