/* Fuzzer of the scheduler, from the bytes of messages on: several workers and clients, honest and lying, against
 * tessi_driver and the machine behind it. See runner.h for how it is run.
 *
 * Workers know what they were asked to do, so that most of what they say is taken; a byte of the input then decides what
 * of it is forged. What the server guarantees holds: ids are never used twice, time does not go back, and a peer that
 * was ended or has gone is nobody any more. Nothing else does: a peer may say whatever can be packed.
 *
 * After every step the machine is verified and all that it sends can be read. In the end the liars go and two honest
 * workers come: whatever was said before, everything that is still needed is done or has failed soon, and when the
 * clients have gone nothing is left.
 *
 * tests/run: one thread */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/sched/explain/explain.h"
#include "core/server/driver.h"
#include "core/wire/message.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/runner.h"
#include "tests/sim/graph.h"
#include "tests/unit/sample_message.h"

enum {
    ACTORS = 7,
    HONEST = 2,      /* of ACTORS, in the end */
    KNOWN = 48,      /* spans that a liar remembers */
    TASKS_MAX = 120, /* of one client's graph */
    STEPS_MAX = 256,
    IDLE_MAX = 40, /* seconds in the end without anything to do */
    RUN_ID = 7,
};

struct known { /* what a worker was asked */
    enum tessi_msg_type asked;
    struct tessi_span span;
};

struct actor {
    uint32_t peer; /* 0: nobody */
    bool worker;
    struct known *known; /* owned */
    size_t known_count, known_capacity;
    struct sim_graph graph; /* of a client */
    size_t submitted;       /* the first so many of its layers */
    size_t submitting;      /* those from this one on are being submitted */
    struct random random;
};

static struct {
    struct input input;
    struct tessi_driver *driver;
    struct actor actors[ACTORS];
    uint32_t peers;
    int64_t now_ns;
    bool ending;              /* the honest ones are there */
    struct tessi_buffer last; /* message, to be said again */
} fuzz;

static const struct sim_graph_options graph_options = {.scale = 16, .tasks_max = TASKS_MAX, .step_max_ns = 1000000};

/* ——— what the scheduler says ——— */

static struct actor *actor_of(uint32_t peer)
{
    for (size_t i = 0; i < ACTORS; i++) {
        if (peer != 0 && fuzz.actors[i].peer == peer) {
            return &fuzz.actors[i];
        }
    }
    return NULL;
}

static void leave(struct actor *actor)
{
    sim_graph_fini(&actor->graph);
    tessi_free(actor->known);
    *actor = (struct actor){0};
}

static void remember(struct actor *actor, enum tessi_msg_type asked, const struct tessi_spans *spans)
{
    for (size_t i = 0; i < spans->count; i++) {
        bool all = fuzz.ending || actor->known_count < KNOWN;
        size_t to = all ? actor->known_count++ : input_below(&fuzz.input, KNOWN);
        tessi_grow(&actor->known, &actor->known_capacity, actor->known_count, sizeof *actor->known);
        actor->known[to] = (struct known){asked, spans->items[i]};
    }
}

static void listen(struct actor *actor, const struct tessi_message *message)
{
    if (message->type == TESSI_MSG_REJECT || message->type == TESSI_MSG_BYE) {
        leave(actor);
    } else if (message->type == TESSI_MSG_REFUSED && !actor->worker) {
        for (size_t l = actor->submitting; l < actor->submitted; l++) {
            actor->graph.layers[l].released = true;
        }
    } else if (message->type == TESSI_MSG_ASSIGN && actor->worker) {
        remember(actor, TESSI_MSG_ASSIGN, &message->as.assign.spans);
    } else if (message->type == TESSI_MSG_STEAL && actor->worker) {
        remember(actor, TESSI_MSG_STEAL, &message->as.steal.spans);
    } else if (message->type == TESSI_MSG_ADOPT && actor->worker) {
        remember(actor, TESSI_MSG_ADOPT, &message->as.adopt.spans);
    } else if (message->type == TESSI_MSG_TAKE_OVER && actor->worker) {
        remember(actor, TESSI_MSG_TAKE_OVER, &message->as.take_over.spans);
    }
}

/* Of every step. */
static void look(void)
{
    const struct tessi_outbox *outbox = tessi_driver_outbox(fuzz.driver);
    tessi_sched_verify(tessi_driver_sched(fuzz.driver));
    for (size_t i = 0; i < outbox->count; i++) {
        const struct tessi_outgoing *item = &outbox->items[i];
        struct actor *actor = actor_of(item->peer);
        struct tessi_message message;
        struct tessi_error error = {0};
        if (tessi_message_unpack(outbox->bytes.data + item->offset, item->size, &message, &error) != TESSI_OK) {
            fprintf(stderr, "the scheduler sends what nobody can read: %s\n", error.text);
            abort();
        }
        if (actor != NULL) {
            listen(actor, &message);
        }
        tessi_message_fini(&message);
    }
}

/* ——— what is said to it ——— */

static void receive(uint32_t peer, const void *bytes, size_t size)
{
    struct tessi_error why;
    fuzz_count();
    (void)tessi_driver_receive(fuzz.driver, fuzz.now_ns, peer, bytes, size, &why);
    look();
}

static void say(uint32_t peer, struct tessi_message *message)
{
    message->run_id = RUN_ID;
    tessi_buffer_clear(&fuzz.last);
    if (tessi_message_pack(&fuzz.last, message, NULL) == TESSI_OK) {
        char text[1024];
        fuzz_show("%lld ms, peer %u: %s", (long long)(fuzz.now_ns / 1000000), peer,
                  tessi_message_dump(message, text, sizeof text));
        receive(peer, fuzz.last.data, fuzz.last.size);
    }
}

static void say_nothing_but(uint32_t peer, enum tessi_msg_type type)
{
    struct tessi_message message = {.type = type};
    say(peer, &message);
}

static void tick(int64_t after_ns)
{
    fuzz_count();
    fuzz.now_ns += after_ns;
    tessi_driver_tick(fuzz.driver, fuzz.now_ns);
    look();
}

static void gone(struct actor *actor)
{
    fuzz_count();
    uint32_t peer = actor->peer;
    leave(actor);
    tessi_driver_gone(fuzz.driver, fuzz.now_ns, peer);
    look();
}

static void join_worker(struct actor *actor, bool honest)
{
    static const char *const resources[] = {"", "ssd=1", "ssd=2,license=1", "=", "ssd=4294967295"};
    static const char *const families[] = {"plain", "plain,other", "other,plain", "other", ""};
    struct input *input = &fuzz.input;
    struct tessi_message message = {.type = TESSI_MSG_HELLO_WORKER};
    struct tessi_msg_hello_worker *hello = &message.as.hello_worker;
    bool odd = !honest && input_chance(input, 64);
    actor->peer = ++fuzz.peers;
    actor->worker = true;
    (void)snprintf(hello->hello.families, sizeof hello->hello.families, "%s",
                   honest ? families[1]
                   : odd  ? families[input_below(input, 5)]
                          : families[0]);
    hello->name = "w";
    hello->host = honest || input_chance(input, 128) ? "a" : "b";
    hello->address = "tcp://127.0.0.1:1";
    hello->slots = odd ? (uint32_t)input_number(input) : 1 + input_below(input, 3);
    hello->memory_bytes = odd ? input_number(input) : UINT64_C(1) << 30;
    hello->spill_bytes = odd ? input_number(input) : UINT64_C(1) << 30;
    hello->resources = honest ? resources[2] : resources[input_below(input, odd ? 5 : 3)];
    hello->processor = "p";
    hello->device = "d";
    if (!honest && input_chance(input, 64)) {
        hello->devices = odd ? (uint32_t)input_number(input) : 1 + input_below(input, 2);
        hello->device_memory_bytes = input_number(input);
        hello->device_gflops = (double)input_number(input);
        hello->device_flops_min = (double)(int64_t)input_number(input);
        hello->device_bytes_min = input_chance(input, 16) ? (double)NAN : (double)input_number(input);
    }
    say(actor->peer, &message);
}

static void join(struct actor *actor)
{
    if (input_chance(&fuzz.input, 150)) {
        join_worker(actor, false);
        return;
    }
    struct tessi_message message = {.type = TESSI_MSG_HELLO_CLIENT};
    message.as.hello_client.name = "c";
    actor->peer = ++fuzz.peers;
    actor->graph.session = actor->peer;
    actor->random.state = input_byte(&fuzz.input) << 8 | input_byte(&fuzz.input);
    say(actor->peer, &message);
}

/* ——— clients ——— */

static void wish(struct tessi_layer *layer)
{
    static const char *const demands[] = {"ssd=1", "ssd=2", "license=1", "license=1,ssd=1"};
    struct input *input = &fuzz.input;
    uint32_t choice = input_byte(input);
    if (choice < 40) {
        tessi_layer_own_task_options(layer)->priority = (int32_t)(choice % 17) - 8;
        tessi_layer_own_task_options(layer)->policy = (enum tessi_policy)(input_below(input, TESSI_POLICIES));
    } else if (choice < 70) {
        TESS_ASSERT(tessi_resources_parse(demands[choice % 4], &tessi_layer_own_task_options(layer)->demand, NULL) ==
                    TESSI_OK);
    }
    layer->push = choice % 8 == 7;
}

static void spoil(struct tessi_layer *layer)
{
    struct input *input = &fuzz.input;
    switch (input_below(input, layer->ninputs > 0 ? 5 : 3)) {
    case 0:
        layer->session = (uint32_t)input_number(input);
        break;
    case 1:
        layer->id = (uint32_t)input_number(input);
        break;
    case 2:
        tessi_layer_own_task_options(layer)->priority = (int32_t)input_number(input);
        break;
    case 3:
        layer->reads[0] = (uint32_t)input_number(input);
        break;
    default:
        layer->input[0].rules.rule[0].value = (int64_t)input_number(input);
        break;
    }
}

static void submit(struct actor *client)
{
    struct input *input = &fuzz.input;
    struct tessi_layer *layers[16] = {0};
    uint32_t wanted[4];
    size_t before = client->graph.count, count = 0, wants = input_below(input, 4);
    sim_graph_extend(&client->graph, &client->random, &graph_options, 1 + input_below(input, 3));
    client->submitting = input_chance(input, 250) ? before : input_below(input, before); /* or some of them again */
    for (size_t l = client->submitting; l < client->graph.count && count < 16; l++) {
        layers[count] = tessi_layer_copy(client->graph.layers[l].layer);
        wish(layers[count]);
        if (input_chance(input, 4)) {
            spoil(layers[count]);
        }
        count++;
    }
    client->submitted = client->submitting + count;
    for (size_t i = 0; i < wants; i++) {
        bool odd = client->submitted == 0 || input_chance(input, 8);
        wanted[i] = odd ? (uint32_t)input_number(input) : 1 + input_below(input, client->submitted);
    }
    struct tessi_message message = {.type = TESSI_MSG_SUBMIT};
    message.as.submit.request = input_byte(input);
    message.as.submit.layers = (struct tessi_layer_list){layers, count};
    message.as.submit.wanted = (struct tessi_id_list){wanted, wants};
    say(client->peer, &message);
    for (size_t i = 0; i < count; i++) {
        tessi_layer_destroy(layers[i]);
    }
}

static void let_go(struct actor *client, enum tessi_msg_type how)
{
    struct input *input = &fuzz.input;
    uint32_t ids[4];
    size_t count = 1 + input_below(input, 4);
    for (size_t i = 0; i < count; i++) {
        bool odd = client->graph.count == 0 || input_chance(input, 8);
        ids[i] = odd ? (uint32_t)input_number(input) : 1 + input_below(input, client->graph.count);
        struct sim_layer *layer = sim_graph_layer(&client->graph, ids[i]);
        if (layer != NULL && how == TESSI_MSG_RELEASE) {
            layer->released = !input_chance(input, 16); /* else something may read it all the same */
        }
    }
    struct tessi_message message = {.type = how};
    *(how == TESSI_MSG_RELEASE ? &message.as.release.ids : &message.as.cancel.ids) = (struct tessi_id_list){ids, count};
    say(client->peer, &message);
}

/* ——— workers ——— */

static void forge(struct tessi_span *span)
{
    struct input *input = &fuzz.input;
    switch (input_below(input, 32)) {
    case 0:
        span->epoch += input_byte(input) - 4;
        break;
    case 1:
        span->first = input_number(input);
        break;
    case 2:
        span->count = input_number(input);
        break;
    case 3:
        span->session = (uint32_t)input_number(input);
        break;
    case 4:
        span->layer = (uint32_t)input_number(input);
        break;
    case 5:
        span->worker = (uint32_t)input_number(input);
        break;
    case 6:
        span->time_ns = (int64_t)input_number(input);
        break;
    case 7:
        span->device = (uint32_t)input_number(input);
        break;
    default:
        break;
    }
    span->count = span->count == 0 || span->count > UINT64_MAX - span->first ? 1 : span->count;
}

/* A span that somebody was asked about: most often this worker. */
static struct tessi_span known_span(const struct actor *actor)
{
    struct input *input = &fuzz.input;
    const struct actor *whose = input_chance(input, 24) ? &fuzz.actors[input_below(input, ACTORS)] : actor;
    struct tessi_span span = {.session = actor->peer, .layer = 1, .count = 1, .epoch = 1};
    if (whose->known_count > 0) {
        span = whose->known[input_below(input, whose->known_count)].span;
    }
    if (span.count > 1 && input_chance(input, 64)) {
        uint64_t skipped = input_below(input, (size_t)span.count);
        span.first += skipped;
        span.count -= skipped;
    }
    return span;
}

static void fail(struct tessi_report *report, const struct tessi_span *span)
{
    tessi_grow(&report->failures, &report->failure_capacity, report->failure_count + 1, sizeof *report->failures);
    report->failures[report->failure_count++] =
        (struct tessi_failure){.task = {span->session, span->layer, span->first},
                               .epoch = span->epoch,
                               .status = (enum tessi_status)input_number(&fuzz.input),
                               .text = tessi_strdup(input_chance(&fuzz.input, 128) ? "it is said so" : "")};
}

static void lie(struct actor *worker)
{
    struct input *input = &fuzz.input;
    struct tessi_message message = {.type = TESSI_MSG_REPORT};
    struct tessi_report *report = &message.as.report.report;
    struct tessi_spans *lists[] = {
        &report->done,   &report->started, &report->copied,  &report->dropped, &report->adopted, &report->missing,
        &report->stolen, &report->kept,    &report->refused, &report->starved, &report->shed,
    };
    for (size_t count = 1 + input_below(input, 6); count > 0; count--) {
        struct tessi_span span = known_span(worker);
        span.time_ns = (int64_t)input_byte(input) * 10000;
        forge(&span);
        if (input_chance(input, 24)) {
            fail(report, &span);
        } else {
            tessi_spans_push(lists[input_below(input, sizeof lists / sizeof *lists)], span);
        }
    }
    report->memory_used_bytes = input_number(input);
    report->short_bytes = report->starved.count > 0 || input_chance(input, 8) ? input_number(input) : 0;
    report->busy = input_chance(input, 64) ? input_number(input) : 0;
    report->spill_error = input_chance(input, 16) ? tessi_strdup("the disk is full") : NULL;
    report->fetched_bytes = input_number(input);
    report->pulled_bytes = input_number(input);
    report->pulling_ns = input_number(input);
    report->devices_lost = input_chance(input, 16) ? input_number(input) : 0;
    say(worker->peer, &message);
    tessi_report_fini(report);
}

/* Does what it was asked first: a few at once. */
static void work(struct actor *worker, size_t most)
{
    struct tessi_message message = {.type = TESSI_MSG_REPORT};
    struct tessi_report *report = &message.as.report.report;
    size_t count = worker->known_count < most ? worker->known_count : most;
    for (size_t i = 0; i < count; i++) {
        const struct known *known = &worker->known[i];
        struct tessi_span span = known->span;
        span.time_ns = 100000 * (int64_t)span.count;
        if (known->asked == TESSI_MSG_ASSIGN) {
            tessi_spans_push(&report->started, span);
            tessi_spans_push(&report->done, span);
        } else if (known->asked == TESSI_MSG_STEAL) {
            tessi_spans_push(input_chance(&fuzz.input, 128) ? &report->stolen : &report->kept, span);
        } else {
            tessi_spans_push(input_chance(&fuzz.input, 64) ? &report->missing : &report->adopted, span);
        }
    }
    if (count > 0) {
        worker->known_count -= count;
        memmove(worker->known, worker->known + count, worker->known_count * sizeof *worker->known);
    }
    say(worker->peer, &message);
    tessi_report_fini(report);
}

static void locate(struct actor *actor)
{
    struct tessi_message message = {.type = TESSI_MSG_LOCATE};
    struct tessi_span span = known_span(actor);
    forge(&span);
    message.as.locate.spans = tessi_spans_view(&span, 1);
    say(actor->peer, &message);
}

/* ——— anybody ——— */

static void say_anything(struct actor *actor)
{
    struct input *input = &fuzz.input;
    struct sample sample = {input_byte(input)};
    uint32_t code = input_below(input, TESSI_MSG_CODE_END);
    struct tessi_message message;
    if (tessi_wire_row(code) != NULL) {
        sample_message(&sample, (enum tessi_msg_type)code, &message);
        say(actor->peer, &message);
        tessi_message_fini(&message);
    }
}

static void say_bytes(struct actor *actor)
{
    struct input *input = &fuzz.input;
    size_t left = (size_t)(input->end - input->at), size = input_byte(input);
    size = size < left ? size : left == 0 ? 0 : left - 1;
    receive(actor->peer, input->at, size);
    input->at += size;
}

/* As `tessera status` and `--why` do, and a scheduler that ends. */
static void ask(void)
{
    struct input *input = &fuzz.input;
    const struct tessi_sched *sched = tessi_driver_sched(fuzz.driver);
    struct tessi_span span = known_span(&fuzz.actors[input_below(input, ACTORS)]);
    struct tessi_sched_status status;
    struct tessi_sched_why why;
    struct tessi_error error;
    size_t size;
    forge(&span);
    (void)tessi_sched_explain(sched, (struct tessi_task){span.session, span.layer, span.first}, &why);
    tessi_sched_status(sched, &status);
    for (size_t w = 0; w < status.workers; w++) {
        struct tessi_sched_worker_status worker;
        tessi_sched_worker_status(sched, w, &worker);
        TESS_ASSERT(worker.queue_seconds >= 0);
    }
    void *history = tessi_sched_history_save(sched, &size);
    struct tessi_sched_config config = tessi_sched_config_default();
    struct tessi_sched *next = tessi_sched_create(&config);
    TESS_ASSERT(tessi_sched_history_load(next, history, size, &error) == TESSI_OK);
    tessi_sched_destroy(next);
    tessi_free(history);
}

static void say_bye(struct actor *actor)
{
    struct tessi_message message = {.type = TESSI_MSG_GOODBYE};
    message.as.goodbye.text = "bye";
    say(actor->peer, &message);
    if (input_chance(&fuzz.input, 128)) {
        leave(actor);
    }
}

static void say_leave(struct actor *actor)
{
    struct tessi_message message = {.type = TESSI_MSG_LEAVE};
    message.as.leave.wait_ms = (uint32_t)input_number(&fuzz.input);
    say(actor->peer, &message);
}

static void step(void)
{
    struct input *input = &fuzz.input;
    struct actor *actor = &fuzz.actors[input_below(input, ACTORS)];
    uint32_t what = input_byte(input);
    fuzz.now_ns += (int64_t)what * 40000;
    tessi_driver_expect(fuzz.driver, actor->peer);
    if (actor->peer == 0) {
        join(actor);
    } else if (what < 110 && actor->worker) {
        work(actor, 1 + what % 8);
    } else if (what < 170 && actor->worker) {
        lie(actor);
    } else if (what < 110) {
        submit(actor);
    } else if (what < 170) {
        let_go(actor, what % 3 == 0 ? TESSI_MSG_CANCEL : TESSI_MSG_RELEASE);
    } else if (what < 184) {
        locate(actor);
    } else if (what < 190) {
        gone(actor);
    } else if (what < 194) {
        say_bye(actor);
    } else if (what < 200) {
        say_leave(actor);
    } else if (what < 206) {
        say_anything(actor);
    } else if (what < 210) {
        say_bytes(actor);
    } else if (what < 214) {
        receive(actor->peer, fuzz.last.data, fuzz.last.size);
    } else if (what < 217) {
        ask();
    } else if (what < 220) {
        for (int second = 0; second < 11;
             second++) { /* of silence; one tick so late would be the scheduler's absence */
            tick(INT64_C(1000000000));
        }
    } else if (what < 236) {
        tick(INT64_C(10000000) * input_byte(input));
    } else {
        say_nothing_but(actor->peer, TESSI_MSG_HEARTBEAT);
    }
}

/* ——— the end ——— */

static bool something_waits(void)
{
    size_t position = 0;
    struct tessi_task task;
    bool any = false;
    while (!any && tessi_sched_first_waiting(tessi_driver_sched(fuzz.driver), &position, &task, &any)) {
    }
    return any;
}

static void hear_clients(void)
{
    for (size_t i = 0; i < ACTORS; i++) {
        if (fuzz.actors[i].peer != 0) {
            say_nothing_but(fuzz.actors[i].peer, TESSI_MSG_HEARTBEAT);
        }
    }
}

static void finish(void)
{
    for (size_t i = 0; i < ACTORS; i++) {
        if (fuzz.actors[i].peer != 0 && (fuzz.actors[i].worker || i < HONEST)) {
            gone(&fuzz.actors[i]);
        }
    }
    fuzz.ending = true;
    fuzz.input.at = fuzz.input.end;
    for (size_t i = 0; i < HONEST; i++) {
        join_worker(&fuzz.actors[i], true);
    }
    for (int idle = 0; something_waits(); idle++) {
        TESS_ASSERT(idle < IDLE_MAX);
        for (size_t i = 0; i < HONEST; i++) {
            while (fuzz.actors[i].known_count > 0) {
                work(&fuzz.actors[i], KNOWN);
            }
        }
        hear_clients();
        tick(INT64_C(1000000000));
    }
    for (size_t i = 0; i < ACTORS; i++) {
        if (fuzz.actors[i].peer != 0 && !fuzz.actors[i].worker) {
            gone(&fuzz.actors[i]);
        }
    }
    struct tessi_sched_status status;
    tessi_sched_status(tessi_driver_sched(fuzz.driver), &status);
    TESS_ASSERT(status.layers == 0 && status.sessions == 0 && status.tasks_waiting == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tessi_sched_config config = tessi_sched_config_default();
    memset(&fuzz, 0, sizeof fuzz);
    fuzz.input = (struct input){data, data + size};
    fuzz.now_ns = 1;
    fuzz.driver = tessi_driver_create(&config, RUN_ID);
    for (int i = 0; i < STEPS_MAX && !input_ended(&fuzz.input); i++) {
        step();
    }
    finish();
    tessi_driver_destroy(fuzz.driver);
    tessi_buffer_fini(&fuzz.last);
    for (size_t i = 0; i < ACTORS; i++) {
        leave(&fuzz.actors[i]);
    }
    return 0;
}

#ifndef TESSI_LIBFUZZER
int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, "fuzz_sched", 100000);
}
#endif
