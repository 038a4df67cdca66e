/* Blocks that are written to a .npy file, and files that are not to be touched. */
#include "tests/kernels/whole.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/array/npy.h"
#include "core/base/alloc.h"
#include "worker/kernel/kernel.h"

#define OFFSET 128 /* of the elements */

static const uint64_t token[2] = {17, UINT64_MAX - 4};

/* A file as a client makes it: a mark, and nothing yet behind it. */
static char *file_of(uint64_t bytes)
{
    char *path = tessi_strdup("/tmp/.tessera-write-XXXXXX");
    uint8_t mark[TESSI_NPY_MARK_BYTES];
    int file = mkstemp(path);
    assert_true(file >= 0);
    tessi_npy_mark(token, mark);
    assert_int_equal(write(file, mark, sizeof mark), sizeof mark);
    assert_int_equal(ftruncate(file, (off_t)bytes), 0);
    (void)close(file);
    return path;
}

static struct tessi_layer *write_layer(enum tessi_dtype dtype, const struct tessi_shape *shape, const int64_t *chunk)
{
    struct tessi_layer *layer = tessi_layer_create(1, 2, TESSI_OP_WRITE_NPY, TESSI_BOOL);
    struct tessi_input *input = whole_input(layer, dtype, shape, chunk);
    tessi_layer_follow_blocks(layer);
    layer->as.write.target = tessi_strdup("/tmp/target.npy");
    layer->as.write.offset = OFFSET;
    layer->as.write.bytes = OFFSET + tessi_input_bytes(input);
    memcpy(layer->as.write.token, token, sizeof token);
    layer->as.write.path = file_of(layer->as.write.bytes);
    return layer;
}

static void destroy(struct tessi_layer *layer)
{
    (void)unlink(layer->as.write.path);
    tessi_layer_destroy(layer);
}

static void check_content(const struct tessi_layer *layer, const void *want)
{
    size_t bytes = (size_t)layer->as.write.bytes;
    unsigned char *content = malloc(bytes);
    uint8_t mark[TESSI_NPY_MARK_BYTES];
    FILE *file = fopen(layer->as.write.path, "rb");
    assert_true(content != NULL && file != NULL);
    assert_int_equal(fread(content, 1, bytes, file), bytes);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
    tessi_npy_mark(token, mark);
    assert_memory_equal(content, mark, sizeof mark);
    assert_memory_equal(content + OFFSET, want, bytes - OFFSET);
    free(content);
}

static void test_blocks_come_to_their_places(void **state)
{
    static const struct tessi_shape shapes[] = {{0, {0}}, {1, {1000}}, {2, {37, 41}}, {2, {64, 300}}, {3, {5, 7, 11}}};
    static const int64_t chunks[][3] = {{0}, {77}, {8, 41}, {20, 7}, {2, 3, 4}};
    static const enum tessi_dtype types[] = {TESSI_U8, TESSI_F32, TESSI_C128};
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            struct tessi_layer *layer = write_layer(types[t], &shapes[s], chunks[s]);
            void *data = whole_random(types[t], whole_elements(&shapes[s]), s, false);
            const void *inputs[] = {data};
            unsigned char *out = whole_run(layer, inputs, WHOLE_KERNEL);
            check_content(layer, data);
            for (uint64_t i = 0; i < tessi_layer_tasks(layer); i++) {
                assert_int_equal(out[i], 1);
            }
            free(out);
            free(data);
            destroy(layer);
        }
    }
}

static enum tessi_status try(const struct tessi_layer *layer, const void *in, struct tessi_error *error)
{
    unsigned char out = 0;
    struct tessi_kernel_call call = {.layer = layer, .steps = 1, .out = &out, .in = {in}};
    *error = (struct tessi_error){0};
    return tessi_kernel_run(&call, error);
}

/* What is there, and whether it is as long, says nothing: only what the client has just made is written to. */
static void test_other_files_are_left_alone(void **state)
{
    struct tessi_shape shape = SHAPE(100);
    struct tessi_layer *layer = write_layer(TESSI_U8, &shape, NULL);
    const char *path = layer->as.write.path;
    unsigned char data[100], none[100] = {0};
    struct tessi_error error;
    char other[96];
    (void)state;
    memset(data, 7, sizeof data);
    (void)snprintf(other, sizeof other, "%s-other", path);
    layer->as.write.token[1]++; /* one that came later under this name */
    assert_int_equal(try(layer, data, &error), TESSI_NOT_FOUND);
    layer->as.write.token[1]--;
    assert_int_equal(link(path, other), 0); /* a file that has a name of its own */
    assert_int_equal(try(layer, data, &error), TESSI_NOT_FOUND);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(try(layer, data, &error), TESSI_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(try(layer, data, &error), TESSI_NOT_FOUND);
    assert_non_null(strstr(error.text, "/tmp/target.npy"));
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(try(layer, data, &error), TESSI_NOT_FOUND);
    assert_int_equal(truncate(path, OFFSET + 100), 0);
    check_content(layer, none);
    assert_int_equal(try(layer, data, &error), TESSI_OK);
    check_content(layer, data);
    destroy(layer);
}

/* A limit on the size of files stands in for a full disk. */
static void test_full_disk_is_named(void **state)
{
    struct tessi_shape shape = SHAPE(100000);
    struct tessi_layer *layer = write_layer(TESSI_U8, &shape, NULL);
    void *data = whole_random(TESSI_U8, 100000, 1, false);
    struct tessi_error error;
    struct rlimit before, small;
    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){4096, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum tessi_status status = try(layer, data, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, TESSI_IO);
    assert_non_null(strstr(error.text, "/tmp/target.npy cannot be written"));
    free(data);
    destroy(layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_come_to_their_places),
        cmocka_unit_test(test_other_files_are_left_alone),
        cmocka_unit_test(test_full_disk_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
