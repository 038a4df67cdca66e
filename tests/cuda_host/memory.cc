/* Pools of device memory, pinned host memory, and copies. Device memory is the host's; what is asked of it is checked. */
#include "host.h"

#include <string.h>

#include <algorithm>

/* Where no AddressSanitizer stands behind an allocation, some bytes do. */
extern "C" int __asan_address_is_poisoned(const volatile void *) __attribute__((weak));

#define GUARD_BYTES ((size_t)256)
#define GUARD_BYTE 0xa7
#define FRESH_BYTES ((size_t)1 << 20) /* of an allocation: cuBLAS's workspace is large, and nobody reads it */
#define FRESH_BYTE 0xcb /* what nobody has written: not 0, and as a float a large number */

struct cuda_host_pool {
    int device;
    size_t used, reserved;
    uint64_t keep_bytes;
    bool internal_dependencies; /* an allocation may wait for another stream: on, unless it is told not to */
    bool destroyed;
};

namespace cuda_host {

struct allocation {
    size_t bytes;
    cudaMemPool_t pool;
    bool freeing;
};

struct memory {
    std::map<uintptr_t, allocation> allocations;
    std::map<uintptr_t, size_t> pinned;
    std::vector<cudaMemPool_t> pools; /* the destroyed ones too, for what is still to be freed */
};

static memory &get_memory()
{
    static memory *made = new memory();
    return *made;
}

static size_t guard_bytes()
{
    return __asan_address_is_poisoned != nullptr ? 0 : GUARD_BYTES;
}

static bool is_alone(const std::map<uintptr_t, allocation>::iterator &found)
{
    return found == get_memory().allocations.end();
}

/* The allocation that the address lies in, or the end. One past an allocation's last byte is in it. */
static std::map<uintptr_t, allocation>::iterator holder(const void *pointer)
{
    auto &all = get_memory().allocations;
    auto next = all.upper_bound((uintptr_t)pointer);
    if (next == all.begin()) {
        return all.end();
    }
    --next;
    return (uintptr_t)pointer <= next->first + next->second.bytes ? next : all.end();
}

bool in_device_memory(const void *pointer, size_t bytes)
{
    auto found = holder(pointer);
    return !is_alone(found) && !found->second.freeing &&
           (uintptr_t)pointer + bytes <= found->first + found->second.bytes;
}

/* What a device's last pool leaves behind; others may be those of other workers in the process. */
static void check_no_leak(int device)
{
    size_t left = 0;
    for (cudaMemPool_t pool : get_memory().pools) {
        if (pool->device == device && !pool->destroyed) {
            return;
        }
    }
    for (const auto &row : get_memory().allocations) {
        left += row.second.pool->device == device && !row.second.freeing ? 1 : 0;
    }
    size_t others = streams_and_events(device);
    if (left + others > 0 && !has_failed() && broken(device) == cudaSuccess) {
        complain("the last pool of a device is destroyed and %zu allocations, %zu streams and events are left", left, others);
    }
}

static size_t reserved_of(int device)
{
    size_t bytes = 0;
    for (cudaMemPool_t pool : get_memory().pools) {
        bytes += pool->device == device && !pool->destroyed ? pool->reserved : 0;
    }
    return bytes;
}

struct fill_work : work {
    void *to;
    int value;
    size_t bytes;

    void run() override { memset(to, value, bytes); }
};

struct free_work : work {
    void *memory;

    void run() override
    {
        {
            guard held;
            auto found = get_memory().allocations.find((uintptr_t)memory);
            const unsigned char *behind = (const unsigned char *)memory + found->second.bytes;
            for (size_t i = 0; i < guard_bytes(); i++) {
                if (behind[i] != GUARD_BYTE) {
                    complain("byte %zu behind %zu bytes of device memory has been written", i, found->second.bytes);
                }
            }
            found->second.pool->used -= found->second.bytes;
            get_memory().allocations.erase(found);
        }
        free(memory);
    }
};

struct copy_work : work {
    char *to;
    const char *from;
    size_t to_pitch, from_pitch, width, height;

    void run() override
    {
        for (size_t row = 0; row < height; row++) {
            memcpy(to + row * to_pitch, from + row * from_pitch, width);
        }
    }
};

/* A copy's end lies in one allocation, in one stretch of pinned memory, or in neither. */
static void check_range(const char *function, const void *pointer, size_t bytes, bool is_device)
{
    uintptr_t begin = (uintptr_t)pointer;
    auto found = holder(pointer);
    if (!is_alone(found) && begin < found->first + found->second.bytes) {
        if (!in_device_memory(pointer, bytes)) {
            complain("%s: %zu bytes at %p of an allocation of %zu bytes at %p%s", function, bytes, pointer,
                     found->second.bytes, (const void *)found->first, found->second.freeing ? " that has been freed" : "");
        }
        return;
    }
    if (is_device) {
        complain("%s: %p is not in device memory", function, pointer);
    }
    for (const auto &row : get_memory().pinned) {
        bool meets = begin < row.first + row.second && row.first < begin + bytes;
        if (meets && (begin < row.first || begin + bytes > row.first + row.second)) {
            complain("%s: %zu bytes at %p lie partly in pinned memory", function, bytes, pointer);
        }
    }
}

static void check_copy(const char *function, const copy_work &copy, cudaMemcpyKind kind)
{
    guard held;
    bool both = kind == cudaMemcpyDeviceToDevice;
    check_range(function, copy.to, copy.to_pitch * (copy.height - 1) + copy.width, both || kind == cudaMemcpyHostToDevice);
    check_range(function, copy.from, copy.from_pitch * (copy.height - 1) + copy.width, both || kind == cudaMemcpyDeviceToHost);
}

static void submit_copy(const char *function, const copy_work &copy, cudaMemcpyKind kind, cudaStream_t stream)
{
    check_copy(function, copy, kind);
    guard held;
    submit(stream, function, new copy_work(copy));
}

} // namespace cuda_host

using namespace cuda_host;

EXPORT cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    CUDA_HOST_ENTER(current_device);
    guard held;
    size_t used = reserved_of(current_device);
    *total_bytes = get_settings().memory_bytes;
    *free_bytes = used < *total_bytes ? *total_bytes - used : 0;
    return cudaSuccess;
}

EXPORT cudaError_t cudaFree(void *memory)
{
    CUDA_HOST_ENTER(current_device);
    if (memory != nullptr) {
        complain("cudaFree of %p, which no cudaMalloc gave", memory);
    }
    return cudaSuccess;
}

/* ——— pools ——— */

EXPORT cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const cudaMemPoolProps *properties)
{
    CUDA_HOST_ENTER(properties->location.id);
    guard held;
    *pool = new cuda_host_pool{properties->location.id, 0, 0, 0, true, false};
    get_memory().pools.push_back(*pool);
    return cudaSuccess;
}

EXPORT cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool)
{
    CUDA_HOST_ENTER(pool->device);
    guard held;
    pool->destroyed = true;
    check_no_leak(pool->device);
    return cudaSuccess;
}

EXPORT cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value)
{
    CUDA_HOST_ENTER(pool->device);
    guard held;
    if (attribute == cudaMemPoolAttrReleaseThreshold) {
        memcpy(&pool->keep_bytes, value, sizeof pool->keep_bytes);
    } else if (attribute == cudaMemPoolReuseAllowInternalDependencies) {
        int on = 0;
        memcpy(&on, value, sizeof on);
        pool->internal_dependencies = on != 0;
    }
    return cudaSuccess;
}

EXPORT cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes)
{
    CUDA_HOST_ENTER(pool->device);
    guard held;
    pool->reserved = std::max(pool->used, std::min(bytes, pool->reserved));
    return cudaSuccess;
}

EXPORT cudaError_t cudaMallocFromPoolAsync(void **memory, size_t bytes, cudaMemPool_t pool, cudaStream_t stream)
{
    int device = device_of(stream, __func__);
    CUDA_HOST_ENTER(device);
    if (bytes == 0) {
        return note(cudaErrorInvalidValue);
    }
    guard held;
    if (pool->internal_dependencies) {
        complain("%s: the pool may let the allocation wait for another stream (ReuseAllowInternalDependencies)", __func__);
    }
    void *made = nullptr;
    size_t others = reserved_of(device) - pool->reserved;
    if (others + pool->used + bytes > get_settings().memory_bytes || posix_memalign(&made, 512, bytes + guard_bytes()) != 0) {
        return note(cudaErrorMemoryAllocation);
    }
    memset((char *)made + bytes, GUARD_BYTE, guard_bytes());
    pool->used += bytes;
    pool->reserved = std::max(pool->used, pool->reserved);
    get_memory().allocations[(uintptr_t)made] = {bytes, pool, false};
    fill_work *fill = new fill_work();
    fill->to = made;
    fill->value = FRESH_BYTE;
    fill->bytes = std::min(bytes, FRESH_BYTES);
    submit(stream, __func__, fill);
    *memory = made;
    return cudaSuccess;
}

EXPORT cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream)
{
    int device = device_of(stream, __func__);
    CUDA_HOST_ENTER(device);
    guard held;
    auto &all = get_memory().allocations;
    auto found = all.find((uintptr_t)memory);
    if (found == all.end() || found->second.freeing) {
        complain("cudaFreeAsync of %p, which is %s", memory, found == all.end() ? "no allocation" : "freed already");
    }
    found->second.freeing = true;
    free_work *work = new free_work();
    work->memory = memory;
    submit(stream, __func__, work);
    return cudaSuccess;
}

/* ——— pinned memory ——— */

EXPORT cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned int)
{
    CUDA_HOST_ENTER(current_device);
    guard held;
    uintptr_t begin = (uintptr_t)memory;
    for (const auto &row : get_memory().pinned) {
        if (begin < row.first + row.second && row.first < begin + bytes) {
            return note(cudaErrorHostMemoryAlreadyRegistered);
        }
    }
    get_memory().pinned[begin] = bytes;
    return cudaSuccess;
}

EXPORT cudaError_t cudaHostUnregister(void *memory)
{
    guard held; /* whatever befalls the call: the host's memory goes soon, and may come again */
    size_t gone = get_memory().pinned.erase((uintptr_t)memory);
    return note(gone == 1 ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

/* ——— copies ——— */

EXPORT cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    int device = device_of(stream, __func__);
    CUDA_HOST_ENTER(device);
    if (bytes > 0) {
        copy_work copy;
        copy.to = (char *)to;
        copy.from = (const char *)from;
        copy.to_pitch = copy.from_pitch = copy.width = bytes;
        copy.height = 1;
        submit_copy(__func__, copy, kind, stream);
    }
    return cudaSuccess;
}

EXPORT cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                     size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    int device = device_of(stream, __func__);
    CUDA_HOST_ENTER(device);
    if (to_pitch < width || from_pitch < width || to_pitch > INT32_MAX || from_pitch > INT32_MAX) {
        return note(cudaErrorInvalidPitchValue);
    }
    if (width > 0 && height > 0) {
        copy_work copy;
        copy.to = (char *)to;
        copy.from = (const char *)from;
        copy.to_pitch = to_pitch;
        copy.from_pitch = from_pitch;
        copy.width = width;
        copy.height = height;
        submit_copy(__func__, copy, kind, stream);
    }
    return cudaSuccess;
}

EXPORT cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    int device = device_of(stream, __func__);
    CUDA_HOST_ENTER(device);
    guard held;
    if (bytes > 0) {
        check_range(__func__, to, bytes, true);
        fill_work *fill = new fill_work();
        fill->to = to;
        fill->value = value;
        fill->bytes = bytes;
        submit(stream, __func__, fill);
    }
    return cudaSuccess;
}
