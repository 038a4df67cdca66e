/* Writing msgpack values into a buffer: msgpack-c's packer behind a few names. */
#ifndef TESSI_WIRE_PACK_H
#define TESSI_WIRE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/wire/buffer.h"

void tessi_pack_array(struct tessi_buffer *buffer, size_t count);
void tessi_pack_u64(struct tessi_buffer *buffer, uint64_t value);
void tessi_pack_i64(struct tessi_buffer *buffer, int64_t value);
void tessi_pack_f64(struct tessi_buffer *buffer, double value);
void tessi_pack_bool(struct tessi_buffer *buffer, bool value);
/* At most `max` bytes of the text (NULL: empty); never cut inside a UTF-8 character. */
void tessi_pack_text(struct tessi_buffer *buffer, const char *text, size_t max);
void tessi_pack_binary(struct tessi_buffer *buffer, const void *data, size_t size);
/* The header of a binary whose bytes the caller appends itself. */
void tessi_pack_binary_header(struct tessi_buffer *buffer, size_t size);

#endif
