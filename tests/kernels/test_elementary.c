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
#include "core/graph/elementwise_table.h"
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

/* Every function of the table that is computed in f64, over all arguments and where they are hard, within its row's bound of
 * the C library's function of its name in long double. */
#define ACCURACY_NO(op, ulp)
#define ACCURACY_OWN ACCURACY_NO
#define ACCURACY_MOVE ACCURACY_NO
#define ACCURACY_TRUTH ACCURACY_NO
#define ACCURACY_WIDE(op, ulp) check_function(#op, (double)(ulp), tessi_##op, op##l);
typedef double function(double x);
typedef long double exact_function(long double x);

static double argument(uint64_t i)
{
    static const double half_pi = 1.5707963267948966;
    switch (i % 6) {
    case 0:
        return uniform(i, -1, 1);
    case 1:
        return any(i);
    case 2:
        return uniform(i, -746, 746);
    case 3: /* next to a multiple of π/2 */
        return nextafter((double)(int64_t)uniform(i, -4e5, 4e5) * half_pi, i % 4 == 3 ? 1e300 : -1e300);
    case 4:
        return uniform(i, -2e6, 2e6);
    default:
        return uniform(i, 0.5, 2) * (i % 4 < 2 ? 1 : 1e9);
    }
}

static void check_function(const char *name, double limit, function *ours, exact_function *exact)
{
    double worst = 0;
    for (uint64_t i = 0; i < 1000000; i++) {
        double x = argument(i);
        worst = fmax(worst, ulps(ours(x), exact((long double)x)));
    }
    check(name, worst, limit);
    static const double edges[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 5e-324, -5e-324, 1e308, -1e308};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        double got = ours(edges[i]), want = (double)exact((long double)edges[i]);
        assert_true((isnan(got) && isnan(want)) || (ulps(got, (long double)want) <= limit + 0.5 && !signbit(got) == !signbit(want)));
    }
}

static void test_rows(void **state)
{
    (void)state;
#define TESSI_ROW(NAME, op, code, operands, bool_, integer, float_, complex_, result, identity, cost, fuses, ulp, ...) \
    ACCURACY_##float_(op, ulp)
    TESSI_EWISE_TABLE(TESSI_ROW)
#undef TESSI_ROW
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
        double s;
        double c;
        tessi_sincos(x, &s, &c);
        worst = fmax(worst, ulps(s, sinl((long double)x)));
        worst = fmax(worst, ulps(c, cosl((long double)x)));
    }
    check("sin and cos", worst, 1.0);
    /* The hardest f64 argument: K. C. Ng, "Argument reduction for huge arguments", 1992. */
    const double hard = 6381956970095103.0 * 0x1p797;
    double sine;
    double cosine;
    tessi_sincos(hard, &sine, &cosine);
    assert_true(ulps(cosine, -4.68716592425462761112e-19L) <= 1);
    assert_true(ulps((double)cosl((long double)hard), -4.68716592425462761112e-19L) <= 1); /* and so is what we compare with */
    tessi_sincos(-0.0, &sine, &cosine);
    assert_true(sine == 0 && signbit(sine) != 0 && cosine == 1);
    tessi_sincos(INFINITY, &sine, &cosine);
    assert_true(isnan(sine) && isnan(cosine));
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
        assert_true(near(tessi_complex_log(ours(z)), clog(z), 1e-15));
        assert_true(near(tessi_complex_divide(ours(z), ours(w)), z / w, 2e-15));
        assert_true(ulps(tessi_complex_abs(ours(z)), cabsl((long double complex)z)) <= 1.6);
    }
}

/* ——— where complex functions are hard: right values from 5,000 bits, rounded to 22 digits ——— */

struct parts {
    long double re, im;
};
struct hard {
    struct tessi_c128 z;
    struct parts want;
};

/* Moduli next to 1, subnormal, huge, and at the ends of what is taken for near 1. */
static const struct hard hard_logs[] = {
    {{0.6472058476472079, 0.7623152830497754}, {3.954681115968590714955e-18L, 0.8668829692609421428867L}},
    {{-0.3107904024508825, 0.9504784720047154}, {-3.551625055356065082819e-19L, 1.886820830051353147806L}},
    {{0.6272017669956736, -0.7788568183417955}, {-2.020182177472787084013e-22L, -0.8928410791340806734871L}},
    {{-0.6002471857938014, 0.7998145509720498}, {2.899462588232717587026e-22L, 2.214606453644910411331L}},
    {{0.8451860960298045, -0.5344721349873144}, {-6.708299836536853091264e-22L, -0.5638830689348781266439L}},
    {{-0.4751277394751546, -0.8799168319683569}, {7.367142503850238958273e-22L, -2.065905525037425240815L}},
    {{-0.22368940701514212, -0.9746604789305936}, {-1.197477587560452211270e-21L, -1.796394488834884205605L}},
    {{1.0, 1.2759119272232057e-09}, {8.139756230152174348620e-19L, 1.275911927223205664976e-9L}},
    {{1.0, 8.525530930669765e-61}, {3.634233882490343298589e-121L, 8.525530930669764802045e-61L}},
    {{-1.0, -8.525530930669765e-61}, {3.634233882490343298589e-121L, -3.141592653589793238463L}},
    {{1.0, 4.185262817994459e-151}, {8.758212427843458932602e-302L, 4.185262817994458740011e-151L}},
    {{-1.0, -4.185262817994459e-151}, {8.758212427843458932602e-302L, -3.141592653589793238463L}},
    {{5e-324, 5e-324}, {-744.0934983311012896594L, 0.7853981633974483096157L}},
    {{1e-320, -1e-320}, {-736.4806673006939334963L, -0.7853981633974483096157L}},
    {{-5e-324, 0.0}, {-744.4400719213812623141L, 3.141592653589793238463L}},
    {{3e-309, 2e-310}, {-710.3979641479580735730L, 0.06656816377582358558553L}},
    {{2.2250738585072014e-308, 1e-310}, {-708.3964084333016986682L, 0.004494202579157908937227L}},
    {{0.9, 0.44}, {0.001796767755065106221280L, 0.4547192748209693934282L}},
    {{-0.6937496306957216, 0.7121453773349669}, {-0.005813876251521010752760L, 2.343110513937429754321L}},
    {{0.28, 1.97}, {0.6880336209821871584978L, 1.429610004125075277935L}},
    {{0.3, 0.41}, {-0.6772040861287844869897L, 0.9391056924559273115213L}},
    {{1.7e+308, -1.6e+308}, {710.0440164465036470054L, -0.7551044034786732191961L}},
    {{1.0000000000000002, 0.0}, {2.220446049250312834328e-16L, 0}},
    {{0.0, 0.9999999999999999}, {-1.110223024625156602053e-16L, 1.570796326794896619231L}},
    {{3e-200, 1.0}, {4.499999999999999838902e-400L, 1.570796326794896619231L}},
};

/* e^re over- or underflows where its product with a sine does not; angles of many turns. */
static const struct hard hard_exps[] = {
    {{709.5, 1e-320}, {1.354986319314632830877e308L, 1.354971234499472874176e-12L}},
    {{710.0, 0.75}, {1.634589103522898335985e308L, 1.522777422305087073177e308L}},
    {{1440.0, 5e-324}, {(long double)INFINITY, 1.196295853897226111293e302L}},
    {{1401.5, 8.1719016387e-313}, {(long double)INFINITY, 3.767380781651259749078e296L}},
    {{1454.9, -5e-324}, {(long double)INFINITY, -(long double)INFINITY}},
    {{709.9, 1.5707963267948966}, {1.237751778908351163741e292L, (long double)INFINITY}},
    {{745.0, 3.141592653589793}, {-(long double)INFINITY, 4.339102103524089159367e307L}},
    {{-745.0, 0.5}, {2.476845784600727363820e-324L, 1.353107019086474205908e-324L}},
    {{-708.5, 3.0}, {-1.986055929465746585480e-308L, 2.831054070975138883093e-309L}},
    {{1.0, 5.319372648326541e+255}, {-1.274103795887379986509e-18L, 2.718281828459045235360L}},
    {{0.5, 1e+300}, {-0.9486513216498564626304L, -1.348459305426391356796L}},
    {{1500.0, 5e-324}, {(long double)INFINITY, (long double)INFINITY}},
};

static const struct hard hard_roots[] = {
    {{5e-324, 5e-324}, {2.442109726130830256744e-162L, 1.011554969366634726113e-162L}},
    {{-5e-324, 5e-324}, {1.011554969366634726113e-162L, 2.442109726130830256744e-162L}},
    {{-1e-310, 3e-320}, {1.499983300774026799378e-165L, 9.999999999999984724776e-156L}},
    {{1.7e+308, 1.7e+308}, {1.432508823015457283031e154L, 5.933645827121220914950e153L}},
    {{-1.7e+308, 1e-300}, {3.834824944236852350138e-455L, 1.303840481040529719459e154L}},
    {{1.0, 5e-324}, {1.000000000000000000000L, 2.470328229206232720883e-324L}},
    {{-1.0, 1e-320}, {4.999944335913415027067e-321L, 1.000000000000000000000L}},
    {{1e+308, 1e-170}, {1.000000000000000005490e154L, 4.999999999999999889280e-325L}},
    {{-3.0, 4.0}, {1.000000000000000000000L, 2.000000000000000000000L}},
    {{-2.0, 1e-17}, {3.535533905932737874945e-18L, 1.414213562373095048802L}},
    {{1e-300, -1e-308}, {1.000000000000000025030e-150L, -4.999999999999999421485e-159L}},
};

static const struct {
    struct tessi_c128 a, b;
    struct parts want;
} hard_quotients[] = {
    {{4.857894156592815e-309, -4.44e-321}, {4.3954076e-317, 9.57677583936966e-310}, 
     {2.328090752274100694124e-7L, -5.072577909385994392792L}},
    {{3.826810792802614e+307, -1.5304608864901355e+308}, {-8.333462764773338e+307, -7.256641032280561e+307}, 
     {0.6483696955145222512697L, 1.271934971996208270245L}},
    {{-1.957599012112741e-290, -1.1379060456006472e+228}, {-2.1470079183988204e+86, -4.4264826324514297e-274}, 
     {1.092692285799783939524e-218L, 5.299962034836211859364e141L}},
    {{-3.9351496321542884e-303, 1.2603077817304699e+154}, {3.7742345825425985e-280, 3.6350316799604603e+53}, 
     {3.467116362914830842914e100L, 3.599888977791469347078e-233L}},
    {{1.0, 1.0}, {5e-324, 5e-324}, {(long double)INFINITY, 0}},
    {{5e-324, 5e-324}, {1.0, 1.0}, {4.940656458412465441766e-324L, 0}},
    {{1.7e+308, 1.7e+308}, {1.7e+308, 1.7e+308}, {1.000000000000000000000L, 0}},
    {{1.0, 0.0}, {1.7e+308, 1.7e+308}, {2.941176470588235399947e-309L, -2.941176470588235399947e-309L}},
    {{3e-320, 4e-320}, {1e-150, 1e-150}, {3.499961035139390496913e-170L, 4.999944335913414995590e-171L}},
    {{0.0, 1.0}, {1.0, 1e-310}, {9.999999999999969449328e-311L, 1.000000000000000000000L}},
    {{1e+308, 1e+308}, {2.0, 1e-308}, {5.000000000000000054895e307L, 5.000000000000000054895e307L}},
    {{1e-308, 1e+308}, {1e+308, 1e-308}, {1.999999999999999796695e-616L, 1.000000000000000000000L}},
    {{2.0, 3.0}, {5e-324, 0.0}, {(long double)INFINITY, (long double)INFINITY}},
    {{1.0, 2.0}, {0.0, -1e-310}, {-(long double)INFINITY, (long double)INFINITY}},
};

#define WORST(table, function, limit)                                                       \
    do {                                                                                    \
        double worst = 0;                                                                   \
        for (size_t i = 0; i < sizeof(table) / sizeof(table)[0]; i++) {                     \
            struct tessi_c128 got = function((table)[i].z);                                 \
            worst = fmax(worst, ulps(got.re, (table)[i].want.re));                          \
            worst = fmax(worst, ulps(got.im, (table)[i].want.im));                          \
        }                                                                                   \
        check(#function ", each part", worst, limit);                                       \
    } while (0)

static void test_complex_where_hard(void **state)
{
    (void)state;
    WORST(hard_logs, tessi_complex_log, 2.0);
    WORST(hard_exps, tessi_complex_exp, 2.5);
    WORST(hard_roots, tessi_complex_sqrt, 1.7);
    double worst = 0;
    for (size_t i = 0; i < sizeof hard_quotients / sizeof hard_quotients[0]; i++) {
        struct tessi_c128 got = tessi_complex_divide(hard_quotients[i].a, hard_quotients[i].b);
        worst = fmax(worst, ulps(got.re, hard_quotients[i].want.re)); /* no part of these cancels */
        worst = fmax(worst, ulps(got.im, hard_quotients[i].want.im));
    }
    check("quotients, each part", worst, 4.0);
}

/* Quotients of any numbers, against long double, whose range holds their squares: the error in terms of the larger part. */
static void test_any_quotient(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 400000; i++) {
        struct tessi_c128 a = {any(5 * i), i % 3 == 0 ? any(5 * i + 1) : uniform(i, -1, 1) * any(5 * i)};
        struct tessi_c128 b = {any(5 * i + 2), i % 2 == 0 ? any(5 * i + 3) : uniform(i, -1, 1) * any(5 * i + 2)};
        long double c = (long double)b.re;
        long double d = (long double)b.im;
        long double size = c * c + d * d;
        long double re = ((long double)a.re * c + (long double)a.im * d) / size;
        long double im = ((long double)a.im * c - (long double)a.re * d) / size;
        long double larger = fmaxl(fabsl(re), fabsl(im));
        if (size == 0 || larger >= 0x1p1023L) {
            continue;
        }
        struct tessi_c128 got = tessi_complex_divide(a, b);
        long double unit = fmaxl(larger * 0x1p-53L, 0x1p-1075L);
        worst = fmax(worst, (double)(fabsl((long double)got.re - re) / unit));
        worst = fmax(worst, (double)(fabsl((long double)got.im - im) / unit));
    }
    check("quotients, in 2^-53 of the larger part", worst, 4.0);
}

/* Moduli around 1 and subnormal ones, against long double where its own cancellation leaves enough. */
static void test_any_log(void **state)
{
    double worst = 0;
    (void)state;
    for (uint64_t i = 0; i < 400000; i++) {
        double turn = uniform(3 * i, -3.15, 3.15);
        double size = i % 4 == 0 ? 0x1p-1030 * uniform(3 * i + 1, 0, 1) : uniform(3 * i + 1, 0.3, 2.2);
        struct tessi_c128 z = {size * cos(turn), size * sin(turn)};
        long double x = (long double)z.re;
        long double y = (long double)z.im;
        long double square = x * x + y * y;
        if (fabsl(square - 1) < 0x1p-9L) {
            continue;
        }
        struct tessi_c128 got = tessi_complex_log(z);
        worst = fmax(worst, ulps(got.re, logl(square) / 2));
        worst = fmax(worst, ulps(got.im, atan2l(y, x)));
    }
    check("log", worst, 2.5);
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
    z = tessi_complex_divide((struct tessi_c128){1e300, 1e300}, (struct tessi_c128){1e300, 1e300});
    assert_true(z.re == 1 && z.im == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),   cmocka_unit_test(test_log),   cmocka_unit_test(test_single), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_turns), cmocka_unit_test(test_sine),  cmocka_unit_test(test_angle),
        cmocka_unit_test(test_complex), cmocka_unit_test(test_complex_where_hard),
        cmocka_unit_test(test_any_quotient), cmocka_unit_test(test_any_log), cmocka_unit_test(test_complex_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
