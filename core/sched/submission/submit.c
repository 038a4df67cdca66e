/* What is taken in gets its records, and joins what is there. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/order/order.h"
#include "core/sched/order/policy.h"
#include "core/sched/placement/placement.h"
#include "core/sched/submission/submission.h"
#include "core/sched/workers/workers.h"

static uint32_t add_submission(struct tessi_sched *sched, struct session *session, uint32_t request)
{
    uint32_t position = session->submission_free;
    if (position > 0) {
        session->submission_free = session->submissions[--position].next;
    } else {
        position = (uint32_t)session->submission_count++;
        tessi_grow(&session->submissions, &session->submission_capacity, session->submission_count,
                   sizeof *session->submissions);
    }
    session->submissions[position] = (struct submission){.request = request, .serial = ++sched->submissions};
    return position;
}

static struct sched_layer *add_layer(struct tessi_sched *sched, struct session *session, struct tessi_layer *layer,
                                     uint32_t submission)
{
    TESS_ASSERT(tessi_find_layer(session, layer->id) == NULL);
    struct sched_layer *added = tessi_zalloc(sizeof *added);
    added->layer = layer;
    added->bytes = tessi_memory_needs(layer, false);
    sched->layer_bytes += added->bytes;
    added->session = session;
    added->tasks = tessi_layer_tasks(layer);
    added->ninputs = layer->ninputs;
    added->rooms = &sched->page_rooms;
    tessi_table_init(added);
    added->submitted_ns = sched->now_ns;
    added->submission = submission;
    session->submissions[submission].layers++;
    session->submissions[submission].total += added->tasks;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        bool itself = layer->reads[i] == layer->id;
        struct sched_layer *input = itself ? added : tessi_find_layer(session, layer->reads[i]);
        TESS_ASSERT(input != NULL && !input->given_up);
        added->inputs[i] = input;
        if (!itself && added->lineage <= input->lineage) {
            added->lineage = input->lineage + 1;
        }
        tessi_grow(&input->consumers, &input->consumer_capacity, input->consumer_count + 1, sizeof *input->consumers);
        input->reader_tasks += added->tasks;
        added->input_at[i] = input->consumer_count;
        input->consumers[input->consumer_count++] = (struct consumer){added, i};
    }
    tessi_grow(&session->layers, &session->layer_capacity, session->layer_count + 1, sizeof *session->layers);
    tessi_map_put(&session->layers_by_id, id_key(layer->id), (uint32_t)session->layer_count);
    session->layers[session->layer_count++] = added;
    return added;
}

struct joining {
    struct tessi_sched *sched;
    struct sched_layer *input;
};

static void add_readers(struct tessi_sched *sched, struct sched_layer *input, uint64_t index, uint64_t readers)
{
    struct task_record *task = record(input, index);
    task->refs += (uint32_t)readers;
    if (task->state == TASK_RELEASED) {
        tessi_spread_need(sched, input, index);
    } else if (task->state == TASK_FAILED || task->state == TASK_POISONED) {
        tessi_spread_failure(sched, input, index);
    }
}

static void join_one(void *context, uint64_t index)
{
    struct joining *join = context;
    if (page_of(join->input, index) != PAGE_PRISTINE) {
        add_readers(join->sched, join->input, index, 1);
    }
}

/* At most so many blocks of the input are read by all of the layer's tasks, each counted as often as it is read. */
static uint64_t reads_at_most(const struct tessi_layer *layer, uint32_t number)
{
    const struct tessi_input *input = &layer->input[number];
    uint64_t tasks = tessi_layer_tasks(layer), width = 0;
    if (input->rules.table != NULL) {
        return input->rules.table->rows[tasks];
    }
    width = tessi_rules_width(&input->rules, &input->grid, &layer->grid);
    return width > 0 && tasks > UINT64_MAX / width ? UINT64_MAX : tasks * width;
}

/* A new reader of a layer that has been at work: its live records gain references, what was released runs again, what
 * failed poisons. Pages never touched count their readers when opened. Whichever is less is walked, what the reader
 * reads or what has been touched. */
static void join_reader(struct tessi_sched *sched, struct sched_layer *input, const struct sched_layer *reader,
                        uint32_t number)
{
    if (input->touched_pages == 0) {
        return;
    }
    if (reads_at_most(reader->layer, number) < input->touched_pages) {
        struct joining join = {sched, input};
        for (uint64_t t = 0; t < reader->tasks; t++) {
            tessi_task_inputs(reader->layer, number, t, join_one, &join);
        }
        return;
    }
    for (uint64_t i = tessi_table_next(input, 0, PAGES_TOUCHED); i < input->tasks;
         i = tessi_table_next(input, i + 1, PAGES_TOUCHED)) {
        uint64_t readers = tessi_block_dependent_count(reader->layer, number, i);
        if (readers > 0) {
            add_readers(sched, input, i, readers);
        }
    }
}

static void want(struct tessi_sched *sched, struct sched_layer *layer)
{
    TESS_ASSERT(layer != NULL && !layer->given_up);
    tessi_news_watch(sched, layer);
    layer->handle = true;
    if (layer->wanted) {
        return;
    }
    layer->wanted = true;
    layer->session->wanted_bytes += tessi_layer_bytes(layer->layer);
    tessi_held_add(layer->session, layer->layer);
    for (uint64_t i = tessi_table_next(layer, 0, PAGES_TOUCHED); i < layer->tasks;
         i = tessi_table_next(layer, i + 1, PAGES_TOUCHED)) {
        if (tessi_table_state(layer, i) == TASK_RELEASED) {
            tessi_spread_need(sched, layer, i);
        }
    }
}

static void refuse(struct tessi_sched *sched, const struct tessi_sched_event *event, const struct tessi_error *error)
{
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_REFUSED, event->peer);
    char *text = tessi_out_memory(sched, sizeof error->text);
    (void)tessi_text_format(text, sizeof error->text, "%s", error->text);
    action->request = event->request;
    action->status = error->status;
    action->text = text;
    for (size_t i = 0; i < event->layer_count; i++) {
        tessi_layer_destroy(event->layers[i]);
    }
}

void tessi_submit(struct tessi_sched *sched, const struct tessi_sched_event *event)
{
    struct session *session = tessi_find_session(sched, event->peer);
    struct tessi_error error = {.status = TESSI_CLOSED, .text = "this session is not known to the scheduler"};
    if (session == NULL || tessi_admit(sched, session, event, &error) != TESSI_OK) {
        refuse(sched, event, &error);
        return;
    }
    uint32_t submission = add_submission(sched, session, event->request);
    struct sched_layer **added = tessi_alloc((event->layer_count + 1) * sizeof *added);
    bool pushed = false;
    for (size_t i = 0; i < event->layer_count; i++) {
        added[i] = add_layer(sched, session, event->layers[i], submission);
        pushed = pushed || added[i]->layer->push;
        added[i]->kind = tessi_kinds_guess(sched, added[i]->layer);
        added[i]->estimate_ns = tessi_history_estimate(sched, added[i]->layer, 0, added[i]->kind);
        const char *name = added[i]->layer->name;
        for (size_t from = 0; name != NULL && from < strlen(name); from += TESSI_TRACE_NAME_BYTES) {
            tessi_out_note(sched, tessi_trace_name_put(session->id, added[i]->layer->id, name, from));
        }
        tessi_out_note(sched, (struct tessi_trace_record){.kind = TESSI_TRACE_LAYER,
                                                          .session = session->id,
                                                          .layer = added[i]->layer->id,
                                                          .amount = added[i]->tasks,
                                                          .peer = (uint32_t)added[i]->layer->op});
        sched->tasks_total += added[i]->tasks;
    }
    for (size_t i = 0; i < event->layer_count; i++) {
        for (uint32_t n = 0; n < added[i]->layer->ninputs; n++) {
            if (added[i]->inputs[n]->submission != added[i]->submission) {
                join_reader(sched, added[i]->inputs[n], added[i], n);
            }
        }
    }
    for (size_t w = 0; w < event->id_count; w++) {
        want(sched, tessi_find_layer(session, event->ids[w]));
    }
    for (size_t i = 0; i < event->layer_count; i++) {
        if (!read_by_others(added[i])) { /* nobody has asked for it */
            tessi_life_note_loose(sched, added[i]);
        }
        for (uint32_t n = 0; n < added[i]->layer->ninputs; n++) {
            if (added[i]->inputs[n]->pruned) { /* and of what reads it now, nobody may read all */
                added[i]->inputs[n]->pruned = false;
                tessi_life_note_loose(sched, added[i]->inputs[n]);
            }
        }
    }
    if (!pushed) { /* else the blocks say it */
        tessi_out_emit(sched, TESSI_SCHED_ACCEPTED, event->peer)->request = event->request;
    }
    tessi_policy_choose_lanes(sched, added, event->layer_count);
    tessi_order_layers(sched, added, event->layer_count);
    tessi_place_layers(sched, added, event->layer_count);
    tessi_spread_finish(sched);
    tessi_free(added);
    tessi_life_end_submission(session, submission); /* it may only want layers that are here already */
}
