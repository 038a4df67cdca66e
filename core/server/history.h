/* The file in which run times outlive the scheduler that learnt them. */
#ifndef TESSI_SERVER_HISTORY_H
#define TESSI_SERVER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

/* $XDG_STATE_HOME/tessera/history, else $HOME/.local/state/tessera/history, into `path`; false where neither is set. */
bool tessi_history_default_path(char *path, size_t size);

/* All of the file, freed by the caller with tessi_free. NOT_FOUND: there is none yet; IO; FORMAT: it is far too long to
 * be one. `*bytes` is NULL unless OK. What is in it is the scheduler machine's to check. */
TESSI_MUST_USE enum tessi_status tessi_history_read(const char *path, uint8_t **bytes, size_t *size,
                                                    struct tessi_error *error);

/* Replace the file as a whole, or leave the old one; folders above it are made. IO: the text names the file and why. */
TESSI_MUST_USE enum tessi_status tessi_history_write(const char *path, const void *bytes, size_t size,
                                                     struct tessi_error *error);

#endif
