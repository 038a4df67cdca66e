#include "core/server/history.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/temporary.h"

#define FILE_MAX ((size_t)4 << 20) /* several times the longest history */

bool tessi_history_default_path(char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state != NULL && state[0] == '/') {
        n = snprintf(path, size, "%s/tessera/history", state);
    } else if (home != NULL && home[0] == '/') {
        n = snprintf(path, size, "%s/.local/state/tessera/history", home);
    }
    return n > 0 && (size_t)n < size;
}

enum tessi_status tessi_history_read(const char *path, uint8_t **bytes, size_t *size, struct tessi_error *error)
{
    struct stat info;
    *bytes = NULL;
    *size = 0;
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        return tessi_fail(error, errno == ENOENT ? TESSI_NOT_FOUND : TESSI_IO, "%s: %s", path, strerror(errno));
    }
    enum tessi_status status = TESSI_OK;
    if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > (off_t)FILE_MAX) {
        status = tessi_fail(error, TESSI_FORMAT, "%s: not a history of run times", path);
    } else {
        uint8_t *read = tessi_zalloc((size_t)info.st_size + 1);
        *size = fread(read, 1, (size_t)info.st_size, file);
        if (ferror(file) != 0) {
            status = tessi_fail(error, TESSI_IO, "%s: cannot read it", path);
            tessi_free(read);
        } else {
            *bytes = read;
        }
    }
    (void)fclose(file);
    return status;
}

/* Each folder above the file. What goes wrong shows when the file is made. */
static void make_folders(const char *path)
{
    char folder[PATH_MAX];
    if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder) {
        return;
    }
    for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(folder, 0700);
        *slash = '/';
    }
}

static bool write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t wrote = write(fd, bytes, size);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return false;
        }
        bytes += wrote;
        size -= (size_t)wrote;
    }
    return fsync(fd) == 0;
}

enum tessi_status tessi_history_write(const char *path, const void *bytes, size_t size, struct tessi_error *error)
{
    char beside[PATH_MAX];
    make_folders(path);
    int fd = tessi_temporary_create(path, 0600, beside, sizeof beside);
    bool good = fd >= 0 && write_all(fd, bytes, size) && rename(beside, path) == 0;
    int reason = errno;
    if (fd >= 0 && !good) {
        (void)unlink(beside);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (good) {
        return TESSI_OK;
    }
    return tessi_fail(error, TESSI_IO, "%s: cannot write it: %s; choose another file with --history, or none", path,
                      strerror(reason));
}
