/* File descriptors, of which a process may have so many.
 *
 * Whoever begins something that takes some asks for them first, with a reserve on top: then it is refused with a text
 * that says what to do, rather than fail half way, or end in a library that knows no better. The limit is raised as far
 * as the system lets us, when that is needed. */
#ifndef TESSI_BASE_DESCRIPTORS_H
#define TESSI_BASE_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"

#define TESSI_DESCRIPTORS_RESERVE 16 /* for files, and to turn away who cannot be served */

/* IO when not so many and the reserve can be had; `what` needs them, e.g. "a worker". */
TESSI_MUST_USE enum tessi_status tessi_descriptors_require(const char *what, uint32_t count, struct tessi_error *error);

/* As many as the system lets us have: for a process that is ours alone. */
void tessi_descriptors_raise(void);

/* Whether a descriptor that was just opened is one of the reserve, so that it has to be closed again. */
bool tessi_descriptors_exhausted(int newest);

/* Accept a connection; −1: none, or none that can be had. Who waits is turned away when there are no descriptors left:
 * else the listener would be readable for ever. `spare` is a descriptor for this case, or −1. */
int tessi_descriptors_accept(int listener, int flags, int *spare);
int tessi_descriptors_spare(void);

#endif
