/* Layers that join blocks and pieces: a REGRID of two inputs.
 *
 * A block is read whole or not at all, so a few elements of a neighbour's block would bring all of it from another
 * worker. Where blocks are large, the client puts pieces beside them: a REGRID of the same array on the common refinement
 * of both grids. The joining layer reads, along each dimension, the blocks of its first input of which it takes a quarter
 * at least, and the one that it takes most of, by which it is placed; of all others it reads the pieces, its second input.
 * A piece is made where its block is, and only it moves. Pieces of blocks that are read whole have no readers, so they are
 * never made. All of it follows from shapes. */
#ifndef TESSI_GRAPH_JOIN_H
#define TESSI_GRAPH_JOIN_H

#include "core/graph/layer.h"

enum { TESSI_JOIN_BLOCKS, TESSI_JOIN_PIECES }; /* its inputs */

static inline bool tessi_layer_joins(const struct tessi_layer *layer)
{
    return layer->op == TESSI_OP_REGRID && layer->ninputs == 2;
}

/* Whether a layer on grid `to` had better join blocks and pieces of an array of the same shape on grid `from`: then
 * `pieces` is the pieces' grid, which the caller owns. */
bool tessi_join_pays(const struct tessi_grid *from, const struct tessi_grid *to, size_t element_bytes,
                     struct tessi_grid *pieces);

/* Of a layer whose rules have been checked: whether its second input holds the pieces of the first. */
bool tessi_join_check(const struct tessi_layer *layer);

/* Whether the second input, `pieces`, cuts the first as its name says. Elsewhere it is taken for any array of its shape. */
bool tessi_join_agrees(const struct tessi_layer *layer, const struct tessi_layer *pieces);

/* All below: of a layer that joins. Blocks of the first input that the task takes elements of, row-major, whole or not. */
uint64_t tessi_join_steps(const struct tessi_layer *layer, uint64_t index);
struct tessi_block_ref tessi_join_step(const struct tessi_layer *layer, uint64_t index, uint64_t step);

/* The block of the first input that the task takes most of: the first of equals. UINT64_MAX: it takes nothing. */
uint64_t tessi_join_main(const struct tessi_layer *layer, uint64_t index);

/* The blocks that the task reads whole; the pieces that it reads, how many they are, and their elements. */
void tessi_join_blocks(const struct tessi_layer *layer, uint64_t index, struct tessi_box *box);
void tessi_join_pieces(const struct tessi_layer *layer, uint64_t index, tessi_visit_fn *visit, void *context);
uint64_t tessi_join_piece_count(const struct tessi_layer *layer, uint64_t index);
uint64_t tessi_join_piece_elements(const struct tessi_layer *layer, uint64_t index);
/* The tasks that read the block: a box. */
void tessi_join_readers(const struct tessi_layer *layer, uint32_t input, uint64_t block, struct tessi_box *box);

#endif
