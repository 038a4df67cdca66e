/* Elementary functions whose bits are the same on every machine.
 *
 * They use additions, multiplications, divisions, square roots and integer operations only,
 * each rounded by IEEE 754, in a fixed order, without contraction. The libraries' own differ
 * from release to release and between processors. Everything is branch-free, so that loops
 * over it vectorise, and plain C, so that a device compiler can include it.
 *
 * Methods and coefficients are FDLIBM's (e_exp.c, e_log.c, k_sin.c, k_cos.c; s_atan.c and e_atan2.c
 * in complex.c), whose error is below 1 ulp; the argument reductions are ours. Its notice:
 *
 *     Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved.
 *     Developed at SunPro, a Sun Microsystems, Inc. business. Permission to use, copy, modify, and
 *     distribute this software is freely granted, provided that this notice is preserved. */
#ifndef TESSI_KERNEL_ELEMENTARY_H
#define TESSI_KERNEL_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef TESSI_ELEMENTARY
#define TESSI_ELEMENTARY static inline __attribute__((always_inline, unused))
#endif

TESSI_ELEMENTARY uint64_t tessi_bits_f64(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

TESSI_ELEMENTARY double tessi_f64_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* e^x. Beyond the range: inf, 0; NaN stays NaN; subnormal results are rounded once. */
TESSI_ELEMENTARY double tessi_exp(double x)
{
    const double ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
    const double shift = 6755399441055744.0; /* 1.5 · 2^52: the sum's low bits are the nearest integer */
    double bounded = x > 710.0 ? 710.0 : x;
    bounded = bounded < -746.0 ? -746.0 : bounded;
    double shifted = bounded * 1.44269504088896338700e+00 + shift;
    double k = shifted - shift;
    double hi = bounded - k * ln2_hi;
    double lo = k * ln2_lo;
    double r = hi - lo;
    double t = r * r;
    double c = r - t * (1.66666666666666019037e-01 +
                        t * (-2.77777777770155933842e-03 +
                             t * (6.61375632143793436117e-05 +
                                  t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))));
    double y = 1.0 - ((lo - (r * c) / (2.0 - c)) - hi);
    /* 2^k in two factors, both normal: k spans −1076 … 1024. The low 32 bits of the shifted sum are k. */
    uint64_t n = tessi_bits_f64(shifted) + 4096; /* positive, so that the shift halves it downwards */
    uint64_t half = (n & 0x1fff) >> 1;
    uint64_t rest = (n & 0x1fff) - half;
    return y * tessi_f64_bits((half - 2048 + 1023) << 52) * tessi_f64_bits((rest - 2048 + 1023) << 52);
}

/* ln x. log(0) = −inf, log(negative) = NaN, log(inf) = inf. */
TESSI_ELEMENTARY double tessi_log(double x)
{
    const double ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
    const uint64_t sqrt_half = UINT64_C(0x3fe6a09e00000000); /* the top half of √½ */
    const uint64_t one = UINT64_C(0x3ff0000000000000);
    int tiny = x < 2.2250738585072014e-308; /* subnormal: scaled up by 2^54 */
    uint64_t u = tessi_bits_f64(tiny ? x * 18014398509481984.0 : x) + (one - sqrt_half);
    /* The exponent as a double without a 64-bit conversion, which AVX2 lacks: 2^52 + e − (2^52 + bias). */
    double k = tessi_f64_bits((u >> 52) | UINT64_C(0x4330000000000000)) - (tiny ? 4503599627371573.0 : 4503599627371519.0);
    double f = tessi_f64_bits((u & UINT64_C(0x000fffffffffffff)) + sqrt_half) - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double w = z * z;
    double t1 = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    double t2 = z * (6.666666666666735130e-01 +
                     w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    double half_square = 0.5 * f * f;
    double y = s * (half_square + (t1 + t2)) + k * ln2_lo - half_square + f + k * ln2_hi;
    y = x == 0.0 ? -tessi_f64_bits(UINT64_C(0x7ff0000000000000)) : y;
    y = x < 0.0 ? tessi_f64_bits(UINT64_C(0x7ff8000000000000)) : y;
    y = x > 1.7976931348623157e308 ? x : y;
    return x != x ? x : y;
}

/* sin and cos on [−π/4, π/4]; `tail` is what x lost to rounding. */
TESSI_ELEMENTARY double tessi_sin_kernel(double x, double tail)
{
    double z = x * x;
    double w = z * z;
    double r = 8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 + z * 2.75573137070700676789e-06) +
               z * w * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10);
    double v = z * x;
    return x - ((z * (0.5 * tail - v * r) - tail) - v * -1.66666666666666324348e-01);
}

TESSI_ELEMENTARY double tessi_cos_kernel(double x, double tail)
{
    double z = x * x;
    double w = z * z;
    double r = z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * 2.48015872894767294178e-05)) +
               w * w * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11));
    double half = 0.5 * z;
    double near = 1.0 - half;
    return near + (((1.0 - near) - half) + (z * r - x * tail));
}

/* The product's upper 64 bits; the lower ones are a·b. */
TESSI_ELEMENTARY uint64_t tessi_multiply_high(uint64_t a, uint64_t b)
{
    uint64_t low = UINT64_C(0xffffffff);
    uint64_t lowest = (a & low) * (b & low);
    uint64_t middle = (a >> 32) * (b & low) + (lowest >> 32);
    uint64_t other = (a & low) * (b >> 32) + (middle & low);
    return (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32);
}

/* Bits [position, position + 64) of 2/π, of which the table has the first 1280 after the point; those before it are zero. */
TESSI_ELEMENTARY uint64_t tessi_two_over_pi(int position)
{
    static const uint64_t words[] = {
        UINT64_C(0xa2f9836e4e441529), UINT64_C(0xfc2757d1f534ddc0), UINT64_C(0xdb6295993c439041), UINT64_C(0xfe5163abdebbc561),
        UINT64_C(0xb7246e3a424dd2e0), UINT64_C(0x06492eea09d1921c), UINT64_C(0xfe1deb1cb129a73e), UINT64_C(0xe88235f52ebb4484),
        UINT64_C(0xe99c7026b45f7e41), UINT64_C(0x3991d639835339f4), UINT64_C(0x9c845f8bbdf9283b), UINT64_C(0x1ff897ffde05980f),
        UINT64_C(0xef2f118b5a0a6d1f), UINT64_C(0x6d367ecf27cb09b7), UINT64_C(0x4f463f669e5fea2d), UINT64_C(0x7527bac7ebe5f17b),
        UINT64_C(0x3d0739f78a5292ea), UINT64_C(0x6bfb5fb11f8d5d08), UINT64_C(0x56033046fc7b6bab), UINT64_C(0xf0cfbc209af4361d),
    };
    int count = (int)(sizeof words / sizeof words[0]);
    int word = position >= 0 ? position / 64 : -((63 - position) / 64);
    int shift = position - word * 64;
    uint64_t first = word >= 0 && word < count ? words[word] : 0;
    uint64_t second = word + 1 >= 0 && word + 1 < count ? words[word + 1] : 0;
    return shift == 0 ? first : first << shift | second >> (64 - shift);
}

/* x = quadrant·π/2 + (y + tail), |y| ≤ π/4, for finite |x| > π/4, in integer arithmetic: the 256 bits of 2/π that matter times
 * the mantissa leave the quadrant in the top two bits (Payne and Hanek, "Radian reduction for trigonometric functions",
 * SIGNUM 18, 1983). Returns the quadrant, 0 to 3. */
TESSI_ELEMENTARY uint64_t tessi_reduce_far(double x, double *y, double *tail)
{
    uint64_t bits = tessi_bits_f64(x) & UINT64_C(0x7fffffffffffffff);
    uint64_t mantissa = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x10000000000000);
    int exponent = (int)(bits >> 52) - 1075;
    uint64_t product[4]; /* most significant first */
    uint64_t carry = 0;
    for (int i = 3; i >= 0; i--) {
        uint64_t digits = tessi_two_over_pi(exponent - 2 + 64 * i);
        product[i] = mantissa * digits + carry;
        carry = tessi_multiply_high(mantissa, digits) + (product[i] < carry ? 1 : 0);
    }
    uint64_t quadrant = ((product[0] + (UINT64_C(1) << 61)) >> 62) & 3;
    product[0] -= quadrant << 62;
    int negative = (product[0] >> 63) != 0;
    if (negative) {
        carry = 1;
        for (int i = 3; i >= 0; i--) {
            product[i] = ~product[i] + carry;
            carry = carry != 0 && product[i] == 0 ? 1 : 0;
        }
    }
    int scale = -62; /* weight of the low bit of product[0], relative to a quadrant */
    int first = product[0] != 0 ? 0 : 1;
    int zeros = 0;
    while (zeros < 63 && (product[first] << zeros >> 63) == 0) {
        zeros++;
    }
    uint64_t fraction = product[first] << zeros | (zeros > 0 ? product[first + 1] >> (64 - zeros) : 0);
    scale -= 64 * first + zeros;
    uint64_t top = tessi_multiply_high(fraction, UINT64_C(0xc90fdaa22168c235)); /* π/2 · 2^63 */
    double unit = tessi_f64_bits((uint64_t)(scale + 1 + 1023) << 52);
    double sign = (x < 0) != negative ? -unit : unit;
    *y = (double)(top & ~UINT64_C(0x7ff)) * sign;
    *tail = (double)(top & UINT64_C(0x7ff)) * sign;
    return x < 0 ? (4 - quadrant) & 3 : quadrant;
}

/* sin and cos of 2π·turns for turns in [0, 1): the reduction is exact. */
TESSI_ELEMENTARY void tessi_sincos_turns(double turns, double *sine, double *cosine)
{
    const double shift = 6755399441055744.0;
    double shifted = turns * 4.0 + shift;
    double x = (turns - (shifted - shift) * 0.25) * 6.283185307179586;
    uint64_t quadrant = tessi_bits_f64(shifted);
    double s = tessi_sin_kernel(x, 0.0);
    double c = tessi_cos_kernel(x, 0.0);
    /* Selected by masks: compilers make branches of two choices by one condition. */
    uint64_t swap = (tessi_bits_f64(s) ^ tessi_bits_f64(c)) & (0 - (quadrant & 1));
    uint64_t first = tessi_bits_f64(s) ^ swap;
    uint64_t second = tessi_bits_f64(c) ^ swap;
    *sine = tessi_f64_bits(first ^ ((quadrant & 2) << 62));
    *cosine = tessi_f64_bits(second ^ (((quadrant + 1) & 2) << 62));
}

/* The same for |x| ≤ 2^20·π/2: π/2 in three parts of 33 bits and a rest, as in FDLIBM's e_rem_pio2.c (W. J. Cody and W. Waite,
 * "Software manual for the elementary functions", 1980). Products of the parts and the first difference are exact, and
 * what the other two lose is added again (D. E. Knuth, "The Art of Computer Programming", volume 2, 4.2.2). */
TESSI_ELEMENTARY uint64_t tessi_reduce_near(double x, double *y, double *tail)
{
    const double shift = 6755399441055744.0;
    double shifted = x * 6.36619772367581382433e-01 + shift;
    double n = shifted - shift;
    double first = x - n * 1.57079632673412561417e+00;
    double part = n * 6.07710050630396597660e-11;
    double second = first - part;
    double back = second - first;
    double lost = (first - (second - back)) - (part + back);
    part = n * 2.02226624871116645580e-21;
    double third = second - part;
    back = third - second;
    lost += (second - (third - back)) - (part + back);
    double rest = n * 8.47842766036889956997e-32 - lost;
    *y = third - rest;
    *tail = (third - *y) - rest;
    return tessi_bits_f64(shifted) & 3;
}

/* x = quadrant·π/2 + (y + tail), for any finite x. */
TESSI_ELEMENTARY uint64_t tessi_reduce(double x, double *y, double *tail)
{
    return fabs(x) <= 1647099.0 ? tessi_reduce_near(x, y, tail) : tessi_reduce_far(x, y, tail);
}

/* sin x. NaN of infinities. */
TESSI_ELEMENTARY double tessi_sin(double x)
{
    double y = 0, tail = 0;
    if (!(fabs(x) <= 1.7976931348623157e308)) {
        return x - x;
    }
    uint64_t quadrant = tessi_reduce(x, &y, &tail);
    double value = (quadrant & 1) != 0 ? tessi_cos_kernel(y, tail) : tessi_sin_kernel(y, tail);
    return tessi_f64_bits(tessi_bits_f64(value) ^ ((quadrant & 2) << 62));
}

#endif
