#include "core/wire/layer_codec.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/wire/pack.h"
#include "core/wire/parameter_codec.h"
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

static void pack_task_options(struct tessi_buffer *buffer, const struct tessi_task_options *task_options)
{
    char demand[TESSI_RESOURCES_TEXT_MAX];
    tessi_pack_array(buffer, 3);
    tessi_pack_i64(buffer, task_options->priority);
    tessi_pack_u64(buffer, (uint64_t)task_options->policy);
    tessi_pack_text(buffer, tessi_resources_text(&task_options->demand, demand, sizeof demand), sizeof demand);
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
    tessi_parameters_pack(buffer, layer);
    pack_task_options(buffer, layer->task_options);
    tessi_pack_bool(buffer, layer->push);
    if (layer->name != NULL) {
        tessi_pack_text(buffer, layer->name, TESSI_LAYER_NAME_MAX);
    }
}

/* ——— unpacking ——— */

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
    return tessi_dtype_unpack(scan, &input->dtype) && unpack_grid(scan, &input->grid) &&
           unpack_rules(scan, &input->rules);
}

static bool unpack_task_options(struct tessi_scan *scan, struct tessi_layer *layer)
{
    struct tessi_task_options task_options = {0};
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
    task_options.priority = (int32_t)priority;
    task_options.policy = (enum tessi_policy)policy;
    if (demand[0] != 0 && tessi_resources_parse(demand, &task_options.demand, NULL) != TESSI_OK) {
        return tessi_scan_fail(scan, "a malformed demand for resources");
    }
    tessi_layer_set_task_options(layer, &task_options);
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
    return tessi_parameters_unpack(scan, layer) && unpack_task_options(scan, layer) &&
           tessi_scan_bool(scan, &layer->push) && (!named || unpack_name(scan, layer));
}

enum tessi_status tessi_layer_unpack(struct tessi_scan *scan, struct tessi_layer **layer, struct tessi_error *error)
{
    uint32_t session, id, op, fields;
    enum tessi_dtype dtype = TESSI_BOOL;
    *layer = NULL;
    if (!tessi_scan_array(scan, &fields) || (fields != 10 && fields != 9 && !tessi_scan_fail(scan, "no layer")) ||
        !tessi_scan_u32(scan, &session) || !tessi_scan_u32(scan, &id) || !tessi_scan_u32(scan, &op) ||
        !tessi_dtype_unpack(scan, &dtype)) {
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
