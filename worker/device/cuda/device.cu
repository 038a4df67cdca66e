/* CUDA devices behind the device interface. */
#include "worker/device/cuda/internal.h"

#include <cstdio>
#include <cstring>

#include "core/base/version.h"

#define DEPTH_DEFAULT 64
#define PENDING_MAX 65536

/* The device is gone for this process: only a new one can use it again. */
static bool is_sticky(cudaError_t error)
{
    return error != cudaSuccess && error != cudaErrorMemoryAllocation && error != cudaErrorInvalidValue &&
           error != cudaErrorNotSupported && error != cudaErrorNotReady && error != cudaErrorHostMemoryAlreadyRegistered;
}

static enum tessi_status fail_cuda(struct tessi_error *error, enum tessi_status status, const char *what, cudaError_t code)
{
    (void)cudaGetLastError(); /* forget one that is not sticky */
    return tessi_fail(error, status, "%s: %s", what, cudaGetErrorString(code));
}

/* ——— devices ——— */

static uint32_t cuda_count(const struct tessi_device_options *, struct tessi_error *error)
{
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaErrorInsufficientDriver) {
        int runtime = 0;
        int driver = 0;
        (void)cudaRuntimeGetVersion(&runtime);
        (void)cudaDriverGetVersion(&driver);
        if (driver == 0) {
            (void)tessi_fail(error, TESSI_NOT_FOUND, "no NVIDIA driver is installed, so there are no GPUs to use");
            return 0;
        }
        (void)tessi_fail(error, TESSI_UNSUPPORTED,
                         "the NVIDIA driver is too old for CUDA %d.%d (it offers %d.%d): install a newer one to "
                         "use the GPUs",
                         runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
        return 0;
    }
    if (code != cudaSuccess || count <= 0) {
        (void)fail_cuda(error, TESSI_NOT_FOUND, "no GPU was found", code == cudaSuccess ? cudaErrorNoDevice : code);
        return 0;
    }
    return (uint32_t)count;
}

static enum tessi_status cuda_numerics(const struct tessi_device_options *options, char *text, size_t size,
                                       struct tessi_error *error)
{
    int major = 0;
    int minor = 0;
    int blas[3] = {0, 0, 0};
    int ordinal = (int)options->ordinal;
    cudaError_t code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
    code = code != cudaSuccess ? code : cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
    if (code != cudaSuccess) {
        return fail_cuda(error, TESSI_NOT_FOUND, "the GPU cannot be asked what it is", code);
    }
    if (major < 8) {
        return tessi_fail(error, TESSI_UNSUPPORTED,
                          "GPU %d has compute capability %d.%d: 8.0 (A100) or newer is needed; it stays unused", ordinal, major,
                          minor);
    }
    (void)cublasGetProperty(MAJOR_VERSION, &blas[0]);
    (void)cublasGetProperty(MINOR_VERSION, &blas[1]);
    (void)cublasGetProperty(PATCH_LEVEL, &blas[2]);
    (void)snprintf(text, size, "cuda%d%d.%d%02d%02d", major, minor, blas[0], blas[1], blas[2]);
    return TESSI_OK;
}

static void cuda_close(struct tessi_device *device)
{
    if (device == NULL) {
        return;
    }
    (void)cudaSetDevice(device->ordinal);
    if (device->memory_stream != NULL) {
        (void)cudaStreamSynchronize(device->memory_stream);
        (void)cudaStreamDestroy(device->memory_stream);
    }
    if (device->pool != NULL) {
        (void)cudaMemPoolDestroy(device->pool);
    }
    delete device;
}

static cudaError_t pool_create(struct tessi_device *device)
{
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = device->ordinal;
    TESSI_CUDA_TRY(cudaMemPoolCreate(&device->pool, &properties));
    /* What has been taken from the driver is kept: growing costs milliseconds. */
    uint64_t keep = UINT64_MAX;
    TESSI_CUDA_TRY(cudaMemPoolSetAttribute(device->pool, cudaMemPoolAttrReleaseThreshold, &keep));
    return cudaStreamCreateWithFlags(&device->memory_stream, cudaStreamNonBlocking);
}

static enum tessi_status cuda_open(const struct tessi_device_options *options, struct tessi_device **out,
                                   struct tessi_error *error)
{
    char numerics[64];
    struct tessi_device *device = NULL;
    enum tessi_status status = cuda_numerics(options, numerics, sizeof numerics, error);
    if (status != TESSI_OK) {
        return status;
    }
    device = new tessi_device();
    device->ordinal = (int)options->ordinal;
    cudaError_t code = cudaSetDevice(device->ordinal);
    code = code != cudaSuccess ? code : cudaGetDeviceProperties(&device->properties, device->ordinal);
    code = code != cudaSuccess ? code : cudaFree(NULL); /* makes the context */
    code = code != cudaSuccess ? code : pool_create(device);
    if (code != cudaSuccess) {
        status = fail_cuda(error, TESSI_IO, "the GPU cannot be opened", code);
        cuda_close(device);
        return status;
    }
    *out = device;
    return TESSI_OK;
}

static void cuda_memory(struct tessi_device *device, struct tessi_device_memory *memory)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    (void)cudaSetDevice(device->ordinal);
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    memory->total_bytes = total_bytes;
    memory->free_bytes = free_bytes;
}

/* Rough rates of the generations, for tensor cores where products use them. */
static void cuda_info(struct tessi_device *device, struct tessi_device_info *info)
{
    *info = {};
    (void)snprintf(info->name, sizeof info->name, "%.60s", device->properties.name);
    info->architecture = (uint32_t)(device->properties.major * 10 + device->properties.minor);
    bool hopper = device->properties.major >= 9;
    info->gflops_f64 = hopper ? 60e3 : 19e3;
    info->gflops_f32 = hopper ? 50e3 : 19e3;
    info->gflops_tf32 = hopper ? 400e3 : 150e3;
    info->gflops_half = hopper ? 850e3 : 300e3;
    info->memory_gb_s = hopper ? 4000 : 1500;
    info->copy_gb_s = hopper ? 50 : 25;
    info->flops_min = 4e6;
    info->bytes_min = 256 << 10;
}

static void cuda_gauges(struct tessi_device *device, struct tessi_device_gauges *gauges)
{
    tessi_cuda_gauges(device, gauges);
}

static bool cuda_supports(struct tessi_device *, const struct tessi_layer *layer)
{
    return tessi_cuda_supports(layer);
}

/* ——— memory ——— */

static enum tessi_status cuda_alloc(struct tessi_device *device, size_t bytes, void **memory, struct tessi_error *error)
{
    std::lock_guard<std::mutex> guard(device->memory_lock);
    (void)cudaSetDevice(device->ordinal);
    cudaError_t code = cudaMallocFromPoolAsync(memory, bytes > 0 ? bytes : 1, device->pool, device->memory_stream);
    /* The stream has nothing else in it, so this ends at once; then every stream may use the memory. */
    code = code != cudaSuccess ? code : cudaStreamSynchronize(device->memory_stream);
    if (code != cudaSuccess) {
        (void)cudaGetLastError();
        return tessi_fail(error, code == cudaErrorMemoryAllocation ? TESSI_NOMEM : TESSI_LOST,
                          "no memory on the GPU for %zu bytes: %s", bytes, cudaGetErrorString(code));
    }
    return TESSI_OK;
}

static void cuda_free(struct tessi_device *device, void *memory)
{
    if (memory != NULL) {
        std::lock_guard<std::mutex> guard(device->memory_lock);
        (void)cudaSetDevice(device->ordinal);
        (void)cudaFreeAsync(memory, device->memory_stream);
    }
}

static enum tessi_status cuda_pin(struct tessi_device *device, void *memory, size_t bytes, struct tessi_error *error)
{
    (void)cudaSetDevice(device->ordinal);
    cudaError_t code = cudaHostRegister(memory, bytes, cudaHostRegisterPortable);
    return code == cudaSuccess ? TESSI_OK : fail_cuda(error, TESSI_NOMEM, "host memory cannot be pinned", code);
}

static void cuda_unpin(struct tessi_device *device, void *memory)
{
    (void)cudaSetDevice(device->ordinal);
    (void)cudaHostUnregister(memory);
    (void)cudaGetLastError();
}

cudaError_t tessi_cuda_scratch(struct tessi_stream *stream, size_t bytes, void **memory)
{
    return cudaMallocFromPoolAsync(memory, bytes, stream->device->pool, stream->stream);
}

void tessi_cuda_scratch_free(struct tessi_stream *stream, void *memory)
{
    if (memory != NULL) {
        (void)cudaFreeAsync(memory, stream->stream);
    }
}

/* ——— streams ——— */

static void tell(struct tessi_stream *stream, tessi_pending *pending)
{
    enum tessi_status status = pending->status;
    float milliseconds = 0;
    cudaError_t code = pending->ended != NULL ? cudaEventSynchronize(pending->ended) : cudaSuccess;
    if (code != cudaSuccess) {
        status = TESSI_LOST;
        pending->text = cudaGetErrorString(code);
    } else if (pending->begun != NULL && pending->ended != NULL) {
        (void)cudaEventElapsedTime(&milliseconds, pending->begun, pending->ended);
    }
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        for (cudaEvent_t event : {pending->begun, pending->ended}) {
            if (event != NULL) {
                stream->spare.push_back(event);
            }
        }
    }
    if (pending->done != NULL) {
        pending->done(pending->context, status, status == TESSI_OK ? "" : pending->text.c_str(),
                      (int64_t)((double)milliseconds * 1e6));
    }
}

static void stream_main(struct tessi_stream *stream)
{
    (void)cudaSetDevice(stream->device->ordinal);
    std::unique_lock<std::mutex> guard(stream->lock);
    for (;;) {
        stream->filled.wait(guard, [&] { return !stream->pending.empty() || stream->closing; });
        if (stream->pending.empty()) {
            return;
        }
        tessi_pending pending = std::move(stream->pending.front());
        stream->pending.pop_front();
        guard.unlock();
        tell(stream, &pending);
        guard.lock();
    }
}

static enum tessi_status cuda_stream_open(struct tessi_device *device, const struct tessi_stream_options *options,
                                          struct tessi_stream **out, struct tessi_error *error)
{
    if (options->depth > PENDING_MAX) {
        return tessi_fail(error, TESSI_INVALID, "a stream of depth %u: at most %d", options->depth, PENDING_MAX);
    }
    struct tessi_stream *stream = new tessi_stream();
    stream->device = device;
    stream->depth = options->depth > 0 ? options->depth : DEPTH_DEFAULT;
    (void)cudaSetDevice(device->ordinal);
    cudaError_t code = cudaStreamCreateWithFlags(&stream->stream, cudaStreamNonBlocking);
    if (code != cudaSuccess) {
        delete stream;
        return fail_cuda(error, TESSI_NOMEM, "no stream on the GPU", code);
    }
    stream->thread = std::thread(stream_main, stream);
    *out = stream;
    return TESSI_OK;
}

static void cuda_stream_close(struct tessi_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        stream->closing = true;
    }
    stream->filled.notify_one();
    stream->thread.join();
    (void)cudaSetDevice(stream->device->ordinal);
    (void)cudaStreamSynchronize(stream->stream);
    if (stream->blas != NULL) {
        (void)cublasDestroy(stream->blas);
    }
    tessi_cuda_scratch_free(stream, stream->workspace);
    for (cudaEvent_t event : stream->spare) {
        (void)cudaEventDestroy(event);
    }
    (void)cudaStreamSynchronize(stream->stream);
    (void)cudaStreamDestroy(stream->stream);
    delete stream;
}

static cudaEvent_t event_take(struct tessi_stream *stream)
{
    std::lock_guard<std::mutex> guard(stream->lock);
    cudaEvent_t event = NULL;
    if (!stream->spare.empty()) {
        event = stream->spare.back();
        stream->spare.pop_back();
    } else {
        (void)cudaEventCreateWithFlags(&event, cudaEventBlockingSync);
    }
    return event;
}

/* False: too much waits. */
static bool begin(struct tessi_stream *stream, tessi_pending *pending, tessi_done_fn *done, void *context)
{
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        if (stream->pending.size() >= stream->depth) {
            return false;
        }
    }
    (void)cudaSetDevice(stream->device->ordinal);
    *pending = {};
    pending->begun = event_take(stream);
    pending->ended = event_take(stream);
    pending->done = done;
    pending->context = context;
    (void)cudaEventRecord(pending->begun, stream->stream);
    return true;
}

static void end(struct tessi_stream *stream, tessi_pending *pending, cudaError_t code, const std::string &text)
{
    if (code != cudaSuccess) {
        pending->status = is_sticky(code) ? TESSI_LOST : code == cudaErrorMemoryAllocation ? TESSI_NOMEM : TESSI_FAILED;
        pending->text = text.empty() ? cudaGetErrorString(code) : text;
        (void)cudaGetLastError();
    }
    (void)cudaEventRecord(pending->ended, stream->stream);
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        stream->pending.push_back(std::move(*pending));
    }
    stream->filled.notify_one();
}

static enum tessi_status cuda_launch(struct tessi_stream *stream, struct tessi_launch *launch)
{
    tessi_pending pending;
    if (launch->after_count != 0 || launch->prepare != NULL) {
        return TESSI_UNSUPPORTED;
    }
    if (!begin(stream, &pending, launch->done, launch->context)) {
        return TESSI_BUSY;
    }
    tessi_cuda_step step = {};
    step.stream = stream;
    step.call = &launch->call;
    step.layer = launch->call.layer;
    cudaError_t code = tessi_cuda_launch(&step);
    code = code != cudaSuccess ? code : cudaPeekAtLastError();
    end(stream, &pending, code, step.text);
    return TESSI_OK;
}

/* Every launch is with the driver already. */
static void cuda_kick(struct tessi_stream *)
{
}

static enum tessi_status cuda_copy_async(struct tessi_stream *stream, void *to, const void *from, size_t bytes,
                                         tessi_done_fn *done, void *context)
{
    if (done == NULL) { /* its failure is that of what follows */
        (void)cudaSetDevice(stream->device->ordinal);
        return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream->stream) == cudaSuccess ? TESSI_OK : TESSI_LOST;
    }
    tessi_pending pending;
    if (!begin(stream, &pending, done, context)) {
        return TESSI_BUSY;
    }
    cudaError_t code = bytes > 0 ? cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream->stream) : cudaSuccess;
    end(stream, &pending, code, "");
    return TESSI_OK;
}

/* ——— events ——— */

static enum tessi_status cuda_event_create(struct tessi_device *device, struct tessi_event **event,
                                           struct tessi_error *error)
{
    cudaEvent_t made;
    (void)cudaSetDevice(device->ordinal);
    cudaError_t code = cudaEventCreateWithFlags(&made, cudaEventDisableTiming | cudaEventBlockingSync);
    if (code != cudaSuccess) {
        return fail_cuda(error, TESSI_NOMEM, "no event on the GPU", code);
    }
    *event = (struct tessi_event *)made;
    return TESSI_OK;
}

static void cuda_event_destroy(struct tessi_event *event)
{
    if (event != NULL) {
        (void)cudaEventDestroy((cudaEvent_t)event);
    }
}

static enum tessi_status cuda_event_record(struct tessi_stream *stream, struct tessi_event *event)
{
    (void)cudaSetDevice(stream->device->ordinal);
    return cudaEventRecord((cudaEvent_t)event, stream->stream) == cudaSuccess ? TESSI_OK : TESSI_LOST;
}

static enum tessi_status cuda_stream_wait(struct tessi_stream *stream, struct tessi_event *event)
{
    (void)cudaSetDevice(stream->device->ordinal);
    return cudaStreamWaitEvent(stream->stream, (cudaEvent_t)event, 0) == cudaSuccess ? TESSI_OK : TESSI_LOST;
}

static bool cuda_event_query(struct tessi_event *event)
{
    return cudaEventQuery((cudaEvent_t)event) != cudaErrorNotReady;
}

static void cuda_event_wait(struct tessi_event *event)
{
    (void)cudaEventSynchronize((cudaEvent_t)event);
}

static struct tessi_device_kind make_kind()
{
    struct tessi_device_kind kind = {};
    kind.name = "cuda";
    kind.count = cuda_count;
    kind.numerics = cuda_numerics;
    kind.open = cuda_open;
    kind.close = cuda_close;
    kind.memory = cuda_memory;
    kind.info = cuda_info;
    kind.gauges = cuda_gauges;
    kind.supports = cuda_supports;
    kind.alloc = cuda_alloc;
    kind.free = cuda_free;
    kind.pin = cuda_pin;
    kind.unpin = cuda_unpin;
    kind.stream_open = cuda_stream_open;
    kind.stream_close = cuda_stream_close;
    kind.launch = cuda_launch;
    kind.kick = cuda_kick;
    kind.copy_async = cuda_copy_async;
    kind.event_create = cuda_event_create;
    kind.event_destroy = cuda_event_destroy;
    kind.event_record = cuda_event_record;
    kind.stream_wait = cuda_stream_wait;
    kind.event_query = cuda_event_query;
    kind.event_wait = cuda_event_wait;
    return kind;
}

static const struct tessi_device_kind kind = make_kind();

extern "C" __attribute__((visibility("default"))) const struct tessi_device_kind *tessi_cuda_plugin(const char *version,
                                                                                                   size_t kind_bytes)
{
    return strcmp(version, TESSI_VERSION) == 0 && kind_bytes == sizeof kind ? &kind : NULL;
}
