/* The connection to the scheduler. */
#include <inttypes.h>
#include <stdio.h>
#include <malloc.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "worker/internal.h"
#include "worker/kernel/blas.h"

#define WELCOME_TIMEOUT_NS (10 * TESSI_NS_PER_S)
#define HEARTBEAT_DEFAULT_MS 1000
#define DEVICES_NS TESSI_NS_PER_S /* so often people are told what devices do */
#define GATHER_NS INT64_C(500000) /* between reports that nobody waits for: each costs three threads some 15 us */
#define GAUGES_STALE_NS (100 * TESSI_NS_PER_MS) /* freed memory is no event, but somebody may be looking */

enum {
    SLOT_DEPTH = 512, /* short steps wait at a slot, so that handing them over costs little each */
    DEVICE_PLACES = 128, /* tasks at each device: its accumulators, and what waits for their panels */
    STEP_WINDOW = 3,
    QUIET_HEARTBEATS = 3 /* with nothing to do, before memory kept for use goes back */
};
#define PULL_BYTES (UINT64_C(128) << 20)
#define ASKS_MAX 4096 /* a sixteenth of the messages that may wait for a peer (peer/internal.h): what else waits fits too */

/* ——— sending ——— */

static void flush_unsent(struct tessi_worker *worker)
{
    if (!worker->link_full) {
        return;
    }
    enum tessi_status status = tessi_client_send(worker->link, worker->unsent.data, worker->unsent.size, NULL, 0);
    worker->link_full = status == TESSI_BUSY;
}

void tessi_worker_send(struct tessi_worker *worker, struct tessi_message *message)
{
    struct tessi_error error;
    TESS_ASSERT(!worker->link_full);
    message->run_id = worker->run_id;
    tessi_buffer_clear(&worker->unsent);
    enum tessi_status status = tessi_message_pack(&worker->unsent, message, &error);
    if (status != TESSI_OK) {
        tessi_worker_end(worker, status, "%s", error.text);
        return;
    }
    worker->sent_ns = worker->now_ns;
    worker->link_full = true;
    flush_unsent(worker);
}

/* As much as one message may ask for, from the front on; the span that would go beyond is cut. */
static void send_locates(struct tessi_worker *worker)
{
    enum { SPANS_MAX = 8192 };
    size_t count = 0;
    uint64_t room = TESSI_LOCATE_TASKS_MAX, rest = 0;
    while (count < worker->locates.count && count < SPANS_MAX && room > 0) {
        struct tessi_span *span = &worker->locates.items[count++];
        rest = span->count > room ? span->count - room : 0;
        span->count -= rest;
        room -= span->count;
    }
    struct tessi_message message = {.type = TESSI_MSG_LOCATE};
    message.as.locate.spans = tessi_spans_view(worker->locates.items, count);
    tessi_worker_send(worker, &message);
    if (rest > 0) {
        struct tessi_span *cut = &worker->locates.items[--count];
        cut->first += cut->count;
        cut->count = rest;
    }
    worker->locates.count -= count;
    memmove(worker->locates.items, worker->locates.items + count,
            worker->locates.count * sizeof *worker->locates.items);
}

static bool same_gauges(const struct tessi_report *a, const struct tessi_report *b)
{
    return a->memory_used_bytes == b->memory_used_bytes && a->memory_peak_bytes == b->memory_peak_bytes &&
           a->spilled_bytes == b->spilled_bytes && a->fetched_bytes == b->fetched_bytes &&
           a->served_bytes == b->served_bytes && a->mapped_bytes == b->mapped_bytes &&
           a->dropped_messages == b->dropped_messages && a->pulled_bytes == b->pulled_bytes &&
           a->devices_lost == b->devices_lost && a->short_bytes == b->short_bytes && a->busy == b->busy;
}

static void trace_spans(struct tessi_worker *worker, enum tessi_trace_kind kind, const struct tessi_spans *spans)
{
    for (size_t i = 0; i < spans->count; i++) {
        const struct tessi_span *span = &spans->items[i];
        tessi_trace_note(worker->trace, kind, (struct tessi_task){span->session, span->layer, span->first}, span->count,
                         span->worker, worker->now_ns, worker->now_ns);
    }
}

static void trace_steals(struct tessi_worker *worker, const struct tessi_report *report)
{
    trace_spans(worker, TESSI_TRACE_GIVE, &report->stolen);
    trace_spans(worker, TESSI_TRACE_KEEP, &report->kept);
}

/* What has happened since the last one; a bare heartbeat when that is nothing. */
static void send_report(struct tessi_worker *worker)
{
    struct tessi_message message = {.type = TESSI_MSG_REPORT};
    struct tessi_report *report = &message.as.report.report;
    tessi_flow_report(worker->flow, report);
    report->dropped_messages += worker->dropped_messages + tessi_peers_gauges(worker->peers).dropped_messages;
    report->devices_lost = tessi_gpus_count(worker->gpus) - tessi_gpus_alive(worker->gpus);
    if (tessi_report_empty(report) && same_gauges(report, &worker->gauges)) {
        tessi_report_fini(report);
        message = (struct tessi_message){.type = TESSI_MSG_HEARTBEAT};
        message.as.heartbeat.number = ++worker->heartbeats;
        tessi_worker_send(worker, &message);
        return;
    }
    trace_steals(worker, report);
    worker->reported_ns = worker->now_ns;
    tessi_worker_send(worker, &message);
    worker->gauges = (struct tessi_report){
        .memory_used_bytes = report->memory_used_bytes,
        .memory_peak_bytes = report->memory_peak_bytes,
        .spilled_bytes = report->spilled_bytes,
        .fetched_bytes = report->fetched_bytes,
        .served_bytes = report->served_bytes,
        .mapped_bytes = report->mapped_bytes,
        .dropped_messages = report->dropped_messages,
        .pulled_bytes = report->pulled_bytes,
        .devices_lost = report->devices_lost,
        .short_bytes = report->short_bytes,
        .busy = report->busy,
    };
    tessi_report_fini(report);
}

/* Memory that is kept for the next blocks goes back when there have been none for some time. */
static void notice_quiet(struct tessi_worker *worker)
{
    struct tessi_flow_stats stats;
    tessi_flow_stats(worker->flow, &stats);
    if (stats.tasks_waiting > 0 || stats.tasks_started > 0 || stats.blocks != worker->quiet_blocks) {
        worker->quiet_heartbeats = 0;
        worker->quiet_blocks = stats.blocks;
    } else if (++worker->quiet_heartbeats == QUIET_HEARTBEATS) {
        tessi_flow_trim(worker->flow);
        tessi_store_trim(worker->store);
        (void)malloc_trim(0); /* freed chunks lie between others, where the allocator would keep them */
    }
}

/* When what a report says of memory is too old, or the scheduler would think that nobody is here. */
static int64_t report_deadline(const struct tessi_worker *worker)
{
    struct tessi_flow_stats stats;
    tessi_flow_stats(worker->flow, &stats);
    bool stale = stats.memory_used_bytes != worker->gauges.memory_used_bytes;
    int64_t after_ns = stale && worker->heartbeat_ns > GAUGES_STALE_NS ? GAUGES_STALE_NS : worker->heartbeat_ns;
    int64_t until_ns = worker->sent_ns + after_ns, gathered_ns = worker->reported_ns + GATHER_NS;
    return gathered_ns < until_ns && tessi_flow_has_report(worker->flow) ? gathered_ns : until_ns;
}

static bool devices_due(const struct tessi_worker *worker)
{
    return worker->gpus != NULL && worker->phase == WORKER_WORKING &&
           worker->now_ns - worker->devices_told_ns >= DEVICES_NS;
}

/* One message for each, as far as the link has room; what they do is measured for the next time. */
static void tell_devices(struct tessi_worker *worker)
{
    int64_t sent_ns = worker->sent_ns; /* no sign of life: the machine does not see it */
    while (!worker->link_full && worker->devices_told < tessi_gpus_count(worker->gpus) && worker->phase == WORKER_WORKING) {
        struct tessi_message message = {.type = TESSI_MSG_DEVICE};
        struct tessi_gpus_device device;
        tessi_gpus_device(worker->gpus, worker->devices_told, &device);
        message.as.device = (struct tessi_msg_device){.number = worker->devices_told++,
                                                      .name = device.name,
                                                      .lost = !device.alive,
                                                      .memory_bytes = device.memory_bytes,
                                                      .used_bytes = device.used_bytes,
                                                      .total_bytes = device.total_bytes,
                                                      .total_used_bytes = device.gauges.memory_used_bytes,
                                                      .utilisation = device.gauges.utilisation,
                                                      .watts = device.gauges.watts,
                                                      .joules = device.gauges.joules,
                                                      .steps = device.steps,
                                                      .copied_in_bytes = device.copied_in_bytes,
                                                      .copied_out_bytes = device.copied_out_bytes};
        tessi_worker_send(worker, &message);
    }
    worker->sent_ns = sent_ns;
    if (worker->devices_told == tessi_gpus_count(worker->gpus)) {
        worker->devices_told = 0;
        worker->devices_told_ns = worker->now_ns;
        tessi_gpus_measure(worker->gpus);
        tessi_gpus_probe(worker->gpus);
    }
}

void tessi_worker_tell(struct tessi_worker *worker)
{
    flush_unsent(worker);
    bool due = worker->now_ns - worker->sent_ns >= worker->heartbeat_ns;
    bool wanted = due || worker->now_ns >= report_deadline(worker) ||
                  (tessi_flow_has_report(worker->flow) &&
                   (worker->locates.count > 0 || tessi_flow_report_presses(worker->flow)));
    if (!worker->link_full && worker->phase == WORKER_WORKING && wanted) {
        send_report(worker);
    }
    if (worker->leave_unsent && !worker->link_full && worker->phase == WORKER_WORKING) {
        struct tessi_message message = {.type = TESSI_MSG_LEAVE};
        message.as.leave.wait_ms = worker->config.drain_timeout_ms;
        worker->leave_unsent = false;
        tessi_worker_send(worker, &message);
    }
    /* The scheduler answers a LOCATE by what it has been told, so the report goes first. */
    while (!worker->link_full && worker->locates.count > 0 && worker->phase == WORKER_WORKING) {
        send_locates(worker);
    }
    if (worker->question_count > 0) {
        tessi_worker_answer(worker);
    }
    if (devices_due(worker)) {
        tell_devices(worker);
    }
    if (due) {
        notice_quiet(worker);
    }
}

int64_t tessi_worker_tell_deadline(const struct tessi_worker *worker)
{
    if (worker->link_full) {
        return INT64_MAX; /* the poller tells when there is room again */
    }
    int64_t report_ns = report_deadline(worker);
    int64_t devices_ns = worker->gpus != NULL ? worker->devices_told_ns + DEVICES_NS : INT64_MAX;
    return report_ns < devices_ns ? report_ns : devices_ns;
}

void tessi_worker_say_goodbye(struct tessi_worker *worker)
{
    flush_unsent(worker);
    /* When even that finds no room, the end of the connection says it. */
    if (!worker->link_full) {
        struct tessi_message message = {.type = TESSI_MSG_GOODBYE};
        message.as.goodbye.text = "stopped";
        tessi_worker_send(worker, &message);
    }
}

/* ——— being taken in ——— */

static void wake_loop(void *context)
{
    struct tessi_worker *worker = context;
    tessi_poller_wake(worker->poller);
}

/* Open slots with a kernel family that has the numerics the cluster agreed on: the best that the library has. */
static enum tessi_status open_slots(struct tessi_worker *worker, const char *numerics, const char **family,
                                    struct tessi_error *error)
{
    struct tessi_slots_config config = {
        .trace = worker->trace,
        .count = worker->threads,
        .depth = SLOT_DEPTH,
        .pin = worker->config.pin,
        .name = worker->name,
        .data_dir = worker->config.data_dir,
        .files_allowed = tessi_address_is_loopback(&worker->scheduler),
        .write_dir = worker->config.write_dir,
        .own_process = worker->scheduler.scheme == TESSI_SCHEME_INPROC,
        .wake = wake_loop,
        .context = worker,
    };
    const char *list[TESSI_BLAS_FAMILIES_MAX + 1];
    uint32_t count = tessi_blas_families(list);
    list[count++] = "plain";
    if (worker->config.blas_core != NULL) {
        list[0] = worker->config.blas_core;
        count = 1;
    }
    enum tessi_status status =
        tessi_fail(error, TESSI_UNSUPPORTED,
                   "this cluster computes with BLAS kernels of family '%s', which this processor "
                   "cannot run",
                   numerics);
    for (uint32_t i = 0; i < count && (status == TESSI_UNSUPPORTED || status == TESSI_BUSY); i++) {
        bool fits = numerics[0] == 0 || strcmp(tessi_blas_numerics_of(list[i]), numerics) == 0;
        if (fits) {
            *family = config.blas_family = numerics[0] == 0 ? NULL : list[i];
            status = tessi_slots_create(&config, &worker->slots, error);
        }
    }
    return status;
}

/* The cluster's numerics are those of processors, and after a plus those of devices when products run on them. */
static enum tessi_status open_devices(struct tessi_worker *worker, const char *numerics, struct tessi_error *error)
{
    char processors[TESSI_WIRE_NAME_MAX + 1];
    const char *plus = strchr(numerics, '+');
    const char *family = NULL;
    size_t length = plus != NULL ? (size_t)(plus - numerics) : strlen(numerics);
    (void)snprintf(processors, sizeof processors, "%.*s", (int)length, numerics);
    enum tessi_status status;
    TESSI_TRY(open_slots(worker, processors, &family, error));
    bool agreed = plus != NULL && worker->gpus != NULL && strcmp(plus + 1, tessi_gpus_numerics(worker->gpus)) == 0;
    if (plus != NULL && !agreed) {
        return tessi_fail(error, TESSI_UNSUPPORTED, "this cluster computes products on devices of numerics '%s', which this "
                          "worker has not", plus + 1);
    }
    if (worker->gpus != NULL && !agreed) {
        tessi_log_event(TESSI_LOG_WARN, "gpus_idle", "reason=" TESSI_LOG_TEXT,
                        "the cluster began without GPUs: start the worker that has them first, or the scheduler with their "
                        "--blas-core");
        tessi_gpus_destroy(worker->gpus);
        worker->gpus = NULL;
    }
    if (worker->gpus != NULL) {
        TESSI_TRY(tessi_gpus_open(worker->gpus, family, worker->store, worker->trace, error));
    }
    if (worker->gpus != NULL && tessi_gpus_count(worker->gpus) == 0) {
        tessi_log_event(TESSI_LOG_ERROR, "gpus_gone", "reason=" TESSI_LOG_TEXT,
                        "no device could be opened: processors do what was for devices, and the last bits of products may differ "
                        "from those of other workers");
        tessi_gpus_destroy(worker->gpus);
        worker->gpus = NULL;
    }
    if (worker->gpus != NULL) {
        char text[512];
        worker->deferred = tessi_deferred_create(worker->gpus, worker->store, worker->threads);
        tessi_gpus_describe(worker->gpus, text, sizeof text);
        tessi_log_event(TESSI_LOG_INFO, "gpus", "count=%" PRIu32 " what=" TESSI_LOG_TEXT,
                        tessi_gpus_alive(worker->gpus), text);
    }
cleanup:
    return status;
}

static void on_welcome(struct tessi_worker *worker, const struct tessi_message *message)
{
    const struct tessi_msg_welcome *welcome = &message->as.welcome;
    struct tessi_error error = {TESSI_OK, ""};
    worker->run_id = message->run_id;
    worker->id = welcome->id;
    uint32_t heartbeat_ms = welcome->heartbeat_ms > 0 ? welcome->heartbeat_ms : HEARTBEAT_DEFAULT_MS;
    worker->heartbeat_ns = heartbeat_ms * TESSI_NS_PER_MS;
    uint32_t events = worker->config.trace_events > 0 ? worker->config.trace_events : TESSI_TRACE_EVENTS;
    worker->trace = tessi_trace_create(worker->config.no_trace ? 0 : events);
    enum tessi_status status = open_devices(worker, welcome->family, &error);
    if (status == TESSI_OK) {
        status = tessi_peers_begin(worker->peers, worker->run_id, worker->id, &error);
    }
    if (status != TESSI_OK) {
        tessi_worker_say_goodbye(worker);
        tessi_worker_end(worker, status, "%s", error.text);
        return;
    }
    struct tessi_flow_config flow = {
        .self = worker->id,
        .slots = worker->threads,
        .device_slots = DEVICE_PLACES * tessi_gpus_alive(worker->gpus),
        .copy_ns_per_byte = tessi_gpus_copy_ns_per_byte(worker->gpus),
        .slot_depth = SLOT_DEPTH,
        .window = STEP_WINDOW,
        .memory_bytes = worker->memory_bytes,
        .block_cost = TESSI_BLOCK_COST,
        .spill_bytes = worker->spill_bytes,
        .pull_bytes = PULL_BYTES,
        .asks_max = ASKS_MAX,
        .resources = worker->resources,
    };
    worker->flow = tessi_flow_create(&flow);
    worker->phase = WORKER_WORKING;
    worker->joined_ns = worker->now_ns;
    tessi_log_event(TESSI_LOG_INFO, "worker_joined",
                    "worker=%" PRIu32 " blas=%s slots=%" PRIu32 " memory_bytes=%" PRIu64, worker->id,
                    tessi_blas_family(), worker->threads, worker->memory_bytes);
    if (worker->config.connected != NULL) {
        worker->config.connected(worker->config.context, tessi_client_endpoint(worker->link), worker->id);
    }
}

/* ——— its messages ——— */

static void step_spans(struct tessi_worker *worker, enum tessi_flow_event_kind kind, const struct tessi_spans *spans,
                       const struct tessi_spans *where)
{
    struct tessi_flow_event event = {.kind = kind, .spans = spans->items, .span_count = spans->count};
    if (where != NULL) {
        event.where = where->items;
        event.where_count = where->count;
    }
    tessi_worker_step(worker, &event, NULL);
}

static void take_layers(struct tessi_worker *worker, struct tessi_msg_layers *layers)
{
    for (size_t i = 0; i < layers->layers.count; i++) {
        struct tessi_flow_event event = {.kind = TESSI_FLOW_LAYER, .layer = layers->layers.items[i]};
        event.device = tessi_gpus_takes(worker->gpus, event.layer);
        event.either = event.device && tessi_gpus_either(event.layer);
        layers->layers.items[i] = NULL;
        tessi_worker_step(worker, &event, NULL);
    }
}

static void drop_layers(struct tessi_worker *worker, const struct tessi_msg_drop_layers *drop)
{
    for (size_t i = 0; i < drop->ids.count; i++) {
        struct tessi_flow_event event = {
            .kind = TESSI_FLOW_DROP_LAYER, .session = drop->session, .layer_id = drop->ids.items[i]};
        tessi_worker_step(worker, &event, NULL);
    }
}

static void take_work(struct tessi_worker *worker, struct tessi_message *message)
{
    enum tessi_msg_type type = message->type;
    if (type == TESSI_MSG_PEER_UP) {
        const struct tessi_msg_peer_up *up = &message->as.peer_up;
        tessi_peers_up(worker->peers, up->worker, up->address, strcmp(up->host, worker->host_id) == 0);
    } else if (type == TESSI_MSG_PEER_LOST) {
        tessi_peers_lost(worker->peers, message->as.peer_lost.worker);
    } else if (type == TESSI_MSG_LAYERS) {
        take_layers(worker, &message->as.layers);
    } else if (type == TESSI_MSG_DROP_LAYERS) {
        drop_layers(worker, &message->as.drop_layers);
    } else if (type == TESSI_MSG_ASSIGN) {
        step_spans(worker, TESSI_FLOW_ASSIGN, &message->as.assign.spans, &message->as.assign.where);
    } else if (type == TESSI_MSG_STEAL) {
        step_spans(worker, TESSI_FLOW_STEAL, &message->as.steal.spans, NULL);
    } else if (type == TESSI_MSG_FREE) {
        step_spans(worker, TESSI_FLOW_FREE, &message->as.free.spans, NULL);
    } else if (type == TESSI_MSG_ADOPT) {
        step_spans(worker, TESSI_FLOW_ADOPT, &message->as.adopt.spans, NULL);
    } else if (type == TESSI_MSG_TAKE_OVER) {
        step_spans(worker, TESSI_FLOW_TAKE_OVER, &message->as.take_over.spans, NULL);
    } else if (type == TESSI_MSG_LEFT) {
        tessi_worker_on_left(worker, &message->as.left);
    } else if (type == TESSI_MSG_LOCATION) {
        step_spans(worker, TESSI_FLOW_LOCATION, &message->as.location.spans, NULL);
    } else if (type == TESSI_MSG_TRACE_REQUEST || type == TESSI_MSG_WHY_REQUEST) {
        tessi_worker_take_question(worker, message);
    } else {
        worker->dropped_messages++;
    }
}

static void take_message(struct tessi_worker *worker, struct tessi_message *message)
{
    enum tessi_msg_type type = message->type;
    if (type == TESSI_MSG_REJECT) {
        tessi_worker_end(worker,
                         message->as.reject.status != 0 ? (enum tessi_status)message->as.reject.status : TESSI_PROTOCOL,
                         "the scheduler does not take this worker: %s", message->as.reject.text);
    } else if (type == TESSI_MSG_SHUTDOWN) {
        tessi_log_event(TESSI_LOG_INFO, "shutdown", "reason=" TESSI_LOG_TEXT, message->as.shutdown.text);
        tessi_worker_end(worker, TESSI_OK, "%s", message->as.shutdown.text);
    } else if (type == TESSI_MSG_BYE) {
        tessi_worker_give_up_membership(worker, TESSI_CLOSED, "the scheduler has given this worker up: %s",
                                        message->as.bye.text);
    } else if (worker->phase == WORKER_JOINING && type == TESSI_MSG_WELCOME) {
        on_welcome(worker, message);
    } else if (worker->phase == WORKER_WORKING && message->run_id == worker->run_id) {
        take_work(worker, message);
    } else {
        worker->dropped_messages++;
    }
}

static void link_gone(struct tessi_worker *worker)
{
    const struct tessi_error *why = tessi_client_error(worker->link);
    if (worker->phase == WORKER_JOINING) {
        bool hopeless = why->status == TESSI_AUTH || why->status == TESSI_PROTOCOL;
        if (hopeless) {
            tessi_worker_end(worker, why->status, "%s", why->text);
        } else {
            tessi_worker_give_up_membership(worker, why->status != TESSI_OK ? why->status : TESSI_LOST, "%s", why->text);
        }
    } else {
        tessi_worker_give_up_membership(
            worker, TESSI_LOST, "the scheduler at %s is gone: its connection has ended; start it and this worker again",
            tessi_client_endpoint(worker->link));
    }
}

static void link_ready(struct tessi_source *source, uint32_t events)
{
    struct tessi_worker *worker = (struct tessi_worker *)((char *)source - offsetof(struct tessi_worker, link_source));
    struct tessi_net_event event;
    (void)events;
    while (worker->phase != WORKER_OVER && tessi_client_receive(worker->link, &event) == TESSI_OK) {
        struct tessi_message message;
        struct tessi_error error;
        if (event.kind == TESSI_NET_GONE) {
            link_gone(worker);
        } else if (event.kind == TESSI_NET_MESSAGE) {
            if (tessi_message_unpack(event.frames[0].data, event.frames[0].size, &message, &error) == TESSI_OK) {
                take_message(worker, &message);
                tessi_message_fini(&message);
            } else {
                /* Without this message we and the scheduler would disagree for ever. */
                tessi_worker_end(worker, error.status, "the scheduler sent something else than a message: %s",
                                 error.text);
            }
        }
        tessi_net_event_clear(&event);
    }
}

enum tessi_status tessi_worker_join(struct tessi_worker *worker, struct tessi_error *error)
{
    struct tessi_net_options options = {.frame_bytes_max = TESSI_MESSAGE_MAX,
                                        .connect_timeout_ms = worker->config.connect_timeout_ms};
    enum tessi_status status;
    worker->link_source.ready = link_ready;
    TESSI_TRY(tessi_client_open(worker->net, worker->config.scheduler, &options, &worker->link, error));
    TESSI_TRY(tessi_poller_add_client(worker->poller, worker->link, &worker->link_source, error));
    struct tessi_message message = {.type = TESSI_MSG_HELLO_WORKER};
    struct tessi_msg_hello_worker *hello = &message.as.hello_worker;
    memcpy(hello->hello.families, worker->families, sizeof hello->hello.families);
    hello->name = worker->name;
    hello->host = worker->host_id;
    hello->address = worker->address;
    hello->slots = worker->threads;
    hello->memory_bytes = worker->memory_bytes;
    hello->spill_bytes = worker->spill_bytes;
    char resources[TESSI_RESOURCES_TEXT_MAX];
    hello->resources = tessi_resources_text(&worker->resources, resources, sizeof resources);
    hello->processor = worker->processor;
    hello->writes = worker->config.write_dir != NULL || worker->scheduler.scheme == TESSI_SCHEME_INPROC;
    struct tessi_gpus_offer offer;
    tessi_gpus_offer(worker->gpus, &offer);
    hello->devices = offer.count;
    hello->device = offer.name;
    hello->device_memory_bytes = offer.memory_bytes;
    hello->device_gflops = offer.gflops;
    hello->device_flops_min = offer.flops_min;
    hello->device_bytes_min = offer.bytes_min;
    uint32_t connect_ms = worker->config.connect_timeout_ms > 0 ? worker->config.connect_timeout_ms : 5000;
    worker->welcome_limit_ns = worker->now_ns + connect_ms * TESSI_NS_PER_MS + WELCOME_TIMEOUT_NS;
    tessi_worker_send(worker, &message);
cleanup:
    return status;
}
