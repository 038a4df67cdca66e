/* The worker's planner, rule by rule: tasks and blocks that are stolen, adopted, freed, and layers that are dropped. */
#include "tests/unit/flow_bench.h"

static void test_steal(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    peer_up(&bench, OTHER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    assign(&bench, span(1, 3, 1, 1, 3), (struct tessi_span){0}); /* runs */
    peer_event(&bench, TESSI_FLOW_READ, PEER, 2, 0);
    struct tessi_span waiting = at(OTHER, 2, 0, 1), running = at(OTHER, 1, 3, 1);
    scheduler(&bench, TESSI_FLOW_STEAL, waiting);
    struct tessi_flow_action moved = the(&bench, TESSI_FLOW_SEND_MOVED);
    assert_int_equal(moved.peer, PEER);
    assert_int_equal(moved.worker, OTHER);
    assert_int_equal(moved.epoch, 2);
    scheduler(&bench, TESSI_FLOW_STEAL, running);
    scheduler(&bench, TESSI_FLOW_STEAL, waiting); /* no longer ours */
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->stolen.count, 1);
    assert_int_equal(said->stolen.items[0].worker, OTHER);
    assert_int_equal(said->kept.count, 2);
    destroy(&bench);
}

static void test_users_follow_a_stolen_task(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, OTHER, false);
    struct tessi_layer *last = layer_same(SESSION, 3, bench.reader, NULL, LARGE);
    layer(&bench, last);
    assign(&bench, span(2, 0, 1, 1, 8), at(0, 1, 0, 1));
    assign(&bench, span(3, 0, 1, 1, 16), at(SELF, 2, 0, 1));
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 0); /* it is made here */
    scheduler(&bench, TESSI_FLOW_STEAL, at(OTHER, 2, 0, 1));
    struct tessi_flow_action read = the(&bench, TESSI_FLOW_SEND_READ);
    assert_int_equal(read.peer, OTHER);
    assert_int_equal(read.epoch, 2);
    tessi_layer_destroy(last);
    destroy(&bench);
}

static void test_adopt(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(report(&bench)->copied.count, 1);
    struct tessi_span both = span(1, 0, 2, 9, 0);
    scheduler(&bench, TESSI_FLOW_ADOPT, both);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->adopted.count, 1);
    assert_int_equal(said->adopted.items[0].epoch, 9);
    assert_int_equal(said->adopted.items[0].count, 1);
    assert_int_equal(said->missing.count, 1);
    assert_int_equal(said->missing.items[0].first, 1);
    assert_int_equal(said->dropped.count, 0);
    destroy(&bench);
}

static void test_free_of_a_running_task(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action first = the(&bench, TESSI_FLOW_RUN);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 1, 1, 0));
    assert_int_equal(bench.actions.count, 0);
    assign(&bench, span(1, 0, 1, 3, 0), (struct tessi_span){0}); /* again, while the old run goes on */
    assert_int_equal(bench.actions.count, 0);
    done(&bench, first);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    struct tessi_flow_action second = the(&bench, TESSI_FLOW_RUN);
    assert_int_not_equal(second.run, first.run);
    done(&bench, first); /* a stale one */
    assert_int_equal(stats(&bench).stale_events, 1);
    done(&bench, second);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->done.count, 1);
    assert_int_equal(said->done.items[0].epoch, 3);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 8, 1, 0));
    assert_int_equal(stats(&bench).blocks, 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    destroy(&bench);
}

static void test_free_while_asked_and_pulling(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 2, 1, 8), at(PEER, 1, 0, 2));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 0, 2, 1, 0));
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 2, 1, 0));
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(stats(&bench).blocks, 2); /* answers are to come */
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(stats(&bench).blocks, 0);
    destroy(&bench);
}

/* The input's layer goes first, its user later, and the bytes arrive in between: no copy may stay. */
static void test_freed_copy_is_not_kept(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 2, 1, 8), at(PEER, 1, 0, 2));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_DROP_LAYER, .session = SESSION, .layer_id = 1});
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_DROP_LAYER, .session = SESSION, .layer_id = 2});
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    done(&bench, run);
    assert_int_equal(stats(&bench).blocks, 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    destroy(&bench);
}

static void test_drop_layer(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    assign(&bench, span(1, 1, 2, 1, 1), (struct tessi_span){0});
    struct tessi_flow_action first = nth(&bench, TESSI_FLOW_RUN, 0), second = nth(&bench, TESSI_FLOW_RUN, 1);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_DROP_LAYER, .session = SESSION, .layer_id = 1});
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(tessi_task_steps(first.layer, 1), 1); /* still described while it runs */
    done(&bench, first);
    done(&bench, second);
    assert_int_equal(stats(&bench).blocks, 0);
    assign(&bench, span(1, 4, 1, 1, 4), (struct tessi_span){0});
    assert_int_equal(bench.actions.count, 0);
    destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steal),
        cmocka_unit_test(test_users_follow_a_stolen_task),
        cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_free_of_a_running_task),
        cmocka_unit_test(test_free_while_asked_and_pulling),
        cmocka_unit_test(test_freed_copy_is_not_kept),
        cmocka_unit_test(test_drop_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
