/* What materialises an array: computes it unless it is held, and takes its blocks. */
#ifndef TESSI_CLIENT_COMPUTE_H
#define TESSI_CLIENT_COMPUTE_H

#include "client/array.h"
#include "client/link.h"
#include "client/npy_writer.h"
#include "client/region.h"

/* Note a failure in the session, under the name of the function that the user called. */
tess_status tessi_compute_failed(struct tess_session *session, const char *operation, struct tessi_error *error);

/* Whether something can be computed of the array; errors are noted under the operation's name unless they are the array's
 * own poison. */
tess_status tessi_compute_begin(const char *operation, const struct tess_array *array, struct tessi_error *error);

/* Compute the node unless it is held, then hand its blocks to `piece` (NULL: nobody wants them); `as_made`: some perhaps
 * before others are made. Who cancels `named` meanwhile cancels it. */
enum tessi_status tessi_materialise(struct tessi_node *node, struct tessi_node *named, bool as_made,
                                    tessi_piece_fn *piece, void *context, struct tessi_error *error);

/* Where pieces of blocks go: the runs of each that are contiguous in the whole array, into memory or a file. */
struct tessi_scatter {
    const struct tessi_grid *grid; /* of the whole array */
    const struct tessi_grid *part; /* of the box of its blocks that are fetched; the first of them: */
    uint64_t lo[TESSI_NDIM_MAX];
    size_t element_bytes;
    uint64_t index; /* the block that `region` describes, UINT64_MAX: none */
    struct tessi_region region;
    uint8_t *memory; /* NULL: into the file */
    struct tessi_npy_writer *writer;
};
struct tessi_scatter tessi_scatter_of(const struct tessi_node *node); /* all of it */
enum tessi_status tessi_scatter_piece(void *context, uint64_t index, uint64_t offset, const void *data, uint64_t size,
                                      struct tessi_error *error);

#endif
