/* What a virtual cluster is made of, as the command line of `simulate` says it. */
#ifndef TESTS_SIM_TOOL_OPTIONS_H
#define TESTS_SIM_TOOL_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"

#define TOOL_LIST_MAX 64

enum tool_time {
    TOOL_TIME_COST,      /* from the operations table's flops and bytes */
    TOOL_TIME_FIXED,     /* every task alike */
    TOOL_TIME_LOGNORMAL, /* drawn for each task, from the seed */
};

struct tool_speed { /* `count` workers of this speed; 1: as the task times say */
    double speed;
    uint32_t count;
};

struct tool_late { /* `count` workers of the last ones join at this time */
    uint32_t count;
    int64_t at_ns;
};

enum tool_graph_kind {
    TOOL_MATMUL,
    TOOL_TASKS,
    TOOL_LAYERED,
    TOOL_DAG,
    TOOL_STENCIL,
    TOOL_REDUCE,
    TOOL_SUM,
    TOOL_CHAIN
};

struct tool_options {
    enum tool_graph_kind graph;
    uint64_t size[3]; /* the graph's numbers, in the order of --help */
    bool persist;     /* sources are computed and held first, and not measured */
    uint32_t workers, slots;
    struct tool_speed speeds[TOOL_LIST_MAX];
    uint32_t speed_count;
    struct tool_late late[TOOL_LIST_MAX];
    uint32_t late_count;
    uint64_t memory_bytes;
    double bytes_per_ns; /* of a network card, each way */
    int64_t latency_ns;  /* of any message, one way */
    int64_t loop_ns;     /* a worker reports at most so often */
    enum tool_time time;
    int64_t task_ns;     /* FIXED; LOGNORMAL: the mean */
    bool told;           /* synthetic tasks say how long they take: in the mean, where times are drawn */
    double sigma;        /* LOGNORMAL: of the logarithm */
    double flops_per_ns; /* COST: of one slot in products; other operations run at memory's speed */
    int64_t overhead_ns; /* of each step besides its kernel */
    int64_t window_ns;   /* 0: the scheduler's default */
    uint64_t seed;
    bool alone;  /* the events are told again to another machine, and its time measured */
    bool verify; /* the scheduler's invariants after every step: slow */
};

struct tool_options tool_options_default(void);

/* TESSI_CLOSED: the text that --help asks for has been printed. */
enum tessi_status tool_options_parse(struct tool_options *options, int argc, char **argv, struct tessi_error *error);

/* Relative speed of worker `number`, 0 … workers − 1. */
double tool_options_speed(const struct tool_options *options, uint32_t number);
/* When worker `number` joins: 0 is at the start. */
int64_t tool_options_joins(const struct tool_options *options, uint32_t number);

#endif
