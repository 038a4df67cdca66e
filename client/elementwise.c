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
    enum tessi_dtype dtype = code[count - 1].dtype;
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

/* The chunks of the result: along each axis those of the operand with most elements that has the result's
 * extent there, so that the smaller operand is the one to be moved. */
static void broadcast_grid(const struct tessi_node *a, const struct tessi_node *b, const struct tessi_shape *shape,
                           struct tessi_grid *grid)
{
    const struct tessi_node *large = tessi_node_elements(b) > tessi_node_elements(a) ? b : a;
    const struct tessi_grid *first = &large->layer->grid;
    const struct tessi_grid *second = large == a ? &b->layer->grid : &a->layer->grid;
    *grid = (struct tessi_grid){.ndim = shape->ndim};
    for (uint32_t d = 0; d < shape->ndim; d++) {
        uint32_t missing = shape->ndim - first->ndim;
        const struct tessi_axis *axis = d >= missing ? &first->axis[d - missing] : NULL;
        if (axis == NULL || axis->extent != shape->dim[d]) {
            axis = &second->axis[d - (shape->ndim - second->ndim)];
        }
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

static struct tessi_node *binary_node(struct tessi_node *a, struct tessi_node *b, enum tessi_ewise op,
                                      enum tessi_dtype dtype, const struct tessi_shape *shape,
                                      struct tessi_error *error)
{
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_ELEMENTWISE, dtype);
    struct tessi_node *inputs[2] = {NULL, NULL};
    struct tessi_node *node = NULL;
    broadcast_grid(a, b, shape, &layer->grid);
    if (tessi_chunks_outgrow(a->session, &layer->grid, tessi_dtype_size(dtype), &a->layer->grid, &b->layer->grid)) {
        (void)tessi_chunks_bound(a->session, &layer->grid, tessi_dtype_size(dtype));
    }
    inputs[0] = align(a, &layer->grid, error);
    inputs[1] = inputs[0] == NULL ? NULL : a == b ? tessi_node_ref(inputs[0]) : align(b, &layer->grid, error);
    if (inputs[1] == NULL) {
        tessi_layer_destroy(layer);
    } else {
        bool twice = inputs[0] == inputs[1];
        set_broadcast_input(layer, 0, inputs[0]);
        if (!twice) {
            set_broadcast_input(layer, 1, inputs[1]);
        }
        struct tessi_instruction code = {.op = op, .dtype = dtype, .a = 0, .b = twice ? 0 : 1};
        set_program(layer, &code, 1, NULL, 0);
        node = tessi_node_build(a->session, layer, inputs, error);
    }
    tessi_node_unref(inputs[0]);
    tessi_node_unref(inputs[1]);
    return node;
}

static struct tess_array *binary(const char *operation, struct tess_array *a, struct tess_array *b, enum tessi_ewise op,
                                 bool inexact)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, b);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_shape shapes[2];
    struct tessi_shape shape;
    tessi_node_shape(a->node, &shapes[0]);
    tessi_node_shape(b->node, &shapes[1]);
    if (!tessi_shape_broadcast(&shapes[0], &shapes[1], &shape)) {
        char text[2][SHAPE_TEXT];
        char names[2 * TESSI_ARRAY_NAME_MAX + 8];
        return tessi_array_poison(a->session, operation, TESSI_INVALID, "%s and %s do not broadcast%s",
                                  tessi_shape_format(&shapes[0], text[0], SHAPE_TEXT),
                                  tessi_shape_format(&shapes[1], text[1], SHAPE_TEXT),
                                  tessi_array_names(a, b, names, sizeof names));
    }
    enum tessi_dtype dtype = tessi_dtype_promote(a->node->layer->dtype, b->node->layer->dtype);
    struct tessi_error error = {0};
    struct tessi_node *node =
        binary_node(a->node, b->node, op, inexact ? tessi_dtype_inexact(dtype) : dtype, &shape, &error);
    return tessi_array_finish(a->session, operation, node, &error);
}

tess_array *tess_add(tess_array *a, tess_array *b)
{
    return binary(__func__, a, b, TESSI_EWISE_ADD, false);
}

tess_array *tess_subtract(tess_array *a, tess_array *b)
{
    return binary(__func__, a, b, TESSI_EWISE_SUBTRACT, false);
}

tess_array *tess_multiply(tess_array *a, tess_array *b)
{
    return binary(__func__, a, b, TESSI_EWISE_MULTIPLY, false);
}

tess_array *tess_divide(tess_array *a, tess_array *b)
{
    return binary(__func__, a, b, TESSI_EWISE_DIVIDE, true);
}

/* A whole number that an array of integers can hold is one of its own, as a Python int is in NumPy. */
static struct tess_array *with_scalar(const char *operation, struct tess_array *a, double b, enum tessi_ewise op)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, a);
    if (refused != NULL) {
        return refused;
    }
    enum tessi_dtype dtype = a->node->layer->dtype;
    bool integer = op != TESSI_EWISE_DIVIDE && tessi_scalar_is_integer(dtype, b);
    struct tessi_error error = {0};
    struct tessi_node *node = tessi_node_scalar_op(a->node, op, integer ? dtype : tessi_dtype_inexact(dtype), b, &error);
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

static struct tess_array *function(const char *operation, struct tess_array *a, enum tessi_ewise op, bool inexact)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, a);
    if (refused != NULL) {
        return refused;
    }
    enum tessi_dtype dtype = a->node->layer->dtype;
    struct tessi_instruction code = {.op = op, .dtype = inexact ? tessi_dtype_inexact(dtype) : dtype};
    struct tessi_error error = {0};
    return tessi_array_finish(a->session, operation, unary(a->node, &code, 1, NULL, 0, &error), &error);
}

tess_array *tess_negative(tess_array *a)
{
    return function(__func__, a, TESSI_EWISE_NEGATIVE, false);
}

tess_array *tess_abs(tess_array *a)
{
    return function(__func__, a, TESSI_EWISE_ABS, false);
}

tess_array *tess_sqrt(tess_array *a)
{
    return function(__func__, a, TESSI_EWISE_SQRT, true);
}

tess_array *tess_exp(tess_array *a)
{
    return function(__func__, a, TESSI_EWISE_EXP, true);
}

tess_array *tess_log(tess_array *a)
{
    return function(__func__, a, TESSI_EWISE_LOG, true);
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
