#include "client/embedded/embedded.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/signals.h"
#include "core/server/scheduler.h"
#include "worker/settings.h"
#include "worker/worker.h"

#define JOIN_TIMEOUT_NS (10 * TESSI_NS_PER_S)

/* Threads of one process live and die together: silence only means that it was stopped for a while. */
#define SILENCE_NS (INT64_C(365) * 24 * 3600 * TESSI_NS_PER_S)

enum worker_state { WORKER_STARTING, WORKER_JOINED, WORKER_ENDED };

struct tessi_embedded {
    char address[64];
    struct tessi_scheduler *scheduler;
    struct tessi_worker *worker;
    pthread_t scheduler_thread, worker_thread;
    bool scheduler_runs, worker_runs;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum worker_state state;  /* guarded by the lock */
    struct tessi_error ended; /* why the worker ended; guarded by the lock */
};

static void *run_scheduler(void *argument)
{
    struct tessi_embedded *embedded = argument;
    tessi_scheduler_run(embedded->scheduler);
    return NULL;
}

static void set_state(struct tessi_embedded *embedded, enum worker_state state, const struct tessi_error *error)
{
    pthread_mutex_lock(&embedded->lock);
    embedded->state = state;
    if (error != NULL) {
        embedded->ended = *error;
    }
    pthread_cond_broadcast(&embedded->changed);
    pthread_mutex_unlock(&embedded->lock);
}

static void on_connected(void *context, const char *scheduler, uint32_t id)
{
    (void)scheduler;
    (void)id;
    set_state(context, WORKER_JOINED, NULL);
}

static void *run_worker(void *argument)
{
    struct tessi_embedded *embedded = argument;
    struct tessi_error error = {0};
    if (tessi_worker_run(embedded->worker, &error) == TESSI_OK) {
        tessi_fail(&error, TESSI_CLOSED, "the embedded worker was stopped");
    }
    set_state(embedded, WORKER_ENDED, &error);
    return NULL;
}

static enum tessi_status start_thread(pthread_t *thread, void *(*run)(void *), struct tessi_embedded *embedded,
                                      bool *runs, struct tessi_error *error)
{
    int failed = pthread_create(thread, NULL, run, embedded);
    if (failed != 0) {
        return tessi_fail(error, TESSI_IO, "no thread for the embedded cluster: %s; raise the limit on threads",
                          strerror(failed));
    }
    *runs = true;
    return TESSI_OK;
}

static enum tessi_status wait_joined(struct tessi_embedded *embedded, struct tessi_error *error)
{
    int64_t deadline_ns = tessi_clock_now() + JOIN_TIMEOUT_NS;
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / TESSI_NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % TESSI_NS_PER_S)};
    enum tessi_status status = TESSI_OK;
    pthread_mutex_lock(&embedded->lock);
    while (embedded->state == WORKER_STARTING && status == TESSI_OK) {
        if (pthread_cond_timedwait(&embedded->changed, &embedded->lock, &until) == ETIMEDOUT) {
            status = tessi_fail(error, TESSI_TIMEOUT,
                                "the embedded worker did not start in time: the machine is "
                                "overloaded, try again");
        }
    }
    if (embedded->state == WORKER_ENDED) {
        status = tessi_fail(error, embedded->ended.status, "%s", embedded->ended.text);
    }
    pthread_mutex_unlock(&embedded->lock);
    return status;
}

static void init_condition(struct tessi_embedded *embedded)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&embedded->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&embedded->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

enum tessi_status tessi_embedded_open(const struct tessi_embedded_config *config, struct tessi_embedded **result,
                                      struct tessi_error *error)
{
    struct tessi_embedded *embedded = tessi_zalloc(sizeof *embedded);
    enum tessi_status status;
    sigset_t before;
    init_condition(embedded);
    tessi_signals_block(&before); /* whoever begins threads here, they inherit it */
    /* Names of inproc endpoints are those of the context, which nobody else uses. */
    snprintf(embedded->address, sizeof embedded->address, "inproc://tessera-scheduler");
    struct tessi_scheduler_config scheduler = {.listen = embedded->address, .net = config->net};
    scheduler.sched.worker_silence_ns = SILENCE_NS;
    scheduler.sched.client_silence_ns = SILENCE_NS;
    scheduler.sched.workers_last = 1;
    scheduler.sched.memory_bytes = tessi_settings_memory() / 4; /* blocks take most of it */
    TESSI_TRY(tessi_scheduler_create(&scheduler, &embedded->scheduler, error));
    TESSI_TRY(start_thread(&embedded->scheduler_thread, run_scheduler, embedded, &embedded->scheduler_runs, error));
    struct tessi_worker_config worker = {
        .scheduler = embedded->address,
        .net = config->net,
        .threads = config->threads,
        .memory_bytes = config->memory_bytes,
        .spill_dir = config->spill_dir,
        .spill_bytes = config->spill_bytes,
        .no_spill = config->no_spill,
        .gpus = config->gpus,
        .gpu_memory = config->gpu_memory,
        .resources = config->resources,
        .trace_events = config->trace_events,
        .name = "embedded",
        .connected = on_connected,
        .context = embedded,
    };
    TESSI_TRY(tessi_worker_create(&worker, &embedded->worker, error));
    TESSI_TRY(start_thread(&embedded->worker_thread, run_worker, embedded, &embedded->worker_runs, error));
    tessi_signals_restore(&before);
    TESSI_TRY(wait_joined(embedded, error));
    *result = embedded;
    return TESSI_OK;
cleanup:
    tessi_signals_restore(&before);
    tessi_embedded_close(embedded);
    *result = NULL;
    return status;
}

const char *tessi_embedded_address(const struct tessi_embedded *embedded)
{
    return embedded->address;
}

void tessi_embedded_close(struct tessi_embedded *embedded)
{
    if (embedded == NULL) {
        return;
    }
    if (embedded->worker_runs) {
        tessi_worker_stop(embedded->worker);
        pthread_join(embedded->worker_thread, NULL);
    }
    tessi_worker_destroy(embedded->worker);
    if (embedded->scheduler_runs) {
        tessi_scheduler_stop(embedded->scheduler);
        pthread_join(embedded->scheduler_thread, NULL);
    }
    tessi_scheduler_destroy(embedded->scheduler);
    pthread_cond_destroy(&embedded->changed);
    pthread_mutex_destroy(&embedded->lock);
    tessi_free(embedded);
}
