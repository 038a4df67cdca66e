/* The table of reductions: a row for each.
 *
 * A reduction is a monoid. Each element is lifted into a state, states are joined in a tree that shape and chunks
 * alone decide, and the last state is finished into the result's element. Joining is associative up to rounding: a
 * running form (a cumulative sum) would join the same states, from the first to the last. The bodies are in
 * worker/kernel/monoid_number.h and monoid_record.h.
 *
 * The state of most is a number: partial results are blocks of its dtype. Of the others it is a record of some 64-bit words:
 * core/README.md says how these lie in blocks. */
#ifndef TESSI_GRAPH_REDUCTION_H
#define TESSI_GRAPH_REDUCTION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/array/dtype.h"

/* takes    ANY dtype, or ORDERED ones: complex numbers have no order
 * result   SUM: tessi_dtype_sum; SAME as the elements'; TRUTH: bool; INDEX: i64; REAL: the floats in which they are inexact
 * state    a number, WIDE: of the result's dtype, f16 and bf16 in f32; KEPT: of the elements' dtype; TRUTH: a bool
 * empty    what no elements have: ZERO, ONE, NAN, or NOTHING (an error)
 * nan      what a NaN does: WINS (the result is NaN, or its index), IS_TRUE
 * parameter of the call, for finishing: NONE, or CORRECTION (what the number of elements is lessened by)
 * flops    of an element, to guess times from */

/* NAME, name, wire code (never reused), takes, result, state, empty, nan, flops */
#define TESSI_FOLD_NUMBERS(ROW)                                \
    ROW(SUM, sum, 0, ANY, SUM, WIDE, ZERO, WINS, 1)            \
    ROW(MIN, min, 1, ORDERED, SAME, KEPT, NOTHING, WINS, 1)    \
    ROW(MAX, max, 2, ORDERED, SAME, KEPT, NOTHING, WINS, 1)    \
    ROW(PROD, prod, 4, ANY, SUM, WIDE, ONE, WINS, 1)           \
    ROW(ANY, any, 7, ANY, TRUTH, TRUTH, ZERO, IS_TRUE, 1)      \
    ROW(ALL, all, 8, ANY, TRUTH, TRUTH, ONE, IS_TRUE, 1)

/* NAME, name, wire code, takes, result, words of the record, whether the last is a position, empty, nan, parameter, flops */
#define TESSI_FOLD_RECORDS(ROW)                                            \
    ROW(VAR, var, 3, ANY, REAL, 4, false, NAN, WINS, CORRECTION, 8)        \
    ROW(ARGMAX, argmax, 5, ORDERED, INDEX, 2, true, NOTHING, WINS, NONE, 2) \
    ROW(ARGMIN, argmin, 6, ORDERED, INDEX, 2, true, NOTHING, WINS, NONE, 2) \
    ROW(STD, std, 9, ANY, REAL, 4, false, NAN, WINS, CORRECTION, 8)
#define TESSI_FOLD_RECORD_MAX 32 /* bytes */

enum tessi_fold {
#define TESSI_ROW(NAME, name, code, ...) TESSI_FOLD_##NAME = code,
    TESSI_FOLD_NUMBERS(TESSI_ROW) TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW
};

enum {
    TESSI_FOLD_COUNT = 0
#define TESSI_ROW(NAME, ...) + 1
    TESSI_FOLD_NUMBERS(TESSI_ROW) TESSI_FOLD_RECORDS(TESSI_ROW)
#undef TESSI_ROW
};

enum tessi_fold_takes { TESSI_TAKES_ANY, TESSI_TAKES_ORDERED };
enum tessi_fold_result { TESSI_RESULT_SUM, TESSI_RESULT_SAME, TESSI_RESULT_TRUTH, TESSI_RESULT_INDEX, TESSI_RESULT_REAL };
enum tessi_fold_state { TESSI_STATE_WIDE, TESSI_STATE_KEPT, TESSI_STATE_TRUTH, TESSI_STATE_RECORD };
enum tessi_fold_empty { TESSI_EMPTY_ZERO, TESSI_EMPTY_ONE, TESSI_EMPTY_NAN, TESSI_EMPTY_NOTHING };
enum tessi_fold_nan { TESSI_NAN_WINS, TESSI_NAN_IS_TRUE };

struct tessi_fold_row {
    const char *name;
    enum tessi_fold_takes takes;
    enum tessi_fold_result result;
    enum tessi_fold_state state;
    uint32_t words; /* of a record; 0: the state is a number */
    bool position;  /* the last word of it is one */
    enum tessi_fold_empty empty;
    enum tessi_fold_nan nan;
    double flops;
};

bool tessi_fold_valid(uint32_t code);
const struct tessi_fold_row *tessi_fold_row(enum tessi_fold fold);

bool tessi_fold_takes(enum tessi_fold fold, enum tessi_dtype elements);
/* The dtype of the result, and that of partial results that are numbers, for elements of a dtype. */
enum tessi_dtype tessi_fold_result(enum tessi_fold fold, enum tessi_dtype elements);
enum tessi_dtype tessi_fold_number(enum tessi_fold fold, enum tessi_dtype elements);
int64_t tessi_fold_record_bytes(enum tessi_fold fold); /* 0: the state is a number */
/* Whether no elements have a value, and which. */
bool tessi_fold_of_nothing(enum tessi_fold fold, double *value);

#endif
