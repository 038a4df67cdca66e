/* OpenBLAS, loaded at run time after its kernel family has been chosen.
 *
 * OpenBLAS takes its kernels when it is loaded, from the environment or from a table of
 * processors that old releases do not have complete, and the wrong ones halve the speed or
 * change the bits. So the family is chosen here from the instruction set, and the library
 * is told. Families with one numerics name give the same bits (SkylakeX and Cooperlake do). */
#ifndef TESSI_KERNEL_BLAS_H
#define TESSI_KERNEL_BLAS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/array/dtype.h"
#include "core/base/status.h"

#define TESSI_BLAS_FAMILIES_MAX 8

/* Families that this processor's instruction set can run, best first, as lower-case names.
 * Returns how many; "plain" (our own loops) is not among them but can always be opened. */
uint32_t tessi_blas_families(const char *list[TESSI_BLAS_FAMILIES_MAX]);

/* Load OpenBLAS with the kernels of `family`; NULL: the best that both processor and library have.
 * Changes OPENBLAS_* in the environment while the library loads and puts it back, so call it
 * before other threads read the environment. One family for each process: opening the same
 * again is OK, another one is BUSY. Without a usable library and with family NULL the result is
 * NOT_FOUND with a text, and products run on our own loops as family "plain". */
enum tessi_status tessi_blas_open(const char *family, struct tessi_error *error);

/* What runs: "cooperlake", …, "plain". Opens the best family if nothing was opened yet. */
const char *tessi_blas_family(void);

/* The name under which bits are equal: "skylakex" for cooperlake, else the family. */
const char *tessi_blas_numerics(void);
const char *tessi_blas_numerics_of(const char *family);

/* C = A·B + (add ? C : 0) on row-major f32, f64, c64 or c128; lda is the stored row length of A
 * (of Aᵀ when transposed). False: no library, the caller's own loop must do it. */
struct tessi_gemm {
    enum tessi_dtype dtype;
    bool transpose_a, transpose_b, add;
    int64_t m, n, k;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    void *c;
    int64_t ldc;
};
bool tessi_blas_gemm(const struct tessi_gemm *gemm);

#endif
