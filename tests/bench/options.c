#include "tests/bench/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

static void print_usage(FILE *file, const char *program, const char *purpose, const struct bench_option *options,
                        size_t option_count)
{
    static const char *const value_names[] = {
        [BENCH_NUMBER] = "N", [BENCH_BYTES] = "BYTES", [BENCH_TEXT] = "TEXT", [BENCH_FLAG] = ""};
    const char *slash = strrchr(program, '/');
    fprintf(file, "Usage: %s [options]\n\n%s\n\n", slash != NULL ? slash + 1 : program, purpose);
    for (size_t i = 0; i < option_count; i++) {
        fprintf(file, "  %-14s %-6s %s\n", options[i].name, value_names[options[i].kind], options[i].help);
    }
}

static bool parse_size(const char *text, bool with_unit, int64_t *value)
{
    static const struct {
        const char *name;
        int64_t factor;
    } units[] = {{"", 1}, {"KiB", INT64_C(1) << 10}, {"MiB", INT64_C(1) << 20}, {"GiB", INT64_C(1) << 30}};
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || errno != 0 || number <= 0) {
        return false;
    }
    for (size_t i = 0; i < (with_unit ? sizeof units / sizeof units[0] : 1); i++) {
        if (strcmp(end, units[i].name) == 0) {
            return !__builtin_mul_overflow(number, units[i].factor, value);
        }
    }
    return false;
}

static bool take(const struct bench_option *option, const char *text)
{
    switch (option->kind) {
    case BENCH_NUMBER:
        return parse_size(text, false, option->value);
    case BENCH_BYTES:
        return parse_size(text, true, option->value);
    case BENCH_TEXT:
        *(const char **)option->value = text;
        return true;
    case BENCH_FLAG:
        *(bool *)option->value = true;
        return true;
    }
    return false;
}

void bench_options_parse(int argc, char **argv, const char *purpose, const struct bench_option *options,
                         size_t option_count)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_usage(stdout, argv[0], purpose, options, option_count);
            exit(0);
        }
        const struct bench_option *option = NULL;
        for (size_t k = 0; k < option_count; k++) {
            option = strcmp(options[k].name, argv[i]) == 0 ? &options[k] : option;
        }
        bool has_value = option != NULL && option->kind != BENCH_FLAG;
        const char *text = has_value && i + 1 < argc ? argv[i + 1] : NULL;
        if (option == NULL || (has_value && text == NULL) || !take(option, text)) {
            fprintf(stderr, "error: %s%s%s: not understood\n\n", argv[i], text != NULL ? " " : "",
                    text != NULL ? text : "");
            print_usage(stderr, argv[0], purpose, options, option_count);
            exit(2);
        }
        i += has_value ? 1 : 0;
    }
}

void bench_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

double bench_seconds_now(void)
{
    return (double)tessi_clock_now() / (double)TESSI_NS_PER_S;
}
