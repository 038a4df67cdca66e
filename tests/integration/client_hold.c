/* A client for tests: holds an array on the cluster, says so, waits until somebody closes the FIFO, reads it and
 * compares it with the same array made in this process.
 *
 *     client_hold ADDRESS ROWS CHUNK FIFO */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/tessera.h"

static tess_array *make(tess_session *session, int64_t rows, int64_t chunk)
{
    tess_array *numbers = tess_random_uniform(session, TESS_SHAPE(rows, 1000), TESS_F64, 0, 1, 7, TESS_CHUNKS(chunk, 1000));
    return tess_sqrt(tess_add_scalar(numbers, 1));
}

/* False when the session has an error. */
static bool read_all(tess_session *session, tess_array *array, double *values, uint64_t bytes)
{
    if (tess_read(array, values, bytes) != TESS_OK) {
        fprintf(stderr, "hold: %s\n", tess_session_error(session));
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "Usage: client_hold ADDRESS ROWS CHUNK FIFO\n");
        return 2;
    }
    int64_t rows = atoll(argv[2]), chunk = atoll(argv[3]);
    uint64_t bytes = (uint64_t)rows * 1000 * sizeof(double);
    double *values = malloc(bytes), *expected = malloc(bytes);
    tess_session *session = tess_session_open(argv[1], NULL);
    tess_array *held = make(session, rows, chunk);
    bool good = values != NULL && expected != NULL && tess_persist(held) == TESS_OK && tess_wait(held, 0) == TESS_OK;
    if (!good) {
        fprintf(stderr, "hold: %s\n", tess_session_error(session));
        tess_session_close(session);
        return 1;
    }
    printf("holding %" PRIu64 " bytes\n", bytes);
    fflush(stdout);
    int fifo = open(argv[4], O_RDONLY);
    char byte;
    while (fifo >= 0 && read(fifo, &byte, 1) > 0) {
    }
    (void)close(fifo);
    good = read_all(session, held, values, bytes);
    tess_session_close(session);
    tess_session *local = tess_session_open(TESS_EMBEDDED, NULL);
    good = good && read_all(local, make(local, rows, chunk), expected, bytes);
    tess_session_close(local);
    printf("{\"same\": %s}\n", good && memcmp(values, expected, bytes) == 0 ? "true" : "false");
    free(values);
    free(expected);
    return good ? 0 : 1;
}
