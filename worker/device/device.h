/* The device interface: what runs kernels and holds their blocks.
 *
 * A kind of device is a table of functions. A stream is a queue that runs its entries one
 * after the other in the order of their submission; different streams run side by side. Work
 * is handed over without waiting; its end is told by a callback. Every function but `close` of
 * a stream and `event_wait` returns at once.
 *
 *     open → stream_open → launch, copy_async, event_record … → stream_close → close
 *
 * Threads: one thread submits to a stream; callbacks come on a thread of the device. Different
 * streams, and the functions of the device itself, may be used from different threads. */
#ifndef TESSI_DEVICE_DEVICE_H
#define TESSI_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"
#include "worker/kernel/kernel.h"

struct tessi_device; /* each kind defines its own */
struct tessi_stream;
struct tessi_event;

/* Zero is the default. */
struct tessi_device_options {
    uint32_t ordinal;         /* which one of several devices of the kind */
    const char *blas_family;  /* CPU: kernel family (worker/kernel/blas.h), NULL: the best */
    const char *spec;         /* emulated: what the device is like (worker/device/emulated/emulated.h) */
};

struct tessi_device_info {
    char name[64];
    uint32_t architecture; /* CUDA: compute capability, 90 for 9.0 */
    double gflops_f64, gflops_f32, gflops_tf32, gflops_half; /* rough: what products may reach; 0: unknown */
    double memory_gb_s, copy_gb_s;                           /* own memory; from and to the host */
    double flops_min; /* products of fewer operations a task are not worth the way */
    double bytes_min; /* nor are other blocks of fewer bytes */
};

/* What the device is doing, for people. Unknown ones are negative. */
struct tessi_device_gauges {
    double utilisation; /* 0 … 1 */
    double watts, joules; /* joules since the driver was loaded */
    int64_t memory_used_bytes; /* by everybody */
};

struct tessi_stream_options {
    uint32_t depth; /* entries that may wait, 0: 64 */
    bool pin;       /* CPU: bind the thread to processor `core` */
    uint32_t core;
};

struct tessi_device_memory {
    uint64_t total_bytes;
    uint64_t free_bytes; /* at the moment of the call; others may take it */
};

/* A launch may come after entries of other streams, or of its own: it begins when the last of them has ended, and is
 * not run (CANCELLED) if any entry since the first of them has not ended well. Entries of a stream are numbered from 1
 * in the order of submission. */
#define TESSI_AFTER_MAX 4
struct tessi_after {
    struct tessi_stream *stream;
    uint64_t first, last;
};

/* Called before the kernel, on the stream: it may complete the call. Not OK: the launch fails. */
typedef enum tessi_status tessi_prepare_fn(void *context, struct tessi_kernel_call *call, struct tessi_error *error);

/* The end of a launch or copy. `text` explains a failure, is "" for OK, and lives during the call only. LOST: the
 * device is broken and all that it held is gone; it can only be closed. NOMEM, BUSY: a launch found no memory for its own use,
 * or was refused for now; what it wrote is worth nothing, and its task may begin anew.
 * `run_ns` is what the work itself took. It must not close its own stream; it may submit to it. */
typedef void tessi_done_fn(void *context, enum tessi_status status, const char *text, int64_t run_ns);

struct tessi_launch {
    struct tessi_kernel_call call;
    uint32_t after_count; /* `after` and `prepare` are for the CPU; other devices order streams by events */
    struct tessi_after after[TESSI_AFTER_MAX];
    tessi_prepare_fn *prepare; /* or NULL */
    tessi_done_fn *done;
    void *context; /* for both */
    int64_t started_ns; /* told by the device before `done`: when the work began, on the monotonic clock */
};

struct tessi_device_kind {
    const char *name; /* "cpu", "cuda", "emulated" */

    /* How many there are; 0 with a text that says why. */
    uint32_t (*count)(const struct tessi_device_options *options, struct tessi_error *error);
    /* The name under which products have the same bits, "cuda90": of the device that `options` means, before it is
     * opened. */
    enum tessi_status (*numerics)(const struct tessi_device_options *options, char *text, size_t size,
                                  struct tessi_error *error);

    /* What `info` and `memory` will say of it, as far as that can be told before it is open; NULL: it cannot. */
    enum tessi_status (*describe)(const struct tessi_device_options *options, struct tessi_device_info *info,
                                  struct tessi_device_memory *memory, struct tessi_error *error);
    enum tessi_status (*open)(const struct tessi_device_options *options, struct tessi_device **device,
                              struct tessi_error *error);
    void (*close)(struct tessi_device *device); /* its streams, events and memory are gone already; NULL is allowed */
    void (*memory)(struct tessi_device *device, struct tessi_device_memory *memory);
    void (*info)(struct tessi_device *device, struct tessi_device_info *info);
    void (*gauges)(struct tessi_device *device, struct tessi_device_gauges *gauges);

    /* Whether `launch` can run the layer's tasks. The layer is a checked one. */
    bool (*supports)(struct tessi_device *device, const struct tessi_layer *layer);

    /* Memory that kernels of this device read and write, at least 64-byte aligned. NOMEM names the size. */
    enum tessi_status (*alloc)(struct tessi_device *device, size_t bytes, void **memory, struct tessi_error *error);
    void (*free)(struct tessi_device *device, void *memory); /* NULL is allowed */

    /* Host memory that copies from and to this device shall be fast with; whole pages, until unpinned. A failure
     * changes nothing but the speed. */
    enum tessi_status (*pin)(struct tessi_device *device, void *memory, size_t bytes, struct tessi_error *error);
    void (*unpin)(struct tessi_device *device, void *memory);

    enum tessi_status (*stream_open)(struct tessi_device *device, const struct tessi_stream_options *options,
                                     struct tessi_stream **stream, struct tessi_error *error);
    /* Runs everything that was submitted, callbacks included, then returns. Launches of other streams may still come after
     * its entries. NULL is allowed. */
    void (*stream_close)(struct tessi_stream *stream);

    /* BUSY: `depth` entries wait already; nothing was taken, no callback will come. The launch, its layer and its
     * blocks stay the caller's and must live until `done`. It may wait for the next `kick`, so that many launches
     * wake a sleeping device once; all other entries kick by themselves. */
    enum tessi_status (*launch)(struct tessi_stream *stream, struct tessi_launch *launch);
    void (*kick)(struct tessi_stream *stream);
    /* Instead of `kick`, from who submits: run what waits on the calling thread, callbacks included, if the stream sleeps;
     * what would have to wait for other streams is kicked. False: nothing was run, kick it. NULL: there is no such way. */
    bool (*help)(struct tessi_stream *stream);
    /* Between any two of host and device memory; the ranges do not overlap. BUSY as `launch`; `done` may be NULL. */
    enum tessi_status (*copy_async)(struct tessi_stream *stream, void *to, const void *from, size_t bytes,
                                    tessi_done_fn *done, void *context);

    /* An event is reached when everything before its latest `event_record` has run, its callbacks included;
     * before any record it is reached. Destroy it when no record of it and no wait for it is outstanding. */
    enum tessi_status (*event_create)(struct tessi_device *device, struct tessi_event **event,
                                      struct tessi_error *error);
    void (*event_destroy)(struct tessi_event *event); /* NULL is allowed */
    enum tessi_status (*event_record)(struct tessi_stream *stream, struct tessi_event *event); /* BUSY as `launch` */
    /* What is submitted to the stream from now on runs after the event's latest record so far. BUSY as `launch`. */
    enum tessi_status (*stream_wait)(struct tessi_stream *stream, struct tessi_event *event);
    bool (*event_query)(struct tessi_event *event);
    void (*event_wait)(struct tessi_event *event); /* blocks the calling thread */
};

#endif
