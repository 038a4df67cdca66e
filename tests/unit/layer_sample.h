/* Random layers of every operation, small enough to compare what is computed of their tasks with brute force. */
#ifndef TESTS_UNIT_LAYER_SAMPLE_H
#define TESTS_UNIT_LAYER_SAMPLE_H

#include "core/graph/layer.h"
#include "tests/unit/sample.h"

/* An empty layer, owned by the caller like all the others. */
struct tessi_layer *layer_of(enum tessi_op op, enum tessi_dtype dtype);

/* The next input, with a grid and rules of so many dimensions, all of them to be filled. */
struct tessi_input *add_input(struct tessi_layer *layer, enum tessi_dtype dtype, uint32_t ndim);

/* Takes the axes. Bit 0 of `transposes` is for A, bit 1 for B. A segment of 0 leaves k in one piece. */
struct tessi_layer *matmul_of(struct tessi_axis m, struct tessi_axis n, struct tessi_axis k_a, struct tessi_axis k_b,
                              unsigned transposes, int64_t segment);

struct tessi_layer *sample_matmul(struct sample *sample);
struct tessi_layer *sample_small_layer(struct sample *sample, enum tessi_op op);

/* Who reads the blocks of input `i` is who names them among what it reads. */
void check_layer_dependents(const struct tessi_layer *layer, uint32_t i);

/* The steps name exactly the blocks that the task reads, and its footprint holds two of them in a row. */
void check_layer_steps(const struct tessi_layer *layer, uint64_t task);

#endif
