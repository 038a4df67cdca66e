/* Devices of a worker, emulated: whose bytes are where when one of them breaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "core/base/alloc.h"
#include "worker/gpu/gpus.h"

#define SLOT 1 /* the first that is not the processor's */

struct bench {
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool awake;
    struct tessi_gpus *gpus;
    struct tessi_store *store;
    struct tessi_trace *trace;
    struct tessi_layer *layer;
};

static void wake(void *context)
{
    struct bench *bench = context;
    (void)pthread_mutex_lock(&bench->lock);
    bench->awake = true;
    (void)pthread_cond_signal(&bench->woken);
    (void)pthread_mutex_unlock(&bench->lock);
}

/* Blocks of 64 numbers each that are made of nothing. */
static struct tessi_layer *source(void)
{
    struct tessi_layer *layer = tessi_layer_create(1, 1, TESSI_OP_UNIFORM, TESSI_F64);
    struct tessi_shape shape = {1, {512}};
    int64_t chunk = 64;
    tessi_grid_regular(&layer->grid, &shape, &chunk);
    layer->as.random.high = 1;
    return layer;
}

static void begin(struct bench *bench, const char *spec)
{
    *bench = (struct bench){.lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER, .layer = source()};
    struct tessi_error error;
    struct tessi_store_config store = {.memory_bytes = 1 << 20, .anonymous = true, .wake = wake, .context = bench};
    struct tessi_gpus_config config = {.gpus = spec, .wake = wake, .context = bench};
    assert_int_equal(tessi_store_create(&store, &bench->store, &error), TESSI_OK);
    assert_int_equal(tessi_gpus_find(&config, &bench->gpus, &error), TESSI_OK);
    bench->trace = tessi_trace_create(64);
    assert_int_equal(tessi_gpus_open(bench->gpus, NULL, bench->store, bench->trace, &error), TESSI_OK);
}

static void end(struct bench *bench)
{
    tessi_gpus_stop(bench->gpus);
    tessi_store_destroy(bench->store);
    tessi_gpus_destroy(bench->gpus);
    tessi_trace_destroy(bench->trace);
    tessi_layer_destroy(bench->layer);
}

/* Block n of the layer goes by handle n. */
static void run(struct bench *bench, uint32_t block)
{
    struct tessi_error error;
    struct tessi_flow_action action = {.kind = TESSI_FLOW_RUN, .task = {1, 1, block}, .block = block, .out = block,
                                       .slot = SLOT + block, .run = 1, .steps = 1, .layer = bench->layer};
    uint64_t bytes = tessi_layer_block_bytes(bench->layer, block);
    assert_int_equal(tessi_store_alloc(bench->store, block, bytes, &error), TESSI_OK);
    tessi_gpus_place(bench->gpus, &action);
    tessi_gpus_run(bench->gpus, &action);
    tessi_gpus_kick(bench->gpus);
}

/* The next outcome, or several steps of which there is one. */
static struct tessi_gpus_outcome take(struct bench *bench)
{
    struct tessi_gpus_outcome outcome;
    while (tessi_gpus_take(bench->gpus, &outcome, 1) == 0) {
        tessi_gpus_kick(bench->gpus);
        (void)pthread_mutex_lock(&bench->lock);
        while (!bench->awake) {
            (void)pthread_cond_wait(&bench->woken, &bench->lock);
        }
        bench->awake = false;
        (void)pthread_mutex_unlock(&bench->lock);
    }
    tessi_free(outcome.text);
    outcome.text = NULL;
    return outcome;
}

static void expect_step(struct bench *bench, uint32_t block, enum tessi_status status)
{
    struct tessi_gpus_outcome outcome = take(bench);
    assert_int_equal(outcome.kind, TESSI_GPUS_STEP);
    assert_int_equal(outcome.step.slot, SLOT + block);
    assert_int_equal(outcome.step.status, status);
    assert_false(outcome.step.elsewhere);
}

/* Block 0 is made, and the device breaks under the step that makes block 1. */
static void break_under_the_second(struct bench *bench)
{
    begin(bench, "emulated:memory=1MiB,break=2");
    run(bench, 0);
    expect_step(bench, 0, TESSI_OK);
    assert_true(tessi_gpus_away(bench->gpus, 0));
    run(bench, 1);
    expect_step(bench, 1, TESSI_CANCELLED);
    assert_int_equal(tessi_gpus_alive(bench->gpus), 0);
}

/* Whoever hears of the step first must not take the host's stale bytes for the block. */
static void test_a_lost_block_is_away_until_it_is_told(void **state)
{
    (void)state;
    struct bench bench;
    break_under_the_second(&bench);
    assert_true(tessi_gpus_away(bench.gpus, 0));
    uint64_t ticket = tessi_gpus_want(bench.gpus, 0);
    assert_int_not_equal(ticket, 0);
    assert_int_equal(tessi_gpus_want(bench.gpus, 0), ticket);
    struct tessi_gpus_outcome outcome = take(&bench);
    assert_int_equal(outcome.kind, TESSI_GPUS_LOST);
    assert_int_equal(outcome.handle, 0);
    assert_int_equal(outcome.ticket, ticket);
    assert_false(tessi_gpus_away(bench.gpus, 0));
    tessi_gpus_forget(bench.gpus, 0);
    assert_int_equal(tessi_gpus_want(bench.gpus, 0), 0);
    end(&bench);
}

/* The handle may be another block's by then; who waits for the bytes is told all the same. */
static void test_a_lost_block_that_was_forgotten(void **state)
{
    (void)state;
    for (int wanted = 0; wanted < 2; wanted++) {
        struct bench bench;
        break_under_the_second(&bench);
        uint64_t ticket = wanted > 0 ? tessi_gpus_want(bench.gpus, 0) : 0;
        tessi_gpus_forget(bench.gpus, 0);
        assert_false(tessi_gpus_away(bench.gpus, 0));
        struct tessi_gpus_outcome outcome = take(&bench);
        assert_int_equal(outcome.kind, TESSI_GPUS_LOST);
        assert_int_equal(outcome.handle, UINT32_MAX);
        assert_int_equal(outcome.ticket, ticket);
        end(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lost_block_is_away_until_it_is_told),
        cmocka_unit_test(test_a_lost_block_that_was_forgotten),
    };
    return cmocka_run_group_tests_name("gpus", tests, NULL, NULL);
}
