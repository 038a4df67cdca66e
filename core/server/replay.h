/* A recorded run, once more: the same inputs must give the same bytes. */
#ifndef TESSI_SERVER_REPLAY_H
#define TESSI_SERVER_REPLAY_H

#include <stdint.h>

#include "core/base/status.h"

struct tessi_replay_counts {
    uint64_t steps;    /* inputs taken */
    uint64_t messages; /* of them from peers */
    uint64_t actions;  /* messages that the steps asked to send */
    uint64_t compared; /* steps whose output was compared; one less than `steps` after a crash */
    int64_t covered_ns;
};

/* FAILED: a step gave something else than in the live run; the text names the first. Otherwise the statuses
 * of tessi_record_open and tessi_record_next. `counts` is filled as far as it went. */
TESSI_MUST_USE enum tessi_status tessi_replay(const char *path, struct tessi_replay_counts *counts,
                                              struct tessi_error *error);

#endif
