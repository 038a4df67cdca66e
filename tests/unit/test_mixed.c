/* Tasks that may run at a device or on processors: the choice itself, and whole runs of the worker's planner against a
 * device and slots that only take time. What counts is the end: processors must help where they can, and never delay it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/heap.h"
#include "tests/unit/flow_layers.h"
#include "worker/flow/flow.h"
#include "worker/flow/mixed.h"

#define SESSION 100u
#define LATENCY_NS 20000 /* until the planner hears of an end */
#define LAUNCH_NS 10000
#define HANDLES_MAX 65536

enum { SOURCE = 1, READER = 2, OTHER = 3 }; /* ids of the layers; the last one is for processors alone */

struct setting {
    uint64_t tasks;      /* of each layer that the device may run */
    uint64_t others;     /* tasks for processors alone */
    double device_ns, slot_ns;
    double copy_ns_per_byte;
    uint32_t slots;
    bool reader;         /* there is a layer that reads the source's blocks */
    bool product;        /* the source's bits are the device's own */
    bool alone;          /* the device does all that it can */
    double noise;        /* durations vary by this share */
    double surprise;     /* what a task takes on a processor over what its bytes say; 0: 1 */
};

struct world {
    struct setting setting;
    struct tessi_flow *flow;
    struct tessi_flow_actions actions;
    struct tessi_heap heap; /* ends */
    struct tessi_flow_outcome *ends;
    size_t end_count, end_capacity;
    int64_t now_ns, last_ns;
    double compute_free_ns, in_free_ns, home_free_ns, slot_free_ns[16];
    bool away[HANDLES_MAX], resident[HANDLES_MAX];
    uint64_t steps, random, left, at_slots[4], at_device[4];
};

/* Blocks of which a processor makes two bytes a nanosecond, unless it takes longer than one would think. */
static int64_t block_bytes(const struct setting *setting)
{
    double surprise = setting->surprise > 0 ? setting->surprise : 1;
    return (int64_t)(setting->slot_ns * 2 / surprise / 8) * 8;
}

static double copy_ns(const struct setting *setting)
{
    return (double)block_bytes(setting) * setting->copy_ns_per_byte;
}

static double noise(struct world *world)
{
    world->random = world->random * UINT64_C(6364136223846793005) + 1;
    return 1 + world->setting.noise * ((double)(world->random >> 40) / (double)(1 << 23) - 1);
}

static double later(double a, double b)
{
    return a > b ? a : b;
}

static double run_at_device(struct world *world, const struct tessi_flow_action *action, double *ran_ns)
{
    double copied_ns = (double)world->now_ns;
    for (uint32_t i = 0; i < action->in_count; i++) {
        if (!world->resident[action->in[i]]) {
            world->resident[action->in[i]] = true;
            copied_ns = world->in_free_ns =
                later(world->in_free_ns, (double)world->now_ns) + copy_ns(&world->setting);
        }
    }
    world->resident[action->out] = world->away[action->out] = true;
    *ran_ns = world->setting.device_ns * noise(world);
    return world->compute_free_ns = later(world->compute_free_ns, copied_ns) + LAUNCH_NS + *ran_ns;
}

static double run_at_slot(struct world *world, const struct tessi_flow_action *action, double *ran_ns)
{
    double home_ns = (double)world->now_ns;
    for (uint32_t i = 0; i < action->in_count; i++) {
        if (world->away[action->in[i]]) {
            world->away[action->in[i]] = false;
            home_ns = world->home_free_ns = later(world->home_free_ns, (double)world->now_ns) + LATENCY_NS +
                                            copy_ns(&world->setting);
        }
    }
    world->resident[action->out] = world->away[action->out] = false;
    *ran_ns = world->setting.slot_ns * noise(world);
    return world->slot_free_ns[action->slot] = later(world->slot_free_ns[action->slot], home_ns) + *ran_ns;
}

static void step(struct world *world, struct tessi_flow_event event)
{
    event.now_ns = world->now_ns;
    world->actions.count = 0;
    tessi_flow_step(world->flow, &event, &world->actions);
    if (world->steps++ % 32 == 0) {
        tessi_flow_verify(world->flow);
    }
    for (size_t i = 0; i < world->actions.count; i++) {
        const struct tessi_flow_action *action = &world->actions.items[i];
        if (action->kind != TESSI_FLOW_RUN) {
            assert_true(action->kind == TESSI_FLOW_ALLOC);
            continue;
        }
        bool device = action->slot >= world->setting.slots;
        double ran_ns;
        double end_ns = device ? run_at_device(world, action, &ran_ns) : run_at_slot(world, action, &ran_ns);
        (device ? world->at_device : world->at_slots)[action->task.layer]++;
        tessi_grow(&world->ends, &world->end_capacity, world->end_count + 1, sizeof *world->ends);
        world->ends[world->end_count] =
            (struct tessi_flow_outcome){.slot = action->slot, .run = action->run, .ran_ns = (int64_t)ran_ns};
        tessi_heap_push(&world->heap, (uint64_t)end_ns + LATENCY_NS, world->end_count, (uint32_t)world->end_count);
        world->end_count++;
    }
}

static void add_layer(struct world *world, const struct tessi_layer *layer, bool device, bool either, uint64_t order)
{
    uint64_t count = tessi_layer_tasks(layer);
    struct tessi_span span = {.session = SESSION, .layer = layer->id, .count = count, .epoch = 1, .order = order,
                              .order_step = 1};
    step(world, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = tessi_layer_copy(layer), .device = device,
                                          .either = either && !world->setting.alone});
    step(world, (struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN, .spans = &span, .span_count = 1});
    world->left += count;
}

static void begin(struct world *world)
{
    const struct setting *setting = &world->setting;
    struct tessi_flow_config config = {.self = 1, .slots = setting->slots, .device_slots = 128, .slot_depth = 512,
                                       .window = 3, .memory_bytes = UINT64_C(1) << 50, .pull_bytes = 1 << 20,
                                       .copy_ns_per_byte = setting->copy_ns_per_byte};
    world->flow = tessi_flow_create(&config);
    world->random = 1;
    tessi_heap_init(&world->heap);
    struct tessi_layer *source =
        layer_source(SESSION, SOURCE, TESSI_OP_UNIFORM, (int64_t)setting->tasks, 1, block_bytes(setting));
    add_layer(world, source, true, !setting->product, 1);
    if (setting->reader) {
        struct tessi_layer *reader = layer_same(SESSION, READER, source, NULL, block_bytes(setting));
        add_layer(world, reader, true, true, setting->tasks + 1);
        tessi_layer_destroy(reader);
    }
    if (setting->others > 0) {
        int64_t count = (int64_t)setting->others;
        struct tessi_layer *other = layer_source(SESSION, OTHER, TESSI_OP_UNIFORM, count, 1, block_bytes(setting));
        add_layer(world, other, false, false, 2 * setting->tasks + 1);
        tessi_layer_destroy(other);
    }
    tessi_layer_destroy(source);
}

/* When the last task ends. */
static double run(const struct setting *setting, uint64_t at_slots[4])
{
    struct world *world = tessi_zalloc(sizeof *world);
    world->setting = *setting;
    begin(world);
    while (world->left > 0) {
        assert_true(world->heap.count > 0); /* else it is stuck */
        struct tessi_heap_entry top = tessi_heap_pop(&world->heap);
        world->now_ns = (int64_t)top.first;
        world->last_ns = world->now_ns;
        struct tessi_flow_outcome outcome = world->ends[top.value];
        world->left--;
        step(world, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1});
    }
    double took_ns = (double)world->last_ns;
    memcpy(at_slots, world->at_slots, sizeof world->at_slots);
    tessi_flow_destroy(world->flow);
    tessi_heap_fini(&world->heap);
    tessi_free(world->actions.items);
    tessi_free(world->ends);
    tessi_free(world);
    return took_ns;
}

/* The device's time alone over that with processors beside it. */
static double gain(struct setting setting, uint64_t at_slots[4])
{
    uint64_t none[4];
    double mixed_ns = run(&setting, at_slots);
    setting.alone = true;
    double alone_ns = run(&setting, none);
    assert_int_equal(none[SOURCE] + none[READER], 0);
    print_message("%llu tasks, device %.0f us, slot %.0f us, %u slots, %.2f ns/B, noise %.1f: %.1f ms alone, %.1f ms mixed, "
                  "%llu and %llu at slots: %.3f\n",
                  (unsigned long long)setting.tasks, setting.device_ns / 1e3, setting.slot_ns / 1e3, setting.slots,
                  setting.copy_ns_per_byte, setting.noise, alone_ns / 1e6, mixed_ns / 1e6,
                  (unsigned long long)at_slots[SOURCE], (unsigned long long)at_slots[READER], alone_ns / mixed_ns);
    return alone_ns / mixed_ns;
}

static const uint64_t tasks[] = {3, 20, 100, 500};
static const double noises[] = {0, 0.3};

static void test_never_slower_than_the_device_alone(void **state)
{
    (void)state;
    static const double ratios[] = {0.25, 1, 2, 10, 50, 1000};
    static const double rates[] = {0.02, 1};
    static const double surprises[] = {0.5, 4};
    for (size_t n = 0; n < sizeof tasks / sizeof *tasks; n++) {
        for (size_t r = 0; r < sizeof ratios / sizeof *ratios; r++) {
            for (size_t c = 0; c < sizeof rates / sizeof *rates; c++) {
                for (int k = 0; k < 4; k++) {
                    struct setting setting = {.tasks = tasks[n], .device_ns = 200e3, .slot_ns = 200e3 * ratios[r],
                                              .copy_ns_per_byte = rates[c], .slots = 2, .reader = k % 2 == 1,
                                              .noise = noises[k / 2], .surprise = surprises[k / 2]};
                    uint64_t at_slots[4];
                    assert_true(gain(setting, at_slots) >= 0.98);
                }
            }
        }
    }
}

static void test_processors_help(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        uint64_t at_slots[4];
        struct setting setting = {.tasks = 1000, .device_ns = 1e6, .slot_ns = 2e6, .slots = 2, .noise = noises[k]};
        assert_true(gain(setting, at_slots) >= 1.8); /* at best 2 */
        setting.tasks = 100;
        assert_true(gain(setting, at_slots) >= 1.5);
        setting.tasks = 1000;
        setting.slots = 8;
        setting.slot_ns = 8e6;
        assert_true(gain(setting, at_slots) >= 1.7);
    }
}

static void test_processors_stay_idle(void **state)
{
    (void)state;
    uint64_t at_slots[4];
    struct setting setting = {.tasks = 40, .device_ns = 1e6, .slot_ns = 50e6, .slots = 2};
    assert_true(gain(setting, at_slots) >= 0.999);
    assert_int_equal(at_slots[SOURCE], 0);
    /* What a device has made stays there when bringing it home takes longer than the work. */
    setting = (struct setting){.tasks = 500, .device_ns = 200e3, .slot_ns = 400e3, .slots = 2, .reader = true,
                               .product = true, .copy_ns_per_byte = 20};
    assert_true(gain(setting, at_slots) >= 0.98);
    assert_true(at_slots[READER] < 50);
}

static void test_tasks_for_processors_run_beside(void **state)
{
    (void)state;
    uint64_t at_slots[4];
    struct setting setting = {.tasks = 1000, .others = 400, .device_ns = 1e6, .slot_ns = 2e6, .slots = 2};
    double took_ns = run(&setting, at_slots);
    assert_int_equal(at_slots[OTHER], 400);
    /* 1000 and 800 ms of work: the processors do their own first, then help. */
    assert_true(took_ns >= 700e6 && took_ns <= 1000e6);
    setting.others = 2000;
    took_ns = run(&setting, at_slots);
    assert_true(took_ns <= 1.02 * 2000e6);
    assert_true(at_slots[SOURCE] <= 8);
}

static void test_the_choice(void **state)
{
    (void)state;
    struct tessi_flow_mixed task = {.device_queue_ns = 100e6, .device_ns = 1e6, .slot_ns = 10e6, .slot_open = true};
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_AT_SLOT);
    task.slots_busy = true;
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_AT_DEVICE);
    task.slots_busy = false;
    task.slot_open = false;
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_LATER);
    task.device_queue_ns = 9e6;
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_AT_DEVICE);
    task.slot_open = true; /* it would end at 10 here and at 10 there */
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_AT_DEVICE);
    task.copy_in_ns = 20e6;
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_AT_SLOT);
    task.copy_home_ns = 15e6;
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_AT_DEVICE);
    task.device_queue_ns = 0; /* an idle device never waits */
    task.copy_home_ns = 0;
    task.slot_open = false;
    assert_int_equal(tessi_flow_choose_place(&task), TESSI_FLOW_AT_DEVICE);
}

int main(void)
{
    const struct CMUnitTest tests_[] = {
        cmocka_unit_test(test_the_choice),
        cmocka_unit_test(test_never_slower_than_the_device_alone),
        cmocka_unit_test(test_processors_help),
        cmocka_unit_test(test_processors_stay_idle),
        cmocka_unit_test(test_tasks_for_processors_run_beside),
    };
    return cmocka_run_group_tests(tests_, NULL, NULL);
}
