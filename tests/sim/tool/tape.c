#include "tests/sim/tool/tape.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "tests/sim/tool/cluster.h"

#define LISTS 9 /* of spans, in a report */
#define GAUGES_SIZE (sizeof(struct tessi_report) - offsetof(struct tessi_report, memory_used_bytes))

struct head { /* of an event on the tape; what it points to follows */
    int64_t now_ns;
    size_t size; /* of all that follows */
    enum tessi_sched_event_kind kind;
    uint32_t peer, request;
    uint32_t counts[LISTS]; /* of a report's lists; [0] of spans, layers; [1] of ids */
};

struct ahead { /* what the machine has been told of */
    size_t at; /* on the tape: after the last of them */
    size_t count;
};

struct reader {
    const struct tool_tape *tape;
    size_t at;
    struct tessi_spans spans;
    struct tessi_layer **layers;
    size_t layer_capacity;
    uint32_t *ids;
    size_t id_capacity;
    struct tessi_report report;
};

static struct tessi_spans *list_at(struct tessi_report *report, size_t number)
{
    struct tessi_spans *lists[LISTS] = {&report->started, &report->done,    &report->copied,
                                        &report->dropped, &report->adopted, &report->missing,
                                        &report->stolen,  &report->kept,    &report->refused};
    return lists[number];
}

static void write(struct tool_tape *tape, const void *bytes, size_t size)
{
    tessi_grow(&tape->bytes, &tape->capacity, tape->size + size, 1);
    if (size > 0) {
        memcpy(tape->bytes + tape->size, bytes, size);
    }
    tape->size += size;
}

void tool_tape_write(struct tool_tape *tape, const struct tessi_sched_event *event)
{
    struct head head = {.now_ns = event->now_ns, .kind = event->kind, .peer = event->peer, .request = event->request};
    if (event->kind == TESSI_SCHED_REPORT) {
        struct tessi_report copy = *event->report, *report = &copy;
        TESS_ASSERT(report->failure_count == 0);
        for (size_t l = 0; l < LISTS; l++) {
            head.counts[l] = (uint32_t)list_at(report, l)->count;
        }
        head.size = GAUGES_SIZE;
        for (size_t l = 0; l < LISTS; l++) {
            head.size += head.counts[l] * sizeof(struct tessi_span);
        }
        write(tape, &head, sizeof head);
        write(tape, &report->memory_used_bytes, GAUGES_SIZE);
        for (size_t l = 0; l < LISTS; l++) {
            write(tape, list_at(report, l)->items, head.counts[l] * sizeof(struct tessi_span));
        }
        return;
    }
    head.counts[0] = (uint32_t)(event->layer_count + event->span_count);
    head.counts[1] = (uint32_t)event->id_count;
    head.size = event->span_count * sizeof *event->spans + event->layer_count * sizeof event->layers[0]->id +
                event->id_count * sizeof *event->ids +
                (event->kind == TESSI_SCHED_WORKER_JOIN ? sizeof event->worker : 0);
    write(tape, &head, sizeof head);
    write(tape, event->spans, event->span_count * sizeof *event->spans);
    for (size_t l = 0; l < event->layer_count; l++) {
        write(tape, &event->layers[l]->id, sizeof event->layers[l]->id);
    }
    write(tape, event->ids, event->id_count * sizeof *event->ids);
    if (event->kind == TESSI_SCHED_WORKER_JOIN) {
        write(tape, &event->worker, sizeof event->worker);
    }
}

static void read(struct reader *reader, void *to, size_t size)
{
    TESS_ASSERT(size <= reader->tape->size - reader->at);
    if (size > 0) {
        memcpy(to, reader->tape->bytes + reader->at, size);
    }
    reader->at += size;
}

static void read_spans(struct reader *reader, struct tessi_spans *spans, size_t count)
{
    tessi_grow(&spans->items, &spans->capacity, count, sizeof *spans->items);
    spans->count = count;
    read(reader, spans->items, count * sizeof *spans->items);
}

/* Into memory that serves all events, as that of the unpacker does. */
static void read_event(struct reader *reader, const struct tool_graph *graph, struct tessi_sched_event *event)
{
    struct head head;
    read(reader, &head, sizeof head);
    event->now_ns = head.now_ns;
    event->kind = head.kind;
    event->peer = head.peer;
    event->request = head.request;
    event->span_count = event->layer_count = event->id_count = 0;
    if (head.kind == TESSI_SCHED_REPORT) {
        struct tessi_report *report = &reader->report;
        event->report = report;
        read(reader, &report->memory_used_bytes, GAUGES_SIZE);
        for (size_t l = 0; l < LISTS; l++) {
            read_spans(reader, list_at(report, l), head.counts[l]);
        }
    } else if (head.kind == TESSI_SCHED_LOCATE) {
        read_spans(reader, &reader->spans, head.counts[0]);
        event->spans = reader->spans.items;
        event->span_count = reader->spans.count;
    } else if (head.kind == TESSI_SCHED_SUBMIT) {
        tessi_grow(&reader->layers, &reader->layer_capacity, head.counts[0], sizeof *reader->layers);
        tessi_grow(&reader->ids, &reader->id_capacity, head.counts[1], sizeof *reader->ids);
        for (size_t l = 0; l < head.counts[0]; l++) {
            uint32_t id;
            read(reader, &id, sizeof id);
            reader->layers[l] = tessi_layer_copy(graph->layers[id - 1]);
        }
        read(reader, reader->ids, head.counts[1] * sizeof *reader->ids);
        event->layers = reader->layers;
        event->layer_count = head.counts[0];
        event->ids = reader->ids;
        event->id_count = head.counts[1];
    } else if (head.kind == TESSI_SCHED_WORKER_JOIN) {
        read(reader, &event->worker, sizeof event->worker);
    }
}

/* Tells the machine of reports that come at the same moment as the event after which the reader stands. */
static void expect(struct tessi_sched *sched, const struct tool_tape *tape, struct ahead *ahead, size_t at,
                   int64_t now_ns)
{
    struct head head;
    if (ahead->at < at || ahead->count == 0) {
        ahead->at = at;
        ahead->count = 0;
    } else {
        ahead->count--;
    }
    while (ahead->count < TOOL_AHEAD && ahead->at < tape->size) {
        memcpy(&head, tape->bytes + ahead->at, sizeof head);
        if (head.kind != TESSI_SCHED_REPORT || head.now_ns != now_ns) {
            return;
        }
        tessi_sched_expect(sched, head.peer);
        ahead->at += sizeof head + head.size;
        ahead->count++;
    }
}

void tool_tape_play(const struct tool_tape *tape, const struct tool_graph *graph,
                    const struct tessi_sched_config *config, size_t first_measured, struct tool_tape_times *times)
{
    struct reader reader = {.tape = tape};
    struct tessi_sched *sched = tessi_sched_create(config);
    struct tessi_sched_event event = {0};
    struct tessi_sched_actions actions;
    struct ahead ahead = {0};
    *times = (struct tool_tape_times){0};
    while (reader.at < tape->size) {
        read_event(&reader, graph, &event);
        uint32_t first = event.layer_count > 0 ? event.layers[0]->id : 0;
        int64_t before_ns = tessi_clock_now();
        expect(sched, tape, &ahead, reader.at, event.now_ns);
        tessi_sched_step(sched, &event, &actions);
        double seconds = (double)(tessi_clock_now() - before_ns) / 1e9;
        if (event.kind == TESSI_SCHED_WORKER_JOIN) {
            times->join_seconds += seconds;
        } else if (event.kind != TESSI_SCHED_SUBMIT) {
            times->scheduler_seconds += seconds;
        } else if (first == first_measured + 1) {
            times->accept_seconds = seconds;
            times->scheduler_seconds = 0;
        }
    }
    tessi_sched_destroy(sched);
    for (size_t l = 0; l < LISTS; l++) {
        tessi_spans_fini(list_at(&reader.report, l));
    }
    tessi_spans_fini(&reader.spans);
    tessi_free(reader.layers);
    tessi_free(reader.ids);
}

void tool_tape_fini(struct tool_tape *tape)
{
    tessi_free(tape->bytes);
    *tape = (struct tool_tape){0};
}
