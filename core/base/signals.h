/* Signals belong to the program's own threads: those of the library are begun with all of them blocked, but those that a
 * thread brings on itself and a profiler's. */
#ifndef TESSI_BASE_SIGNALS_H
#define TESSI_BASE_SIGNALS_H

#include <signal.h>

/* Of the calling thread; threads that it begins meanwhile inherit the mask. `before` is what tessi_signals_restore wants. */
void tessi_signals_block(sigset_t *before);
void tessi_signals_restore(const sigset_t *before);

#endif
