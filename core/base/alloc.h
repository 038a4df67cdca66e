/* The one allocator for metadata.
 *
 * Block data never comes from here: it has a budget and a store of its own. Metadata is
 * small beside it, and a machine that cannot get a few bytes of it cannot keep its
 * promises either; so `tessi_alloc` and friends never return NULL: they end the process
 * with a clear line. Callers whose size a user or a peer chooses use `tessi_try_alloc`,
 * which may return NULL and can be made to fail at the nth call by a test. */
#ifndef TESSI_BASE_ALLOC_H
#define TESSI_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

void *tessi_alloc(size_t size);                 /* uninitialised */
void *tessi_zalloc(size_t size);                /* zeroed */
void *tessi_realloc(void *memory, size_t size); /* keeps the contents */
char *tessi_strdup(const char *text);           /* NULL gives NULL */
void *tessi_memdup(const void *data, size_t size);
void tessi_free(void *memory);                  /* NULL is allowed */

void *tessi_try_alloc(size_t size); /* NULL when there is no memory */

/* Test hook: let the nth following `tessi_try_alloc` of this thread fail; 0 turns it off. */
void tessi_alloc_fail_at(uint64_t nth);

/* Make room for `need` elements in a growing array: `items` points to the array
 * pointer, `capacity` to the number of elements it has room for. Grows by half. */
void tessi_grow_more(void *items, size_t *capacity, size_t need, size_t element_size); /* there is not room enough */

static inline void tessi_grow(void *items, size_t *capacity, size_t need, size_t element_size)
{
    if (need > *capacity) {
        tessi_grow_more(items, capacity, need, element_size);
    }
}

#endif
