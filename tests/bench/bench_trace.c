/* What an event of the trace costs its writer: records of steps put into a ring that wraps, beside the same loop
 * without them, in turn. The last line is one JSON object. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/bench/options.h"
#include "worker/trace/trace.h"

#define REPEATS_MAX 99

/* Instructions that this thread retires in user mode; −1 where the system does not let us count them. */
static int count_instructions(void)
{
    struct perf_event_attr counter = {.type = PERF_TYPE_HARDWARE,
                                      .size = sizeof counter,
                                      .config = PERF_COUNT_HW_INSTRUCTIONS,
                                      .exclude_kernel = 1,
                                      .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &counter, 0, -1, -1, 0);
}

static uint64_t instructions_now(int counter)
{
    uint64_t value = 0;
    if (counter < 0 || read(counter, &value, sizeof value) != (ssize_t)sizeof value) {
        return 0;
    }
    return value;
}

struct figures {
    double ns, instructions; /* for each record */
};

static struct figures run(struct tessi_trace_ring *ring, uint64_t records, int counter)
{
    double begin = bench_seconds_now();
    uint64_t before = instructions_now(counter);
    for (uint64_t i = 0; i < records; i++) {
        int64_t start_ns = (int64_t)(i * 1000);
        if (ring != NULL) {
            tessi_trace_run(ring, 1, 2, i, 0, 0, start_ns - 100, start_ns, start_ns + 900);
        }
        __asm__ volatile("" ::"r"(start_ns) : "memory"); /* the loop without records is not to vanish */
    }
    uint64_t after = instructions_now(counter);
    return (struct figures){(bench_seconds_now() - begin) * 1e9 / (double)records,
                            (double)(after - before) / (double)records};
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

int main(int argc, char **argv)
{
    int64_t records = 20000000, events = TESSI_TRACE_EVENTS, repeats = 7;
    const struct bench_option options[] = {
        {"--records", BENCH_NUMBER, &records, "in a repeat (20000000)"},
        {"--events", BENCH_NUMBER, &events, "room in the ring (65536)"},
        {"--repeats", BENCH_NUMBER, &repeats, "of both loops (7)"},
    };
    bench_options_parse(argc, argv, "What an event of the trace costs its writer.", options,
                        sizeof options / sizeof options[0]);
    double ns[REPEATS_MAX], instructions[REPEATS_MAX];
    repeats = repeats < REPEATS_MAX ? repeats : REPEATS_MAX;
    int counter = count_instructions();
    struct tessi_trace *trace = tessi_trace_create((uint32_t)events);
    struct tessi_trace_ring *ring = tessi_trace_add(trace, "slot 0");
    (void)run(ring, (uint64_t)events * 2, counter); /* pages that were never touched cost once */
    for (int64_t r = 0; r < repeats; r++) {
        struct figures bare = run(NULL, (uint64_t)records, counter), with = run(ring, (uint64_t)records, counter);
        ns[r] = with.ns - bare.ns;
        instructions[r] = with.instructions - bare.instructions;
    }
    double each_ns = median(ns, repeats), each = median(instructions, repeats);
    fprintf(stderr, "an event: %.2f ns", each_ns);
    if (counter >= 0) {
        fprintf(stderr, ", %.1f instructions", each);
    }
    fputc('\n', stderr);
    printf("{\"bench\": \"trace\", \"records\": %" PRIi64 ", \"events\": %" PRIi64 ", \"repeats\": %" PRIi64
           ", \"ns_per_event\": %.3f, \"instructions_per_event\": ",
           records, events, repeats, each_ns);
    printf(counter >= 0 ? "%.2f}\n" : "null}\n", each);
    tessi_trace_destroy(trace);
    return 0;
}
