/* Layers and their tasks: random layers of every operation against brute force, known answers for
 * matmul, and what the check refuses. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/graph/layer.h"
#include "tests/unit/sample.h"

static struct tessi_layer *layer_of(enum tessi_op op, enum tessi_dtype dtype)
{
    return tessi_layer_create(1, 9, op, dtype);
}

static struct tessi_input *add_input(struct tessi_layer *layer, enum tessi_dtype dtype, uint32_t ndim)
{
    struct tessi_input *input = &layer->input[layer->ninputs];
    input->layer = layer->ninputs++;
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
        layer->as.npy.bytes = 128 + tessi_layer_bytes(layer);
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
    program->code[0] = (struct tessi_instruction){TESSI_EWISE_SQRT, TESSI_F32, 0, UINT32_MAX};
    program->code[1] = (struct tessi_instruction){TESSI_EWISE_ADD, TESSI_F64, inputs + 1, inputs};
    return layer;
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
    input->rules.rule[k_dim] =
        segment == 0 ? (struct tessi_rule){.kind = TESSI_RULE_ALL}
                     : (struct tessi_rule){.kind = TESSI_RULE_SEGMENT, .dim = 2, .value = segment};
}

/* Takes the axes. A segment of 0 leaves k in one piece. */
static struct tessi_layer *matmul_of(struct tessi_axis m, struct tessi_axis n, struct tessi_axis k_a,
                                     struct tessi_axis k_b, unsigned transposes, int64_t segment)
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

static struct tessi_layer *sample_matmul(struct sample *sample)
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
    input->layer = layer->id;
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

static struct tessi_layer *sample_opaque(struct sample *sample)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_OPAQUE, TESSI_U64);
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

static struct tessi_layer *sample_layer(struct sample *sample, enum tessi_op op)
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
    case TESSI_OP_OPAQUE:
        return sample_opaque(sample);
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

static void compare_dependents(const struct tessi_layer *layer, uint32_t i)
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

/* The steps name exactly the blocks that the task reads, and its footprint holds two of them in a row. */
static void check_steps(const struct tessi_layer *layer, uint64_t task)
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
    double read_bytes = 0.0;
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
            read_bytes += (double)tessi_input_block_bytes(&layer->input[i], inputs.items[v]);
        }
    }
    uint64_t out = tessi_layer_block_bytes(layer, task);
    uint64_t footprint = tessi_task_footprint(layer, task);
    assert_true(footprint >= out + window);
    assert_true((double)footprint <= (double)out + read_bytes);
    double written = (double)out * (layer->op == TESSI_OP_READ_NPY ? 2.0 : 1.0);
    assert_true(fabs(tessi_task_cost(layer, task).bytes - written - read_bytes) < 0.5);
    assert_true(tessi_task_cost(layer, task).flops >= 0.0);
}

static void test_every_operation_against_brute_force(void **state)
{
    (void)state;
    struct sample sample = {8};
    for (uint32_t code = 0; code < TESSI_OP_COUNT; code++) {
        for (unsigned round = 0; tessi_op_valid(code) && round < 400; round++) {
            struct tessi_error error = {TESSI_OK, ""};
            struct tessi_layer *original = sample_layer(&sample, (enum tessi_op)code);
            struct tessi_layer *layer = tessi_layer_copy(original);
            tessi_layer_destroy(original);
            enum tessi_status status = tessi_layer_check(layer, &error);
            assert_string_equal(error.text, "");
            assert_int_equal(status, TESSI_OK);
            uint64_t bytes = 0;
            for (uint64_t t = 0; t < tessi_layer_tasks(layer); t++) {
                check_steps(layer, t);
                bytes += tessi_layer_block_bytes(layer, t);
            }
            assert_int_equal(bytes, tessi_layer_bytes(layer));
            for (uint32_t i = 0; i < layer->ninputs; i++) {
                compare_dependents(layer, i);
            }
            tessi_layer_destroy(layer);
        }
    }
}

/* The boundaries of k by single elements: a step ends where either operand's chunk does. */
static void check_contraction(const struct tessi_layer *layer, uint64_t task)
{
    uint64_t coords[TESSI_NDIM_MAX];
    int64_t lo = 0;
    uint32_t k_a = layer->as.matmul.transpose_a ? 0 : 1;
    uint32_t k_b = layer->as.matmul.transpose_b ? 1 : 0;
    const struct tessi_axis *a = &layer->input[0].grid.axis[k_a];
    const struct tessi_axis *b = &layer->input[1].grid.axis[k_b];
    int64_t hi = a->extent;
    tessi_grid_coords(&layer->grid, task, coords);
    if (layer->grid.ndim == 3) {
        lo = (int64_t)coords[2] * layer->as.matmul.segment;
        hi = lo + layer->as.matmul.segment < hi ? lo + layer->as.matmul.segment : hi;
    }
    uint32_t steps = tessi_task_steps(layer, task);
    uint32_t start = (uint32_t)((coords[0] + coords[1]) % steps);
    int64_t position = lo;
    for (uint32_t n = 0; n < steps; n++) {
        struct tessi_step step;
        uint64_t at_a[TESSI_NDIM_MAX];
        uint64_t at_b[TESSI_NDIM_MAX];
        /* Piece n of k comes `start` steps before its number, since the task begins there. */
        tessi_task_step(layer, task, (n + steps - start) % steps, &step);
        assert_int_equal(step.count, 2);
        assert_int_equal(step.k_lo, position);
        for (position++; position < hi && tessi_axis_find(a, position) == tessi_axis_find(a, position - 1) &&
                         tessi_axis_find(b, position) == tessi_axis_find(b, position - 1);) {
            position++;
        }
        position = position < hi ? position : hi;
        assert_int_equal(step.k_hi, position);
        tessi_grid_coords(&layer->input[0].grid, step.ref[0].index, at_a);
        tessi_grid_coords(&layer->input[1].grid, step.ref[1].index, at_b);
        assert_int_equal(step.ref[0].input, 0);
        assert_int_equal(step.ref[1].input, 1);
        assert_int_equal(at_a[1 - k_a], coords[0]);
        assert_int_equal(at_b[1 - k_b], coords[1]);
        assert_true(tessi_axis_lo(a, at_a[k_a]) <= step.k_lo && step.k_hi <= tessi_axis_hi(a, at_a[k_a]));
        assert_true(tessi_axis_lo(b, at_b[k_b]) <= step.k_lo && step.k_hi <= tessi_axis_hi(b, at_b[k_b]));
    }
    assert_int_equal(position, hi);
    double elements = (double)tessi_grid_block_elements(&layer->grid, task);
    assert_true(fabs(tessi_task_cost(layer, task).flops - 2.0 * elements * (double)(hi - lo)) < 0.5);
}

static void test_matmul_steps_refine_both_operands(void **state)
{
    (void)state;
    struct sample sample = {9};
    for (unsigned round = 0; round < 5000; round++) {
        struct tessi_layer *layer = sample_matmul(&sample);
        assert_int_equal(tessi_layer_check(layer, NULL), TESSI_OK);
        for (uint64_t t = 0; t < tessi_layer_tasks(layer); t++) {
            check_contraction(layer, t);
        }
        tessi_layer_destroy(layer);
    }
}

static void test_matmul_known_answers(void **state)
{
    (void)state;
    struct tessi_layer *layer = matmul_of(tessi_axis_regular(4, 2), tessi_axis_regular(4, 2), tessi_axis_regular(12, 4),
                                          tessi_axis_regular(12, 6), 0, 0);
    struct tessi_step step;
    /* Cuts at 4, 6 and 8; task (1, 1) begins with the third of four steps. */
    assert_int_equal(tessi_task_steps(layer, 3), 4);
    tessi_task_step(layer, 3, 0, &step);
    assert_int_equal(step.k_lo, 6);
    assert_int_equal(step.k_hi, 8);
    assert_int_equal(step.ref[0].index, 4);
    assert_int_equal(step.ref[1].index, 3);
    tessi_task_step(layer, 3, 3, &step);
    assert_int_equal(step.k_lo, 4);
    assert_int_equal(step.k_hi, 6);
    /* C, A and B blocks: 4, 8 and 12 doubles; a window of two of each panel. */
    assert_int_equal(tessi_task_footprint(layer, 0), 8 * (4 + 2 * 8 + 2 * 12));
    tessi_layer_destroy(layer);

    /* No element of k: one empty step that makes zeros. */
    layer = matmul_of(tessi_axis_regular(4, 2), tessi_axis_regular(4, 2), tessi_axis_regular(0, 4),
                      tessi_axis_regular(0, 6), 3, 0);
    assert_int_equal(tessi_layer_check(layer, NULL), TESSI_OK);
    assert_int_equal(tessi_task_steps(layer, 0), 1);
    tessi_task_step(layer, 3, 0, &step);
    assert_int_equal(step.count, 2);
    assert_int_equal(step.k_hi, 0);
    tessi_layer_destroy(layer);

    /* Chunks that meet nowhere before 2^61: answered without a walk. */
    layer = matmul_of(tessi_axis_regular(1, 1), tessi_axis_regular(1, 1),
                      tessi_axis_regular(INT64_C(1) << 50, INT32_MAX),
                      tessi_axis_regular(INT64_C(1) << 50, INT32_MAX - 1), 0, 0);
    assert_int_equal(tessi_layer_check(layer, NULL), TESSI_OK);
    uint32_t steps = tessi_task_steps(layer, 0);
    assert_int_equal(steps, 2 * ((INT64_C(1) << 50) / INT32_MAX) + 1);
    tessi_task_step(layer, 0, 2, &step);
    assert_int_equal(step.k_lo, INT32_MAX);
    assert_int_equal(step.k_hi, 2 * (INT64_C(1) << 31) - 4);
    tessi_task_step(layer, 0, steps - 1, &step);
    assert_int_equal(step.k_hi, INT64_C(1) << 50);
    tessi_layer_destroy(layer);
}

static void test_reads_of_empty_slices(void **state)
{
    (void)state;
    struct tessi_layer *layer = layer_of(TESSI_OP_REGRID, TESSI_F64);
    struct tessi_input *input = add_input(layer, TESSI_F64, 1);
    input->grid.axis[0] = tessi_axis_regular(10, 3);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = 10, .step = 1};
    layer->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(0, 3)}};
    layer->as.regrid.start[0] = 10;
    layer->as.regrid.step[0] = 1;
    struct tessi_step step;
    assert_int_equal(tessi_layer_check(layer, NULL), TESSI_OK);
    assert_int_equal(tessi_layer_tasks(layer), 1);
    assert_int_equal(tessi_task_steps(layer, 0), 1);
    tessi_task_step(layer, 0, 0, &step);
    assert_int_equal(step.count, 0);
    assert_int_equal(tessi_layer_bytes(layer), 0);
    tessi_layer_destroy(layer);
}

static void test_regenerable(void **state)
{
    (void)state;
    struct sample sample = {10};
    for (uint32_t code = 1; code < TESSI_OP_COUNT; code++) {
        struct tessi_layer *layer = sample_layer(&sample, (enum tessi_op)code);
        bool wanted = tessi_op_row(layer->op)->consume == TESSI_CONSUME_NONE && layer->op != TESSI_OP_RECEIVE;
        assert_int_equal(tessi_layer_regenerable(layer), wanted);
        tessi_layer_destroy(layer);
    }
    tessi_layer_destroy(NULL);
}

static void test_tables_of_names(void **state)
{
    (void)state;
    assert_false(tessi_op_valid(0));
    assert_true(tessi_op_valid(TESSI_OP_FULL));
    assert_true(tessi_op_valid(TESSI_OP_OPAQUE));
    assert_false(tessi_op_valid(TESSI_OP_COUNT));
    assert_string_equal(tessi_op_row(TESSI_OP_MATMUL)->name, "matmul");
    assert_int_equal(tessi_op_row(TESSI_OP_MATMUL)->min_inputs, 2);
    assert_int_equal(tessi_op_row(TESSI_OP_MATMUL)->consume, TESSI_CONSUME_STREAM);
    assert_string_equal(tessi_ewise_name(TESSI_EWISE_LOG), "log");
    assert_int_equal(tessi_ewise_arity(TESSI_EWISE_ADD), 2);
    assert_int_equal(tessi_ewise_arity(TESSI_EWISE_LOG), 1);
}

/* Each wrong layer is a good one with one thing changed. */
static void refuse(struct tessi_layer *layer, const char *naming)
{
    struct tessi_error error = {TESSI_OK, ""};
    assert_int_not_equal(tessi_layer_check(layer, &error), TESSI_OK);
    if (strstr(error.text, naming) == NULL) {
        fail_msg("'%s' does not name '%s'", error.text, naming);
    }
}

#define REFUSE(make, change, naming)                           \
    do {                                                       \
        struct tessi_layer *layer = (make);                    \
        assert_int_equal(tessi_layer_check(layer, NULL), TESSI_OK); \
        change;                                                \
        refuse(layer, naming);                                 \
        tessi_layer_destroy(layer);                            \
    } while (0)

static struct tessi_layer *good_matmul(int64_t segment)
{
    return matmul_of(tessi_axis_regular(6, 2), tessi_axis_regular(4, 2), tessi_axis_regular(12, 4),
                     tessi_axis_regular(12, 6), 0, segment);
}

static void test_check_refuses_matmuls(void **state)
{
    (void)state;
    REFUSE(good_matmul(0), layer->ninputs = 1, "takes 2 to 2");
    REFUSE(good_matmul(0), layer->ninputs = UINT32_MAX, "takes 2 to 2");
    REFUSE(good_matmul(0), layer->input[1].dtype = TESSI_F32, "types");
    REFUSE(good_matmul(0), layer->as.matmul.compute = TESSI_COMPUTE_TF32, "tf32");
    REFUSE(good_matmul(0), layer->as.matmul.compute = (enum tessi_compute)TESSI_COMPUTE_COUNT, "tf32");
    REFUSE(good_matmul(0), layer->as.matmul.segment = 11, "segment");
    REFUSE(good_matmul(0), layer->as.matmul.transpose_a = true, "inner dimensions");
    REFUSE(good_matmul(0), layer->input[1].grid.axis[0] = tessi_axis_regular(11, 6), "inner dimensions");
    REFUSE(good_matmul(0), layer->grid.axis[0] = tessi_axis_regular(6, 3), "matmul");
    REFUSE(good_matmul(0), layer->grid.axis[1] = tessi_axis_regular(5, 2), "matmul");
    REFUSE(good_matmul(0), layer->input[0].rules.rule[0].kind = TESSI_RULE_ALL, "rules");
    REFUSE(good_matmul(0), layer->input[0].layer = layer->id, "read itself");
    REFUSE(good_matmul(5), layer->grid.axis[2] = tessi_axis_regular(2, 1), "third axis");
    REFUSE(good_matmul(5), layer->grid.axis[2] = tessi_axis_regular(3, 2), "third axis");
    REFUSE(good_matmul(5), layer->as.matmul.segment = 0, "third axis");
    REFUSE(good_matmul(5), layer->as.matmul.segment = -5, "third axis");
    REFUSE(good_matmul(5), layer->input[0].rules.rule[1].value = 4, "rules");
    REFUSE(good_matmul(5), layer->input[1].rules.rule[0].dim = 1, "rules");
}

/* (6, 4) in chunks of (2, 2), folded along the second axis into (6, 1). */
static struct tessi_layer *good_reduce(void)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_REDUCE, TESSI_F64);
    struct tessi_input *input = add_input(layer, TESSI_F64, 2);
    input->grid.axis[0] = tessi_axis_regular(6, 2);
    input->grid.axis[1] = tessi_axis_regular(4, 2);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_SAME};
    input->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = 1, .value = 2};
    layer->grid = (struct tessi_grid){.ndim = 2, .axis = {tessi_axis_regular(6, 2), tessi_axis_regular(1, 1)}};
    layer->as.reduce.axes = 2;
    layer->as.reduce.keepdims = true;
    return layer;
}

static void empty_the_folded_axis(struct tessi_layer *layer)
{
    layer->input[0].grid.axis[1] = tessi_axis_regular(0, 2);
    layer->as.reduce.fold = TESSI_FOLD_MAX;
}

static void test_check_refuses_reductions(void **state)
{
    (void)state;
    REFUSE(good_reduce(), layer->as.reduce.axes = 4, "axis does not exist");
    REFUSE(good_reduce(), layer->as.reduce.axes = UINT32_MAX, "axis does not exist");
    REFUSE(good_reduce(), layer->as.reduce.axes = 1, "dimension 0");
    REFUSE(good_reduce(), layer->as.reduce.keepdims = false, "number of dimensions");
    REFUSE(good_reduce(), layer->as.reduce.fold = (enum tessi_fold)3, "fold");
    REFUSE(good_reduce(), layer->dtype = TESSI_F32, "wider");
    REFUSE(good_reduce(), layer->input[0].dtype = TESSI_C128, "wider");
    REFUSE(good_reduce(), (layer->as.reduce.fold = TESSI_FOLD_MIN, layer->dtype = TESSI_C128), "keep the type");
    REFUSE(good_reduce(), (layer->as.reduce.fold = TESSI_FOLD_MIN, layer->input[0].dtype = TESSI_C64), "order");
    REFUSE(good_reduce(), layer->input[0].rules.rule[1].value = 1, "folded");
    REFUSE(good_reduce(), layer->grid.axis[0] = tessi_axis_regular(6, 3), "kept");
    REFUSE(good_reduce(), empty_the_folded_axis(layer), "no elements");
}

static struct tessi_layer *good_elementwise(void)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_ELEMENTWISE, TESSI_F64);
    layer->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(6, 2)}};
    struct tessi_input *input = add_input(layer, TESSI_F32, 1);
    input->grid.axis[0] = tessi_axis_regular(6, 2);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_SAME};
    struct tessi_program *program = &layer->as.program;
    program->nconstants = 1;
    program->constants = tessi_zalloc(sizeof *program->constants);
    program->constants[0].dtype = TESSI_F64;
    program->count = 2;
    program->code = tessi_zalloc(2 * sizeof *program->code);
    program->code[0] = (struct tessi_instruction){TESSI_EWISE_NEGATIVE, TESSI_F32, 0, 0};
    program->code[1] = (struct tessi_instruction){TESSI_EWISE_DIVIDE, TESSI_F64, 2, 1};
    return layer;
}

static void test_check_refuses_elementwise(void **state)
{
    (void)state;
    REFUSE(good_elementwise(), layer->ninputs = 0, "takes 1 to 8");
    REFUSE(good_elementwise(), layer->as.program.count = 0, "0 instructions");
    REFUSE(good_elementwise(), layer->as.program.count = TESSI_PROGRAM_MAX + 1, "65 instructions");
    REFUSE(good_elementwise(), layer->as.program.nconstants = TESSI_CONSTANTS_MAX + 1, "33 constants");
    REFUSE(good_elementwise(), layer->as.program.constants[0].dtype = TESSI_F32, "constant 0");
    REFUSE(good_elementwise(), layer->as.program.code[0].op = (enum tessi_ewise)TESSI_EWISE_COUNT, "instruction 0");
    REFUSE(good_elementwise(), layer->as.program.code[0].dtype = (enum tessi_dtype)TESSI_DTYPE_COUNT, "instruction 0");
    REFUSE(good_elementwise(), layer->as.program.code[0].a = 2, "operand 2 of 2");
    REFUSE(good_elementwise(), layer->as.program.code[1].b = 3, "operand 3 of 3");
    REFUSE(good_elementwise(), layer->as.program.code[1].b = UINT32_MAX, "operand");
    REFUSE(good_elementwise(), layer->as.program.code[0].dtype = TESSI_BOOL, "negative");
    REFUSE(good_elementwise(), layer->as.program.code[1].dtype = TESSI_I64, "divide");
    REFUSE(good_elementwise(), layer->as.program.code[1].dtype = TESSI_F32, "last instruction");
    REFUSE(good_elementwise(), layer->input[0].dtype = TESSI_C64, "imaginary");
    REFUSE(good_elementwise(), layer->as.program.constants[0].dtype = TESSI_C128, "imaginary");
    REFUSE(good_elementwise(),
           (layer->as.program.code[0].op = TESSI_EWISE_ABS, layer->as.program.code[0].dtype = TESSI_C64), "abs");
    REFUSE(good_elementwise(), layer->input[0].grid.axis[0] = tessi_axis_regular(6, 1), "rechunk");
    REFUSE(good_elementwise(), layer->input[0].rules.rule[0].kind = TESSI_RULE_FIXED, "rechunk");
    REFUSE(good_elementwise(), layer->input[0].rules.rule[0].kind = TESSI_RULE_ALL, "rechunk");
    REFUSE(good_elementwise(), layer->input[0].rules.ndim = 0, "0 index rules");
}

static struct tessi_layer *good(enum tessi_op op)
{
    struct sample sample = {12};
    struct tessi_layer *layer = sample_layer(&sample, op);
    tessi_grid_fini(&layer->grid);
    layer->grid.ndim = op == TESSI_OP_EYE ? 2 : 1;
    layer->grid.axis[0] = tessi_axis_regular(8, 3);
    layer->grid.axis[1] = tessi_axis_regular(8, 3);
    layer->as.npy.bytes = op == TESSI_OP_READ_NPY ? 192 : layer->as.npy.bytes;
    return layer;
}

static void test_check_refuses_generators(void **state)
{
    (void)state;
    REFUSE(good(TESSI_OP_FULL), layer->op = (enum tessi_op)0, "unknown operation");
    REFUSE(good(TESSI_OP_FULL), layer->op = (enum tessi_op)TESSI_OP_COUNT, "unknown operation");
    REFUSE(good(TESSI_OP_FULL), layer->dtype = (enum tessi_dtype)99, "element type");
    REFUSE(good(TESSI_OP_FULL), layer->dtype = TESSI_I32, "wider");
    REFUSE(good(TESSI_OP_FULL), layer->as.full.dtype = TESSI_F32, "scalar");
    REFUSE(good(TESSI_OP_FULL), layer->as.full.dtype = (enum tessi_dtype)77, "scalar");
    REFUSE(good(TESSI_OP_FULL), layer->ninputs = 1, "inputs");
    REFUSE(good(TESSI_OP_FULL), layer->grid.ndim = 9, "dimensions");
    REFUSE(good(TESSI_OP_ARANGE), (layer->grid.ndim = 2), "one dimension");
    REFUSE(good(TESSI_OP_ARANGE), layer->as.arange.step.dtype = TESSI_F64, "different types");
    REFUSE(good(TESSI_OP_EYE), layer->grid.ndim = 1, "two dimensions");
    REFUSE(good(TESSI_OP_UNIFORM), layer->as.random.low = 2.0, "reversed");
    REFUSE(good(TESSI_OP_UNIFORM), layer->as.random.low = (double)NAN, "finite");
    REFUSE(good(TESSI_OP_UNIFORM), (layer->as.random.low = -DBL_MAX, layer->as.random.high = DBL_MAX), "wider");
    REFUSE(good(TESSI_OP_UNIFORM), layer->dtype = TESSI_I64, "float");
    REFUSE(good(TESSI_OP_NORMAL), layer->as.random.high = -1.0, "deviation");
    REFUSE(good(TESSI_OP_READ_NPY), layer->as.npy.path[0] = '\0', "path");
    REFUSE(good(TESSI_OP_READ_NPY), layer->as.npy.bytes = 191, "191 bytes");
    REFUSE(good(TESSI_OP_READ_NPY), layer->as.npy.offset = UINT64_MAX, "do not fit");
    REFUSE(good(TESSI_OP_READ_NPY), layer->dtype = TESSI_BF16, "bf16");
}

static struct tessi_layer *good_opaque(int64_t blocks)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_OPAQUE, TESSI_U64);
    layer->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(4, 1)}};
    struct tessi_input *input = add_input(layer, TESSI_U64, 1);
    input->grid.axis[0] = tessi_axis_regular(blocks, 1);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    return layer;
}

/* Four tasks along one dimension or four by three along two; input 0 is the layer itself, one step back. */
static struct tessi_layer *good_self(uint32_t ndim)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_OPAQUE, TESSI_U64);
    layer->grid = (struct tessi_grid){.ndim = ndim, .axis = {tessi_axis_regular(4, 1), tessi_axis_regular(3, 1)}};
    struct tessi_input *input = add_input(layer, TESSI_U64, ndim);
    input->layer = layer->id;
    tessi_grid_copy(&input->grid, &layer->grid);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = 0, .value = -1};
    input->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1};
    return layer;
}

static struct tessi_layer *good_self_table(const uint32_t *columns)
{
    const uint32_t rows[] = {0, 0, 1, 2, 4};
    struct tessi_layer *layer = good_self(1);
    layer->input[0].rules.table = tessi_table_create(4, 4, rows, columns);
    return layer;
}

static void accept(struct tessi_layer *layer)
{
    struct tessi_error error = {0};
    if (tessi_layer_check(layer, &error) != TESSI_OK) {
        fail_msg("%s", error.text);
    }
    assert_true(tessi_layer_reads_itself(layer));
    tessi_layer_destroy(layer);
}

/* Tasks of a layer may read lower indices of it, and nothing else of it. */
static void test_check_layers_that_read_themselves(void **state)
{
    (void)state;
    const struct tessi_rule forth = {.kind = TESSI_RULE_OFFSET, .dim = 1, .value = 1};
    const struct tessi_rule none = {.kind = TESSI_RULE_OFFSET, .dim = 0, .value = 0};
    const uint32_t good_columns[] = {0, 1, 0, 2};
    struct tessi_layer *stencil = good_self(2);
    stencil->input[0].rules.rule[1] = forth;
    accept(good_self(1));
    accept(good_self(2));
    accept(stencil);
    accept(good_self_table(good_columns));
    REFUSE(good_self_table(good_columns), layer->input[0].rules.table->columns[3] = 3, "task 3 reads its own");
    REFUSE(good_self_table(good_columns), layer->input[0].rules.table->columns[1] = 3, "task 2 reads its own");
    REFUSE(good_self(1), layer->input[0].rules.rule[0].value = 0, "lower indices");
    REFUSE(good_self(1), layer->input[0].rules.rule[0].value = 1, "lower indices");
    REFUSE(good_self(2), layer->input[0].rules.rule[0].kind = TESSI_RULE_SAME, "lower indices");
    REFUSE(good_self(2), (layer->input[0].rules.rule[0] = none, layer->input[0].rules.rule[1] = forth),
           "lower indices");
    REFUSE(good_self(2), layer->input[0].rules.rule[1].kind = TESSI_RULE_ALL, "offset along it");
    REFUSE(good_self(1), layer->input[0].rules.rule[0].kind = TESSI_RULE_ALL, "offset along it");
    REFUSE(good_self(1), layer->input[0].dtype = TESSI_F64, "differs from its own input");
    REFUSE(good_self(1), layer->input[0].grid.axis[0] = tessi_axis_regular(5, 1), "differs from its own input");
    REFUSE(good_opaque(4), layer->as.opaque.spread = -1.0, "out of range");
    REFUSE(good_opaque(4), layer->as.opaque.spread = (double)NAN, "out of range");
    REFUSE(good_opaque(4), layer->as.opaque.iterations = UINT64_MAX, "out of range");
}

static struct tessi_layer *good_transpose(void)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_TRANSPOSE, TESSI_F64);
    struct tessi_input *input = add_input(layer, TESSI_F64, 2);
    layer->grid = (struct tessi_grid){.ndim = 2, .axis = {tessi_axis_regular(4, 2), tessi_axis_regular(6, 2)}};
    input->grid.axis[0] = tessi_axis_regular(6, 2);
    input->grid.axis[1] = tessi_axis_regular(4, 2);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1};
    input->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0};
    layer->as.transpose.axis[0] = 1;
    return layer;
}

static struct tessi_layer *good_regrid(void)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_REGRID, TESSI_F64);
    struct tessi_input *input = add_input(layer, TESSI_F64, 1);
    layer->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(5, 2)}};
    input->grid.axis[0] = tessi_axis_regular(10, 3);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = 1, .step = 2};
    layer->as.regrid.start[0] = 1;
    layer->as.regrid.step[0] = 2;
    return layer;
}

static void test_check_refuses_the_others(void **state)
{
    (void)state;
    REFUSE(good_opaque(64), layer->input[0].grid.axis[0] = tessi_axis_regular(65, 1), "more than 64");
    REFUSE(good_opaque(40), (tessi_grid_copy(&add_input(layer, TESSI_U64, 1)->grid, &layer->input[0].grid),
                             layer->input[1].rules.rule[0].kind = TESSI_RULE_ALL),
           "more than 64");
    REFUSE(good_opaque(4), layer->as.opaque.nanoseconds = UINT64_MAX, "day");
    REFUSE(good_opaque(4), layer->input[0].dtype = (enum tessi_dtype)99, "element type");
    REFUSE(good_transpose(), layer->as.transpose.axis[0] = 0, "permutation");
    REFUSE(good_transpose(), layer->as.transpose.axis[0] = UINT32_MAX, "permutation");
    REFUSE(good_transpose(), layer->input[0].rules.rule[0].dim = 0, "permutation");
    REFUSE(good_transpose(), layer->dtype = TESSI_F32, "type");
    REFUSE(good_transpose(), layer->input[0].grid.axis[0] = tessi_axis_regular(6, 3), "leaves");
    REFUSE(good_regrid(), layer->as.regrid.start[0] = 0, "slice");
    REFUSE(good_regrid(), layer->as.regrid.step[0] = 1, "slice");
    REFUSE(good_regrid(), layer->grid.axis[0] = tessi_axis_regular(6, 2), "leaves the extent");
    REFUSE(good_regrid(), layer->dtype = TESSI_F32, "type");
    const uint32_t rows[] = {0, 1, 2, 3, 4, 5};
    const uint32_t columns[] = {0, 1, 2, 3, 0};
    REFUSE(good_regrid(), layer->input[0].rules.table = tessi_table_create(3, 4, rows, columns), "opaque");
}

/* Changed fields of good layers: what the check lets through, every other function survives. */
static void change_something(struct sample *sample, struct tessi_layer *layer)
{
    static const int64_t values[] = {0, 1, 2, 3, -1, 7, INT32_MAX, INT64_MAX, INT64_MIN, INT64_C(1) << 32};
    int64_t value = values[sample_next(sample) % (sizeof values / sizeof values[0])];
    struct tessi_input *input = &layer->input[layer->ninputs > 0 ? sample_next(sample) % layer->ninputs : 0];
    uint32_t d = (uint32_t)sample_between(sample, 0, 2);
    switch (sample_next(sample) % 12) {
    case 0:
        layer->dtype = (enum tessi_dtype)(uint32_t)value;
        break;
    case 1:
        input->dtype = (enum tessi_dtype)(uint32_t)value;
        break;
    case 2:
        input->rules.rule[d].kind = (enum tessi_rule_kind)(sample_next(sample) % 8);
        break;
    case 3:
        input->rules.rule[d].dim = (uint32_t)value;
        break;
    case 4:
        input->rules.rule[d].value = value;
        break;
    case 5:
        input->rules.rule[d].start = value;
        break;
    case 6:
        input->rules.rule[d].step = value;
        break;
    case 7:
        input->rules.ndim = (uint32_t)value;
        break;
    case 8:
        layer->as.matmul.segment = layer->op == TESSI_OP_MATMUL ? value : layer->as.matmul.segment;
        break;
    case 9:
        layer->as.reduce.axes = layer->op == TESSI_OP_REDUCE ? (uint32_t)value : layer->as.reduce.axes;
        break;
    case 10:
        layer->as.transpose.axis[d] = layer->op == TESSI_OP_TRANSPOSE ? (uint32_t)value : layer->as.transpose.axis[d];
        break;
    default:
        /* An axis with its boundaries would lose them, so only regular ones change. */
        if (layer->grid.axis[d].bounds == NULL) {
            layer->grid.axis[d].extent = value;
        }
        break;
    }
}

static void test_checked_layers_are_safe(void **state)
{
    (void)state;
    struct sample sample = {11};
    unsigned accepted = 0;
    unsigned refused = 0;
    for (unsigned round = 0; round < 60000; round++) {
        enum tessi_op op = (enum tessi_op)sample_between(&sample, TESSI_OP_ELEMENTWISE, TESSI_OP_OPAQUE);
        struct tessi_layer *layer = sample_layer(&sample, op);
        change_something(&sample, layer);
        if (tessi_layer_check(layer, NULL) != TESSI_OK) {
            refused++;
            tessi_layer_destroy(layer);
            continue;
        }
        accepted++;
        uint64_t tasks = tessi_layer_tasks(layer);
        for (uint64_t t = 0; t < tasks && t < 64; t++) {
            check_steps(layer, t);
        }
        for (uint32_t i = 0; i < layer->ninputs && tasks <= 64; i++) {
            compare_dependents(layer, i);
        }
        tessi_layer_destroy(layer);
    }
    assert_true(accepted > 1000);
    assert_true(refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_against_brute_force),
        cmocka_unit_test(test_matmul_steps_refine_both_operands),
        cmocka_unit_test(test_matmul_known_answers),
        cmocka_unit_test(test_reads_of_empty_slices),
        cmocka_unit_test(test_regenerable),
        cmocka_unit_test(test_tables_of_names),
        cmocka_unit_test(test_check_refuses_matmuls),
        cmocka_unit_test(test_check_refuses_reductions),
        cmocka_unit_test(test_check_refuses_elementwise),
        cmocka_unit_test(test_check_refuses_generators),
        cmocka_unit_test(test_check_refuses_the_others),
        cmocka_unit_test(test_check_layers_that_read_themselves),
        cmocka_unit_test(test_checked_layers_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
