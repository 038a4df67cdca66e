/* Matrix products: transposed operands are read where they lie, a long k is cut by the graph alone. */
#include <inttypes.h>
#include <stdio.h>

#include "client/array.h"

#define SHAPE_TEXT 200
#define BLOCKS_WANTED 64 /* tasks that a product should have where k allows it */
#define STEPS_MIN 2      /* chunks of k that a segment should have */

struct operand {
    struct tessi_node *node; /* referenced */
    bool transposed;         /* the node holds the operand's transpose */
};

static struct operand look_through(struct tessi_node *node)
{
    if (node->layer->op == TESSI_OP_TRANSPOSE && node->held == 0) {
        return (struct operand){tessi_node_ref(node->input[0]), true};
    }
    return (struct operand){tessi_node_ref(node), false};
}

static const struct tessi_axis *axis_of(const struct operand *operand, uint32_t d)
{
    return &operand->node->layer->grid.axis[operand->transposed ? 1 - d : d];
}

/* The operand with other chunks along its dimension `d`, for the result's sake. */
static enum tessi_status rechunk_operand(struct operand *operand, uint32_t d, const struct tessi_axis *chunks,
                                         struct tessi_error *error)
{
    struct tessi_grid grid;
    uint32_t axis = operand->transposed ? 1 - d : d;
    tessi_grid_copy(&grid, &operand->node->layer->grid);
    tessi_axis_fini(&grid.axis[axis]);
    grid.axis[axis] = tessi_axis_copy(chunks);
    struct tessi_node *node = tessi_node_regrid(operand->node, &grid, error);
    tessi_grid_fini(&grid);
    if (node == NULL) {
        return error->status;
    }
    tessi_node_unref(operand->node);
    operand->node = node;
    return TESSI_OK;
}

/* Segments of k, from shapes and chunks alone: as many as give BLOCKS_WANTED tasks, as long as each has a few
 * chunks of k and the partial products hold no more than half the elements of the operands. */
static int64_t choose_segments(const struct tessi_axis *m, const struct tessi_axis *n, const struct tessi_axis *k)
{
    uint64_t blocks = m->count * n->count;
    if (blocks >= BLOCKS_WANTED || k->count < 2 * STEPS_MIN) {
        return 1;
    }
    uint64_t segments = (BLOCKS_WANTED + blocks - 1) / blocks;
    segments = segments < k->count / STEPS_MIN ? segments : k->count / STEPS_MIN;
    double out = (double)m->extent * (double)n->extent;
    double in = ((double)m->extent + (double)n->extent) * (double)k->extent;
    double most = out > 0.0 ? in / (2.0 * out) : 1.0;
    return most < (double)segments ? (int64_t)most : (int64_t)segments;
}

/* The length of a segment: whole chunks where they are equal. */
static int64_t segment_length(const struct tessi_axis *k, int64_t segments)
{
    if (segments <= 1) {
        return k->extent;
    }
    int64_t unit = k->chunk > 0 ? k->chunk : 1;
    int64_t units = (k->extent - 1) / unit + 1;
    if (segments > units) {
        unit = 1;
        units = k->extent;
    }
    segments = segments < units ? segments : units;
    return ((units - 1) / segments + 1) * unit;
}

/* The product in `dtype`: the operands' type, or the one that its products are added in. */
static struct tessi_node *product(const struct operand *a, const struct operand *b, enum tessi_dtype dtype,
                                  const tess_matmul_options *options, struct tessi_error *error)
{
    int64_t segments = options->segments;
    const struct tessi_axis *k = axis_of(a, 1);
    if (segments == 0) {
        const struct tessi_axis *other = axis_of(b, 0);
        segments = choose_segments(axis_of(a, 0), axis_of(b, 1), other->count > k->count ? other : k);
    }
    int64_t segment = segment_length(k, segments);
    int64_t count = (k->extent - 1) / segment + 1;
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_MATMUL, dtype);
    tessi_layer_set_input(layer, 0, a->node);
    tessi_layer_set_input(layer, 1, b->node);
    layer->as.matmul.transpose_a = a->transposed;
    layer->as.matmul.transpose_b = b->transposed;
    layer->as.matmul.segment = segment;
    layer->as.matmul.compute = (enum tessi_compute)options->compute;
    layer->grid.ndim = count > 1 ? 3 : 2;
    layer->grid.axis[0] = tessi_axis_copy(axis_of(a, 0));
    layer->grid.axis[1] = tessi_axis_copy(axis_of(b, 1));
    struct tessi_rule contracted = {.kind = TESSI_RULE_ALL};
    if (count > 1) {
        layer->grid.axis[2] = tessi_axis_regular(count, 1);
        contracted = (struct tessi_rule){.kind = TESSI_RULE_SEGMENT, .dim = 2, .value = segment};
    }
    struct tessi_rule *rule_a = layer->input[0].rules.rule;
    struct tessi_rule *rule_b = layer->input[1].rules.rule;
    rule_a[a->transposed ? 1 : 0] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0};
    rule_a[a->transposed ? 0 : 1] = contracted;
    rule_b[b->transposed ? 0 : 1] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1};
    rule_b[b->transposed ? 1 : 0] = contracted;
    struct tessi_node *inputs[2] = {a->node, b->node};
    struct tessi_node *node = tessi_node_build(a->node->session, layer, inputs, error);
    if (node != NULL && count > 1) {
        struct tessi_node *partial = node;
        node = tessi_node_fold(partial, TESSI_FOLD_SUM, partial->layer->dtype, 1u << 2, false, error);
        tessi_node_unref(partial);
    }
    return node;
}

/* Operands of the result's dtype and chunks. */
static enum tessi_status prepare(struct tess_array *array, enum tessi_dtype dtype, uint32_t kept, int64_t chunk,
                                 struct operand *operand, struct tessi_error *error)
{
    struct operand given = look_through(array->node);
    *operand = (struct operand){tessi_node_astype(given.node, dtype, error), given.transposed};
    tessi_node_unref(given.node);
    if (operand->node == NULL) {
        return error->status;
    }
    if (chunk == 0) {
        return TESSI_OK;
    }
    struct tessi_axis chunks = tessi_axis_regular(axis_of(operand, kept)->extent, chunk);
    return rechunk_operand(operand, kept, &chunks, error);
}

/* The chunks of a result are its operands'. Where blocks of it would be larger than we choose them, and than those of the
 * operands, they are cut finer: (40000, 1) · (1, 40000) is no block of 12.8 GB. */
static enum tessi_status bound_result(struct operand operands[2], enum tessi_dtype dtype, struct tessi_error *error)
{
    const struct tess_session *session = operands[0].node->session;
    struct tessi_grid grid = {.ndim = 2,
                              .axis = {tessi_axis_copy(axis_of(&operands[0], 0)), tessi_axis_copy(axis_of(&operands[1], 1))}};
    size_t size = tessi_dtype_size(dtype);
    enum tessi_status status = TESSI_OK;
    if (tessi_chunks_outgrow(session, &grid, size, &operands[0].node->layer->grid, &operands[1].node->layer->grid) &&
        tessi_chunks_bound(session, &grid, size)) {
        for (uint32_t i = 0; i < 2 && status == TESSI_OK; i++) {
            status = rechunk_operand(&operands[i], i, &grid.axis[i], error);
        }
    }
    tessi_grid_fini(&grid);
    return status;
}

/* A product without elements, or of nothing: zeros in the chunks that a product would have. */
static struct tessi_node *product_of_nothing(const struct tess_array *a, const struct tess_array *b,
                                             enum tessi_dtype dtype, const int64_t *chunk, struct tessi_error *error)
{
    const struct tessi_axis *axis[2] = {&a->node->layer->grid.axis[0], &b->node->layer->grid.axis[1]};
    struct tessi_grid grid = {.ndim = 2};
    for (uint32_t d = 0; d < 2; d++) {
        grid.axis[d] = chunk[d] > 0 ? tessi_axis_regular(axis[d]->extent, chunk[d]) : tessi_axis_copy(axis[d]);
    }
    struct tessi_node *node = tessi_node_full_on(a->session, &grid, dtype, 0.0, error);
    tessi_grid_fini(&grid);
    return node;
}

static struct tessi_node *matmul_node(struct tess_array *a, struct tess_array *b, const tess_matmul_options *options,
                                      struct tessi_error *error)
{
    enum tessi_dtype dtype = tessi_dtype_promote(a->node->layer->dtype, b->node->layer->dtype);
    struct tessi_shape shape = {.ndim = 2,
                                .dim = {a->node->layer->grid.axis[0].extent, b->node->layer->grid.axis[1].extent}};
    int64_t chunk[TESSI_NDIM_MAX] = {0};
    if (options->segments < 0) {
        tessi_fail(error, TESSI_INVALID, "%" PRId64 " segments of k: give 1 or more, or 0 to have it chosen",
                   options->segments);
        return NULL;
    }
    bool native = options->compute == TESS_COMPUTE_NATIVE;
    if ((uint32_t)options->compute >= TESSI_COMPUTE_COUNT || (!native && dtype != TESSI_F32)) {
        tessi_fail(error, TESSI_INVALID, "compute %u of %s: tf32 is a way to multiply f32; compute other types natively",
                   (uint32_t)options->compute, tessi_dtype_name(dtype));
        return NULL;
    }
    /* Sums of f16 and bf16 stay in f32 until they are complete; integers that wrap are the same bits either way. */
    bool half = dtype == TESSI_F16 || dtype == TESSI_BF16;
    enum tessi_dtype sums = half || options->wide ? tessi_dtype_accumulator(dtype) : dtype;
    enum tessi_dtype result = options->wide ? sums : dtype;
    if (options->chunks.ndim != 0 &&
        tessi_chunks_choose(a->session, &shape, dtype, &options->chunks, chunk, error) != TESSI_OK) {
        return NULL;
    }
    if (shape.dim[0] == 0 || shape.dim[1] == 0 || a->node->layer->grid.axis[1].extent == 0) {
        return product_of_nothing(a, b, result, chunk, error);
    }
    struct operand operands[2] = {{0}, {0}};
    struct tessi_node *node = NULL;
    if (prepare(a, dtype, 0, chunk[0], &operands[0], error) == TESSI_OK &&
        prepare(b, dtype, 1, chunk[1], &operands[1], error) == TESSI_OK &&
        (options->chunks.ndim != 0 || bound_result(operands, sums, error) == TESSI_OK)) {
        struct tessi_node *summed = product(&operands[0], &operands[1], sums, options, error);
        node = summed != NULL ? tessi_node_astype(summed, result, error) : NULL;
        tessi_node_unref(summed);
    }
    tessi_node_unref(operands[0].node);
    tessi_node_unref(operands[1].node);
    return node;
}

static struct tess_array *matmul(const char *operation, struct tess_array *a, struct tess_array *b,
                                 const tess_matmul_options *options)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, b);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_shape shapes[2];
    tessi_node_shape(a->node, &shapes[0]);
    tessi_node_shape(b->node, &shapes[1]);
    const char *problem = shapes[0].ndim != 2 || shapes[1].ndim != 2 ? "both operands must have two dimensions"
                          : shapes[0].dim[1] != shapes[1].dim[0]     ? "inner dimensions differ"
                                                                     : NULL;
    if (problem != NULL) {
        char text[2][SHAPE_TEXT];
        char names[2 * TESSI_ARRAY_NAME_MAX + 8];
        return tessi_array_poison(
            a->session, operation, TESSI_INVALID, "%s · %s: %s%s", tessi_shape_format(&shapes[0], text[0], SHAPE_TEXT),
            tessi_shape_format(&shapes[1], text[1], SHAPE_TEXT), problem, tessi_array_names(a, b, names, sizeof names));
    }
    struct tessi_error error = {0};
    return tessi_array_finish(a->session, operation, matmul_node(a, b, options, &error), &error);
}

tess_array *tess_matmul(tess_array *a, tess_array *b)
{
    return matmul(__func__, a, b, &(tess_matmul_options){0});
}

tess_array *tess_matmul_with(tess_array *a, tess_array *b, const tess_matmul_options *options)
{
    return matmul(__func__, a, b, options != NULL ? options : &(tess_matmul_options){0});
}
