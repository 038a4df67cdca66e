#include "worker/peer/peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/net/client.h"
#include "core/net/server.h"
#include "worker/peer/internal.h"

#define CROWDED_MIN 8
#define RETRY_NS (200 * TESSI_NS_PER_MS)
/* A piece and its neighbourhood; between threads of one process frames are not copied and may be any size. */
#define FRAME_BYTES_MAX (TESSI_PIECE_BYTES + (UINT64_C(1) << 20))
#define FRAME_BYTES_INPROC (UINT64_C(1) << 40)
#define FIRST_BYTES (UINT64_C(256) << 10) /* of the first message of a connection, a hello */

static void out_ready(struct tessi_source *source, uint32_t events);

/* ——— the table ——— */

struct peer *tessi_peer_known(const struct tessi_peers *peers, uint32_t id)
{
    uint32_t at = tessi_map_get(&peers->by_id, (struct tessi_map_key){0, id});
    return at == TESSI_MAP_NONE ? NULL : peers->all[at];
}

struct peer *tessi_peer_record(struct tessi_peers *peers, uint32_t id)
{
    struct peer *peer = tessi_peer_known(peers, id);
    if (peer != NULL) {
        return peer;
    }
    peer = tessi_zalloc(sizeof *peer);
    peer->source.ready = out_ready;
    peer->peers = peers;
    peer->id = id;
    peer->sending_last = &peer->sending;
    peer->credit = tessi_peer_credit_create(peers->config.poller);
    tessi_grow(&peers->all, &peers->capacity, peers->count + 1, sizeof(struct peer *));
    tessi_map_put(&peers->by_id, (struct tessi_map_key){0, id}, (uint32_t)peers->count);
    peers->all[peers->count++] = peer;
    return peer;
}

void tessi_peer_touch(struct peer *peer)
{
    struct tessi_peers *peers = peer->peers;
    if (!peer->touched && !peer->lost) {
        peer->touched = true;
        tessi_grow(&peers->touched, &peers->touched_capacity, peers->touched_count + 1, sizeof(struct peer *));
        peers->touched[peers->touched_count++] = peer;
    }
}

void tessi_peer_emit(struct peer *peer, enum tessi_flow_event_kind kind)
{
    struct tessi_peers *peers = peer->peers;
    struct tessi_flow_event event = {.kind = kind, .peer = peer->id, .shares_memory = peer->neighbour != NULL};
    peers->config.event(peers->config.context, &event, &(struct tessi_peer_data){0});
}

static void neighbour_forget(struct peer *peer)
{
    struct neighbour *neighbour = peer->neighbour;
    peer->peers->neighbour_count -= neighbour != NULL ? 1 : 0;
    peer->neighbour = NULL;
    if (neighbour != NULL && neighbour->users == 0) {
        tessi_mapping_close(neighbour->mapping);
        tessi_free(neighbour);
    } else if (neighbour != NULL) {
        neighbour->forgotten = true;
    }
}

static void line_close(struct tessi_peers *peers, struct tessi_line **line)
{
    if (*line != NULL) {
        tessi_line_close(*line);
        *line = NULL;
        peers->line_count--;
    }
}

static void out_close(struct peer *peer)
{
    line_close(peer->peers, &peer->out_line);
    if (peer->out != NULL) {
        tessi_poller_remove_client(peer->peers->config.poller, peer->out);
        tessi_client_close(peer->out);
        peer->out = NULL;
        peer->out_welcomed = false;
    }
    tessi_send_queue_fini(&peer->out_waiting);
    peer->reads[0].count = peer->reads[1].count = 0;
}

static void in_close(struct peer *peer)
{
    line_close(peer->peers, &peer->in_line);
    if (peer->in != 0) {
        (void)tessi_map_remove(&peer->peers->by_handle, (struct tessi_map_key){0, peer->in});
        peer->in = 0;
    }
    tessi_send_queue_fini(&peer->in_waiting);
    tessi_peer_send_cancel(peer);
}

/* No more is heard of or said to the peer; its record goes with the next tessi_peers_work. */
static void peer_end(struct peer *peer)
{
    struct tessi_peers *peers = peer->peers;
    peer->lost = true;
    peers->attention = true;
    (void)tessi_map_remove(&peers->by_id, (struct tessi_map_key){0, peer->id});
    if (peer->in != 0) {
        tessi_server_ignore(peers->server, peer->in);
    }
    in_close(peer);
    tessi_peer_pull_cancel(peers, peer->id);
    neighbour_forget(peer);
}

static void peer_destroy(struct peer *peer)
{
    out_close(peer);
    in_close(peer);
    neighbour_forget(peer);
    tessi_peer_credit_end(peer->credit);
    tessi_spans_fini(&peer->reads[0]);
    tessi_spans_fini(&peer->reads[1]);
    tessi_free(peer);
}

void tessi_peer_break(struct peer *peer, const char *why)
{
    if (!peer->broken && !peer->lost) {
        tessi_log_event(TESSI_LOG_WARN, "peer_broken", "peer=%" PRIu32 " reason=" TESSI_LOG_TEXT, peer->id, why);
        peer->broken = true;
        peer->peers->attention = true;
    }
}

/* ——— our own connection ——— */

bool tessi_peer_connect(struct peer *peer)
{
    struct tessi_peers *peers = peer->peers;
    if (peer->out != NULL) {
        return true;
    }
    int64_t now_ns = tessi_clock_now();
    bool maps = peer->neighbour != NULL && peer->neighbour->users > 0;
    if (!peer->announced || peer->lost || peer->broken || maps) {
        return false; /* the end of each of these calls for attention */
    }
    if (now_ns < peer->retry_ns) {
        peers->retry_ns = peer->retry_ns < peers->retry_ns ? peer->retry_ns : peers->retry_ns;
        return false;
    }
    char name[32];
    (void)snprintf(name, sizeof name, "worker %" PRIu32, peer->id);
    struct tessi_net_options options = {.frame_bytes_max = FRAME_BYTES_MAX, .remote_name = name};
    if (strncmp(peer->address, "inproc://", 9) == 0) {
        options.frame_bytes_max = FRAME_BYTES_INPROC;
    }
    struct tessi_error error;
    enum tessi_status status = tessi_client_open(peers->config.net, peer->address, &options, &peer->out, &error);
    if (status == TESSI_OK) {
        status = tessi_poller_add_client(peers->config.poller, peer->out, &peer->source, &error);
        if (status != TESSI_OK) {
            tessi_client_close(peer->out);
            peer->out = NULL;
        }
    }
    if (status != TESSI_OK) {
        tessi_log_event(TESSI_LOG_WARN, "peer_unreachable", "peer=%" PRIu32 " reason=" TESSI_LOG_TEXT, peer->id,
                        error.text);
        if (status == TESSI_IO) {
            /* What this machine does not let us have will not come by waiting: others go on with the work. */
            peers->config.broken(peers->config.context, status, error.text);
        }
        peer->retry_ns = now_ns + RETRY_NS;
        peers->retry_ns = peer->retry_ns < peers->retry_ns ? peer->retry_ns : peers->retry_ns;
        return false;
    }
    if (peer->neighbour != NULL && peers->post != NULL) {
        peer->out_line = tessi_line_leave(peers->post, peer->address, peers->self, peers->nonce);
        peers->line_count += peer->out_line != NULL ? 1 : 0;
    }
    tessi_peer_say_hello(peer);
    tessi_peer_touch(peer);
    return true;
}

static void out_message(struct peer *peer, struct tessi_net_event *event)
{
    struct tessi_peers *peers = peer->peers;
    struct tessi_message message;
    struct tessi_error error;
    if (tessi_message_unpack(event->frames[0].data, event->frames[0].size, &message, &error) != TESSI_OK) {
        peers->gauges.dropped_messages++;
        tessi_peer_break(peer, error.text);
        return;
    }
    if (message.type == TESSI_MSG_REJECT) {
        tessi_peer_break(peer, message.as.reject.text);
    } else if (message.run_id != peers->run_id) {
        peers->gauges.dropped_messages++;
    } else if (message.type == TESSI_MSG_PEER_WELCOME) {
        /* Another worker may have got the port of one that is gone. */
        peer->out_welcomed = message.as.peer_welcome.id == peer->id;
        if (!peer->out_welcomed) {
            tessi_peer_break(peer, "another worker answers at its address");
        } else if (peer->out_line != NULL && !tessi_line_settle(peer->out_line)) {
            line_close(peers, &peer->out_line);
        }
    } else if (!peer->out_welcomed) {
        peers->gauges.dropped_messages++;
    } else {
        tessi_peer_take(peer, &message, &event->frames[1], event->frame_count - 1);
    }
    tessi_message_fini(&message);
}

static void out_ready(struct tessi_source *source, uint32_t events)
{
    (void)events;
    struct peer *peer = (struct peer *)source; /* its first member */
    struct tessi_net_event event;
    while (peer->out != NULL && !peer->broken && !peer->lost && tessi_client_receive(peer->out, &event) == TESSI_OK) {
        switch (event.kind) {
        case TESSI_NET_READY:
            break;
        case TESSI_NET_GONE:
            tessi_peer_break(peer, tessi_client_error(peer->out)->text);
            break;
        case TESSI_NET_MESSAGE:
            out_message(peer, &event);
            break;
        }
        tessi_net_event_clear(&event);
    }
    tessi_peer_touch(peer);
}

/* ——— connections of others ——— */

static void refuse(struct tessi_peers *peers, uint32_t handle, enum tessi_status status, const char *text)
{
    struct tessi_message reject = {.type = TESSI_MSG_REJECT, .run_id = peers->run_id};
    reject.as.reject.status = (uint32_t)status;
    reject.as.reject.text = text;
    tessi_buffer_clear(&peers->buffer);
    if (tessi_message_pack(&peers->buffer, &reject, NULL) == TESSI_OK) {
        (void)!tessi_server_send(peers->server, handle, peers->buffer.data, peers->buffer.size, NULL, 0);
    }
    tessi_server_ignore(peers->server, handle);
    peers->gauges.dropped_messages++;
}

static void welcome(struct tessi_peers *peers, uint32_t handle, const struct tessi_msg_peer_hello *hello)
{
    if (hello->id == 0 || hello->id == peers->self) {
        refuse(peers, handle, TESSI_PROTOCOL, "this is no other peer's id");
        return;
    }
    struct peer *peer = tessi_peer_record(peers, hello->id);
    if (peer->in != 0) {
        tessi_server_ignore(peers->server, peer->in);
        in_close(peer);
    }
    /* Only what waits for a client survives until here: what it is to give us. */
    peer->in = handle;
    peer->in_line = peers->post != NULL ? tessi_line_take(peers->post, hello->id, hello->nonce) : NULL;
    peers->line_count += peer->in_line != NULL ? 1 : 0;
    tessi_map_put(&peers->by_handle, (struct tessi_map_key){0, handle}, hello->id);
    struct tessi_message answer = {.type = TESSI_MSG_PEER_WELCOME, .run_id = peers->run_id};
    answer.as.peer_welcome.id = peers->self;
    answer.as.peer_welcome.nonce = peers->nonce;
    tessi_buffer_clear(&peers->buffer);
    if (tessi_message_pack(&peers->buffer, &answer, NULL) == TESSI_OK) {
        (void)!tessi_server_send(peers->server, handle, peers->buffer.data, peers->buffer.size, NULL, 0);
    }
    if (peer->was_met) {
        /* It has begun anew, and has forgotten what it asked for and what we lent it. */
        tessi_peer_pull_cancel(peers, peer->id);
        tessi_peer_emit(peer, TESSI_FLOW_PEER_LOST);
    }
    if (peer->was_met || !peer->announced) {
        tessi_peer_emit(peer, TESSI_FLOW_PEER_UP);
    }
    peer->was_met = true;
    tessi_peer_touch(peer);
}

static void in_message(struct tessi_peers *peers, struct tessi_net_event *event)
{
    struct tessi_message message;
    struct tessi_error error;
    uint32_t id = tessi_map_get(&peers->by_handle, (struct tessi_map_key){0, event->peer});
    struct peer *peer = id == TESSI_MAP_NONE ? NULL : tessi_peer_known(peers, id);
    enum tessi_status status = tessi_message_unpack(event->frames[0].data, event->frames[0].size, &message, &error);
    if (status != TESSI_OK) {
        refuse(peers, event->peer, status, error.text);
        if (peer != NULL) {
            tessi_peer_break(peer, error.text);
        }
        return;
    }
    if (message.run_id != peers->run_id) {
        if (peer == NULL) {
            refuse(peers, event->peer, TESSI_PROTOCOL, "this worker belongs to another cluster's run");
        }
        peers->gauges.dropped_messages++;
    } else if (peer != NULL) {
        tessi_peer_take(peer, &message, &event->frames[1], event->frame_count - 1);
        tessi_peer_touch(peer);
    } else if (message.type == TESSI_MSG_PEER_HELLO) {
        welcome(peers, event->peer, &message.as.peer_hello);
    } else {
        refuse(peers, event->peer, TESSI_PROTOCOL, "the first message must be PEER_HELLO");
    }
    tessi_message_fini(&message);
}

static void in_gone(struct tessi_peers *peers, uint32_t handle)
{
    uint32_t id = tessi_map_get(&peers->by_handle, (struct tessi_map_key){0, handle});
    struct peer *peer = id == TESSI_MAP_NONE ? NULL : tessi_peer_known(peers, id);
    if (peer == NULL || peer->in != handle) {
        return;
    }
    in_close(peer);
    /* A worker's leases stand until the scheduler says that it is gone, or it connects again: it may be reading. */
    if (!peer->announced) {
        tessi_peer_emit(peer, TESSI_FLOW_PEER_LOST);
        peer_end(peer);
    }
}

static void in_ready(struct tessi_source *source, uint32_t events)
{
    struct tessi_peers *peers = (struct tessi_peers *)source; /* its first member */
    struct tessi_net_event event;
    while (tessi_server_receive(peers->server, &event) == TESSI_OK) {
        switch (event.kind) {
        case TESSI_NET_READY:
            break;
        case TESSI_NET_GONE:
            in_gone(peers, event.peer);
            break;
        case TESSI_NET_MESSAGE:
            in_message(peers, &event);
            break;
        }
        tessi_net_event_clear(&event);
    }
    if ((events & TESSI_POLL_WRITE) != 0) {
        for (size_t i = 0; i < peers->count; i++) {
            tessi_peer_touch(peers->all[i]);
        }
    }
}

/* ——— life ——— */

static void on_bell(struct tessi_source *source, uint32_t events)
{
    struct tessi_peers *peers = (struct tessi_peers *)((char *)source - offsetof(struct tessi_peers, post_source));
    (void)events;
    tessi_line_post_answer_bell(peers->post);
}

static void wake_poller(void *context)
{
    struct tessi_peers *peers = context;
    tessi_poller_wake(peers->config.poller);
}

enum tessi_status tessi_peers_create(const struct tessi_peers_config *config, struct tessi_peers **out,
                                     struct tessi_error *error)
{
    *out = NULL;
    enum tessi_status status;
    struct tessi_peers *peers = tessi_zalloc(sizeof *peers);
    peers->source.ready = in_ready;
    peers->post_source.ready = on_bell;
    peers->config = *config;
    peers->retry_ns = INT64_MAX;
    tessi_map_init(&peers->by_id);
    tessi_map_init(&peers->by_handle);
    tessi_map_init(&peers->pull_of);
    (void)!getrandom(&peers->nonce, sizeof peers->nonce, GRND_NONBLOCK);
    bool inproc = strncmp(config->listen, "inproc://", 9) == 0;
    struct tessi_net_options options = {.frame_bytes_max = inproc ? FRAME_BYTES_INPROC : FRAME_BYTES_MAX,
                                        .first_bytes_max = FIRST_BYTES,
                                        .linger_ms = 500};
    TESSI_TRY(tessi_server_open(config->net, config->listen, &options, &peers->server, error));
    TESSI_TRY(tessi_copier_create(wake_poller, peers, &peers->copier, error));
    int descriptor = tessi_arena_descriptor(tessi_store_arena(config->store));
    if (descriptor >= 0 && !inproc) {
        struct tessi_error why;
        /* Without it blocks are sent; that is slower and nothing else. */
        if (tessi_share_open(tessi_peers_endpoint(peers), descriptor, &peers->share, &why) != TESSI_OK) {
            tessi_log_event(TESSI_LOG_WARN, "memory_not_shared", "reason=" TESSI_LOG_TEXT, why.text);
        }
        if (tessi_line_post_open(tessi_peers_endpoint(peers), &peers->post, &why) != TESSI_OK) {
            tessi_log_event(TESSI_LOG_WARN, "no_lines", "reason=" TESSI_LOG_TEXT, why.text);
        }
    }
    peers->config.listen = NULL; /* the caller's */
    *out = peers;
    return TESSI_OK;
cleanup:
    tessi_copier_destroy(peers->copier);
    tessi_server_close(peers->server);
    tessi_free(peers);
    return status;
}

void tessi_peers_destroy(struct tessi_peers *peers)
{
    if (peers == NULL) {
        return;
    }
    tessi_share_close(peers->share);
    tessi_peer_pull_cancel(peers, 0);
    for (size_t i = 0; i < peers->count; i++) {
        peer_destroy(peers->all[i]);
    }
    tessi_copier_destroy(peers->copier);
    if (peers->begun) {
        tessi_poller_remove_server(peers->config.poller, peers->server);
    }
    if (peers->begun && peers->post != NULL) {
        tessi_poller_remove_fd(peers->config.poller, tessi_line_post_bell(peers->post));
    }
    tessi_line_post_close(peers->post);
    tessi_server_close(peers->server);
    tessi_map_fini(&peers->by_id);
    tessi_map_fini(&peers->by_handle);
    tessi_map_fini(&peers->pull_of);
    tessi_buffer_fini(&peers->buffer);
    tessi_free(peers->pulls);
    tessi_free(peers->free_pulls);
    tessi_free(peers->touched);
    tessi_free(peers->all);
    tessi_free(peers);
}

const char *tessi_peers_endpoint(const struct tessi_peers *peers)
{
    return tessi_server_endpoint(peers->server);
}

enum tessi_status tessi_peers_begin(struct tessi_peers *peers, uint64_t run_id, uint32_t self,
                                    struct tessi_error *error)
{
    TESS_ASSERT(!peers->begun);
    peers->run_id = run_id;
    peers->self = self;
    enum tessi_status status = tessi_poller_add_server(peers->config.poller, peers->server, &peers->source, error);
    peers->begun = status == TESSI_OK;
    if (peers->begun && peers->post != NULL) {
        status = tessi_poller_add_fd(peers->config.poller, tessi_line_post_bell(peers->post), TESSI_POLL_READ,
                                     &peers->post_source, error);
    }
    return status;
}

void tessi_peers_up(struct tessi_peers *peers, uint32_t id, const char *address, bool same_host)
{
    struct peer *peer = tessi_peer_record(peers, id);
    if (peer->announced) {
        return;
    }
    peer->announced = true;
    (void)snprintf(peer->address, sizeof peer->address, "%s", address);
    bool inproc = strncmp(address, "inproc://", 9) == 0;
    if (same_host && !inproc) {
        struct tessi_mapping *mapping;
        struct tessi_error error;
        if (tessi_mapping_open(address, &mapping, &error) == TESSI_OK) {
            peer->neighbour = tessi_zalloc(sizeof *peer->neighbour);
            peer->neighbour->mapping = mapping;
            peer->neighbour->peers = peers;
            peers->neighbour_count++;
        } else {
            tessi_log_event(TESSI_LOG_INFO, "memory_not_mapped", "peer=%" PRIu32 " reason=" TESSI_LOG_TEXT, id,
                            error.text);
        }
    }
    tessi_peer_emit(peer, TESSI_FLOW_PEER_UP);
}

void tessi_peers_lost(struct tessi_peers *peers, uint32_t id)
{
    struct peer *peer = tessi_peer_known(peers, id);
    if (peer != NULL) {
        peer_end(peer);
        tessi_peer_emit(peer, TESSI_FLOW_PEER_LOST);
    } else {
        struct tessi_flow_event event = {.kind = TESSI_FLOW_PEER_LOST, .peer = id};
        peers->config.event(peers->config.context, &event, &(struct tessi_peer_data){0});
    }
}

/* ——— the loop ——— */

/* The connection to a peer that the scheduler still knows has ended. */
static void begin_anew(struct peer *peer, int64_t now_ns)
{
    peer->broken = false;
    if (!peer->announced) {
        tessi_peer_emit(peer, TESSI_FLOW_PEER_LOST);
        peer_end(peer);
        return;
    }
    out_close(peer);
    tessi_peer_pull_cancel(peer->peers, peer->id);
    peer->retry_ns = now_ns + RETRY_NS;
    tessi_peer_emit(peer, TESSI_FLOW_PEER_LOST);
    tessi_peer_emit(peer, TESSI_FLOW_PEER_UP);
}

static void remove_at(struct tessi_peers *peers, size_t at)
{
    struct peer *peer = peers->all[at];
    struct peer *last = peers->all[--peers->count];
    peers->all[at] = last;
    if (last != peer && !last->lost) {
        tessi_map_put(&peers->by_id, (struct tessi_map_key){0, last->id}, (uint32_t)at);
    }
    for (size_t i = 0; peer->touched && i < peers->touched_count; i++) {
        if (peers->touched[i] == peer) {
            peers->touched[i] = peers->touched[--peers->touched_count];
            break;
        }
    }
    peer_destroy(peer);
}

/* Look after every peer; only when one asked for it. */
static void attend(struct tessi_peers *peers, int64_t now_ns)
{
    peers->attention = false;
    peers->retry_ns = INT64_MAX;
    for (size_t i = 0; i < peers->count;) {
        struct peer *peer = peers->all[i];
        if (peer->broken && !peer->lost) {
            begin_anew(peer, now_ns);
        }
        if (peer->lost) {
            remove_at(peers, i);
            continue;
        }
        if (peer->announced && peer->out == NULL && peer->out_waiting.first != NULL) {
            (void)tessi_peer_connect(peer);
        }
        i++;
    }
}

bool tessi_peers_hear(struct tessi_peers *peers, int64_t now_ns)
{
    bool heard = false;
    for (size_t i = 0; peers->line_count > 0 && i < peers->count; i++) {
        struct peer *peer = peers->all[i];
        bool own = tessi_peer_hear(peer, true), other = tessi_peer_hear(peer, false);
        const struct tessi_line *spoken = other ? peer->in_line : own ? peer->out_line : NULL;
        if (spoken != NULL && peer->id > peers->self) {
            peers->crowded = tessi_line_shares_processor(spoken) ? peers->crowded + 1 : 0;
        }
        if (own || other || peer->out_waiting.first != NULL || peer->in_waiting.first != NULL) {
            tessi_peer_touch(peer);
        }
        heard = heard || own || other;
    }
    peers->lines_used_ns = heard ? now_ns : peers->lines_used_ns;
    return heard;
}

bool tessi_peers_called(const struct tessi_peers *peers)
{
    bool called = false;
    for (size_t i = 0; peers->line_count > 0 && i < peers->count && !called; i++) {
        const struct peer *peer = peers->all[i];
        called = (peer->out_line != NULL && peer->out_welcomed && tessi_line_calls(peer->out_line)) ||
                 (peer->in_line != NULL && tessi_line_calls(peer->in_line));
    }
    return called;
}

bool tessi_peers_sleep(struct tessi_peers *peers)
{
    for (size_t i = 0; peers->line_count > 0 && i < peers->count; i++) {
        struct peer *peer = peers->all[i];
        if (peer->out_line != NULL) {
            tessi_line_sleep(peer->out_line);
        }
        if (peer->in_line != NULL) {
            tessi_line_sleep(peer->in_line);
        }
    }
    return !tessi_peers_called(peers);
}

bool tessi_peers_crowded(struct tessi_peers *peers)
{
    bool crowded = peers->crowded >= CROWDED_MIN;
    peers->crowded = crowded ? 0 : peers->crowded;
    return crowded;
}

uint32_t tessi_peers_neighbours(const struct tessi_peers *peers)
{
    return peers->neighbour_count;
}

int64_t tessi_peers_lines_used(const struct tessi_peers *peers)
{
    return peers->line_count > 0 ? peers->lines_used_ns : INT64_MIN;
}

void tessi_peers_work(struct tessi_peers *peers, int64_t now_ns)
{
    tessi_peers_pulls_work(peers);
    if (peers->attention || now_ns >= peers->retry_ns) {
        attend(peers, now_ns);
    }
    for (size_t i = 0; i < peers->count; i++) {
        if (peers->all[i]->sending != NULL) {
            tessi_peer_touch(peers->all[i]);
        }
    }
}

void tessi_peers_flush(struct tessi_peers *peers)
{
    while (peers->touched_count > 0) {
        struct peer *peer = peers->touched[--peers->touched_count];
        peer->touched = false;
        if (!peer->lost) {
            tessi_peer_flush(peer);
        }
    }
}

int64_t tessi_peers_deadline(const struct tessi_peers *peers)
{
    return peers->attention ? 0 : peers->retry_ns;
}

bool tessi_peers_idle(const struct tessi_peers *peers)
{
    for (size_t i = 0; i < peers->count; i++) {
        const struct peer *peer = peers->all[i];
        if (!peer->lost && (peer->sending != NULL || peer->touched || !tessi_peer_credit_idle(peer->credit))) {
            return false;
        }
    }
    return true;
}

struct tessi_peers_gauges tessi_peers_gauges(const struct tessi_peers *peers)
{
    return peers->gauges;
}
