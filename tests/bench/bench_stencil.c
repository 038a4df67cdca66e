/* Task Bench's stencil_1d with its compute-bound kernel (Slaughter et al., "Task Bench", SC 2020), and METG(50 %).
 *
 * `steps` rows of `width` tasks; a task reads its own column and its neighbours' of the row before. The kernel's length
 * falls by halves; of each length the granularity is wall time × cores / tasks and the efficiency the rate of
 * operations over the peak: what the same kernel reaches alone, on as many threads with nothing around it, or the best
 * that any length has reached.
 * METG(50 %) is the granularity at which the efficiency falls through one half, interpolated between the lengths beside
 * it. The graph is one layer that reads itself at (−1, −1), (−1, 0) and (−1, +1). */
#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "client/session.h"
#include "core/base/alloc.h"
#include "tests/bench/graph.h"
#include "tests/bench/options.h"
#include "worker/kernel/kernel.h"

#define LENGTHS_MAX 32
#define PEAK_SECONDS 0.2
#define REPEATS_BELOW_SECONDS 0.3 /* short runs are made three times, and the best one counts, as Task Bench does */

struct length {
    uint64_t iterations;
    double seconds, granularity_us, efficiency;
};

static struct tessi_layer *stencil(tess_session *session, int64_t steps, int64_t width, uint64_t iterations)
{
    struct tessi_layer *layer = bench_layer(session, TESSI_OP_SYNTHETIC, 2, (const int64_t[]){steps, width});
    layer->as.synthetic.iterations = iterations;
    for (int64_t shift = -1; shift <= 1; shift++) {
        struct tessi_input *input = bench_input(layer, layer);
        input->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = 0, .value = -1};
        input->rules.rule[1] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = 1, .value = shift};
    }
    return layer;
}

/* ——— the peak ——— */

struct peak_thread {
    pthread_t thread;
    pthread_barrier_t *barrier;
    const struct tessi_layer *layer;
    double flops_per_second;
};

static void *compute_alone(void *context)
{
    struct peak_thread *own = context;
    struct tessi_error error = {0};
    double block = 0.0;
    uint64_t runs = 0;
    (void)pthread_barrier_wait(own->barrier);
    double started = bench_seconds_now(), seconds;
    do {
        struct tessi_kernel_call call = {.layer = own->layer, .index = 0, .steps = 1, .out = &block};
        if (tessi_kernel_run(&call, &error) != TESSI_OK) {
            bench_die("%s", error.text);
        }
        runs++;
        seconds = bench_seconds_now() - started;
    } while (seconds < PEAK_SECONDS);
    own->flops_per_second =
        (double)runs * (double)own->layer->as.synthetic.iterations * TESSI_SYNTHETIC_FLOPS / seconds;
    return NULL;
}

static double measure_peak(tess_session *session, int64_t threads)
{
    struct tessi_layer *layer = bench_layer(session, TESSI_OP_SYNTHETIC, 1, (const int64_t[]){1});
    layer->as.synthetic.iterations = 20000;
    struct peak_thread *all = tessi_zalloc((size_t)threads * sizeof *all);
    pthread_barrier_t barrier;
    (void)pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    double sum = 0.0;
    for (int64_t i = 0; i < threads; i++) {
        all[i] = (struct peak_thread){.barrier = &barrier, .layer = layer};
        if (pthread_create(&all[i].thread, NULL, compute_alone, &all[i]) != 0) {
            bench_die("cannot start %lld threads", (long long)threads);
        }
    }
    for (int64_t i = 0; i < threads; i++) {
        (void)pthread_join(all[i].thread, NULL);
        sum += all[i].flops_per_second;
    }
    (void)pthread_barrier_destroy(&barrier);
    tessi_free(all);
    tessi_layer_destroy(layer);
    return sum;
}

/* ——— the lengths ——— */

static double run_once(tess_session *session, int64_t steps, int64_t width, uint64_t iterations, bool check)
{
    struct tessi_layer *layer = stencil(session, steps, width, iterations);
    if (check) {
        return bench_run_checked(session, layer);
    }
    double seconds = bench_run(session, &layer, 1, 1);
    bench_release(session, &layer, 1);
    return seconds;
}

static struct length measure(tess_session *session, int64_t steps, int64_t width, uint64_t iterations, double peak)
{
    double best = run_once(session, steps, width, iterations, false);
    for (int more = 0; more < 2 && best < REPEATS_BELOW_SECONDS; more++) {
        best = fmin(best, run_once(session, steps, width, iterations, false));
    }
    double tasks = (double)(steps * width);
    return (struct length){iterations, best, best * (double)width / tasks * 1e6,
                           tasks * (double)iterations * TESSI_SYNTHETIC_FLOPS / best / peak};
}

/* Where the efficiency falls through one half, on a logarithmic scale of granularities; 0: it never does. */
static double metg_us(const struct length *lengths, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        if (lengths[i].efficiency >= 0.5) {
            if (i + 1 == count) {
                return 0.0;
            }
            double high = lengths[i].efficiency, low = lengths[i + 1].efficiency;
            double share = (high - 0.5) / (high - low);
            return lengths[i].granularity_us * pow(lengths[i + 1].granularity_us / lengths[i].granularity_us, share);
        }
    }
    return 0.0;
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL;
    int64_t steps = 1000, width = 2, longest_us = 2000, shortest_ns = 500;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &width, "cores, columns, workers to wait for or slots of the embedded cluster (2)"},
        {"--steps", BENCH_NUMBER, &steps, "(1000)"},
        {"--longest", BENCH_NUMBER, &longest_us, "kernel to begin with, microseconds (2000)"},
        {"--shortest", BENCH_NUMBER, &shortest_ns, "kernel to end with, nanoseconds (500)"},
    };
    bench_options_parse(argc, argv, "Times Task Bench's stencil_1d and prints its METG(50 %).", options,
                        sizeof options / sizeof options[0]);
    tess_session *session = bench_session_open(scheduler, width, (uint32_t)width);
    (void)run_once(session, steps < 100 ? steps : 100, width, 0, true);
    double peak = measure_peak(session, width);
    struct length lengths[LENGTHS_MAX];
    size_t count = 0;
    double ns = (double)longest_us * 1e3;
    bool below = false;
    for (; count < LENGTHS_MAX && ns >= (double)shortest_ns && !below; ns /= 2) {
        uint64_t iterations = (uint64_t)(ns * peak / (double)width / TESSI_SYNTHETIC_FLOPS / 1e9);
        lengths[count] = measure(session, steps, width, iterations > 0 ? iterations : 1, peak);
        below = lengths[count].efficiency < 0.25;
        count++;
    }
    double best = 1.0;
    for (size_t i = 0; i < count; i++) {
        best = fmax(best, lengths[i].efficiency);
    }
    for (size_t i = 0; i < count; i++) {
        lengths[i].efficiency /= best;
    }
    peak *= best;
    double metg = metg_us(lengths, count);
    printf("{\"bench\": \"stencil\", \"steps\": %lld, \"width\": %lld, \"embedded\": %s, \"peak_gflops\": %.3f, "
           "\"metg_us\": %.3f, \"lengths\": [",
           (long long)steps, (long long)width, scheduler == NULL ? "true" : "false", peak / 1e9, metg);
    for (size_t i = 0; i < count; i++) {
        printf("%s{\"iterations\": %llu, \"seconds\": %.6f, \"granularity_us\": %.3f, \"efficiency\": %.4f}",
               i > 0 ? ", " : "", (unsigned long long)lengths[i].iterations, lengths[i].seconds,
               lengths[i].granularity_us, lengths[i].efficiency);
    }
    printf("]}\n");
    (void)fflush(stdout);
    tess_session_close(session);
    return 0;
}
