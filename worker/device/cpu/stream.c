/* A stream of the CPU is a thread with a bounded queue.
 *
 * The queue is a ring with one writer and one reader, so that an entry costs neither a lock nor a system call
 * while the thread is busy. It sleeps when the ring is empty, and only then it is woken. A launch that comes
 * after another stream's entry looks for its end for a few tens of microseconds before it sleeps too.
 *
 * Who submits may also run what waits itself while the thread sleeps (`help`): a step of a few microseconds
 * takes less than waking a thread for it. `turn` says whose the stream is:
 *
 *     THREAD ──(ring empty, or gives way)──> NOBODY ──(kick, or comes back)──> THREAD
 *                                            NOBODY ──(help)──> HELPER ──(done)──> NOBODY
 *
 * A thread gives way where somebody else needs its processor. Rather than wait for the end of a step that such a
 * thread would run next, another stream's thread runs it: it has a processor, and the one that it waits for has
 * none. */
#include "worker/device/cpu/stream.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/relax.h"
#include "worker/device/cpu/cpu.h"
#include "worker/device/cpu/processor.h"

#define DEPTH_DEFAULT 64
#define DEPTH_MAX 65536
#define BRIEF_NS INT64_C(50000) /* of an entry: less than what it takes to wake somebody and to go on with him */
#define SPINS 2000              /* looks at another stream, a pause apart, before sleeping: some tens of microseconds */

enum turn { TURN_THREAD, TURN_NOBODY, TURN_HELPER }; /* who takes entries, and writes what the thread writes */

/* Of the thread; it takes its turn back itself, when it has a processor again. */
enum presence { PRESENT, AWAY, WAITING, RETURNING };

struct tessi_stream {
    struct tessi_device *device;
    struct tessi_stream *next_closed;
    pthread_t thread;
    uint32_t depth;
    struct tessi_cpu_entry *ring;                /* entry n is at n % depth */
    _Alignas(64) atomic_uint_fast64_t submitted; /* entries; written by who submits */
    _Alignas(64) atomic_uint_fast64_t taken;     /* out of the ring; this and what follows is written by the thread */
    atomic_uint_fast64_t ended;
    atomic_uint_fast64_t failed;           /* number of the last entry that did not end well */
    atomic_int processor;                  /* where the last entry was begun */
    bool brief;                            /* it was a short one */
    bool owes;                             /* who waits for it has not been told of its end */
    _Alignas(64) atomic_uint turn;         /* enum turn; the thread waits for `filled` unless it is its own */
    atomic_uint waiting;                   /* threads that wait for `progress`, */
    _Atomic(struct tessi_stream *) waiter; /* and the stream of one of them */
    atomic_uint presence;                  /* enum presence */
    atomic_bool closing;
    struct tessi_processor_stay stay; /* of the thread */
    pthread_mutex_t lock;
    pthread_cond_t filled;
    pthread_cond_t progress;
};

static void event_reach(struct tessi_event *event, uint64_t ticket)
{
    (void)pthread_mutex_lock(&event->lock);
    if (ticket > event->reached) {
        event->reached = ticket;
    }
    (void)pthread_cond_broadcast(&event->changed);
    (void)pthread_mutex_unlock(&event->lock);
}

void tessi_cpu_event_await(struct tessi_event *event, uint64_t ticket)
{
    (void)pthread_mutex_lock(&event->lock);
    while (event->reached < ticket) {
        (void)pthread_cond_wait(&event->changed, &event->lock);
    }
    (void)pthread_mutex_unlock(&event->lock);
}

/* --- the stream's thread --- */

static bool is_empty(const struct tessi_stream *stream)
{
    return atomic_load(&stream->submitted) == atomic_load_explicit(&stream->taken, memory_order_relaxed);
}

static void note_processor(struct tessi_stream *stream)
{
    int here = sched_getcpu();
    if (atomic_load_explicit(&stream->processor, memory_order_relaxed) != here) {
        atomic_store_explicit(&stream->processor, here, memory_order_relaxed);
    }
}

static void tell_waiters(struct tessi_stream *stream)
{
    if (atomic_load(&stream->waiting) > 0) {
        (void)pthread_mutex_lock(&stream->lock);
        (void)pthread_cond_broadcast(&stream->progress);
        (void)pthread_mutex_unlock(&stream->lock);
    }
}

/* The next entry has nothing to wait for. */
static bool is_free(const struct tessi_stream *stream)
{
    const struct tessi_cpu_entry *entry =
        &stream->ring[atomic_load_explicit(&stream->taken, memory_order_relaxed) % stream->depth];
    if (entry->kind == TESSI_CPU_LAUNCH) {
        const struct tessi_launch *launch = entry->as.launch;
        for (uint32_t i = 0; i < launch->after_count; i++) {
            struct tessi_stream *other = launch->after[i].stream;
            if (other != stream && atomic_load_explicit(&other->ended, memory_order_acquire) < launch->after[i].last) {
                return false;
            }
        }
    }
    return true;
}

/* A thread that comes to a step that waits for the very stream that waits for this one runs what that one has left
 * itself, if it takes no longer than waking it would. */
static bool looks_itself(const struct tessi_stream *stream)
{
    if (!stream->brief || atomic_load_explicit(&stream->turn, memory_order_relaxed) != TURN_THREAD ||
        is_empty(stream) || atomic_load(&stream->waiting) != 1) {
        return false;
    }
    struct tessi_stream *waiter = atomic_load_explicit(&stream->waiter, memory_order_relaxed);
    const struct tessi_cpu_entry *entry =
        &stream->ring[atomic_load_explicit(&stream->taken, memory_order_relaxed) % stream->depth];
    bool found = false;
    for (uint32_t i = 0; entry->kind == TESSI_CPU_LAUNCH && i < entry->as.launch->after_count; i++) {
        const struct tessi_after *after = &entry->as.launch->after[i];
        found = found || (after->stream == waiter && atomic_load(&waiter->ended) < after->last);
    }
    return found;
}

static void end_entry(struct tessi_stream *stream, enum tessi_status status)
{
    uint64_t number = atomic_load_explicit(&stream->ended, memory_order_relaxed) + 1;
    if (status != TESSI_OK) {
        atomic_store_explicit(&stream->failed, number, memory_order_relaxed);
    }
    atomic_store(&stream->ended, number);
    if (atomic_load(&stream->waiting) > 0) {
        if (looks_itself(stream)) {
            stream->owes = true;
        } else {
            tell_waiters(stream);
        }
    }
}

/* Whether what the launch comes after has ended well. A failure of a later entry than the one meant may be taken for
 * one of its own: the launch is then handed over once more. */
static enum tessi_status outcome_before(const struct tessi_stream *stream, const struct tessi_launch *launch)
{
    bool well = true;
    for (uint32_t i = 0; i < launch->after_count; i++) {
        struct tessi_stream *other = launch->after[i].stream;
        TESS_ASSERT(other == stream ||
                    atomic_load_explicit(&other->ended, memory_order_acquire) >= launch->after[i].last);
        well = well && atomic_load_explicit(&other->failed, memory_order_relaxed) < launch->after[i].first;
    }
    return well ? TESSI_OK : TESSI_CANCELLED;
}

static void run_launch(struct tessi_stream *stream, struct tessi_launch *launch)
{
    struct tessi_error error;
    error.text[0] = 0;
    enum tessi_status status = outcome_before(stream, launch);
    int64_t start_ns = tessi_clock_now(); /* not when the last one ended: its callback may have woken somebody */
    launch->started_ns = start_ns;
    if (status == TESSI_OK && launch->prepare != NULL) {
        status = launch->prepare(launch->context, &launch->call, &error);
    }
    if (status == TESSI_OK) {
        status = tessi_kernel_run(&launch->call, &error);
    }
    int64_t end_ns = tessi_clock_now();
    stream->brief = end_ns - start_ns < BRIEF_NS;
    end_entry(stream, status);
    launch->done(launch->context, status, status == TESSI_OK ? "" : error.text, end_ns - start_ns);
}

static void run_copy(struct tessi_stream *stream, const struct tessi_cpu_entry *entry)
{
    int64_t start_ns = tessi_clock_now();
    if (entry->as.copy.bytes > 0) {
        memcpy(entry->as.copy.to, entry->as.copy.from, entry->as.copy.bytes);
    }
    int64_t end_ns = tessi_clock_now();
    end_entry(stream, TESSI_OK);
    if (entry->as.copy.done != NULL) {
        entry->as.copy.done(entry->as.copy.context, TESSI_OK, "", end_ns - start_ns);
    }
}

static void run_entry(struct tessi_stream *stream, const struct tessi_cpu_entry *entry)
{
    switch (entry->kind) {
    case TESSI_CPU_LAUNCH:
        run_launch(stream, entry->as.launch);
        break;
    case TESSI_CPU_COPY:
        run_copy(stream, entry);
        break;
    case TESSI_CPU_EVENT:
        end_entry(stream, TESSI_OK);
        event_reach(entry->as.mark.event, entry->as.mark.ticket);
        break;
    case TESSI_CPU_WAIT:
        tessi_cpu_event_await(entry->as.mark.event, entry->as.mark.ticket);
        end_entry(stream, TESSI_OK);
        break;
    }
}

static bool turn_pass(struct tessi_stream *stream, enum turn from, enum turn to)
{
    unsigned expected = from;
    return atomic_compare_exchange_strong(&stream->turn, &expected, to);
}

static bool is_present(const struct tessi_stream *stream)
{
    return atomic_load(&stream->presence) == PRESENT;
}

/* Sleep for as long as others need the processor; others may run what is in the ring meanwhile. */
static void stay_away(struct tessi_stream *stream)
{
    tell_waiters(stream);
    (void)pthread_mutex_lock(&stream->lock);
    atomic_store(&stream->turn, TURN_NOBODY);
    while (atomic_load(&stream->presence) == AWAY && !atomic_load(&stream->closing)) {
        (void)pthread_cond_wait(&stream->filled, &stream->lock);
    }
    atomic_store(&stream->presence, PRESENT);
    (void)pthread_mutex_unlock(&stream->lock);
    (void)atomic_fetch_sub(&stream->device->away, 1);
}

/* Wait until the stream has something to run and is the thread's. False when it closes and nothing is left. */
static bool take_turn(struct tessi_stream *stream)
{
    (void)pthread_mutex_lock(&stream->lock);
    for (;;) {
        /* Who submits looks at the turn afterwards, and who helps looks at the ring after it has given the turn back:
         * one of the two sees the other. */
        bool wanted = !is_empty(stream) || atomic_load(&stream->closing);
        bool own = (wanted && turn_pass(stream, TURN_NOBODY, TURN_THREAD)) || atomic_load(&stream->turn) == TURN_THREAD;
        if (own && (!is_empty(stream) || atomic_load(&stream->closing))) {
            break;
        }
        if (own) {
            atomic_store(&stream->turn, TURN_NOBODY); /* who kicked it meant an earlier sleep, or somebody has helped */
        } else {
            (void)pthread_cond_wait(&stream->filled, &stream->lock);
        }
    }
    (void)pthread_mutex_unlock(&stream->lock);
    return !is_empty(stream);
}

static bool sleep_until_filled(struct tessi_stream *stream)
{
    tell_waiters(stream);
    tessi_processor_let_go(&stream->stay, 0, true);
    atomic_store(&stream->turn, TURN_NOBODY);
    return take_turn(stream);
}

static void run_next(struct tessi_stream *stream)
{
    uint64_t taken = atomic_load_explicit(&stream->taken, memory_order_relaxed);
    /* Copied out, so that its place can be filled again while it runs. */
    struct tessi_cpu_entry entry = stream->ring[taken % stream->depth];
    atomic_store_explicit(&stream->taken, taken + 1, memory_order_release);
    run_entry(stream, &entry);
}

static void wake_thread(struct tessi_stream *stream)
{
    (void)pthread_mutex_lock(&stream->lock);
    (void)pthread_mutex_unlock(&stream->lock); /* it has gone to sleep, or will see what there is to do */
    (void)pthread_cond_signal(&stream->filled);
}

enum tessi_status tessi_cpu_submit(struct tessi_stream *stream, const struct tessi_cpu_entry *entry)
{
    uint64_t number = atomic_load_explicit(&stream->submitted, memory_order_relaxed);
    if (number - atomic_load_explicit(&stream->taken, memory_order_acquire) == stream->depth) {
        return TESSI_BUSY;
    }
    stream->ring[number % stream->depth] = *entry;
    atomic_store(&stream->submitted, number + 1);
    return TESSI_OK;
}

void tessi_cpu_kick(struct tessi_stream *stream)
{
    if (atomic_load(&stream->turn) == TURN_NOBODY && is_present(stream) &&
        turn_pass(stream, TURN_NOBODY, TURN_THREAD)) {
        wake_thread(stream);
    }
}

/* Who submits and who comes back look at the turn afterwards, and who helps looks at what they have said after it has
 * given the turn back: one of the two sees the other. */
static void end_help(struct tessi_stream *stream)
{
    atomic_store(&stream->turn, TURN_NOBODY);
    if (!is_empty(stream) || atomic_load(&stream->closing)) {
        tessi_cpu_kick(stream);
    }
}

bool tessi_cpu_help(struct tessi_stream *stream)
{
    if (!is_present(stream) || !turn_pass(stream, TURN_NOBODY, TURN_HELPER)) {
        return false;
    }
    bool ran = false;
    while (!is_empty(stream) && is_free(stream)) {
        run_next(stream);
        ran = true;
    }
    end_help(stream);
    return ran;
}

/* From another stream's thread that waits for the entry. */
static bool help_until(struct tessi_stream *stream, uint64_t entry)
{
    if (!turn_pass(stream, TURN_NOBODY, TURN_HELPER)) {
        return false;
    }
    while (atomic_load_explicit(&stream->ended, memory_order_relaxed) < entry && !is_empty(stream) && is_free(stream)) {
        run_next(stream);
    }
    bool done = atomic_load_explicit(&stream->ended, memory_order_relaxed) >= entry;
    end_help(stream);
    return done;
}

/* --- the stream's thread waits for others --- */

/* It is worth looking while the other runs at the same time: on a processor of its own. */
static bool runs_beside(struct tessi_stream *own, const struct tessi_stream *other)
{
    if (atomic_load_explicit(&own->device->streams, memory_order_relaxed) > own->device->processors) {
        return false;
    }
    note_processor(own);
    if (atomic_load_explicit(&other->processor, memory_order_relaxed) != sched_getcpu()) {
        return true;
    }
    bool left = tessi_processor_leave(&own->stay, tessi_clock_now());
    note_processor(own);
    return left;
}

static bool is_left(const struct tessi_stream *stream)
{
    return atomic_load_explicit(&stream->turn, memory_order_relaxed) == TURN_NOBODY;
}

/* Run what the other has left, or look for its end for a moment. */
static bool look_for_end(struct tessi_stream *own, struct tessi_stream *other, uint64_t entry)
{
    own->owes = false;
    if (is_left(other) && help_until(other, entry)) {
        return true;
    }
    tell_waiters(own);
    if (own->stay.stays) {
        tessi_processor_let_go(&own->stay, tessi_clock_now(), false);
    }
    int looks = runs_beside(own, other) ? SPINS : 0;
    for (int i = 0; i < looks; i++) {
        if (atomic_load_explicit(&other->ended, memory_order_acquire) >= entry ||
            (is_left(other) && help_until(other, entry))) {
            return true;
        }
        tessi_relax();
    }
    return false;
}

/* The stream is left meanwhile: who is waited for may run what it waits for itself. */
static void sleep_for_end(struct tessi_stream *own, struct tessi_stream *other, uint64_t entry)
{
    atomic_store(&own->presence, WAITING);
    atomic_store(&own->turn, TURN_NOBODY);
    (void)pthread_mutex_lock(&other->lock);
    atomic_store(&other->waiter, own);
    (void)atomic_fetch_add(&other->waiting, 1);
    while (atomic_load(&other->ended) < entry) {
        (void)pthread_cond_wait(&other->progress, &other->lock);
    }
    (void)atomic_fetch_sub(&other->waiting, 1);
    (void)pthread_mutex_unlock(&other->lock);
    atomic_store(&own->presence, PRESENT);
}

/* What the next entry comes after. False when the stream closes and nothing is left. */
static bool wait_for_others(struct tessi_stream *stream)
{
    const struct tessi_cpu_entry *entry =
        &stream->ring[atomic_load_explicit(&stream->taken, memory_order_relaxed) % stream->depth];
    const struct tessi_launch *launch = entry->as.launch;
    for (uint32_t i = 0; i < launch->after_count; i++) {
        struct tessi_stream *other = launch->after[i].stream;
        uint64_t last = launch->after[i].last;
        if (other != stream && atomic_load_explicit(&other->ended, memory_order_acquire) < last &&
            !look_for_end(stream, other, last)) {
            sleep_for_end(stream, other, last);
            return take_turn(stream);
        }
    }
    return true;
}

static void *stream_main(void *argument)
{
    struct tessi_stream *stream = argument;
    bool open = true;
    while (open) {
        bool away = atomic_load_explicit(&stream->presence, memory_order_relaxed) != PRESENT;
        if (away) {
            stay_away(stream);
            open = take_turn(stream);
        } else if (is_empty(stream)) {
            open = sleep_until_filled(stream);
        } else if (is_free(stream)) {
            if (stream->owes) {
                stream->owes = false;
                tell_waiters(stream);
            }
            note_processor(stream);
            run_next(stream);
        } else {
            open = wait_for_others(stream);
        }
    }
    return NULL;
}

/* --- who submits --- */

void tessi_cpu_give_way(struct tessi_stream *stream)
{
    struct tessi_device *device = stream->device;
    unsigned none = 0;
    bool own = atomic_load_explicit(&stream->turn, memory_order_relaxed) == TURN_THREAD;
    unsigned streams = atomic_load_explicit(&device->streams, memory_order_relaxed);
    if (own && stream->brief && streams > 1 && streams >= device->processors &&
        atomic_compare_exchange_strong(&device->away, &none, 1)) {
        atomic_store(&stream->presence, AWAY);
    }
}

void tessi_cpu_come_back(struct tessi_stream *stream)
{
    unsigned away = AWAY;
    if (atomic_load(&stream->presence) == AWAY && atomic_compare_exchange_strong(&stream->presence, &away, RETURNING)) {
        wake_thread(stream);
    }
    tell_waiters(stream);
}

/* --- its life --- */

static void stream_destroy(struct tessi_stream *stream)
{
    (void)pthread_cond_destroy(&stream->progress);
    (void)pthread_cond_destroy(&stream->filled);
    (void)pthread_mutex_destroy(&stream->lock);
    tessi_free(stream->ring);
    free(stream);
}

enum tessi_status tessi_cpu_stream_open(struct tessi_device *device, const struct tessi_stream_options *options,
                                        struct tessi_stream **out, struct tessi_error *error)
{
    pthread_attr_t attributes;
    cpu_set_t cores;
    if (options->depth > DEPTH_MAX || (options->pin && options->core >= CPU_SETSIZE)) {
        return tessi_fail(error, TESSI_INVALID, "a stream of depth %u on processor %u: at most %d and %d",
                          options->depth, options->core, DEPTH_MAX, CPU_SETSIZE - 1);
    }
    struct tessi_stream *stream = aligned_alloc(_Alignof(struct tessi_stream), sizeof *stream);
    if (stream == NULL) {
        return tessi_fail(error, TESSI_NOMEM, "no memory for a stream");
    }
    memset(stream, 0, sizeof *stream);
    stream->device = device;
    stream->depth = options->depth > 0 ? options->depth : DEPTH_DEFAULT;
    stream->ring = tessi_alloc(stream->depth * sizeof *stream->ring);
    (void)pthread_mutex_init(&stream->lock, NULL);
    (void)pthread_cond_init(&stream->filled, NULL);
    (void)pthread_cond_init(&stream->progress, NULL);
    (void)pthread_attr_init(&attributes);
    if (options->pin) {
        CPU_ZERO(&cores);
        CPU_SET(options->core, &cores);
        (void)pthread_attr_setaffinity_np(&attributes, sizeof cores, &cores);
    }
    int failure = pthread_create(&stream->thread, &attributes, stream_main, stream);
    (void)pthread_attr_destroy(&attributes);
    if (failure != 0) {
        stream_destroy(stream);
        return tessi_fail(error, failure == EINVAL ? TESSI_INVALID : TESSI_NOMEM,
                          "a stream's thread cannot start%s: %s", options->pin ? " on its processor" : "",
                          strerror(failure));
    }
    (void)atomic_fetch_add(&device->streams, 1);
    *out = stream;
    return TESSI_OK;
}

void tessi_cpu_stream_close(struct tessi_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    atomic_store(&stream->closing, true);
    (void)turn_pass(stream, TURN_NOBODY, TURN_THREAD);
    wake_thread(stream);
    (void)pthread_join(stream->thread, NULL);
    (void)atomic_fetch_sub(&stream->device->streams, 1);
    stream->next_closed = atomic_load(&stream->device->closed);
    while (!atomic_compare_exchange_weak(&stream->device->closed, &stream->next_closed, stream)) {
    }
}

void tessi_cpu_streams_free(struct tessi_device *device)
{
    for (struct tessi_stream *stream = atomic_load(&device->closed), *next; stream != NULL; stream = next) {
        next = stream->next_closed;
        stream_destroy(stream);
    }
}
