/* The queues of a flow_world: one from each end to each other, in order within itself only. */
#include <string.h>

#include "core/base/alloc.h"
#include "tests/unit/flow_world.h"

struct message *world_post(struct world *world, uint32_t from, uint32_t to)
{
    struct queue *queue = &world->queue[from][to];
    if (queue->head > 0 && queue->head + queue->count == queue->capacity) {
        memmove(queue->items, queue->items + queue->head, queue->count * sizeof *queue->items);
        queue->head = 0;
    }
    tessi_grow(&queue->items, &queue->capacity, queue->head + queue->count + 1, sizeof *queue->items);
    struct message *message = &queue->items[queue->head + queue->count++];
    memset(message, 0, sizeof *message);
    return message;
}

void world_message_fini(struct message *message)
{
    tessi_spans_fini(&message->spans);
    tessi_spans_fini(&message->where);
    tessi_report_fini(&message->report);
}

struct message *world_post_event(struct world *world, uint32_t from, uint32_t to, enum tessi_flow_event_kind kind)
{
    struct message *message = world_post(world, from, to);
    message->event.kind = kind;
    message->event.peer = from == world->workers + 1 ? SESSION : from;
    return message;
}

void world_clear_queue(struct queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        struct message *message = &queue->items[queue->head + i];
        if (message->event.kind == TESSI_FLOW_LAYER) {
            tessi_layer_destroy(message->event.layer);
        }
        world_message_fini(message);
    }
    queue->head = queue->count = 0;
}
