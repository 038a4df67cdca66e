/* The elementwise operations: a row each, from which everything that knows them is made.
 *
 * A new operation is a row here, a body (worker/kernel/scalar.h, or a function of worker/kernel/elementary.h by its name) and
 * a declaration with its contract in client/tessera.h. The graph's check, result types, costs and texts (core/graph), the
 * public function (client/elementwise.c), kernels, references and programs of devices (worker/), the table in
 * client/README.md and the tests are made from the row. After numpy/core/code_generators/generate_umath.py of NumPy.
 *
 * NAME, name    the array API's; the body and the public function are called by it
 * code          on the wire: never reused, in ascending order without a gap
 * operands      X, XX, or CXX: X has the promoted type of all of them, C is taken as a truth value
 * bool, integer, float, complex
 *               how operands of that class are computed; the instruction's dtype is what they are computed in
 *                 NO     not at all
 *                 OWN    in their own type, by the body of scalar.h; f16 and bf16 in f32, rounded after it
 *                 WIDE   in f64 or c128, by tessi_NAME or tessi_complex_NAME, and rounded once
 *                 MOVE   no arithmetic: bits are moved
 *                 F64    as f64
 *                 TRUTH  as truth values
 * result        OWN: the type computed in; TRUTH: bool; REAL: the type of a complex number's parts, else OWN
 * identity      of a binary operation: the e for which e ∘ x is x, ZERO or ONE; else NONE
 * cost          of an element, in floating-point operations
 * fuses         CHAIN: with elementwise operations before and after it; ALONE: with none
 * ulps          the most that a result differs from the exact one, in units of the last place: of floats in f64, of complex
 *               numbers in c128 and of their larger part; 0: exact. What is WIDE is closer in shorter types, where nothing
 *               but the last rounding counts */
#ifndef TESSI_GRAPH_ELEMENTWISE_TABLE_H
#define TESSI_GRAPH_ELEMENTWISE_TABLE_H

/* The conversion has no public function of its own name. */
#define TESSI_EWISE_TABLE(ROW)                                                                                     \
    ROW(COPY, copy, 0, X, MOVE, MOVE, MOVE, MOVE, OWN, NONE, 1, CHAIN, 0, 0)                                       \
    TESSI_EWISE_FUNCTIONS(ROW)

/* clang-format off */
/*      NAME           name           code operands bool  integer float complex result identity cost fuses  ulps: float, complex */
#define TESSI_EWISE_FUNCTIONS(ROW)                                                                                    \
    ROW(ADD,           add,           1,   XX,      OWN,  OWN,    OWN,  OWN,    OWN,   ZERO,    1,   CHAIN, 0.5, 0.5) \
    ROW(SUBTRACT,      subtract,      2,   XX,      NO,   OWN,    OWN,  OWN,    OWN,   NONE,    1,   CHAIN, 0.5, 0.5) \
    ROW(MULTIPLY,      multiply,      3,   XX,      OWN,  OWN,    OWN,  OWN,    OWN,   ONE,     1,   CHAIN, 0.5, 4.0) \
    ROW(DIVIDE,        divide,        4,   XX,      F64,  F64,    OWN,  WIDE,   OWN,   NONE,    2,   CHAIN, 0.5, 4.0) \
    ROW(NEGATIVE,      negative,      5,   X,       NO,   OWN,    OWN,  OWN,    OWN,   NONE,    1,   CHAIN, 0,   0)   \
    ROW(ABS,           abs,           6,   X,       OWN,  OWN,    OWN,  WIDE,   REAL,  NONE,    1,   CHAIN, 0,   1.1) \
    ROW(SQRT,          sqrt,          7,   X,       F64,  F64,    OWN,  WIDE,   OWN,   NONE,    3,   CHAIN, 0.5, 1.7) \
    ROW(EXP,           exp,           8,   X,       F64,  F64,    WIDE, WIDE,   OWN,   NONE,    10,  CHAIN, 1.0, 2.5) \
    ROW(LOG,           log,           9,   X,       F64,  F64,    WIDE, WIDE,   OWN,   NONE,    10,  CHAIN, 1.0, 2.5) \
    ROW(SIN,           sin,           10,  X,       F64,  F64,    WIDE, NO,     OWN,   NONE,    12,  CHAIN, 1.0, 0)   \
    ROW(EQUAL,         equal,         11,  XX,      OWN,  OWN,    OWN,  OWN,    TRUTH, NONE,    1,   CHAIN, 0,   0)   \
    ROW(NOT_EQUAL,     not_equal,     12,  XX,      OWN,  OWN,    OWN,  OWN,    TRUTH, NONE,    1,   CHAIN, 0,   0)   \
    ROW(LESS,          less,          13,  XX,      OWN,  OWN,    OWN,  NO,     TRUTH, NONE,    1,   CHAIN, 0,   0)   \
    ROW(LESS_EQUAL,    less_equal,    14,  XX,      OWN,  OWN,    OWN,  NO,     TRUTH, NONE,    1,   CHAIN, 0,   0)   \
    ROW(GREATER,       greater,       15,  XX,      OWN,  OWN,    OWN,  NO,     TRUTH, NONE,    1,   CHAIN, 0,   0)   \
    ROW(GREATER_EQUAL, greater_equal, 16,  XX,      OWN,  OWN,    OWN,  NO,     TRUTH, NONE,    1,   CHAIN, 0,   0)   \
    ROW(WHERE,         where,         17,  CXX,     MOVE, MOVE,   MOVE, MOVE,   OWN,   NONE,    1,   CHAIN, 0,   0)
/* clang-format on */

#endif
