#include "worker/trace/ring.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

void tessi_trace_ring_init(struct tessi_trace_ring *ring, uint32_t capacity)
{
    uint64_t size = 1;
    while (size < capacity && size < TESSI_TRACE_CAPACITY_MAX) {
        size *= 2;
    }
    ring->words = tessi_zalloc((size_t)size * TESSI_TRACE_RECORD_BYTES);
    ring->mask = size - 1;
    atomic_init(&ring->written, 0);
}

void tessi_trace_ring_fini(struct tessi_trace_ring *ring)
{
    tessi_free((void *)ring->words);
    ring->words = NULL;
}

uint64_t tessi_trace_written(const struct tessi_trace_ring *ring)
{
    return atomic_load_explicit(&ring->written, memory_order_acquire);
}

/* The oldest record that a writer which has completed `written` cannot be overwriting at this moment. */
static uint64_t oldest_safe(const struct tessi_trace_ring *ring, uint64_t written)
{
    return written > ring->mask ? written - ring->mask : 0;
}

size_t tessi_trace_read(const struct tessi_trace_ring *ring, uint64_t *from, struct tessi_trace_record *records,
                        size_t max)
{
    uint64_t written = tessi_trace_written(ring);
    uint64_t oldest = oldest_safe(ring, written);
    uint64_t first = *from > oldest ? *from : oldest;
    if (first >= written || max == 0) {
        *from = first;
        return 0;
    }
    size_t count = written - first < max ? (size_t)(written - first) : max;
    for (size_t r = 0; r < count; r++) {
        const _Atomic uint64_t *place = ring->words + ((first + r) & ring->mask) * TESSI_TRACE_WORDS;
        uint64_t words[TESSI_TRACE_WORDS];
        for (size_t i = 0; i < TESSI_TRACE_WORDS; i++) {
            words[i] = atomic_load_explicit(&place[i], memory_order_acquire);
        }
        memcpy(&records[r], words, sizeof words);
    }
    oldest = oldest_safe(ring, tessi_trace_written(ring));
    size_t spoilt = oldest > first ? (oldest - first < count ? (size_t)(oldest - first) : count) : 0;
    memmove(records, records + spoilt, (count - spoilt) * sizeof *records);
    *from = first + spoilt;
    return count - spoilt;
}
