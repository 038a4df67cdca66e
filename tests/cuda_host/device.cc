/* Devices, their errors, and launches. */
#include "host.h"

#include <string.h>

#include <atomic>

namespace cuda_host {

CUDA_HOST_THREAD int current_device;
static CUDA_HOST_THREAD cudaError_t last_error;
static std::atomic<int> lasting_error[DEVICES_MAX];

/* Those after which a device answers everything with the same error, by the manual. */
static bool lasts(int code)
{
    switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
        return true;
    default:
        return false;
    }
}

cudaError_t note(cudaError_t code)
{
    last_error = code != cudaSuccess ? code : last_error;
    return code;
}

cudaError_t broken(int device)
{
    return (cudaError_t)lasting_error[device].load();
}

void break_device(int device, cudaError_t code)
{
    lasting_error[device] = code;
}

cudaError_t enter(const char *function, int device)
{
    guard held;
    int code = forced_failure(function);
    if (lasts(code)) {
        break_device(device, (cudaError_t)code);
    }
    cudaError_t lasting = broken(device);
    return note(lasting != cudaSuccess ? lasting : (cudaError_t)code);
}

static cudaError_t check_ordinal(int device)
{
    int count = get_settings().devices;
    return count == 0 ? cudaErrorNoDevice : device < 0 || device >= count ? cudaErrorInvalidDevice : cudaSuccess;
}

} // namespace cuda_host

using namespace cuda_host;

/* ——— errors ——— */

EXPORT const char *cudaGetErrorString(cudaError_t error)
{
    static const struct {
        cudaError_t code;
        const char *text;
    } rows[] = {
        {cudaSuccess, "no error"},
        {cudaErrorInvalidValue, "invalid argument"},
        {cudaErrorMemoryAllocation, "out of memory"},
        {cudaErrorInitializationError, "initialization error"},
        {cudaErrorInvalidConfiguration, "invalid configuration argument"},
        {cudaErrorNoDevice, "no CUDA-capable device is detected"},
        {cudaErrorInvalidDevice, "invalid device ordinal"},
        {cudaErrorNotReady, "device not ready"},
        {cudaErrorIllegalAddress, "an illegal memory access was encountered"},
        {cudaErrorLaunchFailure, "unspecified launch failure"},
        {cudaErrorNotSupported, "operation not supported"},
        {cudaErrorUnknown, "unknown error"},
    };
    for (const auto &row : rows) {
        if (row.code == error) {
            return row.text;
        }
    }
    return "an error of CUDA";
}

EXPORT cudaError_t cudaGetLastError()
{
    cudaError_t code = broken(current_device) != cudaSuccess ? broken(current_device) : last_error;
    last_error = cudaSuccess;
    return code;
}

/* ——— devices ——— */

EXPORT cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

EXPORT cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

EXPORT cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    if (get_settings().devices == 0) {
        return note(cudaErrorNoDevice);
    }
    CUDA_HOST_ENTER(0);
    *count = get_settings().devices;
    return cudaSuccess;
}

EXPORT cudaError_t cudaSetDevice(int device)
{
    if (check_ordinal(device) != cudaSuccess) {
        return note(check_ordinal(device));
    }
    current_device = device;
    CUDA_HOST_ENTER(device);
    return cudaSuccess;
}

EXPORT cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (check_ordinal(device) != cudaSuccess) {
        return note(check_ordinal(device));
    }
    CUDA_HOST_ENTER(device);
    const settings &settings = get_settings();
    *properties = {};
    (void)snprintf(properties->name, sizeof properties->name, "CUDA on the host");
    properties->totalGlobalMem = settings.memory_bytes;
    properties->major = settings.architecture / 10;
    properties->minor = settings.architecture % 10;
    properties->multiProcessorCount = settings.processors;
    properties->pciDeviceID = device;
    return cudaSuccess;
}

EXPORT cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (check_ordinal(device) != cudaSuccess) {
        return note(check_ordinal(device));
    }
    CUDA_HOST_ENTER(device);
    const settings &settings = get_settings();
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = settings.processors;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = settings.architecture / 10;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = settings.architecture % 10;
        break;
    case cudaDevAttrMemoryPoolsSupported:
        *value = 1;
        break;
    }
    return cudaSuccess;
}

EXPORT cudaError_t cuda_host_probe(void)
{
    CUDA_HOST_ENTER(current_device);
    return cudaSuccess;
}

/* ——— launches ——— */

namespace cuda_host {

struct grid_work : work {
    cuda_host_kernel kernel;
    dim3 grid, block;
    int device;
    std::vector<std::vector<char>> values;

    void run() override
    {
        std::vector<void *> arguments;
        for (std::vector<char> &value : values) {
            arguments.push_back(value.data());
        }
        if (!run_grid(kernel, grid, block, arguments.data())) {
            break_device(device, cudaErrorLaunchFailure);
        }
    }
};

/* By the table of compute capabilities in CUDA's programming guide. */
static bool is_launch(dim3 grid, dim3 block, size_t shared)
{
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    return grid.x >= 1 && grid.x <= INT32_MAX && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535 &&
           threads >= 1 && threads <= 1024 && block.z <= 64 && shared <= 48 << 10;
}

cudaError_t launch(const cuda_host_kernel &kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                          cudaStream_t stream)
{
    int device = device_of(stream, "cudaLaunchKernel");
    cudaError_t code = enter("cudaLaunchKernel", device);
    if (code != cudaSuccess) {
        return code;
    }
    if (!is_launch(grid, block, shared)) {
        return note(cudaErrorInvalidConfiguration);
    }
    guard held;
    grid_work *made = new grid_work();
    made->kernel = kernel;
    made->grid = grid;
    made->block = block;
    made->device = device;
    for (size_t i = 0; i < kernel.count; i++) {
        const char *value = (const char *)arguments[i];
        made->values.emplace_back(value, value + kernel.bytes[i]);
        void *pointer = nullptr;
        if (kernel.points[i]) {
            memcpy(&pointer, value, sizeof pointer);
        }
        if (pointer != nullptr && !in_device_memory(pointer, 0)) {
            complain("argument %zu of a kernel points to %p, which is not in device memory", i + 1, pointer);
        }
    }
    submit(stream, "launch", made);
    return cudaSuccess;
}

} // namespace cuda_host

EXPORT cudaError_t cuda_host_launch(const cuda_host_kernel *kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                                    cudaStream_t stream)
{
    return launch(*kernel, grid, block, arguments, shared, stream);
}
