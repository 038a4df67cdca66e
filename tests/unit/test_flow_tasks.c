/* The worker's planner, rule by rule: how tasks start, queue up, stream, end and fail. */
#include "tests/unit/flow_bench.h"

static void test_chain_wakes_directly(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    assign(&bench, span(2, 0, 1, 1, 8), at(SELF, 1, 0, 1)); /* the reader comes first: it is looked up */
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 1);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(the(&bench, TESSI_FLOW_ALLOC).block, run.out);
    assert_int_equal(run.in_count, 0);
    done(&bench, run);
    struct tessi_flow_action next = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(next.task.layer, 2);
    assert_int_equal(next.in_count, 1);
    assert_int_equal(next.in[0], run.out);
    done(&bench, next);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->started.count, 0); /* what is done has no need to be blamed */
    assert_int_equal(said->done.count, 2);
    assert_int_equal(said->done.items[0].time_ns, 5);
    assert_int_equal(said->memory_used_bytes, 2 * LARGE);
    assert_false(tessi_flow_has_report(bench.flow));
    destroy(&bench);
}

/* A report is sent at once when something unknown begins, a question is answered, or little is left to do here; else it
 * may be gathered. */
static void test_reports_press(void **state)
{
    (void)state;
    struct bench bench = with_reader(20 * LARGE, 0, LARGE);
    assign(&bench, span(1, 0, 8, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action first = nth(&bench, TESSI_FLOW_RUN, 0);
    assert_true(tessi_flow_report_presses(bench.flow)); /* no step of the layer has ended here yet */
    (void)report(&bench);
    assert_false(tessi_flow_report_presses(bench.flow));
    done(&bench, first);
    uint64_t run = first.run + 1;
    assert_true(tessi_flow_has_report(bench.flow));
    assert_false(tessi_flow_report_presses(bench.flow)); /* one is done, and others that have begun will be soon */
    scheduler(&bench, TESSI_FLOW_STEAL, at(OTHER, 1, 7, 1));
    assert_true(tessi_flow_report_presses(bench.flow));
    (void)report(&bench);
    for (uint64_t left = 6; left > 2; left--) {
        assert_false(tessi_flow_report_presses(bench.flow));
        struct tessi_flow_outcome outcome = {.run = run++, .ran_ns = 5};
        step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1});
    }
    assert_true(tessi_flow_report_presses(bench.flow)); /* it is about to run dry */
    destroy(&bench);
}

/* Once a layer's steps are known to be short, its readers queue up behind it. */
static void test_readers_queue_up(void **state)
{
    (void)state;
    struct bench bench = create(20 * LARGE, 0, 2);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 4, LARGE);
    struct tessi_layer *same = layer_same(SESSION, 2, from, NULL, LARGE);
    layer(&bench, from);
    layer(&bench, same);
    make(&bench, 1, 0, 0); /* 5 ns */
    assign(&bench, span(1, 1, 1, 1, 1), (struct tessi_span){0});
    struct tessi_flow_action maker = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(maker.after_count, 0);
    assign(&bench, span(2, 1, 1, 1, 11), at(SELF, 1, 1, 1));
    struct tessi_flow_action reader = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(reader.in[0], maker.out);
    assert_int_equal(reader.slot, maker.slot);
    assert_int_equal(reader.after_count, 1);
    assert_int_equal(reader.after[0].slot, maker.slot);
    assert_int_equal(reader.after[0].last, maker.run);
    done(&bench, maker);
    done(&bench, reader);
    assert_int_equal(report(&bench)->done.count, 2); /* a span for each layer */
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(same);
}

/* What has read the output of a step that failed, or would have, starts over when there is something to read. */
static void test_reader_of_a_failure_starts_over(void **state)
{
    (void)state;
    struct bench bench = create(20 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 4, LARGE);
    struct tessi_layer *same = layer_same(SESSION, 2, from, NULL, LARGE);
    layer(&bench, from);
    layer(&bench, same);
    make(&bench, 1, 0, 0);
    assign(&bench, span(1, 1, 1, 1, 1), (struct tessi_span){0});
    struct tessi_flow_action maker = the(&bench, TESSI_FLOW_RUN);
    assign(&bench, span(2, 1, 1, 1, 11), at(SELF, 1, 1, 1));
    struct tessi_flow_action reader = the(&bench, TESSI_FLOW_RUN);
    struct tessi_flow_outcome outcomes[2] = {
        {.slot = 0, .run = maker.run, .status = TESSI_FAILED, .text = "no"},
        {.slot = 0, .run = reader.run, .status = TESSI_CANCELLED},
    };
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = outcomes, .outcome_count = 2});
    assert_int_equal(report(&bench)->failure_count, 1);
    assert_int_equal(stats(&bench).restarted_tasks, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.layer, 1);
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 1, 1, 1, 11));
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(same);
}

/* A step read memory of a peer that is gone by now: neither what it made nor what was made of that is believed, and
 * the end of the later one, at another slot, may be heard of first. */
static void test_readers_of_distrusted_start_over(void **state)
{
    (void)state;
    struct bench bench = create(20 * LARGE, 0, 2);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 4, LARGE);
    struct tessi_layer *same = layer_same(SESSION, 2, from, NULL, LARGE);
    struct tessi_layer *next = layer_same(SESSION, 3, same, NULL, LARGE);
    layer(&bench, from);
    layer(&bench, same);
    layer(&bench, next);
    peer_up(&bench, PEER, true);
    for (uint64_t i = 0; i < 2; i++) {
        assign(&bench, span(2, i, 1, 1, i), at(PEER, 1, i, 1));
        peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, i);
        if (i == 0) {
            done(&bench, the(&bench, TESSI_FLOW_RUN)); /* its layer's steps are short */
        }
    }
    struct tessi_flow_action maker = the(&bench, TESSI_FLOW_RUN);
    assign(&bench, span(3, 1, 1, 1, 5), at(SELF, 2, 1, 1));
    struct tessi_flow_action reader = the(&bench, TESSI_FLOW_RUN);
    peer_lost(&bench, PEER);
    struct tessi_flow_outcome ends[2] = {{.slot = reader.slot, .run = reader.run, .ran_ns = 5},
                                         {.slot = maker.slot, .run = maker.run, .ran_ns = 5}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stats(&bench).restarted_tasks, 0);
        step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &ends[i], .outcome_count = 1});
    }
    assert_int_equal(stats(&bench).restarted_tasks, 2);
    assert_int_equal(report(&bench)->done.items[0].first, 0);
    assert_int_equal(report(&bench)->done.count, 0);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(same);
    tessi_layer_destroy(next);
}

/* Nothing waits behind a task that workers have died of. */
static void test_suspects_run_alone(void **state)
{
    (void)state;
    struct bench bench = with_reader(20 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    struct tessi_span feared = span(1, 1, 1, 2, 1);
    feared.deaths = 1;
    assign(&bench, feared, (struct tessi_span){0});
    struct tessi_flow_action alone = the(&bench, TESSI_FLOW_RUN);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    done(&bench, alone);
    (void)the(&bench, TESSI_FLOW_RUN);
    destroy(&bench);
}

static void test_duplicate_assignments(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    (void)report(&bench);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    assert_int_equal(report(&bench)->done.count, 0);
    assert_int_equal(stats(&bench).stale_events, 1);
    assign(&bench, span(1, 0, 1, 4, 0), (struct tessi_span){0});
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(report(&bench)->done.items[0].epoch, 4);
    destroy(&bench);
}

static void test_too_large_is_refused(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE - 1, 0, LARGE);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    assert_int_equal(report(&bench)->refused.count, 1);
    assert_int_equal(stats(&bench).blocks, 0);
    destroy(&bench);
}

static void test_failure(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, 0);
    assert_int_equal(stats(&bench).parked_reads, 1);
    struct tessi_flow_outcome failed = {
        .slot = run.slot, .run = run.run, .status = TESSI_FAILED, .text = "division by zero"};
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &failed, .outcome_count = 1});
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_ASK).peer, PEER);
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, run.out);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->failure_count, 1);
    assert_string_equal(said->failures[0].text, "division by zero");
    assert_int_equal(said->done.count, 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    destroy(&bench);
}

/* --- streams --- */

static void test_stream_order_and_window(void **state)
{
    (void)state;
    struct bench bench = create(100 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 6, 1, LARGE);
    struct tessi_layer *fold = layer_fold(SESSION, 2, from, LARGE);
    layer(&bench, fold);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 0), at(PEER, 1, 0, 6));
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 6);
    for (uint64_t i = 6; i-- > 0;) { /* in the wrong order; only two steps are brought in */
        peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, i);
        assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), i < 2 ? 1 : 0);
    }
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 2); /* one runs, one is queued behind it */
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 2);
    struct tessi_flow_action first = nth(&bench, TESSI_FLOW_RUN, 0), second = nth(&bench, TESSI_FLOW_RUN, 1);
    assert_int_equal(first.step, 0);
    assert_int_equal(second.step, 1);
    assert_int_equal(first.steps, 6);
    scheduler(&bench, TESSI_FLOW_STEAL, at(PEER, 2, 0, 1));
    assert_int_equal(report(&bench)->kept.count, 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 2);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0); /* the slot's queue is full */
    done(&bench, first);
    struct tessi_flow_action third = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(third.step, 2);
    done(&bench, second);
    done(&bench, third);
    for (uint64_t i = 3; i < 6; i++) {
        assert_int_equal(report(&bench)->done.count, 0);
        peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, i);
        done(&bench, the(&bench, TESSI_FLOW_RUN));
    }
    assert_int_equal(report(&bench)->done.items[0].time_ns, 30);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(fold);
}

static void test_receive(void **state)
{
    (void)state;
    struct bench bench = create(10 * LARGE, 0, 1);
    struct tessi_layer *pushed = layer_source(SESSION, 1, TESSI_OP_RECEIVE, 1, 2, LARGE);
    layer(&bench, pushed);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action pull = the(&bench, TESSI_FLOW_SEND_PULL);
    assert_int_equal(pull.peer, SESSION);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, 0);
    peer_lost(&bench, SESSION);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    peer_up(&bench, SESSION, false);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
    peer_event(&bench, TESSI_FLOW_DATA, SESSION, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_OFFER).peer, PEER);
    assert_int_equal(report(&bench)->done.count, 1);
    destroy(&bench);
    tessi_layer_destroy(pushed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_wakes_directly),
        cmocka_unit_test(test_reports_press),
        cmocka_unit_test(test_readers_queue_up),
        cmocka_unit_test(test_reader_of_a_failure_starts_over),
        cmocka_unit_test(test_readers_of_distrusted_start_over),
        cmocka_unit_test(test_suspects_run_alone),
        cmocka_unit_test(test_duplicate_assignments),
        cmocka_unit_test(test_too_large_is_refused),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_stream_order_and_window),
        cmocka_unit_test(test_receive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
