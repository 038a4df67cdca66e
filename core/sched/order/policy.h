/* The policy hook: in which order a session's waiting work is handed out.
 *
 * There are two orders. The global topological one (order.c) is fixed for life; every worker grants memory by it,
 * and that is why something can always run. A policy never changes it. What a policy decides:
 *
 *   - how the trees of layers of one submission follow each other in the global order, as long as inputs
 *     come before their readers;
 *   - in which lane a layer's tasks wait. A session's lanes are tried lowest rank first; within a lane the
 *     global order holds, and a lane whose first task waits for inputs or a resource does not hold back the
 *     others. So whatever the ranks are, the globally oldest task stands first in its lane and is tried: no
 *     policy can make the cluster stand still.
 *
 * User priorities stand above policies: work of higher priority is always in an earlier lane, and passes its
 * priority on to what it reads. Priorities and policies compare the work of one session; sessions take turns.
 *
 * A policy is a row of constant functions without state. They may look at the layer that they are given and
 * at nothing else, and must give equal results for equal layers, or a replay would differ. */
#ifndef TESSI_SCHED_POLICY_H
#define TESSI_SCHED_POLICY_H

#include "core/sched/state/state.h"

struct policy {
    const char *name;
    /* Called for the root of each tree of layers of a submission (see order.c) when all that the tree reads has its
     * place. The layers have been accepted and have their estimates (estimate_ns, path_ns); none of their tasks is
     * placed, and all belong to the scheduler. Of the trees that could come next the lowest key does; equal
     * ones follow as they were submitted. `irregular`: the submission has explicit tables. */
    uint64_t (*tree_key)(const struct sched_layer *root, bool irregular);
    /* Called once for each layer, before its tasks wait anywhere: its lane among those of its priority, 0 … 255.
     * The tasks belong to the scheduler until they are assigned, then to their worker, which starts those
     * of higher priority first and otherwise goes by the global order. */
    uint32_t (*lane)(const struct sched_layer *layer);
};

const struct policy *tessi_policy_of(const struct sched_layer *layer);

/* Give each layer of a submission the priority of its most urgent reader, its path, and its lane; layers submitted
 * earlier that they wait for are moved to an earlier lane where theirs is a later one. */
void tessi_policy_choose_lanes(struct tessi_sched *sched, struct sched_layer **layers, size_t count);

/* The session's lane for a priority, a lane number of a policy, a kind and a demand; made when it is not there. */
struct lane *tessi_policy_lane(struct session *session, uint64_t rank, uint32_t kind,
                               const struct tessi_resources *demand);
void tessi_policy_lanes_fini(struct tessi_sched *sched, struct session *session);

#endif
