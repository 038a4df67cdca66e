#include "worker/trace/trace.h"

#include "core/base/alloc.h"
#include "core/base/assert.h"

enum lane { LANE_FETCH, LANE_SERVE, LANE_DISK, LANE_STEAL };
#define LOOP_LANES "fetch\nserve\ndisk\nsteal"

struct kept_ring {
    struct tessi_trace_ring ring;
    char *lanes; /* owned */
};

struct begun { /* a block with which something is under way */
    struct tessi_task task;
    uint64_t bytes;
    int64_t at_ns;
};

struct tessi_trace {
    uint32_t events;
    struct kept_ring **rings; /* owned, each at an address of its own for its writer */
    size_t count, capacity;
    struct begun *begun; /* by the flow's handle of the block */
    size_t begun_capacity;
};

struct tessi_trace *tessi_trace_create(uint32_t events)
{
    struct tessi_trace *trace = tessi_zalloc(sizeof *trace);
    trace->events = events;
    (void)tessi_trace_add(trace, LOOP_LANES);
    return trace;
}

void tessi_trace_destroy(struct tessi_trace *trace)
{
    if (trace == NULL) {
        return;
    }
    for (size_t i = 0; i < trace->count; i++) {
        tessi_trace_ring_fini(&trace->rings[i]->ring);
        tessi_free(trace->rings[i]->lanes);
        tessi_free(trace->rings[i]);
    }
    tessi_free(trace->rings);
    tessi_free(trace->begun);
    tessi_free(trace);
}

struct tessi_trace_ring *tessi_trace_add(struct tessi_trace *trace, const char *lanes)
{
    struct kept_ring *kept = tessi_zalloc(sizeof *kept);
    tessi_trace_ring_init(&kept->ring, trace->events);
    kept->lanes = tessi_strdup(lanes);
    tessi_grow(&trace->rings, &trace->capacity, trace->count + 1, sizeof *trace->rings);
    trace->rings[trace->count++] = kept;
    return &kept->ring;
}

uint32_t tessi_trace_rings(const struct tessi_trace *trace)
{
    return (uint32_t)trace->count;
}

const struct tessi_trace_ring *tessi_trace_ring_at(const struct tessi_trace *trace, uint32_t number)
{
    TESS_ASSERT(number < trace->count);
    return &trace->rings[number]->ring;
}

const char *tessi_trace_lanes(const struct tessi_trace *trace, uint32_t number)
{
    TESS_ASSERT(number < trace->count);
    return trace->rings[number]->lanes;
}

static enum lane lane_of(enum tessi_trace_kind kind)
{
    if (kind == TESSI_TRACE_SERVE) {
        return LANE_SERVE;
    }
    if (kind == TESSI_TRACE_SPILL || kind == TESSI_TRACE_LOAD) {
        return LANE_DISK;
    }
    return kind == TESSI_TRACE_GIVE || kind == TESSI_TRACE_KEEP ? LANE_STEAL : LANE_FETCH;
}

static void put(struct tessi_trace *trace, enum tessi_trace_kind kind, struct tessi_task task, uint64_t amount,
                uint32_t peer, uint32_t why, int64_t begun_ns, int64_t now_ns)
{
    tessi_trace_put(&trace->rings[0]->ring, &(struct tessi_trace_record){.index = task.index,
                                                                         .start_ns = begun_ns,
                                                                         .took_ns = now_ns - begun_ns,
                                                                         .amount = amount,
                                                                         .session = task.session,
                                                                         .layer = task.layer,
                                                                         .peer = peer,
                                                                         .lane = (uint16_t)lane_of(kind),
                                                                         .kind = (uint8_t)kind,
                                                                         .why = (uint8_t)why});
}

void tessi_trace_begin(struct tessi_trace *trace, uint32_t handle, struct tessi_task task, uint64_t bytes,
                       int64_t now_ns)
{
    tessi_grow(&trace->begun, &trace->begun_capacity, (size_t)handle + 1, sizeof *trace->begun);
    trace->begun[handle] = (struct begun){task, bytes, now_ns};
}

void tessi_trace_end(struct tessi_trace *trace, enum tessi_trace_kind kind, uint32_t handle, uint32_t peer,
                     uint32_t status, int64_t now_ns)
{
    TESS_ASSERT(handle < trace->begun_capacity);
    const struct begun *begun = &trace->begun[handle];
    put(trace, kind, begun->task, begun->bytes, peer, status, begun->at_ns, now_ns);
}

void tessi_trace_note(struct tessi_trace *trace, enum tessi_trace_kind kind, struct tessi_task task, uint64_t amount,
                      uint32_t peer, int64_t begun_ns, int64_t now_ns)
{
    put(trace, kind, task, amount, peer, 0, begun_ns, now_ns);
}
