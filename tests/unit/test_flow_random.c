/* Several planners wired together in memory: a small scheduler that knows everything, queues that
 * deliver in any order between pairs, slots and disks that take any time, and tiny budgets. Whatever
 * the seed, every task ends with the right content, and the invariants hold after every event.
 *
 * A block's content is a hash of all that went into it, so a step that runs too early, twice, or on
 * memory that has been given away changes the result.
 *
 * tests/run: one thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/unit/flow_layers.h"
#include "worker/flow/flow.h"

#define WORKERS_MAX 4
#define SLOTS_MAX 8 /* with those of devices */
#define LAYERS_MAX 14
#define SESSION 100u
#define SCHEDULER 0u /* queue ends: 0 scheduler, 1 … W workers, W + 1 the client */
#define ENDS (WORKERS_MAX + 2)

struct message {
    struct tessi_flow_event event;
    struct tessi_spans spans, where;
    struct tessi_report report; /* worker → scheduler */
    bool is_report, is_locate, is_pull_of_client;
    uint64_t value;
};

struct queue {
    struct message *items;
    size_t head, count, capacity;
};

struct cell { /* what the shell keeps for a handle */
    bool memory, mapped, file, complete;
    uint64_t value, bytes, generation;
    uint32_t owner, owner_block; /* mapped */
    uint64_t owner_generation;
    struct tessi_task task;
};

struct run {
    struct tessi_flow_action action;
};

struct io {
    bool spill;
    uint32_t block;
};

struct worker {
    struct tessi_flow *flow;
    struct tessi_flow_config config;
    bool alive;
    struct cell *cells;
    size_t cell_capacity;
    struct run *slots[SLOTS_MAX];
    size_t slot_count[SLOTS_MAX];
    uint64_t slot_ended[SLOTS_MAX];  /* number of the last run that has */
    bool slot_cancelled[SLOTS_MAX];  /* the device has given the task's step back, and so those after it */
    struct io *io;
    size_t io_count, io_capacity;
    uint64_t memory_bytes;
};

struct task {
    uint32_t owner, epoch, remaining, holders; /* holders: bit w */
    bool done, freed, stealing, result;
    uint64_t value;
};

struct world {
    uint64_t random;
    uint32_t workers;
    uint32_t host[WORKERS_MAX + 1];
    struct worker worker[WORKERS_MAX + 1];
    struct tessi_layer *layer[LAYERS_MAX];
    size_t layers;
    struct task *tasks[LAYERS_MAX];
    uint64_t base[LAYERS_MAX]; /* order of its first task */
    uint64_t left;
    struct queue queue[ENDS][ENDS];
    struct tessi_flow_actions actions;
    uint64_t generation, restarts, steals, deaths, spills, leases, evictions;
};

static uint64_t next_random(struct world *world)
{
    uint64_t z = (world->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t below(struct world *world, uint64_t limit)
{
    return (uint32_t)(next_random(world) % limit);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = (a ^ b) + UINT64_C(0x9e3779b97f4a7c15) + (a << 6);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 27);
}

/* --- graph --- */

static struct task *task_of(struct world *world, uint32_t layer, uint64_t index)
{
    return &world->tasks[layer - 1][index];
}

typedef void input_fn(struct world *world, uint32_t layer, uint64_t index, void *context);

static void each_input(struct world *world, uint32_t layer, uint64_t index, input_fn *visit, void *context)
{
    const struct tessi_layer *of = world->layer[layer - 1];
    uint32_t steps = tessi_task_steps(of, index);
    for (uint32_t s = 0; s < steps; s++) {
        struct tessi_step step;
        tessi_task_step(of, index, s, &step);
        for (uint32_t i = 0; i < step.count; i++) {
            visit(world, of->input[step.ref[i].input].layer, step.ref[i].index, context);
        }
    }
}

static void count_dependent(struct world *world, uint32_t layer, uint64_t index, void *context)
{
    (void)context;
    task_of(world, layer, index)->remaining++;
    task_of(world, layer, index)->result = false;
}

static uint64_t step_value(const struct tessi_layer *layer, uint64_t index, uint32_t step, uint64_t before,
                           const uint64_t *inputs, uint32_t count)
{
    uint64_t value = step == 0 ? mix(layer->id, index) : before;
    for (uint32_t i = 0; i < count; i++) {
        value = mix(value, inputs[i]);
    }
    return mix(value, step);
}

static void add_layer(struct world *world, struct tessi_layer *layer)
{
    uint64_t tasks = tessi_layer_tasks(layer);
    size_t i = world->layers++;
    world->layer[i] = layer;
    world->base[i] = i == 0 ? 0 : world->base[i - 1] + tessi_layer_tasks(world->layer[i - 1]);
    world->tasks[i] = tessi_zalloc(tasks * sizeof **world->tasks);
    world->left += tasks;
    for (uint64_t t = 0; t < tasks; t++) {
        struct task *task = &world->tasks[i][t];
        task->result = true;
        task->owner = 1 + below(world, world->workers);
        task->epoch = 1;
        uint32_t steps = tessi_task_steps(layer, t);
        for (uint32_t s = 0; s < steps; s++) {
            struct tessi_step step;
            uint64_t values[TESSI_STEP_REFS_MAX];
            tessi_task_step(layer, t, s, &step);
            for (uint32_t k = 0; k < step.count; k++) {
                values[k] = task_of(world, layer->input[step.ref[k].input].layer, step.ref[k].index)->value;
            }
            task->value = step_value(layer, t, s, task->value, values, step.count);
        }
        each_input(world, layer->id, t, count_dependent, NULL);
    }
}

static int64_t any_bytes(struct world *world)
{
    static const int64_t bytes[] = {800, 8000, 70000, 80000, 160000};
    return bytes[below(world, 5)];
}

static void make_graph(struct world *world)
{
    static const enum tessi_op sources[] = {TESSI_OP_FULL, TESSI_OP_RECEIVE, TESSI_OP_READ_NPY};
    uint32_t wanted = 4 + below(world, LAYERS_MAX - 6);
    int64_t rows = 1 + below(world, 4), columns = 1 + below(world, 6);
    add_layer(world, layer_source(SESSION, 1, sources[below(world, 3)], rows, columns, any_bytes(world)));
    while (world->layers < wanted) {
        uint32_t id = (uint32_t)world->layers + 1;
        const struct tessi_layer *from = world->layer[below(world, world->layers)];
        const struct tessi_layer *other = world->layer[below(world, world->layers)];
        uint32_t kind = below(world, 6);
        if (kind == 0) {
            add_layer(world, layer_source(SESSION, id, sources[below(world, 3)], rows, columns, any_bytes(world)));
        } else if (kind == 1) {
            add_layer(world, layer_fold(SESSION, id, from, any_bytes(world)));
        } else if (kind == 2 && world->layers + 2 <= LAYERS_MAX) {
            int64_t inner = 1 + below(world, 8);
            int64_t bytes = any_bytes(world);
            add_layer(world, layer_left(SESSION, id, TESSI_OP_FULL, 1 + below(world, 4), inner, bytes));
            struct tessi_layer *right = layer_source(SESSION, id + 1, TESSI_OP_READ_NPY, inner,
                                                     1 + below(world, 4), any_bytes(world));
            add_layer(world, right);
            if (world->layers < LAYERS_MAX) {
                add_layer(world, layer_product(SESSION, id + 2, world->layer[id - 1], right, any_bytes(world)));
            }
        } else {
            bool same = from->grid.axis[0].count == other->grid.axis[0].count &&
                        from->grid.axis[1].count == other->grid.axis[1].count;
            add_layer(world, layer_same(SESSION, id, from, same ? other : NULL, any_bytes(world)));
        }
    }
}

/* --- queues --- */

static struct message *post(struct world *world, uint32_t from, uint32_t to)
{
    struct queue *queue = &world->queue[from][to];
    if (queue->head > 0 && queue->head + queue->count == queue->capacity) {
        memmove(queue->items, queue->items + queue->head, queue->count * sizeof *queue->items);
        queue->head = 0;
    }
    tessi_grow(&queue->items, &queue->capacity, queue->head + queue->count + 1, sizeof *queue->items);
    struct message *message = &queue->items[queue->head + queue->count++];
    memset(message, 0, sizeof *message);
    return message;
}

static void message_fini(struct message *message)
{
    tessi_spans_fini(&message->spans);
    tessi_spans_fini(&message->where);
    tessi_report_fini(&message->report);
}

static struct message *post_event(struct world *world, uint32_t from, uint32_t to, enum tessi_flow_event_kind kind)
{
    struct message *message = post(world, from, to);
    message->event.kind = kind;
    message->event.peer = from == world->workers + 1 ? SESSION : from;
    return message;
}

static void clear_queue(struct queue *queue)
{
    for (size_t i = 0; i < queue->count; i++) {
        struct message *message = &queue->items[queue->head + i];
        if (message->event.kind == TESSI_FLOW_LAYER) {
            tessi_layer_destroy(message->event.layer);
        }
        message_fini(message);
    }
    queue->head = queue->count = 0;
}

/* --- the scheduler --- */

static void add_where(struct world *world, uint32_t layer, uint64_t index, void *context)
{
    const struct task *task = task_of(world, layer, index);
    tessi_spans_push(context, (struct tessi_span){.session = SESSION, .layer = layer, .first = index, .count = 1,
                                                  .epoch = task->epoch, .worker = task->owner});
}

static void assign(struct world *world, uint32_t layer, uint64_t index, struct message *message)
{
    struct task *task = task_of(world, layer, index);
    if (message == NULL) {
        message = post_event(world, SCHEDULER, task->owner, TESSI_FLOW_ASSIGN);
    }
    tessi_spans_push(&message->spans,
                     (struct tessi_span){.session = SESSION, .layer = layer, .first = index, .count = 1,
                                         .epoch = task->epoch, .order = world->base[layer - 1] + index});
    if (below(world, 10) != 0) { /* sometimes the worker has to ask */
        each_input(world, layer, index, add_where, &message->where);
    }
}

static uint32_t live_worker(struct world *world)
{
    uint32_t w;
    do {
        w = 1 + below(world, world->workers);
    } while (!world->worker[w].alive);
    return w;
}

static void send_free(struct world *world, uint32_t layer, uint64_t index)
{
    struct task *task = task_of(world, layer, index);
    for (uint32_t w = 1; w <= world->workers; w++) {
        if (world->worker[w].alive && (task->owner == w || (task->holders & (1u << w)) != 0)) {
            struct message *message = post_event(world, SCHEDULER, w, TESSI_FLOW_FREE);
            tessi_spans_push(&message->spans, (struct tessi_span){.session = SESSION, .layer = layer, .first = index,
                                                                  .count = 1});
        }
    }
    task->freed = true;
    task->holders = 0;
}

static void dependent_done(struct world *world, uint32_t layer, uint64_t index, void *context)
{
    (void)context;
    struct task *task = task_of(world, layer, index);
    TESS_ASSERT(task->remaining > 0);
    if (--task->remaining == 0 && !task->result && task->done && !task->freed) {
        send_free(world, layer, index);
    }
}

static void recompute(struct world *world, uint32_t layer, uint64_t index);

static void input_again(struct world *world, uint32_t layer, uint64_t index, void *context)
{
    (void)context;
    struct task *task = task_of(world, layer, index);
    task->remaining++;
    if (task->freed) {
        recompute(world, layer, index);
    }
}

/* A done task whose block is needed and gone. */
static void recompute(struct world *world, uint32_t layer, uint64_t index)
{
    struct task *task = task_of(world, layer, index);
    TESS_ASSERT(task->done);
    task->done = task->freed = task->stealing = false;
    world->left++;
    each_input(world, layer, index, input_again, NULL);
    task->owner = live_worker(world);
    task->epoch++;
    assign(world, layer, index, NULL);
}

static void on_done(struct world *world, uint32_t from, uint32_t layer, uint64_t index, uint32_t epoch)
{
    struct task *task = task_of(world, layer, index);
    if (task->done || task->owner != from || task->epoch != epoch) {
        return;
    }
    task->done = true;
    task->stealing = false;
    task->holders &= ~(1u << from);
    world->left--;
    each_input(world, layer, index, dependent_done, NULL);
    if (task->remaining == 0 && !task->result) {
        send_free(world, layer, index);
    }
}

static void on_stolen(struct world *world, uint32_t from, const struct tessi_span *span, uint64_t index)
{
    struct task *task = task_of(world, span->layer, index);
    if (task->owner != from || task->epoch != span->epoch || task->done) {
        return;
    }
    world->steals++;
    task->stealing = false;
    task->epoch++;
    task->owner = world->worker[span->worker].alive ? span->worker : live_worker(world);
    assign(world, span->layer, index, NULL);
}

enum verdict { DONE, COPIED, DROPPED, MISSING, STOLEN, KEPT };

static void on_spans(struct world *world, uint32_t from, const struct tessi_spans *spans, enum verdict verdict)
{
    for (size_t i = 0; i < spans->count; i++) {
        const struct tessi_span *span = &spans->items[i];
        for (uint64_t k = 0; k < span->count; k++) {
            struct task *task = task_of(world, span->layer, span->first + k);
            switch (verdict) {
            case DONE:
                on_done(world, from, span->layer, span->first + k, span->epoch);
                break;
            case COPIED:
                if (task->freed) {
                    task->owner = task->owner; /* a copy that arrived after FREE is dropped by a second one */
                    struct message *message = post_event(world, SCHEDULER, from, TESSI_FLOW_FREE);
                    tessi_spans_push(&message->spans, (struct tessi_span){.session = SESSION, .layer = span->layer,
                                                                          .first = span->first + k, .count = 1});
                } else if (task->owner != from) {
                    task->holders |= 1u << from;
                }
                break;
            case DROPPED:
                task->holders &= ~(1u << from);
                break;
            case MISSING:
                if (task->owner == from && task->done && !task->freed && task->epoch == span->epoch) {
                    recompute(world, span->layer, span->first + k);
                }
                break;
            case STOLEN:
                on_stolen(world, from, span, span->first + k);
                break;
            case KEPT:
                task->stealing = false;
                break;
            }
        }
    }
}

static void scheduler_receive(struct world *world, uint32_t from, const struct message *message)
{
    if (message->is_locate) {
        struct tessi_task name = message->event.task;
        const struct task *task = task_of(world, name.layer, name.index);
        struct message *reply = post_event(world, SCHEDULER, from, TESSI_FLOW_LOCATION);
        tessi_spans_push(&reply->spans, (struct tessi_span){.session = SESSION, .layer = name.layer,
                                                            .first = name.index, .count = 1, .epoch = task->epoch,
                                                            .worker = task->freed ? 0 : task->owner});
        return;
    }
    const struct tessi_report *report = &message->report;
    assert_int_equal(report->refused.count, 0);
    assert_int_equal(report->failure_count, 0);
    on_spans(world, from, &report->dropped, DROPPED);
    on_spans(world, from, &report->copied, COPIED);
    on_spans(world, from, &report->done, DONE);
    on_spans(world, from, &report->missing, MISSING);
    on_spans(world, from, &report->stolen, STOLEN);
    on_spans(world, from, &report->kept, KEPT);
}

static void steal_something(struct world *world)
{
    uint32_t layer = 1 + below(world, world->layers);
    uint64_t index = below(world, tessi_layer_tasks(world->layer[layer - 1]));
    struct task *task = task_of(world, layer, index);
    uint32_t thief = live_worker(world);
    if (task->done || task->stealing || thief == task->owner) {
        return;
    }
    task->stealing = true;
    struct message *message = post_event(world, SCHEDULER, task->owner, TESSI_FLOW_STEAL);
    tessi_spans_push(&message->spans, (struct tessi_span){.session = SESSION, .layer = layer, .first = index,
                                                          .count = 1, .epoch = task->epoch, .worker = thief});
}

static void worker_fini(struct worker *worker)
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

static void kill(struct world *world, uint32_t dead)
{
    world->deaths++;
    worker_fini(&world->worker[dead]);
    for (uint32_t end = 0; end < ENDS; end++) {
        clear_queue(&world->queue[dead][end]);
        clear_queue(&world->queue[end][dead]);
    }
    for (uint32_t w = 1; w <= world->workers; w++) {
        if (world->worker[w].alive) {
            post_event(world, SCHEDULER, w, TESSI_FLOW_PEER_LOST)->event.peer = dead;
        }
    }
    for (uint32_t layer = 1; layer <= world->layers; layer++) {
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[layer - 1]); t++) {
            struct task *task = task_of(world, layer, t);
            task->holders &= ~(1u << dead);
            if (task->owner != dead || task->freed) {
                continue;
            }
            task->stealing = false;
            if (!task->done) {
                task->owner = live_worker(world);
                task->epoch++;
                assign(world, layer, t, NULL);
            } else if (task->holders != 0) {
                uint32_t holder = 1;
                while ((task->holders & (1u << holder)) == 0) {
                    holder++;
                }
                task->owner = holder;
                task->epoch++;
                task->holders &= ~(1u << holder);
                struct message *message = post_event(world, SCHEDULER, holder, TESSI_FLOW_ADOPT);
                tessi_spans_push(&message->spans, (struct tessi_span){.session = SESSION, .layer = layer, .first = t,
                                                                      .count = 1, .epoch = task->epoch});
            } else {
                recompute(world, layer, t);
            }
        }
    }
}

/* --- the shells --- */

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
    struct message *message = post_event(world, self, to, kind);
    message->event.task = action->task;
    message->event.epoch = action->epoch;
    message->event.worker = action->worker;
    message->event.lease = action->lease;
    message->event.block = action->block; /* of the sender: leases */
    message->event.now_ns = (int64_t)generation;
    message->value = value;
}

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
        tessi_free(NULL);
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
    case TESSI_FLOW_SEND_READ:
        send(world, self, action, TESSI_FLOW_READ);
        break;
    case TESSI_FLOW_SEND_PULL:
        TESS_ASSERT(cell->memory && !cell->complete);
        send(world, self, action, TESSI_FLOW_PULL);
        break;
    case TESSI_FLOW_SEND_RELEASE:
        send(world, self, action, TESSI_FLOW_RELEASE);
        break;
    case TESSI_FLOW_SEND_REVOKE:
        send(world, self, action, TESSI_FLOW_REVOKE);
        break;
    case TESSI_FLOW_SEND_INLINE:
        send(world, self, action, TESSI_FLOW_READY_INLINE);
        break;
    case TESSI_FLOW_SEND_LEASE:
        send(world, self, action, TESSI_FLOW_READY_LEASE);
        break;
    case TESSI_FLOW_SEND_OFFER:
        send(world, self, action, TESSI_FLOW_READY_OFFER);
        break;
    case TESSI_FLOW_SEND_BLOCK:
        send(world, self, action, TESSI_FLOW_DATA);
        break;
    case TESSI_FLOW_SEND_MOVED:
        send(world, self, action, TESSI_FLOW_MOVED);
        break;
    case TESSI_FLOW_SEND_ASK:
        send(world, self, action, TESSI_FLOW_ASK);
        break;
    case TESSI_FLOW_LOCATE: {
        if (tessi_flow_has_report(worker->flow)) {
            struct message *report = post(world, self, SCHEDULER);
            report->is_report = true;
            tessi_flow_report(worker->flow, &report->report);
        }
        struct message *message = post(world, self, SCHEDULER);
        message->is_locate = true;
        message->event.task = action->task;
        break;
    }
    }
}

static void step(struct world *world, uint32_t self, struct message *message)
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
    if (tessi_flow_has_report(worker->flow) && below(world, 3) == 0) {
        struct message *report = post(world, self, SCHEDULER);
        report->is_report = true;
        tessi_flow_report(worker->flow, &report->report);
    }
}

static bool may_run(const struct worker *worker, uint32_t slot)
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
    step(world, self, &done);
}

/* A device that is too small or gone gives steps back: the task begins anew, maybe at a CPU slot. */
static bool give_back(struct world *world, uint32_t self, uint32_t slot)
{
    struct worker *worker = &world->worker[self];
    const struct tessi_flow_action *run = &worker->slots[slot][0].action;
    bool behind = run->step > 0 && worker->slot_cancelled[slot];
    if (slot < worker->config.slots || (!behind && below(world, 20) > 0)) {
        worker->slot_cancelled[slot] = false;
        return false;
    }
    struct tessi_flow_outcome outcome = {
        .slot = slot, .run = run->run, .status = TESSI_CANCELLED, .elsewhere = below(world, 4) == 0};
    worker->slot_cancelled[slot] = true;
    bool gone = below(world, 10) == 0;
    end_run(world, self, &outcome);
    if (gone) {
        struct message lost = {.event = {.kind = TESSI_FLOW_NO_DEVICES}};
        step(world, self, &lost);
    }
    return true;
}

static void run_slot(struct world *world, uint32_t self, uint32_t slot)
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
    out->value = step_value(run.layer, run.task.index, run.step, out->value, values, run.in_count);
    out->complete = run.step + 1 == run.steps;
    if (out->complete && out->memory) {
        TESS_ASSERT(out->value == task_of(world, run.task.layer, run.task.index)->value);
    }
    struct tessi_flow_outcome outcome = {.slot = slot, .run = run.run, .ran_ns = 1 + below(world, 400000)};
    end_run(world, self, &outcome);
}

static void finish_io(struct world *world, uint32_t self)
{
    struct worker *worker = &world->worker[self];
    size_t i = below(world, worker->io_count);
    struct io io = worker->io[i];
    worker->io[i] = worker->io[--worker->io_count];
    struct message done = {
        .event = {.kind = io.spill ? TESSI_FLOW_SPILLED : TESSI_FLOW_LOADED, .block = io.block}};
    if (!io.spill) {
        cell_of(worker, io.block)->file = false;
    }
    step(world, self, &done);
}

static void deliver(struct world *world, uint32_t from, uint32_t to)
{
    struct queue *queue = &world->queue[from][to];
    struct message message = queue->items[queue->head++];
    queue->count--;
    if (to == SCHEDULER) {
        scheduler_receive(world, from, &message);
    } else if (to == world->workers + 1) { /* the client answers every PULL */
        TESS_ASSERT(message.event.kind == TESSI_FLOW_PULL);
        struct message *data = post_event(world, to, from, TESSI_FLOW_DATA);
        data->event.task = message.event.task;
        data->value = task_of(world, message.event.task.layer, message.event.task.index)->value;
    } else {
        step(world, to, &message);
    }
    message_fini(&message);
}

/* --- the run --- */

static void create_worker(struct world *world, uint32_t w, uint64_t memory_bytes, uint64_t spill_bytes)
{
    struct worker *worker = &world->worker[w];
    worker->config = (struct tessi_flow_config){
        .self = w,
        .slots = 1 + below(world, 3),
        .device_slots = below(world, 2) * below(world, 5),
        .slot_depth = 1 + below(world, 9),
        .window = 2 + below(world, 3),
        .memory_bytes = memory_bytes,
        .spill_bytes = spill_bytes,
        .pull_bytes = 1 + below(world, 400000),
    };
    worker->flow = tessi_flow_create(&worker->config);
    worker->alive = true;
    world->host[w] = below(world, 2);
}

static void create(struct world *world, uint64_t seed)
{
    *world = (struct world){.random = seed * 7919};
    world->workers = 1 + below(world, WORKERS_MAX);
    make_graph(world);
    uint64_t footprint = 0, total = 0;
    for (size_t i = 0; i < world->layers; i++) {
        total += tessi_layer_bytes(world->layer[i]);
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[i]); t++) {
            uint64_t bytes = tessi_task_footprint(world->layer[i], t);
            footprint = bytes > footprint ? bytes : footprint;
        }
    }
    bool spilling = below(world, 3) != 0;
    for (uint32_t w = 1; w <= world->workers; w++) {
        uint64_t memory = spilling ? footprint + footprint * below(world, 4) / 2 : footprint + total;
        create_worker(world, w, memory, spilling ? total + footprint : 0);
    }
    for (uint32_t w = 1; w <= world->workers; w++) {
        for (size_t i = 0; i < world->layers; i++) {
            struct message *message = post_event(world, SCHEDULER, w, TESSI_FLOW_LAYER);
            message->event.layer = tessi_layer_copy(world->layer[i]);
            message->event.device = below(world, 2) == 0;
        }
        for (uint32_t other = 1; other <= world->workers; other++) {
            if (other != w) {
                struct message *message = post_event(world, SCHEDULER, w, TESSI_FLOW_PEER_UP);
                message->event.peer = other;
                message->event.shares_memory = world->host[w] == world->host[other];
            }
        }
    }
    for (uint32_t layer = 1; layer <= world->layers; layer++) {
        struct message *open[WORKERS_MAX + 1] = {0};
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[layer - 1]); t++) {
            uint32_t owner = task_of(world, layer, t)->owner;
            if (open[owner] == NULL || below(world, 4) == 0) {
                open[owner] = post_event(world, SCHEDULER, owner, TESSI_FLOW_ASSIGN);
            }
            assign(world, layer, t, open[owner]);
        }
    }
}

static bool something_happens(struct world *world)
{
    struct { uint32_t kind, a, b; } choices[ENDS * ENDS + WORKERS_MAX * (SLOTS_MAX + 4)];
    uint32_t count = 0;
    for (uint32_t from = 0; from <= world->workers + 1; from++) {
        for (uint32_t to = 0; to <= world->workers + 1; to++) {
            if (world->queue[from][to].count > 0) {
                choices[count].kind = 0, choices[count].a = from, choices[count++].b = to;
            }
        }
    }
    for (uint32_t w = 1; w <= world->workers; w++) {
        struct worker *worker = &world->worker[w];
        for (uint32_t s = 0; worker->alive && s < worker->config.slots + worker->config.device_slots; s++) {
            if (may_run(worker, s)) {
                choices[count].kind = 1, choices[count].a = w, choices[count++].b = s;
            }
        }
        if (worker->alive && worker->io_count > 0) {
            choices[count].kind = 2, choices[count].a = w, choices[count++].b = 0;
        }
    }
    if (count == 0) {
        bool reported = false;
        for (uint32_t w = 1; w <= world->workers; w++) {
            if (world->worker[w].alive && tessi_flow_has_report(world->worker[w].flow)) {
                struct message *report = post(world, w, SCHEDULER);
                report->is_report = true;
                tessi_flow_report(world->worker[w].flow, &report->report);
                reported = true;
            }
        }
        return reported;
    }
    uint32_t chosen = below(world, count);
    if (choices[chosen].kind == 0) {
        deliver(world, choices[chosen].a, choices[chosen].b);
    } else if (choices[chosen].kind == 1) {
        run_slot(world, choices[chosen].a, choices[chosen].b);
    } else {
        finish_io(world, choices[chosen].a);
    }
    return true;
}

static void check_results(struct world *world)
{
    for (uint32_t layer = 1; layer <= world->layers; layer++) {
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[layer - 1]); t++) {
            TESS_ASSERT(task_of(world, layer, t)->done);
        }
    }
}

static void destroy(struct world *world)
{
    for (uint32_t w = 1; w <= world->workers; w++) {
        if (world->worker[w].alive) {
            struct tessi_flow_stats stats;
            tessi_flow_stats(world->worker[w].flow, &stats);
            world->restarts += stats.restarted_tasks;
            world->evictions += stats.evicted_copies;
            worker_fini(&world->worker[w]);
        }
    }
    for (uint32_t from = 0; from < ENDS; from++) {
        for (uint32_t to = 0; to < ENDS; to++) {
            clear_queue(&world->queue[from][to]);
            tessi_free(world->queue[from][to].items);
        }
    }
    for (size_t i = 0; i < world->layers; i++) {
        tessi_layer_destroy(world->layer[i]);
        tessi_free(world->tasks[i]);
    }
    tessi_free(world->actions.items);
}

struct totals {
    uint64_t restarts, steals, deaths, spills, leases, evictions;
};

static void run_world(uint64_t seed, struct totals *totals)
{
    static struct world world;
    create(&world, seed);
    bool dying = below(&world, 3) == 0;
    bool stealing = below(&world, 2) == 0;
    uint64_t steps = 0;
    while (world.left > 0) {
        if (stealing && below(&world, 20) == 0) {
            steal_something(&world);
        }
        if (dying && world.deaths + 1 < world.workers && below(&world, 300) == 0) {
            kill(&world, live_worker(&world));
        }
        if (!something_happens(&world) || ++steps > 2000000) {
            (void)fprintf(stderr, "seed %llu: stuck with %llu tasks left after %llu events\n",
                          (unsigned long long)seed, (unsigned long long)world.left, (unsigned long long)steps);
            abort();
        }
    }
    check_results(&world);
    destroy(&world);
    totals->restarts += world.restarts;
    totals->steals += world.steals;
    totals->deaths += world.deaths;
    totals->spills += world.spills;
    totals->leases += world.leases;
    totals->evictions += world.evictions;
}

static void test_random_clusters(void **state)
{
    (void)state;
    const char *only = getenv("TESSERA_SEED");
    const char *rounds = getenv("TESSERA_ROUNDS");
    struct totals totals = {0};
    if (only != NULL) {
        run_world(strtoull(only, NULL, 10), &totals);
        return;
    }
    uint64_t count = rounds != NULL ? strtoull(rounds, NULL, 10) : 300;
    for (uint64_t seed = 1; seed <= count; seed++) {
        if (getenv("TESSERA_VERBOSE") != NULL) {
            (void)fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        }
        run_world(seed, &totals);
    }
    (void)printf("restarts %llu steals %llu deaths %llu spills %llu leases %llu evictions %llu\n",
                 (unsigned long long)totals.restarts, (unsigned long long)totals.steals,
                 (unsigned long long)totals.deaths, (unsigned long long)totals.spills,
                 (unsigned long long)totals.leases, (unsigned long long)totals.evictions);
    /* A run that never came to these proves nothing about them. */
    assert_true(totals.restarts > 0 && totals.steals > 0 && totals.deaths > 0);
    assert_true(totals.spills > 0 && totals.leases > 0 && totals.evictions > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_clusters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
