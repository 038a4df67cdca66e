/* What the devices do, for people: asked of their drivers on a thread beside, since that can take milliseconds. */
#include "worker/gpu/internal.h"

/* The figures of a device that was lost are those from before: its driver may hang. */
static void measure_all(void *context, struct tessi_lane_job *job)
{
    struct tessi_gpus *gpus = context;
    for (uint32_t g = 0; g < gpus->count; g++) {
        struct gpu *gpu = &gpus->all[g];
        struct tessi_device_gauges gauges;
        if (atomic_load(&gpu->failed)) {
            continue;
        }
        gpus->found.kind->gauges(gpu->device, &gauges);
        (void)pthread_mutex_lock(&gpus->gauge_lock);
        gpu->gauges = gauges;
        (void)pthread_mutex_unlock(&gpus->gauge_lock);
    }
    tessi_free(job);
    atomic_store(&gpus->measuring, false);
}

enum tessi_status tessi_gpus_gauges_open(struct tessi_gpus *gpus, struct tessi_error *error)
{
    for (uint32_t g = 0; g < gpus->count; g++) {
        gpus->found.kind->gauges(gpus->all[g].device, &gpus->all[g].gauges);
    }
    return tessi_lane_create(measure_all, NULL, gpus, &gpus->side, error);
}

void tessi_gpus_gauges_close(struct tessi_gpus *gpus)
{
    tessi_lane_destroy(gpus->side);
    gpus->side = NULL;
}

void tessi_gpus_measure(struct tessi_gpus *gpus)
{
    if (!atomic_exchange(&gpus->measuring, true)) {
        tessi_lane_push(gpus->side, tessi_zalloc(sizeof(struct tessi_lane_job)));
        tessi_lane_kick(gpus->side);
    }
}

uint32_t tessi_gpus_count(const struct tessi_gpus *gpus)
{
    return gpus != NULL ? gpus->count : 0;
}

void tessi_gpus_device(struct tessi_gpus *gpus, uint32_t position, struct tessi_gpus_device *device)
{
    const struct gpu *gpu = &gpus->all[position];
    struct tessi_residency_stats stats;
    TESS_ASSERT(position < gpus->count);
    tessi_residency_stats(gpu->residency, &stats);
    *device = (struct tessi_gpus_device){.number = gpu->number,
                                         .name = gpu->info.name,
                                         .alive = gpu->alive,
                                         .memory_bytes = gpu->alive ? stats.capacity_bytes : gpu->memory_bytes,
                                         .used_bytes = gpu->alive ? stats.used_bytes : 0,
                                         .total_bytes = gpu->total_bytes,
                                         .copied_in_bytes = stats.copied_in_bytes,
                                         .copied_out_bytes = stats.copied_out_bytes,
                                         .steps = gpu->steps_run};
    (void)pthread_mutex_lock(&gpus->gauge_lock);
    device->gauges = gpu->gauges;
    (void)pthread_mutex_unlock(&gpus->gauge_lock);
}
