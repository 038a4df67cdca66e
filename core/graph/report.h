/* What a worker tells the scheduler, batched: built by worker/flow, read by core/sched. */
#ifndef TESSI_GRAPH_REPORT_H
#define TESSI_GRAPH_REPORT_H

#include "core/base/status.h"
#include "core/graph/span.h"

struct tessi_failure {
    struct tessi_task task;
    uint32_t epoch;
    enum tessi_status status;
    char *text; /* owned */
};

struct tessi_report {
    struct tessi_spans started; /* first step handed to a slot: blamed if the worker dies now */
    struct tessi_spans done;    /* the worker owns the block; time_ns set */
    struct tessi_spans copied;  /* now holds a copy that it could be asked to adopt */
    struct tessi_spans dropped; /* no longer holds that copy */
    struct tessi_spans adopted; /* ADOPT: now the owner */
    struct tessi_spans missing; /* ADOPT: had no copy any more; or an owned block was lost with its spill file */
    struct tessi_spans stolen;  /* STEAL: given up, never started; `worker` is the thief */
    struct tessi_spans kept;    /* STEAL: refused: started, done or unknown; `worker` is the thief */
    struct tessi_spans refused; /* ASSIGN: footprint exceeds this worker's budget */
    struct tessi_spans starved; /* the oldest task, when it waits for room and nothing here will make any; `order` */
    struct tessi_spans shed;    /* held blocks without which it would have it, those needed last first */
    struct tessi_failure *failures; /* owned */
    size_t failure_count;
    size_t failure_capacity;
    /* Gauges at the time of the report. */
    uint64_t memory_used_bytes;
    uint64_t memory_peak_bytes;
    uint64_t spilled_bytes;
    uint64_t fetched_bytes; /* counters since the worker started */
    uint64_t served_bytes;
    uint64_t mapped_bytes;  /* blocks read in place from a neighbour's memory */
    uint64_t dropped_messages;
    uint64_t pulled_bytes;  /* of `fetched_bytes`, those that came over the network, */
    uint64_t pulling_ns;    /* and for how long some were on their way */
    uint64_t devices_lost;  /* of those that the worker joined with */
    uint64_t short_bytes;   /* what `starved` lacks; 0: nothing is starved */
    uint64_t busy;          /* 1: something is under way that ends by itself and may make room */
    char *spill_error;      /* owned; of the last file, which could not be written; NULL: it could, or was none */
};

void tessi_report_fini(struct tessi_report *report);
/* True when there is nothing but gauges in it. */
bool tessi_report_empty(const struct tessi_report *report);

#endif
