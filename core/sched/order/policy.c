#include "core/sched/order/policy.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/order/order.h"

#define LANE_BITS 8

static uint64_t key_as_submitted(const struct sched_layer *root, bool irregular)
{
    (void)root;
    (void)irregular;
    return 0;
}

/* The longest remaining path first. Arrays keep the order in which they were written: following one chain of them to
 * its end frees memory, which a breadth-first walk along equal paths would not. */
static uint64_t key_by_path(const struct sched_layer *root, bool irregular)
{
    double path_ns = root->path_ns < 1e18 ? root->path_ns : 1e18;
    return irregular ? UINT64_MAX - (uint64_t)path_ns : 0;
}

static uint64_t key_by_time(const struct sched_layer *root, bool irregular)
{
    (void)irregular;
    return (uint64_t)(root->estimate_ns < 1e18 ? root->estimate_ns : 1e18);
}

static uint32_t one_lane(const struct sched_layer *layer)
{
    (void)layer;
    return 0;
}

/* Tasks whose run times are within a factor of two share a lane. */
static uint32_t lane_by_time(const struct sched_layer *layer)
{
    uint32_t lane = 0;
    for (double time_ns = layer->estimate_ns; time_ns >= 2 && lane < 60; time_ns /= 2) {
        lane++;
    }
    return lane;
}

static const struct policy policies[TESSI_POLICIES] = {
    [TESSI_POLICY_DEFAULT] = {"b-level", key_by_path, one_lane},
    [TESSI_POLICY_B_LEVEL] = {"b-level", key_by_path, one_lane},
    [TESSI_POLICY_FIRST_COME] = {"first-come", key_as_submitted, one_lane},
    [TESSI_POLICY_SHORTEST_FIRST] = {"shortest-first", key_by_time, lane_by_time},
};

const struct policy *tessi_policy_of(const struct sched_layer *layer)
{
    return &policies[layer->layer->task_options->policy];
}

/* ——— lanes ——— */

static uint64_t rank_of(const struct sched_layer *layer)
{
    uint32_t lane = tessi_policy_of(layer)->lane(layer);
    TESS_ASSERT(lane < 1u << LANE_BITS);
    return (uint64_t)(TESSI_PRIORITY_MAX - layer->layer->task_options->priority) << LANE_BITS | lane;
}

struct lane *tessi_policy_lane(struct session *session, uint64_t rank, uint32_t kind,
                               const struct tessi_resources *demand)
{
    TESS_ASSERT(kind < 2);
    size_t at = session->lane_count;
    for (size_t i = 0; i < session->lane_count; i++) {
        struct lane *lane = session->lanes[i];
        if (lane->rank == rank && lane->kind == kind && tessi_resources_equal(&lane->demand, demand)) {
            return lane;
        }
        at = lane->rank > rank && at == session->lane_count ? i : at;
    }
    struct lane *lane = tessi_zalloc(sizeof *lane);
    lane->rank = rank;
    lane->kind = kind;
    lane->demand = *demand;
    lane->starving_since_ns = -1;
    tessi_backlog_init(&lane->orphans);
    tessi_grow(&session->lanes, &session->lane_capacity, session->lane_count + 1, sizeof(struct lane *));
    for (size_t i = session->lane_count++; i > at; i--) {
        session->lanes[i] = session->lanes[i - 1];
    }
    return session->lanes[at] = lane;
}

void tessi_policy_lanes_fini(struct tessi_sched *sched, struct session *session)
{
    for (size_t i = 0; i < session->lane_count; i++) {
        struct lane *lane = session->lanes[i];
        TESS_ASSERT(lane->orphans.count == 0);
        for (size_t w = 0; w < lane->capacity; w++) {
            sched->backlog_bytes -= tessi_backlog_bytes(&lane->backlogs[w]);
            TESS_ASSERT(lane->backlogs[w].count == 0);
            tessi_backlog_fini(&lane->backlogs[w]);
        }
        sched->backlog_bytes -= tessi_backlog_bytes(&lane->orphans);
        tessi_backlog_fini(&lane->orphans);
        tessi_free(lane->backlogs);
        tessi_free(lane);
    }
    tessi_free(session->lanes);
}

/* An earlier layer that more urgent work waits for becomes as urgent, and what it waits for in turn. What has been
 * assigned stays where it is: that is a window of time at most. */
static void hurry(struct tessi_sched *sched, struct sched_layer *layer, int32_t priority)
{
    struct sched_layer **stack = NULL;
    size_t count = 0, capacity = 0;
    tessi_grow(&stack, &capacity, 1, sizeof *stack);
    stack[count++] = layer;
    while (count > 0) {
        struct sched_layer *at = stack[--count];
        if (at->layer->task_options->priority >= priority) {
            continue;
        }
        tessi_layer_own_task_options(at->layer)->priority = priority;
        tessi_backlog_move(sched, at,
                           tessi_policy_lane(at->session, rank_of(at), at->kind, &at->layer->task_options->demand));
        for (uint32_t i = 0; i < at->ninputs; i++) {
            tessi_grow(&stack, &capacity, count + 1, sizeof *stack);
            stack[count++] = at->inputs[i];
        }
    }
    tessi_free(stack);
}

void tessi_policy_choose_lanes(struct tessi_sched *sched, struct sched_layer **layers, size_t count)
{
    for (size_t i = count; i-- > 0;) { /* readers stand after what they read */
        struct sched_layer *layer = layers[i];
        double behind_ns = 0;
        for (size_t c = 0; c < layer->consumer_count; c++) {
            const struct sched_layer *reader = layer->consumers[c].layer;
            int32_t priority = reader->layer->task_options->priority;
            if (priority > layer->layer->task_options->priority) {
                tessi_layer_own_task_options(layer->layer)->priority = priority;
            }
            behind_ns = reader->path_ns > behind_ns ? reader->path_ns : behind_ns;
        }
        bool sequence = tessi_layer_reads_itself(layer->layer); /* its tasks may follow each other */
        layer->path_ns = layer->estimate_ns * (sequence ? (double)layer->tasks : 1) + behind_ns;
        layer->lane =
            tessi_policy_lane(layer->session, rank_of(layer), layer->kind, &layer->layer->task_options->demand);
        sched->demands = sched->demands || layer->lane->demand.count > 0;
    }
    for (size_t i = 0; i < count; i++) {
        for (uint32_t n = 0; n < layers[i]->layer->ninputs; n++) {
            struct sched_layer *input = layers[i]->inputs[n];
            if (input->submission != layers[i]->submission) {
                hurry(sched, input, layers[i]->layer->task_options->priority);
            }
        }
    }
}
