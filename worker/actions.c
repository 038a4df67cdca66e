/* The flow's actions, carried out. */
#include <inttypes.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "worker/internal.h"

enum { OUTCOMES_MAX = 256 }; /* taken at a time */
#define SPILL_PAUSE_NS (TESSI_NS_PER_S / 10) /* after the first spill that fails; it doubles with each further one */
#define SPILL_PAUSE_MAX_NS (5 * TESSI_NS_PER_S)

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

/* Steps at device slots end in any order between the slots, and none is there before its inputs are. */
static void do_run(struct tessi_worker *worker, const struct tessi_flow_action *action, bool lost)
{
    if (action->slot < worker->threads) {
        tessi_slots_run(worker->slots, action, worker->store, lost);
    } else if (lost) {
        struct tessi_flow_outcome outcome = {.slot = action->slot, .run = action->run, .status = TESSI_CANCELLED};
        tessi_grow(&worker->cancelled, &worker->cancelled_capacity, worker->cancelled_count + 1, sizeof outcome);
        worker->cancelled[worker->cancelled_count++] = outcome;
    } else {
        tessi_gpus_run(worker->gpus, action);
    }
}

/* `block`: what a send reads. */
static void do_send(struct tessi_worker *worker, const struct tessi_flow_action *action, struct tessi_block *block)
{
    struct tessi_peers *peers = worker->peers;
    bool serves = action->kind == TESSI_FLOW_SEND_INLINE || action->kind == TESSI_FLOW_SEND_LEASE ||
                  action->kind == TESSI_FLOW_SEND_BLOCK;
    if (serves) {
        trace_serve(worker, action);
    }
    if (action->kind == TESSI_FLOW_SEND_READ) {
        trace_begin(worker, action);
        tessi_peers_read(peers, action->peer, action->task, action->epoch, action->lease);
    } else if (action->kind == TESSI_FLOW_SEND_PULL) {
        tessi_peers_pull(peers, action->peer, action->task, block);
    } else if (action->kind == TESSI_FLOW_SEND_RELEASE) {
        tessi_peers_release(peers, action->peer, action->task);
    } else if (action->kind == TESSI_FLOW_SEND_REVOKE) {
        tessi_peers_revoke(peers, action->peer, action->task);
    } else if (action->kind == TESSI_FLOW_SEND_INLINE) {
        tessi_peers_inline(peers, action->peer, action->task, action->epoch, block);
    } else if (action->kind == TESSI_FLOW_SEND_LEASE) {
        tessi_peers_lease(peers, action->peer, action->task, action->epoch, block);
    } else if (action->kind == TESSI_FLOW_SEND_OFFER) {
        tessi_peers_offer(peers, action->peer, action->task, action->epoch, action->bytes);
    } else if (action->kind == TESSI_FLOW_SEND_BLOCK) {
        tessi_peers_block(peers, action->peer, action->task, block);
    } else if (action->kind == TESSI_FLOW_SEND_MOVED) {
        tessi_peers_moved(peers, action->peer, action->task, action->worker, action->epoch);
    } else {
        TESS_ASSERT(action->kind == TESSI_FLOW_SEND_ASK);
        tessi_peers_ask(peers, action->peer, action->task);
    }
}

static void do_action(struct tessi_worker *worker, const struct tessi_flow_action *action,
                      const struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    struct tessi_store *store = worker->store;
    if (worker->deferred != NULL) {
        if (action->kind == TESSI_FLOW_RUN && action->slot >= worker->threads) {
            tessi_gpus_place(worker->gpus, action);
        }
        if (tessi_deferred_hold(worker->deferred, action)) {
            return;
        }
    }
    switch (action->kind) {
    case TESSI_FLOW_ALLOC:
        do_alloc(worker, action, event, data);
        break;
    case TESSI_FLOW_MAP:
        do_map(worker, action, event, data);
        break;
    case TESSI_FLOW_FREE_BLOCK:
        tessi_gpus_forget(worker->gpus, action->block);
        tessi_store_free(store, action->block);
        break;
    case TESSI_FLOW_RUN:
        do_run(worker, action, false);
        break;
    case TESSI_FLOW_SPILL:
        trace_begin(worker, action);
        tessi_store_spill(store, action->block, action->layer, action->task.index);
        break;
    case TESSI_FLOW_UNALLOC:
        tessi_gpus_forget(worker->gpus, action->block);
        tessi_store_unalloc(store, action->block);
        break;
    case TESSI_FLOW_LOAD:
        trace_begin(worker, action);
        do_load(worker, action);
        break;
    case TESSI_FLOW_SEND_PULL:
    case TESSI_FLOW_SEND_LEASE:
    case TESSI_FLOW_SEND_INLINE:
    case TESSI_FLOW_SEND_BLOCK:
        do_send(worker, action, tessi_store_block(store, action->block, action->spilled));
        break;
    case TESSI_FLOW_SEND_READ:
    case TESSI_FLOW_SEND_RELEASE:
    case TESSI_FLOW_SEND_REVOKE:
    case TESSI_FLOW_SEND_OFFER:
    case TESSI_FLOW_SEND_MOVED:
    case TESSI_FLOW_SEND_ASK:
        do_send(worker, action, NULL);
        break;
    case TESSI_FLOW_LOCATE:
        do_locate(worker, action);
        break;
    }
}

/* In place of a block that was lost with its device: the reader asks the scheduler, as if it had come later. */
static void send_nothing(struct tessi_worker *worker, const struct tessi_flow_action *action)
{
    tessi_peers_ask(worker->peers, action->peer, action->task);
    if (action->kind == TESSI_FLOW_SEND_LEASE) {
        struct tessi_flow_event event = {.kind = TESSI_FLOW_RELEASE, .peer = action->peer, .task = action->task};
        tessi_worker_step(worker, &event, NULL);
    }
}

/* An action that had waited for a device's bytes. */
static void do_late(struct tessi_worker *worker, struct tessi_deferred_action *late)
{
    const struct tessi_flow_action *action = &late->action;
    if (action->kind == TESSI_FLOW_RUN) {
        do_run(worker, action, late->lost);
    } else if (action->kind == TESSI_FLOW_SPILL && late->lost) {
        struct tessi_flow_event event = {.kind = TESSI_FLOW_SPILLED, .block = action->block, .status = TESSI_LOST};
        tessi_worker_step(worker, &event, NULL);
    } else if (action->kind == TESSI_FLOW_SPILL) {
        trace_begin(worker, action);
        tessi_store_spill(worker->store, action->block, action->layer, action->task.index);
    } else if (late->lost) {
        send_nothing(worker, action);
    } else {
        do_send(worker, action, late->block);
    }
    if (late->block != NULL) {
        tessi_block_unref(late->block);
    }
}

static void carry_out(void *context)
{
    struct tessi_worker *worker = context;
    for (size_t i = 0; i < worker->actions.count && worker->phase == WORKER_WORKING; i++) {
        do_action(worker, &worker->actions.items[i], worker->event, worker->data);
    }
    worker->actions.count = 0;
}

void tessi_worker_step(struct tessi_worker *worker, struct tessi_flow_event *event, const struct tessi_peer_data *data)
{
    static const struct tessi_peer_data nothing;
    if (event->kind == TESSI_FLOW_PEER_LOST && worker->deferred != NULL) {
        tessi_deferred_forget_peer(worker->deferred, event->peer);
    }
    event->now_ns = worker->now_ns;
    worker->event = event;
    worker->data = data != NULL ? data : &nothing;
    worker->actions.count = 0;
    worker->actions.carry_out = carry_out;
    worker->actions.context = worker;
    tessi_flow_step(worker->flow, event, &worker->actions);
    carry_out(worker);
    tessi_slots_kick(worker->slots);
    tessi_gpus_kick(worker->gpus);
}

/* Steps that have ended at devices, all at once: an event costs as much as a step. */
static void gpu_steps_done(struct tessi_worker *worker, struct tessi_flow_outcome *steps, size_t count)
{
    if (!worker->no_devices && tessi_gpus_alive(worker->gpus) == 0) {
        worker->no_devices = true;
        tessi_log_event(TESSI_LOG_ERROR, "gpus_gone", "reason=" TESSI_LOG_TEXT,
                        "no device is left: processors go on with what was for devices, and the last bits of products "
                        "may differ from those of other workers");
        tessi_worker_step(worker, &(struct tessi_flow_event){.kind = TESSI_FLOW_NO_DEVICES}, NULL);
    }
    if (worker->phase == WORKER_WORKING) {
        struct tessi_flow_event event = {.kind = TESSI_FLOW_STEP_DONE, .outcomes = steps, .outcome_count = count};
        tessi_worker_step(worker, &event, NULL);
    }
}

static void gpu_block_outcome(struct tessi_worker *worker, const struct tessi_gpus_outcome *outcome)
{
    if (outcome->kind == TESSI_GPUS_HOME) {
        tessi_deferred_home(worker->deferred, outcome->ticket);
        return;
    }
    tessi_deferred_lost(worker->deferred, outcome->ticket);
    if (outcome->handle != UINT32_MAX) {
        tessi_gpus_forget(worker->gpus, outcome->handle);
        struct tessi_flow_event event = {.kind = TESSI_FLOW_LOST, .block = outcome->handle};
        tessi_worker_step(worker, &event, NULL);
    }
}

/* False: there were none. */
static bool take_some_gpu_outcomes(struct tessi_worker *worker)
{
    struct tessi_gpus_outcome outcomes[OUTCOMES_MAX];
    struct tessi_flow_outcome steps[OUTCOMES_MAX];
    size_t count = tessi_gpus_take(worker->gpus, outcomes, OUTCOMES_MAX);
    if (count > 0 && outcomes[0].kind != TESSI_GPUS_STEP) {
        gpu_block_outcome(worker, &outcomes[0]);
    } else if (count > 0) {
        for (size_t i = 0; i < count; i++) {
            steps[i] = outcomes[i].step;
        }
        gpu_steps_done(worker, steps, count);
        for (size_t i = 0; i < count; i++) {
            tessi_free(outcomes[i].text);
        }
    }
    return count > 0;
}

static void take_gpu_outcomes(struct tessi_worker *worker)
{
    struct tessi_deferred_action late;
    bool more = worker->gpus != NULL;
    while (more && worker->phase == WORKER_WORKING) {
        more = take_some_gpu_outcomes(worker);
        while (worker->phase == WORKER_WORKING && tessi_deferred_next(worker->deferred, &late)) {
            do_late(worker, &late);
            more = true;
        }
        tessi_slots_kick(worker->slots);
        tessi_gpus_kick(worker->gpus);
        if (worker->cancelled_count > 0 && worker->phase == WORKER_WORKING) {
            struct tessi_flow_outcome *cancelled = worker->cancelled;
            struct tessi_flow_event event = {
                .kind = TESSI_FLOW_STEP_DONE, .outcomes = cancelled, .outcome_count = worker->cancelled_count};
            worker->cancelled = NULL;
            worker->cancelled_count = worker->cancelled_capacity = 0;
            tessi_worker_step(worker, &event, NULL);
            tessi_free(cancelled);
            more = true;
        }
    }
}

void tessi_worker_on_unreadable(struct tessi_worker *worker, struct tessi_task task, const char *text)
{
    uint64_t left_out;
    if (tessi_log_due(&worker->unreadable_log, worker->now_ns, &left_out)) {
        tessi_log_event(TESSI_LOG_WARN, "spill_unreadable", "left_out=%" PRIu64 " reason=" TESSI_LOG_TEXT, left_out, text);
    }
    tessi_worker_step(worker, &(struct tessi_flow_event){.kind = TESSI_FLOW_DAMAGED, .task = task}, NULL);
}

/* A full disk must not become a busy loop. */
static void spill_pause(struct tessi_worker *worker, const struct tessi_store_outcome *transfer)
{
    if (transfer->status == TESSI_OK && transfer->file) {
        worker->spill_pause_ns = 0;
    } else if (transfer->status != TESSI_OK && worker->spill_again_ns == 0) {
        int64_t pause_ns = worker->spill_pause_ns > 0 ? 2 * worker->spill_pause_ns : SPILL_PAUSE_NS;
        worker->spill_pause_ns = pause_ns < SPILL_PAUSE_MAX_NS ? pause_ns : SPILL_PAUSE_MAX_NS;
        worker->spill_again_ns = worker->now_ns + worker->spill_pause_ns;
    }
}

static void take_transfer(struct tessi_worker *worker, const struct tessi_store_outcome *transfer)
{
    bool ok = transfer->status == TESSI_OK;
    struct tessi_flow_event event = {.kind = transfer->loaded ? TESSI_FLOW_LOADED : TESSI_FLOW_SPILLED,
                                     .block = transfer->handle,
                                     .status = transfer->status,
                                     .text = ok ? NULL : transfer->error.text};
    uint64_t left_out;
    if (!ok && tessi_log_due(transfer->loaded ? &worker->load_log : &worker->spill_log, worker->now_ns, &left_out)) {
        tessi_log_event(TESSI_LOG_WARN, transfer->loaded ? "load_failed" : "spill_failed",
                        "left_out=%" PRIu64 " reason=" TESSI_LOG_TEXT, left_out, transfer->error.text);
    }
    if (!transfer->loaded) {
        spill_pause(worker, transfer);
    }
    tessi_trace_end(worker->trace, transfer->loaded ? TESSI_TRACE_LOAD : TESSI_TRACE_SPILL, transfer->handle, 0,
                    (uint32_t)transfer->status, worker->now_ns);
    tessi_worker_step(worker, &event, NULL);
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
    take_gpu_outcomes(worker);
    struct tessi_store_outcome transfer;
    while (worker->phase == WORKER_WORKING && tessi_store_next(worker->store, &transfer)) {
        take_transfer(worker, &transfer);
    }
    if (worker->phase == WORKER_WORKING && worker->spill_again_ns != 0 && worker->now_ns >= worker->spill_again_ns) {
        worker->spill_again_ns = 0;
        tessi_worker_step(worker, &(struct tessi_flow_event){.kind = TESSI_FLOW_SPILL_AGAIN}, NULL);
    }
}
