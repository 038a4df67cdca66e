/* What a step says: actions and notes, and what is gathered for each worker until the step ends. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state/state.h"

struct tessi_sched_action *tessi_out_emit(struct tessi_sched *sched, enum tessi_sched_action_kind kind, uint32_t peer)
{
    tessi_grow(&sched->actions, &sched->action_capacity, sched->action_count + 1, sizeof *sched->actions);
    struct tessi_sched_action *action = &sched->actions[sched->action_count++];
    *action = (struct tessi_sched_action){.kind = kind, .peer = peer, .text = ""};
    return action;
}

void tessi_out_note(struct tessi_sched *sched, struct tessi_trace_record record)
{
    record.start_ns = sched->now_ns;
    tessi_grow(&sched->notes, &sched->note_capacity, sched->note_count + 1, sizeof *sched->notes);
    sched->notes[sched->note_count++] = record;
}

void *tessi_out_memory(struct tessi_sched *sched, size_t size)
{
    TESS_ASSERT(size > 0);
    tessi_grow(&sched->scratch, &sched->scratch_capacity, sched->scratch_count + 1, sizeof *sched->scratch);
    return sched->scratch[sched->scratch_count++] = tessi_zalloc(size);
}

const char *tessi_out_text(struct tessi_sched *sched, const char *text)
{
    char *copy = tessi_out_memory(sched, strlen(text) + 1);
    memcpy(copy, text, strlen(text) + 1);
    return copy;
}

void tessi_out_forget(struct tessi_sched *sched)
{
    for (size_t i = 0; i < sched->scratch_count; i++) {
        tessi_free(sched->scratch[i]);
    }
    sched->scratch_count = 0;
}

void tessi_worker_list_push(struct worker_list *list, uint32_t index)
{
    tessi_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items);
    list->items[list->count++] = index;
}

void tessi_out_mark_dirty(struct worker *worker)
{
    TESS_ASSERT(worker->index < worker->sched->worker_count);
    if (!worker->dirty) {
        worker->dirty = true;
        tessi_worker_list_push(&worker->sched->dirty, worker->index);
    }
}

struct outbox *tessi_out_box(struct worker *worker)
{
    struct tessi_sched *sched = worker->sched;
    if (worker->out == NULL) {
        worker->out =
            sched->outbox_count > 0 ? sched->outboxes[--sched->outbox_count] : tessi_zalloc(sizeof *worker->out);
        TESS_ASSERT(worker->out->layer_count == 0 && worker->out->assign.count == 0 && worker->out->drop_count == 0);
        tessi_out_mark_dirty(worker);
    }
    return worker->out;
}

void tessi_out_destroy(struct outbox *out)
{
    tessi_spans_fini(&out->assign);
    tessi_spans_fini(&out->where);
    tessi_spans_fini(&out->free);
    tessi_spans_fini(&out->unassign);
    tessi_spans_fini(&out->steal);
    tessi_spans_fini(&out->adopt);
    tessi_spans_fini(&out->take_over);
    tessi_spans_fini(&out->location);
    tessi_free(out->layers);
    tessi_free(out->drops);
    tessi_free(out);
}

void tessi_out_tell_layer(struct worker *worker, struct sched_layer *layer)
{
    struct layer_on_worker *on = on_worker(layer, worker->index);
    if (!on->told) {
        TESS_ASSERT(!layer->gone);
        on->told = true;
        struct outbox *out = tessi_out_box(worker);
        tessi_grow(&out->layers, &out->layer_capacity, out->layer_count + 1, sizeof *out->layers);
        out->layers[out->layer_count++] = layer->layer;
    }
}

/* A description that was to go out in this step is not sent any more. */
static void take_back_description(struct outbox *out, const struct tessi_layer *layer)
{
    size_t kept = 0;
    for (size_t i = 0; i < out->layer_count; i++) {
        if (out->layers[i] != layer) {
            out->layers[kept++] = out->layers[i];
        }
    }
    out->layer_count = kept;
}

void tessi_out_drop_layer(struct tessi_sched *sched, struct sched_layer *layer)
{
    for (uint32_t w = 0; w < sched->worker_count && w < layer->on_capacity; w++) {
        bool known = layer->on[w].told || layer->on[w].reads;
        layer->on[w].told = layer->on[w].reads = false;
        if (known && sched->workers[w]->alive) {
            struct outbox *out = tessi_out_box(sched->workers[w]);
            take_back_description(out, layer->layer);
            tessi_grow(&out->drops, &out->drop_capacity, out->drop_count + 1, sizeof *out->drops);
            out->drops[out->drop_count++] = (struct drop_notice){layer->session->id, layer->layer->id};
        }
    }
}

void tessi_out_free(struct tessi_sched *sched, uint32_t worker, struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(worker < sched->worker_count && index < layer->tasks);
    struct worker *holder = sched->workers[worker];
    if (holder->alive) {
        /* A FREE that went before the ASSIGN of the same task would leave it running. */
        struct outbox *out = tessi_out_box(holder);
        struct tessi_spans *spans = out->assign.count > 0 ? &out->unassign : &out->free;
        tessi_spans_push(spans, (struct tessi_span){.session = layer->session->id,
                                                    .layer = layer->layer->id,
                                                    .first = index,
                                                    .count = 1});
    }
}

void tessi_work_push(struct work_list *list, struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(index < layer->tasks);
    tessi_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items);
    list->items[list->count++] = (struct task_ref){layer, index};
}
