/* The life of layers, until nothing can reach them. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/order/order.h"
#include "core/sched/order/policy.h"
#include "core/sched/workers/workers.h"

/* One that has no layers left is named by nobody. */
void tessi_life_end_submission(struct session *session, uint32_t position)
{
    if (session->submissions[position].layers == 0) {
        session->submissions[position].next = session->submission_free;
        session->submission_free = position + 1;
    }
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

static void free_layer(struct sched_layer *layer)
{
    TESS_ASSERT(layer->consumer_count == 0 && layer->ninputs == 0 && !layer->loose && !layer->wanted);
    TESS_ASSERT(layer->watched_at == 0 && layer->pruning_at == 0 && !layer->kept && !layer->keep_listed);
    tessi_table_fini(layer);
    tessi_free(layer->consumers);
    tessi_free(layer->failure_text);
    tessi_free(layer->regions);
    tessi_free(layer->homes);
    tessi_free(layer->on);
    layer->gone = true;
    tessi_life_free_description(layer);
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

static void leave_pruning(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->pruning_at > 0) { /* the last one takes its place */
        TESS_ASSERT(sched->pruning[layer->pruning_at - 1] == layer);
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
    TESS_ASSERT(!layer->handle && !read_by_others(layer));
    struct session *session = layer->session;
    tessi_keep_end(sched, layer);
    tessi_life_unwant(sched, layer);
    abandon_layer(sched, layer);
    tessi_news_unwatch(sched, layer);
    tessi_news_forget(sched, layer);
    tessi_out_drop_layer(sched, layer);
    notify_client(sched, layer);
    TESS_ASSERT(session->submissions[layer->submission].layers > 0);
    session->submissions[layer->submission].layers--;
    tessi_life_end_submission(session, layer->submission);
    uint32_t position = tessi_map_get(&session->layers_by_id, id_key(layer->layer->id));
    (void)tessi_map_remove(&session->layers_by_id, id_key(layer->layer->id));
    session->layers[position] = NULL;
    session->layer_holes++;
    memset(sched->named, 0, sizeof sched->named);
    TESS_ASSERT(sched->layer_bytes >= layer->bytes);
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
    if (layer->first_done >= layer->tasks || tessi_life_read_wholly(layer)) {
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
    TESS_ASSERT(sched->loose_count > 0);
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
