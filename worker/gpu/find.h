/* Which devices a worker shall use: what `--gpus` and `--gpu-memory` say. */
#ifndef TESSI_GPU_FIND_H
#define TESSI_GPU_FIND_H

#include "worker/device/device.h"

#define TESSI_GPUS_MAX 16

struct tessi_gpus_found {
    const struct tessi_device_kind *kind;
    char *spec; /* emulated: owned; else NULL */
    uint32_t ordinals[TESSI_GPUS_MAX];
    uint32_t count;
    bool automatic; /* whichever there are: what cannot be used is left out */
    char numerics[32];
    double share;   /* of a device's memory */
    uint64_t bytes; /* bound on it; 0: none */
};

/* OK with count 0 and a reason when there are none and none was asked for. */
TESSI_MUST_USE enum tessi_status tessi_gpus_look(const char *gpus, const char *memory, struct tessi_gpus_found *found,
                                                 struct tessi_error *reason);

#endif
