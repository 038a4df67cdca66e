/* Matrix products: every dtype, orientation, chunking and split of k against a naive product and
 * the reference; the same bits on every run.
 *
 * tests/run: one thread */
#include "tests/kernels/whole.h"

#include <stdlib.h>
#include <string.h>

#include "worker/kernel/blas.h"
#include "worker/kernel/complex.h"
#include "worker/kernel/convert.h"

struct product {
    int64_t m, n, k;
    int64_t chunk_m, chunk_n, chunk_ka, chunk_kb;
    int64_t segment; /* 0: k is not split */
};

static const struct product products[] = {
    {7, 5, 9, 7, 5, 9, 9, 0},       {1, 1, 1, 1, 1, 1, 1, 0},        {33, 29, 41, 16, 10, 8, 8, 0},
    {33, 29, 41, 33, 29, 7, 11, 0}, {70, 1, 300, 40, 1, 100, 64, 0}, {1, 130, 50, 1, 100, 50, 20, 0},
    {20, 20, 64, 8, 8, 16, 16, 32}, {20, 20, 65, 8, 8, 10, 13, 25},
};

static struct tessi_layer *product_layer(const struct product *p, enum tessi_dtype dtype, enum tessi_dtype from, bool ta,
                                         bool tb)
{
    bool split = p->segment > 0;
    struct tessi_shape shape = {split ? 3 : 2, {p->m, p->n, split ? (p->k + p->segment - 1) / p->segment : 0}};
    int64_t chunk[3] = {p->chunk_m, p->chunk_n, 1};
    struct tessi_layer *layer = whole_layer(TESSI_OP_MATMUL, dtype, &shape, chunk);
    struct tessi_shape a = {2, {ta ? p->k : p->m, ta ? p->m : p->k}};
    struct tessi_shape b = {2, {tb ? p->n : p->k, tb ? p->k : p->n}};
    int64_t ka = p->chunk_ka > 0 ? p->chunk_ka : 1;
    int64_t kb = p->chunk_kb > 0 ? p->chunk_kb : 1;
    int64_t chunk_a[2] = {ta ? ka : p->chunk_m, ta ? p->chunk_m : ka};
    int64_t chunk_b[2] = {tb ? p->chunk_n : kb, tb ? kb : p->chunk_n};
    struct tessi_rule k_rule = {
        .kind = split ? TESSI_RULE_SEGMENT : TESSI_RULE_ALL, .dim = split ? 2 : 0, .value = p->segment};
    struct tessi_input *input = whole_input(layer, from, &a, chunk_a);
    input->rules.rule[ta ? 1 : 0].dim = 0;
    input->rules.rule[ta ? 0 : 1] = k_rule;
    input = whole_input(layer, from, &b, chunk_b);
    input->rules.rule[tb ? 0 : 1].dim = 1;
    input->rules.rule[tb ? 1 : 0] = k_rule;
    layer->as.matmul.transpose_a = ta;
    layer->as.matmul.transpose_b = tb;
    layer->as.matmul.segment = split ? p->segment : (p->k > 0 ? p->k : 1);
    return layer;
}

static double tolerance_of(enum tessi_dtype dtype)
{
    switch (dtype) {
    case TESSI_BOOL:
    case TESSI_I8:
    case TESSI_I16:
    case TESSI_I32:
    case TESSI_I64:
    case TESSI_U8:
    case TESSI_U16:
    case TESSI_U32:
    case TESSI_U64:
        return 0;
    case TESSI_BF16:
        return 0.5;
    case TESSI_F16:
        return 0.1;
    case TESSI_F32:
    case TESSI_C64:
        return 2e-4;
    case TESSI_F64:
    case TESSI_C128:
        return 1e-12;
    }
    return 0;
}

/* The product in c128, or modulo 2^64 for integers, from the definition. */
static void naive(const struct product *p, enum tessi_dtype dtype, enum tessi_dtype from, bool ta, bool tb, const void *a,
                  const void *b, void *out)
{
    size_t size = tessi_dtype_size(dtype);
    int64_t segments = p->segment > 0 ? (p->k + p->segment - 1) / p->segment : 1;
    int64_t length = p->segment > 0 ? p->segment : p->k;
    bool inexact = tessi_dtype_kind(dtype) >= TESSI_KIND_FLOAT;
    enum tessi_dtype wide = inexact ? TESSI_C128 : TESSI_I64; /* converted as a whole: the sanitizers make calls dear */
    void *x = malloc((size_t)(p->m * p->k) * tessi_dtype_size(wide) + 1);
    void *y = malloc((size_t)(p->k * p->n) * tessi_dtype_size(wide) + 1);
    tessi_convert(wide, x, from, a, (size_t)(p->m * p->k));
    tessi_convert(wide, y, from, b, (size_t)(p->k * p->n));
    for (int64_t at = 0; at < p->m * p->n * segments; at++) {
        int64_t s = at % segments;
        int64_t j = at / segments % p->n;
        int64_t i = at / segments / p->n;
        double sum[2] = {0, 0};
        uint64_t count = 0; /* wraps */
        for (int64_t k = s * length; k < p->k && k < (s + 1) * length; k++) {
            int64_t from_a = ta ? k * p->m + i : i * p->k + k;
            int64_t from_b = tb ? j * p->k + k : k * p->n + j;
            if (inexact) {
                const double *u = (const double *)x + 2 * from_a;
                const double *v = (const double *)y + 2 * from_b;
                sum[0] += u[0] * v[0] - u[1] * v[1];
                sum[1] += u[0] * v[1] + u[1] * v[0];
            } else {
                count += (uint64_t)((const int64_t *)x)[from_a] * (uint64_t)((const int64_t *)y)[from_b];
            }
        }
        if (inexact) {
            tessi_convert(dtype, (unsigned char *)out + (size_t)at * size, TESSI_C128, sum, 1);
        } else {
            tessi_convert(dtype, (unsigned char *)out + (size_t)at * size, TESSI_I64, &count, 1);
        }
    }
    free(x);
    free(y);
}

static void compare_wide(const struct product *p, enum tessi_dtype dtype, enum tessi_dtype from, bool ta, bool tb)
{
    struct tessi_layer *layer = product_layer(p, dtype, from, ta, tb);
    struct tessi_error error;
    assert_int_equal(tessi_layer_check(layer, &error), TESSI_OK);
    void *a = whole_random(from, p->m * p->k, 1, false);
    void *b = whole_random(from, p->k * p->n, 2, false);
    int64_t count = (int64_t)(tessi_layer_bytes(layer) / tessi_dtype_size(dtype));
    const void *inputs[2] = {a, b};
    void *fast = whole_run(layer, inputs, WHOLE_KERNEL);
    void *again = whole_run(layer, inputs, WHOLE_KERNEL);
    void *plain = whole_run(layer, inputs, WHOLE_REFERENCE);
    void *want = malloc((size_t)count * tessi_dtype_size(dtype) + 1);
    naive(p, dtype, from, ta, tb, a, b, want);
    assert_memory_equal(fast, again, (size_t)count * tessi_dtype_size(dtype));
    whole_assert_near(dtype, fast, want, count, tolerance_of(dtype));
    whole_assert_near(dtype, plain, want, count, tolerance_of(dtype));
    if (dtype == TESSI_F16 || dtype == TESSI_BF16 || tolerance_of(dtype) == 0) {
        whole_assert_equal(dtype, fast, plain, count); /* both add k upwards in the same type */
    }
    free(a);
    free(b);
    free(fast);
    free(again);
    free(plain);
    free(want);
    tessi_layer_destroy(layer);
}

static void compare(const struct product *p, enum tessi_dtype dtype, bool ta, bool tb)
{
    compare_wide(p, dtype, dtype, ta, tb);
}

static void test_products(void **state)
{
    (void)state;
    for (size_t p = 0; p < sizeof products / sizeof products[0]; p++) {
        for (uint32_t dtype = 0; dtype < TESSI_DTYPE_COUNT; dtype++) {
            for (int flags = 0; flags < 4; flags++) {
                compare(&products[p], dtype, (flags & 1) != 0, (flags & 2) != 0);
            }
        }
    }
}

/* Larger than the tiles of the plain loops in every direction. */
static void test_tiles(void **state)
{
    const struct product p = {66, 130, 131, 66, 130, 131, 131, 0};
    (void)state;
    compare(&p, TESSI_I16, false, true);
    compare(&p, TESSI_BF16, true, false);
    compare(&p, TESSI_F32, true, true);
}

/* Narrow operands with the block in the type of the sums: one rounding less, and no wrapping at 8 bits. */
static void test_wide(void **state)
{
    static const enum tessi_dtype narrow[] = {TESSI_F16, TESSI_BF16, TESSI_I8, TESSI_U8};
    const struct product long_k = {17, 33, 600, 17, 33, 600, 290, 0};
    (void)state;
    for (size_t d = 0; d < sizeof narrow / sizeof narrow[0]; d++) {
        for (int flags = 0; flags < 4; flags++) {
            for (size_t p = 0; p < sizeof products / sizeof products[0]; p++) {
                compare_wide(&products[p], tessi_dtype_accumulator(narrow[d]), narrow[d], (flags & 1) != 0,
                             (flags & 2) != 0);
            }
            compare_wide(&long_k, tessi_dtype_accumulator(narrow[d]), narrow[d], (flags & 1) != 0, (flags & 2) != 0);
        }
    }
}

/* No k: zeros. No rows: nothing. */
static void test_empty(void **state)
{
    const struct product no_k = {6, 5, 0, 4, 5, 1, 1, 0};
    const struct product no_m = {0, 5, 4, 1, 5, 4, 4, 0};
    const double none[20] = {0};
    (void)state;
    struct tessi_layer *layer = product_layer(&no_k, TESSI_F64, TESSI_F64, false, false);
    double *out = whole_run(layer, (const void *const[]){none, none}, WHOLE_KERNEL);
    for (int i = 0; i < 30; i++) {
        assert_true(out[i] == 0);
    }
    free(out);
    tessi_layer_destroy(layer);
    layer = product_layer(&no_m, TESSI_F64, TESSI_F64, false, false);
    free(whole_run(layer, (const void *const[]){none, none}, WHOLE_KERNEL));
    tessi_layer_destroy(layer);
}

/* What the library says it is must be what runs, or the numerics profile lies. */
static void test_family(void **state)
{
    const char *list[TESSI_BLAS_FAMILIES_MAX];
    uint32_t count = tessi_blas_families(list);
    bool known = strcmp(tessi_blas_family(), "plain") == 0;
    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        known = known || strcmp(list[i], tessi_blas_family()) == 0;
    }
    assert_true(known);
    if (strcmp(tessi_blas_family(), "plain") == 0) {
        print_message("OpenBLAS was not found: products ran on the plain loops only\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
