/* Blocks that come from nothing: constants, ranges, diagonals. */
#include "worker/kernel/simd.h"

#include "worker/kernel/operations.h"

#include <string.h>

#include "worker/kernel/convert.h"

#define PASS 512

/* Repeat the first `size` bytes of the block; whole copies double, so the compiler's memcpy does it. */
static void fill(unsigned char *out, size_t size, size_t total)
{
    const size_t piece = 16384; /* stays in the first cache while it is copied on */
    size_t done = size;
    while (done < total) {
        size_t n = done < piece ? done : piece - piece % size;
        n = n < total - done ? n : total - done;
        memcpy(out + done, out, n);
        done += n;
    }
}

enum tessi_status tessi_kernel_full(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    unsigned char value[16] = {0};
    unsigned char zero[16] = {0};
    size_t size = tessi_dtype_size(layer->dtype);
    size_t total = (size_t)step->elements * size;
    (void)error;
    tessi_convert_scalar(layer->dtype, value, &layer->as.full);
    if (memcmp(value, zero, size) == 0) {
        memset(step->call->out, 0, total);
    } else if (total > 0) {
        memcpy(step->call->out, value, size);
        fill(step->call->out, size, total);
    }
    return TESSI_OK;
}

/* The value start + e·step in the widest type of the layer's kind, then converted. */
enum tessi_status tessi_kernel_arange(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    enum tessi_kind kind = tessi_dtype_kind(layer->dtype);
    bool real = kind == TESSI_KIND_FLOAT;
    bool complex = kind == TESSI_KIND_COMPLEX;
    enum tessi_dtype wide = complex ? TESSI_C128 : real ? TESSI_F64 : kind == TESSI_KIND_SIGNED ? TESSI_I64 : TESSI_U64;
    union {
        uint64_t u[2];
        double f[2];
    } start = {{0}}, stride = {{0}};
    _Alignas(64) uint64_t integers[PASS];
    _Alignas(64) double floats[2 * PASS];
    unsigned char *out = step->call->out;
    size_t size = tessi_dtype_size(layer->dtype);
    (void)error;
    tessi_convert_scalar(wide, &start, &layer->as.arange.start);
    tessi_convert_scalar(wide, &stride, &layer->as.arange.step);
    for (int64_t e = 0; e < step->elements; e += PASS) {
        int64_t n = step->elements - e < PASS ? step->elements - e : PASS;
        int64_t first = step->lo[0] + e;
        for (int64_t i = 0; i < n; i++) {
            double position = (double)(first + i);
            if (complex) {
                floats[2 * i] = start.f[0] + position * stride.f[0];
                floats[2 * i + 1] = start.f[1] + position * stride.f[1];
            } else if (real) {
                floats[i] = start.f[0] + position * stride.f[0];
            } else {
                integers[i] = start.u[0] + (uint64_t)(first + i) * stride.u[0];
            }
        }
        tessi_convert(layer->dtype, out + (size_t)e * size, wide, real || complex ? (void *)floats : (void *)integers,
                      (size_t)n);
    }
    return TESSI_OK;
}

enum tessi_status tessi_kernel_eye(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    const struct tessi_scalar one = {.dtype = TESSI_I64, .as.i = 1};
    unsigned char value[16];
    unsigned char *out = step->call->out;
    size_t size = tessi_dtype_size(layer->dtype);
    if (step->shape.ndim != 2) {
        return tessi_fail(error, TESSI_INVALID, "eye has %u dimensions, not 2", step->shape.ndim);
    }
    tessi_convert_scalar(layer->dtype, value, &one);
    memset(out, 0, (size_t)step->elements * size);
    for (int64_t i = 0; i < step->shape.dim[0]; i++) {
        int64_t column;
        if (!__builtin_add_overflow(step->lo[0] + i - step->lo[1], layer->as.eye.diagonal, &column) && column >= 0 &&
            column < step->shape.dim[1]) {
            memcpy(out + (size_t)(i * step->shape.dim[1] + column) * size, value, size);
        }
    }
    return TESSI_OK;
}
