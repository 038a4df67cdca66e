/* What the scheduler orders a virtual worker to do. */
#include "core/base/alloc.h"
#include "tests/sim/tool/worker.h"

static uint32_t number_of(uint32_t id)
{
    return id - TOOL_FIRST_WORKER;
}

static void report_done_at_once(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number,
                                uint32_t epoch)
{
    struct tool_block *block = tool_block_at(cluster, number);
    tool_unlist(cluster, worker, number);
    if (block->state != TOOL_OWNED) {
        tool_own(cluster, worker, number);
    }
    tessi_spans_push(&worker->report.done, tool_span_of(block, epoch));
    tool_has_news(cluster, worker);
}

static uint32_t accept(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t layer, uint64_t index,
                       uint32_t epoch, uint64_t order)
{
    uint32_t made = tool_block_get(cluster, worker, layer, index);
    struct tool_block *block = tool_block_at(cluster, made);
    if (tool_is_here(block)) {
        report_done_at_once(cluster, worker, made, epoch);
        return TOOL_NONE;
    }
    if (block->state == TOOL_PLANNED) {
        tool_task_at(cluster, block->task)->epoch = epoch;
        return TOOL_NONE;
    }
    if (block->state == TOOL_PULLING) {
        worker->pulling_bytes -= block->bytes;
        worker->used_bytes -= block->bytes;
    }
    uint32_t number = tool_pool_take(&cluster->tasks);
    struct tool_task *task = tool_task_at(cluster, number);
    const struct tessi_layer *of = cluster->layers[layer].layer;
    *task = (struct tool_task){
        .order = order, .block = made, .life = task->life + 1, .epoch = epoch, .steps = tessi_task_steps(of, index)};
    block->state = TOOL_PLANNED;
    block->ticket++;
    block->task = number;
    cluster->live++;
    return number;
}

/* Its inputs are known as blocks from now on, and asked for at once. */
static void tie(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = tool_task_at(cluster, number);
    uint32_t layer = tool_block_at(cluster, task->block)->layer;
    uint64_t index = tool_block_at(cluster, task->block)->index;
    const struct tessi_layer *of = cluster->layers[layer].layer;
    for (uint32_t s = 0; s < task->steps; s++) {
        struct tessi_step step;
        tessi_task_step(of, index, s, &step);
        for (uint32_t i = 0; i < step.count; i++) {
            uint32_t in = tool_block_get(cluster, worker, of->reads[step.ref[i].input] - 1, step.ref[i].index);
            struct tool_block *block = tool_block_at(cluster, in);
            tool_use(cluster, worker, in);
            if (block->state == TOOL_ABSENT) {
                tool_request(cluster, worker, in);
            }
        }
    }
    tool_queue_push(&worker->waiting, (struct tool_entry){task->order, number, task->life});
}

static void take_assign(struct tool_cluster *cluster, struct tool_worker *worker, const struct tool_order *order)
{
    for (size_t w = 0; w < order->where.count; w++) {
        const struct tessi_span *span = &order->where.items[w];
        for (uint64_t i = 0; i < span->count; i++) {
            struct tool_block *block =
                tool_block_at(cluster, tool_block_get(cluster, worker, span->layer - 1, span->first + i));
            if (block->state == TOOL_ABSENT) {
                block->owner = number_of(span->worker);
            }
        }
    }
    uint32_t *made = NULL;
    size_t count = 0, capacity = 0;
    for (size_t s = 0; s < order->spans.count; s++) {
        const struct tessi_span *span = &order->spans.items[s];
        for (uint64_t i = 0; i < span->count; i++) {
            tessi_grow(&made, &capacity, count + 1, sizeof *made);
            uint32_t number = accept(cluster, worker, span->layer - 1, span->first + i, span->epoch,
                                     span->order + i * span->order_step);
            made[count] = number;
            count += number != TOOL_NONE;
        }
    }
    for (size_t t = 0; t < count; t++) {
        tie(cluster, worker, made[t]);
    }
    tessi_free(made);
    for (size_t w = 0; w < order->where.count; w++) { /* named for a task that needed nothing any more */
        const struct tessi_span *span = &order->where.items[w];
        for (uint64_t i = 0; i < span->count; i++) {
            uint32_t number = tool_find(worker, span->layer - 1, span->first + i);
            if (number != TESSI_MAP_NONE && tool_block_at(cluster, number)->uses == 0 &&
                tool_block_at(cluster, number)->state == TOOL_ABSENT) {
                tool_block_free(cluster, worker, number);
            }
        }
    }
}

/* The task is not to be run here; what else is known of its block stays. */
static void forget_task(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = tool_block_at(cluster, number);
    struct tool_task *task = tool_task_at(cluster, block->task);
    if (task->started) {
        worker->used_bytes -= block->bytes;
    }
    if (task->running) { /* its step ends, and nobody hears of it */
        uint32_t s = task->next_step;
        tool_close_step(cluster, worker, block->task, s);
        task = tool_task_at(cluster, tool_block_at(cluster, number)->task);
        task->next_step = s + 1;
    }
    tool_task_free(cluster, worker, tool_block_at(cluster, number)->task);
    block = tool_block_at(cluster, number);
    block->state = TOOL_ABSENT;
    block->owner = TOOL_NONE;
    tool_end_readers(cluster, worker, number, false);
}

static void take_free(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = tool_find(worker, span->layer - 1, span->first + i);
        if (number == TESSI_MAP_NONE) {
            continue;
        }
        struct tool_block *block = tool_block_at(cluster, number);
        if (block->state == TOOL_PLANNED) {
            forget_task(cluster, worker, number);
        } else if (tool_is_here(block)) {
            tool_unlist(cluster, worker, number);
            if (block->state == TOOL_OWNED) {
                cluster->live--;
                worker->owned_bytes -= block->bytes;
            }
            worker->used_bytes -= block->bytes;
            block->state = TOOL_ABSENT;
        } else if (block->state == TOOL_PULLING) {
            worker->pulling_bytes -= block->bytes;
            worker->used_bytes -= block->bytes;
            block->state = TOOL_ABSENT;
            block->ticket++;
        }
        if (tool_block_at(cluster, number)->uses == 0) {
            tool_block_free(cluster, worker, number);
        }
    }
}

static void take_steal(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = tool_find(worker, span->layer - 1, span->first + i);
        const struct tool_block *block = number == TESSI_MAP_NONE ? NULL : tool_block_at(cluster, number);
        bool given = block != NULL && block->state == TOOL_PLANNED && !tool_task_at(cluster, block->task)->started &&
                     tool_task_at(cluster, block->task)->epoch == span->epoch;
        struct tessi_span answer_span = *span;
        answer_span.first += i;
        answer_span.count = 1;
        tessi_spans_push(given ? &worker->report.stolen : &worker->report.kept, answer_span);
        if (!given) {
            continue;
        }
        forget_task(cluster, worker, number);
        if (tool_block_at(cluster, number)->uses == 0) {
            tool_block_free(cluster, worker, number);
        } else {
            tool_locate(cluster, worker, number);
        }
    }
    tool_has_news(cluster, worker);
}

static void take_adopt(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = tool_find(worker, span->layer - 1, span->first + i);
        struct tool_block *block = number == TESSI_MAP_NONE ? NULL : tool_block_at(cluster, number);
        struct tessi_span one = *span;
        one.first += i;
        one.count = 1;
        bool here = block != NULL && tool_is_here(block);
        if (here && block->state == TOOL_COPY) {
            tool_unlist(cluster, worker, number);
            tool_own(cluster, worker, number);
        }
        tessi_spans_push(here ? &worker->report.adopted : &worker->report.missing, one);
    }
    tool_has_news(cluster, worker);
}

static void take_location(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = tool_find(worker, span->layer - 1, span->first + i);
        if (number == TESSI_MAP_NONE || tool_block_at(cluster, number)->state != TOOL_LOCATING || span->worker == 0) {
            continue;
        }
        struct tool_block *block = tool_block_at(cluster, number);
        block->owner = number_of(span->worker);
        if (block->uses == 0) {
            tool_block_free(cluster, worker, number);
        } else {
            tool_request(cluster, worker, number);
        }
    }
}

void tool_worker_order(struct tool_cluster *cluster, struct tool_worker *worker, const struct tool_order *order)
{
    if (order->kind == TESSI_SCHED_ASSIGN) {
        take_assign(cluster, worker, order);
    }
    for (size_t s = 0; s < order->spans.count; s++) {
        const struct tessi_span *span = &order->spans.items[s];
        if (order->kind == TESSI_SCHED_FREE) {
            take_free(cluster, worker, span);
        } else if (order->kind == TESSI_SCHED_STEAL) {
            take_steal(cluster, worker, span);
        } else if (order->kind == TESSI_SCHED_ADOPT) {
            take_adopt(cluster, worker, span);
        } else if (order->kind == TESSI_SCHED_LOCATION) {
            take_location(cluster, worker, span);
        }
    }
    tool_advance(cluster, worker);
}

void tool_worker_fini(struct tool_worker *worker)
{
    tessi_map_fini(&worker->blocks);
    tessi_free(worker->waiting.entries);
    tessi_free(worker->startable.entries);
    tessi_free(worker->runnable.entries);
    tessi_free(worker->pulls.entries);
    tessi_report_fini(&worker->report);
    tessi_spans_fini(&worker->locates);
}
