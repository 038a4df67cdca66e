/* The loops of reductions whose state is a number, one set for each type that is computed in. */
#include "worker/kernel/simd.h"

#include "worker/kernel/reduce.h"

#include "core/base/assert.h"
#include "worker/kernel/complex.h"
#include "worker/kernel/geometry.h"

#define ROW_PARAMETERS enum tessi_fold fold, const void *in, size_t n, size_t width, void *out
#define JOIN_PARAMETERS enum tessi_fold fold, void *acc, const void *in, size_t n

#define LANES TESSI_FOLD_LANES
#define WHOLE
#define T int8_t
#define W uint32_t
#define NAME(f) f##_i8
#include "worker/kernel/reduce_type.h"
#define WHOLE
#define T int16_t
#define W uint32_t
#define NAME(f) f##_i16
#include "worker/kernel/reduce_type.h"
#define WHOLE
#define T int32_t
#define W uint32_t
#define NAME(f) f##_i32
#include "worker/kernel/reduce_type.h"
#define WHOLE
#define T int64_t
#define W uint64_t
#define NAME(f) f##_i64
#include "worker/kernel/reduce_type.h"
#define WHOLE
#define T uint8_t
#define W uint32_t
#define NAME(f) f##_u8
#include "worker/kernel/reduce_type.h"
#define WHOLE
#define T uint16_t
#define W uint32_t
#define NAME(f) f##_u16
#include "worker/kernel/reduce_type.h"
#define WHOLE
#define T uint32_t
#define W uint32_t
#define NAME(f) f##_u32
#include "worker/kernel/reduce_type.h"
#define WHOLE
#define T uint64_t
#define W uint64_t
#define NAME(f) f##_u64
#include "worker/kernel/reduce_type.h"
#define FLOATING
#define T float
#define NAME(f) f##_f32
#include "worker/kernel/reduce_type.h"
#define FLOATING
#define T double
#define NAME(f) f##_f64
#include "worker/kernel/reduce_type.h"
#define TRUTH
#define T uint8_t
#define NAME(f) f##_bool
#include "worker/kernel/reduce_type.h"
#undef LANES
#define LANES (TESSI_FOLD_LANES / 2)
#define COMPLEX
#define T struct tessi_c64
#define NAME(f) f##_c64
#include "worker/kernel/reduce_type.h"
#define COMPLEX
#define T struct tessi_c128
#define NAME(f) f##_c128
#include "worker/kernel/reduce_type.h"

struct tessi_number_loops tessi_number_loops(enum tessi_fold fold, enum tessi_dtype compute)
{
    if (fold == TESSI_FOLD_SUM && tessi_dtype_kind(compute) == TESSI_KIND_COMPLEX) {
        /* Parts are added side by side, as vectors. */
        return compute == TESSI_C64 ? (struct tessi_number_loops){row_f32, join_f32, 2}
                                    : (struct tessi_number_loops){row_f64, join_f64, 2};
    }
    switch (compute) {
#define ROW(DTYPE, suffix) \
    case TESSI_##DTYPE:    \
        return (struct tessi_number_loops){row_##suffix, join_##suffix, 1};
        ROW(BOOL, bool)
        ROW(I8, i8)
        ROW(I16, i16)
        ROW(I32, i32)
        ROW(I64, i64)
        ROW(U8, u8)
        ROW(U16, u16)
        ROW(U32, u32)
        ROW(U64, u64)
        ROW(F16, f32)
        ROW(BF16, f32)
        ROW(F32, f32)
        ROW(F64, f64)
        ROW(C64, c64)
        ROW(C128, c128)
#undef ROW
    }
    TESS_ASSERT(false);
    return (struct tessi_number_loops){NULL, NULL, 0};
}
