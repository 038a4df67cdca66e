#include "core/net/context.h"

#include <errno.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/signals.h"
#include "core/net/endpoint.h"

/* A ZAP request: version, request id, domain, address, routing id, mechanism, credentials… */
enum { ZAP_PARTS = 8, ZAP_PARTS_MIN = 6, ZAP_REQUEST_ID = 1, ZAP_MECHANISM = 5, ZAP_CREDENTIALS = 6 };
enum { NUMBERS = 10000 }; /* what leaves room in the name of a thread */

static bool part_is(zmq_msg_t *part, const void *bytes, size_t size)
{
    return zmq_msg_size(part) == size && memcmp(zmq_msg_data(part), bytes, size) == 0;
}

static bool door_admits(const struct tessi_net *net, zmq_msg_t *parts, int count)
{
    if (count < ZAP_PARTS_MIN || !part_is(&parts[0], "1.0", 3)) {
        return false;
    }
    if (!net->is_encrypted) {
        return part_is(&parts[ZAP_MECHANISM], "NULL", 4);
    }
    return count > ZAP_CREDENTIALS && part_is(&parts[ZAP_MECHANISM], "CURVE", 5) &&
           part_is(&parts[ZAP_CREDENTIALS], net->public_key, sizeof net->public_key);
}

static void door_reply(void *socket, zmq_msg_t *request_id, bool admit)
{
    const char *texts[] = {admit ? "200" : "400", admit ? "ok" : "unknown key", admit ? "cluster" : "", ""};
    int rc = zmq_send(socket, "1.0", 3, ZMQ_SNDMORE);
    rc = rc < 0 ? rc : zmq_send(socket, zmq_msg_data(request_id), zmq_msg_size(request_id), ZMQ_SNDMORE);
    for (size_t i = 0; i < 4 && rc >= 0; i++) {
        rc = zmq_send(socket, texts[i], strlen(texts[i]), i < 3 ? ZMQ_SNDMORE : 0);
    }
}

/* Takes one request; false when the context is ending. */
static bool door_serve(struct tessi_net *net)
{
    zmq_msg_t parts[ZAP_PARTS];
    int count = 0;
    bool more = true;
    bool alive = true;
    while (more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, net->door_socket, 0) < 0) {
            int cause = zmq_errno();
            zmq_msg_close(&part);
            if (cause == EINTR) {
                continue;
            }
            alive = false;
            break;
        }
        more = zmq_msg_more(&part) != 0;
        if (count < ZAP_PARTS) {
            zmq_msg_init(&parts[count]);
            zmq_msg_move(&parts[count++], &part);
            zmq_msg_close(&part);
        } else {
            zmq_msg_close(&part);
        }
    }
    if (alive && count > ZAP_REQUEST_ID) {
        bool admit = door_admits(net, parts, count);
        if (!admit) {
            atomic_fetch_add_explicit(&net->keys_refused, 1, memory_order_relaxed);
        }
        door_reply(net->door_socket, &parts[ZAP_REQUEST_ID], admit);
    }
    for (int i = 0; i < count; i++) {
        zmq_msg_close(&parts[i]);
    }
    return alive;
}

static void *door_main(void *argument)
{
    struct tessi_net *net = argument;
    while (door_serve(net)) {
    }
    zmq_close(net->door_socket);
    return NULL;
}

static enum tessi_status door_open(struct tessi_net *net, struct tessi_error *error)
{
    int zero = 0;
    net->door_socket = tessi_endpoint_numbered(net->zmq, ZMQ_REP);
    if (net->door_socket == NULL || zmq_setsockopt(net->door_socket, ZMQ_LINGER, &zero, sizeof zero) != 0 ||
        zmq_bind(net->door_socket, "inproc://zeromq.zap.01") != 0) {
        enum tessi_status status =
            tessi_fail(error, TESSI_IO, "cannot start the network: %s", zmq_strerror(zmq_errno()));
        if (net->door_socket != NULL) {
            zmq_close(net->door_socket);
        }
        return status;
    }
    sigset_t before;
    tessi_signals_block(&before);
    int rc = pthread_create(&net->door_thread, NULL, door_main, net);
    tessi_signals_restore(&before);
    if (rc != 0) {
        zmq_close(net->door_socket);
        return tessi_fail(error, TESSI_IO, "cannot start the network's thread: %s; raise `ulimit -u`", strerror(rc));
    }
    return TESSI_OK;
}

enum tessi_status tessi_net_create(const char *keys_dir, struct tessi_net **net_out, struct tessi_error *error)
{
    static atomic_uint numbers;
    enum tessi_status status = TESSI_OK;
    struct tessi_net *net = tessi_zalloc(sizeof *net);
    *net_out = NULL;
    if (keys_dir != NULL) {
        TESSI_TRY(tessi_keys_load(keys_dir, &net->keys, error));
        net->is_encrypted = true;
        const void *decoded = zmq_z85_decode(net->public_key, net->keys.public_key);
        TESS_ASSERT(decoded != NULL); /* tessi_keys_load has checked it. */
    }
    net->zmq = zmq_ctx_new();
    if (net->zmq == NULL) {
        TESSI_TRY(tessi_fail(error, TESSI_IO, "cannot start the network: %s", zmq_strerror(zmq_errno())));
    }
    /* A worker has a client for each neighbour, and every client takes three sockets. */
    int rc = zmq_ctx_set(net->zmq, ZMQ_MAX_SOCKETS, 60000);
    TESS_ASSERT(rc == 0);
    net->number = atomic_fetch_add(&numbers, 1) % NUMBERS;
    rc = zmq_ctx_set(net->zmq, ZMQ_THREAD_NAME_PREFIX, (int)net->number);
    TESS_ASSERT(rc == 0);
    TESSI_TRY(door_open(net, error));
    *net_out = net;
    return TESSI_OK;
cleanup:
    if (net->zmq != NULL) {
        zmq_ctx_term(net->zmq);
    }
    tessi_keys_wipe(&net->keys);
    tessi_free(net);
    return status;
}

void tessi_net_destroy(struct tessi_net *net)
{
    if (net == NULL) {
        return;
    }
    TESS_ASSERT(atomic_load(&net->endpoints_open) == 0);
    zmq_ctx_shutdown(net->zmq); /* ends the door-keeper's receive */
    pthread_join(net->door_thread, NULL);
    while (zmq_ctx_term(net->zmq) != 0 && zmq_errno() == EINTR) {
    }
    tessi_keys_wipe(&net->keys);
    tessi_free(net);
}

bool tessi_net_is_encrypted(const struct tessi_net *net)
{
    return net->is_encrypted;
}

struct tessi_net_counters tessi_net_counters_read(const struct tessi_net *net)
{
    return (struct tessi_net_counters){
        .keys_refused = atomic_load_explicit(&net->keys_refused, memory_order_relaxed),
        .handshakes_refused = atomic_load_explicit(&net->handshakes_refused, memory_order_relaxed),
        .messages_malformed = atomic_load_explicit(&net->messages_malformed, memory_order_relaxed),
        .messages_stale = atomic_load_explicit(&net->messages_stale, memory_order_relaxed),
    };
}
