/* What servers and clients share: a ZeroMQ socket with its options, its monitor, and the way
 * messages pass through it. Private to core/net. */
#ifndef TESSI_NET_ENDPOINT_H
#define TESSI_NET_ENDPOINT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <zmq.h>

#include "core/net/client.h"
#include "core/net/context.h"
#include "core/net/frame.h"
#include "core/net/keys.h"
#include "core/net/server.h"

struct tessi_net {
    void *zmq;
    bool is_encrypted;
    struct tessi_keys keys;
    uint8_t public_key[32];

    pthread_t door_thread;
    void *door_socket; /* the door-keeper's; used by its thread only once that runs */

    unsigned number;        /* in the names of ZeroMQ's threads */
    atomic_bool io_is_kept; /* a poller looks after ZeroMQ's thread: affinity.h */

    atomic_uint endpoints_open;
    atomic_uint_fast64_t monitors_named;
    atomic_uint_fast64_t keys_refused;
    atomic_uint_fast64_t handshakes_refused;
    atomic_uint_fast64_t messages_malformed;
    atomic_uint_fast64_t messages_stale;
};

#define TESSI_NEVER INT64_MAX

struct tessi_endpoint {
    struct tessi_net *net;
    void *socket;
    void *monitor; /* where the socket's connection events arrive */
    int socket_fd; /* readable when ZeroMQ has commands for the socket, not when there are messages */
    int monitor_fd;

    /* For the poller. ZeroMQ's descriptors are edges: whatever is done with a socket may take the signal, so a socket
     * that was touched is looked at before the next wait. A receive that finds nothing has taken all signals before it:
     * what comes later makes a new one. */
    bool is_touched;       /* the socket, since a look or a receive that found nothing */
    bool is_monitor_quiet; /* a look found nothing, and the monitor was not used since */
    bool is_signalled;     /* its descriptor was readable in this round */
    bool is_pending;       /* the owner's own queue has an event */
    bool is_stirred;       /* `watch_fd` was readable; the owner clears it */
    int64_t retry_ns;      /* after a BUSY send: when to report that it may be tried again, or NEVER */
    int64_t timer_ns;      /* when the owner wants to be called, or NEVER */
    uint64_t sends;        /* messages that were sent */
    uint64_t received_bytes, received_frames; /* of the last message, whatever became of them */
    int watch_fd;                             /* of the owner's watch over connections, or −1 */
    int epoll_fd;                             /* the poller's, or −1 */
    void *poller_entry;                       /* the poller's, for epoll */
};

/* Default values put in for zeros. */
struct tessi_net_options tessi_net_options_complete(const struct tessi_net_options *options);

/* A ZeroMQ socket that numbers its peers (ROUTER, REP); NULL with errno set.
 *
 * ZeroMQ counts them upwards from what rand() gives, and ends the process when a peer has chosen the number that is
 * next. rand() begins with the same number in every run, so that anybody could choose it: it is lent a state of our own
 * while the socket takes its number. The program's own sequence stays as it was. */
void *tessi_endpoint_numbered(void *zmq, int type);

/* Create socket and monitor; `type` is ZMQ_ROUTER or ZMQ_DEALER. The poller's fields are kept, so that an
 * endpoint can be closed and opened again while it is watched. */
TESSI_MUST_USE enum tessi_status tessi_endpoint_open(struct tessi_endpoint *endpoint, struct tessi_net *net, int type,
                                                     const struct tessi_net_options *options,
                                                     struct tessi_error *error);
void tessi_endpoint_close(struct tessi_endpoint *endpoint, int linger_ms); /* an unopened one is allowed */

TESSI_MUST_USE enum tessi_status tessi_endpoint_set_int(struct tessi_endpoint *endpoint, int option, int value,
                                                        struct tessi_error *error);

/* The next connection event, ZMQ_EVENT_…; false when there is none. */
bool tessi_endpoint_monitor_next(struct tessi_endpoint *endpoint, unsigned *event, int *value);

/* Look whether there may be something to receive, which takes the descriptors' signals. Not `is_signalled`: none has
 * come, so that only what was used since the last look need be looked at. */
bool tessi_endpoint_has_input(struct tessi_endpoint *endpoint, bool is_signalled);

/* Receive the parts of one message: `first` gets part 0 when it is not NULL (initialised by the caller,
 * closed by it), the others become the event's frames. False when there is no message. A message with too
 * many parts comes with frame_count 0 and `*is_malformed`. */
bool tessi_endpoint_receive(struct tessi_endpoint *endpoint, zmq_msg_t *first, struct tessi_net_event *event,
                            bool *is_malformed);

/* The ZeroMQ message behind a frame just received, which knows its connection (the identity part may not). */
zmq_msg_t *tessi_endpoint_part_of(const struct tessi_frame *frame);

/* Bytes of headers that one peer has not read: those that a callback tells of, since ZeroMQ copies small ones. Outlives
 * its owner while ZeroMQ holds some. */
struct tessi_debt {
    atomic_uint refs; /* the owner's, and one for each header */
    atomic_uint_fast64_t bytes;
};

struct tessi_debt *tessi_debt_create(void);
void tessi_debt_unref(struct tessi_debt *debt); /* NULL is allowed */
/* Whether ZeroMQ copies a header of that size itself. */
bool tessi_debt_is_needed(size_t header_size);

/* Send [route] header frames…; `route` and `debt` may be NULL. BUSY takes nothing; on LOST the frames are released. */
TESSI_MUST_USE enum tessi_status tessi_endpoint_send(struct tessi_endpoint *endpoint, const void *route,
                                                     size_t route_size, struct tessi_debt *debt, const void *header,
                                                     size_t header_size, struct tessi_frame *frames,
                                                     uint32_t frame_count);
/* What is sent would exceed a bound of ours: BUSY, and the poller lets the sender try again. */
enum tessi_status tessi_endpoint_busy(struct tessi_endpoint *endpoint);

/* An empty message says goodbye: it closes a peer in order, also over inproc, which has no monitor. */
void tessi_endpoint_send_goodbye(struct tessi_endpoint *endpoint, const void *route, size_t route_size);

void tessi_frames_release(struct tessi_frame *frames, uint32_t frame_count);

/* Some kernels default to BBR, which paces a stream within a host or a local network to a part of what it can carry:
 * take Reno instead. Any other choice of the system stands, as does BBR towards the world. */
void tessi_tune_near(int fd);

/* The poller's way in. */
struct tessi_endpoint *tessi_server_endpoint_of(struct tessi_server *server);
struct tessi_endpoint *tessi_client_endpoint_of(struct tessi_client *client);
bool tessi_endpoint_watch(struct tessi_endpoint *endpoint, int epoll_fd, void *poller_entry);
void tessi_endpoint_unwatch(struct tessi_endpoint *endpoint);

#endif
