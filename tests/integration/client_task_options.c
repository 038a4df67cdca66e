/* A client for tests: an urgent array, and one whose tasks demand a resource, read and compared with the same arrays made
 * in this process.
 *
 *     client_task_options ADDRESS N CHUNK DEMAND */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/tessera.h"

static bool compute(tess_session *session, int64_t n, int64_t chunk, const char *demand, double sums[2])
{
    tess_array *a = tess_random_uniform(session, TESS_SHAPE(n, n), TESS_F64, 0, 1, 7, TESS_CHUNKS(chunk, chunk));
    tess_array *b = tess_random_uniform(session, TESS_SHAPE(n, n), TESS_F64, 0, 1, 8, TESS_CHUNKS(chunk, chunk));
    tess_array *product = tess_name(tess_matmul(a, b), "the \033 product");
    tess_array *roots = tess_sqrt(tess_add(tess_transpose(a), b));
    bool good = tess_schedule(product, &(tess_compute_options){.resources = demand}) == TESS_OK &&
                tess_schedule(roots, &(tess_compute_options){.priority = 5}) == TESS_OK;
    tess_array *both[] = {product, roots};
    good = good && tess_persist_all(both, 2) == TESS_OK;
    for (int i = 0; good && i < 2; i++) {
        good = tess_read_scalar(tess_sum(both[i], TESS_ALL, false), &sums[i]) == TESS_OK;
    }
    if (!good) {
        fprintf(stderr, "task_options: %s\n", tess_session_error(session));
    }
    return good;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "Usage: client_task_options ADDRESS N CHUNK DEMAND\n");
        return 2;
    }
    int64_t n = atoll(argv[2]), chunk = atoll(argv[3]);
    double there[2] = {0}, here[2] = {1, 1};
    tess_session *session = tess_session_open(argv[1], NULL);
    bool good = compute(session, n, chunk, argv[4], there);
    tess_session_close(session);
    tess_session *local = tess_session_open(TESS_EMBEDDED, &(tess_session_options){.workers = 1, .resources = argv[4]});
    good = good && compute(local, n, chunk, argv[4], here);
    tess_session_close(local);
    bool same = good && memcmp(there, here, sizeof there) == 0;
    printf("{\"same\": %s}\n", same ? "true" : "false");
    return same ? 0 : 1;
}
