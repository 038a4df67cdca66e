/* order: which task comes before which.
 *
 * One topological order of all tasks, fixed when a layer comes (order.c) and computed from a task's place in its layer
 * (key.c); lanes, in which priorities and policies let work pass other work (policy.h); and what waits in a lane for a
 * worker, lowest order first (backlog.c). Who the worker is decides placement. The room calls state and workers. */
#ifndef TESSI_SCHED_ORDER_ORDER_H
#define TESSI_SCHED_ORDER_ORDER_H

#include "core/sched/state/state.h"

/* order.c: give each layer of a submission its part of the order. */
void tessi_order_layers(struct tessi_sched *sched, struct sched_layer **layers, size_t count);
/* What a layer of pieces cuts and one that joins them exchange at a time surely fits into the workers' memory. */
bool tessi_order_exchange_fits(const struct tessi_sched *sched, const struct tessi_layer *cuts,
                               const struct tessi_layer *joins);
/* Task i reads block i and no other of that input. */
bool tessi_order_reads_alike(const struct sched_layer *layer, uint32_t input);

/* key.c */
uint64_t tessi_order_of(const struct sched_layer *layer, uint64_t index);
/* Over a long way at once: from coordinates to those on the stem; false: nobody there needs the block. */
bool tessi_order_jump(const struct sched_layer *layer, const uint64_t coords[TESSI_NDIM_MAX],
                      uint64_t to[TESSI_NDIM_MAX]);

/* backlog.c: what waits in a lane. */
void tessi_backlog_init(struct backlog *backlog);
void tessi_backlog_fini(struct backlog *backlog);
uint64_t tessi_backlog_bytes(const struct backlog *backlog);
/* Tasks that nobody has had yet; NO_WORKER: orphans. */
void tessi_backlog_push(struct tessi_sched *sched, uint32_t worker, struct sched_layer *layer, uint64_t first,
                        uint64_t count);
void tessi_backlog_put(struct tessi_sched *sched, uint32_t worker, struct backlog_span span);
#define BACKLOG_FRESH (UINT64_C(1) << 63) /* in the entries' keys, beside the order: nobody has had it yet */
static inline uint64_t backlog_key(const struct backlog_entry *entry)
{
    return (uint64_t)entry->key_high << 32 | entry->key_low;
}
static inline const struct backlog_entry *backlog_first(const struct backlog *backlog) /* NULL when empty */
{
    return backlog->count > 0 ? &backlog->entries[0] : NULL;
}
static inline struct backlog_span backlog_span(const struct backlog *backlog, uint32_t handle)
{
    const struct kept_span *span = &backlog->spans[handle];
    return (struct backlog_span){span->layer, span->first, span->count, span->again};
}
struct backlog *tessi_backlog_made(struct lane *lane, uint32_t worker);
static inline struct backlog *backlog_of(struct lane *lane, uint32_t worker)
{
    return worker < lane->capacity ? &lane->backlogs[worker] : tessi_backlog_made(lane, worker);
}
/* The first `count` tasks of a span are gone from it; `order`: of the next one, if any. */
void tessi_backlog_advance(struct tessi_sched *sched, struct backlog *backlog, uint32_t worker, uint32_t handle,
                           uint64_t count, uint64_t order);
struct backlog_span tessi_backlog_take(struct tessi_sched *sched, struct backlog *backlog, uint32_t worker,
                                       uint32_t handle);
void tessi_backlog_move(struct tessi_sched *sched, struct sched_layer *layer, struct lane *lane);
void tessi_backlog_purge(struct tessi_sched *sched, const struct sched_layer *layer);
void tessi_backlog_purge_session(struct tessi_sched *sched, struct session *session); /* it closes */

#endif
