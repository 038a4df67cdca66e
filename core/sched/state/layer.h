/* A layer of a submission, as the scheduler knows it. */
#ifndef TESSI_SCHED_STATE_LAYER_H
#define TESSI_SCHED_STATE_LAYER_H

#include "core/graph/layer.h"
#include "core/sched/state/task.h"

struct layer_on_worker {
    /* --- written by workers --- */
    uint64_t assigned;
    /* --- written by order --- */
    uint64_t backlog;
    /* --- written by state --- */
    bool told; /* the worker has the layer's description */
    /* --- written by state, workers --- */
    bool reads; /* it may have copies of the layer's blocks */
};

struct consumer {
    struct sched_layer *layer;
    uint32_t input;
};

/* A cut of a grid into one region for each worker: a binary tree of cuts. */
struct region_node {
    uint32_t dim;         /* cut dimension; leaf: unused */
    uint64_t cut;         /* chunks below go left */
    uint32_t left, right; /* nodes; leaf: left == right == its own number */
    uint32_t worker;      /* leaf */
};

enum placement { PLACE_REGIONS, PLACE_WITH_INPUT, PLACE_WITH_CONSUMER, PLACE_PINNED, PLACE_EACH };

/* Where the last of the blocks lies that a task of a stem needs: chunk (c + 1) * times − 1 along one dimension. */
struct order_corner {
    uint32_t dim; /* of the task's own grid: gives c */
    bool whole;   /* all chunks: c does not matter */
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
    const struct sched_layer *to;    /* on the stem */
    bool any;                        /* block 0 is needed by somebody: else nothing is */
    uint32_t least[TESSI_NDIM_MAX];  /* coordinates of what needs block 0 */
    uint32_t dim[TESSI_NDIM_MAX];    /* that follows this one there; TESSI_NDIM_MAX: none */
    uint32_t *place[TESSI_NDIM_MAX]; /* there, of each chunk; NOBODY: none; owned, in one piece with this */
};

struct sched_layer {
    /* --- written by submission --- */
    struct tessi_layer *layer; /* owned */
    struct session *session;
    struct sched_layer *inputs[TESSI_INPUTS_MAX];
    struct consumer *consumers; /* owned */
    size_t consumer_capacity;
    uint64_t tasks;
    uint64_t bytes;           /* of what is kept of it whatever its tasks do */
    struct page_rooms *rooms; /* the scheduler's */
    int64_t submitted_ns;
    uint32_t submission; /* number within the session */
    /* --- written by submission, lineage --- */
    size_t input_at[TESSI_INPUTS_MAX]; /* where it stands among the input's consumers */
    uint32_t ninputs;                  /* as the description says; 0: what it reads has been cut off */
    size_t consumer_count;
    uint64_t reader_tasks; /* of all consumers: more than any of its blocks has readers */
    bool wanted;           /* its blocks are computed and held */
    bool pruned; /* so that tasks which nobody has ever needed are let go, the layers around it have been noted too */
    /* --- written by submission, lineage, recovery --- */
    bool handle;     /* the client can still name it: it has asked for it, and not released it */
    uint32_t grants; /* how often more than once its name was given to the client, who releases it as often */
    /* --- written by state --- */
    struct stretch **stretches; /* owned, or `only` when there is one; each owned unless it is blank */
    struct stretch *only;
    uint64_t page_count, live_pages, touched_pages; /* all; that exist; that are not pristine any more */
    uint32_t epoch_floor;                           /* no record of a page made again starts below this epoch */
    bool keep_listed;                               /* in the list of those for which something is to be done */
    uint32_t watched_at;                            /* place in the list of those that are watched + 1; 0: it is not */
    /* --- written by state, step --- */
    bool news; /* listed: something has changed that its client may have to be told */
    /* --- written by state, recovery --- */
    struct layer_on_worker *on; /* by worker index, owned */
    size_t on_capacity;
    bool kept;          /* its blocks get second owners, and stay while somebody reads the layer */
    uint64_t keeps;     /* blocks that have their second owner */
    uint64_t keep_next; /* none below is without one, or without somebody who has been asked */
    /* --- written by recovery --- */
    bool detach_asked;                    /* by its client */
    bool detached;                        /* it reads nothing any more, and cannot be made again */
    uint32_t keep_epoch;                  /* the highest under which somebody else was to have a block */
    uint32_t keep_refused, keep_refusals; /* who has refused last, its index + 1; how often in a row */
    int64_t keep_retry_ns;
    /* --- written by recovery, submission --- */
    uint32_t lineage; /* layers one after the other that it is made from */
    /* --- written by lineage --- */
    bool loose;          /* in the list of those that are needed less than before */
    uint32_t pruning_at; /* in the list of those to go on with, + 1; 0: not there */
    uint64_t prune_next; /* tasks before this one have been looked at */
    bool given_up;       /* cancelled, and nothing of it is left or will be made */
    bool gone;           /* destroyed, but for its description */
    uint64_t pending;    /* times that it stands among what is left to later steps: it is not freed before */
    uint64_t failure_index;
    /* --- written by lineage, state --- */
    uint64_t first_done; /* tasks done at least once, or found unnecessary */
    /* --- written by lineage, recovery, step --- */
    uint64_t held; /* tasks HELD */
    /* --- written by lineage, step --- */
    enum tessi_status failure;
    char *failure_text; /* owned */
    /* --- written by order --- */
    struct sched_layer *order_via; /* its only consumer in its group; NULL: the group's root */
    bool order_stem;               /* from the group's root to the widest layer that folds lead to: see order/order.c */
    struct order_split
        *order_split; /* the root of a group that has the order of its input's blocks, owned; else NULL */
    struct order_corner
        *order_corners; /* for each dimension of that layer, owned; NULL: it is that layer, or no stem */
    uint32_t order_input;
    const struct sched_layer *order_at; /* the last on its way to the stem that has the same order of indices */
    uint64_t order_base, order_depth, order_levels, order_end;
    uint32_t order_corner_count;
    uint32_t order_way;            /* maps between order_at and the stem, or the next jump */
    struct order_jump *order_jump; /* owned; NULL: the way is short */
    uint32_t order_position;       /* within its submission, while that is taken in */
    double path_ns;    /* estimated time from its start to the end of the last that waits for it, when submitted */
    struct lane *lane; /* where its tasks wait */
    uint32_t span_count, span_handle; /* of those in backlogs; the handle of the last one that came */
    /* --- written by order, lineage --- */
    uint32_t order_users; /* layers that have this one as order_via: its description outlives it for them */
    /* --- written by placement, lineage --- */
    enum placement placement;
    struct sched_layer *place_consumer;
    /* --- written by placement --- */
    uint32_t place_input; /* WITH_INPUT: its number; WITH_CONSUMER: the consumer's input that we are */
    uint32_t place_depth;
    struct region_node *regions; /* owned */
    size_t region_count, region_capacity;
    uint32_t *homes; /* EACH: a worker for each task, owned */
    float *ends_ns;  /* EACH: when each would end, while its submission is placed, owned */
    uint64_t ran[2]; /* tasks that have been reported done by workers with devices: on processors, at devices */
    /* --- written by placement, submission --- */
    uint32_t kind; /* 1: its tasks are for devices, as far as is known; see placement/kinds.c */
    /* --- written by workers, submission --- */
    double estimate_ns; /* of one task, on a processor or, if `kind` is 1, at a device */
    /* --- written by workers --- */
    int64_t estimated_ns; /* when it last changed; 0: never */
};

static inline bool is_pinned(const struct sched_layer *layer) /* its tasks stay where they were placed */
{
    return layer->layer->op == TESSI_OP_SYNTHETIC && layer->layer->as.synthetic.pin > 0;
}

#endif
