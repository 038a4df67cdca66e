#include "tests/sim/tool/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

#define WORKERS_MAX 100000

static const char help[] =
    "Examples:\n"
    "  simulate matmul 65536 1024 --workers 64           words fetched by each of 64 workers\n"
    "  simulate matmul 65536 1024 16384 --workers 64     the same with k cut into four segments\n"
    "  simulate layered 100000x1000 --workers 100 --time fixed:100us\n"
    "                                                    10^8 tasks; is the resident set flat?\n"
    "  simulate layered 1000x10 --workers 8 --speeds 1x7,0.25x1 --time fixed:10ms\n"
    "                                                    one worker four times slower\n"
    "  simulate layered 2000x2 --workers 4 --join 1@2.5s --time fixed:10ms\n"
    "                                                    the last of them joins later\n"
    "\n"
    "Runs the scheduler machine of core/sched against virtual workers in virtual time and prints one JSON\n"
    "object as its last line. tests/sim/README.md says what a virtual worker does and what is printed.\n"
    "\n"
    "Graphs:\n"
    "  matmul N CHUNK [SEGMENT]   C = A B, N x N of f64; SEGMENT: k is cut, the parts are added\n"
    "  sum N CHUNK                sum(matmul(A + B, C))\n"
    "  tasks N                    two layers of N one-element blocks, the second reads the first transposed;\n"
    "                             N is rounded down to a square\n"
    "  layered WxD                D layers of W one-element blocks, each reads the one below it\n"
    "  stencil WxD                the same, each reads the block below it and its two neighbours\n"
    "  dag N W                    N tasks, each reads one to three of the W before it, by chance\n"
    "  reduce N FAN               a sum of N blocks in a tree\n"
    "  chain N                    N tasks, one after the other\n"
    "\n"
    "Options (times take ns, us, ms, s; bytes take KiB, MiB, GiB):\n"
    "  --workers N         how many (10)                 --slots N        of each (1)\n"
    "  --speeds LIST       SPEEDxCOUNT,…; the last goes for the rest (1)\n"
    "  --join LIST         COUNT@TIME,…: the last workers join later\n"
    "  --memory BYTES      of each worker (64GiB)        --bandwidth B    bytes a second of a card (3GiB)\n"
    "  --latency TIME      of a message (50us)           --loop TIME      between a worker's reports (20us)\n"
    "  --time MODEL        cost (flops and bytes), fixed:TIME, lognormal:MEAN:SIGMA (cost)\n"
    "  --told yes|no       does the scheduler know task times of dag, stencil in advance? (yes, but for cost)\n"
    "  --flops N           of a slot, in 10^9 a second (40)\n"
    "  --overhead TIME     of a step besides its kernel (500ns)\n"
    "  --window TIME       work that the scheduler hands out ahead (its default)\n"
    "  --persist yes|no    compute and hold the sources first, unmeasured (yes for matmul and sum)\n"
    "  --seed N            of task times and random graphs (1)\n"
    "  --alone             then tell the same to another scheduler machine with nothing between its steps\n"
    "  --verify            check the scheduler's invariants after every step (slow, up to 1,000 workers)\n";

struct tool_options tool_options_default(void)
{
    return (struct tool_options){
        .workers = 10,
        .slots = 1,
        .speeds = {{1.0, 1}},
        .speed_count = 1,
        .memory_bytes = UINT64_C(64) << 30,
        .bytes_per_ns = 3.221225472,
        .latency_ns = 50000,
        .loop_ns = 20000,
        .time = TOOL_TIME_COST,
        .flops_per_ns = 40,
        .overhead_ns = 500,
        .told = true,
        .seed = 1,
    };
}

struct graph_row {
    const char *name;
    enum tool_graph_kind kind;
    uint32_t numbers_min, numbers_max;
    bool persist;
};

static const struct graph_row graph_rows[] = {
    {"matmul", TOOL_MATMUL, 2, 3, true},    {"sum", TOOL_SUM, 2, 2, true},        {"tasks", TOOL_TASKS, 1, 1, false},
    {"layered", TOOL_LAYERED, 2, 2, false}, {"dag", TOOL_DAG, 2, 2, false},       {"stencil", TOOL_STENCIL, 2, 2, false},
    {"reduce", TOOL_REDUCE, 2, 2, false},   {"chain", TOOL_CHAIN, 1, 1, false},
};

struct unit {
    const char *name;
    double value;
};

static const struct unit time_units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {NULL, 0}};
static const struct unit byte_units[] = {{"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {"", 1}, {NULL, 0}};
static const struct unit plain_units[] = {{"", 1}, {NULL, 0}};

/* A number ≥ 0 with one of the units, up to one of the characters of `ends` or the end of the text. */
static bool read_number(const char **text, const struct unit *units, const char *ends, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(*text, &end);
    size_t length = strcspn(end, ends);
    bool known = false;
    for (const struct unit *unit = units; unit->name != NULL && !known; unit++) {
        known = strlen(unit->name) == length && strncmp(unit->name, end, length) == 0;
        *value *= known ? unit->value : 1;
    }
    bool good = end != *text && errno == 0 && known && isfinite(*value) && *value >= 0 && *value < 9e18;
    *text = end + length;
    return good;
}

static bool read_whole(const char *text, const struct unit *units, double least, double most, double *value)
{
    return read_number(&text, units, "", value) && *text == 0 && *value >= least && *value <= most;
}

static bool read_count(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    double number;
    bool good = read_whole(text, plain_units, (double)least, (double)most, &number) && number == floor(number);
    *value = good ? (uint64_t)number : 0;
    return good;
}

static bool read_speeds(struct tool_options *options, const char *text)
{
    options->speed_count = 0;
    do {
        struct tool_speed *speed = &options->speeds[options->speed_count++];
        double count = 1;
        if (!read_number(&text, plain_units, "x,", &speed->speed) || speed->speed <= 0) {
            return false;
        }
        if (*text == 'x') {
            text++;
            if (!read_number(&text, plain_units, ",", &count) || count < 1 || count > WORKERS_MAX) {
                return false;
            }
        }
        speed->count = (uint32_t)count;
    } while (*text++ == ',' && options->speed_count < TOOL_LIST_MAX);
    return text[-1] == 0;
}

static bool read_late(struct tool_options *options, const char *text)
{
    options->late_count = 0;
    do {
        struct tool_late *late = &options->late[options->late_count++];
        double count, at_ns;
        if (!read_number(&text, plain_units, "@", &count) || *text++ != '@' || count < 1 || count > WORKERS_MAX ||
            !read_number(&text, time_units, ",", &at_ns)) {
            return false;
        }
        late->count = (uint32_t)count;
        late->at_ns = (int64_t)at_ns;
    } while (*text++ == ',' && options->late_count < TOOL_LIST_MAX);
    return text[-1] == 0;
}

static bool read_time(struct tool_options *options, const char *text)
{
    double time_ns;
    if (strcmp(text, "cost") == 0) {
        options->time = TOOL_TIME_COST;
        return true;
    }
    const char *colon = strchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    const char *at = colon + 1;
    bool lognormal = strncmp(text, "lognormal:", 10) == 0;
    if ((!lognormal && strncmp(text, "fixed:", 6) != 0) || !read_number(&at, time_units, ":", &time_ns) || time_ns < 1) {
        return false;
    }
    options->task_ns = (int64_t)time_ns;
    options->time = lognormal ? TOOL_TIME_LOGNORMAL : TOOL_TIME_FIXED;
    return lognormal ? *at == ':' && read_whole(at + 1, plain_units, 0, 5, &options->sigma) : *at == 0;
}

static bool read_duration(const char *text, int64_t *value)
{
    double number;
    bool good = read_whole(text, time_units, 0, 1e15, &number);
    *value = good ? (int64_t)number : 0;
    return good;
}

static bool take_option(struct tool_options *options, const char *name, const char *value)
{
    uint64_t count = 0;
    double number = 0;
    bool good;
    if (strcmp(name, "--workers") == 0) {
        good = read_count(value, 1, WORKERS_MAX, &count);
        options->workers = (uint32_t)count;
    } else if (strcmp(name, "--slots") == 0) {
        good = read_count(value, 1, 1024, &count);
        options->slots = (uint32_t)count;
    } else if (strcmp(name, "--seed") == 0) {
        good = read_count(value, 0, UINT64_C(1) << 53, &options->seed);
    } else if (strcmp(name, "--speeds") == 0) {
        good = read_speeds(options, value);
    } else if (strcmp(name, "--join") == 0) {
        good = read_late(options, value);
    } else if (strcmp(name, "--memory") == 0) {
        good = read_whole(value, byte_units, 1, 9e18, &number);
        options->memory_bytes = (uint64_t)number;
    } else if (strcmp(name, "--bandwidth") == 0) {
        good = read_whole(value, byte_units, 1, 1e15, &number);
        options->bytes_per_ns = number / 1e9;
    } else if (strcmp(name, "--latency") == 0) {
        good = read_duration(value, &options->latency_ns);
    } else if (strcmp(name, "--loop") == 0) {
        good = read_duration(value, &options->loop_ns);
    } else if (strcmp(name, "--overhead") == 0) {
        good = read_duration(value, &options->overhead_ns);
    } else if (strcmp(name, "--window") == 0) {
        good = read_duration(value, &options->window_ns);
    } else if (strcmp(name, "--time") == 0) {
        good = read_time(options, value);
    } else if (strcmp(name, "--flops") == 0) {
        good = read_whole(value, plain_units, 1e-6, 1e9, &options->flops_per_ns);
    } else {
        bool *asked = strcmp(name, "--told") == 0 ? &options->told : &options->persist;
        good = strcmp(value, "yes") == 0 || strcmp(value, "no") == 0;
        *asked = strcmp(value, "yes") == 0;
    }
    return good;
}

static bool is_option(const char *name)
{
    static const char *const names[] = {"--workers", "--slots",     "--seed",     "--speeds",  "--join",
                                        "--memory",  "--bandwidth", "--latency",  "--loop",    "--window",
                                        "--time",    "--flops",     "--overhead", "--persist", "--told"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static const struct graph_row *find_graph(const char *name)
{
    for (size_t i = 0; i < sizeof graph_rows / sizeof *graph_rows; i++) {
        if (strcmp(graph_rows[i].name, name) == 0) {
            return &graph_rows[i];
        }
    }
    return NULL;
}

/* "1000x20" is two numbers, as "1000 20" is. */
static bool take_size(struct tool_options *options, const char *text, uint32_t *count)
{
    do {
        double number;
        if (*count == 3 || !read_number(&text, plain_units, "x", &number) || number < 1 || number > 1e10 ||
            number != floor(number)) {
            return false;
        }
        options->size[(*count)++] = (uint64_t)number;
    } while (*text++ == 'x');
    return true;
}

static enum tessi_status check_late(const struct tool_options *options, struct tessi_error *error)
{
    uint64_t late = 0;
    for (uint32_t i = 0; i < options->late_count; i++) {
        late += options->late[i].count;
    }
    return late < options->workers ? TESSI_OK
                                   : tessi_fail(error, TESSI_INVALID,
                                                "--join: all %u workers would be late: leave one at the start",
                                                options->workers);
}

enum tessi_status tool_options_parse(struct tool_options *options, int argc, char **argv, struct tessi_error *error)
{
    const struct graph_row *row = argc > 1 ? find_graph(argv[1]) : NULL;
    uint32_t numbers = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            (void)fputs(help, stdout);
            return TESSI_CLOSED;
        }
    }
    if (row == NULL) {
        return tessi_fail(error, TESSI_INVALID,
                          "%s%s%sname a graph first, as in `simulate matmul 65536 1024`; see --help",
                          argc > 1 ? "'" : "", argc > 1 ? argv[1] : "", argc > 1 ? "' is no graph: " : "");
    }
    *options = tool_options_default();
    options->graph = row->kind;
    options->persist = row->persist;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--alone") == 0) {
            options->alone = true;
            continue;
        }
        if (strcmp(argv[i], "--verify") == 0) {
            options->verify = true;
        } else if (argv[i][0] != '-') {
            if (!take_size(options, argv[i], &numbers)) {
                return tessi_fail(error, TESSI_INVALID, "'%s' is no size of a graph; see --help", argv[i]);
            }
        } else if (!is_option(argv[i])) {
            return tessi_fail(error, TESSI_INVALID, "unknown option %s; see --help", argv[i]);
        } else if (i + 1 == argc || !take_option(options, argv[i], argv[i + 1])) {
            return tessi_fail(error, TESSI_INVALID, "%s: '%s' is no value for it; see --help", argv[i],
                              i + 1 == argc ? "" : argv[i + 1]);
        } else {
            i++;
        }
    }
    if (numbers < row->numbers_min || numbers > row->numbers_max) {
        return tessi_fail(error, TESSI_INVALID, "%s takes %u%s numbers, not %u; see --help", row->name, row->numbers_min,
                          row->numbers_max > row->numbers_min ? " or more" : "", numbers);
    }
    return check_late(options, error);
}

double tool_options_speed(const struct tool_options *options, uint32_t number)
{
    uint32_t i = 0;
    while (i + 1 < options->speed_count && number >= options->speeds[i].count) {
        number -= options->speeds[i++].count;
    }
    return options->speeds[i].speed;
}

int64_t tool_options_joins(const struct tool_options *options, uint32_t number)
{
    uint32_t from_end = options->workers - number;
    for (uint32_t i = options->late_count; i-- > 0;) {
        if (from_end <= options->late[i].count) {
            return options->late[i].at_ns;
        }
        from_end -= options->late[i].count;
    }
    return 0;
}
