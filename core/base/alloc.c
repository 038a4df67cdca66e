#include "core/base/alloc.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/assert.h"

#define RESERVE_GROWS ((size_t)64 << 20) /* by so much at most: it may be a good part of all addresses there are */

static _Thread_local uint64_t fail_countdown;

/* Address space that nobody uses: it is given back to the system when that has nothing more. It begins with its size. */
static _Atomic(size_t *) reserve;

/* Of all pieces so far. An array that is as large as that and grows needs less than twice as much. */
static atomic_size_t largest;

static size_t reserve_bytes(void)
{
    size_t twice = 2 * atomic_load_explicit(&largest, memory_order_relaxed);
    return TESSI_RESERVE_BYTES + (twice < RESERVE_GROWS ? twice : RESERVE_GROWS);
}

static void note_size(size_t size)
{
    size_t before = atomic_load_explicit(&largest, memory_order_relaxed);
    while (size > TESSI_SMALL_BYTES && size > before &&
           !atomic_compare_exchange_weak_explicit(&largest, &before, size, memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* A test's: calls are counted down to the one that finds no memory; from there on what the reserve gives is counted. */
static atomic_bool is_ending;
static atomic_uint_fast64_t ending_calls, ending_at, ending_taken;

static _Noreturn void out_of_memory(size_t size)
{
    (void)fprintf(stderr, "tessera: out of memory: %zu bytes of metadata could not be allocated\n", size);
    abort();
}

static bool has_ended(void)
{
    return atomic_load_explicit(&is_ending, memory_order_relaxed) && atomic_load(&ending_calls) >= atomic_load(&ending_at);
}

/* Whether this call finds no memory, since a test says so. */
static bool is_denied(void)
{
    return atomic_load_explicit(&is_ending, memory_order_relaxed) &&
           atomic_fetch_add(&ending_calls, 1) + 1 >= atomic_load(&ending_at);
}

/* There was no memory of that size: make room, if it is not too much. False: there is none to make. */
static bool give_reserve(size_t size)
{
    if (has_ended()) {
        return atomic_fetch_add(&ending_taken, size) + size <= reserve_bytes();
    }
    size_t *memory = atomic_exchange(&reserve, NULL);
    return memory != NULL && munmap(memory, *memory) == 0;
}

static void *set_aside(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* There is a reserve, and it is as large as it is to be by now. */
static bool renew_reserve(void)
{
    static atomic_size_t kept; /* bytes of what `reserve` was last, which may be gone */
    size_t bytes = reserve_bytes();
    if (atomic_load_explicit(&reserve, memory_order_relaxed) != NULL && atomic_load(&kept) >= bytes) {
        return true;
    }
    size_t *memory = set_aside(bytes);
    if (memory == NULL) {
        return false;
    }
    *memory = bytes;
    size_t *old = atomic_exchange(&reserve, memory);
    atomic_store(&kept, bytes);
    return old == NULL || munmap(old, *old) == 0;
}

bool tessi_memory_ready(size_t bytes)
{
    if (has_ended()) {
        return false;
    }
    if (!renew_reserve()) {
        return false;
    }
    if (bytes > TESSI_SMALL_BYTES) {
        void *probe = set_aside(bytes);
        return probe != NULL && munmap(probe, bytes) == 0;
    }
    return true;
}

static void *allocate(size_t size)
{
    void *memory = is_denied() ? NULL : malloc(size > 0 ? size : 1);
    if (memory == NULL && give_reserve(size)) {
        memory = malloc(size > 0 ? size : 1);
    }
    note_size(memory != NULL ? size : 0);
    return memory;
}

void *tessi_alloc(size_t size)
{
    void *memory = allocate(size);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

void *tessi_zalloc(size_t size)
{
    void *memory = is_denied() ? NULL : calloc(1, size > 0 ? size : 1);
    if (memory == NULL && give_reserve(size)) {
        memory = calloc(1, size > 0 ? size : 1);
    }
    if (memory == NULL) {
        out_of_memory(size);
    }
    note_size(size);
    return memory;
}

void *tessi_realloc(void *memory, size_t size)
{
    void *moved = is_denied() ? NULL : realloc(memory, size > 0 ? size : 1);
    if (moved == NULL && give_reserve(size)) {
        moved = realloc(memory, size > 0 ? size : 1);
    }
    if (moved == NULL) {
        out_of_memory(size);
    }
    note_size(size);
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
    if (size <= TESSI_SMALL_BYTES) {
        return allocate(size);
    }
    return is_denied() ? NULL : malloc(size);
}

void tessi_alloc_fail_at(uint64_t nth)
{
    fail_countdown = nth;
}

uint64_t tessi_memory_ends_at(uint64_t nth)
{
    atomic_store(&is_ending, false);
    uint64_t calls = atomic_load(&ending_calls);
    atomic_store(&ending_calls, 0);
    atomic_store(&ending_taken, 0);
    atomic_store(&ending_at, nth);
    atomic_store(&is_ending, nth > 0);
    return calls;
}

/* Very many arrays never hold more than what they begin with. */
static size_t grown(size_t capacity, size_t need)
{
    size_t wanted = capacity == 0 ? need : capacity + capacity / 2 + 8;
    return wanted < need ? need : wanted;
}

bool tessi_try_grow(void *items, size_t *capacity, size_t need, size_t element_size)
{
    if (need <= *capacity) {
        return true;
    }
    size_t wanted = grown(*capacity, need);
    void *memory;
    memcpy(&memory, items, sizeof memory);
    if (wanted > SIZE_MAX / element_size) {
        return false;
    }
    if (wanted * element_size <= TESSI_SMALL_BYTES) {
        memory = tessi_realloc(memory, wanted * element_size);
    } else {
        memory = is_denied() ? NULL : realloc(memory, wanted * element_size);
    }
    if (memory == NULL) {
        return false;
    }
    memcpy(items, &memory, sizeof memory);
    *capacity = wanted;
    return true;
}

void tessi_grow_more(void *items, size_t *capacity, size_t need, size_t element_size)
{
    size_t wanted = grown(*capacity, need);
    TESS_ASSERT(wanted <= SIZE_MAX / element_size);
    void *memory;
    memcpy(&memory, items, sizeof memory);
    memory = tessi_realloc(memory, wanted * element_size);
    memcpy(items, &memory, sizeof memory);
    *capacity = wanted;
}
