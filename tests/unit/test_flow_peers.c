/* The worker's planner, rule by rule: reading blocks of other workers, and serving them. */
#include "tests/unit/flow_bench.h"

#include <string.h>

/* --- reading from peers --- */

static void test_inline_offer_lease(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 3, 1, 8), at(PEER, 1, 0, 3));
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 3);
    assert_true(nth(&bench, TESSI_FLOW_SEND_READ, 0).lease);

    peer_event(&bench, TESSI_FLOW_READY_INLINE, PEER, 1, 0);
    assert_int_equal(nth(&bench, TESSI_FLOW_ALLOC, 0).task.layer, 1);
    done(&bench, the(&bench, TESSI_FLOW_RUN));

    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    struct tessi_flow_action pull = the(&bench, TESSI_FLOW_SEND_PULL);
    assert_int_equal(the(&bench, TESSI_FLOW_ALLOC).block, pull.block);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    done(&bench, the(&bench, TESSI_FLOW_RUN));

    uint64_t used = stats(&bench).memory_used_bytes;
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 2);
    uint32_t mapped = the(&bench, TESSI_FLOW_MAP).block;
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(run.in[0], mapped);
    assert_int_equal(stats(&bench).memory_used_bytes, used + LARGE); /* the output only */
    done(&bench, run);
    assert_int_equal(bench.actions.count, 0); /* kept for the next task that reads it */
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->copied.count, 1); /* blocks 0 and 1, joined; leases are not copies */
    assert_int_equal(said->copied.items[0].count, 2);
    assert_int_equal(said->mapped_bytes, LARGE);
    peer_event(&bench, TESSI_FLOW_REVOKE, PEER, 1, 2); /* nobody reads it: given back at once */
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_RELEASE).peer, PEER);
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, mapped);
    destroy(&bench);
}

static void lend(struct bench *bench, uint64_t index)
{
    assign(bench, span(2, index, 1, 1, 8 + index), at(PEER, 1, index, 1));
    peer_event(bench, TESSI_FLOW_READY_LEASE, PEER, 1, index);
    done(bench, the(bench, TESSI_FLOW_RUN));
}

/* A lease that nobody uses serves the next reader; what is lent stays within the budget, the block used longest ago
 * is given back first; a freed one goes at once, and so does what a peer that is lost has lent. */
static void test_idle_leases(void **state)
{
    (void)state;
    struct bench bench = create(4 * LARGE, 0, 1);
    bench.source = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 8, LARGE);
    bench.reader = layer_same(SESSION, 2, bench.source, NULL, 8);
    layer(&bench, bench.source);
    layer(&bench, bench.reader);
    peer_up(&bench, PEER, true);
    for (uint64_t i = 0; i < 4; i++) {
        lend(&bench, i);
        assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 0);
    }
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 0, 1, 0, 0));
    assign(&bench, span(2, 0, 1, 2, 20), at(PEER, 1, 0, 1));
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 0);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    assert_int_equal(bench.actions.count, 0);
    lend(&bench, 4);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_RELEASE).task.index, 1);
    assert_int_equal(report(&bench)->mapped_bytes, 5 * LARGE);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 2, 1, 0, 0));
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_RELEASE).task.index, 2);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = PEER});
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 3);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 0);
    destroy(&bench);
}

static void test_one_read_for_many_tasks(void **state)
{
    (void)state;
    struct bench bench = create(100 * LARGE, 0, 1);
    struct tessi_layer *a = layer_left(SESSION, 1, TESSI_OP_SYNTHETIC, 2, 3, LARGE);
    struct tessi_layer *b = layer_source(SESSION, 2, TESSI_OP_SYNTHETIC, 3, 2, LARGE);
    struct tessi_layer *c = layer_product(SESSION, 3, a, b, LARGE);
    layer(&bench, c);
    peer_up(&bench, PEER, false);
    struct tessi_span where[2] = {at(PEER, 2, 0, 6), at(PEER, 1, 0, 6)}; /* in any order */
    struct tessi_span tasks = span(3, 0, 4, 1, 0);
    step(&bench, (struct tessi_flow_event){
                     .kind = TESSI_FLOW_ASSIGN, .spans = &tasks, .span_count = 1, .where = where, .where_count = 2});
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 12);
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 0);
    destroy(&bench);
    tessi_layer_destroy(a);
    tessi_layer_destroy(b);
    tessi_layer_destroy(c);
}

/* A peer has so many questions to answer at most; what is behind them is asked as it answers, and what the oldest task
 * needs at once. */
static void test_questions_are_few(void **state)
{
    (void)state;
    struct tessi_flow_config config = {.self = SELF,
                                       .slots = 1,
                                       .slot_depth = 2,
                                       .window = 2,
                                       .memory_bytes = 100 * LARGE,
                                       .pull_bytes = 100 * LARGE,
                                       .asks_max = 2};
    struct bench bench = {.flow = tessi_flow_create(&config)};
    bench.source = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 16, LARGE);
    bench.reader = layer_same(SESSION, 2, bench.source, NULL, LARGE);
    layer(&bench, bench.source);
    layer(&bench, bench.reader);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 1, 6, 1, 9), at(PEER, 1, 0, 16));
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 2);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 2);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_READ).task.index, 3);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 16)); /* older than all */
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_READ).task.index, 0);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 0); /* two are open still */
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 4, 1, 1, 0));
    peer_event(&bench, TESSI_FLOW_MOVED, PEER, 1, 3);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_READ).task.index, 5); /* nobody needs 4 any more */
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 1);
    char text[1000];
    (void)tessi_flow_explain(bench.flow, (struct tessi_task){SESSION, 2, 6}, text, sizeof text);
    assert_non_null(strstr(text, "earlier questions"));
    peer_lost(&bench, PEER);
    assert_true(count(&bench, TESSI_FLOW_LOCATE) >= 2);
    destroy(&bench);
}

static void test_moved_ask_and_location(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    struct tessi_flow_event moved = from_peer(TESSI_FLOW_MOVED, PEER, 1, 0);
    moved.worker = OTHER;
    moved.epoch = 2;
    step(&bench, moved);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.layer, 1); /* OTHER may have gone before we came */
    struct tessi_span there = at(OTHER, 1, 0, 1);
    there.epoch = 2;
    scheduler(&bench, TESSI_FLOW_LOCATION, there);
    assert_int_equal(bench.actions.count, 0); /* not reachable yet */
    peer_up(&bench, OTHER, false);
    struct tessi_flow_action read = the(&bench, TESSI_FLOW_SEND_READ);
    assert_int_equal(read.peer, OTHER);
    assert_int_equal(read.epoch, 2);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0); /* nobody asked for it */
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(stats(&bench).stale_events, 1);
    for (int i = 0; i < 3; i++) { /* never gives up */
        peer_event(&bench, TESSI_FLOW_ASK, OTHER, 1, 0);
        assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.layer, 1);
        scheduler(&bench, TESSI_FLOW_LOCATION, at(OTHER, 1, 0, 1));
        assert_int_equal(the(&bench, TESSI_FLOW_SEND_READ).peer, OTHER);
    }
    peer_event(&bench, TESSI_FLOW_READY_OFFER, OTHER, 1, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
    peer_event(&bench, TESSI_FLOW_ASK, OTHER, 1, 0); /* the answer to PULL */
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 1);
    scheduler(&bench, TESSI_FLOW_LOCATION, at(0, 1, 0, 1));
    assert_int_equal(bench.actions.count, 0);
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 0, 1, 1, 0));
    assert_int_equal(stats(&bench).blocks, 0);
    destroy(&bench);
}

static void test_peer_lost(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 3, 1, 8), at(PEER, 1, 0, 3)); /* 0 asked, 1 pulled, 2 read under a lease */
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    uint32_t pulled = the(&bench, TESSI_FLOW_SEND_PULL).block;
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 2);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    peer_lost(&bench, PEER);
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, pulled);
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 2);
    done(&bench, run); /* what it read is not to be trusted: it starts over */
    assert_int_equal(report(&bench)->done.count, 0);
    assert_int_equal(stats(&bench).restarted_tasks, 1);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.index, 2);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    destroy(&bench);
}

static void test_revoke_waits_for_the_step(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 0);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    peer_event(&bench, TESSI_FLOW_REVOKE, PEER, 1, 0);
    assert_int_equal(bench.actions.count, 0);
    done(&bench, run);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 1);
    assert_int_equal(report(&bench)->done.count, 1);
    destroy(&bench);
}

/* --- serving peers --- */

static void test_serving(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    struct tessi_layer *tiny = layer_source(SESSION, 5, TESSI_OP_SYNTHETIC, 1, 1, SMALL);
    layer(&bench, tiny);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    read_lease(&bench, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_READ, OTHER, 1, 0);
    assert_int_equal(bench.actions.count, 0);
    done(&bench, run);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_LEASE).peer, PEER);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_OFFER).peer, OTHER);
    peer_event(&bench, TESSI_FLOW_PULL, OTHER, 1, 0);
    assert_false(the(&bench, TESSI_FLOW_SEND_BLOCK).spilled);
    make(&bench, 5, 0, 1);
    read_lease(&bench, PEER, 5, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_INLINE), 1);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, 7);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_ASK), 1);

    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 1, 1, 0));
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_REVOKE).peer, PEER);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 0); /* the reader still maps it */
    peer_event(&bench, TESSI_FLOW_RELEASE, PEER, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, run.out);
    assert_int_equal(stats(&bench).leases, 0);
    tessi_layer_destroy(tiny);
    destroy(&bench);
}

static void test_one_lease_for_each_peer(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    read_lease(&bench, PEER, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_LEASE).peer, PEER);
    read_lease(&bench, PEER, 1, 0); /* it comes twice: the one RELEASE would end a second lease, too */
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_LEASE), 0);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_OFFER).peer, PEER);
    read_lease(&bench, OTHER, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_LEASE).peer, OTHER);
    assert_int_equal(stats(&bench).leases, 2);
    peer_event(&bench, TESSI_FLOW_RELEASE, PEER, 1, 0);
    read_lease(&bench, PEER, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_LEASE).peer, PEER);
    destroy(&bench);
}

static void test_leases_of_a_lost_peer_end(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    read_lease(&bench, PEER, 1, 0);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 1, 1, 0));
    peer_lost(&bench, PEER);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    make(&bench, 1, 1, 1);
    read_lease(&bench, PEER, 1, 1); /* it would never give a lease back */
    assert_int_equal(bench.actions.count, 0);
    destroy(&bench);
}

/* Blocks that a client waits for go there as soon as they are made: small ones, and while it is there. */
static void test_small_blocks_are_pushed(void **state)
{
    (void)state;
    struct bench bench = create(20 * LARGE, 0, 1);
    struct tessi_layer *small = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 4, SMALL);
    struct tessi_layer *large = layer_source(SESSION, 2, TESSI_OP_SYNTHETIC, 1, 4, LARGE);
    small->push = large->push = true;
    layer(&bench, small);
    layer(&bench, large);
    make(&bench, 1, 0, 0);
    struct tessi_flow_action sent = the(&bench, TESSI_FLOW_SEND_INLINE);
    assert_int_equal(sent.peer, SESSION);
    assert_int_equal(sent.task.index, 0);
    make(&bench, 2, 0, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_INLINE), 0);
    peer_up(&bench, SESSION, false);
    make(&bench, 1, 1, 2);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_INLINE).peer, SESSION);
    peer_lost(&bench, SESSION);
    make(&bench, 1, 2, 3);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_INLINE), 0);
    tessi_layer_destroy(small);
    tessi_layer_destroy(large);
    destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inline_offer_lease),        cmocka_unit_test(test_idle_leases),
        cmocka_unit_test(test_one_read_for_many_tasks),   cmocka_unit_test(test_questions_are_few),
        cmocka_unit_test(test_moved_ask_and_location),    cmocka_unit_test(test_peer_lost),
        cmocka_unit_test(test_revoke_waits_for_the_step), cmocka_unit_test(test_serving),
        cmocka_unit_test(test_small_blocks_are_pushed),   cmocka_unit_test(test_one_lease_for_each_peer),
        cmocka_unit_test(test_leases_of_a_lost_peer_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
