/* The virtual workers of `simulate`: small clusters whose times and bytes can be told in advance.
 *
 * tests/run: one thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

#include "tests/sim/tool/cluster.h"

#define MS INT64_C(1000000)

/* Runs what a command line says; `bound_ns` may be NULL. */
static struct tool_result run(const char *const *words, int64_t *bound_ns)
{
    struct tool_options options;
    struct tool_graph graph;
    struct tool_cluster cluster;
    struct tessi_error error = {0};
    char *argv[32] = {(char *)"simulate"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)words[argc - 1];
    }
    assert_int_equal(tool_options_parse(&options, argc, argv, &error), TESSI_OK);
    assert_int_equal(tool_graph_make(&graph, &options, &error), TESSI_OK);
    tool_cluster_init(&cluster, &options, &graph);
    enum tessi_status status = tool_cluster_run(&cluster, &error);
    if (status != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    if (bound_ns != NULL) {
        *bound_ns = tool_bound_ns(&cluster);
    }
    struct tool_result result = cluster.result;
    tool_cluster_fini(&cluster);
    return result;
}
#define RUN(bound_ns, ...) run((const char *const[]){__VA_ARGS__, "--verify", "--overhead", "0s", NULL}, bound_ns)
#define RUN_UNVERIFIED(bound_ns, ...) run((const char *const[]){__VA_ARGS__, "--overhead", "0s", NULL}, bound_ns)

static void test_chain_takes_its_links_and_two_messages(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r =
        RUN(&bound_ns, "chain", "200", "--workers", "1", "--time", "fixed:1ms", "--latency", "3ms", "--loop", "0s");
    assert_int_equal(r.tasks, 200);
    assert_int_equal(bound_ns, 200 * MS);
    assert_int_equal(r.makespan_ns, 200 * MS + 2 * 3 * MS);
    assert_int_equal(r.bytes_moved, 0);
}

static void test_equal_workers_share_equally(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r = RUN(&bound_ns, "layered", "80x1", "--workers", "4", "--slots", "2", "--time", "fixed:5ms",
                               "--latency", "1ms");
    assert_int_equal(bound_ns, 50 * MS);
    assert_int_equal(r.makespan_ns, 50 * MS + 2 * MS);
    assert_int_equal(r.steals, 0);
}

static void test_a_fast_worker_is_fast(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r =
        RUN(&bound_ns, "layered", "10x1", "--workers", "1", "--speeds", "4", "--time", "fixed:8ms", "--latency", "1ms");
    assert_int_equal(bound_ns, 20 * MS);
    assert_int_equal(r.makespan_ns, 20 * MS + 2 * MS);
}

/* Two blocks, one on each worker, then their sum in two steps: the second waits for the block from the other
 * worker, which was asked for before it was there and travels for a latency and its 8 bytes. */
static void test_a_block_travels_for_its_latency_and_its_bytes(void **state)
{
    (void)state;
    struct tool_result r = RUN(NULL, "reduce", "2", "2", "--workers", "2", "--time", "fixed:4ms", "--latency", "3ms",
                               "--bandwidth", "8000");
    int64_t arrives_ns = 3 * MS + 4 * MS + 3 * MS + 1 * MS; /* ASSIGN, source, latency, bytes */
    assert_int_equal(r.makespan_ns, arrives_ns + 2 * MS + 3 * MS); /* half of the sum, DONE */
    assert_int_equal(r.bytes_moved, 8);
}

static void test_cards_take_one_block_after_the_other(void **state)
{
    (void)state;
    /* Four sources on four workers, one sum: three blocks of 8 bytes reach it one by one. */
    struct tool_result r = RUN(NULL, "reduce", "4", "4", "--workers", "4", "--time", "fixed:4ns", "--latency", "0s",
                               "--bandwidth", "8000", "--loop", "0s");
    assert_int_equal(r.bytes_moved, 24);
    assert_true(r.makespan_ns >= 3 * MS);
    assert_true(r.makespan_ns < 3 * MS + 100);
}

static void test_a_late_worker_takes_its_share(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r =
        RUN(&bound_ns, "layered", "1000x1", "--workers", "2", "--join", "1@5s", "--time", "fixed:10ms");
    assert_int_equal(bound_ns, 7500 * MS);
    assert_true(r.steals > 0);
    assert_true((double)r.makespan_ns < 1.01 * (double)bound_ns);
}

static void test_a_slow_worker_does_not_hold_up_the_rest(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r =
        RUN(&bound_ns, "layered", "300x4", "--workers", "4", "--speeds", "1x3,0.25x1", "--time", "fixed:10ms");
    assert_true((double)r.makespan_ns < 1.1 * (double)bound_ns);
    assert_true(r.steals < 2 * r.tasks);
}

static void test_a_product_fetches_what_it_must(void **state)
{
    (void)state;
    struct tool_result r = RUN(NULL, "matmul", "4096", "256", "--workers", "16");
    assert_int_equal(r.tasks, 256);
    assert_int_equal(r.words_max, 2 * 4096 * 4096 / 4 - 2 * 4096 * 4096 / 16);
    assert_int_equal(r.beyond_bytes, 0);
}

/* Task times that differ: stealing evens them out without fetching much more than a layout must. */
static void test_steals_move_little(void **state)
{
    (void)state;
    uint64_t most_words = 0;
    uint64_t least_words = UINT64_C(2) * 8192 * 8192 / 2 - UINT64_C(2) * 8192 * 8192 / 4;
    for (int seed = 1; seed <= 5; seed++) {
        int64_t bound_ns;
        char text[16];
        (void)snprintf(text, sizeof text, "%d", seed);
        struct tool_result r = RUN(&bound_ns, "matmul", "8192", "512", "--workers", "4", "--bandwidth", "1GiB", "--time",
                                   "lognormal:80ms:0.3", "--seed", text);
        most_words += r.words_max;
        assert_true((double)r.makespan_ns <= 1.1 * (double)bound_ns);
    }
    assert_true(most_words * 100 <= 5 * least_words * 115);
}

/* Of four workers one is always late by a task or so when times scatter: no row of blocks is fetched for that. */
static void test_scatter_moves_nothing(void **state)
{
    (void)state;
    uint64_t least_words = UINT64_C(2) * 4096 * 4096 / 2 - UINT64_C(2) * 4096 * 4096 / 4;
    for (int seed = 1; seed <= 5; seed++) {
        int64_t bound_ns;
        char text[16];
        (void)snprintf(text, sizeof text, "%d", seed);
        struct tool_result r = RUN(&bound_ns, "matmul", "4096", "512", "--workers", "4", "--bandwidth", "10GiB",
                                   "--time", "lognormal:80ms:0.2", "--seed", text);
        assert_true(r.words_max * 100 <= least_words * 115);
        assert_true((double)r.makespan_ns <= 1.1 * (double)bound_ns);
    }
}

/* The last tasks of a slow worker go to others, and not from one of those to another. */
static void test_no_task_goes_to_and_fro(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r = RUN(&bound_ns, "matmul", "4096", "512", "--workers", "4", "--bandwidth", "1GiB", "--flops",
                               "50", "--speeds", "0.7x1,1x3");
    assert_true(r.steals > 0 && r.steals < r.tasks / 4);
    assert_true((double)r.makespan_ns <= 1.1 * (double)bound_ns);
}

static void test_memory_is_kept_within(void **state)
{
    (void)state;
    struct tool_result wide = RUN(NULL, "matmul", "4096", "256", "--workers", "4");
    struct tool_result narrow = RUN(NULL, "matmul", "4096", "256", "--workers", "4", "--memory", "112MiB");
    assert_true(wide.peak_bytes > 112u << 20);
    assert_int_equal(narrow.beyond_bytes, 0);
    assert_true(narrow.peak_bytes <= 112u << 20);
    assert_true(narrow.bytes_moved > wide.bytes_moved); /* what was dropped is fetched again */
}

static void test_the_same_run_twice(void **state)
{
    (void)state;
    struct tool_result r[2];
    for (int i = 0; i < 2; i++) {
        r[i] = RUN(NULL, "dag", "2000", "100", "--workers", "5", "--time", "lognormal:1ms:1", "--seed", "7");
    }
    assert_int_equal(r[0].makespan_ns, r[1].makespan_ns);
    assert_int_equal(r[0].bytes_moved, r[1].bytes_moved);
    assert_int_equal(r[0].events, r[1].events);
    assert_int_equal(r[0].steps, r[1].steps);
}

static void test_every_graph_finishes(void **state)
{
    (void)state;
    assert_int_equal(RUN(NULL, "tasks", "400", "--workers", "3").tasks, 800);
    assert_int_equal(RUN(NULL, "stencil", "20x10", "--workers", "3").tasks, 200);
    assert_int_equal(RUN(NULL, "sum", "1024", "256", "--workers", "3").tasks, 16 + 16 + 1 + 1);
    assert_int_equal(RUN(NULL, "matmul", "1024", "128", "256", "--workers", "3").tasks, 64 * 4 + 64);
    assert_int_equal(RUN(NULL, "reduce", "27", "3", "--workers", "3").tasks, 27 + 9 + 3 + 1);
}

static void test_wrong_words_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[][4] = {
        {"matmul", "4096", NULL},      {"chain", "0", NULL},           {"layered", "3x4x5", NULL},
        {"knot", "3", NULL},           {"chain", "3", "--speed", "1"}, {"chain", "3", "--time", "fixed:1"},
        {"chain", "3", "--join", "10@1s"}, {"chain", "3", "--speeds", "0"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tool_options options;
        struct tessi_error error = {0};
        char *argv[6] = {(char *)"simulate"};
        int argc = 1;
        for (; argc < 5 && wrong[i][argc - 1] != NULL; argc++) {
            argv[argc] = (char *)wrong[i][argc - 1];
        }
        assert_int_equal(tool_options_parse(&options, argc, argv, &error), TESSI_INVALID);
        assert_true(error.text[0] != 0);
    }
}

static void test_speeds_and_times_of_joining(void **state)
{
    (void)state;
    struct tool_options options;
    char *argv[] = {(char *)"simulate", (char *)"chain", (char *)"3",     (char *)"--workers", (char *)"6",
                    (char *)"--speeds", (char *)"2x2,1x1,0.5", (char *)"--join", (char *)"1@1s,2@3s"};
    assert_int_equal(tool_options_parse(&options, 9, argv, NULL), TESSI_OK);
    const double speeds[] = {2, 2, 1, 0.5, 0.5, 0.5};
    const int64_t joins_ms[] = {0, 0, 0, 1000, 3000, 3000};
    for (uint32_t w = 0; w < 6; w++) {
        assert_true(fabs(tool_options_speed(&options, w) - speeds[w]) < 1e-12);
        assert_int_equal(tool_options_joins(&options, w), joins_ms[w] * MS);
    }
}

/* Of 4,096 blocks of 8 bytes in a tree of fours: three of each of its six levels, and what is ahead. */
static void test_a_tree_of_sums_consumes_blocks_as_they_are_made(void **state)
{
    (void)state;
    struct tool_result one = RUN(NULL, "reduce", "4096", "4", "--workers", "1", "--time", "fixed:1ms");
    struct tool_result four = RUN(NULL, "reduce", "4096", "4", "--workers", "4", "--time", "fixed:1ms");
    assert_in_range(one.peak_bytes, 8 * 6, 8 * 64);
    assert_in_range(four.peak_bytes, 8 * 6, 8 * 64);
}

static void expect_balance(struct tool_result r, int64_t bound_ns, double ratio, double steals_of_tasks)
{
    assert_true((double)r.makespan_ns <= ratio * (double)bound_ns);
    assert_true((double)r.steals <= steals_of_tasks * (double)r.tasks);
}

static void test_a_stencil_stays_with_its_columns(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r = RUN_UNVERIFIED(&bound_ns, "stencil", "40x60", "--workers", "40", "--time", "fixed:10ms");
    expect_balance(r, bound_ns, 1.05, 0);
    r = RUN_UNVERIFIED(&bound_ns, "stencil", "40x60", "--workers", "40", "--time", "fixed:10ms", "--told", "no");
    expect_balance(r, bound_ns, 1.05, 0);
}

static void test_columns_go_to_faster_workers(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r = RUN_UNVERIFIED(&bound_ns, "stencil", "200x60", "--workers", "8", "--speeds", "1x4,0.5x2,2x2",
                                          "--time", "fixed:10ms");
    expect_balance(r, bound_ns, 1.15, 0.5);
}

static void test_irregular_tasks_are_spread_without_thrash(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r = RUN_UNVERIFIED(&bound_ns, "dag", "10000", "1000", "--workers", "20", "--time", "fixed:10ms");
    expect_balance(r, bound_ns, 1.15, 0.2);
    r = RUN_UNVERIFIED(&bound_ns, "dag", "3000", "300", "--workers", "200", "--time", "fixed:10ms");
    expect_balance(r, bound_ns, 1.15, 0.2);
}

/* They seem short when they are submitted, and begin together. */
static void test_tasks_that_turn_out_long_are_spread(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r =
        RUN_UNVERIFIED(&bound_ns, "dag", "10000", "1000", "--workers", "20", "--time", "fixed:10ms", "--told", "no");
    expect_balance(r, bound_ns, 1.2, 1.5);
}

static void test_many_join_and_take_their_share_once(void **state)
{
    (void)state;
    int64_t bound_ns;
    struct tool_result r =
        RUN_UNVERIFIED(&bound_ns, "layered", "2000x5", "--workers", "20", "--join", "10@2s", "--time", "fixed:10ms");
    expect_balance(r, bound_ns, 1.02, 0.6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_takes_its_links_and_two_messages),
        cmocka_unit_test(test_equal_workers_share_equally),
        cmocka_unit_test(test_a_fast_worker_is_fast),
        cmocka_unit_test(test_a_block_travels_for_its_latency_and_its_bytes),
        cmocka_unit_test(test_cards_take_one_block_after_the_other),
        cmocka_unit_test(test_a_late_worker_takes_its_share),
        cmocka_unit_test(test_a_slow_worker_does_not_hold_up_the_rest),
        cmocka_unit_test(test_a_product_fetches_what_it_must),
        cmocka_unit_test(test_steals_move_little),
        cmocka_unit_test(test_scatter_moves_nothing),
        cmocka_unit_test(test_no_task_goes_to_and_fro),
        cmocka_unit_test(test_memory_is_kept_within),
        cmocka_unit_test(test_a_tree_of_sums_consumes_blocks_as_they_are_made),
        cmocka_unit_test(test_a_stencil_stays_with_its_columns),
        cmocka_unit_test(test_columns_go_to_faster_workers),
        cmocka_unit_test(test_irregular_tasks_are_spread_without_thrash),
        cmocka_unit_test(test_tasks_that_turn_out_long_are_spread),
        cmocka_unit_test(test_many_join_and_take_their_share_once),
        cmocka_unit_test(test_the_same_run_twice),
        cmocka_unit_test(test_every_graph_finishes),
        cmocka_unit_test(test_wrong_words_are_refused),
        cmocka_unit_test(test_speeds_and_times_of_joining),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
