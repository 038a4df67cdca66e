/* Blocks on their way out. Bytes that ZeroMQ holds are bounded for each peer: its queues count messages, and
 * a peer that reads slowly must not make us keep every block it ever asked for. */
#include <pthread.h>

#include "core/base/alloc.h"
#include "core/base/log.h"
#include "worker/peer/internal.h"

enum { CREDIT_BYTES = 8 << 20 };

struct peer_credit {
    atomic_uint refs; /* the peer's, and one for each piece that ZeroMQ holds */
    atomic_ullong bytes;
    atomic_bool wanted; /* the peer waits for room */
    pthread_mutex_t mutex;
    struct tessi_poller *poller; /* NULL once the peer is gone */
};

struct piece { /* hint of a payload frame */
    struct peer_credit *credit;
    struct tessi_block *block;
    uint64_t bytes;
};

struct outgoing {
    struct outgoing *next;
    struct peer *peer; /* NULL: given up while it reads a file */
    struct tessi_task task;
    uint32_t epoch;
    bool whole; /* READY_INLINE instead of pieces */
    bool reading;
    struct tessi_block *block;
    uint64_t offset;
    struct tessi_block *read; /* what was read of a spilled block */
    uint64_t read_offset;
};

/* ——— credit ——— */

struct peer_credit *tessi_peer_credit_create(struct tessi_poller *poller)
{
    struct peer_credit *credit = tessi_zalloc(sizeof *credit);
    atomic_init(&credit->refs, 1);
    (void)pthread_mutex_init(&credit->mutex, NULL);
    credit->poller = poller;
    return credit;
}

bool tessi_peer_credit_idle(const struct peer_credit *credit)
{
    return atomic_load(&credit->bytes) == 0;
}

static void credit_unref(struct peer_credit *credit)
{
    if (atomic_fetch_sub(&credit->refs, 1) == 1) {
        (void)pthread_mutex_destroy(&credit->mutex);
        tessi_free(credit);
    }
}

void tessi_peer_credit_end(struct peer_credit *credit)
{
    (void)pthread_mutex_lock(&credit->mutex);
    credit->poller = NULL;
    (void)pthread_mutex_unlock(&credit->mutex);
    credit_unref(credit);
}

/* ZeroMQ has no more use for a piece; on one of its threads. */
static void piece_release(void *data, void *hint)
{
    (void)data;
    struct piece *piece = hint;
    struct peer_credit *credit = piece->credit;
    uint64_t before = atomic_fetch_sub(&credit->bytes, piece->bytes);
    if (before - piece->bytes <= CREDIT_BYTES / 2 && atomic_exchange(&credit->wanted, false)) {
        (void)pthread_mutex_lock(&credit->mutex);
        if (credit->poller != NULL) {
            tessi_poller_wake(credit->poller);
        }
        (void)pthread_mutex_unlock(&credit->mutex);
    }
    tessi_block_unref(piece->block);
    credit_unref(credit);
    tessi_free(piece);
}

static struct tessi_frame piece_frame(struct peer_credit *credit, struct tessi_block *block, uint64_t offset,
                                      uint64_t bytes)
{
    struct piece *piece = tessi_alloc(sizeof *piece);
    *piece = (struct piece){credit, tessi_block_ref(block), bytes};
    (void)atomic_fetch_add(&credit->refs, 1);
    (void)atomic_fetch_add(&credit->bytes, bytes);
    return tessi_frame_wrap((uint8_t *)tessi_block_data(block) + offset, (size_t)bytes, piece_release, piece);
}

/* False when the peer has to wait; it will be woken then. */
static bool credit_left(struct peer_credit *credit)
{
    if (atomic_load(&credit->bytes) < CREDIT_BYTES) {
        return true;
    }
    atomic_store(&credit->wanted, true);
    /* The last release may have come between the two looks, and found nobody waiting. */
    return atomic_load(&credit->bytes) <= CREDIT_BYTES / 2;
}

/* ——— outgoing blocks ——— */

static void outgoing_end(struct outgoing *outgoing)
{
    if (outgoing->read != NULL) {
        tessi_block_unref(outgoing->read);
    }
    tessi_block_unref(outgoing->block);
    tessi_free(outgoing);
}

static void pop(struct peer *peer)
{
    struct outgoing *outgoing = peer->sending;
    peer->sending = outgoing->next;
    if (peer->sending == NULL) {
        peer->sending_last = &peer->sending;
    }
    outgoing_end(outgoing);
}

static void piece_read(void *context, struct tessi_block *piece, enum tessi_status status,
                       const struct tessi_error *error)
{
    struct outgoing *outgoing = context;
    struct peer *peer = outgoing->peer;
    outgoing->reading = false;
    outgoing->read = piece;
    outgoing->read_offset = outgoing->offset;
    if (peer == NULL) {
        outgoing_end(outgoing);
        return;
    }
    if (status != TESSI_OK) {
        struct tessi_peers *peers = peer->peers;
        struct tessi_task task = outgoing->task;
        pop(peer); /* only the first one reads */
        tessi_peers_ask(peers, peer->id, task);
        peers->config.unreadable(peers->config.context, task, error->text);
        return;
    }
    tessi_peer_touch(peer);
}

/* Where the next bytes to send are; NULL while they are being read. */
static struct tessi_block *bytes_at(struct outgoing *outgoing, uint64_t *offset, uint64_t *bytes)
{
    uint64_t total = tessi_block_bytes(outgoing->block);
    *bytes = total - outgoing->offset < TESSI_PIECE_BYTES ? total - outgoing->offset : TESSI_PIECE_BYTES;
    *offset = outgoing->offset;
    if (tessi_block_data(outgoing->block) != NULL) {
        return outgoing->block;
    }
    if (outgoing->read != NULL) {
        bool is_whole = tessi_block_bytes(outgoing->read) == total;
        if (is_whole || outgoing->read_offset == outgoing->offset) {
            *offset = is_whole ? outgoing->offset : 0;
            return outgoing->read;
        }
        tessi_block_unref(outgoing->read);
        outgoing->read = NULL;
    }
    if (!outgoing->reading) {
        outgoing->reading = true;
        tessi_store_read(outgoing->peer->peers->config.store, outgoing->block, outgoing->offset, piece_read, outgoing);
    }
    return NULL;
}

/* Send one piece of the first outgoing block; false when that has to wait. */
static bool pump_piece(struct peer *peer)
{
    struct outgoing *outgoing = peer->sending;
    uint64_t offset, bytes;
    if (!credit_left(peer->credit)) {
        return false;
    }
    struct tessi_block *block = bytes_at(outgoing, &offset, &bytes);
    if (block == NULL) {
        return false;
    }
    struct tessi_message message = {.run_id = peer->peers->run_id};
    if (outgoing->whole) {
        message.type = TESSI_MSG_READY_INLINE;
        message.as.ready_inline.task = outgoing->task;
        message.as.ready_inline.epoch = outgoing->epoch;
    } else {
        message.type = TESSI_MSG_BLOCK;
        message.as.block.task = outgoing->task;
        message.as.block.offset = outgoing->offset;
        message.as.block.total = tessi_block_bytes(outgoing->block);
    }
    struct tessi_frame frame = piece_frame(peer->credit, block, offset, bytes);
    if (!tessi_peer_try_answer(peer, &message, &frame)) {
        tessi_frame_release(&frame);
        return false;
    }
    peer->peers->gauges.sent_bytes += bytes;
    outgoing->offset += bytes;
    if (outgoing->offset == tessi_block_bytes(outgoing->block)) {
        pop(peer);
    }
    return true;
}

void tessi_peer_pump(struct peer *peer)
{
    while (peer->sending != NULL && pump_piece(peer)) {
    }
}

void tessi_peer_send_block(struct peer *peer, struct tessi_task task, uint32_t epoch, struct tessi_block *block,
                           bool whole)
{
    struct outgoing *outgoing = tessi_zalloc(sizeof *outgoing);
    outgoing->peer = peer;
    outgoing->task = task;
    outgoing->epoch = epoch;
    outgoing->whole = whole;
    outgoing->block = tessi_block_ref(block);
    *peer->sending_last = outgoing;
    peer->sending_last = &outgoing->next;
    tessi_peer_touch(peer);
}

void tessi_peer_send_cancel(struct peer *peer)
{
    for (struct outgoing *outgoing = peer->sending, *next; outgoing != NULL; outgoing = next) {
        next = outgoing->next;
        if (outgoing->reading) {
            outgoing->peer = NULL;
        } else {
            outgoing_end(outgoing);
        }
    }
    peer->sending = NULL;
    peer->sending_last = &peer->sending;
}
