/* Fuzzer of a worker's planner: one planner, whose scheduler and peers say whatever can be decoded, while its own shell
 * does what it owes (worker/flow/flow.h): steps of a slot end in their order, each RUN, SPILL and LOAD is answered once,
 * DATA comes of a pull that is under way, and nothing after its peer was lost. See runner.h for how it is run.
 *
 * The shell keeps memory, files and queues for each handle, and what the planner does with them is checked against that.
 * In the end the peers are lost, the layers are dropped and what runs ends: then nothing is left.
 *
 * tests/run: one thread */
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/runner.h"
#include "tests/sim/graph.h"
#include "worker/flow/flow.h"

enum {
    SELF = 1,
    PEERS = 4, /* ids 2 … 5, and those of two clients */
    SESSION = 100,
    GRAPHS = 2,
    TASKS_MAX = 80,
    STEPS_MAX = 512,
    CPU_SLOTS = 2,
    SLOTS_MAX = 4,
    DEPTH = 6,
    RECENT = 32,
    RUNS_KEPT = 64, /* how the last runs of a slot ended */
};

struct cell { /* what the shell keeps for a handle */
    bool memory, mapped, file, io;
    uint64_t bytes;
    struct tessi_task task;
};

struct slot {
    struct tessi_flow_action *runs; /* owned */
    size_t count, capacity;
    uint64_t ended; /* number of the last run that has */
    enum tessi_status outcome[RUNS_KEPT];
    bool given_back; /* the steps behind, of the same task, come back too */
};

struct pull {
    struct tessi_task task;
    uint32_t peer, block;
};

struct transfer {
    bool spill;
    uint32_t block;
};

struct said { /* a name that was spoken of lately, with whom */
    struct tessi_task task;
    uint32_t peer, epoch;
};

static struct {
    struct input input;
    struct tessi_flow_config config;
    struct tessi_flow *flow;
    struct tessi_flow_actions actions;
    struct sim_graph graph[GRAPHS];
    struct random random;
    struct cell *cells; /* owned */
    size_t cell_count;
    struct slot slots[SLOTS_MAX];
    struct pull *pulls; /* owned */
    size_t pull_count, pull_capacity;
    struct transfer *transfers; /* owned */
    size_t transfer_count, transfer_capacity;
    struct said said[RECENT];
    uint32_t said_count, epoch;
    uint64_t used_bytes;
    int64_t now_ns;
    bool no_devices, spill_failed;
    struct tessi_task served; /* from its file, last */
    uint32_t mapped;          /* bit p: the memory of peer p is */
    const struct tessi_flow_event *cause;
} fuzz;

static const struct sim_graph_options graph_options = {.scale = 64, .tasks_max = TASKS_MAX, .step_max_ns = 1000000};

/* ——— the shell ——— */

static struct cell *cell_of(uint32_t handle)
{
    if (handle >= fuzz.cell_count) {
        size_t count = 2 * (size_t)handle + 16;
        fuzz.cells = tessi_realloc(fuzz.cells, count * sizeof *fuzz.cells);
        memset(fuzz.cells + fuzz.cell_count, 0, (count - fuzz.cell_count) * sizeof *fuzz.cells);
        fuzz.cell_count = count;
    }
    return &fuzz.cells[handle];
}

static void note(struct tessi_task task, uint32_t peer, uint32_t epoch)
{
    fuzz.said[fuzz.said_count++ % RECENT] = (struct said){task, peer, epoch};
}

static void take_memory(struct cell *cell, const struct tessi_flow_action *action)
{
    TESS_ASSERT(!cell->memory && !cell->mapped);
    cell->memory = true;
    cell->bytes = action->bytes;
    cell->task = action->task;
    fuzz.used_bytes += action->bytes;
    TESS_ASSERT(fuzz.used_bytes <= fuzz.config.memory_bytes);
}

static void give_memory(struct cell *cell)
{
    TESS_ASSERT(cell->memory);
    cell->memory = false;
    fuzz.used_bytes -= cell->bytes;
}

static void nothing_uses(uint32_t handle)
{
    for (uint32_t s = 0; s < SLOTS_MAX; s++) {
        for (size_t r = 0; r < fuzz.slots[s].count; r++) {
            const struct tessi_flow_action *run = &fuzz.slots[s].runs[r];
            TESS_ASSERT(run->out != handle);
            for (uint32_t k = 0; k < run->in_count; k++) {
                TESS_ASSERT(run->in[k] != handle);
            }
        }
    }
}

static void queue_run(const struct tessi_flow_action *action)
{
    struct slot *slot = &fuzz.slots[action->slot];
    bool device = action->slot >= fuzz.config.slots;
    TESS_ASSERT(action->slot < fuzz.config.slots + fuzz.config.device_slots && cell_of(action->out)->memory);
    TESS_ASSERT(action->run == slot->ended + slot->count + 1);
    for (uint32_t k = 0; k < action->in_count; k++) {
        const struct cell *in = cell_of(action->in[k]);
        TESS_ASSERT(in->memory || in->mapped);
    }
    for (uint32_t a = 0; a < action->after_count; a++) {
        const struct tessi_flow_after *after = &action->after[a];
        uint64_t last = fuzz.slots[after->slot].ended + fuzz.slots[after->slot].count;
        TESS_ASSERT(after->first <= after->last && after->last <= last && (!device || after->slot == action->slot));
    }
    tessi_grow(&slot->runs, &slot->capacity, slot->count + 1, sizeof *slot->runs);
    slot->runs[slot->count++] = *action;
    TESS_ASSERT(slot->count <= (device ? 3 : DEPTH));
}

static void start_transfer(uint32_t handle, bool spill)
{
    struct cell *cell = cell_of(handle);
    TESS_ASSERT(!cell->io);
    cell->io = true;
    tessi_grow(&fuzz.transfers, &fuzz.transfer_capacity, fuzz.transfer_count + 1, sizeof *fuzz.transfers);
    fuzz.transfers[fuzz.transfer_count++] = (struct transfer){spill, handle};
}

static void start_pull(const struct tessi_flow_action *action)
{
    TESS_ASSERT(cell_of(action->block)->memory);
    size_t at = 0;
    while (at < fuzz.pull_count && memcmp(&fuzz.pulls[at].task, &action->task, sizeof action->task) != 0) {
        at++; /* a pull of a block ends an older one of the same */
    }
    fuzz.pull_count += at == fuzz.pull_count;
    tessi_grow(&fuzz.pulls, &fuzz.pull_capacity, fuzz.pull_count, sizeof *fuzz.pulls);
    fuzz.pulls[at] = (struct pull){action->task, action->peer, action->block};
    note(action->task, action->peer, action->epoch);
}

static void free_cell(uint32_t handle)
{
    struct cell *cell = cell_of(handle);
    TESS_ASSERT((cell->memory || cell->mapped || cell->file) && !cell->io);
    nothing_uses(handle);
    if (cell->memory) {
        give_memory(cell);
    }
    *cell = (struct cell){0};
}

static void send(const struct tessi_flow_action *action)
{
    bool bytes = action->kind == TESSI_FLOW_SEND_INLINE || action->kind == TESSI_FLOW_SEND_LEASE ||
                 action->kind == TESSI_FLOW_SEND_BLOCK;
    if (bytes) {
        const struct cell *cell = cell_of(action->block);
        TESS_ASSERT(action->spilled ? cell->file : cell->memory);
        fuzz.served = action->spilled ? action->task : fuzz.served;
    }
    TESS_ASSERT(action->peer != 0 && action->peer != SELF);
    note(action->task, action->peer, action->epoch);
}

static void act(const struct tessi_flow_action *action)
{
    fuzz_show("    action %d: block %u of %llu bytes, %u.%u:%llu, peer %u, slot %u, step %u of %u", (int)action->kind,
              action->block, (unsigned long long)action->bytes, action->task.session, action->task.layer,
              (unsigned long long)action->task.index, action->peer, action->slot, action->step, action->steps);
    struct cell *cell = action->block == UINT32_MAX ? NULL : cell_of(action->block);
    switch (action->kind) {
    case TESSI_FLOW_ALLOC:
        TESS_ASSERT(!cell->file);
        take_memory(cell, action);
        break;
    case TESSI_FLOW_MAP:
        TESS_ASSERT(fuzz.cause->kind == TESSI_FLOW_READY_LEASE && !cell->memory && !cell->mapped && !cell->file);
        cell->mapped = true;
        break;
    case TESSI_FLOW_FREE_BLOCK:
        free_cell(action->block);
        break;
    case TESSI_FLOW_RUN:
        queue_run(action);
        break;
    case TESSI_FLOW_SPILL:
        TESS_ASSERT(cell->memory && !cell->file);
        cell->file = true;
        start_transfer(action->block, true);
        break;
    case TESSI_FLOW_UNALLOC:
        TESS_ASSERT(cell->file && !cell->io);
        nothing_uses(action->block);
        give_memory(cell);
        break;
    case TESSI_FLOW_LOAD:
        TESS_ASSERT(cell->file);
        take_memory(cell, action);
        start_transfer(action->block, false);
        break;
    case TESSI_FLOW_SEND_PULL:
        start_pull(action);
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
        send(action);
        break;
    case TESSI_FLOW_LOCATE:
        note(action->task, 0, action->epoch);
        break;
    }
}

static void report(void)
{
    struct tessi_report report;
    tessi_flow_report(fuzz.flow, &report);
    const struct tessi_spans *lists[] = {&report.copied, &report.done, &report.stolen, &report.adopted};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (size_t s = 0; s < lists[i]->count; s++) {
            const struct tessi_span *span = &lists[i]->items[s];
            note((struct tessi_task){span->session, span->layer, span->first}, span->worker, span->epoch);
        }
    }
    tessi_report_fini(&report);
}

static void step(const struct tessi_flow_event *event)
{
    fuzz_count();
    struct tessi_flow_event now = *event;
    now.now_ns = fuzz.now_ns += 1000 * (int64_t)input_byte(&fuzz.input);
    fuzz.cause = &now;
    fuzz_show("event %d: peer %u, %u.%u:%llu, block %u, status %d", (int)now.kind, now.peer, now.task.session,
              now.task.layer, (unsigned long long)now.task.index, now.block, (int)now.status);
    for (size_t i = 0; i < now.span_count; i++) {
        const struct tessi_span *span = &now.spans[i];
        fuzz_show("    %u.%u:%llu+%llu epoch %u worker %u order %llu", span->session, span->layer,
                  (unsigned long long)span->first, (unsigned long long)span->count, span->epoch, span->worker,
                  (unsigned long long)span->order);
    }
    fuzz.actions.count = 0;
    tessi_flow_step(fuzz.flow, &now, &fuzz.actions);
    for (size_t i = 0; i < fuzz.actions.count; i++) {
        act(&fuzz.actions.items[i]);
    }
    tessi_flow_verify(fuzz.flow);
    struct tessi_flow_stats stats;
    tessi_flow_stats(fuzz.flow, &stats);
    TESS_ASSERT(stats.memory_used_bytes == fuzz.used_bytes);
}

/* ——— what happens in the worker ——— */

static bool may_end(const struct slot *slot)
{
    for (uint32_t a = 0; slot->count > 0 && a < slot->runs[0].after_count; a++) {
        if (fuzz.slots[slot->runs[0].after[a].slot].ended < slot->runs[0].after[a].last) {
            return false;
        }
    }
    return slot->count > 0;
}

static bool after_failure(const struct slot *slot)
{
    const struct tessi_flow_action *run = &slot->runs[0];
    bool failed = slot->given_back && run->step > 0;
    for (uint32_t a = 0; a < run->after_count; a++) {
        const struct slot *other = &fuzz.slots[run->after[a].slot];
        for (uint64_t r = run->after[a].first; r <= run->after[a].last; r++) {
            failed = failed || (r + RUNS_KEPT > other->ended && other->outcome[r % RUNS_KEPT] != TESSI_OK);
        }
    }
    return failed;
}

/* The first step of the slot's queue ends: well, if nothing is drawn. */
static void end_step(uint32_t number, uint32_t drawn)
{
    struct slot *slot = &fuzz.slots[number];
    if (!may_end(slot)) {
        return;
    }
    bool device = number >= fuzz.config.slots;
    struct tessi_flow_outcome outcome = {.slot = number, .run = slot->runs[0].run, .ran_ns = (int64_t)drawn * 1000};
    if (after_failure(slot) || (device && (fuzz.no_devices || drawn >= 250))) {
        outcome.status = TESSI_CANCELLED;
        outcome.elsewhere = device && drawn % 2 == 1;
    } else if (drawn >= 240) {
        outcome.status = drawn % 2 == 0 ? TESSI_IO : TESSI_FAILED;
        outcome.text = drawn % 3 == 0 ? NULL : "a kernel failed";
    }
    slot->given_back = device && outcome.status != TESSI_OK;
    slot->outcome[outcome.run % RUNS_KEPT] = outcome.status;
    slot->ended = outcome.run;
    memmove(slot->runs, slot->runs + 1, --slot->count * sizeof *slot->runs);
    step(&(struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1});
}

static void end_transfer(size_t at, uint32_t drawn)
{
    if (fuzz.transfer_count == 0) {
        return;
    }
    at %= fuzz.transfer_count;
    struct transfer transfer = fuzz.transfers[at];
    fuzz.transfers[at] = fuzz.transfers[--fuzz.transfer_count];
    struct cell *cell = cell_of(transfer.block);
    enum tessi_status status = drawn < 220 ? TESSI_OK : transfer.spill ? TESSI_IO : TESSI_FORMAT;
    cell->io = false;
    cell->file = transfer.spill && status == TESSI_OK;
    fuzz.spill_failed = fuzz.spill_failed || status == TESSI_IO;
    step(&(struct tessi_flow_event){
        .kind = transfer.spill ? TESSI_FLOW_SPILLED : TESSI_FLOW_LOADED, .block = transfer.block, .status = status});
}

static void end_pull(size_t at)
{
    if (fuzz.pull_count > 0) {
        at %= fuzz.pull_count;
        struct pull pull = fuzz.pulls[at];
        fuzz.pulls[at] = fuzz.pulls[--fuzz.pull_count];
        step(&(struct tessi_flow_event){.kind = TESSI_FLOW_DATA, .peer = pull.peer, .task = pull.task});
    }
}

/* After a pause, and a file that turns out to be damaged when a peer wants it. */
static void disk_event(bool damaged)
{
    if (damaged && fuzz.served.session != 0) {
        struct tessi_task task = fuzz.served;
        fuzz.served = (struct tessi_task){0};
        step(&(struct tessi_flow_event){.kind = TESSI_FLOW_DAMAGED, .task = task});
    } else if (!damaged && fuzz.spill_failed) {
        fuzz.spill_failed = false;
        step(&(struct tessi_flow_event){.kind = TESSI_FLOW_SPILL_AGAIN});
    }
}

static void lose_devices(void)
{
    if (!fuzz.no_devices && fuzz.config.device_slots > 0) {
        fuzz.no_devices = true;
        step(&(struct tessi_flow_event){.kind = TESSI_FLOW_NO_DEVICES});
    }
}

/* ——— names ——— */

static uint32_t some_peer(void)
{
    uint32_t which = input_below(&fuzz.input, PEERS + GRAPHS);
    return which < PEERS ? SELF + 1 + which : SESSION + which - PEERS;
}

/* Anybody, as the scheduler may name them. */
static uint32_t some_worker(void)
{
    uint32_t drawn = input_byte(&fuzz.input);
    return drawn < 10   ? 0
           : drawn < 24 ? SELF
           : drawn < 28 ? (uint32_t)input_number(&fuzz.input)
                        : SELF + 1 + drawn % PEERS;
}

static struct tessi_task some_task(void)
{
    struct input *input = &fuzz.input;
    uint32_t drawn = input_byte(input);
    if (drawn < 120 && fuzz.said_count > 0) {
        return fuzz.said[input_below(input, fuzz.said_count < RECENT ? fuzz.said_count : RECENT)].task;
    }
    const struct sim_graph *graph = &fuzz.graph[drawn % GRAPHS];
    struct tessi_task task = {graph->session, 1 + input_below(input, graph->count + 1), input_byte(input)};
    const struct sim_layer *layer = sim_graph_layer(graph, task.layer);
    if (layer != NULL && drawn < 240 && layer->task_count > 0) {
        task.index %= layer->task_count;
    }
    if (drawn >= 252) {
        task.index = input_number(input);
    }
    return task;
}

static uint32_t some_epoch(void)
{
    uint32_t drawn = input_byte(&fuzz.input);
    return drawn < 200 ? ++fuzz.epoch : drawn < 250 ? fuzz.epoch - drawn % 8 : (uint32_t)input_number(&fuzz.input);
}

static struct tessi_span some_span(void)
{
    struct input *input = &fuzz.input;
    struct tessi_task task = some_task();
    struct tessi_span span = {.session = task.session,
                              .layer = task.layer,
                              .first = task.index,
                              .count = 1 + input_below(input, 6),
                              .epoch = some_epoch(),
                              .worker = some_worker(),
                              .order = task.layer * UINT64_C(1000) + task.index,
                              .order_step = 1};
    uint32_t drawn = input_byte(input);
    if (drawn >= 248) {
        span.count = input_number(input);
        span.order = input_number(input);
        span.order_step = input_number(input);
        span.deaths = (uint32_t)input_number(input);
    }
    span.count = span.count == 0 || span.count > UINT64_MAX - span.first ? 1 : span.count;
    return span;
}

/* ——— what the scheduler says ——— */

static void say_layers(void)
{
    struct input *input = &fuzz.input;
    struct sim_graph *graph = &fuzz.graph[input_below(input, GRAPHS)];
    size_t from = graph->count;
    if (input_chance(input, 200)) {
        sim_graph_extend(graph, &fuzz.random, &graph_options, 1 + input_below(input, 2));
    } else {
        from = input_below(input, graph->count); /* again */
    }
    for (size_t l = from; l < graph->count; l++) {
        struct tessi_layer *layer = tessi_layer_copy(graph->layers[l].layer);
        uint32_t drawn = input_byte(input);
        tessi_layer_own_task_options(layer)->priority = drawn % 16 == 0 ? (int32_t)(drawn / 16) - 8 : 0;
        layer->push = drawn % 8 == 1;
        if (drawn % 8 == 2) {
            TESS_ASSERT(tessi_resources_parse(drawn % 16 == 2 ? "ssd=1" : "ssd=2",
                                              &tessi_layer_own_task_options(layer)->demand, NULL) == TESSI_OK);
        }
        step(&(struct tessi_flow_event){
            .kind = TESSI_FLOW_LAYER, .layer = layer, .device = drawn % 4 == 3, .either = drawn % 3 == 0});
    }
}

static void drop_layer(uint32_t session, uint32_t layer)
{
    step(&(struct tessi_flow_event){.kind = TESSI_FLOW_DROP_LAYER, .session = session, .layer_id = layer});
}

struct owners {
    struct tessi_spans *where;
    uint32_t session, layer;
};

static void name_owner(void *context, uint64_t index)
{
    struct owners *owners = context;
    if (!input_chance(&fuzz.input, 16)) { /* else the worker has to ask */
        tessi_spans_push(owners->where, (struct tessi_span){.session = owners->session,
                                                            .layer = owners->layer,
                                                            .first = index,
                                                            .count = 1,
                                                            .epoch = 1 + input_below(&fuzz.input, 3),
                                                            .worker = some_worker()});
    }
}

static void assign(void)
{
    struct tessi_spans spans = {0}, where = {0};
    for (uint32_t count = 1 + input_below(&fuzz.input, 3); count > 0; count--) {
        struct tessi_span span = some_span();
        const struct sim_graph *graph = &fuzz.graph[span.session == SESSION ? 0 : 1];
        const struct sim_layer *layer = sim_graph_layer(graph, span.layer);
        tessi_spans_push(&spans, span);
        for (uint64_t t = 0; layer != NULL && t < span.count && t < 8 && span.first + t < layer->task_count; t++) {
            for (uint32_t i = 0; i < layer->layer->ninputs; i++) {
                struct owners owners = {&where, graph->session, layer->layer->reads[i]};
                tessi_task_inputs(layer->layer, i, span.first + t, name_owner, &owners);
            }
        }
    }
    step(&(struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN,
                                    .spans = spans.items,
                                    .span_count = spans.count,
                                    .where = where.items,
                                    .where_count = where.count});
    tessi_spans_fini(&spans);
    tessi_spans_fini(&where);
}

static void say_spans(enum tessi_flow_event_kind kind)
{
    struct tessi_span spans[3];
    size_t count = 1 + input_below(&fuzz.input, 3);
    for (size_t i = 0; i < count; i++) {
        spans[i] = some_span();
    }
    step(&(struct tessi_flow_event){.kind = kind, .spans = spans, .span_count = count});
}

/* ——— what peers say ——— */

static void lose_peer(uint32_t peer)
{
    size_t kept = 0;
    for (size_t i = 0; i < fuzz.pull_count; i++) {
        if (fuzz.pulls[i].peer != peer) {
            fuzz.pulls[kept++] = fuzz.pulls[i];
        }
    }
    fuzz.pull_count = kept;
    fuzz.mapped &= peer < SESSION ? ~(1u << peer) : UINT32_MAX;
    step(&(struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = peer});
}

/* The shell ends the pull before it passes on that there is nothing to come. */
static void refuse_pull(uint32_t peer, struct tessi_task task)
{
    for (size_t i = 0; i < fuzz.pull_count; i++) {
        if (fuzz.pulls[i].peer == peer && memcmp(&fuzz.pulls[i].task, &task, sizeof task) == 0) {
            fuzz.pulls[i] = fuzz.pulls[--fuzz.pull_count];
        }
    }
}

/* Others were named, but are not connected: they say nothing, and so are never lost either. */
static bool is_peer(uint32_t peer)
{
    return (peer > SELF && peer <= SELF + PEERS) || (peer >= SESSION && peer < SESSION + GRAPHS);
}

static void peer_says(enum tessi_flow_event_kind kind)
{
    struct input *input = &fuzz.input;
    struct tessi_flow_event event = {.kind = kind, .peer = some_peer(), .task = some_task()};
    if (input_chance(input, 200) && fuzz.said_count > 0) { /* one who was spoken to */
        const struct said *said = &fuzz.said[input_below(input, fuzz.said_count < RECENT ? fuzz.said_count : RECENT)];
        event.task = said->task;
        event.peer = is_peer(said->peer) ? said->peer : event.peer;
    }
    event.epoch = some_epoch();
    event.worker = kind == TESSI_FLOW_MOVED ? some_worker() : 0;
    event.lease = input_chance(input, 128);
    if (kind == TESSI_FLOW_READY_LEASE && (event.peer >= 32 || (fuzz.mapped >> event.peer & 1) == 0)) {
        event.kind = TESSI_FLOW_READY_OFFER; /* who lends memory that is not mapped is broken with */
    }
    if (kind == TESSI_FLOW_MOVED || kind == TESSI_FLOW_ASK) {
        refuse_pull(event.peer, event.task);
    }
    if (kind == TESSI_FLOW_READ || kind == TESSI_FLOW_PULL) {
        note(event.task, event.peer, event.epoch);
    }
    step(&event);
}

static void peer_up(uint32_t peer)
{
    bool neighbour = peer < SESSION && peer % 2 == 0;
    fuzz.mapped |= neighbour ? 1u << peer : 0;
    step(&(struct tessi_flow_event){.kind = TESSI_FLOW_PEER_UP, .peer = peer, .shares_memory = neighbour});
}

/* ——— an input ——— */

static const struct {
    uint32_t below;
    enum tessi_flow_event_kind kind;
} says[] = {
    /* from the scheduler, then from peers */
    {120, TESSI_FLOW_FREE},        {126, TESSI_FLOW_STEAL},       {130, TESSI_FLOW_ADOPT},
    {134, TESSI_FLOW_TAKE_OVER},   {142, TESSI_FLOW_LOCATION},    {152, TESSI_FLOW_READ},
    {158, TESSI_FLOW_PULL},        {162, TESSI_FLOW_RELEASE},     {176, TESSI_FLOW_READY_INLINE},
    {186, TESSI_FLOW_READY_LEASE}, {198, TESSI_FLOW_READY_OFFER}, {203, TESSI_FLOW_MOVED},
    {208, TESSI_FLOW_ASK},         {212, TESSI_FLOW_REVOKE},
};

static void something_happens(void)
{
    struct input *input = &fuzz.input;
    uint32_t what = input_byte(input);
    if (what < 45) {
        assign();
    } else if (what < 90) {
        end_step(input_below(input, SLOTS_MAX), input_byte(input));
    } else if (what < 100) {
        end_transfer(input_byte(input), input_byte(input));
    } else if (what < 112) {
        end_pull(input_byte(input));
    } else if (what < 212) {
        size_t at = 0;
        while (says[at].below <= what) {
            at++;
        }
        if (says[at].kind < TESSI_FLOW_READ) {
            say_spans(says[at].kind);
        } else {
            peer_says(says[at].kind);
        }
    } else if (what < 228) {
        say_layers();
    } else if (what < 231) {
        struct tessi_task task = some_task();
        drop_layer(task.session, task.layer);
    } else if (what < 240) {
        peer_up(some_peer());
    } else if (what < 243) {
        lose_peer(some_peer());
    } else if (what == 243) {
        lose_devices();
    } else if (what < 246) {
        disk_event(what == 245);
    } else if (what < 248) {
        char text[512];
        (void)tessi_flow_explain(fuzz.flow, some_task(), text, sizeof text);
    } else {
        report();
    }
}

/* Whatever was said: when nobody has anything to do with the worker any more, it holds nothing. */
static void finish(void)
{
    fuzz.input.at = fuzz.input.end;
    for (uint32_t which = 0; which < PEERS + GRAPHS; which++) {
        lose_peer(which < PEERS ? SELF + 1 + which : SESSION + which - PEERS);
    }
    for (uint32_t g = 0; g < GRAPHS; g++) {
        for (uint32_t l = 0; l <= fuzz.graph[g].count + 1; l++) {
            drop_layer(SESSION + g, l);
        }
    }
    for (bool more = true; more;) {
        more = fuzz.transfer_count > 0;
        end_transfer(0, 0);
        for (uint32_t s = 0; s < SLOTS_MAX; s++) {
            more = more || fuzz.slots[s].count > 0;
            end_step(s, 0);
        }
    }
    report();
    struct tessi_flow_stats stats;
    tessi_flow_stats(fuzz.flow, &stats);
    TESS_ASSERT(stats.blocks == 0 && stats.tasks_waiting == 0 && stats.tasks_started == 0 && stats.leases == 0);
    TESS_ASSERT(stats.memory_used_bytes == 0 && stats.spilled_bytes == 0 && stats.parked_reads == 0);
}

static void begin(void)
{
    struct input *input = &fuzz.input;
    uint32_t drawn = input_byte(input);
    fuzz.now_ns = 1;
    fuzz.random.state = (uint64_t)input_byte(input) << 8 | input_byte(input);
    fuzz.config = (struct tessi_flow_config){
        .self = SELF,
        .slots = CPU_SLOTS,
        .device_slots = drawn % 4 == 0 ? SLOTS_MAX - CPU_SLOTS : 0,
        .copy_ns_per_byte = 0.1,
        .slot_depth = drawn % 3 == 0 ? 1 : DEPTH,
        .window = 2 + drawn % 2,
        .memory_bytes = UINT64_C(40000) << drawn % 8,
        .spill_bytes = drawn % 5 == 0 ? 0 : UINT64_C(1) << 20,
        .pull_bytes = UINT64_C(20000) << drawn % 6,
    };
    TESS_ASSERT(tessi_resources_parse("ssd=2", &fuzz.config.resources, NULL) == TESSI_OK);
    fuzz.flow = tessi_flow_create(&fuzz.config);
    for (uint32_t g = 0; g < GRAPHS; g++) {
        fuzz.graph[g].session = SESSION + g;
    }
    for (uint32_t p = 0; p < PEERS; p++) {
        peer_up(SELF + 1 + p);
    }
    say_layers();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&fuzz, 0, sizeof fuzz);
    fuzz.input = (struct input){data, data + size};
    begin();
    for (int i = 0; i < STEPS_MAX && !input_ended(&fuzz.input); i++) {
        something_happens();
    }
    finish();
    tessi_flow_destroy(fuzz.flow);
    for (uint32_t g = 0; g < GRAPHS; g++) {
        sim_graph_fini(&fuzz.graph[g]);
    }
    for (uint32_t s = 0; s < SLOTS_MAX; s++) {
        tessi_free(fuzz.slots[s].runs);
    }
    tessi_free(fuzz.cells);
    tessi_free(fuzz.pulls);
    tessi_free(fuzz.transfers);
    tessi_free(fuzz.actions.items);
    return 0;
}

#ifndef TESSI_LIBFUZZER
int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, "fuzz_flow", 100000);
}
#endif
