/* The workers of a flow_world around their planners: memory, files, slots and what is sent, each checked against what
 * the planner may ask for. */
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/unit/flow_world.h"

void world_create_worker(struct world *world, uint32_t w, uint64_t memory_bytes, uint64_t spill_bytes)
{
    struct worker *worker = &world->worker[w];
    worker->config = (struct tessi_flow_config){
        .self = w,
        .slots = 1 + world_below(world, 3),
        .device_slots = world_below(world, 2) * world_below(world, 5),
        .slot_depth = 1 + world_below(world, 9),
        .window = 2 + world_below(world, 3),
        .memory_bytes = memory_bytes,
        .spill_bytes = spill_bytes,
        .pull_bytes = 1 + world_below(world, 400000),
        .asks_max = w % 2 * 3, /* 0: without bound */
    };
    worker->flow = tessi_flow_create(&worker->config);
    worker->alive = true;
    world->host[w] = world_below(world, 2);
}

void world_worker_fini(struct worker *worker)
{
    tessi_flow_destroy(worker->flow);
    for (uint32_t s = 0; s < SLOTS_MAX; s++) {
        tessi_free(worker->slots[s]);
    }
    tessi_free(worker->cells);
    tessi_free(worker->io);
    worker->flow = NULL;
    worker->alive = false;
}

static struct cell *cell_of(struct worker *worker, uint32_t block)
{
    size_t known = worker->cell_capacity;
    tessi_grow(&worker->cells, &worker->cell_capacity, (size_t)block + 1, sizeof *worker->cells);
    if (worker->cell_capacity > known) {
        memset(worker->cells + known, 0, (worker->cell_capacity - known) * sizeof *worker->cells);
    }
    return &worker->cells[block];
}

/* The value that a step or a send sees; asserts that the bytes are there and complete. */
static uint64_t read_cell(struct world *world, struct worker *worker, uint32_t block)
{
    const struct cell *cell = cell_of(worker, block);
    if (cell->mapped) {
        struct worker *owner = &world->worker[cell->owner];
        if (owner->alive) {
            const struct cell *there = cell_of(owner, cell->owner_block);
            TESS_ASSERT(there->memory && there->complete && there->generation == cell->owner_generation);
        }
        return cell->value;
    }
    TESS_ASSERT(cell->memory && cell->complete);
    return cell->value;
}

static uint64_t read_for_send(struct world *world, struct worker *worker, const struct tessi_flow_action *action)
{
    const struct cell *cell = cell_of(worker, action->block);
    if (action->spilled) {
        TESS_ASSERT(cell->file && cell->complete && !cell->memory);
        return cell->value;
    }
    TESS_ASSERT(!cell->mapped);
    return read_cell(world, worker, action->block);
}

static void memory_add(struct worker *worker, struct cell *cell, uint64_t bytes)
{
    TESS_ASSERT(!cell->memory && !cell->mapped);
    cell->memory = true;
    cell->bytes = bytes;
    worker->memory_bytes += bytes;
    TESS_ASSERT(worker->memory_bytes <= worker->config.memory_bytes);
}

static void memory_remove(struct worker *worker, struct cell *cell)
{
    TESS_ASSERT(cell->memory);
    cell->memory = false;
    worker->memory_bytes -= cell->bytes;
}

static void no_step_uses(const struct worker *worker, uint32_t block)
{
    for (uint32_t s = 0; s < worker->config.slots + worker->config.device_slots; s++) {
        for (size_t i = 0; i < worker->slot_count[s]; i++) {
            const struct tessi_flow_action *run = &worker->slots[s][i].action;
            TESS_ASSERT(run->out != block);
            for (uint32_t k = 0; k < run->in_count; k++) {
                TESS_ASSERT(run->in[k] != block);
            }
        }
    }
}

static void start_io(struct worker *worker, bool spill, uint32_t block)
{
    tessi_grow(&worker->io, &worker->io_capacity, worker->io_count + 1, sizeof *worker->io);
    worker->io[worker->io_count++] = (struct io){spill, block};
}

static void send(struct world *world, uint32_t self, const struct tessi_flow_action *action,
                 enum tessi_flow_event_kind kind)
{
    uint32_t to = action->peer == SESSION ? world->workers + 1 : action->peer;
    if (to <= world->workers && !world->worker[to].alive) {
        return;
    }
    struct worker *worker = &world->worker[self];
    uint64_t value = 0, generation = 0;
    if (kind == TESSI_FLOW_READY_INLINE || kind == TESSI_FLOW_DATA) {
        value = read_for_send(world, worker, action);
    } else if (kind == TESSI_FLOW_READY_LEASE) {
        value = read_cell(world, worker, action->block);
        generation = cell_of(worker, action->block)->generation;
        world->leases++;
    }
    struct message *message = world_post_event(world, self, to, kind);
    message->event.task = action->task;
    message->event.epoch = action->epoch;
    message->event.worker = action->worker;
    message->event.lease = action->lease;
    message->event.block = action->block; /* of the sender: leases */
    message->event.now_ns = (int64_t)generation;
    message->value = value;
}

bool world_report(struct world *world, uint32_t self)
{
    struct tessi_flow *flow = world->worker[self].flow;
    if (!tessi_flow_has_report(flow)) {
        return false;
    }
    tessi_flow_report(flow, &world_post(world, self, SCHEDULER)->report);
    return true;
}

static const enum tessi_flow_event_kind sent_as[] = {
    [TESSI_FLOW_SEND_READ] = TESSI_FLOW_READ,           [TESSI_FLOW_SEND_PULL] = TESSI_FLOW_PULL,
    [TESSI_FLOW_SEND_RELEASE] = TESSI_FLOW_RELEASE,     [TESSI_FLOW_SEND_REVOKE] = TESSI_FLOW_REVOKE,
    [TESSI_FLOW_SEND_INLINE] = TESSI_FLOW_READY_INLINE, [TESSI_FLOW_SEND_LEASE] = TESSI_FLOW_READY_LEASE,
    [TESSI_FLOW_SEND_OFFER] = TESSI_FLOW_READY_OFFER,   [TESSI_FLOW_SEND_BLOCK] = TESSI_FLOW_DATA,
    [TESSI_FLOW_SEND_MOVED] = TESSI_FLOW_MOVED,         [TESSI_FLOW_SEND_ASK] = TESSI_FLOW_ASK,
};

static void act(struct world *world, uint32_t self, const struct tessi_flow_action *action,
                struct message *cause)
{
    struct worker *worker = &world->worker[self];
    struct cell *cell = action->block == UINT32_MAX ? NULL : cell_of(worker, action->block);
    switch (action->kind) {
    case TESSI_FLOW_ALLOC:
        memory_add(worker, cell, action->bytes);
        cell->complete = false;
        cell->task = action->task;
        cell->generation = ++world->generation;
        if (cause != NULL && cause->event.kind == TESSI_FLOW_READY_INLINE &&
            memcmp(&cause->event.task, &action->task, sizeof action->task) == 0) {
            cell->value = cause->value;
            cell->complete = true;
            cause->event.kind = TESSI_FLOW_ASK; /* only the first ALLOC takes the bytes */
        }
        break;
    case TESSI_FLOW_MAP:
        TESS_ASSERT(cause->event.kind == TESSI_FLOW_READY_LEASE && !cell->memory && !cell->mapped);
        *cell = (struct cell){.mapped = true, .complete = true, .value = cause->value, .owner = cause->event.peer,
                              .owner_block = cause->event.block, .owner_generation = (uint64_t)cause->event.now_ns};
        break;
    case TESSI_FLOW_FREE_BLOCK:
        TESS_ASSERT(cell->memory || cell->mapped || cell->file);
        no_step_uses(worker, action->block);
        for (size_t i = 0; i < worker->io_count; i++) {
            TESS_ASSERT(worker->io[i].block != action->block);
        }
        if (cell->memory) {
            memory_remove(worker, cell);
        }
        *cell = (struct cell){0};
        break;
    case TESSI_FLOW_RUN:
        worker->slots[action->slot] = tessi_realloc(
            worker->slots[action->slot], (worker->slot_count[action->slot] + 1) * sizeof *worker->slots[0]);
        worker->slots[action->slot][worker->slot_count[action->slot]++].action = *action;
        TESS_ASSERT(worker->slot_count[action->slot] <=
                    (action->slot < worker->config.slots ? worker->config.slot_depth : 3));
        break;
    case TESSI_FLOW_SPILL:
        TESS_ASSERT(cell->memory && cell->complete);
        cell->file = true;
        world->spills++;
        start_io(worker, true, action->block);
        break;
    case TESSI_FLOW_UNALLOC:
        TESS_ASSERT(cell->file);
        no_step_uses(worker, action->block);
        memory_remove(worker, cell);
        break;
    case TESSI_FLOW_LOAD:
        TESS_ASSERT(cell->file);
        memory_add(worker, cell, action->bytes);
        cell->generation = ++world->generation;
        start_io(worker, false, action->block);
        break;
    case TESSI_FLOW_SEND_PULL:
        TESS_ASSERT(cell->memory && !cell->complete);
        send(world, self, action, sent_as[action->kind]);
        break;
    case TESSI_FLOW_SEND_READ:
    case TESSI_FLOW_SEND_RELEASE:
    case TESSI_FLOW_SEND_REVOKE:
    case TESSI_FLOW_SEND_INLINE:
    case TESSI_FLOW_SEND_LEASE:
    case TESSI_FLOW_SEND_OFFER:
    case TESSI_FLOW_SEND_BLOCK:
    case TESSI_FLOW_SEND_MOVED:
    case TESSI_FLOW_SEND_ASK:
        send(world, self, action, sent_as[action->kind]);
        break;
    case TESSI_FLOW_LOCATE: {
        (void)world_report(world, self);
        struct message *message = world_post(world, self, SCHEDULER);
        message->is_locate = true;
        message->event.task = action->task;
        break;
    }
    }
}

void world_step(struct world *world, uint32_t self, struct message *message)
{
    struct worker *worker = &world->worker[self];
    struct tessi_flow_event event = message->event;
    event.spans = message->spans.items;
    event.span_count = message->spans.count;
    event.where = message->where.items;
    event.where_count = message->where.count;
    if (event.kind == TESSI_FLOW_DATA) { /* lands in the block's memory before the event */
        for (size_t i = 0; i < worker->cell_capacity; i++) {
            struct cell *cell = &worker->cells[i];
            if (cell->memory && !cell->complete && memcmp(&cell->task, &event.task, sizeof event.task) == 0) {
                cell->value = message->value;
                cell->complete = true;
            }
        }
    }
    world->actions.count = 0;
    tessi_flow_step(worker->flow, &event, &world->actions);
    for (size_t i = 0; i < world->actions.count; i++) {
        act(world, self, &world->actions.items[i], message);
    }
    tessi_flow_verify(worker->flow);
    struct tessi_flow_stats stats;
    tessi_flow_stats(worker->flow, &stats);
    TESS_ASSERT(stats.memory_used_bytes == worker->memory_bytes);
    if (tessi_flow_has_report(worker->flow) && world_below(world, 3) == 0) {
        (void)world_report(world, self);
    }
}

bool world_may_run(const struct worker *worker, uint32_t slot)
{
    if (worker->slot_count[slot] == 0) {
        return false;
    }
    const struct tessi_flow_action *run = &worker->slots[slot][0].action;
    for (uint32_t i = 0; i < run->after_count; i++) {
        TESS_ASSERT(slot < worker->config.slots || run->after[i].slot == slot);
        if (worker->slot_ended[run->after[i].slot] < run->after[i].last) {
            return false;
        }
    }
    return true;
}

static void end_run(struct world *world, uint32_t self, struct tessi_flow_outcome *outcome)
{
    struct worker *worker = &world->worker[self];
    uint32_t slot = outcome->slot;
    worker->slot_count[slot]--;
    memmove(worker->slots[slot], worker->slots[slot] + 1, worker->slot_count[slot] * sizeof *worker->slots[slot]);
    worker->slot_ended[slot] = outcome->run;
    struct message done = {
        .event = {.kind = TESSI_FLOW_STEP_DONE, .outcomes = outcome, .outcome_count = 1}};
    world_step(world, self, &done);
}

/* A device that is too small or gone gives steps back: the task begins anew, maybe at a CPU slot. */
static bool give_back(struct world *world, uint32_t self, uint32_t slot)
{
    struct worker *worker = &world->worker[self];
    const struct tessi_flow_action *run = &worker->slots[slot][0].action;
    bool behind = run->step > 0 && worker->slot_cancelled[slot];
    if (slot < worker->config.slots || (!behind && world_below(world, 20) > 0)) {
        worker->slot_cancelled[slot] = false;
        return false;
    }
    struct tessi_flow_outcome outcome = {
        .slot = slot, .run = run->run, .status = TESSI_CANCELLED, .elsewhere = world_below(world, 4) == 0};
    worker->slot_cancelled[slot] = true;
    bool gone = world_below(world, 10) == 0;
    end_run(world, self, &outcome);
    if (gone) {
        struct message lost = {.event = {.kind = TESSI_FLOW_NO_DEVICES}};
        world_step(world, self, &lost);
    }
    return true;
}

void world_run_slot(struct world *world, uint32_t self, uint32_t slot)
{
    if (give_back(world, self, slot)) {
        return;
    }
    struct worker *worker = &world->worker[self];
    struct tessi_flow_action run = worker->slots[slot][0].action;
    uint64_t values[TESSI_STEP_REFS_MAX];
    struct tessi_step expected;
    struct cell *out = cell_of(worker, run.out);
    tessi_task_step(run.layer, run.task.index, run.step, &expected);
    TESS_ASSERT(expected.count == run.in_count && out->memory && !out->complete);
    for (uint32_t k = 0; k < run.in_count; k++) {
        values[k] = read_cell(world, worker, run.in[k]);
    }
    out = cell_of(worker, run.out);
    out->value = world_step_value(run.layer, run.task.index, run.step, out->value, values, run.in_count);
    out->complete = run.step + 1 == run.steps;
    if (out->complete && out->memory) {
        TESS_ASSERT(out->value == world_task(world, run.task.layer, run.task.index)->value);
    }
    struct tessi_flow_outcome outcome = {.slot = slot, .run = run.run, .ran_ns = 1 + world_below(world, 400000)};
    end_run(world, self, &outcome);
}

void world_finish_io(struct world *world, uint32_t self)
{
    struct worker *worker = &world->worker[self];
    size_t i = world_below(world, worker->io_count);
    struct io io = worker->io[i];
    worker->io[i] = worker->io[--worker->io_count];
    struct message done = {
        .event = {.kind = io.spill ? TESSI_FLOW_SPILLED : TESSI_FLOW_LOADED, .block = io.block}};
    if (!io.spill) {
        cell_of(worker, io.block)->file = false;
    }
    world_step(world, self, &done);
}
