/* A layer: one array operation over a whole chunk grid. A task is (layer, index); its output
 * is the block of the same index. A layer is self-contained: it holds its inputs' grids and
 * dtypes, so that everything about a task can be computed from its layer alone. */
#ifndef TESSI_GRAPH_LAYER_H
#define TESSI_GRAPH_LAYER_H

#include "core/array/dtype.h"
#include "core/array/shape.h"
#include "core/base/file_identity.h"
#include "core/graph/elementwise.h"
#include "core/graph/map.h"
#include "core/graph/op.h"
#include "core/graph/reduction.h"
#include "core/graph/task_options.h"

#define TESSI_PROGRAM_MAX 64 /* instructions of an elementwise program */
#define TESSI_CONSTANTS_MAX 32
#define TESSI_STEP_REFS_MAX 64    /* blocks that one step may read */
#define TESSI_LAYER_NAME_MAX 35   /* 31 of the user's, and "for " before it */
#define TESSI_LAYER_LABEL_MAX 64  /* of tessi_layer_label, with the final 0 */
#define TESSI_SYNTHETIC_FLOPS 128 /* of an SYNTHETIC task's iteration: 64 multiplications and additions */

struct tessi_scalar {       /* a value in the widest type of its kind */
    enum tessi_dtype dtype; /* one of I64, U64, F64, C128, BOOL */
    union {
        int64_t i;
        uint64_t u;
        double f;
        double c[2];
    } as;
};

/* Operands of an instruction: 0 … ninputs-1 are inputs (broadcast to the block's shape), then
 * `nconstants` constants, then the results of earlier instructions. The last instruction's
 * result is the block. */
struct tessi_instruction {
    enum tessi_ewise op;
    enum tessi_dtype dtype; /* computed in; the result's is tessi_instruction_result */
    uint32_t a;
    uint32_t b; /* of two and more operands */
    uint32_t c; /* of three */
};

static inline uint32_t tessi_instruction_operand(const struct tessi_instruction *code, uint32_t operand)
{
    return operand == 0 ? code->a : operand == 1 ? code->b : code->c;
}

static inline enum tessi_dtype tessi_instruction_result(const struct tessi_instruction *code)
{
    return tessi_ewise_result(code->op, code->dtype);
}

struct tessi_program {
    uint32_t count;
    uint32_t nconstants;
    struct tessi_instruction *code; /* owned */
    struct tessi_scalar *constants; /* owned */
};

struct tessi_input { /* how a layer reads an array, whichever that is */
    enum tessi_dtype dtype;
    struct tessi_grid grid; /* of the input array, owned */
    struct tessi_map_rules rules;
};

struct tessi_layer {
    uint32_t session;
    uint32_t id;
    enum tessi_op op;
    enum tessi_dtype dtype; /* of the output */
    struct tessi_grid grid; /* of the output: one task a block; owned */
    uint32_t ninputs;
    uint32_t
        reads[TESSI_INPUTS_MAX]; /* ids within the session; of an SYNTHETIC layer maybe its own: then every task reads
                                         lower indices */
    struct tessi_input *input;   /* ninputs, owned by all layers that share them: see tessi_layer_add_input */
    const struct tessi_task_options
        *task_options; /* never NULL; owned by the layer unless it is tessi_no_task_options */
    char *name;        /* that the user gave the array, owned, at most TESSI_LAYER_NAME_MAX bytes; NULL: none */
    bool push;         /* its client waits for the blocks: small ones are sent there as soon as they are made */
    union {
        struct tessi_scalar full;
        struct {
            struct tessi_scalar start, step; /* element e = start + e·step, computed as one product and one sum */
        } arange;
        struct {
            int64_t diagonal; /* ones where column − row == diagonal */
        } eye;
        struct {
            uint64_t seed;
            double low, high; /* uniform: [low, high); normal: mean, standard deviation */
        } random;
        struct {
            char *path;                      /* owned */
            uint64_t offset;                 /* of the first element in the file, bytes */
            struct tessi_file_identity file; /* as the client saw it: whoever reads another one fails */
            bool swapped;                    /* its elements are big-endian */
        } npy; /* a C-order file; Fortran order is a transposed layer over the reversed shape */
        struct {
            char *path;        /* owned; as whoever writes opens it, while the file has no other name */
            char *target;      /* owned; what it will be called, for people */
            uint64_t offset;   /* of the first element in the file, bytes */
            uint64_t bytes;    /* of the whole file */
            uint64_t token[2]; /* of its mark (core/array/npy.h): who finds another one there writes nothing */
            uint64_t host; /* of the client (core/base/host.h): elsewhere what is written is flushed at once; 0: here */
        } write;           /* the output's chunks are single elements, one for each block of the input */
        struct tessi_program program;
        struct {
            enum tessi_fold fold;
            uint32_t axes; /* bit d: input dimension d is folded */
            bool keepdims; /* folded dimensions stay with one element per group; else they are gone */
            /* Where the state is a record; else all of these are 0. */
            enum tessi_dtype from; /* of what is reduced: that of the input, if the layer lifts */
            bool lifts;            /* reads elements; else records */
            bool finishes;         /* makes elements of the result, each from one block; else records */
            double parameter;      /* for finishing */
        } reduce;
        struct {
            uint32_t axis[TESSI_NDIM_MAX]; /* output dimension d is input dimension axis[d] */
        } transpose;
        struct {
            int64_t start[TESSI_NDIM_MAX]; /* out element e reads input element start + e·step */
            int64_t step[TESSI_NDIM_MAX];
        } regrid;
        struct {
            bool transpose_a; /* A is stored (k, m) */
            bool transpose_b; /* B is stored (n, k) */
            enum tessi_compute compute;
            int64_t segment; /* elements of k in one segment; output grid is (i, j) when it covers k, else (i, j, s) */
        } matmul;
        struct {
            uint64_t nanoseconds; /* sleep (or spin) so long; the block holds a function of its inputs */
            bool spin;
            uint64_t iterations; /* then compute: TESSI_SYNTHETIC_FLOPS operations each, the kernel of Task Bench */
            double spread; /* times are log-normal: nanoseconds in the mean, this the deviation of the logarithm */
            uint32_t pin;  /* not 0: task i goes to worker i mod pin of those there, and is not stolen */
        } synthetic;
    } as;
};

struct tessi_block_ref {
    uint32_t input; /* number of the input, 0 … ninputs-1 */
    uint64_t index; /* block of that input */
};

/* One step of a task. */
struct tessi_step {
    uint32_t count;
    struct tessi_block_ref ref[TESSI_STEP_REFS_MAX];
    int64_t k_lo, k_hi; /* matmul: the elements of k that this step contracts */
};

struct tessi_layer *tessi_layer_create(uint32_t session, uint32_t id, enum tessi_op op, enum tessi_dtype dtype);
struct tessi_layer *tessi_layer_copy(const struct tessi_layer *layer);
void tessi_layer_destroy(struct tessi_layer *layer); /* NULL is allowed */

/* Its task options, to be changed; and others' instead of them. */
struct tessi_task_options *tessi_layer_own_task_options(struct tessi_layer *layer);
void tessi_layer_set_task_options(struct tessi_layer *layer, const struct tessi_task_options *task_options);
/* NULL or "": none. What is too long is cut between two characters. */
void tessi_layer_set_name(struct tessi_layer *layer, const char *name);
/* "matmul", with a name "matmul [w]", for people; returns text. */
const char *tessi_layer_label(const struct tessi_layer *layer, char *text, size_t size);
/* One input more of a layer under construction, the layer of that id, zeroed. Those that were there may move. */
struct tessi_input *tessi_layer_add_input(struct tessi_layer *layer, uint32_t reads);
/* Keep the inputs of `other` instead of equal ones: they are most of a description, and of long chains all alike. Copies
 * share them too, so nobody writes to them once a layer is complete. False: they differ. */
bool tessi_layer_share_inputs(struct tessi_layer *layer, const struct tessi_layer *other);

/* Whether what a REDUCE layer reads, or makes, are records: then the block's first folded axis has a record's bytes (u8), and
 * these lie in it one record after the other, in the order of what is kept. */
bool tessi_reduce_reads_records(const struct tessi_layer *layer);
bool tessi_reduce_makes_records(const struct tessi_layer *layer);

/* Make the output of a WRITE_NPY layer, and the rules of its input, whose grid is there. */
void tessi_layer_follow_blocks(struct tessi_layer *layer);

/* Everything a layer from outside must satisfy before any other function may see it: known op
 * and dtypes, grids, rules, parameters, agreement of shapes. */
enum tessi_status tessi_layer_check(const struct tessi_layer *layer, struct tessi_error *error);

uint64_t tessi_layer_memory(const struct tessi_layer *layer); /* bytes that the description takes */
uint64_t tessi_layer_tasks(const struct tessi_layer *layer);
uint64_t tessi_layer_block_bytes(const struct tessi_layer *layer, uint64_t index);
uint64_t tessi_input_block_bytes(const struct tessi_input *input, uint64_t index);
uint64_t tessi_layer_bytes(const struct tessi_layer *layer); /* of all its blocks */
uint64_t tessi_input_bytes(const struct tessi_input *input);

/* The same blocks can be had again from where they came at the cost of reading (a file) or of
 * nothing (a generator), so they need no spill file. */
bool tessi_layer_regenerable(const struct tessi_layer *layer);

/* Whether its tasks are a device's business and large enough for its way: their operations or the bytes of their blocks, by what
 * limits them. */
bool tessi_layer_suits_devices(const struct tessi_layer *layer, double flops_min, double bytes_min);
/* How many elements of work one element of the output along dimension d stands for: a segment of k, or itself. */
int64_t tessi_layer_work_along(const struct tessi_layer *layer, uint32_t d);

/* Steps of task `index`, ≥ 1, in the one order that fixes the bits. */
uint32_t tessi_task_steps(const struct tessi_layer *layer, uint64_t index);
void tessi_task_step(const struct tessi_layer *layer, uint64_t index, uint32_t step, struct tessi_step *out);

/* Some input is the layer itself. */
bool tessi_layer_reads_itself(const struct tessi_layer *layer);

/* Visit each block that the task reads of input `input` once, in row-major order. */
typedef void tessi_visit_fn(void *context, uint64_t index);
void tessi_task_inputs(const struct tessi_layer *layer, uint32_t input, uint64_t index, tessi_visit_fn *visit,
                       void *context);
uint64_t tessi_task_input_count(const struct tessi_layer *layer, uint32_t input, uint64_t index);

/* The tasks of `layer` that read block `block` of its input `input`: visited ascending; those from number `first` on, of
 * which there must be so many; count; lowest. */
void tessi_block_dependents(const struct tessi_layer *layer, uint32_t input, uint64_t block, tessi_visit_fn *visit,
                            void *context);
void tessi_block_some_dependents(const struct tessi_layer *layer, uint32_t input, uint64_t block, uint64_t first,
                                 uint64_t count, tessi_visit_fn *visit, void *context);
uint64_t tessi_block_dependent_count(const struct tessi_layer *layer, uint32_t input, uint64_t block);
/* Whether each block of the input is read by some task, as far as that is plain from its rules. */
bool tessi_layer_reads_all(const struct tessi_layer *layer, uint32_t input);

/* Estimated work of a task: floating-point operations (8mnk of a complex product, 2mnk of a real one) and
 * bytes read plus written; an SYNTHETIC task counts 10 operations for a nanosecond. */
struct tessi_cost {
    double flops;
    double bytes;
};
/* How long the SYNTHETIC task `index` sleeps or spins, its share of the spread included. */
uint64_t tessi_synthetic_nanoseconds(const struct tessi_layer *layer, uint64_t index);
struct tessi_cost tessi_task_cost(const struct tessi_layer *layer, uint64_t index);

/* Footprint: output block plus a window of two consecutive steps' inputs. Of a stream it is an upper
 * bound (twice the longest block along each axis, at most all blocks), so that it costs no walk. */
uint64_t tessi_task_footprint(const struct tessi_layer *layer, uint64_t index);
/* What a worker needs for a block beside its data, whoever made it: its record, its places in queues, its name. Blocks of
 * 64 KiB and more are not charged for it. */
#define TESSI_BLOCK_COST 512
#define TESSI_BLOCK_SMALL 65536
static inline uint64_t tessi_block_charge(uint64_t bytes, uint64_t cost)
{
    return bytes < TESSI_BLOCK_SMALL ? bytes + cost : bytes;
}
/* Without what comes in ahead: output block plus one step's inputs, bounded likewise. */
uint64_t tessi_task_least(const struct tessi_layer *layer, uint64_t index);

#endif
