/* Task records, in pages that exist only while a task of the page is alive. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state.h"

uint64_t readers_of(const struct sched_layer *layer, uint64_t index)
{
    uint64_t readers = 0;
    for (size_t c = 0; c < layer->consumer_count; c++) {
        const struct consumer *consumer = &layer->consumers[c];
        readers += tessi_block_dependent_count(consumer->layer->layer, consumer->input, index);
    }
    TESS_ASSERT(readers <= UINT32_MAX);
    return readers;
}

static uint64_t page_tasks(const struct sched_layer *layer, uint64_t page)
{
    uint64_t left = layer->tasks - page * PAGE_TASKS;
    return left < PAGE_TASKS ? left : PAGE_TASKS;
}

/* A page that was never touched starts with every task unassigned and all its readers to come. */
void open_page(struct sched_layer *layer, uint64_t number)
{
    enum page was = (enum page)layer->pages[number];
    uint64_t count = page_tasks(layer, number);
    bool pristine = was == PAGE_PRISTINE;
    layer->pages[number] = page_take(layer->rooms);
    struct task_record *records = page_at(layer->rooms, layer->pages[number]);
    for (uint64_t i = 0; i < count; i++) {
        struct task_record *task = &records[i];
        task->epoch = was == PAGE_RELEASED ? layer->epoch_floor : 0;
        task->owner = NO_WORKER;
        task->state = pristine ? TASK_UNASSIGNED : TASK_RELEASED;
        task->flags = pristine ? 0 : TASK_DONE_ONCE;
        task->refs = pristine ? (uint32_t)readers_of(layer, number * PAGE_TASKS + i) : 0;
    }
    records->page_alive = pristine ? (uint8_t)count : 0;
}

enum task_state state_of(const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    if (task != NULL) {
        return (enum task_state)task->state;
    }
    return layer->pages[index / PAGE_TASKS] == PAGE_PRISTINE ? TASK_UNASSIGNED : TASK_RELEASED;
}

void set_released(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, struct task_record *task)
{
    TESS_ASSERT(task->state != TASK_RELEASED && task->refs == 0);
    struct task_record *first = task - index % PAGE_TASKS;
    task->state = TASK_RELEASED;
    task->owner = NO_WORKER;
    task->flags = TASK_DONE_ONCE;
    TESS_ASSERT(first->page_alive > 0);
    first->page_alive--;
    if (first->page_alive == 0) {
        tessi_grow(&sched->empty_pages, &sched->empty_page_capacity, sched->empty_page_count + 1,
                   sizeof *sched->empty_pages);
        sched->empty_pages[sched->empty_page_count++] = (struct page_ref){layer, index / PAGE_TASKS};
    }
}

void set_needed(uint64_t index, struct task_record *task)
{
    TESS_ASSERT(task->state == TASK_RELEASED);
    task->state = TASK_UNASSIGNED;
    (task - index % PAGE_TASKS)->page_alive++;
}

/* Callers hold pointers to records within a step, so pages close at its end only. One in which some tasks had an owner
 * and others never had one stays: where a task waits when it is needed again depends on that. */
void collapse_pages(struct tessi_sched *sched)
{
    for (size_t p = 0; p < sched->empty_page_count; p++) {
        struct sched_layer *layer = sched->empty_pages[p].layer;
        uint32_t *page = &layer->pages[sched->empty_pages[p].page];
        const struct task_record *records = *page >= PAGE_LIVE ? page_at(layer->rooms, *page) : NULL;
        if (records == NULL || records->page_alive > 0) {
            continue;
        }
        uint64_t count = page_tasks(layer, sched->empty_pages[p].page), had = 0;
        uint32_t highest = 0;
        for (uint64_t i = 0; i < count; i++) {
            highest = records[i].epoch > highest ? records[i].epoch : highest;
            had += records[i].epoch > 0;
        }
        if (had > 0 && had < count) {
            continue; /* which of them had an owner would be forgotten */
        }
        layer->epoch_floor = highest > layer->epoch_floor ? highest : layer->epoch_floor;
        page_give(layer->rooms, *page);
        *page = had > 0 ? PAGE_RELEASED : PAGE_UNUSED;
    }
    sched->empty_page_count = 0;
}

struct layer_on_worker *on_worker_made(struct sched_layer *layer, uint32_t worker)
{
    size_t known = layer->on_capacity;
    tessi_grow(&layer->on, &layer->on_capacity, (size_t)worker + 1, sizeof *layer->on);
    if (layer->on_capacity > known) {
        memset(layer->on + known, 0, (layer->on_capacity - known) * sizeof *layer->on);
    }
    return &layer->on[worker];
}
