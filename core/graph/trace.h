/* One event of a run's trace: what happened to a task or a block, where and when.
 *
 * Records have one fixed size and go as they are from the ring of whoever wrote them onto the wire and
 * into the file that `tessera trace` makes. Times are of the monotonic clock of the machine that wrote
 * them; whoever reads records of several machines brings them together. */
#ifndef TESSI_GRAPH_TRACE_H
#define TESSI_GRAPH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NAME, name, code (never reused), what `amount` counts. Workers write those below 16, the scheduler the others. */
#define TESSI_TRACE_KINDS(ROW)                                                                                         \
    ROW(RUN, run, 1, "wait_ns")          /* a step on a slot; peer: the step's number; why: its status */              \
    ROW(FETCH, fetch, 2, "bytes")        /* PULL to the last byte; peer: who sent */                                   \
    ROW(INLINE, inline, 3, "bytes")      /* READ to the answer that holds the bytes: the block's making included */    \
    ROW(MAP, map, 4, "bytes")            /* READ to the lease on a neighbour's memory: likewise */                     \
    ROW(SERVE, serve, 5, "bytes")        /* an instant: a block or a lease on it goes to peer */                       \
    ROW(SPILL, spill, 6, "bytes")        /* why: its status */                                                         \
    ROW(LOAD, load, 7, "bytes")                                                                                        \
    ROW(GIVE, give, 8, "tasks")          /* an instant: tasks from index on go to the thief, peer */                   \
    ROW(KEEP, keep, 9, "tasks")          /* an instant: asked for, but they stay */                                    \
    ROW(COPY_IN, copy_in, 10, "bytes")   /* to a device; peer: its number; why: its status */                          \
    ROW(COPY_OUT, copy_out, 11, "bytes") /* from it: likewise */                                                       \
    ROW(JOIN, join, 16, "slots")         /* a worker, peer */                                                          \
    ROW(LEAVE, leave, 17, "tasks")       /* a worker is gone; tasks: given to it and not done; index: bytes it had */   \
    ROW(LAYER, layer, 18, "tasks")       /* submitted; peer: its operation */                                          \
    ROW(TAKE, take, 19, "tasks")         /* a steal of tasks that were waiting for giver, to peer; why */              \
    ROW(ASK, ask, 20, "tasks")           /* tasks given to giver are asked back for peer (0: anybody); why */          \
    ROW(CONFIRM, confirm, 21, "tasks")   /* … and moved: they had not started */                                       \
    ROW(REFUSE, refuse, 22, "tasks")     /* … and stay; why */                                                         \
    ROW(NAME, name, 23, "from")          /* of a layer: tessi_trace_name_put */

enum tessi_trace_kind {
#define TESSI_ROW(NAME, name, code, amount) TESSI_TRACE_##NAME = code,
    TESSI_TRACE_KINDS(TESSI_ROW)
#undef TESSI_ROW
};
#define TESSI_TRACE_KIND_END 24

/* Why tasks were to move, or stayed. NAME, code, text */
#define TESSI_TRACE_WHYS(ROW)                                                                                          \
    ROW(NOTHING, 0, "")                                                                                                \
    ROW(IDLE_SLOTS, 1, "the thief had fewer tasks than slots")                                                         \
    ROW(SHORT_QUEUE, 2, "the thief's queue was about to run dry")                                                      \
    ROW(STARTED, 3, "it had started")                                                                                  \
    ROW(DONE, 4, "it was done")                                                                                        \
    ROW(ELSEWHERE, 5, "it was no longer there")                                                                        \
    ROW(BUSY, 6, "its worker was about to run it")                                                                     \
    ROW(LEAVING, 7, "its worker leaves")

enum tessi_trace_why {
#define TESSI_ROW(NAME, code, text) TESSI_TRACE_WHY_##NAME = code,
    TESSI_TRACE_WHYS(TESSI_ROW)
#undef TESSI_ROW
};
#define TESSI_TRACE_WHY_END 8

struct tessi_trace_record {
    uint64_t index; /* of the task, or of the first of several */
    int64_t start_ns;
    union {
        int64_t took_ns; /* 0: an instant */
        uint64_t giver;  /* TAKE to REFUSE: the worker that is to give; they are instants */
    };
    uint64_t amount; /* bytes, tasks, or how long the task had been here when it began; see the kind */
    uint32_t session, layer;
    uint32_t peer;
    uint16_t lane; /* row of the ring's table of lanes */
    uint8_t kind;  /* enum tessi_trace_kind */
    uint8_t why;   /* enum tessi_trace_why, or a status */
};
#define TESSI_TRACE_RECORD_BYTES 48
_Static_assert(sizeof(struct tessi_trace_record) == TESSI_TRACE_RECORD_BYTES, "records travel as memory");

/* A name takes as many records as it takes: so many bytes in each, where a task's number and duration are otherwise,
 * beginning with the one that `amount` says. */
#define TESSI_TRACE_NAME_BYTES 16
struct tessi_trace_record tessi_trace_name_put(uint32_t session, uint32_t layer, const char *name, size_t from);
/* The bytes, ended by a 0. */
void tessi_trace_name_get(const struct tessi_trace_record *record, char text[TESSI_TRACE_NAME_BYTES + 1]);

bool tessi_trace_kind_valid(uint32_t code);
const char *tessi_trace_kind_name(enum tessi_trace_kind kind);
const char *tessi_trace_amount_name(enum tessi_trace_kind kind);
const char *tessi_trace_why_text(uint32_t code); /* "" for a code that we do not have */

#endif
