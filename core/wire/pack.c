#include "core/wire/pack.h"

#include <msgpack/pack.h>
#include <string.h>

static int append(void *data, const char *bytes, size_t size)
{
    tessi_buffer_append(data, bytes, size);
    return 0;
}

static msgpack_packer packer(struct tessi_buffer *buffer)
{
    msgpack_packer result;
    msgpack_packer_init(&result, buffer, append);
    return result;
}

void tessi_pack_array(struct tessi_buffer *buffer, size_t count)
{
    msgpack_packer to = packer(buffer);
    msgpack_pack_array(&to, count);
}

void tessi_pack_u64(struct tessi_buffer *buffer, uint64_t value)
{
    msgpack_packer to = packer(buffer);
    msgpack_pack_uint64(&to, value);
}

void tessi_pack_i64(struct tessi_buffer *buffer, int64_t value)
{
    msgpack_packer to = packer(buffer);
    msgpack_pack_int64(&to, value);
}

void tessi_pack_f64(struct tessi_buffer *buffer, double value)
{
    msgpack_packer to = packer(buffer);
    msgpack_pack_double(&to, value);
}

void tessi_pack_bool(struct tessi_buffer *buffer, bool value)
{
    msgpack_packer to = packer(buffer);
    if (value) {
        msgpack_pack_true(&to);
    } else {
        msgpack_pack_false(&to);
    }
}

void tessi_pack_text(struct tessi_buffer *buffer, const char *text, size_t max)
{
    size_t size = text == NULL ? 0 : strlen(text);
    if (size > max) {
        size = max;
        while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80) {
            size--;
        }
    }
    msgpack_packer to = packer(buffer);
    msgpack_pack_str(&to, size);
    tessi_buffer_append(buffer, text, size);
}

void tessi_pack_binary_header(struct tessi_buffer *buffer, size_t size)
{
    msgpack_packer to = packer(buffer);
    msgpack_pack_bin(&to, size);
}

void tessi_pack_binary(struct tessi_buffer *buffer, const void *data, size_t size)
{
    tessi_pack_binary_header(buffer, size);
    tessi_buffer_append(buffer, data, size);
}
