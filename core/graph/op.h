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

/* What each is, where its name does not say it.
 *
 * FULL        a constant
 * UNIFORM     Philox
 * RECEIVE     pushed by the client that owns the data
 * READ_NPY    a chunk of a C-order .npy file
 * ELEMENTWISE a program over blocks of one shape
 * REDUCE      fold axes of a group of blocks
 * TRANSPOSE   permute the axes of one block
 * REGRID      slice and rechunk: copy pieces; of two inputs: join.h
 * MATMUL      C(i,j,s) += A(i,k) B(k,j) for k in segment s
 * SYNTHETIC   benches and tests: work by the clock or none
 * WRITE_NPY   a block goes to its place in a file; what is made says so: one true */

/* consume  how a task takes its inputs: see tessi_consume
 * steps    which sequence its steps are: one, blocks (of the first input, one a step), pieces (join.h), product
 * flops    how its floating-point operations are counted
 * limit    what bounds its speed, and so is asked when a device is to be worth the way: BYTES or FLOPS
 * again    AGAIN: the same blocks can be had once more from where they came, at the cost of reading or of nothing; or KEPT
 * file     whether a block is READ or WRITTEN by its task: such a worker needs the file; NO
 * devices  NONE: files, data that arrive and work by the clock are no business of a device; EITHER: with the processor's bits;
 *          OWN_BITS: with those of the device's BLAS
 * place    where tasks go: INPUT, with their largest one; GRID, into regions of the output that their inputs follow
 *
 * Steps and flops are functions in task.c. Other functions of a kind go by its name: its check in check.c, its codec in
 * core/wire/parameter_codec.c, its kernels in worker/kernel/kernel.c and worker/device/cuda/launch.cu. All of these tables are
 * made from this one, so that what is forgotten does not compile. */

/* NAME, name, wire code, min inputs, max inputs, consume, steps, flops, limit, again, file, devices, place */
#define TESSI_OP_TABLE(ROW)                                                                                            \
    ROW(FULL, full, 1, 0, 0, NONE, one, none, BYTES, AGAIN, NO, EITHER, INPUT)                                         \
    ROW(ARANGE, arange, 2, 0, 0, NONE, one, arange, BYTES, AGAIN, NO, EITHER, INPUT)                                   \
    ROW(EYE, eye, 3, 0, 0, NONE, one, none, BYTES, AGAIN, NO, EITHER, INPUT)                                           \
    ROW(UNIFORM, uniform, 4, 0, 0, NONE, one, uniform, BYTES, AGAIN, NO, EITHER, INPUT)                                \
    ROW(NORMAL, normal, 5, 0, 0, NONE, one, normal, BYTES, AGAIN, NO, EITHER, INPUT)                                   \
    ROW(RECEIVE, receive, 6, 0, 0, NONE, one, none, BYTES, KEPT, NO, NONE, INPUT)                                      \
    ROW(READ_NPY, read_npy, 7, 0, 0, NONE, one, none, BYTES, AGAIN, READ, NONE, INPUT)                                 \
    ROW(ELEMENTWISE, elementwise, 8, 1, TESSI_INPUTS_MAX, ONCE, one, program, BYTES, KEPT, NO, EITHER, INPUT)          \
    ROW(REDUCE, reduce, 9, 1, 1, STREAM, blocks, reduce, BYTES, KEPT, NO, EITHER, INPUT)                               \
    ROW(TRANSPOSE, transpose, 10, 1, 1, ONCE, one, none, BYTES, KEPT, NO, EITHER, INPUT)                               \
    ROW(REGRID, regrid, 11, 1, 2, STREAM, pieces, none, BYTES, KEPT, NO, EITHER, INPUT)                                \
    ROW(MATMUL, matmul, 12, 2, 2, STREAM, product, product, FLOPS, KEPT, NO, OWN_BITS, GRID)                           \
    ROW(SYNTHETIC, synthetic, 13, 0, TESSI_INPUTS_MAX, ONCE, one, synthetic, BYTES, KEPT, NO, NONE, INPUT)             \
    ROW(WRITE_NPY, write_npy, 14, 1, 1, ONCE, one, none, BYTES, KEPT, WRITTEN, NONE, INPUT)

enum tessi_op {
#define TESSI_ROW(NAME, name, code, ...) TESSI_OP_##NAME = code,
    TESSI_OP_TABLE(TESSI_ROW)
#undef TESSI_ROW
};
#define TESSI_OP_COUNT 15 /* one past the highest code */

enum tessi_limit { TESSI_LIMIT_BYTES, TESSI_LIMIT_FLOPS };
enum tessi_again { TESSI_AGAIN_AGAIN, TESSI_AGAIN_KEPT };
enum tessi_file { TESSI_FILE_NO, TESSI_FILE_READ, TESSI_FILE_WRITTEN };
enum tessi_devices { TESSI_DEVICES_NONE, TESSI_DEVICES_EITHER, TESSI_DEVICES_OWN_BITS };
enum tessi_place { TESSI_PLACE_INPUT, TESSI_PLACE_GRID };

struct tessi_op_row {
    const char *name; /* NULL: no such operation */
    uint32_t min_inputs;
    uint32_t max_inputs;
    enum tessi_consume consume;
    enum tessi_limit limit;
    enum tessi_again again;
    enum tessi_file file;
    enum tessi_devices devices;
    enum tessi_place place;
};

bool tessi_op_valid(uint32_t code);
const struct tessi_op_row *tessi_op_row(enum tessi_op op);

/* How a product of f32 matrices may be computed where the device offers it; elsewhere all are native. */
enum tessi_compute {
    TESSI_COMPUTE_NATIVE = 0, /* in the operands' type, f16 and bf16 with sums in f32, i8 in i32 */
    TESSI_COMPUTE_TF32 = 1,   /* operands rounded to 11 bits */
    TESSI_COMPUTE_TF32X3 = 2, /* three such products of operands split in two: nearly f32's accuracy */
};
#define TESSI_COMPUTE_COUNT 3

#endif
