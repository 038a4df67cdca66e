/* CUDA's words for device code, for a host compiler. Kernels are functions; a thread knows its place by a variable; what
 * threads of a block do together (__syncthreads, shuffles) goes to the runtime, which lets the others come up (block.cc).
 * Programs that are compiled at run time see this file and no other. */
#ifndef CUDA_HOST_LANGUAGE_H
#define CUDA_HOST_LANGUAGE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
/* All threads of a block run on one thread of the host, and no two blocks at a time. */
#define __shared__ static thread_local

struct uint3 {
    unsigned int x, y, z;
};

struct cuda_host_place {
    uint3 thread, block, threads, blocks;
};

/* A thread's own variable, found without a call even where a sanitizer would make one of it. */
#define CUDA_HOST_THREAD __attribute__((tls_model("initial-exec"))) __thread

extern "C" {
extern CUDA_HOST_THREAD struct cuda_host_place cuda_host_here;
void cuda_host_barrier(const char *file, int line);
uint64_t cuda_host_shuffle(unsigned int mask, uint64_t bits, int lane, int width);
void cuda_host_trap(void);
}

#define threadIdx (cuda_host_here.thread)
#define blockIdx (cuda_host_here.block)
#define blockDim (cuda_host_here.threads)
#define gridDim (cuda_host_here.blocks)
#define warpSize 32

#define __syncthreads() cuda_host_barrier(__FILE__, __LINE__)
#define __trap() cuda_host_trap()

template <typename T>
static inline T __shfl_sync(unsigned int mask, T x, int lane, int width = 32)
{
    static_assert(sizeof(T) <= 8, "what __shfl_sync takes, the small integers as int");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    bits = cuda_host_shuffle(mask, bits, lane, width);
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* How the runtime calls a kernel whose types it does not know. */
struct cuda_host_kernel {
    void (*begin)(void); /* once before the first thread */
    void (*call)(const void *function, void *const *arguments);
    const void *function;
    size_t count;        /* of arguments */
    const size_t *bytes; /* of each */
    const bool *points;  /* whether it is a pointer, which must lead to device memory */
};

/* Makes the host thread's copy of what is __shared__ in this library: else the thread of a block that comes first would. */
static inline void cuda_host_begin(void)
{
    static thread_local volatile char touched;
    touched = (char)(touched + 1);
}

/* The record of a kernel with one argument. */
template <typename P>
static inline void cuda_host_call_one(const void *function, void *const *arguments)
{
    ((void (*)(P))function)(*(P *)arguments[0]);
}
template <typename P>
static inline cuda_host_kernel cuda_host_kernel_of(void (*function)(P))
{
    static const size_t bytes[] = {sizeof(P)};
    static const bool points[] = {false};
    return {cuda_host_begin, cuda_host_call_one<P>, (const void *)function, 1, bytes, points};
}

#endif
