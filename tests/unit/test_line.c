/* A line between two workers of one host: who gets one, messages in order, room and bells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/peer/line.h"

#define NONCE UINT64_C(0x0123456789abcdef)

struct ends {
    struct tessi_line_post *posts[2];
    struct tessi_line *lines[2]; /* [0]: of who left it */
};

static void own_address(char address[64], int number)
{
    (void)snprintf(address, 64, "tcp://127.0.0.1:%ld-line-%d", (long)getpid(), number);
}

static void ends_open(struct ends *ends)
{
    char address[64];
    for (int i = 0; i < 2; i++) {
        own_address(address, i);
        assert_int_equal(tessi_line_post_open(address, &ends->posts[i], NULL), TESSI_OK);
    }
    ends->lines[0] = tessi_line_leave(ends->posts[0], address, 7, NONCE);
    assert_non_null(ends->lines[0]);
    ends->lines[1] = tessi_line_take(ends->posts[1], 7, NONCE);
    assert_non_null(ends->lines[1]);
    assert_true(tessi_line_settle(ends->lines[0]));
}

static void ends_close(struct ends *ends)
{
    for (int i = 0; i < 2; i++) {
        tessi_line_close(ends->lines[i]);
        tessi_line_post_close(ends->posts[i]);
    }
}

static bool rings(struct tessi_line_post *post)
{
    struct pollfd wait = {.fd = tessi_line_post_bell(post), .events = POLLIN};
    bool rang = poll(&wait, 1, 0) == 1;
    tessi_line_post_answer_bell(post);
    return rang;
}

static void a_line_belongs_to_its_hello(void **state)
{
    struct tessi_line_post *posts[2];
    char address[64];
    (void)state;
    for (int i = 0; i < 2; i++) {
        own_address(address, i);
        assert_int_equal(tessi_line_post_open(address, &posts[i], NULL), TESSI_OK);
    }
    char nobody[64];
    own_address(nobody, 2);
    assert_null(tessi_line_leave(posts[0], nobody, 7, NONCE));
    struct tessi_line *left = tessi_line_leave(posts[0], address, 7, NONCE);
    assert_non_null(left);
    assert_null(tessi_line_take(posts[1], 8, NONCE));
    assert_null(tessi_line_take(posts[1], 7, NONCE + 1));
    assert_false(tessi_line_settle(left)); /* nobody has taken it up */
    tessi_line_close(left);
    for (int i = 0; i < 2; i++) {
        tessi_line_post_close(posts[i]);
    }
}

static void messages_come_in_order(void **state)
{
    struct ends ends;
    struct tessi_line_message message;
    static uint8_t header[TESSI_LINE_HEADER_MAX], payload[TESSI_LINE_PAYLOAD_MAX];
    uint32_t sent = 0, received = 0, full = 0;
    (void)state;
    ends_open(&ends);
    assert_false(tessi_line_receive(ends.lines[1], &message));
    while (received < 2000) {
        size_t header_size = 8 + sent * 37 % (sizeof header - 8), payload_size = sent * 91 % sizeof payload;
        memcpy(header, &sent, sizeof sent);
        memset(header + 8, (int)(sent & 255), header_size - 8);
        memset(payload, (int)(sent * 3 & 255), payload_size);
        bool with = sent % 3 != 0;
        message = (struct tessi_line_message){header, with ? payload : NULL, header_size, with ? payload_size : 0};
        if (sent < 2000 && tessi_line_send(ends.lines[0], &message)) {
            sent++;
            continue;
        }
        full++;
        while (tessi_line_receive(ends.lines[1], &message)) {
            assert_memory_equal(message.header, &received, sizeof received);
            assert_int_equal(message.header_size, 8 + received * 37 % (sizeof header - 8));
            assert_true((message.payload != NULL) == (received % 3 != 0));
            assert_int_equal(message.payload_size, received % 3 != 0 ? received * 91 % sizeof payload : 0);
            const uint8_t *bytes = message.payload;
            assert_true(message.payload_size == 0 || bytes[message.payload_size - 1] == (received * 3 & 255));
            bytes = message.header;
            assert_true(message.header_size == 8 || bytes[message.header_size - 1] == (received & 255));
            received++;
        }
    }
    assert_true(full > 100);
    ends_close(&ends);
}

static void the_bell_rings_for_sleepers_only(void **state)
{
    struct ends ends;
    const struct tessi_line_message hello = {"hello", NULL, 5, 0};
    struct tessi_line_message message;
    (void)state;
    ends_open(&ends);
    assert_true(tessi_line_send(ends.lines[0], &hello));
    assert_false(rings(ends.posts[1]));
    assert_true(tessi_line_calls(ends.lines[1]));
    assert_true(tessi_line_receive(ends.lines[1], &message));
    assert_false(tessi_line_calls(ends.lines[1]));
    tessi_line_sleep(ends.lines[1]);
    assert_true(tessi_line_send(ends.lines[0], &hello));
    assert_true(rings(ends.posts[1]));
    assert_true(tessi_line_send(ends.lines[0], &hello));
    assert_false(rings(ends.posts[1]));
    /* Who found no room is told when there is some. */
    while (tessi_line_send(ends.lines[0], &hello)) {
    }
    assert_false(rings(ends.posts[0]));
    assert_true(tessi_line_receive(ends.lines[1], &message));
    assert_true(rings(ends.posts[0]));
    assert_true(tessi_line_send(ends.lines[0], &hello));
    ends_close(&ends);
}

/* One thread uses both ends here. */
static void ends_know_that_they_share_a_processor(void **state)
{
    cpu_set_t all, one;
    struct ends ends;
    const struct tessi_line_message hello = {"hello", NULL, 5, 0};
    (void)state;
    ends_open(&ends);
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    for (size_t there = 0, sent = 0; there < CPU_SETSIZE; there++) {
        if (CPU_ISSET(there, &all)) {
            CPU_ZERO(&one);
            CPU_SET(there, &one);
            assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
            assert_true(sent == 0 || !tessi_line_shares_processor(ends.lines[1]));
            assert_true(tessi_line_send(ends.lines[0], &hello));
            assert_true(tessi_line_shares_processor(ends.lines[1]));
            sent++;
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    ends_close(&ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_belongs_to_its_hello),
        cmocka_unit_test(messages_come_in_order),
        cmocka_unit_test(ends_know_that_they_share_a_processor),
        cmocka_unit_test(the_bell_rings_for_sleepers_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
