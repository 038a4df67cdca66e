/* Building graphs without a cluster: layers, poison, fusion, what is submitted. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "client/array.h"
#include "client/region.h"
#include "client/submit.h"
#include "core/base/alloc.h"

static int open_session(void **state)
{
    *state = tessi_session_create();
    return 0;
}

static int close_session(void **state)
{
    tess_session_close(*state);
    return 0;
}

static const struct tessi_layer *layer_of(const tess_array *array)
{
    assert_non_null(array->node);
    return array->node->layer;
}

static void assert_shape(const tess_array *array, tess_shape expected)
{
    tess_shape shape = tess_array_shape(array);
    assert_string_equal(tess_array_error(array), "");
    assert_int_equal(shape.ndim, expected.ndim);
    for (uint32_t d = 0; d < shape.ndim; d++) {
        assert_int_equal(shape.dim[d], expected.dim[d]);
    }
}

/* Plan one array; every layer must be acceptable to the scheduler, and inputs come before their readers. */
static void make_plan(tess_session *session, tess_array *array, struct tessi_plan *plan)
{
    assert_int_equal(tessi_plan_make(session, &array->node, 1, plan, NULL), TESSI_OK);
    uint32_t last = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const struct tessi_plan_entry *entry = &plan->entries[i];
        if (entry->gone || entry->layer == NULL) {
            continue;
        }
        struct tessi_error error = {0};
        if (tessi_layer_check(entry->layer, &error) != TESSI_OK) {
            fail_msg("%s", error.text);
        }
        assert_true(entry->id > last);
        last = entry->id;
        for (uint32_t k = 0; k < entry->layer->ninputs; k++) {
            const struct tessi_plan_entry *input = &plan->entries[entry->input[k]];
            assert_false(input->gone);
            assert_true(entry->input[k] < i);
            assert_int_equal(entry->layer->reads[k], input->id);
            if (input->layer != NULL) {
                assert_true(tessi_grid_equal(&input->layer->grid, &entry->layer->input[k].grid));
                assert_int_equal(input->layer->dtype, entry->layer->input[k].dtype);
            }
        }
    }
}

static size_t count_layers(const struct tessi_plan *plan, enum tessi_op op)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->count; i++) {
        count += plan->entries[i].layer != NULL && plan->entries[i].layer->op == op ? 1 : 0;
    }
    return count;
}

static void test_matmul(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_random_normal(s, TESS_SHAPE(1000, 900), TESS_F64, 0, 1, 1, TESS_CHUNKS(100, 100));
    tess_array *b = tess_random_normal(s, TESS_SHAPE(900, 800), TESS_F64, 0, 1, 2, TESS_CHUNKS(70, 100));
    tess_array *c = tess_matmul(a, b);
    assert_shape(c, TESS_SHAPE(1000, 800));
    const struct tessi_layer *layer = layer_of(c);
    assert_int_equal(layer->op, TESSI_OP_MATMUL);
    assert_int_equal(layer->grid.ndim, 2);
    assert_int_equal(tessi_grid_blocks(&layer->grid), 80);
    assert_int_equal(layer->input[0].rules.rule[0].kind, TESSI_RULE_SAME);
    assert_int_equal(layer->input[0].rules.rule[1].kind, TESSI_RULE_ALL);
    assert_int_equal(layer->input[1].rules.rule[0].kind, TESSI_RULE_ALL);
    assert_int_equal(layer->input[1].rules.rule[1].dim, 1);
    /* Inside k = 900, chunks of 100 have 8 boundaries and chunks of 70 have 12; 700 is one of both. */
    assert_int_equal(tessi_task_steps(layer, 0), 8 + 12 - 1 + 1);
}

static void test_matmul_looks_through_transposes(void **state)
{
    tess_session *s = *state;
    tess_array *x = tess_ones(s, TESS_SHAPE(640, 320), TESS_F32, TESS_CHUNKS(40, 40));
    tess_array *c = tess_matmul(tess_transpose(x), x);
    const struct tessi_layer *layer = layer_of(c);
    assert_int_equal(layer->op, TESSI_OP_MATMUL);
    assert_true(layer->as.matmul.transpose_a);
    assert_false(layer->as.matmul.transpose_b);
    assert_ptr_equal(c->node->input[0], x->node);
    assert_ptr_equal(c->node->input[1], x->node);
    tess_array *d = tess_matmul(x, tess_transpose(x));
    assert_false(layer_of(d)->as.matmul.transpose_a);
    assert_true(layer_of(d)->as.matmul.transpose_b);
    assert_shape(d, TESS_SHAPE(640, 640));
    assert_ptr_equal(tess_transpose(tess_transpose(x))->node, x->node);
    struct tessi_plan plan;
    make_plan(s, c, &plan);
    assert_int_equal(count_layers(&plan, TESSI_OP_TRANSPOSE), 0);
    tessi_plan_fini(&plan);
}

static void test_matmul_splits_long_k(void **state)
{
    tess_session *s = *state;
    tess_array *x = tess_ones(s, TESS_SHAPE(100000, 40), TESS_F64, TESS_CHUNKS(1000, 40));
    tess_array *c = tess_matmul(tess_transpose(x), x);
    assert_shape(c, TESS_SHAPE(40, 40));
    struct tessi_plan plan;
    make_plan(s, c, &plan);
    const struct tessi_layer *product = NULL;
    for (size_t i = 0; i < plan.count; i++) {
        if (plan.entries[i].layer->op == TESSI_OP_MATMUL) {
            product = plan.entries[i].layer;
        }
    }
    assert_non_null(product);
    assert_int_equal(product->grid.ndim, 3);
    assert_int_equal(product->grid.axis[2].extent, 50); /* 100 chunks, two for each segment */
    assert_int_equal(product->as.matmul.segment, 2000);
    assert_int_equal(product->input[0].rules.rule[0].kind, TESSI_RULE_SEGMENT);
    assert_int_equal(count_layers(&plan, TESSI_OP_REDUCE), 2); /* 50 → 4 → 1 */
    tessi_plan_fini(&plan);

    /* A square product is never cut: its partial sums would be as large as its operands. */
    tess_array *square = tess_ones(s, TESS_SHAPE(800, 800), TESS_F64, TESS_CHUNKS(200, 50));
    tess_array *whole = tess_matmul(square, square);
    assert_int_equal(layer_of(whole)->op, TESSI_OP_MATMUL);
    assert_int_equal(layer_of(whole)->grid.ndim, 2);
    tess_array *cut = tess_matmul_with(square, square, &(tess_matmul_options){.segments = 3});
    assert_int_equal(layer_of(cut)->op, TESSI_OP_REDUCE);
    assert_int_equal(cut->node->input[0]->layer->grid.axis[2].extent, 3);
    tess_array *uncut = tess_matmul_with(tess_transpose(x), x, &(tess_matmul_options){.segments = 1});
    assert_int_equal(layer_of(uncut)->op, TESSI_OP_MATMUL);
    tess_array *coarse = tess_matmul_with(square, square, &(tess_matmul_options){.chunks = TESS_CHUNKS(400, 400)});
    assert_int_equal(tess_array_chunks(coarse, 0), 2);
    assert_int_equal(tess_array_chunks(coarse, 1), 2);
}

static void test_matmul_converts(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(10, 20), TESS_F32, TESS_AUTO);
    tess_array *b = tess_ones(s, TESS_SHAPE(20, 30), TESS_F64, TESS_AUTO);
    assert_int_equal(tess_array_dtype(tess_matmul(a, b)), TESS_F64);
    tess_array *nothing = tess_matmul(tess_ones(s, TESS_SHAPE(4, 0), TESS_F64, TESS_AUTO),
                                      tess_ones(s, TESS_SHAPE(0, 5), TESS_F64, TESS_AUTO));
    assert_shape(nothing, TESS_SHAPE(4, 5));
    assert_int_equal(layer_of(nothing)->op, TESSI_OP_FULL);
}

static void test_poison(void **state)
{
    tess_session *s = *state;
    tess_array *x = tess_ones(s, TESS_SHAPE(20000, 512), TESS_F64, TESS_AUTO);
    tess_array *w = tess_name(tess_ones(s, TESS_SHAPE(20000, 1), TESS_F64, TESS_AUTO), "w");
    assert_int_equal(tess_session_status(s), TESS_OK);
    assert_string_equal(tess_session_error(s), "");
    tess_array *y = tess_matmul(x, w);
    assert_int_equal(tess_array_status(y), TESS_INVALID);
    assert_string_equal(tess_array_error(y), "tess_matmul: (20000, 512) · (20000, 1): inner dimensions differ [w]");
    tess_array *z = tess_exp(tess_add(tess_sum(y, TESS_ALL, false), x));
    assert_int_equal(tess_array_status(z), TESS_INVALID);
    assert_string_equal(tess_array_error(z), tess_array_error(y));
    assert_int_equal(tess_array_shape(z).ndim, 0);
    assert_int_equal(tess_array_bytes(z), 0);
    tess_array *other = tess_add(x, tess_ones(s, TESS_SHAPE(7), TESS_F64, TESS_AUTO));
    assert_string_equal(tess_array_error(other), "tess_add: (20000, 512) and (7,) do not broadcast");
    assert_string_equal(tess_session_error(s), tess_array_error(y));
    assert_int_equal(tess_persist(z), TESS_INVALID);
    tess_session_clear_error(s);
    assert_int_equal(tess_session_status(s), TESS_OK);
    double value = 0;
    assert_int_equal(tess_read_scalar(x, &value), TESS_UNREACHABLE);
    assert_int_equal(tess_session_status(s), TESS_UNREACHABLE);
    /* Whatever a call returns, the session's error is that call's. */
    assert_int_equal(tess_read_scalar(other, &value), TESS_INVALID);
    assert_string_equal(tess_session_error(s), tess_array_error(other));
    assert_int_equal(tess_schedule(y, NULL), TESS_INVALID);
    assert_string_equal(tess_session_error(s), tess_array_error(y));
    assert_int_equal(tess_session_stats(s, NULL), TESS_INVALID);
    assert_non_null(strstr(tess_session_error(s), "tess_session_stats"));
}

static uint64_t largest_block(const tess_array *a)
{
    return tessi_grid_largest_block(&layer_of(a)->grid, tess_dtype_size(tess_array_dtype(a)));
}

/* Every boundary of the one axis is one of the other. */
static void assert_aligned(const tess_array *fine, const tess_array *coarse, uint32_t axis)
{
    const struct tessi_axis *in = &layer_of(coarse)->grid.axis[axis], *out = &layer_of(fine)->grid.axis[axis];
    for (uint64_t c = 0; c < in->count; c++) {
        assert_int_equal(tessi_axis_lo(out, tessi_axis_find(out, tessi_axis_lo(in, c))), tessi_axis_lo(in, c));
    }
}

static void test_results_do_not_outgrow_their_chunks(void **state)
{
    tess_session *s = *state;
    const uint64_t bound = TESSI_CHUNK_BYTES;
    tess_array *x = tess_random_uniform(s, TESS_SHAPE(40000, 1), TESS_F64, 0, 1, 1, TESS_AUTO);
    tess_array *outer[] = {tess_matmul(x, tess_transpose(x)), tess_add(x, tess_transpose(x)),
                           tess_multiply(tess_transpose(x), x)};
    for (size_t i = 0; i < 3; i++) {
        assert_shape(outer[i], TESS_SHAPE(40000, 40000));
        assert_true(largest_block(outer[i]) <= bound && largest_block(outer[i]) > bound / 2);
    }
    /* The user's own chunks, where one of the operands has blocks as large, or the result's are of a usual size. */
    tess_array *wide = tess_ones(s, TESS_SHAPE(16384, 16384), TESS_F64, TESS_CHUNKS(8192, 8192));
    assert_int_equal(tess_array_chunk(tess_matmul(wide, wide), 0, 0), 8192);
    assert_int_equal(tess_array_chunk(tess_add(wide, tess_ones(s, TESS_SHAPE(16384), TESS_F64, TESS_AUTO)), 1, 0), 8192);
    tess_array *tall = tess_ones(s, TESS_SHAPE(16384, 64), TESS_F64, TESS_CHUNKS(4096, 64));
    assert_int_equal(tess_array_chunk(tess_matmul(tall, tess_transpose(tall)), 0, 0), 4096);
    /* And where they are too large: in parts of the user's, also of unequal ones. */
    tess_array *taller = tess_ones(s, TESS_SHAPE(50000, 64), TESS_F64, TESS_CHUNKS(25000, 64));
    tess_array *product = tess_matmul(taller, tess_transpose(taller));
    assert_true(largest_block(product) <= bound);
    assert_aligned(product, taller, 0);
    tess_array *uneven = tess_slice(taller, TESS_SLICES(TESS_RANGE(7001, 49001)));
    product = tess_matmul(uneven, tess_transpose(uneven));
    assert_true(largest_block(product) <= bound);
    assert_aligned(product, uneven, 0);
    /* What is asked for is given. */
    product = tess_matmul_with(taller, tess_transpose(taller), &(tess_matmul_options){.chunks = TESS_CHUNKS(25000, 25000)});
    assert_int_equal(tess_array_chunk(product, 0, 0), 25000);
    /* Elements that become several times as long. */
    tess_array *bytes = tess_ones(s, TESS_SHAPE(100000, 10000), TESS_U8, TESS_AUTO);
    assert_true(largest_block(bytes) > bound / 2);
    assert_true(largest_block(tess_sqrt(bytes)) <= bound);
    assert_true(largest_block(tess_astype(tess_add_scalar(bytes, 1), TESS_F32)) <= bound);
    tess_array *own = tess_ones(s, TESS_SHAPE(100000, 10000), TESS_U8, TESS_CHUNKS(10000, 10000));
    assert_int_equal(tess_array_chunk(tess_sqrt(own), 0, 0), 10000);
    assert_int_equal(tess_array_chunk(tess_sqrt(tess_rechunk(bytes, TESS_CHUNKS(10000, 10000))), 0, 0), 10000);
}

static void test_names(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_name(tess_ones(s, TESS_SHAPE(64, 64), TESS_F64, TESS_CHUNKS(8, 8)), "a");
    tess_array *root = tess_sqrt(tess_ones(s, TESS_SHAPE(64, 64), TESS_F64, TESS_CHUNKS(8, 8)));
    tess_array *y = tess_name(tess_sum(tess_matmul(a, tess_permute(root, (const uint32_t[]){1, 0}, 2)), TESS_ALL, false), "y");
    struct tessi_plan plan;
    assert_int_equal(tessi_plan_make(s, &y->node, 1, &plan, NULL), TESSI_OK);
    for (size_t i = 0; i < plan.count; i++) {
        const struct tessi_plan_entry *entry = &plan.entries[i];
        if (entry->layer != NULL) {
            const char *expected = entry->node == a->node ? "a" : entry->wanted ? "y" : "for y";
            assert_string_equal(entry->layer->name, expected);
        }
    }
    tessi_plan_fini(&plan);
    assert_null(root->node->layer->name);
    /* 31 bytes, and no half of a character */
    tess_name(a, "ééééééééééééééééé");
    assert_int_equal(strlen(layer_of(a)->name), 30);
    tess_name(a, NULL);
    assert_null(layer_of(a)->name);
    char label[TESSI_LAYER_LABEL_MAX];
    assert_string_equal(tessi_layer_label(layer_of(y), label, sizeof label), "reduce [y]");
}

static void assert_poisoned(const tess_array *array, tess_status status, const char *part)
{
    assert_int_equal(tess_array_status(array), status);
    if (strstr(tess_array_error(array), part) == NULL) {
        fail_msg("\"%s\" does not tell \"%s\"", tess_array_error(array), part);
    }
}

static void test_wrong_calls(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(4, 6), TESS_F64, TESS_AUTO);
    tess_array *flags = tess_ones(s, TESS_SHAPE(4, 6), TESS_BOOL, TESS_AUTO);
    tess_array *complex = tess_ones(s, TESS_SHAPE(4), TESS_C128, TESS_AUTO);
    tess_array *empty = tess_ones(s, TESS_SHAPE(0, 3), TESS_F64, TESS_AUTO);
    assert_poisoned(tess_zeros(s, TESS_SHAPE(-1), TESS_F64, TESS_AUTO), TESS_INVALID, "dimension 0 is -1");
    assert_poisoned(tess_zeros(s, TESS_SHAPE(5), (tess_dtype)99, TESS_AUTO), TESS_INVALID, "no dtype 99");
    assert_poisoned(tess_zeros(s, TESS_SHAPE(5), TESS_F64, TESS_CHUNKS(1, 2)), TESS_INVALID, "chunks for 2");
    assert_poisoned(tess_zeros(s, TESS_SHAPE(5), TESS_F64, TESS_CHUNKS(-3)), TESS_INVALID, "chunk -3");
    assert_poisoned(tess_zeros(s, TESS_SHAPE(INT64_C(1) << 40, INT64_C(1) << 40), TESS_F64, TESS_AUTO), TESS_TOO_BIG,
                    "more elements than the 576460752303423487");
    assert_poisoned(tess_zeros(s, TESS_SHAPE(INT64_C(1) << 62), TESS_U8, TESS_AUTO), TESS_TOO_BIG, "576460752303423487");
    tess_array *tall = tess_ones(s, TESS_SHAPE(INT64_C(1) << 40, 1), TESS_U8, TESS_CHUNKS(1 << 20, 1));
    assert_poisoned(tess_add(tall, tess_transpose(tall)), TESS_TOO_BIG, "more than 576460752303423487 elements");
    assert_poisoned(tess_matmul(tall, tess_transpose(tall)), TESS_TOO_BIG, "more than 576460752303423487 elements");
    assert_poisoned(tess_arange(s, 0, 1e18, 1, TESS_F64, TESS_AUTO), TESS_TOO_BIG, "1e+18 elements");
    assert_poisoned(tess_arange(s, 0, INFINITY, 1, TESS_F64, TESS_AUTO), TESS_INVALID, "finite");
    assert_poisoned(tess_full(s, TESS_SHAPE(5), TESS_I8, 200, TESS_AUTO), TESS_INVALID, "200");
    assert_poisoned(tess_full(s, TESS_SHAPE(5), TESS_U8, -1, TESS_AUTO), TESS_INVALID, "-1");
    assert_poisoned(tess_full(s, TESS_SHAPE(5), TESS_I32, 0.5, TESS_AUTO), TESS_INVALID, "0.5");
    assert_poisoned(tess_arange(s, 0, 10, 0, TESS_F64, TESS_AUTO), TESS_INVALID, "step");
    assert_poisoned(tess_random_uniform(s, TESS_SHAPE(5), TESS_I32, 0, 1, 1, TESS_AUTO), TESS_INVALID, "float");
    assert_poisoned(tess_random_uniform(s, TESS_SHAPE(5), TESS_F64, 1, 0, 1, TESS_AUTO), TESS_INVALID, "low");
    assert_poisoned(tess_from_memory(s, NULL, TESS_SHAPE(5), TESS_F64, TESS_AUTO), TESS_INVALID, "NULL");
    assert_poisoned(tess_from_npy(s, "/nowhere/at/all.npy", TESS_AUTO), TESS_NOT_FOUND, "/nowhere/at/all.npy");
    assert_poisoned(tess_from_npy(s, "/dev", TESS_AUTO), TESS_IO, "/dev");
    assert_poisoned(tess_from_npy(s, NULL, TESS_AUTO), TESS_INVALID, "NULL");
    assert_poisoned(tess_subtract(flags, flags), TESS_UNSUPPORTED, "bool");
    assert_poisoned(tess_negative(flags), TESS_UNSUPPORTED, "bool");
    assert_poisoned(tess_astype(complex, TESS_F64), TESS_INVALID, "imaginary");
    assert_poisoned(tess_max(complex, TESS_ALL, false), TESS_UNSUPPORTED, "order");
    assert_poisoned(tess_min(empty, TESS_AXIS(0), false), TESS_INVALID, "no min");
    assert_poisoned(tess_sum(a, TESS_AXIS(2), false), TESS_INVALID, "axis 2");
    assert_poisoned(tess_matmul(a, complex), TESS_INVALID, "two dimensions");
    assert_poisoned(tess_slice(a, TESS_SLICES(TESS_STEP(0, 4, -1))), TESS_UNSUPPORTED, "step -1");
    assert_poisoned(tess_slice(a, TESS_SLICES(TESS_WHOLE, TESS_WHOLE, TESS_WHOLE)), TESS_INVALID, "3 ranges");
    assert_poisoned(tess_permute(a, (const uint32_t[]){0, 0}, 2), TESS_INVALID, "permutation");
    assert_poisoned(tess_permute(a, (const uint32_t[]){0}, 1), TESS_INVALID, "permutation");
    assert_poisoned(tess_add(a, NULL), TESS_INVALID, "NULL");
    tess_array *nobodys = tess_add(NULL, NULL);
    assert_poisoned(nobodys, TESS_INVALID, "NULL");
    assert_poisoned(tess_add(a, nobodys), TESS_INVALID, "NULL");
    assert_poisoned(tess_exp(nobodys), TESS_INVALID, "NULL");
    assert_poisoned(tess_zeros(NULL, TESS_SHAPE(1), TESS_F64, TESS_AUTO), TESS_INVALID, "NULL");
    assert_ptr_equal(tess_keep(nobodys), nobodys);
    tess_release(nobodys);
    tess_session *elsewhere = tessi_session_create();
    assert_poisoned(tess_add(a, tess_ones(elsewhere, TESS_SHAPE(6), TESS_F64, TESS_AUTO)), TESS_INVALID, "sessions");
    tess_session_close(elsewhere);
}

static void test_session_that_cannot_open(void **state)
{
    (void)state;
    tess_session *s = tess_session_open("nonsense://", NULL);
    assert_non_null(s);
    assert_int_equal(tess_session_status(s), TESS_INVALID);
    assert_non_null(strstr(tess_session_error(s), "tess_session_open"));
    tess_array *a = tess_add_scalar(tess_ones(s, TESS_SHAPE(3), TESS_F64, TESS_AUTO), 1);
    assert_int_equal(tess_array_status(a), TESS_INVALID);
    assert_string_equal(tess_array_error(a), tess_session_error(s));
    double value;
    assert_int_equal(tess_read_scalar(a, &value), TESS_INVALID);
    tess_session_clear_error(s);
    assert_int_equal(tess_session_status(s), TESS_INVALID);
    tess_session_close(s);
}

static void test_dtypes(void **state)
{
    tess_session *s = *state;
    tess_array *i32 = tess_ones(s, TESS_SHAPE(5), TESS_I32, TESS_AUTO);
    tess_array *f32 = tess_ones(s, TESS_SHAPE(5), TESS_F32, TESS_AUTO);
    tess_array *u8 = tess_ones(s, TESS_SHAPE(5), TESS_U8, TESS_AUTO);
    tess_array *b = tess_ones(s, TESS_SHAPE(5), TESS_BOOL, TESS_AUTO);
    tess_array *h = tess_ones(s, TESS_SHAPE(5), TESS_F16, TESS_AUTO);
    assert_int_equal(tess_array_dtype(tess_add(i32, f32)), TESS_F64);
    assert_int_equal(tess_array_dtype(tess_add(u8, b)), TESS_U8);
    assert_int_equal(tess_array_dtype(tess_divide(i32, u8)), TESS_F64);
    assert_int_equal(tess_array_dtype(tess_multiply_scalar(f32, 2)), TESS_F32);
    static const struct {
        tess_dtype dtype;
        double number;
        bool kept;
    } scalars[] = {{TESS_I32, 2, true},     {TESS_I32, -2, true},      {TESS_I32, 0.5, false},  {TESS_I32, 0x1p31, false},
                   {TESS_I32, NAN, false},  {TESS_I32, -0x1p31, true}, {TESS_U8, 255, true},    {TESS_U8, 256, false},
                   {TESS_U8, -1, false},    {TESS_U64, 0x1p63, true},  {TESS_U64, 0x1p64, false}, {TESS_I64, 0x1p63, false},
                   {TESS_I64, INFINITY, false}};
    for (size_t i = 0; i < sizeof scalars / sizeof scalars[0]; i++) {
        tess_array *whole = tess_ones(s, TESS_SHAPE(5), scalars[i].dtype, TESS_AUTO);
        tess_dtype expected = scalars[i].kept ? scalars[i].dtype : TESS_F64;
        assert_int_equal(tess_array_dtype(tess_multiply_scalar(whole, scalars[i].number)), expected);
        assert_int_equal(tess_array_dtype(tess_add_scalar(whole, scalars[i].number)), expected);
        assert_int_equal(tess_array_dtype(tess_subtract_scalar(whole, scalars[i].number)), expected);
        assert_int_equal(tess_array_dtype(tess_divide_scalar(whole, scalars[i].number)), TESS_F64);
    }
    tess_array *flags = tess_ones(s, TESS_SHAPE(5), TESS_BOOL, TESS_AUTO);
    assert_int_equal(tess_array_dtype(tess_multiply_scalar(flags, 2)), TESS_F64);
    assert_int_equal(tess_array_dtype(tess_sqrt(i32)), TESS_F64);
    assert_int_equal(tess_array_dtype(tess_sqrt(h)), TESS_F16);
    assert_int_equal(tess_array_dtype(tess_sum(b, TESS_ALL, false)), TESS_I64);
    assert_int_equal(tess_array_dtype(tess_sum(u8, TESS_ALL, false)), TESS_U64);
    assert_int_equal(tess_array_dtype(tess_mean(u8, TESS_ALL, false)), TESS_F64);
    assert_int_equal(tess_array_dtype(tess_mean(h, TESS_ALL, false)), TESS_F16);
    assert_int_equal(tess_array_dtype(tess_max(u8, TESS_ALL, false)), TESS_U8);
    assert_ptr_equal(tess_astype(f32, TESS_F32)->node, f32->node);
    tess_dtype parsed;
    assert_int_equal(tess_dtype_parse("bf16", &parsed), TESS_OK);
    assert_int_equal(parsed, TESS_BF16);
    assert_int_equal(tess_dtype_parse("float", &parsed), TESS_INVALID);
    assert_int_equal(tess_dtype_size(TESS_C128), 16);
    assert_int_equal(tess_dtype_size((tess_dtype)77), 0);
}

static void test_broadcasting(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(100, 60), TESS_F64, TESS_CHUNKS(30, 20));
    tess_array *row = tess_ones(s, TESS_SHAPE(60), TESS_F64, TESS_CHUNKS(20));
    tess_array *sum = tess_add(row, a);
    const struct tessi_layer *layer = layer_of(sum);
    assert_int_equal(layer->input[0].grid.ndim, 1);
    assert_int_equal(layer->input[0].rules.rule[0].kind, TESSI_RULE_SAME);
    assert_int_equal(layer->input[0].rules.rule[0].dim, 1);
    tess_array *column = tess_ones(s, TESS_SHAPE(100, 1), TESS_F64, TESS_CHUNKS(30, 1));
    layer = layer_of(tess_multiply(a, column));
    assert_int_equal(layer->input[1].rules.rule[1].kind, TESSI_RULE_FIXED);
    assert_int_equal(layer->input[1].rules.rule[0].kind, TESSI_RULE_SAME);
    assert_shape(tess_add(column, row), TESS_SHAPE(100, 60));
    assert_shape(tess_add(a, tess_scalar(s, 2, TESS_F64)), TESS_SHAPE(100, 60));

    /* The smaller operand is rechunked, and only where boundaries differ. */
    tess_array *other = tess_ones(s, TESS_SHAPE(60), TESS_F64, TESS_CHUNKS(25));
    tess_array *mixed = tess_add(a, other);
    assert_ptr_equal(mixed->node->input[0], a->node);
    assert_int_equal(mixed->node->input[1]->layer->op, TESSI_OP_REGRID);
    assert_int_equal(tess_array_chunks(mixed, 1), 3);
    tess_array *twice = tess_multiply(a, a);
    assert_int_equal(layer_of(twice)->ninputs, 1);
}

static void test_reductions(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(1000, 70), TESS_F32, TESS_CHUNKS(2, 10));
    tess_array *total = tess_sum(a, TESS_ALL, false);
    assert_shape(total, TESS_SHAPE_0D);
    uint32_t levels = 0;
    for (const struct tessi_node *node = total->node; node->layer->op == TESSI_OP_REDUCE; node = node->input[0]) {
        levels++;
        /* The leaves read their own block, the others a bounded group. */
        uint64_t most = node->input[0]->layer->op == TESSI_OP_REDUCE ? 16 : 1;
        for (uint64_t task = 0; task < tessi_layer_tasks(node->layer); task++) {
            uint64_t reads = tessi_task_input_count(node->layer, 0, task);
            assert_true(reads >= 1 && reads <= most);
        }
    }
    assert_int_equal(levels, 4); /* 500 × 7 blocks: each, → 250 × 1, → 16, → 1 */
    assert_shape(tess_sum(a, TESS_AXIS(0), false), TESS_SHAPE(70));
    assert_shape(tess_sum(a, TESS_AXIS(1), true), TESS_SHAPE(1000, 1));
    assert_shape(tess_min(a, TESS_AXIS(0) | TESS_AXIS(1), true), TESS_SHAPE(1, 1));
    assert_shape(tess_mean(a, 0, false), TESS_SHAPE(1000, 70));
    tess_array *empty = tess_zeros(s, TESS_SHAPE(0, 4), TESS_F64, TESS_AUTO);
    tess_array *zero = tess_sum(empty, TESS_AXIS(0), true);
    assert_shape(zero, TESS_SHAPE(1, 4));
    assert_int_equal(layer_of(zero)->op, TESSI_OP_FULL);
    assert_true(layer_of(tess_mean(empty, TESS_AXIS(0), false))->as.full.as.f != 0.0);
    assert_shape(tess_sum(empty, TESS_AXIS(1), false), TESS_SHAPE(0));
}

static void test_slices(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(100, 60), TESS_F64, TESS_CHUNKS(30, 20));
    tess_array *part = tess_slice(a, TESS_SLICES(TESS_RANGE(25, 95), TESS_STEP(3, TESS_END, 7)));
    assert_shape(part, TESS_SHAPE(70, 9)); /* 3, 10, …, 59 */
    assert_int_equal(tess_array_chunk(part, 0, 0), 5);
    assert_int_equal(tess_array_chunk(part, 0, 1), 30);
    assert_int_equal(tess_array_chunks(part, 0), 4);
    assert_int_equal(tess_array_chunk(part, 1, 0), 3); /* 3, 10, 17 */
    assert_int_equal(tess_array_chunk(part, 1, 1), 3); /* 24, 31, 38 */
    assert_shape(tess_slice(a, TESS_SLICES(TESS_RANGE(-10, TESS_END))), TESS_SHAPE(10, 60));
    assert_shape(tess_slice(a, TESS_SLICES(TESS_RANGE(-1000, 1000))), TESS_SHAPE(100, 60));
    assert_shape(tess_slice(a, TESS_SLICES(TESS_RANGE(50, 20))), TESS_SHAPE(0, 60));
    assert_shape(tess_slice(a, TESS_SLICES(TESS_RANGE(100, 200))), TESS_SHAPE(0, 60));
    assert_shape(tess_slice(a, TESS_SLICES(TESS_RANGE(99, TESS_END), TESS_STEP(59, 60, 1000))), TESS_SHAPE(1, 1));
    assert_ptr_equal(tess_slice(a, TESS_SLICES(TESS_WHOLE, TESS_RANGE(0, 60)))->node, a->node);
    assert_ptr_equal(tess_rechunk(a, TESS_CHUNKS(30, 20))->node, a->node);
    tess_array *whole = tess_rechunk(a, TESS_CHUNKS(-1, 7));
    assert_int_equal(tess_array_chunks(whole, 0), 1);
    assert_int_equal(tess_array_chunks(whole, 1), 9);
    tess_array *rows = tess_ones(s, TESS_SHAPE(1024, 1024), TESS_F64, TESS_CHUNKS(32, 1024));
    tess_array *columns = tess_rechunk(rows, TESS_CHUNKS(1024, 32)); /* through pieces: each element moves once */
    assert_true(columns->node->input[0] != rows->node && columns->node->input[0]->layer->op == TESSI_OP_REGRID);
    assert_int_equal(tess_array_chunks(columns, 0), 1);
    assert_int_equal(tess_array_chunks(columns, 1), 32);
    tess_array *cube = tess_ones(s, TESS_SHAPE(3, 4, 5), TESS_F64, TESS_CHUNKS(1, 2, 3));
    assert_shape(tess_transpose(cube), TESS_SHAPE(5, 4, 3));
    tess_array *turned = tess_permute(cube, (const uint32_t[]){1, 2, 0}, 3);
    assert_shape(turned, TESS_SHAPE(4, 5, 3));
    assert_ptr_equal(tess_permute(turned, (const uint32_t[]){2, 0, 1}, 3)->node, cube->node);
}

/* Large blocks that begin an element apart: a few elements of the block before are read as a piece. */
static void test_pieces_of_neighbours(void **state)
{
    tess_session *s = *state;
    tess_array *x = tess_ones(s, TESS_SHAPE(100000), TESS_F64, TESS_CHUNKS(20000));
    tess_array *later = tess_slice(x, TESS_SLICES(TESS_RANGE(1, TESS_END)));
    tess_array *earlier = tess_slice(x, TESS_SLICES(TESS_RANGE(0, -1)));
    const struct tessi_node *joined = tess_subtract(later, earlier)->node->input[1];
    assert_int_equal(joined->layer->ninputs, 2);
    assert_ptr_equal(joined->input[0], earlier->node);
    assert_ptr_equal(joined->input[1]->input[0], earlier->node);
    for (uint64_t task = 0; task < 5; task++) {
        assert_int_equal(tessi_task_input_count(joined->layer, 0, task), 1);
        assert_int_equal(tessi_task_input_count(joined->layer, 1, task), task > 0);
    }
    assert_int_equal(tessi_task_footprint(joined->layer, 1), (20000 + 20000 + 1) * sizeof(double));
    assert_int_equal(tess_rechunk(x, TESS_CHUNKS(10000))->node->layer->ninputs, 1);
    assert_int_equal(tess_rechunk(x, TESS_CHUNKS(40000))->node->layer->ninputs, 1);
    assert_int_equal(tess_rechunk(x, TESS_CHUNKS(15000))->node->layer->ninputs, 1); /* takes a quarter at least of each */
    assert_int_equal(tess_rechunk(x, TESS_CHUNKS(19000))->node->layer->ninputs, 2);
    tess_array *small = tess_ones(s, TESS_SHAPE(100000), TESS_F64, TESS_CHUNKS(2000));
    assert_int_equal(tess_rechunk(small, TESS_CHUNKS(1900))->node->layer->ninputs, 1);
}

static void test_chunks_by_bytes(void **state)
{
    tess_session *s = *state;
    const tess_shape shapes[] = {TESS_SHAPE(20000, 20000),
                                 TESS_SHAPE(1000000000),
                                 TESS_SHAPE(5, 100000000),
                                 TESS_SHAPE(100, 100, 100, 1000),
                                 TESS_SHAPE(1, 1),
                                 TESS_SHAPE(0, 7),
                                 TESS_SHAPE_0D};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        tess_array *a = tess_zeros(s, shapes[i], TESS_F64, TESS_AUTO);
        assert_shape(a, shapes[i]);
        uint64_t largest = tessi_grid_largest_block(&layer_of(a)->grid, 8);
        assert_true(largest <= TESSI_CHUNK_BYTES);
        assert_true(largest >= TESSI_CHUNK_BYTES / 4 || tessi_grid_blocks(&layer_of(a)->grid) == 1);
    }
    tess_array *a = tess_zeros(s, TESS_SHAPE(20000, 20000), TESS_F64, TESS_AUTO);
    assert_int_equal(tess_array_chunks(a, 0), tess_array_chunks(a, 1));
    tess_array *rows = tess_zeros(s, TESS_SHAPE(1000000, 100), TESS_F64, TESS_CHUNKS(0, -1));
    assert_int_equal(tess_array_chunk(rows, 1, 0), 100);
    assert_int_equal(tess_array_chunks(rows, 0), 6); /* 800 MB in blocks of at most 128 MiB */
}

static const struct tessi_plan_entry *only(const struct tessi_plan *plan, enum tessi_op op)
{
    const struct tessi_plan_entry *found = NULL;
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->entries[i].layer != NULL && plan->entries[i].layer->op == op) {
            assert_null(found);
            found = &plan->entries[i];
        }
    }
    assert_non_null(found);
    return found;
}

static void test_fusion(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(40, 40), TESS_F64, TESS_CHUNKS(20, 20));
    tess_array *b = tess_ones(s, TESS_SHAPE(40), TESS_F64, TESS_CHUNKS(20));
    tess_array *c = tess_subtract(tess_multiply_scalar(tess_exp(tess_add(a, b)), 3), tess_sqrt(a));
    struct tessi_plan plan;
    make_plan(s, c, &plan);
    const struct tessi_layer *layer = only(&plan, TESSI_OP_ELEMENTWISE)->layer;
    assert_int_equal(layer->ninputs, 2);
    assert_int_equal(layer->as.program.count, 5);
    assert_int_equal(layer->as.program.nconstants, 1);
    /* Operands: a, b, 3, then results: a + b = 3, exp = 4, ·3 = 5, √a = 6. Order of inlining is free; the last
     * instruction subtracts two earlier results. */
    const struct tessi_instruction *last = &layer->as.program.code[4];
    assert_int_equal(last->op, TESSI_EWISE_SUBTRACT);
    assert_true(last->a >= 3 && last->b >= 3 && last->a != last->b);
    const struct tessi_instruction *product = &layer->as.program.code[last->a - 3];
    assert_int_equal(product->op, TESSI_EWISE_MULTIPLY);
    assert_int_equal(product->b, 2);
    assert_int_equal(layer->as.program.code[product->a - 3].op, TESSI_EWISE_EXP);
    assert_int_equal(layer->as.program.code[last->b - 3].op, TESSI_EWISE_SQRT);
    tessi_plan_fini(&plan);
}

static void test_fusion_stops(void **state)
{
    tess_session *s = *state;
    tess_array *a = tess_ones(s, TESS_SHAPE(40, 40), TESS_F64, TESS_CHUNKS(20, 20));
    struct tessi_plan plan;

    /* Two readers. */
    tess_array *shared = tess_exp(a);
    tess_array *sum = tess_add(tess_matmul(shared, shared), shared);
    make_plan(s, sum, &plan);
    assert_int_equal(count_layers(&plan, TESSI_OP_ELEMENTWISE), 2);
    tessi_plan_fini(&plan);

    /* One reader that takes it twice, once broadcast: not the same blocks. */
    tess_array *row = tess_exp(tess_ones(s, TESS_SHAPE(40), TESS_F64, TESS_CHUNKS(20)));
    make_plan(s, tess_add(a, row), &plan);
    assert_int_equal(count_layers(&plan, TESSI_OP_ELEMENTWISE), 2);
    tessi_plan_fini(&plan);

    /* A result that is asked for itself. */
    tess_array *inner = tess_exp(a);
    tess_array *outer = tess_sqrt(inner);
    struct tessi_node *nodes[] = {inner->node, outer->node};
    assert_int_equal(tessi_plan_make(s, nodes, 2, &plan, NULL), TESSI_OK);
    assert_int_equal(count_layers(&plan, TESSI_OP_ELEMENTWISE), 2);
    tessi_plan_fini(&plan);

    /* A held array: nothing below it is needed any more. */
    inner->node->held = 77;
    make_plan(s, outer, &plan);
    assert_int_equal(plan.count, 2);
    assert_int_equal(count_layers(&plan, TESSI_OP_ELEMENTWISE), 1);
    assert_int_equal(only(&plan, TESSI_OP_ELEMENTWISE)->layer->reads[0], 77);
    tessi_plan_fini(&plan);
    inner->node->held = 0;
}

static void test_fusion_limits(void **state)
{
    tess_session *s = *state;
    struct tessi_plan plan;
    tess_array *sum = tess_ones(s, TESS_SHAPE(8), TESS_F64, TESS_CHUNKS(4));
    for (int i = 0; i < 20; i++) {
        sum = tess_add(sum, tess_arange(s, i, i + 8, 1, TESS_F64, TESS_CHUNKS(4)));
    }
    make_plan(s, sum, &plan); /* checks that every layer keeps the limit on inputs */
    assert_true(count_layers(&plan, TESSI_OP_ELEMENTWISE) >= 3);
    assert_true(count_layers(&plan, TESSI_OP_ELEMENTWISE) < 20);
    tessi_plan_fini(&plan);
    tess_array *chain = tess_ones(s, TESS_SHAPE(8), TESS_F64, TESS_CHUNKS(4));
    for (int i = 0; i < 200; i++) {
        chain = i % 2 == 0 ? tess_negative(chain) : tess_add_scalar(chain, i);
    }
    make_plan(s, chain, &plan);
    assert_true(count_layers(&plan, TESSI_OP_ELEMENTWISE) >= 4);
    assert_true(count_layers(&plan, TESSI_OP_ELEMENTWISE) <= 8);
    tessi_plan_fini(&plan);
}

static void test_scopes(void **state)
{
    tess_session *s = *state;
    tess_array *outside = tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO);
    tess_scope *scope = tess_scope_open(s);
    tess_array *inside = tess_add_scalar(outside, 1);
    tess_scope_open(s); /* closed with the outer one */
    tess_array *deep = tess_keep(tess_keep(tess_add_scalar(inside, 1)));
    tess_array *gone = tess_add_scalar(deep, 1);
    assert_int_equal(gone->node->refs, 1);
    tess_scope_close(scope);
    assert_ptr_equal(deep->scope, &s->root);
    assert_int_equal(deep->node->refs, 1);
    assert_shape(deep, TESS_SHAPE(4));
    struct tessi_plan plan;
    make_plan(s, deep, &plan); /* what it was computed from is still known */
    assert_int_equal(plan.count, 3);
    tessi_plan_fini(&plan);
    tess_release(outside);
    tess_release(deep);
    assert_null(s->root.arrays);
    tess_scope_close(NULL);
    tess_release(NULL);
}

static void test_long_chains_are_freed(void **state)
{
    tess_session *s = *state;
    tess_array *x = tess_ones(s, TESS_SHAPE(4), TESS_F64, TESS_AUTO);
    for (int i = 0; i < 50000; i++) {
        tess_array *next = tess_negative(x);
        tess_release(x);
        x = next;
    }
    tess_release(x);
    assert_null(s->root.arrays);
}

/* Programs of random operations: whatever is built must be accepted, and no wrong call may do more than poison. */
static uint64_t next_random(uint64_t *seed)
{
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *seed;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static tess_array *random_leaf(tess_session *s, uint64_t *seed)
{
    tess_shape shape = {.ndim = (uint32_t)(next_random(seed) % 4)};
    tess_shape chunks = {.ndim = shape.ndim};
    for (uint32_t d = 0; d < shape.ndim; d++) {
        shape.dim[d] = (int64_t)(next_random(seed) % 3 == 0 ? 1 : next_random(seed) % 12);
        chunks.dim[d] = (int64_t)(next_random(seed) % 5);
    }
    tess_dtype dtype = (tess_dtype)(next_random(seed) % 15);
    return tess_ones(s, shape, dtype, chunks);
}

static tess_array *random_operation(uint64_t *seed, tess_array *a, tess_array *b)
{
    int64_t n = (int64_t)(next_random(seed) % 9) - 3;
    switch (next_random(seed) % 16) {
    case 0:
        return tess_add(a, b);
    case 1:
        return tess_subtract(a, b);
    case 2:
        return tess_divide(a, b);
    case 3:
        return tess_exp(a);
    case 4:
        return tess_multiply_scalar(a, 3);
    case 5:
        return tess_sum(a, (uint32_t)(next_random(seed) % 8), next_random(seed) % 2 == 0);
    case 6:
        return tess_mean(a, TESS_ALL, true);
    case 7:
        return tess_max(a, TESS_AXIS(0), false);
    case 8:
        return tess_transpose(a);
    case 9:
        return tess_slice(a,
                          TESS_SLICES(TESS_STEP(n, n + 6, (int64_t)(next_random(seed) % 3)), TESS_RANGE(n, TESS_END)));
    case 10:
        return tess_rechunk(a, TESS_AUTO);
    case 11:
    case 12:
        return tess_matmul(a, tess_transpose(b));
    case 13:
        return tess_matmul(a, b);
    case 14:
        return tess_astype(a, (tess_dtype)(next_random(seed) % 15));
    default:
        return tess_abs(a);
    }
}

static void test_random_programs(void **state)
{
    tess_session *s = *state;
    size_t sound = 0;
    for (uint64_t program = 0; program < 400; program++) {
        uint64_t seed = program;
        tess_scope *scope = tess_scope_open(s);
        tess_array *arrays[24];
        for (uint32_t i = 0; i < 24; i++) {
            tess_array *a = i < 6 ? NULL : arrays[next_random(&seed) % i];
            tess_array *b = i < 6 ? NULL : arrays[next_random(&seed) % i];
            tess_array *made = i < 6 ? random_leaf(s, &seed) : random_operation(&seed, a, b);
            assert_non_null(made);
            /* Poison would soon be everywhere. */
            arrays[i] = tess_array_status(made) == TESS_OK ? made : random_leaf(s, &seed);
            sound += tess_array_status(made) == TESS_OK ? 1 : 0;
        }
        for (uint32_t i = 0; i < 24; i++) {
            struct tessi_plan plan;
            make_plan(s, arrays[i], &plan);
            tessi_plan_fini(&plan);
        }
        tess_scope_close(scope);
    }
    assert_true(sound > 400 * 12);
}

static void test_regions(void **state)
{
    (void)state;
    struct tessi_grid grid;
    tessi_grid_regular(&grid, &(struct tessi_shape){3, {5, 6, 7}}, (const int64_t[]){2, 4, 7});
    uint8_t seen[5 * 6 * 7 * 2] = {0};
    for (uint64_t index = 0; index < tessi_grid_blocks(&grid); index++) {
        struct tessi_region region;
        uint64_t coords[TESSI_NDIM_MAX];
        tessi_region_init(&region, &grid, index, 2);
        tessi_grid_coords(&grid, index, coords);
        assert_int_equal(region.bytes, tessi_grid_block_elements(&grid, index) * 2);
        for (uint64_t offset = 0; offset < region.bytes; offset++) {
            uint64_t contiguous;
            uint64_t position = tessi_region_locate(&region, offset, &contiguous);
            assert_true(position < sizeof seen && contiguous >= 1);
            seen[position]++;
            uint64_t element = position / 2;
            assert_int_equal(element % 7 / 7, coords[2]);
            assert_int_equal(element / 7 % 6 / 4, coords[1]);
            assert_int_equal(element / 42 / 2, coords[0]);
        }
    }
    for (size_t i = 0; i < sizeof seen; i++) {
        assert_int_equal(seen[i], 1);
    }
    tessi_grid_fini(&grid);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_session, close_session)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_matmul),
        TEST(test_matmul_looks_through_transposes),
        TEST(test_matmul_splits_long_k),
        TEST(test_matmul_converts),
        TEST(test_poison),
        TEST(test_names),
        TEST(test_results_do_not_outgrow_their_chunks),
        TEST(test_wrong_calls),
        cmocka_unit_test(test_session_that_cannot_open),
        TEST(test_dtypes),
        TEST(test_broadcasting),
        TEST(test_reductions),
        TEST(test_slices),
        TEST(test_pieces_of_neighbours),
        TEST(test_chunks_by_bytes),
        TEST(test_fusion),
        TEST(test_fusion_stops),
        TEST(test_fusion_limits),
        TEST(test_scopes),
        TEST(test_long_chains_are_freed),
        TEST(test_random_programs),
        cmocka_unit_test(test_regions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
