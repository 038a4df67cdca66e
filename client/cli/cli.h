/* What the subcommands of `tessera` share: options, texts for people, signals.
 *
 * Standard output is data, standard error is for people. Exit codes: 0 done, 1 failed, 2 wrong use. */
#ifndef TESSERA_CLI_CLI_H
#define TESSERA_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

enum cli_kind {
    CLI_FLAG,     /* bool: no value */
    CLI_TEXT,     /* const char *: borrowed from the arguments or the environment */
    CLI_OPTIONAL, /* the same, "" when no value follows; one in the next argument begins with a digit */
    CLI_COUNT,    /* uint32_t */
    CLI_POSITIVE, /* the same, 1 or more: what is 0 in a struct of settings stands for what is usual */
    CLI_BYTES,    /* uint64_t, 1 or more: 512MiB, 8GiB, 1000000 */
    CLI_DURATION, /* int64_t nanoseconds: 500ms, 10s, 2min; a plain number is seconds */
};

/* The value comes from `--name VALUE` or `--name=VALUE`, else from TESSERA_NAME in the environment (upper
 * case, dashes as underscores), else it stays what it was. */
struct cli_option {
    const char *name;  /* without the dashes */
    const char *value; /* what help calls the value; NULL for a flag */
    const char *help;
    enum cli_kind kind;
    void *target;
};

struct cli_command {
    const char *name;
    const char *summary;
    const char *usage;                  /* what follows the name: "ADDRESS [options]" */
    const char *examples;               /* lines of help, first */
    const char *positional;             /* name of the one argument; NULL: it takes none */
    const char *positional_environment; /* where it comes from when it is not given; NULL: nowhere */
    const char *positional_default;     /* NULL: it must be given */
    const struct cli_option *options;
    size_t option_count;
    char letter;                        /* -x stands for the option `letter_name`; 0: none */
    const char *letter_name;
};

/* Parse the arguments after the subcommand's name. Returns −1 to go on, or the exit code (help was printed,
 * or what is wrong). `*positional` is set when the command has one. */
int tessi_cli_parse(const struct cli_command *command, int argc, char **argv, const char **positional);

/* "tessera: text" on standard error; returns CLI_FAILED. */
int tessi_cli_fail(const struct tessi_error *error);

/* The name of the list nearest to `word` by edits; NULL when nothing is near. */
const char *tessi_cli_nearest(const char *word, const char *const *names, size_t count);

bool tessi_cli_parse_bytes(const char *text, uint64_t *bytes);
bool tessi_cli_parse_duration(const char *text, int64_t *ns);
/* "8.0 GiB" into text; returns text. */
const char *tessi_cli_format_bytes(double bytes, char *text, size_t size);

/* Texts of a document that came over the wire are changed to what a terminal may get (tessi_text_show). */
struct cJSON;
void tessi_cli_make_showable(struct cJSON *root);
/* A document as it is, and a line's end: what a terminal must not get is written with escapes, which is the same JSON. */
void tessi_cli_print_json(const char *json);

/* Let the first SIGINT or SIGTERM call `stop(context)`, on whatever thread gets it, and a second end the
 * process at once with 128 + its number. `stop` must be safe in a signal handler. */
void tessi_cli_on_signal(void (*stop)(void *context), void *context);
/* Signals act as before; call it before `context` goes. */
void tessi_cli_signals_default(void);

/* Read --log and open the log for people at that level; false and a message when there is no such level. */
bool tessi_cli_log(const char *level);

int tessi_cli_scheduler(int argc, char **argv);
int tessi_cli_worker(int argc, char **argv);
int tessi_cli_status(int argc, char **argv);
int tessi_cli_trace(int argc, char **argv);
int tessi_cli_keygen(int argc, char **argv);
int tessi_cli_replay(int argc, char **argv);

#endif
