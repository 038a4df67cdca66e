/* Lending an arena: the reader sees the owner's bytes and cannot change them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/peer/arena_share.h"
#include "worker/store/arena.h"

static void own_address(char address[64], int number)
{
    (void)snprintf(address, 64, "tcp://127.0.0.1:%ld-%d", (long)getpid(), number);
}

static void reader_in_another_process_sees_the_bytes(void **state)
{
    (void)state;
    char address[64];
    own_address(address, 1);
    struct tessi_arena *arena;
    struct tessi_share *share;
    struct tessi_arena_config config = {1 << 20, false};
    assert_int_equal(tessi_arena_create(&config, &arena, NULL), TESSI_OK);
    int to_child[2], to_parent[2];
    assert_true(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid_t child = fork(); /* before there are threads */
    if (child == 0) {
        struct tessi_mapping *mapping;
        uint64_t offset;
        bool ok = read(to_child[0], &offset, sizeof offset) == sizeof offset &&
                  tessi_mapping_open(address, &mapping, NULL) == TESSI_OK;
        const char *text = ok ? tessi_mapping_at(mapping, offset, 16) : NULL;
        ok = text != NULL && strcmp(text, "first") == 0;
        (void)!write(to_parent[1], ok ? "y" : "n", 1);
        char again;
        ok = ok && read(to_child[0], &again, 1) == 1 && strcmp(text, "second") == 0;
        ok = ok && tessi_mapping_at(mapping, UINT64_MAX - 4, 8) == NULL &&
             tessi_mapping_at(mapping, 0, UINT64_MAX) == NULL;
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(tessi_share_open(address, tessi_arena_descriptor(arena), &share, NULL), TESSI_OK);
    struct tessi_extent *extent = tessi_arena_alloc(arena, 100000);
    assert_int_equal(tessi_extent_commit(extent, NULL), TESSI_OK);
    (void)strcpy(tessi_extent_data(extent), "first");
    uint64_t offset = tessi_extent_offset(extent);
    assert_int_equal(write(to_child[1], &offset, sizeof offset), sizeof offset);
    char answer = 'n';
    assert_int_equal(read(to_parent[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    (void)strcpy(tessi_extent_data(extent), "second");
    assert_int_equal(write(to_child[1], "x", 1), 1);
    int outcome;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_true(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
    tessi_share_close(share);
    tessi_arena_destroy(arena);
    for (int i = 0; i < 2; i++) {
        (void)close(to_child[i]);
        (void)close(to_parent[i]);
    }
}

static void nobody_there_is_a_status(void **state)
{
    (void)state;
    char address[64];
    own_address(address, 2);
    struct tessi_mapping *mapping;
    struct tessi_error error;
    assert_int_equal(tessi_mapping_open(address, &mapping, &error), TESSI_UNREACHABLE);
    assert_null(mapping);
}

static void name_is_free_again_after_close(void **state)
{
    (void)state;
    char address[64];
    own_address(address, 3);
    struct tessi_arena *arena;
    struct tessi_share *share, *second;
    struct tessi_mapping *mapping;
    struct tessi_arena_config config = {1 << 20, false};
    assert_int_equal(tessi_arena_create(&config, &arena, NULL), TESSI_OK);
    assert_int_equal(tessi_share_open(address, tessi_arena_descriptor(arena), &share, NULL), TESSI_OK);
    assert_int_equal(tessi_share_open(address, tessi_arena_descriptor(arena), &second, NULL), TESSI_IO);
    assert_null(second);
    tessi_share_close(share);
    assert_int_equal(tessi_share_open(address, tessi_arena_descriptor(arena), &share, NULL), TESSI_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tessi_mapping_open(address, &mapping, NULL), TESSI_OK);
        assert_non_null(tessi_mapping_at(mapping, 0, tessi_arena_size(arena)));
        assert_null(tessi_mapping_at(mapping, 1, tessi_arena_size(arena)));
        tessi_mapping_close(mapping);
    }
    tessi_share_close(share);
    tessi_arena_destroy(arena);
}

/* A file that its owner could cut would be a trap for its readers. */
static void unsealed_file_is_refused(void **state)
{
    (void)state;
    char address[64];
    own_address(address, 4);
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0 && ftruncate(fd, 4096) == 0);
    struct tessi_share *share;
    struct tessi_mapping *mapping;
    assert_int_equal(tessi_share_open(address, fd, &share, NULL), TESSI_OK);
    assert_int_equal(tessi_mapping_open(address, &mapping, NULL), TESSI_PROTOCOL);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_int_equal(tessi_mapping_open(address, &mapping, NULL), TESSI_OK);
    tessi_mapping_close(mapping);
    tessi_share_close(share);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_in_another_process_sees_the_bytes),
        cmocka_unit_test(nobody_there_is_a_status),
        cmocka_unit_test(name_is_free_again_after_close),
        cmocka_unit_test(unsealed_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
