/* The scheduler's shell, the clock, and what is measured. */
#include "tests/sim/tool/cluster.h"

#include <math.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/base/text.h"
#include "core/sched/explain/explain.h"
#include "tests/sim/random.h"
#include "tests/sim/tool/memory.h"

#define BEAT_NS INT64_C(1000000000)
#define CLIENT_BEAT_NS INT64_C(10000000000)
#define STANDSTILL_NS INT64_C(60000000000) /* nothing under way for so long: the run is stuck */
#define VERIFY_WORKERS_MAX 1000u

/* --- pools and events --- */

uint32_t tool_pool_take(struct tool_pool *pool)
{
    if (pool->free_count > 0) {
        return pool->free[--pool->free_count];
    }
    size_t known = pool->capacity;
    tessi_grow(&pool->items, &pool->capacity, pool->count + 1, pool->item_size);
    memset((char *)pool->items + known * pool->item_size, 0, (pool->capacity - known) * pool->item_size);
    return (uint32_t)pool->count++;
}

void tool_pool_give(struct tool_pool *pool, uint32_t number)
{
    tessi_grow(&pool->free, &pool->free_capacity, pool->free_count + 1, sizeof *pool->free);
    pool->free[pool->free_count++] = number;
}

static void pool_fini(struct tool_pool *pool)
{
    tessi_free(pool->items);
    tessi_free(pool->free);
}

static bool periodic(enum tool_event_kind kind)
{
    return kind == TOOL_BEAT || kind == TOOL_CLIENT_BEAT || kind == TOOL_TICK;
}

void tool_schedule(struct tool_cluster *cluster, int64_t at_ns, enum tool_event_kind kind, uint32_t worker, uint32_t a,
                   uint32_t b)
{
    TESS_ASSERT(at_ns >= cluster->now_ns);
    cluster->busy_events += !periodic(kind);
    tool_timeline_push(&cluster->timeline,
                       (struct tool_event){.at_ns = at_ns, .kind = kind, .worker = worker, .a = a, .b = b});
}

/* --- task times --- */

/* One draw of the standard normal distribution for each task, by Box and Muller. */
static double deviate(uint64_t seed, uint32_t layer, uint64_t index)
{
    uint64_t bits = sim_mix(sim_mix(seed, layer), index);
    double u = ((double)(bits >> 11) + 0.5) * 0x1p-53;
    double v = (double)(sim_mix(bits, 1) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static double cost_ns(const struct tool_options *options, const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_cost cost = tessi_task_cost(layer, index);
    if (layer->op == TESSI_OP_SYNTHETIC) {
        return (double)layer->as.synthetic.nanoseconds;
    }
    bool dense = tessi_op_row(layer->op)->limit == TESSI_LIMIT_FLOPS;
    double flops_per_ns = dense ? options->flops_per_ns : options->flops_per_ns / 16;
    double memory_ns = dense ? 0 : cost.bytes / 10;
    double compute_ns = cost.flops / flops_per_ns;
    return compute_ns > memory_ns ? compute_ns : memory_ns;
}

static double kernel_ns(const struct tool_cluster *cluster, uint32_t layer, uint64_t index)
{
    const struct tool_options *options = &cluster->options;
    switch (options->time) {
    case TOOL_TIME_COST:
        return cluster->layers[layer].uniform ? cluster->layers[layer].cost_ns
                                              : cost_ns(options, cluster->layers[layer].layer, index);
    case TOOL_TIME_FIXED:
        return (double)options->task_ns;
    case TOOL_TIME_LOGNORMAL: /* exp(−σ²/2) makes the mean what was asked for */
        return (double)options->task_ns *
               exp(options->sigma * deviate(options->seed, layer, index) - options->sigma * options->sigma / 2);
    }
    TESS_ASSERT(false);
    return 0;
}

double tool_task_ns(const struct tool_cluster *cluster, uint32_t layer, uint64_t index)
{
    const struct tool_layer *of = &cluster->layers[layer];
    uint32_t steps = of->uniform ? of->steps : tessi_task_steps(of->layer, index);
    return kernel_ns(cluster, layer, index) + (double)(steps * cluster->options.overhead_ns);
}

static bool all_alike(const struct tessi_layer *layer)
{
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        const struct tessi_axis *axis = &layer->grid.axis[d];
        if (axis->chunk == 0 || axis->extent % axis->chunk != 0) {
            return false;
        }
    }
    bool alike = layer->op != TESSI_OP_REDUCE && layer->op != TESSI_OP_SYNTHETIC;
    if (layer->op == TESSI_OP_MATMUL) {
        alike = layer->input[0].grid.axis[1].extent % layer->as.matmul.segment == 0;
    }
    return alike;
}

static void describe_layers(struct tool_cluster *cluster)
{
    cluster->layers = tessi_zalloc(cluster->graph.count * sizeof *cluster->layers);
    for (size_t l = 0; l < cluster->graph.count; l++) {
        const struct tessi_layer *layer = cluster->graph.layers[l];
        cluster->layers[l] = (struct tool_layer){
            .layer = layer,
            .uniform = all_alike(layer),
            .cost_ns = cost_ns(&cluster->options, layer, 0),
            .steps = tessi_task_steps(layer, 0),
            .block_bytes = tessi_layer_block_bytes(layer, 0),
            .footprint = tessi_task_footprint(layer, 0),
        };
    }
}

void tool_count_done(struct tool_cluster *cluster, uint32_t layer, uint64_t index)
{
    struct tool_result *result = &cluster->result;
    if (!cluster->measuring) {
        return;
    }
    double task_ns = tool_task_ns(cluster, layer, index);
    result->tasks++;
    result->work_ns += task_ns;
    result->longest_ns = task_ns > result->longest_ns ? task_ns : result->longest_ns;
    if (result->tasks == cluster->graph.tasks / 10) {
        result->resident_tenth = tool_resident_bytes();
    }
}

/* --- the scheduler --- */

static void copy_spans(struct tessi_spans *to, const struct tessi_span *items, size_t count)
{
    tessi_grow(&to->items, &to->capacity, count, sizeof *to->items);
    if (count > 0) {
        memcpy(to->items, items, count * sizeof *items);
    }
    to->count = count;
}

static void send_order(struct tool_cluster *cluster, const struct tessi_sched_action *action)
{
    uint32_t number = tool_pool_take(&cluster->orders);
    struct tool_order *order = &((struct tool_order *)cluster->orders.items)[number];
    order->kind = action->kind;
    copy_spans(&order->spans, action->spans, action->span_count);
    copy_spans(&order->where, action->where, action->where_count);
    tool_schedule(cluster, cluster->now_ns + cluster->options.latency_ns, TOOL_ORDER, action->peer - TOOL_FIRST_WORKER,
                  number, 0);
}

static void carry_out(struct tool_cluster *cluster, const struct tessi_sched_action *action)
{
    switch (action->kind) {
    case TESSI_SCHED_ASSIGN:
    case TESSI_SCHED_STEAL:
    case TESSI_SCHED_FREE:
    case TESSI_SCHED_ADOPT:
    case TESSI_SCHED_LOCATION:
        send_order(cluster, action);
        break;
    case TESSI_SCHED_DONE:
        cluster->awaited--;
        break;
    case TESSI_SCHED_REFUSED:
    case TESSI_SCHED_FAILED:
    case TESSI_SCHED_REJECT:
    case TESSI_SCHED_BYE:
        (void)tessi_fail(&cluster->error, action->status == TESSI_OK ? TESSI_FAILED : action->status,
                         "the scheduler says to %u: %s", action->peer, action->text);
        break;
    case TESSI_SCHED_WELCOME: /* the rest is bookkeeping that a virtual worker does not need */
    case TESSI_SCHED_PEER_UP:
    case TESSI_SCHED_PEER_LOST:
    case TESSI_SCHED_LAYERS:
    case TESSI_SCHED_DROP_LAYERS:
    case TESSI_SCHED_DETACHED:
    case TESSI_SCHED_PUSH:
    case TESSI_SCHED_ACCEPTED:
    case TESSI_SCHED_PROGRESS:
    case TESSI_SCHED_TAKE_OVER: /* nobody leaves here */
    case TESSI_SCHED_LEFT:
        break;
    }
}

#define LONG_NS 20000 /* a process that was made to wait waits longer */

/* For how long the process has been kept waiting, since some time. */
static int64_t waited_ns(int64_t now_ns)
{
    return now_ns - tessi_clock_thread_cpu();
}

/* The scheduler's steps are timed by the clock on the wall, which is quick to read. After anything that took long the
 * processor's clock tells how much of it was waiting. */
static double step(struct tool_cluster *cluster, struct tessi_sched_event event)
{
    struct tessi_sched_actions actions;
    struct tool_result *result = &cluster->result;
    event.now_ns = cluster->now_ns;
    bool apart = event.kind == TESSI_SCHED_WORKER_JOIN || event.kind == TESSI_SCHED_SUBMIT;
    if (cluster->options.alone) {
        tool_tape_write(&cluster->tape, &event);
    }
    tool_memory_count(true);
    int64_t before_ns = tessi_clock_now();
    if (before_ns - cluster->stepped_ns > LONG_NS) {
        cluster->waited_ns = waited_ns(before_ns);
    }
    for (uint32_t i = 0; i < cluster->expect_count; i++) {
        tessi_sched_expect(cluster->sched, cluster->expect[i]);
    }
    tessi_sched_step(cluster->sched, &event, &actions);
    cluster->expect_count = 0;
    cluster->stepped_ns = tessi_clock_now();
    int64_t took_ns = cluster->stepped_ns - before_ns;
    if (took_ns > LONG_NS) {
        int64_t all_ns = waited_ns(cluster->stepped_ns), in_step_ns = all_ns - cluster->waited_ns;
        took_ns -= in_step_ns < 0 ? 0 : in_step_ns < took_ns ? in_step_ns : took_ns;
        cluster->waited_ns = all_ns;
    }
    double seconds = (double)took_ns / 1e9;
    tool_memory_count(false);
    result->scheduler_seconds += apart ? 0 : seconds;
    result->steps++;
    if (cluster->options.verify && cluster->options.workers <= VERIFY_WORKERS_MAX) {
        tessi_sched_verify(cluster->sched);
    }
    for (size_t i = 0; i < actions.count; i++) {
        carry_out(cluster, &actions.items[i]);
    }
    if (actions.wake_ns != cluster->tick_ns && actions.wake_ns != INT64_MAX) {
        cluster->tick_ns = actions.wake_ns;
        tool_schedule(cluster, actions.wake_ns > cluster->now_ns ? actions.wake_ns : cluster->now_ns, TOOL_TICK, 0, 0,
                      0);
    }
    uint64_t bytes = tool_memory_bytes();
    result->scheduler_bytes_most = bytes > result->scheduler_bytes_most ? bytes : result->scheduler_bytes_most;
    result->live_most = cluster->live > result->live_most ? cluster->live : result->live_most;
    return seconds;
}

static void join(struct tool_cluster *cluster, struct tool_worker *worker)
{
    struct tessi_sched_event event = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = TOOL_FIRST_WORKER + worker->number};
    struct tessi_worker_info *info = &event.worker;
    (void)tessi_text_format(info->name, sizeof info->name, "w%u", worker->number);
    (void)tessi_text_format(info->host, sizeof info->host, "h%u", worker->number);
    (void)tessi_text_format(info->address, sizeof info->address, "tcp://w%u:1", worker->number);
    (void)tessi_text_format(info->family, sizeof info->family, "generic");
    info->slots = cluster->options.slots;
    info->memory_bytes = cluster->options.memory_bytes;
    worker->up = true;
    worker->told_ns = cluster->now_ns;
    cluster->result.join_seconds += step(cluster, event);
    tool_schedule(cluster, cluster->now_ns + BEAT_NS, TOOL_BEAT, worker->number, 0, 0);
}

static double submit(struct tool_cluster *cluster, size_t first, size_t last, const uint32_t *wanted, size_t count)
{
    struct tessi_layer **layers = tessi_alloc((last - first) * sizeof *layers);
    cluster->awaited = count;
    for (size_t l = first; l < last; l++) {
        layers[l - first] = tessi_layer_copy(cluster->graph.layers[l]);
    }
    double seconds = step(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                                              .peer = TOOL_SESSION,
                                                              .layers = layers,
                                                              .layer_count = last - first,
                                                              .ids = wanted,
                                                              .id_count = count,
                                                              .request = 1});
    tessi_free(layers);
    return seconds;
}

/* A scheduler has a report in its cache, since it has just unpacked it. */
static uint64_t touch(const struct tessi_report *report, const struct tessi_spans *locates)
{
    const struct tessi_spans *lists[] = {&report->started, &report->done,    &report->copied, &report->dropped,
                                         &report->adopted, &report->missing, &report->stolen, &report->kept,
                                         &report->refused, locates};
    uint64_t sum = 0;
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++) {
        for (size_t s = 0; s < lists[l]->count; s++) {
            sum += lists[l]->items[s].first + lists[l]->items[s].epoch;
        }
    }
    return sum;
}

static void take_message(struct tool_cluster *cluster, uint32_t number)
{
    struct tool_message *message = &((struct tool_message *)cluster->messages.items)[number];
    uint32_t peer = TOOL_FIRST_WORKER + message->worker;
    struct tessi_report *report = &message->report;
    cluster->touched += touch(report, &message->locates);
    (void)step(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = peer, .report = report});
    if (message->locates.count > 0) {
        (void)step(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_LOCATE,
                                                       .peer = peer,
                                                       .spans = message->locates.items,
                                                       .span_count = message->locates.count});
    }
    report->started.count = report->done.count = report->copied.count = report->dropped.count = 0;
    report->adopted.count = report->missing.count = report->stolen.count = report->kept.count = 0;
    report->refused.count = 0;
    message->locates.count = 0;
    tool_pool_give(&cluster->messages, number);
}

/* Reports that come at the same moment are at hand together, as messages are that a poll finds. */
static void take_messages(struct tool_cluster *cluster, const struct tool_event *first)
{
    struct tool_event reports[TOOL_POLL];
    const struct tool_timeline *timeline = &cluster->timeline;
    size_t count = 1, told = 0;
    reports[0] = *first;
    while (count < TOOL_POLL && timeline->count > 0 && timeline->events[0].at_ns == cluster->now_ns &&
           timeline->events[0].kind == TOOL_MESSAGE) {
        reports[count++] = tool_timeline_pop(&cluster->timeline);
        cluster->busy_events--;
        cluster->result.events++;
    }
    for (size_t i = 0; i < count && cluster->awaited > 0; i++) {
        for (; told < count && told <= i + TOOL_AHEAD; told++) {
            if (told > i) {
                cluster->expect[cluster->expect_count++] = TOOL_FIRST_WORKER + reports[told].worker;
            }
        }
        take_message(cluster, reports[i].a);
    }
}

static void take_event(struct tool_cluster *cluster, const struct tool_event *event)
{
    struct tool_worker *worker = &cluster->workers[event->worker];
    switch ((enum tool_event_kind)event->kind) {
    case TOOL_JOIN:
        join(cluster, worker);
        break;
    case TOOL_BEAT:
        if (cluster->now_ns - worker->told_ns >= BEAT_NS) {
            (void)step(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_HEARD,
                                                           .peer = TOOL_FIRST_WORKER + worker->number});
        }
        tool_schedule(cluster, cluster->now_ns + BEAT_NS, TOOL_BEAT, worker->number, 0, 0);
        break;
    case TOOL_CLIENT_BEAT:
        (void)step(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_HEARD, .peer = TOOL_SESSION});
        tool_schedule(cluster, cluster->now_ns + CLIENT_BEAT_NS, TOOL_CLIENT_BEAT, 0, 0, 0);
        break;
    case TOOL_TICK:
        if (event->at_ns == cluster->tick_ns) {
            cluster->tick_ns = INT64_MAX;
            (void)step(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_TICK});
        }
        break;
    case TOOL_MESSAGE:
        take_messages(cluster, event);
        break;
    case TOOL_ORDER: {
        struct tool_order order = ((struct tool_order *)cluster->orders.items)[event->a];
        tool_worker_order(cluster, worker, &order);
        tool_pool_give(&cluster->orders, event->a);
        break;
    }
    case TOOL_REPORT_DUE:
    case TOOL_STEP_END:
    case TOOL_READ:
    case TOOL_PULL:
    case TOOL_OFFER:
    case TOOL_DATA:
    case TOOL_ASK:
        tool_worker_event(cluster, event);
        break;
    }
}

/* Until what was submitted is done. */
static enum tessi_status run_until_done(struct tool_cluster *cluster)
{
    int64_t moved_ns = cluster->now_ns;
    while (cluster->awaited > 0 && cluster->error.status == TESSI_OK) {
        TESS_ASSERT(cluster->timeline.count > 0);
        struct tool_event event = tool_timeline_pop(&cluster->timeline);
        bool busy = !periodic((enum tool_event_kind)event.kind);
        cluster->now_ns = event.at_ns;
        cluster->busy_events -= busy;
        cluster->result.events++;
        moved_ns = busy || cluster->busy_events > 0 ? cluster->now_ns : moved_ns;
        if (cluster->now_ns - moved_ns > STANDSTILL_NS) {
            return tessi_fail(&cluster->error, TESSI_TIMEOUT,
                              "nothing is under way and %llu tasks of %llu are done: scheduler and workers wait for "
                              "each other",
                              (unsigned long long)cluster->result.tasks, (unsigned long long)cluster->graph.tasks);
        }
        take_event(cluster, &event);
    }
    return cluster->error.status;
}

static void begin_measuring(struct tool_cluster *cluster)
{
    struct tool_result *result = &cluster->result;
    double join_seconds = result->join_seconds;
    *result = (struct tool_result){.join_seconds = join_seconds,
                                   .scheduler_bytes_base = tool_memory_bytes(),
                                   .resident_start = tool_resident_bytes()};
    for (uint32_t w = 0; w < cluster->options.workers; w++) {
        cluster->workers[w].fetched_before_bytes = cluster->workers[w].fetched_bytes;
    }
    cluster->submitted_ns = cluster->now_ns;
    cluster->measuring = true;
}

static void end_measuring(struct tool_cluster *cluster)
{
    struct tool_result *result = &cluster->result;
    struct tessi_sched_status status;
    tessi_sched_status(cluster->sched, &status);
    result->makespan_ns = cluster->now_ns - cluster->submitted_ns;
    result->steals = status.steals;
    result->resident_peak = tool_resident_peak_bytes();
    for (uint32_t w = 0; w < cluster->options.workers; w++) {
        const struct tool_worker *worker = &cluster->workers[w];
        uint64_t fetched = worker->fetched_bytes - worker->fetched_before_bytes;
        result->bytes_moved += fetched;
        result->words_max = fetched / 8 > result->words_max ? fetched / 8 : result->words_max;
        result->peak_bytes = worker->peak_bytes > result->peak_bytes ? worker->peak_bytes : result->peak_bytes;
        result->beyond_bytes =
            worker->beyond_bytes > result->beyond_bytes ? worker->beyond_bytes : result->beyond_bytes;
    }
    result->words_mean = result->bytes_moved / 8 / cluster->options.workers;
}

void tool_cluster_init(struct tool_cluster *cluster, const struct tool_options *options, struct tool_graph *graph)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    *cluster = (struct tool_cluster){
        .options = *options,
        .graph = *graph,
        .tick_ns = INT64_MAX,
        .blocks.item_size = sizeof(struct tool_block),
        .tasks.item_size = sizeof(struct tool_task),
        .links.item_size = sizeof(struct tool_link),
        .messages.item_size = sizeof(struct tool_message),
        .orders.item_size = sizeof(struct tool_order),
        .first_measured = options->persist ? graph->sources : 0,
    };
    config.window_ns = options->window_ns > 0 ? options->window_ns : config.window_ns;
    describe_layers(cluster);
    tool_memory_count(true);
    cluster->config = config;
    cluster->sched = tessi_sched_create(&config);
    tool_memory_count(false);
    cluster->workers = tessi_zalloc(options->workers * sizeof *cluster->workers);
    for (uint32_t w = 0; w < options->workers; w++) {
        struct tool_worker *worker = &cluster->workers[w];
        worker->number = w;
        worker->speed = tool_options_speed(options, w);
        worker->idle = worker->needed = (struct tool_copies){TOOL_NONE, TOOL_NONE};
        tessi_map_init(&worker->blocks);
        tool_schedule(cluster, tool_options_joins(options, w), TOOL_JOIN, w, 0, 0);
    }
}

enum tessi_status tool_cluster_run(struct tool_cluster *cluster, struct tessi_error *error)
{
    struct tool_graph *graph = &cluster->graph;
    enum tessi_status status = TESSI_OK;
    uint32_t last = (uint32_t)graph->count;
    while (cluster->timeline.count > 0 && cluster->timeline.events[0].at_ns == 0) { /* who is there at the start */
        struct tool_event event = tool_timeline_pop(&cluster->timeline);
        cluster->busy_events -= !periodic((enum tool_event_kind)event.kind);
        take_event(cluster, &event);
    }
    (void)step(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = TOOL_SESSION});
    tool_schedule(cluster, CLIENT_BEAT_NS, TOOL_CLIENT_BEAT, 0, 0, 0);
    if (cluster->first_measured > 0) {
        uint32_t *wanted = tessi_alloc(cluster->first_measured * sizeof *wanted);
        for (size_t l = 0; l < cluster->first_measured; l++) {
            wanted[l] = (uint32_t)l + 1;
        }
        (void)submit(cluster, 0, cluster->first_measured, wanted, cluster->first_measured);
        tessi_free(wanted);
        status = run_until_done(cluster);
    }
    if (status == TESSI_OK) {
        begin_measuring(cluster);
        double accept_seconds = submit(cluster, cluster->first_measured, graph->count, &last, 1);
        cluster->result.accept_seconds = accept_seconds;
        status = run_until_done(cluster);
        end_measuring(cluster);
    }
    if (status != TESSI_OK && error != NULL) {
        *error = cluster->error;
    }
    return status;
}

void tool_cluster_fini(struct tool_cluster *cluster)
{
    for (uint32_t w = 0; w < cluster->options.workers; w++) {
        tool_worker_fini(&cluster->workers[w]);
    }
    for (size_t i = 0; i < cluster->messages.count; i++) {
        struct tool_message *message = &((struct tool_message *)cluster->messages.items)[i];
        tessi_report_fini(&message->report);
        tessi_spans_fini(&message->locates);
    }
    for (size_t i = 0; i < cluster->orders.count; i++) {
        struct tool_order *order = &((struct tool_order *)cluster->orders.items)[i];
        tessi_spans_fini(&order->spans);
        tessi_spans_fini(&order->where);
    }
    tessi_sched_destroy(cluster->sched);
    pool_fini(&cluster->blocks);
    pool_fini(&cluster->tasks);
    pool_fini(&cluster->links);
    pool_fini(&cluster->messages);
    pool_fini(&cluster->orders);
    tool_tape_fini(&cluster->tape);
    tessi_free(cluster->timeline.events);
    tessi_free(cluster->workers);
    tessi_free(cluster->layers);
    tool_graph_fini(&cluster->graph);
}
