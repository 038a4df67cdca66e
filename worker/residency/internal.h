/* What the files of worker/residency share.
 *
 *   residency.c  events, order of the steps, launches
 *   room.c       records, the ledger, and taking memory back
 *   verify.c     the invariants */
#ifndef TESSI_RESIDENCY_INTERNAL_H
#define TESSI_RESIDENCY_INTERNAL_H

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/map.h"
#include "worker/residency/residency.h"

#define NONE UINT32_MAX

enum state { ABSENT, CLAIMED, COMING, CLEAN, DIRTY, LEAVING };

/* What may be taken back, in this order; KEPT: nothing of it. */
enum list { CLEAN_IDLE, DIRTY_IDLE, CLEAN_NEEDED, DIRTY_NEEDED, ACCUMULATORS, LISTS, KEPT = LISTS };

struct record { /* a block */
    uint32_t handle;
    uint64_t bytes, charge; /* charge: rounded up */
    enum state state;
    enum list list;
    uint32_t prev, next; /* in the list, the one used longest ago first */
    uint32_t needed;     /* references by steps that wait */
    uint32_t pins;       /* by the step that claims room, and by launched ones */
    uint32_t step_first, step_last; /* waiting steps that write it, in their order */
    uint32_t head_prev, head_next;  /* in the list of outputs with waiting steps */
    uint32_t mark;
    bool live;
    bool accumulating; /* begun and not complete */
    bool wanted;       /* the host waits for it */
    bool evict;        /* it leaves to make room */
    bool doomed;       /* its handle is gone */
    bool copying;      /* a copy in has not been told to have ended, though a launch after it may have */
    bool spoiled;      /* an output one of whose launches found no memory: all its steps are given back */
};

enum step_state { STEP_FREE, STEP_WAITING, STEP_CLAIMING, STEP_LAUNCHED };

struct step {
    uint32_t name;
    enum step_state state;
    uint32_t next; /* of the same output */
    uint64_t arrival;
    uint64_t launch; /* LAUNCHED: its number */
    uint32_t out;
    uint32_t in_count;
    uint32_t in[TESSI_STEP_REFS_MAX];
    bool first, last;
};

struct pool {
    void *items;
    size_t count, capacity;
    uint32_t *free;
    size_t free_count, free_capacity;
};

struct ends {
    uint32_t first, last;
};

struct tessi_residency {
    struct tessi_residency_config config;
    struct tessi_residency_actions *actions; /* of the event under way */
    struct pool records, steps;
    uint32_t *by_handle; /* record of a handle */
    size_t handle_count, handle_capacity;
    struct tessi_map step_of;
    struct ends lists[LISTS];
    struct ends heads;
    uint64_t capacity_bytes, used_bytes, peak_bytes;
    uint64_t accumulating_bytes; /* of begun outputs */
    uint64_t leaving_bytes;      /* of blocks that leave to make room */
    uint64_t clock;
    uint64_t launches, shrunk_at; /* launches there were, now and when the capacity shrank for the lack of their memory */
    uint32_t depth, depth_peak;   /* launched steps at a time, at most; the most that ever was */
    uint32_t launched, waiting;   /* steps */
    uint32_t coming, leaving;     /* copies under way */
    uint32_t mark;
    /* The step that claims room, or NONE. */
    uint32_t claim;
    uint32_t claim_asked;    /* ALLOCs not answered */
    uint32_t claim_refused;  /* rounds that the device refused */
    uint64_t claim_squeeze;  /* to be taken back beyond what the ledger asks for */
    uint64_t claim_short;    /* bytes refused in this round */
    uint32_t starved;        /* launches that found no memory, since an output was completed */
    uint32_t claim_alone;    /* times that it has asked for just what it needs */
    uint32_t probes;         /* that came while steps waited for lost capacity, since memory was had last */
    bool broken;
    struct tessi_residency_stats stats;
};

static inline struct record *record_at(const struct tessi_residency *r, uint32_t id)
{
    return (struct record *)r->records.items + id;
}
static inline struct step *step_at(const struct tessi_residency *r, uint32_t id)
{
    return (struct step *)r->steps.items + id;
}
/* Its bytes at the device are good, or will be when the stream gets there. */
static inline bool record_here(const struct record *record)
{
    return record->state >= COMING;
}

struct tessi_residency_action *tessi_residency_act(struct tessi_residency *r, enum tessi_residency_action_kind kind);
uint32_t tessi_residency_pool_take(struct pool *pool, size_t size); /* zeroed */
void tessi_residency_pool_give(struct pool *pool, uint32_t id);

/* room.c */
uint32_t tessi_residency_find(const struct tessi_residency *r, uint32_t handle);
uint32_t tessi_residency_record(struct tessi_residency *r, uint32_t handle, uint64_t bytes); /* found or made */
/* Bring the lists in line with the record's fields; a record without memory or use is destroyed. */
void tessi_residency_settle(struct tessi_residency *r, uint32_t id);
void tessi_residency_release(struct tessi_residency *r, uint32_t id);  /* FREE; the record is ABSENT then */
void tessi_residency_write_back(struct tessi_residency *r, uint32_t id, bool evict);
void tessi_residency_end_accumulating(struct tessi_residency *r, struct record *record);
enum room { ROOM, ROOM_LATER, ROOM_NEVER };
enum room tessi_residency_make_room(struct tessi_residency *r, uint64_t bytes);

#endif
