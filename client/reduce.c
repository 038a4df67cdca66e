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

/* One level: groups of up to `fan` blocks along the folded axes become one element each. */
static struct tessi_node *level(struct tessi_node *a, enum tessi_fold fold, enum tessi_dtype dtype, uint32_t axes,
                                uint64_t fan, struct tessi_error *error)
{
    const struct tessi_grid *in = &a->layer->grid;
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_REDUCE, dtype);
    tessi_layer_set_input(layer, 0, a);
    layer->as.reduce.fold = fold;
    layer->as.reduce.axes = axes;
    layer->as.reduce.keepdims = true;
    layer->grid.ndim = in->ndim;
    for (uint32_t d = in->ndim; d-- > 0;) {
        if (!folds(axes, d)) {
            layer->grid.axis[d] = tessi_axis_copy(&in->axis[d]);
            continue;
        }
        uint64_t group = fan < in->axis[d].count ? fan : in->axis[d].count;
        fan /= group;
        fan = fan > 0 ? fan : 1;
        layer->grid.axis[d] = tessi_axis_regular((int64_t)((in->axis[d].count - 1) / group + 1), 1);
        layer->input[0].rules.rule[d] =
            (struct tessi_rule){.kind = TESSI_RULE_GROUP, .dim = d, .value = (int64_t)group};
    }
    return tessi_node_build(a->session, layer, &a, error);
}

static struct tessi_node *last_level(struct tessi_node *a, enum tessi_fold fold, enum tessi_dtype dtype, uint32_t axes,
                                     bool keepdims, struct tessi_error *error)
{
    const struct tessi_grid *in = &a->layer->grid;
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_REDUCE, dtype);
    tessi_layer_set_input(layer, 0, a);
    layer->as.reduce.fold = fold;
    layer->as.reduce.axes = axes;
    layer->as.reduce.keepdims = keepdims;
    uint32_t out = 0;
    for (uint32_t d = 0; d < in->ndim; d++) {
        struct tessi_rule *rule = &layer->input[0].rules.rule[d];
        if (folds(axes, d)) {
            *rule = (struct tessi_rule){.kind = TESSI_RULE_ALL};
            if (keepdims) {
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

struct tessi_node *tessi_node_fold(struct tessi_node *a, enum tessi_fold fold, enum tessi_dtype dtype, uint32_t axes,
                                   bool keepdims, struct tessi_error *error)
{
    struct tessi_node *current = tessi_node_ref(a);
    uint64_t fan = 1;
    bool inside = blocks_fold_inside(&a->layer->grid, axes);
    while (current != NULL) {
        uint64_t blocks = blocks_folded(&current->layer->grid, axes);
        /* The first level reads whole blocks: it stays where they are, and only its small results travel. */
        if (inside ? blocks <= 1 : blocks <= FAN_IN) {
            break;
        }
        fan = inside ? 1 : FAN_IN;
        inside = false;
        struct tessi_node *next = level(current, fold, dtype, axes, fan, error);
        tessi_node_unref(current);
        current = next;
    }
    struct tessi_node *result = current == NULL ? NULL : last_level(current, fold, dtype, axes, keepdims, error);
    tessi_node_unref(current);
    return result;
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

/* The array that `make` makes of an array and existing axes, or the refusal in the name of `operation`. */
typedef struct tessi_node *make_fn(struct tessi_node *a, uint32_t axes, bool keepdims, struct tessi_error *error);

static tess_array *reduced(const char *operation, tess_array *a, uint32_t axes, bool keepdims, make_fn *make)
{
    struct tess_array *refused = tessi_array_refuse(operation, a, a);
    if (refused != NULL) {
        return refused;
    }
    struct tessi_error error = {0};
    struct tessi_node *node = NULL;
    if (check_axes(a->node, &axes, &error) == TESSI_OK) {
        node = make(a->node, axes, keepdims, &error);
    }
    return tessi_array_finish(a->session, operation, node, &error);
}

/* What sums of a dtype are made in until they are complete. */
static enum tessi_dtype wide_of(enum tessi_dtype dtype)
{
    return dtype == TESSI_F16 || dtype == TESSI_BF16 ? TESSI_F32 : dtype;
}

/* f16 and bf16 stay in f32 through all levels and are rounded once: else a partial sum may be inf where the sum is none. */
static struct tessi_node *sum_node(struct tessi_node *a, uint32_t axes, bool keepdims, struct tessi_error *error)
{
    enum tessi_dtype dtype = tessi_dtype_sum(a->layer->dtype);
    enum tessi_dtype wide = wide_of(dtype);
    if (axes == 0) {
        return tessi_node_astype(a, dtype, error);
    }
    if (folds_nothing(a, axes)) {
        return fold_of_nothing(a, dtype, axes, keepdims, 0.0, error);
    }
    struct tessi_node *sum = tessi_node_fold(a, TESSI_FOLD_SUM, wide, axes, keepdims, error);
    struct tessi_node *node = sum != NULL ? tessi_node_astype(sum, dtype, error) : NULL;
    tessi_node_unref(sum);
    return node;
}

/* Of f16 and bf16 the quotient is an f64, so that it is rounded once on its way back. */
static struct tessi_node *mean_node(struct tessi_node *a, uint32_t axes, bool keepdims, struct tessi_error *error)
{
    enum tessi_dtype result = tessi_dtype_inexact(a->layer->dtype);
    enum tessi_dtype wide = wide_of(result);
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

static struct tessi_node *extreme(struct tessi_node *a, enum tessi_fold fold, uint32_t axes, bool keepdims,
                                  struct tessi_error *error)
{
    const char *name = fold == TESSI_FOLD_MIN ? "min" : "max";
    if (tessi_dtype_kind(a->layer->dtype) == TESSI_KIND_COMPLEX) {
        (void)tessi_fail(error, TESSI_UNSUPPORTED, "complex numbers have no order: take the %s of a real array", name);
        return NULL;
    }
    if (folds_nothing(a, axes)) {
        (void)tessi_fail(error, TESSI_INVALID, "an axis to be folded has extent 0: no elements have no %s", name);
        return NULL;
    }
    return axes == 0 ? tessi_node_ref(a) : tessi_node_fold(a, fold, a->layer->dtype, axes, keepdims, error);
}

static struct tessi_node *min_node(struct tessi_node *a, uint32_t axes, bool keepdims, struct tessi_error *error)
{
    return extreme(a, TESSI_FOLD_MIN, axes, keepdims, error);
}

static struct tessi_node *max_node(struct tessi_node *a, uint32_t axes, bool keepdims, struct tessi_error *error)
{
    return extreme(a, TESSI_FOLD_MAX, axes, keepdims, error);
}

tess_array *tess_sum(tess_array *a, uint32_t axes, bool keepdims)
{
    return reduced(__func__, a, axes, keepdims, sum_node);
}

tess_array *tess_mean(tess_array *a, uint32_t axes, bool keepdims)
{
    return reduced(__func__, a, axes, keepdims, mean_node);
}

tess_array *tess_min(tess_array *a, uint32_t axes, bool keepdims)
{
    return reduced(__func__, a, axes, keepdims, min_node);
}

tess_array *tess_max(tess_array *a, uint32_t axes, bool keepdims)
{
    return reduced(__func__, a, axes, keepdims, max_node);
}
