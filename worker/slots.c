#include "worker/slots.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/array/npy.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/host.h"
#include "worker/device/cpu/cpu.h"
#include "worker/device/cpu/processor.h"
#include "worker/settings.h"

/* Run time after which the owner hears of steps that have ended, at the latest; the second one where other workers wait
 * for blocks from here, or where there is one slot: its owner seldom takes its processor, and looks again at once while
 * the queue is short. */
#define UNSEEN_NS INT64_C(250000)
#define AWAITED_NS INT64_C(100000)
#define WAKES_NS INT64_C(40000) /* what two wake-ups cost: steps to a slot that sleeps, and word of their end */
#define LONE_NS INT64_C(160000) /* where there is one slot, nothing else can end here meanwhile: only requests wait */

struct step { /* one that is with a slot */
    struct tessi_launch launch;
    struct tessi_task task; /* for the trace, as the next one */
    int64_t assigned_ns;
    struct tessi_slots *slots;
    struct slot *slot;
    struct tessi_block *out;
    struct tessi_layer *layer; /* a copy, with the file that was found; NULL */
    bool cancelled;
    enum tessi_status status;
    int64_t ran_ns;
    char *text; /* of a failure; until the place is used again */
};

/* Steps go through a ring: the owner fills it, the slot's thread ends them one after the other, the owner takes
 * their outcomes in the same order. */
struct slot {
    struct tessi_stream *stream;
    struct step *steps;                          /* run n is at n % depth */
    uint64_t taken;                              /* runs whose outcomes the owner has */
    bool kick;                                   /* it has been given something and may sleep */
    int64_t given_ns;                            /* what that should take; not added up beyond `brief_ns` */
    _Alignas(64) atomic_uint_fast64_t submitted; /* runs; written by the owner, as is what follows */
    atomic_uint_fast64_t wake_at;                /* when so many have ended, the owner wants to know */
    _Alignas(64) atomic_uint_fast64_t ended;     /* runs; written by the slot's thread */
    int64_t unseen_ns;                           /* run time since the owner last looked or was told */
    unsigned look;                               /* that was this one */
    struct tessi_trace_ring *trace;              /* likewise the thread's */
};

struct tessi_slots {
    struct tessi_slots_config config;
    char *data_dir, *write_dir;
    char *name;
    uint64_t host;
    struct tessi_device *device;
    struct slot *all;
    int64_t brief_ns;               /* work that takes less may be done by the owner */
    uint32_t kicks;                 /* slots with `kick` */
    _Alignas(64) atomic_bool woken; /* the owner has been told and has not looked yet */
    atomic_uint looks;              /* times that it has looked */
    atomic_bool awaited;
};

/* ——— the slot's thread ——— */

/* A step that was not run is no event. */
static void trace_step(const struct step *step)
{
    if (step->status != TESSI_CANCELLED) {
        const struct tessi_launch *launch = &step->launch;
        tessi_trace_run(step->slot->trace, step->task.session, step->task.layer, step->task.index, launch->call.step,
                        (uint32_t)step->status, step->assigned_ns, launch->started_ns,
                        launch->started_ns + step->ran_ns);
    }
}

static bool is_of_files(const struct tessi_layer *layer)
{
    return tessi_op_row(layer->op)->file != TESSI_FILE_NO;
}

/* Files may be there on one machine and not on the next: whoever is told of one hears where. */
static char *failure_text(const struct step *step, const char *text)
{
    if (!is_of_files(step->launch.call.layer)) {
        return tessi_strdup(text);
    }
    struct tessi_error error;
    (void)tessi_fail(&error, TESSI_IO, "worker %s: %s", step->slots->name, text);
    return tessi_strdup(error.text);
}

/* The owner is woken when the queue is half empty or runs dry, and after some time: not for every short step. */
static void on_step_done(void *context, enum tessi_status status, const char *text, int64_t ran_ns)
{
    struct step *step = context;
    struct slot *slot = step->slot;
    struct tessi_slots *slots = step->slots;
    step->status = status;
    step->ran_ns = ran_ns;
    if (status != TESSI_OK) {
        step->text = failure_text(step, text);
    }
    if (step->layer != NULL) {
        tessi_layer_destroy(step->layer);
        step->layer = NULL;
    }
    trace_step(step);
    unsigned look = atomic_load_explicit(&slots->looks, memory_order_relaxed);
    bool awaited = slots->config.count == 1 || atomic_load_explicit(&slots->awaited, memory_order_relaxed);
    slot->unseen_ns = slot->look == look ? slot->unseen_ns + ran_ns : ran_ns;
    slot->look = look;
    uint64_t ended = atomic_load_explicit(&slot->ended, memory_order_relaxed) + 1;
    atomic_store(&slot->ended, ended);
    if (ended >= atomic_load_explicit(&slot->wake_at, memory_order_relaxed) ||
        slot->unseen_ns >= (awaited ? AWAITED_NS : UNSEEN_NS) || ended == atomic_load(&slot->submitted)) {
        slot->unseen_ns = 0;
        if (ended != atomic_load(&slot->submitted)) {
            tessi_cpu_give_way(slot->stream);
        }
        if (!atomic_exchange(&slots->woken, true)) {
            slots->config.wake(slots->config.context);
        }
    }
}

static enum tessi_status find_to_read(const struct tessi_slots *slots, const char *named, char **path,
                                      struct tessi_error *error)
{
    if (slots->data_dir == NULL && !slots->config.files_allowed) {
        return tessi_fail(error, TESSI_AUTH,
                          "%s: this worker reads no files for clients on other machines: start it with "
                          "--data for the directory that holds it",
                          named);
    }
    return tessi_settings_resolve(slots->data_dir, "--data", named, path, error);
}

/* Only what clients of this library make for it is written to, never a file that has another name. */
static enum tessi_status find_to_write(const struct tessi_slots *slots, const struct tessi_layer *layer, char **path,
                                       struct tessi_error *error)
{
    const char *named = layer->as.write.path;
    if (slots->config.own_process && strncmp(named, TESSI_NPY_OWN, strlen(TESSI_NPY_OWN)) == 0) {
        *path = tessi_strdup(named);
        return TESSI_OK;
    }
    const char *name = strrchr(named, '/');
    if (slots->write_dir == NULL || name == NULL ||
        strncmp(name + 1, TESSI_NPY_TEMPORARY, strlen(TESSI_NPY_TEMPORARY)) != 0) {
        return tessi_fail(error, TESSI_AUTH,
                          "%s: this worker writes no such files: start it with --write for a directory",
                          layer->as.write.target);
    }
    enum tessi_status status = tessi_settings_resolve(slots->write_dir, "--write", named, path, error);
    return status == TESSI_IO ? TESSI_NOT_FOUND : status; /* the client writes itself where we cannot */
}

/* A copy of the layer that names the file by a path without symbolic links, if it may be used at all. */
static enum tessi_status find_file(const struct tessi_slots *slots, const struct tessi_layer *layer,
                                   struct tessi_layer **found, struct tessi_error *error)
{
    char *path;
    bool writes = tessi_op_row(layer->op)->file == TESSI_FILE_WRITTEN;
    enum tessi_status status =
        writes ? find_to_write(slots, layer, &path, error) : find_to_read(slots, layer->as.npy.path, &path, error);
    if (status != TESSI_OK) {
        return status;
    }
    *found = tessi_layer_copy(layer);
    if (writes) {
        tessi_free((*found)->as.write.path);
        (*found)->as.write.path = path;
        (*found)->as.write.host = layer->as.write.host == slots->host ? 0 : layer->as.write.host;
    } else {
        tessi_free((*found)->as.npy.path);
        (*found)->as.npy.path = path;
    }
    return TESSI_OK;
}

/* What can take long and is not for the owner's thread: the pages of the output, the search for a file. */
static enum tessi_status prepare(void *context, struct tessi_kernel_call *call, struct tessi_error *error)
{
    struct step *step = context;
    enum tessi_status status = TESSI_OK;
    if (step->cancelled) {
        return tessi_fail(error, TESSI_CANCELLED, "what the step reads has been lost");
    }
    if (!tessi_block_committed(step->out)) {
        TESSI_TRY(tessi_block_commit(step->out, error));
    }
    if (is_of_files(call->layer)) {
        TESSI_TRY(find_file(step->slots, call->layer, &step->layer, error));
        call->layer = step->layer;
    }
cleanup:
    return status;
}

/* ——— the owner ——— */

static void kick(struct tessi_slots *slots, struct slot *slot)
{
    slot->kick = false;
    slots->kicks--;
    tessi_device_cpu.kick(slot->stream);
}

enum tessi_status tessi_slots_create(const struct tessi_slots_config *config, struct tessi_slots **out,
                                     struct tessi_error *error)
{
    *out = NULL;
    enum tessi_status status;
    struct tessi_slots *slots = aligned_alloc(_Alignof(struct tessi_slots), sizeof *slots);
    if (slots == NULL) {
        return tessi_fail(error, TESSI_NOMEM, "no memory for %" PRIu32 " slots", config->count);
    }
    memset(slots, 0, sizeof *slots);
    slots->config = *config;
    slots->brief_ns = config->count == 1 ? LONE_NS : WAKES_NS;
    slots->data_dir = tessi_strdup(config->data_dir);
    slots->write_dir = tessi_strdup(config->write_dir);
    slots->host = tessi_host_number();
    slots->name = tessi_strdup(config->name);
    slots->all = aligned_alloc(_Alignof(struct slot), config->count * sizeof *slots->all);
    if (slots->all == NULL) {
        tessi_free(slots->data_dir);
        tessi_free(slots->write_dir);
        tessi_free(slots->name);
        free(slots);
        return tessi_fail(error, TESSI_NOMEM, "no memory for %" PRIu32 " slots", config->count);
    }
    memset(slots->all, 0, config->count * sizeof *slots->all);
    struct tessi_device_options device = {.blas_family = config->blas_family};
    TESSI_TRY(tessi_device_cpu.open(&device, &slots->device, error));
    uint32_t processors = tessi_processors();
    for (uint32_t i = 0; i < config->count; i++) {
        char lane[32];
        (void)snprintf(lane, sizeof lane, "slot %" PRIu32, i);
        slots->all[i].trace = tessi_trace_add(config->trace, lane);
        slots->all[i].steps = tessi_zalloc(config->depth * sizeof *slots->all[i].steps);
        struct tessi_stream_options options = {
            .depth = config->depth, .pin = config->pin, .core = tessi_settings_processor(i % processors)};
        TESSI_TRY(tessi_device_cpu.stream_open(slots->device, &options, &slots->all[i].stream, error));
    }
    *out = slots;
    return TESSI_OK;
cleanup:
    tessi_slots_destroy(slots);
    return status;
}

void tessi_slots_stop(struct tessi_slots *slots)
{
    for (uint32_t i = 0; i < slots->config.count; i++) {
        if (slots->all[i].kick) {
            kick(slots, &slots->all[i]); /* others may wait for what it has been given */
        }
    }
    for (uint32_t i = 0; i < slots->config.count; i++) {
        tessi_device_cpu.stream_close(slots->all[i].stream);
        slots->all[i].stream = NULL;
    }
}

void tessi_slots_destroy(struct tessi_slots *slots)
{
    if (slots == NULL) {
        return;
    }
    tessi_slots_stop(slots);
    tessi_device_cpu.close(slots->device);
    for (uint32_t i = 0; i < slots->config.count; i++) {
        for (uint32_t k = 0; slots->all[i].steps != NULL && k < slots->config.depth; k++) {
            tessi_free(slots->all[i].steps[k].text);
        }
        tessi_free(slots->all[i].steps);
    }
    free(slots->all);
    tessi_free(slots->data_dir);
    tessi_free(slots->write_dir);
    tessi_free(slots->name);
    free(slots);
}

/* What the step should take. Until one of its layer has been measured: long enough for a slow processor. A task of a
 * program's own that has never ended here goes to the slot: should the worker die of it, the loop goes on meanwhile to
 * say that it began. */
static int64_t expected_ns(const struct tessi_flow_action *action)
{
    if (action->step_ns > 0) {
        return action->step_ns;
    }
    if (is_of_files(action->layer) || action->layer->op == TESSI_OP_SYNTHETIC) {
        return INT64_MAX;
    }
    struct tessi_cost cost = tessi_task_cost(action->layer, action->task.index);
    return cost.flops + cost.bytes < (double)WAKES_NS ? (int64_t)(cost.flops + cost.bytes) : INT64_MAX;
}

/* When half of what is left there has ended. */
static void wake_at_half(struct slot *slot)
{
    uint64_t left = atomic_load_explicit(&slot->submitted, memory_order_relaxed) - slot->taken;
    atomic_store_explicit(&slot->wake_at, slot->taken + (left + 1) / 2, memory_order_relaxed);
}

void tessi_slots_run(struct tessi_slots *slots, const struct tessi_flow_action *action, struct tessi_store *store,
                     bool cancelled)
{
    struct slot *slot = &slots->all[action->slot];
    struct step *step = &slot->steps[action->run % slots->config.depth];
    struct tessi_launch *launch = &step->launch;
    uint64_t submitted = atomic_load_explicit(&slot->submitted, memory_order_relaxed);
    TESS_ASSERT(action->run == submitted + 1 && submitted - slot->taken < slots->config.depth);
    tessi_free(step->text);
    step->text = NULL;
    step->slots = slots;
    step->slot = slot;
    step->task = action->task;
    step->assigned_ns = action->assigned_ns;
    step->out = tessi_store_block(store, action->out, false);
    launch->call.layer = action->layer;
    launch->call.index = action->task.index;
    launch->call.step = action->step;
    launch->call.steps = action->steps;
    launch->call.out = tessi_block_data(step->out);
    for (uint32_t i = 0; i < action->in_count; i++) {
        launch->call.in[i] = tessi_block_data(tessi_store_block(store, action->in[i], false));
    }
    launch->after_count = action->after_count;
    for (uint32_t i = 0; i < action->after_count; i++) {
        const struct tessi_flow_after *after = &action->after[i];
        launch->after[i] = (struct tessi_after){slots->all[after->slot].stream, after->first, after->last};
    }
    step->cancelled = cancelled;
    launch->prepare = prepare;
    launch->done = on_step_done;
    launch->context = step;
    atomic_store(&slot->submitted, submitted + 1);
    wake_at_half(slot);
    enum tessi_status status = tessi_device_cpu.launch(slot->stream, launch);
    TESS_ASSERT(status == TESSI_OK);
    slots->kicks += slot->kick ? 0 : 1;
    slot->given_ns = slot->kick ? slot->given_ns : 0;
    slot->kick = true;
    if (slot->given_ns < slots->brief_ns) {
        int64_t expected = expected_ns(action);
        slot->given_ns = expected < slots->brief_ns ? slot->given_ns + expected : slots->brief_ns;
    }
}

void tessi_slots_kick(struct tessi_slots *slots)
{
    for (uint32_t i = 0; slots->kicks > 0 && i < slots->config.count; i++) {
        struct slot *slot = &slots->all[i];
        if (slot->kick && (slots->kicks > 1 || slot->given_ns >= slots->brief_ns)) {
            kick(slots, slot);
        }
    }
}

bool tessi_slots_help(struct tessi_slots *slots)
{
    bool tried = false;
    for (uint32_t i = 0; slots->kicks > 0 && i < slots->config.count; i++) {
        struct slot *slot = &slots->all[i];
        if (slot->kick) {
            atomic_store(&slots->woken, true); /* who helps looks afterwards anyway */
            tried = true;
            if (tessi_device_cpu.help(slot->stream)) {
                slot->kick = false;
                slots->kicks--;
            } else {
                kick(slots, slot);
            }
        }
    }
    return tried;
}

void tessi_slots_rest(struct tessi_slots *slots, bool awaited)
{
    if (awaited != atomic_load_explicit(&slots->awaited, memory_order_relaxed)) {
        atomic_store_explicit(&slots->awaited, awaited, memory_order_relaxed);
    }
    for (uint32_t i = 0; i < slots->config.count; i++) {
        tessi_cpu_come_back(slots->all[i].stream);
    }
}

uint32_t tessi_slots_busy(const struct tessi_slots *slots)
{
    uint32_t busy = 0;
    for (uint32_t i = 0; i < slots->config.count; i++) {
        const struct slot *slot = &slots->all[i];
        busy += atomic_load_explicit(&slot->submitted, memory_order_relaxed) != slot->taken ? 1 : 0;
    }
    return busy;
}

bool tessi_slots_call(const struct tessi_slots *slots)
{
    return atomic_load_explicit(&slots->woken, memory_order_relaxed);
}

size_t tessi_slots_take(struct tessi_slots *slots, struct tessi_flow_outcome *outcomes, size_t limit)
{
    size_t count = 0;
    atomic_store(&slots->woken, false);
    unsigned looks = atomic_load_explicit(&slots->looks, memory_order_relaxed);
    atomic_store_explicit(&slots->looks, looks + 1, memory_order_relaxed);
    for (uint32_t i = 0; i < slots->config.count && count < limit; i++) {
        struct slot *slot = &slots->all[i];
        uint64_t ended = atomic_load(&slot->ended);
        while (slot->taken < ended && count < limit) {
            const struct step *step = &slot->steps[++slot->taken % slots->config.depth];
            outcomes[count++] =
                (struct tessi_flow_outcome){i, slot->taken, step->ran_ns, step->status, step->text, false};
        }
        if (slots->config.count > 1) {
            wake_at_half(slot);
        }
    }
    return count;
}

enum tessi_status tessi_slots_make(struct tessi_slots *slots, const struct tessi_layer *layer, uint64_t index,
                                   void *out, struct tessi_error *error)
{
    enum tessi_status status = TESSI_OK;
    struct tessi_layer *found = NULL;
    struct tessi_kernel_call call = {
        .layer = layer, .index = index, .steps = tessi_task_steps(layer, index), .out = out};
    if (is_of_files(layer)) {
        TESSI_TRY(find_file(slots, layer, &found, error));
        call.layer = found;
    }
    for (call.step = 0; call.step < call.steps; call.step++) {
        TESSI_TRY(tessi_kernel_run(&call, error));
    }
cleanup:
    tessi_layer_destroy(found);
    return status;
}
