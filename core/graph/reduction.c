#include "core/graph/reduction.h"

#include <math.h>
#include <stddef.h>

#include "core/base/assert.h"

static const struct tessi_fold_row rows[] = {
#define TESSI_ROW(NAME, name, code, takes, result, state, empty, nan, flops)                                           \
    [code] = {#name, TESSI_TAKES_##takes, TESSI_RESULT_##result, TESSI_STATE_##state, 0, false,                        \
              TESSI_EMPTY_##empty, TESSI_NAN_##nan, flops},
    TESSI_FOLD_NUMBERS(TESSI_ROW)
#undef TESSI_ROW
#define TESSI_ROW(NAME, name, code, takes, result, words, position, empty, nan, parameter, flops)                      \
    [code] = {#name, TESSI_TAKES_##takes, TESSI_RESULT_##result, TESSI_STATE_RECORD, words, position,                  \
              TESSI_EMPTY_##empty, TESSI_NAN_##nan, flops},
    TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW
};

_Static_assert(sizeof rows / sizeof rows[0] == TESSI_FOLD_COUNT, "one row for each reduction, without gaps");

#define TESSI_ROW(NAME, name, code, takes, result, words, ...)                                                         \
    _Static_assert((words) * 8 <= TESSI_FOLD_RECORD_MAX, "a record of " #name " is too long");
TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW

bool tessi_fold_valid(uint32_t code)
{
    return code < TESSI_FOLD_COUNT;
}

const struct tessi_fold_row *tessi_fold_row(enum tessi_fold fold)
{
    TESS_ASSERT(tessi_fold_valid((uint32_t)fold));
    return &rows[fold];
}

bool tessi_fold_takes(enum tessi_fold fold, enum tessi_dtype elements)
{
    return tessi_fold_row(fold)->takes == TESSI_TAKES_ANY || tessi_dtype_kind(elements) != TESSI_KIND_COMPLEX;
}

static enum tessi_dtype real_of(enum tessi_dtype dtype)
{
    return dtype == TESSI_C64 ? TESSI_F32 : dtype == TESSI_C128 ? TESSI_F64 : dtype;
}

enum tessi_dtype tessi_fold_result(enum tessi_fold fold, enum tessi_dtype elements)
{
    switch (tessi_fold_row(fold)->result) {
    case TESSI_RESULT_SUM:
        return tessi_dtype_sum(elements);
    case TESSI_RESULT_SAME:
        return elements;
    case TESSI_RESULT_TRUTH:
        return TESSI_BOOL;
    case TESSI_RESULT_INDEX:
        return TESSI_I64;
    case TESSI_RESULT_REAL:
        return real_of(tessi_dtype_inexact(elements));
    }
    TESS_ASSERT(false);
    return elements;
}

enum tessi_dtype tessi_fold_number(enum tessi_fold fold, enum tessi_dtype elements)
{
    enum tessi_dtype result = tessi_fold_result(fold, elements);
    switch (tessi_fold_row(fold)->state) {
    case TESSI_STATE_WIDE:
        return result == TESSI_F16 || result == TESSI_BF16 ? TESSI_F32 : result;
    case TESSI_STATE_KEPT:
        return elements;
    case TESSI_STATE_TRUTH:
        return TESSI_BOOL;
    case TESSI_STATE_RECORD:
        break;
    }
    TESS_ASSERT(false);
    return result;
}

int64_t tessi_fold_record_bytes(enum tessi_fold fold)
{
    return (int64_t)tessi_fold_row(fold)->words * 8;
}

bool tessi_fold_of_nothing(enum tessi_fold fold, double *value)
{
    switch (tessi_fold_row(fold)->empty) {
    case TESSI_EMPTY_ZERO:
        *value = 0.0;
        return true;
    case TESSI_EMPTY_ONE:
        *value = 1.0;
        return true;
    case TESSI_EMPTY_NAN:
        *value = (double)NAN;
        return true;
    case TESSI_EMPTY_NOTHING:
        break;
    }
    return false;
}
