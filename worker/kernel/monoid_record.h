/* The reductions whose state is a record (core/graph/reduction.h): for each its fields, of 64 bits each, and three bodies.
 *
 *     lift(x, position)     the state of one element; positions number the elements that become one, in the array's order
 *     join(x, y)            the state of both, whichever came first
 *     finish(x, parameter)  the result's element
 *
 * Included as monoid_number.h is, for i64, u64 (which bool is here too), f64 and c128. Where the row has positions they are the
 * record's last field: kernels count within a block first, and turn its places into the array's afterwards. */
#include "worker/kernel/monoid_class.h"

/* Number, mean and sum of squared distances from it. T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a
 * pairwise algorithm for computing sample variances", COMPSTAT 1982. */
struct NAME(tessi_var) {
    double count, re, im, squares;
};

TESSI_MONOID struct NAME(tessi_var) NAME(tessi_var_lift)(T x, int64_t position)
{
    double re = RE(x), im = IM(x);
    (void)position;
    return (struct NAME(tessi_var)){1.0, re, im, (re - re) + (im - im)}; /* NaN where there is no distance */
}

TESSI_MONOID struct NAME(tessi_var) NAME(tessi_var_join)(struct NAME(tessi_var) x, struct NAME(tessi_var) y)
{
    double count = x.count + y.count;
    double share = x.count / count;
    double re = x.re - y.re, im = x.im - y.im;
    return (struct NAME(tessi_var)){count, y.re + re * share, y.im + im * share,
                                    x.squares + y.squares + (re * re + im * im) * (y.count * share)};
}

TESSI_MONOID double NAME(tessi_var_finish)(struct NAME(tessi_var) x, double correction)
{
    return x.squares / (x.count > correction ? x.count - correction : 0.0);
}

/* The root of the variance. */
struct NAME(tessi_std) {
    struct NAME(tessi_var) var;
};

TESSI_MONOID struct NAME(tessi_std) NAME(tessi_std_lift)(T x, int64_t position)
{
    return (struct NAME(tessi_std)){NAME(tessi_var_lift)(x, position)};
}

TESSI_MONOID struct NAME(tessi_std) NAME(tessi_std_join)(struct NAME(tessi_std) x, struct NAME(tessi_std) y)
{
    return (struct NAME(tessi_std)){NAME(tessi_var_join)(x.var, y.var)};
}

TESSI_MONOID double NAME(tessi_std_finish)(struct NAME(tessi_std) x, double correction)
{
    return sqrt(NAME(tessi_var_finish)(x.var, correction));
}

#ifdef HAS_ORDER
/* The largest value and where it is first; a NaN counts as the largest. */
struct NAME(tessi_argmax) {
    T value;
    int64_t position;
};

TESSI_MONOID struct NAME(tessi_argmax) NAME(tessi_argmax_lift)(T x, int64_t position)
{
    return (struct NAME(tessi_argmax)){x, position};
}

TESSI_MONOID struct NAME(tessi_argmax) NAME(tessi_argmax_join)(struct NAME(tessi_argmax) x, struct NAME(tessi_argmax) y)
{
    bool more = LESS(y.value, x.value) || (IS_NAN(x.value) && !IS_NAN(y.value));
    bool less = LESS(x.value, y.value) || (IS_NAN(y.value) && !IS_NAN(x.value));
    return more || (!less && x.position < y.position) ? x : y;
}

TESSI_MONOID int64_t NAME(tessi_argmax_finish)(struct NAME(tessi_argmax) x, double parameter)
{
    (void)parameter;
    return x.position;
}

/* The smallest value and where it is first; a NaN counts as the smallest. */
struct NAME(tessi_argmin) {
    T value;
    int64_t position;
};

TESSI_MONOID struct NAME(tessi_argmin) NAME(tessi_argmin_lift)(T x, int64_t position)
{
    return (struct NAME(tessi_argmin)){x, position};
}

TESSI_MONOID struct NAME(tessi_argmin) NAME(tessi_argmin_join)(struct NAME(tessi_argmin) x, struct NAME(tessi_argmin) y)
{
    bool less = LESS(x.value, y.value) || (IS_NAN(x.value) && !IS_NAN(y.value));
    bool more = LESS(y.value, x.value) || (IS_NAN(y.value) && !IS_NAN(x.value));
    return less || (!more && x.position < y.position) ? x : y;
}

TESSI_MONOID int64_t NAME(tessi_argmin_finish)(struct NAME(tessi_argmin) x, double parameter)
{
    (void)parameter;
    return x.position;
}
#endif
