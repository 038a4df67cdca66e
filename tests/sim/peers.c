/* What a simulated worker sends to its peers, and what it hears from them. */
#include "core/base/alloc.h"
#include "tests/sim/shell.h"
#include "worker/flow/internal.h"

/* The block may have gone while the offer had to wait, or been to disk, and is read back; or it was lost with a device,
 * and the planner, which knows that, will have the PULL ask elsewhere. */
static void check_offer(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action)
{
    const struct place *place = &node->worker->places[action->block];
    if (!place->used || !sim_same_task(place->task, action->task)) {
        return;
    }
    const struct tessi_flow *flow = node->worker->flow;
    bool lost = place->memory != NULL && place->memory->lost;
    bool loading = place->memory != NULL && !place->memory->complete && place->busy;
    if (lost && !flow_block_servable(flow_block(flow, action->block))) {
        return;
    }
    if (loading) {
        sim_check_value(world, node, place->task, place->stored, "offered");
    } else {
        (void)sim_good_value(world, node, place, "offered");
    }
}

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
            message->value = sim_host_value(world, node, sim_place(world, node, action->block), "sent");
        } else {
            message->value = kept->away ? random_next(&world->random) : kept->value;
            sim_check_value(world, node, action->task, message->value, "sent late");
        }
    } else if (kind == SIM_LEASE) {
        struct place *place = sim_place(world, node, action->block);
        (void)sim_host_value(world, node, place, "lent");
        if (place->memory == NULL || place->mapped) {
            sim_fail(world, "worker %u lends memory that it has not got", node->id);
        }
        message->region = place->memory;
        place->memory->refs++;
    } else if (kind == SIM_OFFER) {
        check_offer(world, node, action);
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

/* A file that is found damaged when a peer wants it: the peer asks the scheduler again, which hears that the block is
 * lost. */
void sim_peers_unreadable(struct sim_world *world, struct sim_node *node, uint32_t number)
{
    const struct unreadable *send = &node->worker->unreadable[number];
    struct tessi_flow_action ask = {.kind = TESSI_FLOW_SEND_ASK, .peer = send->peer, .task = send->task};
    struct tessi_flow_event damaged = {.kind = TESSI_FLOW_DAMAGED, .task = send->task};
    if (!sim_view(node, send->peer)->lost) {
        send_to_peer(world, node, SIM_ASK, &ask, NULL);
    }
    sim_worker_step(world, node, &damaged, NULL);
}

static void on_send_block(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action,
                          enum sim_message_kind kind, struct sim_region *kept)
{
    const struct place *place = kept == NULL ? sim_place(world, node, action->block) : NULL;
    if (kept != NULL ? kept->damaged : place->memory == NULL && place->damaged) {
        struct sim_worker *worker = node->worker;
        tessi_grow(&worker->unreadable, &worker->unreadable_capacity, worker->unreadable_count + 1,
                   sizeof *worker->unreadable);
        worker->unreadable[worker->unreadable_count++] = (struct unreadable){action->peer, action->task};
        sim_schedule(world, world->now_ns + random_between(&world->random, 1, 10 * SIM_MS),
                     (struct sim_event){.kind = SIM_UNREADABLE,
                                        .node = node->id,
                                        .a = (uint32_t)worker->unreadable_count - 1});
        return;
    }
    send_to_peer(world, node, kind, action, kept);
}

void sim_worker_send(struct sim_world *world, struct sim_node *node, const struct tessi_flow_action *action,
                     struct sim_region *kept)
{
    static const enum sim_message_kind kinds[] = {
        [TESSI_FLOW_SEND_READ] = SIM_READ,         [TESSI_FLOW_SEND_PULL] = SIM_PULL,
        [TESSI_FLOW_SEND_RELEASE] = SIM_GIVE_BACK, [TESSI_FLOW_SEND_REVOKE] = SIM_REVOKE,
        [TESSI_FLOW_SEND_LEASE] = SIM_LEASE,       [TESSI_FLOW_SEND_INLINE] = SIM_INLINE,
        [TESSI_FLOW_SEND_OFFER] = SIM_OFFER,       [TESSI_FLOW_SEND_BLOCK] = SIM_BLOCK,
        [TESSI_FLOW_SEND_MOVED] = SIM_MOVED,       [TESSI_FLOW_SEND_ASK] = SIM_ASK};
    enum sim_message_kind kind = kinds[action->kind];
    if (kind == SIM_PULL) {
        on_send_pull(world, node, action);
    } else if (kind == SIM_INLINE || kind == SIM_BLOCK) {
        on_send_block(world, node, action, kind, kept);
    } else {
        send_to_peer(world, node, kind, action, NULL);
    }
}

/* The pull that the message answers goes off the list. */
static bool end_transfer(struct sim_worker *worker, const struct sim_message *message, uint32_t *block)
{
    for (size_t t = 0; t < worker->transfer_count; t++) {
        if (worker->transfers[t].peer == message->from && sim_same_task(worker->transfers[t].task, message->task)) {
            *block = worker->transfers[t].block;
            worker->transfers[t] = worker->transfers[--worker->transfer_count];
            return true;
        }
    }
    return false;
}

void sim_peers_hello(struct sim_world *world, struct sim_node *node, uint32_t from)
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

void sim_peers_forget(struct sim_worker *worker, uint32_t peer)
{
    size_t kept = 0;
    for (size_t t = 0; t < worker->transfer_count; t++) {
        if (worker->transfers[t].peer != peer) {
            worker->transfers[kept++] = worker->transfers[t];
        }
    }
    worker->transfer_count = kept;
}

static const enum tessi_flow_event_kind flow_events[SIM_MESSAGES] = {
    [SIM_READ] = TESSI_FLOW_READ,           [SIM_PULL] = TESSI_FLOW_PULL,
    [SIM_GIVE_BACK] = TESSI_FLOW_RELEASE,   [SIM_INLINE] = TESSI_FLOW_READY_INLINE,
    [SIM_LEASE] = TESSI_FLOW_READY_LEASE,   [SIM_OFFER] = TESSI_FLOW_READY_OFFER,
    [SIM_BLOCK] = TESSI_FLOW_DATA,          [SIM_MOVED] = TESSI_FLOW_MOVED,
    [SIM_ASK] = TESSI_FLOW_ASK,             [SIM_REVOKE] = TESSI_FLOW_REVOKE,
};

void sim_peers_message(struct sim_world *world, struct sim_node *node, const struct sim_message *message)
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
