#include "tests/kernels/whole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/philox.h"
#include "worker/kernel/convert.h"
#include "worker/kernel/kernel.h"

bool whole_computes(enum tessi_ewise op, enum tessi_dtype dtype)
{
    enum tessi_dtype computed_in;
    return tessi_ewise_choose(op, dtype, &computed_in, NULL) == TESSI_OK && computed_in == dtype;
}

bool whole_device_computes(enum tessi_ewise op, enum tessi_dtype dtype)
{
    bool function = tessi_dtype_kind(dtype) == TESSI_KIND_COMPLEX && tessi_ewise_computed(op, dtype) == TESSI_COMPUTED_WIDE;
    return whole_computes(op, dtype) && !function;
}

int64_t whole_elements(const struct tessi_shape *shape)
{
    int64_t elements = 0;
    assert_true(tessi_shape_elements(shape, &elements));
    return elements;
}

static void *block_memory(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, bytes > 0 ? bytes : 1), 0);
    memset(memory, 0xa5, bytes > 0 ? bytes : 1); /* whatever is not written shows */
    return memory;
}

struct tessi_layer *whole_layer(enum tessi_op op, enum tessi_dtype dtype, const struct tessi_shape *shape,
                                const int64_t *chunk)
{
    struct tessi_layer *layer = tessi_layer_create(1, 7, op, dtype);
    int64_t one_chunk[TESSI_NDIM_MAX];
    for (uint32_t d = 0; d < shape->ndim; d++) {
        one_chunk[d] = shape->dim[d] > 0 ? shape->dim[d] : 1;
    }
    tessi_grid_regular(&layer->grid, shape, chunk != NULL ? chunk : one_chunk);
    return layer;
}

struct tessi_input *whole_input(struct tessi_layer *layer, enum tessi_dtype dtype, const struct tessi_shape *shape,
                                const int64_t *chunk)
{
    struct tessi_input *input = tessi_layer_add_input(layer, layer->ninputs + 101);
    int64_t one_chunk[TESSI_NDIM_MAX];
    input->dtype = dtype;
    input->rules.ndim = shape->ndim;
    for (uint32_t d = 0; d < shape->ndim; d++) {
        one_chunk[d] = shape->dim[d] > 0 ? shape->dim[d] : 1;
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    tessi_grid_regular(&input->grid, shape, chunk != NULL ? chunk : one_chunk);
    return input;
}

/* Copy a block out of (or into) a whole array. */
static void move_block(const struct tessi_grid *grid, size_t size, uint64_t index, unsigned char *whole,
                       unsigned char *block, bool into_whole)
{
    struct tessi_shape shape;
    struct tessi_shape all;
    uint64_t chunk[TESSI_NDIM_MAX];
    tessi_grid_coords(grid, index, chunk);
    tessi_grid_block_shape(grid, index, &shape);
    tessi_grid_shape(grid, &all);
    int64_t count = whole_elements(&shape);
    for (int64_t at = 0; at < count; at++) {
        int64_t coords[TESSI_NDIM_MAX];
        int64_t rest = at;
        int64_t to = 0;
        for (uint32_t d = shape.ndim; d-- > 0;) {
            coords[d] = rest % shape.dim[d] + tessi_axis_lo(&grid->axis[d], chunk[d]);
            rest /= shape.dim[d];
        }
        for (uint32_t d = 0; d < shape.ndim; d++) {
            to = to * all.dim[d] + coords[d];
        }
        unsigned char *w = whole + (size_t)to * size;
        unsigned char *b = block + (size_t)at * size;
        memcpy(into_whole ? w : b, into_whole ? b : w, size);
    }
}

static void run_step(const struct tessi_layer *layer, uint64_t index, uint32_t number, uint32_t steps, void *out,
                     const void *const *inputs, enum whole_with with)
{
    struct tessi_error error = {.text = ""};
    struct tessi_step step;
    struct tessi_kernel_call call = {.layer = layer, .index = index, .step = number, .steps = steps, .out = out};
    void *blocks[TESSI_STEP_REFS_MAX];
    tessi_task_step(layer, index, number, &step);
    for (uint32_t r = 0; r < step.count; r++) {
        const struct tessi_input *input = &layer->input[step.ref[r].input];
        blocks[r] = block_memory((size_t)tessi_input_block_bytes(input, step.ref[r].index));
        unsigned char *whole;
        memcpy(&whole, &inputs[step.ref[r].input], sizeof whole);
        move_block(&input->grid, tessi_dtype_size(input->dtype), step.ref[r].index, whole, blocks[r], false);
        call.in[r] = blocks[r];
    }
    enum tessi_status status =
        with == WHOLE_KERNEL ? tessi_kernel_run(&call, &error) : tessi_kernel_run_reference(&call, &error);
    if (status != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    for (uint32_t r = 0; r < step.count; r++) {
        free(blocks[r]);
    }
}

void *whole_run(const struct tessi_layer *layer, const void *const *inputs, enum whole_with with)
{
    struct tessi_error error = {.text = ""};
    size_t size = tessi_dtype_size(layer->dtype);
    unsigned char *result = block_memory((size_t)tessi_layer_bytes(layer));
    if (tessi_layer_check(layer, &error) != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    for (uint64_t index = 0; index < tessi_layer_tasks(layer); index++) {
        size_t bytes = (size_t)tessi_layer_block_bytes(layer, index);
        unsigned char *out = block_memory(bytes + 64); /* the tail shows a kernel that writes too far */
        memset(out + bytes, 0x5a, 64);
        uint32_t steps = tessi_task_steps(layer, index);
        for (uint32_t step = 0; step < steps; step++) {
            run_step(layer, index, step, steps, out, inputs, with);
        }
        for (size_t i = 0; i < 64; i++) {
            assert_int_equal(out[bytes + i], 0x5a);
        }
        move_block(&layer->grid, size, index, result, out, true);
        free(out);
    }
    return result;
}

void *whole_random(enum tessi_dtype dtype, int64_t count, uint64_t seed, bool special)
{
    static const double specials[] = {0.0, -0.0, 1.0, INFINITY, -INFINITY, NAN, 1e-310, 5e-324, 1e300, -1e300, 2147483648.0};
    size_t size = tessi_dtype_size(dtype);
    unsigned char *data = block_memory((size_t)count * size);
    enum tessi_kind kind = tessi_dtype_kind(dtype);
    for (int64_t i = 0; i < count; i++) {
        uint32_t words[4];
        double number[2];
        int64_t integer;
        tessi_philox_element(seed, (uint64_t)i, 9, words);
        number[0] = (double)words[0] * 0x1p-29 - 4;
        number[1] = (double)words[1] * 0x1p-29 - 4;
        integer = (int64_t)(words[2] % 19) - 9;
        if (special && words[3] % 5 == 0) {
            number[0] = specials[words[2] % 11];
            number[1] = specials[words[2] / 11 % 11];
            unsigned shift = (words[2] >> 2) % 64;
            int64_t past_middle = (INT64_C(0x4040000000000000) >> shift) | 1; /* of two bf16 */
            integer = words[2] % 2 == 0 ? INT64_MIN >> shift : words[2] % 4 == 1 ? INT64_MAX >> shift : past_middle;
        }
        if (kind == TESSI_KIND_COMPLEX) {
            tessi_convert(dtype, data + (size_t)i * size, TESSI_C128, number, 1);
        } else if (kind == TESSI_KIND_FLOAT) {
            tessi_convert(dtype, data + (size_t)i * size, TESSI_F64, number, 1);
        } else if (kind == TESSI_KIND_BOOLEAN) {
            data[i] = words[0] & 1;
        } else {
            tessi_convert(dtype, data + (size_t)i * size, TESSI_I64, &integer, 1);
        }
    }
    return data;
}

static const double special_floats[] = {0.0,      -0.0,    1.0,    -1.0,    0.5,     1.5,          -2.5,   3.0,    INFINITY,
                                        -INFINITY, NAN,     5e-324, -1e-310, 1e-45,   6e-8,         65504,  1e30,   1e300,
                                        -1e300,   -1e-300, 0.7853,  1e22,   2147483648.0, 0x1p53, -0x1p63};
static const int64_t special_integers[] = {0, 1, 2, 3, 7, -1, -2, 100, 127, 128, 255, 256, 32767, 32768, 65535, INT32_MAX,
                                           INT32_MIN, UINT32_MAX, INT64_MAX, INT64_MIN, INT64_MIN + 1};
#define SPECIAL_FLOATS (int64_t)(sizeof special_floats / sizeof special_floats[0])
#define SPECIAL_INTEGERS (int64_t)(sizeof special_integers / sizeof special_integers[0])

void *whole_specials(enum tessi_dtype dtype, uint32_t operand, uint32_t operands, int64_t *count)
{
    bool inexact = tessi_dtype_kind(dtype) == TESSI_KIND_FLOAT || tessi_dtype_kind(dtype) == TESSI_KIND_COMPLEX;
    int64_t each = inexact ? SPECIAL_FLOATS : SPECIAL_INTEGERS; /* of truth values, and for conditions too */
    int64_t period = 1;
    *count = 1;
    for (uint32_t i = 0; i < operands; i++) {
        *count *= SPECIAL_FLOATS;
        period *= i > operand ? SPECIAL_FLOATS : 1;
    }
    size_t size = tessi_dtype_size(dtype);
    unsigned char *data = block_memory((size_t)*count * size);
    for (int64_t i = 0; i < *count; i++) {
        int64_t which = i / period % SPECIAL_FLOATS % each;
        double pair[2] = {special_floats[which], special_floats[(which * 7 + 3) % SPECIAL_FLOATS]};
        int64_t integer = dtype == TESSI_BOOL ? which % 2 : special_integers[which % SPECIAL_INTEGERS];
        enum tessi_dtype from = !inexact ? TESSI_I64 : tessi_dtype_kind(dtype) == TESSI_KIND_FLOAT ? TESSI_F64 : TESSI_C128;
        tessi_convert(dtype, data + (size_t)i * size, from, inexact ? (const void *)pair : &integer, 1);
    }
    return data;
}

/* Components as doubles; integers are exact up to 2^53, which the near comparison allows for. */
static uint32_t components(enum tessi_dtype dtype, const void *data, int64_t at, double out[2])
{
    const unsigned char *from = (const unsigned char *)data + (size_t)at * tessi_dtype_size(dtype);
    if (tessi_dtype_kind(dtype) == TESSI_KIND_COMPLEX) {
        tessi_convert(TESSI_C128, out, dtype, from, 1);
        return 2;
    }
    tessi_convert(TESSI_F64, out, dtype, from, 1);
    return 1;
}

void whole_assert_equal(enum tessi_dtype dtype, const void *a, const void *b, int64_t count)
{
    size_t size = tessi_dtype_size(dtype);
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *x = (const unsigned char *)a + (size_t)i * size;
        const unsigned char *y = (const unsigned char *)b + (size_t)i * size;
        if (memcmp(x, y, size) == 0) {
            continue;
        }
        double u[2];
        double v[2];
        uint32_t n = components(dtype, a, i, u);
        (void)components(dtype, b, i, v);
        for (uint32_t c = 0; c < n; c++) {
            size_t part = size / n;
            if (memcmp(x + c * part, y + c * part, part) != 0 && !(isnan(u[c]) && isnan(v[c]))) {
                fail_msg("%s element %lld, component %u: %.17g is not %.17g", tessi_dtype_name(dtype), (long long)i, c,
                         u[c], v[c]);
            }
        }
    }
}

void whole_assert_near(enum tessi_dtype dtype, const void *a, const void *b, int64_t count, double tolerance)
{
    for (int64_t i = 0; i < count; i++) {
        double u[2];
        double v[2];
        uint32_t n = components(dtype, a, i, u);
        (void)components(dtype, b, i, v);
        for (uint32_t c = 0; c < n; c++) {
            if (!(fabs(u[c] - v[c]) <= tolerance * (1 + fabs(v[c])))) {
                fail_msg("%s element %lld, component %u: %.17g is too far from %.17g", tessi_dtype_name(dtype),
                         (long long)i, c, u[c], v[c]);
            }
        }
    }
}
