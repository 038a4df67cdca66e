#include "client/link.h"

#include <stdio.h>
#include <string.h>

#include "client/link_io.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/signals.h"
#include "core/base/log.h"

#define READY_MAX 16
#define BACK_NS (10 * TESSI_NS_PER_S) /* after the program was stopped for long: the connection has ended for that */
#define IDLE_NS (5 * TESSI_NS_PER_MS) /* that messages wait for company */

/* ——— what both sides use ——— */

void tessi_link_fail(struct tessi_link *link, enum tessi_status status, const char *text)
{
    pthread_mutex_lock(&link->lock);
    if (link->fatal.status == TESSI_OK) {
        tessi_fail(&link->fatal, status, "%s", text);
    }
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

struct tessi_wanted *tessi_wanted_find(struct tessi_link *link, uint32_t id)
{
    uint32_t position = tessi_map_get(&link->wanted_by_id, tessi_link_key(id));
    return position == TESSI_MAP_NONE ? NULL : &link->wanted[position];
}

void tessi_wanted_fail(struct tessi_wanted *wanted, enum tessi_status status, const char *text)
{
    tessi_free(wanted->text);
    wanted->text = tessi_strdup(text);
    wanted->status = status;
    wanted->state = TESSI_LAYER_FAILED;
}

enum tessi_status tessi_wanted_failure(const struct tessi_wanted *wanted, struct tessi_error *error)
{
    if (wanted == NULL || wanted->state != TESSI_LAYER_FAILED) {
        return TESSI_OK;
    }
    const char *text = wanted->text[0] != 0 ? wanted->text : tessi_status_text(wanted->status);
    return tessi_fail(error, wanted->status, "%s", text);
}

bool tessi_link_layer_complete(struct tessi_link *link, uint32_t id)
{
    pthread_mutex_lock(&link->lock);
    const struct tessi_wanted *wanted = tessi_wanted_find(link, id);
    bool complete = wanted != NULL && wanted->state == TESSI_LAYER_COMPLETE;
    pthread_mutex_unlock(&link->lock);
    return complete;
}

enum tessi_status tessi_link_layer_failure(struct tessi_link *link, uint32_t id, struct tessi_error *error)
{
    pthread_mutex_lock(&link->lock);
    enum tessi_status status = tessi_wanted_failure(tessi_wanted_find(link, id), error);
    pthread_mutex_unlock(&link->lock);
    return status;
}

/* ——— the I/O thread ——— */

void tessi_link_post(struct tessi_link *link, const struct tessi_message *message)
{
    tessi_outbound_add(&link->out, message, NULL);
}

/* A status that came over the wire, where any number can be. */
static enum tessi_status known_status(uint32_t code)
{
    switch ((enum tessi_status)code) {
#define TESSI_ROW(name, number, text) case TESSI_##name:
        TESSI_STATUS_TABLE(TESSI_ROW)
#undef TESSI_ROW
        return code == TESSI_OK ? TESSI_FAILED : (enum tessi_status)code;
    }
    return TESSI_FAILED;
}

void tessi_wanted_forget(struct tessi_link *link, struct tessi_wanted *wanted)
{
    tessi_free(wanted->text);
    uint32_t id = wanted->id;
    link->released_count -= wanted->released;
    *wanted = link->wanted[--link->wanted_count];
    tessi_map_put(&link->wanted_by_id, tessi_link_key(wanted->id), (uint32_t)(wanted - link->wanted));
    (void)tessi_map_remove(&link->wanted_by_id, tessi_link_key(id));
}

/* Of a small layer, which nobody waits for: told with the next message, if there is one soon. */
static void post_release(struct tessi_link *link, uint32_t id)
{
    struct tessi_message message = {.type = TESSI_MSG_RELEASE, .run_id = link->run_id};
    message.as.release.ids = (struct tessi_id_list){&id, 1};
    link->idle_ns = link->idle.first == NULL ? tessi_clock_now() : link->idle_ns;
    tessi_outbound_add(&link->idle, &message, NULL);
}

/* If it was released while it was under way and is not any more, it goes; the lock is held. */
static void release_ended(struct tessi_link *link, struct tessi_wanted *wanted)
{
    if (wanted != NULL && wanted->released && wanted->state != TESSI_LAYER_COMPUTING) {
        link->elapsed_ns = wanted->elapsed_ns;
        post_release(link, wanted->id);
        tessi_wanted_forget(link, wanted);
    }
}

static void take_refused(struct tessi_link *link, const struct tessi_msg_refused *refused)
{
    enum tessi_status status = known_status(refused->status);
    for (size_t i = link->wanted_count; i-- > 0;) {
        struct tessi_wanted *wanted = &link->wanted[i];
        if (wanted->first <= refused->request && refused->request <= wanted->request &&
            wanted->state == TESSI_LAYER_COMPUTING) { /* else an earlier part has been refused, which says more */
            tessi_wanted_fail(wanted, status, refused->text);
            release_ended(link, wanted);
        }
    }
    if (refused->request != link->refused_request + 1) { /* else perhaps the next part, for want of the one before it */
        tessi_fail(&link->refusal, status, "%s", refused->text);
    }
    link->refused_request = refused->request;
    tessi_serve_refused(link, refused->request);
}

/* The scheduler gives the name of the layer once more. One that was released meanwhile is held again; of one that is
 * held, the first name is given back. The lock is held. */
static void take_detached(struct tessi_link *link, uint32_t id)
{
    struct tessi_wanted *known = tessi_wanted_find(link, id);
    if (known != NULL) {
        known->detached = true;
        post_release(link, id);
    } else {
        tessi_map_put(&link->wanted_by_id, tessi_link_key(id), (uint32_t)link->wanted_count);
        tessi_grow(&link->wanted, &link->wanted_capacity, link->wanted_count + 1, sizeof *link->wanted);
        link->wanted[link->wanted_count++] = (struct tessi_wanted){.id = id, .state = TESSI_LAYER_COMPLETE, .detached = true};
    }
    tessi_grow(&link->detached, &link->detached_capacity, link->detached_count + 1, sizeof *link->detached);
    link->detached[link->detached_count++] = id;
}

/* What the scheduler says about wanted layers; the lock is held. */
static void take_news(struct tessi_link *link, const struct tessi_message *message)
{
    struct tessi_wanted *wanted = NULL;
    if (message->type == TESSI_MSG_REFUSED) {
        take_refused(link, &message->as.refused);
    } else if (message->type == TESSI_MSG_PROGRESS) {
        const struct tessi_msg_progress *told = &message->as.progress;
        link->progress[told->request % TESSI_PROGRESSES] =
            (struct tessi_progress){told->request, told->done, told->total};
        if (link->watchers == 0) {
            return; /* nobody need be woken for it */
        }
    } else if (message->type == TESSI_MSG_ACCEPTED) {
        return;
    } else if (message->type == TESSI_MSG_DONE) {
        wanted = tessi_wanted_find(link, message->as.done.layer);
        link->counts = message->as.done.stats;
        if (wanted != NULL && wanted->state == TESSI_LAYER_COMPUTING) {
            wanted->state = TESSI_LAYER_COMPLETE;
            wanted->elapsed_ns = message->as.done.elapsed_ns;
        }
        if (wanted != NULL && wanted->released && link->settlers == 0) {
            release_ended(link, wanted);
            return;
        }
    } else if (message->type == TESSI_MSG_FAILED) {
        wanted = tessi_wanted_find(link, message->as.failed.layer);
        if (wanted != NULL && wanted->state == TESSI_LAYER_COMPLETE) { /* held, and a block of it cannot be had now */
            tessi_transfer_layer_failed(link, wanted->id, known_status(message->as.failed.status),
                                        message->as.failed.text);
        } else if (wanted != NULL && wanted->state != TESSI_LAYER_FAILED) {
            tessi_wanted_fail(wanted, known_status(message->as.failed.status), message->as.failed.text);
        }
    } else if (message->type == TESSI_MSG_STATUS_REPLY) {
        tessi_free(link->document);
        link->document = tessi_strdup(message->as.status_reply.json);
    } else if (message->type == TESSI_MSG_DETACHED) {
        for (size_t i = 0; i < message->as.detached.ids.count; i++) {
            take_detached(link, message->as.detached.ids.items[i]);
        }
        return;
    } else if (message->type == TESSI_MSG_DROP_LAYERS) { /* of our data, which nobody will ask for under these names */
        for (size_t i = 0; i < message->as.drop_layers.ids.count; i++) {
            tessi_serve_end(link, message->as.drop_layers.ids.items[i]);
        }
        return;
    }
    release_ended(link, wanted);
    pthread_cond_broadcast(&link->changed);
}

static void take_push(struct tessi_link *link, const struct tessi_msg_push *push)
{
    struct tessi_remote *peer = tessi_remote_find(link, push->worker);
    if (peer != NULL) {
        (void)tessi_remote_ready(peer, tessi_clock_now()); /* it pulls once it knows us */
    }
}

/* Who was stopped for long has been given up meanwhile, and the end of the connection does not say so. */
static void lose_scheduler(struct tessi_link *link, enum tessi_status status, const char *text)
{
    char why[sizeof ((struct tessi_error *)0)->text];
    if (link->away_ns > 0 && tessi_clock_now() - link->back_ns < BACK_NS) {
        (void)snprintf(why, sizeof why,
                       "this program was stopped for %.0f s, and who is silent for so long is given up and its arrays "
                       "are released: open the session again (%s)",
                       (double)link->away_ns / 1e9, text);
        text = why;
    }
    tessi_link_fail(link, status, text);
}

static void take_scheduler_message(struct tessi_link *link, const struct tessi_message *message)
{
    if (message->type == TESSI_MSG_PEER_UP) {
        tessi_remote_up(link, message->as.peer_up.worker, message->as.peer_up.address, message->as.peer_up.writes);
    } else if (message->type == TESSI_MSG_PEER_LOST) {
        tessi_remote_lost(link, message->as.peer_lost.worker);
    } else if (message->type == TESSI_MSG_LOCATION) {
        if (link->transfer != NULL) {
            tessi_transfer_location(link, &message->as.location.spans);
        }
    } else if (message->type == TESSI_MSG_PUSH) {
        take_push(link, &message->as.push);
    } else if (message->type == TESSI_MSG_BYE) {
        lose_scheduler(link, TESSI_CLOSED, message->as.bye.text);
    } else if (message->type == TESSI_MSG_SHUTDOWN) {
        tessi_link_fail(link, TESSI_CLOSED, message->as.shutdown.text);
    } else {
        pthread_mutex_lock(&link->lock);
        take_news(link, message);
        pthread_mutex_unlock(&link->lock);
    }
}

static void receive_from_scheduler(struct tessi_link *link)
{
    struct tessi_net_event event;
    while (tessi_client_receive(link->scheduler, &event) == TESSI_OK) {
        struct tessi_message message;
        struct tessi_error error = {0};
        if (event.kind == TESSI_NET_GONE) {
            const struct tessi_error *why = tessi_client_error(link->scheduler);
            lose_scheduler(link, why->status == TESSI_OK ? TESSI_LOST : why->status, why->text);
        } else if (event.kind == TESSI_NET_MESSAGE) {
            if (tessi_message_unpack(event.frames[0].data, event.frames[0].size, &message, &error) != TESSI_OK) {
                tessi_log_event(TESSI_LOG_WARN, "message_dropped", "from=scheduler reason=" TESSI_LOG_TEXT, error.text);
                if (error.status == TESSI_NOMEM) { /* somebody waits for what it said */
                    tessi_link_fail(link, TESSI_NOMEM, "out of memory: a long message of the scheduler could not be read");
                }
            } else {
                if (message.run_id == link->run_id) {
                    take_scheduler_message(link, &message);
                }
                tessi_message_fini(&message);
            }
        }
        tessi_net_event_clear(&event);
    }
}

/* Take what callers have queued; false when the link is to be closed. */
static bool take_commands(struct tessi_link *link)
{
    pthread_mutex_lock(&link->lock);
    if (!link->held) {
        tessi_send_queue_move(&link->out, &link->queued);
    }
    if (link->asked != NULL && link->transfer == NULL && link->fatal.status == TESSI_OK) {
        link->transfer = link->asked;
    }
    bool closing = link->closing;
    pthread_mutex_unlock(&link->lock);
    return !closing;
}

static void end_transfer(struct tessi_link *link)
{
    struct tessi_error error;
    if (link->transfer != NULL && tessi_transfer_finished(link->transfer, &error)) {
        pthread_mutex_lock(&link->lock);
        link->asked = NULL;
        link->transfer = NULL;
        pthread_cond_broadcast(&link->changed);
        pthread_mutex_unlock(&link->lock);
    }
}

/* After the end of the connection nothing more can come: whoever waits for blocks is told. */
static void end_when_dead(struct tessi_link *link)
{
    pthread_mutex_lock(&link->lock);
    struct tessi_error fatal = link->fatal;
    bool waits = link->asked != NULL;
    if (waits && fatal.status != TESSI_OK) {
        tessi_transfer_fail(link->asked, fatal.status, fatal.text);
        link->asked = NULL;
        link->transfer = NULL;
        pthread_cond_broadcast(&link->changed);
    }
    pthread_mutex_unlock(&link->lock);
}

static void send_to_scheduler(struct tessi_link *link, int64_t now_ns)
{
    int64_t heartbeat_ns = link->heartbeat_ms * TESSI_NS_PER_MS / 2;
    if (link->out.first == NULL && now_ns - link->sent_ns >= heartbeat_ns) {
        struct tessi_message heartbeat = {.type = TESSI_MSG_HEARTBEAT, .run_id = link->run_id};
        tessi_link_post(link, &heartbeat);
    }
    bool overdue = link->idle.first != NULL && now_ns - link->idle_ns >= IDLE_NS;
    if (link->out.first != NULL || overdue) {
        struct tessi_send_queue hurried = link->out;
        link->out = link->idle;
        link->idle = (struct tessi_send_queue){0};
        tessi_send_queue_move(&link->out, &hurried);
        link->sent_ns = now_ns;
        (void)tessi_outbound_flush(&link->out, link->scheduler);
    }
}

static void *run(void *argument)
{
    struct tessi_link *link = argument;
    struct tessi_ready ready[READY_MAX];
    while (take_commands(link)) {
        int64_t now_ns = tessi_clock_now();
        if (link->transfer != NULL) {
            tessi_transfer_pump(link, now_ns);
        }
        int64_t next_ns = tessi_remote_tend(link, now_ns);
        end_when_dead(link);
        end_transfer(link);
        send_to_scheduler(link, now_ns);
        int64_t beat_ns = link->sent_ns + link->heartbeat_ms * TESSI_NS_PER_MS / 2;
        next_ns = beat_ns < next_ns ? beat_ns : next_ns;
        int64_t pushed_ns = link->transfer != NULL ? tessi_transfer_deadline(link->transfer) : INT64_MAX;
        next_ns = pushed_ns < next_ns ? pushed_ns : next_ns;
        int64_t idle_ns = link->idle.first != NULL ? link->idle_ns + IDLE_NS : INT64_MAX;
        next_ns = idle_ns < next_ns ? idle_ns : next_ns;
        uint32_t count = tessi_poller_wait(link->poller, next_ns > now_ns ? next_ns - now_ns : 0, ready, READY_MAX);
        int64_t late_ns = tessi_clock_now() - (next_ns > now_ns ? next_ns : now_ns);
        if (2 * late_ns > 5 * link->heartbeat_ms * TESSI_NS_PER_MS) { /* half of the time after which one is given up */
            link->away_ns = late_ns;
            link->back_ns = tessi_clock_now();
        }
        for (uint32_t i = 0; i < count; i++) {
            if (ready[i].owner == link) {
                receive_from_scheduler(link);
            } else if (ready[i].owner != NULL) {
                tessi_remote_receive(ready[i].owner);
            }
        }
    }
    struct tessi_message goodbye = {.type = TESSI_MSG_GOODBYE, .run_id = link->run_id};
    goodbye.as.goodbye.text = "session closed";
    tessi_link_post(link, &goodbye);
    (void)tessi_outbound_flush(&link->out, link->scheduler);
    return NULL;
}

/* ——— opening and closing ——— */

static enum tessi_status take_welcome(struct tessi_link *link, const struct tessi_net_event *event, bool *welcomed,
                                      struct tessi_error *error)
{
    struct tessi_message message;
    enum tessi_status status = tessi_message_unpack(event->frames[0].data, event->frames[0].size, &message, error);
    if (status != TESSI_OK) {
        tessi_error_prefix(error, "the scheduler at %s", link->address);
        return status;
    }
    if (message.type == TESSI_MSG_WELCOME) {
        *welcomed = true;
        link->id = message.as.welcome.id;
        link->run_id = message.run_id;
        link->least_memory_bytes = message.as.welcome.least_memory_bytes;
        link->heartbeat_ms = message.as.welcome.heartbeat_ms > 10 ? message.as.welcome.heartbeat_ms : 10;
    } else if (message.type == TESSI_MSG_REJECT) {
        status = tessi_fail(error, known_status(message.as.reject.status),
                            "the scheduler at %s rejects this client: %s", link->address, message.as.reject.text);
    }
    tessi_message_fini(&message);
    return status;
}

static enum tessi_status introduce(struct tessi_link *link, const struct tessi_link_config *config, int64_t deadline_ns,
                                   struct tessi_error *error)
{
    struct tessi_message hello = {.type = TESSI_MSG_HELLO_CLIENT};
    hello.as.hello_client.name = config->name;
    tessi_outbound_add(&link->out, &hello, NULL);
    (void)tessi_outbound_flush(&link->out, link->scheduler);
    enum tessi_status status = TESSI_OK;
    bool welcomed = false;
    while (status == TESSI_OK && !welcomed) {
        struct tessi_net_event event;
        int64_t left_ns = deadline_ns - tessi_clock_now();
        if (tessi_client_wait(link->scheduler, left_ns > 0 ? left_ns : 0) == TESSI_TIMEOUT) { /* what waits is taken */
            return tessi_fail(error, TESSI_UNREACHABLE,
                              "the scheduler at %s accepts the connection but does not answer: "
                              "see whether it is overloaded or stopped",
                              link->address);
        }
        enum tessi_status received = tessi_client_receive(link->scheduler, &event);
        if (received == TESSI_BUSY) {
            continue;
        }
        if (received != TESSI_OK || event.kind == TESSI_NET_GONE) {
            const struct tessi_error *why = tessi_client_error(link->scheduler);
            return tessi_fail(error, why->status == TESSI_OK ? TESSI_LOST : why->status, "%s", why->text);
        }
        if (event.kind == TESSI_NET_MESSAGE) {
            status = take_welcome(link, &event, &welcomed, error);
        }
        tessi_net_event_clear(&event);
    }
    return status;
}

static void free_link(struct tessi_link *link)
{
    tessi_remote_fini(link);
    if (link->scheduler != NULL) {
        if (link->poller != NULL) {
            tessi_poller_remove_client(link->poller, link->scheduler);
        }
        tessi_client_close(link->scheduler);
    }
    tessi_poller_destroy(link->poller);
    tessi_send_queue_fini(&link->out);
    tessi_send_queue_fini(&link->idle);
    tessi_send_queue_fini(&link->queued);
    tessi_serve_fini(link);
    for (size_t i = 0; i < link->wanted_count; i++) {
        tessi_free(link->wanted[i].text);
    }
    tessi_free(link->wanted);
    tessi_free(link->detached);
    tessi_map_fini(&link->wanted_by_id);
    tessi_free(link->document);
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->lock);
    tessi_free(link);
}

static void init_condition(struct tessi_link *link)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&link->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&link->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

enum tessi_status tessi_link_open(const struct tessi_link_config *config, struct tessi_link **result,
                                  struct tessi_error *error)
{
    struct tessi_link *link = tessi_zalloc(sizeof *link);
    enum tessi_status status;
    int64_t deadline_ns = tessi_clock_now() + config->timeout_ms * TESSI_NS_PER_MS;
    init_condition(link);
    link->net = config->net;
    snprintf(link->address, sizeof link->address, "%s", config->address);
    struct tessi_net_options options = {
        .frame_bytes_max = TESSI_MESSAGE_MAX + 4096,
        .connect_timeout_ms = config->timeout_ms,
        .remote_name = "the scheduler",
    };
    TESSI_TRY(tessi_client_connect(link->net, config->address, &options, &link->scheduler, error));
    /* An answer is due soon even where the connection took its time. */
    if (deadline_ns < tessi_clock_now() + TESSI_NS_PER_S) {
        deadline_ns = tessi_clock_now() + TESSI_NS_PER_S;
    }
    TESSI_TRY(introduce(link, config, deadline_ns, error));
    struct tessi_poller *poller;
    TESSI_TRY(tessi_poller_create(&poller, error));
    status = tessi_poller_add_client(poller, link->scheduler, link, error);
    if (status != TESSI_OK) {
        tessi_poller_destroy(poller);
        goto cleanup;
    }
    link->poller = poller;
    link->sent_ns = tessi_clock_now();
    sigset_t before;
    tessi_signals_block(&before);
    int failed = pthread_create(&link->thread, NULL, run, link);
    tessi_signals_restore(&before);
    if (failed != 0) {
        status =
            tessi_fail(error, TESSI_IO, "no thread for the session: %s; raise the limit on threads", strerror(failed));
        goto cleanup;
    }
    *result = link;
    return TESSI_OK;
cleanup:
    free_link(link);
    *result = NULL;
    return status;
}

void tessi_link_close(struct tessi_link *link)
{
    if (link == NULL) {
        return;
    }
    pthread_mutex_lock(&link->lock);
    link->closing = true;
    pthread_mutex_unlock(&link->lock);
    tessi_poller_wake(link->poller);
    pthread_join(link->thread, NULL);
    free_link(link);
}
