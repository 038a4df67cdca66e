/* A binary min-heap of (key, value), where the caller can remove any entry.
 *
 * Keys are pairs compared in order, so equal first halves are settled by the second and
 * never by insertion order or address. The heap tells the caller where each value sits
 * through a position array indexed by value, which it owns and grows. */
#ifndef TESSI_BASE_HEAP_H
#define TESSI_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tessi_heap_entry {
    uint64_t first;
    uint64_t second;
    uint32_t value; /* small: positions are kept in an array indexed by it */
};

struct tessi_heap {
    struct tessi_heap_entry *entries;
    size_t count;
    size_t capacity;
    uint32_t *positions; /* value → index + 1 in entries; 0: absent */
    size_t positions_capacity;
};

void tessi_heap_init(struct tessi_heap *heap);
void tessi_heap_fini(struct tessi_heap *heap);
void tessi_heap_push(struct tessi_heap *heap, uint64_t first, uint64_t second, uint32_t value); /* absent before */
static inline const struct tessi_heap_entry *tessi_heap_peek(const struct tessi_heap *heap) /* NULL when empty */
{
    return heap->count > 0 ? &heap->entries[0] : NULL;
}
struct tessi_heap_entry tessi_heap_pop(struct tessi_heap *heap);               /* not empty */
void tessi_heap_update(struct tessi_heap *heap, uint64_t first, uint64_t second, uint32_t value); /* present: a new key */
void tessi_heap_take_out(struct tessi_heap *heap, uint32_t value); /* present */

static inline bool tessi_heap_contains(const struct tessi_heap *heap, uint32_t value)
{
    return value < heap->positions_capacity && heap->positions[value] != 0;
}

/* False if absent: most are, so that is found out without a call. */
static inline bool tessi_heap_remove(struct tessi_heap *heap, uint32_t value)
{
    bool there = heap->count > 0 && tessi_heap_contains(heap, value);
    if (there) {
        tessi_heap_take_out(heap, value);
    }
    return there;
}

#endif
