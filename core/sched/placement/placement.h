/* placement: for which worker a task waits, and whether on its processors or its devices.
 *
 * Whole layers when they come (place.c, with the regions of regions.c), single tasks that need a new place, and what
 * nobody could run until now (orphans.c); kinds.c says for which kind of load a layer is. A place is where a task waits,
 * no promise: balance moves it where that ends sooner. The room calls order, workers and state. */
#ifndef TESSI_SCHED_PLACEMENT_PLACEMENT_H
#define TESSI_SCHED_PLACEMENT_PLACEMENT_H

#include "core/sched/state/state.h"

/* place.c */
void tessi_place_layers(struct tessi_sched *sched, struct sched_layer **layers, size_t count);
/* Where it finishes earliest. */
void tessi_place_task(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
uint32_t tessi_place_least_loaded(struct tessi_sched *sched, const struct lane *lane); /* NO_WORKER: nobody can */
uint32_t tessi_place_home(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* NO_WORKER: nobody */
/* Its tasks, along one dimension, read each other, and are short as far as is known: whoever took the last of them
 * would wait for the rest. */
bool tessi_place_begins_together(const struct sched_layer *layer);
/* Those that have turned out to take long: find each of their tasks its place. */
void tessi_place_scatter_long(struct tessi_sched *sched);

/* orphans.c: what waits for a worker that goes, or has waited for one that may run it. */
void tessi_place_hand_on(struct tessi_sched *sched, struct lane *lane, uint32_t worker);
void tessi_place_orphans(struct tessi_sched *sched);

/* regions.c */
void tessi_regions_make(struct tessi_sched *sched, struct sched_layer *layer);
/* The worker of each task is that of what it reads in the middle of the input, whose regions are those of `from`. False:
 * that cannot be told so, or would take too long to tell. */
bool tessi_regions_follow(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number,
                          const struct sched_layer *from);
uint32_t tessi_regions_of(const struct sched_layer *layer, uint64_t index);  /* NO_WORKER: it has no regions */
uint64_t tessi_regions_run(const struct sched_layer *layer, uint64_t index); /* tasks from it on in the same region */
uint64_t tessi_regions_runs(const struct sched_layer *layer);                /* of all regions together */

/* kinds.c: processors and devices. */
uint32_t tessi_kinds_guess(const struct tessi_sched *sched, const struct tessi_layer *layer); /* of a new layer */
void tessi_kinds_note_ran(struct tessi_sched *sched, const struct worker *worker, struct sched_layer *layer,
                          uint64_t tasks, bool device);
void tessi_kinds_join(struct tessi_sched *sched, struct worker *worker); /* its loads, as its info says */
/* So many in all. */
void tessi_kinds_lose_devices(struct tessi_sched *sched, struct worker *worker, uint64_t lost);
void tessi_kinds_leave(struct tessi_sched *sched, struct worker *worker);

#endif
