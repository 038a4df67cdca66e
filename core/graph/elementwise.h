/* Elementwise operations: what their rows say of types (elementwise_table.h).
 *
 * An instruction of an elementwise program is computed in one dtype, to which its operands are converted first (a condition
 * to bool). Its result has a dtype of its own, which follows from the operation and the dtype computed in. */
#ifndef TESSI_GRAPH_ELEMENTWISE_H
#define TESSI_GRAPH_ELEMENTWISE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/array/dtype.h"
#include "core/base/status.h"
#include "core/graph/elementwise_table.h"

enum tessi_ewise {
#define TESSI_ROW(NAME, name, code, ...) TESSI_EWISE_##NAME = code,
    TESSI_EWISE_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

enum { /* rows */
    TESSI_EWISE_COUNT = 0
#define TESSI_ROW(...) +1
    TESSI_EWISE_TABLE(TESSI_ROW)
#undef TESSI_ROW
};

#define TESSI_OPERANDS_MAX 3 /* of an instruction */

enum tessi_operands { TESSI_OPERANDS_X, TESSI_OPERANDS_XX, TESSI_OPERANDS_CXX };
enum tessi_class { TESSI_CLASS_BOOL, TESSI_CLASS_INTEGER, TESSI_CLASS_FLOAT, TESSI_CLASS_COMPLEX, TESSI_CLASSES };
enum tessi_computed {
    TESSI_COMPUTED_NO,
    TESSI_COMPUTED_OWN,
    TESSI_COMPUTED_WIDE,
    TESSI_COMPUTED_MOVE,
    TESSI_COMPUTED_F64,
    TESSI_COMPUTED_TRUTH
};
enum tessi_gives { TESSI_GIVES_OWN, TESSI_GIVES_TRUTH, TESSI_GIVES_REAL };
enum tessi_identity { TESSI_IDENTITY_NONE, TESSI_IDENTITY_ZERO, TESSI_IDENTITY_ONE };
enum tessi_fuses { TESSI_FUSES_ALONE, TESSI_FUSES_CHAIN };

struct tessi_ewise_row {
    const char *name;
    enum tessi_operands operands;
    enum tessi_computed computed[TESSI_CLASSES]; /* by the operands' class */
    enum tessi_gives result;
    enum tessi_identity identity;
    double cost;
    enum tessi_fuses fuses;
    double ulps[2]; /* of floats, of complex numbers */
};

const struct tessi_ewise_row *tessi_ewise_row(enum tessi_ewise op);
const char *tessi_ewise_name(enum tessi_ewise op);
uint32_t tessi_ewise_arity(enum tessi_ewise op);
/* Whether the operand is taken as a truth value. */
bool tessi_ewise_is_condition(enum tessi_ewise op, uint32_t operand);

/* How operands of the dtype are computed. */
enum tessi_computed tessi_ewise_computed(enum tessi_ewise op, enum tessi_dtype dtype);
/* What the operation computes in when its operands promote to `dtype`. UNSUPPORTED, with a text that says what it takes. */
TESSI_MUST_USE enum tessi_status tessi_ewise_choose(enum tessi_ewise op, enum tessi_dtype dtype,
                                                    enum tessi_dtype *computed_in, struct tessi_error *error);
/* The dtypes of the result, and that which an operand is converted to. */
enum tessi_dtype tessi_ewise_result(enum tessi_ewise op, enum tessi_dtype computed_in);
enum tessi_dtype tessi_ewise_operand(enum tessi_ewise op, uint32_t operand, enum tessi_dtype computed_in);

#endif
