/* Small layers for the tests of worker/flow: only what the flow looks at, no kernels' parameters. */
#ifndef TESTS_UNIT_FLOW_LAYERS_H
#define TESTS_UNIT_FLOW_LAYERS_H

#include "core/graph/layer.h"

/* Blocks of `bytes` each (a multiple of 8), in a grid of rows × columns. */
static inline void layer_grid(struct tessi_grid *grid, int64_t rows, int64_t columns, int64_t bytes)
{
    struct tessi_shape shape = {.ndim = 2, .dim = {rows, columns * bytes / 8}};
    int64_t chunk[2] = {1, bytes / 8};
    tessi_grid_regular(grid, &shape, chunk);
}

static inline struct tessi_layer *layer_source(uint32_t session, uint32_t id, enum tessi_op op, int64_t rows,
                                               int64_t columns, int64_t bytes)
{
    struct tessi_layer *layer = tessi_layer_create(session, id, op, TESSI_F64);
    layer_grid(&layer->grid, rows, columns, bytes);
    return layer;
}

static inline void layer_input(struct tessi_layer *layer, const struct tessi_layer *from, struct tessi_rule first,
                               struct tessi_rule second)
{
    struct tessi_input *input = tessi_layer_add_input(layer, from->id);
    input->dtype = from->dtype;
    tessi_grid_copy(&input->grid, &from->grid);
    input->rules.ndim = 2;
    input->rules.rule[0] = first;
    input->rules.rule[1] = second;
}

/* One task a block, which reads the block of the same place of each of the inputs. */
static inline struct tessi_layer *layer_same(uint32_t session, uint32_t id, const struct tessi_layer *a,
                                             const struct tessi_layer *b, int64_t bytes)
{
    struct tessi_rule rows = {.kind = TESSI_RULE_SAME, .dim = 0}, columns = {.kind = TESSI_RULE_SAME, .dim = 1};
    struct tessi_layer *layer = tessi_layer_create(session, id, TESSI_OP_ELEMENTWISE, TESSI_F64);
    layer_grid(&layer->grid, (int64_t)a->grid.axis[0].count, (int64_t)a->grid.axis[1].count, bytes);
    layer_input(layer, a, rows, columns);
    if (b != NULL) {
        layer_input(layer, b, rows, columns);
    }
    return layer;
}

/* A stream of one step for each block of a column (all rows) of the input. */
static inline struct tessi_layer *layer_fold(uint32_t session, uint32_t id, const struct tessi_layer *from,
                                             int64_t bytes)
{
    struct tessi_rule all = {.kind = TESSI_RULE_ALL}, columns = {.kind = TESSI_RULE_SAME, .dim = 1};
    struct tessi_layer *layer = tessi_layer_create(session, id, TESSI_OP_REDUCE, TESSI_F64);
    layer_grid(&layer->grid, 1, (int64_t)from->grid.axis[1].count, bytes);
    layer->as.reduce.axes = 1;
    layer->as.reduce.keepdims = true;
    layer_input(layer, from, all, columns);
    return layer;
}

/* C = A B. B's rows have as many chunks as A's columns; only the numbers of chunks matter, so both
 * operands are described with one element a chunk of k, and blocks of `bytes`. */
static inline struct tessi_layer *layer_product(uint32_t session, uint32_t id, const struct tessi_layer *a,
                                                const struct tessi_layer *b, int64_t bytes)
{
    struct tessi_rule all = {.kind = TESSI_RULE_ALL}, rows = {.kind = TESSI_RULE_SAME, .dim = 0},
                      columns = {.kind = TESSI_RULE_SAME, .dim = 1};
    struct tessi_layer *layer = tessi_layer_create(session, id, TESSI_OP_MATMUL, TESSI_F64);
    layer_grid(&layer->grid, (int64_t)a->grid.axis[0].count, (int64_t)b->grid.axis[1].count, bytes);
    layer_input(layer, a, rows, all);
    layer_input(layer, b, all, columns);
    return layer;
}

/* An operand A of rows × inner blocks of `bytes`, whose columns are cut into chunks of one element. */
static inline struct tessi_layer *layer_left(uint32_t session, uint32_t id, enum tessi_op op, int64_t rows,
                                             int64_t inner, int64_t bytes)
{
    struct tessi_shape shape = {.ndim = 2, .dim = {rows * bytes / 8, inner}};
    int64_t chunk[2] = {bytes / 8, 1};
    struct tessi_layer *layer = tessi_layer_create(session, id, op, TESSI_F64);
    tessi_grid_regular(&layer->grid, &shape, chunk);
    return layer;
}

#endif
