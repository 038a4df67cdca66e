#include "core/net/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/descriptors.h"
#include "core/base/log.h"
#include "core/base/map.h"
#include "core/net/address.h"
#include "core/net/endpoint.h"
#include "core/net/watch.h"

#define EXHAUSTED_EVERY_NS (10 * TESSI_NS_PER_S)

enum {
    ROUTE_BYTES = 5,        /* the identities that ZeroMQ gives: a zero byte and a 32-bit count */
    GONE_REMEMBERED = 4096, /* identities of the last peers that went, to know their late messages */
    MONITOR_EVERY = 256,    /* messages between two looks at connection events, when traffic never stops */
    PEERS_TURNS = 4,       /* messages of each peer after which each had its turn, see look_after */
    HANDSHAKE_MS = 10000,   /* a connection that is silent for so long before it is authenticated is closed */
    HOST_BYTES = 48,
    CLOSE_NS = 1000 * 1000 * 1000, /* see close_listeners */
    UNCOUNTED_MAX = 4096,          /* peers of our own process, whose connections are not told */
};

struct peer {
    uint32_t handle; /* 0: the slot is free */
    uint32_t route;  /* the count in its identity */
    int fd;          /* its connection, or −1 (inproc, or the connection has ended) */
    bool is_ignored;
    bool is_leaving; /* listed in `leaving` */
    int64_t heard_ns;
    struct tessi_debt *debt; /* NULL: nothing long was sent to it yet */
    char host[HOST_BYTES];
};

/* What is known of a connection, by descriptor. */
struct connection {
    bool is_open;
    uint32_t peer; /* handle, or 0 */
};

struct tessi_server {
    struct tessi_endpoint endpoint;
    char text[TESSI_ENDPOINT_MAX];
    int *listeners; /* descriptors of its tcp listeners, which are ZeroMQ's */
    size_t listeners_capacity;
    size_t listeners_count;
    int linger_ms;

    struct peer *peers;
    size_t peers_capacity;
    size_t peers_used; /* slots that were ever used */
    uint32_t peers_count;
    uint32_t *slots_free;
    size_t slots_free_capacity;
    size_t slots_free_count;
    uint32_t handle_last;
    struct tessi_map index; /* see the KEY_ constants */
    uint32_t route_first;   /* ZeroMQ counts its peers upwards from there */
    uint32_t routes_max;    /* so many have come at most */

    struct tessi_watch *watch;
    uint64_t since_look; /* messages */
    int64_t exhausted_ns; /* when it was said that descriptors have run out */
    uint64_t unread_bytes_max;
    struct connection *connections;
    size_t connections_capacity;
    bool after_failure;           /* the last connection event was a failed handshake */
    uint64_t connections_unnamed; /* authenticated, no message yet */

    uint32_t *leaving; /* handles whose GONE is due once everything received has been given out */
    size_t leaving_capacity;
    size_t leaving_count;
    size_t leaving_given;           /* from the front */
    uint32_t gone[GONE_REMEMBERED]; /* a ring of identities */
    uint64_t gone_count;
    uint32_t since_monitor;
};

/* First halves of the index's keys. */
enum { KEY_ROUTE, KEY_HANDLE, KEY_GONE };

static struct tessi_map_key key_of(unsigned kind, uint32_t number)
{
    return (struct tessi_map_key){.high = kind, .low = number};
}

static struct peer *find_peer(const struct tessi_server *server, unsigned kind, uint32_t number)
{
    uint32_t slot = tessi_map_get(&server->index, key_of(kind, number));
    return slot == TESSI_MAP_NONE ? NULL : &server->peers[slot];
}

static void route_write(uint8_t route[ROUTE_BYTES], uint32_t number)
{
    route[0] = 0;
    for (int i = 1; i < ROUTE_BYTES; i++) {
        route[i] = (uint8_t)(number >> (8 * (ROUTE_BYTES - 1 - i)));
    }
}

/* False for an identity that the peer chose. */
static bool route_read(zmq_msg_t *part, uint32_t *number)
{
    const uint8_t *bytes = zmq_msg_data(part);
    if (zmq_msg_size(part) != ROUTE_BYTES || bytes[0] != 0) {
        return false;
    }
    *number = (uint32_t)bytes[1] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 8 | bytes[4];
    return true;
}

/* A peer may choose an identity that looks like ZeroMQ's own. Those are given out in turn, one to each connection that was
 * accepted, so that most that are chosen are known by their number. */
static bool route_is_given(const struct tessi_server *server, uint32_t number)
{
    return number - server->route_first <= server->routes_max;
}

static void count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void peer_leaves(struct tessi_server *server, struct peer *peer)
{
    if (peer->is_leaving) {
        return;
    }
    peer->is_leaving = true;
    tessi_grow(&server->leaving, &server->leaving_capacity, server->leaving_count + 1, sizeof server->leaving[0]);
    server->leaving[server->leaving_count++] = peer->handle;
    server->endpoint.is_pending = true;
}

static struct connection *connection_at(struct tessi_server *server, int fd)
{
    TESS_ASSERT(fd >= 0);
    size_t before = server->connections_capacity;
    tessi_grow(&server->connections, &server->connections_capacity, (size_t)fd + 1, sizeof server->connections[0]);
    if (server->connections_capacity > before) {
        memset(server->connections + before, 0,
               (server->connections_capacity - before) * sizeof server->connections[0]);
    }
    return &server->connections[fd];
}

static void connection_ended(struct tessi_server *server, int fd)
{
    struct connection *connection = connection_at(server, fd);
    if (connection->peer != 0) {
        struct peer *peer = find_peer(server, KEY_HANDLE, connection->peer);
        TESS_ASSERT(peer != NULL);
        peer->fd = -1;
        peer_leaves(server, peer);
    } else if (!server->after_failure) {
        /* ZeroMQ reports some refusals (an old ZMTP, no ZMTP at all) by nothing but the end of the connection. It
         * was one unless an authenticated connection could have gone without ever speaking. */
        if (server->connections_unnamed == 0) {
            count(&server->endpoint.net->handshakes_refused);
        } else {
            server->connections_unnamed--;
        }
    }
    *connection = (struct connection){0};
    tessi_watch_end(server->watch, fd);
}

/* Whether a handshake failed since the other side has another cluster's keys, or none. */
static bool is_about_keys(int detail)
{
    return detail == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC || detail == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH;
}

/* ZeroMQ accepts whoever comes, and turns round on the spot when there is no descriptor left to do so: those that take
 * one of the reserve are turned away. */
static void accepted(struct tessi_server *server, int fd)
{
    int64_t now_ns = tessi_clock_now();
    *connection_at(server, fd) = (struct connection){.is_open = true};
    tessi_watch_begin(server->watch, fd, now_ns);
    server->routes_max++;
    if (tessi_descriptors_exhausted(fd)) {
        tessi_watch_cut(server->watch, fd);
        if (now_ns - server->exhausted_ns >= EXHAUSTED_EVERY_NS) {
            server->exhausted_ns = now_ns;
            tessi_log_event(TESSI_LOG_ERROR, "connections_refused", "reason=" TESSI_LOG_TEXT,
                            "file descriptors have run out: raise `ulimit -n`");
        }
    }
}

/* Take all connection events. Only accepted and ended ones name their descriptor. Events of one connection come in
 * order, and a descriptor's end comes before its reuse. */
static void read_monitor(struct tessi_server *server)
{
    unsigned event = 0;
    int value = 0;
    server->since_monitor = 0;
    while (tessi_endpoint_monitor_next(&server->endpoint, &event, &value)) {
        bool is_failure = false;
        switch (event) {
        case ZMQ_EVENT_ACCEPTED:
            accepted(server, value);
            break;
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            server->connections_unnamed++;
            break;
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
            count(server->endpoint.net->is_encrypted && is_about_keys(value)
                      ? &server->endpoint.net->keys_refused
                      : &server->endpoint.net->handshakes_refused);
            is_failure = true;
            break;
        case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            count(&server->endpoint.net->handshakes_refused);
            is_failure = true;
            break;
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
            is_failure = true; /* The door-keeper has counted it. */
            break;
        case ZMQ_EVENT_DISCONNECTED:
            connection_ended(server, value);
            break;
        default: /* ZeroMQ's numbers, not ours: others say nothing about a connection. */
            break;
        }
        server->after_failure = is_failure;
    }
}

static void attach_connection(struct tessi_server *server, struct peer *peer, int fd)
{
    struct connection *connection = connection_at(server, fd);
    if (!connection->is_open) {
        peer_leaves(server, peer); /* It has spoken and hung up already. */
        return;
    }
    if (connection->peer != 0) {
        /* The descriptor was used again before the message of its former owner was read. */
        struct peer *former = find_peer(server, KEY_HANDLE, connection->peer);
        TESS_ASSERT(former != NULL);
        former->fd = -1;
        peer_leaves(server, former);
    } else {
        server->connections_unnamed -= server->connections_unnamed > 0 ? 1 : 0;
    }
    connection->peer = peer->handle;
    peer->fd = fd;
}

static struct peer *add_peer(struct tessi_server *server, uint32_t route, zmq_msg_t *message)
{
    uint32_t slot;
    if (server->slots_free_count > 0) {
        slot = server->slots_free[--server->slots_free_count];
    } else {
        tessi_grow(&server->peers, &server->peers_capacity, server->peers_used + 1, sizeof server->peers[0]);
        slot = (uint32_t)server->peers_used++;
    }
    server->handle_last = server->handle_last == UINT32_MAX ? 1 : server->handle_last + 1;
    struct peer *peer = &server->peers[slot];
    *peer = (struct peer){.handle = server->handle_last, .route = route, .fd = -1};
    tessi_map_put(&server->index, key_of(KEY_ROUTE, route), slot);
    tessi_map_put(&server->index, key_of(KEY_HANDLE, peer->handle), slot);
    server->peers_count++;
    const char *host = zmq_msg_gets(message, "Peer-Address");
    if (host != NULL) {
        static const char mapped[] = "::ffff:"; /* IPv4 at a listener of both families */
        bool is_mapped = strncmp(host, mapped, sizeof mapped - 1) == 0 && strchr(host, '.') != NULL;
        (void)snprintf(peer->host, sizeof peer->host, "%s", host + (is_mapped ? sizeof mapped - 1 : 0));
    }
    int fd = zmq_msg_get(message, ZMQ_SRCFD);
    if (fd >= 0) { /* over inproc there is none */
        attach_connection(server, peer, fd);
    }
    return peer;
}

static void remove_peer(struct tessi_server *server, struct peer *peer)
{
    uint32_t slot = (uint32_t)(peer - server->peers);
    (void)tessi_map_remove(&server->index, key_of(KEY_ROUTE, peer->route));
    (void)tessi_map_remove(&server->index, key_of(KEY_HANDLE, peer->handle));
    if (peer->fd >= 0) {
        server->connections[peer->fd].peer = 0;
        server->connections_unnamed++; /* The connection goes on without a peer until its end is reported. */
    }
    uint32_t *place = &server->gone[server->gone_count % GONE_REMEMBERED];
    if (server->gone_count >= GONE_REMEMBERED) {
        (void)tessi_map_remove(&server->index, key_of(KEY_GONE, *place));
    }
    *place = peer->route;
    server->gone_count++;
    tessi_map_put(&server->index, key_of(KEY_GONE, peer->route), 0);
    tessi_debt_unref(peer->debt);
    *peer = (struct peer){0};
    tessi_grow(&server->slots_free, &server->slots_free_capacity, server->slots_free_count + 1,
               sizeof server->slots_free[0]);
    server->slots_free[server->slots_free_count++] = slot;
    server->peers_count--;
}

static void give_gone(struct tessi_server *server, struct peer *peer, struct tessi_net_event *event)
{
    event->kind = TESSI_NET_GONE;
    event->peer = peer->handle;
    event->first = false;
    event->frame_count = 0;
    remove_peer(server, peer);
}

/* Look at what connections make us hold, when that is due. What has come whole was given out: ZeroMQ takes its peers in
 * turn, so that each was asked for some when so many messages have been. */
static void look_after(struct tessi_server *server)
{
    struct tessi_endpoint *endpoint = &server->endpoint;
    int64_t now_ns = endpoint->is_stirred || endpoint->timer_ns != TESSI_NEVER ? tessi_clock_now() : 0;
    if (endpoint->is_stirred || now_ns >= endpoint->timer_ns) {
        endpoint->is_stirred = false;
        server->since_look = 0;
        endpoint->timer_ns = tessi_watch_look(server->watch, now_ns);
    }
}

/* What is dropped was held too. */
static void refuse_message(struct tessi_server *server, zmq_msg_t *identity, atomic_uint_fast64_t *counter,
                           struct tessi_net_event *event)
{
    const struct tessi_endpoint *endpoint = &server->endpoint;
    int fd = zmq_msg_get(identity, ZMQ_SRCFD);
    tessi_watch_took(server->watch, fd, endpoint->received_bytes, endpoint->received_frames, false);
    tessi_net_event_clear(event);
    if (counter != NULL) {
        count(counter);
    }
}

/* The peer of a message; NULL: it is nobody's, and dropped. */
static struct peer *sender_of(struct tessi_server *server, zmq_msg_t *identity, bool is_malformed,
                              struct tessi_net_event *event)
{
    struct tessi_net *net = server->endpoint.net;
    uint32_t route = 0;
    if (is_malformed || !route_read(identity, &route)) {
        refuse_message(server, identity, &net->messages_malformed, event);
        return NULL;
    }
    struct peer *peer = find_peer(server, KEY_ROUTE, route);
    event->first = peer == NULL;
    if (peer != NULL) {
        return peer;
    }
    bool is_goodbye = event->frames[0].size == 0;
    if (is_goodbye || tessi_map_get(&server->index, key_of(KEY_GONE, route)) != TESSI_MAP_NONE) {
        refuse_message(server, identity, is_goodbye ? NULL : &net->messages_stale, event);
        return NULL;
    }
    read_monitor(server); /* so that the state of its connection is known */
    if (!route_is_given(server, route)) {
        refuse_message(server, identity, &net->messages_malformed, event);
        return NULL;
    }
    return add_peer(server, route, tessi_endpoint_part_of(&event->frames[0]));
}

/* Turns a received message into an event; false when it is not for the owner. */
static bool give_message(struct tessi_server *server, zmq_msg_t *identity, bool is_malformed,
                         struct tessi_net_event *event)
{
    const struct tessi_endpoint *endpoint = &server->endpoint;
    struct peer *peer = sender_of(server, identity, is_malformed, event);
    if (peer == NULL) {
        return false;
    }
    tessi_watch_took(server->watch, peer->fd, endpoint->received_bytes, endpoint->received_frames, event->first);
    if (event->frames[0].size == 0) { /* a goodbye */
        tessi_net_event_clear(event);
        if (!peer->is_leaving) { /* otherwise its GONE comes from the list */
            give_gone(server, peer, event);
            return true;
        }
        return false;
    }
    if (peer->is_ignored) {
        tessi_net_event_clear(event);
        count(&endpoint->net->messages_stale);
        return false;
    }
    peer->heard_ns = tessi_clock_now();
    event->peer = peer->handle;
    return true;
}

static bool give_leaving(struct tessi_server *server, struct tessi_net_event *event)
{
    if (server->leaving_count == 0) {
        return false;
    }
    struct peer *peer = find_peer(server, KEY_HANDLE, server->leaving[server->leaving_given++]);
    if (server->leaving_given == server->leaving_count) {
        server->leaving_given = 0;
        server->leaving_count = 0;
        server->endpoint.is_pending = false;
    }
    TESS_ASSERT(peer != NULL);
    give_gone(server, peer, event);
    return true;
}

enum tessi_status tessi_server_receive(struct tessi_server *server, struct tessi_net_event *event)
{
    for (;;) {
        zmq_msg_t identity;
        bool is_malformed = false;
        if (++server->since_monitor >= MONITOR_EVERY) {
            read_monitor(server);
        }
        if (++server->since_look > MONITOR_EVERY + PEERS_TURNS * (uint64_t)server->peers_count) {
            look_after(server);
        }
        zmq_msg_init(&identity);
        bool received = tessi_endpoint_receive(&server->endpoint, &identity, event, &is_malformed);
        bool given = received && give_message(server, &identity, is_malformed, event);
        zmq_msg_close(&identity);
        if (given) {
            return TESSI_OK;
        }
        if (received) {
            continue;
        }
        /* Everything received has been given out: now ends may be told. An end that the monitor tells only now is
         * preceded by another look, for its last messages. */
        if (give_leaving(server, event)) {
            return TESSI_OK;
        }
        read_monitor(server);
        if (server->leaving_count == 0) {
            look_after(server);
            return TESSI_BUSY;
        }
    }
}

enum tessi_status tessi_server_send(struct tessi_server *server, uint32_t handle, const void *header,
                                    size_t header_size, struct tessi_frame *frames, uint32_t frame_count)
{
    struct peer *peer = find_peer(server, KEY_HANDLE, handle);
    if (peer == NULL || peer->is_ignored || peer->is_leaving) {
        tessi_frames_release(frames, frame_count);
        return TESSI_LOST;
    }
    uint8_t route[ROUTE_BYTES];
    if (tessi_debt_is_needed(header_size)) {
        peer->debt = peer->debt == NULL ? tessi_debt_create() : peer->debt;
        uint64_t owed = atomic_load(&peer->debt->bytes);
        if (owed > 0 && owed + header_size > server->unread_bytes_max) {
            return tessi_endpoint_busy(&server->endpoint);
        }
    }
    route_write(route, peer->route);
    enum tessi_status status = tessi_endpoint_send(&server->endpoint, route, sizeof route, peer->debt, header,
                                                   header_size, frames, frame_count);
    if (status == TESSI_LOST) {
        peer_leaves(server, peer);
    }
    return status;
}

void tessi_server_ignore(struct tessi_server *server, uint32_t handle)
{
    struct peer *peer = find_peer(server, KEY_HANDLE, handle);
    if (peer != NULL) {
        peer->is_ignored = true;
    }
}

void tessi_server_drop(struct tessi_server *server, uint32_t handle)
{
    struct peer *peer = find_peer(server, KEY_HANDLE, handle);
    if (peer != NULL) {
        peer->is_ignored = true;
        tessi_watch_cut(server->watch, peer->fd);
    }
}

struct tessi_server_gauges tessi_server_gauges_read(const struct tessi_server *server)
{
    struct tessi_watch_gauges watched = tessi_watch_gauges(server->watch);
    struct tessi_server_gauges gauges = {
        .held_bytes = watched.held_bytes, .cut = watched.cut, .strangers = watched.strangers};
    for (size_t i = 0; i < server->peers_used; i++) {
        struct tessi_debt *debt = server->peers[i].debt;
        gauges.unread_bytes += debt != NULL ? atomic_load(&debt->bytes) : 0;
    }
    return gauges;
}

int64_t tessi_server_last_heard_ns(const struct tessi_server *server, uint32_t handle)
{
    const struct peer *peer = find_peer(server, KEY_HANDLE, handle);
    return peer == NULL ? 0 : peer->heard_ns;
}

const char *tessi_server_peer_host(const struct tessi_server *server, uint32_t handle)
{
    const struct peer *peer = find_peer(server, KEY_HANDLE, handle);
    return peer == NULL ? "" : peer->host;
}

uint32_t tessi_server_peer_count(const struct tessi_server *server)
{
    return server->peers_count;
}

static enum tessi_status listen_failed(const char *text, uint16_t port, struct tessi_error *error)
{
    switch (errno) {
    case EADDRINUSE:
        return tessi_fail(
            error, TESSI_BUSY,
            "cannot listen at %s: port %u is in use: stop the program that has it, or choose another port "
            "(0 takes any free one)",
            text, (unsigned)port);
    case EADDRNOTAVAIL:
        return tessi_fail(
            error, TESSI_NOT_FOUND,
            "cannot listen at %s: no interface of this machine has that address: name one, or 0.0.0.0 for all", text);
    case EACCES:
        return tessi_fail(error, TESSI_IO, "cannot listen at %s: not permitted: choose a port above 1023", text);
    default:
        return tessi_fail(error, TESSI_IO, "cannot listen at %s: %s", text, strerror(errno));
    }
}

/* All interfaces of both families: an IPv6 listener takes connections of IPv4 too. False where there is no IPv6, or its
 * address cannot be listened at: a port that is taken is found so again. */
static bool bind_both(const struct tessi_address *address, int *fd_out)
{
    struct sockaddr_in6 place = {.sin6_family = AF_INET6, .sin6_port = htons(address->port), .sin6_addr = in6addr_any};
    int one = 1, zero = 0;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero) != 0 ||
        bind(fd, (const struct sockaddr *)&place, sizeof place) != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    *fd_out = fd;
    return true;
}

static enum tessi_status bind_one(const struct tessi_address *address, int *fd_out, struct tessi_error *error)
{
    struct sockaddr_storage place;
    socklen_t length = 0;
    char text[TESSI_ENDPOINT_MAX];
    int one = 1;
    enum tessi_status status;
    tessi_address_format(address, text, sizeof text);
    TESSI_TRY(tessi_address_resolve(address, &place, &length, error));
    *fd_out = socket(place.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd_out < 0 || setsockopt(*fd_out, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) {
        TESSI_TRY(listen_failed(text, address->port, error));
    }
    struct tessi_address numeric;
    tessi_address_from_socket(&place, &numeric);
    if (tessi_address_is_near(&numeric)) {
        tessi_tune_near(*fd_out); /* Every accepted connection inherits it. */
    }
    if (bind(*fd_out, (const struct sockaddr *)&place, length) != 0) {
        TESSI_TRY(listen_failed(text, address->port, error));
    }
cleanup:
    return status;
}

/* On success the real port is in `address` and the caller owns `*fd_out`. */
static enum tessi_status open_listener(struct tessi_address *address, int *fd_out, struct tessi_error *error)
{
    struct sockaddr_storage place;
    socklen_t length = sizeof place;
    char text[TESSI_ENDPOINT_MAX];
    int fd = -1;
    enum tessi_status status = TESSI_OK;
    tessi_address_format(address, text, sizeof text);
    if (strcmp(address->host, "*") != 0 || !bind_both(address, &fd)) {
        TESSI_TRY(bind_one(address, &fd, error));
    }
    if (listen(fd, SOMAXCONN) != 0 || getsockname(fd, (struct sockaddr *)&place, &length) != 0) {
        TESSI_TRY(listen_failed(text, address->port, error));
    }
    tessi_address_from_socket(&place, address);
cleanup:
    if (status != TESSI_OK && fd >= 0) {
        (void)close(fd);
        fd = -1;
    }
    *fd_out = fd;
    return status;
}

enum tessi_status tessi_server_bind(struct tessi_server *server, const char *address_text, struct tessi_error *error)
{
    struct tessi_endpoint *endpoint = &server->endpoint;
    struct tessi_address address;
    char text[TESSI_ENDPOINT_MAX];
    int fd = -1;
    enum tessi_status status;
    TESSI_TRY(tessi_address_parse(address_text, TESSI_ADDRESS_LISTEN, &address, error));
    if (address.scheme == TESSI_SCHEME_TCP) {
        TESSI_TRY(open_listener(&address, &fd, error));
        TESSI_TRY(tessi_endpoint_set_int(endpoint, ZMQ_IPV6, address.is_ipv6 ? 1 : 0, error));
        TESSI_TRY(tessi_endpoint_set_int(endpoint, ZMQ_USE_FD, fd, error));
    }
    tessi_address_format(&address, text, sizeof text);
    endpoint->is_touched = true;
    if (zmq_bind(endpoint->socket, text) != 0) {
        errno = zmq_errno();
        TESSI_TRY(listen_failed(text, address.port, error));
    }
    if (fd >= 0) {
        tessi_grow(&server->listeners, &server->listeners_capacity, server->listeners_count + 1,
                   sizeof server->listeners[0]);
        server->listeners[server->listeners_count++] = fd;
        fd = -1; /* It is ZeroMQ's now. */
    }
    if (server->text[0] == '\0') {
        memcpy(server->text, text, sizeof text);
    }
    if (address.scheme == TESSI_SCHEME_TCP) {
        TESSI_TRY(tessi_endpoint_set_int(endpoint, ZMQ_USE_FD, -1, error));
    }
cleanup:
    if (fd >= 0) {
        (void)close(fd);
    }
    return status;
}

/* The first of our peers is ourselves: so we know from where ZeroMQ counts them. */
static enum tessi_status learn_first_route(struct tessi_server *server, struct tessi_error *error)
{
    struct tessi_net *net = server->endpoint.net;
    zmq_msg_t identity, greeting;
    char name[64];
    int zero = 0;
    (void)snprintf(name, sizeof name, "inproc://tessi.first.%llu",
                   (unsigned long long)atomic_fetch_add_explicit(&net->monitors_named, 1, memory_order_relaxed));
    void *self = zmq_socket(net->zmq, ZMQ_DEALER);
    zmq_msg_init(&identity);
    zmq_msg_init(&greeting);
    bool learnt = self != NULL && zmq_setsockopt(self, ZMQ_LINGER, &zero, sizeof zero) == 0 &&
                  zmq_bind(server->endpoint.socket, name) == 0 && zmq_connect(self, name) == 0 &&
                  zmq_send(self, "", 0, 0) == 0 && zmq_msg_recv(&identity, server->endpoint.socket, 0) >= 0 &&
                  zmq_msg_recv(&greeting, server->endpoint.socket, 0) >= 0 &&
                  zmq_unbind(server->endpoint.socket, name) == 0;
    int cause = zmq_errno();
    if (learnt) {
        learnt = route_read(&identity, &server->route_first);
        TESS_ASSERT(learnt);
    }
    zmq_msg_close(&identity);
    zmq_msg_close(&greeting);
    if (self != NULL) {
        zmq_close(self);
    }
    server->routes_max = UNCOUNTED_MAX;
    return learnt ? TESSI_OK : tessi_fail(error, TESSI_IO, "cannot open a server: %s", zmq_strerror(cause));
}

enum tessi_status tessi_server_open(struct tessi_net *net, const char *address, const struct tessi_net_options *options,
                                    struct tessi_server **server_out, struct tessi_error *error)
{
    struct tessi_net_options full = tessi_net_options_complete(options);
    struct tessi_server *server = tessi_zalloc(sizeof *server);
    enum tessi_status status;
    *server_out = NULL;
    struct tessi_watch_limits limits = {.first_bytes = full.first_bytes_max,
                                        .message_bytes = full.message_bytes_max,
                                        .all_bytes = full.held_bytes_max,
                                        .strangers = full.strangers_max,
                                        .is_encrypted = tessi_net_is_encrypted(net)};
    server->endpoint.epoll_fd = -1;
    server->endpoint.watch_fd = -1;
    server->exhausted_ns = -EXHAUSTED_EVERY_NS;
    server->unread_bytes_max = full.unread_bytes_max;
    server->linger_ms = full.linger_ms > INT32_MAX ? INT32_MAX : (int)full.linger_ms;
    tessi_map_init(&server->index);
    TESSI_TRY(tessi_watch_create(&limits, &server->watch, error));
    server->endpoint.watch_fd = tessi_watch_fd(server->watch);
    TESSI_TRY(tessi_endpoint_open(&server->endpoint, net, ZMQ_ROUTER, &full, error));
    TESSI_TRY(tessi_endpoint_set_int(&server->endpoint, ZMQ_ROUTER_MANDATORY, 1, error));
    TESSI_TRY(tessi_endpoint_set_int(&server->endpoint, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS, error));
    TESSI_TRY(learn_first_route(server, error));
    TESSI_TRY(tessi_server_bind(server, address, error));
    *server_out = server;
    return TESSI_OK;
cleanup:
    tessi_server_close(server);
    return status;
}

/* ZeroMQ closes listeners some time after the socket. Wait for it, so that the port is free when the server is
 * closed: whoever connects then is refused, and a successor can take the port. */
static void close_listeners(struct tessi_server *server)
{
    struct tessi_endpoint *endpoint = &server->endpoint;
    struct sockaddr_storage place;
    size_t open = server->listeners_count;
    for (size_t i = 0; i < server->listeners_count; i++) {
        socklen_t length = sizeof place;
        struct tessi_address address;
        char text[TESSI_ENDPOINT_MAX];
        int rc = getsockname(server->listeners[i], (struct sockaddr *)&place, &length);
        TESS_ASSERT(rc == 0);
        tessi_address_from_socket(&place, &address);
        tessi_address_format(&address, text, sizeof text);
        if (zmq_unbind(endpoint->socket, text) != 0) {
            return; /* Then closing the socket does it, later. */
        }
    }
    int64_t until_ns = tessi_clock_now() + CLOSE_NS;
    for (int64_t left_ns = CLOSE_NS; open > 0 && left_ns > 0; left_ns = until_ns - tessi_clock_now()) {
        zmq_pollitem_t wait = {.socket = endpoint->monitor, .events = ZMQ_POLLIN};
        unsigned event = 0;
        int value = 0;
        (void)zmq_poll(&wait, 1, left_ns / TESSI_NS_PER_MS + 1);
        while (open > 0 && tessi_endpoint_monitor_next(endpoint, &event, &value)) {
            for (size_t i = 0; event == ZMQ_EVENT_CLOSED && i < server->listeners_count; i++) {
                open -= server->listeners[i] == value ? 1 : 0;
            }
        }
    }
}

void tessi_server_close(struct tessi_server *server)
{
    if (server == NULL) {
        return;
    }
    TESS_ASSERT(server->endpoint.epoll_fd < 0);
    for (size_t i = 0; i < server->peers_used; i++) {
        struct peer *peer = &server->peers[i];
        if (peer->handle != 0 && !peer->is_leaving) {
            uint8_t route[ROUTE_BYTES];
            route_write(route, peer->route);
            tessi_endpoint_send_goodbye(&server->endpoint, route, sizeof route);
        }
    }
    if (server->endpoint.socket != NULL) {
        close_listeners(server);
    }
    tessi_endpoint_close(&server->endpoint, server->linger_ms);
    for (size_t i = 0; i < server->peers_used; i++) {
        tessi_debt_unref(server->peers[i].debt);
    }
    tessi_watch_destroy(server->watch);
    tessi_free(server->listeners);
    tessi_map_fini(&server->index);
    tessi_free(server->peers);
    tessi_free(server->slots_free);
    tessi_free(server->connections);
    tessi_free(server->leaving);
    tessi_free(server);
}

const char *tessi_server_endpoint(const struct tessi_server *server)
{
    return server->text;
}

struct tessi_endpoint *tessi_server_endpoint_of(struct tessi_server *server)
{
    return &server->endpoint;
}
