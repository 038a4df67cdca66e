/* Taking over the blocks of a worker that leaves, as the planner does it: an event goes in, the actions and the report
 * are read, the invariants hold after each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "tests/unit/test_flow_layers.h"
#include "worker/flow/flow.h"

enum { SESSION = 100, SELF = 1, LEAVER = 2, OTHER = 3, BYTES = 100000, EPOCH = 7 };

struct bench {
    struct tessi_flow *flow;
    struct tessi_flow_actions actions;
    struct tessi_report report;
    struct tessi_layer *source, *reader;
};

static void step(struct bench *bench, struct tessi_flow_event event)
{
    bench->actions.count = 0;
    tessi_flow_step(bench->flow, &event, &bench->actions);
    tessi_flow_verify(bench->flow);
}

/* Layer 1: blocks that cannot be made again; layer 2 reads them one by one. */
static struct bench start(uint64_t memory_bytes, uint64_t spill_bytes, bool shares_memory)
{
    struct tessi_flow_config config = {.self = SELF, .slots = 1, .slot_depth = 2, .window = 2,
                                       .memory_bytes = memory_bytes, .spill_bytes = spill_bytes,
                                       .pull_bytes = 10 * BYTES};
    struct bench bench = {.flow = tessi_flow_create(&config)};
    bench.source = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 1, 16, BYTES);
    bench.reader = layer_same(SESSION, 2, bench.source, NULL, BYTES);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = tessi_layer_copy(bench.source)});
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = tessi_layer_copy(bench.reader)});
    step(&bench,
         (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_UP, .peer = LEAVER, .shares_memory = shares_memory});
    return bench;
}

static void stop(struct bench *bench)
{
    tessi_flow_destroy(bench->flow);
    tessi_free(bench->actions.items);
    tessi_report_fini(&bench->report);
    tessi_layer_destroy(bench->source);
    tessi_layer_destroy(bench->reader);
}

static void take_over(struct bench *bench, uint64_t first, uint64_t count)
{
    struct tessi_span span = {.session = SESSION, .layer = 1, .first = first, .count = count, .epoch = EPOCH,
                              .worker = LEAVER};
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_TAKE_OVER, .spans = &span, .span_count = 1});
}

static void from_leaver(struct bench *bench, enum tessi_flow_event_kind kind, uint64_t index)
{
    step(bench,
         (struct tessi_flow_event){.kind = kind, .peer = LEAVER, .task = {SESSION, 1, index}, .epoch = 1});
}

static void free_block(struct bench *bench, uint32_t layer, uint64_t index)
{
    struct tessi_span span = {.session = SESSION, .layer = layer, .first = index, .count = 1};
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_FREE, .spans = &span, .span_count = 1});
}

static size_t count(const struct bench *bench, enum tessi_flow_action_kind kind)
{
    size_t found = 0;
    for (size_t i = 0; i < bench->actions.count; i++) {
        found += bench->actions.items[i].kind == kind;
    }
    return found;
}

static const struct tessi_report *report(struct bench *bench)
{
    tessi_report_fini(&bench->report);
    tessi_flow_report(bench->flow, &bench->report);
    return &bench->report;
}

static uint64_t total(const struct tessi_spans *spans)
{
    uint64_t tasks = 0;
    for (size_t i = 0; i < spans->count; i++) {
        tasks += spans->items[i].count;
    }
    return tasks;
}

static uint64_t blocks(const struct bench *bench)
{
    struct tessi_flow_stats stats;
    tessi_flow_stats(bench->flow, &stats);
    return stats.blocks;
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
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = LEAVER});
    assert_int_equal(blocks(&bench), 1);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_READ, .peer = OTHER, .task = {SESSION, 1, 3}});
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_OFFER), 1);
    free_block(&bench, 1, 3);
    assert_int_equal(blocks(&bench), 0);
    stop(&bench);
}

static void test_small_block_inside_the_answer(void **state)
{
    (void)state;
    struct bench bench = start(10 * BYTES, 0, false);
    take_over(&bench, 0, 1);
    from_leaver(&bench, TESSI_FLOW_READY_INLINE, 0); /* no task is here whose place in line it could have */
    assert_int_equal(count(&bench, TESSI_FLOW_ALLOC), 1);
    assert_int_equal(report(&bench)->adopted.count, 1);
    stop(&bench);
}

/* A copy that is here already needs no way; a borrowed one is given back and fetched. */
static void test_copy_and_borrowed(void **state)
{
    (void)state;
    for (int borrowed = 0; borrowed < 2; borrowed++) {
        struct bench bench = start(10 * BYTES, 0, borrowed != 0);
        struct tessi_span task = {.session = SESSION, .layer = 2, .first = 5, .count = 1, .epoch = 1, .order = 9};
        struct tessi_span where = {.session = SESSION, .layer = 1, .first = 5, .count = 1, .epoch = 1, .worker = LEAVER};
        step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN, .spans = &task, .span_count = 1,
                                               .where = &where, .where_count = 1});
        if (borrowed == 0) {
            from_leaver(&bench, TESSI_FLOW_READY_OFFER, 5);
            from_leaver(&bench, TESSI_FLOW_DATA, 5);
            assert_int_equal(report(&bench)->copied.count, 1);
            take_over(&bench, 5, 1);
        } else {
            from_leaver(&bench, TESSI_FLOW_READY_LEASE, 5);
            assert_int_equal(count(&bench, TESSI_FLOW_RUN), 1);
            struct tessi_flow_action run = bench.actions.items[bench.actions.count - 1];
            take_over(&bench, 5, 1); /* a step reads it */
            assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 0);
            struct tessi_flow_outcome outcome = {.slot = run.slot, .run = run.run};
            step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1});
            assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 1);
            assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
            from_leaver(&bench, TESSI_FLOW_DATA, 5);
        }
        assert_int_equal(report(&bench)->adopted.count, 1);
        stop(&bench);
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
    stop(&bench);
    bench = start(8 * BYTES, 100 * BYTES, false);
    take_over(&bench, 0, 10);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 10);
    for (uint64_t i = 0; i < 8; i++) {
        from_leaver(&bench, TESSI_FLOW_READY_OFFER, i);
        from_leaver(&bench, TESSI_FLOW_DATA, i);
    }
    from_leaver(&bench, TESSI_FLOW_READY_OFFER, 8); /* full: what nobody here needs goes to a file */
    assert_int_equal(count(&bench, TESSI_FLOW_SPILL), 1);
    uint32_t block = bench.actions.items[0].block;
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_SPILLED, .block = block});
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
    stop(&bench);
}

/* Whatever keeps it from coming is said, so that another worker can be asked. */
static void test_said_when_it_does_not_come(void **state)
{
    (void)state;
    for (int how = 0; how < 5; how++) {
        struct bench bench = start(10 * BYTES, 0, false);
        if (how == 4) {
            step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = LEAVER});
        }
        take_over(&bench, 2, 1);
        if (how == 0) {
            from_leaver(&bench, TESSI_FLOW_ASK, 2);
        } else if (how == 1) {
            from_leaver(&bench, TESSI_FLOW_READY_OFFER, 2);
            from_leaver(&bench, TESSI_FLOW_ASK, 2);
        } else if (how == 2) {
            step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = LEAVER});
        } else if (how == 3) {
            from_leaver(&bench, TESSI_FLOW_READY_OFFER, 2);
            step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = LEAVER});
        }
        const struct tessi_report *said = report(&bench);
        assert_int_equal(said->missing.count, 1);
        assert_int_equal(said->missing.items[0].first, 2);
        assert_int_equal(said->adopted.count, 0);
        assert_int_equal(blocks(&bench), 0);
        stop(&bench);
    }
}

static void test_freed_on_its_way(void **state)
{
    (void)state;
    struct bench bench = start(10 * BYTES, 0, false);
    take_over(&bench, 1, 2);
    from_leaver(&bench, TESSI_FLOW_READY_OFFER, 1);
    free_block(&bench, 1, 1); /* being pulled */
    free_block(&bench, 1, 2); /* asked for */
    from_leaver(&bench, TESSI_FLOW_DATA, 1);
    from_leaver(&bench, TESSI_FLOW_READY_OFFER, 2);
    assert_int_equal(blocks(&bench), 0);
    assert_int_equal(report(&bench)->adopted.count, 0);
    /* Names that do not exist change nothing. */
    struct tessi_span wrong[] = {{.session = SESSION, .layer = 9, .first = 0, .count = 3, .worker = LEAVER},
                                 {.session = SESSION, .layer = 1, .first = 99, .count = UINT64_MAX, .worker = LEAVER},
                                 {.session = SESSION, .layer = 1, .first = 0, .count = 1, .worker = 0}};
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_TAKE_OVER, .spans = wrong, .span_count = 3});
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(total(&report(&bench)->missing), 4);
    stop(&bench);
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
