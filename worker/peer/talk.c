/* Messages to and from peers. */
#include <inttypes.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/log.h"
#include "worker/peer/internal.h"

enum {
    READ_SPANS_MAX = 8192,    /* of one READ that we send */
    READ_TASKS_MAX = 1 << 20, /* of one READ that we take */
    LINE_SPANS_MAX = 256,     /* of one READ over a line: what is larger would overtake by another way */
};

/* ——— sending ——— */

static enum tessi_status send_by_socket(struct peer *peer, bool own, const void *header, size_t size,
                                        struct tessi_frame *payload)
{
    bool has_payload = payload != NULL && (payload->data != NULL || payload->release != NULL);
    uint32_t frames = has_payload ? 1 : 0;
    if (own) {
        return tessi_client_send(peer->out, header, size, payload, frames);
    }
    return tessi_server_send(peer->peers->server, peer->in, header, size, payload, frames);
}

static struct tessi_line *line_of(const struct peer *peer, bool own)
{
    struct tessi_line *line = own ? peer->out_line : peer->in_line;
    return line != NULL && !tessi_line_broken(line) ? line : NULL;
}

static enum tessi_status send_by_line(struct peer *peer, struct tessi_line *line,
                                      const struct tessi_line_message *message, struct tessi_frame *payload)
{
    if (!tessi_line_send(line, message)) {
        if (!tessi_line_broken(line)) {
            return TESSI_BUSY;
        }
        tessi_peer_break(peer, "the line to it is broken");
    }
    if (payload != NULL) {
        tessi_frame_release(payload);
    }
    return TESSI_OK;
}

/* BUSY leaves the payload with the caller; otherwise it is gone. Small messages go by a line if there is one; larger
 * ones are those whose order with others does not matter: bytes that were asked for. */
static enum tessi_status send_now(struct peer *peer, bool own, const void *header, size_t size,
                                  struct tessi_frame *payload)
{
    bool has_payload = payload != NULL && (payload->data != NULL || payload->release != NULL);
    struct tessi_line *line = line_of(peer, own);
    if (line != NULL && size <= TESSI_LINE_HEADER_MAX && (!has_payload || payload->size <= TESSI_LINE_PAYLOAD_MAX)) {
        struct tessi_line_message message = {header, has_payload ? payload->data : NULL, size,
                                           has_payload ? payload->size : 0};
        return send_by_line(peer, line, &message, payload);
    }
    return send_by_socket(peer, own, header, size, payload);
}

/* Until the welcome nobody knows whether the line is there: what is said waits, so that nothing overtakes it. */
static bool can_send(const struct peer *peer, bool own)
{
    return own ? peer->out != NULL && (peer->out_line == NULL || peer->out_welcomed) : peer->in != 0;
}

static struct tessi_send_queue *waiting_of(struct peer *peer, bool own)
{
    return own ? &peer->out_waiting : &peer->in_waiting;
}

struct way { /* a connection to a peer */
    struct peer *peer;
    bool own;
};

static enum tessi_status send_waiting(void *context, const void *header, size_t size, struct tessi_frame *frames,
                                      uint32_t frame_count)
{
    const struct way *way = context;
    if (!can_send(way->peer, way->own)) {
        return TESSI_BUSY;
    }
    enum tessi_status status = send_now(way->peer, way->own, header, size, frame_count > 0 ? frames : NULL);
    return status == TESSI_BUSY ? status : TESSI_OK; /* that the connection has ended is told by itself */
}

/* True: nothing waits. */
static bool flush(struct peer *peer, bool own)
{
    struct way way = {peer, own};
    return tessi_send_queue_flush(waiting_of(peer, own), send_waiting, &way) == TESSI_OK;
}

/* Takes the payload (NULL: none). */
static void wait_for_room(struct peer *peer, bool own, const struct tessi_buffer *packed, struct tessi_frame *payload)
{
    struct tessi_send_queue *waiting = waiting_of(peer, own);
    if (waiting->count >= PEER_WAITING_MAX) {
        if (payload != NULL) {
            tessi_frame_release(payload);
        }
        peer->peers->gauges.dropped_messages++;
        tessi_peer_break(peer, "too many messages wait for it");
        return;
    }
    bool has_payload = payload != NULL && (payload->data != NULL || payload->release != NULL);
    tessi_send_queue_add(waiting, packed->data, packed->size, payload, has_payload ? 1 : 0);
}

static const struct tessi_buffer *pack(struct tessi_peers *peers, const struct tessi_message *message)
{
    tessi_buffer_clear(&peers->buffer);
    /* Nothing that is said between peers comes near the limit. */
    enum tessi_status status = tessi_message_pack(&peers->buffer, message, NULL);
    TESS_ASSERT(status == TESSI_OK);
    return &peers->buffer;
}

static void send_or_keep(struct peer *peer, bool own, const struct tessi_message *message, struct tessi_frame *payload)
{
    const struct tessi_buffer *packed = pack(peer->peers, message);
    if (waiting_of(peer, own)->first == NULL && can_send(peer, own) &&
        send_now(peer, own, packed->data, packed->size, payload) != TESSI_BUSY) {
        return;
    }
    wait_for_room(peer, own, packed, payload);
    if (own && peer->out == NULL) {
        (void)tessi_peer_connect(peer);
    }
}

void tessi_peer_ask(struct peer *peer, const struct tessi_message *message)
{
    send_or_keep(peer, peer->announced, message, NULL);
}

void tessi_peer_answer(struct peer *peer, const struct tessi_message *message, struct tessi_frame *payload)
{
    if (peer->in != 0 || peer->out != NULL) {
        send_or_keep(peer, peer->in == 0, message, payload);
    } else if (payload != NULL) {
        tessi_frame_release(payload);
    }
}

bool tessi_peer_try_answer(struct peer *peer, const struct tessi_message *message, struct tessi_frame *payload)
{
    bool own = peer->in == 0;
    if (!can_send(peer, own)) {
        tessi_frame_release(payload);
        return true;
    }
    if (!flush(peer, own)) {
        return false;
    }
    /* Pieces of a block stay in order: all go by the socket. */
    const struct tessi_buffer *packed = pack(peer->peers, message);
    return send_by_socket(peer, own, packed->data, packed->size, payload) != TESSI_BUSY;
}

void tessi_peer_say_hello(struct peer *peer)
{
    struct tessi_message message = {.type = TESSI_MSG_PEER_HELLO, .run_id = peer->peers->run_id};
    message.as.peer_hello.id = peer->peers->self;
    message.as.peer_hello.nonce = peer->peers->nonce;
    const struct tessi_buffer *packed = pack(peer->peers, &message);
    /* The first message of a connection always finds room. */
    (void)send_by_socket(peer, true, packed->data, packed->size, NULL);
}

static void flush_reads(struct peer *peer, bool lease)
{
    struct tessi_spans *spans = &peer->reads[lease];
    size_t most = peer->out_line != NULL || peer->neighbour != NULL ? LINE_SPANS_MAX : READ_SPANS_MAX;
    for (size_t at = 0; at < spans->count; at += most) {
        size_t count = spans->count - at < most ? spans->count - at : most;
        struct tessi_message message = {.type = TESSI_MSG_READ, .run_id = peer->peers->run_id};
        message.as.read.spans = tessi_spans_view(spans->items + at, count);
        message.as.read.lease = lease;
        tessi_peer_ask(peer, &message);
    }
    spans->count = 0;
}

void tessi_peer_flush(struct peer *peer)
{
    flush_reads(peer, false);
    flush_reads(peer, true);
    (void)flush(peer, true);
    (void)flush(peer, false);
    tessi_peer_pump(peer);
}

/* ——— receiving ——— */

static void emit(struct peer *peer, struct tessi_flow_event event, struct tessi_peer_data data)
{
    struct tessi_peers *peers = peer->peers;
    event.peer = peer->id;
    peers->config.event(peers->config.context, &event, &data);
}

static void take_read(struct peer *peer, const struct tessi_msg_read *read)
{
    uint64_t tasks = 0;
    for (size_t i = 0; i < read->spans.count; i++) {
        const struct tessi_span *span = &read->spans.items[i];
        if (span->count > READ_TASKS_MAX || (tasks += span->count) > READ_TASKS_MAX) {
            tessi_peer_break(peer, "it asks for more blocks than one message may");
            return;
        }
    }
    bool lease = read->lease && peer->peers->share != NULL;
    for (size_t i = 0; i < read->spans.count; i++) {
        const struct tessi_span *span = &read->spans.items[i];
        for (uint64_t k = 0; k < span->count; k++) {
            struct tessi_task task = {span->session, span->layer, span->first + k};
            emit(peer,
                 (struct tessi_flow_event){.kind = TESSI_FLOW_READ, .task = task, .epoch = span->epoch, .lease = lease},
                 (struct tessi_peer_data){0});
        }
    }
}

static void take_inline(struct peer *peer, const struct tessi_msg_ready_inline *ready,
                        const struct tessi_frame *payload, uint32_t payload_count)
{
    if (payload_count != 1) {
        tessi_peer_break(peer, "it sends a block without its bytes");
        return;
    }
    emit(peer, (struct tessi_flow_event){.kind = TESSI_FLOW_READY_INLINE, .task = ready->task, .epoch = ready->epoch},
         (struct tessi_peer_data){.bytes = payload->data, .byte_count = payload->size});
}

static void take_lease(struct peer *peer, const struct tessi_msg_ready_lease *ready)
{
    const void *bytes = NULL;
    if (peer->neighbour != NULL) {
        bytes = tessi_mapping_at(peer->neighbour->mapping, ready->offset, ready->bytes);
    }
    if (bytes == NULL || ready->offset % TESSI_BLOCK_ALIGNMENT != 0) {
        tessi_peer_break(peer, "it lends memory that it does not have");
        return;
    }
    emit(peer, (struct tessi_flow_event){.kind = TESSI_FLOW_READY_LEASE, .task = ready->task, .epoch = ready->epoch},
         (struct tessi_peer_data){.bytes = bytes, .byte_count = ready->bytes});
}

static void take_plain(struct peer *peer, enum tessi_flow_event_kind kind, struct tessi_task task)
{
    emit(peer, (struct tessi_flow_event){.kind = kind, .task = task}, (struct tessi_peer_data){0});
}

void tessi_peer_take(struct peer *peer, struct tessi_message *message, struct tessi_frame *payload,
                     uint32_t payload_count)
{
    enum tessi_msg_type type = message->type;
    if (type == TESSI_MSG_READ) {
        take_read(peer, &message->as.read);
    } else if (type == TESSI_MSG_READY_INLINE) {
        take_inline(peer, &message->as.ready_inline, payload, payload_count);
    } else if (type == TESSI_MSG_READY_LEASE) {
        take_lease(peer, &message->as.ready_lease);
    } else if (type == TESSI_MSG_READY_OFFER) {
        take_plain(peer, TESSI_FLOW_READY_OFFER, message->as.ready_offer.task);
    } else if (type == TESSI_MSG_PULL) {
        take_plain(peer, TESSI_FLOW_PULL, message->as.pull.task);
    } else if (type == TESSI_MSG_BLOCK) {
        tessi_peer_pull_piece(peer, &message->as.block, payload, payload_count);
    } else if (type == TESSI_MSG_MOVED) {
        const struct tessi_msg_moved *moved = &message->as.moved;
        tessi_peer_pull_refused(peer, moved->task);
        emit(peer,
             (struct tessi_flow_event){
                 .kind = TESSI_FLOW_MOVED, .task = moved->task, .worker = moved->worker, .epoch = moved->epoch},
             (struct tessi_peer_data){0});
    } else if (type == TESSI_MSG_ASK) {
        tessi_peer_pull_refused(peer, message->as.ask.task);
        take_plain(peer, TESSI_FLOW_ASK, message->as.ask.task);
    } else if (type == TESSI_MSG_PEER_RELEASE) {
        take_plain(peer, TESSI_FLOW_RELEASE, message->as.peer_release.task);
    } else if (type == TESSI_MSG_REVOKE) {
        take_plain(peer, TESSI_FLOW_REVOKE, message->as.revoke.task);
    } else {
        peer->peers->gauges.dropped_messages++;
    }
}

static bool hear_message(struct peer *peer, const struct tessi_line_message *received)
{
    struct tessi_message message;
    struct tessi_error error;
    struct tessi_frame payload = {.data = (void *)(uintptr_t)received->payload, .size = received->payload_size};
    if (tessi_message_unpack(received->header, received->header_size, &message, &error) != TESSI_OK) {
        peer->peers->gauges.dropped_messages++;
        tessi_peer_break(peer, error.text);
        return false;
    }
    /* The bytes of one are gone with the next one; whoever takes BLOCK wants to keep them. */
    if (message.run_id != peer->peers->run_id || message.type == TESSI_MSG_BLOCK) {
        peer->peers->gauges.dropped_messages++;
    } else {
        tessi_peer_take(peer, &message, &payload, received->payload != NULL ? 1 : 0);
    }
    tessi_message_fini(&message);
    return true;
}

bool tessi_peer_hear(struct peer *peer, bool own)
{
    struct tessi_line_message received;
    struct tessi_line *line;
    bool heard = false;
    /* The line may go with what is heard. */
    while ((line = own ? peer->out_line : peer->in_line) != NULL && !peer->lost && !peer->broken &&
           (!own || peer->out_welcomed) && tessi_line_receive(line, &received)) {
        heard = true;
        if (!hear_message(peer, &received)) {
            break;
        }
    }
    line = own ? peer->out_line : peer->in_line;
    if (line != NULL && tessi_line_broken(line)) {
        tessi_peer_break(peer, "the line to it is broken");
    }
    return heard;
}
