/* NumPy files that are read: their headers here, their elements by the workers. */
#ifndef TESSI_CLIENT_NPY_IO_H
#define TESSI_CLIENT_NPY_IO_H

#include "client/array.h"

/* A node that reads the file; a new reference, NULL with `error`. */
struct tessi_node *tessi_npy_node(struct tess_session *session, const char *path, const tess_shape *chunks,
                                  struct tessi_error *error);

#endif
