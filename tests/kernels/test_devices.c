/* Every kind of device that this machine has, the emulated one always: memory, copies, kernels against the CPU's, order
 * between streams, refusals. What is found for CUDA is said. */
#include "tests/kernels/whole.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/device/cpu/cpu.h"
#include "worker/device/emulated/emulated.h"
#include "worker/device/plugin.h"

struct waiter { /* counts what has ended */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t done;
    enum tessi_status status; /* the last that was not OK */
};

static void on_done(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    struct waiter *waiter = context;
    assert_true(run_ns >= 0 && (text[0] != 0) == (status != TESSI_OK));
    (void)pthread_mutex_lock(&waiter->lock);
    waiter->done++;
    waiter->status = status != TESSI_OK ? status : waiter->status;
    (void)pthread_cond_broadcast(&waiter->changed);
    (void)pthread_mutex_unlock(&waiter->lock);
}

static void wait_for(struct waiter *waiter, uint32_t count)
{
    (void)pthread_mutex_lock(&waiter->lock);
    while (waiter->done < count) {
        (void)pthread_cond_wait(&waiter->changed, &waiter->lock);
    }
    (void)pthread_mutex_unlock(&waiter->lock);
}

static const struct tessi_device_kind *kinds[2] = {&tessi_device_emulated};
static size_t kind_count = 1;

/* CUDA comes second where there is a device; else why not is said. */
static void find_kinds(void)
{
    struct tessi_error error = {0};
    const struct tessi_device_kind *cuda = tessi_device_cuda(&error);
    if (cuda != NULL && cuda->count(&(struct tessi_device_options){0}, &error) > 0) {
        kinds[kind_count++] = cuda;
        print_message("# with CUDA\n");
    } else {
        print_message("# without CUDA: %s\n", error.text);
    }
}

static struct tessi_device *open_device(const struct tessi_device_kind *kind, const char *spec)
{
    struct tessi_error error = {0};
    struct tessi_device *device = NULL;
    if (kind->open(&(struct tessi_device_options){.spec = spec}, &device, &error) != TESSI_OK) {
        fail_msg("%s: %s", kind->name, error.text);
    }
    return device;
}

static struct tessi_stream *open_stream(const struct tessi_device_kind *kind, struct tessi_device *device)
{
    struct tessi_stream *stream = NULL;
    assert_int_equal(kind->stream_open(device, &(struct tessi_stream_options){.depth = 256}, &stream, NULL), TESSI_OK);
    return stream;
}

/* ——— */

static void test_memory(void **state)
{
    (void)state;
    for (size_t k = 0; k < kind_count; k++) {
        const struct tessi_device_kind *kind = kinds[k];
        struct tessi_device *device = open_device(kind, "memory=1MiB");
        struct tessi_device_memory before;
        struct tessi_device_memory after;
        void *blocks[8];
        kind->memory(device, &before);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(kind->alloc(device, 10000 + (size_t)i, &blocks[i], NULL), TESSI_OK);
            assert_int_equal((uintptr_t)blocks[i] % 64, 0);
            for (int j = 0; j < i; j++) {
                uintptr_t a = (uintptr_t)blocks[i];
                uintptr_t b = (uintptr_t)blocks[j];
                assert_true(a >= b + 10000 + (uintptr_t)j || b >= a + 10000 + (uintptr_t)i);
            }
        }
        static const int order[8] = {3, 0, 7, 1, 2, 6, 5, 4};
        for (int i = 0; i < 8; i++) {
            kind->free(device, blocks[order[i]]);
        }
        kind->free(device, NULL);
        kind->memory(device, &after);
        assert_true(after.total_bytes == before.total_bytes && after.total_bytes >= after.free_bytes);
        if (kind == &tessi_device_emulated) {
            assert_true(after.free_bytes == after.total_bytes);
            void *all = NULL; /* the holes have been joined again */
            assert_int_equal(kind->alloc(device, after.total_bytes, &all, NULL), TESSI_OK);
            struct tessi_error error;
            assert_int_equal(kind->alloc(device, 1, &blocks[0], &error), TESSI_NOMEM);
            assert_non_null(strstr(error.text, "bytes"));
            kind->free(device, all);
        }
        kind->close(device);
    }
}

/* Out, through the device and back, in pieces of all lengths. */
static void test_copies(void **state)
{
    enum { BYTES = 70000 };
    (void)state;
    for (size_t k = 0; k < kind_count; k++) {
        const struct tessi_device_kind *kind = kinds[k];
        struct tessi_device *device = open_device(kind, "memory=1MiB,copy=1GiB,latency=5");
        struct tessi_stream *stream = open_stream(kind, device);
        struct waiter waiter = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
        unsigned char *from = malloc(BYTES);
        unsigned char *to = calloc(BYTES, 1);
        void *blocks[2];
        uint32_t count = 0;
        for (size_t i = 0; i < BYTES; i++) {
            from[i] = (unsigned char)(i * 31 + i / 251);
        }
        assert_int_equal(kind->alloc(device, BYTES, &blocks[0], NULL), TESSI_OK);
        assert_int_equal(kind->alloc(device, BYTES, &blocks[1], NULL), TESSI_OK);
        for (size_t at = 0, length = 1; at < BYTES; at += length, length = length * 3 % 20011) {
            size_t part = BYTES - at < length ? BYTES - at : length;
            assert_int_equal(kind->copy_async(stream, (char *)blocks[0] + at, from + at, part, on_done, &waiter), TESSI_OK);
            count++;
        }
        assert_int_equal(kind->copy_async(stream, blocks[1], blocks[0], BYTES, on_done, &waiter), TESSI_OK);
        assert_int_equal(kind->copy_async(stream, to, blocks[1], BYTES, on_done, &waiter), TESSI_OK);
        wait_for(&waiter, count + 2);
        assert_int_equal(waiter.status, TESSI_OK);
        assert_memory_equal(from, to, BYTES);
        kind->free(device, blocks[0]);
        kind->free(device, blocks[1]);
        kind->stream_close(stream);
        kind->close(device);
        free(from);
        free(to);
    }
}

/* A product: operands come by a stream of their own, its steps wait for the event, the result leaves by a third one. */
static void test_streams_and_events(void **state)
{
    enum { N = 60, CHUNK = 20, ROUNDS = 20 };
    (void)state;
    struct tessi_shape shape = SHAPE(N, N);
    int64_t chunk[2] = {N, N};
    int64_t panel_a[2] = {N, CHUNK};
    int64_t panel_b[2] = {CHUNK, N};
    struct tessi_layer *layer = whole_layer(TESSI_OP_MATMUL, TESSI_F64, &shape, chunk);
    whole_input(layer, TESSI_F64, &shape, panel_a)->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    struct tessi_input *b_input = whole_input(layer, TESSI_F64, &shape, panel_b);
    b_input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    b_input->rules.rule[1].dim = 1;
    layer->as.matmul.segment = N;
    double *panels[2][3];
    double want[N * N] = {0};
    for (int p = 0; p < 3; p++) {
        panels[0][p] = whole_random(TESSI_F64, N * CHUNK, 10 + (uint64_t)p, false);
        panels[1][p] = whole_random(TESSI_F64, N * CHUNK, 20 + (uint64_t)p, false);
    }
    for (uint32_t s = 0; s < 3; s++) {
        struct tessi_kernel_call call = {.layer = layer, .step = s, .steps = 3, .out = want};
        struct tessi_step step;
        tessi_task_step(layer, 0, s, &step);
        call.in[0] = panels[0][step.ref[0].index];
        call.in[1] = panels[1][step.ref[1].index];
        assert_int_equal(tessi_kernel_run(&call, NULL), TESSI_OK);
    }
    for (size_t k = 0; k < kind_count; k++) {
        const struct tessi_device_kind *kind = kinds[k];
        struct tessi_device *device = open_device(kind, "memory=8MiB,latency=30");
        assert_true(kind->supports(device, layer));
        struct tessi_stream *in = open_stream(kind, device);
        struct tessi_stream *compute = open_stream(kind, device);
        struct tessi_stream *out = open_stream(kind, device);
        for (int round = 0; round < ROUNDS; round++) {
            struct waiter waiter = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
            struct tessi_event *events[4];
            struct tessi_launch launches[3];
            void *blocks[7];
            double got[N * N];
            for (int i = 0; i < 7; i++) {
                size_t bytes = sizeof(double) * N * (i == 6 ? N : CHUNK);
                assert_int_equal(kind->alloc(device, bytes, &blocks[i], NULL), TESSI_OK);
            }
            for (uint32_t s = 0; s < 3; s++) {
                launches[s] = (struct tessi_launch){.call = {.layer = layer, .step = s, .steps = 3, .out = blocks[6]},
                                                    .done = on_done,
                                                    .context = &waiter};
                struct tessi_kernel_call *call = &launches[s].call;
                struct tessi_step step;
                tessi_task_step(layer, 0, s, &step);
                for (uint32_t i = 0; i < 2; i++) {
                    call->in[i] = blocks[2 * s + i];
                    assert_int_equal(kind->copy_async(in, blocks[2 * s + i], panels[i][step.ref[i].index],
                                                      sizeof(double) * N * CHUNK, on_done, &waiter), TESSI_OK);
                }
                assert_int_equal(kind->event_create(device, &events[s], NULL), TESSI_OK);
                assert_int_equal(kind->event_record(in, events[s]), TESSI_OK);
                assert_int_equal(kind->stream_wait(compute, events[s]), TESSI_OK);
                assert_int_equal(kind->launch(compute, &launches[s]), TESSI_OK);
                kind->kick(compute);
            }
            assert_int_equal(kind->event_create(device, &events[3], NULL), TESSI_OK);
            assert_true(kind->event_query(events[3])); /* never recorded: reached */
            assert_int_equal(kind->event_record(compute, events[3]), TESSI_OK);
            assert_int_equal(kind->stream_wait(out, events[3]), TESSI_OK);
            assert_int_equal(kind->copy_async(out, got, blocks[6], sizeof got, on_done, &waiter), TESSI_OK);
            wait_for(&waiter, 10);
            kind->event_wait(events[3]);
            assert_true(kind->event_query(events[3]));
            assert_int_equal(waiter.status, TESSI_OK);
            whole_assert_near(TESSI_F64, got, want, N * N, kind == &tessi_device_emulated ? 0 : 1e-13);
            for (int i = 0; i < 7; i++) {
                kind->free(device, blocks[i]);
            }
            for (int i = 0; i < 4; i++) {
                kind->event_destroy(events[i]);
            }
        }
        kind->stream_close(in);
        kind->stream_close(compute);
        kind->stream_close(out);
        kind->close(device);
    }
    for (int p = 0; p < 3; p++) {
        free(panels[0][p]);
        free(panels[1][p]);
    }
    tessi_layer_destroy(layer);
}

/* The emulated memory is out of the host's reach, as a device's is. */
static void test_emulated_memory_is_apart(void **state)
{
    (void)state;
    struct tessi_device *device = open_device(&tessi_device_emulated, NULL);
    void *block = NULL;
    assert_int_equal(tessi_device_emulated.alloc(device, 4096, &block, NULL), TESSI_OK);
    for (int writes = 0; writes < 2; writes++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            volatile unsigned char *bytes = block;
            (void)signal(SIGSEGV, SIG_DFL);
            if (writes != 0) {
                bytes[7] = 1;
            }
            _exit(bytes[7] == 77 ? 1 : 0);
        }
        int outcome = 0;
        assert_int_equal(waitpid(child, &outcome, 0), child);
        assert_true(WIFSIGNALED(outcome) && WTERMSIG(outcome) == SIGSEGV);
    }
    tessi_device_emulated.free(device, block);
    tessi_device_emulated.close(device);
}

static void test_emulated_faults(void **state)
{
    const struct tessi_device_kind *kind = &tessi_device_emulated;
    (void)state;
    struct tessi_error error;
    struct tessi_device *device = open_device(kind, "memory=1MiB,hidden=256KiB,refuse=3,break=2,compute=0.5");
    void *blocks[3];
    assert_int_equal(kind->alloc(device, 512 << 10, &blocks[0], NULL), TESSI_OK);
    assert_int_equal(kind->alloc(device, 300 << 10, &blocks[1], &error), TESSI_NOMEM); /* hidden */
    assert_int_equal(kind->alloc(device, 1 << 10, &blocks[1], &error), TESSI_NOMEM);   /* the third */
    assert_int_equal(kind->alloc(device, 1 << 10, &blocks[1], NULL), TESSI_OK);
    struct tessi_stream *stream = open_stream(kind, device);
    struct waiter waiter = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct tessi_shape shape = SHAPE(64);
    struct tessi_layer *layer = whole_layer(TESSI_OP_FULL, TESSI_F64, &shape, NULL);
    layer->as.full = (struct tessi_scalar){.dtype = TESSI_F64, .as.f = 3};
    struct tessi_launch launch = {
        .call = {.layer = layer, .steps = 1, .out = blocks[1]}, .done = on_done, .context = &waiter};
    assert_int_equal(kind->launch(stream, &launch), TESSI_OK);
    kind->kick(stream);
    wait_for(&waiter, 1);
    assert_int_equal(waiter.status, TESSI_OK);
    assert_int_equal(kind->launch(stream, &launch), TESSI_OK);
    kind->kick(stream);
    assert_int_equal(kind->copy_async(stream, blocks[1], blocks[0], 8, on_done, &waiter), TESSI_OK);
    wait_for(&waiter, 3);
    assert_int_equal(waiter.status, TESSI_LOST);
    kind->stream_close(stream);
    kind->close(device);
    tessi_layer_destroy(layer);
    static const char *const wrong[] = {"memory", "memory=", "memory=1TB", "speed=2", "compute=0", "copy=-1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(kind->open(&(struct tessi_device_options){.spec = wrong[i]}, &device, &error), TESSI_INVALID);
        assert_int_equal(kind->count(&(struct tessi_device_options){.spec = wrong[i]}, &error), 0);
    }
    assert_int_equal(kind->count(&(struct tessi_device_options){.spec = "count=3"}, NULL), 3);
    assert_int_equal(kind->open(&(struct tessi_device_options){.spec = "count=3", .ordinal = 3}, &device, &error),
                     TESSI_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_streams_and_events),
        cmocka_unit_test(test_emulated_memory_is_apart),
        cmocka_unit_test(test_emulated_faults),
    };
    find_kinds();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
