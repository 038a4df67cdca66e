/* Trace rings, alone and with a reader beside the writer; the file that is made of their records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <pthread.h>

#include "client/trace_json.h"
#include "core/base/alloc.h"
#include "worker/trace/trace.h"

static struct tessi_trace_record numbered(uint64_t number)
{
    return (struct tessi_trace_record){.index = number,
                                       .start_ns = (int64_t)number * 3,
                                       .took_ns = (int64_t)number * 5,
                                       .amount = number * 7,
                                       .session = (uint32_t)number,
                                       .layer = (uint32_t)number + 1,
                                       .peer = (uint32_t)number + 2,
                                       .lane = (uint16_t)number,
                                       .kind = TESSI_TRACE_RUN,
                                       .why = (uint8_t)number};
}

static void assert_numbered(const struct tessi_trace_record *record, uint64_t number)
{
    struct tessi_trace_record expected = numbered(number);
    assert_memory_equal(record, &expected, sizeof expected);
}

static void test_a_ring_keeps_the_newest(void **state)
{
    (void)state;
    struct tessi_trace_ring ring;
    struct tessi_trace_record records[16];
    tessi_trace_ring_init(&ring, 6); /* room for 8 */
    uint64_t from = 0;
    assert_int_equal(tessi_trace_read(&ring, &from, records, 16), 0);
    for (uint64_t written = 0; written < 30; written++) {
        uint64_t kept = written < 7 ? written : 7;
        from = 0;
        assert_int_equal(tessi_trace_written(&ring), written);
        assert_int_equal(tessi_trace_read(&ring, &from, records, 16), kept);
        assert_int_equal(from, written - kept);
        for (uint64_t i = 0; i < kept; i++) {
            assert_numbered(&records[i], from + i);
        }
        struct tessi_trace_record record = numbered(written);
        tessi_trace_put(&ring, &record);
    }
    from = 25; /* a part, and no further than asked */
    assert_int_equal(tessi_trace_read(&ring, &from, records, 2), 2);
    assert_int_equal(from, 25);
    assert_numbered(&records[1], 26);
    from = UINT64_MAX;
    assert_int_equal(tessi_trace_read(&ring, &from, records, 2), 0);
    tessi_trace_ring_fini(&ring);
}

static void test_a_ring_of_none_keeps_nothing(void **state)
{
    (void)state;
    struct tessi_trace_ring ring;
    struct tessi_trace_record record = numbered(1), read;
    uint64_t from = 0;
    tessi_trace_ring_init(&ring, 0);
    tessi_trace_put(&ring, &record);
    tessi_trace_put(&ring, &record);
    assert_int_equal(tessi_trace_written(&ring), 2);
    assert_int_equal(tessi_trace_read(&ring, &from, &read, 1), 0);
    tessi_trace_ring_fini(&ring);
}

static void test_a_run_says_what_the_slot_knows(void **state)
{
    (void)state;
    struct tessi_trace_ring ring;
    struct tessi_trace_record record;
    uint64_t from = 0;
    tessi_trace_ring_init(&ring, 4);
    tessi_trace_run(&ring, 5, 3, 17, 2, TESSI_TRACE_WHY_NOTHING, 100, 250, 400);
    assert_int_equal(tessi_trace_read(&ring, &from, &record, 1), 1);
    assert_int_equal(record.kind, TESSI_TRACE_RUN);
    assert_true(record.session == 5 && record.layer == 3 && record.index == 17 && record.peer == 2);
    assert_true(record.start_ns == 250 && record.took_ns == 150 && record.amount == 150);
    tessi_trace_ring_fini(&ring);
}

#define RACE_RECORDS UINT64_C(400000)

static void *write_many(void *ring)
{
    for (uint64_t i = 0; i < RACE_RECORDS; i++) {
        struct tessi_trace_record record = numbered(i);
        tessi_trace_put(ring, &record);
    }
    return NULL;
}

/* The reader sees each record whole and in its place, or not at all, whatever the writer does meanwhile. */
static void test_a_reader_beside_the_writer(void **state)
{
    (void)state;
    struct tessi_trace_ring ring;
    struct tessi_trace_record records[64];
    pthread_t writer;
    uint64_t next = 0, read = 0, missed = 0;
    tessi_trace_ring_init(&ring, 256);
    assert_int_equal(pthread_create(&writer, NULL, write_many, &ring), 0);
    while (next < RACE_RECORDS) {
        uint64_t from = next;
        size_t count = tessi_trace_read(&ring, &from, records, 64);
        assert_true(from >= next);
        for (size_t i = 0; i < count; i++) {
            assert_numbered(&records[i], from + i);
        }
        missed += from - next;
        read += count;
        next = from + count;
    }
    pthread_join(writer, NULL);
    assert_int_equal(read + missed, RACE_RECORDS);
    assert_true(read > 0);
    tessi_trace_ring_fini(&ring);
}

static void test_a_worker_has_a_ring_for_each_writer(void **state)
{
    (void)state;
    struct tessi_trace *trace = tessi_trace_create(16);
    struct tessi_trace_ring *slot = tessi_trace_add(trace, "slot 0");
    struct tessi_trace_record records[4];
    uint64_t from = 0;
    tessi_trace_run(slot, 1, 1, 1, 0, 0, 0, 0, 1);
    tessi_trace_begin(trace, 40, (struct tessi_task){7, 8, 9}, 4096, 1000);
    tessi_trace_end(trace, TESSI_TRACE_SPILL, 40, 0, 3, 1500);
    tessi_trace_note(trace, TESSI_TRACE_SERVE, (struct tessi_task){7, 8, 9}, 10, 2, 1600, 1600);
    assert_int_equal(tessi_trace_rings(trace), 2);
    assert_string_equal(tessi_trace_lanes(trace, 1), "slot 0");
    assert_int_equal(tessi_trace_written(tessi_trace_ring_at(trace, 1)), 1);
    assert_int_equal(tessi_trace_read(tessi_trace_ring_at(trace, 0), &from, records, 4), 2);
    assert_true(records[0].kind == TESSI_TRACE_SPILL && records[0].index == 9 && records[0].amount == 4096);
    assert_true(records[0].start_ns == 1000 && records[0].took_ns == 500 && records[0].why == 3);
    assert_true(records[1].kind == TESSI_TRACE_SERVE && records[1].took_ns == 0 && records[1].peer == 2);
    assert_int_not_equal(records[0].lane, records[1].lane);
    tessi_trace_destroy(trace);
}

/* ——— the file ——— */

static const cJSON *event_of(const cJSON *events, const char *category, int nth)
{
    const cJSON *event;
    cJSON_ArrayForEach(event, events)
    {
        const char *is = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "cat"));
        if (is != NULL && strcmp(is, category) == 0 && nth-- == 0) {
            return event;
        }
    }
    fail_msg("there is no such event: %s", category);
    return NULL;
}

static double number(const cJSON *event, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, name);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static const char *phase(const cJSON *event)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, "ph"));
}

static struct tessi_trace_record of_kind(enum tessi_trace_kind kind, int64_t start_ns, int64_t took_ns)
{
    return (struct tessi_trace_record){
        .kind = (uint8_t)kind, .session = 5, .layer = 3, .index = 17, .start_ns = start_ns, .took_ns = took_ns};
}

static cJSON *write_and_parse(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    struct tessi_trace_json json;
    tessi_trace_json_init(&json, file, true);
    tessi_trace_json_process(&json, TESSI_TRACE_SCHEDULER_PID, "scheduler", 0);
    tessi_trace_json_ring(&json, "cluster\nsteals\nlayers");
    struct tessi_trace_record record = of_kind(TESSI_TRACE_LAYER, 1000, 0);
    record.peer = 12; /* matmul */
    tessi_trace_json_record(&json, &record);
    static const char name[] = "a name of more than \"16\" bytes";
    for (size_t from = 0; from < sizeof name - 1; from += TESSI_TRACE_NAME_BYTES) {
        record = tessi_trace_name_put(5, 3, name, from);
        tessi_trace_json_record(&json, &record);
    }
    record = of_kind(TESSI_TRACE_ASK, 2000, 0);
    record.giver = 8;
    record.peer = 9;
    record.why = TESSI_TRACE_WHY_IDLE_SLOTS;
    tessi_trace_json_record(&json, &record);
    tessi_trace_json_process(&json, 8, "a \"name\"\n", 500); /* its clock is 500 ns before the scheduler's */
    tessi_trace_json_ring(&json, "slot 0");
    record = of_kind(TESSI_TRACE_RUN, 3500, 1500);
    record.amount = 700;
    tessi_trace_json_record(&json, &record);
    record = of_kind(TESSI_TRACE_RUN, 4990, 1000); /* ten nanoseconds before the other's end */
    record.peer = 1;
    tessi_trace_json_record(&json, &record);
    tessi_trace_json_ring(&json, "fetch\nserve");
    record = of_kind(TESSI_TRACE_FETCH, 4000, 1000);
    tessi_trace_json_record(&json, &record);
    record = of_kind(TESSI_TRACE_FETCH, 4500, 1000); /* overlaps: a row of its own */
    tessi_trace_json_record(&json, &record);
    record = of_kind(TESSI_TRACE_FETCH, 5000, 1000); /* fits the first row again */
    tessi_trace_json_record(&json, &record);
    record = of_kind(TESSI_TRACE_INLINE, 4000, 3000);
    tessi_trace_json_record(&json, &record);
    tessi_trace_json_end(&json, 42);
    assert_int_equal(json.events, 9);
    tessi_trace_json_fini(&json);
    fclose(file);
    cJSON *document = cJSON_Parse(text);
    assert_non_null(document);
    free(text);
    return document;
}

static void test_the_file_has_rows_and_times(void **state)
{
    (void)state;
    cJSON *document = write_and_parse();
    const cJSON *events = cJSON_GetObjectItemCaseSensitive(document, "traceEvents");
    const cJSON *run = event_of(events, "run", 0), *next = event_of(events, "run", 1);
    assert_string_equal(phase(run), "X");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(run, "name")),
                        "matmul 3 [a name of more than \"16\" bytes]");
    assert_float_equal(number(run, "ts"), 3.0, 1e-9); /* microseconds on the scheduler's clock */
    assert_float_equal(number(run, "dur"), 1.5, 1e-9);
    assert_int_equal((int)number(run, "pid"), 8);
    assert_float_equal(number(next, "ts"), 4.5, 1e-9);
    assert_float_equal(number(next, "dur"), 0.99, 1e-9);
    assert_int_equal((int)number(run, "tid"), (int)number(next, "tid"));
    int first = (int)number(event_of(events, "fetch", 0), "tid"),
        second = (int)number(event_of(events, "fetch", 1), "tid");
    assert_int_not_equal(first, second);
    assert_int_equal((int)number(event_of(events, "fetch", 2), "tid"), first);
    const cJSON *arrival = event_of(events, "inline", 0);
    assert_string_equal(phase(arrival), "i");
    assert_float_equal(number(arrival, "ts"), 6.5, 1e-9);
    const cJSON *queue = event_of(events, "queue", 0);
    assert_string_equal(phase(queue), "b");
    assert_float_equal(number(queue, "ts"), 2.3, 1e-9);
    assert_string_equal(phase(event_of(events, "queue", 1)), "e");
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(event_of(events, "ask", 0), "args");
    assert_int_equal((int)number(args, "from"), 8);
    assert_int_equal((int)number(args, "to"), 9);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(args, "why")),
                        tessi_trace_why_text(TESSI_TRACE_WHY_IDLE_SLOTS));
    assert_int_equal((int)number(cJSON_GetObjectItemCaseSensitive(document, "otherData"), "overwritten"), 42);
    cJSON_Delete(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_ring_keeps_the_newest),
        cmocka_unit_test(test_a_ring_of_none_keeps_nothing),
        cmocka_unit_test(test_a_run_says_what_the_slot_knows),
        cmocka_unit_test(test_a_reader_beside_the_writer),
        cmocka_unit_test(test_a_worker_has_a_ring_for_each_writer),
        cmocka_unit_test(test_the_file_has_rows_and_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
