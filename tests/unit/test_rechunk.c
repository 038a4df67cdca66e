/* Through which grids a rechunk goes: known plans, and what every plan must be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/graph/layer.h"
#include "core/graph/rechunk.h"
#include "tests/unit/sample.h"

#define GRIDS_LARGEST (UINT64_C(32) << 20)

static struct tessi_grid grid2(int64_t rows, int64_t columns, int64_t row_chunk, int64_t column_chunk)
{
    struct tessi_grid grid;
    tessi_grid_regular(&grid, &(struct tessi_shape){2, {rows, columns}}, (int64_t[]){row_chunk, column_chunk});
    return grid;
}

/* Each chunk of `fine` lies in one of `coarse`. */
static bool nests(const struct tessi_axis *fine, const struct tessi_axis *coarse)
{
    bool nested = true;
    for (uint64_t c = 0; c < fine->count && fine->extent > 0; c++) {
        nested = nested && tessi_axis_find(coarse, tessi_axis_lo(fine, c)) ==
                               tessi_axis_find(coarse, tessi_axis_hi(fine, c) - 1);
    }
    return nested;
}

static void check_plan(const struct tessi_grid *from, const struct tessi_grid *to, const struct tessi_rechunk *plan)
{
    uint64_t most = tessi_grid_largest_block(from, 8) + tessi_grid_largest_block(to, 8);
    uint32_t uneven = 0;
    assert_true(plan->count >= 1);
    assert_true(tessi_grid_equal(&plan->grid[plan->count - 1], to));
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct tessi_grid *before = i == 0 ? from : &plan->grid[i - 1];
        uint64_t largest = tessi_grid_largest_block(&plan->grid[i], 8);
        assert_int_equal(tessi_grid_check(&plan->grid[i], NULL), TESSI_OK);
        assert_true(largest <= GRIDS_LARGEST || largest <= most);
        for (uint32_t d = 0; d < from->ndim; d++) {
            const struct tessi_axis *a = &before->axis[d], *b = &plan->grid[i].axis[d];
            assert_int_equal(a->extent, b->extent);
            uneven += !nests(a, b) && !nests(b, a);
        }
    }
    assert_true(plan->count == 1 || uneven <= 2 * from->ndim); /* where it goes half way, by whole blocks */
}

static struct tessi_rechunk plan_of(struct tessi_grid from, struct tessi_grid to)
{
    struct tessi_rechunk plan;
    tessi_rechunk_plan(&from, &to, 8, &plan);
    check_plan(&from, &to, &plan);
    tessi_grid_fini(&from);
    tessi_grid_fini(&to);
    return plan;
}

static uint64_t tasks_of(const struct tessi_rechunk *plan)
{
    uint64_t tasks = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        tasks += tessi_grid_blocks(&plan->grid[i]);
    }
    return tasks;
}

static void test_rows_to_columns(void **state)
{
    (void)state;
    struct tessi_rechunk plan = plan_of(grid2(16384, 16384, 256, 16384), grid2(16384, 16384, 16384, 128));
    assert_int_equal(plan.count, 2);
    assert_int_equal(tessi_grid_blocks(&plan.grid[0]), 64 * 128);
    tessi_rechunk_fini(&plan);
    plan = plan_of(grid2(16384, 16384, 16384, 100), grid2(16384, 16384, 300, 16384));
    assert_int_equal(plan.count, 2);
    assert_int_equal(tessi_grid_blocks(&plan.grid[0]), 164 * 55);
    tessi_rechunk_fini(&plan);
}

static void test_near_blocks_are_read_whole(void **state)
{
    (void)state;
    struct tessi_rechunk plan = plan_of(grid2(100000, 8, 1000, 8), grid2(100000, 8, 300, 8)); /* nothing merges much */
    assert_int_equal(plan.count, 1);
    tessi_rechunk_fini(&plan);
    plan = plan_of(grid2(100000, 100000, 1000, 1000), grid2(100000, 100000, 4000, 250)); /* 25 · 100 groups of 32 MB */
    assert_int_equal(plan.count, 1);
    tessi_rechunk_fini(&plan);
    plan = plan_of(grid2(16, 16, 1, 16), grid2(16, 16, 16, 1)); /* few */
    assert_int_equal(plan.count, 1);
    tessi_rechunk_fini(&plan);
    plan = plan_of(grid2(10, 10, 3, 10), grid2(10, 10, 3, 10));
    assert_int_equal(plan.count, 1);
    tessi_rechunk_fini(&plan);
}

/* 10,000 rows to 10,000 columns would be 10^8 pieces of 8 bytes: rows are joined first, and the joined columns cut. */
static void test_small_blocks_are_joined(void **state)
{
    (void)state;
    struct tessi_rechunk plan = plan_of(grid2(10000, 10000, 1, 10000), grid2(10000, 10000, 10000, 1));
    assert_int_equal(plan.count, 4);
    assert_true(tasks_of(&plan) < 60000);
    tessi_rechunk_fini(&plan);
    plan = plan_of(grid2(2048, 2048, 16, 2048), grid2(2048, 2048, 2048, 64)); /* rows are joined, columns large enough */
    assert_int_equal(plan.count, 3);
    tessi_rechunk_fini(&plan);
}

/* A terabyte in blocks of 32 MB: a milliard pieces of a kilobyte, or twice six million of 180. */
static void test_half_way(void **state)
{
    (void)state;
    int64_t n = 1 << 18;
    struct tessi_rechunk plan = plan_of(grid2(2 * n, n, 16, n), grid2(2 * n, n, 2 * n, 8));
    assert_int_equal(plan.count, 4);
    assert_true(tasks_of(&plan) < 20000000);
    tessi_rechunk_fini(&plan);
}

static struct tessi_axis random_axis(struct sample *sample, int64_t extent, int64_t chunks)
{
    if (sample_next(sample) % 2 == 0) {
        return tessi_axis_regular(extent, 1 + (extent - 1) / chunks);
    }
    int64_t bounds[64] = {0};
    uint64_t count = 0;
    while (bounds[count] < extent && count < 62) {
        int64_t next = bounds[count] + sample_between(sample, 1, 1 + 2 * extent / chunks);
        bounds[count + 1] = next > extent || count == 61 ? extent : next;
        count++;
    }
    return tessi_axis_explicit(bounds, count);
}

/* Of the first two dimensions one is cut finely before and the other after. */
static void test_random(void **state)
{
    (void)state;
    struct sample sample = {6};
    uint32_t several = 0;
    for (int i = 0; i < 2000; i++) {
        struct tessi_grid from = {.ndim = (uint32_t)sample_between(&sample, 1, 3)}, to = {.ndim = from.ndim};
        for (uint32_t d = 0; d < from.ndim; d++) {
            int64_t extent = sample_between(&sample, 1, 4000), coarse = sample_between(&sample, 1, 3);
            int64_t fine = sample_between(&sample, 1, 60);
            from.axis[d] = random_axis(&sample, extent, d == 0 ? fine : coarse);
            to.axis[d] = random_axis(&sample, extent, d == 1 ? fine : coarse);
        }
        struct tessi_rechunk plan = plan_of(from, to);
        several += plan.count > 1;
        tessi_rechunk_fini(&plan);
    }
    assert_true(several > 300);
}

static struct tessi_layer *cut_of(struct tessi_grid in, struct tessi_grid out)
{
    struct tessi_layer *layer = tessi_layer_create(1, 2, TESSI_OP_REGRID, TESSI_F64);
    layer->grid = out;
    *tessi_layer_add_input(layer, 1) = (struct tessi_input){.dtype = TESSI_F64, .grid = in, .rules.ndim = in.ndim};
    for (uint32_t d = 0; d < in.ndim; d++) {
        layer->as.regrid.step[d] = 1;
        layer->input[0].rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .step = 1};
    }
    return layer;
}

static void test_what_splits(void **state)
{
    (void)state;
    uint64_t most[TESSI_NDIM_MAX];
    struct tessi_layer *layer = cut_of(grid2(100, 100, 100, 30), grid2(100, 100, 10, 30));
    assert_true(tessi_layer_splits(layer, most));
    assert_int_equal(most[0], 10);
    assert_int_equal(most[1], 1);
    tessi_layer_destroy(layer);
    layer = cut_of(grid2(100, 100, 40, 100), grid2(100, 100, 15, 100)); /* 30 … 45 lies in two */
    assert_false(tessi_layer_splits(layer, most));
    tessi_layer_destroy(layer);
    struct tessi_grid in = grid2(100, 100, 40, 100), other = grid2(100, 100, 15, 10), pieces;
    tessi_grid_refine(&in, &other, &pieces);
    assert_int_equal(tessi_grid_blocks(&pieces), 9 * 10);
    layer = cut_of(in, pieces);
    assert_true(tessi_layer_splits(layer, most));
    assert_int_equal(most[0], 4); /* 40, 45, 60, 75 */
    assert_int_equal(most[1], 10);
    tessi_layer_destroy(layer);
    tessi_grid_fini(&other);
    layer = cut_of(grid2(100, 100, 10, 10), grid2(100, 100, 100, 10));
    assert_false(tessi_layer_splits(layer, most));
    tessi_layer_destroy(layer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_to_columns),       cmocka_unit_test(test_near_blocks_are_read_whole),
        cmocka_unit_test(test_small_blocks_are_joined), cmocka_unit_test(test_half_way),
        cmocka_unit_test(test_random),                cmocka_unit_test(test_what_splits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
