/* What goes from layer to layer: released blocks that are needed again need their inputs again, and a failure is that of
 * all who read the block. Either may come to very many tasks, of which a step takes as many as it has time for; the rest
 * waits in two lists and follows in the next steps. Until then
 *
 *   - a block that is needed again stays RELEASED, though it has readers or is wanted, and nobody has been given it,
 *   - tasks whose input has failed wait for it as for one that has no owner yet.
 *
 * A layer that stands in a list is not freed, so that it need not be looked for there when it goes. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/workers/workers.h"

#define LIST_KEPT 4096u /* tasks that an empty list keeps room for */
#define LOOKUPS_EACH 16 /* of a task that runs again or is told of a failure, beside one that is merely looked at */

static void list(struct work_list *to, struct sched_layer *layer, uint64_t index)
{
    tessi_work_push(to, layer, index);
    layer->pending++;
}

static struct task_ref unlist(struct work_list *from)
{
    TESS_ASSERT(from->count > 0);
    return from->items[--from->count];
}

void tessi_spread_need(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    list(&sched->rerun, layer, index);
}

void tessi_spread_failure(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    list(&sched->poison, layer, index);
}

bool tessi_spread_is_needed(const struct sched_layer *layer, uint64_t index)
{
    if (layer->gone || tessi_table_state(layer, index) != TASK_RELEASED) {
        return false;
    }
    const struct task_record *task = record_peek(layer, index);
    return layer->wanted || (task != NULL && task->refs > 0);
}

/* ——— failures ——— */

/* A layer that was cancelled, or that no worker was there for, may still see a task of its own fail;
 * that is what its readers must be told. */
static bool task_failed(const struct sched_layer *layer)
{
    return layer->failure != TESSI_OK && layer->failure != TESSI_CANCELLED && layer->failure != TESSI_NO_WORKERS;
}

/* The text may be the layer's own, of an earlier failure. */
static void set_failure(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, enum tessi_status status,
                        const char *text)
{
    TESS_ASSERT(status != TESSI_OK);
    char *copy = tessi_strdup(text);
    tessi_free(layer->failure_text);
    layer->failure = status;
    layer->failure_index = index;
    layer->failure_text = copy;
    tessi_news_note(sched, layer);
}

void tessi_spread_fail_task(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                            enum tessi_status status, const char *text)
{
    struct task_record *task = record(layer, index);
    TESS_ASSERT(task->state == TASK_UNASSIGNED || task->state == TASK_ASSIGNED);
    TESS_ASSERT((task->flags & TASK_ADOPTING) == 0); /* it runs nothing, and counts as no reader of its inputs */
    if (task->state == TASK_ASSIGNED) {
        tessi_assign_end(sched, layer, task, TASK_FAILED);
    } else {
        tessi_table_move(task, TASK_FAILED);
    }
    sched->tasks_failed++;
    if (!task_failed(layer) || index < layer->failure_index) {
        set_failure(sched, layer, index, status, text);
    }
    tessi_parked_answer(sched, layer, index, NO_WORKER, 0);
    tessi_refs_drop_inputs(sched, layer, index);
    tessi_spread_failure(sched, layer, index);
}

struct spread {
    struct tessi_sched *sched;
    struct sched_layer *from, *layer;
};

static void poison_one(void *context, uint64_t index)
{
    struct spread *spread = context;
    struct sched_layer *layer = spread->layer;
    struct task_record *task = record(layer, index);
    bool waiting = task->state == TASK_UNASSIGNED ||
                   (task->state == TASK_ASSIGNED && (task->flags & TASK_ADOPTING) == 0);
    if (!waiting) {
        return;
    }
    if (task->state == TASK_ASSIGNED) {
        tessi_out_free(spread->sched, task->owner, layer, index);
        tessi_assign_end(spread->sched, layer, task, TASK_POISONED);
    } else {
        tessi_table_move(task, TASK_POISONED);
    }
    if (!task_failed(layer)) {
        set_failure(spread->sched, layer, index, spread->from->failure, spread->from->failure_text);
    }
    tessi_parked_answer(spread->sched, layer, index, NO_WORKER, 0);
    tessi_refs_drop_inputs(spread->sched, layer, index);
    tessi_spread_failure(spread->sched, layer, index);
}

/* Half of what a step may look at is left to what is assigned in it. */
static uint64_t time_left(const struct tessi_sched *sched)
{
    uint64_t spared = sched->config.lookups_per_step / 2;
    return sched->lookups > spared ? sched->lookups - spared : 0;
}

static void spend(struct tessi_sched *sched, uint64_t tasks)
{
    uint64_t lookups = tasks * LOOKUPS_EACH;
    sched->lookups -= lookups < sched->lookups ? lookups : sched->lookups;
}

void tessi_spread_anew(struct tessi_sched *sched, const struct sched_layer *layer)
{
    if (sched->spreading.layer == layer) {
        sched->spreading.consumer = 0;
        sched->spreading.readers = 0;
    }
}

/* To the readers of the failed block at hand, one consumer after the other. */
static void spread_on(struct tessi_sched *sched)
{
    struct spreading *at = &sched->spreading;
    while (!at->layer->gone && at->consumer < at->layer->consumer_count) {
        struct consumer consumer = at->layer->consumers[at->consumer];
        struct spread spread = {sched, at->layer, consumer.layer};
        uint64_t all = tessi_block_dependent_count(consumer.layer->layer, consumer.input, at->index);
        uint64_t most = time_left(sched) / LOOKUPS_EACH + 1;
        uint64_t count = all - at->readers < most ? all - at->readers : most;
        tessi_block_some_dependents(consumer.layer->layer, consumer.input, at->index, at->readers, count, poison_one,
                                    &spread);
        spend(sched, count);
        at->readers += count;
        if (at->readers < all) {
            return;
        }
        at->consumer++;
        at->readers = 0;
    }
    struct sched_layer *layer = at->layer;
    *at = (struct spreading){.layer = NULL};
    tessi_life_end_pending(layer);
}

/* ——— re-runs ——— */

static void make_again(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    if (tessi_spread_is_needed(layer, index)) {
        tessi_refs_run_again(sched, layer, index);
    } else if (!layer->gone && record_peek(layer, index) != NULL && tessi_table_state(layer, index) == TASK_RELEASED) {
        tessi_parked_answer(sched, layer, index, NO_WORKER, 0);
        tessi_table_page_may_close(sched, layer, index);
    }
}

static bool is_left(const struct tessi_sched *sched)
{
    return sched->rerun.count > 0 || sched->spreading.layer != NULL || sched->poison.count > 0;
}

/* What much room was made for is not kept. */
static void trim(struct work_list *list)
{
    if (list->count == 0 && list->capacity > LIST_KEPT) {
        tessi_free(list->items);
        *list = (struct work_list){0};
    }
}

void tessi_spread_finish(struct tessi_sched *sched)
{
    while (is_left(sched) && time_left(sched) > 0) {
        if (sched->rerun.count > 0) {
            struct task_ref ref = unlist(&sched->rerun);
            make_again(sched, ref.layer, ref.index);
            tessi_life_end_pending(ref.layer);
            spend(sched, 1);
        } else if (sched->spreading.layer != NULL) {
            spread_on(sched);
        } else {
            struct task_ref ref = unlist(&sched->poison);
            sched->spreading = (struct spreading){.layer = ref.layer, .index = ref.index};
        }
    }
    sched->more = sched->more || is_left(sched);
    trim(&sched->rerun);
    trim(&sched->poison);
}

void tessi_spread_fini(struct tessi_sched *sched)
{
    while (sched->rerun.count > 0) {
        tessi_life_end_pending(unlist(&sched->rerun).layer);
    }
    while (sched->poison.count > 0) {
        tessi_life_end_pending(unlist(&sched->poison).layer);
    }
    if (sched->spreading.layer != NULL) {
        tessi_life_end_pending(sched->spreading.layer);
    }
    tessi_free(sched->rerun.items);
    tessi_free(sched->poison.items);
}

/* ——— verification ——— */

static bool stands_in(const struct work_list *in, const struct sched_layer *layer, uint64_t index)
{
    for (size_t i = 0; i < in->count; i++) {
        if (in->items[i].layer == layer && in->items[i].index == index) {
            return true;
        }
    }
    return false;
}

bool tessi_spread_verify_listed(const struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index)
{
    bool at_hand = sched->spreading.layer == layer && sched->spreading.index == index;
    return tessi_table_state(layer, index) == TASK_RELEASED ? stands_in(&sched->rerun, layer, index)
                                                            : at_hand || stands_in(&sched->poison, layer, index);
}

void tessi_spread_verify(const struct tessi_sched *sched)
{
    const struct work_list *lists[] = {&sched->rerun, &sched->poison};
    for (int l = 0; l < 2; l++) {
        for (size_t i = 0; i < lists[l]->count; i++) {
            TESS_ASSERT(lists[l]->items[i].layer->pending > 0);
        }
        TESS_ASSERT(lists[l]->count == 0 || sched->more);
    }
    TESS_ASSERT(sched->spreading.layer == NULL || sched->more);
}
