#include "client/npy_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/array/npy.h"
#include "core/base/alloc.h"

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

static enum tessi_status open_and_parse(const char *path, struct tessi_npy_header *header,
                                        struct tessi_file_identity *identity, struct tessi_error *error)
{
    /* Without O_NONBLOCK a named pipe would hold us for ever. */
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        return tessi_fail(error, errno == ENOENT ? TESSI_NOT_FOUND : TESSI_IO, "%s cannot be opened: %s", path,
                          strerror(errno));
    }
    bool regular = false;
    enum tessi_status status;
    if (tessi_file_identify(file, identity, &regular) != 0 || !regular) {
        status = tessi_fail(error, TESSI_IO, "%s is not a plain file: name a .npy file", path);
    } else {
        status = read_header(file, path, identity->bytes, header, error);
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
                                    const struct tessi_npy_header *header, const struct tessi_file_identity *identity,
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
    layer->as.npy.file = *identity;
    layer->as.npy.swapped = header->swapped;
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
    struct tessi_file_identity identity;
    if (path == NULL) {
        tessi_fail(error, TESSI_INVALID, "the path is NULL: name a .npy file");
        return NULL;
    }
    if (open_and_parse(path, &header, &identity, error) != TESSI_OK) {
        return NULL;
    }
    /* Workers may run in other directories. */
    char *absolute = realpath(path, NULL);
    if (absolute == NULL) {
        tessi_fail(error, TESSI_IO, "%s: %s", path, strerror(errno));
        return NULL;
    }
    struct tessi_node *node = file_node(session, absolute, &header, &identity, chunks, error);
    free(absolute);
    return node;
}
