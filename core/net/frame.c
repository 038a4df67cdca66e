#include "core/net/frame.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

static void free_copy(void *data, void *hint)
{
    (void)data;
    tessi_free(hint);
}

struct tessi_frame tessi_frame_wrap(void *data, size_t size, tessi_frame_release_fn *release, void *hint)
{
    TESS_ASSERT(data != NULL || size == 0);
    return (struct tessi_frame){.data = data, .size = size, .release = release, .hint = hint};
}

struct tessi_frame tessi_frame_copy(const void *data, size_t size)
{
    void *memory = tessi_alloc(size == 0 ? 1 : size);
    if (size > 0) {
        memcpy(memory, data, size);
    }
    return tessi_frame_wrap(memory, size, free_copy, memory);
}

bool tessi_frame_align(struct tessi_frame *frame, size_t alignment)
{
    TESS_ASSERT(alignment > 0 && alignment <= 64 && (alignment & (alignment - 1)) == 0);
    if (((uintptr_t)frame->data & (alignment - 1)) == 0) {
        return true;
    }
    if (frame->size > SIZE_MAX - alignment) {
        return false;
    }
    unsigned char *memory = tessi_try_alloc(frame->size + alignment);
    if (memory == NULL) {
        return false;
    }
    size_t shift = (alignment - ((uintptr_t)memory & (alignment - 1))) & (alignment - 1);
    memcpy(memory + shift, frame->data, frame->size);
    size_t size = frame->size;
    tessi_frame_release(frame);
    *frame = tessi_frame_wrap(memory + shift, size, free_copy, memory);
    return true;
}

void tessi_frame_release(struct tessi_frame *frame)
{
    struct tessi_frame held = *frame;
    *frame = (struct tessi_frame){0};
    if (held.release != NULL) {
        held.release(held.data, held.hint);
    }
}

void tessi_net_event_clear(struct tessi_net_event *event)
{
    for (uint32_t i = 0; i < event->frame_count; i++) {
        tessi_frame_release(&event->frames[i]);
    }
    event->frame_count = 0;
}
