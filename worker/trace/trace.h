/* The trace of one worker: a ring for each thread that writes events.
 *
 * Ring 0 belongs to the worker's loop: transfers, spills, steals. Each slot has one of its own, and so has
 * whatever else runs tasks (a stream of a GPU): a ring names its rows with a table of lanes, and a record says
 * on which of them it goes. All but the rings themselves is the loop's alone. */
#ifndef TESSI_TRACE_TRACE_H
#define TESSI_TRACE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "core/graph/span.h"
#include "worker/trace/ring.h"

#define TESSI_TRACE_EVENTS 65536 /* records in a ring when nobody says otherwise: 3 MiB */

struct tessi_trace;

/* `events`: records in each ring. */
struct tessi_trace *tessi_trace_create(uint32_t events);
void tessi_trace_destroy(struct tessi_trace *trace); /* NULL is allowed */

/* One more ring, before its writer begins. `lanes`: names of its rows, separated by newlines. The ring lives as long as
 * the trace. */
struct tessi_trace_ring *tessi_trace_add(struct tessi_trace *trace, const char *lanes);

uint32_t tessi_trace_rings(const struct tessi_trace *trace);
const struct tessi_trace_ring *tessi_trace_ring_at(const struct tessi_trace *trace, uint32_t number);
const char *tessi_trace_lanes(const struct tessi_trace *trace, uint32_t number);

/* ——— what the loop writes ——— */

/* Something that takes time begins with the block `task`, which the flow calls `handle`. */
void tessi_trace_begin(struct tessi_trace *trace, uint32_t handle, struct tessi_task task, uint64_t bytes,
                       int64_t now_ns);
/* What began last with that handle has ended. */
void tessi_trace_end(struct tessi_trace *trace, enum tessi_trace_kind kind, uint32_t handle, uint32_t peer,
                     uint32_t status, int64_t now_ns);
/* Something whose beginning the caller knows; an instant when that is now. */
void tessi_trace_note(struct tessi_trace *trace, enum tessi_trace_kind kind, struct tessi_task task, uint64_t amount,
                      uint32_t peer, int64_t begun_ns, int64_t now_ns);

#endif
