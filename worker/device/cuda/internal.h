/* What the files of the CUDA plugin share.
 *
 *   device.cu       the table of functions: devices, memory, streams, events
 *   launch.cu       which operation goes to which kernels, and the one way in which kernels are started
 *   matmul.cu       products: cuBLAS, and f32 by three TF32 products
 *   elementwise.cu  programs: the interpreter, and how arguments are made
 *   compile.cu      programs compiled by NVRTC, where it is found
 *   generate.cu     constants, ranges, diagonals, random numbers
 *   layout.cu       transpose, slice and rechunk
 *   reduce.cu       folds in the processor's order
 *   gauges.cu       NVML, where it is found
 *   element.h       element types and their arithmetic, for kernels and for NVRTC
 *
 * Kernels are compiled without contraction, and share their sources with the processor's where bits must agree. */
#ifndef TESSI_CUDA_INTERNAL_H
#define TESSI_CUDA_INTERNAL_H

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

extern "C" {
#include "worker/device/device.h"
#include "worker/device/plugin.h"
#include "worker/kernel/geometry.h"
#include "worker/kernel/operations.h"
}

struct tessi_device {
    int ordinal;
    cudaDeviceProp properties;
    cudaMemPool_t pool;
    cudaStream_t memory_stream; /* allocations and nothing else */
    std::mutex memory_lock;
    std::mutex program_lock;
    std::map<std::string, cudaKernel_t> programs; /* compiled ones; a null kernel: it cannot be compiled */
    std::vector<cudaLibrary_t> libraries;         /* that hold them */
    /* What a test wants to fail (TESSERA_CUDA_FAULTS); 0: nothing. */
    uint64_t trap_at, refuse_every, starve_every, allocations;
    std::atomic<uint64_t> launches;
};

/* A launch or copy whose end is to be told. */
struct tessi_entry {
    struct tessi_launch *launch; /* or null */
    tessi_done_fn *done;
    void *context;
    enum tessi_status status; /* of the submission */
    std::string text;
};

/* Entries that follow each other, between two events. */
struct tessi_pending {
    cudaEvent_t begun, ended;
    bool launches;
    std::vector<tessi_entry> entries;
};

struct tessi_stream {
    struct tessi_device *device;
    cudaStream_t stream;
    cublasHandle_t blas; /* made when the first product comes */
    void *workspace;
    tessi_pending batch; /* not closed yet; the submitter's */
    cudaEvent_t mark;    /* reached at mark_ns; the thread's */
    int64_t mark_ns;
    std::vector<cudaEvent_t> spare; /* under the lock, as what follows */
    std::mutex lock;
    std::condition_variable filled;
    std::deque<tessi_pending> pending;
    bool closing;
    uint32_t depth, waiting; /* entries */
    int64_t launch_ns;       /* what a launch took lately */
    std::thread thread; /* waits for the ends, and tells them */
};

/* One launch, with what every kernel wants to know. */
struct tessi_cuda_step {
    struct tessi_stream *stream;
    const struct tessi_kernel_call *call;
    const struct tessi_layer *layer;
    struct tessi_kernel_step step;
    std::string text; /* why it failed */
};

#define TESSI_CUDA_THREADS 256

/* cudaSuccess, or the first error, with its text noted. */
#define TESSI_CUDA_TRY(call)                 \
    do {                                     \
        cudaError_t tessi_error_ = (call);   \
        if (tessi_error_ != cudaSuccess) {   \
            return tessi_error_;             \
        }                                    \
    } while (0)

/* What a launch may be, by the table of compute capabilities in CUDA's programming guide (8.0 and newer). */
#define TESSI_CUDA_GRID_X INT32_MAX
#define TESSI_CUDA_GRID_YZ 65535
#define TESSI_CUDA_BLOCK 1024     /* threads */
#define TESSI_CUDA_BLOCK_Z 64
#define TESSI_CUDA_PARAMETERS 4096 /* bytes of a kernel's arguments, with any driver */
#define TESSI_CUDA_PITCH INT32_MAX /* bytes between the rows of a 2D copy */

/* device.cu: the device is gone for this process. */
bool tessi_cuda_is_lost(cudaError_t error);

/* A call that failed and broke nothing has done nothing: it is made again, so that one that fails by chance ends no stream. */
#define TESSI_CUDA_TRIES 3
template <typename F>
static inline cudaError_t tessi_cuda_persist(F call)
{
    cudaError_t code = cudaSuccess;
    for (int i = 0; i < TESSI_CUDA_TRIES; i++) {
        code = call();
        if (code == cudaSuccess || tessi_cuda_is_lost(code)) {
            break;
        }
        (void)cudaGetLastError();
    }
    return code;
}

/* So many blocks as are needed for `count` things, `each` of them a block, at most `most`: a kernel with fewer walks. */
static inline unsigned tessi_cuda_blocks(int64_t count, int64_t each, int64_t most = TESSI_CUDA_GRID_X)
{
    int64_t blocks = count / each + (count % each != 0 ? 1 : 0);
    return (unsigned)(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

/* launch.cu: cudaErrorInvalidConfiguration where no device could run that. */
cudaError_t tessi_cuda_check_launch(dim3 grid, dim3 block);

/* Starts a kernel, whose arguments are converted and checked as those of a call; the status is this launch's own, and no
 * error of an earlier call. */
template <typename... P>
static inline cudaError_t tessi_cuda_run(cudaStream_t stream, dim3 grid, dim3 block, void (*kernel)(P...),
                                         typename std::common_type<P>::type... arguments)
{
    static_assert((sizeof(P) + ... + 0) <= TESSI_CUDA_PARAMETERS, "a kernel takes so many bytes of arguments");
    void *parameters[] = {&arguments..., nullptr};
    TESSI_CUDA_TRY(tessi_cuda_check_launch(grid, block));
    (void)cudaGetLastError();
    return tessi_cuda_persist([&] { return cudaLaunchKernel(kernel, grid, block, parameters, 0, stream); });
}

/* launch.cu */
bool tessi_cuda_supports(const struct tessi_layer *layer);
cudaError_t tessi_cuda_launch(struct tessi_cuda_step *step);

/* Each enqueues the step's work. */
cudaError_t tessi_cuda_matmul(struct tessi_cuda_step *step);
bool tessi_cuda_matmul_supports(const struct tessi_layer *layer);
cudaError_t tessi_cuda_elementwise(struct tessi_cuda_step *step);
bool tessi_cuda_elementwise_supports(const struct tessi_layer *layer);
cudaError_t tessi_cuda_generate(struct tessi_cuda_step *step); /* full, arange, eye */
cudaError_t tessi_cuda_random(struct tessi_cuda_step *step);
cudaError_t tessi_cuda_transpose(struct tessi_cuda_step *step);
cudaError_t tessi_cuda_regrid(struct tessi_cuda_step *step);
cudaError_t tessi_cuda_reduce(struct tessi_cuda_step *step);
bool tessi_cuda_reduce_supports(const struct tessi_layer *layer);

/* Memory of the stream's own order, for the length of a launch. */
cudaError_t tessi_cuda_scratch(struct tessi_stream *stream, size_t bytes, void **memory);
void tessi_cuda_scratch_free(struct tessi_stream *stream, void *memory);

/* compile.cu */
struct tessi_cuda_source { /* what a program's kernel depends on */
    uint32_t ninputs, nconstants, count;
    const struct tessi_instruction *code;
    enum tessi_dtype dtype[TESSI_INPUTS_MAX + TESSI_CONSTANTS_MAX]; /* of inputs and constants */
    bool flat; /* every input is as long as the output, or one element */
};
/* The program as a kernel's source. */
std::string tessi_cuda_program_text(const struct tessi_cuda_source *source);
/* The kernel, from the cache or compiled now; null when NVRTC is not there or refuses. */
cudaKernel_t tessi_cuda_program(struct tessi_device *device, const struct tessi_cuda_source *source);
/* Compile for an architecture without a device; "" when that went well, else NVRTC's words or why there is none. */
extern "C" __attribute__((visibility("default"))) const char *tessi_cuda_try_compile(const struct tessi_layer *layer,
                                                                                    int architecture);

/* gauges.cu */
void tessi_cuda_gauges(const struct tessi_device *device, struct tessi_device_gauges *gauges);

#endif
