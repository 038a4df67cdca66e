/* Connecting, and being there again: ports, late servers, strangers, many peers. */
#include "tests/unit/net_stage.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/net/address.h"

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

/* All interfaces: of IPv4 always, of IPv6 where it is there; and peers of IPv4 are named as such. */
static void test_all_interfaces(void **state)
{
    (void)state;
    struct tessi_net *net;
    struct tessi_server *server;
    struct tessi_address address;
    struct tessi_error error = {0};
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    assert_int_equal(tessi_net_create(NULL, &net, NULL), TESSI_OK);
    assert_int_equal(tessi_server_open(net, "tcp://*:0", NULL, &server, &error), TESSI_OK);
    assert_int_equal(tessi_address_parse(tessi_server_endpoint(server), TESSI_ADDRESS_LISTEN, &address, &error), TESSI_OK);
    assert_true(tessi_address_is_wildcard(&address));
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    bool has_ipv6 = probe >= 0 && bind(probe, (const struct sockaddr *)&loopback, sizeof loopback) == 0;
    for (size_t i = 0; i < (has_ipv6 ? 2 : 1); i++) {
        char endpoint[TESSI_ENDPOINT_MAX];
        (void)snprintf(endpoint, sizeof endpoint, i == 0 ? "tcp://%s:%u" : "tcp://[%s]:%u", hosts[i], address.port);
        struct tessi_client *client = connect_to(net, endpoint);
        struct tessi_net_event event;
        send_text(client, "here");
        while (tessi_server_receive(server, &event) != TESSI_OK || event.kind == TESSI_NET_GONE) {
            (void)poll(NULL, 0, 1);
        }
        assert_string_equal(tessi_server_peer_host(server, event.peer), hosts[i]);
        tessi_net_event_clear(&event);
        tessi_client_close(client);
    }
    (void)close(probe);
    tessi_server_close(server);
    tessi_net_destroy(net);
    if (!has_ipv6) {
        print_message("skipped: no IPv6 here\n");
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_all_interfaces),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_server_starts_later),
        cmocka_unit_test(test_poller_retries),
        cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_many_peers),
    };
    return cmocka_run_group_tests_name("net: connections", tests, NULL, NULL);
}
