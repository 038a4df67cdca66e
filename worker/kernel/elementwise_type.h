/* The elementwise loops of one type; elementwise.c includes this once for each.
 *
 * T is the type, NAME(x) is x with the type's suffix, SCALAR(op) the body of scalar.h, and CLASS(bool, integer, float, complex)
 * that one of a row's columns which is the type's. Floats and complex numbers come with WIDEN to f64 or c128, WIDE(op), the
 * function there, and NARROW back; R is the type of a complex number's parts. Each operation has a loop for every choice of
 * operands that are one value for the whole strip: their stride is 0, that of others 1. */

#define TYPE_OWN T
#define TYPE_TRUTH unsigned char
#define TYPE_REAL R

#define CALL_OWN_X(op) SCALAR(op)(x)
#define CALL_OWN_XX(op) SCALAR(op)(x, y)
#define CALL_OWN_CXX(op) SCALAR(op)(c, x, y)
#define CALL_WIDE_X(op) WIDE(op)(WIDEN(x))
#define CALL_WIDE_XX(op) WIDE(op)(WIDEN(x), WIDEN(y))
#define NARROW_OWN(value) NARROW(value)
#define NARROW_REAL(value) (R)(value)

#define LOOP_X(TO, value)                          \
    {                                              \
        TO *restrict to = out;                     \
        const T *restrict first = in[0];           \
        if (stride[0] != 0) {                      \
            for (size_t i = 0; i < n; i++) {       \
                const T x = first[i];              \
                to[i] = value;                     \
            }                                      \
        } else {                                   \
            const T x = first[0];                  \
            for (size_t i = 0; i < n; i++) {       \
                to[i] = value;                     \
            }                                      \
        }                                          \
        return;                                    \
    }
#define LOOP_STRIDED(TO, value, sx, sy)            \
    for (size_t i = 0; i < n; i++) {               \
        const T x = first[i * (sx)];               \
        const T y = second[i * (sy)];              \
        to[i] = value;                             \
    }
#define LOOP_BOTH(TO, value)                       \
    if (sx != 0 && sy != 0) {                      \
        LOOP_STRIDED(TO, value, 1, 1)              \
    } else if (sx != 0) {                          \
        LOOP_STRIDED(TO, value, 1, 0)              \
    } else if (sy != 0) {                          \
        LOOP_STRIDED(TO, value, 0, 1)              \
    } else {                                       \
        LOOP_STRIDED(TO, value, 0, 0)              \
    }                                              \
    return;
#define LOOP_XX(TO, value)                         \
    {                                              \
        TO *restrict to = out;                     \
        const T *restrict first = in[0];           \
        const T *restrict second = in[1];          \
        const size_t sx = stride[0];               \
        const size_t sy = stride[1];               \
        LOOP_BOTH(TO, value)                       \
    }

#define LOOP_CXX(TO, value)                              \
    {                                                    \
        TO *restrict to = out;                           \
        const unsigned char *restrict condition = in[0]; \
        const T *restrict first = in[1];                 \
        const T *restrict second = in[2];                \
        const size_t sx = stride[1];                     \
        const size_t sy = stride[2];                     \
        if (stride[0] != 0) {                            \
            CONDITION_LOOPS(TO, value, condition[i])     \
        } else {                                         \
            CONDITION_LOOPS(TO, value, condition[0])     \
        }                                                \
        return;                                          \
    }
#define CONDITION_LOOP(value, is, sx, sy)  \
    for (size_t i = 0; i < n; i++) {       \
        const unsigned char c = is;        \
        const T x = first[i * (sx)];       \
        const T y = second[i * (sy)];      \
        to[i] = value;                     \
    }
#define CONDITION_LOOPS(TO, value, is)     \
    if (sx != 0 && sy != 0) {              \
        CONDITION_LOOP(value, is, 1, 1)    \
    } else if (sx != 0) {                  \
        CONDITION_LOOP(value, is, 1, 0)    \
    } else if (sy != 0) {                  \
        CONDITION_LOOP(value, is, 0, 1)    \
    } else {                               \
        CONDITION_LOOP(value, is, 0, 0)    \
    }

#define CASE_NO(NAME_, op, operands, result) case TESSI_EWISE_##NAME_: break;
#define CASE_F64 CASE_NO
#define CASE_TRUTH CASE_NO
#define CASE_OWN(NAME_, op, operands, result) \
    case TESSI_EWISE_##NAME_:                 \
        LOOP_##operands(TYPE_##result, CALL_OWN_##operands(op))
#define CASE_MOVE CASE_OWN
#define CASE_WIDE(NAME_, op, operands, result) \
    case TESSI_EWISE_##NAME_:                  \
        LOOP_##operands(TYPE_##result, NARROW_##result(CALL_WIDE_##operands(op)))
#define CASE_(computed, NAME_, op, operands, result) CASE_##computed(NAME_, op, operands, result)
#define CASE(computed, NAME_, op, operands, result) CASE_(computed, NAME_, op, operands, result)

TESSI_BODY void NAME(strip_body)(STRIP_PARAMETERS)
{
    switch (op) {
#define TESSI_ROW(NAME_, op, code, operands, bool_, integer, float_, complex, result, ...) \
    CASE(CLASS(bool_, integer, float_, complex), NAME_, op, operands, result)
        TESSI_EWISE_TABLE(TESSI_ROW)
#undef TESSI_ROW
    }
    TESS_ASSERT(false); /* tessi_layer_check lets no operation through that its row does not have for the type */
}

static __attribute__((noinline)) void NAME(strip_base)(STRIP_PARAMETERS)
{
    NAME(strip_body)(op, n, in, stride, out);
}

#ifdef TESSI_AVX2
static TESSI_AVX2 void NAME(strip_avx2)(STRIP_PARAMETERS)
{
    NAME(strip_body)(op, n, in, stride, out);
}

#ifndef COMPLEX
static TESSI_AVX512 void NAME(strip_avx512)(STRIP_PARAMETERS)
{
    NAME(strip_body)(op, n, in, stride, out);
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

#undef T
#undef NAME
#undef SCALAR
