#include "core/sched/task_lists.h"

#include "core/base/alloc.h"

/* Found or begun. */
static struct task_list *list_of(struct task_lists *lists, struct tessi_map_key task)
{
    struct task_list *known = task_lists_find(lists, task);
    if (known != NULL) {
        return known;
    }
    uint32_t number;
    if (lists->unused_count > 0) {
        number = lists->unused[--lists->unused_count];
    } else {
        tessi_grow(&lists->lists, &lists->capacity, lists->count + 1, sizeof *lists->lists);
        number = (uint32_t)lists->count++;
        lists->lists[number] = (struct task_list){0};
    }
    lists->lists[number].task = task;
    tessi_map_put(&lists->by_task, task, number);
    return &lists->lists[number];
}

static void append(struct task_list *list, uint32_t item)
{
    tessi_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items);
    list->items[list->count++] = item;
}

void task_lists_put(struct task_lists *lists, struct tessi_map_key task, uint32_t item)
{
    append(list_of(lists, task), item);
}

void task_lists_put_once(struct task_lists *lists, struct tessi_map_key task, uint32_t item)
{
    struct task_list *list = list_of(lists, task);
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i] == item) {
            return;
        }
    }
    append(list, item);
}

void task_lists_end(struct task_lists *lists, struct task_list *list)
{
    list->count = 0;
    (void)tessi_map_remove(&lists->by_task, list->task);
    tessi_grow(&lists->unused, &lists->unused_capacity, lists->unused_count + 1, sizeof *lists->unused);
    lists->unused[lists->unused_count++] = (uint32_t)(list - lists->lists);
}

void task_lists_remove(struct task_lists *lists, struct task_list *list, uint32_t item)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i] == item) {
            list->items[i] = list->items[--list->count];
            if (list->count == 0) {
                task_lists_end(lists, list);
            }
            return;
        }
    }
}

void task_lists_remove_everywhere(struct task_lists *lists, uint32_t item)
{
    for (size_t i = 0; i < lists->count; i++) {
        task_lists_remove(lists, &lists->lists[i], item);
    }
}

void task_lists_fini(struct task_lists *lists)
{
    for (size_t i = 0; i < lists->count; i++) {
        tessi_free(lists->lists[i].items);
    }
    tessi_free(lists->lists);
    tessi_free(lists->unused);
    tessi_map_fini(&lists->by_task);
}
