/* A client for tests of workers that are full: holds an array of so many blocks, says so, waits until somebody closes the
 * FIFO, then does more with it and says what came of it, as one line of JSON.
 *
 *     client_full ADDRESS BLOCKS ROWS_OF_A_BLOCK COLUMNS transpose|sum|nothing [FIFO] */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/tessera.h"

static void wait_for(const char *path)
{
    int fifo = open(path, O_RDONLY);
    char byte;
    while (fifo >= 0 && read(fifo, &byte, 1) > 0) {
    }
    (void)close(fifo);
}

/* Of a status and a message, with nothing in it that JSON would mind. */
static void say(const char *name, tess_status status, const tess_session *session)
{
    printf("\"%s\": \"%s %s\", ", name, tess_status_text(status), status == TESS_OK ? "" : tess_session_error(session));
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "Usage: client_full ADDRESS BLOCKS ROWS_OF_A_BLOCK COLUMNS transpose|sum|nothing [FIFO]\n");
        return 2;
    }
    int64_t blocks = atoll(argv[2]), rows = atoll(argv[3]), columns = atoll(argv[4]);
    tess_session *session = tess_session_open(argv[1], NULL);
    tess_array *numbers = tess_random_uniform(session, TESS_SHAPE(blocks * rows, columns), TESS_F64, 0, 1, 7,
                                              TESS_CHUNKS(rows, columns));
    tess_array *held = tess_add_scalar(numbers, 1);
    (void)tess_persist(held);
    tess_status status = tess_wait(held, 0);
    printf("holding\n");
    fflush(stdout);
    if (argc == 7) {
        wait_for(argv[6]);
    }
    printf("{");
    say("held", status, session);
    if (status == TESS_OK && strcmp(argv[5], "transpose") == 0) {
        held = tess_transpose(held);
        (void)tess_persist(held);
        status = tess_wait(held, 0);
        say("transposed", status, session);
    }
    double sum = 0;
    if (status == TESS_OK && strcmp(argv[5], "nothing") != 0) {
        status = tess_read_scalar(tess_sum(held, TESS_ALL, false), &sum);
        say("summed", status, session);
    }
    printf("\"sum\": %.3f}\n", sum);
    tess_session_close(session);
    return status == TESS_OK ? 0 : 1;
}
