#include "client/npy_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"

#define NAMES_TRIED 100

/* ——— reading ——— */

static enum tessi_status read_fully(int file, uint8_t *bytes, size_t size, size_t *got, const char *path,
                                    struct tessi_error *error)
{
    *got = 0;
    while (*got < size) {
        ssize_t part = pread(file, bytes + *got, size - *got, (off_t)*got);
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part < 0) {
            return tessi_fail(error, TESSI_IO, "%s cannot be read: %s", path, strerror(errno));
        }
        if (part == 0) {
            break;
        }
        *got += (size_t)part;
    }
    return TESSI_OK;
}

static enum tessi_status read_header(int file, const char *path, uint64_t file_bytes, struct tessi_npy_header *header,
                                     struct tessi_error *error)
{
    uint8_t prefix[TESSI_NPY_PREFIX_BYTES];
    uint8_t *bytes = NULL;
    size_t got;
    uint64_t wanted;
    enum tessi_status status;
    TESSI_TRY(read_fully(file, prefix, sizeof prefix, &got, path, error));
    status = tessi_npy_header_bytes(prefix, got, &wanted, error);
    if (status == TESSI_OK && wanted > file_bytes) {
        status = tessi_fail(error, TESSI_FORMAT, "the file ends inside its header: it was cut short, write it again");
    }
    if (status == TESSI_OK) {
        bytes = tessi_alloc((size_t)wanted); /* at most TESSI_NPY_TEXT_MAX and a little */
        TESSI_TRY(read_fully(file, bytes, (size_t)wanted, &got, path, error));
        status = tessi_npy_parse(bytes, got, file_bytes, header, error);
    }
    if (status != TESSI_OK && strstr(error->text, path) == NULL) {
        tessi_error_prefix(error, "%s", path);
    }
cleanup:
    tessi_free(bytes);
    return status;
}

static enum tessi_status open_and_parse(const char *path, struct tessi_npy_header *header, uint64_t *file_bytes,
                                        struct tessi_error *error)
{
    /* Without O_NONBLOCK a named pipe would hold us for ever. */
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        return tessi_fail(error, errno == ENOENT ? TESSI_NOT_FOUND : TESSI_IO, "%s cannot be opened: %s", path,
                          strerror(errno));
    }
    struct stat about;
    enum tessi_status status;
    if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) {
        status = tessi_fail(error, TESSI_IO, "%s is not a plain file: name a .npy file", path);
    } else {
        *file_bytes = (uint64_t)about.st_size;
        status = read_header(file, path, *file_bytes, header, error);
    }
    close(file);
    return status;
}

static tess_shape reversed(const tess_shape *shape)
{
    tess_shape result = {.ndim = shape->ndim};
    for (uint32_t d = 0; d < shape->ndim && d < TESS_NDIM_MAX; d++) {
        result.dim[d] = shape->dim[shape->ndim - 1 - d];
    }
    return result;
}

static struct tessi_node *file_node(struct tess_session *session, const char *path,
                                    const struct tessi_npy_header *header, uint64_t file_bytes,
                                    const tess_shape *chunks, struct tessi_error *error)
{
    /* Fortran order is the transpose of the reversed shape in C order. */
    struct tessi_shape shape = header->shape;
    bool fortran = header->fortran_order && shape.ndim > 1;
    tess_shape wanted = *chunks;
    if (fortran && chunks->ndim == shape.ndim) {
        wanted = reversed(chunks);
    }
    for (uint32_t d = 0; fortran && d < shape.ndim; d++) {
        shape.dim[d] = header->shape.dim[shape.ndim - 1 - d];
    }
    int64_t chunk[TESSI_NDIM_MAX];
    if (tessi_chunks_choose(session, &shape, header->dtype, &wanted, chunk, error) != TESSI_OK) {
        return NULL;
    }
    struct tessi_layer *layer = tessi_layer_create(0, 0, TESSI_OP_READ_NPY, header->dtype);
    tessi_grid_regular(&layer->grid, &shape, chunk);
    layer->as.npy.path = tessi_strdup(path);
    layer->as.npy.offset = header->data_offset;
    layer->as.npy.bytes = file_bytes;
    struct tessi_node *node = tessi_node_build(session, layer, NULL, error);
    if (node == NULL || !fortran) {
        return node;
    }
    uint32_t axes[TESSI_NDIM_MAX];
    for (uint32_t d = 0; d < shape.ndim; d++) {
        axes[d] = shape.ndim - 1 - d;
    }
    struct tessi_node *transposed = tessi_node_permute(node, axes, error);
    tessi_node_unref(node);
    return transposed;
}

struct tessi_node *tessi_npy_node(struct tess_session *session, const char *path, const tess_shape *chunks,
                                  struct tessi_error *error)
{
    struct tessi_npy_header header;
    uint64_t file_bytes = 0;
    if (path == NULL) {
        tessi_fail(error, TESSI_INVALID, "the path is NULL: name a .npy file");
        return NULL;
    }
    if (open_and_parse(path, &header, &file_bytes, error) != TESSI_OK) {
        return NULL;
    }
    /* Workers may run in other directories. */
    char *absolute = realpath(path, NULL);
    if (absolute == NULL) {
        tessi_fail(error, TESSI_IO, "%s: %s", path, strerror(errno));
        return NULL;
    }
    struct tessi_node *node = file_node(session, absolute, &header, file_bytes, chunks, error);
    free(absolute);
    return node;
}

/* ——— writing ——— */

struct tessi_npy_writer {
    int file;
    char *path;      /* as it will be called */
    char *temporary; /* as it is called now; NULL once it has its name */
    uint64_t data_offset;
};

static enum tessi_status write_fully(int file, const void *data, uint64_t size, uint64_t offset, const char *path,
                                     struct tessi_error *error)
{
    const uint8_t *bytes = data;
    for (uint64_t done = 0; done < size;) {
        ssize_t part = pwrite(file, bytes + done, (size_t)(size - done), (off_t)(offset + done));
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part <= 0) {
            return tessi_fail(error, TESSI_IO, "%s cannot be written: %s", path, strerror(part < 0 ? errno : ENOSPC));
        }
        done += (uint64_t)part;
    }
    return TESSI_OK;
}

/* A name beside the final one that nobody has. Created with the usual mode, which mkstemp would not do. */
static enum tessi_status create_temporary(struct tessi_npy_writer *writer, struct tessi_error *error)
{
    size_t size = strlen(writer->path) + 48;
    writer->temporary = tessi_alloc(size);
    for (unsigned i = 0; i < NAMES_TRIED; i++) {
        snprintf(writer->temporary, size, "%s.%ld-%" PRIx64 ".tmp", writer->path, (long)getpid(),
                 (uint64_t)tessi_clock_now() + i);
        writer->file = open(writer->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->file >= 0 || errno != EEXIST) {
            break;
        }
    }
    if (writer->file < 0) {
        enum tessi_status status =
            tessi_fail(error, TESSI_IO, "%s cannot be created: %s", writer->temporary, strerror(errno));
        tessi_free(writer->temporary);
        writer->temporary = NULL;
        return status;
    }
    return TESSI_OK;
}

enum tessi_status tessi_npy_writer_open(const char *path, const struct tessi_npy_header *header,
                                        struct tessi_npy_writer **result, struct tessi_error *error)
{
    uint8_t text[TESSI_NPY_WRITTEN_MAX];
    size_t text_size = tessi_npy_format(header, text, sizeof text);
    int64_t elements;
    *result = NULL;
    if (text_size == 0 || !tessi_shape_elements(&header->shape, &elements)) {
        return tessi_fail(error, TESSI_UNSUPPORTED, "%s: NumPy has no dtype %s: convert with tess_astype", path,
                          tessi_dtype_name(header->dtype));
    }
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) {
        return tessi_fail(error, TESSI_IO, "%s is no regular file, which would be replaced: name another one", path);
    }
    struct tessi_npy_writer *writer = tessi_zalloc(sizeof *writer);
    enum tessi_status status;
    writer->file = -1;
    writer->path = tessi_strdup(path);
    writer->data_offset = text_size;
    TESSI_TRY(create_temporary(writer, error));
    TESSI_TRY(write_fully(writer->file, text, text_size, 0, path, error));
    uint64_t bytes = text_size + (uint64_t)elements * tessi_dtype_size(header->dtype);
    int failed = posix_fallocate(writer->file, 0, (off_t)bytes);
    if (failed != 0) {
        status = tessi_fail(error, TESSI_IO, "%s: no room for %" PRIu64 " bytes: %s", path, bytes, strerror(failed));
        goto cleanup;
    }
    *result = writer;
    return TESSI_OK;
cleanup:
    tessi_npy_writer_close(writer);
    return status;
}

enum tessi_status tessi_npy_writer_put(struct tessi_npy_writer *writer, uint64_t offset, const void *data,
                                       uint64_t size, struct tessi_error *error)
{
    return write_fully(writer->file, data, size, writer->data_offset + offset, writer->path, error);
}

/* The name is durable once the directory is. */
static void sync_directory(const char *path)
{
    char *copy = tessi_strdup(path);
    char *slash = strrchr(copy, '/');
    if (slash != NULL) {
        slash[slash == copy ? 1 : 0] = 0;
    }
    int directory = open(slash != NULL ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        (void)fsync(directory); /* some file systems cannot; the file itself is safe already */
        close(directory);
    }
    tessi_free(copy);
}

enum tessi_status tessi_npy_writer_commit(struct tessi_npy_writer *writer, struct tessi_error *error)
{
    if (fsync(writer->file) != 0) {
        return tessi_fail(error, TESSI_IO, "%s cannot be flushed to the disk: %s", writer->path, strerror(errno));
    }
    int file = writer->file;
    writer->file = -1;
    if (close(file) != 0) {
        return tessi_fail(error, TESSI_IO, "%s cannot be closed: %s", writer->path, strerror(errno));
    }
    if (rename(writer->temporary, writer->path) != 0) {
        return tessi_fail(error, TESSI_IO, "%s cannot be put in place: %s", writer->path, strerror(errno));
    }
    tessi_free(writer->temporary);
    writer->temporary = NULL;
    sync_directory(writer->path);
    return TESSI_OK;
}

void tessi_npy_writer_close(struct tessi_npy_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->file >= 0) {
        close(writer->file);
    }
    if (writer->temporary != NULL) {
        unlink(writer->temporary);
        tessi_free(writer->temporary);
    }
    tessi_free(writer->path);
    tessi_free(writer);
}
