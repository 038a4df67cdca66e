/* The scheduler machine, driven by hand: one event at a time against an obedient or a failing worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/sched/explain/explain.h"
#include "core/sched/sched.h"
#include "tests/unit/sched_events.h"

#define CLIENT 1000u

struct world {
    struct tessi_sched *sched;
    struct tessi_sched_actions actions;
    int64_t now_ns;
    struct tessi_spans pending[8]; /* assigned to worker id and not reported yet */
    uint32_t done_layer, failed_layer;
    enum tessi_status failed_status, refused;
    char text[512];
    uint64_t freed[8], stolen;
    uint64_t located;                /* answers to the client */
    uint32_t location;               /* of the last one */
    struct tessi_spans take_over[8]; /* told to worker id, who has not said that it did */
    uint32_t detached;
};

static void take_actions(struct world *world)
{
    for (size_t i = 0; i < world->actions.count; i++) {
        const struct tessi_sched_action *action = &world->actions.items[i];
        if (action->kind == TESSI_SCHED_ASSIGN) {
            for (size_t s = 0; s < action->span_count; s++) {
                tessi_spans_push(&world->pending[action->peer], action->spans[s]);
            }
        } else if (action->kind == TESSI_SCHED_DONE) {
            world->done_layer = action->layer_id;
        } else if (action->kind == TESSI_SCHED_FAILED) {
            world->failed_layer = action->layer_id;
            world->failed_status = action->status;
            (void)snprintf(world->text, sizeof world->text, "%s", action->text);
        } else if (action->kind == TESSI_SCHED_REFUSED) {
            world->refused = action->status;
            (void)snprintf(world->text, sizeof world->text, "%s", action->text);
        } else if (action->kind == TESSI_SCHED_FREE) {
            for (size_t s = 0; s < action->span_count; s++) {
                world->freed[action->peer] += action->spans[s].count;
            }
        } else if (action->kind == TESSI_SCHED_LOCATION && action->peer == CLIENT) {
            world->located++;
            world->location = action->spans[0].worker;
        } else if (action->kind == TESSI_SCHED_TAKE_OVER) {
            for (size_t s = 0; s < action->span_count; s++) {
                tessi_spans_push(&world->take_over[action->peer], action->spans[s]);
            }
        } else if (action->kind == TESSI_SCHED_DETACHED) {
            world->detached = action->ids[0];
        } else if (action->kind == TESSI_SCHED_STEAL) {
            for (size_t s = 0; s < action->span_count; s++) {
                world->stolen += action->spans[s].count;
            }
        }
    }
}

static void step(struct world *world, struct tessi_sched_event event)
{
    world->now_ns += 1000;
    event.now_ns = world->now_ns;
    tessi_sched_step(world->sched, &event, &world->actions);
    tessi_sched_verify(world->sched);
    take_actions(world);
}

static void join(struct world *world, uint32_t id, uint64_t memory_bytes)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = id};
    event.worker = (struct tessi_worker_info){.slots = 1, .memory_bytes = memory_bytes};
    (void)snprintf(event.worker.family, sizeof event.worker.family, "plain");
    step(world, event);
}

static void start_with(struct world *world, uint32_t workers, uint64_t lookups)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    config.lookups_per_step = lookups;
    *world = (struct world){.sched = tessi_sched_create(&config)};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
    for (uint32_t w = 1; w <= workers; w++) {
        join(world, w, 1 << 30);
    }
}

static void start(struct world *world, uint32_t workers)
{
    start_with(world, workers, tessi_sched_config_default().lookups_per_step);
}

static void stop(struct world *world)
{
    for (size_t w = 0; w < 8; w++) {
        tessi_spans_fini(&world->pending[w]);
        tessi_spans_fini(&world->take_over[w]);
    }
    tessi_sched_destroy(world->sched);
}

static struct tessi_layer *source(uint32_t id, int64_t rows, int64_t columns, int64_t chunk)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_UNIFORM, TESSI_F64);
    struct tessi_shape shape = {2, {rows, columns}};
    int64_t chunks[2] = {chunk, chunk};
    tessi_grid_regular(&layer->grid, &shape, chunks);
    layer->as.random.high = 1;
    return layer;
}

static void add_input(struct tessi_layer *layer, const struct tessi_layer *input, struct tessi_rule row,
                      struct tessi_rule column)
{
    struct tessi_input *slot = tessi_layer_add_input(layer, input->id);
    slot->dtype = input->dtype;
    tessi_grid_copy(&slot->grid, &input->grid);
    slot->rules.ndim = 2;
    slot->rules.rule[0] = row;
    slot->rules.rule[1] = column;
}

static struct tessi_layer *product(uint32_t id, const struct tessi_layer *a, const struct tessi_layer *b, int64_t chunk)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_MATMUL, TESSI_F64);
    struct tessi_shape shape = {2, {a->grid.axis[0].extent, b->grid.axis[1].extent}};
    int64_t chunks[2] = {chunk, chunk};
    tessi_grid_regular(&layer->grid, &shape, chunks);
    struct tessi_rule all = {.kind = TESSI_RULE_ALL};
    add_input(layer, a, (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0}, all);
    add_input(layer, b, all, (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1});
    layer->as.matmul.segment = a->grid.axis[1].extent;
    return layer;
}

static void submit(struct world *world, struct tessi_layer **layers, size_t count, uint32_t wanted)
{
    step(world, submission(CLIENT, layers, count, &wanted, 1));
}

static void submit_product(struct world *world)
{
    struct tessi_layer *layers[3];
    layers[0] = source(1, 40, 30, 10);
    layers[1] = source(2, 30, 50, 10);
    layers[2] = product(3, layers[0], layers[1], 10);
    submit(world, layers, 3, 3);
}

/* Report the first pending task of a worker done. */
static bool finish_one(struct world *world, uint32_t id)
{
    struct tessi_spans *pending = &world->pending[id];
    if (pending->count == 0) {
        return false;
    }
    struct tessi_span one = pending->items[0];
    one.count = 1;
    one.time_ns = 1000000;
    struct tessi_report report = {0};
    tessi_spans_push(&report.started, one);
    tessi_spans_push(&report.done, one);
    pending->items[0].first++;
    if (--pending->items[0].count == 0) {
        memmove(pending->items, pending->items + 1, --pending->count * sizeof *pending->items);
    }
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = id, .report = &report});
    tessi_report_fini(&report);
    return true;
}

static void finish_all(struct world *world, uint32_t workers)
{
    for (bool any = true; any;) {
        any = false;
        for (uint32_t w = 1; w <= workers; w++) {
            any = finish_one(world, w) || any;
        }
    }
}

static struct tessi_sched_status status_of(const struct world *world)
{
    struct tessi_sched_status status;
    tessi_sched_status(world->sched, &status);
    return status;
}

static void test_product_completes(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2);
    submit_product(&world);
    finish_all(&world, 2);
    assert_int_equal(world.done_layer, 3);
    struct tessi_sched_status status = status_of(&world);
    assert_int_equal(status.tasks_done, 12 + 15 + 20);
    assert_int_equal(status.tasks_rerun, 0);
    assert_int_equal(status.tasks_waiting, 0);
    assert_true(world.freed[1] + world.freed[2] >= 27); /* the operands, once nobody reads them */
    uint32_t all[3] = {1, 2, 3};
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_RELEASE, .peer = CLIENT, .ids = all, .id_count = 3});
    assert_int_equal(status_of(&world).layers, 0);
    stop(&world);
}

/* A worker dies at every point of the run; what it held is made again and the product completes. */
static void test_death_at_each_point(void **state)
{
    (void)state;
    for (int point = 0; point < 47; point++) {
        struct world world;
        start(&world, 3);
        submit_product(&world);
        for (int i = 0; i < point; i++) {
            (void)finish_one(&world, 1 + (uint32_t)i % 3);
        }
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 2});
        world.pending[2].count = 0;
        finish_all(&world, 3);
        assert_int_equal(world.done_layer, 3);
        assert_int_equal(status_of(&world).workers_lost, 1);
        stop(&world);
    }
}

static void test_stale_report_is_dropped(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2);
    submit_product(&world);
    assert_true(world.pending[1].count > 0);
    struct tessi_report report = {0};
    struct tessi_span stale = world.pending[1].items[0];
    stale.count = 1;
    stale.epoch++;
    tessi_spans_push(&report.done, stale);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = 1, .report = &report});
    tessi_report_fini(&report);
    assert_int_equal(status_of(&world).tasks_done, 0);
    assert_int_equal(status_of(&world).stale_reports, 1);
    finish_all(&world, 2);
    assert_int_equal(world.done_layer, 3);
    stop(&world);
}

static void test_running_task_is_blamed_three_times(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    struct tessi_layer *layers[1] = {source(1, 10, 10, 10)};
    submit(&world, layers, 1, 1);
    for (uint32_t w = 1; w <= 3; w++) {
        assert_int_equal(world.failed_layer, 0);
        join(&world, w, 1 << 30);
        assert_int_equal(world.pending[w].count, 1);
        struct tessi_report report = {0};
        tessi_spans_push(&report.started, world.pending[w].items[0]);
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = w, .report = &report});
        tessi_report_fini(&report);
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = w});
    }
    assert_int_equal(world.failed_layer, 1);
    assert_int_equal(world.failed_status, TESSI_LOST);
    stop(&world);
}

static void test_too_big_is_refused(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    join(&world, 1, 100 << 10);
    struct tessi_layer *large_task[1] = {source(1, 200, 200, 200)};
    submit(&world, large_task, 1, 1);
    assert_int_equal(world.refused, TESSI_TOO_BIG);
    assert_non_null(strstr(world.text, "smaller chunks"));
    struct tessi_layer *large_result[1] = {source(1, 200, 200, 50)};
    submit(&world, large_result, 1, 1);
    assert_non_null(strstr(world.text, "results to be held"));
    assert_int_equal(status_of(&world).layers, 0);
    stop(&world);
}

static void test_no_workers_fails_in_time(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    struct tessi_layer *layers[1] = {source(1, 10, 10, 10)};
    submit(&world, layers, 1, 1);
    for (int second = 0; second < 7; second++) {
        world.now_ns = world.actions.wake_ns;
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    }
    assert_int_equal(world.failed_status, TESSI_NO_WORKERS);
    stop(&world);
}

static void test_idle_worker_steals(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    struct tessi_layer *layers[1] = {source(1, 100, 100, 10)};
    submit(&world, layers, 1, 1);
    join(&world, 2, 1 << 30);
    (void)finish_one(&world, 1);
    assert_true(world.pending[2].count > 0 || world.stolen > 0);
    stop(&world);
}

static void test_failure_poisons_dependents_only(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    submit_product(&world);
    struct tessi_layer *other[1] = {source(9, 10, 10, 10)};
    submit(&world, other, 1, 9);
    struct tessi_failure failure = {.status = TESSI_IO, .text = "the disk is gone"};
    struct tessi_span span = world.pending[1].items[0];
    failure.task = (struct tessi_task){span.session, span.layer, span.first};
    failure.epoch = span.epoch;
    struct tessi_report report = {.failures = &failure, .failure_count = 1};
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = 1, .report = &report});
    world.pending[1].items[0].first++;
    if (--world.pending[1].items[0].count == 0) {
        memmove(world.pending[1].items, world.pending[1].items + 1,
                --world.pending[1].count * sizeof *world.pending[1].items);
    }
    assert_int_equal(world.failed_layer, 3);
    assert_string_equal(world.text, "the disk is gone");
    finish_all(&world, 1);
    assert_int_equal(world.done_layer, 9);
    stop(&world);
}

/* A chain as one layer: each task reads the one before. */
static struct tessi_layer *chain(uint32_t id, int64_t links, uint32_t pin)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {1, {links}};
    tessi_grid_regular(&layer->grid, &shape, (const int64_t[TESSI_NDIM_MAX]){1});
    layer->as.synthetic.pin = pin;
    add_input(layer, layer, (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .value = -1}, (struct tessi_rule){0});
    layer->input[0].rules.ndim = 1;
    return layer;
}

/* One task that reads one block of `from`. */
static struct tessi_layer *reader(uint32_t id, const struct tessi_layer *from, int64_t block)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {1, {1}};
    tessi_grid_regular(&layer->grid, &shape, (const int64_t[TESSI_NDIM_MAX]){1});
    add_input(layer, from, (struct tessi_rule){.kind = TESSI_RULE_FIXED, .value = block}, (struct tessi_rule){0});
    layer->input[0].rules.ndim = 1;
    return layer;
}

static void release(struct world *world, uint32_t id, enum tessi_sched_event_kind how)
{
    step(world, (struct tessi_sched_event){.kind = how, .peer = CLIENT, .ids = &id, .id_count = 1});
}

/* Links are freed as soon as the next one is done; what is past the one that is wanted never runs. */
static void test_chain_in_one_layer(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    struct tessi_layer *layers[2];
    layers[0] = chain(1, 1000, 0);
    layers[1] = reader(2, layers[0], 699);
    submit(&world, layers, 2, 2);
    release(&world, 1, TESSI_SCHED_RELEASE);
    finish_all(&world, 1);
    assert_int_equal(world.done_layer, 2);
    assert_int_equal(status_of(&world).tasks_done, 701);
    assert_true(world.freed[1] >= 700);
    release(&world, 2, TESSI_SCHED_RELEASE);
    assert_int_equal(status_of(&world).layers, 0);
    stop(&world);
}

/* Pinned links alternate, whoever is idle. */
static void test_pinned_chain_alternates(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2);
    struct tessi_layer *layer = chain(1, 100, 2);
    submit(&world, &layer, 1, 1);
    finish_all(&world, 2);
    assert_int_equal(world.done_layer, 1);
    for (size_t w = 0; w < 2; w++) {
        struct tessi_sched_worker_status worker;
        tessi_sched_worker_status(world.sched, w, &worker);
        assert_int_equal(worker.tasks_done, 50);
    }
    assert_int_equal(world.stolen, 0);
    stop(&world);
}

/* Two interleaved chains of one layer whose links take long: each worker is given one of them, and reads nothing of
 * the other one's. */
static void test_long_links_are_spread(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2);
    struct tessi_layer *layer = chain(1, 40, 0);
    layer->input[0].rules.rule[0].value = -2;
    layer->as.synthetic.nanoseconds = 10000000;
    submit(&world, &layer, 1, 1);
    for (uint32_t w = 1; w <= 2; w++) {
        assert_true(world.pending[w].count > 1);
        for (size_t s = 0; s < world.pending[w].count; s++) {
            assert_int_equal(world.pending[w].items[s].count, 1);
            assert_int_equal(world.pending[w].items[s].first % 2, world.pending[w].items[0].first % 2);
        }
    }
    assert_int_not_equal(world.pending[1].items[0].first % 2, world.pending[2].items[0].first % 2);
    finish_all(&world, 2);
    assert_int_equal(world.done_layer, 1);
    stop(&world);
}

/* What a cancelled chain has not begun does not run, wherever its records are. */
static void test_cancelled_chain_stops(void **state)
{
    (void)state;
    for (int64_t links = 10; links <= 1000; links *= 10) {
        struct world world;
        start(&world, 1);
        struct tessi_layer *layer = chain(1, links, 0);
        submit(&world, &layer, 1, 1);
        for (int i = 0; i < 5; i++) {
            assert_true(finish_one(&world, 1));
        }
        release(&world, 1, TESSI_SCHED_CANCEL);
        assert_int_equal(world.failed_status, TESSI_CANCELLED);
        uint64_t known = 0;
        for (size_t s = 0; s < world.pending[1].count; s++) {
            known += world.pending[1].items[s].count;
        }
        finish_all(&world, 1);
        assert_true(status_of(&world).tasks_done <= 5 + known); /* nothing was assigned after it */
        assert_int_equal(status_of(&world).tasks_waiting, 0);
        release(&world, 1, TESSI_SCHED_RELEASE);
        assert_int_equal(status_of(&world).layers, 0);
        stop(&world);
    }
}

/* What feeds something that was cancelled or released neither starts nor stays at its worker, and what others read of it
 * does. */
static void test_nothing_feeds_the_cancelled(void **state)
{
    (void)state;
    for (int others = 0; others < 2; others++) {
        for (int way = 0; way < 2; way++) {
            struct world world;
            start(&world, 2);
            struct tessi_layer *layers[3] = {source(1, 10, 100000, 10), source(2, 100000, 10, 10)};
            layers[2] = product(3, layers[0], layers[1], 10); /* one task */
            submit(&world, layers, 3, 3);
            struct tessi_layer *other = source(4, 20, 20, 10);
            if (others == 1) {
                submit(&world, &other, 1, 4);
            }
            for (int i = 0; i < 5; i++) {
                assert_true(finish_one(&world, 1));
            }
            uint64_t done = status_of(&world).tasks_done, assigned = 0;
            for (size_t w = 1; w <= 2; w++) {
                for (size_t s = 0; s < world.pending[w].count; s++) {
                    assigned += world.pending[w].items[s].count;
                }
            }
            memset(world.freed, 0, sizeof world.freed);
            step(&world, (struct tessi_sched_event){.kind = way == 0 ? TESSI_SCHED_CANCEL : TESSI_SCHED_RELEASE,
                                                    .peer = CLIENT,
                                                    .ids = &(uint32_t){3},
                                                    .id_count = 1});
            assert_true(assigned > 0 && world.freed[1] + world.freed[2] >= assigned);
            finish_all(&world, 2); /* what was queued is not taken any more */
            assert_true(status_of(&world).tasks_done <= done + 4 * (uint64_t)others);
            assert_int_equal(status_of(&world).tasks_waiting, 0);
            assert_int_equal(status_of(&world).layers, (way == 0) + others);
            if (others == 0) {
                tessi_layer_destroy(other);
            }
            stop(&world);
        }
    }
}

static struct tessi_layer *step_of(uint32_t id, const struct tessi_layer *input)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_SYNTHETIC, TESSI_F64);
    tessi_grid_copy(&layer->grid, &input->grid);
    add_input(layer, input, (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0},
              (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1});
    return layer;
}

/* One task that reads the first block of `from`, which has rows and columns. */
static struct tessi_layer *picker(uint32_t id, const struct tessi_layer *from)
{
    struct tessi_layer *layer = reader(id, from, 0);
    layer->input[0].rules.ndim = 2;
    layer->input[0].rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_FIXED};
    return layer;
}

/* In how many steps more it has done what it had no time for. */
static uint64_t go_on(struct world *world)
{
    uint64_t ticks = 0;
    for (; world->actions.wake_ns <= world->now_ns; ticks++) {
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    }
    return ticks;
}

/* Of what others read too goes what they do not read, however much that is: what one step has no time for, later ones
 * do, and until then others get their share of each. */
static void test_a_step_prunes_what_it_can(void **state)
{
    (void)state;
    for (int64_t side = 4; side <= 40; side *= 10) {
        struct world world;
        start_with(&world, 2, 100);
        struct tessi_layer *layers[4] = {source(1, side, side, 1)};
        layers[1] = step_of(2, layers[0]);
        layers[2] = step_of(3, layers[1]);
        layers[3] = picker(4, layers[1]);
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                                .peer = CLIENT,
                                                .layers = layers,
                                                .layer_count = 4,
                                                .ids = (uint32_t[]){3, 4},
                                                .id_count = 2});
        uint64_t done = status_of(&world).tasks_done;
        release(&world, 3, TESSI_SCHED_CANCEL);
        uint64_t ticks = go_on(&world);
        assert_true(side < 10 ? ticks <= 1 : ticks > (uint64_t)(side * side) / 50);
        do {
            finish_all(&world, 2);
        } while (go_on(&world) > 0);
        assert_int_equal(world.done_layer, 4);
        assert_int_equal(status_of(&world).tasks_done, done + 3);
        stop(&world);
    }
}

/* What had been held and is made again after a loss stops too when it is cancelled, though blocks are made from it that
 * nobody has ever read. */
static void test_nothing_is_made_again_for_the_cancelled(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    struct tessi_layer *layers[3] = {source(1, 40, 40, 1)}; /* more than is assigned at once */
    layers[1] = step_of(2, layers[0]);
    layers[2] = picker(3, layers[1]);
    submit(&world, layers, 1, 1);
    finish_all(&world, 1);
    assert_int_equal(world.done_layer, 1);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 1});
    submit(&world, layers + 1, 2, 3);
    release(&world, 1, TESSI_SCHED_CANCEL);
    uint64_t done = status_of(&world).tasks_done;
    join(&world, 2, 1 << 30);
    finish_all(&world, 2);
    assert_int_equal(world.done_layer, 3);
    assert_int_equal(status_of(&world).tasks_done, done + 3);
    stop(&world);
}

/* Whoever was told to take something over has it. */
static void take_all_over(struct world *world, uint32_t workers)
{
    for (uint32_t w = 1; w <= workers; w++) {
        if (world->take_over[w].count > 0) {
            struct tessi_report report = {.adopted = world->take_over[w]};
            world->take_over[w] = (struct tessi_spans){0};
            step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = w, .report = &report});
            tessi_report_fini(&report);
        }
    }
}

/* Steps of an iteration, each held until the next one is done. */
static void iterate(struct world *world, uint32_t workers, uint32_t steps)
{
    struct tessi_layer *last = source(1, 40, 40, 20), *kept = tessi_layer_copy(last);
    submit(world, &last, 1, 1);
    finish_all(world, workers);
    for (uint32_t id = 2; id < 2 + steps; id++) {
        struct tessi_layer *next = step_of(id, kept);
        tessi_layer_destroy(kept);
        kept = tessi_layer_copy(next);
        submit(world, &next, 1, id);
        finish_all(world, workers);
        assert_int_equal(world->done_layer, id);
        step(world, (struct tessi_sched_event){
                        .kind = TESSI_SCHED_RELEASE, .peer = CLIENT, .ids = &(uint32_t){id - 1}, .id_count = 1});
        take_all_over(world, workers);
    }
    tessi_layer_destroy(kept);
}

static void detach_and_tick(struct world *world, uint32_t id, uint32_t workers)
{
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_DETACH, .peer = CLIENT, .ids = &id, .id_count = 1});
    for (int i = 0; i < 3; i++) {
        take_all_over(world, workers);
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    }
}

/* A long iteration keeps a bounded past where two workers are; with one it keeps it all, unless it is told otherwise. */
static void test_past_is_forgotten(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2);
    iterate(&world, 2, 400);
    assert_true(world.detached > 0);
    assert_true(status_of(&world).layers < 2 * 64 + 3);
    stop(&world);
    start(&world, 1);
    iterate(&world, 1, 200);
    assert_int_equal(world.detached, 0);
    assert_int_equal(status_of(&world).layers, 201);
    detach_and_tick(&world, 201, 1);
    assert_int_equal(world.detached, 201);
    assert_int_equal(status_of(&world).layers, 1);
    stop(&world);
}

/* The larger an array beside a worker's memory, the longer the past that is worth a copy of it; of more than a half, none is. */
static void test_large_arrays_keep_a_longer_past(void **state)
{
    (void)state;
    const uint64_t bytes = 40 * 40 * sizeof(double);
    const struct {
        uint64_t memory_bytes;
        uint32_t most;
    } cases[] = {{16 * bytes, 64}, {8 * bytes, 2 * 64}, {3 * bytes, 6 * 64}, {bytes * 19 / 10, UINT32_MAX}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const uint32_t steps = 500;
        struct world world;
        start(&world, 0);
        join(&world, 1, cases[c].memory_bytes);
        join(&world, 2, cases[c].memory_bytes);
        iterate(&world, 2, steps);
        if (cases[c].most == UINT32_MAX) {
            assert_int_equal(world.detached, 0);
            assert_int_equal(status_of(&world).layers, steps + 1);
        } else {
            assert_true(world.detached >= cases[c].most);
            assert_true(status_of(&world).layers < 2 * cases[c].most + 3);
        }
        stop(&world);
    }
}

/* One of two owners may go; then a third worker gets a copy. Both at once are a loss that is told as that. */
static void test_both_owners_die(void **state)
{
    (void)state;
    for (int both = 0; both < 2; both++) {
        struct world world;
        start(&world, 3);
        iterate(&world, 3, 1);
        detach_and_tick(&world, 2, 3);
        assert_int_equal(world.detached, 2);
        struct tessi_layer *blocks = source(2, 40, 40, 20), *reader = step_of(3, blocks);
        tessi_layer_destroy(blocks);
        world.failed_layer = 0;
        for (uint32_t w = 1; w <= 3; w++) {
            step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = w});
            world.take_over[w].count = 0;
            join(&world, 3 + w, 1 << 30);
            if (both == 0) {
                take_all_over(&world, 6);
                step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
                take_all_over(&world, 6);
            }
        }
        submit(&world, &reader, 1, 3);
        finish_all(&world, 6);
        assert_int_equal(world.failed_layer, both == 1 ? 3 : 0);
        assert_int_equal(world.done_layer, both == 1 ? 2 : 3);
        assert_true(both == 0 || (world.failed_status == TESSI_LOST && strstr(world.text, "detached") != NULL));
        stop(&world);
    }
}

/* A worker that refuses to be a second owner may own the block under the epoch of an earlier order: it is told to forget it. */
static void test_refusing_owner_forgets(void **state)
{
    (void)state;
    struct world world;
    start(&world, 2);
    iterate(&world, 2, 1);
    step(&world,
         (struct tessi_sched_event){.kind = TESSI_SCHED_DETACH, .peer = CLIENT, .ids = &(uint32_t){2}, .id_count = 1});
    for (uint32_t w = 1; w <= 2; w++) {
        uint64_t told = 0, freed = world.freed[w];
        for (size_t s = 0; s < world.take_over[w].count; s++) {
            told += world.take_over[w].items[s].count;
        }
        struct tessi_report report = {.missing = world.take_over[w]};
        world.take_over[w] = (struct tessi_spans){0};
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = w, .report = &report});
        assert_true(world.freed[w] >= freed + told);
        tessi_report_fini(&report);
    }
    stop(&world);
}

/* What was cancelled cannot be read any more under its name. */
static void test_cancelled_is_refused(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    struct tessi_layer *blocks = source(1, 100, 100, 10);
    struct tessi_layer *reader = product(2, blocks, blocks, 10);
    submit(&world, &blocks, 1, 1);
    step(&world,
         (struct tessi_sched_event){.kind = TESSI_SCHED_CANCEL, .peer = CLIENT, .ids = &(uint32_t){1}, .id_count = 1});
    submit(&world, &reader, 1, 2);
    assert_int_equal(world.refused, TESSI_CANCELLED);
    assert_non_null(strstr(world.text, "was cancelled"));
    assert_int_equal(status_of(&world).layers, 1);
    stop(&world);
}

/* Small tasks that read large blocks go to an idle worker, though it has none of these, rather than wait for something
 * long; they would save nothing by themselves. */
static void test_what_waits_for_something_long_moves(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    struct tessi_layer *blocks = source(1, 4096, 2048, 1024), *sleep = chain(2, 2, 1);
    submit(&world, &blocks, 1, 1);
    finish_all(&world, 1);
    sleep->as.synthetic.nanoseconds = UINT64_C(10000000000);
    submit(&world, &sleep, 1, 2);
    struct tessi_layer *readers = tessi_layer_create(CLIENT, 3, TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {2, {4, 2}};
    tessi_grid_regular(&readers->grid, &shape, (const int64_t[TESSI_NDIM_MAX]){1, 1});
    add_input(readers, blocks, (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0},
              (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1});
    submit(&world, &readers, 1, 3);
    assert_int_equal(world.pending[2].count, 0);
    join(&world, 2, 1 << 30);
    while (finish_one(&world, 2)) {
    }
    assert_int_equal(world.done_layer, 3);
    stop(&world);
}

static void locate_block(struct world *world, struct tessi_span span)
{
    step(world,
         (struct tessi_sched_event){.kind = TESSI_SCHED_LOCATE, .peer = CLIENT, .spans = &span, .span_count = 1});
}

/* Held data were lost with the last worker: whoever reads them is told so in time, as often as they do, and has them
 * when there is a worker again. */
static void test_reads_without_workers_end(void **state)
{
    (void)state;
    struct world world;
    struct tessi_span block = {.session = CLIENT, .layer = 1, .first = 0, .count = 1};
    start(&world, 1);
    struct tessi_layer *layer = source(1, 20, 10, 10);
    submit(&world, &layer, 1, 1);
    finish_all(&world, 1);
    assert_int_equal(world.done_layer, 1);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 1});
    for (uint64_t reads = 1; reads <= 3; reads++) {
        int64_t since_ns = world.now_ns;
        world.failed_layer = 0;
        locate_block(&world, block);
        while (world.located < reads) {
            world.now_ns = world.actions.wake_ns;
            step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
            assert_true(world.now_ns - since_ns < INT64_C(7000000000));
        }
        assert_int_equal(world.location, 0);
        assert_int_equal(world.failed_layer, 1);
        assert_int_equal(world.failed_status, TESSI_NO_WORKERS);
        assert_non_null(strstr(world.text, "tessera worker"));
    }
    join(&world, 2, 1 << 30);
    finish_all(&world, 2);
    locate_block(&world, block);
    assert_int_equal(world.located, 4);
    assert_int_equal(world.location, 2);
    stop(&world);
}

/* The first task of the worker's first span fails; the span is gone. */
static void fail_first(struct world *world, uint32_t id, enum tessi_status status)
{
    char text[] = "it is said so";
    struct tessi_span span = world->pending[id].items[0];
    struct tessi_failure failure = {
        .task = {span.session, span.layer, span.first}, .epoch = span.epoch, .status = status, .text = text};
    struct tessi_report report = {.failures = &failure, .failure_count = 1};
    world->pending[id].count = 0;
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = id, .report = &report});
}

/* A worker cannot say that nothing failed, what nobody knows, or what the scheduler alone decides. */
static void test_forged_failures_are_failures(void **state)
{
    (void)state;
    const uint32_t told[] = {TESSI_OK, TESSI_CANCELLED, TESSI_NO_WORKERS, 200, UINT32_MAX};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        struct world world;
        start(&world, 1);
        struct tessi_layer *layer = chain(1, 10, 0);
        submit(&world, &layer, 1, 1);
        fail_first(&world, 1, (enum tessi_status)told[i]);
        assert_int_equal(world.failed_layer, 1);
        assert_int_equal(world.failed_status, TESSI_FAILED);
        assert_string_equal(world.text, "it is said so");
        stop(&world);
    }
}

/* A layer that reads itself and was given up before, as nobody was there: its text becomes that of its own task. */
static void test_failure_within_a_layer_given_up(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    struct tessi_layer *layer = chain(1, 10, 0);
    submit(&world, &layer, 1, 1);
    while (world.failed_layer == 0) {
        world.now_ns = world.actions.wake_ns;
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    }
    assert_int_equal(world.failed_status, TESSI_NO_WORKERS);
    join(&world, 1, 1 << 30);
    fail_first(&world, 1, TESSI_IO);
    struct tessi_layer *again = reader(2, layer, 9);
    submit(&world, &again, 1, 2);
    assert_int_equal(world.failed_layer, 2);
    assert_int_equal(world.failed_status, TESSI_IO);
    stop(&world);
}

/* Nothing runs where a copy is to become the block, so nothing can start, end or fail there. */
static void test_what_is_adopted_neither_runs_nor_fails(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    struct tessi_layer *layer = chain(1, 2, 0);
    submit(&world, &layer, 1, 1);
    finish_all(&world, 1);
    join(&world, 2, 1 << 30);
    struct tessi_span block = {.session = CLIENT, .layer = 1, .first = 1, .count = 1};
    struct tessi_report copied = {0};
    tessi_spans_push(&copied.copied, block);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = 2, .report = &copied});
    tessi_report_fini(&copied);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 1});
    block.epoch = 2;
    struct tessi_report nonsense = {0}, adopted = {0};
    tessi_spans_push(&nonsense.started, block);
    tessi_spans_push(&nonsense.done, block);
    tessi_spans_push(&nonsense.refused, block);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = 2, .report = &nonsense});
    tessi_report_fini(&nonsense);
    struct tessi_spans others = world.pending[2]; /* the other link is made again there */
    world.pending[2] = (struct tessi_spans){0};
    tessi_spans_push(&world.pending[2], block);
    fail_first(&world, 2, TESSI_IO);
    tessi_spans_fini(&world.pending[2]);
    world.pending[2] = others;
    assert_int_equal(world.failed_layer, 0);
    assert_int_equal(status_of(&world).stale_reports, 4);
    tessi_spans_push(&adopted.adopted, block);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = 2, .report = &adopted});
    tessi_report_fini(&adopted);
    assert_int_equal(status_of(&world).stale_reports, 4);
    stop(&world);
}

/* Whatever run times are told, their sum is a number, and those of others count as before. */
static void test_forged_times(void **state)
{
    (void)state;
    struct world world;
    start(&world, 1);
    struct tessi_layer *layer = chain(1, 100, 0);
    submit(&world, &layer, 1, 1);
    struct tessi_span told = world.pending[1].items[0];
    struct tessi_report report = {0};
    told.time_ns = INT64_MAX;
    told.count = 2;
    tessi_spans_push(&report.done, told);
    told.epoch += 1; /* stale, and its time is told all the same */
    tessi_spans_push(&report.done, told);
    told.epoch += 1;
    told.time_ns = INT64_MIN;
    tessi_spans_push(&report.done, told);
    told.epoch += 1;
    told.first = 99;
    told.count = UINT64_MAX - 99; /* of no such tasks */
    tessi_spans_push(&report.done, told);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = 1, .report = &report});
    tessi_report_fini(&report);
    world.pending[1].items[0].first += 2;
    world.pending[1].items[0].count -= 2;
    struct tessi_sched_worker_status worker;
    tessi_sched_worker_status(world.sched, 0, &worker);
    assert_true(worker.queue_seconds >= 0 && worker.queue_seconds < 1e9);
    finish_all(&world, 1);
    assert_int_equal(world.done_layer, 1);
    stop(&world);
}

static struct tessi_layer *regrid(uint32_t id, const struct tessi_layer *input, int64_t rows, int64_t columns)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_REGRID, TESSI_F64);
    struct tessi_shape shape;
    tessi_grid_shape(&input->grid, &shape);
    tessi_grid_regular(&layer->grid, &shape, (int64_t[]){rows, columns});
    layer->as.regrid.step[0] = layer->as.regrid.step[1] = 1;
    add_input(layer, input, (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = 0, .step = 1},
              (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = 1, .step = 1});
    return layer;
}

/* When and where each task of layers 1 to 3 ran, by workers that take the lowest order first. */
struct run_log {
    uint32_t at[4][64], place[4][64], done;
};

static void run_logged(struct world *world, uint32_t workers, struct run_log *log)
{
    for (bool any = true; any;) {
        any = false;
        for (uint32_t w = 1; w <= workers; w++) {
            struct tessi_spans *pending = &world->pending[w];
            for (size_t s = 1; s < pending->count; s++) {
                struct tessi_span first = pending->items[0];
                if (pending->items[s].order < first.order) {
                    pending->items[0] = pending->items[s];
                    pending->items[s] = first;
                }
            }
            if (pending->count > 0) {
                struct tessi_span *first = &pending->items[0];
                log->at[first->layer][first->first] = w;
                log->place[first->layer][first->first] = ++log->done;
                first->order += first->count > 1 ? first->order_step : 0;
            }
            any = finish_one(world, w) || any;
        }
    }
}

/* 32 × 32 elements in blocks, cut into pieces and joined to other blocks. */
static void submit_exchange(struct world *world, const int64_t from[2], const int64_t pieces[2], const int64_t to[2])
{
    struct tessi_layer *layers[3];
    layers[0] = source(1, 32, 32, 4);
    tessi_grid_fini(&layers[0]->grid);
    tessi_grid_regular(&layers[0]->grid, &(struct tessi_shape){2, {32, 32}}, from);
    layers[1] = regrid(2, layers[0], pieces[0], pieces[1]);
    layers[2] = regrid(3, layers[1], to[0], to[1]);
    submit(world, layers, 3, 3);
}

/* Columns to rows in little memory: each block of columns is cut into its pieces before the next one is made, at the worker
 * that has made it, and the blocks of rows are shared by the workers. */
static void test_blocks_are_cut_before_the_next_one(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers <= 2; workers++) {
        struct world world;
        struct run_log log = {.done = 0};
        start(&world, 0);
        for (uint32_t w = 1; w <= workers; w++) {
            join(&world, w, 16 << 10);
        }
        submit_exchange(&world, (int64_t[]){32, 4}, (int64_t[]){4, 4}, (int64_t[]){4, 32});
        run_logged(&world, workers, &log);
        assert_int_equal(world.done_layer, 3);
        for (uint32_t piece = 0; piece < 64; piece++) {
            uint32_t block = piece % 8;
            assert_int_equal(log.at[2][piece], log.at[1][block]);
            assert_true(log.place[2][piece] > log.place[1][block]);
            assert_true(block == 7 || log.at[1][block + 1] != log.at[1][block] ||
                        log.place[2][piece] < log.place[1][block + 1]);
        }
        assert_int_equal(log.at[3][0], 1);
        assert_int_equal(log.at[3][7], workers);
        stop(&world);
    }
}

/* Four groups of four blocks each, which memory holds: one after the other, none waits for all blocks. */
static void test_groups_that_fit_come_one_by_one(void **state)
{
    (void)state;
    struct world world;
    struct run_log log = {.done = 0};
    start(&world, 1);
    submit_exchange(&world, (int64_t[]){2, 32}, (int64_t[]){2, 8}, (int64_t[]){8, 8});
    run_logged(&world, 1, &log);
    assert_int_equal(world.done_layer, 3);
    for (uint32_t group = 0; group < 3; group++) {
        assert_true(log.place[3][group * 4 + 3] < log.place[1][group * 4 + 4]);
    }
    stop(&world);
}

/* Four blocks of eight rows, and the same rows in blocks that begin one earlier: each reads one block whole, by which it is
 * placed, and of the block before it a piece of one row, which is made where that block is. Nothing else is made, and no
 * block before it is needed. */
static void test_blocks_and_pieces_come_as_they_are_joined(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers <= 2; workers++) {
        struct world world;
        struct run_log log = {.done = 0};
        struct tessi_layer *layers[3];
        start(&world, 0);
        for (uint32_t w = 1; w <= workers; w++) {
            join(&world, w, 1 << 20);
        }
        layers[0] = source(1, 32, 32, 4);
        tessi_grid_fini(&layers[0]->grid);
        tessi_grid_regular(&layers[0]->grid, &(struct tessi_shape){2, {32, 32}}, (int64_t[]){8, 32});
        layers[1] = regrid(2, layers[0], 32, 32);
        layers[1]->grid.axis[0] = tessi_axis_explicit((const int64_t[]){0, 7, 8, 15, 16, 23, 24, 31, 32}, 8);
        layers[2] = regrid(3, layers[0], 32, 32);
        layers[2]->grid.axis[0] = tessi_axis_explicit((const int64_t[]){0, 7, 15, 23, 31, 32}, 5);
        add_input(layers[2], layers[1], layers[2]->input[0].rules.rule[0], layers[2]->input[0].rules.rule[1]);
        submit(&world, layers, 3, 3);
        run_logged(&world, workers, &log);
        assert_int_equal(world.done_layer, 3);
        assert_int_equal(log.done, 4 + 3 + 5);
        for (uint32_t block = 0; block < 4; block++) {
            assert_int_equal(log.at[3][block], log.at[1][block]);
            assert_int_equal(log.place[2][2 * block], 0);
            assert_true(block == 3 || log.at[2][2 * block + 1] == log.at[1][block]);
            assert_true(block == 3 || workers > 1 || log.place[3][block] < log.place[1][block + 1]);
        }
        assert_int_equal(log.at[1][3], workers);
        stop(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product_completes),
        cmocka_unit_test(test_death_at_each_point),
        cmocka_unit_test(test_stale_report_is_dropped),
        cmocka_unit_test(test_running_task_is_blamed_three_times),
        cmocka_unit_test(test_too_big_is_refused),
        cmocka_unit_test(test_no_workers_fails_in_time),
        cmocka_unit_test(test_idle_worker_steals),
        cmocka_unit_test(test_what_waits_for_something_long_moves),
        cmocka_unit_test(test_blocks_are_cut_before_the_next_one),
        cmocka_unit_test(test_groups_that_fit_come_one_by_one),
        cmocka_unit_test(test_blocks_and_pieces_come_as_they_are_joined),
        cmocka_unit_test(test_failure_poisons_dependents_only),
        cmocka_unit_test(test_chain_in_one_layer),
        cmocka_unit_test(test_pinned_chain_alternates),
        cmocka_unit_test(test_long_links_are_spread),
        cmocka_unit_test(test_cancelled_chain_stops),
        cmocka_unit_test(test_nothing_feeds_the_cancelled),
        cmocka_unit_test(test_a_step_prunes_what_it_can),
        cmocka_unit_test(test_nothing_is_made_again_for_the_cancelled),
        cmocka_unit_test(test_cancelled_is_refused),
        cmocka_unit_test(test_reads_without_workers_end),
        cmocka_unit_test(test_past_is_forgotten),
        cmocka_unit_test(test_large_arrays_keep_a_longer_past),
        cmocka_unit_test(test_both_owners_die),
        cmocka_unit_test(test_refusing_owner_forgets),
        cmocka_unit_test(test_forged_failures_are_failures),
        cmocka_unit_test(test_failure_within_a_layer_given_up),
        cmocka_unit_test(test_what_is_adopted_neither_runs_nor_fails),
        cmocka_unit_test(test_forged_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
