#include "core/base/host.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/digest.h"

void tessi_host_id(char *text, size_t size)
{
    char id[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file != NULL) {
        if (fgets(id, sizeof id, file) == NULL) {
            id[0] = 0;
        }
        (void)fclose(file);
    }
    id[strcspn(id, "\n")] = 0;
    if (id[0] == 0 && gethostname(id, sizeof id - 1) != 0) {
        id[0] = 0;
    }
    (void)snprintf(text, size, "%s", id);
}

uint64_t tessi_host_number(void)
{
    char id[64];
    tessi_host_id(id, sizeof id);
    return tessi_digest_bytes(id, strlen(id)) | 1;
}
