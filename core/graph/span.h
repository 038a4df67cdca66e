/* Names of tasks: one (session, layer, index), or a run of consecutive indices.
 *
 * A task and its output block have the same name. Spans are what travels: a region of a
 * grid is a few of them, whatever the number of its tasks. */
#ifndef TESSI_GRAPH_SPAN_H
#define TESSI_GRAPH_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/map.h"

struct tessi_task {
    uint32_t session;
    uint32_t layer;
    uint64_t index;
};

/* Which of the later fields mean something depends on the message or event that carries the span. */
struct tessi_span {
    uint32_t session;
    uint32_t layer;
    uint64_t first;
    uint64_t count;      /* ≥ 1 */
    uint32_t epoch;      /* of the assignment: bumped each time a task is given to a worker */
    uint32_t worker;     /* owner or owner-to-be, thief; 0: nobody */
    uint64_t order;      /* global topological order of the first task; lower goes first */
    uint64_t order_step; /* task first + i has order + i · order_step */
    int64_t time_ns;     /* done: sum of the run times of the span's tasks */
    uint32_t device;     /* done: 1: they ran at a device, 0: on processors */
    uint32_t deaths;     /* of workers while it ran */
};

/* Tasks that one LOCATE asks for at most: each is looked at, and may be answered or remembered by itself. Who wants to
 * know more asks several times. */
#define TESSI_LOCATE_TASKS_MAX 65536u

struct tessi_spans { /* a growing array */
    struct tessi_span *items;
    size_t count;
    size_t capacity;
};

static inline struct tessi_map_key tessi_task_key(uint32_t session, uint32_t layer, uint64_t index)
{
    return (struct tessi_map_key){(uint64_t)session << 32 | layer, index};
}

void tessi_spans_fini(struct tessi_spans *spans);
/* Append a span; it is joined to the last one when it continues it (indices, epoch, worker, order and device). */
void tessi_spans_push(struct tessi_spans *spans, struct tessi_span span);

#endif
