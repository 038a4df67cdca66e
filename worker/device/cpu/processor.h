/* Threads that wait for each other all the time tend to be kept on one processor by the system, which takes the one for
 * idle while it waits; then they take turns where they could run side by side. One of them leaves. */
#ifndef TESSI_DEVICE_CPU_PROCESSOR_H
#define TESSI_DEVICE_CPU_PROCESSOR_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* Processors that this process may run on; ≥ 1. */
uint32_t tessi_processors(void);

/* Of one thread, which uses it alone; all zero at first. */
struct tessi_processor_stay {
    bool stays;
    int64_t since_ns;
    cpu_set_t allowed; /* while it stays: where else it may be */
};

/* Send the calling thread to another of the processors where it may be. It stays there for some time at least. Nothing
 * is done when that is not over yet, or when it has left one a moment ago: else two threads could chase each other.
 * False: nothing was done. */
bool tessi_processor_leave(struct tessi_processor_stay *stay, int64_t now_ns);
/* Let the system choose again where the calling thread runs, if it has stayed for long enough; `at_once`: in any
 * case. */
void tessi_processor_let_go(struct tessi_processor_stay *stay, int64_t now_ns, bool at_once);

#endif
