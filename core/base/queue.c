#include "core/base/queue.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

#define HOLE UINT32_MAX

static bool below(uint64_t first, uint64_t second, const struct tessi_heap_entry *entry)
{
    return first != entry->first ? first < entry->first : second < entry->second;
}

void tessi_queue_init(struct tessi_queue *queue)
{
    *queue = (struct tessi_queue){0};
    tessi_heap_init(&queue->heap);
}

void tessi_queue_fini(struct tessi_queue *queue)
{
    tessi_heap_fini(&queue->heap);
    tessi_free(queue->lane);
    tessi_free(queue->places);
    *queue = (struct tessi_queue){0};
}

/* Room for one more at the end: what has left the front is reused, and holes go with it. */
static void make_room(struct tessi_queue *queue)
{
    size_t kept = 0;
    if (queue->end < queue->capacity) {
        return;
    }
    for (size_t i = queue->first; i < queue->end; i++) {
        if (queue->lane[i].value != HOLE) {
            queue->lane[kept++] = queue->lane[i];
            queue->places[queue->lane[i].value] = (uint32_t)kept;
        }
    }
    queue->first = 0;
    queue->end = kept;
    if (kept >= queue->capacity / 2) { /* else that was worth its while */
        tessi_grow(&queue->lane, &queue->capacity, 2 * kept + 64, sizeof *queue->lane);
    }
}

static void remember_place(struct tessi_queue *queue, uint32_t value, size_t place)
{
    if (value >= queue->places_capacity) {
        size_t known = queue->places_capacity;
        tessi_grow(&queue->places, &queue->places_capacity, (size_t)value + 1, sizeof *queue->places);
        memset(queue->places + known, 0, (queue->places_capacity - known) * sizeof *queue->places);
    }
    queue->places[value] = (uint32_t)place + 1;
}

void tessi_queue_push(struct tessi_queue *queue, uint64_t first, uint64_t second, uint32_t value)
{
    TESS_ASSERT(value != HOLE && !tessi_queue_contains(queue, value));
    queue->count++;
    if (queue->first < queue->end && below(first, second, &queue->lane[queue->end - 1])) {
        tessi_heap_push(&queue->heap, first, second, value);
        return;
    }
    make_room(queue);
    remember_place(queue, value, queue->end);
    queue->lane[queue->end++] = (struct tessi_heap_entry){first, second, value};
}

const struct tessi_heap_entry *tessi_queue_peek(const struct tessi_queue *queue)
{
    const struct tessi_heap_entry *straggler = tessi_heap_peek(&queue->heap);
    if (queue->first == queue->end) {
        return straggler;
    }
    const struct tessi_heap_entry *head = &queue->lane[queue->first];
    return straggler != NULL && below(straggler->first, straggler->second, head) ? straggler : head;
}

void tessi_queue_take_out(struct tessi_queue *queue, uint32_t value)
{
    queue->count--;
    if (value >= queue->places_capacity || queue->places[value] == 0) {
        tessi_heap_take_out(&queue->heap, value);
        return;
    }
    queue->lane[queue->places[value] - 1].value = HOLE;
    queue->places[value] = 0;
    while (queue->first < queue->end && queue->lane[queue->first].value == HOLE) {
        queue->first++;
    }
    while (queue->first < queue->end && queue->lane[queue->end - 1].value == HOLE) {
        queue->end--;
    }
    if (queue->first == queue->end) {
        queue->first = queue->end = 0;
    }
}
