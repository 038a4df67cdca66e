#include "tests/sim/tool/graphs.h"

#include <math.h>

#include "core/base/alloc.h"
#include "tests/sim/random.h"

#define DEPENDENCIES_MAX 3

static struct tessi_layer *begin(const struct tool_graph *graph, enum tessi_op op)
{
    return tessi_layer_create(TOOL_SESSION, (uint32_t)graph->count + 1, op, TESSI_F64);
}

static struct tessi_rule *bind(struct tessi_layer *layer, const struct tessi_layer *input)
{
    struct tessi_input *slot = tessi_layer_add_input(layer, input->id);
    slot->dtype = input->dtype;
    slot->rules.ndim = input->grid.ndim;
    tessi_grid_copy(&slot->grid, &input->grid);
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        slot->rules.rule[d] = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = d};
    }
    return slot->rules.rule;
}

static const struct tessi_layer *finish(struct tool_graph *graph, struct tessi_layer *layer)
{
    tessi_grow(&graph->layers, &graph->capacity, graph->count + 1, sizeof *graph->layers);
    graph->layers[graph->count++] = layer;
    graph->tasks += tessi_layer_tasks(layer);
    return layer;
}

static const struct tessi_layer *source(struct tool_graph *graph, uint32_t ndim, uint64_t extent, uint64_t chunk)
{
    struct tessi_layer *layer = begin(graph, TESSI_OP_UNIFORM);
    layer->as.random.high = 1.0;
    layer->grid.ndim = ndim;
    for (uint32_t d = 0; d < ndim; d++) {
        layer->grid.axis[d] = tessi_axis_regular((int64_t)extent, (int64_t)chunk);
    }
    graph->sources++;
    return finish(graph, layer);
}

static void write_sum(struct tessi_layer *layer)
{
    struct tessi_program *program = &layer->as.program;
    program->count = 1;
    program->code = tessi_zalloc(sizeof *program->code);
    program->code[0] = (struct tessi_instruction){.op = layer->ninputs == 1 ? TESSI_EWISE_NEGATIVE : TESSI_EWISE_ADD,
                                                  .dtype = TESSI_F64,
                                                  .b = layer->ninputs == 1 ? 0 : 1};
}

static const struct tessi_layer *elementwise(struct tool_graph *graph, const struct tessi_layer *a,
                                             const struct tessi_layer *b)
{
    struct tessi_layer *layer = begin(graph, TESSI_OP_ELEMENTWISE);
    tessi_grid_copy(&layer->grid, &a->grid);
    (void)bind(layer, a);
    if (b != NULL) {
        (void)bind(layer, b);
    }
    write_sum(layer);
    return finish(graph, layer);
}

/* Fold all dimensions of `axes`: in groups of `group` chunks, or (0) at once. */
static const struct tessi_layer *fold(struct tool_graph *graph, const struct tessi_layer *input, uint32_t axes,
                                      uint64_t group)
{
    struct tessi_layer *layer = begin(graph, TESSI_OP_REDUCE);
    struct tessi_rule *rules = bind(layer, input);
    layer->as.reduce.axes = axes;
    layer->as.reduce.keepdims = group > 0;
    for (uint32_t d = 0; d < input->grid.ndim; d++) {
        const struct tessi_axis *axis = &input->grid.axis[d];
        if ((axes >> d & 1u) == 0) {
            rules[d].dim = layer->grid.ndim;
            layer->grid.axis[layer->grid.ndim++] = tessi_axis_copy(axis);
        } else if (group > 0) {
            rules[d] = (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = layer->grid.ndim, .value = (int64_t)group};
            layer->grid.axis[layer->grid.ndim++] = tessi_axis_regular((int64_t)((axis->count - 1) / group + 1), 1);
        } else {
            rules[d] = (struct tessi_rule){.kind = TESSI_RULE_ALL};
        }
    }
    return finish(graph, layer);
}

static const struct tessi_layer *product(struct tool_graph *graph, const struct tessi_layer *a,
                                         const struct tessi_layer *b, uint64_t segment)
{
    int64_t k = a->grid.axis[1].extent;
    int64_t length = segment == 0 || (int64_t)segment > k ? k : (int64_t)segment;
    int64_t segments = (k - 1) / length + 1;
    struct tessi_layer *layer = begin(graph, TESSI_OP_MATMUL);
    struct tessi_rule contracted = {.kind = TESSI_RULE_ALL};
    layer->as.matmul.segment = length;
    layer->grid.ndim = 2;
    layer->grid.axis[0] = tessi_axis_copy(&a->grid.axis[0]);
    layer->grid.axis[1] = tessi_axis_copy(&b->grid.axis[1]);
    if (segments > 1) {
        layer->grid.ndim = 3;
        layer->grid.axis[2] = tessi_axis_regular(segments, 1);
        contracted = (struct tessi_rule){.kind = TESSI_RULE_SEGMENT, .dim = 2, .value = length};
    }
    bind(layer, a)[1] = contracted;
    bind(layer, b)[0] = contracted;
    const struct tessi_layer *made = finish(graph, layer);
    return segments > 1 ? fold(graph, made, 1u << 2, 0) : made;
}

static void make_tasks(struct tool_graph *graph, uint64_t count)
{
    uint64_t side = (uint64_t)sqrt((double)count);
    const struct tessi_layer *first = source(graph, 2, side, 1);
    struct tessi_layer *layer = begin(graph, TESSI_OP_TRANSPOSE);
    tessi_grid_copy(&layer->grid, &first->grid);
    struct tessi_rule *rules = bind(layer, first);
    for (uint32_t d = 0; d < 2; d++) {
        layer->as.transpose.axis[d] = 1 - d;
        rules[d].dim = 1 - d;
    }
    (void)finish(graph, layer);
}

/* Task t reads one to three of the `window` tasks before it; the first one reads nothing. */
static struct tessi_table *random_table(struct random *random, uint32_t tasks, uint32_t window)
{
    uint32_t *rows = tessi_zalloc(((size_t)tasks + 1) * sizeof *rows);
    uint32_t *columns = tessi_alloc((size_t)tasks * DEPENDENCIES_MAX * sizeof *columns);
    for (uint32_t t = 0; t < tasks; t++) {
        uint32_t *row = &columns[rows[t]];
        uint32_t width = t < window ? t : window, count = 0;
        for (uint32_t n = width > 0 ? 1 + random_below(random, DEPENDENCIES_MAX) : 0; n > 0; n--) {
            uint32_t column = t - 1 - random_below(random, width), at = count; /* kept ascending and distinct */
            while (at > 0 && row[at - 1] > column) {
                at--;
            }
            if (at > 0 && row[at - 1] == column) {
                continue;
            }
            for (uint32_t i = count++; i > at; i--) {
                row[i] = row[i - 1];
            }
            row[at] = column;
        }
        rows[t + 1] = rows[t] + count;
    }
    struct tessi_table *table = tessi_table_create(tasks, tasks, rows, columns);
    tessi_free(rows);
    tessi_free(columns);
    return table;
}

/* Unless nobody knows, synthetic tasks say how long they take. */
static struct tessi_layer *begin_synthetic(struct tool_graph *graph, const struct tool_options *options)
{
    struct tessi_layer *layer = begin(graph, TESSI_OP_SYNTHETIC);
    layer->as.synthetic.nanoseconds = options->told && options->time != TOOL_TIME_COST ? (uint64_t)options->task_ns : 0;
    return layer;
}

static void make_dag(struct tool_graph *graph, const struct tool_options *options)
{
    struct random random = {options->seed};
    struct tessi_layer *layer = begin_synthetic(graph, options);
    layer->grid.ndim = 1;
    layer->grid.axis[0] = tessi_axis_regular((int64_t)options->size[0], 1);
    (void)bind(layer, layer);
    layer->input[0].rules.table = random_table(&random, (uint32_t)options->size[0], (uint32_t)options->size[1]);
    (void)finish(graph, layer);
}

static void make_stencil(struct tool_graph *graph, const struct tool_options *options, uint64_t width, uint64_t depth)
{
    const struct tessi_layer *below = source(graph, 1, width, 1);
    for (uint64_t d = 1; d < depth; d++) {
        struct tessi_layer *layer = begin_synthetic(graph, options);
        tessi_grid_copy(&layer->grid, &below->grid);
        for (int64_t offset = -1; offset <= 1; offset++) {
            bind(layer, below)[0] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .value = offset};
        }
        below = finish(graph, layer);
    }
}

static void make_layered(struct tool_graph *graph, uint64_t width, uint64_t depth)
{
    const struct tessi_layer *below = source(graph, 1, width, 1);
    for (uint64_t d = 1; d < depth; d++) {
        below = elementwise(graph, below, NULL);
    }
}

static void make_sum(struct tool_graph *graph, uint64_t extent, uint64_t chunk)
{
    const struct tessi_layer *a = source(graph, 2, extent, chunk);
    const struct tessi_layer *b = source(graph, 2, extent, chunk);
    const struct tessi_layer *c = source(graph, 2, extent, chunk);
    const struct tessi_layer *at = product(graph, elementwise(graph, a, b), c, 0);
    while (at->grid.axis[0].count > 1) {
        at = fold(graph, at, 3, 4);
    }
    (void)fold(graph, at, 3, 0);
}

static void make_reduce(struct tool_graph *graph, uint64_t blocks, uint64_t fan)
{
    const struct tessi_layer *at = source(graph, 1, blocks, 1);
    while (at->grid.axis[0].count > 1) {
        at = fold(graph, at, 1, fan);
    }
}

enum tessi_status tool_graph_make(struct tool_graph *graph, const struct tool_options *options,
                                  struct tessi_error *error)
{
    const uint64_t *size = options->size;
    *graph = (struct tool_graph){0};
    if ((options->graph == TOOL_MATMUL || options->graph == TOOL_SUM) && size[1] > size[0]) {
        return tessi_fail(error, TESSI_INVALID, "blocks of side %llu do not fit into a side of %llu",
                          (unsigned long long)size[1], (unsigned long long)size[0]);
    }
    if (options->graph == TOOL_REDUCE && size[1] < 2) {
        return tessi_fail(error, TESSI_INVALID, "a tree with a fan-in of 1 has no end: take 2 or more");
    }
    if (options->graph == TOOL_DAG && size[0] > TESSI_TABLE_BLOCKS_MAX) {
        return tessi_fail(error, TESSI_INVALID, "an irregular graph has %llu tasks at most",
                          (unsigned long long)TESSI_TABLE_BLOCKS_MAX);
    }
    switch (options->graph) {
    case TOOL_MATMUL: {
        const struct tessi_layer *a = source(graph, 2, size[0], size[1]);
        const struct tessi_layer *b = source(graph, 2, size[0], size[1]);
        (void)product(graph, a, b, size[2]);
        break;
    }
    case TOOL_SUM:
        make_sum(graph, size[0], size[1]);
        break;
    case TOOL_TASKS:
        make_tasks(graph, size[0]);
        break;
    case TOOL_LAYERED:
        make_layered(graph, size[0], size[1]);
        break;
    case TOOL_CHAIN:
        make_layered(graph, 1, size[0]);
        break;
    case TOOL_DAG:
        make_dag(graph, options);
        break;
    case TOOL_STENCIL:
        make_stencil(graph, options, size[0], size[1]);
        break;
    case TOOL_REDUCE:
        make_reduce(graph, size[0], size[1]);
        break;
    }
    for (size_t i = 0; i < graph->count; i++) {
        enum tessi_status status = tessi_layer_check(graph->layers[i], error);
        if (status != TESSI_OK) {
            return status;
        }
    }
    return TESSI_OK;
}

void tool_graph_fini(struct tool_graph *graph)
{
    for (size_t i = 0; i < graph->count; i++) {
        tessi_layer_destroy(graph->layers[i]);
    }
    tessi_free(graph->layers);
    *graph = (struct tool_graph){0};
}
