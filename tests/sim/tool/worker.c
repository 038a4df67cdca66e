/* A virtual worker; cluster.h says what it does and what it leaves out. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/tool/cluster.h"

#define STARTED_OF_SLOT 2u /* tasks begun for each slot: their outputs take room */

static struct tool_block *block_at(const struct tool_cluster *cluster, uint32_t number)
{
    return &((struct tool_block *)cluster->blocks.items)[number];
}

static struct tool_task *task_at(const struct tool_cluster *cluster, uint32_t number)
{
    return &((struct tool_task *)cluster->tasks.items)[number];
}

static struct tool_link *link_at(const struct tool_cluster *cluster, uint32_t number)
{
    return &((struct tool_link *)cluster->links.items)[number];
}

static uint32_t number_of(uint32_t id)
{
    return id - TOOL_FIRST_WORKER;
}

static struct tessi_map_key key_of(uint32_t layer, uint64_t index)
{
    return (struct tessi_map_key){layer, index};
}

static uint32_t find(const struct tool_worker *worker, uint32_t layer, uint64_t index)
{
    return tessi_map_get(&worker->blocks, key_of(layer, index));
}

static struct tessi_span span_of(const struct tool_block *block, uint32_t epoch)
{
    return (struct tessi_span){
        .session = TOOL_SESSION, .layer = block->layer + 1, .first = block->index, .count = 1, .epoch = epoch};
}

/* --- reports --- */

static void has_news(struct tool_cluster *cluster, struct tool_worker *worker)
{
    if (!worker->report_pending) {
        int64_t at_ns = worker->report_free_ns > cluster->now_ns ? worker->report_free_ns : cluster->now_ns;
        worker->report_pending = true;
        tool_schedule(cluster, at_ns, TOOL_REPORT_DUE, worker->number, 0, 0);
    }
}

/* The old arrays of the letter serve the next report. */
static void send_report(struct tool_cluster *cluster, struct tool_worker *worker)
{
    uint32_t number = tool_pool_take(&cluster->letters);
    struct tool_letter *letter = &((struct tool_letter *)cluster->letters.items)[number];
    struct tessi_report report = letter->report;
    struct tessi_spans locates = letter->locates;
    worker->report.memory_used_bytes = worker->used_bytes;
    worker->report.memory_peak_bytes = worker->peak_bytes;
    worker->report.fetched_bytes = worker->fetched_bytes;
    worker->report.served_bytes = worker->served_bytes;
    *letter = (struct tool_letter){worker->number, worker->report, worker->locates};
    worker->report = report;
    worker->locates = locates;
    worker->report_pending = false;
    worker->told_ns = cluster->now_ns;
    worker->report_free_ns = cluster->now_ns + cluster->options.loop_ns;
    tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_LETTER, worker->number, number, 0);
}

/* --- memory and copies --- */

static void take_bytes(struct tool_cluster *cluster, struct tool_worker *worker, uint64_t bytes)
{
    worker->used_bytes += bytes;
    if (worker->used_bytes > worker->peak_bytes) {
        worker->peak_bytes = worker->used_bytes;
        uint64_t memory = cluster->options.memory_bytes;
        worker->beyond_bytes = worker->peak_bytes > memory ? worker->peak_bytes - memory : 0;
    }
}

static void list_remove(struct tool_cluster *cluster, struct tool_copies *list, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    uint32_t before = block->before, after = block->after;
    if (before != TOOL_NONE) {
        block_at(cluster, before)->after = after;
    } else {
        list->first = after;
    }
    if (after != TOOL_NONE) {
        block_at(cluster, after)->before = before;
    } else {
        list->last = before;
    }
}

static void list_append(struct tool_cluster *cluster, struct tool_copies *list, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    block->before = list->last;
    block->after = TOOL_NONE;
    if (list->last != TOOL_NONE) {
        block_at(cluster, list->last)->after = number;
    } else {
        list->first = number;
    }
    list->last = number;
}

/* A copy stands in a list as long as no open step needs it. */
static struct tool_copies *list_of(struct tool_worker *worker, const struct tool_block *block)
{
    if (block->state != TOOL_COPY || block->pins > 0) {
        return NULL;
    }
    return block->uses > 0 ? &worker->needed : &worker->idle;
}

static void block_free(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    TESS_ASSERT(block->uses == 0 && block->pins == 0 && block->waiters == TOOL_NONE && block->readers == TOOL_NONE);
    (void)tessi_map_remove(&worker->blocks, key_of(block->layer, block->index));
    block->ticket++;
    tool_pool_give(&cluster->blocks, number);
}

static void drop_copy(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    list_remove(cluster, list_of(worker, block), number);
    worker->used_bytes -= block->bytes;
    tessi_spans_push(&worker->report.dropped, span_of(block, 0));
    has_news(cluster, worker);
    block->state = TOOL_ABSENT;
    if (block->uses == 0) {
        block_free(cluster, worker, number);
    }
}

static bool room(struct tool_cluster *cluster, struct tool_worker *worker, uint64_t bytes)
{
    while (worker->used_bytes + bytes > cluster->options.memory_bytes) {
        uint32_t victim = worker->idle.first != TOOL_NONE ? worker->idle.first : worker->needed.first;
        if (victim == TOOL_NONE) {
            return false;
        }
        drop_copy(cluster, worker, victim);
    }
    return true;
}

static void own(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    block->state = TOOL_OWNED;
    worker->owned_bytes += block->bytes;
    cluster->live++;
}

static uint32_t block_get(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t layer, uint64_t index)
{
    uint32_t number = find(worker, layer, index);
    if (number != TESSI_MAP_NONE) {
        return number;
    }
    number = tool_pool_take(&cluster->blocks);
    struct tool_block *block = block_at(cluster, number);
    const struct tool_layer *of = &cluster->layers[layer];
    *block = (struct tool_block){
        .index = index,
        .bytes = of->uniform ? of->block_bytes : tessi_layer_block_bytes(of->layer, index),
        .want = UINT64_MAX,
        .layer = layer,
        .worker = worker->number,
        .owner = TOOL_NONE,
        .ticket = block->ticket + 1,
        .task = TOOL_NONE,
        .waiters = TOOL_NONE,
        .readers = TOOL_NONE,
        .state = TOOL_ABSENT,
    };
    tessi_map_put(&worker->blocks, key_of(layer, index), number);
    return number;
}

/* --- blocks between workers --- */

static void locate(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    block->state = TOOL_LOCATING;
    tessi_spans_push(&worker->locates, span_of(block, 0));
    has_news(cluster, worker);
}

static void request(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    if (block->owner == TOOL_NONE) {
        locate(cluster, worker, number);
        return;
    }
    block->state = TOOL_ASKED;
    block->ticket++;
    tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_READ, block->owner, number,
                  block->ticket);
}

static void transfer(struct tool_cluster *cluster, struct tool_worker *from, uint32_t reader)
{
    const struct tool_block *block = block_at(cluster, reader);
    struct tool_worker *to = &cluster->workers[block->worker];
    int64_t takes_ns = (int64_t)((double)block->bytes / cluster->options.bytes_per_ns);
    int64_t begins_ns = from->sends_until_ns > cluster->now_ns ? from->sends_until_ns : cluster->now_ns;
    int64_t reaches_ns = begins_ns + cluster->options.latency_ns;
    from->sends_until_ns = begins_ns + takes_ns;
    reaches_ns = to->receives_until_ns > reaches_ns ? to->receives_until_ns : reaches_ns;
    to->receives_until_ns = reaches_ns + takes_ns;
    from->served_bytes += block->bytes;
    tool_schedule(cluster, to->receives_until_ns, TOOL_DATA, to->number, reader, block->ticket);
}

static void answer(struct tool_cluster *cluster, struct tool_worker *owner, uint32_t reader)
{
    const struct tool_block *block = block_at(cluster, reader);
    if (block->bytes <= TOOL_INLINE_BYTES) {
        transfer(cluster, owner, reader);
    } else {
        tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_OFFER, block->worker, reader,
                      block->ticket);
    }
}

static void send_to_scheduler(struct tool_cluster *cluster, uint32_t reader)
{
    const struct tool_block *block = block_at(cluster, reader);
    tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_ASK, block->worker, reader,
                  block->ticket);
}

/* Readers that were parked here: they get the block, or have to ask the scheduler. */
static void end_readers(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, bool here)
{
    uint32_t at = block_at(cluster, number)->readers;
    block_at(cluster, number)->readers = TOOL_NONE;
    while (at != TOOL_NONE) {
        struct tool_link link = *link_at(cluster, at);
        tool_pool_give(&cluster->links, at);
        if (block_at(cluster, link.a)->ticket == link.b) {
            if (here) {
                answer(cluster, worker, link.a);
            } else {
                send_to_scheduler(cluster, link.a);
            }
        }
        at = link.next;
    }
}

static void on_read(struct tool_cluster *cluster, const struct tool_event *event)
{
    struct tool_worker *owner = &cluster->workers[event->worker];
    const struct tool_block *wanted = block_at(cluster, event->a);
    uint32_t number = find(owner, wanted->layer, wanted->index);
    enum tool_block_state state = number == TESSI_MAP_NONE ? TOOL_ABSENT : block_at(cluster, number)->state;
    if (state == TOOL_OWNED || state == TOOL_COPY) {
        answer(cluster, owner, event->a);
    } else if (state == TOOL_PLANNED) {
        uint32_t link = tool_pool_take(&cluster->links);
        *link_at(cluster, link) = (struct tool_link){block_at(cluster, number)->readers, event->a, event->b};
        block_at(cluster, number)->readers = link;
    } else {
        send_to_scheduler(cluster, event->a);
    }
}

static void on_pull(struct tool_cluster *cluster, const struct tool_event *event)
{
    struct tool_worker *owner = &cluster->workers[event->worker];
    const struct tool_block *wanted = block_at(cluster, event->a);
    uint32_t number = find(owner, wanted->layer, wanted->index);
    enum tool_block_state state = number == TESSI_MAP_NONE ? TOOL_ABSENT : block_at(cluster, number)->state;
    if (state == TOOL_OWNED || state == TOOL_COPY) {
        transfer(cluster, owner, event->a);
    } else {
        send_to_scheduler(cluster, event->a);
    }
}

static void want(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint64_t place)
{
    struct tool_block *block = block_at(cluster, number);
    block->want = place < block->want ? place : block->want;
    if (block->state == TOOL_OFFERED) {
        tool_queue_push(&worker->pulls, (struct tool_entry){block->want, number, block->ticket});
    } else if (block->state == TOOL_ABSENT) {
        request(cluster, worker, number);
    }
}

/* --- tasks --- */

/* A task whose next step has its inputs stands in one of the queues. */
static void enqueue(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    const struct tool_task *task = task_at(cluster, number);
    if (task->open && !task->running && task->next_step < task->opened &&
        task->missing[task->next_step % TOOL_WINDOW] == 0) {
        tool_queue_push(task->started ? &worker->runnable : &worker->startable,
                        (struct tool_entry){task->order, number, task->life});
    }
}

static void wake(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    uint32_t at = block_at(cluster, number)->waiters;
    block_at(cluster, number)->waiters = TOOL_NONE;
    block_at(cluster, number)->want = UINT64_MAX;
    while (at != TOOL_NONE) {
        struct tool_link link = *link_at(cluster, at);
        struct tool_task *task = task_at(cluster, link.a);
        tool_pool_give(&cluster->links, at);
        if (--task->missing[link.b % TOOL_WINDOW] == 0 && link.b == task->next_step) {
            enqueue(cluster, worker, link.a);
        }
        at = link.next;
    }
}

static bool is_here(const struct tool_block *block)
{
    return block->state == TOOL_COPY || block->state == TOOL_OWNED;
}

/* From now on the step's inputs are wanted, and stay. */
static void open_step(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint32_t s)
{
    struct tool_task *task = task_at(cluster, number);
    const struct tool_block *out = block_at(cluster, task->block);
    struct tessi_step step;
    uint32_t layer = out->layer;
    tessi_task_step(cluster->layers[layer].layer, out->index, s, &step);
    task->missing[s % TOOL_WINDOW] = 0;
    for (uint32_t i = 0; i < step.count; i++) {
        uint32_t input = cluster->layers[layer].layer->input[step.ref[i].input].layer - 1;
        uint32_t in = find(worker, input, step.ref[i].index);
        TESS_ASSERT(in != TESSI_MAP_NONE);
        struct tool_block *block = block_at(cluster, in);
        struct tool_copies *list = list_of(worker, block);
        if (list != NULL) {
            list_remove(cluster, list, in);
        }
        block->pins++;
        if (!is_here(block)) {
            uint32_t link = tool_pool_take(&cluster->links);
            *link_at(cluster, link) = (struct tool_link){block->waiters, number, s};
            block->waiters = link;
            task->missing[s % TOOL_WINDOW]++;
            want(cluster, worker, in, task->order << 12 | (s < 4095 ? s : 4095));
        }
    }
    task->opened = s + 1;
}

static void open_window(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = task_at(cluster, number);
    while (task->opened < task->steps && task->opened < task->next_step + TOOL_WINDOW) {
        open_step(cluster, worker, number, task->opened);
    }
}

static void unlink_waiter(struct tool_cluster *cluster, uint32_t block, uint32_t task, uint32_t step)
{
    uint32_t *at = &block_at(cluster, block)->waiters;
    while (*at != TOOL_NONE) {
        struct tool_link *link = link_at(cluster, *at);
        if (link->a == task && link->b == step) {
            uint32_t gone = *at;
            *at = link->next;
            tool_pool_give(&cluster->links, gone);
            return;
        }
        at = &link->next;
    }
}

/* The step has read its inputs, or never will. */
static void close_step(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, uint32_t s)
{
    const struct tool_task *task = task_at(cluster, number);
    const struct tool_block *out = block_at(cluster, task->block);
    uint32_t layer = out->layer;
    struct tessi_step step;
    tessi_task_step(cluster->layers[layer].layer, out->index, s, &step);
    for (uint32_t i = 0; i < step.count; i++) {
        uint32_t input = cluster->layers[layer].layer->input[step.ref[i].input].layer - 1;
        uint32_t in = find(worker, input, step.ref[i].index);
        TESS_ASSERT(in != TESSI_MAP_NONE);
        struct tool_block *block = block_at(cluster, in);
        struct tool_copies *list = list_of(worker, block);
        if (list != NULL) {
            list_remove(cluster, list, in);
        }
        TESS_ASSERT(block->uses > 0);
        block->uses--;
        if (s < task->opened) {
            block->pins--;
            if (!is_here(block)) {
                unlink_waiter(cluster, in, number, s);
            }
        }
        list = list_of(worker, block);
        if (list != NULL) {
            list_append(cluster, list, in);
        } else if (block->uses == 0 && block->state < TOOL_PULLING) {
            block_free(cluster, worker, in);
        }
    }
}

static void open_tasks(struct tool_cluster *cluster, struct tool_worker *worker)
{
    while (worker->waiting.count > 0) {
        struct tool_entry entry = worker->waiting.entries[0];
        struct tool_task *task = task_at(cluster, entry.thing);
        if (task->life != entry.life || task->open) {
            tool_queue_pop(&worker->waiting);
            continue;
        }
        uint64_t bytes = cluster->layers[block_at(cluster, task->block)->layer].footprint;
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
        const struct tool_task *task = task_at(cluster, entry.thing);
        if (task->life == entry.life && !task->running) {
            return entry.thing;
        }
        tool_queue_pop(queue);
    }
    return TOOL_NONE;
}

static void run(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = task_at(cluster, number);
    task->running = true;
    worker->busy++;
    worker->busy_ns += task->step_ns;
    task->ran_ns += task->step_ns;
    tool_schedule(cluster, cluster->now_ns + task->step_ns, TOOL_STEP_END, worker->number, number, task->life);
}

static bool start(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number, bool force)
{
    struct tool_task *task = task_at(cluster, number);
    const struct tool_block *block = block_at(cluster, task->block);
    if (!room(cluster, worker, block->bytes) && !force) {
        return false;
    }
    task = task_at(cluster, number);
    block = block_at(cluster, task->block);
    take_bytes(cluster, worker, block->bytes);
    double whole_ns = tool_task_ns(cluster, block->layer, block->index) / worker->speed;
    task->step_ns = (int64_t)(whole_ns / task->steps + 0.5);
    task->started = true;
    worker->started++;
    tessi_spans_push(&worker->report.started, span_of(block, task->epoch));
    has_news(cluster, worker);
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
        struct tool_block *block = block_at(cluster, entry.thing);
        if (block->ticket != entry.life || block->state != TOOL_OFFERED || block->pins == 0) {
            tool_queue_pop(&worker->pulls);
            continue;
        }
        if (worker->pulling_bytes > 0 && worker->pulling_bytes + block->bytes > TOOL_PULL_BYTES) {
            return;
        }
        if (!room(cluster, worker, block->bytes) && !force) {
            return;
        }
        force = false;
        tool_queue_pop(&worker->pulls);
        block = block_at(cluster, entry.thing);
        take_bytes(cluster, worker, block->bytes);
        worker->pulling_bytes += block->bytes;
        block->state = TOOL_PULLING;
        tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_PULL, block->owner, entry.thing,
                      block->ticket);
    }
}

/* Do what can be done. When nothing moves for want of room alone, the first in order goes beyond it. */
static void advance(struct tool_cluster *cluster, struct tool_worker *worker)
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

/* A task ends here: done, given up or forgotten. Its block stays. */
static void task_free(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_task *task = task_at(cluster, number);
    for (uint32_t s = task->next_step; s < task->steps; s++) {
        close_step(cluster, worker, number, s);
    }
    task = task_at(cluster, number);
    struct tool_block *block = block_at(cluster, task->block);
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
    struct tool_task *task = task_at(cluster, number);
    uint32_t made = task->block;
    struct tool_block *block = block_at(cluster, made);
    struct tessi_span span = span_of(block, task->epoch);
    span.time_ns = task->ran_ns;
    tessi_spans_push(&worker->report.done, span);
    has_news(cluster, worker);
    tool_count_done(cluster, block->layer, block->index);
    task_free(cluster, worker, number);
    own(cluster, worker, made);
    wake(cluster, worker, made);
    end_readers(cluster, worker, made, true);
}

static void on_step_end(struct tool_cluster *cluster, struct tool_worker *worker, const struct tool_event *event)
{
    struct tool_task *task = task_at(cluster, event->a);
    worker->busy--;
    if (task->life == event->b) {
        task->running = false;
        close_step(cluster, worker, event->a, task->next_step);
        task = task_at(cluster, event->a);
        task->next_step++;
        if (task->next_step == task->steps) {
            finish(cluster, worker, event->a);
        } else {
            open_window(cluster, worker, event->a);
            enqueue(cluster, worker, event->a);
        }
    }
    advance(cluster, worker);
}

/* --- what peers answer --- */

static void on_data(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    if (block->state == TOOL_PULLING) {
        worker->pulling_bytes -= block->bytes;
    } else { /* small ones come unasked: room is made where there is some to make */
        (void)room(cluster, worker, block->bytes);
        take_bytes(cluster, worker, block->bytes);
    }
    block = block_at(cluster, number);
    worker->fetched_bytes += block->bytes;
    block->state = TOOL_COPY;
    tessi_spans_push(&worker->report.copied, span_of(block, 0));
    has_news(cluster, worker);
    struct tool_copies *list = list_of(worker, block);
    if (list != NULL) {
        list_append(cluster, list, number);
    }
    wake(cluster, worker, number);
    end_readers(cluster, worker, number, true);
}

static void on_ask(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    if (block->state == TOOL_PULLING) {
        worker->pulling_bytes -= block->bytes;
        worker->used_bytes -= block->bytes;
    }
    if (block->uses == 0) {
        block_free(cluster, worker, number);
    } else {
        locate(cluster, worker, number);
    }
}

static void on_offer(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    block->state = TOOL_OFFERED;
    if (block->pins > 0) {
        tool_queue_push(&worker->pulls, (struct tool_entry){block->want, number, block->ticket});
    }
}

void tool_worker_event(struct tool_cluster *cluster, const struct tool_event *event)
{
    struct tool_worker *worker = &cluster->workers[event->worker];
    enum tool_event_kind kind = (enum tool_event_kind)event->kind;
    if (kind == TOOL_REPORT_DUE) {
        send_report(cluster, worker);
        return;
    }
    if (kind == TOOL_STEP_END) {
        on_step_end(cluster, worker, event);
        return;
    }
    if (block_at(cluster, event->a)->ticket != event->b) {
        return; /* nobody waits for it any more */
    }
    if (kind == TOOL_READ) {
        on_read(cluster, event);
    } else if (kind == TOOL_PULL) {
        on_pull(cluster, event);
    } else if (kind == TOOL_OFFER) {
        on_offer(cluster, worker, event->a);
        advance(cluster, worker);
    } else if (kind == TOOL_DATA) {
        on_data(cluster, worker, event->a);
        advance(cluster, worker);
    } else {
        TESS_ASSERT(kind == TOOL_ASK);
        on_ask(cluster, worker, event->a);
    }
}

/* --- orders of the scheduler --- */

static void report_done_at_once(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number,
                                uint32_t epoch)
{
    struct tool_block *block = block_at(cluster, number);
    struct tool_copies *list = list_of(worker, block);
    if (list != NULL) {
        list_remove(cluster, list, number);
    }
    if (block->state != TOOL_OWNED) {
        own(cluster, worker, number);
    }
    tessi_spans_push(&worker->report.done, span_of(block, epoch));
    has_news(cluster, worker);
}

static uint32_t accept(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t layer, uint64_t index,
                       uint32_t epoch, uint64_t order)
{
    uint32_t made = block_get(cluster, worker, layer, index);
    struct tool_block *block = block_at(cluster, made);
    if (is_here(block)) {
        report_done_at_once(cluster, worker, made, epoch);
        return TOOL_NONE;
    }
    if (block->state == TOOL_PLANNED) {
        task_at(cluster, block->task)->epoch = epoch;
        return TOOL_NONE;
    }
    if (block->state == TOOL_PULLING) {
        worker->pulling_bytes -= block->bytes;
        worker->used_bytes -= block->bytes;
    }
    uint32_t number = tool_pool_take(&cluster->tasks);
    struct tool_task *task = task_at(cluster, number);
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
    struct tool_task *task = task_at(cluster, number);
    uint32_t layer = block_at(cluster, task->block)->layer;
    uint64_t index = block_at(cluster, task->block)->index;
    const struct tessi_layer *of = cluster->layers[layer].layer;
    for (uint32_t s = 0; s < task->steps; s++) {
        struct tessi_step step;
        tessi_task_step(of, index, s, &step);
        for (uint32_t i = 0; i < step.count; i++) {
            uint32_t in = block_get(cluster, worker, of->input[step.ref[i].input].layer - 1, step.ref[i].index);
            struct tool_block *block = block_at(cluster, in);
            struct tool_copies *list = list_of(worker, block);
            if (list == &worker->idle) {
                list_remove(cluster, list, in);
                list_append(cluster, &worker->needed, in);
            }
            block->uses++;
            if (block->state == TOOL_ABSENT) {
                request(cluster, worker, in);
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
                block_at(cluster, block_get(cluster, worker, span->layer - 1, span->first + i));
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
            uint32_t number = find(worker, span->layer - 1, span->first + i);
            if (number != TESSI_MAP_NONE && block_at(cluster, number)->uses == 0 &&
                block_at(cluster, number)->state == TOOL_ABSENT) {
                block_free(cluster, worker, number);
            }
        }
    }
}

/* The task is not to be run here; what else is known of its block stays. */
static void forget_task(struct tool_cluster *cluster, struct tool_worker *worker, uint32_t number)
{
    struct tool_block *block = block_at(cluster, number);
    struct tool_task *task = task_at(cluster, block->task);
    if (task->started) {
        worker->used_bytes -= block->bytes;
    }
    if (task->running) { /* its step ends, and nobody hears of it */
        uint32_t s = task->next_step;
        close_step(cluster, worker, block->task, s);
        task = task_at(cluster, block_at(cluster, number)->task);
        task->next_step = s + 1;
    }
    task_free(cluster, worker, block_at(cluster, number)->task);
    block = block_at(cluster, number);
    block->state = TOOL_ABSENT;
    block->owner = TOOL_NONE;
    end_readers(cluster, worker, number, false);
}

static void take_free(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = find(worker, span->layer - 1, span->first + i);
        if (number == TESSI_MAP_NONE) {
            continue;
        }
        struct tool_block *block = block_at(cluster, number);
        if (block->state == TOOL_PLANNED) {
            forget_task(cluster, worker, number);
        } else if (is_here(block)) {
            struct tool_copies *list = list_of(worker, block);
            if (list != NULL) {
                list_remove(cluster, list, number);
            }
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
        if (block_at(cluster, number)->uses == 0) {
            block_free(cluster, worker, number);
        }
    }
}

static void take_steal(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = find(worker, span->layer - 1, span->first + i);
        const struct tool_block *block = number == TESSI_MAP_NONE ? NULL : block_at(cluster, number);
        bool given = block != NULL && block->state == TOOL_PLANNED && !task_at(cluster, block->task)->started &&
                     task_at(cluster, block->task)->epoch == span->epoch;
        struct tessi_span answer_span = *span;
        answer_span.first += i;
        answer_span.count = 1;
        tessi_spans_push(given ? &worker->report.stolen : &worker->report.kept, answer_span);
        if (!given) {
            continue;
        }
        forget_task(cluster, worker, number);
        if (block_at(cluster, number)->uses == 0) {
            block_free(cluster, worker, number);
        } else {
            locate(cluster, worker, number);
        }
    }
    has_news(cluster, worker);
}

static void take_adopt(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = find(worker, span->layer - 1, span->first + i);
        struct tool_block *block = number == TESSI_MAP_NONE ? NULL : block_at(cluster, number);
        struct tessi_span one = *span;
        one.first += i;
        one.count = 1;
        bool here = block != NULL && is_here(block);
        if (here && block->state == TOOL_COPY) {
            struct tool_copies *list = list_of(worker, block);
            if (list != NULL) {
                list_remove(cluster, list, number);
            }
            own(cluster, worker, number);
        }
        tessi_spans_push(here ? &worker->report.adopted : &worker->report.missing, one);
    }
    has_news(cluster, worker);
}

static void take_location(struct tool_cluster *cluster, struct tool_worker *worker, const struct tessi_span *span)
{
    for (uint64_t i = 0; i < span->count; i++) {
        uint32_t number = find(worker, span->layer - 1, span->first + i);
        if (number == TESSI_MAP_NONE || block_at(cluster, number)->state != TOOL_LOCATING || span->worker == 0) {
            continue;
        }
        struct tool_block *block = block_at(cluster, number);
        block->owner = number_of(span->worker);
        if (block->uses == 0) {
            block_free(cluster, worker, number);
        } else {
            request(cluster, worker, number);
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
    advance(cluster, worker);
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
