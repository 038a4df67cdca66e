/* NumPy files, on the client's side: headers are read here, elements by the workers; results are written here. */
#ifndef TESSI_CLIENT_NPY_IO_H
#define TESSI_CLIENT_NPY_IO_H

#include "client/array.h"
#include "core/array/npy.h"

/* A node that reads the file; a new reference, NULL with `error`. */
struct tessi_node *tessi_npy_node(struct tess_session *session, const char *path, const tess_shape *chunks,
                                  struct tessi_error *error);

/* A file that is being written, without a name or under a temporary one. */
struct tessi_npy_writer;

/* The header is written and the room for the elements is taken. Symbolic links are followed; what is there keeps its
 * permissions. Files that writers left behind in the folder when they were killed are removed. */
enum tessi_status tessi_npy_writer_open(const char *path, const struct tessi_npy_header *header,
                                        struct tessi_npy_writer **writer, struct tessi_error *error);
/* Bytes of the elements, `offset` from the first one. */
enum tessi_status tessi_npy_writer_put(struct tessi_npy_writer *writer, uint64_t offset, const void *data,
                                       uint64_t size, struct tessi_error *error);
/* Flush and give the file its name. */
enum tessi_status tessi_npy_writer_commit(struct tessi_npy_writer *writer, struct tessi_error *error);
/* Removes the temporary file unless it was committed. NULL is allowed. */
void tessi_npy_writer_close(struct tessi_npy_writer *writer);

#endif
