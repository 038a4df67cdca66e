/* Work that demands resources goes where they lie idle. */
#include "core/base/assert.h"
#include "core/sched/balance/balance.h"
#include "core/sched/workers/workers.h"

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
                TESS_ASSERT(victim != thief && lane->backlogs[victim->index].count > 0);
                (void)tessi_steal_from_lane(sched, thief, victim, lane, (demanding_ns(victim, lane) + 2) / 2);
                return;
            }
        }
    }
}
