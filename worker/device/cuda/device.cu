/* CUDA devices behind the device interface. */
#include "worker/device/cuda/internal.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
#include "core/base/clock.h"
}
#include "core/base/version.h"

#define DEPTH_DEFAULT 64
#define PENDING_MAX 65536
#define BATCH_NS 200000 /* short launches share events for so long */
#define BATCH_MAX 16

/* Errors that came with CUDA 12.8 and 13. */
#define TESSI_CUDA_CONTAINED 226
#define TESSI_CUDA_TENSOR_MEMORY_LEAK 721
#define TESSI_CUDA_EXTERNAL_DEVICE 911

/* After these, by CUDA's manual, every call fails the same way until the process is started again, or (the last four rows)
 * what the device holds is in doubt. No other error says anything about the device. */
bool tessi_cuda_is_lost(cudaError_t error)
{
    switch ((int)error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorMpsClientTerminated:
    case TESSI_CUDA_CONTAINED:
    case TESSI_CUDA_TENSOR_MEMORY_LEAK:
    case TESSI_CUDA_EXTERNAL_DEVICE:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorCudartUnloading:
        return true;
    default:
        return false;
    }
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

static bool environment_changes_products()
{
    for (const char *name : {"NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION",
                             "CUBLAS_EMULATION_STRATEGY"}) {
        if (getenv(name) != NULL) {
            return true;
        }
    }
    return false;
}

static __global__ void break_device()
{
    __trap();
}

/* Whether a worker could open it: said before the worker offers to compute on it. Makes the context. */
static enum tessi_status try_device(int ordinal, struct tessi_error *error)
{
    cudaFuncAttributes probe;
    int pools = 0;
    cudaError_t code = cudaSetDevice(ordinal);
    code = code != cudaSuccess ? code : cudaFree(NULL);
    code = code != cudaSuccess ? code : cudaFuncGetAttributes(&probe, break_device);
    if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction ||
        code == cudaErrorUnsupportedPtxVersion) {
        return fail_cuda(error, TESSI_UNSUPPORTED, "the CUDA plugin was not built for this GPU (cuda_archs of the build)", code);
    }
    code = code != cudaSuccess ? code : cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, ordinal);
    if (code == cudaSuccess && pools == 0) {
        code = cudaErrorNotSupported;
    }
    return code == cudaSuccess ? TESSI_OK : fail_cuda(error, TESSI_UNSUPPORTED, "the GPU cannot be used", code);
}

static enum tessi_status cuda_numerics(const struct tessi_device_options *options, char *text, size_t size,
                                       struct tessi_error *error)
{
    int major = 0;
    int minor = 0;
    int processors = 0;
    int blas[3] = {0, 0, 0};
    int ordinal = (int)options->ordinal;
    cudaError_t code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
    code = code != cudaSuccess ? code : cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal);
    code = code != cudaSuccess ? code : cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, ordinal);
    if (code != cudaSuccess) {
        return fail_cuda(error, TESSI_NOT_FOUND, "the GPU cannot be asked what it is", code);
    }
    if (major < 8) {
        return tessi_fail(error, TESSI_UNSUPPORTED,
                          "GPU %d has compute capability %d.%d: 8.0 (A100) or newer is needed; it stays unused", ordinal,
                          major, minor);
    }
    enum tessi_status status = try_device(ordinal, error);
    if (status != TESSI_OK) {
        return status;
    }
    (void)cublasGetProperty(MAJOR_VERSION, &blas[0]);
    (void)cublasGetProperty(MINOR_VERSION, &blas[1]);
    (void)cublasGetProperty(PATCH_LEVEL, &blas[2]);
    /* cuBLAS chooses its kernels by the number of multiprocessors too, and lets the environment change what they
     * compute in. */
    (void)snprintf(text, size, "cuda%d%d.%d%02d%02d.%d%s", major, minor, blas[0], blas[1], blas[2], processors,
                   environment_changes_products() ? "e" : "");
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
    for (cudaLibrary_t library : device->libraries) {
        (void)cudaLibraryUnload(library);
    }
    (void)cudaGetLastError();
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
    /* Nor may an allocation wait for another stream: the worker's loop makes it. */
    int wait = 0;
    TESSI_CUDA_TRY(cudaMemPoolSetAttribute(device->pool, cudaMemPoolReuseAllowInternalDependencies, &wait));
    return cudaStreamCreateWithFlags(&device->memory_stream, cudaStreamNonBlocking);
}

/* "trap=40,refuse=7": the fortieth launch breaks the device, every seventh allocation is refused. For tests. */
static enum tessi_status read_faults(struct tessi_device *device, struct tessi_error *error)
{
    const char *text = getenv("TESSERA_CUDA_FAULTS");
    for (const char *at = text; at != NULL && *at != 0;) {
        char *end = NULL;
        bool trap = strncmp(at, "trap=", 5) == 0;
        bool refuse = strncmp(at, "refuse=", 7) == 0;
        bool starve = strncmp(at, "starve=", 7) == 0;
        uint64_t number = trap || refuse || starve ? strtoull(at + (trap ? 5 : 7), &end, 10) : 0;
        if (number == 0 || end == NULL || (*end != 0 && *end != ',')) {
            return tessi_fail(error, TESSI_INVALID,
                              "TESSERA_CUDA_FAULTS '%.80s': give trap=N, refuse=N, starve=N with commas", text);
        }
        (trap ? device->trap_at : refuse ? device->refuse_every : device->starve_every) = number;
        at = *end == ',' ? end + 1 : end;
    }
    return TESSI_OK;
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
    status = read_faults(device, error);
    if (status != TESSI_OK) {
        delete device;
        return status;
    }
    cudaError_t code = cudaSetDevice(device->ordinal);
    code = code != cudaSuccess ? code : cudaGetDeviceProperties(&device->properties, device->ordinal);
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
static void fill_info(const cudaDeviceProp *properties, struct tessi_device_info *info)
{
    *info = {};
    (void)snprintf(info->name, sizeof info->name, "%.60s", properties->name);
    info->architecture = (uint32_t)(properties->major * 10 + properties->minor);
    bool hopper = properties->major >= 9;
    info->gflops_f64 = hopper ? 60e3 : 19e3;
    info->gflops_f32 = hopper ? 50e3 : 19e3;
    info->gflops_tf32 = hopper ? 400e3 : 150e3;
    info->gflops_half = hopper ? 850e3 : 300e3;
    info->memory_gb_s = hopper ? 4000 : 1500;
    info->copy_gb_s = hopper ? 50 : 25;
    bool small = getenv("TESSERA_CUDA_SMALL") != NULL; /* for tests: no task is too small */
    info->flops_min = small ? 0 : 4e6;
    info->bytes_min = small ? 0 : 256 << 10;
}

static void cuda_info(struct tessi_device *device, struct tessi_device_info *info)
{
    fill_info(&device->properties, info);
}

/* Without a context, which takes time and memory: how much of the memory is free is not known. */
static enum tessi_status cuda_describe(const struct tessi_device_options *options, struct tessi_device_info *info,
                                       struct tessi_device_memory *memory, struct tessi_error *error)
{
    cudaDeviceProp properties;
    cudaError_t code = cudaGetDeviceProperties(&properties, (int)options->ordinal);
    if (code != cudaSuccess) {
        return fail_cuda(error, TESSI_NOT_FOUND, "the GPU cannot be asked what it is", code);
    }
    fill_info(&properties, info);
    memory->total_bytes = memory->free_bytes = properties.totalGlobalMem;
    return TESSI_OK;
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

/* The stream has nothing else in it, so it is empty at once; then every stream may use the memory. */
static cudaError_t pool_alloc(struct tessi_device *device, size_t bytes, void **memory)
{
    bool refused = device->refuse_every > 0 && ++device->allocations % device->refuse_every == 0;
    cudaError_t code = refused ? cudaErrorMemoryAllocation
                               : cudaMallocFromPoolAsync(memory, bytes, device->pool, device->memory_stream);
    if (code == cudaSuccess) {
        code = tessi_cuda_persist([&] { return cudaStreamSynchronize(device->memory_stream); });
        if (code != cudaSuccess) {
            (void)cudaFreeAsync(*memory, device->memory_stream);
        }
    }
    return code;
}

static enum tessi_status cuda_alloc(struct tessi_device *device, size_t bytes, void **memory, struct tessi_error *error)
{
    std::lock_guard<std::mutex> guard(device->memory_lock);
    (void)cudaSetDevice(device->ordinal);
    cudaError_t code = pool_alloc(device, bytes > 0 ? bytes : 1, memory);
    if (code != cudaSuccess && !tessi_cuda_is_lost(code)) {
        /* What was freed lately may not be back yet, and what is whole but in pieces can be mapped anew. */
        (void)cudaGetLastError();
        (void)cudaStreamSynchronize(device->memory_stream);
        (void)cudaMemPoolTrimTo(device->pool, 0);
        code = pool_alloc(device, bytes > 0 ? bytes : 1, memory);
    }
    if (code != cudaSuccess) {
        *memory = NULL;
        (void)cudaGetLastError();
        return tessi_fail(error, tessi_cuda_is_lost(code) ? TESSI_LOST : TESSI_NOMEM,
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
    cudaError_t code = cudaMallocFromPoolAsync(memory, bytes, stream->device->pool, stream->stream);
    if (code != cudaSuccess && !tessi_cuda_is_lost(code)) {
        (void)cudaGetLastError();
        (void)cudaMemPoolTrimTo(stream->device->pool, 0);
        code = cudaMallocFromPoolAsync(memory, bytes, stream->device->pool, stream->stream);
    }
    if (code != cudaSuccess) {
        *memory = NULL;
    }
    return code;
}

void tessi_cuda_scratch_free(struct tessi_stream *stream, void *memory)
{
    if (memory != NULL) {
        (void)cudaFreeAsync(memory, stream->stream);
    }
}

/* ——— streams ——— */

/* When `event`, which has been reached, was reached on the monotonic clock. */
static int64_t reached_ns(struct tessi_stream *stream, cudaEvent_t event, bool waited)
{
    int64_t now = tessi_clock_now();
    float since = 0; /* milliseconds */
    bool known = !waited && stream->mark != NULL && cudaEventElapsedTime(&since, stream->mark, event) == cudaSuccess;
    int64_t at = known ? stream->mark_ns + (int64_t)((double)since * 1e6) : now;
    return at < now ? at : now;
}

/* The event is kept for a while as what others are measured from: floats of milliseconds stay exact over short times. */
static void move_mark(struct tessi_stream *stream, tessi_pending *pending, int64_t at)
{
    std::swap(stream->mark, pending->ended);
    stream->mark_ns = at;
}

static void tell(struct tessi_stream *stream, tessi_pending *pending)
{
    float milliseconds = 0;
    bool waited = cudaEventQuery(pending->ended) == cudaErrorNotReady;
    cudaError_t code = tessi_cuda_persist([&] { return cudaEventSynchronize(pending->ended); });
    size_t count = pending->entries.size();
    int64_t each_ns = 0;
    int64_t begun_ns = 0;
    if (code == cudaSuccess) {
        (void)cudaEventElapsedTime(&milliseconds, pending->begun, pending->ended);
        int64_t ended_ns = reached_ns(stream, pending->ended, waited);
        each_ns = (int64_t)((double)milliseconds * 1e6 / (double)count);
        begun_ns = ended_ns - each_ns * (int64_t)count;
        move_mark(stream, pending, ended_ns);
    }
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        stream->waiting -= (uint32_t)count;
        stream->launch_ns = pending->launches ? (stream->launch_ns * 3 + each_ns) / 4 : stream->launch_ns;
        for (cudaEvent_t event : {pending->begun, pending->ended}) {
            if (event != NULL) {
                stream->spare.push_back(event);
            }
        }
    }
    for (tessi_entry &entry : pending->entries) {
        enum tessi_status status = code != cudaSuccess ? TESSI_LOST : entry.status;
        const char *text = code != cudaSuccess ? cudaGetErrorString(code) : status == TESSI_OK ? "" : entry.text.c_str();
        if (entry.launch != NULL) {
            entry.launch->started_ns = begun_ns;
        }
        begun_ns += each_ns;
        if (entry.done != NULL) {
            entry.done(entry.context, status, text, each_ns);
        }
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

static cudaEvent_t event_take(struct tessi_stream *stream)
{
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        while (!stream->spare.empty()) {
            cudaEvent_t event = stream->spare.back();
            stream->spare.pop_back();
            if (event != NULL) {
                return event;
            }
        }
    }
    cudaEvent_t event = NULL;
    cudaError_t code = tessi_cuda_persist([&] { return cudaEventCreateWithFlags(&event, cudaEventBlockingSync); });
    return code == cudaSuccess ? event : NULL;
}

static cudaError_t event_note(cudaEvent_t event, cudaStream_t stream)
{
    return tessi_cuda_persist([&] { return cudaEventRecord(event, stream); });
}

/* A batch begins: what comes until `batch_close` shares two events. BUSY: too much waits. */
static enum tessi_status batch_open(struct tessi_stream *stream)
{
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        if (stream->waiting >= stream->depth) {
            return TESSI_BUSY;
        }
        stream->waiting++;
    }
    (void)cudaSetDevice(stream->device->ordinal);
    if (!stream->batch.entries.empty()) {
        return TESSI_OK;
    }
    stream->batch = {};
    stream->batch.begun = event_take(stream);
    stream->batch.ended = event_take(stream);
    if (stream->batch.begun == NULL || stream->batch.ended == NULL ||
        event_note(stream->batch.begun, stream->stream) != cudaSuccess) {
        std::lock_guard<std::mutex> guard(stream->lock);
        stream->spare.push_back(stream->batch.begun); /* `close` destroys what is not NULL of them */
        stream->spare.push_back(stream->batch.ended);
        stream->batch = {};
        stream->waiting--;
        return TESSI_LOST;
    }
    return TESSI_OK;
}

static void batch_add(struct tessi_stream *stream, cudaError_t code, const std::string &text, tessi_done_fn *done,
                      void *context, struct tessi_launch *launch)
{
    tessi_entry entry = {};
    if (code != cudaSuccess) {
        entry.status = tessi_cuda_is_lost(code)              ? TESSI_LOST
                       : code == cudaErrorMemoryAllocation ? TESSI_NOMEM
                       : code == cudaErrorNotSupported     ? TESSI_FAILED
                                                           : TESSI_BUSY;
        entry.text = text.empty() ? cudaGetErrorString(code) : text;
        (void)cudaGetLastError();
    }
    entry.done = done;
    entry.context = context;
    entry.launch = launch;
    stream->batch.entries.push_back(std::move(entry));
}

static void batch_close(struct tessi_stream *stream)
{
    if (stream->batch.entries.empty()) {
        return;
    }
    (void)cudaSetDevice(stream->device->ordinal);
    /* An event that was not recorded is one that has been reached: its work has not been waited for then. */
    if (event_note(stream->batch.ended, stream->stream) != cudaSuccess) {
        (void)cudaStreamSynchronize(stream->stream);
        for (tessi_entry &entry : stream->batch.entries) {
            entry.status = TESSI_LOST;
            entry.text = "the end of an operation cannot be noted";
        }
    }
    {
        std::lock_guard<std::mutex> guard(stream->lock);
        stream->pending.push_back(std::move(stream->batch));
    }
    stream->batch = {};
    stream->filled.notify_one();
}

/* Short launches share events, so that an event costs little a launch; long ones are told of one by one. */
static bool batch_full(struct tessi_stream *stream)
{
    std::lock_guard<std::mutex> guard(stream->lock);
    int64_t most = stream->launch_ns > 0 ? BATCH_NS / stream->launch_ns : 1;
    return (int64_t)stream->batch.entries.size() >= (most < BATCH_MAX ? most : BATCH_MAX);
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
    batch_close(stream);
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
    stream->spare.push_back(stream->mark);
    for (cudaEvent_t event : stream->spare) {
        if (event != NULL) {
            (void)cudaEventDestroy(event);
        }
    }
    (void)cudaStreamSynchronize(stream->stream);
    (void)cudaStreamDestroy(stream->stream);
    delete stream;
}

/* The call fails or breaks the device where a test has asked for that. */
static cudaError_t forced_fault(struct tessi_stream *stream)
{
    struct tessi_device *device = stream->device;
    uint64_t number = device->launches.fetch_add(1) + 1;
    if (device->trap_at > 0 && number == device->trap_at) {
        (void)tessi_cuda_run(stream->stream, 1, 1, break_device);
    }
    return device->starve_every > 0 && number % device->starve_every == 0 ? cudaErrorMemoryAllocation : cudaSuccess;
}

static enum tessi_status cuda_launch(struct tessi_stream *stream, struct tessi_launch *launch)
{
    if (launch->after_count != 0 || launch->prepare != NULL) {
        return TESSI_UNSUPPORTED;
    }
    enum tessi_status status = batch_open(stream);
    if (status != TESSI_OK) {
        return status;
    }
    tessi_cuda_step step = {};
    step.stream = stream;
    step.call = &launch->call;
    step.layer = launch->call.layer;
    cudaError_t code = forced_fault(stream);
    code = code != cudaSuccess ? code : tessi_cuda_launch(&step);
    stream->batch.launches = true;
    batch_add(stream, code, step.text, launch->done, launch->context, launch);
    if (batch_full(stream)) {
        batch_close(stream);
    }
    return TESSI_OK;
}

/* Every launch is with the driver already: what is missing is the note of their end. */
static void cuda_kick(struct tessi_stream *stream)
{
    batch_close(stream);
}

static cudaError_t copy_bytes(struct tessi_stream *stream, void *to, const void *from, size_t bytes)
{
    return tessi_cuda_persist([&] { return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream->stream); });
}

static enum tessi_status cuda_copy_async(struct tessi_stream *stream, void *to, const void *from, size_t bytes,
                                         tessi_done_fn *done, void *context)
{
    batch_close(stream);
    if (done == NULL) { /* its failure is that of what follows */
        (void)cudaSetDevice(stream->device->ordinal);
        return copy_bytes(stream, to, from, bytes) == cudaSuccess ? TESSI_OK : TESSI_LOST;
    }
    enum tessi_status status = batch_open(stream);
    if (status != TESSI_OK) {
        return status;
    }
    cudaError_t code = bytes > 0 ? copy_bytes(stream, to, from, bytes) : cudaSuccess;
    batch_add(stream, code, "", done, context, NULL);
    batch_close(stream);
    return TESSI_OK;
}

/* ——— events ——— */

static enum tessi_status cuda_event_create(struct tessi_device *device, struct tessi_event **event,
                                           struct tessi_error *error)
{
    cudaEvent_t made = NULL;
    (void)cudaSetDevice(device->ordinal);
    cudaError_t code = tessi_cuda_persist(
        [&] { return cudaEventCreateWithFlags(&made, cudaEventDisableTiming | cudaEventBlockingSync); });
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
    return event_note((cudaEvent_t)event, stream->stream) == cudaSuccess ? TESSI_OK : TESSI_LOST;
}

static enum tessi_status cuda_stream_wait(struct tessi_stream *stream, struct tessi_event *event)
{
    batch_close(stream); /* the wait is no part of what a launch takes */
    (void)cudaSetDevice(stream->device->ordinal);
    cudaError_t code = tessi_cuda_persist([&] { return cudaStreamWaitEvent(stream->stream, (cudaEvent_t)event, 0); });
    return code == cudaSuccess ? TESSI_OK : TESSI_LOST;
}

static bool cuda_event_query(struct tessi_event *event)
{
    cudaError_t code = cudaEventQuery((cudaEvent_t)event);
    return code == cudaSuccess || tessi_cuda_is_lost(code); /* a query that fails has not said that it is reached */
}

static void cuda_event_wait(struct tessi_event *event)
{
    (void)tessi_cuda_persist([&] { return cudaEventSynchronize((cudaEvent_t)event); });
}

static struct tessi_device_kind make_kind()
{
    struct tessi_device_kind kind = {};
    kind.name = "cuda";
    kind.count = cuda_count;
    kind.numerics = cuda_numerics;
    kind.describe = cuda_describe;
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
