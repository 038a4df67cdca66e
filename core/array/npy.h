/* Headers of NumPy's .npy files, versions 1.0, 2.0 and 3.0, from and to memory: no files here.
 *
 * The format is numpy.lib.format's: the magic "\x93NUMPY", two bytes of version, the length of the
 * text that follows (two bytes in 1.0, four from 2.0 on, little-endian), and a Python dict literal with
 * the keys descr, fortran_order and shape. The elements begin where the text ends. */
#ifndef TESSI_ARRAY_NPY_H
#define TESSI_ARRAY_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/array/dtype.h"
#include "core/array/shape.h"
#include "core/base/status.h"

#define TESSI_NPY_PREFIX_BYTES 12              /* enough to know the length of the header */
#define TESSI_NPY_TEXT_MAX (UINT32_C(1) << 20) /* a longer dict is refused: ours need 300 bytes */
#define TESSI_NPY_WRITTEN_MAX 384              /* tessi_npy_format needs no more */

struct tessi_npy_header {
    enum tessi_dtype dtype;
    bool fortran_order;
    struct tessi_shape shape;
    uint64_t data_offset; /* of the first element in the file, bytes; set by tessi_npy_parse */
    bool swapped;         /* big-endian elements: read, never written */
};

/* A file that is being written: how its name begins where it has one, and the bytes that stand in place of the header
 * until it is complete, a text and a random token that tells it from all others. */
#define TESSI_NPY_TEMPORARY ".tessera-write-"
#define TESSI_NPY_OWN "/proc/self/fd/" /* and its path where it has none, for whoever is in the process that has it open */
#define TESSI_NPY_MARK_BYTES 32
void tessi_npy_mark(const uint64_t token[2], uint8_t mark[TESSI_NPY_MARK_BYTES]);

/* How many bytes tessi_npy_parse needs, from the file's first TESSI_NPY_PREFIX_BYTES (all of it when it
 * is shorter). INVALID never; FORMAT: not such a file; VERSION: a newer one. */
enum tessi_status tessi_npy_header_bytes(const uint8_t *bytes, size_t n, uint64_t *header_bytes,
                                         struct tessi_error *error);

/* Parse the first `n` bytes of a file of `file_bytes`. FORMAT: damaged or cut short; UNSUPPORTED: element
 * types or shapes that we do not read. Types may be said in any way that numpy.dtype takes for a string ("<f8", "f8",
 * "float64", "d"). `header` is set on success only. */
enum tessi_status tessi_npy_parse(const uint8_t *bytes, size_t n, uint64_t file_bytes,
                                  struct tessi_npy_header *header, struct tessi_error *error);

/* Write the header as numpy.save does, padded to 64 bytes (version 1.0 always suffices for our number of
 * dimensions). Returns its bytes, or 0 when `size` is too small or NumPy has no such element type. */
size_t tessi_npy_format(const struct tessi_npy_header *header, uint8_t *buffer, size_t size);

#endif
