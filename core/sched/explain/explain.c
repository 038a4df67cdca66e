/* Why a task waits, in words. Nothing here changes the state: not even a page is opened. */
#include <inttypes.h>
#include <string.h>

#include "core/base/text.h"
#include "core/sched/explain/explain.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/order/order.h"
#include "core/sched/state/state.h"
#include "core/sched/workers/workers.h"

#define INPUTS_TOLD 8

/* "w1 (worker 7)" */
static const char *worker_name(const struct tessi_sched *sched, uint32_t index, char *text, size_t size)
{
    const struct worker *worker = sched->workers[index];
    return tessi_text_format(text, size, "%s (worker %" PRIu32 ")", worker->info.name, worker->id);
}

static const struct sched_layer *find_layer(const struct tessi_sched *sched, uint32_t session_id, uint32_t id)
{
    for (size_t s = 0; s < sched->session_count; s++) {
        const struct session *session = sched->sessions[s];
        if (session != NULL && (session_id == 0 || session->id == session_id)) {
            uint32_t at = tessi_map_get(&session->layers_by_id, (struct tessi_map_key){0, id});
            if (at != TESSI_MAP_NONE && session->layers[at] != NULL) {
                return session->layers[at];
            }
        }
    }
    return NULL;
}

/* ——— what it waits for ——— */

struct inputs_walk {
    const struct tessi_sched *sched;
    const struct sched_layer *input;
    struct tessi_lines *lines;
    uint64_t count; /* that are not done */
};

static void tell_input(void *context, uint64_t index)
{
    struct inputs_walk *walk = context;
    const struct sched_layer *layer = walk->input;
    const struct task_record *task = record_peek(layer, index);
    enum task_state state = tessi_table_state(layer, index);
    char worker[128];
    if (state == TASK_HELD || ++walk->count > INPUTS_TOLD) {
        return;
    }
    char operation[TESSI_LAYER_LABEL_MAX];
    (void)tessi_layer_label(layer->layer, operation, sizeof operation);
    if (state != TASK_ASSIGNED) {
        tessi_lines_say(walk->lines, "its input %" PRIu32 ":%" PRIu64 " (%s) has not been given to a worker yet",
                        layer->layer->id, index, operation);
        return;
    }
    tessi_lines_say(walk->lines, "its input %" PRIu32 ":%" PRIu64 " (%s) %s %s", layer->layer->id, index, operation,
                    (task->flags & TASK_ADOPTING) != 0  ? "is being taken over by"
                    : (task->flags & TASK_STARTED) != 0 ? "is being made by"
                                                        : "waits at",
                    worker_name(walk->sched, task->owner, worker, sizeof worker));
}

static void tell_inputs(const struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index,
                        struct tessi_lines *lines)
{
    struct inputs_walk walk = {.sched = sched, .lines = lines};
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        walk.input = layer->inputs[i];
        tessi_task_inputs(layer->layer, i, index, tell_input, &walk);
    }
    if (walk.count > INPUTS_TOLD) {
        tessi_lines_say(lines, "and %" PRIu64 " inputs more are not there", walk.count - INPUTS_TOLD);
    }
}

/* The backlog that holds the task: how many tasks come before it there. False: it is not in this one. */
static bool place_in(const struct backlog *backlog, const struct sched_layer *layer, uint64_t index, uint64_t *before)
{
    uint64_t order = tessi_order_of(layer, index);
    bool found = false;
    *before = 0;
    for (size_t e = 0; e < backlog->count; e++) {
        const struct kept_span *span = &backlog->spans[backlog->entries[e].handle];
        bool inside = span->layer == layer && index - span->first < span->count;
        found = found || inside;
        if (inside) {
            *before += index - span->first;
        } else if ((backlog_key(&backlog->entries[e]) & ~BACKLOG_FRESH) < order) {
            *before += span->count;
        }
    }
    return found;
}

/* Tasks kept there too, of lanes that are tried before this one: what is more urgent, or what the policy prefers. */
static uint64_t ahead_of(const struct session *session, const struct lane *lane, uint32_t w)
{
    uint64_t count = 0;
    for (size_t l = 0; l < session->lane_count && session->lanes[l]->rank < lane->rank; l++) {
        const struct lane *other = session->lanes[l];
        for (size_t e = 0; w < other->capacity && other->kind == lane->kind && e < other->backlogs[w].count; e++) {
            count += other->backlogs[w].spans[other->backlogs[w].entries[e].handle].count;
        }
    }
    return count;
}

/* Of each slot, or of each device. */
static double queue_seconds(const struct worker *worker, const struct lane *lane)
{
    const struct load *load = &worker->load[kind_at(worker, lane)];
    return load->queue_ns / 1e9 / (load->units > 0 ? load->units : 1);
}

static void tell_unassigned(const struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index,
                            struct tessi_lines *lines)
{
    const struct lane *lane = layer->lane;
    uint64_t before;
    char name[128], demand[TESSI_RESOURCES_TEXT_MAX];
    if (sched->alive_count == 0) {
        tessi_lines_say(lines, "no worker is there: start one with `tessera worker ADDRESS`");
        return;
    }
    for (uint32_t w = 0; w < lane->capacity; w++) {
        bool has = w < layer->on_capacity && layer->on[w].backlog > 0;
        if (!has || !place_in(&lane->backlogs[w], layer, index, &before)) {
            continue;
        }
        const struct worker *worker = sched->workers[w];
        uint64_t preferred = ahead_of(layer->session, lane, w);
        tessi_lines_say(lines, "it is kept for %s, with %" PRIu64 " tasks before it",
                        worker_name(sched, w, name, sizeof name), before);
        if (preferred > 0) {
            tessi_lines_say(lines,
                            "%" PRIu64 " tasks that its session's priorities or policy prefer are kept there too and are "
                            "tried first",
                            preferred);
        }
        tessi_lines_say(lines,
                        "that worker has been given %" PRIu64
                        " tasks, about %.3f s for each slot; it gets more below %.3f s",
                        worker->assigned, queue_seconds(worker, lane), (double)sched->config.window_ns / 1e9);
        if (!tessi_supply_fits(worker, &layer->lane->demand)) {
            tessi_lines_say(lines, "it demands %s, which tasks given to that worker hold",
                            tessi_resources_text(&lane->demand, demand, sizeof demand));
        }
        return;
    }
    if (!place_in(&lane->orphans, layer, index, &before)) {
        tessi_lines_say(lines, "nobody needs its block at present");
    } else if (lane->demand.count > 0) {
        tessi_lines_say(
            lines,
            "no worker has the resources that it demands, %s: start one with `tessera worker ADDRESS --resources %s`",
            tessi_resources_text(&lane->demand, demand, sizeof demand), demand);
    } else {
        tessi_lines_say(lines, "it waits for any worker that may run it");
    }
}

static void tell_assigned(const struct tessi_sched *sched, const struct sched_layer *layer,
                          const struct task_record *task, struct tessi_lines *lines)
{
    const struct worker *worker = sched->workers[task->owner];
    char name[128];
    tessi_lines_say(lines, "it was given to %s, which has %" PRIu64 " tasks, about %.3f s for each slot",
                    worker_name(sched, task->owner, name, sizeof name), worker->assigned,
                    queue_seconds(worker, layer->lane));
    if (worker->starving) {
        tessi_lines_say(lines,
                        "that worker is full: its oldest task lacks %" PRIu64 " bytes; %" PRIu64
                        " bytes of what it holds are being taken over by others, as far as they have room",
                        worker->short_bytes, worker->handing_bytes);
    }
    if (worker->starving && worker->spill_error != NULL) {
        tessi_lines_say(lines, "it cannot write spill files: %s", worker->spill_error);
    }
    if ((task->flags & TASK_STEALING) != 0) {
        tessi_lines_say(lines, "an idle worker has asked for it; the answer is on its way");
    }
}

bool tessi_sched_explain(const struct tessi_sched *sched, struct tessi_task name, struct tessi_sched_why *why)
{
    const struct sched_layer *layer = find_layer(sched, name.session, name.layer);
    char worker[128];
    memset(why, 0, sizeof *why);
    struct tessi_lines lines = tessi_lines_over(why->text, sizeof why->text);
    why->state = why->operation = why->name = "";
    if (layer == NULL || name.index >= layer->tasks) {
        return false;
    }
    why->task = (struct tessi_task){layer->session->id, layer->layer->id, name.index};
    why->operation = tessi_op_row(layer->layer->op)->name;
    why->name = layer->layer->name != NULL ? layer->layer->name : "";
    const struct task_record *task = record_peek(layer, name.index);
    switch (tessi_table_state(layer, name.index)) {
    case TASK_UNASSIGNED:
        why->state = "unassigned";
        tell_unassigned(sched, layer, name.index, &lines);
        tell_inputs(sched, layer, name.index, &lines);
        break;
    case TASK_ASSIGNED:
        why->worker = sched->workers[task->owner]->id;
        why->state = (task->flags & TASK_STARTED) != 0 ? "running" : "assigned";
        tell_assigned(sched, layer, task, &lines);
        tell_inputs(sched, layer, name.index, &lines);
        break;
    case TASK_HELD:
        why->state = "done";
        tessi_lines_say(&lines, "it is done; %s holds its block",
                        worker_name(sched, task->owner, worker, sizeof worker));
        break;
    case TASK_RELEASED:
        why->state = tessi_spread_is_needed(layer, name.index) ? "unassigned" : "done";
        tessi_lines_say(&lines, tessi_spread_is_needed(layer, name.index)
                                    ? "its block is needed again: it is about to be placed"
                                    : "it is done, or was not needed, and its block is not kept");
        break;
    case TASK_FAILED:
        why->state = "failed";
        tessi_lines_say(&lines, "it has failed%s%s", layer->failure_text != NULL ? ": " : "",
                        layer->failure_text != NULL ? layer->failure_text : "");
        break;
    case TASK_POISONED:
        why->state = "failed";
        tessi_lines_say(&lines, "a task that it depends on has failed");
        break;
    }
    return true;
}

/* ——— the first that waits ——— */

static bool waits(const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    switch (tessi_table_state(layer, index)) {
    case TASK_UNASSIGNED:
        return layer->wanted || task == NULL || task->refs > 0;
    case TASK_ASSIGNED:
        return (task->flags & TASK_STARTED) == 0;
    case TASK_HELD:
    case TASK_RELEASED:
    case TASK_FAILED:
    case TASK_POISONED:
        return false;
    }
    return false;
}

/* It has begun and is not done: its worker may still wait for inputs of its later steps. */
static bool is_begun(const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    bool begun = tessi_table_state(layer, index) == TASK_ASSIGNED && (task->flags & TASK_STARTED) != 0;
    return begun && (layer->wanted || task->refs > 0);
}

static bool first_of_layer(const struct sched_layer *layer, bool (*fits)(const struct sched_layer *, uint64_t),
                           uint64_t *index)
{
    unsigned kinds = 1u << PAGE_PRISTINE | 1u << PAGE_LIVE;
    for (uint64_t i = tessi_table_next(layer, 0, kinds); i < layer->tasks; i = tessi_table_next(layer, i + 1, kinds)) {
        if (fits(layer, i)) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* The first in the global order; false: there is none. */
static bool first_of_session(const struct session *session, bool (*fits)(const struct sched_layer *, uint64_t),
                             struct tessi_task *task)
{
    uint64_t best = 0, index;
    bool any = false;
    for (size_t l = 0; l < session->layer_count; l++) {
        const struct sched_layer *layer = session->layers[l];
        if (layer == NULL || layer->gone || layer->failure != TESSI_OK || layer->held == layer->tasks ||
            !first_of_layer(layer, fits, &index)) {
            continue;
        }
        uint64_t order = tessi_order_of(layer, index);
        if (!any || order < best) {
            best = order;
            any = true;
            *task = (struct tessi_task){session->id, layer->layer->id, index};
        }
    }
    return any;
}

bool tessi_sched_first_waiting(const struct tessi_sched *sched, size_t *position, struct tessi_task *task, bool *any)
{
    while (*position < sched->session_count && sched->sessions[*position] == NULL) {
        ++*position;
    }
    if (*position == sched->session_count) {
        return false;
    }
    const struct session *session = sched->sessions[(*position)++];
    *any = first_of_session(session, waits, task) || first_of_session(session, is_begun, task);
    return true;
}
