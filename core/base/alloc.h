/* The one allocator for metadata.
 *
 * Block data never comes from here: it has a budget and a store of its own. Metadata is small beside it, and code that had
 * to think about each piece of it could not be read. So `tessi_alloc` and friends never return NULL: when the system has
 * nothing more they take from a reserve, which was set aside for this, and only when that is gone do they end the
 * process with a clear line.
 *
 * Whoever begins something that a user or a peer asks for looks whether the reserve is whole (`tessi_memory_ready`) and
 * refuses otherwise: what has been begun then ends well, and nothing new begins before there is memory again. What grows
 * with a request beyond the reserve is asked for beforehand in the same way, or taken with `tessi_try_alloc`, which
 * may return NULL and can be made to fail at the nth call by a test. */
#ifndef TESSI_BASE_ALLOC_H
#define TESSI_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* And twice the largest piece so far, 64 MiB at most, so that every array may grow. */
#define TESSI_RESERVE_BYTES ((size_t)4 << 20)
#define TESSI_SMALL_BYTES ((size_t)64 << 10) /* up to there `tessi_try_alloc` takes from the reserve too */

void *tessi_alloc(size_t size);                 /* uninitialised */
void *tessi_zalloc(size_t size);                /* zeroed */
void *tessi_realloc(void *memory, size_t size); /* keeps the contents */
char *tessi_strdup(const char *text);           /* NULL gives NULL */
void *tessi_memdup(const void *data, size_t size);
void tessi_free(void *memory);                  /* NULL is allowed */

void *tessi_try_alloc(size_t size); /* NULL when there is no memory */

/* The reserve is whole, again if need be, and so many more bytes can be had now. From any thread. */
bool tessi_memory_ready(size_t bytes);

/* Test hooks. Let the nth following `tessi_try_alloc` of this thread fail; 0 turns it off. */
void tessi_alloc_fail_at(uint64_t nth);
/* Let the nth following call of any thread and all after it find no memory but the reserve; 0 ends that, and gives how
 * many there were since. */
uint64_t tessi_memory_ends_at(uint64_t nth);

/* Make room for `need` elements in a growing array: `items` points to the array
 * pointer, `capacity` to the number of elements it has room for. Begins with no more, then grows by half. */
void tessi_grow_more(void *items, size_t *capacity, size_t need, size_t element_size); /* there is not room enough */

static inline void tessi_grow(void *items, size_t *capacity, size_t need, size_t element_size)
{
    if (need > *capacity) {
        tessi_grow_more(items, capacity, need, element_size);
    }
}

/* The same where the array can grow with a request: false when there is no memory, and nothing has changed. */
bool tessi_try_grow(void *items, size_t *capacity, size_t need, size_t element_size);

#endif
