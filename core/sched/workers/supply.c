/* Resources: what workers have of them, what tasks demand, and what happens when nobody has enough.
 *
 * The scheduler counts what the tasks assigned to a worker demand and keeps that within what the worker has; the worker
 * counts what runs. The two differ in one case only, that of `resources_free`. */
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

bool tessi_supply_can_run(const struct worker *worker, const struct tessi_resources *demand)
{
    return stays(worker) && worker->slots > 0 &&
           (demand->count == 0 || tessi_resources_cover(&worker->resources, demand));
}

bool tessi_supply_fits(const struct worker *worker, const struct tessi_resources *demand)
{
    for (uint32_t r = 0; r < worker->resources.count; r++) {
        uint32_t wanted = tessi_resources_amount(demand, worker->resources.item[r].name);
        if (wanted > 0 && worker->resources_used[r] + wanted > worker->resources.item[r].amount) {
            return false;
        }
    }
    return true;
}

bool tessi_supply_is_free(const struct worker *worker, const struct sched_layer *layer, bool again, uint64_t order)
{
    const struct tessi_resources *demand = &layer->lane->demand;
    if (demand->count == 0 || tessi_supply_fits(worker, demand)) {
        return true;
    }
    return again && order < worker->demanding_youngest;
}

void tessi_supply_take(struct worker *worker, const struct sched_layer *layer, uint64_t order)
{
    TESS_ASSERT(worker->alive);
    const struct tessi_resources *demand = &layer->lane->demand;
    if (demand->count == 0) {
        return;
    }
    for (uint32_t r = 0; r < worker->resources.count; r++) {
        worker->resources_used[r] += tessi_resources_amount(demand, worker->resources.item[r].name);
    }
    worker->demanding++;
    worker->demanding_youngest = order > worker->demanding_youngest ? order : worker->demanding_youngest;
}

void tessi_supply_give(struct worker *worker, const struct sched_layer *layer)
{
    const struct tessi_resources *demand = &layer->lane->demand;
    if (demand->count == 0) {
        return;
    }
    for (uint32_t r = 0; r < worker->resources.count; r++) {
        uint32_t amount = tessi_resources_amount(demand, worker->resources.item[r].name);
        TESS_ASSERT(worker->resources_used[r] >= amount);
        worker->resources_used[r] -= amount;
    }
    TESS_ASSERT(worker->demanding > 0);
    worker->demanding--;
    worker->demanding_youngest = worker->demanding == 0 ? 0 : worker->demanding_youngest;
}

