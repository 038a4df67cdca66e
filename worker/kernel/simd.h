/* One source, several instruction sets.
 *
 * A loop is written once as an always-inline body and compiled for the baseline, for AVX2 and
 * for AVX-512; the caller takes the widest that the processor has. Contraction is off and
 * lanes never mix in an order that depends on the width, so all of them give the same bits. */
#ifndef TESSI_KERNEL_SIMD_H
#define TESSI_KERNEL_SIMD_H

#define TESSI_BODY static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__)
#define TESSI_AVX2 __attribute__((target("avx2,no-fma"), noinline))
/* Not for complex products: gcc 12 turns (ab − cd, ad + bc) into fused multiply-add-subtract even with
 * -ffp-contract=off where the target has it, and AVX-512 does. */
#define TESSI_AVX512 __attribute__((target("avx2,avx512f,avx512cd,avx512dq,avx512bw,avx512vl"), noinline))

static inline int tessi_simd_level(void)
{
    if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl")) {
        return 2;
    }
    return __builtin_cpu_supports("avx2") ? 1 : 0;
}

#define TESSI_MULTIVERSION_(name, parameters, arguments)                             \
    static __attribute__((noinline)) void name##_base parameters { name##_body arguments; } \
    static TESSI_AVX2 void name##_avx2 parameters { name##_body arguments; }         \
    static TESSI_AVX512 void name##_avx512 parameters { name##_body arguments; }     \
    static void name parameters                                                      \
    {                                                                                \
        int level = tessi_simd_level();                                              \
        if (level == 2) {                                                            \
            name##_avx512 arguments;                                                 \
        } else if (level == 1) {                                                     \
            name##_avx2 arguments;                                                   \
        } else {                                                                     \
            name##_base arguments;                                                   \
        }                                                                            \
    }
#else
#define TESSI_MULTIVERSION_(name, parameters, arguments) \
    static void name parameters { name##_body arguments; }
#endif

/* Define `static void name parameters` over `name_body`; the name may be a macro's result. */
#define TESSI_MULTIVERSION(name, parameters, arguments) TESSI_MULTIVERSION_(name, parameters, arguments)
#define TESSI_BODY_OF_(name) name##_body
#define TESSI_BODY_OF(name) TESSI_BODY_OF_(name)

#endif
