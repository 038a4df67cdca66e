#include "worker/store/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum {
    PAGE_BYTES = 4096, /* our unit; a system with larger pages gets it rounded up at creation */
    SMALL_MAX = 16384, /* larger extents are whole pages of their own */
    SLAB_BYTES = 262144,
    SMALL_CLASSES = 33, /* 64 bytes, then four steps a doubling up to SMALL_MAX */
    BIN_STEPS = 8,      /* bins a doubling */
    BINS = 44 * BIN_STEPS,
    BIN_LOOK = 16, /* how many of the first bin's extents are tried */
    NODES_A_CHUNK = 256,
    ZERO_BYTES = 16384, /* written again and again, so it should stay in the nearest cache */
    ZERO_VECTORS = 64,
};

enum extent_state { EXTENT_SPARE, EXTENT_USED, EXTENT_RESIDENT, EXTENT_EMPTY, EXTENT_SMALL };

struct slab;

struct tessi_extent {
    struct tessi_arena *arena;
    uint64_t offset;
    uint64_t bytes;
    enum extent_state state;
    atomic_bool committed;
    uint16_t slot;     /* small only, as is the next */
    struct slab *slab;
    /* Small ones end here: there may be millions. */
    struct tessi_extent *before, *after;      /* whole pages: neighbours in the region */
    struct tessi_extent *bin_prev, *bin_next; /* free: others of this size; spare nodes use bin_next */
    struct tessi_extent *old_prev, *old_next; /* resident: in the order in which they were freed */
};

#define SMALL_NODE_BYTES offsetof(struct tessi_extent, before)

struct slab { /* one extent cut into equal small ones */
    struct tessi_extent *extent;
    uint32_t size_class;
    uint32_t slot_count;
    uint32_t free_count;
    uint8_t *nodes; /* of its extents, by slot, owned */
    uint16_t free_slots[SLAB_BYTES / 64];
    struct slab *prev, *next; /* among those of the class that have a free slot */
    struct slab *all_prev, *all_next;
};

struct bins {
    struct tessi_extent *head[BINS];
    uint64_t filled[(BINS + 63) / 64];
};

struct node_chunk {
    struct node_chunk *next;
    struct tessi_extent nodes[NODES_A_CHUNK];
};

struct tessi_arena {
    uint8_t *base;
    uint64_t size;
    uint64_t page_bytes;
    uint64_t slack_bytes;
    bool keeps;    /* pages are never given back */
    int fd;        /* −1: anonymous memory */
    int shared_fd; /* the same file, read-only */
    struct tessi_extent *first;
    struct bins resident, empty;
    struct tessi_extent *oldest, *newest;
    struct slab *slabs[SMALL_CLASSES]; /* with a free slot */
    struct slab *all_slabs;
    struct tessi_extent *spare;
    struct node_chunk *chunks;
    struct tessi_arena_stats stats;
};

/* ——— nodes ——— */

static struct tessi_extent *node_take(struct tessi_arena *arena)
{
    if (arena->spare == NULL) {
        struct node_chunk *chunk = tessi_zalloc(sizeof *chunk);
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        for (size_t i = 0; i < NODES_A_CHUNK; i++) {
            chunk->nodes[i].bin_next = arena->spare;
            arena->spare = &chunk->nodes[i];
        }
    }
    struct tessi_extent *node = arena->spare;
    arena->spare = node->bin_next;
    *node = (struct tessi_extent){.arena = arena};
    return node;
}

static void node_give(struct tessi_arena *arena, struct tessi_extent *node)
{
    *node = (struct tessi_extent){.state = EXTENT_SPARE, .bin_next = arena->spare};
    arena->spare = node;
}

/* ——— bins of free extents ——— */

/* The bin of extents of `pages` pages: exact up to 2 · BIN_STEPS pages, then BIN_STEPS bins a doubling. */
static uint32_t bin_of(uint64_t pages)
{
    if (pages < 2 * BIN_STEPS) {
        return (uint32_t)pages;
    }
    uint32_t log = 63 - (uint32_t)__builtin_clzll(pages);
    uint32_t bin = (log - 2) * BIN_STEPS + (uint32_t)((pages >> (log - 3)) & (BIN_STEPS - 1));
    return bin < BINS ? bin : BINS - 1;
}

static struct bins *bins_for(struct tessi_arena *arena, enum extent_state state)
{
    TESS_ASSERT(state == EXTENT_RESIDENT || state == EXTENT_EMPTY);
    return state == EXTENT_RESIDENT ? &arena->resident : &arena->empty;
}

static void free_list_add(struct tessi_arena *arena, struct tessi_extent *extent)
{
    struct bins *bins = bins_for(arena, extent->state);
    uint32_t bin = bin_of(extent->bytes / arena->page_bytes);
    extent->bin_prev = NULL;
    extent->bin_next = bins->head[bin];
    if (extent->bin_next != NULL) {
        extent->bin_next->bin_prev = extent;
    }
    bins->head[bin] = extent;
    bins->filled[bin / 64] |= UINT64_C(1) << (bin % 64);
    if (extent->state == EXTENT_RESIDENT) {
        arena->stats.free_resident_bytes += extent->bytes;
        extent->old_prev = arena->newest;
        extent->old_next = NULL;
        *(arena->newest != NULL ? &arena->newest->old_next : &arena->oldest) = extent;
        arena->newest = extent;
    }
}

static void free_list_remove(struct tessi_arena *arena, struct tessi_extent *extent)
{
    struct bins *bins = bins_for(arena, extent->state);
    uint32_t bin = bin_of(extent->bytes / arena->page_bytes);
    *(extent->bin_prev != NULL ? &extent->bin_prev->bin_next : &bins->head[bin]) = extent->bin_next;
    if (extent->bin_next != NULL) {
        extent->bin_next->bin_prev = extent->bin_prev;
    }
    if (bins->head[bin] == NULL) {
        bins->filled[bin / 64] &= ~(UINT64_C(1) << (bin % 64));
    }
    extent->bin_prev = extent->bin_next = NULL;
    if (extent->state == EXTENT_RESIDENT) {
        arena->stats.free_resident_bytes -= extent->bytes;
        *(extent->old_prev != NULL ? &extent->old_prev->old_next : &arena->oldest) = extent->old_next;
        *(extent->old_next != NULL ? &extent->old_next->old_prev : &arena->newest) = extent->old_prev;
        extent->old_prev = extent->old_next = NULL;
    }
}

static struct tessi_extent *free_list_find(const struct tessi_arena *arena, const struct bins *bins, uint64_t bytes)
{
    uint32_t bin = bin_of(bytes / arena->page_bytes);
    struct tessi_extent *best = NULL;
    uint32_t looked = 0;
    /* The last bin has no upper end, so all of it is searched. */
    for (struct tessi_extent *e = bins->head[bin]; e != NULL && (looked < BIN_LOOK || bin == BINS - 1);
         e = e->bin_next, looked++) {
        if (e->bytes >= bytes && (best == NULL || e->bytes < best->bytes)) {
            best = e;
        }
    }
    if (best != NULL) {
        return best;
    }
    for (uint32_t word = (bin + 1) / 64; word < sizeof bins->filled / sizeof bins->filled[0]; word++) {
        uint64_t set = bins->filled[word];
        if (word == (bin + 1) / 64) {
            set &= ~UINT64_C(0) << ((bin + 1) % 64);
        }
        if (set != 0) {
            return bins->head[word * 64 + (uint32_t)__builtin_ctzll(set)];
        }
    }
    return NULL;
}

/* ——— free extents ——— */

/* Join a free extent, which is in no list, with free neighbours of its kind, and list the result. */
static void free_insert(struct tessi_arena *arena, struct tessi_extent *extent)
{
    struct tessi_extent *before = extent->before;
    if (before != NULL && before->state == extent->state) {
        free_list_remove(arena, before);
        before->bytes += extent->bytes;
        before->after = extent->after;
        if (extent->after != NULL) {
            extent->after->before = before;
        }
        node_give(arena, extent);
        extent = before;
    }
    struct tessi_extent *after = extent->after;
    if (after != NULL && after->state == extent->state) {
        free_list_remove(arena, after);
        extent->bytes += after->bytes;
        extent->after = after->after;
        if (after->after != NULL) {
            after->after->before = extent;
        }
        node_give(arena, after);
    }
    free_list_add(arena, extent);
}

/* Give the pages of [offset, +bytes) back to the system; false when it would not have them. */
static bool pages_drop(const struct tessi_arena *arena, uint64_t offset, uint64_t bytes)
{
    if (arena->fd >= 0) {
        int rc;
        do {
            rc = fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
        } while (rc != 0 && errno == EINTR);
        return rc == 0;
    }
    return madvise(arena->base + offset, bytes, MADV_DONTNEED) == 0;
}

/* Empty the resident extent that was freed first. */
static bool punch_oldest(struct tessi_arena *arena)
{
    struct tessi_extent *extent = arena->oldest;
    if (extent == NULL || arena->keeps || !pages_drop(arena, extent->offset, extent->bytes)) {
        return false;
    }
    free_list_remove(arena, extent);
    arena->stats.punched_bytes += extent->bytes;
    extent->state = EXTENT_EMPTY;
    free_insert(arena, extent);
    return true;
}

static void punch_above(struct tessi_arena *arena, uint64_t bound_bytes)
{
    while (arena->stats.used_bytes + arena->stats.free_resident_bytes > bound_bytes && punch_oldest(arena)) {
    }
}

/* ——— whole pages ——— */

/* Cut `bytes` from the front of a free extent; the rest stays free as it was. */
static void extent_cut(struct tessi_arena *arena, struct tessi_extent *extent, uint64_t bytes)
{
    free_list_remove(arena, extent);
    if (extent->bytes > bytes) {
        struct tessi_extent *rest = node_take(arena);
        rest->offset = extent->offset + bytes;
        rest->bytes = extent->bytes - bytes;
        rest->state = extent->state;
        rest->before = extent;
        rest->after = extent->after;
        if (rest->after != NULL) {
            rest->after->before = rest;
        }
        extent->after = rest;
        extent->bytes = bytes;
        free_list_add(arena, rest);
    }
}

static struct tessi_extent *pages_alloc(struct tessi_arena *arena, uint64_t bytes)
{
    if (bytes > arena->size) {
        return NULL;
    }
    bytes = (bytes + arena->page_bytes - 1) / arena->page_bytes * arena->page_bytes;
    struct tessi_extent *extent = free_list_find(arena, &arena->resident, bytes);
    if (extent == NULL) {
        extent = free_list_find(arena, &arena->empty, bytes);
    }
    if (extent == NULL) {
        /* What is free may be long enough only when its resident and empty parts are joined. */
        while (punch_oldest(arena)) {
        }
        extent = free_list_find(arena, &arena->empty, bytes);
    }
    if (extent == NULL) {
        return NULL;
    }
    bool resident = extent->state == EXTENT_RESIDENT;
    extent_cut(arena, extent, bytes);
    extent->state = EXTENT_USED;
    atomic_store_explicit(&extent->committed, resident, memory_order_relaxed);
    arena->stats.used_bytes += bytes;
    if (arena->stats.used_bytes > arena->stats.used_peak_bytes) {
        arena->stats.used_peak_bytes = arena->stats.used_bytes;
    }
    if (!resident) {
        punch_above(arena, arena->stats.used_peak_bytes + arena->slack_bytes);
    }
    return extent;
}

static void pages_free(struct tessi_arena *arena, struct tessi_extent *extent)
{
    TESS_ASSERT(extent->state == EXTENT_USED && arena->stats.used_bytes >= extent->bytes);
    arena->stats.used_bytes -= extent->bytes;
    bool committed = atomic_load_explicit(&extent->committed, memory_order_acquire);
    extent->state = committed ? EXTENT_RESIDENT : EXTENT_EMPTY;
    free_insert(arena, extent);
}

/* ——— small extents ——— */

static uint32_t small_class(uint64_t bytes)
{
    if (bytes <= 64) {
        return 0;
    }
    uint32_t log = 63 - (uint32_t)__builtin_clzll(bytes - 1); /* 2^log < bytes ≤ 2^(log+1) */
    uint32_t step = (uint32_t)((bytes - 1) >> (log - 2)) & 3;
    return (log - 6) * 4 + step + 1;
}

static uint64_t small_class_bytes(uint32_t size_class)
{
    if (size_class == 0) {
        return 64;
    }
    uint32_t log = (size_class - 1) / 4 + 6;
    uint64_t bytes = (UINT64_C(1) << log) + ((uint64_t)((size_class - 1) % 4) + 1) * (UINT64_C(1) << (log - 2));
    return (bytes + TESSI_BLOCK_ALIGNMENT - 1) / TESSI_BLOCK_ALIGNMENT * TESSI_BLOCK_ALIGNMENT;
}

static void slab_link(struct tessi_arena *arena, struct slab *slab)
{
    slab->prev = NULL;
    slab->next = arena->slabs[slab->size_class];
    if (slab->next != NULL) {
        slab->next->prev = slab;
    }
    arena->slabs[slab->size_class] = slab;
}

static void slab_unlink(struct tessi_arena *arena, struct slab *slab)
{
    *(slab->prev != NULL ? &slab->prev->next : &arena->slabs[slab->size_class]) = slab->next;
    if (slab->next != NULL) {
        slab->next->prev = slab->prev;
    }
    slab->prev = slab->next = NULL;
}

static struct slab *slab_create(struct tessi_arena *arena, uint32_t size_class)
{
    struct tessi_extent *extent = pages_alloc(arena, SLAB_BYTES);
    if (extent == NULL) {
        return NULL;
    }
    struct slab *slab = tessi_alloc(sizeof *slab);
    slab->extent = extent;
    slab->size_class = size_class;
    slab->slot_count = (uint32_t)(SLAB_BYTES / small_class_bytes(size_class));
    slab->free_count = slab->slot_count;
    slab->nodes = tessi_alloc(slab->slot_count * SMALL_NODE_BYTES);
    for (uint32_t i = 0; i < slab->slot_count; i++) {
        slab->free_slots[i] = (uint16_t)(slab->slot_count - 1 - i);
    }
    slab_link(arena, slab);
    slab->all_prev = NULL;
    slab->all_next = arena->all_slabs;
    if (slab->all_next != NULL) {
        slab->all_next->all_prev = slab;
    }
    arena->all_slabs = slab;
    return slab;
}

static void slab_destroy(struct tessi_arena *arena, struct slab *slab)
{
    slab_unlink(arena, slab);
    *(slab->all_prev != NULL ? &slab->all_prev->all_next : &arena->all_slabs) = slab->all_next;
    if (slab->all_next != NULL) {
        slab->all_next->all_prev = slab->all_prev;
    }
    pages_free(arena, slab->extent);
    tessi_free(slab->nodes);
    tessi_free(slab);
}

static struct tessi_extent *small_alloc(struct tessi_arena *arena, uint64_t bytes)
{
    uint32_t size_class = small_class(bytes);
    struct slab *slab = arena->slabs[size_class];
    if (slab == NULL && (slab = slab_create(arena, size_class)) == NULL) {
        return NULL;
    }
    uint16_t slot = slab->free_slots[--slab->free_count];
    struct tessi_extent *extent = (void *)(slab->nodes + slot * SMALL_NODE_BYTES);
    memset(extent, 0, SMALL_NODE_BYTES);
    extent->arena = arena;
    extent->slab = slab;
    extent->slot = slot;
    extent->bytes = small_class_bytes(size_class);
    extent->offset = slab->extent->offset + extent->slot * extent->bytes;
    extent->state = EXTENT_SMALL;
    if (slab->free_count == 0) {
        slab_unlink(arena, slab);
    }
    return extent;
}

static void small_free(struct tessi_arena *arena, struct tessi_extent *extent)
{
    struct slab *slab = extent->slab;
    if (slab->free_count == 0) {
        slab_link(arena, slab);
    }
    slab->free_slots[slab->free_count++] = extent->slot;
    extent->state = EXTENT_SPARE;
    /* One empty slab stays for each class, so that a single block coming and going makes no new one. */
    bool alone = slab->prev == NULL && slab->next == NULL;
    if (slab->free_count == slab->slot_count && !alone) {
        slab_destroy(arena, slab);
    }
}

/* ——— the region ——— */

/* A sealed memfd of `size` bytes and a read-only descriptor of it, or −1: then anonymous memory serves. */
static int memfd_open(uint64_t size, int *shared_fd)
{
    struct rlimit limit;
    /* Growing a file beyond this limit is a signal, not an error. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < size) {
        return -1;
    }
    int fd = memfd_create("tessera-blocks", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    /* Whoever maps the file relies on its length: a shorter one would be a SIGBUS for them. */
    if (ftruncate(fd, (off_t)size) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        (void)close(fd);
        return -1;
    }
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    *shared_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*shared_fd < 0) {
        *shared_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    return fd;
}

static bool region_map(struct tessi_arena *arena, uint64_t size, bool anonymous)
{
    arena->fd = arena->shared_fd = -1;
    if (!anonymous) {
        arena->fd = memfd_open(size, &arena->shared_fd);
    }
    int flags = MAP_NORESERVE | (arena->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, arena->fd, 0);
    if (base == MAP_FAILED) {
        if (arena->fd >= 0) {
            (void)close(arena->fd);
            if (arena->shared_fd >= 0) {
                (void)close(arena->shared_fd);
            }
        }
        return false;
    }
    (void)madvise(base, size, MADV_DONTDUMP);
    /* Huge pages are not asked for: in a virtual machine whose host takes free memory back their first touch was
     * measured at five times that of small ones, which the kernel gives from what was in use lately. */
    arena->base = base;
    arena->size = size;
    return true;
}

enum tessi_status tessi_arena_create(const struct tessi_arena_config *config, struct tessi_arena **out,
                                     struct tessi_error *error)
{
    *out = NULL;
    struct tessi_arena *arena = tessi_zalloc(sizeof *arena);
    long page = sysconf(_SC_PAGESIZE);
    arena->page_bytes = page > PAGE_BYTES ? (uint64_t)page : PAGE_BYTES;
    arena->slack_bytes = config->budget_bytes / 16;
    uint64_t budget = config->budget_bytes < UINT64_C(1) << 42 ? config->budget_bytes : UINT64_C(1) << 42;
    uint64_t unit = UINT64_C(1) << 21;
    bool mapped = false;
    /* A limit on addresses may leave room for less than the comfortable size. */
    for (uint64_t quarters = 16; quarters >= 5 && !mapped; quarters = quarters > 8 ? quarters / 2 : quarters - 1) {
        uint64_t size = (budget / 4 * quarters + (UINT64_C(64) << 20) + unit - 1) / unit * unit;
        mapped = region_map(arena, size, config->anonymous);
    }
    if (!mapped) {
        enum tessi_status status = tessi_fail(
            error, TESSI_NOMEM, "block memory of %llu bytes: no addresses for it (%s); give a smaller memory budget",
            (unsigned long long)config->budget_bytes, strerror(errno));
        tessi_free(arena);
        return status;
    }
    arena->first = node_take(arena);
    arena->first->bytes = arena->size;
    arena->first->state = EXTENT_EMPTY;
    free_list_add(arena, arena->first);
    *out = arena;
    return TESSI_OK;
}

void tessi_arena_destroy(struct tessi_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    while (arena->all_slabs != NULL) {
        struct slab *slab = arena->all_slabs;
        arena->all_slabs = slab->all_next;
        tessi_free(slab->nodes);
        tessi_free(slab);
    }
    (void)munmap(arena->base, arena->size);
    if (arena->fd >= 0) {
        (void)close(arena->fd);
    }
    if (arena->shared_fd >= 0) {
        (void)close(arena->shared_fd);
    }
    while (arena->chunks != NULL) {
        struct node_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        tessi_free(chunk);
    }
    tessi_free(arena);
}

struct tessi_extent *tessi_arena_alloc(struct tessi_arena *arena, uint64_t bytes)
{
    return bytes <= SMALL_MAX ? small_alloc(arena, bytes) : pages_alloc(arena, bytes);
}

void tessi_arena_free(struct tessi_arena *arena, struct tessi_extent *extent)
{
    TESS_ASSERT(extent->arena == arena);
    if (extent->state == EXTENT_SMALL) {
        small_free(arena, extent);
    } else {
        pages_free(arena, extent);
    }
}

bool tessi_extent_committed(const struct tessi_extent *extent)
{
    const struct tessi_extent *whole = extent->slab != NULL ? extent->slab->extent : extent;
    return atomic_load_explicit(&whole->committed, memory_order_acquire);
}

/* Write zeros where there are no pages yet, which takes less than a fault for each page; false with errno. */
static bool zeros_write(int fd, uint64_t offset, uint64_t bytes)
{
    static uint8_t zeros[ZERO_BYTES];
    struct iovec vectors[ZERO_VECTORS];
    for (size_t i = 0; i < ZERO_VECTORS; i++) {
        vectors[i] = (struct iovec){zeros, sizeof zeros};
    }
    while (bytes > 0) {
        uint64_t whole = bytes / sizeof zeros;
        int count = whole >= ZERO_VECTORS ? ZERO_VECTORS : whole > 0 ? (int)whole : 1;
        vectors[0].iov_len = whole > 0 ? sizeof zeros : (size_t)bytes;
        ssize_t n = pwritev(fd, vectors, count, (off_t)offset);
        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            return false;
        }
        offset += n > 0 ? (uint64_t)n : 0;
        bytes -= n > 0 ? (uint64_t)n : 0;
    }
    return true;
}

static bool advise(const struct tessi_arena *arena, uint64_t offset, uint64_t bytes, int advice)
{
    int rc;
    do {
        rc = madvise(arena->base + offset, bytes, advice);
    } while (rc != 0 && (errno == EINTR || errno == EAGAIN));
    return rc == 0;
}

/* Pages, and their entries in our page table: of a file these are made sixteen at a time by reading. Kernels before
 * 5.14 do not know the advice; there touching costs more, and cannot fail in shared memory once it is written. */
static bool pages_make(const struct tessi_arena *arena, uint64_t offset, uint64_t bytes)
{
    if (arena->fd >= 0) {
        return zeros_write(arena->fd, offset, bytes) &&
               (advise(arena, offset, bytes, MADV_POPULATE_READ) || errno == EINVAL);
    }
    return advise(arena, offset, bytes, MADV_POPULATE_WRITE) || errno == EINVAL;
}

/* The same where some pages may be in use already, and keep what they hold. */
static bool pages_complete(const struct tessi_arena *arena, uint64_t offset, uint64_t bytes)
{
    bool ok = advise(arena, offset, bytes, MADV_POPULATE_WRITE);
    if (!ok && errno == EINVAL) {
        int rc;
        do {
            rc = arena->fd >= 0 ? fallocate(arena->fd, 0, (off_t)offset, (off_t)bytes) : 0;
        } while (rc != 0 && errno == EINTR);
        ok = rc == 0;
    }
    return ok;
}

enum tessi_status tessi_extent_commit(struct tessi_extent *extent, struct tessi_error *error)
{
    struct tessi_extent *whole = extent->slab != NULL ? extent->slab->extent : extent;
    if (atomic_load_explicit(&whole->committed, memory_order_acquire)) {
        return TESSI_OK;
    }
    const struct tessi_arena *arena = whole->arena;
    /* The slab's other extents may be committed and written by other threads meanwhile. */
    bool ok = extent->slab != NULL ? pages_complete(arena, whole->offset, whole->bytes)
                                   : pages_make(arena, whole->offset, whole->bytes);
    if (!ok) {
        return tessi_fail(error, TESSI_NOMEM,
                          "block memory: %llu more bytes cannot be had (%s); give a smaller memory budget",
                          (unsigned long long)whole->bytes, strerror(errno));
    }
    atomic_store_explicit(&whole->committed, true, memory_order_release);
    return TESSI_OK;
}

void *tessi_extent_data(const struct tessi_extent *extent)
{
    return extent->arena->base + extent->offset;
}

uint64_t tessi_extent_offset(const struct tessi_extent *extent)
{
    return extent->offset;
}

void tessi_arena_trim(struct tessi_arena *arena, uint64_t keep_bytes)
{
    punch_above(arena, arena->stats.used_bytes + keep_bytes);
    arena->stats.used_peak_bytes = arena->stats.used_bytes;
}

void *tessi_arena_base(const struct tessi_arena *arena)
{
    return arena->base;
}

void tessi_arena_keep_pages(struct tessi_arena *arena)
{
    arena->keeps = true;
}

int tessi_arena_descriptor(const struct tessi_arena *arena)
{
    return arena->shared_fd;
}

uint64_t tessi_arena_size(const struct tessi_arena *arena)
{
    return arena->size;
}

struct tessi_arena_stats tessi_arena_stats(const struct tessi_arena *arena)
{
    return arena->stats;
}

static uint64_t bins_bytes(const struct bins *bins, enum extent_state state)
{
    uint64_t bytes = 0;
    for (uint32_t bin = 0; bin < BINS; bin++) {
        bool filled = (bins->filled[bin / 64] >> (bin % 64) & 1) != 0;
        TESS_ASSERT(filled == (bins->head[bin] != NULL));
        for (const struct tessi_extent *e = bins->head[bin]; e != NULL; e = e->bin_next) {
            TESS_ASSERT(e->state == state);
            bytes += e->bytes;
        }
    }
    return bytes;
}

void tessi_arena_verify(const struct tessi_arena *arena)
{
    uint64_t used = 0, resident = 0, empty = 0, end = 0;
    const struct tessi_extent *before = NULL;
    for (const struct tessi_extent *e = arena->first; e != NULL; before = e, e = e->after) {
        TESS_ASSERT(e->before == before && e->offset == end && e->bytes > 0);
        TESS_ASSERT(before == NULL || e->state == EXTENT_USED || before->state != e->state);
        end = e->offset + e->bytes;
        used += e->state == EXTENT_USED ? e->bytes : 0;
        resident += e->state == EXTENT_RESIDENT ? e->bytes : 0;
        empty += e->state == EXTENT_EMPTY ? e->bytes : 0;
    }
    TESS_ASSERT(end == arena->size);
    TESS_ASSERT(used == arena->stats.used_bytes && resident == arena->stats.free_resident_bytes);
    TESS_ASSERT(bins_bytes(&arena->resident, EXTENT_RESIDENT) == resident);
    TESS_ASSERT(bins_bytes(&arena->empty, EXTENT_EMPTY) == empty);
    uint64_t aged = 0;
    for (const struct tessi_extent *e = arena->oldest; e != NULL; e = e->old_next) {
        aged += e->bytes;
    }
    TESS_ASSERT(aged == resident);
}
