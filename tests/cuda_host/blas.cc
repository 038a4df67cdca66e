/* cuBLAS by plain loops: sums run along k in f32, f64 or i32, operands of TF32 are rounded, and what the library's manual asks
 * of its callers is checked. Part of the plugin, and compiled with its sanitizers: every element of an operand that is read
 * or written is seen. */
#include <cublas_v2.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "tests/cuda_host/host.h"
#include "worker/kernel/half.h"

extern "C" {
void cuda_host_submit(cudaStream_t stream, cuda_host::work *work);
int cuda_host_stream_device(cudaStream_t stream);
int cuda_host_in_device_memory(const void *pointer, size_t bytes);
int cuda_host_enter_blas(const char *function);
int cuda_host_device(void);
}

struct cuda_host_blas {
    int device;
    cudaStream_t stream;
    void *workspace;
};

namespace {

#define UNSEEN __attribute__((no_sanitize("address", "thread", "undefined"))) /* memory of our own, and the time it takes */

struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};
template <typename T>
struct complex {
    T re, im;
};

[[noreturn]] __attribute__((format(printf, 1, 2))) void complain(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)fprintf(stderr, "cuda_host: ");
    (void)vfprintf(stderr, format, list);
    (void)fprintf(stderr, "\n");
    va_end(list);
    abort();
}

/* ——— numbers: as they are stored, and as they are summed ——— */

template <typename T>
T load(T x)
{
    return x;
}
int load(signed char x) { return x; }
float load(f16 x) { return tessi_f16_to_f32(x.bits); }
float load(bf16 x) { return tessi_bf16_to_f32(x.bits); }

template <typename T>
void store(T *to, T x)
{
    *to = x;
}
void store(f16 *to, float x) { to->bits = tessi_f32_to_f16(x); }
void store(bf16 *to, float x) { to->bits = tessi_f32_to_bf16(x); }

/* Ten bits of fraction, ties away from zero. */
float round_tf32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}
template <typename T>
T round_tf32(T x)
{
    return x;
}

template <typename T>
UNSEEN T multiply(T x, T y)
{
    return x * y;
}
UNSEEN int multiply(int x, int y) { return (int)((unsigned)x * (unsigned)y); }
template <typename T>
UNSEEN complex<T> multiply(complex<T> x, complex<T> y)
{
    return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
template <typename T>
UNSEEN T add(T x, T y)
{
    return x + y;
}
UNSEEN int add(int x, int y) { return (int)((unsigned)x + (unsigned)y); }
template <typename T>
UNSEEN complex<T> add(complex<T> x, complex<T> y)
{
    return {x.re + y.re, x.im + y.im};
}
template <typename T>
bool is_zero(T x)
{
    return x == 0;
}
template <typename T>
bool is_zero(complex<T> x)
{
    return x.re == 0 && x.im == 0;
}

template <typename S>
UNSEEN S dot(const S *x, const S *y, size_t count)
{
    S sum = S();
    for (size_t i = 0; i < count; i++) {
        sum = add(sum, multiply(x[i], y[i]));
    }
    return sum;
}

/* ——— a product ——— */

struct shape {
    bool transpose_a, transpose_b, tf32;
    size_t m, n, k, lda, ldb, ldc;
};

/* I: operands; O: the result; S: sums, alpha and beta. */
template <typename I, typename O, typename S>
struct product : cuda_host::work {
    shape s;
    S alpha, beta;
    const I *a, *b;
    O *c;

    /* `count` lines of an operand along k, each dense. */
    std::vector<S> lines(const I *from, size_t count, size_t line_step, size_t k_step) const
    {
        std::vector<S> dense(count * s.k);
        for (size_t line = 0; line < count; line++) {
            for (size_t l = 0; l < s.k; l++) {
                S x = load(from[line * line_step + l * k_step]);
                dense[line * s.k + l] = s.tf32 ? round_tf32(x) : x;
            }
        }
        return dense;
    }

    void run() override
    {
        std::vector<S> rows = lines(a, s.m, s.transpose_a ? s.lda : 1, s.transpose_a ? 1 : s.lda);
        std::vector<S> columns = lines(b, s.n, s.transpose_b ? 1 : s.ldb, s.transpose_b ? s.ldb : 1);
        for (size_t j = 0; j < s.n; j++) {
            for (size_t i = 0; i < s.m; i++) {
                O *at = c + i + j * s.ldc;
                S sum = multiply(alpha, dot(&rows[i * s.k], &columns[j * s.k], s.k));
                store(at, is_zero(beta) ? sum : add(sum, multiply(beta, S(load(*at)))));
            }
        }
    }
};

struct operand {
    const char *name;
    const void *at;
    int rows, columns, ld;
    size_t size;
};

void check_operand(const operand &o)
{
    if (o.ld < (o.rows > 1 ? o.rows : 1)) {
        complain("cublasGemmEx: %s has %d rows, and %d elements between its columns", o.name, o.rows, o.ld);
    }
    bool empty = o.rows == 0 || o.columns == 0;
    size_t bytes = empty ? 0 : ((size_t)(o.columns - 1) * (size_t)o.ld + (size_t)o.rows) * o.size;
    if (bytes > 0 && cuda_host_in_device_memory(o.at, bytes) == 0) {
        complain("cublasGemmEx: %s at %p, %d by %d, is not all in device memory", o.name, o.at, o.rows, o.columns);
    }
    if ((uintptr_t)o.at % o.size != 0) {
        complain("cublasGemmEx: %s at %p is not aligned to its elements", o.name, o.at);
    }
}

size_t size_of(cudaDataType_t type)
{
    switch (type) {
    case CUDA_R_8I:
        return 1;
    case CUDA_R_16F:
    case CUDA_R_16BF:
        return 2;
    case CUDA_R_32F:
    case CUDA_R_32I:
        return 4;
    case CUDA_R_64F:
    case CUDA_C_32F:
        return 8;
    case CUDA_C_64F:
        return 16;
    }
    return 1;
}

struct call {
    cublasHandle_t handle;
    shape s;
    const void *alpha, *a, *b, *beta;
    void *c;
};

template <typename I, typename O, typename S>
cublasStatus_t submit(const call &call)
{
    product<I, O, S> *made = new product<I, O, S>();
    made->s = call.s;
    memcpy(&made->alpha, call.alpha, sizeof made->alpha);
    memcpy(&made->beta, call.beta, sizeof made->beta);
    made->a = (const I *)call.a;
    made->b = (const I *)call.b;
    made->c = (O *)call.c;
    cuda_host_submit(call.handle->stream, made);
    return CUBLAS_STATUS_SUCCESS;
}

/* The rows of the manual's table of types that the plugin may use. */
const struct {
    cudaDataType_t from, to;
    cublasComputeType_t compute;
    cublasStatus_t (*submit)(const call &);
} types[] = {
    {CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F, submit<double, double, double>},
    {CUDA_C_64F, CUDA_C_64F, CUBLAS_COMPUTE_64F, submit<complex<double>, complex<double>, complex<double>>},
    {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, submit<float, float, float>},
    {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, submit<float, float, float>},
    {CUDA_C_32F, CUDA_C_32F, CUBLAS_COMPUTE_32F, submit<complex<float>, complex<float>, complex<float>>},
    {CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F, submit<f16, float, float>},
    {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F, submit<f16, f16, float>},
    {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F, submit<bf16, float, float>},
    {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F, submit<bf16, bf16, float>},
    {CUDA_R_8I, CUDA_R_32I, CUBLAS_COMPUTE_32I, submit<signed char, int, int>},
};

#define ENTER(function)                                                  \
    do {                                                                 \
        int entered_ = cuda_host_enter_blas(function);                   \
        if (entered_ != 0) {                                             \
            return (cublasStatus_t)entered_;                             \
        }                                                                \
    } while (0)

} // namespace

extern "C" {

const char *cublasGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "a status of cuBLAS";
}

cublasStatus_t cublasGetProperty(libraryPropertyType_t type, int *value)
{
    *value = type == MAJOR_VERSION ? 13 : 0;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    ENTER(__func__);
    *handle = new cuda_host_blas{cuda_host_device(), nullptr, nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

/* Another stream takes the workspace away, by the manual. */
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    ENTER(__func__);
    if (cuda_host_stream_device(stream) != handle->device) {
        complain("cublasSetStream: a handle of device %d, a stream of another", handle->device);
    }
    handle->stream = stream;
    handle->workspace = nullptr;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes)
{
    ENTER(__func__);
    if ((uintptr_t)workspace % 256 != 0 || cuda_host_in_device_memory(workspace, bytes) == 0) {
        complain("cublasSetWorkspace: %p is not aligned to 256 bytes, or not all in device memory", workspace);
    }
    handle->workspace = workspace;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t)
{
    ENTER(__func__);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t, cublasAtomicsMode_t)
{
    ENTER(__func__);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n, int k,
                            const void *alpha, const void *a, cudaDataType_t a_type, int lda, const void *b,
                            cudaDataType_t b_type, int ldb, const void *beta, void *c, cudaDataType_t c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t)
{
    ENTER(__func__);
    if (handle->workspace == nullptr || cuda_host_device() != handle->device) {
        complain("cublasGemmEx: no workspace is set, or another device than the handle's");
    }
    if (m < 0 || n < 0 || k < 0) {
        complain("cublasGemmEx: sides %d, %d and %d", m, n, k);
    }
    bool ta = transa == CUBLAS_OP_T;
    bool tb = transb == CUBLAS_OP_T;
    check_operand({"A", a, ta ? k : m, ta ? m : k, lda, size_of(a_type)});
    check_operand({"B", b, tb ? n : k, tb ? k : n, ldb, size_of(b_type)});
    check_operand({"C", c, m, n, ldc, size_of(c_type)});
    if (a_type == CUDA_R_8I && (lda % 4 != 0 || ldb % 4 != 0 || (uintptr_t)a % 4 != 0 || (uintptr_t)b % 4 != 0)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    shape shape = {ta, tb, compute == CUBLAS_COMPUTE_32F_FAST_TF32, (size_t)m, (size_t)n, (size_t)k,
                   (size_t)lda, (size_t)ldb, (size_t)ldc};
    for (const auto &row : types) {
        if (a_type == row.from && b_type == row.from && c_type == row.to && compute == row.compute) {
            return row.submit({handle, shape, alpha, a, b, beta, c});
        }
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}
}
