/* Lists of numbers by task: who holds a copy of its block, who waits for it, who asks where it goes.
 *
 * A task has a list while there is something in it. What a list was kept in serves later ones. */
#ifndef TESSI_SCHED_TASK_LISTS_H
#define TESSI_SCHED_TASK_LISTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/map.h"

struct task_list {
    struct tessi_map_key task;
    uint32_t *items; /* owned */
    size_t count, capacity;
};

struct task_lists { /* zeroed, it is empty */
    struct tessi_map by_task;
    struct task_list *lists; /* owned */
    size_t count, capacity;
    uint32_t *unused; /* owned */
    size_t unused_count, unused_capacity;
};

/* NULL when there is nothing in it. Good until something is put into any of the lists. */
static inline struct task_list *task_lists_find(const struct task_lists *lists, struct tessi_map_key task)
{
    uint32_t number = lists->by_task.count == 0 ? TESSI_MAP_NONE : tessi_map_get(&lists->by_task, task);
    return number == TESSI_MAP_NONE ? NULL : &lists->lists[number];
}

/* At the end; whether it is there already is looked at by `put_once` only. */
void task_lists_put(struct task_lists *lists, struct tessi_map_key task, uint32_t item);
void task_lists_put_once(struct task_lists *lists, struct tessi_map_key task, uint32_t item);

/* The last one takes its place. */
void task_lists_remove(struct task_lists *lists, struct task_list *list, uint32_t item);
void task_lists_remove_everywhere(struct task_lists *lists, uint32_t item);
void task_lists_end(struct task_lists *lists, struct task_list *list);
void task_lists_fini(struct task_lists *lists);

#endif
