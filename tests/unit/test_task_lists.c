/* Lists by task against plain arrays: few tasks, so that lists end and begin again, and slots of the table are freed
 * between others that were put after them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/sched/state/task_lists.h"
#include "tests/unit/sample.h"

#define TASKS 200u
#define ITEMS 40u

struct model {
    uint32_t items[TASKS][ITEMS], count[TASKS];
};

static struct tessi_map_key key_of(uint32_t task)
{
    return (struct tessi_map_key){task % 3, task / 3};
}

static void model_remove(struct model *model, uint32_t task, uint32_t item)
{
    for (uint32_t i = 0; i < model->count[task]; i++) {
        if (model->items[task][i] == item) {
            model->items[task][i] = model->items[task][--model->count[task]];
            return;
        }
    }
}

static void model_put_once(struct model *model, uint32_t task, uint32_t item)
{
    for (uint32_t i = 0; i < model->count[task]; i++) {
        if (model->items[task][i] == item) {
            return;
        }
    }
    model->items[task][model->count[task]++] = item;
}

static void compare(const struct task_lists *lists, const struct model *model)
{
    size_t used = 0;
    for (uint32_t t = 0; t < TASKS; t++) {
        const struct task_list *list = task_lists_find(lists, key_of(t));
        assert_int_equal(list == NULL, model->count[t] == 0);
        used += list != NULL;
        if (list != NULL) {
            assert_int_equal(list->count, model->count[t]);
            assert_memory_equal(task_list_items(list), model->items[t], model->count[t] * sizeof(uint32_t));
        }
    }
    assert_int_equal(lists->used, used);
}

static void test_lists_against_arrays(void **state)
{
    (void)state;
    static struct model model;
    struct sample sample = {11};
    struct task_lists lists = {0};
    for (uint32_t round = 0; round < 40000; round++) {
        bool filling = round / 4000 % 2 == 0;
        uint32_t t = (uint32_t)sample_between(&sample, 0, TASKS - 1);
        uint32_t item = (uint32_t)sample_between(&sample, 0, ITEMS - 1);
        struct task_list *list = task_lists_find(&lists, key_of(t));
        if (sample_next(&sample) % 8 < (filling ? 6u : 2u)) {
            tessi_task_lists_put_once(&lists, key_of(t), item);
            model_put_once(&model, t, item);
        } else if (sample_next(&sample) % 2000 == 0) {
            tessi_task_lists_remove_everywhere(&lists, item);
            for (uint32_t other = 0; other < TASKS; other++) {
                model_remove(&model, other, item);
            }
        } else if (list != NULL && sample_next(&sample) % 16 == 0) {
            tessi_task_lists_end(&lists, list);
            model.count[t] = 0;
        } else if (list != NULL && model.count[t] > 0) {
            uint32_t there = model.items[t][item % model.count[t]];
            tessi_task_lists_remove(&lists, list, there);
            model_remove(&model, t, there);
        }
        if (round % 16 == 0) {
            compare(&lists, &model);
        }
    }
    compare(&lists, &model);
    tessi_task_lists_fini(&lists);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lists_against_arrays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
