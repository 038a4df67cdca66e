/* Two peer endpoints in one process: blocks inline, pulled, leased and from files; broken and hostile connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/net/client.h"
#include "core/wire/message.h"
#include "worker/peer/peer.h"

#define RUN_ID UINT64_C(0x1234567890)
#define PATIENCE_NS (20 * TESSI_NS_PER_S)
#define MIB (UINT64_C(1) << 20)

enum { EVENTS_MAX = 4096, BLOCK_HANDLE = 5 };

struct node {
    uint32_t id;
    struct tessi_poller *poller;
    struct tessi_store *store;
    struct tessi_peers *peers;
    struct tessi_flow_event events[EVENTS_MAX];
    struct tessi_peer_data data[EVENTS_MAX];
    size_t event_count;
    uint8_t inline_bytes[TESSI_INLINE_BYTES];
    enum tessi_status broken;
};

static struct tessi_net *net;
static char spill_dir[64];

static void on_event(void *context, struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    struct node *node = context;
    assert_true(node->event_count < EVENTS_MAX);
    node->events[node->event_count] = *event;
    node->data[node->event_count] = *data;
    if (event->kind == TESSI_FLOW_READY_INLINE) {
        assert_true(data->byte_count <= sizeof node->inline_bytes);
        memcpy(node->inline_bytes, data->bytes, data->byte_count);
    }
    node->event_count++;
}

static void on_broken(void *context, enum tessi_status status, const char *text)
{
    struct node *node = context;
    (void)text;
    node->broken = status;
}

static void on_wake(void *context)
{
    struct node *node = context;
    tessi_poller_wake(node->poller);
}

static enum tessi_status on_make(void *context, const struct tessi_layer *layer, uint64_t index, void *out,
                                 struct tessi_error *error)
{
    (void)context;
    (void)error;
    memset(out, (int)(index & 0xff), (size_t)tessi_layer_block_bytes(layer, index));
    return TESSI_OK;
}

static struct node *node_open(uint32_t id, const char *listen)
{
    struct node *node = tessi_zalloc(sizeof *node);
    node->id = id;
    assert_int_equal(tessi_poller_create(&node->poller, NULL), TESSI_OK);
    struct tessi_store_config store = {
        .memory_bytes = 64 * MIB, .spill_dir = spill_dir, .wake = on_wake, .make = on_make, .context = node};
    assert_int_equal(tessi_store_create(&store, &node->store, NULL), TESSI_OK);
    struct tessi_peers_config config = {.net = net,
                                        .poller = node->poller,
                                        .store = node->store,
                                        .listen = listen,
                                        .event = on_event,
                                        .broken = on_broken,
                                        .context = node};
    assert_int_equal(tessi_peers_create(&config, &node->peers, NULL), TESSI_OK);
    assert_int_equal(tessi_peers_begin(node->peers, RUN_ID, id, NULL), TESSI_OK);
    return node;
}

static void node_close(struct node *node)
{
    tessi_peers_destroy(node->peers);
    tessi_store_destroy(node->store);
    tessi_poller_destroy(node->poller);
    tessi_free(node);
}

static void node_turn(struct node *node)
{
    struct tessi_ready ready[16];
    struct tessi_store_outcome outcome;
    int64_t wait_ns = tessi_peers_sleep(node->peers) ? TESSI_NS_PER_MS : 0;
    uint32_t count = tessi_poller_wait(node->poller, wait_ns, ready, 16);
    for (uint32_t i = 0; i < count; i++) {
        struct tessi_source *source = ready[i].owner;
        if (source != NULL) {
            source->ready(source, ready[i].events);
        }
    }
    while (tessi_store_next(node->store, &outcome)) {
        assert_int_equal(outcome.status, TESSI_OK);
    }
    (void)tessi_peers_hear(node->peers, tessi_clock_now());
    tessi_peers_work(node->peers, tessi_clock_now());
    tessi_peers_flush(node->peers);
}

/* Turn both until `node` has an event of the kind; returns its position, searching from `from` on. */
static size_t wait_event(struct node *node, struct node *other, enum tessi_flow_event_kind kind, size_t from)
{
    int64_t limit_ns = tessi_clock_now() + PATIENCE_NS;
    for (;;) {
        for (size_t i = from; i < node->event_count; i++) {
            if (node->events[i].kind == kind) {
                return i;
            }
        }
        assert_true(tessi_clock_now() < limit_ns);
        node_turn(node);
        if (other != NULL) {
            node_turn(other);
        }
    }
}

static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

/* A new handle with a block whose bytes can be told from their places. */
static struct tessi_block *block_make(struct node *node, uint32_t handle, uint64_t bytes, bool filled)
{
    assert_int_equal(tessi_store_alloc(node->store, handle, bytes, NULL), TESSI_OK);
    struct tessi_block *block = tessi_store_block(node->store, handle, false);
    if (filled) {
        assert_int_equal(tessi_block_commit(block, NULL), TESSI_OK);
        uint8_t *data = tessi_block_data(block);
        for (uint64_t i = 0; i < bytes; i++) {
            data[i] = byte_at(i);
        }
    }
    return block;
}

static void check_bytes(const uint8_t *data, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (data[i] != byte_at(i)) {
            fail_msg("byte %llu differs", (unsigned long long)i);
        }
    }
}

static struct tessi_task task_of(uint64_t index)
{
    return (struct tessi_task){3, 4, index};
}

/* Each knows of the other, as the scheduler would tell them. */
static void introduce(struct node *a, struct node *b, bool same_host)
{
    tessi_peers_up(a->peers, b->id, tessi_peers_endpoint(b->peers), same_host);
    tessi_peers_up(b->peers, a->id, tessi_peers_endpoint(a->peers), same_host);
    assert_int_equal(a->events[0].kind, TESSI_FLOW_PEER_UP);
    assert_int_equal(a->events[0].peer, b->id);
}

struct pair {
    struct node *reader, *owner;
};

static struct pair open_pair(bool same_host, const char *a, const char *b)
{
    struct pair pair = {node_open(1, a), node_open(2, b)};
    introduce(pair.reader, pair.owner, same_host);
    return pair;
}

static void close_pair(struct pair pair)
{
    assert_int_equal(pair.reader->broken, TESSI_OK);
    assert_int_equal(pair.owner->broken, TESSI_OK);
    node_close(pair.reader);
    node_close(pair.owner);
}

static void read_task(struct pair pair, uint64_t index, bool lease)
{
    size_t from = pair.owner->event_count;
    tessi_peers_read(pair.reader->peers, 2, task_of(index), 9, lease);
    size_t at = wait_event(pair.owner, pair.reader, TESSI_FLOW_READ, from);
    const struct tessi_flow_event *read = &pair.owner->events[at];
    assert_int_equal(read->peer, 1);
    assert_int_equal(read->task.index, index);
    assert_int_equal(read->epoch, 9);
    assert_int_equal(read->lease, lease);
}

static void small_blocks_travel_inside_the_answer(void **state)
{
    (void)state;
    struct pair pair = open_pair(false, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    struct tessi_block *block = block_make(pair.owner, BLOCK_HANDLE, 5000, true);
    read_task(pair, 17, false);
    tessi_peers_inline(pair.owner->peers, 1, task_of(17), 9, block);
    size_t at = wait_event(pair.reader, pair.owner, TESSI_FLOW_READY_INLINE, 0);
    assert_int_equal(pair.reader->events[at].peer, 2);
    assert_int_equal(pair.reader->events[at].task.index, 17);
    assert_int_equal(pair.reader->data[at].byte_count, 5000);
    check_bytes(pair.reader->inline_bytes, 5000);
    close_pair(pair);
}

static void pull_block(struct pair pair, struct tessi_block *block, uint64_t bytes)
{
    read_task(pair, 1, false);
    tessi_peers_offer(pair.owner->peers, 1, task_of(1), 9, bytes);
    (void)wait_event(pair.reader, pair.owner, TESSI_FLOW_READY_OFFER, 0);
    struct tessi_block *to = block_make(pair.reader, BLOCK_HANDLE, bytes, false);
    tessi_peers_pull(pair.reader->peers, 2, task_of(1), to);
    (void)wait_event(pair.owner, pair.reader, TESSI_FLOW_PULL, 0);
    tessi_peers_block(pair.owner->peers, 1, task_of(1), block);
    size_t at = wait_event(pair.reader, pair.owner, TESSI_FLOW_DATA, 0);
    assert_int_equal(pair.reader->events[at].peer, 2);
    assert_int_equal(pair.reader->events[at].task.index, 1);
    check_bytes(tessi_block_data(to), bytes);
    assert_int_equal(tessi_peers_gauges(pair.reader->peers).received_bytes, bytes);
    assert_int_equal(tessi_peers_gauges(pair.owner->peers).sent_bytes, bytes);
}

static void large_blocks_come_in_pieces(void **state)
{
    (void)state;
    const uint64_t bytes = 21 * MIB + 12345; /* several times the credit */
    struct pair pair = open_pair(false, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    struct tessi_block *block = block_make(pair.owner, BLOCK_HANDLE, bytes, true);
    pull_block(pair, block, bytes);
    close_pair(pair);
}

static void blocks_outlive_their_handles_while_they_are_sent(void **state)
{
    (void)state;
    const uint64_t bytes = 21 * MIB;
    struct pair pair = open_pair(false, "inproc://peer-a", "inproc://peer-b");
    struct tessi_block *block = block_make(pair.owner, BLOCK_HANDLE, bytes, true);
    read_task(pair, 1, false);
    struct tessi_block *to = block_make(pair.reader, BLOCK_HANDLE, bytes, false);
    assert_int_equal(tessi_block_commit(to, NULL), TESSI_OK); /* pages that exist take another way than new ones */
    tessi_peers_pull(pair.reader->peers, 2, task_of(1), to);
    (void)wait_event(pair.owner, pair.reader, TESSI_FLOW_PULL, 0);
    tessi_peers_block(pair.owner->peers, 1, task_of(1), block);
    tessi_store_free(pair.owner->store, BLOCK_HANDLE);
    /* Another block, which would get the same memory if it were free. */
    struct tessi_block *next = block_make(pair.owner, BLOCK_HANDLE, bytes, false);
    assert_int_equal(tessi_block_commit(next, NULL), TESSI_OK);
    memset(tessi_block_data(next), 0xee, bytes);
    (void)wait_event(pair.reader, pair.owner, TESSI_FLOW_DATA, 0);
    check_bytes(tessi_block_data(to), bytes);
    close_pair(pair);
}

static void spill(struct node *node, uint32_t handle, const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_store_outcome outcome;
    int64_t limit_ns = tessi_clock_now() + PATIENCE_NS;
    tessi_store_spill(node->store, handle, layer, index);
    while (!tessi_store_next(node->store, &outcome)) {
        struct tessi_ready ready[4];
        assert_true(tessi_clock_now() < limit_ns);
        (void)tessi_poller_wait(node->poller, TESSI_NS_PER_MS, ready, 4);
    }
    assert_int_equal(outcome.status, TESSI_OK);
    assert_false(outcome.loaded);
    tessi_store_unalloc(node->store, handle);
    assert_null(tessi_store_block(node->store, handle, false));
}

static struct tessi_layer *layer_of(enum tessi_op op, int64_t bytes)
{
    struct tessi_layer *layer = tessi_layer_create(3, 4, op, TESSI_U8);
    struct tessi_shape shape = {.ndim = 1, .dim = {bytes}};
    tessi_grid_regular(&layer->grid, &shape, &bytes);
    return layer;
}

static void spilled_blocks_are_sent_from_their_file(void **state)
{
    (void)state;
    const uint64_t bytes = 3 * MIB + 7;
    struct pair pair = open_pair(false, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    struct tessi_layer *layer = layer_of(TESSI_OP_RECEIVE, (int64_t)bytes);
    (void)block_make(pair.owner, BLOCK_HANDLE, bytes, true);
    spill(pair.owner, BLOCK_HANDLE, layer, 0);
    assert_int_equal(tessi_store_gauges(pair.owner->store).file_bytes, bytes);
    pull_block(pair, tessi_store_block(pair.owner->store, BLOCK_HANDLE, true), bytes);
    tessi_layer_destroy(layer);
    close_pair(pair);
}

static void regenerable_blocks_are_made_again(void **state)
{
    (void)state;
    const uint64_t bytes = 2 * MIB + 7;
    struct pair pair = open_pair(false, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    struct tessi_layer *layer = layer_of(TESSI_OP_FULL, (int64_t)bytes);
    (void)block_make(pair.owner, BLOCK_HANDLE, bytes, true);
    spill(pair.owner, BLOCK_HANDLE, layer, 0);
    tessi_layer_destroy(layer); /* the store has its own */
    assert_int_equal(tessi_store_gauges(pair.owner->store).file_bytes, 0);
    struct tessi_block *to = block_make(pair.reader, BLOCK_HANDLE, bytes, false);
    tessi_peers_pull(pair.reader->peers, 2, task_of(1), to);
    (void)wait_event(pair.owner, pair.reader, TESSI_FLOW_PULL, 0);
    tessi_peers_block(pair.owner->peers, 1, task_of(1), tessi_store_block(pair.owner->store, BLOCK_HANDLE, true));
    (void)wait_event(pair.reader, pair.owner, TESSI_FLOW_DATA, 0);
    const uint8_t *data = tessi_block_data(to);
    assert_int_equal(data[0], 0);
    assert_int_equal(data[bytes - 1], 0);
    close_pair(pair);
}

static void neighbours_read_in_place(void **state)
{
    (void)state;
    const uint64_t bytes = 2 * MIB;
    struct pair pair = open_pair(true, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    assert_true(pair.reader->events[0].shares_memory);
    struct tessi_block *block = block_make(pair.owner, BLOCK_HANDLE, bytes, true);
    read_task(pair, 1, true);
    tessi_peers_lease(pair.owner->peers, 1, task_of(1), 9, block);
    size_t at = wait_event(pair.reader, pair.owner, TESSI_FLOW_READY_LEASE, 0);
    assert_int_equal(pair.reader->data[at].byte_count, bytes);
    const uint8_t *seen = pair.reader->data[at].bytes;
    assert_ptr_not_equal(seen, tessi_block_data(block)); /* another mapping of the same pages */
    void *mapping = tessi_peers_map(pair.reader->peers, 2);
    tessi_store_map(pair.reader->store, BLOCK_HANDLE, seen, bytes, tessi_peers_unmap, mapping);
    check_bytes(tessi_block_data(tessi_store_block(pair.reader->store, BLOCK_HANDLE, false)), bytes);

    tessi_peers_revoke(pair.owner->peers, 1, task_of(1));
    at = wait_event(pair.reader, pair.owner, TESSI_FLOW_REVOKE, 0);
    assert_int_equal(pair.reader->events[at].peer, 2);
    tessi_store_free(pair.reader->store, BLOCK_HANDLE);
    tessi_peers_release(pair.reader->peers, 2, task_of(1));
    at = wait_event(pair.owner, pair.reader, TESSI_FLOW_RELEASE, 0);
    assert_int_equal(pair.owner->events[at].peer, 1);
    close_pair(pair);
}

/* The mapping stays readable after its owner is gone, until the last handle is. */
static void mappings_outlive_their_owner(void **state)
{
    (void)state;
    const uint64_t bytes = 1 * MIB;
    struct pair pair = open_pair(true, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    struct tessi_block *block = block_make(pair.owner, BLOCK_HANDLE, bytes, true);
    read_task(pair, 1, true);
    tessi_peers_lease(pair.owner->peers, 1, task_of(1), 9, block);
    size_t at = wait_event(pair.reader, pair.owner, TESSI_FLOW_READY_LEASE, 0);
    const uint8_t *seen = pair.reader->data[at].bytes;
    tessi_store_map(pair.reader->store, BLOCK_HANDLE, seen, bytes, tessi_peers_unmap,
                    tessi_peers_map(pair.reader->peers, 2));
    node_close(pair.owner);
    tessi_peers_lost(pair.reader->peers, 2);
    node_turn(pair.reader);
    check_bytes(seen, bytes);
    tessi_store_free(pair.reader->store, BLOCK_HANDLE);
    node_close(pair.reader);
}

static void answers_without_bytes_arrive(void **state)
{
    (void)state;
    struct pair pair = open_pair(false, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    read_task(pair, 1, false);
    tessi_peers_moved(pair.owner->peers, 1, task_of(1), 77, 12);
    size_t at = wait_event(pair.reader, pair.owner, TESSI_FLOW_MOVED, 0);
    assert_int_equal(pair.reader->events[at].worker, 77);
    assert_int_equal(pair.reader->events[at].epoch, 12);
    tessi_peers_ask(pair.owner->peers, 1, task_of(1));
    (void)wait_event(pair.reader, pair.owner, TESSI_FLOW_ASK, at);
    /* Many reads are one message, and none is lost. */
    size_t from = pair.owner->event_count;
    for (uint64_t i = 0; i < 1000; i++) {
        tessi_peers_read(pair.reader->peers, 2, task_of(2 * i), 1, false);
    }
    while (pair.owner->event_count < from + 1000) {
        (void)wait_event(pair.owner, pair.reader, TESSI_FLOW_READ, pair.owner->event_count);
    }
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(pair.owner->events[from + i].task.index, 2 * i);
    }
    close_pair(pair);
}

static void a_dead_peer_is_lost_and_may_be_tried_again(void **state)
{
    (void)state;
    struct pair pair = open_pair(false, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    read_task(pair, 1, false);
    char address[128];
    (void)snprintf(address, sizeof address, "%s", tessi_peers_endpoint(pair.owner->peers));
    size_t from = pair.reader->event_count;
    node_close(pair.owner);
    size_t at = wait_event(pair.reader, NULL, TESSI_FLOW_PEER_LOST, from);
    (void)wait_event(pair.reader, NULL, TESSI_FLOW_PEER_UP, at);
    /* A worker with another id at the same address is not the one that was meant. */
    struct node *stranger = node_open(3, address);
    from = pair.reader->event_count;
    tessi_peers_read(pair.reader->peers, 2, task_of(1), 9, false);
    (void)wait_event(pair.reader, stranger, TESSI_FLOW_PEER_LOST, from);
    node_close(stranger);
    /* The one that was meant, back again: what is read of it now arrives. */
    struct node *again = node_open(2, address);
    tessi_peers_read(pair.reader->peers, 2, task_of(5), 9, false);
    (void)wait_event(again, pair.reader, TESSI_FLOW_READ, 0);
    node_close(again);
    node_close(pair.reader);
}

/* ——— a peer that is written by hand ——— */

struct hand {
    struct tessi_client *client;
};

static struct hand hand_open(const struct node *node)
{
    struct hand hand;
    struct tessi_net_options options = {.frame_bytes_max = 4 * MIB};
    assert_int_equal(tessi_client_connect(net, tessi_peers_endpoint(node->peers), &options, &hand.client, NULL),
                     TESSI_OK);
    return hand;
}

static void hand_send(struct hand *hand, const struct tessi_message *message, const void *payload, size_t size)
{
    struct tessi_buffer buffer = {0};
    struct tessi_frame frame = tessi_frame_copy(payload != NULL ? payload : "", size);
    assert_int_equal(tessi_message_pack(&buffer, message, NULL), TESSI_OK);
    enum tessi_status status =
        tessi_client_send(hand->client, buffer.data, buffer.size, &frame, payload != NULL ? 1 : 0);
    assert_true(status == TESSI_OK || status == TESSI_CLOSED);
    if (payload == NULL) {
        tessi_frame_release(&frame);
    }
    tessi_buffer_fini(&buffer);
}

static void hand_hello(struct hand *hand, uint32_t id, uint64_t run_id)
{
    struct tessi_message hello = {.type = TESSI_MSG_PEER_HELLO, .run_id = run_id};
    hello.as.peer_hello.id = id;
    hand_send(hand, &hello, NULL, 0);
}

/* The type of the next message that the node sends; its task for a PULL. */
static enum tessi_msg_type hand_receive(struct hand *hand, struct node *node, struct tessi_task *task)
{
    int64_t limit_ns = tessi_clock_now() + PATIENCE_NS;
    struct tessi_net_event event;
    for (;;) {
        assert_true(tessi_clock_now() < limit_ns);
        node_turn(node);
        if (tessi_client_receive(hand->client, &event) != TESSI_OK) {
            continue;
        }
        assert_int_equal(event.kind, TESSI_NET_MESSAGE);
        struct tessi_message message;
        assert_int_equal(tessi_message_unpack(event.frames[0].data, event.frames[0].size, &message, NULL), TESSI_OK);
        enum tessi_msg_type type = message.type;
        if (type == TESSI_MSG_PULL && task != NULL) {
            *task = message.as.pull.task;
        }
        tessi_message_fini(&message);
        tessi_net_event_clear(&event);
        return type;
    }
}

static void hand_block(struct hand *hand, uint64_t index, uint64_t offset, uint64_t total, const void *bytes,
                       size_t size)
{
    struct tessi_message message = {.type = TESSI_MSG_BLOCK, .run_id = RUN_ID};
    message.as.block.task = task_of(index);
    message.as.block.offset = offset;
    message.as.block.total = total;
    hand_send(hand, &message, bytes, size);
}

/* What we want of a client waits until the client connects. */
static void clients_are_pulled_from_when_they_come(void **state)
{
    (void)state;
    const uint64_t bytes = 3 * MIB / 2;
    struct node *node = node_open(1, "tcp://127.0.0.1:0");
    struct tessi_block *to = block_make(node, BLOCK_HANDLE, bytes, false);
    tessi_peers_pull(node->peers, 900, task_of(6), to);
    node_turn(node);
    struct hand hand = hand_open(node);
    hand_hello(&hand, 900, RUN_ID);
    struct tessi_task task = {0};
    assert_int_equal(hand_receive(&hand, node, NULL), TESSI_MSG_PEER_WELCOME);
    assert_int_equal(hand_receive(&hand, node, &task), TESSI_MSG_PULL);
    assert_int_equal(task.index, 6);
    (void)wait_event(node, NULL, TESSI_FLOW_PEER_UP, 0);
    uint8_t *data = tessi_alloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        data[i] = byte_at(i);
    }
    /* Pieces that nobody asked for, of another block or out of order, change nothing. */
    hand_block(&hand, 7, 0, bytes, data, MIB);
    hand_block(&hand, 6, MIB / 2, bytes, data, MIB);
    hand_block(&hand, 6, 0, bytes, data, MIB);
    hand_block(&hand, 6, MIB, bytes, data + MIB, bytes - MIB);
    size_t at = wait_event(node, NULL, TESSI_FLOW_DATA, 0);
    assert_int_equal(node->events[at].peer, 900);
    check_bytes(tessi_block_data(to), bytes);
    assert_int_equal(tessi_peers_gauges(node->peers).dropped_messages, 2);
    tessi_client_close(hand.client);
    (void)wait_event(node, NULL, TESSI_FLOW_PEER_LOST, at);
    tessi_free(data);
    node_close(node);
}

static void wrong_lengths_break_the_connection(void **state)
{
    (void)state;
    uint8_t bytes[1000] = {0};
    struct node *node = node_open(1, "tcp://127.0.0.1:0");
    struct tessi_block *to = block_make(node, BLOCK_HANDLE, 1000, false);
    for (int round = 0; round < 2; round++) {
        size_t from = node->event_count;
        struct hand hand = hand_open(node);
        hand_hello(&hand, 900, RUN_ID);
        assert_int_equal(hand_receive(&hand, node, NULL), TESSI_MSG_PEER_WELCOME);
        tessi_peers_pull(node->peers, 900, task_of(6), to);
        assert_int_equal(hand_receive(&hand, node, NULL), TESSI_MSG_PULL);
        hand_block(&hand, 6, 0, round == 0 ? 2000 : 1000, bytes, 500);
        hand_block(&hand, 6, 500, 1000, bytes, 501);
        (void)wait_event(node, NULL, TESSI_FLOW_PEER_LOST, from);
        tessi_client_close(hand.client);
    }
    for (size_t i = 0; i < node->event_count; i++) {
        assert_int_not_equal(node->events[i].kind, TESSI_FLOW_DATA);
    }
    node_close(node);
}

static void expect_rejected(struct node *node, const struct tessi_message *message, const void *raw, size_t size)
{
    struct hand hand = hand_open(node);
    if (message != NULL) {
        hand_send(&hand, message, NULL, 0);
    } else {
        assert_int_equal(tessi_client_send(hand.client, raw, size, NULL, 0), TESSI_OK);
    }
    assert_int_equal(hand_receive(&hand, node, NULL), TESSI_MSG_REJECT);
    tessi_client_close(hand.client);
}

static void garbage_is_refused_and_harms_nobody(void **state)
{
    (void)state;
    struct pair pair = open_pair(false, "tcp://127.0.0.1:0", "tcp://127.0.0.1:0");
    struct node *node = pair.owner;
    struct tessi_message hello = {.type = TESSI_MSG_PEER_HELLO, .run_id = RUN_ID + 1};
    hello.as.peer_hello.id = 900;
    expect_rejected(node, &hello, NULL, 0); /* another run */
    hello.run_id = RUN_ID;
    hello.as.peer_hello.id = 2; /* our own id */
    expect_rejected(node, &hello, NULL, 0);
    hello.as.peer_hello.id = 0;
    expect_rejected(node, &hello, NULL, 0);
    struct tessi_message pull = {.type = TESSI_MSG_PULL, .run_id = RUN_ID}; /* before a hello */
    expect_rejected(node, &pull, NULL, 0);
    expect_rejected(node, NULL, "\xdd\xff\xff\xff\xff", 5); /* an array of four thousand million */
    expect_rejected(node, NULL, "\0", 1);
    expect_rejected(node, NULL, "GET / HTTP/1.1\r\n\r\n", 18);

    /* After a hello: messages that mean nothing here are dropped, a READ of too much ends the connection. */
    struct hand hand = hand_open(node);
    hand_hello(&hand, 900, RUN_ID);
    assert_int_equal(hand_receive(&hand, node, NULL), TESSI_MSG_PEER_WELCOME);
    struct tessi_message bye = {.type = TESSI_MSG_BYE, .run_id = RUN_ID};
    hand_send(&hand, &bye, NULL, 0);
    struct tessi_message stale = {.type = TESSI_MSG_PULL, .run_id = RUN_ID - 1};
    hand_send(&hand, &stale, NULL, 0);
    struct tessi_message lease = {.type = TESSI_MSG_READY_LEASE, .run_id = RUN_ID}; /* of memory that we cannot map */
    hand_send(&hand, &lease, NULL, 0);
    size_t at = wait_event(node, NULL, TESSI_FLOW_PEER_LOST, 0);
    assert_int_equal(node->events[at].peer, 900);
    tessi_client_close(hand.client);

    hand = hand_open(node);
    hand_hello(&hand, 901, RUN_ID);
    assert_int_equal(hand_receive(&hand, node, NULL), TESSI_MSG_PEER_WELCOME);
    struct tessi_span span = {.session = 3, .layer = 4, .count = UINT64_C(1) << 40, .epoch = 1};
    struct tessi_message read = {.type = TESSI_MSG_READ, .run_id = RUN_ID};
    read.as.read.spans = tessi_spans_view(&span, 1);
    hand_send(&hand, &read, NULL, 0);
    at = wait_event(node, NULL, TESSI_FLOW_PEER_LOST, at + 1);
    assert_int_equal(node->events[at].peer, 901);
    tessi_client_close(hand.client);
    for (size_t i = 0; i < node->event_count; i++) {
        assert_true(node->events[i].kind == TESSI_FLOW_PEER_UP || node->events[i].kind == TESSI_FLOW_PEER_LOST);
    }
    assert_true(tessi_peers_gauges(node->peers).dropped_messages >= 9);

    /* The honest peer notices nothing. */
    struct tessi_block *block = block_make(node, BLOCK_HANDLE, 100, true);
    read_task(pair, 8, false);
    tessi_peers_inline(node->peers, 1, task_of(8), 9, block);
    (void)wait_event(pair.reader, node, TESSI_FLOW_READY_INLINE, 0);
    check_bytes(pair.reader->inline_bytes, 100);
    close_pair(pair);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(spill_dir, sizeof spill_dir, "/tmp/tessera-test-XXXXXX");
    if (mkdtemp(spill_dir) == NULL) {
        return -1;
    }
    return tessi_net_create(NULL, &net, NULL) == TESSI_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    tessi_net_destroy(net);
    return rmdir(spill_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_blocks_travel_inside_the_answer),
        cmocka_unit_test(large_blocks_come_in_pieces),
        cmocka_unit_test(blocks_outlive_their_handles_while_they_are_sent),
        cmocka_unit_test(spilled_blocks_are_sent_from_their_file),
        cmocka_unit_test(regenerable_blocks_are_made_again),
        cmocka_unit_test(neighbours_read_in_place),
        cmocka_unit_test(mappings_outlive_their_owner),
        cmocka_unit_test(answers_without_bytes_arrive),
        cmocka_unit_test(a_dead_peer_is_lost_and_may_be_tried_again),
        cmocka_unit_test(clients_are_pulled_from_when_they_come),
        cmocka_unit_test(wrong_lengths_break_the_connection),
        cmocka_unit_test(garbage_is_refused_and_harms_nobody),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
