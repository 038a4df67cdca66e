/* Random graphs: layers that pass tessi_layer_check, over small grids. */
#include "tests/sim/graph.h"

#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/graph/rechunk.h"

#define SOURCES_WANTED 3

struct maker {
    struct sim_graph *graph;
    struct random *random;
    const struct sim_graph_options *options;
};

struct sim_layer *sim_graph_layer(const struct sim_graph *graph, uint32_t id)
{
    return id >= 1 && id <= graph->count ? &graph->layers[id - 1] : NULL;
}

struct sim_task *sim_graph_task(const struct sim_graph *graph, struct tessi_task task)
{
    struct sim_layer *layer = sim_graph_layer(graph, task.layer);
    TESS_ASSERT(layer != NULL && task.session == graph->session && task.index < layer->task_count);
    return &layer->tasks[task.index];
}

/* --- the oracle --- */

uint64_t sim_step_value(const struct tessi_layer *layer, uint64_t index, uint32_t step, uint64_t before,
                        const uint64_t *values, uint32_t count)
{
    uint64_t value = step == 0 ? sim_mix(sim_mix(layer->session, layer->id), index) : before;
    value = sim_mix(value, step);
    for (uint32_t i = 0; i < count; i++) {
        value = sim_mix(value, values[i]);
    }
    return value;
}

bool sim_oracle(const struct sim_graph *graph, uint32_t layer, uint64_t index, uint64_t *value)
{
    const struct sim_layer *of = sim_graph_layer(graph, layer);
    struct sim_task *task = &of->tasks[index];
    if (!task->computed) {
        uint64_t made = 0;
        uint32_t steps = tessi_task_steps(of->layer, index);
        task->broken = task->fails;
        for (uint32_t s = 0; s < steps; s++) {
            struct tessi_step step;
            uint64_t values[TESSI_STEP_REFS_MAX];
            tessi_task_step(of->layer, index, s, &step);
            for (uint32_t i = 0; i < step.count; i++) {
                uint32_t input = of->layer->reads[step.ref[i].input];
                task->broken = !sim_oracle(graph, input, step.ref[i].index, &values[i]) || task->broken;
            }
            made = sim_step_value(of->layer, index, s, made, values, step.count);
        }
        task->value = made;
        task->computed = true;
    }
    *value = task->value;
    return !task->broken;
}

uint64_t sim_graph_largest_footprint(const struct sim_graph *graph)
{
    uint64_t largest = 0;
    for (size_t l = 0; l < graph->count; l++) {
        for (uint64_t i = 0; i < graph->layers[l].task_count; i++) {
            uint64_t bytes = tessi_task_footprint(graph->layers[l].layer, i);
            largest = bytes > largest ? bytes : largest;
        }
    }
    return largest;
}

uint64_t sim_graph_bytes(const struct sim_graph *graph)
{
    uint64_t bytes = 0;
    for (size_t l = 0; l < graph->count; l++) {
        bytes += tessi_layer_bytes(graph->layers[l].layer);
    }
    return bytes;
}

/* --- pieces --- */

static struct tessi_axis make_axis_of(struct maker *maker, int64_t extent)
{
    int64_t scale = extent >= maker->options->scale ? maker->options->scale : extent / 4 + 1;
    if (extent < 2 * scale || random_chance(maker->random, 75)) {
        return tessi_axis_regular(extent, scale * random_between(maker->random, 1, 4));
    }
    int64_t bounds[16] = {0};
    uint64_t count = 0;
    while (bounds[count] < extent && count < 14) {
        int64_t next = bounds[count] + scale * random_between(maker->random, 1, 3);
        bounds[count + 1] = next > extent || count == 13 ? extent : next;
        count++;
    }
    return tessi_axis_explicit(bounds, count);
}

static struct tessi_axis make_axis(struct maker *maker, int64_t units_max)
{
    if (random_chance(maker->random, 4)) {
        return tessi_axis_regular(random_between(maker->random, 0, 1), 1);
    }
    return make_axis_of(maker, maker->options->scale * random_between(maker->random, 1, units_max));
}

static void make_grid(struct maker *maker, uint32_t ndim, struct tessi_grid *grid)
{
    *grid = (struct tessi_grid){.ndim = ndim};
    for (uint32_t d = 0; d < ndim; d++) {
        grid->axis[d] = make_axis(maker, ndim == 1 ? 16 : ndim == 2 ? 7 : 4);
    }
}

static struct tessi_layer *begin(struct maker *maker, enum tessi_op op)
{
    return tessi_layer_create(maker->graph->session, (uint32_t)maker->graph->count + 1, op, TESSI_F64);
}

static void bind(struct tessi_layer *layer, const struct tessi_layer *input)
{
    struct tessi_input *slot = tessi_layer_add_input(layer, input->id);
    slot->dtype = input->dtype;
    slot->rules.ndim = input->grid.ndim;
    tessi_grid_copy(&slot->grid, &input->grid);
}

/* Takes the layer into the graph, which may move the others. */
static const struct tessi_layer *finish(struct maker *maker, struct tessi_layer *layer)
{
    struct sim_graph *graph = maker->graph;
    struct tessi_error error = {0};
    if (tessi_layer_check(layer, &error) != TESSI_OK) {
        (void)fprintf(stderr, "the simulator made a layer that is refused: %s\n", error.text);
        TESS_ASSERT(false);
    }
    tessi_grow(&graph->layers, &graph->capacity, graph->count + 1, sizeof *graph->layers);
    struct sim_layer *added = &graph->layers[graph->count++];
    *added = (struct sim_layer){.layer = layer, .task_count = tessi_layer_tasks(layer)};
    added->tasks = tessi_zalloc(added->task_count * sizeof *added->tasks);
    added->step_ns = random_scale(maker->random, 5000, maker->options->step_max_ns);
    graph->tasks += added->task_count;
    if (random_chance(maker->random, maker->options->fail_percent) && layer->op != TESSI_OP_RECEIVE) {
        added->tasks[random_below(maker->random, (uint32_t)added->task_count)].fails = true;
        for (uint64_t i = 0; i < added->task_count && maker->options->fail_more_percent > 0; i++) {
            added->tasks[i].fails =
                added->tasks[i].fails || random_chance(maker->random, maker->options->fail_more_percent);
        }
    }
    return layer;
}

/* A random layer that can be read; recent ones are taken more often, so that chains grow. */
static const struct tessi_layer *pick(struct maker *maker, uint32_t ndim)
{
    const struct tessi_layer *found = NULL;
    uint32_t seen = 0;
    for (size_t l = 0; l < maker->graph->count; l++) {
        const struct sim_layer *layer = &maker->graph->layers[l];
        bool read = layer->layer->op != TESSI_OP_WRITE_NPY; /* such a layer is an end */
        if (layer->released || !read || (ndim != 0 && layer->layer->grid.ndim != ndim)) {
            continue;
        }
        seen++;
        if (random_below(maker->random, seen) < (seen > 2 ? 2u : 1u)) {
            found = layer->layer;
        }
    }
    return found;
}

/* --- operations --- */

static enum tessi_op pick_source(struct maker *maker, uint32_t ndim)
{
    static const enum tessi_op any[] = {TESSI_OP_FULL,    TESSI_OP_UNIFORM, TESSI_OP_NORMAL, TESSI_OP_READ_NPY,
                                        TESSI_OP_RECEIVE, TESSI_OP_RECEIVE, TESSI_OP_ARANGE, TESSI_OP_EYE};
    enum tessi_op op = any[random_below(maker->random, sizeof any / sizeof *any)];
    if (op == TESSI_OP_ARANGE || op == TESSI_OP_EYE) {
        return ndim == 1 ? TESSI_OP_ARANGE : ndim == 2 ? TESSI_OP_EYE : TESSI_OP_UNIFORM;
    }
    return op;
}

/* Takes the grid. */
static const struct tessi_layer *make_source(struct maker *maker, struct tessi_grid grid)
{
    struct tessi_layer *layer = begin(maker, pick_source(maker, grid.ndim));
    struct tessi_scalar one = {.dtype = TESSI_F64, .as.f = 1.0};
    layer->grid = grid;
    if (layer->op == TESSI_OP_FULL) {
        layer->as.full = one;
    } else if (layer->op == TESSI_OP_ARANGE) {
        layer->as.arange.start = layer->as.arange.step = one;
    } else if (layer->op == TESSI_OP_UNIFORM || layer->op == TESSI_OP_NORMAL) {
        layer->as.random.high = 1.0;
    } else if (layer->op == TESSI_OP_READ_NPY) {
        layer->as.npy.path = tessi_strdup("/data/a.npy");
        layer->as.npy.file.bytes = tessi_layer_bytes(layer);
    }
    return finish(maker, layer);
}

static const struct tessi_layer *make_new_source(struct maker *maker)
{
    struct tessi_grid grid;
    make_grid(maker, (uint32_t)random_between(maker->random, 1, 3), &grid);
    return make_source(maker, grid);
}

static bool broadcasts(const struct tessi_layer *input, const struct tessi_grid *out)
{
    uint32_t missing = out->ndim - input->grid.ndim;
    for (uint32_t d = 0; input->grid.ndim <= out->ndim && d < input->grid.ndim; d++) {
        if (input->grid.axis[d].extent != 1 && !tessi_axis_equal(&input->grid.axis[d], &out->axis[d + missing])) {
            return false;
        }
    }
    return input->grid.ndim <= out->ndim;
}

static void bind_broadcast(struct tessi_layer *layer, const struct tessi_layer *input)
{
    uint32_t missing = layer->grid.ndim - input->grid.ndim;
    bind(layer, input);
    struct tessi_rule *rules = layer->input[layer->ninputs - 1].rules.rule;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        bool same = tessi_axis_equal(&input->grid.axis[d], &layer->grid.axis[d + missing]);
        rules[d] = same ? (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d + missing}
                        : (struct tessi_rule){.kind = TESSI_RULE_FIXED};
    }
}

static void write_program(struct tessi_layer *layer)
{
    struct tessi_program *program = &layer->as.program;
    program->count = layer->ninputs == 1 ? 1 : layer->ninputs - 1;
    program->code = tessi_zalloc(program->count * sizeof *program->code);
    for (uint32_t i = 0; i < program->count; i++) {
        program->code[i] = (struct tessi_instruction){
            .op = layer->ninputs == 1 ? TESSI_EWISE_NEGATIVE : TESSI_EWISE_ADD,
            .dtype = TESSI_F64,
            .a = i == 0 ? 0 : layer->ninputs + i - 1,
            .b = i + 1,
        };
    }
}

static const struct tessi_layer *make_elementwise(struct maker *maker, const struct tessi_layer *input)
{
    const struct tessi_layer *more = NULL;
    if (random_chance(maker->random, 25)) {
        struct tessi_grid grid;
        tessi_grid_copy(&grid, &input->grid);
        more = make_source(maker, grid);
    }
    struct tessi_layer *layer = begin(maker, TESSI_OP_ELEMENTWISE);
    tessi_grid_copy(&layer->grid, &input->grid);
    bind_broadcast(layer, input);
    if (more != NULL) {
        bind_broadcast(layer, more);
    }
    for (uint32_t tries = random_below(maker->random, 4); tries > 0 && layer->ninputs < 4; tries--) {
        const struct tessi_layer *other = pick(maker, 0);
        if (broadcasts(other, &layer->grid)) {
            bind_broadcast(layer, other);
        }
    }
    write_program(layer);
    return finish(maker, layer);
}

static const struct tessi_layer *make_transpose(struct maker *maker, const struct tessi_layer *input)
{
    struct tessi_layer *layer = begin(maker, TESSI_OP_TRANSPOSE);
    uint32_t ndim = input->grid.ndim;
    layer->grid.ndim = ndim;
    bind(layer, input);
    for (uint32_t d = 0; d < ndim; d++) {
        layer->as.transpose.axis[d] = d;
    }
    for (uint32_t d = ndim; d > 1; d--) {
        uint32_t other = random_below(maker->random, d);
        uint32_t swap = layer->as.transpose.axis[d - 1];
        layer->as.transpose.axis[d - 1] = layer->as.transpose.axis[other];
        layer->as.transpose.axis[other] = swap;
    }
    for (uint32_t d = 0; d < ndim; d++) {
        uint32_t from = layer->as.transpose.axis[d];
        layer->grid.axis[d] = tessi_axis_copy(&input->grid.axis[from]);
        layer->input[0].rules.rule[from] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    return finish(maker, layer);
}

static void bind_slice(struct tessi_layer *layer, uint32_t d, int64_t start, int64_t step)
{
    layer->as.regrid.start[d] = start;
    layer->as.regrid.step[d] = step;
    layer->input[0].rules.rule[d] =
        (struct tessi_rule){.kind = TESSI_RULE_SLICE, .dim = d, .start = start, .step = step};
}

/* The pieces between the blocks of the input and those of `to`, as the client makes them where many blocks exchange
 * elements with many. */
static const struct tessi_layer *make_pieces(struct maker *maker, const struct tessi_layer *input,
                                             const struct tessi_grid *to)
{
    struct tessi_layer *layer = begin(maker, TESSI_OP_REGRID);
    bind(layer, input);
    tessi_grid_refine(&input->grid, to, &layer->grid);
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        bind_slice(layer, d, 0, 1);
    }
    return finish(maker, layer);
}

/* A layer in place of `instead`, with its grid, that reads `input` from the first element on. */
static struct tessi_layer *join(struct maker *maker, struct tessi_layer *instead, const struct tessi_layer *input)
{
    struct tessi_layer *layer = begin(maker, TESSI_OP_REGRID);
    bind(layer, input);
    layer->grid = instead->grid;
    instead->grid = (struct tessi_grid){0};
    tessi_layer_destroy(instead);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        bind_slice(layer, d, 0, 1);
    }
    return layer;
}

static const struct tessi_layer *make_regrid(struct maker *maker, const struct tessi_layer *input)
{
    bool slices = false;
    struct tessi_layer *layer = begin(maker, TESSI_OP_REGRID);
    layer->grid.ndim = input->grid.ndim;
    bind(layer, input);
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        int64_t extent = input->grid.axis[d].extent;
        int64_t start = 0, step = 1, length = extent;
        if (extent > 1 && random_chance(maker->random, 50)) {
            start = random_between(maker->random, 0, extent - 1);
            step = random_between(maker->random, 1, 3);
            length = random_between(maker->random, 1, (extent - 1 - start) / step + 1);
        }
        layer->grid.axis[d] = make_axis_of(maker, length);
        bind_slice(layer, d, start, step);
        slices = slices || length != extent;
    }
    uint64_t way = slices || layer->grid.ndim == 0 ? 0 : sim_mix(maker->random->state, 0) % 4;
    if (way > 0) {
        const struct tessi_layer *pieces = make_pieces(maker, input, &layer->grid);
        layer = join(maker, layer, way == 1 ? input : pieces);
        if (way == 1) { /* blocks of which it takes much, and pieces of the others */
            bind(layer, pieces);
            memcpy(layer->input[1].rules.rule, layer->input[0].rules.rule, sizeof layer->input[0].rules.rule);
        }
    }
    return finish(maker, layer);
}

/* One level of a tree over the axes, or (group 0) all of them at once. */
static const struct tessi_layer *make_fold(struct maker *maker, const struct tessi_layer *input, uint32_t axes,
                                           int64_t group, bool keep)
{
    struct tessi_layer *layer = begin(maker, TESSI_OP_REDUCE);
    bind(layer, input);
    struct tessi_rule *rules = layer->input[0].rules.rule;
    layer->as.reduce.fold = TESSI_FOLD_SUM;
    layer->as.reduce.axes = axes;
    layer->as.reduce.keepdims = keep;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        const struct tessi_axis *in = &input->grid.axis[d];
        uint32_t out = layer->grid.ndim;
        if ((axes >> d & 1u) == 0) {
            rules[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = out};
            layer->grid.axis[layer->grid.ndim++] = tessi_axis_copy(in);
        } else if (group > 0) {
            rules[d] = (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = out, .value = group};
            int64_t count = ((int64_t)in->count - 1) / group + 1;
            layer->grid.axis[layer->grid.ndim++] = tessi_axis_regular(count, 1);
        } else {
            rules[d] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
            if (keep) {
                layer->grid.axis[layer->grid.ndim++] = tessi_axis_regular(1, 1);
            }
        }
    }
    return finish(maker, layer);
}

static const struct tessi_layer *make_reduce(struct maker *maker, const struct tessi_layer *input)
{
    uint32_t axes = 1u + random_below(maker->random, (1u << input->grid.ndim) - 1u);
    for (uint32_t levels = random_below(maker->random, 3); levels > 0; levels--) {
        input = make_fold(maker, input, axes, random_between(maker->random, 1, 3), true);
    }
    return make_fold(maker, input, axes, 0, random_chance(maker->random, 50));
}

static const struct tessi_layer *second_operand(struct maker *maker, int64_t extent, uint32_t contracted)
{
    for (uint32_t tries = 0; tries < 3; tries++) {
        const struct tessi_layer *other = pick(maker, 2);
        if (other != NULL && other->grid.axis[contracted].extent == extent) {
            return other;
        }
    }
    struct tessi_grid grid = {.ndim = 2};
    grid.axis[contracted] = make_axis_of(maker, extent);
    grid.axis[1 - contracted] = make_axis(maker, 6);
    return make_source(maker, grid);
}

static const struct tessi_layer *make_matmul(struct maker *maker)
{
    const struct tessi_layer *a = pick(maker, 2);
    if (a == NULL) {
        struct tessi_grid grid;
        make_grid(maker, 2, &grid);
        a = make_source(maker, grid);
    }
    uint32_t k_a = random_below(maker->random, 2), k_b = random_below(maker->random, 2);
    int64_t k = a->grid.axis[k_a].extent;
    const struct tessi_layer *b = second_operand(maker, k, k_b);
    int64_t parts = k > 1 && random_chance(maker->random, 50) ? random_between(maker->random, 2, k < 4 ? k : 4) : 1;
    int64_t segment = k > 0 ? (k - 1) / parts + 1 : 1;
    int64_t count = k > 0 ? (k - 1) / segment + 1 : 1;
    struct tessi_layer *layer = begin(maker, TESSI_OP_MATMUL);
    bind(layer, a);
    bind(layer, b);
    layer->as.matmul.transpose_a = k_a == 0;
    layer->as.matmul.transpose_b = k_b == 1;
    layer->as.matmul.segment = segment;
    layer->grid.ndim = count > 1 ? 3 : 2;
    layer->grid.axis[0] = tessi_axis_copy(&a->grid.axis[1 - k_a]);
    layer->grid.axis[1] = tessi_axis_copy(&b->grid.axis[1 - k_b]);
    struct tessi_rule contracted = {.kind = TESSI_RULE_ALL};
    if (count > 1) {
        layer->grid.axis[2] = tessi_axis_regular(count, 1);
        contracted = (struct tessi_rule){.kind = TESSI_RULE_SEGMENT, .dim = 2, .value = segment};
    }
    layer->input[0].rules.rule[k_a] = layer->input[1].rules.rule[k_b] = contracted;
    layer->input[0].rules.rule[1 - k_a] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 0};
    layer->input[1].rules.rule[1 - k_b] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1};
    const struct tessi_layer *product = finish(maker, layer);
    return count > 1 && random_chance(maker->random, 80) ? make_fold(maker, product, 1u << 2, 0, false) : product;
}

static struct tessi_rule synthetic_rule(struct maker *maker, const struct tessi_axis *in, const struct tessi_grid *out)
{
    uint32_t dim = random_below(maker->random, out->ndim);
    struct tessi_rule fixed = {.kind = TESSI_RULE_FIXED,
                               .value = (int64_t)random_below(maker->random, (uint32_t)in->count)};
    switch (random_below(maker->random, 4)) {
    case 0:
        return out->ndim > 0 && out->axis[dim].count <= in->count
                   ? (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = dim}
                   : fixed;
    case 1:
        return in->count <= 3 ? (struct tessi_rule){.kind = TESSI_RULE_ALL} : fixed;
    case 2:
        return out->ndim > 0 ? (struct tessi_rule){.kind = TESSI_RULE_OFFSET,
                                                   .dim = dim,
                                                   .value = random_between(maker->random, -2, 2)}
                             : fixed;
    default:
        return fixed;
    }
}

static struct tessi_table *make_table(struct maker *maker, uint64_t tasks, uint64_t blocks)
{
    uint32_t rows[64 + 1] = {0}, columns[64 * 4];
    TESS_ASSERT(tasks <= 64);
    for (uint64_t t = 0; t < tasks; t++) {
        uint32_t at = rows[t];
        uint64_t column = random_below(maker->random, (uint32_t)blocks);
        for (uint32_t n = random_below(maker->random, 5); n > 0 && column < blocks; n--) {
            columns[at++] = (uint32_t)column;
            column += 1 + random_below(maker->random, 4);
        }
        rows[t + 1] = at;
    }
    return tessi_table_create(tasks, blocks, rows, columns);
}

/* A table whose rows name lower indices only, near their own or far. */
static struct tessi_table *make_self_table(struct maker *maker, uint64_t tasks)
{
    uint32_t rows[64 + 1] = {0}, columns[64 * 4];
    uint32_t reach = random_chance(maker->random, 50) ? 3 : 64;
    TESS_ASSERT(tasks <= 64);
    for (uint64_t t = 0; t < tasks; t++) {
        uint32_t at = rows[t];
        uint64_t column = t > reach ? t - reach : 0;
        column += random_below(maker->random, 3);
        for (uint32_t n = random_below(maker->random, 5); n > 0 && column < t; n--) {
            columns[at++] = (uint32_t)column;
            column += 1 + random_below(maker->random, reach);
        }
        rows[t + 1] = at;
    }
    return tessi_table_create(tasks, tasks, rows, columns);
}

/* Tasks that read lower blocks of their own layer: a chain, a stencil in time, an irregular graph. */
static void read_itself(struct maker *maker, struct tessi_layer *layer)
{
    if (layer->grid.ndim == 1 && random_chance(maker->random, 50)) {
        uint32_t number = layer->ninputs;
        bind(layer, layer);
        layer->input[number].rules.table = make_self_table(maker, tessi_layer_tasks(layer));
        return;
    }
    int64_t back = -random_between(maker->random, 1, 2);
    uint32_t time = layer->grid.ndim == 2 ? random_below(maker->random, 2) : 0;
    bool several = layer->grid.ndim == 2 && time == 0;
    for (int64_t shift = several ? -1 : 0; shift <= (several ? 1 : 0); shift++) {
        uint32_t number = layer->ninputs;
        bind(layer, layer);
        struct tessi_rule *rule = layer->input[number].rules.rule;
        for (uint32_t d = 0; d < layer->grid.ndim; d++) {
            rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
        }
        rule[time] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = time, .value = back};
        if (several && shift != 0) {
            rule[1] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = 1, .value = shift};
        }
    }
}

static const struct tessi_layer *make_synthetic(struct maker *maker)
{
    struct tessi_layer *layer = begin(maker, TESSI_OP_SYNTHETIC);
    make_grid(maker, (uint32_t)random_between(maker->random, 1, 2), &layer->grid);
    layer->as.synthetic.nanoseconds = (uint64_t)random_scale(maker->random, 1000, 20000000);
    layer->as.synthetic.pin =
        random_chance(maker->random, 10) ? (uint32_t)random_between(maker->random, 1, SIM_PINS_MAX) : 0;
    if (random_chance(maker->random, 35)) {
        read_itself(maker, layer);
    }
    for (uint32_t n = random_below(maker->random, 4); n > 0; n--) {
        const struct tessi_layer *input = pick(maker, 0);
        uint32_t number = layer->ninputs;
        bind(layer, input);
        if (layer->grid.ndim == 1 && random_chance(maker->random, 40)) {
            layer->input[number].rules.table = make_table(maker, tessi_layer_tasks(layer), tessi_layer_tasks(input));
            continue;
        }
        for (uint32_t d = 0; d < input->grid.ndim; d++) {
            layer->input[number].rules.rule[d] = synthetic_rule(maker, &input->grid.axis[d], &layer->grid);
        }
    }
    return finish(maker, layer);
}

static void make_write(struct maker *maker, const struct tessi_layer *input)
{
    struct tessi_layer *layer = begin(maker, TESSI_OP_WRITE_NPY);
    bind(layer, input);
    layer->dtype = TESSI_BOOL;
    tessi_layer_follow_blocks(layer);
    layer->as.write.path = tessi_strdup("/data/.tessera-write-1");
    layer->as.write.target = tessi_strdup("/data/b.npy");
    layer->as.write.bytes = tessi_input_bytes(&layer->input[0]);
    (void)finish(maker, layer);
}

/* Short tasks of which several stand in one queue, with their reader behind them. */
static void make_pairs(struct maker *maker)
{
    struct tessi_layer *made = begin(maker, TESSI_OP_SYNTHETIC);
    made->grid.ndim = 1;
    made->grid.axis[0] = tessi_axis_regular(16, 1);
    made->as.synthetic.nanoseconds = 1000;
    const struct tessi_layer *input = finish(maker, made);
    struct tessi_layer *layer = begin(maker, TESSI_OP_SYNTHETIC);
    layer->grid.ndim = 1;
    layer->grid.axis[0] = tessi_axis_regular(16, 1);
    layer->as.synthetic.nanoseconds = 1000;
    for (int64_t shift = -random_between(maker->random, 1, 2); shift <= 0; shift++) {
        uint32_t number = layer->ninputs;
        bind(layer, input);
        layer->input[number].rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = 0, .value = shift};
    }
    (void)finish(maker, layer);
}

static void make_one(struct maker *maker)
{
    if (random_chance(maker->random, maker->options->pairs_percent)) {
        make_pairs(maker);
        return;
    }
    const struct tessi_layer *input = pick(maker, 0);
    uint32_t choice = random_below(maker->random, 100);
    if (input == NULL || maker->graph->count < SOURCES_WANTED || choice < 12) {
        (void)make_new_source(maker);
    } else if (choice < 34) {
        (void)make_elementwise(maker, input);
    } else if (choice < 44) {
        (void)make_transpose(maker, input);
    } else if (choice < 58) {
        (void)make_regrid(maker, input);
    } else if (choice < 70 && input->grid.ndim > 0) {
        (void)make_reduce(maker, input);
    } else if (choice < 86) {
        (void)make_matmul(maker);
    } else if (choice < 98) {
        (void)make_synthetic(maker);
    } else {
        make_write(maker, input);
    }
}

void sim_graph_extend(struct sim_graph *graph, struct random *random, const struct sim_graph_options *options,
                      uint32_t layers)
{
    struct maker maker = {graph, random, options};
    for (uint32_t i = 0; i < layers && graph->tasks < options->tasks_max; i++) {
        make_one(&maker);
    }
}

void sim_graph_fini(struct sim_graph *graph)
{
    for (size_t l = 0; l < graph->count; l++) {
        for (uint64_t i = 0; i < graph->layers[l].task_count; i++) {
            tessi_free(graph->layers[l].tasks[i].done);
        }
        tessi_free(graph->layers[l].tasks);
        tessi_layer_destroy(graph->layers[l].layer);
    }
    tessi_free(graph->layers);
    *graph = (struct sim_graph){0};
}
