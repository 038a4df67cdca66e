/* Accuracy and special values of our elementary functions, against the C library in long double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <complex.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "core/base/philox.h"
#include "worker/kernel/complex.h"
#include "worker/kernel/elementary.h"

/* The error of `got` in units of the last place of `exact`. */
static double ulps(double got, long double exact)
{
    if (isnan(got) || isnan(exact)) {
        return isnan(got) && isnan(exact) ? 0 : (double)INFINITY;
    }
    if ((long double)got == exact || (isinf(got) && fabsl(exact) > 0x1.fffffffffffff7p1023L && (got > 0) == (exact > 0))) {
        return 0;
    }
    int exponent;
    (void)frexpl(exact, &exponent);
    long double unit = ldexpl(1, exponent - 53 > -1074 ? exponent - 53 : -1074);
    return (double)(fabsl((long double)got - exact) / unit);
}

static double uniform(uint64_t i, double low, double high)
{
    return low + (high - low) * tessi_philox_uniform_f64(5, i);
}

/* Any finite number at all, by its bits. */
static double any(uint64_t i)
{
    uint32_t words[4];
    tessi_philox_element(6, i, 0, words);
    double x = tessi_f64_bits((uint64_t)words[0] << 32 | words[1]);
    return isfinite(x) ? x : 1.0;
}

static void check(const char *name, double worst, double limit)
{
    print_message("%s: worst error %.3f ulp\n", name, worst);
    assert_true(worst <= limit);
}

static void test_exp(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 1000000; i++) {
        double x = i % 4 == 0 ? uniform(i, -1, 1) : i % 4 == 1 ? any(i) : uniform(i, -746, 710);
        worst = fmax(worst, ulps(tessi_exp(x), expl((long double)x)));
    }
    check("exp", worst, 1.0);
    assert_true(tessi_exp(0.0) == 1 && tessi_exp(-0.0) == 1);
    assert_true(tessi_exp(INFINITY) == (double)INFINITY && tessi_exp(-INFINITY) == 0);
    assert_true(isnan(tessi_exp(NAN)));
    assert_true(tessi_exp(709.79) == (double)INFINITY && isfinite(tessi_exp(709.78)));
    assert_true(tessi_exp(-745.2) == 0 && tessi_exp(-745.1) == 0x1p-1074);
}

static void test_log(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 1000000; i++) {
        double x = i % 3 == 0 ? uniform(i, 0.5, 2) : i % 3 == 1 ? fabs(any(i)) : uniform(i, 0, 1e6);
        worst = fmax(worst, ulps(tessi_log(x), logl((long double)x)));
    }
    check("log", worst, 1.0);
    assert_true(tessi_log(1.0) == 0 && !signbit(tessi_log(1.0)));
    assert_true(tessi_log(0.0) == -(double)INFINITY && tessi_log(-0.0) == -(double)INFINITY);
    assert_true(isnan(tessi_log(-1.0)) && isnan(tessi_log(-INFINITY)) && isnan(tessi_log(NAN)));
    assert_true(tessi_log(INFINITY) == (double)INFINITY);
    assert_true(ulps(tessi_log(0x1p-1074), logl(0x1p-1074L)) <= 1);
}

/* f32 functions are the f64 ones rounded: half an ulp and a little. */
static void test_single(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 300000; i++) {
        float x = (float)uniform(i, -87, 88);
        float y = (float)tessi_exp((double)x);
        double exact = exp((double)x);
        worst = fmax(worst, fabs((double)y - exact) / (double)(nextafterf(y, INFINITY) - y));
        x = fabsf(x);
        y = (float)tessi_log((double)x);
        exact = log((double)x);
        worst = fmax(worst, fabs((double)y - exact) / (double)(nextafterf(fabsf(y), INFINITY) - fabsf(y)));
    }
    check("exp and log of f32", worst, 0.5001);
}

static void test_turns(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 300000; i++) {
        double turns = i < 64 ? (double)i / 64 : uniform(i, 0, 1);
        double s;
        double c;
        tessi_sincos_turns(turns, &s, &c);
        long double angle = 2 * 3.14159265358979323846264338327950288L * (long double)turns;
        worst = fmax(worst, (double)fabsl((long double)s - sinl(angle)) * 0x1p53);
        worst = fmax(worst, (double)fabsl((long double)c - cosl(angle)) * 0x1p53);
    }
    check("sin and cos of turns, in 2^-53", worst, 1.5);
}

static void test_sine(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 500000; i++) {
        double x = i % 3 == 0 ? uniform(i, -10, 10) : i % 3 == 1 ? uniform(i, -1e6, 1e6) : any(i);
        if (fabs(x) < 1e15) { /* beyond, long double has lost the angle */
            worst = fmax(worst, ulps(tessi_sin(x), sinl((long double)x)));
            worst = fmax(worst, ulps(tessi_cos(x), cosl((long double)x)));
        } else {
            worst = fmax(worst, ulps(tessi_sin(x), (long double)sin(x)) - 0.5);
        }
    }
    check("sin and cos", worst, 1.0);
    /* The hardest f64 argument: K. C. Ng, "Argument reduction for huge arguments", 1992. */
    assert_true(ulps(tessi_cos(6381956970095103.0 * 0x1p797), -4.68716592425462761112e-19L) <= 1);
    assert_true(tessi_sin(-0.0) == 0 && signbit(tessi_sin(-0.0)) != 0);
    assert_true(isnan(tessi_sin(INFINITY)) && isnan(tessi_cos(NAN)));
}

static void test_angle(void **state)
{
    static const double edges[] = {0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, NAN, 5e-324, -1e308};
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 500000; i++) {
        double x = i % 2 == 0 ? uniform(2 * i, -3, 3) : any(2 * i);
        double y = i % 2 == 0 ? uniform(2 * i + 1, -3, 3) : any(2 * i + 1);
        worst = fmax(worst, ulps(tessi_atan2(y, x), atan2l((long double)y, (long double)x)));
    }
    check("atan2", worst, 1.6);
    for (int i = 0; i < 9; i++) {
        for (int j = 0; j < 9; j++) {
            double got = tessi_atan2(edges[i], edges[j]);
            double want = atan2(edges[i], edges[j]);
            assert_true((isnan(got) && isnan(want)) || (fabs(got - want) < 1e-15 && !signbit(got) == !signbit(want)));
        }
    }
}

static struct tessi_c128 ours(double complex z)
{
    return (struct tessi_c128){creal(z), cimag(z)};
}

static bool near(struct tessi_c128 got, double complex want, double tolerance)
{
    double size = cabs(want);
    return hypot(got.re - creal(want), got.im - cimag(want)) <= tolerance * size;
}

static void test_complex(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        double complex z = uniform(4 * i, -5, 5) + uniform(4 * i + 1, -5, 5) * I;
        double complex w = uniform(4 * i + 2, -5, 5) + uniform(4 * i + 3, -5, 5) * I;
        assert_true(near(tessi_complex_sqrt(ours(z)), csqrt(z), 1e-15));
        assert_true(near(tessi_complex_exp(ours(z)), cexp(z), 1e-15));
        assert_true(near(tessi_complex_log(ours(z)), clog(z), 4e-15));
        assert_true(near(tessi_complex_divide(ours(z), ours(w)), z / w, 2e-15));
        assert_true(ulps(tessi_complex_abs(ours(z)), cabsl((long double complex)z)) <= 1.6);
    }
}

static void test_complex_extremes(void **state)
{
    struct tessi_c128 z = tessi_complex_sqrt((struct tessi_c128){-4, -0.0});
    (void)state;
    assert_true(z.re == 0 && z.im == -2);
    assert_true(tessi_complex_abs((struct tessi_c128){3e307, 4e307}) == 5e307);
    assert_true(tessi_complex_abs((struct tessi_c128){3e-320, 4e-320}) > 0);
    assert_true(tessi_complex_abs((struct tessi_c128){NAN, INFINITY}) == (double)INFINITY);
    z = tessi_complex_sqrt((struct tessi_c128){DBL_MAX, DBL_MAX});
    assert_true(isfinite(z.re) && isfinite(z.im));
    z = tessi_complex_exp((struct tessi_c128){710, 0.75}); /* e^710 overflows, its parts do not */
    assert_true(ulps(z.re, expl(710) * cosl(0.75L)) <= 3 && ulps(z.im, expl(710) * sinl(0.75L)) <= 3);
    z = tessi_complex_exp((struct tessi_c128){-INFINITY, NAN});
    assert_true(z.re == 0 && z.im == 0);
    z = tessi_complex_log((struct tessi_c128){DBL_MAX, DBL_MAX});
    assert_true(fabs(z.re - (log(DBL_MAX) + log(2) / 2)) < 1e-12);
    z = tessi_complex_log((struct tessi_c128){1, 1e-9});
    assert_true(ulps(z.re, 5e-19L) <= 4);
    z = tessi_complex_divide((struct tessi_c128){1e300, 1e300}, (struct tessi_c128){1e300, 1e300});
    assert_true(z.re == 1 && z.im == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),   cmocka_unit_test(test_log),   cmocka_unit_test(test_single),
        cmocka_unit_test(test_turns), cmocka_unit_test(test_sine),  cmocka_unit_test(test_angle),
        cmocka_unit_test(test_complex), cmocka_unit_test(test_complex_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
