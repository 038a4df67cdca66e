#include "worker/gpu/lane.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/alloc.h"

struct tessi_lane {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct tessi_lane_job *first, **last;
    bool closing;
    bool pushed; /* and not kicked; the pusher's */
    tessi_lane_fn *run;
    tessi_lane_idle_fn *idle;
    void *context;
};

static void *lane_main(void *argument)
{
    struct tessi_lane *lane = argument;
    (void)pthread_mutex_lock(&lane->lock);
    for (;;) {
        while (lane->first == NULL && !lane->closing) {
            (void)pthread_cond_wait(&lane->filled, &lane->lock);
        }
        struct tessi_lane_job *jobs = lane->first;
        if (jobs == NULL) {
            break;
        }
        lane->first = NULL;
        lane->last = &lane->first;
        (void)pthread_mutex_unlock(&lane->lock);
        while (jobs != NULL) {
            struct tessi_lane_job *next = jobs->next;
            lane->run(lane->context, jobs);
            jobs = next;
        }
        if (lane->idle != NULL) {
            lane->idle(lane->context);
        }
        (void)pthread_mutex_lock(&lane->lock);
    }
    (void)pthread_mutex_unlock(&lane->lock);
    return NULL;
}

enum tessi_status tessi_lane_create(tessi_lane_fn *run, tessi_lane_idle_fn *idle, void *context,
                                    struct tessi_lane **out, struct tessi_error *error)
{
    struct tessi_lane *lane = tessi_zalloc(sizeof *lane);
    lane->last = &lane->first;
    lane->run = run;
    lane->idle = idle;
    lane->context = context;
    (void)pthread_mutex_init(&lane->lock, NULL);
    (void)pthread_cond_init(&lane->filled, NULL);
    int failure = pthread_create(&lane->thread, NULL, lane_main, lane);
    if (failure != 0) {
        (void)pthread_cond_destroy(&lane->filled);
        (void)pthread_mutex_destroy(&lane->lock);
        tessi_free(lane);
        *out = NULL;
        return tessi_fail(error, TESSI_NOMEM, "no thread for a device: %s", strerror(failure));
    }
    *out = lane;
    return TESSI_OK;
}

void tessi_lane_push(struct tessi_lane *lane, struct tessi_lane_job *job)
{
    job->next = NULL;
    (void)pthread_mutex_lock(&lane->lock);
    *lane->last = job;
    lane->last = &job->next;
    (void)pthread_mutex_unlock(&lane->lock);
    lane->pushed = true;
}

void tessi_lane_kick(struct tessi_lane *lane)
{
    if (lane->pushed) {
        lane->pushed = false;
        (void)pthread_cond_signal(&lane->filled);
    }
}

void tessi_lane_destroy(struct tessi_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&lane->lock);
    lane->closing = true;
    (void)pthread_mutex_unlock(&lane->lock);
    (void)pthread_cond_signal(&lane->filled);
    (void)pthread_join(lane->thread, NULL);
    (void)pthread_cond_destroy(&lane->filled);
    (void)pthread_mutex_destroy(&lane->lock);
    tessi_free(lane);
}
