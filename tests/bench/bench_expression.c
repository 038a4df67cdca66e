/* sum((A + B) · C) of three .npy files: what tests/integration/test_memory.py runs on workers that have a quarter of the
 * memory that A, B and C take. */
#include <stdio.h>

#include "client/tessera.h"
#include "tests/bench/options.h"

static void check_status(tess_session *session, tess_status status)
{
    if (status != TESS_OK) {
        bench_die("%s", tess_session_error(session));
    }
}

int main(int argc, char **argv)
{
    const char *scheduler = NULL, *a = NULL, *b = NULL, *c = NULL;
    int64_t chunk = 256;
    const struct bench_option options[] = {
        {"--scheduler", BENCH_TEXT, &scheduler, "of a cluster (default: one inside this process)"},
        {"--a", BENCH_TEXT, &a, "file of A"},
        {"--b", BENCH_TEXT, &b, "file of B"},
        {"--c", BENCH_TEXT, &c, "file of C"},
        {"--chunk", BENCH_NUMBER, &chunk, "side of the blocks (256)"},
    };
    bench_options_parse(argc, argv, "Computes sum((A + B) C) of three .npy files.", options,
                        sizeof options / sizeof options[0]);
    if (a == NULL || b == NULL || c == NULL) {
        printf("{\"program\": \"bench_expression\", \"skipped\": \"needs --a, --b and --c\"}\n");
        return 0;
    }
    tess_session *session = tess_session_open(scheduler, NULL);
    check_status(session, tess_session_status(session));
    tess_shape chunks = TESS_CHUNKS(chunk, chunk);
    double started = bench_seconds_now(), sum = 0.0;
    tess_array *factor = tess_add(tess_from_npy(session, a, chunks), tess_from_npy(session, b, chunks));
    tess_array *product = tess_matmul(factor, tess_from_npy(session, c, chunks));
    check_status(session, tess_read(tess_sum(product, TESS_ALL, false), &sum, sizeof sum));
    printf("{\"program\": \"bench_expression\", \"seconds\": %.6f, \"sum\": %.17g}\n", bench_seconds_now() - started, sum);
    tess_session_close(session);
    return 0;
}
