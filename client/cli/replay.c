/* `tessera replay` */
#include <inttypes.h>
#include <stdio.h>

#include "client/cli/cli.h"
#include "core/server/replay.h"

int tessi_cli_replay(int argc, char **argv)
{
    const char *path = NULL;
    struct tessi_error error = {0};
    struct tessi_replay_counts counts;
    const struct cli_command command = {
        .name = "replay",
        .summary = "Feed a recorded run to a fresh scheduler; every step must ask for the same actions.",
        .usage = "FILE",
        .examples = "  tessera scheduler --record run.rec\n"
                    "  tessera replay run.rec\n",
        .positional = "FILE",
    };
    int code = tessi_cli_parse(&command, argc, argv, &path);
    if (code >= 0) {
        return code;
    }
    if (tessi_replay(path, &counts, &error) != TESSI_OK) {
        return tessi_cli_fail(&error);
    }
    printf("%" PRIu64 " steps over %.3f s gave the same %" PRIu64 " actions (%" PRIu64 " messages received)\n",
           counts.steps, (double)counts.covered_ns / 1e9, counts.actions, counts.messages);
    if (counts.compared != counts.steps) {
        printf("the last step was not compared: the scheduler did not live to end it\n");
    }
    return CLI_OK;
}
