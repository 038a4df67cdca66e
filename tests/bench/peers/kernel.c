/* The kernel of synthetic tasks as a shared library, for the tasks that Dask runs: called through ctypes, which lets go of
 * Python's lock meanwhile. tests/bench/overhead.py builds it. */
#include "worker/kernel/busy.h"

double bench_compute(uint64_t iterations);

double bench_compute(uint64_t iterations)
{
    return tessi_busy_compute(iterations);
}
