/* What a worker finds out about its machine when it is not told. */
#ifndef TESSI_WORKER_SETTINGS_H
#define TESSI_WORKER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

/* The number of the nth processor that this process may run on (device/cpu/processor.h). */
uint32_t tessi_settings_processor(uint32_t nth);

/* The smaller of physical memory and the limits of our control groups (v1 and v2), in bytes. */
uint64_t tessi_settings_memory(void);

/* The processor's model, as its maker calls it; "" where the system does not say. */
void tessi_settings_processor_name(char *text, size_t size);
/* "host-1234". */
void tessi_settings_name(char *text, size_t size);

/* Numerics families to offer, comma-separated, best first: those that both processor and OpenBLAS have, tried in a
 * child process, since a process loads one only. `core` not NULL: this kernel family is loaded, and no other is
 * offered. `only_us`: the best is loaded at once and offered alone, since nobody else has to agree. */
TESSI_MUST_USE enum tessi_status tessi_settings_families(const char *core, bool only_us, char *text, size_t size,
                                                         struct tessi_error *error);

/* May a task use `path`, which a client named? Only below `folder`, of that option, when it is not NULL. `resolved`, to be
 * freed with tessi_free, has no symbolic links left. AUTH: outside; NOT_FOUND, IO: cannot be resolved. */
TESSI_MUST_USE enum tessi_status tessi_settings_resolve(const char *folder, const char *option, const char *path,
                                                        char **resolved, struct tessi_error *error);

#endif
