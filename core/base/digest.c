#include "core/base/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>

#include "core/base/assert.h"

/* The state of XXH3 asks for more alignment than malloc promises. */
enum { STATE_ALIGNMENT = 64 };

struct tessi_digest {
    XXH3_state_t state;
};

uint64_t tessi_digest_bytes(const void *data, size_t size)
{
    return XXH3_64bits(size > 0 ? data : "", size);
}

struct tessi_digest *tessi_digest_create(void)
{
    size_t size = (sizeof(struct tessi_digest) + STATE_ALIGNMENT - 1) / STATE_ALIGNMENT * STATE_ALIGNMENT;
    struct tessi_digest *digest = aligned_alloc(STATE_ALIGNMENT, size);
    TESS_ASSERT(digest != NULL);
    XXH3_INITSTATE(&digest->state);
    XXH_errorcode code = XXH3_64bits_reset(&digest->state);
    TESS_ASSERT(code == XXH_OK);
    return digest;
}

void tessi_digest_destroy(struct tessi_digest *digest)
{
    free(digest);
}

void tessi_digest_update(struct tessi_digest *digest, const void *data, size_t size)
{
    if (size > 0) {
        XXH_errorcode code = XXH3_64bits_update(&digest->state, data, size);
        TESS_ASSERT(code == XXH_OK);
    }
}

uint64_t tessi_digest_value(const struct tessi_digest *digest)
{
    return XXH3_64bits_digest(&digest->state);
}
