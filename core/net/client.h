/* A connecting endpoint that talks with one server (a ZeroMQ DEALER).
 *
 *     CONNECTING ──authenticated──▶ READY ──connection ended──▶ ENDED
 *          └────refused, timed out, other keys, other protocol────▶ ENDED
 *
 * While connecting, a refused connection is tried again until `connect_timeout_ms`; other keys or
 * another protocol end it at once. There is no silent reconnection: the other side would take us for
 * a new peer, so the owner sees GONE, opens a new client and introduces itself again.
 *
 * One thread at a time uses a client. Only `tessi_client_connect` and `tessi_client_wait` block. */
#ifndef TESSI_NET_CLIENT_H
#define TESSI_NET_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/net/context.h"
#include "core/net/frame.h"
#include "core/net/server.h"

struct tessi_client;

/* Start to connect to `address`, e.g. "tcp://node1:8786"; `options` may be NULL. The outcome comes as a
 * READY or GONE event; only a host name's look-up blocks. INVALID: the address; NOT_FOUND: the host name; IO. */
TESSI_MUST_USE enum tessi_status tessi_client_open(struct tessi_net *net, const char *address,
                                                   const struct tessi_net_options *options,
                                                   struct tessi_client **client, struct tessi_error *error);

/* Open and wait for the outcome. UNREACHABLE: nothing answers there; AUTH: the keys do not match, or one
 * side has none; PROTOCOL: something else listens there. The READY event has been taken already. */
TESSI_MUST_USE enum tessi_status tessi_client_connect(struct tessi_net *net, const char *address,
                                                      const struct tessi_net_options *options,
                                                      struct tessi_client **client, struct tessi_error *error);

/* Unsent messages have `linger_ms` to leave. Out of its poller first. NULL is allowed. */
void tessi_client_close(struct tessi_client *client);

/* The next event, or BUSY when there is none. The caller owns the frames of the event. After GONE (once),
 * always CLOSED; `tessi_client_error` then says why. */
TESSI_MUST_USE enum tessi_status tessi_client_receive(struct tessi_client *client, struct tessi_net_event *event);

/* Queue a message; allowed while connecting. `header` is copied, `frames` are moved. BUSY: the queue is
 * full and nothing was taken; the poller reports the client once there is room. CLOSED: after GONE, or
 * the connection has just ended; the frames have been released. */
TESSI_MUST_USE enum tessi_status tessi_client_send(struct tessi_client *client, const void *header, size_t header_size,
                                                   struct tessi_frame *frames, uint32_t frame_count);

/* Block until there may be an event to receive (OK) or for `timeout_ns` (TIMEOUT); for callers without poller. */
TESSI_MUST_USE enum tessi_status tessi_client_wait(struct tessi_client *client, int64_t timeout_ns);

bool tessi_client_is_ready(const struct tessi_client *client);

/* Why the client ended: UNREACHABLE, AUTH, PROTOCOL or LOST with its text; OK before that. */
const struct tessi_error *tessi_client_error(const struct tessi_client *client);

const char *tessi_client_endpoint(const struct tessi_client *client);

#endif
