/* A client: it follows its script, serves the data of its RECEIVE layers, and compares every block
 * that it reads with the oracle. */
#include <stdio.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/world.h"

#define BEAT_NS (400 * SIM_MS)
#define RETRY_NS (20 * SIM_MS)

enum read_state { READ_NONE, READ_LOCATING, READ_RETRYING, READ_ASKED, READ_PULLING, READ_OVER };

struct read {
    enum read_state state;
    uint32_t worker;
};

struct view { /* of one layer */
    bool exists, wanted, announced, failed, cancelled, released;
    bool doubtful;      /* a submission that asked for it was refused: whether an earlier one did is not known */
    struct read *reads; /* by block, owned */
};

struct lease {
    uint32_t worker;
    struct tessi_task task;
    bool held;
};

struct sim_client {
    struct sim_graph graph;
    struct sim_script script;
    struct view *views; /* by layer id − 1, owned */
    size_t at;          /* next op */
    int64_t wait_ns;    /* not before */
    uint64_t open_reads;
    bool left;
    struct lease *leases;
    size_t lease_count, lease_capacity;
};

struct sim_graph *sim_graph_of(const struct sim_world *world, uint32_t session)
{
    struct sim_node *node = sim_node(world, session);
    return node->client == NULL ? NULL : &node->client->graph;
}

const struct sim_submission *sim_client_submission(const struct sim_world *world, uint32_t session, uint32_t number)
{
    return &sim_node(world, session)->client->script.submissions[number];
}

uint64_t sim_wanted_bytes(const struct sim_world *world)
{
    uint64_t bytes = 0;
    for (uint32_t id = 1; id <= world->node_count; id++) {
        const struct sim_client *client = sim_node(world, id)->client;
        for (size_t l = 1; client != NULL && l <= client->graph.count; l++) {
            bool wanted = false;
            for (size_t s = 0; s < client->script.submission_count; s++) {
                const struct sim_submission *submission = &client->script.submissions[s];
                for (size_t w = 0; w < submission->wanted_count; w++) {
                    wanted = wanted || submission->wanted[w] == l;
                }
            }
            bytes += wanted ? tessi_layer_bytes(client->graph.layers[l - 1].layer) : 0;
        }
    }
    return bytes;
}

bool sim_client_finished(const struct sim_node *node)
{
    return !node->alive || node->client->left || node->client->at == node->client->script.count;
}

void sim_client_say(const struct sim_world *world, const struct sim_node *node)
{
    const struct sim_client *client = node->client;
    (void)world;
    (void)fprintf(stderr, "client %u: op %zu of %zu, %llu reads open; waits for", node->id, client->at,
                  client->script.count, (unsigned long long)client->open_reads);
    for (size_t l = 0; l < client->graph.count; l++) {
        const struct view *view = &client->views[l];
        if (view->exists && view->wanted && !view->announced && !view->cancelled && !view->released) {
            (void)fprintf(stderr, " layer %zu", l + 1);
        }
        for (uint64_t i = 0; view->reads != NULL && i < client->graph.layers[l].task_count; i++) {
            if (view->reads[i].state != READ_NONE && view->reads[i].state != READ_OVER) {
                (void)fprintf(stderr, " block %zu:%llu (%d at %u)", l + 1, (unsigned long long)i,
                              (int)view->reads[i].state, view->reads[i].worker);
            }
        }
    }
    (void)fprintf(stderr, "\n");
}

/* --- leases --- */

static void give_back(struct sim_world *world, struct sim_node *node, struct lease *lease)
{
    if (lease->held) {
        struct sim_message *message = sim_message(SIM_GIVE_BACK, node->id, lease->worker);
        message->task = lease->task;
        lease->held = false;
        sim_send(world, message);
    }
}

static void give_back_all(struct sim_world *world, struct sim_node *node, uint32_t worker, struct tessi_task task)
{
    for (size_t l = 0; l < node->client->lease_count; l++) {
        struct lease *lease = &node->client->leases[l];
        if (lease->worker == worker && lease->task.layer == task.layer && lease->task.index == task.index) {
            give_back(world, node, lease);
        }
    }
}

/* --- reading --- */

static void locate(struct sim_world *world, const struct sim_node *node, uint32_t layer, uint64_t index)
{
    struct sim_message *message = sim_message(SIM_LOCATE, node->id, SIM_SCHEDULER);
    tessi_spans_push(&message->spans,
                     (struct tessi_span){.session = node->id, .layer = layer, .first = index, .count = 1});
    node->client->views[layer - 1].reads[index].state = READ_LOCATING;
    sim_send(world, message);
}

static void greet(struct sim_world *world, struct sim_node *node, uint32_t worker)
{
    struct sim_view *view = sim_view(node, worker);
    if (!view->greeted) {
        view->greeted = true;
        sim_send(world, sim_message(SIM_PEER_HELLO, node->id, worker));
    }
}

static void ask(struct sim_world *world, struct sim_node *node, struct tessi_task task, uint32_t worker, uint32_t epoch)
{
    struct read *read = &node->client->views[task.layer - 1].reads[task.index];
    if (sim_view(node, worker)->lost) {
        read->state = READ_RETRYING;
        sim_schedule(world, world->now_ns + RETRY_NS, (struct sim_event){.kind = SIM_SCRIPT, .node = node->id});
        return;
    }
    greet(world, node, worker);
    give_back_all(world, node, worker, task); /* later, that would end the new lease as well */
    struct sim_message *message = sim_message(SIM_READ, node->id, worker);
    message->task = task;
    message->epoch = epoch;
    /* Lent memory holds noise once the reader was taken for lost, so a client that may be borrows none. */
    message->lease = node->host == sim_node(world, worker)->host && world->options.client_pauses == 0 &&
                     random_chance(&world->random, 50);
    read->state = READ_ASKED;
    read->worker = worker;
    sim_send(world, message);
}

static void end_read(struct sim_client *client, struct read *read)
{
    if (read->state != READ_NONE && read->state != READ_OVER) {
        read->state = READ_OVER;
        client->open_reads--;
    }
}

static void end_reads(struct sim_node *node, uint32_t layer)
{
    struct view *view = &node->client->views[layer - 1];
    for (uint64_t i = 0; view->reads != NULL && i < node->client->graph.layers[layer - 1].task_count; i++) {
        end_read(node->client, &view->reads[i]);
    }
}

static void take_value(struct sim_world *world, struct sim_node *node, const struct sim_message *message,
                       struct read *read, uint64_t value)
{
    uint64_t expected = 0;
    bool whole = sim_oracle(&node->client->graph, message->task.layer, message->task.index, &expected);
    if (!whole || value != expected) {
        sim_fail(world, "client %u reads %u:%llu from worker %u: a wrong value", node->id, message->task.layer,
                 (unsigned long long)message->task.index, message->from);
    }
    world->reads_right++;
    end_read(node->client, read);
}

static void take_lease(struct sim_world *world, struct sim_node *node, const struct sim_message *message)
{
    struct sim_client *client = node->client;
    tessi_grow(&client->leases, &client->lease_capacity, client->lease_count + 1, sizeof *client->leases);
    client->leases[client->lease_count++] = (struct lease){message->from, message->task, true};
    sim_schedule(world, world->now_ns + random_scale(&world->random, 1000, 20 * SIM_MS),
                 (struct sim_event){.kind = SIM_LET_GO, .node = node->id, .a = (uint32_t)client->lease_count - 1});
}

static void serve(struct sim_world *world, struct sim_node *node, const struct sim_message *pull)
{
    const struct sim_layer *layer = sim_graph_layer(&node->client->graph, pull->task.layer);
    if (layer == NULL || layer->layer->op != TESSI_OP_RECEIVE) {
        sim_fail(world, "client %u is asked for layer %u, which is not its data", node->id, pull->task.layer);
    }
    struct sim_message *block = sim_message(SIM_BLOCK, node->id, pull->from);
    block->task = pull->task;
    block->bytes = tessi_layer_block_bytes(layer->layer, pull->task.index);
    (void)sim_oracle(&node->client->graph, pull->task.layer, pull->task.index, &block->value);
    sim_send(world, block);
}

static void on_answer(struct sim_world *world, struct sim_node *node, const struct sim_message *message)
{
    struct view *view = &node->client->views[message->task.layer - 1];
    struct read *read = view->reads == NULL ? NULL : &view->reads[message->task.index];
    bool waits =
        read != NULL && (read->state == READ_ASKED || read->state == READ_PULLING) && read->worker == message->from;
    if (message->kind == SIM_LEASE) {
        take_lease(world, node, message);
    }
    if (!waits) {
        return;
    }
    if (message->kind == SIM_LEASE) {
        take_value(world, node, message, read, message->region->value);
    } else if (message->kind == SIM_INLINE || message->kind == SIM_BLOCK) {
        take_value(world, node, message, read, message->value);
    } else if (message->kind == SIM_OFFER) {
        struct sim_message *pull = sim_message(SIM_PULL, node->id, message->from);
        pull->task = message->task;
        read->state = READ_PULLING;
        sim_send(world, pull);
    } else if (message->kind == SIM_MOVED) {
        ask(world, node, message->task, message->worker, message->epoch);
    } else {
        locate(world, node, message->task.layer, message->task.index);
    }
}

static void on_location(struct sim_world *world, struct sim_node *node, const struct tessi_span *span)
{
    struct view *view = &node->client->views[span->layer - 1];
    for (uint64_t i = span->first; view->reads != NULL && i < span->first + span->count; i++) {
        if (view->reads[i].state != READ_LOCATING) {
            continue;
        }
        if (span->worker != 0) {
            ask(world, node, (struct tessi_task){node->id, span->layer, i}, span->worker, span->epoch);
            continue;
        }
        if (view->announced && !view->failed && !view->doubtful && !node->client->graph.detached &&
            !sim_loss_possible(world, &node->client->graph)) {
            sim_fail(world, "client %u: block %u:%llu of a finished layer has gone", node->id, span->layer,
                     (unsigned long long)i);
        }
        end_read(node->client, &view->reads[i]);
    }
}

static void on_worker_lost(struct sim_world *world, struct sim_node *node, uint32_t worker)
{
    struct sim_client *client = node->client;
    sim_view(node, worker)->lost = true;
    for (uint32_t l = 1; l <= client->graph.count; l++) {
        const struct view *view = &client->views[l - 1];
        for (uint64_t i = 0; view->reads != NULL && i < client->graph.layers[l - 1].task_count; i++) {
            enum read_state state = view->reads[i].state;
            if ((state == READ_ASKED || state == READ_PULLING) && view->reads[i].worker == worker) {
                locate(world, node, l, i);
            }
        }
    }
}

/* --- the script --- */

/* Earlier layers can be named that were asked for, and nothing else. */
static bool inputs_exist(const struct sim_client *client, const struct sim_submission *submission)
{
    for (uint32_t l = submission->first; l < submission->first + submission->count; l++) {
        const struct tessi_layer *layer = client->graph.layers[l - 1].layer;
        for (uint32_t i = 0; i < layer->ninputs; i++) {
            uint32_t input = layer->reads[i];
            if (input < submission->first && !client->views[input - 1].exists) {
                return false;
            }
        }
    }
    for (size_t w = 0; w < submission->wanted_count; w++) {
        if (submission->wanted[w] < submission->first && !client->views[submission->wanted[w] - 1].exists) {
            return false;
        }
    }
    return true;
}

static void submit(struct sim_world *world, struct sim_node *node, uint32_t number)
{
    struct sim_client *client = node->client;
    const struct sim_submission *submission = &client->script.submissions[number];
    if (!inputs_exist(client, submission)) {
        return;
    }
    for (uint32_t l = submission->first; l < submission->first + submission->count; l++) {
        client->views[l - 1].exists = true;
    }
    for (size_t w = 0; w < submission->wanted_count; w++) {
        struct view *view = &client->views[submission->wanted[w] - 1];
        view->wanted = true;
        view->announced = false;
    }
    struct sim_message *message = sim_message(SIM_SUBMIT, node->id, SIM_SCHEDULER);
    message->submission = number;
    sim_send(world, message);
}

static void send_ids(struct sim_world *world, struct sim_node *node, enum sim_message_kind kind, uint32_t layer)
{
    struct sim_client *client = node->client;
    struct sim_message *message = sim_message(kind, node->id, SIM_SCHEDULER);
    message->ids = tessi_alloc((client->graph.count + 1) * sizeof *message->ids);
    for (uint32_t l = 1; l <= client->graph.count; l++) {
        struct view *view = &client->views[l - 1];
        if ((layer != 0 && layer != l) || !view->exists || !view->wanted || view->released) {
            continue;
        }
        message->ids[message->id_count++] = l;
        view->released = view->released || kind == SIM_RELEASE;
        view->cancelled = view->cancelled || kind == SIM_CANCEL;
        end_reads(node, l);
    }
    sim_send(world, message);
}

static void send_detach(struct sim_world *world, struct sim_node *node, uint32_t layer)
{
    const struct view *view = &node->client->views[layer - 1];
    if (view->exists && view->wanted && !view->released) {
        struct sim_message *message = sim_message(SIM_DETACH, node->id, SIM_SCHEDULER);
        message->ids = tessi_alloc(sizeof *message->ids);
        message->ids[message->id_count++] = layer;
        sim_send(world, message);
    }
}

/* It has the layer's name once more, and gives one of them back. */
static void on_detached(struct sim_world *world, struct sim_node *node, uint32_t layer)
{
    struct sim_message *message = sim_message(SIM_RELEASE, node->id, SIM_SCHEDULER);
    message->ids = tessi_alloc(sizeof *message->ids);
    message->ids[message->id_count++] = layer;
    node->client->graph.detached = true;
    world->detached++;
    sim_send(world, message);
}

static void start_reads(struct sim_world *world, struct sim_node *node, uint32_t layer)
{
    struct view *view = &node->client->views[layer - 1];
    uint64_t blocks = node->client->graph.layers[layer - 1].task_count;
    uint32_t percent = random_chance(&world->random, 70) ? 100 : 30;
    if (!view->exists || !view->wanted || view->failed || view->cancelled || view->released) {
        return;
    }
    if (view->reads == NULL) {
        view->reads = tessi_zalloc(blocks * sizeof *view->reads);
    }
    for (uint64_t i = 0; i < blocks; i++) {
        bool idle = view->reads[i].state == READ_NONE || view->reads[i].state == READ_OVER;
        if (idle && random_chance(&world->random, percent)) {
            node->client->open_reads++;
            locate(world, node, layer, i);
        }
    }
}

static bool all_announced(const struct sim_client *client)
{
    for (size_t l = 0; l < client->graph.count; l++) {
        const struct view *view = &client->views[l];
        if (view->exists && view->wanted && !view->announced && !view->cancelled && !view->released) {
            return false;
        }
    }
    return true;
}

/* False: the op cannot be done yet. */
static bool follow(struct sim_world *world, struct sim_node *node, const struct sim_op *op)
{
    struct sim_client *client = node->client;
    switch (op->kind) {
    case SIM_OP_SUBMIT:
        submit(world, node, op->number);
        return true;
    case SIM_OP_AWAIT:
        return all_announced(client);
    case SIM_OP_READ:
        start_reads(world, node, op->number);
        return true;
    case SIM_OP_AWAIT_READS:
        return client->open_reads == 0;
    case SIM_OP_RELEASE:
        send_ids(world, node, SIM_RELEASE, op->number);
        return true;
    case SIM_OP_CANCEL:
        send_ids(world, node, SIM_CANCEL, op->number);
        return true;
    case SIM_OP_DETACH:
        send_detach(world, node, op->number);
        return true;
    case SIM_OP_WAIT:
        client->wait_ns = world->now_ns + op->for_ns;
        sim_schedule(world, client->wait_ns, (struct sim_event){.kind = SIM_SCRIPT, .node = node->id});
        return true;
    case SIM_OP_LEAVE:
        client->left = true;
        sim_send(world, sim_message(SIM_GOODBYE, node->id, SIM_SCHEDULER));
        return true;
    }
    return true;
}

static void go_on(struct sim_world *world, struct sim_node *node)
{
    struct sim_client *client = node->client;
    while (client->at < client->script.count && !client->left && world->now_ns >= client->wait_ns) {
        const struct sim_op *op = &client->script.ops[client->at];
        if (!follow(world, node, op)) {
            return;
        }
        sim_trace(world, "client %u: op %d of %u done", node->id, (int)op->kind, op->number);
        client->at++;
    }
}

static void retry_reads(struct sim_world *world, struct sim_node *node)
{
    struct sim_client *client = node->client;
    for (uint32_t l = 1; l <= client->graph.count; l++) {
        const struct view *view = &client->views[l - 1];
        for (uint64_t i = 0; view->reads != NULL && i < client->graph.layers[l - 1].task_count; i++) {
            if (view->reads[i].state == READ_RETRYING) {
                locate(world, node, l, i);
            }
        }
    }
}

/* --- what the scheduler says --- */

static void on_refused(struct sim_world *world, struct sim_node *node, const struct tessi_sched_action *action)
{
    struct sim_client *client = node->client;
    const struct sim_submission *submission = &client->script.submissions[action->request];
    bool expected = action->status == TESSI_TOO_BIG ? world->ever_inadequate || world->options.full : false;
    world->refused += action->status == TESSI_TOO_BIG;
    if (!expected && inputs_exist(client, submission)) {
        sim_fail(world, "client %u: submission %u is refused for no reason: %s", node->id, action->request,
                 action->text);
    }
    for (uint32_t l = submission->first; l < submission->first + submission->count; l++) {
        client->views[l - 1].exists = false;
        end_reads(node, l);
    }
    for (size_t w = 0; w < submission->wanted_count; w++) {
        /* What it had asked for before stays as it was; nothing more will be said about it. */
        client->views[submission->wanted[w] - 1].announced = true;
        client->views[submission->wanted[w] - 1].doubtful = true;
    }
}

static void on_done(struct sim_world *world, struct sim_node *node, uint32_t layer)
{
    struct view *view = &node->client->views[layer - 1];
    view->announced = true;
    for (uint64_t i = 0; i < node->client->graph.layers[layer - 1].task_count; i++) {
        uint64_t value;
        if (!sim_oracle(&node->client->graph, layer, i, &value)) {
            sim_fail(world, "client %u: layer %u is said to be done and cannot be", node->id, layer);
        }
    }
}

static void on_failed(struct sim_world *world, struct sim_node *node, const struct tessi_sched_action *action)
{
    struct view *view = &node->client->views[action->layer_id - 1];
    bool asked_for = action->status == TESSI_CANCELLED && view->cancelled;
    if (!asked_for && !view->released) {
        sim_check_failure(world, &node->client->graph, action->layer_id, action->status, action->text);
    }
    world->gave_up += action->status == TESSI_TOO_BIG;
    view->announced = view->failed = true;
    end_reads(node, action->layer_id);
}

static void on_order(struct sim_world *world, struct sim_node *node, const struct tessi_sched_action *action)
{
    switch (action->kind) {
    case TESSI_SCHED_WELCOME:
    case TESSI_SCHED_PEER_UP:
    case TESSI_SCHED_ACCEPTED:
    case TESSI_SCHED_PROGRESS:
        break;
    case TESSI_SCHED_PEER_LOST:
        on_worker_lost(world, node, action->worker);
        break;
    case TESSI_SCHED_LOCATION:
        for (size_t s = 0; s < action->span_count; s++) {
            on_location(world, node, &action->spans[s]);
        }
        break;
    case TESSI_SCHED_PUSH:
        greet(world, node, action->worker);
        break;
    case TESSI_SCHED_REFUSED:
        on_refused(world, node, action);
        break;
    case TESSI_SCHED_DONE:
        on_done(world, node, action->layer_id);
        break;
    case TESSI_SCHED_FAILED:
        on_failed(world, node, action);
        break;
    case TESSI_SCHED_BYE:
        node->client->left = true;
        sim_node_die(world, node, false);
        break;
    case TESSI_SCHED_DETACHED:
        for (size_t i = 0; i < action->id_count; i++) {
            on_detached(world, node, action->ids[i]);
        }
        break;
    case TESSI_SCHED_DROP_LAYERS: /* its oracle knows all data for ever */
        break;
    case TESSI_SCHED_REJECT:
    case TESSI_SCHED_LAYERS:
    case TESSI_SCHED_ASSIGN:
    case TESSI_SCHED_STEAL:
    case TESSI_SCHED_FREE:
    case TESSI_SCHED_ADOPT:
    case TESSI_SCHED_TAKE_OVER:
    case TESSI_SCHED_LEFT:
        sim_fail(world, "client %u gets action %d, which is for workers", node->id, (int)action->kind);
    }
}

static void on_message(struct sim_world *world, struct sim_node *node, const struct sim_message *message)
{
    if (message->kind == SIM_ORDER) {
        on_order(world, node, &message->action);
    } else if (message->kind == SIM_GONE) {
        on_worker_lost(world, node, message->from);
    } else if (sim_view(node, message->from)->lost) {
        return;
    } else if (message->kind == SIM_PULL) {
        serve(world, node, message);
    } else if (message->kind == SIM_REVOKE) {
        give_back_all(world, node, message->from, message->task);
    } else {
        on_answer(world, node, message);
    }
}

void sim_client_event(struct sim_world *world, struct sim_node *node, struct sim_event *event)
{
    if (event->kind == SIM_DELIVER) {
        on_message(world, node, event->message);
    } else if (event->kind == SIM_SCRIPT) {
        retry_reads(world, node);
    } else if (event->kind == SIM_LET_GO) {
        give_back(world, node, &node->client->leases[event->a]);
    } else if (event->kind == SIM_BEAT && !node->client->left) {
        sim_send(world, sim_message(SIM_HEARTBEAT, node->id, SIM_SCHEDULER));
        sim_schedule(world, world->now_ns + BEAT_NS,
                     (struct sim_event){.kind = SIM_BEAT, .node = node->id, .periodic = true});
    }
    if (node->alive) {
        go_on(world, node);
    }
    if (node->alive && node->client->left) {
        sim_node_die(world, node, false);
    }
}

void sim_client_start(struct sim_world *world, struct sim_node *node)
{
    struct sim_client *client = tessi_zalloc(sizeof *client);
    node->client = client;
    node->welcomed = true;
    client->graph.session = node->id;
    sim_script_write(world, &client->graph, &client->script);
    sim_task_options_choose(world, &client->graph);
    client->views = tessi_zalloc((client->graph.count + 1) * sizeof *client->views);
    sim_send(world, sim_message(SIM_HELLO, node->id, SIM_SCHEDULER));
    int64_t start_ns = world->now_ns + random_scale(&world->random, 1000, 50 * SIM_MS);
    client->wait_ns = start_ns;
    sim_schedule(world, start_ns, (struct sim_event){.kind = SIM_SCRIPT, .node = node->id});
    sim_schedule(world, world->now_ns + BEAT_NS,
                 (struct sim_event){.kind = SIM_BEAT, .node = node->id, .periodic = true});
}

void sim_client_destroy(struct sim_world *world, struct sim_node *node)
{
    struct sim_client *client = node->client;
    (void)world;
    for (size_t l = 0; l < client->graph.count; l++) {
        tessi_free(client->views[l].reads);
    }
    tessi_free(client->views);
    tessi_free(client->leases);
    sim_script_fini(&client->script);
    sim_graph_fini(&client->graph);
    tessi_free(client);
    node->client = NULL;
}
