/* Options of the subcommands: one table for each, read from the arguments, then the environment. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/base/log.h"

#define NAMES_MAX 64
#define WORD_MAX 64

/* ——— numbers with units ——— */

struct unit {
    const char *name;
    double factor;
};

static const struct unit byte_units[] = {
    {"", 1},       {"b", 1},      {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}, {"k", 0x1p10},
    {"m", 0x1p20}, {"g", 0x1p30}, {"t", 0x1p40},   {"kb", 1e3},     {"mb", 1e6},     {"gb", 1e9},     {"tb", 1e12},
};
static const struct unit duration_units[] = {
    {"", 1e9}, {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 60e9}, {"h", 3600e9},
};

static bool parse_with_unit(const char *text, const struct unit *units, size_t count, double *value)
{
    char *end;
    if (!isdigit((unsigned char)text[0]) && text[0] != '.') {
        return false;
    }
    double number = strtod(text, &end);
    while (*end == ' ') {
        end++;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(end, units[i].name) == 0) {
            *value = number * units[i].factor;
            return isfinite(*value) && *value < 0x1p62;
        }
    }
    return false;
}

bool tessi_cli_parse_bytes(const char *text, uint64_t *bytes)
{
    double value;
    if (!parse_with_unit(text, byte_units, sizeof byte_units / sizeof byte_units[0], &value)) {
        return false;
    }
    *bytes = (uint64_t)value;
    return true;
}

bool tessi_cli_parse_duration(const char *text, int64_t *ns)
{
    double value;
    if (!parse_with_unit(text, duration_units, sizeof duration_units / sizeof duration_units[0], &value)) {
        return false;
    }
    *ns = (int64_t)value;
    return true;
}

const char *tessi_cli_format_bytes(double bytes, char *text, size_t size)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < sizeof names / sizeof names[0]) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, size, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, names[unit]);
    return text;
}

static bool parse_count(const char *text, uint32_t *count)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != 0 || errno != 0 || value > UINT32_MAX) {
        return false;
    }
    *count = (uint32_t)value;
    return true;
}

static bool parse_truth(const char *text, bool *value)
{
    *value = strcmp(text, "1") == 0 || strcasecmp(text, "true") == 0 || strcasecmp(text, "yes") == 0;
    return *value || text[0] == 0 || strcmp(text, "0") == 0 || strcasecmp(text, "false") == 0 ||
           strcasecmp(text, "no") == 0;
}

/* ——— words that are nearly right ——— */

static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], m = strlen(a), n = strlen(b);
    if (m > WORD_MAX || n > WORD_MAX) {
        return WORD_MAX;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t shift = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < shift ? change : shift;
        }
    }
    return row[n];
}

const char *tessi_cli_nearest(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 2 + 1; /* more edits than that are another word */
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        if (d < best_distance || (best == NULL && strlen(word) > 2 && strncmp(word, names[i], strlen(word)) == 0)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

/* ——— parsing ——— */

static const char *const kind_hint[] = {
    [CLI_FLAG] = "1 or 0",
    [CLI_TEXT] = "some text",
    [CLI_OPTIONAL] = "some text",
    [CLI_COUNT] = "a whole number",
    [CLI_POSITIVE] = "a whole number of 1 or more, or leave it out",
    [CLI_BYTES] = "a size above 0 such as 512MiB or 8GiB, or leave it out",
    [CLI_DURATION] = "a duration such as 500ms or 10s",
};

static bool store(const struct cli_option *option, const char *value)
{
    switch (option->kind) {
    case CLI_FLAG:
        return parse_truth(value, option->target);
    case CLI_TEXT:
        *(const char **)option->target = value;
        return value[0] != 0;
    case CLI_OPTIONAL:
        *(const char **)option->target = value;
        return true;
    case CLI_COUNT:
        return parse_count(value, option->target);
    case CLI_POSITIVE:
        return parse_count(value, option->target) && *(uint32_t *)option->target > 0;
    case CLI_BYTES:
        return tessi_cli_parse_bytes(value, option->target) && *(uint64_t *)option->target > 0;
    case CLI_DURATION:
        return tessi_cli_parse_duration(value, option->target);
    }
    return false;
}

static void environment_name(const char *option, char *name, size_t size)
{
    snprintf(name, size, "TESSERA_%s", option);
    for (char *c = name; *c != 0; c++) {
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
}

static int help(const struct cli_command *command)
{
    printf("Examples\n%s\nUsage: tessera %s %s\n%s\n", command->examples, command->name, command->usage,
           command->summary);
    if (command->option_count > 0) {
        printf("\nOptions\n");
    }
    for (size_t i = 0; i < command->option_count; i++) {
        const struct cli_option *option = &command->options[i];
        char left[64];
        snprintf(left, sizeof left, "--%s %s", option->name, option->value != NULL ? option->value : "");
        printf("  %-22s %s\n", left, option->help);
    }
    printf("  %-22s %s\n", "--help", "this text");
    return CLI_OK;
}

static int unknown_option(const struct cli_command *command, const char *word)
{
    const char *names[NAMES_MAX];
    size_t count = 0;
    char name[WORD_MAX + 1];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    for (size_t i = 0; i < command->option_count && count < NAMES_MAX - 1; i++) {
        names[count++] = command->options[i].name;
    }
    names[count++] = "help";
    const char *nearest = tessi_cli_nearest(name, names, count);
    if (nearest != NULL) {
        fprintf(stderr, "tessera %s: there is no option --%s; did you mean --%s?\n", command->name, name, nearest);
    } else {
        fprintf(stderr, "tessera %s: there is no option --%s; see 'tessera %s --help'\n", command->name, name,
                command->name);
    }
    return CLI_USAGE;
}

static const struct cli_option *find_option(const struct cli_command *command, const char *word, size_t length)
{
    for (size_t i = 0; i < command->option_count; i++) {
        if (strlen(command->options[i].name) == length && strncmp(command->options[i].name, word, length) == 0) {
            return &command->options[i];
        }
    }
    return NULL;
}

static int read_environment(const struct cli_command *command, const char **positional)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const struct cli_option *option = &command->options[i];
        char name[WORD_MAX + 16];
        environment_name(option->name, name, sizeof name);
        const char *value = getenv(name);
        if (value != NULL && value[0] != 0 && !store(option, value)) {
            fprintf(stderr, "tessera %s: %s=%s: give %s\n", command->name, name, value, kind_hint[option->kind]);
            return CLI_USAGE;
        }
    }
    if (command->positional != NULL) {
        const char *value = command->positional_environment != NULL ? getenv(command->positional_environment) : NULL;
        *positional = value != NULL && value[0] != 0 ? value : command->positional_default;
    }
    return -1;
}

/* One option, `word` without its dashes; `*at` moves over a value in the next argument. */
static int read_option(const struct cli_command *command, const char *word, int argc, char **argv, int *at)
{
    size_t length = strcspn(word, "=");
    const struct cli_option *option = find_option(command, word, length);
    const char *value = word[length] == '=' ? word + length + 1 : NULL;
    if (option == NULL) {
        return unknown_option(command, word);
    }
    if (option->kind == CLI_FLAG && value == NULL) {
        value = "1";
    } else if (option->kind == CLI_OPTIONAL && value == NULL) {
        bool follows = *at + 1 < argc && isdigit((unsigned char)argv[*at + 1][0]);
        value = follows ? argv[++*at] : "";
    } else if (value == NULL) {
        if (*at + 1 >= argc) {
            fprintf(stderr, "tessera %s: --%s needs %s: --%s %s\n", command->name, option->name,
                    kind_hint[option->kind], option->name, option->value);
            return CLI_USAGE;
        }
        value = argv[++*at];
    }
    if (!store(option, value)) {
        fprintf(stderr, "tessera %s: --%s %s: give %s\n", command->name, option->name, value, kind_hint[option->kind]);
        return CLI_USAGE;
    }
    return -1;
}

/* A word after an option whose value may be left out was perhaps meant as its value. */
static void hint_at_value(const struct cli_command *command, const char *before)
{
    const struct cli_option *option =
        strncmp(before, "--", 2) == 0 ? find_option(command, before + 2, strlen(before + 2)) : NULL;
    if (option != NULL && option->kind == CLI_OPTIONAL) {
        fprintf(stderr, "  a value of --%s begins with a digit; see 'tessera %s --help'\n", option->name, command->name);
    }
}

static int read_arguments(const struct cli_command *command, int argc, char **argv, const char **positional)
{
    bool given = false, only_words = false;
    for (int i = 0; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && strncmp(argv[i], "--", 2) == 0) {
            int code = read_option(command, argv[i] + 2, argc, argv, &i);
            if (code >= 0) {
                return code;
            }
        } else if (!only_words && command->letter != 0 && argv[i][0] == '-' && argv[i][1] == command->letter &&
                   argv[i][2] == 0) {
            int code = read_option(command, command->letter_name, argc, argv, &i);
            if (code >= 0) {
                return code;
            }
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != 0) {
            fprintf(stderr, "tessera %s: options have two dashes and whole names, unlike %s; see 'tessera %s --help'\n",
                    command->name, argv[i], command->name);
            return CLI_USAGE;
        } else if (command->positional == NULL || given) {
            fprintf(stderr, "tessera %s: '%s' is one argument too many; usage: tessera %s %s\n", command->name, argv[i],
                    command->name, command->usage);
            hint_at_value(command, i > 0 ? argv[i - 1] : "");
            return CLI_USAGE;
        } else {
            *positional = argv[i];
            given = true;
        }
    }
    return -1;
}

int tessi_cli_parse(const struct cli_command *command, int argc, char **argv, const char **positional)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return help(command);
        }
    }
    int code = read_environment(command, positional);
    if (code < 0) {
        code = read_arguments(command, argc, argv, positional);
    }
    if (code < 0 && command->positional != NULL && *positional == NULL) {
        fprintf(stderr, "tessera %s: %s is missing; usage: tessera %s %s\n", command->name, command->positional,
                command->name, command->usage);
        code = CLI_USAGE;
    }
    return code;
}

int tessi_cli_fail(const struct tessi_error *error)
{
    fprintf(stderr, "tessera: %s\n", error->text[0] != 0 ? error->text : tessi_status_text(error->status));
    return CLI_FAILED;
}

bool tessi_cli_log(const char *level)
{
    enum tessi_log_level parsed;
    if (!tessi_log_parse_level(level, &parsed)) {
        fprintf(stderr, "tessera: --log %s: give off, error, warn, info or debug\n", level);
        return false;
    }
    tessi_log_set_level(parsed);
    return true;
}
