/* A worker: joins a cluster, runs the tasks that the scheduler gives it, serves their blocks.
 *
 * One thread runs the event loop (`tessi_worker_run`); each slot runs steps on a thread of its
 * own, and one more reads and writes spill files. A program has any number of workers, but
 * one numerics family for all of them, since a process loads BLAS once.
 *
 *     create ──▶ run (connect, HELLO, WELCOME, work … until SHUTDOWN, stop or an error) ──▶ destroy
 *
 * A worker that the scheduler has given up, or that was stopped for so long that it cannot trust what it borrowed,
 * or that has lost its connection, forgets everything and joins again as a new worker; it gives up when nothing
 * has answered for a minute. */
#ifndef TESSI_WORKER_H
#define TESSI_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/net/context.h"

struct tessi_worker;

/* Called on the thread that runs the worker, each time when the scheduler has taken it in: `scheduler` is
 * its endpoint ("tcp://host:port"), `id` the worker's id. */
typedef void tessi_worker_connected_fn(void *context, const char *scheduler, uint32_t id);

/* Zero is the default everywhere; texts are copied. */
struct tessi_worker_config {
    const char *scheduler;   /* required: "tcp://host:port" or "inproc://name" */
    struct tessi_net *net;   /* borrowed, must outlive the worker (inproc needs the server's); NULL: one of its own */
    const char *keys_dir;    /* for a net of its own; NULL: no encryption */
    uint32_t threads;        /* CPU slots; 0: the processors that this process may run on */
    uint64_t memory_bytes;   /* budget for blocks; 0: 60 % of the smaller of physical memory and cgroup limit */
    uint64_t spill_bytes;    /* bound on spill files; 0: half of what is free in the spill directory */
    bool no_spill;           /* blocks never go to disk */
    const char *name;        /* NULL: host name and process id */
    const char *spill_dir;   /* NULL: $TMPDIR, else /tmp; the worker makes a directory of its own inside */
    const char *data_dir;    /* files named by clients are read only below it; NULL: anywhere when the scheduler
                                is on this machine, nowhere otherwise */
    const char *write_dir;   /* files are written for clients only below it; NULL: nowhere */
    const char *host_id;     /* workers with equal ids share memory; NULL: the boot id */
    const char *blas_core;   /* numerics family to offer, and no other; NULL: all that the processor has */
    const char *gpus;        /* NULL or "auto", "none", "0,1": see worker/gpu/gpus.h */
    const char *gpu_memory;  /* of each: "90%" (NULL) or "8GiB" */
    const char *listen_host; /* address on which peers connect; NULL: the one that reaches the scheduler */
    uint32_t connect_timeout_ms;          /* 0: 5 000 */
    const char *resources;   /* what tasks may demand of it, "ssd=2,license=1"; NULL: nothing */
    uint32_t trace_events;                /* kept for each slot, 48 bytes each; 0: 65 536 */
    bool no_trace;
    uint32_t drain_timeout_ms;            /* how long a worker that is stopped hands over its blocks; 0: it just goes */
    bool pin;                             /* bind each slot to a processor */
    tessi_worker_connected_fn *connected; /* NULL: nobody is told */
    void *context;                        /* for `connected` */
};

/* Check the configuration, make the arena and the spill directory; slots start when the scheduler has said
 * which numerics it wants. INVALID: a setting (the text names it); IO, NOMEM: what could not be made.
 * `*worker` is NULL on failure. */
TESSI_MUST_USE enum tessi_status tessi_worker_create(const struct tessi_worker_config *config,
                                                     struct tessi_worker **worker, struct tessi_error *error);

/* Connect and work until the end, on the calling thread; at most once. OK: the scheduler ended the
 * cluster, or the worker was stopped. UNREACHABLE, AUTH, VERSION, PROTOCOL, UNSUPPORTED: never taken in;
 * LOST, CLOSED and the rest: it was a member, and could not join again (the text says why). */
TESSI_MUST_USE enum tessi_status tessi_worker_run(struct tessi_worker *worker, struct tessi_error *error);

/* Ask a running worker to leave and return, or one that is not running yet never to begin. What it leaves behind is
 * handed over first, for `drain_timeout_ms` at most, unless this is called again. From any thread or signal handler. */
void tessi_worker_stop(struct tessi_worker *worker);

/* Not while it runs. Ends the slots (a step that runs is finished), removes spill files. NULL is allowed. */
void tessi_worker_destroy(struct tessi_worker *worker);

/* What this process would use as the default for memory_bytes. */
uint64_t tessi_worker_default_memory(void);

#endif
