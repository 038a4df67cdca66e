/* The simulated cluster: one scheduler machine, workers' planner machines in tiny virtual shells, and
 * clients, joined by a virtual network, under one virtual clock and one seeded source of chance.
 *
 *   graph.c   random graphs and the serial oracle
 *   net.c     events in time order; messages over links that keep their order
 *   worker.c  a worker's shell: it steps the planner and carries out what that decides
 *   memory.c  its memory and files
 *   slots.c   its slots
 *   peers.c   what it sends to its peers and hears from them
 *   devices.c its devices
 *   client.c  a client: submits, serves, reads and compares, releases
 *   task_options.c  priorities, policies and resources
 *   script.c  what each client is going to do, and the faults
 *   check.c   what must hold in the world as a whole
 *   dump.c    the world at a standstill, for whoever has to find out why
 *   world.c   the scheduler's shell, the run from the first event to the last */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "core/base/heap.h"
#include "core/sched/sched.h"
#include "tests/sim/graph.h"
#include "tests/sim/random.h"
#include "worker/flow/flow.h"

#define SIM_SCHEDULER 0u
#define SIM_LINEAGE_NEVER 1000000u
#define SIM_MS INT64_C(1000000)
#define SIM_S INT64_C(1000000000)

enum sim_profile {
    SIM_CALM,
    SIM_DEATHS,
    SIM_PAUSES,
    SIM_MEMORY,
    SIM_DISKS,
    SIM_FAILURES,
    SIM_CLIENTS,
    SIM_CHAOS,
    SIM_LEAVES,
    SIM_TIGHT,
    SIM_DEVICES,
    SIM_FULL,
    SIM_ANY /* what the seed says */
};
#define SIM_PROFILES 8 /* seeds take the first ones in turns; every other calm world is one of leaves */
extern const char *const sim_profile_names[SIM_ANY];

struct sim_options {
    enum sim_profile profile;
    uint32_t workers, clients;
    uint32_t hosts; /* 0: each its own */
    struct sim_graph_options graph;
    struct tessi_sched_config sched;
    int64_t latency_ns, spike_ns;
    uint32_t spike_percent; /* of messages between the scheduler and others */
    double bytes_per_ns;
    int64_t report_delay_ns;
    bool small_memory; /* memory near the largest footprint, files for the rest; else memory for all */
    bool no_spill;
    bool full;             /* what is wanted fills half of all room or more, and nobody joins */
    uint32_t block_cost;   /* of a small block beside its data */
    bool too_small;        /* no worker can run the largest task: it is refused */
    uint32_t tiny_percent; /* workers that cannot run the largest tasks */
    uint32_t slow_percent;
    uint32_t stranger_percent; /* workers that lack the cluster's numerics family */
    uint32_t spill_fail_percent, damage_percent;
    uint32_t priority_percent, policy_percent, demand_percent; /* of layers */
    uint32_t bare_percent;      /* workers that have none, or fewer, of the resources that layers may demand */
    uint32_t duplicate_percent; /* of reports, locates, reads and some answers */
    uint32_t silent_percent;    /* of deaths: no connection breaks, the peer just falls silent */
    bool peers_notice;          /* workers see neighbours' connections break, before or after the scheduler does */
    bool hear_the_lost;         /* what a peer sent before it was declared lost still arrives afterwards */
    uint32_t deaths, pauses, joins, leaves, client_deaths, client_pauses, scheduler_pauses;
    bool leave_in_peace; /* workers that leave have time, and room elsewhere: nothing may be lost by it */
    bool all_die;
    uint32_t device_percent;    /* workers with devices */
    uint32_t breaks;            /* of devices */
    uint32_t elsewhere_percent; /* steps that do not fit their device */
    int64_t fault_end_ns;
};

struct sim_region { /* memory that leases may share */
    uint64_t value, bytes;
    uint32_t refs;
    uint32_t next_step;
    bool complete;
    bool recycled; /* its owner has given it to something else: what it holds now is noise */
    bool away;     /* `value` is what `device` has, and host memory holds noise */
    bool spoiled;  /* a step that wrote it was not run: it will not be complete */
    bool damaged;  /* it stands for a file, which is */
    bool lost;     /* with its device, which alone had it */
    uint32_t device;
    uint32_t keeps; /* references that keep its memory from being used again */
};

enum sim_message_kind {
    SIM_HELLO,
    SIM_REPORT,
    SIM_HEARTBEAT,
    SIM_LOCATE,
    SIM_GOODBYE,
    SIM_LEAVE, /* to the scheduler */
    SIM_SUBMIT,
    SIM_RELEASE,
    SIM_CANCEL,
    SIM_DETACH,
    SIM_ORDER, /* from the scheduler: one of its actions */
    SIM_PEER_HELLO,
    SIM_READ,
    SIM_PULL,
    SIM_GIVE_BACK, /* between peers: by the one that connected */
    SIM_INLINE,
    SIM_LEASE,
    SIM_OFFER,
    SIM_BLOCK,
    SIM_MOVED,
    SIM_ASK,
    SIM_REVOKE, /* the answers */
    SIM_GONE,   /* the connection broke */
    SIM_MESSAGES
};
extern const char *const sim_message_names[SIM_MESSAGES];

struct sim_message {
    enum sim_message_kind kind;
    uint32_t from, to;
    bool late;                        /* a duplicate */
    struct tessi_sched_action action; /* ORDER: owns all that it points to */
    struct tessi_report report;       /* REPORT: owned */
    struct tessi_worker_info info;    /* HELLO of a worker */
    struct tessi_spans spans;         /* LOCATE: owned */
    uint32_t submission;              /* SUBMIT */
    uint32_t *ids;                    /* RELEASE, CANCEL, DETACH: owned */
    size_t id_count;
    struct tessi_task task;
    uint32_t epoch, worker;
    uint64_t value, bytes;
    int64_t wait_ns; /* LEAVE */
    bool lease;
    struct sim_region *region; /* LEASE: a reference */
};

enum sim_event_kind {
    SIM_DELIVER,
    SIM_STEP_END,    /* a: slot, b: its round */
    SIM_STEP_TOLD,   /* a: slot; the planner hears of the steps that have ended there */
    SIM_SPILLED,     /* a: block */
    SIM_LOADED,      /* a: block */
    SIM_UNREADABLE,  /* a: number of the send: the file that a peer wants has turned out to be damaged */
    SIM_SPILL_AGAIN, /* the pause after a spill that failed is over */
    SIM_FLUSH,       /* a worker's report is due */
    SIM_BEAT,        /* heartbeat is due */
    SIM_TICK,
    SIM_RESUME,
    SIM_FAULT,       /* a: number of the fault */
    SIM_SCRIPT,      /* a client goes on */
    SIM_LET_GO,      /* a client gives back lease number a */
    SIM_DEVICE_HOME, /* a: ticket; the block's bytes are in host memory */
    SIM_DEVICE_LOST, /* a: device; the worker notices that it is broken */
};

struct sim_event {
    enum sim_event_kind kind;
    uint32_t node;
    uint32_t a, b;
    bool failed;                 /* SPILLED */
    bool periodic;               /* would go on for ever */
    struct sim_message *message; /* DELIVER: owned */
};

struct sim_link {
    uint32_t from, to;
    int64_t last_ns;   /* arrival of the last message */
    int64_t broken_ns; /* later arrivals never arrive */
};

enum sim_op_kind {
    SIM_OP_SUBMIT, /* submission `number` */
    SIM_OP_AWAIT,  /* all that is wanted has been announced */
    SIM_OP_READ,   /* layer `number`: start reading its blocks */
    SIM_OP_AWAIT_READS,
    SIM_OP_RELEASE, /* layer `number`; 0: all */
    SIM_OP_CANCEL,
    SIM_OP_DETACH,
    SIM_OP_WAIT, /* for_ns */
    SIM_OP_LEAVE,
};
struct sim_op {
    enum sim_op_kind kind;
    uint32_t number;
    int64_t for_ns;
};
struct sim_submission {
    uint32_t first, count; /* layers, by id */
    uint32_t *wanted;      /* owned */
    size_t wanted_count;
};
struct sim_script {
    struct sim_op *ops;
    size_t count, capacity;
    struct sim_submission *submissions;
    size_t submission_count, submission_capacity;
};

struct sim_worker;
struct sim_client;

struct sim_view { /* what a node knows of another one */
    bool lost;    /* has been told that it is gone */
    bool greeted; /* has sent it a PEER_HELLO */
    bool heard;   /* has had its PEER_HELLO */
};

struct sim_node {
    uint32_t id;
    uint32_t host;
    bool is_client;
    bool alive, paused;
    int64_t paused_ns;  /* since */
    bool leaving, left; /* has said LEAVE; has been told LEFT */
    bool welcomed;      /* until then, and while paused, events wait in the inbox */
    bool counted;       /* deaths of what ran here have been counted */
    struct sim_event *inbox;
    size_t inbox_count, inbox_capacity;
    struct sim_view *views; /* by node id, owned */
    size_t view_capacity;
    struct tessi_worker_info info;
    double slowness;
    uint32_t devices;
    uint32_t to_scheduler, from_scheduler; /* messages under way */
    struct sim_worker *worker;             /* NULL: a client, or dead */
    struct sim_client *client;
};

enum sim_fault_kind {
    SIM_KILL,
    SIM_PAUSE,
    SIM_JOIN,
    SIM_DRAIN,
    SIM_KILL_CLIENT,
    SIM_PAUSE_CLIENT,
    SIM_KILL_ALL,
    SIM_BREAK,
    SIM_END,
    SIM_PAUSE_SCHEDULER
};

struct sim_fault {
    enum sim_fault_kind kind;
    int64_t for_ns;
};

struct sim_world {
    uint64_t seed;
    struct random random;
    struct sim_options options;
    bool verbose;
    int64_t now_ns;
    struct tessi_heap heap; /* (time, sequence) → event */
    struct sim_event *events;
    size_t event_count, event_capacity;
    uint32_t *free_events;
    size_t free_event_count, free_event_capacity;
    uint64_t sequence, busy_events;
    int64_t busy_ns; /* when something that is not periodic last happened */
    struct tessi_map link_of;
    struct sim_link *links;
    size_t link_count, link_capacity;
    struct sim_node **nodes; /* by id − 1 */
    size_t node_count, node_capacity;
    struct tessi_sched *sched;
    int64_t tick_ns;
    bool scheduler_paused; /* what comes for it waits in its inbox, and so does its tick */
    struct sim_message **scheduler_inbox;
    size_t scheduler_inbox_count, scheduler_inbox_capacity;
    struct sim_fault *faults;
    size_t fault_count, fault_capacity;
    bool faults_over;
    uint64_t memory_bytes, spill_bytes, footprint_bytes;
    struct tessi_flow_actions actions; /* of the step under way */
    uint64_t digest;
    uint64_t steps; /* events so far */
    /* what gives the scheduler a reason to fail work */
    int64_t alone_since_ns, alone_longest_ns;
    int64_t lonely_since_ns;                /* and reads wait; −1: not so */
    int64_t bare_since_ns, bare_longest_ns; /* nobody has all resources */
    struct random task_options; /* a source of its own, so that worlds without task options are what they were */
    struct random devices, scheduler_pauses; /* likewise */
    bool disturbed;                          /* a worker has died, left or been taken for lost: tasks may be anywhere */
    bool check_needed;                       /* the scheduler has yet to look for what nobody needs any more */
    bool ever_inadequate;                    /* at some time no known worker could run the largest task */
    uint64_t detached;                       /* layers */
    uint64_t reads_right, tasks_run, regions;
    uint64_t refused, gave_up; /* for want of room */
};

/* world.c */
/* Ends the process when something is wrong. */
void sim_run(uint64_t seed, enum sim_profile profile, bool verbose, uint64_t *digest);
_Noreturn void sim_fail(const struct sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(const struct sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct sim_node *sim_node_create(struct sim_world *world);
struct sim_node *sim_node(const struct sim_world *world, uint32_t id);
struct sim_view *sim_view(struct sim_node *node, uint32_t id);
void sim_node_die(struct sim_world *world, struct sim_node *node, bool silent);
struct sim_graph *sim_graph_of(const struct sim_world *world, uint32_t session); /* NULL: not a client */

/* net.c */
void sim_schedule(struct sim_world *world, int64_t at_ns, struct sim_event event);
bool sim_next_event(struct sim_world *world, struct sim_event *event); /* advances the clock */
struct sim_message *sim_message(enum sim_message_kind kind, uint32_t from, uint32_t to);
void sim_message_free(struct sim_message *message);
void sim_send(struct sim_world *world, struct sim_message *message);
bool sim_arrives(const struct sim_world *world, const struct sim_message *message); /* its link has not broken */
void sim_break_links(struct sim_world *world, const struct sim_node *node, bool silent);
void sim_action_copy(struct tessi_sched_action *to, const struct tessi_sched_action *from);
struct sim_region *sim_region_create(struct sim_world *world, uint64_t bytes);
void sim_region_drop(struct sim_world *world, struct sim_region *region);

/* worker.c */
void sim_worker_start(struct sim_world *world, bool adequate);
void sim_worker_leave(struct sim_world *world, struct sim_node *node, int64_t wait_ns);
void sim_worker_event(struct sim_world *world, struct sim_node *node, struct sim_event *event);
void sim_worker_destroy(struct sim_world *world, struct sim_node *node);
const struct tessi_flow *sim_worker_flow(const struct sim_node *node); /* NULL before WELCOME */
bool sim_worker_quiet(const struct sim_node *node);                    /* nothing to report */
void sim_worker_check_empty(const struct sim_world *world, const struct sim_node *node);

/* client.c */
void sim_client_start(struct sim_world *world, struct sim_node *node);
void sim_client_event(struct sim_world *world, struct sim_node *node, struct sim_event *event);
void sim_client_destroy(struct sim_world *world, struct sim_node *node);
bool sim_client_finished(const struct sim_node *node);
uint64_t sim_wanted_bytes(const struct sim_world *world); /* of all that clients ask for, ever */
const struct sim_submission *sim_client_submission(const struct sim_world *world, uint32_t session, uint32_t number);
void sim_client_say(const struct sim_world *world, const struct sim_node *node); /* what it waits for, on stderr */

/* script.c */
void sim_options_choose(struct sim_world *world);
void sim_faults_plan(struct sim_world *world);

void sim_task_options_choose(struct sim_world *world, struct sim_graph *graph);
void sim_resources_choose(struct sim_world *world, struct tessi_worker_info *info, bool adequate);
void sim_script_write(struct sim_world *world, struct sim_graph *graph, struct sim_script *script);
void sim_script_fini(struct sim_script *script);

/* dump.c */
void sim_dump(const struct sim_world *world);

/* check.c */
void sim_check_report(struct sim_world *world, uint32_t worker, const struct tessi_report *report); /* after the step */
void sim_check_order(const struct sim_world *world, uint32_t session, uint32_t first, uint32_t count); /* layers */
void sim_check_scheduler(struct sim_world *world); /* after each of its steps */
void sim_check_needed(struct sim_world *world);    /* after a submission, a release and the like */
void sim_check_lost(struct sim_world *world);      /* a block is given up only when nobody owns it */
void sim_check_minds(struct sim_world *world);     /* scheduler and workers agree on who has what */
bool sim_scheduler_knows(const struct sim_world *world, uint32_t id);
void sim_check_empty(struct sim_world *world); /* at the end, when all has been released */
void sim_check_failure(struct sim_world *world, const struct sim_graph *graph, uint32_t layer, enum tessi_status status,
                       const char *text);
void sim_check_give_up(const struct sim_world *world); /* work is given up for want of room: there is none */
bool sim_loss_possible(const struct sim_world *world, const struct sim_graph *graph); /* a block may fail after DONE */
void sim_count_deaths(struct sim_world *world, struct sim_node *node);

#endif
