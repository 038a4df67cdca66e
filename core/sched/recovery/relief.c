/* Workers that are full. One whose oldest task waits for room, while nothing under way there will make any, starves. It
 * says what it lacks and which of its held blocks it would rather be without; others take these over, as from a worker
 * that leaves. The task that comes first of all that starve has others make room for it even if tasks of their own,
 * which come later, have to wait or begin anew: so it runs, then the next one does, and nothing stands still while all
 * workers together have room for what is held and for one task.
 *
 * When they have not, nobody can take anything and nothing goes on: after `wait_workers_ns` what that task's session
 * still waits for fails, and says why. */
#include <inttypes.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/recovery/recovery.h"

static void find_first(struct tessi_sched *sched)
{
    uint64_t before = sched->starving_order;
    sched->starving_order = UINT64_MAX;
    for (size_t w = 0; w < sched->worker_count && sched->starving_count > 0; w++) {
        const struct worker *worker = sched->workers[w];
        if (worker->starving && worker->short_order < sched->starving_order) {
            sched->starving_order = worker->short_order;
        }
    }
    for (size_t w = 0; w < sched->worker_count && sched->starving_order != before; w++) {
        sched->workers[w]->refused_first_bytes = 0; /* that was for another one */
    }
}

void tessi_relief_end_starving(struct tessi_sched *sched, struct worker *worker)
{
    if (!worker->starving) {
        return;
    }
    TESS_ASSERT(sched->starving_count > 0);
    worker->starving = false;
    sched->starving_count--;
    tessi_spans_fini(&worker->shed);
    tessi_free(worker->spill_error);
    worker->spill_error = NULL;
    find_first(sched);
    sched->relief_due = true;
}

static void begin_starving(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report)
{
    TESS_ASSERT(report->starved.count > 0 && worker->alive);
    const struct tessi_span *starved = &report->starved.items[0];
    sched->moved_ns = sched->starving_count == 0 ? sched->attended_ns : sched->moved_ns;
    sched->starving_count += !worker->starving;
    worker->starving = true;
    bool same = worker->short_bytes == report->short_bytes && worker->short_order == starved->order;
    worker->short_ns = same ? worker->short_ns : sched->attended_ns;
    worker->short_bytes = report->short_bytes;
    worker->short_order = starved->order;
    worker->short_task = (struct tessi_task){starved->session, starved->layer, starved->first};
    worker->shed.count = 0;
    for (size_t s = 0; s < report->shed.count; s++) {
        tessi_spans_push(&worker->shed, report->shed.items[s]);
    }
    tessi_free(worker->spill_error);
    worker->spill_error = report->spill_error != NULL ? tessi_strdup(report->spill_error) : NULL;
    find_first(sched);
    sched->relief_due = true;
    tessi_keep_make_room(sched); /* second copies are for when there is room */
}

/* Before the gauges are taken. */
void tessi_relief_take_starving(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report)
{
    if (report->starved.count > 0 && report->short_bytes > 0) {
        begin_starving(sched, worker, report);
    } else {
        tessi_relief_end_starving(sched, worker);
    }
    bool moved = report->started.count + report->done.count + report->adopted.count + report->stolen.count +
                     report->failure_count > 0;
    if (worker->refused_bytes > 0 && report->memory_used_bytes < worker->refused_used) {
        worker->refused_bytes = worker->refused_first_bytes = 0;
        sched->relief_due = true;
    }
    moved = moved || report->memory_used_bytes < worker->memory_used_bytes;
    sched->moved_ns = moved ? sched->attended_ns : sched->moved_ns;
}

static void relieve_worker(struct tessi_sched *sched, const struct worker *worker)
{
    for (size_t s = 0; s < worker->shed.count && worker->handing_bytes < worker->short_bytes; s++) {
        const struct tessi_span *span = &worker->shed.items[s];
        struct sched_layer *layer = tessi_find_named(sched, span->session, span->layer);
        for (uint64_t i = span->first; layer != NULL && i < span->first + span->count && i < layer->tasks &&
                                       worker->handing_bytes < worker->short_bytes; i++) {
            const struct task_record *task = record_peek(layer, i);
            if (task != NULL && task->state == TASK_HELD && task->owner == worker->index && task->epoch == span->epoch) {
                tessi_hand_over_for(sched, layer, i, worker->short_order);
            }
        }
    }
}

/* The first of all before the others: it may have what these would take. */
void tessi_relief_give(struct tessi_sched *sched)
{
    if (!sched->relief_due) {
        return;
    }
    sched->relief_due = false;
    for (int first = 1; first >= 0 && sched->starving_count > 0; first--) {
        for (size_t w = 0; w < sched->worker_count; w++) {
            const struct worker *worker = sched->workers[w];
            if (worker->starving && !worker->leaving && (worker->short_order == sched->starving_order) == (first > 0)) {
                relieve_worker(sched, worker);
            }
        }
    }
}

/* Nothing is under way anywhere that may make room. */
static bool stands_still(const struct tessi_sched *sched)
{
    bool still = sched->hand_over_of.count == 0 && sched->leaving_count == 0;
    for (size_t w = 0; w < sched->worker_count && still; w++) {
        still = !sched->workers[w]->alive || !sched->workers[w]->busy;
    }
    return still;
}

static void say_why(const struct tessi_sched *sched, const struct worker *worker, char *text, size_t size)
{
    double memory = 0;
    for (size_t w = 0; w < sched->worker_count; w++) {
        memory += sched->workers[w]->alive ? (double)sched->workers[w]->info.memory_bytes : 0;
    }
    if (worker->spill_error != NULL) {
        (void)tessi_text_format(text, size,
                                "worker %s (%s) is full and cannot write its blocks to disk: %s; no other worker has room "
                                "for them: free space on that disk, give --spill another one, or add workers",
                                worker->info.name, worker->info.host, worker->spill_error);
        return;
    }
    (void)tessi_text_format(text, size,
                            "a task lacks %.3f GB at worker %s, and no other worker has room for what is held there: "
                            "results and what they are still made from fill the %.3f GB of memory of all workers and their "
                            "spill space: release what is not needed, add workers, raise --memory, or give --spill DIR",
                            (double)worker->short_bytes / 1e9, worker->info.name, memory / 1e9);
}

/* What the session still waits for fails, as if it had been cancelled; also what was complete and has lost a block. */
static void give_up(struct tessi_sched *sched, const struct worker *worker)
{
    TESS_ASSERT(worker->starving);
    char text[1024];
    const struct session *session = tessi_find_session(sched, worker->short_task.session);
    say_why(sched, worker, text, sizeof text);
    for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
        struct sched_layer *layer = session->layers[l];
        if (layer != NULL && layer->wanted && layer->held < layer->tasks && !layer->detached) {
            tessi_news_watch(sched, layer);
            tessi_life_abort(sched, layer, TESSI_TOO_BIG, text);
        }
    }
    sched->moved_ns = sched->attended_ns;
}

void tessi_relief_again(struct tessi_sched *sched)
{
    if (sched->starving_count == 0) {
        return;
    }
    for (size_t w = 0; w < sched->worker_count; w++) {
        struct worker *worker = sched->workers[w];
        /* Everybody has been asked anew since what it lacks is known, and nothing has gone on since. */
        bool hopeless = worker->starving && worker->short_order == sched->starving_order &&
                        worker->short_ns < sched->relief_round_ns && sched->moved_ns < sched->relief_round_ns &&
                        sched->attended_ns - sched->moved_ns >= sched->config.wait_workers_ns &&
                        stands_still(sched);
        if (hopeless) {
            give_up(sched, worker);
        }
        worker->refused_bytes = worker->refused_first_bytes = worker->refused_used = 0;
    }
    sched->relief_round_ns = sched->attended_ns;
    sched->relief_due = true;
}
