/* Whether a submission can be taken in: it agrees with what is there, it can be computed by the workers that are there,
 * and what the scheduler has to know of it fits into its memory. Nothing is allocated for what is refused.
 *
 * Tasks that nobody has touched cost nothing, so what counts are the descriptions, tasks that are placed one by one, and
 * blocks that will all be held: each has a record then. */
#include <inttypes.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/map.h"
#include "core/sched/order/order.h"
#include "core/sched/submission/submission.h"

#define READS_MAX (UINT64_C(1) << 20)  /* blocks that one task may read: some of its steps look at all of them */
#define PINNED_MAX (UINT64_C(1) << 21) /* tasks of one layer that each have their worker: they are placed one by one */
#define CLOSE_LOOKS_MAX (UINT64_C(1) << 22) /* layers times those wanted, for a closer look at where they find room */
#define ORDER_MAX (BACKLOG_FRESH >> 1)

struct incoming {
    struct tessi_sched *sched;
    struct session *session;
    const struct tessi_sched_event *event;
    struct tessi_map by_id; /* layers looked at → position */
    uint64_t *readers;      /* tasks that read each of them; owned */
    bool *wanted;           /* owned */
    uint64_t most_tasks;
};

/* What the client may name in a submission: what it has asked for and not released. Other layers live only as long as
 * those need them, so it cannot know whether they are there. */
static struct sched_layer *layer_nameable(struct session *session, uint32_t id)
{
    struct sched_layer *layer = tessi_find_layer(session, id);
    return layer != NULL && layer->handle ? layer : NULL;
}

/* Of a layer that nobody can name any more: its client has cancelled it, or there was no room for what it waits for. */
static enum tessi_status given_up_status(const struct sched_layer *layer)
{
    return layer->failure == TESSI_TOO_BIG ? TESSI_TOO_BIG : TESSI_CANCELLED;
}

static const char *given_up_word(const struct sched_layer *layer)
{
    return layer->failure == TESSI_TOO_BIG ? "given up for want of room" : "cancelled";
}

/* A block counts its readers in 32 bits. Those of layers that are here are counted with them. */
static enum tessi_status check_readers(const struct tessi_layer *layer, uint64_t *readers, struct tessi_error *error)
{
    char text[512];
    *readers += tessi_layer_tasks(layer);
    return *readers <= UINT32_MAX
               ? TESSI_OK
               : tessi_fail(error, TESSI_TOO_BIG,
                            "%" PRIu64 " tasks would read one array, some of them for %s %s: use larger chunks",
                            *readers, tessi_op_row(layer->op)->name,
                            tessi_grid_format(&layer->grid, text, sizeof text));
}

static enum tessi_status check_input(struct incoming *in, const struct tessi_layer *layer, uint32_t number,
                                     struct tessi_error *error)
{
    const struct tessi_input *slot = &layer->input[number];
    uint32_t id = layer->reads[number];
    struct sched_layer *known = layer_nameable(in->session, id);
    uint32_t position = known == NULL ? tessi_map_get(&in->by_id, id_key(id)) : TESSI_MAP_NONE;
    if (known != NULL && known->given_up) {
        return tessi_fail(error, given_up_status(known), "layer %u, which layer %u reads, was %s", known->layer->id,
                          layer->id, given_up_word(known));
    }
    const struct tessi_layer *input = known != NULL                ? known->layer
                                      : id == layer->id            ? layer
                                      : position != TESSI_MAP_NONE ? in->event->layers[position]
                                                                   : NULL;
    if (input == NULL || input->dtype != slot->dtype || !tessi_grid_equal(&input->grid, &slot->grid)) {
        return tessi_fail(error, TESSI_INVALID,
                          "layer %u reads layer %u, which is not held under that name or differs in shape", layer->id,
                          id);
    }
    char text[512];
    uint64_t width = tessi_rules_width(&slot->rules, &slot->grid, &layer->grid);
    if (width > READS_MAX) {
        return tessi_fail(error, TESSI_TOO_BIG, "a task of %s would read %" PRIu64 " blocks of %s: use larger chunks",
                          tessi_op_row(layer->op)->name, width, tessi_grid_format(&slot->grid, text, sizeof text));
    }
    uint64_t of_known =
        known != NULL ? known->reader_tasks : 0; /* the same one twice in a submission: nearly so many */
    return check_readers(layer, position != TESSI_MAP_NONE ? &in->readers[position] : &of_known, error);
}

/* Descriptions that came from outside must agree with the layers that they name. */
static enum tessi_status check_layer(struct incoming *in, uint32_t position, struct tessi_error *error)
{
    const struct tessi_layer *layer = in->event->layers[position];
    char text[512];
    if (layer->session != in->session->id || tessi_find_layer(in->session, layer->id) != NULL) {
        return tessi_fail(error, TESSI_INVALID, "layer %u is not this session's, or was submitted before", layer->id);
    }
    if (tessi_map_get(&in->by_id, id_key(layer->id)) != TESSI_MAP_NONE) {
        return tessi_fail(error, TESSI_INVALID, "layer %u is twice in one submission", layer->id);
    }
    for (uint32_t i = 0; i < layer->ninputs; i++) {
        enum tessi_status status = check_input(in, layer, i, error);
        if (status != TESSI_OK) {
            return status;
        }
    }
    uint64_t tasks = tessi_layer_tasks(layer);
    if (layer->op == TESSI_OP_SYNTHETIC && layer->as.synthetic.pin > 0 && tasks > PINNED_MAX) {
        return tessi_fail(error, TESSI_TOO_BIG, "%s has too many blocks to give each its place: use larger chunks",
                          tessi_grid_format(&layer->grid, text, sizeof text));
    }
    in->most_tasks = tasks > in->most_tasks ? tasks : in->most_tasks;
    tessi_map_put(&in->by_id, id_key(layer->id), position);
    return TESSI_OK;
}

/* ——— what it takes ——— */

static uint64_t product(uint64_t a, uint64_t b)
{
    uint64_t result;
    return __builtin_mul_overflow(a, b, &result) ? UINT64_MAX : result;
}

/* Clients may want more than can be counted. */
static uint64_t sum_of(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* The largest part is named: that is where a typo is. */
static enum tessi_status check_memory(const struct incoming *in, struct tessi_error *error)
{
    uint64_t used = tessi_memory_used(in->sched), needed = 0, most = 0;
    const struct tessi_layer *largest = NULL;
    for (size_t i = 0; i < in->event->layer_count + in->event->id_count; i++) {
        bool given = i < in->event->layer_count;
        const struct sched_layer *known =
            given ? NULL : tessi_find_layer(in->session, in->event->ids[i - in->event->layer_count]);
        const struct tessi_layer *layer = given ? in->event->layers[i] : known != NULL ? known->layer : NULL;
        uint64_t bytes = given                             ? tessi_memory_needs(layer, in->wanted[i])
                         : known != NULL && !known->wanted ? known->tasks * RECORD_BYTES
                                                           : 0;
        needed = sum_of(needed, bytes);
        largest = bytes > most ? layer : largest;
        most = bytes > most ? bytes : most;
    }
    uint64_t room = in->sched->config.memory_bytes > used ? in->sched->config.memory_bytes - used : 0;
    if (in->sched->config.memory_bytes == 0 || needed <= room || largest == NULL) {
        return TESSI_OK;
    }
    char text[512], label[TESSI_LAYER_LABEL_MAX];
    return tessi_fail(error, TESSI_TOO_BIG,
                      "%s %s has %" PRIu64
                      " blocks, and the scheduler would need %.3f GB to know of what is asked for; of "
                      "its %.3f GB, %.3f are in use: use larger chunks, or give the scheduler more --memory",
                      tessi_layer_label(largest, label, sizeof label),
                      tessi_grid_format(&largest->grid, text, sizeof text), tessi_layer_tasks(largest),
                      (double)needed / 1e9, (double)in->sched->config.memory_bytes / 1e9, (double)used / 1e9);
}

/* ——— whether workers can do it ——— */

/* What cannot fit is refused before it starts. With no worker there is nothing to compare with. */
static enum tessi_status check_fit(const struct incoming *in, struct tessi_error *error)
{
    const struct tessi_sched *sched = in->sched;
    const struct tessi_sched_event *event = in->event;
    uint64_t room = 0, largest = 0;
    size_t staying = 0;
    for (size_t w = 0; w < sched->worker_count; w++) {
        const struct worker *worker = sched->workers[w];
        if (stays(worker)) {
            staying++;
            room += worker->info.memory_bytes + worker->info.spill_bytes;
            largest = worker->info.memory_bytes > largest ? worker->info.memory_bytes : largest;
        }
    }
    if (staying == 0) {
        return TESSI_OK;
    }
    uint64_t held = 0, most = 0;
    for (size_t s = 0; s < sched->session_count; s++) {
        held = sum_of(held, sched->sessions[s] != NULL ? sched->sessions[s]->wanted_bytes : 0);
    }
    for (size_t i = 0; i < event->layer_count; i++) {
        const struct tessi_layer *layer = event->layers[i];
        uint64_t footprint = tessi_task_footprint(layer, tessi_held_largest_task(layer));
        if (footprint > largest) {
            char label[TESSI_LAYER_LABEL_MAX];
            return tessi_fail(
                error, TESSI_TOO_BIG,
                "a task of %s needs %.2f GB at once and the largest worker has %.2f GB: "
                "use smaller chunks or give a worker more memory (tessera worker --memory, or memory_bytes "
                "of tess_session_options)",
                tessi_layer_label(layer, label, sizeof label), (double)footprint / 1e9, (double)largest / 1e9);
        }
        most = footprint > most ? footprint : most;
        held = sum_of(held, in->wanted[i] ? tessi_layer_bytes(layer) : 0);
    }
    for (size_t w = 0; w < event->id_count; w++) {
        struct sched_layer *known = tessi_find_layer(in->session, event->ids[w]);
        held = sum_of(held, known != NULL && !known->wanted ? tessi_layer_bytes(known->layer) : 0);
    }
    if (held > room) {
        return tessi_fail(error, TESSI_TOO_BIG,
                          "the results to be held take %.2f GB and the workers have %.2f GB of memory and spill "
                          "space: add workers, or give them more memory (tessera worker --memory, or memory_bytes of "
                          "tess_session_options) or a larger disk (--spill, or spill_dir)",
                          (double)held / 1e9, (double)room / 1e9);
    }
    enum tessi_status status = tessi_fit_check_small_blocks(sched, in->session, event, in->wanted, error);
    if (status != TESSI_OK) {
        return status;
    }
    bool ample = held <= room / 4 && most <= room / 4; /* seldom is it worth while to look closer */
    bool many = product(event->layer_count, event->id_count) > CLOSE_LOOKS_MAX;
    return ample || many ? TESSI_OK : tessi_fit_check_places(sched, in->session, event, error);
}

static enum tessi_status check(struct incoming *in, struct tessi_error *error)
{
    enum tessi_status status = TESSI_OK;
    for (uint32_t i = 0; i < in->event->layer_count && status == TESSI_OK; i++) {
        status = check_layer(in, i, error);
    }
    for (size_t w = 0; w < in->event->id_count && status == TESSI_OK; w++) {
        uint32_t id = in->event->ids[w], position = tessi_map_get(&in->by_id, id_key(id));
        const struct sched_layer *known = layer_nameable(in->session, id);
        if (known != NULL && known->given_up) {
            status = tessi_fail(error, given_up_status(known), "layer %u was %s", id, given_up_word(known));
        } else if (position != TESSI_MAP_NONE) {
            in->wanted[position] = true;
        } else if (known == NULL) {
            status = tessi_fail(error, TESSI_INVALID, "layer %u is asked for and does not exist", id);
        }
    }
    if (status == TESSI_OK && product(in->most_tasks + 1, in->event->layer_count) > ORDER_MAX - in->sched->order_next) {
        status =
            tessi_fail(error, TESSI_TOO_BIG,
                       "more blocks than the scheduler can count have been submitted since it began: start it again");
    }
    status = status == TESSI_OK ? check_memory(in, error) : status;
    return status == TESSI_OK ? check_fit(in, error) : status;
}

enum tessi_status tessi_admit(struct tessi_sched *sched, struct session *session, const struct tessi_sched_event *event,
                              struct tessi_error *error)
{
    TESS_ASSERT(event->kind == TESSI_SCHED_SUBMIT && !session->closing);
    struct incoming in = {.sched = sched, .session = session, .event = event};
    in.readers = tessi_zalloc(event->layer_count * sizeof *in.readers);
    in.wanted = tessi_zalloc(event->layer_count * sizeof *in.wanted);
    tessi_map_init(&in.by_id);
    enum tessi_status status = check(&in, error);
    tessi_map_fini(&in.by_id);
    tessi_free(in.readers);
    tessi_free(in.wanted);
    return status;
}
