/* One piece of a message: bytes with an owner.
 *
 * A frame owns its bytes through a release function, so that a block can be sent without a
 * copy and a received ZeroMQ message can be a block's storage. A frame is moved by copying
 * the struct; whoever holds it last releases it exactly once.
 *
 * Alignment of received frames: those above 8 KiB have memory of their own, aligned to 8
 * bytes; smaller ones lie anywhere inside a shared read buffer. Whoever reads numbers from
 * a small frame copies them out first (`tessi_frame_align`). */
#ifndef TESSI_NET_FRAME_H
#define TESSI_NET_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Called exactly once when nobody needs the bytes any more; after a send that is some time
 * later and on a ZeroMQ thread, so it must be thread-safe, short and non-blocking. */
typedef void tessi_frame_release_fn(void *data, void *hint);

struct tessi_frame {
    void *data;
    size_t size;
    tessi_frame_release_fn *release; /* NULL: static memory that outlives everything */
    void *hint;
};

/* A frame over memory of the caller, handed over with its release function. */
struct tessi_frame tessi_frame_wrap(void *data, size_t size, tessi_frame_release_fn *release, void *hint);

/* A frame with a copy of `data`; ends the process when there is no memory: for small data. */
struct tessi_frame tessi_frame_copy(const void *data, size_t size);

/* Make `data` a multiple of `alignment` (a power of two ≤ 64), by a copy where needed.
 * False when there is no memory; the frame is unchanged then. */
bool tessi_frame_align(struct tessi_frame *frame, size_t alignment);

/* Release the bytes and zero the struct; a zeroed frame is allowed. */
void tessi_frame_release(struct tessi_frame *frame);

/* ——— events of an endpoint ——— */

#define TESSI_NET_FRAMES_MAX 16 /* a header and up to 15 payload frames */

enum tessi_net_event_kind {
    TESSI_NET_MESSAGE, /* frames[0 … frame_count) were received */
    TESSI_NET_READY,   /* client only, once: connected and authenticated */
    TESSI_NET_GONE,    /* the connection ended; all that it delivered has been given out before */
};

struct tessi_net_event {
    enum tessi_net_event_kind kind;
    uint32_t peer;        /* server: the peer's handle, never 0; client: 0 */
    bool first;           /* server: the first event of this peer */
    uint32_t frame_count; /* ≥ 1 for a message */
    struct tessi_frame frames[TESSI_NET_FRAMES_MAX];
};

/* Release every frame that the caller has not moved out (a moved one is zeroed by it). */
void tessi_net_event_clear(struct tessi_net_event *event);

#endif
