/* The CPU behind the device interface: order within a stream, bounds, events, draining. */
#include "tests/kernels/whole.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "worker/device/cpu/cpu.h"
#include "worker/device/cpu/processor.h"

static const struct tessi_device_kind *const cpu = &tessi_device_cpu;

static struct tessi_device *open_device(void)
{
    const struct tessi_device_options options = {0};
    struct tessi_device *device = NULL;
    assert_int_equal(cpu->open(&options, &device, NULL), TESSI_OK);
    return device;
}

static struct tessi_stream *open_stream(struct tessi_device *device, uint32_t depth)
{
    const struct tessi_stream_options options = {.depth = depth};
    struct tessi_stream *stream = NULL;
    assert_int_equal(cpu->stream_open(device, &options, &stream, NULL), TESSI_OK);
    return stream;
}

/* A gate holds a stream: its callback returns only when the test opens it. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached;
    bool open;
};

static void gate_init(struct gate *gate)
{
    *gate = (struct gate){0};
    (void)pthread_mutex_init(&gate->lock, NULL);
    (void)pthread_cond_init(&gate->changed, NULL);
}

static void gate_fini(struct gate *gate)
{
    (void)pthread_cond_destroy(&gate->changed);
    (void)pthread_mutex_destroy(&gate->lock);
}

static void gate_hold(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    struct gate *gate = context;
    (void)status;
    (void)text;
    (void)run_ns;
    (void)pthread_mutex_lock(&gate->lock);
    gate->reached = true;
    (void)pthread_cond_broadcast(&gate->changed);
    while (!gate->open) {
        (void)pthread_cond_wait(&gate->changed, &gate->lock);
    }
    (void)pthread_mutex_unlock(&gate->lock);
}

/* Hold the stream, and return when it is held. */
static void gate_close(struct gate *gate, struct tessi_stream *stream)
{
    assert_int_equal(cpu->copy_async(stream, NULL, NULL, 0, gate_hold, gate), TESSI_OK);
    (void)pthread_mutex_lock(&gate->lock);
    while (!gate->reached) {
        (void)pthread_cond_wait(&gate->changed, &gate->lock);
    }
    (void)pthread_mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
    (void)pthread_mutex_lock(&gate->lock);
    gate->open = true;
    (void)pthread_cond_broadcast(&gate->changed);
    (void)pthread_mutex_unlock(&gate->lock);
}

struct log {
    uint32_t count;
    uint32_t order[4096];
};
struct note {
    struct log *log;
    uint32_t number;
    enum tessi_status status;
    int64_t run_ns;
    char text[512];
};

static void take_note(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    struct note *note = context;
    note->log->order[note->log->count++] = note->number;
    note->status = status;
    note->run_ns = run_ns;
    (void)strncpy(note->text, text, sizeof note->text - 1);
}

static struct tessi_layer *full_layer(double value)
{
    struct tessi_shape shape = SHAPE(64);
    struct tessi_layer *layer = whole_layer(TESSI_OP_FULL, TESSI_F64, &shape, NULL);
    layer->as.full = (struct tessi_scalar){.dtype = TESSI_F64, .as.f = value};
    return layer;
}

static void launch(struct tessi_stream *stream, struct tessi_launch *what)
{
    assert_int_equal(cpu->launch(stream, what), TESSI_OK);
    cpu->kick(stream);
}

static void test_launch(void **state)
{
    struct tessi_device *device = open_device();
    struct tessi_stream *stream = open_stream(device, 0);
    struct tessi_layer *layer = full_layer(2.5);
    struct log log = {0};
    struct note note = {.log = &log, .status = TESSI_FAILED, .run_ns = -1};
    void *block = NULL;
    double copy[64] = {0};
    (void)state;
    assert_int_equal(cpu->alloc(device, 64 * sizeof(double), &block, NULL), TESSI_OK);
    assert_int_equal((uintptr_t)block % 64, 0);
    struct tessi_launch fill = {
        .call = {.layer = layer, .steps = 1, .out = block}, .done = take_note, .context = &note};
    launch(stream, &fill);
    assert_int_equal(cpu->copy_async(stream, copy, block, sizeof copy, NULL, NULL), TESSI_OK);
    cpu->stream_close(stream);
    assert_int_equal(note.status, TESSI_OK);
    assert_string_equal(note.text, "");
    assert_true(note.run_ns >= 0);
    for (int i = 0; i < 64; i++) {
        assert_true(copy[i] == 2.5);
    }
    cpu->free(device, block);
    cpu->close(device);
    tessi_layer_destroy(layer);
}

static void test_failure_is_told(void **state)
{
    struct tessi_device *device = open_device();
    struct tessi_stream *stream = open_stream(device, 0);
    struct tessi_shape shape = SHAPE(4);
    struct tessi_layer *layer = whole_layer(TESSI_OP_READ_NPY, TESSI_F64, &shape, NULL);
    char path[] = "/nowhere/at-all.npy";
    struct log log = {0};
    struct note note = {.log = &log};
    double out[4];
    struct tessi_launch fill = {.call = {.layer = layer, .steps = 1, .out = out}, .done = take_note, .context = &note};
    (void)state;
    layer->as.npy.path = path;
    launch(stream, &fill);
    cpu->stream_close(stream);
    assert_int_equal(note.status, TESSI_NOT_FOUND);
    assert_non_null(strstr(note.text, path));
    layer->as.npy.path = NULL;
    tessi_layer_destroy(layer);
    cpu->close(device);
}

/* Entries run in order of submission; a full queue refuses, takes nothing, and takes again later. */
static void test_order_and_bound(void **state)
{
    enum { DEPTH = 5 };
    struct tessi_device *device = open_device();
    struct tessi_stream *stream = open_stream(device, DEPTH);
    struct gate gate;
    struct log log = {0};
    struct note notes[DEPTH + 1];
    (void)state;
    gate_init(&gate);
    gate_close(&gate, stream);
    for (uint32_t i = 0; i <= DEPTH; i++) {
        notes[i] = (struct note){.log = &log, .number = i};
        assert_int_equal(cpu->copy_async(stream, NULL, NULL, 0, take_note, &notes[i]),
                         i < DEPTH ? TESSI_OK : TESSI_BUSY);
    }
    gate_open(&gate);
    cpu->stream_close(stream);
    assert_int_equal(log.count, DEPTH);
    for (uint32_t i = 0; i < DEPTH; i++) {
        assert_int_equal(log.order[i], i);
    }
    gate_fini(&gate);
    cpu->close(device);
}

static void test_events(void **state)
{
    struct tessi_device *device = open_device();
    struct tessi_stream *stream = open_stream(device, 0);
    struct tessi_event *event = NULL;
    struct gate gate;
    struct log log = {0};
    struct note note = {.log = &log};
    (void)state;
    gate_init(&gate);
    assert_int_equal(cpu->event_create(device, &event, NULL), TESSI_OK);
    assert_true(cpu->event_query(event)); /* nothing was recorded */
    gate_close(&gate, stream);
    assert_int_equal(cpu->copy_async(stream, NULL, NULL, 0, take_note, &note), TESSI_OK);
    assert_int_equal(cpu->event_record(stream, event), TESSI_OK);
    assert_false(cpu->event_query(event));
    gate_open(&gate);
    cpu->event_wait(event);
    assert_true(cpu->event_query(event));
    assert_int_equal(log.count, 1); /* what went before it has run, its callback too */
    cpu->event_destroy(event);
    cpu->stream_close(stream);
    gate_fini(&gate);
    cpu->close(device);
}

/* Many entries through a short queue from one thread, while the stream runs; each is run once, in order. */
static void test_many(void **state)
{
    enum { COUNT = 4000 };
    struct tessi_device *device = open_device();
    struct tessi_stream *stream = open_stream(device, 7);
    struct tessi_event *event = NULL;
    struct log *log = calloc(1, sizeof *log);
    struct note *notes = calloc(COUNT, sizeof *notes);
    (void)state;
    assert_int_equal(cpu->event_create(device, &event, NULL), TESSI_OK);
    for (uint32_t i = 0; i < COUNT; i++) {
        notes[i] = (struct note){.log = log, .number = i};
        while (cpu->copy_async(stream, NULL, NULL, 0, take_note, &notes[i]) == TESSI_BUSY) {
            if (cpu->event_record(stream, event) == TESSI_OK) {
                cpu->event_wait(event);
            }
            (void)sched_yield();
        }
    }
    cpu->stream_close(stream);
    assert_int_equal(log->count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(log->order[i], i);
    }
    cpu->event_destroy(event);
    free(notes);
    free(log);
    cpu->close(device);
}

/* Two streams do not wait for each other, and each keeps its own results. */
static void test_two_streams(void **state)
{
    struct tessi_device *device = open_device();
    struct tessi_stream *held = open_stream(device, 0);
    struct tessi_stream *free_stream = open_stream(device, 0);
    struct tessi_event *event = NULL;
    struct gate gate;
    int from = 7;
    int to = 0;
    (void)state;
    gate_init(&gate);
    gate_close(&gate, held);
    assert_int_equal(cpu->event_create(device, &event, NULL), TESSI_OK);
    assert_int_equal(cpu->copy_async(free_stream, &to, &from, sizeof to, NULL, NULL), TESSI_OK);
    assert_int_equal(cpu->event_record(free_stream, event), TESSI_OK);
    cpu->event_wait(event);
    assert_int_equal(to, 7);
    gate_open(&gate);
    cpu->stream_close(held);
    cpu->stream_close(free_stream);
    cpu->event_destroy(event);
    gate_fini(&gate);
    cpu->close(device);
}

struct turns { /* entries in the order in which they ended, and on how many threads */
    pthread_t caller;
    uint32_t ended, here;
    bool in_order;
};

struct turn {
    struct turns *turns;
    uint32_t number;
};

static void take_turn(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    struct turn *turn = context;
    (void)text;
    (void)run_ns;
    turn->turns->in_order = turn->turns->in_order && status == TESSI_OK && turn->turns->ended == turn->number;
    turn->turns->ended++;
    turn->turns->here += pthread_equal(pthread_self(), turn->turns->caller) != 0 ? 1 : 0;
}

/* Who submits runs entries while the thread sleeps; none runs twice, out of order or never. */
static void test_help(void **state)
{
    enum { COUNT = 20000 };
    struct tessi_device *device = open_device();
    struct tessi_stream *stream = open_stream(device, 8);
    struct tessi_layer *layer = full_layer(1.5);
    struct turns turns = {.caller = pthread_self(), .in_order = true};
    static struct turn each[COUNT];
    static struct tessi_launch launches[COUNT];
    double out[64];
    (void)state;
    for (uint32_t i = 0; i < COUNT; i++) {
        each[i] = (struct turn){&turns, i};
        launches[i] = (struct tessi_launch){
            .call = {.layer = layer, .steps = 1, .out = out}, .done = take_turn, .context = &each[i]};
        while (cpu->launch(stream, &launches[i]) == TESSI_BUSY) {
            cpu->kick(stream);
            (void)sched_yield();
        }
        if (i % 5 != 0 && !cpu->help(stream)) {
            cpu->kick(stream);
        } else if (i % 7 == 0) {
            cpu->kick(stream);
        }
    }
    cpu->stream_close(stream);
    assert_int_equal(turns.ended, COUNT);
    assert_true(turns.in_order);
    assert_true(turns.here > 0);
    tessi_layer_destroy(layer);
    cpu->close(device);
}

/* A launch waits for entries of other streams, and is not run when one of them, or one since, has failed. */
static void test_after(void **state)
{
    struct tessi_device *device = open_device();
    struct tessi_stream *first = open_stream(device, 0), *second = open_stream(device, 0);
    struct tessi_layer *layer = full_layer(2.5);
    struct tessi_shape shape = SHAPE(4);
    struct tessi_layer *missing = whole_layer(TESSI_OP_READ_NPY, TESSI_F64, &shape, NULL);
    char path[] = "/nowhere/at-all.npy";
    struct tessi_event *event = NULL;
    struct gate gate;
    struct log log = {0};
    struct note notes[4];
    double out[4][64] = {{0}};
    (void)state;
    missing->as.npy.path = path;
    struct tessi_launch launches[4] = {
        {.call = {.layer = layer, .steps = 1, .out = out[0]}, .after_count = 1, .after = {{first, 1, 1}}},
        {.call = {.layer = missing, .steps = 1, .out = out[1]}},
        {.call = {.layer = layer, .steps = 1, .out = out[2]}, .after_count = 1, .after = {{first, 2, 3}}},
        {.call = {.layer = layer, .steps = 1, .out = out[3]}, .after_count = 1, .after = {{second, 3, 3}}},
    };
    gate_init(&gate);
    gate_close(&gate, first); /* entry 1 of the first stream */
    for (uint32_t i = 0; i < 4; i++) {
        notes[i] = (struct note){.log = &log, .number = i};
        launches[i].done = take_note;
        launches[i].context = &notes[i];
    }
    launch(second, &launches[0]);
    gate_open(&gate);
    assert_int_equal(cpu->event_create(device, &event, NULL), TESSI_OK);
    assert_int_equal(cpu->event_record(second, event), TESSI_OK);
    cpu->event_wait(event); /* a failure after its entry would be taken for one of it */
    cpu->event_destroy(event);
    launch(first, &launches[1]);
    assert_int_equal(cpu->copy_async(first, NULL, NULL, 0, NULL, NULL), TESSI_OK);
    launch(second, &launches[2]);
    launch(second, &launches[3]); /* after its own stream's entry */
    cpu->stream_close(first);
    cpu->stream_close(second);
    assert_int_equal(notes[0].status, TESSI_OK);
    assert_true(out[0][63] == 2.5);
    assert_int_equal(notes[1].status, TESSI_NOT_FOUND);
    assert_int_equal(notes[2].status, TESSI_CANCELLED);
    assert_int_equal(notes[3].status, TESSI_CANCELLED);
    assert_true(out[2][0] == 0 && out[3][0] == 0);
    gate_fini(&gate);
    missing->as.npy.path = NULL;
    tessi_layer_destroy(missing);
    tessi_layer_destroy(layer);
    cpu->close(device);
}

/* Streams in lock step: entry n of each comes after entry n - 1 of its neighbours, which has ended then, though its
 * callback may still be on its way. */
struct row {
    struct tessi_stream *stream;
    const struct row *before, *behind;
    pthread_t thread; /* of its first entry */
    atomic_uint ended;
    unsigned strangers; /* entries that another thread has run */
    bool in_order;
};

static void end_in_row(void *context, enum tessi_status status, const char *text, int64_t run_ns)
{
    enum { GIVES_WAY = 37 };
    struct row *row = context;
    unsigned number = atomic_load(&row->ended) + 1;
    (void)text;
    (void)run_ns;
    if (number == 1) {
        row->thread = pthread_self();
    }
    row->strangers += pthread_equal(row->thread, pthread_self()) ? 0 : 1;
    row->in_order = row->in_order && status == TESSI_OK && atomic_load(&row->before->ended) + 2 >= number &&
                    atomic_load(&row->behind->ended) + 2 >= number;
    if (number % GIVES_WAY == 0) {
        tessi_cpu_give_way(row->stream);
    }
    atomic_store(&row->ended, number);
}

/* A stream that has given way stays away until it is told to come back. Others that wait for it run what it has left,
 * and nothing is run twice, too early or never. */
static void test_give_way(void **state)
{
    enum { ROWS_MAX = 64, LENGTH = 3000 };
    static struct row rows[ROWS_MAX];
    struct tessi_device *device = open_device();
    struct tessi_layer *layer = full_layer(1);
    uint32_t count = tessi_processors() < 2 ? 2 : tessi_processors() > ROWS_MAX ? ROWS_MAX : tessi_processors();
    struct tessi_launch *launches = tessi_zalloc((size_t)count * LENGTH * sizeof *launches);
    double(*out)[64] = tessi_zalloc(count * sizeof *out);
    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = (struct row){.stream = open_stream(device, LENGTH + 1), .in_order = true};
        rows[i].before = &rows[(i + count - 1) % count];
        rows[i].behind = &rows[(i + 1) % count];
    }
    for (uint32_t n = 0; n < LENGTH; n++) {
        for (uint32_t i = 0; i < count; i++) {
            struct tessi_launch *one = &launches[(size_t)n * count + i];
            *one = (struct tessi_launch){.call = {.layer = layer, .steps = 1, .out = out[i]},
                                         .after = {{rows[i].before->stream, n, n}, {rows[i].behind->stream, n, n}},
                                         .after_count = n > 0 ? 2 : 0,
                                         .done = end_in_row,
                                         .context = &rows[i]};
            assert_int_equal(cpu->launch(rows[i].stream, one), TESSI_OK);
            cpu->kick(rows[i].stream);
        }
    }
    unsigned ended, before = 0, strangers = 0;
    do {
        ended = 0;
        for (uint32_t i = 0; i < count; i++) {
            ended += atomic_load(&rows[i].ended);
        }
        for (uint32_t i = 0; i < count && ended == before; i++) {
            tessi_cpu_come_back(rows[i].stream);
        }
        before = ended;
        (void)sched_yield();
    } while (ended < count * LENGTH);
    for (uint32_t i = 0; i < count; i++) {
        cpu->stream_close(rows[i].stream);
        assert_int_equal(atomic_load(&rows[i].ended), LENGTH);
        assert_true(rows[i].in_order);
        strangers += rows[i].strangers;
    }
    assert_true(strangers > 0);
    tessi_free(out);
    tessi_free(launches);
    tessi_layer_destroy(layer);
    cpu->close(device);
}

/* Products from several streams at once give the bits of one. */
static void test_products_side_by_side(void **state)
{
    enum { SIDE = 120, STREAMS = 4 };
    struct tessi_device *device = open_device();
    struct tessi_shape shape = SHAPE(SIDE, SIDE);
    struct tessi_layer *layer = whole_layer(TESSI_OP_MATMUL, TESSI_F64, &shape, NULL);
    struct tessi_stream *streams[STREAMS];
    double *out[STREAMS];
    static struct log logs[STREAMS];
    static struct note notes[STREAMS][5];
    static struct tessi_launch launches[STREAMS][5];
    (void)state;
    (void)whole_input(layer, TESSI_F64, &shape, NULL);
    (void)whole_input(layer, TESSI_F64, &shape, NULL);
    layer->input[0].rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    layer->input[1].rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    layer->as.matmul.segment = SIDE;
    double *a = whole_random(TESSI_F64, SIDE * SIDE, 1, false);
    double *b = whole_random(TESSI_F64, SIDE * SIDE, 2, false);
    for (int s = 0; s < STREAMS; s++) {
        streams[s] = open_stream(device, 0);
        out[s] = malloc(sizeof(double) * SIDE * SIDE);
        for (int i = 0; i < 5; i++) {
            notes[s][i] = (struct note){.log = &logs[s]};
            launches[s][i] = (struct tessi_launch){.call = {.layer = layer, .steps = 1, .out = out[s], .in = {a, b}},
                                                   .done = take_note,
                                                   .context = &notes[s][i]};
            launch(streams[s], &launches[s][i]);
        }
    }
    for (int s = 0; s < STREAMS; s++) {
        cpu->stream_close(streams[s]);
    }
    double *want = whole_run(layer, (const void *const[]){a, b}, WHOLE_KERNEL);
    for (int s = 0; s < STREAMS; s++) {
        assert_memory_equal(out[s], want, sizeof(double) * SIDE * SIDE);
        free(out[s]);
    }
    free(want);
    free(a);
    free(b);
    tessi_layer_destroy(layer);
    cpu->close(device);
}

static void test_options(void **state)
{
    struct tessi_device *device = open_device();
    struct tessi_device *other = NULL;
    struct tessi_stream *stream = NULL;
    struct tessi_device_memory memory = {0};
    struct tessi_device_options second = {.ordinal = 1};
    struct tessi_stream_options options = {.depth = UINT32_MAX};
    cpu_set_t allowed;
    (void)state;
    assert_int_equal(cpu->open(&second, &other, NULL), TESSI_NOT_FOUND);
    assert_int_equal(cpu->stream_open(device, &options, &stream, NULL), TESSI_INVALID);
    cpu->memory(device, &memory);
    assert_true(memory.total_bytes >= memory.free_bytes && memory.free_bytes > 0);
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    options = (struct tessi_stream_options){.pin = true};
    while (CPU_ISSET(options.core, &allowed) == 0) {
        options.core++;
    }
    assert_int_equal(cpu->stream_open(device, &options, &stream, NULL), TESSI_OK);
    cpu->stream_close(stream);
    cpu->stream_close(NULL);
    cpu->close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launch),
        cmocka_unit_test(test_failure_is_told),
        cmocka_unit_test(test_order_and_bound),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_two_streams),
        cmocka_unit_test(test_after),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_give_way),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_products_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
