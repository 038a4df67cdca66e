/* The emulated device: the CPU's streams and kernels behind another address space. */
#include "worker/device/emulated/emulated.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "worker/device/cpu/cpu.h"

#define ALIGNMENT 512
#define LOOK_NS INT64_C(10000000) /* utilisation is that of at least so long */
#define IDLE_WATTS 50.0
#define PROCESSOR_GFLOPS 40.0 /* nominal */
#define BUSY_WATTS 200.0

struct parameters {
    uint64_t small, count, memory, hidden, copy, latency_us, refuse, break_after, starve;
    double compute;
};

struct span { /* of the device's memory, in the order of addresses */
    uint64_t offset, bytes;
    bool used;
};

struct tessi_device {
    struct parameters parameters;
    void *processor; /* a device of the CPU kind: the type's name is taken here */
    unsigned char *addresses; /* what the outside sees: no access */
    unsigned char *bytes;     /* the same memory, for kernels and copies */
    pthread_mutex_t lock;
    struct span *spans;
    size_t span_count, span_capacity;
    uint64_t used_bytes, allocations;
    atomic_uint_fast64_t launches, busy_ns;
    int64_t opened_ns, looked_ns; /* the latter and what follows: under the lock */
    uint64_t looked_busy_ns;
    double utilisation;
    atomic_bool broken;
};

struct tessi_stream {
    struct tessi_device *device;
    void *stream; /* of the CPU kind */
};

struct pending { /* a launch or copy on its way */
    struct tessi_launch launching; /* what the processor's stream runs */
    struct tessi_device *device;
    tessi_done_fn *done;
    void *context;
    uint64_t bytes;
    int64_t start_ns;
    uint64_t number; /* of the launch at its device, from 1 */
    bool launch;
};

/* ——— the spec ——— */

static bool parse_number(const char *text, double *number)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}};
    char *end;
    *number = strtod(text, &end);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (end != text && strcmp(end, units[i].unit) == 0) {
            *number *= units[i].factor;
            return *number >= 0 && *number < 0x1p60;
        }
    }
    return false;
}

static bool take_setting(struct parameters *parameters, const char *key, double number)
{
    const struct {
        const char *key;
        uint64_t *value;
    } rows[] = {{"count", &parameters->count},   {"memory", &parameters->memory},      {"hidden", &parameters->hidden},
                {"copy", &parameters->copy},     {"latency", &parameters->latency_us}, {"refuse", &parameters->refuse},
                {"break", &parameters->break_after}, {"starve", &parameters->starve},
                {"small", &parameters->small}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(key, rows[i].key) == 0) {
            *rows[i].value = (uint64_t)number;
            return true;
        }
    }
    parameters->compute = number;
    return strcmp(key, "compute") == 0 && number > 0;
}

static enum tessi_status parse_spec(const char *spec, struct parameters *parameters, struct tessi_error *error)
{
    *parameters = (struct parameters){.count = 1, .memory = UINT64_C(256) << 20, .compute = 1};
    char *copy = tessi_strdup(spec != NULL ? spec : "");
    enum tessi_status status = TESSI_OK;
    char *rest = copy;
    for (char *item = strsep(&rest, ","); item != NULL && status == TESSI_OK; item = strsep(&rest, ",")) {
        char *value = strchr(item, '=');
        double number = 0;
        if (*item == 0) {
            continue;
        }
        if (value != NULL) {
            *value++ = 0;
        }
        if (value == NULL || !parse_number(value, &number) || !take_setting(parameters, item, number)) {
            status = tessi_fail(error, TESSI_INVALID,
                                "emulated device: '%.60s=%.60s' is no setting: give count, memory, hidden, copy, latency, "
                                "compute, small, refuse, starve or break with a number",
                                item, value != NULL ? value : "");
        }
    }
    tessi_free(copy);
    return status;
}

/* ——— memory ——— */

static enum tessi_status map_memory(struct tessi_device *device, struct tessi_error *error)
{
    size_t bytes = device->parameters.memory;
    int file = memfd_create("emulated-device", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)bytes) != 0) {
        if (file >= 0) {
            (void)close(file);
        }
        return tessi_fail(error, TESSI_NOMEM, "an emulated device of %zu bytes: %s", bytes, strerror(errno));
    }
    void *addresses = mmap(NULL, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    (void)close(file);
    device->addresses = addresses != MAP_FAILED ? addresses : NULL;
    device->bytes = memory != MAP_FAILED ? memory : NULL;
    if (device->addresses == NULL || device->bytes == NULL) {
        return tessi_fail(error, TESSI_NOMEM, "no addresses for an emulated device of %zu bytes: %s", bytes,
                          strerror(errno));
    }
    return TESSI_OK;
}

static bool is_ours(const struct tessi_device *device, const void *memory)
{
    uintptr_t at = (uintptr_t)memory;
    uintptr_t first = (uintptr_t)device->addresses;
    return at >= first && at < first + device->parameters.memory;
}

/* The bytes behind a device address; a host address is itself. */
static void *reach(const struct tessi_device *device, const void *memory)
{
    return is_ours(device, memory) ? device->bytes + ((uintptr_t)memory - (uintptr_t)device->addresses)
                                   : (void *)(uintptr_t)memory;
}

static void span_insert(struct tessi_device *device, size_t at, struct span span)
{
    tessi_grow(&device->spans, &device->span_capacity, device->span_count + 1, sizeof span);
    memmove(device->spans + at + 1, device->spans + at, (device->span_count - at) * sizeof span);
    device->spans[at] = span;
    device->span_count++;
}

static void span_remove(struct tessi_device *device, size_t at)
{
    device->span_count--;
    memmove(device->spans + at, device->spans + at + 1, (device->span_count - at) * sizeof *device->spans);
}

/* The smallest hole that is long enough. */
static size_t find_hole(const struct tessi_device *device, uint64_t bytes)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < device->span_count; i++) {
        const struct span *span = &device->spans[i];
        if (!span->used && span->bytes >= bytes && (best == SIZE_MAX || span->bytes < device->spans[best].bytes)) {
            best = i;
        }
    }
    return best;
}

static enum tessi_status emulated_alloc(struct tessi_device *device, size_t bytes, void **memory,
                                        struct tessi_error *error)
{
    uint64_t need = ((uint64_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    need = need > 0 ? need : ALIGNMENT;
    (void)pthread_mutex_lock(&device->lock);
    const struct parameters *parameters = &device->parameters;
    bool refused = parameters->refuse > 0 && ++device->allocations % parameters->refuse == 0;
    size_t at = refused ? SIZE_MAX : find_hole(device, need);
    bool hidden = device->used_bytes + need + parameters->hidden > parameters->memory;
    if (at != SIZE_MAX && !hidden && !atomic_load(&device->broken)) {
        struct span hole = device->spans[at];
        device->spans[at] = (struct span){hole.offset, need, true};
        if (hole.bytes > need) {
            span_insert(device, at + 1, (struct span){hole.offset + need, hole.bytes - need, false});
        }
        device->used_bytes += need;
        *memory = device->addresses + hole.offset;
        at = SIZE_MAX - 1;
    } else {
        at = SIZE_MAX;
    }
    (void)pthread_mutex_unlock(&device->lock);
    return at != SIZE_MAX ? TESSI_OK
                          : tessi_fail(error, TESSI_NOMEM, "no memory on the emulated device for %zu bytes", bytes);
}

static void emulated_free(struct tessi_device *device, void *memory)
{
    if (memory == NULL) {
        return;
    }
    TESS_ASSERT(is_ours(device, memory));
    uint64_t offset = (uint64_t)((unsigned char *)memory - device->addresses);
    (void)pthread_mutex_lock(&device->lock);
    size_t at = 0;
    while (at < device->span_count && device->spans[at].offset < offset) {
        at++;
    }
    TESS_ASSERT(at < device->span_count && device->spans[at].offset == offset && device->spans[at].used);
    device->used_bytes -= device->spans[at].bytes;
    device->spans[at].used = false;
    if (at + 1 < device->span_count && !device->spans[at + 1].used) {
        device->spans[at].bytes += device->spans[at + 1].bytes;
        span_remove(device, at + 1);
    }
    if (at > 0 && !device->spans[at - 1].used) {
        device->spans[at - 1].bytes += device->spans[at].bytes;
        span_remove(device, at);
    }
    (void)pthread_mutex_unlock(&device->lock);
}

/* ——— the device ——— */

static uint32_t emulated_count(const struct tessi_device_options *options, struct tessi_error *error)
{
    struct parameters parameters;
    return parse_spec(options->spec, &parameters, error) == TESSI_OK ? (uint32_t)parameters.count : 0;
}

/* Its kernels are the processor's, so its bits need no name but one that tells that it is there. */
static enum tessi_status emulated_numerics(const struct tessi_device_options *options, char *text, size_t size,
                                           struct tessi_error *error)
{
    (void)options;
    (void)error;
    (void)snprintf(text, size, "emulated");
    return TESSI_OK;
}

static void emulated_close(struct tessi_device *device)
{
    if (device == NULL) {
        return;
    }
    tessi_device_cpu.close(device->processor);
    if (device->addresses != NULL) {
        (void)munmap(device->addresses, device->parameters.memory);
    }
    if (device->bytes != NULL) {
        (void)munmap(device->bytes, device->parameters.memory);
    }
    (void)pthread_mutex_destroy(&device->lock);
    tessi_free(device->spans);
    tessi_free(device);
}

static enum tessi_status emulated_open(const struct tessi_device_options *options, struct tessi_device **out,
                                       struct tessi_error *error)
{
    struct parameters parameters;
    enum tessi_status status = parse_spec(options->spec, &parameters, error);
    if (status != TESSI_OK) {
        return status;
    }
    if (options->ordinal >= parameters.count || parameters.memory < ALIGNMENT) {
        return tessi_fail(error, TESSI_NOT_FOUND, "there is no emulated device %u: the machine has %u", options->ordinal,
                          (uint32_t)parameters.count);
    }
    struct tessi_device *device = tessi_zalloc(sizeof *device);
    (void)pthread_mutex_init(&device->lock, NULL);
    device->parameters = parameters;
    device->parameters.memory = parameters.memory / ALIGNMENT * ALIGNMENT;
    struct tessi_device *processor = NULL;
    TESSI_TRY(map_memory(device, error));
    TESSI_TRY(tessi_device_cpu.open(&(struct tessi_device_options){.blas_family = options->blas_family}, &processor, error));
    device->processor = processor;
    device->opened_ns = device->looked_ns = tessi_clock_now();
    span_insert(device, 0, (struct span){0, device->parameters.memory, false});
    *out = device;
    return TESSI_OK;
cleanup:
    emulated_close(device);
    return status;
}

static void emulated_memory(struct tessi_device *device, struct tessi_device_memory *memory)
{
    (void)pthread_mutex_lock(&device->lock);
    memory->total_bytes = device->parameters.memory;
    memory->free_bytes = device->parameters.memory - device->used_bytes;
    (void)pthread_mutex_unlock(&device->lock);
}

static void fill_info(const struct parameters *parameters, struct tessi_device_info *info)
{
    double small = (double)parameters->small;
    double compute = parameters->compute < 1 ? parameters->compute : 1;
    *info = (struct tessi_device_info){.gflops_f64 = PROCESSOR_GFLOPS * compute,
                                       .copy_gb_s = (double)parameters->copy * 1e-9,
                                       .flops_min = small,
                                       .bytes_min = small};
    (void)snprintf(info->name, sizeof info->name, "emulated device");
}

static void emulated_info(struct tessi_device *device, struct tessi_device_info *info)
{
    fill_info(&device->parameters, info);
}

static enum tessi_status emulated_describe(const struct tessi_device_options *options, struct tessi_device_info *info,
                                           struct tessi_device_memory *memory, struct tessi_error *error)
{
    struct parameters parameters;
    enum tessi_status status = parse_spec(options->spec, &parameters, error);
    if (status == TESSI_OK) {
        fill_info(&parameters, info);
        memory->total_bytes = memory->free_bytes = parameters.memory;
    }
    return status;
}

static void emulated_gauges(struct tessi_device *device, struct tessi_device_gauges *gauges)
{
    int64_t now_ns = tessi_clock_now();
    uint64_t busy_ns = atomic_load(&device->busy_ns);
    (void)pthread_mutex_lock(&device->lock);
    if (now_ns - device->looked_ns >= LOOK_NS) {
        double busy = (double)(busy_ns - device->looked_busy_ns) / (double)(now_ns - device->looked_ns);
        device->utilisation = busy < 1 ? busy : 1;
        device->looked_ns = now_ns;
        device->looked_busy_ns = busy_ns;
    }
    gauges->utilisation = device->utilisation;
    gauges->memory_used_bytes = (int64_t)(device->used_bytes + device->parameters.hidden);
    (void)pthread_mutex_unlock(&device->lock);
    gauges->watts = IDLE_WATTS + BUSY_WATTS * gauges->utilisation;
    gauges->joules = (IDLE_WATTS * (double)(now_ns - device->opened_ns) + BUSY_WATTS * (double)busy_ns) * 1e-9;
}

static bool emulated_supports(struct tessi_device *device, const struct tessi_layer *layer)
{
    (void)device;
    return tessi_op_row(layer->op)->devices != TESSI_DEVICES_NONE;
}

static enum tessi_status emulated_pin(struct tessi_device *device, void *memory, size_t bytes, struct tessi_error *error)
{
    (void)error;
    TESS_ASSERT(bytes > 0 && !is_ours(device, memory));
    return TESSI_OK;
}

static void emulated_unpin(struct tessi_device *device, void *memory)
{
    TESS_ASSERT(memory != NULL && !is_ours(device, memory));
}

/* ——— streams ——— */

static enum tessi_status emulated_stream_open(struct tessi_device *device, const struct tessi_stream_options *options,
                                              struct tessi_stream **out, struct tessi_error *error)
{
    struct tessi_stream *inner = NULL;
    enum tessi_status status = tessi_device_cpu.stream_open(device->processor, options, &inner, error);
    if (status == TESSI_OK) {
        *out = tessi_zalloc(sizeof **out);
        (*out)->device = device;
        (*out)->stream = inner;
    }
    return status;
}

static void emulated_stream_close(struct tessi_stream *stream)
{
    if (stream != NULL) {
        tessi_device_cpu.stream_close(stream->stream);
        tessi_free(stream);
    }
}

static void pause_ns(int64_t ns)
{
    struct timespec pause = {.tv_sec = (time_t)(ns / TESSI_NS_PER_S), .tv_nsec = (long)(ns % TESSI_NS_PER_S)};
    while (ns > 0 && nanosleep(&pause, &pause) != 0 && errno == EINTR) {
    }
}

/* The stream's own clock would count the pause of the launch before. A launch that is to find no memory does nothing. */
static enum tessi_status on_start(void *context, struct tessi_kernel_call *call, struct tessi_error *error)
{
    struct pending *pending = context;
    struct tessi_device *device = pending->device;
    (void)call;
    pending->start_ns = tessi_clock_now();
    pending->number = atomic_fetch_add(&device->launches, 1) + 1;
    if (device->parameters.starve > 0 && pending->number % device->parameters.starve == 0) {
        return tessi_fail(error, TESSI_NOMEM, "no memory on the emulated device for a launch of its own");
    }
    return TESSI_OK;
}

/* On the stream's thread, after the work: take as long as the device would, and fail as it would. */
static void on_done(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    struct pending pending = *(struct pending *)context;
    struct tessi_device *device = pending.device;
    const struct parameters *parameters = &device->parameters;
    tessi_free(context);
    run_ns = pending.launch ? tessi_clock_now() - pending.start_ns : run_ns;
    double wanted_ns = (double)run_ns;
    if (pending.launch && parameters->compute < 1) {
        wanted_ns = (double)run_ns / parameters->compute;
    } else if (!pending.launch && parameters->copy > 0) {
        double copy_ns = (double)pending.bytes / (double)parameters->copy * 1e9;
        wanted_ns = copy_ns > wanted_ns ? copy_ns : wanted_ns;
    }
    wanted_ns += (double)parameters->latency_us * 1e3;
    pause_ns((int64_t)wanted_ns - run_ns);
    if (pending.launch) {
        atomic_fetch_add(&device->busy_ns, (uint64_t)wanted_ns);
    }
    if (parameters->break_after > 0 && pending.launch && pending.number >= parameters->break_after) {
        atomic_store(&device->broken, true);
    }
    if (atomic_load(&device->broken)) {
        status = TESSI_LOST;
        text = "the emulated device is broken, as it was asked to";
    }
    if (pending.done != NULL) {
        pending.done(pending.context, status, text, (int64_t)wanted_ns);
    }
}

static struct pending *pending_create(const struct tessi_stream *stream, bool launch, uint64_t bytes, tessi_done_fn *done,
                                      void *context)
{
    struct pending *pending = tessi_zalloc(sizeof *pending);
    pending->device = stream->device;
    pending->done = done;
    pending->context = context;
    pending->bytes = bytes;
    pending->launch = launch;
    return pending;
}

static enum tessi_status emulated_launch(struct tessi_stream *stream, struct tessi_launch *launch)
{
    struct pending *pending = pending_create(stream, true, 0, launch->done, launch->context);
    struct tessi_kernel_call *call = &pending->launching.call;
    struct tessi_step step;
    TESS_ASSERT(launch->after_count == 0 && launch->prepare == NULL && is_ours(stream->device, launch->call.out));
    *call = launch->call;
    call->out = reach(stream->device, call->out);
    tessi_task_step(call->layer, call->index, call->step, &step);
    for (uint32_t i = 0; i < step.count; i++) {
        TESS_ASSERT(is_ours(stream->device, call->in[i]));
        call->in[i] = reach(stream->device, call->in[i]);
    }
    pending->launching.prepare = on_start;
    pending->launching.done = on_done;
    pending->launching.context = pending;
    enum tessi_status status = tessi_device_cpu.launch(stream->stream, &pending->launching);
    if (status != TESSI_OK) {
        tessi_free(pending);
    }
    return status;
}

static void emulated_kick(struct tessi_stream *stream)
{
    tessi_device_cpu.kick(stream->stream);
}

static enum tessi_status emulated_copy_async(struct tessi_stream *stream, void *to, const void *from, size_t bytes,
                                             tessi_done_fn *done, void *context)
{
    struct pending *pending = pending_create(stream, false, bytes, done, context);
    enum tessi_status status = tessi_device_cpu.copy_async(stream->stream, reach(stream->device, to),
                                                           reach(stream->device, from), bytes, on_done, pending);
    if (status != TESSI_OK) {
        tessi_free(pending);
    }
    return status;
}

/* ——— events: the CPU's ——— */

static enum tessi_status emulated_event_create(struct tessi_device *device, struct tessi_event **event,
                                               struct tessi_error *error)
{
    return tessi_device_cpu.event_create(device->processor, event, error);
}

static void emulated_event_destroy(struct tessi_event *event)
{
    tessi_device_cpu.event_destroy(event);
}

static enum tessi_status emulated_event_record(struct tessi_stream *stream, struct tessi_event *event)
{
    return tessi_device_cpu.event_record(stream->stream, event);
}

static enum tessi_status emulated_stream_wait(struct tessi_stream *stream, struct tessi_event *event)
{
    return tessi_device_cpu.stream_wait(stream->stream, event);
}

static bool emulated_event_query(struct tessi_event *event)
{
    return tessi_device_cpu.event_query(event);
}

static void emulated_event_wait(struct tessi_event *event)
{
    tessi_device_cpu.event_wait(event);
}

const struct tessi_device_kind tessi_device_emulated = {
    .name = "emulated",
    .count = emulated_count,
    .numerics = emulated_numerics,
    .describe = emulated_describe,
    .open = emulated_open,
    .close = emulated_close,
    .memory = emulated_memory,
    .info = emulated_info,
    .gauges = emulated_gauges,
    .supports = emulated_supports,
    .alloc = emulated_alloc,
    .free = emulated_free,
    .pin = emulated_pin,
    .unpin = emulated_unpin,
    .stream_open = emulated_stream_open,
    .stream_close = emulated_stream_close,
    .launch = emulated_launch,
    .kick = emulated_kick,
    .copy_async = emulated_copy_async,
    .event_create = emulated_event_create,
    .event_destroy = emulated_event_destroy,
    .event_record = emulated_event_record,
    .stream_wait = emulated_stream_wait,
    .event_query = emulated_event_query,
    .event_wait = emulated_event_wait,
};
