/* Blocks of a C-order .npy file: rows read in place with pread.
 *
 * Whether the file may be read was decided by its path, which has no symbolic links. It is opened folder by folder, so
 * that a link that somebody has put there since leads nowhere else. */
#include "worker/kernel/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/kernel/runs.h"

/* Linux transfers at most this many bytes a call, whatever was asked. */
#define READ_MAX ((size_t)0x7ffff000)

static enum tessi_status read_all(int file, const char *path, unsigned char *to, size_t size, uint64_t offset,
                                  struct tessi_error *error)
{
    while (size > 0) {
        ssize_t n = pread(file, to, size < READ_MAX ? size : READ_MAX, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return tessi_fail(error, TESSI_IO, "%s: %s at byte %llu", path,
                              n < 0 ? strerror(errno) : "the file ends too early: it was shortened while it was read",
                              (unsigned long long)offset);
        }
        to += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return TESSI_OK;
}

static int open_without_links(const char *path)
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
            next = openat(folder, name,
                          O_NOFOLLOW | O_CLOEXEC | (last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY));
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

static enum tessi_status check_file(int file, const char *path, const struct tessi_kernel_step *step,
                                    struct tessi_error *error)
{
    struct stat info;
    uint64_t need = step->layer->as.npy.offset + tessi_layer_bytes(step->layer);
    if (fstat(file, &info) != 0) {
        return tessi_fail(error, TESSI_IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return tessi_fail(error, TESSI_INVALID, "%s is not a regular file", path);
    }
    if ((uint64_t)info.st_size != step->layer->as.npy.bytes) {
        return tessi_fail(error, TESSI_IO,
                          "%s has %llu bytes here, but had %llu when it was opened: has it changed, or is another file "
                          "under this name on this machine?",
                          path, (unsigned long long)info.st_size, (unsigned long long)step->layer->as.npy.bytes);
    }
    if (need > (uint64_t)info.st_size) {
        return tessi_fail(error, TESSI_FORMAT, "%s has %llu bytes, its array needs %llu: the file is damaged", path,
                          (unsigned long long)info.st_size, (unsigned long long)need);
    }
    return TESSI_OK;
}

static enum tessi_status read_block(int file, const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    size_t size = tessi_dtype_size(layer->dtype);
    struct tessi_runs runs;
    tessi_runs_init(&runs, step);
    unsigned char *at = step->call->out;
    size_t bytes = (size_t)runs.run * size;
    for (uint64_t first; tessi_runs_next(&runs, &first); at += bytes) {
        enum tessi_status status =
            read_all(file, layer->as.npy.path, at, bytes, layer->as.npy.offset + first * size, error);
        if (status != TESSI_OK) {
            return status;
        }
    }
    tessi_dtype_admit(layer->dtype, step->call->out, (size_t)step->elements * size);
    return TESSI_OK;
}

enum tessi_status tessi_kernel_read_npy(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const char *path = step->layer->as.npy.path;
    int file = open_without_links(path);
    if (file < 0 && (errno == ELOOP || errno == ENOTDIR)) {
        return tessi_fail(error, TESSI_IO,
                          "%s: a part of this path has become a symbolic link or another kind of file since the task "
                          "began: give the path of the file itself",
                          path);
    }
    if (file < 0) {
        return tessi_fail(error, errno == ENOENT ? TESSI_NOT_FOUND : TESSI_IO, "%s cannot be opened: %s", path,
                          strerror(errno));
    }
    enum tessi_status status = check_file(file, path, step, error);
    if (status == TESSI_OK) {
        status = read_block(file, step, error);
    }
    (void)close(file);
    return status;
}
