/* New places for what waited for a worker that goes, or for one that may run it. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/order/order.h"
#include "core/sched/placement/placement.h"

/* Give each span that waited for `worker` a new place, lowest order first. */
void tessi_place_hand_on(struct tessi_sched *sched, struct lane *lane, uint32_t worker)
{
    struct backlog *backlog = backlog_of(lane, worker);
    size_t count = backlog->count;
    struct backlog_span *spans = tessi_alloc((count + 1) * sizeof *spans);
    for (size_t i = 0; i < count; i++) {
        spans[i] = tessi_backlog_take(sched, backlog, worker, backlog_first(backlog)->handle);
    }
    TESS_ASSERT(backlog->count == 0);
    for (size_t i = 0; i < count; i++) {
        uint32_t to = tessi_place_least_loaded(sched, lane);
        tessi_backlog_put(sched, to, spans[i]);
    }
    tessi_free(spans);
}

void tessi_place_orphans(struct tessi_sched *sched)
{
    for (size_t s = 0; s < sched->session_count; s++) {
        struct session *session = sched->sessions[s];
        for (size_t l = 0; session != NULL && l < session->lane_count; l++) {
            struct lane *lane = session->lanes[l];
            if (lane->orphans.count > 0 && tessi_place_least_loaded(sched, lane) != NO_WORKER) {
                tessi_place_hand_on(sched, lane, NO_WORKER);
            }
        }
    }
}
