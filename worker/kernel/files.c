#include "worker/kernel/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

int tessi_open_without_links(const char *path, int flags)
{
    int folder = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (folder >= 0) {
        char name[NAME_MAX + 1];
        path += strspn(path, "/");
        size_t length = strcspn(path, "/");
        bool last = path[length + strspn(path + length, "/")] == 0;
        int next = -1;
        if (length <= NAME_MAX) {
            memcpy(name, path, length);
            name[length] = 0;
            next = openat(folder, name, O_NOFOLLOW | O_CLOEXEC | (last ? flags | O_NONBLOCK : O_PATH | O_DIRECTORY));
        } else {
            errno = ENAMETOOLONG;
        }
        int reason = errno;
        (void)close(folder);
        errno = reason;
        if (last) {
            return next;
        }
        folder = next;
        path += length;
    }
    return -1;
}
