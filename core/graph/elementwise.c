#include "core/graph/elementwise.h"

#include <stdio.h>
#include <string.h>

#include "core/base/assert.h"

#define CLASSES_TEXT 64 /* bytes of the names of all classes in a sentence */

static const struct tessi_ewise_row rows[] = {
#define TESSI_ROW(NAME, name, code, operands, bool_, integer, float_, complex, result, identity, cost, fuses, ulps, complex_ulps) \
    [code] = {#name,                                                                                                    \
              TESSI_OPERANDS_##operands,                                                                                \
              {TESSI_COMPUTED_##bool_, TESSI_COMPUTED_##integer, TESSI_COMPUTED_##float_, TESSI_COMPUTED_##complex},    \
              TESSI_GIVES_##result,                                                                                    \
              TESSI_IDENTITY_##identity,                                                                                \
              cost,                                                                                                     \
              TESSI_FUSES_##fuses,                                                                                      \
              {ulps, complex_ulps}},
    TESSI_EWISE_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

_Static_assert(sizeof rows / sizeof rows[0] == TESSI_EWISE_COUNT, "codes have no gap");

const struct tessi_ewise_row *tessi_ewise_row(enum tessi_ewise op)
{
    TESS_ASSERT((uint32_t)op < TESSI_EWISE_COUNT);
    return &rows[op];
}

const char *tessi_ewise_name(enum tessi_ewise op)
{
    return tessi_ewise_row(op)->name;
}

uint32_t tessi_ewise_arity(enum tessi_ewise op)
{
    switch (tessi_ewise_row(op)->operands) {
    case TESSI_OPERANDS_X:
        return 1;
    case TESSI_OPERANDS_XX:
        return 2;
    case TESSI_OPERANDS_CXX:
        return 3;
    }
    TESS_ASSERT(false);
    return 0;
}

bool tessi_ewise_is_condition(enum tessi_ewise op, uint32_t operand)
{
    return operand == 0 && tessi_ewise_row(op)->operands == TESSI_OPERANDS_CXX;
}

static enum tessi_class class_of(enum tessi_dtype dtype)
{
    switch (tessi_dtype_kind(dtype)) {
    case TESSI_KIND_BOOLEAN:
        return TESSI_CLASS_BOOL;
    case TESSI_KIND_SIGNED:
    case TESSI_KIND_UNSIGNED:
        return TESSI_CLASS_INTEGER;
    case TESSI_KIND_FLOAT:
        return TESSI_CLASS_FLOAT;
    case TESSI_KIND_COMPLEX:
        return TESSI_CLASS_COMPLEX;
    }
    TESS_ASSERT(false);
    return TESSI_CLASS_BOOL;
}

enum tessi_computed tessi_ewise_computed(enum tessi_ewise op, enum tessi_dtype dtype)
{
    return tessi_ewise_row(op)->computed[class_of(dtype)];
}

/* "integer, float or complex": what the operation takes. */
static const char *classes_text(const struct tessi_ewise_row *row, char text[CLASSES_TEXT])
{
    static const char *const names[TESSI_CLASSES] = {"bool", "integer", "float", "complex"};
    uint32_t left = 0;
    for (uint32_t c = 0; c < TESSI_CLASSES; c++) {
        left += row->computed[c] != TESSI_COMPUTED_NO;
    }
    text[0] = 0;
    for (uint32_t c = 0; c < TESSI_CLASSES; c++) {
        if (row->computed[c] != TESSI_COMPUTED_NO) {
            size_t n = strlen(text);
            left--;
            (void)snprintf(text + n, CLASSES_TEXT - n, "%s%s", names[c], left > 1 ? ", " : left == 1 ? " or " : "");
        }
    }
    return text;
}

enum tessi_status tessi_ewise_choose(enum tessi_ewise op, enum tessi_dtype dtype, enum tessi_dtype *computed_in,
                                     struct tessi_error *error)
{
    char text[CLASSES_TEXT];
    switch (tessi_ewise_computed(op, dtype)) {
    case TESSI_COMPUTED_OWN:
    case TESSI_COMPUTED_WIDE:
    case TESSI_COMPUTED_MOVE:
        *computed_in = dtype;
        return TESSI_OK;
    case TESSI_COMPUTED_F64:
        *computed_in = TESSI_F64;
        return TESSI_OK;
    case TESSI_COMPUTED_TRUTH:
        *computed_in = TESSI_BOOL;
        return TESSI_OK;
    case TESSI_COMPUTED_NO:
        break;
    }
    return tessi_fail(error, TESSI_UNSUPPORTED, "%s is not defined for %s: convert to %s first", tessi_ewise_name(op),
                      tessi_dtype_name(dtype), classes_text(tessi_ewise_row(op), text));
}

enum tessi_dtype tessi_ewise_result(enum tessi_ewise op, enum tessi_dtype computed_in)
{
    switch (tessi_ewise_row(op)->result) {
    case TESSI_GIVES_OWN:
        return computed_in;
    case TESSI_GIVES_TRUTH:
        return TESSI_BOOL;
    case TESSI_GIVES_REAL:
        return computed_in == TESSI_C64 ? TESSI_F32 : computed_in == TESSI_C128 ? TESSI_F64 : computed_in;
    }
    TESS_ASSERT(false);
    return computed_in;
}

enum tessi_dtype tessi_ewise_operand(enum tessi_ewise op, uint32_t operand, enum tessi_dtype computed_in)
{
    TESS_ASSERT(operand < tessi_ewise_arity(op));
    return tessi_ewise_is_condition(op, operand) ? TESSI_BOOL : computed_in;
}
