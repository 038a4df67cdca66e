/* The block arena: extents never overlap, are joined again, and the resident part stays bounded. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/store/arena.h"

#define MIB (UINT64_C(1) << 20)

static struct tessi_arena *make(uint64_t budget_bytes, bool anonymous)
{
    struct tessi_arena *arena;
    struct tessi_error error;
    struct tessi_arena_config config = {budget_bytes, anonymous};
    assert_int_equal(tessi_arena_create(&config, &arena, &error), TESSI_OK);
    return arena;
}

static void commit(struct tessi_extent *extent)
{
    struct tessi_error error;
    assert_int_equal(tessi_extent_commit(extent, &error), TESSI_OK);
}

/* Pages of the region that are in memory, as the kernel counts them. */
static uint64_t resident_bytes(const struct tessi_arena *arena)
{
    struct stat info;
    assert_int_equal(fstat(tessi_arena_descriptor(arena), &info), 0);
    return (uint64_t)info.st_blocks * 512;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

struct held {
    struct tessi_extent *extent;
    uint64_t bytes;
    uint8_t mark;
};

static void check_marks(const struct held *held)
{
    const uint8_t *data = tessi_extent_data(held->extent);
    assert_int_equal((uintptr_t)data % TESSI_BLOCK_ALIGNMENT, 0);
    assert_int_equal(data[0], held->mark);
    assert_int_equal(data[held->bytes / 2], held->mark);
    assert_int_equal(data[held->bytes - 1], held->mark);
}

static void churn(bool anonymous)
{
    enum { COUNT = 200, ROUNDS = 6000 };
    struct tessi_arena *arena = make(32 * MIB, anonymous);
    struct held held[COUNT] = {0};
    uint64_t seed = 7;
    for (int round = 0; round < ROUNDS; round++) {
        struct held *one = &held[next_random(&seed) % COUNT];
        if (one->extent != NULL) {
            check_marks(one);
            tessi_arena_free(arena, one->extent);
            one->extent = NULL;
        } else {
            /* Sizes of every order of magnitude from one byte to a mebibyte. */
            one->bytes = 1 + next_random(&seed) % (UINT64_C(1) << (next_random(&seed) % 21));
            one->extent = tessi_arena_alloc(arena, one->bytes);
            assert_non_null(one->extent);
            commit(one->extent);
            one->mark = (uint8_t)next_random(&seed);
            memset(tessi_extent_data(one->extent), one->mark, one->bytes);
        }
        if (round % 100 == 0) {
            tessi_arena_verify(arena);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        if (held[i].extent != NULL) {
            check_marks(&held[i]);
            tessi_arena_free(arena, held[i].extent);
        }
    }
    tessi_arena_verify(arena);
    tessi_arena_destroy(arena);
}

static void extents_do_not_overlap(void **state)
{
    (void)state;
    churn(false);
    churn(true);
}

static void all_is_one_extent_again(void **state)
{
    (void)state;
    struct tessi_arena *arena = make(16 * MIB, false);
    struct tessi_extent *extents[64];
    for (int i = 0; i < 64; i++) {
        extents[i] = tessi_arena_alloc(arena, MIB / 4);
        commit(extents[i]);
    }
    for (int i = 0; i < 64; i += 2) {
        tessi_arena_free(arena, extents[i]);
    }
    for (int i = 1; i < 64; i += 2) {
        tessi_arena_free(arena, extents[i]);
    }
    tessi_arena_verify(arena);
    struct tessi_extent *whole = tessi_arena_alloc(arena, tessi_arena_size(arena));
    assert_non_null(whole);
    assert_null(tessi_arena_alloc(arena, MIB));
    assert_null(tessi_arena_alloc(arena, 1));
    assert_null(tessi_arena_alloc(arena, UINT64_MAX));
    tessi_arena_free(arena, whole);
    tessi_arena_destroy(arena);
}

static void freed_pages_are_used_again(void **state)
{
    (void)state;
    struct tessi_arena *arena = make(16 * MIB, false);
    struct tessi_extent *first = tessi_arena_alloc(arena, MIB);
    uint64_t offset = tessi_extent_offset(first);
    commit(first);
    memset(tessi_extent_data(first), 1, MIB);
    tessi_arena_free(arena, first);
    struct tessi_extent *again = tessi_arena_alloc(arena, MIB);
    assert_int_equal(tessi_extent_offset(again), offset);
    assert_int_equal(tessi_arena_stats(arena).free_resident_bytes, 0);
    tessi_arena_free(arena, again);
    assert_int_equal(tessi_arena_stats(arena).free_resident_bytes, MIB);
    /* An extent that was never committed leaves nothing behind. */
    struct tessi_extent *never = tessi_arena_alloc(arena, 8 * MIB);
    tessi_arena_free(arena, never);
    assert_int_equal(tessi_arena_stats(arena).free_resident_bytes, MIB);
    tessi_arena_destroy(arena);
}

/* Blocks of ever-changing sizes leave free pages between them; their sum must not grow beyond the bound. */
static void resident_part_is_bounded(void **state)
{
    (void)state;
    const uint64_t budget = 64 * MIB;
    struct tessi_arena *arena = make(budget, false);
    struct held held[64] = {0};
    uint64_t seed = 3, live = 0, live_peak = 0, resident_peak = 0;
    for (int round = 0; round < 1500; round++) {
        struct held *one = &held[next_random(&seed) % 64];
        if (one->extent != NULL) {
            tessi_arena_free(arena, one->extent);
            live -= one->bytes;
            one->extent = NULL;
            continue;
        }
        uint64_t bytes = (8 + next_random(&seed) % 1024) * 4096; /* whole pages: slabs have their own rounding */
        if (live + bytes > budget) {
            continue;
        }
        one->bytes = bytes;
        one->extent = tessi_arena_alloc(arena, bytes);
        commit(one->extent);
        live += bytes;
        live_peak = live > live_peak ? live : live_peak;
        uint64_t resident = resident_bytes(arena);
        resident_peak = resident > resident_peak ? resident : resident_peak;
    }
    tessi_arena_verify(arena);
    assert_true(tessi_arena_stats(arena).punched_bytes > 0);
    assert_true(resident_peak <= live_peak + budget / 16);
    assert_true((double)resident_peak <= 1.1 * (double)live_peak);
    for (int i = 0; i < 64; i++) {
        if (held[i].extent != NULL) {
            tessi_arena_free(arena, held[i].extent);
        }
    }
    tessi_arena_trim(arena, MIB);
    assert_true(resident_bytes(arena) <= MIB);
    tessi_arena_destroy(arena);
}

static void shared_descriptor_is_read_only_and_of_fixed_length(void **state)
{
    (void)state;
    struct tessi_arena *arena = make(MIB, false);
    struct tessi_extent *extent = tessi_arena_alloc(arena, 100);
    commit(extent);
    memcpy(tessi_extent_data(extent), "tessera", 8);
    int fd = tessi_arena_descriptor(arena);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    uint8_t *seen = mmap(NULL, tessi_arena_size(arena), PROT_READ, MAP_SHARED, fd, 0);
    assert_true(seen != MAP_FAILED);
    assert_string_equal((char *)seen + tessi_extent_offset(extent), "tessera");
    assert_int_equal(munmap(seen, tessi_arena_size(arena)), 0);
    tessi_arena_destroy(arena); /* with an extent in use */

    arena = make(MIB, true);
    assert_int_equal(tessi_arena_descriptor(arena), -1);
    tessi_arena_destroy(arena);
}

/* A file size limit stands for a machine that has no more pages. */
static void refused_pages_are_an_error_and_no_signal(void **state)
{
    (void)state;
    struct tessi_error error;
    struct rlimit before, low;
    struct tessi_arena *arena = make(64 * MIB, false);
    struct tessi_extent *low_half = tessi_arena_alloc(arena, 8 * MIB);
    struct tessi_extent *beyond = tessi_arena_alloc(arena, 8 * MIB);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    low = before;
    low.rlim_cur = 12 * MIB;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    enum tessi_status first = tessi_extent_commit(low_half, &error);
    enum tessi_status second = tessi_extent_commit(beyond, &error);
    bool committed = tessi_extent_committed(beyond);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(first, TESSI_OK);
    assert_int_equal(second, TESSI_NOMEM);
    assert_false(committed);
    /* Another attempt may succeed. */
    commit(beyond);
    memset(tessi_extent_data(beyond), 1, 8 * MIB);
    tessi_arena_free(arena, beyond);
    tessi_arena_free(arena, low_half);
    tessi_arena_verify(arena);
    tessi_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents_do_not_overlap),
        cmocka_unit_test(all_is_one_extent_again),
        cmocka_unit_test(freed_pages_are_used_again),
        cmocka_unit_test(resident_part_is_bounded),
        cmocka_unit_test(shared_descriptor_is_read_only_and_of_fixed_length),
        cmocka_unit_test(refused_pages_are_an_error_and_no_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
