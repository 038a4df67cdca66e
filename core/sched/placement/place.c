/* Placement: which worker's initial queue a layer's tasks go to.
 *
 * Products and sources are cut into regions (regions.c). Operands that only a product reads lie with the product's
 * regions; other layers follow their largest input, task by task where there are few, else region by region.
 *
 * Tasks of explicit tables, long ones that follow each other along one dimension, and single tasks that need a
 * new place, go where they would end first: at the holders of their inputs or at a worker with little to do,
 * whichever comes first with the time that moving the inputs takes. Only these few are looked at, so that a
 * decision costs the same however many workers there are. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/graph/join.h"
#include "core/graph/rechunk.h"
#include "core/sched/order/order.h"
#include "core/sched/placement/placement.h"
#include "core/sched/workers/workers.h"

#define REGION_DEPTH_MAX 16 /* how far placement follows one layer to the next before it cuts regions anew */

/* The block in the middle of what the task reads, or the one that it takes most of. Sums of all blocks along an axis take
 * one after the other of them in turn, so that not one worker of each row makes all the sums. */
static uint64_t middle_input(const struct tessi_layer *layer, uint32_t number, uint64_t index)
{
    const struct tessi_input *input = &layer->input[number];
    if (input->rules.table != NULL) {
        const struct tessi_table *table = input->rules.table;
        uint64_t first = table->rows[index], last = table->rows[index + 1];
        return first < last ? table->columns[first + (last - first) / 2] : UINT64_MAX;
    }
    if (tessi_layer_joins(layer)) {
        return tessi_join_main(layer, index);
    }
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    struct tessi_box box;
    tessi_grid_coords(&layer->grid, index, coords);
    tessi_rules_inputs(&input->rules, &input->grid, &layer->grid, coords, &box);
    for (uint32_t d = 0; d < box.ndim; d++) {
        if (box.lo[d] >= box.hi[d]) {
            return UINT64_MAX;
        }
        uint64_t width = box.hi[d] - box.lo[d];
        bool sum = layer->op == TESSI_OP_REDUCE && input->rules.rule[d].kind == TESSI_RULE_ALL;
        coords[d] = box.lo[d] + (sum ? index % width : (width - 1) / 2);
    }
    return tessi_grid_index(&input->grid, coords);
}

/* One of the tasks that read the block, spread over them in step with the block's place along the
 * dimensions that those tasks contract: A(i, k) goes to row i's worker number k·J/K. */
static uint64_t spread_dependent(const struct tessi_layer *consumer, uint32_t number, uint64_t block)
{
    const struct tessi_input *input = &consumer->input[number];
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    uint64_t numerator = 0, denominator = 1;
    struct tessi_box box;
    tessi_grid_coords(&input->grid, block, coords);
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        const struct tessi_rule *rule = &input->rules.rule[d];
        const struct tessi_axis *axis = &input->grid.axis[d];
        if (rule->kind == TESSI_RULE_ALL) {
            numerator = coords[d];
            denominator = axis->count;
        } else if (rule->kind == TESSI_RULE_SEGMENT) { /* its place within its segment */
            int64_t lo = tessi_axis_lo(axis, coords[d]) / rule->value * rule->value;
            int64_t hi = axis->extent - lo < rule->value ? axis->extent : lo + rule->value;
            uint64_t first = tessi_axis_find(axis, lo);
            numerator = coords[d] - first;
            denominator = hi > lo ? tessi_axis_find(axis, hi - 1) - first + 1 : 1;
        }
    }
    tessi_rules_outputs(&input->rules, &input->grid, &consumer->grid, coords, &box);
    for (uint32_t d = 0; d < box.ndim; d++) {
        if (box.lo[d] >= box.hi[d]) {
            return UINT64_MAX;
        }
        coords[d] = box.lo[d] + (box.hi[d] - box.lo[d]) * numerator / denominator;
    }
    return tessi_grid_index(&consumer->grid, coords);
}

/* Worker `number` of those that are there, in the order in which they joined. */
static uint32_t nth_worker(const struct tessi_sched *sched, uint64_t number)
{
    for (size_t w = 0; w < sched->worker_count; w++) {
        if (sched->workers[w]->alive && number-- == 0) {
            return sched->workers[w]->index;
        }
    }
    return NO_WORKER;
}

uint32_t tessi_place_home(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    uint32_t home = NO_WORKER;
    switch (layer->placement) {
    case PLACE_REGIONS:
        home = tessi_regions_of(layer, index);
        break;
    case PLACE_WITH_INPUT: {
        struct sched_layer *input = layer->inputs[layer->place_input];
        uint64_t block = middle_input(layer->layer, layer->place_input, index);
        if (block != UINT64_MAX) {
            const struct task_record *task = record_peek(input, block);
            bool placed = task != NULL && task->owner != NO_WORKER;
            home = placed ? task->owner : tessi_place_home(sched, input, block);
        }
        break;
    }
    case PLACE_PINNED:
        home = nth_worker(sched, index % layer->layer->as.synthetic.pin);
        break;
    case PLACE_EACH:
        home = layer->homes[index];
        break;
    case PLACE_WITH_CONSUMER: {
        uint64_t task = spread_dependent(layer->place_consumer->layer, layer->place_input, index);
        home = task == UINT64_MAX ? NO_WORKER : tessi_place_home(sched, layer->place_consumer, task);
        break;
    }
    }
    TESS_ASSERT(home == NO_WORKER || home < sched->worker_count);
    return home != NO_WORKER && stays(sched->workers[home]) ? home : NO_WORKER;
}

/* How far from its own place a task reads, over all dimensions. */
static uint64_t distance(const struct tessi_map_rules *rules)
{
    uint64_t sum = 0;
    for (uint32_t d = 0; rules->table == NULL && d < rules->ndim; d++) {
        int64_t offset = rules->rule[d].kind == TESSI_RULE_OFFSET ? rules->rule[d].value : 0;
        sum += offset < 0 ? (uint64_t)-offset : (uint64_t)offset;
    }
    return sum;
}

/* Of equally large ones the nearest: a task that follows its neighbour's block would be handed on from layer to layer.
 * TESSI_INPUTS_MAX: it has none, or no other than itself. */
static uint32_t largest_input(const struct sched_layer *layer)
{
    uint32_t largest = TESSI_INPUTS_MAX;
    if (tessi_layer_joins(layer->layer)) {
        return TESSI_JOIN_BLOCKS; /* there are more pieces, but most elements come from blocks */
    }
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        const struct sched_layer *input = layer->inputs[i];
        bool first = largest == TESSI_INPUTS_MAX;
        uint64_t most = first ? 0 : layer->inputs[largest]->tasks;
        if (input != layer && (first || input->tasks > most ||
                               (input->tasks == most && distance(&layer->layer->input[i].rules) <
                                                            distance(&layer->layer->input[largest].rules)))) {
            largest = i;
        }
    }
    return largest;
}

/* The homes of so many tasks may be looked up one by one in this step: it must not take long, however many blocks an
 * array has. False: there are too many. */
static bool look_up(struct tessi_sched *sched, uint64_t tasks)
{
    bool few = tasks <= sched->lookups;
    sched->lookups -= few ? tasks : 0;
    return few;
}

/* ——— earliest finish ——— */

#define HOLDERS_MAX 4
#define LOADS_LOOKED_AT 8
#define TOGETHER_NS 100000.0 /* what a message between workers takes; shorter tasks stay together */

struct candidates { /* who has how much of what a task reads */
    struct tessi_sched *sched;
    struct sched_layer *layer; /* of the input that is walked */
    uint32_t worker[HOLDERS_MAX];
    uint64_t bytes[HOLDERS_MAX];
    double there_ns[HOLDERS_MAX]; /* when they will have been made */
    uint32_t count;
};

static void weigh_holder(void *context, uint64_t index)
{
    struct candidates *found = context;
    struct sched_layer *layer = found->layer;
    const struct task_record *task = record_peek(layer, index);
    uint32_t holder = layer->ends_ns != NULL ? layer->homes[index] : NO_WORKER; /* it may be about to go there */
    holder = holder == NO_WORKER && task != NULL ? task->owner : holder;
    if (holder == NO_WORKER && layer->homes != NULL) {
        holder = layer->homes[index];
    }
    if (holder == NO_WORKER) {
        return;
    }
    uint32_t i = 0;
    while (i < found->count && found->worker[i] != holder) {
        i++;
    }
    if (i == HOLDERS_MAX) {
        return;
    }
    if (i == found->count) {
        found->worker[i] = holder;
        found->bytes[i] = 0;
        found->there_ns[i] = 0;
        found->count++;
    }
    double there_ns = layer->ends_ns != NULL ? (double)layer->ends_ns[index] : 0;
    found->bytes[i] += tessi_layer_block_bytes(layer->layer, index);
    found->there_ns[i] = there_ns > found->there_ns[i] ? there_ns : found->there_ns[i];
}

static void find_holders(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, struct candidates *found)
{
    found->sched = sched;
    found->count = 0;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        found->layer = layer->inputs[i];
        tessi_task_inputs(layer->layer, i, index, weigh_holder, found);
    }
}

static const struct load *load_for(const struct worker *worker, const struct sched_layer *layer)
{
    return &worker->load[kind_at(worker, layer->lane)];
}

static double queue_for(const struct worker *worker, const struct sched_layer *layer)
{
    return tessi_load_of(worker, kind_at(worker, layer->lane));
}

/* When the task would end at `to`, whose queue lasts for `queue_ns`. */
static double finish_ns(const struct tessi_sched *sched, const struct candidates *found, uint32_t to,
                        const struct sched_layer *layer, double queue_ns)
{
    double begin_ns = queue_ns;
    for (uint32_t i = 0; i < found->count; i++) {
        double here_ns = found->there_ns[i] + tessi_network_ns(sched, found->worker[i], to, found->bytes[i]);
        begin_ns = here_ns > begin_ns ? here_ns : begin_ns;
    }
    return begin_ns + layer->estimate_ns * load_for(sched->workers[to], layer)->slowness;
}

/* The shortest queue of a few workers: each call goes on where the last one ended, so that none is left out, and with
 * few workers all are looked at. */
uint32_t tessi_place_least_loaded(struct tessi_sched *sched, const struct lane *lane)
{
    const struct tessi_resources *demand = &lane->demand;
    uint32_t best = NO_WORKER;
    double least = 0;
    size_t looked_at = 0;
    for (size_t i = 0; i < sched->worker_count && looked_at < LOADS_LOOKED_AT; i++) {
        sched->placed = sched->placed + 1 < sched->worker_count ? sched->placed + 1 : 0;
        const struct worker *worker = sched->workers[sched->placed];
        if (!tessi_supply_can_run(worker, demand)) {
            continue;
        }
        uint32_t kind = kind_at(worker, lane);
        double load_ns = tessi_load_of(worker, kind) + (demand->count > 0 ? worker->load[kind].demanding_ns : 0);
        looked_at++;
        if (best == NO_WORKER || load_ns < least || (load_ns <= least && worker->index < best)) {
            best = worker->index;
            least = load_ns;
        }
    }
    return best;
}

void tessi_place_task(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(tessi_table_state(layer, index) == TASK_UNASSIGNED);
    const struct tessi_resources *demand = &layer->lane->demand;
    struct backlog_span span = {layer, index, 1, record(layer, index)->epoch > 0};
    uint32_t best = tessi_place_least_loaded(sched, layer->lane);
    if (best == NO_WORKER) {
        tessi_backlog_put(sched, NO_WORKER, span);
        return;
    }
    uint32_t pinned = is_pinned(layer) ? tessi_place_home(sched, layer, index) : NO_WORKER;
    if (pinned != NO_WORKER && tessi_supply_can_run(sched->workers[pinned], demand)) {
        tessi_backlog_put(sched, pinned, span);
        return;
    }
    struct candidates found;
    find_holders(sched, layer, index, &found);
    double soonest_ns = finish_ns(sched, &found, best, layer, queue_for(sched->workers[best], layer));
    for (uint32_t i = 0; i < found.count; i++) {
        const struct worker *holder = sched->workers[found.worker[i]];
        double end_ns = tessi_supply_can_run(holder, demand)
                            ? finish_ns(sched, &found, holder->index, layer, queue_for(holder, layer))
                            : soonest_ns;
        if (end_ns < soonest_ns) {
            best = holder->index;
            soonest_ns = end_ns;
        }
    }
    tessi_backlog_put(sched, best, span);
}

/* Whether tasks are placed one by one: those of explicit tables, and those along one dimension that read each other.
 * When the latter are so short that messages would take longer than what is gained, they begin together and are spread
 * by stealing, if at all; what they ask for decides: measured times of short tasks are mostly waiting. */
static bool is_irregular(const struct sched_layer *layer)
{
    bool itself = tessi_layer_reads_itself(layer->layer), table = false;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        table = table || layer->layer->input[i].rules.table != NULL;
    }
    return itself ? layer->layer->grid.ndim == 1 && tessi_history_guess(layer->layer, 0) >= TOGETHER_NS : table;
}

static bool to_place(const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *task = record_peek(layer, index);
    bool given = task != NULL && task->state == TASK_ASSIGNED && (task->flags & (TASK_STARTED | TASK_ADOPTING)) == 0;
    return given || tessi_table_state(layer, index) == TASK_UNASSIGNED;
}

struct queues { /* when each worker would have done all that it has been given so far */
    struct tessi_heap heap;
    double *end_ns; /* by worker index, owned */
};

static void lengthen(struct queues *queues, uint32_t worker, double by_ns)
{
    (void)tessi_heap_remove(&queues->heap, worker);
    queues->end_ns[worker] += by_ns;
    double end_ns = queues->end_ns[worker] < 1e18 ? queues->end_ns[worker] : 1e18;
    tessi_heap_push(&queues->heap, (uint64_t)(end_ns > 0 ? end_ns : 0), worker, worker);
}

/* When the worker will have done what it has of other layers. */
static double busy_ns(const struct sched_layer *layer, const struct worker *worker)
{
    const struct layer_on_worker *on = worker->index < layer->on_capacity ? &layer->on[worker->index] : NULL;
    double own = on != NULL ? (double)(on->assigned + on->backlog) * layer->estimate_ns : 0;
    const struct load *load = load_for(worker, layer);
    double others_ns = queue_for(worker, layer) - own * load->slowness / load->units;
    return others_ns > 0 ? others_ns : 0;
}

/* Each task in turn where it would end first. The queues count what earlier tasks of the submission were given. */
static void place_each(struct tessi_sched *sched, struct sched_layer *layer)
{
    struct queues queues = {.end_ns = tessi_zalloc(sched->worker_count * sizeof(double))};
    tessi_heap_init(&queues.heap);
    for (uint32_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        if (tessi_supply_can_run(worker, &layer->lane->demand)) {
            lengthen(&queues, w, busy_ns(layer, worker) + load_for(worker, layer)->promised_ns);
        }
    }
    layer->placement = PLACE_EACH;
    layer->homes = tessi_alloc(layer->tasks * sizeof *layer->homes);
    layer->ends_ns = tessi_alloc(layer->tasks * sizeof *layer->ends_ns);
    for (uint64_t t = 0; t < layer->tasks; t++) {
        const struct task_record *task = record_peek(layer, t);
        if (!to_place(layer, t)) {
            layer->homes[t] = task != NULL ? task->owner : NO_WORKER;
            layer->ends_ns[t] = 0;
            continue;
        }
        const struct tessi_heap_entry *top = tessi_heap_peek(&queues.heap);
        uint32_t best = top == NULL ? NO_WORKER : top->value;
        struct candidates found;
        find_holders(sched, layer, t, &found);
        double soonest_ns = top == NULL ? 0 : finish_ns(sched, &found, best, layer, queues.end_ns[best]);
        for (uint32_t i = 0; i < found.count && best != NO_WORKER; i++) {
            uint32_t holder = found.worker[i];
            if (tessi_heap_contains(&queues.heap, holder)) {
                double end_ns = finish_ns(sched, &found, holder, layer, queues.end_ns[holder]);
                best = end_ns < soonest_ns ? holder : best;
                soonest_ns = end_ns < soonest_ns ? end_ns : soonest_ns;
            }
        }
        layer->homes[t] = best;
        layer->ends_ns[t] = (float)soonest_ns;
        if (best != NO_WORKER) {
            struct worker *worker = sched->workers[best];
            struct load *load = &worker->load[kind_at(worker, layer->lane)];
            double run_ns = layer->estimate_ns * load->slowness / load->units;
            double waits_ns = soonest_ns - layer->estimate_ns * load->slowness - queues.end_ns[best];
            load->promised_ns += run_ns;
            lengthen(&queues, best, run_ns + (waits_ns > 0 ? waits_ns / load->units : 0));
        }
    }
    tessi_heap_fini(&queues.heap);
    tessi_free(queues.end_ns);
}

/* Ask for what has been given to a worker and has its place elsewhere now. */
static void send_home(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index)
{
    TESS_ASSERT(layer->placement == PLACE_EACH);
    struct worker *victim = sched->workers[record(layer, index)->owner];
    struct worker *home = layer->homes[index] == NO_WORKER ? victim : sched->workers[layer->homes[index]];
    bool free = home->stealing == 0 || home->stealing_from == victim->index;
    if (home != victim && free && tessi_ask_may(layer, victim, index) && tessi_ask_fits(home, victim, layer, index)) {
        tessi_ask_back(sched, home, victim, (struct task_ref){layer, index});
    }
}

bool tessi_place_begins_together(const struct sched_layer *layer)
{
    return layer->placement == PLACE_REGIONS && layer->layer->grid.ndim == 1 && tessi_layer_reads_itself(layer->layer);
}

static void scatter(struct tessi_sched *sched, struct sched_layer *layer)
{
    if (layer->gone || !tessi_place_begins_together(layer) || sched->alive_count < 2 || !look_up(sched, layer->tasks)) {
        return;
    }
    for (size_t w = 0; w < sched->worker_count; w++) {
        sched->workers[w]->load[0].promised_ns = sched->workers[w]->load[1].promised_ns = 0;
    }
    place_each(sched, layer);
    tessi_backlog_purge(sched, layer);
    for (uint64_t t = 0; t < layer->tasks; t++) {
        const struct task_record *task = record_peek(layer, t);
        if (task != NULL && task->state == TASK_ASSIGNED) {
            send_home(sched, layer, t);
        } else if (tessi_table_state(layer, t) == TASK_UNASSIGNED) {
            bool again = task != NULL && task->epoch > 0;
            tessi_backlog_put(sched, layer->homes[t], (struct backlog_span){layer, t, 1, again});
        }
    }
    tessi_free(layer->ends_ns);
    layer->ends_ns = NULL;
}

void tessi_place_scatter_long(struct tessi_sched *sched)
{
    while (sched->long_layers.count > 0) {
        scatter(sched, sched->long_layers.items[--sched->long_layers.count].layer);
    }
}

/* Joins pieces of so many blocks that those of one group lie at several workers: the block in the middle says nothing. */
static bool joins_from_everywhere(const struct tessi_sched *sched, const struct sched_layer *layer)
{
    uint64_t most[TESSI_NDIM_MAX];
    if (layer->layer->op != TESSI_OP_REGRID || tessi_layer_joins(layer->layer) ||
        !tessi_layer_splits(layer->inputs[0]->layer, most)) {
        return false;
    }
    const struct tessi_layer *cuts = layer->inputs[0]->layer;
    return tessi_rechunk_exchange(&cuts->input[0].grid, &layer->layer->grid, 1).groups <
           2.0 * (double)sched->alive_count;
}

static bool placed_together(const struct sched_layer *layer, uint32_t input)
{
    return tessi_order_reads_alike(layer, input) && layer->inputs[input]->submission == layer->submission;
}

/* The layer whose regions are those of this one too, as far as can be told from the layers alone. */
static const struct sched_layer *region_source(const struct sched_layer *layer)
{
    while (layer->placement == PLACE_WITH_INPUT && placed_together(layer, layer->place_input)) {
        layer = layer->inputs[layer->place_input];
    }
    return layer;
}

static void place_with_input(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number)
{
    TESS_ASSERT(number < layer->ninputs);
    uint32_t depth = layer->inputs[number]->place_depth + 1;
    const struct sched_layer *source = region_source(layer->inputs[number]);
    bool runs = placed_together(layer, number) && source->placement == PLACE_REGIONS;
    if (depth > REGION_DEPTH_MAX) {
        tessi_regions_make(sched, layer);
    } else if (look_up(sched, runs ? tessi_regions_runs(source) : layer->tasks)) {
        layer->placement = PLACE_WITH_INPUT;
        layer->place_input = number;
        layer->place_depth = depth;
    } else if (source->placement != PLACE_REGIONS || !tessi_regions_follow(sched, layer, number, source)) {
        tessi_regions_make(sched, layer);
    }
}

static void choose_placement(struct tessi_sched *sched, struct sched_layer *layer)
{
    uint32_t input = largest_input(layer);
    bool joins = joins_from_everywhere(sched, layer);
    if (is_pinned(layer)) {
        layer->placement = PLACE_PINNED;
    } else if (tessi_op_row(layer->layer->op)->place == TESSI_PLACE_GRID || joins || layer->lane->demand.count > 0) {
        tessi_regions_make(sched, layer);
    } else if (is_irregular(layer) && sched->alive_count > 0 && look_up(sched, layer->tasks)) {
        place_each(sched, layer);
    } else if (input < TESSI_INPUTS_MAX) {
        place_with_input(sched, layer, input);
    } else if (layer->consumer_count > 0 &&
               tessi_op_row(layer->consumers[0].layer->layer->op)->place == TESSI_PLACE_GRID &&
               look_up(sched, layer->tasks)) {
        layer->placement = PLACE_WITH_CONSUMER;
        layer->place_consumer = layer->consumers[0].layer;
        layer->place_input = layer->consumers[0].input;
    } else {
        tessi_regions_make(sched, layer);
    }
}

/* How many tasks from `index` on have its home for certain. */
static uint64_t home_run(const struct sched_layer *layer, uint64_t index)
{
    layer = region_source(layer);
    if (layer->placement != PLACE_REGIONS) {
        return 1;
    }
    return tessi_regions_run(layer, index);
}

void tessi_place_layers(struct tessi_sched *sched, struct sched_layer **layers, size_t count)
{
    for (size_t w = 0; w < sched->worker_count; w++) {
        sched->workers[w]->load[0].promised_ns = sched->workers[w]->load[1].promised_ns = 0;
    }
    for (size_t i = 0; i < count; i++) {
        choose_placement(sched, layers[i]);
    }
    for (size_t i = 0; i < count; i++) {
        struct sched_layer *layer = layers[i];
        const struct tessi_resources *demand = &layer->lane->demand;
        uint64_t first = 0;
        uint32_t home = tessi_place_home(sched, layer, 0);
        for (uint64_t t = home_run(layer, 0); t <= layer->tasks; t += t < layer->tasks ? home_run(layer, t) : 1) {
            uint32_t next = t < layer->tasks ? tessi_place_home(sched, layer, t) : NO_WORKER;
            if (t < layer->tasks && next == home) {
                continue;
            }
            bool good = home != NO_WORKER && tessi_supply_can_run(sched->workers[home], demand);
            tessi_backlog_push(sched, good ? home : tessi_place_least_loaded(sched, layer->lane), layer, first,
                               t - first);
            first = t;
            home = next;
        }
        TESS_ASSERT(first == layer->tasks);
    }
    for (size_t i = 0; i < count; i++) {
        tessi_free(layers[i]->ends_ns);
        layers[i]->ends_ns = NULL;
    }
}
