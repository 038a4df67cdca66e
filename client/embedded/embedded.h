/* A cluster inside the process: the scheduler's server on a thread of its own and one worker, which talk over
 * inproc:// endpoints of one network context. No port is opened. */
#ifndef TESSI_EMBEDDED_H
#define TESSI_EMBEDDED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/net/context.h"

struct tessi_embedded;

struct tessi_embedded_config { /* zero is the default, as in struct tessi_worker_config */
    struct tessi_net *net;     /* required; borrowed, outlives the cluster */
    uint32_t threads;          /* slots of the worker */
    uint64_t memory_bytes;
    const char *spill_dir;
    uint64_t spill_bytes;
    const char *resources;
    bool no_spill;
    const char *gpus;
    const char *gpu_memory;
    uint32_t trace_events;
};

/* Returns when the worker has joined. Statuses: those of tessi_scheduler_create, tessi_worker_create and
 * tessi_worker_run; TIMEOUT when the worker does not come up. */
TESSI_MUST_USE enum tessi_status tessi_embedded_open(const struct tessi_embedded_config *config,
                                                     struct tessi_embedded **embedded, struct tessi_error *error);

/* Where a client connects. */
const char *tessi_embedded_address(const struct tessi_embedded *embedded);

/* After its clients are closed. NULL is allowed. */
void tessi_embedded_close(struct tessi_embedded *embedded);

#endif
