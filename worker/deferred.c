#include "worker/deferred.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

#define NO_LANE UINT64_MAX

struct held {
    struct tessi_deferred_action it;
    uint64_t lane;             /* those with the same go in order */
    uint32_t ticket_count;
    uint64_t tickets[TESSI_STEP_REFS_MAX];
};

struct tessi_deferred {
    struct tessi_gpus *gpus;
    struct tessi_store *store;
    uint32_t cpu_slots;
    struct held **items; /* in the order of the flow */
    size_t count, capacity;
    bool changed; /* something may go on */
};

struct tessi_deferred *tessi_deferred_create(struct tessi_gpus *gpus, struct tessi_store *store, uint32_t cpu_slots)
{
    struct tessi_deferred *deferred = tessi_zalloc(sizeof *deferred);
    deferred->gpus = gpus;
    deferred->store = store;
    deferred->cpu_slots = cpu_slots;
    return deferred;
}

static void held_destroy(struct held *held)
{
    if (held->it.block != NULL) {
        tessi_block_unref(held->it.block);
    }
    tessi_free(held);
}

void tessi_deferred_destroy(struct tessi_deferred *deferred)
{
    if (deferred == NULL) {
        return;
    }
    for (size_t i = 0; i < deferred->count; i++) {
        held_destroy(deferred->items[i]);
    }
    tessi_free(deferred->items);
    tessi_free(deferred);
}

static bool names_block(enum tessi_flow_action_kind kind)
{
    return kind == TESSI_FLOW_SEND_INLINE || kind == TESSI_FLOW_SEND_LEASE || kind == TESSI_FLOW_SEND_BLOCK ||
           kind == TESSI_FLOW_SEND_PULL;
}

static uint64_t lane_of_peer(uint32_t peer)
{
    return UINT64_C(1) << 32 | peer;
}

static uint64_t lane_of(const struct tessi_flow_action *action)
{
    switch (action->kind) {
    case TESSI_FLOW_RUN:
        return action->slot;
    case TESSI_FLOW_SEND_READ:
    case TESSI_FLOW_SEND_PULL:
    case TESSI_FLOW_SEND_RELEASE:
    case TESSI_FLOW_SEND_REVOKE:
    case TESSI_FLOW_SEND_INLINE:
    case TESSI_FLOW_SEND_LEASE:
    case TESSI_FLOW_SEND_OFFER:
    case TESSI_FLOW_SEND_BLOCK:
    case TESSI_FLOW_SEND_MOVED:
    case TESSI_FLOW_SEND_ASK:
        return lane_of_peer(action->peer);
    case TESSI_FLOW_ALLOC:
    case TESSI_FLOW_MAP:
    case TESSI_FLOW_FREE_BLOCK:
    case TESSI_FLOW_SPILL:
    case TESSI_FLOW_UNALLOC:
    case TESSI_FLOW_LOAD:
    case TESSI_FLOW_LOCATE:
        return NO_LANE;
    }
    return NO_LANE;
}

static void want(struct tessi_deferred *deferred, struct held *held, uint32_t handle)
{
    uint64_t ticket = tessi_gpus_want(deferred->gpus, handle);
    bool known = ticket == 0;
    for (uint32_t i = 0; i < held->ticket_count; i++) {
        known = known || held->tickets[i] == ticket;
    }
    if (!known) {
        held->tickets[held->ticket_count++] = ticket;
    }
}

/* Ask for what the action reads and the host has not. */
static void want_all(struct tessi_deferred *deferred, struct held *held)
{
    const struct tessi_flow_action *action = &held->it.action;
    if (action->kind == TESSI_FLOW_RUN) {
        bool at_device = action->slot >= deferred->cpu_slots;
        for (uint32_t i = 0; i < action->in_count; i++) {
            if (!at_device || tessi_gpus_apart(deferred->gpus, action, action->in[i])) {
                want(deferred, held, action->in[i]);
            }
        }
        return;
    }
    bool made_again = action->kind == TESSI_FLOW_SPILL && action->layer != NULL && tessi_layer_regenerable(action->layer);
    bool reads = action->kind == TESSI_FLOW_SPILL || (names_block(action->kind) && action->kind != TESSI_FLOW_SEND_PULL);
    if (reads && !action->spilled && !made_again) {
        want(deferred, held, action->block);
    }
}

bool tessi_deferred_hold(struct tessi_deferred *deferred, const struct tessi_flow_action *action)
{
    uint64_t lane = lane_of(action);
    if (lane == NO_LANE && action->kind != TESSI_FLOW_SPILL) {
        return false;
    }
    struct held held = {.it.action = *action, .lane = lane};
    want_all(deferred, &held);
    bool behind = false;
    for (size_t i = 0; i < deferred->count && lane != NO_LANE && !behind; i++) {
        behind = deferred->items[i]->lane == lane;
    }
    if (held.ticket_count == 0 && !behind) {
        return false;
    }
    if (names_block(action->kind)) {
        held.it.block = tessi_block_ref(tessi_store_block(deferred->store, action->block, action->spilled));
    }
    tessi_grow(&deferred->items, &deferred->capacity, deferred->count + 1, sizeof *deferred->items);
    deferred->items[deferred->count++] = tessi_memdup(&held, sizeof held);
    deferred->changed = true;
    return true;
}

static bool drop_ticket(struct held *held, uint64_t ticket)
{
    for (uint32_t i = 0; i < held->ticket_count; i++) {
        if (held->tickets[i] == ticket) {
            held->tickets[i] = held->tickets[--held->ticket_count];
            return true;
        }
    }
    return false;
}

static void come(struct tessi_deferred *deferred, uint64_t ticket, bool lost)
{
    for (size_t i = 0; i < deferred->count && ticket != 0; i++) {
        if (drop_ticket(deferred->items[i], ticket)) {
            deferred->items[i]->it.lost = deferred->items[i]->it.lost || lost;
            deferred->changed = true;
        }
    }
}

void tessi_deferred_home(struct tessi_deferred *deferred, uint64_t ticket)
{
    come(deferred, ticket, false);
}

void tessi_deferred_lost(struct tessi_deferred *deferred, uint64_t ticket)
{
    come(deferred, ticket, true);
}

void tessi_deferred_forget_peer(struct tessi_deferred *deferred, uint32_t peer)
{
    size_t kept = 0;
    for (size_t i = 0; i < deferred->count; i++) {
        if (deferred->items[i]->lane == lane_of_peer(peer)) {
            held_destroy(deferred->items[i]);
        } else {
            deferred->items[kept++] = deferred->items[i];
        }
    }
    deferred->count = kept;
}

void tessi_deferred_give_up(struct tessi_deferred *deferred)
{
    for (size_t i = 0; i < deferred->count; i++) {
        deferred->items[i]->ticket_count = 0;
        deferred->items[i]->it.lost = true;
    }
    deferred->changed = true;
}

bool tessi_deferred_next(struct tessi_deferred *deferred, struct tessi_deferred_action *next)
{
    for (size_t i = 0; i < deferred->count && deferred->changed; i++) {
        struct held *held = deferred->items[i];
        bool free = held->ticket_count == 0;
        for (size_t k = 0; k < i && free && held->lane != NO_LANE; k++) {
            free = deferred->items[k]->lane != held->lane;
        }
        if (free) {
            *next = held->it;
            tessi_free(held);
            deferred->count--;
            memmove(deferred->items + i, deferred->items + i + 1, (deferred->count - i) * sizeof *deferred->items);
            return true;
        }
    }
    deferred->changed = false;
    return false;
}
