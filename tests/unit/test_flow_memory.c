/* The worker's planner, rule by rule: what gives way when memory is short, to whom, and files. */
#include "tests/unit/flow_bench.h"

static void test_copies_go_first(void **state)
{
    (void)state;
    struct bench bench = with_reader(3 * LARGE, 10 * LARGE, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    assert_int_equal(stats(&bench).memory_used_bytes, 2 * LARGE); /* the copy stays as a cache */
    assert_int_equal(report(&bench)->copied.count, 1);
    assign(&bench, span(1, 4, 2, 1, 20), (struct tessi_span){0}); /* two outputs: one more than fits */
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(count(&bench, TESSI_FLOW_SPILL), 0);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 2);
    assert_int_equal(report(&bench)->dropped.count, 1);
    assert_int_equal(stats(&bench).evicted_copies, 1);
    destroy(&bench);
}

static void test_spill_serve_load(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    make(&bench, 1, 1, 1);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    uint32_t block = the(&bench, TESSI_FLOW_SPILL).block;
    uint64_t index = the(&bench, TESSI_FLOW_SPILL).task.index;
    peer_event(&bench, TESSI_FLOW_PULL, PEER, 1, index); /* still in memory */
    assert_false(the(&bench, TESSI_FLOW_SEND_BLOCK).spilled);
    io_done(&bench, TESSI_FLOW_SPILLED, block, TESSI_OK);
    assert_int_equal(the(&bench, TESSI_FLOW_UNALLOC).block, block);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    assert_int_equal(stats(&bench).blocks_spilled, 1);
    assert_int_equal(stats(&bench).spilled_bytes, LARGE);
    peer_event(&bench, TESSI_FLOW_PULL, PEER, 1, index);
    assert_true(the(&bench, TESSI_FLOW_SEND_BLOCK).spilled);

    scheduler(&bench, TESSI_FLOW_FREE, span(1, 1 - index, 1, 1, 0)); /* the other one: room for the input */
    assign(&bench, span(2, index, 1, 1, 3), at(SELF, 1, index, 1));
    struct tessi_flow_action load = the(&bench, TESSI_FLOW_LOAD);
    assert_int_equal(load.block, block);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, index);
    assert_int_equal(bench.actions.count, 0);
    io_done(&bench, TESSI_FLOW_LOADED, block, TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_OFFER), 1);
    assert_int_equal(stats(&bench).spilled_bytes, LARGE); /* now of block 2, which makes room for the output */
    destroy(&bench);
}

static void test_damaged_file_is_reported(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    make(&bench, 1, 1, 1);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    struct tessi_flow_action spill = the(&bench, TESSI_FLOW_SPILL);
    io_done(&bench, TESSI_FLOW_SPILLED, spill.block, TESSI_OK);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 1 - spill.task.index, 1, 1, 0));
    assign(&bench, span(2, spill.task.index, 1, 1, 3), at(SELF, 1, spill.task.index, 1));
    (void)report(&bench);
    io_done(&bench, TESSI_FLOW_LOADED, spill.block, TESSI_IO);
    assert_int_equal(report(&bench)->missing.count, 1);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.index, spill.task.index);
    destroy(&bench);
}

/* Not at once: the shell says when the disk is worth another look. */
static void test_failed_spill_tries_another(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    make(&bench, 1, 1, 1);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    uint32_t first = the(&bench, TESSI_FLOW_SPILL).block;
    io_done(&bench, TESSI_FLOW_SPILLED, first, TESSI_IO);
    assert_int_equal(count(&bench, TESSI_FLOW_SPILL), 0);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_SPILL_AGAIN});
    uint32_t second = the(&bench, TESSI_FLOW_SPILL).block;
    assert_int_not_equal(first, second);
    io_done(&bench, TESSI_FLOW_SPILLED, second, TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 1);
    destroy(&bench);
}

static void test_leases_are_revoked_for_room(void **state)
{
    (void)state;
    struct bench bench = with_reader(LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    read_lease(&bench, PEER, 1, 0);
    assign(&bench, span(1, 1, 1, 1, 1), (struct tessi_span){0});
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_REVOKE).peer, PEER);
    read_lease(&bench, OTHER, 1, 0); /* no new lease on a block that is to go */
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_OFFER), 1);
    peer_event(&bench, TESSI_FLOW_RELEASE, PEER, 1, 0);
    io_done(&bench, TESSI_FLOW_SPILLED, the(&bench, TESSI_FLOW_SPILL).block, TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 1);
    destroy(&bench);
}

/* Without spilling a younger task may not take the room that the oldest will need. */
static void test_reserve_for_the_oldest(void **state)
{
    (void)state;
    struct bench bench = with_reader(3 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 0), at(PEER, 1, 0, 1)); /* needs 2, waits for its input */
    assign(&bench, span(1, 4, 2, 1, 20), (struct tessi_span){0});
    done(&bench, the(&bench, TESSI_FLOW_RUN)); /* one fits beside it, the second does not */
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_RUN).task.layer, 2);
    destroy(&bench);
}

static void test_younger_accumulator_stays_while_it_can(void **state)
{
    (void)state;
    struct bench bench = create(3 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 2, 2, LARGE);
    struct tessi_layer *fold = layer_fold(SESSION, 2, from, LARGE);
    layer(&bench, fold);
    peer_up(&bench, PEER, false);
    peer_up(&bench, OTHER, false);
    assign(&bench, span(2, 1, 1, 1, 9), at(PEER, 1, 0, 4));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    done(&bench, run); /* its second input is not there: the accumulator waits */
    assign(&bench, span(2, 0, 1, 1, 4), at(OTHER, 1, 0, 4));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, OTHER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, OTHER, 1, 0);
    struct tessi_flow_action older = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(older.task.index, 0);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, OTHER, 1, 2); /* no room, but the running step will give some */
    assert_int_equal(stats(&bench).restarted_tasks, 0);
    done(&bench, older);
    peer_event(&bench, TESSI_FLOW_DATA, OTHER, 1, 2);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    assert_int_equal(report(&bench)->done.count, 1);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(fold);
}

static void test_restart(void **state)
{
    (void)state;
    struct bench bench = create(3 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 2, 2, LARGE);
    struct tessi_layer *also = layer_source(SESSION, 4, TESSI_OP_SYNTHETIC, 2, 2, LARGE);
    struct tessi_layer *fold = layer_fold(SESSION, 2, from, LARGE);
    struct tessi_layer *wide = layer_same(SESSION, 3, from, also, LARGE);
    layer(&bench, fold);
    layer(&bench, wide);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 1, 1, 1, 9), at(PEER, 1, 0, 4));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(report(&bench)->started.count, 1);
    done(&bench, run); /* its second input is not there: the accumulator waits */
    struct tessi_span tasks = span(3, 2, 1, 1, 0), where[2] = {at(PEER, 1, 0, 4), at(PEER, 4, 0, 4)};
    step(&bench, (struct tessi_flow_event){
                     .kind = TESSI_FLOW_ASSIGN, .spans = &tasks, .span_count = 1, .where = where, .where_count = 2});
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 2);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 2);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 4, 2);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 4, 2); /* two inputs and an output: all there is */
    assert_int_equal(stats(&bench).restarted_tasks, 1);
    assert_int_equal(nth(&bench, TESSI_FLOW_FREE_BLOCK, 0).block, run.out);
    assert_int_equal(the(&bench, TESSI_FLOW_RUN).task.layer, 3);
    scheduler(&bench, TESSI_FLOW_STEAL, at(OTHER, 2, 1, 1)); /* it has been started once */
    assert_int_equal(report(&bench)->kept.count, 1);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(also);
    tessi_layer_destroy(fold);
    tessi_layer_destroy(wide);
}

/* All memory but what one block costs beside its data is what the oldest task needs, and two blocks are in files: one of
 * them has to go. */
static void test_blocks_in_files_are_shed_last(void **state)
{
    (void)state;
    enum { COST = 512 };
    struct bench bench = {0};
    bench.flow = tessi_flow_create(&(struct tessi_flow_config){.self = SELF,
                                                               .slots = 1,
                                                               .slot_depth = 2,
                                                               .window = 2,
                                                               .memory_bytes = LARGE + COST,
                                                               .spill_bytes = LARGE,
                                                               .block_cost = COST,
                                                               .pull_bytes = LARGE});
    bench.source = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 2, SMALL);
    bench.reader = layer_source(SESSION, 2, TESSI_OP_SYNTHETIC, 1, 1, LARGE);
    layer(&bench, bench.source);
    layer(&bench, bench.reader);
    make(&bench, 1, 0, 0);
    make(&bench, 1, 1, 1);
    assign(&bench, span(2, 0, 1, 1, 2), (struct tessi_span){0});
    assert_int_equal(count(&bench, TESSI_FLOW_SPILL), 2);
    uint32_t blocks[2] = {nth(&bench, TESSI_FLOW_SPILL, 0).block, nth(&bench, TESSI_FLOW_SPILL, 1).block};
    io_done(&bench, TESSI_FLOW_SPILLED, blocks[0], TESSI_OK);
    io_done(&bench, TESSI_FLOW_SPILLED, blocks[1], TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    assert_int_equal(report(&bench)->short_bytes, COST);
    assert_int_equal(bench.report.shed.count, 2);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 1, 1, 0)); /* somebody has taken it over */
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 1);
    destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_go_first),
        cmocka_unit_test(test_spill_serve_load),
        cmocka_unit_test(test_damaged_file_is_reported),
        cmocka_unit_test(test_failed_spill_tries_another),
        cmocka_unit_test(test_leases_are_revoked_for_room),
        cmocka_unit_test(test_reserve_for_the_oldest),
        cmocka_unit_test(test_younger_accumulator_stays_while_it_can),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_blocks_in_files_are_shed_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
