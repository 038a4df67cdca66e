/* Messages to bytes and back: every row of the table with random content; messages cut at every byte,
 * with bits flipped and with sizes that lie; how much memory a hostile message can take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/wire/build.h"
#include "core/wire/layer_codec.h"
#include "core/wire/pack.h"
#include "core/wire/scan.h"
#include "core/wire/span_codec.h"
#include "tests/unit/sample_message.h"

#define ROUNDS 40

static void assert_spans_equal(const struct tessi_spans *a, const struct tessi_spans *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct tessi_span *s = &a->items[i], *t = &b->items[i];
        assert_true(s->session == t->session && s->layer == t->layer && s->first == t->first && s->count == t->count);
        assert_true(s->epoch == t->epoch && s->worker == t->worker && s->order == t->order);
        assert_true(s->order_step == t->order_step && s->time_ns == t->time_ns);
    }
}

static void assert_reports_equal(const struct tessi_report *a, const struct tessi_report *b)
{
#define TESSI_ROW(name, columns) assert_spans_equal(&a->name, &b->name);
    TESSI_REPORT_LISTS(TESSI_ROW)
#undef TESSI_ROW
#define TESSI_ROW(name) assert_true(a->name == b->name);
    TESSI_REPORT_GAUGES(TESSI_ROW)
#undef TESSI_ROW
    assert_int_equal(a->failure_count, b->failure_count);
    for (size_t i = 0; i < a->failure_count; i++) {
        const struct tessi_failure *f = &a->failures[i], *g = &b->failures[i];
        assert_true(f->task.session == g->task.session && f->task.layer == g->task.layer);
        assert_true(f->task.index == g->task.index && f->epoch == g->epoch && f->status == g->status);
        assert_string_equal(f->text, g->text);
    }
}

static void assert_rules_equal(const struct tessi_map_rules *a, const struct tessi_map_rules *b)
{
    assert_int_equal(a->ndim, b->ndim);
    for (uint32_t d = 0; d < a->ndim; d++) {
        const struct tessi_rule *r = &a->rule[d], *s = &b->rule[d];
        assert_true(r->kind == s->kind && r->dim == s->dim && r->value == s->value && r->start == s->start &&
                    r->step == s->step);
    }
    assert_true((a->table == NULL) == (b->table == NULL));
    if (a->table != NULL) {
        const struct tessi_table *t = a->table, *u = b->table;
        assert_true(t->tasks == u->tasks && t->blocks == u->blocks);
        assert_memory_equal(t->rows, u->rows, (size_t)(t->tasks + 1) * sizeof *t->rows);
        if (t->rows[t->tasks] > 0) {
            assert_memory_equal(t->columns, u->columns, (size_t)t->rows[t->tasks] * sizeof *t->columns);
        }
    }
}

static void assert_scalars_equal(const struct tessi_scalar *a, const struct tessi_scalar *b)
{
    assert_int_equal(a->dtype, b->dtype);
    size_t size = a->dtype == TESSI_C128 ? 16 : 8;
    assert_memory_equal(&a->as, &b->as, size);
}

static void assert_programs_equal(const struct tessi_program *a, const struct tessi_program *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->nconstants, b->nconstants);
    for (uint32_t i = 0; i < a->count; i++) {
        assert_memory_equal(&a->code[i], &b->code[i], sizeof a->code[i]);
    }
    for (uint32_t i = 0; i < a->nconstants; i++) {
        assert_scalars_equal(&a->constants[i], &b->constants[i]);
    }
}

static void assert_parameters_equal(const struct tessi_layer *a, const struct tessi_layer *b)
{
    switch (a->op) {
    case TESSI_OP_RECEIVE:
        return;
    case TESSI_OP_FULL:
        assert_scalars_equal(&a->as.full, &b->as.full);
        return;
    case TESSI_OP_ARANGE:
        assert_scalars_equal(&a->as.arange.start, &b->as.arange.start);
        assert_scalars_equal(&a->as.arange.step, &b->as.arange.step);
        return;
    case TESSI_OP_EYE:
        assert_true(a->as.eye.diagonal == b->as.eye.diagonal);
        return;
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
        assert_memory_equal(&a->as.random, &b->as.random, sizeof a->as.random);
        return;
    case TESSI_OP_READ_NPY:
        assert_string_equal(a->as.npy.path, b->as.npy.path);
        assert_true(a->as.npy.offset == b->as.npy.offset && a->as.npy.swapped == b->as.npy.swapped);
        assert_true(tessi_file_identity_equal(&a->as.npy.file, &b->as.npy.file));
        return;
    case TESSI_OP_ELEMENTWISE:
        assert_programs_equal(&a->as.program, &b->as.program);
        return;
    case TESSI_OP_REDUCE:
        assert_true(a->as.reduce.fold == b->as.reduce.fold && a->as.reduce.axes == b->as.reduce.axes &&
                    a->as.reduce.keepdims == b->as.reduce.keepdims && a->as.reduce.from == b->as.reduce.from);
        assert_true(a->as.reduce.lifts == b->as.reduce.lifts && a->as.reduce.finishes == b->as.reduce.finishes);
        assert_memory_equal(&a->as.reduce.parameter, &b->as.reduce.parameter, sizeof a->as.reduce.parameter);
        return;
    case TESSI_OP_TRANSPOSE:
        assert_memory_equal(&a->as.transpose, &b->as.transpose, sizeof a->as.transpose);
        return;
    case TESSI_OP_REGRID:
        assert_memory_equal(&a->as.regrid, &b->as.regrid, sizeof a->as.regrid);
        return;
    case TESSI_OP_MATMUL:
        assert_true(a->as.matmul.transpose_a == b->as.matmul.transpose_a &&
                    a->as.matmul.transpose_b == b->as.matmul.transpose_b &&
                    a->as.matmul.segment == b->as.matmul.segment && a->as.matmul.compute == b->as.matmul.compute);
        return;
    case TESSI_OP_SYNTHETIC:
        assert_true(a->as.synthetic.nanoseconds == b->as.synthetic.nanoseconds &&
                    a->as.synthetic.spin == b->as.synthetic.spin);
        assert_true(a->as.synthetic.iterations == b->as.synthetic.iterations &&
                    a->as.synthetic.pin == b->as.synthetic.pin);
        assert_memory_equal(&a->as.synthetic.spread, &b->as.synthetic.spread, sizeof a->as.synthetic.spread);
        return;
    case TESSI_OP_WRITE_NPY:
        assert_string_equal(a->as.write.path, b->as.write.path);
        assert_string_equal(a->as.write.target, b->as.write.target);
        assert_true(a->as.write.offset == b->as.write.offset && a->as.write.bytes == b->as.write.bytes);
        assert_true(a->as.write.token[0] == b->as.write.token[0] && a->as.write.token[1] == b->as.write.token[1]);
        assert_true(a->as.write.host == b->as.write.host);
        return;
    }
    fail();
}

static void assert_layers_equal(const struct tessi_layer *a, const struct tessi_layer *b)
{
    assert_true(a->session == b->session && a->id == b->id && a->op == b->op && a->dtype == b->dtype);
    assert_true(tessi_grid_equal(&a->grid, &b->grid));
    assert_int_equal(a->ninputs, b->ninputs);
    assert_true(a->push == b->push);
    for (uint32_t i = 0; i < a->ninputs; i++) {
        assert_true(a->reads[i] == b->reads[i] && a->input[i].dtype == b->input[i].dtype);
        assert_true(tessi_grid_equal(&a->input[i].grid, &b->input[i].grid));
        assert_rules_equal(&a->input[i].rules, &b->input[i].rules);
    }
    assert_parameters_equal(a, b);
}

static void assert_fields_equal(const struct tessi_wire_field *field, const void *a, const void *b)
{
    switch (field->kind) {
    case TESSI_WIRE_u32:
        assert_int_equal(*(const uint32_t *)a, *(const uint32_t *)b);
        return;
    case TESSI_WIRE_u64:
    case TESSI_WIRE_i64:
    case TESSI_WIRE_f64:
        assert_memory_equal(a, b, 8);
        return;
    case TESSI_WIRE_flag:
        assert_true(*(const bool *)a == *(const bool *)b);
        return;
    case TESSI_WIRE_text:
        assert_string_equal(*(const char *const *)a, *(const char *const *)b);
        return;
    case TESSI_WIRE_hello:
        assert_string_equal(((const struct tessi_hello *)a)->families, ((const struct tessi_hello *)b)->families);
        assert_string_equal(((const struct tessi_hello *)b)->build, tessi_build_name());
        assert_int_equal(((const struct tessi_hello *)b)->protocol, TESSI_PROTOCOL_VERSION);
        return;
    case TESSI_WIRE_task:
        assert_memory_equal(a, b, sizeof(struct tessi_task));
        return;
    case TESSI_WIRE_spans:
        assert_spans_equal(a, b);
        return;
    case TESSI_WIRE_ids: {
        const struct tessi_id_list *s = a, *t = b;
        assert_int_equal(s->count, t->count);
        if (s->count > 0) {
            assert_memory_equal(s->items, t->items, s->count * sizeof *s->items);
        }
        return;
    }
    case TESSI_WIRE_layers: {
        const struct tessi_layer_list *s = a, *t = b;
        assert_int_equal(s->count, t->count);
        for (size_t i = 0; i < s->count; i++) {
            assert_layers_equal(s->items[i], t->items[i]);
        }
        return;
    }
    case TESSI_WIRE_report:
        assert_reports_equal(a, b);
        return;
    case TESSI_WIRE_stats:
        assert_memory_equal(a, b, sizeof(struct tessi_session_counts));
        return;
    case TESSI_WIRE_trace: {
        const struct tessi_trace_list *s = a, *t = b;
        assert_int_equal(s->count, t->count);
        if (s->count > 0) {
            assert_memory_equal(s->items, t->items, s->count * sizeof *s->items);
        }
        return;
    }
    }
    fail();
}

static void pack(const struct tessi_message *message, struct tessi_buffer *buffer)
{
    struct tessi_error error = {0};
    assert_int_equal(tessi_message_pack(buffer, message, &error), TESSI_OK);
}

/* False: no message has that code. */
static bool sample_packed(struct sample *sample, uint32_t code, struct tessi_buffer *buffer)
{
    if (tessi_wire_row(code) == NULL) {
        return false;
    }
    struct tessi_message message;
    sample_message(sample, (enum tessi_msg_type)code, &message);
    pack(&message, buffer);
    tessi_message_fini(&message);
    return true;
}

static void must_unpack(const struct tessi_buffer *buffer, struct tessi_message *message)
{
    struct tessi_error error = {0};
    enum tessi_status status = tessi_message_unpack(buffer->data, buffer->size, message, &error);
    if (status != TESSI_OK) {
        print_error("%s\n", error.text);
    }
    assert_int_equal(status, TESSI_OK);
}

static void round_trip(struct sample *sample, uint32_t code)
{
    const struct tessi_wire_row *row = tessi_wire_row(code);
    struct tessi_message sent, received;
    struct tessi_buffer first = {0}, second = {0};
    sample_message(sample, (enum tessi_msg_type)code, &sent);
    pack(&sent, &first);
    must_unpack(&first, &received);
    assert_int_equal(received.type, code);
    assert_true(received.run_id == sent.run_id);
    for (uint32_t i = 0; i < row->field_count; i++) {
        assert_fields_equal(&row->fields[i], (const uint8_t *)&sent.as + row->fields[i].offset,
                            (const uint8_t *)&received.as + row->fields[i].offset);
    }
    pack(&received, &second);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
    tessi_message_fini(&sent);
    tessi_message_fini(&received);
    tessi_buffer_fini(&first);
    tessi_buffer_fini(&second);
}

static void test_round_trip_of_every_row(void **state)
{
    (void)state;
    struct sample sample = {1};
    uint32_t rows = 0;
    for (uint32_t code = 0; code < TESSI_MSG_CODE_END; code++) {
        if (tessi_wire_row(code) != NULL) {
            rows++;
            for (int round = 0; round < ROUNDS; round++) {
                round_trip(&sample, code);
            }
        }
    }
    assert_true(rows >= 40);
}

/* A prefix of a message is never a message. The copy is as long as the prefix, so that a sanitizer sees
 * every byte read beyond it. */
static void test_truncation_at_every_byte(void **state)
{
    (void)state;
    struct sample sample = {2};
    for (uint32_t code = 0; code < TESSI_MSG_CODE_END; code++) {
        struct tessi_message out;
        struct tessi_buffer buffer = {0};
        if (!sample_packed(&sample, code, &buffer)) {
            continue;
        }
        for (size_t size = 0; size < buffer.size; size++) {
            struct tessi_error error = {0};
            uint8_t *copy = malloc(size > 0 ? size : 1);
            memcpy(copy, buffer.data, size);
            assert_int_not_equal(tessi_message_unpack(copy, size, &out, &error), TESSI_OK);
            assert_true(error.text[0] != 0);
            free(copy);
        }
        tessi_buffer_append(&buffer, "", 1);
        assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &out, NULL), TESSI_FORMAT);
        tessi_buffer_fini(&buffer);
    }
}

/* Damage may give another valid message, but nothing that cannot be dumped, packed and read again. */
static void test_bit_flips(void **state)
{
    (void)state;
    struct sample sample = {3};
    static char text[4096];
    unsigned accepted = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        uint32_t code;
        do {
            code = (uint32_t)sample_between(&sample, 0, TESSI_MSG_CODE_END - 1);
        } while (tessi_wire_row(code) == NULL);
        struct tessi_message message, again;
        struct tessi_buffer buffer = {0}, second = {0};
        (void)sample_packed(&sample, code, &buffer);
        for (int64_t flips = sample_between(&sample, 1, 4); flips > 0; flips--) {
            buffer.data[sample_next(&sample) % buffer.size] ^= (uint8_t)(1u << sample_next(&sample) % 8);
        }
        if (tessi_message_unpack(buffer.data, buffer.size, &message, NULL) == TESSI_OK) {
            accepted++;
            tessi_message_dump(&message, text, sizeof text);
            pack(&message, &second);
            must_unpack(&second, &again);
            tessi_message_fini(&again);
            tessi_message_fini(&message);
        } else {
            refused++;
        }
        tessi_buffer_fini(&buffer);
        tessi_buffer_fini(&second);
    }
    assert_true(accepted > 100 && refused > 100);
}

/* The 5-byte header that makes a trusting unpacker reserve 8 GiB, in all its places. */
static void test_sizes_that_lie(void **state)
{
    (void)state;
    static const uint8_t array32[] = {0xdd, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t bin32[] = {0xc6, 0xff, 0xff, 0xff, 0xf0};
    static const uint8_t str32[] = {0xdb, 0xff, 0xff, 0xff, 0xff};
    struct tessi_message out;
    assert_int_equal(tessi_message_unpack(array32, sizeof array32, &out, NULL), TESSI_FORMAT);
    for (uint32_t code = 0; code < TESSI_MSG_CODE_END; code++) {
        for (int which = 0; which < 3; which++) {
            for (size_t elements = 2; elements < 12; elements++) {
                struct tessi_buffer buffer = {0};
                tessi_pack_array(&buffer, elements);
                tessi_pack_u64(&buffer, code);
                tessi_pack_u64(&buffer, 1);
                tessi_buffer_append(&buffer, which == 0 ? array32 : which == 1 ? bin32 : str32, 5);
                tessi_buffer_append(&buffer, "\0\0\0\0\0\0\0\0\0\0\0", 11);
                assert_int_not_equal(tessi_message_unpack(buffer.data, buffer.size, &out, NULL), TESSI_OK);
                tessi_buffer_fini(&buffer);
            }
        }
    }
}

/* A count of spans that only a full first column could back. */
static void test_span_count_is_backed_by_bytes(void **state)
{
    (void)state;
    struct tessi_buffer buffer = {0};
    uint64_t zero = 0, one = 1;
    uint32_t id = 1;
    tessi_pack_array(&buffer, 3);
    tessi_pack_u64(&buffer, TESSI_MSG_LOCATE);
    tessi_pack_u64(&buffer, 1);
    tessi_pack_array(&buffer, 7);
    tessi_pack_u64(&buffer, UINT32_MAX);
    tessi_pack_binary(&buffer, &zero, sizeof zero);
    tessi_pack_binary(&buffer, &one, sizeof one);
    for (int i = 0; i < 4; i++) {
        tessi_pack_binary(&buffer, &id, sizeof id);
    }
    struct tessi_message out;
    assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &out, NULL), TESSI_FORMAT);
    tessi_buffer_fini(&buffer);
}

static void test_spans_of_impossible_length(void **state)
{
    (void)state;
    struct tessi_span bad[] = {{.session = 1, .layer = 1, .first = 5, .count = 0},
                               {.session = 1, .layer = 1, .first = UINT64_MAX, .count = 2}};
    for (size_t i = 0; i < 2; i++) {
        struct tessi_buffer buffer = {0};
        struct tessi_message out, message = {.type = TESSI_MSG_LOCATE, .as.locate.spans = tessi_spans_view(&bad[i], 1)};
        pack(&message, &buffer);
        assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &out, NULL), TESSI_FORMAT);
        tessi_buffer_fini(&buffer);
    }
}

/* Every allocation whose size a peer chooses may fail: then the message is refused and nothing leaks. */
static void test_memory_that_runs_out(void **state)
{
    (void)state;
    struct sample sample = {4};
    for (uint32_t code = 0; code < TESSI_MSG_CODE_END; code++) {
        struct tessi_message out;
        struct tessi_buffer buffer = {0};
        if (!sample_packed(&sample, code, &buffer)) {
            continue;
        }
        enum tessi_status status;
        uint64_t nth = 0;
        do {
            tessi_alloc_fail_at(++nth);
            status = tessi_message_unpack(buffer.data, buffer.size, &out, NULL);
            tessi_alloc_fail_at(0);
        } while (status != TESSI_OK && nth < 10000);
        assert_int_equal(status, TESSI_OK);
        tessi_message_fini(&out);
        tessi_buffer_fini(&buffer);
    }
}

static void test_another_protocol_version(void **state)
{
    (void)state;
    struct tessi_buffer buffer = {0};
    const uint32_t mark = UINT32_C(0x01020304);
    tessi_pack_array(&buffer, 9); /* a later version may have other fields after the hello */
    tessi_pack_u64(&buffer, TESSI_MSG_HELLO_CLIENT);
    tessi_pack_u64(&buffer, 0);
    tessi_pack_text(&buffer, "TESS", 4);
    tessi_pack_u64(&buffer, 77);
    tessi_pack_text(&buffer, "9.9.9", 63);
    tessi_pack_binary(&buffer, &mark, sizeof mark);
    tessi_pack_text(&buffer, "", 63);
    tessi_pack_bool(&buffer, true);
    tessi_pack_bool(&buffer, true);
    struct tessi_message out;
    struct tessi_error error = {0};
    assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &out, &error), TESSI_VERSION);
    assert_non_null(strstr(error.text, "77"));
    assert_non_null(strstr(error.text, "9.9.9"));
    assert_non_null(strstr(error.text, tessi_build_name()));
    tessi_buffer_fini(&buffer);
}

static void test_big_endian_is_refused(void **state)
{
    (void)state;
    struct tessi_buffer buffer = {0};
    const uint32_t mark = UINT32_C(0x04030201);
    tessi_pack_array(&buffer, 7);
    tessi_pack_u64(&buffer, TESSI_MSG_STATUS_REQUEST);
    tessi_pack_u64(&buffer, 0);
    tessi_pack_text(&buffer, "TESS", 4);
    tessi_pack_u64(&buffer, TESSI_PROTOCOL_VERSION);
    tessi_pack_text(&buffer, "0", 63);
    tessi_pack_binary(&buffer, &mark, sizeof mark);
    tessi_pack_text(&buffer, "", 63);
    struct tessi_message out;
    assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &out, NULL), TESSI_VERSION);
    tessi_buffer_fini(&buffer);
}

/* The bytes of a hello, for ever. */
static void test_hello_is_frozen(void **state)
{
    (void)state;
    struct tessi_message message = {.type = TESSI_MSG_STATUS_REQUEST};
    struct tessi_buffer buffer = {0}, expected = {0};
    static const char prefix[] = {(char)0x97, 3, 0, (char)0xa4, 'T', 'E', 'S', 'S', TESSI_PROTOCOL_VERSION};
    static const char mark[] = {(char)0xc4, 4, 4, 3, 2, 1, (char)0xa0};
    size_t length = strlen(tessi_build_name());
    char header = (char)(0xa0 + length);
    pack(&message, &buffer);
    tessi_buffer_append(&expected, prefix, sizeof prefix);
    tessi_buffer_append(&expected, &header, 1);
    tessi_buffer_append(&expected, tessi_build_name(), length);
    tessi_buffer_append(&expected, mark, sizeof mark);
    assert_int_equal(buffer.size, expected.size);
    assert_memory_equal(buffer.data, expected.data, expected.size);
    tessi_buffer_fini(&buffer);
    tessi_buffer_fini(&expected);
}

static void test_too_big_is_refused(void **state)
{
    (void)state;
    size_t count = TESSI_MESSAGE_MAX / sizeof(uint32_t) + 1;
    uint32_t *ids = tessi_zalloc(count * sizeof *ids);
    struct tessi_message message = {.type = TESSI_MSG_RELEASE, .as.release.ids = {ids, count}};
    struct tessi_buffer buffer = {0};
    struct tessi_error error = {0};
    tessi_buffer_append(&buffer, "x", 1);
    assert_int_equal(tessi_message_pack(&buffer, &message, &error), TESSI_TOO_BIG);
    assert_int_equal(buffer.size, 1);
    tessi_free(ids);
    tessi_buffer_fini(&buffer);
}

static void test_texts_are_cut_at_characters(void **state)
{
    (void)state;
    char text[TESSI_WIRE_NAME_MAX + 10];
    memset(text, 'a', sizeof text);
    memcpy(text + TESSI_WIRE_NAME_MAX - 1, "\xc3\xa9", 2); /* é across the limit */
    text[sizeof text - 1] = 0;
    struct tessi_message out, message = {.type = TESSI_MSG_HELLO_CLIENT, .as.hello_client.name = text};
    struct tessi_buffer buffer = {0};
    pack(&message, &buffer);
    must_unpack(&buffer, &out);
    assert_int_equal(strlen(out.as.hello_client.name), TESSI_WIRE_NAME_MAX - 1);
    tessi_message_fini(&out);
    tessi_buffer_fini(&buffer);
}

static void test_integers_of_every_width(void **state)
{
    (void)state;
    static const int64_t values[] = {0,         1,  127, 128, 255,  256,  65535,  65536,  INT32_MAX, INT64_C(1) << 32,
                                     INT64_MAX, -1, -32, -33, -128, -129, -32768, -32769, INT32_MIN, INT64_MIN};
    struct tessi_buffer buffer = {0};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        tessi_pack_i64(&buffer, values[i]);
    }
    struct tessi_scan scan;
    tessi_scan_init(&scan, buffer.data, buffer.size);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        int64_t value;
        assert_true(tessi_scan_i64(&scan, &value));
        assert_true(value == values[i]);
    }
    assert_true(tessi_scan_at_end(&scan));
    uint64_t wide;
    tessi_buffer_clear(&buffer);
    tessi_pack_i64(&buffer, -1);
    tessi_scan_init(&scan, buffer.data, buffer.size);
    assert_false(tessi_scan_u64(&scan, &wide));
    assert_false(tessi_scan_at_end(&scan)); /* a failure stays */
    tessi_buffer_fini(&buffer);
}

/* A layer that decodes but breaks the rules of layers is refused by name. */
static void test_layers_are_checked(void **state)
{
    (void)state;
    struct sample sample = {5};
    struct tessi_layer *layer = sample_layer(&sample, TESSI_OP_TRANSPOSE);
    layer->as.transpose.axis[0] = 17;
    struct tessi_message out, message = {.type = TESSI_MSG_SUBMIT, .as.submit.layers = {&layer, 1}};
    struct tessi_buffer buffer = {0};
    struct tessi_error error = {0};
    pack(&message, &buffer);
    assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &out, &error), TESSI_INVALID);
    assert_non_null(strstr(error.text, "permutation"));
    tessi_layer_destroy(layer);
    tessi_buffer_fini(&buffer);
}

/* The scheduler counts answers for the thief that waits for them, so both kinds have to name it. */
static void test_answers_to_steals_name_the_thief(void **state)
{
    (void)state;
    struct tessi_message message = {.type = TESSI_MSG_REPORT}, again;
    struct tessi_report *report = &message.as.report.report;
    struct tessi_span span = {.session = 1, .layer = 2, .first = 3, .count = 1, .epoch = 4, .worker = 5};
    tessi_spans_push(&report->kept, span);
    tessi_spans_push(&report->stolen, span);
    struct tessi_buffer buffer = {0};
    pack(&message, &buffer);
    must_unpack(&buffer, &again);
    assert_int_equal(again.as.report.report.kept.items[0].worker, 5);
    assert_int_equal(again.as.report.report.stolen.items[0].worker, 5);
    tessi_message_fini(&again);
    tessi_buffer_fini(&buffer);
    tessi_report_fini(report);
}

static void test_trace_records_are_bounded(void **state)
{
    (void)state;
    struct tessi_trace_record *records = tessi_zalloc((TESSI_WIRE_TRACE_MAX + 1) * sizeof *records);
    struct tessi_message message = {.type = TESSI_MSG_TRACE_PAGE}, again;
    struct tessi_buffer buffer = {0};
    for (size_t i = 0; i <= TESSI_WIRE_TRACE_MAX; i++) {
        records[i].kind = TESSI_TRACE_RUN;
    }
    message.as.trace_page.records = (struct tessi_trace_list){records, TESSI_WIRE_TRACE_MAX};
    pack(&message, &buffer);
    must_unpack(&buffer, &again);
    tessi_message_fini(&again);
    message.as.trace_page.records.count++;
    tessi_buffer_clear(&buffer);
    pack(&message, &buffer);
    assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &again, NULL), TESSI_FORMAT);
    records[7].kind = 15; /* no such kind */
    message.as.trace_page.records.count = 8;
    tessi_buffer_clear(&buffer);
    pack(&message, &buffer);
    assert_int_equal(tessi_message_unpack(buffer.data, buffer.size, &again, NULL), TESSI_FORMAT);
    tessi_buffer_fini(&buffer);
    tessi_free(records);
}

static void test_dump(void **state)
{
    (void)state;
    struct tessi_span span = {.session = 3, .layer = 4, .first = 10, .count = 5};
    struct tessi_message message = {
        .type = TESSI_MSG_READ, .run_id = 255, .as.read = {.spans = tessi_spans_view(&span, 1), .lease = true}};
    char text[512], tiny[12];
    tessi_message_dump(&message, text, sizeof text);
    assert_non_null(strstr(text, "read run_id=00000000000000ff spans=[3.4:10+5"));
    assert_non_null(strstr(text, "lease=true"));
    tessi_message_dump(&message, tiny, sizeof tiny);
    assert_int_equal(strlen(tiny), sizeof tiny - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_of_every_row),
        cmocka_unit_test(test_truncation_at_every_byte),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_sizes_that_lie),
        cmocka_unit_test(test_span_count_is_backed_by_bytes),
        cmocka_unit_test(test_spans_of_impossible_length),
        cmocka_unit_test(test_memory_that_runs_out),
        cmocka_unit_test(test_another_protocol_version),
        cmocka_unit_test(test_big_endian_is_refused),
        cmocka_unit_test(test_hello_is_frozen),
        cmocka_unit_test(test_too_big_is_refused),
        cmocka_unit_test(test_texts_are_cut_at_characters),
        cmocka_unit_test(test_integers_of_every_width),
        cmocka_unit_test(test_layers_are_checked),
        cmocka_unit_test(test_answers_to_steals_name_the_thief),
        cmocka_unit_test(test_trace_records_are_bounded),
        cmocka_unit_test(test_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
