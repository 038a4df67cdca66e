/* `tessera worker` */
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "core/base/clock.h"
#include "core/base/descriptors.h"
#include "worker/trace/trace.h"
#include "worker/worker.h"

#define DRAIN_NS (10 * TESSI_NS_PER_S)

static void stop(void *context)
{
    tessi_worker_stop(context);
}

static void connected(void *context, const char *scheduler, uint32_t id)
{
    (void)context;
    printf("connected to %s as worker %u\n", scheduler, id);
    fflush(stdout);
}

static int work(const struct tessi_worker_config *config)
{
    struct tessi_worker *worker;
    struct tessi_error error = {0};
    tessi_descriptors_raise();
    if (tessi_worker_create(config, &worker, &error) != TESSI_OK) {
        return tessi_cli_fail(&error);
    }
    tessi_cli_on_signal(stop, worker);
    enum tessi_status status = tessi_worker_run(worker, &error);
    tessi_cli_signals_default();
    tessi_worker_destroy(worker);
    return status == TESSI_OK ? CLI_OK : tessi_cli_fail(&error);
}

int tessi_cli_worker(int argc, char **argv)
{
    const char *log = "info";
    uint32_t trace_events = TESSI_TRACE_EVENTS;
    int64_t drain_ns = DRAIN_NS;
    struct tessi_worker_config config = {.connected = connected};
    const struct cli_option options[] = {
        {"threads", "N", "CPU slots (the processors that this process may use)", CLI_POSITIVE, &config.threads},
        {"memory", "SIZE", "budget for blocks (60 % of the memory)", CLI_BYTES, &config.memory_bytes},
        {"name", "NAME", "how the cluster calls this worker (host name and process)", CLI_TEXT, &config.name},
        {"spill", "DIR", "where blocks go that memory cannot hold ($TMPDIR or /tmp); none: nowhere", CLI_TEXT,
         &config.spill_dir},
        {"spill-limit", "SIZE", "bound on such files (half of the free space)", CLI_BYTES, &config.spill_bytes},
        {"data", "DIR", "read files named by clients below this folder only", CLI_TEXT, &config.data_dir},
        {"write", "DIR", "write results below this folder, for clients that see it too", CLI_TEXT, &config.write_dir},
        {"host-id", "ID", "workers with equal ids share memory (the boot id)", CLI_TEXT, &config.host_id},
        {"keys", "DIR", "the cluster's keys", CLI_TEXT, &config.keys_dir},
        {"blas-core", "NAME", "compute with this numerics family and no other", CLI_TEXT, &config.blas_core},
        {"gpus", "WHICH", "auto (default), none, or numbers such as 0,1; emulated:SETTINGS for tests", CLI_TEXT,
         &config.gpus},
        {"gpu-memory", "SIZE", "of each GPU, a share such as 90% or a size such as 8GiB (90%)", CLI_TEXT,
         &config.gpu_memory},
        {"listen-host", "HOST", "address on which other workers reach this one", CLI_TEXT, &config.listen_host},
        {"resources", "LIST", "what tasks may demand of this worker, such as ssd=2,license=1", CLI_TEXT,
         &config.resources},
        {"trace-events", "N", "kept for each slot, 48 bytes each (65536, which is 3 MiB; 0: none)", CLI_COUNT,
         &trace_events},
        {"drain-timeout", "TIME", "on Ctrl-C or SIGTERM, hand blocks over to others for so long (10s); 0: just go",
         CLI_DURATION, &drain_ns},
        {"pin", NULL, "bind each slot to a processor", CLI_FLAG, &config.pin},
        {"log", "LEVEL", "off, error, warn, info (default) or debug", CLI_TEXT, &log},
    };
    const struct cli_command command = {
        .name = "worker",
        .summary = "Run a worker until Ctrl-C, SIGTERM or the end of its scheduler. A second signal ends it at once.",
        .usage = "ADDRESS [options]",
        .examples = "  tessera worker tcp://127.0.0.1:8786\n"
                    "  tessera worker tcp://node1:8786 --threads 16 --memory 48GiB --spill /scratch\n"
                    "  tessera worker tcp://node1:8786 --resources ssd=2,license=1\n"
                    "  TESSERA_SCHEDULER=tcp://node1:8786 TESSERA_KEYS=keys tessera worker\n",
        .positional = "ADDRESS",
        .positional_environment = "TESSERA_SCHEDULER",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    int code = tessi_cli_parse(&command, argc, argv, &config.scheduler);
    if (code >= 0) {
        return code;
    }
    config.trace_events = trace_events;
    config.no_trace = trace_events == 0;
    if (config.spill_dir != NULL && strcmp(config.spill_dir, "none") == 0) {
        config.spill_dir = NULL;
        config.no_spill = true;
    }
    if (drain_ns < 0 || drain_ns / TESSI_NS_PER_MS > UINT32_MAX) {
        fprintf(stderr, "tessera worker: --drain-timeout: at most 49 days\n");
        return CLI_USAGE;
    }
    config.drain_timeout_ms = (uint32_t)((drain_ns + TESSI_NS_PER_MS - 1) / TESSI_NS_PER_MS);
    return tessi_cli_log(log) ? work(&config) : CLI_USAGE;
}
