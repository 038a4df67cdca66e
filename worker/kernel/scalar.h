/* Elementwise operations on one element, for every type that computes them in itself (OWN and MOVE in
 * core/graph/elementwise_table.h): tessi_scalar_add_f32(x, y).
 *
 * The bodies are those of bodies.h. Processors' loops, plain references, nvcc and programs that are compiled at run time all
 * take them from here. In C++ the names have no type and are overloaded, and element.h (worker/device/cuda) has made the
 * types that C has not. f16 and bf16 are computed in f32; what is WIDE is a function of elementary.h or complex.h. */
#ifndef TESSI_KERNEL_SCALAR_H
#define TESSI_KERNEL_SCALAR_H

#include "worker/kernel/elementary.h"

#ifdef __cplusplus
#define TESSI_SCALAR_NAME(op, type) tessi_scalar_##op
#define TESSI_TYPE_BOOL tessi_bool
#define TESSI_TYPE_C64 tessi_complex32
#define TESSI_TYPE_C128 tessi_complex64
#define TESSI_IS(x) ((x).bits)
#else
#include "worker/kernel/complex.h"
#define TESSI_SCALAR static inline __attribute__((always_inline, unused))
#define TESSI_SCALAR_NAME(op, type) tessi_scalar_##op##_##type
#define TESSI_TYPE_BOOL unsigned char
#define TESSI_TYPE_C64 struct tessi_c64
#define TESSI_TYPE_C128 struct tessi_c128
#define TESSI_IS(x) (x)
#endif

/* A truth value as its type has it: one byte, 0 or 1. */
TESSI_SCALAR TESSI_TYPE_BOOL tessi_truth(int is)
{
    TESSI_TYPE_BOOL truth;
    TESSI_IS(truth) = (unsigned char)(is != 0);
    return truth;
}

#define NAME(op) TESSI_SCALAR_NAME(op, truth)
#define T TESSI_TYPE_BOOL
#define BOOL
#include "worker/kernel/bodies.h"
#undef BOOL

/* W: unsigned, and so wide that nothing is promoted to a signed type. */
#define SIGNED
#define W unsigned int
#define NAME(op) TESSI_SCALAR_NAME(op, i8)
#define T signed char
#include "worker/kernel/bodies.h"
#define NAME(op) TESSI_SCALAR_NAME(op, i16)
#define T short
#include "worker/kernel/bodies.h"
#define NAME(op) TESSI_SCALAR_NAME(op, i32)
#define T int
#include "worker/kernel/bodies.h"
#undef W
#define W unsigned long long
#define NAME(op) TESSI_SCALAR_NAME(op, i64)
#define T long long
#include "worker/kernel/bodies.h"
#undef SIGNED

#define UNSIGNED
#define NAME(op) TESSI_SCALAR_NAME(op, u64)
#define T unsigned long long
#include "worker/kernel/bodies.h"
#undef W
#define W unsigned int
#define NAME(op) TESSI_SCALAR_NAME(op, u8)
#define T unsigned char
#include "worker/kernel/bodies.h"
#define NAME(op) TESSI_SCALAR_NAME(op, u16)
#define T unsigned short
#include "worker/kernel/bodies.h"
#define NAME(op) TESSI_SCALAR_NAME(op, u32)
#define T unsigned int
#include "worker/kernel/bodies.h"
#undef W
#undef UNSIGNED

#define FLOATING
#define NAME(op) TESSI_SCALAR_NAME(op, f64)
#define T double
#define ROOT sqrt
#define MAGNITUDE fabs
#include "worker/kernel/bodies.h"
#undef ROOT
#undef MAGNITUDE
#define NAME(op) TESSI_SCALAR_NAME(op, f32)
#define T float
#define ROOT sqrtf
#define MAGNITUDE fabsf
#include "worker/kernel/bodies.h"
#undef ROOT
#undef MAGNITUDE
#undef FLOATING

#define COMPLEX
#define NAME(op) TESSI_SCALAR_NAME(op, c64)
#define T TESSI_TYPE_C64
#define R float
#include "worker/kernel/bodies.h"
#undef R
#define NAME(op) TESSI_SCALAR_NAME(op, c128)
#define T TESSI_TYPE_C128
#define R double
#include "worker/kernel/bodies.h"
#undef R
#undef COMPLEX

#endif
