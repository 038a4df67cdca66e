/* What clients are to be told at the end of the step. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/state/state.h"

void tessi_news_watch(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->watched_at == 0) {
        tessi_grow(&sched->watched, &sched->watched_capacity, sched->watched_count + 1, sizeof *sched->watched);
        sched->watched[sched->watched_count++] = layer;
        layer->watched_at = (uint32_t)sched->watched_count;
        layer->session->submissions[layer->submission].watched += !layer->layer->push;
    }
    tessi_news_note(sched, layer);
}

void tessi_news_unwatch(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->watched_at > 0) { /* the last one takes its place */
        TESS_ASSERT(sched->watched[layer->watched_at - 1] == layer);
        struct sched_layer *last = sched->watched[--sched->watched_count];
        sched->watched[layer->watched_at - 1] = last;
        last->watched_at = layer->watched_at;
        layer->watched_at = 0;
        layer->session->submissions[layer->submission].watched -= !layer->layer->push;
    }
}

void tessi_news_note(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->watched_at > 0 && !layer->news) {
        layer->news = true;
        tessi_grow(&sched->news, &sched->news_capacity, sched->news_count + 1, sizeof *sched->news);
        sched->news[sched->news_count++] = layer;
    }
}

/* It is not to be announced any more. */
void tessi_news_forget(struct tessi_sched *sched, struct sched_layer *layer)
{
    size_t kept = 0;
    for (size_t i = 0; i < sched->news_count && layer->news; i++) {
        if (sched->news[i] != layer) {
            sched->news[kept++] = sched->news[i];
        }
    }
    sched->news_count = layer->news ? kept : sched->news_count;
    layer->news = false;
}

void tessi_news_count_done(struct tessi_sched *sched, struct sched_layer *layer)
{
    struct submission *submission = &layer->session->submissions[layer->submission];
    TESS_ASSERT(layer->first_done < layer->tasks);
    layer->first_done++;
    submission->done++;
    if (submission->watched > 0 && !submission->moved) {
        submission->moved = true;
        tessi_grow(&sched->moved, &sched->moved_capacity, sched->moved_count + 1, sizeof *sched->moved);
        sched->moved[sched->moved_count++] =
            (struct moved){layer->session->id, layer->submission, submission->serial};
    }
}
