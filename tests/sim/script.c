/* What a world is made of, what its clients will do and what will go wrong: all from the seed. */
#include <stdio.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/world.h"

const char *const sim_profile_names[SIM_ANY] = {
    [SIM_CALM] = "calm",   [SIM_DEATHS] = "deaths",     [SIM_PAUSES] = "pauses",   [SIM_MEMORY] = "memory",
    [SIM_DISKS] = "disks", [SIM_FAILURES] = "failures", [SIM_CLIENTS] = "clients", [SIM_CHAOS] = "chaos",
    [SIM_LEAVES] = "leaves", [SIM_TIGHT] = "tight", [SIM_DEVICES] = "devices",
    [SIM_FULL] = "full",
};

/* --- options --- */

static void choose_size(struct sim_world *world)
{
    static const int64_t scales[] = {1, 40, 40, 300};
    struct sim_options *options = &world->options;
    struct random *random = &world->random;
    options->workers = (uint32_t)random_between(random, 2, 6);
    options->clients = 1;
    options->hosts = (uint32_t)random_between(random, 1, 4);
    options->graph.scale = scales[random_below(random, 4)];
    options->graph.tasks_max = (uint64_t)random_scale(random, 30, 600);
    options->graph.step_max_ns = random_scale(random, 100000, 20 * SIM_MS);
    options->latency_ns = random_scale(random, 20000, 2 * SIM_MS);
    options->spike_percent = random_chance(random, 30) ? 5 : 0;
    options->spike_ns = random_scale(random, SIM_MS, 200 * SIM_MS);
    options->bytes_per_ns = (double)random_scale(random, 1, 100) / 10;
    options->report_delay_ns = random_scale(random, 10000, 5 * SIM_MS);
    options->slow_percent = random_chance(random, 50) ? 30 : 0;
    options->peers_notice = random_chance(random, 50);
    options->sched = tessi_sched_config_default();
    (void)snprintf(options->sched.family, sizeof options->sched.family, "generic+device");
    options->sched.block_cost = 0;
    options->sched.window_ns = random_scale(random, SIM_MS, 500 * SIM_MS);
    options->sched.assigned_per_slot = (uint32_t)random_scale(random, 2, 4096);
    options->sched.assigned_per_step = (uint32_t)random_scale(random, 2, 65536);
    options->sched.lookups_per_step = sim_mix(random->state, 1) % 4 == 0 /* much is told of many at once, or in many steps */
                                          ? 8
                                          : 100 + options->sched.assigned_per_step;
    options->sched.worker_silence_ns = SIM_S;
    options->sched.client_silence_ns = 3 * SIM_S;
    options->sched.wait_workers_ns = random_scale(random, SIM_S / 2, 20 * SIM_S);
    options->sched.max_deaths = (uint32_t)random_between(random, 1, 3);
    options->sched.exchange_room = sim_mix(random->state, 0) % 2 == 0 ? 8 : 1u << 20; /* these hold nothing surely */
}

static void add_deaths(struct sim_world *world)
{
    struct sim_options *options = &world->options;
    options->deaths = (uint32_t)random_between(&world->random, 1, 4);
    options->joins = (uint32_t)random_between(&world->random, 0, 3);
    options->all_die = random_chance(&world->random, 15);
    options->silent_percent = random_chance(&world->random, 30) ? 50 : 0;
    options->duplicate_percent = random_chance(&world->random, 50) ? 10 : 0;
}

static void add_pauses(struct sim_world *world)
{
    world->options.pauses = (uint32_t)random_between(&world->random, 1, 4);
    world->options.joins = (uint32_t)random_between(&world->random, 0, 2);
    world->options.duplicate_percent = random_chance(&world->random, 50) ? 10 : 0;
    world->options.hear_the_lost = random_chance(&world->random, 50);
    if (random_chance(&world->random, 40)) {
        world->options.hosts = 0; /* nobody lends memory, so nobody needs to fence itself off */
    } else if (random_chance(&world->random, 50)) { /* much lent memory, and steps during which to lose it */
        world->options.hosts = 1;
        world->options.graph.scale = 100;
        world->options.graph.step_max_ns = 20 * SIM_MS;
    }
}

static void add_memory(struct sim_world *world)
{
    struct sim_options *options = &world->options;
    options->small_memory = random_chance(&world->random, 75);
    options->no_spill = !options->small_memory;
    options->tiny_percent = random_chance(&world->random, 40) ? 30 : 0;
    if (options->graph.scale == 1 && random_chance(&world->random, 70)) {
        options->graph.scale = 40;
    }
    if (random_chance(&world->random, 50)) { /* blocks too large to travel inside an answer, lent and borrowed */
        options->hosts = 1;
        options->graph.scale = 100;
    }
}

static void add_disks(struct sim_world *world)
{
    world->options.small_memory = true;
    world->options.spill_fail_percent = random_chance(&world->random, 60) ? 25 : 0;
    world->options.damage_percent = random_chance(&world->random, 60) ? 5 : 0;
}

static void add_failures(struct sim_world *world)
{
    world->options.graph.fail_percent = random_chance(&world->random, 70) ? 8 : 0;
    world->options.duplicate_percent = random_chance(&world->random, 70) ? 10 : 0;
    if (random_chance(&world->random, 50)) { /* several fail in one queue, and others there read them */
        world->options.graph.fail_percent = 20;
        world->options.graph.fail_more_percent = 15;
        world->options.graph.pairs_percent = 50;
        world->options.graph.step_max_ns = 60000;
        world->options.graph.scale = 1;
        world->options.workers = 2;
    }
    world->options.too_small = random_chance(&world->random, 15);
    world->options.stranger_percent = random_chance(&world->random, 20) ? 30 : 0;
}

static void add_leaves(struct sim_world *world)
{
    world->options.leaves = (uint32_t)random_between(&world->random, 1, 4);
    world->options.joins += (uint32_t)random_between(&world->random, 0, 2);
}

static void add_devices(struct sim_world *world)
{
    struct sim_options *options = &world->options;
    options->device_percent = random_chance(&world->devices, 70) ? 100 : 60;
    options->breaks = options->leave_in_peace ? 0 : (uint32_t)random_between(&world->devices, 0, 6);
    options->elsewhere_percent = random_chance(&world->devices, 40) ? random_chance(&world->devices, 50) ? 1 : 10 : 0;
}

static void add_clients(struct sim_world *world)
{
    struct sim_options *options = &world->options;
    options->clients = (uint32_t)random_between(&world->random, 1, 3);
    options->graph.tasks_max /= options->clients;
    options->client_deaths = random_chance(&world->random, 40) ? 1 : 0;
    options->client_pauses = random_chance(&world->random, 20) ? 1 : 0;
}

void sim_options_choose(struct sim_world *world)
{
    struct sim_options *options = &world->options;
    if (options->profile == SIM_ANY) {
        options->profile = (enum sim_profile)(world->seed % SIM_PROFILES);
        if (options->profile == SIM_CALM && world->seed / SIM_PROFILES % 2 == 1) {
            options->profile = SIM_LEAVES;
        }
    }
    choose_size(world);
    /* In a third of the worlds the past is forgotten, soon or at a client's wish. */
    bool never = world->seed % 3 < 2 || options->profile == SIM_FULL;
    options->sched.lineage_max = never ? SIM_LINEAGE_NEVER : (uint32_t)(1 + world->seed / 3 % 5);
    switch (options->profile) {
    case SIM_CALM:
        break;
    case SIM_DEATHS:
        add_deaths(world);
        break;
    case SIM_PAUSES:
        add_pauses(world);
        break;
    case SIM_MEMORY:
    case SIM_DISKS:
        if (random_chance(&world->random, 30)) {
            add_deaths(world);
        }
        if (options->profile == SIM_MEMORY) {
            add_memory(world);
        } else {
            add_disks(world);
        }
        break;
    case SIM_FAILURES:
        add_failures(world);
        break;
    case SIM_CLIENTS:
        add_clients(world);
        break;
    case SIM_LEAVES:
        add_leaves(world);
        options->leave_in_peace = random_chance(&world->random, 70);
        if (!options->leave_in_peace) {
            add_memory(world);
        }
        break;
    case SIM_TIGHT:
        options->small_memory = true;
        options->hosts = random_chance(&world->random, 50) ? 1 : options->hosts;
        options->graph.scale = random_chance(&world->random, 50) ? 100 : options->graph.scale;
        break;
    case SIM_FULL:
        options->full = true;
        options->block_cost = random_chance(&world->random, 40) ? (uint32_t)random_scale(&world->random, 1, 2000) : 0;
        options->sched.block_cost = options->block_cost;
        options->hosts = random_chance(&world->random, 50) ? 1 : options->hosts;
        options->graph.scale = random_chance(&world->random, 50) ? 100 : options->graph.scale;
        options->spill_fail_percent = random_chance(&world->random, 20) ? 100 : 0;
        break;
    case SIM_DEVICES: {
        void (*const adders[])(struct sim_world *) = {add_deaths, add_pauses,   add_memory,
                                                      add_disks,  add_failures, add_leaves};
        if (random_chance(&world->random, 60)) {
            adders[random_below(&world->random, 6)](world);
        }
        break;
    }
    case SIM_ANY:
        TESS_ASSERT(false);
    case SIM_CHAOS: {
        void (*const adders[])(struct sim_world *) = {add_pauses, add_memory,  add_disks,
                                                      add_failures, add_clients, add_leaves};
        add_deaths(world);
        for (uint32_t a = 0; a < 6; a++) {
            if (random_chance(&world->random, 50)) {
                adders[a](world);
            }
        }
        break;
    }
    }
    options->fault_end_ns = random_scale(&world->random, 10 * SIM_MS, 2 * SIM_S);
    world->devices.state = sim_mix(world->seed, UINT64_C(0x64657669636573));
    if (options->profile == SIM_DEVICES || random_chance(&world->devices, 20)) {
        add_devices(world);
    }
}

/* --- faults --- */

static void plan_from(struct sim_world *world, struct random *random, enum sim_fault_kind kind, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct sim_fault fault = {kind, 0};
        if (kind == SIM_PAUSE || kind == SIM_PAUSE_CLIENT || kind == SIM_PAUSE_SCHEDULER) {
            fault.for_ns = random_scale(random, SIM_MS, 6 * SIM_S);
        }
        if (kind == SIM_DRAIN) {
            fault.for_ns = world->options.leave_in_peace ? 20 * SIM_S : random_scale(random, SIM_MS, 6 * SIM_S);
        }
        int64_t at_ns = kind == SIM_END ? world->options.fault_end_ns
                                        : random_scale(random, SIM_MS, world->options.fault_end_ns);
        tessi_grow(&world->faults, &world->fault_capacity, world->fault_count + 1, sizeof *world->faults);
        world->faults[world->fault_count++] = fault;
        sim_schedule(world, world->now_ns + at_ns,
                     (struct sim_event){.kind = SIM_FAULT, .a = (uint32_t)world->fault_count - 1});
    }
}

static void plan(struct sim_world *world, enum sim_fault_kind kind, uint32_t count)
{
    plan_from(world, &world->random, kind, count);
}

void sim_faults_plan(struct sim_world *world)
{
    const struct sim_options *options = &world->options;
    plan(world, SIM_KILL, options->deaths);
    plan(world, SIM_PAUSE, options->pauses);
    plan(world, SIM_JOIN, options->joins);
    plan(world, SIM_DRAIN, options->leaves);
    plan(world, SIM_KILL_CLIENT, options->client_deaths);
    plan(world, SIM_PAUSE_CLIENT, options->client_pauses);
    plan(world, SIM_KILL_ALL, options->all_die ? 1 : 0);
    plan(world, SIM_BREAK, options->breaks);
    plan(world, SIM_END, 1);
    world->scheduler_pauses.state = sim_mix(world->seed, UINT64_C(0x7363686564)); /* other worlds are what they were */
    world->options.scheduler_pauses = random_chance(&world->scheduler_pauses, 20) ? 2 : 0;
    plan_from(world, &world->scheduler_pauses, SIM_PAUSE_SCHEDULER, world->options.scheduler_pauses);
}

/* --- scripts --- */

struct writer {
    struct sim_world *world;
    struct sim_graph *graph;
    struct sim_script *script;
    uint32_t wanted[256]; /* layers that are wanted, not cancelled and not released */
    uint32_t wanted_count;
};

static void push(struct writer *writer, enum sim_op_kind kind, uint32_t number)
{
    struct sim_script *script = writer->script;
    tessi_grow(&script->ops, &script->capacity, script->count + 1, sizeof *script->ops);
    script->ops[script->count++] = (struct sim_op){kind, number, 0};
}

static void pause_a_while(struct writer *writer)
{
    push(writer, SIM_OP_WAIT, 0);
    writer->script->ops[writer->script->count - 1].for_ns =
        random_scale(&writer->world->random, 10000, 300 * SIM_MS);
}

static bool is_wanted(const struct writer *writer, uint32_t layer)
{
    for (uint32_t i = 0; i < writer->wanted_count; i++) {
        if (writer->wanted[i] == layer) {
            return true;
        }
    }
    return false;
}

static void want(struct writer *writer, struct sim_submission *submission, uint32_t layer)
{
    submission->wanted = tessi_realloc(submission->wanted, (submission->wanted_count + 1) * sizeof layer);
    submission->wanted[submission->wanted_count++] = layer;
    if (!is_wanted(writer, layer) && writer->wanted_count < 256) {
        writer->wanted[writer->wanted_count++] = layer;
    }
}

/* A few layers more, some of them to be held; now and then an older one is asked for as well. */
static void write_submission(struct writer *writer)
{
    struct random *random = &writer->world->random;
    struct sim_script *script = writer->script;
    struct sim_submission submission = {.first = (uint32_t)writer->graph->count + 1};
    sim_graph_extend(writer->graph, random, &writer->world->options.graph, (uint32_t)random_between(random, 1, 9));
    submission.count = (uint32_t)writer->graph->count + 1 - submission.first;
    for (uint32_t l = submission.first; l < submission.first + submission.count; l++) {
        if (l + 1 == submission.first + submission.count || random_chance(random, 25)) {
            want(writer, &submission, l);
        }
    }
    for (uint32_t l = submission.first; l < submission.first + submission.count; l++) {
        writer->graph->layers[l - 1].released = !is_wanted(writer, l); /* what nobody asked for has no name later */
    }
    uint32_t older = 1 + random_below(random, submission.first);
    if (random_chance(random, 25) && older < submission.first && !writer->graph->layers[older - 1].released) {
        push(writer, SIM_OP_AWAIT, 0);
        want(writer, &submission, older);
    }
    tessi_grow(&script->submissions, &script->submission_capacity, script->submission_count + 1,
               sizeof *script->submissions);
    script->submissions[script->submission_count++] = submission;
    push(writer, SIM_OP_SUBMIT, (uint32_t)script->submission_count - 1);
}

static void let_go(struct writer *writer, enum sim_op_kind kind, uint32_t layer)
{
    push(writer, kind, layer);
    writer->graph->layers[layer - 1].released = true; /* nothing later names it */
    for (uint32_t i = 0; i < writer->wanted_count; i++) {
        if (writer->wanted[i] == layer) {
            writer->wanted[i] = writer->wanted[--writer->wanted_count];
        }
    }
}

static void write_doings(struct writer *writer)
{
    struct random *random = &writer->world->random;
    uint32_t layers = (uint32_t)writer->graph->count;
    bool loose = writer->world->options.profile >= SIM_CLIENTS;
    if (random_chance(random, 40)) {
        pause_a_while(writer);
    }
    if (random_chance(random, 40)) {
        push(writer, SIM_OP_AWAIT, 0);
    }
    for (uint32_t n = random_below(random, 3); n > 0 && writer->wanted_count > 0; n--) {
        push(writer, SIM_OP_READ, writer->wanted[random_below(random, writer->wanted_count)]);
    }
    if (random_chance(random, 30)) {
        push(writer, SIM_OP_AWAIT_READS, 0);
    }
    for (uint32_t n = random_below(random, 4); n > 0; n--) {
        uint32_t layer = 1 + random_below(random, layers);
        bool keep = writer->graph->layers[layer - 1].released || (is_wanted(writer, layer) && !loose);
        if (!keep) {
            let_go(writer, SIM_OP_RELEASE, layer);
        }
    }
    bool detach = writer->world->options.sched.lineage_max < SIM_LINEAGE_NEVER;
    if (detach && writer->wanted_count > 0 && random_chance(random, 40)) {
        push(writer, SIM_OP_DETACH, writer->wanted[random_below(random, writer->wanted_count)]);
    }
    if (loose && random_chance(random, 20) && writer->wanted_count > 0) {
        let_go(writer, SIM_OP_CANCEL, writer->wanted[random_below(random, writer->wanted_count)]);
    }
}

void sim_script_write(struct sim_world *world, struct sim_graph *graph, struct sim_script *script)
{
    struct writer writer = {.world = world, .graph = graph, .script = script};
    struct random *random = &world->random;
    uint32_t submissions = (uint32_t)random_between(random, 2, 8);
    for (uint32_t s = 0; s < submissions && (s == 0 || graph->tasks < world->options.graph.tasks_max); s++) {
        write_submission(&writer);
        write_doings(&writer);
    }
    if (world->options.profile >= SIM_CLIENTS && random_chance(random, 15)) {
        pause_a_while(&writer);
        push(&writer, SIM_OP_LEAVE, 0);
        return;
    }
    push(&writer, SIM_OP_AWAIT, 0);
    for (uint32_t i = 0; i < writer.wanted_count; i++) {
        push(&writer, SIM_OP_READ, writer.wanted[i]);
    }
    push(&writer, SIM_OP_AWAIT_READS, 0);
    push(&writer, SIM_OP_RELEASE, 0);
}

void sim_script_fini(struct sim_script *script)
{
    for (size_t s = 0; s < script->submission_count; s++) {
        tessi_free(script->submissions[s].wanted);
    }
    tessi_free(script->submissions);
    tessi_free(script->ops);
    *script = (struct sim_script){0};
}
