#include "core/server/driver.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/digest.h"
#include "core/base/map.h"
#include "core/wire/scan.h"

#define SLOTS_MAX 65536u
#define HEARTBEATS_IN_SILENCE 5 /* so many may be lost before a peer is given up */

struct tessi_driver {
    struct tessi_sched *sched;
    uint64_t run_id;
    uint32_t heartbeat_ms;
    struct tessi_map roles; /* peer → enum tessi_role */
    struct tessi_outbox outbox;
    struct tessi_driver_counters counters;
    const struct tessi_trace_record *notes; /* the machine's, until the next input */
    size_t note_count;
};

static struct tessi_map_key key(uint32_t peer)
{
    return (struct tessi_map_key){0, peer};
}

struct tessi_driver *tessi_driver_create(const struct tessi_sched_config *config, uint64_t run_id)
{
    TESS_ASSERT(run_id != 0);
    struct tessi_driver *driver = tessi_zalloc(sizeof *driver);
    int64_t silence_ns =
        config->worker_silence_ns < config->client_silence_ns ? config->worker_silence_ns : config->client_silence_ns;
    int64_t heartbeat_ms = silence_ns / HEARTBEATS_IN_SILENCE / 1000000;
    driver->sched = tessi_sched_create(config);
    driver->run_id = run_id;
    driver->heartbeat_ms = heartbeat_ms < 1 ? 1 : heartbeat_ms > 60000 ? 60000 : (uint32_t)heartbeat_ms;
    driver->outbox.wake_ns = INT64_MAX;
    tessi_map_init(&driver->roles);
    return driver;
}

void tessi_driver_destroy(struct tessi_driver *driver)
{
    if (driver == NULL) {
        return;
    }
    tessi_sched_destroy(driver->sched);
    tessi_map_fini(&driver->roles);
    tessi_free(driver->outbox.items);
    tessi_buffer_fini(&driver->outbox.bytes);
    tessi_free(driver);
}

static void clear(struct tessi_driver *driver)
{
    driver->outbox.count = 0;
    driver->note_count = 0;
    tessi_buffer_clear(&driver->outbox.bytes);
}

enum tessi_status tessi_driver_history(struct tessi_driver *driver, const void *bytes, size_t size,
                                       struct tessi_error *error)
{
    clear(driver);
    return tessi_sched_history_load(driver->sched, bytes, size, error);
}

enum tessi_role tessi_driver_role(const struct tessi_driver *driver, uint32_t peer)
{
    uint32_t role = tessi_map_get(&driver->roles, key(peer));
    return role == TESSI_MAP_NONE ? TESSI_ROLE_NONE : (enum tessi_role)role;
}

static void set_role(struct tessi_driver *driver, uint32_t peer, enum tessi_role role)
{
    tessi_map_put(&driver->roles, key(peer), (uint32_t)role);
}

static enum tessi_status post(struct tessi_driver *driver, uint32_t peer, struct tessi_message *message)
{
    struct tessi_outbox *outbox = &driver->outbox;
    size_t offset = outbox->bytes.size;
    message->run_id = driver->run_id;
    enum tessi_status status = tessi_message_pack(&outbox->bytes, message, NULL);
    if (status == TESSI_OK) {
        tessi_grow(&outbox->items, &outbox->capacity, outbox->count + 1, sizeof *outbox->items);
        outbox->items[outbox->count++] =
            (struct tessi_outgoing){peer, message->type, offset, outbox->bytes.size - offset};
    }
    return status;
}

/* Post an action; one that is too long for a message goes as two halves. */
static void post_action(struct tessi_driver *driver, const struct tessi_sched_action *action)
{
    struct tessi_message message;
    tessi_message_from_action(action, driver->heartbeat_ms, &message);
    if (post(driver, action->peer, &message) == TESSI_OK) {
        return;
    }
    struct tessi_sched_action first = *action, second = *action;
    TESS_ASSERT(action->layer_count > 1 || action->span_count > 1 || action->id_count > 1);
    first.layer_count /= 2;
    second.layers = action->layers + first.layer_count;
    second.layer_count -= first.layer_count;
    first.span_count /= 2;
    second.spans = action->spans + first.span_count;
    second.span_count -= first.span_count;
    first.id_count /= 2;
    second.ids = action->ids + first.id_count;
    second.id_count -= first.id_count;
    post_action(driver, &first);
    post_action(driver, &second);
}

static void step(struct tessi_driver *driver, const struct tessi_sched_event *event)
{
    struct tessi_sched_actions actions;
    tessi_sched_step(driver->sched, event, &actions);
    driver->outbox.wake_ns = actions.wake_ns;
    driver->notes = actions.notes;
    driver->note_count = actions.note_count;
    for (size_t i = 0; i < actions.count; i++) {
        const struct tessi_sched_action *action = &actions.items[i];
        post_action(driver, action);
        if (action->kind == TESSI_SCHED_REJECT || action->kind == TESSI_SCHED_BYE) {
            set_role(driver, action->peer, TESSI_ROLE_ENDED);
            driver->counters.refused += action->kind == TESSI_SCHED_REJECT;
        }
    }
}

static void reject(struct tessi_driver *driver, uint32_t peer, enum tessi_status status, const char *text)
{
    struct tessi_message message = {.type = TESSI_MSG_REJECT, .as.reject = {(uint32_t)status, text}};
    TESS_ASSERT(post(driver, peer, &message) == TESSI_OK);
    set_role(driver, peer, TESSI_ROLE_ENDED);
    driver->counters.refused++;
}

/* A submission that cannot be read but whose request number can: the client hears why. */
static bool refuse_submission(struct tessi_driver *driver, uint32_t peer, const void *bytes, size_t size,
                              const struct tessi_error *why)
{
    struct tessi_scan scan;
    uint32_t count, code, request;
    uint64_t run_id;
    tessi_scan_init(&scan, bytes, size);
    if (tessi_driver_role(driver, peer) != TESSI_ROLE_CLIENT || !tessi_scan_array(&scan, &count) ||
        !tessi_scan_u32(&scan, &code) || code != TESSI_MSG_SUBMIT || !tessi_scan_u64(&scan, &run_id) ||
        run_id != driver->run_id || !tessi_scan_u32(&scan, &request)) {
        return false;
    }
    struct tessi_message message = {.type = TESSI_MSG_REFUSED,
                                    .as.refused = {request, (uint32_t)why->status, why->text}};
    TESS_ASSERT(post(driver, peer, &message) == TESSI_OK);
    return true;
}

static enum tessi_driver_result drop(uint64_t *counter)
{
    (*counter)++;
    return TESSI_DRIVER_DROPPED;
}

static enum tessi_driver_result receive_unreadable(struct tessi_driver *driver, uint32_t peer, const void *bytes,
                                                   size_t size, const struct tessi_error *why)
{
    if (why->status == TESSI_VERSION && tessi_driver_role(driver, peer) == TESSI_ROLE_NONE) {
        reject(driver, peer, TESSI_VERSION, why->text);
        return TESSI_DRIVER_TAKEN;
    }
    if (refuse_submission(driver, peer, bytes, size, why)) {
        return TESSI_DRIVER_TAKEN;
    }
    return drop(&driver->counters.malformed);
}

/* The rules that the unpacker cannot know. False: the message was answered or is to be dropped. */
static bool submission_is_own(struct tessi_driver *driver, uint32_t peer, const struct tessi_message *message)
{
    const struct tessi_layer_list *layers = &message->as.submit.layers;
    for (size_t i = 0; i < layers->count; i++) {
        if (layers->items[i]->session != peer) {
            struct tessi_message refusal = {
                .type = TESSI_MSG_REFUSED,
                .as.refused = {message->as.submit.request, TESSI_PROTOCOL,
                               "a layer names the session of another client; the client library is at fault"}};
            TESS_ASSERT(post(driver, peer, &refusal) == TESSI_OK);
            return false;
        }
    }
    return true;
}

static enum tessi_driver_result receive_hello(struct tessi_driver *driver, int64_t now_ns, uint32_t peer,
                                              const struct tessi_message *message, struct tessi_error *why)
{
    struct tessi_sched_event event;
    if (!tessi_event_from_message(message, tessi_driver_role(driver, peer), peer, now_ns, &event)) {
        tessi_fail(why, TESSI_PROTOCOL, "a second hello on one connection; it has to connect again");
        return drop(&driver->counters.misplaced);
    }
    if (event.kind == TESSI_SCHED_WORKER_JOIN && (event.worker.slots < 1 || event.worker.slots > SLOTS_MAX)) {
        reject(driver, peer, TESSI_INVALID, "a worker has 1 to 65536 slots; set --threads");
        return TESSI_DRIVER_TAKEN;
    }
    set_role(driver, peer, event.kind == TESSI_SCHED_WORKER_JOIN ? TESSI_ROLE_WORKER : TESSI_ROLE_CLIENT);
    step(driver, &event);
    driver->counters.messages++;
    return TESSI_DRIVER_TAKEN;
}

static bool asks_too_much(const struct tessi_spans *spans)
{
    uint64_t tasks = 0;
    for (size_t i = 0; i < spans->count; i++) {
        if (spans->items[i].count > TESSI_LOCATE_TASKS_MAX - tasks) {
            return true;
        }
        tasks += spans->items[i].count;
    }
    return false;
}

static enum tessi_driver_result receive_message(struct tessi_driver *driver, int64_t now_ns, uint32_t peer,
                                                struct tessi_message *message, struct tessi_error *why)
{
    enum tessi_role role = tessi_driver_role(driver, peer);
    struct tessi_sched_event event;
    if (message->type == TESSI_MSG_STATUS_REQUEST) {
        return TESSI_DRIVER_STATUS;
    }
    if (message->type == TESSI_MSG_HELLO_WORKER || message->type == TESSI_MSG_HELLO_CLIENT) {
        return receive_hello(driver, now_ns, peer, message, why);
    }
    if (message->run_id != driver->run_id || role == TESSI_ROLE_ENDED) {
        tessi_fail(why, TESSI_PROTOCOL, "%s of another run of the scheduler, or from a peer that was given up",
                   tessi_message_name(message->type));
        return drop(&driver->counters.stale);
    }
    if (role == TESSI_ROLE_NONE || !tessi_event_from_message(message, role, peer, now_ns, &event)) {
        tessi_fail(why, TESSI_PROTOCOL, "%s is nothing that a %s may send here", tessi_message_name(message->type),
                   role == TESSI_ROLE_NONE     ? "stranger"
                   : role == TESSI_ROLE_WORKER ? "worker"
                                               : "client");
        return drop(&driver->counters.misplaced);
    }
    if (message->type == TESSI_MSG_LOCATE && asks_too_much(&message->as.locate.spans)) {
        tessi_fail(why, TESSI_PROTOCOL, "a question about more than %u tasks", TESSI_LOCATE_TASKS_MAX);
        return drop(&driver->counters.malformed);
    }
    driver->counters.messages++;
    if (event.kind == TESSI_SCHED_SUBMIT) {
        if (!submission_is_own(driver, peer, message)) {
            return TESSI_DRIVER_TAKEN;
        }
        message->as.submit.layers.count = 0; /* They are the machine's now. */
    }
    if (message->type == TESSI_MSG_GOODBYE) {
        set_role(driver, peer, TESSI_ROLE_ENDED);
    }
    step(driver, &event);
    return TESSI_DRIVER_TAKEN;
}

enum tessi_driver_result tessi_driver_receive(struct tessi_driver *driver, int64_t now_ns, uint32_t peer,
                                              const void *bytes, size_t size, struct tessi_error *why)
{
    struct tessi_message message;
    clear(driver);
    if (tessi_message_unpack(bytes, size, &message, why) != TESSI_OK) {
        return receive_unreadable(driver, peer, bytes, size, why);
    }
    enum tessi_driver_result result = receive_message(driver, now_ns, peer, &message, why);
    tessi_message_fini(&message);
    return result;
}

void tessi_driver_expect(struct tessi_driver *driver, uint32_t peer)
{
    tessi_sched_expect(driver->sched, peer);
}

void tessi_driver_gone(struct tessi_driver *driver, int64_t now_ns, uint32_t peer)
{
    enum tessi_role role = tessi_driver_role(driver, peer);
    clear(driver);
    tessi_map_remove(&driver->roles, key(peer));
    if (role == TESSI_ROLE_WORKER || role == TESSI_ROLE_CLIENT) {
        struct tessi_sched_event event = {.kind = role == TESSI_ROLE_WORKER ? TESSI_SCHED_WORKER_LEAVE
                                                                            : TESSI_SCHED_CLIENT_LEAVE,
                                          .now_ns = now_ns,
                                          .peer = peer};
        step(driver, &event);
    }
}

void tessi_driver_tick(struct tessi_driver *driver, int64_t now_ns)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_TICK, .now_ns = now_ns};
    clear(driver);
    step(driver, &event);
}

void tessi_driver_shutdown(struct tessi_driver *driver, const char *text)
{
    size_t position = 0;
    const struct tessi_map_entry *entry;
    clear(driver);
    while ((entry = tessi_map_next(&driver->roles, &position)) != NULL) {
        if (entry->value == TESSI_ROLE_WORKER || entry->value == TESSI_ROLE_CLIENT) {
            struct tessi_message message = {.type = TESSI_MSG_SHUTDOWN, .as.shutdown = {text}};
            TESS_ASSERT(post(driver, (uint32_t)entry->key.low, &message) == TESSI_OK);
        }
    }
}

const struct tessi_outbox *tessi_driver_outbox(const struct tessi_driver *driver)
{
    return &driver->outbox;
}

const struct tessi_trace_record *tessi_driver_notes(const struct tessi_driver *driver, size_t *count)
{
    *count = driver->note_count;
    return driver->notes;
}

uint64_t tessi_outbox_digest(const struct tessi_outbox *outbox)
{
    struct tessi_digest *digest = tessi_digest_create();
    tessi_digest_update(digest, &outbox->wake_ns, sizeof outbox->wake_ns);
    for (size_t i = 0; i < outbox->count; i++) {
        const struct tessi_outgoing *item = &outbox->items[i];
        const uint64_t head[2] = {item->peer, item->size};
        tessi_digest_update(digest, head, sizeof head);
        tessi_digest_update(digest, outbox->bytes.data + item->offset, item->size);
    }
    uint64_t value = tessi_digest_value(digest);
    tessi_digest_destroy(digest);
    return value;
}

const struct tessi_sched *tessi_driver_sched(const struct tessi_driver *driver)
{
    return driver->sched;
}

const struct tessi_driver_counters *tessi_driver_counters(const struct tessi_driver *driver)
{
    return &driver->counters;
}

uint64_t tessi_driver_run_id(const struct tessi_driver *driver)
{
    return driver->run_id;
}
