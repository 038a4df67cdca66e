/* The CPU slots of a worker: one stream of the CPU device each, which runs steps one after the other.
 *
 * Before a step runs, its output block must have its pages, and a file that it reads must be one that may be
 * read. Both can take long, so they are done on the slot's thread. */
#ifndef TESSI_WORKER_SLOTS_H
#define TESSI_WORKER_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "worker/flow/flow.h"
#include "worker/store/store.h"
#include "worker/trace/trace.h"

struct tessi_slots;

struct tessi_slots_config {
    uint32_t count;          /* threads */
    uint32_t slots;          /* of the planner: slot s is thread s mod count */
    uint32_t depth;          /* steps that are handed to a slot at a time */
    const char *blas_family; /* kernel family; NULL: the best */
    bool pin;
    const char *name;            /* of the worker, for errors of files: others may see other files */
    const char *data_dir;        /* files are read only below it; NULL: see files_allowed */
    bool files_allowed;          /* any file, when data_dir is NULL */
    const char *write_dir;       /* files are written only below it; NULL: none but */
    bool own_process;            /* those that the program has open, which is the only client */
    void (*wake)(void *context); /* any thread: tessi_slots_take has something */
    void *context;
    struct tessi_trace *trace; /* gets a ring for each slot; outlives the slots */
};

/* Statuses of tessi_blas_open, and IO. */
TESSI_MUST_USE enum tessi_status tessi_slots_create(const struct tessi_slots_config *config, struct tessi_slots **slots,
                                                    struct tessi_error *error);
/* Run what has been handed over to its end; no step is taken after that. */
void tessi_slots_stop(struct tessi_slots *slots);
/* Stops them too. NULL is allowed. */
void tessi_slots_destroy(struct tessi_slots *slots);

/* A RUN action, with its blocks in `store`. They and the layer stay until the outcome has been taken. `cancelled`: it
 * is not run, and ends as CANCELLED in its turn. */
void tessi_slots_run(struct tessi_slots *slots, const struct tessi_flow_action *action, struct tessi_store *store,
                     bool cancelled);

/* Let slots that sleep see what has been given to them. When that is short work for one slot, it is left for
 * tessi_slots_help: a wake-up takes longer. */
void tessi_slots_kick(struct tessi_slots *slots);

/* Before the owner waits: run what was left on the calling thread if the slot still sleeps. True: look for outcomes
 * again, nobody has been woken for them. */
bool tessi_slots_help(struct tessi_slots *slots);

/* The owner has done what it was woken for: a slot that has left it its processor goes on. `awaited`: others wait for
 * what is made here, so the owner wants to hear of it soon. */
void tessi_slots_rest(struct tessi_slots *slots, bool awaited);

/* Slots that have steps whose outcomes were not taken. */
uint32_t tessi_slots_busy(const struct tessi_slots *slots);
/* The owner has been told of outcomes and has not looked yet. */
bool tessi_slots_call(const struct tessi_slots *slots);

/* Steps that have ended and were not taken before, at most `limit`; their number. Texts live until the flow's next
 * actions are carried out. When it is the limit, there may be more. */
size_t tessi_slots_take(struct tessi_slots *slots, struct tessi_flow_outcome *outcomes, size_t limit);

/* Run a task without inputs on the calling thread, as a slot would: blocks that are made again. */
TESSI_MUST_USE enum tessi_status tessi_slots_make(struct tessi_slots *slots, const struct tessi_layer *layer,
                                                  uint64_t index, void *out, struct tessi_error *error);

#endif
