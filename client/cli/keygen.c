/* `tessera keygen` */
#include <stdio.h>

#include "client/cli/cli.h"
#include "core/net/keys.h"

int tessi_cli_keygen(int argc, char **argv)
{
    const char *dir = NULL;
    struct tessi_error error = {0};
    const struct cli_command command = {
        .name = "keygen",
        .summary = "Make the key pair of a cluster in the folder DIR. Whoever can read it is a member of the cluster.",
        .usage = "DIR",
        .examples = "  tessera keygen keys\n"
                    "  tessera scheduler --listen 'tcp://*:8786' --keys keys\n",
        .positional = "DIR",
    };
    int code = tessi_cli_parse(&command, argc, argv, &dir);
    if (code >= 0) {
        return code;
    }
    if (tessi_keys_generate(dir, &error) != TESSI_OK) {
        return tessi_cli_fail(&error);
    }
    printf("%s/cluster.public\n%s/cluster.secret\n", dir, dir);
    fprintf(stderr, "Copy the folder to every machine of the cluster and give --keys %s everywhere.\n", dir);
    return CLI_OK;
}
