/* Resources: counted here for what runs, as the scheduler counts them for what it has assigned. */
#include "worker/flow/internal.h"

bool tessi_flow_resources_are_free(const struct tessi_flow *flow, const struct tessi_resources *demand)
{
    const struct tessi_resources *have = &flow->config.resources;
    for (uint32_t r = 0; r < have->count; r++) {
        uint32_t wanted = tessi_resources_amount(demand, have->item[r].name);
        if (wanted > 0 && flow->resources_used[r] > 0 && flow->resources_used[r] + wanted > have->item[r].amount) {
            return false;
        }
    }
    return true;
}

/* The oldest task waits for some of the same. */
static bool reserved(const struct tessi_flow *flow, uint32_t handle, const struct tessi_resources *demand)
{
    if (flow->reserved_for == FLOW_NONE || flow->reserved_for == handle) {
        return false;
    }
    const struct tessi_resources *wanted = &tessi_flow_task_options(flow, flow_task(flow, flow->reserved_for))->demand;
    for (uint32_t r = 0; r < wanted->count; r++) {
        if (tessi_resources_amount(demand, wanted->item[r].name) > 0) {
            return true;
        }
    }
    return false;
}

bool tessi_flow_resources_take(struct tessi_flow *flow, uint32_t handle)
{
    const struct tessi_resources *demand = &tessi_flow_task_options(flow, flow_task(flow, handle))->demand;
    if (demand->count == 0) {
        return true;
    }
    if (!tessi_flow_resources_are_free(flow, demand) || reserved(flow, handle, demand)) {
        return false;
    }
    if (flow->reserved_for == handle) {
        flow->reserved_for = FLOW_NONE;
    }
    for (uint32_t r = 0; r < flow->config.resources.count; r++) {
        flow->resources_used[r] += tessi_resources_amount(demand, flow->config.resources.item[r].name);
    }
    tessi_flow_handles_push(&flow->holders, handle);
    return true;
}

static void let_others_try(struct tessi_flow *flow)
{
    while (flow->lacking.count > 0) {
        tessi_flow_startable_add(flow, tessi_heap_pop(&flow->lacking).value);
    }
}

void tessi_flow_resources_reserve(struct tessi_flow *flow, uint32_t handle)
{
    if (flow->reserved_for != handle) {
        flow->reserved_for = handle;
        let_others_try(flow);
    }
}

static bool forget_holder(struct tessi_flow *flow, uint32_t handle)
{
    size_t at = 0;
    while (at < flow->holders.count && flow->holders.items[at] != handle) {
        at++;
    }
    if (at == flow->holders.count) {
        return false;
    }
    flow->holders.items[at] = flow->holders.items[--flow->holders.count];
    return true;
}

void tessi_flow_resources_give(struct tessi_flow *flow, uint32_t handle)
{
    if (!forget_holder(flow, handle)) {
        return;
    }
    const struct tessi_resources *demand = &tessi_flow_task_options(flow, flow_task(flow, handle))->demand;
    for (uint32_t r = 0; r < flow->config.resources.count; r++) {
        uint32_t amount = tessi_resources_amount(demand, flow->config.resources.item[r].name);
        TESS_ASSERT(flow->resources_used[r] >= amount);
        flow->resources_used[r] -= amount;
    }
    let_others_try(flow);
}

void tessi_flow_resources_linger(struct tessi_flow *flow, uint32_t handle, struct flow_run *run)
{
    if (!forget_holder(flow, handle)) {
        return;
    }
    const struct tessi_resources *demand = &tessi_flow_task_options(flow, flow_task(flow, handle))->demand;
    run->lingers = true;
    for (uint32_t r = 0; r < flow->config.resources.count; r++) {
        run->held[r] = tessi_resources_amount(demand, flow->config.resources.item[r].name);
    }
}

void tessi_flow_resources_end(struct tessi_flow *flow, const struct flow_run *run)
{
    for (uint32_t r = 0; run->lingers && r < flow->config.resources.count; r++) {
        TESS_ASSERT(flow->resources_used[r] >= run->held[r]);
        flow->resources_used[r] -= run->held[r];
    }
    if (run->lingers) {
        let_others_try(flow);
    }
}
