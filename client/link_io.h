/* Inside the link: what its I/O thread owns. Private to link.c, remote.c, serve.c and transfer.c. */
#ifndef TESSI_CLIENT_LINK_IO_H
#define TESSI_CLIENT_LINK_IO_H

#include <pthread.h>

#include "client/link.h"
#include "client/region.h"
#include "core/base/map.h"
#include "core/net/client.h"
#include "core/net/poller.h"
#include "core/net/send_queue.h"

#define TESSI_FRAME_BYTES (UINT64_C(1) << 20) /* of a block that is sent in pieces */

struct tessi_served { /* one RECEIVE layer; guarded by the link's lock */
    uint32_t id;
    uint32_t request; /* of its submission */
    size_t element_bytes;
    struct tessi_grid grid;  /* owned */
    struct tessi_blob *blob; /* referenced */
};

struct tessi_serving { /* a block on its way to a worker */
    struct tessi_serving *next;
    struct tessi_task task;
    struct tessi_region region;
    struct tessi_blob *blob; /* referenced */
    uint64_t sent;
};

struct tessi_remote { /* a worker that the scheduler has told us of */
    struct tessi_link *link;
    uint32_t id;
    char address[TESSI_WIRE_ADDRESS_MAX + 1];
    struct tessi_client *client; /* NULL: not connected */
    bool welcomed;
    bool writes;       /* files for us */
    bool gone;         /* the connection ended: to be closed after this round */
    bool lost;         /* the scheduler said so: to be forgotten after this round */
    bool wanted;       /* connect: there is something to read or to serve */
    struct tessi_error why; /* why the last one could not be begun */
    uint32_t failures; /* connections in a row that ended without a welcome */
    int64_t retry_ns;  /* no new connection before */
    struct tessi_send_queue out;
    struct tessi_serving *serving, *serving_last;
};

struct tessi_transfer;

enum tessi_layer_state { TESSI_LAYER_COMPUTING, TESSI_LAYER_COMPLETE, TESSI_LAYER_FAILED };

struct tessi_wanted { /* a layer that the session asked for; guarded by the lock */
    uint32_t id;
    uint32_t first, request; /* of the first part of its submission, and of its own part */
    enum tessi_layer_state state;
    enum tessi_status status; /* FAILED: why */
    char *text;               /* owned */
    int64_t elapsed_ns;
    bool detached; /* cannot be made again */
    bool released; /* nobody asks for it any more: the scheduler is told when it is done */
};

#define TESSI_PROGRESSES 64u /* submissions under way whose progress is kept */

struct tessi_progress { /* of one submission */
    uint32_t request;
    uint64_t done, total;
};

struct tessi_link {
    struct tessi_net *net;
    uint32_t id;
    uint64_t run_id;
    uint32_t heartbeat_ms;
    uint64_t least_memory_bytes; /* of the smallest worker when the link was opened */
    char address[TESSI_WIRE_ADDRESS_MAX + 1];

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct tessi_error fatal;    /* status OK: alive */
    struct tessi_send_queue queued; /* for the scheduler, from callers */
    struct tessi_wanted *wanted;
    size_t wanted_count, wanted_capacity;
    struct tessi_map wanted_by_id; /* → position */
    size_t released_count;         /* of `wanted`: released */
    uint32_t *detached;            /* layers that the scheduler has said so of, until somebody asks; owned */
    size_t detached_count, detached_capacity;
    struct tessi_served *served;
    size_t served_count, served_capacity;
    struct tessi_map served_by_id; /* → position */
    uint32_t next_request;
    uint32_t refused_request; /* the last one that was, and why */
    struct tessi_error refusal;
    struct tessi_progress progress[TESSI_PROGRESSES]; /* by request, as the scheduler told last */
    uint32_t watchers; /* callers who wait and want to see progress */
    uint32_t settlers; /* callers who wait until no released layer is under way */
    int64_t elapsed_ns; /* of the last released layer that was done */
    struct tessi_session_counts counts;
    uint32_t workers, writers; /* those of them that write files for clients */
    char *document; /* the last status reply, owned, until somebody takes it */
    bool closing;
    bool held; /* `queued` waits for the next transfer */
    struct tessi_transfer *asked; /* handed over by a caller, not yet begun */

    /* Of the I/O thread alone from here on. */
    pthread_t thread;
    struct tessi_poller *poller;
    struct tessi_client *scheduler;
    struct tessi_send_queue out; /* for the scheduler */
    struct tessi_send_queue idle; /* likewise, but in no hurry: goes with what comes next */
    int64_t idle_ns;           /* since when there is some */
    int64_t away_ns, back_ns;  /* how long the program was stopped, the last time that it was, and until when */
    int64_t sent_ns;          /* last message to the scheduler */
    struct tessi_remote **peers;
    size_t peer_count, peer_capacity;
    struct tessi_transfer *transfer; /* under way */
};

/* ——— messages ——— */

/* Pack and queue; takes the frame (NULL: none). */
void tessi_outbound_add(struct tessi_send_queue *queue, const struct tessi_message *message, struct tessi_frame *frame);
/* Send until the queue is empty (true) or the socket is full. */
bool tessi_outbound_flush(struct tessi_send_queue *queue, struct tessi_client *client);

/* A message to the scheduler from the I/O thread. */
void tessi_link_post(struct tessi_link *link, const struct tessi_message *message);

/* The connection has ended; the first reason stays. Takes the lock. */
void tessi_link_fail(struct tessi_link *link, enum tessi_status status, const char *text);

static inline struct tessi_map_key tessi_link_key(uint32_t id)
{
    return (struct tessi_map_key){0, id};
}

/* What the session asked for; the lock is held. */
struct tessi_wanted *tessi_wanted_find(struct tessi_link *link, uint32_t id); /* NULL: it did not */
void tessi_wanted_fail(struct tessi_wanted *wanted, enum tessi_status status, const char *text);
enum tessi_status tessi_wanted_failure(const struct tessi_wanted *wanted, struct tessi_error *error); /* OK: NULL too */
void tessi_wanted_forget(struct tessi_link *link, struct tessi_wanted *wanted);

/* Whether the scheduler has said that the layer is done. Takes the lock. */
bool tessi_link_layer_complete(struct tessi_link *link, uint32_t id);

/* ---- Peers (remote.c) ---- */

struct tessi_remote *tessi_remote_find(struct tessi_link *link, uint32_t id); /* NULL: unknown */
void tessi_remote_up(struct tessi_link *link, uint32_t id, const char *address, bool writes);
void tessi_remote_lost(struct tessi_link *link, uint32_t id);
/* Whether messages can be sent to it now; begins to connect when they cannot. */
bool tessi_remote_ready(struct tessi_remote *peer, int64_t now_ns);
bool tessi_remotes_welcomed(const struct tessi_link *link); /* there are workers, and all can send to us now */
void tessi_remote_send(struct tessi_remote *peer, const struct tessi_message *message);
void tessi_remote_receive(struct tessi_remote *peer);
/* Connect those that are wanted and may be tried again, close those that ended, flush. Returns when to come again. */
int64_t tessi_remote_tend(struct tessi_link *link, int64_t now_ns);
void tessi_remote_fini(struct tessi_link *link);

/* ---- Serving (serve.c) ---- */

void tessi_serve_pull(struct tessi_remote *peer, struct tessi_task task);
void tessi_serve_flush(struct tessi_remote *peer);
void tessi_serve_drop(struct tessi_remote *peer);
/* The lock is held: the data of the layer, or of all of a submission, are not asked for any more. */
void tessi_serve_end(struct tessi_link *link, uint32_t id);
void tessi_serve_refused(struct tessi_link *link, uint32_t request);
void tessi_serve_fini(struct tessi_link *link);

/* ---- Transfers (transfer.c) ---- */

struct tessi_transfer *tessi_transfer_create(uint32_t session, uint32_t layer, const struct tessi_grid *grid,
                                             size_t element_bytes, bool pushed, tessi_piece_fn *piece,
                                             void *context);
void tessi_transfer_destroy(struct tessi_transfer *transfer);
void tessi_transfer_pump(struct tessi_link *link, int64_t now_ns); /* ask for what may be asked for now */
int64_t tessi_transfer_deadline(const struct tessi_transfer *transfer); /* of the next pump; INT64_MAX: none */
/* The layer is held, and not all of its blocks can be had now. */
void tessi_transfer_layer_failed(struct tessi_link *link, uint32_t layer, enum tessi_status status, const char *text);
void tessi_transfer_location(struct tessi_link *link, const struct tessi_spans *spans);
void tessi_transfer_message(struct tessi_link *link, struct tessi_remote *peer, const struct tessi_message *message,
                            struct tessi_frame *payload, uint32_t payload_count);
void tessi_transfer_peer_gone(struct tessi_link *link, uint32_t peer);
void tessi_transfer_fail(struct tessi_transfer *transfer, enum tessi_status status, const char *text);
/* True when it has ended; `error` says how. */
bool tessi_transfer_finished(const struct tessi_transfer *transfer, struct tessi_error *error);

#endif
