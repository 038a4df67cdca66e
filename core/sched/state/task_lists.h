/* Lists of numbers by task: who holds a copy of its block, who waits for it, who asks where it goes.
 *
 * A task has a list while there is something in it. What a list was kept in serves later ones. Where data move there
 * are nearly as many lists as live tasks, most of one or two numbers: those lie in the list itself, and the hash table
 * says only which list it is. */
#ifndef TESSI_SCHED_TASK_LISTS_H
#define TESSI_SCHED_TASK_LISTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/map.h"

#define TASK_LIST_OWN 2u

struct task_list {
    struct tessi_map_key task; /* of one that is not used: low is the next such + 1 */
    union {
        uint32_t own[TASK_LIST_OWN];
        uint32_t *more; /* owned */
    } items;
    uint32_t count;
    uint32_t capacity; /* of `more`; 0: they are in `own` */
};

struct task_lists { /* zeroed, it is empty */
    uint32_t *slots;   /* a hash table with linear probing: the number of a list + 1; 0: free; owned */
    size_t slot_count; /* a power of two, or 0 */
    struct task_list *lists; /* owned */
    size_t count, capacity;
    size_t used;     /* lists with something in them */
    uint64_t unused; /* the one that ended last + 1; 0: none */
};

struct task_list *tessi_task_lists_look_up(const struct task_lists *lists, struct tessi_map_key task); /* not empty */

/* NULL when there is nothing in it. Good until something is put into any of the lists. */
static inline struct task_list *task_lists_find(const struct task_lists *lists, struct tessi_map_key task)
{
    return lists->used == 0 ? NULL : tessi_task_lists_look_up(lists, task);
}

static inline const uint32_t *task_list_items(const struct task_list *list)
{
    return list->capacity > 0 ? list->items.more : list->items.own;
}

/* The next one with something in it, from `position` (0 at first) on, which moves past it; NULL: there are no more. It
 * may be changed or ended before the next one is asked for. */
struct task_list *tessi_task_lists_next(struct task_lists *lists, size_t *position);

/* At the end; whether it is there already is looked at by `put_once` only: false, it was. */
void tessi_task_lists_put(struct task_lists *lists, struct tessi_map_key task, uint32_t item);
bool tessi_task_lists_put_once(struct task_lists *lists, struct tessi_map_key task, uint32_t item);

/* The last one takes its place. */
void tessi_task_lists_remove(struct task_lists *lists, struct task_list *list, uint32_t item);
void tessi_task_lists_remove_everywhere(struct task_lists *lists, uint32_t item);
void tessi_task_lists_end(struct task_lists *lists, struct task_list *list);
uint64_t tessi_task_lists_bytes(const struct task_lists *lists);
void tessi_task_lists_fini(struct task_lists *lists);

#endif
