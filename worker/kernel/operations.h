/* The kernels behind `tessi_kernel_run`, one function for each family of operations.
 *
 * All take a checked layer and the blocks of the step; they return OK, or fail with a text
 * that names the cause. `tessi_kernel_run` adds which layer and task it was. */
#ifndef TESSI_KERNEL_OPERATIONS_H
#define TESSI_KERNEL_OPERATIONS_H

#include "core/graph/layer.h"
#include "worker/kernel/kernel.h"

/* What the families need to know of a call, computed once. */
struct tessi_kernel_step {
    const struct tessi_kernel_call *call;
    const struct tessi_layer *layer;
    struct tessi_step step;
    struct tessi_shape shape; /* of the output block */
    int64_t elements;
    int64_t lo[TESSI_NDIM_MAX]; /* its first element in the whole array */
};

typedef enum tessi_status tessi_kernel_fn(const struct tessi_kernel_step *step, struct tessi_error *error);

tessi_kernel_fn tessi_kernel_full;
tessi_kernel_fn tessi_kernel_arange;
tessi_kernel_fn tessi_kernel_eye;
tessi_kernel_fn tessi_kernel_random;    /* uniform and normal */
tessi_kernel_fn tessi_kernel_read_npy;  /* whose path has no symbolic links */
tessi_kernel_fn tessi_kernel_write_npy; /* likewise, or it is one that this process has open (TESSI_NPY_OWN) */
tessi_kernel_fn tessi_kernel_elementwise;
tessi_kernel_fn tessi_kernel_reduce;
tessi_kernel_fn tessi_kernel_transpose;
tessi_kernel_fn tessi_kernel_regrid;
tessi_kernel_fn tessi_kernel_matmul;
tessi_kernel_fn tessi_kernel_synthetic;

/* Plain references of the ones that have something to compare. */
tessi_kernel_fn tessi_reference_generate; /* full, arange, eye */
tessi_kernel_fn tessi_reference_random;
tessi_kernel_fn tessi_reference_elementwise;
tessi_kernel_fn tessi_reference_reduce;
tessi_kernel_fn tessi_reference_transpose;
tessi_kernel_fn tessi_reference_regrid;
tessi_kernel_fn tessi_reference_matmul;

/* First element and shape of block `index` of a grid. */
void tessi_kernel_block(const struct tessi_grid *grid, uint64_t index, struct tessi_shape *shape, int64_t *lo);

#endif
