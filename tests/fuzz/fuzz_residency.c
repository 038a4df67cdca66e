/* Fuzzer of the residency machine of a device: steps in any order that a planner may send them, and a device whose
 * three streams run and are told of at any time, that refuses memory, starves launches and breaks. No peer reaches it, so
 * the shell around it does what it owes (worker/residency/residency.h). See runner.h for how it is run.
 *
 * A block is known by how many steps have made it, on the host and at the device: a launch before its copies, a copy of
 * the wrong moment, or memory that is given back too early shows as a wrong number. In the end all that was begun
 * ends, every block is wanted on the host, and nothing is left.
 *
 * tests/run: one thread */
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/runner.h"
#include "worker/residency/residency.h"

enum {
    TASKS = 24, /* handle = number; the first SOURCES are complete from the start */
    SOURCES = 6,
    INPUTS = 4,
    STEPS = 5,
    IN_FLIGHT = 3, /* steps of one task */
    IDS = 256,
    SPOILT = 99, /* steps that made a block: none */
    MOMENTS_MAX = 1500,
};

enum stream { STREAM_IN, STREAM_COMPUTE, STREAM_OUT, STREAMS };

struct op {
    struct tessi_residency_action action;
    uint64_t after;     /* so many copies in must have run: what the shell orders by events */
    uint32_t forgotten; /* copies: how often the handle had been, before; it has other bytes of the host each time */
    bool starved;
};

struct queue {      /* issued ≥ run ≥ told */
    struct op *ops; /* owned; op n is at n − told */
    size_t capacity;
    uint64_t issued, run, told;
};

struct task {
    uint64_t bytes;
    uint32_t steps, sent, answered;
    uint32_t host; /* steps that made what the host has */
    uint32_t forgotten;
    uint32_t in_count[STEPS], in[STEPS][INPUTS];
    bool complete, given_back, again, wanted, gone;
};

struct memory {         /* of the device, by the machine's number */
    uint64_t bytes;     /* 0: none */
    uint32_t made;      /* steps that made what is in it */
    uint32_t users;     /* operations that are not told of */
    uint64_t copied_in; /* number of the last copy into it */
};

static struct {
    struct input input;
    struct tessi_residency_config config;
    struct tessi_residency *residency;
    struct tessi_residency_actions actions;
    struct queue queues[STREAMS];
    struct task tasks[TASKS];
    struct memory memory[IDS];
    uint64_t allocated, limit;
    bool broken, acting, ending;
} fuzz;

/* ——— the device ——— */

static void give(const struct tessi_residency_event *event);

static void issue(enum stream stream, const struct tessi_residency_action *action)
{
    struct queue *queue = &fuzz.queues[stream];
    size_t at = (size_t)(queue->issued - queue->told);
    tessi_grow(&queue->ops, &queue->capacity, at + 1, sizeof *queue->ops);
    struct op *op = &queue->ops[at];
    *op = (struct op){.action = *action};
    queue->issued++;
    if (stream != STREAM_COMPUTE) {
        struct memory *memory = &fuzz.memory[action->block];
        TESS_ASSERT(memory->bytes > 0);
        op->forgotten = fuzz.tasks[action->handle].forgotten;
        memory->users++;
        memory->copied_in = stream == STREAM_IN ? queue->issued : memory->copied_in;
        return;
    }
    for (uint32_t i = 0; i <= action->in_count; i++) {
        struct memory *memory = &fuzz.memory[i < action->in_count ? action->in[i] : action->out];
        TESS_ASSERT(memory->bytes > 0);
        memory->users++;
        op->after = memory->copied_in > op->after ? memory->copied_in : op->after;
    }
}

static void allocate(const struct tessi_residency_action *action)
{
    struct memory *memory = &fuzz.memory[action->block];
    TESS_ASSERT(action->block < IDS && memory->bytes == 0 && action->bytes > 0);
    bool refused = fuzz.allocated + action->bytes > fuzz.limit || input_chance(&fuzz.input, 6);
    if (!refused || fuzz.ending) {
        *memory = (struct memory){.bytes = action->bytes};
        fuzz.allocated += action->bytes;
        refused = false;
    }
    give(&(struct tessi_residency_event){.kind = refused ? TESSI_RESIDENCY_NO_MEMORY : TESSI_RESIDENCY_ALLOCATED,
                                         .block = action->block});
}

static void done(const struct tessi_residency_action *action)
{
    struct task *task = &fuzz.tasks[action->step / STEPS];
    task->answered++;
    TESS_ASSERT(task->answered <= task->sent);
    if (action->elsewhere) {
        task->given_back = true;
        task->again = action->status == TESSI_CANCELLED;
    } else {
        TESS_ASSERT(action->status == TESSI_OK && action->step % STEPS + 1 == task->answered);
        task->complete = !task->given_back && task->answered == task->steps;
    }
}

static void carry_out(const struct tessi_residency_action *action)
{
    struct task *task = action->handle < TASKS ? &fuzz.tasks[action->handle] : NULL;
    switch (action->kind) {
    case TESSI_RESIDENCY_ALLOC:
        allocate(action);
        break;
    case TESSI_RESIDENCY_FREE:
        TESS_ASSERT(fuzz.memory[action->block].bytes == action->bytes && fuzz.memory[action->block].users == 0);
        fuzz.allocated -= action->bytes;
        fuzz.memory[action->block].bytes = 0;
        break;
    case TESSI_RESIDENCY_COPY_IN:
        issue(STREAM_IN, action);
        break;
    case TESSI_RESIDENCY_COPY_OUT:
        TESS_ASSERT(!task->gone);
        issue(STREAM_OUT, action);
        break;
    case TESSI_RESIDENCY_LAUNCH:
        issue(STREAM_COMPUTE, action);
        break;
    case TESSI_RESIDENCY_DONE:
        done(action);
        break;
    case TESSI_RESIDENCY_HOST_READY:
        TESS_ASSERT(task->wanted && (!task->complete || task->host == task->steps));
        task->wanted = false;
        break;
    case TESSI_RESIDENCY_LOST:
        TESS_ASSERT(fuzz.broken);
        task->wanted = false;
        task->host = task->complete ? task->steps : task->host; /* made again from its lineage */
        break;
    }
}

static void give(const struct tessi_residency_event *event)
{
    fuzz_count();
    fuzz_show("event %d: step %u handle %u block %u status %d", (int)event->kind, event->step, event->handle,
              event->block, (int)event->status);
    tessi_residency_step(fuzz.residency, event, &fuzz.actions);
    tessi_residency_verify(fuzz.residency);
    if (fuzz.acting) {
        return; /* an answer at once: whoever is further out goes on with what it brings, in order */
    }
    fuzz.acting = true;
    for (size_t i = 0; i < fuzz.actions.count; i++) {
        struct tessi_residency_action action = fuzz.actions.items[i];
        fuzz_show("    action %d: block %u handle %u step %u status %d", (int)action.kind, action.block, action.handle,
                  action.step, (int)action.status);
        carry_out(&action);
    }
    fuzz.actions.count = 0;
    fuzz.acting = false;
    struct tessi_residency_stats stats;
    tessi_residency_stats(fuzz.residency, &stats);
    TESS_ASSERT(stats.used_bytes <= fuzz.config.memory_bytes && (fuzz.broken || stats.used_bytes == fuzz.allocated));
}

static struct op *next_op(enum stream stream)
{
    struct queue *queue = &fuzz.queues[stream];
    struct op *op = queue->run < queue->issued ? &queue->ops[queue->run - queue->told] : NULL;
    return op != NULL && op->after <= fuzz.queues[STREAM_IN].run ? op : NULL;
}

static void run_op(enum stream stream, bool starved)
{
    struct op *op = next_op(stream);
    if (op == NULL) {
        return;
    }
    const struct tessi_residency_action *action = &op->action;
    fuzz.queues[stream].run++;
    if (stream == STREAM_IN) {
        fuzz.memory[action->block].made = fuzz.tasks[action->handle].host;
    } else if (stream == STREAM_OUT) {
        struct task *task = &fuzz.tasks[action->handle];
        task->host = op->forgotten == task->forgotten ? fuzz.memory[action->block].made : task->host;
    } else {
        const struct task *task = &fuzz.tasks[action->step / STEPS];
        uint32_t step = action->step % STEPS;
        for (uint32_t i = 0; i < action->in_count; i++) {
            TESS_ASSERT(fuzz.memory[action->in[i]].made == fuzz.tasks[task->in[step][i]].steps);
        }
        op->starved = starved; /* those behind it have nothing to go on with: all are given back */
        bool good = !starved && (step == 0 || fuzz.memory[action->out].made == step);
        fuzz.memory[action->out].made = good ? step + 1 : SPOILT;
    }
}

static void tell_op(enum stream stream)
{
    static const enum tessi_residency_event_kind kinds[STREAMS] = {TESSI_RESIDENCY_COPIED_IN, TESSI_RESIDENCY_RAN,
                                                                   TESSI_RESIDENCY_COPIED_OUT};
    struct queue *queue = &fuzz.queues[stream];
    if (queue->told == queue->run) {
        return;
    }
    struct op op = queue->ops[0];
    memmove(queue->ops, queue->ops + 1, (size_t)(queue->issued - queue->told - 1) * sizeof *queue->ops);
    queue->told++;
    for (uint32_t i = 0; stream == STREAM_COMPUTE && i < op.action.in_count; i++) {
        fuzz.memory[op.action.in[i]].users--;
    }
    fuzz.memory[stream == STREAM_COMPUTE ? op.action.out : op.action.block].users--;
    give(&(struct tessi_residency_event){.kind = kinds[stream],
                                         .block = op.action.block,
                                         .step = op.action.step,
                                         .status = op.starved ? TESSI_NOMEM : TESSI_OK});
}

/* ——— the planner around it ——— */

static bool inputs_complete(const struct task *task, uint32_t step)
{
    for (uint32_t i = 0; i < task->in_count[step]; i++) {
        if (!fuzz.tasks[task->in[step][i]].complete) {
            return false;
        }
    }
    return true;
}

static void want(uint32_t handle)
{
    if (!fuzz.tasks[handle].wanted && !fuzz.tasks[handle].gone) {
        fuzz.tasks[handle].wanted = true;
        give(&(struct tessi_residency_event){.kind = TESSI_RESIDENCY_WANTED, .handle = handle});
    }
}

static void forget(uint32_t handle)
{
    fuzz.tasks[handle].forgotten++;
    give(&(struct tessi_residency_event){.kind = TESSI_RESIDENCY_FORGET, .handle = handle});
}

static void send_step(uint32_t number)
{
    struct task *task = &fuzz.tasks[number];
    uint32_t step = task->sent++;
    uint64_t bytes[INPUTS];
    for (uint32_t i = 0; i < task->in_count[step]; i++) {
        bytes[i] = fuzz.tasks[task->in[step][i]].bytes;
    }
    give(&(struct tessi_residency_event){.kind = TESSI_RESIDENCY_STEP,
                                         .step = number * STEPS + step,
                                         .first = step == 0,
                                         .last = step + 1 == task->steps,
                                         .out = number,
                                         .out_bytes = task->bytes,
                                         .in_count = task->in_count[step],
                                         .in = task->in[step],
                                         .in_bytes = bytes});
}

/* On the host, as soon as all that it reads is there. */
static void run_on_host(uint32_t number)
{
    struct task *task = &fuzz.tasks[number];
    for (uint32_t step = 0; step < task->steps; step++) {
        if (!inputs_complete(task, step)) {
            return;
        }
        for (uint32_t i = 0; i < task->in_count[step]; i++) {
            if (tessi_residency_dirty(fuzz.residency, task->in[step][i])) {
                want(task->in[step][i]);
                return;
            }
        }
    }
    forget(number);
    task->host = task->steps;
    task->complete = true;
}

static void plan(uint32_t number, bool on_host)
{
    struct task *task = &fuzz.tasks[number];
    if (task->complete) {
        return;
    }
    if (task->given_back) {
        if (task->answered == task->sent && task->again && !fuzz.broken && !on_host) {
            task->sent = task->answered = 0; /* anew at the device */
            task->given_back = task->again = false;
        } else if (task->answered == task->sent) {
            run_on_host(number);
        }
    } else if (task->sent == 0 && on_host) {
        run_on_host(number);
    } else if (task->sent < task->steps && task->sent - task->answered < IN_FLIGHT &&
               inputs_complete(task, task->sent)) {
        send_step(number);
    }
}

/* No task that is not complete reads it, and it is not wanted. */
static bool forgettable(uint32_t number)
{
    for (uint32_t t = 0; t < TASKS; t++) {
        const struct task *task = &fuzz.tasks[t];
        for (uint32_t step = 0; step < task->steps && !task->complete; step++) {
            for (uint32_t i = 0; i < task->in_count[step]; i++) {
                if (task->in[step][i] == number) {
                    return false;
                }
            }
        }
    }
    const struct task *task = &fuzz.tasks[number];
    return task->complete && !task->gone && !task->wanted;
}

static void break_device(void)
{
    if (!fuzz.broken) {
        fuzz.broken = true;
        for (int stream = 0; stream < STREAMS; stream++) {
            fuzz.queues[stream].issued = fuzz.queues[stream].run = fuzz.queues[stream].told = 0;
        }
        give(&(struct tessi_residency_event){.kind = TESSI_RESIDENCY_BROKEN});
    }
}

/* ——— an input ——— */

static void something_happens(void)
{
    struct input *input = &fuzz.input;
    uint32_t what = input_byte(input), number = input_below(input, TASKS);
    if (what < 100) {
        plan(number, what < 8);
    } else if (what < 160) {
        run_op((enum stream)(what % STREAMS), what == 103);
    } else if (what < 220) {
        tell_op((enum stream)(what % STREAMS));
    } else if (what < 234) {
        want(fuzz.tasks[number].complete ? number : 0);
    } else if (what < 244) {
        if (forgettable(number)) {
            forget(number);
            fuzz.tasks[number].gone = true;
        }
    } else if (what < 250) {
        tessi_residency_set_depth(fuzz.residency, 1 + number % 12);
    } else if (what == 255 && number == 1) {
        break_device();
    }
}

static void run_all(void)
{
    for (bool more = true; more;) {
        more = false;
        for (int stream = 0; stream < STREAMS; stream++) {
            more = more || next_op((enum stream)stream) != NULL || fuzz.queues[stream].told < fuzz.queues[stream].run;
            run_op((enum stream)stream, false);
            tell_op((enum stream)stream);
        }
    }
}

static void finish(void)
{
    fuzz.input.at = fuzz.input.end;
    fuzz.ending = true;
    for (uint32_t t = 0; t < TASKS; t++) { /* each reads earlier ones only */
        for (uint32_t turns = 0; !fuzz.tasks[t].complete; turns++) {
            TESS_ASSERT(turns < 100);
            plan(t, fuzz.broken);
            run_all();
        }
        want(t);
        run_all();
    }
    for (uint32_t t = 0; t < TASKS; t++) {
        TESS_ASSERT(!fuzz.tasks[t].wanted && (fuzz.tasks[t].gone || fuzz.tasks[t].host == fuzz.tasks[t].steps));
        if (!fuzz.tasks[t].gone) {
            forget(t);
        }
    }
    struct tessi_residency_stats stats;
    tessi_residency_stats(fuzz.residency, &stats);
    TESS_ASSERT(stats.used_bytes == 0 && stats.blocks == 0 && stats.waiting == 0 && stats.launched == 0);
    TESS_ASSERT(fuzz.broken || fuzz.allocated == 0);
}

static void begin(void)
{
    struct input *input = &fuzz.input;
    fuzz.config.memory_bytes = (uint64_t)TESSI_RESIDENCY_GRANULE * (2 + input_byte(input));
    fuzz.config.depth = 1 + input_below(input, 9);
    fuzz.limit = fuzz.config.memory_bytes / (1 + input_below(input, 3));
    fuzz.residency = tessi_residency_create(&fuzz.config);
    for (uint32_t t = 0; t < TASKS; t++) {
        struct task *task = &fuzz.tasks[t];
        uint32_t drawn = input_byte(input);
        task->bytes = drawn < 10 ? 0 : 97 * (uint64_t)drawn;
        task->complete = t < SOURCES;
        task->steps = task->complete ? 0 : 1 + drawn % STEPS;
        for (uint32_t step = 0; step < task->steps; step++) {
            task->in_count[step] = input_below(input, INPUTS);
            for (uint32_t i = 0; i < task->in_count[step]; i++) {
                task->in[step][i] = input_below(input, t);
            }
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&fuzz, 0, sizeof fuzz);
    fuzz.input = (struct input){data, data + size};
    begin();
    for (int i = 0; i < MOMENTS_MAX && !input_ended(&fuzz.input); i++) {
        something_happens();
    }
    finish();
    tessi_residency_destroy(fuzz.residency);
    for (int stream = 0; stream < STREAMS; stream++) {
        tessi_free(fuzz.queues[stream].ops);
    }
    tessi_free(fuzz.actions.items);
    return 0;
}

#ifndef TESSI_LIBFUZZER
int main(int argc, char **argv)
{
    return fuzz_main(argc, argv, "fuzz_residency", 200000);
}
#endif
