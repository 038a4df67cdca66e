/* Philox4x32-10: random numbers as a function of (key, counter), without state.
 *
 * John K. Salmon, Mark A. Moraes, Ron O. Dror, David E. Shaw: "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011. An element of a random array is a function of the array's seed
 * and the element's index alone, so its value depends neither on the chunking nor on who
 * computes it, and a lost block is drawn again with the same bits.
 *
 * How an element gets its bits: the counter is (index low, index high, stream, 0), the key is
 * (seed low, seed high). `stream` keeps apart the draws that one element needs. */
#ifndef TESSI_BASE_PHILOX_H
#define TESSI_BASE_PHILOX_H

#include <stdint.h>

/* The ten rounds: 128 random bits for a 128-bit counter and a 64-bit key. */
void tessi_philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* The 128 bits of one element. */
void tessi_philox_element(uint64_t seed, uint64_t index, uint32_t stream, uint32_t out[4]);

/* Uniform in [0, 1), exact multiples of 2⁻⁵³ and 2⁻²⁴: the first words of the element in stream 0. */
double tessi_philox_uniform_f64(uint64_t seed, uint64_t index);
float tessi_philox_uniform_f32(uint64_t seed, uint64_t index);

/* Two random words to a uniform number in [0, 1): 53 bits, the top ones of each. */
static inline double tessi_philox_to_f64(uint32_t low, uint32_t high)
{
    uint64_t bits = ((uint64_t)high << 32) | low;
    return (double)(bits >> 11) * 0x1p-53;
}

/* One random word to a uniform number in [0, 1): its top 24 bits. */
static inline float tessi_philox_to_f32(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

#endif
