/* Uniform and normal numbers: Philox in batches of counters, one lane each, then one loop that
 * turns bits into numbers. */
#include "worker/kernel/simd.h"

#include "worker/kernel/geometry.h"
#include "worker/kernel/operations.h"

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "worker/kernel/convert.h"
#include "worker/kernel/random.h"
#include "worker/kernel/runs.h"

#define BATCH 512

struct key {
    uint32_t low, high;
};

/* Both halves of an element's 128 bits, BATCH of them from `first` on: the same numbers as
 * tessi_philox_element. */
#define PHILOX_PARAMETERS \
    struct key key, uint64_t first, uint32_t stream, uint64_t *restrict low, uint64_t *restrict high

/* Counters sit in the low halves of 64-bit lanes; only the low halves are multiplied, so what is left
 * in the high ones does no harm. MULTIPLY: the 64-bit product of the low halves. */
#define PHILOX(name, attributes, lanes, multiply)                                       \
    static attributes void name(PHILOX_PARAMETERS)                                      \
    {                                                                                   \
        typedef uint64_t vector __attribute__((vector_size(8 * (lanes))));              \
        const vector zero = {0};                                                        \
        const vector m0 = zero + UINT64_C(0xd2511f53);                                  \
        const vector m1 = zero + UINT64_C(0xcd9e8d57);                                  \
        vector index = zero + first;                                                    \
        for (uint64_t l = 0; l < (lanes); l++) {                                        \
            index[l] += l;                                                              \
        }                                                                               \
        for (size_t i = 0; i < BATCH; i += (lanes), index += (lanes)) {                 \
            vector c0 = index;                                                          \
            vector c1 = index >> 32;                                                    \
            vector c2 = zero + stream;                                                  \
            vector c3 = zero;                                                           \
            struct key k = key;                                                         \
            for (int round = 0; round < 10; round++) {                                  \
                vector p = (vector)multiply(c0, m0);                                    \
                vector q = (vector)multiply(c2, m1);                                    \
                c0 = (q >> 32) ^ c1 ^ (zero + k.low);                                   \
                c1 = q;                                                                 \
                c2 = (p >> 32) ^ c3 ^ (zero + k.high);                                  \
                c3 = p;                                                                 \
                k.low += UINT32_C(0x9e3779b9);                                          \
                k.high += UINT32_C(0xbb67ae85);                                         \
            }                                                                           \
            c0 = (c0 & UINT64_C(0xffffffff)) | c1 << 32;                                \
            c2 = (c2 & UINT64_C(0xffffffff)) | c3 << 32;                                \
            memcpy(low + i, &c0, sizeof c0);                                            \
            memcpy(high + i, &c2, sizeof c2);                                           \
        }                                                                               \
    }

#if defined(TESSI_AVX2)
#define MULTIPLY_128(x, y) _mm_mul_epu32((__m128i)(x), (__m128i)(y))
#define MULTIPLY_256(x, y) _mm256_mul_epu32((__m256i)(x), (__m256i)(y))
#define MULTIPLY_512(x, y) _mm512_mul_epu32((__m512i)(x), (__m512i)(y))
PHILOX(philox_base, , 2, MULTIPLY_128)
PHILOX(philox_avx2, TESSI_AVX2, 4, MULTIPLY_256)
PHILOX(philox_avx512, TESSI_AVX512, 8, MULTIPLY_512)

static void philox(PHILOX_PARAMETERS)
{
    int level = tessi_simd_level();
    if (level == 2) {
        philox_avx512(key, first, stream, low, high);
    } else if (level == 1) {
        philox_avx2(key, first, stream, low, high);
    } else {
        philox_base(key, first, stream, low, high);
    }
}
#else
#define MULTIPLY_ANY(x, y) (((x) & UINT64_C(0xffffffff)) * (y))
PHILOX(philox, , 2, MULTIPLY_ANY)
#endif

TESSI_BODY void uniform_f64_body(struct tessi_random_range range, const uint64_t *restrict bits, double *restrict out,
                                 int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double x = range.a + range.b * tessi_random_unit(bits[i]);
        out[i] = x > range.last ? range.last : x;
    }
}
TESSI_MULTIVERSION(uniform_f64,
                   (struct tessi_random_range range, const uint64_t *restrict bits, double *restrict out, int64_t n),
                   (range, bits, out, n))

TESSI_BODY void uniform_f32_body(struct tessi_random_range range, const uint64_t *restrict bits, float *restrict out,
                                 int64_t n)
{
    float low = (float)range.a;
    float span = (float)range.b;
    float last = (float)range.last;
    for (int64_t i = 0; i < n; i++) {
        float x = low + span * ((float)(int32_t)((uint32_t)bits[i] >> 8) * 5.9604644775390625e-08f);
        out[i] = x > last ? last : x;
    }
}
TESSI_MULTIVERSION(uniform_f32,
                   (struct tessi_random_range range, const uint64_t *restrict bits, float *restrict out, int64_t n),
                   (range, bits, out, n))

TESSI_BODY void normal_f64_body(struct tessi_random_range range, const uint64_t *restrict first,
                                const uint64_t *restrict second, double *restrict out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = range.a + range.b * tessi_random_normal(first[i], second[i]);
    }
}
TESSI_MULTIVERSION(normal_f64,
                   (struct tessi_random_range range, const uint64_t *restrict first, const uint64_t *restrict second,
                    double *restrict out, int64_t n),
                   (range, first, second, out, n))

/* A run of elements that follow each other in the whole array. */
static void run_fill(const struct tessi_layer *layer, struct tessi_random_range range, uint64_t first,
                     unsigned char *out, int64_t count)
{
    _Alignas(64) uint64_t low[BATCH];
    _Alignas(64) uint64_t high[BATCH];
    _Alignas(64) double buffer[BATCH];
    struct key key = {(uint32_t)layer->as.random.seed, (uint32_t)(layer->as.random.seed >> 32)};
    bool uniform = layer->op == TESSI_OP_UNIFORM;
    enum tessi_dtype drawn = uniform && layer->dtype != TESSI_F64 ? TESSI_F32 : TESSI_F64;
    size_t size = tessi_dtype_size(layer->dtype);
    for (int64_t e = 0; e < count; e += BATCH) {
        int64_t n = count - e < BATCH ? count - e : BATCH;
        unsigned char *to = out + (size_t)e * size;
        void *numbers = drawn == layer->dtype ? (void *)to : (void *)buffer;
        philox(key, first + (uint64_t)e, uniform ? TESSI_STREAM_UNIFORM : TESSI_STREAM_NORMAL, low, high);
        if (!uniform) {
            normal_f64(range, low, high, numbers, n);
        } else if (drawn == TESSI_F32) {
            uniform_f32(range, low, numbers, n);
        } else {
            uniform_f64(range, low, numbers, n);
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

void tessi_random_range_of(const struct tessi_layer *layer, struct tessi_random_range *range)
{
    double low = layer->as.random.low;
    double high = layer->as.random.high;
    if (layer->op == TESSI_OP_NORMAL) {
        *range = (struct tessi_random_range){low, high, INFINITY};
    } else if (layer->dtype == TESSI_F64) {
        *range = (struct tessi_random_range){low, high - low, last_below(TESSI_F64, low, high)};
    } else {
        float low32 = (float)low;
        float high32 = (float)high;
        *range = (struct tessi_random_range){(double)low32, (double)(high32 - low32),
                                last_below(layer->dtype, (double)low32, (double)high32)};
    }
}

enum tessi_status tessi_kernel_random(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    struct tessi_runs runs;
    struct tessi_random_range range;
    (void)error;
    tessi_random_range_of(step->layer, &range);
    tessi_runs_init(&runs, &step->layer->grid, step->call->index);
    unsigned char *out = step->call->out;
    size_t bytes = (size_t)runs.run * tessi_dtype_size(step->layer->dtype);
    for (uint64_t first; tessi_runs_next(&runs, &first); out += bytes) {
        run_fill(step->layer, range, first, out, runs.run);
    }
    return TESSI_OK;
}
