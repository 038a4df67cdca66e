/* `tessera status --why` */
#ifndef TESSERA_CLI_WHY_H
#define TESSERA_CLI_WHY_H

#include <stdbool.h>

/* `task`: "LAYER:INDEX" or "SESSION.LAYER:INDEX"; "": the first that waits in each session. Returns the exit code. */
int tessi_cli_why(const char *address, const char *keys_dir, const char *task, bool as_json);

#endif
