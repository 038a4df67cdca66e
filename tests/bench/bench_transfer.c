/* One worker reads what another one made: the client of tests/bench/transfer, which starts the cluster around it.
 *
 * While the first worker (of one thread) is alone, two arrays are computed there and held, and its thread is put to
 * sleep by a task that only waits. Then the program prints `ready` and waits for a second worker. What is asked for
 * next can run on that one only: slices of one element for each block, so that every task needs a whole
 * block of the first worker and computes nothing. The first array meets memory and connections that were never used
 * (`cold_seconds`); the second those that the first has left, and counts. The elements are checked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/array.h"
#include "client/tessera.h"
#include "tests/bench/options.h"

#define JOIN_SECONDS 30

static void check_status(tess_session *session, tess_status status)
{
    if (status != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
}

/* Numbers that are not a generator's, which could be made anew instead of fetched. */
static tess_array *make_numbers(tess_session *session, int64_t blocks, int64_t block_elements)
{
    tess_array *numbers = tess_add_scalar(
        tess_arange(session, 0, (double)(blocks * block_elements), 1, TESS_F64, TESS_CHUNKS(block_elements)), 0.5);
    check_status(session, tess_persist(numbers));
    check_status(session, tess_wait(numbers, 0));
    return numbers;
}

/* Occupy one slot without using the processor: with two tasks, since a slot is handed the next one ahead of time.
 * The public header has no such operation, and needs none. */
static void occupy_slot(tess_session *session, int64_t seconds)
{
    struct tessi_error error = {0};
    struct tessi_shape shape = {.ndim = 1, .dim = {2}};
    const int64_t chunk[TESSI_NDIM_MAX] = {1};
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_SYNTHETIC, TESSI_F64);
    tessi_grid_regular(&layer->grid, &shape, chunk);
    layer->as.synthetic.pin = 1; /* both stay where they begin, though another worker has nothing to do */
    layer->as.synthetic.nanoseconds = (uint64_t)seconds * UINT64_C(1000000000);
    struct tessi_node *node = tessi_node_build(session, layer, NULL, &error);
    check_status(session, tess_persist(tessi_array_finish(session, "occupy_slot", node, &error)));
}

static tess_stats stats_of(tess_session *session)
{
    tess_stats stats;
    check_status(session, tess_session_stats(session, &stats));
    return stats;
}

static void wait_for_workers(tess_session *session, uint32_t count)
{
    double end = bench_seconds_now() + JOIN_SECONDS;
    while (stats_of(session).workers < count) {
        if (bench_seconds_now() > end) {
            bench_die("no second worker within %d s", JOIN_SECONDS);
        }
        struct timespec pause = {.tv_nsec = 10000000};
        (void)nanosleep(&pause, NULL);
    }
}

/* Seconds until one element of each block has been taken out of it. */
static double read_blocks(tess_session *session, tess_array *numbers, int64_t blocks, int64_t block_elements)
{
    double *values = calloc((size_t)blocks, sizeof *values);
    if (values == NULL) {
        bench_die("no memory");
    }
    tess_array *firsts = tess_slice(numbers, TESS_SLICES(TESS_STEP(0, TESS_END, block_elements)));
    double started = bench_seconds_now();
    check_status(session, tess_persist(firsts));
    check_status(session, tess_wait(firsts, 0));
    double seconds = bench_seconds_now() - started;
    check_status(session, tess_read(firsts, values, (uint64_t)blocks * sizeof *values));
    for (int64_t b = 0; b < blocks; b++) {
        if (values[b] != (double)(b * block_elements) + 0.5) {
            bench_die("block %lld begins with %g", (long long)b, values[b]);
        }
    }
    tess_release(firsts);
    free(values);
    return seconds;
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL, *keys_dir = NULL;
    int64_t bytes = INT64_C(1) << 30, block_bytes = INT64_C(16) << 20, occupied_seconds = 10;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster with one worker of one thread"},
        {"--keys", BENCH_TEXT, &keys_dir, "the keys of the cluster"},
        {"--bytes", BENCH_BYTES, &bytes, "to be read (1GiB)"},
        {"--block", BENCH_BYTES, &block_bytes, "of one block (16MiB)"},
        {"--occupied", BENCH_NUMBER, &occupied_seconds, "for which the first worker runs nothing (10)"},
    };
    bench_options_parse(argc, argv, "Times the way of blocks from one worker to another; tests/bench/transfer runs it.",
                        options, sizeof options / sizeof options[0]);
    if (scheduler == NULL) {
        printf("{\"program\": \"bench_transfer\", \"skipped\": \"needs --scheduler; tests/bench/transfer runs it\"}\n");
        return 0;
    }
    int64_t block_elements = block_bytes / 8, blocks = bytes / block_bytes;
    if (block_elements == 0 || blocks == 0) {
        bench_die("--bytes must be at least --block, and that at least 8");
    }
    tess_session_options session_options = {.keys_dir = keys_dir};
    tess_session *session = tess_session_open(scheduler, &session_options);
    check_status(session, tess_session_status(session));
    wait_for_workers(session, 1);
    tess_array *first = make_numbers(session, blocks, block_elements);
    tess_array *second = make_numbers(session, blocks, block_elements);
    occupy_slot(session, occupied_seconds);
    double occupied_end = bench_seconds_now() + (double)occupied_seconds;
    printf("ready\n");
    (void)fflush(stdout);
    wait_for_workers(session, 2);
    double cold_seconds = read_blocks(session, first, blocks, block_elements);
    tess_release(first);
    double seconds = read_blocks(session, second, blocks, block_elements);
    bool in_time = bench_seconds_now() < occupied_end;
    printf("{\"program\": \"bench_transfer\", \"bytes\": %lld, \"block\": %lld, \"seconds\": %.6f, \"gb_per_s\": %.3f, "
           "\"cold_seconds\": %.6f, \"first_worker_slept\": %s, \"encrypted\": %s}\n",
           (long long)(blocks * block_bytes), (long long)block_bytes, seconds,
           (double)(blocks * block_bytes) / seconds / 1e9, cold_seconds, in_time ? "true" : "false",
           keys_dir != NULL ? "true" : "false");
    (void)fflush(stdout);
    char line[16];
    (void)fgets(line, sizeof line, stdin); /* the script looks at the workers before the session is closed */
    tess_session_close(session);
    return 0;
}
