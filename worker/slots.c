#include "worker/slots.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "worker/device/cpu/cpu.h"
#include "worker/settings.h"

struct slot {
    struct tessi_stream *stream;
    uint32_t preparing; /* steps handed over behind an empty copy, whose outcome has not been taken */
};

struct step { /* one that is with a slot */
    struct tessi_slots *slots;
    uint32_t slot, run;
    bool prepared;
    /* Of prepared steps only: */
    struct tessi_block *out;
    struct tessi_kernel_call call;
    struct tessi_layer *layer; /* a copy, with the file that was found */
};

struct finished {
    struct tessi_slot_outcome outcome;
    bool prepared;
};

struct finished_list {
    struct finished *items;
    size_t count, capacity;
};

struct tessi_slots {
    struct tessi_slots_config config;
    char *data_dir;
    struct tessi_device *device;
    struct slot *all;
    pthread_mutex_t mutex;
    struct finished_list done;  /* under the mutex */
    struct finished_list taken; /* the owner's: taken from `done` all at once */
    size_t taken_at;
    atomic_bool woken; /* the owner has been told and has not looked yet */
};

/* ——— the slot's thread ——— */

static void step_end(struct step *step, enum tessi_status status, const char *text, int64_t ran_ns)
{
    struct tessi_slots *slots = step->slots;
    struct finished finished = {{step->slot, step->run, status, ran_ns, NULL}, step->prepared};
    if (status != TESSI_OK) {
        finished.outcome.text = tessi_strdup(text);
    }
    tessi_layer_destroy(step->layer);
    tessi_free(step);
    (void)pthread_mutex_lock(&slots->mutex);
    tessi_grow(&slots->done.items, &slots->done.capacity, slots->done.count + 1, sizeof finished);
    slots->done.items[slots->done.count++] = finished;
    (void)pthread_mutex_unlock(&slots->mutex);
    if (!atomic_exchange(&slots->woken, true)) {
        slots->config.wake(slots->config.context);
    }
}

static void on_step_done(void *context, enum tessi_status status, const char *text, int64_t ran_ns)
{
    step_end(context, status, text, ran_ns);
}

/* A copy of the layer that names the file by a path without symbolic links, if it may be read at all. */
static enum tessi_status find_file(const struct tessi_slots *slots, const struct tessi_layer *layer,
                                   struct tessi_layer **found, struct tessi_error *error)
{
    char *path;
    if (slots->data_dir == NULL && !slots->config.files_allowed) {
        return tessi_fail(error, TESSI_AUTH,
                          "%s: this worker reads no files for clients on other machines: start it with "
                          "--data for the directory that holds it",
                          layer->as.npy.path);
    }
    enum tessi_status status = tessi_settings_resolve(slots->data_dir, layer->as.npy.path, &path, error);
    if (status == TESSI_OK) {
        *found = tessi_layer_copy(layer);
        tessi_free((*found)->as.npy.path);
        (*found)->as.npy.path = path;
    }
    return status;
}

/* The empty copy before a step has been reached. */
static void on_reached(void *context, enum tessi_status status, const char *text, int64_t ran_ns)
{
    struct step *step = context;
    struct tessi_error error = {TESSI_OK, ""};
    (void)ran_ns;
    if (status != TESSI_OK) {
        step_end(step, status, text, 0);
        return;
    }
    status = tessi_block_commit(step->out, &error);
    if (status == TESSI_OK && step->call.layer->op == TESSI_OP_READ_NPY) {
        status = find_file(step->slots, step->call.layer, &step->layer, &error);
        step->call.layer = step->layer;
    }
    if (status != TESSI_OK) {
        step_end(step, status, error.text, 0);
        return;
    }
    struct tessi_stream *stream = step->slots->all[step->slot].stream;
    status = tessi_device_cpu.launch(stream, &step->call, on_step_done, step);
    TESS_ASSERT(status == TESSI_OK); /* the stream has room for twice what is handed over */
}

/* ——— the owner ——— */

enum tessi_status tessi_slots_create(const struct tessi_slots_config *config, struct tessi_slots **out,
                                     struct tessi_error *error)
{
    *out = NULL;
    enum tessi_status status;
    struct tessi_slots *slots = tessi_zalloc(sizeof *slots);
    slots->config = *config;
    slots->data_dir = tessi_strdup(config->data_dir);
    slots->all = tessi_zalloc(config->count * sizeof *slots->all);
    (void)pthread_mutex_init(&slots->mutex, NULL);
    struct tessi_device_options device = {.blas_family = config->blas_family};
    TESSI_TRY(tessi_device_cpu.open(&device, &slots->device, error));
    uint32_t processors = tessi_settings_processors();
    for (uint32_t i = 0; i < config->count; i++) {
        struct tessi_stream_options options = {
            .depth = 2 * config->depth + 2, .pin = config->pin, .core = tessi_settings_processor(i % processors)};
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
    struct tessi_slot_outcome outcome;
    while (tessi_slots_take(slots, &outcome)) {
        tessi_free(outcome.text);
    }
    (void)pthread_mutex_destroy(&slots->mutex);
    tessi_free(slots->done.items);
    tessi_free(slots->taken.items);
    tessi_free(slots->all);
    tessi_free(slots->data_dir);
    tessi_free(slots);
}

void tessi_slots_run(struct tessi_slots *slots, const struct tessi_flow_action *action, struct tessi_store *store)
{
    struct slot *slot = &slots->all[action->slot];
    struct tessi_block *out = tessi_store_block(store, action->out, false);
    struct tessi_kernel_call call = {.layer = action->layer,
                                     .index = action->task.index,
                                     .step = action->step,
                                     .steps = action->steps,
                                     .out = tessi_block_data(out)};
    for (uint32_t i = 0; i < action->in_count; i++) {
        call.in[i] = tessi_block_data(tessi_store_block(store, action->in[i], false));
    }
    struct step *step = tessi_zalloc(sizeof *step);
    step->slots = slots;
    step->slot = action->slot;
    step->run = action->run;
    bool plain = tessi_block_committed(out) && action->layer->op != TESSI_OP_READ_NPY;
    enum tessi_status status;
    if (plain && slot->preparing == 0) {
        status = tessi_device_cpu.launch(slot->stream, &call, on_step_done, step);
    } else {
        slot->preparing++;
        step->prepared = true;
        step->out = out;
        step->call = call;
        status = tessi_device_cpu.copy_async(slot->stream, call.out, call.out, 0, on_reached, step);
    }
    TESS_ASSERT(status == TESSI_OK);
}

bool tessi_slots_take(struct tessi_slots *slots, struct tessi_slot_outcome *outcome)
{
    if (slots->taken_at == slots->taken.count) {
        slots->taken.count = slots->taken_at = 0;
        atomic_store(&slots->woken, false);
        (void)pthread_mutex_lock(&slots->mutex);
        struct finished_list empty = slots->taken;
        slots->taken = slots->done;
        slots->done = empty;
        (void)pthread_mutex_unlock(&slots->mutex);
        if (slots->taken.count == 0) {
            return false;
        }
    }
    const struct finished *finished = &slots->taken.items[slots->taken_at++];
    *outcome = finished->outcome;
    if (finished->prepared) {
        slots->all[outcome->slot].preparing--;
    }
    return true;
}

enum tessi_status tessi_slots_make(struct tessi_slots *slots, const struct tessi_layer *layer, uint64_t index,
                                   void *out, struct tessi_error *error)
{
    enum tessi_status status = TESSI_OK;
    struct tessi_layer *found = NULL;
    struct tessi_kernel_call call = {
        .layer = layer, .index = index, .steps = tessi_task_steps(layer, index), .out = out};
    if (layer->op == TESSI_OP_READ_NPY) {
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
