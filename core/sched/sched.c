/* The step: one event in, actions out. */
#include "core/sched/sched.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/state.h"

#define SPANS_KEPT 256
#define WORKERS_SIDE_BY_SIDE 8u
#define DROPS_MAX 4096u /* in one message */
#define CHECK_INTERVAL_NS INT64_C(1000000000)
#define PROGRESS_INTERVAL_NS INT64_C(100000000)
#define LATE_NS INT64_C(250000000) /* after the time at which it has asked for a tick, before that counts as absence */

static struct tessi_map_key id_key(uint32_t id)
{
    return (struct tessi_map_key){0, id};
}

struct tessi_sched_config tessi_sched_config_default(void)
{
    return (struct tessi_sched_config){
        .window_ns = INT64_C(500000000),
        .assigned_per_step = 65536,
        .lookups_per_step = UINT64_C(1) << 21,
        .assigned_per_slot = 4096, /* more short tasks than it takes to hide the way to a worker only fill caches */
        .worker_silence_ns = INT64_C(10000000000),
        .client_silence_ns = INT64_C(60000000000),
        .wait_workers_ns = INT64_C(5000000000),
        .exchange_room = 8,
        .max_deaths = 3,
        .block_cost = TESSI_BLOCK_COST,
        .lineage_max = 64,
    };
}

struct tessi_sched *tessi_sched_create(const struct tessi_sched_config *config)
{
    struct tessi_sched *sched = tessi_zalloc(sizeof *sched);
    sched->config = *config;
    sched->next_check_ns = sched->wake_ns = INT64_MAX;
    tessi_pages_init(&sched->page_rooms);
    tessi_heap_init(&sched->resting);
    sched->order_next = 1;
    (void)tessi_text_format(sched->family, sizeof sched->family, "%s", config->family);
    return sched;
}

static void free_step_memory(struct tessi_sched *sched)
{
    for (size_t i = 0; i < sched->scratch_count; i++) {
        tessi_free(sched->scratch[i]);
    }
    sched->scratch_count = 0;
}

static void outbox_destroy(struct outbox *out)
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

static void worker_destroy(struct worker *worker)
{
    if (worker->out != NULL) { /* sessions that end now have blocks freed that nobody will be told of */
        outbox_destroy(worker->out);
    }
    tessi_free(worker->given);
    tessi_spans_fini(&worker->shed);
    tessi_free(worker->spill_error);
}

void tessi_sched_destroy(struct tessi_sched *sched)
{
    if (sched == NULL) {
        return;
    }
    while (sched->session_count > 0) {
        tessi_life_close_session(sched, sched->sessions[sched->session_count - 1]);
    }
    tessi_spread_fini(sched);
    for (size_t w = 0; w < sched->worker_count; w++) {
        worker_destroy(sched->workers[w]);
    }
    for (size_t i = 0; i < sched->worker_room_count; i++) {
        tessi_free(sched->worker_rooms[i]);
    }
    for (size_t i = 0; i < sched->outbox_count; i++) {
        outbox_destroy(sched->outboxes[i]);
    }
    free_step_memory(sched);
    tessi_pages_fini(&sched->page_rooms);
    tessi_load_fini(&sched->loads);
    tessi_task_lists_fini(&sched->copies);
    tessi_task_lists_fini(&sched->parked);
    tessi_task_lists_fini(&sched->blocked);
    tessi_heap_fini(&sched->resting);
    tessi_free(sched->dirty.items);
    tessi_map_fini(&sched->worker_by_id);
    tessi_map_fini(&sched->session_by_id);
    tessi_map_fini(&sched->hand_over_of);
    tessi_map_fini(&sched->keep_of);
    tessi_map_fini(&sched->history_by_kind);
    void *owned[] = {sched->workers,        sched->sessions,    sched->history,      sched->hungry,
                     sched->idle.items,     sched->empty_pages,
                     sched->watched,        sched->news,        sched->moved,        sched->actions,
                     sched->loose,          sched->pruning,     sched->client_locations,
                     sched->keeps,          sched->keeping,
                     sched->scratch,        sched->processors,  sched->notes,        sched->hand_overs,
                     sched->hand_overs_free, sched->long_layers.items, sched->outboxes, sched->worker_rooms,
                     sched->vacant.items,    sched->joined.items};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
        tessi_free(owned[i]);
    }
    tessi_free(sched);
}

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
    tessi_grow(&sched->scratch, &sched->scratch_capacity, sched->scratch_count + 1, sizeof *sched->scratch);
    return sched->scratch[sched->scratch_count++] = tessi_zalloc(size);
}

const char *tessi_out_text(struct tessi_sched *sched, const char *text)
{
    char *copy = tessi_out_memory(sched, strlen(text) + 1);
    memcpy(copy, text, strlen(text) + 1);
    return copy;
}

struct worker *tessi_find_worker(struct tessi_sched *sched, uint32_t id)
{
    uint32_t index = tessi_map_get(&sched->worker_by_id, id_key(id));
    return index == TESSI_MAP_NONE ? NULL : sched->workers[index];
}

struct session *tessi_find_session(struct tessi_sched *sched, uint32_t id)
{
    uint32_t index = tessi_map_get(&sched->session_by_id, id_key(id));
    return index == TESSI_MAP_NONE ? NULL : sched->sessions[index];
}

void tessi_worker_list_push(struct worker_list *list, uint32_t index)
{
    tessi_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items);
    list->items[list->count++] = index;
}

void tessi_out_mark_dirty(struct worker *worker)
{
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
        tessi_out_mark_dirty(worker);
    }
    return worker->out;
}

/* True when `family` is one of the comma-separated names. */
static bool names_family(const char *names, const char *family)
{
    size_t length = strlen(family);
    for (const char *at = names; at != NULL && *at != 0;) {
        const char *end = strchr(at, ',');
        size_t n = end != NULL ? (size_t)(end - at) : strlen(at);
        if (n == length && memcmp(at, family, n) == 0) {
            return true;
        }
        at = end != NULL ? end + 1 : NULL;
    }
    return false;
}

static bool agree_on_family(struct tessi_sched *sched, const struct tessi_worker_info *info, uint32_t peer)
{
    if (sched->family[0] == 0) {
        (void)tessi_text_format(sched->family, sizeof sched->family, "%.*s", (int)strcspn(info->family, ","),
                                info->family);
    }
    if (names_family(info->family, sched->family)) {
        return true;
    }
    char text[512];
    (void)tessi_text_format(text, sizeof text,
                   "this cluster computes with the '%s' kernels and this worker can run only '%s': start the scheduler "
                   "with a family that every worker has (--blas-core)",
                   sched->family, info->family);
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_REJECT, peer);
    action->status = TESSI_UNSUPPORTED;
    action->text = tessi_out_text(sched, text);
    return false;
}

static void announce_peer(struct tessi_sched *sched, uint32_t to, const struct worker *worker)
{
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_PEER_UP, to);
    action->worker = worker->id;
    action->info = &worker->info;
}

static bool read_resources(struct tessi_sched *sched, const struct tessi_sched_event *event,
                           struct tessi_resources *resources)
{
    struct tessi_error error;
    if (tessi_resources_parse(event->worker.resources, resources, &error) == TESSI_OK) {
        return true;
    }
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_REJECT, event->peer);
    action->status = TESSI_INVALID;
    action->text = tessi_out_text(sched, error.text);
    return false;
}

/* A few lie side by side, each from the start of a cache line. */
static struct worker *worker_room(struct tessi_sched *sched)
{
    size_t at = sched->worker_count % WORKERS_SIDE_BY_SIDE, align = _Alignof(struct worker);
    if (at == 0) {
        tessi_grow(&sched->worker_rooms, &sched->worker_room_capacity, sched->worker_room_count + 1,
                   sizeof *sched->worker_rooms);
        sched->worker_rooms[sched->worker_room_count++] =
            tessi_zalloc(WORKERS_SIDE_BY_SIDE * sizeof(struct worker) + align);
    }
    uintptr_t room = (uintptr_t)sched->worker_rooms[sched->worker_room_count - 1];
    return (struct worker *)((room + align - 1) / align * align) + at;
}

/* In the place of one that has gone, so that neither walks over all workers nor tables of them grow with those that
 * have been here. Lists that it may still stand in, for its place, go on to hold it. */
static struct worker *worker_made(struct tessi_sched *sched)
{
    if (sched->vacant.count == 0) {
        struct worker *worker = worker_room(sched);
        worker->index = (uint32_t)sched->worker_count;
        tessi_grow(&sched->workers, &sched->worker_capacity, sched->worker_count + 1, sizeof *sched->workers);
        return sched->workers[sched->worker_count++] = worker;
    }
    struct worker *worker = sched->workers[sched->vacant.items[--sched->vacant.count]];
    TESS_ASSERT(!worker->alive && worker->out == NULL && !worker->dirty);
    worker_destroy(worker);
    *worker = (struct worker){.index = worker->index,
                              .hungry = worker->hungry,
                              .load_changed = worker->load_changed,
                              .load_stale = worker->load_stale};
    return worker;
}

static void worker_join(struct tessi_sched *sched, const struct tessi_sched_event *event)
{
    if (tessi_find_worker(sched, event->peer) != NULL || tessi_find_session(sched, event->peer) != NULL) {
        sched->stale_reports++;
        return;
    }
    if (!agree_on_family(sched, &event->worker, event->peer)) {
        return;
    }
    struct tessi_resources resources;
    if (!read_resources(sched, event, &resources)) {
        return;
    }
    struct worker *worker = worker_made(sched);
    worker->resources = resources;
    worker->id = event->peer;
    worker->alive = true;
    worker->info = event->worker;
    worker->slots = worker->info.slots;
    worker->heard_ns = sched->attended_ns;
    worker->stealing_from = NO_WORKER;
    worker->sched = sched;
    tessi_worker_list_push(&sched->joined, worker->index);
    sched->alive_count++;
    sched->workers_joined++;
    tessi_map_put(&sched->worker_by_id, id_key(worker->id), worker->index);
    tessi_kinds_join(sched, worker);
    tessi_place_scatter_long(sched);
    tessi_out_emit(sched, TESSI_SCHED_WELCOME, worker->id)->text = sched->family;
    tessi_out_note(
        sched, (struct tessi_trace_record){.kind = TESSI_TRACE_JOIN, .peer = worker->id, .amount = worker->info.slots});
    for (size_t w = 0; w + 1 < sched->joined.count; w++) {
        const struct worker *other = sched->workers[sched->joined.items[w]];
        announce_peer(sched, worker->id, other);
        announce_peer(sched, other->id, worker);
    }
    for (size_t s = 0; s < sched->session_count; s++) {
        if (sched->sessions[s] != NULL) {
            announce_peer(sched, sched->sessions[s]->id, worker);
            sched->sessions[s]->starving_since_ns = -1;
        }
    }
    tessi_hungry_mark(sched, worker);
    tessi_place_orphans(sched);
    sched->relief_due = true;
}

static void client_join(struct tessi_sched *sched, uint32_t peer)
{
    if (tessi_find_worker(sched, peer) != NULL || tessi_find_session(sched, peer) != NULL) {
        sched->stale_reports++;
        return;
    }
    struct session *session = tessi_zalloc(sizeof *session);
    session->id = peer;
    session->heard_ns = sched->attended_ns;
    session->starving_since_ns = -1;
    tessi_grow(&sched->sessions, &sched->session_capacity, sched->session_count + 1, sizeof *sched->sessions);
    tessi_map_put(&sched->session_by_id, id_key(peer), (uint32_t)sched->session_count);
    sched->sessions[sched->session_count++] = session;
    uint64_t least = UINT64_MAX;
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        least = worker->alive && worker->info.memory_bytes < least ? worker->info.memory_bytes : least;
    }
    struct tessi_sched_action *welcome = tessi_out_emit(sched, TESSI_SCHED_WELCOME, peer);
    welcome->text = sched->family;
    welcome->total = least == UINT64_MAX ? 0 : least;
    for (size_t w = 0; w < sched->worker_count; w++) {
        if (sched->workers[w]->alive) {
            announce_peer(sched, peer, sched->workers[w]);
        }
    }
}

static void client_leave(struct tessi_sched *sched, struct session *session)
{
    tessi_parked_forget_peer(sched, session->id);
    for (size_t w = 0; w < sched->worker_count; w++) {
        if (sched->workers[w]->alive) { /* one may wait for data of a client that has never connected to it */
            tessi_out_emit(sched, TESSI_SCHED_PEER_LOST, sched->workers[w]->id)->worker = session->id;
        }
    }
    tessi_life_close_session(sched, session);
}

static void say_bye(struct tessi_sched *sched, uint32_t peer, const char *text)
{
    tessi_out_emit(sched, TESSI_SCHED_BYE, peer)->text = text;
}

static void check_silence(struct tessi_sched *sched)
{
    for (size_t w = 0; w < sched->worker_count; w++) {
        struct worker *worker = sched->workers[w];
        if (worker->alive && sched->attended_ns - worker->heard_ns > sched->config.worker_silence_ns) {
            say_bye(sched, worker->id, "silent for too long: taken for lost");
            tessi_loss_of_worker(sched, worker);
        }
    }
    for (size_t s = sched->session_count; s-- > 0;) { /* the last takes the place of one that goes */
        struct session *session = sched->sessions[s];
        if (sched->attended_ns - session->heard_ns > sched->config.client_silence_ns) {
            say_bye(sched, session->id, "silent for too long: its arrays were released");
            client_leave(sched, session);
        }
    }
}

bool tessi_locate_starves(struct tessi_sched *sched, struct session *session)
{
    if (session->starving_since_ns < 0) {
        session->starving_since_ns = sched->attended_ns;
    }
    return sched->attended_ns - session->starving_since_ns >= sched->config.wait_workers_ns;
}

/* Work with no worker at all waits a while, then fails. */
static void check_starving(struct tessi_sched *sched)
{
    for (size_t i = 0; i < sched->watched_count && sched->alive_count == 0; i++) {
        struct sched_layer *layer = sched->watched[i];
        if (tessi_locate_starves(sched, layer->session) && layer->failure == TESSI_OK) {
            layer->failure = TESSI_NO_WORKERS;
            layer->failure_text = tessi_strdup(NO_WORKERS_TEXT);
            tessi_news_note(sched, layer);
        }
    }
    if (sched->alive_count == 0) {
        tessi_locate_starve_reads(sched);
    }
}

static void take_event(struct tessi_sched *sched, const struct tessi_sched_event *event)
{
    struct worker *worker = tessi_find_worker(sched, event->peer);
    struct session *session = tessi_find_session(sched, event->peer);
    if (worker != NULL) {
        worker->heard_ns = sched->attended_ns;
    }
    if (session != NULL) {
        session->heard_ns = sched->attended_ns;
    }
    switch (event->kind) {
    case TESSI_SCHED_TICK:
    case TESSI_SCHED_CLIENT_HEARD:
        break;
    case TESSI_SCHED_WORKER_HEARD:
        if (worker == NULL) {
            say_bye(sched, event->peer, "not known to this scheduler: join again");
        }
        break;
    case TESSI_SCHED_WORKER_JOIN:
        worker_join(sched, event);
        break;
    case TESSI_SCHED_WORKER_LEAVE:
        if (worker != NULL) {
            tessi_loss_of_worker(sched, worker);
        }
        break;
    case TESSI_SCHED_WORKER_LEAVING:
        if (worker != NULL) {
            tessi_leave_begin(sched, worker, event->wait_ns);
        }
        break;
    case TESSI_SCHED_REPORT:
        if (worker != NULL) {
            tessi_take_report(sched, worker, event->report);
        } else {
            sched->stale_reports++;
            say_bye(sched, event->peer, "not known to this scheduler: join again");
        }
        break;
    case TESSI_SCHED_LOCATE:
        tessi_locate(sched, event->peer, event->spans, event->span_count);
        break;
    case TESSI_SCHED_CLIENT_JOIN:
        client_join(sched, event->peer);
        break;
    case TESSI_SCHED_CLIENT_LEAVE:
        if (session != NULL) {
            client_leave(sched, session);
        }
        break;
    case TESSI_SCHED_SUBMIT:
        tessi_submit(sched, event);
        break;
    case TESSI_SCHED_RELEASE:
        if (session != NULL) {
            tessi_life_release(sched, session, event->ids, event->id_count);
        }
        break;
    case TESSI_SCHED_CANCEL:
        if (session != NULL) {
            tessi_life_cancel(sched, session, event->ids, event->id_count);
        }
        break;
    case TESSI_SCHED_DETACH:
        if (session != NULL) {
            tessi_keep_ask_detach(sched, session, event->ids, event->id_count);
        }
        break;
    }
}

static void say_progress(struct tessi_sched *sched, const struct session *session, struct submission *submission)
{
    struct tessi_sched_action *action = tessi_out_emit(sched, TESSI_SCHED_PROGRESS, session->id);
    submission->told = submission->done;
    submission->told_ns = sched->now_ns;
    action->request = submission->request;
    action->done = submission->done < submission->total ? submission->done : submission->total;
    action->total = submission->total;
}

/* Of each submission now and then, however many of its arrays somebody waits for. The one whose progress began first
 * comes first, so those behind it wait a little longer. */
static void report_progress(struct tessi_sched *sched)
{
    for (; sched->moved_first < sched->moved_count; sched->moved_first++) {
        struct moved moved = sched->moved[sched->moved_first];
        struct session *session = tessi_find_session(sched, moved.session);
        struct submission *submission = session == NULL ? NULL : &session->submissions[moved.submission];
        if (submission == NULL || submission->serial != moved.serial) {
            continue; /* it has ended */
        }
        if (submission->watched > 0 && submission->told_ns > 0 &&
            sched->now_ns - submission->told_ns < PROGRESS_INTERVAL_NS) {
            break;
        }
        submission->moved = false;
        if (submission->watched > 0 && submission->done != submission->told) {
            say_progress(sched, session, submission);
        }
    }
    if (sched->moved_first > 0 && sched->moved_first * 2 >= sched->moved_count) {
        sched->moved_count -= sched->moved_first;
        memmove(sched->moved, sched->moved + sched->moved_first, sched->moved_count * sizeof *sched->moved);
        sched->moved_first = 0;
    }
}

static void announce_layer(struct tessi_sched *sched, struct sched_layer *layer)
{
    struct submission *submission = &layer->session->submissions[layer->submission];
    bool complete = layer->wanted && layer->held == layer->tasks;
    if (layer->failure == TESSI_OK && !complete) {
        if (!layer->wanted) {
            tessi_news_unwatch(sched, layer);
        }
        return;
    }
    if (layer->failure == TESSI_OK && !layer->layer->push && submission->told != submission->done) {
        say_progress(sched, layer->session, submission); /* who is sent the blocks looks at nothing else */
    }
    enum tessi_sched_action_kind kind = layer->failure == TESSI_OK ? TESSI_SCHED_DONE : TESSI_SCHED_FAILED;
    struct tessi_sched_action *action = tessi_out_emit(sched, kind, layer->session->id);
    action->layer_id = layer->layer->id;
    action->elapsed_ns = sched->now_ns - layer->submitted_ns;
    action->stats = layer->session->stats;
    action->status = layer->failure;
    action->text = layer->failure == TESSI_OK ? "" : tessi_out_text(sched, layer->failure_text);
    tessi_news_unwatch(sched, layer);
    if (layer->failure == TESSI_OK) {
        tessi_keep_consider(sched, layer);
    }
}

/* Tell clients what became of the layers that they wait for. */
static void announce(struct tessi_sched *sched)
{
    report_progress(sched);
    for (size_t i = 0; i < sched->news_count; i++) {
        sched->news[i]->news = false;
        if (sched->news[i]->watched_at > 0) {
            announce_layer(sched, sched->news[i]);
        }
    }
    sched->news_count = 0;
}

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

static void flush(struct tessi_sched *sched)
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

static int64_t next_wake(struct tessi_sched *sched)
{
    if (sched->alive_count == 0 && sched->session_by_id.count == 0) {
        sched->next_check_ns = INT64_MAX;
    } else if (sched->next_check_ns == INT64_MAX) {
        sched->next_check_ns = sched->now_ns + CHECK_INTERVAL_NS;
    }
    int64_t leave_ns = tessi_leave_next_ns(sched);
    int64_t wake_ns = leave_ns < sched->next_check_ns ? leave_ns : sched->next_check_ns;
    return sched->more ? sched->now_ns : wake_ns;
}

/* Others are judged by the time for which somebody was there to hear them. When a tick comes late, or a long step has
 * kept the next event waiting, the scheduler was away: that time says nothing about them, and what they said meanwhile
 * still waits to be taken. */
static void attend(struct tessi_sched *sched, int64_t now_ns)
{
    int64_t quarter_ns = sched->config.worker_silence_ns / 4, late_ns = quarter_ns < LATE_NS ? quarter_ns : LATE_NS;
    int64_t passed_ns = now_ns - sched->now_ns;
    int64_t asked_ns = sched->wake_ns > sched->now_ns ? sched->wake_ns - sched->now_ns : 0;
    bool away = asked_ns < INT64_MAX - late_ns && passed_ns > asked_ns + late_ns; /* since when is not known */
    sched->attended_ns += away ? late_ns : passed_ns;
    sched->now_ns = now_ns;
}

void tessi_sched_step(struct tessi_sched *sched, const struct tessi_sched_event *event,
                      struct tessi_sched_actions *actions)
{
    TESS_ASSERT(event->now_ns >= sched->now_ns);
    free_step_memory(sched);
    sched->action_count = sched->note_count = 0;
    attend(sched, event->now_ns);
    sched->step_assigned = 0;
    sched->lookups = sched->config.lookups_per_step;
    sched->more = false;
    sched->why_told = NULL;
    take_event(sched, event);
    sched->lookups = sched->config.lookups_per_step;
    tessi_spread_finish(sched);
    if (event->kind == TESSI_SCHED_TICK && sched->now_ns >= sched->next_check_ns) {
        check_silence(sched); /* by then what had come before was taken */
        tessi_relief_again(sched);
        sched->next_check_ns = INT64_MAX;
    }
    check_starving(sched);
    tessi_unmet_check(sched);
    tessi_refs_settle(sched);
    tessi_keep_continue(sched);
    tessi_life_sweep(sched);
    tessi_leave_continue(sched);
    tessi_relief_give(sched);
    tessi_feed_workers(sched);
    tessi_steal_balance(sched);
    tessi_feed_workers(sched);
    tessi_refs_settle(sched);
    tessi_table_end_pages(sched);
    announce(sched);
    flush(sched);
    actions->items = sched->actions;
    actions->count = sched->action_count;
    actions->notes = sched->notes;
    actions->note_count = sched->note_count;
    actions->wake_ns = sched->wake_ns = next_wake(sched);
}
