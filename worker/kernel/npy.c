/* Blocks of a C-order .npy file: rows read in place with pread, short ones together.
 *
 * Whether the file may be read was decided by its path, which has no symbolic links. */
#include "worker/kernel/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "worker/kernel/files.h"
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

/* The file must be the one that the client opened, unchanged, before it is read and after: else blocks of a computation
 * would be of different files. */
static enum tessi_status check_file(int file, const char *path, const struct tessi_layer *layer,
                                    struct tessi_error *error)
{
    const struct tessi_file_identity *want = &layer->as.npy.file;
    struct tessi_file_identity here;
    bool regular = false;
    if (tessi_file_identify(file, &here, &regular) != 0) {
        return tessi_fail(error, TESSI_IO, "%s: %s", path, strerror(errno));
    }
    if (!regular) {
        return tessi_fail(error, TESSI_INVALID, "%s is not a regular file", path);
    }
    if (here.bytes != want->bytes) {
        return tessi_fail(error, TESSI_IO,
                          "%s has %llu bytes here, but had %llu when it was opened: has it changed, or is another file "
                          "under this name on this machine? Open it again when it is complete",
                          path, (unsigned long long)here.bytes, (unsigned long long)want->bytes);
    }
    if (!tessi_file_identity_equal(&here, want)) {
        bool other = here.inode != want->inode;
        return tessi_fail(error, TESSI_IO,
                          "%s is not what was opened: %s. Open it again when nobody writes to it; machines must see one "
                          "file, not copies",
                          path,
                          other ? "it has been replaced since, or another file is under this name on this machine"
                                : "it has been written to since");
    }
    return TESSI_OK;
}

/* ——— blocks that are many short runs ———
 *
 * A block of a few columns is a short run in each row. Where these lie close together they are read with what is between
 * them, STRIP_BYTES at a time, and picked out: a call for each would take longer than reading the pages, which are read
 * anyway. A slot that does so has STRIP_BYTES for it beside the blocks that are counted. */

#define STRIP_BYTES ((size_t)262144)
#define GAP_BYTES 4096 /* between runs that are read together */
#define GATHER_RUNS 1024

struct gather {
    uint64_t first;             /* where the strip begins in the file */
    uint64_t end;
    size_t count;
    uint32_t at[GATHER_RUNS];   /* of each run, in the strip */
};

#define PICK(type)                                                              \
    for (size_t i = 0; i < gather->count; i++, to += sizeof(type)) {            \
        memcpy(to, strip + gather->at[i], sizeof(type));                        \
    }

static void pick(const struct gather *gather, const unsigned char *strip, size_t bytes, unsigned char *to)
{
    switch (bytes) { /* so that the lengths that matter are known to the compiler */
    case 1:
        PICK(uint8_t)
        return;
    case 2:
        PICK(uint16_t)
        return;
    case 4:
        PICK(uint32_t)
        return;
    case 8:
        PICK(uint64_t)
        return;
    case 16:
        PICK(struct { uint64_t half[2]; })
        return;
    }
    for (size_t i = 0; i < gather->count; i++, to += bytes) {
        memcpy(to, strip + gather->at[i], bytes);
    }
}

static enum tessi_status gather_read(int file, const char *path, const struct gather *gather, unsigned char *strip,
                                     size_t bytes, unsigned char *to, struct tessi_error *error)
{
    if (gather->count == 1) {
        return read_all(file, path, to, bytes, gather->first, error);
    }
    enum tessi_status status = read_all(file, path, strip, (size_t)(gather->end - gather->first), gather->first, error);
    if (status == TESSI_OK) {
        pick(gather, strip, bytes, to);
    }
    return status;
}

static enum tessi_status read_runs(int file, const struct tessi_kernel_step *step, struct tessi_runs *runs,
                                   unsigned char *strip, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    const char *path = layer->as.npy.path;
    size_t size = tessi_dtype_size(layer->dtype);
    size_t bytes = (size_t)runs->run * size;
    unsigned char *to = step->call->out;
    struct gather gather = {.count = 0};
    enum tessi_status status = TESSI_OK;
    for (uint64_t element; status == TESSI_OK && tessi_runs_next(runs, &element);) {
        uint64_t first = layer->as.npy.offset + element * size;
        bool joins = strip != NULL && gather.count > 0 && gather.count < GATHER_RUNS &&
                     first - gather.end <= GAP_BYTES && first + bytes - gather.first <= STRIP_BYTES;
        if (!joins && gather.count > 0) {
            status = gather_read(file, path, &gather, strip, bytes, to, error);
            to += gather.count * bytes;
            gather.count = 0;
        }
        gather.first = gather.count == 0 ? first : gather.first;
        gather.at[gather.count++] = (uint32_t)(first - gather.first);
        gather.end = first + bytes;
    }
    return status == TESSI_OK && gather.count > 0 ? gather_read(file, path, &gather, strip, bytes, to, error) : status;
}

static enum tessi_status read_block(int file, const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    size_t bytes = (size_t)step->elements * tessi_dtype_size(layer->dtype);
    struct tessi_runs runs;
    tessi_runs_init(&runs, &layer->grid, step->call->index);
    bool gathers = (size_t)runs.run * tessi_dtype_size(layer->dtype) < STRIP_BYTES / 4 && runs.run < step->elements;
    unsigned char *strip = gathers ? tessi_try_alloc(STRIP_BYTES) : NULL; /* without it the runs are read one by one */
    enum tessi_status status = read_runs(file, step, &runs, strip, error);
    tessi_free(strip);
    if (status == TESSI_OK && layer->as.npy.swapped) {
        tessi_dtype_swap(layer->dtype, step->call->out, bytes);
    }
    if (status == TESSI_OK) {
        tessi_dtype_admit(layer->dtype, step->call->out, bytes);
    }
    return status;
}

enum tessi_status tessi_kernel_read_npy(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const char *path = step->layer->as.npy.path;
    int file = tessi_open_without_links(path, O_RDONLY);
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
    enum tessi_status status = check_file(file, path, step->layer, error);
    if (status == TESSI_OK) {
        status = read_block(file, step, error);
    }
    if (status == TESSI_OK) {
        status = check_file(file, path, step->layer, error);
    }
    (void)close(file);
    return status;
}
