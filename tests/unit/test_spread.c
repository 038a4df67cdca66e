/* Failures and re-runs of very many tasks are taken over several steps, and whatever happens between those. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/sched/explain/explain.h"
#include "core/sched/state/state.h"
#include "tests/unit/sched_events.h"

#define CLIENT 1000u
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MANY 200000
#else
#define MANY 5000000
#endif

struct world {
    struct tessi_sched *sched;
    struct tessi_spans pending[3]; /* what workers have to do, by id */
    int64_t now_ns, longest_ns;
    uint64_t steps;
    uint32_t failed_layer, done_layer;
    bool verify;
};

static void note_assigned(struct world *world, const struct tessi_sched_action *action)
{
    for (size_t s = 0; s < action->span_count; s++) {
        tessi_spans_push(&world->pending[action->peer], action->spans[s]);
    }
}

static void step(struct world *world, struct tessi_sched_event event)
{
    struct tessi_sched_actions actions;
    world->now_ns += 1000;
    event.now_ns = world->now_ns;
    int64_t began_ns = tessi_clock_now();
    tessi_sched_step(world->sched, &event, &actions);
    int64_t took_ns = tessi_clock_now() - began_ns;
    world->longest_ns = took_ns > world->longest_ns ? took_ns : world->longest_ns;
    world->steps++;
    for (size_t i = 0; i < actions.count; i++) {
        const struct tessi_sched_action *action = &actions.items[i];
        world->failed_layer = action->kind == TESSI_SCHED_FAILED ? action->layer_id : world->failed_layer;
        world->done_layer = action->kind == TESSI_SCHED_DONE ? action->layer_id : world->done_layer;
        if (action->kind == TESSI_SCHED_REFUSED) {
            fail_msg("%s", action->text);
        }
        if (action->kind == TESSI_SCHED_ASSIGN) {
            note_assigned(world, action);
        }
    }
    if (world->verify) {
        tessi_sched_verify(world->sched);
    }
}

static void tick(struct world *world)
{
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
}

static void join(struct world *world, uint32_t id)
{
    step(world, joining(id, UINT64_C(1) << 40));
}

static void leave(struct world *world, uint32_t id)
{
    world->pending[id].count = 0;
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = id});
}

static void start(struct world *world, uint64_t lookups)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    config.assigned_per_slot = lookups > 0 ? 1 : 1 << 17;
    config.lookups_per_step = lookups > 0 ? lookups : config.lookups_per_step;
    *world = (struct world){.sched = tessi_sched_create(&config), .verify = lookups > 0};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
    join(world, 1);
}

static void stop(struct world *world)
{
    for (int w = 0; w < 3; w++) {
        tessi_spans_fini(&world->pending[w]);
    }
    tessi_sched_destroy(world->sched);
}

static struct tessi_layer *line(uint32_t id, enum tessi_op op, int64_t blocks)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, op, TESSI_F64);
    layer->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(blocks, 1)}};
    return layer;
}

static void reads(struct tessi_layer *layer, const struct tessi_layer *from, enum tessi_rule_kind kind)
{
    struct tessi_input *input = tessi_layer_add_input(layer, from->id);
    input->dtype = from->dtype;
    tessi_grid_copy(&input->grid, &from->grid);
    input->rules = (struct tessi_map_rules){.ndim = 1, .rule = {{.kind = kind}}};
}

static void send(struct world *world, struct tessi_layer **layers, size_t count, uint32_t wanted)
{
    step(world, submission(CLIENT, layers, count, &wanted, 1));
}

static void release(struct world *world, uint32_t id)
{
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_RELEASE, .peer = CLIENT, .ids = &id, .id_count = 1});
}

static void until_given(struct world *world, uint32_t id)
{
    for (int i = 0; i < 1000 && world->pending[id].count == 0; i++) {
        tick(world);
    }
    assert_true(world->pending[id].count > 0);
}

/* The worker does all that it has been given. */
static void work(struct world *world, uint32_t id)
{
    struct tessi_report report = {.done = world->pending[id]};
    world->pending[id] = (struct tessi_spans){0};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = id, .report = &report});
    tessi_report_fini(&report);
}

static void fail_first(struct world *world, uint32_t id)
{
    const struct tessi_span *first = &world->pending[id].items[0];
    char text[] = "it cannot be made";
    struct tessi_failure failure = {.task = {first->session, first->layer, first->first},
                                    .epoch = first->epoch,
                                    .status = TESSI_FAILED,
                                    .text = text};
    struct tessi_report report = {.failures = &failure, .failure_count = 1};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = id, .report = &report});
}

static bool spreads(const struct world *world)
{
    return world->sched->rerun.count > 0 || world->sched->poison.count > 0 || world->sched->spreading.layer != NULL;
}

/* The longest step, when there were at least as many as what is bounded of each asks for. */
static void check(const struct world *world, const char *what, uint64_t steps, uint64_t least)
{
    print_message("%s of %d tasks: %lu steps, the longest %.0f ms\n", what, MANY, (unsigned long)steps,
                  (double)world->longest_ns / 1e6);
    assert_true(steps >= least);
}

/* `layers`: a block, and many tasks that read it. */
static void submit_readers(struct world *world, int64_t readers)
{
    struct tessi_layer *layers[2] = {line(1, TESSI_OP_UNIFORM, 1), line(2, TESSI_OP_SYNTHETIC, readers)};
    layers[0]->as.random.high = 1;
    layers[1]->dtype = TESSI_U64;
    reads(layers[1], layers[0], TESSI_RULE_FIXED);
    send(world, layers, 2, 2);
    until_given(world, 1);
}

static void test_a_failure_of_many_readers(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    submit_readers(&world, MANY);
    world.longest_ns = 0;
    uint64_t before = world.steps;
    fail_first(&world, 1);
    assert_int_equal(world.failed_layer, 2);
    while (spreads(&world)) {
        tick(&world);
    }
    check(&world, "a failure", world.steps - before, MANY / 80000);
    const struct sched_layer *layer = tessi_find_named(world.sched, CLIENT, 2);
    for (uint64_t i = 0; i < MANY; i++) {
        assert_int_equal(tessi_table_state(layer, i), TASK_POISONED);
    }
    stop(&world);
}

#define FOLDS 8

/* Many blocks, and a few tasks that read them all, done: the blocks are gone. */
static void submit_fold(struct world *world, int64_t blocks)
{
    struct tessi_layer *layers[2] = {line(1, TESSI_OP_UNIFORM, blocks), line(2, TESSI_OP_REDUCE, FOLDS)};
    layers[0]->as.random.high = 1;
    layers[1]->as.reduce.axes = 1;
    layers[1]->as.reduce.keepdims = true;
    reads(layers[1], layers[0], TESSI_RULE_GROUP);
    layers[1]->input[0].rules.rule[0].value = blocks / FOLDS;
    send(world, layers, 2, 2);
    while (world->done_layer != 2) {
        until_given(world, 1);
        work(world, 1);
    }
}

static void end_fold(struct world *world)
{
    while (tessi_find_named(world->sched, CLIENT, 2)->held < FOLDS) {
        until_given(world, 2);
        work(world, 2);
    }
}

static void test_very_many_are_needed_again(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    submit_fold(&world, MANY);
    world.longest_ns = 0;
    uint64_t before = world.steps;
    leave(&world, 1);
    join(&world, 2); /* the results are to be made again here */
    while (spreads(&world)) {
        tick(&world);
    }
    check(&world, "a second run", world.steps - before, MANY / 80000);
    end_fold(&world);
    stop(&world);
}

static struct tessi_layer *negative(uint32_t id, const struct tessi_layer *from, enum tessi_rule_kind kind,
                                    int64_t blocks)
{
    struct tessi_layer *layer = line(id, TESSI_OP_ELEMENTWISE, blocks);
    struct tessi_instruction code = {.op = TESSI_EWISE_NEGATIVE, .dtype = TESSI_F64};
    layer->as.program.count = 1;
    layer->as.program.code = tessi_memdup(&code, sizeof code);
    reads(layer, from, kind);
    return layer;
}

#define FEW 120

/* Two layers read what fails, and something that has nothing to do with them stands behind them. */
static void start_failure(struct world *world)
{
    struct tessi_layer *layers[4] = {line(1, TESSI_OP_UNIFORM, 1)};
    layers[0]->as.random.high = 1;
    layers[1] = negative(2, layers[0], TESSI_RULE_FIXED, FEW);
    layers[2] = negative(3, layers[0], TESSI_RULE_FIXED, FEW);
    layers[3] = line(4, TESSI_OP_UNIFORM, 1);
    layers[3]->as.random.high = 1;
    start(world, 64);
    uint32_t wanted[] = {2, 3, 4};
    step(world, submission(CLIENT, layers, 4, wanted, 3));
    until_given(world, 1);
    assert_int_equal(world->pending[1].items[0].layer, 1);
    fail_first(world, 1);
    world->pending[1].count = 0;
    assert_true(spreads(world));
}

static void ticks(struct world *world, int count)
{
    for (int i = 0; i < count; i++) {
        tick(world);
    }
}

/* Few tasks in very short steps, and between these something else: whatever is known of them holds all the time. */
static void test_between_the_steps_of_a_failure(void **state)
{
    (void)state;
    for (int when = 0; when < FEW; when += 7) {
        for (uint32_t what = 0; what < 6; what++) {
            struct world world;
            start_failure(&world);
            ticks(&world, when);
            if (what < 2) {
                release(&world, 2 + what); /* the other one takes its place */
            } else if (what == 2) {
                leave(&world, 1);
                join(&world, 2);
            } else if (what == 3) {
                step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_LEAVE, .peer = CLIENT});
            } else if (what == 4) {
                stop(&world);
                continue;
            }
            ticks(&world, 4 * FEW);
            assert_false(spreads(&world));
            if (what != 3) { /* what stood behind has been given to somebody, with nothing else to wake them */
                const struct sched_layer *last = tessi_find_named(world.sched, CLIENT, 4);
                assert_int_equal(tessi_table_state(last, 0), TASK_ASSIGNED);
            }
            stop(&world);
        }
    }
}

static void test_between_the_steps_of_a_second_run(void **state)
{
    (void)state;
    for (int when = 0; when < FEW; when += 7) {
        for (uint32_t what = 0; what < 6; what++) {
            struct world world;
            start(&world, 64);
            submit_fold(&world, FEW);
            leave(&world, 1);
            join(&world, 2);
            assert_true(spreads(&world));
            ticks(&world, when);
            if (what == 0) {
                release(&world, 2);
            } else if (what == 1) {
                leave(&world, 2);
                join(&world, 2);
            } else if (what == 2) {
                step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_LEAVE, .peer = CLIENT});
            } else if (what == 3) {
                step(&world, (struct tessi_sched_event){
                                 .kind = TESSI_SCHED_CANCEL, .peer = CLIENT, .ids = (uint32_t[]){2}, .id_count = 1});
            } else if (what == 4) {
                stop(&world);
                continue;
            } else if (world.pending[2].count > 0) {
                work(&world, 2);
            }
            ticks(&world, 4 * FEW);
            assert_false(spreads(&world));
            if (what == 1 || what == 5) {
                end_fold(&world);
            }
            stop(&world);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_of_many_readers),
        cmocka_unit_test(test_very_many_are_needed_again),
        cmocka_unit_test(test_between_the_steps_of_a_failure),
        cmocka_unit_test(test_between_the_steps_of_a_second_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
