/* The slots of a simulated worker: steps run when what they come after has ended, and the planner hears of it some time
 * later. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/shell.h"

/* Whether all that the step comes after has ended, and well. */
static bool may_start(const struct sim_worker *worker, const struct tessi_flow_action *action, bool *well)
{
    *well = true;
    for (uint32_t i = 0; i < action->after_count && action->slot < worker->config.slots; i++) {
        const struct slot *slot = &worker->slots[action->after[i].slot];
        if (slot->ended < action->after[i].last) {
            return false;
        }
        *well = *well && slot->failed < action->after[i].first;
    }
    return true;
}

static void start_step(struct sim_world *world, struct sim_node *node, uint32_t number)
{
    struct slot *slot = &node->worker->slots[number];
    bool well;
    if (slot->count == 0 || slot->runs[0].started || !may_start(node->worker, &slot->runs[0].action, &well)) {
        return;
    }
    slot->runs[0].started = true;
    slot->runs[0].started_ns = world->now_ns;
    const struct tessi_flow_action *action = &slot->runs[0].action;
    bool at_device = number >= node->worker->config.slots;
    if (at_device && !sim_devices_begin(world, node, slot)) {
        return;
    }
    if (!well || slot->runs[0].given_back) {
        sim_schedule(
            world, world->now_ns,
            (struct sim_event){.kind = SIM_STEP_END, .node = node->id, .a = number, .b = slot->round, .failed = true});
        return;
    }
    for (uint32_t i = 0; i < action->in_count; i++) {
        if (sim_place(world, node, action->in[i])->memory == NULL) {
            sim_fail(world, "worker %u: a step starts without its input %u", node->id, i);
        }
    }
    const struct sim_graph *graph = sim_graph_of(world, action->task.session);
    const struct sim_layer *layer = sim_graph_layer(graph, action->task.layer);
    double ns = (double)layer->step_ns * node->slowness * (0.5 + (double)random_below(&world->random, 1000) / 1000);
    ns /= at_device ? 4 : 1;
    sim_schedule(world, world->now_ns + (int64_t)ns + 1,
                 (struct sim_event){.kind = SIM_STEP_END, .node = node->id, .a = number, .b = slot->round});
}

uint32_t sim_slots_all(const struct sim_worker *worker)
{
    return worker->config.slots + worker->config.device_slots;
}

/* What the tasks that have a step at a slot demand together, forgotten ones included. */
static void check_resources(const struct sim_world *world, const struct sim_node *node)
{
    const struct tessi_resources *have = &node->worker->config.resources;
    for (uint32_t r = 0; r < have->count; r++) {
        uint64_t used = 0;
        for (uint32_t s = 0; s < sim_slots_all(node->worker); s++) {
            const struct slot *slot = &node->worker->slots[s];
            for (size_t i = 0; i < slot->count; i++) {
                const struct tessi_flow_action *action = &slot->runs[i].action;
                bool again = false; /* another step of the same task */
                for (size_t j = 0; j < i; j++) {
                    const struct tessi_flow_action *other = &slot->runs[j].action;
                    again = again || (other->out == action->out && other->epoch == action->epoch);
                }
                const struct sim_graph *graph = sim_graph_of(world, action->task.session);
                const struct tessi_layer *layer = sim_graph_layer(graph, action->task.layer)->layer;
                used += again ? 0 : tessi_resources_amount(&layer->task_options->demand, have->item[r].name);
            }
        }
        if (used > have->item[r].amount) {
            sim_fail(world, "worker %u runs tasks that demand %llu of %s, and has %u", node->id,
                     (unsigned long long)used, have->item[r].name, have->item[r].amount);
        }
    }
}

/* As long as every worker has stayed, pinned tasks with one place run at one worker. */
static void check_pin(const struct sim_world *world, const struct sim_node *node,
                      const struct tessi_flow_action *action)
{
    struct sim_layer *layer = sim_graph_layer(sim_graph_of(world, action->task.session), action->task.layer);
    uint32_t pin = layer->layer->op == TESSI_OP_SYNTHETIC ? layer->layer->as.synthetic.pin : 0;
    if (pin == 0 || layer->workers < pin || world->disturbed || world->options.tiny_percent > 0 ||
        layer->layer->task_options->demand.count > 0) {
        return;
    }
    uint32_t *at = &layer->pinned_to[action->task.index % pin];
    if (*at != 0 && *at != node->id) {
        sim_fail(world, "task %u:%llu is pinned to worker %u and runs at worker %u", action->task.layer,
                 (unsigned long long)action->task.index, *at, node->id);
    }
    *at = node->id;
}

void sim_slots_note(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct sim_task *task = sim_graph_task(sim_graph_of(world, action->task.session), action->task);
    if (action->slot >= sim_slots_all(node->worker)) {
        sim_fail(world, "worker %u: no slot %u", node->id, action->slot);
    }
    if (action->step == 0) {
        check_pin(world, node, action);
        if (task->run_epoch == action->epoch && task->run_worker != node->id) {
            sim_fail(world, "task %u:%llu runs twice under epoch %u: at worker %u and at worker %u", action->task.layer,
                     (unsigned long long)action->task.index, action->epoch, task->run_worker, node->id);
        }
        if (action->epoch >= task->run_epoch) {
            task->run_epoch = action->epoch;
            task->run_worker = node->id;
        }
        world->tasks_run++;
    }
}

void sim_worker_run(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action, bool lost)
{
    struct slot *slot = &node->worker->slots[action->slot];
    tessi_grow(&slot->runs, &slot->capacity, slot->count + 1, sizeof *slot->runs);
    slot->runs[slot->count++] = (struct run){.action = *action, .given_back = lost};
    check_resources(world, node);
    start_step(world, node, action->slot);
}

/* Noise in gives noise out, which only the planner can know and must not let go any further. */
static void compute(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct sim_region *out = sim_place(world, node, action->out)->memory;
    uint32_t device = action->slot < node->worker->config.slots ? 0 : sim_place(world, node, action->out)->task_at;
    uint64_t values[TESSI_STEP_REFS_MAX];
    struct tessi_step step;
    if (device > 0 && out != NULL && out->spoiled) {
        return; /* an earlier step of it was given back */
    }
    tessi_task_step(action->layer, action->task.index, action->step, &step);
    if (out == NULL || step.count != action->in_count || (action->step > 0 && out->next_step != action->step)) {
        sim_fail(world, "worker %u: step %u of %u:%llu is out of order", node->id, action->step, action->task.layer,
                 (unsigned long long)action->task.index);
    }
    for (uint32_t i = 0; i < action->in_count; i++) {
        const struct place *place = sim_place(world, node, action->in[i]);
        uint32_t layer = action->layer->reads[step.ref[i].input];
        if (place->task.layer != layer || place->task.index != step.ref[i].index) {
            sim_fail(world, "worker %u: input %u of %u:%llu is another block", node->id, i, action->task.layer,
                     (unsigned long long)action->task.index);
        }
        if (place->memory == NULL || (!place->memory->complete && !place->memory->recycled)) {
            sim_fail(world, "worker %u: %u:%llu reads %u:%llu before it is complete", node->id, action->task.layer,
                     (unsigned long long)action->task.index, layer, (unsigned long long)place->task.index);
        }
        values[i] = sim_devices_read(world, node->worker, place->memory, device);
    }
    out->value = sim_step_value(action->layer, action->task.index, action->step, out->value, values, step.count);
    out->next_step = action->step + 1;
    out->complete = out->next_step == action->steps;
    if (device > 0) {
        sim_devices_ended(world, node, action->out);
    }
}

/* The planner hears of it some time later, and of another slot's steps perhaps before. */
void sim_worker_run_ended(struct sim_world *world, struct sim_node *node, uint32_t number, bool skipped)
{
    struct slot *slot = &node->worker->slots[number];
    struct tessi_flow_action action = slot->runs[0].action;
    const struct sim_task *task = sim_graph_task(sim_graph_of(world, action.task.session), action.task);
    bool fails = task->fails && action.step + 1 == action.steps;
    struct tessi_flow_outcome outcome = {.slot = number,
                                         .run = action.run,
                                         .ran_ns = world->now_ns - slot->runs[0].started_ns,
                                         .status = skipped ? TESSI_CANCELLED
                                                   : fails ? TESSI_FAILED
                                                           : TESSI_OK,
                                         .text = !skipped && fails ? "scripted to fail" : NULL,
                                         .elsewhere = slot->runs[0].elsewhere};
    if (outcome.status == TESSI_OK) {
        compute(world, node, &action);
    } else {
        slot->failed = action.run;
        sim_place(world, node, action.out)->memory->spoiled = true;
    }
    slot->ended = action.run;
    slot->count--;
    memmove(slot->runs, slot->runs + 1, slot->count * sizeof *slot->runs);
    tessi_grow(&slot->outcomes, &slot->outcome_capacity, slot->outcome_count + 1, sizeof *slot->outcomes);
    slot->outcomes[slot->outcome_count++] = outcome;
    if (!slot->telling) {
        slot->telling = true;
        int64_t delay_ns = random_chance(&world->random, 50) ? 0 : random_between(&world->random, 0, SIM_MS / 2);
        sim_schedule(world, world->now_ns + delay_ns,
                     (struct sim_event){.kind = SIM_STEP_TOLD, .node = node->id, .a = number});
    }
    for (uint32_t s = 0; s < sim_slots_all(node->worker); s++) {
        start_step(world, node, s);
    }
}

void sim_slots_step_end(struct sim_world *world, struct sim_node *node, const struct sim_event *event)
{
    if (event->b == node->worker->slots[event->a].round) { /* else its device was lost meanwhile */
        sim_worker_run_ended(world, node, event->a, event->failed);
    }
}

void sim_slots_step_told(struct sim_world *world, struct sim_node *node, uint32_t number)
{
    struct slot *slot = &node->worker->slots[number];
    struct tessi_flow_event event = {
        .kind = TESSI_FLOW_STEP_DONE, .outcomes = slot->outcomes, .outcome_count = slot->outcome_count};
    slot->telling = false;
    if (number >= node->worker->config.slots) {
        sim_devices_tell(world, node, slot);
        return;
    }
    sim_worker_step(world, node, &event, NULL);
    slot->outcome_count = 0;
}
