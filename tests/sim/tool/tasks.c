/* The tasks of a virtual worker: opened in order, started in order when their inputs are there, run on slots. */
#include "core/base/assert.h"
#include "tests/sim/tool/worker.h"

#define STARTED_OF_SLOT 2u /* tasks begun for each slot: their outputs take room */

/* A task whose next step has its inputs stands in one of the queues. */
static void enqueue(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    const struct tool_task *task = tool_task_at(cluster, number);
    if (task->open && !task->running && task->next_step < task->opened &&
        task->missing[task->next_step % TOOL_WINDOW] == 0) {
        tool_queue_push(task->started ? &worker->runnable : &worker->startable,
                        (struct tool_entry){task->order, number, task->life});
    }
}

void tool_wake(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    uint32_t at = tool_block_at(cluster, number)->waiters;
    tool_block_at(cluster, number)->waiters = TOOL_NONE;
    tool_block_at(cluster, number)->want = UINT64_MAX;
    while (at != TOOL_NONE) {
        struct tool_link link = *tool_link_at(cluster, at);
        struct tool_task *task = tool_task_at(cluster, link.a);
        tool_pool_give(&cluster->links, at);
        if (--task->missing[link.b % TOOL_WINDOW] == 0 && link.b == task->next_step) {
            enqueue(cluster, worker, link.a);
        }
        at = link.next;
    }
}

/* The block that a step of an assigned task reads: the worker knows all of them. */
static uint32_t input_of(const struct tool_cluster *cluster, const struct tool_worker *worker, uint32_t layer,
                         const struct tessi_block_ref *ref)
{
    uint32_t number = tool_find(worker, cluster->layers[layer].layer->reads[ref->input] - 1, ref->index);
    TESS_ASSERT(number != TESSI_MAP_NONE);
    return number;
}

/* From now on the step's inputs are wanted, and stay. */
static void open_step(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint32_t s)
{
    struct tool_task *task = tool_task_at(cluster, number);
    const struct tool_block *out = tool_block_at(cluster, task->block);
    struct tessi_step step;
    uint32_t layer = out->layer;
    tessi_task_step(cluster->layers[layer].layer, out->index, s, &step);
    task->missing[s % TOOL_WINDOW] = 0;
    for (uint32_t i = 0; i < step.count; i++) {
        uint32_t in = input_of(cluster, worker, layer, &step.ref[i]);
        struct tool_block *block = tool_block_at(cluster, in);
        tool_unlist(cluster, worker, in);
        block->pins++;
        if (!tool_is_here(block)) {
            uint32_t link = tool_pool_take(&cluster->links);
            *tool_link_at(cluster, link) = (struct tool_link){block->waiters, number, s};
            block->waiters = link;
            task->missing[s % TOOL_WINDOW]++;
            tool_want(cluster, worker, in, task->order << 12 | (s < 4095 ? s : 4095));
        }
    }
    task->opened = s + 1;
}

static void open_window(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = tool_task_at(cluster, number);
    while (task->opened < task->steps && task->opened < task->next_step + TOOL_WINDOW) {
        open_step(cluster, worker, number, task->opened);
    }
}

static void unlink_waiter(struct tool_cluster *cluster, uint32_t block, uint32_t task, uint32_t step)
{
    uint32_t *at = &tool_block_at(cluster, block)->waiters;
    while (*at != TOOL_NONE) {
        struct tool_link *link = tool_link_at(cluster, *at);
        if (link->a == task && link->b == step) {
            uint32_t gone = *at;
            *at = link->next;
            tool_pool_give(&cluster->links, gone);
            return;
        }
        at = &link->next;
    }
}

void tool_close_step(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint32_t s)
{
    const struct tool_task *task = tool_task_at(cluster, number);
    const struct tool_block *out = tool_block_at(cluster, task->block);
    uint32_t layer = out->layer;
    struct tessi_step step;
    tessi_task_step(cluster->layers[layer].layer, out->index, s, &step);
    for (uint32_t i = 0; i < step.count; i++) {
        uint32_t in = input_of(cluster, worker, layer, &step.ref[i]);
        struct tool_block *block = tool_block_at(cluster, in);
        tool_unlist(cluster, worker, in);
        TESS_ASSERT(block->uses > 0);
        block->uses--;
        if (s < task->opened) {
            block->pins--;
            if (!tool_is_here(block)) {
                unlink_waiter(cluster, in, number, s);
            }
        }
        tool_enlist(cluster, worker, in);
        if (block->uses == 0 && block->state < TOOL_PULLING) {
            tool_block_free(cluster, worker, in);
        }
    }
}

static void open_tasks(struct tool_cluster *cluster, struct tool_worker *worker)
{
    while (worker->waiting.count > 0) {
        struct tool_entry entry = worker->waiting.entries[0];
        struct tool_task *task = tool_task_at(cluster, entry.thing);
        if (task->life != entry.life || task->open) {
            tool_queue_pop(&worker->waiting);
            continue;
        }
        uint64_t bytes = cluster->layers[tool_block_at(cluster, task->block)->layer].footprint;
        /* What younger tasks have brought in is not taken back for older ones, so it must not fill the memory; a
         * footprint counts two steps, and three are open. */
        if (worker->open >= STARTED_OF_SLOT * cluster->options.slots &&
            worker->owned_bytes + (worker->open_bytes + bytes) / 2 * 3 > cluster->options.memory_bytes) {
            return;
        }
        tool_queue_pop(&worker->waiting);
        task->open = true;
        worker->open++;
        worker->open_bytes += bytes;
        open_window(cluster, worker, entry.thing);
        enqueue(cluster, worker, entry.thing);
    }
}

/* The lowest valid entry; NONE when there is none. */
static uint32_t front(const struct tool_cluster *cluster, struct tool_queue *queue)
{
    while (queue->count > 0) {
        struct tool_entry entry = queue->entries[0];
        const struct tool_task *task = tool_task_at(cluster, entry.thing);
        if (task->life == entry.life && !task->running) {
            return entry.thing;
        }
        tool_queue_pop(queue);
    }
    return TOOL_NONE;
}

static void run(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = tool_task_at(cluster, number);
    task->running = true;
    worker->busy++;
    worker->busy_ns += task->step_ns;
    task->ran_ns += task->step_ns;
    tool_schedule(cluster, cluster->now_ns + task->step_ns, TOOL_STEP_END, worker->number, number, task->life);
}

static bool start(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, bool force)
{
    struct tool_task *task = tool_task_at(cluster, number);
    const struct tool_block *block = tool_block_at(cluster, task->block);
    if (!tool_room(cluster, worker, block->bytes) && !force) {
        return false;
    }
    task = tool_task_at(cluster, number);
    block = tool_block_at(cluster, task->block);
    tool_take_bytes(cluster, worker, block->bytes);
    double whole_ns = tool_task_ns(cluster, block->layer, block->index) / worker->speed;
    task->step_ns = (int64_t)(whole_ns / task->steps + 0.5);
    task->started = true;
    worker->started++;
    tessi_spans_push(&worker->report.started, tool_span_of(block, task->epoch));
    tool_has_news(cluster, worker);
    run(cluster, worker, number);
    return true;
}

static void fill_slots(struct tool_cluster *cluster, struct tool_worker *worker, bool force)
{
    while (worker->busy < cluster->options.slots) {
        uint32_t number = front(cluster, &worker->runnable);
        if (number != TOOL_NONE) {
            tool_queue_pop(&worker->runnable);
            run(cluster, worker, number);
            continue;
        }
        number = front(cluster, &worker->startable);
        if (number == TOOL_NONE || worker->started >= STARTED_OF_SLOT * cluster->options.slots ||
            !start(cluster, worker, number, force)) {
            return;
        }
        tool_queue_pop(&worker->startable);
        force = false;
    }
}

static void pull(struct tool_cluster *cluster, struct tool_worker *worker, bool force)
{
    while (worker->pulls.count > 0) {
        struct tool_entry entry = worker->pulls.entries[0];
        struct tool_block *block = tool_block_at(cluster, entry.thing);
        if (block->ticket != entry.life || block->state != TOOL_OFFERED || block->pins == 0) {
            tool_queue_pop(&worker->pulls);
            continue;
        }
        if (worker->pulling_bytes > 0 && worker->pulling_bytes + block->bytes > TOOL_PULL_BYTES) {
            return;
        }
        if (!tool_room(cluster, worker, block->bytes) && !force) {
            return;
        }
        force = false;
        tool_queue_pop(&worker->pulls);
        block = tool_block_at(cluster, entry.thing);
        tool_take_bytes(cluster, worker, block->bytes);
        worker->pulling_bytes += block->bytes;
        block->state = TOOL_PULLING;
        tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_PULL, block->owner, entry.thing,
                      block->ticket);
    }
}

void tool_advance(struct tool_cluster *cluster, struct tool_worker *worker)
{
    open_tasks(cluster, worker);
    fill_slots(cluster, worker, false);
    pull(cluster, worker, false);
    if (worker->busy == 0 && worker->pulling_bytes == 0) {
        fill_slots(cluster, worker, true);
        if (worker->busy == 0) {
            pull(cluster, worker, true);
        }
    }
}

void tool_task_free(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = tool_task_at(cluster, number);
    for (uint32_t s = task->next_step; s < task->steps; s++) {
        tool_close_step(cluster, worker, number, s);
    }
    task = tool_task_at(cluster, number);
    struct tool_block *block = tool_block_at(cluster, task->block);
    if (task->open) {
        worker->open--;
        worker->open_bytes -= cluster->layers[block->layer].footprint;
    }
    worker->started -= task->started;
    block->task = TOOL_NONE;
    task->life++;
    cluster->live--;
    tool_pool_give(&cluster->tasks, number);
}

static void finish(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = tool_task_at(cluster, number);
    uint32_t made = task->block;
    struct tool_block *block = tool_block_at(cluster, made);
    struct tessi_span span = tool_span_of(block, task->epoch);
    span.time_ns = task->ran_ns;
    tessi_spans_push(&worker->report.done, span);
    tool_has_news(cluster, worker);
    tool_count_done(cluster, block->layer, block->index);
    tool_task_free(cluster, worker, number);
    tool_own(cluster, worker, made);
    tool_wake(cluster, worker, made);
    tool_end_readers(cluster, worker, made, true);
}

void tool_step_ended(struct tool_cluster *cluster, struct tool_worker *worker, const struct tool_event *event)
{
    struct tool_task *task = tool_task_at(cluster, event->a);
    worker->busy--;
    if (task->life == event->b) {
        task->running = false;
        tool_close_step(cluster, worker, event->a, task->next_step);
        task = tool_task_at(cluster, event->a);
        task->next_step++;
        if (task->next_step == task->steps) {
            finish(cluster, worker, event->a);
        } else {
            open_window(cluster, worker, event->a);
            enqueue(cluster, worker, event->a);
        }
    }
    tool_advance(cluster, worker);
}
