/* The monotonic clock, and a way to print a moment of the wall clock.
 *
 * Every time inside Tessera is an int64 of nanoseconds on the monotonic clock. The pure
 * machines never read it: their events carry the time. */
#ifndef TESSI_BASE_CLOCK_H
#define TESSI_BASE_CLOCK_H

#include <stdint.h>

#define TESSI_NS_PER_US INT64_C(1000)
#define TESSI_NS_PER_MS INT64_C(1000000)
#define TESSI_NS_PER_S INT64_C(1000000000)

/* Nanoseconds since an arbitrary start (usually the boot), never going back. */
int64_t tessi_clock_now(void);

/* CPU time that all threads of this process have used, in nanoseconds. */
int64_t tessi_clock_process_cpu(void);

/* CPU time of the calling thread, in nanoseconds. */
int64_t tessi_clock_thread_cpu(void);

/* Nanoseconds since 1970-01-01 UTC: for logs and file headers only, since it may jump. */
int64_t tessi_clock_wall(void);

#endif
