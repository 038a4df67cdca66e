/* What an element of a random array is, given its 128 Philox bits.
 *
 * Element e of the whole array, counted in row-major order, takes the four words of
 * tessi_philox_element(seed, e, stream): stream 0 for uniform, 1 for normal numbers. So its value
 * depends on nothing but the seed and e. */
#ifndef TESSI_KERNEL_RANDOM_H
#define TESSI_KERNEL_RANDOM_H

#include <stdint.h>

#include "worker/kernel/elementary.h"

#define TESSI_STREAM_UNIFORM 0
#define TESSI_STREAM_NORMAL 1

/* The top 53 bits over 2^53, by exponent tricks, since AVX2 cannot convert 64-bit integers:
 * both sums and the difference are exact. */
TESSI_ELEMENTARY double tessi_random_unit(uint64_t bits)
{
    uint64_t y = bits >> 11;
    double low = tessi_f64_bits((y & UINT64_C(0xffffffff)) | UINT64_C(0x4330000000000000)); /* 2^52 + low */
    double high = tessi_f64_bits((y >> 32) | UINT64_C(0x4530000000000000));                 /* 2^84 + high·2^32 */
    return ((high - 19342813118337666422669312.0) + low) * 1.1102230246251565404e-16;
}

/* Standard normal: the cosine of G. E. P. Box and M. E. Muller, "A note on the generation of
 * random normal deviates", 1958. The radius takes 1 − u, which is never 0. */
TESSI_ELEMENTARY double tessi_random_normal(uint64_t first, uint64_t second)
{
    double sine;
    double cosine;
    tessi_sincos_turns(tessi_random_unit(second), &sine, &cosine);
    return sqrt(-2.0 * tessi_log(1.0 - tessi_random_unit(first))) * cosine;
}

#endif
