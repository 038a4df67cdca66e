#include "core/graph/layer.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/text.h"

/* Inputs, and how many layers have them: layers of different threads may, since a copy goes anywhere. */
struct inputs {
    atomic_uint users;
    uint32_t count;
    struct tessi_input item[];
};

static struct inputs *inputs_of(const struct tessi_layer *layer)
{
    return (struct inputs *)(void *)((char *)layer->input - offsetof(struct inputs, item));
}

struct tessi_layer *tessi_layer_create(uint32_t session, uint32_t id, enum tessi_op op, enum tessi_dtype dtype)
{
    struct tessi_layer *layer = tessi_zalloc(sizeof *layer);
    layer->session = session;
    layer->id = id;
    layer->op = op;
    layer->dtype = dtype;
    layer->task_options = &tessi_no_task_options;
    return layer;
}

struct tessi_input *tessi_layer_add_input(struct tessi_layer *layer, uint32_t reads)
{
    struct inputs *inputs = layer->input == NULL ? NULL : inputs_of(layer);
    TESS_ASSERT(layer->ninputs < TESSI_INPUTS_MAX);
    TESS_ASSERT(inputs == NULL ? layer->ninputs == 0 : inputs->count == layer->ninputs && inputs->users == 1);
    inputs = tessi_realloc(inputs, sizeof *inputs + (layer->ninputs + 1) * sizeof *layer->input);
    inputs->users = 1;
    inputs->count = layer->ninputs + 1;
    layer->input = inputs->item;
    layer->reads[layer->ninputs] = reads;
    struct tessi_input *input = &layer->input[layer->ninputs++];
    *input = (struct tessi_input){0};
    return input;
}

static void take_inputs(struct tessi_layer *layer, const struct tessi_layer *from)
{
    layer->input = from->input;
    if (from->input != NULL) {
        atomic_fetch_add_explicit(&inputs_of(from)->users, 1, memory_order_relaxed);
    }
}

static void let_inputs_go(struct tessi_layer *layer)
{
    struct inputs *inputs = layer->input == NULL ? NULL : inputs_of(layer);
    layer->input = NULL;
    if (inputs == NULL || atomic_fetch_sub_explicit(&inputs->users, 1, memory_order_acq_rel) > 1) {
        return;
    }
    for (uint32_t i = 0; i < inputs->count; i++) { /* a layer's ninputs may be anything where a check has failed */
        tessi_grid_fini(&inputs->item[i].grid);
        tessi_rules_fini(&inputs->item[i].rules);
    }
    tessi_free(inputs);
}

bool tessi_layer_share_inputs(struct tessi_layer *layer, const struct tessi_layer *other)
{
    bool same = layer->ninputs == other->ninputs && layer->ninputs > 0 && layer->input != other->input;
    for (uint32_t i = 0; same && i < layer->ninputs; i++) {
        const struct tessi_input *a = &layer->input[i], *b = &other->input[i];
        same = a->dtype == b->dtype && tessi_rules_equal(&a->rules, &b->rules) && tessi_grid_equal(&a->grid, &b->grid);
    }
    if (same) {
        let_inputs_go(layer);
        take_inputs(layer, other);
    }
    return same;
}

void tessi_layer_follow_blocks(struct tessi_layer *layer)
{
    struct tessi_input *input = &layer->input[0];
    TESS_ASSERT(layer->op == TESSI_OP_WRITE_NPY && layer->ninputs == 1);
    layer->grid.ndim = input->rules.ndim = input->grid.ndim;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        layer->grid.axis[d] = tessi_axis_regular((int64_t)input->grid.axis[d].count, 1);
        input->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
}

static void copy_program(struct tessi_program *to, const struct tessi_program *from)
{
    to->code = tessi_memdup(from->code, from->count * sizeof *from->code);
    to->constants = tessi_memdup(from->constants, from->nconstants * sizeof *from->constants);
}

static void free_task_options(struct tessi_layer *layer)
{
    if (layer->task_options != &tessi_no_task_options) {
        tessi_free((void *)(uintptr_t)layer->task_options);
    }
}

struct tessi_task_options *tessi_layer_own_task_options(struct tessi_layer *layer)
{
    if (layer->task_options == &tessi_no_task_options) {
        layer->task_options = tessi_memdup(&tessi_no_task_options, sizeof tessi_no_task_options);
    }
    return (struct tessi_task_options *)(uintptr_t)layer->task_options;
}

void tessi_layer_set_task_options(struct tessi_layer *layer, const struct tessi_task_options *task_options)
{
    if (!tessi_task_options_equal(layer->task_options, task_options)) {
        *tessi_layer_own_task_options(layer) = *task_options;
    }
}

struct tessi_layer *tessi_layer_copy(const struct tessi_layer *layer)
{
    struct tessi_layer *copy = tessi_memdup(layer, sizeof *layer);
    tessi_grid_copy(&copy->grid, &layer->grid);
    take_inputs(copy, layer);
    copy->task_options = &tessi_no_task_options;
    tessi_layer_set_task_options(copy, layer->task_options);
    copy->name = layer->name == NULL ? NULL : tessi_strdup(layer->name);
    if (layer->op == TESSI_OP_READ_NPY) {
        copy->as.npy.path = tessi_strdup(layer->as.npy.path);
    }
    if (layer->op == TESSI_OP_WRITE_NPY) {
        copy->as.write.path = tessi_strdup(layer->as.write.path);
        copy->as.write.target = tessi_strdup(layer->as.write.target);
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
    let_inputs_go(layer);
    free_task_options(layer);
    tessi_free(layer->name);
    if (layer->op == TESSI_OP_READ_NPY) {
        tessi_free(layer->as.npy.path);
    }
    if (layer->op == TESSI_OP_WRITE_NPY) {
        tessi_free(layer->as.write.path);
        tessi_free(layer->as.write.target);
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

static uint64_t grid_bytes(const struct tessi_grid *grid, enum tessi_dtype dtype)
{
    uint64_t bytes = tessi_dtype_size(dtype);
    for (uint32_t d = 0; d < grid->ndim; d++) {
        bytes *= (uint64_t)grid->axis[d].extent;
    }
    return bytes;
}

uint64_t tessi_layer_bytes(const struct tessi_layer *layer)
{
    return grid_bytes(&layer->grid, layer->dtype);
}

uint64_t tessi_input_bytes(const struct tessi_input *input)
{
    return grid_bytes(&input->grid, input->dtype);
}

bool tessi_reduce_reads_records(const struct tessi_layer *layer)
{
    return tessi_fold_row(layer->as.reduce.fold)->state == TESSI_STATE_RECORD && !layer->as.reduce.lifts;
}

bool tessi_reduce_makes_records(const struct tessi_layer *layer)
{
    return tessi_fold_row(layer->as.reduce.fold)->state == TESSI_STATE_RECORD && !layer->as.reduce.finishes;
}

bool tessi_layer_regenerable(const struct tessi_layer *layer)
{
    return tessi_op_row(layer->op)->again == TESSI_AGAIN_AGAIN;
}

bool tessi_layer_suits_devices(const struct tessi_layer *layer, double flops_min, double bytes_min)
{
    if (tessi_op_row(layer->op)->devices == TESSI_DEVICES_NONE || tessi_layer_tasks(layer) == 0) {
        return false;
    }
    return tessi_op_row(layer->op)->limit == TESSI_LIMIT_FLOPS ? tessi_task_cost(layer, 0).flops >= flops_min
                                                               : (double)tessi_layer_block_bytes(layer, 0) >= bytes_min;
}

bool tessi_layer_reads_itself(const struct tessi_layer *layer)
{
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        if (layer->reads[i] == layer->id) {
            return true;
        }
    }
    return false;
}
