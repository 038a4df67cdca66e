/* The graphs that `simulate` can run, as layers. */
#ifndef TESTS_SIM_TOOL_GRAPHS_H
#define TESTS_SIM_TOOL_GRAPHS_H

#include "core/graph/layer.h"
#include "tests/sim/tool/options.h"

#define TOOL_SESSION 1u

struct tool_graph {
    struct tessi_layer **layers; /* number i has id i + 1; owned */
    size_t count, capacity;
    size_t sources; /* the first so many may be persisted before the rest is submitted */
    uint64_t tasks;
};

enum tessi_status tool_graph_make(struct tool_graph *graph, const struct tool_options *options,
                                  struct tessi_error *error);
void tool_graph_fini(struct tool_graph *graph);

#endif
