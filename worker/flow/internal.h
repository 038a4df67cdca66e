/* What the files of worker/flow ask of each other. Below, each file calls those above it and none below it.
 *
 * Handlers change the plain fields of a block and then call `tessi_flow_block_update`, which brings everything derived from
 * them in line: who is woken, the ledger, the queues. Whatever may destroy a record or needs the whole event to be known
 * first goes through `tessi_flow_check` and is settled at the end of the event, so no handler sees a record vanish. */
#ifndef TESSI_FLOW_INTERNAL_H
#define TESSI_FLOW_INTERNAL_H

#include "worker/flow/mixed.h"
#include "worker/flow/state.h"

/* records.c: records by handle and by name, and what a step says */
/* Records come zeroed up to `zeroed` bytes. */
void tessi_flow_pool_init(struct flow_pool *pool, size_t element_size, size_t zeroed);
void tessi_flow_pool_fini(struct flow_pool *pool);
uint32_t tessi_flow_pool_take(struct flow_pool *pool); /* zeroed */
void tessi_flow_pool_give(struct flow_pool *pool, uint32_t handle);
void tessi_flow_handles_push(struct flow_handles *handles, uint32_t handle);
uint32_t tessi_flow_layer_find(const struct tessi_flow *flow, uint32_t session, uint32_t id);
uint32_t tessi_flow_layer_get(struct tessi_flow *flow, uint32_t session, uint32_t id); /* found or made */
void tessi_flow_layer_release(struct tessi_flow *flow, uint32_t layer); /* destroyed if nothing holds it */
uint32_t tessi_flow_block_find(const struct tessi_flow *flow, struct tessi_task name);
uint32_t tessi_flow_block_create(struct tessi_flow *flow, uint32_t layer, uint64_t index, uint64_t bytes);
struct tessi_task tessi_flow_block_name(const struct tessi_flow *flow, const struct flow_block *block);
struct tessi_span tessi_flow_block_span(const struct tessi_flow *flow, const struct flow_block *block);
/* Visit the block records among a span's names, whichever is shorter to walk. */
typedef void tessi_flow_visit_fn(struct tessi_flow *flow, uint32_t block, const struct tessi_span *span);
void tessi_flow_span_blocks(struct tessi_flow *flow, const struct tessi_span *span, tessi_flow_visit_fn *visit);
uint32_t tessi_flow_oldest(const struct tessi_flow *flow); /* NONE: no task */
const struct tessi_task_options *tessi_flow_task_options(const struct tessi_flow *flow, const struct flow_task *task);
struct tessi_flow_action *tessi_flow_act(struct tessi_flow *flow, enum tessi_flow_action_kind kind, uint32_t block);

/* ties.c: peers, and what stands between one and a block */
uint32_t tessi_flow_peer_get(struct tessi_flow *flow, uint32_t id);
uint32_t tessi_flow_tie_find(const struct tessi_flow *flow, uint32_t peer_id, uint32_t block);
uint32_t tessi_flow_tie_add(struct tessi_flow *flow, uint32_t peer_id, uint32_t block, uint32_t flags);
void tessi_flow_tie_clear(struct tessi_flow *flow, uint32_t tie, uint32_t flags);
void tessi_flow_block_change_source(struct tessi_flow *flow, uint32_t block, uint32_t peer_id); /* it is another one */
static inline void tessi_flow_block_set_source(struct tessi_flow *flow, uint32_t block, uint32_t peer_id) /* 0: none */
{
    if (flow_block(flow, block)->source != peer_id) {
        tessi_flow_block_change_source(flow, block, peer_id);
    }
}
void tessi_flow_ask_no_more(struct tessi_flow *flow, uint32_t block); /* one to be asked for later: nobody will ask */

/* queues.c: the places of a block in queues */
void tessi_flow_block_file(struct tessi_flow *flow, uint32_t block);  /* its place in the fetch queues */
void tessi_flow_block_touch(struct tessi_flow *flow, uint32_t block); /* its reclaim class may have changed */
void tessi_flow_block_copy_changed(struct tessi_flow *flow, uint32_t block);
void tessi_flow_check(struct tessi_flow *flow, uint32_t block);
void tessi_flow_lease_wake(struct tessi_flow *flow,
                           uint32_t block); /* it is used again, or goes; nothing if not idle */
bool tessi_flow_block_next_use(const struct flow_block *block, struct flow_position *at); /* within a window */
void tessi_flow_shelve(struct tessi_flow *flow, uint32_t block);
void tessi_flow_unshelve(struct tessi_flow *flow, uint32_t block);    /* nothing, if it is not */
void tessi_flow_heir_forget(struct tessi_flow *flow, uint32_t block); /* nobody waits for a report */

/* ready.c */
void tessi_flow_task_ready(struct tessi_flow *flow, uint32_t task); /* queue it if it can go on */
void tessi_flow_task_unready(struct tessi_flow *flow, uint32_t task);
void tessi_flow_startable_add(struct tessi_flow *flow, uint32_t task);

/* users.c */
void tessi_flow_link_set(struct tessi_flow *flow, struct flow_link *link, enum flow_class class);
void tessi_flow_users_wake(struct tessi_flow *flow, uint32_t block);   /* it can be read now */
void tessi_flow_users_unwake(struct tessi_flow *flow, uint32_t block); /* it no longer can */
void tessi_flow_task_aim(struct tessi_flow *flow, uint32_t task);      /* classes of its links for next_step */
void tessi_flow_link_walk(const struct flow_link *root, void (*visit)(void *context, const struct flow_link *link),
                          void *context);

/* blocks.c: what a block is, and what follows from it */
void tessi_flow_block_move(struct tessi_flow *flow, uint32_t block, enum flow_state state); /* and update */
void tessi_flow_block_update(struct tessi_flow *flow, uint32_t block);
void tessi_flow_block_abandon(struct tessi_flow *flow, uint32_t block); /* its bytes go as soon as nothing holds them */
void tessi_flow_revoke(struct tessi_flow *flow, uint32_t block);

/* ledger.c */
void tessi_flow_hold(struct tessi_flow *flow, uint32_t block);
void tessi_flow_unhold(struct tessi_flow *flow, struct flow_block *block);
void tessi_flow_set_residue(struct tessi_flow *flow, struct flow_block *block, bool residue);
void tessi_flow_drop_file(struct tessi_flow *flow, struct flow_block *block);
void tessi_flow_retry_failed_spills(struct tessi_flow *flow);         /* a file has gone, or the shell says so */
void tessi_flow_block_empty(struct tessi_flow *flow, uint32_t block); /* FREE_BLOCK and all that goes with it */

/* resources.c */
bool tessi_flow_resources_take(struct tessi_flow *flow, uint32_t task); /* false: not enough is free */
/* Others take nothing of what the oldest task waits for: else two that start over in turns would keep it from it for
 * ever. NONE: nobody waits. */
void tessi_flow_resources_reserve(struct tessi_flow *flow, uint32_t oldest);
void tessi_flow_resources_give(struct tessi_flow *flow, uint32_t task); /* nothing, if it holds none */
void tessi_flow_resources_linger(struct tessi_flow *flow, uint32_t task, struct flow_run *run); /* given with the run */
void tessi_flow_resources_end(struct tessi_flow *flow, const struct flow_run *run);
bool tessi_flow_resources_are_free(const struct tessi_flow *flow, const struct tessi_resources *demand);

/* ask.c */
void tessi_flow_ask(struct tessi_flow *flow, uint32_t block, uint32_t peer_id, uint32_t epoch);
void tessi_flow_ask_now(struct tessi_flow *flow,
                        uint32_t block);           /* it is one to be asked for later: it is not any more */
void tessi_flow_ask_next(struct tessi_flow *flow); /* of peers that have answered */
void tessi_flow_await_client(struct tessi_flow *flow, uint32_t block); /* a RECEIVE block may be pulled */

/* serve.c */
void tessi_flow_on_read(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_pull(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_release(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_serve_parked(struct tessi_flow *flow, uint32_t block);
void tessi_flow_push(struct tessi_flow *flow, uint32_t block); /* to its client, if that waits for it and it is small */
/* Parked readers are sent to `worker`, or back to the scheduler when it is 0. */
void tessi_flow_turn_away(struct tessi_flow *flow, uint32_t block, uint32_t worker, uint32_t epoch);
void tessi_flow_lease_end(struct tessi_flow *flow, uint32_t block); /* one lease fewer */

/* tasks.c */
void tessi_flow_own(struct tessi_flow *flow, uint32_t block, uint32_t epoch); /* a copy becomes the block itself */
void tessi_flow_on_assign(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_steal(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_adopt(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_forget(struct tessi_flow *flow, const struct tessi_span *spans, size_t count);
void tessi_flow_task_unmade(struct tessi_flow *flow, uint32_t task); /* its block may be made now */
void tessi_flow_task_restart(struct tessi_flow *flow, uint32_t task);
void tessi_flow_task_finish(struct tessi_flow *flow, uint32_t task);
void tessi_flow_task_drop(struct tessi_flow *flow, uint32_t task);             /* parked readers stay */
void tessi_flow_stream_ended(struct tessi_flow *flow, struct flow_task *task); /* not counted any more */
void tessi_flow_slots_forget(struct tessi_flow *flow, uint32_t task);          /* its steps at slots end unheeded */

/* memory.c */
bool tessi_flow_room(struct tessi_flow *flow, const struct flow_request *request);
/* An output of `block`, not the oldest task's, may be taken: the oldest task still fits beside what cannot go. */
bool tessi_flow_reserve_kept(const struct tessi_flow *flow, uint32_t block);
/* What of so many sticky bytes the spill budget surely cannot take. */
uint64_t tessi_flow_unspillable_bytes(const struct tessi_flow *flow, uint64_t sticky_bytes);
/* Owned blocks that leave memory only through a spill file: also those on their way to a disk that took nothing lately. */
uint64_t tessi_flow_kept_bytes(const struct tessi_flow *flow);
/* What may be taken back from where, and the key in that heap: the smallest goes first. */
enum flow_reclaim tessi_flow_classify(const struct tessi_flow *flow, const struct flow_block *block,
                                      struct flow_position *key);
void tessi_flow_load(struct tessi_flow *flow, uint32_t block);
void tessi_flow_on_spilled(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_spill_again(struct tessi_flow *flow);
void tessi_flow_on_damaged(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_loaded(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_lost(struct tessi_flow *flow, const struct tessi_flow_event *event);

/* shortage.c */
void tessi_flow_notice_short(struct tessi_flow *flow);
bool tessi_flow_short_untold(const struct tessi_flow *flow); /* other than in the last report */
void tessi_flow_report_short(struct tessi_flow *flow);

/* hand_over.c */
void tessi_flow_on_take_over(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_heir_arrived(struct tessi_flow *flow, uint32_t block); /* its bytes are complete in memory */
void tessi_flow_heir_freed(struct tessi_flow *flow, uint32_t block);   /* what held its old bytes has let them go */
void tessi_flow_heir_refuse(struct tessi_flow *flow, uint32_t block);  /* it will not come: reported as missing */
bool tessi_flow_heir_first(const struct tessi_flow *flow, const struct flow_block *block); /* before all tasks here */
/* An heir for which there is no room, though it was accepted, and though nothing here will make any: others may have it.
 * False: there was none. */
bool tessi_flow_heirs_refuse_hopeless(struct tessi_flow *flow);

/* fetch.c */
enum flow_grant tessi_flow_bring(struct tessi_flow *flow, uint32_t block, bool oldest);
void tessi_flow_on_location(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_answer(struct tessi_flow *flow, const struct tessi_flow_event *event); /* READY_…, MOVED, ASK */
void tessi_flow_on_revoke(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_data(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_peer_up(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_peer_lost(struct tessi_flow *flow, const struct tessi_flow_event *event);

/* mixed.c */
void tessi_flow_mixed_layer(struct flow_layer *layer); /* it may run on either */
double tessi_flow_device_step_ns(const struct tessi_flow *flow, const struct flow_layer *layer, uint32_t steps);
/* Where the task of such a layer starts; the slot is the one that would take it. */
enum tessi_flow_place tessi_flow_place_mixed(const struct tessi_flow *flow, const struct flow_task *task,
                                             int64_t slot_queue_ns, bool slot_open);
/* A step has been handed to a slot, or has ended there: of any layer. */
void tessi_flow_mixed_enqueued(struct tessi_flow *flow, const struct flow_run *run, bool device);
void tessi_flow_mixed_ended(struct tessi_flow *flow, struct flow_layer *layer, const struct flow_run *run, bool device);

/* settle.c */
void tessi_flow_settle(struct tessi_flow *flow); /* all that was checked */

/* slots.c */
void tessi_flow_advance(struct tessi_flow *flow);
void tessi_flow_slot_recount(struct tessi_flow *flow, uint32_t slot); /* its queue has changed */
void tessi_flow_release_held_back(struct tessi_flow *flow, struct flow_slot *slot);

/* ends.c */
void tessi_flow_on_step_done(struct tessi_flow *flow, const struct tessi_flow_event *event);
void tessi_flow_on_no_devices(struct tessi_flow *flow);
void tessi_flow_report_started(struct tessi_flow *flow);

#endif
