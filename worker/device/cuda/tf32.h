/* f32 by TF32: how a number is split, and how a product is put together. For kernels and for tests of the arithmetic.
 *
 * x = high + low + what 22 bits cannot hold, both of 11 bits. Then A·B ≈ low·high + high·low + high·high, three products
 * whose operands tensor cores take as they are. The cores add with less than f32's care: a sum loses what lies below its
 * last bit, always towards zero, so its error grows with the number of additions instead of its root. Therefore k is cut
 * into slices; the cores make the sum of one, the small products first, and it is added to C outside of them, rounded to
 * the nearest (the `beta` of the product). */
#ifndef TESSI_CUDA_TF32_H
#define TESSI_CUDA_TF32_H

#include <stdint.h>
#include <string.h>

#ifndef TESSI_TF32
#define TESSI_TF32 static inline
#endif

#define TESSI_TF32_SLICE 1024 /* of k; tests/kernels/test_tf32x3.c has the curve */
#define TESSI_TF32_PARTS 3    /* low·high, high·low, high·high: one product with three times the slice's k */
#define TESSI_TF32_LOW_A 0    /* which part of A is the low one; the others are high */
#define TESSI_TF32_LOW_B 1

/* To the nearest number of 11 bits, ties away from zero; what would leave the range is cut instead. */
TESSI_TF32 float tessi_tf32_round(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x1000u) & 0xffffe000u;
    if ((bits & 0x7f800000u) == 0x7f800000u) {
        rounded = bits; /* infinite, or no number */
    } else if ((rounded & 0x7f800000u) == 0x7f800000u) {
        rounded = bits & 0xffffe000u;
    }
    memcpy(&x, &rounded, sizeof x);
    return x;
}

TESSI_TF32 float tessi_tf32_low(float x, float high)
{
    float rest = x - high; /* exact */
    return rest - rest == 0.0f ? tessi_tf32_round(rest) : 0.0f; /* an infinite x is all in `high` */
}

#endif
