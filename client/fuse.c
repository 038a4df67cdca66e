/* Fusing elementwise chains into one program.
 *
 * A link of the chain is inlined when its one reader takes its blocks as they are (same grid, no broadcast) and
 * nobody else wants it. Every intermediate result keeps its own dtype as the dtype of its instruction, so the
 * bits are those of the unfused chain. */
#include <string.h>

#include "client/submit.h"
#include "core/base/alloc.h"
#include "core/base/assert.h"

struct fused {
    uint32_t ninputs;
    uint32_t entry[TESSI_INPUTS_MAX];
    const struct tessi_input *input[TESSI_INPUTS_MAX]; /* borrowed from the layers that are fused */
    uint32_t nconstants;
    struct tessi_scalar constant[TESSI_CONSTANTS_MAX];
    uint32_t count;
    struct tessi_instruction code[TESSI_PROGRAM_MAX];
};

/* The number of the input in the fused layer; TESSI_INPUTS_MAX when there is no room for it. */
static uint32_t add_input(struct fused *fused, uint32_t entry, const struct tessi_input *input)
{
    for (uint32_t i = 0; i < fused->ninputs; i++) {
        if (fused->entry[i] == entry && tessi_rules_equal(&fused->input[i]->rules, &input->rules)) {
            return i;
        }
    }
    if (fused->ninputs < TESSI_INPUTS_MAX) {
        fused->entry[fused->ninputs] = entry;
        fused->input[fused->ninputs] = input;
        return fused->ninputs++;
    }
    return TESSI_INPUTS_MAX;
}

/* Where an operand of one of the two programs is found in the fused one. */
struct renumbering {
    uint32_t input[TESSI_INPUTS_MAX];
    uint32_t ninputs, nconstants;          /* of the program as it was */
    uint32_t first_constant, first_result; /* in the fused one, as operand numbers */
};

static uint32_t renumber(const struct renumbering *map, uint32_t operand)
{
    if (operand < map->ninputs) {
        return map->input[operand];
    }
    operand -= map->ninputs;
    return operand < map->nconstants ? map->first_constant + operand : map->first_result + operand - map->nconstants;
}

static void append_program(struct fused *fused, const struct tessi_program *program, const struct renumbering *map)
{
    for (uint32_t i = 0; i < program->count; i++) {
        struct tessi_instruction code = program->code[i];
        uint32_t arity = tessi_ewise_arity(code.op);
        code.a = renumber(map, code.a);
        code.b = arity > 1 ? renumber(map, code.b) : 0;
        code.c = arity > 2 ? renumber(map, code.c) : 0;
        fused->code[fused->count++] = code;
    }
}

/* The inputs of both programs in one list; false when they do not fit. `through` is the reader's input that goes. */
static bool gather_inputs(struct fused *fused, const struct tessi_plan_entry *reader, uint32_t through,
                          const struct tessi_plan_entry *link, struct renumbering *reader_map,
                          struct renumbering *link_map)
{
    for (uint32_t i = 0; i < link->layer->ninputs; i++) {
        link_map->input[i] = add_input(fused, link->input[i], &link->layer->input[i]);
        if (link_map->input[i] == TESSI_INPUTS_MAX) {
            return false;
        }
    }
    for (uint32_t i = 0; i < reader->layer->ninputs; i++) {
        if (i == through) {
            continue;
        }
        reader_map->input[i] = add_input(fused, reader->input[i], &reader->layer->input[i]);
        if (reader_map->input[i] == TESSI_INPUTS_MAX) {
            return false;
        }
    }
    return true;
}

/* The layer in place of `reader->layer`: what both read, one program. */
static struct tessi_layer *fused_layer(const struct tessi_plan_entry *reader, const struct fused *fused)
{
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_ELEMENTWISE, reader->layer->dtype);
    tessi_grid_copy(&layer->grid, &reader->layer->grid);
    tessi_layer_set_task_options(layer, reader->layer->task_options);
    tessi_layer_set_name(layer, reader->layer->name);
    for (uint32_t i = 0; i < fused->ninputs; i++) {
        struct tessi_input *input = tessi_layer_add_input(layer, 0);
        *input = *fused->input[i];
        tessi_grid_copy(&input->grid, &fused->input[i]->grid);
        tessi_rules_copy(&input->rules, &fused->input[i]->rules);
    }
    struct tessi_program *program = &layer->as.program;
    program->count = fused->count;
    program->code = tessi_memdup(fused->code, fused->count * sizeof *fused->code);
    program->nconstants = fused->nconstants;
    program->constants =
        fused->nconstants == 0 ? NULL : tessi_memdup(fused->constant, fused->nconstants * sizeof *fused->constant);
    return layer;
}

static bool inline_link(struct tessi_plan *plan, struct tessi_plan_entry *reader, uint32_t through)
{
    struct tessi_plan_entry *link = &plan->entries[reader->input[through]];
    const struct tessi_program *first = &link->layer->as.program;
    const struct tessi_program *second = &reader->layer->as.program;
    struct fused fused = {0};
    struct renumbering link_map = {.ninputs = link->layer->ninputs, .nconstants = first->nconstants};
    struct renumbering reader_map = {.ninputs = reader->layer->ninputs, .nconstants = second->nconstants};
    if (first->count + second->count > TESSI_PROGRAM_MAX ||
        first->nconstants + second->nconstants > TESSI_CONSTANTS_MAX ||
        !gather_inputs(&fused, reader, through, link, &reader_map, &link_map)) {
        return false;
    }
    fused.nconstants = first->nconstants + second->nconstants;
    for (uint32_t i = 0; i < fused.nconstants; i++) {
        fused.constant[i] = i < first->nconstants ? first->constants[i] : second->constants[i - first->nconstants];
    }
    link_map.first_constant = fused.ninputs;
    reader_map.first_constant = fused.ninputs + first->nconstants;
    link_map.first_result = fused.ninputs + fused.nconstants;
    reader_map.first_result = link_map.first_result + first->count;
    reader_map.input[through] = reader_map.first_result - 1;
    append_program(&fused, first, &link_map);
    append_program(&fused, second, &reader_map);

    struct tessi_layer *layer = fused_layer(reader, &fused);
    for (uint32_t i = 0; i < link->layer->ninputs; i++) {
        plan->entries[link->input[i]].consumers--;
    }
    for (uint32_t i = 0; i < reader->layer->ninputs; i++) {
        plan->entries[reader->input[i]].consumers--;
    }
    for (uint32_t i = 0; i < fused.ninputs; i++) {
        reader->input[i] = fused.entry[i];
        plan->entries[fused.entry[i]].consumers++;
    }
    tessi_layer_destroy(reader->layer);
    tessi_layer_destroy(link->layer);
    reader->layer = layer;
    link->layer = NULL;
    link->gone = true;
    return true;
}

/* Whether all operations of a layer may stand beside others in a program. */
static bool fuses(const struct tessi_layer *layer)
{
    for (uint32_t i = 0; i < layer->as.program.count; i++) {
        if (tessi_ewise_row(layer->as.program.code[i].op)->fuses != TESSI_FUSES_CHAIN) {
            return false;
        }
    }
    return true;
}

static bool can_inline(const struct tessi_plan *plan, const struct tessi_plan_entry *reader, uint32_t i)
{
    const struct tessi_plan_entry *link = &plan->entries[reader->input[i]];
    if (link->layer == NULL || link->layer->op != TESSI_OP_ELEMENTWISE || link->wanted || link->consumers != 1 ||
        !tessi_task_options_equal(link->layer->task_options, reader->layer->task_options) || !fuses(link->layer) ||
        !fuses(reader->layer) || !tessi_grid_equal(&link->layer->grid, &reader->layer->grid)) {
        return false;
    }
    const struct tessi_map_rules *rules = &reader->layer->input[i].rules;
    for (uint32_t d = 0; d < rules->ndim; d++) {
        if (rules->rule[d].kind != TESSI_RULE_SAME || rules->rule[d].dim != d) {
            return false;
        }
    }
    return true;
}

void tessi_plan_fuse(struct tessi_plan *plan)
{
    for (size_t e = 0; e < plan->count; e++) {
        struct tessi_plan_entry *reader = &plan->entries[e];
        if (reader->layer == NULL || reader->layer->op != TESSI_OP_ELEMENTWISE) {
            continue;
        }
        uint32_t i = 0;
        while (i < reader->layer->ninputs) {
            /* Inlining renumbers the inputs: start again. Each one removes an entry, so this ends. */
            i = can_inline(plan, reader, i) && inline_link(plan, reader, i) ? 0 : i + 1;
        }
    }
}
