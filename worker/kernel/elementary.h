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

#endif
