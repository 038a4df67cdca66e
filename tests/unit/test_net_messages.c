/* Messages between a server and its clients over real sockets. */
#include "tests/unit/net_stage.h"

#include <stdatomic.h>
#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_frames_without_copy),
        cmocka_unit_test(test_unknown_peer),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_frame_too_large),
        cmocka_unit_test(test_inproc),
    };
    return cmocka_run_group_tests_name("net: messages", tests, NULL, NULL);
}
