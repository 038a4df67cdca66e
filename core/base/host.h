/* Which machine this is, as far as processes can share memory and files in its page cache. */
#ifndef TESSI_BASE_HOST_H
#define TESSI_BASE_HOST_H

#include <stddef.h>
#include <stdint.h>

/* The boot id, or the host's name where there is none. */
void tessi_host_id(char *text, size_t size);

/* The same as a number, not 0. */
uint64_t tessi_host_number(void);

#endif
