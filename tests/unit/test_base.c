/* core/base: the hash map and the heap against naive models over random sequences; statuses; allocation; texts and temporary files. */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/heap.h"
#include "core/base/log.h"
#include "core/base/map.h"
#include "core/base/status.h"
#include "core/base/temporary.h"
#include "core/base/text.h"
#include "tests/unit/sample.h"

#define KEYS 300

static struct tessi_map_key key_of(unsigned k)
{
    /* Both halves matter: keys differ in the high one, the low one, or both. */
    return (struct tessi_map_key){.high = k % 17, .low = k / 17};
}

static void compare_with_model(const struct tessi_map *map, const uint32_t *model)
{
    size_t present = 0;
    size_t walked = 0;
    size_t position = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        assert_int_equal(tessi_map_get(map, key_of(k)), model[k]);
        present += model[k] != TESSI_MAP_NONE;
    }
    assert_int_equal(map->count, present);
    for (const struct tessi_map_entry *entry; (entry = tessi_map_next(map, &position)) != NULL; walked++) {
        uint64_t k = entry->key.low * 17 + entry->key.high;
        assert_true(k < KEYS);
        assert_int_equal(model[k], entry->value);
    }
    assert_int_equal(walked, present);
}

static void test_map_against_an_array(void **state)
{
    (void)state;
    struct sample sample = {6};
    struct tessi_map map;
    uint32_t model[KEYS];
    tessi_map_init(&map);
    memset(model, 0xff, sizeof model);
    compare_with_model(&map, model);
    for (unsigned round = 0; round < 100000; round++) {
        unsigned k = (unsigned)sample_between(&sample, 0, KEYS - 1);
        /* Phases of growth and of decline, so that it is full at times and nearly empty at others. */
        bool put = sample_next(&sample) % 8 < (round / 5000 % 2 == 0 ? 6u : 2u);
        if (put) {
            model[k] = (uint32_t)sample_between(&sample, 0, UINT32_MAX - 1);
            tessi_map_put(&map, key_of(k), model[k]);
        } else {
            assert_int_equal(tessi_map_remove(&map, key_of(k)), model[k] != TESSI_MAP_NONE);
            model[k] = TESSI_MAP_NONE;
        }
        assert_int_equal(tessi_map_get(&map, key_of(k)), model[k]);
        if (round % 500 == 0) {
            compare_with_model(&map, model);
        }
    }
    tessi_map_clear(&map);
    memset(model, 0xff, sizeof model);
    compare_with_model(&map, model);
    assert_false(tessi_map_remove(&map, key_of(0)));
    tessi_map_fini(&map);
}

struct model_entry {
    bool present;
    uint64_t first, second;
};

static uint32_t model_least(const struct model_entry *model)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t v = 0; v < KEYS; v++) {
        if (model[v].present && (least == UINT32_MAX || model[v].first < model[least].first ||
                                 (model[v].first == model[least].first && model[v].second < model[least].second))) {
            least = v;
        }
    }
    return least;
}

static void compare_heap(const struct tessi_heap *heap, const struct model_entry *model)
{
    uint32_t least = model_least(model);
    const struct tessi_heap_entry *top = tessi_heap_peek(heap);
    size_t present = 0;
    for (uint32_t v = 0; v < KEYS; v++) {
        assert_int_equal(tessi_heap_contains(heap, v), model[v].present);
        present += model[v].present;
    }
    assert_int_equal(heap->count, present);
    if (least == UINT32_MAX) {
        assert_null(top);
        return;
    }
    assert_non_null(top);
    assert_int_equal(top->value, least);
    assert_int_equal(top->first, model[least].first);
    assert_int_equal(top->second, model[least].second);
}

static void test_heap_against_a_scan(void **state)
{
    (void)state;
    struct sample sample = {7};
    struct tessi_heap heap;
    struct model_entry model[KEYS] = {{false, 0, 0}};
    tessi_heap_init(&heap);
    for (unsigned round = 0; round < 30000; round++) {
        uint32_t v = (uint32_t)sample_between(&sample, 0, KEYS - 1);
        bool push = sample_next(&sample) % 8 < (round / 2000 % 2 == 0 ? 6u : 2u);
        if (push && !model[v].present) {
            /* Few first halves, so that ties are settled by the second; which is unique, so that there is one least. */
            model[v] = (struct model_entry){true, sample_next(&sample) % 5, (uint64_t)round};
            tessi_heap_push(&heap, model[v].first, model[v].second, v);
        } else if (!push && sample_next(&sample) % 2 == 0) {
            assert_int_equal(tessi_heap_remove(&heap, v), model[v].present);
            model[v].present = false;
        } else if (!push && heap.count > 0) {
            uint32_t least = model_least(model);
            assert_int_equal(tessi_heap_pop(&heap).value, least);
            model[least].present = false;
        }
        compare_heap(&heap, model);
    }
    assert_false(tessi_heap_contains(&heap, 1000000));
    assert_false(tessi_heap_remove(&heap, 1000000));
    tessi_heap_fini(&heap);
}

static void test_statuses_have_their_codes(void **state)
{
    (void)state;
    /* They go over the wire and are never renumbered. */
    assert_int_equal(TESSI_OK, 0);
    assert_int_equal(TESSI_FORMAT, 4);
    assert_int_equal(TESSI_BUSY, 18);
    assert_string_equal(tessi_status_text(TESSI_OK), "ok");
    assert_string_equal(tessi_status_text(TESSI_NO_WORKERS), "no workers");
    assert_string_equal(tessi_status_text((enum tessi_status)999), "unknown status");
}

static void test_errors_carry_text(void **state)
{
    (void)state;
    struct tessi_error error = {TESSI_OK, ""};
    assert_int_equal(tessi_fail(NULL, TESSI_IO, "nobody listens"), TESSI_IO);
    assert_int_equal(tessi_fail(&error, TESSI_IO, "file %s: %d", "x.npy", 7), TESSI_IO);
    assert_int_equal(error.status, TESSI_IO);
    assert_string_equal(error.text, "file x.npy: 7");
    tessi_error_prefix(&error, "layer %d", 3);
    assert_string_equal(error.text, "layer 3: file x.npy: 7");
    tessi_error_prefix(NULL, "layer");
    char longest[2000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    (void)tessi_fail(&error, TESSI_IO, "%s", longest);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
    tessi_error_prefix(&error, "layer %d", 3);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
    assert_memory_equal(error.text, "layer 3: aaa", 12);
    tessi_error_prefix(&error, "%s", longest);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

static void test_allocation_fails_on_demand(void **state)
{
    (void)state;
    tessi_alloc_fail_at(3);
    for (unsigned i = 1; i <= 5; i++) {
        void *memory = tessi_try_alloc(8);
        assert_int_equal(memory == NULL, i == 3);
        tessi_free(memory);
    }
    tessi_alloc_fail_at(1);
    tessi_alloc_fail_at(0);
    void *memory = tessi_try_alloc(0);
    assert_non_null(memory);
    tessi_free(memory);
    assert_null(tessi_strdup(NULL));
}

static void test_arrays_grow_and_keep_their_contents(void **state)
{
    (void)state;
    uint32_t *items = NULL;
    size_t capacity = 0;
    size_t moves = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        size_t before = capacity;
        tessi_grow(&items, &capacity, (size_t)i + 1, sizeof *items);
        assert_true(capacity > i);
        moves += capacity != before;
        items[i] = i;
    }
    for (uint32_t i = 0; i < 10000; i++) {
        assert_int_equal(items[i], i);
    }
    assert_true(moves < 30);
    tessi_free(items);
    uint32_t *zeros = tessi_zalloc(64 * sizeof *zeros);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(zeros[i], 0);
    }
    tessi_free(zeros);
}

static void test_memory_that_ends(void **state)
{
    (void)state;
    assert_true(tessi_memory_ready(0));
    assert_true(tessi_memory_ready(1 << 20));
    assert_false(tessi_memory_ready(SIZE_MAX / 4));
    (void)tessi_memory_ends_at(2);
    void *first = tessi_alloc(100);
    assert_true(tessi_memory_ready(0));
    void *second = tessi_alloc(100), *third = tessi_try_alloc(100); /* from the reserve */
    assert_non_null(third);
    assert_false(tessi_memory_ready(0));
    assert_null(tessi_try_alloc(TESSI_SMALL_BYTES + 1));
    uint64_t *items = NULL;
    size_t capacity = 0;
    assert_true(tessi_try_grow(&items, &capacity, 10, sizeof *items));
    size_t before = capacity;
    assert_false(tessi_try_grow(&items, &capacity, 1 << 20, sizeof *items));
    assert_int_equal(capacity, before);
    assert_true(tessi_memory_ends_at(0) >= 5);
    assert_true(tessi_memory_ready(0));
    assert_true(tessi_try_grow(&items, &capacity, 1 << 20, sizeof *items));
    assert_false(tessi_try_grow(&items, &capacity, SIZE_MAX, sizeof *items));
    tessi_free(items);
    tessi_free(first);
    tessi_free(second);
    tessi_free(third);
}

static void test_an_array_that_grows_when_memory_ends(void **state)
{
    (void)state;
    char *large = tessi_alloc(TESSI_RESERVE_BYTES * 2);
    assert_true(tessi_memory_ready(0));
    (void)tessi_memory_ends_at(1);
    large = tessi_realloc(large, TESSI_RESERVE_BYTES * 3); /* more than the reserve began with */
    large[TESSI_RESERVE_BYTES * 3 - 1] = 1;
    (void)tessi_memory_ends_at(0);
    assert_true(tessi_memory_ready(0));
    tessi_free(large);
}

static void show(const char *text, const char *expected)
{
    char shown[256], again[256];
    assert_string_equal(tessi_text_show(shown, sizeof shown, text), expected);
    assert_string_equal(tessi_text_show(again, sizeof again, shown), expected);
}

static void test_texts_for_terminals(void **state)
{
    (void)state;
    show("plain \"text\" \\ of C:\\x", "plain \"text\" \\ of C:\\x");
    show("größer · 日本 \xf0\x9f\x98\x80", "größer · 日本 \xf0\x9f\x98\x80");
    show("\x1b[31mred\a\n\r\t\x7f", "\\x1b[31mred\\x07\\x0a\\x0d\\x09\\x7f");
    show("\xc2\x9b" "31m", "\\xc2\\x9b31m");                      /* CSI of the second set */
    show("\xe2\x80\xae" "fdp.exe", "\\xe2\\x80\\xaefdp.exe");         /* right to left */
    show("\xff\xc0\x9b\xe0\x80\x80\xed\xa0\x80", "\\xff\\xc0\\x9b\\xe0\\x80\\x80\\xed\\xa0\\x80");
    show("cut \xe6\x97", "cut \\xe6\\x97");
    char small[8];
    assert_string_equal(tessi_text_show(small, sizeof small, "12345\x1b"), "12345");
    assert_string_equal(tessi_text_show(small, sizeof small, "12345日"), "12345");
    struct tessi_error error = {0};
    (void)tessi_fail(&error, TESSI_IO, "cannot open %s", "\x1b]0;title\a.npy");
    assert_string_equal(error.text, "cannot open \\x1b]0;title\\x07.npy");
    tessi_error_prefix(&error, "%s", "\x1b[2J");
    assert_string_equal(error.text, "\\x1b[2J: cannot open \\x1b]0;title\\x07.npy");
}

static void quote(const char *text, const char *expected)
{
    char shown[256];
    assert_string_equal(tessi_text_quote(shown, sizeof shown, text), expected);
}

static void test_quotations_end_where_they_end(void **state)
{
    (void)state;
    quote("", "\"\"");
    quote("a b=c", "\"a b=c\"");
    quote("w1\" level=error event=\"x", "\"w1\\\" level=error event=\\\"x\"");
    quote("\\", "\"\\\\\"");
    quote("\\\" \n", "\"\\\\\\\" \\x0a\"");
    char small[7];
    assert_string_equal(tessi_text_quote(small, sizeof small, "123456"), "\"1234\"");
    assert_string_equal(tessi_text_quote(small, sizeof small, "123\""), "\"123\""); /* not half of what is escaped */
    assert_string_equal(tessi_text_quote(small, 3, "1"), "\"\"");
}

/* What a log line has become, after its head. */
static const char *logged(int reader, char *line, size_t size)
{
    ssize_t n = read(reader, line, size - 1);
    assert_true(n > 0 && line[n - 1] == '\n');
    line[n - 1] = 0;
    assert_null(strchr(line, '\n'));
    return strstr(line, "event=");
}

static void test_log_lines(void **state)
{
    (void)state;
    int ends[2];
    char line[2048], text[4096];
    assert_int_equal(pipe(ends), 0);
    tessi_log_set_descriptor(ends[1]);
    tessi_log_write(TESSI_LOG_ERROR, "plain", NULL);
    assert_string_equal(logged(ends[0], line, sizeof line), "event=plain");
    tessi_log_write(TESSI_LOG_ERROR, "ints", "a=%d b=%u c=%" PRId64 " d=%" PRIu64 " e=%zu f=%" PRIu32, -1, 4294967295u,
                    INT64_MIN, UINT64_MAX, (size_t)7, UINT32_C(9));
    assert_string_equal(logged(ends[0], line, sizeof line),
                        "event=ints a=-1 b=4294967295 c=-9223372036854775808 d=18446744073709551615 e=7 f=9");
    tessi_log_write(TESSI_LOG_ERROR, "texts", "name=" TESSI_LOG_TEXT " address=%s dir=%s why=%s n=%u", "w1",
                    "tcp://[::1]:1", "/a b", "", 1u);
    assert_string_equal(logged(ends[0], line, sizeof line),
                        "event=texts name=\"w1\" address=tcp://[::1]:1 dir=\"/a b\" why=\"\" n=1");
    /* Names that would be fields, or lines. */
    const char *forged = "w1\" why=\"all is well\\\" %s\nlevel=info";
    tessi_log_write(TESSI_LOG_ERROR, "forged", "name=" TESSI_LOG_TEXT " dir=%s n=%u", forged, forged, 1u);
    assert_string_equal(logged(ends[0], line, sizeof line),
                        "event=forged name=\"w1\\\" why=\\\"all is well\\\\\\\" %s\\x0alevel=info\""
                        " dir=\"w1\\\" why=\\\"all is well\\\\\\\" %s\\x0alevel=info\" n=1");
    /* Whatever is cut, the quotation is closed and no key is without its value. */
    for (size_t length = 900; length < 1100; length++) {
        memset(text, 'x', length);
        text[length] = 0;
        tessi_log_write(TESSI_LOG_ERROR, "long", "n=%u name=" TESSI_LOG_TEXT " next=%s last=%s", 1u, text, "a", text);
        const char *said = logged(ends[0], line, sizeof line);
        assert_true(strlen(line) < 1024);
        const char *end = strchr(strchr(said, '"') + 1, '"');
        assert_non_null(end);
        assert_true(end[1] == 0 || strncmp(end + 1, " next=", 6) == 0);
        assert_true(line[strlen(line) - 1] != '=');
        tessi_log_write(TESSI_LOG_ERROR, "long", "dir=%s", text);
        assert_true(strlen(logged(ends[0], line, sizeof line)) > 900);
    }
    tessi_log_set_descriptor(STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
}

/* What a writer that was killed has left goes with the next one's beginning, what another writes does not. */
static void test_temporary_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/tessera-temporary-XXXXXX", path[64], other[64], names[3][96];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/file", folder);
    (void)snprintf(other, sizeof other, "%s/file.1x.tmp", folder);
    int theirs = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int first = tessi_temporary_create(path, 0600, names[0], sizeof names[0]);
    int second = tessi_temporary_create(path, 0600, names[1], sizeof names[1]);
    assert_true(theirs >= 0 && first >= 0 && second >= 0);
    assert_int_equal(access(names[0], F_OK), 0);
    close(first); /* as if its process were gone */
    int third = tessi_temporary_create(path, 0600, names[2], sizeof names[2]);
    assert_true(third >= 0);
    assert_int_equal(access(names[1], F_OK), 0);
    assert_true(strcmp(names[2], names[0]) == 0 || access(names[0], F_OK) != 0);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(unlink(names[1]) | unlink(names[2]) | unlink(other) | rmdir(folder), 0);
    close(second);
    close(third);
    close(theirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_against_an_array),
        cmocka_unit_test(test_heap_against_a_scan),
        cmocka_unit_test(test_statuses_have_their_codes),
        cmocka_unit_test(test_errors_carry_text),
        cmocka_unit_test(test_allocation_fails_on_demand),
        cmocka_unit_test(test_arrays_grow_and_keep_their_contents),
        cmocka_unit_test(test_memory_that_ends),
        cmocka_unit_test(test_an_array_that_grows_when_memory_ends),
        cmocka_unit_test(test_texts_for_terminals),
        cmocka_unit_test(test_quotations_end_where_they_end),
        cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_temporary_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
