/* What the scheduler machine holds, in bytes from malloc, and what the whole process has resident. */
#ifndef TESTS_SIM_TOOL_MEMORY_H
#define TESTS_SIM_TOOL_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* While it is on, what is allocated and freed counts as the scheduler's. Sanitizers have an allocator of
 * their own: with them nothing is counted. */
void tool_memory_count(bool on);
uint64_t tool_memory_bytes(void);

uint64_t tool_resident_bytes(void);
uint64_t tool_resident_peak_bytes(void);

#endif
