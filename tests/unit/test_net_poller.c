/* The poller: who is ready, wake-ups, and none of them lost under load. */
#include "tests/unit/net_stage.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

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
        cmocka_unit_test(test_poller),
        cmocka_unit_test(test_echo),
    };
    return cmocka_run_group_tests_name("net: the poller", tests, NULL, NULL);
}
