#include "core/server/query_router.h"
#include "core/sched/explain/explain.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/alloc.h"

#define LANES "cluster\nsteals\nlayers"
#define STEALS_KEPT 16
#define TASKS_EXPLAINED 64 /* one for each session */

enum lane { LANE_CLUSTER, LANE_STEALS, LANE_LAYERS };

struct question {           /* on its way to a worker */
    uint32_t token;         /* 0: free */
    uint32_t asker, number; /* the asker's own number of it */
    uint32_t worker;
    bool why;
    int64_t sent_ns;
};

struct tessi_router {
    const struct tessi_driver *driver;
    tessi_router_send_fn *send;
    void *context;
    uint32_t tokens; /* given out so far */
    struct question questions[TESSI_ROUTER_QUESTIONS];
    struct tessi_trace_record *ring; /* owned, TESSI_ROUTER_EVENTS */
    uint64_t written;
    struct tessi_trace_record steals[STEALS_KEPT];
    uint64_t steals_written;
    struct tessi_buffer buffer;
};

struct tessi_router *tessi_router_create(const struct tessi_driver *driver, tessi_router_send_fn *send, void *context)
{
    struct tessi_router *router = tessi_zalloc(sizeof *router);
    router->driver = driver;
    router->send = send;
    router->context = context;
    router->ring = tessi_zalloc(TESSI_ROUTER_EVENTS * sizeof *router->ring);
    return router;
}

void tessi_router_destroy(struct tessi_router *router)
{
    if (router != NULL) {
        tessi_free(router->ring);
        tessi_buffer_fini(&router->buffer);
        tessi_free(router);
    }
}

static void send_message(struct tessi_router *router, uint32_t peer, struct tessi_message *message)
{
    message->run_id = tessi_driver_run_id(router->driver);
    tessi_buffer_clear(&router->buffer);
    if (tessi_message_pack(&router->buffer, message, NULL) == TESSI_OK) {
        router->send(router->context, peer, router->buffer.data, router->buffer.size);
    }
}

/* ——— what the scheduler knows itself ——— */

static enum lane lane_of(uint8_t kind)
{
    if (kind == TESSI_TRACE_JOIN || kind == TESSI_TRACE_LEAVE) {
        return LANE_CLUSTER;
    }
    return kind == TESSI_TRACE_LAYER || kind == TESSI_TRACE_NAME ? LANE_LAYERS : LANE_STEALS;
}

void tessi_router_keep_notes(struct tessi_router *router)
{
    size_t count;
    const struct tessi_trace_record *notes = tessi_driver_notes(router->driver, &count);
    for (size_t i = 0; i < count; i++) {
        struct tessi_trace_record *record = &router->ring[router->written++ % TESSI_ROUTER_EVENTS];
        *record = notes[i];
        record->lane = (uint16_t)lane_of(record->kind);
        if (record->lane == LANE_STEALS) {
            router->steals[router->steals_written++ % STEALS_KEPT] = *record;
        }
    }
}

const struct tessi_trace_record *tessi_router_steal(const struct tessi_router *router, size_t nth)
{
    if (nth >= STEALS_KEPT || nth >= router->steals_written) {
        return NULL;
    }
    return &router->steals[(router->steals_written - 1 - nth) % STEALS_KEPT];
}

static void own_page(struct tessi_router *router, int64_t now_ns, uint32_t peer,
                     const struct tessi_msg_trace_request *request)
{
    struct tessi_message message = {.type = TESSI_MSG_TRACE_PAGE};
    struct tessi_msg_trace_page *page = &message.as.trace_page;
    uint64_t oldest = router->written > TESSI_ROUTER_EVENTS ? router->written - TESSI_ROUTER_EVENTS : 0;
    page->question = request->question;
    page->ring = request->ring;
    page->rings = 1;
    page->now_ns = now_ns;
    page->from = request->from > oldest ? request->from : oldest;
    page->written = router->written;
    page->lanes = LANES;
    if (request->ring > 0) {
        page->error = "the scheduler has one ring";
    } else if (page->from < router->written) {
        /* No further than the end of the array: the asker comes again for the rest. */
        uint64_t at = page->from % TESSI_ROUTER_EVENTS, left = router->written - page->from;
        left = left < TESSI_ROUTER_EVENTS - at ? left : TESSI_ROUTER_EVENTS - at;
        page->records.items = &router->ring[at];
        page->records.count = left < TESSI_WIRE_TRACE_MAX ? (size_t)left : TESSI_WIRE_TRACE_MAX;
    }
    send_message(router, peer, &message);
}

static cJSON *explained(const struct tessi_sched_why *why)
{
    char name[64];
    cJSON *object = cJSON_CreateObject();
    snprintf(name, sizeof name, "%" PRIu32 ".%" PRIu32 ":%" PRIu64, why->task.session, why->task.layer,
             why->task.index);
    cJSON_AddStringToObject(object, "task", name);
    cJSON_AddStringToObject(object, "operation", why->operation);
    cJSON_AddStringToObject(object, "name", why->name);
    cJSON_AddStringToObject(object, "state", why->state);
    cJSON_AddNumberToObject(object, "worker", why->worker);
    cJSON *reasons = cJSON_AddArrayToObject(object, "reasons");
    for (const char *at = why->text; *at != 0;) {
        size_t length = strcspn(at, "\n");
        char line[512];
        snprintf(line, sizeof line, "%.*s", (int)length, at);
        cJSON_AddItemToArray(reasons, cJSON_CreateString(line));
        at += length + (at[length] != 0);
    }
    return object;
}

static cJSON *explain_all(const struct tessi_sched *sched, const struct tessi_msg_why_request *request)
{
    struct tessi_sched_why why;
    cJSON *tasks = cJSON_CreateArray();
    if (request->chosen) {
        if (tessi_sched_explain(sched, request->task, &why)) {
            cJSON_AddItemToArray(tasks, explained(&why));
        }
        return tasks;
    }
    size_t position = 0;
    struct tessi_task task;
    bool any;
    while (cJSON_GetArraySize(tasks) < TASKS_EXPLAINED && tessi_sched_first_waiting(sched, &position, &task, &any)) {
        if (any && tessi_sched_explain(sched, task, &why)) {
            cJSON_AddItemToArray(tasks, explained(&why));
        }
    }
    return tasks;
}

static void own_reasons(struct tessi_router *router, uint32_t peer, const struct tessi_msg_why_request *request)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddItemToObject(root, "tasks", explain_all(tessi_driver_sched(router->driver), request));
    char *json = cJSON_PrintUnformatted(root);
    struct tessi_message message = {.type = TESSI_MSG_WHY_REPLY};
    message.as.why_reply = (struct tessi_msg_why_reply){request->question, json != NULL ? json : "{}"};
    send_message(router, peer, &message);
    cJSON_free(json);
    cJSON_Delete(root);
}

/* ——— there and back ——— */

static void answer_error(struct tessi_router *router, const struct question *question, const char *text)
{
    struct tessi_message message = {.type = question->why ? TESSI_MSG_WHY_REPLY : TESSI_MSG_TRACE_PAGE};
    if (question->why) {
        message.as.why_reply = (struct tessi_msg_why_reply){question->number, text};
    } else {
        message.as.trace_page.question = question->number;
        message.as.trace_page.worker = question->worker;
        message.as.trace_page.error = text;
    }
    send_message(router, question->asker, &message);
}

/* The one with that token; 0: a free one. */
static struct question *find(struct tessi_router *router, uint32_t token)
{
    for (size_t i = 0; i < TESSI_ROUTER_QUESTIONS; i++) {
        if (router->questions[i].token == token) {
            return &router->questions[i];
        }
    }
    return NULL;
}

/* Hand the message on; `number` is the place of its question's number. */
static void hand_on(struct tessi_router *router, int64_t now_ns, struct tessi_message *message, uint32_t *number,
                    struct question question)
{
    question.number = *number;
    question.why = message->type == TESSI_MSG_WHY_REQUEST;
    question.sent_ns = now_ns;
    if (tessi_driver_role(router->driver, question.worker) != TESSI_ROLE_WORKER) {
        answer_error(router, &question, "there is no such worker, or it has left");
        return;
    }
    struct question *kept = find(router, 0);
    if (kept == NULL) {
        answer_error(router, &question, "too many questions are on their way: ask again");
        return;
    }
    router->tokens = router->tokens == UINT32_MAX ? 1 : router->tokens + 1;
    question.token = router->tokens;
    *kept = question;
    *number = question.token;
    send_message(router, question.worker, message);
}

static void hand_back(struct tessi_router *router, int64_t now_ns, uint32_t peer, struct tessi_message *message,
                      uint32_t *number)
{
    struct question *question = *number == 0 ? NULL : find(router, *number);
    bool page = message->type == TESSI_MSG_TRACE_PAGE;
    if (question == NULL || question->worker != peer || question->why == page ||
        message->run_id != tessi_driver_run_id(router->driver)) {
        return; /* its asker has gone */
    }
    if (page) {
        /* As NTP does: the two clocks met at some moment between the question and its answer. */
        message->as.trace_page.worker = peer;
        message->as.trace_page.delay_ns = now_ns - question->sent_ns;
        message->as.trace_page.offset_ns =
            message->as.trace_page.now_ns - question->sent_ns - message->as.trace_page.delay_ns / 2;
    }
    *number = question->number;
    question->token = 0;
    send_message(router, question->asker, message);
}

static bool is_ours(enum tessi_msg_type type)
{
    return type == TESSI_MSG_TRACE_REQUEST || type == TESSI_MSG_TRACE_PAGE || type == TESSI_MSG_WHY_REQUEST ||
           type == TESSI_MSG_WHY_REPLY;
}

bool tessi_router_take(struct tessi_router *router, int64_t now_ns, uint32_t peer, const void *bytes, size_t size)
{
    enum tessi_msg_type type;
    uint64_t run_id;
    struct tessi_message message;
    if (!tessi_message_peek(bytes, size, &type, &run_id) || !is_ours(type) ||
        tessi_message_unpack(bytes, size, &message, NULL) != TESSI_OK) {
        return false; /* the driver counts what is malformed */
    }
    if (type == TESSI_MSG_TRACE_REQUEST) {
        struct tessi_msg_trace_request *request = &message.as.trace_request;
        if (request->worker == 0) {
            own_page(router, now_ns, peer, request);
        } else {
            hand_on(router, now_ns, &message, &request->question,
                    (struct question){.asker = peer, .worker = request->worker});
        }
    } else if (type == TESSI_MSG_WHY_REQUEST) {
        struct tessi_msg_why_request *request = &message.as.why_request;
        if (request->worker == 0) {
            own_reasons(router, peer, request);
        } else {
            hand_on(router, now_ns, &message, &request->question,
                    (struct question){.asker = peer, .worker = request->worker});
        }
    } else if (type == TESSI_MSG_TRACE_PAGE) {
        hand_back(router, now_ns, peer, &message, &message.as.trace_page.question);
    } else {
        hand_back(router, now_ns, peer, &message, &message.as.why_reply.question);
    }
    tessi_message_fini(&message);
    return true;
}

void tessi_router_gone(struct tessi_router *router, uint32_t peer)
{
    for (size_t i = 0; i < TESSI_ROUTER_QUESTIONS; i++) {
        struct question *question = &router->questions[i];
        if (question->token == 0 || (question->asker != peer && question->worker != peer)) {
            continue;
        }
        question->token = 0;
        if (question->asker != peer) {
            answer_error(router, question, "the worker has left before it answered");
        }
    }
}
