/* The ready-made progress bar. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "client/tessera.h"

#define BAR_WIDTH 40

void tess_progress_bar(const tess_progress *progress, void *context)
{
    (void)context;
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    char bar[BAR_WIDTH + 1];
    uint64_t total = progress->total > 0 ? progress->total : 1;
    int filled = (int)((double)progress->done / (double)total * BAR_WIDTH);
    for (int i = 0; i < BAR_WIDTH; i++) {
        bar[i] = i < filled ? '#' : '.';
    }
    bar[BAR_WIDTH] = 0;
    fprintf(stderr, "\r[%s] %" PRIu64 "/%" PRIu64 " blocks %.1f s%s", bar, progress->done, progress->total,
            progress->seconds, progress->finished ? "\n" : "");
    fflush(stderr);
}
