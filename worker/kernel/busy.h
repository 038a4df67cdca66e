/* Work for its own sake: what synthetic tasks compute, here and in the peers that benches compare with. */
#ifndef TESSI_KERNEL_BUSY_H
#define TESSI_KERNEL_BUSY_H

#include <stdint.h>

/* The compute-bound kernel of Task Bench (Slaughter et al., SC 2020): 64 chains of a multiplication and an addition. They
 * are taken in groups that stay in registers. Returned so that it is not optimised away. */
static inline double tessi_busy_compute(uint64_t iterations)
{
    enum { LANES = 16, GROUPS = 64 / LANES };
    double sum = 0.0;
    for (int group = 0; group < GROUPS; group++) {
        double lane[LANES];
        for (int i = 0; i < LANES; i++) {
            lane[i] = 1.2345 + group;
        }
        for (uint64_t n = 0; n < iterations; n++) {
            for (int i = 0; i < LANES; i++) {
                lane[i] = lane[i] * 0.5 + 0.25;
            }
        }
        for (int i = 0; i < LANES; i++) {
            sum += lane[i];
        }
    }
    return sum;
}

#endif
