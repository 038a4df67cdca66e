/* The CPU as a device: its memory is the host's, and a stream is a thread (stream.c). */
#include "worker/device/cpu/cpu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "core/base/alloc.h"
#include "worker/device/cpu/processor.h"
#include "worker/device/cpu/stream.h"
#include "worker/kernel/blas.h"

#define BLOCK_ALIGNMENT 64

static enum tessi_status cpu_open(const struct tessi_device_options *options, struct tessi_device **device,
                                  struct tessi_error *error)
{
    struct sysinfo info;
    if (options->ordinal != 0) {
        return tessi_fail(error, TESSI_NOT_FOUND, "there is no CPU device %u: a worker has one, number 0",
                          options->ordinal);
    }
    enum tessi_status status = tessi_blas_open(options->blas_family, error);
    /* Without a library the plain loops do the work; the worker says so from tessi_blas_family(). */
    if (status != TESSI_OK && options->blas_family != NULL) {
        return status;
    }
    if (sysinfo(&info) != 0) {
        return tessi_fail(error, TESSI_IO, "the size of the memory cannot be read");
    }
    *device = tessi_zalloc(sizeof **device);
    (*device)->processors = tessi_processors();
    (*device)->total_bytes = (uint64_t)info.totalram * info.mem_unit;
    return TESSI_OK;
}

static void cpu_close(struct tessi_device *device)
{
    if (device == NULL) {
        return;
    }
    tessi_cpu_streams_free(device);
    tessi_free(device);
}

/* What a program may take without swapping: the kernel's own estimate, which counts caches as free. */
static void cpu_memory(struct tessi_device *device, struct tessi_device_memory *memory)
{
    unsigned long long available_kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "MemAvailable:", 13) == 0) {
            available_kib = strtoull(line + 13, NULL, 10);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    memory->total_bytes = device->total_bytes;
    memory->free_bytes = available_kib * 1024;
}

static uint32_t cpu_count(const struct tessi_device_options *options, struct tessi_error *error)
{
    (void)options;
    (void)error;
    return 1;
}

static enum tessi_status cpu_numerics(const struct tessi_device_options *options, char *text, size_t size,
                                      struct tessi_error *error)
{
    (void)options;
    (void)error;
    (void)snprintf(text, size, "%s", tessi_blas_numerics());
    return TESSI_OK;
}

static void cpu_info(struct tessi_device *device, struct tessi_device_info *info)
{
    (void)device;
    *info = (struct tessi_device_info){.name = "processor"};
}

static void cpu_gauges(struct tessi_device *device, struct tessi_device_gauges *gauges)
{
    (void)device;
    *gauges = (struct tessi_device_gauges){-1, -1, -1, -1};
}

static bool cpu_supports(struct tessi_device *device, const struct tessi_layer *layer)
{
    (void)device;
    return layer->op != TESSI_OP_RECEIVE;
}

static enum tessi_status cpu_pin(struct tessi_device *device, void *memory, size_t bytes, struct tessi_error *error)
{
    (void)device;
    (void)memory;
    (void)bytes;
    (void)error;
    return TESSI_OK;
}

static void cpu_unpin(struct tessi_device *device, void *memory)
{
    (void)device;
    (void)memory;
}

static enum tessi_status cpu_alloc(struct tessi_device *device, size_t bytes, void **memory, struct tessi_error *error)
{
    (void)device;
    if (posix_memalign(memory, BLOCK_ALIGNMENT, bytes > 0 ? bytes : 1) != 0) {
        return tessi_fail(error, TESSI_NOMEM, "no memory for a block of %zu bytes", bytes);
    }
    return TESSI_OK;
}

static void cpu_free(struct tessi_device *device, void *memory)
{
    (void)device;
    free(memory);
}

static enum tessi_status submit_and_kick(struct tessi_stream *stream, const struct tessi_cpu_entry *entry)
{
    enum tessi_status status = tessi_cpu_submit(stream, entry);
    if (status == TESSI_OK) {
        tessi_cpu_kick(stream);
    }
    return status;
}

static enum tessi_status cpu_launch(struct tessi_stream *stream, struct tessi_launch *launch)
{
    struct tessi_cpu_entry entry = {.kind = TESSI_CPU_LAUNCH};
    entry.as.launch = launch;
    return tessi_cpu_submit(stream, &entry);
}

static enum tessi_status cpu_copy_async(struct tessi_stream *stream, void *to, const void *from, size_t bytes,
                                        tessi_done_fn *done, void *context)
{
    struct tessi_cpu_entry entry = {.kind = TESSI_CPU_COPY};
    entry.as.copy.to = to;
    entry.as.copy.from = from;
    entry.as.copy.bytes = bytes;
    entry.as.copy.done = done;
    entry.as.copy.context = context;
    return submit_and_kick(stream, &entry);
}

static enum tessi_status cpu_event_create(struct tessi_device *device, struct tessi_event **event,
                                          struct tessi_error *error)
{
    (void)device;
    (void)error;
    *event = tessi_zalloc(sizeof **event);
    (void)pthread_mutex_init(&(*event)->lock, NULL);
    (void)pthread_cond_init(&(*event)->changed, NULL);
    return TESSI_OK;
}

static void cpu_event_destroy(struct tessi_event *event)
{
    if (event == NULL) {
        return;
    }
    (void)pthread_cond_destroy(&event->changed);
    (void)pthread_mutex_destroy(&event->lock);
    tessi_free(event);
}

static enum tessi_status cpu_event_record(struct tessi_stream *stream, struct tessi_event *event)
{
    struct tessi_cpu_entry entry = {.kind = TESSI_CPU_EVENT};
    (void)pthread_mutex_lock(&event->lock);
    uint64_t before = event->recorded;
    entry.as.mark.event = event;
    entry.as.mark.ticket = ++event->recorded;
    (void)pthread_mutex_unlock(&event->lock);
    enum tessi_status status = submit_and_kick(stream, &entry);
    if (status != TESSI_OK) {
        (void)pthread_mutex_lock(&event->lock);
        event->recorded = before;
        (void)pthread_mutex_unlock(&event->lock);
    }
    return status;
}

static enum tessi_status cpu_stream_wait(struct tessi_stream *stream, struct tessi_event *event)
{
    struct tessi_cpu_entry entry = {.kind = TESSI_CPU_WAIT};
    (void)pthread_mutex_lock(&event->lock);
    entry.as.mark.event = event;
    entry.as.mark.ticket = event->recorded;
    (void)pthread_mutex_unlock(&event->lock);
    return submit_and_kick(stream, &entry);
}

static bool cpu_event_query(struct tessi_event *event)
{
    (void)pthread_mutex_lock(&event->lock);
    bool reached = event->reached >= event->recorded;
    (void)pthread_mutex_unlock(&event->lock);
    return reached;
}

static void cpu_event_wait(struct tessi_event *event)
{
    (void)pthread_mutex_lock(&event->lock);
    uint64_t ticket = event->recorded;
    (void)pthread_mutex_unlock(&event->lock);
    tessi_cpu_event_await(event, ticket);
}

const struct tessi_device_kind tessi_device_cpu = {
    .name = "cpu",
    .count = cpu_count,
    .numerics = cpu_numerics,
    .open = cpu_open,
    .close = cpu_close,
    .memory = cpu_memory,
    .info = cpu_info,
    .gauges = cpu_gauges,
    .supports = cpu_supports,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .pin = cpu_pin,
    .unpin = cpu_unpin,
    .stream_open = tessi_cpu_stream_open,
    .stream_close = tessi_cpu_stream_close,
    .launch = cpu_launch,
    .kick = tessi_cpu_kick,
    .help = tessi_cpu_help,
    .copy_async = cpu_copy_async,
    .event_create = cpu_event_create,
    .event_destroy = cpu_event_destroy,
    .event_record = cpu_event_record,
    .stream_wait = cpu_stream_wait,
    .event_query = cpu_event_query,
    .event_wait = cpu_event_wait,
};
