/* The arithmetic of f32 by three TF32 products, made with the processor: the split, and the error of sums that tensor
 * cores make, which cut what lies below an f32's last bit after every eight elements of k (the least that is known of
 * them: some keep more). The bound is relative to f32's own error, one addition after the other. */
/* tests/run: one thread */
#include "tests/kernels/whole.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "worker/device/cuda/tf32.h"

#define CORE_K 8 /* elements of k in one operation of a core */
#define SIDE 20
#define K 8192

static float trunc_to_f32(double x)
{
    float y = (float)x;
    return fabs((double)y) > fabs(x) ? nextafterf(y, 0) : y;
}

static void test_split(void **state)
{
    (void)state;
    const float special[] = {0.0f,    -0.0f,        1.0f,           FLT_MAX,    -FLT_MAX,
                             FLT_MIN, FLT_TRUE_MIN, 1.00048828125f, 0x1.ffep0f, 0x1.fffp0f};
    float *random = whole_random(TESSI_F32, 5000, 3, false);
    for (size_t i = 0; i < 5000 + sizeof special / sizeof special[0]; i++) {
        float x = i < 5000 ? random[i] : special[i - 5000];
        float high = tessi_tf32_round(x);
        float low = tessi_tf32_low(x, high);
        uint32_t bits[2];
        memcpy(&bits[0], &high, sizeof high);
        memcpy(&bits[1], &low, sizeof low);
        assert_true((bits[0] & 0x1fff) == 0 && (bits[1] & 0x1fff) == 0);
        assert_true(isfinite(high));
        assert_true(fabs((double)x - high) <= fabs((double)x) * 0x1p-10 + 0x1p-137);
        assert_true(fabs((double)x - high - low) <= fabs((double)x) * 0x1p-21 + 0x1p-137);
    }
    assert_true(isinf(tessi_tf32_round(INFINITY)) && tessi_tf32_low(INFINITY, INFINITY) == 0.0f);
    assert_true(isnan(tessi_tf32_round(NAN)) && tessi_tf32_low(NAN, NAN) == 0.0f);
    free(random);
}

struct operands {
    float a[SIDE][K], b[SIDE][K]; /* B by columns */
};

static float uniform(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)((double)(*state >> 40) / (double)(1 << 23) - 1.0);
}

/* One slice as a core sums it: the parts in their order, eight elements at a time. */
static float core_slice(const float *a, const float *b, int k)
{
    float sum = 0;
    for (int part = 0; part < TESSI_TF32_PARTS; part++) {
        for (int p = 0; p < k; p += CORE_K) {
            double group = 0;
            for (int i = p; i < p + CORE_K && i < k; i++) {
                float ah = tessi_tf32_round(a[i]);
                float bh = tessi_tf32_round(b[i]);
                float x = part == TESSI_TF32_LOW_A ? tessi_tf32_low(a[i], ah) : ah;
                float y = part == TESSI_TF32_LOW_B ? tessi_tf32_low(b[i], bh) : bh;
                group += (double)x * y;
            }
            sum = trunc_to_f32((double)sum + group);
        }
    }
    return sum;
}

/* The relative Frobenius error against f64; slice 0: f32, one fused addition after the other. */
static double error_of(const struct operands *o, int slice)
{
    double square = 0;
    double whole = 0;
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            double exact = 0;
            float c = 0;
            for (int p = 0; p < K; p++) {
                exact += (double)o->a[i][p] * o->b[j][p];
                c = slice == 0 ? fmaf(o->a[i][p], o->b[j][p], c) : c;
            }
            for (int p = 0; slice > 0 && p < K; p += slice) {
                c += core_slice(o->a[i] + p, o->b[j] + p, slice);
            }
            square += ((double)c - exact) * ((double)c - exact);
            whole += exact * exact;
        }
    }
    return sqrt(square / whole);
}

static void test_error_of_sums(void **state)
{
    (void)state;
    struct operands *o = malloc(sizeof *o);
    uint64_t seed = 5;
    assert_non_null(o);
    for (int i = 0; i < SIDE; i++) {
        for (int p = 0; p < K; p++) {
            o->a[i][p] = uniform(&seed);
            o->b[i][p] = uniform(&seed);
        }
    }
    double f32 = error_of(o, 0);
    double chosen = 0;
    print_message("k = %d, uniform(-1, 1): f32 %.2e\n", K, f32);
    for (int slice = 128; slice <= K; slice *= 2) {
        double error = error_of(o, slice);
        print_message("  slices of %4d: %.2e, %.2f x f32's\n", slice, error, error / f32);
        chosen = slice == TESSI_TF32_SLICE ? error : chosen;
    }
    free(o);
    assert_true(chosen > 0 && chosen <= 4 * f32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_error_of_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
