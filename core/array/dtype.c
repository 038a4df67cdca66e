#include "core/array/dtype.h"

#include <string.h>

#include "core/base/assert.h"

struct dtype_row {
    const char *name;
    const char *descr;
    size_t size;
    enum tessi_kind kind;
};

static const struct dtype_row rows[] = {
#define TESSI_ROW(NAME, name, code, size, kind, descr) [code] = {#name, descr, size, TESSI_KIND_##kind},
    TESSI_DTYPE_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

_Static_assert(sizeof rows / sizeof rows[0] == TESSI_DTYPE_COUNT, "one row for each element type");

static const struct dtype_row *row_of(enum tessi_dtype dtype)
{
    TESS_ASSERT(tessi_dtype_valid((uint32_t)dtype));
    return &rows[dtype];
}

bool tessi_dtype_valid(uint32_t code)
{
    return code < TESSI_DTYPE_COUNT;
}

size_t tessi_dtype_size(enum tessi_dtype dtype)
{
    return row_of(dtype)->size;
}

enum tessi_kind tessi_dtype_kind(enum tessi_dtype dtype)
{
    return row_of(dtype)->kind;
}

const char *tessi_dtype_name(enum tessi_dtype dtype)
{
    return row_of(dtype)->name;
}

const char *tessi_dtype_descr(enum tessi_dtype dtype)
{
    return row_of(dtype)->descr;
}

void tessi_dtype_admit(enum tessi_dtype dtype, void *elements, size_t bytes)
{
    uint8_t *truth = elements;
    for (size_t i = 0; i < bytes && dtype == TESSI_BOOL; i++) {
        truth[i] = truth[i] != 0;
    }
}

void tessi_dtype_swap(enum tessi_dtype dtype, void *elements, size_t bytes)
{
    size_t number = tessi_dtype_size(dtype) / (tessi_dtype_kind(dtype) == TESSI_KIND_COMPLEX ? 2 : 1);
    uint8_t *at = elements;
    for (size_t i = 0; i < bytes && number > 1; i += number) {
        for (size_t b = 0; b < number / 2; b++) {
            uint8_t kept = at[i + b];
            at[i + b] = at[i + number - 1 - b];
            at[i + number - 1 - b] = kept;
        }
    }
}

bool tessi_dtype_parse(const char *name, enum tessi_dtype *dtype)
{
    for (uint32_t code = 0; code < TESSI_DTYPE_COUNT; code++) {
        if (strcmp(rows[code].name, name) == 0) {
            *dtype = (enum tessi_dtype)code;
            return true;
        }
    }
    return false;
}

static enum tessi_dtype signed_of_size(size_t size)
{
    return size <= 1 ? TESSI_I8 : size == 2 ? TESSI_I16 : size == 4 ? TESSI_I32 : TESSI_I64;
}

/* The real float whose precision a number of this type needs: integers of one byte fit the 11 bits
 * of f16 (and the 8 of bf16), those of two bytes the 24 of f32, and wider ones are given f64. */
static enum tessi_dtype real_float_of(enum tessi_dtype dtype, enum tessi_dtype half)
{
    size_t size = tessi_dtype_size(dtype);
    switch (tessi_dtype_kind(dtype)) {
    case TESSI_KIND_BOOLEAN:
        return half;
    case TESSI_KIND_SIGNED:
    case TESSI_KIND_UNSIGNED:
        return size == 1 ? half : size == 2 ? TESSI_F32 : TESSI_F64;
    case TESSI_KIND_FLOAT:
        return dtype;
    case TESSI_KIND_COMPLEX:
        return dtype == TESSI_C64 ? TESSI_F32 : TESSI_F64;
    }
    return dtype;
}

static enum tessi_dtype promote_floats(enum tessi_dtype a, enum tessi_dtype b)
{
    if (a == b) {
        return a;
    }
    return tessi_dtype_size(a) == 8 || tessi_dtype_size(b) == 8 ? TESSI_F64 : TESSI_F32;
}

static enum tessi_dtype promote_integers(enum tessi_dtype a, enum tessi_dtype b)
{
    size_t size_a = tessi_dtype_size(a);
    size_t size_b = tessi_dtype_size(b);
    if (tessi_dtype_kind(a) == tessi_dtype_kind(b)) {
        return size_a >= size_b ? a : b;
    }
    bool a_signed = tessi_dtype_kind(a) == TESSI_KIND_SIGNED;
    size_t signed_size = a_signed ? size_a : size_b;
    size_t unsigned_size = a_signed ? size_b : size_a;
    if (signed_size > unsigned_size) {
        return a_signed ? a : b;
    }
    return unsigned_size == 8 ? TESSI_F64 : signed_of_size(unsigned_size * 2);
}

enum tessi_dtype tessi_dtype_promote(enum tessi_dtype a, enum tessi_dtype b)
{
    enum tessi_kind kind_a = tessi_dtype_kind(a);
    enum tessi_kind kind_b = tessi_dtype_kind(b);
    if (a == b || kind_b == TESSI_KIND_BOOLEAN) {
        return a;
    }
    if (kind_a == TESSI_KIND_BOOLEAN) {
        return b;
    }
    if (kind_a < TESSI_KIND_FLOAT && kind_b < TESSI_KIND_FLOAT) {
        return promote_integers(a, b);
    }
    enum tessi_dtype half = a == TESSI_BF16 || b == TESSI_BF16 ? TESSI_BF16 : TESSI_F16;
    enum tessi_dtype real = promote_floats(real_float_of(a, half), real_float_of(b, half));
    if (kind_a == TESSI_KIND_COMPLEX || kind_b == TESSI_KIND_COMPLEX) {
        return real == TESSI_F64 ? TESSI_C128 : TESSI_C64;
    }
    return real;
}

enum tessi_dtype tessi_dtype_inexact(enum tessi_dtype dtype)
{
    return tessi_dtype_kind(dtype) >= TESSI_KIND_FLOAT ? dtype : TESSI_F64;
}

enum tessi_dtype tessi_dtype_sum(enum tessi_dtype dtype)
{
    switch (tessi_dtype_kind(dtype)) {
    case TESSI_KIND_BOOLEAN:
    case TESSI_KIND_SIGNED:
        return TESSI_I64;
    case TESSI_KIND_UNSIGNED:
        return TESSI_U64;
    case TESSI_KIND_FLOAT:
    case TESSI_KIND_COMPLEX:
        return dtype;
    }
    return dtype;
}

enum tessi_dtype tessi_dtype_accumulator(enum tessi_dtype dtype)
{
    if (dtype == TESSI_F16 || dtype == TESSI_BF16) {
        return TESSI_F32;
    }
    return dtype == TESSI_I8 ? TESSI_I32 : dtype == TESSI_U8 ? TESSI_U32 : dtype;
}
