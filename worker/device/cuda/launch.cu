/* Which operation goes to which kernels, and what all launches have in common. */
#include "worker/device/cuda/internal.h"

/* ——— the kernels of each kind of operation: whether they can run a layer's tasks, and a step of one ——— */

static bool always(const struct tessi_layer *)
{
    return true;
}

static bool never(const struct tessi_layer *)
{
    return false;
}

static bool one_dimension(const struct tessi_layer *layer)
{
    return layer->grid.ndim == 1;
}

static cudaError_t refuse(tessi_cuda_step *step)
{
    step->text = "this operation has no kernel on a GPU";
    return cudaErrorNotSupported;
}

#define FULL_KERNELS always, tessi_cuda_generate
#define ARANGE_KERNELS one_dimension, tessi_cuda_generate
#define EYE_KERNELS always, tessi_cuda_generate
#define UNIFORM_KERNELS always, tessi_cuda_random
#define NORMAL_KERNELS always, tessi_cuda_random
#define TRANSPOSE_KERNELS always, tessi_cuda_transpose
#define REGRID_KERNELS always, tessi_cuda_regrid
#define ELEMENTWISE_KERNELS tessi_cuda_elementwise_supports, tessi_cuda_elementwise
#define REDUCE_KERNELS tessi_cuda_reduce_supports, tessi_cuda_reduce
#define MATMUL_KERNELS tessi_cuda_matmul_supports, tessi_cuda_matmul
#define RECEIVE_KERNELS never, refuse
#define READ_NPY_KERNELS never, refuse
#define WRITE_NPY_KERNELS never, refuse
#define SYNTHETIC_KERNELS never, refuse

struct kernels {
    bool (*supports)(const struct tessi_layer *layer);
    cudaError_t (*run)(tessi_cuda_step *step);
};

static struct kernels kernels_of(enum tessi_op op)
{
    switch (op) {
#define TESSI_ROW(NAME, name, code, ...) \
    case TESSI_OP_##NAME:                \
        return {NAME##_KERNELS};
        TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
    }
    return {never, refuse};
}

bool tessi_cuda_supports(const struct tessi_layer *layer)
{
    return kernels_of(layer->op).supports(layer);
}

cudaError_t tessi_cuda_check_launch(dim3 grid, dim3 block)
{
    int64_t threads = (int64_t)block.x * block.y * block.z;
    bool fits = grid.x >= 1 && grid.x <= TESSI_CUDA_GRID_X && grid.y >= 1 && grid.y <= TESSI_CUDA_GRID_YZ && grid.z >= 1 &&
                grid.z <= TESSI_CUDA_GRID_YZ && threads >= 1 && threads <= TESSI_CUDA_BLOCK && block.z <= TESSI_CUDA_BLOCK_Z;
    return fits ? cudaSuccess : cudaErrorInvalidConfiguration;
}

cudaError_t tessi_cuda_launch(tessi_cuda_step *step)
{
    const struct tessi_layer *layer = step->layer;
    uint64_t coords[TESSI_NDIM_MAX];
    tessi_task_step(layer, step->call->index, step->call->step, &step->step.step);
    tessi_grid_coords(&layer->grid, step->call->index, coords);
    tessi_grid_block_shape(&layer->grid, step->call->index, &step->step.shape);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        step->step.lo[d] = tessi_axis_lo(&layer->grid.axis[d], coords[d]);
    }
    step->step.call = step->call;
    step->step.layer = layer;
    step->step.elements = (int64_t)tessi_grid_block_elements(&layer->grid, step->call->index);
    return step->step.elements == 0 ? cudaSuccess : kernels_of(layer->op).run(step);
}
