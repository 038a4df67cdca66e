/* What a world looks like when it has come to nothing: who waits for what. */
#include <inttypes.h>
#include <stdio.h>

#include "core/sched/order/order.h"
#include "tests/sim/world.h"
#include "worker/flow/internal.h"

static const char *const flow_states[FLOW_STATES] = {
    "absent",  "locating", "awaited", "nowhere",  "unasked", "asked",   "offered",   "pulling",
    "mapped",  "unmade",   "making",  "local",    "spilling", "spilled", "loading",  "abandoned",
};

static const char *const record_states[] = {"unassigned", "assigned", "held", "released", "failed", "poisoned"};

struct input_dump {
    const struct sched_layer *layer;
};

static void dump_input(void *context, uint64_t index)
{
    const struct input_dump *dump = context;
    (void)fprintf(stderr, " %u:%" PRIu64 " %s;", dump->layer->layer->id, index,
                  record_states[tessi_table_state(dump->layer, index)]);
}

static void dump_records(const struct sim_world *world, const struct sched_layer *layer)
{
    (void)fprintf(stderr, "  layer %u (%s): %" PRIu64 " tasks, %" PRIu64 " held%s%s, failure %d\n", layer->layer->id,
                  tessi_op_row(layer->layer->op)->name, layer->tasks, layer->held, layer->wanted ? ", wanted" : "",
                  layer->handle ? ", handle" : "", (int)layer->failure);
    (void)fprintf(stderr, "    submission %u, order base %" PRIu64 " depth %" PRIu64 " of %" PRIu64 " via %u\n",
                  layer->submission, layer->order_base, layer->order_depth, layer->order_levels,
                  layer->order_via == NULL ? 0 : layer->order_via->layer->id);
    for (uint64_t i = 0; i < layer->tasks; i++) {
        const struct task_record *task = record_peek(layer, i);
        if (task != NULL && task->state != TASK_RELEASED) {
            uint32_t owner = task->owner == NO_WORKER ? 0 : world->sched->workers[task->owner]->id;
            (void)fprintf(stderr, "    %u:%" PRIu64 " %s at %u, epoch %u, %u refs, flags %u; reads", layer->layer->id,
                          i, record_states[task->state], owner, task->epoch, task->refs, task->flags);
            for (uint32_t n = 0; n < layer->ninputs; n++) { /* none of what has been detached */
                struct input_dump dump = {layer->inputs[n]};
                tessi_task_inputs(layer->layer, n, i, dump_input, &dump);
            }
            (void)fprintf(stderr, "\n");
        }
    }
}

static void dump_backlogs(const struct sim_world *world, const struct lane *lane)
{
    for (size_t w = 0; w < lane->capacity; w++) {
        const struct backlog *backlog = &lane->backlogs[w];
        for (size_t i = 0; i < backlog->count; i++) {
            const struct backlog_entry *entry = &backlog->entries[i];
            struct backlog_span span = backlog_span(backlog, entry->handle);
            (void)fprintf(stderr, "  backlog of %u: key %" PRIu64 " %u:%" PRIu64 "+%" PRIu64 ", order %" PRIu64 "\n",
                          world->sched->workers[w]->id, backlog_key(entry), span.layer->layer->id, span.first,
                          span.count, tessi_order_of(span.layer, span.first));
        }
    }
}

static void dump_task(const struct tessi_flow *flow, const struct flow_task *task)
{
    const struct flow_block *block = flow_block(flow, task->block);
    struct tessi_task name = tessi_flow_block_name(flow, block);
    (void)fprintf(stderr, "    task %u:%" PRIu64 " order %" PRIu64 " epoch %u %s, block %s, step %u of %u, %u missing:",
                  name.layer, name.index, task->order, task->epoch, task->started ? "started" : "waits",
                  flow_states[block->state], task->next_step, task->steps, task->missing);
    for (uint32_t i = task->demand_at; i < task->link_count && task->links[i].step == task->next_step; i++) {
        const struct flow_block *input = flow_block(flow, task->links[i].block);
        struct tessi_task of = tessi_flow_block_name(flow, input);
        if (!input->readable) {
            (void)fprintf(stderr, " %u:%" PRIu64 " %s from %u;", of.layer, of.index, flow_states[input->state],
                          input->source);
        }
    }
    (void)fprintf(stderr, "\n");
}

static void dump_flow(const struct sim_node *node, const struct tessi_flow *flow)
{
    (void)fprintf(stderr, "  worker %u: %" PRIu64 " of %" PRIu64 " bytes used, %" PRIu64 " of %" PRIu64
                          " in files, %zu tasks\n",
                  node->id, flow->used_bytes, flow->config.memory_bytes, flow->spilled_bytes,
                  flow->config.spill_bytes, flow->all.count);
    for (uint32_t t = 0; t < flow->tasks.count; t++) {
        if (flow_task(flow, t)->live) {
            dump_task(flow, flow_task(flow, t));
        }
    }
    for (uint32_t b = 0; b < flow->blocks.count; b++) {
        const struct flow_block *block = flow_block(flow, b);
        if (block->live && block->task == FLOW_NONE) {
            struct tessi_task name = tessi_flow_block_name(flow, block);
            (void)fprintf(stderr, "    block %u:%" PRIu64 " %s%s, %" PRIu64 " bytes, %u users, %u leases, %u parked\n",
                          name.layer, name.index, flow_states[block->state], block->owned ? " owned" : "",
                          block->bytes, block->users, block->leases, block->parked);
        }
    }
}

void sim_dump(const struct sim_world *world)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "the scheduler knows %zu workers\n", world->sched->alive_count);
    for (size_t w = 0; w < world->sched->worker_count; w++) {
        const struct worker *worker = world->sched->workers[w];
        if (worker->alive) {
            (void)fprintf(stderr, "  worker %u: %" PRIu64 " assigned, %" PRIu64 " backlog, steals %" PRIu64 "\n",
                          worker->id, worker->assigned, worker->backlog, worker->stealing);
        }
    }
    for (size_t s = 0; s < world->sched->session_count; s++) {
        const struct session *session = world->sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->layer_count; l++) {
            if (session->layers[l] != NULL) {
                dump_records(world, session->layers[l]);
            }
        }
        if (session != NULL) {
            for (size_t l = 0; l < session->lane_count; l++) {
                dump_backlogs(world, session->lanes[l]);
            }
        }
    }
    for (size_t n = 0; n < world->node_count; n++) {
        const struct sim_node *node = world->nodes[n];
        if (node->alive && !node->is_client && sim_worker_flow(node) != NULL) {
            dump_flow(node, sim_worker_flow(node));
        } else if (node->alive && node->is_client) {
            sim_client_say(world, node);
        }
    }
}
