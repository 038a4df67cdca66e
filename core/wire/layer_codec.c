#include "core/wire/layer_codec.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/wire/pack.h"
#include "core/wire/table_codec.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "columns on the wire are little-endian memory");

/* A layer is [session, id, op, dtype, grid, [input …], [parameter …], [priority, policy, demand as text], push]
 * and one that has a name, at its end, if it has one
 * an input   [layer, dtype, grid, rules]
 * a grid     [axis …], an axis [extent, chunk] or, with explicit boundaries, [extent, column]
 * rules      [rule …], a rule [kind, dim, value, start, step], or a table (table_codec.h)
 * a scalar   [dtype, value …]: two values when it is complex */

/* ——— packing ——— */

static void pack_grid(struct tessi_buffer *buffer, const struct tessi_grid *grid)
{
    tessi_pack_array(buffer, grid->ndim);
    for (uint32_t d = 0; d < grid->ndim; d++) {
        const struct tessi_axis *axis = &grid->axis[d];
        tessi_pack_array(buffer, 2);
        tessi_pack_i64(buffer, axis->extent);
        if (axis->bounds == NULL) {
            tessi_pack_i64(buffer, axis->chunk);
        } else {
            tessi_pack_binary(buffer, axis->bounds, (size_t)(axis->count + 1) * sizeof *axis->bounds);
        }
    }
}

static void pack_rules(struct tessi_buffer *buffer, const struct tessi_map_rules *rules)
{
    if (rules->table != NULL) {
        tessi_table_pack(buffer, rules->table);
        return;
    }
    tessi_pack_array(buffer, rules->ndim);
    for (uint32_t d = 0; d < rules->ndim; d++) {
        const struct tessi_rule *rule = &rules->rule[d];
        tessi_pack_array(buffer, 5);
        tessi_pack_u64(buffer, (uint64_t)rule->kind);
        tessi_pack_u64(buffer, rule->dim);
        tessi_pack_i64(buffer, rule->value);
        tessi_pack_i64(buffer, rule->start);
        tessi_pack_i64(buffer, rule->step);
    }
}

static void pack_scalar(struct tessi_buffer *buffer, const struct tessi_scalar *scalar)
{
    switch (tessi_dtype_kind(scalar->dtype)) {
    case TESSI_KIND_BOOLEAN:
    case TESSI_KIND_UNSIGNED:
        tessi_pack_array(buffer, 2);
        tessi_pack_u64(buffer, (uint64_t)scalar->dtype);
        tessi_pack_u64(buffer, scalar->as.u);
        return;
    case TESSI_KIND_SIGNED:
        tessi_pack_array(buffer, 2);
        tessi_pack_u64(buffer, (uint64_t)scalar->dtype);
        tessi_pack_i64(buffer, scalar->as.i);
        return;
    case TESSI_KIND_FLOAT:
        tessi_pack_array(buffer, 2);
        tessi_pack_u64(buffer, (uint64_t)scalar->dtype);
        tessi_pack_f64(buffer, scalar->as.f);
        return;
    case TESSI_KIND_COMPLEX:
        tessi_pack_array(buffer, 3);
        tessi_pack_u64(buffer, (uint64_t)scalar->dtype);
        tessi_pack_f64(buffer, scalar->as.c[0]);
        tessi_pack_f64(buffer, scalar->as.c[1]);
        return;
    }
}

static void pack_program(struct tessi_buffer *buffer, const struct tessi_program *program)
{
    tessi_pack_array(buffer, 2);
    tessi_pack_array(buffer, program->count);
    for (uint32_t i = 0; i < program->count; i++) {
        const struct tessi_instruction *instruction = &program->code[i];
        uint32_t arity = tessi_ewise_arity(instruction->op);
        tessi_pack_array(buffer, 2 + arity);
        tessi_pack_u64(buffer, (uint64_t)instruction->op);
        tessi_pack_u64(buffer, (uint64_t)instruction->dtype);
        for (uint32_t o = 0; o < arity; o++) {
            tessi_pack_u64(buffer, tessi_instruction_operand(instruction, o));
        }
    }
    tessi_pack_array(buffer, program->nconstants);
    for (uint32_t i = 0; i < program->nconstants; i++) {
        pack_scalar(buffer, &program->constants[i]);
    }
}

static bool has_records(uint32_t fold)
{
    return tessi_fold_row((enum tessi_fold)fold)->state == TESSI_STATE_RECORD;
}

/* Where the state is a record, four fields more. */
static void pack_reduce(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    bool records = has_records((uint32_t)layer->as.reduce.fold);
    tessi_pack_array(buffer, records ? 7 : 3);
    tessi_pack_u64(buffer, (uint64_t)layer->as.reduce.fold);
    tessi_pack_u64(buffer, layer->as.reduce.axes);
    tessi_pack_bool(buffer, layer->as.reduce.keepdims);
    if (records) {
        tessi_pack_u64(buffer, (uint64_t)layer->as.reduce.from);
        tessi_pack_bool(buffer, layer->as.reduce.lifts);
        tessi_pack_bool(buffer, layer->as.reduce.finishes);
        tessi_pack_f64(buffer, layer->as.reduce.parameter);
    }
}

static void pack_parameters(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    uint32_t ndim = layer->grid.ndim;
    switch (layer->op) {
    case TESSI_OP_RECEIVE:
        tessi_pack_array(buffer, 0);
        return;
    case TESSI_OP_FULL:
        tessi_pack_array(buffer, 1);
        pack_scalar(buffer, &layer->as.full);
        return;
    case TESSI_OP_ARANGE:
        tessi_pack_array(buffer, 2);
        pack_scalar(buffer, &layer->as.arange.start);
        pack_scalar(buffer, &layer->as.arange.step);
        return;
    case TESSI_OP_EYE:
        tessi_pack_array(buffer, 1);
        tessi_pack_i64(buffer, layer->as.eye.diagonal);
        return;
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
        tessi_pack_array(buffer, 3);
        tessi_pack_u64(buffer, layer->as.random.seed);
        tessi_pack_f64(buffer, layer->as.random.low);
        tessi_pack_f64(buffer, layer->as.random.high);
        return;
    case TESSI_OP_READ_NPY:
        tessi_pack_array(buffer, 7);
        tessi_pack_text(buffer, layer->as.npy.path, TESSI_PATH_MAX);
        tessi_pack_u64(buffer, layer->as.npy.offset);
        tessi_pack_u64(buffer, layer->as.npy.file.bytes);
        tessi_pack_u64(buffer, layer->as.npy.file.inode);
        tessi_pack_i64(buffer, layer->as.npy.file.modified_ns);
        tessi_pack_i64(buffer, layer->as.npy.file.changed_ns);
        tessi_pack_bool(buffer, layer->as.npy.swapped);
        return;
    case TESSI_OP_WRITE_NPY:
        tessi_pack_array(buffer, 7);
        tessi_pack_text(buffer, layer->as.write.path, TESSI_PATH_MAX);
        tessi_pack_text(buffer, layer->as.write.target, TESSI_PATH_MAX);
        tessi_pack_u64(buffer, layer->as.write.offset);
        tessi_pack_u64(buffer, layer->as.write.bytes);
        tessi_pack_u64(buffer, layer->as.write.token[0]);
        tessi_pack_u64(buffer, layer->as.write.token[1]);
        tessi_pack_u64(buffer, layer->as.write.host);
        return;
    case TESSI_OP_ELEMENTWISE:
        pack_program(buffer, &layer->as.program);
        return;
    case TESSI_OP_REDUCE:
        pack_reduce(buffer, layer);
        return;
    case TESSI_OP_TRANSPOSE:
        tessi_pack_array(buffer, ndim);
        for (uint32_t d = 0; d < ndim; d++) {
            tessi_pack_u64(buffer, layer->as.transpose.axis[d]);
        }
        return;
    case TESSI_OP_REGRID:
        tessi_pack_array(buffer, 2 * (size_t)ndim);
        for (uint32_t d = 0; d < ndim; d++) {
            tessi_pack_i64(buffer, layer->as.regrid.start[d]);
            tessi_pack_i64(buffer, layer->as.regrid.step[d]);
        }
        return;
    case TESSI_OP_MATMUL:
        tessi_pack_array(buffer, 4);
        tessi_pack_bool(buffer, layer->as.matmul.transpose_a);
        tessi_pack_bool(buffer, layer->as.matmul.transpose_b);
        tessi_pack_i64(buffer, layer->as.matmul.segment);
        tessi_pack_u64(buffer, (uint64_t)layer->as.matmul.compute);
        return;
    case TESSI_OP_OPAQUE:
        tessi_pack_array(buffer, 5);
        tessi_pack_u64(buffer, layer->as.opaque.nanoseconds);
        tessi_pack_bool(buffer, layer->as.opaque.spin);
        tessi_pack_u64(buffer, layer->as.opaque.iterations);
        tessi_pack_f64(buffer, layer->as.opaque.spread);
        tessi_pack_u64(buffer, layer->as.opaque.pin);
        return;
    }
}

static void pack_wishes(struct tessi_buffer *buffer, const struct tessi_wishes *wishes)
{
    char demand[TESSI_RESOURCES_TEXT_MAX];
    tessi_pack_array(buffer, 3);
    tessi_pack_i64(buffer, wishes->priority);
    tessi_pack_u64(buffer, (uint64_t)wishes->policy);
    tessi_pack_text(buffer, tessi_resources_text(&wishes->demand, demand, sizeof demand), sizeof demand);
}

void tessi_layer_pack(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, layer->name == NULL ? 9 : 10);
    tessi_pack_u64(buffer, layer->session);
    tessi_pack_u64(buffer, layer->id);
    tessi_pack_u64(buffer, (uint64_t)layer->op);
    tessi_pack_u64(buffer, (uint64_t)layer->dtype);
    pack_grid(buffer, &layer->grid);
    tessi_pack_array(buffer, layer->ninputs);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        tessi_pack_array(buffer, 4);
        tessi_pack_u64(buffer, layer->reads[i]);
        tessi_pack_u64(buffer, (uint64_t)layer->input[i].dtype);
        pack_grid(buffer, &layer->input[i].grid);
        pack_rules(buffer, &layer->input[i].rules);
    }
    pack_parameters(buffer, layer);
    pack_wishes(buffer, layer->wishes);
    tessi_pack_bool(buffer, layer->push);
    if (layer->name != NULL) {
        tessi_pack_text(buffer, layer->name, TESSI_LAYER_NAME_MAX);
    }
}

/* ——— unpacking ——— */

static bool unpack_dtype(struct tessi_scan *scan, enum tessi_dtype *dtype)
{
    uint32_t code;
    if (!tessi_scan_u32(scan, &code)) {
        return false;
    }
    if (!tessi_dtype_valid(code)) {
        return tessi_scan_fail(scan, "an unknown dtype");
    }
    *dtype = (enum tessi_dtype)code;
    return true;
}

/* A column of 64-bit numbers, at least one, in memory of its own. */
static void *unpack_column(struct tessi_scan *scan, size_t least, uint64_t *count)
{
    const uint8_t *bytes;
    size_t size;
    if (!tessi_scan_binary(scan, &bytes, &size)) {
        return NULL;
    }
    if (size % sizeof(uint64_t) != 0 || size / sizeof(uint64_t) < least) {
        tessi_scan_fail(scan, "a column has the wrong length");
        return NULL;
    }
    void *copy = tessi_try_alloc(size > 0 ? size : 1);
    if (copy == NULL) {
        tessi_scan_fail(scan, "no memory for a column");
        return NULL;
    }
    memcpy(copy, bytes, size);
    *count = size / sizeof(uint64_t);
    return copy;
}

static bool unpack_axis(struct tessi_scan *scan, struct tessi_axis *axis)
{
    if (!tessi_scan_array_of(scan, 2) || !tessi_scan_i64(scan, &axis->extent)) {
        return false;
    }
    if (axis->extent < 0) {
        return tessi_scan_fail(scan, "a negative extent");
    }
    if (tessi_scan_is_binary(scan)) {
        uint64_t values;
        axis->bounds = unpack_column(scan, 2, &values);
        if (axis->bounds == NULL) {
            return false;
        }
        axis->count = values - 1;
        return true;
    }
    if (!tessi_scan_i64(scan, &axis->chunk)) {
        return false;
    }
    if (axis->chunk <= 0) {
        return tessi_scan_fail(scan, "a chunk without elements");
    }
    *axis = tessi_axis_regular(axis->extent, axis->chunk);
    return true;
}

static bool unpack_grid(struct tessi_scan *scan, struct tessi_grid *grid)
{
    uint32_t ndim;
    if (!tessi_scan_array(scan, &ndim)) {
        return false;
    }
    if (ndim > TESSI_NDIM_MAX) {
        return tessi_scan_fail(scan, "a grid of too many dimensions");
    }
    for (uint32_t d = 0; d < ndim; d++) {
        grid->ndim = d + 1; /* so that a failure frees what has been read */
        if (!unpack_axis(scan, &grid->axis[d])) {
            return false;
        }
    }
    return true;
}

static bool unpack_rules(struct tessi_scan *scan, struct tessi_map_rules *rules)
{
    uint32_t count;
    if (!tessi_scan_array(scan, &count)) {
        return false;
    }
    if (count == 3 && tessi_scan_is_binary(scan)) {
        rules->table = tessi_zalloc(sizeof *rules->table);
        return tessi_table_unpack(scan, rules->table);
    }
    if (count > TESSI_NDIM_MAX) {
        return tessi_scan_fail(scan, "rules of too many dimensions");
    }
    rules->ndim = count;
    for (uint32_t d = 0; d < count; d++) {
        struct tessi_rule *rule = &rules->rule[d];
        uint32_t kind;
        if (!tessi_scan_array_of(scan, 5) || !tessi_scan_u32(scan, &kind) || !tessi_scan_u32(scan, &rule->dim) ||
            !tessi_scan_i64(scan, &rule->value) || !tessi_scan_i64(scan, &rule->start) ||
            !tessi_scan_i64(scan, &rule->step)) {
            return false;
        }
        if (kind > TESSI_RULE_OFFSET) {
            return tessi_scan_fail(scan, "an unknown rule");
        }
        rule->kind = (enum tessi_rule_kind)kind;
    }
    return true;
}

static bool unpack_input(struct tessi_scan *scan, struct tessi_layer *layer)
{
    uint32_t reads;
    if (!tessi_scan_array_of(scan, 4) || !tessi_scan_u32(scan, &reads)) {
        return false;
    }
    struct tessi_input *input = tessi_layer_add_input(layer, reads);
    return unpack_dtype(scan, &input->dtype) && unpack_grid(scan, &input->grid) && unpack_rules(scan, &input->rules);
}

static bool unpack_scalar(struct tessi_scan *scan, struct tessi_scalar *scalar)
{
    uint32_t count;
    if (!tessi_scan_array(scan, &count) || !unpack_dtype(scan, &scalar->dtype)) {
        return false;
    }
    enum tessi_kind kind = tessi_dtype_kind(scalar->dtype);
    if (count != (kind == TESSI_KIND_COMPLEX ? 3u : 2u)) {
        return tessi_scan_fail(scan, "a scalar has the wrong number of values");
    }
    switch (kind) {
    case TESSI_KIND_BOOLEAN:
    case TESSI_KIND_UNSIGNED:
        return tessi_scan_u64(scan, &scalar->as.u);
    case TESSI_KIND_SIGNED:
        return tessi_scan_i64(scan, &scalar->as.i);
    case TESSI_KIND_FLOAT:
        return tessi_scan_f64(scan, &scalar->as.f);
    case TESSI_KIND_COMPLEX:
        return tessi_scan_f64(scan, &scalar->as.c[0]) && tessi_scan_f64(scan, &scalar->as.c[1]);
    }
    return false;
}

/* As many numbers after its dtype as it has operands. */
static bool unpack_instruction(struct tessi_scan *scan, struct tessi_instruction *instruction)
{
    uint32_t *const operand[TESSI_OPERANDS_MAX] = {&instruction->a, &instruction->b, &instruction->c};
    uint32_t count;
    uint32_t op;
    if (!tessi_scan_array(scan, &count) || !tessi_scan_u32(scan, &op)) {
        return false;
    }
    if (op >= TESSI_EWISE_COUNT || count != 2 + tessi_ewise_arity((enum tessi_ewise)op)) {
        return tessi_scan_fail(scan, "an unknown instruction");
    }
    instruction->op = (enum tessi_ewise)op;
    if (!unpack_dtype(scan, &instruction->dtype)) {
        return false;
    }
    for (uint32_t o = 0; o < count - 2; o++) {
        if (!tessi_scan_u32(scan, operand[o])) {
            return false;
        }
    }
    return true;
}

static bool unpack_code(struct tessi_scan *scan, struct tessi_program *program)
{
    uint32_t count;
    if (!tessi_scan_array(scan, &count)) {
        return false;
    }
    if (count > TESSI_PROGRAM_MAX) {
        return tessi_scan_fail(scan, "a program of too many instructions");
    }
    program->code = tessi_zalloc((count + 1) * sizeof *program->code);
    program->count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!unpack_instruction(scan, &program->code[i])) {
            return false;
        }
    }
    return true;
}

static bool unpack_program(struct tessi_scan *scan, struct tessi_program *program)
{
    if (!tessi_scan_array_of(scan, 2) || !unpack_code(scan, program)) {
        return false;
    }
    uint32_t count;
    if (!tessi_scan_array(scan, &count)) {
        return false;
    }
    if (count > TESSI_CONSTANTS_MAX) {
        return tessi_scan_fail(scan, "a program of too many constants");
    }
    program->constants = tessi_zalloc((count + 1) * sizeof *program->constants);
    program->nconstants = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!unpack_scalar(scan, &program->constants[i])) {
            return false;
        }
    }
    return true;
}

static bool unpack_npy(struct tessi_scan *scan, struct tessi_layer *layer)
{
    if (!tessi_scan_array_of(scan, 7)) {
        return false;
    }
    layer->as.npy.path = tessi_scan_text_copy(scan, TESSI_PATH_MAX);
    return layer->as.npy.path != NULL && tessi_scan_u64(scan, &layer->as.npy.offset) &&
           tessi_scan_u64(scan, &layer->as.npy.file.bytes) && tessi_scan_u64(scan, &layer->as.npy.file.inode) &&
           tessi_scan_i64(scan, &layer->as.npy.file.modified_ns) &&
           tessi_scan_i64(scan, &layer->as.npy.file.changed_ns) && tessi_scan_bool(scan, &layer->as.npy.swapped);
}

static bool unpack_write(struct tessi_scan *scan, struct tessi_layer *layer)
{
    if (!tessi_scan_array_of(scan, 7)) {
        return false;
    }
    layer->as.write.path = tessi_scan_text_copy(scan, TESSI_PATH_MAX);
    layer->as.write.target = layer->as.write.path != NULL ? tessi_scan_text_copy(scan, TESSI_PATH_MAX) : NULL;
    return layer->as.write.target != NULL && tessi_scan_u64(scan, &layer->as.write.offset) &&
           tessi_scan_u64(scan, &layer->as.write.bytes) && tessi_scan_u64(scan, &layer->as.write.token[0]) &&
           tessi_scan_u64(scan, &layer->as.write.token[1]) && tessi_scan_u64(scan, &layer->as.write.host);
}

static bool unpack_reduce(struct tessi_scan *scan, struct tessi_layer *layer)
{
    uint32_t fields, fold;
    if (!tessi_scan_array(scan, &fields) || (fields < 3 && !tessi_scan_fail(scan, "a short reduction")) ||
        !tessi_scan_u32(scan, &fold) || !tessi_scan_u32(scan, &layer->as.reduce.axes) ||
        !tessi_scan_bool(scan, &layer->as.reduce.keepdims)) {
        return false;
    }
    if (!tessi_fold_valid(fold)) {
        return tessi_scan_fail(scan, "an unknown fold");
    }
    layer->as.reduce.fold = (enum tessi_fold)fold;
    if (fields != (has_records(fold) ? 7u : 3u)) {
        return tessi_scan_fail(scan, "a reduction has the wrong number of fields");
    }
    return fields == 3 || (unpack_dtype(scan, &layer->as.reduce.from) &&
                           tessi_scan_bool(scan, &layer->as.reduce.lifts) &&
                           tessi_scan_bool(scan, &layer->as.reduce.finishes) &&
                           tessi_scan_f64(scan, &layer->as.reduce.parameter));
}

static bool unpack_matmul(struct tessi_scan *scan, struct tessi_layer *layer)
{
    uint32_t compute;
    if (!tessi_scan_array_of(scan, 4) || !tessi_scan_bool(scan, &layer->as.matmul.transpose_a) ||
        !tessi_scan_bool(scan, &layer->as.matmul.transpose_b) || !tessi_scan_i64(scan, &layer->as.matmul.segment) ||
        !tessi_scan_u32(scan, &compute)) {
        return false;
    }
    if (compute >= TESSI_COMPUTE_COUNT) {
        return tessi_scan_fail(scan, "an unknown way to compute");
    }
    layer->as.matmul.compute = (enum tessi_compute)compute;
    return true;
}

static bool unpack_transpose(struct tessi_scan *scan, struct tessi_layer *layer)
{
    bool ok = tessi_scan_array_of(scan, layer->grid.ndim);
    for (uint32_t d = 0; ok && d < layer->grid.ndim; d++) {
        ok = tessi_scan_u32(scan, &layer->as.transpose.axis[d]);
    }
    return ok;
}

static bool unpack_regrid(struct tessi_scan *scan, struct tessi_layer *layer)
{
    bool ok = tessi_scan_array_of(scan, 2 * layer->grid.ndim);
    for (uint32_t d = 0; ok && d < layer->grid.ndim; d++) {
        ok = tessi_scan_i64(scan, &layer->as.regrid.start[d]) && tessi_scan_i64(scan, &layer->as.regrid.step[d]);
    }
    return ok;
}

static bool unpack_parameters(struct tessi_scan *scan, struct tessi_layer *layer)
{
    switch (layer->op) {
    case TESSI_OP_RECEIVE:
        return tessi_scan_array_of(scan, 0);
    case TESSI_OP_FULL:
        return tessi_scan_array_of(scan, 1) && unpack_scalar(scan, &layer->as.full);
    case TESSI_OP_ARANGE:
        return tessi_scan_array_of(scan, 2) && unpack_scalar(scan, &layer->as.arange.start) &&
               unpack_scalar(scan, &layer->as.arange.step);
    case TESSI_OP_EYE:
        return tessi_scan_array_of(scan, 1) && tessi_scan_i64(scan, &layer->as.eye.diagonal);
    case TESSI_OP_UNIFORM:
    case TESSI_OP_NORMAL:
        return tessi_scan_array_of(scan, 3) && tessi_scan_u64(scan, &layer->as.random.seed) &&
               tessi_scan_f64(scan, &layer->as.random.low) && tessi_scan_f64(scan, &layer->as.random.high);
    case TESSI_OP_READ_NPY:
        return unpack_npy(scan, layer);
    case TESSI_OP_WRITE_NPY:
        return unpack_write(scan, layer);
    case TESSI_OP_ELEMENTWISE:
        return unpack_program(scan, &layer->as.program);
    case TESSI_OP_REDUCE:
        return unpack_reduce(scan, layer);
    case TESSI_OP_TRANSPOSE:
        return unpack_transpose(scan, layer);
    case TESSI_OP_REGRID:
        return unpack_regrid(scan, layer);
    case TESSI_OP_MATMUL:
        return unpack_matmul(scan, layer);
    case TESSI_OP_OPAQUE:
        return tessi_scan_array_of(scan, 5) && tessi_scan_u64(scan, &layer->as.opaque.nanoseconds) &&
               tessi_scan_bool(scan, &layer->as.opaque.spin) && tessi_scan_u64(scan, &layer->as.opaque.iterations) &&
               tessi_scan_f64(scan, &layer->as.opaque.spread) && tessi_scan_u32(scan, &layer->as.opaque.pin);
    }
    return tessi_scan_fail(scan, "an unknown operation");
}

static bool unpack_wishes(struct tessi_scan *scan, struct tessi_layer *layer)
{
    struct tessi_wishes wishes = {0};
    char demand[TESSI_RESOURCES_TEXT_MAX];
    int64_t priority;
    uint32_t policy;
    if (!tessi_scan_array_of(scan, 3) || !tessi_scan_i64(scan, &priority) || !tessi_scan_u32(scan, &policy) ||
        !tessi_scan_text_into(scan, demand, sizeof demand)) {
        return false;
    }
    if (priority < -TESSI_PRIORITY_MAX || priority > TESSI_PRIORITY_MAX || policy >= TESSI_POLICIES) {
        return tessi_scan_fail(scan, "a priority or policy out of range");
    }
    wishes.priority = (int32_t)priority;
    wishes.policy = (enum tessi_policy)policy;
    if (demand[0] != 0 && tessi_resources_parse(demand, &wishes.demand, NULL) != TESSI_OK) {
        return tessi_scan_fail(scan, "a malformed demand for resources");
    }
    tessi_layer_set_wishes(layer, &wishes);
    return true;
}

static bool unpack_name(struct tessi_scan *scan, struct tessi_layer *layer)
{
    layer->name = tessi_scan_text_copy(scan, TESSI_LAYER_NAME_MAX);
    return layer->name != NULL && (layer->name[0] != 0 || tessi_scan_fail(scan, "an empty name"));
}

static bool unpack_body(struct tessi_scan *scan, bool named, struct tessi_layer *layer)
{
    uint32_t inputs;
    if (!unpack_grid(scan, &layer->grid) || !tessi_scan_array(scan, &inputs)) {
        return false;
    }
    if (inputs > TESSI_INPUTS_MAX) {
        return tessi_scan_fail(scan, "a layer of too many inputs");
    }
    for (uint32_t i = 0; i < inputs; i++) {
        if (!unpack_input(scan, layer)) {
            return false;
        }
    }
    return unpack_parameters(scan, layer) && unpack_wishes(scan, layer) &&
           tessi_scan_bool(scan, &layer->push) && (!named || unpack_name(scan, layer));
}

enum tessi_status tessi_layer_unpack(struct tessi_scan *scan, struct tessi_layer **layer, struct tessi_error *error)
{
    uint32_t session, id, op, fields;
    enum tessi_dtype dtype = TESSI_BOOL;
    *layer = NULL;
    if (!tessi_scan_array(scan, &fields) || (fields != 10 && fields != 9 && !tessi_scan_fail(scan, "no layer")) || !tessi_scan_u32(scan, &session) || !tessi_scan_u32(scan, &id) ||
        !tessi_scan_u32(scan, &op) || !unpack_dtype(scan, &dtype)) {
        return tessi_scan_status(scan, error);
    }
    if (!tessi_op_valid(op)) {
        tessi_scan_fail(scan, "an unknown operation");
        return tessi_scan_status(scan, error);
    }
    struct tessi_layer *result = tessi_layer_create(session, id, (enum tessi_op)op, dtype);
    enum tessi_status status =
        unpack_body(scan, fields == 10, result) ? tessi_layer_check(result, error) : tessi_scan_status(scan, error);
    if (status != TESSI_OK) {
        tessi_layer_destroy(result);
        return status;
    }
    *layer = result;
    return TESSI_OK;
}
