/* Blocks on their way in: pieces in order, DATA when the last one is in place. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "worker/peer/internal.h"

enum { TOKEN_SHIFT = 24 }; /* a token is a serial number and the place of its pull */

static struct tessi_map_key key_of(struct tessi_task task)
{
    return tessi_task_key(task.session, task.layer, task.index);
}

static struct pull *pull_find(const struct tessi_peers *peers, struct tessi_task task)
{
    uint32_t at = tessi_map_get(&peers->pull_of, key_of(task));
    return at == TESSI_MAP_NONE ? NULL : &peers->pulls[at];
}

static void pull_end(struct tessi_peers *peers, struct pull *pull)
{
    (void)tessi_map_remove(&peers->pull_of, key_of(pull->task));
    tessi_block_unref(pull->block);
    *pull = (struct pull){0};
    tessi_grow(&peers->free_pulls, &peers->free_pull_capacity, peers->free_pull_count + 1, sizeof *peers->free_pulls);
    peers->free_pulls[peers->free_pull_count++] = (uint32_t)(pull - peers->pulls);
}

void tessi_peer_pull_begin(struct peer *peer, struct tessi_task task, struct tessi_block *block)
{
    struct tessi_peers *peers = peer->peers;
    struct pull *old = pull_find(peers, task);
    if (old != NULL) {
        pull_end(peers, old);
    }
    uint32_t at;
    TESS_ASSERT(peers->pull_count < (size_t)1 << TOKEN_SHIFT);
    if (peers->free_pull_count > 0) {
        at = peers->free_pulls[--peers->free_pull_count];
    } else {
        at = (uint32_t)peers->pull_count++;
        tessi_grow(&peers->pulls, &peers->pull_capacity, peers->pull_count, sizeof *peers->pulls);
    }
    peers->pulls[at] = (struct pull){.task = task,
                                     .peer = peer->id,
                                     .block = tessi_block_ref(block),
                                     .begun_ns = tessi_clock_now(),
                                     .token = ++peers->pull_tokens << TOKEN_SHIFT | at};
    tessi_map_put(&peers->pull_of, key_of(task), at);
}

static void pull_complete(struct tessi_peers *peers, struct pull *pull)
{
    struct tessi_flow_event event = {.kind = TESSI_FLOW_DATA, .peer = pull->peer, .task = pull->task};
    struct tessi_peer_data data = {.byte_count = tessi_block_bytes(pull->block), .begun_ns = pull->begun_ns};
    pull_end(peers, pull);
    peers->config.event(peers->config.context, &event, &data);
}

/* A copy into pages that exist takes less than handing it to another thread, and the sockets go on meanwhile. */
static void piece_store(struct tessi_peers *peers, struct pull *pull, uint64_t offset, struct tessi_frame *frame)
{
    bool last = offset + frame->size == tessi_block_bytes(pull->block);
    if (offset == 0) {
        pull->by_copier = !tessi_block_committed(pull->block);
    }
    if (pull->by_copier) {
        tessi_copier_add(peers->copier, pull->block, offset, frame, last, pull->token);
        return;
    }
    memcpy((uint8_t *)tessi_block_data(pull->block) + offset, frame->data, frame->size);
    if (last) {
        pull_complete(peers, pull);
    }
}

void tessi_peer_pull_piece(struct peer *peer, const struct tessi_msg_block *message, struct tessi_frame *payload,
                           uint32_t payload_count)
{
    struct tessi_peers *peers = peer->peers;
    struct pull *pull = pull_find(peers, message->task);
    uint64_t offset = message->offset;
    for (uint32_t i = 0; i < payload_count; i++) {
        uint64_t size = payload[i].size;
        /* Pieces of a pull that was given up may still arrive while the next one is under way. */
        if (pull == NULL || pull->peer != peer->id || offset != pull->received) {
            peers->gauges.dropped_messages++;
            return;
        }
        uint64_t total = tessi_block_bytes(pull->block);
        if (message->total != total || size > total - offset) {
            tessi_peer_break(peer, "it sends a block of another length");
            return;
        }
        offset += size;
        pull->received += size;
        peers->gauges.received_bytes += size;
        if (size > 0) {
            piece_store(peers, pull, offset - size, &payload[i]);
            pull = pull_find(peers, message->task); /* the last piece ends it */
        }
    }
}

void tessi_peer_pull_refused(struct peer *peer, struct tessi_task task)
{
    struct pull *pull = pull_find(peer->peers, task);
    if (pull != NULL && pull->peer == peer->id) {
        pull_end(peer->peers, pull);
    }
}

void tessi_peer_pull_cancel(struct tessi_peers *peers, uint32_t peer_id)
{
    for (size_t i = 0; i < peers->pull_count; i++) {
        struct pull *pull = &peers->pulls[i];
        if (pull->block != NULL && (peer_id == 0 || pull->peer == peer_id)) {
            pull_end(peers, pull);
        }
    }
}

static struct pull *pull_of_token(const struct tessi_peers *peers, uint64_t token)
{
    struct pull *pull = &peers->pulls[token & ((UINT64_C(1) << TOKEN_SHIFT) - 1)];
    return pull->block != NULL && pull->token == token ? pull : NULL;
}

void tessi_peers_pulls_work(struct tessi_peers *peers)
{
    uint64_t token;
    enum tessi_status status;
    struct tessi_error error;
    while (tessi_copier_take(peers->copier, &token, &status, &error)) {
        struct pull *pull = pull_of_token(peers, token);
        if (status != TESSI_OK) {
            peers->config.broken(peers->config.context, status, error.text);
        } else if (pull != NULL) {
            pull_complete(peers, pull);
        }
    }
}
