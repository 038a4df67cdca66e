/* The run: the scheduler's shell, faults as they come, and the end. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/explain/explain.h"
#include "tests/sim/shell.h"

#define STUCK_NS (30 * SIM_S)   /* nothing has happened for so long */
#define LONG_NS (600 * SIM_S)   /* and yet it does not end */
#define STEPS_MAX 3000000
#define MINDS_CHECK_STEPS 23
#define FOOTPRINT_BLOCKS 60 /* of tasks with many inputs */

void sim_trace(const struct sim_world *world, const char *format, ...)
{
    if (world->verbose) {
        va_list arguments;
        va_start(arguments, format);
        (void)printf("%12.6f ", (double)world->now_ns / 1e9);
        (void)vprintf(format, arguments);
        (void)printf("\n");
        va_end(arguments);
    }
}

void sim_fail(const struct sim_world *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (world->verbose && world->sched != NULL) {
        sim_dump(world);
    }
    (void)fflush(stdout);
    (void)fprintf(stderr, "sim: seed %" PRIu64 " (%s), %.6f s, event %" PRIu64 ": ", world->seed,
                  sim_profile_names[world->options.profile], (double)world->now_ns / 1e9, world->steps);
    (void)vfprintf(stderr, format, arguments);
    (void)fprintf(stderr, "\n");
    va_end(arguments);
    abort();
}

/* --- nodes --- */

struct sim_node *sim_node(const struct sim_world *world, uint32_t id)
{
    TESS_ASSERT(id >= 1 && id <= world->node_count);
    return world->nodes[id - 1];
}

struct sim_node *sim_node_create(struct sim_world *world)
{
    struct sim_node *node = tessi_zalloc(sizeof *node);
    tessi_grow(&world->nodes, &world->node_capacity, world->node_count + 1, sizeof *world->nodes);
    world->nodes[world->node_count++] = node;
    node->id = (uint32_t)world->node_count;
    node->host = world->options.hosts == 0 ? node->id : random_below(&world->random, world->options.hosts);
    node->alive = true;
    node->slowness = 1.0;
    return node;
}

struct sim_view *sim_view(struct sim_node *node, uint32_t id)
{
    size_t known = node->view_capacity;
    tessi_grow(&node->views, &node->view_capacity, (size_t)id + 1, sizeof *node->views);
    if (node->view_capacity > known) {
        memset(node->views + known, 0, (node->view_capacity - known) * sizeof *node->views);
    }
    return &node->views[id];
}

static void free_inbox(struct sim_node *node)
{
    for (size_t i = 0; i < node->inbox_count; i++) {
        if (node->inbox[i].message != NULL) {
            sim_message_free(node->inbox[i].message);
        }
    }
    node->inbox_count = 0;
}

void sim_node_die(struct sim_world *world, struct sim_node *node, bool silent)
{
    if (!node->alive) {
        return;
    }
    sim_trace(world, "%s %u dies%s", node->is_client ? "client" : "worker", node->id, silent ? " in silence" : "");
    sim_count_deaths(world, node);
    node->alive = false;
    sim_break_links(world, node, silent);
    free_inbox(node);
    if (!node->is_client) {
        sim_worker_destroy(world, node);
    }
}

/* --- the scheduler's shell --- */

static void trace_spans(const struct sim_world *world, const char *what, const struct tessi_span *spans, size_t count)
{
    for (size_t s = 0; s < count; s++) {
        sim_trace(world, "        %s %u:%" PRIu64 "+%" PRIu64 " epoch %u worker %u order %" PRIu64, what,
                  spans[s].layer, spans[s].first, spans[s].count, spans[s].epoch, spans[s].worker, spans[s].order);
    }
}

static void trace_action(const struct sim_world *world, const struct tessi_sched_action *action)
{
    static const char *const names[] = {"WELCOME", "REJECT", "PEER_UP", "PEER_LOST", "LAYERS", "DROP_LAYERS",
                                        "ASSIGN", "STEAL", "FREE", "ADOPT", "LOCATION", "PUSH", "ACCEPTED",
                                        "REFUSED", "PROGRESS", "DONE", "FAILED", "BYE", "TAKE_OVER", "LEFT", "DETACHED"};
    if (world->verbose) {
        sim_trace(world, "    scheduler: %s to %u worker %u layer %u %s", names[action->kind], action->peer,
                  action->worker, action->layer_id, action->text);
        trace_spans(world, "span", action->spans, action->span_count);
        trace_spans(world, "where", action->where, action->where_count);
    }
}

static void trace_report(const struct sim_world *world, const struct tessi_report *report)
{
    trace_spans(world, "started", report->started.items, report->started.count);
    trace_spans(world, "done", report->done.items, report->done.count);
    trace_spans(world, "copied", report->copied.items, report->copied.count);
    trace_spans(world, "dropped", report->dropped.items, report->dropped.count);
    trace_spans(world, "adopted", report->adopted.items, report->adopted.count);
    trace_spans(world, "missing", report->missing.items, report->missing.count);
    trace_spans(world, "stolen", report->stolen.items, report->stolen.count);
    trace_spans(world, "kept", report->kept.items, report->kept.count);
    trace_spans(world, "refused", report->refused.items, report->refused.count);
    trace_spans(world, "starved", report->starved.items, report->starved.count);
    trace_spans(world, "shed", report->shed.items, report->shed.count);
}

/* Only who was away can be taken for lost, however long the scheduler itself was. */
static void check_silenced(const struct sim_world *world, const struct tessi_sched_action *action)
{
    const struct sim_node *node = sim_node(world, action->peer);
    if (action->kind == TESSI_SCHED_BYE && strstr(action->text, "silent") != NULL && node->alive && node->paused_ns == 0) {
        sim_fail(world, "%u is taken for lost, and has never been away", node->id);
    }
}

static void scheduler_step(struct sim_world *world, struct tessi_sched_event *event)
{
    struct tessi_sched_actions actions;
    event->now_ns = world->now_ns;
    tessi_sched_step(world->sched, event, &actions);
    tessi_sched_verify(world->sched);
    if (world->check_needed) {
        sim_check_needed(world);
    }
    for (size_t a = 0; a < actions.count; a++) {
        const struct tessi_sched_action *action = &actions.items[a];
        trace_action(world, action);
        if (action->kind == TESSI_SCHED_FAILED && action->status == TESSI_TOO_BIG && world->options.full) {
            struct sim_layer *layer = sim_graph_layer(sim_graph_of(world, action->peer), action->layer_id);
            if (!layer->given_up) { /* else it has been asked for again, and is told so */
                layer->given_up = true;
                sim_check_give_up(world);
            }
        }
        check_silenced(world, action);
        if (action->kind == TESSI_SCHED_PEER_LOST) {
            struct sim_node *lost = sim_node(world, action->worker);
            world->disturbed = true;
            sim_count_deaths(world, lost);
            if (lost->alive && lost->paused && random_chance(&world->random, 50)) { /* it comes back just too late */
                sim_schedule(world, world->now_ns + random_scale(&world->random, 10000, 10 * SIM_MS),
                             (struct sim_event){.kind = SIM_RESUME, .node = lost->id});
            }
        }
        struct sim_message *order = sim_message(SIM_ORDER, SIM_SCHEDULER, action->peer);
        sim_action_copy(&order->action, action);
        sim_send(world, order);
    }
    if (actions.wake_ns < world->tick_ns) {
        int64_t soonest = world->now_ns + 1000; /* a step takes time: meanwhile others go on */
        world->tick_ns = actions.wake_ns > soonest ? actions.wake_ns : soonest;
        sim_schedule(world, world->tick_ns, (struct sim_event){.kind = SIM_TICK, .periodic = true});
    }
    sim_check_scheduler(world);
    sim_check_lost(world);
}

static void on_submit(struct sim_world *world, const struct sim_message *message)
{
    const struct sim_submission *submission = sim_client_submission(world, message->from, message->submission);
    const struct sim_graph *graph = sim_graph_of(world, message->from);
    struct tessi_layer **layers = tessi_zalloc((submission->count + 1) * sizeof *layers);
    uint32_t workers = 0;
    for (uint32_t id = 1; id <= world->node_count; id++) {
        workers += !sim_node(world, id)->is_client && sim_scheduler_knows(world, id);
    }
    for (uint32_t i = 0; i < submission->count; i++) {
        struct sim_layer *layer = sim_graph_layer(graph, submission->first + i);
        layer->workers = workers;
        layers[i] = tessi_layer_copy(layer->layer);
    }
    scheduler_step(world, &(struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                                      .peer = message->from,
                                                      .layers = layers,
                                                      .layer_count = submission->count,
                                                      .ids = submission->wanted,
                                                      .id_count = submission->wanted_count,
                                                      .request = message->submission});
    sim_check_order(world, message->from, submission->first, submission->count);
    sim_check_needed(world);
    tessi_free(layers);
}

static void scheduler_message(struct sim_world *world, const struct sim_message *message)
{
    bool client = sim_node(world, message->from)->is_client;
    struct tessi_sched_event event = {.peer = message->from};
    if (message->kind == SIM_SUBMIT) {
        on_submit(world, message);
        return;
    }
    if (message->kind == SIM_HELLO) {
        event.kind = client ? TESSI_SCHED_CLIENT_JOIN : TESSI_SCHED_WORKER_JOIN;
        event.worker = message->info;
    } else if (message->kind == SIM_REPORT) {
        event.kind = TESSI_SCHED_REPORT;
        event.report = &message->report;
        trace_report(world, &message->report);
    } else if (message->kind == SIM_LEAVE) {
        event.kind = TESSI_SCHED_WORKER_LEAVING;
        event.wait_ns = message->wait_ns;
    } else if (message->kind == SIM_HEARTBEAT) {
        event.kind = client ? TESSI_SCHED_CLIENT_HEARD : TESSI_SCHED_WORKER_HEARD;
    } else if (message->kind == SIM_LOCATE) {
        event.kind = TESSI_SCHED_LOCATE;
        event.spans = message->spans.items;
        event.span_count = message->spans.count;
        trace_spans(world, "where is", event.spans, event.span_count);
    } else if (message->kind == SIM_RELEASE || message->kind == SIM_CANCEL || message->kind == SIM_DETACH) {
        event.kind = message->kind == SIM_RELEASE  ? TESSI_SCHED_RELEASE
                     : message->kind == SIM_CANCEL ? TESSI_SCHED_CANCEL
                                                   : TESSI_SCHED_DETACH;
        event.ids = message->ids;
        event.id_count = message->id_count;
    } else {
        TESS_ASSERT(message->kind == SIM_GONE || message->kind == SIM_GOODBYE);
        event.kind = client ? TESSI_SCHED_CLIENT_LEAVE : TESSI_SCHED_WORKER_LEAVE;
    }
    scheduler_step(world, &event);
    if (message->kind == SIM_REPORT) {
        sim_check_report(world, message->from, &message->report);
    } else if (message->kind == SIM_RELEASE || message->kind == SIM_CANCEL) {
        sim_check_needed(world);
    }
}

/* --- events --- */

static void node_event(struct sim_world *world, struct sim_node *node, struct sim_event *event);

static void drain(struct sim_world *world, struct sim_node *node)
{
    struct sim_event *events = node->inbox;
    size_t count = node->inbox_count;
    node->inbox = NULL;
    node->inbox_count = node->inbox_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        node_event(world, node, &events[i]);
    }
    tessi_free(events);
}

/* A worker that was away for so long that it may have been taken for lost cannot trust the memory that
 * it has borrowed: what it computed from it would be believed by peers that have not heard yet. So
 * it begins anew. */
static bool must_fence(const struct sim_world *world, const struct sim_node *node)
{
    return !node->is_client && world->options.hosts > 0 &&
           world->now_ns - node->paused_ns > world->options.sched.worker_silence_ns / 2;
}

/* Takes the event's message. */
static void node_event(struct sim_world *world, struct sim_node *node, struct sim_event *event)
{
    bool from_peer = event->kind == SIM_DELIVER && event->message->from != SIM_SCHEDULER;
    if (node->alive && event->kind != SIM_RESUME && (node->paused || (!node->welcomed && from_peer))) {
        tessi_grow(&node->inbox, &node->inbox_capacity, node->inbox_count + 1, sizeof *node->inbox);
        node->inbox[node->inbox_count++] = *event;
        return;
    }
    if (node->alive && event->kind == SIM_RESUME && node->paused) {
        sim_trace(world, "%u resumes", node->id);
        node->paused = false;
        if (must_fence(world, node)) {
            bool leaving = node->leaving;
            sim_node_die(world, node, false);
            if (!leaving) {
                sim_worker_start(world, true);
            }
        } else {
            drain(world, node);
        }
    } else if (node->alive && event->kind != SIM_RESUME) {
        bool welcomed = node->welcomed;
        if (node->is_client) {
            sim_client_event(world, node, event);
        } else {
            sim_worker_event(world, node, event);
        }
        if (node->alive && node->welcomed && !welcomed) {
            drain(world, node);
        }
    }
    if (event->message != NULL) {
        sim_message_free(event->message);
    }
}

static struct sim_node *any_node(struct sim_world *world, bool client)
{
    struct sim_node *found = NULL;
    uint32_t seen = 0;
    for (size_t n = 0; n < world->node_count; n++) {
        struct sim_node *node = world->nodes[n];
        if (node->alive && !node->paused && node->is_client == client && random_below(&world->random, ++seen) == 0) {
            found = node;
        }
    }
    return found;
}

static void pause_node(struct sim_world *world, struct sim_node *node, int64_t for_ns)
{
    if (node != NULL) {
        sim_trace(world, "%u pauses for %.3f s", node->id, (double)for_ns / 1e9);
        node->paused = true;
        node->paused_ns = world->now_ns;
        sim_schedule(world, world->now_ns + for_ns, (struct sim_event){.kind = SIM_RESUME, .node = node->id});
    }
}

/* Somebody must stay who can take the blocks and the work. */
static void drain_node(struct sim_world *world, struct sim_node *node, int64_t wait_ns)
{
    uint32_t staying = 0;
    for (size_t n = 0; n < world->node_count; n++) {
        const struct sim_node *other = world->nodes[n];
        staying += !other->is_client && other->alive && other->welcomed && !other->leaving &&
                   sim_scheduler_knows(world, other->id) && other != node;
    }
    bool ready = node != NULL && node->welcomed && !node->leaving && sim_scheduler_knows(world, node->id);
    if (ready && (staying > 0 || !world->options.leave_in_peace)) {
        sim_trace(world, "%u wants to leave within %.3f s", node->id, (double)wait_ns / 1e9);
        world->disturbed = true;
        sim_worker_leave(world, node, wait_ns);
    }
}

static void kill_node(struct sim_world *world, struct sim_node *node)
{
    if (node != NULL) {
        sim_node_die(world, node, random_chance(&world->random, world->options.silent_percent));
    }
}

static void kill_all(struct sim_world *world)
{
    for (size_t n = 0; n < world->node_count; n++) {
        if (!world->nodes[n]->is_client) {
            kill_node(world, world->nodes[n]);
        }
    }
}

static void break_device(struct sim_world *world, struct sim_node *node)
{
    if (node != NULL && node->welcomed) {
        sim_devices_break(world, node, random_below(&world->random, 2));
    }
}

/* From now on everything goes well, so everything must come to an end. */
static void end_faults(struct sim_world *world)
{
    world->faults_over = true;
    world->options.duplicate_percent = 0;
    world->options.damage_percent = 0;
    for (uint32_t w = 1 + random_below(&world->random, 2); w > 0 && !world->options.full; w--) {
        sim_worker_start(world, true);
    }
}

static void pause_scheduler(struct sim_world *world, int64_t for_ns)
{
    if (!world->scheduler_paused) {
        sim_trace(world, "the scheduler pauses for %.3f s", (double)for_ns / 1e9);
        world->scheduler_paused = true;
        sim_schedule(world, world->now_ns + for_ns, (struct sim_event){.kind = SIM_RESUME, .node = SIM_SCHEDULER});
    }
}

static void on_fault(struct sim_world *world, const struct sim_fault *fault)
{
    switch (fault->kind) {
    case SIM_KILL:
        kill_node(world, any_node(world, false));
        break;
    case SIM_PAUSE:
        pause_node(world, any_node(world, false), fault->for_ns);
        break;
    case SIM_JOIN:
        sim_worker_start(world, false);
        break;
    case SIM_DRAIN:
        drain_node(world, any_node(world, false), fault->for_ns);
        break;
    case SIM_KILL_CLIENT:
        kill_node(world, any_node(world, true));
        break;
    case SIM_PAUSE_CLIENT:
        pause_node(world, any_node(world, true), fault->for_ns);
        break;
    case SIM_KILL_ALL:
        kill_all(world);
        break;
    case SIM_BREAK:
        break_device(world, any_node(world, false));
        break;
    case SIM_END:
        end_faults(world);
        break;
    case SIM_PAUSE_SCHEDULER:
        pause_scheduler(world, fault->for_ns);
        break;
    }
}

static void count_down(struct sim_world *world, const struct sim_message *message)
{
    if (message->to == SIM_SCHEDULER) {
        sim_node(world, message->from)->to_scheduler--;
    } else if (message->from == SIM_SCHEDULER) {
        sim_node(world, message->to)->from_scheduler--;
    }
}

static void on_delivery(struct sim_world *world, struct sim_event *event)
{
    struct sim_message *message = event->message;
    bool waits = message->to == SIM_SCHEDULER && world->scheduler_paused;
    if (waits && sim_arrives(world, message)) {
        tessi_grow(&world->scheduler_inbox, &world->scheduler_inbox_capacity, world->scheduler_inbox_count + 1,
                   sizeof *world->scheduler_inbox);
        world->scheduler_inbox[world->scheduler_inbox_count++] = message;
        return;
    }
    count_down(world, message);
    bool lost = message->from != SIM_SCHEDULER && !sim_arrives(world, message);
    world->digest = sim_mix(world->digest, (uint64_t)message->kind << 32 | (uint64_t)message->from << 16 | message->to);
    sim_trace(world, "%s %u → %u%s task %u:%" PRIu64 "%s%s", sim_message_names[message->kind], message->from,
              message->to, message->late ? " (again)" : "", message->task.layer, message->task.index,
              lost ? " is lost" : "",
              message->to != SIM_SCHEDULER && !sim_node(world, message->to)->alive ? " †" : "");
    if (lost) {
        sim_message_free(message);
    } else if (message->to == SIM_SCHEDULER) {
        scheduler_message(world, message);
        sim_message_free(message);
    } else {
        node_event(world, sim_node(world, message->to), event);
    }
}

/* What has come meanwhile is taken before the tick. */
static void resume_scheduler(struct sim_world *world)
{
    sim_trace(world, "the scheduler resumes");
    world->scheduler_paused = false;
    for (size_t i = 0; i < world->scheduler_inbox_count; i++) {
        struct sim_message *message = world->scheduler_inbox[i];
        count_down(world, message);
        scheduler_message(world, message);
        sim_message_free(message);
    }
    world->scheduler_inbox_count = 0;
    if (world->tick_ns <= world->now_ns) {
        world->tick_ns = INT64_MAX;
        scheduler_step(world, &(struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
    }
}

static void dispatch(struct sim_world *world, struct sim_event *event)
{
    world->steps++;
    world->digest = sim_mix(world->digest, (uint64_t)world->now_ns ^ (uint64_t)event->kind << 56);
    switch (event->kind) {
    case SIM_DELIVER:
        on_delivery(world, event);
        break;
    case SIM_TICK:
        if (world->now_ns == world->tick_ns && !world->scheduler_paused) {
            world->tick_ns = INT64_MAX;
            scheduler_step(world, &(struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
        }
        break;
    case SIM_FAULT:
        on_fault(world, &world->faults[event->a]);
        break;
    case SIM_RESUME:
        if (event->node == SIM_SCHEDULER) {
            resume_scheduler(world);
        } else {
            node_event(world, sim_node(world, event->node), event);
        }
        break;
    case SIM_STEP_END:
    case SIM_STEP_TOLD:
    case SIM_SPILLED:
    case SIM_LOADED:
    case SIM_UNREADABLE:
    case SIM_SPILL_AGAIN:
    case SIM_FLUSH:
    case SIM_BEAT:
    case SIM_SCRIPT:
    case SIM_LET_GO:
    case SIM_DEVICE_HOME:
    case SIM_DEVICE_LOST:
        node_event(world, sim_node(world, event->node), event);
        break;
    }
    if (world->steps % MINDS_CHECK_STEPS == 0) {
        sim_check_minds(world);
    }
}

/* --- from start to end --- */

static void set_budgets(struct sim_world *world)
{
    uint64_t bytes = 0;
    for (uint32_t id = 1; id <= world->node_count; id++) {
        const struct sim_graph *graph = sim_graph_of(world, id);
        uint64_t footprint = sim_graph_largest_footprint(graph);
        world->footprint_bytes = footprint > world->footprint_bytes ? footprint : world->footprint_bytes;
        bytes += sim_graph_bytes(graph);
    }
    const struct sim_options *options = &world->options;
    world->footprint_bytes += world->footprint_bytes == 0;
    double slowest = (double)world->footprint_bytes / (double)(100 * SIM_MS);
    world->options.bytes_per_ns = slowest > options->bytes_per_ns ? slowest : options->bytes_per_ns;
    world->memory_bytes = bytes + 2 * world->footprint_bytes;
    world->spill_bytes = random_chance(&world->random, 50) ? 0 : bytes;
    if (options->leave_in_peace) { /* a worker accepts no block that would leave less than a quarter of its memory */
        world->memory_bytes = 2 * bytes + 4 * world->footprint_bytes;
    }
    if (options->full) { /* so few workers that each has room for the largest task, if that leaves any */
        uint64_t percent = (uint64_t)random_between(&world->random, 50, 100);
        uint64_t room = sim_wanted_bytes(world) * 100 / percent, most = room / world->footprint_bytes;
        most = most > 1 ? most : 1;
        world->options.workers = most < options->workers ? (uint32_t)most : options->workers;
        uint64_t share = room / options->workers;
        world->spill_bytes = random_chance(&world->random, 50) ? 0 : share * random_below(&world->random, 90) / 100;
        share -= world->spill_bytes;
        world->memory_bytes = share > world->footprint_bytes ? share : world->footprint_bytes;
        world->memory_bytes += (uint64_t)options->block_cost * FOOTPRINT_BLOCKS;
    } else if (options->small_memory || options->too_small) {
        uint64_t percent = (uint64_t)random_between(&world->random, 100, random_chance(&world->random, 70) ? 130 : 300);
        percent = options->profile == SIM_TIGHT ? (uint64_t)random_between(&world->random, 100, 120) : percent;
        percent = options->too_small ? (uint64_t)random_between(&world->random, 40, 99) : percent;
        world->memory_bytes = (world->footprint_bytes * percent + 99) / 100;
        world->spill_bytes = 2 * bytes + world->footprint_bytes;
    } else if (options->no_spill) {
        world->spill_bytes = random_chance(&world->random, 50)
                                 ? 0
                                 : (uint64_t)random_between(&world->random, 0, (int64_t)world->footprint_bytes);
    }
}

static void populate(struct sim_world *world)
{
    sim_options_choose(world);
    world->sched = tessi_sched_create(&world->options.sched);
    for (uint32_t c = 0; c < world->options.clients; c++) {
        struct sim_node *node = sim_node_create(world);
        node->is_client = true;
        sim_client_start(world, node);
    }
    set_budgets(world);
    for (uint32_t w = 0; w < world->options.workers; w++) {
        sim_worker_start(world, w == 0);
    }
    sim_faults_plan(world);
}

static bool all_finished(const struct sim_world *world)
{
    bool unnoticed = false;
    for (size_t n = 0; n < world->node_count; n++) {
        const struct sim_node *node = world->nodes[n];
        if (node->is_client && !sim_client_finished(node)) {
            return false;
        }
        unnoticed = unnoticed || (!node->alive && sim_scheduler_knows(world, node->id));
    }
    return world->faults_over && world->busy_events == 0 && !unnoticed;
}

static void watch_progress(const struct sim_world *world)
{
    if (world->now_ns - world->busy_ns > STUCK_NS) {
        sim_fail(world, "stuck: nothing has happened for %d s", (int)(STUCK_NS / SIM_S));
    }
    if (world->steps > STEPS_MAX || world->now_ns > LONG_NS) {
        sim_fail(world, "it does not come to an end");
    }
}

static void destroy(struct sim_world *world)
{
    struct sim_event event;
    while (sim_next_event(world, &event)) {
        if (event.message != NULL) {
            sim_message_free(event.message);
        }
    }
    for (size_t n = 0; n < world->node_count; n++) {
        struct sim_node *node = world->nodes[n];
        free_inbox(node);
        if (node->worker != NULL) {
            sim_worker_destroy(world, node);
        }
        if (node->client != NULL) {
            sim_client_destroy(world, node);
        }
        tessi_free(node->inbox);
        tessi_free(node->views);
        tessi_free(node);
    }
    tessi_sched_destroy(world->sched);
    tessi_free(world->scheduler_inbox);
    tessi_heap_fini(&world->heap);
    tessi_map_fini(&world->link_of);
    tessi_free(world->actions.items);
    tessi_free(world->nodes);
    tessi_free(world->links);
    tessi_free(world->events);
    tessi_free(world->free_events);
    tessi_free(world->faults);
}

void sim_run(uint64_t seed, enum sim_profile profile, bool verbose, uint64_t *digest)
{
    struct sim_world world = {
        .seed = seed, .verbose = verbose, .tick_ns = INT64_MAX, .alone_since_ns = -1, .bare_since_ns = -1};
    struct sim_event event;
    world.random.state = sim_mix(seed, UINT64_C(0x7465737365726121));
    world.lonely_since_ns = -1;
    world.options.profile = profile;
    populate(&world);
    while (!all_finished(&world) && sim_next_event(&world, &event)) {
        dispatch(&world, &event);
        watch_progress(&world);
    }
    sim_check_minds(&world);
    sim_check_empty(&world);
    sim_trace(&world, "the end: %" PRIu64 " events, %" PRIu64 " tasks run, %" PRIu64 " reads, %" PRIu64 " detached",
              world.steps, world.tasks_run, world.reads_right, world.detached);
    if (digest != NULL) {
        *digest = world.digest;
    }
    destroy(&world);
}
