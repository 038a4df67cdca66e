/* What is known of graphs takes so much memory. */
#include "core/sched/state/state.h"

#define PLACED_BYTES 48u /* of a task that has a place of its own: a span, its entry, its home */

uint64_t tessi_memory_needs(const struct tessi_layer *layer, bool held)
{
    uint64_t tasks = tessi_layer_tasks(layer);
    bool placed = layer->op == TESSI_OP_SYNTHETIC && layer->as.synthetic.pin > 0;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        placed = placed || layer->input[i].rules.table != NULL;
    }
    uint64_t bytes = sizeof(struct sched_layer) + tessi_layer_memory(layer) + tessi_table_bytes(tasks);
    return bytes + (placed ? tasks * PLACED_BYTES : 0) + (held ? tasks * RECORD_BYTES : 0);
}

uint64_t tessi_memory_used(const struct tessi_sched *sched)
{
    return sched->layer_bytes + sched->backlog_bytes + tessi_pages_bytes(&sched->page_rooms) +
           tessi_task_lists_bytes(&sched->copies) + tessi_task_lists_bytes(&sched->parked) +
           tessi_task_lists_bytes(&sched->blocked);
}
