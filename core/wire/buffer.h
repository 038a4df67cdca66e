/* A growing array of bytes: what messages are packed into. */
#ifndef TESSI_WIRE_BUFFER_H
#define TESSI_WIRE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct tessi_buffer { /* all zero: empty */
    uint8_t *data;    /* owned */
    size_t size;
    size_t capacity;
};

void tessi_buffer_append(struct tessi_buffer *buffer, const void *data, size_t size);
/* Room for so many more bytes, to be written at once. */
uint8_t *tessi_buffer_extend(struct tessi_buffer *buffer, size_t size);
void tessi_buffer_clear(struct tessi_buffer *buffer); /* keeps the memory for the next use */
void tessi_buffer_fini(struct tessi_buffer *buffer);

#endif
