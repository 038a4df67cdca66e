/* Matrix products: BLAS for the types it has, plain blocked loops for the others. */
#include "worker/kernel/simd.h"

#include "worker/kernel/operations.h"

#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "worker/kernel/blas.h"
#include "worker/kernel/complex.h"
#include "worker/kernel/convert.h"

/* A tile of C is TILE_M × TILE_N; TILE_K rows of B are copied at a time, so both stay in cache. */
#define TILE_M 64
#define TILE_N 128
#define TILE_K 128
#define SLICE_K 256 /* of k, for operands that are widened before BLAS takes them */

/* c[j] += a · b[j], with element types that the plain loops compute in. */
typedef void row_fn(void *restrict c, const void *restrict a, const void *restrict b, int64_t n);

#define ROW(name, T, expression)                                                                             \
    TESSI_BODY void name##_body(void *restrict c, const void *restrict a, const void *restrict b, int64_t n) \
    {                                                                                                        \
        T *restrict z = c;                                                                                   \
        const T x = *(const T *)a;                                                                           \
        const T *restrict y = b;                                                                             \
        for (int64_t j = 0; j < n; j++) {                                                                    \
            z[j] = expression;                                                                               \
        }                                                                                                    \
    }                                                                                                        \
    TESSI_MULTIVERSION(name, (void *restrict c, const void *restrict a, const void *restrict b, int64_t n),  \
                       (c, a, b, n))

/* Signed and unsigned integers wrap alike. */
ROW(row_bool, uint8_t, (uint8_t)(z[j] | (x & y[j])))
ROW(row_8, uint8_t, (uint8_t)(z[j] + x * y[j]))
ROW(row_16, uint16_t, (uint16_t)((uint32_t)z[j] + (uint32_t)x * y[j]))
ROW(row_32, uint32_t, z[j] + x * y[j])
ROW(row_64, uint64_t, z[j] + x * y[j])
ROW(row_f32, float, z[j] + x * y[j])
ROW(row_f64, double, z[j] + x * y[j])

/* For the baseline only; see TESSI_AVX512. */
#define COMPLEX_ROW(name, T)                                                                               \
    static void name(void *restrict c, const void *restrict a, const void *restrict b, int64_t n)          \
    {                                                                                                      \
        T *restrict z = c;                                                                                 \
        const T x = *(const T *)a;                                                                         \
        const T *restrict y = b;                                                                           \
        for (int64_t j = 0; j < n; j++) {                                                                  \
            z[j] = (T){z[j].re + (x.re * y[j].re - x.im * y[j].im), z[j].im + (x.re * y[j].im + x.im * y[j].re)}; \
        }                                                                                                  \
    }
COMPLEX_ROW(row_c64, struct tessi_c64)
COMPLEX_ROW(row_c128, struct tessi_c128)

static row_fn *row_choose(enum tessi_dtype dtype)
{
    switch (dtype) {
    case TESSI_BOOL:
        return row_bool;
    case TESSI_I8:
    case TESSI_U8:
        return row_8;
    case TESSI_I16:
    case TESSI_U16:
        return row_16;
    case TESSI_I32:
    case TESSI_U32:
        return row_32;
    case TESSI_I64:
    case TESSI_U64:
        return row_64;
    case TESSI_F16:
    case TESSI_BF16:
    case TESSI_F32:
        return row_f32;
    case TESSI_F64:
        return row_f64;
    case TESSI_C64:
        return row_c64;
    case TESSI_C128:
        return row_c128;
    }
    return NULL;
}

/* Copy the rows × columns at (row, column) of a matrix, stored transposed or not, as dense rows of
 * `width` elements in the compute type. */
static void pack(enum tessi_dtype compute, unsigned char *to, int64_t width, enum tessi_dtype dtype,
                 const unsigned char *from, int64_t ld, bool transposed, int64_t row, int64_t column, int64_t rows,
                 int64_t columns)
{
    size_t size = tessi_dtype_size(dtype);
    size_t to_size = tessi_dtype_size(compute);
    for (int64_t i = 0; i < rows; i++) {
        unsigned char *line = to + (size_t)(i * width) * to_size;
        if (!transposed) {
            tessi_convert(compute, line, dtype, from + (size_t)((row + i) * ld + column) * size, (size_t)columns);
            continue;
        }
        for (int64_t j = 0; j < columns; j++) {
            tessi_convert(compute, line + (size_t)j * to_size, dtype,
                          from + (size_t)((column + j) * ld + row + i) * size, 1);
        }
    }
}

/* A product whose operands may be narrower than C. */
struct product {
    struct tessi_gemm gemm;
    enum tessi_dtype from;    /* of A and B */
    enum tessi_dtype compute; /* what it is added in */
};

struct tiles {
    _Alignas(64) unsigned char a[TILE_M * TILE_K * 16];
    _Alignas(64) unsigned char b[TILE_K * TILE_N * 16];
    _Alignas(64) unsigned char c[TILE_M * TILE_N * 16];
};

/* One tile of C over all of k, ascending, and one rounding to the block's type at the end. */
static void plain_tile(const struct product *product, struct tiles *tiles, int64_t i, int64_t j)
{
    const struct tessi_gemm *g = &product->gemm;
    enum tessi_dtype compute = product->compute;
    row_fn *row = row_choose(compute);
    size_t size = tessi_dtype_size(compute);
    int64_t m = g->m - i < TILE_M ? g->m - i : TILE_M;
    int64_t n = g->n - j < TILE_N ? g->n - j : TILE_N;
    if (g->add) {
        pack(compute, tiles->c, TILE_N, g->dtype, g->c, g->ldc, false, i, j, m, n);
    } else {
        memset(tiles->c, 0, sizeof tiles->c);
    }
    for (int64_t p = 0; p < g->k; p += TILE_K) {
        int64_t k = g->k - p < TILE_K ? g->k - p : TILE_K;
        pack(compute, tiles->a, TILE_K, product->from, g->a, g->lda, g->transpose_a, i, p, m, k);
        pack(compute, tiles->b, TILE_N, product->from, g->b, g->ldb, g->transpose_b, p, j, k, n);
        for (int64_t r = 0; r < m; r++) {
            for (int64_t q = 0; q < k; q++) {
                row(tiles->c + (size_t)(r * TILE_N) * size, tiles->a + (size_t)(r * TILE_K + q) * size,
                    tiles->b + (size_t)(q * TILE_N) * size, n);
            }
        }
    }
    unsigned char *c = g->c;
    for (int64_t r = 0; r < m; r++) {
        tessi_convert(g->dtype, c + (size_t)((i + r) * g->ldc + j) * tessi_dtype_size(g->dtype), compute,
                      tiles->c + (size_t)(r * TILE_N) * size, (size_t)n);
    }
}

static enum tessi_status plain(const struct product *product, struct tessi_error *error)
{
    const struct tessi_gemm *gemm = &product->gemm;
    struct tiles *tiles;
    void *memory = tessi_try_alloc(sizeof *tiles + 64);
    if (memory == NULL) {
        return tessi_fail(error, TESSI_NOMEM, "no memory for %zu bytes of tiles", sizeof *tiles);
    }
    tiles = (void *)((unsigned char *)memory + (64 - (uintptr_t)memory % 64));
    for (int64_t i = 0; i < gemm->m; i += TILE_M) {
        for (int64_t j = 0; j < gemm->n; j += TILE_N) {
            plain_tile(product, tiles, i, j);
        }
    }
    tessi_free(memory);
    return TESSI_OK;
}

/* SLICE_K of an operand's k as dense f32, k along the rows or the columns as it is stored; returns its row length. */
static int64_t widen_slice(float *to, enum tessi_dtype from_dtype, const unsigned char *from, int64_t ld, bool k_is_first,
                           int64_t kept, int64_t p, int64_t k)
{
    size_t size = tessi_dtype_size(from_dtype);
    int64_t rows = k_is_first ? k : kept;
    int64_t columns = k_is_first ? kept : k;
    const unsigned char *first = from + (size_t)(k_is_first ? p * ld : p) * size;
    for (int64_t i = 0; i < rows; i++) {
        tessi_convert(TESSI_F32, to + i * columns, from_dtype, first + (size_t)(i * ld) * size, (size_t)columns);
    }
    return columns;
}

/* f16 and bf16 operands with C in f32: slices of k are widened and multiplied by BLAS. UNSUPPORTED: there is none. */
static enum tessi_status widened(const struct product *product, struct tessi_error *error)
{
    struct tessi_gemm slice = product->gemm;
    const struct tessi_gemm *g = &product->gemm;
    int64_t depth = g->k < SLICE_K ? g->k : SLICE_K;
    size_t bytes = (size_t)((g->m + g->n) * depth) * sizeof(float);
    float *a = tessi_try_alloc(bytes);
    if (a == NULL) {
        return tessi_fail(error, TESSI_NOMEM, "no memory for %zu bytes of widened operands", bytes);
    }
    float *b = a + g->m * depth;
    enum tessi_status status = TESSI_OK;
    slice.a = a;
    slice.b = b;
    for (int64_t p = 0; p < g->k && status == TESSI_OK; p += SLICE_K) {
        slice.k = g->k - p < SLICE_K ? g->k - p : SLICE_K;
        slice.lda = widen_slice(a, product->from, g->a, g->lda, g->transpose_a, g->m, p, slice.k);
        slice.ldb = widen_slice(b, product->from, g->b, g->ldb, !g->transpose_b, g->n, p, slice.k);
        status = tessi_blas_gemm(&slice) ? TESSI_OK : TESSI_UNSUPPORTED;
        slice.add = true;
    }
    tessi_free(a);
    return status;
}

static enum tessi_status multiply(const struct product *product, struct tessi_error *error)
{
    if (product->from == product->gemm.dtype && tessi_blas_gemm(&product->gemm)) {
        return TESSI_OK;
    }
    bool half = product->from == TESSI_F16 || product->from == TESSI_BF16;
    if (half && product->gemm.dtype == TESSI_F32 && strcmp(tessi_blas_family(), "plain") != 0) {
        return widened(product, error);
    }
    return plain(product, error);
}

/* Where the step's range of k begins in an operand's block, and how long its stored rows are. */
static const void *panel(const struct tessi_kernel_step *step, uint32_t i, bool k_is_first, int64_t *ld)
{
    const struct tessi_input *input = &step->layer->input[i];
    const struct tessi_block_ref *ref = &step->step.ref[i];
    struct tessi_shape shape;
    int64_t lo[TESSI_NDIM_MAX];
    TESS_ASSERT(ref->input == i);
    tessi_kernel_block(&input->grid, ref->index, &shape, lo);
    int64_t skipped = step->step.k_lo - lo[k_is_first ? 0 : 1];
    TESS_ASSERT(skipped >= 0 && step->step.k_hi - lo[k_is_first ? 0 : 1] <= shape.dim[k_is_first ? 0 : 1]);
    *ld = shape.dim[1];
    return (const unsigned char *)step->call->in[i] +
           (size_t)(k_is_first ? skipped * *ld : skipped) * tessi_dtype_size(input->dtype);
}

enum tessi_status tessi_kernel_matmul(const struct tessi_kernel_step *step, struct tessi_error *error)
{
    const struct tessi_layer *layer = step->layer;
    enum tessi_dtype dtype = layer->dtype;
    struct product product = {.from = layer->input[0].dtype,
                              .compute = dtype == TESSI_F16 || dtype == TESSI_BF16 ? TESSI_F32 : dtype};
    struct tessi_gemm *gemm = &product.gemm;
    *gemm = (struct tessi_gemm){
        .dtype = layer->dtype,
        .transpose_a = layer->as.matmul.transpose_a,
        .transpose_b = layer->as.matmul.transpose_b,
        .add = step->call->step > 0,
        .m = step->shape.dim[0],
        .n = step->shape.dim[1],
        .k = step->step.k_hi - step->step.k_lo,
        .c = step->call->out,
        .ldc = step->shape.dim[1],
    };
    if (step->elements == 0) {
        return TESSI_OK;
    }
    if (gemm->k == 0) {
        if (!gemm->add) {
            memset(gemm->c, 0, (size_t)step->elements * tessi_dtype_size(layer->dtype));
        }
        return TESSI_OK;
    }
    TESS_ASSERT(step->step.count == 2);
    gemm->a = panel(step, 0, gemm->transpose_a, &gemm->lda);
    gemm->b = panel(step, 1, !gemm->transpose_b, &gemm->ldb);
    return multiply(&product, error);
}
