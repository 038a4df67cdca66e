/* Actions that wait for bytes which a device has: whose turn it is, and what is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/deferred.h"

#define CPU_SLOTS 2

/* A worker whose devices have the blocks below `away`. */
struct tessi_gpus {
    uint32_t away;
};
struct tessi_store {
    int nothing;
};
struct tessi_block {
    int refs;
};

static struct tessi_block the_block;

uint64_t tessi_gpus_want(struct tessi_gpus *gpus, uint32_t handle)
{
    return handle < gpus->away ? 100 + handle : 0;
}

bool tessi_gpus_apart(const struct tessi_gpus *gpus, const struct tessi_flow_action *action, uint32_t handle)
{
    (void)action;
    return handle + 1 < gpus->away; /* the last of them is where the step goes */
}

struct tessi_block *tessi_store_block(const struct tessi_store *store, uint32_t handle, bool spilled)
{
    (void)store;
    (void)handle;
    (void)spilled;
    return &the_block;
}

struct tessi_block *tessi_block_ref(struct tessi_block *block)
{
    block->refs++;
    return block;
}

void tessi_block_unref(struct tessi_block *block)
{
    block->refs--;
}

struct bench {
    struct tessi_gpus gpus;
    struct tessi_store store;
    struct tessi_deferred *deferred;
};

static int begin(void **state)
{
    static struct bench bench;
    bench = (struct bench){.gpus = {3}};
    bench.deferred = tessi_deferred_create(&bench.gpus, &bench.store, CPU_SLOTS);
    *state = &bench;
    return 0;
}

static int end(void **state)
{
    struct bench *bench = *state;
    tessi_deferred_destroy(bench->deferred);
    assert_int_equal(the_block.refs, 0);
    return 0;
}

static struct tessi_flow_action run(uint32_t slot, uint64_t number, uint32_t in)
{
    return (struct tessi_flow_action){
        .kind = TESSI_FLOW_RUN, .slot = slot, .run = number, .block = 9, .out = 9, .in_count = 1, .in = {in}};
}

static struct tessi_flow_action word(enum tessi_flow_action_kind kind, uint32_t peer, uint32_t block)
{
    return (struct tessi_flow_action){.kind = kind, .peer = peer, .block = block};
}

static bool hold(struct bench *bench, struct tessi_flow_action action)
{
    return tessi_deferred_hold(bench->deferred, &action);
}

/* The next action that may go on must be this one. */
static void expect(struct bench *bench, enum tessi_flow_action_kind kind, uint64_t number, bool lost)
{
    struct tessi_deferred_action next;
    assert_true(tessi_deferred_next(bench->deferred, &next));
    assert_int_equal(next.action.kind, kind);
    assert_int_equal(kind == TESSI_FLOW_RUN ? next.action.run : next.action.peer, number);
    assert_int_equal(next.lost, lost);
    if (next.block != NULL) {
        tessi_block_unref(next.block);
    }
}

static void expect_nothing(struct bench *bench)
{
    struct tessi_deferred_action next;
    assert_false(tessi_deferred_next(bench->deferred, &next));
}

static void test_only_what_reads_the_hosts_bytes_waits(void **state)
{
    struct bench *bench = *state;
    assert_false(hold(bench, run(0, 1, 5)));
    assert_false(hold(bench, word(TESSI_FLOW_SEND_OFFER, 7, 0)));
    assert_false(hold(bench, word(TESSI_FLOW_ALLOC, 0, 0)));
    assert_false(hold(bench, run(CPU_SLOTS, 1, 2))); /* it is where the step goes */
    assert_true(hold(bench, run(CPU_SLOTS + 1, 1, 1)));
    assert_true(hold(bench, run(1, 1, 0)));
    assert_true(hold(bench, word(TESSI_FLOW_SPILL, 0, 2)));
    assert_true(hold(bench, word(TESSI_FLOW_SEND_BLOCK, 7, 1)));
    expect_nothing(bench);
}

static void test_slots_and_peers_keep_their_order(void **state)
{
    struct bench *bench = *state;
    assert_true(hold(bench, run(0, 1, 0)));
    assert_true(hold(bench, run(0, 2, 5)));
    assert_false(hold(bench, run(1, 1, 5)));
    assert_true(hold(bench, word(TESSI_FLOW_SEND_INLINE, 7, 1)));
    assert_true(hold(bench, word(TESSI_FLOW_SEND_REVOKE, 7, 5)));
    assert_false(hold(bench, word(TESSI_FLOW_SEND_REVOKE, 8, 5)));
    tessi_deferred_home(bench->deferred, 101);
    expect(bench, TESSI_FLOW_SEND_INLINE, 7, false);
    expect(bench, TESSI_FLOW_SEND_REVOKE, 7, false);
    expect_nothing(bench);
    tessi_deferred_home(bench->deferred, 100);
    expect(bench, TESSI_FLOW_RUN, 1, false);
    expect(bench, TESSI_FLOW_RUN, 2, false);
    expect_nothing(bench);
}

static void test_a_step_that_lost_one_input_waits_for_the_others(void **state)
{
    struct bench *bench = *state;
    struct tessi_flow_action action = run(0, 1, 0);
    action.in[action.in_count++] = 1;
    assert_true(hold(bench, action));
    tessi_deferred_lost(bench->deferred, 100);
    expect_nothing(bench);
    tessi_deferred_home(bench->deferred, 101);
    expect(bench, TESSI_FLOW_RUN, 1, true);
}

static void test_what_was_said_to_a_lost_peer_is_forgotten(void **state)
{
    struct bench *bench = *state;
    assert_true(hold(bench, word(TESSI_FLOW_SEND_LEASE, 7, 0)));
    assert_true(hold(bench, word(TESSI_FLOW_SEND_PULL, 7, 5)));
    assert_true(hold(bench, word(TESSI_FLOW_SEND_INLINE, 8, 0)));
    tessi_deferred_forget_peer(bench->deferred, 7);
    assert_false(hold(bench, word(TESSI_FLOW_SEND_ASK, 7, 5)));
    tessi_deferred_home(bench->deferred, 100);
    expect(bench, TESSI_FLOW_SEND_INLINE, 8, false);
    expect_nothing(bench);
}

/* Or steps of other slots, which come after these, would wait for ever. */
static void test_a_worker_that_goes_waits_for_nothing(void **state)
{
    struct bench *bench = *state;
    assert_true(hold(bench, run(0, 1, 0)));
    assert_true(hold(bench, run(0, 2, 5)));
    assert_true(hold(bench, word(TESSI_FLOW_SEND_INLINE, 8, 0)));
    tessi_deferred_give_up(bench->deferred);
    expect(bench, TESSI_FLOW_RUN, 1, true);
    expect(bench, TESSI_FLOW_RUN, 2, true);
    expect(bench, TESSI_FLOW_SEND_INLINE, 8, true);
    expect_nothing(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_what_reads_the_hosts_bytes_waits, begin, end),
        cmocka_unit_test_setup_teardown(test_slots_and_peers_keep_their_order, begin, end),
        cmocka_unit_test_setup_teardown(test_a_step_that_lost_one_input_waits_for_the_others, begin, end),
        cmocka_unit_test_setup_teardown(test_what_was_said_to_a_lost_peer_is_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(test_a_worker_that_goes_waits_for_nothing, begin, end),
    };
    return cmocka_run_group_tests_name("deferred", tests, NULL, NULL);
}
