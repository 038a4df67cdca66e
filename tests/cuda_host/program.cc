/* Kernels that were compiled at run time: their machine code is a shared library (nvrtc.cc). */
#include "host.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#include "tests/cuda_host/code.h"

using namespace cuda_host;

struct cuda_host_program_kernel {
    cuda_host_kernel kernel;
};
struct cuda_host_library {
    void *handle;
    cuda_host_program_kernel kernel;
};

static void *load(const char *bytes, size_t count)
{
    const char *base = getenv("TMPDIR");
    std::string path = std::string(base != nullptr && *base != 0 ? base : "/tmp") + "/cuda_host.XXXXXX";
    int file = mkstemp(&path[0]); /* a name of its own: the loader takes a name that it knows for the same library */
    if (file < 0 || write(file, bytes, count) != (ssize_t)count) {
        complain("no room for a compiled program: %s", path.c_str());
    }
    (void)close(file);
    void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        complain("a compiled program cannot be loaded: %s", dlerror());
    }
    (void)unlink(path.c_str());
    return handle;
}

EXPORT cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, void *, void **, unsigned int, void *, void **,
                                       unsigned int)
{
    CUDA_HOST_ENTER(current_device);
    cuda_host_code head;
    memcpy(&head, code, sizeof head);
    if (head.mark != CUDA_HOST_CODE_MARK) {
        return note(cudaErrorNoKernelImageForDevice);
    }
    void *handle = load((const char *)code + sizeof head, head.bytes);
    *library = new cuda_host_library{handle, {}};
    return cudaSuccess;
}

EXPORT cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t library, const char *name)
{
    CUDA_HOST_ENTER(current_device);
    std::string symbol = std::string("cuda_host_kernel_") + name;
    void (*record)(cuda_host_kernel *) = nullptr;
    void *found = dlsym(library->handle, symbol.c_str());
    memcpy(&record, &found, sizeof found);
    if (record == nullptr) {
        return note(cudaErrorSymbolNotFound);
    }
    record(&library->kernel.kernel);
    *kernel = &library->kernel;
    return cudaSuccess;
}

/* The code stays where it is: a stream may still run it. */
EXPORT cudaError_t cudaLibraryUnload(cudaLibrary_t library)
{
    CUDA_HOST_ENTER(current_device);
    delete library;
    return cudaSuccess;
}

EXPORT cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                                    cudaStream_t stream)
{
    return launch(((const cuda_host_program_kernel *)kernel)->kernel, grid, block, arguments, shared, stream);
}

/* ——— for nvrtc.cc, which is a library of its own ——— */

EXPORT int cuda_host_enter_nvrtc(const char *function)
{
    guard held;
    int failure = forced_failure(function);
    return failure != 0 ? failure : get_settings().nvrtc ? 0 : 1; /* OUT_OF_MEMORY */
}
