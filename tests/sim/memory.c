/* The memory and the files of a simulated worker, by the planner's handles, and what is read from them. */
#include <string.h>

#include "core/base/alloc.h"
#include "tests/sim/shell.h"

struct place *sim_place(struct sim_world *world, struct sim_node *node, uint32_t block)
{
    struct sim_worker *worker = node->worker;
    if (block >= worker->place_count || !worker->places[block].used) {
        sim_fail(world, "worker %u uses handle %u, which it has freed or never made", node->id, block);
    }
    return &worker->places[block];
}

static struct place *place_new(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct sim_worker *worker = node->worker;
    uint32_t block = action->block;
    if (block >= worker->place_count) {
        tessi_grow(&worker->places, &worker->place_capacity, (size_t)block + 1, sizeof *worker->places);
        memset(worker->places + worker->place_count, 0, (block + 1 - worker->place_count) * sizeof *worker->places);
        worker->place_count = (size_t)block + 1;
    }
    struct place *place = &worker->places[block];
    if (place->used) {
        sim_fail(world, "worker %u makes handle %u twice", node->id, block);
    }
    *place = (struct place){.used = true, .task = action->task, .bytes = action->bytes};
    return place;
}

static void take_memory(struct sim_world *world, struct sim_node *node, struct place *place)
{
    struct sim_worker *worker = node->worker;
    worker->used_bytes += place->bytes;
    if (worker->used_bytes > worker->config.memory_bytes) {
        sim_fail(world, "worker %u holds %llu bytes and its budget is %llu", node->id,
                 (unsigned long long)worker->used_bytes, (unsigned long long)worker->config.memory_bytes);
    }
    place->memory = sim_region_create(world, place->bytes);
}

/* Whoever still maps the region finds noise in it. */
static void give_memory(struct sim_world *world, struct sim_node *node, struct place *place)
{
    if (place->memory == NULL) {
        return;
    }
    if (!place->mapped) {
        if (place->memory->keeps == 0) { /* else it is not used again before what was to be sent of it has been */
            place->memory->recycled = true;
            place->memory->value = random_next(&world->random);
        }
        node->worker->used_bytes -= place->bytes;
    }
    sim_region_drop(world, place->memory);
    place->memory = NULL;
}

void sim_check_value(struct sim_world *world, const struct sim_node *node, struct tessi_task task, uint64_t value,
                     const char *use)
{
    uint64_t expected = 0;
    const struct sim_graph *graph = sim_graph_of(world, task.session);
    if (graph != NULL && (!sim_oracle(graph, task.layer, task.index, &expected) || value != expected)) {
        sim_fail(world, "worker %u: block %u:%llu is %s and holds the wrong value", node->id, task.layer,
                 (unsigned long long)task.index, use);
    }
}

uint64_t sim_good_value(struct sim_world *world, struct sim_node *node, const struct place *place, const char *use)
{
    uint64_t value = place->memory != NULL ? place->memory->value : place->stored;
    if (place->memory != NULL && !place->memory->complete && sim_graph_of(world, place->task.session) != NULL) {
        sim_fail(world, "worker %u: block %u:%llu is %s before it is complete", node->id, place->task.layer,
                 (unsigned long long)place->task.index, use);
    }
    sim_check_value(world, node, place->task, value, use);
    return value;
}

uint64_t sim_host_value(struct sim_world *world, struct sim_node *node, const struct place *place, const char *use)
{
    if (place->memory != NULL && place->memory->away) {
        sim_fail(world, "worker %u: block %u:%llu is %s while a device has its bytes", node->id, place->task.layer,
                 (unsigned long long)place->task.index, use);
    }
    return sim_good_value(world, node, place, use);
}

static bool regenerable_here(const struct tessi_flow_action *action)
{
    return action->layer != NULL && tessi_layer_regenerable(action->layer);
}

static int64_t file_ns(const struct place *place)
{
    return 100000 + (place->bytes < 50 * SIM_MS ? (int64_t)place->bytes : 50 * SIM_MS);
}

void sim_worker_spill(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct place *place = sim_place(world, node, action->block);
    bool regenerable = regenerable_here(action);
    (void)(regenerable ? sim_good_value : sim_host_value)(world, node, place, "spilled");
    bool fails = !regenerable && random_chance(&world->random, world->options.spill_fail_percent) &&
                 (!world->faults_over || world->options.full);
    place->busy = true;
    place->to_file = !regenerable;
    place->damaged = !regenerable && random_chance(&world->random, world->options.damage_percent);
    int64_t io_ns = regenerable ? 1 : file_ns(place);
    sim_schedule(world, world->now_ns + io_ns,
                 (struct sim_event){.kind = SIM_SPILLED, .node = node->id, .a = action->block, .failed = fails});
}

void sim_memory_unalloc(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct place *place = sim_place(world, node, action->block);
    uint64_t value = (place->to_file ? sim_host_value : sim_good_value)(world, node, place, "moved to disk");
    sim_devices_forget(node->worker, action->block);
    if (place->busy || place->memory == NULL || place->mapped) {
        sim_fail(world, "worker %u gives back memory that is in use", node->id);
    }
    place->stored = value;
    give_memory(world, node, place);
}

void sim_memory_load(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct place *place = sim_place(world, node, action->block);
    if (place->busy || place->memory != NULL || (!place->file && !regenerable_here(action))) {
        sim_fail(world, "worker %u loads a block that is in no file", node->id);
    }
    take_memory(world, node, place);
    place->busy = true;
    sim_schedule(world, world->now_ns + file_ns(place),
                 (struct sim_event){.kind = SIM_LOADED, .node = node->id, .a = action->block});
}

static void drop_file(struct sim_node *node, struct place *place)
{
    if (place->file) {
        place->file = false;
        node->worker->file_bytes -= place->bytes;
    }
    place->damaged = false;
}

void sim_memory_free(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct sim_worker *worker = node->worker;
    struct place *place = sim_place(world, node, action->block);
    bool in_use = place->busy;
    for (uint32_t s = 0; s < sim_slots_all(worker); s++) {
        for (size_t r = 0; r < worker->slots[s].count; r++) {
            const struct tessi_flow_action *run = &worker->slots[s].runs[r].action;
            in_use = in_use || run->out == action->block;
            for (uint32_t i = 0; i < run->in_count; i++) {
                in_use = in_use || run->in[i] == action->block;
            }
        }
    }
    for (size_t t = 0; t < worker->transfer_count; t++) {
        in_use = in_use || worker->transfers[t].block == action->block;
    }
    if (in_use) {
        sim_fail(world, "worker %u frees %u:%llu while it is in use", node->id, place->task.layer,
                 (unsigned long long)place->task.index);
    }
    sim_devices_forget(worker, action->block);
    give_memory(world, node, place);
    drop_file(node, place);
    *place = (struct place){0};
}

void sim_memory_map(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct place *place = place_new(world, node, action);
    const struct sim_message *message = node->worker->message;
    if (message == NULL || message->kind != SIM_LEASE || message->task.index != action->task.index ||
        message->task.layer != action->task.layer) {
        sim_fail(world, "worker %u maps memory that nobody lends", node->id);
    }
    place->mapped = true;
    place->memory = message->region;
    place->memory->refs++;
}

void sim_memory_alloc(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct place *place = place_new(world, node, action);
    const struct sim_message *message = node->worker->message;
    take_memory(world, node, place);
    if (message != NULL && message->kind == SIM_INLINE && message->task.session == action->task.session &&
        message->task.layer == action->task.layer && message->task.index == action->task.index) {
        place->memory->value = message->value;
        place->memory->complete = true;
    }
}

void sim_memory_spilled(struct sim_world *world, struct sim_node *node, const struct sim_event *event)
{
    struct place *place = sim_place(world, node, event->a);
    struct sim_worker *worker = node->worker;
    place->busy = false;
    if (!event->failed && place->to_file) {
        place->file = true;
        worker->file_bytes += place->bytes;
        if (worker->file_bytes > worker->config.spill_bytes) {
            sim_fail(world, "worker %u has %llu bytes in files and may have %llu", node->id,
                     (unsigned long long)worker->file_bytes, (unsigned long long)worker->config.spill_bytes);
        }
    }
    struct tessi_flow_event spilled = {.kind = TESSI_FLOW_SPILLED,
                                       .block = event->a,
                                       .status = event->failed ? TESSI_IO : TESSI_OK,
                                       .text = event->failed ? "the disk is full" : NULL};
    if (event->failed && !worker->spill_rests) {
        worker->spill_rests = true;
        sim_schedule(world, world->now_ns + 100 * SIM_MS, (struct sim_event){.kind = SIM_SPILL_AGAIN, .node = node->id});
    }
    sim_worker_step(world, node, &spilled, NULL);
}

void sim_memory_spill_again(struct sim_world *world, struct sim_node *node)
{
    node->worker->spill_rests = false;
    sim_worker_step(world, node, &(struct tessi_flow_event){.kind = TESSI_FLOW_SPILL_AGAIN}, NULL);
}

void sim_memory_loaded(struct sim_world *world, struct sim_node *node, const struct sim_event *event)
{
    struct place *place = sim_place(world, node, event->a);
    bool bad = place->damaged;
    place->busy = false;
    if (!bad) {
        place->memory->value = place->stored;
        place->memory->complete = true;
        drop_file(node, place);
    }
    struct tessi_flow_event loaded = {
        .kind = TESSI_FLOW_LOADED, .block = event->a, .status = bad ? TESSI_FORMAT : TESSI_OK};
    sim_worker_step(world, node, &loaded, NULL);
}
