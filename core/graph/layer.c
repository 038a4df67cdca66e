#include "core/graph/layer.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"

struct tessi_layer *tessi_layer_create(uint32_t session, uint32_t id, enum tessi_op op, enum tessi_dtype dtype)
{
    struct tessi_layer *layer = tessi_zalloc(sizeof *layer);
    layer->session = session;
    layer->id = id;
    layer->op = op;
    layer->dtype = dtype;
    return layer;
}

struct tessi_input *tessi_layer_add_input(struct tessi_layer *layer)
{
    TESS_ASSERT(layer->ninputs == layer->input_room && layer->ninputs < TESSI_INPUTS_MAX);
    layer->input = tessi_realloc(layer->input, (layer->ninputs + 1) * sizeof *layer->input);
    layer->input_room++;
    struct tessi_input *input = &layer->input[layer->ninputs++];
    *input = (struct tessi_input){0};
    return input;
}

static void copy_program(struct tessi_program *to, const struct tessi_program *from)
{
    to->code = tessi_memdup(from->code, from->count * sizeof *from->code);
    to->constants = tessi_memdup(from->constants, from->nconstants * sizeof *from->constants);
}

struct tessi_layer *tessi_layer_copy(const struct tessi_layer *layer)
{
    struct tessi_layer *copy = tessi_memdup(layer, sizeof *layer);
    tessi_grid_copy(&copy->grid, &layer->grid);
    copy->input = layer->ninputs == 0 ? NULL : tessi_memdup(layer->input, layer->ninputs * sizeof *layer->input);
    copy->input_room = layer->ninputs;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        tessi_grid_copy(&copy->input[i].grid, &layer->input[i].grid);
        tessi_rules_copy(&copy->input[i].rules, &layer->input[i].rules);
    }
    copy->name = layer->name == NULL ? NULL : tessi_strdup(layer->name);
    if (layer->op == TESSI_OP_READ_NPY) {
        copy->as.npy.path = tessi_strdup(layer->as.npy.path);
    }
    if (layer->op == TESSI_OP_ELEMENTWISE) {
        copy_program(&copy->as.program, &layer->as.program);
    }
    return copy;
}

void tessi_layer_destroy(struct tessi_layer *layer)
{
    if (layer == NULL) {
        return;
    }
    tessi_grid_fini(&layer->grid);
    for (uint32_t i = 0; i < layer->input_room; i++) { /* ninputs may be anything where a check has failed */
        tessi_grid_fini(&layer->input[i].grid);
        tessi_rules_fini(&layer->input[i].rules);
    }
    tessi_free(layer->input);
    tessi_free(layer->name);
    if (layer->op == TESSI_OP_READ_NPY) {
        tessi_free(layer->as.npy.path);
    }
    if (layer->op == TESSI_OP_ELEMENTWISE) {
        tessi_free(layer->as.program.code);
        tessi_free(layer->as.program.constants);
    }
    tessi_free(layer);
}

void tessi_layer_set_name(struct tessi_layer *layer, const char *name)
{
    size_t size = name == NULL ? 0 : strlen(name);
    size_t kept = size < TESSI_LAYER_NAME_MAX ? size : TESSI_LAYER_NAME_MAX;
    while (kept < size && kept > 0 && ((unsigned char)name[kept] & 0xc0) == 0x80) {
        kept--; /* a character of several bytes goes as a whole */
    }
    char *copy = NULL;
    if (kept > 0) {
        copy = tessi_alloc(kept + 1);
        memcpy(copy, name, kept);
        copy[kept] = 0;
    }
    tessi_free(layer->name);
    layer->name = copy;
}

const char *tessi_layer_label(const struct tessi_layer *layer, char *text, size_t size)
{
    const char *operation = tessi_op_row(layer->op)->name;
    return layer->name == NULL ? tessi_text_format(text, size, "%s", operation)
                               : tessi_text_format(text, size, "%s [%s]", operation, layer->name);
}

static uint64_t grid_memory(const struct tessi_grid *grid)
{
    uint64_t bytes = 0;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        bytes += grid->axis[d].bounds != NULL ? (grid->axis[d].count + 1) * sizeof *grid->axis[d].bounds : 0;
    }
    return bytes;
}

uint64_t tessi_layer_memory(const struct tessi_layer *layer)
{
    uint64_t bytes = sizeof *layer + layer->ninputs * sizeof *layer->input + grid_memory(&layer->grid);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        const struct tessi_table *table = layer->input[i].rules.table;
        bytes += grid_memory(&layer->input[i].grid);
        if (table != NULL) { /* with its inverse */
            bytes += 2 * (table->tasks + table->blocks + table->rows[table->tasks]) * sizeof *table->rows;
        }
    }
    if (layer->op == TESSI_OP_ELEMENTWISE) {
        bytes += layer->as.program.count * sizeof *layer->as.program.code +
                 layer->as.program.nconstants * sizeof *layer->as.program.constants;
    }
    return bytes;
}

uint64_t tessi_layer_tasks(const struct tessi_layer *layer)
{
    return tessi_grid_blocks(&layer->grid);
}

uint64_t tessi_layer_block_bytes(const struct tessi_layer *layer, uint64_t index)
{
    return tessi_grid_block_elements(&layer->grid, index) * tessi_dtype_size(layer->dtype);
}

uint64_t tessi_input_block_bytes(const struct tessi_input *input, uint64_t index)
{
    return tessi_grid_block_elements(&input->grid, index) * tessi_dtype_size(input->dtype);
}

uint64_t tessi_layer_bytes(const struct tessi_layer *layer)
{
    uint64_t bytes = tessi_dtype_size(layer->dtype);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        bytes *= (uint64_t)layer->grid.axis[d].extent;
    }
    return bytes;
}

bool tessi_layer_regenerable(const struct tessi_layer *layer)
{
    switch (layer->op) {
    case TESSI_OP_FULL:
    case TESSI_OP_ARANGE:
    case TESSI_OP_EYE:
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
    case TESSI_OP_READ_NPY:
        return true;
    case TESSI_OP_RECEIVE:
    case TESSI_OP_ELEMENTWISE:
    case TESSI_OP_REDUCE:
    case TESSI_OP_TRANSPOSE:
    case TESSI_OP_REGRID:
    case TESSI_OP_MATMUL:
    case TESSI_OP_OPAQUE:
        return false;
    }
    TESS_ASSERT(false);
    return false;
}

bool tessi_layer_reads_itself(const struct tessi_layer *layer)
{
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        if (layer->input[i].layer == layer->id) {
            return true;
        }
    }
    return false;
}
