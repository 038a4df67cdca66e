/* Addresses of endpoints: tcp://host:port, ipc://path and inproc://name.
 *
 * Hosts are names, IPv4 addresses, IPv6 addresses in brackets, or `*` (all interfaces, of IPv6 too
 * where it is there) for listening. `tcp://` may be left out. */
#ifndef TESSI_NET_ADDRESS_H
#define TESSI_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/base/status.h"

#define TESSI_PORT_DEFAULT 8786
#define TESSI_HOST_MAX 256
#define TESSI_ENDPOINT_MAX 288 /* the longest endpoint text with its end */

enum tessi_scheme {
    TESSI_SCHEME_TCP,
    TESSI_SCHEME_IPC,
    TESSI_SCHEME_INPROC,
};

struct tessi_address {
    enum tessi_scheme scheme;
    char host[TESSI_HOST_MAX]; /* tcp: without brackets; ipc: the path; inproc: the name */
    uint16_t port;             /* tcp only; 0: any free one (listening only) */
    bool is_ipv6;              /* the host was written in brackets */
};

enum tessi_address_use {
    TESSI_ADDRESS_LISTEN,  /* port 0 and `*` are allowed */
    TESSI_ADDRESS_CONNECT, /* neither is */
};

/* Parse and check; INVALID with a text that says what to write instead. */
TESSI_MUST_USE enum tessi_status tessi_address_parse(const char *text, enum tessi_address_use use,
                                                     struct tessi_address *address, struct tessi_error *error);

/* The endpoint as text, brackets included; TESSI_ENDPOINT_MAX suffices. */
void tessi_address_format(const struct tessi_address *address, char *text, size_t text_size);

/* Only programs on this machine can reach it: 127.0.0.0/8, ::1, localhost, ipc, inproc. */
bool tessi_address_is_loopback(const struct tessi_address *address);
/* So can programs of its own network at most: loopback, and the private and link-local ranges of IPv4 and IPv6. */
bool tessi_address_is_near(const struct tessi_address *address);

/* Listening there takes connections on all interfaces: `*`, 0.0.0.0, [::]. Such an address cannot be
 * handed to others; see tessi_address_source. */
bool tessi_address_is_wildcard(const struct tessi_address *address);

/* Look up a tcp host (blocking: the system's resolver). IPv4 is preferred, since that is what the other
 * side listens on unless it was told otherwise. NOT_FOUND when the name has no address. */
TESSI_MUST_USE enum tessi_status tessi_address_resolve(const struct tessi_address *address,
                                                       struct sockaddr_storage *socket_address, socklen_t *length,
                                                       struct tessi_error *error);

/* Numeric text of a tcp socket address, for endpoints. */
void tessi_address_from_socket(const struct sockaddr_storage *socket_address, struct tessi_address *address);

/* The address that this machine would use towards `remote`: what a worker that listens on all interfaces
 * tells its scheduler. Only `host` and `is_ipv6` of `local` are set; no packet is sent. */
TESSI_MUST_USE enum tessi_status tessi_address_source(const struct tessi_address *remote, struct tessi_address *local,
                                                      struct tessi_error *error);

#endif
