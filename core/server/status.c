#include "core/server/status.h"
#include "core/sched/explain/explain.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/base/alloc.h"
#include "core/wire/build.h"

#define ARRAYS_TOLD 64

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static void put(cJSON *object, const char *name, uint64_t value)
{
    cJSON_AddNumberToObject(object, name, (double)value);
}

static cJSON *worker_json(const struct tessi_sched_worker_status *worker, int64_t now_ns)
{
    cJSON *object = cJSON_CreateObject();
    put(object, "id", worker->id);
    cJSON_AddStringToObject(object, "name", worker->info->name);
    cJSON_AddStringToObject(object, "host", worker->info->host);
    cJSON_AddStringToObject(object, "address", worker->info->address);
    cJSON_AddStringToObject(object, "family", worker->info->family);
    put(object, "slots", worker->info->slots);
    put(object, "memory_bytes", worker->info->memory_bytes);
    put(object, "memory_used_bytes", worker->memory_used_bytes);
    put(object, "memory_peak_bytes", worker->memory_peak_bytes);
    put(object, "spill_bytes", worker->info->spill_bytes);
    put(object, "spilled_bytes", worker->spilled_bytes);
    cJSON_AddStringToObject(object, "resources", worker->info->resources);
    cJSON_AddStringToObject(object, "resources_used", worker->resources_used);
    cJSON_AddStringToObject(object, "processor", worker->info->processor);
    put(object, "device_count", worker->info->devices);
    cJSON_AddStringToObject(object, "device", worker->info->device);
    put(object, "device_memory_bytes", worker->info->device_memory_bytes);
    cJSON_AddNumberToObject(object, "device_gflops", worker->info->device_gflops);
    cJSON_AddNumberToObject(object, "fetch_bytes_per_second", worker->bytes_per_second);
    put(object, "tasks_assigned", worker->tasks_assigned);
    put(object, "tasks_done", worker->tasks_done);
    put(object, "fetched_bytes", worker->fetched_bytes);
    put(object, "served_bytes", worker->served_bytes);
    put(object, "mapped_bytes", worker->mapped_bytes);
    put(object, "dropped_messages", worker->dropped_messages);
    cJSON_AddNumberToObject(object, "queue_seconds", worker->queue_seconds);
    cJSON_AddBoolToObject(object, "leaving", worker->leaving);
    cJSON_AddNumberToObject(object, "heard_seconds_ago", seconds(now_ns - worker->heard_ns));
    return object;
}

/* A figure that the device does not tell is null. */
static void put_known(cJSON *object, const char *name, double value)
{
    if (value >= 0) {
        cJSON_AddNumberToObject(object, name, value);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

static void put_devices(cJSON *worker, const struct tessi_device_table *devices, uint32_t id)
{
    cJSON *array = cJSON_AddArrayToObject(worker, "devices");
    for (uint32_t i = 0; i < TESSI_DEVICES_MAX; i++) {
        const struct tessi_msg_device *device = tessi_devices_of(devices, id, i);
        if (device == NULL) {
            continue;
        }
        cJSON *object = cJSON_CreateObject();
        put(object, "number", device->number);
        cJSON_AddStringToObject(object, "name", device->name);
        cJSON_AddBoolToObject(object, "lost", device->lost);
        put(object, "memory_bytes", device->memory_bytes);
        put(object, "memory_used_bytes", device->used_bytes);
        put(object, "memory_total_bytes", device->total_bytes);
        put_known(object, "memory_total_used_bytes", (double)device->total_used_bytes);
        put_known(object, "utilisation", device->utilisation);
        put_known(object, "watts", device->watts);
        put_known(object, "joules", device->joules);
        put(object, "steps", device->steps);
        put(object, "copied_in_bytes", device->copied_in_bytes);
        put(object, "copied_out_bytes", device->copied_out_bytes);
        cJSON_AddItemToArray(array, object);
    }
}

static void put_machine(cJSON *object, const struct tessi_sched_status *status)
{
    put(object, "sessions", status->sessions);
    put(object, "layers", status->layers);
    put(object, "graph_memory_used_bytes", status->memory_used_bytes);
    put(object, "graph_memory_bytes", status->memory_bytes);
    put(object, "tasks_total", status->tasks_total);
    put(object, "tasks_done", status->tasks_done);
    put(object, "tasks_rerun", status->tasks_rerun);
    put(object, "tasks_failed", status->tasks_failed);
    put(object, "tasks_waiting", status->tasks_waiting);
    put(object, "steals", status->steals);
    put(object, "workers_joined", status->workers_joined);
    put(object, "workers_lost", status->workers_lost);
    put(object, "workers_left", status->workers_left);
    put(object, "blocks_handed", status->blocks_handed);
    put(object, "bytes_moved", status->bytes_moved);
    put(object, "stale_reports", status->stale_reports);
}

/* Arrays that have a name, as far as clients hold or wait for them. */
static void put_arrays(cJSON *object, const struct tessi_sched *sched)
{
    struct tessi_sched_array arrays[ARRAYS_TOLD];
    size_t count = tessi_sched_arrays(sched, arrays, ARRAYS_TOLD);
    cJSON *list = cJSON_AddArrayToObject(object, "arrays");
    for (size_t i = 0; i < count; i++) {
        cJSON *array = cJSON_CreateObject();
        cJSON_AddStringToObject(array, "name", arrays[i].layer->name);
        cJSON_AddStringToObject(array, "operation", tessi_op_row(arrays[i].layer->op)->name);
        put(array, "session", arrays[i].session);
        put(array, "layer", arrays[i].layer->id);
        put(array, "tasks", arrays[i].tasks);
        put(array, "tasks_done", arrays[i].done);
        put(array, "bytes", tessi_layer_bytes(arrays[i].layer));
        cJSON_AddItemToArray(list, array);
    }
}

/* How steals went: why some came to nothing, and the newest ones. */
static void put_steals(cJSON *object, const struct tessi_sched_status *status, const struct tessi_router *router,
                       int64_t now_ns)
{
    cJSON *refused = cJSON_AddObjectToObject(object, "steals_refused");
    for (uint32_t why = 0; why < TESSI_TRACE_WHY_END; why++) {
        if (status->steals_refused[why] > 0) {
            put(refused, tessi_trace_why_text(why), status->steals_refused[why]);
        }
    }
    cJSON *recent = cJSON_AddArrayToObject(object, "recent_steals");
    const struct tessi_trace_record *record;
    for (size_t i = 0; (record = tessi_router_steal(router, i)) != NULL; i++) {
        cJSON *steal = cJSON_CreateObject();
        char task[64];
        snprintf(task, sizeof task, "%" PRIu32 ".%" PRIu32 ":%" PRIu64, record->session, record->layer, record->index);
        cJSON_AddNumberToObject(steal, "seconds_ago", seconds(now_ns - record->start_ns));
        cJSON_AddStringToObject(steal, "step", tessi_trace_kind_name((enum tessi_trace_kind)record->kind));
        cJSON_AddStringToObject(steal, "first_task", task);
        put(steal, "tasks", record->amount);
        put(steal, "from", record->giver);
        put(steal, "to", record->peer);
        cJSON_AddStringToObject(steal, "why", tessi_trace_why_text(record->why));
        cJSON_AddItemToArray(recent, steal);
    }
}

static void put_traffic(cJSON *object, const struct tessi_driver_counters *counters,
                        const struct tessi_status_facts *facts)
{
    put(object, "messages_received", counters->messages);
    /* All that came in and was thrown away, refused connections included. */
    put(object, "dropped_messages",
        counters->malformed + counters->stale + counters->misplaced + facts->net.messages_malformed +
            facts->net.messages_stale + facts->net.handshakes_refused + facts->net.keys_refused);
    put(object, "messages_malformed", counters->malformed + facts->net.messages_malformed);
    put(object, "messages_stale", counters->stale + facts->net.messages_stale);
    put(object, "messages_misplaced", counters->misplaced);
    put(object, "sends_failed", facts->sends_failed);
    put(object, "hellos_refused", counters->refused);
    put(object, "handshakes_refused", facts->net.handshakes_refused);
    put(object, "keys_refused", facts->net.keys_refused);
    /* What peers make us hold: of messages that have not come whole, and of those that they have not read. */
    put(object, "received_bytes_held", facts->server.held_bytes);
    put(object, "unread_bytes_held", facts->server.unread_bytes + facts->waiting_bytes);
    put(object, "connections_cut", facts->server.cut);
    put(object, "connections_silent", facts->server.strangers);
}

char *tessi_status_json(const struct tessi_driver *driver, const struct tessi_router *router,
                        const struct tessi_device_table *devices, const struct tessi_status_facts *facts)
{
    const struct tessi_sched *sched = tessi_driver_sched(driver);
    struct tessi_sched_status status;
    char run_id[32];
    tessi_sched_status(sched, &status);
    snprintf(run_id, sizeof run_id, "%016" PRIx64, tessi_driver_run_id(driver));
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "endpoint", facts->endpoint);
    cJSON_AddStringToObject(root, "version", tessi_build_name());
    cJSON_AddStringToObject(root, "run_id", run_id);
    cJSON_AddBoolToObject(root, "encrypted", facts->encrypted);
    cJSON_AddNumberToObject(root, "uptime_seconds", seconds(facts->now_ns - facts->started_ns));
    put_machine(root, &status);
    put_arrays(root, sched);
    put_steals(root, &status, router, facts->now_ns);
    put_traffic(root, tessi_driver_counters(driver), facts);
    cJSON *workers = cJSON_AddArrayToObject(root, "workers");
    for (size_t i = 0; i < status.workers; i++) {
        struct tessi_sched_worker_status worker;
        tessi_sched_worker_status(sched, i, &worker);
        cJSON *object = worker_json(&worker, facts->now_ns);
        put_devices(object, devices, worker.id);
        cJSON_AddItemToArray(workers, object);
    }
    char *printed = cJSON_PrintUnformatted(root);
    char *text = tessi_strdup(printed == NULL ? "{}" : printed);
    cJSON_free(printed);
    cJSON_Delete(root);
    return text;
}
