/* The devices of a worker: steps that run on them, and which of them has a block's bytes.
 *
 * The worker's planner knows host memory only: every block has its place there. A step that goes to a device leaves
 * the bytes of its output on that device (the block is `away`), until something on the host wants them. Each
 * device has a machine of worker/residency that says what to copy when; this module carries its actions out on
 * three streams, through two threads of its own (lanes), and brings the outcomes back to the worker's loop.
 *
 * One thread, the owner, calls all of this; `wake` is called from others. A device that breaks is given up: its
 * steps are given back to begin anew elsewhere, and blocks that it alone had are lost. */
#ifndef TESSI_GPU_GPUS_H
#define TESSI_GPU_GPUS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "worker/device/device.h"
#include "worker/flow/flow.h"
#include "worker/store/store.h"
#include "worker/trace/trace.h"

struct tessi_gpus;

struct tessi_gpus_config {
    const char *gpus;   /* NULL or "auto"; "none"; "0,1": these CUDA devices; "emulated" or "emulated:spec" */
    const char *memory; /* of each device: "90%" (NULL) of what is there, or a size such as "8GiB" */
    void (*wake)(void *context); /* any thread: tessi_gpus_take has something */
    void *context;
};

/* Look for devices. *gpus is NULL when there are none, and `error` says why: OK with gpus "auto" or "none". Statuses:
 * INVALID for a wrong setting, NOT_FOUND for a device that was asked for and is not there. */
TESSI_MUST_USE enum tessi_status tessi_gpus_find(const struct tessi_gpus_config *config, struct tessi_gpus **gpus,
                                                 struct tessi_error *error);
/* "cuda90": what a cluster's numerics name has after a plus when products run on such devices. */
const char *tessi_gpus_numerics(const struct tessi_gpus *gpus);
/* What the scheduler is told of them before they are open: of each, since all have the same numerics. What is not known
 * is 0, the name "". */
struct tessi_gpus_offer {
    uint32_t count;
    char name[64];
    uint64_t memory_bytes; /* that will be taken at most, if nobody else has it */
    double gflops, flops_min, bytes_min;
};
void tessi_gpus_offer(const struct tessi_gpus *gpus, struct tessi_gpus_offer *offer); /* NULL: none */
/* "NVIDIA H200, 126 of 140 GiB": for people. */
void tessi_gpus_describe(const struct tessi_gpus *gpus, char *text, size_t size);

/* Open them; before any of what follows. `blas_family` as in struct tessi_device_options. Their streams write
 * rows of the trace. */
TESSI_MUST_USE enum tessi_status tessi_gpus_open(struct tessi_gpus *gpus, const char *blas_family,
                                                 struct tessi_store *store, struct tessi_trace *trace,
                                                 struct tessi_error *error);
/* Run what has been handed over to its end; nothing is taken after that. */
void tessi_gpus_stop(struct tessi_gpus *gpus);
void tessi_gpus_destroy(struct tessi_gpus *gpus); /* stops them too; NULL is allowed */

uint32_t tessi_gpus_alive(const struct tessi_gpus *gpus); /* devices; NULL is allowed: 0 */

/* Whether tasks of the layer are for devices: they support it, and its tasks are large enough to be worth the way.
 * By the layer alone, so that all workers with such devices agree. NULL is allowed. */
bool tessi_gpus_takes(const struct tessi_gpus *gpus, const struct tessi_layer *layer);

/* Whether its bits are the same on processors. */
bool tessi_gpus_either(const struct tessi_layer *layer);
/* Between a device and the host, roughly. */
double tessi_gpus_copy_ns_per_byte(const struct tessi_gpus *gpus);

/* Choose the device for the task of this RUN action, unless that has been done: where most of its inputs are. */
void tessi_gpus_place(struct tessi_gpus *gpus, const struct tessi_flow_action *action);
/* The block is away at another device than the placed step's: it must come home first (`want`). */
bool tessi_gpus_apart(const struct tessi_gpus *gpus, const struct tessi_flow_action *action, uint32_t handle);
/* A RUN action that has been placed and none of whose inputs is apart. Its blocks and layer stay until the outcome has
 * been taken. */
void tessi_gpus_run(struct tessi_gpus *gpus, const struct tessi_flow_action *action);

/* Has what was asked for since the last call done: once for many calls. NULL is allowed. */
void tessi_gpus_kick(struct tessi_gpus *gpus);

/* The host's bytes of the block are not the newest. NULL is allowed. */
bool tessi_gpus_away(const struct tessi_gpus *gpus, uint32_t handle);
/* Bring them: an outcome with the ticket that is returned says when; the same ticket for as long as it has not come.
 * 0: the block is not away. NULL is allowed. */
uint64_t tessi_gpus_want(struct tessi_gpus *gpus, uint32_t handle);
/* The handle is gone, or its host memory is. NULL is allowed. */
void tessi_gpus_forget(struct tessi_gpus *gpus, uint32_t handle);

enum tessi_gpus_outcome_kind {
    TESSI_GPUS_STEP,  /* step */
    TESSI_GPUS_HOME,  /* ticket: a block that was wanted has come */
    TESSI_GPUS_LOST,  /* handle (UINT32_MAX: it is gone already), ticket (0: nobody asked): its only bytes are lost */
};
struct tessi_gpus_outcome {
    enum tessi_gpus_outcome_kind kind;
    uint32_t handle;
    uint64_t ticket;
    struct tessi_flow_outcome step; /* CANCELLED: given back */
    char *text; /* step.text, to be freed by the taker */
};
/* The next ones in their order: several steps (at most `most`) or one of the others; 0: there are none. */
size_t tessi_gpus_take(struct tessi_gpus *gpus, struct tessi_gpus_outcome *outcomes, size_t most);

struct tessi_gpus_stats { /* of all of them */
    uint32_t devices, alive;
    uint64_t memory_bytes, used_bytes, copied_in_bytes, copied_out_bytes, steps, given_back;
};
void tessi_gpus_stats(const struct tessi_gpus *gpus, struct tessi_gpus_stats *stats);

/* One of them, for people. */
struct tessi_gpus_device {
    uint32_t number; /* of its kind */
    const char *name;
    bool alive;
    uint64_t memory_bytes, used_bytes; /* that may be taken of it; that is */
    uint64_t total_bytes;
    uint64_t copied_in_bytes, copied_out_bytes, steps;
    struct tessi_device_gauges gauges; /* when they were last measured */
};
uint32_t tessi_gpus_count(const struct tessi_gpus *gpus); /* lost ones too; NULL is allowed: 0 */
void tessi_gpus_device(struct tessi_gpus *gpus, uint32_t position, struct tessi_gpus_device *device);
/* Measure what the devices do, on a thread beside: asking a driver takes milliseconds. Nothing while the last
 * time is under way. */
void tessi_gpus_measure(struct tessi_gpus *gpus);
/* About once a second: memory that a device has refused may be there again, and is asked for when it is wanted. */
void tessi_gpus_probe(struct tessi_gpus *gpus);

#endif
