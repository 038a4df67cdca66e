/* What `tessera status` shows of the state. */
#include <string.h>

#include "core/base/assert.h"
#include "core/base/text.h"
#include "core/sched/explain/explain.h"
#include "core/sched/state/state.h"

void tessi_sched_status(const struct tessi_sched *sched, struct tessi_sched_status *status)
{
    *status = (struct tessi_sched_status){
        .workers = sched->alive_count,
        .sessions = sched->session_by_id.count,
        .tasks_total = sched->tasks_total,
        .tasks_done = sched->tasks_done,
        .tasks_rerun = sched->tasks_rerun,
        .tasks_failed = sched->tasks_failed,
        .steals = sched->steals,
        .workers_joined = sched->workers_joined,
        .workers_lost = sched->workers_lost,
        .stale_reports = sched->stale_reports,
        .workers_left = sched->workers_left,
        .blocks_handed = sched->blocks_handed,
        .bytes_moved = sched->bytes_moved,
        .memory_used_bytes = tessi_memory_used(sched),
        .memory_bytes = sched->config.memory_bytes,
    };
    memcpy(status->steals_refused, sched->steals_refused, sizeof status->steals_refused);
    for (size_t s = 0; s < sched->session_count; s++) {
        const struct session *session = sched->sessions[s];
        for (size_t i = 0; session != NULL && i < session->layer_count; i++) {
            const struct sched_layer *layer = session->layers[i];
            if (layer == NULL) {
                continue;
            }
            status->layers++;
            status->tasks_waiting += layer->tasks > layer->first_done ? layer->tasks - layer->first_done : 0;
        }
    }
}

size_t tessi_sched_arrays(const struct tessi_sched *sched, struct tessi_sched_array *arrays, size_t most)
{
    size_t count = 0;
    for (size_t s = sched->session_count; s-- > 0;) {
        const struct session *session = sched->sessions[s];
        for (size_t l = session == NULL ? 0 : session->layer_count; l-- > 0 && count < most;) {
            const struct sched_layer *layer = session->layers[l];
            if (layer != NULL && layer->wanted && !layer->gone && layer->layer->name != NULL) {
                arrays[count++] =
                    (struct tessi_sched_array){session->id, layer->layer, layer->tasks, layer->held};
            }
        }
    }
    return count;
}

static void describe_use(const struct worker *worker, char *text, size_t size)
{
    size_t used = 0;
    for (uint32_t r = 0; r < worker->resources.count; r++) {
        (void)tessi_text_format(text + used, size - used, "%s%s=%llu", r > 0 ? "," : "", worker->resources.item[r].name,
                                (unsigned long long)worker->resources_used[r]);
        used += strlen(text + used);
    }
}

static void tell_worker(const struct worker *worker, struct tessi_sched_worker_status *status)
{
    *status = (struct tessi_sched_worker_status){
        .id = worker->id,
        .info = &worker->info,
        .tasks_assigned = worker->assigned,
        .tasks_done = worker->done,
        .queue_seconds = (worker->load[0].queue_ns + worker->load[0].backlog_ns + worker->load[1].queue_ns +
                          worker->load[1].backlog_ns) /
                         1e9,
        .leaving = worker->leaving,
        .heard_ns = worker->heard_ns + (worker->sched->now_ns - worker->sched->attended_ns),
        .memory_used_bytes = worker->memory_used_bytes,
        .memory_peak_bytes = worker->memory_peak_bytes,
        .spilled_bytes = worker->spilled_bytes,
        .fetched_bytes = worker->fetched_bytes,
        .served_bytes = worker->served_bytes,
        .mapped_bytes = worker->mapped_bytes,
        .dropped_messages = worker->dropped_messages,
        .bytes_per_second = worker->bytes_per_ns * 1e9,
    };
    describe_use(worker, status->resources_used, sizeof status->resources_used);
}

void tessi_sched_worker_status(const struct tessi_sched *sched, size_t position,
                               struct tessi_sched_worker_status *status)
{
    TESS_ASSERT(position < sched->joined.count);
    tell_worker(sched->workers[sched->joined.items[position]], status);
}

bool tessi_sched_worker_find(const struct tessi_sched *sched, uint32_t id, struct tessi_sched_worker_status *status)
{
    uint32_t index = tessi_map_get(&sched->worker_by_id, (struct tessi_map_key){0, id});
    if (index == TESSI_MAP_NONE) {
        return false;
    }
    tell_worker(sched->workers[index], status);
    return true;
}
