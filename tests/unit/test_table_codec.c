/* Explicit tables on the wire: round trips, their size, and bytes that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/wire/pack.h"
#include "core/wire/table_codec.h"
#include "tests/unit/sample.h"

#define TASKS 3000u
#define READS_MAX 3u

static struct tessi_table *local_table(struct sample *sample, uint32_t width)
{
    uint32_t *rows = tessi_zalloc((TASKS + 1) * sizeof *rows), *columns = tessi_zalloc(TASKS * READS_MAX * sizeof *columns);
    for (uint32_t t = 0; t < TASKS; t++) {
        rows[t + 1] = rows[t];
        uint32_t column = t > width ? t - width : 0;
        for (uint32_t n = 0; n < READS_MAX; n++) {
            column += (uint32_t)sample_between(sample, 0, width / 3);
            if (column < t) {
                columns[rows[t + 1]++] = column++;
            }
        }
    }
    struct tessi_table *table = tessi_table_create(TASKS, TASKS, rows, columns);
    tessi_free(rows);
    tessi_free(columns);
    return table;
}

/* Reads an array's header and then the table, all to its end. */
static bool unpack(const void *bytes, size_t size, struct tessi_table *table)
{
    struct tessi_scan scan;
    uint32_t count;
    *table = (struct tessi_table){0};
    tessi_scan_init(&scan, bytes, size);
    return tessi_scan_array(&scan, &count) && count == 3 && tessi_table_unpack(&scan, table) && tessi_scan_at_end(&scan);
}

static void free_contents(struct tessi_table *table)
{
    tessi_free(table->rows);
    tessi_free(table->columns);
}

static void assert_round_trip(const struct tessi_table *table, size_t bytes_max)
{
    struct tessi_buffer buffer = {0};
    struct tessi_table read;
    tessi_table_pack(&buffer, table);
    assert_true(buffer.size <= bytes_max);
    assert_true(unpack(buffer.data, buffer.size, &read));
    assert_int_equal(read.tasks, table->tasks);
    assert_int_equal(read.blocks, table->blocks);
    assert_memory_equal(read.rows, table->rows, (size_t)(table->tasks + 1) * sizeof *read.rows);
    for (uint32_t e = 0; e < table->rows[table->tasks]; e++) {
        assert_int_equal(read.columns[e], table->columns[e]);
    }
    free_contents(&read);
    tessi_buffer_fini(&buffer);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct sample sample = {7};
    struct tessi_table *near = local_table(&sample, 10), *far = local_table(&sample, 1000);
    assert_round_trip(near, 4 * TASKS + 32);
    assert_round_trip(far, 7 * TASKS + 32);
    tessi_table_destroy(near);
    tessi_table_destroy(far);
    /* What no checked table holds comes back unchanged too: it is the check that speaks about it. */
    uint32_t rows[] = {0, 3, 3, 4}, columns[] = {UINT32_MAX, 0, 0x80000000u, 5};
    struct tessi_table odd = {.tasks = 3, .blocks = UINT64_MAX, .rows = rows, .columns = columns};
    assert_round_trip(&odd, 64);
    struct tessi_table empty = {.tasks = 0, .blocks = 9, .rows = rows, .columns = columns};
    assert_round_trip(&empty, 16);
}

static bool accepts(const uint8_t *numbers, size_t size, uint64_t tasks)
{
    struct tessi_buffer buffer = {0};
    struct tessi_table table;
    tessi_pack_array(&buffer, 3);
    tessi_pack_binary(&buffer, numbers, size);
    tessi_pack_u64(&buffer, tasks);
    tessi_pack_u64(&buffer, 10);
    bool good = unpack(buffer.data, buffer.size, &table);
    free_contents(&table);
    tessi_buffer_fini(&buffer);
    return good;
}

#define ACCEPTS(tasks, ...) accepts((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), tasks)

static void test_bytes_that_lie(void **state)
{
    (void)state;
    assert_true(ACCEPTS(2, 1, 0, 1, 2));
    assert_false(ACCEPTS(3, 1, 0, 1, 2));                          /* more rows than there are */
    assert_false(ACCEPTS(1, 1, 0, 1, 2));                          /* numbers left over */
    assert_false(ACCEPTS(UINT64_MAX, 1, 0, 1, 2));                 /* no memory is taken for what is not there */
    assert_false(ACCEPTS(2, 2, 0, 1, 2));                          /* a row that takes the next one's numbers */
    assert_false(ACCEPTS(2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1));  /* a row longer than the table */
    assert_false(ACCEPTS(2, 1, 0, 1, 0x82));                       /* the last number is cut off */
    assert_true(ACCEPTS(1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f));      /* 32 bits */
    assert_false(ACCEPTS(1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f));     /* 33 bits */
    assert_false(ACCEPTS(1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0));  /* six bytes */
}

static void test_every_truncation_and_flip(void **state)
{
    (void)state;
    struct sample sample = {8};
    struct tessi_table *table = local_table(&sample, 10), read;
    struct tessi_buffer buffer = {0};
    tessi_table_pack(&buffer, table);
    for (size_t size = 0; size < buffer.size; size += 1 + size / 50) {
        assert_false(unpack(buffer.data, size, &read));
        free_contents(&read);
    }
    for (size_t i = 0; i < buffer.size; i++) { /* accepted or not: nothing is read or written outside */
        buffer.data[i] ^= (uint8_t)(1u << sample_next(&sample) % 8);
        (void)unpack(buffer.data, buffer.size, &read);
        free_contents(&read);
    }
    tessi_table_destroy(table);
    tessi_buffer_fini(&buffer);
}

static void test_memory_that_runs_out(void **state)
{
    (void)state;
    struct sample sample = {9};
    struct tessi_table *table = local_table(&sample, 10), read;
    struct tessi_buffer buffer = {0};
    tessi_table_pack(&buffer, table);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        tessi_alloc_fail_at(nth);
        assert_false(unpack(buffer.data, buffer.size, &read));
        tessi_alloc_fail_at(0);
        free_contents(&read);
    }
    tessi_table_destroy(table);
    tessi_buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bytes_that_lie),
        cmocka_unit_test(test_every_truncation_and_flip),
        cmocka_unit_test(test_memory_that_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
