/* Index maps on small random grids: the forward box against a slow definition by single elements,
 * the inverse box against the forward ones, and what the check refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/graph/layer.h"
#include "core/graph/map.h"
#include "tests/unit/sample.h"

#define KINDS 7

static struct tessi_rule sample_rule(struct sample *sample, enum tessi_rule_kind kind, uint32_t out_ndim)
{
    struct tessi_rule rule = {.kind = kind};
    rule.dim = out_ndim > 0 ? (uint32_t)sample_between(sample, 0, out_ndim - 1) : 0;
    rule.value = sample_between(sample, kind == TESSI_RULE_OFFSET ? -3 : 0, 5);
    rule.start = sample_between(sample, 0, 4);
    rule.step = sample_between(sample, 1, 4);
    return rule;
}

/* Whether chunk c of the input axis is in the rule's interval for output chunk o, by looking at every element. */
static bool reads_slowly(const struct tessi_rule *rule, const struct tessi_axis *in, const struct tessi_axis *out,
                         int64_t o, int64_t c)
{
    switch (rule->kind) {
    case TESSI_RULE_SAME:
        return c == o;
    case TESSI_RULE_FIXED:
        return c == rule->value;
    case TESSI_RULE_ALL:
        return true;
    case TESSI_RULE_GROUP:
        return c / rule->value == o;
    case TESSI_RULE_OFFSET:
        return c == o + rule->value;
    case TESSI_RULE_SEGMENT:
        for (int64_t e = 0; e < in->extent; e++) {
            if (e / rule->value == o && (int64_t)tessi_axis_find(in, e) == c) {
                return true;
            }
        }
        return false;
    case TESSI_RULE_SLICE: {
        bool at_or_before = false;
        bool at_or_after = false;
        for (int64_t e = 0; e < out->extent; e++) {
            if ((int64_t)tessi_axis_find(out, e) == o) {
                int64_t chunk = (int64_t)tessi_axis_find(in, rule->start + e * rule->step);
                at_or_before = at_or_before || chunk <= c;
                at_or_after = at_or_after || chunk >= c;
            }
        }
        return at_or_before && at_or_after;
    }
    }
    return false;
}

static bool box_has(const struct tessi_box *box, const uint64_t *coords)
{
    if (tessi_box_volume(box) == 0) {
        return false;
    }
    for (uint32_t d = 0; d < box->ndim; d++) {
        if (coords[d] < box->lo[d] || coords[d] >= box->hi[d]) {
            return false;
        }
    }
    return true;
}

struct named { /* what a walk has named */
    const struct tessi_grid *grid;
    const struct tessi_box *box;
    uint64_t count;
};

static void name_one(void *context, uint64_t index)
{
    struct named *named = context;
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    tessi_grid_coords(named->grid, index, coords);
    assert_true(box_has(named->box, coords));
    named->count++;
}

/* Tasks and blocks are named one by one as their boxes say; where there is one at most, without a box. */
static void compare_walks(const struct tessi_layer *layer, uint64_t task, const struct tessi_box *inputs, uint64_t block,
                          const struct tessi_box *outputs)
{
    struct named blocks = {&layer->input[0].grid, inputs, 0}, tasks = {&layer->grid, outputs, 0};
    tessi_task_inputs(layer, 0, task, name_one, &blocks);
    tessi_block_dependents(layer, 0, block, name_one, &tasks);
    assert_int_equal(blocks.count, tessi_box_volume(inputs));
    assert_int_equal(tasks.count, tessi_box_volume(outputs));
    assert_int_equal(blocks.count, tessi_task_input_count(layer, 0, task));
    assert_int_equal(tasks.count, tessi_block_dependent_count(layer, 0, block));
}

static uint64_t compare_all_pairs(const struct tessi_map_rules *rules, const struct tessi_grid *in, const struct tessi_grid *out,
                                  unsigned *whole)
{
    uint64_t reads = 0, unread = 0;
    struct tessi_input input = {.grid = *in, .rules = *rules};
    struct tessi_layer layer = {.grid = *out, .ninputs = 1, .input = &input};
    for (uint64_t t = 0; t < tessi_grid_blocks(out); t++) {
        uint64_t to[TESSI_NDIM_MAX] = {0};
        struct tessi_box inputs;
        tessi_grid_coords(out, t, to);
        tessi_rules_inputs(rules, in, out, to, &inputs);
        assert_true(tessi_box_volume(&inputs) <= tessi_rules_width(rules, in, out));
        for (uint64_t b = 0; b < tessi_grid_blocks(in); b++) {
            uint64_t from[TESSI_NDIM_MAX] = {0};
            struct tessi_box outputs;
            bool slow = true;
            tessi_grid_coords(in, b, from);
            tessi_rules_outputs(rules, in, out, from, &outputs);
            for (uint32_t d = 0; d < in->ndim; d++) {
                uint32_t o = rules->rule[d].dim;
                slow = slow && reads_slowly(&rules->rule[d], &in->axis[d], &out->axis[o], (int64_t)to[o],
                                            (int64_t)from[d]);
            }
            assert_int_equal(box_has(&inputs, from), slow);
            assert_int_equal(box_has(&outputs, to), slow);
            compare_walks(&layer, t, &inputs, b, &outputs);
            reads += slow;
        }
    }
    for (uint64_t b = 0; b < tessi_grid_blocks(in); b++) {
        unread += tessi_block_dependent_count(&layer, 0, b) == 0;
    }
    bool read_all = tessi_layer_reads_all(&layer, 0);
    assert_true(!read_all || unread == 0);
    *whole += read_all;
    return reads;
}

static void test_forward_and_inverse_agree(void **state)
{
    (void)state;
    struct sample sample = {3};
    unsigned accepted[KINDS] = {0};
    unsigned reading[KINDS] = {0};
    unsigned whole[KINDS] = {0};
    for (unsigned round = 0; round < 60000; round++) {
        struct tessi_grid in;
        struct tessi_grid out;
        enum tessi_rule_kind kind = (enum tessi_rule_kind)(round % KINDS);
        sample_grid(&sample, (uint32_t)sample_between(&sample, 1, 2), 9, &in);
        sample_grid(&sample, (uint32_t)sample_between(&sample, 0, 2), 9, &out);
        struct tessi_map_rules rules = {.ndim = in.ndim};
        for (uint32_t d = 0; d < in.ndim; d++) {
            enum tessi_rule_kind other = (enum tessi_rule_kind)(sample_next(&sample) % KINDS);
            rules.rule[d] = sample_rule(&sample, d == 0 ? kind : other, out.ndim);
        }
        if (tessi_rules_check(&rules, &in, &out, NULL) == TESSI_OK) {
            accepted[kind]++;
            reading[kind] += compare_all_pairs(&rules, &in, &out, &whole[kind]) > 0;
        }
        tessi_grid_fini(&in);
        tessi_grid_fini(&out);
    }
    for (unsigned kind = 0; kind < KINDS; kind++) {
        assert_true(accepted[kind] > 100);
        assert_true(reading[kind] > 50);
        assert_true(whole[kind] > 10);
    }
}

static void test_scalars_have_one_block(void **state)
{
    (void)state;
    struct tessi_grid scalar = {.ndim = 0};
    struct tessi_map_rules rules = {.ndim = 0};
    struct tessi_box box;
    assert_int_equal(tessi_rules_check(&rules, &scalar, &scalar, NULL), TESSI_OK);
    tessi_rules_inputs(&rules, &scalar, &scalar, NULL, &box);
    assert_int_equal(tessi_box_volume(&box), 1);
    tessi_rules_outputs(&rules, &scalar, &scalar, NULL, &box);
    assert_int_equal(tessi_box_volume(&box), 1);
}

static void test_known_answers(void **state)
{
    (void)state;
    struct tessi_grid in = {.ndim = 1, .axis = {tessi_axis_regular(100, 10)}};
    struct tessi_grid out = {.ndim = 1, .axis = {tessi_axis_regular(8, 4)}};
    struct tessi_map_rules rules = {.ndim = 1, .rule = {{.kind = TESSI_RULE_SLICE, .start = 5, .step = 12}}};
    struct tessi_box box;
    /* Elements 5, 17, 29, 41 and 53, 65, 77, 89. */
    assert_int_equal(tessi_rules_check(&rules, &in, &out, NULL), TESSI_OK);
    tessi_rules_inputs(&rules, &in, &out, (const uint64_t[]){0}, &box);
    assert_int_equal(box.lo[0], 0);
    assert_int_equal(box.hi[0], 5);
    tessi_rules_inputs(&rules, &in, &out, (const uint64_t[]){1}, &box);
    assert_int_equal(box.lo[0], 5);
    assert_int_equal(box.hi[0], 9);
    tessi_rules_outputs(&rules, &in, &out, (const uint64_t[]){9}, &box);
    assert_int_equal(tessi_box_volume(&box), 0);
    tessi_rules_outputs(&rules, &in, &out, (const uint64_t[]){5}, &box);
    assert_int_equal(box.lo[0], 1);
    assert_int_equal(box.hi[0], 2);
}

static void refuse(struct tessi_rule rule, int64_t in_extent, int64_t out_extent)
{
    struct tessi_grid in = {.ndim = 1, .axis = {tessi_axis_regular(in_extent, 10)}};
    struct tessi_grid out = {.ndim = 1, .axis = {tessi_axis_regular(out_extent, 10)}};
    struct tessi_map_rules rules = {.ndim = 1, .rule = {rule}};
    struct tessi_error error = {TESSI_OK, ""};
    assert_int_equal(tessi_rules_check(&rules, &in, &out, &error), TESSI_INVALID);
    assert_true(strlen(error.text) > 20);
}

static void test_check_refuses(void **state)
{
    (void)state;
    refuse((struct tessi_rule){.kind = (enum tessi_rule_kind)7}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = 1}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SAME, .dim = UINT32_MAX}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SAME}, 100, 110);
    refuse((struct tessi_rule){.kind = TESSI_RULE_FIXED, .value = 10}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_FIXED, .value = -1}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_GROUP, .value = 0}, 100, 10);
    refuse((struct tessi_rule){.kind = TESSI_RULE_GROUP, .value = -4}, 100, 10);
    refuse((struct tessi_rule){.kind = TESSI_RULE_GROUP, .value = 5}, 100, 30);
    refuse((struct tessi_rule){.kind = TESSI_RULE_GROUP, .value = INT64_MAX}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SEGMENT, .value = 0}, 100, 10);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SEGMENT, .value = 50}, 100, 30);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = 0, .step = 0}, 100, 1);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = -1, .step = 1}, 100, 1);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = 1, .step = 1}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = 0, .step = 2}, 100, 51);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = 0, .step = INT64_MAX}, 100, 3);
    refuse((struct tessi_rule){.kind = TESSI_RULE_SLICE, .start = INT64_MAX, .step = 1}, 100, 0);
    refuse((struct tessi_rule){.kind = TESSI_RULE_OFFSET, .value = INT64_MAX}, 100, 100);
    refuse((struct tessi_rule){.kind = TESSI_RULE_OFFSET, .value = INT64_MIN}, 100, 100);
    struct tessi_grid in = {.ndim = 1, .axis = {tessi_axis_regular(10, 10)}};
    struct tessi_map_rules none = {.ndim = 0};
    assert_int_equal(tessi_rules_check(&none, &in, &in, NULL), TESSI_INVALID);
}

static void test_tables_invert(void **state)
{
    (void)state;
    struct sample sample = {4};
    for (unsigned round = 0; round < 500; round++) {
        uint64_t tasks = (uint64_t)sample_between(&sample, 1, 8);
        uint64_t blocks = (uint64_t)sample_between(&sample, 1, 8);
        bool reads[8][8] = {{false}};
        uint32_t rows[9] = {0};
        uint32_t columns[64];
        for (uint64_t t = 0; t < tasks; t++) {
            rows[t + 1] = rows[t];
            for (uint64_t b = 0; b < blocks; b++) {
                reads[t][b] = sample_next(&sample) % 3 == 0;
                if (reads[t][b]) {
                    columns[rows[t + 1]++] = (uint32_t)b;
                }
            }
        }
        struct tessi_map_rules first = {.ndim = 1, .table = tessi_table_create(tasks, blocks, rows, columns)};
        struct tessi_map_rules rules;
        tessi_table_invert(first.table);
        tessi_rules_copy(&rules, &first);
        tessi_rules_fini(&first);
        tessi_table_invert(rules.table);
        for (uint64_t b = 0; b < blocks; b++) {
            uint64_t e = rules.table->inverse_rows[b];
            for (uint64_t t = 0; t < tasks; t++) {
                if (reads[t][b]) {
                    assert_true(e < rules.table->inverse_rows[b + 1]);
                    assert_int_equal(rules.table->inverse_columns[e], t);
                    e++;
                }
            }
            assert_int_equal(e, rules.table->inverse_rows[b + 1]);
        }
        tessi_rules_fini(&rules);
    }
}

static enum tessi_status check_table(uint64_t tasks, uint64_t blocks, const uint32_t *rows, const uint32_t *columns)
{
    struct tessi_grid in = {.ndim = 1, .axis = {tessi_axis_regular(3, 1)}};
    struct tessi_grid out = {.ndim = 1, .axis = {tessi_axis_regular(2, 1)}};
    struct tessi_table table = {.tasks = tasks, .blocks = blocks};
    table.rows = rows == NULL ? NULL : tessi_memdup(rows, 3 * sizeof *rows);
    table.columns = columns == NULL ? NULL : tessi_memdup(columns, 2 * sizeof *columns);
    struct tessi_map_rules rules = {.table = &table};
    enum tessi_status status = tessi_rules_check(&rules, &in, &out, NULL);
    tessi_free(table.rows);
    tessi_free(table.columns);
    return status;
}

static void test_check_refuses_tables(void **state)
{
    (void)state;
    const uint32_t rows[] = {0, 1, 2};
    const uint32_t columns[] = {2, 0};
    assert_int_equal(check_table(2, 3, rows, columns), TESSI_OK);
    assert_int_equal(check_table(1, 3, rows, columns), TESSI_INVALID);
    assert_int_equal(check_table(2, 2, rows, columns), TESSI_INVALID);
    assert_int_equal(check_table(2, 3, NULL, columns), TESSI_INVALID);
    assert_int_equal(check_table(2, 3, rows, NULL), TESSI_INVALID);
    assert_int_equal(check_table(2, 3, (const uint32_t[]){1, 1, 2}, columns), TESSI_INVALID);
    assert_int_equal(check_table(2, 3, (const uint32_t[]){0, 9, 2}, columns), TESSI_INVALID);
    assert_int_equal(check_table(2, 3, rows, (const uint32_t[]){3, 0}), TESSI_INVALID);
    assert_int_equal(check_table(2, 3, (const uint32_t[]){0, 2, 2}, columns), TESSI_INVALID);
    assert_int_equal(check_table(2, 3, (const uint32_t[]){0, 2, 2}, (const uint32_t[]){1, 1}), TESSI_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_and_inverse_agree),
        cmocka_unit_test(test_scalars_have_one_block),
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_check_refuses),
        cmocka_unit_test(test_tables_invert),
        cmocka_unit_test(test_check_refuses_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
