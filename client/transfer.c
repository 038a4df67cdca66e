/* Fetching the blocks of a layer that is complete or on its way: LOCATE, READ at the owner, PULL what it offers, take
 * the pieces.
 *
 * A window of blocks is under way at a time, and so many bytes of pulled ones at most, so that neither the
 * workers' queues nor ours fill up with what the caller's disk or memory cannot take yet.
 *
 *      LOCATING ──location──▶ LOCATED ──READ──▶ READING ──inline──▶ (done)
 *         ▲                      ▲                 │ └──offer──▶ OFFERED ──PULL──▶ PULLING ──pieces──▶ (done)
 *         └── ask, peer gone ────┴──── moved ──────┘
 *
 * Blocks of a layer that was submitted with `push` come by themselves from workers that we are connected to: nobody is
 * asked for them (PUSHED) unless the layer is done and they are still not here. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/link_io.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"

#define WINDOW 1024u                    /* blocks under way */
#define PULL_BYTES (UINT64_C(64) << 20) /* pulled and not yet here, but at least one block */
#define PUSH_NS (2 * TESSI_NS_PER_MS)   /* after the layer is done, until what was not pushed is asked for */

enum slot_state { SLOT_FREE, SLOT_PUSHED, SLOT_LOCATING, SLOT_LOCATED, SLOT_READING, SLOT_OFFERED, SLOT_PULLING };

struct slot {
    enum slot_state state;
    uint64_t index;
    uint32_t worker, epoch;
    uint64_t received;
};

struct tessi_transfer {
    uint32_t session, layer;
    struct tessi_grid grid; /* owned */
    size_t element_bytes;
    tessi_piece_fn *piece;
    void *context;
    bool pushed;     /* blocks come by themselves */
    int64_t done_ns; /* when the layer was found to be done; 0: it was not */
    uint64_t blocks;
    uint64_t next;      /* the first block that is not under way yet */
    uint64_t remaining; /* blocks not taken yet */
    uint64_t pulled_bytes;
    uint32_t under_way;
    struct slot slots[WINDOW];
    struct tessi_map by_index; /* block → slot */
    struct tessi_error error;
};

struct tessi_transfer *tessi_transfer_create(uint32_t session, uint32_t layer, const struct tessi_grid *grid,
                                             size_t element_bytes, bool pushed, tessi_piece_fn *piece,
                                             void *context)
{
    struct tessi_transfer *transfer = tessi_zalloc(sizeof *transfer);
    transfer->session = session;
    transfer->layer = layer;
    tessi_grid_copy(&transfer->grid, grid);
    transfer->element_bytes = element_bytes;
    transfer->pushed = pushed;
    transfer->piece = piece;
    transfer->context = context;
    transfer->blocks = tessi_grid_blocks(grid);
    transfer->remaining = transfer->blocks;
    tessi_map_init(&transfer->by_index);
    return transfer;
}

void tessi_transfer_destroy(struct tessi_transfer *transfer)
{
    tessi_grid_fini(&transfer->grid);
    tessi_map_fini(&transfer->by_index);
    tessi_free(transfer);
}

void tessi_transfer_fail(struct tessi_transfer *transfer, enum tessi_status status, const char *text)
{
    if (transfer->error.status == TESSI_OK) {
        tessi_fail(&transfer->error, status, "%s", text);
    }
}

void tessi_transfer_layer_failed(struct tessi_link *link, uint32_t layer, enum tessi_status status, const char *text)
{
    if (link->transfer != NULL && link->transfer->layer == layer) {
        tessi_transfer_fail(link->transfer, status, text[0] != 0 ? text : tessi_status_text(status));
    }
}

bool tessi_transfer_finished(const struct tessi_transfer *transfer, struct tessi_error *error)
{
    if (transfer->error.status != TESSI_OK) {
        *error = transfer->error;
        return true;
    }
    return transfer->remaining == 0;
}

static uint64_t block_bytes(const struct tessi_transfer *transfer, uint64_t index)
{
    return tessi_grid_block_elements(&transfer->grid, index) * transfer->element_bytes;
}

static struct slot *find_slot(struct tessi_transfer *transfer, uint64_t index)
{
    uint32_t position = tessi_map_get(&transfer->by_index, (struct tessi_map_key){0, index});
    return position == TESSI_MAP_NONE ? NULL : &transfer->slots[position];
}

static struct tessi_span span_of(const struct tessi_transfer *transfer, const struct slot *slot)
{
    return (struct tessi_span){.session = transfer->session,
                               .layer = transfer->layer,
                               .first = slot->index,
                               .count = 1,
                               .epoch = slot->epoch,
                               .worker = slot->worker};
}

/* Stop what the slot does and ask the scheduler where the block is. */
static void locate_again(struct tessi_link *link, struct tessi_transfer *transfer, struct slot *slot)
{
    if (slot->state == SLOT_PULLING) {
        transfer->pulled_bytes -= block_bytes(transfer, slot->index);
    }
    slot->state = SLOT_LOCATING;
    slot->received = 0;
    struct tessi_message message = {.type = TESSI_MSG_LOCATE, .run_id = link->run_id};
    struct tessi_span span = span_of(transfer, slot);
    message.as.locate.spans = tessi_spans_view(&span, 1);
    tessi_link_post(link, &message);
}

/* Bring more blocks under way, in one LOCATE for all of them. */
static void begin_blocks(struct tessi_link *link, struct tessi_transfer *transfer)
{
    if (transfer->next == transfer->blocks || transfer->under_way > WINDOW / 2) {
        return;
    }
    struct tessi_span span = {.session = transfer->session, .layer = transfer->layer, .first = transfer->next};
    for (uint32_t s = 0; s < WINDOW && transfer->next < transfer->blocks; s++) {
        struct slot *slot = &transfer->slots[s];
        if (slot->state == SLOT_FREE) {
            *slot = (struct slot){.state = transfer->pushed ? SLOT_PUSHED : SLOT_LOCATING, .index = transfer->next++};
            tessi_map_put(&transfer->by_index, (struct tessi_map_key){0, slot->index}, s);
            transfer->under_way++;
            span.count++;
        }
    }
    if (!transfer->pushed) {
        struct tessi_message message = {.type = TESSI_MSG_LOCATE, .run_id = link->run_id};
        message.as.locate.spans = tessi_spans_view(&span, 1);
        tessi_link_post(link, &message);
    }
}

/* A worker whose connection to us is not there could not send what it made, and what came before the transfer began was not
 * for anybody. */
static void watch_pushes(struct tessi_link *link, struct tessi_transfer *transfer, int64_t now_ns)
{
    if (transfer->next == 0) {
        transfer->pushed = tessi_remotes_welcomed(link) && !tessi_link_layer_complete(link, transfer->layer);
    } else if (transfer->done_ns == 0) {
        transfer->done_ns = tessi_link_layer_complete(link, transfer->layer) ? now_ns : 0;
    } else if (now_ns - transfer->done_ns >= PUSH_NS) {
        transfer->pushed = false;
        for (uint32_t s = 0; s < WINDOW; s++) {
            if (transfer->slots[s].state == SLOT_PUSHED) {
                locate_again(link, transfer, &transfer->slots[s]);
            }
        }
    }
}

int64_t tessi_transfer_deadline(const struct tessi_transfer *transfer)
{
    return transfer->pushed && transfer->done_ns != 0 ? transfer->done_ns + PUSH_NS : INT64_MAX;
}

/* READ all that is known to lie at one worker with one message. */
static void read_from(struct tessi_link *link, struct tessi_transfer *transfer, struct tessi_remote *peer)
{
    struct tessi_spans spans = {0};
    for (uint32_t s = 0; s < WINDOW; s++) {
        struct slot *slot = &transfer->slots[s];
        if (slot->state == SLOT_LOCATED && slot->worker == peer->id) {
            slot->state = SLOT_READING;
            tessi_spans_push(&spans, span_of(transfer, slot));
        }
    }
    struct tessi_message message = {.type = TESSI_MSG_READ, .run_id = link->run_id};
    message.as.read.spans = spans;
    tessi_remote_send(peer, &message);
    tessi_spans_fini(&spans);
}

static bool may_pull(const struct tessi_transfer *transfer, uint64_t bytes)
{
    return transfer->pulled_bytes == 0 || transfer->pulled_bytes + bytes <= PULL_BYTES;
}

static void pull(struct tessi_link *link, struct tessi_transfer *transfer, struct slot *slot, struct tessi_remote *peer)
{
    slot->state = SLOT_PULLING;
    slot->received = 0;
    transfer->pulled_bytes += block_bytes(transfer, slot->index);
    struct tessi_message message = {.type = TESSI_MSG_PULL, .run_id = link->run_id};
    message.as.pull.task = (struct tessi_task){transfer->session, transfer->layer, slot->index};
    tessi_remote_send(peer, &message);
}

void tessi_transfer_pump(struct tessi_link *link, int64_t now_ns)
{
    struct tessi_transfer *transfer = link->transfer;
    struct tessi_error failure = {0};
    /* Nobody answers for blocks of a layer that was refused or has failed. */
    if (tessi_link_layer_failure(link, transfer->layer, &failure) != TESSI_OK) {
        tessi_transfer_fail(transfer, failure.status, failure.text);
        return;
    }
    if (transfer->pushed) {
        watch_pushes(link, transfer, now_ns);
    }
    begin_blocks(link, transfer);
    for (uint32_t s = 0; s < WINDOW && transfer->under_way > 0; s++) {
        struct slot *slot = &transfer->slots[s];
        if (slot->state != SLOT_LOCATED && slot->state != SLOT_OFFERED) {
            continue;
        }
        struct tessi_remote *peer = tessi_remote_find(link, slot->worker);
        if (peer == NULL) {
            if (slot->state == SLOT_OFFERED) {
                locate_again(link, transfer, slot);
            }
            continue; /* the scheduler's word about this worker is on its way */
        }
        if (!tessi_remote_ready(peer, now_ns)) {
            continue;
        }
        if (slot->state == SLOT_LOCATED) {
            read_from(link, transfer, peer);
        } else if (may_pull(transfer, block_bytes(transfer, slot->index))) {
            pull(link, transfer, slot, peer);
        }
    }
}

void tessi_transfer_location(struct tessi_link *link, const struct tessi_spans *spans)
{
    struct tessi_transfer *transfer = link->transfer;
    for (size_t i = 0; i < spans->count; i++) {
        const struct tessi_span *span = &spans->items[i];
        if (span->session != transfer->session || span->layer != transfer->layer) {
            continue;
        }
        for (uint32_t s = 0; s < WINDOW; s++) {
            struct slot *slot = &transfer->slots[s];
            if (slot->state != SLOT_LOCATING || slot->index < span->first || slot->index - span->first >= span->count) {
                continue;
            }
            if (span->worker == 0) {
                struct tessi_error error = {0};
                if (tessi_link_layer_failure(link, transfer->layer, &error) == TESSI_OK) {
                    tessi_fail(&error, TESSI_LOST,
                               "block %" PRIu64 " of the result was cancelled or is lost: compute "
                               "it again",
                               slot->index);
                }
                tessi_transfer_fail(transfer, error.status, error.text);
                return;
            }
            slot->state = SLOT_LOCATED;
            slot->worker = span->worker;
            slot->epoch = span->epoch;
        }
    }
}

static void finish_slot(struct tessi_transfer *transfer, struct slot *slot)
{
    if (slot->state == SLOT_PULLING) {
        transfer->pulled_bytes -= block_bytes(transfer, slot->index);
    }
    tessi_map_remove(&transfer->by_index, (struct tessi_map_key){0, slot->index});
    *slot = (struct slot){0};
    transfer->under_way--;
    transfer->remaining--;
}

/* Bytes of the block from `offset` on. */
static void take(struct tessi_transfer *transfer, struct slot *slot, uint64_t offset, const struct tessi_frame *payload,
                 uint32_t payload_count)
{
    uint64_t total = block_bytes(transfer, slot->index);
    for (uint32_t i = 0; i < payload_count; i++) {
        if (payload[i].size > total - slot->received || offset > total - payload[i].size) {
            tessi_transfer_fail(transfer, TESSI_PROTOCOL, "a worker sent more bytes of a block than it has");
            return;
        }
        struct tessi_error error = {0};
        enum tessi_status status =
            transfer->piece(transfer->context, slot->index, offset, payload[i].data, payload[i].size, &error);
        if (status != TESSI_OK) {
            tessi_transfer_fail(transfer, status, error.text);
            return;
        }
        slot->received += payload[i].size;
        offset += payload[i].size;
    }
    if (slot->received == total) {
        finish_slot(transfer, slot);
    }
}

/* The slot of the task's block; NULL when none is under way. */
static struct slot *slot_of(struct tessi_transfer *transfer, struct tessi_task task)
{
    if (transfer == NULL || transfer->error.status != TESSI_OK || task.session != transfer->session ||
        task.layer != transfer->layer) {
        return NULL;
    }
    return find_slot(transfer, task.index);
}

/* The slot that a peer's message is about; NULL when it is stale. */
static struct slot *addressed(struct tessi_transfer *transfer, const struct tessi_remote *peer, struct tessi_task task)
{
    struct slot *slot = slot_of(transfer, task);
    return slot != NULL && slot->worker == peer->id ? slot : NULL;
}

static void take_moved(struct slot *slot, const struct tessi_msg_moved *moved)
{
    slot->state = SLOT_LOCATED;
    slot->worker = moved->worker;
    slot->epoch = moved->epoch;
}

void tessi_transfer_message(struct tessi_link *link, struct tessi_remote *peer, const struct tessi_message *message,
                            struct tessi_frame *payload, uint32_t payload_count)
{
    struct tessi_transfer *transfer = link->transfer;
    struct slot *slot = NULL;
    if (message->type == TESSI_MSG_READY_INLINE) {
        /* It may have been pushed, by whoever made it, before we have asked or been answered. */
        slot = slot_of(transfer, message->as.ready_inline.task);
        if (slot != NULL && slot->state <= SLOT_READING) {
            take(transfer, slot, 0, payload, payload_count);
        }
    } else if (message->type == TESSI_MSG_READY_OFFER) {
        slot = addressed(transfer, peer, message->as.ready_offer.task);
        if (slot != NULL && slot->state == SLOT_READING) {
            slot->state = SLOT_OFFERED;
            if (message->as.ready_offer.bytes != block_bytes(transfer, slot->index)) {
                tessi_transfer_fail(transfer, TESSI_PROTOCOL,
                                    "a worker offers a block of another size than the graph's");
            }
        }
    } else if (message->type == TESSI_MSG_BLOCK) {
        slot = addressed(transfer, peer, message->as.block.task);
        if (slot != NULL && slot->state == SLOT_PULLING) {
            take(transfer, slot, message->as.block.offset, payload, payload_count);
        }
    } else if (message->type == TESSI_MSG_MOVED) {
        slot = addressed(transfer, peer, message->as.moved.task);
        if (slot != NULL && slot->state == SLOT_READING) {
            take_moved(slot, &message->as.moved);
        }
    } else if (message->type == TESSI_MSG_ASK) {
        slot = addressed(transfer, peer, message->as.ask.task);
        if (slot != NULL && slot->state != SLOT_LOCATING) {
            locate_again(link, transfer, slot);
        }
    }
}

void tessi_transfer_peer_gone(struct tessi_link *link, uint32_t peer)
{
    struct tessi_transfer *transfer = link->transfer;
    for (uint32_t s = 0; transfer != NULL && s < WINDOW; s++) {
        struct slot *slot = &transfer->slots[s];
        if (slot->state > SLOT_LOCATING && slot->worker == peer) {
            locate_again(link, transfer, slot);
        }
    }
}
