/* The memory of a worker's blocks: one large sparse region, cut into extents.
 *
 * The region is a memfd, so that it can be mapped by the other workers of the host, or anonymous
 * memory where memfd is not to be had. Its size is a few times the budget, since addresses cost
 * nothing: what counts is the resident part. Extents of whole pages are found by good fit in bins
 * of sizes, and joined with their free neighbours again; small ones share slabs.
 *
 * A free extent is either resident (its pages are still there, and using it again costs nothing)
 * or empty. Resident and free extents are never joined with empty ones, so both are counted exactly. What
 * is used plus what is free and resident stays below the most ever used plus a sixteenth of the
 * budget: an allocation that needs new pages beyond that gives back the pages that were freed first.
 *
 * One thread allocates and frees. `tessi_extent_commit` may be called by any thread that holds
 * the extent, by one at a time: it makes the pages, so that touching them later cannot fail with a signal. */
#ifndef TESSI_STORE_ARENA_H
#define TESSI_STORE_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"

#define TESSI_BLOCK_ALIGNMENT 64

struct tessi_arena;
struct tessi_extent;

struct tessi_arena_config {
    uint64_t budget_bytes; /* of blocks in use at a time; not enforced here */
    bool anonymous;        /* do not try memfd */
};

/* NOMEM when not even the addresses can be had. */
TESSI_MUST_USE enum tessi_status tessi_arena_create(const struct tessi_arena_config *config, struct tessi_arena **arena,
                                                    struct tessi_error *error);

/* All extents are void after this. NULL is allowed. */
void tessi_arena_destroy(struct tessi_arena *arena);

/* At least `bytes` (0 counts as 1), aligned to TESSI_BLOCK_ALIGNMENT, to a page from 32 KiB on; contents are
 * undefined. NULL when no stretch of addresses is long enough. */
struct tessi_extent *tessi_arena_alloc(struct tessi_arena *arena, uint64_t bytes);
void tessi_arena_free(struct tessi_arena *arena, struct tessi_extent *extent);

/* Make the pages of the extent. Must come before the first touch; again it costs nothing. NOMEM. */
TESSI_MUST_USE enum tessi_status tessi_extent_commit(struct tessi_extent *extent, struct tessi_error *error);
bool tessi_extent_committed(const struct tessi_extent *extent);

void *tessi_extent_data(const struct tessi_extent *extent);
uint64_t tessi_extent_offset(const struct tessi_extent *extent); /* in the arena, for those who map it */

/* Give back the pages of free extents until at most `keep_bytes` of them are resident, and forget the peak:
 * for a worker that has become idle, or a machine that runs out of memory. */
void tessi_arena_trim(struct tessi_arena *arena, uint64_t keep_bytes);

void *tessi_arena_base(const struct tessi_arena *arena); /* address of offset 0 */

/* Never give pages back from now on: somebody has pinned them. */
void tessi_arena_keep_pages(struct tessi_arena *arena);

/* The descriptor that others may map, open for reading only where the system allows it; −1 when the memory
 * cannot be shared. Belongs to the arena. */
int tessi_arena_descriptor(const struct tessi_arena *arena);
uint64_t tessi_arena_size(const struct tessi_arena *arena);

struct tessi_arena_stats {
    uint64_t used_bytes;          /* extents in use, rounded up to pages and slabs */
    uint64_t used_peak_bytes;     /* since the start or the last trim */
    uint64_t free_resident_bytes; /* pages of free extents */
    uint64_t punched_bytes;       /* given back so far */
};
struct tessi_arena_stats tessi_arena_stats(const struct tessi_arena *arena);

/* Asserts that lists, bins and sums agree; for tests. */
void tessi_arena_verify(const struct tessi_arena *arena);

#endif
