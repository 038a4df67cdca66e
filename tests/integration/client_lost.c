/* A client for tests: holds an array on the cluster, says so, and each time somebody opens and closes the FIFO it reads
 * what it holds: whole, a slice, into a file. It prints what came of each, and ends after the second time.
 *
 *     client_lost ADDRESS FIFO FILE */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "client/tessera.h"

enum { ROWS = 40, COLUMNS = 100 };

/* OK only when the numbers are right. */
static tess_status read_ones(tess_array *array, int64_t count)
{
    double values[ROWS * COLUMNS] = {0};
    tess_status status = tess_read(array, values, (uint64_t)count * sizeof *values);
    for (int64_t i = 0; i < count && status == TESS_OK; i++) {
        status = values[i] == 1 ? TESS_OK : TESS_LOST;
    }
    return status;
}

static void read_all(tess_session *session, tess_array *held, const char *file)
{
    tess_scope *scope = tess_scope_open(session);
    tess_status whole = read_ones(held, ROWS * COLUMNS);
    tess_status slice = read_ones(tess_slice(held, TESS_SLICES(TESS_RANGE(5, 15), TESS_WHOLE)), 10 * COLUMNS);
    tess_status written = tess_write_npy(held, file);
    printf("[\"%s\", \"%s\", \"%s\"]\n", tess_status_text(whole), tess_status_text(slice), tess_status_text(written));
    fflush(stdout);
    if (whole != TESS_OK) {
        fprintf(stderr, "%s\n", tess_session_error(session));
    }
    tess_scope_close(scope);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "Usage: client_lost ADDRESS FIFO FILE\n");
        return 2;
    }
    tess_session *session = tess_session_open(argv[1], NULL);
    tess_array *numbers =
        tess_random_uniform(session, TESS_SHAPE(ROWS, COLUMNS), TESS_F64, 0, 1, 7, TESS_CHUNKS(10, COLUMNS));
    tess_array *held = tess_divide(numbers, numbers);
    if (tess_persist(held) != TESS_OK || tess_wait(held, 0) != TESS_OK) {
        fprintf(stderr, "lost: %s\n", tess_session_error(session));
        return 1;
    }
    printf("holding\n");
    fflush(stdout);
    for (int turn = 0; turn < 2; turn++) {
        int fifo = open(argv[2], O_RDONLY);
        char byte;
        while (fifo >= 0 && read(fifo, &byte, 1) > 0) {
        }
        (void)close(fifo);
        read_all(session, held, argv[3]);
    }
    tess_session_close(session);
    return 0;
}
