/* Priorities, policies and demands of layers, and what workers have: in some worlds, from a source of chance of
 * their own. */
#include <stdio.h>

#include "core/base/assert.h"
#include "tests/sim/world.h"

#define ALL_RESOURCES "license=1,ssd=2"

static void choose_options(struct sim_world *world)
{
    struct sim_options *options = &world->options;
    struct random *random = &world->task_options;
    options->priority_percent = random_chance(random, 40) ? 50 : 0;
    options->policy_percent = random_chance(random, 40) ? 60 : 0;
    options->demand_percent = random_chance(random, 30) ? (random_chance(random, 40) ? 90 : 40) : 0;
    options->bare_percent = options->demand_percent > 0 && random_chance(random, 60) ? 50 : 0;
}

void sim_task_options_choose(struct sim_world *world, struct sim_graph *graph)
{
    static const char *const demands[] = {"ssd=1", "ssd=2", "license=1", "license=1,ssd=1"};
    struct random *random = &world->task_options;
    if (random->state == 0) {
        random->state = sim_mix(world->seed, UINT64_C(0x776973686573));
        choose_options(world);
    }
    for (size_t l = 0; l < graph->count; l++) {
        struct tessi_task_options *task_options = tessi_layer_own_task_options(graph->layers[l].layer);
        if (random_chance(random, world->options.priority_percent)) {
            task_options->priority = (int32_t)random_between(random, -TESSI_PRIORITY_MAX, TESSI_PRIORITY_MAX);
        }
        if (random_chance(random, world->options.policy_percent)) {
            task_options->policy = (enum tessi_policy)random_below(random, TESSI_POLICIES);
        }
        if (random_chance(random, world->options.demand_percent)) {
            enum tessi_status status =
                tessi_resources_parse(demands[random_below(random, 4)], &task_options->demand, NULL);
            TESS_ASSERT(status == TESSI_OK);
        }
    }
}

void sim_resources_choose(struct sim_world *world, struct tessi_worker_info *info, bool adequate)
{
    static const char *const some[] = {"", "ssd=1", "ssd=2", "license=1"};
    bool bare = !adequate && random_chance(&world->task_options, world->options.bare_percent);
    (void)snprintf(info->resources, sizeof info->resources, "%s",
                   bare ? some[random_below(&world->task_options, 4)] : ALL_RESOURCES);
    (void)snprintf(info->processor, sizeof info->processor, "p%u", random_below(&world->task_options, 2));
}
