/* f16 and bf16 from and to f32 and what is wider, by their bits: plain C, so that a device compiler can include it. */
#ifndef TESSI_KERNEL_HALF_H
#define TESSI_KERNEL_HALF_H

#include <stdint.h>
#include <string.h>

#ifndef TESSI_HALF
#define TESSI_HALF static inline
#endif

TESSI_HALF uint32_t tessi_bits_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

TESSI_HALF float tessi_f32_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

TESSI_HALF float tessi_f16_to_f32(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
    uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0;
    /* Read as f32 the number is 2^112 too small; the product is exact, subnormals included. */
    uint32_t scaled = tessi_bits_f32(tessi_f32_bits(magnitude) * 5192296858534827628530496329220096.0f);
    return tessi_f32_bits(scaled | special | (uint32_t)(h & 0x8000) << 16);
}

/* Round to nearest even; after F. Giesen, "float_to_half_fast3_rtne" (public domain). */
TESSI_HALF uint16_t tessi_f32_to_f16(float x)
{
    uint32_t sign = tessi_bits_f32(x) & 0x80000000u;
    uint32_t u = tessi_bits_f32(x) ^ sign;
    uint32_t special = u > 0x7f800000u ? 0x7e00u : 0x7c00u;
    uint32_t small = tessi_bits_f32(tessi_f32_bits(u) + 0.5f) - 0x3f000000u;
    uint32_t normal = (u - 0x38000000u + 0xfffu + ((u >> 13) & 1)) >> 13;
    uint32_t result = u >= 0x47800000u ? special : (u < 0x38800000u ? small : normal);
    return (uint16_t)(result | sign >> 16);
}

TESSI_HALF float tessi_bf16_to_f32(uint16_t h)
{
    return tessi_f32_bits((uint32_t)h << 16);
}

TESSI_HALF uint16_t tessi_f32_to_bf16(float x)
{
    uint32_t u = tessi_bits_f32(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : rounded);
}

/* f64 to f32 rounded to odd, so that a second rounding to a shorter type is the only one that counts
 * (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). */
TESSI_HALF float tessi_f64_to_f32_odd(double x)
{
    float nearest = (float)x;
    uint32_t u = tessi_bits_f32(nearest);
    double magnitude = x < 0 ? -x : x;
    double rounded = nearest < 0 ? -(double)nearest : (double)nearest;
    u -= rounded > magnitude ? 1 : 0; /* now truncated; infinity steps back to the largest number */
    u |= rounded != magnitude && x == x ? 1 : 0;
    return tessi_f32_bits(u);
}

/* 64-bit integers to f32 rounded to odd: by way of f64, for which the bits that it has no room for are gathered in one. */
TESSI_HALF float tessi_u64_to_f32_odd(uint64_t x)
{
    uint64_t room = x >> 53 != 0 ? 0x7ffu : 0;
    uint64_t kept = x & ~room;
    return tessi_f64_to_f32_odd((double)(kept | (kept != x ? 0x800u : 0)));
}

TESSI_HALF float tessi_i64_to_f32_odd(int64_t x)
{
    float magnitude = tessi_u64_to_f32_odd(x < 0 ? 0 - (uint64_t)x : (uint64_t)x);
    return x < 0 ? -magnitude : magnitude;
}

#endif
