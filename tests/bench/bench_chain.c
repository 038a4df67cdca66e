/* A chain of synthetic one-element tasks, each reading the one before: one layer that reads itself, one place back.
 *
 * With --alternate the tasks are pinned to the workers in turn, so that every link crosses from one to the next.
 * Timed from the submission until the client knows that the last block is there; the blocks are compared with a
 * serial run. */
#include <stdio.h>

#include "client/session.h"
#include "core/base/alloc.h"
#include "tests/bench/graph.h"
#include "tests/bench/options.h"

static double run_once(tess_session *session, int64_t links, uint32_t pin)
{
    struct tessi_layer *layer = bench_layer(session, TESSI_OP_SYNTHETIC, 1, &links);
    layer->as.synthetic.pin = pin;
    bench_input(layer, layer)->rules.rule[0] = (struct tessi_rule){.kind = TESSI_RULE_OFFSET, .dim = 0, .value = -1};
    return bench_run_checked(session, layer);
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL;
    int64_t links = 10000, repeats = 1, workers = 1;
    bool alternate = false;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--workers", BENCH_NUMBER, &workers, "to wait for, or slots of the embedded cluster (1)"},
        {"--links", BENCH_NUMBER, &links, "(10000)"},
        {"--alternate", BENCH_FLAG, &alternate, "from worker to worker in turn"},
        {"--repeats", BENCH_NUMBER, &repeats, "(1)"},
    };
    bench_options_parse(argc, argv, "Times a chain of dependent synthetic tasks.", options,
                        sizeof options / sizeof options[0]);
    tess_session *session = bench_session_open(scheduler, workers, (uint32_t)workers);
    uint32_t pin = alternate ? (uint32_t)workers : 1;
    (void)run_once(session, links > 1000 ? 1000 : links, pin);
    double *seconds = tessi_zalloc((size_t)repeats * sizeof *seconds);
    for (int64_t r = 0; r < repeats; r++) {
        seconds[r] = run_once(session, links, pin);
    }
    char head[256];
    (void)snprintf(head, sizeof head, "\"bench\": \"chain\", \"links\": %lld, \"alternate\": %s, \"embedded\": %s, ",
                   (long long)links, alternate ? "true" : "false", scheduler == NULL ? "true" : "false");
    bench_print_seconds(head, seconds, (size_t)repeats);
    tessi_free(seconds);
    tess_session_close(session);
    return 0;
}
