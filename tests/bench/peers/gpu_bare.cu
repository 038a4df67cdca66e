/* The floors and peers of tests/bench/gpu, with no engine: a bare loop of cuBLAS calls over blocks on the device, cublasXt on
 * pinned host matrices, copies of the device and of the link; and a program that only takes memory.
 *
 *     gpu_bare product DTYPE N CHUNK REPEATS    f64 f32 tf32 bf16 f16 i8; C(i,j) += A(i,k)·B(k,j), k from (i + j) mod K
 *     gpu_bare xt N REPEATS BLOCK …             cublasXt with each of the block sizes
 *     gpu_bare copy BYTES REPEATS               device to device, counting what is read and written
 *     gpu_bare link BYTES                       pinned host memory to the device and back, and what pinning costs
 *     gpu_bare take BYTES                       says "taken" and holds the memory until standard input ends; 0: all but 1 GiB
 *
 * The last line is one JSON object. Exit status 77: there is no device. */
#include <cublasXt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#define CHECK(call)                                                                          \
    do {                                                                                     \
        cudaError_t code_ = (call);                                                          \
        if (code_ != cudaSuccess) {                                                          \
            std::fprintf(stderr, "gpu_bare: %s: %s\n", #call, cudaGetErrorString(code_));    \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (0)
#define CHECK_BLAS(call)                                                                     \
    do {                                                                                     \
        cublasStatus_t code_ = (call);                                                       \
        if (code_ != CUBLAS_STATUS_SUCCESS) {                                                \
            std::fprintf(stderr, "gpu_bare: %s: %s\n", #call, cublasGetStatusString(code_)); \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (0)

static double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void print_seconds(const std::vector<double> &seconds)
{
    std::printf("\"seconds\": [");
    for (size_t i = 0; i < seconds.size(); i++) {
        std::printf("%s%.6f", i > 0 ? ", " : "", seconds[i]);
    }
    std::printf("]");
}

/* ——— products ——— */

/* Uniform in (−1, 1), as the engine's operands are: zeros would take less power and run faster. */
template <typename T>
static __global__ void fill(T *data, size_t count, unsigned long long seed, float scale)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += gridDim.x * (size_t)blockDim.x) {
        unsigned long long x = (i + seed) * 0x9e3779b97f4a7c15ull;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x ^= x >> 27;
        data[i] = (T)(scale * ((float)(unsigned)(x >> 40) * 0x1p-23f - 1.0f));
    }
}

struct types {
    const char *name;
    cudaDataType_t from, to;
    cublasComputeType_t compute;
    size_t from_bytes, to_bytes;
};
static const types known[] = {
    {"f64", CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F, 8, 8},
    {"f32", CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 4, 4},
    {"tf32", CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, 4, 4},
    {"bf16", CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2, 4},
    {"f16", CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2, 4},
    {"i8", CUDA_R_8I, CUDA_R_32I, CUBLAS_COMPUTE_32I, 1, 4},
};

template <typename T>
static void start_fill(T *data, size_t count, unsigned long long seed, float scale)
{
    void *arguments[] = {&data, &count, &seed, &scale};
    CHECK(cudaLaunchKernel(fill<T>, 1024, 256, arguments, 0, nullptr));
}

static void *make_block(const types &t, size_t elements, unsigned long long seed)
{
    void *block = nullptr;
    CHECK(cudaMalloc(&block, elements * t.from_bytes));
    switch (t.from) {
    case CUDA_R_64F:
        start_fill((double *)block, elements, seed, 1.0f);
        break;
    case CUDA_R_32F:
        start_fill((float *)block, elements, seed, 1.0f);
        break;
    case CUDA_R_16BF:
        start_fill((__nv_bfloat16 *)block, elements, seed, 1.0f);
        break;
    case CUDA_R_16F:
        start_fill((__half *)block, elements, seed, 1.0f);
        break;
    default:
        start_fill((signed char *)block, elements, seed, 9.0f);
    }
    return block;
}

static int product(const char *name, int n, int chunk, int repeats)
{
    const types *t = nullptr;
    for (const types &one : known) {
        t = std::strcmp(one.name, name) == 0 ? &one : t;
    }
    if (t == nullptr || n <= 0 || chunk <= 0 || n % chunk != 0) {
        std::fprintf(stderr, "gpu_bare: product DTYPE N CHUNK: a known type, and blocks that divide the side\n");
        return 2;
    }
    int side = n / chunk;
    size_t elements = (size_t)chunk * chunk;
    cublasHandle_t blas;
    cudaStream_t stream;
    void *workspace;
    std::vector<void *> a, b, c;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK_BLAS(cublasCreate(&blas));
    CHECK_BLAS(cublasSetStream(blas, stream));
    CHECK(cudaMalloc(&workspace, (size_t)64 << 20));
    CHECK_BLAS(cublasSetWorkspace(blas, workspace, (size_t)64 << 20));
    for (int i = 0; i < side * side; i++) {
        a.push_back(make_block(*t, elements, 2 * i));
        b.push_back(make_block(*t, elements, 2 * i + 1));
        c.push_back(nullptr);
        CHECK(cudaMalloc(&c.back(), elements * t->to_bytes));
    }
    CHECK(cudaDeviceSynchronize());
    const double one = 1, zero = 0;
    const float one32 = 1, zero32 = 0;
    const int one_whole = 1, zero_whole = 0;
    bool wide = t->compute == CUBLAS_COMPUTE_64F, whole = t->compute == CUBLAS_COMPUTE_32I;
    const void *alpha = wide ? (const void *)&one : whole ? (const void *)&one_whole : (const void *)&one32;
    const void *none = wide ? (const void *)&zero : whole ? (const void *)&zero_whole : (const void *)&zero32;
    std::vector<double> seconds;
    for (int r = -1; r < repeats; r++) {
        double began = now();
        for (int i = 0; i < side; i++) {
            for (int j = 0; j < side; j++) {
                for (int s = 0; s < side; s++) {
                    int k = (i + j + s) % side;
                    CHECK_BLAS(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, chunk, chunk, chunk, alpha, b[k * side + j],
                                            t->from, chunk, a[i * side + k], t->from, chunk, s > 0 ? alpha : none,
                                            c[i * side + j], t->to, chunk, t->compute, CUBLAS_GEMM_DEFAULT));
                }
            }
        }
        CHECK(cudaStreamSynchronize(stream));
        if (r >= 0) {
            seconds.push_back(now() - began);
        }
    }
    std::printf("{\"program\": \"gpu_bare\", \"case\": \"product\", \"dtype\": \"%s\", \"n\": %d, \"chunk\": %d, ", name, n,
                chunk);
    std::printf("\"work\": %.6g, ", 2.0 * n * n * n);
    print_seconds(seconds);
    std::printf("}\n");
    return 0;
}

/* ——— cublasXt ——— */

static int xt(int n, int repeats, int count, char **blocks)
{
    size_t bytes = (size_t)n * n * sizeof(double);
    double *matrices[3];
    double began = now();
    for (double *&matrix : matrices) {
        CHECK(cudaHostAlloc((void **)&matrix, bytes, cudaHostAllocPortable));
    }
    double pinning = now() - began;
    unsigned long long state = 1;
    for (size_t i = 0; i < (size_t)n * n; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        matrices[0][i] = (double)(state >> 11) * 0x1p-52 - 1.0;
    }
    std::memcpy(matrices[1], matrices[0], bytes);
    int device = 0;
    double alpha = 1, beta = 0;
    cublasXtHandle_t handle;
    CHECK_BLAS(cublasXtCreate(&handle));
    CHECK_BLAS(cublasXtDeviceSelect(handle, 1, &device));
    std::printf("{\"program\": \"gpu_bare\", \"case\": \"xt\", \"n\": %d, \"work\": %.6g, \"pinning_seconds\": %.3f, ", n,
                2.0 * n * n * n, pinning);
    std::printf("\"blocks\": {");
    for (int b = 0; b < count; b++) {
        std::vector<double> seconds;
        CHECK_BLAS(cublasXtSetBlockDim(handle, std::atoi(blocks[b])));
        for (int r = -1; r < repeats; r++) {
            double started = now();
            CHECK_BLAS(cublasXtDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &alpha, matrices[0], n, matrices[1], n, &beta,
                                     matrices[2], n));
            CHECK(cudaDeviceSynchronize());
            if (r >= 0) {
                seconds.push_back(now() - started);
            }
        }
        std::printf("%s\"%s\": {", b > 0 ? ", " : "", blocks[b]);
        print_seconds(seconds);
        std::printf("}");
    }
    std::printf("}}\n");
    CHECK_BLAS(cublasXtDestroy(handle));
    return 0;
}

/* ——— copies ——— */

static int copy(size_t bytes, int repeats)
{
    void *blocks[2];
    std::vector<double> seconds;
    for (void *&block : blocks) {
        CHECK(cudaMalloc(&block, bytes));
        CHECK(cudaMemset(block, 1, bytes));
    }
    for (int r = -1; r < repeats; r++) {
        CHECK(cudaDeviceSynchronize());
        double began = now();
        CHECK(cudaMemcpyAsync(blocks[1], blocks[0], bytes, cudaMemcpyDeviceToDevice));
        CHECK(cudaDeviceSynchronize());
        if (r >= 0) {
            seconds.push_back(now() - began);
        }
    }
    std::printf("{\"program\": \"gpu_bare\", \"case\": \"copy\", \"work\": %.6g, ", 2.0 * (double)bytes);
    print_seconds(seconds);
    std::printf("}\n");
    return 0;
}

static int link(size_t bytes)
{
    void *device;
    void *host = std::aligned_alloc(4096, bytes);
    CHECK(cudaMalloc(&device, bytes));
    std::memset(host, 1, bytes);
    double began = now();
    CHECK(cudaHostRegister(host, bytes, cudaHostRegisterPortable));
    double pinning = now() - began;
    double best[2] = {1e9, 1e9};
    for (int r = 0; r < 6; r++) {
        double started = now();
        CHECK(cudaMemcpyAsync(r % 2 == 0 ? device : host, r % 2 == 0 ? host : device, bytes, cudaMemcpyDefault));
        CHECK(cudaDeviceSynchronize());
        double took = now() - started;
        best[r % 2] = took < best[r % 2] ? took : best[r % 2];
    }
    std::printf("{\"program\": \"gpu_bare\", \"case\": \"link\", \"in_gb_s\": %.2f, \"out_gb_s\": %.2f, ",
                (double)bytes / best[0] * 1e-9, (double)bytes / best[1] * 1e-9);
    std::printf("\"pinning_s_a_gb\": %.3f}\n", pinning / ((double)bytes * 1e-9));
    return 0;
}

static int take(size_t bytes)
{
    size_t free_bytes, total;
    void *memory;
    CHECK(cudaMemGetInfo(&free_bytes, &total));
    bytes = bytes > 0 ? bytes : free_bytes - ((size_t)1 << 30);
    CHECK(cudaMalloc(&memory, bytes));
    std::printf("taken %zu\n", bytes);
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
    return 0;
}

int main(int argc, char **argv)
{
    std::string which = argc > 1 ? argv[1] : "";
    auto number = [&](int i) { return i < argc ? std::strtoll(argv[i], nullptr, 10) : 0; };
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::printf("{\"program\": \"gpu_bare\", \"skipped\": \"there is no GPU here\"}\n");
        return 77;
    }
    if (which == "product" && argc == 6) {
        return product(argv[2], (int)number(3), (int)number(4), (int)number(5));
    }
    if (which == "xt" && argc > 4) {
        return xt((int)number(2), (int)number(3), argc - 4, argv + 4);
    }
    if (which == "copy" && argc == 4) {
        return copy((size_t)number(2), (int)number(3));
    }
    if (which == "link" && argc == 3) {
        return link((size_t)number(2));
    }
    if (which == "take" && argc == 3) {
        return take((size_t)number(2));
    }
    std::fprintf(stderr, "gpu_bare: product DTYPE N CHUNK REPEATS | xt N REPEATS BLOCK … | copy BYTES REPEATS | "
                         "link BYTES | take BYTES\n");
    return 2;
}
