/* What the files of worker/peer share.
 *
 *   peer.c     the table of peers, connections, what the loop calls
 *   actions.c  what the planner has the worker say
 *   talk.c     messages to and from peers
 *   send.c     blocks on their way out, under byte credits
 *   receive.c  blocks on their way in
 *   line.c     small messages to and from workers of this host */
#ifndef TESSI_PEER_INTERNAL_H
#define TESSI_PEER_INTERNAL_H

#include <stdatomic.h>

#include "core/base/map.h"
#include "core/net/send_queue.h"
#include "core/wire/message.h"
#include "worker/peer/arena_share.h"
#include "worker/peer/copier.h"
#include "worker/peer/line.h"
#include "worker/peer/peer.h"

#define PEER_WAITING_MAX 65536 /* messages that wait for one peer; more are dropped, which a sane peer never sees */

/* Bytes of a peer that ZeroMQ holds. Outlives the peer while there are some. */
struct peer_credit;

struct neighbour { /* a mapped arena, and how many handles lie in it */
    struct tessi_mapping *mapping;
    uint32_t users;
    struct tessi_peers *peers;
    bool forgotten; /* by its peer: closed with its last user */
};

struct outgoing;

struct peer {
    struct tessi_source source; /* of the connection that we opened */
    struct tessi_peers *peers;
    uint32_t id;
    bool
        announced; /* by the scheduler: a worker; else it came by itself: a client, or a worker before its announcement */
    bool lost;     /* removed with the next tessi_peers_work */
    bool broken;   /* a connection that we need has ended: tessi_peers_work tells the flow */
    bool was_met; /* the peer has connected to us before */
    bool touched; /* it is in the list of those to flush */
    char address[TESSI_WIRE_ADDRESS_MAX + 1];
    struct neighbour *neighbour; /* NULL: its memory cannot be mapped */
    struct tessi_client *out;    /* opened when it is first needed */
    bool out_welcomed;
    struct tessi_line *out_line; /* beside `out`; NULL. Nothing is said on `out` before it is settled */
    int64_t retry_ns;
    uint32_t in; /* handle of the connection that the peer opened; 0: none */
    struct tessi_line *in_line; /* beside it; NULL */
    struct tessi_send_queue out_waiting, in_waiting; /* messages for the one connection and the other */
    struct tessi_spans reads[2]; /* [lease]: gathered for one message */
    struct outgoing *sending, **sending_last;
    struct peer_credit *credit;
};

struct tessi_peers {
    struct tessi_source source; /* of the server */
    struct tessi_peers_config config;
    struct tessi_server *server;
    struct tessi_share *share;
    struct tessi_copier *copier;
    struct tessi_line_post *post; /* NULL: no lines */
    struct tessi_source post_source;
    size_t line_count;
    uint32_t neighbour_count; /* peers whose memory is mapped */
    int64_t lines_used_ns; /* when something came over one */
    uint32_t crowded; /* messages in a row from neighbours that ran on our processor and leave it to us to move */
    uint64_t run_id, nonce;
    uint32_t self;
    bool begun;
    bool attention;   /* some peer is lost or broken, or may be connected to again */
    int64_t retry_ns; /* when to look again at the latest */
    struct peer **all;
    size_t count, capacity;
    struct tessi_map by_id;     /* peer → position in `all` */
    struct tessi_map by_handle; /* connection of the server → peer */
    struct peer **touched;
    size_t touched_count, touched_capacity;
    struct pull *pulls;
    size_t pull_count, pull_capacity;
    uint32_t *free_pulls;
    size_t free_pull_count, free_pull_capacity;
    struct tessi_map pull_of; /* task → pull */
    uint64_t pull_tokens;
    struct tessi_buffer buffer; /* for packing */
    struct tessi_peers_gauges gauges;
};

/* peer.c */
struct peer *tessi_peer_record(struct tessi_peers *peers, uint32_t id);      /* found, or made as one not announced */
struct peer *tessi_peer_known(const struct tessi_peers *peers, uint32_t id); /* NULL: none, or lost */
void tessi_peer_touch(struct peer *peer);                                    /* flush it later */
void tessi_peer_emit(struct peer *peer, enum tessi_flow_event_kind kind);    /* PEER_UP, PEER_LOST */
void tessi_peer_break(struct peer *peer, const char *why); /* it does not keep to the protocol: connect anew */
bool tessi_peer_connect(struct peer *peer); /* our own connection, opened if there is none; false: not now */

/* talk.c */
/* To the peer, as a question (on our own connection if there can be one) or an answer (on the peer's own, else
 * on ours, else nowhere: the peer has forgotten its question then). The payload passes. */
void tessi_peer_ask(struct peer *peer, const struct tessi_message *message);
void tessi_peer_answer(struct peer *peer, const struct tessi_message *message, struct tessi_frame *payload);
/* The same for pieces of blocks; false: nothing was taken, try again later. The payload passes on success only. */
bool tessi_peer_try_answer(struct peer *peer, const struct tessi_message *message, struct tessi_frame *payload);
void tessi_peer_say_hello(struct peer *peer);
/* What has come over the peer's line: one that we opened (`own`), or the peer. False when there was nothing. */
bool tessi_peer_hear(struct peer *peer, bool own);
void tessi_peer_flush(struct peer *peer);
/* One message from a peer that has said hello. */
void tessi_peer_take(struct peer *peer, struct tessi_message *message, struct tessi_frame *payload,
                     uint32_t payload_count);

/* send.c */
struct peer_credit *tessi_peer_credit_create(struct tessi_poller *poller);
bool tessi_peer_credit_idle(const struct peer_credit *credit); /* ZeroMQ holds no piece */
void tessi_peer_credit_end(struct peer_credit *credit); /* the poller is not woken any more */
void tessi_peer_send_block(struct peer *peer, struct tessi_task task, uint32_t epoch, struct tessi_block *block,
                           bool whole);
void tessi_peer_pump(struct peer *peer);
void tessi_peer_send_cancel(struct peer *peer);

/* receive.c */
struct pull {
    struct tessi_task task;
    uint32_t peer;
    struct tessi_block *block; /* NULL: a free record */
    uint64_t received;
    uint64_t token;
    int64_t begun_ns;
    bool by_copier; /* its memory was new when the first piece came: making pages is not for the loop */
};
void tessi_peer_pull_begin(struct peer *peer, struct tessi_task task, struct tessi_block *block);
void tessi_peer_pull_piece(struct peer *peer, const struct tessi_msg_block *message, struct tessi_frame *payload,
                           uint32_t payload_count);
void tessi_peer_pull_refused(struct peer *peer, struct tessi_task task);
void tessi_peer_pull_cancel(struct tessi_peers *peers, uint32_t peer_id); /* 0: all */
void tessi_peers_pulls_work(struct tessi_peers *peers);

#endif
