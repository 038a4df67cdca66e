#include "worker/kernel/complex.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/kernel/elementary.h"

void tessi_sincos(double x, double *sine, double *cosine)
{
    double y = x;
    double tail = 0;
    uint64_t quadrant = 0;
    if (!isfinite(x)) {
        *sine = *cosine = x - x;
        return;
    }
    if (fabs(x) > 0.78539816339744828) {
        quadrant = tessi_reduce_far(x, &y, &tail);
    }
    double s = tessi_sin_kernel(y, tail);
    double c = tessi_cos_kernel(y, tail);
    *sine = (quadrant & 1) != 0 ? c : s;
    *cosine = (quadrant & 1) != 0 ? s : c;
    if ((quadrant & 2) != 0) {
        *sine = -*sine;
    }
    if (((quadrant + 1) & 2) != 0) {
        *cosine = -*cosine;
    }
}

/* FDLIBM s_atan.c, for x ≥ 0. */
static double arc_tangent(double x)
{
    static const double high[] = {4.63647609000806093515e-01, 7.85398163397448278999e-01, 9.82793723247329054082e-01,
                                  1.57079632679489655800e+00};
    static const double low[] = {2.26987774529616870924e-17, 3.06161699786838301793e-17, 1.39033110312309984516e-17,
                                 6.12323399573676603587e-17};
    int piece = -1;
    if (x >= 2.4375) {
        piece = 3;
        x = -1.0 / x;
    } else if (x >= 1.1875) {
        piece = 2;
        x = (x - 1.5) / (1.0 + 1.5 * x);
    } else if (x >= 0.6875) {
        piece = 1;
        x = (x - 1.0) / (x + 1.0);
    } else if (x >= 0.4375) {
        piece = 0;
        x = (2.0 * x - 1.0) / (2.0 + x);
    }
    double z = x * x;
    double w = z * z;
    double odd = z * (3.33333333333329318027e-01 +
                      w * (1.42857142725034663711e-01 +
                           w * (9.09088713343650656196e-02 +
                                w * (6.66107313738753120669e-02 +
                                     w * (4.97687799461593236017e-02 + w * 1.62858201153657823623e-02)))));
    double even = w * (-1.99999999998764832476e-01 +
                       w * (-1.11111104054623557880e-01 +
                            w * (-7.69187620504482999495e-02 +
                                 w * (-5.83357013379057348645e-02 + w * -3.65315727442169155270e-02))));
    return piece < 0 ? x - x * (odd + even) : high[piece] - ((x * (odd + even) - low[piece]) - x);
}

double tessi_atan2(double y, double x)
{
    const double pi = 3.1415926535897931160e+00;
    const double pi_low = 1.2246467991473531772e-16;
    if (isnan(x) || isnan(y)) {
        return x + y;
    }
    bool left = signbit(x) != 0;
    double angle; /* of (|x|, |y|), then mirrored */
    if (y == 0) {
        angle = 0;
    } else if (x == 0 || (isinf(y) && !isinf(x))) {
        return copysign(0.5 * pi, y);
    } else if (isinf(x)) {
        angle = isinf(y) ? 0.25 * pi : 0;
    } else {
        angle = arc_tangent(fabs(y / x));
    }
    if (left) {
        angle = pi - (angle - pi_low);
    }
    return copysign(angle, y);
}

/* A number with an exponent of its own, so that no product or quotient leaves the range. */
struct scaled {
    double mantissa; /* 0, or between ½ and 1 */
    int exponent;
};

static struct scaled scaled_of(double mantissa, int exponent)
{
    int more = 0;
    double m = frexp(mantissa, &more);
    return (struct scaled){m, m == 0 ? 0 : exponent + more};
}

static struct scaled scaled_times(double x, double y)
{
    struct scaled a = scaled_of(x, 0);
    struct scaled b = scaled_of(y, 0);
    return scaled_of(a.mantissa * b.mantissa, a.exponent + b.exponent);
}

static struct scaled scaled_plus(struct scaled a, struct scaled b)
{
    if (a.mantissa == 0 || b.mantissa == 0) {
        return a.mantissa == 0 ? b : a;
    }
    if (a.exponent < b.exponent) {
        return scaled_plus(b, a);
    }
    int below = a.exponent - b.exponent;
    return scaled_of(a.mantissa + ldexp(b.mantissa, below < 200 ? -below : -200), a.exponent);
}

/* (ac + bd, bc − ad) / (c² + d²) of finite numbers that are too large, too small or too unlike for Smith's way. */
static struct tessi_c128 divide_scaled(struct tessi_c128 a, struct tessi_c128 b)
{
    struct scaled re = scaled_plus(scaled_times(a.re, b.re), scaled_times(a.im, b.im));
    struct scaled im = scaled_plus(scaled_times(a.im, b.re), scaled_times(-a.re, b.im));
    struct scaled size = scaled_plus(scaled_times(b.re, b.re), scaled_times(b.im, b.im));
    return (struct tessi_c128){ldexp(re.mantissa / size.mantissa, re.exponent - size.exponent),
                               ldexp(im.mantissa / size.mantissa, im.exponent - size.exponent)};
}

/* Whether Smith's quotient would overflow on its way, or lose bits to underflow; |ratio| ≤ 1 is b's smaller part over its
 * larger one. Elsewhere a scaled quotient would differ in the last bits only. */
static bool is_hard_to_divide(struct tessi_c128 a, struct tessi_c128 b, double larger_b, double ratio)
{
    double larger = fabs(a.re) > fabs(a.im) ? fabs(a.re) : fabs(a.im);
    double smaller = fabs(a.re) > fabs(a.im) ? fabs(a.im) : fabs(a.re);
    bool finite = isfinite(a.re) && isfinite(a.im) && isfinite(b.re) && isfinite(b.im);
    bool product_lost = larger * fabs(ratio) < 0x1p-1021 && smaller < 0x1p-960;
    bool lost = (fabs(ratio) < 0x1p-1022 || product_lost) && b.re != 0 && b.im != 0 && larger != 0;
    return finite && (lost || larger >= 0x1p1023 || fabs(larger_b) >= 0x1p1021 || fabs(larger_b) < 0x1p-1020);
}

struct tessi_c128 tessi_complex_divide(struct tessi_c128 a, struct tessi_c128 b)
{
    if (fabs(b.re) >= fabs(b.im)) {
        if (b.re == 0 && b.im == 0) {
            return (struct tessi_c128){a.re / fabs(b.re), a.im / fabs(b.re)};
        }
        double ratio = b.im / b.re;
        if (is_hard_to_divide(a, b, b.re, ratio)) {
            return divide_scaled(a, b);
        }
        double scale = 1.0 / (b.re + b.im * ratio);
        return (struct tessi_c128){(a.re + a.im * ratio) * scale, (a.im - a.re * ratio) * scale};
    }
    double ratio = b.re / b.im;
    if (is_hard_to_divide(a, b, b.im, ratio)) {
        return divide_scaled(a, b);
    }
    double scale = 1.0 / (b.im + b.re * ratio);
    return (struct tessi_c128){(a.re * ratio + a.im) * scale, (a.im * ratio - a.re) * scale};
}

double tessi_complex_abs(struct tessi_c128 a)
{
    double large = fabs(a.re);
    double small = fabs(a.im);
    if (isinf(large) || isinf(small)) {
        return INFINITY;
    }
    if (large < small) {
        double other = large;
        large = small;
        small = other;
    }
    if (large > 0x1p500) {
        return sqrt((large * 0x1p-600) * (large * 0x1p-600) + (small * 0x1p-600) * (small * 0x1p-600)) * 0x1p600;
    }
    if (large < 0x1p-500) {
        return sqrt((large * 0x1p600) * (large * 0x1p600) + (small * 0x1p600) * (small * 0x1p600)) * 0x1p-600;
    }
    return sqrt(large * large + small * small);
}

struct tessi_c128 tessi_complex_sqrt(struct tessi_c128 a)
{
    if (a.re == 0 && a.im == 0) {
        return (struct tessi_c128){0, a.im};
    }
    if (isinf(a.im)) {
        return (struct tessi_c128){INFINITY, a.im};
    }
    if (isinf(a.re)) {
        double zero = isnan(a.im) ? a.im : 0;
        return a.re > 0 ? (struct tessi_c128){a.re, isnan(a.im) ? a.im : copysign(0, a.im)}
                        : (struct tessi_c128){zero, copysign(INFINITY, a.im)};
    }
    /* Scaled so that neither the sum overflows nor a subnormal loses bits. */
    double scale = 1;
    double large = fabs(a.re) > fabs(a.im) ? fabs(a.re) : fabs(a.im);
    if (large > 0x1p1000) {
        a = (struct tessi_c128){a.re * 0x1p-4, a.im * 0x1p-4};
        scale = 4;
    } else if (large < 0x1p-900) {
        a = (struct tessi_c128){a.re * 0x1p200, a.im * 0x1p200};
        scale = 0x1p-100;
    }
    double t = sqrt((fabs(a.re) + tessi_complex_abs(a)) * 0.5);
    double other = a.im / (2 * t);
    if (a.re >= 0) {
        return (struct tessi_c128){t * scale, other * scale};
    }
    return (struct tessi_c128){fabs(other) * scale, copysign(t, a.im) * scale};
}

struct tessi_c128 tessi_complex_exp(struct tessi_c128 a)
{
    if (a.im == 0) {
        return (struct tessi_c128){tessi_exp(a.re), a.im};
    }
    if (!isfinite(a.im) && isinf(a.re)) {
        return a.re < 0 ? (struct tessi_c128){0, 0} : (struct tessi_c128){a.re, NAN};
    }
    double s;
    double c;
    tessi_sincos(a.im, &s, &c);
    if (a.re > 709.0 && a.re < 1456.0) {
        /* e^re may overflow where the product with a small sine does not: e^(re − 1799·ln 2)·2^1799. The difference is
         * exact, the constant right to 1e-16. The sine is scaled first, since it may be subnormal. */
        double part = tessi_exp(a.re - 1246.97177782734161156);
        return (struct tessi_c128){c * 0x1p1023 * part * 0x1p776, s * 0x1p1023 * part * 0x1p776};
    }
    double size = tessi_exp(a.re);
    return (struct tessi_c128){size * c, size * s};
}

/* x² as a sum of two (T. J. Dekker, "A floating-point technique for extending the available precision", 1971). */
static void square_exactly(double x, double *high, double *low)
{
    double split = x * 134217729.0; /* 2^27 + 1 */
    double top = split - (split - x);
    double rest = x - top;
    *high = x * x;
    *low = ((top * top - *high) + 2 * top * rest) + rest * rest;
}

/* a + b = the sum returned + *lost (D. E. Knuth, "The Art of Computer Programming", volume 2, 4.2.2). */
static double add_exactly(double a, double b, double *lost)
{
    double sum = a + b;
    double second = sum - a;
    *lost = (a - (sum - second)) + (b - second);
    return sum;
}

/* large² + small² − 1 for moduli between ½ and 2: its leading bits may cancel, and those of what was lost in the squares
 * once more. */
static double excess_of_square(double large, double small)
{
    double square[2], below[2], lost[4];
    square_exactly(large, &square[0], &below[0]);
    square_exactly(small, &square[1], &below[1]);
    double sum = add_exactly(add_exactly(square[0], -1.0, &lost[0]), square[1], &lost[1]);
    double rest = add_exactly(below[0], below[1], &lost[2]);
    sum = add_exactly(sum, rest, &lost[3]);
    return sum + ((lost[2] + lost[3]) + (lost[0] + lost[1]));
}

struct tessi_c128 tessi_complex_log(struct tessi_c128 a)
{
    double angle = tessi_atan2(a.im, a.re);
    double large = fabs(a.re) > fabs(a.im) ? fabs(a.re) : fabs(a.im);
    double small = fabs(a.re) > fabs(a.im) ? fabs(a.im) : fabs(a.re);
    double size = tessi_complex_abs(a);
    if (size > 0.5 && size < 2.0) { /* near 1 the difference from 1 is what counts */
        double excess = excess_of_square(large, small);
        double sum = 1 + excess;
        return (struct tessi_c128){0.5 * (tessi_log(sum) - ((sum - 1) - excess) / sum), angle};
    }
    if (isinf(size) && !isinf(large)) {
        a = (struct tessi_c128){a.re * 0.5, a.im * 0.5};
        return (struct tessi_c128){tessi_log(tessi_complex_abs(a)) + 6.93147180559945286227e-01, angle};
    }
    if (size < 0x1p-1022) { /* a subnormal modulus has lost bits that its parts have not */
        a = (struct tessi_c128){a.re * 0x1p200, a.im * 0x1p200};
        return (struct tessi_c128){tessi_log(tessi_complex_abs(a)) - 1.38629436111989061884e+02, angle};
    }
    return (struct tessi_c128){tessi_log(size), angle};
}
