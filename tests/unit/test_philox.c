/* Philox against the known answers that its authors publish with Random123 (kat_vectors,
 * "philox4x32 10"), and the properties that random arrays rely on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/philox.h"

struct known_answer {
    uint32_t counter[4];
    uint32_t key[2];
    uint32_t out[4];
};

static const struct known_answer known_answers[] = {
    {
        {0x00000000, 0x00000000, 0x00000000, 0x00000000},
        {0x00000000, 0x00000000},
        {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    },
    {
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
        {0xffffffff, 0xffffffff},
        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
    },
    {
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
        {0xa4093822, 0x299f31d0},
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    },
};

static void test_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known_answers / sizeof known_answers[0]; i++) {
        uint32_t out[4];
        tessi_philox_block(known_answers[i].counter, known_answers[i].key, out);
        assert_memory_equal(out, known_answers[i].out, sizeof out);
    }
}

static void test_element_places_index_seed_and_stream(void **state)
{
    (void)state;
    uint32_t out[4];
    tessi_philox_element(UINT64_C(0x299f31d0a4093822), UINT64_C(0x85a308d3243f6a88), 0x13198a2e, out);
    const uint32_t counter[4] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0};
    uint32_t expected[4];
    tessi_philox_block(counter, known_answers[2].key, expected);
    assert_memory_equal(out, expected, sizeof out);
}

static void test_conversion_reaches_both_ends(void **state)
{
    (void)state;
    assert_true(tessi_philox_to_f64(0, 0) == 0.0);
    assert_true(tessi_philox_to_f64(UINT32_MAX, UINT32_MAX) == 1.0 - 0x1p-53);
    assert_true(tessi_philox_to_f64(0, UINT32_C(1) << 31) == 0.5);
    assert_true(tessi_philox_to_f32(0) == 0.0f);
    assert_true(tessi_philox_to_f32(UINT32_MAX) == 1.0f - 0x1p-24f);
    assert_true(tessi_philox_to_f32(UINT32_C(1) << 31) == 0.5f);
}

static void test_uniform_has_the_moments_of_a_uniform(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    double sum_f64 = 0.0;
    double squares_f64 = 0.0;
    double sum_f32 = 0.0;
    for (uint64_t i = 0; i < COUNT; i++) {
        double x = tessi_philox_uniform_f64(42, i);
        assert_true(x >= 0.0 && x < 1.0);
        sum_f64 += x;
        squares_f64 += x * x;
        sum_f32 += (double)tessi_philox_uniform_f32(42, i);
    }
    /* Five standard errors: sqrt(1/12 / COUNT) and sqrt(4/45 / COUNT). */
    assert_true(sum_f64 / COUNT > 0.5 - 0.0046 && sum_f64 / COUNT < 0.5 + 0.0046);
    assert_true(squares_f64 / COUNT > 1.0 / 3.0 - 0.0048 && squares_f64 / COUNT < 1.0 / 3.0 + 0.0048);
    assert_true(sum_f32 / COUNT > 0.5 - 0.0046 && sum_f32 / COUNT < 0.5 + 0.0046);
}

static void test_seed_and_index_matter(void **state)
{
    (void)state;
    assert_true(tessi_philox_uniform_f64(1, 0) != tessi_philox_uniform_f64(2, 0));
    assert_true(tessi_philox_uniform_f64(1, 0) != tessi_philox_uniform_f64(1, 1));
    assert_true(tessi_philox_uniform_f64(1, 0) != tessi_philox_uniform_f64(UINT64_C(1) << 32 | 1, 0));
    assert_true(tessi_philox_uniform_f64(1, 0) != tessi_philox_uniform_f64(1, UINT64_C(1) << 32));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_element_places_index_seed_and_stream),
        cmocka_unit_test(test_conversion_reaches_both_ends),
        cmocka_unit_test(test_uniform_has_the_moments_of_a_uniform),
        cmocka_unit_test(test_seed_and_index_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
