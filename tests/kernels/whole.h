/* Whole arrays for kernel tests: cut them into blocks, run every step of every task of a layer,
 * and paste the results together. */
#ifndef TESTS_KERNELS_WHOLE_H
#define TESTS_KERNELS_WHOLE_H

/* cmocka.h needs these four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/graph/layer.h"

/* A shape as a compound literal: SHAPE(3, 4). */
#define SHAPE(...) \
    ((struct tessi_shape){sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})

enum whole_with { WHOLE_KERNEL, WHOLE_REFERENCE };

struct tessi_layer *whole_layer(enum tessi_op op, enum tessi_dtype dtype, const struct tessi_shape *shape,
                                const int64_t *chunk);
/* An input with all rules SAME, in order; chunk NULL: one chunk. */
struct tessi_input *whole_input(struct tessi_layer *layer, enum tessi_dtype dtype, const struct tessi_shape *shape,
                                const int64_t *chunk);

/* The whole result, 64-byte aligned, for free(). Fails the test on any error. */
void *whole_run(const struct tessi_layer *layer, const void *const *inputs, enum whole_with with);

/* Values from −4 to 4 (integers from −9 to 9, wrapped), with some special ones when asked. */
void *whole_random(enum tessi_dtype dtype, int64_t count, uint64_t seed, bool special);

/* Every combination of `operands` special values, row-major: the values that operand number `operand` has in them. Of them
 * are `*count`. */
void *whole_specials(enum tessi_dtype dtype, uint32_t operand, uint32_t operands, int64_t *count);

/* Whether the elementwise operation is computed in the type; and also by devices, which have no complex functions. */
bool whole_computes(enum tessi_ewise op, enum tessi_dtype dtype);
bool whole_device_computes(enum tessi_ewise op, enum tessi_dtype dtype);

int64_t whole_elements(const struct tessi_shape *shape);
/* Equal bytes, or both NaN in each component. */
void whole_assert_equal(enum tessi_dtype dtype, const void *a, const void *b, int64_t count);
/* |a − b| ≤ tolerance · (1 + |b|) in each component. */
void whole_assert_near(enum tessi_dtype dtype, const void *a, const void *b, int64_t count, double tolerance);

#endif
