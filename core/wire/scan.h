/* The bounded reader of msgpack bytes.
 *
 * The caller asks for the type that it expects next, so depth is the caller's and nothing is
 * recursive. Every length is compared with the bytes that are left before it is returned;
 * strings and binaries are returned as pointers into the message. After the first failure
 * every call fails, and the reader says at which byte it was. */
#ifndef TESSI_WIRE_SCAN_H
#define TESSI_WIRE_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

struct tessi_scan {
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
    char reason[96];
};

void tessi_scan_init(struct tessi_scan *scan, const void *bytes, size_t size);
bool tessi_scan_array(struct tessi_scan *scan,
                      uint32_t *count); /* each element takes a byte at least: count ≤ bytes left */
bool tessi_scan_array_of(struct tessi_scan *scan, uint32_t count); /* exactly that many elements */
bool tessi_scan_u64(struct tessi_scan *scan, uint64_t *value);
bool tessi_scan_u32(struct tessi_scan *scan, uint32_t *value);
bool tessi_scan_i64(struct tessi_scan *scan, int64_t *value);
bool tessi_scan_f64(struct tessi_scan *scan, double *value);
bool tessi_scan_bool(struct tessi_scan *scan, bool *value);
/* At most `max` bytes, none of them 0; not terminated. */
bool tessi_scan_text(struct tessi_scan *scan, size_t max, const char **text, size_t *size);
/* The same, copied into `text` of `capacity` bytes with a final 0. */
bool tessi_scan_text_into(struct tessi_scan *scan, char *text, size_t capacity);
/* A copy with a final 0, owned by the caller; NULL on failure. */
char *tessi_scan_text_copy(struct tessi_scan *scan, size_t max);
bool tessi_scan_binary(struct tessi_scan *scan, const uint8_t **bytes, size_t *size);
bool tessi_scan_is_binary(const struct tessi_scan *scan); /* looks at the next value only */
bool tessi_scan_at_end(struct tessi_scan *scan);          /* fails when bytes are left */

bool tessi_scan_fail(struct tessi_scan *scan, const char *reason); /* false, always */
/* TESSI_FORMAT with the reason and the place. */
enum tessi_status tessi_scan_status(const struct tessi_scan *scan, struct tessi_error *error);

#endif
