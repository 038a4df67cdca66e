#include "worker/kernel/kernel.h"

#include <stdbool.h>

#include "core/base/assert.h"
#include "worker/kernel/operations.h"

struct row {
    tessi_kernel_fn *run;
    tessi_kernel_fn *reference;
};

static enum tessi_status arrives(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    (void)step;
    return tessi_fail(error, TESSI_UNSUPPORTED, "this operation has no kernel");
}

/* The kernels of each kind of operation, and their plain references. */
#define FULL_KERNELS                                                                                                   \
    {                                                                                                                  \
        tessi_kernel_full, tessi_reference_generate                                                                    \
    }
#define ARANGE_KERNELS                                                                                                 \
    {                                                                                                                  \
        tessi_kernel_arange, tessi_reference_generate                                                                  \
    }
#define EYE_KERNELS                                                                                                    \
    {                                                                                                                  \
        tessi_kernel_eye, tessi_reference_generate                                                                     \
    }
#define UNIFORM_KERNELS                                                                                                \
    {                                                                                                                  \
        tessi_kernel_random, tessi_reference_random                                                                    \
    }
#define NORMAL_KERNELS                                                                                                 \
    {                                                                                                                  \
        tessi_kernel_random, tessi_reference_random                                                                    \
    }
#define ELEMENTWISE_KERNELS                                                                                            \
    {                                                                                                                  \
        tessi_kernel_elementwise, tessi_reference_elementwise                                                          \
    }
#define REDUCE_KERNELS                                                                                                 \
    {                                                                                                                  \
        tessi_kernel_reduce, tessi_reference_reduce                                                                    \
    }
#define TRANSPOSE_KERNELS                                                                                              \
    {                                                                                                                  \
        tessi_kernel_transpose, tessi_reference_transpose                                                              \
    }
#define REGRID_KERNELS                                                                                                 \
    {                                                                                                                  \
        tessi_kernel_regrid, tessi_reference_regrid                                                                    \
    }
#define MATMUL_KERNELS                                                                                                 \
    {                                                                                                                  \
        tessi_kernel_matmul, tessi_reference_matmul                                                                    \
    }
/* Its block arrives. */
#define RECEIVE_KERNELS                                                                                                \
    {                                                                                                                  \
        arrives, arrives                                                                                               \
    }
/* Files and the clock's work have nothing simpler to be compared with. */
#define READ_NPY_KERNELS                                                                                               \
    {                                                                                                                  \
        tessi_kernel_read_npy, tessi_kernel_read_npy                                                                   \
    }
#define WRITE_NPY_KERNELS                                                                                              \
    {                                                                                                                  \
        tessi_kernel_write_npy, tessi_kernel_write_npy                                                                 \
    }
#define SYNTHETIC_KERNELS                                                                                              \
    {                                                                                                                  \
        tessi_kernel_synthetic, tessi_kernel_synthetic                                                                 \
    }

static const struct row rows[TESSI_OP_COUNT] = {
#define TESSI_ROW(NAME, name, code, ...) [code] = NAME##_KERNELS,
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

void tessi_kernel_block(const struct tessi_grid *grid, uint64_t index, struct tessi_shape *shape, int64_t *lo)
{
    uint64_t coords[TESSI_NDIM_MAX];
    tessi_grid_coords(grid, index, coords);
    shape->ndim = grid->ndim;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        lo[d] = tessi_axis_lo(&grid->axis[d], coords[d]);
        shape->dim[d] = tessi_axis_hi(&grid->axis[d], coords[d]) - lo[d];
    }
}

static enum tessi_status run(const struct tessi_kernel_call *call, bool reference, struct tessi_error *error)
{
    const struct tessi_layer *layer = call->layer;
    struct tessi_kernel_step step = {.call = call, .layer = layer};
    TESS_ASSERT(call->step < call->steps && call->index < tessi_layer_tasks(layer));
    tessi_kernel_fn *function = reference ? rows[layer->op].reference : rows[layer->op].run;
    tessi_task_step(layer, call->index, call->step, &step.step);
    tessi_kernel_block(&layer->grid, call->index, &step.shape, step.lo);
    step.elements = 1;
    for (uint32_t d = 0; d < step.shape.ndim; d++) {
        step.elements *= step.shape.dim[d];
    }
    enum tessi_status status = function(&step, error);
    if (status != TESSI_OK) {
        char label[TESSI_LAYER_LABEL_MAX];
        tessi_error_prefix(error, "%s, layer %u, block %llu", tessi_layer_label(layer, label, sizeof label), layer->id,
                           (unsigned long long)call->index);
    }
    return status;
}

enum tessi_status tessi_kernel_run(const struct tessi_kernel_call *call, struct tessi_error *error)
{
    return run(call, false, error);
}

enum tessi_status tessi_kernel_run_reference(const struct tessi_kernel_call *call, struct tessi_error *error)
{
    return run(call, true, error);
}
