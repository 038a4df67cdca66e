/* Layers and their tasks: random layers of every operation against brute force, and known answers.
 *
 * tests/run: one thread */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "tests/unit/layer_sample.h"

static void test_every_operation_against_brute_force(void **state)
{
    (void)state;
    struct sample sample = {8};
    for (uint32_t code = 0; code < TESSI_OP_COUNT; code++) {
        for (unsigned round = 0; tessi_op_valid(code) && round < 400; round++) {
            struct tessi_error error = {TESSI_OK, ""};
            struct tessi_layer *original = sample_small_layer(&sample, (enum tessi_op)code);
            struct tessi_layer *layer = tessi_layer_copy(original);
            tessi_layer_destroy(original);
            enum tessi_status status = tessi_layer_check(layer, &error);
            assert_string_equal(error.text, "");
            assert_int_equal(status, TESSI_OK);
            uint64_t bytes = 0;
            for (uint64_t t = 0; t < tessi_layer_tasks(layer); t++) {
                check_layer_steps(layer, t);
                bytes += tessi_layer_block_bytes(layer, t);
            }
            assert_int_equal(bytes, tessi_layer_bytes(layer));
            for (uint32_t i = 0; i < layer->ninputs; i++) {
                check_layer_dependents(layer, i);
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
    layer =
        matmul_of(tessi_axis_regular(1, 1), tessi_axis_regular(1, 1), tessi_axis_regular(INT64_C(1) << 50, INT32_MAX),
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
        struct tessi_layer *layer = sample_small_layer(&sample, (enum tessi_op)code);
        bool wanted = tessi_op_row(layer->op)->consume == TESSI_CONSUME_NONE && layer->op != TESSI_OP_RECEIVE;
        assert_int_equal(tessi_layer_regenerable(layer), wanted);
        tessi_layer_destroy(layer);
    }
    tessi_layer_destroy(NULL);
}

/* Equal inputs are one description, whoever of the layers that have it goes first; what differs stays apart. */
static void test_inputs_are_shared(void **state)
{
    (void)state;
    struct sample sample = {11};
    for (uint32_t code = 0; code < TESSI_OP_COUNT; code++) {
        for (unsigned round = 0; tessi_op_valid(code) && round < 50; round++) {
            struct sample again = sample, other = sample;
            struct tessi_layer *first = sample_small_layer(&sample, (enum tessi_op)code);
            struct tessi_layer *second = sample_small_layer(&again, (enum tessi_op)code);
            struct tessi_layer *third = sample_small_layer(&other, (enum tessi_op)code);
            bool plain = first->ninputs > 0;
            for (uint32_t i = 0; i < first->ninputs; i++) {
                plain = plain && first->input[i].rules.table == NULL;
                third->input[i].dtype = first->input[i].dtype == TESSI_F64 ? TESSI_I32 : TESSI_F64;
            }
            assert_false(tessi_layer_share_inputs(third, first));
            assert_int_equal(tessi_layer_share_inputs(second, first), plain);
            assert_int_equal(second->input == first->input, plain || first->input == NULL);
            tessi_layer_destroy(first);
            assert_int_equal(tessi_layer_check(second, NULL), TESSI_OK);
            struct tessi_layer *copy = tessi_layer_copy(second);
            assert_ptr_equal(copy->input, second->input);
            tessi_layer_destroy(second);
            assert_int_equal(tessi_layer_check(copy, NULL), TESSI_OK);
            tessi_layer_destroy(copy);
            tessi_layer_destroy(third);
        }
    }
}

static void test_tables_of_names(void **state)
{
    (void)state;
    assert_false(tessi_op_valid(0));
    assert_true(tessi_op_valid(TESSI_OP_FULL));
    assert_true(tessi_op_valid(TESSI_OP_SYNTHETIC));
    assert_false(tessi_op_valid(TESSI_OP_COUNT));
    assert_string_equal(tessi_op_row(TESSI_OP_MATMUL)->name, "matmul");
    assert_int_equal(tessi_op_row(TESSI_OP_MATMUL)->min_inputs, 2);
    assert_int_equal(tessi_op_row(TESSI_OP_MATMUL)->consume, TESSI_CONSUME_STREAM);
    assert_string_equal(tessi_ewise_name(TESSI_EWISE_LOG), "log");
    assert_int_equal(tessi_ewise_arity(TESSI_EWISE_ADD), 2);
    assert_int_equal(tessi_ewise_arity(TESSI_EWISE_LOG), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_against_brute_force),
        cmocka_unit_test(test_matmul_steps_refine_both_operands),
        cmocka_unit_test(test_matmul_known_answers),
        cmocka_unit_test(test_reads_of_empty_slices),
        cmocka_unit_test(test_regenerable),
        cmocka_unit_test(test_inputs_are_shared),
        cmocka_unit_test(test_tables_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
