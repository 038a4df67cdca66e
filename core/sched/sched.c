/* The step: one event in, actions out. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/balance/balance.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/order/order.h"
#include "core/sched/recovery/recovery.h"
#include "core/sched/sched.h"
#include "core/sched/step.h"
#include "core/sched/submission/submission.h"
#include "core/sched/workers/workers.h"

#define CHECK_INTERVAL_NS INT64_C(1000000000)
#define PROGRESS_INTERVAL_NS INT64_C(100000000)
#define LATE_NS INT64_C(250000000) /* after the time at which it has asked for a tick, before that counts as absence */

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

void tessi_sched_destroy(struct tessi_sched *sched)
{
    if (sched == NULL) {
        return;
    }
    while (sched->session_count > 0) {
        tessi_life_close_session(sched, sched->sessions[sched->session_count - 1]);
    }
    TESS_ASSERT(sched->session_by_id.count == 0 && sched->loose_count == 0 && sched->watched_count == 0);
    tessi_spread_fini(sched);
    for (size_t w = 0; w < sched->worker_count; w++) {
        tessi_arrive_fini_worker(sched->workers[w]);
    }
    for (size_t i = 0; i < sched->worker_room_count; i++) {
        tessi_free(sched->worker_rooms[i]);
    }
    for (size_t i = 0; i < sched->outbox_count; i++) {
        tessi_out_destroy(sched->outboxes[i]);
    }
    tessi_out_forget(sched);
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
        tessi_arrive_worker(sched, event);
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
        tessi_arrive_client(sched, event->peer);
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
    tessi_out_forget(sched);
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
    tessi_flush(sched);
    TESS_ASSERT(sched->idle.count == 0 && sched->empty_page_count == 0 && sched->dirty.count == 0 &&
                sched->news_count == 0);
    actions->items = sched->actions;
    actions->count = sched->action_count;
    actions->notes = sched->notes;
    actions->note_count = sched->note_count;
    actions->wake_ns = sched->wake_ns = next_wake(sched);
}
