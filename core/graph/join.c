#include "core/graph/join.h"

#include <string.h>

#include "core/base/assert.h"
#include "core/graph/rechunk.h"

#define LITTLE 4 /* less than a fourth of a chunk is little of it */
#define LARGE_BYTES ((double)(UINT64_C(128) << 10)) /* smaller blocks cost more in tasks and messages than in bytes */
#define PIECES_MAX (UINT64_C(1) << 20) /* along one dimension: boundaries that we write down */

/* ——— one dimension ——— */

struct along {
    const struct tessi_axis *in, *out;
    int64_t start; /* of the output, in the input */
};

struct chunks {
    uint64_t lo, hi;
};

/* Chunks of the input that output chunk `c` takes elements of. */
static struct chunks taken(const struct along *along, uint64_t c)
{
    int64_t lo = tessi_axis_lo(along->out, c), hi = tessi_axis_hi(along->out, c);
    if (lo == hi) {
        return (struct chunks){0, 0};
    }
    return (struct chunks){tessi_axis_find(along->in, along->start + lo),
                           tessi_axis_find(along->in, along->start + hi - 1) + 1};
}

/* Elements that output chunk `c` takes of chunk `b`, one of those. */
static int64_t share(const struct along *along, uint64_t c, uint64_t b)
{
    int64_t out_lo = along->start + tessi_axis_lo(along->out, c), out_hi = along->start + tessi_axis_hi(along->out, c);
    int64_t lo = tessi_axis_lo(along->in, b), hi = tessi_axis_hi(along->in, b);
    return (hi < out_hi ? hi : out_hi) - (lo > out_lo ? lo : out_lo);
}

/* Of the chunks that `c` takes elements of, the one that it takes most of. */
static uint64_t main_chunk(const struct along *along, uint64_t c)
{
    struct chunks chunks = taken(along, c);
    uint64_t main = chunks.lo;
    bool even = along->in->bounds == NULL; /* those between the first and the last are equal */
    for (uint64_t b = chunks.lo + 1; b < chunks.hi; b = even && b < chunks.hi - 1 ? chunks.hi - 1 : b + 1) {
        main = share(along, c, b) > share(along, c, main) ? b : main;
    }
    return main;
}

/* Whether what `c` takes of chunk `b` is worth the whole chunk. */
static bool is_much(const struct along *along, uint64_t c, uint64_t b)
{
    int64_t length = tessi_axis_hi(along->in, b) - tessi_axis_lo(along->in, b);
    return share(along, c, b) > (length - 1) / LITTLE || main_chunk(along, c) == b;
}

/* Only the first and the last of the chunks may be taken in part, so those that are read whole follow each other. */
static struct chunks whole_chunks(const struct along *along, uint64_t c)
{
    struct chunks chunks = taken(along, c);
    if (chunks.hi - chunks.lo > 1) {
        bool first = is_much(along, c, chunks.lo), last = is_much(along, c, chunks.hi - 1);
        chunks.lo += !first;
        chunks.hi -= !last;
    }
    return chunks;
}

/* ——— a layer ——— */

static struct along along_of(const struct tessi_layer *layer, uint32_t d)
{
    return (struct along){&layer->input[TESSI_JOIN_BLOCKS].grid.axis[d], &layer->grid.axis[d],
                          layer->as.regrid.start[d]};
}

/* Blocks that the task takes elements of, and those that it reads whole. */
static void boxes(const struct tessi_layer *layer, uint64_t index, struct tessi_box *all, struct tessi_box *whole)
{
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    tessi_grid_coords(&layer->grid, index, coords);
    *all = *whole = (struct tessi_box){.ndim = layer->grid.ndim};
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        struct along along = along_of(layer, d);
        struct chunks chunks = taken(&along, coords[d]);
        all->lo[d] = chunks.lo;
        all->hi[d] = chunks.hi;
        chunks = whole_chunks(&along, coords[d]);
        whole->lo[d] = chunks.lo;
        whole->hi[d] = chunks.hi;
    }
}

static bool is_inside(const struct tessi_box *box, const uint64_t *coords)
{
    bool inside = true;
    for (uint32_t d = 0; d < box->ndim; d++) {
        inside = inside && coords[d] >= box->lo[d] && coords[d] < box->hi[d];
    }
    return inside;
}

/* The piece of the block at `block` for the task. */
static uint64_t piece_index(const struct tessi_layer *layer, uint64_t index, const uint64_t *block)
{
    const struct tessi_grid *pieces = &layer->input[TESSI_JOIN_PIECES].grid;
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    tessi_grid_coords(&layer->grid, index, coords);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        struct along along = along_of(layer, d);
        int64_t own = tessi_axis_lo(along.out, coords[d]), lo = tessi_axis_lo(along.in, block[d]) - along.start;
        coords[d] = tessi_axis_find(&pieces->axis[d], lo > own ? lo : own);
    }
    return tessi_grid_index(pieces, coords);
}

uint64_t tessi_join_steps(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_box all, whole;
    boxes(layer, index, &all, &whole);
    return tessi_box_volume(&all);
}

struct tessi_block_ref tessi_join_step(const struct tessi_layer *layer, uint64_t index, uint64_t step)
{
    struct tessi_box all, whole;
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    boxes(layer, index, &all, &whole);
    for (uint32_t d = all.ndim; d-- > 0;) {
        uint64_t width = all.hi[d] - all.lo[d];
        coords[d] = all.lo[d] + step % width;
        step /= width;
    }
    TESS_ASSERT(step == 0);
    if (is_inside(&whole, coords)) {
        return (struct tessi_block_ref){TESSI_JOIN_BLOCKS,
                                        tessi_grid_index(&layer->input[TESSI_JOIN_BLOCKS].grid, coords)};
    }
    return (struct tessi_block_ref){TESSI_JOIN_PIECES, piece_index(layer, index, coords)};
}

uint64_t tessi_join_main(const struct tessi_layer *layer, uint64_t index)
{
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    tessi_grid_coords(&layer->grid, index, coords);
    for (uint32_t d = 0; d < layer->grid.ndim; d++) {
        struct along along = along_of(layer, d);
        if (tessi_axis_lo(along.out, coords[d]) == tessi_axis_hi(along.out, coords[d])) {
            return UINT64_MAX;
        }
        coords[d] = main_chunk(&along, coords[d]);
    }
    return tessi_grid_index(&layer->input[TESSI_JOIN_BLOCKS].grid, coords);
}

void tessi_join_blocks(const struct tessi_layer *layer, uint64_t index, struct tessi_box *box)
{
    struct tessi_box all;
    boxes(layer, index, &all, box);
}

void tessi_join_pieces(const struct tessi_layer *layer, uint64_t index, tessi_visit_fn *visit, void *context)
{
    struct tessi_box all, whole;
    uint64_t coords[TESSI_NDIM_MAX];
    boxes(layer, index, &all, &whole);
    if (tessi_box_volume(&all) == tessi_box_volume(&whole)) {
        return;
    }
    memcpy(coords, all.lo, sizeof coords);
    do {
        if (!is_inside(&whole, coords)) {
            visit(context, piece_index(layer, index, coords));
        }
    } while (tessi_box_next(&all, coords));
}

uint64_t tessi_join_piece_count(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_box all, whole;
    boxes(layer, index, &all, &whole);
    return tessi_box_volume(&all) - tessi_box_volume(&whole);
}

uint64_t tessi_join_piece_elements(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_box all, whole;
    uint64_t coords[TESSI_NDIM_MAX] = {0}, of_blocks = 1;
    boxes(layer, index, &all, &whole);
    if (tessi_box_volume(&all) == tessi_box_volume(&whole)) {
        return 0;
    }
    tessi_grid_coords(&layer->grid, index, coords);
    for (uint32_t d = 0; d < all.ndim; d++) {
        struct along along = along_of(layer, d);
        int64_t first = share(&along, coords[d], all.lo[d]), last = share(&along, coords[d], all.hi[d] - 1);
        int64_t elements = tessi_axis_hi(along.out, coords[d]) - tessi_axis_lo(along.out, coords[d]);
        elements -= whole.lo[d] > all.lo[d] ? first : 0;
        elements -= whole.hi[d] < all.hi[d] ? last : 0;
        of_blocks *= (uint64_t)elements;
    }
    return tessi_grid_block_elements(&layer->grid, index) - of_blocks;
}

/* Output chunks that read chunk `b` whole: of those that take elements of it only the first and the last may take
 * elements of others too. */
static struct chunks whole_readers(const struct along *along, uint64_t b)
{
    int64_t lo = tessi_axis_lo(along->in, b) - along->start, hi = tessi_axis_hi(along->in, b) - along->start;
    lo = lo > 0 ? lo : 0;
    hi = hi < along->out->extent ? hi : along->out->extent;
    if (lo >= hi) {
        return (struct chunks){0, 0};
    }
    struct chunks readers = {tessi_axis_find(along->out, lo), tessi_axis_find(along->out, hi - 1) + 1};
    bool one = readers.hi - readers.lo == 1;
    bool first = is_much(along, readers.lo, b), last = one || is_much(along, readers.hi - 1, b);
    readers.lo += !first;
    readers.hi -= !last;
    return readers;
}

void tessi_join_readers(const struct tessi_layer *layer, uint32_t input, uint64_t block, struct tessi_box *box)
{
    const struct tessi_grid *grid = &layer->input[input].grid;
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    bool whole = true, any = true;
    tessi_grid_coords(grid, block, coords);
    *box = (struct tessi_box){.ndim = grid->ndim};
    for (uint32_t d = 0; d < grid->ndim; d++) {
        struct along along = along_of(layer, d);
        struct chunks readers = {0, 0};
        if (input == TESSI_JOIN_BLOCKS) {
            readers = whole_readers(&along, coords[d]);
        } else if (along.out->extent > 0) {
            int64_t at = tessi_axis_lo(&grid->axis[d], coords[d]);
            readers.lo = tessi_axis_find(along.out, at);
            readers.hi = readers.lo + 1;
            whole = whole && is_much(&along, readers.lo, tessi_axis_find(along.in, along.start + at));
        }
        any = any && readers.lo < readers.hi;
        box->lo[d] = readers.lo;
        box->hi[d] = readers.hi;
    }
    if (!any || (input == TESSI_JOIN_PIECES && whole)) {
        *box = (struct tessi_box){.ndim = grid->ndim};
    }
}

/* ——— whether to ——— */

/* Whether some output chunk takes little of some chunk, beside what it takes of another. */
static bool takes_little(const struct along *along)
{
    bool little = false;
    for (uint64_t c = 0; c < along->out->count && !little && along->out->extent > 0; c++) {
        struct chunks all = taken(along, c), whole = whole_chunks(along, c);
        little = all.lo < whole.lo || all.hi > whole.hi;
    }
    return little;
}

bool tessi_join_pays(const struct tessi_grid *from, const struct tessi_grid *to, size_t element_bytes,
                     struct tessi_grid *pieces)
{
    double bytes = (double)element_bytes, blocks = 1;
    bool little = false, few = true;
    for (uint32_t d = 0; d < from->ndim; d++) {
        const struct tessi_axis *in = &from->axis[d], *out = &to->axis[d];
        bytes *= (double)in->extent / (double)in->count;
        blocks *= tessi_axis_equal(in, out) ? (double)in->count : (double)(in->count + out->count);
        few = few && (tessi_axis_equal(in, out) || in->count + out->count <= PIECES_MAX);
    }
    if (bytes < LARGE_BYTES || !few || blocks > (double)TESSI_BLOCKS_MAX) {
        return false;
    }
    for (uint32_t d = 0; d < from->ndim && !little; d++) {
        struct along along = {&from->axis[d], &to->axis[d], 0};
        little = !tessi_axis_equal(along.in, along.out) && takes_little(&along);
    }
    if (little) {
        tessi_grid_refine(from, to, pieces);
    }
    return little;
}

/* Whether `pieces` has the boundaries of both, and no others. */
static bool refines(const struct along *along, const struct tessi_axis *pieces)
{
    int64_t extent = along->out->extent, at = 0;
    uint64_t p = 0, c = 0;
    bool same = along->start == 0 && tessi_axis_equal(along->in, along->out);
    if (same || pieces->count > PIECES_MAX || pieces->extent != extent || extent == 0) {
        return pieces->extent == extent && (extent == 0 || (same && tessi_axis_equal(pieces, along->out)));
    }
    for (uint64_t b = tessi_axis_find(along->in, along->start); at < extent && p < pieces->count; p++) {
        int64_t in = tessi_axis_hi(along->in, b) - along->start, out = tessi_axis_hi(along->out, c);
        at = in < out ? in : out;
        if (tessi_axis_hi(pieces, p) != at) {
            return false;
        }
        b += in == at;
        c += out == at;
    }
    return at == extent;
}

bool tessi_join_check(const struct tessi_layer *layer)
{
    const struct tessi_input *pieces = &layer->input[TESSI_JOIN_PIECES];
    bool good = layer->grid.ndim > 0 && pieces->grid.ndim == layer->grid.ndim && pieces->dtype == layer->dtype;
    for (uint32_t d = 0; good && d < layer->grid.ndim; d++) {
        const struct tessi_rule *rule = &pieces->rules.rule[d];
        struct along along = along_of(layer, d);
        good = rule->kind == TESSI_RULE_SLICE && rule->dim == d && rule->start == 0 && rule->step == 1 &&
               layer->as.regrid.step[d] == 1 && refines(&along, &pieces->grid.axis[d]);
    }
    return good;
}

bool tessi_join_agrees(const struct tessi_layer *layer, const struct tessi_layer *pieces)
{
    bool agrees = pieces->op == TESSI_OP_REGRID && pieces->ninputs == 1 &&
                  pieces->reads[0] == layer->reads[TESSI_JOIN_BLOCKS];
    for (uint32_t d = 0; agrees && d < layer->grid.ndim; d++) {
        agrees = pieces->as.regrid.start[d] == layer->as.regrid.start[d] && pieces->as.regrid.step[d] == 1;
    }
    return agrees;
}
