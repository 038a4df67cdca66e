/* Actions of the flow that wait until bytes which a device has are in host memory.
 *
 * The flow believes every complete block to be in host memory. Where it is away at a device, a step at a CPU slot,
 * a send or a spill that reads it is held here until it has come; and whatever the flow says later to the same slot
 * or the same peer waits behind it, so that nobody sees another order than the flow's. */
#ifndef TESSI_WORKER_DEFERRED_H
#define TESSI_WORKER_DEFERRED_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/flow/flow.h"
#include "worker/gpu/gpus.h"
#include "worker/store/store.h"

struct tessi_deferred;

struct tessi_deferred *tessi_deferred_create(struct tessi_gpus *gpus, struct tessi_store *store, uint32_t cpu_slots);
void tessi_deferred_destroy(struct tessi_deferred *deferred); /* drops what is held; NULL is allowed */

/* True: the action is held and must not be carried out now. The blocks of a send are referenced meanwhile. */
bool tessi_deferred_hold(struct tessi_deferred *deferred, const struct tessi_flow_action *action);

/* The block of the ticket has come. */
void tessi_deferred_home(struct tessi_deferred *deferred, uint64_t ticket);

/* It will never come: who waits for it goes on with `lost`. */
void tessi_deferred_lost(struct tessi_deferred *deferred, uint64_t ticket);

/* The peer is lost: nothing that was said to it before is said any more. */
void tessi_deferred_forget_peer(struct tessi_deferred *deferred, uint32_t peer);

/* The worker goes: all that is held goes on with `lost`, in order. */
void tessi_deferred_give_up(struct tessi_deferred *deferred);

struct tessi_deferred_action {
    struct tessi_flow_action action;
    struct tessi_block *block; /* of a send: a reference that passes; else NULL */
    bool lost;                 /* what it reads is gone for ever */
};
/* The next one that need not wait any more, in order; false when there is none. It is the caller's to carry out. */
bool tessi_deferred_next(struct tessi_deferred *deferred, struct tessi_deferred_action *next);

#endif
