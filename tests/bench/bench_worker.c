/* A worker of one thread that sleeps longer than its tasks say: a slow machine for tests/bench/balance.
 *
 * Everything is the ordinary worker's, but for the sleep of synthetic tasks: this program's clock_nanosleep takes the place of
 * the C library's. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/options.h"
#include "worker/worker.h"

#define NS_PER_S INT64_C(1000000000)

static int64_t slowness = 1;
static struct tessi_worker *running;

/* Declared by time.h. No task sleeps for so long that the product overflows. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *left)
{
    int64_t ns = ((int64_t)request->tv_sec * NS_PER_S + request->tv_nsec) * slowness;
    struct timespec longer = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    (void)left;
    while (syscall(SYS_clock_nanosleep, clock, flags, &longer, &longer) != 0) {
    }
    return 0;
}

static void stop(int number)
{
    (void)number;
    tessi_worker_stop(running);
}

static void connected(void *context, const char *scheduler, uint32_t id)
{
    (void)context;
    printf("connected to %s as %u\n", scheduler, id);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    struct tessi_worker_config config = {.threads = 1, .memory_bytes = UINT64_C(256) << 20, .connected = connected};
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &config.scheduler, "of the cluster to join"},
        {"--slowness", BENCH_NUMBER, &slowness, "sleeps so many times as long (1)"},
    };
    bench_options_parse(argc, argv, "A worker that sleeps longer than its tasks say.", options,
                        sizeof options / sizeof options[0]);
    if (config.scheduler == NULL) {
        printf("{\"program\": \"bench_worker\", \"skipped\": \"needs --scheduler; tests/bench/balance runs it\"}\n");
        return 0;
    }
    struct tessi_error error = {0};
    if (tessi_worker_create(&config, &running, &error) != TESSI_OK) {
        bench_die("%s", error.text);
    }
    (void)signal(SIGTERM, stop);
    enum tessi_status status = tessi_worker_run(running, &error);
    tessi_worker_destroy(running);
    if (status != TESSI_OK) {
        bench_die("%s", error.text);
    }
    return 0;
}
