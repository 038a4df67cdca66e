/* Balance with mixed speeds: the scheduler machine and virtual workers that only take time. */
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
#define WORKERS_MAX 64
#define LATENCY_NS 100000
#define MS INT64_C(1000000)

struct given { /* a task that a worker has */
    struct tessi_span span;
    bool live;
};

struct runner {
    double speed; /* of an ordinary worker: 1 */
    uint32_t slots, busy;
    struct given *tasks; /* owned; by index, in the order of arrival */
    size_t count, capacity, first;
    double worked_ns;
    int64_t joined_ns;
};

enum kind { ARRIVE, END, REPORT, TICK, JOIN };

struct event {
    enum kind kind;
    uint32_t worker;
    struct tessi_span span;
    enum { GIVE, ASK_BACK } what; /* ARRIVE */
    struct tessi_report report;   /* REPORT; owned */
};

struct world {
    struct tessi_sched *sched;
    struct tessi_heap heap;
    struct event *events;
    size_t count, capacity;
    struct runner runners[WORKERS_MAX];
    uint32_t workers;
    int64_t now_ns, tick_ns;
    uint64_t done, asked_back, given_up;
    uint32_t moves; /* most often that one task was handed out */
    double (*duration_ns)(uint64_t index);
    bool finished;
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
        world->finished = world->finished || action->kind == TESSI_SCHED_DONE;
        for (size_t s = 0; (give || action->kind == TESSI_SCHED_STEAL) && s < action->span_count; s++) {
            struct event arrival = {.kind = ARRIVE, .worker = action->peer, .span = action->spans[s]};
            arrival.what = give ? GIVE : ASK_BACK;
            world->moves = give && arrival.span.epoch > world->moves ? arrival.span.epoch : world->moves;
            at(world, world->now_ns + LATENCY_NS, arrival);
        }
    }
    if (actions.wake_ns < world->tick_ns || world->tick_ns <= world->now_ns) {
        world->tick_ns = actions.wake_ns;
        at(world, world->tick_ns, (struct event){.kind = TICK});
    }
}

static void start_tasks(struct world *world, uint32_t id)
{
    struct runner *runner = &world->runners[id - 1];
    while (runner->busy < runner->slots && runner->first < runner->count) {
        struct given *task = &runner->tasks[runner->first++];
        if (task->live) {
            task->live = false;
            runner->busy++;
            double ns = world->duration_ns(task->span.first) / runner->speed;
            runner->worked_ns += ns;
            struct event end = {.kind = END, .worker = id, .span = task->span};
            end.span.time_ns = (int64_t)ns;
            at(world, world->now_ns + (int64_t)ns, end);
            struct event report = {.kind = REPORT, .worker = id};
            tessi_spans_push(&report.report.started, task->span);
            at(world, world->now_ns + LATENCY_NS, report);
        }
    }
}

static void take_back(struct world *world, uint32_t id, struct tessi_span span)
{
    struct runner *runner = &world->runners[id - 1];
    struct event answer = {.kind = REPORT, .worker = id};
    for (uint64_t i = span.first; i < span.first + span.count; i++) {
        struct tessi_span one = span;
        bool found = false;
        one.first = i;
        one.count = 1;
        for (size_t t = runner->first; t < runner->count && !found; t++) {
            struct given *task = &runner->tasks[t];
            found = task->live && task->span.first == i && task->span.epoch == span.epoch;
            task->live = found ? false : task->live;
        }
        world->asked_back++;
        world->given_up += found;
        tessi_spans_push(found ? &answer.report.stolen : &answer.report.kept, one);
    }
    at(world, world->now_ns + LATENCY_NS, answer);
}

static void arrive(struct world *world, const struct event *event)
{
    struct runner *runner = &world->runners[event->worker - 1];
    if (event->what == ASK_BACK) {
        take_back(world, event->worker, event->span);
        return;
    }
    for (uint64_t i = 0; i < event->span.count; i++) {
        struct tessi_span one = event->span;
        one.first += i;
        one.count = 1;
        tessi_grow(&runner->tasks, &runner->capacity, runner->count + 1, sizeof *runner->tasks);
        runner->tasks[runner->count++] = (struct given){one, true};
    }
    start_tasks(world, event->worker);
}

static void join(struct world *world, uint32_t id)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = id};
    event.worker.slots = world->runners[id - 1].slots;
    event.worker.memory_bytes = UINT64_C(1) << 40;
    (void)snprintf(event.worker.family, sizeof event.worker.family, "plain");
    world->runners[id - 1].joined_ns = world->now_ns;
    step(world, event);
}

static void dispatch(struct world *world, struct event *event)
{
    switch (event->kind) {
    case ARRIVE:
        arrive(world, event);
        break;
    case END: {
        struct event report = {.kind = REPORT, .worker = event->worker};
        tessi_spans_push(&report.report.done, event->span);
        at(world, world->now_ns + LATENCY_NS, report);
        world->runners[event->worker - 1].busy--;
        world->done++;
        start_tasks(world, event->worker);
        break;
    }
    case REPORT:
        step(world,
             (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = event->worker, .report = &event->report});
        tessi_report_fini(&event->report);
        break;
    case TICK:
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
        for (uint32_t w = 1; w <= world->workers; w++) {
            if (world->runners[w - 1].joined_ns >= 0) {
                step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_HEARD, .peer = w});
            }
        }
        step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_HEARD, .peer = CLIENT});
        break;
    case JOIN:
        join(world, event->worker);
        break;
    }
}

static struct tessi_layer *tasks_layer(uint64_t tasks)
{
    struct tessi_layer *layer = tessi_layer_create(CLIENT, 1, TESSI_OP_SYNTHETIC, TESSI_F64);
    struct tessi_shape shape = {1, {(int64_t)tasks}};
    int64_t chunks[1] = {1};
    tessi_grid_regular(&layer->grid, &shape, chunks);
    return layer;
}

struct outcome {
    double makespan_ns, bound_ns;
    uint64_t steals;
    uint32_t moves;
};

/* Run `tasks` tasks; workers with joined_ns > 0 join then. The bound: work over the speed that is there over time. */
static struct outcome run(struct world *world, uint64_t tasks)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    double work_ns = 0, speed = 0, late_speed = 0, late_ns = 0;
    uint32_t wanted = 1;
    world->sched = tessi_sched_create(&config);
    world->tick_ns = INT64_MAX;
    tessi_heap_init(&world->heap);
    for (uint32_t w = 1; w <= world->workers; w++) {
        struct runner *runner = &world->runners[w - 1];
        runner->slots = runner->slots == 0 ? 1 : runner->slots;
        if (runner->joined_ns > 0) {
            late_speed += runner->speed * runner->slots;
            late_ns = (double)runner->joined_ns;
            at(world, runner->joined_ns, (struct event){.kind = JOIN, .worker = w});
            runner->joined_ns = -1;
        } else {
            speed += runner->speed * runner->slots;
            join(world, w);
        }
    }
    for (uint64_t i = 0; i < tasks; i++) {
        work_ns += world->duration_ns(i);
    }
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
    struct tessi_layer *layers[1] = {tasks_layer(tasks)};
    step(world, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                           .peer = CLIENT,
                                           .layers = layers,
                                           .layer_count = 1,
                                           .ids = &wanted,
                                           .id_count = 1});
    while (!world->finished && world->heap.count > 0) {
        struct tessi_heap_entry top = tessi_heap_pop(&world->heap);
        struct event event = world->events[top.value];
        world->events[top.value] = (struct event){0};
        world->now_ns = (int64_t)top.first;
        dispatch(world, &event);
    }
    assert_true(world->finished);
    assert_int_equal(world->done, tasks);
    struct tessi_sched_status status;
    tessi_sched_status(world->sched, &status);
    struct outcome outcome = {(double)world->now_ns, work_ns / speed, status.steals, world->moves};
    if (late_speed > 0 && late_ns < outcome.bound_ns) {
        outcome.bound_ns = late_ns + (work_ns - late_ns * speed) / (speed + late_speed);
    }
    print_message("makespan %.3f s, bound %.3f s, ratio %.3f; %llu tasks moved, %llu asked back, %llu given up, one "
                  "up to %u times\n",
                  outcome.makespan_ns / 1e9, outcome.bound_ns / 1e9, outcome.makespan_ns / outcome.bound_ns,
                  (unsigned long long)status.steals, (unsigned long long)world->asked_back,
                  (unsigned long long)world->given_up, world->moves - 1);
    while (world->heap.count > 0) {
        tessi_report_fini(&world->events[tessi_heap_pop(&world->heap).value].report);
    }
    for (uint32_t w = 0; w < world->workers; w++) {
        tessi_free(world->runners[w].tasks);
    }
    tessi_heap_fini(&world->heap);
    tessi_free(world->events);
    tessi_sched_destroy(world->sched);
    return outcome;
}

static double equal(uint64_t index)
{
    (void)index;
    return 5 * (double)MS;
}

/* From 0.2 to 25 ms, a few long ones among many short: exp of something near a normal. */
static double uneven(uint64_t index)
{
    uint64_t z = (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    double factor = 0.5;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    for (uint32_t bits = (uint32_t)(z >> 40) & 0x7ff; bits != 0; bits &= bits - 1) {
        factor *= 1.5;
    }
    return factor * (double)MS / 4;
}

static void expect(struct outcome outcome, double ratio, uint64_t steals)
{
    assert_true(outcome.makespan_ns <= ratio * outcome.bound_ns);
    assert_true(outcome.steals <= steals); /* no task travels to and fro */
    assert_true(outcome.moves <= 9);
}

static void test_one_worker_slower(void **state)
{
    (void)state;
    struct world world = {.workers = 2, .duration_ns = equal};
    world.runners[0].speed = 1;
    world.runners[1].speed = 0.25;
    expect(run(&world, 1000), 1.1, 450); /* 300 have to move */
}

static void test_one_of_many_slower(void **state)
{
    (void)state;
    struct world world = {.workers = 8, .duration_ns = equal};
    for (uint32_t w = 0; w < 8; w++) {
        world.runners[w].speed = w == 3 ? 0.25 : 1;
    }
    expect(run(&world, 4000), 1.1, 1200); /* 360 have to move */
}

static void test_one_device_much_faster(void **state)
{
    (void)state;
    struct world world = {.workers = 5, .duration_ns = equal};
    for (uint32_t w = 0; w < 5; w++) {
        world.runners[w].speed = w == 2 ? 1 : 0.02;
    }
    expect(run(&world, 10000), 1.1, 11000); /* 7300 have to move */
}

static void test_a_worker_joins_half_way(void **state)
{
    (void)state;
    struct world world = {.workers = 3, .duration_ns = equal};
    for (uint32_t w = 0; w < 3; w++) {
        world.runners[w].speed = 1;
    }
    world.runners[2].joined_ns = 2500 * MS;
    expect(run(&world, 2000), 1.1, 750); /* 333 have to move */
}

static void test_uneven_tasks(void **state)
{
    (void)state;
    struct world world = {.workers = 4, .duration_ns = uneven};
    for (uint32_t w = 0; w < 4; w++) {
        world.runners[w].speed = 1;
        world.runners[w].slots = 2;
    }
    expect(run(&world, 4000), 1.1, 400);
}

static void test_equal_workers_leave_each_other_alone(void **state)
{
    (void)state;
    struct world world = {.workers = 8, .duration_ns = equal};
    for (uint32_t w = 0; w < 8; w++) {
        world.runners[w].speed = 1;
    }
    expect(run(&world, 8000), 1.05, 80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_worker_slower),      cmocka_unit_test(test_one_of_many_slower),
        cmocka_unit_test(test_one_device_much_faster), cmocka_unit_test(test_a_worker_joins_half_way),
        cmocka_unit_test(test_uneven_tasks),           cmocka_unit_test(test_equal_workers_leave_each_other_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
