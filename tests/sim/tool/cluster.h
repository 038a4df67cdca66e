/* A virtual cluster: the real scheduler machine, and light models of workers in virtual time.
 *
 * A virtual worker does what the real one does as far as time and bytes go: it takes assignments, runs tasks on
 * its slots in global order when their inputs are there, asks owners for what is missing (small blocks ride in the
 * answer, large ones are offered and pulled when there is room), keeps copies while its memory allows, confirms or
 * refuses steals, and reports in batches. It holds records only for tasks that it was assigned and for blocks that
 * it was not yet told to free, so the number of tasks that a run executes does not matter to its size.
 *
 * Every worker has a card that sends one block after the other and receives one after the other, both at
 * the bandwidth; the switch between them has room for everything. A message takes the latency. The scheduler's
 * own time is measured, not charged: virtual time stands still during its steps.
 *
 * Nothing is spilled: what a worker must hold beyond its memory is counted. */
#ifndef TESTS_SIM_TOOL_CLUSTER_H
#define TESTS_SIM_TOOL_CLUSTER_H

#include "core/base/map.h"
#include "core/sched/sched.h"
#include "tests/sim/tool/graphs.h"
#include "tests/sim/tool/options.h"
#include "tests/sim/tool/queue.h"
#include "tests/sim/tool/tape.h"

#define TOOL_NONE UINT32_MAX
#define TOOL_WINDOW 3u                       /* steps of a stream whose inputs are brought in ahead */
#define TOOL_INLINE_BYTES 65536u             /* up to this size a block rides in the first answer */
#define TOOL_PULL_BYTES (UINT64_C(128) << 20) /* asked for and not here yet, of one worker */
#define TOOL_AHEAD 6u /* messages that a scheduler is told of before it takes them, as core/server does */
#define TOOL_POLL 1024u /* reports at the most that a poll finds */
#define TOOL_FIRST_WORKER (TOOL_SESSION + 1u) /* the id of worker number 0 */

enum tool_event_kind {
    TOOL_JOIN,         /* of worker */
    TOOL_BEAT,         /* of worker; periodic */
    TOOL_CLIENT_BEAT,  /* periodic */
    TOOL_TICK,         /* periodic */
    TOOL_MESSAGE,       /* a: number of a message that reaches the scheduler */
    TOOL_ORDER,        /* a: number of an order that reaches the worker */
    TOOL_REPORT_DUE,
    TOOL_STEP_END,     /* a, b: task and its life */
    TOOL_READ,         /* here and below a, b: block of the reader and its ticket; arrives at the owner */
    TOOL_PULL,         /* likewise */
    TOOL_OFFER,        /* arrives at the reader */
    TOOL_DATA,         /* likewise */
    TOOL_ASK,          /* likewise: the owner does not know the block */
};

enum tool_block_state {
    TOOL_ABSENT,   /* a task here reads it; nobody has been asked for it */
    TOOL_LOCATING, /* the scheduler has been asked who has it */
    TOOL_ASKED,    /* the owner has been asked */
    TOOL_OFFERED,  /* the owner has it */
    TOOL_PULLING,
    TOOL_COPY,
    TOOL_PLANNED,  /* a task here makes it */
    TOOL_OWNED,
};

struct tool_block {
    uint64_t index;
    uint64_t bytes;
    uint64_t want;   /* place of the first open step that waits for it; UINT64_MAX: none */
    uint32_t layer;  /* number in the graph */
    uint32_t worker;
    uint32_t owner;  /* worker number to ask */
    uint32_t ticket; /* bumped for each request and each use of the handle: an answer to an older one is stale */
    uint32_t task;   /* PLANNED */
    uint32_t uses;   /* steps of assigned tasks here that will read it */
    uint32_t pins;   /* of those, open ones */
    uint32_t waiters; /* links: tasks here whose open steps wait */
    uint32_t readers; /* links: blocks of other workers that wait */
    uint32_t before, after; /* in a list of copies */
    enum tool_block_state state;
};

struct tool_task {
    uint64_t order;
    int64_t step_ns;
    int64_t ran_ns;
    uint32_t block;
    uint32_t life;
    uint32_t epoch;
    uint32_t steps, next_step, opened;
    uint32_t missing[TOOL_WINDOW]; /* of step s at s mod WINDOW: inputs that are not here */
    bool open, started, running;
};

struct tool_link {
    uint32_t next;
    uint32_t a, b; /* waiter: task, step; reader: block, ticket */
};

struct tool_copies { /* least recently used first */
    uint32_t first, last;
};

struct tool_worker {
    uint32_t number;
    bool up;
    double speed;
    uint32_t busy, started, open;
    uint64_t open_bytes;
    struct tessi_map blocks;         /* (layer, index) → block */
    struct tool_queue waiting;       /* tasks not open yet, by order */
    struct tool_queue startable, runnable;
    struct tool_queue pulls;         /* offered blocks that are wanted */
    struct tool_copies idle, needed; /* copies that no task here reads, and that some later one does */
    struct tessi_report report;      /* under way */
    struct tessi_spans locates;
    bool report_pending;
    int64_t report_free_ns, told_ns;
    uint64_t used_bytes, owned_bytes, peak_bytes, pulling_bytes, fetched_bytes, served_bytes;
    uint64_t fetched_before_bytes;   /* what is measured began */
    uint64_t beyond_bytes;           /* most that it had to hold beyond its memory */
    int64_t sends_until_ns, receives_until_ns;
    int64_t busy_ns;
};

struct tool_message {
    uint32_t worker;
    struct tessi_report report;
    struct tessi_spans locates;
};

struct tool_order {
    enum tessi_sched_action_kind kind;
    struct tessi_spans spans, where;
};

struct tool_layer { /* what all its tasks have in common */
    const struct tessi_layer *layer;
    bool uniform; /* all blocks alike, so all costs too */
    double cost_ns;
    uint32_t steps;
    uint64_t block_bytes, footprint;
};

struct tool_pool { /* of anything, by number; freed ones are used again */
    void *items;
    size_t item_size, count, capacity;
    uint32_t *free;
    size_t free_count, free_capacity;
};

struct tool_result {
    int64_t makespan_ns;     /* from the last submission to its DONE */
    /* Processor time of the scheduler: for that submission, for workers that join, and for all steps after it. */
    double accept_seconds, join_seconds, scheduler_seconds;
    uint64_t steps;          /* of the scheduler */
    uint64_t tasks;          /* executed since the submission */
    double work_ns, longest_ns; /* run time of those at speed 1, and of the longest of them */
    uint64_t bytes_moved, words_mean, words_max;
    uint64_t peak_bytes, beyond_bytes;
    uint64_t steals;
    uint64_t live_most;        /* tasks assigned or held, at the most */
    uint64_t scheduler_bytes_base, scheduler_bytes_most;
    uint64_t resident_start, resident_tenth, resident_peak; /* bytes: at submission, when a tenth is done, at the most */
    uint64_t events;
};

struct tool_cluster {
    struct tool_options options;
    struct tool_graph graph;
    struct tool_layer *layers; /* one for each of the graph, owned */
    struct tessi_sched_config config;
    struct tessi_sched *sched;
    struct tool_tape tape; /* with options.alone */
    int64_t now_ns, tick_ns, submitted_ns;
    struct tool_timeline timeline;
    uint64_t busy_events; /* that are not periodic */
    struct tool_worker *workers; /* owned */
    struct tool_pool blocks, tasks, links, messages, orders;
    size_t first_measured; /* layer */
    bool measuring;
    int64_t stepped_ns, waited_ns; /* real clocks: end of the last step; time without the processor until then */
    size_t awaited; /* wanted layers that are not done */
    uint64_t live;
    uint64_t touched; /* keeps the reading of reports from being left out */
    uint32_t expect[TOOL_AHEAD]; /* the scheduler is told within its next step that these are to report */
    uint32_t expect_count;
    struct tool_result result;
    struct tessi_error error;
};

/* cluster.c. Takes the graph. The error says what ended a run that did not finish. */
void tool_cluster_init(struct tool_cluster *cluster, const struct tool_options *options, struct tool_graph *graph);
enum tessi_status tool_cluster_run(struct tool_cluster *cluster, struct tessi_error *error);
void tool_cluster_fini(struct tool_cluster *cluster);

void tool_schedule(struct tool_cluster *cluster, int64_t at_ns, enum tool_event_kind kind, uint32_t worker, uint32_t a,
                   uint32_t b);
uint32_t tool_pool_take(struct tool_pool *pool);
void tool_pool_give(struct tool_pool *pool, uint32_t number);
/* Run time of a task on a worker of speed 1, with what its steps cost besides their kernels. */
double tool_task_ns(const struct tool_cluster *cluster, uint32_t layer, uint64_t index);
void tool_count_done(struct tool_cluster *cluster, uint32_t layer, uint64_t index);

/* A virtual worker: what the scheduler orders (orders.c), and all other events that reach it (peers.c). */
void tool_worker_order(struct tool_cluster *cluster, struct tool_worker *worker, const struct tool_order *order);
void tool_worker_event(struct tool_cluster *cluster, const struct tool_event *event);
void tool_worker_fini(struct tool_worker *worker);

/* bound.c: no schedule is shorter. Transfers are left out. */
int64_t tool_bound_ns(const struct tool_cluster *cluster);

#endif
