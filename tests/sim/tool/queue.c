#include "tests/sim/tool/queue.h"

#include "core/base/alloc.h"
#include "core/base/assert.h"

static bool sooner(const struct tool_event *a, const struct tool_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

void tool_timeline_push(struct tool_timeline *timeline, struct tool_event event)
{
    tessi_grow(&timeline->events, &timeline->capacity, timeline->count + 1, sizeof *timeline->events);
    event.sequence = timeline->sequence++;
    size_t i = timeline->count++;
    while (i > 0 && sooner(&event, &timeline->events[(i - 1) / 4])) {
        timeline->events[i] = timeline->events[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    timeline->events[i] = event;
}

struct tool_event tool_timeline_pop(struct tool_timeline *timeline)
{
    TESS_ASSERT(timeline->count > 0);
    struct tool_event *events = timeline->events;
    struct tool_event top = events[0], last = events[--timeline->count];
    size_t i = 0;
    for (;;) {
        size_t best = 4 * i + 1, end = best + 4 < timeline->count ? best + 4 : timeline->count;
        for (size_t child = best + 1; child < end; child++) {
            best = sooner(&events[child], &events[best]) ? child : best;
        }
        if (best >= timeline->count || !sooner(&events[best], &last)) {
            break;
        }
        events[i] = events[best];
        i = best;
    }
    events[i] = last;
    return top;
}

void tool_queue_push(struct tool_queue *queue, struct tool_entry entry)
{
    tessi_grow(&queue->entries, &queue->capacity, queue->count + 1, sizeof *queue->entries);
    size_t i = queue->count++;
    while (i > 0 && entry.key < queue->entries[(i - 1) / 2].key) {
        queue->entries[i] = queue->entries[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    queue->entries[i] = entry;
}

void tool_queue_pop(struct tool_queue *queue)
{
    TESS_ASSERT(queue->count > 0);
    struct tool_entry last = queue->entries[--queue->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < queue->count && queue->entries[child + 1].key < queue->entries[child].key) {
            child++;
        }
        if (child >= queue->count || queue->entries[child].key >= last.key) {
            break;
        }
        queue->entries[i] = queue->entries[child];
        i = child;
    }
    queue->entries[i] = last;
}
