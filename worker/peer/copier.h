/* A thread that moves received bytes into block memory, so that the event loop does not wait for it.
 *
 * A received ZeroMQ message lies in memory of its own; blocks lie in the arena, where neighbours can map
 * them. Making the pages of new block memory is the larger part of the cost, and is done here too. */
#ifndef TESSI_PEER_COPIER_H
#define TESSI_PEER_COPIER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/net/frame.h"
#include "worker/store/store.h"

struct tessi_copier;

/* `wake` is called on the copier's thread when there is something to take. IO. */
TESSI_MUST_USE enum tessi_status tessi_copier_create(void (*wake)(void *context), void *context,
                                                     struct tessi_copier **copier, struct tessi_error *error);
/* Does what was given first. NULL is allowed. */
void tessi_copier_destroy(struct tessi_copier *copier);

/* Copy the frame, which passes to the copier, to `offset` of the block, which is referenced meanwhile. Copies
 * are made in order. With `last`, `token` comes back from tessi_copier_take when this copy has been made.
 * Waits while very much is queued already. */
void tessi_copier_add(struct tessi_copier *copier, struct tessi_block *block, uint64_t offset,
                      struct tessi_frame *frame, bool last, uint64_t token);

/* The next copy with `last` that has been made; false when there is none. NOMEM: the block's memory could not
 * be had, and its bytes are not there. */
bool tessi_copier_take(struct tessi_copier *copier, uint64_t *token, enum tessi_status *status,
                       struct tessi_error *error);

#endif
