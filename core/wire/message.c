#include "core/wire/message.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/wire/build.h"
#include "core/wire/layer_codec.h"
#include "core/wire/pack.h"
#include "core/wire/scan.h"
#include "core/wire/span_codec.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "columns on the wire are little-endian memory");

#define HELLO_MAGIC "TESS"
#define HELLO_ENDIANNESS UINT32_C(0x01020304) /* sent as memory, so that a big-endian sender shows */
#define HELLO_FIELDS 5

/* ——— the table ——— */

#define TESSI_FIELD(message, kind, name, limit)                                                                        \
    {#name, TESSI_WIRE_##kind, offsetof(struct tessi_msg_##message, name), limit},
#define TESSI_ROW(NAME, name, code)                                                                                    \
    static const struct tessi_wire_field fields_##name[] = {TESSI_FIELDS_##name(TESSI_FIELD, name)};
TESSI_MSG_TABLE(TESSI_ROW)
#undef TESSI_ROW
#undef TESSI_FIELD

static const struct tessi_wire_row rows[TESSI_MSG_CODE_END] = {
#define TESSI_ROW(NAME, name, code) [code] = {#name, fields_##name, sizeof fields_##name / sizeof fields_##name[0]},
    TESSI_MSG_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

const struct tessi_wire_row *tessi_wire_row(uint32_t code)
{
    return code < TESSI_MSG_CODE_END && rows[code].name != NULL ? &rows[code] : NULL;
}

const char *tessi_message_name(enum tessi_msg_type type)
{
    const struct tessi_wire_row *row = tessi_wire_row((uint32_t)type);
    return row != NULL ? row->name : "unknown";
}

static uint32_t elements(const struct tessi_wire_field *field)
{
    switch (field->kind) {
    case TESSI_WIRE_hello:
        return HELLO_FIELDS;
    case TESSI_WIRE_u32:
    case TESSI_WIRE_u64:
    case TESSI_WIRE_i64:
    case TESSI_WIRE_f64:
    case TESSI_WIRE_flag:
    case TESSI_WIRE_text:
    case TESSI_WIRE_task:
    case TESSI_WIRE_spans:
    case TESSI_WIRE_ids:
    case TESSI_WIRE_layers:
    case TESSI_WIRE_report:
    case TESSI_WIRE_stats:
    case TESSI_WIRE_trace:
        return 1;
    }
    return 1;
}

/* Elements of the message's array. Spans and reports are inside arrays of their own so that the count
 * is the row's, whatever the content. */
static uint32_t row_elements(const struct tessi_wire_row *row)
{
    uint32_t count = 2;
    for (uint32_t i = 0; i < row->field_count; i++) {
        count += elements(&row->fields[i]);
    }
    return count;
}

/* ——— packing ——— */

static void pack_hello(struct tessi_buffer *buffer, const struct tessi_hello *hello)
{
    const uint32_t endianness = HELLO_ENDIANNESS;
    tessi_pack_text(buffer, HELLO_MAGIC, sizeof HELLO_MAGIC);
    tessi_pack_u64(buffer, TESSI_PROTOCOL_VERSION);
    tessi_pack_text(buffer, tessi_build_name(), TESSI_WIRE_NAME_MAX);
    tessi_pack_binary(buffer, &endianness, sizeof endianness);
    tessi_pack_text(buffer, hello->families, TESSI_WIRE_NAME_MAX);
}

static void pack_layers(struct tessi_buffer *buffer, const struct tessi_layer_list *layers)
{
    tessi_pack_array(buffer, layers->count);
    for (size_t i = 0; i < layers->count && buffer->size <= TESSI_MESSAGE_MAX; i++) {
        tessi_layer_pack(buffer, layers->items[i]);
    }
}

static void pack_field(struct tessi_buffer *buffer, const struct tessi_wire_field *field, const void *value)
{
    switch (field->kind) {
    case TESSI_WIRE_u32:
        tessi_pack_u64(buffer, *(const uint32_t *)value);
        return;
    case TESSI_WIRE_u64:
        tessi_pack_u64(buffer, *(const uint64_t *)value);
        return;
    case TESSI_WIRE_i64:
        tessi_pack_i64(buffer, *(const int64_t *)value);
        return;
    case TESSI_WIRE_f64:
        tessi_pack_f64(buffer, *(const double *)value);
        return;
    case TESSI_WIRE_flag:
        tessi_pack_bool(buffer, *(const bool *)value);
        return;
    case TESSI_WIRE_text:
        tessi_pack_text(buffer, *(const char *const *)value, field->limit);
        return;
    case TESSI_WIRE_hello:
        pack_hello(buffer, value);
        return;
    case TESSI_WIRE_task: {
        const struct tessi_task *task = value;
        tessi_pack_array(buffer, 3);
        tessi_pack_u64(buffer, task->session);
        tessi_pack_u64(buffer, task->layer);
        tessi_pack_u64(buffer, task->index);
        return;
    }
    case TESSI_WIRE_spans:
        tessi_spans_pack(buffer, value, field->limit);
        return;
    case TESSI_WIRE_ids: {
        const struct tessi_id_list *ids = value;
        tessi_pack_binary(buffer, ids->items, ids->count * sizeof *ids->items);
        return;
    }
    case TESSI_WIRE_layers:
        pack_layers(buffer, value);
        return;
    case TESSI_WIRE_report:
        tessi_report_pack(buffer, value);
        return;
    case TESSI_WIRE_stats: {
        const struct tessi_session_counts *stats = value;
        tessi_pack_array(buffer, 5);
        tessi_pack_u64(buffer, stats->tasks_done);
        tessi_pack_u64(buffer, stats->tasks_rerun);
        tessi_pack_u64(buffer, stats->steals);
        tessi_pack_u64(buffer, stats->workers_lost);
        tessi_pack_u64(buffer, stats->bytes_moved);
        return;
    }
    case TESSI_WIRE_trace: {
        const struct tessi_trace_list *records = value;
        tessi_pack_binary(buffer, records->items, records->count * sizeof *records->items);
        return;
    }
    }
}

static const void *layers_field(const struct tessi_wire_row *row, const void *body)
{
    for (uint32_t i = 0; i < row->field_count; i++) {
        if (row->fields[i].kind == TESSI_WIRE_layers) {
            return (const uint8_t *)body + row->fields[i].offset;
        }
    }
    return NULL;
}

enum tessi_status tessi_message_pack(struct tessi_buffer *buffer, const struct tessi_message *message,
                                     struct tessi_error *error)
{
    const struct tessi_wire_row *row = tessi_wire_row((uint32_t)message->type);
    TESS_ASSERT(row != NULL);
    const struct tessi_layer_list *layers = layers_field(row, &message->as);
    if (layers != NULL && layers->count > TESSI_LAYERS_MAX) {
        return tessi_fail(error, TESSI_TOO_BIG,
                          "%s: %zu layers in one message, the limit is %d; compute parts of the graph first", row->name,
                          layers->count, TESSI_LAYERS_MAX);
    }
    size_t start = buffer->size;
    tessi_pack_array(buffer, row_elements(row));
    tessi_pack_u64(buffer, (uint64_t)message->type);
    tessi_pack_u64(buffer, message->run_id);
    for (uint32_t i = 0; i < row->field_count; i++) {
        pack_field(buffer, &row->fields[i], (const uint8_t *)&message->as + row->fields[i].offset);
    }
    if (buffer->size - start > TESSI_MESSAGE_MAX) {
        size_t size = buffer->size - start;
        buffer->size = start;
        return tessi_fail(error, TESSI_TOO_BIG,
                          "%s: a message of %zu bytes or more, the limit is %zu; compute parts of the graph first",
                          row->name, size, TESSI_MESSAGE_MAX);
    }
    return TESSI_OK;
}

/* ——— unpacking ——— */

struct reader {
    struct tessi_scan scan;
    struct tessi_error *error;
    enum tessi_status status; /* other than OK: `error` has been filled */
};

static bool unpack_hello(struct reader *reader, struct tessi_hello *hello)
{
    struct tessi_scan *scan = &reader->scan;
    char magic[sizeof HELLO_MAGIC];
    const uint8_t *mark;
    size_t mark_size;
    const uint32_t endianness = HELLO_ENDIANNESS;
    if (!tessi_scan_text_into(scan, magic, sizeof magic)) {
        return false;
    }
    if (strcmp(magic, HELLO_MAGIC) != 0) {
        return tessi_scan_fail(scan, "a hello without the magic word");
    }
    if (!tessi_scan_u32(scan, &hello->protocol) || !tessi_scan_text_into(scan, hello->build, sizeof hello->build) ||
        !tessi_scan_binary(scan, &mark, &mark_size) ||
        !tessi_scan_text_into(scan, hello->families, sizeof hello->families)) {
        return false;
    }
    if (mark_size != sizeof endianness || memcmp(mark, &endianness, sizeof endianness) != 0) {
        reader->status = tessi_fail(reader->error, TESSI_VERSION,
                                    "a big-endian peer of build %s; Tessera needs little-endian hosts", hello->build);
        return false;
    }
    if (hello->protocol != TESSI_PROTOCOL_VERSION) {
        reader->status = tessi_fail(reader->error, TESSI_VERSION,
                                    "this side is Tessera %s with protocol %d, the other is %s with protocol %u; "
                                    "install the same version on both",
                                    tessi_build_name(), TESSI_PROTOCOL_VERSION, hello->build, hello->protocol);
        return false;
    }
    return true;
}

static bool unpack_ids(struct tessi_scan *scan, struct tessi_id_list *ids)
{
    const uint8_t *bytes;
    size_t size;
    if (!tessi_scan_binary(scan, &bytes, &size)) {
        return false;
    }
    if (size % sizeof *ids->items != 0) {
        return tessi_scan_fail(scan, "a column of ids has the wrong length");
    }
    if (size == 0) {
        return true;
    }
    uint32_t *items = tessi_try_alloc(size);
    if (items == NULL) {
        return tessi_scan_fail(scan, "no memory for ids");
    }
    memcpy(items, bytes, size);
    *ids = (struct tessi_id_list){items, size / sizeof *items};
    return true;
}

/* Layers that follow each other mostly read alike. */
static void share_inputs(const struct tessi_layer_list *layers, uint32_t i)
{
    enum { LOOK_BACK = 4 };
    for (uint32_t back = 1; back <= LOOK_BACK && back <= i; back++) {
        if (tessi_layer_share_inputs(layers->items[i], layers->items[i - back])) {
            return;
        }
    }
}

static bool unpack_layers(struct reader *reader, struct tessi_layer_list *layers)
{
    uint32_t count;
    if (!tessi_scan_array(&reader->scan, &count)) {
        return false;
    }
    if (count > TESSI_LAYERS_MAX) {
        return tessi_scan_fail(&reader->scan, "too many layers in one message");
    }
    if (count == 0) {
        return true;
    }
    layers->items = tessi_try_alloc(count * sizeof(struct tessi_layer *));
    if (layers->items == NULL) {
        return tessi_scan_fail(&reader->scan, "no memory for layers");
    }
    for (uint32_t i = 0; i < count; i++) {
        enum tessi_status status = tessi_layer_unpack(&reader->scan, &layers->items[i], reader->error);
        if (status != TESSI_OK) {
            reader->status = status;
            return false;
        }
        layers->count = i + 1;
        share_inputs(layers, i);
    }
    return true;
}

static bool unpack_task(struct tessi_scan *scan, struct tessi_task *task)
{
    return tessi_scan_array_of(scan, 3) && tessi_scan_u32(scan, &task->session) && tessi_scan_u32(scan, &task->layer) &&
           tessi_scan_u64(scan, &task->index);
}

static bool unpack_trace(struct tessi_scan *scan, struct tessi_trace_list *records, uint32_t limit)
{
    const uint8_t *bytes;
    size_t size;
    if (!tessi_scan_binary(scan, &bytes, &size)) {
        return false;
    }
    if (size % sizeof *records->items != 0 || size / sizeof *records->items > limit) {
        return tessi_scan_fail(scan, "a table of trace records has the wrong length");
    }
    if (size == 0) {
        return true;
    }
    struct tessi_trace_record *items = tessi_try_alloc(size);
    if (items == NULL) {
        return tessi_scan_fail(scan, "no memory for trace records");
    }
    memcpy(items, bytes, size);
    *records = (struct tessi_trace_list){items, size / sizeof *items};
    for (size_t i = 0; i < records->count; i++) {
        if (!tessi_trace_kind_valid(items[i].kind)) {
            return tessi_scan_fail(scan, "a trace record of an unknown kind");
        }
    }
    return true;
}

static bool unpack_stats(struct tessi_scan *scan, struct tessi_session_counts *stats)
{
    return tessi_scan_array_of(scan, 5) && tessi_scan_u64(scan, &stats->tasks_done) &&
           tessi_scan_u64(scan, &stats->tasks_rerun) && tessi_scan_u64(scan, &stats->steals) &&
           tessi_scan_u64(scan, &stats->workers_lost) && tessi_scan_u64(scan, &stats->bytes_moved);
}

static bool unpack_field(struct reader *reader, const struct tessi_wire_field *field, void *value)
{
    struct tessi_scan *scan = &reader->scan;
    switch (field->kind) {
    case TESSI_WIRE_u32:
        return tessi_scan_u32(scan, value);
    case TESSI_WIRE_u64:
        return tessi_scan_u64(scan, value);
    case TESSI_WIRE_i64:
        return tessi_scan_i64(scan, value);
    case TESSI_WIRE_f64:
        return tessi_scan_f64(scan, value);
    case TESSI_WIRE_flag:
        return tessi_scan_bool(scan, value);
    case TESSI_WIRE_text: {
        char *text = tessi_scan_text_copy(scan, field->limit);
        *(const char **)value = text;
        return text != NULL;
    }
    case TESSI_WIRE_hello:
        return unpack_hello(reader, value);
    case TESSI_WIRE_task:
        return unpack_task(scan, value);
    case TESSI_WIRE_spans:
        return tessi_spans_unpack(scan, value, field->limit);
    case TESSI_WIRE_ids:
        return unpack_ids(scan, value);
    case TESSI_WIRE_layers:
        return unpack_layers(reader, value);
    case TESSI_WIRE_report:
        return tessi_report_unpack(scan, value);
    case TESSI_WIRE_stats:
        return unpack_stats(scan, value);
    case TESSI_WIRE_trace:
        return unpack_trace(scan, value, field->limit);
    }
    return false;
}

static bool unpack_body(struct reader *reader, struct tessi_message *message)
{
    struct tessi_scan *scan = &reader->scan;
    uint32_t count, code;
    if (!tessi_scan_array(scan, &count) || !tessi_scan_u32(scan, &code) || !tessi_scan_u64(scan, &message->run_id)) {
        return false;
    }
    const struct tessi_wire_row *row = tessi_wire_row(code);
    if (row == NULL) {
        return tessi_scan_fail(scan, "an unknown kind of message");
    }
    message->type = (enum tessi_msg_type)code;
    for (uint32_t i = 0; i < row->field_count; i++) {
        /* What follows a hello depends on its version, so the version is judged before the count is. */
        if ((i > 0 || row->fields[0].kind != TESSI_WIRE_hello) && count != row_elements(row)) {
            return tessi_scan_fail(scan, "a message has the wrong number of fields");
        }
        if (!unpack_field(reader, &row->fields[i], (uint8_t *)&message->as + row->fields[i].offset)) {
            return false;
        }
    }
    if (count != row_elements(row)) {
        return tessi_scan_fail(scan, "a message has the wrong number of fields");
    }
    return tessi_scan_at_end(scan);
}

enum tessi_status tessi_message_unpack(const void *bytes, size_t size, struct tessi_message *message,
                                       struct tessi_error *error)
{
    struct reader reader = {.error = error, .status = TESSI_OK};
    memset(message, 0, sizeof *message);
    tessi_scan_init(&reader.scan, bytes, size);
    if (size > TESSI_MESSAGE_MAX) {
        tessi_scan_fail(&reader.scan, "it is too long");
    } else if (unpack_body(&reader, message)) {
        return TESSI_OK;
    }
    enum tessi_status status = reader.status != TESSI_OK ? reader.status : tessi_scan_status(&reader.scan, error);
    tessi_message_fini(message);
    return status;
}

bool tessi_message_peek(const void *bytes, size_t size, enum tessi_msg_type *type, uint64_t *run_id)
{
    struct tessi_scan scan;
    uint32_t count, code;
    tessi_scan_init(&scan, bytes, size);
    if (!tessi_scan_array(&scan, &count) || !tessi_scan_u32(&scan, &code) || !tessi_scan_u64(&scan, run_id) ||
        tessi_wire_row(code) == NULL) {
        return false;
    }
    *type = (enum tessi_msg_type)code;
    return true;
}

static void layers_fini(struct tessi_layer_list *layers)
{
    for (size_t i = 0; i < layers->count; i++) {
        tessi_layer_destroy(layers->items[i]);
    }
    tessi_free(layers->items);
}

static void field_fini(const struct tessi_wire_field *field, void *value)
{
    switch (field->kind) {
    case TESSI_WIRE_u32:
    case TESSI_WIRE_u64:
    case TESSI_WIRE_i64:
    case TESSI_WIRE_f64:
    case TESSI_WIRE_flag:
    case TESSI_WIRE_hello:
    case TESSI_WIRE_task:
    case TESSI_WIRE_stats:
        return;
    case TESSI_WIRE_text:
        tessi_free((void *)(uintptr_t) * (const char *const *)value);
        return;
    case TESSI_WIRE_spans:
        tessi_spans_fini(value);
        return;
    case TESSI_WIRE_ids:
        tessi_free((void *)(uintptr_t)((struct tessi_id_list *)value)->items);
        return;
    case TESSI_WIRE_layers:
        layers_fini(value);
        return;
    case TESSI_WIRE_report:
        tessi_report_fini(value);
        return;
    case TESSI_WIRE_trace:
        tessi_free((void *)(uintptr_t)((struct tessi_trace_list *)value)->items);
        return;
    }
}

void tessi_message_fini(struct tessi_message *message)
{
    const struct tessi_wire_row *row = tessi_wire_row((uint32_t)message->type);
    for (uint32_t i = 0; row != NULL && i < row->field_count; i++) {
        field_fini(&row->fields[i], (uint8_t *)&message->as + row->fields[i].offset);
    }
    memset(message, 0, sizeof *message);
}
