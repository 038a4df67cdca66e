/* Element types and their arithmetic on a device: for nvcc, and for NVRTC when a program is compiled for itself.
 *
 * The rules are those of worker/kernel/convert.h, and the sources of what computes and rounds are shared (scalar.h,
 * elementary.h, half.h), so that the bits are the processor's. */
#ifndef TESSI_CUDA_ELEMENT_H
#define TESSI_CUDA_ELEMENT_H

#define TESSI_ELEMENT static __device__ __forceinline__
#define TESSI_ELEMENTARY static __device__ __forceinline__
#define TESSI_HALF static __device__ __forceinline__
#define TESSI_SCALAR static __device__ __forceinline__

#include "core/graph/elementwise_table.h"
#include "worker/kernel/elementary.h"
#include "worker/kernel/half.h"

/* The types that C has not. */
struct tessi_bool {
    unsigned char bits;
};
struct tessi_f16 {
    unsigned short bits;
};
struct tessi_bf16 {
    unsigned short bits;
};
template <typename T>
struct tessi_complex {
    T re, im;
};
typedef tessi_complex<float> tessi_complex32;
typedef tessi_complex<double> tessi_complex64;

/* A number in the widest type of its kind, from which every other type is reached with one rounding. */
enum { TESSI_VALUE_SIGNED, TESSI_VALUE_UNSIGNED, TESSI_VALUE_FLOAT, TESSI_VALUE_COMPLEX };
struct tessi_value {
    int kind;
    unsigned long long i;
    double re, im;
};

#define TESSI_VALUE_OF(T, kind_, i_, re_, im_)                 \
    TESSI_ELEMENT tessi_value tessi_value_of(T x)              \
    {                                                          \
        tessi_value v;                                         \
        v.kind = kind_;                                        \
        v.i = i_;                                              \
        v.re = re_;                                            \
        v.im = im_;                                            \
        return v;                                              \
    }
TESSI_VALUE_OF(tessi_bool, TESSI_VALUE_UNSIGNED, x.bits, 0.0, 0.0)
TESSI_VALUE_OF(signed char, TESSI_VALUE_SIGNED, (unsigned long long)(long long)x, 0.0, 0.0)
TESSI_VALUE_OF(short, TESSI_VALUE_SIGNED, (unsigned long long)(long long)x, 0.0, 0.0)
TESSI_VALUE_OF(int, TESSI_VALUE_SIGNED, (unsigned long long)(long long)x, 0.0, 0.0)
TESSI_VALUE_OF(long long, TESSI_VALUE_SIGNED, (unsigned long long)x, 0.0, 0.0)
TESSI_VALUE_OF(unsigned char, TESSI_VALUE_UNSIGNED, x, 0.0, 0.0)
TESSI_VALUE_OF(unsigned short, TESSI_VALUE_UNSIGNED, x, 0.0, 0.0)
TESSI_VALUE_OF(unsigned int, TESSI_VALUE_UNSIGNED, x, 0.0, 0.0)
TESSI_VALUE_OF(unsigned long long, TESSI_VALUE_UNSIGNED, x, 0.0, 0.0)
TESSI_VALUE_OF(tessi_f16, TESSI_VALUE_FLOAT, 0, (double)tessi_f16_to_f32(x.bits), 0.0)
TESSI_VALUE_OF(tessi_bf16, TESSI_VALUE_FLOAT, 0, (double)tessi_bf16_to_f32(x.bits), 0.0)
TESSI_VALUE_OF(float, TESSI_VALUE_FLOAT, 0, (double)x, 0.0)
TESSI_VALUE_OF(double, TESSI_VALUE_FLOAT, 0, x, 0.0)
TESSI_VALUE_OF(tessi_complex32, TESSI_VALUE_COMPLEX, 0, (double)x.re, (double)x.im)
TESSI_VALUE_OF(tessi_complex64, TESSI_VALUE_COMPLEX, 0, x.re, x.im)
#undef TESSI_VALUE_OF

TESSI_ELEMENT bool tessi_value_whole(const tessi_value &v)
{
    return v.kind == TESSI_VALUE_SIGNED || v.kind == TESSI_VALUE_UNSIGNED;
}

/* Integers wrap; floats truncate and saturate, NaN is 0. */
template <typename T>
TESSI_ELEMENT T tessi_to_signed(const tessi_value &v, double lowest, double beyond, T first, T last)
{
    if (tessi_value_whole(v)) {
        return (T)(long long)v.i;
    }
    return v.re != v.re ? (T)0 : v.re <= lowest ? first : v.re >= beyond ? last : (T)(long long)v.re;
}
template <typename T>
TESSI_ELEMENT T tessi_to_unsigned(const tessi_value &v, double beyond, T last)
{
    if (tessi_value_whole(v)) {
        return (T)v.i;
    }
    return v.re != v.re || v.re <= 0.0 ? (T)0 : v.re >= beyond ? last : (T)(unsigned long long)v.re;
}

/* On the way to f16 and bf16 everything is rounded to odd. */
TESSI_ELEMENT float tessi_to_half_way(const tessi_value &v)
{
    if (v.kind == TESSI_VALUE_SIGNED) {
        return tessi_i64_to_f32_odd((long long)v.i);
    }
    return v.kind == TESSI_VALUE_UNSIGNED ? tessi_u64_to_f32_odd(v.i) : tessi_f64_to_f32_odd(v.re);
}

template <typename T>
struct tessi_tag {
};
TESSI_ELEMENT tessi_bool tessi_cast(tessi_tag<tessi_bool>, const tessi_value &v)
{
    tessi_bool b;
    b.bits = tessi_value_whole(v) ? v.i != 0 : (v.re != 0.0 || (v.kind == TESSI_VALUE_COMPLEX && v.im != 0.0));
    return b;
}
TESSI_ELEMENT signed char tessi_cast(tessi_tag<signed char>, const tessi_value &v)
{
    return tessi_to_signed<signed char>(v, -128.0, 128.0, (signed char)-128, (signed char)127);
}
TESSI_ELEMENT short tessi_cast(tessi_tag<short>, const tessi_value &v)
{
    return tessi_to_signed<short>(v, -32768.0, 32768.0, (short)-32768, (short)32767);
}
TESSI_ELEMENT int tessi_cast(tessi_tag<int>, const tessi_value &v)
{
    return tessi_to_signed<int>(v, -2147483648.0, 2147483648.0, (int)0x80000000u, 0x7fffffff);
}
TESSI_ELEMENT long long tessi_cast(tessi_tag<long long>, const tessi_value &v)
{
    return tessi_to_signed<long long>(v, -9223372036854775808.0, 9223372036854775808.0,
                                      (long long)0x8000000000000000ull, 0x7fffffffffffffffll);
}
TESSI_ELEMENT unsigned char tessi_cast(tessi_tag<unsigned char>, const tessi_value &v)
{
    return tessi_to_unsigned<unsigned char>(v, 256.0, 255);
}
TESSI_ELEMENT unsigned short tessi_cast(tessi_tag<unsigned short>, const tessi_value &v)
{
    return tessi_to_unsigned<unsigned short>(v, 65536.0, 65535);
}
TESSI_ELEMENT unsigned int tessi_cast(tessi_tag<unsigned int>, const tessi_value &v)
{
    return tessi_to_unsigned<unsigned int>(v, 4294967296.0, 0xffffffffu);
}
TESSI_ELEMENT unsigned long long tessi_cast(tessi_tag<unsigned long long>, const tessi_value &v)
{
    return tessi_to_unsigned<unsigned long long>(v, 18446744073709551616.0, 0xffffffffffffffffull);
}
TESSI_ELEMENT float tessi_cast(tessi_tag<float>, const tessi_value &v)
{
    if (v.kind == TESSI_VALUE_SIGNED) {
        return (float)(long long)v.i;
    }
    return v.kind == TESSI_VALUE_UNSIGNED ? (float)v.i : (float)v.re;
}
TESSI_ELEMENT double tessi_cast(tessi_tag<double>, const tessi_value &v)
{
    if (v.kind == TESSI_VALUE_SIGNED) {
        return (double)(long long)v.i;
    }
    return v.kind == TESSI_VALUE_UNSIGNED ? (double)v.i : v.re;
}
TESSI_ELEMENT tessi_f16 tessi_cast(tessi_tag<tessi_f16>, const tessi_value &v)
{
    tessi_f16 h;
    h.bits = tessi_f32_to_f16(tessi_to_half_way(v));
    return h;
}
TESSI_ELEMENT tessi_bf16 tessi_cast(tessi_tag<tessi_bf16>, const tessi_value &v)
{
    tessi_bf16 h;
    h.bits = tessi_f32_to_bf16(tessi_to_half_way(v));
    return h;
}
TESSI_ELEMENT tessi_complex32 tessi_cast(tessi_tag<tessi_complex32>, const tessi_value &v)
{
    tessi_complex32 z;
    z.re = tessi_cast(tessi_tag<float>(), v);
    z.im = v.kind == TESSI_VALUE_COMPLEX ? (float)v.im : 0.0f;
    return z;
}
TESSI_ELEMENT tessi_complex64 tessi_cast(tessi_tag<tessi_complex64>, const tessi_value &v)
{
    tessi_complex64 z;
    z.re = tessi_cast(tessi_tag<double>(), v);
    z.im = v.kind == TESSI_VALUE_COMPLEX ? v.im : 0.0;
    return z;
}
template <typename To, typename From>
TESSI_ELEMENT To tessi_as(From x)
{
    return tessi_cast(tessi_tag<To>(), tessi_value_of(x));
}
/* The same type, bits untouched (a NaN's too). */
#define TESSI_SAME(T)                      \
    template <>                            \
    __device__ __forceinline__ T tessi_as<T, T>(T x) \
    {                                      \
        return x;                          \
    }
TESSI_SAME(tessi_bool)
TESSI_SAME(signed char)
TESSI_SAME(short)
TESSI_SAME(int)
TESSI_SAME(long long)
TESSI_SAME(unsigned char)
TESSI_SAME(unsigned short)
TESSI_SAME(unsigned int)
TESSI_SAME(unsigned long long)
TESSI_SAME(tessi_f16)
TESSI_SAME(tessi_bf16)
TESSI_SAME(float)
TESSI_SAME(double)
TESSI_SAME(tessi_complex32)
TESSI_SAME(tessi_complex64)
#undef TESSI_SAME

/* ——— arithmetic ———
 * tessi_scalar_<op>(x, …) for every type that has it. */

#include "worker/kernel/scalar.h"

/* What floats have as functions of f64, rounded once, and all that f16 and bf16 have: in f32, rounded after each, or in f64,
 * rounded once. */
#define TESSI_GIVES(T, result) TESSI_GIVES_##result(T)
#define TESSI_GIVES_OWN(T) T
#define TESSI_GIVES_REAL(T) T
#define TESSI_GIVES_TRUTH(T) tessi_bool
#define TESSI_TAKES_X(T) T x
#define TESSI_TAKES_XX(T) T x, T y
#define TESSI_TAKES_CXX(T) tessi_bool c, T x, T y
#define TESSI_PASSES_X(T, W) tessi_as<W, T>(x)
#define TESSI_PASSES_XX(T, W) tessi_as<W, T>(x), tessi_as<W, T>(y)
#define TESSI_PASSES_CXX(T, W) c, tessi_as<W, T>(x), tessi_as<W, T>(y)

#define TESSI_FUNCTION(T, W, call, op, operands, result)                                                             \
    TESSI_ELEMENT TESSI_GIVES(T, result) tessi_scalar_##op(TESSI_TAKES_##operands(T))                                  \
    {                                                                                                                \
        return tessi_as<TESSI_GIVES(T, result), TESSI_GIVES(W, result)>(call##op(TESSI_PASSES_##operands(T, W)));        \
    }
#define TESSI_NO(T, op, operands, result)
#define TESSI_SHORT_NO TESSI_NO
#define TESSI_SHORT_OWN(T, op, operands, result) TESSI_FUNCTION(T, float, tessi_scalar_, op, operands, result)
#define TESSI_SHORT_MOVE TESSI_NO /* by its bits, as every type */
#define TESSI_SHORT_WIDE(T, op, operands, result) TESSI_FUNCTION(T, double, tessi_, op, operands, result)
#define TESSI_LONG_NO TESSI_NO
#define TESSI_LONG_OWN TESSI_NO
#define TESSI_LONG_MOVE TESSI_NO
#define TESSI_LONG_WIDE TESSI_SHORT_WIDE

#define NAME(op) tessi_scalar_##op
#define T tessi_f16
#include "worker/kernel/bodies.h"
#define NAME(op) tessi_scalar_##op
#define T tessi_bf16
#include "worker/kernel/bodies.h"

#define TESSI_ROW(NAME, op, code, operands, bool_, integer, float_, complex, result, ...) \
    TESSI_LONG_##float_(float, op, operands, result)                                      \
    TESSI_LONG_##float_(double, op, operands, result)                                     \
    TESSI_SHORT_##float_(tessi_f16, op, operands, result)                                 \
    TESSI_SHORT_##float_(tessi_bf16, op, operands, result)
TESSI_EWISE_TABLE(TESSI_ROW)
#undef TESSI_ROW

/* ——— programs ——— */

#define TESSI_PROGRAM_INPUTS 8
#define TESSI_PROGRAM_CONSTANTS 32
#define TESSI_PROGRAM_NDIM 8

/* What a program's kernel is given. Strides are those of the output's collapsed dimensions, in elements. */
struct tessi_program_arguments {
    void *out;
    const void *in[TESSI_PROGRAM_INPUTS];
    long long count;
    unsigned int ndim;
    long long dim[TESSI_PROGRAM_NDIM];
    long long stride[TESSI_PROGRAM_INPUTS][TESSI_PROGRAM_NDIM];
    unsigned long long constants[TESSI_PROGRAM_CONSTANTS][2]; /* bits, in the constant's own type */
};

/* Four elements that lie side by side. */
template <typename T>
struct __align__(sizeof(T) * 4 < 16 ? sizeof(T) * 4 : 16) tessi_group {
    T x[4];
};

/* Those of group g; with stride 0 the one element for all of them. */
template <typename T>
TESSI_ELEMENT tessi_group<T> tessi_group_load(const T *from, long long g, long long stride)
{
    tessi_group<T> group;
    if (stride != 0) {
        return reinterpret_cast<const tessi_group<T> *>(from)[g];
    }
    T x = from[0];
    for (int i = 0; i < 4; i++) {
        group.x[i] = x;
    }
    return group;
}

/* Where element e of the output lies in each input. */
template <int N>
TESSI_ELEMENT void tessi_program_offsets(const tessi_program_arguments &a, long long e, long long (&at)[N])
{
    for (int i = 0; i < N; i++) {
        at[i] = 0;
    }
    for (unsigned int d = a.ndim; d-- > 0;) {
        long long next = e / a.dim[d];
        long long here = e - next * a.dim[d];
        for (int i = 0; i < N; i++) {
            at[i] += here * a.stride[i][d];
        }
        e = next;
    }
}

#endif
