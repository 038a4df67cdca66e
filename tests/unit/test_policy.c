/* Priorities, policies, resources, history and earliest finish, on the scheduler machine driven by hand. */
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
#define GIVEN_MAX 4096

struct given {
    uint32_t worker;
    struct tessi_span span; /* of one task */
    bool done;
};

struct world {
    struct tessi_sched *sched;
    struct tessi_sched_actions actions;
    int64_t now_ns;
    struct given given[GIVEN_MAX]; /* every assignment, in the order in which they were made */
    size_t count;
    uint32_t done_layer, failed_layer;
    enum tessi_status failed_status, rejected;
    char text[1024];
};

static void take_actions(struct world *world)
{
    for (size_t i = 0; i < world->actions.count; i++) {
        const struct tessi_sched_action *action = &world->actions.items[i];
        if (action->kind == TESSI_SCHED_ASSIGN) {
            for (size_t s = 0; s < action->span_count; s++) {
                for (uint64_t t = 0; t < action->spans[s].count; t++) {
                    struct tessi_span one = action->spans[s];
                    one.first += t;
                    one.count = 1;
                    assert_true(world->count < GIVEN_MAX);
                    world->given[world->count++] = (struct given){action->peer, one, false};
                }
            }
        } else if (action->kind == TESSI_SCHED_DONE) {
            world->done_layer = action->layer_id;
        } else if (action->kind == TESSI_SCHED_FAILED || action->kind == TESSI_SCHED_REJECT) {
            world->failed_layer = action->layer_id;
            world->failed_status = action->kind == TESSI_SCHED_FAILED ? action->status : world->failed_status;
            world->rejected = action->kind == TESSI_SCHED_REJECT ? action->status : world->rejected;
            (void)snprintf(world->text, sizeof world->text, "%s", action->text);
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

static void join(struct world *world, uint32_t id, uint32_t slots, const char *resources, const char *host)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = id};
    event.worker = (struct tessi_worker_info){.slots = slots, .memory_bytes = UINT64_C(1) << 40};
    (void)snprintf(event.worker.family, sizeof event.worker.family, "plain");
    (void)snprintf(event.worker.resources, sizeof event.worker.resources, "%s", resources);
    (void)snprintf(event.worker.host, sizeof event.worker.host, "%s", host);
    (void)snprintf(event.worker.processor, sizeof event.worker.processor, "Abacus 3000");
    step(world, event);
}

static void start(struct world *world)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    *world = (struct world){0};
    world->sched = tessi_sched_create(&config);
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
}

/* `tasks` tasks that read nothing and take `ms` milliseconds. */
static struct tessi_layer *layer(uint32_t id, int64_t tasks, uint64_t ms)
{
    struct tessi_layer *made = tessi_layer_create(CLIENT, id, TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {1, {tasks}};
    int64_t chunks[1] = {1};
    tessi_grid_regular(&made->grid, &shape, chunks);
    made->as.synthetic.nanoseconds = ms * 1000000;
    return made;
}

static struct tessi_layer *demanding(uint32_t id, int64_t tasks, const char *demand)
{
    struct tessi_layer *made = layer(id, tasks, 1000);
    assert_int_equal(tessi_resources_parse(demand, &tessi_layer_own_task_options(made)->demand, NULL), TESSI_OK);
    return made;
}

/* Task i reads block i. */
static void reads(struct tessi_layer *reader, const struct tessi_layer *input)
{
    struct tessi_input *slot = tessi_layer_add_input(reader, input->id);
    slot->dtype = input->dtype;
    tessi_grid_copy(&slot->grid, &input->grid);
    slot->rules.ndim = 1;
    slot->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0};
}

/* The same, as an explicit table. */
static void reads_table(struct tessi_layer *reader, const struct tessi_layer *input)
{
    uint64_t tasks = tessi_layer_tasks(reader);
    uint32_t *rows = tessi_alloc((tasks + 1) * sizeof *rows), *columns = tessi_alloc(tasks * sizeof *columns);
    for (uint64_t i = 0; i <= tasks; i++) {
        rows[i] = (uint32_t)i;
        columns[i < tasks ? i : 0] = i < tasks ? (uint32_t)i : columns[0];
    }
    reads(reader, input);
    reader->input[reader->ninputs - 1].rules =
        (struct tessi_map_rules){.table = tessi_table_create(tasks, tessi_layer_tasks(input), rows, columns)};
    tessi_free(rows);
    tessi_free(columns);
}

static void submit(struct world *world, struct tessi_layer **layers, size_t count)
{
    uint32_t wanted[8] = {0};
    for (size_t i = 0; i < count; i++) {
        wanted[i] = layers[i]->id;
    }
    step(world, submission(CLIENT, layers, count, wanted, count));
}

static void finish(struct world *world, size_t number, int64_t time_ns)
{
    struct given *given = &world->given[number];
    struct tessi_report report = {0};
    given->done = true;
    given->span.time_ns = time_ns;
    tessi_spans_push(&report.started, given->span);
    tessi_spans_push(&report.done, given->span);
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = given->worker, .report = &report});
    tessi_report_fini(&report);
}

/* Finish the oldest assignment of all that are open; false: there is none. */
static bool finish_one(struct world *world)
{
    for (size_t i = 0; i < world->count; i++) {
        if (!world->given[i].done) {
            finish(world, i, 0);
            return true;
        }
    }
    return false;
}

static void finish_all(struct world *world)
{
    while (finish_one(world)) {
    }
}

static void stop(struct world *world)
{
    tessi_sched_destroy(world->sched);
}

/* Position of the first assignment of a task of the layer. */
static size_t first_of(const struct world *world, uint32_t id)
{
    size_t i = 0;
    while (i < world->count && world->given[i].span.layer != id) {
        i++;
    }
    assert_true(i < world->count);
    return i;
}

static size_t last_of(const struct world *world, uint32_t id)
{
    size_t last = first_of(world, id);
    for (size_t i = last; i < world->count; i++) {
        last = world->given[i].span.layer == id ? i : last;
    }
    return last;
}

/* ——— order ——— */

static void test_higher_priority_goes_first(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 1, "", "");
    struct tessi_layer *bulk[1] = {layer(1, 20, 1000)};
    submit(&world, bulk, 1);
    struct tessi_layer *low[1] = {layer(2, 5, 1000)}, *high[1] = {layer(3, 5, 1000)};
    tessi_layer_own_task_options(low[0])->priority = -3;
    tessi_layer_own_task_options(high[0])->priority = 4;
    submit(&world, low, 1);
    submit(&world, high, 1);
    size_t before = world.count;
    finish_all(&world);
    assert_int_equal(world.count, 30);
    assert_int_equal(first_of(&world, 3), before); /* next after what had been assigned when it came */
    assert_true(last_of(&world, 3) < before + 5);
    assert_true(last_of(&world, 1) < first_of(&world, 2));
    stop(&world);
}

static void test_what_urgent_work_waits_for_is_urgent(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 1, "", "");
    struct tessi_layer *first[2] = {layer(1, 20, 1000), layer(2, 5, 1000)};
    submit(&world, first, 2);
    struct tessi_layer *urgent[1] = {layer(3, 5, 1000)};
    struct tessi_layer input = {.id = 2, .dtype = TESSI_F64};
    struct tessi_shape shape = {1, {5}};
    int64_t chunks[1] = {1};
    tessi_grid_regular(&input.grid, &shape, chunks);
    reads(urgent[0], &input);
    tessi_grid_fini(&input.grid);
    tessi_layer_own_task_options(urgent[0])->priority = 1;
    submit(&world, urgent, 1);
    size_t before = world.count;
    finish_all(&world);
    assert_int_equal(world.count, 30);
    assert_true(last_of(&world, 2) < before + 10 && last_of(&world, 3) < before + 10);
    stop(&world);
}

static void run_policy(struct world *world, enum tessi_policy policy)
{
    start(world);
    join(world, 1, 1, "", "");
    struct tessi_layer *layers[2] = {layer(1, 10, 1000), layer(2, 10, 10)};
    tessi_layer_own_task_options(layers[0])->policy = tessi_layer_own_task_options(layers[1])->policy = policy;
    submit(world, layers, 2);
    finish_all(world);
    assert_int_equal(world->count, 20);
}

static void test_shortest_first(void **state)
{
    (void)state;
    struct world world;
    run_policy(&world, TESSI_POLICY_SHORTEST_FIRST);
    assert_true(last_of(&world, 2) < first_of(&world, 1));
    stop(&world);
}

static void test_first_come(void **state)
{
    (void)state;
    struct world world;
    run_policy(&world, TESSI_POLICY_FIRST_COME);
    assert_true(last_of(&world, 1) < first_of(&world, 2));
    stop(&world);
    run_policy(&world, TESSI_POLICY_DEFAULT); /* arrays: as they were written */
    assert_true(last_of(&world, 1) < first_of(&world, 2));
    stop(&world);
}

/* Layer 1 stands alone; 2 is read by 3, 3 by 4, all by tables: the longer path goes first. */
static void run_irregular(struct world *world, enum tessi_policy policy)
{
    start(world);
    join(world, 1, 1, "", "");
    struct tessi_layer *layers[4] = {layer(1, 4, 1000), layer(2, 4, 1000), layer(3, 4, 1000), layer(4, 4, 1000)};
    reads_table(layers[2], layers[1]);
    reads_table(layers[3], layers[2]);
    for (int i = 0; i < 4; i++) {
        tessi_layer_own_task_options(layers[i])->policy = policy;
    }
    submit(world, layers, 4);
    finish_all(world);
    assert_int_equal(world->count, 16);
    assert_true(first_of(world, 2) < first_of(world, 3) && first_of(world, 3) < first_of(world, 4));
}

static void test_longest_path_first(void **state)
{
    (void)state;
    struct world world;
    run_irregular(&world, TESSI_POLICY_B_LEVEL);
    assert_true(last_of(&world, 3) < first_of(&world, 1));
    stop(&world);
    run_irregular(&world, TESSI_POLICY_FIRST_COME);
    assert_true(last_of(&world, 1) < first_of(&world, 2));
    stop(&world);
}

/* ——— resources ——— */

static uint64_t open_of(const struct world *world, uint32_t worker, uint32_t id)
{
    uint64_t open = 0;
    for (size_t i = 0; i < world->count; i++) {
        const struct given *given = &world->given[i];
        open += !given->done && given->worker == worker && given->span.layer == id;
    }
    return open;
}

static void test_resources_are_never_exceeded(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 8, "license=1,ssd=2", "");
    join(&world, 2, 8, "ssd=1", "");
    join(&world, 3, 8, "", "");
    struct tessi_layer *layers[3] = {demanding(1, 12, "ssd"), demanding(2, 6, "license=1,ssd=1"), layer(3, 50, 100)};
    submit(&world, layers, 3);
    do {
        uint64_t ssd = open_of(&world, 1, 1) + open_of(&world, 1, 2);
        assert_true(ssd <= 2 && open_of(&world, 1, 2) <= 1 && open_of(&world, 2, 1) <= 1);
        assert_int_equal(open_of(&world, 3, 1) + open_of(&world, 3, 2) + open_of(&world, 2, 2), 0);
    } while (finish_one(&world));
    assert_int_equal(world.count, 68);
    stop(&world);
}

static void wait_for(struct world *world, int seconds)
{
    for (int s = 0; s < seconds; s++) {
        world->now_ns += 1000000000;
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_HEARD, .peer = 1});
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK}); /* else it would count as absence */
    }
}

static void test_nobody_has_the_resource(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 2, "ssd=1", "");
    struct tessi_layer *layers[2] = {demanding(1, 2, "ssd=2"), layer(2, 2, 1000)};
    reads(layers[1], layers[0]);
    submit(&world, layers, 2);
    wait_for(&world, 3);
    assert_int_equal(world.failed_status, TESSI_OK);
    wait_for(&world, 4);
    assert_int_equal(world.failed_status, TESSI_NO_WORKERS);
    assert_non_null(strstr(world.text, "ssd=2"));
    assert_non_null(strstr(world.text, "--resources"));
    assert_int_equal(world.count, 0);
    stop(&world);
}

static void test_a_joining_worker_has_the_resource(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 2, "", "");
    struct tessi_layer *layers[1] = {demanding(1, 3, "ssd")};
    submit(&world, layers, 1);
    wait_for(&world, 3);
    join(&world, 2, 2, "ssd=1", "");
    finish_all(&world);
    assert_int_equal(world.done_layer, 1);
    assert_int_equal(world.count, 3);
    wait_for(&world, 6);
    assert_int_equal(world.failed_status, TESSI_OK);
    stop(&world);
}

static void test_the_worker_with_the_resource_dies(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 2, "ssd=1", "");
    join(&world, 2, 2, "ssd=1", "");
    join(&world, 3, 2, "", "");
    struct tessi_layer *layers[1] = {demanding(1, 6, "ssd")};
    submit(&world, layers, 1);
    assert_true(finish_one(&world));
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 1});
    for (size_t i = 0; i < world.count; i++) {
        world.given[i].done = world.given[i].done || world.given[i].worker == 1;
    }
    finish_all(&world);
    assert_int_equal(world.done_layer, 1);
    for (size_t i = 0; i < world.count; i++) {
        assert_int_not_equal(world.given[i].worker, 3);
    }
    stop(&world);
}

static void test_a_worker_without_sense(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 1, "ssd=none", "");
    assert_int_equal(world.rejected, TESSI_INVALID);
    stop(&world);
}

static void test_parsing(void **state)
{
    (void)state;
    static const char *const wrong[] = {"=1",
                                        "ssd=0",
                                        "ssd=-1",
                                        "ssd=1x",
                                        "ssd=4294967296",
                                        "a b=1",
                                        "ssd=1,ssd=2",
                                        "a,b,c,d,e,f,g,h,i",
                                        "a23456789012345678901234=1",
                                        ",",
                                        "ssd=1,,x=1"};
    char text[TESSI_RESOURCES_TEXT_MAX];
    struct tessi_resources resources;
    struct tessi_error error;
    assert_int_equal(tessi_resources_parse("ssd=2,license,gpu.v1=4294967295", &resources, &error), TESSI_OK);
    assert_string_equal(tessi_resources_text(&resources, text, sizeof text), "gpu.v1=4294967295,license=1,ssd=2");
    assert_int_equal(tessi_resources_amount(&resources, "ssd"), 2);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        error = (struct tessi_error){0};
        assert_int_equal(tessi_resources_parse(wrong[i], &resources, &error), TESSI_INVALID);
        assert_true(error.text[0] != 0 && resources.count == 0);
    }
}

/* ——— where ——— */

/* Large blocks on two hosts: a reader by table goes to its input, unless that has much more to do. */
static void test_earliest_finish(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    join(&world, 1, 1, "", "one");
    join(&world, 2, 1, "", "two");
    struct tessi_layer *source = tessi_layer_create(CLIENT, 1, TESSI_OP_UNIFORM, TESSI_F64);
    struct tessi_shape shape = {1, {8 << 20}};
    int64_t chunks[1] = {2 << 20};
    tessi_grid_regular(&source->grid, &shape, chunks);
    source->as.random.high = 1;
    struct tessi_layer *layers[2] = {source, layer(2, 4, 1)};
    reads_table(layers[1], source);
    submit(&world, layers, 1);
    finish_all(&world);
    submit(&world, &layers[1], 1);
    for (size_t i = first_of(&world, 2); i < world.count; i++) {
        for (size_t j = 0; j < first_of(&world, 2); j++) {
            if (world.given[j].span.first == world.given[i].span.first) {
                assert_int_equal(world.given[i].worker, world.given[j].worker);
            }
        }
    }
    finish_all(&world);
    assert_int_equal(world.done_layer, 2);
    stop(&world);
}

/* ——— history ——— */

static double queue_seconds(const struct world *world)
{
    struct tessi_sched_worker_status status;
    tessi_sched_worker_status(world->sched, 0, &status);
    return status.queue_seconds;
}

static void test_history_is_kept(void **state)
{
    (void)state;
    struct world world;
    struct tessi_error error = {0};
    size_t size, again_size;
    start(&world);
    join(&world, 1, 1, "", "");
    struct tessi_layer *layers[1] = {layer(1, 10, 7)};
    submit(&world, layers, 1);
    for (size_t i = 0; i < 10; i++) {
        finish(&world, i, 3000000000);
    }
    uint8_t *saved = tessi_sched_history_save(world.sched, &size);
    stop(&world);

    start(&world);
    assert_int_equal(tessi_sched_history_load(world.sched, saved, size, &error), TESSI_OK);
    uint8_t *again = tessi_sched_history_save(world.sched, &again_size);
    assert_int_equal(size, again_size);
    assert_memory_equal(saved, again, size);
    tessi_free(again);
    join(&world, 1, 1, "", "");
    layers[0] = layer(1, 10, 7);
    submit(&world, layers, 1);
    assert_true(queue_seconds(&world) > 29 && queue_seconds(&world) < 31);
    stop(&world);

    for (size_t at = 0; at < size; at += 1 + at / 16) { /* any damage is noticed, and nothing of it is taken */
        start(&world);
        saved[at] ^= 0x40;
        assert_int_equal(tessi_sched_history_load(world.sched, saved, size, &error), TESSI_FORMAT);
        assert_int_equal(tessi_sched_history_load(world.sched, saved, at, &error), TESSI_FORMAT);
        saved[at] ^= 0x40;
        join(&world, 1, 1, "", "");
        layers[0] = layer(1, 10, 7);
        submit(&world, layers, 1);
        assert_true(queue_seconds(&world) < 1);
        stop(&world);
    }
    tessi_free(saved);
}

/* So many kinds of tasks that some have to be forgotten. */
static void test_history_is_bounded(void **state)
{
    (void)state;
    static struct world world;
    struct tessi_error error = {0};
    size_t size;
    start(&world);
    join(&world, 1, 1, "", "");
    for (uint32_t id = 1; id <= 5000; id++) {
        struct tessi_layer *layers[1] = {layer(id, 1, id)};
        world.count = 0;
        submit(&world, layers, 1);
        assert_int_equal(world.count, 1);
        finish(&world, 0, 1000);
        step(&world,
             (struct tessi_sched_event){.kind = TESSI_SCHED_RELEASE, .peer = CLIENT, .ids = &id, .id_count = 1});
    }
    void *saved = tessi_sched_history_save(world.sched, &size);
    assert_true(size < 600000);
    stop(&world);
    start(&world);
    assert_int_equal(tessi_sched_history_load(world.sched, saved, size, &error), TESSI_OK);
    stop(&world);
    tessi_free(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_higher_priority_goes_first),
        cmocka_unit_test(test_what_urgent_work_waits_for_is_urgent),
        cmocka_unit_test(test_shortest_first),
        cmocka_unit_test(test_first_come),
        cmocka_unit_test(test_longest_path_first),
        cmocka_unit_test(test_resources_are_never_exceeded),
        cmocka_unit_test(test_nobody_has_the_resource),
        cmocka_unit_test(test_a_joining_worker_has_the_resource),
        cmocka_unit_test(test_the_worker_with_the_resource_dies),
        cmocka_unit_test(test_a_worker_without_sense),
        cmocka_unit_test(test_parsing),
        cmocka_unit_test(test_earliest_finish),
        cmocka_unit_test(test_history_is_kept),
        cmocka_unit_test(test_history_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
