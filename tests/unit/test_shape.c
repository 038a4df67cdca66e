/* Shapes, axes, grids and boxes: known answers, agreement with brute force, and refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/array/shape.h"
#include "tests/unit/sample.h"

#define SHAPE(n, ...) (&(struct tessi_shape){.ndim = (n), .dim = {__VA_ARGS__}})

static void test_elements(void **state)
{
    (void)state;
    int64_t elements = -1;
    assert_true(tessi_shape_elements(SHAPE(0, 0), &elements));
    assert_int_equal(elements, 1);
    assert_true(tessi_shape_elements(SHAPE(3, 3, 4, 5), &elements));
    assert_int_equal(elements, 60);
    assert_true(tessi_shape_elements(SHAPE(3, INT64_C(1) << 62, INT64_C(1) << 62, 0), &elements));
    assert_int_equal(elements, 0);
    assert_true(tessi_shape_elements(SHAPE(1, INT64_MAX), &elements));
    assert_int_equal(elements, INT64_MAX);
    assert_false(tessi_shape_elements(SHAPE(2, INT64_C(1) << 62, 2), &elements));
    assert_false(tessi_shape_elements(SHAPE(2, 0, -1), &elements));
}

static void test_format(void **state)
{
    (void)state;
    char text[256];
    assert_string_equal(tessi_shape_format(SHAPE(0, 0), text, sizeof text), "()");
    assert_string_equal(tessi_shape_format(SHAPE(1, 5), text, sizeof text), "(5,)");
    assert_string_equal(tessi_shape_format(SHAPE(2, 20000, 512), text, sizeof text), "(20000, 512)");
    assert_string_equal(tessi_shape_format(SHAPE(2, 20000, 512), text, 5), "(200");
    struct tessi_shape longest = {.ndim = TESSI_NDIM_MAX};
    for (uint32_t d = 0; d < TESSI_NDIM_MAX; d++) {
        longest.dim[d] = INT64_MIN;
    }
    assert_int_equal(strlen(tessi_shape_format(&longest, text, sizeof text)), 8 * 20 + 7 * 2 + 2);
}

static void test_broadcast(void **state)
{
    (void)state;
    struct tessi_shape out;
    assert_true(tessi_shape_broadcast(SHAPE(2, 3, 1), SHAPE(3, 7, 1, 4), &out));
    assert_true(tessi_shape_equal(&out, SHAPE(3, 7, 3, 4)));
    assert_true(tessi_shape_broadcast(SHAPE(0, 0), SHAPE(1, 2), &out));
    assert_true(tessi_shape_equal(&out, SHAPE(1, 2)));
    assert_true(tessi_shape_broadcast(SHAPE(1, 1), SHAPE(1, 0), &out));
    assert_true(tessi_shape_equal(&out, SHAPE(1, 0)));
    assert_false(tessi_shape_broadcast(SHAPE(1, 2), SHAPE(1, 3), &out));
    assert_false(tessi_shape_broadcast(SHAPE(1, 2), SHAPE(1, 0), &out));
    assert_false(tessi_shape_equal(SHAPE(1, 2), SHAPE(2, 2, 1)));
}

static void check_axis_by_walking(const struct tessi_axis *axis)
{
    int64_t position = 0;
    int64_t longest = 0;
    for (uint64_t c = 0; c < axis->count; c++) {
        int64_t hi = tessi_axis_hi(axis, c);
        assert_int_equal(tessi_axis_lo(axis, c), position);
        assert_true(hi > position || axis->extent == 0);
        longest = hi - position > longest ? hi - position : longest;
        for (; position < hi; position++) {
            assert_int_equal(tessi_axis_find(axis, position), c);
        }
    }
    assert_int_equal(position, axis->extent);
    assert_int_equal(tessi_axis_longest(axis), longest);
    if (axis->extent == 0) {
        assert_int_equal(axis->count, 1);
        assert_int_equal(tessi_axis_find(axis, 0), 0);
    }
}

static bool same_partition(const struct tessi_axis *a, const struct tessi_axis *b)
{
    bool same = a->extent == b->extent;
    for (int64_t e = 0; same && e < a->extent; e++) {
        same = tessi_axis_find(a, e) == tessi_axis_find(b, e);
    }
    return same;
}

static void test_axes_partition_their_extent(void **state)
{
    (void)state;
    struct sample sample = {1};
    unsigned equal = 0;
    for (unsigned round = 0; round < 20000; round++) {
        struct tessi_axis a = sample_axis(&sample, 12);
        struct tessi_axis b = sample_axis(&sample, 12);
        struct tessi_axis copy = tessi_axis_copy(&a);
        check_axis_by_walking(&a);
        assert_true(tessi_axis_equal(&a, &copy));
        assert_int_equal(tessi_axis_equal(&a, &b), same_partition(&a, &b));
        equal += same_partition(&a, &b);
        tessi_axis_fini(&a);
        check_axis_by_walking(&copy);
        tessi_axis_fini(&b);
        tessi_axis_fini(&copy);
    }
    assert_true(equal > 100);
}

static void test_regular_boundaries_become_regular(void **state)
{
    (void)state;
    struct tessi_axis axis = tessi_axis_explicit((const int64_t[]){0, 4, 8, 10}, 3);
    assert_null(axis.bounds);
    assert_int_equal(axis.chunk, 4);
    axis = tessi_axis_explicit((const int64_t[]){0, 0}, 1);
    assert_null(axis.bounds);
    assert_int_equal(axis.extent, 0);
    axis = tessi_axis_explicit((const int64_t[]){0, 4, 9}, 2);
    assert_non_null(axis.bounds);
    assert_int_equal(axis.chunk, 0);
    tessi_axis_fini(&axis);
    axis = tessi_axis_regular(INT64_C(1) << 58, 1);
    assert_int_equal(tessi_axis_hi(&axis, axis.count - 1), INT64_C(1) << 58);
}

static void test_grids_number_blocks_in_row_major_order(void **state)
{
    (void)state;
    struct sample sample = {2};
    for (unsigned round = 0; round < 2000; round++) {
        struct tessi_grid grid;
        struct tessi_grid copy;
        struct tessi_shape shape;
        int64_t elements;
        uint64_t sum = 0;
        uint64_t largest = 0;
        uint64_t coords[TESSI_NDIM_MAX];
        sample_grid(&sample, (uint32_t)sample_between(&sample, 0, 4), 6, &grid);
        assert_int_equal(tessi_grid_check(&grid, NULL), TESSI_OK);
        tessi_grid_copy(&copy, &grid);
        assert_true(tessi_grid_equal(&grid, &copy));
        tessi_grid_fini(&copy);
        struct tessi_box box = {.ndim = grid.ndim};
        for (uint32_t d = 0; d < grid.ndim; d++) {
            box.hi[d] = grid.axis[d].count;
        }
        uint64_t walk[TESSI_NDIM_MAX] = {0};
        uint64_t index = 0;
        do {
            tessi_grid_coords(&grid, index, coords);
            assert_memory_equal(coords, walk, grid.ndim * sizeof coords[0]);
            assert_int_equal(tessi_grid_index(&grid, coords), index);
            uint64_t block = tessi_grid_block_elements(&grid, index);
            sum += block;
            largest = block > largest ? block : largest;
            index++;
        } while (tessi_box_next(&box, walk));
        assert_int_equal(index, tessi_grid_blocks(&grid));
        assert_int_equal(index, tessi_box_volume(&box));
        tessi_grid_shape(&grid, &shape);
        assert_true(tessi_shape_elements(&shape, &elements));
        assert_int_equal(sum, elements);
        assert_int_equal(tessi_grid_largest_block(&grid, 8), largest * 8);
        tessi_grid_fini(&grid);
    }
}

static void test_boxes(void **state)
{
    (void)state;
    struct tessi_box box = {.ndim = 2, .lo = {1, 5}, .hi = {3, 7}};
    static const uint64_t wanted[4][2] = {{1, 5}, {1, 6}, {2, 5}, {2, 6}};
    uint64_t coords[TESSI_NDIM_MAX] = {1, 5};
    for (size_t i = 0; i < 4; i++) {
        assert_memory_equal(coords, wanted[i], sizeof wanted[i]);
        assert_int_equal(tessi_box_next(&box, coords), i < 3);
    }
    assert_int_equal(tessi_box_volume(&box), 4);
    box.hi[1] = 5;
    assert_int_equal(tessi_box_volume(&box), 0);
    assert_int_equal(tessi_box_volume(&(struct tessi_box){.ndim = 0}), 1);
}

static void refuse_axis(struct tessi_axis axis)
{
    struct tessi_grid grid = {.ndim = 1, .axis = {axis}};
    struct tessi_error error = {TESSI_OK, ""};
    assert_int_not_equal(tessi_grid_check(&grid, &error), TESSI_OK);
    assert_true(strlen(error.text) > 20);
}

static void test_grid_check_refuses(void **state)
{
    (void)state;
    int64_t late[] = {1, 4};
    int64_t open[] = {0, 4};
    int64_t fall[] = {0, 7, 5, 9};
    int64_t twice[] = {0, 4, 4, 9};
    int64_t wide[] = {0, INT64_C(1) << 31, (INT64_C(1) << 31) + 1};
    int64_t below[] = {0, INT64_MIN, 9};
    refuse_axis((struct tessi_axis){.extent = -1, .chunk = 1, .count = 1});
    refuse_axis((struct tessi_axis){.extent = 5, .chunk = -1, .count = 1});
    refuse_axis((struct tessi_axis){.extent = 5, .chunk = INT64_C(1) << 31, .count = 1});
    refuse_axis((struct tessi_axis){.extent = 5, .chunk = 2, .count = 2});
    refuse_axis((struct tessi_axis){.extent = 0, .chunk = 2, .count = 0});
    refuse_axis((struct tessi_axis){.extent = 4, .chunk = 4, .count = 1, .bounds = open});
    refuse_axis((struct tessi_axis){.extent = 4, .chunk = 0, .count = 1});
    refuse_axis((struct tessi_axis){.extent = 4, .chunk = 0, .count = 0, .bounds = open});
    refuse_axis((struct tessi_axis){.extent = 4, .count = 1, .bounds = late});
    refuse_axis((struct tessi_axis){.extent = 5, .count = 1, .bounds = open});
    refuse_axis((struct tessi_axis){.extent = 9, .count = 3, .bounds = fall});
    refuse_axis((struct tessi_axis){.extent = 9, .count = 3, .bounds = twice});
    refuse_axis((struct tessi_axis){.extent = wide[2], .count = 2, .bounds = wide});
    refuse_axis((struct tessi_axis){.extent = 9, .count = 2, .bounds = below});
    refuse_axis((struct tessi_axis){.extent = INT64_MAX, .chunk = 1, .count = INT64_MAX});

    struct tessi_grid grid = {.ndim = TESSI_NDIM_MAX + 1};
    assert_int_not_equal(tessi_grid_check(&grid, NULL), TESSI_OK);
    /* Empty, but blocks and partial products of the other axes would overflow. */
    tessi_grid_regular(&grid, SHAPE(3, INT64_C(1) << 40, INT64_C(1) << 40, 0), (const int64_t[]){1, 1, 1});
    assert_int_equal(tessi_grid_check(&grid, NULL), TESSI_TOO_BIG);
    tessi_grid_regular(&grid, SHAPE(3, INT64_C(1) << 29, INT64_C(1) << 29, 0), (const int64_t[]){1 << 20, 1 << 20, 1});
    assert_int_equal(tessi_grid_check(&grid, NULL), TESSI_OK);
    tessi_grid_regular(&grid, SHAPE(3, INT64_C(1) << 29, INT64_C(1) << 29, 0), (const int64_t[]){1, 1, 1});
    assert_int_equal(tessi_grid_check(&grid, NULL), TESSI_TOO_BIG); /* more blocks than are counted, though empty */
    tessi_grid_regular(&grid, SHAPE(1, TESSI_BLOCKS_MAX), (const int64_t[]){1});
    assert_int_equal(tessi_grid_check(&grid, NULL), TESSI_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_axes_partition_their_extent),
        cmocka_unit_test(test_regular_boundaries_become_regular),
        cmocka_unit_test(test_grids_number_blocks_in_row_major_order),
        cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_grid_check_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
