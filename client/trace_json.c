#include "client/trace_json.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/status.h"
#include "core/graph/op.h"

#define LANES_SORTED 16 /* lanes of a ring whose rows stand together */
#define ROWS_MAX 64     /* of one lane; a slice for which all are taken is drawn as an instant */

void tessi_trace_json_init(struct tessi_trace_json *json, FILE *file, bool queues)
{
    *json = (struct tessi_trace_json){.file = file, .queues = queues, .lanes = ""};
    tessi_map_init(&json->operations);
    tessi_map_init(&json->named);
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", file);
}

void tessi_trace_json_fini(struct tessi_trace_json *json)
{
    tessi_map_fini(&json->operations);
    tessi_map_fini(&json->named);
    tessi_free(json->names);
    tessi_free(json->rows);
}

static void put_text(FILE *file, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            fputc('\\', file);
            fputc(c, file);
        } else if (c < 0x20) {
            fprintf(file, "\\u%04x", c);
        } else {
            fputc(c, file);
        }
    }
}

static void begin(struct tessi_trace_json *json)
{
    fputs(json->any ? ",\n" : "\n", json->file);
    json->any = true;
}

static void metadata(struct tessi_trace_json *json, const char *what, uint32_t tid, const char *name, size_t length,
                     uint32_t number)
{
    begin(json);
    fprintf(json->file, "{\"ph\":\"M\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32 ",\"name\":\"%s\",\"args\":{\"name\":\"",
            json->pid, tid, what);
    put_text(json->file, name, length);
    fprintf(json->file, number > 0 ? " %" PRIu32 "\"}}" : "\"}}", number + 1);
}

static void sort_index(struct tessi_trace_json *json, const char *what, uint32_t tid, int64_t index)
{
    begin(json);
    fprintf(json->file,
            "{\"ph\":\"M\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32 ",\"name\":\"%s\",\"args\":{\"sort_index\":%" PRIi64
            "}}",
            json->pid, tid, what, index);
}

void tessi_trace_json_process(struct tessi_trace_json *json, uint32_t pid, const char *name, int64_t offset_ns)
{
    json->pid = pid;
    json->offset_ns = offset_ns;
    json->next_tid = 1;
    json->ring = 0;
    metadata(json, "process_name", 0, name, strlen(name), 0);
    sort_index(json, "process_sort_index", 0, pid == TESSI_TRACE_SCHEDULER_PID ? -1 : (int64_t)pid);
}

void tessi_trace_json_ring(struct tessi_trace_json *json, const char *lanes)
{
    json->lanes = lanes;
    json->row_count = 0;
    json->ring++;
}

/* A row of the lane that is free from `start_ns` on; NULL: all it may have are taken. */
static struct tessi_trace_row *row_for(struct tessi_trace_json *json, uint32_t lane, int64_t start_ns)
{
    uint32_t number = 0;
    for (size_t i = 0; i < json->row_count; i++) {
        struct tessi_trace_row *row = &json->rows[i];
        if (row->lane == lane) {
            if (row->last_ns <= start_ns) {
                return row;
            }
            number++;
        }
    }
    if (number == ROWS_MAX) {
        return NULL;
    }
    tessi_grow(&json->rows, &json->row_capacity, json->row_count + 1, sizeof *json->rows);
    struct tessi_trace_row *row = &json->rows[json->row_count++];
    *row = (struct tessi_trace_row){.lane = lane, .number = number, .tid = json->next_tid++, .last_ns = INT64_MIN};
    const char *name = json->lanes;
    for (uint32_t i = 0; i < lane && strchr(name, '\n') != NULL; i++) {
        name = strchr(name, '\n') + 1;
    }
    metadata(json, "thread_name", row->tid, name, strcspn(name, "\n"), number);
    sort_index(json, "thread_sort_index", row->tid, ((int64_t)json->ring * LANES_SORTED + lane) * ROWS_MAX + number);
    return row;
}

static void put_time(FILE *file, const char *key, int64_t ns)
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t size = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    fprintf(file, ",\"%s\":%s%" PRIu64 ".%03" PRIu64, key, sign, size / 1000, size % 1000);
}

static const char *operation_of(struct tessi_trace_json *json, const struct tessi_trace_record *record)
{
    uint32_t op = tessi_map_get(&json->operations, (struct tessi_map_key){record->session, record->layer});
    return op != TESSI_MAP_NONE && tessi_op_valid(op) ? tessi_op_row((enum tessi_op)op)->name : "layer";
}

/* "matmul 3", or "matmul 3 [w]" where the user has given the array a name. */
static void put_layer(struct tessi_trace_json *json, const struct tessi_trace_record *record)
{
    uint32_t name = tessi_map_get(&json->named, (struct tessi_map_key){record->session, record->layer});
    fprintf(json->file, "%s %" PRIu32, operation_of(json, record), record->layer);
    if (name != TESSI_MAP_NONE) {
        fputs(" [", json->file);
        put_text(json->file, json->names[name], strlen(json->names[name]));
        fputc(']', json->file);
    }
}

/* A part of a layer's name. They come in order; one whose beginning is overwritten stays without. */
static void take_name(struct tessi_trace_json *json, const struct tessi_trace_record *record)
{
    struct tessi_map_key layer = {record->session, record->layer};
    char part[TESSI_TRACE_NAME_BYTES + 1];
    tessi_trace_name_get(record, part);
    uint32_t at = tessi_map_get(&json->named, layer);
    if (at == TESSI_MAP_NONE && record->amount == 0) {
        tessi_grow(&json->names, &json->name_capacity, json->name_count + 1, sizeof *json->names);
        at = (uint32_t)json->name_count++;
        json->names[at][0] = 0;
        tessi_map_put(&json->named, layer, at);
    }
    if (at != TESSI_MAP_NONE && strlen(json->names[at]) == record->amount) {
        size_t room = sizeof json->names[at] - (size_t)record->amount;
        (void)snprintf(json->names[at] + record->amount, room, "%s", part);
    }
}

static bool is_steal(uint8_t kind)
{
    return kind >= TESSI_TRACE_TAKE && kind <= TESSI_TRACE_REFUSE;
}

static const char *end_text(const struct tessi_trace_record *record)
{
    if (is_steal(record->kind)) {
        return tessi_trace_why_text(record->why);
    }
    return record->why == 0 ? "" : tessi_status_text((enum tessi_status)record->why);
}

/* "run matmul 3": slices of a layer share a name, and with it a colour and a line in Perfetto's sums. */
static void put_name(struct tessi_trace_json *json, const struct tessi_trace_record *record)
{
    const char *kind = tessi_trace_kind_name((enum tessi_trace_kind)record->kind);
    if (record->kind == TESSI_TRACE_JOIN || record->kind == TESSI_TRACE_LEAVE) {
        fprintf(json->file, "{\"name\":\"%s\",\"cat\":\"%s\"", kind, kind);
        return;
    }
    fprintf(json->file, "{\"name\":\"%s%s", record->kind == TESSI_TRACE_RUN ? "" : kind,
            record->kind == TESSI_TRACE_RUN ? "" : " ");
    put_layer(json, record);
    fprintf(json->file, "\",\"cat\":\"%s\"", kind);
}

static void put_args(struct tessi_trace_json *json, const struct tessi_trace_record *record)
{
    if (record->kind == TESSI_TRACE_JOIN || record->kind == TESSI_TRACE_LEAVE) {
        fprintf(json->file, ",\"args\":{\"peer\":%" PRIu32 ",\"%s\":%" PRIu64 ",\"bytes\":%" PRIu64 "}}", record->peer,
                tessi_trace_amount_name((enum tessi_trace_kind)record->kind), record->amount, record->index);
        return;
    }
    fprintf(json->file, ",\"args\":{\"task\":\"%" PRIu32 ".%" PRIu32 ":%" PRIu64 "\",\"%s\":%" PRIu64, record->session,
            record->layer, record->index, tessi_trace_amount_name((enum tessi_trace_kind)record->kind), record->amount);
    if (is_steal(record->kind)) {
        fprintf(json->file, ",\"from\":%" PRIu64 ",\"to\":%" PRIu32, record->giver, record->peer);
    } else {
        fprintf(json->file, ",\"%s\":%" PRIu32, record->kind == TESSI_TRACE_RUN ? "step" : "peer", record->peer);
        if (record->kind == TESSI_TRACE_INLINE || record->kind == TESSI_TRACE_MAP) {
            fprintf(json->file, ",\"asked_ns\":%" PRIi64, record->took_ns);
        }
    }
    if (end_text(record)[0] != 0) {
        fprintf(json->file, ",\"why\":\"%s\"", end_text(record));
    }
    fputs("}}", json->file);
}

static void put_queue(struct tessi_trace_json *json, const struct tessi_trace_record *record, int64_t start_ns)
{
    int64_t assigned_ns = start_ns - (int64_t)record->amount;
    json->queue_id++;
    for (int end = 0; end < 2; end++) {
        begin(json);
        fputs("{\"name\":\"", json->file);
        put_layer(json, record);
        fprintf(json->file,
                "\",\"cat\":\"queue\",\"ph\":\"%s\",\"id\":%" PRIu64 ",\"pid\":%" PRIu32 ",\"tid\":0",
                end ? "e" : "b", json->queue_id, json->pid);
        put_time(json->file, "ts", end ? start_ns : assigned_ns);
        fputc('}', json->file);
    }
    json->events++;
}

void tessi_trace_json_record(struct tessi_trace_json *json, const struct tessi_trace_record *record)
{
    if (record->kind == TESSI_TRACE_LAYER) {
        tessi_map_put(&json->operations, (struct tessi_map_key){record->session, record->layer}, record->peer);
    }
    if (record->kind == TESSI_TRACE_NAME) {
        take_name(json, record);
        return;
    }
    int64_t start_ns = record->start_ns - json->offset_ns;
    int64_t took_ns = is_steal(record->kind) ? 0 : record->took_ns;
    bool asked = record->kind == TESSI_TRACE_INLINE || record->kind == TESSI_TRACE_MAP;
    bool slice = !asked && (took_ns > 0 || record->kind == TESSI_TRACE_RUN);
    /* An instant goes on any row; a slot runs one step at a time, a device's stream one copy. */
    bool one_row = !slice || record->kind == TESSI_TRACE_RUN || record->kind == TESSI_TRACE_COPY_IN ||
                   record->kind == TESSI_TRACE_COPY_OUT;
    struct tessi_trace_row *row = row_for(json, record->lane, one_row ? INT64_MAX : start_ns);
    if (row == NULL) {
        slice = false;
        row = row_for(json, record->lane, INT64_MAX);
    }
    if (json->queues && record->kind == TESSI_TRACE_RUN && record->peer == 0) {
        put_queue(json, record, start_ns);
    }
    begin(json);
    put_name(json, record);
    if (slice && start_ns < row->last_ns) { /* by the nanoseconds between two looks at the clock */
        took_ns = start_ns + took_ns > row->last_ns ? start_ns + took_ns - row->last_ns : 0;
        start_ns = row->last_ns;
    }
    if (slice) {
        row->last_ns = start_ns + took_ns;
        fputs(",\"ph\":\"X\"", json->file);
        put_time(json->file, "dur", took_ns);
    } else {
        fputs(",\"ph\":\"i\",\"s\":\"t\"", json->file);
    }
    put_time(json->file, "ts", slice ? start_ns : start_ns + took_ns);
    fprintf(json->file, ",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32, json->pid, row->tid);
    put_args(json, record);
    json->events++;
}

void tessi_trace_json_end(struct tessi_trace_json *json, uint64_t overwritten)
{
    fprintf(json->file, "\n],\"otherData\":{\"overwritten\":%" PRIu64 "}}\n", overwritten);
}
