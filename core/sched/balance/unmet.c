/* What demands resources that no worker has waits a while, then fails. */
#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/balance/balance.h"
#include "core/sched/lineage/lineage.h"
#include "core/sched/order/order.h"

/* Nobody who could run these came in time. */
static void fail_orphans(struct tessi_sched *sched, struct lane *lane)
{
    TESS_ASSERT(lane->demand.count > 0);
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
