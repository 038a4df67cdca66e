#include "core/wire/span_codec.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/wire/message.h"
#include "core/wire/pack.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "columns on the wire are little-endian memory");

/* Every column that spans can have, in the order of the wire; ALWAYS is none of the optional ones. */
#define ALWAYS 0u
#define COLUMNS(ROW)                                                                                                   \
    ROW(first, ALWAYS) /* in full: it bounds the count */                                                              \
    ROW(count, ALWAYS)                                                                                                 \
    ROW(session, ALWAYS)                                                                                               \
    ROW(layer, ALWAYS)                                                                                                 \
    ROW(epoch, TESSI_SPAN_EPOCH)                                                                                       \
    ROW(worker, TESSI_SPAN_WORKER)                                                                                     \
    ROW(order, TESSI_SPAN_ORDER)                                                                                       \
    ROW(order_step, TESSI_SPAN_ORDER)                                                                                  \
    ROW(time_ns, TESSI_SPAN_TIME)                                                                                      \
    ROW(deaths, TESSI_SPAN_DEATHS)                                                                                     \
    ROW(device, TESSI_SPAN_DEVICE)

struct column {
    size_t offset;
    size_t width;
    uint32_t flag;
};

static const struct column columns_table[] = {
#define TESSI_ROW(name, flag) {offsetof(struct tessi_span, name), sizeof((struct tessi_span *)0)->name, flag},
    COLUMNS(TESSI_ROW)
#undef TESSI_ROW
};
#define COLUMN_COUNT (sizeof columns_table / sizeof columns_table[0])

static bool present(const struct column *column, uint32_t columns)
{
    return column->flag == ALWAYS || (columns & column->flag) != 0;
}

static uint32_t column_count(uint32_t columns)
{
    uint32_t count = 0;
    for (size_t c = 0; c < COLUMN_COUNT; c++) {
        count += present(&columns_table[c], columns);
    }
    return count;
}

/* Columns are four or eight bytes wide; a copy of constant length is one instruction. */
static inline void copy_value(void *to, const void *from, size_t width)
{
    if (width == sizeof(uint64_t)) {
        memcpy(to, from, sizeof(uint64_t));
    } else {
        memcpy(to, from, sizeof(uint32_t));
    }
}

static bool constant(const struct tessi_spans *spans, const struct column *column)
{
    const uint8_t *base = (const uint8_t *)spans->items + column->offset;
    uint64_t first = 0, other = 0;
    copy_value(&first, base, column->width);
    for (size_t i = 1; i < spans->count; i++) {
        copy_value(&other, base + i * sizeof *spans->items, column->width);
        if (other != first) {
            return false;
        }
    }
    return true;
}

void tessi_spans_pack(struct tessi_buffer *buffer, const struct tessi_spans *spans, uint32_t columns)
{
    tessi_pack_array(buffer, spans->count == 0 ? 1 : 1 + column_count(columns));
    tessi_pack_u64(buffer, spans->count);
    if (spans->count == 0) {
        return;
    }
    for (size_t c = 0; c < COLUMN_COUNT; c++) {
        const struct column *column = &columns_table[c];
        if (!present(column, columns)) {
            continue;
        }
        size_t values = c > 0 && constant(spans, column) ? 1 : spans->count;
        tessi_pack_binary_header(buffer, values * column->width);
        uint8_t *to = tessi_buffer_extend(buffer, values * column->width);
        const uint8_t *from = (const uint8_t *)spans->items + column->offset;
        for (size_t i = 0; i < values; i++) {
            copy_value(to + i * column->width, from + i * sizeof *spans->items, column->width);
        }
    }
}

static bool unpack_column(struct tessi_scan *scan, struct tessi_spans *spans, size_t count, const struct column *column)
{
    const uint8_t *bytes;
    size_t size;
    if (!tessi_scan_binary(scan, &bytes, &size)) {
        return false;
    }
    bool full = size == count * column->width;
    if (!full && (size != column->width || column == &columns_table[0])) {
        return tessi_scan_fail(scan, "a column of spans has the wrong length");
    }
    if (spans->items == NULL) { /* The first column is there in full, so `count` is bounded by the message. */
        spans->items = tessi_try_alloc(count * sizeof *spans->items);
        if (spans->items == NULL) {
            return tessi_scan_fail(scan, "no memory for spans");
        }
        memset(spans->items, 0, count * sizeof *spans->items);
        spans->count = spans->capacity = count;
    }
    uint8_t *to = (uint8_t *)spans->items + column->offset;
    size_t stride = full ? column->width : 0;
    for (size_t i = 0; i < count; i++) {
        copy_value(to + i * sizeof *spans->items, bytes + i * stride, column->width);
    }
    return true;
}

bool tessi_spans_unpack(struct tessi_scan *scan, struct tessi_spans *spans, uint32_t columns)
{
    uint32_t elements, count;
    *spans = (struct tessi_spans){0};
    if (!tessi_scan_array(scan, &elements) || !tessi_scan_u32(scan, &count)) {
        return false;
    }
    bool ok = elements == (count == 0 ? 1 : 1 + column_count(columns)) ||
              tessi_scan_fail(scan, "spans with the wrong number of columns");
    for (size_t c = 0; ok && count > 0 && c < COLUMN_COUNT; c++) {
        if (present(&columns_table[c], columns)) {
            ok = unpack_column(scan, spans, count, &columns_table[c]);
        }
    }
    for (size_t i = 0; ok && i < count; i++) {
        const struct tessi_span *span = &spans->items[i];
        if (span->count == 0 || span->count > UINT64_MAX - span->first) {
            ok = tessi_scan_fail(scan, "a span of impossible length");
        }
    }
    if (!ok) {
        tessi_spans_fini(spans);
    }
    return ok;
}

#define ONE_LIST(name, columns) +1
#define ONE_GAUGE(name) +1
#define REPORT_ELEMENTS (2 TESSI_REPORT_LISTS(ONE_LIST) TESSI_REPORT_GAUGES(ONE_GAUGE)) /* 2: failures, spill error */

void tessi_report_pack(struct tessi_buffer *buffer, const struct tessi_report *report)
{
    tessi_pack_array(buffer, REPORT_ELEMENTS);
#define TESSI_ROW(name, columns) tessi_spans_pack(buffer, &report->name, columns);
    TESSI_REPORT_LISTS(TESSI_ROW)
#undef TESSI_ROW
    tessi_pack_array(buffer, report->failure_count);
    for (size_t i = 0; i < report->failure_count; i++) {
        const struct tessi_failure *failure = &report->failures[i];
        tessi_pack_array(buffer, 6);
        tessi_pack_u64(buffer, failure->task.session);
        tessi_pack_u64(buffer, failure->task.layer);
        tessi_pack_u64(buffer, failure->task.index);
        tessi_pack_u64(buffer, failure->epoch);
        tessi_pack_u64(buffer, (uint64_t)failure->status);
        tessi_pack_text(buffer, failure->text, TESSI_WIRE_TEXT_MAX);
    }
#define TESSI_ROW(name) tessi_pack_u64(buffer, report->name);
    TESSI_REPORT_GAUGES(TESSI_ROW)
#undef TESSI_ROW
    tessi_pack_text(buffer, report->spill_error != NULL ? report->spill_error : "", TESSI_WIRE_TEXT_MAX);
}

static bool unpack_failure(struct tessi_scan *scan, struct tessi_failure *failure)
{
    uint32_t status;
    if (!tessi_scan_array_of(scan, 6) || !tessi_scan_u32(scan, &failure->task.session) ||
        !tessi_scan_u32(scan, &failure->task.layer) || !tessi_scan_u64(scan, &failure->task.index) ||
        !tessi_scan_u32(scan, &failure->epoch) || !tessi_scan_u32(scan, &status)) {
        return false;
    }
    failure->status = (enum tessi_status)status;
    failure->text = tessi_scan_text_copy(scan, TESSI_WIRE_TEXT_MAX);
    return failure->text != NULL;
}

static bool unpack_failures(struct tessi_scan *scan, struct tessi_report *report)
{
    uint32_t count;
    if (!tessi_scan_array(scan, &count)) {
        return false;
    }
    if (count == 0) {
        return true;
    }
    /* Each failure takes 7 bytes or more, so the memory stays near the size of the message. */
    if ((size_t)count > (size_t)(scan->end - scan->at) / 7) {
        return tessi_scan_fail(scan, "more failures than bytes");
    }
    report->failures = tessi_try_alloc(count * sizeof *report->failures);
    if (report->failures == NULL) {
        return tessi_scan_fail(scan, "no memory for failures");
    }
    report->failure_capacity = count;
    for (uint32_t i = 0; i < count; i++) {
        report->failures[i] = (struct tessi_failure){0};
        report->failure_count = i + 1;
        if (!unpack_failure(scan, &report->failures[i])) {
            return false;
        }
    }
    return true;
}

bool tessi_report_unpack(struct tessi_scan *scan, struct tessi_report *report)
{
    *report = (struct tessi_report){0};
    if (!tessi_scan_array_of(scan, REPORT_ELEMENTS)) {
        return false;
    }
#define TESSI_ROW(name, columns)                                                                                       \
    if (!tessi_spans_unpack(scan, &report->name, columns)) {                                                           \
        return false;                                                                                                  \
    }
    TESSI_REPORT_LISTS(TESSI_ROW)
#undef TESSI_ROW
    if (!unpack_failures(scan, report)) {
        return false;
    }
#define TESSI_ROW(name)                                                                                                \
    if (!tessi_scan_u64(scan, &report->name)) {                                                                        \
        return false;                                                                                                  \
    }
    TESSI_REPORT_GAUGES(TESSI_ROW)
#undef TESSI_ROW
    char *text = tessi_scan_text_copy(scan, TESSI_WIRE_TEXT_MAX);
    report->spill_error = text;
    if (text != NULL && text[0] == 0) {
        report->spill_error = NULL;
        tessi_free(text);
    }
    return text != NULL;
}
