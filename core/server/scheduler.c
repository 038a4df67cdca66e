#include "core/server/scheduler.h"
#include "core/sched/explain/explain.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/descriptors.h"
#include "core/base/log.h"
#include "core/base/map.h"
#include "core/net/address.h"
#include "core/net/poller.h"
#include "core/net/send_queue.h"
#include "core/net/server.h"
#include "core/server/devices.h"
#include "core/server/driver.h"
#include "core/server/history.h"
#include "core/server/members.h"
#include "core/server/query_router.h"
#include "core/server/record.h"
#include "core/server/status.h"
#include "core/wire/scan.h"

#define DRAIN_MAX 4096                    /* messages between two looks at the clock's needs */
#define AHEAD 6                           /* messages received before an earlier one is taken */
#define BACKLOG_MAX ((size_t)512 << 20)   /* bytes that may wait for one peer before it is given up */
#define BACKLOGS_MAX ((size_t)1 << 30)    /* and for all of them: who keeps most waiting is */
#define UNREAD_MAX ((size_t)16 << 20)     /* and answers to who asks and does not read */
#define FIRST_BYTES ((uint64_t)256 << 10) /* of the first message of a connection, a hello or a question */
#define LINGER_MS 1000
#define SUBMITTED_TIMES 4 /* what a submission takes at most when it is unpacked, in lengths of its message */
#define DESCRIPTORS 48    /* its own, and some connections */
#define LATE_NS (100 * TESSI_NS_PER_MS)
#define HISTORY_EVERY_NS (180 * TESSI_NS_PER_S)
#define TRIM_AFTER_NS TESSI_NS_PER_S /* the end of a session: by then what it had is freed */
#define TRIM_EVERY_NS (5 * TESSI_NS_PER_S)

/* Messages that a peer's full queue did not take. */
struct backlog {
    uint32_t peer; /* 0: free */
    struct tessi_send_queue waiting;
};

struct tessi_scheduler {
    struct tessi_net *net;
    bool owns_net;
    struct tessi_server *server;
    struct tessi_poller *poller;
    struct tessi_driver *driver;
    struct tessi_router *router;
    struct tessi_device_table *devices;
    struct tessi_members members;
    struct tessi_recorder *recorder; /* NULL: not recording */
    char *history_path;              /* owned; NULL: run times are not kept */
    int64_t history_ns;              /* when they were last written */
    uint64_t history_tasks;          /* tasks done then */
    int64_t trim_ns, trimmed_ns; /* when freed memory goes back to the system, INT64_MAX: nothing is due; and went */
    atomic_bool stopping;
    int64_t started_ns;
    uint64_t sends_failed;
    struct backlog *backlogs; /* those with peer 0 are free */
    size_t backlog_count, backlog_capacity;
    uint64_t backlog_bytes;      /* of all */
    struct tessi_map backlog_of; /* peer → index */
    uint32_t *lost;              /* peers whose sends failed, not yet told to the driver */
    size_t lost_count, lost_capacity;
};

/* ——— sending ——— */

static struct tessi_map_key key(uint32_t peer)
{
    return (struct tessi_map_key){0, peer};
}

static struct backlog *backlog_find(struct tessi_scheduler *scheduler, uint32_t peer)
{
    uint32_t index = tessi_map_get(&scheduler->backlog_of, key(peer));
    return index == TESSI_MAP_NONE ? NULL : &scheduler->backlogs[index];
}

static void backlog_drop(struct tessi_scheduler *scheduler, uint32_t peer)
{
    struct backlog *backlog = backlog_find(scheduler, peer);
    if (backlog != NULL) {
        scheduler->backlog_bytes -= backlog->waiting.bytes;
        tessi_send_queue_fini(&backlog->waiting);
        *backlog = (struct backlog){0};
        tessi_map_remove(&scheduler->backlog_of, key(peer));
    }
}

static struct backlog *backlog_make(struct tessi_scheduler *scheduler, uint32_t peer)
{
    struct backlog *backlog = backlog_find(scheduler, peer);
    if (backlog != NULL) {
        return backlog;
    }
    size_t index = 0;
    while (index < scheduler->backlog_count && scheduler->backlogs[index].peer != 0) {
        index++;
    }
    if (index == scheduler->backlog_count) {
        tessi_grow(&scheduler->backlogs, &scheduler->backlog_capacity, index + 1, sizeof *scheduler->backlogs);
        scheduler->backlog_count++;
    }
    scheduler->backlogs[index] = (struct backlog){.peer = peer};
    tessi_map_put(&scheduler->backlog_of, key(peer), (uint32_t)index);
    return &scheduler->backlogs[index];
}

static void peer_lost(struct tessi_scheduler *scheduler, uint32_t peer)
{
    scheduler->sends_failed++;
    backlog_drop(scheduler, peer);
    tessi_grow(&scheduler->lost, &scheduler->lost_capacity, scheduler->lost_count + 1, sizeof *scheduler->lost);
    scheduler->lost[scheduler->lost_count++] = peer;
}

static void give_up(struct tessi_scheduler *scheduler, uint32_t peer)
{
    tessi_log_event(TESSI_LOG_WARN, "peer_given_up", "peer=%u reason=" TESSI_LOG_TEXT, peer,
                    "it does not read what it is sent");
    tessi_server_drop(scheduler->server, peer);
    peer_lost(scheduler, peer);
}

/* Whose messages take most room; there are some. */
static uint32_t slowest_reader(const struct tessi_scheduler *scheduler)
{
    const struct backlog *most = NULL;
    for (size_t i = 0; i < scheduler->backlog_count; i++) {
        const struct backlog *backlog = &scheduler->backlogs[i];
        most = backlog->peer != 0 && (most == NULL || backlog->waiting.bytes > most->waiting.bytes) ? backlog : most;
    }
    return most->peer;
}

static void send_later(struct tessi_scheduler *scheduler, uint32_t peer, const void *bytes, size_t size)
{
    struct tessi_send_queue *waiting = &backlog_make(scheduler, peer)->waiting;
    if (waiting->bytes > BACKLOG_MAX) {
        give_up(scheduler, peer);
        return;
    }
    scheduler->backlog_bytes -= waiting->bytes;
    tessi_send_queue_add(waiting, bytes, size, NULL, 0);
    scheduler->backlog_bytes += waiting->bytes;
    if (scheduler->backlog_bytes > BACKLOGS_MAX) {
        give_up(scheduler, slowest_reader(scheduler));
    }
}

static void send_bytes(struct tessi_scheduler *scheduler, uint32_t peer, const void *bytes, size_t size)
{
    if (backlog_find(scheduler, peer) != NULL) {
        send_later(scheduler, peer, bytes, size);
        return;
    }
    enum tessi_status status = tessi_server_send(scheduler->server, peer, bytes, size, NULL, 0);
    if (status == TESSI_BUSY) {
        send_later(scheduler, peer, bytes, size);
    } else if (status != TESSI_OK) {
        peer_lost(scheduler, peer);
    }
}

struct recipient {
    struct tessi_server *server;
    uint32_t peer;
};

static enum tessi_status send_one(void *context, const void *header, size_t size, struct tessi_frame *frames,
                                  uint32_t frame_count)
{
    const struct recipient *to = context;
    return tessi_server_send(to->server, to->peer, header, size, frames, frame_count);
}

static void backlog_flush(struct tessi_scheduler *scheduler, struct backlog *backlog)
{
    struct recipient to = {scheduler->server, backlog->peer};
    scheduler->backlog_bytes -= backlog->waiting.bytes;
    enum tessi_status status = tessi_send_queue_flush(&backlog->waiting, send_one, &to);
    scheduler->backlog_bytes += backlog->waiting.bytes;
    if (status == TESSI_OK) {
        backlog_drop(scheduler, to.peer);
    } else if (status != TESSI_BUSY) {
        peer_lost(scheduler, to.peer);
    }
}

static void flush_all(struct tessi_scheduler *scheduler)
{
    for (size_t i = 0; i < scheduler->backlog_count; i++) {
        if (scheduler->backlogs[i].peer != 0) {
            backlog_flush(scheduler, &scheduler->backlogs[i]);
        }
    }
}

/* An answer, or a question to a worker. Answers are longer than what they answer: who does not read them is given up
 * before they are many. */
static void router_send(void *context, uint32_t peer, const void *bytes, size_t size)
{
    struct tessi_scheduler *scheduler = context;
    const struct backlog *backlog = backlog_find(scheduler, peer);
    if (backlog != NULL && backlog->waiting.bytes > UNREAD_MAX &&
        tessi_driver_role(scheduler->driver, peer) != TESSI_ROLE_WORKER) {
        give_up(scheduler, peer);
        return;
    }
    send_bytes(scheduler, peer, bytes, size);
}

/* ——— inputs ——— */

static void log_action(uint32_t peer, enum tessi_msg_type type)
{
    if (type == TESSI_MSG_REJECT || type == TESSI_MSG_BYE) {
        tessi_log_event(TESSI_LOG_WARN, type == TESSI_MSG_REJECT ? "peer_rejected" : "peer_given_up", "peer=%u", peer);
    }
}

static const char goodbye[] = "it said goodbye";

/* Workers that came or went with the last input: who they are, and what has to be run or made elsewhere now. */
static void log_members(struct tessi_scheduler *scheduler, const char *why)
{
    size_t count;
    struct tessi_sched_worker_status worker;
    const struct tessi_trace_record *notes = tessi_driver_notes(scheduler->driver, &count);
    for (size_t i = 0; i < count; i++) {
        uint32_t peer = notes[i].peer;
        if (notes[i].kind == TESSI_TRACE_JOIN &&
            tessi_sched_worker_find(tessi_driver_sched(scheduler->driver), peer, &worker)) {
            tessi_members_add(&scheduler->members, peer, worker.info);
            tessi_log_event(TESSI_LOG_INFO, "worker_joined", "peer=%u name=" TESSI_LOG_TEXT " address=%s from=%s", peer,
                            worker.info->name, worker.info->address, tessi_server_peer_host(scheduler->server, peer));
        } else if (notes[i].kind == TESSI_TRACE_LEAVE) {
            const struct tessi_member *member = tessi_members_find(&scheduler->members, peer);
            tessi_log_event(why == goodbye ? TESSI_LOG_INFO : TESSI_LOG_WARN, "worker_gone",
                            "peer=%u name=" TESSI_LOG_TEXT " address=%s why=" TESSI_LOG_TEXT " tasks_assigned=%" PRIu64
                            " memory_used_bytes=%" PRIu64,
                            peer, member->name, member->address, why, notes[i].amount, notes[i].index);
        }
    }
}

/* Send what the last input gave, and record its digest. `why` a worker has gone, if it has. */
static void deliver(struct tessi_scheduler *scheduler, const char *why)
{
    const struct tessi_outbox *outbox = tessi_driver_outbox(scheduler->driver);
    if (scheduler->recorder != NULL) {
        tessi_recorder_digest(scheduler->recorder, tessi_outbox_digest(outbox));
    }
    log_members(scheduler, why);
    tessi_router_keep_notes(scheduler->router);
    for (size_t i = 0; i < outbox->count; i++) {
        const struct tessi_outgoing *item = &outbox->items[i];
        log_action(item->peer, item->type);
        send_bytes(scheduler, item->peer, outbox->bytes.data + item->offset, item->size);
    }
}

static void record(struct tessi_scheduler *scheduler, enum tessi_record_kind kind, uint32_t peer, int64_t now_ns,
                   const void *bytes, size_t size)
{
    struct tessi_error error = {0};
    if (scheduler->recorder != NULL &&
        tessi_recorder_input(scheduler->recorder, kind, peer, now_ns, bytes, size, &error) != TESSI_OK) {
        tessi_log_event(TESSI_LOG_ERROR, "record_ended", "reason=" TESSI_LOG_TEXT, error.text);
    }
}

static void answer_status(struct tessi_scheduler *scheduler, uint32_t peer)
{
    struct tessi_status_facts facts = {.endpoint = tessi_server_endpoint(scheduler->server),
                                       .started_ns = scheduler->started_ns,
                                       .now_ns = tessi_clock_now(),
                                       .encrypted = tessi_net_is_encrypted(scheduler->net),
                                       .net = tessi_net_counters_read(scheduler->net),
                                       .server = tessi_server_gauges_read(scheduler->server),
                                       .waiting_bytes = scheduler->backlog_bytes,
                                       .sends_failed = scheduler->sends_failed};
    char *json = tessi_status_json(scheduler->driver, scheduler->router, scheduler->devices, &facts);
    struct tessi_message message = {
        .type = TESSI_MSG_STATUS_REPLY, .run_id = tessi_driver_run_id(scheduler->driver), .as.status_reply.json = json};
    struct tessi_buffer buffer = {0};
    if (tessi_message_pack(&buffer, &message, NULL) == TESSI_OK) {
        router_send(scheduler, peer, buffer.data, buffer.size);
    }
    tessi_buffer_fini(&buffer);
    tessi_free(json);
}

/* A submission for which there is no memory is refused before the machine sees it, and so it is not recorded either. */
static bool refuse_for_memory(struct tessi_scheduler *scheduler, uint32_t peer, const void *bytes, size_t size)
{
    enum tessi_msg_type type;
    uint64_t run_id;
    uint32_t count, code, request;
    struct tessi_scan scan;
    if (!tessi_message_peek(bytes, size, &type, &run_id) || type != TESSI_MSG_SUBMIT ||
        tessi_driver_role(scheduler->driver, peer) != TESSI_ROLE_CLIENT ||
        run_id != tessi_driver_run_id(scheduler->driver) || tessi_memory_ready(SUBMITTED_TIMES * size)) {
        return false;
    }
    tessi_scan_init(&scan, bytes, size);
    if (!tessi_scan_array(&scan, &count) || !tessi_scan_u32(&scan, &code) || !tessi_scan_u64(&scan, &run_id) ||
        !tessi_scan_u32(&scan, &request)) {
        return false;
    }
    struct tessi_message refusal = {.type = TESSI_MSG_REFUSED, .run_id = run_id};
    refusal.as.refused = (struct tessi_msg_refused){
        request, TESSI_NOMEM, "the scheduler has no memory for it: release arrays, or give its machine more"};
    struct tessi_buffer buffer = {0};
    if (tessi_message_pack(&buffer, &refusal, NULL) == TESSI_OK) {
        send_bytes(scheduler, peer, buffer.data, buffer.size);
    }
    tessi_buffer_fini(&buffer);
    return true;
}

/* What a session had lies freed between what is kept, where the allocator would hold it for good. An allocator that is
 * shared with a user's program is left alone. */
static void trim_soon(struct tessi_scheduler *scheduler, int64_t now_ns)
{
    if (scheduler->owns_net && scheduler->trim_ns == INT64_MAX) {
        int64_t again_ns = scheduler->trimmed_ns + TRIM_EVERY_NS;
        scheduler->trim_ns = again_ns > now_ns + TRIM_AFTER_NS ? again_ns : now_ns + TRIM_AFTER_NS;
    }
}

static void trim(struct tessi_scheduler *scheduler, int64_t now_ns)
{
    if (now_ns >= scheduler->trim_ns) {
        (void)malloc_trim(0);
        scheduler->trim_ns = INT64_MAX;
        scheduler->trimmed_ns = now_ns;
    }
}

static void take_message(struct tessi_scheduler *scheduler, uint32_t peer, const void *bytes, size_t size)
{
    struct tessi_error why = {0};
    int64_t now_ns = tessi_clock_now();
    if (tessi_router_take(scheduler->router, now_ns, peer, bytes, size) ||
        tessi_devices_take(scheduler->devices, peer, bytes, size) || refuse_for_memory(scheduler, peer, bytes, size)) {
        return;
    }
    enum tessi_role before = tessi_driver_role(scheduler->driver, peer);
    /* What is longer than any message is not recorded: a record's reader bounds its entries likewise. */
    size_t kept = size <= TESSI_MESSAGE_MAX ? size : 0;
    record(scheduler, TESSI_RECORD_MESSAGE, peer, now_ns, bytes, kept);
    enum tessi_driver_result result = tessi_driver_receive(scheduler->driver, now_ns, peer, bytes, kept, &why);
    if (result == TESSI_DRIVER_DROPPED) {
        tessi_log_event(TESSI_LOG_DEBUG, "message_dropped", "peer=%u bytes=%zu reason=" TESSI_LOG_TEXT, peer, size,
                        why.text);
    }
    enum tessi_role after = tessi_driver_role(scheduler->driver, peer);
    if (before == TESSI_ROLE_CLIENT && after != before) {
        trim_soon(scheduler, now_ns);
    }
    if (before != after) {
        static const char *const names[] = {"left", NULL, "client_joined", "peer_ended"};
        if (names[after] != NULL) { /* workers are told below, by name */
            tessi_log_event(TESSI_LOG_INFO, names[after], "peer=%u from=%s", peer,
                            tessi_server_peer_host(scheduler->server, peer));
        }
    }
    deliver(scheduler, goodbye);
    if (result == TESSI_DRIVER_STATUS) {
        answer_status(scheduler, peer);
    }
}

static void take_gone(struct tessi_scheduler *scheduler, uint32_t peer)
{
    int64_t now_ns = tessi_clock_now();
    backlog_drop(scheduler, peer);
    tessi_router_gone(scheduler->router, peer);
    tessi_devices_gone(scheduler->devices, peer);
    enum tessi_role role = tessi_driver_role(scheduler->driver, peer);
    if (role == TESSI_ROLE_NONE) {
        return;
    }
    if (role == TESSI_ROLE_CLIENT) {
        tessi_log_event(TESSI_LOG_INFO, "client_gone", "peer=%u", peer);
        trim_soon(scheduler, now_ns);
    }
    record(scheduler, TESSI_RECORD_GONE, peer, now_ns, NULL, 0);
    tessi_driver_gone(scheduler->driver, now_ns, peer);
    deliver(scheduler, "its connection ended");
    tessi_members_remove(&scheduler->members, peer);
}

/* Peers whose sends failed are gone for the machine at once. Telling it may find further ones. */
static void take_lost(struct tessi_scheduler *scheduler)
{
    while (scheduler->lost_count > 0) {
        take_gone(scheduler, scheduler->lost[--scheduler->lost_count]);
    }
}

static void drain(struct tessi_scheduler *scheduler);

/* One that comes late may be the first thing after a long absence: what others said meanwhile is taken before it. */
static void take_tick(struct tessi_scheduler *scheduler)
{
    int64_t now_ns = tessi_clock_now(), wake_ns = tessi_driver_outbox(scheduler->driver)->wake_ns;
    if (now_ns >= wake_ns && now_ns - wake_ns > LATE_NS) {
        drain(scheduler);
        now_ns = tessi_clock_now();
    }
    if (now_ns >= tessi_driver_outbox(scheduler->driver)->wake_ns) {
        record(scheduler, TESSI_RECORD_TICK, 0, now_ns, NULL, 0);
        tessi_driver_tick(scheduler->driver, now_ns);
        deliver(scheduler, "it was silent for too long");
        take_lost(scheduler);
    }
}

static void take_net_event(struct tessi_scheduler *scheduler, struct tessi_net_event *event)
{
    switch (event->kind) {
    case TESSI_NET_MESSAGE:
        /* Payload frames mean nothing here; a message with some is malformed. */
        take_message(scheduler, event->peer, event->frames[0].data,
                     event->frame_count == 1 ? event->frames[0].size : 0);
        break;
    case TESSI_NET_GONE:
        take_gone(scheduler, event->peer);
        break;
    case TESSI_NET_READY:
        break;
    }
    tessi_net_event_clear(event);
    take_lost(scheduler);
}

/* A few messages are received before an earlier one is taken, so that the machine knows whose are to come. When there
 * are no more, those at hand are taken before the next look. */
static void drain(struct tessi_scheduler *scheduler)
{
    struct tessi_net_event events[1 + AHEAD]; /* a ring */
    size_t first = 0, count = 0;
    bool more = true;
    for (int taken = 0;; taken++) {
        while (more && count <= AHEAD && taken < DRAIN_MAX && !atomic_load(&scheduler->stopping)) {
            struct tessi_net_event *event = &events[(first + count) % (1 + AHEAD)];
            more = tessi_server_receive(scheduler->server, event) == TESSI_OK;
            if (more && count > 0 && event->kind == TESSI_NET_MESSAGE) {
                tessi_driver_expect(scheduler->driver, event->peer);
            }
            count += more;
        }
        if (count == 0) {
            return;
        }
        take_net_event(scheduler, &events[first]);
        first = (first + 1) % (1 + AHEAD);
        count--;
        more = more || count == 0;
    }
}

/* ——— life ——— */

static struct tessi_sched_config complete(const struct tessi_sched_config *given)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    config.window_ns = given->window_ns != 0 ? given->window_ns : config.window_ns;
    config.worker_silence_ns = given->worker_silence_ns != 0 ? given->worker_silence_ns : config.worker_silence_ns;
    config.client_silence_ns = given->client_silence_ns != 0 ? given->client_silence_ns : config.client_silence_ns;
    config.wait_workers_ns = given->wait_workers_ns != 0 ? given->wait_workers_ns : config.wait_workers_ns;
    memcpy(config.family, given->family, sizeof config.family);
    config.lineage_max = given->lineage_max != 0 ? given->lineage_max : config.lineage_max;
    config.workers_last = given->workers_last;
    config.memory_bytes = given->memory_bytes;
    config.max_deaths = given->max_deaths != 0 ? given->max_deaths : config.max_deaths;
    return config;
}

/* A host's name is looked up once: `place` is what was checked, with the number in its stead. */
static enum tessi_status check_exposure(const struct tessi_scheduler_config *config, const struct tessi_net *net,
                                        const char *listen, char place[TESSI_ENDPOINT_MAX], struct tessi_error *error)
{
    struct tessi_address address;
    struct sockaddr_storage number;
    socklen_t length;
    enum tessi_status status = tessi_address_parse(listen, TESSI_ADDRESS_LISTEN, &address, error);
    if (status == TESSI_OK && address.scheme == TESSI_SCHEME_TCP && !tessi_address_is_wildcard(&address)) {
        status = tessi_address_resolve(&address, &number, &length, error);
        if (status != TESSI_OK) {
            tessi_error_prefix(error, "cannot listen at %s", listen);
            return status;
        }
        tessi_address_from_socket(&number, &address);
    }
    if (status != TESSI_OK) {
        return status;
    }
    tessi_address_format(&address, place, TESSI_ENDPOINT_MAX);
    if (tessi_address_is_loopback(&address) || tessi_net_is_encrypted(net) || config->insecure) {
        return TESSI_OK;
    }
    return tessi_fail(
        error, TESSI_AUTH,
        "%s can be reached from other machines, and without keys anyone there could use the cluster; make "
        "keys with `tessera keygen DIR` and give --keys DIR to the scheduler, the workers and the clients "
        "(or --insecure on a network that you trust)",
        listen);
}

static uint64_t random_run_id(void)
{
    uint64_t id = 0;
    ssize_t got;
    do {
        got = getrandom(&id, sizeof id, 0);
    } while (id == 0 || (got < 0 && errno == EINTR));
    return id;
}

/* A history that cannot be read or is damaged costs some estimates only. */
static void load_history(struct tessi_scheduler *scheduler)
{
    struct tessi_error error = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    scheduler->history_ns = tessi_clock_now();
    enum tessi_status status = tessi_history_read(scheduler->history_path, &bytes, &size, &error);
    if (status == TESSI_OK) {
        record(scheduler, TESSI_RECORD_HISTORY, 0, scheduler->history_ns, bytes, size);
        status = tessi_driver_history(scheduler->driver, bytes, size, &error);
        deliver(scheduler, "");
    }
    if (status != TESSI_OK && status != TESSI_NOT_FOUND) {
        tessi_log_event(TESSI_LOG_WARN, "history_ignored", "file=" TESSI_LOG_TEXT " reason=" TESSI_LOG_TEXT,
                        scheduler->history_path, error.text);
    }
    tessi_free(bytes);
}

static void save_history(struct tessi_scheduler *scheduler)
{
    struct tessi_error error = {0};
    struct tessi_sched_status now;
    const struct tessi_sched *sched = tessi_driver_sched(scheduler->driver);
    size_t size;
    tessi_sched_status(sched, &now);
    scheduler->history_ns = tessi_clock_now();
    if (scheduler->history_path == NULL || now.tasks_done == scheduler->history_tasks) {
        return;
    }
    scheduler->history_tasks = now.tasks_done;
    void *bytes = tessi_sched_history_save(sched, &size);
    if (tessi_history_write(scheduler->history_path, bytes, size, &error) != TESSI_OK) {
        tessi_log_event(TESSI_LOG_WARN, "history_not_written", "reason=" TESSI_LOG_TEXT, error.text);
    }
    tessi_free(bytes);
}

static enum tessi_status open_all(struct tessi_scheduler *scheduler, const struct tessi_scheduler_config *config,
                                  struct tessi_error *error)
{
    const char *listen = config->listen != NULL ? config->listen : TESSI_SCHEDULER_ADDRESS;
    struct tessi_sched_config sched = complete(&config->sched);
    struct tessi_net_options options = {.frame_bytes_max = TESSI_MESSAGE_MAX,
                                        .first_bytes_max = FIRST_BYTES,
                                        .linger_ms = config->linger_ms != 0 ? config->linger_ms : LINGER_MS};
    char place[TESSI_ENDPOINT_MAX];
    uint64_t run_id = random_run_id();
    enum tessi_status status = TESSI_OK;
    TESSI_TRY(tessi_memory_ready(0) ? TESSI_OK : tessi_fail(error, TESSI_NOMEM, "out of memory"));
    TESSI_TRY(tessi_descriptors_require("a scheduler", DESCRIPTORS, error));
    scheduler->net = config->net;
    if (scheduler->net == NULL) {
        TESSI_TRY(tessi_net_create(config->keys_dir, &scheduler->net, error));
        scheduler->owns_net = true;
    }
    TESSI_TRY(check_exposure(config, scheduler->net, listen, place, error));
    TESSI_TRY(tessi_poller_create(&scheduler->poller, error));
    TESSI_TRY(tessi_server_open(scheduler->net, place, &options, &scheduler->server, error));
    TESSI_TRY(tessi_poller_add_server(scheduler->poller, scheduler->server, scheduler, error));
    if (config->record_path != NULL) {
        TESSI_TRY(tessi_recorder_open(config->record_path, &sched, run_id, &scheduler->recorder, error));
    }
    scheduler->driver = tessi_driver_create(&sched, run_id);
    scheduler->router = tessi_router_create(scheduler->driver, router_send, scheduler);
    scheduler->devices = tessi_devices_create(scheduler->driver);
    if (config->history_path != NULL) {
        scheduler->history_path = tessi_strdup(config->history_path);
        load_history(scheduler);
    }
cleanup:
    return status;
}

enum tessi_status tessi_scheduler_create(const struct tessi_scheduler_config *config,
                                         struct tessi_scheduler **scheduler, struct tessi_error *error)
{
    struct tessi_scheduler *result = tessi_zalloc(sizeof *result);
    *scheduler = NULL;
    tessi_map_init(&result->backlog_of);
    atomic_init(&result->stopping, false);
    result->started_ns = tessi_clock_now();
    result->trim_ns = INT64_MAX;
    enum tessi_status status = open_all(result, config, error);
    if (status != TESSI_OK) {
        tessi_scheduler_destroy(result);
        return status;
    }
    *scheduler = result;
    return TESSI_OK;
}

const char *tessi_scheduler_endpoint(const struct tessi_scheduler *scheduler)
{
    return tessi_server_endpoint(scheduler->server);
}

void tessi_scheduler_run(struct tessi_scheduler *scheduler)
{
    while (!atomic_load(&scheduler->stopping)) {
        int64_t wake_ns = tessi_driver_outbox(scheduler->driver)->wake_ns;
        int64_t now_ns = tessi_clock_now();
        wake_ns = scheduler->trim_ns < wake_ns ? scheduler->trim_ns : wake_ns;
        int64_t timeout_ns = wake_ns == INT64_MAX ? TESSI_POLL_FOREVER : wake_ns > now_ns ? wake_ns - now_ns : 0;
        struct tessi_ready ready[4];
        uint32_t count = tessi_poller_wait(scheduler->poller, timeout_ns, ready, 4);
        for (uint32_t i = 0; i < count; i++) {
            if ((ready[i].events & TESSI_POLL_WRITE) != 0) {
                flush_all(scheduler);
                take_lost(scheduler);
            }
            if ((ready[i].events & TESSI_POLL_READ) != 0) {
                drain(scheduler);
            }
        }
        take_tick(scheduler);
        trim(scheduler, tessi_clock_now());
        if (tessi_clock_now() - scheduler->history_ns >= HISTORY_EVERY_NS) {
            save_history(scheduler);
        }
    }
    save_history(scheduler);
    tessi_driver_shutdown(scheduler->driver, "the scheduler was stopped");
    const struct tessi_outbox *outbox = tessi_driver_outbox(scheduler->driver);
    for (size_t i = 0; i < outbox->count; i++) {
        const struct tessi_outgoing *item = &outbox->items[i];
        send_bytes(scheduler, item->peer, outbox->bytes.data + item->offset, item->size);
    }
    tessi_log_event(TESSI_LOG_INFO, "scheduler_stopped", "peers=%zu", outbox->count);
}

void tessi_scheduler_stop(struct tessi_scheduler *scheduler)
{
    atomic_store(&scheduler->stopping, true);
    tessi_poller_wake(scheduler->poller);
}

void tessi_scheduler_destroy(struct tessi_scheduler *scheduler)
{
    if (scheduler == NULL) {
        return;
    }
    if (scheduler->server != NULL && scheduler->poller != NULL) {
        tessi_poller_remove_server(scheduler->poller, scheduler->server);
    }
    tessi_server_close(scheduler->server);
    tessi_poller_destroy(scheduler->poller);
    tessi_recorder_close(scheduler->recorder);
    tessi_router_destroy(scheduler->router);
    tessi_devices_destroy(scheduler->devices);
    tessi_driver_destroy(scheduler->driver);
    if (scheduler->owns_net) {
        tessi_net_destroy(scheduler->net);
    }
    for (size_t i = 0; i < scheduler->backlog_count; i++) {
        tessi_send_queue_fini(&scheduler->backlogs[i].waiting);
    }
    tessi_free(scheduler->backlogs);
    tessi_free(scheduler->history_path);
    tessi_members_fini(&scheduler->members);
    tessi_map_fini(&scheduler->backlog_of);
    tessi_free(scheduler->lost);
    tessi_free(scheduler);
}
