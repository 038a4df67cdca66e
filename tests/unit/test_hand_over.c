/* Taking over the blocks of a worker that leaves, as the planner does it: an event goes in, the actions and the report
 * are read, the invariants hold after each. */
#include "tests/unit/flow_bench.h"

enum { LEAVER = PEER, BYTES = LARGE, EPOCH = 7 };

static struct bench start(uint64_t memory_bytes, uint64_t spill_bytes, bool shares_memory)
{
    struct bench bench = with_reader(memory_bytes, spill_bytes, BYTES);
    peer_up(&bench, LEAVER, shares_memory);
    return bench;
}

static void take_over(struct bench *bench, uint64_t first, uint64_t count)
{
    struct tessi_span blocks = at(LEAVER, 1, first, count);
    blocks.epoch = EPOCH;
    scheduler(bench, TESSI_FLOW_TAKE_OVER, blocks);
}

static void from_leaver(struct bench *bench, enum tessi_flow_event_kind kind, uint64_t index)
{
    peer_event(bench, kind, LEAVER, 1, index);
}

static uint64_t total(const struct tessi_spans *spans)
{
    uint64_t tasks = 0;
    for (size_t i = 0; i < spans->count; i++) {
        tasks += spans->items[i].count;
    }
    return tasks;
}

static void test_fetched_and_owned(void **state)
{
    (void)state;
    struct bench bench = start(10 * BYTES, 0, true);
    take_over(&bench, 3, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 1);
    assert_false(bench.actions.items[0].lease); /* lent memory goes with its owner */
    from_leaver(&bench, TESSI_FLOW_READY_OFFER, 3);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
    assert_false(tessi_flow_has_report(bench.flow));
    from_leaver(&bench, TESSI_FLOW_DATA, 3);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->adopted.count, 1);
    assert_int_equal(said->adopted.items[0].first, 3);
    assert_int_equal(said->adopted.items[0].epoch, EPOCH);
    assert_int_equal(said->copied.count, 0);
    peer_lost(&bench, LEAVER);
    assert_int_equal(stats(&bench).blocks, 1);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_READ, .peer = OTHER, .task = {SESSION, 1, 3}});
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_OFFER), 1);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 3, 1, 1, 0));
    assert_int_equal(stats(&bench).blocks, 0);
    destroy(&bench);
}

static void test_small_block_inside_the_answer(void **state)
{
    (void)state;
    struct bench bench = start(10 * BYTES, 0, false);
    take_over(&bench, 0, 1);
    from_leaver(&bench, TESSI_FLOW_READY_INLINE, 0); /* no task is here whose place in line it could have */
    assert_int_equal(count(&bench, TESSI_FLOW_ALLOC), 1);
    assert_int_equal(report(&bench)->adopted.count, 1);
    destroy(&bench);
}

/* A copy that is here already needs no way; a borrowed one is given back and fetched. */
static void test_copy_and_borrowed(void **state)
{
    (void)state;
    for (int borrowed = 0; borrowed < 2; borrowed++) {
        struct bench bench = start(10 * BYTES, 0, borrowed != 0);
        assign(&bench, span(2, 5, 1, 1, 9), at(LEAVER, 1, 5, 1));
        if (borrowed == 0) {
            from_leaver(&bench, TESSI_FLOW_READY_OFFER, 5);
            from_leaver(&bench, TESSI_FLOW_DATA, 5);
            assert_int_equal(report(&bench)->copied.count, 1);
            take_over(&bench, 5, 1);
        } else {
            from_leaver(&bench, TESSI_FLOW_READY_LEASE, 5);
            struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
            take_over(&bench, 5, 1); /* a step reads it */
            assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 0);
            done(&bench, run);
            assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 1);
            assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
            from_leaver(&bench, TESSI_FLOW_DATA, 5);
        }
        assert_int_equal(report(&bench)->adopted.count, 1);
        destroy(&bench);
    }
}

/* A worker takes no more than leaves a quarter of its memory to tasks; files make room for more. */
static void test_refused_for_want_of_room(void **state)
{
    (void)state;
    struct bench bench = start(8 * BYTES, 0, false);
    take_over(&bench, 0, 10);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 6);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(total(&said->missing), 4);
    assert_int_equal(said->missing.items[0].epoch, EPOCH);
    destroy(&bench);
    bench = start(8 * BYTES, 100 * BYTES, false);
    take_over(&bench, 0, 10);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 10);
    for (uint64_t i = 0; i < 8; i++) {
        from_leaver(&bench, TESSI_FLOW_READY_OFFER, i);
        from_leaver(&bench, TESSI_FLOW_DATA, i);
    }
    from_leaver(&bench, TESSI_FLOW_READY_OFFER, 8); /* full: what nobody here needs goes to a file */
    assert_int_equal(count(&bench, TESSI_FLOW_SPILL), 1);
    io_done(&bench, TESSI_FLOW_SPILLED, bench.actions.items[0].block, TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
    destroy(&bench);
}

/* Whatever keeps it from coming is said, so that another worker can be asked. */
static void test_said_when_it_does_not_come(void **state)
{
    (void)state;
    for (int how = 0; how < 5; how++) {
        struct bench bench = start(10 * BYTES, 0, false);
        if (how == 4) {
            peer_lost(&bench, LEAVER);
        }
        take_over(&bench, 2, 1);
        if (how == 0) {
            from_leaver(&bench, TESSI_FLOW_ASK, 2);
        } else if (how == 1) {
            from_leaver(&bench, TESSI_FLOW_READY_OFFER, 2);
            from_leaver(&bench, TESSI_FLOW_ASK, 2);
        } else if (how == 2) {
            peer_lost(&bench, LEAVER);
        } else if (how == 3) {
            from_leaver(&bench, TESSI_FLOW_READY_OFFER, 2);
            peer_lost(&bench, LEAVER);
        }
        const struct tessi_report *said = report(&bench);
        assert_int_equal(said->missing.count, 1);
        assert_int_equal(said->missing.items[0].first, 2);
        assert_int_equal(said->adopted.count, 0);
        assert_int_equal(stats(&bench).blocks, 0);
        destroy(&bench);
    }
}

static void test_freed_on_its_way(void **state)
{
    (void)state;
    struct bench bench = start(10 * BYTES, 0, false);
    take_over(&bench, 1, 2);
    from_leaver(&bench, TESSI_FLOW_READY_OFFER, 1);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 1, 1, 1, 0)); /* being pulled */
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 2, 1, 1, 0)); /* asked for */
    from_leaver(&bench, TESSI_FLOW_DATA, 1);
    from_leaver(&bench, TESSI_FLOW_READY_OFFER, 2);
    assert_int_equal(stats(&bench).blocks, 0);
    assert_int_equal(report(&bench)->adopted.count, 0);
    /* Names that do not exist change nothing. */
    struct tessi_span wrong[] = {{.session = SESSION, .layer = 9, .first = 0, .count = 3, .worker = LEAVER},
                                 {.session = SESSION, .layer = 1, .first = 99, .count = UINT64_MAX, .worker = LEAVER},
                                 {.session = SESSION, .layer = 1, .first = 0, .count = 1, .worker = 0}};
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_TAKE_OVER, .spans = wrong, .span_count = 3});
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(total(&report(&bench)->missing), 4);
    destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fetched_and_owned),          cmocka_unit_test(test_small_block_inside_the_answer),
        cmocka_unit_test(test_copy_and_borrowed),          cmocka_unit_test(test_refused_for_want_of_room),
        cmocka_unit_test(test_said_when_it_does_not_come), cmocka_unit_test(test_freed_on_its_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
