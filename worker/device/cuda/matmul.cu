/* Products into the block where it lies: cuBLAS, and f32 by three TF32 products of split operands where that is asked
 * for. A call for each step and never several in one: the bits of a product must not depend on what else there is. */
#include "worker/device/cuda/internal.h"

#include <cstring>

#define TESSI_TF32 static __device__ __forceinline__
#include "worker/device/cuda/tf32.h"

#define WORKSPACE_BYTES ((size_t)64 << 20) /* given to cuBLAS, so that it takes no memory of its own on the way */

struct product {
    bool transpose_a, transpose_b, add;
    int64_t m, n, k, lda, ldb, ldc;
    const void *a, *b;
    void *c;
    enum tessi_dtype from, dtype;
    enum tessi_compute compute;
};

static cudaError_t blas_error(tessi_cuda_step *step, cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS) {
        return cudaSuccess;
    }
    step->text = std::string("cuBLAS: ") + cublasGetStatusString(status);
    (void)cudaGetLastError();
    cudaError_t state = cudaStreamQuery(step->stream->stream); /* what a broken device answers to everything */
    cudaError_t ours = status == CUBLAS_STATUS_ALLOC_FAILED ? cudaErrorMemoryAllocation : cudaErrorInvalidValue;
    return tessi_cuda_is_lost(state) ? state : ours;
}

/* Which kernels cuBLAS takes, and so the bits, may depend on its workspace: without that there is no product. Another
 * stream would take the workspace away again. */
static cudaError_t blas_open(tessi_cuda_step *step)
{
    struct tessi_stream *stream = step->stream;
    if (stream->blas != nullptr) {
        return cudaSuccess;
    }
    if (stream->workspace == nullptr) {
        TESSI_CUDA_TRY(tessi_cuda_scratch(stream, WORKSPACE_BYTES, &stream->workspace));
    }
    cublasHandle_t blas = nullptr;
    TESSI_CUDA_TRY(blas_error(step, cublasCreate(&blas)));
    cudaError_t code = blas_error(step, cublasSetStream(blas, stream->stream));
    code = code != cudaSuccess ? code : blas_error(step, cublasSetWorkspace(blas, stream->workspace, WORKSPACE_BYTES));
    code = code != cudaSuccess ? code : blas_error(step, cublasSetMathMode(blas, CUBLAS_DEFAULT_MATH));
    code = code != cudaSuccess ? code : blas_error(step, cublasSetAtomicsMode(blas, CUBLAS_ATOMICS_NOT_ALLOWED));
    if (code != cudaSuccess) {
        (void)cublasDestroy(blas);
        return code;
    }
    stream->blas = blas;
    return cudaSuccess;
}

static cudaDataType_t blas_type(enum tessi_dtype dtype)
{
    switch (dtype) {
    case TESSI_F64:
        return CUDA_R_64F;
    case TESSI_F32:
        return CUDA_R_32F;
    case TESSI_F16:
        return CUDA_R_16F;
    case TESSI_BF16:
        return CUDA_R_16BF;
    case TESSI_C64:
        return CUDA_C_32F;
    case TESSI_C128:
        return CUDA_C_64F;
    case TESSI_I8:
        return CUDA_R_8I;
    case TESSI_I32:
        return CUDA_R_32I;
    case TESSI_BOOL:
    case TESSI_I16:
    case TESSI_I64:
    case TESSI_U8:
    case TESSI_U16:
    case TESSI_U32:
    case TESSI_U64:
        break;
    }
    return CUDA_R_32F;
}

/* Rows lie one after the other here and columns in cuBLAS: Cᵀ = Bᵀ·Aᵀ. */
static cublasStatus_t gemm(cublasHandle_t blas, const product &p, cublasComputeType_t compute)
{
    const float one32[2] = {1, 0};
    const float add32[2] = {p.add ? 1.0f : 0.0f, 0};
    const double one64[2] = {1, 0};
    const double add64[2] = {p.add ? 1.0 : 0.0, 0};
    const int one = 1;
    const int add = p.add ? 1 : 0;
    bool wide = compute == CUBLAS_COMPUTE_64F;
    bool whole = compute == CUBLAS_COMPUTE_32I;
    const void *alpha = whole ? (const void *)&one : wide ? (const void *)one64 : (const void *)one32;
    const void *beta = whole ? (const void *)&add : wide ? (const void *)add64 : (const void *)add32;
    cublasOperation_t left = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t right = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    return cublasGemmEx(blas, left, right, (int)p.n, (int)p.m, (int)p.k, alpha, p.b, blas_type(p.from), (int)p.ldb, p.a,
                        blas_type(p.from), (int)p.lda, beta, p.c, blas_type(p.dtype), (int)p.ldc, compute,
                        CUBLAS_GEMM_DEFAULT);
}

/* ——— i8 with any rows ——— */

#define TILE 16

/* Operands that cuBLAS does not take (rows that are no multiple of four): a tile of C for each block of threads. */
static __global__ void whole_product(const signed char *a, long long a_row, long long a_k, const signed char *b,
                                     long long b_k, long long b_column, int *c, long long m, long long n, long long k,
                                     bool add)
{
    __shared__ int left[TILE][TILE];
    __shared__ int right[TILE][TILE];
    long long column = (long long)blockIdx.x * TILE + threadIdx.x;
    for (long long tile = (long long)blockIdx.y * TILE; tile < m; tile += (long long)gridDim.y * TILE) {
        long long row = tile + threadIdx.y;
        unsigned int sum = add && row < m && column < n ? (unsigned int)c[row * n + column] : 0;
        for (long long p = 0; p < k; p += TILE) {
            long long ka = p + threadIdx.x;
            long long kb = p + threadIdx.y;
            left[threadIdx.y][threadIdx.x] = row < m && ka < k ? a[row * a_row + ka * a_k] : 0;
            right[threadIdx.y][threadIdx.x] = column < n && kb < k ? b[kb * b_k + column * b_column] : 0;
            __syncthreads();
            for (int i = 0; i < TILE; i++) {
                sum += (unsigned int)(left[threadIdx.y][i] * right[i][threadIdx.x]);
            }
            __syncthreads();
        }
        if (row < m && column < n) {
            c[row * n + column] = (int)sum;
        }
    }
}

static cudaError_t multiply_whole(tessi_cuda_step *step, const product &p)
{
    bool aligned = p.lda % 4 == 0 && p.ldb % 4 == 0 && p.ldc % 4 == 0 && (uintptr_t)p.a % 4 == 0 &&
                   (uintptr_t)p.b % 4 == 0 && p.m % 4 == 0 && p.n % 4 == 0 && p.k % 4 == 0;
    if (aligned && gemm(step->stream->blas, p, CUBLAS_COMPUTE_32I) == CUBLAS_STATUS_SUCCESS) {
        return cudaSuccess;
    }
    dim3 grid(tessi_cuda_blocks(p.n, TILE), tessi_cuda_blocks(p.m, TILE, TESSI_CUDA_GRID_YZ));
    return tessi_cuda_run(step->stream->stream, grid, dim3(TILE, TILE), whole_product, (const signed char *)p.a,
                          p.transpose_a ? 1 : p.lda, p.transpose_a ? p.lda : 1, (const signed char *)p.b,
                          p.transpose_b ? 1 : p.ldb, p.transpose_b ? p.ldb : 1, (int *)p.c, p.m, p.n, p.k, p.add);
}

/* ——— f32 by three TF32 products (tf32.h) ——— */

/* A slice of an operand, with its rows `ld` apart, as its three parts: part p begins at p · part_stride, its rows are
 * `row_stride` apart. */
static __global__ void split(const float *from, long long ld, long long rows, long long columns, float *to,
                             long long part_stride, long long row_stride, int low_part)
{
    long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (long long row = blockIdx.y; column < columns && row < rows; row += gridDim.y) {
        float x = from[row * ld + column];
        float high = tessi_tf32_round(x);
        float low = tessi_tf32_low(x, high);
        float *at = to + row * row_stride + column;
        for (int p = 0; p < TESSI_TF32_PARTS; p++) {
            at[p * part_stride] = p == low_part ? low : high;
        }
    }
}

/* `kept` by `k` elements of an operand, split so that k is three times as long; tells the length of its rows. */
static cudaError_t split_operand(cudaStream_t stream, const float *from, int64_t ld, bool k_is_first, int64_t kept,
                                 int64_t k, float *to, int low_part, int64_t *row_length)
{
    int64_t rows = k_is_first ? k : kept;
    int64_t columns = k_is_first ? kept : k;
    int64_t row_stride = k_is_first ? kept : TESSI_TF32_PARTS * k;
    int64_t part_stride = k_is_first ? k * kept : k;
    dim3 grid(tessi_cuda_blocks(columns, TESSI_CUDA_THREADS), tessi_cuda_blocks(rows, 1, TESSI_CUDA_GRID_YZ));
    *row_length = row_stride;
    return tessi_cuda_run(stream, grid, TESSI_CUDA_THREADS, split, from, ld, rows, columns, to, part_stride, row_stride,
                          low_part);
}

static cudaError_t multiply_tf32x3(tessi_cuda_step *step, const product &p)
{
    cudaStream_t stream = step->stream->stream;
    int64_t slice = p.k < TESSI_TF32_SLICE ? p.k : TESSI_TF32_SLICE;
    void *parts = nullptr;
    size_t bytes = (size_t)(TESSI_TF32_PARTS * (p.m + p.n) * slice) * sizeof(float);
    TESSI_CUDA_TRY(tessi_cuda_scratch(step->stream, bytes, &parts));
    const float *a_from = (const float *)p.a;
    const float *b_from = (const float *)p.b;
    float *a = (float *)parts;
    float *b = a + TESSI_TF32_PARTS * p.m * slice;
    cudaError_t code = cudaSuccess;
    for (int64_t at = 0; at < p.k && code == cudaSuccess; at += slice) {
        int64_t k = p.k - at < slice ? p.k - at : slice;
        product one = p;
        one.a = a;
        one.b = b;
        one.k = TESSI_TF32_PARTS * k;
        one.add = p.add || at > 0;
        code = split_operand(stream, a_from + (p.transpose_a ? at * p.lda : at), p.lda, p.transpose_a, p.m, k, a,
                             TESSI_TF32_LOW_A, &one.lda);
        code = code != cudaSuccess ? code
                                   : split_operand(stream, b_from + (p.transpose_b ? at : at * p.ldb), p.ldb, !p.transpose_b,
                                                   p.n, k, b, TESSI_TF32_LOW_B, &one.ldb);
        code = code != cudaSuccess ? code : blas_error(step, gemm(step->stream->blas, one, CUBLAS_COMPUTE_32F_FAST_TF32));
    }
    tessi_cuda_scratch_free(step->stream, parts);
    return code;
}

/* ——— the step ——— */

/* cuBLAS takes sides and rows as `int`. */
static bool has_int_sides(const struct tessi_grid *grid)
{
    return tessi_axis_longest(&grid->axis[0]) <= INT32_MAX && tessi_axis_longest(&grid->axis[1]) <= INT32_MAX;
}

bool tessi_cuda_matmul_supports(const struct tessi_layer *layer)
{
    enum tessi_dtype from = layer->input[0].dtype;
    bool same = layer->dtype == from;
    if (!has_int_sides(&layer->grid) || !has_int_sides(&layer->input[0].grid) || !has_int_sides(&layer->input[1].grid)) {
        return false;
    }
    switch (from) {
    case TESSI_F64:
    case TESSI_F32:
    case TESSI_C64:
    case TESSI_C128:
        return same;
    case TESSI_F16:
    case TESSI_BF16:
        return same || layer->dtype == TESSI_F32;
    case TESSI_I8:
        return layer->dtype == TESSI_I32;
    case TESSI_BOOL:
    case TESSI_I16:
    case TESSI_I32:
    case TESSI_I64:
    case TESSI_U8:
    case TESSI_U16:
    case TESSI_U32:
    case TESSI_U64:
        return false;
    }
    return false;
}

/* Where the step's range of k begins in an operand's block, and how long its stored rows are. */
static const void *panel(const tessi_cuda_step *step, uint32_t i, bool k_is_first, int64_t *ld)
{
    const struct tessi_input *input = &step->layer->input[i];
    const struct tessi_step *at = &step->step.step;
    uint64_t coords[TESSI_NDIM_MAX];
    struct tessi_shape shape;
    tessi_grid_coords(&input->grid, at->ref[i].index, coords);
    tessi_grid_block_shape(&input->grid, at->ref[i].index, &shape);
    uint32_t axis = k_is_first ? 0 : 1;
    int64_t skipped = at->k_lo - tessi_axis_lo(&input->grid.axis[axis], coords[axis]);
    *ld = shape.dim[1];
    return (const char *)step->call->in[i] + (size_t)(k_is_first ? skipped * *ld : skipped) * tessi_dtype_size(input->dtype);
}

cudaError_t tessi_cuda_matmul(tessi_cuda_step *step)
{
    const struct tessi_layer *layer = step->layer;
    product p = {};
    p.from = layer->input[0].dtype;
    p.dtype = layer->dtype;
    p.compute = layer->as.matmul.compute;
    p.transpose_a = layer->as.matmul.transpose_a;
    p.transpose_b = layer->as.matmul.transpose_b;
    p.add = step->call->step > 0;
    p.m = step->step.shape.dim[0];
    p.n = step->step.shape.dim[1];
    p.k = step->step.step.k_hi - step->step.step.k_lo;
    p.c = step->call->out;
    p.ldc = p.n;
    if (p.k == 0) {
        size_t bytes = (size_t)step->step.elements * tessi_dtype_size(p.dtype);
        return p.add ? cudaSuccess : cudaMemsetAsync(p.c, 0, bytes, step->stream->stream);
    }
    p.a = panel(step, 0, p.transpose_a, &p.lda);
    p.b = panel(step, 1, !p.transpose_b, &p.ldb);
    TESSI_CUDA_TRY(blas_open(step));
    if (p.from == TESSI_I8) {
        return multiply_whole(step, p);
    }
    if (p.from == TESSI_F32 && p.compute == TESSI_COMPUTE_TF32X3) {
        return multiply_tf32x3(step, p);
    }
    bool wide = p.from == TESSI_F64 || p.from == TESSI_C128;
    bool tf32 = p.from == TESSI_F32 && p.compute == TESSI_COMPUTE_TF32;
    cublasComputeType_t compute = wide   ? CUBLAS_COMPUTE_64F
                                  : tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                         : CUBLAS_COMPUTE_32F;
    return blas_error(step, gemm(step->stream->blas, p, compute));
}
