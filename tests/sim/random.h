/* The simulator's one source of chance: the same seed gives the same world. */
#ifndef TESTS_SIM_RANDOM_H
#define TESTS_SIM_RANDOM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t sim_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* SplitMix64 by Sebastiano Vigna, public domain. */
static inline uint64_t random_next(struct random *random)
{
    uint64_t z = (random->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* lo ≤ value ≤ hi */
static inline int64_t random_between(struct random *random, int64_t lo, int64_t hi)
{
    return hi <= lo ? lo : lo + (int64_t)(random_next(random) % (uint64_t)(hi - lo + 1));
}

static inline uint32_t random_below(struct random *random, uint32_t count)
{
    return count == 0 ? 0 : (uint32_t)(random_next(random) % count);
}

static inline bool random_chance(struct random *random, uint32_t percent)
{
    return random_below(random, 100) < percent;
}

/* Between lo and hi, every order of magnitude alike. */
static inline int64_t random_scale(struct random *random, int64_t lo, int64_t hi)
{
    double unit = (double)(random_next(random) >> 11) * 0x1p-53;
    return (int64_t)((double)lo * pow((double)hi / (double)lo, unit));
}

#endif
