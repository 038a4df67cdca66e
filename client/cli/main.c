/* The `tessera` command. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/wire/build.h"

struct subcommand {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

static const struct subcommand subcommands[] = {
    {"scheduler", "run the scheduler of a cluster", tessi_cli_scheduler},
    {"worker", "run a worker that joins a scheduler", tessi_cli_worker},
    {"status", "show what a cluster is doing, and why a task waits", tessi_cli_status},
    {"trace", "write what a cluster has done as a file for Perfetto", tessi_cli_trace},
    {"keygen", "make the keys of a cluster", tessi_cli_keygen},
    {"replay", "feed a recorded run to the scheduler again and compare", tessi_cli_replay},
};
#define SUBCOMMANDS (sizeof subcommands / sizeof subcommands[0])

static void help(FILE *to)
{
    fputs("Examples\n"
          "  tessera scheduler                             a scheduler for programs on this machine\n"
          "  tessera worker tcp://127.0.0.1:8786           a worker with all processors of this machine\n"
          "  tessera status tcp://127.0.0.1:8786           who is there and what is going on\n"
          "  tessera trace tcp://127.0.0.1:8786 -o run.json   what ran where and when, for Perfetto\n"
          "\n"
          "  tessera keygen keys                           for a cluster of several machines: make keys,\n"
          "  tessera scheduler --listen 'tcp://*:8786' --keys keys\n"
          "  tessera worker tcp://node1:8786 --keys keys   copy them to each machine and use them everywhere\n"
          "\n"
          "Commands (each with --help)\n",
          to);
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        fprintf(to, "  %-10s %s\n", subcommands[i].name, subcommands[i].summary);
    }
    fputs("\nExit codes: 0 done, 1 failed, 2 wrong use, 128 + N ended by a second signal N.\n"
          "Options can also be set in the environment: --host-id is TESSERA_HOST_ID.\n"
          "tessera --version prints the version.\n",
          to);
}

static int unknown(const char *word)
{
    const char *names[SUBCOMMANDS];
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        names[i] = subcommands[i].name;
    }
    const char *nearest = tessi_cli_nearest(word, names, SUBCOMMANDS);
    if (nearest != NULL) {
        fprintf(stderr, "tessera: there is no command '%s'; did you mean 'tessera %s'?\n", word, nearest);
    } else {
        fprintf(stderr, "tessera: there is no command '%s'; see 'tessera --help'\n", word);
    }
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    static char word[] = "--help";
    if (argc < 2) {
        help(stderr);
        return CLI_USAGE;
    }
    bool help_wanted = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0;
    if (help_wanted && argc == 2) {
        help(stdout);
        return CLI_OK;
    }
    if (help_wanted) { /* tessera help worker */
        argv[1] = argv[2];
        argv[2] = word;
        argc = 3;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        printf("tessera %s\n", tessi_build_name());
        return CLI_OK;
    }
    for (size_t i = 0; i < SUBCOMMANDS; i++) {
        if (strcmp(argv[1], subcommands[i].name) == 0) {
            return subcommands[i].run(argc - 2, argv + 2);
        }
    }
    return unknown(argv[1]);
}
