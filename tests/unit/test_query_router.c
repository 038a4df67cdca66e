/* Questions and answers on their way through the scheduler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "core/base/alloc.h"
#include "core/server/query_router.h"

#define RUN_ID UINT64_C(99)
#define WORKER 5u
#define ASKER 9u

struct post {
    struct tessi_driver *driver;
    struct tessi_router *router;
    uint32_t to; /* of the last message sent; 0: none */
    struct tessi_message message;
};

static void take(void *context, uint32_t peer, const void *bytes, size_t size)
{
    struct post *post = context;
    tessi_message_fini(&post->message);
    post->to = peer;
    assert_int_equal(tessi_message_unpack(bytes, size, &post->message, NULL), TESSI_OK);
}

static void give_driver(struct post *post, uint32_t peer, const struct tessi_message *message)
{
    struct tessi_buffer buffer = {0};
    struct tessi_error why;
    assert_int_equal(tessi_message_pack(&buffer, message, NULL), TESSI_OK);
    assert_false(tessi_router_take(post->router, 0, peer, buffer.data, buffer.size));
    assert_int_equal(tessi_driver_receive(post->driver, 0, peer, buffer.data, buffer.size, &why), TESSI_DRIVER_TAKEN);
    tessi_router_keep_notes(post->router);
    tessi_buffer_fini(&buffer);
}

static bool give(struct post *post, int64_t now_ns, uint32_t peer, const struct tessi_message *message)
{
    struct tessi_buffer buffer = {0};
    assert_int_equal(tessi_message_pack(&buffer, message, NULL), TESSI_OK);
    post->to = 0;
    bool taken = tessi_router_take(post->router, now_ns, peer, buffer.data, buffer.size);
    tessi_buffer_fini(&buffer);
    return taken;
}

static void open_post(struct post *post)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    *post = (struct post){.driver = tessi_driver_create(&config, RUN_ID)};
    post->router = tessi_router_create(post->driver, take, post);
    struct tessi_message hello = {
        .type = TESSI_MSG_HELLO_WORKER,
        .as.hello_worker = {.name = "w", .host = "h", .address = "tcp://127.0.0.1:1", .slots = 2}};
    memcpy(hello.as.hello_worker.hello.families, "test", sizeof "test");
    give_driver(post, WORKER, &hello);
}

static void close_post(struct post *post)
{
    tessi_message_fini(&post->message);
    tessi_router_destroy(post->router);
    tessi_driver_destroy(post->driver);
}

static struct tessi_message request(uint32_t question, uint32_t worker, uint64_t from)
{
    struct tessi_message message = {.type = TESSI_MSG_TRACE_REQUEST};
    message.as.trace_request.question = question;
    message.as.trace_request.worker = worker;
    message.as.trace_request.from = from;
    return message;
}

static const struct tessi_msg_trace_page *page_for(const struct post *post, uint32_t asker, uint32_t question)
{
    assert_int_equal(post->to, asker);
    assert_int_equal(post->message.type, TESSI_MSG_TRACE_PAGE);
    assert_int_equal(post->message.as.trace_page.question, question);
    return &post->message.as.trace_page;
}

static void test_the_schedulers_own_ring(void **state)
{
    (void)state;
    struct post post;
    open_post(&post);
    struct tessi_message message = request(31, 0, 0);
    assert_true(give(&post, 1000, ASKER, &message));
    const struct tessi_msg_trace_page *page = page_for(&post, ASKER, 31);
    assert_string_equal(page->error, "");
    assert_int_equal(page->written, 1);
    assert_int_equal(page->records.count, 1);
    assert_int_equal(page->records.items[0].kind, TESSI_TRACE_JOIN);
    assert_int_equal(page->records.items[0].peer, WORKER);
    message = request(32, 0, UINT64_MAX);
    assert_true(give(&post, 1000, ASKER, &message));
    assert_int_equal(page_for(&post, ASKER, 32)->records.count, 0);
    close_post(&post);
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct post post;
    open_post(&post);
    struct tessi_message message = request(41, WORKER, 7);
    assert_true(give(&post, 1000, ASKER, &message));
    assert_int_equal(post.to, WORKER);
    assert_int_equal(post.message.type, TESSI_MSG_TRACE_REQUEST);
    assert_int_equal(post.message.run_id, RUN_ID);
    assert_int_equal(post.message.as.trace_request.from, 7);
    uint32_t token = post.message.as.trace_request.question;
    struct tessi_trace_record record = {.kind = TESSI_TRACE_RUN, .index = 3};
    struct tessi_message page = {.type = TESSI_MSG_TRACE_PAGE, .run_id = RUN_ID};
    page.as.trace_page.question = token;
    page.as.trace_page.now_ns = 5000050;
    page.as.trace_page.records = (struct tessi_trace_list){&record, 1};
    assert_true(give(&post, 1100, WORKER + 1, &page)); /* not from whom it was asked */
    assert_int_equal(post.to, 0);
    page.run_id++;
    assert_true(give(&post, 1100, WORKER, &page)); /* of another run */
    assert_int_equal(post.to, 0);
    page.run_id--;
    assert_true(give(&post, 1100, WORKER, &page));
    const struct tessi_msg_trace_page *back = page_for(&post, ASKER, 41);
    assert_int_equal(back->worker, WORKER);
    assert_int_equal(back->records.count, 1);
    assert_int_equal(back->delay_ns, 100);
    assert_int_equal(back->offset_ns, 5000050 - 1000 - 50); /* the clocks met half way */
    assert_true(give(&post, 1200, WORKER, &page));          /* a second time: nobody waits for it */
    assert_int_equal(post.to, 0);
    close_post(&post);
}

static void test_who_is_not_there(void **state)
{
    (void)state;
    struct post post;
    open_post(&post);
    struct tessi_message message = request(51, WORKER + 1, 0);
    assert_true(give(&post, 1000, ASKER, &message));
    assert_string_not_equal(page_for(&post, ASKER, 51)->error, "");
    message = request(52, WORKER, 0);
    assert_true(give(&post, 1000, ASKER, &message));
    post.to = 0;
    tessi_router_gone(post.router, WORKER);
    assert_string_not_equal(page_for(&post, ASKER, 52)->error, "");
    message = request(53, WORKER, 0);
    assert_true(give(&post, 1000, ASKER, &message));
    post.to = 0;
    tessi_router_gone(post.router, ASKER); /* nobody is told */
    assert_int_equal(post.to, 0);
    close_post(&post);
}

/* What is on its way is bounded, and those who leave give their places back. */
static void test_too_many_questions(void **state)
{
    (void)state;
    struct post post;
    open_post(&post);
    for (uint32_t i = 0; i < TESSI_ROUTER_QUESTIONS; i++) {
        struct tessi_message message = request(i, WORKER, 0);
        assert_true(give(&post, 1000, ASKER, &message));
        assert_int_equal(post.to, WORKER);
    }
    struct tessi_message message = request(1, WORKER, 0);
    assert_true(give(&post, 1000, ASKER + 1, &message));
    assert_string_not_equal(page_for(&post, ASKER + 1, 1)->error, "");
    tessi_router_gone(post.router, ASKER);
    assert_true(give(&post, 1000, ASKER + 1, &message));
    assert_int_equal(post.to, WORKER);
    close_post(&post);
}

static void test_why(void **state)
{
    (void)state;
    struct post post;
    open_post(&post);
    struct tessi_message message = {.type = TESSI_MSG_WHY_REQUEST};
    message.as.why_request.question = 61;
    assert_true(give(&post, 1000, ASKER, &message));
    assert_int_equal(post.message.type, TESSI_MSG_WHY_REPLY);
    assert_int_equal(post.message.as.why_reply.question, 61);
    cJSON *json = cJSON_Parse(post.message.as.why_reply.text);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(json, "tasks")), 0);
    cJSON_Delete(json);
    message.as.why_request.worker = WORKER;
    assert_true(give(&post, 1000, ASKER, &message));
    assert_int_equal(post.to, WORKER);
    struct tessi_message reply = {.type = TESSI_MSG_WHY_REPLY, .run_id = RUN_ID};
    reply.as.why_reply.question = post.message.as.why_request.question;
    reply.as.why_reply.text = "it waits";
    assert_true(give(&post, 1000, WORKER, &reply));
    assert_int_equal(post.to, ASKER);
    assert_string_equal(post.message.as.why_reply.text, "it waits");
    assert_int_equal(post.message.as.why_reply.question, 61);
    close_post(&post);
}

static void test_other_messages_are_the_drivers(void **state)
{
    (void)state;
    struct post post;
    open_post(&post);
    struct tessi_message message = {.type = TESSI_MSG_HEARTBEAT, .run_id = RUN_ID};
    assert_false(give(&post, 1000, WORKER, &message));
    uint8_t torn[] = {0x99, TESSI_MSG_TRACE_PAGE, 99, 0xc1};
    assert_false(tessi_router_take(post.router, 1000, WORKER, torn, sizeof torn));
    assert_int_equal(post.to, 0);
    close_post(&post);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_schedulers_own_ring),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_who_is_not_there),
        cmocka_unit_test(test_too_many_questions),
        cmocka_unit_test(test_why),
        cmocka_unit_test(test_other_messages_are_the_drivers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
