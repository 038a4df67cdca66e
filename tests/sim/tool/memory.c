#include "tests/sim/tool/memory.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool counting;
static int64_t counted_bytes;

void tool_memory_count(bool on)
{
    counting = on;
}

uint64_t tool_memory_bytes(void)
{
    return counted_bytes > 0 ? (uint64_t)counted_bytes : 0;
}

/* The program's own malloc and its kin go before the C library's, which stay reachable by these names. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);

static void *added(void *memory)
{
    if (counting && memory != NULL) {
        counted_bytes += (int64_t)malloc_usable_size(memory) + 8; /* with the allocator's own word */
    }
    return memory;
}

static void removed(void *memory)
{
    if (counting && memory != NULL) {
        counted_bytes -= (int64_t)malloc_usable_size(memory) + 8;
    }
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    return added(__libc_malloc(size));
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t size)
{
    return added(__libc_calloc(count, size));
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t size)
{
    int64_t before = memory != NULL ? (int64_t)malloc_usable_size(memory) + 8 : 0;
    void *moved = __libc_realloc(memory, size);
    if (counting && moved != NULL) {
        counted_bytes += (int64_t)malloc_usable_size(moved) + 8 - before;
    }
    return moved;
}

__attribute__((visibility("default"))) void free(void *memory)
{
    removed(memory);
    __libc_free(memory);
}

#endif

static uint64_t read_status(const char *field)
{
    char line[256];
    unsigned long long value = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            value = strtoull(line + strlen(field), NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return value * 1024;
}

uint64_t tool_resident_bytes(void)
{
    return read_status("VmRSS:");
}

uint64_t tool_resident_peak_bytes(void)
{
    return read_status("VmHWM:");
}
