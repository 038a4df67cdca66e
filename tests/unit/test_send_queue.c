/* Messages that wait for a connection: their order, who owns their frames, what is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/net/send_queue.h"

struct connection {
    uint32_t room; /* messages that it takes before it is busy */
    uint32_t refused; /* the message, counted from 1, that it says it has lost */
    uint32_t taken, released;
    char text[64];
};

static void count_release(void *data, void *hint)
{
    (void)data;
    ++*(uint32_t *)hint;
}

static enum tessi_status take(void *context, const void *header, size_t header_size, struct tessi_frame *frames,
                              uint32_t frame_count)
{
    struct connection *connection = context;
    if (connection->room == 0) {
        return TESSI_BUSY;
    }
    connection->room--;
    (void)strncat(connection->text, header, header_size);
    for (uint32_t i = 0; i < frame_count; i++) {
        (void)strncat(connection->text, frames[i].data, frames[i].size);
        tessi_frame_release(&frames[i]);
    }
    return ++connection->taken == connection->refused ? TESSI_LOST : TESSI_OK;
}

static void add(struct tessi_send_queue *queue, struct connection *connection, const char *header, const char *payload)
{
    struct tessi_frame frame = {0};
    if (payload != NULL) {
        frame = tessi_frame_wrap((char *)(uintptr_t)payload, strlen(payload), count_release, &connection->released);
    }
    tessi_send_queue_add(queue, header, strlen(header), &frame, payload != NULL ? 1 : 0);
    assert_null(frame.data);
}

static void messages_leave_in_order_while_there_is_room(void **state)
{
    (void)state;
    struct tessi_send_queue queue = {0};
    struct connection connection = {.room = 2};
    add(&queue, &connection, "a", NULL);
    add(&queue, &connection, "b", "1");
    add(&queue, &connection, "c", "2");
    add(&queue, &connection, "d", NULL);
    assert_int_equal(queue.count, 4);
    uint64_t bytes = queue.bytes;
    assert_int_equal(tessi_send_queue_flush(&queue, take, &connection), TESSI_BUSY);
    assert_string_equal(connection.text, "ab1");
    assert_int_equal(queue.count, 2);
    assert_true(queue.bytes > 0 && queue.bytes < bytes);
    connection.room = 9;
    assert_int_equal(tessi_send_queue_flush(&queue, take, &connection), TESSI_OK);
    assert_string_equal(connection.text, "ab1c2d");
    assert_int_equal(connection.released, 2);
    assert_int_equal(queue.count, 0);
    assert_int_equal(queue.bytes, 0);
}

static void one_that_is_lost_is_told_and_the_rest_stays(void **state)
{
    (void)state;
    struct tessi_send_queue queue = {0};
    struct connection connection = {.room = 9, .refused = 2};
    add(&queue, &connection, "a", NULL);
    add(&queue, &connection, "b", "1");
    add(&queue, &connection, "c", NULL);
    assert_int_equal(tessi_send_queue_flush(&queue, take, &connection), TESSI_LOST);
    assert_int_equal(queue.count, 1);
    assert_int_equal(tessi_send_queue_flush(&queue, take, &connection), TESSI_OK);
    assert_string_equal(connection.text, "ab1c");
}

static void queues_are_joined_and_dropped_with_their_frames(void **state)
{
    (void)state;
    struct tessi_send_queue first = {0}, second = {0}, empty = {0};
    struct connection connection = {0};
    add(&first, &connection, "a", "1");
    add(&second, &connection, "b", "2");
    tessi_send_queue_move(&first, &second);
    tessi_send_queue_move(&first, &empty);
    assert_int_equal(first.count, 2);
    assert_int_equal(second.count, 0);
    tessi_send_queue_move(&second, &first);
    tessi_send_queue_fini(&second);
    tessi_send_queue_fini(&first);
    assert_int_equal(connection.released, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_leave_in_order_while_there_is_room),
        cmocka_unit_test(one_that_is_lost_is_told_and_the_rest_stays),
        cmocka_unit_test(queues_are_joined_and_dropped_with_their_frames),
    };
    return cmocka_run_group_tests_name("send_queue", tests, NULL, NULL);
}
