/* The CPU slots of a worker: one stream of the CPU device each, which runs steps one after the other.
 *
 * Before a step runs, its output block must have its pages, and a file that it reads must be one that may be
 * read. Both can take long, so they are done on the slot's thread: an empty copy goes into the stream first, and
 * its end submits the step. A step is submitted directly only if no such step is on its way, so that
 * the order of the stream is that of the calls. */
#ifndef TESSI_WORKER_SLOTS_H
#define TESSI_WORKER_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "worker/flow/flow.h"
#include "worker/store/store.h"

struct tessi_slots;

struct tessi_slots_config {
    uint32_t count;
    uint32_t depth;          /* steps that are handed to a slot at a time */
    const char *blas_family; /* kernel family; NULL: the best */
    bool pin;
    const char *data_dir;        /* files are read only below it; NULL: see files_allowed */
    bool files_allowed;          /* any file, when data_dir is NULL */
    void (*wake)(void *context); /* any thread: tessi_slots_take has something */
    void *context;
};

/* Statuses of tessi_blas_open, and IO. */
TESSI_MUST_USE enum tessi_status tessi_slots_create(const struct tessi_slots_config *config, struct tessi_slots **slots,
                                                    struct tessi_error *error);
/* Run what has been handed over to its end; no step is taken after that. */
void tessi_slots_stop(struct tessi_slots *slots);
/* Stops them too. NULL is allowed. */
void tessi_slots_destroy(struct tessi_slots *slots);

/* A RUN action, with its blocks in `store`. They and the layer stay until the outcome has been taken. */
void tessi_slots_run(struct tessi_slots *slots, const struct tessi_flow_action *action, struct tessi_store *store);

struct tessi_slot_outcome {
    uint32_t slot, run;
    enum tessi_status status;
    int64_t ran_ns;
    char *text; /* of a failure; NULL for OK; to be freed by the taker */
};
bool tessi_slots_take(struct tessi_slots *slots, struct tessi_slot_outcome *outcome);

/* Run a task without inputs on the calling thread, as a slot would: blocks that are made again. */
TESSI_MUST_USE enum tessi_status tessi_slots_make(struct tessi_slots *slots, const struct tessi_layer *layer,
                                                  uint64_t index, void *out, struct tessi_error *error);

#endif
