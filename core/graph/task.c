/* Everything about one task, computed from its layer: steps, inputs, dependents, cost, footprint. */
#include <math.h>

#include "core/base/assert.h"
#include "core/base/philox.h"
#include "core/graph/join.h"
#include "core/graph/layer.h"
#include "core/graph/refine.h"

/* A stretch of a table: the blocks of a task or the tasks of a block. */
struct run {
    const uint32_t *items;
    uint64_t count;
};

static struct run table_inputs(const struct tessi_table *table, uint64_t task)
{
    TESS_ASSERT(task < table->tasks);
    return (struct run){table->columns + table->rows[task], table->rows[task + 1] - table->rows[task]};
}

static struct run table_readers(struct tessi_table *table, uint64_t block)
{
    TESS_ASSERT(block < table->blocks);
    tessi_table_invert(table);
    return (struct run){table->inverse_columns + table->inverse_rows[block],
                        table->inverse_rows[block + 1] - table->inverse_rows[block]};
}

static void input_box(const struct tessi_layer *layer, uint32_t input, uint64_t index, struct tessi_box *box)
{
    uint64_t coords[TESSI_NDIM_MAX];
    TESS_ASSERT(input < layer->ninputs);
    if (tessi_layer_joins(layer)) {
        TESS_ASSERT(input == TESSI_JOIN_BLOCKS);
        tessi_join_blocks(layer, index, box);
        return;
    }
    tessi_grid_coords(&layer->grid, index, coords);
    tessi_rules_inputs(&layer->input[input].rules, &layer->input[input].grid, &layer->grid, coords, box);
}

static void reader_box(const struct tessi_layer *layer, uint32_t input, uint64_t block, struct tessi_box *box)
{
    uint64_t coords[TESSI_NDIM_MAX];
    TESS_ASSERT(input < layer->ninputs);
    if (tessi_layer_joins(layer)) {
        tessi_join_readers(layer, input, block, box);
        return;
    }
    tessi_grid_coords(&layer->input[input].grid, block, coords);
    tessi_rules_outputs(&layer->input[input].rules, &layer->input[input].grid, &layer->grid, coords, box);
}

static bool is_pieces(const struct tessi_layer *layer, uint32_t input)
{
    return tessi_layer_joins(layer) && input == TESSI_JOIN_PIECES;
}

static void visit_box(const struct tessi_grid *grid, const struct tessi_box *box, tessi_visit_fn *visit, void *context)
{
    if (tessi_box_volume(box) == 0) {
        return;
    }
    uint64_t coords[TESSI_NDIM_MAX];
    for (uint32_t d = 0; d < box->ndim; d++) {
        coords[d] = box->lo[d];
    }
    do {
        visit(context, tessi_grid_index(grid, coords));
    } while (tessi_box_next(box, coords));
}

static void visit_run(struct run run, tessi_visit_fn *visit, void *context)
{
    for (uint64_t i = 0; i < run.count; i++) {
        visit(context, run.items[i]);
    }
}

/* The block at place n of a box in row-major order. */
static uint64_t box_block(const struct tessi_grid *grid, const struct tessi_box *box, uint64_t n)
{
    uint64_t coords[TESSI_NDIM_MAX];
    for (uint32_t d = box->ndim; d-- > 0;) {
        uint64_t width = box->hi[d] - box->lo[d];
        coords[d] = box->lo[d] + n % width;
        n /= width;
    }
    TESS_ASSERT(n == 0);
    return tessi_grid_index(grid, coords);
}

/* What a matmul task contracts: axes of k, the segment, and its place in the output grid. */
struct contraction {
    const struct tessi_axis *a;
    const struct tessi_axis *b;
    int64_t lo, hi;
    uint64_t coords[TESSI_NDIM_MAX];
};

static struct contraction contraction_of(const struct tessi_layer *layer, uint64_t index)
{
    struct contraction c = {
        .a = &layer->input[0].grid.axis[layer->as.matmul.transpose_a ? 0 : 1],
        .b = &layer->input[1].grid.axis[layer->as.matmul.transpose_b ? 1 : 0],
    };
    tessi_grid_coords(&layer->grid, index, c.coords);
    c.hi = c.a->extent;
    if (layer->grid.ndim == 3) {
        c.lo = (int64_t)c.coords[2] * layer->as.matmul.segment;
        c.hi = c.hi - c.lo < layer->as.matmul.segment ? c.hi : c.lo + layer->as.matmul.segment;
    }
    return c;
}

static void product_step(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out)
{
    struct contraction c = contraction_of(layer, index);
    uint64_t steps = tessi_refine_count(c.a, c.b, c.lo, c.hi);
    TESS_ASSERT(step < steps);
    /* Neighbouring tasks begin at different panels, or every worker would fetch panel 0 first. */
    uint64_t rotated = (step + (c.coords[0] + c.coords[1]) % steps) % steps;
    struct tessi_piece piece = tessi_refine_piece(c.a, c.b, c.lo, c.hi, rotated);
    uint64_t a[2] = {c.coords[0], piece.a};
    uint64_t a_stored[2] = {piece.a, c.coords[0]};
    uint64_t b[2] = {piece.b, c.coords[1]};
    uint64_t b_stored[2] = {c.coords[1], piece.b};
    out->count = 2;
    out->ref[0].input = 0;
    out->ref[0].index = tessi_grid_index(&layer->input[0].grid, layer->as.matmul.transpose_a ? a_stored : a);
    out->ref[1].input = 1;
    out->ref[1].index = tessi_grid_index(&layer->input[1].grid, layer->as.matmul.transpose_b ? b_stored : b);
    out->k_lo = piece.lo;
    out->k_hi = piece.hi;
}

static void join_step(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out)
{
    uint64_t steps = tessi_join_steps(layer, index);
    TESS_ASSERT(step < steps || (step == 0 && steps == 0));
    if (steps > 0) {
        out->count = 1;
        out->ref[0] = tessi_join_step(layer, index, step);
    }
}

struct gather {
    struct tessi_step *step;
    uint32_t input;
};

static void gather_ref(void *context, uint64_t index)
{
    struct gather *gather = context;
    TESS_ASSERT(gather->step->count < TESSI_STEP_REFS_MAX);
    gather->step->ref[gather->step->count++] = (struct tessi_block_ref){gather->input, index};
}

/* ——— sequences of steps: how many, and each ——— */

static uint64_t one_count(const struct tessi_layer *layer, uint64_t index)
{
    (void)layer;
    (void)index;
    return 1;
}

static void one_step(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out)
{
    TESS_ASSERT(step == 0);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        struct gather gather = {out, i};
        tessi_task_inputs(layer, i, index, gather_ref, &gather);
    }
}

static uint64_t blocks_count(const struct tessi_layer *layer, uint64_t index)
{
    return tessi_task_input_count(layer, 0, index);
}

static void blocks_step(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out)
{
    struct tessi_box box;
    input_box(layer, 0, index, &box);
    uint64_t volume = tessi_box_volume(&box);
    TESS_ASSERT(step < volume || (step == 0 && volume == 0));
    if (volume > 0) {
        out->count = 1;
        out->ref[0] = (struct tessi_block_ref){0, box_block(&layer->input[0].grid, &box, step)};
    }
}

static uint64_t pieces_count(const struct tessi_layer *layer, uint64_t index)
{
    return tessi_layer_joins(layer) ? tessi_join_steps(layer, index) : blocks_count(layer, index);
}

static void pieces_step(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out)
{
    if (tessi_layer_joins(layer)) {
        join_step(layer, index, step, out);
    } else {
        blocks_step(layer, index, step, out);
    }
}

static uint64_t product_count(const struct tessi_layer *layer, uint64_t index)
{
    struct contraction c = contraction_of(layer, index);
    return tessi_refine_count(c.a, c.b, c.lo, c.hi);
}

static const struct sequence {
    uint64_t (*count)(const struct tessi_layer *layer, uint64_t index); /* 0: one that reads nothing */
    void (*step)(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out);
} sequences[TESSI_OP_COUNT] = {
#define TESSI_ROW(NAME, name, code, min, max, consume, steps, ...) [code] = {steps##_count, steps##_step},
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

uint32_t tessi_task_steps(const struct tessi_layer *layer, uint64_t index)
{
    uint64_t steps = sequences[layer->op].count(layer, index);
    TESS_ASSERT(steps <= UINT32_MAX);
    return steps > 0 ? (uint32_t)steps : 1;
}

void tessi_task_step(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out)
{
    out->count = 0;
    out->k_lo = 0;
    out->k_hi = 0;
    sequences[layer->op].step(layer, index, step, out);
}

enum few { NONE, ONE, BOX }; /* blocks or tasks; BOX: to be found in the general way */

/* The one block that the task reads of the input, when each rule names one chunk: the most common case. */
static enum few only_input(const struct tessi_layer *layer, uint32_t input, uint64_t index, uint64_t *block)
{
    const struct tessi_map_rules *rules = &layer->input[input].rules;
    const struct tessi_grid *grid = &layer->input[input].grid;
    uint64_t coords[TESSI_NDIM_MAX], at = 0;
    for (uint32_t d = 0; d < rules->ndim; d++) {
        enum tessi_rule_kind kind = rules->rule[d].kind;
        if (kind != TESSI_RULE_SAME && kind != TESSI_RULE_FIXED && kind != TESSI_RULE_OFFSET) {
            return BOX;
        }
    }
    tessi_grid_coords(&layer->grid, index, coords);
    for (uint32_t d = 0; d < rules->ndim; d++) {
        const struct tessi_rule *rule = &rules->rule[d];
        uint64_t base = rule->kind == TESSI_RULE_FIXED ? 0 : coords[rule->dim];
        uint64_t chunk = rule->kind == TESSI_RULE_SAME ? base : base + (uint64_t)rule->value; /* below 0: very large */
        if (chunk >= grid->axis[d].count) {
            return NONE;
        }
        at = at * grid->axis[d].count + chunk;
    }
    *block = at;
    return ONE;
}

/* Likewise the one task that reads the block, when each dimension of the output follows one of the input. */
static enum few only_reader(const struct tessi_layer *layer, uint32_t input, uint64_t block, uint64_t *task)
{
    const struct tessi_map_rules *rules = &layer->input[input].rules;
    const struct tessi_grid *grid = &layer->grid;
    uint64_t coords[TESSI_NDIM_MAX], to[TESSI_NDIM_MAX], at = 0;
    uint32_t followed = 0;
    for (uint32_t d = 0; d < rules->ndim; d++) {
        const struct tessi_rule *rule = &rules->rule[d];
        bool follows = rule->kind == TESSI_RULE_SAME || rule->kind == TESSI_RULE_OFFSET;
        if (!follows || (followed & 1u << rule->dim) != 0) {
            return BOX;
        }
        followed |= 1u << rule->dim;
    }
    if (rules->ndim != grid->ndim) {
        return BOX;
    }
    tessi_grid_coords(&layer->input[input].grid, block, coords);
    for (uint32_t d = 0; d < rules->ndim; d++) {
        const struct tessi_rule *rule = &rules->rule[d];
        to[rule->dim] = rule->kind == TESSI_RULE_SAME ? coords[d] : coords[d] - (uint64_t)rule->value;
    }
    for (uint32_t d = 0; d < grid->ndim; d++) {
        if (to[d] >= grid->axis[d].count) {
            return NONE;
        }
        at = at * grid->axis[d].count + to[d];
    }
    *task = at;
    return ONE;
}

void tessi_task_inputs(const struct tessi_layer *layer, uint32_t input, uint64_t index, tessi_visit_fn *visit,
                       void *context)
{
    uint64_t block;
    TESS_ASSERT(input < layer->ninputs);
    if (layer->input[input].rules.table != NULL) {
        visit_run(table_inputs(layer->input[input].rules.table, index), visit, context);
        return;
    }
    if (is_pieces(layer, input)) {
        tessi_join_pieces(layer, index, visit, context);
        return;
    }
    enum few few = only_input(layer, input, index, &block);
    if (few == ONE) {
        visit(context, block);
    } else if (few == BOX) {
        struct tessi_box box;
        input_box(layer, input, index, &box);
        visit_box(&layer->input[input].grid, &box, visit, context);
    }
}

uint64_t tessi_task_input_count(const struct tessi_layer *layer, uint32_t input, uint64_t index)
{
    TESS_ASSERT(input < layer->ninputs);
    if (layer->input[input].rules.table != NULL) {
        return table_inputs(layer->input[input].rules.table, index).count;
    }
    if (is_pieces(layer, input)) {
        return tessi_join_piece_count(layer, index);
    }
    uint64_t block;
    enum few few = only_input(layer, input, index, &block);
    if (few != BOX) {
        return few == ONE ? 1 : 0;
    }
    struct tessi_box box;
    input_box(layer, input, index, &box);
    return tessi_box_volume(&box);
}

void tessi_block_dependents(const struct tessi_layer *layer, uint32_t input, uint64_t block, tessi_visit_fn *visit,
                            void *context)
{
    TESS_ASSERT(input < layer->ninputs);
    if (layer->input[input].rules.table != NULL) {
        visit_run(table_readers(layer->input[input].rules.table, block), visit, context);
        return;
    }
    uint64_t task;
    enum few few = only_reader(layer, input, block, &task);
    if (few == ONE) {
        visit(context, task);
    } else if (few == BOX) {
        struct tessi_box box;
        reader_box(layer, input, block, &box);
        visit_box(&layer->grid, &box, visit, context);
    }
}

void tessi_block_some_dependents(const struct tessi_layer *layer, uint32_t input, uint64_t block, uint64_t first,
                                 uint64_t count, tessi_visit_fn *visit, void *context)
{
    struct tessi_box box;
    uint64_t coords[TESSI_NDIM_MAX];
    TESS_ASSERT(input < layer->ninputs);
    if (count == 0) {
        return;
    }
    if (layer->input[input].rules.table != NULL) {
        struct run run = table_readers(layer->input[input].rules.table, block);
        TESS_ASSERT(first <= run.count && count <= run.count - first);
        visit_run((struct run){run.items + first, count}, visit, context);
        return;
    }
    reader_box(layer, input, block, &box);
    TESS_ASSERT(count <= tessi_box_volume(&box) - first);
    tessi_grid_coords(&layer->grid, box_block(&layer->grid, &box, first), coords);
    do {
        visit(context, tessi_grid_index(&layer->grid, coords));
    } while (--count > 0 && tessi_box_next(&box, coords));
}

uint64_t tessi_block_dependent_count(const struct tessi_layer *layer, uint32_t input, uint64_t block)
{
    TESS_ASSERT(input < layer->ninputs);
    if (layer->input[input].rules.table != NULL) {
        return table_readers(layer->input[input].rules.table, block).count;
    }
    uint64_t task;
    enum few few = only_reader(layer, input, block, &task);
    if (few != BOX) {
        return few == ONE ? 1 : 0;
    }
    struct tessi_box box;
    reader_box(layer, input, block, &box);
    return tessi_box_volume(&box);
}

bool tessi_layer_reads_all(const struct tessi_layer *layer, uint32_t input)
{
    TESS_ASSERT(input < layer->ninputs);
    return !tessi_layer_joins(layer) && /* which reads less than its rules say */
           tessi_rules_read_all(&layer->input[input].rules, &layer->input[input].grid, &layer->grid);
}

/* Bytes that a task reads of one input: all blocks together, and at most in one of them. */
struct reads {
    uint64_t total;
    uint64_t largest;
};

static uint64_t longest_between(const struct tessi_axis *axis, uint64_t lo, uint64_t hi)
{
    /* Only the last chunk of a regular axis is shorter than the others. */
    uint64_t end = axis->bounds == NULL ? lo + 1 : hi;
    int64_t longest = 0;
    for (uint64_t c = lo; c < end; c++) {
        int64_t length = tessi_axis_hi(axis, c) - tessi_axis_lo(axis, c);
        longest = length > longest ? length : longest;
    }
    return (uint64_t)longest;
}

static struct reads table_reads(const struct tessi_input *input, uint64_t index)
{
    struct reads reads = {0, 0};
    struct run run = table_inputs(input->rules.table, index);
    for (uint64_t i = 0; i < run.count; i++) {
        uint64_t bytes = tessi_input_block_bytes(input, run.items[i]);
        reads.total += bytes;
        reads.largest = bytes > reads.largest ? bytes : reads.largest;
    }
    return reads;
}

static struct reads reads_of(const struct tessi_layer *layer, uint32_t i, uint64_t index)
{
    const struct tessi_input *input = &layer->input[i];
    if (is_pieces(layer, i)) {
        uint64_t bytes = tessi_join_piece_elements(layer, index) * tessi_dtype_size(input->dtype);
        return (struct reads){bytes, bytes};
    }
    if (input->rules.table != NULL) {
        return table_reads(input, index);
    }
    struct tessi_box box;
    input_box(layer, i, index, &box);
    if (tessi_box_volume(&box) == 0) {
        return (struct reads){0, 0};
    }
    struct reads reads = {tessi_dtype_size(input->dtype), tessi_dtype_size(input->dtype)};
    for (uint32_t d = 0; d < box.ndim; d++) {
        const struct tessi_axis *axis = &input->grid.axis[d];
        reads.total *= (uint64_t)(tessi_axis_hi(axis, box.hi[d] - 1) - tessi_axis_lo(axis, box.lo[d]));
        reads.largest *= longest_between(axis, box.lo[d], box.hi[d]);
    }
    return reads;
}

/* Philox and the elementary functions behind a normal deviate cost about so much an element. */
#define UNIFORM_FLOPS 10.0
#define NORMAL_FLOPS 40.0
/* A task by the clock is given the speed of one core on data in memory, until its time is measured. */
#define SYNTHETIC_FLOPS_PER_NANOSECOND 10.0

/* ——— floating-point operations of a task whose block has so many elements ——— */

#define FLOPS_PARAMETERS const struct tessi_layer *layer, uint64_t index, double elements

static double none_flops(FLOPS_PARAMETERS)
{
    (void)layer;
    (void)index;
    (void)elements;
    return 0.0;
}

static double arange_flops(FLOPS_PARAMETERS)
{
    (void)layer;
    (void)index;
    return 2.0 * elements;
}

static double uniform_flops(FLOPS_PARAMETERS)
{
    (void)layer;
    (void)index;
    return UNIFORM_FLOPS * elements;
}

static double normal_flops(FLOPS_PARAMETERS)
{
    (void)layer;
    (void)index;
    return NORMAL_FLOPS * elements;
}

static double program_flops(FLOPS_PARAMETERS)
{
    const struct tessi_program *program = &layer->as.program;
    double flops = 0;
    (void)index;
    for (uint32_t i = 0; i < program->count; i++) {
        flops += tessi_ewise_row(program->code[i].op)->cost;
    }
    return flops * elements;
}

static double reduce_flops(FLOPS_PARAMETERS)
{
    (void)elements;
    return tessi_fold_row(layer->as.reduce.fold)->flops * (double)reads_of(layer, 0, index).total /
           (double)(tessi_reduce_reads_records(layer) ? tessi_fold_record_bytes(layer->as.reduce.fold)
                                                      : (int64_t)tessi_dtype_size(layer->input[0].dtype));
}

static double product_flops(FLOPS_PARAMETERS)
{
    struct contraction c = contraction_of(layer, index);
    /* The third axis of a split product has one element a block, so `elements` is m·n here too.
     * A complex multiplication and addition are four of the real ones. */
    double each = tessi_dtype_kind(layer->dtype) == TESSI_KIND_COMPLEX ? 8.0 : 2.0;
    return each * elements * (double)(c.hi - c.lo);
}

static double synthetic_flops(FLOPS_PARAMETERS)
{
    (void)index;
    (void)elements;
    return SYNTHETIC_FLOPS_PER_NANOSECOND * (double)layer->as.synthetic.nanoseconds +
           (double)TESSI_SYNTHETIC_FLOPS * (double)layer->as.synthetic.iterations;
}

static double (*const flops_of[TESSI_OP_COUNT])(FLOPS_PARAMETERS) = {
#define TESSI_ROW(NAME, name, code, min, max, consume, steps, flops, ...) [code] = flops##_flops,
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

int64_t tessi_layer_work_along(const struct tessi_layer *layer, uint32_t d)
{
    TESS_ASSERT(d < layer->grid.ndim);
    return layer->op == TESSI_OP_MATMUL && d == 2 ? layer->as.matmul.segment : 1;
}

uint64_t tessi_synthetic_nanoseconds(const struct tessi_layer *layer, uint64_t index)
{
    double mean = (double)layer->as.synthetic.nanoseconds, spread = layer->as.synthetic.spread;
    if (spread == 0.0) {
        return layer->as.synthetic.nanoseconds;
    }
    uint32_t word[4];
    tessi_philox_element(layer->id, index, 0, word);
    /* Box and Muller; 1 − u is never 0. */
    double radius = sqrt(-2.0 * log(1.0 - tessi_philox_to_f64(word[0], word[1])));
    double normal = radius * cos(2.0 * 3.14159265358979323846 * tessi_philox_to_f64(word[2], word[3]));
    return (uint64_t)(mean * exp(spread * normal - spread * spread / 2.0));
}

struct tessi_cost tessi_task_cost(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_cost cost = {
        .flops = flops_of[layer->op](layer, index, (double)tessi_grid_block_elements(&layer->grid, index)),
        .bytes = (double)tessi_layer_block_bytes(layer, index),
    };
    enum tessi_file file = tessi_op_row(layer->op)->file;
    if (file == TESSI_FILE_READ) {
        cost.bytes *= 2.0; /* The file is read and the block is written. */
    }
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        cost.bytes += (double)reads_of(layer, i, index).total * (file == TESSI_FILE_WRITTEN ? 2.0 : 1.0);
    }
    return cost;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t footprint(const struct tessi_layer *layer, uint64_t index, uint64_t steps)
{
    uint64_t bytes = tessi_layer_block_bytes(layer, index);
    bool stream = tessi_op_row(layer->op)->consume == TESSI_CONSUME_STREAM;
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        struct reads reads = reads_of(layer, i, index);
        /* A block is below 2^63 bytes, so twice its size is a uint64_t still. */
        uint64_t window = reads.largest * steps;
        bytes = add_saturated(bytes, stream && window < reads.total ? window : reads.total);
    }
    return bytes;
}

uint64_t tessi_task_footprint(const struct tessi_layer *layer, uint64_t index)
{
    return footprint(layer, index, 2);
}

uint64_t tessi_task_least(const struct tessi_layer *layer, uint64_t index)
{
    return footprint(layer, index, 1);
}
