/* state: what the scheduler knows, where it lies, and what a step says to whom.
 *
 * Records are made, found and forgotten here, and nothing is decided: a function of this room does what it is told, at
 * once, and calls no other room. Above the fields of a record stands which rooms write them (`--- written by … ---`;
 * step: the files beside the rooms); everybody may read everything. `scons imports` keeps both so.
 *
 *   task.h, table.h      one small record for each task that has been touched, in pages (pages.c, table.c)
 *   layer.h, session.h, worker.h, scheduler.h      the other records
 *   find.c        by name         held.c        bytes that a session holds
 *   output.c      what a step says         news.c        what clients are to be told of
 *   task_lists.h, copies.c      lists of numbers by task; who holds a copy of a block
 *   keeps.c, hand_overs.c       who is to own a block too, or instead
 *   memory.c      what all of this takes */
#ifndef TESSI_SCHED_STATE_STATE_H
#define TESSI_SCHED_STATE_STATE_H

#include "core/sched/state/table.h"

static inline struct tessi_map_key id_key(uint32_t id)
{
    return (struct tessi_map_key){0, id};
}

/* find.c: NULL where there is none. */
struct worker *tessi_find_worker(struct tessi_sched *sched, uint32_t id); /* alive only */
struct session *tessi_find_session(struct tessi_sched *sched, uint32_t id);
struct sched_layer *tessi_find_layer(struct session *session, uint32_t id);
struct sched_layer *tessi_find_named(struct tessi_sched *sched, uint32_t session, uint32_t id);

/* output.c: actions, notes for the trace, and memory for what they point to. */
#define NO_WORKERS_TEXT "no worker is there: start one with `tessera worker ADDRESS`"
struct tessi_sched_action *tessi_out_emit(struct tessi_sched *sched, enum tessi_sched_action_kind kind, uint32_t peer);
void tessi_out_note(struct tessi_sched *sched, struct tessi_trace_record record); /* its time is filled in */
void *tessi_out_memory(struct tessi_sched *sched, size_t size);          /* zeroed; lives until the next step */
const char *tessi_out_text(struct tessi_sched *sched, const char *text); /* a copy that lives as long */
void tessi_out_forget(struct tessi_sched *sched);                        /* the next step begins */
/* What is gathered for a worker during the step. */
void tessi_out_mark_dirty(struct worker *worker);
struct outbox *tessi_out_box(struct worker *worker); /* to put something into; the worker is dirty from then on */
void tessi_out_destroy(struct outbox *out);
void tessi_out_tell_layer(struct worker *worker, struct sched_layer *layer); /* unless it has been told */
/* All workers forget it; it may be told again. */
void tessi_out_drop_layer(struct tessi_sched *sched, struct sched_layer *layer);
void tessi_out_free(struct tessi_sched *sched, uint32_t worker, struct sched_layer *layer, uint64_t index);
void tessi_worker_list_push(struct worker_list *list, uint32_t index);
void tessi_work_push(struct work_list *list, struct sched_layer *layer, uint64_t index);

/* news.c */
void tessi_news_watch(struct tessi_sched *sched, struct sched_layer *layer); /* its client is told what becomes of it */
void tessi_news_unwatch(struct tessi_sched *sched, struct sched_layer *layer);
void tessi_news_note(struct tessi_sched *sched, struct sched_layer *layer);       /* it may be complete, or have failed */
void tessi_news_forget(struct tessi_sched *sched, struct sched_layer *layer);     /* it goes: nothing more is said */
void tessi_news_count_done(struct tessi_sched *sched, struct sched_layer *layer); /* a task more, for the progress */

/* held.c: results that are held, in whole blocks. */
void tessi_held_add(struct session *session, const struct tessi_layer *layer);    /* it is wanted from now on */
void tessi_held_remove(struct session *session, const struct tessi_layer *layer); /* it is not any more */
uint64_t tessi_held_largest_block(const struct tessi_layer *layer);               /* bytes */
uint64_t tessi_held_largest_task(const struct tessi_layer *layer); /* index of one whose block is as large as any */
uint64_t tessi_held_solid_bytes(const struct tessi_layer *layer);  /* that cannot be generated or read again */
uint64_t tessi_held_small_blocks(const struct tessi_layer *layer); /* which cost memory beside their data */

/* memory.c */
#define RECORD_BYTES (sizeof(struct task_record) + 2)
/* Bytes for a new layer; `held`: with all its blocks at once. */
uint64_t tessi_memory_needs(const struct tessi_layer *layer, bool held);
uint64_t tessi_memory_used(const struct tessi_sched *sched);

/* copies.c: workers that hold a block besides its owner. */
void tessi_copies_add(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker);
void tessi_copies_remove(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker);
bool tessi_copies_has(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker);
uint32_t tessi_copies_pick(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* NO_WORKER: none */
void tessi_copies_free(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* FREE to each holder */
void tessi_copies_forget_worker(struct tessi_sched *sched, uint32_t worker);

/* keeps.c: second owners of blocks; see recovery/keep.c. NULL: there is none. */
struct keep *tessi_keep_find(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index);
struct keep *tessi_keep_create(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_keep_destroy(struct tessi_sched *sched, struct keep *one);
void tessi_keep_settle(struct tessi_sched *sched, const struct keep *one); /* it has arrived, or never will */
/* Something may be missing there, if it is kept. */
void tessi_keep_due(struct tessi_sched *sched, struct sched_layer *layer);
void tessi_keep_unlist(struct tessi_sched *sched, struct sched_layer *layer); /* nothing is */
void tessi_keep_end(struct tessi_sched *sched, struct sched_layer *layer);    /* no second owners any more */
/* The block is not HELD, or soon. */
void tessi_keep_forget(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* That worker has been asked to own it too, under that epoch. */
bool tessi_keep_at(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index, uint32_t worker,
                   uint32_t *epoch);

/* hand_overs.c: blocks that others have been told to take over; see recovery/hand_over.c. NULL: it is not one. */
struct hand_over *tessi_hand_over_find(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index);
struct hand_over *tessi_hand_over_create(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                                         uint64_t order);
void tessi_hand_over_destroy(struct tessi_sched *sched, struct hand_over *one);
/* The block is not HELD by who hands it over any more, or is about not to be. */
void tessi_hand_over_forget(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* The block is being handed over to that worker, or (NO_WORKER) to anybody. */
bool tessi_hand_over_is_to(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index, uint32_t worker);

#endif
