/* Seeded worlds of several planners (flow_world.h): whatever the seed, every task ends with the right content, and the
 * invariants hold after every event. TESSERA_SEED=N runs one seed, TESSERA_ROUNDS=N the first N.
 *
 * tests/run: one thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/unit/flow_world.h"

static void deliver(struct world *world, uint32_t from, uint32_t to)
{
    struct queue *queue = &world->queue[from][to];
    struct message message = queue->items[queue->head++];
    queue->count--;
    if (to == SCHEDULER) {
        world_scheduler_receive(world, from, &message);
    } else if (to == world->workers + 1) { /* the client answers every PULL */
        TESS_ASSERT(message.event.kind == TESSI_FLOW_PULL);
        struct message *data = world_post_event(world, to, from, TESSI_FLOW_DATA);
        data->event.task = message.event.task;
        data->value = world_task(world, message.event.task.layer, message.event.task.index)->value;
    } else {
        world_step(world, to, &message);
    }
    world_message_fini(&message);
}

static void create(struct world *world, uint64_t seed)
{
    *world = (struct world){.chance = {seed * 7919}};
    world->workers = 1 + world_below(world, WORKERS_MAX);
    world_make_graph(world);
    uint64_t footprint = 0, total = 0;
    for (size_t i = 0; i < world->layers; i++) {
        total += tessi_layer_bytes(world->layer[i]);
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[i]); t++) {
            uint64_t bytes = tessi_task_footprint(world->layer[i], t);
            footprint = bytes > footprint ? bytes : footprint;
        }
    }
    bool spilling = world_below(world, 3) != 0;
    for (uint32_t w = 1; w <= world->workers; w++) {
        uint64_t memory = spilling ? footprint + footprint * world_below(world, 4) / 2 : footprint + total;
        world_create_worker(world, w, memory, spilling ? total + footprint : 0);
    }
    for (uint32_t w = 1; w <= world->workers; w++) {
        for (size_t i = 0; i < world->layers; i++) {
            struct message *message = world_post_event(world, SCHEDULER, w, TESSI_FLOW_LAYER);
            message->event.layer = tessi_layer_copy(world->layer[i]);
            message->event.device = world_below(world, 2) == 0;
            message->event.either = world_below(world, 2) == 0;
        }
        for (uint32_t other = 1; other <= world->workers; other++) {
            if (other != w) {
                struct message *message = world_post_event(world, SCHEDULER, w, TESSI_FLOW_PEER_UP);
                message->event.peer = other;
                message->event.shares_memory = world->host[w] == world->host[other];
            }
        }
    }
    for (uint32_t layer = 1; layer <= world->layers; layer++) {
        struct message *open[WORKERS_MAX + 1] = {0};
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[layer - 1]); t++) {
            uint32_t owner = world_task(world, layer, t)->owner;
            if (open[owner] == NULL || world_below(world, 4) == 0) {
                open[owner] = world_post_event(world, SCHEDULER, owner, TESSI_FLOW_ASSIGN);
            }
            world_assign(world, layer, t, open[owner]);
        }
    }
}

static bool something_happens(struct world *world)
{
    struct { uint32_t kind, a, b; } choices[ENDS * ENDS + WORKERS_MAX * (SLOTS_MAX + 4)];
    uint32_t count = 0;
    for (uint32_t from = 0; from <= world->workers + 1; from++) {
        for (uint32_t to = 0; to <= world->workers + 1; to++) {
            if (world->queue[from][to].count > 0) {
                choices[count].kind = 0, choices[count].a = from, choices[count++].b = to;
            }
        }
    }
    for (uint32_t w = 1; w <= world->workers; w++) {
        struct worker *worker = &world->worker[w];
        for (uint32_t s = 0; worker->alive && s < worker->config.slots + worker->config.device_slots; s++) {
            if (world_may_run(worker, s)) {
                choices[count].kind = 1, choices[count].a = w, choices[count++].b = s;
            }
        }
        if (worker->alive && worker->io_count > 0) {
            choices[count].kind = 2, choices[count].a = w, choices[count++].b = 0;
        }
    }
    if (count == 0) {
        bool reported = false;
        for (uint32_t w = 1; w <= world->workers; w++) {
            reported = (world->worker[w].alive && world_report(world, w)) || reported;
        }
        return reported;
    }
    uint32_t chosen = world_below(world, count);
    if (choices[chosen].kind == 0) {
        deliver(world, choices[chosen].a, choices[chosen].b);
    } else if (choices[chosen].kind == 1) {
        world_run_slot(world, choices[chosen].a, choices[chosen].b);
    } else {
        world_finish_io(world, choices[chosen].a);
    }
    return true;
}

static void check_results(struct world *world)
{
    for (uint32_t layer = 1; layer <= world->layers; layer++) {
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[layer - 1]); t++) {
            TESS_ASSERT(world_task(world, layer, t)->done);
        }
    }
}

static void destroy(struct world *world)
{
    for (uint32_t w = 1; w <= world->workers; w++) {
        if (world->worker[w].alive) {
            struct tessi_flow_stats stats;
            tessi_flow_stats(world->worker[w].flow, &stats);
            world->restarts += stats.restarted_tasks;
            world->evictions += stats.evicted_copies;
            world_worker_fini(&world->worker[w]);
        }
    }
    for (uint32_t from = 0; from < ENDS; from++) {
        for (uint32_t to = 0; to < ENDS; to++) {
            world_clear_queue(&world->queue[from][to]);
            tessi_free(world->queue[from][to].items);
        }
    }
    for (size_t i = 0; i < world->layers; i++) {
        tessi_layer_destroy(world->layer[i]);
        tessi_free(world->tasks[i]);
    }
    tessi_free(world->actions.items);
}

struct totals {
    uint64_t restarts, steals, deaths, spills, leases, evictions;
};

static void run_world(uint64_t seed, struct totals *totals)
{
    static struct world world;
    create(&world, seed);
    bool dying = world_below(&world, 3) == 0;
    bool stealing = world_below(&world, 2) == 0;
    uint64_t steps = 0;
    while (world.left > 0) {
        if (stealing && world_below(&world, 20) == 0) {
            world_steal_something(&world);
        }
        if (dying && world.deaths + 1 < world.workers && world_below(&world, 300) == 0) {
            world_kill(&world, world_live_worker(&world));
        }
        if (!something_happens(&world) || ++steps > 2000000) {
            (void)fprintf(stderr, "seed %llu: stuck with %llu tasks left after %llu events\n",
                          (unsigned long long)seed, (unsigned long long)world.left, (unsigned long long)steps);
            abort();
        }
    }
    check_results(&world);
    destroy(&world);
    totals->restarts += world.restarts;
    totals->steals += world.steals;
    totals->deaths += world.deaths;
    totals->spills += world.spills;
    totals->leases += world.leases;
    totals->evictions += world.evictions;
}

static void test_random_clusters(void **state)
{
    (void)state;
    const char *only = getenv("TESSERA_SEED");
    const char *rounds = getenv("TESSERA_ROUNDS");
    struct totals totals = {0};
    if (only != NULL) {
        run_world(strtoull(only, NULL, 10), &totals);
        return;
    }
    uint64_t count = rounds != NULL ? strtoull(rounds, NULL, 10) : 300;
    for (uint64_t seed = 1; seed <= count; seed++) {
        if (getenv("TESSERA_VERBOSE") != NULL) {
            (void)fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        }
        run_world(seed, &totals);
    }
    (void)printf("restarts %llu steals %llu deaths %llu spills %llu leases %llu evictions %llu\n",
                 (unsigned long long)totals.restarts, (unsigned long long)totals.steals,
                 (unsigned long long)totals.deaths, (unsigned long long)totals.spills,
                 (unsigned long long)totals.leases, (unsigned long long)totals.evictions);
    /* A run that never came to these proves nothing about them. */
    assert_true(totals.restarts > 0 && totals.steals > 0 && totals.deaths > 0);
    assert_true(totals.spills > 0 && totals.leases > 0 && totals.evictions > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_clusters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
