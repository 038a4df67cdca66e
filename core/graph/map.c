#include "core/graph/map.h"

#include <inttypes.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"

/* Farther offsets than any grid has chunks would only serve to overflow. */
#define OFFSET_MAX (INT64_C(1) << 60)

struct interval {
    uint64_t lo;
    uint64_t hi;
};

static const struct interval nothing = {0, 0};

static uint64_t multiply_saturated(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct interval single(int64_t chunk, uint64_t count)
{
    if (chunk < 0 || (uint64_t)chunk >= count) {
        return nothing;
    }
    return (struct interval){(uint64_t)chunk, (uint64_t)chunk + 1};
}

/* The chunks that hold the elements from `first` to `last`, both included and inside the axis. */
static struct interval covering(const struct tessi_axis *axis, int64_t first, int64_t last)
{
    return (struct interval){tessi_axis_find(axis, first), tessi_axis_find(axis, last) + 1};
}

static struct interval segment_chunks(const struct tessi_axis *in, uint64_t segment, int64_t length)
{
    uint64_t lo = multiply_saturated(segment, (uint64_t)length);
    if (lo >= (uint64_t)in->extent) {
        return nothing;
    }
    uint64_t hi = smaller(add_saturated(lo, (uint64_t)length), (uint64_t)in->extent);
    return covering(in, (int64_t)lo, (int64_t)hi - 1);
}

static struct interval slice_chunks(const struct tessi_rule *rule, const struct tessi_axis *in,
                                    const struct tessi_axis *out, uint64_t c)
{
    int64_t lo = tessi_axis_lo(out, c);
    int64_t hi = tessi_axis_hi(out, c);
    if (lo == hi) {
        return nothing;
    }
    return covering(in, rule->start + rule->step * lo, rule->start + rule->step * (hi - 1));
}

static struct interval forward(const struct tessi_rule *rule, const struct tessi_axis *in,
                               const struct tessi_grid *out, const uint64_t *out_coords)
{
    switch (rule->kind) {
    case TESSI_RULE_SAME:
        return single((int64_t)out_coords[rule->dim], in->count);
    case TESSI_RULE_FIXED:
        return single(rule->value, in->count);
    case TESSI_RULE_ALL:
        return (struct interval){0, in->count};
    case TESSI_RULE_GROUP: {
        uint64_t lo = multiply_saturated(out_coords[rule->dim], (uint64_t)rule->value);
        if (lo >= in->count) {
            return nothing;
        }
        return (struct interval){lo, smaller(add_saturated(lo, (uint64_t)rule->value), in->count)};
    }
    case TESSI_RULE_SLICE:
        return slice_chunks(rule, in, &out->axis[rule->dim], out_coords[rule->dim]);
    case TESSI_RULE_SEGMENT:
        return segment_chunks(in, out_coords[rule->dim], rule->value);
    case TESSI_RULE_OFFSET:
        return single((int64_t)out_coords[rule->dim] + rule->value, in->count);
    }
    TESS_ASSERT(false);
    return nothing;
}

/* ceil(a / b) for b > 0 and any a. */
static int64_t divide_up(int64_t a, int64_t b)
{
    return a / b + (a % b > 0);
}

/* The output chunks whose span of input elements, from their first to their last, touches the input
 * chunk. This is the inverse of the forward interval and not of single elements: a chunk between two
 * strides counts as read when the task's interval runs across it. */
static struct interval slice_readers(const struct tessi_rule *rule, const struct tessi_axis *in,
                                     const struct tessi_axis *out, uint64_t c)
{
    int64_t first = divide_up(tessi_axis_lo(in, c) - rule->start, rule->step);
    int64_t last = divide_up(tessi_axis_hi(in, c) - rule->start, rule->step) - 1;
    first = first > 0 ? first : 0;
    last = last < out->extent ? last : out->extent - 1;
    if (first >= out->extent || last < 0 || in->extent == 0) {
        return nothing;
    }
    struct interval readers = {tessi_axis_find(out, first), tessi_axis_find(out, last) + 1};
    return readers.lo < readers.hi ? readers : nothing;
}

static struct interval segment_readers(const struct tessi_rule *rule, const struct tessi_axis *in,
                                       const struct tessi_axis *out, uint64_t c)
{
    int64_t lo = tessi_axis_lo(in, c);
    int64_t hi = tessi_axis_hi(in, c);
    if (lo == hi) {
        return nothing;
    }
    uint64_t first = (uint64_t)(lo / rule->value);
    uint64_t last = (uint64_t)((hi - 1) / rule->value);
    if (first >= out->count) {
        return nothing;
    }
    return (struct interval){first, smaller(last + 1, out->count)};
}

/* The chunks of the rule's output dimension that read chunk `c`. FIXED and ALL do not depend on the
 * output: they answer with everything, through `free`, or with nothing. */
static struct interval backward(const struct tessi_rule *rule, const struct tessi_axis *in,
                                const struct tessi_grid *out, uint64_t c, bool *free)
{
    *free = false;
    switch (rule->kind) {
    case TESSI_RULE_SAME:
        return single((int64_t)c, out->axis[rule->dim].count);
    case TESSI_RULE_FIXED:
        *free = (int64_t)c == rule->value;
        return nothing;
    case TESSI_RULE_ALL:
        *free = true;
        return nothing;
    case TESSI_RULE_GROUP:
        return single((int64_t)(c / (uint64_t)rule->value), out->axis[rule->dim].count);
    case TESSI_RULE_SLICE:
        return slice_readers(rule, in, &out->axis[rule->dim], c);
    case TESSI_RULE_SEGMENT:
        return segment_readers(rule, in, &out->axis[rule->dim], c);
    case TESSI_RULE_OFFSET:
        return single((int64_t)c - rule->value, out->axis[rule->dim].count);
    }
    TESS_ASSERT(false);
    return nothing;
}

struct tessi_table *tessi_table_create(uint64_t tasks, uint64_t blocks, const uint32_t *rows, const uint32_t *columns)
{
    struct tessi_table *table = tessi_zalloc(sizeof *table);
    table->tasks = tasks;
    table->blocks = blocks;
    table->rows = tessi_memdup(rows, (size_t)(tasks + 1) * sizeof *rows);
    table->columns = tessi_memdup(columns, (size_t)rows[tasks] * sizeof *columns);
    return table;
}

void tessi_table_destroy(struct tessi_table *table)
{
    if (table == NULL) {
        return;
    }
    tessi_free(table->rows);
    tessi_free(table->columns);
    tessi_free(table->inverse_rows);
    tessi_free(table->inverse_columns);
    tessi_free(table);
}

void tessi_table_invert(struct tessi_table *table)
{
    if (table->inverse_rows != NULL) {
        return;
    }
    uint64_t entries = table->rows[table->tasks];
    uint32_t *rows = tessi_zalloc((size_t)(table->blocks + 2) * sizeof *rows);
    uint32_t *columns = tessi_alloc((size_t)entries * sizeof *columns);
    /* Counted two places up, so that after the prefix sum rows[b + 1] is where block b's next reader goes
     * and ends as where block b + 1 begins. */
    for (uint64_t e = 0; e < entries; e++) {
        rows[table->columns[e] + 2]++;
    }
    for (uint64_t b = 2; b < table->blocks + 2; b++) {
        rows[b] += rows[b - 1];
    }
    for (uint64_t task = 0; task < table->tasks; task++) {
        for (uint64_t e = table->rows[task]; e < table->rows[task + 1]; e++) {
            columns[rows[table->columns[e] + 1]++] = (uint32_t)task;
        }
    }
    table->inverse_rows = rows;
    table->inverse_columns = columns;
}

void tessi_rules_copy(struct tessi_map_rules *to, const struct tessi_map_rules *from)
{
    *to = *from;
    if (from->table != NULL) {
        to->table = tessi_table_create(from->table->tasks, from->table->blocks, from->table->rows,
                                       from->table->columns);
    }
}

bool tessi_rules_equal(const struct tessi_map_rules *a, const struct tessi_map_rules *b)
{
    bool same = a->table == NULL && b->table == NULL && a->ndim == b->ndim;
    for (uint32_t d = 0; same && d < a->ndim; d++) {
        const struct tessi_rule *r = &a->rule[d], *s = &b->rule[d];
        same = r->kind == s->kind && r->dim == s->dim && r->value == s->value && r->start == s->start &&
               r->step == s->step;
    }
    return same;
}

void tessi_rules_fini(struct tessi_map_rules *rules)
{
    tessi_table_destroy(rules->table);
    *rules = (struct tessi_map_rules){0};
}

void tessi_rules_inputs(const struct tessi_map_rules *rules, const struct tessi_grid *in, const struct tessi_grid *out,
                        const uint64_t *out_coords, struct tessi_box *box)
{
    TESS_ASSERT(rules->table == NULL && rules->ndim == in->ndim);
    *box = (struct tessi_box){.ndim = rules->ndim};
    for (uint32_t d = 0; d < rules->ndim; d++) {
        struct interval chunks = forward(&rules->rule[d], &in->axis[d], out, out_coords);
        box->lo[d] = chunks.lo;
        box->hi[d] = chunks.hi;
    }
}

void tessi_rules_outputs(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                         const struct tessi_grid *out, const uint64_t *in_coords, struct tessi_box *box)
{
    TESS_ASSERT(rules->table == NULL && rules->ndim == in->ndim);
    *box = (struct tessi_box){.ndim = out->ndim};
    for (uint32_t d = 0; d < out->ndim; d++) {
        box->hi[d] = out->axis[d].count;
    }
    bool empty = false;
    for (uint32_t d = 0; d < rules->ndim; d++) {
        const struct tessi_rule *rule = &rules->rule[d];
        bool free;
        struct interval readers = backward(rule, &in->axis[d], out, in_coords[d], &free);
        if (free) {
            continue;
        }
        if (readers.lo >= readers.hi) {
            empty = true;
            break;
        }
        /* Two input dimensions may follow one output dimension, as on a diagonal: both must agree. */
        uint32_t o = rule->dim;
        box->lo[o] = readers.lo > box->lo[o] ? readers.lo : box->lo[o];
        box->hi[o] = smaller(readers.hi, box->hi[o]);
        empty = empty || box->lo[o] >= box->hi[o];
    }
    if (empty) {
        /* A zero-dimensional output has no axis to empty, but its one task has no empty rule either:
         * only FIXED and ALL fit it, and FIXED is the one that can miss. */
        *box = (struct tessi_box){.ndim = out->ndim == 0 ? 1 : out->ndim};
    }
}

/* The first chunk of the rule's output dimension that reads chunk `c` of the input or a later one. */
static uint64_t first_reader(const struct tessi_rule *rule, const struct tessi_axis *in, const struct tessi_axis *out,
                             uint64_t c)
{
    switch (rule->kind) {
    case TESSI_RULE_SAME:
        return c;
    case TESSI_RULE_FIXED:
        return (int64_t)c <= rule->value ? 0 : UINT64_MAX;
    case TESSI_RULE_ALL:
        return 0;
    case TESSI_RULE_GROUP:
        return c / (uint64_t)rule->value;
    case TESSI_RULE_SLICE: {
        int64_t beyond = tessi_axis_lo(in, c) - rule->start;
        int64_t element = beyond <= 0 ? 0 : (beyond - 1) / rule->step + 1;
        return element == 0 ? 0 : element < out->extent ? tessi_axis_find(out, element) : UINT64_MAX;
    }
    case TESSI_RULE_SEGMENT:
        return (uint64_t)(tessi_axis_lo(in, c) / rule->value);
    case TESSI_RULE_OFFSET:
        return (int64_t)c <= rule->value ? 0 : (uint64_t)((int64_t)c - rule->value);
    }
    TESS_ASSERT(false);
    return 0;
}

bool tessi_rules_follow(const struct tessi_map_rules *rules, uint32_t dim)
{
    enum tessi_rule_kind kind = rules->rule[dim].kind;
    return kind != TESSI_RULE_FIXED && kind != TESSI_RULE_ALL;
}

uint64_t tessi_rules_first_along(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                                 const struct tessi_grid *out, uint32_t dim, uint64_t chunk)
{
    const struct tessi_rule *rule = &rules->rule[dim];
    bool follows = tessi_rules_follow(rules, dim);
    const struct tessi_axis *axis = follows ? &out->axis[rule->dim] : NULL;
    uint64_t first = first_reader(rule, &in->axis[dim], axis, chunk);
    return first < (follows ? axis->count : 1) ? first : UINT64_MAX;
}

bool tessi_rules_first_output(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                              const struct tessi_grid *out, const uint64_t *in_coords, uint64_t *out_coords)
{
    TESS_ASSERT(rules->table == NULL && rules->ndim == in->ndim);
    for (uint32_t o = 0; o < out->ndim; o++) {
        out_coords[o] = 0;
    }
    for (uint32_t d = 0; d < rules->ndim; d++) {
        const struct tessi_rule *rule = &rules->rule[d];
        uint64_t first = tessi_rules_first_along(rules, in, out, d, in_coords[d]);
        if (first == UINT64_MAX) {
            return false;
        }
        if (tessi_rules_follow(rules, d) && first > out_coords[rule->dim]) {
            out_coords[rule->dim] = first;
        }
    }
    return true;
}

static int64_t shortest_interior(const struct tessi_axis *axis)
{
    if (axis->bounds == NULL) {
        return axis->chunk;
    }
    int64_t shortest = axis->extent > 0 ? axis->extent : 1;
    for (uint64_t c = 1; c + 1 < axis->count; c++) {
        int64_t length = axis->bounds[c + 1] - axis->bounds[c];
        shortest = length < shortest ? length : shortest;
    }
    return shortest;
}

/* The most chunks that an interval of `span` elements can touch, wherever it begins. */
static uint64_t chunks_touched(const struct tessi_axis *axis, int64_t span)
{
    if (span <= 1) {
        return span < 1 ? 0 : 1;
    }
    uint64_t touched = (uint64_t)((span - 2) / shortest_interior(axis)) + 2;
    return smaller(touched, axis->count);
}

static uint64_t rule_width(const struct tessi_rule *rule, const struct tessi_axis *in, const struct tessi_grid *out)
{
    switch (rule->kind) {
    case TESSI_RULE_SAME:
    case TESSI_RULE_FIXED:
    case TESSI_RULE_OFFSET:
        return 1;
    case TESSI_RULE_ALL:
        return in->count;
    case TESSI_RULE_GROUP:
        return smaller((uint64_t)rule->value, in->count);
    case TESSI_RULE_SLICE: {
        int64_t longest = tessi_axis_longest(&out->axis[rule->dim]);
        return longest == 0 ? 0 : chunks_touched(in, (longest - 1) * rule->step + 1);
    }
    case TESSI_RULE_SEGMENT:
        return chunks_touched(in, rule->value < in->extent ? rule->value : in->extent);
    }
    TESS_ASSERT(false);
    return 0;
}

uint64_t tessi_rules_width(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                           const struct tessi_grid *out)
{
    uint64_t width = 1;
    if (rules->table != NULL) {
        width = 0;
        for (uint64_t task = 0; task < rules->table->tasks; task++) {
            uint64_t reads = rules->table->rows[task + 1] - rules->table->rows[task];
            width = reads > width ? reads : width;
        }
        return width;
    }
    for (uint32_t d = 0; d < rules->ndim; d++) {
        width = multiply_saturated(width, rule_width(&rules->rule[d], &in->axis[d], out));
    }
    return width;
}

/* Of chunks along one dimension; `out`: the axis that the rule follows, if it follows one. */
static bool rule_reads_all(const struct tessi_rule *rule, const struct tessi_axis *in, const struct tessi_axis *out)
{
    switch (rule->kind) {
    case TESSI_RULE_SAME:
        return out->count >= in->count;
    case TESSI_RULE_FIXED:
        return in->count == 1;
    case TESSI_RULE_ALL:
        return true;
    case TESSI_RULE_GROUP:
        return out->count >= in->count / (uint64_t)rule->value + (in->count % (uint64_t)rule->value > 0);
    case TESSI_RULE_SLICE: /* a chunk without elements has no reader */
        return in->bounds == NULL && in->extent > 0 && rule->start == 0 && rule->step == 1 && out->extent == in->extent;
    case TESSI_RULE_SEGMENT:
        return in->bounds == NULL && in->extent > 0 &&
               (int64_t)out->count >= in->extent / rule->value + (in->extent % rule->value > 0);
    case TESSI_RULE_OFFSET:
        return rule->value == 0 && out->count >= in->count;
    }
    TESS_ASSERT(false);
    return false;
}

bool tessi_rules_read_all(const struct tessi_map_rules *rules, const struct tessi_grid *in, const struct tessi_grid *out)
{
    uint32_t followed = 0;
    if (rules->table != NULL || tessi_grid_blocks(out) == 0) {
        return false;
    }
    for (uint32_t d = 0; d < rules->ndim; d++) {
        bool follows = tessi_rules_follow(rules, d);
        uint32_t dim = rules->rule[d].dim;
        if (follows && (followed & 1u << dim) != 0) {
            return false; /* a diagonal */
        }
        followed |= follows ? 1u << dim : 0;
        if (!rule_reads_all(&rules->rule[d], &in->axis[d], follows ? &out->axis[dim] : NULL)) {
            return false;
        }
    }
    return true;
}

static enum tessi_status check_table(const struct tessi_table *table, const struct tessi_grid *in,
                                     const struct tessi_grid *out, struct tessi_error *error)
{
    if (table->tasks != tessi_grid_blocks(out) || table->blocks != tessi_grid_blocks(in)) {
        return tessi_fail(error, TESSI_INVALID,
                          "table of %" PRIu64 " tasks over %" PRIu64 " blocks for grids of %" PRIu64 " and %" PRIu64
                          ": give one row for each task",
                          table->tasks, table->blocks, tessi_grid_blocks(out), tessi_grid_blocks(in));
    }
    if (table->blocks > TESSI_TABLE_BLOCKS_MAX || table->tasks > TESSI_TABLE_BLOCKS_MAX) {
        return tessi_fail(error, TESSI_TOO_BIG,
                          "table of %" PRIu64 " tasks over %" PRIu64 " blocks: at most %" PRIu64 ", use index rules",
                          table->tasks, table->blocks, (uint64_t)TESSI_TABLE_BLOCKS_MAX);
    }
    if (table->rows == NULL || table->columns == NULL || table->rows[0] != 0) {
        return tessi_fail(error, TESSI_INVALID, "table without rows or columns: give both, the first row at 0");
    }
    /* All rows before any column: a row that falls back would make an earlier one run past the columns. */
    for (uint64_t task = 0; task < table->tasks; task++) {
        if (table->rows[task + 1] < table->rows[task]) {
            return tessi_fail(error, TESSI_INVALID, "table row %" PRIu64 " ends before it begins: give ascending rows",
                              task);
        }
    }
    for (uint64_t task = 0; task < table->tasks; task++) {
        for (uint64_t e = table->rows[task]; e < table->rows[task + 1]; e++) {
            bool ascending = e == table->rows[task] || table->columns[e - 1] < table->columns[e];
            if (!ascending || table->columns[e] >= table->blocks) {
                return tessi_fail(error, TESSI_INVALID,
                                  "table row %" PRIu64 ": block %" PRIu64
                                  " is out of range or order: name each of the %" PRIu64 " blocks once, ascending",
                                  task, (uint64_t)table->columns[e], table->blocks);
            }
        }
    }
    return TESSI_OK;
}

static enum tessi_status check_slice(const struct tessi_rule *rule, uint32_t d, const struct tessi_axis *in,
                                     const struct tessi_axis *out, struct tessi_error *error)
{
    int64_t last;
    bool bad = rule->start < 0 || rule->start > in->extent || rule->step < 1;
    if (!bad && out->extent > 0) {
        bad = __builtin_mul_overflow(rule->step, out->extent - 1, &last) ||
              __builtin_add_overflow(last, rule->start, &last) || last >= in->extent;
    }
    if (bad) {
        return tessi_fail(error, TESSI_INVALID,
                          "input dimension %u: slice of %" PRId64 " elements from %" PRId64 " by %" PRId64
                          " leaves the extent %" PRId64 ": shorten it",
                          d, out->extent, rule->start, rule->step, in->extent);
    }
    return TESSI_OK;
}

/* Whether a tiling of `length` units by pieces of `value` has at least `count` pieces. */
static bool tiles(uint64_t count, int64_t value, uint64_t length)
{
    return value >= 1 && (count == 1 || multiply_saturated(count - 1, (uint64_t)value) < length);
}

static enum tessi_status check_rule(const struct tessi_rule *rule, uint32_t d, const struct tessi_axis *in,
                                    const struct tessi_grid *out, struct tessi_error *error)
{
    bool uses_dim = rule->kind != TESSI_RULE_FIXED && rule->kind != TESSI_RULE_ALL;
    if (uses_dim && rule->dim >= out->ndim) {
        return tessi_fail(error, TESSI_INVALID,
                          "input dimension %u follows output dimension %u of %u: name one that exists", d, rule->dim,
                          out->ndim);
    }
    const struct tessi_axis *to = uses_dim ? &out->axis[rule->dim] : NULL;
    bool good = false;
    switch (rule->kind) {
    case TESSI_RULE_SAME:
        good = to->count <= in->count;
        break;
    case TESSI_RULE_FIXED:
        good = rule->value >= 0 && (uint64_t)rule->value < in->count;
        break;
    case TESSI_RULE_ALL:
        good = true;
        break;
    case TESSI_RULE_GROUP:
        good = tiles(to->count, rule->value, in->count);
        break;
    case TESSI_RULE_SLICE:
        return check_slice(rule, d, in, to, error);
    case TESSI_RULE_SEGMENT:
        good = tiles(to->count, rule->value, (uint64_t)in->extent);
        break;
    case TESSI_RULE_OFFSET:
        good = rule->value > -OFFSET_MAX && rule->value < OFFSET_MAX;
        break;
    }
    if (!good) {
        return tessi_fail(error, TESSI_INVALID,
                          "input dimension %u (%" PRIu64 " chunks, extent %" PRId64 "): rule %d with value %" PRId64
                          " leaves it or is unknown: make it fit the output's %" PRIu64 " chunks",
                          d, in->count, in->extent, (int)rule->kind, rule->value, to != NULL ? to->count : 0);
    }
    return TESSI_OK;
}

enum tessi_status tessi_rules_check(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                                    const struct tessi_grid *out, struct tessi_error *error)
{
    if (rules->table != NULL) {
        return check_table(rules->table, in, out, error);
    }
    if (rules->ndim != in->ndim) {
        return tessi_fail(error, TESSI_INVALID, "%u index rules for an input of %u dimensions: give one for each",
                          rules->ndim, in->ndim);
    }
    for (uint32_t d = 0; d < rules->ndim; d++) {
        enum tessi_status status = check_rule(&rules->rule[d], d, &in->axis[d], out, error);
        if (status != TESSI_OK) {
            return status;
        }
    }
    return TESSI_OK;
}
