/* Where the records are (pages.c), and what state a task is in (table.c). These are looked up several times for each
 * task, so what is short is here. */
#ifndef TESSI_SCHED_STATE_TABLE_H
#define TESSI_SCHED_STATE_TABLE_H

#include "core/sched/state/scheduler.h"

void tessi_pages_init(struct page_rooms *rooms);
uint32_t tessi_pages_take(struct page_rooms *rooms); /* its records are zeroed */
void tessi_pages_give(struct page_rooms *rooms, uint32_t number);
void tessi_pages_fini(struct page_rooms *rooms);
uint64_t tessi_pages_bytes(const struct page_rooms *rooms);
static inline struct task_record *page_at(const struct page_rooms *rooms, uint32_t number)
{
    number -= PAGE_LIVE;
    return &rooms->rooms[number / ROOM_PAGES][number % ROOM_PAGES * PAGE_TASKS];
}

void tessi_table_init(struct sched_layer *layer); /* all pristine; its tasks and rooms are known */
void tessi_table_fini(struct sched_layer *layer); /* with all that is left of its pages */
void tessi_table_forget_untouched(struct sched_layer *layer); /* what is pristine is UNUSED */
uint64_t tessi_table_bytes(uint64_t tasks); /* before any of them is touched */
void tessi_table_open_page(struct sched_layer *layer, uint64_t number);

static inline uint32_t page_of(const struct sched_layer *layer, uint64_t index)
{
    return layer->stretches[index / STRETCH_TASKS]->pages[index / PAGE_TASKS % STRETCH_PAGES];
}

/* The first task from this one on whose page is of one of these kinds (a bit for each; PAGE_LIVE: it exists);
 * layer->tasks: there is none. Walks by these pass over what is all alike at once. */
uint64_t tessi_table_next(const struct sched_layer *layer, uint64_t index, unsigned kinds);
#define PAGES_TOUCHED (1u << PAGE_RELEASED | 1u << PAGE_UNUSED | 1u << PAGE_LIVE)
static inline uint64_t next_live(const struct sched_layer *layer, uint64_t index)
{
    return layer->live_pages == 0 ? layer->tasks : tessi_table_next(layer, index, 1u << PAGE_LIVE);
}

static inline struct task_record *record(struct sched_layer *layer, uint64_t index) /* made when it is not there */
{
    TESS_ASSERT(index < layer->tasks);
    uint32_t page = page_of(layer, index);
    if (page < PAGE_LIVE) {
        tessi_table_open_page(layer, index / PAGE_TASKS);
        page = page_of(layer, index);
    }
    return page_at(layer->rooms, page) + index % PAGE_TASKS;
}

static inline void touch(struct sched_layer *layer, uint64_t index) /* it has a record from now on */
{
    (void)record(layer, index);
}

static inline struct task_record *record_peek(const struct sched_layer *layer, uint64_t index) /* NULL: not LIVE */
{
    TESS_ASSERT(index < layer->tasks);
    uint32_t page = page_of(layer, index);
    return page >= PAGE_LIVE ? page_at(layer->rooms, page) + index % PAGE_TASKS : NULL;
}

/* Tasks that read the block, done or not. */
uint64_t tessi_table_readers(const struct sched_layer *layer, uint64_t index);
enum task_state tessi_table_state(const struct sched_layer *layer, uint64_t index);
/* The one place where a record's state changes once it is there; asserts that it may, by a table [from][to]. */
void tessi_table_move(struct task_record *task, enum task_state to);
void tessi_table_set_released(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                              struct task_record *task);
void tessi_table_set_needed(uint64_t index, struct task_record *task); /* RELEASED → UNASSIGNED, and its page stays */
/* None of the page's tasks may be alive any more. */
void tessi_table_page_may_close(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_table_collapse_pages(struct tessi_sched *sched);
void tessi_table_end_pages(struct tessi_sched *sched); /* the same at the end of a step, when no page opens any more */

struct layer_on_worker *tessi_table_on_worker(struct sched_layer *layer, uint32_t worker);
static inline struct layer_on_worker *on_worker(struct sched_layer *layer, uint32_t worker)
{
    return worker < layer->on_capacity ? &layer->on[worker] : tessi_table_on_worker(layer, worker);
}

#endif
