/* Why a task waits, as the scheduler and the worker's planner say it; what the scheduler notes for the trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/sched/explain/explain.h"
#include "core/sched/sched.h"
#include "tests/unit/flow_layers.h"
#include "worker/flow/flow.h"

#define CLIENT 100u
#define MIB (UINT64_C(1) << 20)

/* ——— the scheduler ——— */

struct cluster {
    struct tessi_sched *sched;
    struct tessi_sched_actions actions;
    int64_t now_ns;
    struct tessi_spans given; /* to the first worker, as long as there is no other */
    struct tessi_spans asked_back;
    uint32_t notes[TESSI_TRACE_KIND_END]; /* by kind */
    struct tessi_trace_record last[TESSI_TRACE_KIND_END];
};

static void event(struct cluster *cluster, struct tessi_sched_event event)
{
    event.now_ns = cluster->now_ns += 1000;
    tessi_sched_step(cluster->sched, &event, &cluster->actions);
    tessi_sched_verify(cluster->sched);
    for (size_t i = 0; i < cluster->actions.note_count; i++) {
        const struct tessi_trace_record *note = &cluster->actions.notes[i];
        assert_int_equal(note->start_ns, cluster->now_ns);
        cluster->notes[note->kind]++;
        cluster->last[note->kind] = *note;
    }
    for (size_t i = 0; i < cluster->actions.count; i++) {
        const struct tessi_sched_action *action = &cluster->actions.items[i];
        for (size_t s = 0; s < action->span_count; s++) {
            if (action->kind == TESSI_SCHED_ASSIGN && action->peer == 1) {
                tessi_spans_push(&cluster->given, action->spans[s]);
            } else if (action->kind == TESSI_SCHED_STEAL) {
                tessi_spans_push(&cluster->asked_back, action->spans[s]);
            }
        }
    }
}

static void join(struct cluster *cluster, uint32_t id, const char *name)
{
    struct tessi_sched_event joins = {.kind = TESSI_SCHED_WORKER_JOIN, .peer = id};
    joins.worker = (struct tessi_worker_info){.slots = 1, .memory_bytes = 1 << 30};
    (void)snprintf(joins.worker.family, sizeof joins.worker.family, "plain");
    (void)snprintf(joins.worker.name, sizeof joins.worker.name, "%s", name);
    event(cluster, joins);
}

/* Layer 1: tasks of so many nanoseconds; layer 2 reads them one by one and is wanted. */
static struct cluster cluster_with_work(uint32_t workers, int64_t tasks, uint64_t nanoseconds)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    struct cluster cluster = {.sched = tessi_sched_create(&config)};
    event(&cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_CLIENT_JOIN, .peer = CLIENT});
    for (uint32_t w = 1; w <= workers; w++) {
        join(&cluster, w, "first");
    }
    struct tessi_layer *layers[2];
    layers[0] = layer_source(CLIENT, 1, TESSI_OP_SYNTHETIC, 1, tasks, 800);
    layers[0]->as.synthetic.nanoseconds = nanoseconds;
    layers[1] = layer_same(CLIENT, 2, layers[0], NULL, 800);
    uint32_t wanted = 2;
    event(&cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                               .peer = CLIENT,
                                               .layers = layers,
                                               .layer_count = 2,
                                               .ids = &wanted,
                                               .id_count = 1});
    return cluster;
}

static void end(struct cluster *cluster)
{
    tessi_spans_fini(&cluster->given);
    tessi_spans_fini(&cluster->asked_back);
    tessi_sched_destroy(cluster->sched);
}

static void report(struct cluster *cluster, uint32_t worker, struct tessi_report *report)
{
    event(cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_REPORT, .peer = worker, .report = report});
    tessi_report_fini(report);
}

static void started(struct cluster *cluster, struct tessi_span span)
{
    struct tessi_report said = {0};
    span.count = 1;
    tessi_spans_push(&said.started, span);
    report(cluster, 1, &said);
}

static struct tessi_sched_why why_of(const struct cluster *cluster, uint32_t layer, uint64_t index)
{
    struct tessi_sched_why why;
    assert_true(tessi_sched_explain(cluster->sched, (struct tessi_task){0, layer, index}, &why));
    assert_int_equal(why.task.session, CLIENT);
    return why;
}

static void says(struct tessi_sched_why why, const char *words)
{
    if (strstr(why.text, words) == NULL) {
        fail_msg("'%s' is not in: %s", words, why.text);
    }
}

static void test_without_workers(void **state)
{
    (void)state;
    struct cluster cluster = cluster_with_work(0, 4, 100000000);
    struct tessi_sched_why why = why_of(&cluster, 2, 1);
    assert_string_equal(why.state, "unassigned");
    says(why, "no worker is there");
    assert_false(tessi_sched_explain(cluster.sched, (struct tessi_task){CLIENT, 2, 4}, &why));
    assert_false(tessi_sched_explain(cluster.sched, (struct tessi_task){CLIENT + 1, 2, 1}, &why));
    assert_false(tessi_sched_explain(cluster.sched, (struct tessi_task){0, 3, 0}, &why));
    assert_int_equal(cluster.notes[TESSI_TRACE_LAYER], 2);
    assert_int_equal(cluster.last[TESSI_TRACE_LAYER].layer, 2);
    assert_int_equal(cluster.last[TESSI_TRACE_LAYER].amount, 4);
    end(&cluster);
}

static void test_given_and_not_given(void **state)
{
    (void)state;
    struct cluster cluster = cluster_with_work(1, 40, 100000000);
    assert_int_equal(cluster.notes[TESSI_TRACE_JOIN], 1);
    struct tessi_span first = cluster.given.items[0];
    struct tessi_sched_why why = why_of(&cluster, first.layer, first.first);
    assert_string_equal(why.state, "assigned");
    assert_int_equal(why.worker, 1);
    says(why, "given to first (worker 1)");
    why = why_of(&cluster, 2, 39);
    assert_string_equal(why.state, "unassigned");
    assert_int_equal(why.worker, 0);
    says(why, "it is kept for first (worker 1), with ");
    says(why, "its input 1:39 (synthetic) has not been given");
    why = why_of(&cluster, 2, first.first);
    says(why, "its input 1:0 (synthetic) waits at first (worker 1)");
    started(&cluster, first);
    assert_string_equal(why_of(&cluster, first.layer, first.first).state, "running");
    says(why_of(&cluster, 2, first.first), "its input 1:0 (synthetic) is being made by first (worker 1)");
    end(&cluster);
}

static void test_the_first_that_waits(void **state)
{
    (void)state;
    struct cluster cluster = cluster_with_work(1, 4, 100000000);
    struct tessi_task task;
    size_t position = 0;
    bool any = false;
    assert_true(tessi_sched_first_waiting(cluster.sched, &position, &task, &any));
    assert_true(any && task.session == CLIENT && task.layer == 1 && task.index == 0);
    assert_false(tessi_sched_first_waiting(cluster.sched, &position, &task, &any));
    started(&cluster, cluster.given.items[0]); /* what runs does not wait */
    position = 0;
    assert_true(tessi_sched_first_waiting(cluster.sched, &position, &task, &any));
    assert_false(task.layer == 1 && task.index == 0);
    uint32_t wanted = 2;
    event(&cluster,
          (struct tessi_sched_event){.kind = TESSI_SCHED_CANCEL, .peer = CLIENT, .ids = &wanted, .id_count = 1});
    position = 0;
    assert_true(tessi_sched_first_waiting(cluster.sched, &position, &task, &any));
    assert_false(any);
    end(&cluster);
}

/* A thief that joins takes what was not handed out, and asks back what was; one of those has started. */
static void test_steals_are_noted_with_their_reasons(void **state)
{
    (void)state;
    struct cluster cluster = cluster_with_work(1, 40, 100000000);
    join(&cluster, 2, "thief");
    assert_true(cluster.notes[TESSI_TRACE_TAKE] > 0);
    assert_true(cluster.last[TESSI_TRACE_TAKE].giver == 1 && cluster.last[TESSI_TRACE_TAKE].peer == 2);
    assert_int_equal(cluster.last[TESSI_TRACE_TAKE].why, TESSI_TRACE_WHY_IDLE_SLOTS);
    end(&cluster);

    cluster = cluster_with_work(1, 3, 1000000); /* all of it has been handed out */
    join(&cluster, 2, "thief");
    assert_int_equal(cluster.notes[TESSI_TRACE_TAKE], 0);
    assert_true(cluster.asked_back.count > 0 && cluster.notes[TESSI_TRACE_ASK] > 0);
    says(why_of(&cluster, cluster.asked_back.items[0].layer, cluster.asked_back.items[0].first),
         "an idle worker has asked for it");
    struct tessi_report answer = {0};
    struct tessi_span kept = cluster.asked_back.items[0];
    kept.count = 1;
    tessi_spans_push(&answer.started, kept);
    tessi_spans_push(&answer.kept, kept);
    report(&cluster, 1, &answer);
    assert_int_equal(cluster.notes[TESSI_TRACE_REFUSE], 1);
    assert_int_equal(cluster.last[TESSI_TRACE_REFUSE].why, TESSI_TRACE_WHY_STARTED);
    assert_int_equal(cluster.last[TESSI_TRACE_REFUSE].peer, 2);
    struct tessi_sched_status status;
    tessi_sched_status(cluster.sched, &status);
    assert_int_equal(status.steals_refused[TESSI_TRACE_WHY_STARTED], 1);
    event(&cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVE, .peer = 2});
    assert_int_equal(cluster.notes[TESSI_TRACE_LEAVE], 1);
    end(&cluster);
}

/* What a worker that leaves is asked for goes to anybody. */
static void test_a_worker_that_leaves(void **state)
{
    (void)state;
    struct cluster cluster = cluster_with_work(1, 3, 1000000);
    event(&cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_WORKER_LEAVING, .peer = 1, .wait_ns = 1000000000});
    assert_true(cluster.notes[TESSI_TRACE_ASK] > 0);
    assert_int_equal(cluster.last[TESSI_TRACE_ASK].why, TESSI_TRACE_WHY_LEAVING);
    assert_int_equal(cluster.last[TESSI_TRACE_ASK].peer, 0);
    struct tessi_report answer = {0};
    for (uint64_t i = 0; i < cluster.asked_back.items[0].count; i++) { /* the first one has begun */
        struct tessi_span one = cluster.asked_back.items[0];
        one.first += i;
        one.count = 1;
        tessi_spans_push(i == 0 ? &answer.kept : &answer.stolen, one);
    }
    report(&cluster, 1, &answer);
    assert_true(cluster.notes[TESSI_TRACE_CONFIRM] > 0);
    assert_int_equal(cluster.last[TESSI_TRACE_CONFIRM].why, TESSI_TRACE_WHY_LEAVING);
    struct tessi_sched_status status;
    tessi_sched_status(cluster.sched, &status);
    assert_int_equal(status.steals, 0);
    for (int why = 0; why < TESSI_TRACE_WHY_END; why++) {
        assert_int_equal(status.steals_refused[why], 0); /* nobody was refused what it wanted */
    }
    end(&cluster);
}

/* Two submissions of one session; the second is urgent, and the third demands what no worker has. */
static void test_task_options(void **state)
{
    (void)state;
    struct cluster cluster = cluster_with_work(1, 40, 100000000);
    for (uint32_t id = 3; id <= 4; id++) {
        struct tessi_layer *layer = layer_source(CLIENT, id, TESSI_OP_SYNTHETIC, 1, 40, 800);
        layer->as.synthetic.nanoseconds = 100000000;
        if (id == 3) {
            tessi_layer_own_task_options(layer)->priority = 5;
        } else {
            assert_int_equal(tessi_resources_parse("tape=2", &tessi_layer_own_task_options(layer)->demand, NULL),
                             TESSI_OK);
        }
        event(&cluster, (struct tessi_sched_event){.kind = TESSI_SCHED_SUBMIT,
                                                   .peer = CLIENT,
                                                   .layers = &layer,
                                                   .layer_count = 1,
                                                   .ids = &id,
                                                   .id_count = 1});
    }
    says(why_of(&cluster, 2, 39), "40 tasks that its session's priorities or policy prefer are kept there too");
    assert_null(strstr(why_of(&cluster, 3, 39).text, "prefer"));
    struct tessi_sched_why why = why_of(&cluster, 4, 0);
    says(why, "no worker has the resources that it demands, tape=2");
    assert_null(strstr(why.text, "waits for any worker"));
    assert_null(strstr(why.text, "nobody needs"));
    end(&cluster);
}

/* ——— the worker ——— */

struct planner {
    struct tessi_flow *flow;
    struct tessi_flow_actions actions;
    char text[1024];
};

static void step(struct planner *planner, struct tessi_flow_event event)
{
    planner->actions.count = 0;
    tessi_flow_step(planner->flow, &event, &planner->actions);
    tessi_flow_verify(planner->flow);
}

static void assign(struct planner *planner, uint32_t layer, uint64_t index, uint64_t order, uint32_t owner_of_input)
{
    struct tessi_span tasks = {
        .session = CLIENT, .layer = layer, .first = index, .count = 1, .epoch = 1, .order = order};
    struct tessi_span where = {
        .session = CLIENT, .layer = 1, .first = index, .count = 1, .epoch = 1, .worker = owner_of_input};
    step(planner, (struct tessi_flow_event){.kind = TESSI_FLOW_ASSIGN,
                                            .now_ns = 2000000000,
                                            .spans = &tasks,
                                            .span_count = 1,
                                            .where = &where,
                                            .where_count = owner_of_input != 0});
}

static void there(struct planner *planner, uint32_t layer, uint64_t index, const char *words)
{
    const char *text = tessi_flow_explain(planner->flow, (struct tessi_task){CLIENT, layer, index}, planner->text,
                                          sizeof planner->text);
    if (strstr(text, words) == NULL) {
        fail_msg("'%s' is not in: %s", words, text);
    }
}

static struct planner planner_with_layers(uint64_t memory_bytes, int64_t block_bytes)
{
    struct tessi_flow_config config = {
        .self = 1, .slots = 1, .slot_depth = 1, .window = 2, .memory_bytes = memory_bytes, .pull_bytes = memory_bytes};
    struct planner planner = {.flow = tessi_flow_create(&config)};
    struct tessi_layer *source = layer_source(CLIENT, 1, TESSI_OP_SYNTHETIC, 1, 8, block_bytes);
    struct tessi_layer *reader = layer_same(CLIENT, 2, source, NULL, block_bytes);
    step(&planner, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = source});
    step(&planner, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = reader});
    return planner;
}

static void test_a_worker_says_what_is_missing(void **state)
{
    (void)state;
    struct planner planner = planner_with_layers(10 * MIB, (int64_t)MIB);
    there(&planner, 2, 0, "has not arrived");
    assign(&planner, 2, 0, 5, 7);
    there(&planner, 2, 0, "its input 1:0 (1048576 bytes) is at a worker that cannot be reached yet: worker 7");
    step(&planner, (struct tessi_flow_event){.kind = TESSI_FLOW_PEER_UP, .peer = 7});
    there(&planner, 2, 0, "has been asked for and is not made yet");
    step(&planner, (struct tessi_flow_event){.kind = TESSI_FLOW_READY_OFFER, .peer = 7, .task = {CLIENT, 1, 0}});
    there(&planner, 2, 0, "is being fetched: worker 7");
    step(&planner, (struct tessi_flow_event){.kind = TESSI_FLOW_DATA, .peer = 7, .task = {CLIENT, 1, 0}});
    there(&planner, 2, 0, "it is at slot 0, step 1 of 1, with 0 steps before it");
    assert_int_equal(planner.actions.items[planner.actions.count - 1].assigned_ns, 2000000000);
    assign(&planner, 1, 1, 6, 0);
    there(&planner, 1, 1, "it waits for a slot: 1 of 1 are busy");
    there(&planner, 1, 1, "1 older tasks are there");
    tessi_flow_destroy(planner.flow);
    tessi_free(planner.actions.items);
}

static void test_a_worker_says_that_memory_is_full(void **state)
{
    (void)state;
    struct planner planner = planner_with_layers(2 * MIB, (int64_t)MIB);
    for (uint64_t i = 0; i < 2; i++) { /* two blocks that stay: nobody frees them, and there is no spill */
        assign(&planner, 1, i, i, 0);
        struct tessi_flow_action run = planner.actions.items[planner.actions.count - 1];
        assert_int_equal(run.kind, TESSI_FLOW_RUN);
        struct tessi_flow_outcome outcome = {.slot = run.slot, .run = run.run, .ran_ns = 5};
        step(&planner,
             (struct tessi_flow_event){.kind = TESSI_FLOW_STEP_DONE, .outcomes = &outcome, .outcome_count = 1});
        there(&planner, 1, i, "it is done here");
    }
    assign(&planner, 1, 2, 2, 0);
    there(&planner, 1, 2, "it waits for memory: its block has 1048576 bytes, 2097152 of 2097152 are in use");
    tessi_flow_destroy(planner.flow);
    tessi_free(planner.actions.items);
}

static void test_a_worker_says_what_its_task_options_wait_for(void **state)
{
    (void)state;
    struct tessi_flow_config config = {
        .self = 1, .slots = 2, .slot_depth = 1, .window = 2, .memory_bytes = 10 * MIB, .pull_bytes = 10 * MIB};
    assert_int_equal(tessi_resources_parse("ssd=3", &config.resources, NULL), TESSI_OK);
    struct planner planner = {.flow = tessi_flow_create(&config)};
    struct tessi_layer *layers[3];
    for (uint32_t i = 0; i < 3; i++) {
        layers[i] = layer_source(CLIENT, i + 1, TESSI_OP_SYNTHETIC, 1, 8, 800);
        tessi_layer_own_task_options(layers[i])->priority = i == 2 ? 4 : 0;
        assert_int_equal(
            tessi_resources_parse(i == 0 ? "ssd=2" : "", &tessi_layer_own_task_options(layers[i])->demand, NULL),
            TESSI_OK);
        step(&planner, (struct tessi_flow_event){.kind = TESSI_FLOW_LAYER, .layer = layers[i]});
    }
    assign(&planner, 1, 0, 0, 0);
    assign(&planner, 1, 1, 1, 0); /* a slot is free, and only one of ssd */
    there(&planner, 1, 1, "it waits for a resource: it demands ssd=2, tasks here hold ssd=2 of ssd=3");
    assign(&planner, 2, 0, 2, 0);
    assign(&planner, 2, 1, 3, 0);
    there(&planner, 2, 1, "it waits for a slot: 2 of 2 are busy");
    assign(&planner, 3, 0, 4, 0);
    there(&planner, 2, 1, "1 tasks of higher priority are ready too and go first");
    there(&planner, 3, 0, "it waits for a slot: 2 of 2 are busy");
    assert_null(strstr(planner.text, "higher priority"));
    tessi_flow_destroy(planner.flow);
    tessi_free(planner.actions.items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_workers),
        cmocka_unit_test(test_given_and_not_given),
        cmocka_unit_test(test_the_first_that_waits),
        cmocka_unit_test(test_steals_are_noted_with_their_reasons),
        cmocka_unit_test(test_a_worker_that_leaves),
        cmocka_unit_test(test_task_options),
        cmocka_unit_test(test_a_worker_says_what_is_missing),
        cmocka_unit_test(test_a_worker_says_that_memory_is_full),
        cmocka_unit_test(test_a_worker_says_what_its_task_options_wait_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
