/* The devices of a worker: where the bytes are of what they make, and how they are lost. What must wait for such bytes is
 * held back by the worker's own worker/deferred.c, which asks here as it asks worker/gpu. */
#include <stdio.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/shell.h"
#include "worker/deferred.h"

#define DEVICES_MAX 2

struct ticket { /* a block that is on its way home */
    uint64_t id;
    uint32_t block; /* UINT32_MAX: the handle is gone */
    struct sim_region *region; /* a reference */
};

struct device {
    bool broken;   /* nothing ends there any more */
    bool given_up; /* and the worker knows */
};

struct tessi_gpus { /* stands for worker/gpu and, as far as worker/deferred.c can tell, for the store */
    struct sim_world *world;
    struct sim_node *node;
    struct device devices[DEVICES_MAX]; /* the first has number 1 */
    uint32_t count;
    struct ticket *tickets;
    size_t ticket_count, ticket_capacity;
    uint64_t numbers;
    bool none_left; /* the planner knows */
};

/* --- what worker/deferred.c asks --- */

static const struct place *place_of(const struct tessi_gpus *gpus, uint32_t block)
{
    return sim_place(gpus->world, gpus->node, block);
}

uint64_t tessi_gpus_want(struct tessi_gpus *gpus, uint32_t handle)
{
    struct place *place = sim_place(gpus->world, gpus->node, handle);
    struct sim_region *region = place->memory;
    if (region == NULL || !region->away) {
        return 0;
    }
    if (place->ticket == 0) {
        place->ticket = ++gpus->numbers;
        tessi_grow(&gpus->tickets, &gpus->ticket_capacity, gpus->ticket_count + 1, sizeof *gpus->tickets);
        gpus->tickets[gpus->ticket_count++] = (struct ticket){place->ticket, handle, region};
        (void)tessi_block_ref((struct tessi_block *)region);
        int64_t at_ns = gpus->world->now_ns + random_scale(&gpus->world->random, 1000, 20 * SIM_MS);
        sim_schedule(gpus->world, at_ns,
                     (struct sim_event){.kind = SIM_DEVICE_HOME, .node = gpus->node->id, .a = (uint32_t)place->ticket});
    }
    return place->ticket;
}

bool tessi_gpus_apart(const struct tessi_gpus *gpus, const struct tessi_flow_action *action, uint32_t handle)
{
    const struct sim_region *region = place_of(gpus, handle)->memory;
    return region != NULL && region->away && region->device != place_of(gpus, action->out)->task_at;
}

/* What is in a file is read now: whoever sends it later has read it, or not. */
struct tessi_block *tessi_store_block(const struct tessi_store *store, uint32_t handle, bool spilled)
{
    const struct tessi_gpus *gpus = (const struct tessi_gpus *)store;
    const struct place *place = place_of(gpus, handle);
    if (!spilled) {
        return (struct tessi_block *)place->memory;
    }
    struct sim_region *region = tessi_zalloc(sizeof *region);
    *region =
        (struct sim_region){.value = place->stored, .bytes = place->bytes, .complete = true, .damaged = place->damaged};
    return (struct tessi_block *)region;
}

struct tessi_block *tessi_block_ref(struct tessi_block *block)
{
    struct sim_region *region = (struct sim_region *)block;
    region->refs++;
    region->keeps++;
    return block;
}

void tessi_block_unref(struct tessi_block *block)
{
    struct sim_region *region = (struct sim_region *)block;
    region->keeps--;
    if (--region->refs == 0) {
        tessi_free(region);
    }
}

/* --- blocks --- */

uint64_t sim_devices_read(struct sim_world *world, const struct sim_worker *worker, const struct sim_region *region,
                          uint32_t device)
{
    (void)worker;
    return region->away && region->device != device ? random_next(&world->random) : region->value;
}

static void ticket_end(struct tessi_gpus *gpus, size_t t)
{
    tessi_block_unref((struct tessi_block *)gpus->tickets[t].region);
    gpus->tickets[t] = gpus->tickets[--gpus->ticket_count];
}

void sim_devices_forget(struct sim_worker *worker, uint32_t block)
{
    struct tessi_gpus *gpus = worker->devices;
    for (size_t t = 0; gpus != NULL && t < gpus->ticket_count; t++) {
        if (gpus->tickets[t].block == block) {
            gpus->tickets[t].block = UINT32_MAX; /* whoever waits for the bytes gets them all the same */
        }
    }
    worker->places[block].ticket = 0;
    worker->places[block].task_at = 0;
}

void sim_devices_home(struct sim_world *world, struct sim_node *node, uint32_t ticket)
{
    struct tessi_gpus *gpus = node->worker->devices;
    for (size_t t = 0; t < gpus->ticket_count; t++) {
        struct sim_region *region = gpus->tickets[t].region;
        if (gpus->tickets[t].id != ticket || gpus->devices[region->device - 1].broken) {
            continue;
        }
        region->away = false;
        if (gpus->tickets[t].block != UINT32_MAX) {
            node->worker->places[gpus->tickets[t].block].ticket = 0;
        }
        ticket_end(gpus, t);
        tessi_deferred_home(node->worker->deferred, ticket);
        sim_devices_go_on(world, node);
        return;
    }
}

/* --- steps --- */

bool sim_devices_take(const struct sim_world *world, const struct sim_worker *worker, const struct tessi_layer *layer)
{
    bool able = tessi_op_row(layer->op)->devices != TESSI_DEVICES_NONE;
    uint64_t chance = sim_mix(world->seed, (uint64_t)layer->session << 32 | layer->id) % 100;
    return worker->devices != NULL && able && chance < 70;
}

bool sim_devices_either(const struct sim_world *world, const struct tessi_layer *layer)
{
    return sim_mix(world->seed ^ 1, (uint64_t)layer->session << 32 | layer->id) % 100 < 60;
}

/* Of several kinds, with nominal speeds that need not be true, for tasks of sizes that need not be theirs. */
void sim_devices_say(const struct sim_world *world, struct sim_node *node)
{
    uint64_t mixed = sim_mix(world->seed ^ 2, node->id);
    node->info.devices = node->devices;
    node->info.device_gflops = mixed % 4 > 0 ? 40 * (double)(mixed % 4) : 0;
    node->info.device_bytes_min = mixed % 7 == 0 ? 1e9 : 0;
    (void)snprintf(node->info.device, sizeof node->info.device, "device of %.0f", node->info.device_gflops);
}

uint64_t sim_devices_lost_count(const struct sim_worker *worker)
{
    uint64_t lost = 0;
    for (uint32_t d = 0; worker->devices != NULL && d < worker->devices->count; d++) {
        lost += worker->devices->devices[d].given_up ? 1 : 0;
    }
    return lost;
}

static bool none_left(const struct tessi_gpus *gpus)
{
    for (uint32_t d = 0; d < gpus->count; d++) {
        if (!gpus->devices[d].given_up) {
            return false;
        }
    }
    return true;
}

void sim_devices_place(struct sim_worker *worker, const struct tessi_flow_action *action)
{
    struct tessi_gpus *gpus = worker->devices;
    struct place *out = sim_place(gpus->world, gpus->node, action->out);
    for (uint32_t i = 0; i < action->in_count && out->task_at == 0; i++) {
        const struct sim_region *region = place_of(gpus, action->in[i])->memory;
        if (region != NULL && region->away && !gpus->devices[region->device - 1].given_up &&
            random_chance(&gpus->world->random, 70)) {
            out->task_at = region->device;
        }
    }
    if (out->task_at == 0) {
        out->task_at = 1 + random_below(&gpus->world->random, gpus->count);
        if (gpus->devices[out->task_at - 1].given_up && !none_left(gpus)) {
            out->task_at = gpus->count + 1 - out->task_at;
        }
    }
}

bool sim_devices_begin(struct sim_world *world, struct sim_node *node, struct slot *slot)
{
    struct run *run = &slot->runs[0];
    const struct device *device =
        &node->worker->devices->devices[sim_place(world, node, run->action.out)->task_at - 1];
    if (!device->given_up && device->broken) {
        return false;
    }
    run->given_back = run->given_back || device->given_up;
    if (!run->given_back && random_chance(&world->random, world->options.elsewhere_percent)) {
        for (size_t i = 0; i < slot->count; i++) {
            slot->runs[i].given_back = slot->runs[i].elsewhere = true;
        }
    }
    return true;
}

/* The output stays where it is; now and then the device has written it back by itself. */
void sim_devices_ended(struct sim_world *world, struct sim_node *node, uint32_t block)
{
    struct place *place = sim_place(world, node, block);
    place->memory->device = place->task_at;
    place->memory->away = !place->memory->complete || random_chance(&world->random, 80);
}

/* One after the other or all at once, as worker/gpu happens to hand them over. */
void sim_devices_tell(struct sim_world *world, struct sim_node *node, struct slot *slot)
{
    struct tessi_gpus *gpus = node->worker->devices;
    struct tessi_flow_outcome *outcomes = slot->outcomes;
    size_t count = slot->outcome_count;
    size_t at_once = count > 1 && random_chance(&world->random, 50) ? count : 1;
    slot->outcomes = NULL;
    slot->outcome_count = slot->outcome_capacity = 0;
    for (size_t i = 0; i < count; i += at_once) {
        if (!gpus->none_left && none_left(gpus)) {
            gpus->none_left = true;
            sim_worker_step(world, node, &(struct tessi_flow_event){.kind = TESSI_FLOW_NO_DEVICES}, NULL);
        }
        struct tessi_flow_event event = {
            .kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcomes[i], .outcome_count = at_once};
        sim_worker_step(world, node, &event, NULL);
        sim_devices_go_on(world, node);
    }
    tessi_free(outcomes);
}

/* --- what was held back --- */

static void send_nothing(struct sim_world *world, struct sim_node *node, struct tessi_flow_action action)
{
    bool lease = action.kind == TESSI_FLOW_SEND_LEASE;
    action.kind = TESSI_FLOW_SEND_ASK;
    sim_worker_send(world, node, &action, NULL);
    if (lease) {
        struct tessi_flow_event event = {.kind = TESSI_FLOW_RELEASE, .peer = action.peer, .task = action.task};
        sim_worker_step(world, node, &event, NULL);
    }
}

void sim_devices_go_on(struct sim_world *world, struct sim_node *node)
{
    struct tessi_deferred_action late;
    while (node->worker->deferred != NULL && tessi_deferred_next(node->worker->deferred, &late)) {
        const struct tessi_flow_action *action = &late.action;
        bool nothing = action->kind == TESSI_FLOW_RUN && action->slot >= node->worker->config.slots && late.lost;
        sim_trace(world, "    %u: goes on with block %u of task %u:%llu%s", node->id, action->block, action->task.layer,
                  (unsigned long long)action->task.index, late.lost ? ", which is lost" : "");
        if (nothing) {
            struct tessi_flow_outcome outcome = {.slot = action->slot, .run = action->run, .status = TESSI_CANCELLED};
            struct tessi_flow_event event = {.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1};
            sim_place(world, node, action->out)->memory->spoiled = true;
            sim_worker_step(world, node, &event, NULL);
        } else if (action->kind == TESSI_FLOW_RUN) {
            sim_worker_run(world, node, action, late.lost);
        } else if (action->kind == TESSI_FLOW_SPILL && late.lost) {
            struct tessi_flow_event event = {
                .kind = TESSI_FLOW_SPILLED, .block = action->block, .status = TESSI_LOST};
            sim_worker_step(world, node, &event, NULL);
        } else if (action->kind == TESSI_FLOW_SPILL) {
            sim_worker_spill(world, node, action);
        } else if (late.lost) {
            send_nothing(world, node, *action);
        } else {
            sim_worker_send(world, node, action, (struct sim_region *)late.block);
        }
        if (late.block != NULL) {
            tessi_block_unref(late.block);
        }
    }
}

/* --- loss --- */

void sim_devices_break(struct sim_world *world, struct sim_node *node, uint32_t device)
{
    struct tessi_gpus *gpus = node->worker == NULL ? NULL : node->worker->devices;
    if (gpus == NULL || gpus->devices[device % gpus->count].broken) {
        return;
    }
    uint32_t number = device % gpus->count + 1;
    sim_trace(world, "device %u of worker %u breaks", number, node->id);
    gpus->devices[number - 1].broken = true;
    sim_schedule(world, world->now_ns + random_scale(&world->random, 1000, 50 * SIM_MS),
                 (struct sim_event){.kind = SIM_DEVICE_LOST, .node = node->id, .a = number});
}

/* Every step there is given back. */
static void give_back_all(struct sim_world *world, struct sim_node *node, uint32_t device)
{
    struct sim_worker *worker = node->worker;
    uint32_t all = worker->config.slots + worker->config.device_slots;
    for (uint32_t s = worker->config.slots; s < all; s++) {
        struct slot *slot = &worker->slots[s];
        if (slot->count > 0 && sim_place(world, node, slot->runs[0].action.out)->task_at == device) {
            while (slot->count > 0) {
                sim_worker_run_ended(world, node, s, true);
            }
            slot->round++;
        }
    }
    for (uint32_t s = worker->config.slots; s < all; s++) {
        sim_devices_tell(world, node, &worker->slots[s]);
    }
}

static void lose(struct sim_world *world, struct sim_node *node, uint32_t block, struct sim_region *region)
{
    struct sim_worker *worker = node->worker;
    uint64_t ticket = worker->places[block].ticket;
    region->away = false;
    region->lost = true;
    region->value = random_next(&world->random);
    sim_devices_forget(worker, block);
    for (size_t t = 0; t < worker->devices->ticket_count; t++) {
        if (worker->devices->tickets[t].id == ticket) {
            ticket_end(worker->devices, t);
            break;
        }
    }
    tessi_deferred_lost(worker->deferred, ticket);
    sim_trace(world, "    %u: block %u is lost", node->id, block);
    sim_worker_step(world, node, &(struct tessi_flow_event){.kind = TESSI_FLOW_LOST, .block = block}, NULL);
    sim_devices_go_on(world, node);
}

/* Complete blocks that it alone had; what is lost of one that was forgotten meanwhile concerns only those who wait. */
static void lose_all(struct sim_world *world, struct sim_node *node, uint32_t device)
{
    struct sim_worker *worker = node->worker;
    struct tessi_gpus *gpus = worker->devices;
    for (uint32_t b = 0; b < worker->place_count; b++) {
        struct sim_region *region = worker->places[b].used ? worker->places[b].memory : NULL;
        if (region != NULL && region->away && region->device == device && region->complete) {
            lose(world, node, b, region);
        }
    }
    for (size_t t = 0; t < gpus->ticket_count;) {
        struct sim_region *region = gpus->tickets[t].region;
        uint64_t ticket = gpus->tickets[t].id;
        if (region->device != device || gpus->tickets[t].block != UINT32_MAX) {
            t++;
            continue;
        }
        region->away = false;
        region->value = random_next(&world->random);
        ticket_end(gpus, t);
        tessi_deferred_lost(worker->deferred, ticket);
        sim_devices_go_on(world, node);
        t = 0;
    }
}

void sim_devices_lost(struct sim_world *world, struct sim_node *node, uint32_t device)
{
    struct sim_worker *worker = node->worker;
    uint32_t all = worker->config.slots + worker->config.device_slots;
    sim_trace(world, "worker %u has lost device %u", node->id, device);
    worker->devices->devices[device - 1].given_up = true;
    for (uint32_t s = worker->config.slots; s < all; s++) {
        sim_devices_tell(world, node, &worker->slots[s]);
    }
    bool steps_first = random_chance(&world->random, 50);
    if (steps_first) {
        give_back_all(world, node, device);
    }
    lose_all(world, node, device);
    if (!steps_first) {
        give_back_all(world, node, device);
    }
}

/* --- from start to end --- */

void sim_devices_create(struct sim_world *world, struct sim_node *node)
{
    struct sim_worker *worker = node->worker;
    if (node->devices == 0) {
        return;
    }
    worker->devices = tessi_zalloc(sizeof *worker->devices);
    worker->devices->world = world;
    worker->devices->node = node;
    worker->devices->count = node->devices;
    worker->config.device_slots = node->devices * (uint32_t)random_scale(&world->random, 1, 16);
    worker->config.copy_ns_per_byte = 0.1;
    worker->deferred =
        tessi_deferred_create(worker->devices, (struct tessi_store *)worker->devices, worker->config.slots);
    TESS_ASSERT(node->devices <= DEVICES_MAX);
}

void sim_devices_destroy(struct sim_worker *worker)
{
    struct tessi_gpus *gpus = worker->devices;
    tessi_deferred_destroy(worker->deferred);
    while (gpus != NULL && gpus->ticket_count > 0) {
        ticket_end(gpus, 0);
    }
    if (gpus != NULL) {
        tessi_free(gpus->tickets);
        tessi_free(gpus);
    }
}
