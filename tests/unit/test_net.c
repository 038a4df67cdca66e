/* Servers, clients and the poller over real sockets, among them peers that mean no good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "core/base/clock.h"
#include "core/net/client.h"
#include "core/net/keys.h"
#include "core/net/poller.h"
#include "core/net/server.h"

#define ANY_PORT "tcp://127.0.0.1:0"
#define PATIENCE_NS (20 * TESSI_NS_PER_S) /* ends a test that would hang; nothing waits for it otherwise */

/* A server with a poller of its own. */
struct stage {
    struct tessi_net *net;
    struct tessi_server *server;
    struct tessi_poller *poller;
    char endpoint[64];
};

static void stage_open(struct stage *stage, const char *keys_dir, const char *address,
                       const struct tessi_net_options *options)
{
    struct tessi_error error = {0};
    *stage = (struct stage){0};
    assert_int_equal(tessi_net_create(keys_dir, &stage->net, &error), TESSI_OK);
    assert_int_equal(tessi_server_open(stage->net, address, options, &stage->server, &error), TESSI_OK);
    assert_int_equal(tessi_poller_create(&stage->poller, &error), TESSI_OK);
    assert_int_equal(tessi_poller_add_server(stage->poller, stage->server, stage, &error), TESSI_OK);
    (void)snprintf(stage->endpoint, sizeof stage->endpoint, "%s", tessi_server_endpoint(stage->server));
}

static void stage_close_server(struct stage *stage)
{
    if (stage->server != NULL) {
        tessi_poller_remove_server(stage->poller, stage->server);
        tessi_server_close(stage->server);
        stage->server = NULL;
    }
}

static void stage_close(struct stage *stage)
{
    stage_close_server(stage);
    tessi_poller_destroy(stage->poller);
    tessi_net_destroy(stage->net);
}

static struct tessi_net_event server_event(struct stage *stage)
{
    struct tessi_net_event event;
    struct tessi_ready ready[4];
    int64_t until_ns = tessi_clock_now() + PATIENCE_NS;
    while (tessi_server_receive(stage->server, &event) == TESSI_BUSY) {
        assert_true(tessi_clock_now() < until_ns);
        (void)tessi_poller_wait(stage->poller, until_ns - tessi_clock_now(), ready, 4);
    }
    return event;
}

static struct tessi_net_event client_event(struct tessi_client *client)
{
    struct tessi_net_event event;
    enum tessi_status status;
    while ((status = tessi_client_receive(client, &event)) == TESSI_BUSY) {
        assert_int_equal(tessi_client_wait(client, PATIENCE_NS), TESSI_OK);
    }
    assert_int_equal(status, TESSI_OK);
    return event;
}

static void expect_text(struct tessi_net_event *event, uint32_t frame, const char *text)
{
    assert_int_equal(event->kind, TESSI_NET_MESSAGE);
    assert_true(frame < event->frame_count);
    assert_int_equal(event->frames[frame].size, strlen(text));
    assert_memory_equal(event->frames[frame].data, text, strlen(text));
}

static struct tessi_client *connect_to(struct tessi_net *net, const char *endpoint)
{
    struct tessi_client *client = NULL;
    struct tessi_error error = {0};
    enum tessi_status status = tessi_client_connect(net, endpoint, NULL, &client, &error);
    if (status != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    return client;
}

static void send_text(struct tessi_client *client, const char *text)
{
    assert_int_equal(tessi_client_send(client, text, strlen(text), NULL, 0), TESSI_OK);
}

/* Look after the server until a counter has reached `least`. */
static void await_count(struct stage *stage, size_t offset, uint64_t least)
{
    int64_t until_ns = tessi_clock_now() + PATIENCE_NS;
    for (;;) {
        struct tessi_net_counters counters = tessi_net_counters_read(stage->net);
        uint64_t value = 0;
        memcpy(&value, (const char *)&counters + offset, sizeof value);
        if (value >= least) {
            assert_int_equal(value, least);
            return;
        }
        struct tessi_net_event event;
        struct tessi_ready ready[4];
        assert_true(tessi_clock_now() < until_ns);
        (void)tessi_poller_wait(stage->poller, 100 * TESSI_NS_PER_MS, ready, 4);
        assert_int_equal(tessi_server_receive(stage->server, &event), TESSI_BUSY);
    }
}

static int connect_raw(const char *endpoint)
{
    struct sockaddr_in place = {.sin_family = AF_INET};
    place.sin_port = htons((uint16_t)atoi(strrchr(endpoint, ':') + 1));
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&place, sizeof place), 0);
    return fd;
}

/* Read until the other side closes. */
static void await_close(int fd)
{
    char bytes[256];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    do {
        assert_int_equal(poll(&wait, 1, 20000), 1);
    } while (recv(fd, bytes, sizeof bytes, 0) > 0);
}

/* ——— messages ——— */

static void test_round_trip(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    assert_null(strstr(stage.endpoint, ":0\0"));
    int64_t before_ns = tessi_clock_now();
    struct tessi_client *client = connect_to(stage.net, stage.endpoint);
    assert_true(tessi_client_is_ready(client));
    send_text(client, "hello");
    struct tessi_net_event event = server_event(&stage);
    expect_text(&event, 0, "hello");
    assert_int_equal(event.frame_count, 1);
    assert_true(event.first);
    uint32_t peer = event.peer;
    assert_int_not_equal(peer, 0);
    tessi_net_event_clear(&event);
    assert_int_equal(tessi_server_peer_count(stage.server), 1);
    assert_string_equal(tessi_server_peer_host(stage.server, peer), "127.0.0.1");
    assert_true(tessi_server_last_heard_ns(stage.server, peer) >= before_ns);

    assert_int_equal(tessi_server_send(stage.server, peer, "welcome", 7, NULL, 0), TESSI_OK);
    event = client_event(client);
    expect_text(&event, 0, "welcome");
    tessi_net_event_clear(&event);

    send_text(client, "again");
    tessi_client_close(client);
    event = server_event(&stage);
    expect_text(&event, 0, "again");
    assert_false(event.first);
    assert_int_equal(event.peer, peer);
    tessi_net_event_clear(&event);
    event = server_event(&stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(event.peer, peer);
    assert_int_equal(tessi_server_peer_count(stage.server), 0);
    assert_int_equal(tessi_server_last_heard_ns(stage.server, peer), 0);
    stage_close(&stage);
}

static void count_release(void *data, void *hint)
{
    (void)data;
    atomic_int *released = hint;
    atomic_fetch_add(released, 1);
}

static void test_frames_without_copy(void **state)
{
    (void)state;
    enum { SIZE = 8 * 1024 * 1024 };
    struct tessi_net_options options = {.frame_bytes_max = SIZE};
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, &options);
    struct tessi_client *client = NULL;
    assert_int_equal(tessi_client_connect(stage.net, stage.endpoint, &options, &client, NULL), TESSI_OK);
    static unsigned char block[SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        block[i] = (unsigned char)(i * 2654435761u >> 13);
    }
    atomic_int released = 0;
    struct tessi_frame frames[3] = {tessi_frame_wrap(block, SIZE, count_release, &released),
                                    tessi_frame_copy("small", 5),
                                    tessi_frame_wrap(block + 1, 1000, count_release, &released)};
    assert_int_equal(tessi_client_send(client, "header", 6, frames, 3), TESSI_OK);
    assert_null(frames[0].data);
    struct tessi_net_event event = server_event(&stage);
    assert_int_equal(event.frame_count, 4);
    expect_text(&event, 0, "header");
    expect_text(&event, 2, "small");
    assert_int_equal(event.frames[1].size, SIZE);
    assert_int_equal((uintptr_t)event.frames[1].data % 8, 0);
    assert_memory_equal(event.frames[1].data, block, SIZE);
    assert_int_equal(event.frames[3].size, 1000);
    assert_memory_equal(event.frames[3].data, block + 1, 1000);
    assert_true(tessi_frame_align(&event.frames[3], 64));
    assert_int_equal((uintptr_t)event.frames[3].data % 64, 0);
    assert_memory_equal(event.frames[3].data, block + 1, 1000);

    /* What was received is storage: it outlives the event and is sent on. */
    struct tessi_frame storage = event.frames[1];
    event.frames[1] = (struct tessi_frame){0};
    uint32_t peer = event.peer;
    tessi_net_event_clear(&event);
    assert_int_equal(tessi_server_send(stage.server, peer, "back", 4, &storage, 1), TESSI_OK);
    event = client_event(client);
    assert_int_equal(event.frame_count, 2);
    assert_memory_equal(event.frames[1].data, block, SIZE);
    tessi_net_event_clear(&event);
    tessi_client_close(client);
    stage_close(&stage);
    assert_int_equal(atomic_load(&released), 2);
}

static void test_unknown_peer(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    atomic_int released = 0;
    char bytes[2000] = {0};
    struct tessi_frame frame = tessi_frame_wrap(bytes, sizeof bytes, count_release, &released);
    assert_int_equal(tessi_server_send(stage.server, 77, "x", 1, &frame, 1), TESSI_LOST);
    assert_int_equal(atomic_load(&released), 1);
    assert_null(frame.data);
    struct tessi_client *client = connect_to(stage.net, stage.endpoint);
    send_text(client, "hello");
    struct tessi_net_event event = server_event(&stage);
    uint32_t peer = event.peer;
    tessi_net_event_clear(&event);
    tessi_client_close(client);
    event = server_event(&stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(tessi_server_send(stage.server, peer, "x", 1, NULL, 0), TESSI_LOST);
    stage_close(&stage);
}

static void test_full_queue(void **state)
{
    (void)state;
    struct tessi_net_options options = {.send_queue_messages = 4, .receive_queue_messages = 4, .linger_ms = 1};
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, &options);
    struct tessi_client *client = NULL;
    assert_int_equal(tessi_client_connect(stage.net, stage.endpoint, &options, &client, NULL), TESSI_OK);
    send_text(client, "hello");
    struct tessi_net_event event = server_event(&stage);
    uint32_t peer = event.peer;
    tessi_net_event_clear(&event);
    static char bytes[32 * 1024];
    uint32_t sent = 0;
    atomic_int released = 0;
    struct tessi_frame frame = {0};
    enum tessi_status status = TESSI_OK;
    while (status == TESSI_OK) {
        frame = tessi_frame_wrap(bytes, sizeof bytes, count_release, &released);
        status = tessi_server_send(stage.server, peer, &sent, sizeof sent, &frame, 1);
        sent += status == TESSI_OK;
        assert_true(sent < 100000); /* some bound holds */
    }
    assert_int_equal(status, TESSI_BUSY);
    assert_ptr_equal(frame.data, bytes); /* not taken */

    uint32_t received = 0;
    while (received < sent) {
        event = client_event(client);
        uint32_t number = 0;
        memcpy(&number, event.frames[0].data, sizeof number);
        assert_int_equal(number, received++);
        tessi_net_event_clear(&event);
    }
    /* There is room now: the poller says so, and the message goes. */
    do {
        struct tessi_ready ready[2];
        assert_int_equal(tessi_poller_wait(stage.poller, PATIENCE_NS, ready, 2), 1);
        assert_true((ready[0].events & TESSI_POLL_WRITE) != 0);
        status = tessi_server_send(stage.server, peer, &sent, sizeof sent, &frame, 1);
    } while (status == TESSI_BUSY);
    assert_int_equal(status, TESSI_OK);
    event = client_event(client);
    tessi_net_event_clear(&event);
    tessi_client_close(client);
    stage_close(&stage);
    assert_int_equal(atomic_load(&released), (int)sent + 1);
}

static void test_frame_too_large(void **state)
{
    (void)state;
    struct tessi_net_options small = {.frame_bytes_max = 4096};
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, &small);
    struct tessi_client *client = connect_to(stage.net, stage.endpoint);
    static char bytes[8192];
    send_text(client, "hello");
    struct tessi_net_event event = server_event(&stage);
    tessi_net_event_clear(&event);
    struct tessi_frame frame = tessi_frame_copy(bytes, sizeof bytes);
    assert_int_equal(tessi_client_send(client, "big", 3, &frame, 1), TESSI_OK);
    event = server_event(&stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    event = client_event(client);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(tessi_client_error(client)->status, TESSI_LOST);
    tessi_client_close(client);
    stage_close(&stage);
}

static void test_inproc(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, NULL, "inproc://embedded", NULL);
    assert_int_equal(tessi_server_bind(stage.server, ANY_PORT, NULL), TESSI_OK);
    assert_string_equal(tessi_server_endpoint(stage.server), "inproc://embedded");
    struct tessi_client *clients[2] = {connect_to(stage.net, stage.endpoint), connect_to(stage.net, stage.endpoint)};
    uint32_t peers[2];
    for (int i = 0; i < 2; i++) {
        send_text(clients[i], "hello");
        struct tessi_net_event event = server_event(&stage);
        expect_text(&event, 0, "hello");
        peers[i] = event.peer;
        assert_string_equal(tessi_server_peer_host(stage.server, peers[i]), "");
        tessi_net_event_clear(&event);
        assert_int_equal(tessi_server_send(stage.server, peers[i], "welcome", 7, NULL, 0), TESSI_OK);
        event = client_event(clients[i]);
        expect_text(&event, 0, "welcome");
        tessi_net_event_clear(&event);
    }
    assert_int_not_equal(peers[0], peers[1]);
    tessi_client_close(clients[0]);
    struct tessi_net_event event = server_event(&stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(event.peer, peers[0]);
    stage_close_server(&stage);
    event = client_event(clients[1]);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(tessi_client_send(clients[1], "x", 1, NULL, 0), TESSI_CLOSED);
    assert_int_equal(tessi_client_receive(clients[1], &event), TESSI_CLOSED);
    tessi_client_close(clients[1]);
    stage_close(&stage);
}

/* ——— connecting ——— */

static void test_ports(void **state)
{
    (void)state;
    struct stage stage;
    struct tessi_server *other = NULL;
    struct tessi_error error = {0};
    stage_open(&stage, NULL, ANY_PORT, NULL);
    const char *port = strrchr(stage.endpoint, ':') + 1;
    assert_true(atoi(port) > 0);
    assert_int_equal(tessi_server_open(stage.net, stage.endpoint, NULL, &other, &error), TESSI_BUSY);
    assert_null(other);
    assert_non_null(strstr(error.text, port));
    assert_int_equal(tessi_server_open(stage.net, "tcp://203.0.113.1:0", NULL, &other, &error), TESSI_NOT_FOUND);
    assert_int_equal(tessi_server_open(stage.net, "tcp://nowhere:x", NULL, &other, &error), TESSI_INVALID);
    stage_close(&stage);
}

static void test_ipv6(void **state)
{
    (void)state;
    struct tessi_net *net;
    struct tessi_server *server;
    struct tessi_error error = {0};
    assert_int_equal(tessi_net_create(NULL, &net, NULL), TESSI_OK);
    if (tessi_server_open(net, "tcp://[::1]:0", NULL, &server, &error) != TESSI_OK) {
        tessi_net_destroy(net);
        print_message("skipped: %s\n", error.text);
        skip();
    }
    struct tessi_client *client = connect_to(net, tessi_server_endpoint(server));
    tessi_client_close(client);
    tessi_server_close(server);
    tessi_net_destroy(net);
}

static void test_nobody_there(void **state)
{
    (void)state;
    struct tessi_net_options options = {.connect_timeout_ms = 1500};
    struct tessi_client *client = NULL;
    struct tessi_error error = {0};
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    stage_close_server(&stage);
    assert_int_equal(tessi_client_connect(stage.net, stage.endpoint, &options, &client, &error), TESSI_UNREACHABLE);
    assert_null(client);
    assert_non_null(strstr(error.text, stage.endpoint));
    assert_non_null(strstr(error.text, "refused"));
    assert_int_equal(tessi_client_connect(stage.net, "tcp://no-such-host.invalid", &options, &client, &error),
                     TESSI_NOT_FOUND);
    stage_close(&stage);
}

/* A port where something else listens: it says `greeting` (or nothing) and keeps the connection. */
static void expect_stranger(const char *greeting, enum tessi_status expected)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&place, size), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&place, &size), 0);
    char endpoint[64];
    (void)snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", (unsigned)ntohs(place.sin_port));
    struct tessi_net *net;
    struct tessi_client *client;
    struct tessi_net_options options = {.connect_timeout_ms = 1500};
    assert_int_equal(tessi_net_create(NULL, &net, NULL), TESSI_OK);
    assert_int_equal(tessi_client_open(net, endpoint, &options, &client, NULL), TESSI_OK);
    struct tessi_net_event event;
    int accepted[8];
    int count = 0;
    while (tessi_client_receive(client, &event) == TESSI_BUSY) {
        int fd = count < 8 ? accept(listener, NULL, NULL) : -1;
        if (fd >= 0) {
            accepted[count++] = fd;
            if (greeting != NULL) {
                assert_int_equal(send(fd, greeting, strlen(greeting), MSG_NOSIGNAL), (ssize_t)strlen(greeting));
            }
        }
        enum tessi_status status = tessi_client_wait(client, 10 * TESSI_NS_PER_MS);
        assert_true(status == TESSI_OK || status == TESSI_TIMEOUT);
    }
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(tessi_client_error(client)->status, expected);
    assert_non_null(strstr(tessi_client_error(client)->text, endpoint));
    tessi_client_close(client);
    tessi_net_destroy(net);
    for (int i = 0; i < count; i++) {
        close(accepted[i]);
    }
    close(listener);
}

static void test_strangers(void **state)
{
    (void)state;
    expect_stranger(NULL, TESSI_UNREACHABLE);
    expect_stranger("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", TESSI_PROTOCOL);
    expect_stranger("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", TESSI_PROTOCOL);
}

/* The client is there first; what it sends meanwhile arrives in order once the server is up. */
static void test_server_starts_later(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    stage_close_server(&stage);
    struct tessi_client *client;
    struct tessi_net_options options = {.connect_timeout_ms = 20000, .send_queue_messages = 3};
    assert_int_equal(tessi_client_open(stage.net, stage.endpoint, &options, &client, NULL), TESSI_OK);
    atomic_int released = 0;
    char bytes[1000] = {0};
    for (int i = 0; i < 3; i++) {
        struct tessi_frame frame = tessi_frame_wrap(bytes, sizeof bytes, count_release, &released);
        char header = (char)('a' + i);
        assert_int_equal(tessi_client_send(client, &header, 1, &frame, 1), TESSI_OK);
    }
    assert_int_equal(tessi_client_send(client, "x", 1, NULL, 0), TESSI_BUSY);
    assert_int_equal(tessi_client_wait(client, 250 * TESSI_NS_PER_MS), TESSI_TIMEOUT); /* refused meanwhile */
    assert_int_equal(tessi_server_open(stage.net, stage.endpoint, NULL, &stage.server, NULL), TESSI_OK);
    assert_int_equal(tessi_poller_add_server(stage.poller, stage.server, NULL, NULL), TESSI_OK);
    struct tessi_net_event event = client_event(client);
    assert_int_equal(event.kind, TESSI_NET_READY);
    for (int i = 0; i < 3; i++) {
        char text[2] = {(char)('a' + i), '\0'};
        event = server_event(&stage);
        expect_text(&event, 0, text);
        assert_int_equal(event.frames[1].size, sizeof bytes);
        tessi_net_event_clear(&event);
    }
    tessi_client_close(client);
    stage_close(&stage);
    assert_int_equal(atomic_load(&released), 3);
}

/* The same through a poller, whose descriptors change with every attempt. */
static void test_poller_retries(void **state)
{
    (void)state;
    struct stage stage;
    struct tessi_ready ready[4];
    stage_open(&stage, NULL, ANY_PORT, NULL);
    stage_close_server(&stage);
    struct tessi_client *client;
    struct tessi_net_options options = {.connect_timeout_ms = 20000};
    struct tessi_net_event event;
    assert_int_equal(tessi_client_open(stage.net, stage.endpoint, &options, &client, NULL), TESSI_OK);
    assert_int_equal(tessi_poller_add_client(stage.poller, client, client, NULL), TESSI_OK);
    int64_t until_ns = tessi_clock_now() + 250 * TESSI_NS_PER_MS;
    while (tessi_clock_now() < until_ns) {
        (void)tessi_poller_wait(stage.poller, until_ns - tessi_clock_now() > 0 ? until_ns - tessi_clock_now() : 0,
                                ready, 4);
        assert_int_equal(tessi_client_receive(client, &event), TESSI_BUSY);
    }
    assert_int_equal(tessi_server_open(stage.net, stage.endpoint, NULL, &stage.server, NULL), TESSI_OK);
    until_ns = tessi_clock_now() + PATIENCE_NS;
    while (tessi_client_receive(client, &event) == TESSI_BUSY) {
        assert_true(tessi_clock_now() < until_ns);
        (void)tessi_poller_wait(stage.poller, PATIENCE_NS, ready, 4);
    }
    assert_int_equal(event.kind, TESSI_NET_READY);
    tessi_server_close(stage.server);
    stage.server = NULL;
    while (tessi_client_receive(client, &event) == TESSI_BUSY) {
        assert_int_equal(tessi_poller_wait(stage.poller, PATIENCE_NS, ready, 4), 1);
        assert_ptr_equal(ready[0].owner, client);
    }
    assert_int_equal(event.kind, TESSI_NET_GONE);
    tessi_poller_remove_client(stage.poller, client);
    tessi_client_close(client);
    stage_close(&stage);
}

static void test_reconnect(void **state)
{
    (void)state;
    enum { MESSAGES = 500 };
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    struct tessi_client *client = connect_to(stage.net, stage.endpoint);
    send_text(client, "hello");
    struct tessi_net_event event = server_event(&stage);
    uint32_t peer = event.peer;
    tessi_net_event_clear(&event);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        assert_int_equal(tessi_server_send(stage.server, peer, &i, sizeof i, NULL, 0), TESSI_OK);
    }
    stage_close_server(&stage);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        event = client_event(client);
        assert_int_equal(event.kind, TESSI_NET_MESSAGE);
        assert_memory_equal(event.frames[0].data, &i, sizeof i);
        tessi_net_event_clear(&event);
    }
    event = client_event(client);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(tessi_client_error(client)->status, TESSI_LOST);
    assert_int_equal(tessi_client_receive(client, &event), TESSI_CLOSED);
    tessi_client_close(client);

    /* The port is free at once, and who comes back is somebody new. */
    assert_int_equal(tessi_server_open(stage.net, stage.endpoint, NULL, &stage.server, NULL), TESSI_OK);
    assert_int_equal(tessi_poller_add_server(stage.poller, stage.server, NULL, NULL), TESSI_OK);
    uint32_t last = 0;
    for (int i = 0; i < 3; i++) {
        client = connect_to(stage.net, stage.endpoint);
        send_text(client, "hello");
        event = server_event(&stage);
        assert_true(event.first);
        assert_int_not_equal(event.peer, last);
        last = event.peer;
        tessi_net_event_clear(&event);
        tessi_client_close(client);
        event = server_event(&stage);
        assert_int_equal(event.kind, TESSI_NET_GONE);
        assert_int_equal(event.peer, last);
    }
    stage_close(&stage);
}

static void test_many_peers(void **state)
{
    (void)state;
    enum { PEERS = 60, ROUNDS = 3 };
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        struct tessi_client *clients[PEERS];
        for (int i = 0; i < PEERS; i++) {
            assert_int_equal(tessi_client_open(stage.net, stage.endpoint, NULL, &clients[i], NULL), TESSI_OK);
            send_text(clients[i], "one");
            send_text(clients[i], "two");
        }
        for (int i = 0; i < PEERS; i++) {
            struct tessi_net_event event = client_event(clients[i]);
            assert_int_equal(event.kind, TESSI_NET_READY);
            tessi_client_close(clients[i]);
        }
        int first = 0;
        int messages = 0;
        for (int gone = 0; gone < PEERS;) {
            struct tessi_net_event event = server_event(&stage);
            first += event.first;
            messages += event.kind == TESSI_NET_MESSAGE;
            gone += event.kind == TESSI_NET_GONE;
            tessi_net_event_clear(&event);
        }
        assert_int_equal(first, PEERS);
        assert_int_equal(messages, 2 * PEERS);
        assert_int_equal(tessi_server_peer_count(stage.server), 0);
    }
    struct tessi_net_counters counters = tessi_net_counters_read(stage.net);
    assert_int_equal(counters.messages_malformed + counters.messages_stale + counters.handshakes_refused, 0);
    stage_close(&stage);
}

/* ——— keys ——— */

struct keys_place {
    char dir[64];
    struct tessi_keys keys;
};

static void keys_make(struct keys_place *place)
{
    (void)snprintf(place->dir, sizeof place->dir, "/tmp/tessera-net-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    assert_int_equal(tessi_keys_generate(place->dir, NULL), TESSI_OK);
    assert_int_equal(tessi_keys_load(place->dir, &place->keys, NULL), TESSI_OK);
}

static void keys_remove(const struct keys_place *place)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/cluster.public", place->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/cluster.secret", place->dir);
    (void)unlink(path);
    (void)rmdir(place->dir);
}

/* Connect with `client_dir` to a server with `server_dir`; NULL is plain. */
static void expect_connection(const char *server_dir, const char *client_dir, enum tessi_status expected,
                              const char *says)
{
    struct stage stage;
    struct tessi_net *net;
    struct tessi_client *client = NULL;
    struct tessi_error error = {0};
    stage_open(&stage, server_dir, ANY_PORT, NULL);
    assert_int_equal(tessi_net_create(client_dir, &net, NULL), TESSI_OK);
    assert_int_equal(tessi_net_is_encrypted(net), client_dir != NULL);
    int64_t start_ns = tessi_clock_now();
    enum tessi_status status = tessi_client_connect(net, stage.endpoint, NULL, &client, &error);
    assert_true(tessi_clock_now() - start_ns < 5 * TESSI_NS_PER_S);
    assert_int_equal(status, expected);
    if (expected == TESSI_OK) {
        static char bytes[60000];
        struct tessi_frame frame = tessi_frame_copy(bytes, sizeof bytes);
        assert_int_equal(tessi_client_send(client, "hello", 5, &frame, 1), TESSI_OK);
        struct tessi_net_event event = server_event(&stage);
        expect_text(&event, 0, "hello");
        assert_int_equal(event.frames[1].size, sizeof bytes);
        tessi_net_event_clear(&event);
    } else {
        if (strstr(error.text, says) == NULL || strstr(error.text, "--keys") == NULL) {
            fail_msg("'%s' does not say '%s'", error.text, says);
        }
        int64_t until_ns = tessi_clock_now() + PATIENCE_NS;
        while (tessi_net_counters_read(stage.net).handshakes_refused == 0) {
            struct tessi_net_event event;
            struct tessi_ready ready[1];
            assert_true(tessi_clock_now() < until_ns);
            (void)tessi_poller_wait(stage.poller, PATIENCE_NS, ready, 1);
            assert_int_equal(tessi_server_receive(stage.server, &event), TESSI_BUSY);
        }
    }
    tessi_client_close(client);
    tessi_net_destroy(net);
    stage_close(&stage);
}

static void test_keys(void **state)
{
    (void)state;
    struct keys_place ours;
    struct keys_place theirs;
    keys_make(&ours);
    keys_make(&theirs);
    expect_connection(ours.dir, ours.dir, TESSI_OK, "");
    expect_connection(ours.dir, theirs.dir, TESSI_AUTH, "refused our key");
    expect_connection(ours.dir, NULL, TESSI_AUTH, "asks for keys");
    expect_connection(NULL, ours.dir, TESSI_AUTH, "without keys");
    keys_remove(&ours);
    keys_remove(&theirs);
}

/* Who knows the public key only can speak to the server, and is still no member. */
static void test_public_key_is_not_enough(void **state)
{
    (void)state;
    struct keys_place ours;
    struct stage stage;
    char public_key[41];
    char secret_key[41];
    keys_make(&ours);
    stage_open(&stage, ours.dir, ANY_PORT, NULL);
    assert_int_equal(zmq_curve_keypair(public_key, secret_key), 0);
    void *context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_DEALER);
    int zero = 0;
    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, ours.keys.public_key, 41), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, public_key, 41), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret_key, 41), 0);
    assert_int_equal(zmq_connect(socket, stage.endpoint), 0);
    assert_int_equal(zmq_send(socket, "let me in", 9, 0), 9);
    await_count(&stage, offsetof(struct tessi_net_counters, handshakes_refused), 1);
    assert_int_equal(tessi_net_counters_read(stage.net).keys_refused, 1);
    assert_int_equal(tessi_server_peer_count(stage.server), 0);
    zmq_close(socket);
    zmq_ctx_term(context);
    stage_close(&stage);
    keys_remove(&ours);
}

/* ——— peers that mean no good ——— */

static void expect_service(struct stage *stage)
{
    struct tessi_client *client = connect_to(stage->net, stage->endpoint);
    send_text(client, "still there?");
    struct tessi_net_event event = server_event(stage);
    expect_text(&event, 0, "still there?");
    uint32_t peer = event.peer;
    tessi_net_event_clear(&event);
    tessi_client_close(client);
    event = server_event(stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(event.peer, peer);
}

static void garbage_against(const char *keys_dir)
{
    struct stage stage;
    stage_open(&stage, keys_dir, ANY_PORT, NULL);
    unsigned char noise[4096];
    uint32_t seed = 12345;
    uint64_t refused = 0;
    /* The last six begin as ZMTP: 1.0, 2.0 and 3.0 greetings, with and without nonsense behind. */
    static const char *const greetings[] = {"GET / HTTP/1.1\r\n\r\n",
                                            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                            "\1\0\5\0hello",
                                            "\xff\0\0\0\0\0\0\0\1\x7f\1\5\0\5hello",
                                            "\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL",
                                            "\xff\0\0\0\0\0\0\0\1\x7f\3\0WHAT",
                                            "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                                            "\0\0\0\0\0\0\0\0\0\0"};
    static const size_t sizes[] = {18, 11, 9, 19, 16, 16, 10, 10};
    for (size_t i = 0; i < 8 + 24; i++) {
        int fd = connect_raw(stage.endpoint);
        for (size_t k = 0; k < sizeof noise; k++) {
            seed = seed * 1664525 + 1013904223;
            noise[k] = (unsigned char)(seed >> 24);
        }
        if (i < 8) {
            (void)send(fd, greetings[i], sizes[i], MSG_NOSIGNAL);
        }
        if (i >= 4) {
            (void)send(fd, noise, 1 + seed % sizeof noise, MSG_NOSIGNAL);
        }
        (void)shutdown(fd, SHUT_WR);
        await_close(fd);
        close(fd);
        refused++;
    }
    await_count(&stage, offsetof(struct tessi_net_counters, handshakes_refused), refused);
    assert_int_equal(tessi_server_peer_count(stage.server), 0);
    expect_service(&stage);
    stage_close(&stage);
}

static void test_garbage(void **state)
{
    (void)state;
    struct keys_place ours;
    keys_make(&ours);
    garbage_against(NULL);
    garbage_against(ours.dir);
    keys_remove(&ours);
}

static long resident_pages(void)
{
    long size = 0;
    long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return resident;
}

static void send_all(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static void make_greeting(unsigned char greeting[64], const char *mechanism)
{
    memset(greeting, 0, 64);
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    memcpy(greeting + 12, mechanism, strlen(mechanism));
}

/* A frame header that promises 4 GiB, once before and once after the handshake. */
static void test_huge_frame_headers(void **state)
{
    (void)state;
    struct stage stage;
    static const unsigned char ready[] = "\4\x29\5READY\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0";
    static const unsigned char command[] = {6, 0, 0, 0, 1, 0, 0, 0, 0};
    static const unsigned char message[] = {2, 0, 0, 0, 1, 0, 0, 0, 0};
    unsigned char greeting[64];
    stage_open(&stage, NULL, ANY_PORT, NULL);
    make_greeting(greeting, "NULL");
    long before = resident_pages();
    for (int i = 0; i < 2; i++) {
        int fd = connect_raw(stage.endpoint);
        send_all(fd, greeting, sizeof greeting);
        if (i == 0) {
            send_all(fd, command, sizeof command);
        } else {
            send_all(fd, ready, sizeof ready);
            unsigned char answer[64 + sizeof ready]; /* ROUTER is as long as DEALER */
            assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), (ssize_t)sizeof answer);
            send_all(fd, "\0\5hello", 7);
            struct tessi_net_event event = server_event(&stage);
            expect_text(&event, 0, "hello"); /* so the handshake had succeeded */
            tessi_net_event_clear(&event);
            send_all(fd, message, sizeof message);
        }
        await_close(fd);
        close(fd);
    }
    struct tessi_net_event event = server_event(&stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_true(resident_pages() - before < 64 * 1024 * 1024 / 4096);
    await_count(&stage, offsetof(struct tessi_net_counters, handshakes_refused), 1);
    expect_service(&stage);
    stage_close(&stage);
}

/* Peers with an identity of their own, with too many frames, and one that vanishes without goodbye. */
static void test_malformed_peers(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    void *context = zmq_ctx_new();
    int zero = 0;
    for (int i = 0; i < 2; i++) {
        void *socket = zmq_socket(context, ZMQ_DEALER);
        if (i == 0) {
            zmq_setsockopt(socket, ZMQ_ROUTING_ID, "worker-1", 8);
        }
        assert_int_equal(zmq_connect(socket, stage.endpoint), 0);
        for (int k = 0; k < (i == 0 ? 0 : TESSI_NET_FRAMES_MAX); k++) {
            assert_int_equal(zmq_send(socket, "part", 4, ZMQ_SNDMORE), 4);
        }
        assert_int_equal(zmq_send(socket, "end", 3, 0), 3);
        await_count(&stage, offsetof(struct tessi_net_counters, messages_malformed), (uint64_t)i + 1);
        assert_int_equal(tessi_server_peer_count(stage.server), 0);
        zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
        zmq_close(socket);
    }
    void *socket = zmq_socket(context, ZMQ_DEALER);
    assert_int_equal(zmq_connect(socket, stage.endpoint), 0);
    assert_int_equal(zmq_send(socket, "hello", 5, 0), 5);
    struct tessi_net_event event = server_event(&stage);
    uint32_t peer = event.peer;
    tessi_net_event_clear(&event);

    /* Told to be ignored: what it says is counted and dropped. */
    tessi_server_ignore(stage.server, peer);
    assert_int_equal(zmq_send(socket, "listen!", 7, 0), 7);
    await_count(&stage, offsetof(struct tessi_net_counters, messages_stale), 1);
    assert_int_equal(tessi_server_send(stage.server, peer, "no", 2, NULL, 0), TESSI_LOST);
    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_close(socket);
    event = server_event(&stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(event.peer, peer);
    zmq_ctx_term(context);
    stage_close(&stage);
}

/* ——— the poller ——— */

static void *wake_main(void *poller)
{
    tessi_poller_wake(poller);
    return NULL;
}

static void test_poller(void **state)
{
    (void)state;
    struct stage stage;
    struct tessi_ready ready[4];
    pthread_t thread;
    stage_open(&stage, NULL, ANY_PORT, NULL);
    assert_int_equal(tessi_poller_wait(stage.poller, 0, ready, 4), 0);
    int64_t start_ns = tessi_clock_now();
    assert_int_equal(tessi_poller_wait(stage.poller, 20 * TESSI_NS_PER_MS, ready, 4), 0);
    assert_true(tessi_clock_now() - start_ns >= 20 * TESSI_NS_PER_MS);

    for (int i = 0; i < 50; i++) {
        assert_int_equal(pthread_create(&thread, NULL, wake_main, stage.poller), 0);
        assert_int_equal(tessi_poller_wait(stage.poller, TESSI_POLL_FOREVER, ready, 4), 1);
        assert_int_equal(ready[0].events, TESSI_POLL_WAKE);
        assert_null(ready[0].owner);
        pthread_join(thread, NULL);
    }
    assert_int_equal(tessi_poller_wait(stage.poller, 0, ready, 4), 0);

    int pipe_fds[2];
    int token = 0;
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(tessi_poller_add_fd(stage.poller, pipe_fds[0], TESSI_POLL_READ, &token, NULL), TESSI_OK);
    assert_int_equal(tessi_poller_add_fd(stage.poller, pipe_fds[1], TESSI_POLL_WRITE, &pipe_fds, NULL), TESSI_OK);
    assert_int_equal(tessi_poller_wait(stage.poller, PATIENCE_NS, ready, 4), 1);
    assert_ptr_equal(ready[0].owner, &pipe_fds);
    assert_int_equal(ready[0].events, TESSI_POLL_WRITE);
    tessi_poller_remove_fd(stage.poller, pipe_fds[1]);
    assert_int_equal(tessi_poller_wait(stage.poller, 0, ready, 4), 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);

    /* With room for one entry, everything that is ready gets its turn. */
    struct tessi_client *client = connect_to(stage.net, stage.endpoint);
    send_text(client, "hello");
    tessi_poller_wake(stage.poller);
    uint32_t seen = 0;
    for (int64_t until_ns = tessi_clock_now() + PATIENCE_NS; seen != 7 && tessi_clock_now() < until_ns;) {
        assert_int_equal(tessi_poller_wait(stage.poller, PATIENCE_NS, ready, 1), 1);
        seen |= ready[0].owner == &token ? 1 : 0;
        seen |= ready[0].events == TESSI_POLL_WAKE ? 2 : 0;
        if (ready[0].owner == &stage) {
            struct tessi_net_event event;
            while (tessi_server_receive(stage.server, &event) == TESSI_OK) {
                seen |= 4;
                tessi_net_event_clear(&event);
            }
        }
    }
    assert_int_equal(seen, 7);
    tessi_poller_remove_fd(stage.poller, pipe_fds[0]);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    tessi_client_close(client);
    stage_close(&stage);
}

/* Echo from a thread of its own while a client has many messages on the way: no wake-up is lost. */
struct echo {
    struct stage stage;
    uint32_t messages;
};

static void *echo_main(void *argument)
{
    struct echo *echo = argument;
    struct tessi_ready ready[4];
    struct tessi_net_event event;
    uint32_t done = 0;
    while (done < echo->messages) {
        enum tessi_status status = tessi_server_receive(echo->stage.server, &event);
        if (status == TESSI_BUSY) {
            (void)tessi_poller_wait(echo->stage.poller, TESSI_POLL_FOREVER, ready, 4);
            continue;
        }
        while (tessi_server_send(echo->stage.server, event.peer, event.frames[0].data, event.frames[0].size, NULL, 0) ==
               TESSI_BUSY) {
            (void)tessi_poller_wait(echo->stage.poller, TESSI_POLL_FOREVER, ready, 4);
        }
        tessi_net_event_clear(&event);
        done++;
    }
    return NULL;
}

static void run_echo(const char *address, const char *name)
{
    struct echo echo = {.messages = 20000};
    pthread_t thread;
    stage_open(&echo.stage, NULL, address, NULL);
    struct tessi_client *client = connect_to(echo.stage.net, echo.stage.endpoint);
    assert_int_equal(pthread_create(&thread, NULL, echo_main, &echo), 0);
    int64_t start_ns = tessi_clock_now();
    uint32_t sent = 0;
    for (uint32_t received = 0; received < echo.messages;) {
        uint64_t body[8] = {sent};
        while (sent < echo.messages && sent - received < 700 &&
               tessi_client_send(client, body, sizeof body, NULL, 0) == TESSI_OK) {
            body[0] = ++sent;
        }
        struct tessi_net_event event = client_event(client);
        assert_int_equal(event.kind, TESSI_NET_MESSAGE);
        memcpy(body, event.frames[0].data, sizeof body[0]);
        assert_int_equal(body[0], received++);
        tessi_net_event_clear(&event);
    }
    pthread_join(thread, NULL);
    print_message("echo over %s: %.0f thousand messages/s\n", name,
                  echo.messages / ((double)(tessi_clock_now() - start_ns) / 1e9) / 1e3);
    tessi_client_close(client);
    stage_close(&echo.stage);
}

static void test_echo(void **state)
{
    (void)state;
    run_echo(ANY_PORT, "tcp");
    run_echo("inproc://echo", "inproc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_frames_without_copy),
        cmocka_unit_test(test_unknown_peer),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_frame_too_large),
        cmocka_unit_test(test_inproc),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_server_starts_later),
        cmocka_unit_test(test_poller_retries),
        cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_many_peers),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_public_key_is_not_enough),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_huge_frame_headers),
        cmocka_unit_test(test_malformed_peers),
        cmocka_unit_test(test_poller),
        cmocka_unit_test(test_echo),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
