/* Copies of held blocks on other workers: a hint, until one is asked to adopt its copy. */
#include "core/base/assert.h"
#include "core/sched/state/state.h"

static struct tessi_map_key key_of(const struct sched_layer *layer, uint64_t index)
{
    return tessi_task_key(layer->session->id, layer->layer->id, index);
}

void tessi_copies_add(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    TESS_ASSERT(worker < sched->worker_count && index < layer->tasks);
    tessi_task_lists_put_once(&sched->copies, key_of(layer, index), worker);
}

void tessi_copies_remove(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    struct task_list *copies = task_lists_find(&sched->copies, key_of(layer, index));
    if (copies != NULL) {
        tessi_task_lists_remove(&sched->copies, copies, worker);
    }
}

bool tessi_copies_has(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker)
{
    const struct task_list *copies = task_lists_find(&sched->copies, key_of(layer, index));
    bool found = false;
    for (size_t i = 0; copies != NULL && i < copies->count && !found; i++) {
        found = task_list_items(copies)[i] == worker;
    }
    return found;
}

uint32_t tessi_copies_pick(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    const struct task_list *copies = task_lists_find(&sched->copies, key_of(layer, index));
    uint32_t best = NO_WORKER;
    for (size_t i = 0; copies != NULL && i < copies->count; i++) {
        const struct worker *worker = sched->workers[task_list_items(copies)[i]];
        best = worker->left ? best : worker->index;
        if (best != NO_WORKER && stays(sched->workers[best])) {
            return best;
        }
    }
    return best;
}

void tessi_copies_free(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(index < layer->tasks);
    struct task_list *copies = task_lists_find(&sched->copies, key_of(layer, index));
    if (copies == NULL) {
        return;
    }
    for (size_t i = 0; i < copies->count; i++) {
        struct worker *worker = sched->workers[task_list_items(copies)[i]];
        tessi_spans_push(
            &tessi_out_box(worker)->free,
            (struct tessi_span){.session = layer->session->id, .layer = layer->layer->id, .first = index, .count = 1});
    }
    tessi_task_lists_end(&sched->copies, copies);
}

void tessi_copies_forget_worker(struct tessi_sched *sched, uint32_t worker)
{
    tessi_task_lists_remove_everywhere(&sched->copies, worker);
}
