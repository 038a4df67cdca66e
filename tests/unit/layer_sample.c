#include "tests/unit/layer_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/graph/rechunk.h"

struct tessi_layer *layer_of(enum tessi_op op, enum tessi_dtype dtype)
{
    return tessi_layer_create(1, 9, op, dtype);
}

struct tessi_input *add_input(struct tessi_layer *layer, enum tessi_dtype dtype, uint32_t ndim)
{
    struct tessi_input *input = tessi_layer_add_input(layer, layer->ninputs);
    input->dtype = dtype;
    input->grid.ndim = ndim;
    input->rules.ndim = ndim;
    return input;
}

static struct tessi_layer *sample_generator(struct sample *sample, enum tessi_op op)
{
    struct tessi_layer *layer = layer_of(op, TESSI_F64);
    uint32_t ndim = op == TESSI_OP_ARANGE ? 1 : op == TESSI_OP_EYE ? 2 : (uint32_t)sample_between(sample, 0, 3);
    sample_grid(sample, ndim, 6, &layer->grid);
    if (op == TESSI_OP_FULL) {
        layer->as.full = (struct tessi_scalar){.dtype = TESSI_F64, .as.f = 1.5};
    }
    if (op == TESSI_OP_ARANGE) {
        layer->as.arange.start = (struct tessi_scalar){.dtype = TESSI_I64, .as.i = 3};
        layer->as.arange.step = layer->as.arange.start;
    }
    if (op == TESSI_OP_UNIFORM || op == TESSI_OP_NORMAL) {
        layer->as.random.high = 1.0;
    }
    if (op == TESSI_OP_READ_NPY) {
        layer->as.npy.path = tessi_strdup("a.npy");
        layer->as.npy.offset = 128;
        layer->as.npy.file.bytes = 128 + tessi_layer_bytes(layer);
    }
    return layer;
}

static struct tessi_layer *sample_elementwise(struct sample *sample)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_ELEMENTWISE, TESSI_F64);
    sample_grid(sample, (uint32_t)sample_between(sample, 0, 3), 6, &layer->grid);
    uint32_t inputs = (uint32_t)sample_between(sample, 1, TESSI_INPUTS_MAX);
    for (uint32_t i = 0; i < inputs; i++) {
        uint32_t ndim = (uint32_t)sample_between(sample, 0, layer->grid.ndim);
        struct tessi_input *input = add_input(layer, TESSI_F32, ndim);
        for (uint32_t d = 0; d < ndim; d++) {
            uint32_t o = layer->grid.ndim - ndim + d;
            bool broadcast = sample_next(sample) % 3 == 0;
            input->grid.axis[d] = broadcast ? tessi_axis_regular(1, 1) : tessi_axis_copy(&layer->grid.axis[o]);
            input->rules.rule[d].kind = broadcast ? TESSI_RULE_FIXED : TESSI_RULE_SAME;
            input->rules.rule[d].dim = o;
        }
    }
    struct tessi_program *program = &layer->as.program;
    program->nconstants = 1;
    program->constants = tessi_zalloc(sizeof *program->constants);
    program->constants[0].dtype = TESSI_F64;
    program->count = 2;
    program->code = tessi_zalloc(2 * sizeof *program->code);
    program->code[0] = (struct tessi_instruction){.op = TESSI_EWISE_SQRT, .dtype = TESSI_F32, .a = 0};
    program->code[1] =
        (struct tessi_instruction){.op = TESSI_EWISE_ADD, .dtype = TESSI_F64, .a = inputs + 1, .b = inputs};
    return layer;
}

/* The first level of a reduction whose states are records, instead of a sum's. */
static void make_records(struct tessi_layer *layer)
{
    struct tessi_axis *axis = &layer->grid.axis[__builtin_ctz(layer->as.reduce.axes)];
    int64_t record = tessi_fold_record_bytes(TESSI_FOLD_VAR);
    *axis = tessi_axis_regular(axis->extent * record, record);
    layer->dtype = TESSI_U8;
    layer->as.reduce.fold = TESSI_FOLD_VAR;
    layer->as.reduce.from = layer->input[0].dtype;
    layer->as.reduce.lifts = true;
    layer->as.reduce.parameter = 0.5;
}

static struct tessi_layer *sample_reduce(struct sample *sample)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_REDUCE, TESSI_F64);
    struct tessi_input *input = add_input(layer, TESSI_F32, 0);
    sample_grid(sample, (uint32_t)sample_between(sample, 0, 3), 6, &input->grid);
    input->rules.ndim = input->grid.ndim;
    layer->as.reduce.fold = TESSI_FOLD_SUM;
    layer->as.reduce.keepdims = sample_next(sample) % 2 == 0;
    layer->as.reduce.axes = (uint32_t)sample_next(sample) & ((1u << input->grid.ndim) - 1);
    uint32_t o = 0;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        const struct tessi_axis *axis = &input->grid.axis[d];
        struct tessi_rule *rule = &input->rules.rule[d];
        if ((layer->as.reduce.axes >> d & 1u) == 0) {
            *rule = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = o};
            layer->grid.axis[o++] = tessi_axis_copy(axis);
        } else if (!layer->as.reduce.keepdims) {
            *rule = (struct tessi_rule){.kind = TESSI_RULE_ALL};
        } else {
            int64_t fan = sample_between(sample, 1, 4);
            *rule = (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = o, .value = fan};
            layer->grid.axis[o++] = tessi_axis_regular((int64_t)(axis->count - 1) / fan + 1, 1);
        }
    }
    layer->grid.ndim = o;
    if (layer->as.reduce.keepdims && layer->as.reduce.axes != 0 && tessi_input_bytes(input) > 0 &&
        sample_next(sample) % 2 == 0) {
        make_records(layer);
    }
    return layer;
}

static struct tessi_layer *sample_transpose(struct sample *sample)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_TRANSPOSE, TESSI_F64);
    sample_grid(sample, (uint32_t)sample_between(sample, 0, 3), 6, &layer->grid);
    struct tessi_input *input = add_input(layer, TESSI_F64, layer->grid.ndim);
    uint32_t shift = (uint32_t)sample_between(sample, 0, 2);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        uint32_t axis = (d + shift) % layer->grid.ndim;
        layer->as.transpose.axis[d] = axis;
        input->grid.axis[axis] = tessi_axis_copy(&layer->grid.axis[d]);
        input->rules.rule[axis] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    return layer;
}

/* Along each dimension step 1, and boundaries of pieces where either grid has one. */
static void add_pieces(struct sample *sample, struct tessi_layer *layer)
{
    const struct tessi_grid *in = &layer->input[0].grid;
    struct tessi_grid blocks = {.ndim = in->ndim}, pieces;
    for (uint32_t d = 0; d < in->ndim; d++) {
        struct tessi_axis *axis = &layer->grid.axis[d];
        int64_t start = layer->as.regrid.start[d], bounds[64] = {0};
        uint64_t count = 0;
        tessi_axis_fini(axis);
        *axis = sample_axis_of(sample, sample_between(sample, 0, in->axis[d].extent - start));
        layer->as.regrid.step[d] = layer->input[0].rules.rule[d].step = 1;
        for (uint64_t c = 0; c < in->axis[d].count && bounds[count] < axis->extent; c++) {
            int64_t end = tessi_axis_hi(&in->axis[d], c) - start;
            bounds[count + 1] = end < axis->extent ? end : axis->extent;
            count += end > 0;
        }
        blocks.axis[d] = axis->extent == 0 ? tessi_axis_copy(axis) : tessi_axis_explicit(bounds, count);
    }
    tessi_grid_refine(&blocks, &layer->grid, &pieces);
    tessi_grid_fini(&blocks);
    struct tessi_input *input = add_input(layer, TESSI_F64, pieces.ndim);
    input->grid = pieces;
    for (uint32_t d = 0; d < pieces.ndim; d++) {
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .step = 1};
    }
}

static struct tessi_layer *sample_regrid(struct sample *sample)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_REGRID, TESSI_F64);
    struct tessi_input *input = add_input(layer, TESSI_F64, 0);
    sample_grid(sample, (uint32_t)sample_between(sample, 0, 3), 10, &input->grid);
    input->rules.ndim = input->grid.ndim;
    layer->grid.ndim = input->grid.ndim;
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        int64_t extent = input->grid.axis[d].extent;
        int64_t start = sample_between(sample, 0, extent);
        int64_t step = sample_between(sample, 1, 4);
        int64_t most = (extent - start + step - 1) / step;
        layer->grid.axis[d] = sample_axis_of(sample, sample_between(sample, 0, most));
        layer->as.regrid.start[d] = start;
        layer->as.regrid.step[d] = step;
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .start = start, .step = step};
    }
    if (layer->grid.ndim > 0 && sample_between(sample, 0, 1) == 1) {
        add_pieces(sample, layer);
    }
    return layer;
}

static void add_operand(struct tessi_layer *layer, struct tessi_axis kept, struct tessi_axis k, bool k_first,
                        int64_t segment)
{
    uint32_t i = layer->ninputs;
    struct tessi_input *input = add_input(layer, layer->dtype, 2);
    uint32_t k_dim = k_first ? 0 : 1;
    input->grid.axis[1 - k_dim] = kept;
    input->grid.axis[k_dim] = k;
    input->rules.rule[1 - k_dim] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = i};
    input->rules.rule[k_dim] = segment == 0
                                   ? (struct tessi_rule){.kind = TESSI_RULE_ALL}
                                   : (struct tessi_rule){.kind = TESSI_RULE_SEGMENT, .dim = 2, .value = segment};
}

struct tessi_layer *matmul_of(struct tessi_axis m, struct tessi_axis n, struct tessi_axis k_a, struct tessi_axis k_b,
                              unsigned transposes, int64_t segment)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_MATMUL, TESSI_F64);
    int64_t k = k_a.extent;
    layer->grid.ndim = segment == 0 ? 2 : 3;
    layer->grid.axis[0] = tessi_axis_copy(&m);
    layer->grid.axis[1] = tessi_axis_copy(&n);
    if (segment != 0) {
        layer->grid.axis[2] = tessi_axis_regular((k - 1) / segment + 1, 1);
    }
    layer->as.matmul.transpose_a = (transposes & 1) != 0;
    layer->as.matmul.transpose_b = (transposes & 2) != 0;
    layer->as.matmul.segment = segment == 0 ? k : segment;
    add_operand(layer, m, k_a, layer->as.matmul.transpose_a, segment);
    add_operand(layer, n, k_b, !layer->as.matmul.transpose_b, segment);
    return layer;
}

struct tessi_layer *sample_matmul(struct sample *sample)
{
    struct tessi_axis k_a = sample_axis(sample, 20);
    struct tessi_axis k_b = sample_axis_of(sample, k_a.extent);
    bool split = k_a.extent > 0 && sample_next(sample) % 2 == 0;
    int64_t segment = split ? sample_between(sample, 1, k_a.extent) : 0;
    return matmul_of(sample_axis(sample, 5), sample_axis(sample, 5), k_a, k_b, (unsigned)sample_next(sample), segment);
}

static struct tessi_table *sample_table(struct sample *sample, uint64_t tasks, uint64_t blocks)
{
    uint32_t rows[65] = {0};
    uint32_t columns[64 * 64];
    assert_true(tasks <= 64 && blocks <= 64);
    for (uint64_t t = 0; t < tasks; t++) {
        rows[t + 1] = rows[t];
        for (uint32_t b = 0; b < blocks; b++) {
            if (sample_next(sample) % 3 == 0) {
                columns[rows[t + 1]++] = b;
            }
        }
    }
    return tessi_table_create(tasks, blocks, rows, columns);
}

/* An input that is the layer itself, at lower indices. */
static void sample_self(struct sample *sample, struct tessi_layer *layer, bool table)
{
    struct tessi_input *input = add_input(layer, TESSI_U64, layer->grid.ndim);
    layer->reads[layer->ninputs - 1] = layer->id;
    tessi_grid_copy(&input->grid, &layer->grid);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    uint32_t back = (uint32_t)sample_between(sample, 0, layer->grid.ndim - 1);
    input->rules.rule[back] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = back, .value = -1};
    if (back == 0 && layer->grid.ndim > 1) {
        input->rules.rule[1] =
            (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = 1, .value = sample_between(sample, -2, 2)};
    }
    if (table) {
        uint32_t rows[65] = {0}, columns[64 * 64];
        uint64_t tasks = tessi_layer_tasks(layer);
        for (uint32_t t = 0; t < tasks; t++) {
            rows[t + 1] = rows[t];
            for (uint32_t b = 0; b < t; b++) {
                if (sample_next(sample) % 3 == 0) {
                    columns[rows[t + 1]++] = b;
                }
            }
        }
        input->rules.table = tessi_table_create(tasks, tasks, rows, columns);
    }
}

static struct tessi_layer *sample_synthetic(struct sample *sample)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_SYNTHETIC, TESSI_U64);
    bool tables = sample_next(sample) % 2 == 0;
    sample_grid(sample, tables ? 1 : (uint32_t)sample_between(sample, 1, 2), 6, &layer->grid);
    uint32_t inputs = (uint32_t)sample_between(sample, 0, 3);
    for (uint32_t i = 0; i < inputs; i++) {
        if (sample_next(sample) % 4 == 0) {
            sample_self(sample, layer, tables);
            continue;
        }
        struct tessi_input *input = add_input(layer, TESSI_U64, 1);
        input->grid.axis[0] = sample_axis(sample, 6);
        if (tables) {
            input->rules.table = sample_table(sample, tessi_layer_tasks(layer), input->grid.axis[0].count);
        } else {
            input->rules.rule[0] = sample_next(sample) % 2 == 0
                                       ? (struct tessi_rule){.kind = TESSI_RULE_ALL}
                                       : (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .value = -1};
        }
    }
    return layer;
}

static struct tessi_layer *sample_write(struct sample *sample)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_WRITE_NPY, TESSI_BOOL);
    struct tessi_input *input = add_input(layer, TESSI_F32, 0);
    sample_grid(sample, (uint32_t)sample_between(sample, 0, 3), 6, &input->grid);
    tessi_layer_follow_blocks(layer);
    layer->as.write.path = tessi_strdup("/a/.tessera-write-1");
    layer->as.write.target = tessi_strdup("/a/b.npy");
    layer->as.write.offset = 128;
    layer->as.write.bytes = 128 + tessi_input_bytes(input);
    return layer;
}

struct tessi_layer *sample_small_layer(struct sample *sample, enum tessi_op op)
{
    switch (op) {
    case TESSI_OP_FULL:
    case TESSI_OP_ARANGE:
    case TESSI_OP_EYE:
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
    case TESSI_OP_RECEIVE:
    case TESSI_OP_READ_NPY:
        return sample_generator(sample, op);
    case TESSI_OP_ELEMENTWISE:
        return sample_elementwise(sample);
    case TESSI_OP_REDUCE:
        return sample_reduce(sample);
    case TESSI_OP_TRANSPOSE:
        return sample_transpose(sample);
    case TESSI_OP_REGRID:
        return sample_regrid(sample);
    case TESSI_OP_MATMUL:
        return sample_matmul(sample);
    case TESSI_OP_SYNTHETIC:
        return sample_synthetic(sample);
    case TESSI_OP_WRITE_NPY:
        return sample_write(sample);
    }
    fail();
    return NULL;
}

struct visits {
    uint64_t count;
    uint64_t items[4096];
};

static void record(void *context, uint64_t index)
{
    struct visits *visits = context;
    assert_true(visits->count < 4096);
    assert_true(visits->count == 0 || visits->items[visits->count - 1] < index);
    visits->items[visits->count++] = index;
}

static bool visited(const struct visits *visits, uint64_t index)
{
    for (uint64_t i = 0; i < visits->count; i++) {
        if (visits->items[i] == index) {
            return true;
        }
    }
    return false;
}

void check_layer_dependents(const struct tessi_layer *layer, uint32_t i)
{
    static struct visits inputs, readers;
    uint64_t tasks = tessi_layer_tasks(layer);
    uint64_t blocks = tessi_grid_blocks(&layer->input[i].grid);
    for (uint64_t b = 0; b < blocks; b++) {
        readers.count = 0;
        tessi_block_dependents(layer, i, b, record, &readers);
        assert_int_equal(readers.count, tessi_block_dependent_count(layer, i, b));
        for (uint64_t t = 0; t < tasks; t++) {
            inputs.count = 0;
            tessi_task_inputs(layer, i, t, record, &inputs);
            assert_int_equal(inputs.count, tessi_task_input_count(layer, i, t));
            assert_int_equal(visited(&inputs, b), visited(&readers, t));
        }
    }
}

static bool step_has(const struct tessi_step *step, struct tessi_block_ref ref)
{
    for (uint32_t r = 0; r < step->count; r++) {
        if (step->ref[r].input == ref.input && step->ref[r].index == ref.index) {
            return true;
        }
    }
    return false;
}

/* Bytes of the step's blocks, those of `before` left out. */
static uint64_t step_bytes(const struct tessi_layer *layer, const struct tessi_step *step,
                           const struct tessi_step *before)
{
    uint64_t bytes = 0;
    for (uint32_t r = 0; r < step->count; r++) {
        if (!step_has(before, step->ref[r])) {
            bytes += tessi_input_block_bytes(&layer->input[step->ref[r].input], step->ref[r].index);
        }
    }
    return bytes;
}

void check_layer_steps(const struct tessi_layer *layer, uint64_t task)
{
    static struct visits inputs;
    static bool used[TESSI_INPUTS_MAX][4096];
    static const struct tessi_step none;
    struct tessi_step step;
    struct tessi_step before = none;
    uint64_t window = 0;
    memset(used, 0, sizeof used);
    uint32_t steps = tessi_task_steps(layer, task);
    assert_true(steps >= 1);
    for (uint32_t s = 0; s < steps; s++) {
        tessi_task_step(layer, task, s, &step);
        for (uint32_t r = 0; r < step.count; r++) {
            assert_true(step.ref[r].input < layer->ninputs && step.ref[r].index < 4096);
            used[step.ref[r].input][step.ref[r].index] = true;
        }
        uint64_t bytes = step_bytes(layer, &before, &none) + step_bytes(layer, &step, &before);
        window = bytes > window ? bytes : window;
        before = step;
    }
    double read_bytes = 0.0, filed = 0.0; /* filed: written to a file */
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        uint64_t named = 0;
        for (uint64_t b = 0; b < 4096; b++) {
            named += used[i][b];
        }
        inputs.count = 0;
        tessi_task_inputs(layer, i, task, record, &inputs);
        assert_int_equal(named, inputs.count);
        for (uint64_t v = 0; v < inputs.count; v++) {
            assert_true(used[i][inputs.items[v]]);
            double bytes = (double)tessi_input_block_bytes(&layer->input[i], inputs.items[v]);
            read_bytes += bytes;
            filed += layer->op == TESSI_OP_WRITE_NPY ? bytes : 0;
        }
    }
    uint64_t out = tessi_layer_block_bytes(layer, task);
    uint64_t footprint = tessi_task_footprint(layer, task);
    assert_true(footprint >= out + window);
    assert_true((double)footprint <= (double)out + read_bytes);
    double written = (double)out * (layer->op == TESSI_OP_READ_NPY ? 2.0 : 1.0);
    assert_true(fabs(tessi_task_cost(layer, task).bytes - written - read_bytes - filed) < 0.5);
    assert_true(tessi_task_cost(layer, task).flops >= 0.0);
}
