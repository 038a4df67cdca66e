#include "tests/kernels/compare.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/whole.h"
#include "worker/device/emulated/emulated.h"

struct end {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    enum tessi_status status;
    char text[256];
};

static void on_done(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    struct end *end = context;
    (void)run_ns;
    (void)pthread_mutex_lock(&end->lock);
    end->done = true;
    end->status = status;
    (void)strncpy(end->text, text, sizeof end->text - 1);
    (void)pthread_cond_broadcast(&end->changed);
    (void)pthread_mutex_unlock(&end->lock);
}

static void await(struct end *end, const struct tessi_layer *layer)
{
    (void)pthread_mutex_lock(&end->lock);
    while (!end->done) {
        (void)pthread_cond_wait(&end->changed, &end->lock);
    }
    (void)pthread_mutex_unlock(&end->lock);
    if (end->status != TESSI_OK) {
        fail_msg("%s of %s: %s", tessi_op_row(layer->op)->name, tessi_dtype_name(layer->dtype), end->text);
    }
}

static void copy(const struct compare_bench *bench, void *to, const void *from, size_t bytes, const struct tessi_layer *layer)
{
    struct end end = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(bench->kind->copy_async(bench->stream, to, from, bytes, on_done, &end), TESSI_OK);
    await(&end, layer);
}

/* All steps of one task, here and there. */
static void compare_task(const struct compare_bench *bench, const struct tessi_layer *layer, uint64_t index, double tolerance)
{
    const struct tessi_device_kind *kind = bench->kind;
    size_t bytes = (size_t)tessi_layer_block_bytes(layer, index);
    unsigned char *want = aligned_alloc(64, (bytes / 64 + 1) * 64);
    unsigned char *got = aligned_alloc(64, (bytes / 64 + 1) * 64);
    void *out = NULL;
    uint32_t steps = tessi_task_steps(layer, index);
    assert_int_equal(kind->alloc(bench->device, bytes + 1, &out, NULL), TESSI_OK);
    memset(want, 0, bytes);
    copy(bench, out, want, bytes, layer);
    for (uint32_t s = 0; s < steps; s++) {
        struct tessi_launch launch = {.call = {.layer = layer, .index = index, .step = s, .steps = steps, .out = want}};
        struct end end = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
        struct tessi_error error;
        struct tessi_step step;
        void *here[TESSI_STEP_REFS_MAX];
        void *there[TESSI_STEP_REFS_MAX];
        tessi_task_step(layer, index, s, &step);
        for (uint32_t r = 0; r < step.count; r++) {
            const struct tessi_input *input = &layer->input[step.ref[r].input];
            uint64_t in_bytes = tessi_input_block_bytes(input, step.ref[r].index);
            int64_t count = (int64_t)(in_bytes / tessi_dtype_size(input->dtype));
            here[r] = whole_random(input->dtype, count, 7 * step.ref[r].index + step.ref[r].input, tolerance == 0);
            launch.call.in[r] = here[r];
            assert_int_equal(kind->alloc(bench->device, (size_t)in_bytes + 1, &there[r], NULL), TESSI_OK);
            copy(bench, there[r], here[r], (size_t)in_bytes, layer);
        }
        if (tessi_kernel_run(&launch.call, &error) != TESSI_OK) {
            fail_msg("%s", error.text);
        }
        launch.call.out = out;
        for (uint32_t r = 0; r < step.count; r++) {
            launch.call.in[r] = there[r];
        }
        launch.done = on_done;
        launch.context = &end;
        assert_int_equal(kind->launch(bench->stream, &launch), TESSI_OK);
        kind->kick(bench->stream);
        await(&end, layer);
        for (uint32_t r = 0; r < step.count; r++) {
            free(here[r]);
            kind->free(bench->device, there[r]);
        }
    }
    copy(bench, got, out, bytes, layer);
    int64_t count = (int64_t)(bytes / tessi_dtype_size(layer->dtype));
    if (tolerance == 0) {
        whole_assert_equal(layer->dtype, got, want, count);
    } else {
        whole_assert_near(layer->dtype, got, want, count, tolerance);
    }
    kind->free(bench->device, out);
    free(want);
    free(got);
}

void compare_layer(struct compare_bench *bench, struct tessi_layer *layer, double tolerance)
{
    struct tessi_error error;
    if (tessi_layer_check(layer, &error) != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    bench->layers++;
    if (!bench->kind->supports(bench->device, layer)) {
        bench->unsupported++;
    } else {
        for (uint64_t t = 0; t < tessi_layer_tasks(layer); t++) {
            compare_task(bench, layer, t, bench->kind == &tessi_device_emulated ? 0 : tolerance);
        }
    }
    tessi_layer_destroy(layer);
}

void compare_open(struct compare_bench *bench, const struct tessi_device_kind *kind, uint32_t ordinal)
{
    struct tessi_device_options options = {.spec = "memory=64MiB", .ordinal = ordinal};
    struct tessi_error error;
    *bench = (struct compare_bench){.kind = kind};
    if (kind->open(&options, &bench->device, &error) != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(kind->stream_open(bench->device, &(struct tessi_stream_options){0}, &bench->stream, NULL), TESSI_OK);
}

void compare_close(struct compare_bench *bench)
{
    bench->kind->stream_close(bench->stream);
    bench->kind->close(bench->device);
}
