/* Index maps: which blocks of an input a task reads, and which tasks read a block.
 *
 * A map has one rule for each dimension of the input: an interval of chunks of that
 * dimension as a function of the output block's coordinates. So the inputs of a task are a
 * box, and, because every rule is monotone, the dependents of a block are a box too; both
 * are computed, never stored. Irregular graphs use an explicit table instead. */
#ifndef TESSI_GRAPH_MAP_H
#define TESSI_GRAPH_MAP_H

#include "core/array/shape.h"

enum tessi_rule_kind {
    TESSI_RULE_SAME = 0,    /* chunk = out[dim] */
    TESSI_RULE_FIXED = 1,   /* chunk = value: broadcast along a dimension of extent 1 */
    TESSI_RULE_ALL = 2,     /* every chunk: a contracted or fully reduced dimension */
    TESSI_RULE_GROUP = 3,   /* chunks [out[dim]·value, +value): one level of a tree */
    TESSI_RULE_SLICE = 4,   /* the chunks with elements start + step·e for e in out chunk out[dim] */
    TESSI_RULE_SEGMENT = 5, /* the chunks with elements [out[dim]·value, +value): a segment of split k */
    TESSI_RULE_OFFSET = 6,  /* chunk = out[dim] + value, none when outside: triangular spaces */
};

struct tessi_rule {
    enum tessi_rule_kind kind;
    uint32_t dim;  /* output dimension (SAME, GROUP, SLICE, SEGMENT, OFFSET) */
    int64_t value; /* FIXED chunk; GROUP fan-in ≥ 1; SEGMENT length ≥ 1; OFFSET signed */
    int64_t start; /* SLICE */
    int64_t step;  /* SLICE ≥ 1 */
};

/* Compressed rows of an explicit map: the inputs of task t are columns[rows[t]] up to
 * columns[rows[t + 1]], ascending within a row. The inverse is built when it is first asked for. Half the memory of
 * 64-bit numbers is half the cache misses, and no checked table needs more. */
struct tessi_table {
    uint64_t tasks;
    uint32_t *rows;    /* tasks + 1, owned */
    uint32_t *columns; /* rows[tasks], owned */
    uint64_t blocks;            /* of the input */
    uint32_t *inverse_rows;     /* blocks + 1, owned, NULL until built */
    uint32_t *inverse_columns;  /* owned */
};

struct tessi_map_rules { /* "map" alone is the hash map of core/base */
    uint32_t ndim; /* of the input */
    struct tessi_rule rule[TESSI_NDIM_MAX];
    struct tessi_table *table; /* explicit map when not NULL (rules unused), owned */
};

#define TESSI_TABLE_BLOCKS_MAX (UINT64_C(1) << 24) /* blocks of an input that has an explicit map, and its tasks */

/* Copies `rows` (tasks + 1) and `columns` (rows[tasks], maybe NULL when there are none). Their lengths are
 * the caller's promise; their contents are checked by tessi_rules_check. */
struct tessi_table *tessi_table_create(uint64_t tasks, uint64_t blocks, const uint32_t *rows, const uint32_t *columns);
void tessi_table_destroy(struct tessi_table *table); /* NULL is allowed */
/* Builds inverse_rows and inverse_columns unless they are there; not safe from two threads at once. */
void tessi_table_invert(struct tessi_table *table);

void tessi_rules_copy(struct tessi_map_rules *to, const struct tessi_map_rules *from);
void tessi_rules_fini(struct tessi_map_rules *rules);
/* The same rules; false where one of them is a table. */
bool tessi_rules_equal(const struct tessi_map_rules *a, const struct tessi_map_rules *b);

/* out block coordinates → box of input chunks (empty: some lo == hi). Rule maps only. */
void tessi_rules_inputs(const struct tessi_map_rules *rules, const struct tessi_grid *in, const struct tessi_grid *out,
                        const uint64_t *out_coords, struct tessi_box *box);

/* input block coordinates → box of output chunks that read it (maybe empty). Rule maps only. */
void tessi_rules_outputs(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                         const struct tessi_grid *out, const uint64_t *in_coords, struct tessi_box *box);

/* The lowest output chunk of each dimension that reads the input block, or a later one along some
 * dimension: monotone in every coordinate, also where nobody reads the block itself. False when every output
 * block reads earlier ones only. Rule maps only. */
bool tessi_rules_first_output(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                              const struct tessi_grid *out, const uint64_t *in_coords, uint64_t *out_coords);

/* The same along dimension `dim` of the input alone: the lowest output chunk of the rule's dimension that reads the chunk
 * or a later one (0 where the rule follows none); UINT64_MAX: none does. */
uint64_t tessi_rules_first_along(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                                 const struct tessi_grid *out, uint32_t dim, uint64_t chunk);
/* Whether chunks of dimension `dim` are read by chunks of one dimension of the output, the rule's. */
bool tessi_rules_follow(const struct tessi_map_rules *rules, uint32_t dim);

/* An upper bound, for checked rules or tables, on the blocks that any one task reads; UINT64_MAX at most. */
uint64_t tessi_rules_width(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                           const struct tessi_grid *out);

/* Whether each block of the input is read by some task, as far as that is plain from the rules; false for tables. */
bool tessi_rules_read_all(const struct tessi_map_rules *rules, const struct tessi_grid *in, const struct tessi_grid *out);

/* Check rules that came from outside against both grids, which are checked already. SAME, GROUP and
 * SEGMENT must stay inside the input for every output chunk, SLICE for every output element. */
enum tessi_status tessi_rules_check(const struct tessi_map_rules *rules, const struct tessi_grid *in,
                                    const struct tessi_grid *out, struct tessi_error *error);

#endif
