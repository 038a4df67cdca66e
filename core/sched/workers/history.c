/* Run times of tasks by kind: the median of the last few, robust against outliers; from flops and
 * bytes until there is one. A kind is an operation, a dtype, the size of the work and the kind of processor.
 *
 * A history outlives its scheduler as bytes, which the caller keeps in a file:
 *     header, a name for each kind of processor, the entries, a digest of all before it
 * in little-endian memory. They may have been damaged or made up, so they are read with bounds. */
#include <math.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/assert.h"
#include "core/base/digest.h"
#include "core/base/text.h"
#include "core/sched/workers/workers.h"

#define ESTIMATE_INTERVAL_NS INT64_C(100000000)
#define LAYERS_FEW 256
#define LONG_NS 1e6 /* far more than messages take, so that it pays to spread tasks that read each other */
#define SAMPLES (sizeof((struct history_entry *)0)->samples / sizeof(double))

#define GUESS_GFLOPS 40.0 /* of products, one slot's */
#define DEVICE_LAUNCH_NS 10000.0
#define KINDS_MAX 4096    /* of tasks; beyond it those that have not come up for long are forgotten */
#define PROCESSORS_MAX 64 /* further kinds count as the last one */

/* On the first kind of processor: see `on_processor`. */
static struct tessi_map_key kind_of(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_cost cost = tessi_task_cost(layer, index);
    uint64_t bits[2];
    memcpy(&bits[0], &cost.flops, sizeof bits[0]);
    memcpy(&bits[1], &cost.bytes, sizeof bits[1]);
    uint64_t high = (uint64_t)layer->op << 8 | (uint64_t)layer->dtype;
    if (layer->op == TESSI_OP_SYNTHETIC) {
        bits[1] ^= layer->as.synthetic.nanoseconds;
    }
    /* Exponent and the top of the mantissa: sizes within some percent are one kind. */
    return (struct tessi_map_key){high, (bits[0] >> 48) << 32 | bits[1] >> 48};
}

static struct tessi_map_key on_processor(struct tessi_map_key kind, uint32_t processor)
{
    return (struct tessi_map_key){kind.high | (uint64_t)processor << 32, kind.low};
}

double tessi_history_guess(const struct tessi_layer *layer, uint64_t index)
{
    struct tessi_cost cost = tessi_task_cost(layer, index);
    double flops_per_ns = tessi_op_row(layer->op)->limit == TESSI_LIMIT_FLOPS ? GUESS_GFLOPS : 1;
    double time = 2000 + cost.flops / flops_per_ns + cost.bytes / 4;
    return layer->op == TESSI_OP_SYNTHETIC ? time + (double)layer->as.synthetic.nanoseconds : time;
}

/* The sample below which this part of all lie. */
static double quantile(const struct history_entry *entry, double part)
{
    TESS_ASSERT(entry->count > 0 && part < 1);
    double sorted[SAMPLES];
    for (uint32_t i = 0; i < entry->count; i++) { /* a few numbers: by insertion */
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > entry->samples[i]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = entry->samples[i];
    }
    return sorted[(uint32_t)(part * entry->count)];
}

static double median(const struct history_entry *entry)
{
    return quantile(entry, 0.5);
}

uint32_t tessi_history_processor(struct tessi_sched *sched, const char *name)
{
    uint32_t known = 0;
    while (known < sched->processor_count && strcmp(sched->processors[known].name, name) != 0) {
        known++;
    }
    if (known == PROCESSORS_MAX) {
        return known - 1;
    }
    if (known == sched->processor_count) {
        tessi_grow(&sched->processors, &sched->processor_capacity, (size_t)known + 1, sizeof *sched->processors);
        sched->processors[known] = (struct processor){.workers = 0};
        (void)tessi_text_format(sched->processors[known].name, sizeof sched->processors[known].name, "%s", name);
        sched->processors[known].device = strncmp(name, HISTORY_DEVICE, strlen(HISTORY_DEVICE)) == 0;
        sched->processor_count++;
    }
    return known;
}

/* What is known of such tasks on the kind of processor that estimates are made for: the first one at hand that has run
 * some. What other kinds take is told by their workers' slowness. NONE: nothing. */
static uint32_t reference(const struct tessi_sched *sched, struct tessi_map_key task, uint32_t kind)
{
    for (uint32_t p = 0; p < sched->processor_count; p++) {
        const struct processor *processor = &sched->processors[p];
        if ((processor->workers > 0 || sched->alive_count == 0) && processor->device == (kind > 0)) {
            uint32_t handle = tessi_map_get(&sched->history_by_kind, on_processor(task, p));
            if (handle != TESSI_MAP_NONE) {
                return handle;
            }
        }
    }
    return TESSI_MAP_NONE;
}

double tessi_history_estimate(struct tessi_sched *sched, const struct tessi_layer *layer, uint64_t index, uint32_t kind)
{
    TESS_ASSERT(kind < 2);
    uint32_t handle = reference(sched, kind_of(layer, index), kind);
    double guess_ns = tessi_history_guess(layer, index);
    if (kind > 0 && sched->device_gflops > 0) {
        guess_ns = DEVICE_LAUNCH_NS + guess_ns * GUESS_GFLOPS / sched->device_gflops;
    }
    return handle == TESSI_MAP_NONE ? guess_ns : median(&sched->history[handle]);
}

double tessi_history_scatter(const struct tessi_sched *sched, const struct sched_layer *layer)
{
    uint32_t handle = reference(sched, kind_of(layer->layer, 0), layer->kind);
    const struct history_entry *entry = handle == TESSI_MAP_NONE ? NULL : &sched->history[handle];
    if (entry == NULL || entry->count < SAMPLES / 2) {
        return 1;
    }
    return (quantile(entry, 0.75) - quantile(entry, 0.25)) / median(entry);
}

bool tessi_history_knows(const struct tessi_sched *sched, const struct tessi_layer *layer, uint32_t kind)
{
    return reference(sched, kind_of(layer, 0), kind) != TESSI_MAP_NONE;
}

/* The estimate of a layer is one number for all its tasks; queues are kept in step with it. */
void tessi_history_set_estimate(struct tessi_sched *sched, struct sched_layer *layer, double estimate_ns)
{
    TESS_ASSERT(estimate_ns >= 0);
    double change = estimate_ns - layer->estimate_ns;
    if (estimate_ns >= LONG_NS && layer->estimate_ns < LONG_NS) {
        tessi_work_push(&sched->long_layers, layer, 0);
    }
    layer->estimate_ns = estimate_ns;
    for (size_t w = 0; w < layer->on_capacity && w < sched->worker_count; w++) {
        struct worker *worker = sched->workers[w];
        if (layer->on[w].assigned + layer->on[w].backlog > 0) {
            tessi_hungry_mark(sched, worker); /* its window may have room now */
        }
        struct load *load = &worker->load[kind_at(worker, layer->lane)];
        load->queue_ns += change * (double)layer->on[w].assigned;
        load->backlog_ns += change * (double)layer->on[w].backlog;
        load->demanding_ns += layer->lane->demand.count > 0 ? change * (double)layer->on[w].backlog : 0;
    }
}

/* An entry for a kind that has none: a new one, or that of a kind that has not come up since the hand last passed. */
static uint32_t entry_make(struct tessi_sched *sched, struct tessi_map_key kind)
{
    uint32_t handle;
    if (sched->history_count < KINDS_MAX) {
        handle = (uint32_t)sched->history_count++;
        tessi_grow(&sched->history, &sched->history_capacity, sched->history_count, sizeof *sched->history);
    } else {
        while (sched->history[sched->history_hand].used) {
            sched->history[sched->history_hand].used = false;
            sched->history_hand = (sched->history_hand + 1) % KINDS_MAX;
        }
        handle = sched->history_hand;
        (void)tessi_map_remove(&sched->history_by_kind, sched->history[handle].kind);
    }
    sched->history[handle] = (struct history_entry){.kind = kind};
    tessi_map_put(&sched->history_by_kind, kind, handle);
    return handle;
}

static bool differs(double a, double b, double factor)
{
    return a > factor * b || b > factor * a;
}

/* A change costs a look at every worker, so of times that scatter not every one is a reason. */
static bool worth_changing(const struct tessi_sched *sched, const struct sched_layer *layer, double estimate_ns)
{
    bool lately = layer->estimated_ns > 0 && sched->now_ns - layer->estimated_ns < ESTIMATE_INTERVAL_NS;
    return differs(estimate_ns, layer->estimate_ns, lately ? 3 : 1.1);
}

/* Layers of the same kind none of whose tasks has ended yet: else they would seem shorter than those that have begun,
 * and who has much of them idle. */
static void tell_alike(struct tessi_sched *sched, const struct sched_layer *layer, uint32_t handle, double estimate_ns)
{
    for (size_t l = 0; l < layer->session->layer_count; l++) {
        struct sched_layer *other = layer->session->layers[l];
        if (other != NULL && other != layer && other->first_done == 0 && other->layer->op == layer->layer->op &&
            differs(estimate_ns, other->estimate_ns, 1.1) &&
            reference(sched, kind_of(other->layer, 0), other->kind) == handle) {
            tessi_history_set_estimate(sched, other, estimate_ns);
        }
    }
}

void tessi_history_record(struct tessi_sched *sched, struct sched_layer *layer, uint64_t index, uint32_t processor,
                          double mean_ns)
{
    TESS_ASSERT(processor < sched->processor_count);
    struct tessi_map_key task = kind_of(layer->layer, index), kind = on_processor(task, processor);
    uint32_t handle = tessi_map_get(&sched->history_by_kind, kind);
    if (handle == TESSI_MAP_NONE) {
        handle = entry_make(sched, kind);
    }
    struct history_entry *entry = &sched->history[handle];
    entry->used = true;
    entry->samples[entry->next] = mean_ns;
    entry->next = (entry->next + 1) % (uint32_t)SAMPLES;
    entry->count += entry->count < SAMPLES;
    if (reference(sched, task, layer->kind) != handle) {
        return;
    }
    double estimate = median(entry) + 500; /* what a task costs besides its kernel */
    if (worth_changing(sched, layer, estimate)) {
        layer->estimated_ns = sched->now_ns;
        tessi_history_set_estimate(sched, layer, estimate);
        struct session *session = layer->session;
        /* That looks at all layers of the session: of very many, not oftener than so many tasks are done. */
        if (session->layer_count <= LAYERS_FEW || sched->tasks_done - session->told_tasks >= session->layer_count) {
            session->told_tasks = sched->tasks_done;
            tell_alike(sched, layer, handle, estimate);
        }
    }
}

/* ——— as bytes ——— */

struct saved_header {
    char magic[8];
    uint32_t processors;
    uint32_t kinds;
};

struct saved_kind {
    uint64_t what, size; /* as in a key, without the processor */
    uint32_t processor;
    uint32_t count;
    double samples[SAMPLES];
};

#define HISTORY_MAGIC "TESSHIS1"

static size_t saved_size(uint32_t processors, uint32_t kinds)
{
    return sizeof(struct saved_header) + (size_t)processors * TESSI_NAME_MAX +
           (size_t)kinds * sizeof(struct saved_kind) + sizeof(uint64_t);
}

void *tessi_sched_history_save(const struct tessi_sched *sched, size_t *size)
{
    struct saved_header header = {.processors = sched->processor_count, .kinds = (uint32_t)sched->history_count};
    memcpy(header.magic, HISTORY_MAGIC, sizeof header.magic);
    *size = saved_size(header.processors, header.kinds);
    uint8_t *bytes = tessi_zalloc(*size), *at = bytes;
    memcpy(at, &header, sizeof header);
    at += sizeof header;
    for (uint32_t p = 0; p < header.processors; p++, at += TESSI_NAME_MAX) {
        memcpy(at, sched->processors[p].name, TESSI_NAME_MAX);
    }
    for (uint32_t k = 0; k < header.kinds; k++, at += sizeof(struct saved_kind)) {
        const struct history_entry *entry = &sched->history[k];
        struct saved_kind kind = {.what = entry->kind.high & UINT32_MAX,
                                  .size = entry->kind.low,
                                  .processor = (uint32_t)(entry->kind.high >> 32),
                                  .count = entry->count};
        for (uint32_t i = 0; i < entry->count; i++) { /* oldest first, so that the ring goes on where it was */
            kind.samples[i] = entry->samples[(entry->next + SAMPLES - entry->count + i) % SAMPLES];
        }
        memcpy(at, &kind, sizeof kind);
    }
    uint64_t digest = tessi_digest_bytes(bytes, (size_t)(at - bytes));
    memcpy(at, &digest, sizeof digest);
    return bytes;
}

static bool kind_valid(const struct saved_kind *kind, uint32_t processors)
{
    bool valid = kind->what <= UINT32_MAX && kind->processor < processors && kind->count >= 1 && kind->count <= SAMPLES;
    for (uint32_t i = 0; valid && i < kind->count; i++) {
        valid = isfinite(kind->samples[i]) && kind->samples[i] > 0 && kind->samples[i] < 1e18;
    }
    return valid;
}

static bool saved_valid(const uint8_t *bytes, size_t size)
{
    struct saved_header header;
    uint64_t digest;
    if (size < sizeof header + sizeof digest) {
        return false;
    }
    memcpy(&header, bytes, sizeof header);
    memcpy(&digest, bytes + size - sizeof digest, sizeof digest);
    if (memcmp(header.magic, HISTORY_MAGIC, sizeof header.magic) != 0 || header.processors > PROCESSORS_MAX ||
        header.kinds > KINDS_MAX || size != saved_size(header.processors, header.kinds) ||
        digest != tessi_digest_bytes(bytes, size - sizeof digest)) {
        return false;
    }
    const uint8_t *at = bytes + sizeof header;
    for (uint32_t p = 0; p < header.processors; p++, at += TESSI_NAME_MAX) {
        if (memchr(at, 0, TESSI_NAME_MAX) == NULL) {
            return false;
        }
    }
    for (uint32_t k = 0; k < header.kinds; k++, at += sizeof(struct saved_kind)) {
        struct saved_kind kind;
        memcpy(&kind, at, sizeof kind);
        if (!kind_valid(&kind, header.processors)) {
            return false;
        }
    }
    return true;
}

enum tessi_status tessi_sched_history_load(struct tessi_sched *sched, const void *bytes, size_t size,
                                           struct tessi_error *error)
{
    struct saved_header header;
    uint32_t renumbered[PROCESSORS_MAX] = {0};
    if (!saved_valid(bytes, size)) {
        return tessi_fail(error, TESSI_FORMAT, "not a history of run times, or a damaged one");
    }
    const uint8_t *at = bytes;
    memcpy(&header, at, sizeof header);
    at += sizeof header;
    for (uint32_t p = 0; p < header.processors; p++, at += TESSI_NAME_MAX) {
        renumbered[p] = tessi_history_processor(sched, (const char *)at);
    }
    for (uint32_t k = 0; k < header.kinds; k++, at += sizeof(struct saved_kind)) {
        struct saved_kind kind;
        memcpy(&kind, at, sizeof kind);
        struct tessi_map_key key = {(uint64_t)renumbered[kind.processor] << 32 | kind.what, kind.size};
        uint32_t handle = tessi_map_get(&sched->history_by_kind, key);
        handle = handle == TESSI_MAP_NONE ? entry_make(sched, key) : handle;
        struct history_entry *entry = &sched->history[handle];
        memcpy(entry->samples, kind.samples, sizeof entry->samples);
        entry->count = kind.count;
        entry->next = kind.count % (uint32_t)SAMPLES;
    }
    return TESSI_OK;
}
