/* The CPU as a device: a stream is a thread with a bounded queue.
 *
 * The queue is a ring under one lock. The thread sleeps only when the ring is empty, and is
 * woken only then, so a stream that is kept busy costs no system calls. */
#include "worker/device/cpu/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "worker/kernel/blas.h"

#define DEPTH_DEFAULT 64
#define DEPTH_MAX 65536
#define BLOCK_ALIGNMENT 64

enum entry_kind { ENTRY_LAUNCH, ENTRY_COPY, ENTRY_EVENT };

struct entry {
    enum entry_kind kind;
    union {
        struct tessi_kernel_call call;
        struct {
            void *to;
            const void *from;
            size_t bytes;
        } copy;
        struct {
            struct tessi_event *event;
            uint64_t ticket;
        } mark;
    } as;
    tessi_done_fn *done;
    void *context;
};

struct tessi_device {
    uint64_t total_bytes;
};

struct tessi_event {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t recorded; /* ticket of the latest record */
    uint64_t reached;  /* highest ticket that has been passed */
};

struct tessi_stream {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    bool asleep;  /* the thread waits for `filled` */
    bool closing;
    uint32_t depth;
    uint32_t first; /* place of the oldest entry */
    uint32_t count;
    struct entry *ring;
};

static void event_reach(struct tessi_event *event, uint64_t ticket)
{
    (void)pthread_mutex_lock(&event->lock);
    if (ticket > event->reached) {
        event->reached = ticket;
    }
    (void)pthread_cond_broadcast(&event->changed);
    (void)pthread_mutex_unlock(&event->lock);
}

static void entry_run(struct entry *entry)
{
    struct tessi_error error = {.status = TESSI_OK};
    enum tessi_status status = TESSI_OK;
    int64_t start = tessi_clock_now();
    switch (entry->kind) {
    case ENTRY_LAUNCH:
        status = tessi_kernel_run(&entry->as.call, &error);
        break;
    case ENTRY_COPY:
        if (entry->as.copy.bytes > 0) {
            memcpy(entry->as.copy.to, entry->as.copy.from, entry->as.copy.bytes);
        }
        break;
    case ENTRY_EVENT:
        event_reach(entry->as.mark.event, entry->as.mark.ticket);
        return;
    }
    if (entry->done != NULL) {
        entry->done(entry->context, status, error.text, tessi_clock_now() - start);
    }
}

static void *stream_main(void *argument)
{
    struct tessi_stream *stream = argument;
    (void)pthread_mutex_lock(&stream->lock);
    for (;;) {
        while (stream->count == 0 && !stream->closing) {
            stream->asleep = true;
            (void)pthread_cond_wait(&stream->filled, &stream->lock);
            stream->asleep = false;
        }
        if (stream->count == 0) {
            break;
        }
        /* Copied out, so that its place can be filled again while it runs. */
        struct entry entry = stream->ring[stream->first];
        stream->first = stream->first + 1 == stream->depth ? 0 : stream->first + 1;
        stream->count--;
        (void)pthread_mutex_unlock(&stream->lock);
        entry_run(&entry);
        (void)pthread_mutex_lock(&stream->lock);
    }
    (void)pthread_mutex_unlock(&stream->lock);
    return NULL;
}

static enum tessi_status submit(struct tessi_stream *stream, const struct entry *entry)
{
    (void)pthread_mutex_lock(&stream->lock);
    bool full = stream->count == stream->depth;
    bool wake = stream->asleep && !full;
    if (!full) {
        uint32_t place = stream->first + stream->count;
        stream->ring[place < stream->depth ? place : place - stream->depth] = *entry;
        stream->count++;
        stream->asleep = false; /* one signal is enough */
    }
    (void)pthread_mutex_unlock(&stream->lock);
    /* Signalled after the lock is free, so that the thread does not wake only to wait for it. */
    if (wake) {
        (void)pthread_cond_signal(&stream->filled);
    }
    return full ? TESSI_BUSY : TESSI_OK;
}

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
    (*device)->total_bytes = (uint64_t)info.totalram * info.mem_unit;
    return TESSI_OK;
}

static void cpu_close(struct tessi_device *device)
{
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

static void stream_destroy(struct tessi_stream *stream)
{
    (void)pthread_cond_destroy(&stream->filled);
    (void)pthread_mutex_destroy(&stream->lock);
    tessi_free(stream->ring);
    tessi_free(stream);
}

static enum tessi_status cpu_stream_open(struct tessi_device *device, const struct tessi_stream_options *options,
                                         struct tessi_stream **out, struct tessi_error *error)
{
    pthread_attr_t attributes;
    cpu_set_t cores;
    (void)device;
    if (options->depth > DEPTH_MAX || (options->pin && options->core >= CPU_SETSIZE)) {
        return tessi_fail(error, TESSI_INVALID, "a stream of depth %u on processor %u: at most %d and %d", options->depth,
                          options->core, DEPTH_MAX, CPU_SETSIZE - 1);
    }
    struct tessi_stream *stream = tessi_zalloc(sizeof *stream);
    stream->depth = options->depth > 0 ? options->depth : DEPTH_DEFAULT;
    stream->ring = tessi_alloc(stream->depth * sizeof *stream->ring);
    (void)pthread_mutex_init(&stream->lock, NULL);
    (void)pthread_cond_init(&stream->filled, NULL);
    (void)pthread_attr_init(&attributes);
    if (options->pin) {
        CPU_ZERO(&cores);
        CPU_SET(options->core, &cores);
        (void)pthread_attr_setaffinity_np(&attributes, sizeof cores, &cores);
    }
    int failure = pthread_create(&stream->thread, &attributes, stream_main, stream);
    (void)pthread_attr_destroy(&attributes);
    if (failure != 0) {
        stream_destroy(stream);
        return tessi_fail(error, failure == EINVAL ? TESSI_INVALID : TESSI_NOMEM, "a stream's thread cannot start%s: %s",
                          options->pin ? " on its processor" : "", strerror(failure));
    }
    *out = stream;
    return TESSI_OK;
}

static void cpu_stream_close(struct tessi_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&stream->lock);
    stream->closing = true;
    (void)pthread_mutex_unlock(&stream->lock);
    (void)pthread_cond_signal(&stream->filled);
    (void)pthread_join(stream->thread, NULL);
    stream_destroy(stream);
}

static enum tessi_status cpu_launch(struct tessi_stream *stream, const struct tessi_kernel_call *call,
                                    tessi_done_fn *done, void *context)
{
    struct entry entry = {.kind = ENTRY_LAUNCH, .done = done, .context = context};
    entry.as.call = *call;
    return submit(stream, &entry);
}

static enum tessi_status cpu_copy_async(struct tessi_stream *stream, void *to, const void *from, size_t bytes,
                                        tessi_done_fn *done, void *context)
{
    struct entry entry = {.kind = ENTRY_COPY, .done = done, .context = context};
    entry.as.copy.to = to;
    entry.as.copy.from = from;
    entry.as.copy.bytes = bytes;
    return submit(stream, &entry);
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
    struct entry entry = {.kind = ENTRY_EVENT};
    (void)pthread_mutex_lock(&event->lock);
    uint64_t before = event->recorded;
    entry.as.mark.event = event;
    entry.as.mark.ticket = ++event->recorded;
    (void)pthread_mutex_unlock(&event->lock);
    enum tessi_status status = submit(stream, &entry);
    if (status != TESSI_OK) {
        (void)pthread_mutex_lock(&event->lock);
        event->recorded = before;
        (void)pthread_mutex_unlock(&event->lock);
    }
    return status;
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
    while (event->reached < event->recorded) {
        (void)pthread_cond_wait(&event->changed, &event->lock);
    }
    (void)pthread_mutex_unlock(&event->lock);
}

const struct tessi_device_kind tessi_device_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .memory = cpu_memory,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .stream_open = cpu_stream_open,
    .stream_close = cpu_stream_close,
    .launch = cpu_launch,
    .copy_async = cpu_copy_async,
    .event_create = cpu_event_create,
    .event_destroy = cpu_event_destroy,
    .event_record = cpu_event_record,
    .event_query = cpu_event_query,
    .event_wait = cpu_event_wait,
};
