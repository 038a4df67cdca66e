/* The flow's actions, carried out. */
#include <inttypes.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/log.h"
#include "worker/internal.h"

enum { OUTCOMES_MAX = 256 }; /* taken at a time */

/* The bytes of a READY_INLINE event go into the block that the flow has just asked memory for. */
static void store_inline(struct tessi_worker *worker, const struct tessi_flow_action *action, const void *bytes)
{
    struct tessi_error error;
    struct tessi_block *block = tessi_store_block(worker->store, action->block, false);
    if (tessi_block_commit(block, &error) != TESSI_OK) {
        tessi_worker_end(worker, error.status, "%s", error.text);
        return;
    }
    if (action->bytes > 0) {
        memcpy(tessi_block_data(block), bytes, (size_t)action->bytes);
    }
}

static bool same_task(struct tessi_task a, struct tessi_task b)
{
    return a.session == b.session && a.layer == b.layer && a.index == b.index;
}

/* A peer that gives a block another length than its layer does is not one of ours any more. */
static bool length_agrees(struct tessi_worker *worker, const struct tessi_flow_event *event,
                          const struct tessi_flow_action *action, const struct tessi_peer_data *data)
{
    if (data->byte_count == action->bytes) {
        return true;
    }
    tessi_worker_end(worker, TESSI_PROTOCOL, "peer %" PRIu32 " sent %" PRIu64 " bytes for a block of %" PRIu64,
                     event->peer, data->byte_count, action->bytes);
    return false;
}

static void do_alloc(struct tessi_worker *worker, const struct tessi_flow_action *action,
                     const struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    struct tessi_error error;
    if (tessi_store_alloc(worker->store, action->block, action->bytes, &error) != TESSI_OK) {
        tessi_worker_end(worker, error.status, "%s", error.text);
        return;
    }
    if (event->kind == TESSI_FLOW_READY_INLINE && same_task(event->task, action->task) &&
        length_agrees(worker, event, action, data)) {
        store_inline(worker, action, data->bytes);
        tessi_trace_end(worker->trace, TESSI_TRACE_INLINE, action->block, event->peer, 0, worker->now_ns);
    }
}

static void do_map(struct tessi_worker *worker, const struct tessi_flow_action *action,
                   const struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    TESS_ASSERT(event->kind == TESSI_FLOW_READY_LEASE);
    void *mapping = tessi_peers_map(worker->peers, event->peer);
    tessi_store_map(worker->store, action->block, data->bytes, action->bytes, tessi_peers_unmap, mapping);
    tessi_trace_end(worker->trace, TESSI_TRACE_MAP, action->block, event->peer, 0, worker->now_ns);
    (void)length_agrees(worker, event, action, data);
}

static void do_load(struct tessi_worker *worker, const struct tessi_flow_action *action)
{
    struct tessi_error error;
    if (tessi_store_load(worker->store, action->block, &error) != TESSI_OK) {
        tessi_worker_end(worker, error.status, "%s", error.text);
    }
}

static void do_locate(struct tessi_worker *worker, const struct tessi_flow_action *action)
{
    tessi_spans_push(&worker->locates, (struct tessi_span){.session = action->task.session,
                                                           .layer = action->task.layer,
                                                           .first = action->task.index,
                                                           .count = 1,
                                                           .epoch = action->epoch});
}

static void trace_begin(struct tessi_worker *worker, const struct tessi_flow_action *action)
{
    tessi_trace_begin(worker->trace, action->block, action->task, action->bytes, worker->now_ns);
}

static void trace_serve(struct tessi_worker *worker, const struct tessi_flow_action *action)
{
    tessi_trace_note(worker->trace, TESSI_TRACE_SERVE, action->task, action->bytes, action->peer, worker->now_ns,
                     worker->now_ns);
}

static void do_action(struct tessi_worker *worker, const struct tessi_flow_action *action,
                      const struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    struct tessi_store *store = worker->store;
    struct tessi_peers *peers = worker->peers;
    switch (action->kind) {
    case TESSI_FLOW_ALLOC:
        do_alloc(worker, action, event, data);
        break;
    case TESSI_FLOW_MAP:
        do_map(worker, action, event, data);
        break;
    case TESSI_FLOW_FREE_BLOCK:
        tessi_store_free(store, action->block);
        break;
    case TESSI_FLOW_RUN:
        tessi_slots_run(worker->slots, action, store);
        break;
    case TESSI_FLOW_SPILL:
        trace_begin(worker, action);
        tessi_store_spill(store, action->block, action->layer, action->task.index);
        break;
    case TESSI_FLOW_UNALLOC:
        tessi_store_unalloc(store, action->block);
        break;
    case TESSI_FLOW_LOAD:
        trace_begin(worker, action);
        do_load(worker, action);
        break;
    case TESSI_FLOW_SEND_READ:
        trace_begin(worker, action);
        tessi_peers_read(peers, action->peer, action->task, action->epoch, action->lease);
        break;
    case TESSI_FLOW_SEND_PULL:
        tessi_peers_pull(peers, action->peer, action->task, tessi_store_block(store, action->block, false));
        break;
    case TESSI_FLOW_SEND_RELEASE:
        tessi_peers_release(peers, action->peer, action->task);
        break;
    case TESSI_FLOW_SEND_REVOKE:
        tessi_peers_revoke(peers, action->peer, action->task);
        break;
    case TESSI_FLOW_SEND_INLINE:
        trace_serve(worker, action);
        tessi_peers_inline(peers, action->peer, action->task, action->epoch,
                           tessi_store_block(store, action->block, action->spilled));
        break;
    case TESSI_FLOW_SEND_LEASE:
        trace_serve(worker, action);
        tessi_peers_lease(peers, action->peer, action->task, action->epoch,
                          tessi_store_block(store, action->block, false));
        break;
    case TESSI_FLOW_SEND_OFFER:
        tessi_peers_offer(peers, action->peer, action->task, action->epoch, action->bytes);
        break;
    case TESSI_FLOW_SEND_BLOCK:
        trace_serve(worker, action);
        tessi_peers_block(peers, action->peer, action->task, tessi_store_block(store, action->block, action->spilled));
        break;
    case TESSI_FLOW_SEND_MOVED:
        tessi_peers_moved(peers, action->peer, action->task, action->worker, action->epoch);
        break;
    case TESSI_FLOW_SEND_ASK:
        tessi_peers_ask(peers, action->peer, action->task);
        break;
    case TESSI_FLOW_LOCATE:
        do_locate(worker, action);
        break;
    }
}

void tessi_worker_step(struct tessi_worker *worker, struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    static const struct tessi_peer_data nothing;
    event->now_ns = worker->now_ns;
    worker->actions.count = 0;
    tessi_flow_step(worker->flow, event, &worker->actions);
    for (size_t i = 0; i < worker->actions.count && worker->phase == WORKER_WORKING; i++) {
        do_action(worker, &worker->actions.items[i], event, data != NULL ? data : &nothing);
    }
    tessi_slots_kick(worker->slots);
}

void tessi_worker_take_outcomes(struct tessi_worker *worker)
{
    struct tessi_flow_outcome outcomes[OUTCOMES_MAX];
    size_t count = OUTCOMES_MAX;
    while (worker->phase == WORKER_WORKING && count == OUTCOMES_MAX) {
        count = tessi_slots_take(worker->slots, outcomes, OUTCOMES_MAX);
        if (count > 0) {
            struct tessi_flow_event event = {
                .kind = TESSI_FLOW_STEP_DONE, .outcomes = outcomes, .outcome_count = count};
            tessi_worker_step(worker, &event, NULL);
        }
    }
    struct tessi_store_outcome transfer;
    while (worker->phase == WORKER_WORKING && tessi_store_next(worker->store, &transfer)) {
        struct tessi_flow_event event = {.kind = transfer.loaded ? TESSI_FLOW_LOADED : TESSI_FLOW_SPILLED,
                                         .block = transfer.handle,
                                         .status = transfer.status};
        if (transfer.status != TESSI_OK) {
            tessi_log_event(TESSI_LOG_WARN, transfer.loaded ? "load_failed" : "spill_failed", "reason=" TESSI_LOG_TEXT,
                            transfer.error.text);
        }
        tessi_trace_end(worker->trace, transfer.loaded ? TESSI_TRACE_LOAD : TESSI_TRACE_SPILL, transfer.handle, 0,
                        (uint32_t)transfer.status, worker->now_ns);
        tessi_worker_step(worker, &event, NULL);
    }
}
