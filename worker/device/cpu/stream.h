/* The streams of the CPU as a device: between stream.c, which runs them, and cpu.c. */
#ifndef TESSI_DEVICE_CPU_STREAM_H
#define TESSI_DEVICE_CPU_STREAM_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker/device/device.h"

enum tessi_cpu_entry_kind { TESSI_CPU_LAUNCH, TESSI_CPU_COPY, TESSI_CPU_EVENT, TESSI_CPU_WAIT };

struct tessi_cpu_entry {
    enum tessi_cpu_entry_kind kind;
    union {
        struct tessi_launch *launch;
        struct {
            void *to;
            const void *from;
            size_t bytes;
            tessi_done_fn *done;
            void *context;
        } copy;
        struct {
            struct tessi_event *event;
            uint64_t ticket;
        } mark;
    } as;
};

struct tessi_device {
    uint64_t total_bytes;
    uint32_t processors;
    atomic_uint streams; /* open ones */
    atomic_uint away;    /* those that have given way; one at most */
    _Atomic(struct tessi_stream *) closed; /* kept to the end: entries of others may still ask for their outcomes */
};

struct tessi_event {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t recorded; /* ticket of the latest record */
    uint64_t reached;  /* highest ticket that has been passed */
};

void tessi_cpu_event_await(struct tessi_event *event, uint64_t ticket);

enum tessi_status tessi_cpu_stream_open(struct tessi_device *device, const struct tessi_stream_options *options,
                                        struct tessi_stream **out, struct tessi_error *error);
void tessi_cpu_stream_close(struct tessi_stream *stream); /* when all that was submitted has run; NULL is allowed */
void tessi_cpu_streams_free(struct tessi_device *device); /* those that are closed */

/* From who submits. BUSY: the ring is full. */
enum tessi_status tessi_cpu_submit(struct tessi_stream *stream, const struct tessi_cpu_entry *entry);
void tessi_cpu_kick(struct tessi_stream *stream); /* one that has given way comes back by itself */
bool tessi_cpu_help(struct tessi_stream *stream); /* as `help` of a device */

#endif
