/* A bounded ring of trace records with one writer, which never waits, and a reader on another thread.
 *
 * To write a record is six plain stores and one that publishes them: no lock, no allocation, no system
 * call. The newest records are kept, one fewer than there is room for, since the writer may be at work
 * on the next. A reader copies some and then looks again at how far the writer has come; what may have
 * been overwritten meanwhile it drops. */
#ifndef TESSI_TRACE_RING_H
#define TESSI_TRACE_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/graph/trace.h"

#define TESSI_TRACE_WORDS 6
_Static_assert(TESSI_TRACE_WORDS * 8 == TESSI_TRACE_RECORD_BYTES, "a record is so many words");
_Static_assert(offsetof(struct tessi_trace_record, took_ns) == 16 &&
                   offsetof(struct tessi_trace_record, session) == 32 &&
                   offsetof(struct tessi_trace_record, peer) == 40 && offsetof(struct tessi_trace_record, why) == 47 &&
                   __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the words of a record are its memory");
#define TESSI_TRACE_CAPACITY_MAX (UINT32_C(1) << 30)

struct tessi_trace_ring {
    _Atomic uint64_t *words; /* owned; pages are touched as they are first written */
    uint64_t mask;
    _Atomic uint64_t written; /* records ever; the writer's alone to change */
    char padding[104];        /* wherever this lies, no other ring shares the writer's cache line */
};

/* Room for `capacity` records, rounded up to a power of two, 48 bytes each. 0: one, so that nothing of a run is kept. */
void tessi_trace_ring_init(struct tessi_trace_ring *ring, uint32_t capacity);
void tessi_trace_ring_fini(struct tessi_trace_ring *ring);

/* Released, so that who sees a word of a record also sees how many records were complete before it. */
static inline void tessi_trace_word(_Atomic uint64_t *place, uint64_t word)
{
    atomic_store_explicit(place, word, memory_order_release);
}

static inline void tessi_trace_put(struct tessi_trace_ring *ring, const struct tessi_trace_record *record)
{
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    _Atomic uint64_t *place = ring->words + (written & ring->mask) * TESSI_TRACE_WORDS;
    /* Word by word: a copy of the struct would make the compiler build it in memory first. */
    tessi_trace_word(&place[0], record->index);
    tessi_trace_word(&place[1], (uint64_t)record->start_ns);
    tessi_trace_word(&place[2], record->giver);
    tessi_trace_word(&place[3], record->amount);
    tessi_trace_word(&place[4], record->session | (uint64_t)record->layer << 32);
    tessi_trace_word(&place[5], record->peer | (uint64_t)record->lane << 32 | (uint64_t)record->kind << 48 |
                                    (uint64_t)record->why << 56);
    atomic_store_explicit(&ring->written, written + 1, memory_order_release);
}

/* A step of a task has run, from `start_ns` to `end_ns`; it was assigned here at `assigned_ns`. `status` is how it
 * ended. By the ring's writer only. */
static inline void tessi_trace_run(struct tessi_trace_ring *ring, uint32_t session, uint32_t layer, uint64_t index,
                                   uint32_t step, uint32_t status, int64_t assigned_ns, int64_t start_ns,
                                   int64_t end_ns)
{
    int64_t wait_ns = start_ns - assigned_ns;
    tessi_trace_put(ring, &(struct tessi_trace_record){.index = index,
                                                       .start_ns = start_ns,
                                                       .took_ns = end_ns - start_ns,
                                                       .amount = wait_ns > 0 ? (uint64_t)wait_ns : 0,
                                                       .session = session,
                                                       .layer = layer,
                                                       .peer = step,
                                                       .kind = TESSI_TRACE_RUN,
                                                       .why = (uint8_t)status});
}

/* Records ever written. */
uint64_t tessi_trace_written(const struct tessi_trace_ring *ring);

/* Copy up to `max` records, the first of them number `*from` or, when that has been overwritten, the oldest that is
 * left; `*from` becomes the number of the first one copied. Returns how many; 0: there are none from there on. */
size_t tessi_trace_read(const struct tessi_trace_ring *ring, uint64_t *from, struct tessi_trace_record *records,
                        size_t max);

#endif
