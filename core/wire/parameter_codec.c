#include "core/wire/parameter_codec.h"

#include "core/base/alloc.h"
#include "core/wire/layer_codec.h"
#include "core/wire/pack.h"

/* A scalar is [dtype, value …]: two values when it is complex. */

bool tessi_dtype_unpack(struct tessi_scan *scan, enum tessi_dtype *dtype)
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

static bool unpack_scalar(struct tessi_scan *scan, struct tessi_scalar *scalar)
{
    uint32_t count;
    if (!tessi_scan_array(scan, &count) || !tessi_dtype_unpack(scan, &scalar->dtype)) {
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
    if (!tessi_dtype_unpack(scan, &instruction->dtype)) {
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

/* ——— a writer and a reader for each kind of operation ——— */

static void pack_receive(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    (void)layer;
    tessi_pack_array(buffer, 0);
}

static bool unpack_receive(struct tessi_scan *scan, struct tessi_layer *layer)
{
    (void)layer;
    return tessi_scan_array_of(scan, 0);
}

static void pack_full(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 1);
    pack_scalar(buffer, &layer->as.full);
}

static bool unpack_full(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return tessi_scan_array_of(scan, 1) && unpack_scalar(scan, &layer->as.full);
}

static void pack_arange(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 2);
    pack_scalar(buffer, &layer->as.arange.start);
    pack_scalar(buffer, &layer->as.arange.step);
}

static bool unpack_arange(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return tessi_scan_array_of(scan, 2) && unpack_scalar(scan, &layer->as.arange.start) &&
           unpack_scalar(scan, &layer->as.arange.step);
}

static void pack_eye(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 1);
    tessi_pack_i64(buffer, layer->as.eye.diagonal);
}

static bool unpack_eye(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return tessi_scan_array_of(scan, 1) && tessi_scan_i64(scan, &layer->as.eye.diagonal);
}

static void pack_uniform(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 3);
    tessi_pack_u64(buffer, layer->as.random.seed);
    tessi_pack_f64(buffer, layer->as.random.low);
    tessi_pack_f64(buffer, layer->as.random.high);
}

static bool unpack_uniform(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return tessi_scan_array_of(scan, 3) && tessi_scan_u64(scan, &layer->as.random.seed) &&
           tessi_scan_f64(scan, &layer->as.random.low) && tessi_scan_f64(scan, &layer->as.random.high);
}

static void pack_normal(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    pack_uniform(buffer, layer);
}

static bool unpack_normal(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return unpack_uniform(scan, layer);
}

static void pack_read_npy(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 7);
    tessi_pack_text(buffer, layer->as.npy.path, TESSI_PATH_MAX);
    tessi_pack_u64(buffer, layer->as.npy.offset);
    tessi_pack_u64(buffer, layer->as.npy.file.bytes);
    tessi_pack_u64(buffer, layer->as.npy.file.inode);
    tessi_pack_i64(buffer, layer->as.npy.file.modified_ns);
    tessi_pack_i64(buffer, layer->as.npy.file.changed_ns);
    tessi_pack_bool(buffer, layer->as.npy.swapped);
}

static bool unpack_read_npy(struct tessi_scan *scan, struct tessi_layer *layer)
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

static void pack_write_npy(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 7);
    tessi_pack_text(buffer, layer->as.write.path, TESSI_PATH_MAX);
    tessi_pack_text(buffer, layer->as.write.target, TESSI_PATH_MAX);
    tessi_pack_u64(buffer, layer->as.write.offset);
    tessi_pack_u64(buffer, layer->as.write.bytes);
    tessi_pack_u64(buffer, layer->as.write.token[0]);
    tessi_pack_u64(buffer, layer->as.write.token[1]);
    tessi_pack_u64(buffer, layer->as.write.host);
}

static bool unpack_write_npy(struct tessi_scan *scan, struct tessi_layer *layer)
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

static void pack_elementwise(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    pack_program(buffer, &layer->as.program);
}

static bool unpack_elementwise(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return unpack_program(scan, &layer->as.program);
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
    return fields == 3 ||
           (tessi_dtype_unpack(scan, &layer->as.reduce.from) && tessi_scan_bool(scan, &layer->as.reduce.lifts) &&
            tessi_scan_bool(scan, &layer->as.reduce.finishes) && tessi_scan_f64(scan, &layer->as.reduce.parameter));
}

static void pack_transpose(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    uint32_t ndim = layer->grid.ndim;
    tessi_pack_array(buffer, ndim);
    for (uint32_t d = 0; d < ndim; d++) {
        tessi_pack_u64(buffer, layer->as.transpose.axis[d]);
    }
}

static bool unpack_transpose(struct tessi_scan *scan, struct tessi_layer *layer)
{
    bool ok = tessi_scan_array_of(scan, layer->grid.ndim);
    for (uint32_t d = 0; ok && d < layer->grid.ndim; d++) {
        ok = tessi_scan_u32(scan, &layer->as.transpose.axis[d]);
    }
    return ok;
}

static void pack_regrid(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    uint32_t ndim = layer->grid.ndim;
    tessi_pack_array(buffer, 2 * (size_t)ndim);
    for (uint32_t d = 0; d < ndim; d++) {
        tessi_pack_i64(buffer, layer->as.regrid.start[d]);
        tessi_pack_i64(buffer, layer->as.regrid.step[d]);
    }
}

static bool unpack_regrid(struct tessi_scan *scan, struct tessi_layer *layer)
{
    bool ok = tessi_scan_array_of(scan, 2 * layer->grid.ndim);
    for (uint32_t d = 0; ok && d < layer->grid.ndim; d++) {
        ok = tessi_scan_i64(scan, &layer->as.regrid.start[d]) && tessi_scan_i64(scan, &layer->as.regrid.step[d]);
    }
    return ok;
}

static void pack_matmul(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 4);
    tessi_pack_bool(buffer, layer->as.matmul.transpose_a);
    tessi_pack_bool(buffer, layer->as.matmul.transpose_b);
    tessi_pack_i64(buffer, layer->as.matmul.segment);
    tessi_pack_u64(buffer, (uint64_t)layer->as.matmul.compute);
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

static void pack_synthetic(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    tessi_pack_array(buffer, 5);
    tessi_pack_u64(buffer, layer->as.synthetic.nanoseconds);
    tessi_pack_bool(buffer, layer->as.synthetic.spin);
    tessi_pack_u64(buffer, layer->as.synthetic.iterations);
    tessi_pack_f64(buffer, layer->as.synthetic.spread);
    tessi_pack_u64(buffer, layer->as.synthetic.pin);
}

static bool unpack_synthetic(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return tessi_scan_array_of(scan, 5) && tessi_scan_u64(scan, &layer->as.synthetic.nanoseconds) &&
           tessi_scan_bool(scan, &layer->as.synthetic.spin) && tessi_scan_u64(scan, &layer->as.synthetic.iterations) &&
           tessi_scan_f64(scan, &layer->as.synthetic.spread) && tessi_scan_u32(scan, &layer->as.synthetic.pin);
}

static const struct codec {
    void (*pack)(struct tessi_buffer *buffer, const struct tessi_layer *layer);
    bool (*unpack)(struct tessi_scan *scan, struct tessi_layer *layer);
} codecs[TESSI_OP_COUNT] = {
#define TESSI_ROW(NAME, name, code, ...) [code] = {pack_##name, unpack_##name},
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

void tessi_parameters_pack(struct tessi_buffer *buffer, const struct tessi_layer *layer)
{
    codecs[layer->op].pack(buffer, layer);
}

bool tessi_parameters_unpack(struct tessi_scan *scan, struct tessi_layer *layer)
{
    return codecs[layer->op].unpack(scan, layer);
}
