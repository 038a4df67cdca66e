/* The graphs of a flow_world: random layers, and the value that each of their blocks must have. */
#include "core/base/alloc.h"
#include "tests/unit/flow_layers.h"
#include "tests/unit/flow_world.h"

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = (a ^ b) + UINT64_C(0x9e3779b97f4a7c15) + (a << 6);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 27);
}

struct task *world_task(struct world *world, uint32_t layer, uint64_t index)
{
    return &world->tasks[layer - 1][index];
}

void world_each_input(struct world *world, uint32_t layer, uint64_t index, world_input_fn *visit, void *context)
{
    const struct tessi_layer *of = world->layer[layer - 1];
    uint32_t steps = tessi_task_steps(of, index);
    for (uint32_t s = 0; s < steps; s++) {
        struct tessi_step step;
        tessi_task_step(of, index, s, &step);
        for (uint32_t i = 0; i < step.count; i++) {
            visit(world, of->reads[step.ref[i].input], step.ref[i].index, context);
        }
    }
}

static void count_dependent(struct world *world, uint32_t layer, uint64_t index, void *context)
{
    (void)context;
    world_task(world, layer, index)->remaining++;
    world_task(world, layer, index)->result = false;
}

uint64_t world_step_value(const struct tessi_layer *layer, uint64_t index, uint32_t step, uint64_t before,
                          const uint64_t *inputs, uint32_t count)
{
    uint64_t value = step == 0 ? mix(layer->id, index) : before;
    for (uint32_t i = 0; i < count; i++) {
        value = mix(value, inputs[i]);
    }
    return mix(value, step);
}

static void add_layer(struct world *world, struct tessi_layer *layer)
{
    uint64_t tasks = tessi_layer_tasks(layer);
    size_t i = world->layers++;
    world->layer[i] = layer;
    world->base[i] = i == 0 ? 0 : world->base[i - 1] + tessi_layer_tasks(world->layer[i - 1]);
    world->tasks[i] = tessi_zalloc(tasks * sizeof **world->tasks);
    world->left += tasks;
    for (uint64_t t = 0; t < tasks; t++) {
        struct task *task = &world->tasks[i][t];
        task->result = true;
        task->owner = 1 + world_below(world, world->workers);
        task->epoch = 1;
        uint32_t steps = tessi_task_steps(layer, t);
        for (uint32_t s = 0; s < steps; s++) {
            struct tessi_step step;
            uint64_t values[TESSI_STEP_REFS_MAX];
            tessi_task_step(layer, t, s, &step);
            for (uint32_t k = 0; k < step.count; k++) {
                values[k] = world_task(world, layer->reads[step.ref[k].input], step.ref[k].index)->value;
            }
            task->value = world_step_value(layer, t, s, task->value, values, step.count);
        }
        world_each_input(world, layer->id, t, count_dependent, NULL);
    }
}

static int64_t any_bytes(struct world *world)
{
    static const int64_t bytes[] = {800, 8000, 70000, 80000, 160000};
    return bytes[world_below(world, 5)];
}

void world_make_graph(struct world *world)
{
    static const enum tessi_op sources[] = {TESSI_OP_FULL, TESSI_OP_RECEIVE, TESSI_OP_READ_NPY};
    uint32_t wanted = 4 + world_below(world, LAYERS_MAX - 6);
    int64_t rows = 1 + world_below(world, 4), columns = 1 + world_below(world, 6);
    add_layer(world, layer_source(SESSION, 1, sources[world_below(world, 3)], rows, columns, any_bytes(world)));
    while (world->layers < wanted) {
        uint32_t id = (uint32_t)world->layers + 1;
        const struct tessi_layer *from = world->layer[world_below(world, world->layers)];
        const struct tessi_layer *other = world->layer[world_below(world, world->layers)];
        uint32_t kind = world_below(world, 6);
        if (kind == 0) {
            int64_t bytes = any_bytes(world);
            add_layer(world, layer_source(SESSION, id, sources[world_below(world, 3)], rows, columns, bytes));
        } else if (kind == 1) {
            add_layer(world, layer_fold(SESSION, id, from, any_bytes(world)));
        } else if (kind == 2 && world->layers + 2 <= LAYERS_MAX) {
            int64_t inner = 1 + world_below(world, 8);
            int64_t bytes = any_bytes(world);
            add_layer(world, layer_left(SESSION, id, TESSI_OP_FULL, 1 + world_below(world, 4), inner, bytes));
            struct tessi_layer *right = layer_source(SESSION, id + 1, TESSI_OP_READ_NPY, inner,
                                                     1 + world_below(world, 4), any_bytes(world));
            add_layer(world, right);
            if (world->layers < LAYERS_MAX) {
                add_layer(world, layer_product(SESSION, id + 2, world->layer[id - 1], right, any_bytes(world)));
            }
        } else {
            bool same = from->grid.axis[0].count == other->grid.axis[0].count &&
                        from->grid.axis[1].count == other->grid.axis[1].count;
            add_layer(world, layer_same(SESSION, id, from, same ? other : NULL, any_bytes(world)));
        }
    }
}
