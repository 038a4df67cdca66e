/* What the next events will need, fetched from memory before they come.
 *
 * The state of thousands of workers, and of what they run, does not fit into a processor's caches, and a step that
 * waits for one line after the other does little else. A worker's next report is most likely about what its last one
 * said had begun, and about that task's input, which is likely to be what it ran before. Each expected event advances
 * those before it by a stage: what a stage reads has been fetched by the one before it. */
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

#define LOOK_UP 2u /* events between a stage and the next */
#define FOLLOW 4u
#define LINE 64u
#define LOOKS_AHEAD 4u

static struct expected *expected_before(struct tessi_sched *sched, uint32_t ago)
{
    return &sched->expected[(sched->expected_count - 1 - ago) % EXPECT_AHEAD];
}

void tessi_sched_expect(struct tessi_sched *sched, uint32_t peer)
{
    sched->expected_count++;
    *expected_before(sched, 0) = (struct expected){.peer = peer};
    tessi_map_prefetch(&sched->worker_by_id, (struct tessi_map_key){0, peer});
    struct expected *known = expected_before(sched, LOOK_UP), *fetched = expected_before(sched, FOLLOW);
    known->worker = tessi_find_worker(sched, known->peer);
    for (size_t at = 0; known->worker != NULL && at < offsetof(struct worker, load[1]); at += LINE) {
        __builtin_prefetch((const char *)known->worker + at, 1);
    }
    for (size_t i = 0; fetched->worker != NULL && i < sizeof fetched->worker->soon / sizeof *fetched->worker->soon; i++) {
        __builtin_prefetch(fetched->worker->soon[i], 1);
    }
}

/* The record of the task that comes after this one among those that the worker was given; NULL: not found at once. */
static const struct task_record *next_given(struct worker *worker, const struct sched_layer *layer, uint64_t index)
{
    for (size_t looks = 0; looks < LOOKS_AHEAD && worker->given_next < worker->given_count;
         looks++, worker->given_next++) {
        const struct given *given = &worker->given[worker->given_next];
        if (given->layer != layer->layer->id || given->session != layer->session->id || index < given->first ||
            index - given->first >= given->count) {
            continue;
        }
        if (index + 1 - given->first < given->count) {
            return record_peek(layer, index + 1);
        }
        if (++worker->given_next == worker->given_count) {
            return NULL;
        }
        layer = tessi_find_named(worker->sched, given[1].session, given[1].layer);
        return layer == NULL ? NULL : record_peek(layer, given[1].first);
    }
    worker->given_next = worker->given_next > LOOKS_AHEAD ? worker->given_next - LOOKS_AHEAD : 0;
    return NULL;
}

/* Where they lie now; it does no harm when that has changed until then. */
void tessi_expect_task(struct worker *worker, const struct sched_layer *layer, uint64_t index,
                       const struct task_record *task)
{
    TESS_ASSERT(task->owner == worker->index && index < layer->tasks);
    worker->soon[1] = worker->soon[0]; /* what it has ended is what it reads, as like as not */
    worker->soon[0] = task;
    worker->soon[2] = next_given(worker, layer, index);
    worker->soon[3] = &layer->on[worker->index];
    worker->soon[4] = &worker->given[worker->given_next];
}
