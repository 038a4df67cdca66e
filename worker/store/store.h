/* The blocks of a worker by the handles of worker/flow: in memory, mapped from a neighbour, or spilled.
 *
 *     ──alloc──▶ MEMORY ──spill, then unalloc──▶ SPILLED ──load──▶ MEMORY      any ──free──▶ (nothing)
 *     ──map────▶ MAPPED
 *
 * A spilled block is a file, or, when its layer can make it again (tessi_layer_regenerable), nothing but
 * the layer. What a handle refers to is a counted `struct tessi_block`, so that a send may go on with
 * the bytes after the flow has forgotten the handle; the last reference may be dropped by any
 * thread, and the memory returns to the arena with the owner's next call.
 *
 * All else is for one thread, the owner. Transfers run on the spill thread; `wake` is called from there. */
#ifndef TESSI_STORE_STORE_H
#define TESSI_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/graph/layer.h"
#include "worker/store/arena.h"

struct tessi_store;
struct tessi_block;

typedef void tessi_store_wake_fn(void *context); /* any thread */
/* Make block `index` of a regenerable layer into `out`; on the spill thread. */
typedef enum tessi_status tessi_store_make_fn(void *context, const struct tessi_layer *layer, uint64_t index, void *out,
                                              struct tessi_error *error);

struct tessi_store_config {
    uint64_t memory_bytes;
    const char *spill_dir; /* NULL: regenerable blocks can be spilled, others not */
    bool anonymous;        /* memory that is not shared */
    tessi_store_wake_fn *wake;
    tessi_store_make_fn *make;
    void *context; /* for both */
};

TESSI_MUST_USE enum tessi_status tessi_store_create(const struct tessi_store_config *config, struct tessi_store **store,
                                                    struct tessi_error *error);
/* Waits for transfers, and a while for references that others hold: memory that is still in use then is left
 * where it is, since unmapping it would be worse. NULL is allowed. */
void tessi_store_destroy(struct tessi_store *store);

struct tessi_arena *tessi_store_arena(struct tessi_store *store);

/* ——— handles ——— */

/* Memory for a new handle; its pages are made when it is first committed. NOMEM. */
TESSI_MUST_USE enum tessi_status tessi_store_alloc(struct tessi_store *store, uint32_t handle, uint64_t bytes,
                                                   struct tessi_error *error);
/* A new handle for memory of a neighbour; `release` is called when the last reference goes, on the owner's thread. */
void tessi_store_map(struct tessi_store *store, uint32_t handle, const void *data, uint64_t bytes,
                     void (*release)(void *hint), void *hint);
void tessi_store_free(struct tessi_store *store, uint32_t handle);

/* Begin to spill; the outcome comes from tessi_store_next. The memory stays until unalloc. */
void tessi_store_spill(struct tessi_store *store, uint32_t handle, const struct tessi_layer *layer, uint64_t index);
void tessi_store_unalloc(struct tessi_store *store, uint32_t handle);
/* New memory, filled from the file or by the layer; the outcome comes from tessi_store_next, and the file goes. NOMEM. */
TESSI_MUST_USE enum tessi_status tessi_store_load(struct tessi_store *store, uint32_t handle,
                                                  struct tessi_error *error);

/* The block of a handle: what is spilled of it, or its memory. Borrowed: the handle holds it. */
struct tessi_block *tessi_store_block(const struct tessi_store *store, uint32_t handle, bool spilled);

struct tessi_store_outcome {
    uint32_t handle;
    bool loaded; /* false: spilled */
    bool file;   /* else it is made again */
    enum tessi_status status;
    struct tessi_error error;
};
/* The next finished spill or load of a handle that still exists; false when there is none. */
bool tessi_store_next(struct tessi_store *store, struct tessi_store_outcome *outcome);

/* ——— blocks ——— */

struct tessi_block *tessi_block_ref(struct tessi_block *block);
void tessi_block_unref(struct tessi_block *block); /* any thread */

uint64_t tessi_block_bytes(const struct tessi_block *block);
/* The bytes; NULL when they are not in memory. */
void *tessi_block_data(const struct tessi_block *block);
uint64_t tessi_block_offset(const struct tessi_block *block); /* in our arena; memory that is ours only */
/* Make the pages before the first touch, by any thread. */
TESSI_MUST_USE enum tessi_status tessi_block_commit(struct tessi_block *block, struct tessi_error *error);
bool tessi_block_committed(const struct tessi_block *block);

/* Called on the owner's thread by tessi_store_next. `piece` is memory that holds the bytes, a reference that passes
 * to the callee; NULL on failure. */
typedef void tessi_store_piece_fn(void *context, struct tessi_block *piece, enum tessi_status status,
                                  const struct tessi_error *error);
/* Read [offset, offset + at most one spill piece) of a spilled file, for a send; a block that is made again
 * comes as a whole, whatever the offset. */
void tessi_store_read(struct tessi_store *store, struct tessi_block *block, uint64_t offset, tessi_store_piece_fn *done,
                      void *context);

struct tessi_store_gauges {
    uint64_t memory_bytes;   /* of blocks, as asked for */
    uint64_t resident_bytes; /* pages in use or kept for use */
    uint64_t file_bytes;
    uint64_t spills, loads, remakes;
};
struct tessi_store_gauges tessi_store_gauges(const struct tessi_store *store);

/* Give back memory that is kept for use, when nothing has happened for a while. */
void tessi_store_trim(struct tessi_store *store);

#endif
