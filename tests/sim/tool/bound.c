/* What no schedule can beat: the work shared by all speed there is at each moment, and the longest chain. */
#include <math.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/sim/tool/cluster.h"

#define TASKS_MAX UINT64_C(4000000) /* of a graph whose longest chain is computed task by task */

struct chain {
    const double *ends; /* of the input layer's tasks */
    double longest;
};

static void longest_input(void *context, uint64_t index)
{
    struct chain *chain = context;
    chain->longest = chain->ends[index] > chain->longest ? chain->ends[index] : chain->longest;
}

static double longest_chain_ns(const struct tool_cluster *cluster)
{
    const struct tool_graph *graph = &cluster->graph;
    double **ends = tessi_zalloc(graph->count * sizeof *ends);
    double longest = 0;
    for (size_t l = cluster->first_measured; l < graph->count; l++) {
        const struct tessi_layer *layer = graph->layers[l];
        uint64_t tasks = tessi_layer_tasks(layer);
        ends[l] = tessi_alloc(tasks * sizeof **ends);
        for (uint64_t t = 0; t < tasks; t++) {
            struct chain chain = {NULL, 0};
            for (uint32_t i = 0; i < layer->ninputs; i++) {
                chain.ends = ends[layer->reads[i] - 1];
                if (chain.ends != NULL) {
                    tessi_task_inputs(layer, i, t, longest_input, &chain);
                }
            }
            ends[l][t] = chain.longest + tool_task_ns(cluster, (uint32_t)l, t);
            longest = ends[l][t] > longest ? ends[l][t] : longest;
        }
    }
    for (size_t l = 0; l < graph->count; l++) {
        tessi_free(ends[l]);
    }
    tessi_free(ends);
    return longest;
}

/* Of a graph too large for that: the first task of each layer of its longest chain of layers, where all are alike. */
static double shallow_chain_ns(const struct tool_cluster *cluster)
{
    const struct tool_graph *graph = &cluster->graph;
    double *ends = tessi_zalloc(graph->count * sizeof *ends);
    double longest = 0;
    for (size_t l = cluster->first_measured; l < graph->count; l++) {
        const struct tessi_layer *layer = graph->layers[l];
        for (uint32_t i = 0; i < layer->ninputs; i++) {
            double input = ends[layer->reads[i] - 1]; /* 0 when it reads itself */
            ends[l] = input > ends[l] ? input : ends[l];
        }
        bool alike = cluster->options.time == TOOL_TIME_FIXED || cluster->layers[l].uniform;
        ends[l] += alike && cluster->options.time != TOOL_TIME_LOGNORMAL ? tool_task_ns(cluster, (uint32_t)l, 0) : 0;
        longest = ends[l] > longest ? ends[l] : longest;
    }
    tessi_free(ends);
    return longest;
}

/* When the workers that are there, each from its joining on, have done the work. */
static double work_ends_ns(const struct tool_cluster *cluster)
{
    const struct tool_options *options = &cluster->options;
    double left = cluster->result.work_ns, now = (double)cluster->submitted_ns;
    for (;;) {
        double speed = 0, next = INFINITY;
        for (uint32_t w = 0; w < options->workers; w++) {
            double joins = (double)tool_options_joins(options, w);
            if (joins <= now) {
                speed += tool_options_speed(options, w) * options->slots;
            } else if (joins < next) {
                next = joins;
            }
        }
        TESS_ASSERT(speed > 0);
        if (now + left / speed <= next) {
            return now + left / speed - (double)cluster->submitted_ns;
        }
        left -= (next - now) * speed;
        now = next;
    }
}

int64_t tool_bound_ns(const struct tool_cluster *cluster)
{
    double fastest = 0;
    for (uint32_t w = 0; w < cluster->options.workers; w++) {
        double speed = tool_options_speed(&cluster->options, w);
        fastest = speed > fastest ? speed : fastest;
    }
    double chain = cluster->result.tasks <= TASKS_MAX ? longest_chain_ns(cluster) : shallow_chain_ns(cluster);
    double work = work_ends_ns(cluster);
    return (int64_t)(work > chain / fastest ? work : chain / fastest);
}
