/* `tessera status` */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/net/client.h"
#include "core/server/scheduler.h"
#include "core/wire/message.h"

#define ANSWER_WAIT_NS (5 * TESSI_NS_PER_S)

static enum tessi_status send_request(struct tessi_client *client, struct tessi_error *error)
{
    struct tessi_message request = {.type = TESSI_MSG_STATUS_REQUEST};
    struct tessi_buffer buffer = {0};
    enum tessi_status status = tessi_message_pack(&buffer, &request, error);
    if (status == TESSI_OK && tessi_client_send(client, buffer.data, buffer.size, NULL, 0) != TESSI_OK) {
        status = tessi_fail(error, TESSI_LOST, "%s: the connection ended; try again", tessi_client_endpoint(client));
    }
    tessi_buffer_fini(&buffer);
    return status;
}

/* The answer in a message; BUSY when it is none. */
static enum tessi_status read_answer(const struct tessi_client *client, const struct tessi_net_event *event,
                                     char **json, struct tessi_error *error)
{
    struct tessi_message message;
    enum tessi_status status = tessi_message_unpack(event->frames[0].data, event->frames[0].size, &message, error);
    if (status != TESSI_OK) {
        tessi_error_prefix(error, "%s", tessi_client_endpoint(client));
        return status;
    }
    status = TESSI_BUSY;
    if (message.type == TESSI_MSG_STATUS_REPLY) {
        *json = tessi_strdup(message.as.status_reply.json);
        status = TESSI_OK;
    } else if (message.type == TESSI_MSG_REJECT) {
        status = tessi_fail(error, (enum tessi_status)message.as.reject.status, "%s refused: %s",
                            tessi_client_endpoint(client), message.as.reject.text);
    }
    tessi_message_fini(&message);
    return status;
}

static enum tessi_status wait_answer(struct tessi_client *client, char **json, struct tessi_error *error)
{
    int64_t deadline_ns = tessi_clock_now() + ANSWER_WAIT_NS;
    for (;;) {
        struct tessi_net_event event;
        enum tessi_status status = tessi_client_receive(client, &event);
        if (status == TESSI_BUSY) {
            int64_t left_ns = deadline_ns - tessi_clock_now();
            if (left_ns <= 0 || tessi_client_wait(client, left_ns) != TESSI_OK) {
                return tessi_fail(error, TESSI_TIMEOUT, "%s: connected, but no answer within 5 s; is it a scheduler?",
                                  tessi_client_endpoint(client));
            }
            continue;
        }
        if (status != TESSI_OK || event.kind == TESSI_NET_GONE) {
            const struct tessi_error *why = tessi_client_error(client);
            return tessi_fail(error, TESSI_LOST, "%s",
                              why->text[0] != 0 ? why->text : "the connection ended; try again");
        }
        if (event.kind == TESSI_NET_MESSAGE) {
            status = read_answer(client, &event, json, error);
            tessi_net_event_clear(&event);
            if (status != TESSI_BUSY) {
                return status;
            }
        }
    }
}

static enum tessi_status fetch(const char *address, const char *keys_dir, char **json, struct tessi_error *error)
{
    struct tessi_net *net = NULL;
    struct tessi_client *client = NULL;
    struct tessi_net_options options = {.frame_bytes_max = TESSI_MESSAGE_MAX};
    enum tessi_status status;
    *json = NULL;
    TESSI_TRY(tessi_net_create(keys_dir, &net, error));
    TESSI_TRY(tessi_client_connect(net, address, &options, &client, error));
    TESSI_TRY(send_request(client, error));
    TESSI_TRY(wait_answer(client, json, error));
cleanup:
    tessi_client_close(client);
    tessi_net_destroy(net);
    return status;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "?";
}

static void print_worker(const cJSON *worker)
{
    char used[32], memory[32], peak[32], spilled[32];
    printf("%6.0f  %-20.20s %-28.28s %5.0f  %10s of %-10s %10s %10s %9.1f %9.0f %7.1f\n", number(worker, "id"),
           text(worker, "name"), text(worker, "address"), number(worker, "slots"),
           cli_format_bytes(number(worker, "memory_used_bytes"), used, sizeof used),
           cli_format_bytes(number(worker, "memory_bytes"), memory, sizeof memory),
           cli_format_bytes(number(worker, "memory_peak_bytes"), peak, sizeof peak),
           cli_format_bytes(number(worker, "spilled_bytes"), spilled, sizeof spilled), number(worker, "queue_seconds"),
           number(worker, "tasks_done"), number(worker, "heard_seconds_ago"));
    if (text(worker, "resources")[0] != 0) {
        printf("%6s  resources %s, in use %s\n", "", text(worker, "resources"), text(worker, "resources_used"));
    }
}

static int print_tables(const char *json)
{
    cJSON *root = cJSON_Parse(json);
    char moved[32];
    if (root == NULL) {
        fprintf(stderr, "tessera: the scheduler's answer is not JSON; see it with --json\n");
        return CLI_FAILED;
    }
    const cJSON *worker;
    printf("scheduler  %s  version %s  up %.0f s  %s\n", text(root, "endpoint"), text(root, "version"),
           number(root, "uptime_seconds"),
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "encrypted")) ? "encrypted" : "not encrypted");
    printf("tasks      %.0f done, %.0f waiting, %.0f failed, %.0f run again\n", number(root, "tasks_done"),
           number(root, "tasks_waiting"), number(root, "tasks_failed"), number(root, "tasks_rerun"));
    printf("cluster    %.0f sessions, %.0f steals, %.0f workers lost, %s moved\n", number(root, "sessions"),
           number(root, "steals"), number(root, "workers_lost"),
           cli_format_bytes(number(root, "bytes_moved"), moved, sizeof moved));
    printf("dropped    %.0f in all: %.0f malformed, %.0f stale, %.0f misplaced, %.0f handshakes, %.0f keys\n",
           number(root, "dropped_messages"), number(root, "messages_malformed"), number(root, "messages_stale"),
           number(root, "messages_misplaced"), number(root, "handshakes_refused"), number(root, "keys_refused"));
    const cJSON *workers = cJSON_GetObjectItemCaseSensitive(root, "workers");
    printf("workers    %d\n", cJSON_GetArraySize(workers));
    if (cJSON_GetArraySize(workers) > 0) {
        printf("%6s  %-20s %-28s %5s  %24s %10s %10s %9s %9s %7s\n", "id", "name", "address", "slots", "memory used   ",
               "peak", "spilled", "queue s", "done", "heard s");
    }
    cJSON_ArrayForEach(worker, workers)
    {
        print_worker(worker);
    }
    cJSON_Delete(root);
    return CLI_OK;
}

int cli_status(int argc, char **argv)
{
    const char *address = NULL, *keys_dir = NULL;
    bool as_json = false;
    char *json;
    struct tessi_error error = {0};
    const struct cli_option options[] = {
        {"json", NULL, "print the scheduler's answer as it is", CLI_FLAG, &as_json},
        {"keys", "DIR", "the cluster's keys", CLI_TEXT, &keys_dir},
    };
    const struct cli_command command = {
        .name = "status",
        .summary = "Show the workers of a cluster and what they do.",
        .usage = "[ADDRESS] [options]",
        .examples = "  tessera status\n"
                    "  tessera status tcp://node1:8786 --keys keys --json\n",
        .positional = "ADDRESS",
        .positional_environment = "TESSERA_SCHEDULER",
        .positional_default = TESSI_SCHEDULER_ADDRESS,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    int code = cli_parse(&command, argc, argv, &address);
    if (code >= 0) {
        return code;
    }
    if (fetch(address, keys_dir, &json, &error) != TESSI_OK) {
        return cli_fail(&error);
    }
    if (as_json) {
        printf("%s\n", json);
    } else {
        code = print_tables(json);
    }
    tessi_free(json);
    return code < 0 ? CLI_OK : code;
}
