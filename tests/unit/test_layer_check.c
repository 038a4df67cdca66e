/* The check of layers: what it refuses, with which words, and that what it lets through is safe.
 *
 * tests/run: one thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/base/alloc.h"
#include "tests/unit/layer_sample.h"

/* Each wrong layer is a good one with one thing changed. */
static void refuse(struct tessi_layer *layer, const char *naming)
{
    struct tessi_error error = {TESSI_OK, ""};
    assert_int_not_equal(tessi_layer_check(layer, &error), TESSI_OK);
    if (strstr(error.text, naming) == NULL) {
        fail_msg("'%s' does not name '%s'", error.text, naming);
    }
}

#define REFUSE(make, change, naming)                                                                                   \
    do {                                                                                                               \
        struct tessi_layer *layer = (make);                                                                            \
        assert_int_equal(tessi_layer_check(layer, NULL), TESSI_OK);                                                    \
        change;                                                                                                        \
        refuse(layer, naming);                                                                                         \
        tessi_layer_destroy(layer);                                                                                    \
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
    REFUSE(good_matmul(0), layer->reads[0] = layer->id, "read itself");
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
    REFUSE(good_reduce(), layer->as.reduce.fold = (enum tessi_fold)TESSI_FOLD_COUNT, "fold");
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
    program->code[0] = (struct tessi_instruction){.op = TESSI_EWISE_NEGATIVE, .dtype = TESSI_F32, .a = 0, .b = 0};
    program->code[1] = (struct tessi_instruction){.op = TESSI_EWISE_DIVIDE, .dtype = TESSI_F64, .a = 2, .b = 1};
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
    REFUSE(good_elementwise(), layer->input[0].grid.axis[0] = tessi_axis_regular(6, 1), "rechunk");
    REFUSE(good_elementwise(), layer->input[0].rules.rule[0].kind = TESSI_RULE_FIXED, "rechunk");
    REFUSE(good_elementwise(), layer->input[0].rules.rule[0].kind = TESSI_RULE_ALL, "rechunk");
    REFUSE(good_elementwise(), layer->input[0].rules.ndim = 0, "0 index rules");
}

static struct tessi_layer *good(enum tessi_op op)
{
    struct sample sample = {12};
    struct tessi_layer *layer = sample_small_layer(&sample, op);
    tessi_grid_fini(&layer->grid);
    layer->grid.ndim = op == TESSI_OP_EYE ? 2 : 1;
    layer->grid.axis[0] = tessi_axis_regular(8, 3);
    layer->grid.axis[1] = tessi_axis_regular(8, 3);
    layer->as.npy.file.bytes = op == TESSI_OP_READ_NPY ? 192 : layer->as.npy.file.bytes;
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
    REFUSE(good(TESSI_OP_READ_NPY), layer->as.npy.file.bytes = 191, "191 bytes");
    REFUSE(good(TESSI_OP_READ_NPY), layer->as.npy.offset = UINT64_MAX, "do not fit");
    REFUSE(good(TESSI_OP_READ_NPY), layer->dtype = TESSI_BF16, "bf16");
}

static struct tessi_layer *good_write(void)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_WRITE_NPY, TESSI_BOOL);
    struct tessi_input *input = add_input(layer, TESSI_F64, 2);
    input->grid.axis[0] = tessi_axis_regular(8, 3);
    input->grid.axis[1] = tessi_axis_regular(5, 2);
    tessi_layer_follow_blocks(layer);
    layer->as.write.path = tessi_strdup("/a/.tessera-write-1");
    layer->as.write.target = tessi_strdup("/a/b.npy");
    layer->as.write.offset = 128;
    layer->as.write.bytes = 128 + 8 * 5 * 8;
    return layer;
}

static void test_check_refuses_writes(void **state)
{
    (void)state;
    REFUSE(good_write(), layer->as.write.path[0] = 0, "path");
    REFUSE(good_write(), layer->as.write.target[0] = 0, "path");
    REFUSE(good_write(), layer->as.write.bytes++, "fill the file");
    REFUSE(good_write(), layer->as.write.offset = UINT64_MAX, "fill the file");
    REFUSE(good_write(), layer->dtype = TESSI_U8, "bool");
    REFUSE(good_write(), layer->input[0].dtype = TESSI_BF16, "bf16");
    REFUSE(good_write(), layer->grid.axis[0] = tessi_axis_regular(6, 2), "one element");
    REFUSE(good_write(), layer->input[0].rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_ALL}, "one element");
}

static struct tessi_layer *good_synthetic(int64_t blocks)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_SYNTHETIC, TESSI_U64);
    layer->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(4, 1)}};
    struct tessi_input *input = add_input(layer, TESSI_U64, 1);
    input->grid.axis[0] = tessi_axis_regular(blocks, 1);
    input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
    return layer;
}

/* Four tasks along one dimension or four by three along two; input 0 is the layer itself, one step back. */
static struct tessi_layer *good_self(uint32_t ndim)
{
    struct tessi_layer *layer = layer_of(TESSI_OP_SYNTHETIC, TESSI_U64);
    layer->grid = (struct tessi_grid){.ndim = ndim, .axis = {tessi_axis_regular(4, 1), tessi_axis_regular(3, 1)}};
    struct tessi_input *input = add_input(layer, TESSI_U64, ndim);
    layer->reads[0] = layer->id;
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
    REFUSE(good_synthetic(4), layer->as.synthetic.spread = -1.0, "out of range");
    REFUSE(good_synthetic(4), layer->as.synthetic.spread = (double)NAN, "out of range");
    REFUSE(good_synthetic(4), layer->as.synthetic.iterations = UINT64_MAX, "out of range");
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

/* Ten elements in threes and the rest become blocks of four: pieces end at 3, 4, 6, 8, 9. */
static struct tessi_layer *good_join(void)
{
    const int64_t bounds[] = {0, 3, 4, 6, 8, 9, 10};
    struct tessi_layer *layer = layer_of(TESSI_OP_REGRID, TESSI_F64);
    layer->grid = (struct tessi_grid){.ndim = 1, .axis = {tessi_axis_regular(10, 4)}};
    add_input(layer, TESSI_F64, 1)->grid.axis[0] = tessi_axis_regular(10, 3);
    add_input(layer, TESSI_F64, 1)->grid.axis[0] = tessi_axis_explicit(bounds, 6);
    for (uint32_t i = 0; i < 2; i++) {
        layer->input[i].rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .step = 1};
    }
    layer->as.regrid.step[0] = 1;
    return layer;
}

static void set_pieces(struct tessi_layer *layer, struct tessi_axis axis)
{
    tessi_axis_fini(&layer->input[1].grid.axis[0]);
    layer->input[1].grid.axis[0] = axis;
}

static void test_check_refuses_other_pieces(void **state)
{
    (void)state;
    struct tessi_layer *good = good_join();
    assert_int_equal(tessi_layer_check(good, NULL), TESSI_OK);
    tessi_layer_destroy(good);
    REFUSE(good_join(), set_pieces(layer, tessi_axis_regular(10, 1)), "pieces");
    REFUSE(good_join(), set_pieces(layer, tessi_axis_regular(10, 10)), "pieces");
    REFUSE(good_join(), set_pieces(layer, tessi_axis_regular(11, 2)), "pieces");
    REFUSE(good_join(), layer->input[1].rules.rule[0].kind = TESSI_RULE_ALL, "pieces");
    REFUSE(good_join(), set_pieces(layer, tessi_axis_explicit((const int64_t[]){0, 3, 4, 6, 8, 10}, 5)), "pieces");
    REFUSE(good_join(), layer->input[1].dtype = TESSI_F32, "pieces");
    REFUSE(good_join(), layer->grid.axis[0] = tessi_axis_regular(10, 5), "pieces");
    REFUSE(good_join(),
           (layer->as.regrid.step[0] = 2, layer->input[0].rules.rule[0].step = 2,
            layer->grid.axis[0] = tessi_axis_regular(5, 4)),
           "pieces");
    REFUSE(good_join(),
           (add_input(layer, TESSI_F64, 1)->rules.rule[0].kind = TESSI_RULE_ALL,
            layer->input[2].grid.axis[0] = tessi_axis_regular(10, 4)),
           "inputs");
}

static void test_check_refuses_the_others(void **state)
{
    (void)state;
    REFUSE(good_synthetic(64), layer->input[0].grid.axis[0] = tessi_axis_regular(65, 1), "more than 64");
    REFUSE(good_synthetic(40),
           (add_input(layer, TESSI_U64, 1)->rules.rule[0].kind = TESSI_RULE_ALL,
            tessi_grid_copy(&layer->input[1].grid, &layer->input[0].grid)),
           "more than 64");
    REFUSE(good_synthetic(4), layer->as.synthetic.nanoseconds = UINT64_MAX, "day");
    REFUSE(good_synthetic(4), layer->input[0].dtype = (enum tessi_dtype)99, "element type");
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
    REFUSE(good_regrid(), layer->input[0].rules.table = tessi_table_create(3, 4, rows, columns), "synthetic");
}

/* Changed fields of good layers: what the check lets through, every other function survives. */
static void change_something(struct sample *sample, struct tessi_layer *layer)
{
    static const int64_t values[] = {0, 1, 2, 3, -1, 7, INT32_MAX, INT64_MAX, INT64_MIN, INT64_C(1) << 32};
    int64_t value = values[sample_next(sample) % (sizeof values / sizeof values[0])];
    struct tessi_input none = {0};
    struct tessi_input *input = layer->ninputs > 0 ? &layer->input[sample_next(sample) % layer->ninputs] : &none;
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
        enum tessi_op op = (enum tessi_op)sample_between(&sample, TESSI_OP_ELEMENTWISE, TESSI_OP_SYNTHETIC);
        struct tessi_layer *layer = sample_small_layer(&sample, op);
        change_something(&sample, layer);
        if (tessi_layer_check(layer, NULL) != TESSI_OK) {
            refused++;
            tessi_layer_destroy(layer);
            continue;
        }
        accepted++;
        uint64_t tasks = tessi_layer_tasks(layer);
        for (uint64_t t = 0; t < tasks && t < 64; t++) {
            check_layer_steps(layer, t);
        }
        for (uint32_t i = 0; i < layer->ninputs && tasks <= 64; i++) {
            check_layer_dependents(layer, i);
        }
        tessi_layer_destroy(layer);
    }
    assert_true(accepted > 1000);
    assert_true(refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_refuses_matmuls),      cmocka_unit_test(test_check_refuses_reductions),
        cmocka_unit_test(test_check_refuses_elementwise),  cmocka_unit_test(test_check_refuses_generators),
        cmocka_unit_test(test_check_refuses_writes),       cmocka_unit_test(test_check_layers_that_read_themselves),
        cmocka_unit_test(test_check_refuses_other_pieces), cmocka_unit_test(test_check_refuses_the_others),
        cmocka_unit_test(test_checked_layers_are_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
