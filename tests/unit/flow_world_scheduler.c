/* The scheduler of a flow_world: it knows every task and every block, and believes what workers report. */
#include "core/base/assert.h"
#include "tests/unit/flow_world.h"

static void add_where(struct world *world, uint32_t layer, uint64_t index, void *context)
{
    const struct task *task = world_task(world, layer, index);
    tessi_spans_push(context, (struct tessi_span){.session = SESSION, .layer = layer, .first = index, .count = 1,
                                                  .epoch = task->epoch, .worker = task->owner});
}

void world_assign(struct world *world, uint32_t layer, uint64_t index, struct message *message)
{
    struct task *task = world_task(world, layer, index);
    if (message == NULL) {
        message = world_post_event(world, SCHEDULER, task->owner, TESSI_FLOW_ASSIGN);
    }
    tessi_spans_push(&message->spans,
                     (struct tessi_span){.session = SESSION, .layer = layer, .first = index, .count = 1,
                                         .epoch = task->epoch, .order = world->base[layer - 1] + index});
    if (world_below(world, 10) != 0) { /* sometimes the worker has to ask */
        world_each_input(world, layer, index, add_where, &message->where);
    }
}

uint32_t world_live_worker(struct world *world)
{
    uint32_t w;
    do {
        w = 1 + world_below(world, world->workers);
    } while (!world->worker[w].alive);
    return w;
}

static void send_free(struct world *world, uint32_t layer, uint64_t index)
{
    struct task *task = world_task(world, layer, index);
    for (uint32_t w = 1; w <= world->workers; w++) {
        if (world->worker[w].alive && (task->owner == w || (task->holders & (1u << w)) != 0)) {
            struct message *message = world_post_event(world, SCHEDULER, w, TESSI_FLOW_FREE);
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
    struct task *task = world_task(world, layer, index);
    TESS_ASSERT(task->remaining > 0);
    if (--task->remaining == 0 && !task->result && task->done && !task->freed) {
        send_free(world, layer, index);
    }
}

static void recompute(struct world *world, uint32_t layer, uint64_t index);

static void input_again(struct world *world, uint32_t layer, uint64_t index, void *context)
{
    (void)context;
    struct task *task = world_task(world, layer, index);
    task->remaining++;
    if (task->freed) {
        recompute(world, layer, index);
    }
}

/* A done task whose block is needed and gone. */
static void recompute(struct world *world, uint32_t layer, uint64_t index)
{
    struct task *task = world_task(world, layer, index);
    TESS_ASSERT(task->done);
    task->done = task->freed = task->stealing = false;
    world->left++;
    world_each_input(world, layer, index, input_again, NULL);
    task->owner = world_live_worker(world);
    task->epoch++;
    world_assign(world, layer, index, NULL);
}

static void on_done(struct world *world, uint32_t from, uint32_t layer, uint64_t index, uint32_t epoch)
{
    struct task *task = world_task(world, layer, index);
    if (task->done || task->owner != from || task->epoch != epoch) {
        return;
    }
    task->done = true;
    task->stealing = false;
    task->holders &= ~(1u << from);
    world->left--;
    world_each_input(world, layer, index, dependent_done, NULL);
    if (task->remaining == 0 && !task->result) {
        send_free(world, layer, index);
    }
}

static void on_stolen(struct world *world, uint32_t from, const struct tessi_span *span, uint64_t index)
{
    struct task *task = world_task(world, span->layer, index);
    if (task->owner != from || task->epoch != span->epoch || task->done) {
        return;
    }
    world->steals++;
    task->stealing = false;
    task->epoch++;
    task->owner = world->worker[span->worker].alive ? span->worker : world_live_worker(world);
    world_assign(world, span->layer, index, NULL);
}

enum verdict { DONE, COPIED, DROPPED, MISSING, STOLEN, KEPT };

static void on_spans(struct world *world, uint32_t from, const struct tessi_spans *spans, enum verdict verdict)
{
    for (size_t i = 0; i < spans->count; i++) {
        const struct tessi_span *span = &spans->items[i];
        for (uint64_t k = 0; k < span->count; k++) {
            struct task *task = world_task(world, span->layer, span->first + k);
            switch (verdict) {
            case DONE:
                on_done(world, from, span->layer, span->first + k, span->epoch);
                break;
            case COPIED:
                if (task->freed) { /* a copy that arrived after FREE is dropped by a second one */
                    struct message *message = world_post_event(world, SCHEDULER, from, TESSI_FLOW_FREE);
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

void world_scheduler_receive(struct world *world, uint32_t from, const struct message *message)
{
    if (message->is_locate) {
        struct tessi_task name = message->event.task;
        const struct task *task = world_task(world, name.layer, name.index);
        struct message *reply = world_post_event(world, SCHEDULER, from, TESSI_FLOW_LOCATION);
        tessi_spans_push(&reply->spans, (struct tessi_span){.session = SESSION, .layer = name.layer,
                                                            .first = name.index, .count = 1, .epoch = task->epoch,
                                                            .worker = task->freed ? 0 : task->owner});
        return;
    }
    const struct tessi_report *report = &message->report;
    TESS_ASSERT(report->refused.count == 0 && report->failure_count == 0);
    on_spans(world, from, &report->dropped, DROPPED);
    on_spans(world, from, &report->copied, COPIED);
    on_spans(world, from, &report->done, DONE);
    on_spans(world, from, &report->missing, MISSING);
    on_spans(world, from, &report->stolen, STOLEN);
    on_spans(world, from, &report->kept, KEPT);
}

void world_steal_something(struct world *world)
{
    uint32_t layer = 1 + world_below(world, world->layers);
    uint64_t index = world_below(world, tessi_layer_tasks(world->layer[layer - 1]));
    struct task *task = world_task(world, layer, index);
    uint32_t thief = world_live_worker(world);
    if (task->done || task->stealing || thief == task->owner) {
        return;
    }
    task->stealing = true;
    struct message *message = world_post_event(world, SCHEDULER, task->owner, TESSI_FLOW_STEAL);
    tessi_spans_push(&message->spans, (struct tessi_span){.session = SESSION, .layer = layer, .first = index,
                                                          .count = 1, .epoch = task->epoch, .worker = thief});
}

void world_kill(struct world *world, uint32_t dead)
{
    world->deaths++;
    world_worker_fini(&world->worker[dead]);
    for (uint32_t end = 0; end < ENDS; end++) {
        world_clear_queue(&world->queue[dead][end]);
        world_clear_queue(&world->queue[end][dead]);
    }
    for (uint32_t w = 1; w <= world->workers; w++) {
        if (world->worker[w].alive) {
            world_post_event(world, SCHEDULER, w, TESSI_FLOW_PEER_LOST)->event.peer = dead;
        }
    }
    for (uint32_t layer = 1; layer <= world->layers; layer++) {
        for (uint64_t t = 0; t < tessi_layer_tasks(world->layer[layer - 1]); t++) {
            struct task *task = world_task(world, layer, t);
            task->holders &= ~(1u << dead);
            if (task->owner != dead || task->freed) {
                continue;
            }
            task->stealing = false;
            if (!task->done) {
                task->owner = world_live_worker(world);
                task->epoch++;
                world_assign(world, layer, t, NULL);
            } else if (task->holders != 0) {
                uint32_t holder = 1;
                while ((task->holders & (1u << holder)) == 0) {
                    holder++;
                }
                task->owner = holder;
                task->epoch++;
                task->holders &= ~(1u << holder);
                struct message *message = world_post_event(world, SCHEDULER, holder, TESSI_FLOW_ADOPT);
                tessi_spans_push(&message->spans, (struct tessi_span){.session = SESSION, .layer = layer, .first = t,
                                                                      .count = 1, .epoch = task->epoch});
            } else {
                recompute(world, layer, t);
            }
        }
    }
}
