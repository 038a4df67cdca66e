/* Two heaps: events in the order of their times, and things in the order of a key, whose owner tells
 * by their life whether an entry still means something. */
#ifndef TESTS_SIM_TOOL_QUEUE_H
#define TESTS_SIM_TOOL_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tool_event {
    int64_t at_ns;
    uint64_t sequence; /* settles equal times: first come, first served */
    uint32_t kind, worker, a, b;
};

struct tool_timeline {
    struct tool_event *events; /* a heap of four children each, owned */
    size_t count, capacity;
    uint64_t sequence;
};

void tool_timeline_push(struct tool_timeline *timeline, struct tool_event event);
struct tool_event tool_timeline_pop(struct tool_timeline *timeline); /* not empty */

struct tool_entry {
    uint64_t key;
    uint32_t thing, life;
};

struct tool_queue {
    struct tool_entry *entries; /* owned */
    size_t count, capacity;
};

void tool_queue_push(struct tool_queue *queue, struct tool_entry entry);
void tool_queue_pop(struct tool_queue *queue); /* not empty */

#endif
