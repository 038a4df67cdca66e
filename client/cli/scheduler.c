/* `tessera scheduler` */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/base/clock.h"
#include "core/base/descriptors.h"
#include "core/server/history.h"
#include "core/server/scheduler.h"
#include "worker/settings.h"

#define TIMEOUT_LEAST_NS (100 * TESSI_NS_PER_MS)

static void stop(void *context)
{
    tessi_scheduler_stop(context);
}

static int serve(const struct tessi_scheduler_config *config)
{
    struct tessi_scheduler *scheduler;
    struct tessi_error error = {0};
    tessi_descriptors_raise();
    if (tessi_scheduler_create(config, &scheduler, &error) != TESSI_OK) {
        return tessi_cli_fail(&error);
    }
    tessi_cli_on_signal(stop, scheduler);
    printf("listening on %s\n", tessi_scheduler_endpoint(scheduler));
    fflush(stdout);
    tessi_scheduler_run(scheduler);
    tessi_cli_signals_default();
    tessi_scheduler_destroy(scheduler);
    return CLI_OK;
}

/* Peers say several times in such a span that they live; shorter ones would take everybody for lost. */
static bool long_enough(const char *option, int64_t span_ns)
{
    if (span_ns < TIMEOUT_LEAST_NS) {
        fprintf(stderr, "tessera scheduler: --%s: give 100ms or more\n", option);
    }
    return span_ns >= TIMEOUT_LEAST_NS;
}

int tessi_cli_scheduler(int argc, char **argv)
{
    const char *log = "info", *family = "";
    char history[PATH_MAX];
    struct tessi_scheduler_config config = {.listen = TESSI_SCHEDULER_ADDRESS, .sched = tessi_sched_config_default()};
    const struct cli_option options[] = {
        {"listen", "ADDRESS", "where to listen (" TESSI_SCHEDULER_ADDRESS "); port 0 takes a free one", CLI_TEXT,
         &config.listen},
        {"keys", "DIR", "encrypt, and let in only who has the same keys", CLI_TEXT, &config.keys_dir},
        {"insecure", NULL, "listen beyond this machine without keys", CLI_FLAG, &config.insecure},
        {"memory", "SIZE", "for what it has to know of graphs (half of the memory)", CLI_BYTES, &config.sched.memory_bytes},
        {"wait-workers", "TIME", "how long work waits when there is no worker at all (5s); 0: not at all", CLI_DURATION,
         &config.sched.wait_workers_ns},
        {"worker-timeout", "TIME", "a worker silent for so long is lost (10s)", CLI_DURATION,
         &config.sched.worker_silence_ns},
        {"client-timeout", "TIME", "a client silent for so long loses its arrays (60s)", CLI_DURATION,
         &config.sched.client_silence_ns},
        {"blas-core", "NAME", "numerics family of the cluster (the first worker's best)", CLI_TEXT, &family},
        {"record", "FILE", "record the run for `tessera replay`", CLI_TEXT, &config.record_path},
        {"history", "FILE", "keep run times there between runs ($XDG_STATE_HOME/tessera/history); none: nowhere",
         CLI_TEXT, &config.history_path},
        {"log", "LEVEL", "off, error, warn, info (default) or debug", CLI_TEXT, &log},
    };
    const struct cli_command command = {
        .name = "scheduler",
        .summary =
            "Run the scheduler of a cluster until Ctrl-C or SIGTERM. The first line of output is where it listens.",
        .usage = "[options]",
        .examples = "  tessera scheduler\n"
                    "  tessera scheduler --listen tcp://127.0.0.1:0\n"
                    "  tessera scheduler --listen 'tcp://*:8786' --keys keys\n",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    int code = tessi_cli_parse(&command, argc, argv, NULL);
    if (code >= 0) {
        return code;
    }
    if (!tessi_cli_log(log)) {
        return CLI_USAGE;
    }
    if (!long_enough("worker-timeout", config.sched.worker_silence_ns) ||
        !long_enough("client-timeout", config.sched.client_silence_ns)) {
        return CLI_USAGE;
    }
    if (config.sched.memory_bytes == 0) {
        config.sched.memory_bytes = tessi_settings_memory() / 2;
    }
    if (config.sched.wait_workers_ns == 0) {
        config.sched.wait_workers_ns = 1; /* not at all; 0 stands for what is usual */
    }
    if (strlen(family) >= sizeof config.sched.family) {
        fprintf(stderr, "tessera scheduler: --blas-core %s: no family has such a long name\n", family);
        return CLI_USAGE;
    }
    if (config.history_path == NULL && tessi_history_default_path(history, sizeof history)) {
        config.history_path = history;
    } else if (config.history_path != NULL && strcmp(config.history_path, "none") == 0) {
        config.history_path = NULL;
    }
    memcpy(config.sched.family, family, strlen(family) + 1);
    return serve(&config);
}
