/* What the files of the runtime share.
 *
 *   settings.cc  TESSERA_CUDA_HOST, failures on demand, complaints
 *   lock.cc      the lock, and what the race detector is told
 *   device.cc    errors, devices, launches
 *   program.cc   kernels that were compiled at run time
 *   memory.cc    pools, pinned memory, copies
 *   stream.cc    streams and events
 *   block.cc     blocks of threads
 *   blas.cc      cuBLAS (linked into the plugin, so that sanitizers see its accesses)
 *   nvrtc.cc     NVRTC, a library of that name
 *
 * The runtime's own state is under one lock, which the race detector must not see: in a device's world only streams, events
 * and synchronisations order memory. So all of it but blas.cc is compiled without sanitizers, the lock is the kernel's
 * futex, and what orders is told to the detector (`order_release`, `order_acquire`). */
#ifndef CUDA_HOST_HOST_H
#define CUDA_HOST_HOST_H

#include <cuda_runtime.h>

#include <stdio.h>
#include <stdlib.h>

#include <map>
#include <string>
#include <vector>

#define DEVICES_MAX 8
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace cuda_host {

/* ——— settings.cc ——— */

enum order { FORWARD, REVERSE, RANDOM };

struct settings { /* README.md has what they mean */
    int devices, processors, architecture;
    size_t memory_bytes;
    enum order order;
    uint64_t seed, delay_us;
    bool nvrtc, races;
};
const settings &get_settings();

/* A program breaks CUDA's rules: says so and ends the process. */
[[noreturn]] __attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

/* The code with which this call of the function shall fail, or 0. Under the lock. */
int forced_failure(const char *function);
bool has_failed(); /* one has, so what is left behind at the end is nobody's fault */

struct generator {
    uint64_t state;
    uint64_t roll(uint64_t below);
};

/* ——— the lock ——— */

void lock_take();
void lock_give();
void lock_wait(); /* gives it until somebody notifies, or for a while */
void lock_notify();

/* The state is the holder's. Its accesses and its memory are kept from the race detector. */
struct guard {
    guard();
    ~guard();
    guard(const guard &) = delete;
    guard &operator=(const guard &) = delete;
};

void order_release(void *at); /* what this thread did so far comes before … */
void order_acquire(void *at); /* … what this one does from now on */

/* ——— device.cc ——— */

extern CUDA_HOST_THREAD int current_device;

/* The beginning of every call: the device's lasting error, the failure asked for, or cudaSuccess. Sets the last error. */
cudaError_t enter(const char *function, int device);
cudaError_t note(cudaError_t code); /* sets the last error */
cudaError_t broken(int device);     /* its lasting error, under the lock */
void break_device(int device, cudaError_t code);
cudaError_t launch(const cuda_host_kernel &kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream);

#define CUDA_HOST_ENTER(device)                                          \
    do {                                                                 \
        cudaError_t entered_ = ::cuda_host::enter(__func__, device);     \
        if (entered_ != cudaSuccess) {                                   \
            return entered_;                                             \
        }                                                                \
    } while (0)

/* ——— memory.cc ——— */

bool in_device_memory(const void *pointer, size_t bytes); /* under the lock */

/* ——— stream.cc ——— */

/* Something to do in a stream's order. */
struct work {
    virtual void run() = 0;
    virtual ~work() {}
};
void submit(cudaStream_t stream, const char *name, work *work); /* takes it */
int stream_device(cudaStream_t stream);
/* The device of a stream that shall be the thread's own; complains else. */
int device_of(cudaStream_t stream, const char *function);
size_t streams_and_events(int device); /* not destroyed; under the lock */

/* ——— block.cc ——— */

/* Runs every thread of the grid on the calling thread. False: one trapped. */
bool run_grid(const cuda_host_kernel &kernel, dim3 grid, dim3 block, void *const *arguments);
void block_fini(); /* the calling thread runs no more of them */

} // namespace cuda_host

#endif
