#include "core/net/endpoint.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"

/* zmq.h hides it among the drafts, but every 4.3 has it. */
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

enum {
    COPY_BYTES_MAX = 512,   /* below this a copy is cheaper than a callback */
    ENCRYPTION_BYTES = 64,  /* what CURVE adds to a frame, rounded up */
    RETRY_NS = 1000 * 1000, /* see tessi_endpoint_send */
};

struct tessi_net_options tessi_net_options_complete(const struct tessi_net_options *options)
{
    struct tessi_net_options full = options == NULL ? (struct tessi_net_options){0} : *options;
#define COMPLETE(field, value) full.field = full.field == 0 ? (value) : full.field
    COMPLETE(frame_bytes_max, 64 * 1024);
    COMPLETE(message_bytes_max, full.frame_bytes_max < UINT64_MAX / 8 ? 4 * full.frame_bytes_max + (1 << 20) : INT64_MAX);
    COMPLETE(first_bytes_max, full.message_bytes_max);
    COMPLETE(held_bytes_max, UINT64_C(512) << 20);
    COMPLETE(strangers_max, 1000);
    COMPLETE(unread_bytes_max, UINT64_C(16) << 20);
    COMPLETE(send_queue_messages, 1000);
    COMPLETE(receive_queue_messages, 1000);
    COMPLETE(heartbeat_ms, 3000);
    COMPLETE(heartbeat_timeout_ms, 30000);
    COMPLETE(linger_ms, 1000);
    COMPLETE(connect_timeout_ms, 5000);
#undef COMPLETE
    if (full.frame_bytes_max > INT64_MAX - ENCRYPTION_BYTES) {
        full.frame_bytes_max = INT64_MAX - ENCRYPTION_BYTES;
    }
    if (full.remote_name == NULL) {
        full.remote_name = "the scheduler";
    }
    return full;
}

static enum tessi_status zmq_failed(struct tessi_error *error, const char *what)
{
    int cause = zmq_errno();
    const char *remedy = cause == EMFILE || cause == ENFILE ? ": raise `ulimit -n`" : "";
    return tessi_fail(error, TESSI_IO, "%s: %s%s", what, zmq_strerror(cause), remedy);
}

enum tessi_status tessi_endpoint_set_int(struct tessi_endpoint *endpoint, int option, int value,
                                         struct tessi_error *error)
{
    if (zmq_setsockopt(endpoint->socket, option, &value, sizeof value) != 0) {
        char what[64];
        (void)snprintf(what, sizeof what, "cannot set option %d of a socket", option);
        return zmq_failed(error, what);
    }
    return TESSI_OK;
}

static int bounded_int(uint32_t value)
{
    return value > INT32_MAX ? INT32_MAX : (int)value;
}

static enum tessi_status set_security(struct tessi_endpoint *endpoint, bool is_server, struct tessi_error *error)
{
    static const char domain[] = "tessera";
    struct tessi_net *net = endpoint->net;
    void *socket = endpoint->socket;
    enum tessi_status status;
    /* Without a domain ZeroMQ does not ask the door-keeper, and without enforcement it lets everybody in when
     * there is none. Both also hold for plain sockets: there they shut out ZMTP 1 and 2. */
    if (zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, sizeof domain - 1) != 0) {
        return zmq_failed(error, "cannot set the authentication domain");
    }
    TESSI_TRY(tessi_endpoint_set_int(endpoint, ZMQ_ZAP_ENFORCE_DOMAIN, 1, error));
    if (!net->is_encrypted) {
        return TESSI_OK;
    }
    size_t size = sizeof net->keys.public_key;
    if (is_server) {
        TESSI_TRY(tessi_endpoint_set_int(endpoint, ZMQ_CURVE_SERVER, 1, error));
    } else if (zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, net->keys.public_key, size) != 0 ||
               zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, net->keys.public_key, size) != 0) {
        TESSI_TRY(zmq_failed(error, "cannot set the public key"));
    }
    if (zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, net->keys.secret_key, size) != 0) {
        TESSI_TRY(zmq_failed(error, "cannot set the secret key"));
    }
cleanup:
    return status;
}

static enum tessi_status set_options(struct tessi_endpoint *endpoint, const struct tessi_net_options *options,
                                     struct tessi_error *error)
{
    enum tessi_status status;
    const struct {
        int option;
        int value;
    } rows[] = {
        {ZMQ_SNDHWM, bounded_int(options->send_queue_messages)},
        {ZMQ_RCVHWM, bounded_int(options->receive_queue_messages)},
        {ZMQ_HEARTBEAT_IVL, bounded_int(options->heartbeat_ms)},
        {ZMQ_HEARTBEAT_TIMEOUT, bounded_int(options->heartbeat_timeout_ms)},
        {ZMQ_LINGER, bounded_int(options->linger_ms)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        TESSI_TRY(tessi_endpoint_set_int(endpoint, rows[i].option, rows[i].value, error));
    }
    int64_t frame_max = (int64_t)options->frame_bytes_max + (endpoint->net->is_encrypted ? ENCRYPTION_BYTES : 0);
    if (zmq_setsockopt(endpoint->socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max) != 0) {
        TESSI_TRY(zmq_failed(error, "cannot set the largest frame size"));
    }
cleanup:
    return status;
}

static enum tessi_status open_monitor(struct tessi_endpoint *endpoint, struct tessi_error *error)
{
    char name[64];
    int zero = 0;
    (void)snprintf(
        name, sizeof name, "inproc://tessi.monitor.%llu",
        (unsigned long long)atomic_fetch_add_explicit(&endpoint->net->monitors_named, 1, memory_order_relaxed));
    if (zmq_socket_monitor(endpoint->socket, name,
                           ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_ACCEPTED |
                               ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) != 0) {
        return zmq_failed(error, "cannot watch a socket");
    }
    /* The sending end sits in ZeroMQ's I/O thread and blocks it when the queue is full or nobody listens, so the
     * queue has no bound and is connected before the socket does anything. */
    endpoint->monitor = zmq_socket(endpoint->net->zmq, ZMQ_PAIR);
    if (endpoint->monitor == NULL || zmq_setsockopt(endpoint->monitor, ZMQ_RCVHWM, &zero, sizeof zero) != 0 ||
        zmq_setsockopt(endpoint->monitor, ZMQ_LINGER, &zero, sizeof zero) != 0 ||
        zmq_connect(endpoint->monitor, name) != 0) {
        return zmq_failed(error, "cannot watch a socket");
    }
    return TESSI_OK;
}

void tessi_tune_near(int fd)
{
    char name[16] = {0};
    socklen_t size = sizeof name - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0 && strncmp(name, "bbr", 3) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4); /* Only speed depends on it. */
    }
}

static int descriptor_of(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    int rc = zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
    TESS_ASSERT(rc == 0);
    return fd;
}

static unsigned random_seed(void)
{
    unsigned seed = 0;
    while (getrandom(&seed, sizeof seed, 0) < 0) {
        TESS_ASSERT(errno == EINTR); /* So few bytes come at once, or when the system has gathered some. */
    }
    return seed;
}

void *tessi_endpoint_numbered(void *zmq, int type)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    char numbers[128];
    unsigned seed = random_seed();
    (void)pthread_mutex_lock(&one_at_a_time);
    char *before = initstate(seed, numbers, sizeof numbers);
    void *socket = zmq_socket(zmq, type);
    int cause = zmq_errno();
    (void)setstate(before);
    (void)pthread_mutex_unlock(&one_at_a_time);
    errno = cause;
    return socket;
}

enum tessi_status tessi_endpoint_open(struct tessi_endpoint *endpoint, struct tessi_net *net, int type,
                                      const struct tessi_net_options *options, struct tessi_error *error)
{
    enum tessi_status status = TESSI_OK;
    endpoint->net = net;
    endpoint->monitor = NULL;
    endpoint->retry_ns = TESSI_NEVER;
    endpoint->timer_ns = TESSI_NEVER;
    endpoint->is_touched = true;
    endpoint->is_monitor_quiet = false;
    endpoint->socket = type == ZMQ_ROUTER ? tessi_endpoint_numbered(net->zmq, type) : zmq_socket(net->zmq, type);
    if (endpoint->socket == NULL) {
        return zmq_failed(error, "cannot create a socket");
    }
    atomic_fetch_add(&net->endpoints_open, 1);
    TESSI_TRY(set_options(endpoint, options, error));
    TESSI_TRY(set_security(endpoint, type == ZMQ_ROUTER, error));
    TESSI_TRY(open_monitor(endpoint, error));
    endpoint->socket_fd = descriptor_of(endpoint->socket);
    endpoint->monitor_fd = descriptor_of(endpoint->monitor);
    if (endpoint->epoll_fd >= 0 && !tessi_endpoint_watch(endpoint, endpoint->epoll_fd, endpoint->poller_entry)) {
        TESSI_TRY(tessi_fail(error, TESSI_IO, "cannot wait for a socket: %s", strerror(errno)));
    }
cleanup:
    if (status != TESSI_OK) {
        tessi_endpoint_close(endpoint, 0);
    }
    return status;
}

/* Apart from its callers so that the race detector can be told of it by name (.tsan-suppressions): soon ZeroMQ closes both
 * unseen, and whoever opens a descriptor next is given their numbers. */
static void forget_descriptors(const struct tessi_endpoint *endpoint)
{
    (void)epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_DEL, endpoint->socket_fd, NULL);
    (void)epoll_ctl(endpoint->epoll_fd, EPOLL_CTL_DEL, endpoint->monitor_fd, NULL);
}

void tessi_endpoint_close(struct tessi_endpoint *endpoint, int linger_ms)
{
    if (endpoint->socket == NULL) {
        return;
    }
    if (endpoint->epoll_fd >= 0) {
        forget_descriptors(endpoint);
    }
    (void)zmq_setsockopt(endpoint->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    (void)zmq_socket_monitor(endpoint->socket, NULL, 0);
    zmq_close(endpoint->socket);
    if (endpoint->monitor != NULL) {
        zmq_close(endpoint->monitor);
    }
    endpoint->socket = NULL;
    endpoint->monitor = NULL;
    atomic_fetch_sub(&endpoint->net->endpoints_open, 1);
}

bool tessi_endpoint_watch(struct tessi_endpoint *endpoint, int epoll_fd, void *poller_entry)
{
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = poller_entry};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, endpoint->socket_fd, &interest) != 0) {
        return false;
    }
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, endpoint->monitor_fd, &interest) != 0) {
        int cause = errno;
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, endpoint->socket_fd, NULL);
        errno = cause;
        return false;
    }
    endpoint->epoll_fd = epoll_fd;
    endpoint->poller_entry = poller_entry;
    endpoint->is_touched = true;
    endpoint->is_monitor_quiet = false;
    return true;
}

void tessi_endpoint_unwatch(struct tessi_endpoint *endpoint)
{
    if (endpoint->socket != NULL && endpoint->epoll_fd >= 0) {
        forget_descriptors(endpoint);
    }
    endpoint->epoll_fd = -1;
    endpoint->poller_entry = NULL;
}

static bool socket_has_input(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

bool tessi_endpoint_has_input(struct tessi_endpoint *endpoint, bool is_signalled)
{
    if (endpoint->socket == NULL) {
        return false;
    }
    if ((is_signalled || endpoint->is_touched) && socket_has_input(endpoint->socket)) {
        return true;
    }
    if (is_signalled || !endpoint->is_monitor_quiet) {
        endpoint->is_monitor_quiet = !socket_has_input(endpoint->monitor);
        return !endpoint->is_monitor_quiet;
    }
    return false;
}

bool tessi_endpoint_monitor_next(struct tessi_endpoint *endpoint, unsigned *event, int *value)
{
    zmq_msg_t part;
    zmq_msg_init(&part);
    endpoint->is_monitor_quiet = false;
    if (zmq_msg_recv(&part, endpoint->monitor, ZMQ_DONTWAIT) < 0) {
        endpoint->is_monitor_quiet = zmq_errno() == EAGAIN;
        zmq_msg_close(&part);
        return false;
    }
    uint16_t number = 0;
    uint32_t detail = 0;
    TESS_ASSERT(zmq_msg_size(&part) == sizeof number + sizeof detail);
    memcpy(&number, zmq_msg_data(&part), sizeof number);
    memcpy(&detail, (const char *)zmq_msg_data(&part) + sizeof number, sizeof detail);
    while (zmq_msg_more(&part)) {
        if (zmq_msg_recv(&part, endpoint->monitor, 0) < 0) {
            break;
        }
    }
    zmq_msg_close(&part);
    *event = number;
    *value = (int)detail;
    return true;
}

/* Between threads of one process the bytes themselves travel, and ZeroMQ orders its threads by means that a race
 * detector cannot see: it is told here. */
#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define BYTES_TAKEN(data) __tsan_acquire(data)
#define BYTES_GIVEN(data) __tsan_release(data)
#else
#define BYTES_TAKEN(data) ((void)(data))
#define BYTES_GIVEN(data) ((void)(data))
#endif

static void release_received(void *data, void *hint)
{
    (void)data;
    zmq_msg_t *message = hint;
    zmq_msg_close(message);
    tessi_free(message);
}

static struct tessi_frame take_part(zmq_msg_t *part)
{
    zmq_msg_t *held = tessi_alloc(sizeof *held);
    zmq_msg_init(held);
    zmq_msg_move(held, part);
    BYTES_TAKEN(zmq_msg_data(held));
    return tessi_frame_wrap(zmq_msg_data(held), zmq_msg_size(held), release_received, held);
}

zmq_msg_t *tessi_endpoint_part_of(const struct tessi_frame *frame)
{
    TESS_ASSERT(frame->release == release_received);
    return frame->hint;
}

bool tessi_endpoint_receive(struct tessi_endpoint *endpoint, zmq_msg_t *first, struct tessi_net_event *event,
                            bool *is_malformed)
{
    zmq_msg_t part;
    event->kind = TESSI_NET_MESSAGE;
    event->frame_count = 0;
    *is_malformed = false;
    endpoint->is_touched = true;
    zmq_msg_init(&part);
    if (zmq_msg_recv(first != NULL ? first : &part, endpoint->socket, ZMQ_DONTWAIT) < 0) {
        endpoint->is_touched = zmq_errno() != EAGAIN;
        zmq_msg_close(&part);
        return false;
    }
    bool more = zmq_msg_more(first != NULL ? first : &part) != 0;
    endpoint->received_bytes = 0;
    endpoint->received_frames = 0;
    if (first == NULL) {
        event->frames[event->frame_count++] = take_part(&part);
    }
    while (more) {
        /* The rest of a message is there with its first part. */
        int rc = zmq_msg_recv(&part, endpoint->socket, 0);
        if (rc < 0) {
            TESS_ASSERT(zmq_errno() == EINTR);
            continue;
        }
        more = zmq_msg_more(&part) != 0;
        endpoint->received_bytes += zmq_msg_size(&part);
        endpoint->received_frames++;
        if (event->frame_count < TESSI_NET_FRAMES_MAX) {
            event->frames[event->frame_count++] = take_part(&part);
        } else {
            *is_malformed = true;
        }
    }
    zmq_msg_close(&part);
    /* Only a goodbye is empty. */
    *is_malformed = *is_malformed || event->frame_count == 0 || (event->frames[0].size == 0 && event->frame_count > 1);
    if (*is_malformed) {
        tessi_net_event_clear(event);
    }
    return true;
}

/* A frame on its way out. ZeroMQ orders its threads by means that a race detector cannot see; the flag says
 * the same in words that it understands. */
struct outgoing {
    struct tessi_frame frame;
    atomic_int handed_over;
};

static void release_sent(void *data, void *hint)
{
    (void)data;
    struct outgoing *outgoing = hint;
    (void)atomic_load_explicit(&outgoing->handed_over, memory_order_acquire);
    tessi_frame_release(&outgoing->frame);
    tessi_free(outgoing);
}

static bool send_frame(void *socket, struct tessi_frame *frame, int flags)
{
    zmq_msg_t message;
    if (frame->size <= COPY_BYTES_MAX) {
        bool sent = zmq_send(socket, frame->data, frame->size, flags) >= 0;
        tessi_frame_release(frame);
        return sent;
    }
    struct tessi_frame moved = *frame;
    struct outgoing *outgoing = tessi_alloc(sizeof *outgoing);
    outgoing->frame = moved;
    *frame = (struct tessi_frame){0};
    BYTES_GIVEN(moved.data);
    atomic_store_explicit(&outgoing->handed_over, 1, memory_order_release);
    if (zmq_msg_init_data(&message, moved.data, moved.size, release_sent, outgoing) != 0) {
        release_sent(NULL, outgoing);
        return false;
    }
    if (zmq_msg_send(&message, socket, flags) < 0) {
        zmq_msg_close(&message); /* releases the frame */
        return false;
    }
    return true;
}

/* ——— headers that are counted ——— */

struct owed {
    struct tessi_debt *debt;
    size_t size;
    atomic_int handed_over; /* as in `outgoing` */
    unsigned char bytes[];
};

struct tessi_debt *tessi_debt_create(void)
{
    struct tessi_debt *debt = tessi_zalloc(sizeof *debt);
    atomic_init(&debt->refs, 1);
    return debt;
}

void tessi_debt_unref(struct tessi_debt *debt)
{
    if (debt != NULL && atomic_fetch_sub(&debt->refs, 1) == 1) {
        tessi_free(debt);
    }
}

bool tessi_debt_is_needed(size_t header_size)
{
    return header_size > COPY_BYTES_MAX;
}

static void release_owed(void *data, void *hint)
{
    (void)data;
    struct owed *owed = hint;
    (void)atomic_load_explicit(&owed->handed_over, memory_order_acquire);
    (void)atomic_fetch_sub(&owed->debt->bytes, owed->size);
    tessi_debt_unref(owed->debt);
    tessi_free(owed);
}

static bool send_header(void *socket, struct tessi_debt *debt, const void *header, size_t size, int flags)
{
    if (debt == NULL || size <= COPY_BYTES_MAX) {
        return zmq_send(socket, header, size, flags) >= 0;
    }
    zmq_msg_t message;
    struct owed *owed = tessi_alloc(sizeof *owed + size);
    owed->debt = debt;
    owed->size = size;
    memcpy(owed->bytes, header, size);
    BYTES_GIVEN(owed->bytes);
    (void)atomic_fetch_add(&debt->bytes, size);
    (void)atomic_fetch_add(&debt->refs, 1);
    atomic_store_explicit(&owed->handed_over, 1, memory_order_release);
    if (zmq_msg_init_data(&message, owed->bytes, size, release_owed, owed) != 0) {
        release_owed(NULL, owed);
        errno = ENOMEM;
        return false;
    }
    if (zmq_msg_send(&message, socket, flags) < 0) {
        int cause = zmq_errno();
        zmq_msg_close(&message); /* releases the header */
        errno = cause;
        return false;
    }
    return true;
}

void tessi_frames_release(struct tessi_frame *frames, uint32_t frame_count)
{
    for (uint32_t i = 0; i < frame_count; i++) {
        tessi_frame_release(&frames[i]);
    }
}

/* After BUSY the descriptor's next signal may mean room, but another call on the same socket may take that
 * signal unseen; so the poller also lets the sender try again after RETRY_NS. */
enum tessi_status tessi_endpoint_busy(struct tessi_endpoint *endpoint)
{
    if (endpoint->retry_ns == TESSI_NEVER) {
        endpoint->retry_ns = tessi_clock_now() + RETRY_NS;
    }
    return TESSI_BUSY;
}

static enum tessi_status first_part_failed(struct tessi_endpoint *endpoint, struct tessi_frame *frames,
                                           uint32_t frame_count)
{
    if (zmq_errno() == EAGAIN) {
        return tessi_endpoint_busy(endpoint);
    }
    tessi_frames_release(frames, frame_count);
    return TESSI_LOST;
}

enum tessi_status tessi_endpoint_send(struct tessi_endpoint *endpoint, const void *route, size_t route_size,
                                      struct tessi_debt *debt, const void *header, size_t header_size,
                                      struct tessi_frame *frames, uint32_t frame_count)
{
    TESS_ASSERT(header_size > 0 && frame_count < TESSI_NET_FRAMES_MAX);
    void *socket = endpoint->socket;
    endpoint->is_touched = true;
    endpoint->sends++;
    if (route != NULL && zmq_send(socket, route, route_size, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) {
        return first_part_failed(endpoint, frames, frame_count);
    }
    /* Room was checked with the first part; a later one fails only when the connection has just ended. */
    if (!send_header(socket, debt, header, header_size, ZMQ_DONTWAIT | (frame_count > 0 ? ZMQ_SNDMORE : 0))) {
        if (route == NULL) {
            return first_part_failed(endpoint, frames, frame_count);
        }
        tessi_frames_release(frames, frame_count);
        return TESSI_LOST;
    }
    for (uint32_t i = 0; i < frame_count; i++) {
        if (!send_frame(socket, &frames[i], ZMQ_DONTWAIT | (i + 1 < frame_count ? ZMQ_SNDMORE : 0))) {
            tessi_frames_release(frames + i + 1, frame_count - i - 1);
            return TESSI_LOST;
        }
    }
    return TESSI_OK;
}

void tessi_endpoint_send_goodbye(struct tessi_endpoint *endpoint, const void *route, size_t route_size)
{
    endpoint->is_touched = true;
    if (route == NULL || zmq_send(endpoint->socket, route, route_size, ZMQ_DONTWAIT | ZMQ_SNDMORE) >= 0) {
        (void)zmq_send(endpoint->socket, "", 0, ZMQ_DONTWAIT);
    }
}
