/* Submission of layers, and their life until nothing can reach them. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/policy.h"
#include "core/sched/state.h"

static struct tessi_map_key id_key(uint32_t id)
{
    return (struct tessi_map_key){0, id};
}

struct sched_layer *tessi_find_layer(struct session *session, uint32_t id)
{
    uint32_t position = tessi_map_get(&session->layers_by_id, id_key(id));
    return position == TESSI_MAP_NONE ? NULL : session->layers[position];
}

/* Spans of few layers come in turns, so recent answers are kept. */
struct sched_layer *tessi_find_named(struct tessi_sched *sched, uint32_t session_id, uint32_t id)
{
    struct sched_layer **named = &sched->named[id % NAMED_LAYERS];
    if (*named != NULL && (*named)->layer->id == id && (*named)->session->id == session_id) {
        return *named;
    }
    struct session *session = tessi_find_session(sched, session_id);
    struct sched_layer *layer = session == NULL ? NULL : tessi_find_layer(session, id);
    *named = layer != NULL ? layer : *named;
    return layer;
}

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

/* One that has no layers left is named by nobody. */
static void end_submission(struct session *session, uint32_t position)
{
    if (session->submissions[position].layers == 0) {
        session->submissions[position].next = session->submission_free;
        session->submission_free = position + 1;
    }
}

static struct sched_layer *add_layer(struct tessi_sched *sched, struct session *session, struct tessi_layer *layer,
                                     uint32_t submission)
{
    struct sched_layer *added = tessi_zalloc(sizeof *added);
    added->layer = layer;
    added->bytes = tessi_admit_needs(layer, false);
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

void tessi_news_watch(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->watched_at == 0) {
        tessi_grow(&sched->watched, &sched->watched_capacity, sched->watched_count + 1, sizeof *sched->watched);
        sched->watched[sched->watched_count++] = layer;
        layer->watched_at = (uint32_t)sched->watched_count;
        layer->session->submissions[layer->submission].watched += !layer->layer->push;
    }
    tessi_news_note(sched, layer);
}

void tessi_news_unwatch(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->watched_at > 0) { /* the last one takes its place */
        struct sched_layer *last = sched->watched[--sched->watched_count];
        sched->watched[layer->watched_at - 1] = last;
        last->watched_at = layer->watched_at;
        layer->watched_at = 0;
        layer->session->submissions[layer->submission].watched -= !layer->layer->push;
    }
}

void tessi_news_note(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->watched_at > 0 && !layer->news) {
        layer->news = true;
        tessi_grow(&sched->news, &sched->news_capacity, sched->news_count + 1, sizeof *sched->news);
        sched->news[sched->news_count++] = layer;
    }
}

void tessi_news_count_done(struct tessi_sched *sched, struct sched_layer *layer)
{
    struct submission *submission = &layer->session->submissions[layer->submission];
    layer->first_done++;
    submission->done++;
    if (submission->watched > 0 && !submission->moved) {
        submission->moved = true;
        tessi_grow(&sched->moved, &sched->moved_capacity, sched->moved_count + 1, sizeof *sched->moved);
        sched->moved[sched->moved_count++] =
            (struct moved){layer->session->id, layer->submission, submission->serial};
    }
}

static void want(struct tessi_sched *sched, struct sched_layer *layer)
{
    tessi_news_watch(sched, layer);
    layer->handle = true;
    if (layer->wanted) {
        return;
    }
    layer->wanted = true;
    layer->session->wanted_bytes += tessi_layer_bytes(layer->layer);
    tessi_fit_add(layer->session, layer->layer);
    for (uint64_t i = tessi_table_next(layer, 0, PAGES_TOUCHED); i < layer->tasks;
         i = tessi_table_next(layer, i + 1, PAGES_TOUCHED)) {
        if (tessi_table_state(layer, i) == TASK_RELEASED) {
            tessi_spread_need(sched, layer, i);
        }
    }
}

void tessi_life_unwant(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (!layer->wanted) {
        return;
    }
    layer->wanted = false;
    layer->session->wanted_bytes -= tessi_layer_bytes(layer->layer);
    tessi_fit_remove(layer->session, layer->layer);
    tessi_news_note(sched, layer); /* nobody waits for it any more */
    for (uint64_t i = next_live(layer, 0); i < layer->tasks && !layer->session->closing; i = next_live(layer, i + 1)) {
        if (record(layer, i)->refs == 0) {
            tessi_refs_consider_idle(sched, layer, i);
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

static bool read_by_others(const struct sched_layer *layer)
{
    size_t itself = 0;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        itself += layer->inputs[i] == layer;
    }
    return layer->consumer_count > itself;
}

#define READERS_LOOKED 64 /* of a layer that very many read, a few will do */

/* Whether some layer reads each of its blocks, so that none is without readers. */
static bool read_wholly(const struct sched_layer *layer)
{
    for (size_t c = 0; c < layer->consumer_count && c < READERS_LOOKED; c++) {
        const struct consumer *consumer = &layer->consumers[c];
        if (consumer->layer != layer && tessi_layer_reads_all(consumer->layer->layer, consumer->input)) {
            return true;
        }
    }
    return false;
}

/* Somebody needs the layer less than before: at the end of the step it is seen who still does. */
void tessi_life_note_loose(struct tessi_sched *sched, struct sched_layer *layer)
{
    if ((!layer->wanted || !layer->handle) && !layer->loose) {
        layer->loose = true;
        tessi_grow(&sched->loose, &sched->loose_capacity, sched->loose_count + 1, sizeof *sched->loose);
        sched->loose[sched->loose_count++] = layer;
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
    end_submission(session, submission); /* it may only want layers that are here already */
}

void tessi_life_release(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sched_layer *layer = tessi_find_layer(session, ids[i]);
        if (layer == NULL || !layer->handle) {
            sched->stale_reports++;
            continue;
        }
        if (layer->grants > 0) {
            layer->grants--;
            continue;
        }
        layer->handle = false;
        if (!layer->kept || !read_by_others(layer)) { /* else later layers are made again from it, if need be */
            tessi_life_unwant(sched, layer);
        }
        tessi_life_note_loose(sched, layer);
    }
}

void tessi_life_abort(struct tessi_sched *sched, struct sched_layer *layer, enum tessi_status status, const char *text)
{
    TESS_ASSERT(!layer->detached);
    tessi_keep_end(sched, layer);
    tessi_life_unwant(sched, layer);
    if (layer->failure == TESSI_OK) {
        layer->failure = status;
        layer->failure_text = tessi_strdup(text);
    }
    tessi_news_note(sched, layer);
    tessi_life_note_loose(sched, layer);
}

void tessi_life_cancel(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sched_layer *layer = tessi_find_layer(session, ids[i]);
        if (layer == NULL || !layer->wanted || layer->held == layer->tasks || layer->detached) {
            continue;
        }
        tessi_life_abort(sched, layer, TESSI_CANCELLED, "cancelled by its client");
    }
}


/* The last consumer takes its place. */
static void unlink_input(struct sched_layer *reader, uint32_t number)
{
    struct sched_layer *input = reader->inputs[number];
    struct consumer *place = &input->consumers[reader->input_at[number]];
    TESS_ASSERT(place->layer == reader && place->input == number);
    *place = input->consumers[--input->consumer_count];
    input->reader_tasks -= reader->tasks;
    place->layer->input_at[place->input] = reader->input_at[number];
    if (input->place_consumer == reader) {
        input->place_consumer = NULL;
        input->placement = PLACE_REGIONS;
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

/* Orders never change: what waits was sorted by them. So a layer's description stays as long as another
 * layer's order is derived through it. */
static void free_description(struct sched_layer *layer)
{
    while (layer != NULL && layer->gone && layer->order_users == 0 && layer->pending == 0) {
        struct sched_layer *via = layer->order_via;
        tessi_layer_destroy(layer->layer);
        tessi_free(layer->order_corners);
        tessi_free(layer->order_split);
        tessi_free(layer->order_jump);
        tessi_free(layer);
        if (via != NULL) {
            via->order_users--;
        }
        layer = via;
    }
}

void tessi_life_end_pending(struct sched_layer *layer)
{
    TESS_ASSERT(layer->pending > 0);
    layer->pending--;
    free_description(layer);
}

static void free_layer(struct sched_layer *layer)
{
    tessi_table_fini(layer);
    tessi_free(layer->consumers);
    tessi_free(layer->failure_text);
    tessi_free(layer->regions);
    tessi_free(layer->homes);
    tessi_free(layer->on);
    layer->gone = true;
    free_description(layer);
}

/* It is not to be announced any more. */
static void forget_news(struct tessi_sched *sched, struct sched_layer *layer)
{
    size_t kept = 0;
    for (size_t i = 0; i < sched->news_count && layer->news; i++) {
        if (sched->news[i] != layer) {
            sched->news[kept++] = sched->news[i];
        }
    }
    sched->news_count = layer->news ? kept : sched->news_count;
    layer->news = false;
}

/* A client that is asked for its data under a new name in each submission need not keep the old ones. It is told of
 * many at once: each message wakes it up. */
static void notify_client(struct tessi_sched *sched, struct sched_layer *layer)
{
    struct session *session = layer->session;
    if (layer->layer->op != TESSI_OP_RECEIVE || session->closing) {
        return;
    }
    session->dropped[session->dropped_count++] = layer->layer->id;
    if (session->dropped_count == CLIENT_DROPS) {
        struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_DROP_LAYERS, session->id);
        uint32_t *ids = tessi_out_memory(sched, sizeof session->dropped);
        memcpy(ids, session->dropped, sizeof session->dropped);
        action->session = session->id;
        action->ids = ids;
        action->id_count = CLIENT_DROPS;
        session->dropped_count = 0;
    }
}

void tessi_life_cut_inputs(struct tessi_sched *sched, struct sched_layer *layer)
{
    for (uint32_t i = 0; i < layer->ninputs; i++) { /* before a page is opened and counts its readers */
        struct sched_layer *input = layer->inputs[i];
        unlink_input(layer, i);
        tessi_spread_anew(sched, input);
        if (input != layer && !(input->pruned && read_wholly(input))) { /* else what nobody reads of it has gone */
            tessi_life_note_loose(sched, input);
        }
    }
    layer->ninputs = 0;
    tessi_refs_settle(sched);
    tessi_table_collapse_pages(sched);
    if (layer->placement == PLACE_WITH_INPUT) {
        layer->placement = PLACE_REGIONS;
    }
}

static void leave_pruning(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->pruning_at > 0) { /* the last one takes its place */
        struct sched_layer *last = sched->pruning[--sched->pruning_count];
        sched->pruning[layer->pruning_at - 1] = last;
        last->pruning_at = layer->pruning_at;
        layer->pruning_at = 0;
    }
}

/* Nobody needs any of its blocks: what is queued or held is freed, and what it would have read is let go. */
static void abandon_layer(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (!layer->session->closing) { /* else what it reads has gone already */
        tessi_abandon_reading(sched, layer);
    }
    tessi_life_cut_inputs(sched, layer);
    leave_pruning(sched, layer);
    tessi_abandon_tasks(sched, layer);
    tessi_refs_settle(sched);
    tessi_table_collapse_pages(sched);
    tessi_backlog_purge(sched, layer);
    uint64_t left = layer->tasks > layer->first_done ? layer->tasks - layer->first_done : 0;
    layer->session->submissions[layer->submission].total -= left; /* never to be done: not part of the bar any more */
    layer->first_done += left;
    sched->tasks_total -= left;
}

/* A layer that was cancelled and that nobody reads keeps its name only. */
static void give_up(struct tessi_sched *sched, struct sched_layer *layer)
{
    abandon_layer(sched, layer);
    tessi_table_forget_untouched(layer);
    layer->given_up = true;
}

static void destroy_layer(struct tessi_sched *sched, struct sched_layer *layer)
{
    struct session *session = layer->session;
    tessi_keep_end(sched, layer);
    tessi_life_unwant(sched, layer);
    abandon_layer(sched, layer);
    tessi_news_unwatch(sched, layer);
    forget_news(sched, layer);
    tessi_out_drop_layer(sched, layer);
    notify_client(sched, layer);
    session->submissions[layer->submission].layers--;
    end_submission(session, layer->submission);
    uint32_t position = tessi_map_get(&session->layers_by_id, id_key(layer->layer->id));
    (void)tessi_map_remove(&session->layers_by_id, id_key(layer->layer->id));
    session->layers[position] = NULL;
    session->layer_holes++;
    memset(sched->named, 0, sizeof sched->named);
    sched->layer_bytes -= layer->bytes;
    free_layer(layer);
}

/* Goes on with it in the next step. */
static void prune_later(struct tessi_sched *sched, struct sched_layer *layer)
{
    tessi_grow(&sched->pruning, &sched->pruning_capacity, sched->pruning_count + 1, sizeof *sched->pruning);
    sched->pruning[sched->pruning_count++] = layer;
    layer->pruning_at = (uint32_t)sched->pruning_count;
    sched->more = true;
}

/* Layers around it of which nobody has ever read all must be pruned too, or what they read would be made for them. */
static void prune_around(struct tessi_sched *sched, struct sched_layer *layer)
{
    layer->pruned = true;
    for (size_t c = 0; c < layer->consumer_count; c++) {
        if (!layer->consumers[c].layer->pruned) {
            tessi_life_note_loose(sched, layer->consumers[c].layer);
        }
    }
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        if (!layer->inputs[i]->pruned) {
            tessi_life_note_loose(sched, layer->inputs[i]);
        }
    }
}

/* Whether anybody reads the block. Who looks for many pays for each reader that is asked. */
static bool has_reader(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index)
{
    bool found = false;
    for (size_t c = 0; c < layer->consumer_count && !found; c++) {
        found = tessi_block_dependent_count(layer->consumers[c].layer->layer, layer->consumers[c].input, index) > 0;
        sched->lookups -= sched->lookups > 0;
    }
    return found;
}

/* Those who are left read some of its blocks: what waits and none of them reads is let go, so that nothing starts for it.
 * Half of what a step may look at is left to what is assigned in it; of very many tasks the rest follows in later steps. */
static void prune(struct tessi_sched *sched, struct sched_layer *layer)
{
    uint64_t found = 0, spared = sched->config.lookups_per_step / 2;
    unsigned kinds = 1u << PAGE_PRISTINE | 1u << PAGE_LIVE;
    if (!layer->pruned) {
        prune_around(sched, layer);
    }
    if (layer->first_done >= layer->tasks || read_wholly(layer)) {
        return; /* each of its tasks has a record while it waits, or a reader, and goes with its last one */
    }
    uint64_t i = tessi_table_next(layer, layer->prune_next, kinds);
    for (; i < layer->tasks && sched->lookups > spared; i = tessi_table_next(layer, i + 1, kinds)) {
        const struct task_record *task = record_peek(layer, i);
        sched->lookups--;
        if (task == NULL ? !has_reader(sched, layer, i) : task->state == TASK_UNASSIGNED && task->refs == 0) {
            tessi_refs_consider_idle(sched, layer, i);
            found++;
        }
        if (sched->idle.count >= FREED_AT_ONCE) {
            tessi_refs_settle(sched);
            tessi_table_collapse_pages(sched);
        }
    }
    tessi_refs_settle(sched);
    tessi_table_collapse_pages(sched);
    layer->prune_next = i;
    if (i < layer->tasks) {
        prune_later(sched, layer);
    }
    for (uint32_t w = 0; found > 0 && w < layer->on_capacity; w++) {
        if (layer->on[w].backlog > 0) {
            tessi_hungry_mark(sched, sched->workers[w]); /* what stood behind it may be next */
        }
    }
}

/* What the step before had no time for. */
static void continue_pruning(struct tessi_sched *sched)
{
    for (size_t left = sched->pruning_count; left > 0 && sched->pruning_count > 0; left--) {
        struct sched_layer *layer = sched->pruning[0];
        leave_pruning(sched, layer);
        if (!(layer->wanted && layer->handle) && !layer->loose) {
            prune(sched, layer);
        }
    }
}

/* When most places are empty: what this costs has been paid for by the layers that have gone. */
static void compact(struct session *session)
{
    size_t kept = 0;
    if (session->layer_holes * 2 <= session->layer_count) {
        return;
    }
    for (size_t i = 0; i < session->layer_count; i++) {
        if (session->layers[i] != NULL) {
            session->layers[kept] = session->layers[i];
            tessi_map_put(&session->layers_by_id, id_key(session->layers[kept]->layer->id), (uint32_t)kept);
            kept++;
        }
    }
    session->layer_count = kept;
    session->layer_holes = 0;
}

static void sweep_one(struct tessi_sched *sched)
{
    struct sched_layer *layer = sched->loose[--sched->loose_count];
    struct session *session = layer->session;
    layer->loose = false;
    layer->prune_next = 0; /* those who have gone may have been the last readers of any of it */
    leave_pruning(sched, layer);
    if (layer->wanted && (layer->handle || read_by_others(layer))) {
        return; /* kept for its client, or for them */
    }
    if (read_by_others(layer)) {
        prune(sched, layer);
    } else if (layer->handle && !layer->given_up) {
        give_up(sched, layer);
    } else if (!layer->handle) {
        destroy_layer(sched, layer);
        compact(session);
    }
}

/* Layers that are needed less than before: one that nobody names or reads goes, and then perhaps what it read; one that
 * was cancelled is given up; of one that has readers left goes what they do not read. So nothing starts any more for a
 * result that was released or cancelled, except in the steps that very many of them need. */
void tessi_life_sweep(struct tessi_sched *sched)
{
    continue_pruning(sched);
    while (sched->loose_count > 0 && sched->lookups > sched->config.lookups_per_step / 2) {
        sweep_one(sched);
    }
    sched->more = sched->more || sched->loose_count > 0;
}

void tessi_life_close_session(struct tessi_sched *sched, struct session *session)
{
    session->closing = true;
    tessi_backlog_purge_session(sched, session);
    for (size_t i = 0; i < session->layer_count; i++) {
        if (session->layers[i] != NULL) {
            tessi_life_unwant(sched, session->layers[i]);
            session->layers[i]->handle = false;
            tessi_life_note_loose(sched, session->layers[i]);
        }
    }
    for (size_t i = 0; i < session->layer_count; i++) {
        if (session->layers[i] != NULL) {
            tessi_abandon_uncounted(sched, session->layers[i]);
        }
    }
    while (sched->loose_count > 0) {
        sweep_one(sched);
    }
    TESS_ASSERT(session->layer_count == 0);
    tessi_policy_lanes_fini(sched, session);
    tessi_map_fini(&session->layers_by_id);
    tessi_free(session->layers);
    tessi_free(session->submissions);
    uint32_t at = tessi_map_get(&sched->session_by_id, id_key(session->id));
    (void)tessi_map_remove(&sched->session_by_id, id_key(session->id));
    struct session *last = sched->sessions[--sched->session_count];
    if (last != session) {
        sched->sessions[at] = last;
        tessi_map_put(&sched->session_by_id, id_key(last->id), at);
    }
    tessi_free(session);
}
