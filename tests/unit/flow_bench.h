/* A worker's planner on a bench, for tests of worker/flow: events go in, actions and reports are read, and the
 * invariants hold after each event. The words are short, since every line of those tests is made of them. */
#ifndef TESTS_UNIT_FLOW_BENCH_H
#define TESTS_UNIT_FLOW_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "tests/unit/flow_layers.h"
#include "worker/flow/flow.h"

#define SESSION 100u
#define SELF 1u
#define PEER 2u
#define OTHER 3u
#define SMALL 800 /* travels inside READY */
#define LARGE 100000

struct bench {
    struct tessi_flow *flow;
    struct tessi_flow_actions actions;
    struct tessi_report report;
    struct tessi_layer *source, *reader; /* of with_reader */
};

/* --- driving it --- */

static inline struct bench create(uint64_t memory_bytes, uint64_t spill_bytes, uint32_t slots)
{
    struct tessi_flow_config config = {.self = SELF,
                                       .slots = slots,
                                       .slot_depth = 2,
                                       .window = 2,
                                       .memory_bytes = memory_bytes,
                                       .spill_bytes = spill_bytes,
                                       .pull_bytes = 10 * LARGE};
    return (struct bench){.flow = tessi_flow_create(&config)};
}

static inline void destroy(struct bench *bench)
{
    tessi_flow_destroy(bench->flow);
    tessi_free(bench->actions.items);
    tessi_report_fini(&bench->report);
    tessi_layer_destroy(bench->source);
    tessi_layer_destroy(bench->reader);
}

static inline void step(struct bench *bench, struct tessi_flow_event event)
{
    bench->actions.count = 0;
    tessi_flow_step(bench->flow, &event, &bench->actions);
    tessi_flow_verify(bench->flow);
}

static inline void layer(struct bench *bench, const struct tessi_layer *layer)
{
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = tessi_layer_copy(layer)});
}

static inline struct tessi_span span(uint32_t layer_id, uint64_t first, uint64_t count, uint32_t epoch, uint64_t order)
{
    return (struct tessi_span){.session = SESSION,
                               .layer = layer_id,
                               .first = first,
                               .count = count,
                               .epoch = epoch,
                               .order = order,
                               .order_step = 1};
}

static inline struct tessi_span at(uint32_t worker, uint32_t layer_id, uint64_t first, uint64_t count)
{
    return (struct tessi_span){
        .session = SESSION, .layer = layer_id, .first = first, .count = count, .epoch = 1, .worker = worker};
}

static inline void assign(struct bench *bench, struct tessi_span tasks, struct tessi_span where)
{
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN,
                                          .spans = &tasks,
                                          .span_count = 1,
                                          .where = &where,
                                          .where_count = where.count > 0 ? 1 : 0});
}

static inline void scheduler(struct bench *bench, enum tessi_flow_event_kind kind, struct tessi_span tasks)
{
    step(bench, (struct tessi_flow_event){.kind = kind, .spans = &tasks, .span_count = 1});
}

static inline void peer_up(struct bench *bench, uint32_t peer, bool shares_memory)
{
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_UP, .peer = peer, .shares_memory = shares_memory});
}

static inline void peer_lost(struct bench *bench, uint32_t peer)
{
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = peer});
}

static inline struct tessi_flow_event from_peer(enum tessi_flow_event_kind kind, uint32_t peer, uint32_t layer_id,
                                                uint64_t index)
{
    return (struct tessi_flow_event){.kind = kind, .peer = peer, .task = {SESSION, layer_id, index}, .epoch = 1};
}

static inline void peer_event(struct bench *bench, enum tessi_flow_event_kind kind, uint32_t peer, uint32_t layer_id,
                              uint64_t index)
{
    step(bench, from_peer(kind, peer, layer_id, index));
}

static inline void read_lease(struct bench *bench, uint32_t peer, uint32_t layer_id, uint64_t index)
{
    struct tessi_flow_event event = from_peer(TESSI_FLOW_READ, peer, layer_id, index);
    event.lease = true;
    step(bench, event);
}

/* --- reading it --- */

static inline size_t count(const struct bench *bench, enum tessi_flow_action_kind kind)
{
    size_t found = 0;
    for (size_t i = 0; i < bench->actions.count; i++) {
        found += bench->actions.items[i].kind == kind ? 1 : 0;
    }
    return found;
}

/* The nth action of the kind; fails when there are fewer. */
static inline struct tessi_flow_action nth(const struct bench *bench, enum tessi_flow_action_kind kind, size_t n)
{
    for (size_t i = 0; i < bench->actions.count; i++) {
        if (bench->actions.items[i].kind == kind && n-- == 0) {
            return bench->actions.items[i];
        }
    }
    fail_msg("no such action");
    return (struct tessi_flow_action){0};
}

static inline struct tessi_flow_action the(const struct bench *bench, enum tessi_flow_action_kind kind)
{
    assert_int_equal(count(bench, kind), 1);
    return nth(bench, kind, 0);
}

static inline void done(struct bench *bench, struct tessi_flow_action run)
{
    assert_int_equal(run.kind, TESSI_FLOW_RUN);
    struct tessi_flow_outcome outcome = {.slot = run.slot, .run = run.run, .ran_ns = 5};
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1});
}

static inline void io_done(struct bench *bench, enum tessi_flow_event_kind kind, uint32_t block,
                           enum tessi_status status)
{
    step(bench, (struct tessi_flow_event){.kind = kind, .block = block, .status = status});
}

static inline const struct tessi_report *report(struct bench *bench)
{
    tessi_report_fini(&bench->report);
    tessi_flow_report(bench->flow, &bench->report);
    return &bench->report;
}

static inline struct tessi_flow_stats stats(const struct bench *bench)
{
    struct tessi_flow_stats figures;
    tessi_flow_stats(bench->flow, &figures);
    return figures;
}

/* Runs a source task (no inputs) to its end. */
static inline void make(struct bench *bench, uint32_t layer_id, uint64_t index, uint64_t order)
{
    assign(bench, span(layer_id, index, 1, 1, order), (struct tessi_span){0});
    done(bench, the(bench, TESSI_FLOW_RUN));
}

/* Layer 1: blocks from elsewhere (not regenerable here); layer 2 reads them one by one. */
static inline struct bench with_reader(uint64_t memory_bytes, uint64_t spill_bytes, int64_t bytes)
{
    struct bench bench = create(memory_bytes, spill_bytes, 1);
    bench.source = layer_source(SESSION, 1, TESSI_OP_SYNTHETIC, 1, 16, bytes);
    bench.reader = layer_same(SESSION, 2, bench.source, NULL, bytes);
    layer(&bench, bench.source);
    layer(&bench, bench.reader);
    return bench;
}

#endif
