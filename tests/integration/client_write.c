/* A client for tests of files that are written: exp(normal) of so many rows and columns, in such chunks, to PATH. Says what
 * came of it, as one line of JSON.
 *
 *     client_write ADDRESS PATH ROWS COLUMNS ROWS_OF_A_BLOCK COLUMNS_OF_A_BLOCK lazy|held */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/tessera.h"

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "Usage: client_write ADDRESS PATH ROWS COLUMNS ROWS_OF_A_BLOCK COLUMNS_OF_A_BLOCK lazy|held\n");
        return 2;
    }
    tess_session *session = tess_session_open(argv[1], NULL);
    tess_array *numbers = tess_random_normal(session, TESS_SHAPE(atoll(argv[3]), atoll(argv[4])), TESS_F64, 0, 1, 7,
                                             TESS_CHUNKS(atoll(argv[5]), atoll(argv[6])));
    tess_array *result = tess_exp(numbers);
    if (strcmp(argv[7], "held") == 0) {
        (void)tess_persist(result);
        (void)tess_wait(result, 0);
    }
    tess_status status = tess_write_npy(result, argv[2]);
    char error[1024];
    (void)snprintf(error, sizeof error, "%s", status == TESS_OK ? "" : tess_session_error(session));
    tess_stats stats = {0};
    (void)tess_session_stats(session, &stats);
    printf("{\"status\": \"%s\", \"error\": \"%s\", \"tasks_rerun\": %" PRIu64 ", \"bytes_moved\": %" PRIu64 "}\n",
           tess_status_text(status), error, stats.tasks_rerun, stats.bytes_moved);
    tess_session_close(session);
    return status == TESS_OK ? 0 : 1;
}
