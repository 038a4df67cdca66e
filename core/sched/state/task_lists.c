#include "core/sched/state/task_lists.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

#define TASK_LIST_FIRST 6u /* numbers, outside the list: what the smallest piece of memory has room for */

static size_t home(const struct task_lists *lists, struct tessi_map_key task)
{
    return (size_t)tessi_map_hash(task) & (lists->slot_count - 1);
}

/* The task's slot, or the free one where it would be. */
static size_t slot_of(const struct task_lists *lists, struct tessi_map_key task)
{
    size_t i = home(lists, task);
    while (lists->slots[i] != 0 && !tessi_map_keys_equal(lists->lists[lists->slots[i] - 1].task, task)) {
        i = (i + 1) & (lists->slot_count - 1);
    }
    return i;
}

struct task_list *tessi_task_lists_look_up(const struct task_lists *lists, struct tessi_map_key task)
{
    uint32_t number = lists->slots[slot_of(lists, task)];
    return number == 0 ? NULL : &lists->lists[number - 1];
}

static void widen(struct task_lists *lists)
{
    uint32_t *old = lists->slots;
    size_t count = lists->slot_count;
    lists->slot_count = count > 0 ? 2 * count : 16;
    lists->slots = tessi_zalloc(lists->slot_count * sizeof *lists->slots);
    for (size_t i = 0; i < count; i++) {
        if (old[i] != 0) {
            lists->slots[slot_of(lists, lists->lists[old[i] - 1].task)] = old[i];
        }
    }
    tessi_free(old);
}

/* By an eighth, not by half: it is a large part of what the scheduler has. */
static uint32_t new_list(struct task_lists *lists)
{
    if (lists->unused > 0) {
        uint32_t number = (uint32_t)(lists->unused - 1);
        lists->unused = lists->lists[number].task.low;
        return number;
    }
    if (lists->count == lists->capacity) {
        TESS_ASSERT(lists->count < UINT32_MAX / 2);
        lists->capacity += lists->capacity / 8 + 8;
        lists->lists = tessi_realloc(lists->lists, lists->capacity * sizeof *lists->lists);
    }
    lists->lists[lists->count] = (struct task_list){0};
    return (uint32_t)lists->count++;
}

/* Found or begun. */
static struct task_list *list_of(struct task_lists *lists, struct tessi_map_key task)
{
    struct task_list *known = task_lists_find(lists, task);
    if (known != NULL) {
        return known;
    }
    if ((lists->used + 1) * 4 > lists->slot_count * 3) {
        widen(lists);
    }
    uint32_t number = new_list(lists);
    lists->lists[number].task = task;
    lists->slots[slot_of(lists, task)] = number + 1;
    lists->used++;
    return &lists->lists[number];
}

static uint32_t *items_of(struct task_list *list)
{
    return list->capacity > 0 ? list->items.more : list->items.own;
}

static void widen_list(struct task_list *list)
{
    uint32_t capacity = list->capacity > 0 ? list->capacity + list->capacity / 2 : TASK_LIST_FIRST;
    TESS_ASSERT(capacity > list->count);
    if (list->capacity > 0) {
        list->items.more = tessi_realloc(list->items.more, capacity * sizeof *list->items.more);
    } else {
        uint32_t *more = tessi_alloc(capacity * sizeof *more);
        memcpy(more, list->items.own, sizeof list->items.own);
        list->items.more = more;
    }
    list->capacity = capacity;
}

static void append(struct task_list *list, uint32_t item)
{
    if (list->count == (list->capacity > 0 ? list->capacity : TASK_LIST_OWN)) {
        widen_list(list);
    }
    items_of(list)[list->count++] = item;
}

void tessi_task_lists_put(struct task_lists *lists, struct tessi_map_key task, uint32_t item)
{
    append(list_of(lists, task), item);
}

bool tessi_task_lists_put_once(struct task_lists *lists, struct tessi_map_key task, uint32_t item)
{
    struct task_list *list = list_of(lists, task);
    const uint32_t *items = task_list_items(list);
    for (size_t i = 0; i < list->count; i++) {
        if (items[i] == item) {
            return false;
        }
    }
    append(list, item);
    return true;
}

/* Those that were put after it, on the way from their home, move up. */
static void free_slot(struct task_lists *lists, size_t hole)
{
    size_t mask = lists->slot_count - 1;
    for (size_t i = (hole + 1) & mask; lists->slots[i] != 0; i = (i + 1) & mask) {
        size_t wanted = home(lists, lists->lists[lists->slots[i] - 1].task);
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            lists->slots[hole] = lists->slots[i];
            hole = i;
        }
    }
    lists->slots[hole] = 0;
}

void tessi_task_lists_end(struct task_lists *lists, struct task_list *list)
{
    free_slot(lists, slot_of(lists, list->task));
    list->count = 0;
    list->task = (struct tessi_map_key){.low = lists->unused};
    lists->unused = (uint64_t)(list - lists->lists) + 1;
    lists->used--;
}

void tessi_task_lists_remove(struct task_lists *lists, struct task_list *list, uint32_t item)
{
    uint32_t *items = items_of(list);
    for (size_t i = 0; i < list->count; i++) {
        if (items[i] == item) {
            items[i] = items[--list->count];
            if (list->count == 0) {
                tessi_task_lists_end(lists, list);
            }
            return;
        }
    }
}

struct task_list *tessi_task_lists_next(struct task_lists *lists, size_t *position)
{
    while (*position < lists->count) {
        struct task_list *list = &lists->lists[(*position)++];
        if (list->count > 0) {
            return list;
        }
    }
    return NULL;
}

void tessi_task_lists_remove_everywhere(struct task_lists *lists, uint32_t item)
{
    for (size_t i = 0; i < lists->count && lists->used > 0; i++) {
        tessi_task_lists_remove(lists, &lists->lists[i], item);
    }
}

uint64_t tessi_task_lists_bytes(const struct task_lists *lists)
{
    return lists->slot_count * sizeof *lists->slots + lists->capacity * sizeof *lists->lists;
}

void tessi_task_lists_fini(struct task_lists *lists)
{
    for (size_t i = 0; i < lists->count; i++) {
        if (lists->lists[i].capacity > 0) {
            tessi_free(lists->lists[i].items.more);
        }
    }
    tessi_free(lists->lists);
    tessi_free(lists->slots);
}
