/* A simulated worker: its planner is stepped, what that decides is carried out, and it is watched that promises are kept.
 * memory.c, slots.c, peers.c and devices.c have what they are named for. */
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
        sim_slots_note(world, node, action);
        if (action->slot >= node->worker->config.slots) {
            sim_devices_place(node->worker, action);
        }
    }
    if (node->worker->deferred != NULL && tessi_deferred_hold(node->worker->deferred, action)) {
        sim_trace(world, "        … which waits");
        return;
    }
    switch (action->kind) {
    case TESSI_FLOW_ALLOC: sim_memory_alloc(world, node, action); break;
    case TESSI_FLOW_MAP: sim_memory_map(world, node, action); break;
    case TESSI_FLOW_FREE_BLOCK: sim_memory_free(world, node, action); break;
    case TESSI_FLOW_RUN: sim_worker_run(world, node, action, false); break;
    case TESSI_FLOW_SPILL: sim_worker_spill(world, node, action); break;
    case TESSI_FLOW_UNALLOC: sim_memory_unalloc(world, node, action); break;
    case TESSI_FLOW_LOAD: sim_memory_load(world, node, action); break;
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
            (void)sim_good_value(world, node, sim_place(world, node, block), "reported done");
        }
    }
}

static void flush(struct sim_world *world, struct sim_node *node, bool anyway)
{
    struct sim_worker *worker = node->worker;
    if (!tessi_flow_has_report(worker->flow) && !anyway) {
        return;
    }
    struct sim_message *message = sim_message(SIM_REPORT, node->id, SIM_SCHEDULER);
    tessi_flow_report(worker->flow, &message->report);
    message->report.devices_lost = sim_devices_lost_count(worker);
    worker->told_busy = message->report.busy > 0;
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
        flush(world, node, false); /* so that the answer takes account of it */
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

void sim_worker_begin_anew(struct sim_world *world, struct sim_node *node)
{
    bool leaving = node->leaving;
    sim_node_die(world, node, false);
    if (!leaving) {
        sim_worker_start(world, true);
    }
}

static void on_beat(struct sim_world *world, struct sim_node *node)
{
    const struct sim_worker *worker = node->worker;
    if (worker->flow != NULL && tessi_flow_busy(worker->flow) != worker->told_busy) {
        flush(world, node, true);
    } else {
        sim_send(world, sim_message(SIM_HEARTBEAT, node->id, SIM_SCHEDULER));
    }
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
        .block_cost = world->options.block_cost,
        .pull_bytes = (uint64_t)random_scale(&world->random, 1, (int64_t)(world->memory_bytes + 2)),
        /* 0: no bound. From no source of chance. */
        .asks_max = (uint32_t)(sim_mix(world->seed, node->id + 7) % 4 * (sim_mix(node->id, world->seed) % 3)),
    };
    enum tessi_status status = tessi_resources_parse(node->info.resources, &worker->config.resources, NULL);
    TESS_ASSERT(status == TESSI_OK);
    sim_devices_create(world, node);
    worker->flow = tessi_flow_create(&worker->config);
    worker->slots = tessi_zalloc(sim_slots_all(worker) * sizeof *worker->slots);
    node->welcomed = true;
}

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
        sim_worker_begin_anew(world, node);
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
    case TESSI_SCHED_DETACHED:
        sim_fail(world, "worker %u gets action %d, which is for clients", node->id, (int)action->kind);
    }
    if (event.kind == TESSI_FLOW_PEER_LOST) {
        sim_peers_forget(node->worker, event.peer);
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

static void on_message(struct sim_world *world, struct sim_node *node, struct sim_message *message)
{
    if (message->kind == SIM_ORDER) {
        on_order(world, node, message);
    } else if (message->kind == SIM_GONE) {
        peer_gone(world, node, message->from);
    } else if (message->kind == SIM_PEER_HELLO) {
        sim_peers_hello(world, node, message->from);
    } else {
        sim_peers_message(world, node, message);
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
    case SIM_STEP_END: sim_slots_step_end(world, node, event); break;
    case SIM_STEP_TOLD: sim_slots_step_told(world, node, event->a); break;
    case SIM_SPILLED: sim_memory_spilled(world, node, event); break;
    case SIM_LOADED: sim_memory_loaded(world, node, event); break;
    case SIM_UNREADABLE: sim_peers_unreadable(world, node, event->a); break;
    case SIM_SPILL_AGAIN: sim_memory_spill_again(world, node); break;
    case SIM_FLUSH:
        node->worker->flushing = false;
        flush(world, node, false);
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
    for (uint32_t s = 0; worker->slots != NULL && s < sim_slots_all(worker); s++) {
        tessi_free(worker->slots[s].runs);
        tessi_free(worker->slots[s].outcomes);
    }
    tessi_flow_destroy(worker->flow);
    tessi_spans_fini(&worker->locates);
    tessi_free(worker->slots);
    tessi_free(worker->places);
    tessi_free(worker->transfers);
    tessi_free(worker->unreadable);
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
