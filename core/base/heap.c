#include "core/base/heap.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

static bool before(const struct tessi_heap_entry *a, const struct tessi_heap_entry *b)
{
    return a->first != b->first ? a->first < b->first : a->second < b->second;
}

static void place(struct tessi_heap *heap, size_t i, struct tessi_heap_entry entry)
{
    heap->entries[i] = entry;
    heap->positions[entry.value] = (uint32_t)i + 1;
}

static void sift_up(struct tessi_heap *heap, size_t i)
{
    struct tessi_heap_entry entry = heap->entries[i];
    while (i > 0 && before(&entry, &heap->entries[(i - 1) / 2])) {
        place(heap, i, heap->entries[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(heap, i, entry);
}

static void sift_down(struct tessi_heap *heap, size_t i)
{
    struct tessi_heap_entry entry = heap->entries[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && before(&heap->entries[child + 1], &heap->entries[child])) {
            child++;
        }
        if (!before(&heap->entries[child], &entry)) {
            break;
        }
        place(heap, i, heap->entries[child]);
        i = child;
    }
    place(heap, i, entry);
}

void tessi_heap_init(struct tessi_heap *heap)
{
    *heap = (struct tessi_heap){0};
}

void tessi_heap_fini(struct tessi_heap *heap)
{
    tessi_free(heap->entries);
    tessi_free(heap->positions);
    *heap = (struct tessi_heap){0};
}

void tessi_heap_push(struct tessi_heap *heap, uint64_t first, uint64_t second, uint32_t value)
{
    TESS_ASSERT(!tessi_heap_contains(heap, value));
    tessi_grow(&heap->entries, &heap->capacity, heap->count + 1, sizeof *heap->entries);
    size_t known = heap->positions_capacity;
    tessi_grow(&heap->positions, &heap->positions_capacity, (size_t)value + 1, sizeof *heap->positions);
    if (heap->positions_capacity > known) {
        memset(heap->positions + known, 0, (heap->positions_capacity - known) * sizeof *heap->positions);
    }
    heap->entries[heap->count] = (struct tessi_heap_entry){first, second, value};
    heap->count++;
    sift_up(heap, heap->count - 1);
}

struct tessi_heap_entry tessi_heap_pop(struct tessi_heap *heap)
{
    TESS_ASSERT(heap->count > 0);
    struct tessi_heap_entry top = heap->entries[0];
    (void)tessi_heap_remove(heap, top.value);
    return top;
}

void tessi_heap_update(struct tessi_heap *heap, uint64_t first, uint64_t second, uint32_t value)
{
    TESS_ASSERT(tessi_heap_contains(heap, value));
    size_t i = heap->positions[value] - 1;
    heap->entries[i].first = first;
    heap->entries[i].second = second;
    sift_up(heap, i);
    sift_down(heap, heap->positions[value] - 1);
}

void tessi_heap_take_out(struct tessi_heap *heap, uint32_t value)
{
    TESS_ASSERT(tessi_heap_contains(heap, value));
    size_t i = heap->positions[value] - 1;
    heap->positions[value] = 0;
    heap->count--;
    if (i != heap->count) {
        place(heap, i, heap->entries[heap->count]);
        sift_up(heap, i);
        sift_down(heap, heap->positions[heap->entries[i].value] - 1);
    }
}
