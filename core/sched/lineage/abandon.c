/* What becomes of a layer's tasks when the layer goes: those that are not finished let go of the blocks that they would
 * have read, and what is left of the others is freed.
 *
 * Tasks that were never touched stand in no record, and there may be a great many of them. What they would have read
 * counts them only where it has a record itself. So either they are walked, or the records of their inputs are, of
 * which each drops as many references as it has untouched readers: whichever are fewer. */
#include "core/base/assert.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/workers/workers.h"

#define READERS_WALKED 4096 /* of one block; of more, those are counted that are not untouched */

struct walk {
    struct tessi_sched *sched;
    const struct sched_layer *layer; /* the reader */
    struct sched_layer *input;
    uint64_t untouched; /* readers of the block at hand */
};

/* A page of the input that does not exist has counted nobody, and will not count this reader. */
static void let_go_one(void *context, uint64_t index)
{
    struct walk *walk = context;
    if (record_peek(walk->input, index) != NULL) {
        tessi_refs_drop(walk->sched, walk->input, index);
    }
}

static void let_go_of(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number, uint64_t index)
{
    struct walk walk = {.sched = sched, .layer = layer, .input = layer->inputs[number]};
    tessi_task_inputs(layer->layer, number, index, let_go_one, &walk);
}

static void count_untouched(void *context, uint64_t index)
{
    struct walk *walk = context;
    walk->untouched += page_of(walk->layer, index) == PAGE_PRISTINE;
}

static void drop_refs(struct tessi_sched *sched, struct sched_layer *input, uint64_t index, uint64_t count)
{
    struct task_record *task = record(input, index);
    TESS_ASSERT(task->refs >= count);
    task->refs -= (uint32_t)count;
    if (count > 0 && task->refs == 0 && !input->wanted) {
        tessi_refs_consider_idle(sched, input, index);
    }
}

static void count_one(void *context, uint64_t index)
{
    struct walk *walk = context;
    if (record_peek(walk->input, index) != NULL) {
        record(walk->input, index)->refs++;
    }
}

/* Each block drops all its readers, after those that have been touched have been counted a second time. */
static void let_go_by_all(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number)
{
    struct sched_layer *input = layer->inputs[number];
    struct walk walk = {.sched = sched, .layer = layer, .input = input};
    for (uint64_t t = tessi_table_next(layer, 0, PAGES_TOUCHED); t < layer->tasks;
         t = tessi_table_next(layer, t + 1, PAGES_TOUCHED)) {
        tessi_task_inputs(layer->layer, number, t, count_one, &walk);
    }
    for (uint64_t i = next_live(input, 0); i < input->tasks; i = next_live(input, i + 1)) {
        drop_refs(sched, input, i, tessi_block_dependent_count(layer->layer, number, i));
    }
}

static void let_go_by_block(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number)
{
    struct sched_layer *input = layer->inputs[number];
    for (uint64_t i = next_live(input, 0); i < input->tasks; i = next_live(input, i + 1)) {
        struct walk walk = {.sched = sched, .layer = layer, .input = input};
        tessi_block_dependents(layer->layer, number, i, count_untouched, &walk);
        drop_refs(sched, input, i, walk.untouched);
    }
}

/* The most readers that a block of the input may have that has a record. */
static uint64_t most_readers(const struct sched_layer *layer, uint32_t number)
{
    const struct sched_layer *input = layer->inputs[number];
    uint64_t most = 0;
    for (uint64_t i = next_live(input, 0); i < input->tasks && most <= READERS_WALKED; i = next_live(input, i + 1)) {
        uint64_t readers = tessi_block_dependent_count(layer->layer, number, i);
        most = readers > most ? readers : most;
    }
    return most;
}

static void let_go_of_untouched(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number)
{
    uint64_t untouched = (layer->page_count - layer->touched_pages) * PAGE_TASKS;
    uint64_t live = layer->inputs[number]->live_pages * PAGE_TASKS;
    uint64_t fewer = untouched < live ? untouched : live;
    if (fewer == 0) {
        return;
    }
    sched->lookups -= fewer < sched->lookups ? fewer : sched->lookups;
    if (untouched <= live) {
        for (uint64_t t = tessi_table_next(layer, 0, 1u << PAGE_PRISTINE); t < layer->tasks;
             t = tessi_table_next(layer, t + 1, 1u << PAGE_PRISTINE)) {
            let_go_of(sched, layer, number, t);
        }
    } else if (layer->touched_pages > 0 && most_readers(layer, number) <= READERS_WALKED) {
        let_go_by_block(sched, layer, number);
    } else {
        let_go_by_all(sched, layer, number);
    }
}

void tessi_abandon_reading(struct tessi_sched *sched, struct sched_layer *layer)
{
    for (uint32_t n = 0; n < layer->ninputs; n++) {
        let_go_of_untouched(sched, layer, n);
    }
    for (uint64_t t = next_live(layer, 0); t < layer->tasks; t = next_live(layer, t + 1)) {
        const struct task_record *task = record(layer, t);
        bool unfinished = task->state == TASK_UNASSIGNED ||
                          (task->state == TASK_ASSIGNED && (task->flags & TASK_ADOPTING) == 0);
        for (uint32_t n = 0; n < layer->ninputs && unfinished; n++) {
            let_go_of(sched, layer, n, t);
        }
    }
}

void tessi_abandon_tasks(struct tessi_sched *sched, struct sched_layer *layer)
{
    for (uint64_t t = next_live(layer, 0); t < layer->tasks; t = next_live(layer, t + 1)) {
        struct task_record *task = record(layer, t);
        TESS_ASSERT(task->refs == 0 && !layer->wanted);
        tessi_copies_free(sched, layer, t);
        if (task->state == TASK_HELD || task->state == TASK_ASSIGNED) {
            tessi_refs_consider_idle(sched, layer, t);
        } else if (task->state == TASK_UNASSIGNED) {
            tessi_parked_answer(sched, layer, t, NO_WORKER, 0);
            tessi_table_set_released(sched, layer, t, task);
        } else if (task->state == TASK_RELEASED && sched->rerun.count > 0) { /* it may have been needed again */
            tessi_parked_answer(sched, layer, t, NO_WORKER, 0);
        }
    }
}

void tessi_abandon_uncounted(struct tessi_sched *sched, struct sched_layer *layer)
{
    TESS_ASSERT(layer->session->closing);
    for (uint64_t t = next_live(layer, 0); t < layer->tasks; t = next_live(layer, t + 1)) {
        record(layer, t)->refs = 0;
        tessi_refs_consider_idle(sched, layer, t);
        if (sched->idle.count >= FREED_AT_ONCE) {
            tessi_refs_settle(sched);
            tessi_table_collapse_pages(sched);
        }
    }
    tessi_refs_settle(sched);
    tessi_table_collapse_pages(sched);
}
