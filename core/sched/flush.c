/* What a step has gathered goes out. */
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/step.h"

#define SPANS_KEPT 256
#define DROPS_MAX 4096u /* in one message */

static const void *take_copy(struct tessi_sched *sched, const void *items, size_t bytes)
{
    void *copy = tessi_out_memory(sched, bytes);
    memcpy(copy, items, bytes);
    return copy;
}

/* Spans gathered for a worker have been copied. What much room was made for is not kept. */
static void empty_spans(struct tessi_spans *spans)
{
    if (spans->capacity > SPANS_KEPT) {
        tessi_spans_fini(spans);
    }
    spans->count = 0;
}

static void empty_outbox(struct tessi_sched *sched, struct worker *worker)
{
    TESS_ASSERT(worker->out != NULL);
    struct outbox *out = worker->out;
    struct tessi_spans *all[] = {&out->assign, &out->where,    &out->free,      &out->unassign,
                                 &out->steal,  &out->location, &out->take_over, &out->adopt};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        empty_spans(all[i]);
    }
    if (out->drop_capacity > SPANS_KEPT) {
        tessi_free(out->drops);
        out->drops = NULL;
        out->drop_capacity = 0;
    }
    out->layer_count = out->drop_count = 0;
    tessi_grow(&sched->outboxes, &sched->outbox_capacity, sched->outbox_count + 1, sizeof *sched->outboxes);
    sched->outboxes[sched->outbox_count++] = out;
    worker->out = NULL;
}

static void send_spans(struct tessi_sched *sched, struct worker *worker, enum tessi_sched_action_kind kind,
                       const struct tessi_spans *spans)
{
    if (spans->count > 0) {
        struct tessi_sched_action *action = tessi_out_emit(sched, kind, worker->id);
        action->spans = take_copy(sched, spans->items, spans->count * sizeof *spans->items);
        action->span_count = spans->count;
    }
}

/* One message for those of a session that stand together. */
static void send_drops(struct tessi_sched *sched, const struct worker *worker, const struct outbox *out)
{
    for (size_t i = 0, end; i < out->drop_count; i = end) {
        for (end = i + 1; end < out->drop_count && end - i < DROPS_MAX &&
                          out->drops[end].session == out->drops[i].session;) {
            end++;
        }
        uint32_t *ids = tessi_out_memory(sched, (end - i) * sizeof *ids);
        for (size_t d = i; d < end; d++) {
            ids[d - i] = out->drops[d].layer;
        }
        struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_DROP_LAYERS, worker->id);
        action->session = out->drops[i].session;
        action->ids = ids;
        action->id_count = end - i;
    }
}

/* What was gathered for a worker goes out in an order that it can rely on: descriptions before
 * spans that name them, what is to be forgotten before what is to be done again. */
static void send_outbox(struct tessi_sched *sched, struct worker *worker, const struct outbox *out)
{
    if (out->layer_count > 0) {
        struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_LAYERS, worker->id);
        action->layers = take_copy(sched, out->layers, out->layer_count * sizeof *out->layers);
        action->layer_count = out->layer_count;
    }
    send_spans(sched, worker, TESSI_SCHED_FREE, &out->free);
    send_drops(sched, worker, out);
    send_spans(sched, worker, TESSI_SCHED_ADOPT, &out->adopt);
    send_spans(sched, worker, TESSI_SCHED_TAKE_OVER, &out->take_over);
    if (out->assign.count > 0) {
        send_spans(sched, worker, TESSI_SCHED_ASSIGN, &out->assign);
        struct tessi_sched_action *action = &sched->actions[sched->action_count - 1];
        if (out->where.count > 0) {
            action->where = take_copy(sched, out->where.items, out->where.count * sizeof *out->where.items);
            action->where_count = out->where.count;
        }
    }
    send_spans(sched, worker, TESSI_SCHED_FREE, &out->unassign);
    send_spans(sched, worker, TESSI_SCHED_STEAL, &out->steal);
    send_spans(sched, worker, TESSI_SCHED_LOCATION, &out->location);
}

static void flush_worker(struct tessi_sched *sched, struct worker *worker)
{
    TESS_ASSERT(worker->dirty);
    worker->dirty = false;
    if (worker->alive && worker->out != NULL) {
        send_outbox(sched, worker, worker->out);
    }
    if (worker->out != NULL) {
        empty_outbox(sched, worker);
    }
    if (!worker->alive && !worker->vacant) {
        worker->vacant = true;
        tessi_worker_list_push(&sched->vacant, worker->index);
    }
    if (worker->alive && worker->left && !worker->left_told) {
        worker->left_told = true;
        tessi_out_emit(sched, TESSI_SCHED_LEFT, worker->id)->leave = worker->leave;
    }
}

static int compare_indices(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* One message for those to a client that stand together. */
static void flush_client_locations(struct tessi_sched *sched)
{
    const struct client_location *locations = sched->client_locations;
    for (size_t i = 0, end; i < sched->client_location_count; i = end) {
        for (end = i + 1; end < sched->client_location_count && locations[end].peer == locations[i].peer;) {
            end++;
        }
        struct tessi_span *spans = tessi_out_memory(sched, (end - i) * sizeof *spans);
        for (size_t l = i; l < end; l++) {
            spans[l - i] = locations[l].span;
        }
        struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_LOCATION, locations[i].peer);
        action->spans = spans;
        action->span_count = end - i;
    }
    sched->client_location_count = 0;
}

void tessi_flush(struct tessi_sched *sched)
{
    if (sched->dirty.count > 1) {
        qsort(sched->dirty.items, sched->dirty.count, sizeof *sched->dirty.items, compare_indices);
    }
    for (size_t i = 0; i < sched->dirty.count; i++) {
        flush_worker(sched, sched->workers[sched->dirty.items[i]]);
    }
    sched->dirty.count = 0;
    flush_client_locations(sched);
}
