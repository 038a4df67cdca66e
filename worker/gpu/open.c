/* A worker's devices from when they are found until they are closed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "worker/gpu/gpus.h"
#include "worker/gpu/internal.h"

#define MEMORY_SPARE ((uint64_t)256 << 20) /* of a device, for its libraries, where it can be spared */

enum tessi_status tessi_gpus_find(const struct tessi_gpus_config *config, struct tessi_gpus **out,
                                  struct tessi_error *error)
{
    struct tessi_gpus_found found;
    *out = NULL;
    enum tessi_status status = tessi_gpus_look(config->gpus, config->memory, &found, error);
    if (status != TESSI_OK || found.count == 0) {
        tessi_free(found.spec);
        return status;
    }
    struct tessi_gpus *gpus = tessi_zalloc(sizeof *gpus);
    gpus->config = *config;
    gpus->config.gpus = gpus->config.memory = NULL;
    gpus->found = found;
    gpus->ended_last = &gpus->ended;
    (void)pthread_mutex_init(&gpus->lock, NULL);
    (void)pthread_mutex_init(&gpus->pin_lock, NULL);
    (void)pthread_mutex_init(&gpus->gauge_lock, NULL);
    *out = gpus;
    return TESSI_OK;
}

const char *tessi_gpus_numerics(const struct tessi_gpus *gpus)
{
    return gpus->found.numerics;
}

void tessi_gpus_describe(const struct tessi_gpus *gpus, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t g = 0; g < gpus->count && used < size; g++) {
        const struct gpu *gpu = &gpus->all[g];
        int n = snprintf(text + used, size - used, "%s%s, %.1f GiB%s", g > 0 ? "; " : "", gpu->info.name,
                         (double)gpu->memory_bytes / 1073741824.0, gpu->alive ? "" : " (lost)");
        used += n > 0 ? (size_t)n : 0;
    }
}

/* The share of the memory that was asked for, and not what others have. */
static uint64_t choose_memory(const struct tessi_gpus_found *found, const struct tessi_device_memory *memory)
{
    uint64_t bytes = (uint64_t)((double)memory->total_bytes * found->share);
    uint64_t spare = memory->free_bytes > 4 * MEMORY_SPARE ? MEMORY_SPARE : 0;
    bytes = found->bytes > 0 && found->bytes < bytes ? found->bytes : bytes;
    return bytes < memory->free_bytes - spare ? bytes : memory->free_bytes - spare;
}

void tessi_gpus_offer(const struct tessi_gpus *gpus, struct tessi_gpus_offer *offer)
{
    struct tessi_device_info info = {0};
    struct tessi_device_memory memory = {0};
    *offer = (struct tessi_gpus_offer){0};
    if (gpus == NULL) {
        return;
    }
    const struct tessi_gpus_found *found = &gpus->found;
    struct tessi_device_options options = {.ordinal = found->ordinals[0], .spec = found->spec};
    offer->count = found->count;
    if (found->kind->describe == NULL || found->kind->describe(&options, &info, &memory, NULL) != TESSI_OK) {
        return;
    }
    memcpy(offer->name, info.name, sizeof offer->name);
    offer->memory_bytes = choose_memory(found, &memory);
    offer->gflops = info.gflops_f64;
    offer->flops_min = info.flops_min;
    offer->bytes_min = info.bytes_min;
}

static enum tessi_status gpu_open(struct gpu *gpu, const char *blas_family, struct tessi_error *error)
{
    struct tessi_gpus *gpus = gpu->all;
    const struct tessi_device_kind *kind = gpus->found.kind;
    struct tessi_device_options options = {.ordinal = gpu->number, .blas_family = blas_family, .spec = gpus->found.spec};
    struct tessi_stream_options stream = {.depth = STREAM_DEPTH};
    struct tessi_device_memory memory;
    enum tessi_status status;
    TESSI_TRY(kind->open(&options, &gpu->device, error));
    kind->info(gpu->device, &gpu->info);
    kind->memory(gpu->device, &memory);
    gpu->memory_bytes = choose_memory(&gpus->found, &memory);
    gpu->total_bytes = memory.total_bytes;
    for (int s = 0; s < STREAMS; s++) {
        TESSI_TRY(kind->stream_open(gpu->device, &stream, &gpu->streams[s], error));
    }
    TESSI_TRY(tessi_lane_create(tessi_gpus_job_run, tessi_gpus_jobs_given, gpu, &gpu->front, error));
    TESSI_TRY(tessi_lane_create(tessi_gpus_job_run, NULL, gpu, &gpu->back, error));
    struct tessi_residency_config config = {
        .memory_bytes = gpu->memory_bytes, .depth = LAUNCH_DEPTH, .patience = PROBES_MAX};
    gpu->residency = tessi_residency_create(&config);
    gpu->alive = true;
cleanup:
    return status;
}

static void add_rows(struct gpu *gpu, struct tessi_trace *trace)
{
    static const char *const names[STREAMS] = {
        [STREAM_IN] = "copies in", [STREAM_COMPUTE] = "compute", [STREAM_OUT] = "copies out"};
    for (int s = 0; s < STREAMS; s++) {
        char name[64];
        (void)snprintf(name, sizeof name, "gpu %" PRIu32 " %s", gpu->number, names[s]);
        gpu->rings[s] = tessi_trace_add(trace, name);
    }
}

static void gpu_stop(struct gpu *gpu)
{
    const struct tessi_device_kind *kind = gpu->all->found.kind;
    tessi_lane_destroy(gpu->front);
    tessi_lane_destroy(gpu->back);
    gpu->front = gpu->back = NULL;
    for (int s = 0; s < STREAMS; s++) {
        kind->stream_close(gpu->streams[s]);
        gpu->streams[s] = NULL;
    }
}

static void gpu_destroy(struct gpu *gpu)
{
    const struct tessi_device_kind *kind = gpu->all->found.kind;
    for (size_t i = 0; i < gpu->block_count; i++) {
        if (gpu->memory[i] != NULL) {
            kind->free(gpu->device, gpu->memory[i]);
        }
    }
    for (size_t i = 0; i < gpu->spare_count; i++) {
        kind->event_destroy(gpu->spare[i]);
    }
    tessi_residency_destroy(gpu->residency);
    kind->close(gpu->device);
    tessi_free(gpu->actions.items);
    tessi_free(gpu->memory);
    tessi_free(gpu->arrival);
    tessi_free(gpu->spare);
}

enum tessi_status tessi_gpus_open(struct tessi_gpus *gpus, const char *blas_family, struct tessi_store *store,
                                  struct tessi_trace *trace, struct tessi_error *error)
{
    struct tessi_arena *arena = tessi_store_arena(store);
    enum tessi_status status = TESSI_OK;
    gpus->store = store;
    gpus->base = tessi_arena_base(arena);
    gpus->arena_bytes = tessi_arena_size(arena);
    gpus->pinned = tessi_zalloc((size_t)(gpus->arena_bytes / PIN_GRANULE + 1) * sizeof *gpus->pinned);
    gpus->all = tessi_zalloc(gpus->found.count * sizeof *gpus->all);
    for (uint32_t g = 0; g < gpus->found.count; g++) {
        struct gpu *gpu = &gpus->all[gpus->count];
        gpu->all = gpus;
        gpu->number = gpus->found.ordinals[g];
        status = gpu_open(gpu, blas_family, error);
        if (status != TESSI_OK && gpus->found.automatic) {
            tessi_log_event(TESSI_LOG_WARN, "gpu_unusable", "gpu=%" PRIu32 " reason=" TESSI_LOG_TEXT, gpu->number, error->text);
            gpu_stop(gpu);
            gpu_destroy(gpu);
            memset(gpu, 0, sizeof *gpu);
            status = TESSI_OK;
            continue;
        }
        gpus->count++;
        TESSI_TRY(status);
        add_rows(gpu, trace);
    }
    TESSI_TRY(tessi_gpus_gauges_open(gpus, error));
    tessi_arena_keep_pages(arena);
cleanup:
    return status;
}

void tessi_gpus_stop(struct tessi_gpus *gpus)
{
    tessi_gpus_gauges_close(gpus);
    for (uint32_t g = 0; g < gpus->count; g++) {
        gpu_stop(&gpus->all[g]);
    }
    tessi_gpus_drop_ended(gpus);
    if (gpus->count > 0 && gpus->all[0].device != NULL) {
        tessi_gpus_unpin_all(gpus);
    }
}

void tessi_gpus_destroy(struct tessi_gpus *gpus)
{
    if (gpus == NULL) {
        return;
    }
    tessi_gpus_stop(gpus);
    for (size_t i = gpus->outcome_first; i < gpus->outcome_count; i++) {
        tessi_free(gpus->outcomes[i].it.text);
    }
    for (size_t i = 0; i < gpus->run_count; i++) {
        tessi_free(gpus->runs[i].text);
    }
    for (uint32_t g = 0; g < gpus->count; g++) {
        gpu_destroy(&gpus->all[g]);
    }
    (void)pthread_mutex_destroy(&gpus->lock);
    (void)pthread_mutex_destroy(&gpus->pin_lock);
    (void)pthread_mutex_destroy(&gpus->gauge_lock);
    tessi_free(gpus->found.spec);
    tessi_free(gpus->outcomes);
    tessi_free(gpus->name_of);
    tessi_free(gpus->names);
    tessi_free(gpus->free_names);
    tessi_free(gpus->runs);
    tessi_free(gpus->free_runs);
    tessi_free(gpus->pinned);
    tessi_free(gpus->all);
    tessi_free(gpus);
}
