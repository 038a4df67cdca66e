/* Reductions: fold inside each block first, then a tree with bounded fan-in over what is left, whose form
 * depends on shape and chunks only. */
#include <math.h>

#include "client/array.h"
#include "core/base/assert.h"

#define FAN_IN 16 /* blocks that one task of the tree folds */

static bool folds(uint32_t axes, uint32_t d)
{
    return (axes >> d & 1u) != 0;
}

/* What is reduced, and how. */
struct fold {
    struct tessi_node *of;
    enum tessi_fold kind;
    enum tessi_dtype number; /* of partial results that are numbers */
    enum tessi_dtype from;   /* of the elements, where these are records */
    uint32_t axes;
    bool keepdims;
    double parameter;
};

/* Blocks along the folded axes, at most 2^63. */
static uint64_t blocks_folded(const struct tessi_grid *grid, uint32_t axes)
{
    uint64_t blocks = 1;
    for (uint32_t d = 0; d < grid->ndim; d++) {
        if (folds(axes, d) && __builtin_mul_overflow(blocks, grid->axis[d].count, &blocks)) {
            return UINT64_MAX;
        }
    }
    return blocks;
}

/* Whether a block has more than one element along the folded axes. */
static bool blocks_fold_inside(const struct tessi_grid *grid, uint32_t axes)
{
    for (uint32_t d = 0; d < grid->ndim; d++) {
        if (folds(axes, d) && tessi_axis_longest(&grid->axis[d]) > 1) {
            return true;
        }
    }
    return false;
}

/* A layer that folds `axes` of `a`; whether its partial results are records, from which it is told by them. */
static struct tessi_layer *fold_layer(const struct tessi_node *a, const struct fold *fold, bool finishes)
{
    bool records = tessi_fold_record_bytes(fold->kind) > 0;
    enum tessi_dtype dtype = !records ? fold->number : finishes ? tessi_fold_result(fold->kind, fold->from) : TESSI_U8;
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_REDUCE, dtype);
    tessi_layer_set_input(layer, 0, a);
    layer->as.reduce.fold = fold->kind;
    layer->as.reduce.axes = fold->axes;
    layer->as.reduce.keepdims = !finishes || fold->keepdims;
    if (records) {
        layer->as.reduce.from = fold->from;
        layer->as.reduce.lifts = a == fold->of;
        layer->as.reduce.finishes = finishes;
        layer->as.reduce.parameter = fold->parameter;
    }
    return layer;
}

/* One level: groups of up to `fan` blocks along the folded axes become one element each, or one record, whose bytes lie in
 * the first of these axes. */
static struct tessi_node *level(struct tessi_node *a, const struct fold *fold, uint64_t fan, struct tessi_error *error)
{
    const struct tessi_grid *in = &a->layer->grid;
    struct tessi_layer *layer = fold_layer(a, fold, false);
    uint32_t axes = fold->axes;
    uint32_t first = (uint32_t)__builtin_ctz(axes);
    int64_t record = tessi_fold_record_bytes(fold->kind);
    layer->grid.ndim = in->ndim;
    for (uint32_t d = in->ndim; d-- > 0;) {
        if (!folds(axes, d)) {
            layer->grid.axis[d] = tessi_axis_copy(&in->axis[d]);
            continue;
        }
        uint64_t group = fan < in->axis[d].count ? fan : in->axis[d].count;
        fan /= group;
        fan = fan > 0 ? fan : 1;
        int64_t groups = (int64_t)((in->axis[d].count - 1) / group + 1);
        int64_t each = record > 0 && d == first ? record : 1;
        layer->grid.axis[d] = tessi_axis_regular(groups * each, each);
        layer->input[0].rules.rule[d] =
            (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = d, .value = (int64_t)group};
    }
    return tessi_node_build(a->session, layer, &a, error);
}

static struct tessi_node *last_level(struct tessi_node *a, const struct fold *fold, struct tessi_error *error)
{
    const struct tessi_grid *in = &a->layer->grid;
    struct tessi_layer *layer = fold_layer(a, fold, true);
    uint32_t out = 0;
    for (uint32_t d = 0; d < in->ndim; d++) {
        struct tessi_rule *rule = &layer->input[0].rules.rule[d];
        if (folds(fold->axes, d)) {
            *rule = (struct tessi_rule){.kind = TESSI_RULE_ALL};
            if (fold->keepdims) {
                layer->grid.axis[out++] = tessi_axis_regular(1, 1);
            }
        } else {
            *rule = (struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = out};
            layer->grid.axis[out++] = tessi_axis_copy(&in->axis[d]);
        }
    }
    layer->grid.ndim = out;
    return tessi_node_build(a->session, layer, &a, error);
}

/* Numbers are joined in the last layer too; a record is finished there, so it reads one. */
static struct tessi_node *tree(const struct fold *fold, struct tessi_error *error)
{
    struct tessi_node *current = tessi_node_ref(fold->of);
    bool inside = blocks_fold_inside(&current->layer->grid, fold->axes);
    uint64_t last = tessi_fold_record_bytes(fold->kind) > 0 ? 1 : FAN_IN;
    while (current != NULL) {
        uint64_t blocks = blocks_folded(&current->layer->grid, fold->axes);
        /* The first level reads whole blocks: it stays where they are, and only its small results travel. */
        if (inside ? blocks <= 1 : blocks <= last) {
            break;
        }
        struct tessi_node *next = level(current, fold, inside ? 1 : FAN_IN, error);
        inside = false;
        tessi_node_unref(current);
        current = next;
    }
    struct tessi_node *result = current == NULL ? NULL : last_level(current, fold, error);
    tessi_node_unref(current);
    return result;
}

struct tessi_node *tessi_node_fold(struct tessi_node *a, enum tessi_fold kind, enum tessi_dtype dtype, uint32_t axes,
                                   bool keepdims, struct tessi_error *error)
{
    TESS_ASSERT(tessi_fold_record_bytes(kind) == 0);
    struct fold fold = {.of = a, .kind = kind, .number = dtype, .axes = axes, .keepdims = keepdims};
    return tree(&fold, error);
}

/* A folded array whose folded axes hold nothing: every element is the same constant, in the chunks that others have. */
static struct tessi_node *fold_of_nothing(struct tessi_node *a, enum tessi_dtype dtype, uint32_t axes, bool keepdims,
                                          double value, struct tessi_error *error)
{
    const struct tessi_grid *in = &a->layer->grid;
    struct tessi_grid grid = {0};
    for (uint32_t d = 0; d < in->ndim; d++) {
        if (!folds(axes, d)) {
            grid.axis[grid.ndim++] = tessi_axis_copy(&in->axis[d]);
        } else if (keepdims) {
            grid.axis[grid.ndim++] = tessi_axis_regular(1, 1);
        }
    }
    struct tessi_node *node = tessi_node_full_on(a->session, &grid, dtype, value, error);
    tessi_grid_fini(&grid);
    return node;
}

static bool folds_nothing(const struct tessi_node *a, uint32_t axes)
{
    for (uint32_t d = 0; d < a->layer->grid.ndim; d++) {
        if (folds(axes, d) && a->layer->grid.axis[d].extent == 0) {
            return true;
        }
    }
    return false;
}

/* The set of axes without those that TESS_ALL names in excess. */
static enum tessi_status check_axes(const struct tessi_node *a, uint32_t *axes, struct tessi_error *error)
{
    uint32_t ndim = a->layer->grid.ndim;
    uint32_t all = (UINT32_C(1) << ndim) - 1;
    if (*axes == TESS_ALL) {
        *axes = all;
    }
    if ((*axes & ~all) != 0) {
        return tessi_fail(error, TESSI_INVALID, "axis %d of an array of %u dimensions: name axes below %u, or TESS_ALL",
                          31 - __builtin_clz(*axes), ndim, ndim);
    }
    return TESSI_OK;
}

static struct tessi_node *refuse_complex(enum tessi_fold kind, struct tessi_error *error)
{
    (void)tessi_fail(error, TESSI_UNSUPPORTED, "complex numbers have no order: take the %s of a real array",
                     tessi_fold_row(kind)->name);
    return NULL;
}

/* A reduction of the table. Numbers keep a dtype in which no partial result is inf where the whole is none, and are rounded
 * once. */
static struct tessi_node *reduce_node(struct tessi_node *a, enum tessi_fold kind, double parameter, uint32_t axes,
                                      bool keepdims, struct tessi_error *error)
{
    enum tessi_dtype from = a->layer->dtype;
    struct fold fold = {.of = a, .kind = kind, .from = from, .axes = axes, .keepdims = keepdims, .parameter = parameter};
    double nothing = 0.0;
    if (!tessi_fold_takes(kind, from)) {
        return refuse_complex(kind, error);
    }
    enum tessi_dtype dtype = tessi_fold_result(kind, from);
    if (folds_nothing(a, axes) && !tessi_fold_of_nothing(kind, &nothing)) {
        (void)tessi_fail(error, TESSI_INVALID, "an axis to be folded has extent 0: no elements have no %s",
                         tessi_fold_row(kind)->name);
        return NULL;
    }
    if (folds_nothing(a, axes)) {
        return fold_of_nothing(a, dtype, axes, keepdims, nothing, error);
    }
    if (tessi_fold_record_bytes(kind) > 0) {
        return tree(&fold, error);
    }
    if (axes == 0 && dtype != TESSI_BOOL) { /* a conversion, but of complex numbers to truth values there is none */
        return tessi_node_astype(a, dtype, error);
    }
    fold.number = tessi_fold_number(kind, from);
    struct tessi_node *number = tree(&fold, error);
    struct tessi_node *node = number != NULL ? tessi_node_astype(number, dtype, error) : NULL;
    tessi_node_unref(number);
    return node;
}

/* Of f16 and bf16 the quotient is an f64, so that it is rounded once on its way back. */
static struct tessi_node *mean_node(struct tessi_node *a, uint32_t axes, bool keepdims, struct tessi_error *error)
{
    enum tessi_dtype result = tessi_dtype_inexact(a->layer->dtype);
    enum tessi_dtype wide = tessi_fold_number(TESSI_FOLD_SUM, result);
    if (folds_nothing(a, axes)) {
        return fold_of_nothing(a, result, axes, keepdims, NAN, error);
    }
    double count = 1.0;
    for (uint32_t d = 0; d < a->layer->grid.ndim; d++) {
        count *= folds(axes, d) ? (double)a->layer->grid.axis[d].extent : 1.0;
    }
    struct tessi_node *converted = tessi_node_astype(a, wide, error);
    struct tessi_node *sum = NULL;
    struct tessi_node *mean = NULL;
    struct tessi_node *node = NULL;
    if (converted != NULL) {
        sum = axes == 0 ? tessi_node_ref(converted)
                        : tessi_node_fold(converted, TESSI_FOLD_SUM, wide, axes, keepdims, error);
    }
    if (sum != NULL) {
        mean = tessi_node_scalar_op(sum, TESSI_EWISE_DIVIDE, wide == result ? result : TESSI_F64, count, error);
    }
    if (mean != NULL) {
        node = tessi_node_astype(mean, result, error);
    }
    tessi_node_unref(converted);
    tessi_node_unref(sum);
    tessi_node_unref(mean);
    return node;
}

#define MEAN TESSI_FOLD_COUNT /* not a row: a sum and a quotient */

static tess_array *reduced(const char *operation, tess_array *a, uint32_t axes, bool keepdims, int kind,
                           double parameter)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, a);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_node *node = NULL;
    if (check_axes(a->node, &axes, &error) == TESSI_OK) {
        node = kind == MEAN ? mean_node(a->node, axes, keepdims, &error)
                            : reduce_node(a->node, (enum tessi_fold)kind, parameter, axes, keepdims, &error);
    }
    return tessi_array_finish(a->session, operation, node, &error);
}

tess_array *tess_mean(tess_array *a, uint32_t axes, bool keepdims)
{
    return reduced(__func__, a, axes, keepdims, MEAN, 0.0);
}

/* The functions of the table's rows. */
#define WITH_NONE(F, name)                                                                                             \
    tess_array *tess_##name(tess_array *a, uint32_t axes, bool keepdims)                                               \
    {                                                                                                                  \
        return reduced(__func__, a, axes, keepdims, TESSI_FOLD_##F, 0.0);                                              \
    }
#define WITH_CORRECTION(F, name)                                                                                       \
    tess_array *tess_##name(tess_array *a, uint32_t axes, double correction, bool keepdims)                            \
    {                                                                                                                  \
        return reduced(__func__, a, axes, keepdims, TESSI_FOLD_##F, correction);                                       \
    }
#define TESSI_ROW(F, name, ...) WITH_NONE(F, name)
TESSI_FOLD_NUMBERS(TESSI_ROW)
#undef TESSI_ROW
#define TESSI_ROW(F, name, code, takes, result, words, position, empty, nan, parameter, ...) WITH_##parameter(F, name)
TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW
