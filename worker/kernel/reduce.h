/* The loops of reductions, behind the one tree of reduce.c: of numbers (reduce_number.c) and of records (reduce_record.c). */
#ifndef TESSI_KERNEL_REDUCE_H
#define TESSI_KERNEL_REDUCE_H

#include <stddef.h>
#include <stdint.h>

#include "core/array/dtype.h"
#include "core/graph/reduction.h"

/* Numbers. `row`: n components that lie side by side, at most a leaf, `width` of them a number, into out[width]: running
 * folds, then these in halves. `join`: acc[j] = in[j] joins acc[j]. */
struct tessi_number_loops {
    void (*row)(enum tessi_fold fold, const void *in, size_t n, size_t width, void *out);
    void (*join)(enum tessi_fold fold, void *acc, const void *in, size_t n);
    size_t width; /* components of a number for these loops */
};
struct tessi_number_loops tessi_number_loops(enum tessi_fold fold, enum tessi_dtype compute);

/* Records. Elements come in the widest dtype of their kind; element j has the position `at` + j. */
struct tessi_record_loops {
    size_t size;
    void (*lift)(const void *in, size_t n, int64_t at, void *out); /* out[j] = the lifted in[j] */
    void (*add)(void *acc, const void *in, size_t n, int64_t at);  /* acc[j] = the lifted in[j] joins acc[j] */
    void (*join)(void *acc, const void *in, size_t n);             /* acc[j] = in[j] joins acc[j] */
    void (*finish)(const void *in, size_t n, double parameter, void *out); /* into the widest dtype of the result's kind */
};
struct tessi_record_loops tessi_record_loops(enum tessi_fold fold, enum tessi_dtype elements);
enum tessi_dtype tessi_widest(enum tessi_dtype dtype); /* of its kind: u64 of bool */

#endif
