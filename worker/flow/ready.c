/* Tasks that can go on, and those that cannot. */
#include "worker/flow/internal.h"

void tessi_flow_startable_add(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_task *task = flow_task(flow, handle);
    int32_t priority = tessi_flow_task_options(flow, task)->priority;
    tessi_queue_push(&flow->startable[flow_task_kind(flow, task)], (uint64_t)(TESSI_PRIORITY_MAX - priority),
                     task->order, handle);
    flow->priorities = flow->priorities || priority != 0;
}

void tessi_flow_task_ready(struct tessi_flow *flow, uint32_t handle)
{
    const struct flow_task *task = flow_task(flow, handle);
    if (task->receive || task->missing > 0 || task->suspect || task->next_step == task->steps) {
        return;
    }
    if (!task->started) {
        if (flow_block(flow, task->block)->state == FLOW_UNMADE && !task->held_back &&
            !tessi_queue_contains(&flow->startable[flow_task_kind(flow, task)], handle) &&
            !tessi_heap_contains(&flow->lacking, handle)) {
            tessi_flow_startable_add(flow, handle);
        }
    } else if (!task->held_back && !tessi_queue_contains(&flow->runnable, handle)) {
        tessi_queue_push(&flow->runnable, task->order, task->seq, handle);
    }
}

void tessi_flow_task_unready(struct tessi_flow *flow, uint32_t handle)
{
    (void)tessi_queue_remove(&flow->startable[FLOW_CPU], handle);
    (void)tessi_queue_remove(&flow->startable[FLOW_DEVICE], handle);
    (void)tessi_heap_remove(&flow->lacking, handle);
    (void)tessi_queue_remove(&flow->runnable, handle);
}
