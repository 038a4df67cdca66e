#include "core/base/philox.h"

/* The multipliers and Weyl increments of the paper's table 2 and section 3.3. */
static const uint32_t multiplier_0 = UINT32_C(0xD2511F53);
static const uint32_t multiplier_1 = UINT32_C(0xCD9E8D57);
static const uint32_t weyl_0 = UINT32_C(0x9E3779B9);
static const uint32_t weyl_1 = UINT32_C(0xBB67AE85);

enum { ROUNDS = 10 };

void tessi_philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0];
    uint32_t c1 = counter[1];
    uint32_t c2 = counter[2];
    uint32_t c3 = counter[3];
    uint32_t k0 = key[0];
    uint32_t k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t product_0 = (uint64_t)multiplier_0 * c0;
        uint64_t product_1 = (uint64_t)multiplier_1 * c2;
        c0 = (uint32_t)(product_1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(product_0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)product_1;
        c3 = (uint32_t)product_0;
        k0 += weyl_0;
        k1 += weyl_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void tessi_philox_element(uint64_t seed, uint64_t index, uint32_t stream, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), stream, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    tessi_philox_block(counter, key, out);
}

double tessi_philox_uniform_f64(uint64_t seed, uint64_t index)
{
    uint32_t words[4];
    tessi_philox_element(seed, index, 0, words);
    return tessi_philox_to_f64(words[0], words[1]);
}

float tessi_philox_uniform_f32(uint64_t seed, uint64_t index)
{
    uint32_t words[4];
    tessi_philox_element(seed, index, 0, words);
    return tessi_philox_to_f32(words[0]);
}
