/* Which blocks are in a device's memory, as a pure state machine: what to copy in for which step, what to
 * write back, what to drop, and in which order steps go to the device. It knows no device, thread or clock:
 * `tessi_residency_step` takes one event and appends actions, which the worker's shell (or a test) carries out.
 *
 * A block is named outside by its handle of worker/flow, whose bytes are in host memory, and inside by a small
 * number of ours that lives from ALLOC until FREE. Copies and launches go to three streams (in, compute, out)
 * in the order of the actions. The shell lets a launch run after the copies in of its blocks, by events. So LAUNCH
 * follows COPY_IN at once, and nothing waits for a message in between. A copy out comes when the launches that
 * wrote the block have ended.
 *
 *     ABSENT ─→ CLAIMED ─→ COMING ─→ CLEAN ⇄ (written by a launch) DIRTY ─→ LEAVING ─→ CLEAN
 *       ↑          └──────(an output)──────────────────────────────↑                    │
 *       └──────────────────────────────── freed ────────────────────────────────────────┘
 *
 * Order. Steps of one output run in the order in which they come; of all outputs the machine takes the step
 * for which the fewest bytes must be copied, the one that came first among equals. So a panel that is here serves
 * every output that wants it, and a product that exceeds the memory becomes a region of accumulators through which
 * panels stream. New accumulators begin while all of them fill at most ACCUMULATORS of the memory, or when nothing else
 * can go on.
 *
 * Memory. One step at a time claims room. Taken back, in this order: clean blocks that no known step
 * needs, the one used longest ago first; dirty ones (written back first); clean and dirty ones that a later step
 * needs; accumulators, when nothing runs. When more than WRITE_AHEAD of the memory is used, finished dirty
 * blocks are written back before anybody asks. When the device has no memory although the ledger has, more is taken
 * back, then the capacity shrinks to what was there, and a step that does not fit alone is given back (`elsewhere`). Each
 * PROBE doubles a capacity that has shrunk, until it is whole again; a step that would fit then waits for `patience` of them.
 *
 * Failures. A BROKEN device loses what was dirty: every step is given back, every lost block named. A launch that found
 * no memory for its own use (RAN with NOMEM: it has done nothing) shrinks the capacity, and all steps of its output are
 * given back to begin anew, here if the planner likes (DONE with CANCELLED). One that was refused (RAN with BUSY) likewise,
 * but the capacity stays. */
#ifndef TESSI_RESIDENCY_RESIDENCY_H
#define TESSI_RESIDENCY_RESIDENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/graph/layer.h"

#define TESSI_RESIDENCY_GRANULE 512 /* sizes are counted in multiples of it */
#define TESSI_RESIDENCY_ACCUMULATORS(bytes) ((bytes) / 4 * 3)
#define TESSI_RESIDENCY_WRITE_AHEAD(bytes) ((bytes) / 8 * 7)

struct tessi_residency_config {
    uint64_t memory_bytes; /* at most so much is taken, and no more than is needed */
    uint32_t depth;        /* steps at the device at a time, ≥ 1, until tessi_residency_set_depth */
    uint32_t patience;     /* probes that a step waits for when only lost capacity keeps it from running here; 0: it goes */
};

enum tessi_residency_event_kind {
    TESSI_RESIDENCY_STEP,       /* run this step; its inputs are complete in host memory or here */
    TESSI_RESIDENCY_RAN,        /* a launched step has ended */
    TESSI_RESIDENCY_ALLOCATED,  /* memory asked for is there */
    TESSI_RESIDENCY_NO_MEMORY,  /* or is not */
    TESSI_RESIDENCY_COPIED_IN,
    TESSI_RESIDENCY_COPIED_OUT,
    TESSI_RESIDENCY_WANTED,     /* the block's bytes are wanted in host memory: answered by HOST_READY or LOST */
    TESSI_RESIDENCY_FORGET,     /* the handle is gone; no step that has not ended names it */
    TESSI_RESIDENCY_PROBE,      /* some time has passed: what the device refused may be there again */
    TESSI_RESIDENCY_BROKEN,     /* the device is lost; answers that come after it are ignored */
};

struct tessi_residency_event {
    enum tessi_residency_event_kind kind;
    uint32_t step;   /* STEP, RAN: any number that no unfinished step has */
    enum tessi_status status; /* RAN: passed on with DONE */
    bool first;      /* STEP: it begins the output, whose bytes before mean nothing */
    bool last;       /* STEP: the output is complete after it */
    uint32_t out;    /* STEP: handles and sizes */
    uint64_t out_bytes;
    uint32_t in_count;
    const uint32_t *in;       /* borrowed */
    const uint64_t *in_bytes; /* borrowed */
    uint32_t handle; /* WANTED, FORGET */
    uint32_t block;  /* ALLOCATED, NO_MEMORY, COPIED_IN, COPIED_OUT: our number */
};

enum tessi_residency_action_kind {
    TESSI_RESIDENCY_ALLOC,      /* device memory for `block`; answered at once by ALLOCATED or NO_MEMORY */
    TESSI_RESIDENCY_FREE,       /* nothing at the device uses it any more */
    TESSI_RESIDENCY_COPY_IN,    /* from the host's bytes of `handle` */
    TESSI_RESIDENCY_COPY_OUT,   /* to the host's bytes of `handle` */
    TESSI_RESIDENCY_LAUNCH,     /* `step` with `out` and `in`, our numbers */
    TESSI_RESIDENCY_DONE,       /* `step` has ended with `status`, or (elsewhere) its task begins anew: NOMEM, it cannot run
                                   here; LOST, the device is broken; CANCELLED, it may come again */
    TESSI_RESIDENCY_HOST_READY, /* answer to WANTED */
    TESSI_RESIDENCY_LOST,       /* the block's only bytes were on the broken device */
};

struct tessi_residency_action {
    enum tessi_residency_action_kind kind;
    uint32_t block;
    uint32_t handle;
    uint64_t bytes; /* of the block; ALLOC: rounded up to granules */
    uint32_t step;
    enum tessi_status status;
    bool elsewhere;
    uint32_t out;
    uint32_t in_count;
    uint32_t in[TESSI_STEP_REFS_MAX];
};

struct tessi_residency_actions { /* reused from step to step; the caller empties it (count = 0) */
    struct tessi_residency_action *items;
    size_t count;
    size_t capacity;
};

struct tessi_residency;

struct tessi_residency *tessi_residency_create(const struct tessi_residency_config *config);
void tessi_residency_destroy(struct tessi_residency *residency); /* NULL is allowed */

void tessi_residency_step(struct tessi_residency *residency, const struct tessi_residency_event *event,
                          struct tessi_residency_actions *actions);

/* So many steps at the device at a time from now on: short ones want more than long ones. Takes effect with the next event. */
void tessi_residency_set_depth(struct tessi_residency *residency, uint32_t depth);

/* The device holds the only bytes of the block: whoever reads the host's must ask with WANTED first. */
bool tessi_residency_dirty(const struct tessi_residency *residency, uint32_t handle);

struct tessi_residency_stats {
    uint64_t capacity_bytes, used_bytes, peak_bytes;
    uint64_t copied_in_bytes, copied_out_bytes;
    uint64_t hits, misses;     /* inputs that were here when their step was chosen, or not */
    uint64_t evictions, shrinks, given_back;
    uint32_t blocks, waiting, launched; /* steps */
};
void tessi_residency_stats(const struct tessi_residency *residency, struct tessi_residency_stats *stats);

/* Invariants, for tests after every event. Asserts. */
void tessi_residency_verify(const struct tessi_residency *residency);

#endif
