/* Transposition, slicing and rechunking: every element size, many shapes, against the definition. */
#include "core/graph/rechunk.h"
#include "tests/kernels/whole.h"

#include <stdlib.h>
#include <string.h>

static const enum tessi_dtype sizes[] = {TESSI_U8, TESSI_BF16, TESSI_F32, TESSI_I64, TESSI_C128};

struct permutation {
    struct tessi_shape in;
    int64_t chunk[TESSI_NDIM_MAX];
    uint32_t axis[TESSI_NDIM_MAX];
};

static const struct permutation permutations[] = {
    {{1, {100}}, {30}, {0}},
    {{2, {100, 70}}, {100, 70}, {1, 0}},
    {{2, {100, 70}}, {33, 70}, {1, 0}},
    {{2, {100, 70}}, {33, 12}, {0, 1}},
    {{2, {1, 300}}, {1, 300}, {1, 0}},
    {{2, {129, 257}}, {129, 257}, {1, 0}},
    {{3, {20, 30, 40}}, {20, 30, 40}, {2, 1, 0}},
    {{3, {20, 30, 40}}, {7, 30, 11}, {1, 2, 0}},
    {{3, {20, 30, 40}}, {20, 30, 40}, {1, 0, 2}},
    {{3, {20, 30, 40}}, {20, 30, 40}, {0, 2, 1}},
    {{3, {20, 1, 40}}, {20, 1, 40}, {2, 1, 0}},
    {{4, {5, 6, 7, 8}}, {5, 4, 7, 3}, {3, 1, 0, 2}},
    {{4, {5, 6, 7, 8}}, {5, 6, 7, 8}, {2, 3, 0, 1}},
    {{2, {0, 5}}, {1, 5}, {1, 0}},
};

static void test_transpose(void **state)
{
    (void)state;
    for (size_t p = 0; p < sizeof permutations / sizeof permutations[0]; p++) {
        const struct permutation *permutation = &permutations[p];
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct tessi_shape out_shape = {.ndim = permutation->in.ndim};
            int64_t chunk[TESSI_NDIM_MAX];
            for (uint32_t d = 0; d < out_shape.ndim; d++) {
                out_shape.dim[d] = permutation->in.dim[permutation->axis[d]];
                chunk[d] = permutation->chunk[permutation->axis[d]];
            }
            struct tessi_layer *layer = whole_layer(TESSI_OP_TRANSPOSE, sizes[s], &out_shape, chunk);
            struct tessi_input *input = whole_input(layer, sizes[s], &permutation->in, permutation->chunk);
            for (uint32_t d = 0; d < out_shape.ndim; d++) {
                layer->as.transpose.axis[d] = permutation->axis[d];
                input->rules.rule[permutation->axis[d]].dim = d;
            }
            size_t size = tessi_dtype_size(sizes[s]);
            int64_t count = whole_elements(&permutation->in);
            unsigned char *data = whole_random(sizes[s], count, 1, false);
            unsigned char *fast = whole_run(layer, (const void *const[]){data}, WHOLE_KERNEL);
            unsigned char *plain = whole_run(layer, (const void *const[]){data}, WHOLE_REFERENCE);
            assert_memory_equal(fast, plain, (size_t)count * size);
            for (int64_t at = 0; at < count && out_shape.ndim == 2 && permutation->axis[0] == 1; at++) {
                int64_t from = at % out_shape.dim[1] * out_shape.dim[0] + at / out_shape.dim[1];
                assert_memory_equal(fast + (size_t)at * size, data + (size_t)from * size, size);
            }
            free(data);
            free(fast);
            free(plain);
            tessi_layer_destroy(layer);
        }
    }
}

struct slice {
    struct tessi_shape in;
    int64_t in_chunk[TESSI_NDIM_MAX];
    struct tessi_shape out;
    int64_t out_chunk[TESSI_NDIM_MAX];
    int64_t start[TESSI_NDIM_MAX];
    int64_t step[TESSI_NDIM_MAX];
};

static const struct slice slices[] = {
    {{1, {100}}, {30}, {1, {100}}, {17}, {0}, {1}},
    {{1, {100}}, {30}, {1, {40}}, {17}, {33}, {1}},
    {{1, {100}}, {7}, {1, {14}}, {5}, {3}, {7}},
    {{1, {100}}, {3}, {1, {9}}, {4}, {10}, {10}},
    {{2, {50, 60}}, {50, 60}, {2, {50, 60}}, {13, 60}, {0, 0}, {1, 1}},
    {{2, {50, 60}}, {10, 11}, {2, {50, 60}}, {50, 60}, {0, 0}, {1, 1}},
    {{2, {50, 60}}, {10, 11}, {2, {20, 25}}, {7, 9}, {3, 5}, {2, 2}},
    {{2, {50, 60}}, {10, 11}, {2, {50, 1}}, {8, 1}, {0, 59}, {1, 1}},
    {{2, {50, 60}}, {10, 1}, {2, {50, 60}}, {8, 7}, {0, 0}, {1, 1}},
    {{3, {9, 10, 11}}, {4, 10, 11}, {3, {9, 5, 11}}, {3, 5, 11}, {0, 2, 0}, {1, 1, 1}},
    {{3, {9, 10, 11}}, {4, 3, 5}, {3, {3, 5, 4}}, {2, 2, 4}, {1, 0, 1}, {3, 2, 3}},
    {{2, {50, 60}}, {10, 11}, {2, {0, 25}}, {1, 9}, {0, 5}, {1, 2}},
};

/* Blocks and pieces joined are what a rechunk makes. */
static void test_join(void **state)
{
    (void)state;
    for (size_t p = 0; p < sizeof slices / sizeof slices[0]; p++) {
        const struct slice *slice = &slices[p];
        if (!tessi_shape_equal(&slice->in, &slice->out)) {
            continue;
        }
        struct tessi_layer *layer = whole_layer(TESSI_OP_REGRID, TESSI_F64, &slice->out, slice->out_chunk);
        (void)whole_input(layer, TESSI_F64, &slice->in, slice->in_chunk);
        struct tessi_input *pieces = whole_input(layer, TESSI_F64, &slice->in, slice->in_chunk);
        tessi_grid_fini(&pieces->grid);
        tessi_grid_refine(&layer->input[0].grid, &layer->grid, &pieces->grid);
        for (uint32_t d = 0; d < slice->in.ndim; d++) {
            layer->as.regrid.step[d] = 1;
            layer->input[0].rules.rule[d] = pieces->rules.rule[d] =
                (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .step = 1};
        }
        int64_t count = whole_elements(&slice->out);
        double *data = whole_random(TESSI_F64, count, 1, false);
        void *fast = whole_run(layer, (const void *const[]){data, data}, WHOLE_KERNEL);
        void *plain = whole_run(layer, (const void *const[]){data, data}, WHOLE_REFERENCE);
        assert_memory_equal(fast, data, (size_t)count * sizeof *data);
        assert_memory_equal(plain, data, (size_t)count * sizeof *data);
        free(data);
        free(fast);
        free(plain);
        tessi_layer_destroy(layer);
    }
}

static void test_regrid(void **state)
{
    (void)state;
    for (size_t p = 0; p < sizeof slices / sizeof slices[0]; p++) {
        const struct slice *slice = &slices[p];
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct tessi_layer *layer = whole_layer(TESSI_OP_REGRID, sizes[s], &slice->out, slice->out_chunk);
            struct tessi_input *input = whole_input(layer, sizes[s], &slice->in, slice->in_chunk);
            for (uint32_t d = 0; d < slice->in.ndim; d++) {
                layer->as.regrid.start[d] = slice->start[d];
                layer->as.regrid.step[d] = slice->step[d];
                input->rules.rule[d] = (struct tessi_rule){
                    .kind = TESSI_RULE_SLICE, .dim = d, .start = slice->start[d], .step = slice->step[d]};
            }
            size_t size = tessi_dtype_size(sizes[s]);
            int64_t count = whole_elements(&slice->out);
            unsigned char *data = whole_random(sizes[s], whole_elements(&slice->in), 1, false);
            unsigned char *fast = whole_run(layer, (const void *const[]){data}, WHOLE_KERNEL);
            unsigned char *plain = whole_run(layer, (const void *const[]){data}, WHOLE_REFERENCE);
            assert_memory_equal(fast, plain, (size_t)count * size);
            for (int64_t at = 0; at < count; at++) {
                int64_t from = 0;
                int64_t rest = at;
                int64_t coords[TESSI_NDIM_MAX];
                for (uint32_t d = slice->out.ndim; d-- > 0;) {
                    coords[d] = rest % slice->out.dim[d];
                    rest /= slice->out.dim[d];
                }
                for (uint32_t d = 0; d < slice->in.ndim; d++) {
                    from = from * slice->in.dim[d] + slice->start[d] + coords[d] * slice->step[d];
                }
                assert_memory_equal(fast + (size_t)at * size, data + (size_t)from * size, size);
            }
            free(data);
            free(fast);
            free(plain);
            tessi_layer_destroy(layer);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transpose), cmocka_unit_test(test_regrid), cmocka_unit_test(test_join)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
