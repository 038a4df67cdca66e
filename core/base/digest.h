/* Checksums of bytes that leave memory: spill files, journal records, transferred blocks.
 *
 * XXH3 with 64 bits. It finds accidents, not attacks: who may send is settled by the
 * connection's keys. The value is the same on every host, so it may be stored and sent. */
#ifndef TESSI_BASE_DIGEST_H
#define TESSI_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* The digest of `size` bytes; `data` may be NULL when `size` is 0. */
uint64_t tessi_digest_bytes(const void *data, size_t size);

/* The digest of several pieces one after the other, equal to the digest of their
 * concatenation. `update` may be called any number of times; `value` ends nothing. */
struct tessi_digest;
struct tessi_digest *tessi_digest_create(void);
void tessi_digest_destroy(struct tessi_digest *digest); /* NULL is allowed */
void tessi_digest_update(struct tessi_digest *digest, const void *data, size_t size);
uint64_t tessi_digest_value(const struct tessi_digest *digest);

#endif
