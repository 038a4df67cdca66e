#include "core/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

static _Thread_local uint64_t fail_countdown;

static _Noreturn void out_of_memory(size_t size)
{
    (void)fprintf(stderr, "tessera: out of memory: %zu bytes of metadata could not be allocated\n", size);
    abort();
}

void *tessi_alloc(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

void *tessi_zalloc(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

void *tessi_realloc(void *memory, size_t size)
{
    void *moved = realloc(memory, size > 0 ? size : 1);
    if (moved == NULL) {
        out_of_memory(size);
    }
    return moved;
}

char *tessi_strdup(const char *text)
{
    return text == NULL ? NULL : tessi_memdup(text, strlen(text) + 1);
}

void *tessi_memdup(const void *data, size_t size)
{
    void *copy = tessi_alloc(size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

void tessi_free(void *memory)
{
    free(memory);
}

void *tessi_try_alloc(size_t size)
{
    if (fail_countdown > 0 && --fail_countdown == 0) {
        return NULL;
    }
    return malloc(size > 0 ? size : 1);
}

void tessi_alloc_fail_at(uint64_t nth)
{
    fail_countdown = nth;
}

void tessi_grow_more(void *items, size_t *capacity, size_t need, size_t element_size)
{
    size_t wanted = *capacity + *capacity / 2 + 8;
    if (wanted < need) {
        wanted = need;
    }
    TESS_ASSERT(wanted <= SIZE_MAX / element_size);
    void *memory;
    memcpy(&memory, items, sizeof memory);
    memory = tessi_realloc(memory, wanted * element_size);
    memcpy(items, &memory, sizeof memory);
    *capacity = wanted;
}
