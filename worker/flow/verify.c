/* The invariants that the other files rely on, worked out anew from the records. */
#include "core/base/alloc.h"
#include "worker/flow/internal.h"

struct tally { /* of one block, from everything that refers to it */
    uint32_t users, pins, leases, asks, parked, sources, linked[FLOW_CLASSES];
};

static void count_link(void *context, const struct flow_link *link)
{
    (void)link;
    ++*(uint32_t *)context;
}

static void verify_links(const struct tessi_flow *flow, uint32_t handle, struct tally *tallies)
{
    const struct flow_task *task = flow_task(flow, handle);
    uint32_t missing = 0;
    for (uint32_t i = 0; i < task->link_count; i++) {
        const struct flow_link *link = &task->links[i];
        if (link->step < task->next_step) {
            TESS_ASSERT(link->class == FLOW_GONE);
            continue;
        }
        const struct flow_block *block = flow_block(flow, link->block);
        TESS_ASSERT(block->live && link->task == handle);
        tallies[link->block].users++;
        if (link->class < FLOW_CLASSES) {
            tallies[link->block].linked[link->class]++;
        }
        if (link->step == task->next_step) {
            TESS_ASSERT(link->class == (task->started ? FLOW_STARTED : FLOW_WAITING));
            missing += block->readable ? 0 : 1;
            /* Whatever is missing is on its way, or somebody has been asked for it. */
            TESS_ASSERT(block->readable || block->state != FLOW_ABSENT);
        } else {
            bool near = link->step < (uint64_t)task->next_step + flow->config.window;
            TESS_ASSERT(link->class == (near ? FLOW_AHEAD : FLOW_FUTURE));
        }
    }
    TESS_ASSERT(missing == task->missing);
}

static void verify_task(const struct tessi_flow *flow, uint32_t handle, struct tally *tallies)
{
    const struct flow_task *task = flow_task(flow, handle);
    const struct flow_block *block = flow_block(flow, task->block);
    TESS_ASSERT(block->live && block->task == handle && !block->owned);
    TESS_ASSERT(tessi_queue_contains(&flow->all, handle));
    TESS_ASSERT(task->done_steps + task->queued <= task->next_step && task->next_step <= task->steps);
    verify_links(flow, handle, tallies);
    bool aside = tessi_heap_contains(&flow->lacking, handle);
    bool startable = aside || tessi_queue_contains(&flow->startable[flow_task_kind(flow, task)], handle);
    TESS_ASSERT(!aside || !tessi_queue_contains(&flow->startable[flow_task_kind(flow, task)], handle));
    bool runnable = tessi_queue_contains(&flow->runnable, handle);
    if (task->receive) {
        TESS_ASSERT(!startable && !runnable && block->state != FLOW_UNMADE);
    } else if (!task->started) {
        bool ready = task->missing == 0 && block->state == FLOW_UNMADE && !task->held_back;
        TESS_ASSERT(!runnable && startable == ready);
        TESS_ASSERT(block->state == FLOW_UNMADE || block->state == FLOW_ABANDONED);
    } else {
        bool ready = task->missing == 0 && !task->suspect && task->next_step < task->steps && !task->held_back;
        TESS_ASSERT(!startable && block->state == FLOW_MAKING);
        TESS_ASSERT(runnable == ready);
        TESS_ASSERT(!task->suspect || task->queued > 0 || block->pins > 0);
        TESS_ASSERT(!task->promises || (task->next_step == task->steps && task->queued > 0 && !task->suspect));
    }
}

/* What a peer has to answer is counted, and nothing waits for its answers while it has none to give. */
static void verify_asked(const struct tessi_flow *flow, const uint32_t *asked)
{
    for (uint32_t i = 0; i < flow->peers.count; i++) {
        const struct flow_peer *peer = flow_peer(flow, i);
        TESS_ASSERT(!peer->live || peer->asked == asked[i]);
        TESS_ASSERT(!peer->live || peer->later.count == 0 || (peer->up && !flow_peer_answers_more(flow, peer)));
    }
}

static void verify_ties(const struct tessi_flow *flow, struct tally *tallies)
{
    uint32_t *asked = tessi_zalloc((flow->peers.count + 1) * sizeof *asked);
    for (uint32_t i = 0; i < flow->ties.count; i++) {
        const struct flow_tie *tie = flow_tie(flow, i);
        if (!tie->live) {
            continue;
        }
        const struct flow_peer *peer = flow_peer(flow, tie->peer);
        struct tally *tally = &tallies[tie->block];
        TESS_ASSERT(tie->flags != 0 && flow_block(flow, tie->block)->live);
        tally->asks += (tie->flags & FLOW_TIE_ASKED) != 0 ? 1 : 0;
        asked[tie->peer] += (tie->flags & FLOW_TIE_ASKED) != 0 ? 1 : 0;
        tally->parked += (tie->flags & FLOW_TIE_READ) != 0 ? 1 : 0;
        tally->parked += (tie->flags & FLOW_TIE_PULL) != 0 ? 1 : 0;
        tally->leases += (tie->flags & FLOW_TIE_LEASED) != 0 ? 1 : 0;
        if ((tie->flags & FLOW_TIE_SOURCE) != 0) {
            tally->sources++;
            TESS_ASSERT(flow_block(flow, tie->block)->source == peer->id);
        }
        TESS_ASSERT(!peer->lost || (tie->flags & ~(uint32_t)FLOW_TIE_SOURCE) == 0);
    }
    verify_asked(flow, asked);
    tessi_free(asked);
}

static void verify_slots(const struct tessi_flow *flow, struct tally *tallies)
{
    int64_t device_queued_ns = 0, device_runs = 0;
    for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
        const struct flow_slot *slot = &flow->slots[s];
        int64_t queued_ns = 0;
        TESS_ASSERT(flow_slot_count(slot) <= slot->depth);
        for (uint64_t n = slot->first; n < slot->next; n++) {
            const struct flow_run *run = flow_run(flow, slot, n);
            queued_ns += run->estimate_ns;
            tallies[run->out].pins++;
            for (uint32_t k = 0; k < run->in_count; k++) {
                tallies[run->in[k]].pins++;
            }
            if (run->task != FLOW_NONE) {
                const struct flow_task *task = flow_task(flow, run->task);
                TESS_ASSERT(task->live && task->queued > 0 && task->slot == s && task->block == run->out);
                TESS_ASSERT(task->last_run >= n);
            }
        }
        TESS_ASSERT(queued_ns == slot->queued_ns);
        device_runs += s >= flow->config.slots ? flow_slot_count(slot) : 0;
    }
    for (uint32_t l = 0; l < flow->layers.count; l++) {
        const struct flow_layer *layer = flow_layer(flow, l);
        device_queued_ns += layer->device_queued * layer->device_each_ns;
        device_runs -= layer->device_queued;
    }
    TESS_ASSERT(device_runs == 0);
    TESS_ASSERT(device_queued_ns == flow->device_queued_ns);
}

static void verify_state(const struct flow_block *block)
{
    bool memory = block->state == FLOW_PULLING || block->state == FLOW_MAKING || block->state == FLOW_LOCAL ||
                  block->state == FLOW_SPILLING || block->state == FLOW_LOADING;
    TESS_ASSERT(block->state == FLOW_ABANDONED || block->held == memory);
    TESS_ASSERT(block->mapped == (block->state == FLOW_MAPPED) || block->state == FLOW_ABANDONED);
    TESS_ASSERT(block->held || block->mapped || block->pins == 0);
    TESS_ASSERT(block->leases == 0 || (block->held && (block->owned || block->state == FLOW_ABANDONED)));
    TESS_ASSERT(!block->revoking || block->leases > 0);
    TESS_ASSERT(block->parked == 0 || block->task != FLOW_NONE || block->state == FLOW_LOADING);
    bool moving = block->state == FLOW_PULLING || block->state == FLOW_SPILLING || block->state == FLOW_LOADING;
    TESS_ASSERT(block->busy == moving || block->state == FLOW_ABANDONED);
    TESS_ASSERT((block->state != FLOW_SPILLED && block->state != FLOW_SPILLING && block->state != FLOW_LOADING) ||
                (block->owned && block->file));
    bool sourced = block->state == FLOW_UNASKED || block->state == FLOW_ASKED || block->state == FLOW_OFFERED ||
                   block->state == FLOW_PULLING;
    TESS_ASSERT(!sourced || block->source != 0);
    TESS_ASSERT(!block->asks_later || block->state == FLOW_UNASKED);
    TESS_ASSERT(block->state != FLOW_ABANDONED || block->busy || block->pins > 0 || block->leases > 0);
}

static void verify_block(const struct tessi_flow *flow, uint32_t handle, const struct tally *tally)
{
    const struct flow_block *block = flow_block(flow, handle);
    TESS_ASSERT(tessi_flow_block_find(flow, tessi_flow_block_name(flow, block)) == handle);
    TESS_ASSERT(flow_page(flow, block->page)->handles[block->index % FLOW_PAGE] == handle);
    TESS_ASSERT(block->users == tally->users && block->pins == tally->pins && block->leases == tally->leases);
    TESS_ASSERT(block->asks == tally->asks && block->parked == tally->parked);
    TESS_ASSERT(tally->sources == (block->source != 0 ? 1 : 0) && !block->checking);
    for (int class = 0; class < FLOW_CLASSES; class ++) {
        uint32_t linked = 0;
        tessi_flow_link_walk(block->root[class], count_link, &linked);
        TESS_ASSERT(linked == tally->linked[class]);
    }
    verify_state(block);
    bool wanted = flow_block_bringable(block) &&
                  (block->task != FLOW_NONE || block->root[FLOW_STARTED] != NULL || block->heir ||
                   (!block->shelved && (block->root[FLOW_WAITING] != NULL || block->root[FLOW_AHEAD] != NULL)));
    TESS_ASSERT(wanted == (block->fetch < FLOW_CLASSES));
    for (int class = 0; class < FLOW_CLASSES; class ++) {
        TESS_ASSERT(tessi_heap_contains(&flow->fetch[class], handle) == ((int)block->fetch == class));
    }
    bool idle_lease = block->state == FLOW_MAPPED && block->users == 0 && block->pins == 0;
    TESS_ASSERT(idle_lease == tessi_heap_contains(&flow->idle_leases, handle) && !(idle_lease && block->revoked));
    struct flow_position key = {0, 0};
    TESS_ASSERT(block->dirty || block->reclaim == tessi_flow_classify(flow, block, &key));
    /* A record has a purpose. */
    TESS_ASSERT(block->users > 0 || block->task != FLOW_NONE || block->held || block->mapped || block->asks > 0 ||
                block->state == FLOW_SPILLED || block->state == FLOW_ABANDONED || block->heir);
    bool coming = block->state == FLOW_UNASKED || block->state == FLOW_ASKED || block->state == FLOW_OFFERED ||
                  block->state == FLOW_PULLING || (block->state == FLOW_MAPPED && block->revoked);
    bool lent =
        block->state == FLOW_MAPPED; /* by one who may be gone: the heir is asked for when steps have let go of it */
    TESS_ASSERT(!block->heir || (block->task == FLOW_NONE &&
                                 ((coming && (block->source != 0 || lent)) || block->state == FLOW_ABANDONED)));
}

/* When nothing is under way that could end, the oldest task can have its room, unless what it needs
 * beside it is more than memory and spill files together. */
static void verify_progress(const struct tessi_flow *flow, bool quiet)
{
    uint32_t oldest = tessi_flow_oldest(flow);
    if (!quiet || oldest == FLOW_NONE || !flow->blocked || flow->blocked_by_heir) {
        return;
    }
    const struct flow_task *task = flow_task(flow, oldest);
    const struct flow_block *block = flow_block(flow, task->block);
    uint64_t sticky = flow->sticky_bytes - (block->sticky ? flow_charge(flow, block) : 0);
    TESS_ASSERT(tessi_flow_unspillable_bytes(flow, sticky) + task->footprint > flow->config.memory_bytes);
}

/* What started tasks demand is what is counted, and never more than there is, but for a single task's own demand. */
static void verify_resources(const struct tessi_flow *flow)
{
    const struct tessi_resources *have = &flow->config.resources;
    for (uint32_t r = 0; r < have->count; r++) {
        uint64_t used = 0;
        uint32_t holders = 0;
        for (uint32_t i = 0; i < flow->tasks.count; i++) {
            const struct flow_task *task = flow_task(flow, i);
            if (task->live && task->started) {
                uint32_t amount =
                    tessi_resources_amount(&tessi_flow_task_options(flow, task)->demand, have->item[r].name);
                used += amount;
                holders += amount > 0;
            }
        }
        for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
            const struct flow_slot *slot = &flow->slots[s];
            for (uint64_t n = slot->first; n < slot->next; n++) {
                const struct flow_run *run = flow_run(flow, slot, n);
                used += run->lingers ? run->held[r] : 0;
                holders += run->lingers && run->held[r] > 0;
            }
        }
        TESS_ASSERT(used == flow->resources_used[r] && (used <= have->item[r].amount || holders == 1));
    }
}

void tessi_flow_verify(const struct tessi_flow *flow)
{
    struct tally *tallies = tessi_zalloc((flow->blocks.count + 1) * sizeof *tallies);
    uint64_t used = 0, residue = 0, tiny = 0, owned_sticky = 0, sticky = 0, going = 0, spilled = 0, arriving = 0,
             leaving = 0, heirs = 0;
    uint32_t tasks = 0, started = 0, streams = 0, blocks = 0;
    uint64_t idle_leases = 0, idle_lease_bytes = 0, mapped = 0;
    bool quiet = flow->spilling == 0 && flow->incoming_bytes == 0;
    for (uint32_t i = 0; i < flow->tasks.count; i++) {
        if (flow_task(flow, i)->live) {
            tasks++;
            started += flow_task(flow, i)->started ? 1 : 0;
            streams += flow_task(flow, i)->stream ? 1 : 0;
            verify_task(flow, i, tallies);
        }
    }
    verify_ties(flow, tallies);
    verify_slots(flow, tallies);
    for (uint32_t s = 0; s < flow_slots_all(flow); s++) {
        quiet = quiet && flow_slot_count(&flow->slots[s]) == 0;
    }
    for (uint32_t i = 0; i < flow->blocks.count; i++) {
        const struct flow_block *block = flow_block(flow, i);
        if (!block->live) {
            continue;
        }
        uint64_t charge = flow_charge(flow, block);
        blocks++;
        verify_block(flow, i, &tallies[i]);
        used += block->held ? charge : 0;
        residue += block->residue ? charge - block->bytes : 0;
        TESS_ASSERT(block->residue == (block->state == FLOW_SPILLED) || block->state == FLOW_ABANDONED);
        heirs += block->heir ? charge : 0;
        sticky += block->sticky ? charge : 0;
        tiny += block->tiny_sticky ? charge : 0;
        owned_sticky += block->owned_sticky ? charge : 0;
        going += block->going ? charge : 0;
        spilled += block->file && !block->regenerable ? block->bytes : 0;
        bool in = block->state == FLOW_PULLING || block->state == FLOW_LOADING;
        arriving += in ? block->bytes : 0;
        mapped += block->mapped ? 1 : 0;
        leaving += block->state == FLOW_ABANDONED && block->busy ? block->bytes : 0;
        quiet = quiet && !block->busy && !block->revoking;
        bool idle_lease = tessi_heap_contains(&flow->idle_leases, i);
        idle_leases += idle_lease ? 1 : 0;
        idle_lease_bytes += idle_lease ? block->bytes : 0;
    }
    TESS_ASSERT(idle_leases == flow->idle_leases.count && idle_leases <= FLOW_IDLE_LEASES_MAX);
    TESS_ASSERT(idle_lease_bytes == flow->idle_lease_bytes && idle_lease_bytes <= flow->config.memory_bytes);
    TESS_ASSERT(mapped == flow->mapped_blocks);
    TESS_ASSERT(used + residue == flow->used_bytes && used + residue <= flow->config.memory_bytes);
    TESS_ASSERT(residue == flow->residue_bytes && tiny == flow->tiny_sticky_bytes &&
                owned_sticky == flow->owned_sticky_bytes);
    TESS_ASSERT(sticky == flow->sticky_bytes && going == flow->going_bytes);
    TESS_ASSERT(spilled == flow->spilled_bytes && spilled <= flow->config.spill_bytes);
    TESS_ASSERT(arriving <= flow->incoming_bytes && flow->incoming_bytes <= arriving + leaving);
    TESS_ASSERT(tasks == flow->all.count && started == flow->started && blocks == flow->block_count);
    TESS_ASSERT(streams == flow->streams[FLOW_CPU] + flow->streams[FLOW_DEVICE]);
    TESS_ASSERT(flow->checks.count == 0 && heirs == flow->heir_bytes);
    verify_resources(flow);
    verify_progress(flow, quiet);
    tessi_free(tallies);
}
