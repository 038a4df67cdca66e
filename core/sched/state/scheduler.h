/* All that one scheduler knows. */
#ifndef TESSI_SCHED_STATE_SCHEDULER_H
#define TESSI_SCHED_STATE_SCHEDULER_H

#include "core/base/assert.h"
#include "core/base/heap.h"
#include "core/sched/state/task_lists.h"
#include "core/sched/state/worker.h"

#define NAMED_LAYERS 16u

struct hand_over { /* a HELD block whose owner leaves or is full, and who has been told to take it over */
    struct sched_layer *layer; /* NULL: a free record */
    uint64_t index, bytes;
    uint64_t order; /* of the task that waits for its room; UINT64_MAX: its owner leaves */
    uint32_t to;    /* worker index */
    uint32_t epoch; /* under which it will own the block: above any that the block has had */
};

struct keep { /* the second owner of a block, or who has been asked to be it */
    struct sched_layer *layer; /* NULL: a free record, and `to` is the next one's number + 1 */
    uint64_t index, bytes;
    uint32_t to;    /* worker index */
    uint32_t epoch; /* under which it owns the block: above the owner's */
    bool arrived;   /* it has said that it does */
};

struct spreading { /* a failed block, and which of its readers have been told */
    struct sched_layer *layer; /* NULL: none */
    uint64_t index;
    size_t consumer; /* all before this one */
    uint64_t readers; /* and so many of its tasks */
};

struct history_entry { /* recent run times of one kind of task */
    struct tessi_map_key kind;
    double samples[9];
    uint32_t count, next;
    bool used; /* since the search for one to forget last passed */
};

struct processor { /* a kind of processor, or device */
    char name[TESSI_NAME_MAX];
    uint32_t workers; /* alive */
    bool device;
};

struct page_ref {
    struct sched_layer *layer;
    uint64_t page;
};

struct worker_list { /* indices */
    uint32_t *items; /* owned */
    size_t count, capacity;
};

struct load_tree {
    double *keys; /* of each match's winner; the workers' own from `leaves` on; owned */
    size_t leaves;
};

struct loads {
    struct load_tree kept[2], given[2], dry[2]; /* of processors, of devices */
    struct worker_list changed; /* since the matches of those that run dry were played */
    struct worker_list stale;   /* since the others were */
};

#define EXPECT_AHEAD 8u

struct expected {
    uint32_t peer;
    struct worker *worker; /* NULL: none, or not looked up yet */
};

struct moved {
    uint32_t session, submission, serial;
};

struct client_location {
    uint32_t peer;
    struct tessi_span span;
};

struct tessi_sched {
    /* --- written by step --- */
    struct tessi_sched_config config;
    int64_t now_ns;
    int64_t attended_ns; /* as now_ns, without the time for which nobody was here: what others are judged by */
    int64_t wake_ns;     /* asked for with the last step */
    int64_t next_check_ns;
    char family[TESSI_NAME_MAX];
    struct worker **workers; /* by index; that of one who has gone is given to a later one */
    struct worker_list vacant; /* such places */
    struct worker_list joined; /* those that are alive, in the order in which they came */
    void **worker_rooms;     /* where they lie side by side, owned */
    size_t worker_room_count, worker_room_capacity;
    size_t worker_count, worker_capacity;
    struct tessi_map worker_by_id;
    size_t session_capacity;
    struct tessi_map session_by_id;
    size_t moved_first, moved_count;
    /* --- written by step, recovery --- */
    size_t alive_count;
    bool relief_due;         /* somebody may have room for their blocks by now */
    /* --- written by step, lineage --- */
    struct session **sessions; /* owned */
    size_t session_count;
    /* --- written by step, order --- */
    uint64_t order_next;
    /* --- written by state --- */
    struct task_lists copies;  /* workers, by index, that hold a block besides its owner */
    struct tessi_map hand_over_of; /* task → hand_overs pool */
    struct hand_over *hand_overs;
    size_t hand_over_count, hand_over_capacity;
    uint32_t *hand_overs_free;
    size_t hand_overs_free_count, hand_overs_free_capacity;
    struct tessi_map keep_of; /* task → keeps pool */
    struct keep *keeps;
    size_t keep_count, keep_capacity;
    uint32_t keep_free; /* the first free record + 1 */
    size_t keep_pending; /* that have not arrived */
    uint64_t keep_pending_bytes;
    struct sched_layer **keeping; /* something is to be done for them */
    size_t keeping_count, keeping_capacity;
    struct page_rooms page_rooms;
    struct page_ref *empty_pages; /* pages whose last record was released in this step */
    size_t empty_page_count, empty_page_capacity;
    struct sched_layer **watched; /* wanted and not announced */
    size_t watched_count, watched_capacity;
    struct sched_layer **news; /* of those, perhaps to be announced at the end of the step */
    size_t news_capacity;
    struct moved *moved; /* submissions with progress to tell, in the order in which it began, from `moved_first` on */
    size_t moved_capacity;
    size_t outbox_count;
    struct tessi_trace_record *notes;
    size_t note_capacity;
    struct tessi_sched_action *actions;
    size_t action_capacity;
    void **scratch; /* memory that actions of this step point to */
    size_t scratch_count, scratch_capacity;
    /* --- written by state, step --- */
    struct outbox **outboxes; /* that nobody has, owned */
    size_t outbox_capacity;
    struct worker_list dirty; /* something is to be sent to them */
    size_t news_count;
    size_t action_count;
    size_t note_count;
    /* --- written by state, lineage --- */
    struct sched_layer *named[NAMED_LAYERS]; /* recent answers of tessi_find_named, by id; NULL: none */
    /* --- written by workers --- */
    struct task_lists parked;  /* peers, by id, that want to know where a task goes; how many each has asked for is bounded */
    struct task_lists blocked; /* workers, by index, that are to be looked at when a task goes somewhere */
    struct tessi_map history_by_kind;
    struct history_entry *history;
    size_t history_count, history_capacity;
    uint32_t history_hand;
    struct processor *processors;
    uint32_t processor_count;
    size_t processor_capacity;
    struct loads loads;
    struct expected expected[EXPECT_AHEAD]; /* the last peers that an event is expected of, in turns */
    uint32_t expected_count;
    struct work_list long_layers; /* whose estimate has just become long */
    struct client_location *client_locations;
    size_t client_location_capacity;
    uint64_t tasks_rerun;
    /* --- written by workers, step --- */
    size_t client_location_count;
    uint64_t step_assigned; /* tasks, in this step */
    const struct sched_layer *why_told; /* in this step: why nobody will have its blocks, to the client that reads it */
    /* --- written by workers, balance --- */
    uint32_t *hungry; /* worker indices: something has changed for them */
    size_t hungry_count, hungry_capacity;
    /* --- written by order --- */
    uint64_t backlog_bytes;
    bool demands;               /* somebody has asked for a resource */
    uint64_t demanding_backlog; /* tasks kept for workers that demand one */
    /* --- written by placement --- */
    uint32_t device_workers;    /* alive, with devices that work */
    double device_gflops;       /* nominal, of the first kind that has been here: estimates are for it; 0: not known */
    double device_flops_min, device_bytes_min; /* as its worker has said */
    uint32_t placed; /* where the search for a worker with little to do went on */
    /* --- written by lineage --- */
    struct sched_layer **loose; /* that are needed less than before: see tessi_life_sweep */
    size_t loose_capacity;
    size_t loose_count;
    struct sched_layer **pruning; /* that have tasks of which it is not known yet whether somebody reads them */
    size_t pruning_count, pruning_capacity;
    struct work_list rerun;  /* released tasks that are needed again: see lineage/spread.c */
    struct work_list poison; /* failed tasks whose readers are to be told */
    struct spreading spreading; /* of those, the one at hand */
    struct work_list idle;  /* blocks whose last reader has gone: see lineage/refs.c */
    uint64_t tasks_failed;
    /* --- written by submission --- */
    uint32_t submissions;   /* that have come */
    /* --- written by submission, lineage --- */
    uint64_t layer_bytes;   /* with the next, see tessi_memory_used */
    uint64_t tasks_total;
    /* --- written by recovery --- */
    uint32_t next_receiver; /* where the search for somebody with room goes on */
    size_t leaving_count;   /* workers that are leaving and have not left */
    size_t starving_count;
    uint64_t starving_order; /* the lowest short_order of those that starve */
    int64_t relief_round_ns; /* when all were last to be asked anew */
    int64_t moved_ns;        /* while somebody starves: when something last went on anywhere */
    uint64_t workers_lost, workers_left, blocks_handed;
    /* --- written by balance --- */
    struct tessi_heap resting; /* workers' loads (index * 2 + kind), by the time at which they may steal again */
    int64_t search_ns[2];      /* not before this are victims looked for, of each kind */
    bool cut_short;         /* there were too few of them for what could have been given to the worker at hand */
    uint64_t steals;
    uint64_t steals_refused[TESSI_TRACE_WHY_END];
    /* --- written by step, lineage, balance --- */
    bool more;              /* it ended before all that could be assigned was */
    /* --- written by step, order, placement, lineage, balance --- */
    uint64_t lookups;       /* left to this step: see lookups_per_step */
    /* --- written by step, lineage, recovery, balance --- */
    uint64_t stale_reports;
    /* --- written by step --- */
    uint64_t tasks_done, workers_joined, bytes_moved;
};

#endif
