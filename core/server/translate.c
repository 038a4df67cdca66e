#include "core/server/translate.h"

#include <stdio.h>
#include <string.h>

static void set_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from == NULL ? "" : from);
}

/* 0 for what is none. */
static double figure(double value)
{
    return value > 0 && value < 1e18 ? value : 0;
}

/* At most more than any host has, so that those of many workers can be added up. */
static uint64_t bytes(uint64_t told)
{
    const uint64_t most = UINT64_C(1) << 48;
    return told < most ? told : most;
}

static void info_from_hello(struct tessi_worker_info *info, const struct tessi_msg_hello_worker *hello)
{
    set_text(info->name, sizeof info->name, hello->name);
    set_text(info->host, sizeof info->host, hello->host);
    set_text(info->address, sizeof info->address, hello->address);
    set_text(info->family, sizeof info->family, hello->hello.families);
    info->slots = hello->slots;
    info->memory_bytes = bytes(hello->memory_bytes);
    info->spill_bytes = bytes(hello->spill_bytes);
    set_text(info->resources, sizeof info->resources, hello->resources);
    set_text(info->processor, sizeof info->processor, hello->processor);
    info->writes = hello->writes;
    info->devices = hello->devices;
    set_text(info->device, sizeof info->device, hello->device);
    info->device_memory_bytes = bytes(hello->device_memory_bytes);
    info->device_gflops = figure(hello->device_gflops);
    info->device_flops_min = figure(hello->device_flops_min);
    info->device_bytes_min = figure(hello->device_bytes_min);
}

static bool from_worker(const struct tessi_message *message, struct tessi_sched_event *event)
{
    if (message->type == TESSI_MSG_REPORT) {
        event->kind = TESSI_SCHED_REPORT;
        event->report = &message->as.report.report;
        return true;
    }
    if (message->type == TESSI_MSG_LEAVE) {
        event->kind = TESSI_SCHED_WORKER_LEAVING;
        event->wait_ns = (int64_t)message->as.leave.wait_ms * 1000000;
        return true;
    }
    if (message->type == TESSI_MSG_HEARTBEAT) {
        event->kind = TESSI_SCHED_WORKER_HEARD;
        return true;
    }
    if (message->type == TESSI_MSG_GOODBYE) {
        event->kind = TESSI_SCHED_WORKER_LEAVE;
        return true;
    }
    return false;
}

static bool from_client(const struct tessi_message *message, struct tessi_sched_event *event)
{
    if (message->type == TESSI_MSG_SUBMIT) {
        event->kind = TESSI_SCHED_SUBMIT;
        event->request = message->as.submit.request;
        event->layers = message->as.submit.layers.items;
        event->layer_count = message->as.submit.layers.count;
        event->ids = message->as.submit.wanted.items;
        event->id_count = message->as.submit.wanted.count;
        return true;
    }
    if (message->type == TESSI_MSG_RELEASE || message->type == TESSI_MSG_CANCEL || message->type == TESSI_MSG_DETACH) {
        bool release = message->type == TESSI_MSG_RELEASE, cancel = message->type == TESSI_MSG_CANCEL;
        const struct tessi_id_list *ids = release  ? &message->as.release.ids
                                          : cancel ? &message->as.cancel.ids
                                                   : &message->as.detach.ids;
        event->kind = release ? TESSI_SCHED_RELEASE : cancel ? TESSI_SCHED_CANCEL : TESSI_SCHED_DETACH;
        event->ids = ids->items;
        event->id_count = ids->count;
        return true;
    }
    if (message->type == TESSI_MSG_HEARTBEAT) {
        event->kind = TESSI_SCHED_CLIENT_HEARD;
        return true;
    }
    if (message->type == TESSI_MSG_GOODBYE) {
        event->kind = TESSI_SCHED_CLIENT_LEAVE;
        return true;
    }
    return false;
}

bool tessi_event_from_message(const struct tessi_message *message, enum tessi_role role, uint32_t peer, int64_t now_ns,
                              struct tessi_sched_event *event)
{
    *event = (struct tessi_sched_event){.now_ns = now_ns, .peer = peer};
    switch (role) {
    case TESSI_ROLE_NONE:
        if (message->type == TESSI_MSG_HELLO_WORKER) {
            event->kind = TESSI_SCHED_WORKER_JOIN;
            info_from_hello(&event->worker, &message->as.hello_worker);
            return true;
        }
        event->kind = TESSI_SCHED_CLIENT_JOIN;
        return message->type == TESSI_MSG_HELLO_CLIENT;
    case TESSI_ROLE_WORKER:
    case TESSI_ROLE_CLIENT:
        if (message->type == TESSI_MSG_LOCATE) {
            event->kind = TESSI_SCHED_LOCATE;
            event->spans = message->as.locate.spans.items;
            event->span_count = message->as.locate.spans.count;
            return true;
        }
        return role == TESSI_ROLE_WORKER ? from_worker(message, event) : from_client(message, event);
    case TESSI_ROLE_ENDED:
        return false;
    }
    return false;
}

static struct tessi_msg_peer_up peer_up(const struct tessi_sched_action *action)
{
    const struct tessi_worker_info *info = action->info;
    return (struct tessi_msg_peer_up){.worker = action->worker,
                                      .name = info->name,
                                      .host = info->host,
                                      .address = info->address,
                                      .slots = info->slots,
                                      .memory_bytes = info->memory_bytes,
                                      .spill_bytes = info->spill_bytes,
                                      .resources = info->resources,
                                      .processor = info->processor,
                                      .writes = info->writes,
                                      .family = info->family};
}

static struct tessi_session_counts counts(const struct tessi_sched_session_stats *stats)
{
    return (struct tessi_session_counts){stats->tasks_done, stats->tasks_rerun, stats->steals, stats->workers_lost,
                                         stats->bytes_moved};
}

/* The actions that carry spans. */
static void spans_message(const struct tessi_sched_action *action, struct tessi_message *message)
{
    struct tessi_spans spans = tessi_spans_view(action->spans, action->span_count);
    if (action->kind == TESSI_SCHED_ASSIGN) {
        message->type = TESSI_MSG_ASSIGN;
        message->as.assign.spans = spans;
        message->as.assign.where = tessi_spans_view(action->where, action->where_count);
    } else if (action->kind == TESSI_SCHED_STEAL) {
        message->type = TESSI_MSG_STEAL;
        message->as.steal.spans = spans;
    } else if (action->kind == TESSI_SCHED_FREE) {
        message->type = TESSI_MSG_FREE;
        message->as.free.spans = spans;
    } else if (action->kind == TESSI_SCHED_ADOPT) {
        message->type = TESSI_MSG_ADOPT;
        message->as.adopt.spans = spans;
    } else if (action->kind == TESSI_SCHED_TAKE_OVER) {
        message->type = TESSI_MSG_TAKE_OVER;
        message->as.take_over.spans = spans;
    } else if (action->kind == TESSI_SCHED_LOCATION) {
        message->type = TESSI_MSG_LOCATION;
        message->as.location.spans = spans;
    } else {
        message->type = TESSI_MSG_PUSH;
        message->as.push = (struct tessi_msg_push){action->worker, spans};
    }
}

void tessi_message_from_action(const struct tessi_sched_action *action, uint32_t heartbeat_ms,
                               struct tessi_message *message)
{
    uint32_t status = (uint32_t)action->status;
    memset(message, 0, sizeof *message);
    switch (action->kind) {
    case TESSI_SCHED_WELCOME:
        message->type = TESSI_MSG_WELCOME;
        message->as.welcome = (struct tessi_msg_welcome){action->peer, action->text, heartbeat_ms, action->total};
        return;
    case TESSI_SCHED_REJECT:
        message->type = TESSI_MSG_REJECT;
        message->as.reject = (struct tessi_msg_reject){status, action->text};
        return;
    case TESSI_SCHED_PEER_UP:
        message->type = TESSI_MSG_PEER_UP;
        message->as.peer_up = peer_up(action);
        return;
    case TESSI_SCHED_PEER_LOST:
        message->type = TESSI_MSG_PEER_LOST;
        message->as.peer_lost.worker = action->worker;
        return;
    case TESSI_SCHED_LAYERS:
        message->type = TESSI_MSG_LAYERS;
        message->as.layers.layers =
            (struct tessi_layer_list){(struct tessi_layer **)(uintptr_t)action->layers, action->layer_count};
        return;
    case TESSI_SCHED_DETACHED:
        message->type = TESSI_MSG_DETACHED;
        message->as.detached.ids = (struct tessi_id_list){action->ids, action->id_count};
        return;
    case TESSI_SCHED_DROP_LAYERS:
        message->type = TESSI_MSG_DROP_LAYERS;
        message->as.drop_layers = (struct tessi_msg_drop_layers){action->session, {action->ids, action->id_count}};
        return;
    case TESSI_SCHED_ASSIGN:
    case TESSI_SCHED_STEAL:
    case TESSI_SCHED_FREE:
    case TESSI_SCHED_ADOPT:
    case TESSI_SCHED_TAKE_OVER:
    case TESSI_SCHED_LOCATION:
    case TESSI_SCHED_PUSH:
        spans_message(action, message);
        return;
    case TESSI_SCHED_ACCEPTED:
        message->type = TESSI_MSG_ACCEPTED;
        message->as.accepted.request = action->request;
        return;
    case TESSI_SCHED_REFUSED:
        message->type = TESSI_MSG_REFUSED;
        message->as.refused = (struct tessi_msg_refused){action->request, status, action->text};
        return;
    case TESSI_SCHED_PROGRESS:
        message->type = TESSI_MSG_PROGRESS;
        message->as.progress = (struct tessi_msg_progress){action->request, action->done, action->total};
        return;
    case TESSI_SCHED_DONE:
        message->type = TESSI_MSG_DONE;
        message->as.done = (struct tessi_msg_done){action->layer_id, action->elapsed_ns, counts(&action->stats)};
        return;
    case TESSI_SCHED_FAILED:
        message->type = TESSI_MSG_FAILED;
        message->as.failed = (struct tessi_msg_failed){action->layer_id, status, action->text};
        return;
    case TESSI_SCHED_BYE:
        message->type = TESSI_MSG_BYE;
        message->as.bye.text = action->text;
        return;
    case TESSI_SCHED_LEFT:
        message->type = TESSI_MSG_LEFT;
        message->as.left = (struct tessi_msg_left){action->leave.handed_blocks, action->leave.handed_bytes,
                                                   action->leave.remade_blocks, action->leave.lost_blocks};
        return;
    }
}
