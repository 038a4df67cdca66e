/* The elementwise loops of one type; elementwise.c includes this once for each.
 *
 * T is the type and NAME(x) is x with the type's suffix. Arithmetic comes from the macros
 * ADD … LOG, or from one of SIGNED_INTEGER, UNSIGNED_INTEGER (with W, an unsigned type wide
 * enough that nothing is promoted to a signed one) and COMPLEX (with NARROW and WIDEN from and
 * to c128). A missing macro means that the type has no such operation. `sa` and `sb` are 0 for
 * an operand that is one value for the whole strip, else 1, and constants where it matters. */

#if defined(SIGNED_INTEGER) || defined(UNSIGNED_INTEGER)
/* Integers wrap; a quotient truncates, n / 0 is 0, and lowest / −1 wraps. */
#define ADD(x, y) ((W)(x) + (W)(y))
#define SUBTRACT(x, y) ((W)(x) - (W)(y))
#define MULTIPLY(x, y) ((W)(x) * (W)(y))
#define NEGATIVE(x) (0 - (W)(x))
#ifdef SIGNED_INTEGER
#define ABS(x) ((x) < 0 ? 0 - (W)(x) : (W)(x))
#define DIVIDE(x, y) ((y) == 0 ? (T)0 : (y) == -1 ? (T)(0 - (W)(x)) : (T)((x) / (y)))
#else
#define ABS(x) (x)
#define DIVIDE(x, y) ((y) == 0 ? (T)0 : (T)((x) / (y)))
#endif
#endif

#ifdef COMPLEX
#define CAST(x) (x)
#define ADD(x, y) ((T){(x).re + (y).re, (x).im + (y).im})
#define SUBTRACT(x, y) ((T){(x).re - (y).re, (x).im - (y).im})
#define MULTIPLY(x, y) ((T){(x).re * (y).re - (x).im * (y).im, (x).re * (y).im + (x).im * (y).re})
#define NEGATIVE(x) ((T){-(x).re, -(x).im})
#define DIVIDE(x, y) NARROW(tessi_complex_divide(WIDEN(x), WIDEN(y)))
#define ABS(x) NARROW(((struct tessi_c128){tessi_complex_abs(WIDEN(x)), 0}))
#define SQRT(x) NARROW(tessi_complex_sqrt(WIDEN(x)))
#define EXP(x) NARROW(tessi_complex_exp(WIDEN(x)))
#define LOG(x) NARROW(tessi_complex_log(WIDEN(x)))
#else
#define CAST(x) ((T)(x))
#endif

#define LOOP(expression)                 \
    for (size_t i = 0; i < n; i++) {     \
        const T x = a[i * sa];           \
        const T y = b[i * sb];           \
        (void)y;                         \
        out[i] = CAST(expression);       \
    }                                    \
    return

TESSI_BODY void NAME(loops)(enum tessi_ewise op, size_t n, const T *restrict a, size_t sa, const T *restrict b,
                            size_t sb, T *restrict out)
{
    switch (op) {
    case TESSI_EWISE_COPY:
        LOOP(x);
    case TESSI_EWISE_ADD:
        LOOP(ADD(x, y));
    case TESSI_EWISE_MULTIPLY:
        LOOP(MULTIPLY(x, y));
    case TESSI_EWISE_ABS:
        LOOP(ABS(x));
    case TESSI_EWISE_SUBTRACT:
#ifdef SUBTRACT
        LOOP(SUBTRACT(x, y));
#else
        return;
#endif
    case TESSI_EWISE_NEGATIVE:
#ifdef NEGATIVE
        LOOP(NEGATIVE(x));
#else
        return;
#endif
    case TESSI_EWISE_DIVIDE:
#ifdef DIVIDE
        LOOP(DIVIDE(x, y));
#else
        return;
#endif
    case TESSI_EWISE_SQRT:
#ifdef SQRT
        LOOP(SQRT(x));
#else
        return;
#endif
    case TESSI_EWISE_EXP:
#ifdef EXP
        LOOP(EXP(x));
#else
        return;
#endif
    case TESSI_EWISE_LOG:
#ifdef LOG
        LOOP(LOG(x));
#else
        return;
#endif
    }
}

TESSI_BODY void NAME(strip_body)(enum tessi_ewise op, size_t n, const void *a, size_t sa, const void *b, size_t sb,
                                 void *out)
{
    if (sa == 1 && sb == 1) {
        NAME(loops)(op, n, a, 1, b, 1, out);
    } else if (sa == 1) {
        NAME(loops)(op, n, a, 1, b, 0, out);
    } else if (sb == 1) {
        NAME(loops)(op, n, a, 0, b, 1, out);
    } else {
        NAME(loops)(op, n, a, 0, b, 0, out);
    }
}

static __attribute__((noinline)) void NAME(strip_base)(STRIP_PARAMETERS)
{
    NAME(strip_body)(op, n, a, sa, b, sb, out);
}

#ifdef TESSI_AVX2
static TESSI_AVX2 void NAME(strip_avx2)(STRIP_PARAMETERS)
{
    NAME(strip_body)(op, n, a, sa, b, sb, out);
}

#ifndef COMPLEX
static TESSI_AVX512 void NAME(strip_avx512)(STRIP_PARAMETERS)
{
    NAME(strip_body)(op, n, a, sa, b, sb, out);
}
#endif
#endif

static strip_fn *NAME(strip_choose)(void)
{
#ifdef TESSI_AVX2
    int level = tessi_simd_level();
#ifndef COMPLEX
    if (level == 2) {
        return NAME(strip_avx512);
    }
#endif
    if (level >= 1) {
        return NAME(strip_avx2);
    }
#endif
    return NAME(strip_base);
}

#undef LOOP
#undef T
#undef CAST
#undef NAME
#undef ADD
#undef SUBTRACT
#undef MULTIPLY
#undef DIVIDE
#undef NEGATIVE
#undef ABS
#undef SQRT
#undef EXP
#undef LOG
