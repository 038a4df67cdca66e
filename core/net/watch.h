/* What the connections of a server make us hold before it is given out.
 *
 * ZeroMQ bounds the size of a frame and the number of messages in its queues, but not the parts of one message: what has
 * come of a message that never ends is held, unseen. The kernel counts what has come over a connection, and the server
 * what it has given out; the rest is held. A watch compares the two where something moves, and ends a connection that
 * makes us hold more than it may: by resetting it, so that ZeroMQ sees its end and frees what it held.
 *
 * A connection at rest costs nothing: its first byte makes the watch's descriptor readable, then it is looked at every
 * few milliseconds until it rests again. Those that have not said anything yet may be so many; the oldest goes first.
 *
 * Connections are told by their descriptors, which are ZeroMQ's. Connections that are not TCP's are only counted. */
#ifndef TESSI_NET_WATCH_H
#define TESSI_NET_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

struct tessi_watch;

/* What is held counts against a connection only when nothing of it was given out for some looks: else it is whole messages
 * that come faster than they are taken, which queues bound. */
struct tessi_watch_limits {
    uint64_t first_bytes;   /* held of a connection of which nothing was given out yet */
    uint64_t message_bytes; /* held of another one */
    uint64_t all_bytes;     /* held of all of them together */
    uint32_t strangers;     /* connections of which nothing was given out yet */
    bool is_encrypted;      /* frames are longer on their way */
};

struct tessi_watch_gauges {
    uint64_t held_bytes;
    uint64_t cut; /* connections that were ended */
    uint32_t strangers;
};

/* IO when descriptors have run out. */
TESSI_MUST_USE enum tessi_status tessi_watch_create(const struct tessi_watch_limits *limits, struct tessi_watch **watch,
                                                    struct tessi_error *error);
void tessi_watch_destroy(struct tessi_watch *watch); /* NULL is allowed */

/* Readable when it is time for a look before the time that the last one gave. */
int tessi_watch_fd(const struct tessi_watch *watch);

void tessi_watch_begin(struct tessi_watch *watch, int fd, int64_t now_ns); /* a connection was accepted */
void tessi_watch_end(struct tessi_watch *watch, int fd);                   /* it has gone; an unknown one is allowed */
/* A message of it was given out, or dropped; `first`: it is a stranger no more. An unknown connection is allowed. */
void tessi_watch_took(struct tessi_watch *watch, int fd, uint64_t bytes, uint64_t frames, bool first);
void tessi_watch_cut(struct tessi_watch *watch, int fd); /* end it, for whatever reason */

/* Measure, when everything that has come whole was given out. When to look again at the latest; INT64_MAX: when its
 * descriptor is readable. */
int64_t tessi_watch_look(struct tessi_watch *watch, int64_t now_ns);

struct tessi_watch_gauges tessi_watch_gauges(const struct tessi_watch *watch);

#endif
