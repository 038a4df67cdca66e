#include "core/net/send_queue.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/net/endpoint.h"

struct tessi_queued_message {
    struct tessi_queued_message *next;
    size_t header_size;
    uint32_t frame_count;
    struct tessi_frame frames[]; /* then the header */
};

static uint8_t *header_of(struct tessi_queued_message *message)
{
    return (uint8_t *)(message->frames + message->frame_count);
}

static size_t size_of(size_t header_size, uint32_t frame_count)
{
    return sizeof(struct tessi_queued_message) + frame_count * sizeof(struct tessi_frame) + header_size;
}

void tessi_send_queue_add(struct tessi_send_queue *queue, const void *header, size_t header_size, struct tessi_frame *frames,
                          uint32_t frame_count)
{
    TESS_ASSERT(header_size > 0 && frame_count < TESSI_NET_FRAMES_MAX);
    struct tessi_queued_message *message = tessi_alloc(size_of(header_size, frame_count));
    *message = (struct tessi_queued_message){.header_size = header_size, .frame_count = frame_count};
    for (uint32_t i = 0; i < frame_count; i++) {
        message->frames[i] = frames[i];
        frames[i] = (struct tessi_frame){0};
    }
    memcpy(header_of(message), header, header_size);
    if (queue->last != NULL) {
        queue->last->next = message;
    } else {
        queue->first = message;
    }
    queue->last = message;
    queue->count++;
    queue->bytes += size_of(header_size, frame_count);
}

void tessi_send_queue_move(struct tessi_send_queue *to, struct tessi_send_queue *from)
{
    TESS_ASSERT(to != from);
    if (from->first == NULL) {
        return;
    }
    if (to->last != NULL) {
        to->last->next = from->first;
    } else {
        to->first = from->first;
    }
    to->last = from->last;
    to->count += from->count;
    to->bytes += from->bytes;
    *from = (struct tessi_send_queue){0};
}

static void drop_first(struct tessi_send_queue *queue)
{
    struct tessi_queued_message *message = queue->first;
    queue->first = message->next;
    if (queue->first == NULL) {
        queue->last = NULL;
    }
    queue->count--;
    queue->bytes -= size_of(message->header_size, message->frame_count);
    tessi_free(message);
}

enum tessi_status tessi_send_queue_flush(struct tessi_send_queue *queue, tessi_send_queue_fn *send, void *context)
{
    while (queue->first != NULL) {
        struct tessi_queued_message *message = queue->first;
        enum tessi_status status = send(context, header_of(message), message->header_size,
                                        message->frame_count > 0 ? message->frames : NULL, message->frame_count);
        if (status == TESSI_BUSY) {
            return status;
        }
        drop_first(queue);
        if (status != TESSI_OK) {
            return status;
        }
    }
    return TESSI_OK;
}

void tessi_send_queue_fini(struct tessi_send_queue *queue)
{
    while (queue->first != NULL) {
        tessi_frames_release(queue->first->frames, queue->first->frame_count);
        drop_first(queue);
    }
    TESS_ASSERT(queue->count == 0 && queue->bytes == 0);
}
