/* Long loops: what a step costs in the beginning and in the end, and what the processes have by then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/graph.h"
#include "tests/bench/options.h"

#define WATCHED_MAX 16
#define SAMPLES 20
#define ROWS 4096
#define COLUMNS 32

struct watch {
    long pid[WATCHED_MAX]; /* this process first */
    size_t count;
    uint64_t bytes[SAMPLES][WATCHED_MAX];
};

/* Resident, shared memory for blocks included, without what is mapped from files. */
static uint64_t resident(long pid)
{
    char path[64], line[256];
    uint64_t kibibytes = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        bench_die("process %ld is not there any more", pid);
    }
    while (fgets(line, sizeof line, file) != NULL) {
        bool counts = strncmp(line, "RssAnon:", 8) == 0 || strncmp(line, "RssShmem:", 9) == 0;
        kibibytes += counts ? strtoull(strchr(line, ':') + 1, NULL, 10) : 0;
    }
    fclose(file);
    return kibibytes * 1024;
}

static void watch_init(struct watch *watch, const char *pids)
{
    watch->pid[watch->count++] = (long)getpid();
    for (char *end; pids != NULL && *pids != 0 && watch->count < WATCHED_MAX; pids = *end == ',' ? end + 1 : end) {
        watch->pid[watch->count++] = strtol(pids, &end, 10);
        if (end == pids) {
            bench_die("--watch takes numbers of processes, with commas between them");
        }
    }
}

static void check(tess_session *session, tess_status status)
{
    if (status != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
}

struct loop {
    tess_session *session;
    tess_array *xtx, *w;
    uint64_t step;
};

typedef void step_fn(struct loop *loop);

static void no_start(struct loop *loop)
{
    (void)loop;
}

/* A few numbers computed and read, as in a program that asks again and again. */
static void read_step(struct loop *loop)
{
    double sum, expected = (double)loop->step * (1000.0 * 999.0 / 2);
    tess_scope *scope = tess_scope_open(loop->session);
    tess_array *numbers = tess_arange(loop->session, 0, 1000, 1, TESS_F64, TESS_CHUNKS(500));
    check(loop->session, tess_read_scalar(tess_sum(tess_multiply_scalar(numbers, (double)loop->step), TESS_ALL, false),
                                          &sum));
    if (sum != expected) {
        bench_die("step %llu: %g, not %g", (unsigned long long)loop->step, sum, expected);
    }
    tess_scope_close(scope);
}

/* The same of numbers that come from the program. */
static void send_step(struct loop *loop)
{
    double mine[100], sum;
    for (size_t i = 0; i < 100; i++) {
        mine[i] = (double)(loop->step + i);
    }
    tess_scope *scope = tess_scope_open(loop->session);
    tess_array *numbers = tess_from_memory(loop->session, mine, TESS_SHAPE(100), TESS_F64, TESS_AUTO);
    check(loop->session, tess_read_scalar(tess_sum(tess_add(numbers, loop->w), TESS_ALL, false), &sum));
    if (sum != 100.0 * (double)loop->step + 4950 + 100) {
        bench_die("step %llu: %g is wrong", (unsigned long long)loop->step, sum);
    }
    tess_scope_close(scope);
}

static void send_start(struct loop *loop)
{
    double ones[100];
    for (size_t i = 0; i < 100; i++) {
        ones[i] = 1;
    }
    loop->w = tess_from_memory(loop->session, ones, TESS_SHAPE(100), TESS_F64, TESS_AUTO);
}

/* Gradient descent as the header shows it: w is made of the last w, held, and the last one let go. */
static void persist_start(struct loop *loop)
{
    tess_array *x = tess_random_normal(loop->session, TESS_SHAPE(ROWS, COLUMNS), TESS_F64, 0, 1, 1,
                                       TESS_CHUNKS(ROWS / 4, COLUMNS));
    loop->xtx = tess_divide_scalar(tess_matmul(tess_transpose(x), x), ROWS);
    loop->w = tess_ones(loop->session, TESS_SHAPE(COLUMNS, 1), TESS_F64, TESS_AUTO);
    check(loop->session, tess_persist_all((tess_array *[]){loop->xtx, loop->w}, 2));
}

static void persist_step(struct loop *loop)
{
    tess_scope *scope = tess_scope_open(loop->session);
    tess_array *gradient = tess_matmul(loop->xtx, loop->w);
    tess_array *w = tess_subtract(tess_multiply_scalar(loop->w, 1.0 + 1e-9), tess_multiply_scalar(gradient, 1e-6));
    check(loop->session, tess_persist(w));
    check(loop->session, tess_wait(w, 0));
    tess_keep(w);
    tess_release(loop->w);
    loop->w = w;
    tess_scope_close(scope);
}

/* With a short memory for the trace, so that it is full soon: it is no leak. */
static tess_session *open_session(const char *scheduler, int64_t workers)
{
    if (scheduler != NULL) {
        return bench_session_open(scheduler, workers, (uint32_t)workers);
    }
    tess_session *session =
        tess_session_open(NULL, &(tess_session_options){.workers = (uint32_t)workers, .trace_events = 1024});
    check(session, tess_session_status(session));
    return session;
}

struct kind {
    const char *name;
    step_fn *start, *step;
};

static const struct kind kinds[] = {
    {"read", no_start, read_step},
    {"send", send_start, send_step},
    {"persist", persist_start, persist_step},
};

static const struct kind *find_kind(const char *name)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (strcmp(kinds[k].name, name) == 0) {
            return &kinds[k];
        }
    }
    bench_die("--kind is read, send or persist");
}

static double median_of(const double *seconds, size_t count)
{
    double *copy = malloc(count * sizeof *copy);
    if (copy == NULL) {
        bench_die("no memory for %zu figures", count);
    }
    memcpy(copy, seconds, count * sizeof *copy);
    double median = bench_quantile(copy, count, 0.5);
    free(copy);
    return median;
}

static double sum_of(const double *seconds, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += seconds[i];
    }
    return sum;
}

static void print_bytes(const char *name, const struct watch *watch, size_t sample)
{
    printf(", \"%s\": [", name);
    for (size_t w = 0; w < watch->count; w++) {
        printf("%s%llu", w > 0 ? ", " : "", (unsigned long long)watch->bytes[sample][w]);
    }
    printf("]");
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL, *name = "read", *pids = NULL;
    int64_t steps = 10000, workers = 2;
    bool samples = false;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (2)"},
        {"--steps", BENCH_NUMBER, &steps, "at least 200 (10000)"},
        {"--kind", BENCH_TEXT, &name, "read: a small expression read in a scope; send: of the program's own numbers; "
                                      "persist: a step of an iteration, held, the last one released (read)"},
        {"--watch", BENCH_TEXT, &pids, "processes whose memory is looked at, besides this one: 17,18"},
        {"--samples", BENCH_FLAG, &samples, "print all of their memory"},
    };
    bench_options_parse(argc, argv, "Times the steps of a long loop, and looks at the memory that it leaves.", options,
                        sizeof options / sizeof options[0]);
    if (steps < 200) {
        bench_die("--steps %lld are too few", (long long)steps);
    }
    static struct watch watch;
    const struct kind *kind = find_kind(name);
    watch_init(&watch, pids);
    struct loop loop = {.session = open_session(scheduler, workers)};
    double *seconds = calloc((size_t)steps, sizeof *seconds);
    if (seconds == NULL) {
        bench_die("no memory for %lld figures", (long long)steps);
    }
    for (int64_t s = 0; s < steps; s++) {
        seconds[s] = 1; /* touched now, not in the loop */
    }
    kind->start(&loop);
    int64_t warm = steps / 50, sampled = 0;
    for (int64_t s = -warm; s < steps; s++) {
        double started = bench_seconds_now();
        loop.step = (uint64_t)(s + warm);
        kind->step(&loop);
        if (s >= 0) {
            seconds[s] = bench_seconds_now() - started;
        }
        if (s + 1 >= (sampled + 1) * steps / SAMPLES) {
            for (size_t w = 0; w < watch.count; w++) {
                watch.bytes[sampled][w] = resident(watch.pid[w]);
            }
            sampled++;
        }
    }
    double last_value = 0;
    if (kind->step == persist_step) {
        double w[COLUMNS];
        check(loop.session, tess_read(loop.w, w, sizeof w));
        last_value = w[COLUMNS / 2];
    }
    size_t part = steps >= 10000 ? 1000 : (size_t)steps / 10, last = (size_t)steps - part;
    printf("{\"bench\": \"loops\", \"kind\": \"%s\", \"steps\": %lld, \"embedded\": %s, \"part\": %zu, "
           "\"last_value\": %.17g, \"first_seconds\": %.6f, \"last_seconds\": %.6f, \"first_median\": %.9f, \"last_median\": %.9f",
           kind->name, (long long)steps, scheduler == NULL ? "true" : "false", part, last_value, sum_of(seconds, part),
           sum_of(seconds + last, part), median_of(seconds, part), median_of(seconds + last, part));
    for (size_t i = 0; samples && i < SAMPLES; i++) {
        print_bytes(i == 0 ? "sample" : "then", &watch, i);
    }
    print_bytes("early_bytes", &watch, SAMPLES / 4);
    print_bytes("late_bytes", &watch, SAMPLES - 1);
    printf("}\n");
    free(seconds);
    tess_session_close(loop.session);
    return 0;
}
