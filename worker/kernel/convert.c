#include "worker/kernel/simd.h"

#include "worker/kernel/convert.h"

#include <math.h>

#include "core/base/assert.h"

/* The types that C has; f16, bf16 and complex numbers pass through f32 or f64. */
enum native { N_I8, N_I16, N_I32, N_I64, N_U8, N_U16, N_U32, N_U64, N_F32, N_F64, N_COUNT };

#define PASS 512 /* elements that pass through a buffer at a time */


#define CONVERT(from_name, from_type, to_name, to_type)                                                      \
    TESSI_BODY void from_name##_##to_name##_body(void *restrict to, const void *restrict from, size_t count) \
    {                                                                                                        \
        to_type *restrict t = to;                                                                            \
        const from_type *restrict f = from;                                                                  \
        for (size_t i = 0; i < count; i++) {                                                                 \
            t[i] = (to_type)f[i];                                                                            \
        }                                                                                                    \
    }                                                                                                        \
    TESSI_MULTIVERSION(from_name##_##to_name, (void *restrict to, const void *restrict from, size_t count),  \
                       (to, from, count))

/* `below` is the smallest value that truncates into the type, less one; `above` one past the largest. */
#define SATURATE(from_name, from_type, to_name, to_type, lowest, highest, below, above)                      \
    TESSI_BODY void from_name##_##to_name##_body(void *restrict to, const void *restrict from, size_t count) \
    {                                                                                                        \
        to_type *restrict t = to;                                                                            \
        const from_type *restrict f = from;                                                                  \
        for (size_t i = 0; i < count; i++) {                                                                 \
            from_type x = f[i];                                                                              \
            to_type inside = x > (below) && x < (above) ? (to_type)x : (to_type)0;                           \
            to_type outside = x >= (above) ? (to_type)(highest) : (to_type)(lowest);                         \
            t[i] = x >= (above) || x <= (below) ? outside : inside;                                          \
        }                                                                                                    \
    }                                                                                                        \
    TESSI_MULTIVERSION(from_name##_##to_name, (void *restrict to, const void *restrict from, size_t count),  \
                       (to, from, count))

#define FROM_INTEGER(name, type)       \
    CONVERT(name, type, i8, int8_t)    \
    CONVERT(name, type, i16, int16_t)  \
    CONVERT(name, type, i32, int32_t)  \
    CONVERT(name, type, i64, int64_t)  \
    CONVERT(name, type, u8, uint8_t)   \
    CONVERT(name, type, u16, uint16_t) \
    CONVERT(name, type, u32, uint32_t) \
    CONVERT(name, type, u64, uint64_t) \
    CONVERT(name, type, f32, float)    \
    CONVERT(name, type, f64, double)

/* A float type that cannot hold "lowest − 1" exactly uses the next number below, which is just as far outside. */
#define FROM_FLOAT(name, type, below_i32, below_i64)                                           \
    SATURATE(name, type, i8, int8_t, INT8_MIN, INT8_MAX, (type)-129, (type)128)                \
    SATURATE(name, type, i16, int16_t, INT16_MIN, INT16_MAX, (type)-32769, (type)32768)        \
    SATURATE(name, type, i32, int32_t, INT32_MIN, INT32_MAX, (type)(below_i32), (type)2147483648.0) \
    SATURATE(name, type, i64, int64_t, INT64_MIN, INT64_MAX, (type)(below_i64), (type)9223372036854775808.0) \
    SATURATE(name, type, u8, uint8_t, 0, UINT8_MAX, (type)-1, (type)256)                       \
    SATURATE(name, type, u16, uint16_t, 0, UINT16_MAX, (type)-1, (type)65536)                  \
    SATURATE(name, type, u32, uint32_t, 0, UINT32_MAX, (type)-1, (type)4294967296.0)           \
    SATURATE(name, type, u64, uint64_t, 0, UINT64_MAX, (type)-1, (type)18446744073709551616.0) \
    CONVERT(name, type, f32, float)                                                            \
    CONVERT(name, type, f64, double)

FROM_INTEGER(i8, int8_t)
FROM_INTEGER(i16, int16_t)
FROM_INTEGER(i32, int32_t)
FROM_INTEGER(i64, int64_t)
FROM_INTEGER(u8, uint8_t)
FROM_INTEGER(u16, uint16_t)
FROM_INTEGER(u32, uint32_t)
FROM_INTEGER(u64, uint64_t)
FROM_FLOAT(f32, float, -2147483904.0, -9223373136366403584.0)
FROM_FLOAT(f64, double, -2147483649.0, -9223372036854777856.0)

typedef void convert_fn(void *restrict to, const void *restrict from, size_t count);

#define ROW(name)                                                                                                      \
    {name##_i8,  name##_i16, name##_i32, name##_i64, name##_u8,                                                        \
     name##_u16, name##_u32, name##_u64, name##_f32, name##_f64}
static convert_fn *const natives[N_COUNT][N_COUNT] = {
    [N_I8] = ROW(i8),   [N_I16] = ROW(i16), [N_I32] = ROW(i32), [N_I64] = ROW(i64), [N_U8] = ROW(u8),
    [N_U16] = ROW(u16), [N_U32] = ROW(u32), [N_U64] = ROW(u64), [N_F32] = ROW(f32), [N_F64] = ROW(f64),
};
#undef ROW

#define SHORT_FLOAT(name, to_type, from_type, expression)                                            \
    TESSI_BODY void name##_body(to_type *restrict to, const from_type *restrict from, size_t count) \
    {                                                                                                \
        for (size_t i = 0; i < count; i++) {                                                         \
            to[i] = expression;                                                                      \
        }                                                                                            \
    }                                                                                                \
    TESSI_MULTIVERSION(name, (to_type *restrict to, const from_type *restrict from, size_t count), (to, from, count))

SHORT_FLOAT(f16_widen, float, uint16_t, tessi_f16_to_f32(from[i]))
SHORT_FLOAT(bf16_widen, float, uint16_t, tessi_bf16_to_f32(from[i]))
SHORT_FLOAT(f16_narrow, uint16_t, float, tessi_f32_to_f16(from[i]))
SHORT_FLOAT(bf16_narrow, uint16_t, float, tessi_f32_to_bf16(from[i]))
SHORT_FLOAT(odd_narrow, float, double, tessi_f64_to_f32_odd(from[i]))
SHORT_FLOAT(odd_i64, float, int64_t, tessi_i64_to_f32_odd(from[i]))
SHORT_FLOAT(odd_u64, float, uint64_t, tessi_u64_to_f32_odd(from[i]))

#define NONZERO(name, type)                                                                          \
    static void bool_from_##name(uint8_t *restrict to, const type *restrict from, size_t count)      \
    {                                                                                                \
        for (size_t i = 0; i < count; i++) {                                                         \
            to[i] = from[i] != 0;                                                                    \
        }                                                                                            \
    }
NONZERO(u8, uint8_t)
NONZERO(u16, uint16_t)
NONZERO(u32, uint32_t)
NONZERO(u64, uint64_t)
NONZERO(f32, float)
NONZERO(f64, double)

static bool native_of(enum tessi_dtype dtype, enum native *native)
{
    static const signed char table[TESSI_DTYPE_COUNT] = {
        [TESSI_BOOL] = N_U8, [TESSI_I8] = N_I8,   [TESSI_I16] = N_I16,  [TESSI_I32] = N_I32, [TESSI_I64] = N_I64,
        [TESSI_U8] = N_U8,   [TESSI_U16] = N_U16, [TESSI_U32] = N_U32,  [TESSI_U64] = N_U64, [TESSI_F16] = -1,
        [TESSI_BF16] = -1,   [TESSI_F32] = N_F32, [TESSI_F64] = N_F64,  [TESSI_C64] = -1,    [TESSI_C128] = -1,
    };
    *native = table[dtype] < 0 ? N_COUNT : (enum native)table[dtype];
    return table[dtype] >= 0;
}

static void to_bool(uint8_t *to, enum tessi_dtype from_dtype, const void *from, size_t count)
{
    switch (from_dtype) {
    case TESSI_BOOL:
    case TESSI_I8:
    case TESSI_U8:
        bool_from_u8(to, from, count);
        return;
    case TESSI_I16:
    case TESSI_U16:
        bool_from_u16(to, from, count);
        return;
    case TESSI_I32:
    case TESSI_U32:
        bool_from_u32(to, from, count);
        return;
    case TESSI_I64:
    case TESSI_U64:
        bool_from_u64(to, from, count);
        return;
    case TESSI_F16:
    case TESSI_BF16: {
        const uint16_t *f = from;
        for (size_t i = 0; i < count; i++) {
            to[i] = (f[i] & 0x7fff) != 0;
        }
        return;
    }
    case TESSI_F32:
        bool_from_f32(to, from, count);
        return;
    case TESSI_F64:
        bool_from_f64(to, from, count);
        return;
    case TESSI_C64: {
        const float *f = from;
        for (size_t i = 0; i < count; i++) {
            to[i] = f[2 * i] != 0 || f[2 * i + 1] != 0;
        }
        return;
    }
    case TESSI_C128: {
        const double *f = from;
        for (size_t i = 0; i < count; i++) {
            to[i] = f[2 * i] != 0 || f[2 * i + 1] != 0;
        }
        return;
    }
    }
}

/* Between complex types, numbers are pairs of components. */
static void complex_to_complex(enum tessi_dtype to_dtype, void *to, const void *from, size_t count)
{
    if (to_dtype == TESSI_C64) {
        f64_f32(to, from, 2 * count);
    } else {
        f32_f64(to, from, 2 * count);
    }
}

static void real_parts(enum tessi_dtype from_dtype, void *to, const void *from, size_t count)
{
    if (from_dtype == TESSI_C64) {
        float *t = to;
        const float *f = from;
        for (size_t i = 0; i < count; i++) {
            t[i] = f[2 * i];
        }
    } else {
        double *t = to;
        const double *f = from;
        for (size_t i = 0; i < count; i++) {
            t[i] = f[2 * i];
        }
    }
}

static void widen_to_complex(enum tessi_dtype to_dtype, void *to, const void *real, size_t count)
{
    if (to_dtype == TESSI_C64) {
        float *t = to;
        const float *f = real;
        for (size_t i = 0; i < count; i++) {
            t[2 * i] = f[i];
            t[2 * i + 1] = 0;
        }
    } else {
        double *t = to;
        const double *f = real;
        for (size_t i = 0; i < count; i++) {
            t[2 * i] = f[i];
            t[2 * i + 1] = 0;
        }
    }
}

/* To f32 on the way to f16 or bf16: exact, or rounded to odd. `wide` is room for count elements. */
static void to_single(float *single, enum tessi_dtype from_dtype, const void *from, size_t count, void *wide)
{
    enum tessi_kind kind = tessi_dtype_kind(from_dtype);
    if (from_dtype == TESSI_F64) {
        odd_narrow(single, from, count);
    } else if (kind == TESSI_KIND_SIGNED) {
        tessi_convert(TESSI_I64, wide, from_dtype, from, count);
        odd_i64(single, wide, count);
    } else if (kind == TESSI_KIND_UNSIGNED) {
        tessi_convert(TESSI_U64, wide, from_dtype, from, count);
        odd_u64(single, wide, count);
    } else {
        tessi_convert(TESSI_F32, single, from_dtype, from, count);
    }
}

/* One pass through a buffer for types that C does not have; count ≤ PASS. */
static void convert_pass(enum tessi_dtype to_dtype, void *to, enum tessi_dtype from_dtype, const void *from,
                         size_t count)
{
    _Alignas(64) double buffer[PASS];
    bool from_double = from_dtype == TESSI_F64 || from_dtype == TESSI_C128;
    if (tessi_dtype_kind(from_dtype) == TESSI_KIND_COMPLEX) {
        real_parts(from_dtype, buffer, from, count);
        tessi_convert(to_dtype, to, from_double ? TESSI_F64 : TESSI_F32, buffer, count);
    } else if (from_dtype == TESSI_F16) {
        f16_widen((void *)buffer, from, count);
        tessi_convert(to_dtype, to, TESSI_F32, buffer, count);
    } else if (from_dtype == TESSI_BF16) {
        bf16_widen((void *)buffer, from, count);
        tessi_convert(to_dtype, to, TESSI_F32, buffer, count);
    } else if (tessi_dtype_kind(to_dtype) == TESSI_KIND_COMPLEX) {
        tessi_convert(to_dtype == TESSI_C64 ? TESSI_F32 : TESSI_F64, buffer, from_dtype, from, count);
        widen_to_complex(to_dtype, to, buffer, count);
    } else {
        _Alignas(64) float single[PASS];
        to_single(single, from_dtype, from, count, buffer);
        if (to_dtype == TESSI_F16) {
            f16_narrow(to, single, count);
        } else {
            TESS_ASSERT(to_dtype == TESSI_BF16);
            bf16_narrow(to, single, count);
        }
    }
}

void tessi_convert(enum tessi_dtype to_dtype, void *to, enum tessi_dtype from_dtype, const void *from, size_t count)
{
    size_t to_size = tessi_dtype_size(to_dtype);
    size_t from_size = tessi_dtype_size(from_dtype);
    enum native to_native;
    enum native from_native;
    if (count == 0) {
        return;
    }
    if (to_dtype == from_dtype) {
        memcpy(to, from, count * to_size);
    } else if (to_dtype == TESSI_BOOL) {
        to_bool(to, from_dtype, from, count);
    } else if (native_of(to_dtype, &to_native) && native_of(from_dtype, &from_native)) {
        natives[from_native][to_native](to, from, count);
    } else if (tessi_dtype_kind(to_dtype) == TESSI_KIND_COMPLEX && tessi_dtype_kind(from_dtype) == TESSI_KIND_COMPLEX) {
        complex_to_complex(to_dtype, to, from, count);
    } else if (to_dtype == TESSI_F32 && from_dtype == TESSI_F16) {
        f16_widen(to, from, count);
    } else if (to_dtype == TESSI_F32 && from_dtype == TESSI_BF16) {
        bf16_widen(to, from, count);
    } else if (to_dtype == TESSI_F16 && from_dtype == TESSI_F32) {
        f16_narrow(to, from, count);
    } else if (to_dtype == TESSI_BF16 && from_dtype == TESSI_F32) {
        bf16_narrow(to, from, count);
    } else {
        for (size_t i = 0; i < count; i += PASS) {
            convert_pass(to_dtype, (unsigned char *)to + i * to_size, from_dtype,
                         (const unsigned char *)from + i * from_size, count - i < PASS ? count - i : PASS);
        }
    }
}

void tessi_convert_scalar(enum tessi_dtype dtype, void *to, const struct tessi_scalar *scalar)
{
    unsigned char buffer[16]; /* the union's members all start at its beginning, bool as an integer */
    memcpy(buffer, &scalar->as, sizeof scalar->as);
    if (scalar->dtype == TESSI_BOOL) {
        buffer[0] = scalar->as.u != 0;
    }
    tessi_convert(dtype, to, scalar->dtype, buffer, 1);
}
