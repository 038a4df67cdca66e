/* What the planner has the worker say to its peers. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "worker/peer/internal.h"

static void ask(struct tessi_peers *peers, uint32_t id, struct tessi_message *message)
{
    message->run_id = peers->run_id;
    tessi_peer_ask(tessi_peer_record(peers, id), message);
}

static void answer(struct tessi_peers *peers, uint32_t id, struct tessi_message *message)
{
    struct peer *peer = tessi_peer_known(peers, id);
    message->run_id = peers->run_id;
    if (peer != NULL) {
        tessi_peer_answer(peer, message, NULL);
    }
}

void tessi_peers_read(struct tessi_peers *peers, uint32_t id, struct tessi_task task, uint32_t epoch, bool lease)
{
    struct peer *peer = tessi_peer_record(peers, id);
    tessi_spans_push(
        &peer->reads[lease],
        (struct tessi_span){
            .session = task.session, .layer = task.layer, .first = task.index, .count = 1, .epoch = epoch});
    tessi_peer_touch(peer);
}

void tessi_peers_pull(struct tessi_peers *peers, uint32_t id, struct tessi_task task, struct tessi_block *block)
{
    struct tessi_message message = {.type = TESSI_MSG_PULL};
    message.as.pull.task = task;
    tessi_peer_pull_begin(tessi_peer_record(peers, id), task, block);
    ask(peers, id, &message);
}

void tessi_peers_release(struct tessi_peers *peers, uint32_t id, struct tessi_task task)
{
    struct tessi_message message = {.type = TESSI_MSG_PEER_RELEASE};
    message.as.peer_release.task = task;
    if (tessi_peer_known(peers, id) != NULL) {
        ask(peers, id, &message);
    }
}

void tessi_peers_revoke(struct tessi_peers *peers, uint32_t id, struct tessi_task task)
{
    struct tessi_message message = {.type = TESSI_MSG_REVOKE};
    message.as.revoke.task = task;
    answer(peers, id, &message);
}

void tessi_peers_inline(struct tessi_peers *peers, uint32_t id, struct tessi_task task, uint32_t epoch,
                        struct tessi_block *block)
{
    struct peer *peer = tessi_peer_known(peers, id);
    if (peer == NULL) {
        return;
    }
    const void *bytes = tessi_block_data(block);
    if (bytes == NULL) {
        tessi_peer_send_block(peer, task, epoch, block, true);
        return;
    }
    struct tessi_message message = {.type = TESSI_MSG_READY_INLINE, .run_id = peers->run_id};
    message.as.ready_inline.task = task;
    message.as.ready_inline.epoch = epoch;
    struct tessi_frame payload = tessi_frame_copy(bytes, (size_t)tessi_block_bytes(block));
    peers->gauges.sent_bytes += tessi_block_bytes(block);
    tessi_peer_answer(peer, &message, &payload);
}

void tessi_peers_block(struct tessi_peers *peers, uint32_t id, struct tessi_task task, struct tessi_block *block)
{
    struct peer *peer = tessi_peer_known(peers, id);
    if (peer != NULL) {
        tessi_peer_send_block(peer, task, 0, block, false);
    }
}

void tessi_peers_lease(struct tessi_peers *peers, uint32_t id, struct tessi_task task, uint32_t epoch,
                       const struct tessi_block *block)
{
    struct tessi_message message = {.type = TESSI_MSG_READY_LEASE};
    message.as.ready_lease.task = task;
    message.as.ready_lease.epoch = epoch;
    message.as.ready_lease.offset = tessi_block_offset(block);
    message.as.ready_lease.bytes = tessi_block_bytes(block);
    answer(peers, id, &message);
}

void tessi_peers_offer(struct tessi_peers *peers, uint32_t id, struct tessi_task task, uint32_t epoch, uint64_t bytes)
{
    struct tessi_message message = {.type = TESSI_MSG_READY_OFFER};
    message.as.ready_offer.task = task;
    message.as.ready_offer.epoch = epoch;
    message.as.ready_offer.bytes = bytes;
    answer(peers, id, &message);
}

void tessi_peers_moved(struct tessi_peers *peers, uint32_t id, struct tessi_task task, uint32_t worker, uint32_t epoch)
{
    struct tessi_message message = {.type = TESSI_MSG_MOVED};
    message.as.moved.task = task;
    message.as.moved.worker = worker;
    message.as.moved.epoch = epoch;
    answer(peers, id, &message);
}

void tessi_peers_ask(struct tessi_peers *peers, uint32_t id, struct tessi_task task)
{
    struct tessi_message message = {.type = TESSI_MSG_ASK};
    message.as.ask.task = task;
    answer(peers, id, &message);
}

void *tessi_peers_map(struct tessi_peers *peers, uint32_t id)
{
    struct peer *peer = tessi_peer_known(peers, id);
    TESS_ASSERT(peer != NULL && peer->neighbour != NULL);
    peer->neighbour->users++;
    return peer->neighbour;
}

void tessi_peers_unmap(void *mapping)
{
    struct neighbour *neighbour = mapping;
    TESS_ASSERT(neighbour->users > 0);
    if (--neighbour->users > 0) {
        return;
    }
    if (neighbour->forgotten) {
        tessi_mapping_close(neighbour->mapping);
        tessi_free(neighbour);
    } else {
        neighbour->peers->attention = true; /* a broken connection may be made again */
    }
}
