/* Blocks that come from nothing or from a file: constants, ranges, diagonals, random numbers, .npy. */
#include "tests/kernels/whole.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/philox.h"
#include "worker/kernel/convert.h"
#include "worker/kernel/kernel.h"

static void compare(const struct tessi_layer *layer)
{
    void *fast = whole_run(layer, NULL, WHOLE_KERNEL);
    void *plain = whole_run(layer, NULL, WHOLE_REFERENCE);
    whole_assert_equal(layer->dtype, fast, plain, (int64_t)(tessi_layer_bytes(layer) / tessi_dtype_size(layer->dtype)));
    free(fast);
    free(plain);
}

static void test_full(void **state)
{
    struct tessi_shape shape = SHAPE(130, 71);
    int64_t chunk[2] = {100, 40};
    (void)state;
    for (uint32_t dtype = 0; dtype < TESSI_DTYPE_COUNT; dtype++) {
        for (int64_t value = 0; value < 3; value++) {
            struct tessi_layer *layer = whole_layer(TESSI_OP_FULL, dtype, &shape, chunk);
            layer->as.full = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = value};
            if (dtype == TESSI_BOOL) {
                layer->as.full = (struct tessi_scalar){.dtype = TESSI_BOOL, .as.u = value != 0};
            }
            compare(layer);
            unsigned char want[16];
            unsigned char *out = whole_run(layer, NULL, WHOLE_KERNEL);
            tessi_convert(dtype, want, TESSI_I64, &value, 1);
            for (size_t i = 0; i < 130 * 71; i++) {
                assert_memory_equal(out + i * tessi_dtype_size(dtype), want, tessi_dtype_size(dtype));
            }
            free(out);
            tessi_layer_destroy(layer);
        }
    }
    struct tessi_layer *layer = whole_layer(TESSI_OP_FULL, TESSI_C128, &shape, chunk);
    layer->as.full = (struct tessi_scalar){.dtype = TESSI_C128, .as.c = {1.5, -2.5}};
    compare(layer);
    tessi_layer_destroy(layer);
}

static void test_arange(void **state)
{
    struct tessi_shape shape = SHAPE(3000);
    int64_t chunk[1] = {1100};
    (void)state;
    for (uint32_t dtype = TESSI_I8; dtype < TESSI_DTYPE_COUNT; dtype++) {
        struct tessi_layer *layer = whole_layer(TESSI_OP_ARANGE, dtype, &shape, chunk);
        layer->as.arange.start = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = -5};
        layer->as.arange.step = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 7};
        compare(layer);
        tessi_layer_destroy(layer);
    }
    struct tessi_layer *layer = whole_layer(TESSI_OP_ARANGE, TESSI_F64, &shape, chunk);
    layer->as.arange.start = (struct tessi_scalar){.dtype = TESSI_F64, .as.f = 0.1};
    layer->as.arange.step = (struct tessi_scalar){.dtype = TESSI_F64, .as.f = 0.3};
    double *out = whole_run(layer, NULL, WHOLE_KERNEL);
    for (int i = 0; i < 3000; i++) {
        volatile double product = i * 0.3; /* rounded before the sum */
        assert_true(out[i] == 0.1 + product);
    }
    free(out);
    tessi_layer_destroy(layer);
}

static void test_eye(void **state)
{
    struct tessi_shape shape = SHAPE(30, 50);
    int64_t chunk[2] = {7, 11};
    static const int64_t diagonals[] = {0, 5, -12, 49, -29, 50, INT64_MAX, INT64_MIN};
    (void)state;
    for (size_t g = 0; g < sizeof diagonals / sizeof diagonals[0]; g++) {
        struct tessi_layer *layer = whole_layer(TESSI_OP_EYE, TESSI_F32, &shape, chunk);
        layer->as.eye.diagonal = diagonals[g];
        float *out = whole_run(layer, NULL, WHOLE_KERNEL);
        for (int64_t i = 0; i < 30; i++) {
            for (int64_t j = 0; j < 50; j++) {
                assert_true(out[i * 50 + j] == (j - i == diagonals[g] ? 1.0f : 0.0f));
            }
        }
        free(out);
        compare(layer);
        tessi_layer_destroy(layer);
    }
}

static struct tessi_layer *random_layer(enum tessi_op op, enum tessi_dtype dtype, const struct tessi_shape *shape,
                                        const int64_t *chunk, double low, double high)
{
    struct tessi_layer *layer = whole_layer(op, dtype, shape, chunk);
    layer->as.random.seed = UINT64_C(0x123456789abcdef0);
    layer->as.random.low = low;
    layer->as.random.high = high;
    return layer;
}

/* The same numbers however the array is cut, equal to those of the definition. */
static void test_random_chunking(void **state)
{
    static const enum tessi_dtype types[] = {TESSI_F64, TESSI_F32, TESSI_F16, TESSI_BF16};
    static const int64_t chunks[][3] = {{13, 9, 70}, {5, 9, 70}, {13, 4, 70}, {13, 9, 33}, {1, 1, 1}, {4, 5, 6}};
    struct tessi_shape shape = SHAPE(13, 9, 70);
    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (int normal = 0; normal < 2; normal++) {
            enum tessi_op op = normal != 0 ? TESSI_OP_NORMAL : TESSI_OP_UNIFORM;
            struct tessi_layer *layer = random_layer(op, types[t], &shape, NULL, -1.5, 2.25);
            void *plain = whole_run(layer, NULL, WHOLE_REFERENCE);
            tessi_layer_destroy(layer);
            for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
                layer = random_layer(op, types[t], &shape, chunks[c], -1.5, 2.25);
                void *out = whole_run(layer, NULL, WHOLE_KERNEL);
                whole_assert_equal(types[t], out, plain, 13 * 9 * 70);
                free(out);
                tessi_layer_destroy(layer);
            }
            free(plain);
        }
    }
}

static void test_uniform_is_philox(void **state)
{
    struct tessi_shape shape = SHAPE(2000);
    struct tessi_layer *layer = random_layer(TESSI_OP_UNIFORM, TESSI_F64, &shape, NULL, 0, 1);
    double *out = whole_run(layer, NULL, WHOLE_KERNEL);
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) {
        assert_true(out[i] == tessi_philox_uniform_f64(layer->as.random.seed, i));
    }
    free(out);
    tessi_layer_destroy(layer);
}

/* Element numbers beyond 2^32 carry into the second word of the counter. */
static void test_uniform_far(void **state)
{
    struct tessi_shape shape = SHAPE(INT64_C(3) << 32);
    int64_t chunk[1] = {1 << 20};
    struct tessi_layer *layer = random_layer(TESSI_OP_UNIFORM, TESSI_F64, &shape, chunk, 0, 1);
    uint64_t block = (UINT64_C(1) << 12) + 3; /* elements from 2^32 + 3·2^20 */
    double *out = malloc(sizeof *out << 20);
    struct tessi_kernel_call call = {.layer = layer, .index = block, .steps = 1, .out = out};
    (void)state;
    assert_int_equal(tessi_kernel_run(&call, NULL), TESSI_OK);
    for (uint64_t i = 0; i < 1 << 20; i += 977) {
        assert_true(out[i] == tessi_philox_uniform_f64(layer->as.random.seed, (block << 20) + i));
    }
    free(out);
    tessi_layer_destroy(layer);
}

/* The open end is never reached, even where the product rounds up to it. */
static void test_uniform_bounds(void **state)
{
    static const enum tessi_dtype types[] = {TESSI_F64, TESSI_F32, TESSI_F16, TESSI_BF16};
    static const double ranges[][2] = {{1, 1 + 0x1p-50}, {1, 1.0078125},  {-1, 1}, {-3, -2.984375},
                                       {-2, 0},          {1e4, 1e4 + 24}, {2, 2}};
    struct tessi_shape shape = SHAPE(4000);
    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t r = 0; r < sizeof ranges / sizeof ranges[0]; r++) {
            struct tessi_layer *layer =
                random_layer(TESSI_OP_UNIFORM, types[t], &shape, NULL, ranges[r][0], ranges[r][1]);
            unsigned char *out = whole_run(layer, NULL, WHOLE_KERNEL);
            double low;
            double high;
            unsigned char rounded[8];
            tessi_convert(types[t], rounded, TESSI_F64, &ranges[r][0], 1);
            tessi_convert(TESSI_F64, &low, types[t], rounded, 1);
            tessi_convert(types[t], rounded, TESSI_F64, &ranges[r][1], 1);
            tessi_convert(TESSI_F64, &high, types[t], rounded, 1);
            for (size_t i = 0; i < 4000; i++) {
                double x;
                tessi_convert(TESSI_F64, &x, types[t], out + i * tessi_dtype_size(types[t]), 1);
                assert_true(x >= low && (x < high || low == high));
            }
            free(out);
            tessi_layer_destroy(layer);
        }
    }
}

/* Mean, variance, fourth moment and tails of a million normal numbers, within five standard errors. */
static void test_normal_moments(void **state)
{
    enum { N = 1000000 };
    struct tessi_shape shape = SHAPE(N);
    struct tessi_layer *layer = random_layer(TESSI_OP_NORMAL, TESSI_F64, &shape, NULL, 3, 2);
    double *out = whole_run(layer, NULL, WHOLE_KERNEL);
    double moments[5] = {0};
    int beyond = 0;
    (void)state;
    for (int i = 0; i < N; i++) {
        double z = (out[i] - 3) / 2;
        moments[1] += z / N;
        moments[2] += z * z / N;
        moments[3] += z * z * z / N;
        moments[4] += z * z * z * z / N;
        beyond += fabs(z) > 3 ? 1 : 0;
    }
    assert_true(fabs(moments[1]) < 5e-3);
    assert_true(fabs(moments[2] - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(moments[3]) < 5 * sqrt(15.0 / N));
    assert_true(fabs(moments[4] - 3) < 5 * sqrt(96.0 / N));
    assert_true(abs(beyond - 2700) < 5 * 52);
    free(out);
    tessi_layer_destroy(layer);
}

static char *file_with(const void *data, size_t size)
{
    char *path = tessi_strdup("/tmp/tessera-test-XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, data, size), size);
    (void)close(file);
    return path;
}

/* As a client does when it opens the file. */
static void identify(struct tessi_layer *layer, const char *path)
{
    bool regular = false;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(tessi_file_identify(file, &layer->as.npy.file, &regular), 0);
    assert_true(regular);
    close(file);
}

static void test_read_npy(void **state)
{
    static const int64_t chunks[][3] = {{6, 7, 8}, {2, 7, 8}, {6, 3, 8}, {6, 7, 5}, {4, 4, 4}};
    struct tessi_shape shape = SHAPE(6, 7, 8);
    size_t size = 128 + 6 * 7 * 8 * 4;
    unsigned char *bytes = whole_random(TESSI_U8, (int64_t)size, 1, false);
    char *path = file_with(bytes, size);
    (void)state;
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        struct tessi_layer *layer = whole_layer(TESSI_OP_READ_NPY, TESSI_I32, &shape, chunks[c]);
        layer->as.npy.path = tessi_strdup(path);
        layer->as.npy.offset = 128;
        identify(layer, path);
        void *out = whole_run(layer, NULL, WHOLE_KERNEL);
        assert_memory_equal(out, bytes + 128, size - 128);
        free(out);
        tessi_layer_destroy(layer);
    }
    (void)unlink(path);
    tessi_free(path);
    free(bytes);
}

/* Blocks of few columns, whose runs are read together, of every length of elements and rows; in either byte order. */
static void test_read_npy_columns(void **state)
{
    static const enum tessi_dtype types[] = {TESSI_BOOL, TESSI_I8,  TESSI_F16, TESSI_F32,
                                             TESSI_U64,  TESSI_C64, TESSI_C128};
    static const struct tessi_shape shapes[] = {
        {2, {3000, 5}}, {2, {70, 1500}}, {3, {40, 30, 20}}, {2, {20000, 16}}, {3, {9, 3, 4000}}};
    static const int64_t chunks[][3] = {{3000, 1}, {70, 3}, {33, 7, 2}, {19999, 1}, {9, 2, 1}};
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t count = whole_elements(&shapes[s]);
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            size_t size = tessi_dtype_size(types[t]);
            size_t number = tessi_dtype_kind(types[t]) == TESSI_KIND_COMPLEX ? size / 2 : size;
            size_t bytes = 7 + (size_t)count * size;
            unsigned char *file = whole_random(TESSI_U8, (int64_t)bytes, t + 1, false);
            char *path = file_with(file, bytes);
            for (int swapped = 0; swapped < 2; swapped++) {
                struct tessi_layer *layer = whole_layer(TESSI_OP_READ_NPY, types[t], &shapes[s], chunks[s]);
                layer->as.npy.path = tessi_strdup(path);
                layer->as.npy.offset = 7;
                layer->as.npy.swapped = swapped != 0;
                identify(layer, path);
                unsigned char *out = whole_run(layer, NULL, WHOLE_KERNEL);
                for (size_t i = 0; i < (size_t)count * size; i++) {
                    size_t at = swapped != 0 ? i / number * number + (number - 1 - i % number) : i;
                    unsigned char want = types[t] == TESSI_BOOL ? file[7 + at] != 0 : file[7 + at];
                    assert_int_equal(out[i], want);
                }
                free(out);
                tessi_layer_destroy(layer);
            }
            (void)unlink(path);
            tessi_free(path);
            free(file);
        }
    }
}

/* Read calls of this process so far; 0 where the system does not count them. */
static unsigned long long read_calls(void)
{
    char line[128];
    unsigned long long calls = 0;
    FILE *file = fopen("/proc/self/io", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "syscr: %llu", &calls);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return calls;
}

/* A column of a narrow array is read by the strip, not by the row; one of a wide array by the row, not with the rows. */
static void test_read_npy_columns_in_strips(void **state)
{
    static const struct tessi_shape shapes[] = {{2, {60000, 16}}, {2, {50, 20000}}};
    static const int64_t chunks[][2] = {{60000, 1}, {50, 10000}};
    static const unsigned long long most[] = {16 * (60000 * 128 / 262144 + 32) + 8, 2 * 50 + 8};
    (void)state;
    for (int s = 0; s < 2; s++) {
        size_t bytes = (size_t)whole_elements(&shapes[s]) * sizeof(double);
        unsigned char *file = whole_random(TESSI_U8, (int64_t)bytes, 3, false);
        char *path = file_with(file, bytes);
        struct tessi_layer *layer = whole_layer(TESSI_OP_READ_NPY, TESSI_F64, &shapes[s], chunks[s]);
        layer->as.npy.path = tessi_strdup(path);
        identify(layer, path);
        unsigned long long before = read_calls();
        void *out = whole_run(layer, NULL, WHOLE_KERNEL);
        assert_true(read_calls() - before <= most[s]);
        assert_memory_equal(out, file, bytes);
        free(out);
        tessi_layer_destroy(layer);
        (void)unlink(path);
        tessi_free(path);
        free(file);
    }
}

static void test_read_npy_errors(void **state)
{
    struct tessi_shape shape = SHAPE(100);
    unsigned char bytes[128] = {0};
    char *path = file_with(bytes, sizeof bytes);
    char out[100];
    struct tessi_error error = {.text = ""};
    struct tessi_layer *layer = whole_layer(TESSI_OP_READ_NPY, TESSI_U8, &shape, NULL);
    struct tessi_kernel_call call = {.layer = layer, .steps = 1, .out = out};
    (void)state;
    layer->as.npy.path = tessi_strdup(path);
    layer->as.npy.offset = 28;
    identify(layer, path);
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_OK);
    assert_int_equal(truncate(path, 120), 0);
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_IO);
    assert_non_null(strstr(error.text, path));
    assert_int_equal(truncate(path, 128), 0);          /* as long again, but written to */
    const struct timespec times[2] = {{1, 0}, {1, 0}}; /* clocks of file systems are coarse */
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_IO);
    assert_non_null(strstr(error.text, "written to"));
    identify(layer, path);
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_OK);
    char *other = file_with(bytes, sizeof bytes); /* another file, as long, takes its place */
    assert_int_equal(rename(other, path), 0);
    tessi_free(other);
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_IO);
    assert_non_null(strstr(error.text, "replaced"));
    (void)unlink(path);
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_NOT_FOUND);
    assert_non_null(strstr(error.text, path));
    tessi_free(layer->as.npy.path);
    layer->as.npy.path = tessi_strdup("/tmp");
    assert_int_not_equal(tessi_kernel_run(&call, &error), TESSI_OK);
    tessi_free(path);
    tessi_layer_destroy(layer);
}

/* The path was looked at before: a link that stands in it now was put there to read another file. */
static void test_read_npy_follows_no_links(void **state)
{
    struct tessi_shape shape = SHAPE(100);
    unsigned char bytes[100] = {0};
    char out[100], folder[] = "/tmp/tessera-links-XXXXXX", link[64], within[96];
    char *path = file_with(bytes, sizeof bytes);
    struct tessi_error error = {.text = ""};
    struct tessi_layer *layer = whole_layer(TESSI_OP_READ_NPY, TESSI_U8, &shape, NULL);
    struct tessi_kernel_call call = {.layer = layer, .steps = 1, .out = out};
    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(link, sizeof link, "%s/link", folder);
    identify(layer, path);
    layer->as.npy.path = link;
    assert_int_equal(symlink(path, link), 0); /* in the place of the file */
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_IO);
    assert_non_null(strstr(error.text, "symbolic link"));
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("/tmp", link), 0); /* in the place of a folder */
    (void)snprintf(within, sizeof within, "%s%s", link, strrchr(path, '/'));
    layer->as.npy.path = within;
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_IO);
    assert_non_null(strstr(error.text, "symbolic link"));
    layer->as.npy.path = path;
    assert_int_equal(tessi_kernel_run(&call, &error), TESSI_OK);
    layer->as.npy.path = NULL;
    (void)unlink(link);
    (void)rmdir(folder);
    (void)unlink(path);
    tessi_free(path);
    tessi_layer_destroy(layer);
}

/* The block of a synthetic task follows from its inputs and its index, and from nothing else. */
static void test_synthetic(void **state)
{
    struct tessi_shape shape = SHAPE(1000);
    int64_t chunk[1] = {300};
    (void)state;
    for (uint32_t dtype = 0; dtype < TESSI_DTYPE_COUNT; dtype++) {
        struct tessi_layer *layer = whole_layer(TESSI_OP_SYNTHETIC, dtype, &shape, chunk);
        (void)whole_input(layer, TESSI_I32, &shape, chunk);
        layer->as.synthetic.nanoseconds = dtype % 2 == 0 ? 1000 : 0;
        layer->as.synthetic.spin = dtype % 4 == 0;
        int32_t *in = whole_random(TESSI_I32, 1000, 1, false);
        unsigned char *first = whole_run(layer, (const void *const[]){in}, WHOLE_KERNEL);
        unsigned char *second = whole_run(layer, (const void *const[]){in}, WHOLE_KERNEL);
        size_t size = tessi_dtype_size(dtype);
        assert_memory_equal(first, second, 1000 * size);
        free(second);
        in[350]++;
        second = whole_run(layer, (const void *const[]){in}, WHOLE_KERNEL);
        assert_memory_equal(first, second, 300 * size); /* other blocks do not change */
        assert_memory_not_equal(first + 300 * size, second + 300 * size, 300 * size);
        free(first);
        free(second);
        free(in);
        tessi_layer_destroy(layer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_arange),
        cmocka_unit_test(test_eye),
        cmocka_unit_test(test_random_chunking),
        cmocka_unit_test(test_uniform_is_philox),
        cmocka_unit_test(test_uniform_far),
        cmocka_unit_test(test_uniform_bounds),
        cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_read_npy),
        cmocka_unit_test(test_read_npy_columns),
        cmocka_unit_test(test_read_npy_columns_in_strips),
        cmocka_unit_test(test_read_npy_errors),
        cmocka_unit_test(test_read_npy_follows_no_links),
        cmocka_unit_test(test_synthetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
