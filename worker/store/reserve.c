#include "worker/store/reserve.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

enum {
    FIRST_SHARE = 64,  /* of the budget, ready before anything was used */
    GROWTH_SHARE = 8,  /* of the most ever used */
    BUDGET_SHARE = 4,  /* of the budget, at most */
    REQUEST_SHARE = 4, /* of what should be ready: less is not asked for, so that few claims serve */
    PIECE_BYTES =
        262144, /* made at a time: a thread without a processor holds the kernel's locks no longer than that */
};
#define FIRST_MAX (UINT64_C(128) << 20)
#define READY_MAX (UINT64_C(1) << 30)

struct tessi_reserve {
    struct tessi_arena *arena;
    uint64_t budget_bytes;
    uint64_t expected_bytes;
    struct tessi_extent *claim; /* NULL: nothing is being made */
    uint64_t taken_bytes;       /* of the request, already among the free extents */
    bool refused;               /* the system has no more pages */
    pthread_t thread;
    sem_t asked, answered; /* a request passes to the thread with one, and back with the other */
    /* The request. Written by the owner while the thread waits, but for what is atomic. */
    uint64_t offset, bytes;
    atomic_uint_fast64_t made_bytes; /* by the thread */
    atomic_bool failed;              /* by the thread */
    atomic_bool stopped;             /* by the owner: do not begin another piece */
    bool ending;
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t tessi_reserve_target(uint64_t budget_bytes, uint64_t used_bytes, uint64_t used_peak_bytes,
                              uint64_t expected_bytes)
{
    uint64_t first = least(budget_bytes / FIRST_SHARE, FIRST_MAX);
    uint64_t growth = least(used_peak_bytes / GROWTH_SHARE, least(budget_bytes / BUDGET_SHARE, READY_MAX));
    uint64_t target = least(expected_bytes, growth);
    if (used_bytes + target < first) {
        target = first - used_bytes;
    }
    return used_bytes < budget_bytes ? least(target, budget_bytes - used_bytes) : 0;
}

/* ——— the thread ——— */

static void request_make(struct tessi_reserve *reserve)
{
    uint64_t made = 0;
    while (made < reserve->bytes && !atomic_load_explicit(&reserve->stopped, memory_order_relaxed)) {
        struct tessi_error error;
        uint64_t piece = least(PIECE_BYTES, reserve->bytes - made);
        if (tessi_arena_make(reserve->arena, reserve->offset + made, piece, &error) != TESSI_OK) {
            atomic_store_explicit(&reserve->failed, true, memory_order_relaxed);
            return;
        }
        made += piece;
        atomic_store_explicit(&reserve->made_bytes, made, memory_order_release);
    }
}

static void *reserve_thread(void *argument)
{
    struct tessi_reserve *reserve = argument;
    for (;;) {
        while (sem_wait(&reserve->asked) != 0) {
        }
        if (reserve->ending) {
            return NULL;
        }
        request_make(reserve);
        (void)sem_post(&reserve->answered);
    }
}

/* ——— the owner ——— */

static void ready_take(struct tessi_reserve *reserve)
{
    uint64_t made = atomic_load_explicit(&reserve->made_bytes, memory_order_acquire);
    if (made > reserve->taken_bytes) {
        reserve->claim = tessi_arena_claim_take(reserve->arena, reserve->claim, made - reserve->taken_bytes);
        reserve->taken_bytes = made;
    }
}

/* The thread has answered. */
static void request_end(struct tessi_reserve *reserve)
{
    ready_take(reserve);
    reserve->refused = reserve->refused || atomic_load_explicit(&reserve->failed, memory_order_relaxed);
    if (reserve->claim != NULL) {
        tessi_arena_claim_drop(reserve->arena, reserve->claim);
        reserve->claim = NULL;
    }
    reserve->bytes = 0;
}

static bool in_flight(const struct tessi_reserve *reserve)
{
    return reserve->bytes > 0;
}

static void request_begin(struct tessi_reserve *reserve, uint64_t bytes)
{
    struct tessi_extent *claim = tessi_arena_claim(reserve->arena, bytes);
    if (claim == NULL) {
        return;
    }
    reserve->claim = claim;
    reserve->taken_bytes = 0;
    reserve->offset = tessi_extent_offset(claim);
    reserve->bytes = tessi_extent_bytes(claim);
    atomic_store_explicit(&reserve->made_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&reserve->failed, false, memory_order_relaxed);
    atomic_store_explicit(&reserve->stopped, false, memory_order_relaxed);
    (void)sem_post(&reserve->asked);
}

void tessi_reserve_expect(struct tessi_reserve *reserve, uint64_t bytes)
{
    reserve->expected_bytes = bytes;
}

void tessi_reserve_tend(struct tessi_reserve *reserve)
{
    if (in_flight(reserve)) {
        if (sem_trywait(&reserve->answered) != 0) {
            ready_take(reserve);
            return;
        }
        request_end(reserve);
    }
    struct tessi_arena_stats stats = tessi_arena_stats(reserve->arena);
    uint64_t target =
        tessi_reserve_target(reserve->budget_bytes, stats.used_bytes, stats.used_peak_bytes, reserve->expected_bytes);
    if (!reserve->refused && stats.free_resident_bytes + target / REQUEST_SHARE < target) {
        request_begin(reserve, target - stats.free_resident_bytes);
    }
}

/* A thread that only idle processors run may have to wait long for its turn. */
static void thread_schedule(struct tessi_reserve *reserve, int policy)
{
    const struct sched_param lowest = {0};
    (void)pthread_setschedparam(reserve->thread, policy, &lowest);
}

static void answer_wait(struct tessi_reserve *reserve)
{
    thread_schedule(reserve, SCHED_OTHER);
    while (sem_wait(&reserve->answered) != 0) {
    }
    thread_schedule(reserve, SCHED_IDLE);
    request_end(reserve);
}

void tessi_reserve_settle(struct tessi_reserve *reserve)
{
    tessi_reserve_tend(reserve);
    while (in_flight(reserve)) {
        answer_wait(reserve);
        tessi_reserve_tend(reserve);
    }
}

void tessi_reserve_trim(struct tessi_reserve *reserve)
{
    if (in_flight(reserve)) {
        atomic_store_explicit(&reserve->stopped, true, memory_order_relaxed);
        answer_wait(reserve);
    }
    reserve->expected_bytes = 0;
    reserve->refused = false;
}

enum tessi_status tessi_reserve_create(struct tessi_arena *arena, uint64_t budget_bytes, struct tessi_reserve **out,
                                       struct tessi_error *error)
{
    struct tessi_reserve *reserve = tessi_zalloc(sizeof *reserve);
    reserve->arena = arena;
    reserve->budget_bytes = budget_bytes;
    (void)sem_init(&reserve->asked, 0, 0);
    (void)sem_init(&reserve->answered, 0, 0);
    int rc = pthread_create(&reserve->thread, NULL, reserve_thread, reserve);
    if (rc != 0) {
        (void)sem_destroy(&reserve->asked);
        (void)sem_destroy(&reserve->answered);
        tessi_free(reserve);
        *out = NULL;
        return tessi_fail(error, TESSI_IO, "thread that makes memory ready: cannot start it: %s", strerror(rc));
    }
    thread_schedule(reserve, SCHED_IDLE);
    *out = reserve;
    return TESSI_OK;
}

void tessi_reserve_destroy(struct tessi_reserve *reserve)
{
    if (reserve == NULL) {
        return;
    }
    tessi_reserve_trim(reserve);
    reserve->ending = true;
    thread_schedule(reserve, SCHED_OTHER);
    (void)sem_post(&reserve->asked);
    (void)pthread_join(reserve->thread, NULL);
    (void)sem_destroy(&reserve->asked);
    (void)sem_destroy(&reserve->answered);
    tessi_free(reserve);
}
