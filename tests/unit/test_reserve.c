/* Pages made ahead of need: how many, that allocations get them, and that refusal and trimming leave the arena whole. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "worker/store/reserve.h"
#include "worker/store/store.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

struct fixture {
    struct tessi_arena *arena;
    struct tessi_reserve *reserve;
};

static struct fixture open_fixture(uint64_t budget_bytes, bool anonymous)
{
    struct fixture fixture;
    struct tessi_error error;
    struct tessi_arena_config config = {budget_bytes, anonymous};
    assert_int_equal(tessi_arena_create(&config, &fixture.arena, &error), TESSI_OK);
    assert_int_equal(tessi_reserve_create(fixture.arena, budget_bytes, &fixture.reserve, &error), TESSI_OK);
    return fixture;
}

static void close_fixture(struct fixture fixture)
{
    tessi_arena_verify(fixture.arena);
    tessi_reserve_destroy(fixture.reserve);
    tessi_arena_verify(fixture.arena);
    tessi_arena_destroy(fixture.arena);
}

static uint64_t ready_bytes(struct fixture fixture)
{
    return tessi_arena_stats(fixture.arena).free_resident_bytes;
}

/* Pages of the region that are in memory, as the kernel counts them. */
static uint64_t resident_bytes(struct fixture fixture)
{
    struct stat info;
    assert_int_equal(fstat(tessi_arena_descriptor(fixture.arena), &info), 0);
    return (uint64_t)info.st_blocks * 512;
}

static void target_follows_demand_within_bounds(void **state)
{
    (void)state;
    /* Nothing used: a 64th of the budget, 128 MiB at most. */
    assert_int_equal(tessi_reserve_target(GIB, 0, 0, 0), 16 * MIB);
    assert_int_equal(tessi_reserve_target(100 * GIB, 0, 0, 0), 128 * MIB);
    /* What is used counts towards it. */
    assert_int_equal(tessi_reserve_target(GIB, 6 * MIB, 6 * MIB, 0), 10 * MIB);
    assert_int_equal(tessi_reserve_target(GIB, 16 * MIB, 16 * MIB, 0), 0);
    /* Then what is expected, up to an eighth of the peak, a quarter of the budget and 1 GiB. */
    assert_int_equal(tessi_reserve_target(GIB, 160 * MIB, 160 * MIB, 8 * MIB), 8 * MIB);
    assert_int_equal(tessi_reserve_target(GIB, 160 * MIB, 160 * MIB, GIB), 20 * MIB);
    assert_int_equal(tessi_reserve_target(GIB, 160 * MIB, 320 * MIB, GIB), 40 * MIB);
    assert_int_equal(tessi_reserve_target(100 * GIB, 20 * GIB, 20 * GIB, 50 * GIB), GIB);
    /* Never more than the budget leaves. */
    assert_int_equal(tessi_reserve_target(GIB, GIB - MIB, GIB, GIB), MIB);
    assert_int_equal(tessi_reserve_target(GIB, GIB, GIB, GIB), 0);
    assert_int_equal(tessi_reserve_target(GIB, 2 * GIB, 2 * GIB, GIB), 0);
}

static void first_blocks_find_their_pages(void **state)
{
    (void)state;
    for (int anonymous = 0; anonymous < 2; anonymous++) {
        struct fixture fixture = open_fixture(GIB, anonymous != 0);
        struct tessi_extent *before = tessi_arena_alloc(fixture.arena, MIB);
        assert_false(tessi_extent_committed(before));
        tessi_arena_free(fixture.arena, before);
        tessi_arena_trim(fixture.arena, 0); /* forgets the peak */
        tessi_reserve_settle(fixture.reserve);
        assert_int_equal(ready_bytes(fixture), 16 * MIB);
        if (anonymous == 0) {
            assert_int_equal(resident_bytes(fixture), 16 * MIB);
        }
        struct tessi_extent *extent = tessi_arena_alloc(fixture.arena, 8 * MIB);
        assert_true(tessi_extent_committed(extent));
        memset(tessi_extent_data(extent), 1, 8 * MIB);
        tessi_reserve_settle(fixture.reserve); /* 8 used and 8 ready are still 16 */
        assert_int_equal(ready_bytes(fixture), 8 * MIB);
        tessi_arena_free(fixture.arena, extent);
        close_fixture(fixture);
    }
}

static void expected_blocks_are_made_ready(void **state)
{
    (void)state;
    struct tessi_error error;
    struct fixture fixture = open_fixture(GIB, false);
    struct tessi_extent *used = tessi_arena_alloc(fixture.arena, 80 * MIB);
    assert_int_equal(tessi_extent_commit(used, &error), TESSI_OK);
    tessi_reserve_settle(fixture.reserve);
    assert_int_equal(ready_bytes(fixture), 0);
    tessi_reserve_expect(fixture.reserve, 64 * MIB);
    tessi_reserve_settle(fixture.reserve);
    assert_int_equal(ready_bytes(fixture), 10 * MIB);
    assert_int_equal(resident_bytes(fixture), 90 * MIB);
    /* Freed blocks are as good: nothing is made beside them. */
    tessi_arena_free(fixture.arena, used);
    tessi_reserve_settle(fixture.reserve);
    assert_int_equal(resident_bytes(fixture), 90 * MIB);
    close_fixture(fixture);
}

static void trim_ends_what_is_under_way(void **state)
{
    (void)state;
    struct fixture fixture = open_fixture(8 * GIB, false);
    for (int round = 0; round < 20; round++) {
        tessi_reserve_tend(fixture.reserve);
        tessi_reserve_trim(fixture.reserve);
        tessi_arena_trim(fixture.arena, 0);
        tessi_arena_verify(fixture.arena);
        assert_int_equal(ready_bytes(fixture), 0);
        assert_int_equal(resident_bytes(fixture), 0);
    }
    struct tessi_extent *whole = tessi_arena_alloc(fixture.arena, tessi_arena_size(fixture.arena));
    assert_non_null(whole); /* no claim is left */
    tessi_arena_free(fixture.arena, whole);
    tessi_reserve_tend(fixture.reserve);
    close_fixture(fixture); /* in the middle of a request */
}

/* A file size limit stands for a machine that has no more pages. */
static void refused_pages_are_an_error_and_no_signal(void **state)
{
    (void)state;
    struct tessi_error error;
    struct rlimit before, low;
    struct fixture fixture = open_fixture(GIB, false);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    low = before;
    low.rlim_cur = 4 * MIB;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    tessi_reserve_settle(fixture.reserve);
    uint64_t ready = ready_bytes(fixture);
    struct tessi_extent *extent = tessi_arena_alloc(fixture.arena, 12 * MIB);
    enum tessi_status status = tessi_extent_commit(extent, &error);
    bool committed = tessi_extent_committed(extent);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(ready, 4 * MIB);
    assert_int_equal(status, TESSI_NOMEM);
    assert_false(committed);
    tessi_arena_free(fixture.arena, extent);
    /* Nothing more is tried until the next trim. */
    tessi_reserve_settle(fixture.reserve);
    assert_int_equal(ready_bytes(fixture), 4 * MIB);
    tessi_reserve_trim(fixture.reserve);
    tessi_arena_trim(fixture.arena, 4 * MIB);
    tessi_reserve_settle(fixture.reserve);
    assert_int_equal(ready_bytes(fixture), 16 * MIB);
    close_fixture(fixture);
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* The thread makes pages beside blocks that come, are written and go: every byte stays what was written. */
static void blocks_come_and_go_beside_it(void **state)
{
    (void)state;
    enum { COUNT = 40, ROUNDS = 600 };
    const uint64_t budget = 64 * MIB;
    struct fixture fixture = open_fixture(budget, false);
    struct {
        struct tessi_extent *extent;
        uint64_t bytes;
        uint8_t mark;
    } held[COUNT] = {0};
    uint64_t seed = 5, live = 0;
    struct tessi_error error;
    for (int round = 0; round < ROUNDS; round++) {
        size_t at = next_random(&seed) % COUNT;
        if (held[at].extent != NULL) {
            const uint8_t *data = tessi_extent_data(held[at].extent);
            for (uint64_t i = 0; i < held[at].bytes; i += 509) {
                assert_int_equal(data[i], held[at].mark);
            }
            tessi_arena_free(fixture.arena, held[at].extent);
            live -= held[at].bytes;
            held[at].extent = NULL;
        } else {
            uint64_t bytes = 1 + next_random(&seed) % (4 * MIB);
            if (live + bytes > budget) {
                continue;
            }
            tessi_reserve_tend(fixture.reserve);
            held[at].extent = tessi_arena_alloc(fixture.arena, bytes);
            assert_non_null(held[at].extent);
            assert_int_equal(tessi_extent_commit(held[at].extent, &error), TESSI_OK);
            held[at].bytes = bytes;
            held[at].mark = (uint8_t)(round + 1);
            memset(tessi_extent_data(held[at].extent), held[at].mark, bytes);
            live += bytes;
            tessi_reserve_expect(fixture.reserve, next_random(&seed) % budget);
        }
        tessi_arena_verify(fixture.arena);
    }
    assert_true(resident_bytes(fixture) <= budget + budget / 8);
    close_fixture(fixture);
}

static void on_wake(void *context)
{
    (void)context;
}

/* The store expects a block like those before for each task that waits. */
static void store_makes_room_for_waiting_tasks(void **state)
{
    (void)state;
    struct tessi_store *store;
    struct tessi_error error;
    struct tessi_store_config config = {.memory_bytes = GIB, .wake = on_wake};
    assert_int_equal(tessi_store_create(&config, &store, &error), TESSI_OK);
    tessi_store_settle(store);
    assert_int_equal(tessi_store_gauges(store).resident_bytes, 16 * MIB);
    for (uint32_t handle = 0; handle < 10; handle++) {
        assert_int_equal(tessi_store_alloc(store, handle, 8 * MIB, &error), TESSI_OK);
        struct tessi_block *block = tessi_store_block(store, handle, false);
        assert_int_equal(tessi_block_committed(block), handle < 2);
        assert_int_equal(tessi_block_commit(block, &error), TESSI_OK);
    }
    tessi_store_settle(store);
    assert_int_equal(tessi_store_gauges(store).resident_bytes, 80 * MIB);
    tessi_store_expect(store, 1);
    tessi_store_settle(store);
    assert_int_equal(tessi_store_gauges(store).resident_bytes, 88 * MIB);
    assert_int_equal(tessi_store_alloc(store, 10, 8 * MIB, &error), TESSI_OK);
    assert_true(tessi_block_committed(tessi_store_block(store, 10, false)));
    tessi_store_expect(store, UINT64_MAX); /* an eighth of what is used, and no overflow */
    tessi_store_settle(store);
    assert_int_equal(tessi_store_gauges(store).resident_bytes, 99 * MIB);
    tessi_store_trim(store);
    assert_int_equal(tessi_store_gauges(store).resident_bytes, 99 * MIB); /* a sixteenth of the budget stays */
    tessi_store_destroy(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(target_follows_demand_within_bounds),      cmocka_unit_test(first_blocks_find_their_pages),
        cmocka_unit_test(expected_blocks_are_made_ready),           cmocka_unit_test(trim_ends_what_is_under_way),
        cmocka_unit_test(refused_pages_are_an_error_and_no_signal), cmocka_unit_test(blocks_come_and_go_beside_it),
        cmocka_unit_test(store_makes_room_for_waiting_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
