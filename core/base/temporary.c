#include "core/base/temporary.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_TRIED = 100 };

#define SUFFIX ".tmp"

/* base.NUMBER.tmp */
static bool is_ours(const char *entry, const char *base)
{
    size_t length = strlen(base);
    if (strncmp(entry, base, length) != 0 || entry[length] != '.') {
        return false;
    }
    size_t digits = strspn(entry + length + 1, "0123456789");
    return digits > 0 && strcmp(entry + length + 1 + digits, SUFFIX) == 0;
}

static void sweep(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    if (length >= sizeof folder) {
        return;
    }
    memcpy(folder, path, length);
    folder[length] = 0;
    DIR *directory = opendir(length > 0 ? folder : ".");
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (!is_ours(entry->d_name, path + length)) {
            continue;
        }
        int file = openat(dirfd(directory), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0) {
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
        }
        if (file >= 0) {
            (void)close(file);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
}

int tessi_temporary_create(const char *path, mode_t mode, char *name, size_t size)
{
    sweep(path);
    for (long i = 0; i < NAMES_TRIED; i++) {
        int n = snprintf(name, size, "%s.%ld" SUFFIX, path, (long)getpid() + i);
        if (n < 0 || (size_t)n >= size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (file < 0 && errno != EEXIST) {
            return -1;
        }
        struct stat about;
        if (file >= 0 && flock(file, LOCK_EX) == 0 && fstat(file, &about) == 0 && about.st_nlink > 0) {
            return file;
        }
        if (file >= 0) {
            (void)close(file); /* swept before it was locked */
        }
    }
    errno = EEXIST;
    return -1;
}
