/* Invariants of the whole state: slow, for the simulator and tests. */
#include "core/base/assert.h"
#include "core/sched/explain/explain.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/recovery/recovery.h"
#include "core/sched/state/state.h"
#include "core/sched/workers/workers.h"

static bool unfinished(const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    if (task != NULL && task->state == TASK_ASSIGNED) {
        return (task->flags & TASK_ADOPTING) == 0;
    }
    return tessi_table_state(layer, index) == TASK_UNASSIGNED;
}

struct count_walk {
    const struct sched_layer *layer;
    uint64_t unfinished;
};

static void count_reader(void *context, uint64_t index)
{
    struct count_walk *walk = context;
    walk->unfinished += unfinished(walk->layer, index);
}

/* A block's references are exactly its unfinished readers. */
static void verify_refs(const struct sched_layer *layer, uint64_t index, const struct task_record *task)
{
    uint64_t readers = 0;
    for (size_t c = 0; c < layer->consumer_count; c++) {
        struct count_walk walk = {layer->consumers[c].layer, 0};
        tessi_block_dependents(walk.layer->layer, layer->consumers[c].input, index, count_reader, &walk);
        readers += walk.unfinished;
    }
    TESS_ASSERT(task->refs == readers);
}

static void verify_record(const struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index,
                          const struct task_record *task)
{
    bool owned = task->state == TASK_ASSIGNED || task->state == TASK_HELD;
    TESS_ASSERT(owned == (task->owner != NO_WORKER));
    TESS_ASSERT(!owned || sched->workers[task->owner]->alive);
    TESS_ASSERT(task->state != TASK_RELEASED || (task->refs == 0 && !layer->wanted) ||
                tessi_spread_verify_listed(sched, layer, index));
    TESS_ASSERT((task->state != TASK_FAILED && task->state != TASK_POISONED) || task->refs == 0 ||
                tessi_spread_verify_listed(sched, layer, index));
    TESS_ASSERT(!owned || task->refs > 0 || layer->wanted);
    TESS_ASSERT((task->flags & TASK_ADOPTING) == 0 || task->state == TASK_ASSIGNED);
    verify_refs(layer, index, task);
}

/* What the tasks assigned to each worker demand. */
static void verify_resources(const struct tessi_sched *sched)
{
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        uint64_t used[TESSI_RESOURCES_MAX] = {0}, demanding = 0;
        for (size_t s = 0; s < sched->session_count && worker->resources.count > 0; s++) {
            const struct session *session = sched->sessions[s];
            for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
                const struct sched_layer *layer = session->layers[l];
                for (uint64_t i = 0; layer != NULL && i < layer->tasks && layer->lane->demand.count > 0; i++) {
                    const struct task_record *task = record_peek(layer, i);
                    if (task == NULL || task->state != TASK_ASSIGNED || task->owner != w ||
                        (task->flags & TASK_ADOPTING) != 0) {
                        continue;
                    }
                    demanding++;
                    for (uint32_t r = 0; r < worker->resources.count; r++) {
                        used[r] += tessi_resources_amount(&layer->lane->demand, worker->resources.item[r].name);
                    }
                }
            }
        }
        TESS_ASSERT(worker->demanding == demanding);
        for (uint32_t r = 0; r < worker->resources.count; r++) {
            TESS_ASSERT(used[r] == worker->resources_used[r]);
        }
    }
}

struct counts { /* tasks of a worker, as the records say */
    uint64_t assigned, started, asked;
};

static void verify_layer(const struct tessi_sched *sched, const struct sched_layer *layer, struct counts (*counts)[2])
{
    uint64_t held = 0;
    for (uint64_t i = next_live(layer, 0); i < layer->tasks; i = next_live(layer, i + 1)) {
        const struct task_record *task = record_peek(layer, i);
        verify_record(sched, layer, i, task);
        held += task->state == TASK_HELD;
        if (task->state == TASK_ASSIGNED) {
            const struct tessi_resources *demand = &layer->lane->demand;
            TESS_ASSERT((task->flags & TASK_ADOPTING) != 0 || demand->count == 0 ||
                        tessi_resources_cover(&sched->workers[task->owner]->resources, demand));
            struct counts *count = &counts[task->owner][kind_at(sched->workers[task->owner], layer->lane)];
            count->assigned++;
            count->started += (task->flags & TASK_STARTED) != 0;
            count->asked += (task->flags & TASK_STEALING) != 0;
        }
    }
    TESS_ASSERT(held == layer->held);
}

/* Somebody names it or reads it, and it and its inputs know of each other. */
static void verify_reach(const struct sched_layer *layer)
{
    if (layer->loose) {
        return; /* goes in a later step */
    }
    bool read = false;
    for (size_t c = 0; c < layer->consumer_count; c++) {
        const struct consumer *consumer = &layer->consumers[c];
        TESS_ASSERT(consumer->layer->inputs[consumer->input] == layer);
        TESS_ASSERT(consumer->layer->input_at[consumer->input] == c);
        read = read || consumer->layer != layer;
    }
    TESS_ASSERT((layer->handle || read) && (layer->handle || !layer->wanted || layer->kept));
    TESS_ASSERT(!layer->given_up || (layer->handle && !layer->wanted && !read && layer->ninputs == 0));
}

/* An unassigned task that is needed waits in some backlog: nothing is forgotten. */
static bool waits(const struct backlog *backlog, const struct sched_layer *layer, uint64_t index)
{
    for (size_t i = 0; i < backlog->count; i++) {
        const struct kept_span *span = &backlog->spans[backlog->entries[i].handle];
        if (span->layer == layer && index - span->first < span->count) {
            return true;
        }
    }
    return false;
}

static void verify_waiting(const struct sched_layer *layer)
{
    for (uint64_t i = 0; i < layer->tasks; i++) {
        const struct task_record *task = record_peek(layer, i);
        bool needed = task != NULL ? task->refs > 0 || layer->wanted : layer->wanted;
        if (tessi_table_state(layer, i) != TASK_UNASSIGNED || !needed) {
            continue;
        }
        const struct lane *lane = layer->lane;
        bool found = waits(&lane->orphans, layer, i);
        for (size_t w = 0; w < lane->capacity && !found; w++) {
            found = waits(&lane->backlogs[w], layer, i);
        }
        TESS_ASSERT(found);
    }
}

/* Each is of a block that a leaving worker holds, to one that stays, and all are counted on both sides. */
static void verify_hand_overs(const struct tessi_sched *sched)
{
    uint64_t handing = 0, promised_bytes = 0, handed = 0, handed_bytes = 0;
    for (size_t w = 0; w < sched->worker_count; w++) {
        handing += sched->workers[w]->handing;
        promised_bytes += sched->workers[w]->promised_bytes;
    }
    for (size_t h = 0; h < sched->hand_over_count; h++) {
        const struct hand_over *one = &sched->hand_overs[h];
        if (one->layer == NULL) {
            continue;
        }
        const struct task_record *task = record_peek(one->layer, one->index);
        TESS_ASSERT(task != NULL && task->state == TASK_HELD && task->epoch < one->epoch);
        TESS_ASSERT((one->order != UINT64_MAX || sched->workers[task->owner]->leaving) && stays(sched->workers[one->to]));
        TESS_ASSERT(task->owner != one->to);
        handed++;
        handed_bytes += one->bytes;
    }
    TESS_ASSERT(handed == handing && handed == sched->hand_over_of.count && handed_bytes == promised_bytes);
}

/* A session that submits for ever keeps what it remembers of submissions that have layers left, and no more. */
static void verify_submissions(const struct session *session)
{
    uint64_t layers = 0, used = 0, free = 0;
    for (size_t i = 0; i < session->submission_count; i++) {
        layers += session->submissions[i].layers;
        used += session->submissions[i].layers > 0;
    }
    for (uint32_t next = session->submission_free; next > 0; next = session->submissions[next - 1].next) {
        TESS_ASSERT(session->submissions[next - 1].layers == 0);
        free++;
    }
    TESS_ASSERT(layers == session->layer_count - session->layer_holes && used + free == session->submission_count);
}

void tessi_sched_verify(const struct tessi_sched *sched)
{
    struct counts counts[1024][2] = {0};
    TESS_ASSERT(sched->worker_count <= sizeof counts / sizeof *counts);
    TESS_ASSERT(sched->idle.count == 0);
    tessi_spread_verify(sched);
    for (size_t s = 0; s < sched->session_count; s++) {
        const struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            if (session->layers[l] != NULL) {
                verify_reach(session->layers[l]);
                verify_layer(sched, session->layers[l], counts);
                verify_waiting(session->layers[l]);
                tessi_keep_verify_layer(sched, session->layers[l]);
            }
        }
        if (session != NULL) {
            verify_submissions(session);
        }
    }
    if (sched->demands) {
        verify_resources(sched);
    }
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        TESS_ASSERT(worker->assigned == worker->load[0].assigned + worker->load[1].assigned);
        TESS_ASSERT(worker->backlog == worker->load[0].backlog + worker->load[1].backlog);
        TESS_ASSERT(worker->load[1].units > 0 || worker->load[1].assigned + worker->load[1].backlog == 0);
        for (uint32_t k = 0; k < 2; k++) {
            const struct load *load = &worker->load[k];
            TESS_ASSERT(load->assigned == counts[w][k].assigned && load->started == counts[w][k].started);
            TESS_ASSERT(load->asked == counts[w][k].asked);
        }
        TESS_ASSERT(worker->given_count <= worker->given_limit);
        TESS_ASSERT(worker->alive || (worker->assigned == 0 && worker->backlog == 0));
        TESS_ASSERT(worker->stealing == 0 || worker->stealing_from != NO_WORKER);
        TESS_ASSERT(!worker->leaving || worker->backlog == 0);
        TESS_ASSERT(worker->alive || worker->handing == 0);
    }
    verify_hand_overs(sched);
    tessi_keep_verify(sched);
    tessi_parked_verify(sched);
    tessi_load_verify(sched);
}
