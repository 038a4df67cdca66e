/* Every message between processes, from one table.
 *
 * A row of TESSI_MSG_TABLE names a message and its code, a list TESSI_FIELDS_<name> its fields:
 * F(M, kind, name, limit), where M is the message. From them come the struct, the packer, the bounded unpacker, the dump
 * and the round-trip test. Codes and the order of fields are part of the protocol: a code is never reused, and a
 * change to a field raises TESSI_PROTOCOL_VERSION.
 *
 * On the wire a message is one msgpack array [code, run id, fields …]; the run id is the random number of
 * the scheduler's life (0 in messages that open a connection, before it is known). Tables (spans, ids,
 * boundaries) are columns of little-endian numbers in msgpack binaries. Bytes of blocks are not in the
 * message: they follow it as payload frames (READY_INLINE, BLOCK).
 *
 * Kinds of fields, with their C type:
 *     u32, u64, i64, f64, flag   numbers and bool
 *     text     const char *: at most `limit` bytes, cut when packed; NULL is packed as ""
 *     hello    struct tessi_hello, frozen for ever
 *     task     struct tessi_task
 *     spans    struct tessi_spans with the columns in `limit`; others are 0 on arrival
 *     ids      struct tessi_id_list: u32 values
 *     layers   struct tessi_layer_list: each has passed tessi_layer_check on arrival
 *     report   struct tessi_report
 *     stats    struct tessi_session_counts
 *     trace    struct tessi_trace_list: at most `limit` records, of known kinds on arrival */
#ifndef TESSI_WIRE_MESSAGE_H
#define TESSI_WIRE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/graph/layer.h"
#include "core/graph/report.h"
#include "core/graph/span.h"
#include "core/graph/trace.h"
#include "core/wire/buffer.h"

#define TESSI_PROTOCOL_VERSION 8
#define TESSI_MESSAGE_MAX ((size_t)16 << 20) /* bytes of a message without its payload frames */

#define TESSI_LAYERS_MAX 16384 /* of one message: a layer in memory is far larger than on the wire */

#define TESSI_WIRE_NAME_MAX 63 /* bytes without the final 0, as all limits of texts here */
#define TESSI_WIRE_ADDRESS_MAX 255
#define TESSI_WIRE_RESOURCES_MAX (TESSI_RESOURCES_TEXT_MAX - 1)
#define TESSI_WIRE_TEXT_MAX 2047
#define TESSI_WIRE_DOCUMENT_MAX (8 << 20)
#define TESSI_WIRE_LANES_MAX 1023
#define TESSI_WIRE_TRACE_MAX 4096 /* records in a page: 192 KiB, so that nobody holds much for an asker that is slow */

/* Columns of spans beside session, layer, first and count. */
#define TESSI_SPAN_EPOCH 1u
#define TESSI_SPAN_WORKER 2u
#define TESSI_SPAN_ORDER 4u /* order and order_step */
#define TESSI_SPAN_TIME 8u
#define TESSI_SPAN_DEATHS 16u
#define TESSI_SPAN_DEVICE 32u

/* The hello that opens every connection. Sender fills `families` (numerics, comma-separated; "" for who
 * computes nothing); the rest is written by the packer and tells the receiver who the sender is. */
struct tessi_hello {
    uint32_t protocol;
    char build[TESSI_WIRE_NAME_MAX + 1];
    char families[TESSI_WIRE_NAME_MAX + 1];
};

struct tessi_id_list {
    const uint32_t *items; /* after unpacking: owned */
    size_t count;
};

struct tessi_layer_list { /* after unpacking: owned, each layer too; a taken layer is set to NULL by its taker */
    struct tessi_layer **items;
    size_t count;
};

struct tessi_trace_list {
    const struct tessi_trace_record *items; /* after unpacking: owned */
    size_t count;
};

struct tessi_session_counts { /* as struct tessi_sched_session_stats */
    uint64_t tasks_done, tasks_rerun, steals, workers_lost, bytes_moved;
};

/* NAME, name, code */
#define TESSI_MSG_TABLE(ROW)                                                                                           \
    /* to the scheduler, opening a connection; 1 to 5 are frozen in their first fields */                              \
    ROW(HELLO_WORKER, hello_worker, 1)                                                                                 \
    ROW(HELLO_CLIENT, hello_client, 2)                                                                                 \
    ROW(STATUS_REQUEST, status_request, 3) /* from anyone, answered by STATUS_REPLY */                                 \
    ROW(PEER_HELLO, peer_hello, 4)         /* to a worker, from a worker or a client */                                \
    ROW(REJECT, reject, 5)                 /* answer to any hello */                                                   \
    /* from the scheduler */                                                                                           \
    ROW(WELCOME, welcome, 6)                                                                                           \
    ROW(PEER_UP, peer_up, 7)                                                                                           \
    ROW(PEER_LOST, peer_lost, 8)                                                                                       \
    ROW(LAYERS, layers, 9)                                                                                             \
    ROW(DROP_LAYERS, drop_layers, 10)                                                                                  \
    ROW(ASSIGN, assign, 11)                                                                                            \
    ROW(STEAL, steal, 12)                                                                                              \
    ROW(FREE, free, 13)                                                                                                \
    ROW(ADOPT, adopt, 14)                                                                                              \
    ROW(LOCATION, location, 15)                                                                                        \
    ROW(PUSH, push, 16)                                                                                                \
    ROW(ACCEPTED, accepted, 17)                                                                                        \
    ROW(REFUSED, refused, 18)                                                                                          \
    ROW(PROGRESS, progress, 19)                                                                                        \
    ROW(DONE, done, 20)                                                                                                \
    ROW(FAILED, failed, 21)                                                                                            \
    ROW(BYE, bye, 22)                                                                                                  \
    ROW(SHUTDOWN, shutdown, 23)                                                                                        \
    ROW(STATUS_REPLY, status_reply, 24)                                                                                \
    ROW(TAKE_OVER, take_over, 25)                                                                                      \
    ROW(DETACHED, detached, 27) /* layers that cannot be made again: the client has their names once more */           \
    ROW(LEFT, left, 26) /* answer to LEAVE, when nothing is left to do there */                                        \
    /* to the scheduler */                                                                                             \
    ROW(HEARTBEAT, heartbeat, 32) /* nothing else was sent for heartbeat_ms */                                         \
    ROW(GOODBYE, goodbye, 33)                                                                                          \
    ROW(REPORT, report, 34)                                                                                            \
    ROW(LOCATE, locate, 35)                                                                                            \
    ROW(SUBMIT, submit, 36)                                                                                            \
    ROW(RELEASE, release, 37)                                                                                          \
    ROW(CANCEL, cancel, 38)                                                                                            \
    /* questions of anyone to the scheduler, which hands those for a worker on to it, and their answers' way back */   \
    ROW(TRACE_REQUEST, trace_request, 39)                                                                              \
    ROW(TRACE_PAGE, trace_page, 40)                                                                                    \
    ROW(WHY_REQUEST, why_request, 41)                                                                                  \
    ROW(WHY_REPLY, why_reply, 42)                                                                                      \
    ROW(DETACH, detach, 45)                                                                                            \
    ROW(LEAVE, leave, 43) /* a worker wants to go: GOODBYE follows after LEFT, or when its time is over */             \
    ROW(DEVICE, device, 44) /* what one of a worker's devices is and does; for people, once a second */               \
    /* between workers, and between a worker and a client */                                                           \
    ROW(PEER_WELCOME, peer_welcome, 48)                                                                                \
    ROW(READ, read, 49)                                                                                                \
    ROW(READY_INLINE, ready_inline, 50) /* payload: the block */                                                       \
    ROW(READY_LEASE, ready_lease, 51)                                                                                  \
    ROW(READY_OFFER, ready_offer, 52)                                                                                  \
    ROW(PULL, pull, 53)                                                                                                \
    ROW(BLOCK, block, 54) /* payload: a piece of the block from `offset` on */                                         \
    ROW(MOVED, moved, 55)                                                                                              \
    ROW(ASK, ask, 56)                                                                                                  \
    ROW(PEER_RELEASE, peer_release, 57)                                                                                \
    ROW(REVOKE, revoke, 58)

#define TESSI_FIELDS_worker_info(F, M)                                                                                 \
    F(M, text, name, TESSI_WIRE_NAME_MAX)                                                                              \
    F(M, text, host, TESSI_WIRE_NAME_MAX)                                                                              \
    F(M, text, address, TESSI_WIRE_ADDRESS_MAX)                                                                        \
    F(M, u32, slots, 0)                                                                                                \
    F(M, u64, memory_bytes, 0)                                                                                         \
    F(M, u64, spill_bytes, 0)                                                                                          \
    F(M, text, resources, TESSI_WIRE_RESOURCES_MAX)                                                                    \
    F(M, text, processor, TESSI_WIRE_NAME_MAX)                                                                         \
    F(M, flag, writes, 0)

/* Its devices are of one kind; the figures are those of each (struct tessi_worker_info). */
#define TESSI_FIELDS_hello_worker(F, M)                                                                                \
    F(M, hello, hello, 0) TESSI_FIELDS_worker_info(F, M)                                                               \
    F(M, u32, devices, 0)                                                                                              \
    F(M, text, device, TESSI_WIRE_NAME_MAX)                                                                            \
    F(M, u64, device_memory_bytes, 0)                                                                                  \
    F(M, f64, device_gflops, 0)                                                                                        \
    F(M, f64, device_flops_min, 0)                                                                                     \
    F(M, f64, device_bytes_min, 0)
#define TESSI_FIELDS_hello_client(F, M) F(M, hello, hello, 0) F(M, text, name, TESSI_WIRE_NAME_MAX)
#define TESSI_FIELDS_status_request(F, M) F(M, hello, hello, 0)
#define TESSI_FIELDS_peer_hello(F, M)                                                                                  \
    F(M, hello, hello, 0) F(M, u32, id, 0) F(M, u64, nonce, 0) /* run id: the cluster's */
#define TESSI_FIELDS_reject(F, M) F(M, u32, status, 0) F(M, text, text, TESSI_WIRE_TEXT_MAX)

#define TESSI_FIELDS_welcome(F, M)                                                                                     \
    F(M, u32, id, 0)                                                                                                   \
    F(M, text, family, TESSI_WIRE_NAME_MAX)                                                                            \
    F(M, u32, heartbeat_ms, 0)           /* send something at least so often */                                        \
    F(M, u64, least_memory_bytes, 0)     /* to a client: of the smallest worker; 0: there is none yet */
#define TESSI_FIELDS_peer_up(F, M)                                                                                     \
    F(M, u32, worker, 0) TESSI_FIELDS_worker_info(F, M) F(M, text, family, TESSI_WIRE_NAME_MAX)
#define TESSI_FIELDS_peer_lost(F, M) F(M, u32, worker, 0)
#define TESSI_FIELDS_layers(F, M) F(M, layers, layers, 0)
#define TESSI_FIELDS_drop_layers(F, M) F(M, u32, session, 0) F(M, ids, ids, 0)
#define TESSI_FIELDS_assign(F, M)                                                                                      \
    F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER | TESSI_SPAN_ORDER | TESSI_SPAN_DEATHS)                    \
    F(M, spans, where, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)
#define TESSI_FIELDS_steal(F, M) F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)
#define TESSI_FIELDS_free(F, M) F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)
#define TESSI_FIELDS_adopt(F, M) F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)
#define TESSI_FIELDS_take_over(F, M) F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER | TESSI_SPAN_ORDER)
#define TESSI_FIELDS_location(F, M) F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)
#define TESSI_FIELDS_push(F, M) F(M, u32, worker, 0) F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)
#define TESSI_FIELDS_accepted(F, M) F(M, u32, request, 0)
#define TESSI_FIELDS_refused(F, M) F(M, u32, request, 0) F(M, u32, status, 0) F(M, text, text, TESSI_WIRE_TEXT_MAX)
#define TESSI_FIELDS_progress(F, M) F(M, u32, request, 0) F(M, u64, done, 0) F(M, u64, total, 0)
#define TESSI_FIELDS_done(F, M) F(M, u32, layer, 0) F(M, i64, elapsed_ns, 0) F(M, stats, stats, 0)
#define TESSI_FIELDS_failed(F, M) F(M, u32, layer, 0) F(M, u32, status, 0) F(M, text, text, TESSI_WIRE_TEXT_MAX)
#define TESSI_FIELDS_bye(F, M) F(M, text, text, TESSI_WIRE_TEXT_MAX)
#define TESSI_FIELDS_shutdown(F, M) F(M, text, text, TESSI_WIRE_TEXT_MAX)
#define TESSI_FIELDS_status_reply(F, M) F(M, text, json, TESSI_WIRE_DOCUMENT_MAX)
#define TESSI_FIELDS_left(F, M) /* what became of its blocks */                                                        \
    F(M, u64, handed_blocks, 0) F(M, u64, handed_bytes, 0) F(M, u64, remade_blocks, 0) F(M, u64, lost_blocks, 0)

#define TESSI_FIELDS_heartbeat(F, M) F(M, u64, number, 0)
#define TESSI_FIELDS_goodbye(F, M) F(M, text, text, TESSI_WIRE_TEXT_MAX)
#define TESSI_FIELDS_report(F, M) F(M, report, report, 0)
#define TESSI_FIELDS_locate(F, M) F(M, spans, spans, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)
#define TESSI_FIELDS_submit(F, M) F(M, u32, request, 0) F(M, layers, layers, 0) F(M, ids, wanted, 0)
#define TESSI_FIELDS_release(F, M) F(M, ids, ids, 0)
#define TESSI_FIELDS_cancel(F, M) F(M, ids, ids, 0)
#define TESSI_FIELDS_detach(F, M) F(M, ids, ids, 0)
#define TESSI_FIELDS_detached(F, M) F(M, ids, ids, 0)
#define TESSI_FIELDS_leave(F, M) F(M, u32, wait_ms, 0)
/* number: from 0 on. memory_bytes: what the worker may take of it, used_bytes: what it has taken; total_bytes and
 * total_used_bytes: all of it, by everybody. Figures that the device does not tell are negative. */
#define TESSI_FIELDS_device(F, M)                                                                                      \
    F(M, u32, number, 0)                                                                                               \
    F(M, text, name, TESSI_WIRE_NAME_MAX)                                                                              \
    F(M, flag, lost, 0)                                                                                                \
    F(M, u64, memory_bytes, 0)                                                                                         \
    F(M, u64, used_bytes, 0)                                                                                           \
    F(M, u64, total_bytes, 0)                                                                                          \
    F(M, i64, total_used_bytes, 0)                                                                                     \
    F(M, f64, utilisation, 0)                                                                                          \
    F(M, f64, watts, 0)                                                                                                \
    F(M, f64, joules, 0)                                                                                               \
    F(M, u64, steps, 0)                                                                                                \
    F(M, u64, copied_in_bytes, 0)                                                                                      \
    F(M, u64, copied_out_bytes, 0)

/* worker 0: the scheduler itself. question: echoed. from: number of the first record wanted; beyond the last one: none. */
#define TESSI_FIELDS_trace_request(F, M)                                                                               \
    F(M, hello, hello, 0) F(M, u32, question, 0) F(M, u32, worker, 0) F(M, u32, ring, 0) F(M, u64, from, 0)
/* lanes: names of the ring's rows, a line each. written: records ever. now_ns: the answerer's clock; offset_ns: how far
 * it is before the scheduler's, known to half of delay_ns. error: why there is no page. */
#define TESSI_FIELDS_trace_page(F, M)                                                                                  \
    F(M, u32, question, 0)                                                                                             \
    F(M, u32, worker, 0)                                                                                               \
    F(M, u32, ring, 0)                                                                                                 \
    F(M, u32, rings, 0)                                                                                                \
    F(M, text, lanes, TESSI_WIRE_LANES_MAX)                                                                            \
    F(M, u64, from, 0)                                                                                                 \
    F(M, u64, written, 0)                                                                                              \
    F(M, i64, now_ns, 0)                                                                                               \
    F(M, i64, offset_ns, 0)                                                                                            \
    F(M, i64, delay_ns, 0)                                                                                             \
    F(M, text, error, TESSI_WIRE_TEXT_MAX)                                                                             \
    F(M, trace, records, TESSI_WIRE_TRACE_MAX)
/* chosen: this task (session 0: of whichever session has it); else the first that waits in each session. The scheduler
 * answers with JSON, a worker with lines. */
#define TESSI_FIELDS_why_request(F, M)                                                                                 \
    F(M, hello, hello, 0) F(M, u32, question, 0) F(M, u32, worker, 0) F(M, flag, chosen, 0) F(M, task, task, 0)
#define TESSI_FIELDS_why_reply(F, M) F(M, u32, question, 0) F(M, text, text, TESSI_WIRE_DOCUMENT_MAX)

#define TESSI_FIELDS_peer_welcome(F, M) F(M, u32, id, 0) F(M, u64, nonce, 0)
#define TESSI_FIELDS_read(F, M) F(M, spans, spans, TESSI_SPAN_EPOCH) F(M, flag, lease, 0)
#define TESSI_FIELDS_ready_inline(F, M) F(M, task, task, 0) F(M, u32, epoch, 0)
#define TESSI_FIELDS_ready_lease(F, M) F(M, task, task, 0) F(M, u32, epoch, 0) F(M, u64, offset, 0) F(M, u64, bytes, 0)
#define TESSI_FIELDS_ready_offer(F, M) F(M, task, task, 0) F(M, u32, epoch, 0) F(M, u64, bytes, 0)
#define TESSI_FIELDS_pull(F, M) F(M, task, task, 0)
#define TESSI_FIELDS_block(F, M) F(M, task, task, 0) F(M, u64, offset, 0) F(M, u64, total, 0)
#define TESSI_FIELDS_moved(F, M) F(M, task, task, 0) F(M, u32, worker, 0) F(M, u32, epoch, 0)
#define TESSI_FIELDS_ask(F, M) F(M, task, task, 0)
#define TESSI_FIELDS_peer_release(F, M) F(M, task, task, 0)
#define TESSI_FIELDS_revoke(F, M) F(M, task, task, 0)

/* kind, C type */
#define TESSI_WIRE_KINDS(ROW)                                                                                          \
    ROW(u32, uint32_t)                                                                                                 \
    ROW(u64, uint64_t)                                                                                                 \
    ROW(i64, int64_t)                                                                                                  \
    ROW(f64, double)                                                                                                   \
    ROW(flag, bool)                                                                                                    \
    ROW(text, const char *)                                                                                            \
    ROW(hello, struct tessi_hello)                                                                                     \
    ROW(task, struct tessi_task)                                                                                       \
    ROW(spans, struct tessi_spans)                                                                                     \
    ROW(ids, struct tessi_id_list)                                                                                     \
    ROW(layers, struct tessi_layer_list)                                                                               \
    ROW(report, struct tessi_report)                                                                                   \
    ROW(stats, struct tessi_session_counts)                                                                            \
    ROW(trace, struct tessi_trace_list)

#define TESSI_ROW(kind, type) typedef type tessi_wire_type_##kind;
TESSI_WIRE_KINDS(TESSI_ROW)
#undef TESSI_ROW

enum tessi_wire_kind {
#define TESSI_ROW(kind, type) TESSI_WIRE_##kind,
    TESSI_WIRE_KINDS(TESSI_ROW)
#undef TESSI_ROW
};

enum tessi_msg_type {
#define TESSI_ROW(NAME, name, code) TESSI_MSG_##NAME = code,
    TESSI_MSG_TABLE(TESSI_ROW)
#undef TESSI_ROW
};
#define TESSI_MSG_CODE_END 59 /* one past the highest */

/* struct tessi_msg_assign { struct tessi_spans spans; struct tessi_spans where; }; … */
#define TESSI_FIELD(message, kind, name, limit) tessi_wire_type_##kind name;
#define TESSI_ROW(NAME, name, code)                                                                                    \
    struct tessi_msg_##name {                                                                                          \
        TESSI_FIELDS_##name(TESSI_FIELD, name)                                                                         \
    };
TESSI_MSG_TABLE(TESSI_ROW)
#undef TESSI_ROW
#undef TESSI_FIELD

struct tessi_message {
    enum tessi_msg_type type;
    uint64_t run_id;
    union {
#define TESSI_ROW(NAME, name, code) struct tessi_msg_##name name;
        TESSI_MSG_TABLE(TESSI_ROW)
#undef TESSI_ROW
    } as;
};

/* Append the message; everything it points to is borrowed. TOO_BIG (nothing appended) above TESSI_MESSAGE_MAX. */
TESSI_MUST_USE enum tessi_status tessi_message_pack(struct tessi_buffer *buffer, const struct tessi_message *message,
                                                    struct tessi_error *error);

/* Read what came. OK: the message owns what it points to, until tessi_message_fini. FORMAT: malformed.
 * VERSION: a hello of another protocol version; the text names both. NOMEM. Nothing is kept on failure. */
TESSI_MUST_USE enum tessi_status tessi_message_unpack(const void *bytes, size_t size, struct tessi_message *message,
                                                      struct tessi_error *error);
void tessi_message_fini(struct tessi_message *message);

/* Only the kind and the run id of a message: false when it does not begin like one that we know. */
bool tessi_message_peek(const void *bytes, size_t size, enum tessi_msg_type *type, uint64_t *run_id);

/* "assign run_id=… spans=[1.3:0+64 …] …" into text, cut to fit; returns text. */
const char *tessi_message_dump(const struct tessi_message *message, char *text, size_t size);
const char *tessi_message_name(enum tessi_msg_type type);

/* Spans that the message only borrows. */
static inline struct tessi_spans tessi_spans_view(const struct tessi_span *items, size_t count)
{
    return (struct tessi_spans){(struct tessi_span *)(uintptr_t)items, count, 0};
}

/* The table at run time. */
struct tessi_wire_field {
    const char *name;
    enum tessi_wire_kind kind;
    size_t offset; /* in the message's struct */
    uint32_t limit;
};
struct tessi_wire_row {
    const char *name; /* NULL: no such message */
    const struct tessi_wire_field *fields;
    uint32_t field_count;
};
const struct tessi_wire_row *tessi_wire_row(uint32_t code); /* NULL: no such message */

#endif
