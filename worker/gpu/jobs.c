/* What the lanes do. A job that cannot be submitted means that its device is broken: nothing is submitted after it. */
#include <inttypes.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "worker/gpu/internal.h"

void tessi_gpus_job_end(struct job *job, enum tessi_status status, const char *text, int64_t ran_ns)
{
    struct tessi_gpus *gpus = job->gpu->all;
    job->status = status;
    job->text = status != TESSI_OK ? tessi_strdup(text) : NULL;
    job->ran_ns = ran_ns;
    job->link.next = NULL;
    (void)pthread_mutex_lock(&gpus->lock);
    *gpus->ended_last = &job->link;
    gpus->ended_last = &job->link.next;
    (void)pthread_mutex_unlock(&gpus->lock);
    if (!atomic_exchange(&gpus->woken, true)) {
        gpus->config.wake(gpus->config.context);
    }
}

/* It ended now, unless the device knows better, and took as long as the stream's events say; but a stream does one thing
 * at a time, and what is told of late must not seem to have begun before the last one ended. */
static void trace(struct job *job, enum tessi_status status, int64_t run_ns)
{
    static const enum tessi_trace_kind kinds[] = {
        [JOB_COPY_IN] = TESSI_TRACE_COPY_IN, [JOB_COPY_OUT] = TESSI_TRACE_COPY_OUT, [JOB_LAUNCH] = TESSI_TRACE_RUN};
    static const int streams[] = {
        [JOB_COPY_IN] = STREAM_IN, [JOB_COPY_OUT] = STREAM_OUT, [JOB_LAUNCH] = STREAM_COMPUTE};
    struct gpu *gpu = job->gpu;
    int stream = streams[job->kind];
    int64_t told_ns = job->kind == JOB_LAUNCH ? job->launch.started_ns : 0;
    int64_t end_ns = told_ns > 0 ? told_ns + run_ns : tessi_clock_now();
    int64_t start_ns = gpu->begun_ns[stream] > 0 ? gpu->begun_ns[stream] : end_ns - run_ns;
    start_ns = start_ns > gpu->traced_ns[stream] ? start_ns : gpu->traced_ns[stream];
    end_ns = end_ns > start_ns ? end_ns : start_ns;
    gpu->traced_ns[stream] = end_ns;
    gpu->begun_ns[stream] = 0;
    if (job->kind == JOB_LAUNCH) {
        tessi_trace_run(gpu->rings[stream], job->task.session, job->task.layer, job->task.index, job->launch.call.step,
                        (uint32_t)status, job->assigned_ns, start_ns, end_ns);
        return;
    }
    tessi_trace_put(gpu->rings[stream], &(struct tessi_trace_record){.index = job->task.index,
                                                                     .start_ns = start_ns,
                                                                     .took_ns = end_ns - start_ns,
                                                                     .amount = job->bytes,
                                                                     .session = job->task.session,
                                                                     .layer = job->task.layer,
                                                                     .peer = gpu->number,
                                                                     .kind = (uint8_t)kinds[job->kind],
                                                                     .why = (uint8_t)status});
}

/* The first of several pieces. */
static void on_piece_done(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    int64_t *begun_ns = context;
    (void)status;
    (void)text;
    *begun_ns = tessi_clock_now() - run_ns;
}

static void on_done(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    struct job *job = context;
    trace(job, status, run_ns);
    if (status != TESSI_OK && (status == TESSI_LOST || job->kind != JOB_LAUNCH)) {
        atomic_store(&job->gpu->failed, true);
        status = TESSI_LOST;
    }
    tessi_gpus_job_end(job, status, text, run_ns);
}

/* Pin the granules that the block lies in, unless it is a neighbour's memory. A failure only makes copies slower; it is
 * said once, and that granule is not tried again. */
static void pin(struct gpu *gpu, const struct tessi_block *block)
{
    struct tessi_gpus *gpus = gpu->all;
    unsigned char *data = tessi_block_data(block);
    uint64_t bytes = tessi_block_bytes(block);
    if (data < gpus->base || data >= gpus->base + gpus->arena_bytes || bytes == 0) {
        return;
    }
    uint64_t first = (uint64_t)(data - gpus->base) / PIN_GRANULE;
    uint64_t last = ((uint64_t)(data - gpus->base) + bytes - 1) / PIN_GRANULE;
    (void)pthread_mutex_lock(&gpus->pin_lock);
    for (uint64_t g = first; g <= last; g++) {
        uint64_t left = gpus->arena_bytes - g * PIN_GRANULE;
        uint64_t length = left < PIN_GRANULE ? left : PIN_GRANULE;
        struct tessi_error error;
        if (gpus->pinned[g] != UNPINNED) {
            continue;
        }
        int64_t began_ns = tessi_clock_now();
        bool done = gpus->found.kind->pin(gpu->device, gpus->base + g * PIN_GRANULE, length, &error) == TESSI_OK;
        gpus->pinned[g] = done ? PINNED : REFUSED;
        gpus->pinned_bytes += done ? length : 0;
        gpus->pinning_ns += tessi_clock_now() - began_ns;
        if (!done && !gpus->pin_refused) {
            gpus->pin_refused = true;
            tessi_log_event(TESSI_LOG_WARN, "not_pinned", "bytes=%" PRIu64 " reason=" TESSI_LOG_TEXT, length, error.text);
        }
    }
    (void)pthread_mutex_unlock(&gpus->pin_lock);
}

void tessi_gpus_unpin_all(struct tessi_gpus *gpus)
{
    for (uint64_t g = 0; gpus->pinned != NULL && g * PIN_GRANULE < gpus->arena_bytes; g++) {
        if (gpus->pinned[g] == PINNED) {
            gpus->found.kind->unpin(gpus->all[0].device, gpus->base + g * PIN_GRANULE);
        }
        gpus->pinned[g] = UNPINNED;
    }
}

/* A copy, cut where one pinned stretch ends and the next begins; the last piece tells the end, and the job may be gone
 * as soon as it has been submitted. */
static enum tessi_status copy(struct job *job, struct tessi_stream *stream, bool in)
{
    const struct tessi_device_kind *kind = job->gpu->all->found.kind;
    unsigned char *host = tessi_block_data(job->host);
    unsigned char *device = job->memory;
    const unsigned char *base = job->gpu->all->base;
    bool ours = host >= base && host < base + job->gpu->all->arena_bytes;
    uint64_t at = 0, bytes = job->bytes;
    enum tessi_status status;
    do {
        uint64_t piece = bytes - at;
        if (ours) {
            uint64_t left = PIN_GRANULE - (uint64_t)(host + at - base) % PIN_GRANULE;
            piece = piece < left ? piece : left;
        }
        bool last = at + piece == bytes;
        void *context = last ? (void *)job : &job->gpu->begun_ns[in ? STREAM_IN : STREAM_OUT];
        status = kind->copy_async(stream, in ? device + at : host + at, in ? host + at : device + at, piece,
                                  last ? on_done : at == 0 ? on_piece_done : NULL, context);
        at += piece;
    } while (status == TESSI_OK && at < bytes);
    return status;
}

static void fail(struct job *job, const char *text)
{
    atomic_store(&job->gpu->failed, true);
    tessi_gpus_job_end(job, TESSI_LOST, text, 0);
}

static void copy_in(struct job *job)
{
    struct gpu *gpu = job->gpu;
    struct tessi_event *event = job->event;
    gpu->all->found.kind->kick(gpu->streams[STREAM_COMPUTE]); /* what follows may take a while */
    pin(gpu, job->host);
    if (copy(job, gpu->streams[STREAM_IN], true) != TESSI_OK) {
        fail(job, "a copy to the device could not be started");
    } else if (gpu->all->found.kind->event_record(gpu->streams[STREAM_IN], event) != TESSI_OK) {
        atomic_store(&gpu->failed, true); /* the job may be gone already */
    }
}

static void copy_out(struct job *job)
{
    struct gpu *gpu = job->gpu;
    struct tessi_error error;
    if (tessi_block_commit(job->host, &error) != TESSI_OK) {
        fail(job, error.text);
        return;
    }
    pin(gpu, job->host);
    if (copy(job, gpu->streams[STREAM_OUT], false) != TESSI_OK) {
        fail(job, "a copy from the device could not be started");
    }
}

static void launch(struct job *job)
{
    struct gpu *gpu = job->gpu;
    const struct tessi_device_kind *kind = gpu->all->found.kind;
    for (uint32_t i = 0; i < job->wait_count; i++) {
        if (kind->stream_wait(gpu->streams[STREAM_COMPUTE], job->waits[i]) != TESSI_OK) {
            fail(job, "a launch could not be ordered after its copies");
            return;
        }
    }
    job->launch.done = on_done;
    job->launch.context = job;
    if (kind->launch(gpu->streams[STREAM_COMPUTE], &job->launch) != TESSI_OK) {
        fail(job, "a launch could not be started");
    }
}

void tessi_gpus_jobs_given(void *context)
{
    struct gpu *gpu = context;
    gpu->all->found.kind->kick(gpu->streams[STREAM_COMPUTE]);
}

void tessi_gpus_job_run(void *context, struct tessi_lane_job *link)
{
    struct job *job = (struct job *)link;
    (void)context;
    if (atomic_load(&job->gpu->failed)) {
        tessi_gpus_job_end(job, TESSI_LOST, "the device is given up", 0);
        return;
    }
    switch (job->kind) {
    case JOB_COPY_IN:
        copy_in(job);
        break;
    case JOB_COPY_OUT:
        copy_out(job);
        break;
    case JOB_LAUNCH:
        launch(job);
        break;
    case JOB_NONE:
        break;
    }
}
