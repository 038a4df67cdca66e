/* Which operation goes to which kernels, and what all launches have in common. */
#include "worker/device/cuda/internal.h"

bool tessi_cuda_supports(const struct tessi_layer *layer)
{
    switch (layer->op) {
    case TESSI_OP_FULL:
    case TESSI_OP_EYE:
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
    case TESSI_OP_TRANSPOSE:
    case TESSI_OP_REGRID:
        return true;
    case TESSI_OP_ARANGE:
        return layer->grid.ndim == 1;
    case TESSI_OP_ELEMENTWISE:
        return tessi_cuda_elementwise_supports(layer);
    case TESSI_OP_REDUCE:
        return tessi_cuda_reduce_supports(layer);
    case TESSI_OP_MATMUL:
        return tessi_cuda_matmul_supports(layer);
    case TESSI_OP_RECEIVE:
    case TESSI_OP_READ_NPY:
    case TESSI_OP_OPAQUE:
    case TESSI_OP_WRITE_NPY:
        return false;
    }
    return false;
}

cudaError_t tessi_cuda_check_launch(dim3 grid, dim3 block)
{
    int64_t threads = (int64_t)block.x * block.y * block.z;
    bool fits = grid.x >= 1 && grid.x <= TESSI_CUDA_GRID_X && grid.y >= 1 && grid.y <= TESSI_CUDA_GRID_YZ && grid.z >= 1 &&
                grid.z <= TESSI_CUDA_GRID_YZ && threads >= 1 && threads <= TESSI_CUDA_BLOCK && block.z <= TESSI_CUDA_BLOCK_Z;
    return fits ? cudaSuccess : cudaErrorInvalidConfiguration;
}

static cudaError_t run(tessi_cuda_step *step)
{
    switch (step->layer->op) {
    case TESSI_OP_FULL:
    case TESSI_OP_ARANGE:
    case TESSI_OP_EYE:
        return tessi_cuda_generate(step);
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
        return tessi_cuda_random(step);
    case TESSI_OP_TRANSPOSE:
        return tessi_cuda_transpose(step);
    case TESSI_OP_REGRID:
        return tessi_cuda_regrid(step);
    case TESSI_OP_ELEMENTWISE:
        return tessi_cuda_elementwise(step);
    case TESSI_OP_REDUCE:
        return tessi_cuda_reduce(step);
    case TESSI_OP_MATMUL:
        return tessi_cuda_matmul(step);
    case TESSI_OP_RECEIVE:
    case TESSI_OP_READ_NPY:
    case TESSI_OP_OPAQUE:
    case TESSI_OP_WRITE_NPY:
        break;
    }
    step->text = "this operation has no kernel on a GPU";
    return cudaErrorNotSupported;
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
    return step->step.elements == 0 ? cudaSuccess : run(step);
}
