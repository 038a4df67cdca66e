/* The worker's planner, rule by rule: an event goes in, the actions are read. The invariants are
 * verified after every event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "tests/unit/test_flow_layers.h"
#include "worker/flow/flow.h"

#define SESSION 100u
#define SELF 1u
#define PEER 2u
#define OTHER 3u
#define SMALL 800     /* travels inside READY */
#define LARGE 100000

struct bench {
    struct tessi_flow *flow;
    struct tessi_flow_actions actions;
    struct tessi_report report;
};

/* --- driving it --- */

static struct bench create(uint64_t memory_bytes, uint64_t spill_bytes, uint32_t slots)
{
    struct tessi_flow_config config = {.self = SELF, .slots = slots, .slot_depth = 2, .window = 2,
                                       .memory_bytes = memory_bytes, .spill_bytes = spill_bytes,
                                       .pull_bytes = 10 * LARGE};
    return (struct bench){.flow = tessi_flow_create(&config)};
}

static void destroy(struct bench *bench)
{
    tessi_flow_destroy(bench->flow);
    tessi_free(bench->actions.items);
    tessi_report_fini(&bench->report);
}

static void step(struct bench *bench, struct tessi_flow_event event)
{
    bench->actions.count = 0;
    tessi_flow_step(bench->flow, &event, &bench->actions);
    tessi_flow_verify(bench->flow);
}

static void layer(struct bench *bench, const struct tessi_layer *layer)
{
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = tessi_layer_copy(layer)});
}

static struct tessi_span span(uint32_t layer_id, uint64_t first, uint64_t count, uint32_t epoch, uint64_t order)
{
    return (struct tessi_span){.session = SESSION, .layer = layer_id, .first = first, .count = count, .epoch = epoch,
                               .order = order, .order_step = 1};
}

static struct tessi_span at(uint32_t worker, uint32_t layer_id, uint64_t first, uint64_t count)
{
    return (struct tessi_span){.session = SESSION, .layer = layer_id, .first = first, .count = count, .epoch = 1,
                               .worker = worker};
}

static void assign(struct bench *bench, struct tessi_span tasks, struct tessi_span where)
{
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN, .spans = &tasks, .span_count = 1,
                                          .where = &where, .where_count = where.count > 0 ? 1 : 0});
}

static void scheduler(struct bench *bench, enum tessi_flow_event_kind kind, struct tessi_span tasks)
{
    step(bench, (struct tessi_flow_event){.kind = kind, .spans = &tasks, .span_count = 1});
}

static void peer_up(struct bench *bench, uint32_t peer, bool shares_memory)
{
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_UP, .peer = peer, .shares_memory = shares_memory});
}

static struct tessi_flow_event from_peer(enum tessi_flow_event_kind kind, uint32_t peer, uint32_t layer_id,
                                         uint64_t index)
{
    return (struct tessi_flow_event){.kind = kind, .peer = peer, .task = {SESSION, layer_id, index}, .epoch = 1};
}

static void peer_event(struct bench *bench, enum tessi_flow_event_kind kind, uint32_t peer, uint32_t layer_id,
                       uint64_t index)
{
    step(bench, from_peer(kind, peer, layer_id, index));
}

static void read_lease(struct bench *bench, uint32_t peer, uint32_t layer_id, uint64_t index)
{
    struct tessi_flow_event event = from_peer(TESSI_FLOW_READ, peer, layer_id, index);
    event.lease = true;
    step(bench, event);
}

/* --- reading it --- */

static size_t count(const struct bench *bench, enum tessi_flow_action_kind kind)
{
    size_t found = 0;
    for (size_t i = 0; i < bench->actions.count; i++) {
        found += bench->actions.items[i].kind == kind ? 1 : 0;
    }
    return found;
}

/* The nth action of the kind; fails when there are fewer. */
static struct tessi_flow_action nth(const struct bench *bench, enum tessi_flow_action_kind kind, size_t n)
{
    for (size_t i = 0; i < bench->actions.count; i++) {
        if (bench->actions.items[i].kind == kind && n-- == 0) {
            return bench->actions.items[i];
        }
    }
    fail_msg("no such action");
    return (struct tessi_flow_action){0};
}

static struct tessi_flow_action the(const struct bench *bench, enum tessi_flow_action_kind kind)
{
    assert_int_equal(count(bench, kind), 1);
    return nth(bench, kind, 0);
}

static void done(struct bench *bench, struct tessi_flow_action run)
{
    assert_int_equal(run.kind, TESSI_FLOW_RUN);
    struct tessi_flow_outcome outcome = {.slot = run.slot, .run = run.run, .ran_ns = 5};
    step(bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1});
}

static void io_done(struct bench *bench, enum tessi_flow_event_kind kind, uint32_t block, enum tessi_status status)
{
    step(bench, (struct tessi_flow_event){.kind = kind, .block = block, .status = status});
}

static const struct tessi_report *report(struct bench *bench)
{
    tessi_report_fini(&bench->report);
    tessi_flow_report(bench->flow, &bench->report);
    return &bench->report;
}

static struct tessi_flow_stats stats(const struct bench *bench)
{
    struct tessi_flow_stats figures;
    tessi_flow_stats(bench->flow, &figures);
    return figures;
}

/* Runs a source task (no inputs) to its end. */
static void make(struct bench *bench, uint32_t layer_id, uint64_t index, uint64_t order)
{
    assign(bench, span(layer_id, index, 1, 1, order), (struct tessi_span){0});
    done(bench, the(bench, TESSI_FLOW_RUN));
}

/* Layer 1: blocks from elsewhere (not regenerable here); layer 2 reads them one by one. */
static struct tessi_layer *source;
static struct tessi_layer *reader;

static struct bench with_reader(uint64_t memory_bytes, uint64_t spill_bytes, int64_t bytes)
{
    struct bench bench = create(memory_bytes, spill_bytes, 1);
    source = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 1, 8, bytes);
    reader = layer_same(SESSION, 2, source, NULL, bytes);
    layer(&bench, source);
    layer(&bench, reader);
    return bench;
}

static void end(struct bench *bench)
{
    destroy(bench);
    tessi_layer_destroy(source);
    tessi_layer_destroy(reader);
    source = reader = NULL;
}

/* --- tasks --- */

static void test_chain_wakes_directly(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    assign(&bench, span(2, 0, 1, 1, 8), at(SELF, 1, 0, 1)); /* the reader comes first: it is looked up */
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 1);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(the(&bench, TESSI_FLOW_ALLOC).block, run.out);
    assert_int_equal(run.in_count, 0);
    done(&bench, run);
    struct tessi_flow_action next = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(next.task.layer, 2);
    assert_int_equal(next.in_count, 1);
    assert_int_equal(next.in[0], run.out);
    done(&bench, next);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->started.count, 0); /* what is done has no need to be blamed */
    assert_int_equal(said->done.count, 2);
    assert_int_equal(said->done.items[0].time_ns, 5);
    assert_int_equal(said->memory_used_bytes, 2 * LARGE);
    assert_false(tessi_flow_has_report(bench.flow));
    end(&bench);
}

/* Once a layer's steps are known to be short, its readers queue up behind it. */
static void test_readers_queue_up(void **state)
{
    (void)state;
    struct bench bench = create(20 * LARGE, 0, 2);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 1, 4, LARGE);
    struct tessi_layer *same = layer_same(SESSION, 2, from, NULL, LARGE);
    layer(&bench, from);
    layer(&bench, same);
    make(&bench, 1, 0, 0); /* 5 ns */
    assign(&bench, span(1, 1, 1, 1, 1), (struct tessi_span){0});
    struct tessi_flow_action maker = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(maker.after_count, 0);
    assign(&bench, span(2, 1, 1, 1, 11), at(SELF, 1, 1, 1));
    struct tessi_flow_action reader = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(reader.in[0], maker.out);
    assert_int_equal(reader.slot, maker.slot);
    assert_int_equal(reader.after_count, 1);
    assert_int_equal(reader.after[0].slot, maker.slot);
    assert_int_equal(reader.after[0].last, maker.run);
    done(&bench, maker);
    done(&bench, reader);
    assert_int_equal(report(&bench)->done.count, 2); /* a span for each layer */
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(same);
}

/* What has read the output of a step that failed, or would have, starts over when there is something to read. */
static void test_reader_of_a_failure_starts_over(void **state)
{
    (void)state;
    struct bench bench = create(20 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 1, 4, LARGE);
    struct tessi_layer *same = layer_same(SESSION, 2, from, NULL, LARGE);
    layer(&bench, from);
    layer(&bench, same);
    make(&bench, 1, 0, 0);
    assign(&bench, span(1, 1, 1, 1, 1), (struct tessi_span){0});
    struct tessi_flow_action maker = the(&bench, TESSI_FLOW_RUN);
    assign(&bench, span(2, 1, 1, 1, 11), at(SELF, 1, 1, 1));
    struct tessi_flow_action reader = the(&bench, TESSI_FLOW_RUN);
    struct tessi_flow_outcome outcomes[2] = {
        {.slot = 0, .run = maker.run, .status = TESSI_FAILED, .text = "no"},
        {.slot = 0, .run = reader.run, .status = TESSI_CANCELLED},
    };
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = outcomes, .outcome_count = 2});
    assert_int_equal(report(&bench)->failure_count, 1);
    assert_int_equal(stats(&bench).restarted_tasks, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.layer, 1);
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 1, 1, 1, 11));
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(same);
}

/* A step read memory of a peer that is gone by now: neither what it made nor what was made of that is believed, and
 * the end of the later one, at another slot, may be heard of first. */
static void test_readers_of_distrusted_start_over(void **state)
{
    (void)state;
    struct bench bench = create(20 * LARGE, 0, 2);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 1, 4, LARGE);
    struct tessi_layer *same = layer_same(SESSION, 2, from, NULL, LARGE);
    struct tessi_layer *next = layer_same(SESSION, 3, same, NULL, LARGE);
    layer(&bench, from);
    layer(&bench, same);
    layer(&bench, next);
    peer_up(&bench, PEER, true);
    for (uint64_t i = 0; i < 2; i++) {
        assign(&bench, span(2, i, 1, 1, i), at(PEER, 1, i, 1));
        peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, i);
        if (i == 0) {
            done(&bench, the(&bench, TESSI_FLOW_RUN)); /* its layer's steps are short */
        }
    }
    struct tessi_flow_action maker = the(&bench, TESSI_FLOW_RUN);
    assign(&bench, span(3, 1, 1, 1, 5), at(SELF, 2, 1, 1));
    struct tessi_flow_action reader = the(&bench, TESSI_FLOW_RUN);
    peer_event(&bench, TESSI_FLOW_PEER_LOST, PEER, 0, 0);
    struct tessi_flow_outcome ends[2] = {{.slot = reader.slot, .run = reader.run, .ran_ns = 5},
                                         {.slot = maker.slot, .run = maker.run, .ran_ns = 5}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stats(&bench).restarted_tasks, 0);
        step(&bench,
             (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &ends[i], .outcome_count = 1});
    }
    assert_int_equal(stats(&bench).restarted_tasks, 2);
    assert_int_equal(report(&bench)->done.items[0].first, 0);
    assert_int_equal(report(&bench)->done.count, 0);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(same);
    tessi_layer_destroy(next);
}

/* Nothing waits behind a task that workers have died of. */
static void test_suspects_run_alone(void **state)
{
    (void)state;
    struct bench bench = with_reader(20 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    struct tessi_span feared = span(1, 1, 1, 2, 1);
    feared.deaths = 1;
    assign(&bench, feared, (struct tessi_span){0});
    struct tessi_flow_action alone = the(&bench, TESSI_FLOW_RUN);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    done(&bench, alone);
    (void)the(&bench, TESSI_FLOW_RUN);
    end(&bench);
}

static void test_duplicate_assignments(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    (void)report(&bench);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    assert_int_equal(report(&bench)->done.count, 0);
    assert_int_equal(stats(&bench).stale_events, 1);
    assign(&bench, span(1, 0, 1, 4, 0), (struct tessi_span){0});
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(report(&bench)->done.items[0].epoch, 4);
    end(&bench);
}

static void test_too_large_is_refused(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE - 1, 0, LARGE);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    assert_int_equal(report(&bench)->refused.count, 1);
    assert_int_equal(stats(&bench).blocks, 0);
    end(&bench);
}

static void test_failure(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, 0);
    assert_int_equal(stats(&bench).parked_reads, 1);
    struct tessi_flow_outcome failed = {
        .slot = run.slot, .run = run.run, .status = TESSI_FAILED, .text = "division by zero"};
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &failed, .outcome_count = 1});
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_ASK).peer, PEER);
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, run.out);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->failure_count, 1);
    assert_string_equal(said->failures[0].text, "division by zero");
    assert_int_equal(said->done.count, 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    end(&bench);
}

/* --- reading from peers --- */

static void test_inline_offer_lease(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 3, 1, 8), at(PEER, 1, 0, 3));
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 3);
    assert_true(nth(&bench, TESSI_FLOW_SEND_READ, 0).lease);

    peer_event(&bench, TESSI_FLOW_READY_INLINE, PEER, 1, 0);
    assert_int_equal(nth(&bench, TESSI_FLOW_ALLOC, 0).task.layer, 1);
    done(&bench, the(&bench, TESSI_FLOW_RUN));

    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    struct tessi_flow_action pull = the(&bench, TESSI_FLOW_SEND_PULL);
    assert_int_equal(the(&bench, TESSI_FLOW_ALLOC).block, pull.block);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    done(&bench, the(&bench, TESSI_FLOW_RUN));

    uint64_t used = stats(&bench).memory_used_bytes;
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 2);
    uint32_t mapped = the(&bench, TESSI_FLOW_MAP).block;
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(run.in[0], mapped);
    assert_int_equal(stats(&bench).memory_used_bytes, used + LARGE); /* the output only */
    done(&bench, run);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_RELEASE).peer, PEER);
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, mapped);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->copied.count, 1); /* blocks 0 and 1, joined; leases are not copies */
    assert_int_equal(said->copied.items[0].count, 2);
    assert_int_equal(said->mapped_bytes, LARGE);
    end(&bench);
}

static void test_one_read_for_many_tasks(void **state)
{
    (void)state;
    struct bench bench = create(100 * LARGE, 0, 1);
    struct tessi_layer *a = layer_left(SESSION, 1, TESSI_OP_OPAQUE, 2, 3, LARGE);
    struct tessi_layer *b = layer_source(SESSION, 2, TESSI_OP_OPAQUE, 3, 2, LARGE);
    struct tessi_layer *c = layer_product(SESSION, 3, a, b, LARGE);
    layer(&bench, c);
    peer_up(&bench, PEER, false);
    struct tessi_span where[2] = {at(PEER, 2, 0, 6), at(PEER, 1, 0, 6)}; /* in any order */
    struct tessi_span tasks = span(3, 0, 4, 1, 0);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN, .spans = &tasks, .span_count = 1,
                                           .where = where, .where_count = 2});
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 12);
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 0);
    destroy(&bench);
    tessi_layer_destroy(a);
    tessi_layer_destroy(b);
    tessi_layer_destroy(c);
}

static void test_moved_ask_and_location(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    struct tessi_flow_event moved = from_peer(TESSI_FLOW_MOVED, PEER, 1, 0);
    moved.worker = OTHER;
    moved.epoch = 2;
    step(&bench, moved);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.layer, 1); /* OTHER may have gone before we came */
    struct tessi_span there = at(OTHER, 1, 0, 1);
    there.epoch = 2;
    scheduler(&bench, TESSI_FLOW_LOCATION, there);
    assert_int_equal(bench.actions.count, 0); /* not reachable yet */
    peer_up(&bench, OTHER, false);
    struct tessi_flow_action read = the(&bench, TESSI_FLOW_SEND_READ);
    assert_int_equal(read.peer, OTHER);
    assert_int_equal(read.epoch, 2);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0); /* nobody asked for it */
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(stats(&bench).stale_events, 1);
    for (int i = 0; i < 3; i++) { /* never gives up */
        peer_event(&bench, TESSI_FLOW_ASK, OTHER, 1, 0);
        assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.layer, 1);
        scheduler(&bench, TESSI_FLOW_LOCATION, at(OTHER, 1, 0, 1));
        assert_int_equal(the(&bench, TESSI_FLOW_SEND_READ).peer, OTHER);
    }
    peer_event(&bench, TESSI_FLOW_READY_OFFER, OTHER, 1, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
    peer_event(&bench, TESSI_FLOW_ASK, OTHER, 1, 0); /* the answer to PULL */
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 1);
    scheduler(&bench, TESSI_FLOW_LOCATION, at(0, 1, 0, 1));
    assert_int_equal(bench.actions.count, 0);
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 0, 1, 1, 0));
    assert_int_equal(stats(&bench).blocks, 0);
    end(&bench);
}

static void test_peer_lost(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 3, 1, 8), at(PEER, 1, 0, 3)); /* 0 asked, 1 pulled, 2 read under a lease */
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    uint32_t pulled = the(&bench, TESSI_FLOW_SEND_PULL).block;
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 2);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = PEER});
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, pulled);
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 2);
    done(&bench, run); /* what it read is not to be trusted: it starts over */
    assert_int_equal(report(&bench)->done.count, 0);
    assert_int_equal(stats(&bench).restarted_tasks, 1);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.index, 2);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    end(&bench);
}

static void test_revoke_waits_for_the_step(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 0);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    peer_event(&bench, TESSI_FLOW_REVOKE, PEER, 1, 0);
    assert_int_equal(bench.actions.count, 0);
    done(&bench, run);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 1);
    assert_int_equal(report(&bench)->done.count, 1);
    end(&bench);
}

/* --- serving peers --- */

static void test_serving(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    struct tessi_layer *tiny = layer_source(SESSION, 5, TESSI_OP_OPAQUE, 1, 1, SMALL);
    layer(&bench, tiny);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    read_lease(&bench, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_READ, OTHER, 1, 0);
    assert_int_equal(bench.actions.count, 0);
    done(&bench, run);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_LEASE).peer, PEER);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_OFFER).peer, OTHER);
    peer_event(&bench, TESSI_FLOW_PULL, OTHER, 1, 0);
    assert_false(the(&bench, TESSI_FLOW_SEND_BLOCK).spilled);
    make(&bench, 5, 0, 1);
    read_lease(&bench, PEER, 5, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_INLINE), 1);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, 7);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_ASK), 1);

    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 1, 1, 0));
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_REVOKE).peer, PEER);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 0); /* the reader still maps it */
    peer_event(&bench, TESSI_FLOW_RELEASE, PEER, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_FREE_BLOCK).block, run.out);
    assert_int_equal(stats(&bench).leases, 0);
    tessi_layer_destroy(tiny);
    end(&bench);
}

static void test_leases_of_a_lost_peer_end(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    read_lease(&bench, PEER, 1, 0);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 1, 1, 0));
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = PEER});
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    make(&bench, 1, 1, 1);
    read_lease(&bench, PEER, 1, 1); /* it would never give a lease back */
    assert_int_equal(bench.actions.count, 0);
    end(&bench);
}

/* --- steal, adopt, free --- */

static void test_steal(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    peer_up(&bench, OTHER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    assign(&bench, span(1, 3, 1, 1, 3), (struct tessi_span){0}); /* runs */
    peer_event(&bench, TESSI_FLOW_READ, PEER, 2, 0);
    struct tessi_span waiting = at(OTHER, 2, 0, 1), running = at(OTHER, 1, 3, 1);
    scheduler(&bench, TESSI_FLOW_STEAL, waiting);
    struct tessi_flow_action moved = the(&bench, TESSI_FLOW_SEND_MOVED);
    assert_int_equal(moved.peer, PEER);
    assert_int_equal(moved.worker, OTHER);
    assert_int_equal(moved.epoch, 2);
    scheduler(&bench, TESSI_FLOW_STEAL, running);
    scheduler(&bench, TESSI_FLOW_STEAL, waiting); /* no longer ours */
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->stolen.count, 1);
    assert_int_equal(said->stolen.items[0].worker, OTHER);
    assert_int_equal(said->kept.count, 2);
    end(&bench);
}

static void test_users_follow_a_stolen_task(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, OTHER, false);
    struct tessi_layer *last = layer_same(SESSION, 3, reader, NULL, LARGE);
    layer(&bench, last);
    assign(&bench, span(2, 0, 1, 1, 8), at(0, 1, 0, 1));
    assign(&bench, span(3, 0, 1, 1, 16), at(SELF, 2, 0, 1));
    assert_int_equal(count(&bench, TESSI_FLOW_LOCATE), 0); /* it is made here */
    scheduler(&bench, TESSI_FLOW_STEAL, at(OTHER, 2, 0, 1));
    struct tessi_flow_action read = the(&bench, TESSI_FLOW_SEND_READ);
    assert_int_equal(read.peer, OTHER);
    assert_int_equal(read.epoch, 2);
    tessi_layer_destroy(last);
    end(&bench);
}

static void test_adopt(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(report(&bench)->copied.count, 1);
    struct tessi_span both = span(1, 0, 2, 9, 0);
    scheduler(&bench, TESSI_FLOW_ADOPT, both);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->adopted.count, 1);
    assert_int_equal(said->adopted.items[0].epoch, 9);
    assert_int_equal(said->adopted.items[0].count, 1);
    assert_int_equal(said->missing.count, 1);
    assert_int_equal(said->missing.items[0].first, 1);
    assert_int_equal(said->dropped.count, 0);
    end(&bench);
}

static void test_free_of_a_running_task(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action first = the(&bench, TESSI_FLOW_RUN);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 1, 1, 0));
    assert_int_equal(bench.actions.count, 0);
    assign(&bench, span(1, 0, 1, 3, 0), (struct tessi_span){0}); /* again, while the old run goes on */
    assert_int_equal(bench.actions.count, 0);
    done(&bench, first);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    struct tessi_flow_action second = the(&bench, TESSI_FLOW_RUN);
    assert_int_not_equal(second.run, first.run);
    done(&bench, first); /* a stale one */
    assert_int_equal(stats(&bench).stale_events, 1);
    done(&bench, second);
    const struct tessi_report *said = report(&bench);
    assert_int_equal(said->done.count, 1);
    assert_int_equal(said->done.items[0].epoch, 3);
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 8, 1, 0));
    assert_int_equal(stats(&bench).blocks, 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    end(&bench);
}

static void test_free_while_asked_and_pulling(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, true);
    assign(&bench, span(2, 0, 2, 1, 8), at(PEER, 1, 0, 2));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    scheduler(&bench, TESSI_FLOW_FREE, span(2, 0, 2, 1, 0));
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 0, 2, 1, 0));
    assert_int_equal(bench.actions.count, 0);
    assert_int_equal(stats(&bench).blocks, 2); /* answers are to come */
    peer_event(&bench, TESSI_FLOW_READY_LEASE, PEER, 1, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_RELEASE), 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(stats(&bench).blocks, 0);
    end(&bench);
}

/* The input's layer goes first, its user later, and the bytes arrive in between: no copy may stay. */
static void test_freed_copy_is_not_kept(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 2, 1, 8), at(PEER, 1, 0, 2));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_DROP_LAYER, .session = SESSION, .layer_id = 1});
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_DROP_LAYER, .session = SESSION, .layer_id = 2});
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    done(&bench, run);
    assert_int_equal(stats(&bench).blocks, 0);
    assert_int_equal(stats(&bench).memory_used_bytes, 0);
    end(&bench);
}

static void test_drop_layer(void **state)
{
    (void)state;
    struct bench bench = with_reader(10 * LARGE, 0, LARGE);
    make(&bench, 1, 0, 0);
    assign(&bench, span(1, 1, 2, 1, 1), (struct tessi_span){0});
    struct tessi_flow_action first = nth(&bench, TESSI_FLOW_RUN, 0), second = nth(&bench, TESSI_FLOW_RUN, 1);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_DROP_LAYER, .session = SESSION, .layer_id = 1});
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(tessi_task_steps(first.layer, 1), 1); /* still described while it runs */
    done(&bench, first);
    done(&bench, second);
    assert_int_equal(stats(&bench).blocks, 0);
    assign(&bench, span(1, 4, 1, 1, 4), (struct tessi_span){0});
    assert_int_equal(bench.actions.count, 0);
    end(&bench);
}

/* --- streams --- */

static void test_stream_order_and_window(void **state)
{
    (void)state;
    struct bench bench = create(100 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 6, 1, LARGE);
    struct tessi_layer *fold = layer_fold(SESSION, 2, from, LARGE);
    layer(&bench, fold);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 0), at(PEER, 1, 0, 6));
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_READ), 6);
    for (uint64_t i = 6; i-- > 0;) { /* in the wrong order; only two steps are brought in */
        peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, i);
        assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), i < 2 ? 1 : 0);
    }
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 2); /* one runs, one is queued behind it */
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 2);
    struct tessi_flow_action first = nth(&bench, TESSI_FLOW_RUN, 0), second = nth(&bench, TESSI_FLOW_RUN, 1);
    assert_int_equal(first.step, 0);
    assert_int_equal(second.step, 1);
    assert_int_equal(first.steps, 6);
    scheduler(&bench, TESSI_FLOW_STEAL, at(PEER, 2, 0, 1));
    assert_int_equal(report(&bench)->kept.count, 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 2);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0); /* the slot's queue is full */
    done(&bench, first);
    struct tessi_flow_action third = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(third.step, 2);
    done(&bench, second);
    done(&bench, third);
    for (uint64_t i = 3; i < 6; i++) {
        assert_int_equal(report(&bench)->done.count, 0);
        peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, i);
        done(&bench, the(&bench, TESSI_FLOW_RUN));
    }
    assert_int_equal(report(&bench)->done.items[0].time_ns, 30);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(fold);
}

static void test_receive(void **state)
{
    (void)state;
    struct bench bench = create(10 * LARGE, 0, 1);
    struct tessi_layer *pushed = layer_source(SESSION, 1, TESSI_OP_RECEIVE, 1, 2, LARGE);
    layer(&bench, pushed);
    assign(&bench, span(1, 0, 1, 1, 0), (struct tessi_span){0});
    struct tessi_flow_action pull = the(&bench, TESSI_FLOW_SEND_PULL);
    assert_int_equal(pull.peer, SESSION);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, 0);
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_LOST, .peer = SESSION});
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    peer_up(&bench, SESSION, false);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_PULL), 1);
    peer_event(&bench, TESSI_FLOW_DATA, SESSION, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_OFFER).peer, PEER);
    assert_int_equal(report(&bench)->done.count, 1);
    destroy(&bench);
    tessi_layer_destroy(pushed);
}

/* --- memory --- */

static void test_copies_go_first(void **state)
{
    (void)state;
    struct bench bench = with_reader(3 * LARGE, 10 * LARGE, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 8), at(PEER, 1, 0, 1));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    assert_int_equal(stats(&bench).memory_used_bytes, 2 * LARGE); /* the copy stays as a cache */
    assert_int_equal(report(&bench)->copied.count, 1);
    assign(&bench, span(1, 4, 2, 1, 20), (struct tessi_span){0}); /* two outputs: one more than fits */
    assert_int_equal(count(&bench, TESSI_FLOW_FREE_BLOCK), 1);
    assert_int_equal(count(&bench, TESSI_FLOW_SPILL), 0);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 2);
    assert_int_equal(report(&bench)->dropped.count, 1);
    assert_int_equal(stats(&bench).evicted_copies, 1);
    end(&bench);
}

static void test_spill_serve_load(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    make(&bench, 1, 1, 1);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    uint32_t block = the(&bench, TESSI_FLOW_SPILL).block;
    uint64_t index = the(&bench, TESSI_FLOW_SPILL).task.index;
    peer_event(&bench, TESSI_FLOW_PULL, PEER, 1, index); /* still in memory */
    assert_false(the(&bench, TESSI_FLOW_SEND_BLOCK).spilled);
    io_done(&bench, TESSI_FLOW_SPILLED, block, TESSI_OK);
    assert_int_equal(the(&bench, TESSI_FLOW_UNALLOC).block, block);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    assert_int_equal(stats(&bench).blocks_spilled, 1);
    assert_int_equal(stats(&bench).spilled_bytes, LARGE);
    peer_event(&bench, TESSI_FLOW_PULL, PEER, 1, index);
    assert_true(the(&bench, TESSI_FLOW_SEND_BLOCK).spilled);

    scheduler(&bench, TESSI_FLOW_FREE, span(1, 1 - index, 1, 1, 0)); /* the other one: room for the input */
    assign(&bench, span(2, index, 1, 1, 3), at(SELF, 1, index, 1));
    struct tessi_flow_action load = the(&bench, TESSI_FLOW_LOAD);
    assert_int_equal(load.block, block);
    peer_event(&bench, TESSI_FLOW_READ, PEER, 1, index);
    assert_int_equal(bench.actions.count, 0);
    io_done(&bench, TESSI_FLOW_LOADED, block, TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_OFFER), 1);
    assert_int_equal(stats(&bench).spilled_bytes, LARGE); /* now of block 2, which makes room for the output */
    end(&bench);
}

static void test_damaged_file_is_reported(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    make(&bench, 1, 1, 1);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    struct tessi_flow_action spill = the(&bench, TESSI_FLOW_SPILL);
    io_done(&bench, TESSI_FLOW_SPILLED, spill.block, TESSI_OK);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    scheduler(&bench, TESSI_FLOW_FREE, span(1, 1 - spill.task.index, 1, 1, 0));
    assign(&bench, span(2, spill.task.index, 1, 1, 3), at(SELF, 1, spill.task.index, 1));
    (void)report(&bench);
    io_done(&bench, TESSI_FLOW_LOADED, spill.block, TESSI_IO);
    assert_int_equal(report(&bench)->missing.count, 1);
    assert_int_equal(the(&bench, TESSI_FLOW_LOCATE).task.index, spill.task.index);
    end(&bench);
}

static void test_failed_spill_tries_another(void **state)
{
    (void)state;
    struct bench bench = with_reader(2 * LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    make(&bench, 1, 1, 1);
    assign(&bench, span(1, 2, 1, 1, 2), (struct tessi_span){0});
    uint32_t first = the(&bench, TESSI_FLOW_SPILL).block;
    io_done(&bench, TESSI_FLOW_SPILLED, first, TESSI_IO);
    uint32_t second = the(&bench, TESSI_FLOW_SPILL).block;
    assert_int_not_equal(first, second);
    io_done(&bench, TESSI_FLOW_SPILLED, second, TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 1);
    end(&bench);
}

static void test_leases_are_revoked_for_room(void **state)
{
    (void)state;
    struct bench bench = with_reader(LARGE, 10 * LARGE, LARGE);
    make(&bench, 1, 0, 0);
    read_lease(&bench, PEER, 1, 0);
    assign(&bench, span(1, 1, 1, 1, 1), (struct tessi_span){0});
    assert_int_equal(the(&bench, TESSI_FLOW_SEND_REVOKE).peer, PEER);
    read_lease(&bench, OTHER, 1, 0); /* no new lease on a block that is to go */
    assert_int_equal(count(&bench, TESSI_FLOW_SEND_OFFER), 1);
    peer_event(&bench, TESSI_FLOW_RELEASE, PEER, 1, 0);
    io_done(&bench, TESSI_FLOW_SPILLED, the(&bench, TESSI_FLOW_SPILL).block, TESSI_OK);
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 1);
    end(&bench);
}

/* Without spilling a younger task may not take the room that the oldest will need. */
static void test_reserve_for_the_oldest(void **state)
{
    (void)state;
    struct bench bench = with_reader(3 * LARGE, 0, LARGE);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 0, 1, 1, 0), at(PEER, 1, 0, 1)); /* needs 2, waits for its input */
    assign(&bench, span(1, 4, 2, 1, 20), (struct tessi_span){0});
    done(&bench, the(&bench, TESSI_FLOW_RUN)); /* one fits beside it, the second does not */
    assert_int_equal(count(&bench, TESSI_FLOW_RUN), 0);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 0);
    assert_int_equal(the(&bench, TESSI_FLOW_RUN).task.layer, 2);
    end(&bench);
}

static void test_younger_accumulator_stays_while_it_can(void **state)
{
    (void)state;
    struct bench bench = create(3 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 2, 2, LARGE);
    struct tessi_layer *fold = layer_fold(SESSION, 2, from, LARGE);
    layer(&bench, fold);
    peer_up(&bench, PEER, false);
    peer_up(&bench, OTHER, false);
    assign(&bench, span(2, 1, 1, 1, 9), at(PEER, 1, 0, 4));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    done(&bench, run); /* its second input is not there: the accumulator waits */
    assign(&bench, span(2, 0, 1, 1, 4), at(OTHER, 1, 0, 4));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, OTHER, 1, 0);
    peer_event(&bench, TESSI_FLOW_DATA, OTHER, 1, 0);
    struct tessi_flow_action older = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(older.task.index, 0);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, OTHER, 1, 2); /* no room, but the running step will give some */
    assert_int_equal(stats(&bench).restarted_tasks, 0);
    done(&bench, older);
    peer_event(&bench, TESSI_FLOW_DATA, OTHER, 1, 2);
    done(&bench, the(&bench, TESSI_FLOW_RUN));
    assert_int_equal(report(&bench)->done.count, 1);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(fold);
}

static void test_restart(void **state)
{
    (void)state;
    struct bench bench = create(3 * LARGE, 0, 1);
    struct tessi_layer *from = layer_source(SESSION, 1, TESSI_OP_OPAQUE, 2, 2, LARGE);
    struct tessi_layer *also = layer_source(SESSION, 4, TESSI_OP_OPAQUE, 2, 2, LARGE);
    struct tessi_layer *fold = layer_fold(SESSION, 2, from, LARGE);
    struct tessi_layer *wide = layer_same(SESSION, 3, from, also, LARGE);
    layer(&bench, fold);
    layer(&bench, wide);
    peer_up(&bench, PEER, false);
    assign(&bench, span(2, 1, 1, 1, 9), at(PEER, 1, 0, 4));
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 1);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 1);
    struct tessi_flow_action run = the(&bench, TESSI_FLOW_RUN);
    assert_int_equal(report(&bench)->started.count, 1);
    done(&bench, run); /* its second input is not there: the accumulator waits */
    struct tessi_span tasks = span(3, 2, 1, 1, 0), where[2] = {at(PEER, 1, 0, 4), at(PEER, 4, 0, 4)};
    step(&bench, (struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN, .spans = &tasks, .span_count = 1,
                                           .where = where, .where_count = 2});
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 1, 2);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 1, 2);
    peer_event(&bench, TESSI_FLOW_READY_OFFER, PEER, 4, 2);
    peer_event(&bench, TESSI_FLOW_DATA, PEER, 4, 2); /* two inputs and an output: all there is */
    assert_int_equal(stats(&bench).restarted_tasks, 1);
    assert_int_equal(nth(&bench, TESSI_FLOW_FREE_BLOCK, 0).block, run.out);
    assert_int_equal(the(&bench, TESSI_FLOW_RUN).task.layer, 3);
    scheduler(&bench, TESSI_FLOW_STEAL, at(OTHER, 2, 1, 1)); /* it has been started once */
    assert_int_equal(report(&bench)->kept.count, 1);
    destroy(&bench);
    tessi_layer_destroy(from);
    tessi_layer_destroy(also);
    tessi_layer_destroy(fold);
    tessi_layer_destroy(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_wakes_directly),
        cmocka_unit_test(test_readers_queue_up),
        cmocka_unit_test(test_reader_of_a_failure_starts_over),
        cmocka_unit_test(test_readers_of_distrusted_start_over),
        cmocka_unit_test(test_suspects_run_alone),
        cmocka_unit_test(test_duplicate_assignments),
        cmocka_unit_test(test_too_large_is_refused),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_inline_offer_lease),
        cmocka_unit_test(test_one_read_for_many_tasks),
        cmocka_unit_test(test_moved_ask_and_location),
        cmocka_unit_test(test_peer_lost),
        cmocka_unit_test(test_revoke_waits_for_the_step),
        cmocka_unit_test(test_serving),
        cmocka_unit_test(test_leases_of_a_lost_peer_end),
        cmocka_unit_test(test_steal),
        cmocka_unit_test(test_users_follow_a_stolen_task),
        cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_free_of_a_running_task),
        cmocka_unit_test(test_free_while_asked_and_pulling),
        cmocka_unit_test(test_freed_copy_is_not_kept),
        cmocka_unit_test(test_drop_layer),
        cmocka_unit_test(test_stream_order_and_window),
        cmocka_unit_test(test_receive),
        cmocka_unit_test(test_copies_go_first),
        cmocka_unit_test(test_spill_serve_load),
        cmocka_unit_test(test_damaged_file_is_reported),
        cmocka_unit_test(test_failed_spill_tries_another),
        cmocka_unit_test(test_leases_are_revoked_for_room),
        cmocka_unit_test(test_reserve_for_the_oldest),
        cmocka_unit_test(test_younger_accumulator_stays_while_it_can),
        cmocka_unit_test(test_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
