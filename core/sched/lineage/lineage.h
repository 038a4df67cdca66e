/* lineage: what is still needed.
 *
 * Each record counts the unfinished tasks that read its block (refs.c); what nobody needs goes, and what is needed again
 * runs again, with what it reads. Failures and re-runs go from layer to layer, over several steps where there are very
 * many (spread.c). A layer lives while a client names it or somebody reads it (life.c, cut.c), and then lets go of all
 * that it would have read (abandon.c). The room calls placement, order, workers and state. */
#ifndef TESSI_SCHED_LINEAGE_LINEAGE_H
#define TESSI_SCHED_LINEAGE_LINEAGE_H

#include "core/sched/state/state.h"

/* refs.c */
void tessi_refs_drop(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_refs_drop_inputs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* Adds references, and runs again. */
void tessi_refs_require_inputs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_refs_consider_idle(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_refs_settle(struct tessi_sched *sched); /* act on blocks that nobody needs any more */
void tessi_refs_run_again(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);

/* spread.c */
void tessi_spread_need(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* it is RELEASED */
/* FAILED or POISONED. */
void tessi_spread_failure(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
bool tessi_spread_is_needed(const struct sched_layer *layer, uint64_t index); /* it is RELEASED, and that will change */
void tessi_spread_fail_task(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                            enum tessi_status status, const char *text);
void tessi_spread_finish(struct tessi_sched *sched); /* as much as the step has time for */
/* Its consumers have changed places. */
void tessi_spread_anew(struct tessi_sched *sched, const struct sched_layer *layer);
void tessi_spread_verify(const struct tessi_sched *sched);
bool tessi_spread_verify_listed(const struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index);
void tessi_spread_fini(struct tessi_sched *sched); /* when no session is left */

/* cut.c: a layer is needed less than before. */
static inline bool read_by_others(const struct sched_layer *layer)
{
    size_t itself = 0;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        itself += layer->inputs[i] == layer;
    }
    return layer->consumer_count > itself;
}
bool tessi_life_read_wholly(const struct sched_layer *layer); /* some layer reads each of its blocks */
/* At the end of the step it is seen who still needs it. */
void tessi_life_note_loose(struct tessi_sched *sched, struct sched_layer *layer);
void tessi_life_unwant(struct tessi_sched *sched, struct sched_layer *layer);
/* None of its tasks will read anything. */
void tessi_life_cut_inputs(struct tessi_sched *sched, struct sched_layer *layer);
/* It stands once less among what is left to later steps; it may be freed. */
void tessi_life_end_pending(struct sched_layer *layer);
void tessi_life_free_description(struct sched_layer *layer); /* if nobody needs it any more */

/* life.c */
void tessi_life_release(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count);
void tessi_life_cancel(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count);
/* Its blocks are not wanted any more, since this has happened. */
void tessi_life_abort(struct tessi_sched *sched, struct sched_layer *layer, enum tessi_status status, const char *text);
void tessi_life_sweep(struct tessi_sched *sched);
void tessi_life_end_submission(struct session *session, uint32_t position); /* if it has no layers left */
void tessi_life_close_session(struct tessi_sched *sched, struct session *session);

/* abandon.c: a layer that nobody names or reads goes. */
#define FREED_AT_ONCE 4096 /* of many tasks: what goes needs a place in a list, and its page, for a moment */
/* Its unfinished tasks let go of their inputs. */
void tessi_abandon_reading(struct tessi_sched *sched, struct sched_layer *layer);
void tessi_abandon_tasks(struct tessi_sched *sched, struct sched_layer *layer); /* after that */
/* The same for each layer of a session that ends, without any count of readers, so that what is untouched costs nothing. */
void tessi_abandon_uncounted(struct tessi_sched *sched, struct sched_layer *layer);

#endif
