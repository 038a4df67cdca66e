/* .npy files that are read and written, hostile ones among them. */
#include "tests/integration/embedded.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
        "{'descr': '>f8', 'fortran_order': False, 'shape': (4, 4), }",
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

int main(void)
{
    const struct CMUnitTest shared[] = {
        TEST(test_npy_round_trip),
        TEST(test_hostile_npy_files),
        TEST(test_failed_write_leaves_nothing),
    };
    return cmocka_run_group_tests_name("files", shared, open_group, close_group);
}
