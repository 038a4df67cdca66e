/* When a loop and ZeroMQ's thread are kept on one processor: the judgement in made-up time, and the threads'
 * processors. */
#include "core/net/colocation.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/net_stage.h"

#define PERIOD TESSI_COLOCATION_PERIOD_NS

/* What the threads do in each period. */
struct load {
    uint64_t answers;
    double busy, delayed;
};

static const struct load chat = {50, 0.45, 0.15}, chat_together = {80, 0.45, 0.42}, crowd = {80, 0.5, 1.2},
                         bulk = {50, 1.1, 0.1}, reports = {3, 0.1, 0.1};

struct times {
    struct tessi_colocation colocation;
    struct tessi_colocation_sample sample;
    uint64_t answers;
    uint32_t samples;
};

/* One period, looked at ten times. True: it changed whether they are together. */
static bool pass(struct times *times, struct load load)
{
    bool changed = false;
    for (int i = 0; i < 10; i++) {
        times->sample.now_ns += PERIOD / 10;
        times->sample.busy_ns += (int64_t)(load.busy * (double)PERIOD / 10);
        times->sample.delayed_ns += (int64_t)(load.delayed * (double)PERIOD / 10);
        times->answers += load.answers / 10 + ((uint64_t)i < load.answers % 10 ? 1 : 0);
        if (tessi_colocation_wants(&times->colocation, times->sample.now_ns, times->answers)) {
            times->samples++;
            changed = tessi_colocation_judge(&times->colocation, &times->sample, times->answers) || changed;
        }
    }
    return changed;
}

static struct times begin(void)
{
    return (struct times){.sample.now_ns = INT64_C(1000000000000), .answers = 7};
}

static uint32_t periods_until(struct times *times, struct load load, bool together)
{
    uint32_t count = 0;
    while (times->colocation.colocated != together && count < 1000) {
        (void)pass(times, load);
        count++;
    }
    return count;
}

static void test_chat(void **state)
{
    (void)state;
    struct times times = begin();
    assert_in_range(periods_until(&times, chat, true), 1, 4);
    for (int i = 0; i < 1000; i++) {
        assert_false(pass(&times, chat_together));
    }
    assert_true(times.colocation.colocated);
    assert_in_range(periods_until(&times, reports, false), 1, 2); /* it is over */
    assert_in_range(periods_until(&times, chat, true), 1, 4);     /* and comes again */
    assert_in_range(periods_until(&times, bulk, false), 1, 2);
    assert_in_range(periods_until(&times, chat, true), 1, 4);
}

/* What is no chat is left alone, and what answers seldom is not even measured. */
static void test_others(void **state)
{
    (void)state;
    struct times times = begin();
    assert_int_equal(periods_until(&times, bulk, true), 1000);
    assert_true(times.samples > 100);
    times = begin();
    assert_int_equal(periods_until(&times, reports, true), 1000);
    assert_int_equal(times.samples, 0);
}

/* Where others want the processor, trials become rare; what has gone well for long begins anew. */
static void test_crowd(void **state)
{
    (void)state;
    struct times times = begin();
    uint32_t together = 0, trials = 0;
    for (int i = 0; i < 10000; i++) {
        bool was = times.colocation.colocated;
        together += was ? 1 : 0;
        trials += pass(&times, was ? crowd : chat) && times.colocation.colocated ? 1 : 0;
    }
    assert_in_range(trials, 8, 60);
    assert_true(together < 200);
    assert_true(periods_until(&times, chat, true) <= 1000);
    for (int i = 0; i < 100; i++) {
        assert_false(pass(&times, chat_together));
    }
    assert_in_range(periods_until(&times, crowd, false), 1, 2);
    assert_in_range(periods_until(&times, chat, true), 1, 6);
}

static void test_part(void **state)
{
    (void)state;
    struct times times = begin();
    (void)periods_until(&times, chat, true);
    tessi_colocation_part(&times.colocation, times.sample.now_ns);
    assert_false(times.colocation.colocated);
    assert_in_range(periods_until(&times, chat, true), 2, 6);
    for (int i = 0; i < 100; i++) { /* again and again: never */
        tessi_colocation_part(&times.colocation, times.sample.now_ns);
        assert_false(pass(&times, chat));
    }
}

/* ——— the threads ——— */

/* How many of this process's threads whose names hold `text` have just one processor. */
static int kept_threads(const char *text)
{
    char path[300], name[64] = "";
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        int fd = open(path, O_RDONLY);
        ssize_t size = fd >= 0 ? read(fd, name, sizeof name - 1) : 0;
        name[size > 0 ? size : 0] = 0;
        cpu_set_t set;
        if (strstr(name, text) != NULL &&
            sched_getaffinity((pid_t)strtol(entry->d_name, NULL, 10), sizeof set, &set) == 0) {
            count += CPU_COUNT(&set) == 1 ? 1 : 0;
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    (void)closedir(tasks);
    return count;
}

static bool is_kept(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1;
}

static void echo(struct stage *stage, struct tessi_client *client, int64_t wait_ns)
{
    struct tessi_ready ready[4];
    struct tessi_net_event event;
    (void)tessi_poller_wait(stage->poller, wait_ns, ready, 4);
    while (tessi_server_receive(stage->server, &event) == TESSI_OK) {
        if (event.kind == TESSI_NET_MESSAGE) {
            assert_int_equal(tessi_server_send(stage->server, event.peer, "pong", 4, NULL, 0), TESSI_OK);
        }
        tessi_net_event_clear(&event);
    }
    while (tessi_client_receive(client, &event) == TESSI_OK) {
        tessi_net_event_clear(&event);
    }
}

/* A loop that chats is kept with ZeroMQ's thread sooner or later, and both get their processors back. */
static void test_threads(void **state)
{
    (void)state;
    struct stage stage;
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    if (CPU_COUNT(&before) < 2 || access("/proc/thread-self/schedstat", R_OK) != 0) {
        print_message("not run: it takes two processors and a system that tells how long threads wait\n");
        return;
    }
    stage_open(&stage, NULL, ANY_PORT, NULL);
    struct tessi_client *client = connect_to(stage.net, stage.endpoint);
    assert_int_equal(tessi_poller_add_client(stage.poller, client, client, NULL), TESSI_OK);
    for (int round = 0; round < 2; round++) {
        int64_t until_ns = tessi_clock_now() + PATIENCE_NS;
        while (!is_kept() && tessi_clock_now() < until_ns) {
            send_text(client, "ping");
            for (int i = 0; i < 4; i++) {
                echo(&stage, client, 100000);
            }
        }
        assert_true(is_kept());
        assert_int_equal(kept_threads("ZMQbg/IO"), 1);
        if (round == 0) {
            tessi_poller_keep_apart(stage.poller);
            assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
            assert_true(CPU_EQUAL(&before, &after));
            assert_int_equal(kept_threads(""), 0);
        }
    }
    tessi_poller_remove_client(stage.poller, client);
    tessi_client_close(client);
    stage_close(&stage);
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat), cmocka_unit_test(test_others),  cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_part), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
