/* The scheduler's state, private to core/sched: who is there, what was submitted, and one
 * small record for each task that has been touched. */
#ifndef TESSI_SCHED_STATE_H
#define TESSI_SCHED_STATE_H

#include "core/base/assert.h"
#include "core/base/heap.h"
#include "core/base/map.h"
#include "core/sched/sched.h"
#include "core/sched/task_lists.h"

#define NAMED_LAYERS 16u
#define PAGE_TASKS 4u /* one cache line; of deep graphs few tasks of a page are live at once */
#define NO_WORKER UINT32_MAX
#define CLIENT_DROPS 64u
#define REGION_DEPTH_MAX 16 /* how far placement follows one layer to the next before it cuts regions anew */

enum task_state {
    TASK_UNASSIGNED = 0,
    TASK_ASSIGNED = 1, /* given to `owner`, or (TASK_ADOPTING) its copy there is being made the block */
    TASK_HELD = 2,     /* done; `owner` keeps the block */
    TASK_RELEASED = 3, /* done and forgotten, or not needed */
    TASK_FAILED = 4,
    TASK_POISONED = 5, /* a task that it depends on failed */
};

enum { /* flags of a record */
    TASK_STARTED = 1,   /* its worker has said that a step runs */
    TASK_STEALING = 2,  /* its worker has been asked to give it up */
    TASK_ADOPTING = 4,
    TASK_DONE_ONCE = 8, /* has been done before: doing it again is a re-run */
    TASK_BEGUN = 16,    /* was running when a worker died: likewise */
};

struct task_record {
    uint32_t epoch;
    uint32_t owner; /* index into workers; NO_WORKER unless ASSIGNED or HELD */
    uint32_t refs;  /* unfinished tasks that read the block */
    uint8_t state;
    uint8_t flags;
    uint8_t deaths;
    uint8_t page_alive; /* of the first of a page */
};

/* Records come in pages that exist only while some task of the page is alive. A layer knows of each of its pages what
 * it is, or its number among those that exist: in stretches of many pages, of which those that are all alike are shared
 * by all layers. So what nobody has touched yet costs nothing, nor does what is done and forgotten. */
enum page {
    PAGE_PRISTINE = 0,
    PAGE_RELEASED = 1,
    PAGE_UNUSED = 2, /* released, and none of its tasks ever had an owner */
    PAGE_LIVE = 3,   /* the first number; the first record of a page also says how many are not RELEASED */
};

#define STRETCH_PAGES 4096u
#define STRETCH_TASKS ((uint64_t)STRETCH_PAGES * PAGE_TASKS)

struct stretch {
    uint32_t live;              /* pages that exist */
    uint32_t alike[PAGE_LIVE];  /* pages that are each of the others */
    uint32_t pages[]; /* enum page, or more */
};

struct page_rooms { /* of all layers; see pages.c */
    struct stretch *blank[PAGE_LIVE]; /* whose pages are all of that kind, and which nobody writes to: owned */
    uint64_t stretch_bytes; /* of stretches that are not shared */
    struct task_record **rooms; /* of ROOM_PAGES each, side by side, from the start of a cache line */
    void **memory;              /* that they lie in, owned */
    size_t count, capacity, memory_capacity;
    uint32_t free;  /* number of the page that was given back last, which knows the next; 0: none */
    uint32_t used;  /* pages that exist */
    uint32_t begun; /* the first so many have existed */
};

#define ROOM_PAGES 1024u

struct layer_on_worker {
    uint64_t assigned;
    uint64_t backlog;
    bool told;  /* the worker has the layer's description */
    bool reads; /* it may have copies of the layer's blocks */
};

struct sched_layer;

struct consumer {
    struct sched_layer *layer;
    uint32_t input;
};

/* A cut of a grid into one region for each worker: a binary tree of cuts. */
struct region_node {
    uint32_t dim;      /* cut dimension; leaf: unused */
    uint64_t cut;      /* chunks below go left */
    uint32_t left, right; /* nodes; leaf: left == right == its own number */
    uint32_t worker;   /* leaf */
};

enum placement { PLACE_REGIONS, PLACE_WITH_INPUT, PLACE_WITH_CONSUMER, PLACE_PINNED, PLACE_EACH };

/* Where the last of the blocks lies that a task of a stem needs: chunk (c + 1) * times − 1 along one dimension. */
struct order_corner {
    uint32_t dim;   /* of the task's own grid: gives c */
    bool whole;     /* all chunks: c does not matter */
    uint64_t times;
    uint64_t count; /* chunks along the dimension */
};

/* Of a layer that cuts each block of its input into pieces for many readers: most pieces of one along each dimension. */
struct order_split {
    uint64_t most[TESSI_NDIM_MAX];
    uint64_t each; /* their product */
};

#define ORDER_NOBODY UINT32_MAX

/* Of a layer from which the way to the stem is long: where it ends, for the chunks of each dimension by themselves. */
struct order_jump {
    const struct sched_layer *to; /* on the stem */
    bool any;                     /* block 0 is needed by somebody: else nothing is */
    uint32_t least[TESSI_NDIM_MAX]; /* coordinates of what needs block 0 */
    uint32_t dim[TESSI_NDIM_MAX];   /* that follows this one there; TESSI_NDIM_MAX: none */
    uint32_t *place[TESSI_NDIM_MAX]; /* there, of each chunk; NOBODY: none; owned, in one piece with this */
};

struct sched_layer {
    struct tessi_layer *layer; /* owned */
    struct session *session;
    struct sched_layer *inputs[TESSI_INPUTS_MAX];
    size_t input_at[TESSI_INPUTS_MAX]; /* where it stands among the input's consumers */
    uint32_t ninputs; /* as the description says; 0: what it reads has been cut off */
    struct consumer *consumers; /* owned */
    size_t consumer_count, consumer_capacity;
    uint64_t tasks;
    uint64_t bytes;        /* of what is kept of it whatever its tasks do */
    uint64_t reader_tasks; /* of all consumers: more than any of its blocks has readers */
    struct stretch **stretches; /* owned, or `only` when there is one; each owned unless it is blank */
    struct stretch *only;
    struct page_rooms *rooms; /* the scheduler's */
    uint64_t page_count, live_pages, touched_pages; /* all; that exist; that are not pristine any more */
    uint32_t epoch_floor; /* no record of a page made again starts below this epoch */
    bool handle;    /* the client can still name it: it has asked for it, and not released it */
    bool loose;     /* in the list of those that are needed less than before */
    bool wanted;    /* its blocks are computed and held */
    uint32_t grants; /* how often more than once its name was given to the client, who releases it as often */
    /* keep.c: what it was made from is to be forgotten */
    bool detach_asked; /* by its client */
    bool kept;         /* its blocks get second owners, and stay while somebody reads the layer */
    bool detached;     /* it reads nothing any more, and cannot be made again */
    bool keep_listed;  /* in the list of those for which something is to be done */
    uint32_t lineage;  /* layers one after the other that it is made from */
    uint32_t keep_epoch; /* the highest under which somebody else was to have a block */
    uint32_t keep_refused, keep_refusals; /* who has refused last, its index + 1; how often in a row */
    uint64_t keeps;      /* blocks that have their second owner */
    uint64_t keep_next;  /* none below is without one, or without somebody who has been asked */
    int64_t keep_retry_ns;
    bool pruned;    /* so that tasks which nobody has ever needed are let go, the layers around it have been noted too */
    uint32_t pruning_at; /* in the list of those to go on with, + 1; 0: not there */
    uint64_t prune_next; /* tasks before this one have been looked at */
    bool given_up; /* cancelled, and nothing of it is left or will be made */
    bool gone; /* destroyed, but for its description */
    uint64_t pending; /* times that it stands among what is left to later steps: it is not freed before */
    uint64_t held;  /* tasks HELD */
    uint64_t first_done; /* tasks done at least once, or found unnecessary */
    enum tessi_status failure;
    char *failure_text; /* owned */
    uint64_t failure_index;
    int64_t submitted_ns;
    uint32_t submission; /* number within the session */
    /* global order */
    struct sched_layer *order_via; /* its only consumer in its group; NULL: the group's root */
    bool order_stem; /* from the group's root to the widest layer that folds lead to: see order.c */
    struct order_split *order_split; /* the root of a group that has the order of its input's blocks, owned; else NULL */
    struct order_corner *order_corners; /* for each dimension of that layer, owned; NULL: it is that layer, or no stem */
    uint32_t order_input;
    const struct sched_layer *order_at; /* the last on its way to the stem that has the same order of indices */
    uint32_t order_users; /* layers that have this one as order_via: its description outlives it for them */
    uint64_t order_base, order_depth, order_levels, order_end;
    uint32_t order_corner_count;
    uint32_t order_way; /* maps between order_at and the stem, or the next jump */
    struct order_jump *order_jump; /* owned; NULL: the way is short */
    uint32_t order_position; /* within its submission, while that is taken in */
    /* placement */
    enum placement placement;
    uint32_t place_input;              /* WITH_INPUT: its number; WITH_CONSUMER: the consumer's input that we are */
    struct sched_layer *place_consumer;
    uint32_t place_depth;
    struct region_node *regions; /* owned */
    size_t region_count, region_capacity;
    uint32_t *homes; /* EACH: a worker for each task, owned */
    float *ends_ns;  /* EACH: when each would end, while its submission is placed, owned */
    double estimate_ns; /* of one task, on a processor or, if `kind` is 1, at a device */
    uint32_t kind;      /* 1: its tasks are for devices, as far as is known; see kinds.c */
    uint64_t ran[2];    /* tasks that have been reported done by workers with devices: on processors, at devices */
    int64_t estimated_ns; /* when it last changed; 0: never */
    double path_ns;     /* estimated time from its start to the end of the last that waits for it, when submitted */
    struct lane *lane;  /* where its tasks wait */
    uint32_t span_count, span_handle; /* of those in backlogs; the handle of the last one that came */
    struct layer_on_worker *on; /* by worker index, owned */
    size_t on_capacity;
    uint32_t watched_at; /* place in the list of those that are watched + 1; 0: it is not */
    bool news;           /* listed: something has changed that its client may have to be told */
};

struct backlog_span {
    struct sched_layer *layer;
    uint64_t first, count;
    bool again; /* taken from an owner, or lost by one: tasks that have been assigned may be waiting for it */
};

/* Of tasks that wait one by one there is a span and an entry for each, 32 bytes with its place, so both are packed. */
struct kept_span {
    struct sched_layer *layer;
    uint64_t first : 40, count : 23, again : 1;
};

#define SPAN_FIRST_MAX (UINT64_C(1) << 40)
#define SPAN_COUNT_MAX ((UINT64_C(1) << 23) - 1) /* longer ones are kept in parts */

struct backlog_entry {
    uint32_t key_low, key_high; /* of 64 bits: the order of the first task, and BACKLOG_FRESH */
    uint32_t handle;
};

/* Work of one session kept for one worker but not assigned yet: what had an owner before what never had one, each
 * lowest order first. What had an owner reads only what had one, so it never waits for the rest, which may well wait
 * for room or resources that readers of the former hold. */
struct backlog {
    struct backlog_entry *entries; /* a binary heap, owned */
    struct kept_span *spans;       /* by handle, owned */
    uint32_t *places;              /* handle → place in entries + 1, owned; 0: free */
    size_t count;    /* of the entries */
    size_t begun;    /* the first so many handles have been in use */
    size_t capacity; /* of all three */
    uint32_t free;   /* the handle that was given back last + 1, whose span knows the next; 0: none */
};

/* Work of one session that is handed out in the global order: see policy.h. */
struct lane {
    uint64_t rank; /* lower ones are tried first */
    uint32_t kind; /* of its layers: what waits for a device holds up nothing that is for processors */
    struct tessi_resources demand; /* of each of its tasks */
    struct backlog *backlogs; /* by worker index, owned */
    size_t capacity;
    struct backlog orphans;   /* waits for any worker that may run it */
    int64_t starving_since_ns; /* some could join and run it, and none has; −1: not so */
    uint32_t turn; /* last turn of the session in which it was tried */
};

struct submission {
    uint64_t total, done;
    uint64_t told;    /* what PROGRESS said last, */
    int64_t told_ns;  /* and when; 0: never */
    uint32_t request; /* of the client */
    uint32_t watched; /* layers whose progress is told */
    uint32_t serial;  /* of all that have had this place */
    bool moved;       /* listed: there is progress to tell */
    uint32_t layers; /* that are left of it; 0: its place is free */
    uint32_t next;   /* the next free place + 1 */
};

struct session {
    uint32_t id;
    int64_t heard_ns;
    bool closing; /* nothing more is said to it */
    struct tessi_map layers_by_id; /* → position in layers */
    struct sched_layer **layers;   /* owned array, in order of submission, with NULL holes, of which there are fewer than layers */
    size_t layer_count, layer_capacity, layer_holes;
    struct lane **lanes; /* lowest rank first, owned */
    size_t lane_count, lane_capacity;
    uint32_t turn;
    struct submission *submissions;
    size_t submission_count, submission_capacity;
    uint32_t submission_free; /* the first free place + 1; 0: none */
    uint64_t wanted_bytes;
    uint64_t told_tasks; /* done when layers of one kind were last told of their run time */
    uint32_t dropped[CLIENT_DROPS]; /* layers of its data that have gone, and that it has not been told of */
    uint32_t dropped_count;
    uint32_t parked;       /* tasks that it asks for and has not been answered about */
    uint64_t small_blocks; /* of wanted layers: they cost memory beside their data, wherever that is */
    uint64_t solid_bytes; /* of wanted layers whose blocks cannot be generated or read again */
    double solid_weight;  /* of these, bytes times those of the largest block, summed */
    int64_t starving_since_ns; /* has work and no worker is there; −1: not so */
    struct tessi_sched_session_stats stats;
};

struct given { /* 16 bytes, since there is one for each live task where tasks of several layers take turns */
    uint32_t session, layer;
    uint64_t first : 40, count : 24;
};

#define GIVEN_FIRST_MAX (UINT64_C(1) << 40)
#define GIVEN_COUNT_MAX (UINT64_C(1) << 24)
#define WAITS_MAX 4

struct load { /* of a worker's processors, or of its devices: they work side by side */
    uint32_t units;     /* slots, devices; 0: what is for devices is for processors here */
    bool idle;          /* it has been given tasks, and for some time none of them has begun */
    bool resting;       /* no thief for a while: it has found nothing, or has just become idle */
    bool bare;          /* nothing that was given to it is worth asking back, as far as it has reported */
    uint8_t misses;     /* how often it has found nothing, or got nothing */
    double queue_ns;    /* estimated run time of what is assigned */
    double backlog_ns;
    double demanding_ns; /* of backlog_ns, what demands a resource */
    double promised_ns; /* run time of tasks placed in this step by earliest finish, not yet in its backlog */
    double slowness;    /* its run times over the estimates, smoothed; 1: as estimated */
    double pace;        /* the same, smoothed over some seconds: regions last longer than what disturbs it for a moment */
    uint64_t assigned, backlog, demanding_backlog; /* tasks */
    uint64_t asked;   /* tasks that it has been asked to give up and has not answered for */
    double asked_ns;  /* their estimated run time */
    double coming_ns; /* of what it has asked others for */
    uint64_t started; /* tasks that have begun and not ended */
    int64_t take_ns;  /* not before this does it take from others' backlogs while it has one itself */
    uint64_t spare;   /* two cache lines */
};

struct drop_notice {
    uint32_t session, layer;
};

/* What a step has for a worker. Few workers have one at a time, so they pass on the same few. */
struct outbox {
    const struct tessi_layer **layers; /* owned array */
    size_t layer_count, layer_capacity;
    struct tessi_spans assign, where, free, steal, adopt, location, take_over;
    struct tessi_spans unassign; /* FREE of what was, or may have been, assigned earlier in this step */
    struct drop_notice *drops; /* owned */
    size_t drop_count, drop_capacity;
};

/* What every report reads and writes comes first, up to the load of the processors, a few lines of the processor's
 * caches: with thousands of workers they come from memory each time; see expect.c. */
struct worker {
    _Alignas(64) uint32_t id;
    uint32_t index;
    bool alive;
    bool vacant;           /* its place is free for another one */
    bool dirty;
    bool hungry;           /* in the hungry list */
    bool leaving;          /* gets no work any more; see leave.c */
    bool left;             /* while leaving: all is looked after, it only has to go */
    bool left_told;
    bool look_again;       /* in the next step, whatever happens */
    bool load_changed;     /* this and the next: in the lists of those whose matches are to be played again */
    bool load_stale;
    uint32_t slots; /* as info says */
    int64_t heard_ns; /* of attended_ns, like that of a session and all limits of waiting */
    uint64_t assigned, backlog; /* tasks, of both loads */
    struct tessi_sched *sched;
    struct outbox *out; /* NULL: nothing yet in this step */
    /* Assigned tasks, oldest first; checked against the records when they are looked at. */
    struct given *given; /* owned */
    size_t given_count, given_capacity;
    uint32_t given_next; /* where what comes after the last task that began is looked for */
    const void *soon[5]; /* what its next report will need, as like as not: see expect.c */
    uint64_t youngest;  /* highest order given since it last had nothing */
    uint64_t done;
    uint32_t processor, device; /* their kinds: indices into processors */
    uint32_t next_session; /* where its round-robin over sessions stands */
    uint32_t stealing_from; /* worker index; NO_WORKER */
    uint64_t stealing;      /* tasks asked for and not answered */
    /* gauges of its last report */
    uint64_t memory_used_bytes, memory_peak_bytes, spilled_bytes;
    uint64_t fetched_bytes, served_bytes, mapped_bytes, dropped_messages, pulled_bytes;
    uint64_t pulling_ns;
    size_t given_limit;  /* `given` is looked through for finished ones when it has grown to this */
    struct load load[2]; /* processors, devices */
    /* What follows is seldom looked at. */
    double bytes_per_ns; /* at which blocks reach it over the network, smoothed; 0: not measured */
    uint64_t demanding;          /* tasks assigned that demand a resource */
    uint64_t demanding_youngest; /* highest order given to one since there was none */
    uint64_t demanding_backlog;  /* tasks of `backlog` that demand a resource */
    int64_t leave_limit_ns;
    uint64_t handing;        /* blocks of its own that others have been told to take over */
    uint64_t handing_bytes;
    uint64_t promised_bytes; /* blocks of others that it has been told to take over */
    uint64_t refused_bytes;  /* it had no room for a block of so many; larger ones are not offered; 0: none refused */
    uint64_t refused_first_bytes; /* likewise for the first of the tasks that starve, for which it would do more */
    uint64_t refused_used;   /* the least that it had in use when it refused one lately; 0: it has not */
    bool starving;           /* its oldest task waits for room, and nothing there will make any: see relief.c */
    bool busy;               /* when it last reported, something was under way there that might make room */
    uint32_t parked;         /* tasks that it asks for and has not been answered about */
    uint64_t short_bytes, short_order; /* what that task lacks, and the task */
    int64_t short_ns;        /* since then */
    struct tessi_task short_task;
    struct tessi_spans shed; /* its blocks without which it would have that, owned */
    char *spill_error;       /* why it writes no spill files, owned; NULL: it can, or need not */
    struct tessi_sched_leave_counts leave;
    uint32_t waits_count;
    uint64_t stole, missed;  /* tasks that were asked for with those of `stealing`, and have been answered for */
    struct tessi_map_key waits[WAITS_MAX]; /* tasks whose assignment its next ones wait for: see blocked.c */
    struct tessi_worker_info info;
    struct tessi_resources resources;
    uint64_t resources_used[TESSI_RESOURCES_MAX]; /* demanded by what is assigned */
};

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

struct task_ref {
    struct sched_layer *layer;
    uint64_t index;
};

struct work_list { /* a stack of tasks for the walks over the graph */
    struct task_ref *items;
    size_t count, capacity;
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
    struct tessi_sched_config config;
    int64_t now_ns;
    int64_t attended_ns; /* as now_ns, without the time for which nobody was here: what others are judged by */
    int64_t wake_ns;     /* asked for with the last step */
    uint64_t order_next;
    char family[TESSI_NAME_MAX];
    struct worker **workers; /* by index; that of one who has gone is given to a later one */
    struct worker_list vacant; /* such places */
    struct worker_list joined; /* those that are alive, in the order in which they came */
    void **worker_rooms;     /* where they lie side by side, owned */
    size_t worker_room_count, worker_room_capacity;
    size_t worker_count, worker_capacity, alive_count;
    struct tessi_map worker_by_id;
    struct session **sessions; /* owned */
    size_t session_count, session_capacity;
    struct tessi_map session_by_id;
    struct task_lists copies;  /* workers, by index, that hold a block besides its owner */
    struct task_lists parked;  /* peers, by id, that want to know where a task goes; how many each has asked for is bounded */
    struct task_lists blocked; /* workers, by index, that are to be looked at when a task goes somewhere */
    struct tessi_map hand_over_of; /* task → hand_overs pool */
    struct hand_over *hand_overs;
    size_t hand_over_count, hand_over_capacity;
    uint32_t *hand_overs_free;
    size_t hand_overs_free_count, hand_overs_free_capacity;
    uint32_t next_receiver; /* where the search for somebody with room goes on */
    size_t leaving_count;   /* workers that are leaving and have not left */
    size_t starving_count;
    uint64_t starving_order; /* the lowest short_order of those that starve */
    int64_t relief_round_ns; /* when all were last to be asked anew */
    bool relief_due;         /* somebody may have room for their blocks by now */
    int64_t moved_ns;        /* while somebody starves: when something last went on anywhere */
    struct tessi_map keep_of; /* task → keeps pool */
    struct keep *keeps;
    size_t keep_count, keep_capacity;
    uint32_t keep_free; /* the first free record + 1 */
    size_t keep_pending; /* that have not arrived */
    uint64_t keep_pending_bytes;
    struct sched_layer **keeping; /* something is to be done for them */
    size_t keeping_count, keeping_capacity;
    struct tessi_map history_by_kind;
    struct history_entry *history;
    size_t history_count, history_capacity;
    uint32_t history_hand;
    struct processor *processors;
    uint32_t processor_count;
    size_t processor_capacity;
    uint32_t *hungry; /* worker indices: something has changed for them */
    size_t hungry_count, hungry_capacity;
    struct worker_list dirty; /* something is to be sent to them */
    struct outbox **outboxes; /* that nobody has, owned */
    size_t outbox_count, outbox_capacity;
    struct loads loads;
    struct expected expected[EXPECT_AHEAD]; /* the last peers that an event is expected of, in turns */
    uint32_t expected_count;
    struct tessi_heap resting; /* workers' loads (index * 2 + kind), by the time at which they may steal again */
    int64_t search_ns[2];      /* not before this are victims looked for, of each kind */
    struct work_list idle;  /* blocks whose last reader has gone: see demand.c */
    struct work_list rerun;  /* released tasks that are needed again: see spread.c */
    struct work_list poison; /* failed tasks whose readers are to be told */
    struct spreading spreading; /* of those, the one at hand */
    struct work_list long_layers; /* whose estimate has just become long */
    struct page_rooms page_rooms;
    struct page_ref *empty_pages; /* pages whose last record was released in this step */
    size_t empty_page_count, empty_page_capacity;
    struct sched_layer **watched; /* wanted and not announced */
    size_t watched_count, watched_capacity;
    struct sched_layer **news; /* of those, perhaps to be announced at the end of the step */
    size_t news_count, news_capacity;
    struct moved *moved; /* submissions with progress to tell, in the order in which it began, from `moved_first` on */
    size_t moved_first, moved_count, moved_capacity;
    int64_t next_check_ns;
    uint64_t step_assigned; /* tasks, in this step */
    const struct sched_layer *why_told; /* in this step: why nobody will have its blocks, to the client that reads it */
    uint32_t submissions;   /* that have come */
    uint64_t layer_bytes, backlog_bytes; /* see tessi_admit_memory_used */
    uint64_t lookups;       /* left to this step: see lookups_per_step */
    bool cut_short;         /* there were too few of them for what could have been given to the worker at hand */
    bool more;              /* it ended before all that could be assigned was */
    /* output of the step under way */
    struct tessi_trace_record *notes;
    size_t note_count, note_capacity;
    struct tessi_sched_action *actions;
    size_t action_count, action_capacity;
    struct client_location *client_locations;
    size_t client_location_count, client_location_capacity;
    void **scratch; /* memory that actions of this step point to */
    size_t scratch_count, scratch_capacity;
    struct sched_layer *named[NAMED_LAYERS]; /* recent answers of tessi_find_named, by id; NULL: none */
    struct sched_layer **loose;              /* that are needed less than before: see tessi_life_sweep */
    size_t loose_count, loose_capacity;
    struct sched_layer **pruning; /* that have tasks of which it is not known yet whether somebody reads them */
    size_t pruning_count, pruning_capacity;
    /* totals */
    uint64_t tasks_total, tasks_done, tasks_rerun, tasks_failed, steals, workers_joined, workers_lost, stale_reports;
    uint64_t bytes_moved, workers_left, blocks_handed;
    bool demands;               /* somebody has asked for a resource */
    uint32_t device_workers;    /* alive, with devices that work */
    double device_gflops;       /* nominal, of the first kind that has been here: estimates are for it; 0: not known */
    double device_flops_min, device_bytes_min; /* as its worker has said */
    uint64_t demanding_backlog; /* tasks kept for workers that demand one */
    uint32_t placed; /* where the search for a worker with little to do went on */
    uint64_t steals_refused[TESSI_TRACE_WHY_END];
};

/* Alive, and not about to leave: may be given work and blocks. */
static inline bool stays(const struct worker *worker)
{
    return worker->alive && !worker->leaving;
}

/* Which of the worker's loads what waits in the lane adds to. */
static inline uint32_t kind_at(const struct worker *worker, const struct lane *lane)
{
    return lane->kind > 0 && worker->load[1].units > 0 ? 1 : 0;
}

/* sched.c */
void tessi_out_note(struct tessi_sched *sched, struct tessi_trace_record record); /* its time is filled in */
struct tessi_sched_action *tessi_out_emit(struct tessi_sched *sched, enum tessi_sched_action_kind kind, uint32_t peer);
void *tessi_out_memory(struct tessi_sched *sched, size_t size);          /* zeroed; lives until the next step */
const char *tessi_out_text(struct tessi_sched *sched, const char *text); /* a copy that lives as long */
#define NO_WORKERS_TEXT "no worker is there: start one with `tessera worker ADDRESS`"
bool tessi_locate_starves(struct tessi_sched *sched,
                          struct session *session); /* no worker is there, for so long that it is told */
struct worker *tessi_find_worker(struct tessi_sched *sched, uint32_t id); /* alive only; NULL */
struct session *tessi_find_session(struct tessi_sched *sched, uint32_t id);
struct sched_layer *tessi_find_layer(struct session *session, uint32_t id);
struct sched_layer *tessi_find_named(struct tessi_sched *sched, uint32_t session, uint32_t id); /* NULL */
void tessi_worker_list_push(struct worker_list *list, uint32_t index);
void tessi_out_mark_dirty(struct worker *worker);
struct outbox *tessi_out_box(struct worker *worker); /* to put something into; the worker is dirty from then on */
static inline size_t where_count(const struct worker *worker)
{
    return worker->out != NULL ? worker->out->where.count : 0;
}

/* pages.c */
void tessi_pages_init(struct page_rooms *rooms);
uint32_t tessi_pages_take(struct page_rooms *rooms); /* its records are zeroed */
void tessi_pages_give(struct page_rooms *rooms, uint32_t number);
void tessi_pages_fini(struct page_rooms *rooms);
uint64_t tessi_pages_bytes(const struct page_rooms *rooms);
static inline struct task_record *page_at(const struct page_rooms *rooms, uint32_t number)
{
    number -= PAGE_LIVE;
    return &rooms->rooms[number / ROOM_PAGES][number % ROOM_PAGES * PAGE_TASKS];
}

/* table.c: records. These are looked up several times for each task. */
void tessi_table_init(struct sched_layer *layer);             /* all pristine; its tasks and rooms are known */
void tessi_table_fini(struct sched_layer *layer);             /* with all that is left of its pages */
void tessi_table_forget_untouched(struct sched_layer *layer); /* what is pristine is UNUSED */
uint64_t tessi_table_bytes(uint64_t tasks);                   /* before any of them is touched */
void tessi_table_open_page(struct sched_layer *layer, uint64_t number);

static inline uint32_t page_of(const struct sched_layer *layer, uint64_t index)
{
    return layer->stretches[index / STRETCH_TASKS]->pages[index / PAGE_TASKS % STRETCH_PAGES];
}

/* The first task from this one on whose page is of one of these kinds (a bit for each; PAGE_LIVE: it exists);
 * layer->tasks: there is none. Walks by these pass over what is all alike at once. */
uint64_t tessi_table_next(const struct sched_layer *layer, uint64_t index, unsigned kinds);
#define PAGES_TOUCHED (1u << PAGE_RELEASED | 1u << PAGE_UNUSED | 1u << PAGE_LIVE)
static inline uint64_t next_live(const struct sched_layer *layer, uint64_t index)
{
    return layer->live_pages == 0 ? layer->tasks : tessi_table_next(layer, index, 1u << PAGE_LIVE);
}

static inline struct task_record *record(struct sched_layer *layer, uint64_t index) /* made when it is not there */
{
    TESS_ASSERT(index < layer->tasks);
    uint32_t page = page_of(layer, index);
    if (page < PAGE_LIVE) {
        tessi_table_open_page(layer, index / PAGE_TASKS);
        page = page_of(layer, index);
    }
    return page_at(layer->rooms, page) + index % PAGE_TASKS;
}

static inline void touch(struct sched_layer *layer, uint64_t index) /* it has a record from now on */
{
    (void)record(layer, index);
}

static inline struct task_record *record_peek(const struct sched_layer *layer, uint64_t index) /* NULL: not LIVE */
{
    TESS_ASSERT(index < layer->tasks);
    uint32_t page = page_of(layer, index);
    return page >= PAGE_LIVE ? page_at(layer->rooms, page) + index % PAGE_TASKS : NULL;
}

uint64_t tessi_table_readers(const struct sched_layer *layer,
                             uint64_t index); /* tasks that read the block, done or not */
enum task_state tessi_table_state(const struct sched_layer *layer, uint64_t index);
void tessi_table_set_released(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                              struct task_record *task);
void tessi_table_set_needed(uint64_t index, struct task_record *task); /* RELEASED → UNASSIGNED */
void tessi_table_page_may_close(struct tessi_sched *sched, struct sched_layer *layer,
                                uint64_t index); /* none of it may be alive */
void tessi_table_collapse_pages(struct tessi_sched *sched);
void tessi_table_end_pages(struct tessi_sched *sched); /* the same at the end of a step, when no page opens any more */
struct layer_on_worker *tessi_table_on_worker(struct sched_layer *layer, uint32_t worker);
static inline struct layer_on_worker *on_worker(struct sched_layer *layer, uint32_t worker)
{
    return worker < layer->on_capacity ? &layer->on[worker] : tessi_table_on_worker(layer, worker);
}

/* admit.c */
enum tessi_status tessi_admit(struct tessi_sched *sched, struct session *session, const struct tessi_sched_event *event,
                              struct tessi_error *error);               /* what a client submits can be taken in */
uint64_t tessi_admit_needs(const struct tessi_layer *layer, bool held); /* bytes; `held`: of all its blocks at once */
uint64_t tessi_admit_memory_used(const struct tessi_sched *sched);

/* layers.c: submission and the life of layers */
void tessi_submit(struct tessi_sched *sched, const struct tessi_sched_event *event);
void tessi_life_release(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count);
void tessi_life_cancel(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count);
/* Its blocks are not wanted any more, since this has happened. */
void tessi_life_abort(struct tessi_sched *sched, struct sched_layer *layer, enum tessi_status status, const char *text);
void tessi_news_watch(struct tessi_sched *sched, struct sched_layer *layer); /* its client is told what becomes of it */
void tessi_news_unwatch(struct tessi_sched *sched, struct sched_layer *layer);
void tessi_news_note(struct tessi_sched *sched, struct sched_layer *layer); /* it may be complete, or have failed */
void tessi_news_count_done(struct tessi_sched *sched, struct sched_layer *layer); /* a task more, for the progress */
void tessi_out_drop_layer(struct tessi_sched *sched,
                          struct sched_layer *layer); /* they forget it; it may be told again */
void tessi_life_sweep(struct tessi_sched *sched);
void tessi_life_close_session(struct tessi_sched *sched, struct session *session);
void tessi_life_cut_inputs(struct tessi_sched *sched,
                           struct sched_layer *layer); /* none of its tasks will read anything */
void tessi_life_end_pending(
    struct sched_layer *layer); /* it stands once less among what is left to later steps; it may be freed */
void tessi_life_unwant(struct tessi_sched *sched, struct sched_layer *layer);
void tessi_life_note_loose(struct tessi_sched *sched, struct sched_layer *layer); /* it is needed less than before */

uint64_t tessi_fit_largest_task(const struct tessi_layer *layer); /* index of one whose block is as large as any */

/* fit.c: results and the tasks that make them in whole blocks */
void tessi_fit_add(struct session *session, const struct tessi_layer *layer); /* it is wanted from now on */
void tessi_fit_remove(struct session *session,
                      const struct tessi_layer *layer); /* it is not any more, nor are its bytes */
enum tessi_status tessi_fit_check_small_blocks(const struct tessi_sched *sched, const struct session *session,
                                               const struct tessi_sched_event *event, const bool *wanted, /* by layer */
                                               struct tessi_error *error);
enum tessi_status tessi_fit_check_places(const struct tessi_sched *sched, const struct session *session,
                                         const struct tessi_sched_event *event, struct tessi_error *error);

/* regions.c */
void tessi_regions_make(struct tessi_sched *sched, struct sched_layer *layer);
/* The worker of each task is that of what it reads in the middle of the input, whose regions are those of `from`. False:
 * that cannot be told so, or would take too long to tell. */
bool tessi_regions_follow(struct tessi_sched *sched, struct sched_layer *layer, uint32_t number,
                          const struct sched_layer *from);
uint32_t tessi_regions_of(const struct sched_layer *layer, uint64_t index);  /* NO_WORKER: it has no regions */
uint64_t tessi_regions_run(const struct sched_layer *layer, uint64_t index); /* tasks from it on in the same region */
uint64_t tessi_regions_runs(const struct sched_layer *layer);                /* of all regions together */

/* order.c, place.c */
void tessi_order_layers(struct tessi_sched *sched, struct sched_layer **layers, size_t count);
uint64_t tessi_order_of(const struct sched_layer *layer, uint64_t index);
/* What a layer of pieces cuts and one that joins them exchange at a time surely fits into the workers' memory. */
bool tessi_order_exchange_fits(const struct tessi_sched *sched, const struct tessi_layer *cuts,
                               const struct tessi_layer *joins);
bool tessi_order_reads_alike(const struct sched_layer *layer,
                             uint32_t input); /* task i reads block i and no other of that input */
void tessi_place_layers(struct tessi_sched *sched, struct sched_layer **layers, size_t count);
void tessi_place_task(struct tessi_sched *sched, struct sched_layer *layer,
                      uint64_t index);                                                 /* where it finishes earliest */
uint32_t tessi_place_least_loaded(struct tessi_sched *sched, const struct lane *lane); /* NO_WORKER: nobody can */
/* Its tasks, along one dimension, read each other, and are short as far as is known: whoever took the last of them
 * would wait for the rest. */
bool tessi_place_begins_together(const struct sched_layer *layer);
/* Those that have turned out to take long: find each of their tasks its place. */
void tessi_place_scatter_long(struct tessi_sched *sched);
uint32_t tessi_place_home(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* NO_WORKER: nobody */
bool tessi_place_is_pinned(const struct sched_layer *layer); /* its tasks stay where they were placed */

/* backlog.c */
void tessi_backlog_init(struct backlog *backlog);
void tessi_backlog_fini(struct backlog *backlog);
uint64_t tessi_backlog_bytes(const struct backlog *backlog);
void tessi_backlog_push(struct tessi_sched *sched, uint32_t worker, struct sched_layer *layer, uint64_t first,
                        uint64_t count); /* tasks that nobody has had yet; NO_WORKER: orphans */
void tessi_backlog_put(struct tessi_sched *sched, uint32_t worker, struct backlog_span span);
#define BACKLOG_FRESH (UINT64_C(1) << 63) /* in the entries' keys, beside the order: nobody has had it yet */
static inline uint64_t backlog_key(const struct backlog_entry *entry)
{
    return (uint64_t)entry->key_high << 32 | entry->key_low;
}
static inline const struct backlog_entry *backlog_first(const struct backlog *backlog) /* NULL when empty */
{
    return backlog->count > 0 ? &backlog->entries[0] : NULL;
}
static inline struct backlog_span backlog_span(const struct backlog *backlog, uint32_t handle)
{
    const struct kept_span *span = &backlog->spans[handle];
    return (struct backlog_span){span->layer, span->first, span->count, span->again};
}
struct backlog *tessi_backlog_made(struct lane *lane, uint32_t worker);
static inline struct backlog *backlog_of(struct lane *lane, uint32_t worker)
{
    return worker < lane->capacity ? &lane->backlogs[worker] : tessi_backlog_made(lane, worker);
}
void tessi_backlog_purge_session(struct tessi_sched *sched, struct session *session); /* it closes */
void tessi_backlog_purge(struct tessi_sched *sched, const struct sched_layer *layer);
void tessi_backlog_move(struct tessi_sched *sched, struct sched_layer *layer, struct lane *lane);
void tessi_place_hand_on(struct tessi_sched *sched, struct lane *lane, uint32_t worker); /* the worker is gone */
void tessi_place_orphans(struct tessi_sched *sched);
/* The first `count` tasks of a span are gone from it; `order`: of the next one, if any. */
void tessi_backlog_advance(struct tessi_sched *sched, struct backlog *backlog, uint32_t worker, uint32_t handle,
                           uint64_t count, uint64_t order);
struct backlog_span tessi_backlog_take(struct tessi_sched *sched, struct backlog *backlog, uint32_t worker,
                                       uint32_t handle);

/* assign.c */
void tessi_hungry_mark(struct tessi_sched *sched, struct worker *worker);
void tessi_hungry_room_made(struct tessi_sched *sched, struct worker *worker); /* hungry if there is enough of it */
double tessi_steal_from_lane(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct lane *lane,
                             double wanted_ns);
/* Nanoseconds until these have done all that is kept for it. */
double tessi_load_of(const struct worker *worker, uint32_t kind);
void tessi_feed_workers(struct tessi_sched *sched);
void tessi_out_tell_layer(struct worker *worker, struct sched_layer *layer); /* unless it has been told */
void tessi_assign_undo(struct tessi_sched *sched, struct sched_layer *layer, struct task_record *task);

/* expect.c: the worker's next report will need the task's record. */
void tessi_expect_task(struct worker *worker, const struct sched_layer *layer, uint64_t index,
                       const struct task_record *task);

/* loads.c */
void tessi_load_changed(struct tessi_sched *sched,
                        struct worker *worker); /* or what it may run, or whether it is there */
/* NULL: nobody has work to give. */
struct worker *tessi_load_most(struct tessi_sched *sched, uint32_t kind, bool backlog_only);
struct worker *tessi_load_driest(struct tessi_sched *sched, uint32_t kind); /* NULL: nobody runs dry */
void tessi_load_verify(const struct tessi_sched *sched); /* asserts that every change has been told */
void tessi_load_fini(struct loads *loads);
/* steal.c: it could do with more. */
bool tessi_load_runs_dry(const struct tessi_sched *sched, const struct worker *worker, uint32_t kind);

/* surplus.c */
bool tessi_ask_may(const struct sched_layer *layer, const struct worker *victim, uint64_t index);
void tessi_ask_mark(struct worker *worker, const struct sched_layer *layer,
                    struct task_record *task); /* to give it up */
void tessi_ask_end(struct worker *worker, const struct sched_layer *layer,
                   struct task_record *task); /* if it was asked */
bool tessi_ask_fits(const struct worker *thief, const struct worker *victim, const struct sched_layer *layer,
                    uint64_t index);
/* Its run time; 0: it has been asked for before. */
double tessi_ask_back(struct tessi_sched *sched, struct worker *thief, struct worker *victim, struct task_ref ref);
/* It could begin, were its inputs not on the way. */
bool tessi_surplus_only_fetches(struct tessi_sched *sched, struct worker *worker, uint32_t kind);
/* Ask the victim for tasks worth `wanted_ns` that the thief can begin; false: it has none to spare. */
bool tessi_surplus_ask(struct tessi_sched *sched, struct worker *thief, struct worker *victim, uint32_t kind,
                       double wanted_ns);

/* blocked.c */
bool tessi_blocked_wait(struct tessi_sched *sched, struct worker *worker, const struct sched_layer *layer,
                        uint64_t index);
void tessi_blocked_end_waits(struct tessi_sched *sched, struct worker *worker);
void tessi_blocked_wake(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index);

/* resources.c: what workers have and tasks demand */
bool tessi_supply_can_run(const struct worker *worker,
                          const struct tessi_resources *demand); /* it is there and has all of it */
bool tessi_supply_fits(const struct worker *worker, const struct tessi_resources *demand); /* so much is free */
/* Enough of what the layer's tasks demand is free. A task that was taken from its owner (`again`) may pass younger ones
 * that hold it: they may be waiting for it, and the worker lets the older one go first. */
bool tessi_supply_is_free(const struct worker *worker, const struct sched_layer *layer, bool again, uint64_t order);
static inline bool resources_free(const struct worker *worker, const struct sched_layer *layer, bool again,
                                  uint64_t order)
{
    return layer->lane->demand.count == 0 || tessi_supply_is_free(worker, layer, again, order);
}
void tessi_supply_take(struct worker *worker, const struct sched_layer *layer, uint64_t order);
void tessi_supply_give(struct worker *worker, const struct sched_layer *layer);
void tessi_steal_demanding(struct tessi_sched *sched, struct worker *thief);
void tessi_unmet_check(struct tessi_sched *sched); /* fail what has waited too long for a worker that may run it */

/* transfer.c: what moving bytes takes */
void tessi_network_measure(struct worker *worker, const struct tessi_report *report);
double tessi_network_ns(const struct tessi_sched *sched, uint32_t from, uint32_t to, uint64_t bytes);

/* moving.c: what moving a task takes */
#define LOOKS 32 /* tasks, or runs of them, that are compared by that */
struct company { /* tasks of the same layer that go along */
    uint64_t tasks[LOOKS];
    uint32_t count;
};
/* What the task reads and is not at the thief yet, and what it makes. */
uint64_t tessi_moving_bytes(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                            const struct worker *thief, const struct company *along);
double tessi_moving_ns(const struct tessi_sched *sched, const struct worker *thief, const struct worker *victim,
                       double bytes);
/* A generator, a file or a client: all that comes later expects its blocks where they were to be. */
static inline bool is_source(const struct sched_layer *layer)
{
    return layer->layer->ninputs == 0;
}
bool tessi_moving_matters(const struct sched_layer *layer,
                          uint64_t index); /* beside the task's run time, at the best */

/* abandon.c: a layer that nobody names or reads goes */
#define FREED_AT_ONCE 4096 /* of many tasks: what goes needs a place in a list, and its page, for a moment */
void tessi_abandon_reading(struct tessi_sched *sched,
                           struct sched_layer *layer); /* its unfinished tasks let go of their inputs */
void tessi_abandon_tasks(struct tessi_sched *sched, struct sched_layer *layer); /* after that */
/* The same for each layer of a session that ends, without any count of readers, so that what is untouched costs nothing. */
void tessi_abandon_uncounted(struct tessi_sched *sched, struct sched_layer *layer);

/* demand.c: references, release, re-runs, failures */
void tessi_refs_drop(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_refs_drop_inputs(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_refs_settle(struct tessi_sched *sched); /* act on blocks that nobody needs any more */
void tessi_refs_consider_idle(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_refs_run_again(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_out_free(struct tessi_sched *sched, uint32_t worker, struct sched_layer *layer,
                    uint64_t index); /* FREE to it */
void tessi_refs_require_inputs(struct tessi_sched *sched, struct sched_layer *layer,
                               uint64_t index); /* adds refs, re-runs */
void tessi_spread_fail_task(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                            enum tessi_status status, const char *text);
void tessi_work_push(struct work_list *list, struct sched_layer *layer, uint64_t index);

/* spread.c: re-runs and failures go from layer to layer, over several steps where there are very many */
void tessi_spread_need(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* it is RELEASED */
void tessi_spread_failure(struct tessi_sched *sched, struct sched_layer *layer,
                          uint64_t index);                                    /* FAILED or POISONED */
bool tessi_spread_is_needed(const struct sched_layer *layer, uint64_t index); /* it is RELEASED, and that will change */
void tessi_spread_finish(struct tessi_sched *sched);                          /* as much as the step has time for */
void tessi_spread_anew(struct tessi_sched *sched,
                       const struct sched_layer *layer); /* its consumers have changed places */
void tessi_spread_verify(const struct tessi_sched *sched);
bool tessi_spread_verify_listed(const struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index);
void tessi_spread_fini(struct tessi_sched *sched); /* when no session is left */

/* report.c, loss.c, steal.c, locate.c, copies.c, history.c */
void tessi_take_report(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report);
void tessi_loss_of_worker(struct tessi_sched *sched, struct worker *worker);
void tessi_loss_of_block(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_steal_balance(struct tessi_sched *sched);
void tessi_steal_watch_idle(struct tessi_sched *sched,
                            struct worker *worker); /* nothing runs there: it may be waiting for others */
void tessi_ask_note(struct tessi_sched *sched, const struct worker *thief, const struct worker *victim,
                    const struct sched_layer *layer, uint64_t index);
void tessi_steal_take_answer(struct tessi_sched *sched, struct worker *victim, const struct tessi_report *report);
void tessi_locate(struct tessi_sched *sched, uint32_t peer, const struct tessi_span *spans, size_t count);
void tessi_parked_answer(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t owner,
                         uint32_t epoch);
void tessi_locate_starve_reads(
    struct tessi_sched *sched); /* of blocks that are held and were lost with the last worker */
void tessi_parked_forget_peer(struct tessi_sched *sched, uint32_t peer);
void tessi_parked_verify(const struct tessi_sched *sched);
void tessi_copies_add(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker);
void tessi_copies_remove(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker);
bool tessi_copies_has(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t worker);
uint32_t tessi_copies_pick(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* NO_WORKER: none */
void tessi_copies_free(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index); /* FREE to each holder */
void tessi_copies_forget_worker(struct tessi_sched *sched, uint32_t worker);
uint32_t tessi_history_processor(struct tessi_sched *sched, const char *name); /* found or made */
void tessi_history_record(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t processor,
                          double mean_ns);

/* kinds.c: processors and devices */
#define HISTORY_DEVICE "device " /* before its name, among the kinds of processor */
uint32_t tessi_kinds_guess(const struct tessi_sched *sched, const struct tessi_layer *layer); /* of a new layer */
void tessi_kinds_note_ran(struct tessi_sched *sched, const struct worker *worker, struct sched_layer *layer,
                          uint64_t tasks, bool device);
void tessi_kinds_join(struct tessi_sched *sched, struct worker *worker); /* its loads, as its info says */
void tessi_kinds_lose_devices(struct tessi_sched *sched, struct worker *worker, uint64_t lost); /* so many in all */
void tessi_kinds_leave(struct tessi_sched *sched, struct worker *worker);

/* keep.c: layers whose past is forgotten, since each of their blocks has two owners */
void tessi_keep_consider(struct tessi_sched *sched, struct sched_layer *layer); /* wanted, and complete now */
void tessi_keep_ask_detach(struct tessi_sched *sched, struct session *session, const uint32_t *ids, size_t count);
void tessi_keep_continue(struct tessi_sched *sched); /* before layers are swept */
void tessi_keep_due(struct tessi_sched *sched,
                    struct sched_layer *layer); /* something may be missing there, if it is kept */
void tessi_keep_end(struct tessi_sched *sched, struct sched_layer *layer); /* no second owners any more */
/* The block's owner is gone, or goes: the second one owns it now. False: there is none. */
bool tessi_keep_takes_over(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* Somebody has been asked to own it too, and has not said so: he is asked to be its only owner, in the same words. */
bool tessi_keep_hand_on(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t *to,
                        uint32_t *epoch);
void tessi_keep_forget(struct tessi_sched *sched, struct sched_layer *layer,
                       uint64_t index);                                          /* the block is not HELD, or soon */
void tessi_keep_make_room(struct tessi_sched *sched);                            /* somebody starves */
void tessi_keep_forget_worker(struct tessi_sched *sched, struct worker *worker); /* lost, or about to leave */
/* A report of a block taken over, or not, or lost by its second owner; false: it is not about that. */
bool tessi_keep_take_second(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                            const struct tessi_span *span, bool adopted);
/* It has been asked to own the block too, under that epoch. */
bool tessi_keep_at(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index, uint32_t worker,
                   uint32_t *epoch);
void tessi_keep_lose_for_good(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
void tessi_keep_verify(const struct tessi_sched *sched);
void tessi_keep_verify_layer(const struct tessi_sched *sched, const struct sched_layer *layer);

/* receiver.c: a worker that is to own a block which others have: one with a copy, else the one with most room of a few, in
 * turns. NO_WORKER: none may. */
typedef bool may_receive_fn(const struct tessi_sched *sched, const struct worker *worker, const void *what);
uint32_t tessi_receiver_choose(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                               may_receive_fn *may, const void *what);

/* leave.c: workers that leave in good order */
/* The block is being handed over to that worker, or (NO_WORKER) to anybody. */
bool tessi_hand_over_is_to(struct tessi_sched *sched, const struct sched_layer *layer, uint64_t index, uint32_t worker);
void tessi_leave_begin(struct tessi_sched *sched, struct worker *worker, int64_t wait_ns);
void tessi_leave_continue(struct tessi_sched *sched); /* those that have nothing left, or no time */
int64_t tessi_leave_next_ns(
    const struct tessi_sched *sched); /* when tessi_leave_continue has something to do; INT64_MAX: never */
/* A HELD block, if its owner leaves. */
void tessi_hand_over(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* The block is not HELD by who hands it over any more, or is about not to be. */
void tessi_hand_over_forget(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index);
/* A report of a block taken over, or not; false: it is not about that. */
bool tessi_hand_over_take(struct tessi_sched *sched, struct worker *worker, struct sched_layer *layer, uint64_t index,
                          const struct tessi_span *span, bool adopted);
void tessi_hand_over_elsewhere(struct tessi_sched *sched, struct worker *worker); /* what `worker` was to take over */
/* A HELD block, for the task of this order, which has no room where the block is; nothing if nobody may take it. */
void tessi_hand_over_for(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint64_t order);

/* relief.c: workers that are full */
void tessi_relief_take_starving(struct tessi_sched *sched, struct worker *worker, const struct tessi_report *report);
void tessi_relief_end_starving(struct tessi_sched *sched, struct worker *worker);
void tessi_relief_give(struct tessi_sched *sched);
void tessi_relief_again(
    struct tessi_sched *sched); /* now and then: who had no room may have some, or nobody ever will */
/* Of a task on a processor, or (kind 1) at a device. */
double tessi_history_estimate(struct tessi_sched *sched, const struct tessi_layer *layer, uint64_t index,
                              uint32_t kind);
/* How far the run times of the layer's tasks lie apart, those in the middle, as a part of their median; 1: not
 * known. */
double tessi_history_scatter(const struct tessi_sched *sched, const struct sched_layer *layer);
/* Such tasks have run there. */
bool tessi_history_knows(const struct tessi_sched *sched, const struct tessi_layer *layer, uint32_t kind);
void tessi_history_set_estimate(struct tessi_sched *sched, struct sched_layer *layer,
                                double estimate_ns);                         /* and queues with it */
double tessi_history_guess(const struct tessi_layer *layer, uint64_t index); /* from flops and bytes alone */

#endif
