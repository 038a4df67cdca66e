/* A block that goes to its place in a .npy file, which its client has made and which has room for it.
 *
 * The file begins with a mark until it is complete: whoever finds another one there, or another file than a regular one
 * with a single name, writes nothing. So a task that comes late, or a path that leads elsewhere on this machine, does no
 * harm. Bytes that are written twice are the same. */
#include "worker/kernel/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/array/npy.h"
#include "worker/kernel/files.h"
#include "worker/kernel/runs.h"

/* Linux transfers at most this many bytes a call, whatever was asked. */
#define WRITE_MAX ((size_t)0x7ffff000)

static enum tessi_status failed(const struct tessi_layer *layer, int reason, struct tessi_error *error)
{
    return tessi_fail(error, TESSI_IO, "%s cannot be written: %s", layer->as.write.target, strerror(reason));
}

static enum tessi_status write_all(int file, const struct tessi_layer *layer, const unsigned char *from, size_t size,
                                   uint64_t offset, struct tessi_error *error)
{
    while (size > 0) {
        ssize_t n = pwrite(file, from, size < WRITE_MAX ? size : WRITE_MAX, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return failed(layer, n < 0 ? errno : ENOSPC, error);
        }
        from += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return TESSI_OK;
}

static bool is_the_clients(int file, const struct tessi_layer *layer)
{
    uint8_t want[TESSI_NPY_MARK_BYTES], found[TESSI_NPY_MARK_BYTES];
    struct stat about;
    tessi_npy_mark(layer->as.write.token, want);
    return fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_nlink <= 1 &&
           (uint64_t)about.st_size == layer->as.write.bytes && pread(file, found, sizeof found, 0) == sizeof found &&
           memcmp(want, found, sizeof found) == 0;
}

static enum tessi_status write_block(int file, const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    const struct tessi_input *input = &layer->input[0];
    size_t size = tessi_dtype_size(input->dtype);
    const unsigned char *from = step->call->in[0];
    struct tessi_runs runs;
    enum tessi_status status = TESSI_OK;
    tessi_runs_init(&runs, &input->grid, step->step.ref[0].index);
    size_t bytes = (size_t)runs.run * size;
    for (uint64_t first; status == TESSI_OK && tessi_runs_next(&runs, &first); from += bytes) {
        status = write_all(file, layer, from, bytes, layer->as.write.offset + first * size, error);
    }
    return status;
}

enum tessi_status tessi_kernel_write_npy(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    bool ours = strncmp(layer->as.write.path, TESSI_NPY_OWN, strlen(TESSI_NPY_OWN)) == 0;
    int file = ours ? open(layer->as.write.path, O_RDWR | O_CLOEXEC)
                    : tessi_open_without_links(layer->as.write.path, O_RDWR);
    if (file < 0) {
        return tessi_fail(error, TESSI_NOT_FOUND, "%s: its unfinished file cannot be opened here: %s",
                          layer->as.write.target, strerror(errno));
    }
    enum tessi_status status = TESSI_OK;
    if (!is_the_clients(file, layer)) {
        status = tessi_fail(error, TESSI_NOT_FOUND, "%s: its unfinished file is another one here, or is not written any more",
                            layer->as.write.target);
    }
    if (status == TESSI_OK) {
        status = write_block(file, step, error);
    }
    /* What the client flushes in the end is the page cache of its own machine. */
    if (status == TESSI_OK && layer->as.write.host != 0 && fdatasync(file) != 0) {
        status = failed(layer, errno, error);
    }
    if (close(file) != 0 && status == TESSI_OK) { /* some file systems write only then */
        status = failed(layer, errno, error);
    }
    *(unsigned char *)step->call->out = 1;
    return status;
}
