/* Spans and reports to bytes and back. Spans are an array [count, column …]; a column holds one value for each
 * span, or a single one when all are equal; with no spans there is no column. */
#ifndef TESSI_WIRE_SPAN_CODEC_H
#define TESSI_WIRE_SPAN_CODEC_H

#include "core/graph/report.h"
#include "core/graph/span.h"
#include "core/wire/buffer.h"
#include "core/wire/scan.h"

/* `columns`: TESSI_SPAN_… of message.h. */
void tessi_spans_pack(struct tessi_buffer *buffer, const struct tessi_spans *spans, uint32_t columns);
bool tessi_spans_unpack(struct tessi_scan *scan, struct tessi_spans *spans, uint32_t columns);

void tessi_report_pack(struct tessi_buffer *buffer, const struct tessi_report *report);
/* On failure the caller still calls tessi_report_fini. */
bool tessi_report_unpack(struct tessi_scan *scan, struct tessi_report *report);

/* The lists of a report, for whoever walks all of them. */
#define TESSI_REPORT_LISTS(ROW)                                                                                        \
    ROW(started, TESSI_SPAN_EPOCH)                                                                                     \
    ROW(done, TESSI_SPAN_EPOCH | TESSI_SPAN_TIME | TESSI_SPAN_DEVICE)                                                  \
    ROW(copied, TESSI_SPAN_EPOCH)                                                                                      \
    ROW(dropped, TESSI_SPAN_EPOCH)                                                                                     \
    ROW(adopted, TESSI_SPAN_EPOCH)                                                                                     \
    ROW(missing, TESSI_SPAN_EPOCH)                                                                                     \
    ROW(stolen, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)                                                                  \
    ROW(kept, TESSI_SPAN_EPOCH | TESSI_SPAN_WORKER)                                                                    \
    ROW(refused, TESSI_SPAN_EPOCH)                                                                                     \
    ROW(starved, TESSI_SPAN_EPOCH | TESSI_SPAN_ORDER)                                                                  \
    ROW(shed, TESSI_SPAN_EPOCH)

#define TESSI_REPORT_GAUGES(ROW)                                                                                       \
    ROW(memory_used_bytes)                                                                                             \
    ROW(memory_peak_bytes)                                                                                             \
    ROW(spilled_bytes)                                                                                                 \
    ROW(fetched_bytes)                                                                                                 \
    ROW(served_bytes)                                                                                                  \
    ROW(mapped_bytes)                                                                                                  \
    ROW(dropped_messages)                                                                                              \
    ROW(pulled_bytes)                                                                                                  \
    ROW(pulling_ns)                                                                                                    \
    ROW(devices_lost)                                                                                                  \
    ROW(short_bytes)                                                                                                   \
    ROW(busy)

#endif
