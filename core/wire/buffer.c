#include "core/wire/buffer.h"

#include <string.h>

#include "core/base/alloc.h"

void tessi_buffer_append(struct tessi_buffer *buffer, const void *data, size_t size)
{
    if (size == 0) {
        return;
    }
    tessi_grow(&buffer->data, &buffer->capacity, buffer->size + size, 1);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

uint8_t *tessi_buffer_extend(struct tessi_buffer *buffer, size_t size)
{
    tessi_grow(&buffer->data, &buffer->capacity, buffer->size + size, 1);
    buffer->size += size;
    return buffer->data + buffer->size - size;
}

void tessi_buffer_clear(struct tessi_buffer *buffer)
{
    buffer->size = 0;
}

void tessi_buffer_fini(struct tessi_buffer *buffer)
{
    tessi_free(buffer->data);
    *buffer = (struct tessi_buffer){0};
}
