/* Fetch what the rings of a cluster hold and write it as a file that Perfetto and chrome://tracing open. */
#ifndef TESSI_CLIENT_TRACE_H
#define TESSI_CLIENT_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"

struct tessi_net;

struct tessi_trace_options {
    bool queues;                                   /* also a row for each task between its assignment and its start */
    void (*said)(void *context, const char *text); /* progress and what is missing, a line each; NULL: nobody hears */
    void *context;
};

struct tessi_trace_counts {
    uint64_t events;      /* written */
    uint64_t overwritten; /* that the rings no longer had */
    uint32_t workers;
    uint32_t missing; /* workers that did not answer to the end */
};

/* `path` is replaced when all of it has been written; "-": standard output. IO: the text names the file; statuses of
 * tessi_ask_open; LOST. A worker that does not answer costs its own events only. */
TESSI_MUST_USE enum tessi_status tessi_trace_write(struct tessi_net *net, const char *address, const char *path,
                                                   const struct tessi_trace_options *options,
                                                   struct tessi_trace_counts *counts, struct tessi_error *error);

#endif
