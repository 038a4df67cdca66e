/* Pages made ahead of need, by a thread of the scheduling class that runs only while a processor has nothing else
 * to do. Where the kernel groups the threads of a session, that holds among those of the session only.
 *
 * The first touch of a page costs more than filling it, and would be paid inside the step or the transfer that
 * needs a new block. So free extents of the arena are claimed and their pages made in small pieces; the owner puts
 * what is ready among the free resident extents, which allocations prefer.
 *
 * How much is kept ready follows the demand: what the owner expects to need next, but no more than an eighth of the
 * most ever used, a quarter of the budget and 1 GiB. Until that much has been used, a small part of the
 * budget is kept ready for the first blocks, whether or not they are expected. Used and ready together stay within
 * the budget. When the system refuses pages nothing more is made until the next trim.
 *
 * All functions are for the arena's owner thread. */
#ifndef TESSI_STORE_RESERVE_H
#define TESSI_STORE_RESERVE_H

#include <stdint.h>

#include "worker/store/arena.h"

struct tessi_reserve;

/* Starts the thread. The arena is borrowed. IO. */
TESSI_MUST_USE enum tessi_status tessi_reserve_create(struct tessi_arena *arena, uint64_t budget_bytes,
                                                      struct tessi_reserve **reserve, struct tessi_error *error);
/* Ends it; before the arena. NULL is allowed. */
void tessi_reserve_destroy(struct tessi_reserve *reserve);

/* So many bytes are expected to be asked for by the work at hand. Takes effect with the next tend. */
void tessi_reserve_expect(struct tessi_reserve *reserve, uint64_t bytes);
/* Put what is ready to the free extents, and have more made if there is too little. Costs a few loads. */
void tessi_reserve_tend(struct tessi_reserve *reserve);
/* Stop making pages, and begin anew with a worker that has used nothing: with tessi_arena_trim. Waits for the piece
 * that is being made. */
void tessi_reserve_trim(struct tessi_reserve *reserve);

/* What should be ready when `used_bytes` are in use, `used_peak_bytes` were at most and `expected_bytes` are expected. */
uint64_t tessi_reserve_target(uint64_t budget_bytes, uint64_t used_bytes, uint64_t used_peak_bytes,
                              uint64_t expected_bytes);

/* Wait until what was asked for is made, for tests and benches. */
void tessi_reserve_settle(struct tessi_reserve *reserve);

#endif
