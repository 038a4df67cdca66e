/* An irregular graph of synthetic tasks: each reads one to three blocks, drawn from the `width` tasks before it.
 *
 * The graph goes to the cluster as one layer that reads itself through an explicit table. Timed from the submission
 * until the client knows that the last block is there; every block is compared with a serial run. */
#include <stdio.h>

#include "client/session.h"
#include "core/base/alloc.h"
#include "core/base/philox.h"
#include "tests/bench/graph.h"
#include "tests/bench/options.h"

#define READS_MAX 3

static struct tessi_table *draw_table(uint64_t tasks, uint64_t width, uint64_t seed)
{
    uint32_t *rows = tessi_zalloc((tasks + 1) * sizeof *rows);
    uint32_t *columns = tessi_zalloc(tasks * READS_MAX * sizeof *columns);
    for (uint64_t t = 0; t < tasks; t++) {
        uint32_t at = rows[t];
        uint64_t reach = t < width ? t : width;
        uint32_t word[4];
        tessi_philox_element(seed, t, 0, word);
        uint64_t wanted = 1 + word[3] % READS_MAX;
        for (uint64_t n = 0; n < wanted && reach > 0; n++) {
            uint32_t column = (uint32_t)(t - 1 - word[n] % reach);
            uint32_t place = at;
            while (place > rows[t] && columns[place - 1] > column) {
                place--;
            }
            if (place > rows[t] && columns[place - 1] == column) {
                continue; /* drawn twice: read once */
            }
            for (uint32_t k = at; k > place; k--) {
                columns[k] = columns[k - 1];
            }
            columns[place] = column;
            at++;
        }
        rows[t + 1] = at;
    }
    struct tessi_table *table = tessi_table_create(tasks, tasks, rows, columns);
    tessi_free(rows);
    tessi_free(columns);
    return table;
}

static double run_once(tess_session *session, int64_t tasks, int64_t width, int64_t nanoseconds, bool sleeps,
                       uint64_t seed)
{
    struct tessi_layer *layer = bench_layer(session, TESSI_OP_SYNTHETIC, 1, &tasks);
    layer->as.synthetic.nanoseconds = (uint64_t)nanoseconds;
    layer->as.synthetic.spin = !sleeps;
    bench_input(layer, layer)->rules.table = draw_table((uint64_t)tasks, (uint64_t)width, seed);
    return bench_run_checked(session, layer);
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL;
    int64_t tasks = 200000, width = 1000, repeats = 1, workers = 2, nanoseconds = 0, warm_up = 20000;
    bool sleeps = false;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (2)"},
        {"--tasks", BENCH_NUMBER, &tasks, "(200000)"},
        {"--width", BENCH_NUMBER, &width, "a task reads from so many before it (1000)"},
        {"--nanoseconds", BENCH_NUMBER, &nanoseconds, "each task spins (none)"},
        {"--sleep", BENCH_FLAG, &sleeps, "instead"},
        {"--repeats", BENCH_NUMBER, &repeats, "(1)"},
        {"--warm-up", BENCH_NUMBER, &warm_up, "tasks before the timed ones (20000)"},
    };
    bench_options_parse(argc, argv, "Times an irregular graph of synthetic tasks.", options,
                        sizeof options / sizeof options[0]);
    tess_session *session = bench_session_open(scheduler, workers, (uint32_t)workers);
    (void)run_once(session, warm_up, width, nanoseconds, sleeps, 0);
    double *seconds = tessi_zalloc((size_t)repeats * sizeof *seconds);
    for (int64_t r = 0; r < repeats; r++) {
        seconds[r] = run_once(session, tasks, width, nanoseconds, sleeps, (uint64_t)r + 1);
    }
    char head[256];
    (void)snprintf(head, sizeof head,
                   "\"bench\": \"dag\", \"tasks\": %lld, \"width\": %lld, \"nanoseconds\": %lld, \"embedded\": %s, ",
                   (long long)tasks, (long long)width, (long long)nanoseconds, scheduler == NULL ? "true" : "false");
    bench_print_seconds(head, seconds, (size_t)repeats);
    tessi_free(seconds);
    tess_session_close(session);
    return 0;
}
