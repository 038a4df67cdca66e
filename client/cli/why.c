#include "client/cli/why.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"
#include "client/cli/cli.h"
#include "core/net/context.h"

/* "3:17", "5.3:17" */
static bool parse_task(const char *text, struct tessi_task *task)
{
    uint32_t session, layer;
    uint64_t index;
    int end = 0;
    *task = (struct tessi_task){0};
    if (sscanf(text, "%" SCNu32 ".%" SCNu32 ":%" SCNu64 "%n", &session, &layer, &index, &end) == 3 && text[end] == 0) {
        *task = (struct tessi_task){session, layer, index};
        return true;
    }
    if (sscanf(text, "%" SCNu32 ":%" SCNu64 "%n", &layer, &index, &end) == 2 && text[end] == 0) {
        *task = (struct tessi_task){0, layer, index};
        return true;
    }
    return false;
}

/* The worker's part, a line each, appended to the reasons. */
static enum tessi_status ask_worker(struct tessi_ask *ask, cJSON *task, struct tessi_error *error)
{
    struct tessi_message question = {.type = TESSI_MSG_WHY_REQUEST}, answer;
    struct tessi_msg_why_request *request = &question.as.why_request;
    double worker = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(task, "worker"));
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(task, "task"));
    cJSON *reasons = cJSON_GetObjectItemCaseSensitive(task, "reasons");
    if (!(worker >= 1 && worker <= UINT32_MAX) || name == NULL || !parse_task(name, &request->task)) {
        return TESSI_OK;
    }
    request->worker = (uint32_t)worker;
    request->chosen = true;
    enum tessi_status status = tessi_ask_one(ask, &question, TESSI_MSG_WHY_REPLY, &answer, error);
    if (status == TESSI_TIMEOUT) {
        cJSON_AddItemToArray(reasons, cJSON_CreateString("the worker does not answer: it hangs or has stopped"));
        return TESSI_OK;
    }
    if (status != TESSI_OK) {
        return status;
    }
    for (const char *at = answer.as.why_reply.text; *at != 0;) {
        size_t length = strcspn(at, "\n");
        char line[512];
        (void)snprintf(line, sizeof line, "there: %.*s", (int)length, at);
        cJSON_AddItemToArray(reasons, cJSON_CreateString(line));
        at += length + (at[length] != 0);
    }
    tessi_message_fini(&answer);
    return TESSI_OK;
}

static enum tessi_status ask_all(struct tessi_ask *ask, const struct tessi_task *task, cJSON **document,
                                 struct tessi_error *error)
{
    struct tessi_message question = {.type = TESSI_MSG_WHY_REQUEST}, answer;
    question.as.why_request.chosen = task != NULL;
    if (task != NULL) {
        question.as.why_request.task = *task;
    }
    enum tessi_status status = tessi_ask_one(ask, &question, TESSI_MSG_WHY_REPLY, &answer, error);
    if (status != TESSI_OK) {
        return status;
    }
    *document = cJSON_Parse(answer.as.why_reply.text);
    tessi_message_fini(&answer);
    cJSON *each;
    cJSON_ArrayForEach(each, cJSON_GetObjectItemCaseSensitive(*document, "tasks"))
    {
        if (status == TESSI_OK) {
            status = ask_worker(ask, each, error);
        }
    }
    return status;
}

static void print_tasks(const cJSON *document)
{
    const cJSON *tasks = cJSON_GetObjectItemCaseSensitive(document, "tasks"), *task, *reason;
    cJSON_ArrayForEach(task, tasks)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(task, "name"));
        bool named = name != NULL && name[0] != 0;
        printf("task %s  %s%s%s%s  %s\n", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(task, "task")),
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(task, "operation")), named ? " [" : "",
               named ? name : "", named ? "]" : "",
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(task, "state")));
        cJSON_ArrayForEach(reason, cJSON_GetObjectItemCaseSensitive(task, "reasons"))
        {
            printf("    %s\n", cJSON_GetStringValue(reason));
        }
    }
    if (cJSON_GetArraySize(tasks) == 0) {
        printf("no task waits\n");
    }
}

static int tell(cJSON *document, const char *chosen, bool as_json)
{
    if (as_json) {
        char *text = cJSON_PrintUnformatted(document);
        tessi_cli_print_json(text != NULL ? text : "{}");
        cJSON_free(text);
        return CLI_OK;
    }
    if (chosen[0] != 0 && cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(document, "tasks")) == 0) {
        fprintf(stderr, "tessera: there is no task %s: its layer may have been released; a trace names the tasks\n",
                chosen);
        return CLI_FAILED;
    }
    tessi_cli_make_showable(document);
    print_tasks(document);
    return CLI_OK;
}

int tessi_cli_why(const char *address, const char *keys_dir, const char *chosen, bool as_json)
{
    struct tessi_net *net = NULL;
    struct tessi_ask *ask = NULL;
    struct tessi_error error = {0};
    struct tessi_task task;
    cJSON *document = NULL;
    enum tessi_status status;
    if (chosen[0] != 0 && !parse_task(chosen, &task)) {
        fprintf(stderr, "tessera status: --why %s: give LAYER:INDEX or SESSION.LAYER:INDEX, such as 3:17\n", chosen);
        return CLI_USAGE;
    }
    TESSI_TRY(tessi_net_create(keys_dir, &net, &error));
    TESSI_TRY(tessi_ask_open(net, address, &ask, &error));
    TESSI_TRY(ask_all(ask, chosen[0] != 0 ? &task : NULL, &document, &error));
cleanup:
    tessi_ask_close(ask);
    tessi_net_destroy(net);
    int code = status == TESSI_OK ? tell(document, chosen, as_json) : tessi_cli_fail(&error);
    cJSON_Delete(document);
    return code;
}
