#include "core/wire/message.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/wire/span_codec.h"

struct sink {
    char *text;
    size_t size;
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(struct sink *sink, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int wrote = vsnprintf(sink->text + sink->used, sink->size - sink->used, format, arguments);
    va_end(arguments);
    if (wrote > 0) {
        size_t left = sink->size - sink->used - 1;
        sink->used += (size_t)wrote < left ? (size_t)wrote : left;
    }
}

static void put_spans(struct sink *sink, const char *name, const struct tessi_spans *spans)
{
    put(sink, " %s=[", name);
    for (size_t i = 0; i < spans->count && sink->used + 1 < sink->size; i++) {
        const struct tessi_span *span = &spans->items[i];
        put(sink, "%s%u.%u:%" PRIu64 "+%" PRIu64 " epoch=%u worker=%u order=%" PRIu64 "+%" PRIu64 " time_ns=%" PRIi64,
            i > 0 ? ", " : "", span->session, span->layer, span->first, span->count, span->epoch, span->worker,
            span->order, span->order_step, span->time_ns);
    }
    put(sink, "]");
}

static void put_ids(struct sink *sink, const char *name, const struct tessi_id_list *ids)
{
    put(sink, " %s=[", name);
    for (size_t i = 0; i < ids->count && sink->used + 1 < sink->size; i++) {
        put(sink, "%s%u", i > 0 ? " " : "", ids->items[i]);
    }
    put(sink, "]");
}

static void put_layers(struct sink *sink, const char *name, const struct tessi_layer_list *layers)
{
    put(sink, " %s=[", name);
    for (size_t i = 0; i < layers->count && sink->used + 1 < sink->size; i++) {
        const struct tessi_layer *layer = layers->items[i];
        struct tessi_shape shape;
        char text[192], label[TESSI_LAYER_LABEL_MAX];
        if (layer == NULL) {
            continue;
        }
        tessi_grid_shape(&layer->grid, &shape);
        put(sink, "%s%u.%u %s %s%s/%" PRIu64, i > 0 ? ", " : "", layer->session, layer->id,
            tessi_layer_label(layer, label, sizeof label), tessi_dtype_name(layer->dtype),
            tessi_shape_format(&shape, text, sizeof text), tessi_layer_tasks(layer));
    }
    put(sink, "]");
}

static void put_report(struct sink *sink, const struct tessi_report *report)
{
#define TESSI_ROW(name, columns)                                                                                       \
    if (report->name.count > 0) {                                                                                      \
        put_spans(sink, #name, &report->name);                                                                         \
    }
    TESSI_REPORT_LISTS(TESSI_ROW)
#undef TESSI_ROW
    for (size_t i = 0; i < report->failure_count && sink->used + 1 < sink->size; i++) {
        const struct tessi_failure *failure = &report->failures[i];
        put(sink, " failed=%u.%u:%" PRIu64 " epoch=%u status=%d text=\"%s\"", failure->task.session,
            failure->task.layer, failure->task.index, failure->epoch, (int)failure->status, failure->text);
    }
#define TESSI_ROW(name) put(sink, " %s=%" PRIu64, #name, report->name);
    TESSI_REPORT_GAUGES(TESSI_ROW)
#undef TESSI_ROW
}

static void put_trace(struct sink *sink, const char *name, const struct tessi_trace_list *records)
{
    put(sink, " %s=[", name);
    for (size_t i = 0; i < records->count && sink->used + 1 < sink->size; i++) {
        const struct tessi_trace_record *record = &records->items[i];
        put(sink, "%s%s %u.%u:%" PRIu64 " start_ns=%" PRIi64 " took_ns=%" PRIi64 " %s=%" PRIu64 " peer=%u why=%u",
            i > 0 ? ", " : "", tessi_trace_kind_name((enum tessi_trace_kind)record->kind), record->session,
            record->layer, record->index, record->start_ns, record->took_ns,
            tessi_trace_amount_name((enum tessi_trace_kind)record->kind), record->amount, record->peer, record->why);
    }
    put(sink, "]");
}

static void put_field(struct sink *sink, const struct tessi_wire_field *field, const void *value)
{
    switch (field->kind) {
    case TESSI_WIRE_u32:
        put(sink, " %s=%u", field->name, *(const uint32_t *)value);
        return;
    case TESSI_WIRE_u64:
        put(sink, " %s=%" PRIu64, field->name, *(const uint64_t *)value);
        return;
    case TESSI_WIRE_i64:
        put(sink, " %s=%" PRIi64, field->name, *(const int64_t *)value);
        return;
    case TESSI_WIRE_f64:
        put(sink, " %s=%.17g", field->name, *(const double *)value);
        return;
    case TESSI_WIRE_flag:
        put(sink, " %s=%s", field->name, *(const bool *)value ? "true" : "false");
        return;
    case TESSI_WIRE_text:
        put(sink, " %s=\"%s\"", field->name, *(const char *const *)value == NULL ? "" : *(const char *const *)value);
        return;
    case TESSI_WIRE_hello: {
        const struct tessi_hello *hello = value;
        put(sink, " protocol=%u build=%s families=%s", hello->protocol, hello->build, hello->families);
        return;
    }
    case TESSI_WIRE_task: {
        const struct tessi_task *task = value;
        put(sink, " %s=%u.%u:%" PRIu64, field->name, task->session, task->layer, task->index);
        return;
    }
    case TESSI_WIRE_spans:
        put_spans(sink, field->name, value);
        return;
    case TESSI_WIRE_ids:
        put_ids(sink, field->name, value);
        return;
    case TESSI_WIRE_layers:
        put_layers(sink, field->name, value);
        return;
    case TESSI_WIRE_report:
        put_report(sink, value);
        return;
    case TESSI_WIRE_stats: {
        const struct tessi_session_counts *stats = value;
        put(sink,
            " tasks_done=%" PRIu64 " tasks_rerun=%" PRIu64 " steals=%" PRIu64 " workers_lost=%" PRIu64
            " bytes_moved=%" PRIu64,
            stats->tasks_done, stats->tasks_rerun, stats->steals, stats->workers_lost, stats->bytes_moved);
        return;
    }
    case TESSI_WIRE_trace:
        put_trace(sink, field->name, value);
        return;
    }
}

const char *tessi_message_dump(const struct tessi_message *message, char *text, size_t size)
{
    struct sink sink = {text, size, 0};
    const struct tessi_wire_row *row = tessi_wire_row((uint32_t)message->type);
    text[0] = 0;
    put(&sink, "%s run_id=%016" PRIx64, tessi_message_name(message->type), message->run_id);
    for (uint32_t i = 0; row != NULL && i < row->field_count; i++) {
        put_field(&sink, &row->fields[i], (const uint8_t *)&message->as + row->fields[i].offset);
    }
    return text;
}
