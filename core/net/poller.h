/* Wait for several endpoints, file descriptors and a wake-up from other threads.
 *
 * The rule for every reported endpoint: receive until BUSY (or CLOSED), dispatch all of it, then
 * wait again. An endpoint with events left is simply reported again. The cost of a wait grows with
 * what is ready, not with the number of endpoints (beyond one flag each).
 *
 * One thread uses a poller; only `tessi_poller_wake` may come from others. Endpoints and descriptors
 * are removed before they are closed, and none is in two pollers. */
#ifndef TESSI_NET_POLLER_H
#define TESSI_NET_POLLER_H

#include <stdint.h>

#include "core/base/status.h"
#include "core/net/client.h"
#include "core/net/server.h"

struct tessi_poller;

#define TESSI_POLL_READ 1u  /* endpoints: there are events to receive; descriptors: readable or hung up */
#define TESSI_POLL_WRITE 2u /* endpoints: a send that was BUSY may succeed now; descriptors: writable */
#define TESSI_POLL_WAKE 4u  /* tessi_poller_wake was called since the last wait; `owner` is NULL */

#define TESSI_POLL_FOREVER INT64_MAX

struct tessi_ready {
    void *owner; /* as given when it was added */
    uint32_t events;
};

TESSI_MUST_USE enum tessi_status tessi_poller_create(struct tessi_poller **poller, struct tessi_error *error);
void tessi_poller_destroy(struct tessi_poller *poller); /* empty of endpoints; NULL is allowed */

/* `owner` comes back in tessi_ready. IO when descriptors have run out. */
TESSI_MUST_USE enum tessi_status tessi_poller_add_server(struct tessi_poller *poller, struct tessi_server *server,
                                                         void *owner, struct tessi_error *error);
TESSI_MUST_USE enum tessi_status tessi_poller_add_client(struct tessi_poller *poller, struct tessi_client *client,
                                                         void *owner, struct tessi_error *error);
void tessi_poller_remove_server(struct tessi_poller *poller, struct tessi_server *server);
void tessi_poller_remove_client(struct tessi_poller *poller, struct tessi_client *client);

/* A plain descriptor, level-triggered, `events` of READ and WRITE; adding it again changes both. */
TESSI_MUST_USE enum tessi_status tessi_poller_add_fd(struct tessi_poller *poller, int fd, uint32_t events, void *owner,
                                                     struct tessi_error *error);
void tessi_poller_remove_fd(struct tessi_poller *poller, int fd);

/* Wait until something is ready or `timeout_ns` has passed (0: look only). Fills at most `capacity` entries
 * and returns their number; what did not fit comes next time. A signal ends the wait with 0. */
uint32_t tessi_poller_wait(struct tessi_poller *poller, int64_t timeout_ns, struct tessi_ready *ready,
                           uint32_t capacity);

/* The thread that waits has its processors back, and is not kept where ZeroMQ's thread is for some time (else it may
 * be: see affinity.h). For threads that look instead of sleeping, and before others are made, which inherit. */
void tessi_poller_keep_apart(struct tessi_poller *poller);

/* From any thread, also before the wait begins: end one wait soon. */
void tessi_poller_wake(struct tessi_poller *poller);

#endif
