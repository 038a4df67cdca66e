/* A worker's shell: it carries out what the planner decides, with virtual memory, slots, files and
 * transfers, and watches that the planner keeps its promises. */
#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/shell.h"
#include "worker/flow/internal.h"

#define BEAT_NS (250 * SIM_MS)

static const char *const action_names[] = {
    "alloc", "map", "free", "run", "spill", "unalloc", "load", "read", "pull", "release", "revoke", "inline", "lease",
    "offer", "block", "moved", "ask", "locate",
};

const struct tessi_flow *sim_worker_flow(const struct sim_node *node)
{
    return node->worker == NULL ? NULL : node->worker->flow;
}

bool sim_worker_quiet(const struct sim_node *node)
{
    return node->worker != NULL && node->worker->flow != NULL && !tessi_flow_has_report(node->worker->flow);
}

struct place *sim_place(struct sim_world *world, struct sim_node *node, uint32_t block)
{
    struct sim_worker *worker = node->worker;
    if (block >= worker->place_count || !worker->places[block].used) {
        sim_fail(world, "worker %u uses handle %u, which it has freed or never made", node->id, block);
    }
    return &worker->places[block];
}

static bool same_task(struct tessi_task a, struct tessi_task b)
{
    return a.session == b.session && a.layer == b.layer && a.index == b.index;
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

static void check_value(struct sim_world *world, const struct sim_node *node, struct tessi_task task, uint64_t value,
                        const char *use)
{
    uint64_t expected = 0;
    const struct sim_graph *graph = sim_graph_of(world, task.session);
    if (graph != NULL && (!sim_oracle(graph, task.layer, task.index, &expected) || value != expected)) {
        sim_fail(world, "worker %u: block %u:%llu is %s and holds the wrong value", node->id, task.layer,
                 (unsigned long long)task.index, use);
    }
}

/* What the block holds, which must be right: it is about to be believed. */
static uint64_t good_value(struct sim_world *world, struct sim_node *node, const struct place *place, const char *use)
{
    uint64_t value = place->memory != NULL ? place->memory->value : place->stored;
    if (place->memory != NULL && !place->memory->complete && sim_graph_of(world, place->task.session) != NULL) {
        sim_fail(world, "worker %u: block %u:%llu is %s before it is complete", node->id, place->task.layer,
                 (unsigned long long)place->task.index, use);
    }
    check_value(world, node, place->task, value, use);
    return value;
}

/* Likewise, and in host memory. */
static uint64_t host_value(struct sim_world *world, struct sim_node *node, const struct place *place, const char *use)
{
    if (place->memory != NULL && place->memory->away) {
        sim_fail(world, "worker %u: block %u:%llu is %s while a device has its bytes", node->id, place->task.layer,
                 (unsigned long long)place->task.index, use);
    }
    return good_value(world, node, place, use);
}

/* --- steps --- */

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
        sim_schedule(world, world->now_ns, (struct sim_event){.kind = SIM_STEP_END, .node = node->id, .a = number,
                                                               .b = slot->round, .failed = true});
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

static uint32_t slots_all(const struct sim_worker *worker)
{
    return worker->config.slots + worker->config.device_slots;
}

/* What the tasks that have a step at a slot demand together, forgotten ones included. */
static void check_resources(const struct sim_world *world, const struct sim_node *node)
{
    const struct tessi_resources *have = &node->worker->config.resources;
    for (uint32_t r = 0; r < have->count; r++) {
        uint64_t used = 0;
        for (uint32_t s = 0; s < slots_all(node->worker); s++) {
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
                used += again ? 0 : tessi_resources_amount(&layer->wishes.demand, have->item[r].name);
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
    uint32_t pin = layer->layer->op == TESSI_OP_OPAQUE ? layer->layer->as.opaque.pin : 0;
    if (pin == 0 || layer->workers < pin || world->disturbed || world->options.tiny_percent > 0 ||
        layer->layer->wishes.demand.count > 0) {
        return;
    }
    uint32_t *at = &layer->pinned_to[action->task.index % pin];
    if (*at != 0 && *at != node->id) {
        sim_fail(world, "task %u:%llu is pinned to worker %u and runs at worker %u", action->task.layer,
                 (unsigned long long)action->task.index, *at, node->id);
    }
    *at = node->id;
}

/* The step is given to the slot, or waits for what it reads. */
static void note_run(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct sim_task *task = sim_graph_task(sim_graph_of(world, action->task.session), action->task);
    if (action->slot >= slots_all(node->worker)) {
        sim_fail(world, "worker %u: no slot %u", node->id, action->slot);
    }
    if (action->step == 0) {
        check_pin(world, node, action);
        if (task->run_epoch == action->epoch && task->run_worker != node->id) {
            sim_fail(world, "task %u:%llu runs twice under epoch %u: at worker %u and at worker %u",
                     action->task.layer, (unsigned long long)action->task.index, action->epoch, task->run_worker,
                     node->id);
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
        uint32_t layer = action->layer->input[step.ref[i].input].layer;
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

/* --- actions --- */

static void send_to_peer(struct sim_world *world, struct sim_node *node, enum sim_message_kind kind,
                         const struct tessi_flow_action *action, struct sim_region *kept)
{
    struct sim_view *view = sim_view(node, action->peer);
    bool connects = kind == SIM_READ || kind == SIM_PULL || kind == SIM_GIVE_BACK;
    if (connects && !view->greeted && !sim_node(world, action->peer)->is_client) {
        view->greeted = true;
        sim_send(world, sim_message(SIM_PEER_HELLO, node->id, action->peer));
    }
    struct sim_message *message = sim_message(kind, node->id, action->peer);
    message->task = action->task;
    message->epoch = action->epoch;
    message->worker = action->worker;
    message->lease = action->lease;
    if (kind == SIM_INLINE || kind == SIM_BLOCK) {
        message->bytes = action->bytes;
        if (kept == NULL) {
            message->value = host_value(world, node, sim_place(world, node, action->block), "sent");
        } else {
            message->value = kept->away ? random_next(&world->random) : kept->value;
            check_value(world, node, action->task, message->value, "sent late");
        }
    } else if (kind == SIM_LEASE) {
        struct place *place = sim_place(world, node, action->block);
        (void)host_value(world, node, place, "lent");
        if (place->memory == NULL || place->mapped) {
            sim_fail(world, "worker %u lends memory that it has not got", node->id);
        }
        message->region = place->memory;
        place->memory->refs++;
    } else if (kind == SIM_OFFER) {
        const struct place *place = &node->worker->places[action->block];
        if (place->used && same_task(place->task, action->task)) { /* else it has gone while the offer had to wait */
            (void)good_value(world, node, place, "offered");
        }
    }
    sim_send(world, message);
}

static void on_send_pull(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct sim_worker *worker = node->worker;
    struct transfer transfer = {action->peer, action->block, action->task, false};
    const struct sim_node *peer = sim_node(world, action->peer);
    transfer.unsent = peer->is_client && !sim_view(node, action->peer)->heard;
    tessi_grow(&worker->transfers, &worker->transfer_capacity, worker->transfer_count + 1, sizeof *worker->transfers);
    worker->transfers[worker->transfer_count++] = transfer;
    if (!transfer.unsent) {
        send_to_peer(world, node, SIM_PULL, action, NULL);
    }
}

/* A worker that finds a file damaged when a peer wants it cannot keep its word: it ends. */
static void on_send_block(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action,
                          enum sim_message_kind kind, struct sim_region *kept)
{
    const struct place *place = kept == NULL ? sim_place(world, node, action->block) : NULL;
    if (kept != NULL ? kept->damaged : place->memory == NULL && place->damaged) {
        sim_schedule(world, world->now_ns + 1,
                     (struct sim_event){.kind = SIM_LOADED, .node = node->id, .a = action->block, .failed = true});
        return;
    }
    send_to_peer(world, node, kind, action, kept);
}

void sim_worker_send(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action,
                     struct sim_region *kept)
{
    static const enum sim_message_kind kinds[] = {
        [TESSI_FLOW_SEND_READ] = SIM_READ,     [TESSI_FLOW_SEND_PULL] = SIM_PULL,   [TESSI_FLOW_SEND_RELEASE] = SIM_GIVE_BACK,
        [TESSI_FLOW_SEND_REVOKE] = SIM_REVOKE, [TESSI_FLOW_SEND_LEASE] = SIM_LEASE, [TESSI_FLOW_SEND_INLINE] = SIM_INLINE,
        [TESSI_FLOW_SEND_OFFER] = SIM_OFFER,   [TESSI_FLOW_SEND_BLOCK] = SIM_BLOCK, [TESSI_FLOW_SEND_MOVED] = SIM_MOVED,
        [TESSI_FLOW_SEND_ASK] = SIM_ASK};
    enum sim_message_kind kind = kinds[action->kind];
    if (kind == SIM_PULL) {
        on_send_pull(world, node, action);
    } else if (kind == SIM_INLINE || kind == SIM_BLOCK) {
        on_send_block(world, node, action, kind, kept);
    } else {
        send_to_peer(world, node, kind, action, NULL);
    }
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
    (void)(regenerable ? good_value : host_value)(world, node, place, "spilled");
    bool fails = !regenerable && random_chance(&world->random, world->options.spill_fail_percent) &&
                 !world->faults_over;
    place->busy = true;
    place->to_file = !regenerable;
    place->damaged = !regenerable && random_chance(&world->random, world->options.damage_percent);
    int64_t io_ns = regenerable ? 1 : fails ? 100 * SIM_MS : file_ns(place);
    sim_schedule(world, world->now_ns + io_ns,
                 (struct sim_event){.kind = SIM_SPILLED, .node = node->id, .a = action->block, .failed = fails});
}

static void on_unalloc(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct place *place = sim_place(world, node, action->block);
    uint64_t value = (place->to_file ? host_value : good_value)(world, node, place, "moved to disk");
    sim_devices_forget(node->worker, action->block);
    if (place->busy || place->memory == NULL || place->mapped) {
        sim_fail(world, "worker %u gives back memory that is in use", node->id);
    }
    place->stored = value;
    give_memory(world, node, place);
}

static void on_load(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
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

static void on_free(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    struct sim_worker *worker = node->worker;
    struct place *place = sim_place(world, node, action->block);
    bool in_use = place->busy;
    for (uint32_t s = 0; s < slots_all(worker); s++) {
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

static void on_map(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
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

static void on_alloc(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
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

static void on_locate(struct sim_node *node, const struct tessi_flow_action *action)
{
    tessi_spans_push(&node->worker->locates, (struct tessi_span){.session = action->task.session,
                                                                 .layer = action->task.layer,
                                                                 .first = action->task.index,
                                                                 .count = 1});
}

static void carry_out(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    if (action->kind == TESSI_FLOW_RUN) {
        note_run(world, node, action);
        if (action->slot >= node->worker->config.slots) {
            sim_devices_place(node->worker, action);
        }
    }
    if (node->worker->deferred != NULL && tessi_deferred_hold(node->worker->deferred, action)) {
        sim_trace(world, "        … which waits");
        return;
    }
    switch (action->kind) {
    case TESSI_FLOW_ALLOC: on_alloc(world, node, action); break;
    case TESSI_FLOW_MAP: on_map(world, node, action); break;
    case TESSI_FLOW_FREE_BLOCK: on_free(world, node, action); break;
    case TESSI_FLOW_RUN: sim_worker_run(world, node, action, false); break;
    case TESSI_FLOW_SPILL: sim_worker_spill(world, node, action); break;
    case TESSI_FLOW_UNALLOC: on_unalloc(world, node, action); break;
    case TESSI_FLOW_LOAD: on_load(world, node, action); break;
    case TESSI_FLOW_SEND_READ:
    case TESSI_FLOW_SEND_PULL:
    case TESSI_FLOW_SEND_RELEASE:
    case TESSI_FLOW_SEND_REVOKE:
    case TESSI_FLOW_SEND_INLINE:
    case TESSI_FLOW_SEND_LEASE:
    case TESSI_FLOW_SEND_OFFER:
    case TESSI_FLOW_SEND_BLOCK:
    case TESSI_FLOW_SEND_MOVED:
    case TESSI_FLOW_SEND_ASK: sim_worker_send(world, node, action, NULL); break;
    case TESSI_FLOW_LOCATE: on_locate(node, action); break;
    }
}

static void note_completion(struct sim_world *world, struct sim_node *node, const struct tessi_span *span)
{
    const struct sim_graph *graph = sim_graph_of(world, span->session);
    for (uint64_t i = span->first; graph != NULL && i < span->first + span->count; i++) {
        struct tessi_task name = {span->session, span->layer, i};
        struct sim_task *task = sim_graph_task(graph, name);
        tessi_grow(&task->done, &task->done_capacity, task->done_count + 1, sizeof *task->done);
        task->done[task->done_count++] = (struct sim_completion){node->id, span->epoch};
        uint32_t block = tessi_flow_block_find(node->worker->flow, name);
        if (block != FLOW_NONE && flow_block_servable(flow_block(node->worker->flow, block))) {
            (void)good_value(world, node, sim_place(world, node, block), "reported done");
        }
    }
}

static void flush(struct sim_world *world, struct sim_node *node)
{
    struct sim_worker *worker = node->worker;
    if (!tessi_flow_has_report(worker->flow)) {
        return;
    }
    struct sim_message *message = sim_message(SIM_REPORT, node->id, SIM_SCHEDULER);
    tessi_flow_report(worker->flow, &message->report);
    message->report.devices_lost = sim_devices_lost_count(worker);
    for (size_t s = 0; s < message->report.done.count; s++) {
        note_completion(world, node, &message->report.done.items[s]);
    }
    for (size_t s = 0; s < message->report.adopted.count; s++) {
        note_completion(world, node, &message->report.adopted.items[s]);
    }
    sim_send(world, message);
}

void sim_worker_step(struct sim_world *world, struct sim_node *node, struct tessi_flow_event *event,
                     const struct sim_message *message)
{
    struct sim_worker *worker = node->worker;
    if (event->kind == TESSI_FLOW_PEER_LOST && worker->deferred != NULL) {
        tessi_deferred_forget_peer(worker->deferred, event->peer);
    }
    event->now_ns = world->now_ns;
    world->actions.count = 0;
    tessi_flow_step(worker->flow, event, &world->actions);
    tessi_flow_verify(worker->flow);
    worker->message = message;
    for (size_t a = 0; a < world->actions.count; a++) {
        const struct tessi_flow_action *action = &world->actions.items[a];
        bool runs = action->kind == TESSI_FLOW_RUN;
        sim_trace(world, "    %u: %s task %u:%llu block %u peer %u step %u slot %u:%llu", node->id,
                  action_names[action->kind], action->task.layer, (unsigned long long)action->task.index, action->block,
                  action->peer, action->step, runs ? action->slot : 0, runs ? (unsigned long long)action->run : 0);
        carry_out(world, node, action);
    }
    worker->message = NULL;
    if (worker->locates.count > 0) {
        flush(world, node); /* so that the answer takes account of it */
        struct sim_message *locate = sim_message(SIM_LOCATE, node->id, SIM_SCHEDULER);
        locate->spans = worker->locates;
        worker->locates = (struct tessi_spans){0};
        sim_send(world, locate);
    }
    if (tessi_flow_has_report(worker->flow) && !worker->flushing) {
        worker->flushing = true;
        sim_schedule(world, world->now_ns + random_between(&world->random, 0, world->options.report_delay_ns),
                     (struct sim_event){.kind = SIM_FLUSH, .node = node->id});
    }
}

/* --- events --- */

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
                                         .status = skipped ? TESSI_CANCELLED : fails ? TESSI_FAILED : TESSI_OK,
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
    for (uint32_t s = 0; s < slots_all(node->worker); s++) {
        start_step(world, node, s);
    }
}

static void on_step_end(struct sim_world *world, struct sim_node *node, const struct sim_event *event)
{
    if (event->b == node->worker->slots[event->a].round) { /* else its device was lost meanwhile */
        sim_worker_run_ended(world, node, event->a, event->failed);
    }
}

static void on_step_told(struct sim_world *world, struct sim_node *node, uint32_t number)
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

static void on_spilled(struct sim_world *world, struct sim_node *node, const struct sim_event *event)
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
    sim_worker_step(world, node,
         &(struct tessi_flow_event){.kind = TESSI_FLOW_SPILLED,
                                    .block = event->a,
                                    .status = event->failed ? TESSI_IO : TESSI_OK},
         NULL);
}

/* It joins again as a new worker with nothing, unless it wanted to leave anyway. */
static void begin_anew(struct sim_world *world, struct sim_node *node)
{
    bool leaving = node->leaving;
    sim_node_die(world, node, false);
    if (!leaving) {
        sim_worker_start(world, true);
    }
}

static void on_loaded(struct sim_world *world, struct sim_node *node, const struct sim_event *event)
{
    if (event->failed) {
        begin_anew(world, node);
        return;
    }
    struct place *place = sim_place(world, node, event->a);
    bool bad = place->damaged;
    place->busy = false;
    if (!bad) {
        place->memory->value = place->stored;
        place->memory->complete = true;
        drop_file(node, place);
    }
    sim_worker_step(world, node,
         &(struct tessi_flow_event){.kind = TESSI_FLOW_LOADED,
                                    .block = event->a,
                                    .status = bad ? TESSI_FORMAT : TESSI_OK},
         NULL);
}

static void on_beat(struct sim_world *world, struct sim_node *node)
{
    sim_send(world, sim_message(SIM_HEARTBEAT, node->id, SIM_SCHEDULER));
    sim_schedule(world, world->now_ns + BEAT_NS,
                 (struct sim_event){.kind = SIM_BEAT, .node = node->id, .periodic = true});
}

static void start_flow(struct sim_world *world, struct sim_node *node)
{
    struct sim_worker *worker = node->worker;
    worker->config = (struct tessi_flow_config){
        .self = node->id,
        .slots = node->info.slots,
        .slot_depth = (uint32_t)random_scale(&world->random, 1, 32),
        .window = (uint32_t)random_between(&world->random, 2, 4),
        .memory_bytes = node->info.memory_bytes,
        .spill_bytes = node->info.spill_bytes,
        .pull_bytes = (uint64_t)random_scale(&world->random, 1, (int64_t)(world->memory_bytes + 2)),
    };
    enum tessi_status status = tessi_resources_parse(node->info.resources, &worker->config.resources, NULL);
    TESS_ASSERT(status == TESSI_OK);
    sim_devices_create(world, node);
    worker->flow = tessi_flow_create(&worker->config);
    worker->slots = tessi_zalloc(slots_all(worker) * sizeof *worker->slots);
    node->welcomed = true;
}

/* --- leaving --- */

void sim_worker_leave(struct sim_world *world, struct sim_node *node, int64_t wait_ns)
{
    struct sim_message *message = sim_message(SIM_LEAVE, node->id, SIM_SCHEDULER);
    message->wait_ns = wait_ns;
    node->leaving = true;
    sim_send(world, message);
}

static void on_left(struct sim_world *world, struct sim_node *node)
{
    const struct tessi_flow *flow = node->worker->flow;
    if (!node->leaving) {
        sim_fail(world, "worker %u is told that it has left, which it never wanted", node->id);
    }
    for (uint32_t b = 0; b < flow->blocks.count; b++) {
        const struct flow_block *block = flow_block(flow, b);
        if (block->live && (block->owned || block->task != FLOW_NONE)) {
            sim_fail(world, "worker %u is told that it has left and still has %u:%llu", node->id,
                     tessi_flow_block_name(flow, block).layer, (unsigned long long)block->index);
        }
    }
    node->left = true;
}

/* It goes when its neighbours have given back what they borrowed. */
static void go_when_free(struct sim_world *world, struct sim_node *node)
{
    struct tessi_flow_stats stats;
    if (node->alive && node->left) {
        tessi_flow_stats(node->worker->flow, &stats);
        if (stats.leases == 0) {
            sim_trace(world, "worker %u has left", node->id);
            sim_send(world, sim_message(SIM_GOODBYE, node->id, SIM_SCHEDULER));
            sim_node_die(world, node, false);
        }
    }
}

/* The planner's events that the scheduler's actions become. */
static void on_order(struct sim_world *world, struct sim_node *node, struct sim_message *message)
{
    struct tessi_sched_action *action = &message->action;
    struct tessi_flow_event event = {.peer = action->worker, .spans = action->spans, .span_count = action->span_count,
                                     .where = action->where, .where_count = action->where_count,
                                     .session = action->session};
    switch (action->kind) {
    case TESSI_SCHED_WELCOME:
        return;
    case TESSI_SCHED_REJECT:
        sim_node_die(world, node, false);
        return;
    case TESSI_SCHED_BYE:
        begin_anew(world, node);
        return;
    case TESSI_SCHED_LEFT:
        on_left(world, node);
        return;
    case TESSI_SCHED_PEER_UP:
        event.kind = TESSI_FLOW_PEER_UP;
        event.shares_memory = strcmp(action->info->host, node->info.host) == 0;
        break;
    case TESSI_SCHED_PEER_LOST:
        sim_view(node, action->worker)->lost = true;
        event.kind = TESSI_FLOW_PEER_LOST;
        break;
    case TESSI_SCHED_LAYERS:
        for (size_t i = 0; i < action->layer_count; i++) {
            event.kind = TESSI_FLOW_LAYER;
            event.layer = (struct tessi_layer *)(uintptr_t)action->layers[i];
            event.device = sim_devices_take(world, node->worker, event.layer);
            event.either = event.device && sim_devices_either(world, event.layer);
            ((const struct tessi_layer **)(uintptr_t)action->layers)[i] = NULL;
            sim_worker_step(world, node, &event, NULL);
        }
        return;
    case TESSI_SCHED_DROP_LAYERS:
        for (size_t i = 0; i < action->id_count; i++) {
            event.kind = TESSI_FLOW_DROP_LAYER;
            event.layer_id = action->ids[i];
            sim_worker_step(world, node, &event, NULL);
        }
        return;
    case TESSI_SCHED_ASSIGN: event.kind = TESSI_FLOW_ASSIGN; break;
    case TESSI_SCHED_STEAL: event.kind = TESSI_FLOW_STEAL; break;
    case TESSI_SCHED_FREE: event.kind = TESSI_FLOW_FREE; break;
    case TESSI_SCHED_ADOPT: event.kind = TESSI_FLOW_ADOPT; break;
    case TESSI_SCHED_TAKE_OVER: event.kind = TESSI_FLOW_TAKE_OVER; break;
    case TESSI_SCHED_LOCATION: event.kind = TESSI_FLOW_LOCATION; break;
    case TESSI_SCHED_PUSH:
    case TESSI_SCHED_ACCEPTED:
    case TESSI_SCHED_REFUSED:
    case TESSI_SCHED_PROGRESS:
    case TESSI_SCHED_DONE:
    case TESSI_SCHED_FAILED:
        sim_fail(world, "worker %u gets action %d, which is for clients", node->id, (int)action->kind);
    }
    if (event.kind == TESSI_FLOW_PEER_LOST) {
        struct sim_worker *worker = node->worker;
        size_t kept = 0;
        for (size_t t = 0; t < worker->transfer_count; t++) {
            if (worker->transfers[t].peer != event.peer) {
                worker->transfers[kept++] = worker->transfers[t];
            }
        }
        worker->transfer_count = kept;
    }
    sim_worker_step(world, node, &event, NULL);
}

static void peer_gone(struct sim_world *world, struct sim_node *node, uint32_t peer)
{
    struct sim_message gone = {.kind = SIM_ORDER, .to = node->id};
    gone.action.kind = TESSI_SCHED_PEER_LOST;
    gone.action.worker = peer;
    on_order(world, node, &gone);
}

/* The pull that the message answers goes off the list. */
static bool end_transfer(struct sim_worker *worker, const struct sim_message *message, uint32_t *block)
{
    for (size_t t = 0; t < worker->transfer_count; t++) {
        if (worker->transfers[t].peer == message->from && same_task(worker->transfers[t].task, message->task)) {
            *block = worker->transfers[t].block;
            worker->transfers[t] = worker->transfers[--worker->transfer_count];
            return true;
        }
    }
    return false;
}

static void on_peer_hello(struct sim_world *world, struct sim_node *node, uint32_t from)
{
    sim_view(node, from)->heard = true;
    for (size_t t = 0; t < node->worker->transfer_count; t++) {
        struct transfer *transfer = &node->worker->transfers[t];
        if (transfer->peer == from && transfer->unsent) {
            transfer->unsent = false;
            send_to_peer(world, node, SIM_PULL,
                         &(struct tessi_flow_action){.peer = from, .task = transfer->task, .block = transfer->block}, NULL);
        }
    }
}

static const enum tessi_flow_event_kind flow_events[SIM_MESSAGES] = {
    [SIM_READ] = TESSI_FLOW_READ,           [SIM_PULL] = TESSI_FLOW_PULL,
    [SIM_GIVE_BACK] = TESSI_FLOW_RELEASE,   [SIM_INLINE] = TESSI_FLOW_READY_INLINE,
    [SIM_LEASE] = TESSI_FLOW_READY_LEASE,   [SIM_OFFER] = TESSI_FLOW_READY_OFFER,
    [SIM_BLOCK] = TESSI_FLOW_DATA,          [SIM_MOVED] = TESSI_FLOW_MOVED,
    [SIM_ASK] = TESSI_FLOW_ASK,             [SIM_REVOKE] = TESSI_FLOW_REVOKE,
};

static void on_peer_message(struct sim_world *world, struct sim_node *node, const struct sim_message *message)
{
    struct tessi_flow_event event = {.kind = flow_events[message->kind],
                                     .peer = message->from,
                                     .task = message->task,
                                     .epoch = message->epoch,
                                     .worker = message->worker,
                                     .lease = message->lease};
    uint32_t block = 0;
    if (sim_view(node, message->from)->lost && (!world->options.hear_the_lost || message->kind == SIM_LEASE)) {
        return; /* the connection was closed */
    }
    if (message->kind == SIM_BLOCK) {
        if (!end_transfer(node->worker, message, &block)) {
            return;
        }
        struct sim_region *memory = sim_place(world, node, block)->memory;
        memory->value = message->value;
        memory->complete = true;
    } else if (message->kind == SIM_MOVED || message->kind == SIM_ASK) {
        (void)end_transfer(node->worker, message, &block);
    }
    sim_worker_step(world, node, &event, message);
}

static void on_message(struct sim_world *world, struct sim_node *node, struct sim_message *message)
{
    if (message->kind == SIM_ORDER) {
        on_order(world, node, message);
    } else if (message->kind == SIM_GONE) {
        peer_gone(world, node, message->from);
    } else if (message->kind == SIM_PEER_HELLO) {
        on_peer_hello(world, node, message->from);
    } else {
        on_peer_message(world, node, message);
    }
}

void sim_worker_event(struct sim_world *world, struct sim_node *node, struct sim_event *event)
{
    bool welcome = event->kind == SIM_DELIVER && event->message->kind == SIM_ORDER &&
                   event->message->action.kind == TESSI_SCHED_WELCOME;
    if (welcome) {
        start_flow(world, node);
        return;
    }
    switch (event->kind) {
    case SIM_DELIVER: on_message(world, node, event->message); break;
    case SIM_STEP_END: on_step_end(world, node, event); break;
    case SIM_STEP_TOLD: on_step_told(world, node, event->a); break;
    case SIM_SPILLED: on_spilled(world, node, event); break;
    case SIM_LOADED: on_loaded(world, node, event); break;
    case SIM_FLUSH:
        node->worker->flushing = false;
        flush(world, node);
        break;
    case SIM_BEAT: on_beat(world, node); break;
    case SIM_DEVICE_HOME: sim_devices_home(world, node, event->a); break;
    case SIM_DEVICE_LOST: sim_devices_lost(world, node, event->a); break;
    case SIM_TICK:
    case SIM_RESUME:
    case SIM_FAULT:
    case SIM_SCRIPT:
    case SIM_LET_GO:
        TESS_ASSERT(false);
    }
    if (node->alive) {
        sim_devices_go_on(world, node);
    }
    go_when_free(world, node);
}

/* --- from start to end --- */

void sim_worker_start(struct sim_world *world, bool adequate)
{
    const struct sim_options *options = &world->options;
    struct sim_node *node = sim_node_create(world);
    struct tessi_worker_info *info = &node->info;
    bool tiny = !adequate && random_chance(&world->random, options->tiny_percent);
    bool stranger = !adequate && random_chance(&world->random, options->stranger_percent);
    node->slowness = random_chance(&world->random, options->slow_percent) ? 10.0 : 1.0;
    node->worker = tessi_zalloc(sizeof *node->worker);
    (void)snprintf(info->name, sizeof info->name, "w%u", node->id);
    (void)snprintf(info->host, sizeof info->host, "h%u", node->host);
    (void)snprintf(info->family, sizeof info->family, "%s", stranger ? "other" : "generic+device");
    info->slots = (uint32_t)random_between(&world->random, 1, 3);
    info->memory_bytes = world->memory_bytes;
    info->spill_bytes = world->spill_bytes;
    if (tiny) {
        info->memory_bytes = world->footprint_bytes / (uint64_t)random_between(&world->random, 2, 8);
        info->spill_bytes = world->spill_bytes + world->memory_bytes;
    }
    sim_resources_choose(world, info, adequate);
    if (random_chance(&world->devices, options->device_percent)) {
        node->devices = (uint32_t)random_between(&world->devices, 1, 2);
        sim_devices_say(world, node);
    }
    struct sim_message *hello = sim_message(SIM_HELLO, node->id, SIM_SCHEDULER);
    hello->info = *info;
    sim_send(world, hello);
    sim_schedule(world, world->now_ns + BEAT_NS,
                 (struct sim_event){.kind = SIM_BEAT, .node = node->id, .periodic = true});
}

void sim_worker_destroy(struct sim_world *world, struct sim_node *node)
{
    struct sim_worker *worker = node->worker;
    sim_devices_destroy(worker);
    for (size_t p = 0; p < worker->place_count; p++) {
        sim_region_drop(world, worker->places[p].memory);
    }
    for (uint32_t s = 0; worker->slots != NULL && s < slots_all(worker); s++) {
        tessi_free(worker->slots[s].runs);
        tessi_free(worker->slots[s].outcomes);
    }
    tessi_flow_destroy(worker->flow);
    tessi_spans_fini(&worker->locates);
    tessi_free(worker->slots);
    tessi_free(worker->places);
    tessi_free(worker->transfers);
    tessi_free(worker);
    node->worker = NULL;
}

void sim_worker_check_empty(const struct sim_world *world, const struct sim_node *node)
{
    const struct sim_worker *worker = node->worker;
    struct tessi_flow_stats stats;
    if (worker == NULL || worker->flow == NULL) {
        return;
    }
    tessi_flow_stats(worker->flow, &stats);
    if (stats.blocks + stats.tasks_waiting + stats.leases + stats.memory_used_bytes + stats.spilled_bytes > 0 ||
        worker->used_bytes + worker->file_bytes + worker->transfer_count > 0) {
        sim_fail(world,
                 "worker %u is not empty at the end: %llu blocks, %llu tasks, %llu leases, %llu bytes in memory, %llu "
                 "in files",
                 node->id, (unsigned long long)stats.blocks, (unsigned long long)stats.tasks_waiting,
                 (unsigned long long)stats.leases, (unsigned long long)stats.memory_used_bytes,
                 (unsigned long long)stats.spilled_bytes);
    }
    for (size_t p = 0; p < worker->place_count; p++) {
        if (worker->places[p].used) {
            sim_fail(world, "worker %u still has the memory of handle %zu at the end", node->id, p);
        }
    }
}
