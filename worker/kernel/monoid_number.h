/* The reductions whose state is a number (core/graph/reduction.h), a body each: x joins y, which may be of what came before
 * it or after.
 *
 * The processor's kernels, the plain reference and a device include this once for each type that is computed in, between
 * the definitions of monoid_class.h and monoid_end.h. A row that takes ordered numbers has its body where HAS_ORDER is,
 * one whose state is a truth value where TRUTH is. */

#include "worker/kernel/monoid_class.h"

TESSI_MONOID T NAME(tessi_sum)(T x, T y)
{
    return ADD(x, y);
}

TESSI_MONOID T NAME(tessi_prod)(T x, T y)
{
    return MULTIPLY(x, y);
}

#ifdef TRUTH
TESSI_MONOID T NAME(tessi_any)(T x, T y)
{
    return ADD(x, y);
}

TESSI_MONOID T NAME(tessi_all)(T x, T y)
{
    return MULTIPLY(x, y);
}
#endif

#ifdef HAS_ORDER
/* A NaN wins, and stays: NumPy's minimum and maximum. */
TESSI_MONOID T NAME(tessi_min)(T x, T y)
{
    return LESS(x, y) || IS_NAN(x) ? x : y;
}

TESSI_MONOID T NAME(tessi_max)(T x, T y)
{
    return LESS(y, x) || IS_NAN(x) ? x : y;
}
#endif

/* The body of a row; `fold` is a constant where that matters. */
TESSI_MONOID T NAME(tessi_join)(int fold, T x, T y)
{
#define TESSI_ROW(F, name, code, takes, result, state, ...)                                                            \
    TESSI_IF_##takes(TESSI_IF_##state(if (fold == TESSI_FOLD_##F) { return NAME(tessi_##name)(x, y); }))
    TESSI_FOLD_NUMBERS(TESSI_ROW)
#undef TESSI_ROW
    (void)fold;
    (void)x;
    return y;
}
