/* Processors and devices: the scheduler machine with virtual workers that have both, and only take time.
 *
 * tests/run: one thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/heap.h"
#include "core/sched/explain/explain.h"
#include "core/sched/sched.h"

#define CLIENT 1000u
#define WORKERS_MAX 8
#define LATENCY_NS 100000
#define MS INT64_C(1000000)

enum { FOR_PROCESSORS = 1, FOR_DEVICES = 2 }; /* ids of the layers */

struct task {
    struct tessi_span span;
    bool live;
};

struct queue {
    struct task *tasks; /* owned; in the order of arrival */
    size_t count, capacity, first;
    uint32_t units, busy;
    double speed; /* 1: a task takes TASK_NS */
};
#define TASK_NS (5.0 * (double)MS)

struct runner {
    struct queue queue[2]; /* processors, devices */
    double gflops;         /* as told; 0: nothing is */
    uint64_t lost;         /* devices */
    uint64_t ran[2][3];    /* tasks, by where and layer */
};

enum kind { ARRIVE, END, REPORT, TICK, LOSE };

struct event {
    enum kind kind;
    uint32_t worker;
    uint32_t at; /* END: the queue */
    struct tessi_span span;
    bool ask_back;              /* ARRIVE */
    struct tessi_report report; /* REPORT; owned */
};

struct world {
    struct tessi_sched *sched;
    struct tessi_heap heap;
    struct event *events;
    size_t count, capacity;
    struct runner runners[WORKERS_MAX];
    uint32_t workers;
    int64_t now_ns, tick_ns, lose_ns; /* when worker 1 loses its devices; 0: never */
    uint64_t done, wanted, first_given[WORKERS_MAX];
    bool unsupported; /* workers run the devices' layer on processors */
};

static void at(struct world *world, int64_t when_ns, struct event event)
{
    tessi_grow(&world->events, &world->capacity, world->count + 1, sizeof *world->events);
    world->events[world->count] = event;
    tessi_heap_push(&world->heap, (uint64_t)when_ns, world->count, (uint32_t)world->count);
    world->count++;
}

static void step(struct world *world, struct tessi_sched_event event)
{
    struct tessi_sched_actions actions;
    event.now_ns = world->now_ns;
    tessi_sched_step(world->sched, &event, &actions);
    for (size_t i = 0; i < actions.count; i++) {
        const struct tessi_sched_action *action = &actions.items[i];
        bool give = action->kind == TESSI_SCHED_ASSIGN;
        assert_true(action->kind != TESSI_SCHED_FAILED && action->kind != TESSI_SCHED_REFUSED &&
                    action->kind != TESSI_SCHED_REJECT);
        for (size_t s = 0; (give || action->kind == TESSI_SCHED_STEAL) && s < action->span_count; s++) {
            at(world, world->now_ns + LATENCY_NS,
               (struct event){.kind = ARRIVE, .worker = action->peer, .span = action->spans[s], .ask_back = !give});
        }
    }
    if (actions.wake_ns < world->tick_ns || world->tick_ns <= world->now_ns) {
        world->tick_ns = actions.wake_ns;
        at(world, world->tick_ns, (struct event){.kind = TICK});
    }
    tessi_sched_verify(world->sched);
}

static uint32_t place_of(const struct world *world, const struct runner *runner, uint32_t layer)
{
    return layer == FOR_DEVICES && !world->unsupported && runner->lost < runner->queue[1].units ? 1 : 0;
}

static void start_tasks(struct world *world, uint32_t id)
{
    struct runner *runner = &world->runners[id - 1];
    for (uint32_t k = 0; k < 2; k++) {
        struct queue *queue = &runner->queue[k];
        while (queue->busy < queue->units && queue->first < queue->count) {
            struct task *task = &queue->tasks[queue->first++];
            if (task->live) {
                task->live = false;
                queue->busy++;
                struct event end = {.kind = END, .worker = id, .at = k, .span = task->span};
                end.span.time_ns = (int64_t)(TASK_NS / queue->speed);
                end.span.device = k;
                at(world, world->now_ns + end.span.time_ns, end);
                struct event report = {.kind = REPORT, .worker = id};
                report.report.devices_lost = runner->lost;
                tessi_spans_push(&report.report.started, task->span);
                at(world, world->now_ns + LATENCY_NS, report);
            }
        }
    }
}

static void push(struct queue *queue, struct tessi_span span)
{
    tessi_grow(&queue->tasks, &queue->capacity, queue->count + 1, sizeof *queue->tasks);
    queue->tasks[queue->count++] = (struct task){span, true};
}

static bool take_one(struct runner *runner, const struct tessi_span *one)
{
    for (uint32_t k = 0; k < 2; k++) {
        for (size_t t = runner->queue[k].first; t < runner->queue[k].count; t++) {
            struct task *task = &runner->queue[k].tasks[t];
            if (task->live && task->span.layer == one->layer && task->span.first == one->first &&
                task->span.epoch == one->epoch) {
                task->live = false;
                return true;
            }
        }
    }
    return false;
}

static void arrive(struct world *world, const struct event *event)
{
    struct runner *runner = &world->runners[event->worker - 1];
    struct event answer = {.kind = REPORT, .worker = event->worker};
    answer.report.devices_lost = runner->lost;
    for (uint64_t i = 0; i < event->span.count; i++) {
        struct tessi_span one = event->span;
        one.first += i;
        one.count = 1;
        if (event->ask_back) {
            tessi_spans_push(take_one(runner, &one) ? &answer.report.stolen : &answer.report.kept, one);
        } else {
            push(&runner->queue[place_of(world, runner, one.layer)], one);
        }
    }
    if (event->ask_back) {
        at(world, world->now_ns + LATENCY_NS, answer);
    }
    start_tasks(world, event->worker);
}

static void join(struct world *world, uint32_t id)
{
    const struct runner *runner = &world->runners[id - 1];
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = id};
    event.worker.slots = runner->queue[0].units;
    event.worker.memory_bytes = UINT64_C(1) << 40;
    event.worker.devices = runner->queue[1].units;
    event.worker.device_gflops = runner->gflops;
    (void)snprintf(event.worker.family, sizeof event.worker.family, "plain+device");
    (void)snprintf(event.worker.device, sizeof event.worker.device, "device of %.0f", runner->gflops);
    step(world, event);
}

static void end_task(struct world *world, const struct event *event)
{
    struct runner *runner = &world->runners[event->worker - 1];
    struct event report = {.kind = REPORT, .worker = event->worker};
    report.report.devices_lost = runner->lost;
    tessi_spans_push(&report.report.done, event->span);
    at(world, world->now_ns + LATENCY_NS, report);
    runner->queue[event->at].busy--;
    runner->ran[event->at][event->span.layer]++;
    world->done++;
    start_tasks(world, event->worker);
}

/* What waits for its devices waits for its processors now; what runs there ends. */
static void lose(struct world *world)
{
    struct runner *runner = &world->runners[0];
    struct queue *devices = &runner->queue[1];
    runner->lost = devices->units;
    for (size_t t = devices->first; t < devices->count; t++) {
        if (devices->tasks[t].live) {
            devices->tasks[t].live = false;
            push(&runner->queue[0], devices->tasks[t].span);
        }
    }
    start_tasks(world, 1);
}

static void dispatch(struct world *world, struct event *event)
{
    switch (event->kind) {
    case ARRIVE:
        arrive(world, event);
        break;
    case END:
        end_task(world, event);
        break;
    case REPORT:
        step(world,
             (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = event->worker, .report = &event->report});
        tessi_report_fini(&event->report);
        break;
    case TICK:
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
        for (uint32_t w = 1; w <= world->workers; w++) {
            step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_HEARD, .peer = w});
        }
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_HEARD, .peer = CLIENT});
        break;
    case LOSE:
        lose(world);
        break;
    }
}

/* One dimension of blocks of 80 bytes, made by an operation that devices have, or by one that they have not. */
static struct tessi_layer *make_layer(uint32_t id, uint64_t tasks)
{
    struct tessi_layer *layer =
        tessi_layer_create(CLIENT, id, id == FOR_DEVICES ? TESSI_OP_FULL : TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {1, {10 * (int64_t)tasks}};
    int64_t chunks[1] = {10};
    layer->as.full = (struct tessi_scalar){.dtype = TESSI_F64};
    if (id == FOR_PROCESSORS) {
        layer->as.synthetic.nanoseconds = 0;
    }
    tessi_grid_regular(&layer->grid, &shape, chunks);
    return layer;
}

static void begin(struct world *world)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    world->sched = tessi_sched_create(&config);
    world->tick_ns = INT64_MAX;
    tessi_heap_init(&world->heap);
    for (uint32_t w = 1; w <= world->workers; w++) {
        join(world, w);
    }
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
}

/* Run so many tasks of both layers; returns the time, and in *steals the tasks that moved. */
static double run(struct world *world, uint64_t for_processors, uint64_t for_devices, uint64_t *steals)
{
    struct tessi_layer *layers[2];
    uint32_t wanted[2];
    size_t count = 0;
    begin(world);
    if (for_devices > 0) {
        layers[count] = make_layer(FOR_DEVICES, for_devices);
        wanted[count++] = FOR_DEVICES;
    }
    if (for_processors > 0) {
        layers[count] = make_layer(FOR_PROCESSORS, for_processors);
        wanted[count++] = FOR_PROCESSORS;
    }
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                           .peer = CLIENT,
                                           .layers = layers,
                                           .layer_count = count,
                                           .ids = wanted,
                                           .id_count = count});
    if (world->lose_ns > 0) {
        at(world, world->lose_ns, (struct event){.kind = LOSE});
    }
    while (world->done < for_processors + for_devices && world->heap.count > 0) {
        struct tessi_heap_entry top = tessi_heap_pop(&world->heap);
        struct event event = world->events[top.value];
        world->events[top.value] = (struct event){0};
        world->now_ns = (int64_t)top.first;
        dispatch(world, &event);
    }
    assert_int_equal(world->done, for_processors + for_devices);
    struct tessi_sched_status status;
    tessi_sched_status(world->sched, &status);
    *steals = status.steals;
    double took_ns = (double)world->now_ns;
    while (world->heap.count > 0) {
        tessi_report_fini(&world->events[tessi_heap_pop(&world->heap).value].report);
    }
    for (uint32_t w = 0; w < world->workers; w++) {
        tessi_free(world->runners[w].queue[0].tasks);
        tessi_free(world->runners[w].queue[1].tasks);
    }
    tessi_heap_fini(&world->heap);
    tessi_free(world->events);
    tessi_sched_destroy(world->sched);
    print_message("%.3f s, %llu tasks moved\n", took_ns / 1e9, (unsigned long long)*steals);
    return took_ns;
}

static void worker(struct world *world, uint32_t slots, double speed, uint32_t devices, double device_speed,
                   double gflops)
{
    struct runner *runner = &world->runners[world->workers++];
    runner->queue[0] = (struct queue){.units = slots, .speed = speed};
    runner->queue[1] = (struct queue){.units = devices, .speed = device_speed};
    runner->gflops = gflops;
}

static void test_both_work_side_by_side(void **state)
{
    (void)state;
    struct world world = {0};
    uint64_t steals;
    worker(&world, 2, 1, 1, 20, 0);
    /* 2.5 s each: neither's queue may stand before the other's. */
    assert_true(run(&world, 1000, 10000, &steals) <= 1.05 * 2.5e9);
    assert_int_equal(world.runners[0].ran[0][FOR_PROCESSORS], 1000);
    assert_int_equal(world.runners[0].ran[1][FOR_DEVICES], 10000);
    assert_int_equal(steals, 0);
}

static void test_regions_by_nominal_speed(void **state)
{
    (void)state;
    uint64_t told, untold;
    struct world world = {0};
    worker(&world, 2, 1, 1, 1, 10e3);
    worker(&world, 2, 1, 1, 4, 40e3);
    double bound_ns = 5000 * TASK_NS / 5;
    assert_true(run(&world, 0, 5000, &told) <= 1.05 * bound_ns);
    struct world other = {0};
    worker(&other, 2, 1, 1, 1, 0);
    worker(&other, 2, 1, 1, 4, 0);
    assert_true(run(&other, 0, 5000, &untold) <= 1.1 * bound_ns);
    assert_true(untold > 500);
    assert_true(told < untold / 4);
}

static void test_more_devices_get_more(void **state)
{
    (void)state;
    struct world world = {0};
    uint64_t steals;
    worker(&world, 8, 1, 1, 1, 0);
    worker(&world, 1, 1, 3, 1, 0);
    assert_true(run(&world, 0, 4000, &steals) <= 1.02 * 4000 * TASK_NS / 4);
    assert_true(steals < 40); /* the processors, eight to one, are no reason for another share */
}

static void test_each_is_balanced_for_itself(void **state)
{
    (void)state;
    struct world world = {0};
    uint64_t steals;
    worker(&world, 4, 1, 1, 2, 0);
    worker(&world, 1, 1, 1, 18, 0);
    double processors_ns = 2000 * TASK_NS / 5, devices_ns = 8000 * TASK_NS / 20; /* 2 s each */
    double bound_ns = processors_ns > devices_ns ? processors_ns : devices_ns;
    assert_true(run(&world, 2000, 8000, &steals) <= 1.1 * bound_ns);
}

static void test_lost_devices(void **state)
{
    (void)state;
    struct world world = {.lose_ns = 200 * MS};
    uint64_t steals;
    worker(&world, 1, 1, 1, 10, 0);
    worker(&world, 1, 1, 1, 10, 0);
    /* The one that has devices left takes what the other cannot do in time. */
    assert_true(run(&world, 0, 4000, &steals) <= 1.25 * (200e6 + (4000 * TASK_NS - 20 * 200e6) / 11));
    assert_true(world.runners[0].ran[0][FOR_DEVICES] > 0);
    assert_true(steals > 500);
}

static void test_a_wrong_guess(void **state)
{
    (void)state;
    struct world world = {.unsupported = true};
    uint64_t steals;
    worker(&world, 1, 1, 2, 1, 0);
    worker(&world, 3, 1, 1, 1, 0);
    assert_true(run(&world, 0, 4000, &steals) <= 1.1 * 4000 * TASK_NS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_work_side_by_side), cmocka_unit_test(test_regions_by_nominal_speed),
        cmocka_unit_test(test_more_devices_get_more),  cmocka_unit_test(test_each_is_balanced_for_itself),
        cmocka_unit_test(test_lost_devices),           cmocka_unit_test(test_a_wrong_guess),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
