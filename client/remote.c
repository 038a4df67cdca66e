/* Connections to workers: opened when there is something to read or to serve, one for each worker. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/link_io.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/wire/build.h"

#define RETRY_NS (500 * TESSI_NS_PER_MS)
#define FAILURES_MAX 3 /* connections in a row that failed though the scheduler still knows the worker */
#define CONNECT_TIMEOUT_MS 2000

/* Pieces of blocks come in frames of any size up to a block, between threads of one process; a worker is an
 * authenticated member of the cluster. */
#define PEER_FRAME_BYTES_MAX (UINT64_C(1) << 40)

/* So many frames of 1 MiB may wait in the socket's queue: beyond that, sending has to wait for the worker. */
#define SEND_QUEUE_MESSAGES 32

struct tessi_remote *tessi_remote_find(struct tessi_link *link, uint32_t id)
{
    for (size_t i = 0; i < link->peer_count; i++) {
        if (link->peers[i]->id == id && !link->peers[i]->lost) {
            return link->peers[i];
        }
    }
    return NULL;
}

static void count_workers(struct tessi_link *link)
{
    uint32_t workers = 0, writers = 0;
    for (size_t i = 0; i < link->peer_count; i++) {
        workers += link->peers[i]->lost ? 0 : 1;
        writers += !link->peers[i]->lost && link->peers[i]->writes;
    }
    pthread_mutex_lock(&link->lock);
    link->workers = workers;
    link->writers = writers;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

void tessi_remote_up(struct tessi_link *link, uint32_t id, const char *address, bool writes)
{
    if (tessi_remote_find(link, id) != NULL) {
        return;
    }
    struct tessi_remote *peer = tessi_zalloc(sizeof *peer);
    peer->link = link;
    peer->id = id;
    peer->writes = writes;
    snprintf(peer->address, sizeof peer->address, "%s", address);
    tessi_grow(&link->peers, &link->peer_capacity, link->peer_count + 1, sizeof *link->peers);
    link->peers[link->peer_count++] = peer;
    count_workers(link);
}

void tessi_remote_lost(struct tessi_link *link, uint32_t id)
{
    struct tessi_remote *peer = tessi_remote_find(link, id);
    if (peer != NULL) {
        peer->lost = true;
        count_workers(link);
        tessi_transfer_peer_gone(link, id);
    }
}

static void disconnect(struct tessi_remote *peer)
{
    if (peer->client != NULL) {
        tessi_poller_remove_client(peer->link->poller, peer->client);
        tessi_client_close(peer->client);
        peer->client = NULL;
    }
    tessi_send_queue_fini(&peer->out);
    tessi_serve_drop(peer);
    peer->welcomed = false;
    peer->gone = false;
}

static void connect_peer(struct tessi_remote *peer)
{
    struct tessi_link *link = peer->link;
    char remote[64];
    snprintf(remote, sizeof remote, "worker %u", peer->id);
    struct tessi_net_options options = {
        .frame_bytes_max = PEER_FRAME_BYTES_MAX,
        .send_queue_messages = SEND_QUEUE_MESSAGES,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .remote_name = remote,
    };
    struct tessi_error error = {0};
    peer->retry_ns = tessi_clock_now() + RETRY_NS;
    if (tessi_client_open(link->net, peer->address, &options, &peer->client, &error) != TESSI_OK) {
        peer->client = NULL;
        peer->why = error;
        peer->failures++;
        return;
    }
    if (tessi_poller_add_client(link->poller, peer->client, peer, &error) != TESSI_OK) {
        tessi_client_close(peer->client);
        peer->client = NULL;
        peer->failures++;
        return;
    }
    struct tessi_message hello = {.type = TESSI_MSG_PEER_HELLO, .run_id = link->run_id};
    hello.as.peer_hello.id = link->id;
    hello.as.peer_hello.nonce = (uint64_t)tessi_clock_now();
    tessi_outbound_add(&peer->out, &hello, NULL);
    tessi_outbound_flush(&peer->out, peer->client);
}

bool tessi_remote_ready(struct tessi_remote *peer, int64_t now_ns)
{
    peer->wanted = true;
    if (peer->client == NULL && !peer->lost && now_ns >= peer->retry_ns) {
        connect_peer(peer);
    }
    return peer->client != NULL && peer->welcomed && !peer->gone && !peer->lost;
}

bool tessi_remotes_welcomed(const struct tessi_link *link)
{
    bool welcomed = link->peer_count > 0;
    for (size_t i = 0; i < link->peer_count && welcomed; i++) {
        const struct tessi_remote *peer = link->peers[i];
        welcomed = peer->lost || (peer->client != NULL && peer->welcomed && !peer->gone);
    }
    return welcomed;
}

void tessi_remote_send(struct tessi_remote *peer, const struct tessi_message *message)
{
    tessi_outbound_add(&peer->out, message, NULL);
    tessi_outbound_flush(&peer->out, peer->client);
}

static void take_message(struct tessi_remote *peer, struct tessi_net_event *event)
{
    struct tessi_message message;
    struct tessi_frame *header = &event->frames[0];
    struct tessi_link *link = peer->link;
    struct tessi_error error = {0};
    if (tessi_message_unpack(header->data, header->size, &message, &error) != TESSI_OK) {
        if (error.status == TESSI_NOMEM && link->transfer != NULL) {
            tessi_transfer_fail(link->transfer, TESSI_NOMEM, error.text);
        }
        return;
    }
    bool current = message.run_id == link->run_id;
    if (current && message.type == TESSI_MSG_PEER_WELCOME) {
        peer->welcomed = true;
        peer->failures = 0;
    } else if (message.type == TESSI_MSG_REJECT) {
        peer->gone = true;
        peer->failures++;
    } else if (current && message.type == TESSI_MSG_PULL) {
        tessi_serve_pull(peer, message.as.pull.task);
    } else if (current) {
        tessi_transfer_message(link, peer, &message, &event->frames[1], event->frame_count - 1);
    }
    tessi_message_fini(&message);
}

void tessi_remote_receive(struct tessi_remote *peer)
{
    struct tessi_net_event event;
    while (peer->client != NULL && !peer->gone && tessi_client_receive(peer->client, &event) == TESSI_OK) {
        switch (event.kind) {
        case TESSI_NET_READY:
            break;
        case TESSI_NET_GONE:
            peer->failures += peer->welcomed ? 0 : 1;
            peer->gone = true;
            break;
        case TESSI_NET_MESSAGE:
            take_message(peer, &event);
            break;
        }
        tessi_net_event_clear(&event);
    }
}

static void give_up(struct tessi_remote *peer)
{
    struct tessi_link *link = peer->link;
    char text[1024];
    const struct tessi_error *why = peer->client != NULL ? tessi_client_error(peer->client) : &peer->why;
    bool is_ours = why->status == TESSI_IO; /* it never came to a connection */
    snprintf(text, sizeof text, "worker %u at %s cannot be reached from this client%s%s%s", peer->id, peer->address,
             why->text[0] != 0 ? ": " : "", why->text,
             is_ours ? "" : ": start it with an address that this host can connect to");
    if (link->transfer != NULL) {
        tessi_transfer_fail(link->transfer, TESSI_UNREACHABLE, text);
    }
    peer->failures = 0;
}

static void remove_peer(struct tessi_link *link, size_t position)
{
    struct tessi_remote *peer = link->peers[position];
    disconnect(peer);
    tessi_free(peer);
    link->peers[position] = link->peers[--link->peer_count];
}

int64_t tessi_remote_tend(struct tessi_link *link, int64_t now_ns)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < link->peer_count;) {
        struct tessi_remote *peer = link->peers[i];
        if (peer->lost) {
            remove_peer(link, i);
            continue;
        }
        if (peer->failures >= FAILURES_MAX) {
            give_up(peer);
        }
        if (peer->gone) {
            uint32_t id = peer->id;
            disconnect(peer);
            tessi_transfer_peer_gone(link, id);
        }
        if (peer->client == NULL && peer->wanted) {
            if (now_ns >= peer->retry_ns) {
                connect_peer(peer);
            }
            next = peer->client == NULL && peer->retry_ns < next ? peer->retry_ns : next;
        }
        if (peer->client != NULL && tessi_outbound_flush(&peer->out, peer->client)) {
            tessi_serve_flush(peer);
        }
        i++;
    }
    return next;
}

void tessi_remote_fini(struct tessi_link *link)
{
    while (link->peer_count > 0) {
        remove_peer(link, link->peer_count - 1);
    }
    tessi_free(link->peers);
}
