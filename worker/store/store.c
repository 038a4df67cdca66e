#include "worker/store/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "worker/store/spill.h"

enum { PATIENCE_SECONDS = 2 }; /* at the end, for references that sends still hold */

enum block_kind { BLOCK_MEMORY, BLOCK_MAPPED, BLOCK_FILE, BLOCK_REMAKE };

struct tessi_block {
    atomic_uint refs;
    enum block_kind kind;
    struct tessi_store *store;
    uint64_t bytes;
    union {
        struct tessi_extent *extent; /* MEMORY */
        struct {                     /* MAPPED */
            const void *data;
            void (*release)(void *hint);
            void *hint;
        };
        uint64_t file; /* FILE */
        struct {       /* REMAKE */
            struct tessi_layer *layer; /* owned */
            uint64_t index;
        };
    };
    struct tessi_block *next_dead;
};

#define BLOCKS_A_CHUNK 512

struct block_chunk {
    struct block_chunk *next;
    struct tessi_block blocks[BLOCKS_A_CHUNK];
};

enum transfer_kind { TRANSFER_SPILL, TRANSFER_LOAD, TRANSFER_PIECE };

struct transfer { /* holds a reference to both blocks */
    enum transfer_kind kind;
    struct tessi_store *store;
    uint32_t handle;
    uint64_t generation;
    struct tessi_block *memory;
    struct tessi_block *spilled;
    enum tessi_status status;
    struct tessi_error error;
    tessi_store_piece_fn *piece; /* PIECE */
    void *context;
    struct transfer *next;
};

struct entry {
    struct tessi_block *memory; /* or a mapping */
    struct tessi_block *spilled;
    uint64_t generation; /* of the handle's use; 0: unused */
};

struct tessi_store {
    struct tessi_store_config config;
    struct tessi_arena *arena;
    struct tessi_spill *spill;
    struct entry *entries;
    size_t entry_count, entry_capacity;
    uint64_t generations;
    uint64_t files;
    struct tessi_store_gauges gauges;
    struct tessi_block *spare; /* records to be used again */
    struct block_chunk *chunks; /* where all records lie, owned */
    atomic_uint_fast64_t blocks; /* not yet dead */
    _Atomic(struct tessi_block *) dead; /* written under the mutex */
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t died;
    struct transfer *finished, **finished_last;
};

/* ——— blocks ——— */

static struct tessi_block *block_create(struct tessi_store *store, enum block_kind kind, uint64_t bytes)
{
    if (store->spare == NULL) {
        struct block_chunk *chunk = tessi_zalloc(sizeof *chunk);
        chunk->next = store->chunks;
        store->chunks = chunk;
        for (size_t i = BLOCKS_A_CHUNK; i-- > 0;) {
            chunk->blocks[i].next_dead = store->spare;
            store->spare = &chunk->blocks[i];
        }
    }
    struct tessi_block *block = store->spare;
    store->spare = block->next_dead;
    *block = (struct tessi_block){0};
    atomic_init(&block->refs, 1);
    block->kind = kind;
    block->store = store;
    block->bytes = bytes;
    (void)atomic_fetch_add_explicit(&store->blocks, 1, memory_order_relaxed);
    return block;
}

struct tessi_block *tessi_block_ref(struct tessi_block *block)
{
    (void)atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
    return block;
}

void tessi_block_unref(struct tessi_block *block)
{
    if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct tessi_store *store = block->store;
    (void)pthread_mutex_lock(&store->mutex);
    block->next_dead = atomic_load_explicit(&store->dead, memory_order_relaxed);
    atomic_store_explicit(&store->dead, block, memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&store->blocks, 1, memory_order_relaxed);
    (void)pthread_cond_signal(&store->died);
    (void)pthread_mutex_unlock(&store->mutex);
}

static void bury(struct tessi_store *store, struct tessi_block *block)
{
    switch (block->kind) {
    case BLOCK_MEMORY:
        store->gauges.memory_bytes -= block->bytes;
        tessi_arena_free(store->arena, block->extent);
        break;
    case BLOCK_MAPPED:
        block->release(block->hint);
        break;
    case BLOCK_FILE:
        store->gauges.file_bytes -= block->bytes;
        tessi_spill_remove(store->spill, block->file);
        break;
    case BLOCK_REMAKE:
        tessi_layer_destroy(block->layer);
        break;
    }
    block->next_dead = store->spare;
    store->spare = block;
}

/* The owner gives its reference back. Only the owner makes new ones, so when it is the last one there is nobody to
 * agree with. */
static void drop(struct tessi_store *store, struct tessi_block *block)
{
    if (atomic_load_explicit(&block->refs, memory_order_acquire) == 1) {
        (void)atomic_fetch_sub_explicit(&store->blocks, 1, memory_order_relaxed);
        bury(store, block);
    } else {
        tessi_block_unref(block);
    }
}

static void reap(struct tessi_store *store)
{
    if (atomic_load_explicit(&store->dead, memory_order_relaxed) == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&store->mutex);
    struct tessi_block *dead = atomic_load_explicit(&store->dead, memory_order_relaxed);
    atomic_store_explicit(&store->dead, NULL, memory_order_relaxed);
    (void)pthread_mutex_unlock(&store->mutex);
    while (dead != NULL) {
        struct tessi_block *next = dead->next_dead;
        bury(store, dead);
        dead = next;
    }
}

static enum tessi_status memory_create(struct tessi_store *store, uint64_t bytes, struct tessi_block **block,
                                       struct tessi_error *error)
{
    reap(store);
    struct tessi_extent *extent = tessi_arena_alloc(store->arena, bytes);
    if (extent == NULL) {
        *block = NULL;
        return tessi_fail(error, TESSI_NOMEM,
                          "block of %llu bytes: no room in the worker's memory; give a larger memory budget",
                          (unsigned long long)bytes);
    }
    *block = block_create(store, BLOCK_MEMORY, bytes);
    (*block)->extent = extent;
    store->gauges.memory_bytes += bytes;
    return TESSI_OK;
}

uint64_t tessi_block_bytes(const struct tessi_block *block)
{
    return block->bytes;
}

void *tessi_block_data(const struct tessi_block *block)
{
    switch (block->kind) {
    case BLOCK_MEMORY:
        return tessi_extent_data(block->extent);
    case BLOCK_MAPPED:
        return (void *)(uintptr_t)block->data;
    case BLOCK_FILE:
    case BLOCK_REMAKE:
        return NULL;
    }
    return NULL;
}

uint64_t tessi_block_offset(const struct tessi_block *block)
{
    TESS_ASSERT(block->kind == BLOCK_MEMORY);
    return tessi_extent_offset(block->extent);
}

enum tessi_status tessi_block_commit(struct tessi_block *block, struct tessi_error *error)
{
    return block->kind == BLOCK_MEMORY ? tessi_extent_commit(block->extent, error) : TESSI_OK;
}

bool tessi_block_committed(const struct tessi_block *block)
{
    return block->kind != BLOCK_MEMORY || tessi_extent_committed(block->extent);
}

/* ——— handles ——— */

static struct entry *entry_of(const struct tessi_store *store, uint32_t handle)
{
    TESS_ASSERT(handle < store->entry_count && store->entries[handle].generation != 0);
    return &store->entries[handle];
}

static struct entry *entry_create(struct tessi_store *store, uint32_t handle)
{
    if (handle >= store->entry_count) {
        tessi_grow(&store->entries, &store->entry_capacity, (size_t)handle + 1, sizeof *store->entries);
        for (; store->entry_count <= handle; store->entry_count++) {
            store->entries[store->entry_count] = (struct entry){0};
        }
    }
    struct entry *entry = &store->entries[handle];
    TESS_ASSERT(entry->generation == 0);
    entry->generation = ++store->generations;
    return entry;
}

enum tessi_status tessi_store_alloc(struct tessi_store *store, uint32_t handle, uint64_t bytes,
                                    struct tessi_error *error)
{
    struct tessi_block *block;
    enum tessi_status status = memory_create(store, bytes, &block, error);
    if (status == TESSI_OK) {
        entry_create(store, handle)->memory = block;
    }
    return status;
}

void tessi_store_map(struct tessi_store *store, uint32_t handle, const void *data, uint64_t bytes,
                     void (*release)(void *hint), void *hint)
{
    struct tessi_block *block = block_create(store, BLOCK_MAPPED, bytes);
    block->data = data;
    block->release = release;
    block->hint = hint;
    entry_create(store, handle)->memory = block;
}

void tessi_store_free(struct tessi_store *store, uint32_t handle)
{
    struct entry *entry = entry_of(store, handle);
    if (entry->memory != NULL) {
        drop(store, entry->memory);
    }
    if (entry->spilled != NULL) {
        drop(store, entry->spilled);
    }
    *entry = (struct entry){0};
    reap(store);
}

void tessi_store_unalloc(struct tessi_store *store, uint32_t handle)
{
    struct entry *entry = entry_of(store, handle);
    if (entry->memory != NULL) {
        drop(store, entry->memory);
        entry->memory = NULL;
        reap(store);
    }
}

struct tessi_block *tessi_store_block(const struct tessi_store *store, uint32_t handle, bool spilled)
{
    const struct entry *entry = entry_of(store, handle);
    return spilled ? entry->spilled : entry->memory;
}

/* ——— transfers ——— */

static struct transfer *transfer_create(struct tessi_store *store, enum transfer_kind kind, struct tessi_block *memory,
                                        struct tessi_block *spilled)
{
    struct transfer *transfer = tessi_zalloc(sizeof *transfer);
    transfer->kind = kind;
    transfer->store = store;
    transfer->memory = memory;
    transfer->spilled = spilled;
    return transfer;
}

/* The spill thread's last word on a transfer. */
static void transfer_finish(void *context, enum tessi_status status, const struct tessi_error *error)
{
    struct transfer *transfer = context;
    struct tessi_store *store = transfer->store;
    transfer->status = status;
    if (status != TESSI_OK) {
        transfer->error = *error;
    }
    (void)pthread_mutex_lock(&store->mutex);
    transfer->next = NULL;
    *store->finished_last = transfer;
    store->finished_last = &transfer->next;
    (void)pthread_mutex_unlock(&store->mutex);
    store->config.wake(store->config.context);
}

static struct transfer *transfer_take(struct tessi_store *store)
{
    (void)pthread_mutex_lock(&store->mutex);
    struct transfer *transfer = store->finished;
    if (transfer != NULL) {
        store->finished = transfer->next;
        if (store->finished == NULL) {
            store->finished_last = &store->finished;
        }
    }
    (void)pthread_mutex_unlock(&store->mutex);
    return transfer;
}

void tessi_store_spill(struct tessi_store *store, uint32_t handle, const struct tessi_layer *layer, uint64_t index)
{
    struct entry *entry = entry_of(store, handle);
    TESS_ASSERT(entry->memory != NULL && entry->spilled == NULL);
    bool remake = tessi_layer_regenerable(layer);
    struct tessi_block *spilled = block_create(store, remake ? BLOCK_REMAKE : BLOCK_FILE, entry->memory->bytes);
    struct transfer *transfer = transfer_create(store, TRANSFER_SPILL, tessi_block_ref(entry->memory), spilled);
    transfer->handle = handle;
    transfer->generation = entry->generation;
    if (remake) {
        spilled->layer = tessi_layer_copy(layer);
        spilled->index = index;
        transfer_finish(transfer, TESSI_OK, NULL);
        return;
    }
    spilled->file = ++store->files;
    store->gauges.file_bytes += spilled->bytes;
    store->gauges.spills++;
    tessi_spill_write(store->spill, spilled->file, tessi_block_data(entry->memory), spilled->bytes, transfer_finish,
                      transfer);
}

static enum tessi_status make_again(void *context, struct tessi_error *error)
{
    struct transfer *transfer = context;
    const struct tessi_store_config *config = &transfer->store->config;
    enum tessi_status status = tessi_block_commit(transfer->memory, error);
    if (status != TESSI_OK) {
        return status;
    }
    return config->make(config->context, transfer->spilled->layer, transfer->spilled->index,
                        tessi_block_data(transfer->memory), error);
}

static enum tessi_status commit_memory(void *context, struct tessi_error *error)
{
    return tessi_block_commit(context, error);
}

/* Fill transfer->memory with the spilled bytes from `offset` on, then finish. */
static void transfer_read(struct transfer *transfer, uint64_t offset)
{
    struct tessi_store *store = transfer->store;
    const struct tessi_block *spilled = transfer->spilled;
    if (spilled->kind == BLOCK_REMAKE) {
        store->gauges.remakes++;
        tessi_spill_call(store->spill, make_again, transfer_finish, transfer);
        return;
    }
    /* Without pages the read would fail with EFAULT, so the outcome of the commit needs no look of its own. */
    tessi_spill_call(store->spill, commit_memory, NULL, transfer->memory);
    tessi_spill_read(store->spill, spilled->file, spilled->bytes, offset, tessi_block_data(transfer->memory),
                     transfer->memory->bytes, transfer_finish, transfer);
}

enum tessi_status tessi_store_load(struct tessi_store *store, uint32_t handle, struct tessi_error *error)
{
    struct entry *entry = entry_of(store, handle);
    TESS_ASSERT(entry->memory == NULL && entry->spilled != NULL);
    struct tessi_block *memory;
    enum tessi_status status = memory_create(store, entry->spilled->bytes, &memory, error);
    if (status != TESSI_OK) {
        return status;
    }
    struct transfer *transfer = transfer_create(store, TRANSFER_LOAD, memory, tessi_block_ref(entry->spilled));
    transfer->handle = handle;
    transfer->generation = entry->generation;
    store->gauges.loads++;
    transfer_read(transfer, 0);
    return TESSI_OK;
}

void tessi_store_read(struct tessi_store *store, struct tessi_block *block, uint64_t offset, tessi_store_piece_fn *done,
                      void *context)
{
    TESS_ASSERT(block->kind == BLOCK_FILE || block->kind == BLOCK_REMAKE);
    uint64_t bytes = block->bytes;
    if (block->kind == BLOCK_FILE) {
        TESS_ASSERT(offset <= bytes);
        bytes = bytes - offset < TESSI_SPILL_PIECE_BYTES ? bytes - offset : TESSI_SPILL_PIECE_BYTES;
    }
    struct tessi_block *memory;
    struct tessi_error error;
    enum tessi_status status = memory_create(store, bytes, &memory, &error);
    struct transfer *transfer = transfer_create(store, TRANSFER_PIECE, memory, tessi_block_ref(block));
    transfer->piece = done;
    transfer->context = context;
    if (status != TESSI_OK) {
        transfer_finish(transfer, status, &error);
        return;
    }
    transfer_read(transfer, offset);
}

/* Let the handle have what was transferred; false when it has been freed meanwhile. */
static bool transfer_apply(struct tessi_store *store, struct transfer *transfer)
{
    bool alive =
        transfer->handle < store->entry_count && store->entries[transfer->handle].generation == transfer->generation;
    if (alive && transfer->status == TESSI_OK) {
        struct entry *entry = &store->entries[transfer->handle];
        if (transfer->kind == TRANSFER_SPILL) {
            entry->spilled = tessi_block_ref(transfer->spilled);
        } else {
            entry->memory = tessi_block_ref(transfer->memory);
            tessi_block_unref(entry->spilled);
            entry->spilled = NULL;
        }
    }
    return alive;
}

bool tessi_store_next(struct tessi_store *store, struct tessi_store_outcome *outcome)
{
    bool found = false;
    struct transfer *transfer;
    while (!found && (transfer = transfer_take(store)) != NULL) {
        if (transfer->kind == TRANSFER_PIECE) {
            bool ok = transfer->status == TESSI_OK;
            transfer->piece(transfer->context, ok ? tessi_block_ref(transfer->memory) : NULL, transfer->status,
                            &transfer->error);
        } else {
            found = transfer_apply(store, transfer);
            outcome->handle = transfer->handle;
            outcome->loaded = transfer->kind == TRANSFER_LOAD;
            outcome->file = transfer->spilled->kind == BLOCK_FILE;
            outcome->status = transfer->status;
            outcome->error = transfer->error;
        }
        if (transfer->memory != NULL) {
            tessi_block_unref(transfer->memory);
        }
        tessi_block_unref(transfer->spilled);
        tessi_free(transfer);
    }
    reap(store);
    return found;
}

/* ——— the store ——— */

enum tessi_status tessi_store_create(const struct tessi_store_config *config, struct tessi_store **out,
                                     struct tessi_error *error)
{
    *out = NULL;
    enum tessi_status status;
    struct tessi_store *store = tessi_zalloc(sizeof *store);
    store->config = *config;
    store->config.spill_dir = NULL; /* the caller's */
    store->finished_last = &store->finished;
    (void)pthread_mutex_init(&store->mutex, NULL);
    (void)pthread_cond_init(&store->died, NULL);
    struct tessi_arena_config arena = {config->memory_bytes, config->anonymous};
    TESSI_TRY(tessi_arena_create(&arena, &store->arena, error));
    TESSI_TRY(tessi_spill_create(config->spill_dir, &store->spill, error));
    *out = store;
    return TESSI_OK;
cleanup:
    tessi_arena_destroy(store->arena);
    (void)pthread_cond_destroy(&store->died);
    (void)pthread_mutex_destroy(&store->mutex);
    tessi_free(store);
    return status;
}

/* No block is left. */
static void free_chunks(struct tessi_store *store)
{
    while (store->chunks != NULL) {
        struct block_chunk *chunk = store->chunks;
        store->chunks = chunk->next;
        tessi_free(chunk);
    }
    store->spare = NULL;
}

/* Wait until all blocks are dead, for some time; false when some are not. */
static bool wait_for_blocks(struct tessi_store *store)
{
    struct timespec limit;
    (void)clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PATIENCE_SECONDS;
    int rc = 0;
    (void)pthread_mutex_lock(&store->mutex);
    while (store->blocks > 0 && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&store->died, &store->mutex, &limit);
    }
    bool dead = store->blocks == 0;
    (void)pthread_mutex_unlock(&store->mutex);
    return dead;
}

void tessi_store_destroy(struct tessi_store *store)
{
    if (store == NULL) {
        return;
    }
    for (uint32_t handle = 0; handle < store->entry_count; handle++) {
        if (store->entries[handle].generation != 0) {
            tessi_store_free(store, handle);
        }
    }
    tessi_spill_drain(store->spill);
    struct tessi_store_outcome outcome;
    while (tessi_store_next(store, &outcome)) {
    }
    bool dead = wait_for_blocks(store);
    reap(store);
    tessi_spill_destroy(store->spill);
    tessi_free(store->entries);
    if (!dead) {
        return; /* the memory, and what its last users will touch, stay until the process ends */
    }
    tessi_arena_destroy(store->arena);
    free_chunks(store);
    (void)pthread_cond_destroy(&store->died);
    (void)pthread_mutex_destroy(&store->mutex);
    tessi_free(store);
}

struct tessi_arena *tessi_store_arena(struct tessi_store *store)
{
    return store->arena;
}

struct tessi_store_gauges tessi_store_gauges(const struct tessi_store *store)
{
    struct tessi_store_gauges gauges = store->gauges;
    struct tessi_arena_stats stats = tessi_arena_stats(store->arena);
    gauges.resident_bytes = stats.used_bytes + stats.free_resident_bytes;
    return gauges;
}

void tessi_store_trim(struct tessi_store *store)
{
    reap(store);
    (void)pthread_mutex_lock(&store->mutex);
    bool empty = store->blocks == 0 && atomic_load_explicit(&store->dead, memory_order_relaxed) == NULL;
    (void)pthread_mutex_unlock(&store->mutex);
    if (empty) {
        free_chunks(store);
        tessi_free(store->entries);
        store->entries = NULL;
        store->entry_count = store->entry_capacity = 0;
    }
    tessi_arena_trim(store->arena, store->config.memory_bytes / 16);
}
