/* What a thief would have to fetch for a task: of each input a few blocks are looked at, whatever their number.
 *
 * A block is there already if the thief made it, has a copy, or has another task that reads it: tasks of one row of a
 * product read the same row of blocks, so what another task there has brought, or lent, serves the stolen one too. What
 * the task makes counts as well, since those who read it are expected at its old place. */
#include "core/base/assert.h"
#include "core/graph/join.h"
#include "core/sched/balance/balance.h"
#include "core/sched/workers/workers.h"

#define SAMPLES 4        /* blocks of each input */
#define SMALL_BYTES 65536 /* ride along with a message */
#define SOURCE_READERS 4 /* of a block that is made from nothing: it is made for what comes later */
#define READERS_MAX 64   /* of one block, along each dimension */
#define MEMORY_BYTES_PER_NS 16.0 /* what a neighbour on the same host lends is read at the memory's rate */

struct nth { /* of what is walked */
    uint64_t left, index;
};

static void pass_one(void *context, uint64_t index)
{
    struct nth *nth = context;
    nth->index = nth->left == 0 ? index : nth->index;
    nth->left--;
}

/* Of those that a task reads, in row-major order. */
static uint64_t nth_input(const struct tessi_layer *layer, uint32_t number, uint64_t index, uint64_t nth)
{
    const struct tessi_input *input = &layer->input[number];
    if (input->rules.table != NULL) {
        return input->rules.table->columns[input->rules.table->rows[index] + nth];
    }
    if (tessi_layer_joins(layer)) {
        struct nth walk = {.left = nth};
        tessi_task_inputs(layer, number, index, pass_one, &walk);
        return walk.index;
    }
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    struct tessi_box box;
    tessi_grid_coords(&layer->grid, index, coords);
    tessi_rules_inputs(&input->rules, &input->grid, &layer->grid, coords, &box);
    for (uint32_t d = box.ndim; d-- > 0;) {
        uint64_t width = box.hi[d] - box.lo[d];
        coords[d] = box.lo[d] + nth % width;
        nth /= width;
    }
    return tessi_grid_index(&input->grid, coords);
}

static bool inside(const struct tessi_box *box, const uint64_t *coords)
{
    bool in = true;
    for (uint32_t d = 0; d < box->ndim; d++) {
        in = in && coords[d] >= box->lo[d] && coords[d] < box->hi[d];
    }
    return in;
}

/* Another task that goes along reads the block, or one beside `index` that the thief has: not all are looked at. */
static bool read_there(const struct sched_layer *layer, uint32_t number, uint64_t block, uint64_t index,
                       const struct worker *thief, const struct company *along)
{
    const struct tessi_input *input = &layer->layer->input[number];
    const struct tessi_grid *grid = &layer->layer->grid;
    uint64_t coords[TESSI_NDIM_MAX] = {0};
    struct tessi_box box;
    if (input->rules.table != NULL) {
        return false;
    }
    tessi_grid_coords(&input->grid, block, coords);
    tessi_rules_outputs(&input->rules, &input->grid, grid, coords, &box);
    for (uint32_t i = 0; i < along->count; i++) {
        tessi_grid_coords(grid, along->tasks[i], coords);
        if (inside(&box, coords)) {
            return true;
        }
    }
    tessi_grid_coords(grid, index, coords);
    bool found = false;
    for (uint32_t d = 0; d < box.ndim && !found; d++) {
        uint64_t at = coords[d];
        uint64_t from = at - box.lo[d] > READERS_MAX / 2 ? at - READERS_MAX / 2 : box.lo[d];
        uint64_t to = box.hi[d] - at > READERS_MAX / 2 ? at + READERS_MAX / 2 : box.hi[d];
        for (coords[d] = from; coords[d] < to && !found; coords[d]++) {
            const struct task_record *task =
                coords[d] == at ? NULL : record_peek(layer, tessi_grid_index(grid, coords));
            found = task != NULL && task->owner == thief->index;
        }
        coords[d] = at;
    }
    return found;
}

static bool is_there(struct tessi_sched *sched, struct sched_layer *input, uint64_t block, const struct worker *thief)
{
    const struct task_record *task = record_peek(input, block);
    return (task != NULL && task->owner == thief->index) || tessi_copies_has(sched, input, block, thief->index);
}

static uint64_t input_bytes(struct tessi_sched *sched, const struct sched_layer *layer, uint32_t number, uint64_t index,
                            const struct worker *thief, const struct company *along)
{
    struct sched_layer *input = layer->inputs[number];
    uint64_t count = tessi_task_input_count(layer->layer, number, index), bytes = 0, missing = UINT64_MAX;
    uint64_t looks = count < SAMPLES ? count : SAMPLES;
    for (uint64_t i = 0; i < looks; i++) {
        uint64_t block = nth_input(layer->layer, number, index, (2 * i + 1) * count / (2 * looks));
        if (!is_there(sched, input, block, thief)) {
            missing = block;
            bytes += tessi_layer_block_bytes(input->layer, block) * count / looks;
        }
    }
    return missing != UINT64_MAX && read_there(layer, number, missing, index, thief, along) ? 0 : bytes;
}

uint64_t tessi_moving_bytes(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index,
                            const struct worker *thief, const struct company *along)
{
    TESS_ASSERT(index < layer->tasks && (along == NULL || along->count <= LOOKS));
    uint64_t bytes = tessi_layer_block_bytes(layer->layer, index) * (is_source(layer) ? SOURCE_READERS : 1);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        bytes += layer->inputs[i] == layer ? 0 : input_bytes(sched, layer, i, index, thief, along);
    }
    return bytes;
}

double tessi_moving_ns(const struct tessi_sched *sched, const struct worker *thief, const struct worker *victim,
                       double bytes)
{
    double there_ns =
        tessi_network_ns(sched, victim->index, thief->index, bytes < 1e18 ? (uint64_t)bytes : (uint64_t)1e18);
    double least_ns = bytes / MEMORY_BYTES_PER_NS;
    return there_ns > least_ns ? there_ns : least_ns;
}

bool tessi_moving_matters(const struct sched_layer *layer, uint64_t index)
{
    double bytes = (double)tessi_layer_block_bytes(layer->layer, index);
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        bytes += (double)tessi_task_input_count(layer->layer, i, index) *
                 (double)tessi_layer_block_bytes(layer->inputs[i]->layer, 0);
    }
    return bytes > SMALL_BYTES && bytes / MEMORY_BYTES_PER_NS > layer->estimate_ns / 64;
}
