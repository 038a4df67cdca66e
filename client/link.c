#include "client/link.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/link_io.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/signals.h"
#include "core/base/log.h"

#define READY_MAX 16
#define BACK_NS (10 * TESSI_NS_PER_S) /* after the program was stopped for long: the connection has ended for that */
#define IDLE_NS (5 * TESSI_NS_PER_MS) /* that messages wait for company */
#define STATUS_TIMEOUT_NS (10 * TESSI_NS_PER_S)

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

static struct tessi_map_key id_key(uint32_t id)
{
    return (struct tessi_map_key){0, id};
}

/* The lock is held. */
static struct tessi_wanted *find_wanted(struct tessi_link *link, uint32_t id)
{
    uint32_t position = tessi_map_get(&link->wanted_by_id, id_key(id));
    return position == TESSI_MAP_NONE ? NULL : &link->wanted[position];
}

/* The lock is held. */
static void fail_wanted(struct tessi_wanted *wanted, enum tessi_status status, const char *text)
{
    tessi_free(wanted->text);
    wanted->text = tessi_strdup(text);
    wanted->status = status;
    wanted->state = TESSI_LAYER_FAILED;
}

/* The lock is held. */
static enum tessi_status wanted_failure(const struct tessi_wanted *wanted, struct tessi_error *error)
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
    const struct tessi_wanted *wanted = find_wanted(link, id);
    bool complete = wanted != NULL && wanted->state == TESSI_LAYER_COMPLETE;
    pthread_mutex_unlock(&link->lock);
    return complete;
}

enum tessi_status tessi_link_layer_failure(struct tessi_link *link, uint32_t id, struct tessi_error *error)
{
    pthread_mutex_lock(&link->lock);
    enum tessi_status status = wanted_failure(find_wanted(link, id), error);
    pthread_mutex_unlock(&link->lock);
    return status;
}

/* ——— the I/O thread ——— */

void tessi_link_post(struct tessi_link *link, const struct tessi_message *message)
{
    tessi_mailbox_add(&link->out, message, NULL);
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

/* The lock is held. */
static void forget_wanted(struct tessi_link *link, struct tessi_wanted *wanted)
{
    tessi_free(wanted->text);
    uint32_t id = wanted->id;
    link->released_count -= wanted->released;
    *wanted = link->wanted[--link->wanted_count];
    tessi_map_put(&link->wanted_by_id, id_key(wanted->id), (uint32_t)(wanted - link->wanted));
    (void)tessi_map_remove(&link->wanted_by_id, id_key(id));
}

/* Of a small layer, which nobody waits for: told with the next message, if there is one soon. */
static void post_release(struct tessi_link *link, uint32_t id)
{
    struct tessi_message message = {.type = TESSI_MSG_RELEASE, .run_id = link->run_id};
    message.as.release.ids = (struct tessi_id_list){&id, 1};
    link->idle_ns = link->idle.first == NULL ? tessi_clock_now() : link->idle_ns;
    tessi_mailbox_add(&link->idle, &message, NULL);
}

/* If it was released while it was under way and is not any more, it goes; the lock is held. */
static void release_ended(struct tessi_link *link, struct tessi_wanted *wanted)
{
    if (wanted != NULL && wanted->released && wanted->state != TESSI_LAYER_COMPUTING) {
        link->elapsed_ns = wanted->elapsed_ns;
        post_release(link, wanted->id);
        forget_wanted(link, wanted);
    }
}

static void take_refused(struct tessi_link *link, const struct tessi_msg_refused *refused)
{
    enum tessi_status status = known_status(refused->status);
    for (size_t i = link->wanted_count; i-- > 0;) {
        struct tessi_wanted *wanted = &link->wanted[i];
        if (wanted->first <= refused->request && refused->request <= wanted->request &&
            wanted->state == TESSI_LAYER_COMPUTING) { /* else an earlier part has been refused, which says more */
            fail_wanted(wanted, status, refused->text);
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
    struct tessi_wanted *known = find_wanted(link, id);
    if (known != NULL) {
        known->detached = true;
        post_release(link, id);
    } else {
        tessi_map_put(&link->wanted_by_id, id_key(id), (uint32_t)link->wanted_count);
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
        wanted = find_wanted(link, message->as.done.layer);
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
        wanted = find_wanted(link, message->as.failed.layer);
        if (wanted != NULL && wanted->state == TESSI_LAYER_COMPLETE) { /* held, and a block of it cannot be had now */
            tessi_transfer_layer_failed(link, wanted->id, known_status(message->as.failed.status),
                                        message->as.failed.text);
        } else if (wanted != NULL && wanted->state != TESSI_LAYER_FAILED) {
            fail_wanted(wanted, known_status(message->as.failed.status), message->as.failed.text);
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
        tessi_remote_up(link, message->as.peer_up.worker, message->as.peer_up.address);
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
        tessi_mailbox_move(&link->out, &link->queued);
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
        struct tessi_mailbox hurried = link->out;
        link->out = link->idle;
        link->idle = (struct tessi_mailbox){0};
        tessi_mailbox_move(&link->out, &hurried);
        link->sent_ns = now_ns;
        (void)tessi_mailbox_flush(&link->out, link->scheduler);
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
    (void)tessi_mailbox_flush(&link->out, link->scheduler);
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
    tessi_mailbox_add(&link->out, &hello, NULL);
    (void)tessi_mailbox_flush(&link->out, link->scheduler);
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
    tessi_mailbox_fini(&link->out);
    tessi_mailbox_fini(&link->idle);
    tessi_mailbox_fini(&link->queued);
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

/* ——— the callers' side ——— */

uint64_t tessi_link_least_memory(const struct tessi_link *link)
{
    return link->least_memory_bytes;
}

uint32_t tessi_link_id(const struct tessi_link *link)
{
    return link->id;
}

/* The lock is held. */
static enum tessi_status check_fatal(const struct tessi_link *link, struct tessi_error *error)
{
    return link->fatal.status == TESSI_OK ? TESSI_OK : tessi_fail(error, link->fatal.status, "%s", link->fatal.text);
}

enum tessi_status tessi_link_check(struct tessi_link *link, struct tessi_error *error)
{
    pthread_mutex_lock(&link->lock);
    enum tessi_status status = check_fatal(link, error);
    pthread_mutex_unlock(&link->lock);
    return status;
}

static void queue_message(struct tessi_link *link, const struct tessi_message *message)
{
    pthread_mutex_lock(&link->lock);
    tessi_mailbox_add(&link->queued, message, NULL);
    pthread_mutex_unlock(&link->lock);
    tessi_poller_wake(link->poller);
}

uint32_t tessi_link_requests(struct tessi_link *link, uint32_t parts)
{
    pthread_mutex_lock(&link->lock);
    uint32_t first = link->next_request + 1;
    link->next_request += parts;
    pthread_mutex_unlock(&link->lock);
    return first;
}

/* The lock is held. */
static void add_wanted(struct tessi_link *link, uint32_t id, uint32_t first, uint32_t request)
{
    tessi_grow(&link->wanted, &link->wanted_capacity, link->wanted_count + 1, sizeof *link->wanted);
    tessi_map_put(&link->wanted_by_id, id_key(id), (uint32_t)link->wanted_count);
    struct tessi_wanted *wanted = &link->wanted[link->wanted_count++];
    *wanted = (struct tessi_wanted){.id = id, .first = first, .request = request};
    if (first <= link->refused_request && link->refused_request <= request) { /* an earlier part, meanwhile */
        fail_wanted(wanted, link->refusal.status, link->refusal.text);
    }
}

enum tessi_status tessi_link_submit_part(struct tessi_link *link, const struct tessi_link_part *part,
                                         struct tessi_error *error)
{
    struct tessi_message message = {.type = TESSI_MSG_SUBMIT, .run_id = link->run_id};
    uint32_t request = part->first + part->part;
    message.as.submit.request = request;
    message.as.submit.layers =
        (struct tessi_layer_list){(struct tessi_layer **)(uintptr_t)part->layers, part->layer_count};
    message.as.submit.wanted = (struct tessi_id_list){part->wanted, part->wanted_count};
    struct tessi_buffer probe = {0};
    pthread_mutex_lock(&link->lock);
    enum tessi_status status = check_fatal(link, error);
    if (status == TESSI_OK) {
        status = tessi_message_pack(&probe, &message, error);
    }
    if (status == TESSI_OK) {
        struct tessi_letter *letter = tessi_zalloc(sizeof *letter);
        letter->header = probe.data;
        letter->header_size = probe.size;
        tessi_mailbox_move(&link->queued, &(struct tessi_mailbox){letter, letter});
        probe = (struct tessi_buffer){0};
        for (size_t i = 0; i < part->wanted_count; i++) {
            add_wanted(link, part->wanted[i], part->first, request);
        }
        for (size_t i = 0; i < part->layer_count; i++) {
            uint32_t served = part->layers[i]->op == TESSI_OP_RECEIVE
                                  ? tessi_map_get(&link->served_by_id, id_key(part->layers[i]->id))
                                  : TESSI_MAP_NONE;
            if (served != TESSI_MAP_NONE) {
                link->served[served].request = request;
            }
        }
    }
    pthread_mutex_unlock(&link->lock);
    tessi_buffer_fini(&probe);
    tessi_poller_wake(link->poller);
    return status;
}

enum tessi_status tessi_link_submit(struct tessi_link *link, struct tessi_layer *const *layers, size_t layer_count,
                                    const uint32_t *wanted, size_t wanted_count, struct tessi_error *error)
{
    struct tessi_link_part part = {tessi_link_requests(link, 1), 0, layers, layer_count, wanted, wanted_count};
    return tessi_link_submit_part(link, &part, error);
}

void tessi_link_release(struct tessi_link *link, const uint32_t *ids, size_t count)
{
    if (link == NULL || count == 0) {
        return;
    }
    pthread_mutex_lock(&link->lock);
    for (size_t i = 0; i < count; i++) {
        struct tessi_wanted *wanted = find_wanted(link, ids[i]);
        if (wanted != NULL) {
            forget_wanted(link, wanted);
        }
    }
    pthread_mutex_unlock(&link->lock);
    struct tessi_message message = {.type = TESSI_MSG_RELEASE, .run_id = link->run_id};
    message.as.release.ids = (struct tessi_id_list){ids, count};
    queue_message(link, &message);
}

bool tessi_link_let_go(struct tessi_link *link, uint32_t id)
{
    if (link == NULL) {
        return true;
    }
    pthread_mutex_lock(&link->lock);
    struct tessi_wanted *wanted = find_wanted(link, id);
    bool stays = wanted != NULL && wanted->detached;
    if (wanted != NULL && !stays) {
        forget_wanted(link, wanted);
    }
    pthread_mutex_unlock(&link->lock);
    if (!stays) {
        struct tessi_message message = {.type = TESSI_MSG_RELEASE, .run_id = link->run_id};
        message.as.release.ids = (struct tessi_id_list){&id, 1};
        queue_message(link, &message);
    }
    return !stays;
}

void tessi_link_hold(struct tessi_link *link, bool held)
{
    pthread_mutex_lock(&link->lock);
    link->held = held;
    pthread_mutex_unlock(&link->lock);
    if (!held) {
        tessi_poller_wake(link->poller);
    }
}

void tessi_link_release_when_done(struct tessi_link *link, uint32_t id)
{
    pthread_mutex_lock(&link->lock);
    struct tessi_wanted *wanted = find_wanted(link, id);
    bool under_way = wanted != NULL && wanted->state == TESSI_LAYER_COMPUTING;
    if (under_way) {
        link->released_count += !wanted->released;
        wanted->released = true; /* the news that it is done wakes the I/O thread anyway */
    } else if (wanted != NULL) {
        link->elapsed_ns = wanted->elapsed_ns;
    }
    pthread_mutex_unlock(&link->lock);
    if (!under_way) {
        tessi_link_release(link, &id, 1);
    }
}

void tessi_link_cancel(struct tessi_link *link, uint32_t id)
{
    pthread_mutex_lock(&link->lock);
    struct tessi_wanted *wanted = find_wanted(link, id);
    bool running = wanted != NULL && wanted->state == TESSI_LAYER_COMPUTING;
    if (running) {
        fail_wanted(wanted, TESSI_CANCELLED, "cancelled by the program");
        pthread_cond_broadcast(&link->changed);
    }
    pthread_mutex_unlock(&link->lock);
    if (running) {
        struct tessi_message message = {.type = TESSI_MSG_CANCEL, .run_id = link->run_id};
        message.as.cancel.ids = (struct tessi_id_list){&id, 1};
        queue_message(link, &message);
    }
}

void tessi_link_detach(struct tessi_link *link, uint32_t id)
{
    struct tessi_message message = {.type = TESSI_MSG_DETACH, .run_id = link->run_id};
    message.as.detach.ids = (struct tessi_id_list){&id, 1};
    queue_message(link, &message);
}

uint32_t tessi_link_next_detached(struct tessi_link *link)
{
    uint32_t id = 0;
    pthread_mutex_lock(&link->lock);
    while (link->detached_count > 0 && id == 0) {
        const struct tessi_wanted *wanted = find_wanted(link, link->detached[--link->detached_count]);
        /* One that is released when it is complete has been given its release already. */
        id = wanted != NULL && !wanted->released ? wanted->id : 0;
    }
    pthread_mutex_unlock(&link->lock);
    return id;
}

enum tessi_status tessi_link_layer_status(struct tessi_link *link, uint32_t id)
{
    struct tessi_error ignored;
    return tessi_link_layer_failure(link, id, &ignored);
}

/* Sleep until something changes or the moment has come; the lock is held. False: it has come. */
static bool sleep_until(struct tessi_link *link, int64_t deadline_ns)
{
    if (deadline_ns == INT64_MAX) {
        pthread_cond_wait(&link->changed, &link->lock);
        return true;
    }
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / TESSI_NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % TESSI_NS_PER_S)};
    return pthread_cond_timedwait(&link->changed, &link->lock, &until) != ETIMEDOUT;
}

static int64_t deadline_after(int64_t timeout_ns)
{
    int64_t now_ns = tessi_clock_now();
    return timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + timeout_ns;
}

/* Of all that was submitted together; the lock is held. */
static struct tessi_progress progress_of(const struct tessi_link *link, const struct tessi_wanted *wanted)
{
    struct tessi_progress progress = link->progress[wanted->request % TESSI_PROGRESSES];
    return progress.request == wanted->request ? progress : (struct tessi_progress){0};
}

enum tessi_status tessi_link_wait(struct tessi_link *link, uint32_t id, int64_t timeout_ns,
                                  tessi_link_progress_fn *progress, void *context, int64_t *elapsed_ns,
                                  struct tessi_error *error)
{
    int64_t deadline_ns = deadline_after(timeout_ns);
    uint64_t told = UINT64_MAX;
    uint64_t done = 0;
    uint64_t total = 0;
    enum tessi_status status;
    pthread_mutex_lock(&link->lock);
    link->watchers += progress != NULL ? 1 : 0;
    for (;;) {
        struct tessi_wanted *wanted = find_wanted(link, id);
        status = wanted_failure(wanted, error);
        if (status == TESSI_OK && wanted == NULL) {
            status = tessi_fail(error, TESSI_INVALID, "the array is not being computed: persist it first");
        }
        if (status == TESSI_OK && wanted->state == TESSI_LAYER_COMPLETE) {
            *elapsed_ns = wanted->elapsed_ns;
            done = total = progress_of(link, wanted).total;
            break;
        }
        if (status == TESSI_OK) {
            status = check_fatal(link, error);
        }
        if (status != TESSI_OK) {
            break;
        }
        done = progress_of(link, wanted).done;
        total = progress_of(link, wanted).total;
        if (progress != NULL && total > 0 && done != told) {
            told = done;
            pthread_mutex_unlock(&link->lock);
            progress(context, done, total, false);
            pthread_mutex_lock(&link->lock);
            continue; /* it may have changed meanwhile */
        }
        if (!sleep_until(link, deadline_ns)) {
            status = tessi_fail(error, TESSI_TIMEOUT,
                                "%" PRIu64 " of %" PRIu64 " blocks are ready: it goes on computing", done, total);
            break;
        }
    }
    link->watchers -= progress != NULL ? 1 : 0;
    pthread_mutex_unlock(&link->lock);
    if (progress != NULL && status != TESSI_TIMEOUT) {
        progress(context, done, total, true);
    }
    return status;
}

static enum tessi_status run_transfer(struct tessi_link *link, struct tessi_transfer *transfer,
                                      struct tessi_error *error)
{
    pthread_mutex_lock(&link->lock);
    TESS_ASSERT(link->asked == NULL); /* a session is used by one thread at a time */
    link->asked = transfer;
    link->held = false;
    tessi_poller_wake(link->poller);
    while (link->asked == transfer) {
        pthread_cond_wait(&link->changed, &link->lock);
    }
    pthread_mutex_unlock(&link->lock);
    struct tessi_error outcome = {0};
    TESS_ASSERT(tessi_transfer_finished(transfer, &outcome));
    tessi_transfer_destroy(transfer);
    return outcome.status == TESSI_OK ? TESSI_OK : tessi_fail(error, outcome.status, "%s", outcome.text);
}

static bool is_settled(const struct tessi_link *link)
{
    return link->released_count == 0 || link->fatal.status != TESSI_OK;
}

int64_t tessi_link_settle(struct tessi_link *link)
{
    pthread_mutex_lock(&link->lock);
    link->settlers++;
    while (!is_settled(link)) {
        pthread_cond_wait(&link->changed, &link->lock);
    }
    link->settlers--;
    int64_t elapsed_ns = link->elapsed_ns;
    pthread_mutex_unlock(&link->lock);
    return elapsed_ns;
}

enum tessi_status tessi_link_fetch(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid,
                                   size_t element_bytes, tessi_piece_fn *piece, void *context,
                                   struct tessi_error *error)
{
    return run_transfer(link, tessi_transfer_create(link->id, id, grid, element_bytes, false, piece, context), error);
}

enum tessi_status tessi_link_fetch_pushed(struct tessi_link *link, uint32_t id, const struct tessi_grid *grid,
                                          size_t element_bytes, tessi_piece_fn *piece, void *context,
                                          struct tessi_error *error)
{
    return run_transfer(link, tessi_transfer_create(link->id, id, grid, element_bytes, true, piece, context), error);
}

void tessi_link_counts(struct tessi_link *link, struct tessi_session_counts *counts, uint32_t *workers)
{
    pthread_mutex_lock(&link->lock);
    *counts = link->counts;
    *workers = link->workers;
    pthread_mutex_unlock(&link->lock);
}

enum tessi_status tessi_link_status_document(struct tessi_link *link, char **json, struct tessi_error *error)
{
    struct tessi_message message = {.type = TESSI_MSG_STATUS_REQUEST, .run_id = link->run_id};
    int64_t deadline_ns = deadline_after(STATUS_TIMEOUT_NS);
    enum tessi_status status = TESSI_OK;
    pthread_mutex_lock(&link->lock);
    tessi_free(link->document);
    link->document = NULL;
    pthread_mutex_unlock(&link->lock);
    queue_message(link, &message);
    pthread_mutex_lock(&link->lock);
    while (link->document == NULL && status == TESSI_OK) {
        status = check_fatal(link, error);
        if (status == TESSI_OK && !sleep_until(link, deadline_ns) && link->document == NULL) {
            status = tessi_fail(error, TESSI_TIMEOUT,
                                "the scheduler does not answer a question about its status: see "
                                "whether it is overloaded");
        }
    }
    *json = link->document;
    link->document = NULL;
    pthread_mutex_unlock(&link->lock);
    return status;
}
