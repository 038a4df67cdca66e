/* `tessera trace` */
#include <inttypes.h>
#include <stdio.h>

#include "client/cli/cli.h"
#include "client/trace.h"
#include "core/net/context.h"
#include "core/server/scheduler.h"

static void said(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "tessera trace: %s\n", text);
}

static int write_trace(const char *address, const char *keys_dir, const char *path, bool queues)
{
    struct tessi_net *net;
    struct tessi_error error = {0};
    struct tessi_trace_counts counts;
    const struct tessi_trace_options options = {.queues = queues, .said = said};
    if (tessi_net_create(keys_dir, &net, &error) != TESSI_OK) {
        return tessi_cli_fail(&error);
    }
    enum tessi_status status = tessi_trace_write(net, address, path, &options, &counts, &error);
    tessi_net_destroy(net);
    if (status != TESSI_OK) {
        return tessi_cli_fail(&error);
    }
    fprintf(stderr, "tessera trace: %s: %" PRIu64 " events of %" PRIu32 " workers", path, counts.events,
            counts.workers);
    if (counts.overwritten > 0) {
        fprintf(stderr, "; %" PRIu64 " older ones were overwritten (worker --trace-events keeps more)",
                counts.overwritten);
    }
    if (counts.missing > 0) {
        fprintf(stderr, "; %" PRIu32 " workers did not answer", counts.missing);
    }
    fputc('\n', stderr);
    return CLI_OK;
}

int tessi_cli_trace(int argc, char **argv)
{
    const char *address = NULL, *keys_dir = NULL, *path = NULL;
    bool queues = false;
    const struct cli_option options[] = {
        {"out", "FILE", "what to write; - is standard output (also -o FILE)", CLI_TEXT, &path},
        {"queues", NULL, "also a row for each task from its assignment to its start", CLI_FLAG, &queues},
        {"keys", "DIR", "the cluster's keys", CLI_TEXT, &keys_dir},
    };
    const struct cli_command command = {
        .name = "trace",
        .summary = "Write what every worker has run, moved, spilled and stolen lately as a file that Perfetto\n"
                   "(https://ui.perfetto.dev) and chrome://tracing open.",
        .usage = "[ADDRESS] -o FILE [options]",
        .examples = "  tessera trace -o run.json\n"
                    "  tessera trace tcp://node1:8786 --keys keys -o - | gzip > run.json.gz\n",
        .positional = "ADDRESS",
        .positional_environment = "TESSERA_SCHEDULER",
        .positional_default = TESSI_SCHEDULER_ADDRESS,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .letter = 'o',
        .letter_name = "out",
    };
    int code = tessi_cli_parse(&command, argc, argv, &address);
    if (code >= 0) {
        return code;
    }
    if (path == NULL) {
        fprintf(stderr, "tessera trace: -o is missing; usage: tessera trace %s\n", command.usage);
        return CLI_USAGE;
    }
    return write_trace(address, keys_dir, path, queues);
}
