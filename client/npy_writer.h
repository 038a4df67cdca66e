/* A NumPy file that is being written: by this process, and by workers that can reach it. */
#ifndef TESSI_CLIENT_NPY_WRITER_H
#define TESSI_CLIENT_NPY_WRITER_H

#include "core/array/npy.h"
#include "core/graph/layer.h"

/* A file that is being written, without a name or under a temporary one. */
struct tessi_npy_writer;

/* The room for header and elements is taken. Symbolic links are followed; what is there keeps its permissions. Files that
 * writers left behind in the folder when they were killed are removed. `named`: under a temporary name even where the file
 * could do without, for workers in other processes. */
enum tessi_status tessi_npy_writer_open(const char *path, const struct tessi_npy_header *header, bool named,
                                        struct tessi_npy_writer **writer, struct tessi_error *error);
/* Tell a WRITE_NPY layer about the file. `own`: its tasks run in this process. False: no other one can find it. */
bool tessi_npy_writer_share(const struct tessi_npy_writer *writer, bool own, struct tessi_layer *layer);
/* Bytes of the elements, `offset` from the first one. */
enum tessi_status tessi_npy_writer_put(struct tessi_npy_writer *writer, uint64_t offset, const void *data,
                                       uint64_t size, struct tessi_error *error);
/* Write the header, flush, and give the file its name. */
enum tessi_status tessi_npy_writer_commit(struct tessi_npy_writer *writer, struct tessi_error *error);
/* Removes the temporary file unless it was committed. NULL is allowed. */
void tessi_npy_writer_close(struct tessi_npy_writer *writer);

#endif
