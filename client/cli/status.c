/* `tessera status` */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "client/ask.h"
#include "client/cli/cli.h"
#include "client/cli/why.h"
#include "core/base/alloc.h"
#include "core/net/context.h"
#include "core/server/scheduler.h"

static enum tessi_status fetch(const char *address, const char *keys_dir, char **json, struct tessi_error *error)
{
    struct tessi_net *net = NULL;
    struct tessi_ask *ask = NULL;
    struct tessi_message question = {.type = TESSI_MSG_STATUS_REQUEST}, answer;
    enum tessi_status status;
    *json = NULL;
    TESSI_TRY(tessi_net_create(keys_dir, &net, error));
    TESSI_TRY(tessi_ask_open(net, address, &ask, error));
    TESSI_TRY(tessi_ask_one(ask, &question, TESSI_MSG_STATUS_REPLY, &answer, error));
    *json = tessi_strdup(answer.as.status_reply.json);
    tessi_message_fini(&answer);
cleanup:
    tessi_ask_close(ask);
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

/* "93 %", or "?" where the device does not tell. */
static const char *figure(const cJSON *object, const char *name, const char *format, double factor, char *out,
                          size_t size)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (cJSON_IsNumber(item)) {
        (void)snprintf(out, size, format, item->valuedouble * factor);
    } else {
        (void)snprintf(out, size, "?");
    }
    return out;
}

static void print_device(const cJSON *device)
{
    char used[32], memory[32], busy[32], watts[32], joules[32], in[32], out[32];
    printf("%6s  gpu %.0f  %-24.40s busy %s  memory %s of %s  power %s  energy %s  %.0f steps  in %s  out %s%s\n", "",
           number(device, "number"), text(device, "name"),
           figure(device, "utilisation", "%.0f %%", 100, busy, sizeof busy),
           tessi_cli_format_bytes(number(device, "memory_used_bytes"), used, sizeof used),
           tessi_cli_format_bytes(number(device, "memory_bytes"), memory, sizeof memory),
           figure(device, "watts", "%.0f W", 1, watts, sizeof watts),
           figure(device, "joules", "%.1f kJ", 1e-3, joules, sizeof joules), number(device, "steps"),
           tessi_cli_format_bytes(number(device, "copied_in_bytes"), in, sizeof in),
           tessi_cli_format_bytes(number(device, "copied_out_bytes"), out, sizeof out),
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(device, "lost")) ? "  lost" : "");
}

static void print_worker(const cJSON *worker)
{
    char used[32], memory[32], peak[32], spilled[32];
    printf("%6.0f  %-20.20s %-28.28s %5.0f  %10s of %-10s %10s %10s %9.1f %9.0f %7.1f%s\n", number(worker, "id"),
           text(worker, "name"), text(worker, "address"), number(worker, "slots"),
           tessi_cli_format_bytes(number(worker, "memory_used_bytes"), used, sizeof used),
           tessi_cli_format_bytes(number(worker, "memory_bytes"), memory, sizeof memory),
           tessi_cli_format_bytes(number(worker, "memory_peak_bytes"), peak, sizeof peak),
           tessi_cli_format_bytes(number(worker, "spilled_bytes"), spilled, sizeof spilled),
           number(worker, "queue_seconds"), number(worker, "tasks_done"), number(worker, "heard_seconds_ago"),
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(worker, "leaving")) ? "  leaving" : "");
    if (text(worker, "resources")[0] != 0) {
        printf("%6s  resources %s, in use %s\n", "", text(worker, "resources"), text(worker, "resources_used"));
    }
    const cJSON *device;
    cJSON_ArrayForEach(device, cJSON_GetObjectItemCaseSensitive(worker, "devices"))
    {
        print_device(device);
    }
}

/* What became of the tasks in a step of a steal. */
static const char *outcome(const char *step)
{
    static const char *const words[][2] = {
        {"take", "moved"}, {"ask", "asked back"}, {"confirm", "moved: not started yet"}, {"refuse", "stayed"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(step, words[i][0]) == 0) {
            return words[i][1];
        }
    }
    return step;
}

/* Why steals came to nothing, and the newest ones. */
static void print_steals(const cJSON *root)
{
    enum { STEALS_PRINTED = 4 };
    const cJSON *reason, *steal;
    int printed = 0;
    cJSON_ArrayForEach(reason, cJSON_GetObjectItemCaseSensitive(root, "steals_refused"))
    {
        printf("refused    %.0f tasks asked back stayed: %s\n", cJSON_GetNumberValue(reason), reason->string);
    }
    cJSON_ArrayForEach(steal, cJSON_GetObjectItemCaseSensitive(root, "recent_steals"))
    {
        const char *why = text(steal, "why");
        if (printed++ >= STEALS_PRINTED) {
            break;
        }
        char thief[32] = "others"; /* of a worker that leaves */
        if (number(steal, "to") != 0) {
            (void)snprintf(thief, sizeof thief, "%.0f", number(steal, "to"));
        }
        printf("steal      %.1f s ago, worker %.0f to %s: %.0f tasks from %s on %s%s%s\n", number(steal, "seconds_ago"),
               number(steal, "from"), thief, number(steal, "tasks"), text(steal, "first_task"),
               outcome(text(steal, "step")), why[0] != 0 ? "; " : "", why);
    }
}

static void print_arrays(const cJSON *root)
{
    enum { ARRAYS_PRINTED = 16 };
    const cJSON *array;
    int printed = 0;
    cJSON_ArrayForEach(array, cJSON_GetObjectItemCaseSensitive(root, "arrays"))
    {
        char bytes[32];
        if (printed++ >= ARRAYS_PRINTED) {
            break;
        }
        printf("array      %s  %s  %.0f.%.0f  %s  %.0f of %.0f tasks done\n", text(array, "name"),
               text(array, "operation"), number(array, "session"), number(array, "layer"),
               tessi_cli_format_bytes(number(array, "bytes"), bytes, sizeof bytes), number(array, "tasks_done"),
               number(array, "tasks"));
    }
}

static int print_tables(const char *json)
{
    cJSON *root = cJSON_Parse(json);
    char moved[32], used[32], most[32];
    if (root == NULL) {
        fprintf(stderr, "tessera: the scheduler's answer is not JSON; see it with --json\n");
        return CLI_FAILED;
    }
    tessi_cli_make_showable(root);
    const cJSON *worker;
    printf("scheduler  %s  version %s  up %.0f s  %s\n", text(root, "endpoint"), text(root, "version"),
           number(root, "uptime_seconds"),
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "encrypted")) ? "encrypted" : "not encrypted");
    printf("tasks      %.0f done, %.0f waiting, %.0f failed, %.0f run again\n", number(root, "tasks_done"),
           number(root, "tasks_waiting"), number(root, "tasks_failed"), number(root, "tasks_rerun"));
    printf("graphs     %.0f layers, %s of %s for what is known of them\n", number(root, "layers"),
           tessi_cli_format_bytes(number(root, "graph_memory_used_bytes"), used, sizeof used),
           tessi_cli_format_bytes(number(root, "graph_memory_bytes"), most, sizeof most));
    printf("cluster    %.0f sessions, %.0f steals, %.0f workers lost, %.0f left, %s moved\n", number(root, "sessions"),
           number(root, "steals"), number(root, "workers_lost"), number(root, "workers_left"),
           tessi_cli_format_bytes(number(root, "bytes_moved"), moved, sizeof moved));
    printf("dropped    %.0f in all: %.0f malformed, %.0f stale, %.0f misplaced, %.0f handshakes, %.0f keys\n",
           number(root, "dropped_messages"), number(root, "messages_malformed"), number(root, "messages_stale"),
           number(root, "messages_misplaced"), number(root, "handshakes_refused"), number(root, "keys_refused"));
    char held[32], unread[32];
    printf("held       %s of unfinished messages, %s not read; %.0f connections cut for it, %.0f silent\n",
           tessi_cli_format_bytes(number(root, "received_bytes_held"), held, sizeof held),
           tessi_cli_format_bytes(number(root, "unread_bytes_held"), unread, sizeof unread),
           number(root, "connections_cut"), number(root, "connections_silent"));
    print_arrays(root);
    print_steals(root);
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

int tessi_cli_status(int argc, char **argv)
{
    const char *address = NULL, *keys_dir = NULL, *why = NULL;
    bool as_json = false;
    char *json;
    struct tessi_error error = {0};
    const struct cli_option options[] = {
        {"why", "[TASK]", "why a task waits: LAYER:INDEX, or the first that waits in each session", CLI_OPTIONAL, &why},
        {"json", NULL, "print the scheduler's answer as it is", CLI_FLAG, &as_json},
        {"keys", "DIR", "the cluster's keys", CLI_TEXT, &keys_dir},
    };
    const struct cli_command command = {
        .name = "status",
        .summary = "Show the workers of a cluster and what they do.",
        .usage = "[ADDRESS] [options]",
        .examples = "  tessera status\n"
                    "  tessera status tcp://node1:8786 --keys keys --json\n"
                    "  tessera status tcp://node1:8786 --why\n"
                    "  tessera status tcp://node1:8786 --why 3:17\n",
        .positional = "ADDRESS",
        .positional_environment = "TESSERA_SCHEDULER",
        .positional_default = TESSI_SCHEDULER_ADDRESS,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    int code = tessi_cli_parse(&command, argc, argv, &address);
    if (code >= 0) {
        return code;
    }
    if (why != NULL) {
        return tessi_cli_why(address, keys_dir, why, as_json);
    }
    if (fetch(address, keys_dir, &json, &error) != TESSI_OK) {
        return tessi_cli_fail(&error);
    }
    if (as_json) {
        tessi_cli_print_json(json);
    } else {
        code = print_tables(json);
    }
    tessi_free(json);
    return code < 0 ? CLI_OK : code;
}
