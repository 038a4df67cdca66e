/* The loops of reductions whose state is a record, one set for the widest type of each kind of elements. */
#include "worker/kernel/reduce.h"

#include <math.h>
#include <stdbool.h>

#include "core/base/assert.h"
#include "worker/kernel/complex.h"

#define FINISHED_INDEX int64_t
#define FINISHED_REAL double

#define WHOLE
#define T int64_t
#define W uint64_t
#define NAME(f) f##_i64
#include "worker/kernel/reduce_record_type.h"
#define WHOLE
#define T uint64_t
#define W uint64_t
#define NAME(f) f##_u64
#include "worker/kernel/reduce_record_type.h"
#define FLOATING
#define T double
#define NAME(f) f##_f64
#include "worker/kernel/reduce_record_type.h"
#define COMPLEX
#define T struct tessi_c128
#define NAME(f) f##_c128
#include "worker/kernel/reduce_record_type.h"

enum tessi_dtype tessi_widest(enum tessi_dtype dtype)
{
    switch (tessi_dtype_kind(dtype)) {
    case TESSI_KIND_SIGNED:
        return TESSI_I64;
    case TESSI_KIND_BOOLEAN:
    case TESSI_KIND_UNSIGNED:
        return TESSI_U64;
    case TESSI_KIND_FLOAT:
        return TESSI_F64;
    case TESSI_KIND_COMPLEX:
        return TESSI_C128;
    }
    TESS_ASSERT(false);
    return dtype;
}

struct tessi_record_loops tessi_record_loops(enum tessi_fold fold, enum tessi_dtype elements)
{
    TESS_ASSERT(tessi_fold_row(fold)->state == TESSI_STATE_RECORD && tessi_fold_takes(fold, elements));
    switch (tessi_dtype_kind(elements)) {
    case TESSI_KIND_SIGNED:
        return loops_i64[fold];
    case TESSI_KIND_BOOLEAN:
    case TESSI_KIND_UNSIGNED:
        return loops_u64[fold];
    case TESSI_KIND_FLOAT:
        return loops_f64[fold];
    case TESSI_KIND_COMPLEX:
        return loops_c128[fold];
    }
    TESS_ASSERT(false);
    return loops_f64[fold];
}
