/* Complex arithmetic whose bits do not depend on the C library or the compiler.
 *
 * Functions of f32 numbers are computed in f64 and rounded once. Products are (ac − bd, ad + bc), as in
 * NumPy; quotients are by R. L. Smith, "Algorithm 116: Complex division", CACM 5(8), 1962, and where that
 * over- or underflows on its way by scaled numbers;
 * the angle follows FDLIBM (s_atan.c, e_atan2.c), and the sine's argument is reduced by tessi_reduce_far. */
#ifndef TESSI_KERNEL_COMPLEX_H
#define TESSI_KERNEL_COMPLEX_H

struct tessi_c64 {
    float re, im;
};
struct tessi_c128 {
    double re, im;
};

/* Errors in units of the last place of each part, over all finite arguments, subnormal results included
 * (tests/kernels/test_elementary.c): abs 1.1, sqrt 1.7, log 2.5, exp 2.5. Quotients: 4 · 2^-53 of the larger part. */
struct tessi_c128 tessi_complex_divide(struct tessi_c128 a, struct tessi_c128 b);
double tessi_complex_abs(struct tessi_c128 a); /* √(re² + im²) without overflow; inf beats NaN */
struct tessi_c128 tessi_complex_sqrt(struct tessi_c128 a); /* re ≥ 0; the cut is the negative real axis */
struct tessi_c128 tessi_complex_exp(struct tessi_c128 a);
struct tessi_c128 tessi_complex_log(struct tessi_c128 a); /* −π ≤ im ≤ π */
void tessi_sincos(double x, double *sine, double *cosine);
double tessi_atan2(double y, double x);

#endif
