/* Elementwise operations: shapes broadcast, dtypes promote, chunks are made to agree. */
#include <stdio.h>
#include <string.h>

#include "client/array.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"

#define SHAPE_TEXT 200
#define WIDENING 4 /* times as many bytes an element: then a copy in smaller blocks is worth it */

static void set_program(struct tessi_layer *layer, const struct tessi_instruction *code, uint32_t count,
                        const struct tessi_scalar *constants, uint32_t nconstants)
{
    layer->as.program.count = count;
    layer->as.program.code = tessi_memdup(code, count * sizeof *code);
    layer->as.program.nconstants = nconstants;
    layer->as.program.constants = nconstants == 0 ? NULL : tessi_memdup(constants, nconstants * sizeof *constants);
}

/* The array for an operation whose elements have `size` bytes: cut finer where blocks whose chunks we chose would become
 * several times as large as we choose them. */
static struct tessi_node *for_wider(struct tessi_node *a, size_t size, struct tessi_error *error)
{
    struct tessi_grid grid;
    struct tessi_node *node;
    if (!a->chosen || size < WIDENING * tessi_dtype_size(a->layer->dtype)) {
        return tessi_node_ref(a);
    }
    tessi_grid_copy(&grid, &a->layer->grid);
    node = tessi_chunks_bound(a->session, &grid, size) ? tessi_node_regrid(a, &grid, error) : tessi_node_ref(a);
    tessi_grid_fini(&grid);
    return node;
}

/* One input of the result's own shape and grid. */
static struct tessi_node *unary(struct tessi_node *given, const struct tessi_instruction *code, uint32_t count,
                                const struct tessi_scalar *constants, uint32_t nconstants, struct tessi_error *error)
{
    enum tessi_dtype dtype = tessi_instruction_result(&code[count - 1]);
    struct tessi_node *a = for_wider(given, tessi_dtype_size(dtype), error);
    if (a == NULL) {
        return NULL;
    }
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_ELEMENTWISE, dtype);
    tessi_grid_copy(&layer->grid, &a->layer->grid);
    tessi_layer_set_input(layer, 0, a);
    set_program(layer, code, count, constants, nconstants);
    struct tessi_node *node = tessi_node_build(a->session, layer, &a, error);
    tessi_node_unref(a);
    return node;
}

struct tessi_node *tessi_node_astype(struct tessi_node *a, enum tessi_dtype dtype, struct tessi_error *error)
{
    if (a->layer->dtype == dtype) {
        return tessi_node_ref(a);
    }
    struct tessi_instruction copy = {.op = TESSI_EWISE_COPY, .dtype = dtype};
    return unary(a, &copy, 1, NULL, 0, error);
}

struct tessi_node *tessi_node_scalar_op(struct tessi_node *a, enum tessi_ewise op, enum tessi_dtype dtype,
                                        double number, struct tessi_error *error)
{
    struct tessi_instruction code = {.op = op, .dtype = dtype, .a = 0, .b = 1};
    struct tessi_scalar constant = tessi_scalar_of(dtype, number);
    return unary(a, &code, 1, &constant, 1, error);
}

/* The operands of one operation. */
struct operands {
    uint32_t count;
    struct tessi_node *node[TESSI_OPERANDS_MAX];
};

/* The chunks of the result: along each axis those of the operand with most elements that has the result's
 * extent there, so that the smaller operands are the ones to be moved. */
static void broadcast_grid(const struct operands *operands, const struct tessi_shape *shape, struct tessi_grid *grid)
{
    *grid = (struct tessi_grid){.ndim = shape->ndim};
    for (uint32_t d = 0; d < shape->ndim; d++) {
        const struct tessi_axis *axis = NULL;
        int64_t most = -1;
        for (uint32_t i = 0; i < operands->count; i++) {
            const struct tessi_grid *own = &operands->node[i]->layer->grid;
            uint32_t missing = shape->ndim - own->ndim;
            int64_t elements = tessi_node_elements(operands->node[i]);
            if (d >= missing && own->axis[d - missing].extent == shape->dim[d] && elements > most) {
                axis = &own->axis[d - missing];
                most = elements;
            }
        }
        TESS_ASSERT(axis != NULL);
        grid->axis[d] = tessi_axis_copy(axis);
    }
}

/* The operand with the result's boundaries along every axis that it does not broadcast: itself where they agree. */
static struct tessi_node *align(struct tessi_node *a, const struct tessi_grid *out, struct tessi_error *error)
{
    const struct tessi_grid *own = &a->layer->grid;
    uint32_t missing = out->ndim - own->ndim;
    struct tessi_grid wanted = {.ndim = own->ndim};
    for (uint32_t d = 0; d < own->ndim; d++) {
        bool broadcast = own->axis[d].extent == 1 && out->axis[d + missing].extent != 1;
        wanted.axis[d] = tessi_axis_copy(broadcast ? &own->axis[d] : &out->axis[d + missing]);
    }
    struct tessi_node *aligned = tessi_node_regrid(a, &wanted, error);
    tessi_grid_fini(&wanted);
    return aligned;
}

static void set_broadcast_input(struct tessi_layer *layer, uint32_t i, const struct tessi_node *node)
{
    tessi_layer_set_input(layer, i, node);
    struct tessi_input *input = &layer->input[i];
    uint32_t missing = layer->grid.ndim - input->grid.ndim;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        bool broadcast = input->grid.axis[d].extent == 1 && layer->grid.axis[d + missing].extent != 1;
        input->rules.rule[d] = broadcast ? (struct tessi_rule){.kind = TESSI_RULE_FIXED}
                                         : (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d + missing};
    }
}

/* The operands as the result's chunks want them, an array that is several of them once. False: `error`. */
static bool align_all(const struct operands *operands, const struct tessi_grid *grid, struct operands *aligned,
                      struct tessi_instruction *code, struct tessi_error *error)
{
    uint32_t number[TESSI_OPERANDS_MAX] = {0};
    for (uint32_t i = 0; i < operands->count; i++) {
        uint32_t same = 0;
        while (operands->node[same] != operands->node[i]) {
            same++;
        }
        if (same < i) {
            number[i] = number[same];
            continue;
        }
        number[i] = aligned->count;
        aligned->node[aligned->count] = align(operands->node[i], grid, error);
        if (aligned->node[aligned->count] == NULL) {
            return false;
        }
        aligned->count++;
    }
    code->a = number[0];
    code->b = number[1];
    code->c = number[2];
    return true;
}

/* The result's blocks are larger than we choose them, and than the operands'. */
static bool outgrows(const struct operands *operands, const struct tessi_grid *grid, size_t size)
{
    for (uint32_t i = 1; i < operands->count; i++) {
        if (!tessi_chunks_outgrow(operands->node[0]->session, grid, size, &operands->node[0]->layer->grid,
                                  &operands->node[i]->layer->grid)) {
            return false;
        }
    }
    return true;
}

static struct tessi_node *combine_nodes(const struct operands *operands, enum tessi_ewise op, enum tessi_dtype computed_in,
                                        const struct tessi_shape *shape, struct tessi_error *error)
{
    struct tess_session *session = operands->node[0]->session;
    struct tessi_instruction code = {.op = op, .dtype = computed_in};
    enum tessi_dtype dtype = tessi_instruction_result(&code);
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_ELEMENTWISE, dtype);
    struct operands aligned = {0};
    struct tessi_node *node = NULL;
    broadcast_grid(operands, shape, &layer->grid);
    if (outgrows(operands, &layer->grid, tessi_dtype_size(dtype))) {
        (void)tessi_chunks_bound(session, &layer->grid, tessi_dtype_size(dtype));
    }
    if (align_all(operands, &layer->grid, &aligned, &code, error)) {
        for (uint32_t i = 0; i < aligned.count; i++) {
            set_broadcast_input(layer, i, aligned.node[i]);
        }
        set_program(layer, &code, 1, NULL, 0);
        node = tessi_node_build(session, layer, aligned.node, error);
    } else {
        tessi_layer_destroy(layer);
    }
    for (uint32_t i = 0; i < aligned.count; i++) {
        tessi_node_unref(aligned.node[i]);
    }
    return node;
}

/* The shape of all operands together. False: the first `*failed` of them and the next do not broadcast. */
static bool broadcast_shape(const struct operands *operands, struct tessi_shape *shape, uint32_t *failed)
{
    tessi_node_shape(operands->node[0], shape);
    for (*failed = 1; *failed < operands->count; (*failed)++) {
        struct tessi_shape before = *shape;
        struct tessi_shape own;
        tessi_node_shape(operands->node[*failed], &own);
        if (!tessi_shape_broadcast(&before, &own, shape)) {
            *shape = before;
            return false;
        }
    }
    return true;
}

/* The operation on the arrays: their shapes broadcast, the types of all but a condition promote. */
static struct tess_array *combine(const char *operation, struct tess_array *const *arrays, enum tessi_ewise op)
{
    struct operands operands = {.count = tessi_ewise_arity(op)};
    struct tessi_shape shape;
    struct tessi_shape own;
    uint32_t failed;
    for (uint32_t i = 1; i < operands.count; i++) {
        struct tess_array *refused = tessi_array_refuse(operation, arrays[0], arrays[i]);
        if (refused != NULL) {
            return refused;
        }
    }
    struct tess_session *session = arrays[0]->session;
    for (uint32_t i = 0; i < operands.count; i++) {
        operands.node[i] = arrays[i]->node;
    }
    if (!broadcast_shape(&operands, &shape, &failed)) {
        char text[2][SHAPE_TEXT];
        char names[2 * TESSI_ARRAY_NAME_MAX + 8];
        tessi_node_shape(operands.node[failed], &own);
        return tessi_array_poison(session, operation, TESSI_INVALID, "%s and %s do not broadcast%s",
                                  tessi_shape_format(&shape, text[0], SHAPE_TEXT),
                                  tessi_shape_format(&own, text[1], SHAPE_TEXT),
                                  tessi_array_names(arrays[failed - 1], arrays[failed], names, sizeof names));
    }
    uint32_t first = tessi_ewise_is_condition(op, 0) ? 1 : 0;
    enum tessi_dtype dtype = operands.node[first]->layer->dtype;
    for (uint32_t i = first + 1; i < operands.count; i++) {
        dtype = tessi_dtype_promote(dtype, operands.node[i]->layer->dtype);
    }
    struct tessi_error error = {0};
    struct tessi_node *node = tessi_ewise_choose(op, dtype, &dtype, &error) == TESSI_OK
                                  ? combine_nodes(&operands, op, dtype, &shape, &error)
                                  : NULL;
    return tessi_array_finish(session, operation, node, &error);
}

static struct tess_array *function(const char *operation, struct tess_array *a, enum tessi_ewise op)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, a);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_instruction code = {.op = op};
    struct tessi_error error = {0};
    struct tessi_node *node = tessi_ewise_choose(op, a->node->layer->dtype, &code.dtype, &error) == TESSI_OK
                                  ? unary(a->node, &code, 1, NULL, 0, &error)
                                  : NULL;
    return tessi_array_finish(a->session, operation, node, &error);
}

/* The public functions, one for each row. */
#define FUNCTION_X(NAME, name)                             \
    tess_array *tess_##name(tess_array *a)                 \
    {                                                      \
        return function(__func__, a, TESSI_EWISE_##NAME);  \
    }
#define FUNCTION_XX(NAME, name)                                                        \
    tess_array *tess_##name(tess_array *a, tess_array *b)                              \
    {                                                                                  \
        return combine(__func__, (tess_array *const[]){a, b}, TESSI_EWISE_##NAME);     \
    }
#define FUNCTION_CXX(NAME, name)                                                           \
    tess_array *tess_##name(tess_array *condition, tess_array *a, tess_array *b)           \
    {                                                                                      \
        return combine(__func__, (tess_array *const[]){condition, a, b}, TESSI_EWISE_##NAME); \
    }
#define TESSI_ROW(NAME, name, code, operands, ...) FUNCTION_##operands(NAME, name)
TESSI_EWISE_FUNCTIONS(TESSI_ROW)
#undef TESSI_ROW

/* A whole number that an array of integers can hold is one of its own, as a Python int is in NumPy. */
static struct tess_array *with_scalar(const char *operation, struct tess_array *a, double b, enum tessi_ewise op)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, a);
    if (refused != NULL) {
        return refused;
    }
    enum tessi_dtype dtype = a->node->layer->dtype;
    struct tessi_error error = {0};
    dtype = tessi_scalar_is_integer(dtype, b) ? dtype : tessi_dtype_inexact(dtype);
    struct tessi_node *node = tessi_ewise_choose(op, dtype, &dtype, &error) == TESSI_OK
                                  ? tessi_node_scalar_op(a->node, op, dtype, b, &error)
                                  : NULL;
    return tessi_array_finish(a->session, operation, node, &error);
}

tess_array *tess_add_scalar(tess_array *a, double b)
{
    return with_scalar(__func__, a, b, TESSI_EWISE_ADD);
}

tess_array *tess_subtract_scalar(tess_array *a, double b)
{
    return with_scalar(__func__, a, b, TESSI_EWISE_SUBTRACT);
}

tess_array *tess_multiply_scalar(tess_array *a, double b)
{
    return with_scalar(__func__, a, b, TESSI_EWISE_MULTIPLY);
}

tess_array *tess_divide_scalar(tess_array *a, double b)
{
    return with_scalar(__func__, a, b, TESSI_EWISE_DIVIDE);
}

tess_array *tess_astype(tess_array *a, tess_dtype dtype)
{
    struct tess_array *refused = tessi_array_refuse(__func__, a, a);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    enum tessi_dtype type;
    struct tessi_node *node =
        tessi_dtype_from_user(dtype, &type, &error) == TESSI_OK ? tessi_node_astype(a->node, type, &error) : NULL;
    return tessi_array_finish(a->session, __func__, node, &error);
}
