/* Spill files: what is read is what was written, or a status; directories of the dead are swept, of the living not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "worker/store/spill.h"

#define PIECE TESSI_SPILL_PIECE_BYTES

struct outcome {
    sem_t done;
    enum tessi_status status;
    struct tessi_error error;
};

static void note(void *context, enum tessi_status status, const struct tessi_error *error)
{
    struct outcome *outcome = context;
    outcome->status = status;
    outcome->error = *error;
    (void)sem_post(&outcome->done);
}

static enum tessi_status wait_for(struct outcome *outcome)
{
    while (sem_wait(&outcome->done) != 0) {
    }
    return outcome->status;
}

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/tessera-test-XXXXXX");
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static uint32_t entries(const char *path)
{
    uint32_t count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(dir);
    return count;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

static struct tessi_spill *make(void)
{
    struct tessi_spill *spill;
    struct tessi_error error;
    assert_int_equal(tessi_spill_create(directory, &spill, &error), TESSI_OK);
    return spill;
}

static uint8_t *pattern(uint64_t bytes, uint32_t seed)
{
    uint8_t *data = tessi_alloc(bytes + 1);
    for (uint64_t i = 0; i < bytes; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
    return data;
}

static enum tessi_status write_block(struct tessi_spill *spill, uint64_t file, const void *data, uint64_t bytes)
{
    struct outcome outcome;
    assert_int_equal(sem_init(&outcome.done, 0, 0), 0);
    tessi_spill_write(spill, file, data, bytes, note, &outcome);
    return wait_for(&outcome);
}

static enum tessi_status read_block(struct tessi_spill *spill, uint64_t file, uint64_t total, uint64_t offset,
                                    void *data, uint64_t bytes)
{
    struct outcome outcome;
    assert_int_equal(sem_init(&outcome.done, 0, 0), 0);
    tessi_spill_read(spill, file, total, offset, data, bytes, note, &outcome);
    return wait_for(&outcome);
}

static void blocks_come_back(void **state)
{
    (void)state;
    struct tessi_spill *spill = make();
    const uint64_t sizes[] = {0, 1, 4096, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *data = pattern(sizes[i], (uint32_t)i);
        uint8_t *back = tessi_zalloc(sizes[i] + 1);
        assert_int_equal(write_block(spill, i, data, sizes[i]), TESSI_OK);
        assert_int_equal(read_block(spill, i, sizes[i], 0, back, sizes[i]), TESSI_OK);
        assert_memory_equal(back, data, sizes[i] + 0);
        tessi_free(data);
        tessi_free(back);
    }
    /* A piece from the middle, and the rest. */
    uint8_t *data = pattern(3 * PIECE + 17, 6);
    uint8_t *back = tessi_alloc(PIECE + 17);
    assert_int_equal(read_block(spill, 6, 3 * PIECE + 17, PIECE, back, PIECE), TESSI_OK);
    assert_memory_equal(back, data + PIECE, PIECE);
    assert_int_equal(read_block(spill, 6, 3 * PIECE + 17, 2 * PIECE, back, PIECE + 17), TESSI_OK);
    assert_memory_equal(back, data + 2 * PIECE, PIECE + 17);
    /* After its removal there is nothing to read; the jobs keep their order. */
    tessi_spill_remove(spill, 6);
    assert_int_equal(read_block(spill, 6, 3 * PIECE + 17, PIECE, back, PIECE), TESSI_NOT_FOUND);
    tessi_free(data);
    tessi_free(back);
    tessi_spill_destroy(spill);
    assert_int_equal(entries(directory), 0);
}

static void change_byte(const struct tessi_spill *spill, uint64_t file, off_t at)
{
    char path[256];
    uint8_t byte;
    (void)snprintf(path, sizeof path, "%s/%lu.block", tessi_spill_path(spill), (unsigned long)file);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

static void damage_is_noticed(void **state)
{
    (void)state;
    struct tessi_spill *spill = make();
    const uint64_t bytes = 2 * PIECE;
    uint8_t *data = pattern(bytes, 1);
    uint8_t *back = tessi_alloc(bytes);
    /* A byte of the magic, of the length, of a digest, of the head's digest, of the first piece, of the last. */
    const off_t places[] = {0, 8, 24, 32, 4096, (off_t)(4096 + bytes - 1)};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        assert_int_equal(write_block(spill, i, data, bytes), TESSI_OK);
        change_byte(spill, i, places[i]);
        assert_int_equal(read_block(spill, i, bytes, 0, back, bytes), TESSI_FORMAT);
    }
    /* Damage in one piece leaves the other readable. */
    assert_int_equal(read_block(spill, 5, bytes, 0, back, PIECE), TESSI_OK);
    for (off_t length = 0; length < (off_t)(4096 + bytes); length += 500009) {
        char path[256];
        assert_int_equal(write_block(spill, 7, data, bytes), TESSI_OK);
        (void)snprintf(path, sizeof path, "%s/7.block", tessi_spill_path(spill));
        assert_int_equal(truncate(path, length), 0);
        assert_int_equal(read_block(spill, 7, bytes, 0, back, bytes), TESSI_FORMAT);
    }
    /* A file of another length than the caller knows is not the caller's. */
    assert_int_equal(write_block(spill, 8, data, PIECE), TESSI_OK);
    assert_int_equal(read_block(spill, 8, bytes, 0, back, bytes), TESSI_FORMAT);
    tessi_free(data);
    tessi_free(back);
    tessi_spill_destroy(spill);
}

static enum tessi_status work(void *context, struct tessi_error *error)
{
    (void)context;
    return tessi_fail(error, TESSI_FAILED, "made to fail");
}

static void calls_run_in_order(void **state)
{
    (void)state;
    struct tessi_spill *spill = make();
    struct outcome outcome;
    assert_int_equal(sem_init(&outcome.done, 0, 0), 0);
    tessi_spill_call(spill, work, note, &outcome);
    assert_int_equal(wait_for(&outcome), TESSI_FAILED);
    assert_string_equal(outcome.error.text, "made to fail");
    tessi_spill_destroy(spill);
}

static void dead_directories_are_swept(void **state)
{
    (void)state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct tessi_spill *spill;
        bool ok = tessi_spill_create(directory, &spill, NULL) == TESSI_OK;
        (void)!write(ready[1], ok ? "y" : "n", 1);
        for (;;) {
            (void)pause();
        }
    }
    char answer = 'n';
    assert_int_equal(read(ready[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    struct tessi_spill *spill = make(); /* sweeps: the child lives, so its directory stays */
    assert_int_equal(entries(directory), 2);
    assert_int_equal(tessi_spill_sweep(directory), 0);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(tessi_spill_sweep(directory), 1);
    assert_int_equal(entries(directory), 1);
    tessi_spill_destroy(spill);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void strangers_are_left_alone(void **state)
{
    (void)state;
    char path[128], target[128];
    (void)snprintf(path, sizeof path, "%s/tessera-spill-notes", directory);
    int fd = open(path, O_CREAT | O_WRONLY, 0600); /* a file, not a directory */
    assert_true(fd >= 0 && close(fd) == 0);
    (void)snprintf(target, sizeof target, "%s/other", directory);
    assert_int_equal(mkdir(target, 0700), 0);
    char link_path[128];
    (void)snprintf(link_path, sizeof link_path, "%s/tessera-spill-link", directory);
    assert_int_equal(symlink(target, link_path), 0);
    assert_int_equal(tessi_spill_sweep(directory), 0);
    assert_int_equal(entries(directory), 3);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(link_path), 0);
    assert_int_equal(rmdir(target), 0);
}

static void unusable_directory_is_a_status(void **state)
{
    (void)state;
    struct tessi_spill *spill;
    struct tessi_error error;
    assert_int_equal(tessi_spill_create("/nonexistent/place", &spill, &error), TESSI_IO);
    assert_null(spill);
    assert_non_null(strstr(error.text, "/nonexistent/place"));
}

/* A limit on the size of files stands in for a full disk: the write fails and leaves no file. */
static void failed_write_leaves_nothing(void **state)
{
    (void)state;
    struct tessi_spill *spill = make();
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = PIECE;
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    uint8_t *data = pattern(2 * PIECE, 1);
    enum tessi_status status = write_block(spill, 1, data, 2 * PIECE);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, old);
    assert_int_equal(status, TESSI_IO);
    assert_int_equal(entries(tessi_spill_path(spill)), 1); /* the lock */
    tessi_free(data);
    tessi_spill_destroy(spill);
}

/* Something that cleans up removes our directory, and the one that the user named. What was there is lost, and said to
 * be; the next file is written all the same. */
static void removed_directory_is_made_again(void **state)
{
    (void)state;
    struct tessi_spill *spill = make();
    uint8_t *data = pattern(PIECE, 1), *back = tessi_alloc(PIECE);
    char path[256];
    assert_int_equal(write_block(spill, 1, data, PIECE), TESSI_OK);
    const char *const names[] = {"1.block", "lock"};
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", tessi_spill_path(spill), names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(tessi_spill_path(spill)), 0);
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(read_block(spill, 1, PIECE, 0, back, PIECE), TESSI_NOT_FOUND);
    assert_int_equal(write_block(spill, 2, data, PIECE), TESSI_OK);
    assert_int_equal(read_block(spill, 2, PIECE, 0, back, PIECE), TESSI_OK);
    assert_memory_equal(back, data, PIECE);
    assert_int_equal(read_block(spill, 1, PIECE, 0, back, PIECE), TESSI_NOT_FOUND);
    tessi_free(data);
    tessi_free(back);
    tessi_spill_destroy(spill);
    assert_int_equal(entries(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_come_back, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(damage_is_noticed, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(calls_run_in_order, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(dead_directories_are_swept, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(strangers_are_left_alone, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(failed_write_leaves_nothing, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(removed_directory_is_made_again, make_directory, remove_directory),
        cmocka_unit_test(unusable_directory_is_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
