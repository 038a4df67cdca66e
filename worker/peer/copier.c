#include "worker/peer/copier.h"

#include <pthread.h>
#include <string.h>

#include "core/base/alloc.h"

enum { BACKLOG_BYTES = 64 << 20 };

struct copy {
    struct copy *next;
    struct tessi_block *block;
    uint64_t offset;
    struct tessi_frame frame;
    bool last;
    uint64_t token;
    enum tessi_status status;
    struct tessi_error error;
};

struct list {
    struct copy *first, **last;
};

struct tessi_copier {
    pthread_t thread;
    void (*wake)(void *context);
    void *context;
    pthread_mutex_t mutex;
    pthread_cond_t wanted, shorter;
    struct list waiting, done;
    uint64_t backlog_bytes;
    bool ending;
};

static void list_init(struct list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_add(struct list *list, struct copy *copy)
{
    copy->next = NULL;
    *list->last = copy;
    list->last = &copy->next;
}

static struct copy *list_take(struct list *list)
{
    struct copy *copy = list->first;
    if (copy != NULL) {
        list->first = copy->next;
        if (list->first == NULL) {
            list->last = &list->first;
        }
    }
    return copy;
}

static void copy_run(struct copy *copy)
{
    copy->status = tessi_block_commit(copy->block, &copy->error);
    if (copy->status == TESSI_OK) {
        memcpy((uint8_t *)tessi_block_data(copy->block) + copy->offset, copy->frame.data, copy->frame.size);
    }
    tessi_frame_release(&copy->frame);
    tessi_block_unref(copy->block);
}

static void *copier_thread(void *argument)
{
    struct tessi_copier *copier = argument;
    (void)pthread_mutex_lock(&copier->mutex);
    for (;;) {
        while (copier->waiting.first == NULL && !copier->ending) {
            (void)pthread_cond_wait(&copier->wanted, &copier->mutex);
        }
        struct copy *copy = list_take(&copier->waiting);
        if (copy == NULL) {
            break;
        }
        (void)pthread_mutex_unlock(&copier->mutex);
        uint64_t bytes = copy->frame.size;
        bool last = copy->last;
        copy_run(copy);
        (void)pthread_mutex_lock(&copier->mutex);
        copier->backlog_bytes -= bytes;
        (void)pthread_cond_signal(&copier->shorter);
        if (last) {
            list_add(&copier->done, copy);
            copier->wake(copier->context);
        } else {
            tessi_free(copy);
        }
    }
    (void)pthread_mutex_unlock(&copier->mutex);
    return NULL;
}

enum tessi_status tessi_copier_create(void (*wake)(void *context), void *context, struct tessi_copier **out,
                                      struct tessi_error *error)
{
    *out = NULL;
    struct tessi_copier *copier = tessi_zalloc(sizeof *copier);
    copier->wake = wake;
    copier->context = context;
    list_init(&copier->waiting);
    list_init(&copier->done);
    (void)pthread_mutex_init(&copier->mutex, NULL);
    (void)pthread_cond_init(&copier->wanted, NULL);
    (void)pthread_cond_init(&copier->shorter, NULL);
    int rc = pthread_create(&copier->thread, NULL, copier_thread, copier);
    if (rc != 0) {
        tessi_free(copier);
        return tessi_fail(error, TESSI_IO, "copying thread: cannot start it: %s", strerror(rc));
    }
    *out = copier;
    return TESSI_OK;
}

void tessi_copier_destroy(struct tessi_copier *copier)
{
    if (copier == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&copier->mutex);
    copier->ending = true;
    (void)pthread_cond_signal(&copier->wanted);
    (void)pthread_mutex_unlock(&copier->mutex);
    (void)pthread_join(copier->thread, NULL);
    for (struct copy *copy; (copy = list_take(&copier->done)) != NULL;) {
        tessi_free(copy);
    }
    (void)pthread_cond_destroy(&copier->wanted);
    (void)pthread_cond_destroy(&copier->shorter);
    (void)pthread_mutex_destroy(&copier->mutex);
    tessi_free(copier);
}

void tessi_copier_add(struct tessi_copier *copier, struct tessi_block *block, uint64_t offset,
                      struct tessi_frame *frame, bool last, uint64_t token)
{
    struct copy *copy = tessi_zalloc(sizeof *copy);
    copy->block = tessi_block_ref(block);
    copy->offset = offset;
    copy->frame = *frame;
    copy->last = last;
    copy->token = token;
    *frame = (struct tessi_frame){0};
    (void)pthread_mutex_lock(&copier->mutex);
    while (copier->backlog_bytes > BACKLOG_BYTES) {
        (void)pthread_cond_wait(&copier->shorter, &copier->mutex);
    }
    copier->backlog_bytes += copy->frame.size;
    list_add(&copier->waiting, copy);
    (void)pthread_cond_signal(&copier->wanted);
    (void)pthread_mutex_unlock(&copier->mutex);
}

bool tessi_copier_take(struct tessi_copier *copier, uint64_t *token, enum tessi_status *status,
                       struct tessi_error *error)
{
    (void)pthread_mutex_lock(&copier->mutex);
    struct copy *copy = list_take(&copier->done);
    (void)pthread_mutex_unlock(&copier->mutex);
    if (copy == NULL) {
        return false;
    }
    *token = copy->token;
    *status = copy->status;
    if (copy->status != TESSI_OK) {
        *error = copy->error;
    }
    tessi_free(copy);
    return true;
}
