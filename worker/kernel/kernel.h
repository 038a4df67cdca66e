/* Kernels: run one step of one task on host memory.
 *
 * There is a plain reference for every operation and dtype, and faster versions (BLAS,
 * vectorised loops) where they pay, chosen once at init. The same call on the same bytes
 * gives the same bytes on every machine whose numerics family agrees. */
#ifndef TESSI_KERNEL_KERNEL_H
#define TESSI_KERNEL_KERNEL_H

#include <stdint.h>

#include "core/base/status.h"
#include "core/graph/layer.h"

struct tessi_kernel_call {
    const struct tessi_layer *layer;
    uint64_t index;
    uint32_t step;  /* 0 … steps-1; step 0 initialises the output */
    uint32_t steps;
    void *out;      /* the whole output block, 64-byte aligned, private to the task until the last step */
    const void *in[TESSI_STEP_REFS_MAX]; /* the blocks of tessi_task_step(layer, index, step), in its order */
};

/* Run the step on the calling thread. RECEIVE has no kernel: its block arrives. */
enum tessi_status tessi_kernel_run(const struct tessi_kernel_call *call, struct tessi_error *error);

/* The reference version, for tests: plain loops, no BLAS; accumulates matmul in the block's dtype
 * (f32 in f32, a block of f16 or bf16 in f32 rounded at the end of each step). */
enum tessi_status tessi_kernel_run_reference(const struct tessi_kernel_call *call, struct tessi_error *error);

#endif
