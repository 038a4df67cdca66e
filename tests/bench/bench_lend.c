/* Blocks of one worker, read whole by tasks of another, again and again: what a block costs that comes from a neighbour,
 * with all that the engine does for it.
 *
 * An array of 2 × `blocks` blocks is held, its even blocks by the first worker and its odd ones by the second (pinned).
 * Each round submits as many tasks, pinned likewise: those of the second worker read all bytes of the block before theirs,
 * which is the first one's, and those of the first read nothing. After untimed rounds the program prints `ready` and
 * waits for a line, so that tests/bench/lend can look at the workers; then come the timed rounds. `local_us` is what the
 * same reading costs of memory of this process. */
#include <stdio.h>

#include "client/session.h"
#include "core/base/alloc.h"
#include "tests/bench/graph.h"
#include "tests/bench/options.h"
#include "worker/kernel/kernel.h"

#define ROUNDS_MAX 1000

static struct tessi_layer *make_blocks(tess_session *session, int64_t blocks, int64_t elements)
{
    struct tessi_layer *layer = bench_layer(session, TESSI_OP_OPAQUE, 1, (const int64_t[]){2 * blocks});
    tessi_grid_fini(&layer->grid);
    tessi_grid_regular(&layer->grid, &(struct tessi_shape){.ndim = 1, .dim = {2 * blocks * elements}},
                       (const int64_t[TESSI_NDIM_MAX]){elements});
    layer->as.opaque.pin = 2;
    (void)bench_run(session, &layer, 1, 1);
    return layer;
}

static struct tessi_layer *readers(tess_session *session, const struct tessi_layer *from)
{
    uint64_t tasks = tessi_layer_tasks(from);
    uint32_t *rows = tessi_zalloc((tasks + 1) * sizeof *rows), *columns = tessi_zalloc(tasks * sizeof *columns);
    for (uint32_t t = 0; t < tasks; t++) {
        rows[t + 1] = rows[t];
        if (t % 2 == 1) {
            columns[rows[t + 1]++] = t - 1;
        }
    }
    struct tessi_layer *layer = bench_layer(session, TESSI_OP_OPAQUE, 1, (const int64_t[]){(int64_t)tasks});
    layer->as.opaque.pin = 2;
    bench_input(layer, from)->rules.table = tessi_table_create(tasks, tasks, rows, columns);
    tessi_free(rows);
    tessi_free(columns);
    return layer;
}

static double run_round(tess_session *session, const struct tessi_layer *from)
{
    struct tessi_layer *layer = readers(session, from);
    double seconds = bench_run(session, &layer, 1, 1);
    bench_release(session, &layer, 1);
    return seconds;
}

/* Seconds that one task takes to read as many blocks of this process's own memory, one after the other. */
static double read_locally(tess_session *session, const struct tessi_layer *from, int64_t blocks, int64_t elements)
{
    struct tessi_layer *layer = readers(session, from);
    double *memory = tessi_alloc((size_t)(blocks * elements) * sizeof *memory), block, best = 1e9;
    for (int64_t i = 0; i < blocks * elements; i++) {
        memory[i] = (double)i;
    }
    for (int round = 0; round < 5; round++) {
        double started = bench_seconds_now();
        for (int64_t b = 0; b < blocks; b++) {
            struct tessi_error error = {0};
            struct tessi_kernel_call call = {.layer = layer, .index = (uint64_t)(2 * b + 1), .steps = 1, .out = &block};
            call.in[0] = memory + b * elements;
            if (tessi_kernel_run(&call, &error) != TESSI_OK) {
                bench_die("%s", error.text);
            }
        }
        double seconds = bench_seconds_now() - started;
        best = seconds < best ? seconds : best;
    }
    tessi_free(memory);
    tessi_layer_destroy(layer);
    return best;
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL, *keys_dir = NULL;
    int64_t block_bytes = INT64_C(8) << 20, blocks = 16, rounds = 10;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster with two workers of one thread"},
        {"--keys", BENCH_TEXT, &keys_dir, "the keys of the cluster"},
        {"--block", BENCH_BYTES, &block_bytes, "of one block (8MiB)"},
        {"--blocks", BENCH_NUMBER, &blocks, "handed over in a round (16)"},
        {"--rounds", BENCH_NUMBER, &rounds, "(10)"},
    };
    bench_options_parse(argc, argv, "Times tasks that read blocks of another worker; tests/bench/lend runs it.",
                        options, sizeof options / sizeof options[0]);
    if (scheduler == NULL) {
        printf("{\"bench\": \"lend\", \"skipped\": \"needs --scheduler; tests/bench/lend runs it\"}\n");
        return 0;
    }
    if (rounds > ROUNDS_MAX || block_bytes < 8) {
        bench_die("--rounds may be at most %d, --block at least 8", ROUNDS_MAX);
    }
    tess_session *session = bench_session_open_with(scheduler, &(tess_session_options){.keys_dir = keys_dir}, 2);
    struct tessi_layer *from = make_blocks(session, blocks, block_bytes / 8);
    for (int warm = 0; warm < 3; warm++) {
        (void)run_round(session, from);
    }
    printf("ready\n");
    (void)fflush(stdout);
    char line[16];
    (void)fgets(line, sizeof line, stdin);
    double seconds[ROUNDS_MAX];
    for (int64_t r = 0; r < rounds; r++) {
        seconds[r] = run_round(session, from) / (double)blocks;
    }
    char head[256];
    (void)snprintf(head, sizeof head, "\"bench\": \"lend\", \"block\": %lld, \"blocks\": %lld, \"rounds\": %lld, "
                   "\"local_seconds\": %.9f, ", (long long)block_bytes, (long long)blocks, (long long)rounds,
                   read_locally(session, from, blocks, block_bytes / 8) / (double)blocks);
    bench_print_seconds(head, seconds, (size_t)rounds);
    (void)fgets(line, sizeof line, stdin);
    bench_release(session, &from, 1);
    tess_session_close(session);
    return 0;
}
