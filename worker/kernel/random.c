/* Uniform and normal numbers: Philox in batches of counters, one lane each, then one loop that
 * turns bits into numbers. */
#include "worker/kernel/simd.h"

#include "worker/kernel/operations.h"

#include <math.h>
#include <string.h>

#include "worker/kernel/convert.h"
#include "worker/kernel/random.h"

#define BATCH 512

struct key {
    uint32_t low, high;
};

#define ROUND                                                     \
    {                                                             \
        uint64_t p = (uint64_t)c0 * UINT64_C(0xd2511f53);         \
        uint64_t q = (uint64_t)c2 * UINT64_C(0xcd9e8d57);         \
        c0 = (uint32_t)(q >> 32) ^ c1 ^ k0;                       \
        c1 = (uint32_t)q;                                         \
        c2 = (uint32_t)(p >> 32) ^ c3 ^ k1;                       \
        c3 = (uint32_t)p;                                         \
        k0 += UINT32_C(0x9e3779b9);                               \
        k1 += UINT32_C(0xbb67ae85);                               \
    }

/* The words of `n` elements from `first` on, as pairs; the same numbers as tessi_philox_element. */
TESSI_BODY void philox_body(struct key key, uint64_t first, uint32_t stream, uint32_t *restrict w0, uint32_t *restrict w1,
                            uint32_t *restrict w2, uint32_t *restrict w3)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t k0 = key.low;
        uint32_t k1 = key.high;
        uint32_t c0 = (uint32_t)first + i;
        uint32_t c1 = (uint32_t)(first >> 32) + (c0 < i ? 1 : 0);
        uint32_t c2 = stream;
        uint32_t c3 = 0;
        ROUND ROUND ROUND ROUND ROUND ROUND ROUND ROUND ROUND ROUND
        w0[i] = c0;
        w1[i] = c1;
        w2[i] = c2;
        w3[i] = c3;
    }
}
TESSI_MULTIVERSION(philox,
                   (struct key key, uint64_t first, uint32_t stream, uint32_t *restrict w0, uint32_t *restrict w1,
                    uint32_t *restrict w2, uint32_t *restrict w3),
                   (key, first, stream, w0, w1, w2, w3))

/* x = a + b·u, at most `last`: the low end and the width, or mean and standard deviation. */
struct range {
    double a, b, last;
};

TESSI_BODY void uniform_f64_body(struct range range, const uint32_t *restrict w0, const uint32_t *restrict w1,
                                 double *restrict out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double x = range.a + range.b * tessi_random_unit((uint64_t)w1[i] << 32 | w0[i]);
        out[i] = x > range.last ? range.last : x;
    }
}
TESSI_MULTIVERSION(uniform_f64,
                   (struct range range, const uint32_t *restrict w0, const uint32_t *restrict w1, double *restrict out,
                    int64_t n),
                   (range, w0, w1, out, n))

TESSI_BODY void uniform_f32_body(struct range range, const uint32_t *restrict w0, float *restrict out, int64_t n)
{
    float low = (float)range.a;
    float span = (float)range.b;
    float last = (float)range.last;
    for (int64_t i = 0; i < n; i++) {
        float x = low + span * ((float)(int32_t)(w0[i] >> 8) * 5.9604644775390625e-08f);
        out[i] = x > last ? last : x;
    }
}
TESSI_MULTIVERSION(uniform_f32, (struct range range, const uint32_t *restrict w0, float *restrict out, int64_t n),
                   (range, w0, out, n))

TESSI_BODY void normal_f64_body(struct range range, const uint32_t *restrict w0, const uint32_t *restrict w1,
                                const uint32_t *restrict w2, const uint32_t *restrict w3, double *restrict out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double z = tessi_random_normal((uint64_t)w1[i] << 32 | w0[i], (uint64_t)w3[i] << 32 | w2[i]);
        out[i] = range.a + range.b * z;
    }
}
TESSI_MULTIVERSION(normal_f64,
                   (struct range range, const uint32_t *restrict w0, const uint32_t *restrict w1,
                    const uint32_t *restrict w2, const uint32_t *restrict w3, double *restrict out, int64_t n),
                   (range, w0, w1, w2, w3, out, n))

/* A run of elements that follow each other in the whole array. */
static void run_fill(const struct tessi_layer *layer, struct range range, uint64_t first, unsigned char *out, int64_t count)
{
    _Alignas(64) uint32_t w[4][BATCH];
    _Alignas(64) double buffer[BATCH];
    struct key key = {(uint32_t)layer->as.random.seed, (uint32_t)(layer->as.random.seed >> 32)};
    bool uniform = layer->op == TESSI_OP_UNIFORM;
    enum tessi_dtype drawn = uniform && layer->dtype != TESSI_F64 ? TESSI_F32 : TESSI_F64;
    size_t size = tessi_dtype_size(layer->dtype);
    for (int64_t e = 0; e < count; e += BATCH) {
        int64_t n = count - e < BATCH ? count - e : BATCH;
        unsigned char *to = out + (size_t)e * size;
        void *numbers = drawn == layer->dtype ? (void *)to : (void *)buffer;
        philox(key, first + (uint64_t)e, uniform ? TESSI_STREAM_UNIFORM : TESSI_STREAM_NORMAL, w[0], w[1], w[2], w[3]);
        if (!uniform) {
            normal_f64(range, w[0], w[1], w[2], w[3], numbers, n);
        } else if (drawn == TESSI_F32) {
            uniform_f32(range, w[0], numbers, n);
        } else {
            uniform_f64(range, w[0], w[1], numbers, n);
        }
        if (numbers != (void *)to) {
            tessi_convert(layer->dtype, to, drawn, numbers, (size_t)n);
        }
    }
}

/* The largest number of the type below `high`, or `low` when there is none from there on. A product
 * rounded up must not reach the open end of the range. */
static double last_below(enum tessi_dtype dtype, double low, double high)
{
    double x = high;
    for (int step = 0; x >= high && step < 2; step++) {
        unsigned char rounded[8];
        tessi_convert(dtype, rounded, TESSI_F64, &x, 1);
        tessi_convert(TESSI_F64, &x, dtype, rounded, 1);
        if (x < high) {
            break;
        }
        if (dtype == TESSI_F64) {
            x = nextafter(x, -INFINITY);
        } else if (dtype == TESSI_F32) {
            x = (double)nextafterf((float)x, -INFINITY);
        } else {
            uint16_t bits;
            memcpy(&bits, rounded, sizeof bits);
            bits = (bits & 0x7fff) == 0 ? 0x8001 : (uint16_t)((bits & 0x8000) != 0 ? bits + 1 : bits - 1);
            tessi_convert(TESSI_F64, &x, dtype, &bits, 1);
        }
    }
    return x < low ? low : x;
}

static void range_of(const struct tessi_layer *layer, struct range *range)
{
    double low = layer->as.random.low;
    double high = layer->as.random.high;
    if (layer->op == TESSI_OP_NORMAL) {
        *range = (struct range){low, high, INFINITY};
    } else if (layer->dtype == TESSI_F64) {
        *range = (struct range){low, high - low, last_below(TESSI_F64, low, high)};
    } else {
        float low32 = (float)low;
        float high32 = (float)high;
        *range = (struct range){(double)low32, (double)(high32 - low32),
                                last_below(layer->dtype, (double)low32, (double)high32)};
    }
}

enum tessi_status tessi_kernel_random(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    struct tessi_shape whole;
    struct range range;
    (void)error;
    if (step->elements == 0) {
        return TESSI_OK;
    }
    range_of(step->layer, &range);
    tessi_grid_shape(&step->layer->grid, &whole);
    uint32_t ndim = whole.ndim;
    /* Trailing dimensions that the block has whole join the run. */
    uint32_t outer = ndim;
    int64_t run = 1;
    while (outer > 0) {
        outer--;
        run *= step->shape.dim[outer];
        if (step->shape.dim[outer] != whole.dim[outer]) {
            break;
        }
    }
    size_t run_bytes = (size_t)run * tessi_dtype_size(step->layer->dtype);
    int64_t coords[TESSI_NDIM_MAX] = {0};
    unsigned char *out = step->call->out;
    for (int64_t done = 0; done < step->elements; done += run, out += run_bytes) {
        uint64_t first = 0;
        for (uint32_t d = 0; d < ndim; d++) {
            first = first * (uint64_t)whole.dim[d] + (uint64_t)(step->lo[d] + (d < outer ? coords[d] : 0));
        }
        run_fill(step->layer, range, first, out, run);
        for (uint32_t d = outer; d-- > 0 && ++coords[d] == step->shape.dim[d];) {
            coords[d] = 0;
        }
    }
    return TESSI_OK;
}
