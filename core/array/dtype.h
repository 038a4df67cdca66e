/* Element types: one row each with name, size, kind and NumPy's type descriptor. */
#ifndef TESSI_ARRAY_DTYPE_H
#define TESSI_ARRAY_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name, wire code (never reused), bytes, kind, NumPy descriptor (NULL: NumPy has none) */
#define TESSI_DTYPE_TABLE(ROW)              \
    ROW(BOOL, bool, 0, 1, BOOLEAN, "|b1")   \
    ROW(I8, i8, 1, 1, SIGNED, "|i1")        \
    ROW(I16, i16, 2, 2, SIGNED, "<i2")      \
    ROW(I32, i32, 3, 4, SIGNED, "<i4")      \
    ROW(I64, i64, 4, 8, SIGNED, "<i8")      \
    ROW(U8, u8, 5, 1, UNSIGNED, "|u1")      \
    ROW(U16, u16, 6, 2, UNSIGNED, "<u2")    \
    ROW(U32, u32, 7, 4, UNSIGNED, "<u4")    \
    ROW(U64, u64, 8, 8, UNSIGNED, "<u8")    \
    ROW(F16, f16, 9, 2, FLOAT, "<f2")       \
    ROW(BF16, bf16, 10, 2, FLOAT, NULL)     \
    ROW(F32, f32, 11, 4, FLOAT, "<f4")      \
    ROW(F64, f64, 12, 8, FLOAT, "<f8")      \
    ROW(C64, c64, 13, 8, COMPLEX, "<c8")    \
    ROW(C128, c128, 14, 16, COMPLEX, "<c16")

enum tessi_dtype {
#define TESSI_ROW(NAME, name, code, size, kind, descr) TESSI_##NAME = code,
    TESSI_DTYPE_TABLE(TESSI_ROW)
#undef TESSI_ROW
};
#define TESSI_DTYPE_COUNT 15

enum tessi_kind { TESSI_KIND_BOOLEAN, TESSI_KIND_SIGNED, TESSI_KIND_UNSIGNED, TESSI_KIND_FLOAT, TESSI_KIND_COMPLEX };

bool tessi_dtype_valid(uint32_t code);
size_t tessi_dtype_size(enum tessi_dtype dtype);
enum tessi_kind tessi_dtype_kind(enum tessi_dtype dtype);
const char *tessi_dtype_name(enum tessi_dtype dtype);  /* "f64" */
const char *tessi_dtype_descr(enum tessi_dtype dtype); /* "<f8"; NULL for bf16 */

/* Parse a name ("f64"); false when there is no such type. */
bool tessi_dtype_parse(const char *name, enum tessi_dtype *dtype);

/* Elements that come from outside (a program's memory, a file) become values of the type: a truth value is 0 or 1, whatever
 * byte was not 0. Every way in ends here, since kernels add, multiply and compare truth values by their bits. */
void tessi_dtype_admit(enum tessi_dtype dtype, void *elements, size_t bytes);

/* Turn the bytes of each number around: elements of the other byte order. */
void tessi_dtype_swap(enum tessi_dtype dtype, void *elements, size_t bytes);

/* The type of `a ∘ b` by NumPy's promotion table (numpy.promote_types); bf16 with f16 gives f32. */
enum tessi_dtype tessi_dtype_promote(enum tessi_dtype a, enum tessi_dtype b);

/* The type of sqrt, exp, log, mean and true division: the type itself when it is float or
 * complex, f64 otherwise. */
enum tessi_dtype tessi_dtype_inexact(enum tessi_dtype dtype);

/* The type of a sum: NumPy's rule (bool and signed → i64, unsigned → u64, else itself). */
enum tessi_dtype tessi_dtype_sum(enum tessi_dtype dtype);

/* The type in which products of this type are added: f32 for f16 and bf16, i32 for i8, u32 for u8, else itself. */
enum tessi_dtype tessi_dtype_accumulator(enum tessi_dtype dtype);

#endif
