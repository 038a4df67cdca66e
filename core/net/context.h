/* The network of one process: a ZeroMQ context, the cluster's keys and the door-keeper.
 *
 * A thread answers ZeroMQ's authentication requests (ZAP) from before the first socket exists.
 * With keys, every socket encrypts (CURVE) and only the cluster's own public key is let in;
 * without keys, sockets are plain and only plain peers are let in. Both refuse the older ZMTP
 * 1 and 2, which know no authentication and take any bytes for a message.
 *
 * A `tessi_net` may be used by all threads; an embedded cluster shares one, for inproc:// works
 * only inside a context. It outlives its servers and clients. */
#ifndef TESSI_NET_CONTEXT_H
#define TESSI_NET_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"

struct tessi_net;

/* `keys_dir` NULL: no encryption. Statuses: those of tessi_keys_load; UNSUPPORTED without CURVE in
 * libzmq; IO when threads or descriptors have run out. */
TESSI_MUST_USE enum tessi_status tessi_net_create(const char *keys_dir, struct tessi_net **net,
                                                  struct tessi_error *error);

/* After all servers and clients are closed; waits for their linger time. NULL is allowed. */
void tessi_net_destroy(struct tessi_net *net);

bool tessi_net_is_encrypted(const struct tessi_net *net);

struct tessi_net_counters {
    uint64_t keys_refused;       /* connections of who has other keys than ours, or none */
    uint64_t handshakes_refused; /* other accepted connections that ended before they were authenticated */
    uint64_t messages_malformed; /* too many frames, an identity of the peer's own choice, no content */
    uint64_t messages_stale;     /* from peers already reported gone, or told to be ignored */
};

/* A consistent-enough copy, from any thread. Servers add what they see when they receive. */
struct tessi_net_counters tessi_net_counters_read(const struct tessi_net *net);

#endif
