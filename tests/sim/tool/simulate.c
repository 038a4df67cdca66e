/* The simulator as a tool: see tests/sim/README.md. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "tests/sim/tool/cluster.h"
#include "tests/sim/tool/options.h"

static void print_product(const struct tool_cluster *cluster)
{
    const struct tool_options *options = &cluster->options;
    if (options->graph != TOOL_MATMUL) {
        return;
    }
    double n = (double)options->size[0], p = options->workers;
    double bound = 2 * n * n * (1 / sqrt(p) - 1 / p);
    (void)printf(" \"words_2d_bound\": %.0f, \"words_of_2d_bound\": %.4f,", bound,
                 bound > 0 ? (double)cluster->result.words_max / bound : 0.0);
}

static void print_alone(const struct tool_cluster *cluster)
{
    struct tool_tape_times times;
    if (cluster->options.alone) {
        tool_tape_play(&cluster->tape, &cluster->graph, &cluster->config, cluster->first_measured, &times);
        (void)printf(" \"alone_join_seconds\": %.6f, \"alone_accept_seconds\": %.6f, \"alone_ns_per_task\": %.1f,",
                     times.join_seconds, times.accept_seconds,
                     times.scheduler_seconds * 1e9 / (double)(cluster->result.tasks > 0 ? cluster->result.tasks : 1));
    }
}

static void print_result(const struct tool_cluster *cluster, double wall_seconds)
{
    const struct tool_result *r = &cluster->result;
    double tasks = r->tasks > 0 ? (double)r->tasks : 1, live = r->live_most > 0 ? (double)r->live_most : 1;
    double bound_ns = (double)tool_bound_ns(cluster);
    double grown = (double)r->scheduler_bytes_most - (double)r->scheduler_bytes_base;
    (void)printf("{\"simulate\": true, \"workers\": %" PRIu32 ", \"slots\": %" PRIu32 ", \"tasks\": %" PRIu64 ",",
                 cluster->options.workers, cluster->options.slots, r->tasks);
    (void)printf(" \"makespan_seconds\": %.9f, \"bound_seconds\": %.9f, \"makespan_of_bound\": %.4f,",
                 (double)r->makespan_ns / 1e9, bound_ns / 1e9, bound_ns > 0 ? (double)r->makespan_ns / bound_ns : 0.0);
    (void)printf(" \"work_seconds\": %.6f, \"longest_task_seconds\": %.9f,", r->work_ns / 1e9, r->longest_ns / 1e9);
    (void)printf(" \"bytes_moved\": %" PRIu64 ", \"words_mean\": %" PRIu64 ", \"words_max\": %" PRIu64 ",",
                 r->bytes_moved, r->words_mean, r->words_max);
    print_product(cluster);
    (void)printf(" \"peak_memory_bytes\": %" PRIu64 ", \"beyond_memory_bytes\": %" PRIu64 ", \"steals\": %" PRIu64 ",",
                 r->peak_bytes, r->beyond_bytes, r->steals);
    (void)printf(" \"accept_seconds\": %.6f, \"join_seconds\": %.6f, \"scheduler_seconds\": %.6f,", r->accept_seconds,
                 r->join_seconds, r->scheduler_seconds);
    (void)printf(" \"scheduler_steps\": %" PRIu64 ", \"scheduler_ns_per_task\": %.1f,", r->steps,
                 r->scheduler_seconds * 1e9 / tasks);
    (void)printf(" \"live_tasks_most\": %" PRIu64 ", \"scheduler_bytes\": %" PRIu64
                 ", \"scheduler_bytes_per_live_task\": %.1f,",
                 r->live_most, r->scheduler_bytes_most, grown / live);
    (void)printf(" \"resident_start_bytes\": %" PRIu64 ", \"resident_tenth_bytes\": %" PRIu64
                 ", \"resident_peak_bytes\": %" PRIu64 ",",
                 r->resident_start, r->resident_tenth, r->resident_peak);
    print_alone(cluster);
    (void)printf(" \"events\": %" PRIu64 ", \"wall_seconds\": %.3f}\n", r->events, wall_seconds);
}

int main(int argc, char **argv)
{
    struct tool_options options;
    struct tool_graph graph = {0};
    struct tool_cluster cluster;
    struct tessi_error error = {0};
    enum tessi_status status = tool_options_parse(&options, argc, argv, &error);
    if (status == TESSI_CLOSED) {
        return 0;
    }
    if (status == TESSI_OK) {
        status = tool_graph_make(&graph, &options, &error);
    }
    if (status != TESSI_OK) {
        (void)fprintf(stderr, "simulate: %s\n", error.text);
        tool_graph_fini(&graph);
        return 2;
    }
    int64_t began_ns = tessi_clock_now();
    tool_cluster_init(&cluster, &options, &graph);
    status = tool_cluster_run(&cluster, &error);
    if (status == TESSI_OK) {
        print_result(&cluster, (double)(tessi_clock_now() - began_ns) / 1e9);
    } else {
        (void)fprintf(stderr, "simulate: %s\n", error.text);
    }
    tool_cluster_fini(&cluster);
    return status == TESSI_OK ? 0 : 1;
}
