/* The reduction loops of one compute type; reduce.c includes this once for each.
 *
 * T: the type; NAME(x): x with its suffix; SUM(x, y); LESS(x, y): x replaces y as the minimum;
 * MORE(x, y) as the maximum. */

#define PICK(fold, x, y)                                                                                               \
    ((fold) == TESSI_FOLD_SUM   ? (T)SUM(x, y)                                                                         \
     : (fold) == TESSI_FOLD_MIN ? (LESS(x, y) ? (x) : (y))                                                             \
                                : (MORE(x, y) ? (x) : (y)))

/* At most LEAF components in a row, `width` of them an element (2: complex), into out[width]:
 * LANES running folds, folded in halves. The same tree on every machine. */
TESSI_BODY void NAME(row_fold)(enum tessi_fold fold, const T *restrict in, size_t n, size_t width, T *restrict out)
{
    T lane[LANES];
    size_t whole = n / LANES * LANES;
    if (whole == 0) {
        for (size_t w = 0; w < width; w++) {
            out[w] = in[w];
        }
        for (size_t i = width; i < n; i++) {
            out[i % width] = PICK(fold, in[i], out[i % width]);
        }
        return;
    }
    for (size_t l = 0; l < LANES; l++) {
        lane[l] = in[l];
    }
    for (size_t i = LANES; i < whole; i += LANES) {
        for (size_t l = 0; l < LANES; l++) {
            lane[l] = PICK(fold, in[i + l], lane[l]);
        }
    }
    for (size_t half = LANES / 2; half >= width; half /= 2) {
        for (size_t l = 0; l < half; l++) {
            lane[l] = PICK(fold, lane[l + half], lane[l]);
        }
    }
    for (size_t i = whole; i < n; i++) {
        lane[i % width] = PICK(fold, in[i], lane[i % width]);
    }
    for (size_t w = 0; w < width; w++) {
        out[w] = lane[w];
    }
}

/* acc[j] = acc[j] ∘ in[j]. */
TESSI_BODY void NAME(join_fold)(enum tessi_fold fold, T *restrict acc, const T *restrict in, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        acc[j] = PICK(fold, in[j], acc[j]);
    }
}

TESSI_BODY void TESSI_BODY_OF(NAME(row))(ROW_PARAMETERS)
{
    if (fold == TESSI_FOLD_SUM) {
        NAME(row_fold)(TESSI_FOLD_SUM, in, n, width, out);
    } else if (fold == TESSI_FOLD_MIN) {
        NAME(row_fold)(TESSI_FOLD_MIN, in, n, width, out);
    } else {
        NAME(row_fold)(TESSI_FOLD_MAX, in, n, width, out);
    }
}

TESSI_BODY void TESSI_BODY_OF(NAME(join))(JOIN_PARAMETERS)
{
    if (fold == TESSI_FOLD_SUM) {
        NAME(join_fold)(TESSI_FOLD_SUM, acc, in, n);
    } else if (fold == TESSI_FOLD_MIN) {
        NAME(join_fold)(TESSI_FOLD_MIN, acc, in, n);
    } else {
        NAME(join_fold)(TESSI_FOLD_MAX, acc, in, n);
    }
}

TESSI_MULTIVERSION(NAME(row), (ROW_PARAMETERS), (fold, in, n, width, out))
TESSI_MULTIVERSION(NAME(join), (JOIN_PARAMETERS), (fold, acc, in, n))

#undef PICK
#undef T
#undef NAME
