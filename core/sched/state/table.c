/* Task records, in pages that exist only while a task of the page is alive. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state/state.h"

uint64_t tessi_table_readers(const struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(index < layer->tasks);
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

static uint64_t stretch_pages(const struct sched_layer *layer, uint64_t number)
{
    uint64_t left = layer->page_count - number * STRETCH_PAGES;
    return left < STRETCH_PAGES ? left : STRETCH_PAGES;
}

static size_t stretch_size(uint64_t pages)
{
    return sizeof(struct stretch) + pages * sizeof(uint32_t);
}

static uint64_t stretch_count(uint64_t tasks)
{
    return (tasks + STRETCH_TASKS - 1) / STRETCH_TASKS;
}

static enum page blank_kind(const struct sched_layer *layer, uint64_t number) /* PAGE_LIVE: it is its own */
{
    uint32_t kind = PAGE_PRISTINE;
    while (kind < PAGE_LIVE && layer->stretches[number] != layer->rooms->blank[kind]) {
        kind++;
    }
    return (enum page)kind;
}

void tessi_table_init(struct sched_layer *layer)
{
    TESS_ASSERT(layer->stretches == NULL && layer->rooms != NULL);
    uint64_t count = stretch_count(layer->tasks);
    layer->page_count = (layer->tasks + PAGE_TASKS - 1) / PAGE_TASKS;
    layer->stretches = count > 1 ? tessi_alloc(count * sizeof *layer->stretches) : &layer->only;
    for (uint64_t s = 0; s < count; s++) {
        layer->stretches[s] = layer->rooms->blank[PAGE_PRISTINE];
    }
}

uint64_t tessi_table_bytes(uint64_t tasks)
{
    return stretch_count(tasks) * sizeof(struct stretch *);
}

static void give_stretch(struct sched_layer *layer, uint64_t number)
{
    layer->rooms->stretch_bytes -= stretch_size(stretch_pages(layer, number));
    tessi_free(layer->stretches[number]);
}

void tessi_table_fini(struct sched_layer *layer)
{
    uint64_t count = stretch_count(layer->tasks);
    for (uint64_t s = 0; s < count; s++) {
        if (blank_kind(layer, s) < PAGE_LIVE) {
            continue;
        }
        struct stretch *stretch = layer->stretches[s];
        for (uint64_t p = 0; p < stretch_pages(layer, s) && stretch->live > 0; p++) {
            if (stretch->pages[p] >= PAGE_LIVE) {
                tessi_pages_give(layer->rooms, stretch->pages[p]);
                stretch->live--;
            }
        }
        give_stretch(layer, s);
    }
    if (count > 1) {
        tessi_free(layer->stretches);
    }
}

/* Its own, to be written to. */
static struct stretch *own_stretch(struct sched_layer *layer, uint64_t number)
{
    enum page kind = blank_kind(layer, number);
    if (kind < PAGE_LIVE) {
        uint64_t pages = stretch_pages(layer, number);
        struct stretch *stretch = tessi_alloc(stretch_size(pages));
        *stretch = (struct stretch){.live = 0};
        stretch->alike[kind] = (uint32_t)pages;
        memcpy(stretch->pages, layer->rooms->blank[kind]->pages, pages * sizeof *stretch->pages);
        layer->rooms->stretch_bytes += stretch_size(pages);
        layer->stretches[number] = stretch;
    }
    return layer->stretches[number];
}

/* Some page of the stretch is of one of these kinds: a bit for each, PAGE_LIVE for those that exist. */
static bool has_any(const struct sched_layer *layer, uint64_t number, unsigned kinds)
{
    const struct stretch *stretch = layer->stretches[number];
    enum page blank = blank_kind(layer, number);
    if (blank < PAGE_LIVE) {
        return (kinds & 1u << blank) != 0;
    }
    bool any = (kinds & 1u << PAGE_LIVE) != 0 && stretch->live > 0;
    for (uint32_t kind = 0; kind < PAGE_LIVE && !any; kind++) {
        any = (kinds & 1u << kind) != 0 && stretch->alike[kind] > 0;
    }
    return any;
}

void tessi_table_forget_untouched(struct sched_layer *layer)
{
    for (uint64_t s = 0; s < stretch_count(layer->tasks); s++) {
        struct stretch *stretch = layer->stretches[s];
        enum page blank = blank_kind(layer, s);
        if (blank == PAGE_PRISTINE) {
            layer->stretches[s] = layer->rooms->blank[PAGE_UNUSED];
        } else if (blank == PAGE_LIVE && stretch->alike[PAGE_PRISTINE] > 0) {
            for (uint64_t p = 0; p < stretch_pages(layer, s); p++) {
                stretch->pages[p] = stretch->pages[p] == PAGE_PRISTINE ? PAGE_UNUSED : stretch->pages[p];
            }
            stretch->alike[PAGE_UNUSED] += stretch->alike[PAGE_PRISTINE];
            stretch->alike[PAGE_PRISTINE] = 0;
        }
    }
    layer->touched_pages = layer->page_count;
}

static bool is_any(uint32_t page, unsigned kinds)
{
    return (kinds & 1u << (page < PAGE_LIVE ? page : PAGE_LIVE)) != 0;
}

uint64_t tessi_table_next(const struct sched_layer *layer, uint64_t index, unsigned kinds)
{
    if (index >= layer->tasks || is_any(page_of(layer, index), kinds)) {
        return index < layer->tasks ? index : layer->tasks;
    }
    for (uint64_t page = index / PAGE_TASKS + 1; page < layer->page_count;) {
        uint64_t number = page / STRETCH_PAGES, end = (number + 1) * STRETCH_PAGES;
        end = has_any(layer, number, kinds) ? end < layer->page_count ? end : layer->page_count : page;
        for (; page < end; page++) {
            if (is_any(layer->stretches[number]->pages[page % STRETCH_PAGES], kinds)) {
                return page * PAGE_TASKS;
            }
        }
        page = (number + 1) * STRETCH_PAGES;
    }
    return layer->tasks;
}

/* A page that was never touched starts with every task unassigned and all its readers to come. */
void tessi_table_open_page(struct sched_layer *layer, uint64_t number)
{
    struct stretch *stretch = own_stretch(layer, number / STRETCH_PAGES);
    uint32_t *page = &stretch->pages[number % STRETCH_PAGES];
    enum page was = (enum page)*page;
    uint64_t count = page_tasks(layer, number);
    bool pristine = was == PAGE_PRISTINE;
    stretch->alike[was]--;
    stretch->live++;
    layer->live_pages++;
    layer->touched_pages += pristine;
    *page = tessi_pages_take(layer->rooms);
    struct task_record *records = page_at(layer->rooms, *page);
    for (uint64_t i = 0; i < count; i++) {
        struct task_record *task = &records[i];
        task->epoch = was == PAGE_RELEASED ? layer->epoch_floor : 0;
        task->owner = NO_WORKER;
        task->state = pristine ? TASK_UNASSIGNED : TASK_RELEASED;
        task->flags = pristine ? 0 : TASK_DONE_ONCE;
        task->refs = pristine ? (uint32_t)tessi_table_readers(layer, number * PAGE_TASKS + i) : 0;
    }
    records->page_alive = pristine ? (uint8_t)count : 0;
}

/* What can be made of a block follows from what has become of it: sched.h has the picture. FAILED and POISONED end it. */
static const bool may_become[TASK_STATES][TASK_STATES] = {
    [TASK_UNASSIGNED] = {[TASK_ASSIGNED] = true, [TASK_RELEASED] = true, [TASK_FAILED] = true, [TASK_POISONED] = true},
    [TASK_ASSIGNED] = {[TASK_UNASSIGNED] = true, [TASK_HELD] = true, [TASK_FAILED] = true, [TASK_POISONED] = true},
    [TASK_HELD] = {[TASK_UNASSIGNED] = true, [TASK_ASSIGNED] = true, [TASK_RELEASED] = true}, /* lost, or let go */
    [TASK_RELEASED] = {[TASK_UNASSIGNED] = true},
};

void tessi_table_move(struct task_record *task, enum task_state to)
{
    TESS_ASSERT(task->state < TASK_STATES && to < TASK_STATES && may_become[task->state][to]);
    task->state = (uint8_t)to;
}

enum task_state tessi_table_state(const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    if (task != NULL) {
        return (enum task_state)task->state;
    }
    return page_of(layer, index) == PAGE_PRISTINE ? TASK_UNASSIGNED : TASK_RELEASED;
}

void tessi_table_page_may_close(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(index < layer->tasks);
    tessi_grow(&sched->empty_pages, &sched->empty_page_capacity, sched->empty_page_count + 1, sizeof *sched->empty_pages);
    sched->empty_pages[sched->empty_page_count++] = (struct page_ref){layer, index / PAGE_TASKS};
}

void tessi_table_set_released(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                              struct task_record *task)
{
    TESS_ASSERT(task->state != TASK_RELEASED && task->refs == 0);
    struct task_record *first = task - index % PAGE_TASKS;
    tessi_table_move(task, TASK_RELEASED);
    task->owner = NO_WORKER;
    task->flags = TASK_DONE_ONCE;
    TESS_ASSERT(first->page_alive > 0);
    first->page_alive--;
    if (first->page_alive == 0) {
        tessi_table_page_may_close(sched, layer, index);
    }
}

void tessi_table_set_needed(uint64_t index, struct task_record *task)
{
    TESS_ASSERT(task->state == TASK_RELEASED);
    tessi_table_move(task, TASK_UNASSIGNED);
    (task - index % PAGE_TASKS)->page_alive++;
}

/* The page has been given back. A stretch whose pages are all alike is not kept. */
static void close_page(struct sched_layer *layer, uint64_t number, enum page kind)
{
    uint64_t s = number / STRETCH_PAGES;
    struct stretch *stretch = layer->stretches[s];
    stretch->pages[number % STRETCH_PAGES] = kind;
    stretch->live--;
    layer->live_pages--;
    if (++stretch->alike[kind] == stretch_pages(layer, s)) {
        give_stretch(layer, s);
        layer->stretches[s] = layer->rooms->blank[kind];
    }
}

/* One in which some tasks had an owner and others never had one stays: where a task waits when it is needed again depends
 * on that. So does one with a task that is needed again already. */
static void collapse_page(struct sched_layer *layer, uint64_t number)
{
    const struct task_record *records = record_peek(layer, number * PAGE_TASKS);
    if (records == NULL || records->page_alive > 0) {
        return;
    }
    uint64_t count = page_tasks(layer, number), had = 0;
    uint32_t highest = 0, refs = 0;
    for (uint64_t i = 0; i < count; i++) {
        highest = records[i].epoch > highest ? records[i].epoch : highest;
        had += records[i].epoch > 0;
        refs |= records[i].refs;
    }
    if (refs > 0 || (had > 0 && had < count)) {
        return; /* which of them are needed again, or had an owner, would be forgotten */
    }
    layer->epoch_floor = highest > layer->epoch_floor ? highest : layer->epoch_floor;
    tessi_pages_give(layer->rooms, page_of(layer, number * PAGE_TASKS));
    close_page(layer, number, had > 0 ? PAGE_RELEASED : PAGE_UNUSED);
}

/* Callers hold pointers to records within a step, so pages close at its end only. */
void tessi_table_collapse_pages(struct tessi_sched *sched)
{
    for (size_t p = 0; p < sched->empty_page_count; p++) {
        collapse_page(sched->empty_pages[p].layer, sched->empty_pages[p].page);
    }
    sched->empty_page_count = 0;
}

/* A layer all of whose tasks are done and forgotten is one that workers need not know: of a long expression they would
 * keep all of it else. */
void tessi_table_end_pages(struct tessi_sched *sched)
{
    for (size_t p = 0; p < sched->empty_page_count; p++) {
        struct sched_layer *layer = sched->empty_pages[p].layer;
        collapse_page(layer, sched->empty_pages[p].page);
        if (layer->live_pages == 0 && layer->touched_pages == layer->page_count) {
            tessi_out_drop_layer(sched, layer);
        }
    }
    sched->empty_page_count = 0;
}

struct layer_on_worker *tessi_table_on_worker(struct sched_layer *layer, uint32_t worker)
{
    TESS_ASSERT(worker != NO_WORKER);
    size_t known = layer->on_capacity;
    tessi_grow(&layer->on, &layer->on_capacity, (size_t)worker + 1, sizeof *layer->on);
    if (layer->on_capacity > known) {
        memset(layer->on + known, 0, (layer->on_capacity - known) * sizeof *layer->on);
    }
    return &layer->on[worker];
}
