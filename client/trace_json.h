/* Trace records as Chrome's trace-event format: a process for each worker and the scheduler, a thread for each row.
 *
 * Records go out as they come. Those of one ring come in the order in which they ended; where several overlap on
 * one row, as transfers do, they are spread over as many rows as it takes. */
#ifndef TESSI_CLIENT_TRACE_JSON_H
#define TESSI_CLIENT_TRACE_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/map.h"
#include "core/graph/layer.h"
#include "core/graph/trace.h"

#define TESSI_TRACE_SCHEDULER_PID 1000000000u

struct tessi_trace_row { /* of the ring under way: a lane's further rows come when slices overlap */
    uint32_t lane;
    uint32_t number; /* within the lane */
    uint32_t tid;
    int64_t last_ns; /* end of its last slice */
};

struct tessi_trace_json {
    FILE *file;
    bool queues;
    bool any; /* an event has been written: the next one needs a comma */
    uint64_t events;
    uint64_t queue_id;
    struct tessi_map operations; /* (session, layer) → operation */
    struct tessi_map named;      /* (session, layer) → position in names */
    char (*names)[TESSI_LAYER_NAME_MAX + 1]; /* owned */
    size_t name_count, name_capacity;
    /* The ring under way. */
    uint32_t pid;
    int64_t offset_ns; /* its clock before the scheduler's */
    uint32_t next_tid;
    uint32_t ring; /* how many rings of the process have begun */
    const char *lanes;
    struct tessi_trace_row *rows; /* owned */
    size_t row_count, row_capacity;
};

void tessi_trace_json_init(struct tessi_trace_json *json, FILE *file, bool queues);
void tessi_trace_json_fini(struct tessi_trace_json *json); /* the file stays open */

/* What follows is of this process. */
void tessi_trace_json_process(struct tessi_trace_json *json, uint32_t pid, const char *name, int64_t offset_ns);
/* … and of this ring of it; `lanes` (a line each) lives until the next ring. */
void tessi_trace_json_ring(struct tessi_trace_json *json, const char *lanes);
void tessi_trace_json_record(struct tessi_trace_json *json, const struct tessi_trace_record *record);
void tessi_trace_json_end(struct tessi_trace_json *json, uint64_t overwritten);

#endif
