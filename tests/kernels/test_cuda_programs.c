/* The CUDA plugin as far as it goes without a GPU: it loads, says why there is no device, and the programs that it would
 * compile for one are compiled by NVRTC for every architecture. tests/cuda_host runs them, tests/gpu has what needs a
 * device. */
#include "tests/kernels/whole.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/version.h"
#include "worker/device/plugin.h"

typedef const char *try_compile_fn(const struct tessi_layer *layer, int architecture);

static void *open_plugin(void)
{
    char self[PATH_MAX];
    char path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    *strrchr(self, '/') = 0;
    (void)snprintf(path, sizeof path, "%s/../../lib/tessera/cuda.so", self);
    if (access(path, R_OK) != 0) {
        print_message("the CUDA plugin is not built here: skipped\n");
        skip();
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        print_message("the CUDA plugin cannot be loaded here (%s): skipped\n", dlerror());
        skip();
    }
    return handle;
}

static void test_plugin_loads_and_says_why(void **state)
{
    (void)state;
    void *handle = open_plugin();
    tessi_plugin_fn *plugin;
    void *address = dlsym(handle, TESSI_PLUGIN_SYMBOL);
    assert_non_null(address);
    memcpy(&plugin, &address, sizeof plugin);
    const struct tessi_device_kind *kind = plugin(TESSI_VERSION, sizeof *kind);
    assert_non_null(kind);
    assert_string_equal(kind->name, "cuda");
    assert_null(plugin("0.0.0", sizeof *kind));
    assert_null(plugin(TESSI_VERSION, sizeof *kind + 8));
    struct tessi_error error = {0};
    uint32_t count = kind->count(&(struct tessi_device_options){0}, &error);
    if (count == 0) {
        assert_non_null(strstr(error.text, "GPU"));
        print_message("no device: %s\n", error.text);
        struct tessi_device *device = NULL;
        assert_int_not_equal(kind->open(&(struct tessi_device_options){0}, &device, &error), TESSI_OK);
        assert_null(device);
    }
    struct tessi_layer *layer = whole_layer(TESSI_OP_READ_NPY, TESSI_F64, &SHAPE(8), (int64_t[]){4});
    assert_false(kind->supports(NULL, layer));
    tessi_layer_destroy(layer);
}

/* Every instruction in every dtype that has it, one program for each dtype, with a conversion from every other. */
static struct tessi_layer *program_layer(enum tessi_dtype dtype)
{
    enum tessi_kind kind = tessi_dtype_kind(dtype);
    struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &SHAPE(6, 8), (int64_t[]){6, 8});
    struct tessi_instruction *code = tessi_zalloc(TESSI_PROGRAM_MAX * sizeof *code);
    struct tessi_scalar *constants = tessi_zalloc(sizeof *constants);
    uint32_t n = 0;
    (void)whole_input(layer, dtype, &SHAPE(6, 8), (int64_t[]){6, 8});
    (void)whole_input(layer, dtype, &SHAPE(6, 8), (int64_t[]){6, 8});
    constants[0] = (struct tessi_scalar){.dtype = TESSI_F64, .as.f = 1.5};
    if (kind != TESSI_KIND_COMPLEX) {
        constants[0] = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 1};
    }
    for (uint32_t op = 0; op < TESSI_EWISE_COUNT; op++) {
        if (whole_device_computes((enum tessi_ewise)op, dtype)) {
            code[n] =
                (struct tessi_instruction){.op = (enum tessi_ewise)op, .dtype = dtype, .a = n == 0 ? 0 : n + 2, .b = 1, .c = 0};
            n++;
        }
    }
    for (uint32_t other = 0; other < TESSI_DTYPE_COUNT; other++) {
        bool drops = kind == TESSI_KIND_COMPLEX && tessi_dtype_kind((enum tessi_dtype)other) != TESSI_KIND_COMPLEX;
        if (!drops) {
            code[n] = (struct tessi_instruction){.op = TESSI_EWISE_COPY, .dtype = (enum tessi_dtype)other, .a = 0};
            n++;
        }
    }
    code[n++] = (struct tessi_instruction){.op = TESSI_EWISE_ADD, .dtype = dtype, .a = 2, .b = 1};
    layer->as.program = (struct tessi_program){.count = n, .nconstants = 1, .code = code, .constants = constants};
    return layer;
}

#define COUNT 51 /* twelve groups of four, and three */

/* (a + b) · c − 1, the kind that takes several elements at a time. */
static struct tessi_layer *short_layer(enum tessi_dtype dtype)
{
    struct tessi_layer *layer = whole_layer(TESSI_OP_ELEMENTWISE, dtype, &SHAPE(COUNT), (int64_t[]){COUNT});
    struct tessi_instruction *code = tessi_zalloc(3 * sizeof *code);
    struct tessi_scalar *constants = tessi_zalloc(sizeof *constants);
    for (int i = 0; i < 3; i++) {
        (void)whole_input(layer, dtype, &SHAPE(COUNT), (int64_t[]){COUNT});
    }
    constants[0] = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 1};
    enum tessi_ewise last = dtype == TESSI_BOOL ? TESSI_EWISE_ADD : TESSI_EWISE_SUBTRACT;
    code[0] = (struct tessi_instruction){.op = TESSI_EWISE_ADD, .dtype = dtype, .a = 0, .b = 1};
    code[1] = (struct tessi_instruction){.op = TESSI_EWISE_MULTIPLY, .dtype = dtype, .a = 4, .b = 2};
    code[2] = (struct tessi_instruction){.op = last, .dtype = dtype, .a = 5, .b = 3};
    layer->as.program = (struct tessi_program){.count = 3, .nconstants = 1, .code = code, .constants = constants};
    return layer;
}

static void test_programs_compile(void **state)
{
    (void)state;
    void *handle = open_plugin();
    try_compile_fn *try_compile;
    void *address = dlsym(handle, "tessi_cuda_try_compile");
    assert_non_null(address);
    memcpy(&try_compile, &address, sizeof try_compile);
    static const int architectures[] = {80, 90, 100};
    uint32_t stride = getenv("TESSERA_TEST_SHORT") != NULL ? 3 : 1; /* where a compilation takes its time */
    for (uint32_t i = 0; i < 2 * TESSI_DTYPE_COUNT; i += stride) {
        uint32_t dtype = i / 2;
        struct tessi_layer *layer =
            i % 2 == 0 ? program_layer((enum tessi_dtype)dtype) : short_layer((enum tessi_dtype)dtype);
        int architecture = architectures[dtype % 3];
        const char *log = try_compile(layer, architecture);
        if (strstr(log, "NVRTC was not found") != NULL) {
            print_message("NVRTC is not installed: programs were not compiled\n");
            tessi_layer_destroy(layer);
            skip();
        }
        if (log[0] != 0) {
            fail_msg("%s for sm_%d:\n%s", tessi_dtype_name((enum tessi_dtype)dtype), architecture, log);
        }
        tessi_layer_destroy(layer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plugin_loads_and_says_why),
        cmocka_unit_test(test_programs_compile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
