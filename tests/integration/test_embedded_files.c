/* .npy files that are read and written, hostile ones among them. */
#include "tests/integration/embedded.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void make_folder(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/tessera-embedded.XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int count_and_remove(const char *folder)
{
    int count = 0;
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] != '.') {
            char path[512];
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            assert_int_equal(unlink(path), 0);
            count++;
        }
    }
    closedir(directory);
    assert_int_equal(rmdir(folder), 0);
    return count;
}

/* A file of version 1.0 with that dict and the elements. */
static void write_npy(const char *path, const char *dict, const void *data, size_t bytes)
{
    char head[512];
    int length = snprintf(head + 10, sizeof head - 10, "%s\n", dict);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(length & 0xff);
    head[9] = (char)(length >> 8);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(head, 1, (size_t)length + 10, file), (size_t)length + 10);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void test_npy_round_trip(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/a.npy", folder);
    enum { R = 301, C = 203 };
    double *data = samples(R * C);
    tess_array *a = tess_from_memory(s, data, TESS_SHAPE(R, C), TESS_F64, TESS_CHUNKS(64, 100));
    ok(s, tess_write_npy(a, path));
    tess_array *back = tess_from_npy(s, path, TESS_CHUNKS(50, 30));
    double *same = malloc(R * C * sizeof *same);
    memcpy(same, data, R * C * sizeof *same);
    check(s, back, TESS_SHAPE(R, C), same, 0);

    /* In place of an older file; a scalar; nothing at all; half precision. */
    ok(s, tess_write_npy(tess_sum(a, TESS_ALL, false), path));
    double total = 0;
    for (int i = 0; i < R * C; i++) {
        total += data[i];
    }
    double value;
    ok(s, tess_read_scalar(tess_from_npy(s, path, TESS_AUTO), &value));
    assert_true(value == total);
    ok(s, tess_write_npy(tess_zeros(s, TESS_SHAPE(0, 3), TESS_I32, TESS_AUTO), path));
    assert_int_equal(tess_array_shape(tess_from_npy(s, path, TESS_AUTO)).dim[1], 3);
    ok(s, tess_write_npy(tess_astype(a, TESS_F16), path));
    assert_int_equal(tess_array_dtype(tess_from_npy(s, path, TESS_AUTO)), TESS_F16);
    assert_int_equal(tess_write_npy(tess_astype(a, TESS_BF16), path), TESS_UNSUPPORTED);
    tess_session_clear_error(s);

    /* Fortran order: the file holds the columns one after the other. */
    write_npy(path, "{'descr': '<f8', 'fortran_order': True, 'shape': (203, 301), }", data, R * C * sizeof *data);
    double *turned = malloc(R * C * sizeof *turned);
    for (int i = 0; i < C; i++) {
        for (int j = 0; j < R; j++) {
            turned[i * R + j] = data[j * C + i];
        }
    }
    tess_array *fortran = tess_from_npy(s, path, TESS_CHUNKS(40, 70));
    assert_int_equal(tess_array_chunk(fortran, 0, 0), 40);
    check(s, fortran, TESS_SHAPE(C, R), turned, 0);
    free(data);
    assert_int_equal(count_and_remove(folder), 1);
}

static void test_hostile_npy_files(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/bad.npy", folder);
    const double body[16] = {0};
    const char *dicts[] = {
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-4, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4, 5), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4, 4), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }",
        "{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (4, 4), }",
        "{'descr': '<f8', 'shape': (4, 4), }",
        "",
    };
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        write_npy(path, dicts[i], body, sizeof body);
        tess_array *a = tess_from_npy(s, path, TESS_AUTO);
        assert_int_not_equal(tess_array_status(a), TESS_OK);
        assert_non_null(strstr(tess_array_error(a), "bad.npy"));
    }
    write_bytes(path, "", 0);
    assert_int_equal(tess_array_status(tess_from_npy(s, path, TESS_AUTO)), TESS_FORMAT);
    write_bytes(path, "\x93NUMPY\x02\x00\xff\xff\xff\x7f{", 13);
    assert_int_equal(tess_array_status(tess_from_npy(s, path, TESS_AUTO)), TESS_FORMAT);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(tess_array_status(tess_from_npy(s, path, TESS_AUTO)), TESS_IO);
    unlink(path);

    /* A file that is gone or cut short when the workers come to read it: the task fails and says which. */
    write_npy(path, "{'descr': '<f8', 'fortran_order': False, 'shape': (4, 4), }", body, sizeof body);
    tess_array *cut = tess_from_npy(s, path, TESS_AUTO);
    tess_session_clear_error(s);
    assert_int_equal(truncate(path, 100), 0);
    double back[16];
    assert_int_not_equal(tess_read(tess_add_scalar(cut, 1), back, sizeof back), TESS_OK);
    assert_non_null(strstr(tess_session_error(s), "bad.npy"));
    assert_int_equal(count_and_remove(folder), 1);
}

static void test_failed_write_leaves_nothing(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    char missing[400];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/out.npy", folder);
    snprintf(missing, sizeof missing, "%s/no/such/out.npy", folder);
    assert_int_equal(tess_write_npy(tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO), missing), TESS_IO);
    assert_non_null(strstr(tess_session_error(s), missing));
    tess_session_clear_error(s);
    struct stat pipe;
    assert_int_equal(mkfifo(path, 0600), 0); /* would be gone if the file took its place, and so would /dev/null */
    assert_int_equal(tess_write_npy(tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO), path), TESS_IO);
    assert_non_null(strstr(tess_session_error(s), "no regular file"));
    assert_true(stat(path, &pipe) == 0 && S_ISFIFO(pipe.st_mode));
    assert_int_equal(unlink(path), 0);
    tess_session_clear_error(s);
    write_bytes(path, "before", 6);
    char source[300];
    snprintf(source, sizeof source, "%s/source.npy", folder);
    ok(s, tess_write_npy(tess_ones(s, TESS_SHAPE(40), TESS_F64, TESS_AUTO), source));
    tess_array *a = tess_from_npy(s, source, TESS_CHUNKS(10));
    assert_int_equal(unlink(source), 0);
    assert_int_not_equal(tess_write_npy(a, path), TESS_OK);
    char content[6];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(content, 1, 6, file), 6);
    fclose(file);
    assert_memory_equal(content, "before", 6);
    assert_int_equal(count_and_remove(folder), 1);
}

static double sum_of(tess_session *s, const char *path)
{
    double value = -1;
    ok(s, tess_read_scalar(tess_sum(tess_from_npy(s, path, TESS_AUTO), TESS_ALL, false), &value));
    return value;
}

/* As numpy.save does, which opens the file and writes: through links, with the permissions that are there, under any name. */
static void test_written_as_numpy_does(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[600];
    char link_path[300];
    char name[256];
    struct stat about;
    make_folder(folder, sizeof folder);
    tess_array *x = tess_arange(s, 0, 12, 1, TESS_F64, TESS_CHUNKS(5));
    memset(name, 'y', 255);
    memcpy(name + 251, ".npy", 5);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ok(s, tess_write_npy(x, path));
    assert_true(sum_of(s, path) == 66);
    assert_int_equal(unlink(path), 0);

    snprintf(path, sizeof path, "%s/target.npy", folder);
    ok(s, tess_write_npy(x, path));
    assert_int_equal(chmod(path, 0640), 0);
    ok(s, tess_write_npy(tess_add_scalar(x, 1), path));
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0640);
    assert_true(sum_of(s, path) == 78);

    snprintf(link_path, sizeof link_path, "%s/link.npy", folder);
    assert_int_equal(symlink("target.npy", link_path), 0);
    ok(s, tess_write_npy(tess_multiply_scalar(x, 2), link_path));
    assert_true(lstat(link_path, &about) == 0 && S_ISLNK(about.st_mode));
    assert_true(sum_of(s, path) == 132);
    assert_int_equal(unlink(path), 0); /* the link leads nowhere now: what it names is made */
    ok(s, tess_write_npy(x, link_path));
    assert_true(sum_of(s, path) == 66);
    assert_int_equal(unlink(link_path), 0);
    assert_int_equal(symlink("link.npy", link_path), 0);
    assert_int_equal(tess_write_npy(x, link_path), TESS_IO); /* in a circle */
    tess_session_clear_error(s);
    assert_int_equal(count_and_remove(folder), 2);
}

/* What a program left behind that was killed while it wrote goes with the next write; what is being written stays. */
static void test_leftovers_are_swept(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char dead[300];
    char alive[300];
    char path[300];
    make_folder(folder, sizeof folder);
    snprintf(dead, sizeof dead, "%s/.tessera-write-1-dead", folder);
    snprintf(alive, sizeof alive, "%s/.tessera-write-1-alive", folder);
    snprintf(path, sizeof path, "%s/a.npy", folder);
    write_bytes(dead, "x", 1);
    write_bytes(alive, "x", 1);
    int file = open(alive, O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(file, LOCK_EX), 0);
    ok(s, tess_write_npy(tess_ones(s, TESS_SHAPE(3), TESS_F64, TESS_AUTO), path));
    assert_int_not_equal(access(dead, F_OK), 0);
    assert_int_equal(access(alive, F_OK), 0);
    close(file);
    ok(s, tess_write_npy(tess_ones(s, TESS_SHAPE(3), TESS_F64, TESS_AUTO), path));
    assert_int_not_equal(access(alive, F_OK), 0);
    assert_int_equal(count_and_remove(folder), 1);
}

/* A file that another takes the place of, or that is written to, after it was opened is refused, not mixed: also of the
 * same size. */
static void test_changed_files_are_refused(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    double back[40];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/changes.npy", folder);
    ok(s, tess_write_npy(tess_ones(s, TESS_SHAPE(40), TESS_F64, TESS_AUTO), path));
    tess_array *old = tess_from_npy(s, path, TESS_CHUNKS(7));
    ok(s, tess_read(old, back, sizeof back));
    ok(s, tess_write_npy(tess_zeros(s, TESS_SHAPE(40), TESS_F64, TESS_AUTO), path));
    assert_int_not_equal(tess_read(old, back, sizeof back), TESS_OK);
    assert_non_null(strstr(tess_session_error(s), path));
    assert_non_null(strstr(tess_session_error(s), "replaced"));
    assert_non_null(strstr(tess_session_error(s), "worker "));
    tess_session_clear_error(s);
    tess_array *fresh = tess_from_npy(s, path, TESS_CHUNKS(7));
    ok(s, tess_read(fresh, back, sizeof back));
    assert_true(back[39] == 0);
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_not_equal(tess_read(fresh, back, sizeof back), TESS_OK);
    assert_non_null(strstr(tess_session_error(s), "written to"));
    tess_session_clear_error(s);
    assert_int_equal(count_and_remove(folder), 1);
}

/* Big-endian elements, and a mask of 0 and 255, as other programs write them. */
static void test_elements_of_other_writers(void **state)
{
    tess_session *s = *state;
    char folder[256];
    char path[300];
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/other.npy", folder);
    const uint8_t big[24] = {0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0, 0x3f, 0xe0};
    write_npy(path, "{'descr': '>f8', 'fortran_order': True, 'shape': (3, 1), }", big, sizeof big);
    double *expected = malloc(3 * sizeof *expected);
    memcpy(expected, (double[3]){3.141592653589793, -1, 0.5}, 3 * sizeof *expected);
    check(s, tess_from_npy(s, path, TESS_CHUNKS(2, 1)), TESS_SHAPE(3, 1), expected, 0);
    const uint8_t mask[4] = {0, 255, 1, 7};
    write_npy(path, "{'descr': '?', 'fortran_order': False, 'shape': (4,), }\r", mask, sizeof mask);
    assert_true(sum_of(s, path) == 3);
    assert_int_equal(count_and_remove(folder), 1);
}

/* A result of four times what the workers can hold, without files to spill to: in parts along both axes. */
static void test_larger_than_memory(void **state)
{
    enum { R = 1001, C = 4000 };
    tess_session_options options = {.workers = 2, .memory_bytes = 8 * MIB, .spill_bytes = UINT64_MAX, .gpus = "none"};
    tess_session *s = tess_session_open(NULL, &options);
    char folder[256];
    char path[300];
    (void)state;
    ok(s, tess_session_status(s));
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/large.npy", folder);
    double *rows = malloc(R * sizeof *rows);
    for (int i = 0; i < R; i++) {
        rows[i] = 10000.0 * i;
    }
    tess_array *row = tess_from_memory(s, rows, TESS_SHAPE(R, 1), TESS_F64, TESS_CHUNKS(100, 1));
    tess_array *y = tess_add(row, tess_arange(s, 0, C, 1, TESS_F64, TESS_CHUNKS(700)));
    assert_int_equal(tess_persist(y) == TESS_OK ? tess_wait(y, 0) : TESS_TOO_BIG, TESS_TOO_BIG); /* it cannot be held */
    tess_session_clear_error(s);
    ok(s, tess_write_npy(y, path));
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 128, SEEK_SET), 0);
    for (int i = 0; i < R; i++) {
        double line[C];
        assert_int_equal(fread(line, sizeof *line, C, file), C);
        for (int j = 0; j < C; j++) {
            assert_true(line[j] == rows[i] + j);
        }
    }
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
    /* What no part makes smaller is refused as before, and leaves nothing. */
    tess_array *one = tess_exp(tess_random_normal(s, TESS_SHAPE(4000, 1000), TESS_F64, 0, 1, 3, TESS_CHUNKS(-1, -1)));
    assert_int_equal(tess_write_npy(one, path), TESS_TOO_BIG);
    assert_non_null(strstr(tess_session_error(s), "chunks"));
    free(rows);
    tess_session_close(s);
    assert_int_equal(count_and_remove(folder), 1);
}

/* Blocks of a few columns, of which each row is a run of its own in the file: also where there is no room to bring whole
 * rows together. */
static void test_blocks_of_short_rows(void **state)
{
    enum { R = 4000, C = 300 };
    static const int64_t chunks[][2] = {{R, 7}, {1700, 1}, {R, 50}};
    static const uint64_t memory[] = {256 * MIB, 256 * MIB, 4 * MIB};
    double thousands[R];
    char folder[256], path[300];
    (void)state;
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/columns.npy", folder);
    for (int r = 0; r < R; r++) {
        thousands[r] = 1000.0 * r;
    }
    for (int i = 0; i < 3; i++) {
        tess_session_options options = {
            .workers = 2, .memory_bytes = memory[i], .spill_bytes = UINT64_MAX, .gpus = "none"};
        tess_session *s = tess_session_open(NULL, &options);
        tess_array *rows = tess_from_memory(s, thousands, TESS_SHAPE(R, 1), TESS_F64, TESS_CHUNKS(chunks[i][0], 1));
        tess_array *y = tess_add(rows, tess_arange(s, 0, C, 1, TESS_F64, TESS_CHUNKS(chunks[i][1])));
        ok(s, tess_write_npy(y, path));
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        assert_int_equal(fseek(file, 128, SEEK_SET), 0);
        for (int r = 0; r < R; r++) {
            double line[C];
            assert_int_equal(fread(line, sizeof *line, C, file), C);
            for (int c = 0; c < C; c++) {
                assert_true(line[c] == thousands[r] + c);
            }
        }
        assert_int_equal(fgetc(file), EOF);
        fclose(file);
        tess_session_close(s);
    }
    assert_int_equal(count_and_remove(folder), 1);
}

struct canceller {
    tess_array *array;
    atomic_bool over;
};

static void *cancel_again_and_again(void *argument)
{
    struct canceller *canceller = argument;
    const struct timespec pause = {.tv_nsec = 20000000};
    while (!atomic_load(&canceller->over)) {
        (void)nanosleep(&pause, NULL);
        tess_cancel(canceller->array);
    }
    return NULL;
}

/* A limit on the size of files stands in for a full disk. Neither it nor a cancel leaves anything. */
static void test_write_that_ends_early(void **state)
{
    tess_session *s = *state;
    struct rlimit before, small;
    char folder[256], path[300];
    pthread_t thread;
    make_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/early.npy", folder);
    tess_array *x = tess_exp(tess_random_normal(s, TESS_SHAPE(4000, 4000), TESS_F64, 0, 1, 3, TESS_CHUNKS(100, -1)));
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){MIB, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    tess_status status = tess_write_npy(x, path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, TESS_IO);
    assert_non_null(strstr(tess_session_error(s), path));
    assert_non_null(strstr(tess_session_error(s), "no room for 128000128 bytes"));
    tess_session_clear_error(s);
    struct canceller canceller = {.array = x};
    assert_int_equal(pthread_create(&thread, NULL, cancel_again_and_again, &canceller), 0);
    status = tess_write_npy(x, path);
    atomic_store(&canceller.over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(status, TESS_CANCELLED);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(count_and_remove(folder), 0);
    tess_session_clear_error(s);
}

int main(void)
{
    const struct CMUnitTest shared[] = {
        TEST(test_npy_round_trip),
        TEST(test_hostile_npy_files),
        TEST(test_failed_write_leaves_nothing),
        TEST(test_written_as_numpy_does),
        TEST(test_leftovers_are_swept),
        TEST(test_changed_files_are_refused),
        TEST(test_elements_of_other_writers),
        TEST(test_write_that_ends_early),
    };
    const struct CMUnitTest own[] = {
        cmocka_unit_test(test_larger_than_memory),
        cmocka_unit_test(test_blocks_of_short_rows),
    };
    int failures = cmocka_run_group_tests_name("files", shared, open_group, close_group);
    return failures + cmocka_run_group_tests_name("a cluster of its own", own, NULL, NULL);
}
