/* The scheduler's shell: an event loop around one listening endpoint and the pure machine.
 *
 *     create (listens: peers may connect) ──▶ run (until stop) ──▶ destroy
 *
 * The same object serves the `tessera scheduler` process and, on an inproc:// address and a thread of
 * its own, the embedded cluster. */
#ifndef TESSI_SERVER_SCHEDULER_H
#define TESSI_SERVER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/net/context.h"
#include "core/sched/sched.h"

#define TESSI_SCHEDULER_ADDRESS "tcp://127.0.0.1:8786"

struct tessi_scheduler;

/* Zero is the default everywhere; texts are copied. */
struct tessi_scheduler_config {
    const char *listen;              /* NULL: TESSI_SCHEDULER_ADDRESS; port 0 takes a free one */
    struct tessi_net *net;           /* borrowed, outlives the scheduler; NULL: one of its own with `keys_dir` */
    const char *keys_dir;            /* NULL: no encryption */
    bool insecure;                   /* listen beyond this machine without keys */
    struct tessi_sched_config sched; /* fields that are 0: tessi_sched_config_default */
    const char *record_path;         /* NULL: nothing is recorded */
    const char *history_path;        /* run times are read from there, and kept there; NULL: nowhere */
    uint32_t linger_ms;              /* how long the last messages may take to leave; 0: 1 000 */
};

/* AUTH: an address beyond this machine without keys; the text says what to do. INVALID, BUSY, NOT_FOUND, IO:
 * as tessi_server_open, tessi_net_create and tessi_recorder_open. */
TESSI_MUST_USE enum tessi_status tessi_scheduler_create(const struct tessi_scheduler_config *config,
                                                        struct tessi_scheduler **scheduler, struct tessi_error *error);

/* Where peers connect, with the real port; valid until destroy. */
const char *tessi_scheduler_endpoint(const struct tessi_scheduler *scheduler);

/* Serve on the calling thread until tessi_scheduler_stop, then tell workers and clients to end. Once. */
void tessi_scheduler_run(struct tessi_scheduler *scheduler);

/* From any thread or signal handler, also before run. */
void tessi_scheduler_stop(struct tessi_scheduler *scheduler);

/* Not while it runs. NULL is allowed. */
void tessi_scheduler_destroy(struct tessi_scheduler *scheduler);

#endif
