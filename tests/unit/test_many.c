/* Graphs of very many blocks or layers: what nobody has touched costs nothing, what would cost too much is refused before
 * anything is allocated, and the order of a long chain is the same as that of a short one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/sched/explain/explain.h"
#include "core/sched/order/order.h"
#include "core/sched/placement/placement.h"
#include "tests/unit/sched_events.h"

#define CLIENT 1000u
#define WORKERS 3u
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 10
#else
#define SLOW 1
#endif

/* Of this thread's processor time: what others do on the machine does not count. */
static int64_t spent_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (int64_t)now.tv_sec * TESSI_NS_PER_S + now.tv_nsec;
}

struct world {
    struct tessi_sched *sched;
    struct tessi_sched_actions actions;
    int64_t now_ns;
    uint64_t assigned;
    enum tessi_status refused, failed;
    uint64_t located[WORKERS + 1]; /* tasks that the client was told of, by worker */
    uint64_t locations;            /* spans */
    uint32_t ended;                /* who was given up */
    char text[512];
};

static void step(struct world *world, struct tessi_sched_event event)
{
    world->now_ns += 1000;
    event.now_ns = world->now_ns;
    tessi_sched_step(world->sched, &event, &world->actions);
    for (size_t i = 0; i < world->actions.count; i++) {
        const struct tessi_sched_action *action = &world->actions.items[i];
        if (action->kind == TESSI_SCHED_REFUSED) {
            world->refused = action->status;
            (void)snprintf(world->text, sizeof world->text, "%s", action->text);
        }
        world->failed = action->kind == TESSI_SCHED_FAILED ? action->status : world->failed;
        world->ended = action->kind == TESSI_SCHED_BYE ? action->peer : world->ended;
        for (size_t s = 0; action->kind == TESSI_SCHED_LOCATION && s < action->span_count; s++) {
            world->located[action->spans[s].worker] += action->peer == CLIENT ? action->spans[s].count : 0;
            world->locations++;
        }
        for (size_t s = 0; action->kind == TESSI_SCHED_ASSIGN && s < action->span_count; s++) {
            world->assigned += action->spans[s].count;
        }
    }
}

static void start(struct world *world, uint64_t memory_bytes)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    config.memory_bytes = memory_bytes;
    *world = (struct world){.sched = tessi_sched_create(&config)};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
    for (uint32_t w = 1; w <= WORKERS; w++) {
        step(world, joining(w, UINT64_C(1) << 40));
    }
}

static uint64_t used(const struct world *world)
{
    struct tessi_sched_status status;
    tessi_sched_status(world->sched, &status);
    return status.memory_used_bytes;
}

static struct tessi_layer *source(uint32_t id, int64_t rows, int64_t columns)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_UNIFORM, TESSI_F64);
    struct tessi_shape shape = {2, {rows, columns}};
    int64_t chunks[2] = {1, 1};
    tessi_grid_regular(&layer->grid, &shape, chunks);
    layer->as.random.high = 1;
    return layer;
}

static struct tessi_input *reads(struct tessi_layer *layer, const struct tessi_layer *from)
{
    struct tessi_input *input = tessi_layer_add_input(layer, from->id);
    input->dtype = from->dtype;
    tessi_grid_copy(&input->grid, &from->grid);
    input->rules.ndim = from->grid.ndim;
    return input;
}

static struct tessi_layer *transposed(uint32_t id, const struct tessi_layer *from)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_TRANSPOSE, TESSI_F64);
    struct tessi_input *input = reads(layer, from);
    layer->grid.ndim = 2;
    for (uint32_t d = 0; d < 2; d++) {
        layer->grid.axis[d] = tessi_axis_copy(&from->grid.axis[1 - d]);
        layer->as.transpose.axis[d] = 1 - d;
        input->rules.rule[1 - d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    return layer;
}

/* The same elements in other chunks. */
static struct tessi_layer *recut(uint32_t id, const struct tessi_layer *from, int64_t rows, int64_t columns)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, id, TESSI_OP_REGRID, TESSI_F64);
    struct tessi_input *input = reads(layer, from);
    struct tessi_shape shape;
    int64_t chunks[2] = {rows, columns};
    tessi_grid_shape(&from->grid, &shape);
    tessi_grid_regular(&layer->grid, &shape, chunks);
    for (uint32_t d = 0; d < 2; d++) {
        layer->as.regrid.step[d] = 1;
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .step = 1};
    }
    return layer;
}

static void send(struct world *world, struct tessi_layer **layers, size_t count, const uint32_t *wanted, size_t ids)
{
    step(world, submission(CLIENT, layers, count, wanted, ids));
}

/* A thousand million blocks, read across and by a few tasks: a step takes milliseconds, and memory is that of what has
 * been given to workers. */
static void test_untouched_blocks_cost_nothing(void **state)
{
    (void)state;
    const int64_t sizes[][2] = {{1000000000, 1}, {1, 1000000000}, {31623, 31623}, {250000000, 4}, {4, 250000000}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct world world;
        start(&world, 0);
        uint64_t before = used(&world);
        int64_t began_ns = spent_ns();
        struct tessi_layer *layers[3] = {source(1, sizes[s][0], sizes[s][1])};
        layers[1] = transposed(2, layers[0]);
        layers[2] = recut(3, layers[1], 500, 500);
        send(&world, layers, 3, (uint32_t[]){3}, 1);
        assert_int_equal(world.refused, TESSI_OK);
        assert_true(world.assigned > 0 && used(&world) - before < UINT64_C(64) << 20);
        step(&world, (struct tessi_sched_event){
                         .kind = TESSI_SCHED_RELEASE, .peer = CLIENT, .ids = (uint32_t[]){3}, .id_count = 1});
        assert_int_equal(world.sched->session_by_id.count, 1);
        assert_true(used(&world) < before + (UINT64_C(1) << 20));
        assert_true(spent_ns() - began_ns < 5 * SLOW * TESSI_NS_PER_S);
        tessi_sched_destroy(world.sched);
    }
}

static void test_what_would_take_too_much_is_refused(void **state)
{
    (void)state;
    struct world world;
    start(&world, UINT64_C(64) << 20);
    struct tessi_layer *held[1] = {source(1, 1000000000, 1)};
    send(&world, held, 1, (uint32_t[]){1}, 1);
    assert_int_equal(world.refused, TESSI_TOO_BIG);
    assert_non_null(strstr(world.text, "uniform (1000000000, 1) in chunks of (1, 1)"));
    assert_non_null(strstr(world.text, "--memory"));
    world.refused = TESSI_OK;
    held[0] = source(1, 1000, 1);
    send(&world, held, 1, (uint32_t[]){1}, 1);
    assert_int_equal(world.refused, TESSI_OK);
    tessi_sched_destroy(world.sched);

    struct tessi_layer *many = source(1, INT64_C(1) << 33, 1);
    struct tessi_error error = {0};
    assert_int_equal(tessi_layer_check(many, &error), TESSI_TOO_BIG);
    assert_non_null(strstr(error.text, "blocks: use larger chunks"));
    tessi_layer_destroy(many);
}

/* Blocks count their readers in 32 bits: two layers of all the blocks that there may be are too many for one. */
static void test_readers_are_bounded(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    struct tessi_layer *layers[3] = {source(1, 1, 1)};
    for (uint32_t i = 1; i < 3; i++) {
        layers[i] = tessi_layer_create(CLIENT, 1 + i, TESSI_OP_SYNTHETIC, TESSI_U64);
        layers[i]->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(4000000000, 1)}};
        struct tessi_input *input = reads(layers[i], layers[0]);
        input->rules.rule[0] = input->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_FIXED};
    }
    send(&world, layers, 3, (uint32_t[]){2}, 1);
    assert_int_equal(world.refused, TESSI_TOO_BIG);
    assert_non_null(strstr(world.text, "would read one array"));
    tessi_sched_destroy(world.sched);
}

/* The place of a task, found map by map. */
static bool slow_place(const struct sched_layer *layer, uint64_t index, uint64_t *place)
{
    uint64_t coords[TESSI_NDIM_MAX] = {0}, reader[TESSI_NDIM_MAX] = {0};
    const struct sched_layer *at = layer->order_at;
    tessi_grid_coords(&at->layer->grid, index, coords);
    for (; !at->order_stem; at = at->order_via) {
        const struct tessi_input *input = &at->order_via->layer->input[at->order_input];
        if (!tessi_rules_first_output(&input->rules, &input->grid, &at->order_via->layer->grid, coords, reader)) {
            return false;
        }
        memcpy(coords, reader, sizeof coords);
    }
    *place = tessi_grid_index(&at->layer->grid, coords);
    return at->order_corners == NULL;
}

#define DEEP 300u

static void test_order_of_a_long_chain(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    struct tessi_layer *layers[DEEP] = {source(1, 6, 5)};
    for (uint32_t i = 1; i < DEEP; i++) {
        layers[i] = i % 3 == 0 ? recut(i + 1, layers[i - 1], 1 + i % 4, 1 + i % 2) : transposed(i + 1, layers[i - 1]);
    }
    send(&world, layers, DEEP, (uint32_t[]){DEEP}, 1);
    assert_int_equal(world.refused, TESSI_OK);
    struct session *session = tessi_find_session(world.sched, CLIENT);
    uint64_t jumps = 0;
    for (uint32_t i = 0; i < DEEP; i++) {
        const struct sched_layer *layer = tessi_find_layer(session, i + 1);
        jumps += layer->order_jump != NULL;
        for (uint64_t t = 0; t < layer->tasks; t++) {
            uint64_t place;
            if (slow_place(layer, t, &place)) {
                assert_int_equal(tessi_order_of(layer, t), layer->order_base + place * layer->order_levels +
                                                               (layer->order_levels - 1 - layer->order_depth));
            }
        }
    }
    assert_true(jumps >= 2 && jumps <= DEEP / 16);
    tessi_sched_verify(world.sched);
    tessi_sched_destroy(world.sched);
}

/* Where regions are derived from those of the input, each task goes where it would go by itself. */
static void test_regions_follow_the_input(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    struct tessi_layer *layers[3] = {source(1, 40, 30)};
    layers[1] = transposed(2, layers[0]);
    layers[2] = recut(3, layers[1], 3, 7);
    send(&world, layers, 3, (uint32_t[]){3}, 1);
    struct session *session = tessi_find_session(world.sched, CLIENT);
    for (uint32_t id = 2; id <= 3; id++) {
        struct sched_layer *layer = tessi_find_layer(session, id), *input = tessi_find_layer(session, id - 1);
        uint32_t homes[1200];
        for (uint64_t t = 0; t < layer->tasks; t++) {
            homes[t] = tessi_place_home(world.sched, layer, t);
        }
        world.sched->lookups = 100000;
        assert_true(tessi_regions_follow(world.sched, layer, 0, input));
        for (uint64_t t = 0; t < layer->tasks; t++) {
            assert_int_equal(tessi_regions_of(layer, t), homes[t]);
        }
    }
    tessi_sched_destroy(world.sched);
}

static void question(struct world *world, uint32_t peer, uint64_t first, uint64_t count)
{
    struct tessi_span span = {.session = CLIENT, .layer = 1, .first = first, .count = count};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_LOCATE, .peer = peer, .spans = &span, .span_count = 1});
}

/* Questions about an array of 2 · 10⁷ blocks, each as long as a message may have it: what has an owner is answered in few
 * spans; of the others, which wait, so many are remembered as an honest client may ask for, and many more of a worker, which
 * is given up then. No question keeps the scheduler for long. */
static void test_questions_are_bounded(void **state)
{
    (void)state;
    const uint64_t tasks = 20000000, part = TESSI_LOCATE_TASKS_MAX, middle = 8000000;
    struct world world;
    start(&world, 0);
    send(&world, (struct tessi_layer *[]){source(1, (int64_t)tasks, 1)}, 1, (uint32_t[]){1}, 1);
    uint64_t before = used(&world), assigned = world.assigned;
    question(&world, CLIENT, 0, part);
    question(&world, CLIENT, tasks / 3 - part / 2, part);
    question(&world, CLIENT, tasks / 3 * 2 - part / 2, part);
    assert_int_equal(world.assigned, assigned);
    assert_int_equal(world.located[1] + world.located[2] + world.located[3], assigned);
    for (uint32_t w = 1; w <= WORKERS; w++) {
        assert_int_equal(world.located[w], world.sched->workers[w - 1]->assigned);
    }
    struct session *session = tessi_find_session(world.sched, CLIENT);
    uint64_t parked = session->parked;
    assert_int_equal(world.located[0] + parked, 3 * part - assigned);
    assert_int_equal(world.failed, TESSI_TOO_BIG);
    assert_true(parked == 16384 && world.locations < 4096 && used(&world) - before < UINT64_C(4) << 20);
    tessi_sched_verify(world.sched);
    for (uint64_t first = middle; first < tasks && world.ended == 0; first += part) {
        int64_t began_ns = spent_ns();
        question(&world, 1, first, part);
        assert_true(spent_ns() - began_ns < SLOW * TESSI_NS_PER_S);
    }
    assert_int_equal(world.ended, 1);
    assert_true(used(&world) - before < UINT64_C(256) << 20);
    tessi_sched_verify(world.sched);
    step(&world, (struct tessi_sched_event){
                     .kind = TESSI_SCHED_RELEASE, .peer = CLIENT, .ids = (uint32_t[]){1}, .id_count = 1});
    assert_int_equal(session->parked, 0); /* what was remembered is told when the array goes */
    tessi_sched_verify(world.sched);
    tessi_sched_destroy(world.sched);
}

#define READERS 40u

/* Many readers of one array are released at once: each counts on as many blocks as have been touched, so they go in several
 * steps, and nothing is left. When the client itself goes, nobody counts any more. */
static void test_readers_go_in_several_steps(void **state)
{
    (void)state;
    struct world world;
    start(&world, 0);
    struct tessi_layer *layers[READERS + 1] = {source(1, 1 << 14, 1)};
    uint32_t ids[READERS];
    for (uint32_t i = 0; i < READERS; i++) {
        ids[i] = i + 2;
        layers[i + 1] = transposed(ids[i], layers[0]);
    }
    send(&world, layers, READERS + 1, ids, READERS);
    assert_int_equal(world.refused, TESSI_OK);
    struct tessi_sched *sched = world.sched;
    struct session *session = tessi_find_session(sched, CLIENT);
    assert_true(tessi_find_layer(session, 1)->live_pages > 0);
    sched->config.lookups_per_step = 4 * PAGE_TASKS;
    step(&world,
         (struct tessi_sched_event){.kind = TESSI_SCHED_RELEASE, .peer = CLIENT, .ids = ids, .id_count = READERS / 2});
    uint32_t steps = 1;
    for (; sched->loose_count > 0; steps++) {
        tessi_sched_verify(sched);
        assert_int_equal(sched->wake_ns, sched->now_ns);
        step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    }
    assert_true(steps > 4);
    for (uint32_t i = 0; i < READERS; i++) {
        assert_true((tessi_find_layer(session, ids[i]) == NULL) == (i < READERS / 2));
    }
    tessi_sched_verify(sched);
    step(&world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_LEAVE, .peer = CLIENT});
    assert_int_equal(sched->session_count, 0);
    assert_int_equal(sched->layer_bytes, 0);
    tessi_sched_verify(sched);
    tessi_sched_destroy(sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_untouched_blocks_cost_nothing),
        cmocka_unit_test(test_what_would_take_too_much_is_refused),
        cmocka_unit_test(test_readers_are_bounded),
        cmocka_unit_test(test_order_of_a_long_chain),
        cmocka_unit_test(test_regions_follow_the_input),
        cmocka_unit_test(test_questions_are_bounded),
        cmocka_unit_test(test_readers_go_in_several_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
