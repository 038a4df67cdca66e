/* Transpose, slice and rechunk: elements of any type move as patterns of their size. */
#include "worker/device/cuda/internal.h"

#define TILE 32
#define ROWS 8

struct wide {
    unsigned long long bits[2];
};

struct walk { /* dimensions of what is copied, outermost first; strides in elements */
    unsigned int ndim;
    long long count;
    long long dim[TESSI_NDIM_MAX], from[TESSI_NDIM_MAX], to[TESSI_NDIM_MAX];
};

template <typename T>
static __global__ void copy_strided(T *to, const T *from, walk w)
{
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < w.count; e += step) {
        long long rest = e;
        long long source = 0;
        long long target = 0;
        for (unsigned int d = w.ndim; d-- > 0;) {
            long long next = rest / w.dim[d];
            long long here = rest - next * w.dim[d];
            source += here * w.from[d];
            target += here * w.to[d];
            rest = next;
        }
        to[target] = from[source];
    }
}

/* to[i·to_stride + j] = from[i + j·from_stride], through a tile of shared memory so that both sides are dense; blockIdx.z
 * walks over the other dimensions. */
template <typename T>
static __global__ void copy_planes(T *to, const T *from, long long rows, long long columns, long long to_stride,
                                   long long from_stride, walk others)
{
    __shared__ T tile[TILE][TILE + 1];
    long long source = 0;
    long long target = 0;
    long long rest = blockIdx.z;
    for (unsigned int d = others.ndim; d-- > 0;) {
        long long next = rest / others.dim[d];
        long long here = rest - next * others.dim[d];
        source += here * others.from[d];
        target += here * others.to[d];
        rest = next;
    }
    long long i0 = (long long)blockIdx.y * TILE;
    long long j0 = (long long)blockIdx.x * TILE;
    for (int r = (int)threadIdx.y; r < TILE; r += ROWS) {
        if (j0 + r < columns && i0 + threadIdx.x < rows) {
            tile[r][threadIdx.x] = from[source + i0 + threadIdx.x + (j0 + r) * from_stride];
        }
    }
    __syncthreads();
    for (int r = (int)threadIdx.y; r < TILE; r += ROWS) {
        if (i0 + r < rows && j0 + threadIdx.x < columns) {
            to[target + (i0 + r) * to_stride + j0 + threadIdx.x] = tile[threadIdx.x][r];
        }
    }
}

template <typename T>
static cudaError_t run_copy(const tessi_cuda_step *step, void *to, const void *from, const walk &w)
{
    return tessi_cuda_run(step->stream->stream, tessi_cuda_blocks(w.count, 1024), TESSI_CUDA_THREADS, copy_strided<T>,
                          (T *)to, (const T *)from, w);
}

static cudaError_t copy_walk(const tessi_cuda_step *step, size_t size, void *to, const void *from, const walk &w)
{
    switch (size) {
    case 1:
        return run_copy<unsigned char>(step, to, from, w);
    case 2:
        return run_copy<unsigned short>(step, to, from, w);
    case 4:
        return run_copy<unsigned int>(step, to, from, w);
    case 8:
        return run_copy<unsigned long long>(step, to, from, w);
    default:
        return run_copy<wide>(step, to, from, w);
    }
}

struct planes {
    int64_t rows, columns, to_stride, from_stride;
    walk others;
};

template <typename T>
static cudaError_t run_planes(const tessi_cuda_step *step, const planes &p)
{
    dim3 grid(tessi_cuda_blocks(p.columns, TILE), tessi_cuda_blocks(p.rows, TILE), (unsigned)p.others.count);
    return tessi_cuda_run(step->stream->stream, grid, dim3(TILE, ROWS), copy_planes<T>, (T *)step->call->out,
                          (const T *)step->call->in[0], p.rows, p.columns, p.to_stride, p.from_stride, p.others);
}

static cudaError_t copy_in_planes(const tessi_cuda_step *step, size_t size, const planes &p)
{
    switch (size) {
    case 1:
        return run_planes<unsigned char>(step, p);
    case 2:
        return run_planes<unsigned short>(step, p);
    case 4:
        return run_planes<unsigned int>(step, p);
    case 8:
        return run_planes<unsigned long long>(step, p);
    default:
        return run_planes<wide>(step, p);
    }
}

cudaError_t tessi_cuda_transpose(tessi_cuda_step *step)
{
    size_t size = tessi_dtype_size(step->layer->dtype);
    struct tessi_shape in;
    struct tessi_view view;
    tessi_grid_block_shape(&step->layer->input[0].grid, step->step.step.ref[0].index, &in);
    tessi_transpose_view(&view, &step->step, &in);
    if (view.ndim <= 1) {
        return tessi_cuda_persist([&] {
            return cudaMemcpyAsync(step->call->out, step->call->in[0], (size_t)step->step.elements * size,
                                   cudaMemcpyDeviceToDevice, step->stream->stream);
        });
    }
    uint32_t last = view.ndim - 1;
    uint32_t dense = last; /* the output dimension along which the input is dense */
    while (view.from[dense] != 1) {
        dense--;
    }
    planes p = {};
    walk w = {};
    w.count = step->step.elements;
    p.others.count = 1;
    for (uint32_t d = 0; d < view.ndim; d++) {
        w.dim[w.ndim] = view.dim[d];
        w.from[w.ndim] = view.from[d];
        w.to[w.ndim++] = view.to[d];
        if (d != dense && d != last) {
            p.others.dim[p.others.ndim] = view.dim[d];
            p.others.from[p.others.ndim] = view.from[d];
            p.others.to[p.others.ndim++] = view.to[d];
            p.others.count *= view.dim[d];
        }
    }
    p.rows = view.dim[dense];
    p.columns = view.dim[last];
    p.to_stride = view.to[dense];
    p.from_stride = view.from[last];
    bool fits = dense != last && p.others.count <= TESSI_CUDA_GRID_YZ && p.rows <= (int64_t)TILE * TESSI_CUDA_GRID_YZ &&
                p.columns <= (int64_t)TILE * TESSI_CUDA_GRID_X;
    return fits ? copy_in_planes(step, size, p) : copy_walk(step, size, step->call->out, step->call->in[0], w);
}

cudaError_t tessi_cuda_regrid(tessi_cuda_step *step)
{
    size_t size = tessi_dtype_size(step->layer->dtype);
    struct tessi_piece piece;
    if (step->step.step.count == 0 || !tessi_regrid_piece(&piece, &step->step)) {
        return cudaSuccess;
    }
    walk w = {};
    w.ndim = piece.ndim;
    w.count = 1;
    for (uint32_t d = 0; d < piece.ndim; d++) {
        w.dim[d] = piece.count[d];
        w.from[d] = piece.from[d];
        w.to[d] = piece.to[d];
        w.count *= piece.count[d];
    }
    void *to = (char *)step->call->out + (size_t)piece.to_offset * size;
    const void *from = (const char *)step->call->in[0] + (size_t)piece.from_offset * size;
    int64_t pitch = piece.ndim != 2 ? 0 : piece.from[0] > piece.to[0] ? piece.from[0] : piece.to[0];
    bool rows = piece.ndim == 2 && piece.from[1] == 1 && piece.to[1] == 1 && pitch <= TESSI_CUDA_PITCH / (int64_t)size;
    if (rows) { /* dense rows: the copy engine's own way */
        return tessi_cuda_persist([&] {
            return cudaMemcpy2DAsync(to, (size_t)piece.to[0] * size, from, (size_t)piece.from[0] * size,
                                     (size_t)piece.count[1] * size, (size_t)piece.count[0], cudaMemcpyDeviceToDevice,
                                     step->stream->stream);
        });
    }
    return copy_walk(step, size, to, from, w);
}
