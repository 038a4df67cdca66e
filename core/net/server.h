/* A listening endpoint that talks with many peers (a ZeroMQ ROUTER).
 *
 * Each connection is a peer of its own with a handle that is never reused: who reconnects is
 * a new peer. Peers cannot choose their identity. A message is a header frame and up to
 * TESSI_NET_FRAMES_MAX − 1 payload frames; nothing here looks into them.
 *
 * One thread at a time uses a server. Nothing blocks: BUSY means "would block", and callers
 * bound the bytes of payload in flight by credits of their own, since ZeroMQ's queues count messages.
 * What a connection makes us hold is bounded before its first message, for a message that has not come
 * whole, for messages that it does not read, and for all connections together: see the options. One that
 * goes beyond is ended. */
#ifndef TESSI_NET_SERVER_H
#define TESSI_NET_SERVER_H

#include <stdint.h>

#include "core/base/status.h"
#include "core/net/context.h"
#include "core/net/frame.h"

struct tessi_server;

/* Zero is the default everywhere; also used by clients. */
struct tessi_net_options {
    uint64_t frame_bytes_max; /* a larger received frame ends its connection; 0: 64 KiB (control) */
    /* Servers, of connections over TCP: a connection is ended that makes us hold more (watch.h). */
    uint64_t first_bytes_max;     /* before its first message, after which it waits for an answer; 0: as the next */
    uint64_t message_bytes_max;   /* of a message that has not come whole; 0: four frames and 1 MiB */
    uint64_t held_bytes_max;      /* all of them together; 0: 512 MiB */
    uint32_t strangers_max;       /* connections that have not said anything; 0: 1000. The oldest ends */
    uint64_t unread_bytes_max;    /* servers: of headers that wait for one peer, then sends are BUSY; 0: 16 MiB */
    uint32_t send_queue_messages; /* for each peer; 0: 1000 */
    uint32_t receive_queue_messages;
    uint32_t heartbeat_ms;         /* ZMTP pings, which prove the peer's I/O thread alive; 0: 3 000 */
    uint32_t heartbeat_timeout_ms; /* no answer for so long ends the connection; 0: 30 000, since a frame
                                      that is still arriving does not count as an answer */
    uint32_t linger_ms;            /* close waits for unsent messages this long; 0: 1 000 */
    uint32_t connect_timeout_ms;   /* clients; 0: 5 000 */
    const char *remote_name;       /* clients: how errors call the other side; NULL: "the scheduler" */
};

/* Listen at `address`, e.g. "tcp://127.0.0.1:0"; `options` may be NULL. INVALID: the address; BUSY: the port
 * is taken (the text names it); NOT_FOUND: no such host or interface; IO. */
TESSI_MUST_USE enum tessi_status tessi_server_open(struct tessi_net *net, const char *address,
                                                   const struct tessi_net_options *options,
                                                   struct tessi_server **server, struct tessi_error *error);

/* Listen at one more address (e.g. inproc:// beside tcp://). */
TESSI_MUST_USE enum tessi_status tessi_server_bind(struct tessi_server *server, const char *address,
                                                   struct tessi_error *error);

/* Unsent messages have `linger_ms` to leave. Out of its poller first. NULL is allowed. */
void tessi_server_close(struct tessi_server *server);

/* The first address with its real port, valid until close. */
const char *tessi_server_endpoint(const struct tessi_server *server);

/* The next event, or BUSY when there is none. The caller owns the frames of the event. Messages of
 * one peer come in the order they were sent. A peer's GONE comes after all its messages; a peer that
 * never sent anything is never mentioned. */
TESSI_MUST_USE enum tessi_status tessi_server_receive(struct tessi_server *server, struct tessi_net_event *event);

/* Queue a message: `header` is copied, `frames` are moved. OK: queued, not yet delivered. BUSY: the
 * peer's queue is full and nothing was taken; the poller reports the server once it may have room.
 * LOST: no such peer any more; the frames have been released. */
TESSI_MUST_USE enum tessi_status tessi_server_send(struct tessi_server *server, uint32_t peer, const void *header,
                                                   size_t header_size, struct tessi_frame *frames,
                                                   uint32_t frame_count);

/* Ignore the peer and end its connection, so that nothing is held of and for it. Its GONE still comes. */
void tessi_server_drop(struct tessi_server *server, uint32_t peer);

/* Drop (and count) whatever else this peer sends; its GONE still comes. Sending to it is LOST. */
void tessi_server_ignore(struct tessi_server *server, uint32_t peer);

/* Monotonic time when a message of the peer was last received; 0 for an unknown peer. */
int64_t tessi_server_last_heard_ns(const struct tessi_server *server, uint32_t peer);

/* The host a peer's connection comes from, numeric; "" for inproc, ipc or an unknown peer. */
const char *tessi_server_peer_host(const struct tessi_server *server, uint32_t peer);

uint32_t tessi_server_peer_count(const struct tessi_server *server);

/* What ZeroMQ holds of and for all peers. */
struct tessi_server_gauges {
    uint64_t held_bytes;   /* received and not given out */
    uint64_t unread_bytes; /* of headers that peers have not read */
    uint64_t cut;          /* connections that were ended for what they made us hold */
    uint32_t strangers;    /* connections that have not said anything */
};

struct tessi_server_gauges tessi_server_gauges_read(const struct tessi_server *server);

#endif
