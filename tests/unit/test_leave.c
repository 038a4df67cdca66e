/* Workers that leave in good order, and such as come: the scheduler machine driven by hand against workers that do at
 * once what they are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/sched/explain/explain.h"
#include "core/sched/sched.h"

enum { CLIENT = 1000, WORKERS = 4, BLOCK = 800, S_NS = 1000000000 };

struct world {
    struct tessi_sched *sched;
    struct tessi_sched_actions actions;
    int64_t now_ns;
    struct tessi_spans tasks[WORKERS + 1];  /* given, not reported */
    struct tessi_spans offers[WORKERS + 1]; /* TAKE_OVER, not answered */
    struct tessi_spans asked[WORKERS + 1];  /* STEAL */
    uint64_t freed[WORKERS + 1];
    uint32_t done_layer, left;
    struct tessi_sched_leave_counts counts;
};

static uint64_t total(const struct tessi_spans *spans)
{
    uint64_t tasks = 0;
    for (size_t i = 0; i < spans->count; i++) {
        tasks += spans->items[i].count;
    }
    return tasks;
}

static void append(struct tessi_spans *to, const struct tessi_sched_action *action)
{
    for (size_t s = 0; s < action->span_count; s++) {
        tessi_spans_push(to, action->spans[s]);
    }
}

static void step(struct world *world, struct tessi_sched_event event)
{
    world->now_ns += 1000;
    event.now_ns = world->now_ns;
    tessi_sched_step(world->sched, &event, &world->actions);
    tessi_sched_verify(world->sched);
    for (size_t i = 0; i < world->actions.count; i++) {
        const struct tessi_sched_action *action = &world->actions.items[i];
        if (action->kind == TESSI_SCHED_ASSIGN) {
            append(&world->tasks[action->peer], action);
        } else if (action->kind == TESSI_SCHED_TAKE_OVER) {
            append(&world->offers[action->peer], action);
        } else if (action->kind == TESSI_SCHED_STEAL) {
            append(&world->asked[action->peer], action);
        } else if (action->kind == TESSI_SCHED_FREE) {
            struct tessi_spans spans = {(struct tessi_span *)(uintptr_t)action->spans, action->span_count, 0};
            world->freed[action->peer] += total(&spans);
        } else if (action->kind == TESSI_SCHED_DONE) {
            world->done_layer = action->layer_id;
        } else if (action->kind == TESSI_SCHED_LEFT) {
            world->left = action->peer;
            world->counts = action->leave;
        }
    }
}

static void join(struct world *world, uint32_t id)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = id};
    event.worker = (struct tessi_worker_info){.slots = 1, .memory_bytes = 1 << 24};
    (void)snprintf(event.worker.family, sizeof event.worker.family, "plain");
    step(world, event);
}

/* `tasks` tasks without inputs, whose blocks cannot be made again without running them (or can: generated). */
static void start(struct world *world, uint32_t workers, int64_t tasks, bool generated)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    *world = (struct world){.sched = tessi_sched_create(&config)};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
    for (uint32_t w = 1; w <= workers; w++) {
        join(world, w);
    }
    struct tessi_layer *layer =
        tessi_layer_create(CLIENT, 1, generated ? TESSI_OP_UNIFORM : TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {1, {tasks * BLOCK / 8}};
    int64_t chunk = BLOCK / 8;
    tessi_grid_regular(&layer->grid, &shape, &chunk);
    layer->as.random.high = generated ? 1 : 0;
    uint32_t wanted = 1;
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                           .peer = CLIENT,
                                           .layers = &layer,
                                           .layer_count = 1,
                                           .ids = &wanted,
                                           .id_count = 1});
}

static void stop(struct world *world)
{
    for (size_t w = 0; w <= WORKERS; w++) {
        tessi_spans_fini(&world->tasks[w]);
        tessi_spans_fini(&world->offers[w]);
        tessi_spans_fini(&world->asked[w]);
    }
    tessi_sched_destroy(world->sched);
}

/* Take the first task of the first span of a list. */
static bool take_one(struct tessi_spans *list, struct tessi_span *one)
{
    if (list->count == 0) {
        return false;
    }
    *one = list->items[0];
    one->count = 1;
    if (--list->items[0].count == 0) {
        for (size_t i = 1; i < list->count; i++) {
            list->items[i - 1] = list->items[i];
        }
        list->count--;
    } else {
        list->items[0].first++;
    }
    return true;
}

enum word { STARTED, DONE, ADOPTED, MISSING, STOLEN };

static void say(struct world *world, uint32_t worker, enum word word, struct tessi_span span)
{
    struct tessi_report report = {0};
    struct tessi_spans *lists[] = {&report.started, &report.done, &report.adopted, &report.missing, &report.stolen};
    tessi_spans_push(lists[word], span);
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = worker, .report = &report});
    tessi_report_fini(&report);
}

static void finish(struct world *world, uint32_t workers)
{
    struct tessi_span one;
    for (bool any = true; any;) {
        any = false;
        for (uint32_t w = 1; w <= workers; w++) {
            while (take_one(&world->tasks[w], &one)) {
                say(world, w, DONE, one);
                any = true;
            }
        }
    }
}

static void leave(struct world *world, uint32_t worker, int64_t wait_ns)
{
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVING, .peer = worker, .wait_ns = wait_ns});
}

static struct tessi_sched_status status(const struct world *world)
{
    struct tessi_sched_status figures;
    tessi_sched_status(world->sched, &figures);
    return figures;
}

static void test_blocks_are_handed_over(void **state)
{
    (void)state;
    struct world world;
    struct tessi_span one;
    start(&world, 2, 20, false);
    finish(&world, 2);
    assert_int_equal(world.done_layer, 1);
    leave(&world, 1, 10 * (int64_t)S_NS);
    uint64_t offered = total(&world.offers[2]);
    assert_true(offered > 0);
    assert_int_equal(world.offers[1].count, 0);
    assert_int_equal(world.left, 0);
    uint64_t freed = world.freed[1];
    for (uint64_t i = 0; i < offered; i++) {
        assert_int_equal(world.left, 0);
        assert_int_equal(world.freed[1], freed + i); /* not before the other one has it */
        assert_true(take_one(&world.offers[2], &one));
        assert_int_equal(one.worker, 1);
        say(&world, 2, ADOPTED, one);
    }
    assert_int_equal(world.left, 1);
    assert_int_equal(world.counts.handed_blocks, offered);
    assert_int_equal(world.counts.handed_bytes, offered * BLOCK);
    assert_int_equal(world.counts.lost_blocks + world.counts.remade_blocks, 0);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 1});
    assert_int_equal(status(&world).workers_lost, 0);
    assert_int_equal(status(&world).workers_left, 1);
    assert_int_equal(status(&world).tasks_rerun, 0);
    assert_int_equal(world.tasks[2].count, 0);
    stop(&world);
}

/* Who has no room says so, and the next one is asked; with nobody left the block is made again. */
static void test_next_receiver(void **state)
{
    (void)state;
    struct world world;
    struct tessi_span one;
    start(&world, 3, 9, false);
    finish(&world, 3);
    leave(&world, 1, 10 * (int64_t)S_NS);
    uint64_t offers = total(&world.offers[2]) + total(&world.offers[3]);
    for (uint32_t w = 2; w <= 3; w++) {
        while (take_one(&world.offers[w], &one)) {
            say(&world, w, MISSING, one);
        }
    }
    while (take_one(&world.offers[2], &one)) {
        say(&world, 2, MISSING, one);
    }
    assert_int_equal(world.left, 1);
    assert_int_equal(world.counts.handed_blocks, 0);
    assert_int_equal(world.counts.lost_blocks, offers);
    finish(&world, 3);
    assert_int_equal(status(&world).tasks_rerun, offers);
    stop(&world);
}

/* A full worker's block that nobody has room for is offered again later, under another epoch: the refusal of the first
 * offer may come a second time. */
static void test_attempts_differ(void **state)
{
    (void)state;
    struct world world;
    struct tessi_span mine, first, second;
    start(&world, 2, 4, false);
    assert_true(take_one(&world.tasks[1], &mine));
    say(&world, 1, DONE, mine);
    finish(&world, 2);
    struct tessi_report full = {.short_bytes = BLOCK, .memory_used_bytes = 4 * BLOCK};
    tessi_spans_push(&full.starved, (struct tessi_span){.session = CLIENT, .layer = 1, .count = 1, .order = 1});
    tessi_spans_push(&full.shed, mine);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = 1, .report = &full});
    tessi_report_fini(&full);
    assert_true(take_one(&world.offers[2], &first));
    say(&world, 2, MISSING, first);
    for (int i = 0; i < 3 && world.offers[2].count == 0; i++) {
        world.now_ns += S_NS;
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    }
    assert_true(take_one(&world.offers[2], &second));
    assert_int_equal(second.first, first.first);
    assert_true(second.epoch > first.epoch);
    say(&world, 2, MISSING, first);
    uint64_t freed = world.freed[1];
    say(&world, 2, ADOPTED, second);
    assert_int_equal(world.freed[1], freed + 1);
    stop(&world);
}

static void test_generated_blocks_are_not(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2, 8, true);
    finish(&world, 2);
    leave(&world, 1, 10 * (int64_t)S_NS);
    assert_int_equal(world.offers[2].count, 0);
    assert_int_equal(world.left, 1);
    assert_int_equal(world.counts.lost_blocks, 0);
    assert_true(world.counts.remade_blocks > 0);
    stop(&world);
}

/* What has not started goes elsewhere, what runs ends; nothing new comes. */
static void test_work_goes_elsewhere(void **state)
{
    (void)state;
    struct world world;
    struct tessi_span running, one;
    start(&world, 2, 40, false);
    assert_true(take_one(&world.tasks[1], &running));
    say(&world, 1, STARTED, running);
    leave(&world, 1, 10 * (int64_t)S_NS);
    world.tasks[1].count = 0;
    while (take_one(&world.asked[1], &one)) {
        assert_false(one.first == running.first);
        say(&world, 1, STOLEN, one);
    }
    finish(&world, 2);
    assert_int_equal(world.tasks[1].count, 0);
    assert_int_equal(world.left, 0);
    assert_int_equal(world.done_layer, 0);
    say(&world, 1, DONE, running);
    assert_int_equal(world.done_layer, 1);
    assert_true(take_one(&world.offers[2], &one));
    assert_int_equal(one.first, running.first);
    say(&world, 2, ADOPTED, one);
    assert_int_equal(world.left, 1);
    assert_int_equal(status(&world).tasks_rerun, 0);
    stop(&world);
}

static void test_time_is_over(void **state)
{
    (void)state;
    struct world world;
    struct tessi_span running, one;
    start(&world, 2, 4, false);
    assert_true(take_one(&world.tasks[1], &running));
    say(&world, 1, STARTED, running);
    leave(&world, 1, S_NS);
    assert_true(world.actions.wake_ns <= world.now_ns + S_NS);
    world.now_ns += S_NS;
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    assert_int_equal(world.left, 1);
    say(&world, 1, DONE, running); /* too late */
    while (take_one(&world.asked[1], &one)) {
        say(&world, 1, STOLEN, one);
    }
    world.tasks[1].count = 0;
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 1});
    finish(&world, 2);
    assert_int_equal(world.done_layer, 1);
    assert_int_equal(status(&world).tasks_rerun, 1);
    stop(&world);
}

/* The receiver dies, or wants to leave itself, before it has the blocks; the last one is told nothing at all. */
static void test_receiver_goes(void **state)
{
    (void)state;
    for (int dies = 0; dies < 2; dies++) {
        struct world world;
        struct tessi_span one;
        start(&world, 3, 12, false);
        finish(&world, 3);
        leave(&world, 1, 10 * (int64_t)S_NS);
        struct tessi_span late = {0};
        assert_true(take_one(&world.offers[2], &late));
        world.offers[2].count = 0;
        if (dies) {
            step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 2});
        } else {
            leave(&world, 2, 10 * (int64_t)S_NS);
            say(&world, 2, ADOPTED, late); /* it is to be forgotten there */
        }
        while (take_one(&world.offers[3], &one)) {
            say(&world, 3, ADOPTED, one);
        }
        finish(&world, 3);
        assert_int_equal(status(&world).workers_lost, dies);
        assert_int_equal(status(&world).tasks_rerun == 0, !dies);
        leave(&world, 3, 10 * (int64_t)S_NS); /* nobody is left */
        assert_int_equal(world.left, 3);
        stop(&world);
    }
}

/* A worker that comes while a graph runs gets its share as soon as another has confirmed that it has not started it. */
static void test_newcomer_gets_work_at_once(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2, 4000, false);
    struct tessi_span one;
    for (int i = 0; i < 50; i++) {
        for (uint32_t w = 1; w <= 2; w++) {
            assert_true(take_one(&world.tasks[w], &one));
            one.time_ns = 20000000;
            say(&world, w, DONE, one);
        }
    }
    join(&world, 3);
    for (uint32_t w = 1; w <= 2; w++) {
        while (take_one(&world.asked[w], &one)) {
            say(&world, w, STOLEN, one);
        }
    }
    assert_true(total(&world.tasks[3]) > 0);
    struct tessi_sched_worker_status given;
    tessi_sched_worker_status(world.sched, 2, &given);
    assert_true(given.queue_seconds > 0.2 * 3900 * 0.02); /* a third would be fair, and half of one queue comes first */
    stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_handed_over),
        cmocka_unit_test(test_next_receiver),
        cmocka_unit_test(test_generated_blocks_are_not),
        cmocka_unit_test(test_work_goes_elsewhere),
        cmocka_unit_test(test_time_is_over),
        cmocka_unit_test(test_receiver_goes),
        cmocka_unit_test(test_newcomer_gets_work_at_once),
        cmocka_unit_test(test_attempts_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
