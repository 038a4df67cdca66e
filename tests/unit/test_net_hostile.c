/* Keys, and peers that mean no good. */
#include "tests/unit/net_stage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

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

/* Whoever has other keys than the server is counted as that and as nothing else. Where only one side has keys, it
 * depends on who notices first and hangs up. */
static bool has_refused(struct tessi_net *net, bool both_have_keys)
{
    struct tessi_net_counters counters = tessi_net_counters_read(net);
    assert_true(!both_have_keys || counters.handshakes_refused == 0);
    return counters.keys_refused + (both_have_keys ? 0 : counters.handshakes_refused) > 0;
}

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
        while (!has_refused(stage.net, server_dir != NULL && client_dir != NULL)) {
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
    await_count(&stage, offsetof(struct tessi_net_counters, keys_refused), 1);
    assert_int_equal(tessi_server_peer_count(stage.server), 0);
    zmq_close(socket);
    zmq_ctx_term(context);
    stage_close(&stage);
    keys_remove(&ours);
}

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
    /* Three greetings are of ZMTP without CURVE, or without any mechanism. */
    uint64_t without_keys = keys_dir != NULL ? 3 : 0;
    await_count(&stage, offsetof(struct tessi_net_counters, handshakes_refused), refused - without_keys);
    await_count(&stage, offsetof(struct tessi_net_counters, keys_refused), without_keys);
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

/* Connect as ZMTP 3 does, with an identity of our choice. */
static int connect_as(const char *endpoint, const unsigned char identity[5])
{
    unsigned char greeting[64];
    unsigned char ready[] = "\4\x2e\5READY\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0\5_____";
    memcpy(ready + sizeof ready - 6, identity, 5);
    int fd = connect_raw(endpoint);
    make_greeting(greeting, "NULL");
    send_all(fd, greeting, sizeof greeting);
    send_all(fd, ready, sizeof ready - 1);
    unsigned char answer[64 + 43];
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), (ssize_t)sizeof answer);
    return fd;
}

/* What ZeroMQ makes of rand(). */
static uint32_t number_of_zeromq(void)
{
    uint32_t low = (uint32_t)rand();
    return low | (uint32_t)rand() << 31;
}

/* ZeroMQ numbers its peers from rand(), and ends the process when one has taken the number that is next. Numbers that a
 * stranger can foretell are not ours, and the program's own sequence goes on as if nothing were. */
static void test_numbers_cannot_be_foretold(void **state)
{
    (void)state;
    enum { CHOSEN = 4, ORDINARY = 40 };
    struct stage stage;
    int chosen[CHOSEN];
    srand(2);
    int next = rand();
    srand(2);
    stage_open(&stage, NULL, ANY_PORT, NULL);
    stage_close(&stage);
    int after = rand();
    srand(1);
    (void)number_of_zeromq(); /* the door-keeper's */
    uint32_t foretold = number_of_zeromq();
    srand(1);
    stage_open(&stage, NULL, ANY_PORT, NULL);
    for (int i = 0; i < CHOSEN; i++) {
        uint32_t number = foretold + 8 * (uint32_t)(i + 1);
        unsigned char identity[5] = {0, (unsigned char)(number >> 24), (unsigned char)(number >> 16),
                                     (unsigned char)(number >> 8), (unsigned char)number};
        chosen[i] = connect_as(stage.endpoint, identity);
        send_all(chosen[i], "\0\1x", 3);
    }
    await_count(&stage, offsetof(struct tessi_net_counters, messages_malformed), CHOSEN);
    for (int i = 0; i < ORDINARY; i++) {
        expect_service(&stage);
    }
    for (int i = 0; i < CHOSEN; i++) {
        close(chosen[i]);
    }
    assert_int_equal(after, next);
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

/* ——— what connections make us hold ——— */

/* Complete a handshake without keys, as a stranger that has not said anything. */
static int connect_stranger(const char *endpoint)
{
    static const unsigned char ready[] = "\4\x29\5READY\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0";
    unsigned char greeting[64];
    unsigned char answer[64 + sizeof ready];
    int fd = connect_raw(endpoint);
    make_greeting(greeting, "NULL");
    send_all(fd, greeting, sizeof greeting);
    send_all(fd, ready, sizeof ready);
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), (ssize_t)sizeof answer);
    return fd;
}

/* Send the same bytes until the other side hangs up; how many it took. */
static uint64_t flood(struct stage *stage, int fd, const unsigned char *bytes, size_t size)
{
    uint64_t taken = 0;
    size_t offset = 0;
    int64_t until_ns = tessi_clock_now() + PATIENCE_NS;
    for (;;) {
        struct tessi_net_event event;
        struct tessi_ready ready[4];
        ssize_t sent = send(fd, bytes + offset, size - offset, MSG_NOSIGNAL | MSG_DONTWAIT);
        unsigned char end[256];
        if ((sent < 0 && errno != EAGAIN) || recv(fd, end, sizeof end, MSG_DONTWAIT) == 0) {
            return taken;
        }
        taken += sent > 0 ? (uint64_t)sent : 0;
        offset = sent > 0 ? (offset + (size_t)sent) % size : offset;
        assert_true(tessi_clock_now() < until_ns);
        (void)tessi_poller_wait(stage->poller, sent < 0 ? TESSI_NS_PER_MS : 0, ready, 4);
        while (tessi_server_receive(stage->server, &event) == TESSI_OK) {
            tessi_net_event_clear(&event);
        }
    }
}

enum { FLOOD_PARTS = 64, FLOOD_PART = 4096 };

/* Parts of a message of which there are always more. */
static void make_parts(unsigned char *bytes)
{
    for (size_t i = 0; i < FLOOD_PARTS; i++) {
        unsigned char *part = bytes + i * (9 + FLOOD_PART);
        memset(part, 0, 9 + FLOOD_PART);
        part[0] = 3; /* more, long */
        part[7] = FLOOD_PART >> 8;
    }
}

/* A message that never ends makes its server hold a few MiB, from a stranger and from one that has been heard before. */
static void test_endless_message(void **state)
{
    (void)state;
    enum { FIRST = 1 << 20, MESSAGE = 16 << 20, OVER = 96 << 20 };
    static unsigned char parts[FLOOD_PARTS * (9 + FLOOD_PART)];
    struct tessi_net_options options = {.first_bytes_max = FIRST, .message_bytes_max = MESSAGE};
    struct stage stage;
    make_parts(parts);
    stage_open(&stage, NULL, ANY_PORT, &options);
    long before = resident_pages();
    for (uint64_t i = 0; i < 2; i++) {
        int fd = connect_stranger(stage.endpoint);
        if (i == 1) {
            send_all(fd, "\0\5hello", 7);
            struct tessi_net_event event = server_event(&stage);
            expect_text(&event, 0, "hello");
            tessi_net_event_clear(&event);
        }
        uint64_t taken = flood(&stage, fd, parts, sizeof parts);
        assert_true(taken < (i == 0 ? FIRST : MESSAGE) + (uint64_t)OVER); /* what comes between looks */
        assert_int_equal(tessi_server_gauges_read(stage.server).cut, i + 1);
        close(fd);
    }
    while (tessi_server_gauges_read(stage.server).held_bytes > 0) {
        struct tessi_net_event event;
        struct tessi_ready ready[4];
        (void)tessi_poller_wait(stage.poller, PATIENCE_NS, ready, 4);
        while (tessi_server_receive(stage.server, &event) == TESSI_OK) {
            tessi_net_event_clear(&event);
        }
    }
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* which keep what is freed */
    assert_true(resident_pages() - before < 160 * 1024 * 1024 / 4096);
#else
    (void)before;
#endif
    expect_service(&stage);
    stage_close(&stage);
}

/* A message of the largest size, in pieces with pauses, is none that never ends; and many of them are not, however late
 * they are taken. */
static void test_honest_messages_are_not_cut(void **state)
{
    (void)state;
    enum { SIZE = 4 << 20, COUNT = 60 };
    struct tessi_net_options options = {.frame_bytes_max = SIZE, .first_bytes_max = 4096, .message_bytes_max = 2 * SIZE};
    struct stage stage;
    struct tessi_client *client = NULL;
    stage_open(&stage, NULL, ANY_PORT, &options);
    assert_int_equal(tessi_client_connect(stage.net, stage.endpoint, &options, &client, NULL), TESSI_OK);
    static unsigned char block[SIZE];
    send_text(client, "hello");
    struct tessi_net_event event = server_event(&stage);
    expect_text(&event, 0, "hello");
    tessi_net_event_clear(&event);
    for (int i = 0; i < COUNT; i++) {
        struct tessi_frame frame = tessi_frame_wrap(block, SIZE, NULL, NULL);
        assert_int_equal(tessi_client_send(client, "block", 5, &frame, 1), TESSI_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        event = server_event(&stage);
        assert_int_equal(event.kind, TESSI_NET_MESSAGE);
        assert_int_equal(event.frame_count, 2);
        tessi_net_event_clear(&event);
        if (i % 16 == 0) {
            struct timespec busy = {.tv_nsec = 20000000}; /* as long as two looks */
            (void)nanosleep(&busy, NULL);
        }
    }
    assert_int_equal(tessi_server_gauges_read(stage.server).cut, 0);
    tessi_client_close(client);
    stage_close(&stage);
}

/* Connections that say nothing are so many; the oldest goes, and who speaks is served. */
static void test_silent_strangers(void **state)
{
    (void)state;
    enum { MAX = 8, COUNT = 20 };
    struct tessi_net_options options = {.strangers_max = MAX};
    struct stage stage;
    int fds[COUNT];
    stage_open(&stage, NULL, ANY_PORT, &options);
    for (int i = 0; i < COUNT; i++) {
        struct tessi_net_event event;
        fds[i] = connect_stranger(stage.endpoint);
        assert_int_equal(tessi_server_receive(stage.server, &event), TESSI_BUSY);
    }
    for (int i = 0; i < COUNT - MAX; i++) {
        await_close(fds[i]);
    }
    send_all(fds[COUNT - MAX], "\0\5hello", 7); /* the oldest that is left */
    struct tessi_net_event event = server_event(&stage);
    expect_text(&event, 0, "hello");
    tessi_net_event_clear(&event);
    assert_int_equal(tessi_server_gauges_read(stage.server).cut, COUNT - MAX);
    expect_service(&stage);
    for (int i = 0; i < COUNT; i++) {
        close(fds[i]);
    }
    stage_close(&stage);
}

/* Who does not read what it asked for makes its server hold so much; when it is dropped, nothing. */
static void test_answers_that_nobody_reads(void **state)
{
    (void)state;
    enum { ANSWER = 60000, MAX = 4 << 20, MANY = 10000 };
    static unsigned char answer[ANSWER];
    struct tessi_net_options options = {.unread_bytes_max = MAX};
    struct stage stage;
    stage_open(&stage, NULL, ANY_PORT, &options);
    int fd = connect_stranger(stage.endpoint);
    send_all(fd, "\0\5hello", 7);
    struct tessi_net_event event = server_event(&stage);
    uint32_t peer = event.peer;
    tessi_net_event_clear(&event);
    enum tessi_status status = TESSI_OK;
    for (int i = 0; i < MANY && status == TESSI_OK; i++) {
        status = tessi_server_send(stage.server, peer, answer, sizeof answer, NULL, 0);
    }
    assert_int_equal(status, TESSI_BUSY);
    assert_true(tessi_server_gauges_read(stage.server).unread_bytes <= MAX);
    tessi_server_drop(stage.server, peer);
    event = server_event(&stage);
    assert_int_equal(event.kind, TESSI_NET_GONE);
    assert_int_equal(event.peer, peer);
    assert_int_equal(tessi_server_gauges_read(stage.server).unread_bytes, 0);
    close(fd);
    expect_service(&stage);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_public_key_is_not_enough),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_huge_frame_headers),
        cmocka_unit_test(test_numbers_cannot_be_foretold),
        cmocka_unit_test(test_malformed_peers),
        cmocka_unit_test(test_endless_message),
        cmocka_unit_test(test_honest_messages_are_not_cut),
        cmocka_unit_test(test_silent_strangers),
        cmocka_unit_test(test_answers_that_nobody_reads),
    };
    return cmocka_run_group_tests_name("net: hostile peers", tests, NULL, NULL);
}
