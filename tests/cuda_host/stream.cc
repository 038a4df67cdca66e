/* Streams and events. Each stream has a thread, which does its entries one after the other, each as late as `delay` says; so
 * what no event orders comes in any order. */
#include "host.h"

#include <pthread.h>
#include <time.h>

#include <deque>

struct cuda_host_event {
    int device;
    unsigned int flags;
    struct record *latest;
};

struct record { /* of an event, or of a synchronisation */
    int references;
    bool reached;
    int64_t at_ns;
    char order; /* an address for the race detector */
};

struct entry {
    const char *name;
    cuda_host::work *work;
    record *waits, *records;
    char order;
};

struct cuda_host_stream {
    int device;
    std::deque<entry *> entries;
    bool closing, at_work;
    pthread_t thread;
    cuda_host::generator chance;
};

namespace cuda_host {

static size_t left[DEVICES_MAX]; /* streams and events that nobody has destroyed */
static std::vector<cudaStream_t> *all_streams = new std::vector<cudaStream_t>(); /* they stay: a late use is told, not another's */

static int64_t now_ns()
{
    timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void drop(record *record)
{
    if (record != nullptr && --record->references == 0) {
        delete record;
    }
}

/* Mostly short, sometimes long. */
static void dawdle(cudaStream_t stream)
{
    uint64_t most = get_settings().delay_us;
    if (most > 0) {
        uint64_t us = stream->chance.roll(most + 1);
        us = stream->chance.roll(4) == 0 ? us : us / 16;
        timespec t = {(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
        (void)nanosleep(&t, nullptr);
    }
}

/* Not under the lock, and seen by the race detector. */
static void run_entry(cudaStream_t stream, entry *entry)
{
    dawdle(stream);
    order_acquire(&entry->order);
    if (entry->waits != nullptr) {
        order_acquire(&entry->waits->order);
    }
    if (entry->work != nullptr && broken(stream->device) == cudaSuccess) {
        entry->work->run();
    }
    if (entry->records != nullptr) {
        order_release(&entry->records->order);
    }
}

static entry *take_entry(cudaStream_t stream)
{
    guard held;
    while (stream->entries.empty() && !stream->closing) {
        lock_wait();
    }
    if (stream->entries.empty()) {
        return nullptr;
    }
    entry *next = stream->entries.front();
    stream->entries.pop_front();
    stream->at_work = true;
    while (next->waits != nullptr && !next->waits->reached && broken(stream->device) == cudaSuccess) {
        lock_wait();
    }
    return next;
}

static void end_entry(cudaStream_t stream, entry *entry)
{
    guard held;
    stream->at_work = false;
    if (entry->records != nullptr) {
        entry->records->reached = true;
        entry->records->at_ns = now_ns();
    }
    drop(entry->waits);
    drop(entry->records);
    delete entry->work;
    delete entry;
    lock_notify();
}

static void *stream_main(void *argument)
{
    cudaStream_t stream = (cudaStream_t)argument;
    current_device = stream->device;
    for (entry *next; (next = take_entry(stream)) != nullptr;) {
        run_entry(stream, next);
        end_entry(stream, next);
    }
    block_fini();
    return nullptr;
}

static void enqueue(cudaStream_t stream, const char *name, work *work, record *waits, record *records)
{
    if (stream->closing) {
        complain("%s in a stream that has been destroyed", name);
    }
    entry *made = new entry{name, work, waits, records, 0};
    order_release(&made->order);
    stream->entries.push_back(made);
    lock_notify();
}

void submit(cudaStream_t stream, const char *name, work *work)
{
    enqueue(stream, name, work, nullptr, nullptr);
}

int stream_device(cudaStream_t stream)
{
    return stream->device;
}

int device_of(cudaStream_t stream, const char *function)
{
    if (stream == nullptr) {
        complain("%s in the null stream, which waits for all others", function);
    }
    if (stream->device != current_device) {
        complain("%s in a stream of device %d while device %d is set", function, stream->device, current_device);
    }
    return stream->device;
}

size_t streams_and_events(int device)
{
    return left[device];
}

static record *make_record(int references)
{
    return new record{references, false, 0, 0};
}

/* Until it is reached; drops it. The lock is held. */
static void await(record *record)
{
    while (!record->reached) {
        lock_wait();
    }
    order_acquire(&record->order);
    drop(record);
}

} // namespace cuda_host

using namespace cuda_host;

/* ——— streams ——— */

EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int)
{
    CUDA_HOST_ENTER(current_device);
    guard held;
    cudaStream_t made = new cuda_host_stream();
    made->device = current_device;
    made->chance.state = get_settings().seed + all_streams->size();
    if (pthread_create(&made->thread, nullptr, stream_main, made) != 0) {
        complain("no thread for a stream");
    }
    all_streams->push_back(made);
    left[current_device]++;
    *stream = made;
    return cudaSuccess;
}

/* What is in it still runs. */
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    CUDA_HOST_ENTER(stream->device);
    {
        guard held;
        stream->closing = true;
        left[stream->device]--;
        lock_notify();
    }
    (void)pthread_join(stream->thread, nullptr);
    return cudaSuccess;
}

EXPORT cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    CUDA_HOST_ENTER(stream->device);
    guard held;
    return stream->entries.empty() && !stream->at_work ? cudaSuccess : cudaErrorNotReady;
}

EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    CUDA_HOST_ENTER(stream->device);
    guard held;
    record *end = make_record(2);
    enqueue(stream, __func__, nullptr, nullptr, end);
    await(end);
    return note(broken(stream->device));
}

EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
    CUDA_HOST_ENTER(stream->device);
    guard held;
    if (event->latest != nullptr) {
        event->latest->references++;
        enqueue(stream, __func__, nullptr, event->latest, nullptr);
    }
    return cudaSuccess;
}

/* ——— events ——— */

EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    CUDA_HOST_ENTER(current_device);
    guard held;
    *event = new cuda_host_event{current_device, flags, nullptr};
    left[current_device]++;
    return cudaSuccess;
}

EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    int device = event->device;
    {
        guard held; /* whatever befalls the call: of a broken device too nobody keeps the event */
        left[device]--;
        drop(event->latest);
        delete event;
    }
    CUDA_HOST_ENTER(device);
    return cudaSuccess;
}

EXPORT cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    CUDA_HOST_ENTER(stream->device);
    if (event->device != stream->device) {
        complain("an event of device %d is recorded in a stream of device %d", event->device, stream->device);
    }
    guard held;
    drop(event->latest);
    event->latest = make_record(2);
    enqueue(stream, __func__, nullptr, nullptr, event->latest);
    return cudaSuccess;
}

/* NOT READY is an answer, and no error that a later call could be blamed for. */
EXPORT cudaError_t cudaEventQuery(cudaEvent_t event)
{
    CUDA_HOST_ENTER(event->device);
    guard held;
    if (event->latest != nullptr && !event->latest->reached) {
        return cudaErrorNotReady;
    }
    if (event->latest != nullptr) {
        order_acquire(&event->latest->order);
    }
    return cudaSuccess;
}

EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    CUDA_HOST_ENTER(event->device);
    guard held;
    if (event->latest != nullptr) {
        event->latest->references++;
        await(event->latest);
    }
    return note(broken(event->device));
}

EXPORT cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    CUDA_HOST_ENTER(from->device);
    guard held;
    if (from->latest == nullptr || to->latest == nullptr || ((from->flags | to->flags) & cudaEventDisableTiming) != 0) {
        return note(cudaErrorInvalidResourceHandle);
    }
    if (!from->latest->reached || !to->latest->reached) {
        return cudaErrorNotReady;
    }
    *milliseconds = (float)((double)(to->latest->at_ns - from->latest->at_ns) / 1e6);
    return cudaSuccess;
}

/* ——— for blas.cc, which is part of the plugin ——— */

EXPORT void cuda_host_submit(cudaStream_t stream, cuda_host::work *work)
{
    guard held;
    submit(stream, "cublasGemmEx", work);
}

EXPORT int cuda_host_stream_device(cudaStream_t stream)
{
    return stream_device(stream);
}

EXPORT int cuda_host_in_device_memory(const void *pointer, size_t bytes)
{
    guard held;
    return in_device_memory(pointer, bytes) ? 1 : 0;
}

EXPORT int cuda_host_enter_blas(const char *function)
{
    guard held;
    int code = forced_failure(function);
    return broken(current_device) != cudaSuccess ? 13 : code;
}

EXPORT int cuda_host_device(void)
{
    return current_device;
}
