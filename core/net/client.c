#include "core/net/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/descriptors.h"
#include "core/net/address.h"
#include "core/net/endpoint.h"
#include "core/net/send_queue.h"

enum {
    RETRY_AFTER_MS = 100, /* between two attempts to connect */
    DESCRIPTORS = 8,      /* that a client takes: those of its socket and its monitor, and the connection */
    ABRUPT_ATTEMPTS = 3,  /* handshakes that end without a word, before that is taken for the answer */
};

enum client_state {
    CLIENT_CONNECTING,
    CLIENT_READY,
    CLIENT_ENDED,
};

/* How the latest attempt went, for the text at the end. */
enum attempt {
    ATTEMPT_RUNNING,
    ATTEMPT_ACCEPTED, /* the connection stands, the handshake runs */
    ATTEMPT_REFUSED,
    ATTEMPT_ABRUPT, /* the connection ended during the handshake */
};

struct tessi_client {
    struct tessi_endpoint endpoint;
    struct tessi_net_options options;
    char remote_name[64];
    char text[TESSI_ENDPOINT_MAX];    /* as the user wrote it, completed */
    char numeric[TESSI_ENDPOINT_MAX]; /* with the host resolved, for ZeroMQ */
    bool is_ipv6;
    bool is_inproc;

    enum client_state state;
    bool ready_is_due; /* the READY event has not been taken */
    bool gone_is_due;
    struct tessi_error end;

    enum attempt attempt;
    uint32_t abrupt_count;
    int64_t deadline_ns;
    int64_t again_ns; /* start the next attempt, or TESSI_NEVER */

    struct tessi_send_queue waiting; /* sent while connecting */
};

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void set_timer(struct tessi_client *client)
{
    client->endpoint.timer_ns =
        client->state == CLIENT_CONNECTING ? earlier(client->deadline_ns, client->again_ns) : TESSI_NEVER;
}

static enum tessi_status start_attempt(struct tessi_client *client, struct tessi_error *error)
{
    enum tessi_status status;
    client->attempt = ATTEMPT_RUNNING;
    client->again_ns = TESSI_NEVER;
    TESSI_TRY(tessi_endpoint_open(&client->endpoint, client->endpoint.net, ZMQ_DEALER, &client->options, error));
    /* No reconnection behind our back, within days: it would mix what was sent to the former peer into the new
     * connection. ZeroMQ's own way to say never (−1) throws away what was received and not yet read. */
    TESSI_TRY(tessi_endpoint_set_int(&client->endpoint, ZMQ_RECONNECT_IVL, 1 << 29, error));
    /* Our own deadline, which knows better what to say, ends a handshake that stalls. */
    TESSI_TRY(tessi_endpoint_set_int(&client->endpoint, ZMQ_HANDSHAKE_IVL, 0, error));
    TESSI_TRY(tessi_endpoint_set_int(&client->endpoint, ZMQ_IPV6, client->is_ipv6 ? 1 : 0, error));
    if (zmq_connect(client->endpoint.socket, client->numeric) != 0) {
        TESSI_TRY(tessi_fail(error, TESSI_IO, "cannot connect to %s: %s", client->text, zmq_strerror(zmq_errno())));
    }
    set_timer(client);
cleanup:
    if (status != TESSI_OK) {
        tessi_endpoint_close(&client->endpoint, 0);
    }
    return status;
}

/* The error's text is in `client->end`. */
static void client_ends(struct tessi_client *client)
{
    client->state = CLIENT_ENDED;
    client->gone_is_due = true;
    client->endpoint.is_pending = true;
    tessi_send_queue_fini(&client->waiting);
    set_timer(client);
}

static void ends_by_keys(struct tessi_client *client)
{
    const char *name = client->remote_name;
    if (tessi_net_is_encrypted(client->endpoint.net)) {
        (void)tessi_fail(&client->end, TESSI_AUTH,
                         "%s at %s refused our key: check that --keys names the same keys on both sides, and that it "
                         "does not run without keys",
                         name, client->text);
    } else {
        (void)tessi_fail(&client->end, TESSI_AUTH,
                         "%s at %s asks for keys and we have none (or something else listens there): give the "
                         "cluster's keys with --keys",
                         name, client->text);
    }
    client_ends(client);
}

static void ends_by_mechanism(struct tessi_client *client)
{
    if (tessi_net_is_encrypted(client->endpoint.net)) {
        (void)tessi_fail(
            &client->end, TESSI_AUTH,
            "%s at %s runs without keys and we use some: start it with --keys too, or leave --keys out here",
            client->remote_name, client->text);
        client_ends(client);
    } else {
        ends_by_keys(client);
    }
}

static void ends_by_protocol(struct tessi_client *client)
{
    (void)tessi_fail(&client->end, TESSI_PROTOCOL,
                     "what listens at %s does not speak Tessera's protocol: check the address and the port of %s",
                     client->text, client->remote_name);
    client_ends(client);
}

static void ends_by_timeout(struct tessi_client *client)
{
    const char *what = "nothing answers";
    const char *remedy = "check the address, the network and firewalls";
    switch (client->attempt) {
    case ATTEMPT_RUNNING:
        break;
    case ATTEMPT_ACCEPTED:
        what = "the connection is accepted, but nothing is said on it";
        remedy = "check the port, and whether the program there is stopped or overloaded";
        break;
    case ATTEMPT_REFUSED:
        what = "the connection is refused or the host is not reachable";
        remedy = "check that it is running and listens at this address";
        break;
    case ATTEMPT_ABRUPT:
        what = "the connection ends at once";
        remedy = "check its log, and --keys on both sides";
        break;
    }
    (void)tessi_fail(&client->end, TESSI_UNREACHABLE, "cannot reach %s at %s: %s (tried for %.1f s): %s",
                     client->remote_name, client->text, what, client->options.connect_timeout_ms / 1000.0, remedy);
    client_ends(client);
}

static void attempt_failed(struct tessi_client *client, enum attempt how, int64_t now_ns)
{
    if (client->again_ns != TESSI_NEVER) {
        return; /* A second event of the same failure. */
    }
    client->attempt = how;
    if (how == ATTEMPT_ABRUPT && ++client->abrupt_count >= ABRUPT_ATTEMPTS) {
        /* A server that cannot read our key exchange, or expects one, closes without a word. */
        ends_by_keys(client);
        return;
    }
    client->again_ns = now_ns + RETRY_AFTER_MS * TESSI_NS_PER_MS;
    set_timer(client);
}

/* What came of a message that cannot be sent is told by the connection's end. */
static enum tessi_status send_waiting(void *context, const void *header, size_t header_size, struct tessi_frame *frames,
                                      uint32_t frame_count)
{
    struct tessi_client *client = context;
    enum tessi_status status =
        tessi_endpoint_send(&client->endpoint, NULL, 0, NULL, header, header_size, frames, frame_count);
    return status == TESSI_BUSY ? status : TESSI_OK;
}

static void waiting_flush(struct tessi_client *client)
{
    (void)tessi_send_queue_flush(&client->waiting, send_waiting, client);
}

static void becomes_ready(struct tessi_client *client)
{
    client->state = CLIENT_READY;
    client->ready_is_due = true;
    client->endpoint.is_pending = true;
    set_timer(client);
    waiting_flush(client);
}

static void handshake_refused(struct tessi_client *client, int reason)
{
    if (reason == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) {
        ends_by_mechanism(client);
    } else if (reason == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC) {
        ends_by_keys(client);
    } else {
        ends_by_protocol(client);
    }
}

/* ZeroMQ opens the socket itself and only names its descriptor afterwards. By then it may have been closed and be
 * another's, so it is left alone unless it is a connection to the same place. */
static void tune_connection(const struct tessi_client *client, int fd)
{
    struct sockaddr_storage place;
    socklen_t length = sizeof place;
    struct tessi_address address;
    char text[TESSI_ENDPOINT_MAX];
    if (fd < 0 || getpeername(fd, (struct sockaddr *)&place, &length) != 0 ||
        (place.ss_family != AF_INET && place.ss_family != AF_INET6)) {
        return;
    }
    tessi_address_from_socket(&place, &address);
    tessi_address_format(&address, text, sizeof text);
    if (tessi_address_is_near(&address) && strcmp(text, client->numeric) == 0) {
        tessi_tune_near(fd);
    }
}

static void on_connecting(struct tessi_client *client, unsigned event, int value, int64_t now_ns)
{
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        client->attempt = ATTEMPT_ACCEPTED;
        tune_connection(client, value);
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        becomes_ready(client);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        ends_by_keys(client);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        handshake_refused(client, value);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        attempt_failed(client, ATTEMPT_ABRUPT, now_ns);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (client->again_ns == TESSI_NEVER) {
            ends_by_protocol(client); /* Without a failure before it, our side hung up on nonsense. */
        }
        break;
    case ZMQ_EVENT_CLOSED:
        attempt_failed(client, ATTEMPT_REFUSED, now_ns);
        break;
    default: /* ZeroMQ's numbers, not ours. */
        break;
    }
}

static void ends_by_disconnect(struct tessi_client *client, const char *how)
{
    (void)tessi_fail(&client->end, TESSI_LOST,
                     "the connection to %s at %s %s: its log says more; connecting again starts a new one",
                     client->remote_name, client->text, how);
    client_ends(client);
}

/* Take connection events and timers; true when the owner may have something to receive. */
static bool client_step(struct tessi_client *client)
{
    enum client_state before = client->state;
    unsigned event = 0;
    int value = 0;
    int64_t now_ns = client->state == CLIENT_CONNECTING ? tessi_clock_now() : 0;
    while (client->state != CLIENT_ENDED && tessi_endpoint_monitor_next(&client->endpoint, &event, &value)) {
        if (client->state == CLIENT_CONNECTING) {
            on_connecting(client, event, value, now_ns);
        } else if (event == ZMQ_EVENT_DISCONNECTED) {
            ends_by_disconnect(client, "has ended");
        }
    }
    if (client->state == CLIENT_CONNECTING && now_ns >= client->deadline_ns) {
        ends_by_timeout(client);
    } else if (client->state == CLIENT_CONNECTING && now_ns >= client->again_ns) {
        tessi_endpoint_close(&client->endpoint, 0);
        if (start_attempt(client, &client->end) != TESSI_OK) {
            client_ends(client);
        }
    }
    return client->state != before;
}

enum tessi_status tessi_client_receive(struct tessi_client *client, struct tessi_net_event *event)
{
    event->peer = 0;
    event->first = false;
    event->frame_count = 0;
    for (;;) {
        if (client->ready_is_due) {
            client->ready_is_due = false;
            client->endpoint.is_pending = client->gone_is_due;
            event->kind = TESSI_NET_READY;
            return TESSI_OK;
        }
        if (client->state == CLIENT_ENDED && !client->gone_is_due) {
            return TESSI_CLOSED;
        }
        bool is_malformed = false;
        if (client->state != CLIENT_CONNECTING && client->endpoint.socket != NULL &&
            tessi_endpoint_receive(&client->endpoint, NULL, event, &is_malformed)) {
            if (is_malformed) {
                atomic_fetch_add_explicit(&client->endpoint.net->messages_malformed, 1, memory_order_relaxed);
            } else if (event->frames[0].size > 0) {
                return TESSI_OK;
            } else {
                tessi_net_event_clear(event);
                if (client->state == CLIENT_READY) {
                    ends_by_disconnect(client, "was closed by it");
                }
            }
            continue;
        }
        if (client->state == CLIENT_ENDED) {
            client->gone_is_due = false;
            client->endpoint.is_pending = false;
            event->kind = TESSI_NET_GONE;
            return TESSI_OK;
        }
        if (client->state == CLIENT_READY) {
            waiting_flush(client);
        }
        if (!client_step(client)) {
            return TESSI_BUSY;
        }
    }
}

static enum tessi_status keep_waiting(struct tessi_client *client, const void *header, size_t header_size,
                                      struct tessi_frame *frames, uint32_t frame_count)
{
    if (client->waiting.count >= client->options.send_queue_messages) {
        if (client->endpoint.retry_ns == TESSI_NEVER) {
            client->endpoint.retry_ns = tessi_clock_now() + TESSI_NS_PER_MS;
        }
        return TESSI_BUSY;
    }
    tessi_send_queue_add(&client->waiting, header, header_size, frames, frame_count);
    return TESSI_OK;
}

enum tessi_status tessi_client_send(struct tessi_client *client, const void *header, size_t header_size,
                                    struct tessi_frame *frames, uint32_t frame_count)
{
    TESS_ASSERT(header_size > 0 && frame_count < TESSI_NET_FRAMES_MAX);
    if (client->state == CLIENT_CONNECTING) {
        return keep_waiting(client, header, header_size, frames, frame_count);
    }
    if (client->state == CLIENT_ENDED) {
        tessi_frames_release(frames, frame_count);
        return TESSI_CLOSED;
    }
    waiting_flush(client);
    if (client->waiting.count > 0) {
        return TESSI_BUSY;
    }
    enum tessi_status status =
        tessi_endpoint_send(&client->endpoint, NULL, 0, NULL, header, header_size, frames, frame_count);
    return status == TESSI_LOST ? TESSI_CLOSED : status;
}

static bool client_has_event(struct tessi_client *client)
{
    return client->endpoint.is_pending || client->state == CLIENT_ENDED ||
           tessi_clock_now() >= client->endpoint.timer_ns || tessi_endpoint_has_input(&client->endpoint, true);
}

static void sleep_on(struct tessi_client *client, int64_t until_ns)
{
    struct pollfd fds[2] = {{.fd = client->endpoint.socket_fd, .events = POLLIN},
                            {.fd = client->endpoint.monitor_fd, .events = POLLIN}};
    int64_t left_ns = earlier(until_ns, client->endpoint.timer_ns);
    left_ns = left_ns == TESSI_NEVER ? TESSI_NEVER : left_ns - tessi_clock_now();
    left_ns = left_ns < 0 ? 0 : left_ns;
    struct timespec wait = {.tv_sec = left_ns / TESSI_NS_PER_S, .tv_nsec = left_ns % TESSI_NS_PER_S};
    (void)ppoll(fds, 2, left_ns == TESSI_NEVER ? NULL : &wait, NULL);
}

/* Connection events that bring the owner nothing are taken on the way. */
static bool client_is_receivable(struct tessi_client *client)
{
    while (client_has_event(client)) {
        if (client->endpoint.is_pending || client->state == CLIENT_ENDED) {
            return true;
        }
        if (client->state == CLIENT_READY) {
            return true;
        }
        (void)client_step(client);
    }
    return false;
}

enum tessi_status tessi_client_wait(struct tessi_client *client, int64_t timeout_ns)
{
    int64_t now_ns = tessi_clock_now();
    int64_t until_ns = timeout_ns > TESSI_NEVER - now_ns ? TESSI_NEVER : now_ns + timeout_ns;
    for (;;) {
        if (client_is_receivable(client)) {
            return TESSI_OK;
        }
        if (tessi_clock_now() >= until_ns) {
            return TESSI_TIMEOUT;
        }
        sleep_on(client, until_ns);
    }
}

static enum tessi_status resolve(struct tessi_client *client, const struct tessi_address *address,
                                 struct tessi_error *error)
{
    enum tessi_status status = TESSI_OK;
    struct tessi_address numeric = *address;
    client->is_inproc = address->scheme == TESSI_SCHEME_INPROC;
    tessi_address_format(address, client->text, sizeof client->text);
    if (address->scheme == TESSI_SCHEME_TCP) {
        struct sockaddr_storage place;
        socklen_t length = 0;
        TESSI_TRY(tessi_address_resolve(address, &place, &length, error));
        tessi_address_from_socket(&place, &numeric);
    }
    client->is_ipv6 = numeric.is_ipv6;
    tessi_address_format(&numeric, client->numeric, sizeof client->numeric);
cleanup:
    return status;
}

enum tessi_status tessi_client_open(struct tessi_net *net, const char *address_text,
                                    const struct tessi_net_options *options, struct tessi_client **client_out,
                                    struct tessi_error *error)
{
    struct tessi_client *client = tessi_zalloc(sizeof *client);
    struct tessi_address address;
    char what[96];
    enum tessi_status status;
    *client_out = NULL;
    client->options = tessi_net_options_complete(options);
    if (client->options.connect_timeout_ms > INT32_MAX) {
        client->options.connect_timeout_ms = INT32_MAX;
    }
    (void)snprintf(client->remote_name, sizeof client->remote_name, "%s", client->options.remote_name);
    client->options.remote_name = client->remote_name;
    client->endpoint.net = net;
    client->endpoint.epoll_fd = -1;
    client->endpoint.watch_fd = -1;
    client->deadline_ns = tessi_clock_now() + client->options.connect_timeout_ms * TESSI_NS_PER_MS;
    TESSI_TRY(tessi_address_parse(address_text, TESSI_ADDRESS_CONNECT, &address, error));
    TESSI_TRY(resolve(client, &address, error));
    (void)snprintf(what, sizeof what, "a connection to %s", client->remote_name);
    TESSI_TRY(tessi_descriptors_require(what, DESCRIPTORS, error));
    TESSI_TRY(start_attempt(client, error));
    if (client->is_inproc) {
        becomes_ready(client); /* Inside one program there is no handshake. */
    }
    *client_out = client;
    return TESSI_OK;
cleanup:
    tessi_free(client);
    return status;
}

enum tessi_status tessi_client_connect(struct tessi_net *net, const char *address,
                                       const struct tessi_net_options *options, struct tessi_client **client_out,
                                       struct tessi_error *error)
{
    enum tessi_status status;
    struct tessi_client *client = NULL;
    TESSI_TRY(tessi_client_open(net, address, options, &client, error));
    while (client->state == CLIENT_CONNECTING) {
        status = tessi_client_wait(client, TESSI_NEVER);
        TESS_ASSERT(status == TESSI_OK); /* The client's own deadline ends it. */
    }
    if (client->ready_is_due) {
        client->ready_is_due = false;
        client->endpoint.is_pending = client->gone_is_due;
    } else {
        TESSI_TRY(tessi_fail(error, client->end.status, "%s", client->end.text));
    }
cleanup:
    if (status != TESSI_OK) {
        tessi_client_close(client);
        client = NULL;
    }
    *client_out = client;
    return status;
}

void tessi_client_close(struct tessi_client *client)
{
    if (client == NULL) {
        return;
    }
    TESS_ASSERT(client->endpoint.epoll_fd < 0);
    if (client->state == CLIENT_READY) {
        waiting_flush(client);
        tessi_endpoint_send_goodbye(&client->endpoint, NULL, 0);
    }
    tessi_endpoint_close(&client->endpoint, client->state == CLIENT_READY ? (int)client->options.linger_ms : 0);
    tessi_send_queue_fini(&client->waiting);
    tessi_free(client);
}

bool tessi_client_is_ready(const struct tessi_client *client)
{
    return client->state == CLIENT_READY;
}

const struct tessi_error *tessi_client_error(const struct tessi_client *client)
{
    return &client->end;
}

const char *tessi_client_endpoint(const struct tessi_client *client)
{
    return client->text;
}

struct tessi_endpoint *tessi_client_endpoint_of(struct tessi_client *client)
{
    return &client->endpoint;
}
