#include "core/wire/scan.h"

#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"

enum { /* first bytes of msgpack values */
       FIXARRAY = 0x90,
       FIXSTR = 0xa0,
       FALSE_ = 0xc2,
       TRUE_ = 0xc3,
       BIN8 = 0xc4,
       BIN16 = 0xc5,
       BIN32 = 0xc6,
       FLOAT64 = 0xcb,
       UINT8 = 0xcc,
       UINT16 = 0xcd,
       UINT32 = 0xce,
       UINT64 = 0xcf,
       INT8 = 0xd0,
       INT16 = 0xd1,
       INT32 = 0xd2,
       INT64 = 0xd3,
       STR8 = 0xd9,
       STR16 = 0xda,
       STR32 = 0xdb,
       ARRAY16 = 0xdc,
       ARRAY32 = 0xdd,
       NEGATIVE_FIXINT = 0xe0,
};

void tessi_scan_init(struct tessi_scan *scan, const void *bytes, size_t size)
{
    *scan = (struct tessi_scan){.start = bytes, .at = bytes, .end = (const uint8_t *)bytes + size};
}

bool tessi_scan_fail(struct tessi_scan *scan, const char *reason)
{
    if (!scan->failed) {
        scan->failed = true;
        snprintf(scan->reason, sizeof scan->reason, "%s", reason);
    }
    return false;
}

enum tessi_status tessi_scan_status(const struct tessi_scan *scan, struct tessi_error *error)
{
    return tessi_fail(error, TESSI_FORMAT, "malformed message: %s at byte %zu of %zu; drop it", scan->reason,
                      (size_t)(scan->at - scan->start), (size_t)(scan->end - scan->start));
}

static size_t left(const struct tessi_scan *scan)
{
    return (size_t)(scan->end - scan->at);
}

/* The first byte of the next value, with the `size` big-endian bytes that follow it still unread. */
static bool head(struct tessi_scan *scan, uint8_t *byte)
{
    if (scan->failed) {
        return false;
    }
    if (left(scan) == 0) {
        return tessi_scan_fail(scan, "it ends too early");
    }
    *byte = *scan->at++;
    return true;
}

static bool big_endian(struct tessi_scan *scan, size_t size, uint64_t *value)
{
    if (left(scan) < size) {
        return tessi_scan_fail(scan, "it ends inside a number");
    }
    uint64_t result = 0;
    for (size_t i = 0; i < size; i++) {
        result = result << 8 | scan->at[i];
    }
    scan->at += size;
    *value = result;
    return true;
}

bool tessi_scan_array(struct tessi_scan *scan, uint32_t *count)
{
    uint8_t byte;
    uint64_t value;
    if (!head(scan, &byte)) {
        return false;
    }
    if ((byte & 0xf0) == FIXARRAY) {
        value = byte & 0x0f;
    } else if (byte == ARRAY16 || byte == ARRAY32) {
        if (!big_endian(scan, byte == ARRAY16 ? 2 : 4, &value)) {
            return false;
        }
    } else {
        return tessi_scan_fail(scan, "an array was expected");
    }
    if (value > left(scan)) {
        return tessi_scan_fail(scan, "an array claims more elements than there are bytes");
    }
    *count = (uint32_t)value;
    return true;
}

bool tessi_scan_array_of(struct tessi_scan *scan, uint32_t count)
{
    uint32_t found;
    return tessi_scan_array(scan, &found) &&
           (found == count || tessi_scan_fail(scan, "an array has the wrong number of elements"));
}

/* An integer of any msgpack form: its 64 bits and whether they are negative. */
static bool integer(struct tessi_scan *scan, uint64_t *bits, bool *negative)
{
    uint8_t byte;
    if (!head(scan, &byte)) {
        return false;
    }
    *negative = false;
    if (byte < 0x80) {
        *bits = byte;
        return true;
    }
    if (byte >= NEGATIVE_FIXINT) {
        *bits = (uint64_t)(int64_t)(int8_t)byte;
        *negative = true;
        return true;
    }
    if (byte >= UINT8 && byte <= UINT64) {
        return big_endian(scan, (size_t)1 << (byte - UINT8), bits);
    }
    if (byte >= INT8 && byte <= INT64) {
        size_t size = (size_t)1 << (byte - INT8);
        if (!big_endian(scan, size, bits)) {
            return false;
        }
        if (size < 8 && *bits >> (8 * size - 1) != 0) {
            *bits |= UINT64_MAX << (8 * size);
        }
        *negative = *bits >> 63 != 0;
        return true;
    }
    return tessi_scan_fail(scan, "an integer was expected");
}

bool tessi_scan_u64(struct tessi_scan *scan, uint64_t *value)
{
    bool negative;
    return integer(scan, value, &negative) && (!negative || tessi_scan_fail(scan, "a negative number"));
}

bool tessi_scan_u32(struct tessi_scan *scan, uint32_t *value)
{
    uint64_t wide;
    if (!tessi_scan_u64(scan, &wide)) {
        return false;
    }
    if (wide > UINT32_MAX) {
        return tessi_scan_fail(scan, "a number is above 32 bits");
    }
    *value = (uint32_t)wide;
    return true;
}

bool tessi_scan_i64(struct tessi_scan *scan, int64_t *value)
{
    uint64_t bits;
    bool negative;
    if (!integer(scan, &bits, &negative)) {
        return false;
    }
    if (!negative && bits > INT64_MAX) {
        return tessi_scan_fail(scan, "a number is above 63 bits");
    }
    *value = (int64_t)bits;
    return true;
}

bool tessi_scan_f64(struct tessi_scan *scan, double *value)
{
    uint8_t byte;
    uint64_t bits;
    if (!head(scan, &byte)) {
        return false;
    }
    if (byte != FLOAT64) {
        return tessi_scan_fail(scan, "a 64-bit float was expected");
    }
    if (!big_endian(scan, 8, &bits)) {
        return false;
    }
    memcpy(value, &bits, sizeof *value);
    return true;
}

bool tessi_scan_bool(struct tessi_scan *scan, bool *value)
{
    uint8_t byte;
    if (!head(scan, &byte)) {
        return false;
    }
    if (byte != FALSE_ && byte != TRUE_) {
        return tessi_scan_fail(scan, "a truth value was expected");
    }
    *value = byte == TRUE_;
    return true;
}

static bool take(struct tessi_scan *scan, uint64_t length, const uint8_t **bytes, size_t *size)
{
    if (length > left(scan)) {
        return tessi_scan_fail(scan, "a string or binary is longer than the message");
    }
    *bytes = scan->at;
    *size = (size_t)length;
    scan->at += length;
    return true;
}

bool tessi_scan_text(struct tessi_scan *scan, size_t max, const char **text, size_t *size)
{
    uint8_t byte;
    uint64_t length;
    if (!head(scan, &byte)) {
        return false;
    }
    if ((byte & 0xe0) == FIXSTR) {
        length = byte & 0x1f;
    } else if (byte >= STR8 && byte <= STR32) {
        if (!big_endian(scan, (size_t)1 << (byte - STR8), &length)) {
            return false;
        }
    } else {
        return tessi_scan_fail(scan, "a string was expected");
    }
    if (length > max) {
        return tessi_scan_fail(scan, "a string is too long");
    }
    const uint8_t *bytes = NULL;
    if (!take(scan, length, &bytes, size)) {
        return false;
    }
    if (memchr(bytes, 0, *size) != NULL) {
        return tessi_scan_fail(scan, "a string has a zero byte in it");
    }
    *text = (const char *)bytes;
    return true;
}

bool tessi_scan_text_into(struct tessi_scan *scan, char *text, size_t capacity)
{
    const char *found;
    size_t size;
    if (!tessi_scan_text(scan, capacity - 1, &found, &size)) {
        return false;
    }
    memcpy(text, found, size);
    text[size] = 0;
    return true;
}

char *tessi_scan_text_copy(struct tessi_scan *scan, size_t max)
{
    const char *found;
    size_t size;
    if (!tessi_scan_text(scan, max, &found, &size)) {
        return NULL;
    }
    char *copy = tessi_try_alloc(size + 1);
    if (copy == NULL) {
        tessi_scan_fail(scan, "no memory for a string");
        return NULL;
    }
    memcpy(copy, found, size);
    copy[size] = 0;
    return copy;
}

bool tessi_scan_binary(struct tessi_scan *scan, const uint8_t **bytes, size_t *size)
{
    uint8_t byte;
    uint64_t length;
    if (!head(scan, &byte)) {
        return false;
    }
    if (byte < BIN8 || byte > BIN32) {
        return tessi_scan_fail(scan, "a binary was expected");
    }
    return big_endian(scan, (size_t)1 << (byte - BIN8), &length) && take(scan, length, bytes, size);
}

bool tessi_scan_is_binary(const struct tessi_scan *scan)
{
    return !scan->failed && left(scan) > 0 && *scan->at >= BIN8 && *scan->at <= BIN32;
}

bool tessi_scan_at_end(struct tessi_scan *scan)
{
    if (scan->failed) {
        return false;
    }
    return left(scan) == 0 || tessi_scan_fail(scan, "there are bytes after its end");
}
