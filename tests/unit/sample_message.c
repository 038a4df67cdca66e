#include "tests/unit/sample_message.h"

#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/wire/span_codec.h"

static struct tessi_rule same(uint32_t dim)
{
    return (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = dim};
}

static struct tessi_scalar sample_scalar(struct sample *sample, enum tessi_dtype dtype)
{
    struct tessi_scalar scalar = {.dtype = dtype};
    switch (tessi_dtype_kind(dtype)) {
    case TESSI_KIND_BOOLEAN:
        scalar.as.u = sample_next(sample) & 1;
        break;
    case TESSI_KIND_UNSIGNED:
        scalar.as.u = sample_next(sample);
        break;
    case TESSI_KIND_SIGNED:
        scalar.as.i = (int64_t)sample_next(sample);
        break;
    case TESSI_KIND_FLOAT:
        scalar.as.f = (double)sample_between(sample, -1000, 1000) / 7.0;
        break;
    case TESSI_KIND_COMPLEX:
        scalar.as.c[0] = (double)sample_between(sample, -1000, 1000) / 7.0;
        scalar.as.c[1] = (double)sample_between(sample, -1000, 1000) / 3.0;
        break;
    }
    return scalar;
}

/* Give input `i` the output's grid and identity rules. */
static void identity_input(struct tessi_layer *layer, enum tessi_dtype dtype)
{
    struct tessi_input *input = tessi_layer_add_input(layer, layer->id + layer->ninputs + 1);
    input->dtype = dtype;
    tessi_grid_copy(&input->grid, &layer->grid);
    input->rules.ndim = layer->grid.ndim;
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        input->rules.rule[d] = same(d);
    }
}

static void fill_elementwise(struct sample *sample, struct tessi_layer *layer)
{
    struct tessi_program *program = &layer->as.program;
    identity_input(layer, TESSI_F64);
    identity_input(layer, TESSI_I32);
    program->nconstants = 3;
    program->constants = tessi_zalloc(3 * sizeof *program->constants);
    program->constants[0] = sample_scalar(sample, TESSI_F64);
    program->constants[1] = sample_scalar(sample, TESSI_I64);
    program->constants[2] = sample_scalar(sample, TESSI_C128);
    program->count = 3;
    program->code = tessi_zalloc(3 * sizeof *program->code);
    program->code[0] = (struct tessi_instruction){.op = TESSI_EWISE_MULTIPLY, .dtype = TESSI_F64, .a = 0, .b = 1};
    program->code[1] = (struct tessi_instruction){.op = TESSI_EWISE_ADD, .dtype = TESSI_F64, .a = 5, .b = 2};
    program->code[2] = (struct tessi_instruction){.op = TESSI_EWISE_SQRT, .dtype = TESSI_F64, .a = 6, .b = 0};
}

static void fill_reduce(struct tessi_layer *layer)
{
    identity_input(layer, TESSI_F64);
    layer->as.reduce.fold = TESSI_FOLD_SUM;
    layer->as.reduce.axes = 1u << (layer->grid.ndim - 1);
    layer->input[0].rules.rule[layer->grid.ndim - 1] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    layer->grid.ndim--;
    tessi_axis_fini(&layer->grid.axis[layer->grid.ndim]);
}

static void fill_transpose(struct tessi_layer *layer)
{
    struct tessi_input *input = tessi_layer_add_input(layer, layer->id + 1);
    uint32_t ndim = layer->grid.ndim;
    input->dtype = TESSI_F64;
    input->grid.ndim = input->rules.ndim = ndim;
    for (uint32_t d = 0; d < ndim; d++) {
        uint32_t axis = (d + 1) % ndim;
        layer->as.transpose.axis[d] = axis;
        input->rules.rule[axis] = same(d);
        input->grid.axis[axis] = tessi_axis_copy(&layer->grid.axis[d]);
    }
}

static void fill_regrid(struct sample *sample, struct tessi_layer *layer)
{
    struct tessi_input *input = tessi_layer_add_input(layer, layer->id + 1);
    input->dtype = TESSI_F64;
    input->grid.ndim = input->rules.ndim = layer->grid.ndim;
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        int64_t start = sample_between(sample, 0, 3), step = sample_between(sample, 1, 3);
        int64_t extent = layer->grid.axis[d].extent;
        layer->as.regrid.start[d] = start;
        layer->as.regrid.step[d] = step;
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .start = start, .step = step};
        input->grid.axis[d] = sample_axis_of(sample, start + extent * step + 1);
    }
}

static void fill_matmul(struct sample *sample, struct tessi_layer *layer)
{
    int64_t k = sample_between(sample, 1, 40);
    layer->as.matmul.segment = k;
    layer->as.matmul.transpose_b = true;
    layer->dtype = TESSI_F32;
    layer->as.matmul.compute = (enum tessi_compute)sample_between(sample, 0, TESSI_COMPUTE_COUNT - 1);
    for (uint32_t i = 0; i < 2; i++) {
        struct tessi_input *input = tessi_layer_add_input(layer, layer->id + 1 + i);
        input->dtype = layer->dtype;
        input->grid.ndim = input->rules.ndim = 2;
        input->grid.axis[0] = tessi_axis_copy(&layer->grid.axis[i]);
        input->grid.axis[1] = sample_axis_of(sample, k);
        input->rules.rule[0] = same(i);
        input->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    }
}

/* Each task reads the block before its own, but for the first; and the block of its own index when that is another
 * layer's. */
static void fill_synthetic(struct sample *sample, struct tessi_layer *layer)
{
    uint64_t tasks = layer->grid.axis[0].count;
    struct tessi_table *table = tessi_zalloc(sizeof *table);
    bool itself = sample_next(sample) % 2 == 0;
    identity_input(layer, TESSI_F64);
    layer->reads[0] = itself ? layer->id : layer->reads[0];
    layer->input[0].rules.table = table;
    layer->input[0].rules.ndim = 0;
    memset(layer->input[0].rules.rule, 0, sizeof layer->input[0].rules.rule);
    table->tasks = table->blocks = tasks;
    table->rows = tessi_zalloc((tasks + 1) * sizeof *table->rows);
    table->columns = tessi_zalloc(2 * tasks * sizeof *table->columns);
    uint32_t used = 0;
    for (uint32_t t = 0; t < tasks; t++) {
        if (t > 0) {
            table->columns[used++] = t - 1;
        }
        if (!itself) {
            table->columns[used++] = t;
        }
        table->rows[t + 1] = used;
    }
    layer->as.synthetic.nanoseconds = sample_next(sample) % 1000000;
    layer->as.synthetic.spin = true;
    layer->as.synthetic.iterations = sample_next(sample) % 1000000;
    layer->as.synthetic.spread = 0.5;
    layer->as.synthetic.pin = (uint32_t)sample_next(sample);
}

/* The grid that was made is the input's. */
static void fill_write(struct sample *sample, struct tessi_layer *layer)
{
    struct tessi_input *input = tessi_layer_add_input(layer, layer->id + 1);
    input->dtype = TESSI_F64;
    input->grid = layer->grid;
    layer->dtype = TESSI_BOOL;
    layer->as.write.offset = 128;
    layer->as.write.bytes = 128 + tessi_input_bytes(input);
    tessi_layer_follow_blocks(layer);
    layer->as.write.path = tessi_strdup("/data/.tessera-write-1");
    layer->as.write.target = tessi_strdup("/data/ünicode file.npy");
    layer->as.write.token[0] = sample_next(sample);
    layer->as.write.token[1] = sample_next(sample);
    layer->as.write.host = sample_next(sample);
}

static void fill_parameters(struct sample *sample, struct tessi_layer *layer)
{
    switch (layer->op) {
    case TESSI_OP_FULL:
        layer->as.full = sample_scalar(sample, TESSI_F64);
        return;
    case TESSI_OP_ARANGE:
        layer->as.arange.start = sample_scalar(sample, TESSI_I64);
        layer->as.arange.step = sample_scalar(sample, TESSI_I64);
        return;
    case TESSI_OP_EYE:
        layer->as.eye.diagonal = sample_between(sample, -9, 9);
        return;
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
        layer->as.random.seed = sample_next(sample);
        layer->as.random.low = (double)sample_between(sample, -9, 0) / 3.0;
        layer->as.random.high = (double)sample_between(sample, 1, 9);
        return;
    case TESSI_OP_RECEIVE:
        return;
    case TESSI_OP_READ_NPY:
        layer->as.npy.path = tessi_strdup("data/ünicode file.npy");
        layer->as.npy.offset = 128;
        layer->as.npy.file = (struct tessi_file_identity){128 + tessi_layer_bytes(layer), 77, -5, INT64_MAX};
        layer->as.npy.swapped = true;
        return;
    case TESSI_OP_ELEMENTWISE:
        fill_elementwise(sample, layer);
        return;
    case TESSI_OP_REDUCE:
        fill_reduce(layer);
        return;
    case TESSI_OP_TRANSPOSE:
        fill_transpose(layer);
        return;
    case TESSI_OP_REGRID:
        fill_regrid(sample, layer);
        return;
    case TESSI_OP_MATMUL:
        fill_matmul(sample, layer);
        return;
    case TESSI_OP_SYNTHETIC:
        fill_synthetic(sample, layer);
        return;
    case TESSI_OP_WRITE_NPY:
        fill_write(sample, layer);
        return;
    }
}

struct tessi_layer *sample_layer(struct sample *sample, enum tessi_op op)
{
    struct tessi_layer *layer =
        tessi_layer_create((uint32_t)sample_next(sample), (uint32_t)sample_next(sample) / 2, op, TESSI_F64);
    layer->push = (sample_next(sample) & 1) != 0;
    if ((layer->id & 1) != 0) {
        tessi_layer_set_name(layer, "a name of more than sixteen bytes, for a layer that has one");
    }
    uint32_t ndim = op == TESSI_OP_ARANGE || op == TESSI_OP_SYNTHETIC ? 1
                    : op == TESSI_OP_EYE || op == TESSI_OP_MATMUL     ? 2
                                                                      : (uint32_t)sample_between(sample, 1, 4);
    sample_grid(sample, ndim, 30, &layer->grid);
    fill_parameters(sample, layer);
    return layer;
}

static struct tessi_spans sample_spans(struct sample *sample, uint32_t columns)
{
    size_t count = (size_t)sample_between(sample, 0, 6);
    bool equal = sample_next(sample) % 2 == 0;
    struct tessi_spans spans = {0};
    uint64_t session = sample_next(sample);
    for (size_t i = 0; i < count; i++) {
        struct tessi_span span = {.session = (uint32_t)(equal ? session : sample_next(sample)),
                                  .layer = (uint32_t)(equal ? session >> 32 : sample_next(sample)),
                                  .first = sample_next(sample) >> 1,
                                  .count = 1 + (sample_next(sample) >> (sample_next(sample) % 62 + 2))};
        uint64_t noise = equal ? session : sample_next(sample);
        span.epoch = columns & TESSI_SPAN_EPOCH ? (uint32_t)noise : 0;
        span.worker = columns & TESSI_SPAN_WORKER ? (uint32_t)(noise >> 13) : 0;
        span.order = columns & TESSI_SPAN_ORDER ? noise : 0;
        span.order_step = columns & TESSI_SPAN_ORDER ? noise >> 7 : 0;
        span.time_ns = columns & TESSI_SPAN_TIME ? (int64_t)noise : 0;
        span.device = columns & TESSI_SPAN_DEVICE ? (uint32_t)noise & 1 : 0;
        tessi_grow(&spans.items, &spans.capacity, spans.count + 1, sizeof span);
        spans.items[spans.count++] = span;
    }
    return spans;
}

static char *sample_text(struct sample *sample, size_t max)
{
    size_t size = (size_t)sample_between(sample, 0, max < 300 ? (int64_t)max : 300);
    char *text = tessi_alloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)sample_between(sample, 1, 126);
    }
    text[size] = 0;
    return text;
}

static void sample_report(struct sample *sample, struct tessi_report *report)
{
#define TESSI_ROW(name, columns) report->name = sample_spans(sample, columns);
    TESSI_REPORT_LISTS(TESSI_ROW)
#undef TESSI_ROW
#define TESSI_ROW(name) report->name = sample_next(sample);
    TESSI_REPORT_GAUGES(TESSI_ROW)
#undef TESSI_ROW
    size_t failures = (size_t)sample_between(sample, 0, 3);
    for (size_t i = 0; i < failures; i++) {
        tessi_grow(&report->failures, &report->failure_capacity, i + 1, sizeof *report->failures);
        report->failures[i] =
            (struct tessi_failure){{(uint32_t)sample_next(sample), (uint32_t)sample_next(sample), sample_next(sample)},
                                   (uint32_t)sample_next(sample),
                                   TESSI_FAILED,
                                   sample_text(sample, 300)};
        report->failure_count = i + 1;
    }
}

static struct tessi_layer_list sample_layers(struct sample *sample)
{
    struct tessi_layer_list layers = {tessi_zalloc(TESSI_OP_COUNT * sizeof(struct tessi_layer *)), 0};
    for (uint32_t op = 0; op < TESSI_OP_COUNT; op++) {
        if (tessi_op_valid(op)) {
            layers.items[layers.count++] = sample_layer(sample, (enum tessi_op)op);
        }
    }
    return layers;
}

static struct tessi_id_list sample_ids(struct sample *sample)
{
    size_t count = (size_t)sample_between(sample, 0, 9);
    if (count == 0) {
        return (struct tessi_id_list){0};
    }
    uint32_t *items = tessi_alloc(count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        items[i] = (uint32_t)sample_next(sample);
    }
    return (struct tessi_id_list){items, count};
}

static struct tessi_trace_list sample_trace(struct sample *sample)
{
    size_t count = (size_t)sample_between(sample, 0, 5);
    if (count == 0) {
        return (struct tessi_trace_list){0};
    }
    struct tessi_trace_record *items = tessi_zalloc(count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        items[i] =
            (struct tessi_trace_record){.index = sample_next(sample),
                                        .start_ns = (int64_t)sample_next(sample),
                                        .took_ns = (int64_t)(sample_next(sample) >> 20),
                                        .amount = sample_next(sample),
                                        .session = (uint32_t)sample_next(sample),
                                        .layer = (uint32_t)sample_next(sample),
                                        .peer = (uint32_t)sample_next(sample),
                                        .lane = (uint16_t)sample_next(sample),
                                        .kind = (uint8_t)sample_between(sample, TESSI_TRACE_RUN, TESSI_TRACE_KEEP),
                                        .why = (uint8_t)sample_next(sample)};
    }
    return (struct tessi_trace_list){items, count};
}

static void sample_field(struct sample *sample, const struct tessi_wire_field *field, void *value)
{
    switch (field->kind) {
    case TESSI_WIRE_u32:
        *(uint32_t *)value = (uint32_t)(sample_next(sample) >> (32 + sample_next(sample) % 32));
        return;
    case TESSI_WIRE_u64:
        *(uint64_t *)value = sample_next(sample) >> sample_next(sample) % 64;
        return;
    case TESSI_WIRE_i64:
        *(int64_t *)value = (int64_t)sample_next(sample) >> sample_next(sample) % 64;
        return;
    case TESSI_WIRE_f64:
        *(double *)value = (double)(int64_t)sample_next(sample) / 3.0;
        return;
    case TESSI_WIRE_flag:
        *(bool *)value = sample_next(sample) % 2 == 0;
        return;
    case TESSI_WIRE_text:
        *(const char **)value = sample_text(sample, field->limit);
        return;
    case TESSI_WIRE_hello:
        snprintf(((struct tessi_hello *)value)->families, TESSI_WIRE_NAME_MAX, "skylakex,haswell");
        return;
    case TESSI_WIRE_task:
        *(struct tessi_task *)value = (struct tessi_task){(uint32_t)sample_next(sample), 7, sample_next(sample)};
        return;
    case TESSI_WIRE_spans:
        *(struct tessi_spans *)value = sample_spans(sample, field->limit);
        return;
    case TESSI_WIRE_ids:
        *(struct tessi_id_list *)value = sample_ids(sample);
        return;
    case TESSI_WIRE_layers:
        *(struct tessi_layer_list *)value = sample_layers(sample);
        return;
    case TESSI_WIRE_report:
        sample_report(sample, value);
        return;
    case TESSI_WIRE_stats:
        *(struct tessi_session_counts *)value =
            (struct tessi_session_counts){sample_next(sample), 2, 3, 4, sample_next(sample)};
        return;
    case TESSI_WIRE_trace:
        *(struct tessi_trace_list *)value = sample_trace(sample);
        return;
    }
}

void sample_message(struct sample *sample, enum tessi_msg_type type, struct tessi_message *message)
{
    const struct tessi_wire_row *row = tessi_wire_row((uint32_t)type);
    TESS_ASSERT(row != NULL);
    memset(message, 0, sizeof *message);
    message->type = type;
    message->run_id = sample_next(sample);
    for (uint32_t i = 0; i < row->field_count; i++) {
        sample_field(sample, &row->fields[i], (uint8_t *)&message->as + row->fields[i].offset);
    }
}
