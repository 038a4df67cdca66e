/* The bodies of elementwise operations, for one type; scalar.h includes this once for each.
 *
 * T is the type and NAME(op) is op with the type's name. One of BOOL, SIGNED and UNSIGNED (with W), FLOATING (with ROOT and
 * MAGNITUDE) and COMPLEX (with R, the type of its parts) says of which class it is. C and C++ both compile this. */

/* ——— every type ——— */

TESSI_SCALAR T NAME(copy)(T x)
{
    return x;
}

TESSI_SCALAR T NAME(where)(TESSI_TYPE_BOOL condition, T x, T y)
{
    return TESSI_IS(condition) ? x : y;
}

/* ——— comparisons: of a NaN nothing but "not equal" is true ——— */

#if defined(BOOL) || defined(SIGNED) || defined(UNSIGNED) || defined(FLOATING)
#ifdef BOOL
#define VALUE(x) TESSI_IS(x)
#else
#define VALUE(x) (x)
#endif
#define COMPARISON(name, operator)                        \
    TESSI_SCALAR TESSI_TYPE_BOOL NAME(name)(T x, T y)     \
    {                                                     \
        return tessi_truth(VALUE(x) operator VALUE(y));   \
    }
COMPARISON(equal, ==)
COMPARISON(not_equal, !=)
COMPARISON(less, <)
COMPARISON(less_equal, <=)
COMPARISON(greater, >)
COMPARISON(greater_equal, >=)
#undef COMPARISON
#undef VALUE
#endif

/* ——— truth values, as NumPy: a sum is "or", a product "and" ——— */

#ifdef BOOL
TESSI_SCALAR T NAME(add)(T x, T y)
{
    return tessi_truth(TESSI_IS(x) | TESSI_IS(y));
}

TESSI_SCALAR T NAME(multiply)(T x, T y)
{
    return tessi_truth(TESSI_IS(x) & TESSI_IS(y));
}

TESSI_SCALAR T NAME(abs)(T x)
{
    return x;
}
#endif

/* ——— integers, which wrap ——— */

#if defined(SIGNED) || defined(UNSIGNED)
TESSI_SCALAR T NAME(add)(T x, T y)
{
    return (T)((W)x + (W)y);
}

TESSI_SCALAR T NAME(subtract)(T x, T y)
{
    return (T)((W)x - (W)y);
}

TESSI_SCALAR T NAME(multiply)(T x, T y)
{
    return (T)((W)x * (W)y);
}

TESSI_SCALAR T NAME(negative)(T x)
{
    return (T)(0 - (W)x);
}

#ifdef SIGNED
TESSI_SCALAR T NAME(abs)(T x)
{
    return (T)(x < 0 ? 0 - (W)x : (W)x);
}
#else
TESSI_SCALAR T NAME(abs)(T x)
{
    return x;
}
#endif
#endif

/* ——— floats ——— */

#ifdef FLOATING
TESSI_SCALAR T NAME(add)(T x, T y)
{
    return x + y;
}

TESSI_SCALAR T NAME(subtract)(T x, T y)
{
    return x - y;
}

TESSI_SCALAR T NAME(multiply)(T x, T y)
{
    return x * y;
}

TESSI_SCALAR T NAME(divide)(T x, T y)
{
    return x / y;
}

TESSI_SCALAR T NAME(negative)(T x)
{
    return -x;
}

TESSI_SCALAR T NAME(abs)(T x)
{
    return MAGNITUDE(x);
}

TESSI_SCALAR T NAME(sqrt)(T x)
{
    return ROOT(x);
}
#endif

/* ——— complex numbers ——— */

#ifdef COMPLEX
TESSI_SCALAR T NAME(pair)(R re, R im)
{
    T z;
    z.re = re;
    z.im = im;
    return z;
}

TESSI_SCALAR T NAME(add)(T x, T y)
{
    return NAME(pair)(x.re + y.re, x.im + y.im);
}

TESSI_SCALAR T NAME(subtract)(T x, T y)
{
    return NAME(pair)(x.re - y.re, x.im - y.im);
}

TESSI_SCALAR T NAME(multiply)(T x, T y)
{
    return NAME(pair)(x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re);
}

TESSI_SCALAR T NAME(negative)(T x)
{
    return NAME(pair)(-x.re, -x.im);
}

TESSI_SCALAR TESSI_TYPE_BOOL NAME(equal)(T x, T y)
{
    return tessi_truth((x.re == y.re) & (x.im == y.im));
}

TESSI_SCALAR TESSI_TYPE_BOOL NAME(not_equal)(T x, T y)
{
    return tessi_truth((x.re != y.re) | (x.im != y.im));
}
#endif

#undef NAME
#undef T
