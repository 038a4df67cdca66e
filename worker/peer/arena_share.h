/* Lending a worker's arena to the other workers of its host.
 *
 * The owner listens at an abstract Unix socket whose name follows from the address of its peer
 * endpoint, which every peer knows and no other worker of the host has. Whoever connects as the
 * same user gets the arena's descriptor, open for reading only; a thread of its own answers, so that
 * asking takes no longer than a busy worker's loop. The reader maps it once and for all.
 *
 * The reader checks that the owner is the same user and that the file is sealed against shrinking:
 * reading a mapped block can then give stale bytes at worst, never a signal. */
#ifndef TESSI_PEER_ARENA_SHARE_H
#define TESSI_PEER_ARENA_SHARE_H

#include <stdint.h>

#include "core/base/status.h"

struct tessi_share;   /* the owner's side */
struct tessi_mapping; /* a reader's side */

/* `descriptor` is borrowed and must outlive the share; `address` is copied. IO. */
TESSI_MUST_USE enum tessi_status tessi_share_open(const char *address, int descriptor, struct tessi_share **share,
                                                  struct tessi_error *error);
void tessi_share_close(struct tessi_share *share); /* NULL is allowed */

/* Ask for and map the arena of the worker at `address`; waits a second at most. UNREACHABLE: nobody there (another
 * network namespace, for instance); AUTH: another user's; IO, PROTOCOL, NOMEM. */
TESSI_MUST_USE enum tessi_status tessi_mapping_open(const char *address, struct tessi_mapping **mapping,
                                                    struct tessi_error *error);
void tessi_mapping_close(struct tessi_mapping *mapping); /* NULL is allowed */

/* The bytes [offset, offset + bytes) of the arena; NULL when they do not lie inside it. */
const void *tessi_mapping_at(const struct tessi_mapping *mapping, uint64_t offset, uint64_t bytes);

#endif
