#include "core/base/clock.h"

#include <time.h>

#include "core/base/assert.h"

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    int failed = clock_gettime(id, &now);
    TESS_ASSERT(failed == 0);
    return (int64_t)now.tv_sec * TESSI_NS_PER_S + (int64_t)now.tv_nsec;
}

int64_t tessi_clock_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t tessi_clock_process_cpu(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t tessi_clock_thread_cpu(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

int64_t tessi_clock_wall(void)
{
    return read_clock(CLOCK_REALTIME);
}
