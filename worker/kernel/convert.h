/* Conversion between element types.
 *
 * Integers wrap modulo 2^bits; real to complex has imaginary part 0, complex to real drops
 * it; to bool is "≠ 0". Floats to integers truncate, saturate at the type's limits, and
 * turn NaN into 0 (C leaves these undefined, and machines differ). Whatever becomes a float is
 * rounded to nearest even, once: on the way to f16 and bf16 it is rounded to odd. */
#ifndef TESSI_KERNEL_CONVERT_H
#define TESSI_KERNEL_CONVERT_H

#include <stddef.h>
#include <stdint.h>
#include "core/array/dtype.h"
#include "core/graph/layer.h"
#include "worker/kernel/half.h"

/* to[i] = from[i] for i < count. The buffers do not overlap. */
void tessi_convert(enum tessi_dtype to_dtype, void *to, enum tessi_dtype from_dtype, const void *from, size_t count);

/* One value of a scalar, in `dtype`, into `to` (up to 16 bytes). */
void tessi_convert_scalar(enum tessi_dtype dtype, void *to, const struct tessi_scalar *scalar);

#endif
