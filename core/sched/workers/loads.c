/* Who has most to do and who runs dry: found without looking at every worker.
 *
 * Three trees of matches over the workers, in which the winner of each match goes on: most work that was never handed
 * out, most work that was, and least work among those that run dry. Whoever changes a worker's load says so
 * (load_changed); its matches are played again when somebody asks for a winner. As long as nobody runs dry, only
 * those matches are. */
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/workers/workers.h"

#define OUT (-1.0) /* takes no part; loads are never negative */

static void tree_grow(struct load_tree *tree, size_t workers)
{
    size_t leaves = tree->leaves > 0 ? tree->leaves : 8;
    if (workers <= tree->leaves) {
        return;
    }
    while (leaves < workers) {
        leaves *= 2;
    }
    double *keys = tessi_alloc(2 * leaves * sizeof *keys);
    for (size_t i = 0; i < 2 * leaves; i++) {
        keys[i] = OUT;
    }
    for (size_t i = 0; i < tree->leaves; i++) {
        keys[leaves + i] = tree->keys[tree->leaves + i];
    }
    tessi_free(tree->keys);
    tree->keys = keys;
    tree->leaves = leaves;
    for (size_t i = leaves; i-- > 1;) {
        keys[i] = keys[2 * i] >= keys[2 * i + 1] ? keys[2 * i] : keys[2 * i + 1];
    }
}

static void tree_set(struct load_tree *tree, uint32_t worker, double key)
{
    size_t i = tree->leaves + worker;
    if (!(tree->keys[i] < key || tree->keys[i] > key)) {
        return;
    }
    tree->keys[i] = key;
    for (i /= 2; i > 0; i /= 2) {
        double left = tree->keys[2 * i], right = tree->keys[2 * i + 1];
        double best = left >= right ? left : right;
        if (!(tree->keys[i] < best || tree->keys[i] > best)) {
            break;
        }
        tree->keys[i] = best;
    }
}

/* The largest key; of equal ones the lowest worker. */
static uint32_t tree_winner(const struct load_tree *tree)
{
    if (tree->leaves == 0 || tree->keys[1] < 0) {
        return NO_WORKER;
    }
    size_t i = 1;
    while (i < tree->leaves) {
        i = tree->keys[2 * i] >= tree->keys[i] ? 2 * i : 2 * i + 1;
    }
    return (uint32_t)(i - tree->leaves);
}

double tessi_load_of(const struct worker *worker, uint32_t kind)
{
    const struct load *load = &worker->load[kind];
    /* What demands a resource runs beside the rest when its turn comes; what somebody has asked for is as good as
     * gone. */
    double left_ns = load->queue_ns - load->asked_ns + load->coming_ns + load->backlog_ns - load->demanding_ns;
    return left_ns * load->slowness / load_units(worker, kind);
}

/* What it has may end before stolen work would arrive, or none of it can begin. */
bool tessi_load_runs_dry(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind)
{
    const struct load *load = &worker->load[kind];
    if (!stays(worker) || load->units == 0 || worker->stealing > 0 || load->resting) {
        return false;
    }
    return load->idle ||
           (load->backlog == load->demanding_backlog &&
            (load->assigned < load->units || tessi_load_of(worker, kind) < 0.25 * (double)sched->config.window_ns));
}

void tessi_load_changed(struct tessi_sched *sched, struct worker *worker)
{
    if (!worker->load_changed) {
        worker->load_changed = true;
        tessi_worker_list_push(&sched->loads.changed, worker->index);
    }
}

static double load_key(const struct worker *worker, uint32_t kind)
{
    double load_ns = tessi_load_of(worker, kind);
    return load_ns > 0 ? load_ns : 0;
}

static double dry_key(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind)
{
    return tessi_load_runs_dry(sched, worker, kind) ? 1 / (1 + load_key(worker, kind)) : OUT; /* least load wins */
}

static double kept_key(const struct worker *worker, uint32_t kind)
{
    const struct load *load = &worker->load[kind];
    return stays(worker) && load->backlog > load->demanding_backlog ? load_key(worker, kind) : OUT;
}

static double given_key(const struct worker *worker, uint32_t kind)
{
    const struct load *load = &worker->load[kind];
    TESS_ASSERT(load->asked <= load->assigned);
    bool has = stays(worker) && load->assigned - load->asked > load->units && !load->bare;
    return has ? load_key(worker, kind) : OUT;
}

/* Of processors, and of devices once there have been some. */
static uint32_t kinds(const struct tessi_sched *sched)
{
    return sched->device_workers > 0 || sched->loads.dry[1].leaves > 0 ? 2 : 1;
}

static void play_dry(struct tessi_sched *sched)
{
    struct loads *loads = &sched->loads;
    for (uint32_t k = 0; k < kinds(sched); k++) {
        tree_grow(&loads->dry[k], sched->worker_count);
    }
    for (size_t i = 0; i < loads->changed.count; i++) {
        struct worker *worker = sched->workers[loads->changed.items[i]];
        worker->load_changed = false;
        for (uint32_t k = 0; k < kinds(sched); k++) {
            tree_set(&loads->dry[k], worker->index, dry_key(sched, worker, k));
        }
        if (!worker->load_stale) {
            worker->load_stale = true;
            tessi_worker_list_push(&loads->stale, worker->index);
        }
    }
    loads->changed.count = 0;
}

static void play_all(struct tessi_sched *sched)
{
    struct loads *loads = &sched->loads;
    play_dry(sched);
    for (uint32_t k = 0; k < kinds(sched); k++) {
        tree_grow(&loads->kept[k], sched->worker_count);
        tree_grow(&loads->given[k], sched->worker_count);
    }
    for (size_t i = 0; i < loads->stale.count; i++) {
        struct worker *worker = sched->workers[loads->stale.items[i]];
        worker->load_stale = false;
        for (uint32_t k = 0; k < kinds(sched); k++) {
            tree_set(&loads->kept[k], worker->index, kept_key(worker, k));
            tree_set(&loads->given[k], worker->index, given_key(worker, k));
        }
    }
    loads->stale.count = 0;
}

struct worker *tessi_load_most(struct tessi_sched *sched, uint32_t kind, bool backlog_only)
{
    TESS_ASSERT(kind < 2);
    play_all(sched);
    uint32_t winner = tree_winner(backlog_only ? &sched->loads.kept[kind] : &sched->loads.given[kind]);
    return winner == NO_WORKER ? NULL : sched->workers[winner];
}

struct worker *tessi_load_driest(struct tessi_sched *sched, uint32_t kind)
{
    TESS_ASSERT(kind < 2);
    play_dry(sched);
    uint32_t winner = tree_winner(&sched->loads.dry[kind]);
    return winner == NO_WORKER ? NULL : sched->workers[winner];
}

static bool stands(const struct load_tree *tree, uint32_t worker, double key)
{
    double known = worker < tree->leaves ? tree->keys[tree->leaves + worker] : OUT;
    return !(known < key || known > key);
}

void tessi_load_verify(const struct tessi_sched *sched)
{
    const struct loads *loads = &sched->loads;
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        for (uint32_t k = 0; k < 2; k++) {
            TESS_ASSERT(worker->load_changed || stands(&loads->dry[k], worker->index, dry_key(sched, worker, k)));
            TESS_ASSERT(worker->load_changed || worker->load_stale ||
                        (stands(&loads->kept[k], worker->index, kept_key(worker, k)) &&
                         stands(&loads->given[k], worker->index, given_key(worker, k))));
        }
    }
}

void tessi_load_fini(struct loads *loads)
{
    for (uint32_t k = 0; k < 2; k++) {
        tessi_free(loads->kept[k].keys);
        tessi_free(loads->given[k].keys);
        tessi_free(loads->dry[k].keys);
    }
    tessi_free(loads->changed.items);
    tessi_free(loads->stale.items);
}
