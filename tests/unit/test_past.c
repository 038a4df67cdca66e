/* What is gone costs the scheduler nothing: neither sessions nor workers that have been here leave a place behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/sched/explain/explain.h"
#include "core/sched/state/state.h"

static struct tessi_sched_actions actions;

static void step(struct tessi_sched *sched, struct tessi_sched_event event)
{
    event.now_ns = sched->now_ns + 1000;
    tessi_sched_step(sched, &event, &actions);
    tessi_sched_verify(sched);
}

static void join(struct tessi_sched *sched, uint32_t id)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = id};
    event.worker = (struct tessi_worker_info){.slots = 1, .memory_bytes = 1 << 30};
    (void)snprintf(event.worker.family, sizeof event.worker.family, "plain");
    step(sched, event);
}

static void submit_numbers(struct tessi_sched *sched, uint32_t client)
{
    struct tessi_layer *layer = tessi_layer_create(client, 1, TESSI_OP_UNIFORM, TESSI_F64);
    struct tessi_shape shape = {1, {100}};
    uint32_t wanted = 1;
    tessi_grid_regular(&layer->grid, &shape, (const int64_t[TESSI_NDIM_MAX]){10});
    layer->as.random.high = 1;
    step(sched, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                           .peer = client,
                                           .layers = &layer,
                                           .layer_count = 1,
                                           .ids = &wanted,
                                           .id_count = 1});
}

/* Three at a time come and go, with work under way; their ids are new each time, and status lists them as they came. */
static void test_workers_and_sessions(void **state)
{
    (void)state;
    struct tessi_sched_config config = tessi_sched_config_default();
    struct tessi_sched *sched = tessi_sched_create(&config);
    uint32_t peers = 3;
    for (uint32_t w = 1; w <= peers; w++) {
        join(sched, w);
    }
    for (uint32_t turn = 0; turn < 1000; turn++) {
        uint32_t client = ++peers, gone = turn < 3 ? turn + 1 : 2 * (turn - 3) + 5;
        step(sched, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = client});
        submit_numbers(sched, client);
        step(sched, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = gone});
        join(sched, ++peers);
        for (size_t w = 1; w < 3; w++) {
            struct tessi_sched_worker_status before, after;
            tessi_sched_worker_status(sched, w - 1, &before);
            tessi_sched_worker_status(sched, w, &after);
            assert_true(before.id < after.id);
        }
        if (turn % 2 == 1) { /* the older of two */
            step(sched, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_LEAVE, .peer = client - 2});
            step(sched, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_LEAVE, .peer = client});
        }
    }
    struct tessi_sched_status status;
    tessi_sched_status(sched, &status);
    assert_int_equal(status.workers, 3);
    assert_int_equal(status.workers_joined, 1003);
    assert_int_equal(status.layers, 0);
    assert_int_equal(sched->worker_count, 3);
    assert_int_equal(sched->session_count, 0);
    tessi_sched_destroy(sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_workers_and_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
