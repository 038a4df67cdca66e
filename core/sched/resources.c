/* Resources: what workers have of them, what tasks demand, and what happens when nobody has enough.
 *
 * The scheduler counts what the tasks assigned to a worker demand and keeps that within what the worker has; the worker
 * counts what runs. The two differ in one case only, that of `resources_free`. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/policy.h"
#include "core/sched/state.h"

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

static double demanding_ns(const struct worker *worker, const struct lane *lane)
{
    return worker->load[kind_at(worker, lane)].demanding_ns;
}

/* Of those that keep work of the lane, the one that will take longest for it. */
static struct worker *longest_lane(struct tessi_sched *sched, const struct worker *thief, const struct lane *lane)
{
    struct worker *longest = NULL;
    for (size_t w = 0; w < lane->capacity && w < sched->worker_count; w++) {
        struct worker *worker = sched->workers[w];
        if (worker != thief && stays(worker) && lane->backlogs[w].count > 0 &&
            (longest == NULL || demanding_ns(worker, lane) > demanding_ns(longest, lane))) {
            longest = worker;
        }
    }
    return longest;
}

/* A worker whose resources lie idle takes half of what waits for the same elsewhere. */
void tessi_steal_demanding(struct tessi_sched *sched, struct worker *thief)
{
    if (!stays(thief) || thief->resources.count == 0 || thief->demanding_backlog > 0) {
        return;
    }
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            struct lane *lane = session->lanes[l];
            if (lane->demand.count == 0 || !tessi_supply_can_run(thief, &lane->demand) ||
                !tessi_supply_fits(thief, &lane->demand)) {
                continue;
            }
            struct worker *victim = longest_lane(sched, thief, lane);
            if (victim != NULL) {
                (void)tessi_steal_from_lane(sched, thief, victim, lane, (demanding_ns(victim, lane) + 2) / 2);
                return;
            }
        }
    }
}

/* Nobody who could run these came in time. */
static void fail_orphans(struct tessi_sched *sched, struct lane *lane)
{
    char demand[TESSI_RESOURCES_TEXT_MAX], text[768];
    (void)tessi_resources_text(&lane->demand, demand, sizeof demand);
    (void)tessi_text_format(text, sizeof text,
                            "no worker has the resources that its tasks demand, %s: start one with `tessera worker "
                            "ADDRESS --resources %s`",
                            demand, demand);
    while (lane->orphans.count > 0) {
        uint32_t handle = backlog_first(&lane->orphans)->handle;
        struct backlog_span span = tessi_backlog_take(sched, &lane->orphans, NO_WORKER, handle);
        for (uint64_t i = span.first; i < span.first + span.count; i++) {
            const struct task_record *task = record(span.layer, i);
            if (task->state != TASK_UNASSIGNED) {
                continue;
            }
            if (task->refs == 0 && !span.layer->wanted) {
                tessi_refs_consider_idle(sched, span.layer, i);
            } else {
                tessi_spread_fail_task(sched, span.layer, i, TESSI_NO_WORKERS, text);
            }
        }
    }
    tessi_spread_finish(sched);
}

void tessi_unmet_check(struct tessi_sched *sched)
{
    for (size_t s = 0; s < sched->session_count && sched->demands; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            struct lane *lane = session->lanes[l];
            if (lane->demand.count == 0) {
                continue;
            }
            if (lane->orphans.count == 0) {
                lane->starving_since_ns = -1;
            } else if (lane->starving_since_ns < 0) {
                lane->starving_since_ns = sched->attended_ns;
            } else if (sched->attended_ns - lane->starving_since_ns >= sched->config.wait_workers_ns) {
                fail_orphans(sched, lane);
                lane->starving_since_ns = -1;
            }
        }
    }
}
