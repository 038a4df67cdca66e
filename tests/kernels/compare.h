/* A device's kernels against the processor's: every step of every task of a layer, on random inputs. */
#ifndef TESTS_KERNELS_COMPARE_H
#define TESTS_KERNELS_COMPARE_H

#include <stdint.h>

#include "core/graph/layer.h"
#include "worker/device/device.h"

struct compare_bench {
    const struct tessi_device_kind *kind;
    struct tessi_device *device;
    struct tessi_stream *stream;
    uint32_t layers, unsupported; /* compared so far; of them left to processors */
};

void compare_open(struct compare_bench *bench, const struct tessi_device_kind *kind, uint32_t ordinal);
void compare_close(struct compare_bench *bench);

/* Takes the layer. Fails the test unless the bytes are the same; with a tolerance, unless elements are so near (whole.h). */
void compare_layer(struct compare_bench *bench, struct tessi_layer *layer, double tolerance);

#endif
