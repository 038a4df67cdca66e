/* The scheduler's shell: what the driver takes and drops, the live event loop over inproc and tcp, the
 * record of a run and its replay. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/net/client.h"
#include "core/server/driver.h"
#include "core/server/record.h"
#include "core/server/replay.h"
#include "core/server/scheduler.h"
#include "core/wire/pack.h"
#include "tests/unit/sample_message.h"

#define RUN_ID UINT64_C(0x1234567890abcdef)
#define WAIT_NS (20 * TESSI_NS_PER_S)

/* ——— the driver, without network ——— */

static struct tessi_driver *new_driver(void)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    return tessi_driver_create(&config, RUN_ID);
}

static struct tessi_message hello_worker(void)
{
    struct tessi_message message = {
        .type = TESSI_MSG_HELLO_WORKER,
        .as.hello_worker = {
            .name = "w", .host = "host", .address = "tcp://127.0.0.1:1", .slots = 2, .memory_bytes = 1 << 30}};
    memcpy(message.as.hello_worker.hello.families, "test", sizeof "test");
    return message;
}

static struct tessi_message hello_client(void)
{
    return (struct tessi_message){.type = TESSI_MSG_HELLO_CLIENT, .as.hello_client.name = "c"};
}

static enum tessi_driver_result give(struct tessi_driver *driver, int64_t now_ns, uint32_t peer,
                                     const struct tessi_message *message)
{
    struct tessi_buffer buffer = {0};
    struct tessi_error why = {0};
    assert_int_equal(tessi_message_pack(&buffer, message, NULL), TESSI_OK);
    enum tessi_driver_result result = tessi_driver_receive(driver, now_ns, peer, buffer.data, buffer.size, &why);
    assert_true((result == TESSI_DRIVER_DROPPED) == (why.text[0] != 0) || result == TESSI_DRIVER_TAKEN);
    tessi_buffer_fini(&buffer);
    return result;
}

/* The first message of `type` to `peer` in the outbox, or a failed test. */
static void find(const struct tessi_driver *driver, uint32_t peer, enum tessi_msg_type type,
                 struct tessi_message *message)
{
    const struct tessi_outbox *outbox = tessi_driver_outbox(driver);
    for (size_t i = 0; i < outbox->count; i++) {
        const struct tessi_outgoing *item = &outbox->items[i];
        if (item->peer == peer && item->type == type) {
            assert_int_equal(tessi_message_unpack(outbox->bytes.data + item->offset, item->size, message, NULL),
                             TESSI_OK);
            assert_int_equal(message->type, type);
            return;
        }
    }
    fail_msg("no %s for peer %u", tessi_message_name(type), peer);
}

static void expect(const struct tessi_driver *driver, uint32_t peer, enum tessi_msg_type type)
{
    struct tessi_message message;
    find(driver, peer, type, &message);
    assert_true(message.run_id == RUN_ID);
    tessi_message_fini(&message);
}

static void join(struct tessi_driver *driver, uint32_t worker, uint32_t client)
{
    struct tessi_message message = hello_worker();
    assert_int_equal(give(driver, 1, worker, &message), TESSI_DRIVER_TAKEN);
    expect(driver, worker, TESSI_MSG_WELCOME);
    message = hello_client();
    assert_int_equal(give(driver, 2, client, &message), TESSI_DRIVER_TAKEN);
    expect(driver, client, TESSI_MSG_WELCOME);
    expect(driver, client, TESSI_MSG_PEER_UP);
}

/* A submission of one array of zeros in four blocks. */
static struct tessi_layer *zeros(uint32_t session)
{
    struct tessi_layer *layer = tessi_layer_create(session, 1, TESSI_OP_FULL, TESSI_F64);
    struct tessi_shape shape = {1, {64}};
    const int64_t chunk[1] = {16};
    tessi_grid_regular(&layer->grid, &shape, chunk);
    layer->as.full.dtype = TESSI_F64;
    return layer;
}

static const uint32_t wanted[] = {1};

static struct tessi_message submission(uint64_t run_id, struct tessi_layer **layer)
{
    return (struct tessi_message){.type = TESSI_MSG_SUBMIT,
                                  .run_id = run_id,
                                  .as.submit = {.request = 9, .layers = {layer, 1}, .wanted = {wanted, 1}}};
}

static struct tessi_message done_report(uint64_t run_id, const struct tessi_message *assign)
{
    return (struct tessi_message){
        .type = TESSI_MSG_REPORT,
        .run_id = run_id,
        .as.report.report = {.done = tessi_spans_view(assign->as.assign.spans.items, assign->as.assign.spans.count)}};
}

static void test_a_computation(void **state)
{
    (void)state;
    struct tessi_driver *driver = new_driver();
    join(driver, 5, 6);
    struct tessi_layer *layer = zeros(6);
    struct tessi_message message = submission(RUN_ID, &layer), assign, done;
    assert_int_equal(give(driver, 3, 6, &message), TESSI_DRIVER_TAKEN);
    tessi_layer_destroy(layer);
    expect(driver, 6, TESSI_MSG_ACCEPTED);
    expect(driver, 5, TESSI_MSG_LAYERS);
    find(driver, 5, TESSI_MSG_ASSIGN, &assign);
    uint64_t tasks = 0;
    for (size_t i = 0; i < assign.as.assign.spans.count; i++) {
        tasks += assign.as.assign.spans.items[i].count;
    }
    assert_int_equal(tasks, 4);
    message = done_report(RUN_ID, &assign);
    assert_int_equal(give(driver, 4, 5, &message), TESSI_DRIVER_TAKEN);
    tessi_message_fini(&assign);
    find(driver, 6, TESSI_MSG_DONE, &done);
    assert_int_equal(done.as.done.layer, 1);
    assert_int_equal(done.as.done.stats.tasks_done, 4);
    tessi_message_fini(&done);
    message = (struct tessi_message){.type = TESSI_MSG_GOODBYE, .run_id = RUN_ID, .as.goodbye.text = ""};
    assert_int_equal(give(driver, 5, 5, &message), TESSI_DRIVER_TAKEN);
    expect(driver, 6, TESSI_MSG_PEER_LOST);
    assert_int_equal(tessi_driver_role(driver, 5), TESSI_ROLE_ENDED);
    tessi_driver_gone(driver, 6, 5);
    assert_int_equal(tessi_driver_outbox(driver)->count, 0);
    tessi_driver_destroy(driver);
}

static void test_a_lost_worker_is_announced(void **state)
{
    (void)state;
    struct tessi_driver *driver = new_driver();
    join(driver, 5, 6);
    tessi_driver_gone(driver, 3, 5);
    expect(driver, 6, TESSI_MSG_PEER_LOST);
    tessi_driver_gone(driver, 4, 6);
    tessi_driver_gone(driver, 5, 77); /* a stranger's end means nothing */
    assert_int_equal(tessi_driver_outbox(driver)->count, 0);
    tessi_driver_destroy(driver);
}

static void test_garbage_is_counted(void **state)
{
    (void)state;
    struct tessi_driver *driver = new_driver();
    struct sample sample = {7};
    for (uint32_t i = 0; i < 1000; i++) {
        uint8_t bytes[64];
        struct tessi_error why = {0};
        for (size_t b = 0; b < sizeof bytes; b++) {
            bytes[b] = (uint8_t)sample_next(&sample);
        }
        size_t size = (size_t)sample_between(&sample, 0, sizeof bytes);
        assert_int_equal(tessi_driver_receive(driver, 1, 1 + i % 3, bytes, size, &why), TESSI_DRIVER_DROPPED);
        assert_true(why.text[0] != 0);
        assert_int_equal(tessi_driver_outbox(driver)->count, 0);
    }
    assert_int_equal(tessi_driver_counters(driver)->malformed, 1000);
    tessi_driver_destroy(driver);
}

static void test_stale_and_misplaced_are_counted(void **state)
{
    (void)state;
    struct tessi_driver *driver = new_driver();
    struct tessi_message heartbeat = {.type = TESSI_MSG_HEARTBEAT, .run_id = RUN_ID};
    assert_int_equal(give(driver, 1, 9, &heartbeat), TESSI_DRIVER_DROPPED); /* a stranger */
    assert_int_equal(tessi_driver_counters(driver)->misplaced, 1);
    join(driver, 5, 6);
    assert_int_equal(give(driver, 3, 5, &heartbeat), TESSI_DRIVER_TAKEN);
    heartbeat.run_id++;
    assert_int_equal(give(driver, 3, 5, &heartbeat), TESSI_DRIVER_DROPPED);
    assert_int_equal(tessi_driver_counters(driver)->stale, 1);
    struct tessi_message report = {.type = TESSI_MSG_REPORT, .run_id = RUN_ID};
    assert_int_equal(give(driver, 3, 6, &report), TESSI_DRIVER_DROPPED); /* a client reports nothing */
    struct tessi_message release = {.type = TESSI_MSG_RELEASE, .run_id = RUN_ID};
    assert_int_equal(give(driver, 3, 5, &release), TESSI_DRIVER_DROPPED); /* a worker holds no handles */
    struct tessi_message welcome = {.type = TESSI_MSG_WELCOME, .run_id = RUN_ID};
    assert_int_equal(give(driver, 3, 5, &welcome), TESSI_DRIVER_DROPPED); /* the other direction */
    struct tessi_message again = hello_worker();
    assert_int_equal(give(driver, 3, 5, &again), TESSI_DRIVER_DROPPED);
    assert_int_equal(tessi_driver_counters(driver)->misplaced, 5);
    tessi_driver_destroy(driver);
}

/* However its tasks are spread over spans. */
static void test_a_question_about_too_much_is_dropped(void **state)
{
    (void)state;
    struct tessi_driver *driver = new_driver();
    join(driver, 5, 6);
    const uint64_t most = TESSI_LOCATE_TASKS_MAX;
    struct tessi_span spans[] = {{.session = 6, .layer = 1, .first = 0, .count = most - 1},
                                 {.session = 6, .layer = 1, .first = 7, .count = 1},
                                 {.session = 6, .layer = 1, .first = 9, .count = 1}};
    struct tessi_message question = {.type = TESSI_MSG_LOCATE, .run_id = RUN_ID};
    question.as.locate.spans = tessi_spans_view(spans, 2);
    assert_int_equal(give(driver, 3, 5, &question), TESSI_DRIVER_TAKEN);
    question.as.locate.spans = tessi_spans_view(spans, 3);
    assert_int_equal(give(driver, 4, 5, &question), TESSI_DRIVER_DROPPED);
    spans[0].count = 20000000;
    question.as.locate.spans = tessi_spans_view(spans, 1);
    assert_int_equal(give(driver, 5, 6, &question), TESSI_DRIVER_DROPPED);
    assert_int_equal(tessi_driver_counters(driver)->malformed, 2);
    tessi_driver_destroy(driver);
}

static void test_wrong_hellos_are_rejected(void **state)
{
    (void)state;
    struct tessi_driver *driver = new_driver();
    struct tessi_message message = hello_worker(), reject;
    message.as.hello_worker.slots = 0;
    assert_int_equal(give(driver, 1, 5, &message), TESSI_DRIVER_TAKEN);
    expect(driver, 5, TESSI_MSG_REJECT);
    struct tessi_buffer buffer = {0};
    struct tessi_error why = {0};
    const uint32_t mark = UINT32_C(0x01020304);
    tessi_pack_array(&buffer, 7);
    tessi_pack_u64(&buffer, TESSI_MSG_HELLO_WORKER);
    tessi_pack_u64(&buffer, 0);
    tessi_pack_text(&buffer, "TESS", 4);
    tessi_pack_u64(&buffer, 99);
    tessi_pack_text(&buffer, "7.7.7", 63);
    tessi_pack_binary(&buffer, &mark, sizeof mark);
    tessi_pack_text(&buffer, "", 63);
    assert_int_equal(tessi_driver_receive(driver, 2, 8, buffer.data, buffer.size, &why), TESSI_DRIVER_TAKEN);
    find(driver, 8, TESSI_MSG_REJECT, &reject);
    assert_int_equal(reject.as.reject.status, TESSI_VERSION);
    assert_non_null(strstr(reject.as.reject.text, "7.7.7"));
    assert_non_null(strstr(reject.as.reject.text, "99"));
    tessi_message_fini(&reject);
    assert_int_equal(tessi_driver_counters(driver)->refused, 2);
    tessi_buffer_fini(&buffer);
    tessi_driver_destroy(driver);
}

static void test_bad_submissions_are_refused(void **state)
{
    (void)state;
    struct tessi_driver *driver = new_driver();
    join(driver, 5, 6);
    struct tessi_message refused;
    struct tessi_layer *layer = zeros(1234); /* another client's session */
    struct tessi_message message = submission(RUN_ID, &layer);
    assert_int_equal(give(driver, 3, 6, &message), TESSI_DRIVER_TAKEN);
    expect(driver, 6, TESSI_MSG_REFUSED);
    layer->session = 6;
    layer->as.full.dtype = TESSI_F16; /* no type of a scalar */
    assert_int_equal(give(driver, 4, 6, &message), TESSI_DRIVER_TAKEN);
    find(driver, 6, TESSI_MSG_REFUSED, &refused);
    assert_int_equal(refused.as.refused.request, 9);
    assert_int_equal(refused.as.refused.status, TESSI_INVALID);
    assert_true(refused.as.refused.text[0] != 0);
    tessi_message_fini(&refused);
    tessi_layer_destroy(layer);
    tessi_driver_destroy(driver);
}

/* A layer of 500,000 boundaries, 4 MB on the wire. */
static struct tessi_layer *large_layer(uint32_t session, uint32_t id)
{
    enum { CHUNKS = 500000 };
    static int64_t bounds[CHUNKS + 1];
    for (int64_t b = 0; b <= CHUNKS; b++) {
        bounds[b] = 2 * b + (b == CHUNKS);
    }
    struct tessi_layer *layer = tessi_layer_create(session, id, TESSI_OP_FULL, TESSI_F64);
    layer->grid.ndim = 1;
    layer->grid.axis[0] = tessi_axis_explicit(bounds, CHUNKS);
    layer->as.full.dtype = TESSI_F64;
    return layer;
}

/* Five submissions before there is a worker; then the worker hears of all five layers, 20 MB, at once. */
static void test_an_action_too_long_goes_in_parts(void **state)
{
    (void)state;
    enum { LAYERS = 5 };
    struct tessi_sched_config config = tessi_sched_config_default();
    config.window_ns = 3600 * TESSI_NS_PER_S; /* so that the worker is given all of it */
    config.assigned_per_slot = config.assigned_per_step = UINT32_MAX;
    struct tessi_driver *driver = tessi_driver_create(&config, RUN_ID);
    struct tessi_message message = hello_client();
    assert_int_equal(give(driver, 2, 6, &message), TESSI_DRIVER_TAKEN);
    for (uint32_t id = 1; id <= LAYERS; id++) {
        struct tessi_layer *layer = large_layer(6, id);
        message = submission(RUN_ID, &layer);
        message.as.submit.wanted = (struct tessi_id_list){&id, 1};
        assert_int_equal(give(driver, 2 + id, 6, &message), TESSI_DRIVER_TAKEN);
        expect(driver, 6, TESSI_MSG_ACCEPTED);
        tessi_layer_destroy(layer);
    }
    message = hello_worker();
    assert_int_equal(give(driver, 100, 7, &message), TESSI_DRIVER_TAKEN);
    const struct tessi_outbox *outbox = tessi_driver_outbox(driver);
    size_t messages = 0, layers = 0;
    for (size_t i = 0; i < outbox->count; i++) {
        const struct tessi_outgoing *item = &outbox->items[i];
        assert_true(item->size <= TESSI_MESSAGE_MAX);
        if (item->type == TESSI_MSG_LAYERS) {
            struct tessi_message told;
            assert_int_equal(tessi_message_unpack(outbox->bytes.data + item->offset, item->size, &told, NULL),
                             TESSI_OK);
            messages++;
            layers += told.as.layers.layers.count;
            tessi_message_fini(&told);
        }
    }
    assert_int_equal(layers, LAYERS);
    assert_true(messages >= 2);
    tessi_driver_destroy(driver);
}

/* ——— live ——— */

struct live {
    struct tessi_net *net;
    struct tessi_scheduler *scheduler;
    pthread_t thread;
};

static void *serve(void *context)
{
    tessi_scheduler_run(((struct live *)context)->scheduler);
    return NULL;
}

static void live_start(struct live *live, const char *listen, const char *record_path)
{
    struct tessi_error error = {0};
    struct tessi_scheduler_config config = {
        .listen = listen, .record_path = record_path, .sched = {.family = "test", .max_deaths = 2}};
    assert_int_equal(tessi_net_create(NULL, &live->net, &error), TESSI_OK);
    config.net = live->net;
    enum tessi_status status = tessi_scheduler_create(&config, &live->scheduler, &error);
    if (status != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(pthread_create(&live->thread, NULL, serve, live), 0);
}

static void live_stop(struct live *live)
{
    tessi_scheduler_stop(live->scheduler);
    pthread_join(live->thread, NULL);
}

static void live_end(struct live *live)
{
    tessi_scheduler_destroy(live->scheduler);
    tessi_net_destroy(live->net);
}

static struct tessi_client *live_connect(const struct live *live)
{
    struct tessi_client *client;
    struct tessi_error error = {0};
    struct tessi_net_options options = {.frame_bytes_max = TESSI_MESSAGE_MAX};
    if (tessi_client_connect(live->net, tessi_scheduler_endpoint(live->scheduler), &options, &client, &error) !=
        TESSI_OK) {
        fail_msg("%s", error.text);
    }
    return client;
}

static void say(struct tessi_client *client, const struct tessi_message *message)
{
    struct tessi_buffer buffer = {0};
    assert_int_equal(tessi_message_pack(&buffer, message, NULL), TESSI_OK);
    assert_int_equal(tessi_client_send(client, buffer.data, buffer.size, NULL, 0), TESSI_OK);
    tessi_buffer_fini(&buffer);
}

/* The next message of that kind; others are passed over. */
static void hear(struct tessi_client *client, enum tessi_msg_type type, struct tessi_message *message)
{
    for (;;) {
        struct tessi_net_event event;
        enum tessi_status status = tessi_client_receive(client, &event);
        if (status == TESSI_BUSY) {
            assert_int_equal(tessi_client_wait(client, WAIT_NS), TESSI_OK);
            continue;
        }
        assert_int_equal(status, TESSI_OK);
        assert_int_equal(event.kind, TESSI_NET_MESSAGE);
        assert_int_equal(tessi_message_unpack(event.frames[0].data, event.frames[0].size, message, NULL), TESSI_OK);
        tessi_net_event_clear(&event);
        if (message->type == type) {
            return;
        }
        tessi_message_fini(message);
    }
}

static void hear_only(struct tessi_client *client, enum tessi_msg_type type)
{
    struct tessi_message message;
    hear(client, type, &message);
    tessi_message_fini(&message);
}

/* A worker and a client compute four blocks; returns the status document. */
static char *live_session(struct live *live)
{
    struct tessi_client *worker = live_connect(live), *client = live_connect(live);
    struct tessi_message message = hello_worker(), reply;
    say(worker, &message);
    hear_only(worker, TESSI_MSG_WELCOME);
    message = hello_client();
    say(client, &message);
    hear(client, TESSI_MSG_WELCOME, &reply);
    uint32_t session = reply.as.welcome.id;
    uint64_t run_id = reply.run_id;
    assert_true(session != 0 && run_id != 0 && reply.as.welcome.heartbeat_ms > 0);
    tessi_message_fini(&reply);
    assert_int_equal(tessi_client_send(client, "not a message", 13, NULL, 0), TESSI_OK);
    struct tessi_layer *layer = zeros(session);
    message = submission(run_id, &layer);
    say(client, &message);
    tessi_layer_destroy(layer);
    uint64_t tasks = 0;
    while (tasks < 4) {
        hear(worker, TESSI_MSG_ASSIGN, &reply);
        for (size_t i = 0; i < reply.as.assign.spans.count; i++) {
            tasks += reply.as.assign.spans.items[i].count;
        }
        message = done_report(run_id, &reply);
        say(worker, &message);
        tessi_message_fini(&reply);
    }
    hear_only(client, TESSI_MSG_DONE);
    message = (struct tessi_message){.type = TESSI_MSG_STATUS_REQUEST};
    say(client, &message);
    hear(client, TESSI_MSG_STATUS_REPLY, &reply);
    char *json = tessi_strdup(reply.as.status_reply.json);
    tessi_message_fini(&reply);
    live_stop(live);
    hear_only(client, TESSI_MSG_SHUTDOWN);
    hear_only(worker, TESSI_MSG_SHUTDOWN);
    tessi_client_close(worker);
    tessi_client_close(client);
    return json;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    assert_non_null(item);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static void check_status(const char *json)
{
    cJSON *root = cJSON_Parse(json);
    assert_non_null(root);
    const cJSON *workers = cJSON_GetObjectItemCaseSensitive(root, "workers");
    assert_int_equal(cJSON_GetArraySize(workers), 1);
    const cJSON *worker = cJSON_GetArrayItem(workers, 0);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(worker, "name")->valuestring, "w");
    assert_true(number(worker, "slots") == 2.0);
    assert_true(number(worker, "memory_bytes") == (double)(1 << 30));
    assert_true(number(worker, "heard_seconds_ago") >= 0.0);
    assert_true(number(root, "tasks_done") == 4.0);
    assert_true(number(root, "dropped_messages") == 1.0);
    assert_true(number(root, "workers_joined") == 1.0);
    assert_true(number(root, "uptime_seconds") > 0.0);
    cJSON_Delete(root);
}

static void test_live_over_tcp(void **state)
{
    (void)state;
    struct live live;
    live_start(&live, "tcp://127.0.0.1:0", NULL);
    assert_null(strstr(tessi_scheduler_endpoint(live.scheduler), ":0\0"));
    char *json = live_session(&live);
    check_status(json);
    tessi_free(json);
    live_end(&live);
}

static void test_live_inside_one_process(void **state)
{
    (void)state;
    struct live live;
    live_start(&live, "inproc://test-scheduler", NULL);
    char *json = live_session(&live);
    check_status(json);
    tessi_free(json);
    live_end(&live);
}

static double ask_status(struct tessi_client *client, const char *name)
{
    struct tessi_message question = {.type = TESSI_MSG_STATUS_REQUEST}, reply;
    say(client, &question);
    hear(client, TESSI_MSG_STATUS_REPLY, &reply);
    cJSON *root = cJSON_Parse(reply.as.status_reply.json);
    double value = number(root, name);
    cJSON_Delete(root);
    tessi_message_fini(&reply);
    return value;
}

/* Who asks and never reads makes the scheduler hold a few answers, and is given up; others are served. */
static void test_answers_that_nobody_reads(void **state)
{
    (void)state;
    enum { WORKERS = 40, ROUND = 50, BOUND = 64 << 20 };
    struct live live;
    struct tessi_client *workers[WORKERS], *deaf = NULL;
    live_start(&live, "tcp://127.0.0.1:0", NULL);
    for (int i = 0; i < WORKERS; i++) { /* so that an answer is long */
        struct tessi_message hello = hello_worker();
        workers[i] = live_connect(&live);
        say(workers[i], &hello);
        hear_only(workers[i], TESSI_MSG_WELCOME);
    }
    struct tessi_client *reader = live_connect(&live);
    struct tessi_net_options options = {.frame_bytes_max = TESSI_MESSAGE_MAX,
                                        .receive_queue_messages = 1,
                                        .heartbeat_ms = 600000}; /* ZeroMQ fails in one whose input has stopped */
    struct tessi_message question = {.type = TESSI_MSG_STATUS_REQUEST};
    struct tessi_buffer buffer = {0};
    assert_int_equal(tessi_client_connect(live.net, tessi_scheduler_endpoint(live.scheduler), &options, &deaf, NULL),
                     TESSI_OK);
    assert_int_equal(tessi_message_pack(&buffer, &question, NULL), TESSI_OK);
    int64_t until_ns = tessi_clock_now() + 3 * WAIT_NS;
    double most = 0, held = 0;
    do {
        for (int i = 0; i < ROUND; i++) {
            (void)!tessi_client_send(deaf, buffer.data, buffer.size, NULL, 0);
        }
        held = ask_status(reader, "unread_bytes_held");
        most = held > most ? held : most;
        assert_true(tessi_clock_now() < until_ns);
    } while (ask_status(reader, "connections_cut") < 1);
    assert_true(most > 0 && most < BOUND);
    while (ask_status(reader, "unread_bytes_held") > 1 << 20) {
        assert_true(tessi_clock_now() < until_ns);
    }
    live_stop(&live);
    tessi_buffer_fini(&buffer);
    tessi_client_close(deaf);
    tessi_client_close(reader);
    for (int i = 0; i < WORKERS; i++) {
        tessi_client_close(workers[i]);
    }
    live_end(&live);
}

/* A submission for which there is no memory is refused; the scheduler goes on, and takes it when there is some. */
static void test_no_memory_for_a_submission(void **state)
{
    (void)state;
    struct live live;
    live_start(&live, "tcp://127.0.0.1:0", NULL);
    struct tessi_client *client = live_connect(&live);
    struct tessi_message message = hello_client(), reply;
    say(client, &message);
    hear(client, TESSI_MSG_WELCOME, &reply);
    struct tessi_layer *layer = zeros(reply.as.welcome.id);
    message = submission(reply.run_id, &layer);
    tessi_message_fini(&reply);
    (void)tessi_memory_ends_at(1);
    say(client, &message);
    hear(client, TESSI_MSG_REFUSED, &reply);
    (void)tessi_memory_ends_at(0);
    assert_int_equal(reply.as.refused.request, 9);
    assert_int_equal(reply.as.refused.status, TESSI_NOMEM);
    assert_non_null(strstr(reply.as.refused.text, "no memory"));
    tessi_message_fini(&reply);
    say(client, &message);
    hear_only(client, TESSI_MSG_ACCEPTED);
    tessi_layer_destroy(layer);
    live_stop(&live);
    tessi_client_close(client);
    live_end(&live);
}

static void test_stop_before_run(void **state)
{
    (void)state;
    struct live live;
    struct tessi_error error = {0};
    struct tessi_scheduler_config config = {.listen = "tcp://127.0.0.1:0"};
    assert_int_equal(tessi_scheduler_create(&config, &live.scheduler, &error), TESSI_OK);
    tessi_scheduler_stop(live.scheduler);
    tessi_scheduler_stop(live.scheduler);
    tessi_scheduler_run(live.scheduler);
    tessi_scheduler_destroy(live.scheduler);
}

static void test_exposure_needs_keys(void **state)
{
    (void)state;
    struct tessi_scheduler *scheduler;
    struct tessi_error error = {0};
    struct tessi_scheduler_config config = {.listen = "tcp://0.0.0.0:0"};
    assert_int_equal(tessi_scheduler_create(&config, &scheduler, &error), TESSI_AUTH);
    assert_null(scheduler);
    assert_non_null(strstr(error.text, "--insecure"));
    assert_non_null(strstr(error.text, "keygen"));
    config.insecure = true;
    assert_int_equal(tessi_scheduler_create(&config, &scheduler, &error), TESSI_OK);
    tessi_scheduler_destroy(scheduler);
}

static void test_a_taken_port_is_named(void **state)
{
    (void)state;
    struct tessi_scheduler *first, *second;
    struct tessi_error error = {0};
    struct tessi_scheduler_config config = {.listen = "tcp://127.0.0.1:0"};
    assert_int_equal(tessi_scheduler_create(&config, &first, &error), TESSI_OK);
    config.listen = tessi_scheduler_endpoint(first);
    assert_int_equal(tessi_scheduler_create(&config, &second, &error), TESSI_BUSY);
    assert_non_null(strstr(error.text, strrchr(config.listen, ':') + 1));
    tessi_scheduler_destroy(first);
}

/* ——— record and replay ——— */

static void temporary(char *path, size_t size)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, size, "%s/tessera-test-XXXXXX", folder != NULL ? folder : "/tmp");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

static void record_live(const char *path)
{
    struct live live;
    live_start(&live, "inproc://test-record", path);
    tessi_free(live_session(&live));
    live_end(&live);
}

static void test_replay_of_a_live_run(void **state)
{
    (void)state;
    char path[256];
    struct tessi_replay_counts counts;
    struct tessi_error error = {0};
    temporary(path, sizeof path);
    record_live(path);
    enum tessi_status status = tessi_replay(path, &counts, &error);
    if (status != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    assert_true(counts.steps >= 5 && counts.messages >= 5 && counts.actions >= 5);
    assert_int_equal(counts.compared, counts.steps);
    unlink(path);
}

static size_t read_all(const char *path, uint8_t *bytes, size_t capacity)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, capacity, file);
    fclose(file);
    return size;
}

static void write_all(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void test_replay_names_the_first_difference(void **state)
{
    (void)state;
    static uint8_t bytes[1 << 20];
    char path[256];
    struct tessi_replay_counts counts;
    struct tessi_error error = {0};
    temporary(path, sizeof path);
    record_live(path);
    size_t size = read_all(path, bytes, sizeof bytes);
    bytes[size - 1] ^= 1; /* the last digest */
    write_all(path, bytes, size);
    assert_int_equal(tessi_replay(path, &counts, &error), TESSI_FAILED);
    char step[64];
    snprintf(step, sizeof step, "step %llu ", (unsigned long long)counts.steps);
    assert_non_null(strstr(error.text, step));
    unlink(path);
}

/* A record that ends anywhere (the scheduler was killed) is replayed as far as it goes; damage is always found. */
static void test_replay_of_cut_and_damaged_records(void **state)
{
    (void)state;
    static uint8_t bytes[1 << 20];
    char path[256];
    struct tessi_replay_counts counts;
    temporary(path, sizeof path);
    record_live(path);
    size_t size = read_all(path, bytes, sizeof bytes);
    assert_true(size > 200 && size < sizeof bytes);
    for (size_t cut = 168; cut < size; cut += 37) { /* from the end of the header on */
        write_all(path, bytes, cut);
        assert_int_equal(tessi_replay(path, &counts, NULL), TESSI_OK);
        assert_true(counts.compared + 1 >= counts.steps);
    }
    for (size_t at = 0; at < size; at += 41) {
        bytes[at] ^= 0x15;
        write_all(path, bytes, size);
        assert_int_not_equal(tessi_replay(path, &counts, NULL), TESSI_OK);
        bytes[at] ^= 0x15;
    }
    unlink(path);
    struct tessi_error error = {0};
    assert_int_equal(tessi_replay(path, &counts, &error), TESSI_NOT_FOUND);
    assert_non_null(strstr(error.text, path));
}

static void test_recording_needs_a_writable_file(void **state)
{
    (void)state;
    struct tessi_scheduler *scheduler;
    struct tessi_error error = {0};
    struct tessi_scheduler_config config = {.listen = "tcp://127.0.0.1:0", .record_path = "/nonexistent/record"};
    assert_int_equal(tessi_scheduler_create(&config, &scheduler, &error), TESSI_IO);
    assert_non_null(strstr(error.text, "/nonexistent/record"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_computation),
        cmocka_unit_test(test_a_lost_worker_is_announced),
        cmocka_unit_test(test_garbage_is_counted),
        cmocka_unit_test(test_stale_and_misplaced_are_counted),
        cmocka_unit_test(test_a_question_about_too_much_is_dropped),
        cmocka_unit_test(test_wrong_hellos_are_rejected),
        cmocka_unit_test(test_bad_submissions_are_refused),
        cmocka_unit_test(test_an_action_too_long_goes_in_parts),
        cmocka_unit_test(test_live_over_tcp),
        cmocka_unit_test(test_live_inside_one_process),
        cmocka_unit_test(test_answers_that_nobody_reads),
        cmocka_unit_test(test_no_memory_for_a_submission),
        cmocka_unit_test(test_stop_before_run),
        cmocka_unit_test(test_exposure_needs_keys),
        cmocka_unit_test(test_a_taken_port_is_named),
        cmocka_unit_test(test_replay_of_a_live_run),
        cmocka_unit_test(test_replay_names_the_first_difference),
        cmocka_unit_test(test_replay_of_cut_and_damaged_records),
        cmocka_unit_test(test_recording_needs_a_writable_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
