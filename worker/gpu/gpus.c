#include "worker/gpu/gpus.h"

#include <inttypes.h>

#include "core/base/log.h"
#include "worker/gpu/internal.h"

#define COPY_GB_S 10.0          /* where the device does not tell */
#define LAUNCH_DEPTH_MAX 48
#define LAUNCH_NS 1500000.0     /* and so much time in short ones */

/* ——— names ——— */

static uint32_t name_find(const struct tessi_gpus *gpus, uint32_t handle)
{
    return gpus != NULL && handle < gpus->handle_count ? gpus->name_of[handle] : NONE;
}

static uint32_t name_get(struct tessi_gpus *gpus, uint32_t handle)
{
    uint32_t name = name_find(gpus, handle);
    if (name != NONE) {
        return name;
    }
    if (gpus->free_name_count > 0) {
        name = gpus->free_names[--gpus->free_name_count];
    } else {
        name = (uint32_t)gpus->name_count;
        tessi_grow(&gpus->names, &gpus->name_capacity, ++gpus->name_count, sizeof *gpus->names);
    }
    gpus->names[name] = (struct name){.handle = handle, .home = NONE, .task_at = NONE, .live = true};
    tessi_grow(&gpus->name_of, &gpus->handle_capacity, (size_t)handle + 1, sizeof *gpus->name_of);
    while (gpus->handle_count <= handle) {
        gpus->name_of[gpus->handle_count++] = NONE;
    }
    gpus->name_of[handle] = name;
    return name;
}

/* What is lost is away until the owner has been told: nobody must read the host's bytes meanwhile. */
static bool name_away(const struct tessi_gpus *gpus, uint32_t name)
{
    uint32_t home = name == NONE ? NONE : gpus->names[name].home;
    return home != NONE && (gpus->names[name].lost || tessi_residency_dirty(gpus->all[home].residency, name));
}

/* ——— outcomes ——— */

static struct outcome *outcome_add(struct tessi_gpus *gpus, enum tessi_gpus_outcome_kind kind)
{
    if (gpus->outcome_first == gpus->outcome_count) {
        gpus->outcome_first = gpus->outcome_count = 0;
    }
    tessi_grow(&gpus->outcomes, &gpus->outcome_capacity, gpus->outcome_count + 1, sizeof *gpus->outcomes);
    struct outcome *outcome = &gpus->outcomes[gpus->outcome_count++];
    *outcome = (struct outcome){.it = {.kind = kind, .handle = NONE}, .name = NONE};
    if (!atomic_exchange(&gpus->woken, true)) {
        gpus->config.wake(gpus->config.context); /* it may come of something else than a job's end */
    }
    return outcome;
}

/* ——— the machine's actions ——— */

static void feed(struct gpu *gpu, const struct tessi_residency_event *event);

static struct job *job_create(struct gpu *gpu, enum job_kind kind)
{
    struct job *job = tessi_zalloc(sizeof *job);
    job->kind = kind;
    job->gpu = gpu;
    gpu->outstanding++;
    return job;
}

static void do_alloc(struct gpu *gpu, const struct tessi_residency_action *action)
{
    size_t count = (size_t)action->block + 1;
    tessi_grow(&gpu->memory, &gpu->memory_capacity, count, sizeof *gpu->memory);
    tessi_grow(&gpu->arrival, &gpu->arrival_capacity, count, sizeof *gpu->arrival);
    for (; gpu->block_count < count; gpu->block_count++) {
        gpu->memory[gpu->block_count] = NULL;
        gpu->arrival[gpu->block_count] = NULL;
    }
    struct tessi_error error;
    enum tessi_status status =
        gpu->all->found.kind->alloc(gpu->device, action->bytes, &gpu->memory[action->block], &error);
    if (status == TESSI_LOST && !atomic_exchange(&gpu->failed, true)) {
        tessi_gpus_job_end(job_create(gpu, JOB_NONE), TESSI_LOST, error.text, 0); /* so that it is given up */
    }
    feed(gpu, &(struct tessi_residency_event){
                  .kind = status == TESSI_OK ? TESSI_RESIDENCY_ALLOCATED : TESSI_RESIDENCY_NO_MEMORY,
                  .block = action->block});
}

static void do_free(struct gpu *gpu, const struct tessi_residency_action *action)
{
    gpu->all->found.kind->free(gpu->device, gpu->memory[action->block]);
    gpu->memory[action->block] = NULL;
}

static struct tessi_event *event_take(struct gpu *gpu)
{
    struct tessi_event *event = NULL;
    if (gpu->spare_count > 0) {
        return gpu->spare[--gpu->spare_count];
    }
    struct tessi_error error;
    if (gpu->all->found.kind->event_create(gpu->device, &event, &error) != TESSI_OK) {
        atomic_store(&gpu->failed, true); /* the job that wants it is answered as lost */
        return NULL;
    }
    return event;
}

static void event_give(struct gpu *gpu, struct tessi_event *event)
{
    tessi_grow(&gpu->spare, &gpu->spare_capacity, gpu->spare_count + 1, sizeof *gpu->spare);
    gpu->spare[gpu->spare_count++] = event;
}

static void do_copy(struct gpu *gpu, const struct tessi_residency_action *action, bool in)
{
    struct tessi_gpus *gpus = gpu->all;
    uint32_t handle = gpus->names[action->handle].handle;
    struct job *job = job_create(gpu, in ? JOB_COPY_IN : JOB_COPY_OUT);
    TESS_ASSERT(handle != NONE);
    job->block = action->block;
    job->memory = gpu->memory[action->block];
    job->bytes = action->bytes;
    job->host = tessi_block_ref(tessi_store_block(gpus->store, handle, false));
    job->task = gpus->names[action->handle].task;
    if (in) {
        job->event = event_take(gpu);
        gpu->arrival[action->block] = job->event;
    }
    tessi_lane_push(in ? gpu->front : gpu->back, &job->link);
}

static void wait_arrival(const struct gpu *gpu, struct job *job, uint32_t block)
{
    if (gpu->arrival[block] != NULL) {
        job->waits[job->wait_count++] = gpu->arrival[block];
    }
}

static void do_launch(struct gpu *gpu, const struct tessi_residency_action *action)
{
    const struct run *run = &gpu->all->runs[action->step];
    struct job *job = job_create(gpu, JOB_LAUNCH);
    job->step = action->step;
    job->task = (struct tessi_task){run->layer->session, run->layer->id, run->index};
    job->assigned_ns = run->assigned_ns;
    job->launch.call = (struct tessi_kernel_call){.layer = run->layer,
                                           .index = run->index,
                                           .step = run->step,
                                           .steps = run->steps,
                                           .out = gpu->memory[action->out]};
    wait_arrival(gpu, job, action->out);
    for (uint32_t i = 0; i < action->in_count; i++) {
        job->launch.call.in[i] = gpu->memory[action->in[i]];
        wait_arrival(gpu, job, action->in[i]);
    }
    tessi_lane_push(gpu->front, &job->link);
}

static void do_done(struct gpu *gpu, const struct tessi_residency_action *action)
{
    struct tessi_gpus *gpus = gpu->all;
    struct run *run = &gpus->runs[action->step];
    struct tessi_gpus_outcome *outcome = &outcome_add(gpus, TESSI_GPUS_STEP)->it;
    outcome->text = run->text;
    outcome->step = (struct tessi_flow_outcome){.slot = run->slot,
                                                .run = run->run,
                                                .ran_ns = run->ran_ns,
                                                .status = action->elsewhere ? TESSI_CANCELLED : run->status,
                                                .text = run->text};
    if (action->elsewhere) {
        gpus->given_back++;
        /* A broken device refuses memory too, which says nothing about the layer. */
        outcome->step.elsewhere = action->status == TESSI_NOMEM && gpu->alive && !atomic_load(&gpu->failed);
    }
    uint64_t layer = (uint64_t)run->layer->session << 32 | run->layer->id;
    if (outcome->step.elsewhere && layer != gpus->small_layer) {
        struct tessi_residency_stats stats;
        tessi_residency_stats(gpu->residency, &stats);
        gpus->small_layer = layer;
        tessi_log_event(TESSI_LOG_WARN, "gpu_too_small",
                        "gpu=%" PRIu32 " session=%" PRIu32 " layer=%" PRIu32 " reason=" TESSI_LOG_TEXT, gpu->number,
                        run->layer->session, run->layer->id,
                        stats.capacity_bytes < gpu->memory_bytes
                            ? "the device has refused memory for long: processors take the layer"
                            : "a task does not fit its memory: processors take the layer");
    }
    run->layer = NULL;
    run->text = NULL;
    gpu->steps--;
    tessi_grow(&gpus->free_runs, &gpus->free_run_capacity, gpus->free_run_count + 1, sizeof *gpus->free_runs);
    gpus->free_runs[gpus->free_run_count++] = action->step;
}

static void name_release(struct tessi_gpus *gpus, uint32_t name)
{
    gpus->names[name].live = false;
    tessi_grow(&gpus->free_names, &gpus->free_name_capacity, gpus->free_name_count + 1, sizeof *gpus->free_names);
    gpus->free_names[gpus->free_name_count++] = name;
}

static void forget_everywhere(struct tessi_gpus *gpus, uint32_t name)
{
    for (uint32_t g = 0; g < gpus->count; g++) {
        feed(&gpus->all[g], &(struct tessi_residency_event){.kind = TESSI_RESIDENCY_FORGET, .handle = name});
    }
    name_release(gpus, name);
}

static void do_home(struct gpu *gpu, uint32_t name_id)
{
    struct tessi_gpus *gpus = gpu->all;
    struct name *name = &gpus->names[name_id];
    struct tessi_gpus_outcome *outcome = &outcome_add(gpus, TESSI_GPUS_HOME)->it;
    outcome->ticket = name->ticket;
    outcome->handle = name->handle;
    name->ticket = 0;
    if (name->handle == NONE) {
        forget_everywhere(gpus, name_id);
    }
}

static void do_lost(struct gpu *gpu, uint32_t name_id)
{
    gpu->all->names[name_id].lost = true;
    outcome_add(gpu->all, TESSI_GPUS_LOST)->name = name_id;
}

/* The owner is being told: who asked for the bytes until now is told with it. */
static void tell_lost(struct tessi_gpus *gpus, uint32_t name_id, struct tessi_gpus_outcome *outcome)
{
    struct name *name = &gpus->names[name_id];
    outcome->ticket = name->ticket;
    outcome->handle = name->handle;
    name->ticket = 0;
    name->lost = false;
    name->home = NONE;
    if (name->handle == NONE) {
        forget_everywhere(gpus, name_id);
    }
}

static void carry_out(struct gpu *gpu, const struct tessi_residency_action *action)
{
    switch (action->kind) {
    case TESSI_RESIDENCY_ALLOC:
        do_alloc(gpu, action);
        break;
    case TESSI_RESIDENCY_FREE:
        do_free(gpu, action);
        break;
    case TESSI_RESIDENCY_COPY_IN:
        do_copy(gpu, action, true);
        break;
    case TESSI_RESIDENCY_COPY_OUT:
        do_copy(gpu, action, false);
        break;
    case TESSI_RESIDENCY_LAUNCH:
        do_launch(gpu, action);
        break;
    case TESSI_RESIDENCY_DONE:
        do_done(gpu, action);
        break;
    case TESSI_RESIDENCY_HOST_READY:
        do_home(gpu, action->handle);
        break;
    case TESSI_RESIDENCY_LOST:
        do_lost(gpu, action->handle);
        break;
    }
}

/* Actions may bring events of their own (an allocation is answered at once); theirs come after all that are there. */
static void feed(struct gpu *gpu, const struct tessi_residency_event *event)
{
    tessi_residency_step(gpu->residency, event, &gpu->actions);
    if (gpu->acting) {
        return;
    }
    gpu->acting = true;
    for (size_t i = 0; i < gpu->actions.count; i++) {
        struct tessi_residency_action action = gpu->actions.items[i];
        carry_out(gpu, &action);
    }
    gpu->actions.count = 0;
    gpu->acting = false;
}

/* ——— jobs that have ended ——— */

static void give_up(struct gpu *gpu, const char *text)
{
    gpu->alive = false;
    tessi_log_event(TESSI_LOG_ERROR, "gpu_lost", "gpu=%" PRIu32 " reason=" TESSI_LOG_TEXT " left=%" PRIu32, gpu->number,
                    text, tessi_gpus_alive(gpu->all));
}

static void job_note(struct gpu *gpu, struct job *job)
{
    struct tessi_residency_event event = {.block = job->block, .step = job->step};
    if (job->kind == JOB_COPY_IN) {
        event.kind = TESSI_RESIDENCY_COPIED_IN;
        if (gpu->arrival[job->block] == job->event) {
            gpu->arrival[job->block] = NULL;
        }
        event_give(gpu, job->event);
    } else if (job->kind == JOB_COPY_OUT) {
        event.kind = TESSI_RESIDENCY_COPIED_OUT;
    } else {
        struct run *run = &gpu->all->runs[job->step];
        event.kind = TESSI_RESIDENCY_RAN;
        event.status = run->status = job->status;
        run->ran_ns = job->ran_ns;
        run->text = job->text;
        job->text = NULL;
        if (job->status == TESSI_BUSY) {
            tessi_log_event(TESSI_LOG_WARN, "gpu_refused", "gpu=%" PRIu32 " reason=" TESSI_LOG_TEXT, gpu->number,
                            run->text != NULL ? run->text : "");
        }
        if (job->status == TESSI_NOMEM) {
            tessi_log_event(TESSI_LOG_WARN, "gpu_memory_short", "gpu=%" PRIu32 " reason=" TESSI_LOG_TEXT, gpu->number,
                            run->text != NULL ? run->text : "");
        }
        gpu->steps_run++;
        gpu->step_ns += ((double)job->ran_ns - gpu->step_ns) / (gpu->steps_run < 16 ? (double)gpu->steps_run : 16);
    }
    if (job->kind == JOB_LAUNCH) {
        double depth = gpu->step_ns > 1 ? LAUNCH_NS / gpu->step_ns : LAUNCH_DEPTH_MAX;
        depth = depth < LAUNCH_DEPTH ? LAUNCH_DEPTH : depth > LAUNCH_DEPTH_MAX ? LAUNCH_DEPTH_MAX : depth;
        tessi_residency_set_depth(gpu->residency, (uint32_t)depth);
    }
    feed(gpu, &event);
}

static void job_free(struct job *job)
{
    if (job->host != NULL) {
        tessi_block_unref(job->host);
    }
    tessi_free(job->text);
    tessi_free(job);
}

static void job_take(struct job *job)
{
    struct gpu *gpu = job->gpu;
    gpu->outstanding--;
    if (job->kind == JOB_LAUNCH && gpu->alive) {
        bool completes = job->status == TESSI_OK && job->launch.call.step + 1 == job->launch.call.steps;
        gpu->refused = completes ? 0 : gpu->refused + (job->status == TESSI_BUSY ? 1 : 0);
        if (gpu->refused == REFUSED_MAX) {
            atomic_store(&gpu->failed, true);
        }
    }
    if (atomic_load(&gpu->failed) && gpu->alive) {
        give_up(gpu, job->text != NULL ? job->text : "an operation of the device failed");
    }
    /* What is under way uses blocks and layers of the steps, so they are given back when all of it has ended. */
    if (gpu->alive) {
        job_note(gpu, job);
    } else if (job->event != NULL) {
        event_give(gpu, job->event);
    }
    job_free(job);
    if (!gpu->alive && gpu->outstanding == 0) {
        feed(gpu, &(struct tessi_residency_event){.kind = TESSI_RESIDENCY_BROKEN});
    }
}

static struct job *next_ended(struct tessi_gpus *gpus)
{
    if (gpus->taken == NULL) {
        atomic_store(&gpus->woken, false);
        (void)pthread_mutex_lock(&gpus->lock);
        gpus->taken = gpus->ended;
        gpus->ended = NULL;
        gpus->ended_last = &gpus->ended;
        (void)pthread_mutex_unlock(&gpus->lock);
    }
    struct job *job = (struct job *)gpus->taken;
    if (job != NULL) {
        gpus->taken = job->link.next;
    }
    return job;
}

void tessi_gpus_drop_ended(struct tessi_gpus *gpus)
{
    for (struct job *job = next_ended(gpus); job != NULL; job = next_ended(gpus)) {
        if (job->event != NULL) {
            event_give(job->gpu, job->event);
        }
        job_free(job);
    }
}

size_t tessi_gpus_take(struct tessi_gpus *gpus, struct tessi_gpus_outcome *outcomes, size_t most)
{
    size_t count = 0;
    while (count < most) {
        struct job *job = NULL;
        while (gpus->outcome_first == gpus->outcome_count && (job = next_ended(gpus)) != NULL) {
            job_take(job);
        }
        bool there = gpus->outcome_first < gpus->outcome_count;
        bool step = there && gpus->outcomes[gpus->outcome_first].it.kind == TESSI_GPUS_STEP;
        if (!there || (count > 0 && !step)) {
            break;
        }
        struct tessi_gpus_outcome *outcome = &outcomes[count++];
        uint32_t name = gpus->outcomes[gpus->outcome_first].name;
        *outcome = gpus->outcomes[gpus->outcome_first++].it;
        if (outcome->kind == TESSI_GPUS_LOST) {
            tell_lost(gpus, name, outcome);
        }
        if (!step) {
            break;
        }
    }
    return count;
}

/* ——— steps ——— */

static struct gpu *least_loaded(struct tessi_gpus *gpus)
{
    struct gpu *best = NULL;
    for (uint32_t g = 0; g < gpus->count; g++) {
        struct gpu *gpu = &gpus->all[g];
        if (gpu->alive && (best == NULL || gpu->steps < best->steps)) {
            best = gpu;
        }
    }
    return best;
}

/* The device that has most of what the step reads and the host has not. */
static struct gpu *holder(struct tessi_gpus *gpus, const struct tessi_flow_action *action)
{
    uint64_t bytes[TESSI_GPUS_MAX] = {0};
    struct gpu *best = NULL;
    for (uint32_t i = 0; i < action->in_count; i++) {
        uint32_t name = name_find(gpus, action->in[i]);
        if (name_away(gpus, name)) {
            uint32_t home = gpus->names[name].home;
            bytes[home] += tessi_block_bytes(tessi_store_block(gpus->store, action->in[i], false)) + 1;
            best = best == NULL || bytes[home] > bytes[best - gpus->all] ? &gpus->all[home] : best;
        }
    }
    return best;
}

bool tessi_gpus_takes(const struct tessi_gpus *gpus, const struct tessi_layer *layer)
{
    if (tessi_gpus_alive(gpus) == 0) {
        return false;
    }
    const struct gpu *gpu = &gpus->all[0];
    while (!gpu->alive) {
        gpu++;
    }
    return tessi_layer_suits_devices(layer, gpu->info.flops_min, gpu->info.bytes_min) &&
           gpus->found.kind->supports(gpu->device, layer);
}

/* Products have the bits of the device's BLAS; everything else shares its source with the processor's kernels. */
bool tessi_gpus_either(const struct tessi_layer *layer)
{
    return tessi_op_row(layer->op)->devices == TESSI_DEVICES_EITHER;
}

double tessi_gpus_copy_ns_per_byte(const struct tessi_gpus *gpus)
{
    double gb_s = gpus != NULL && gpus->count > 0 ? gpus->all[0].info.copy_gb_s : 0;
    return gb_s > 0 ? 1 / gb_s : 1 / COPY_GB_S;
}

void tessi_gpus_place(struct tessi_gpus *gpus, const struct tessi_flow_action *action)
{
    uint32_t id = name_get(gpus, action->out);
    struct name *name = &gpus->names[id];
    if (name->task_at == NONE) {
        struct gpu *gpu = holder(gpus, action);
        gpu = gpu != NULL && gpu->alive ? gpu : least_loaded(gpus);
        gpu = gpu != NULL ? gpu : &gpus->all[0]; /* all are lost: it gives the step back */
        name->task_at = name->home = (uint32_t)(gpu - gpus->all);
    }
}

bool tessi_gpus_apart(const struct tessi_gpus *gpus, const struct tessi_flow_action *action, uint32_t handle)
{
    uint32_t name = name_find(gpus, handle);
    uint32_t out = name_find(gpus, action->out);
    return name_away(gpus, name) && gpus->names[name].home != gpus->names[out].task_at;
}

void tessi_gpus_run(struct tessi_gpus *gpus, const struct tessi_flow_action *action)
{
    uint32_t id;
    if (gpus->free_run_count > 0) {
        id = gpus->free_runs[--gpus->free_run_count];
    } else {
        id = (uint32_t)gpus->run_count;
        tessi_grow(&gpus->runs, &gpus->run_capacity, ++gpus->run_count, sizeof *gpus->runs);
    }
    uint32_t out = name_get(gpus, action->out);
    struct gpu *gpu = &gpus->all[gpus->names[out].task_at];
    gpus->runs[id] = (struct run){.slot = action->slot,
                                  .run = action->run,
                                  .out = out,
                                  .layer = action->layer,
                                  .index = action->task.index,
                                  .step = action->step,
                                  .steps = action->steps,
                                  .assigned_ns = action->assigned_ns};
    uint32_t in[TESSI_STEP_REFS_MAX];
    uint64_t bytes[TESSI_STEP_REFS_MAX];
    gpus->names[out].task = action->task;
    struct tessi_step step;
    tessi_task_step(action->layer, action->task.index, action->step, &step);
    TESS_ASSERT(step.count == action->in_count);
    for (uint32_t i = 0; i < action->in_count; i++) {
        in[i] = name_get(gpus, action->in[i]);
        gpus->names[in[i]].task = (struct tessi_task){
            action->task.session, action->layer->reads[step.ref[i].input], step.ref[i].index};
        bytes[i] = tessi_block_bytes(tessi_store_block(gpus->store, action->in[i], false));
    }
    uint64_t out_bytes = tessi_block_bytes(tessi_store_block(gpus->store, action->out, false));
    gpu->steps++;
    feed(gpu, &(struct tessi_residency_event){.kind = TESSI_RESIDENCY_STEP,
                                              .step = id,
                                              .first = action->step == 0,
                                              .last = action->step + 1 == action->steps,
                                              .out = out,
                                              .out_bytes = out_bytes,
                                              .in_count = action->in_count,
                                              .in = in,
                                              .in_bytes = bytes});
}

void tessi_gpus_probe(struct tessi_gpus *gpus)
{
    for (uint32_t g = 0; g < gpus->count; g++) {
        struct gpu *gpu = &gpus->all[g];
        struct tessi_residency_stats before, after;
        tessi_residency_stats(gpu->residency, &before);
        if (!gpu->alive || before.capacity_bytes == gpu->memory_bytes) {
            continue;
        }
        if (!gpu->short_told) {
            gpu->short_told = true;
            tessi_log_event(TESSI_LOG_WARN, "gpu_memory_refused", "gpu=%" PRIu32 " bytes=%" PRIu64 " left=%" PRIu64 " reason="
                            TESSI_LOG_TEXT, gpu->number, gpu->memory_bytes, before.capacity_bytes,
                            "the device refused memory that the worker may take; others may have it");
        }
        feed(gpu, &(struct tessi_residency_event){.kind = TESSI_RESIDENCY_PROBE});
        tessi_residency_stats(gpu->residency, &after);
        if (after.capacity_bytes == gpu->memory_bytes) {
            gpu->short_told = false;
            tessi_log_event(TESSI_LOG_INFO, "gpu_memory_back", "gpu=%" PRIu32 " bytes=%" PRIu64, gpu->number,
                            after.capacity_bytes);
        }
        gpus->config.wake(gpus->config.context);
    }
    tessi_gpus_kick(gpus);
}

void tessi_gpus_kick(struct tessi_gpus *gpus)
{
    for (uint32_t g = 0; gpus != NULL && g < gpus->count; g++) {
        if (gpus->all[g].front != NULL) {
            tessi_lane_kick(gpus->all[g].front);
            tessi_lane_kick(gpus->all[g].back);
        }
    }
}

/* ——— blocks ——— */

bool tessi_gpus_away(const struct tessi_gpus *gpus, uint32_t handle)
{
    return name_away(gpus, name_find(gpus, handle));
}

uint64_t tessi_gpus_want(struct tessi_gpus *gpus, uint32_t handle)
{
    uint32_t name = name_find(gpus, handle);
    if (!name_away(gpus, name)) {
        return 0;
    }
    if (gpus->names[name].ticket == 0) {
        uint64_t ticket = gpus->names[name].ticket = ++gpus->tickets;
        if (gpus->names[name].lost) {
            return ticket; /* the outcome that is there already brings it */
        }
        feed(&gpus->all[gpus->names[name].home],
             &(struct tessi_residency_event){.kind = TESSI_RESIDENCY_WANTED, .handle = name});
        return ticket;
    }
    return gpus->names[name].ticket;
}

void tessi_gpus_forget(struct tessi_gpus *gpus, uint32_t handle)
{
    uint32_t name = name_find(gpus, handle);
    if (name == NONE) {
        return;
    }
    gpus->name_of[handle] = NONE;
    gpus->names[name].handle = NONE;
    for (size_t i = gpus->outcome_first; i < gpus->outcome_count; i++) { /* the handle may soon be another block's */
        struct tessi_gpus_outcome *outcome = &gpus->outcomes[i].it;
        outcome->handle = outcome->handle == handle ? NONE : outcome->handle;
    }
    if (gpus->names[name].ticket == 0 && !gpus->names[name].lost) { /* else somebody still waits for its bytes */
        forget_everywhere(gpus, name);
    }
}

uint32_t tessi_gpus_alive(const struct tessi_gpus *gpus)
{
    uint32_t alive = 0;
    for (uint32_t g = 0; gpus != NULL && g < gpus->count; g++) {
        alive += gpus->all[g].alive ? 1 : 0;
    }
    return alive;
}

void tessi_gpus_stats(const struct tessi_gpus *gpus, struct tessi_gpus_stats *stats)
{
    *stats = (struct tessi_gpus_stats){
        .devices = gpus->count, .alive = tessi_gpus_alive(gpus), .given_back = gpus->given_back};
    for (uint32_t g = 0; g < gpus->count; g++) {
        struct tessi_residency_stats one;
        tessi_residency_stats(gpus->all[g].residency, &one);
        stats->memory_bytes += one.capacity_bytes;
        stats->used_bytes += one.used_bytes;
        stats->copied_in_bytes += one.copied_in_bytes;
        stats->copied_out_bytes += one.copied_out_bytes;
        stats->steps += gpus->all[g].steps_run;
    }
}
