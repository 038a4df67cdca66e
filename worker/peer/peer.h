/* The other workers, and the clients that connect to us: reads, leases and blocks to and fro.
 *
 * Each worker listens at an endpoint of its own. It connects to the endpoints of those it reads from;
 * answers come back on the connection of the question. A client only connects: what we want of it
 * travels on its connection, and waits here until that exists. The actions SEND_… of worker/flow
 * are functions here, and what peers say comes out as events of worker/flow.
 *
 * A connection opens with PEER_HELLO (who I am, in which run), answered by PEER_WELCOME. When one breaks and
 * the scheduler has not said that the peer is gone, the flow is told PEER_LOST and PEER_UP, asks the
 * scheduler again where its blocks are, and a new connection is made when it next wants something; but not
 * before all mappings of the peer's memory are given up, since the peer takes our leases for ended then.
 *
 * Blocks travel in pieces of 1 MiB. Bytes handed to ZeroMQ and not yet sent are bounded for each peer.
 * One thread uses all this.
 *
 * Between workers of one host small messages do not go through sockets (line.h). */
#ifndef TESSI_PEER_PEER_H
#define TESSI_PEER_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"
#include "core/net/context.h"
#include "core/net/poller.h"
#include "worker/flow/flow.h"
#include "worker/store/store.h"

#define TESSI_PIECE_BYTES ((uint64_t)1 << 20)

/* What a poller reports as owner: the loop calls `ready` with the events. */
struct tessi_source {
    void (*ready)(struct tessi_source *source, uint32_t events);
};

/* What comes with some events. */
struct tessi_peer_data {
    const void *bytes; /* READY_INLINE: the block; READY_LEASE: where it lies in the peer's memory */
    uint64_t byte_count;
    int64_t begun_ns; /* DATA: when the block was asked for */
};

struct tessi_peers_config {
    struct tessi_net *net;
    struct tessi_poller *poller;
    struct tessi_store *store;
    const char *listen; /* "tcp://host:0", "inproc://name" */
    /* An event for the flow; now_ns is the callee's to fill in. The functions below may be called from it. */
    void (*event)(void *context, struct tessi_flow_event *event, const struct tessi_peer_data *data);
    /* The worker cannot go on: no memory for what arrives, a spill file that is asked for is damaged. */
    void (*broken)(void *context, enum tessi_status status, const char *text);
    /* What was to be sent of the spilled block cannot be read; whoever waits for it has been told to ask elsewhere. */
    void (*unreadable)(void *context, struct tessi_task task, const char *text);
    void *context;
};

struct tessi_peers;

/* Listen, and lend the arena to neighbours. Statuses of tessi_server_open. */
TESSI_MUST_USE enum tessi_status tessi_peers_create(const struct tessi_peers_config *config, struct tessi_peers **peers,
                                                    struct tessi_error *error);
void tessi_peers_destroy(struct tessi_peers *peers); /* NULL is allowed */

/* Where peers connect: with the real port. */
const char *tessi_peers_endpoint(const struct tessi_peers *peers);

/* The scheduler has taken us in as `self`: let connections speak. Once, before all that follows. */
TESSI_MUST_USE enum tessi_status tessi_peers_begin(struct tessi_peers *peers, uint64_t run_id, uint32_t self,
                                                   struct tessi_error *error);

/* From the scheduler. Both give the flow its event: PEER_UP, PEER_LOST. */
void tessi_peers_up(struct tessi_peers *peers, uint32_t id, const char *address, bool same_host);
void tessi_peers_lost(struct tessi_peers *peers, uint32_t id);

/* ——— actions ——— */

void tessi_peers_read(struct tessi_peers *peers, uint32_t peer, struct tessi_task task, uint32_t epoch, bool lease);
/* The pieces go into `block`, memory of ours; DATA when all are there. */
void tessi_peers_pull(struct tessi_peers *peers, uint32_t peer, struct tessi_task task, struct tessi_block *block);
void tessi_peers_release(struct tessi_peers *peers, uint32_t peer, struct tessi_task task);
void tessi_peers_revoke(struct tessi_peers *peers, uint32_t peer, struct tessi_task task);
/* `block` may be spilled for these two. */
void tessi_peers_inline(struct tessi_peers *peers, uint32_t peer, struct tessi_task task, uint32_t epoch,
                        struct tessi_block *block);
void tessi_peers_block(struct tessi_peers *peers, uint32_t peer, struct tessi_task task, struct tessi_block *block);
void tessi_peers_lease(struct tessi_peers *peers, uint32_t peer, struct tessi_task task, uint32_t epoch,
                       const struct tessi_block *block);
void tessi_peers_offer(struct tessi_peers *peers, uint32_t peer, struct tessi_task task, uint32_t epoch,
                       uint64_t bytes);
void tessi_peers_moved(struct tessi_peers *peers, uint32_t peer, struct tessi_task task, uint32_t worker,
                       uint32_t epoch);
void tessi_peers_ask(struct tessi_peers *peers, uint32_t peer, struct tessi_task task);

/* A MAP action: the mapping of the peer's memory stays until `tessi_peers_unmap` is called with what this returns. */
void *tessi_peers_map(struct tessi_peers *peers, uint32_t peer);
void tessi_peers_unmap(void *mapping);

/* ——— the loop ——— */

/* What neighbours have said over shared memory; before tessi_peers_work. False: nothing. */
bool tessi_peers_hear(struct tessi_peers *peers, int64_t now_ns);
bool tessi_peers_called(const struct tessi_peers *peers); /* there is something to hear */
int64_t tessi_peers_lines_used(const struct tessi_peers *peers); /* when last; INT64_MIN: no neighbours to hear */
uint32_t tessi_peers_neighbours(const struct tessi_peers *peers); /* workers of this host */
/* Neighbours that talk to us have been on our processor for some time, and it is for us to leave it: counts anew then. */
bool tessi_peers_crowded(struct tessi_peers *peers);
/* The loop is about to wait: neighbours wake it from now on. False: there is something to hear. */
bool tessi_peers_sleep(struct tessi_peers *peers);
/* After each wake: finished copies, room to send, connections to be made again. */
void tessi_peers_work(struct tessi_peers *peers, int64_t now_ns);
/* Send what was gathered since the last flush; before the loop waits. */
void tessi_peers_flush(struct tessi_peers *peers);
/* When tessi_peers_work wants to be called at the latest; INT64_MAX: no wish. */
int64_t tessi_peers_deadline(const struct tessi_peers *peers);

/* No block is on its way from here to anybody. */
bool tessi_peers_idle(const struct tessi_peers *peers);

struct tessi_peers_gauges {
    uint64_t sent_bytes, received_bytes; /* of blocks */
    uint64_t dropped_messages;
};
struct tessi_peers_gauges tessi_peers_gauges(const struct tessi_peers *peers);

#endif
