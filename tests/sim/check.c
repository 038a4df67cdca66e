/* What must hold in the world as a whole, seen from where everything can be seen. */
#include "tests/sim/world.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/graph/join.h"
#include "core/sched/order/order.h"
#include "worker/flow/internal.h"

static bool completed(const struct sim_task *task, uint32_t worker, uint32_t epoch)
{
    for (size_t d = 0; d < task->done_count; d++) {
        if (task->done[d].worker == worker && task->done[d].epoch == epoch) {
            return true;
        }
    }
    return false;
}

static struct sched_layer *scheduled(const struct sim_world *world, uint32_t session, uint32_t layer)
{
    struct session *found = tessi_find_session(world->sched, session);
    return found == NULL ? NULL : tessi_find_layer(found, layer);
}

/* A block counts as held only if its owner completed it under the very epoch that the scheduler knows. */
static void check_spans(struct sim_world *world, uint32_t worker, const struct tessi_spans *spans)
{
    for (size_t s = 0; s < spans->count; s++) {
        const struct tessi_span *span = &spans->items[s];
        struct sched_layer *layer = scheduled(world, span->session, span->layer);
        const struct sim_graph *graph = sim_graph_of(world, span->session);
        for (uint64_t i = span->first; i < span->first + span->count; i++) {
            struct sim_task *task = sim_graph_task(graph, (struct tessi_task){span->session, span->layer, i});
            if (span->epoch > task->settled_epoch) {
                task->settled_epoch = span->epoch;
            }
            const struct task_record *record = layer == NULL ? NULL : record_peek(layer, i);
            if (record == NULL || record->state != TASK_HELD) {
                continue;
            }
            uint32_t owner = world->sched->workers[record->owner]->id;
            if (owner == worker && !completed(task, owner, record->epoch)) {
                sim_fail(world, "%u:%llu counts as held by worker %u under epoch %u, which has not been completed",
                         span->layer, (unsigned long long)i, owner, record->epoch);
            }
        }
    }
}

struct order_walk {
    const struct sim_world *world;
    const struct sched_layer *layer, *input;
    uint64_t index;
};

static void check_before(void *context, uint64_t index)
{
    const struct order_walk *walk = context;
    if (tessi_order_of(walk->input, index) >= tessi_order_of(walk->layer, walk->index) && walk->input != walk->layer) {
        sim_fail(walk->world, "task %u:%llu comes before %u:%llu, which it reads", walk->layer->layer->id,
                 (unsigned long long)walk->index, walk->input->layer->id, (unsigned long long)index);
    }
}

static void note_block(void *context, uint64_t index)
{
    *(uint64_t *)context = index;
}

/* Where blocks are cut into pieces that are joined across more blocks than memory surely holds, each block is cut before the next one is: its
 * pieces come before those of any later block, or blocks would be kept whole, or read back, for each joining task. */
static void check_pieces(const struct sim_world *world, const struct sched_layer *layer)
{
    const struct tessi_layer *cuts = layer->layer;
    bool cut = cuts->op == TESSI_OP_REGRID && layer->consumer_count == 1 &&
               layer->consumers[0].layer->layer->op == TESSI_OP_REGRID &&
               !tessi_layer_joins(layer->consumers[0].layer->layer) && layer->tasks >= 2 * layer->inputs[0]->tasks &&
               layer->tasks < world->options.sched.lookups_per_step && /* else it is ordered without a look at them */
               !tessi_order_exchange_fits(world->sched, cuts, layer->consumers[0].layer->layer);
    for (uint32_t d = 0; cut && d < cuts->grid.ndim; d++) {
        cut = cuts->as.regrid.step[d] == 1 && cuts->grid.axis[d].extent == cuts->input[0].grid.axis[d].extent;
    }
    if (!cut) {
        return;
    }
    uint64_t blocks = layer->inputs[0]->tasks, last = 0;
    uint64_t *first = tessi_alloc(2 * blocks * sizeof *first), *end = first + blocks;
    bool apart = true;
    for (uint64_t b = 0; b < blocks; b++) {
        first[b] = UINT64_MAX;
        end[b] = 0;
    }
    for (uint64_t i = 0; i < layer->tasks && apart; i++) {
        uint64_t block = 0, order = tessi_order_of(layer, i);
        apart = tessi_task_input_count(cuts, 0, i) == 1;
        tessi_task_inputs(cuts, 0, i, note_block, &block);
        first[block] = order < first[block] ? order : first[block];
        end[block] = order > end[block] ? order : end[block];
    }
    for (uint64_t b = 0; b < blocks && apart; b++) {
        if (first[b] != UINT64_MAX && first[b] <= last) {
            sim_fail(world, "pieces of block %llu come before those of an earlier one in layer %u",
                     (unsigned long long)b, cuts->id);
        }
        last = end[b] > last ? end[b] : last;
    }
    tessi_free(first);
}

/* The global order is a topological one. */
void sim_check_order(const struct sim_world *world, uint32_t session, uint32_t first, uint32_t count)
{
    for (uint32_t id = first; id < first + count; id++) {
        struct order_walk walk = {world, tessi_find_named(world->sched, session, id), NULL, 0};
        if (walk.layer != NULL) {
            check_pieces(world, walk.layer);
        }
        for (uint32_t n = 0; walk.layer != NULL && n < walk.layer->layer->ninputs; n++) {
            walk.input = walk.layer->inputs[n];
            for (walk.index = 0; walk.index < walk.layer->tasks; walk.index++) {
                tessi_task_inputs(walk.layer->layer, n, walk.index, check_before, &walk);
            }
        }
    }
}

void sim_check_report(struct sim_world *world, uint32_t worker, const struct tessi_report *report)
{
    check_spans(world, worker, &report->done);
    check_spans(world, worker, &report->adopted);
}

/* Where workers only leave, with time and room, no block that was held is made again while it is wanted. */
static void check_block_in_peace(struct sim_world *world, const struct sched_layer *layer, uint64_t index,
                                 struct sim_task *task)
{
    enum task_state state = tessi_table_state(layer, index);
    const struct task_record *record = record_peek(layer, index);
    bool adopting = record != NULL && (record->flags & TASK_ADOPTING) != 0;
    bool again = state == TASK_UNASSIGNED || (state == TASK_ASSIGNED && !adopting);
    if (task->held && again) {
        sim_fail(world, "%u:%llu was held and is to be made again, though workers only left in good order",
                 layer->layer->id, (unsigned long long)index);
    }
    task->held = state == TASK_HELD || (task->held && adopting);
}

/* Reads of blocks that nobody can have, since no worker is there, end in time, as far as the scheduler is there. */
static void check_lonely_reads(struct sim_world *world)
{
    if (world->sched->alive_count > 0 || world->sched->parked.used == 0) {
        world->lonely_since_ns = -1;
        return;
    }
    world->lonely_since_ns = world->lonely_since_ns < 0 ? world->sched->attended_ns : world->lonely_since_ns;
    if (world->sched->attended_ns - world->lonely_since_ns > world->options.sched.wait_workers_ns + 3000 * SIM_MS) {
        sim_fail(world, "reads have waited for %.3f s, and there has been no worker",
                 (double)(world->sched->attended_ns - world->lonely_since_ns) / 1e9);
    }
}

static void check_peace(struct sim_world *world)
{
    for (uint32_t id = 1; id <= world->node_count; id++) {
        const struct sim_graph *graph = sim_graph_of(world, id);
        for (uint32_t l = 1; graph != NULL && l <= graph->count; l++) {
            const struct sched_layer *layer = scheduled(world, id, l);
            struct sim_task *tasks = graph->layers[l - 1].tasks;
            for (uint64_t i = 0; i < graph->layers[l - 1].task_count; i++) {
                if (layer == NULL || tessi_layer_regenerable(layer->layer)) {
                    tasks[i].held = false;
                } else {
                    check_block_in_peace(world, layer, i, &tasks[i]);
                }
            }
        }
    }
}

void sim_check_scheduler(struct sim_world *world)
{
    bool adequate = false, equipped = false;
    for (size_t w = 0; w < world->sched->worker_count; w++) {
        const struct worker *worker = world->sched->workers[w];
        bool all = stays(worker) && tessi_resources_amount(&worker->resources, "ssd") >= 2 &&
                   tessi_resources_amount(&worker->resources, "license") >= 1;
        equipped = equipped || all;
        adequate = adequate || (all && worker->info.memory_bytes >= world->footprint_bytes);
    }
    if (world->options.leave_in_peace) {
        check_peace(world);
    }
    world->bare_since_ns = equipped ? -1 : world->bare_since_ns < 0 ? world->now_ns : world->bare_since_ns;
    int64_t bare_ns = equipped ? 0 : world->now_ns - world->bare_since_ns;
    world->bare_longest_ns = bare_ns > world->bare_longest_ns ? bare_ns : world->bare_longest_ns;
    check_lonely_reads(world);
    if (world->sched->alive_count > 0) {
        world->ever_inadequate = world->ever_inadequate || !adequate;
        world->alone_since_ns = -1;
        return;
    }
    if (world->alone_since_ns < 0) {
        world->alone_since_ns = world->now_ns;
    }
    int64_t alone_ns = world->now_ns - world->alone_since_ns;
    world->alone_longest_ns = alone_ns > world->alone_longest_ns ? alone_ns : world->alone_longest_ns;
}

/* Nothing is under way between the scheduler and the worker, so they must be of one mind. */
static bool of_one_mind(const struct sim_world *world, const struct sim_node *node)
{
    return node->alive && !node->paused && node->to_scheduler == 0 && node->from_scheduler == 0 &&
           sim_worker_quiet(node) && tessi_find_worker(world->sched, node->id) != NULL;
}

/* --- what is made for nobody --- */

struct need_walk {
    const struct sim_graph *graph;
    uint32_t layer; /* of the input */
};

static void need_input(void *context, uint64_t index)
{
    const struct need_walk *walk = context;
    sim_graph_layer(walk->graph, walk->layer)->tasks[index].needed = true;
}

static bool to_be_made(const struct sched_layer *layer, uint64_t index)
{
    const struct task_record *record = record_peek(layer, index);
    bool adopting = record != NULL && (record->flags & TASK_ADOPTING) != 0;
    enum task_state state = tessi_table_state(layer, index);
    return state == TASK_UNASSIGNED || (state == TASK_ASSIGNED && !adopting);
}

/* Those who read it there may be heard of before its maker is. */
static bool has_been_made(const struct sim_world *world, const struct sched_layer *layer, uint64_t index,
                          const struct sim_task *task)
{
    const struct task_record *record = record_peek(layer, index);
    return record != NULL && record->state == TASK_ASSIGNED &&
           completed(task, world->sched->workers[record->owner]->id, record->epoch);
}

/* Layers stand after what they read, and so do tasks of a layer that reads itself. */
static void check_layer_needed(struct sim_world *world, const struct sim_graph *graph, const struct sched_layer *layer)
{
    struct sim_layer *known = sim_graph_layer(graph, layer->layer->id);
    for (uint64_t i = layer->tasks; i-- > 0;) {
        struct sim_task *task = &known->tasks[i];
        task->needed = task->needed || layer->wanted;
        if (!to_be_made(layer, i)) {
            continue;
        }
        if (!task->needed && task->needed_once && !has_been_made(world, layer, i, task)) {
            sim_fail(world, "task %u:%llu is to be made, and nobody needs it any more", layer->layer->id,
                     (unsigned long long)i);
        }
        task->needed_once = task->needed;
        for (uint32_t n = 0; n < layer->ninputs && task->needed; n++) {
            struct need_walk walk = {graph, layer->layer->reads[n]};
            tessi_task_inputs(layer->layer, n, i, need_input, &walk);
        }
    }
}

/* Nothing waits or is assigned for what was released or cancelled, once the scheduler has looked through what is around
 * it. Blocks that nobody has ever needed are found to be so when it is their turn. */
void sim_check_needed(struct sim_world *world)
{
    world->check_needed = world->sched->pruning_count > 0 || world->sched->loose_count > 0;
    if (world->check_needed) {
        return; /* in a later step */
    }
    for (size_t s = 0; s < world->sched->session_count; s++) {
        const struct session *session = world->sched->sessions[s];
        const struct sim_graph *graph = session == NULL ? NULL : sim_graph_of(world, session->id);
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            const struct sched_layer *layer = session->layers[l];
            for (uint64_t i = 0; layer != NULL && i < layer->tasks; i++) {
                sim_graph_layer(graph, layer->layer->id)->tasks[i].needed = false;
            }
        }
        for (size_t l = session == NULL ? 0 : session->layer_count; l-- > 0;) {
            if (session->layers[l] != NULL) {
                check_layer_needed(world, graph, session->layers[l]);
            }
        }
    }
}

static void check_record(struct sim_world *world, const struct sched_layer *layer, uint64_t index,
                         const struct task_record *record)
{
    uint32_t owner = world->sched->workers[record->owner]->id;
    const struct sim_node *node = sim_node(world, owner);
    if (!of_one_mind(world, node)) {
        return;
    }
    const struct tessi_flow *flow = sim_worker_flow(node);
    struct tessi_task name = {layer->session->id, layer->layer->id, index};
    uint32_t handle = tessi_flow_block_find(flow, name);
    const struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
    bool held = record->state == TASK_HELD;
    if (!held && (block == NULL || block->task == FLOW_NONE)) {
        sim_fail(world, "the scheduler believes that worker %u has yet to make %u:%llu, and it does not know of it",
                 owner, name.layer, (unsigned long long)index);
    }
    if (held && (block == NULL || !block->owned || !(flow_block_servable(block) || block->state == FLOW_LOADING))) {
        sim_fail(world, "the scheduler believes that worker %u holds %u:%llu, and it does not", owner, name.layer,
                 (unsigned long long)index);
    }
}

static const struct task_record *known(struct sim_world *world, const struct sim_node *node, struct tessi_task name,
                                       enum task_state state)
{
    struct sched_layer *layer = scheduled(world, name.session, name.layer);
    const struct task_record *record = layer == NULL ? NULL : record_peek(layer, name.index);
    bool good = record != NULL && record->state == state && world->sched->workers[record->owner]->id == node->id;
    return good ? record : NULL;
}

/* What a worker does or keeps, it does or keeps at the scheduler's wish. */
static void check_worker(struct sim_world *world, const struct sim_node *node)
{
    const struct tessi_flow *flow = sim_worker_flow(node);
    for (uint32_t b = 0; b < flow->blocks.count; b++) {
        const struct flow_block *block = flow_block(flow, b);
        if (!block->live || (!block->owned && block->task == FLOW_NONE)) {
            continue;
        }
        struct tessi_task name = tessi_flow_block_name(flow, block);
        enum task_state state = block->owned ? TASK_HELD : TASK_ASSIGNED;
        uint32_t epoch = block->owned ? block->epoch : flow_task(flow, block->task)->epoch;
        const struct task_record *record = known(world, node, name, state);
        struct sched_layer *layer = scheduled(world, name.session, name.layer);
        uint32_t second = 0, index = tessi_find_worker(world->sched, node->id)->index;
        bool kept = layer != NULL && tessi_keep_at(world->sched, layer, name.index, index, &second) && second == epoch;
        if ((record == NULL || record->epoch != epoch) && !kept) {
            sim_fail(world, "worker %u %s %u:%llu under epoch %u, and the scheduler knows nothing of it", node->id,
                     block->owned ? "owns" : "has yet to make", name.layer, (unsigned long long)name.index, epoch);
        }
    }
}

static bool owns(struct sim_world *world, const struct sim_node *node, struct tessi_task name)
{
    if (node->is_client || !of_one_mind(world, node)) {
        return false;
    }
    const struct tessi_flow *flow = sim_worker_flow(node);
    uint32_t handle = tessi_flow_block_find(flow, name);
    return handle != FLOW_NONE && flow_block(flow, handle)->owned && flow_block_servable(flow_block(flow, handle));
}

/* What a layer was made from is forgotten when each of its blocks has two owners, or there is but one worker to have
 * them and its client does not mind. */
static void check_detached(struct sim_world *world, const struct sched_layer *layer)
{
    struct sim_layer *known = sim_graph_layer(sim_graph_of(world, layer->session->id), layer->layer->id);
    size_t staying = 0;
    for (size_t w = 0; w < world->sched->worker_count; w++) {
        staying += stays(world->sched->workers[w]);
    }
    bool fit = layer->keeps == layer->tasks || (layer->detach_asked && staying < 2);
    if (layer->detached && !known->detached && !fit) {
        sim_fail(world, "layer %u is detached, and %llu of %llu blocks have two owners", layer->layer->id,
                 (unsigned long long)layer->keeps, (unsigned long long)layer->tasks);
    }
    known->detached = layer->detached;
}

void sim_check_lost(struct sim_world *world)
{
    for (size_t s = 0; s < world->sched->session_count; s++) {
        const struct session *session = world->sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            const struct sched_layer *layer = session->layers[l];
            if (layer != NULL) {
                check_detached(world, layer);
            }
            for (uint64_t i = 0; layer != NULL && layer->detached && layer->failure != TESSI_OK && i < layer->tasks; i++) {
                struct tessi_task name = {session->id, layer->layer->id, i};
                for (size_t n = 0; n < world->node_count && tessi_table_state(layer, i) == TASK_FAILED; n++) {
                    if (owns(world, world->nodes[n], name)) {
                        sim_fail(world, "%u:%llu is given up as lost, and worker %u has it", name.layer,
                                 (unsigned long long)i, world->nodes[n]->id);
                    }
                }
            }
        }
    }
}

/* Whoever counts as the second owner of a block is that. */
static void check_second_owners(struct sim_world *world)
{
    for (size_t k = 0; k < world->sched->keep_count; k++) {
        const struct keep *keep = &world->sched->keeps[k];
        const struct sim_node *node = keep->layer == NULL ? NULL : sim_node(world, world->sched->workers[keep->to]->id);
        if (node == NULL || !keep->arrived || !of_one_mind(world, node)) {
            continue;
        }
        const struct tessi_flow *flow = sim_worker_flow(node);
        struct tessi_task name = {keep->layer->session->id, keep->layer->layer->id, keep->index};
        uint32_t handle = tessi_flow_block_find(flow, name);
        const struct flow_block *block = handle == FLOW_NONE ? NULL : flow_block(flow, handle);
        if (block == NULL || !block->owned || block->epoch != keep->epoch ||
            !(flow_block_servable(block) || block->state == FLOW_LOADING)) {
            sim_fail(world, "the scheduler believes that worker %u owns %u:%llu too, and it does not", node->id, name.layer,
                     (unsigned long long)name.index);
        }
    }
}

void sim_check_minds(struct sim_world *world)
{
    check_second_owners(world);
    for (size_t s = 0; s < world->sched->session_count; s++) {
        const struct session *session = world->sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            const struct sched_layer *layer = session->layers[l];
            for (uint64_t i = 0; layer != NULL && i < layer->tasks; i++) {
                const struct task_record *record = record_peek(layer, i);
                bool adopting = record != NULL && (record->flags & TASK_ADOPTING) != 0;
                bool assigned = record != NULL && record->state == TASK_ASSIGNED && !adopting;
                if (assigned || (record != NULL && record->state == TASK_HELD)) {
                    check_record(world, layer, i, record);
                }
            }
        }
    }
    for (size_t n = 0; n < world->node_count; n++) {
        if (!world->nodes[n]->is_client && of_one_mind(world, world->nodes[n])) {
            check_worker(world, world->nodes[n]);
        }
    }
}

bool sim_scheduler_knows(const struct sim_world *world, uint32_t id)
{
    return tessi_find_session(world->sched, id) != NULL || tessi_find_worker(world->sched, id) != NULL;
}

void sim_check_empty(struct sim_world *world)
{
    const struct tessi_sched *sched = world->sched;
    for (size_t s = 0; s < sched->session_count; s++) {
        if (sched->sessions[s] != NULL && sched->sessions[s]->layer_count > 0) {
            sim_fail(world, "the scheduler still has %zu layers of session %u at the end",
                     sched->sessions[s]->layer_count, sched->sessions[s]->id);
        }
    }
    if (sched->keep_of.count + sched->keeping_count + sched->keep_pending > 0) {
        sim_fail(world, "the scheduler still has %zu second owners of blocks, and %zu layers to look after, at the end",
                 sched->keep_of.count, sched->keeping_count);
    }
    if (sched->copies.used + sched->parked.used > 0) {
        sim_fail(world, "the scheduler still knows %zu copies and %zu waiting readers at the end",
                 sched->copies.used, sched->parked.used);
    }
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct sim_node *node = sim_node(world, sched->workers[w]->id);
        if (sched->workers[w]->alive && node->alive) {
            sim_worker_check_empty(world, node);
        }
        if (sched->workers[w]->alive && (sched->workers[w]->assigned > 0 || sched->workers[w]->stealing > 0)) {
            sim_fail(world, "worker %u has %llu tasks and %llu steals under way at the end", sched->workers[w]->id,
                     (unsigned long long)sched->workers[w]->assigned, (unsigned long long)sched->workers[w]->stealing);
        }
    }
}

/* Only what ran there when it went, as far as the scheduler can know, may be blamed. */
void sim_count_deaths(struct sim_world *world, struct sim_node *node)
{
    if (node->counted || node->is_client) {
        return;
    }
    node->counted = true;
    for (uint32_t id = 1; id <= world->node_count; id++) {
        const struct sim_graph *graph = sim_graph_of(world, id);
        for (size_t l = 0; graph != NULL && l < graph->count; l++) {
            for (uint64_t i = 0; i < graph->layers[l].task_count; i++) {
                struct sim_task *task = &graph->layers[l].tasks[i];
                task->deaths += task->run_worker == node->id && task->run_epoch > task->settled_epoch;
            }
        }
    }
}

static bool blamed(const struct sim_world *world, const struct sim_graph *graph)
{
    for (size_t l = 0; l < graph->count; l++) {
        for (uint64_t i = 0; i < graph->layers[l].task_count; i++) {
            if (graph->layers[l].tasks[i].deaths >= world->options.sched.max_deaths) {
                return true;
            }
        }
    }
    return false;
}

/* Nobody was there, or nobody with all resources, for so long that what waits fails. */
static bool starved(const struct sim_world *world)
{
    return world->alone_longest_ns >= world->options.sched.wait_workers_ns ||
           world->bare_longest_ns >= world->options.sched.wait_workers_ns;
}

bool sim_loss_possible(const struct sim_world *world, const struct sim_graph *graph)
{
    return world->ever_inadequate || starved(world) || blamed(world, graph);
}

static bool broken(const struct sim_graph *graph, uint32_t layer)
{
    for (uint64_t i = 0; i < graph->layers[layer - 1].task_count; i++) {
        uint64_t value;
        if (!sim_oracle(graph, layer, i, &value)) {
            return true;
        }
    }
    return false;
}

/* Everything that is ever made, with a task beside it, however it is spread. */
static bool surely_fits(const struct sim_world *world)
{
    uint64_t bytes = world->footprint_bytes, largest = 0, room = 0;
    for (uint32_t id = 1; id <= world->node_count; id++) {
        const struct sim_graph *graph = sim_graph_of(world, id);
        for (uint32_t l = 1; graph != NULL && l <= graph->count; l++) {
            const struct tessi_layer *layer = graph->layers[l - 1].layer;
            bytes += tessi_layer_regenerable(layer) ? 0 : tessi_layer_bytes(layer);
            bytes += tessi_layer_tasks(layer) * world->options.block_cost;
            for (uint64_t i = 0; i < graph->layers[l - 1].task_count; i++) {
                uint64_t block = tessi_layer_block_bytes(layer, i);
                largest = block > largest ? block : largest;
            }
        }
        const struct sim_node *node = sim_node(world, id);
        bool disk = world->options.spill_fail_percent == 0 && node->info.spill_bytes > 0;
        uint64_t has = node->info.memory_bytes + (disk ? node->info.spill_bytes : 0), waste = (disk ? 2 : 1) * largest;
        room += !node->is_client && node->alive && has > waste ? has - waste : 0;
    }
    return bytes <= room;
}

/* A piece of this block's size and more may be all that is left of the others' room, and it is of no use then. */
static uint64_t largest_kept(const struct tessi_flow *flow)
{
    uint64_t largest = 0;
    for (uint32_t b = 0; b < flow->blocks.count; b++) {
        const struct flow_block *block = flow_block(flow, b);
        bool in_vain = flow->spill_broken && block->state == FLOW_SPILLING && block->owned; /* counts as kept too */
        bool kept = block->live && (block->owned_sticky || in_vain);
        largest = kept && flow_charge(flow, block) > largest ? flow_charge(flow, block) : largest;
    }
    return largest;
}

void sim_check_give_up(const struct sim_world *world)
{
    const struct tessi_flow *first = NULL;
    uint64_t elsewhere = 0;
    for (uint32_t id = 1; id <= world->node_count; id++) {
        const struct tessi_flow *flow = sim_node(world, id)->alive ? sim_worker_flow(sim_node(world, id)) : NULL;
        if (flow != NULL && flow->short_bytes > 0 && (first == NULL || flow->short_order < first->short_order)) {
            first = flow;
        }
    }
    if (first == NULL) {
        sim_fail(world, "what a client waits for is given up for want of room, and no task lacks any");
    }
    uint64_t least = largest_kept(first);
    for (uint32_t id = 1; id <= world->node_count; id++) {
        const struct tessi_flow *flow = sim_node(world, id)->alive ? sim_worker_flow(sim_node(world, id)) : NULL;
        if (flow != NULL && flow != first) {
            uint64_t kept = tessi_flow_unspillable_bytes(flow, tessi_flow_kept_bytes(flow));
            uint64_t left = flow->config.memory_bytes > kept ? flow->config.memory_bytes - kept : 0;
            elsewhere += left > least ? left - least : 0;
        }
    }
    if (elsewhere >= first->short_bytes) {
        sim_fail(world, "what a client waits for is given up: worker %u lacks %llu bytes, and the others have room for %llu",
                 first->config.self, (unsigned long long)first->short_bytes, (unsigned long long)elsewhere);
    }
}

void sim_check_failure(struct sim_world *world, const struct sim_graph *graph, uint32_t layer,
                       enum tessi_status status, const char *text)
{
    bool expected = false;
    if (status == TESSI_FAILED) {
        /* A layer tells its readers of the first of its failures, which may have been another block's. */
        expected = broken(graph, layer) || sim_loss_possible(world, graph);
    } else if (status == TESSI_LOST) {
        bool both_gone = graph->detached && strstr(text, "was detached") != NULL;
        expected = blamed(world, graph) || both_gone;
    } else if (status == TESSI_NO_WORKERS) {
        expected = starved(world);
    } else if (status == TESSI_TOO_BIG) {
        expected = world->ever_inadequate || (world->options.full && !surely_fits(world));
    }
    if (!expected) {
        sim_fail(world, "layer %u of client %u is said to have failed, and nothing in the script explains it: %s (%s)",
                 layer, graph->session, tessi_status_text(status), text);
    }
}
