/* The engine's cost of a task: two layers of one-element blocks, the second reading the first transposed.
 *
 * Nothing is fused, stealing is on, every task has a block and a completion of its own. Timed from the submission until
 * the client knows that the last block is there. */
#include <math.h>
#include <stdio.h>

#include "client/session.h"
#include "core/base/alloc.h"
#include "tests/bench/graph.h"
#include "tests/bench/options.h"

static double run_once(tess_session *session, int64_t side, bool synthetic)
{
    struct tessi_layer *layers[2];
    layers[0] = bench_layer(session, synthetic ? TESSI_OP_SYNTHETIC : TESSI_OP_FULL, 2, (const int64_t[]){side, side});
    if (!synthetic) {
        layers[0]->as.full = (struct tessi_scalar){.dtype = TESSI_F64, .as.f = 1.5};
    }
    layers[1] = bench_layer(session, TESSI_OP_TRANSPOSE, 2, (const int64_t[]){side, side});
    struct tessi_input *input = bench_input(layers[1], layers[0]);
    for (uint32_t d = 0; d < 2; d++) {
        layers[1]->as.transpose.axis[d] = 1 - d;
        input->rules.rule[d].dim = 1 - d;
    }
    double seconds = bench_run(session, layers, 2, 1);
    bench_release(session, layers, 2);
    return seconds;
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL;
    int64_t tasks = 2000000, repeats = 1, workers = 2, warm_up = 20000;
    bool full = false;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (2)"},
        {"--tasks", BENCH_NUMBER, &tasks, "in both layers together, rounded to two squares (2000000)"},
        {"--full", BENCH_FLAG, &full,
         "the first layer is a constant, which workers can make again, and no synthetic tasks"},
        {"--repeats", BENCH_NUMBER, &repeats, "(1)"},
        {"--warm-up", BENCH_NUMBER, &warm_up, "tasks before the timed ones (20000)"},
    };
    bench_options_parse(argc, argv, "Times two layers of one-element tasks, the second reading the first transposed.",
                        options, sizeof options / sizeof options[0]);
    tess_session *session = bench_session_open(scheduler, workers, (uint32_t)workers);
    int64_t side = (int64_t)sqrt((double)tasks / 2 + 0.5), small = (int64_t)sqrt((double)warm_up / 2 + 0.5);
    (void)run_once(session, small > 0 ? small : 1, !full);
    double *seconds = tessi_zalloc((size_t)repeats * sizeof *seconds);
    for (int64_t r = 0; r < repeats; r++) {
        seconds[r] = run_once(session, side, !full);
    }
    char head[256];
    (void)snprintf(head, sizeof head, "\"bench\": \"tasks\", \"tasks\": %lld, \"embedded\": %s, \"full\": %s, ",
                   (long long)(2 * side * side), scheduler == NULL ? "true" : "false", full ? "true" : "false");
    bench_print_seconds(head, seconds, (size_t)repeats);
    tessi_free(seconds);
    tess_session_close(session);
    return 0;
}
