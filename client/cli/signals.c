/* Ending on a signal. A handler has no argument of its own, so what it stops is in globals here. */
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "client/cli/cli.h"

static _Atomic(void *) stop_context;
static void (*_Atomic stop_function)(void *context);
static atomic_int signals_seen;

static void handle(int number)
{
    void (*stop)(void *context) = atomic_load(&stop_function);
    if (atomic_fetch_add(&signals_seen, 1) > 0 || stop == NULL) {
        _exit(128 + number);
    }
    stop(atomic_load(&stop_context));
}

static void set_handlers(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void tessi_cli_on_signal(void (*stop)(void *context), void *context)
{
    atomic_store(&stop_context, context);
    atomic_store(&stop_function, stop);
    set_handlers(handle);
}

void tessi_cli_signals_default(void)
{
    /* From here on the next signal ends the process at once: the orderly end is under way. */
    atomic_store(&stop_function, NULL);
}
