/* The reduction loops of one compute type; reduce.c includes this once for each, with what monoid_number.h wants, and LANES:
 * how many running folds of this type's elements there are. */
#include "worker/kernel/monoid_number.h"

/* At most LEAF components in a row, `width` of them an element (2: parts of complex numbers), into out[width]:
 * LANES running folds, folded in halves. The same tree on every machine. */
TESSI_BODY void NAME(row_fold)(int fold, const T *restrict in, size_t n, size_t width, T *restrict out)
{
    T lane[LANES];
    size_t whole = n / LANES * LANES;
    if (whole == 0) {
        for (size_t w = 0; w < width; w++) {
            out[w] = in[w];
        }
        for (size_t i = width; i < n; i++) {
            out[i % width] = NAME(tessi_join)(fold, in[i], out[i % width]);
        }
        return;
    }
    for (size_t l = 0; l < LANES; l++) {
        lane[l] = in[l];
    }
    for (size_t i = LANES; i < whole; i += LANES) {
        for (size_t l = 0; l < LANES; l++) {
            lane[l] = NAME(tessi_join)(fold, in[i + l], lane[l]);
        }
    }
    for (size_t half = LANES / 2; half >= width; half /= 2) {
        for (size_t l = 0; l < half; l++) {
            lane[l] = NAME(tessi_join)(fold, lane[l + half], lane[l]);
        }
    }
    for (size_t i = whole; i < n; i++) {
        lane[i % width] = NAME(tessi_join)(fold, in[i], lane[i % width]);
    }
    for (size_t w = 0; w < width; w++) {
        out[w] = lane[w];
    }
}

/* acc[j] = acc[j] ∘ in[j]. */
TESSI_BODY void NAME(join_fold)(int fold, T *restrict acc, const T *restrict in, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        acc[j] = NAME(tessi_join)(fold, in[j], acc[j]);
    }
}

/* `fold` becomes a constant here, so that each reduction has loops of its own. */
TESSI_BODY void TESSI_BODY_OF(NAME(row))(ROW_PARAMETERS)
{
#define TESSI_ROW(F, name, code, takes, result, state, ...)                                                            \
    TESSI_IF_##takes(TESSI_IF_##state(if (fold == TESSI_FOLD_##F) {                                                    \
        NAME(row_fold)(TESSI_FOLD_##F, in, n, width, out);                                                             \
    }))
    TESSI_FOLD_NUMBERS(TESSI_ROW)
#undef TESSI_ROW
}

TESSI_BODY void TESSI_BODY_OF(NAME(join))(JOIN_PARAMETERS)
{
#define TESSI_ROW(F, name, code, takes, result, state, ...)                                                            \
    TESSI_IF_##takes(TESSI_IF_##state(if (fold == TESSI_FOLD_##F) {                                                    \
        NAME(join_fold)(TESSI_FOLD_##F, acc, in, n);                                                                   \
    }))
    TESSI_FOLD_NUMBERS(TESSI_ROW)
#undef TESSI_ROW
}

#ifdef COMPLEX /* not for AVX-512: simd.h says why */
static void NAME(row)(ROW_PARAMETERS)
{
    TESSI_BODY_OF(NAME(row))(fold, in, n, width, out);
}
static void NAME(join)(JOIN_PARAMETERS)
{
    TESSI_BODY_OF(NAME(join))(fold, acc, in, n);
}
#else
TESSI_MULTIVERSION(NAME(row), (ROW_PARAMETERS), (fold, in, n, width, out))
TESSI_MULTIVERSION(NAME(join), (JOIN_PARAMETERS), (fold, acc, in, n))
#endif

#include "worker/kernel/monoid_end.h"
