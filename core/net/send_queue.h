/* Packed messages for one connection, in order, that wait until it takes them.
 *
 * The queue has no bound of its own: whoever adds looks at `count` or `bytes` first. All zero at first. */
#ifndef TESSI_NET_SEND_QUEUE_H
#define TESSI_NET_SEND_QUEUE_H

#include "core/base/status.h"
#include "core/net/frame.h"

struct tessi_queued_message;

struct tessi_send_queue {
    struct tessi_queued_message *first, *last;
    size_t count;
    uint64_t bytes; /* headers and what each message takes beside; payload is its owner's to count */
};

/* `header` is copied, `frames` are moved (at most TESSI_NET_FRAMES_MAX − 1; NULL: none). */
void tessi_send_queue_add(struct tessi_send_queue *queue, const void *header, size_t header_size, struct tessi_frame *frames,
                          uint32_t frame_count);
/* All of `from` behind what is in `to`. */
void tessi_send_queue_move(struct tessi_send_queue *to, struct tessi_send_queue *from);

/* Sends one message. BUSY: it has to wait, and nothing was taken. Anything else: its frames were moved or released. */
typedef enum tessi_status tessi_send_queue_fn(void *context, const void *header, size_t header_size,
                                              struct tessi_frame *frames, uint32_t frame_count);

/* Sends from the front on. OK: the queue is empty. BUSY: the first has to wait. Anything else is what was said of a message,
 * which is gone, and the rest is still there. `send` must not touch the queue. */
enum tessi_status tessi_send_queue_flush(struct tessi_send_queue *queue, tessi_send_queue_fn *send, void *context);

/* Drop all; it may be used again. */
void tessi_send_queue_fini(struct tessi_send_queue *queue);

#endif
