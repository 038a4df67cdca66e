#include "tests/unit/net_stage.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void stage_open(struct stage *stage, const char *keys_dir, const char *address,
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

void stage_close_server(struct stage *stage)
{
    if (stage->server != NULL) {
        tessi_poller_remove_server(stage->poller, stage->server);
        tessi_server_close(stage->server);
        stage->server = NULL;
    }
}

void stage_close(struct stage *stage)
{
    stage_close_server(stage);
    tessi_poller_destroy(stage->poller);
    tessi_net_destroy(stage->net);
}

struct tessi_net_event server_event(struct stage *stage)
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

struct tessi_net_event client_event(struct tessi_client *client)
{
    struct tessi_net_event event;
    enum tessi_status status;
    while ((status = tessi_client_receive(client, &event)) == TESSI_BUSY) {
        assert_int_equal(tessi_client_wait(client, PATIENCE_NS), TESSI_OK);
    }
    assert_int_equal(status, TESSI_OK);
    return event;
}

void expect_text(struct tessi_net_event *event, uint32_t frame, const char *text)
{
    assert_int_equal(event->kind, TESSI_NET_MESSAGE);
    assert_true(frame < event->frame_count);
    assert_int_equal(event->frames[frame].size, strlen(text));
    assert_memory_equal(event->frames[frame].data, text, strlen(text));
}

struct tessi_client *connect_to(struct tessi_net *net, const char *endpoint)
{
    struct tessi_client *client = NULL;
    struct tessi_error error = {0};
    enum tessi_status status = tessi_client_connect(net, endpoint, NULL, &client, &error);
    if (status != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    return client;
}

void send_text(struct tessi_client *client, const char *text)
{
    assert_int_equal(tessi_client_send(client, text, strlen(text), NULL, 0), TESSI_OK);
}

void await_count(struct stage *stage, size_t offset, uint64_t least)
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

void count_release(void *data, void *hint)
{
    (void)data;
    atomic_int *released = hint;
    atomic_fetch_add(released, 1);
}

void keys_make(struct keys_place *place)
{
    (void)snprintf(place->dir, sizeof place->dir, "/tmp/tessera-net-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    assert_int_equal(tessi_keys_generate(place->dir, NULL), TESSI_OK);
    assert_int_equal(tessi_keys_load(place->dir, &place->keys, NULL), TESSI_OK);
}

void keys_remove(const struct keys_place *place)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/cluster.public", place->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/cluster.secret", place->dir);
    (void)unlink(path);
    (void)rmdir(place->dir);
}
