#include "core/wire/table_codec.h"

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/wire/pack.h"

#define NUMBER_BYTES_MAX 5 /* 32 bits, seven in each */

static uint8_t *put(uint8_t *at, uint32_t number)
{
    for (; number >= 0x80; number >>= 7) {
        *at++ = (uint8_t)(number | 0x80);
    }
    *at++ = (uint8_t)number;
    return at;
}

/* Small differences of either sign become small numbers; all arithmetic is modulo 2^32. */
static uint32_t zigzag(uint32_t difference)
{
    return difference << 1 ^ (difference >> 31 != 0 ? UINT32_MAX : 0);
}

static uint32_t unzigzag(uint32_t number)
{
    return number >> 1 ^ ((number & 1) != 0 ? UINT32_MAX : 0);
}

void tessi_table_pack(struct tessi_buffer *buffer, const struct tessi_table *table)
{
    size_t numbers = (size_t)table->tasks + table->rows[table->tasks];
    uint8_t *bytes = tessi_alloc(numbers * NUMBER_BYTES_MAX + 1);
    uint8_t *at = bytes;
    uint32_t first = 0;
    for (uint64_t t = 0; t < table->tasks; t++) {
        uint32_t begin = table->rows[t], end = table->rows[t + 1];
        at = put(at, end - begin);
        for (uint32_t e = begin; e < end; e++) {
            uint32_t column = table->columns[e];
            at = put(at, e == begin ? zigzag(column - first) : column - table->columns[e - 1]);
        }
        first = begin < end ? table->columns[begin] : first;
    }
    TESS_ASSERT((size_t)(at - bytes) <= numbers * NUMBER_BYTES_MAX);
    tessi_pack_array(buffer, 3);
    tessi_pack_binary(buffer, bytes, (size_t)(at - bytes));
    tessi_pack_u64(buffer, table->tasks);
    tessi_pack_u64(buffer, table->blocks);
    tessi_free(bytes);
}

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

static uint32_t take(struct reader *reader)
{
    uint32_t number = 0;
    for (unsigned shift = 0; reader->at < reader->end && shift < 7 * NUMBER_BYTES_MAX; shift += 7) {
        uint8_t byte = *reader->at++;
        if (shift == 28 && byte > 0x0f) {
            break; /* more than 32 bits */
        }
        number |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return number;
        }
    }
    reader->bad = true;
    return 0;
}

static bool read_rows(struct reader *reader, struct tessi_table *table, uint64_t entries)
{
    uint32_t used = 0, first = 0;
    for (uint64_t t = 0; t < table->tasks && !reader->bad; t++) {
        uint32_t count = take(reader);
        if (count > entries - used) {
            return false;
        }
        for (uint32_t n = 0; n < count; n++) {
            uint32_t number = take(reader);
            table->columns[used] = n == 0 ? first + unzigzag(number) : table->columns[used - 1] + number;
            used++;
        }
        first = count > 0 ? table->columns[used - count] : first;
        table->rows[t + 1] = used;
    }
    return !reader->bad && used == entries && reader->at == reader->end;
}

bool tessi_table_unpack(struct tessi_scan *scan, struct tessi_table *table)
{
    const uint8_t *bytes;
    size_t size;
    if (!tessi_scan_binary(scan, &bytes, &size) || !tessi_scan_u64(scan, &table->tasks) ||
        !tessi_scan_u64(scan, &table->blocks)) {
        return false;
    }
    uint64_t numbers = 0;
    for (size_t i = 0; i < size; i++) {
        numbers += bytes[i] < 0x80;
    }
    if (table->tasks > numbers || numbers > UINT32_MAX) {
        table->tasks = 0;
        return tessi_scan_fail(scan, "a table has fewer rows than it says");
    }
    uint64_t entries = numbers - table->tasks;
    table->rows = tessi_try_alloc((size_t)(table->tasks + 1) * sizeof *table->rows);
    table->columns = tessi_try_alloc((size_t)(entries + 1) * sizeof *table->columns);
    if (table->rows == NULL || table->columns == NULL) {
        return tessi_scan_fail(scan, "no memory for a table");
    }
    table->rows[0] = 0;
    struct reader reader = {bytes, bytes + size, false};
    return read_rows(&reader, table, entries) || tessi_scan_fail(scan, "the rows of a table do not fit its numbers");
}
