/* A file that is written beside the one that it will replace, by rename(2).
 *
 * Whoever writes holds a lock on it (flock), so that the next one to write the same file knows those whose writers were
 * killed, and removes them. */
#ifndef TESSI_BASE_TEMPORARY_H
#define TESSI_BASE_TEMPORARY_H

#include <stddef.h>
#include <sys/types.h>

/* An empty file named `path`.NUMBER.tmp, locked as long as its descriptor is open; its name goes to `name`. −1 with errno. */
int tessi_temporary_create(const char *path, mode_t mode, char *name, size_t size);

#endif
