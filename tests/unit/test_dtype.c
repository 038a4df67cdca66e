/* Element types against NumPy's answers (numpy.promote_types of NumPy 2.4, written down below). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/array/dtype.h"

static const char *const promotions[][2] = {
    {"bool", "bool i8 i16 i32 i64 u8 u16 u32 u64 f16 f32 f64 c64 c128"},
    {"i8", "i8 i8 i16 i32 i64 i16 i32 i64 f64 f16 f32 f64 c64 c128"},
    {"i16", "i16 i16 i16 i32 i64 i16 i32 i64 f64 f32 f32 f64 c64 c128"},
    {"i32", "i32 i32 i32 i32 i64 i32 i32 i64 f64 f64 f64 f64 c128 c128"},
    {"i64", "i64 i64 i64 i64 i64 i64 i64 i64 f64 f64 f64 f64 c128 c128"},
    {"u8", "u8 i16 i16 i32 i64 u8 u16 u32 u64 f16 f32 f64 c64 c128"},
    {"u16", "u16 i32 i32 i32 i64 u16 u16 u32 u64 f32 f32 f64 c64 c128"},
    {"u32", "u32 i64 i64 i64 i64 u32 u32 u32 u64 f64 f64 f64 c128 c128"},
    {"u64", "u64 f64 f64 f64 f64 u64 u64 u64 u64 f64 f64 f64 c128 c128"},
    {"f16", "f16 f16 f32 f64 f64 f16 f32 f64 f64 f16 f32 f64 c64 c128"},
    {"f32", "f32 f32 f32 f64 f64 f32 f32 f64 f64 f32 f32 f64 c64 c128"},
    {"f64", "f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 c128 c128"},
    {"c64", "c64 c64 c64 c128 c128 c64 c64 c128 c128 c64 c64 c128 c64 c128"},
    {"c128", "c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128"},
};

static enum tessi_dtype named(const char *name)
{
    enum tessi_dtype dtype = TESSI_BOOL;
    assert_true(tessi_dtype_parse(name, &dtype));
    return dtype;
}

static void test_promotion_is_numpys(void **state)
{
    (void)state;
    const size_t count = sizeof promotions / sizeof promotions[0];
    for (size_t i = 0; i < count; i++) {
        char row[128];
        char *rest = row;
        (void)snprintf(row, sizeof row, "%s", promotions[i][1]);
        for (size_t j = 0; j < count; j++) {
            enum tessi_dtype a = named(promotions[i][0]);
            enum tessi_dtype b = named(promotions[j][0]);
            const char *wanted = strtok_r(rest, " ", &rest);
            assert_string_equal(tessi_dtype_name(tessi_dtype_promote(a, b)), wanted);
        }
    }
}

static void test_promotion_of_bf16(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"bool", "bf16"}, {"i8", "bf16"}, {"u8", "bf16"},  {"i16", "f32"}, {"u16", "f32"},
        {"i32", "f64"},   {"u64", "f64"}, {"bf16", "bf16"}, {"f16", "f32"}, {"f32", "f32"},
        {"f64", "f64"},   {"c64", "c64"}, {"c128", "c128"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum tessi_dtype other = named(cases[i][0]);
        assert_string_equal(tessi_dtype_name(tessi_dtype_promote(TESSI_BF16, other)), cases[i][1]);
        assert_string_equal(tessi_dtype_name(tessi_dtype_promote(other, TESSI_BF16)), cases[i][1]);
    }
}

static void test_rows_agree_with_descriptors(void **state)
{
    (void)state;
    assert_true(tessi_dtype_valid(0));
    assert_true(tessi_dtype_valid(TESSI_DTYPE_COUNT - 1));
    assert_false(tessi_dtype_valid(TESSI_DTYPE_COUNT));
    assert_false(tessi_dtype_valid(UINT32_MAX));
    for (uint32_t code = 0; code < TESSI_DTYPE_COUNT; code++) {
        enum tessi_dtype dtype = (enum tessi_dtype)code;
        const char *descr = tessi_dtype_descr(dtype);
        assert_int_equal(named(tessi_dtype_name(dtype)), dtype);
        if (dtype == TESSI_BF16) {
            assert_null(descr);
            continue;
        }
        unsigned bytes = 0;
        assert_int_equal(sscanf(descr + 2, "%u", &bytes), 1);
        assert_int_equal(bytes, tessi_dtype_size(dtype));
        assert_int_equal(descr[1], "biufc"[tessi_dtype_kind(dtype)]);
    }
    enum tessi_dtype dtype;
    assert_false(tessi_dtype_parse("f128", &dtype));
    assert_false(tessi_dtype_parse("", &dtype));
    assert_false(tessi_dtype_parse("F64", &dtype));
}

static void test_results_of_functions_and_sums(void **state)
{
    (void)state;
    assert_int_equal(tessi_dtype_inexact(TESSI_I32), TESSI_F64);
    assert_int_equal(tessi_dtype_inexact(TESSI_BOOL), TESSI_F64);
    assert_int_equal(tessi_dtype_inexact(TESSI_F32), TESSI_F32);
    assert_int_equal(tessi_dtype_inexact(TESSI_BF16), TESSI_BF16);
    assert_int_equal(tessi_dtype_inexact(TESSI_C64), TESSI_C64);
    assert_int_equal(tessi_dtype_sum(TESSI_BOOL), TESSI_I64);
    assert_int_equal(tessi_dtype_sum(TESSI_I8), TESSI_I64);
    assert_int_equal(tessi_dtype_sum(TESSI_U16), TESSI_U64);
    assert_int_equal(tessi_dtype_sum(TESSI_F16), TESSI_F16);
    assert_int_equal(tessi_dtype_sum(TESSI_C128), TESSI_C128);
    assert_int_equal(tessi_dtype_accumulator(TESSI_F16), TESSI_F32);
    assert_int_equal(tessi_dtype_accumulator(TESSI_BF16), TESSI_F32);
    assert_int_equal(tessi_dtype_accumulator(TESSI_I8), TESSI_I32);
    assert_int_equal(tessi_dtype_accumulator(TESSI_U8), TESSI_U32);
    assert_int_equal(tessi_dtype_accumulator(TESSI_I16), TESSI_I16);
    assert_int_equal(tessi_dtype_accumulator(TESSI_F64), TESSI_F64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_promotion_is_numpys),
        cmocka_unit_test(test_promotion_of_bf16),
        cmocka_unit_test(test_rows_agree_with_descriptors),
        cmocka_unit_test(test_results_of_functions_and_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
