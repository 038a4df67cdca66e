/* The operations table: one row for each operation a layer can have.
 *
 * A row names the operation, its wire code (never reused), the number of inputs it takes,
 * how a task consumes them, and what it is bound to. Shapes and index maps are fixed by
 * whoever builds the layer (client/array) and checked by `tessi_layer_check`. */
#ifndef TESSI_GRAPH_OP_H
#define TESSI_GRAPH_OP_H

#include <stdbool.h>
#include <stdint.h>

#define TESSI_INPUTS_MAX 8

/* How a task takes its inputs. ONCE: one step that needs them all. STREAM: a fixed sequence of
 * steps into a private accumulator, each step needing a few blocks. NONE: no inputs. */
enum tessi_consume { TESSI_CONSUME_NONE, TESSI_CONSUME_ONCE, TESSI_CONSUME_STREAM };

/* NAME, name, wire code, min inputs, max inputs, consume */
#define TESSI_OP_TABLE(ROW)                                  \
    ROW(FULL, full, 1, 0, 0, NONE)           /* a constant */ \
    ROW(ARANGE, arange, 2, 0, 0, NONE)                       \
    ROW(EYE, eye, 3, 0, 0, NONE)                             \
    ROW(UNIFORM, uniform, 4, 0, 0, NONE)     /* Philox */     \
    ROW(NORMAL, normal, 5, 0, 0, NONE)                       \
    ROW(RECEIVE, receive, 6, 0, 0, NONE)     /* pushed by the client that owns the data */ \
    ROW(READ_NPY, read_npy, 7, 0, 0, NONE)   /* a chunk of a C-order .npy file */ \
    ROW(ELEMENTWISE, elementwise, 8, 1, TESSI_INPUTS_MAX, ONCE) /* a program over blocks of one shape */ \
    ROW(REDUCE, reduce, 9, 1, 1, STREAM)     /* fold axes of a group of blocks */ \
    ROW(TRANSPOSE, transpose, 10, 1, 1, ONCE) /* permute the axes of one block */ \
    ROW(REGRID, regrid, 11, 1, 2, STREAM)    /* slice and rechunk: copy pieces; of two inputs: join.h */ \
    ROW(MATMUL, matmul, 12, 2, 2, STREAM)    /* C(i,j,s) += A(i,k) B(k,j) for k in segment s */ \
    ROW(OPAQUE, opaque, 13, 0, TESSI_INPUTS_MAX, ONCE) /* benches and tests: work by the clock or none */ \
    ROW(WRITE_NPY, write_npy, 14, 1, 1, ONCE) /* a block goes to its place in a file; what is made says so: one true */

enum tessi_op {
#define TESSI_ROW(NAME, name, code, min, max, consume) TESSI_OP_##NAME = code,
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};
#define TESSI_OP_COUNT 15 /* one past the highest code */

struct tessi_op_row {
    const char *name; /* NULL: no such operation */
    uint32_t min_inputs;
    uint32_t max_inputs;
    enum tessi_consume consume;
};

bool tessi_op_valid(uint32_t code);
const struct tessi_op_row *tessi_op_row(enum tessi_op op);

/* Files, data that arrive and work by the clock are no business of a device. */
static inline bool tessi_op_is_for_devices(enum tessi_op op)
{
    return op != TESSI_OP_RECEIVE && op != TESSI_OP_READ_NPY && op != TESSI_OP_WRITE_NPY && op != TESSI_OP_OPAQUE;
}

/* How a product of f32 matrices may be computed where the device offers it; elsewhere all are native. */
enum tessi_compute {
    TESSI_COMPUTE_NATIVE = 0, /* in the operands' type, f16 and bf16 with sums in f32, i8 in i32 */
    TESSI_COMPUTE_TF32 = 1,   /* operands rounded to 11 bits */
    TESSI_COMPUTE_TF32X3 = 2, /* three such products of operands split in two: nearly f32's accuracy */
};
#define TESSI_COMPUTE_COUNT 3

#endif
