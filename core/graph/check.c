/* tessi_layer_check: what a layer from outside must satisfy before anything else may look at it. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/graph/join.h"
#include "core/graph/layer.h"

#define PATH_MAX_BYTES 4096
#define SYNTHETIC_NANOSECONDS_MAX UINT64_C(86400000000000) /* a day */
#define SYNTHETIC_SPREAD_MAX 2.0

static enum tessi_status invalid(const struct tessi_layer *layer, struct tessi_error *error, const char *why)
{
    return tessi_fail(error, TESSI_INVALID, "%s: %s", tessi_op_row(layer->op)->name, why);
}

static bool is_complex(enum tessi_dtype dtype)
{
    return tessi_dtype_kind(dtype) == TESSI_KIND_COMPLEX;
}

static bool scalar_valid(const struct tessi_scalar *scalar)
{
    uint32_t code = (uint32_t)scalar->dtype;
    return code == TESSI_BOOL || code == TESSI_I64 || code == TESSI_U64 || code == TESSI_F64 || code == TESSI_C128;
}

/* A scalar may be converted upwards only (an integer to a float), never lose its kind on the way. */
static enum tessi_status check_scalar(const struct tessi_layer *layer, const struct tessi_scalar *scalar,
                                      struct tessi_error *error)
{
    if (!scalar_valid(scalar)) {
        return tessi_fail(error, TESSI_INVALID, "%s: scalar of type %u: use one of bool, i64, u64, f64, c128",
                          tessi_op_row(layer->op)->name, (uint32_t)scalar->dtype);
    }
    enum tessi_kind from = tessi_dtype_kind(scalar->dtype);
    enum tessi_kind to = tessi_dtype_kind(layer->dtype);
    bool integers = from <= TESSI_KIND_UNSIGNED && to <= TESSI_KIND_UNSIGNED;
    if (from > to && !integers) {
        return tessi_fail(error, TESSI_INVALID, "%s: a scalar %s does not fit the type %s: choose a wider type",
                          tessi_op_row(layer->op)->name, tessi_dtype_name(scalar->dtype),
                          tessi_dtype_name(layer->dtype));
    }
    return TESSI_OK;
}

static enum tessi_status check_full(const struct tessi_layer *layer, struct tessi_error *error)
{
    return check_scalar(layer, &layer->as.full, error);
}

static enum tessi_status check_eye(const struct tessi_layer *layer, struct tessi_error *error)
{
    return layer->grid.ndim == 2 ? TESSI_OK : invalid(layer, error, "the result has two dimensions");
}

static enum tessi_status check_receive(const struct tessi_layer *layer, struct tessi_error *error)
{
    (void)layer;
    (void)error;
    return TESSI_OK;
}

static enum tessi_status check_arange(const struct tessi_layer *layer, struct tessi_error *error)
{
    if (layer->grid.ndim != 1) {
        return invalid(layer, error, "the result has one dimension: give a grid of one");
    }
    if (layer->as.arange.start.dtype != layer->as.arange.step.dtype) {
        return invalid(layer, error, "start and step have different types: convert one");
    }
    enum tessi_status status = check_scalar(layer, &layer->as.arange.start, error);
    return status != TESSI_OK ? status : check_scalar(layer, &layer->as.arange.step, error);
}

static enum tessi_status check_random(const struct tessi_layer *layer, struct tessi_error *error)
{
    double low = layer->as.random.low;
    double high = layer->as.random.high;
    if (tessi_dtype_kind(layer->dtype) != TESSI_KIND_FLOAT) {
        return invalid(layer, error, "random numbers are real floats: ask for a float type");
    }
    if (!isfinite(low) || !isfinite(high)) {
        return invalid(layer, error, "a parameter is not finite: give finite ones");
    }
    return TESSI_OK;
}

static enum tessi_status check_uniform(const struct tessi_layer *layer, struct tessi_error *error)
{
    double low = layer->as.random.low, high = layer->as.random.high;
    enum tessi_status status = check_random(layer, error);
    if (status == TESSI_OK && (high < low || !isfinite(high - low))) {
        return invalid(layer, error, "the interval is reversed or wider than f64: give low <= high");
    }
    return status;
}

static enum tessi_status check_normal(const struct tessi_layer *layer, struct tessi_error *error)
{
    enum tessi_status status = check_random(layer, error);
    if (status == TESSI_OK && layer->as.random.high < 0.0) {
        return invalid(layer, error, "the standard deviation is negative: give 0 or more");
    }
    return status;
}

static bool path_good(const char *path)
{
    return path != NULL && path[0] != '\0' && strnlen(path, PATH_MAX_BYTES) < PATH_MAX_BYTES;
}

static enum tessi_status check_read_npy(const struct tessi_layer *layer, struct tessi_error *error)
{
    const char *path = layer->as.npy.path;
    if (!path_good(path)) {
        return invalid(layer, error, "the path is empty or longer than 4095 bytes: name a file");
    }
    if (tessi_dtype_descr(layer->dtype) == NULL) {
        return invalid(layer, error, "files have no such element type as bf16: store it as f32");
    }
    uint64_t bytes = tessi_layer_bytes(layer);
    if (layer->as.npy.offset > layer->as.npy.file.bytes || bytes > layer->as.npy.file.bytes - layer->as.npy.offset) {
        return tessi_fail(error, TESSI_FORMAT,
                          "read_npy: %s: %" PRIu64 " bytes of elements from byte %" PRIu64
                          " on do not fit a file of %" PRIu64 " bytes: the file is cut short, write it again",
                          path, bytes, layer->as.npy.offset, layer->as.npy.file.bytes);
    }
    return TESSI_OK;
}

/* One element a block of the input. */
static enum tessi_status check_write_npy(const struct tessi_layer *layer, struct tessi_error *error)
{
    const struct tessi_input *input = &layer->input[0];
    if (!path_good(layer->as.write.path) || !path_good(layer->as.write.target)) {
        return invalid(layer, error, "a path is empty or longer than 4095 bytes: name a file");
    }
    if (tessi_dtype_descr(input->dtype) == NULL) {
        return invalid(layer, error, "files have no such element type as bf16: store it as f32");
    }
    if (layer->dtype != TESSI_BOOL || layer->grid.ndim != input->grid.ndim) {
        return invalid(layer, error, "the result is bool, and has as many dimensions as the input");
    }
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        const struct tessi_axis *axis = &layer->grid.axis[d];
        const struct tessi_rule *rule = &input->rules.rule[d];
        if (rule->kind != TESSI_RULE_SAME || rule->dim != d || axis->count != input->grid.axis[d].count ||
            (uint64_t)axis->extent != axis->count) {
            return invalid(layer, error, "the result has one element for each block of the input, in the same place");
        }
    }
    if (layer->as.write.offset > layer->as.write.bytes ||
        tessi_input_bytes(input) != layer->as.write.bytes - layer->as.write.offset) {
        return invalid(layer, error, "the elements do not fill the file");
    }
    return TESSI_OK;
}

/* Types of an elementwise program's operands, in their numbering. */
struct operands {
    uint32_t count;
    enum tessi_dtype dtype[TESSI_INPUTS_MAX + TESSI_CONSTANTS_MAX + TESSI_PROGRAM_MAX];
};

static enum tessi_status check_operand(const struct operands *operands, uint32_t number, uint32_t operand,
                                       enum tessi_dtype dtype, struct tessi_error *error)
{
    if (operand >= operands->count) {
        return tessi_fail(error, TESSI_INVALID,
                          "elementwise: instruction %u takes operand %u of %u: name an earlier one", number, operand,
                          operands->count);
    }
    if (is_complex(operands->dtype[operand]) && !is_complex(dtype) && dtype != TESSI_BOOL) {
        return tessi_fail(error, TESSI_INVALID,
                          "elementwise: instruction %u would drop imaginary parts (%s to %s): compute in a complex "
                          "type",
                          number, tessi_dtype_name(operands->dtype[operand]), tessi_dtype_name(dtype));
    }
    return TESSI_OK;
}

static enum tessi_status check_instruction(struct operands *operands, const struct tessi_instruction *instruction,
                                           uint32_t number, struct tessi_error *error)
{
    if ((uint32_t)instruction->op >= TESSI_EWISE_COUNT || !tessi_dtype_valid((uint32_t)instruction->dtype)) {
        return tessi_fail(error, TESSI_INVALID, "elementwise: instruction %u has operation %u or type %u unknown here",
                          number, (uint32_t)instruction->op, (uint32_t)instruction->dtype);
    }
    enum tessi_dtype computed_in;
    enum tessi_status status = tessi_ewise_choose(instruction->op, instruction->dtype, &computed_in, error);
    if (status == TESSI_OK && computed_in != instruction->dtype) {
        status = tessi_fail(error, TESSI_UNSUPPORTED, "%s of %s is computed in %s: give that type",
                            tessi_ewise_name(instruction->op), tessi_dtype_name(instruction->dtype),
                            tessi_dtype_name(computed_in));
    }
    if (status != TESSI_OK) {
        tessi_error_prefix(error, "elementwise: instruction %u", number);
        return status;
    }
    for (uint32_t i = 0; i < tessi_ewise_arity(instruction->op) && status == TESSI_OK; i++) {
        status = check_operand(operands, number, tessi_instruction_operand(instruction, i),
                               tessi_ewise_operand(instruction->op, i, instruction->dtype), error);
    }
    operands->dtype[operands->count++] = tessi_instruction_result(instruction);
    return status;
}

static enum tessi_status check_program(const struct tessi_layer *layer, struct tessi_error *error)
{
    const struct tessi_program *program = &layer->as.program;
    struct operands operands = {0};
    if (program->count < 1 || program->count > TESSI_PROGRAM_MAX || program->nconstants > TESSI_CONSTANTS_MAX ||
        program->code == NULL || (program->nconstants > 0 && program->constants == NULL)) {
        return tessi_fail(error, TESSI_INVALID,
                          "elementwise: program of %u instructions and %u constants: give 1 to %d and at most %d",
                          program->count, program->nconstants, TESSI_PROGRAM_MAX, TESSI_CONSTANTS_MAX);
    }
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        operands.dtype[operands.count++] = layer->input[i].dtype;
    }
    for (uint32_t i = 0; i < program->nconstants; i++) {
        if (!scalar_valid(&program->constants[i])) {
            return tessi_fail(error, TESSI_INVALID,
                              "elementwise: constant %u has type %u: use one of bool, i64, u64, f64, c128", i,
                              (uint32_t)program->constants[i].dtype);
        }
        operands.dtype[operands.count++] = program->constants[i].dtype;
    }
    for (uint32_t i = 0; i < program->count; i++) {
        enum tessi_status status = check_instruction(&operands, &program->code[i], i, error);
        if (status != TESSI_OK) {
            return status;
        }
    }
    if (tessi_instruction_result(&program->code[program->count - 1]) != layer->dtype) {
        return invalid(layer, error, "the last instruction's type is not the result's: convert with a copy");
    }
    return TESSI_OK;
}

static enum tessi_status check_elementwise(const struct tessi_layer *layer, struct tessi_error *error)
{
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        const struct tessi_input *input = &layer->input[i];
        if (input->grid.ndim > layer->grid.ndim) {
            return invalid(layer, error, "an input has more dimensions than the result: reshape it");
        }
        uint32_t missing = layer->grid.ndim - input->grid.ndim;
        for (uint32_t d = 0; d < input->grid.ndim; d++) {
            const struct tessi_rule *rule = &input->rules.rule[d];
            bool same = rule->kind == TESSI_RULE_SAME && rule->dim == d + missing &&
                        tessi_axis_equal(&input->grid.axis[d], &layer->grid.axis[d + missing]);
            bool broadcast = rule->kind == TESSI_RULE_FIXED && rule->value == 0 && input->grid.axis[d].extent == 1;
            if (!same && !broadcast) {
                return tessi_fail(error, TESSI_INVALID,
                                  "elementwise: input %u, dimension %u is neither chunked as the result's dimension %u "
                                  "nor of extent 1: rechunk it first",
                                  i, d, d + missing);
            }
        }
    }
    return check_program(layer, error);
}

/* The axis has one chunk of `unit` elements for each of what it had before. */
static bool is_cut_by(const struct tessi_axis *axis, int64_t unit)
{
    return unit == 1
               ? (uint64_t)axis->extent == axis->count
               : axis->bounds == NULL && axis->chunk == unit && (uint64_t)axis->extent == axis->count * (uint64_t)unit;
}

/* One input dimension of a reduction: `o` is the output dimension that a kept one becomes. */
static bool reduce_dim_good(const struct tessi_layer *layer, uint32_t d, uint32_t o)
{
    const struct tessi_axis *in = &layer->input[0].grid.axis[d];
    const struct tessi_rule *rule = &layer->input[0].rules.rule[d];
    bool first = (layer->as.reduce.axes & ((1u << d) - 1)) == 0;
    int64_t record = first ? tessi_fold_record_bytes(layer->as.reduce.fold) : 1;
    int64_t out_unit = tessi_reduce_makes_records(layer) ? record : 1;
    bool folded = (layer->as.reduce.axes >> d & 1u) != 0;
    if (!folded) {
        return rule->kind == TESSI_RULE_SAME && rule->dim == o && tessi_axis_equal(in, &layer->grid.axis[o]);
    }
    if (tessi_reduce_reads_records(layer) && !is_cut_by(in, record)) {
        return false;
    }
    if (!layer->as.reduce.keepdims) {
        return rule->kind == TESSI_RULE_ALL;
    }
    const struct tessi_axis *out = &layer->grid.axis[o];
    if (rule->kind == TESSI_RULE_ALL) {
        return out->extent == out_unit && is_cut_by(out, out_unit);
    }
    return rule->kind == TESSI_RULE_GROUP && rule->dim == o && is_cut_by(out, out_unit) &&
           out->count == (in->count - 1) / (uint64_t)rule->value + 1;
}

/* What a reduction reads and makes where partial results are numbers. */
static enum tessi_status check_number_types(const struct tessi_layer *layer, struct tessi_error *error)
{
    enum tessi_dtype from = layer->input[0].dtype;
    switch (tessi_fold_row(layer->as.reduce.fold)->state) {
    case TESSI_STATE_WIDE:
        return tessi_dtype_promote(from, layer->dtype) == layer->dtype
                   ? TESSI_OK
                   : invalid(layer, error, "the result's type must hold the input's: choose a wider one");
    case TESSI_STATE_KEPT:
        return from == layer->dtype ? TESSI_OK
                                    : invalid(layer, error, "min, max and their like keep the type of their input");
    case TESSI_STATE_TRUTH:
        return layer->dtype == TESSI_BOOL ? TESSI_OK : invalid(layer, error, "the result is bool: name that");
    case TESSI_STATE_RECORD:
        break;
    }
    return invalid(layer, error, "unknown kind of state");
}

/* Likewise where they are records: u8 between the first layer and the last. */
static enum tessi_status check_record_types(const struct tessi_layer *layer, struct tessi_error *error)
{
    enum tessi_dtype from = layer->as.reduce.from;
    enum tessi_dtype in = layer->as.reduce.lifts ? from : TESSI_U8;
    enum tessi_dtype out = layer->as.reduce.finishes ? tessi_fold_result(layer->as.reduce.fold, from) : TESSI_U8;
    if (layer->input[0].dtype != in || layer->dtype != out) {
        return tessi_fail(error, TESSI_INVALID, "reduce: %s of %s reads %s here and makes %s, not %s and %s",
                          tessi_fold_row(layer->as.reduce.fold)->name, tessi_dtype_name(from), tessi_dtype_name(in),
                          tessi_dtype_name(out), tessi_dtype_name(layer->input[0].dtype),
                          tessi_dtype_name(layer->dtype));
    }
    return TESSI_OK;
}

/* Records lie in a folded axis, and are finished where all have been joined. */
static enum tessi_status check_record_form(const struct tessi_layer *layer, struct tessi_error *error)
{
    bool between = !layer->as.reduce.lifts || !layer->as.reduce.finishes;
    if (between && (layer->as.reduce.axes == 0 || (!layer->as.reduce.finishes && !layer->as.reduce.keepdims))) {
        return invalid(layer, error, "records lie in a folded axis: fold one and keep it until the last layer");
    }
    for (uint32_t d = 0; layer->as.reduce.finishes && d < layer->input[0].grid.ndim; d++) {
        if ((layer->as.reduce.axes >> d & 1u) != 0 && layer->input[0].grid.axis[d].count != 1) {
            return invalid(layer, error, "a result is finished from one block: join the others first");
        }
    }
    return TESSI_OK;
}

static enum tessi_status check_fold_types(const struct tessi_layer *layer, struct tessi_error *error)
{
    enum tessi_fold fold = layer->as.reduce.fold;
    bool records = tessi_fold_row(fold)->state == TESSI_STATE_RECORD;
    if (!tessi_fold_takes(fold, records ? layer->as.reduce.from : layer->input[0].dtype)) {
        return tessi_fail(error, TESSI_INVALID, "reduce: complex numbers have no order: take the %s of a real part",
                          tessi_fold_row(fold)->name);
    }
    return records ? check_record_types(layer, error) : check_number_types(layer, error);
}

static enum tessi_status check_reduce(const struct tessi_layer *layer, struct tessi_error *error)
{
    const struct tessi_grid *in = &layer->input[0].grid;
    uint32_t axes = layer->as.reduce.axes;
    if (axes >> in->ndim != 0) {
        return invalid(layer, error, "a folded axis does not exist: name axes of the input");
    }
    if (!tessi_fold_valid((uint32_t)layer->as.reduce.fold)) {
        return invalid(layer, error, "unknown fold: use one of the table");
    }
    if (!tessi_dtype_valid((uint32_t)layer->as.reduce.from)) {
        return invalid(layer, error, "unknown type of the elements: give one of the table");
    }
    bool records = tessi_fold_row(layer->as.reduce.fold)->state == TESSI_STATE_RECORD;
    uint32_t kept = 0;
    bool empty_fold = false;
    for (uint32_t d = 0; d < in->ndim; d++) {
        kept += (axes >> d & 1u) == 0 ? 1 : 0;
        empty_fold = empty_fold || ((axes >> d & 1u) != 0 && in->axis[d].extent == 0);
    }
    if (layer->grid.ndim != (layer->as.reduce.keepdims ? in->ndim : kept)) {
        return invalid(layer, error, "the result has another number of dimensions than the axes leave");
    }
    uint32_t o = 0;
    for (uint32_t d = 0; d < in->ndim; d++) {
        bool folded = (axes >> d & 1u) != 0;
        if (!reduce_dim_good(layer, d, layer->as.reduce.keepdims ? d : o)) {
            return tessi_fail(error, TESSI_INVALID,
                              "reduce: input dimension %u: its rule or the result's chunks do not follow the %s axis",
                              d, folded ? "folded" : "kept");
        }
        o += folded ? 0 : 1;
    }
    double nothing;
    bool has_value = !records && tessi_fold_of_nothing(layer->as.reduce.fold, &nothing);
    if (empty_fold && !has_value && tessi_layer_bytes(layer) > 0) {
        return tessi_fail(error, TESSI_INVALID, "reduce: no elements have no %s: give a non-empty axis",
                          tessi_fold_row(layer->as.reduce.fold)->name);
    }
    enum tessi_status status = check_fold_types(layer, error);
    return status == TESSI_OK && records ? check_record_form(layer, error) : status;
}

static enum tessi_status check_transpose(const struct tessi_layer *layer, struct tessi_error *error)
{
    const struct tessi_input *input = &layer->input[0];
    uint32_t seen = 0;
    if (input->grid.ndim != layer->grid.ndim || input->dtype != layer->dtype) {
        return invalid(layer, error, "input and result differ in type or number of dimensions");
    }
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        uint32_t axis = layer->as.transpose.axis[d];
        if (axis >= layer->grid.ndim || (seen >> axis & 1u) != 0) {
            return invalid(layer, error, "the axes are not a permutation: name each once");
        }
        seen |= 1u << axis;
        const struct tessi_rule *rule = &input->rules.rule[axis];
        if (rule->kind != TESSI_RULE_SAME || rule->dim != d ||
            !tessi_axis_equal(&input->grid.axis[axis], &layer->grid.axis[d])) {
            return invalid(layer, error, "rules or chunks do not follow the permutation");
        }
    }
    return TESSI_OK;
}

static enum tessi_status check_regrid(const struct tessi_layer *layer, struct tessi_error *error)
{
    const struct tessi_input *input = &layer->input[0];
    if (input->grid.ndim != layer->grid.ndim || input->dtype != layer->dtype) {
        return invalid(layer, error, "input and result differ in type or number of dimensions");
    }
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        const struct tessi_rule *rule = &input->rules.rule[d];
        if (rule->kind != TESSI_RULE_SLICE || rule->dim != d || rule->start != layer->as.regrid.start[d] ||
            rule->step != layer->as.regrid.step[d]) {
            return invalid(layer, error, "an index rule is not the slice of its own dimension");
        }
    }
    if (tessi_layer_joins(layer) && !tessi_join_check(layer)) {
        return invalid(layer, error,
                       "the second input does not hold the pieces of the first: its chunks end where those "
                       "of either end");
    }
    return TESSI_OK;
}

/* One operand of a product: `kept` is its axis in the output grid, `contracted` that of k. */
static bool operand_good(const struct tessi_layer *layer, uint32_t i, uint32_t kept, uint32_t contracted)
{
    const struct tessi_input *input = &layer->input[i];
    const struct tessi_rule *rule = &input->rules.rule[kept];
    const struct tessi_rule *k_rule = &input->rules.rule[contracted];
    if (rule->kind != TESSI_RULE_SAME || rule->dim != i ||
        !tessi_axis_equal(&input->grid.axis[kept], &layer->grid.axis[i])) {
        return false;
    }
    return layer->grid.ndim == 2
               ? k_rule->kind == TESSI_RULE_ALL
               : k_rule->kind == TESSI_RULE_SEGMENT && k_rule->dim == 2 && k_rule->value == layer->as.matmul.segment;
}

static enum tessi_status check_matmul(const struct tessi_layer *layer, struct tessi_error *error)
{
    const struct tessi_grid *a = &layer->input[0].grid;
    const struct tessi_grid *b = &layer->input[1].grid;
    if (a->ndim != 2 || b->ndim != 2 || (layer->grid.ndim != 2 && layer->grid.ndim != 3)) {
        return invalid(layer, error, "operands have two dimensions and the result two, or three when k is split");
    }
    enum tessi_dtype from = layer->input[0].dtype;
    if (layer->input[1].dtype != from || (layer->dtype != from && layer->dtype != tessi_dtype_accumulator(from))) {
        return invalid(layer, error, "operands and result have different types: convert the operands first");
    }
    if ((uint32_t)layer->as.matmul.compute >= TESSI_COMPUTE_COUNT ||
        (layer->as.matmul.compute != TESSI_COMPUTE_NATIVE && from != TESSI_F32)) {
        return invalid(layer, error, "tf32 is a way to multiply f32 matrices: compute other types natively");
    }
    uint32_t k_a = layer->as.matmul.transpose_a ? 0 : 1;
    uint32_t k_b = layer->as.matmul.transpose_b ? 1 : 0;
    const struct tessi_axis *k = &a->axis[k_a];
    int64_t segment = layer->as.matmul.segment;
    if (k->extent != b->axis[k_b].extent) {
        return tessi_fail(error, TESSI_INVALID,
                          "matmul: inner dimensions differ (%" PRId64 " and %" PRId64 "): transpose an operand",
                          k->extent, b->axis[k_b].extent);
    }
    if (layer->grid.ndim == 2 && segment < k->extent) {
        return invalid(layer, error, "the segment is shorter than k but the result has no third axis");
    }
    if (layer->grid.ndim == 3) {
        const struct tessi_axis *split = &layer->grid.axis[2];
        if (segment < 1 || k->extent < 1 || (uint64_t)split->extent != split->count ||
            split->count != (uint64_t)((k->extent - 1) / segment) + 1) {
            return invalid(layer, error, "the third axis has not one chunk of one element for each segment of k");
        }
    }
    if (!operand_good(layer, 0, 1 - k_a, k_a) || !operand_good(layer, 1, 1 - k_b, k_b)) {
        return invalid(layer, error, "an operand's rules or chunks do not follow the result's: rechunk it");
    }
    if (k->count > INT32_MAX || b->axis[k_b].count > INT32_MAX) {
        return invalid(layer, error, "k has too many chunks: choose larger ones");
    }
    return TESSI_OK;
}

static enum tessi_status check_synthetic(const struct tessi_layer *layer, struct tessi_error *error)
{
    uint64_t refs = 0;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        const struct tessi_input *input = &layer->input[i];
        uint64_t width = tessi_rules_width(&input->rules, &input->grid, &layer->grid);
        refs = width > TESSI_STEP_REFS_MAX ? UINT32_MAX : refs + width;
        if (input->rules.table != NULL && layer->grid.ndim != 1) {
            return invalid(layer, error, "an explicit table needs a grid of one dimension");
        }
    }
    if (refs > TESSI_STEP_REFS_MAX) {
        return tessi_fail(error, TESSI_TOO_BIG, "synthetic: a task may read more than %d blocks: group them in a tree",
                          TESSI_STEP_REFS_MAX);
    }
    if (layer->as.synthetic.nanoseconds > SYNTHETIC_NANOSECONDS_MAX) {
        return invalid(layer, error, "a task would run for more than a day: shorten it");
    }
    if (layer->as.synthetic.iterations > SYNTHETIC_NANOSECONDS_MAX || !(layer->as.synthetic.spread >= 0.0) ||
        layer->as.synthetic.spread > SYNTHETIC_SPREAD_MAX) {
        return invalid(layer, error, "iterations or spread are out of range: a day of one, 0 to 2 of the other");
    }
    return TESSI_OK;
}

static enum tessi_status (*const checks[TESSI_OP_COUNT])(const struct tessi_layer *layer, struct tessi_error *error) = {
#define TESSI_ROW(NAME, name, code, ...) [code] = check_##name,
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

/* Tasks of one layer that read each other: each reads lower indices only, so the layer's own order is a topological
 * one. Rules do so when the first dimension that they shift is shifted back. */
static enum tessi_status check_self(const struct tessi_layer *layer, const struct tessi_input *input,
                                    struct tessi_error *error)
{
    const struct tessi_table *table = input->rules.table;
    if (input->dtype != layer->dtype || !tessi_grid_equal(&input->grid, &layer->grid)) {
        return tessi_fail(error, TESSI_INVALID,
                          "a layer that reads itself differs from its own input in type or chunks: make them equal");
    }
    if (table != NULL) {
        for (uint64_t task = 0; task < table->tasks; task++) {
            uint64_t end = table->rows[task + 1];
            if (end > table->rows[task] && table->columns[end - 1] >= task) {
                return tessi_fail(error, TESSI_INVALID,
                                  "task %" PRIu64 " reads its own or a later block: tasks of one layer read lower "
                                  "indices only",
                                  task);
            }
        }
        return TESSI_OK;
    }
    int64_t first_shift = 0;
    for (uint32_t d = 0; d < input->rules.ndim; d++) {
        const struct tessi_rule *rule = &input->rules.rule[d];
        bool follows = (rule->kind == TESSI_RULE_SAME || rule->kind == TESSI_RULE_OFFSET) && rule->dim == d;
        if (!follows) {
            return tessi_fail(error, TESSI_INVALID,
                              "dimension %u of a layer that reads itself: only an offset along it keeps an order", d);
        }
        if (first_shift == 0 && rule->kind == TESSI_RULE_OFFSET) {
            first_shift = rule->value;
        }
    }
    return first_shift < 0 ? TESSI_OK
                           : tessi_fail(error, TESSI_INVALID,
                                        "a layer that reads itself must read lower indices: make the first offset "
                                        "that is not 0 negative");
}

static enum tessi_status check_input(const struct tessi_layer *layer, uint32_t i, struct tessi_error *error)
{
    const struct tessi_input *input = &layer->input[i];
    if (!tessi_dtype_valid((uint32_t)input->dtype)) {
        return tessi_fail(error, TESSI_INVALID, "unknown element type %u: give one of the table",
                          (uint32_t)input->dtype);
    }
    if (layer->reads[i] == layer->id && layer->op != TESSI_OP_SYNTHETIC) {
        return tessi_fail(error, TESSI_INVALID, "a layer cannot read itself: name an earlier one");
    }
    enum tessi_status status = tessi_grid_check(&input->grid, error);
    if (status != TESSI_OK) {
        return status;
    }
    if (input->rules.table != NULL && layer->op != TESSI_OP_SYNTHETIC) {
        return tessi_fail(error, TESSI_INVALID, "only synthetic layers take an explicit table: use index rules");
    }
    status = tessi_rules_check(&input->rules, &input->grid, &layer->grid, error);
    if (status != TESSI_OK) {
        return status;
    }
    if (layer->reads[i] == layer->id) {
        status = check_self(layer, input, error);
        if (status != TESSI_OK) {
            return status;
        }
    }
    /* A task counts its steps in 32 bits. */
    if (tessi_rules_width(&input->rules, &input->grid, &layer->grid) > UINT32_MAX) {
        return tessi_fail(error, TESSI_TOO_BIG, "a task would read more than %u blocks: choose larger chunks",
                          UINT32_MAX);
    }
    return TESSI_OK;
}

static enum tessi_status check_layer(const struct tessi_layer *layer, struct tessi_error *error)
{
    if (!tessi_op_valid((uint32_t)layer->op)) {
        return tessi_fail(error, TESSI_INVALID, "unknown operation %u: client and scheduler differ in version",
                          (uint32_t)layer->op);
    }
    if (!tessi_dtype_valid((uint32_t)layer->dtype)) {
        return tessi_fail(error, TESSI_INVALID, "unknown element type %u: client and scheduler differ in version",
                          (uint32_t)layer->dtype);
    }
    const struct tessi_op_row *row = tessi_op_row(layer->op);
    if (layer->ninputs < row->min_inputs || layer->ninputs > row->max_inputs) {
        return tessi_fail(error, TESSI_INVALID, "%s takes %u to %u inputs, not %u", row->name, row->min_inputs,
                          row->max_inputs, layer->ninputs);
    }
    enum tessi_status status = tessi_grid_check(&layer->grid, error);
    if (status != TESSI_OK) {
        return status;
    }
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        status = check_input(layer, i, error);
        if (status != TESSI_OK) {
            tessi_error_prefix(error, "%s, input %u", row->name, i);
            return status;
        }
    }
    status = tessi_task_options_check(layer->task_options, error);
    return status != TESSI_OK ? status : checks[layer->op](layer, error);
}

enum tessi_status tessi_layer_check(const struct tessi_layer *layer, struct tessi_error *error)
{
    enum tessi_status status = check_layer(layer, error);
    if (status != TESSI_OK) {
        tessi_error_prefix(error, "layer %u", layer->id);
    }
    return status;
}
