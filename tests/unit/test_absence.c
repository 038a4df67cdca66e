/* A scheduler that was stopped, or busy for long, judges nobody by the time for which it was away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/sched/explain/explain.h"
#include "core/sched/sched.h"

#define SECOND INT64_C(1000000000)
#define CLIENT 1000u

struct world {
    struct tessi_sched *sched;
    struct tessi_sched_actions actions;
    int64_t now_ns;
    uint32_t byes, left, failed;
};

static void step(struct world *world, struct tessi_sched_event event)
{
    event.now_ns = world->now_ns;
    tessi_sched_step(world->sched, &event, &world->actions);
    tessi_sched_verify(world->sched);
    for (size_t i = 0; i < world->actions.count; i++) {
        world->byes += world->actions.items[i].kind == TESSI_SCHED_BYE;
        world->left += world->actions.items[i].kind == TESSI_SCHED_LEFT;
        world->failed += world->actions.items[i].kind == TESSI_SCHED_FAILED;
    }
}

static void hear(struct world *world, uint32_t worker)
{
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_HEARD, .peer = worker});
}

static void tick(struct world *world)
{
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
}

/* Ticks when they are asked for, during so many seconds. */
static void attend(struct world *world, int64_t seconds)
{
    int64_t until_ns = world->now_ns + seconds * SECOND;
    while (world->actions.wake_ns <= until_ns) {
        world->now_ns = world->actions.wake_ns > world->now_ns ? world->actions.wake_ns : world->now_ns;
        tick(world);
    }
    world->now_ns = until_ns;
}

static void start(struct world *world, uint32_t workers)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    *world = (struct world){.sched = tessi_sched_create(&config), .now_ns = 5 * SECOND};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
    for (uint32_t w = 1; w <= workers; w++) {
        struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = w};
        event.worker = (struct tessi_worker_info){.slots = 1, .memory_bytes = 1 << 30};
        (void)snprintf(event.worker.family, sizeof event.worker.family, "plain");
        step(world, event);
    }
}

static void submit(struct world *world)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, 1, TESSI_OP_UNIFORM, TESSI_F64);
    struct tessi_shape shape = {1, {100}};
    uint32_t wanted = 1;
    tessi_grid_regular(&layer->grid, &shape, (const int64_t[TESSI_NDIM_MAX]){10});
    layer->as.random.high = 1;
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                           .peer = CLIENT,
                                           .layers = &layer,
                                           .layer_count = 1,
                                           .ids = &wanted,
                                           .id_count = 1});
}

/* Whoever is silent while it is there is lost as before; stopped for a minute it takes nobody for lost, whether the tick
 * comes first or what the others said meanwhile. */
static void test_stopped(void **state)
{
    (void)state;
    struct world world;
    for (int first = 0; first < 2; first++) {
        start(&world, 2);
        attend(&world, 3);
        world.now_ns += 60 * SECOND;
        if (first == 0) {
            tick(&world);
        }
        hear(&world, 1);
        tick(&world);
        assert_int_equal(world.byes, 0);
        attend(&world, 5);
        assert_int_equal(world.byes, 0);
        hear(&world, 1);
        attend(&world, 3); /* the other has been heard for more than ten seconds by nobody who was there */
        assert_int_equal(world.byes, 1);
        tessi_sched_destroy(world.sched);
    }
}

/* Steps of two seconds, one after the other: a worker's heartbeat waits behind them. */
static void test_busy(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2);
    for (int i = 0; i < 8; i++) {
        world.now_ns += 2 * SECOND;
        hear(&world, 1);
        tick(&world);
    }
    assert_int_equal(world.byes, 0);
    hear(&world, 2);
    tick(&world);
    assert_int_equal(world.byes, 0);
    tessi_sched_destroy(world.sched);
}

/* Nor is the time for leaving over, nor that for which work waits for a worker. */
static void test_other_limits(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    submit(&world);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVING, .peer = 1, .wait_ns = 20 * SECOND});
    world.now_ns += 60 * SECOND;
    hear(&world, 1);
    tick(&world);
    assert_int_equal(world.left, 0);
    for (int second = 0; second < 21; second++) {
        attend(&world, 1);
        hear(&world, 1);
    }
    assert_int_equal(world.left, 1);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 1});
    world.now_ns += 60 * SECOND;
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_HEARD, .peer = CLIENT});
    assert_int_equal(world.failed, 0);
    attend(&world, 6);
    assert_int_equal(world.failed, 1);
    tessi_sched_destroy(world.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_other_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
