/* A priority queue for keys that mostly come in order: a heap (core/base/heap.h) with a fast lane.
 *
 * What is pushed with a key that is not below any in the lane is appended to it, and leaves it from the front
 * at no cost; what comes out of order goes through the heap. Values are removed from anywhere in the lane by
 * leaving a hole. Keys and values are those of the heap, and so is the order in which they come out. */
#ifndef TESSI_BASE_QUEUE_H
#define TESSI_BASE_QUEUE_H

#include "core/base/heap.h"

struct tessi_queue {
    struct tessi_heap heap;
    struct tessi_heap_entry *lane; /* ascending; value UINT32_MAX: a hole; neither the first nor the last is one */
    size_t first, end, capacity;
    uint32_t *places; /* value → place in the lane + 1; 0: not in the lane */
    size_t places_capacity;
    size_t count;
};

void tessi_queue_init(struct tessi_queue *queue);
void tessi_queue_fini(struct tessi_queue *queue);
void tessi_queue_push(struct tessi_queue *queue, uint64_t first, uint64_t second, uint32_t value); /* absent before */
const struct tessi_heap_entry *tessi_queue_peek(const struct tessi_queue *queue); /* the lowest; NULL when empty */
void tessi_queue_take_out(struct tessi_queue *queue, uint32_t value); /* present */

static inline bool tessi_queue_contains(const struct tessi_queue *queue, uint32_t value)
{
    return (value < queue->places_capacity && queue->places[value] != 0) || tessi_heap_contains(&queue->heap, value);
}

/* False if absent: most are, so that is found out without a call. */
static inline bool tessi_queue_remove(struct tessi_queue *queue, uint32_t value)
{
    bool there = queue->count > 0 && tessi_queue_contains(queue, value);
    if (there) {
        tessi_queue_take_out(queue, value);
    }
    return there;
}

#endif
