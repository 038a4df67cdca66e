/* Task records, and the pages that they come in. `table.h` reaches them. */
#ifndef TESSI_SCHED_STATE_TASK_H
#define TESSI_SCHED_STATE_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_TASKS 4u /* one cache line; of deep graphs few tasks of a page are live at once */
#define NO_WORKER UINT32_MAX

enum task_state {
    TASK_UNASSIGNED = 0,
    TASK_ASSIGNED = 1, /* given to `owner`, or (TASK_ADOPTING) its copy there is being made the block */
    TASK_HELD = 2,     /* done; `owner` keeps the block */
    TASK_RELEASED = 3, /* done and forgotten, or not needed */
    TASK_FAILED = 4,
    TASK_POISONED = 5, /* a task that it depends on failed */
};

#define TASK_STATES (TASK_POISONED + 1)

enum { /* flags of a record */
    TASK_STARTED = 1,   /* its worker has said that a step runs */
    TASK_STEALING = 2,  /* its worker has been asked to give it up */
    TASK_ADOPTING = 4,
    TASK_DONE_ONCE = 8, /* has been done before: doing it again is a re-run */
    TASK_BEGUN = 16,    /* was running when a worker died: likewise */
};

struct task_record {
    /* --- written by state, workers, recovery --- */
    uint32_t epoch;
    /* --- written by state, workers, recovery, lineage, step --- */
    uint32_t owner; /* index into workers; NO_WORKER unless ASSIGNED or HELD */
    /* --- written by state, lineage, submission --- */
    uint32_t refs;  /* unfinished tasks that read the block */
    /* --- written by state --- */
    uint8_t state;
    /* --- written by state, workers, recovery, step --- */
    uint8_t flags;
    /* --- written by recovery --- */
    uint8_t deaths;
    /* --- written by state --- */
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

struct sched_layer;

struct task_ref {
    struct sched_layer *layer;
    uint64_t index;
};

struct work_list { /* a stack of tasks for the walks over the graph */
    struct task_ref *items;
    size_t count, capacity;
};

#endif
