/* The options of the `tessera` command: units, precedence, nearest names, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/cli/cli.h"

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},       {"1000", 1000}, {"8GiB", UINT64_C(8) << 30}, {"8 gib", UINT64_C(8) << 30}, {"512M", 512u << 20},
        {"1.5k", 1536}, {"2kb", 2000},  {"1TiB", UINT64_C(1) << 40}};
    static const char *const bad[] = {"", "-1", "8 bananas", "GiB", "nan", "inf", "1e300", "8GiBs"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t bytes;
        assert_true(tessi_cli_parse_bytes(good[i].text, &bytes));
        assert_true(bytes == good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes;
        assert_false(tessi_cli_parse_bytes(bad[i], &bytes));
    }
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {
        {"5", 5000000000}, {"500ms", 500000000}, {"10s", 10000000000}, {"2min", 120000000000}, {"0.5", 500000000}};
    int64_t ns;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(tessi_cli_parse_duration(good[i].text, &ns));
        assert_true(ns == good[i].ns);
    }
    assert_false(tessi_cli_parse_duration("soon", &ns));
    assert_false(tessi_cli_parse_duration("5 weeks", &ns));
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const names[] = {"threads", "memory", "spill", "keys"};
    assert_string_equal(tessi_cli_nearest("thread", names, 4), "threads");
    assert_string_equal(tessi_cli_nearest("mem", names, 4), "memory");
    assert_string_equal(tessi_cli_nearest("kyes", names, 4), "keys");
    assert_null(tessi_cli_nearest("x", names, 4));
    assert_null(tessi_cli_nearest("something-else", names, 4));
}

struct values {
    const char *address;
    const char *keys;
    uint64_t memory;
    uint32_t threads;
    bool insecure;
};

static int parse(struct values *values, int argc, const char **argv)
{
    const struct cli_option options[] = {
        {"test-keys", "DIR", "", CLI_TEXT, &values->keys},
        {"test-memory", "SIZE", "", CLI_BYTES, &values->memory},
        {"test-threads", "N", "", CLI_COUNT, &values->threads},
        {"test-insecure", NULL, "", CLI_FLAG, &values->insecure},
    };
    const struct cli_command command = {.name = "test",
                                        .summary = "",
                                        .usage = "[ADDRESS]",
                                        .examples = "",
                                        .positional = "ADDRESS",
                                        .positional_environment = "TESSERA_TEST_ADDRESS",
                                        .positional_default = "here",
                                        .options = options,
                                        .option_count = 4};
    return tessi_cli_parse(&command, argc, (char **)(uintptr_t)argv, &values->address);
}

#define PARSE(values, ...)                                                                                             \
    parse(values, (int)(sizeof(const char *[]){__VA_ARGS__} / sizeof(char *)), (const char *[]){__VA_ARGS__})

static void test_flag_then_environment_then_default(void **state)
{
    (void)state;
    struct values values = {.memory = 7};
    assert_int_equal(parse(&values, 0, NULL), -1);
    assert_string_equal(values.address, "here");
    assert_true(values.memory == 7 && values.keys == NULL && !values.insecure);
    setenv("TESSERA_TEST_MEMORY", "2k", 1);
    setenv("TESSERA_TEST_INSECURE", "yes", 1);
    setenv("TESSERA_TEST_ADDRESS", "there", 1);
    assert_int_equal(parse(&values, 0, NULL), -1);
    assert_true(values.memory == 2048 && values.insecure);
    assert_string_equal(values.address, "there");
    assert_int_equal(PARSE(&values, "--test-memory=3k", "elsewhere", "--test-keys", "dir", "--test-threads", "4"), -1);
    assert_true(values.memory == 3072 && values.threads == 4);
    assert_string_equal(values.keys, "dir");
    assert_string_equal(values.address, "elsewhere");
    setenv("TESSERA_TEST_MEMORY", "much", 1);
    assert_int_equal(parse(&values, 0, NULL), CLI_USAGE);
    unsetenv("TESSERA_TEST_MEMORY");
    unsetenv("TESSERA_TEST_INSECURE");
    unsetenv("TESSERA_TEST_ADDRESS");
}

static void test_wrong_use(void **state)
{
    (void)state;
    struct values values = {0};
    assert_int_equal(PARSE(&values, "--test-thread", "2"), CLI_USAGE);
    assert_int_equal(PARSE(&values, "--test-threads"), CLI_USAGE);
    assert_int_equal(PARSE(&values, "--test-threads", "two"), CLI_USAGE);
    assert_int_equal(PARSE(&values, "--test-threads", "-2"), CLI_USAGE);
    assert_int_equal(PARSE(&values, "--test-threads", "99999999999"), CLI_USAGE);
    assert_int_equal(PARSE(&values, "--test-keys", ""), CLI_USAGE);
    assert_int_equal(PARSE(&values, "-t", "2"), CLI_USAGE);
    assert_int_equal(PARSE(&values, "a", "b"), CLI_USAGE);
    assert_int_equal(PARSE(&values, "--", "--strange-address"), -1);
    assert_string_equal(values.address, "--strange-address");
    assert_int_equal(PARSE(&values, "--help", "--whatever"), CLI_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),     cmocka_unit_test(test_durations),
        cmocka_unit_test(test_nearest),   cmocka_unit_test(test_flag_then_environment_then_default),
        cmocka_unit_test(test_wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
